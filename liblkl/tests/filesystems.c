// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Every file system that can be made here.  Those that Linux writes: made by
 * their own mkfs, filled by one kernel, checked by their own fsck, read by
 * another kernel.  Those that only their own tool writes: read.
 */
#include "content.h"
#include "scratch.h"

static const struct written {
	const char *type;
	const char *mkfs; /* %s: the image */
	const char *fsck; /* NULL: there is none that can be trusted */
	unsigned int megabytes;
	const char *options; /* for writing */
} written[] = {
    {"ext4", "mke2fs -q -F -t ext2 %s", "e2fsck -fn %s", 64, NULL},
    {"ext4", "mke2fs -q -F -t ext3 %s", "e2fsck -fn %s", 64, NULL},
    {"ext4", "mke2fs -q -F -t ext4 -O inline_data,bigalloc,metadata_csum %s",
     "e2fsck -fn %s", 64, NULL},
    {"xfs", "mkfs.xfs -q %s", "xfs_repair -n -f %s", 400, NULL},
    {"xfs", "mkfs.xfs -q -m crc=0 %s", "xfs_repair -n -f %s", 400, NULL},
    {"btrfs", "mkfs.btrfs -q %s", "btrfs check %s", 200, NULL},
    {"btrfs", "mkfs.btrfs -q %s", "btrfs check %s", 200, "compress-force=zstd"},
    {"btrfs", "mkfs.btrfs -q %s", "btrfs check %s", 200, "compress-force=lzo"},
    {"btrfs", "mkfs.btrfs -q --csum blake2 %s", "btrfs check %s", 200, NULL},
    {"f2fs", "mkfs.f2fs -q %s", "fsck.f2fs --dry-run %s", 100, NULL},
    {"jfs", "mkfs.jfs -q %s", "jfs_fsck -n -f %s", 64, NULL},
    {"reiserfs", "mkreiserfs -q -f -f %s", "reiserfsck -y -q --check %s", 64,
     NULL},
    {"nilfs2", "mkfs.nilfs2 -q %s", NULL, 160, NULL},
    {"vfat", "mkfs.vfat -F 32 %s", "fsck.vfat -n %s", 64, NULL},
    {"vfat", "mkfs.vfat -F 16 %s", "fsck.vfat -n %s", 64, NULL},
    {"exfat", "mkfs.exfat %s", "fsck.exfat -n %s", 64, NULL},
    {"ntfs3", "mkntfs -q -F %s", "ntfsfix -n %s", 64, NULL},
    {"hfs", "hformat %s", NULL, 64, NULL},
    {"udf", "mkudffs --utf8 %s", NULL, 64, NULL},
    {"minix", "mkfs.minix -3 %s", "fsck.minix -f %s", 32, NULL},
    {"bfs", "mkfs.bfs %s", NULL, 16, NULL},
};

static const struct {
	const char *type;
	const char *command; /* %s: folder and image, in the tool's order */
	bool image_first;
} made[] = {
    {"squashfs", "mksquashfs %s %s -comp gzip -no-progress", false},
    {"squashfs", "mksquashfs %s %s -comp lz4 -no-progress", false},
    {"squashfs", "mksquashfs %s %s -comp lzo -no-progress", false},
    {"squashfs", "mksquashfs %s %s -comp xz -no-progress", false},
    {"squashfs", "mksquashfs %s %s -comp xz -Xbcj x86,arm -no-progress", false},
    {"squashfs", "mksquashfs %s %s -comp zstd -no-progress", false},
    {"erofs", "mkfs.erofs %s %s", true},
    {"erofs", "mkfs.erofs -zlz4 %s %s", true},
    {"erofs", "mkfs.erofs -zlz4hc -C65536 %s %s", true},
    {"cramfs", "mkfs.cramfs %s %s", false},
    {"romfs", "genromfs -d %s -f %s", false},
    {"iso9660", "xorriso -as mkisofs -quiet -R %s -o %s", false},
    {"iso9660", "xorriso -as mkisofs -quiet -J %s -o %s", false},
    {"iso9660",
     "xorriso -outdev %2$s -map %1$s / -find / -type f "
     "-exec set_filter --zisofs --",
     false},
    {"hfsplus", "xorriso -as mkisofs -quiet -hfsplus %s -o %s", false},
    {"udf", "genisoimage -quiet -udf -o %s %s", true},
};

static bool quiet(const char *format, ...)
{
	char command[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(command, sizeof(command), format, arguments);
	va_end(arguments);
	if (run("{ %s; } >command.log 2>&1", command))
		return true;
	run("sed 's/^/# /' command.log");
	return false;
}

static void test_written(char **argv, const struct written *how)
{
	struct lkl_kernel *kernel = boot(argv, 0);
	struct scratch_disk scratch;
	char command[1024];
	char path[256];
	int root;

	snprintf(command, sizeof(command), how->mkfs, "disk.img");
	need(quiet("rm -f disk.img; truncate -s %uM disk.img && %s",
		   how->megabytes, command),
	     "made: %s", command);
	root =
	    mount_root(kernel, add_scratch(kernel, "disk.img", &scratch, true),
		       how->type, 0, how->options, path);
	is(write_files(kernel, root, NULL), FILES, "%s: files written",
	   how->type);
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "%s: unmount", how->type);
	is(lkl_halt(kernel), 0, "%s: halt", how->type);
	lkl_destroy(kernel);
	close(scratch.fd);

	if (how->fsck) {
		snprintf(command, sizeof(command), how->fsck, "disk.img");
		ok(quiet("%s", command), "%s: clean by %s", how->type, command);
	}

	kernel = boot(argv, 0);
	root = mount_root(kernel, add_image(kernel, "disk.img", 0), how->type,
			  LKL_MS_RDONLY, NULL, path);
	is(read_files(kernel, root), FILES, "%s: files read", how->type);
	lkl_destroy(kernel);
}

static void test_made(char **argv, size_t number)
{
	const char *type = made[number].type;
	bool first = made[number].image_first;
	struct lkl_kernel *kernel;
	char command[1024];
	char path[256];
	int root;

	snprintf(command, sizeof(command), made[number].command,
		 first ? "disk.img" : "tree", first ? "tree" : "disk.img");
	need(quiet("rm -f disk.img; %s", command), "made: %s", command);
	kernel = boot(argv, 0);
	root = mount_root(kernel, add_image(kernel, "disk.img", 0), type,
			  LKL_MS_RDONLY, NULL, path);
	is(read_files(kernel, root), FILES, "%s: files read", type);
	lkl_destroy(kernel);
}

int main(int argc, char **argv)
{
	(void)argc;
	scratch_begin(argv);
	need(run("mkdir tree") && make_host_files("tree"), "a tree");
	for (size_t i = 0; i < sizeof(made) / sizeof(*made); i++)
		test_made(argv, i);
	for (size_t i = 0; i < sizeof(written) / sizeof(*written); i++)
		test_written(argv, &written[i]);
	return tap_end();
}
