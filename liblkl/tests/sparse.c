// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Files with holes: one of 10 TiB in an image of a few hundred megabytes is
 * listed, read, and copied in no time, as is one of SquashFS, which cannot tell
 * where its holes are.
 */
#include "machine.h"
#include "scratch.h"

#define TIB (INT64_C(1) << 40)
#define LENGTH (10 * TIB)
#define DATA "some data, far out"

static void make_file(struct lkl_kernel *kernel, int root)
{
	int fd = (int)lkl_sys_openat(
	    kernel, root, "sparse",
	    LKL_O_WRONLY | LKL_O_CREAT | LKL_O_LARGEFILE, 0644);

	need(fd >= 0, "a file");
	is(lkl_sys_ftruncate(kernel, fd, LENGTH), 0, "of 10 TiB");
	is(lkl_sys_pwrite64(kernel, fd, DATA, sizeof(DATA), 0), sizeof(DATA),
	   "with data at its begin");
	is(lkl_sys_pwrite64(kernel, fd, DATA, sizeof(DATA), 7 * TIB + 12345),
	   sizeof(DATA), "and far out");
	lkl_sys_close(kernel, fd);
}

static void check_listed(struct lkl_kernel *kernel, int root)
{
	char buffer[65536] __attribute__((aligned(8)));
	int64_t got = lkl_read_directory(kernel, root, buffer, sizeof(buffer));
	bool found = false;

	for (int64_t at = 0; at < got;) {
		struct lkl_entry *entry = (void *)(buffer + at);

		if (strcmp((char *)(entry + 1), "sparse") == 0)
			found = entry->stat.size == LENGTH &&
				entry->stat.blocks < 1000;
		at += entry->record_size;
	}
	ok(found, "listed with its size and its few blocks");
}

/* As large as the host's file system lets a file be. */
static int64_t host_limit(void)
{
	int fd = open("limit", O_RDWR | O_CREAT, 0600);
	int64_t limit = LENGTH;

	while (limit && ftruncate(fd, limit))
		limit /= 2;
	close(fd);
	unlink("limit");
	return limit;
}

static void check_copied(struct lkl_kernel *kernel, int root)
{
	/* A host's ext4 ends at 16 TiB, other ones earlier. */
	int64_t length = host_limit();
	char data[sizeof(DATA)] = "";
	int host_error;
	struct stat stat;
	int out = open("copy", O_RDWR | O_CREAT | O_TRUNC, 0600);
	int fd = lkl_open_file(kernel, root, "sparse");

	is(lkl_read_file(kernel, fd, 7 * TIB + 12345, data, sizeof(data)),
	   sizeof(data), "read far out");
	ok(strcmp(data, DATA) == 0, "the data");
	is(lkl_copy_file(kernel, fd, 0, (uint64_t)length, out, LKL_COPY_SPARSE,
			 NULL, NULL, &host_error),
	   length, "copied");
	fstat(out, &stat);
	is(stat.st_size, length, "the size");
	ok(stat.st_blocks < 1000, "the holes (%ld blocks)",
	   (long)stat.st_blocks);
	is(pread(out, data, sizeof(data), 0), sizeof(data), "read back");
	ok(strcmp(data, DATA) == 0, "the data at its begin");
	if (length == LENGTH) {
		memset(data, 0, sizeof(data));
		is(pread(out, data, sizeof(data), 7 * TIB + 12345),
		   sizeof(data), "read back");
		ok(strcmp(data, DATA) == 0, "the data far out");
	}
	lkl_sys_close(kernel, fd);
	close(out);
}

static void check(struct lkl_kernel *kernel, const char *type)
{
	struct scratch_disk scratch;
	char path[256];
	int disk = add_scratch(kernel, "image", &scratch, true);
	int root = mount_root(kernel, disk, type, 0, NULL, path);

	make_file(kernel, root);
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
	close(scratch.fd);
	disk = add_image(kernel, "image", 0);
	root = mount_root(kernel, disk, type, LKL_MS_RDONLY, NULL, path);
	check_listed(kernel, root);
	check_copied(kernel, root);
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
	unlink("image");
}

static void check_squashfs(struct lkl_kernel *kernel)
{
	char path[256];
	struct stat stat;
	int disk, root, fd, out, host_error;
	const int64_t length = INT64_C(300) << 20;

	need(run("mkdir tree && truncate -s 300M tree/sparse && "
		 "printf data | dd of=tree/sparse bs=1 seek=100000000 "
		 "conv=notrunc status=none && "
		 "mksquashfs tree image -quiet -no-progress"),
	     "mksquashfs");
	disk = add_image(kernel, "image", 0);
	root = mount_root(kernel, disk, "squashfs", LKL_MS_RDONLY, NULL, path);
	fd = lkl_open_file(kernel, root, "sparse");
	out = open("copy", O_RDWR | O_CREAT | O_TRUNC, 0600);
	is(lkl_copy_file(kernel, fd, 0, UINT64_MAX, out, LKL_COPY_SPARSE, NULL,
			 NULL, &host_error),
	   length, "copied");
	fstat(out, &stat);
	ok(stat.st_size == length && stat.st_blocks < 1000,
	   "with holes where there is no data (%ld blocks)",
	   (long)stat.st_blocks);
	ok(run("cmp copy tree/sparse"), "equal");
	lkl_sys_close(kernel, fd);
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
	close(out);
	unlink("image");
}

int main(int argc, char **argv)
{
	struct lkl_kernel *kernel = boot(argv, 0);

	(void)argc;
	scratch_begin(argv);
	need(run("truncate -s 400M image && mkfs.xfs -q image"), "mkfs.xfs");
	check(kernel, "xfs");
	need(run("truncate -s 200M image && mkfs.ext4 -q -b 4096 image"),
	     "mkfs.ext4");
	check(kernel, "ext4");
	check_squashfs(kernel);
	is(lkl_halt(kernel), 0, "halted");
	lkl_destroy(kernel);
	return tap_end();
}
