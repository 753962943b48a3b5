// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#include "virtio_blk.h"

#include <string.h>

#include "disk.h"

#define DEVICE_BLOCK 2

#define VIRTIO_BLK_F_SIZE_MAX (UINT64_C(1) << 1)
#define VIRTIO_BLK_F_SEG_MAX (UINT64_C(1) << 2)
#define VIRTIO_BLK_F_RO (UINT64_C(1) << 5)
#define VIRTIO_BLK_F_BLK_SIZE (UINT64_C(1) << 6)
#define VIRTIO_BLK_F_FLUSH (UINT64_C(1) << 9)
#define VIRTIO_BLK_F_TOPOLOGY (UINT64_C(1) << 10)

#define TYPE_IN 0
#define TYPE_OUT 1
#define TYPE_FLUSH 4
#define TYPE_GET_ID 8

#define STATUS_OK 0
#define STATUS_IO_ERROR 1
#define STATUS_UNSUPPORTED 2

#define SECTOR 512u

/* A segment may be as large as the kernel's largest block of memory. */
#define SIZE_MAX_BYTES (32u << 20)

/*
 * Linux takes its largest request, and half of its read-ahead, from the
 * optimal size.  Larger ones no longer gain, and evict more of a small RAM.
 */
#define OPTIMAL_BYTES (1u << 20)

struct header {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

static uint64_t total(const struct host_segment *segments, uint32_t count)
{
	uint64_t length = 0;

	for (uint32_t i = 0; i < count; i++)
		length += segments[i].length;
	return length;
}

/* Takes length bytes off the front; false when there are fewer. */
static bool take(struct cursor *cursor, uint64_t *left, void *to, size_t length)
{
	if (*left < length)
		return false;
	*left -= length;
	while (length) {
		size_t piece = cursor->segment->length - cursor->skip;

		if (piece > length)
			piece = length;
		memcpy(to, (char *)cursor->segment->base + cursor->skip, piece);
		to = (char *)to + piece;
		length -= piece;
		cursor->skip += piece;
		if (cursor->skip == cursor->segment->length) {
			cursor->segment++;
			cursor->skip = 0;
		}
	}
	return true;
}

static void put(const struct host_segment *segments, uint32_t count,
		const void *from, size_t length)
{
	for (uint32_t i = 0; i < count && length; i++) {
		size_t piece = segments[i].length;

		if (piece > length)
			piece = length;
		memcpy(segments[i].base, from, piece);
		from = (const char *)from + piece;
		length -= piece;
	}
}

static bool inside(const struct disk *disk, uint64_t sector, uint64_t length)
{
	return length % SECTOR == 0 && length <= disk->capacity &&
	       sector <= (disk->capacity - length) / SECTOR;
}

static void count_request(_Atomic uint64_t *requests, _Atomic uint64_t *bytes,
			  _Atomic uint64_t *errors, uint64_t length, int error)
{
	atomic_fetch_add_explicit(requests, 1, memory_order_relaxed);
	if (error < 0)
		atomic_fetch_add_explicit(errors, 1, memory_order_relaxed);
	else
		atomic_fetch_add_explicit(bytes, length, memory_order_relaxed);
}

static uint8_t read_sectors(struct disk *disk, uint64_t sector,
			    const struct host_segment *segments,
			    uint64_t length)
{
	struct cursor cursor = {segments, 0};
	int error = -1;

	if (inside(disk, sector, length)) {
		lock(&disk->lock);
		error = disk_read(disk, sector * SECTOR, &cursor, length);
		unlock(&disk->lock);
	}
	count_request(&disk->read_requests, &disk->read_bytes,
		      &disk->read_errors, length, error);
	return error < 0 ? STATUS_IO_ERROR : STATUS_OK;
}

static uint8_t write_sectors(struct disk *disk, uint64_t sector,
			     struct cursor *cursor, uint64_t length)
{
	int error = -1;

	if (disk_writable(disk) && inside(disk, sector, length)) {
		lock(&disk->lock);
		error = disk_write(disk, sector * SECTOR, cursor, length);
		unlock(&disk->lock);
	}
	count_request(&disk->write_requests, &disk->write_bytes,
		      &disk->write_errors, length, error);
	return error < 0 ? STATUS_IO_ERROR : STATUS_OK;
}

/*
 * The request is a header and data to write, then data to read and one byte of
 * status; where one part ends and the next begins, the segments do not tell.
 */
static bool serve(struct virtio_device *device, struct virtio_chain *chain,
		  uint32_t *written)
{
	struct disk *disk = (struct disk *)device;
	struct host_segment *answer = &chain->segments[chain->readable];
	struct host_segment *last = &answer[chain->writable - 1];
	unsigned char *status_byte =
	    (unsigned char *)last->base + last->length - 1;
	uint64_t room = total(answer, chain->writable) - 1;
	uint64_t given = total(chain->segments, chain->readable);
	struct cursor cursor = {chain->segments, 0};
	struct header header;
	uint8_t status = STATUS_IO_ERROR;

	last->length--;
	if (chain->valid && room < UINT32_MAX &&
	    take(&cursor, &given, &header, sizeof(header))) {
		switch (header.type) {
		case TYPE_IN:
			status =
			    read_sectors(disk, header.sector, answer, room);
			break;
		case TYPE_OUT:
			status =
			    write_sectors(disk, header.sector, &cursor, given);
			break;
		case TYPE_FLUSH:
			/* Nothing is held back: overlays end with the disk. */
			status = STATUS_OK;
			break;
		case TYPE_GET_ID:
			put(answer, chain->writable, disk->serial,
			    sizeof(disk->serial));
			status = STATUS_OK;
			break;
		default:
			status = STATUS_UNSUPPORTED;
			break;
		}
	}
	*status_byte = status;
	*written = status == STATUS_OK ? (uint32_t)(room + 1) : 1;
	return true;
}

void virtio_blk_init(struct disk *disk, uint32_t block_size)
{
	struct virtio_device *device = &disk->device;

	disk->config = (struct virtio_blk_config){
	    .capacity = disk->capacity / SECTOR,
	    .size_max = SIZE_MAX_BYTES,
	    .seg_max = VIRTIO_QUEUE_SIZE - 2,
	    .blk_size = block_size,
	    .opt_io_size = OPTIMAL_BYTES / block_size,
	};
	device->id = DEVICE_BLOCK;
	device->features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC |
			   VIRTIO_BLK_F_SIZE_MAX | VIRTIO_BLK_F_SEG_MAX |
			   VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_FLUSH |
			   VIRTIO_BLK_F_TOPOLOGY;
	if (!disk_writable(disk))
		device->features |= VIRTIO_BLK_F_RO;
	device->config = &disk->config;
	device->config_size = sizeof(disk->config);
	device->serve = serve;
}
