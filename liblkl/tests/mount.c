// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * File systems made by their own tools, mounted and read: each file by SHA-256,
 * metadata as far as the tool puts it into the image.
 */
#define _GNU_SOURCE
#include "import.h"
#include "machine.h"
#include "scratch.h"
#include "unpack.h"

static struct lkl_kernel *kernel;

/* Copies a whole file system into a new folder of the host. */
static void unpack_root(int root, const char *folder)
{
	const struct lkl_pack request = {.flags = LKL_PACK_XATTRS};
	struct unpack unpack = {0};

	is(unpack_pack(&unpack, kernel, &request, root, "", ""), 0, "packed");
	is(errors_of(&unpack), 0, "without an error");
	ok(unpack_write(&unpack, folder), "written to %s", folder);
	unpack_free(&unpack);
}

/* sha256sum and the paths of all files, by the host's own tools. */
static bool same_hashes(const char *a, const char *b)
{
	return run("for t in '%s' '%s'; do (cd \"$t\" && find . -type f "
		   "! -path '*/lost+found/*' -print0 | sort -z | "
		   "xargs -0 sha256sum) > \"$t.sums\"; done; "
		   "cmp '%s.sums' '%s.sums'",
		   a, b, a, b);
}

/*
 * An image must come out as the tree that went in, and be the same file
 * afterwards.
 */
static void check_image(const char *image, const char *type, const char *tree,
			unsigned kinds)
{
	char path[256], folder[64], sum[4096], command[256];
	int disk, root;

	snprintf(folder, sizeof(folder), "%s.out", image);
	snprintf(command, sizeof(command), "sha256sum %s; stat -c %%y %s",
		 image, image);
	strcpy(sum, line_of(command));
	disk = add_image(kernel, image, 0);
	root = mount_root(kernel, disk, type, LKL_MS_RDONLY, NULL, path);
	if (root < 0)
		return;
	unpack_root(root, folder);
	ok(same_tree(tree, folder, kinds), "%s: the tree that went in", image);
	ok(same_hashes(tree, folder), "%s: the same by sha256sum", image);
	is(lkl_disk_remove(kernel, disk), -EBUSY, "the disk is in use");
	is(lkl_umount(kernel, path), -EBUSY, "and so is the mount");
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "until it is closed");
	is(lkl_disk_remove(kernel, disk), 0, "then the disk goes");
	ok(strcmp(sum, line_of(command)) == 0, "%s is unchanged", image);
	run("chmod -R u+rwx %s; rm -rf %s %s", folder, folder, image);
}

/*
 * Fills an empty file system through the kernel, and checks it after another
 * mount: what its tool cannot put there, as times in nanoseconds.
 */
static void check_filled(const char *image, const char *type, const char *tree,
			 unsigned kinds)
{
	struct scratch_disk scratch;
	char path[256];
	int disk = add_scratch(kernel, image, &scratch, true);
	int root = mount_root(kernel, disk, type, 0, NULL, path);

	if (root < 0)
		return;
	ok(import_tree(kernel, tree, root, path, kinds), "%s is filled", image);
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "and unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "and removed");
	close(scratch.fd);
	check_image(image, type, tree, kinds);
}

static void test_errors(void)
{
	char path[256], device[64], options[5000];
	int disk;

	need(run("truncate -s 1M empty.img"), "an image of zeros");
	disk = add_image(kernel, "empty.img", 0);
	is(lkl_disk_device(kernel, disk, 0, device, sizeof(device)),
	   strlen(device), "a device");
	is(strncmp(device, "/dev/vd", 7), 0, "of the kernel's name: %s",
	   device);
	is(lkl_disk_device(kernel, disk, 0, device, 4), -ERANGE,
	   "a short buffer");
	is(lkl_disk_device(kernel, disk, 1, device, sizeof(device)), -ENXIO,
	   "no partition");
	is(lkl_disk_device(kernel, 12345, 0, device, sizeof(device)), -ENODEV,
	   "no disk");
	is(lkl_mount_dev(kernel, disk, 0, "ext4", LKL_MS_RDONLY, NULL, path,
			 sizeof(path)),
	   -EINVAL, "zeros are no ext4");
	is(lkl_mount_dev(kernel, disk, 0, "nofs", LKL_MS_RDONLY, NULL, path,
			 sizeof(path)),
	   -ENODEV, "an unknown type");
	is(lkl_mount_dev(kernel, disk, 7, "ext4", LKL_MS_RDONLY, NULL, path,
			 sizeof(path)),
	   -ENXIO, "an unknown partition");
	memset(options, 'o', sizeof(options) - 1);
	options[sizeof(options) - 1] = '\0';
	is(lkl_mount_dev(kernel, disk, 0, "ext4", LKL_MS_RDONLY, options, path,
			 sizeof(path)),
	   -E2BIG, "options of more than a page");
	is(lkl_mount_dev(kernel, disk, 0, "ext4", 0, NULL, path, 3), -ERANGE,
	   "a short buffer for the path");
	is(lkl_umount(kernel, "/mnt"), -EINVAL, "nothing mounted there");
	is(lkl_disk_remove(kernel, disk), 0, "the disk goes");
}

/* Device nodes of an image must not reach the kernel's drivers. */
static void test_nodes(void)
{
	char path[256];
	int disk, root;

	need(run("truncate -s 4M nodes.img && mkfs.ext4 -q nodes.img && "
		 "printf 'cd /\\nmknod null c 1 3\\n' | "
		 "debugfs -w nodes.img >debugfs.log 2>&1"),
	     "an image with a device node");
	disk = add_image(kernel, "nodes.img", 0);
	root = mount_root(kernel, disk, "ext4", LKL_MS_RDONLY, NULL, path);
	is(lkl_sys_openat(kernel, root, "null", LKL_O_RDONLY, 0), -EACCES,
	   "it does not open");
	is(lkl_open_file(kernel, root, "null"), -EINVAL, "it is no file");
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
}

int main(int argc, char **argv)
{
	/* What mke2fs and mksquashfs take from a tree. */
	const unsigned packed = TREE_LINKS | TREE_NAMES | TREE_XATTRS |
				TREE_OWNERS | TREE_MODES | TREE_DEEP |
				TREE_HOLES | TREE_SECONDS;
	const unsigned plain = TREE_TIMES | TREE_DEEP;
	struct lkl_kernel *booted = boot(argv, 0);

	(void)argc;
	kernel = booted;
	scratch_begin(argv);
	test_errors();
	test_nodes();
	need(make_tree("tree", TREE_ALL), "a tree with everything");
	need(make_tree("packed", packed | TREE_TIMES), "one without devices");
	need(make_tree("plain", TREE_DEEP), "one of files and folders");

	need(run("truncate -s 100M ext4.img && "
		 "mkfs.ext4 -q -b 4096 -I 4096 -N 2000 "
		 "-d packed ext4.img"),
	     "mkfs.ext4");
	check_image("ext4.img", "ext4", "packed", packed);
	need(run("mkfs.btrfs -q --rootdir packed --shrink btrfs.img "
		 ">mkfs.log 2>&1"),
	     "mkfs.btrfs");
	check_image("btrfs.img", "btrfs", "packed", packed & ~TREE_HOLES);
	for (const char *const *method =
		 (const char *const[]){"gzip", "xz", "zstd", "lz4", "lzo",
				       NULL};
	     *method; method++) {
		char image[64];

		snprintf(image, sizeof(image), "squashfs-%s.img", *method);
		need(run("mksquashfs packed %s -quiet -no-progress -comp %s",
			 image, *method),
		     "mksquashfs -comp %s", *method);
		check_image(image, "squashfs", "packed", packed | TREE_ROOT);
	}

	need(run("truncate -s 100M ext4.img && mkfs.ext4 -q -b 4096 "
		 "-I 512 ext4.img"),
	     "mkfs.ext4, empty");
	check_filled("ext4.img", "ext4", "tree", TREE_ALL);
	need(run("truncate -s 400M xfs.img && mkfs.xfs -q xfs.img"),
	     "mkfs.xfs");
	check_filled("xfs.img", "xfs", "tree", TREE_ALL);
	need(run("truncate -s 200M btrfs.img && mkfs.btrfs -q btrfs.img "
		 ">mkfs.log 2>&1"),
	     "mkfs.btrfs, empty");
	check_filled("btrfs.img", "btrfs", "tree", TREE_ALL);
	need(run("truncate -s 100M vfat.img && mkfs.vfat vfat.img >mkfs.log"),
	     "mkfs.vfat");
	/* Times of two seconds, no owners, modes or links. */
	check_filled("vfat.img", "vfat", "plain", plain & ~TREE_TIMES);
	need(run("chmod -R u+rwx tree packed"), "cleaning up");
	is(lkl_halt(kernel), 0, "the kernel halts");
	lkl_destroy(kernel);
	return tap_end();
}
