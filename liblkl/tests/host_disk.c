// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The virtio block device below a driver that is written here, so that it can
 * also do what Linux' driver never does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "disk.h"
#include "tap.h"

#define SECTOR 512u
#define RAM_SIZE (UINT64_C(32) << 20)

/* ---- A driver ---------------------------------------------------------- */

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags;
	uint16_t next;
};

#define NEXT 1
#define WRITE 2
#define INDIRECT 4

#define QUEUE 256

/* What lies at the beginning of the RAM; data comes behind it. */
struct shared {
	_Alignas(16) struct descriptor descriptors[QUEUE];
	struct {
		uint16_t flags, index, ring[QUEUE];
	} driver;
	_Alignas(4) struct {
		uint16_t flags, index;
		struct {
			uint32_t head, written;
		} ring[QUEUE];
	} device;
	_Alignas(16) struct descriptor table[2048];
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header;
	unsigned char status;
};

#define DATA (UINT64_C(1) << 20) /* where data may begin */

static struct host_ram ram;
static struct shared *shared;
static unsigned char *data;
static struct disk *disk;
static uint32_t interrupts;

static uint32_t get(uint32_t offset)
{
	return (uint32_t)virtio_mmio_read((uintptr_t)disk + offset, 4);
}

static void set(uint32_t offset, uint64_t value)
{
	virtio_mmio_write((uintptr_t)disk + offset, value, 4);
}

static void set_address(uint32_t offset, const void *address)
{
	set(offset, (uint32_t)(uintptr_t)address);
	set(offset + 4, (uintptr_t)address >> 32);
}

static void count_interrupt(struct virtio_device *device)
{
	(void)device;
	interrupts++;
}

static uint64_t features(void)
{
	uint64_t low;

	set(0x14, 0);
	low = get(0x10);
	set(0x14, 1);
	return low | (uint64_t)get(0x10) << 32;
}

/* Does what section 3.1 tells a driver to do; the device's last word. */
static uint32_t set_up(uint64_t wanted)
{
	memset(shared, 0, sizeof(*shared));
	set(0x70, 0);
	set(0x70, 1);
	set(0x70, 3);
	set(0x24, 0);
	set(0x20, (uint32_t)wanted);
	set(0x24, 1);
	set(0x20, wanted >> 32);
	set(0x70, 0xb);
	if (!(get(0x70) & 8))
		return get(0x70);
	set(0x30, 0);
	set(0x38, QUEUE);
	set_address(0x80, shared->descriptors);
	set_address(0x90, &shared->driver);
	set_address(0xa0, &shared->device);
	set(0x44, 1);
	set(0x70, 0xf);
	return get(0x70);
}

static int create(const struct lkl_disk *options)
{
	int error = disk_create(&disk, options, 7, &ram);

	if (error < 0)
		return error;
	disk->device.interrupt = count_interrupt;
	interrupts = 0;
	return 0;
}

/* Creates a disk and brings it up. */
static void start(const struct lkl_disk *options, const char *name)
{
	need(create(options) == 0, "%s: a disk", name);
	need(set_up(features()) == 0xf, "%s: the driver is content", name);
}

#define NO_ANSWER 0xee

/* Hands over the chain that begins at descriptor 0: the status, once done. */
static unsigned char submit(void)
{
	uint16_t before = shared->device.index;

	shared->status = NO_ANSWER;
	shared->driver.ring[shared->driver.index % QUEUE] = 0;
	shared->driver.index++;
	set(0x50, 0);
	if (shared->device.index == before)
		return NO_ANSWER;
	return shared->status;
}

static struct descriptor piece(const void *address, uint64_t length,
			       uint16_t flags)
{
	return (struct descriptor){(uintptr_t)address, (uint32_t)length, flags,
				   0};
}

/* Links count entries one after another; flags of each are already set. */
static void link_up(struct descriptor *entries, uint32_t count)
{
	for (uint32_t i = 0; i + 1 < count; i++) {
		entries[i].flags |= NEXT;
		entries[i].next = (uint16_t)(i + 1);
	}
}

/* A request for one buffer; by an indirect table when asked for. */
static unsigned char request(uint32_t type, uint64_t sector, void *buffer,
			     uint64_t length, bool indirect)
{
	struct descriptor *entries =
	    indirect ? shared->table : shared->descriptors;
	uint32_t count = 0;

	shared->header.type = type;
	shared->header.sector = sector;
	entries[count++] = piece(&shared->header, 16, 0);
	if (length)
		entries[count++] = piece(buffer, length, type == 1 ? 0 : WRITE);
	entries[count++] = piece(&shared->status, 1, WRITE);
	link_up(entries, count);
	if (indirect)
		shared->descriptors[0] =
		    piece(shared->table, count * 16, INDIRECT);
	return submit();
}

static unsigned char read_disk(uint64_t sector, void *buffer, uint64_t length)
{
	return request(0, sector, buffer, length, true);
}

static unsigned char write_disk(uint64_t sector, void *buffer, uint64_t length)
{
	return request(1, sector, buffer, length, true);
}

/* ---- Sources ----------------------------------------------------------- */

/* What a source holds at each offset. */
static unsigned char byte_at(uint64_t offset)
{
	return (unsigned char)((offset * 2654435761u) >> 13 ^ offset >> 32);
}

static bool right(const unsigned char *bytes, uint64_t offset, uint64_t length)
{
	for (uint64_t i = 0; i < length; i++)
		if (bytes[i] != byte_at(offset + i))
			return false;
	return true;
}

static bool all_are(const unsigned char *bytes, unsigned char value,
		    uint64_t length)
{
	for (uint64_t i = 0; i < length; i++)
		if (bytes[i] != value)
			return false;
	return true;
}

static int make_file(uint64_t size)
{
	int fd = memfd_create("source", MFD_CLOEXEC);
	unsigned char block[4096];

	need(fd >= 0, "a file of %" PRIu64 " bytes", size);
	for (uint64_t at = 0; at < size; at += sizeof(block)) {
		uint64_t length =
		    size - at < sizeof(block) ? size - at : sizeof(block);

		for (uint64_t i = 0; i < length; i++)
			block[i] = byte_at(at + i);
		if (pwrite(fd, block, length, (off_t)at) != (ssize_t)length)
			abort();
	}
	return fd;
}

/* A source by callbacks, of any size: its bytes are computed. */
static struct {
	uint64_t bad_from, bad_to; /* reading here fails with error */
	int error;
	uint32_t reads;
	uint64_t largest_read;
	uint64_t written_at, written;
	unsigned char last_written;
	uint32_t closed;
} source;

static int source_read(void *opaque, uint64_t offset, void *buffer,
		       size_t length)
{
	unsigned char *bytes = buffer;

	if (opaque != &source)
		return -EINVAL;
	source.reads++;
	if (length > source.largest_read)
		source.largest_read = length;
	if (offset < source.bad_to && offset + length > source.bad_from)
		return source.error;
	for (size_t i = 0; i < length; i++)
		bytes[i] = byte_at(offset + i);
	return 0;
}

static int source_write(void *opaque, uint64_t offset, const void *buffer,
			size_t length)
{
	if (opaque != &source || !length)
		return -EINVAL;
	source.written_at = offset;
	source.written = length;
	source.last_written = ((const unsigned char *)buffer)[length - 1];
	return 0;
}

static void source_close(void *opaque)
{
	if (opaque == &source)
		source.closed++;
}

static const struct lkl_disk_operations read_only = {
    .read = source_read,
    .close = source_close,
};

static const struct lkl_disk_operations read_write = {
    .read = source_read,
    .write = source_write,
};

/*
 * The same source, mapped: by UNIT, in turn, it lies in the one file, in the
 * other, is zeros, or must be decoded.
 */
#define UNIT (40 * UINT64_C(1024))
#define MAPPED_FILE (UINT64_C(4) << 20)

enum { FIRST, SECOND, ZERO, ENCODED, UNIT_KINDS };

static struct {
	int files[2];
	uint64_t size;
	uint32_t questions;
	int64_t answer; /* instead, when it is not 0 */
	struct lkl_disk_extent lie;
} mapped;

static unsigned int kind_at(uint64_t offset)
{
	return (unsigned int)(offset / UNIT * 2654435761u >> 7) % UNIT_KINDS;
}

/* Where a unit stands in its file: all in reverse, and over again. */
static uint64_t place_at(uint64_t offset)
{
	uint64_t units = MAPPED_FILE / UNIT;

	return (units - 1 - offset / UNIT % units) * UNIT + offset % UNIT;
}

static unsigned char mapped_byte(uint64_t offset)
{
	switch (kind_at(offset)) {
	case FIRST:
		return byte_at(place_at(offset));
	case SECOND:
		return (unsigned char)~byte_at(place_at(offset));
	case ZERO:
		return 0;
	default:
		return byte_at(offset);
	}
}

static int64_t source_map(void *opaque, uint64_t offset, uint64_t length,
			  struct lkl_disk_extent *extents, size_t count)
{
	size_t used = 0;

	mapped.questions++;
	if (opaque != &source || offset >= mapped.size ||
	    length > mapped.size - offset)
		return -EINVAL;
	if (mapped.answer) {
		extents[0] = mapped.lie;
		return mapped.answer;
	}
	while (length && used < count) {
		unsigned int kind = kind_at(offset);
		struct lkl_disk_extent *extent = &extents[used++];

		extent->length = UNIT - offset % UNIT;
		if (extent->length > length)
			extent->length = length;
		extent->fd = kind == ZERO      ? LKL_EXTENT_ZERO
			     : kind == ENCODED ? LKL_EXTENT_ENCODED
					       : mapped.files[kind];
		extent->position = place_at(offset);
		offset += extent->length;
		length -= extent->length;
	}
	return (int64_t)used;
}

static const struct lkl_disk_operations by_map = {
    .read = source_read,
    .close = source_close,
    .map = source_map,
};

/* ---- Tests ------------------------------------------------------------- */

static void test_options(void)
{
	static const struct lkl_disk_operations both = {
	    .read = source_read,
	    .write = source_write,
	    .map = source_map,
	};
	static const struct lkl_disk_operations without_read = {
	    .map = source_map,
	};
	struct lkl_disk options = {
	    .operations = &read_only,
	    .opaque = &source,
	    .size = 4096,
	    .fd = -1,
	};
	int ends[2];

	options.block_size = 513;
	is(create(&options), -EINVAL, "block size 513");
	options.block_size = 8192;
	is(create(&options), -EINVAL, "block size 8192");
	options.block_size = 0;
	options.size = 0;
	is(create(&options), -EINVAL, "size 0");
	options.size = UINT64_MAX;
	is(create(&options), -EINVAL, "size beyond Linux' own limit");
	options.size = 4096;
	options.flags = 1;
	is(create(&options), -EINVAL, "flags that do not exist");
	options.flags = 0;
	options.operations = &read_write;
	options.overlay_limit = 1 << 20;
	is(create(&options), -EINVAL, "two places for a write");
	options.operations = &both;
	options.overlay_limit = 0;
	is(create(&options), -EINVAL, "a map of what is written to");
	options.operations = &without_read;
	is(create(&options), -EINVAL, "a map alone");
	options.operations = NULL;
	is(create(&options), -EBADF, "no file");
	need(pipe(ends) == 0, "a pipe");
	options.fd = ends[0];
	is(create(&options), -ESPIPE, "a file without positions");
	close(ends[0]);
	close(ends[1]);
	is(source.closed, 0, "a disk that was not made is not closed");
}

static void test_registers(void)
{
	struct lkl_disk options = {
	    .operations = &read_only,
	    .opaque = &source,
	    .size = (UINT64_C(3) << 40) + 1,
	    .block_size = 4096,
	};

	source.closed = 0;
	start(&options, "registers");
	is(get(0x000), 0x74726976, "magic value");
	is(get(0x004), 2, "version");
	is(get(0x008), 2, "a block device");
	is(get(0x0fc), 0, "generation of the configuration");
	is(virtio_mmio_read((uintptr_t)disk + 0x100, 8),
	   (UINT64_C(3) << 40) / 512 + 8,
	   "3 TiB and a byte: in 512-byte sectors, up to a whole block");
	is(get(0x100), 0x80000008, "also by halves: low");
	is(get(0x104), (UINT64_C(3) << 40) / 512 >> 32, "high");
	is(get(0x114), 4096, "logical block size");
	ok(get(0x10c) >= 254, "254 segments a request or more");
	is(virtio_mmio_read((uintptr_t)disk + 0xffe, 4), 0,
	   "beyond the configuration there is nothing");
	ok(features() & 1 << 5, "read-only, as nothing may be written");
	ok(features() & 1 << 9, "can flush");
	set(0x30, 1);
	is(get(0x34), 0, "no second queue");
	set(0x30, 0);
	is(set_up(features() | 1 << 30), 3,
	   "a feature that is not offered is not accepted");
	is(set_up(features() & ~(UINT64_C(1) << 32)), 3,
	   "a driver of the time before version 1 is refused");
	set(0x70, 0);
	is(get(0x70), 0, "reset");

	set_up(features());
	set(0x44, 0);
	set_address(0xa0, ram.base + RAM_SIZE - 8);
	set(0x44, 1);
	ok(get(0x70) & 0x40, "a ring outside of memory: needs reset");
	is(get(0x44), 0, "and the queue is not ready");
	set_up(features());
	set(0x44, 0);
	set_address(0x80, ram.base + 8);
	set(0x44, 1);
	is(get(0x44), 0, "nor with a ring not aligned");

	disk_destroy(disk);
	is(source.closed, 1, "closed once");
}

static void test_reads(bool by_callback, uint32_t block_size)
{
	const uint64_t size = (UINT64_C(5) << 20) + 700;
	const uint64_t capacity =
	    (size + block_size - 1) / block_size * block_size;
	struct lkl_disk options = {
	    .operations = by_callback ? &read_only : NULL,
	    .opaque = &source,
	    .fd = by_callback ? -1 : make_file(size),
	    .size = size,
	    .block_size = block_size,
	};
	const char *name = by_callback ? "callback" : "file";
	uint64_t last = capacity / SECTOR - 1;
	uint64_t tail = size % SECTOR;
	uint32_t count = 0;

	start(&options, name);
	is(read_disk(0, data, 4096), 0, "%s: the first block", name);
	ok(right(data, 0, 4096), "%s: its bytes", name);
	is(shared->device.ring[0].written, 4097, "%s: its count", name);
	is(interrupts, 1, "%s: one interrupt", name);
	is(get(0x60), 1, "%s: for the queue", name);
	set(0x64, 1);
	is(get(0x60), 0, "%s: acknowledged", name);

	is(request(0, 3, data, 4 << 20, false), 0, "%s: 4 MiB at once", name);
	ok(right(data, 3 * SECTOR, 4 << 20), "%s: its bytes", name);

	/* 254 segments of all lengths, some side by side, some not. */
	memset(data, 0xaa, 8 << 20);
	shared->header.type = 0;
	shared->header.sector = 1;
	shared->table[count++] = piece(&shared->header, 16, 0);
	for (uint64_t i = 0, at = 0; i < 254; i++) {
		uint64_t length = (1 + i % 8) * SECTOR;

		at += i % 3 ? 0 : 4096;
		shared->table[count++] = piece(data + at, length, WRITE);
		at += length;
	}
	shared->table[count++] = piece(&shared->status, 1, WRITE);
	link_up(shared->table, count);
	shared->descriptors[0] = piece(shared->table, count * 16, INDIRECT);
	source.reads = 0;
	is(submit(), 0, "%s: 254 segments", name);
	is(source.reads, by_callback, "%s: by one call, or none", name);
	for (uint64_t i = 0, at = 0, offset = SECTOR; i < 254; i++) {
		uint64_t length = (1 + i % 8) * SECTOR;
		uint64_t gap = i % 3 ? 0 : 4096;

		if (!all_are(data + at, 0xaa, gap) ||
		    !right(data + at + gap, offset, length)) {
			ok(false, "%s: segment %" PRIu64, name, i);
			break;
		}
		at += gap + length;
		offset += length;
	}

	memset(data, 0xaa, 8192);
	is(read_disk(last, data, SECTOR), 0, "%s: the last sector", name);
	if (block_size == SECTOR)
		ok(right(data, last * SECTOR, tail) &&
		       all_are(data + tail, 0, SECTOR - tail),
		   "%s: what is behind the source's end is zero", name);
	else
		ok(all_are(data, 0, SECTOR), "%s: which is all padding", name);
	ok(all_are(data + SECTOR, 0xaa, SECTOR), "%s: not a byte more", name);

	is(read_disk(last, data, 2 * SECTOR), 1, "%s: beyond the end", name);
	is(read_disk(capacity / SECTOR, data, SECTOR), 1, "%s: after it", name);
	is(read_disk(UINT64_MAX, data, SECTOR), 1, "%s: sector 2^64-1", name);
	is(read_disk(UINT64_MAX / SECTOR, data, 2 * SECTOR), 1,
	   "%s: an offset beyond 64 bits", name);
	is(read_disk(0, data, 100), 1, "%s: not whole sectors", name);

	is(write_disk(0, data, SECTOR), 1, "%s: a write is refused", name);
	is(request(4, 0, NULL, 0, true), 0, "%s: a flush is not", name);
	is(request(8, 0, data, 20, true), 0, "%s: its name", name);
	ok(!strcmp((char *)data, "lkl-7"), "%s: lkl-7", name);
	is(request(99, 0, data, 20, true), 2, "%s: unknown request", name);
	is(disk->write_errors, 1, "%s: the refused write is counted", name);
	ok(disk->read_requests == 9 && disk->read_errors == 5,
	   "%s: and the reads", name);
	disk_destroy(disk);
	if (!by_callback)
		close((int)options.fd);
}

static void test_failing_source(void)
{
	struct lkl_disk options = {
	    .operations = &read_only,
	    .opaque = &source,
	    .size = UINT64_C(9) << 40,
	};
	uint64_t far = UINT64_C(8) << 40;

	start(&options, "errors");
	source.bad_from = far;
	source.bad_to = far + SECTOR;
	source.error = -EIO;
	is(read_disk(far / SECTOR, data, 4096), 1, "a read that fails");
	is(read_disk(far / SECTOR - 1, data, SECTOR), 0, "just before");
	ok(right(data, far - SECTOR, SECTOR), "its bytes, at 8 TiB");
	is(read_disk(far / SECTOR + 1, data, SECTOR), 0, "just after");
	ok(right(data, far + SECTOR, SECTOR), "its bytes");
	source.error = 5;
	is(read_disk(far / SECTOR, data, SECTOR), 1,
	   "a positive result is no success");
	source.bad_to = 0;
	disk_destroy(disk);

	options = (struct lkl_disk){.fd = make_file(65536), .size = 65536};
	start(&options, "shrinking");
	need(ftruncate((int)options.fd, 10000) == 0, "the file shrinks");
	is(read_disk(0, data, 8192), 0, "what is left can be read");
	is(read_disk(0, data, 16384), 1, "what is not, not");
	disk_destroy(disk);
	close((int)options.fd);
}

/* None of these must be answered as if it had worked, nor harm the process. */
static void test_wild_drivers(void)
{
	struct lkl_disk options = {
	    .operations = &read_only,
	    .opaque = &source,
	    .size = 1 << 20,
	};
	static const uint64_t wild[] = {0, 8, UINT64_MAX, UINT64_MAX - 4095};
	void *places[] = {ram.base - 4096, ram.base + RAM_SIZE - 4095,
			  ram.base + RAM_SIZE};

	start(&options, "wild");
	for (int i = 0; i < 3; i++)
		is(read_disk(0, places[i], 4096), 1,
		   "data that is not in memory, %d", i);
	for (int i = 0; i < 4; i++)
		is(read_disk(0, (void *)(uintptr_t)wild[i], 4096), 1,
		   "data at %#" PRIx64, wild[i]);
	is(read_disk(0, data, 4096), 0, "the device still works");

	shared->header.type = 0;
	shared->header.sector = 0;
	shared->descriptors[0] = piece((void *)8, 16, 0);
	shared->descriptors[1] = piece(&shared->status, 1, WRITE);
	link_up(shared->descriptors, 2);
	is(submit(), 1, "a wild header");
	shared->descriptors[0] = piece(&shared->header, 15, 0);
	link_up(shared->descriptors, 2);
	is(submit(), 1, "a short header");
	shared->descriptors[0] = piece(&shared->status, 1, WRITE);
	shared->descriptors[1] = piece(&shared->header, 16, 0);
	link_up(shared->descriptors, 2);
	is(submit(), 1, "answer before question");

	struct {
		const char *name;
		struct descriptor first, second;
	} chains[] = {
	    {"no place for an answer", piece(&shared->header, 16, 0), {}},
	    {"a wild place for it", piece(&shared->header, 16, NEXT),
	     piece((void *)16, 1, WRITE)},
	    {"a circle", {(uintptr_t)&shared->header, 16, NEXT, 0}, {}},
	    {"a chain that leaves the table",
	     {(uintptr_t)&shared->header, 16, NEXT, 999},
	     {}},
	    {"a wild indirect table", piece((void *)16, 32, INDIRECT), {}},
	    {"an indirect table of no length",
	     piece(shared->table, 0, INDIRECT),
	     {}},
	    {"of half an entry", piece(shared->table, 24, INDIRECT), {}},
	    {"not aligned", piece((char *)shared->table + 4, 32, INDIRECT), {}},
	    {"an indirect table in itself",
	     piece(shared->descriptors, 32, INDIRECT),
	     {}},
	};

	for (size_t i = 0; i < sizeof(chains) / sizeof(*chains); i++) {
		set_up(features());
		shared->descriptors[0] = chains[i].first;
		shared->descriptors[1] = chains[i].second;
		if (chains[i].first.next == 0 && chains[i].second.length)
			shared->descriptors[0].next = 1;
		is(submit(), NO_ANSWER, "%s: no answer", chains[i].name);
		ok(get(0x70) & 0x40, "%s: needs reset", chains[i].name);
	}

	/* More segments than any list may have, each beside no other. */
	set_up(features());
	shared->table[0] = piece(&shared->header, 16, 0);
	for (uint32_t i = 1; i < 2047; i++)
		shared->table[i] = piece(data + 1024 * i, SECTOR, WRITE);
	shared->table[2047] = piece(&shared->status, 1, WRITE);
	link_up(shared->table, 2048);
	shared->descriptors[0] = piece(shared->table, 2048 * 16, INDIRECT);
	is(submit(), NO_ANSWER, "2048 segments: no answer");

	set_up(features());
	shared->driver.index = QUEUE + 1;
	set(0x50, 0);
	ok(get(0x70) & 0x40, "more requests than the queue has: needs reset");
	set_up(features());
	shared->driver.ring[0] = 60000;
	shared->driver.index = 1;
	set(0x50, 0);
	ok(get(0x70) & 0x40, "a head outside of the table: needs reset");

	is(set_up(features()), 0xf, "a reset helps");
	is(read_disk(0, data, 4096), 0, "and it works again");
	ok(right(data, 0, 4096), "as before");

	shared->driver.flags = 1;
	interrupts = 0;
	is(read_disk(0, data, 4096), 0, "without interrupts");
	is(interrupts, 0, "there is none");
	disk_destroy(disk);
}

#define OVERLAY_TEST_SIZE (UINT64_C(1) << 20)

static void test_overlay(void)
{
	static unsigned char expected[OVERLAY_TEST_SIZE];
	int fd = make_file(OVERLAY_TEST_SIZE);
	struct lkl_disk options = {
	    .fd = fd,
	    .size = OVERLAY_TEST_SIZE,
	    .overlay_limit = OVERLAY_TEST_SIZE,
	};
	uint32_t random = 1;
	unsigned char *back;
	bool same = true;

	start(&options, "overlay");
	ok(!(features() & 1 << 5), "overlay: not read-only");
	for (uint64_t i = 0; i < OVERLAY_TEST_SIZE; i++)
		expected[i] = byte_at(i);

	/* Writes and reads anywhere, of all lengths, against a plain copy. */
	for (int i = 0; i < 2000; i++) {
		uint64_t sector, count;

		random = random * 1664525 + 1013904223;
		sector = (random >> 8) % (OVERLAY_TEST_SIZE / SECTOR);
		random = random * 1664525 + 1013904223;
		count = 1 + (random >> 8) % (i % 10 ? 12 : 300);
		if (sector + count > OVERLAY_TEST_SIZE / SECTOR)
			continue;
		if (i % 2) {
			memset(data, i / 2, count * SECTOR);
			memset(expected + sector * SECTOR, i / 2,
			       count * SECTOR);
			same =
			    same && !write_disk(sector, data, count * SECTOR);
		} else {
			same = same &&
			       !read_disk(sector, data, count * SECTOR) &&
			       !memcmp(data, expected + sector * SECTOR,
				       count * SECTOR);
		}
	}
	ok(same, "overlay: 2000 reads and writes as on a plain disk");
	is(read_disk(0, data, OVERLAY_TEST_SIZE), 0, "overlay: all of it");
	ok(!memcmp(data, expected, OVERLAY_TEST_SIZE), "overlay: its bytes");
	ok(disk->overlay_bytes > 0 && disk->overlay_bytes <= OVERLAY_TEST_SIZE,
	   "overlay: its memory is counted");
	back = malloc(OVERLAY_TEST_SIZE);
	need(back, "memory");
	ok(pread(fd, back, OVERLAY_TEST_SIZE, 0) ==
		   (ssize_t)OVERLAY_TEST_SIZE &&
	       right(back, 0, OVERLAY_TEST_SIZE),
	   "overlay: the file is as it was");
	free(back);
	disk_destroy(disk);

	options.overlay_limit = 3 * OVERLAY_BLOCK;
	start(&options, "limit");
	memset(data, 0x55, 8 * OVERLAY_BLOCK);
	is(write_disk(0, data, 2 * OVERLAY_BLOCK), 0, "limit: two blocks");
	is(write_disk(800, data, SECTOR), 0, "limit: a sector of a third");
	is(write_disk(1600, data, SECTOR), 1, "limit: no fourth");
	is(write_disk(801, data, 3 * SECTOR), 0, "limit: what is there, again");
	is(read_disk(1600, data, SECTOR), 0, "limit: the fourth is");
	ok(right(data, 1600 * SECTOR, SECTOR), "limit: as it was");
	is(disk->overlay_bytes, 3 * OVERLAY_BLOCK, "limit: three are held");
	is(disk->write_errors, 1, "limit: the failed write is counted");
	disk_destroy(disk);
	close(fd);

	/* The last block of a disk whose end is inside an overlay block. */
	options = (struct lkl_disk){
	    .operations = &read_only,
	    .opaque = &source,
	    .size = 10 * SECTOR + 5,
	    .overlay_limit = 1 << 20,
	};
	start(&options, "end");
	memset(data, 0x66, SECTOR);
	is(write_disk(9, data, SECTOR), 0, "end: a write before the end");
	is(read_disk(8, data, 3 * SECTOR), 0, "end: read up to it");
	ok(right(data, 8 * SECTOR, SECTOR) &&
	       all_are(data + SECTOR, 0x66, SECTOR) &&
	       right(data + 2 * SECTOR, 10 * SECTOR, 5) &&
	       all_are(data + 2 * SECTOR + 5, 0, SECTOR - 5),
	   "end: source, overlay, source, zeros");

	source.bad_from = 0;
	source.bad_to = 1;
	source.error = -EIO;
	is(write_disk(1, data, SECTOR), 1,
	   "end: a partial block whose source cannot be read");
	source.bad_to = 0;
	is(read_disk(0, data, 4096), 0, "end: is not kept half");
	ok(right(data, 0, 4096), "end: but the source's");
	disk_destroy(disk);
}

static void test_writes(void)
{
	struct lkl_disk options = {
	    .operations = &read_write,
	    .opaque = &source,
	    .size = 10 * SECTOR + 100,
	};

	start(&options, "scratch");
	ok(!(features() & 1 << 5), "scratch: not read-only");
	memset(data, 0x77, 4 * SECTOR);
	data[2 * SECTOR - 1] = 0x78;
	is(write_disk(4, data, 2 * SECTOR), 0, "scratch: a write");
	ok(source.written_at == 4 * SECTOR && source.written == 2 * SECTOR &&
	       source.last_written == 0x78,
	   "scratch: reaches the callback");
	is(write_disk(10, data, SECTOR), 0, "scratch: the last, partial block");
	is(source.written, 100, "scratch: only the part that there is");
	is(write_disk(11, data, SECTOR), 1, "scratch: none beyond");
	disk_destroy(disk);
}

/* ---- Mapped sources ---------------------------------------------------- */

static struct lkl_disk map_source(uint64_t size)
{
	static unsigned char whole[MAPPED_FILE];

	memset(&mapped, 0, sizeof(mapped));
	memset(&source, 0, sizeof(source));
	mapped.size = size;
	mapped.files[0] = make_file(MAPPED_FILE);
	mapped.files[1] = make_file(MAPPED_FILE);
	for (uint64_t i = 0; i < MAPPED_FILE; i++)
		whole[i] = (unsigned char)~byte_at(i);
	need(pwrite(mapped.files[1], whole, MAPPED_FILE, 0) ==
		 (ssize_t)MAPPED_FILE,
	     "another file");
	return (struct lkl_disk){
	    .operations = &by_map,
	    .opaque = &source,
	    .fd = -1,
	    .size = size,
	};
}

static void unmap_source(void)
{
	disk_destroy(disk);
	is(source.closed, 1, "a mapped source is closed once");
	close(mapped.files[0]);
	close(mapped.files[1]);
}

/* Whether a buffer holds what the mapped source does, and zeros behind it. */
static bool mapped_right(const unsigned char *bytes, uint64_t offset,
			 uint64_t length)
{
	for (uint64_t i = 0; i < length; i++)
		if (bytes[i] !=
		    (offset + i < mapped.size ? mapped_byte(offset + i) : 0))
			return false;
	return true;
}

/* How many runs of encoded units a range meets. */
static uint32_t encoded_runs(uint64_t offset, uint64_t length)
{
	uint32_t runs = 0;
	bool inside = false;

	for (uint64_t i = 0; i < length; i += SECTOR) {
		bool encoded = kind_at(offset + i) == ENCODED;

		runs += encoded && !inside;
		inside = encoded;
	}
	return runs;
}

/* A request into pages that lie apart, 4 KiB each. */
static unsigned char read_pages(uint64_t sector, uint32_t pages)
{
	uint32_t count = 0;

	shared->header.type = 0;
	shared->header.sector = sector;
	shared->table[count++] = piece(&shared->header, 16, 0);
	for (uint32_t i = 0; i < pages; i++)
		shared->table[count++] = piece(data + i * 8192, 4096, WRITE);
	shared->table[count++] = piece(&shared->status, 1, WRITE);
	link_up(shared->table, count);
	shared->descriptors[0] = piece(shared->table, count * 16, INDIRECT);
	return submit();
}

static bool pages_right(uint64_t sector, uint32_t pages)
{
	for (uint32_t i = 0; i < pages; i++)
		if (!mapped_right(data + i * 8192, sector * SECTOR + i * 4096,
				  4096) ||
		    !all_are(data + i * 8192 + 4096, 0xaa, 4096))
			return false;
	return true;
}

static void test_mapped(void)
{
	const uint64_t size = (UINT64_C(64) << 20) + 700;
	struct lkl_disk options = map_source(size);
	uint64_t last = (size - 1) / SECTOR;
	uint64_t random = 1;
	bool same = true;
	uint32_t runs;

	start(&options, "mapped");
	is(request(0, 0, data, 16 << 20, true), 0, "mapped: 16 MiB at once");
	ok(mapped_right(data, 0, 16 << 20), "mapped: its bytes");
	runs = encoded_runs(0, 16 << 20);
	ok(source.reads >= runs && source.reads < runs + mapped.questions,
	   "mapped: %u calls for %u encoded runs, told in %u answers",
	   source.reads, runs, mapped.questions);
	ok(mapped.questions < 16, "mapped: %u questions", mapped.questions);

	mapped.questions = 0;
	source.reads = 0;
	memset(data, 0xaa, 4 << 20);
	is(read_pages(3, 253), 0, "mapped: into 253 pages");
	ok(pages_right(3, 253), "mapped: its bytes, and no others");
	runs = encoded_runs(3 * SECTOR, 253 * 4096);
	is(source.reads, runs, "mapped: one call for each of %u runs", runs);
	is(mapped.questions, 0, "mapped: nothing is asked again");

	for (int i = 0; i < 2000; i++) {
		uint64_t sector, count;

		random = random * UINT64_C(6364136223846793005) + 1;
		sector = (random >> 33) % last;
		count = 1 + (random >> 20) % (i % 8 ? 16 : 500);
		if (sector + count > last + 1)
			count = last + 1 - sector;
		same = same && !read_disk(sector, data, count * SECTOR) &&
		       mapped_right(data, sector * SECTOR, count * SECTOR);
	}
	ok(same, "mapped: 2000 reads of all lengths");

	memset(data, 0xaa, 8192);
	is(read_disk(last - 1, data, 2 * SECTOR), 0, "mapped: the end");
	ok(mapped_right(data, (last - 1) * SECTOR, 2 * SECTOR) &&
	       all_are(data + 2 * SECTOR, 0xaa, SECTOR),
	   "mapped: its bytes, zeros, and not a byte more");
	is(read_disk(last + 1, data, SECTOR), 1, "mapped: beyond the end");
	unmap_source();
}

/* What only the read callback gives comes in pieces of a bounded size. */
static void test_bounce(void)
{
	struct lkl_disk options = {
	    .operations = &read_only,
	    .opaque = &source,
	    .size = UINT64_C(1) << 40,
	};
	uint32_t count = 0;

	memset(&source, 0, sizeof(source));
	start(&options, "bounce");
	/* Segments of 64 KiB and a sector, that lie apart: above 1 MiB. */
	memset(data, 0xaa, 8 << 20);
	shared->header.type = 0;
	shared->header.sector = 7;
	shared->table[count++] = piece(&shared->header, 16, 0);
	for (uint64_t i = 0; i < 30; i++)
		shared->table[count++] =
		    piece(data + (i << 17), (64 << 10) + SECTOR, WRITE);
	/* And one that needs no detour. */
	shared->table[count++] = piece(data + (30 << 17), 3 << 20, WRITE);
	shared->table[count++] = piece(&shared->status, 1, WRITE);
	link_up(shared->table, count);
	shared->descriptors[0] = piece(shared->table, count * 16, INDIRECT);
	is(submit(), 0, "bounce: segments of several sizes");
	for (uint64_t i = 0, at = 7 * SECTOR; i < 31; i++) {
		uint64_t length = i < 30 ? (64 << 10) + SECTOR : 3 << 20;

		if (!right(data + (i << 17), at, length) ||
		    (i < 30 && !all_are(data + (i << 17) + length, 0xaa,
					(1 << 17) - length)))
			ok(false, "bounce: segment %" PRIu64, i);
		at += length;
	}
	ok(source.reads <= 4, "bounce: in %u calls", source.reads);
	ok(source.largest_read > 2 << 20,
	   "bounce: a large segment is read as it is");

	source.bad_from = 100 * SECTOR;
	source.bad_to = source.bad_from + 1;
	source.error = -EIO;
	is(read_pages(92, 2), 1, "bounce: an error in the second page");
	is(read_pages(92, 1), 0, "bounce: the first alone");
	disk_destroy(disk);
}

static void test_mapped_errors(void)
{
	const uint64_t size = UINT64_C(64) << 20;
	struct lkl_disk options = map_source(size);
	uint64_t gone = 0;

	start(&options, "map errors");
	mapped.answer = -EIO;
	is(read_disk(0, data, 4096), 1, "map errors: no answer");
	mapped.answer = 1;
	mapped.lie = (struct lkl_disk_extent){4096, -7, 0};
	is(read_disk(0, data, 4096), 1, "map errors: a wrong one");
	mapped.lie = (struct lkl_disk_extent){UINT64_MAX, -1, 0};
	is(read_disk(0, data, 4096), 1, "map errors: a wrong length");
	is(source.reads, 0, "map errors: nothing is read for these");
	mapped.answer = 0;
	is(read_disk(0, data, 1 << 20), 0, "map errors: a true one");
	ok(mapped_right(data, 0, 1 << 20), "map errors: its bytes");

	/* What an extent's file has not, the callback may have: here others. */
	while (kind_at(gone) != FIRST)
		gone += UNIT;
	need(ftruncate(mapped.files[0], 0) == 0, "the file shrinks");
	is(read_disk(gone / SECTOR, data, 8192), 0,
	   "map errors: a file shrinks");
	ok(right(data, gone, 8192), "map errors: the callback is asked");
	source.bad_from = gone;
	source.bad_to = gone + 1;
	source.error = -EIO;
	is(read_disk(gone / SECTOR, data, 8192), 1,
	   "map errors: and has the last word");
	source.bad_to = 0;
	unmap_source();

	/* Nothing told at all: everything is read by the callback. */
	options = map_source(size);
	start(&options, "unknown");
	mapped.answer = 1;
	mapped.lie = (struct lkl_disk_extent){4096, LKL_EXTENT_ENCODED, 9};
	is(read_disk(0, data, 65536), 0, "unknown: small answers");
	ok(right(data, 0, 65536), "unknown: the callback's bytes");
	unmap_source();
}

/* A map that can tell nothing. */
static int64_t no_map(void *opaque, uint64_t offset, uint64_t length,
		      struct lkl_disk_extent *extents, size_t count)
{
	(void)opaque, (void)offset, (void)length, (void)extents, (void)count;
	mapped.questions++;
	return 0;
}

static void test_untold(void)
{
	static const struct lkl_disk_operations untold = {
	    .read = source_read,
	    .map = no_map,
	};
	struct lkl_disk options = {
	    .operations = &untold,
	    .opaque = &source,
	    .size = UINT64_C(1) << 30,
	};

	memset(&mapped, 0, sizeof(mapped));
	memset(&source, 0, sizeof(source));
	start(&options, "untold");
	is(read_disk(12345, data, 3 << 20), 0, "untold: read all the same");
	ok(right(data, 12345 * SECTOR, 3 << 20), "untold: its bytes");
	is(source.reads, 1, "untold: in one call");
	is(mapped.questions, 1, "untold: after one question");
	disk_destroy(disk);
}

static void test_mapped_far(void)
{
	/* Linux' own limit is 2^63. */
	const uint64_t size = (uint64_t)INT64_MAX - 8191 - 100;
	struct lkl_disk options = map_source(size);
	uint64_t last = (size - 1) / SECTOR;

	start(&options, "far");
	is(read_disk(last - 4000, data, 4001 * SECTOR), 0,
	   "far: the last 2 MiB before 2^63");
	ok(mapped_right(data, (last - 4000) * SECTOR, 4001 * SECTOR),
	   "far: their bytes");
	is(read_disk(last, data, 2 * SECTOR), 1, "far: beyond");
	is(read_disk(UINT64_C(1) << 53, data, 1 << 20), 0, "far: at 2^62");
	ok(mapped_right(data, UINT64_C(1) << 62, 1 << 20), "far: its bytes");
	unmap_source();
}

static void test_mapped_overlay(void)
{
	struct lkl_disk options = map_source(UINT64_C(16) << 20);
	uint64_t sector = 5 * UNIT / SECTOR - 3;

	options.overlay_limit = 1 << 20;
	start(&options, "mapped overlay");
	memset(data, 0x5a, 6 * SECTOR);
	is(write_disk(sector, data, 6 * SECTOR), 0, "mapped overlay: a write");
	is(read_disk(sector - 100, data, 206 * SECTOR), 0,
	   "mapped overlay: with what is around it");
	ok(mapped_right(data, (sector - 100) * SECTOR, 100 * SECTOR) &&
	       all_are(data + 100 * SECTOR, 0x5a, 6 * SECTOR) &&
	       mapped_right(data + 106 * SECTOR, (sector + 6) * SECTOR,
			    100 * SECTOR),
	   "mapped overlay: source, overlay, source");
	unmap_source();
}

int main(void)
{
	need(host_ram_create(&ram, RAM_SIZE, RAM_SIZE) == 0, "memory");
	shared = (struct shared *)ram.base;
	data = ram.base + DATA;
	_Static_assert(sizeof(struct shared) <= DATA, "they would overlap");

	test_options();
	test_registers();
	test_reads(false, 512);
	test_reads(true, 512);
	test_reads(false, 4096);
	test_reads(true, 4096);
	test_failing_source();
	test_wild_drivers();
	test_overlay();
	test_writes();
	test_mapped();
	test_bounce();
	test_mapped_errors();
	test_untold();
	test_mapped_far();
	test_mapped_overlay();
	host_ram_destroy(&ram);
	return tap_end();
}
