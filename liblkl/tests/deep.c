// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Walks of what images can hold that a host's tree cannot: loops, names with
 * slashes, types that lie, and depth; the last is packed, too.  See pack.c for
 * what a packer makes of the others.
 */
#define _GNU_SOURCE
#include "machine.h"
#include "scratch.h"
#include "unpack.h"

#define DEPTH 4096

/* Counts what a walk meets: entries, and those refused by that error. */
static int64_t walk_all(struct lkl_kernel *kernel, int root, int error,
			uint64_t *entries)
{
	size_t size = 1 << 16;
	char *buffer = malloc(size);
	struct lkl_walk *walk;
	int64_t refused = 0;
	int64_t got = lkl_walk_open(kernel, root, 0, &walk);

	*entries = 0;
	if (got)
		return got;
	while ((got = lkl_walk_read(walk, buffer, size)) > 0)
		for (int64_t at = 0; at < got;) {
			struct lkl_entry *entry = (void *)(buffer + at);

			/* The kernel itself refuses some when asked for stat.
			 */
			refused += entry->error == error;
			*entries += entry->name_length > 0;
			at += entry->record_size;
		}
	lkl_walk_close(walk);
	free(buffer);
	return got < 0 ? got : refused;
}

/* Replaces bytes in the image wherever they stand: how often. */
static int replace(const char *path, const char *from, const char *to,
		   size_t length)
{
	static char piece[1 << 20];
	int fd = open(path, O_RDWR);
	int count = 0;
	ssize_t got;

	for (off_t at = 0; (got = pread(fd, piece, sizeof(piece), at)) > 0;
	     at += got)
		for (ssize_t i = 0; i + (ssize_t)length <= got; i++)
			if (memcmp(piece + i, from, length) == 0 &&
			    pwrite(fd, to, length, at + i) == (ssize_t)length)
				count++;
	close(fd);
	return count;
}

static void test_hostile(struct lkl_kernel *kernel)
{
	char path[256];
	uint64_t entries;
	int disk, root;

	/* debugfs makes links to directories when asked; no kernel would. */
	need(run("mkdir -p tree/a/b/c tree/slashes && "
		 "touch tree/a/file tree/slashes/slaZsh tree/slashes/w && "
		 "mkfifo tree/liar && "
		 "truncate -s 8M image && "
		 "mkfs.ext4 -q -O ^metadata_csum,^dir_index -d tree image && "
		 "printf 'ln /a /a/b/c/loop\\nln /a /again\\n' | "
		 "debugfs -w image >debugfs.log 2>&1"),
	     "an image with loops");
	need(replace("image", "slaZsh", "sla/sh", 6) > 0, "with a slash");
	/* Name length 4, type 5: a fifo; it says now that it is a file. */
	need(replace("image", "\4\5liar", "\4\1liar", 6) > 0, "with a lie");
	disk = add_image(kernel, "image", 0);
	root = mount_root(kernel, disk, "ext4", LKL_MS_RDONLY, NULL, path);

	is(walk_all(kernel, root, -ELOOP, &entries), 2,
	   "a walk refuses both ways to a directory met before");
	ok(entries < 20, "and ends (%d entries)", (int)entries);
	is(lkl_open_file(kernel, root, "liar"), -EINVAL,
	   "a fifo that says it is a file does not open");
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
}

static int make_deep(struct lkl_kernel *kernel, int root)
{
	int fd = (int)lkl_sys_dup(kernel, root);

	for (int depth = 0; depth < DEPTH && fd >= 0; depth++) {
		int next, file;

		/* A second one in each has to be come back to. */
		if (lkl_sys_mkdirat(kernel, fd, "d", 0755) ||
		    lkl_sys_mkdirat(kernel, fd, "e", 0755))
			return -1;
		file = (int)lkl_sys_openat(kernel, fd, "f",
					   LKL_O_WRONLY | LKL_O_CREAT, 0644);
		if (lkl_sys_write(kernel, file, &depth, sizeof(depth)) < 0)
			return -1;
		lkl_sys_close(kernel, file);
		next = (int)lkl_sys_openat(kernel, fd, "d",
					   LKL_O_RDONLY | LKL_O_DIRECTORY, 0);
		lkl_sys_close(kernel, fd);
		fd = next;
	}
	return fd < 0 ? fd : (int)lkl_sys_close(kernel, fd);
}

/* Of what was packed: how many files, directories, and refused as too deep. */
struct counts {
	int files, directories, refused, others;
};

static struct counts pack_all(struct lkl_kernel *kernel, int root,
			      uint32_t max_depth)
{
	const struct lkl_pack request = {.max_depth = max_depth};
	struct unpack unpack = {0};
	struct counts counts = {0};

	is(unpack_pack(&unpack, kernel, &request, root, "", ""), 0,
	   "it is packed");
	for (size_t i = 0; i < unpack.count; i++) {
		const struct node *node = &unpack.nodes[i];
		int number;

		if (node->kind == COPY_REFUSED &&
		    node->entry.error == -ENAMETOOLONG)
			counts.refused++;
		else if (node->kind == COPY_ENTER && !node->broken.error)
			counts.directories++;
		else if (node->kind == COPY_ENTRY &&
			 node->length == sizeof(number) && !node->done.error)
			counts.files++;
		else
			counts.others++;
	}
	unpack_free(&unpack);
	return counts;
}

static void test_deep(struct lkl_kernel *kernel)
{
	struct scratch_disk scratch;
	struct counts counts;
	char path[256];
	uint64_t entries;
	int disk = add_scratch(kernel, "image", &scratch, true);
	int root = mount_root(kernel, disk, "ext4", 0, NULL, path);

	is(make_deep(kernel, root), 0, "a tree %d deep", DEPTH);
	is(walk_all(kernel, root, -ENAMETOOLONG, &entries), 0,
	   "a walk refuses nothing");
	is(entries, 3 * DEPTH + 1, "and meets all, lost+found too");
	counts = pack_all(kernel, root, 0);
	is(counts.files, DEPTH, "all files");
	is(counts.directories, 2 * DEPTH, "and directories");
	is(counts.refused, 2, "but the deepest, for which there is no level");
	is(counts.others, 0, "are whole");
	counts = pack_all(kernel, root, 10);
	is(counts.refused, 2, "deeper ones are refused if asked");
	is(counts.files, 11, "down to there");
	is(counts.others, 0, "all is whole");
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
	close(scratch.fd);
}

int main(int argc, char **argv)
{
	struct lkl_kernel *kernel = boot(argv, 0);

	(void)argc;
	scratch_begin(argv);
	test_hostile(kernel);
	need(run("rm image && truncate -s 200M image && "
		 "mkfs.ext4 -q -N 20000 image"),
	     "mkfs.ext4");
	test_deep(kernel);
	is(lkl_halt(kernel), 0, "halted");
	lkl_destroy(kernel);
	return tap_end();
}
