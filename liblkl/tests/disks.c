// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/* Disks of a running kernel: added, read, written, failing, removed. */
#include <pthread.h>
#include <stdlib.h>

#include "machine.h"

/* ---- A source of computed bytes, as large as wanted -------------------- */

struct source {
	uint64_t seed;
	uint64_t bad_from, bad_to;
	int error;
	_Atomic uint32_t inside, overlapped; /* callbacks at the same time */
	uint32_t closed;
	uint64_t written_at, written;
};

static unsigned char byte_at(const struct source *source, uint64_t offset)
{
	return (unsigned char)((offset + source->seed) * 2654435761u >> 11 ^
			       offset >> 32);
}

static int source_read(void *opaque, uint64_t offset, void *buffer,
		       size_t length)
{
	struct source *source = opaque;
	unsigned char *bytes = buffer;
	int error = 0;

	if (source->inside++)
		source->overlapped++;
	if (offset < source->bad_to && offset + length > source->bad_from)
		error = source->error;
	for (size_t i = 0; i < length && !error; i++)
		bytes[i] = byte_at(source, offset + i);
	source->inside--;
	return error;
}

static int source_write(void *opaque, uint64_t offset, const void *buffer,
			size_t length)
{
	struct source *source = opaque;

	(void)buffer;
	source->written_at = offset;
	source->written += length;
	return 0;
}

static void source_close(void *opaque)
{
	((struct source *)opaque)->closed++;
}

static const struct lkl_disk_operations read_only = {
    .read = source_read,
    .close = source_close,
};

static const struct lkl_disk_operations read_write = {
    .read = source_read,
    .write = source_write,
    .close = source_close,
};

static int add(struct lkl_kernel *kernel, struct source *source, uint64_t size,
	       uint32_t block_size, uint64_t overlay_limit)
{
	struct lkl_disk disk = {
	    .operations = &read_only,
	    .opaque = source,
	    .size = size,
	    .block_size = block_size,
	    .overlay_limit = overlay_limit,
	};

	return lkl_disk_add(kernel, &disk);
}

/* ---- Reading it through the kernel ------------------------------------- */

static int open_disk(struct lkl_kernel *kernel, int number, int flags)
{
	char path[64];
	int length = lkl_disk_device(kernel, number, 0, path, sizeof(path));

	if (length < 0)
		return length;
	return (int)lkl_sys_openat(kernel, LKL_AT_FDCWD, path, flags, 0);
}

/* Whether length bytes at offset are those of the source, zeros behind size. */
static bool right(struct lkl_kernel *kernel, int fd,
		  const struct source *source, uint64_t offset, size_t length,
		  uint64_t size)
{
	unsigned char *bytes = malloc(length);
	bool good =
	    bytes && lkl_sys_pread64(kernel, fd, bytes, length,
				     (int64_t)offset) == (int64_t)length;

	for (size_t i = 0; good && i < length; i++)
		good = bytes[i] ==
		       (offset + i < size ? byte_at(source, offset + i) : 0);
	free(bytes);
	return good;
}

static void test_sizes(struct lkl_kernel *kernel)
{
	static const struct {
		uint64_t size;
		uint32_t block_size;
	} cases[] = {
	    {1, 0},
	    {512, 512},
	    {(1 << 20) + 700, 512},
	    {(1 << 20) + 700, 1024},
	    {(1 << 20) + 700, 2048},
	    {(1 << 20) + 700, 4096},
	    {(UINT64_C(3) << 40) + 4096, 512},
	    {(UINT64_C(3) << 40) + 4096, 4096},
	    {UINT64_C(1) << 60, 4096},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint64_t size = cases[i].size;
		uint32_t block =
		    cases[i].block_size ? cases[i].block_size : 512;
		uint64_t capacity = (size + block - 1) / block * block;
		uint64_t last = capacity - block;
		struct source source = {.seed = i};
		int number = add(kernel, &source, size, cases[i].block_size, 0);
		int fd;

		if (!ok(number >= 0, "a disk of %" PRIu64 " bytes by %u", size,
			block))
			continue;
		fd = open_disk(kernel, number, LKL_O_RDONLY);
		ok(fd >= 0, "opens");
		is(lkl_sys_lseek(kernel, fd, 0, LKL_SEEK_END), capacity,
		   "its size in the kernel");
		ok(right(kernel, fd, &source, 0, block, size),
		   "its first block");
		ok(right(kernel, fd, &source, last, block, size),
		   "its last block");
		if (capacity > UINT64_C(2) << 40)
			ok(right(kernel, fd, &source, (UINT64_C(2) << 40) - 512,
				 1 << 20, size),
			   "across 2 TiB");
		lkl_sys_close(kernel, fd);
		is(lkl_disk_remove(kernel, number), 0, "removed");
		is(source.closed, 1, "closed");
		is(source.overlapped, 0, "one callback at a time");
	}
}

static void test_refusals(struct lkl_kernel *kernel)
{
	struct source source = {0};
	struct lkl_disk_statistics statistics;
	struct lkl_disk bad = {.fd = -1, .size = 4096};

	is(add(kernel, &source, 4096, 100, 0), -EINVAL, "block size 100");
	is(lkl_disk_add(kernel, &bad), -EBADF, "no file");
	is(source.closed, 0, "what was not added is not closed");
	is(lkl_disk_remove(kernel, -1), -ENODEV, "no disk -1");
	is(lkl_disk_remove(kernel, 12345), -ENODEV, "no disk 12345");
	is(lkl_disk_statistics(kernel, 12345, &statistics), -ENODEV,
	   "nor its statistics");
}

static void test_errors(struct lkl_kernel *kernel)
{
	struct source source = {
	    .bad_from = 1 << 20,
	    .bad_to = (1 << 20) + 4096,
	    .error = -ENXIO,
	};
	struct lkl_disk_statistics statistics;
	int number = add(kernel, &source, 4 << 20, 512, 0);
	unsigned char byte;
	int fd;

	need(number >= 0, "a disk with a bad spot");
	fd = open_disk(kernel, number, LKL_O_RDONLY);
	is(lkl_sys_pread64(kernel, fd, &byte, 1, (1 << 20) + 100), -EIO,
	   "reading there is an I/O error");
	ok(right(kernel, fd, &source, (1 << 20) - 4096, 4096, 4 << 20),
	   "just before is not");
	ok(right(kernel, fd, &source, (1 << 20) + 4096, 4096, 4 << 20),
	   "nor just behind");
	is(lkl_disk_statistics(kernel, number, &statistics), 0, "statistics");
	ok(statistics.read_errors > 0 && statistics.read_requests > 2 &&
	       statistics.read_bytes >= 8192,
	   "%" PRIu64 " requests, %" PRIu64 " bytes, %" PRIu64 " errors",
	   statistics.read_requests, statistics.read_bytes,
	   statistics.read_errors);
	source.bad_to = 0;
	ok(right(kernel, fd, &source, 1 << 20, 4096, 4 << 20),
	   "a spot that has healed is read");
	lkl_sys_close(kernel, fd);
	is(lkl_disk_remove(kernel, number), 0, "removed");
}

static void test_writes(struct lkl_kernel *kernel)
{
	struct source source = {0};
	struct lkl_disk scratch = {
	    .operations = &read_write,
	    .opaque = &source,
	    .size = 1 << 20,
	};
	struct lkl_disk_statistics statistics;
	unsigned char block[4096], back[4096];
	int number, fd;

	memset(block, 0x5a, sizeof(block));
	number = add(kernel, &source, 1 << 20, 512, 0);
	fd = open_disk(kernel, number, LKL_O_RDWR);
	is(lkl_sys_pwrite64(kernel, fd, block, sizeof(block), 0), -EPERM,
	   "a disk without overlay is not written");
	lkl_sys_close(kernel, fd);
	is(lkl_disk_remove(kernel, number), 0, "removed");

	number = add(kernel, &source, 1 << 20, 512, 64 << 10);
	fd = open_disk(kernel, number, LKL_O_RDWR);
	need(fd >= 0, "one with an overlay can be written");
	is(lkl_sys_pwrite64(kernel, fd, block, sizeof(block), 8192), 4096,
	   "a block");
	is(lkl_sys_fsync(kernel, fd), 0, "synced");
	lkl_sys_close(kernel, fd);
	fd = open_disk(kernel, number, LKL_O_RDONLY | LKL_O_DIRECT);
	need(fd >= 0, "opens for direct I/O");
	unsigned char *direct = lkl_mem_alloc(kernel, 4096);

	need(direct, "memory for it");
	is(lkl_sys_pread64(kernel, fd, direct, 4096, 8192), 4096, "read back");
	ok(!memcmp(direct, block, 4096), "what was written");
	lkl_mem_free(kernel, direct, 4096);
	lkl_sys_close(kernel, fd);
	lkl_disk_statistics(kernel, number, &statistics);
	is(statistics.overlay_bytes, 4096, "the overlay holds one block");

	fd = open_disk(kernel, number, LKL_O_RDWR);
	for (int i = 0; i < 40; i++)
		lkl_sys_pwrite64(kernel, fd, block, sizeof(block),
				 (64 + 2 * i) * 4096);
	is(lkl_sys_fsync(kernel, fd), -EIO, "beyond its limit: an I/O error");
	lkl_sys_close(kernel, fd);
	lkl_disk_statistics(kernel, number, &statistics);
	is(statistics.overlay_bytes, 64 << 10, "and no more memory");
	is(lkl_disk_remove(kernel, number), 0, "removed");
	is(source.written, 0, "nothing of all that came to the source");

	number = lkl_disk_add(kernel, &scratch);
	fd = open_disk(kernel, number, LKL_O_RDWR);
	need(fd >= 0, "a scratch disk");
	is(lkl_sys_pwrite64(kernel, fd, block, sizeof(block), 16384), 4096,
	   "a block");
	is(lkl_sys_fsync(kernel, fd), 0, "synced");
	ok(source.written_at == 16384 && source.written == 4096,
	   "reaches its callback");
	is(lkl_sys_pread64(kernel, fd, back, 4096, 16384), 4096, "read back");
	lkl_sys_close(kernel, fd);
	is(lkl_disk_remove(kernel, number), 0, "removed");
}

static void test_busy(struct lkl_kernel *kernel)
{
	struct source source = {0};
	int number = add(kernel, &source, 1 << 20, 512, 0);
	int fd = open_disk(kernel, number, LKL_O_RDONLY);

	need(fd >= 0, "a disk");
	is(lkl_disk_remove(kernel, number), -EBUSY, "open: not removed");
	is(source.closed, 0, "nor closed");
	ok(right(kernel, fd, &source, 0, 4096, 1 << 20), "it still works");
	lkl_sys_close(kernel, fd);
	is(lkl_disk_remove(kernel, number), 0, "closed: removed");
	is(lkl_disk_remove(kernel, number), -ENODEV, "once");
	is(add(kernel, &source, 4096, 0, 0), number + 1,
	   "its number is not used again");
	is(lkl_disk_remove(kernel, number + 1), 0, "removed");
}

#define DISKS 40

struct user {
	struct lkl_kernel *kernel;
	struct source *source;
	int number;
	bool failed;
	pthread_t thread;
};

/* Reads its own disk again and again, while others come and go. */
static void *use_disk(void *arg)
{
	struct user *user = arg;

	for (int i = 0; i < 30 && !user->failed; i++) {
		int fd = open_disk(user->kernel, user->number, LKL_O_RDONLY);

		user->failed =
		    fd < 0 || !right(user->kernel, fd, user->source,
				     (uint64_t)i * 3000, 65536, 1 << 20);
		lkl_sys_close(user->kernel, fd);
	}
	return NULL;
}

static void test_many(struct lkl_kernel *kernel)
{
	static struct source sources[DISKS];
	struct source passing = {.seed = 999};
	int numbers[DISKS];
	struct user users[6];
	int wrong = 0;

	for (int i = 0; i < DISKS; i++) {
		sources[i].seed = (uint64_t)i * 1000;
		numbers[i] = add(kernel, &sources[i], (1 << 20) + i * 4096,
				 i % 2 ? 4096 : 512, 0);
		wrong += numbers[i] < 0;
	}
	is(wrong, 0, "%d disks", DISKS);
	for (int i = 0; i < DISKS; i++) {
		int fd = open_disk(kernel, numbers[i], LKL_O_RDONLY);

		if (fd < 0 ||
		    !right(kernel, fd, &sources[i], 0, 1 << 20, 1 << 20) ||
		    lkl_sys_lseek(kernel, fd, 0, LKL_SEEK_END) !=
			(1 << 20) + i * 4096)
			wrong++;
		lkl_sys_close(kernel, fd);
	}
	is(wrong, 0, "each with its own size and bytes");
	for (int i = 0; i < 6; i++) {
		users[i] = (struct user){kernel, &sources[i * 5],
					 numbers[i * 5], false, 0};
		need(!pthread_create(&users[i].thread, NULL, use_disk,
				     &users[i]),
		     "a thread that reads");
	}
	for (int i = 0; i < 30; i++) {
		int number = add(kernel, &passing, 1 << 20, 512, 0);

		wrong += number < 0 || lkl_disk_remove(kernel, number) != 0;
	}
	for (int i = 0; i < 6; i++) {
		pthread_join(users[i].thread, NULL);
		wrong += users[i].failed;
	}
	is(wrong, 0, "disks come and go while others are read");
	for (int i = 0; i < DISKS / 2; i++)
		wrong += lkl_disk_remove(kernel, numbers[i]) != 0 ||
			 sources[i].closed != 1;
	is(wrong, 0, "half of them removed");
	lkl_destroy(kernel);
	for (int i = 0; i < DISKS; i++)
		wrong += sources[i].closed != 1 || sources[i].overlapped;
	is(wrong, 0, "the others closed with the kernel, each once");
}

int main(int argc, char **argv)
{
	struct lkl_kernel *kernel;

	(void)argc;
	kernel = boot(argv, 0);
	test_sizes(kernel);
	test_refusals(kernel);
	test_errors(kernel);
	test_writes(kernel);
	test_busy(kernel);
	test_many(kernel);
	return tap_end();
}
