// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A disk that fails: the kernel tells EIO, and it and the process go on; see
 * pack.c for what a copy makes of it.
 */
#include "machine.h"
#include "scratch.h"

#define LENGTH (4 << 20)
#define MARK "find this data in the image"

/* Where the file's data stands in the image. */
static uint64_t find_mark(int fd, uint64_t size)
{
	static char piece[1 << 20];

	for (uint64_t at = 0; at < size; at += sizeof(piece)) {
		ssize_t got = pread(fd, piece, sizeof(piece), (off_t)at);
		/* The file begins at a block. */
		for (ssize_t i = 0; i + 512 <= got; i += 512)
			if (memcmp(piece + i, MARK, sizeof(MARK)) == 0)
				return at + (uint64_t)i;
	}
	return 0;
}

static void check_data(struct lkl_kernel *kernel)
{
	static char bytes[LENGTH];
	struct scratch_disk scratch;
	struct lkl_disk_statistics statistics;
	struct stat stat;
	char path[256];
	int disk = add_scratch(kernel, "image", &scratch, false);
	int root = mount_root(kernel, disk, "ext4", LKL_MS_RDONLY, NULL, path);
	int fd, out, host_error;

	fstat(scratch.fd, &stat);
	scratch.fail_from =
	    find_mark(scratch.fd, (uint64_t)stat.st_size) + (2 << 20);
	need(scratch.fail_from > 2 << 20, "the file is found in the image");
	scratch.fail_to = scratch.fail_from + 4096;
	__atomic_store_n(&scratch.fail_reads, EIO, __ATOMIC_RELEASE);

	fd = lkl_open_file(kernel, root, "bad");
	is(lkl_read_file(kernel, fd, 0, bytes, 1 << 20), 1 << 20,
	   "before the bad block it reads");
	is(lkl_read_file(kernel, fd, 2 << 20, bytes, 4096), -EIO,
	   "the bad block is EIO");
	is(lkl_read_file(kernel, fd, 0, bytes, sizeof(bytes)), 2 << 20,
	   "a long read ends before it");
	is(lkl_read_file(kernel, fd, (2 << 20) + 4096, bytes, 4096), 4096,
	   "behind it all is well");
	out = open("copy", O_WRONLY | O_CREAT, 0600);
	is(lkl_copy_file(kernel, fd, 0, UINT64_MAX, out, 0, NULL, NULL,
			 &host_error),
	   -EIO, "a copy is EIO");
	is(host_error, 0, "and not the host's");
	close(out);
	is(lkl_disk_statistics(kernel, disk, &statistics), 0, "statistics");
	ok(statistics.read_errors > 0, "count the errors");

	__atomic_store_n(&scratch.fail_reads, 0, __ATOMIC_RELEASE);
	is(lkl_read_file(kernel, fd, 2 << 20, bytes, 4096), 4096,
	   "a disk that is well again reads");
	lkl_sys_close(kernel, fd);
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
	close(scratch.fd);
}

/* Nothing at all can be read: no mount, no hang, no more. */
static void check_dead(struct lkl_kernel *kernel, const char *type)
{
	struct scratch_disk scratch;
	char path[256];
	int disk = add_scratch(kernel, "image", &scratch, false);
	int error;

	scratch.fail_to = UINT64_MAX;
	__atomic_store_n(&scratch.fail_reads, EIO, __ATOMIC_RELEASE);
	error = lkl_mount_dev(kernel, disk, 0, type, LKL_MS_RDONLY, NULL, path,
			      sizeof(path));
	ok(error < 0, "%s: a dead disk does not mount (%s)", type,
	   lkl_errno_name(error));
	is(lkl_disk_remove(kernel, disk), 0, "and can be removed");
	close(scratch.fd);
}

int main(int argc, char **argv)
{
	struct lkl_kernel *kernel = boot(argv, 0);

	(void)argc;
	scratch_begin(argv);
	need(run("mkdir tree && echo well > tree/good && "
		 "printf '%s' > tree/bad && "
		 "head -c %d /dev/urandom >> tree/bad && "
		 "truncate -s %d tree/bad && truncate -s 64M image && "
		 "mkfs.ext4 -q -b 4096 -d tree image",
		 MARK "\\0", LENGTH, LENGTH),
	     "an image with a file");
	check_data(kernel);
	check_dead(kernel, "ext4");
	check_dead(kernel, "xfs");
	check_dead(kernel, "btrfs");
	check_dead(kernel, "vfat");
	is(lkl_state(kernel), LKL_STATE_RUNNING, "the kernel goes on");
	is(lkl_halt(kernel), 0, "halted");
	lkl_destroy(kernel);
	return tap_end();
}
