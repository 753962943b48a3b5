// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#include "disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

/* As much as the kernel asks for at once (OPTIMAL_BYTES of virtio_blk.c). */
#define BOUNCE_SIZE (UINT64_C(1) << 20)

static uint64_t min_length(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- Segments ---------------------------------------------------------- */

/* The next piece at the cursor, at most length bytes; moves the cursor. */
static struct host_segment next_piece(struct cursor *cursor, uint64_t length)
{
	const struct host_segment *segment;
	struct host_segment piece;

	while (cursor->skip == cursor->segment->length) {
		cursor->segment++;
		cursor->skip = 0;
	}
	segment = cursor->segment;
	piece.base = (unsigned char *)segment->base + cursor->skip;
	piece.length = min_length(segment->length - cursor->skip, length);
	cursor->skip += piece.length;
	return piece;
}

static void copy_to(struct cursor *cursor, const unsigned char *from,
		    uint64_t length)
{
	while (length) {
		struct host_segment piece = next_piece(cursor, length);

		memcpy(piece.base, from, piece.length);
		from += piece.length;
		length -= piece.length;
	}
}

static void copy_from(struct cursor *cursor, unsigned char *to, uint64_t length)
{
	while (length) {
		struct host_segment piece = next_piece(cursor, length);

		memcpy(to, piece.base, piece.length);
		to += piece.length;
		length -= piece.length;
	}
}

static void clear(struct cursor *cursor, uint64_t length)
{
	while (length) {
		struct host_segment piece = next_piece(cursor, length);

		memset(piece.base, 0, piece.length);
		length -= piece.length;
	}
}

/* ---- The source -------------------------------------------------------- */

static int read_file(struct disk *disk, intptr_t file, uint64_t offset,
		     struct cursor *cursor, uint64_t length)
{
	uint64_t left = length;
	uint32_t count = 0;
	int64_t result;

	while (left) {
		disk->pieces[count] = next_piece(cursor, left);
		left -= disk->pieces[count++].length;
	}
	result = host_read_at(file, offset, disk->pieces, count, length);
	if (result < 0)
		return (int)result;
	/* The file has shrunk since the disk was added. */
	return (uint64_t)result == length ? 0 : -EIO;
}

/* Pages that lie apart are filled by one call all the same. */
static int call_read(struct disk *disk, uint64_t offset, struct cursor *cursor,
		     uint64_t length)
{
	struct lkl_kernel *before = thread_enter(NULL);
	int error = 0;

	while (length && !error) {
		struct cursor start = *cursor;
		struct host_segment piece = next_piece(cursor, length);
		bool direct =
		    piece.length == length || piece.length >= BOUNCE_SIZE;

		if (!direct) {
			*cursor = start;
			piece.base = disk->bounce;
			piece.length = min_length(length, BOUNCE_SIZE);
		}
		error = disk->operations.read(disk->opaque, offset, piece.base,
					      piece.length);
		if (!direct && !error)
			copy_to(cursor, disk->bounce, piece.length);
		offset += piece.length;
		length -= piece.length;
	}
	thread_leave(before);
	/* A positive result breaks the contract, and is not success. */
	return error > 0 ? -EIO : error;
}

static int call_write(struct disk *disk, uint64_t offset, struct cursor *cursor,
		      uint64_t length)
{
	struct lkl_kernel *before = thread_enter(NULL);
	int error = 0;

	while (length && !error) {
		struct host_segment piece = next_piece(cursor, length);

		error = disk->operations.write(disk->opaque, offset, piece.base,
					       piece.length);
		offset += piece.length;
		length -= piece.length;
	}
	thread_leave(before);
	return error > 0 ? -EIO : error;
}

/* How much of a range the source has; behind it, the last block is zeros. */
static uint64_t within_size(const struct disk *disk, uint64_t offset,
			    uint64_t length)
{
	if (offset >= disk->size)
		return 0;
	return min_length(length, disk->size - offset);
}

static int read_extent(struct disk *disk, uint64_t offset,
		       struct cursor *cursor,
		       const struct lkl_disk_extent *extent)
{
	struct cursor start = *cursor;

	if (extent->fd == LKL_EXTENT_ZERO) {
		clear(cursor, extent->length);
		return 0;
	}
	if (extent->fd >= 0 &&
	    read_file(disk, (intptr_t)extent->fd, extent->position, cursor,
		      extent->length) >= 0)
		return 0;
	/* Also what a file did not give: who has it mapped can say why. */
	*cursor = start;
	return call_read(disk, offset, cursor, extent->length);
}

static int read_mapped(struct disk *disk, uint64_t offset,
		       struct cursor *cursor, uint64_t length)
{
	int error = 0;

	while (length && !error) {
		struct lkl_disk_extent extent;

		error = extent_map_find(disk->map, offset, length, &extent);
		if (error)
			break;
		error = read_extent(disk, offset, cursor, &extent);
		offset += extent.length;
		length -= extent.length;
	}
	return error;
}

static int read_source(struct disk *disk, uint64_t offset,
		       struct cursor *cursor, uint64_t length)
{
	uint64_t present = within_size(disk, offset, length);
	int error = 0;

	if (present && disk->map)
		error = read_mapped(disk, offset, cursor, present);
	else if (present && disk->operations.read)
		error = call_read(disk, offset, cursor, present);
	else if (present)
		error = read_file(disk, disk->file, offset, cursor, present);
	if (error < 0)
		return error;
	clear(cursor, length - present);
	return 0;
}

/* ---- Source and overlay ------------------------------------------------ */

/* Bytes from offset to the end of its overlay block, at most length. */
static uint64_t within_block(uint64_t offset, uint64_t length)
{
	return min_length(length, OVERLAY_BLOCK - offset % OVERLAY_BLOCK);
}

int disk_read(struct disk *disk, uint64_t offset, struct cursor *cursor,
	      uint64_t length)
{
	if (!disk->overlay.used)
		return read_source(disk, offset, cursor, length);
	while (length) {
		uint64_t piece = within_block(offset, length);
		unsigned char *data =
		    overlay_find(&disk->overlay, offset / OVERLAY_BLOCK);
		int error = 0;

		if (data) {
			copy_to(cursor, data + offset % OVERLAY_BLOCK, piece);
		} else {
			/* As far as the overlay has nothing, in one go. */
			while (piece < length &&
			       !overlay_find(&disk->overlay,
					     (offset + piece) / OVERLAY_BLOCK))
				piece += within_block(offset + piece,
						      length - piece);
			error = read_source(disk, offset, cursor, piece);
		}
		if (error < 0)
			return error;
		offset += piece;
		length -= piece;
	}
	return 0;
}

/* Adds a block to the overlay, holding what the source has there. */
static int add_block(struct disk *disk, uint64_t block, bool fill,
		     unsigned char **data)
{
	uint64_t offset = block * OVERLAY_BLOCK;
	struct host_segment whole = {malloc(OVERLAY_BLOCK), OVERLAY_BLOCK};
	struct cursor cursor = {&whole, 0};
	int error = 0;

	if (!whole.base)
		return -ENOMEM;
	if (fill)
		error = read_source(disk, offset, &cursor, OVERLAY_BLOCK);
	if (!error)
		error = overlay_add(&disk->overlay, block, whole.base);
	if (error < 0) {
		free(whole.base);
		return error;
	}
	*data = whole.base;
	atomic_store_explicit(&disk->overlay_bytes,
			      overlay_bytes(&disk->overlay),
			      memory_order_relaxed);
	return 0;
}

int disk_write(struct disk *disk, uint64_t offset, struct cursor *cursor,
	       uint64_t length)
{
	if (disk->operations.write) {
		uint64_t present = within_size(disk, offset, length);

		/* What fills up the last block has no place in the source. */
		return call_write(disk, offset, cursor, present);
	}
	while (length) {
		uint64_t block = offset / OVERLAY_BLOCK;
		uint64_t piece = within_block(offset, length);
		unsigned char *data = overlay_find(&disk->overlay, block);

		if (!data) {
			int error = add_block(disk, block,
					      piece < OVERLAY_BLOCK, &data);

			if (error < 0)
				return error;
		}
		copy_from(cursor, data + offset % OVERLAY_BLOCK, piece);
		offset += piece;
		length -= piece;
	}
	return 0;
}

/* ---- Where bytes are --------------------------------------------------- */

/* How many bytes from offset on the overlay has, or has not, as *covered says.
 */
static uint64_t same_in_overlay(const struct disk *disk, uint64_t offset,
				uint64_t length, bool *covered)
{
	uint64_t end = within_block(offset, length);

	if (!disk->overlay.used) {
		*covered = false;
		return length;
	}
	*covered = overlay_find(&disk->overlay, offset / OVERLAY_BLOCK);
	while (end < length &&
	       !overlay_find(&disk->overlay, (offset + end) / OVERLAY_BLOCK) ==
		   !*covered)
		end += within_block(offset + end, length - end);
	return end;
}

static int find_source(struct disk *disk, uint64_t offset, uint64_t length,
		       struct lkl_disk_extent *found)
{
	uint64_t present = within_size(disk, offset, length);

	*found = (struct lkl_disk_extent){
	    .length = present ? present : length,
	    .fd = LKL_EXTENT_ENCODED,
	};
	if (!present)
		return 0;
	if (disk->map)
		return extent_map_find(disk->map, offset, present, found);
	if (!disk->operations.read) {
		found->fd = disk->file;
		found->position = offset;
	}
	return 0;
}

int disk_find(struct disk *disk, uint64_t offset, uint64_t length,
	      struct lkl_disk_extent *found)
{
	int error = find_source(disk, offset, length, found);
	bool covered;

	if (error)
		return error;
	found->length = same_in_overlay(disk, offset, found->length, &covered);
	if (covered)
		found->fd = LKL_EXTENT_ENCODED;
	return 0;
}

/* ---- Making a disk ----------------------------------------------------- */

static bool valid_block_size(uint32_t size)
{
	return size == 512 || size == 1024 || size == 2048 || size == 4096;
}

static int check_options(const struct lkl_disk *options, uint32_t block_size)
{
	const struct lkl_disk_operations *operations = options->operations;
	char byte;
	struct host_segment first = {&byte, 1};
	int64_t result;

	/* Linux' own limit is a signed 64-bit byte offset. */
	if (options->flags || !valid_block_size(block_size) || !options->size ||
	    options->size > (uint64_t)INT64_MAX - block_size)
		return -EINVAL;
	if (operations) {
		/* A write has one place to go, and what is mapped stays. */
		if (!operations->read ||
		    (operations->write &&
		     (options->overlay_limit || operations->map)))
			return -EINVAL;
		return 0;
	}
	result = host_read_at((intptr_t)options->fd, 0, &first, 1, 1);
	return result < 0 ? (int)result : 0;
}

static void free_disk(struct disk *disk)
{
	overlay_free(&disk->overlay);
	extent_map_destroy(disk->map);
	free(disk->bounce);
	host_aligned_free(disk);
}

/* What is needed to read by callbacks. */
static int set_operations(struct disk *disk,
			  const struct lkl_disk_operations *operations)
{
	disk->operations = *operations;
	disk->bounce = malloc(BOUNCE_SIZE);
	if (!disk->bounce)
		return -ENOMEM;
	if (!operations->map)
		return 0;
	disk->map = extent_map_create(operations, disk->opaque, disk->size);
	return disk->map ? 0 : -ENOMEM;
}

int disk_create(struct disk **created, const struct lkl_disk *options,
		int number, const struct host_ram *ram)
{
	uint32_t block_size = options->block_size ? options->block_size : 512;
	int error = check_options(options, block_size);
	size_t size = (sizeof(struct disk) + VIRTIO_WINDOW_SIZE - 1) &
		      ~(size_t)(VIRTIO_WINDOW_SIZE - 1);
	struct disk *disk;

	if (error < 0)
		return error;
	disk = host_aligned_alloc(VIRTIO_WINDOW_SIZE, size);
	if (!disk)
		return -ENOMEM;
	memset(disk, 0, sizeof(*disk));
	lock_init(&disk->lock);
	disk->opaque = options->opaque;
	disk->file = (intptr_t)options->fd;
	disk->size = options->size;
	disk->capacity =
	    (options->size + block_size - 1) / block_size * block_size;
	overlay_init(&disk->overlay, options->overlay_limit);
	snprintf(disk->serial, sizeof(disk->serial), "lkl-%d", number);
	disk->device.ram = ram->base;
	disk->device.ram_size = ram->size;
	if (options->operations) {
		error = set_operations(disk, options->operations);
		if (error < 0) {
			free_disk(disk);
			return error;
		}
	}
	virtio_blk_init(disk, block_size);
	*created = disk;
	return 0;
}

void disk_destroy(struct disk *disk)
{
	if (disk->operations.close)
		disk->operations.close(disk->opaque);
	free_disk(disk);
}
