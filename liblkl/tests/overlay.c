// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Images that were not unmounted: their journals are replayed into the overlay,
 * which shows what the session before had synced, and leaves the image file as
 * it is, to the last bit.
 */
#include "machine.h"
#include "scratch.h"

#define OVERLAY (64u << 20)

/* Writes files, syncs them, and ends the kernel as a power cut would. */
static void make_dirty(char **argv, const char *type)
{
	struct lkl_kernel *kernel = boot(argv, 0);
	struct scratch_disk scratch;
	char path[256], name[32];
	int disk = add_scratch(kernel, "image", &scratch, true);
	int root = mount_root(kernel, disk, type, 0, NULL, path);
	int64_t error = 0;

	is(lkl_sys_mkdirat(kernel, root, "late", 0755), 0, "a directory");
	for (int i = 0; i < 50 && error >= 0; i++) {
		int fd;

		snprintf(name, sizeof(name), "late/%d", i);
		fd = (int)lkl_sys_openat(kernel, root, name,
					 LKL_O_WRONLY | LKL_O_CREAT, 0644);
		error = lkl_sys_write(kernel, fd, name, strlen(name));
		if (error >= 0)
			error = lkl_sys_fsync(kernel, fd);
		lkl_sys_close(kernel, fd);
	}
	ok(error >= 0, "%s: files written and synced", type);
	/* From here on the disk does not take anything any more. */
	close(scratch.fd);
	scratch.fd = -1;
	lkl_destroy(kernel);
}

/* How many of the files are there, with what was written. */
static int count_late(struct lkl_kernel *kernel, int root)
{
	char name[32], text[32];
	int right = 0;

	for (int i = 0; i < 50; i++) {
		int64_t got;
		int fd;

		snprintf(name, sizeof(name), "late/%d", i);
		fd = lkl_open_file(kernel, root, name);
		got = lkl_read_file(kernel, fd, 0, text, sizeof(text));
		right += got == (int64_t)strlen(name) &&
			 memcmp(text, name, (size_t)got) == 0;
		lkl_sys_close(kernel, fd);
	}
	return right;
}

static void check(char **argv, const char *type, const char *without_replay)
{
	const char *sum = "sha256sum image; stat -c '%y %s' image";
	struct lkl_disk_statistics statistics;
	struct lkl_kernel *kernel;
	char before[4096], path[256];
	int disk, root;

	make_dirty(argv, type);
	strcpy(before, line_of(sum));
	kernel = boot(argv, 0);

	disk = add_image(kernel, "image", 0);
	root = lkl_mount_dev(kernel, disk, 0, type, LKL_MS_RDONLY, NULL, path,
			     sizeof(path));
	ok(root == -EROFS || root == -EACCES,
	   "read-only its journal cannot be replayed (%s)",
	   lkl_errno_name(root));
	root =
	    mount_root(kernel, disk, type, LKL_MS_RDONLY, without_replay, path);
	ok(count_late(kernel, root) < 50, "as stored, files are missing");
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_statistics(kernel, disk, &statistics), 0, "statistics");
	is(statistics.overlay_bytes, 0, "nothing was written");
	is(lkl_disk_remove(kernel, disk), 0, "removed");

	disk = add_image(kernel, "image", OVERLAY);
	root = mount_root(kernel, disk, type, LKL_MS_RDONLY, NULL, path);
	is(count_late(kernel, root), 50, "recovered, all files are there");
	is(lkl_disk_statistics(kernel, disk, &statistics), 0, "statistics");
	ok(statistics.overlay_bytes > 0 && statistics.overlay_bytes <= OVERLAY,
	   "the overlay holds %llu bytes",
	   (unsigned long long)statistics.overlay_bytes);
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
	ok(strcmp(before, line_of(sum)) == 0, "%s: the image is unchanged",
	   type);

	/* An overlay that is too small fails, and nothing else. */
	disk = add_image(kernel, "image", 4096);
	root = lkl_mount_dev(kernel, disk, 0, type, LKL_MS_RDONLY, NULL, path,
			     sizeof(path));
	if (root == 0)
		lkl_umount(kernel, path);
	is(lkl_disk_statistics(kernel, disk, &statistics), 0, "statistics");
	ok(statistics.write_errors > 0 && statistics.overlay_bytes <= 4096,
	   "a small overlay refuses writes");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
	is(lkl_state(kernel), LKL_STATE_RUNNING, "the kernel goes on");
	is(lkl_halt(kernel), 0, "halted");
	lkl_destroy(kernel);
	ok(strcmp(before, line_of(sum)) == 0, "%s: still unchanged", type);
}

int main(int argc, char **argv)
{
	(void)argc;
	scratch_begin(argv);
	need(run("truncate -s 100M image && mkfs.ext4 -q image"), "mkfs.ext4");
	check(argv, "ext4", "noload");
	need(run("rm image && truncate -s 320M image && mkfs.xfs -q image"),
	     "mkfs.xfs");
	check(argv, "xfs", "norecovery");
	return tap_end();
}
