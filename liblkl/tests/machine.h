/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A booted kernel and its disks, for tests. */
#ifndef MACHINE_H
#define MACHINE_H

#include "lkl.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <sys/stat.h>
#include <unistd.h>

/* Boots the kernel image that is the program's first argument. */
__attribute__((unused)) static struct lkl_kernel *boot(char **argv,
						       uint64_t memory)
{
	const struct lkl_options options = {
	    .image = argv[1],
	    .memory = memory,
	};
	struct lkl_kernel *kernel = NULL;

	need(argv[1], "the path of a kernel image as argument");
	need(lkl_init(&kernel, &options) == 0, "the kernel image loads");
	need(lkl_start_kernel(kernel) == 0, "the kernel boots");
	return kernel;
}

/* Shows what the kernel has said: after a failure. */
__attribute__((unused)) static void show_log(struct lkl_kernel *kernel)
{
	char text[4096];
	uint64_t position = 0;
	size_t got;

	while ((got = lkl_log_read(kernel, &position, text, sizeof(text))))
		fwrite(text, 1, got, stderr);
}

/* Adds an image file, read-only but for an overlay: the disk's number. */
__attribute__((unused)) static int
add_image(struct lkl_kernel *kernel, const char *path, uint64_t overlay_limit)
{
	struct lkl_disk disk = {.overlay_limit = overlay_limit};
	struct stat stat;
	int number;

	disk.fd = open(path, O_RDONLY | O_CLOEXEC);
	need(disk.fd >= 0 && fstat((int)disk.fd, &stat) == 0, "%s opens", path);
	disk.size = (uint64_t)stat.st_size;
	number = lkl_disk_add(kernel, &disk);
	need(number >= 0, "%s is a disk (%s)", path, lkl_errno_name(number));
	return number;
}

/* ---- Scratch disks, which may be written -------------------------------- */

struct scratch_disk {
	int fd;
	int fail_reads; /* an errno for each read that touches the range */
	uint64_t fail_from, fail_to;
};

__attribute__((unused)) static int scratch_read(void *opaque, uint64_t offset,
						void *buffer, size_t length)
{
	struct scratch_disk *disk = opaque;

	if (__atomic_load_n(&disk->fail_reads, __ATOMIC_ACQUIRE) &&
	    offset < disk->fail_to && offset + length > disk->fail_from)
		return -disk->fail_reads;
	while (length > 0) {
		ssize_t got = pread(disk->fd, buffer, length, (off_t)offset);

		if (got <= 0)
			return -EIO;
		buffer = (char *)buffer + got;
		offset += (uint64_t)got;
		length -= (size_t)got;
	}
	return 0;
}

__attribute__((unused)) static int
scratch_write(void *opaque, uint64_t offset, const void *buffer, size_t length)
{
	struct scratch_disk *disk = opaque;

	while (length > 0) {
		ssize_t put = pwrite(disk->fd, buffer, length, (off_t)offset);

		if (put <= 0)
			return -EIO;
		buffer = (const char *)buffer + put;
		offset += (uint64_t)put;
		length -= (size_t)put;
	}
	return 0;
}

/* Adds an image file whose reads may be made to fail. */
__attribute__((unused)) static int add_scratch(struct lkl_kernel *kernel,
					       const char *path,
					       struct scratch_disk *scratch,
					       bool writable)
{
	static const struct lkl_disk_operations read_only = {
	    .read = scratch_read,
	};
	static const struct lkl_disk_operations read_write = {
	    .read = scratch_read,
	    .write = scratch_write,
	};
	struct lkl_disk disk = {
	    .operations = writable ? &read_write : &read_only,
	    .opaque = scratch,
	};
	struct stat stat;
	int number;

	*scratch = (struct scratch_disk){
	    .fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC),
	};
	need(scratch->fd >= 0 && fstat(scratch->fd, &stat) == 0, "%s opens",
	     path);
	disk.size = (uint64_t)stat.st_size;
	number = lkl_disk_add(kernel, &disk);
	need(number >= 0, "%s is a scratch disk (%s)", path,
	     lkl_errno_name(number));
	return number;
}

/* Mounts a whole disk and opens its root. */
__attribute__((unused)) static int
mount_root(struct lkl_kernel *kernel, int disk, const char *type,
	   uint32_t flags, const char *options, char path[256])
{
	int error =
	    lkl_mount_dev(kernel, disk, 0, type, flags, options, path, 256);
	int64_t root = error;

	if (!error)
		root = lkl_sys_openat(kernel, LKL_AT_FDCWD, path,
				      LKL_O_RDONLY | LKL_O_DIRECTORY, 0);
	if (!ok(root >= 0, "%s mounts", type)) {
		printf("# %s\n", lkl_errno_name((int)root));
		show_log(kernel);
	}
	return (int)root;
}

#endif
