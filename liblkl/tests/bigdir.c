// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/* A directory of 100,000 entries: all of them, each once, with their stat. */
#include "machine.h"
#include "scratch.h"

#include <time.h>

#define COUNT 100000

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Files of which the name tells the size. */
static int64_t make_files(struct lkl_kernel *kernel, int root)
{
	for (int i = 0; i < COUNT; i++) {
		char name[32];
		int fd;
		int64_t error;

		snprintf(name, sizeof(name), "file-%06d", i);
		fd = (int)lkl_sys_openat(kernel, root, name,
					 LKL_O_WRONLY | LKL_O_CREAT, 0644);
		if (fd < 0)
			return fd;
		error = lkl_sys_ftruncate(kernel, fd, i);
		lkl_sys_close(kernel, fd);
		if (error < 0)
			return error;
	}
	return 0;
}

/* Counts the entries of a directory that are right, each once. */
static int list(struct lkl_kernel *kernel, int root, size_t size)
{
	unsigned char *seen = calloc(COUNT, 1);
	char *buffer = malloc(size);
	int right = 0;
	int64_t got;

	lkl_sys_lseek(kernel, root, 0, LKL_SEEK_SET);
	while ((got = lkl_read_directory(kernel, root, buffer, size)) > 0)
		for (int64_t at = 0; at < got;) {
			struct lkl_entry *entry = (void *)(buffer + at);
			int number;

			if (sscanf((char *)(entry + 1), "file-%d", &number) ==
				1 &&
			    number >= 0 && number < COUNT && !seen[number] &&
			    !entry->error && entry->type == LKL_DT_REG &&
			    entry->stat.size == (uint64_t)number) {
				seen[number] = 1;
				right++;
			}
			at += entry->record_size;
		}
	free(buffer);
	free(seen);
	return got < 0 ? (int)got : right;
}

static void check(struct lkl_kernel *kernel, const char *type)
{
	struct scratch_disk scratch;
	char path[256];
	int disk = add_scratch(kernel, "image", &scratch, true);
	int root = mount_root(kernel, disk, type, 0, NULL, path);
	double began;

	is(make_files(kernel, root), 0, "%s: %d files are made", type, COUNT);
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
	close(scratch.fd);

	disk = add_image(kernel, "image", 0);
	root = mount_root(kernel, disk, type, LKL_MS_RDONLY, NULL, path);
	began = seconds();
	is(list(kernel, root, 1 << 20), COUNT, "all are listed");
	/* In the plan's way: no failure, and not shown as a result. */
	printf("%s: %.1f ms\n", type, (seconds() - began) * 1e3);
	is(list(kernel, root, 64 << 10), COUNT, "by a smaller buffer");
	is(list(kernel, root, 3000), COUNT, "by a small one");
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
	unlink("image");
}

int main(int argc, char **argv)
{
	/* To make them takes more memory than to list them. */
	struct lkl_kernel *kernel = boot(argv, 512u << 20);

	(void)argc;
	scratch_begin(argv);
	need(run("truncate -s 300M image && mkfs.ext4 -q -N 110000 image"),
	     "mkfs.ext4");
	check(kernel, "ext4");
	need(run("truncate -s 400M image && mkfs.xfs -q image"), "mkfs.xfs");
	check(kernel, "xfs");
	need(run("truncate -s 400M image && "
		 "mkfs.btrfs -q image >mkfs.log 2>&1"),
	     "mkfs.btrfs");
	check(kernel, "btrfs");
	is(lkl_halt(kernel), 0, "halted");
	lkl_destroy(kernel);
	return tap_end();
}
