// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Exports and walks of what images can hold that a host's tree cannot: loops,
 * names with slashes, types that lie, and depth; see mount.c for whole trees
 * and host_bulk.c for the host's side.
 */
#include "machine.h"
#include "scratch.h"

#define DEPTH 4096

struct failures {
	unsigned count, loops, depths, specials, others;
	uint64_t entries;
	unsigned steps_back; /* progress must only grow */
	struct lkl_export_progress last;
};

static void note_failure(void *opaque, const char *path, size_t length,
			 const char *operation, int error, int host)
{
	struct failures *failures = opaque;

	failures->count++;
	if (error == -ELOOP)
		failures->loops++;
	else if (error == -ENAMETOOLONG)
		failures->depths++;
	else if (strcmp(operation, "special") == 0)
		failures->specials++;
	else if (failures->others++ < 5)
		printf("# %.*s: %s: %s%s\n", (int)length, path, operation,
		       lkl_errno_name(error), host ? " of the host" : "");
}

static int note_progress(void *opaque, const struct lkl_export_progress *now)
{
	struct failures *failures = opaque;

	failures->steps_back += now->entries < failures->last.entries ||
				now->bytes < failures->last.bytes;
	failures->last = *now;
	return 0;
}

static struct failures export_all(struct lkl_kernel *kernel, int root,
				  const char *target, uint32_t max_depth)
{
	struct failures failures = {0};
	const struct lkl_export request = {
	    .max_depth = max_depth,
	    .progress = note_progress,
	    .failed = note_failure,
	    .opaque = &failures,
	};
	struct lkl_export_progress done;

	is(lkl_export(kernel, root, "", AT_FDCWD, target, &request, &done), 0,
	   "exported to %s", target);
	is(failures.steps_back, 0, "progress only grows");
	is(done.errors, failures.count, "each failure is one entry's");
	failures.entries = done.entries;
	return failures;
}

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
	struct failures failures;
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
	failures = export_all(kernel, root, "hostile", 0);
	is(failures.loops, 2, "an export refuses the loops");
	is(failures.specials, 1, "reports the fifo as what it is");
	is(failures.others, 1, "and the directory with a slash in a name");
	ok(access("hostile/sla", F_OK) != 0 &&
	       access("hostile/a/file", F_OK) == 0,
	   "and makes what is well");
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

static void test_deep(struct lkl_kernel *kernel)
{
	struct scratch_disk scratch;
	struct failures failures;
	char path[256];
	uint64_t entries;
	int disk = add_scratch(kernel, "image", &scratch, true);
	int root = mount_root(kernel, disk, "ext4", 0, NULL, path);

	is(make_deep(kernel, root), 0, "a tree %d deep", DEPTH);
	is(walk_all(kernel, root, -ENAMETOOLONG, &entries), 0,
	   "a walk refuses nothing");
	is(entries, 3 * DEPTH + 1, "and meets all, lost+found too");
	failures = export_all(kernel, root, "deep", 0);
	is(failures.count, 0, "an export neither");
	is(failures.entries, 3 * DEPTH + 2, "all is done");
	is(atoi(line_of("find deep -type f -size 4c | wc -l")), DEPTH,
	   "the files are there");
	is(atoi(line_of("find deep -type d | wc -l")), 2 * DEPTH + 2,
	   "the directories are there");
	failures = export_all(kernel, root, "shallow", 10);
	is(failures.depths, 2, "deeper ones are refused if asked");
	is(atoi(line_of("find shallow -type f | wc -l")), 11, "down to there");
	run("rm -rf deep shallow");
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
