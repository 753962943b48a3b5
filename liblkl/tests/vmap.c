// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * File systems that map scattered pages as one piece, which a kernel without
 * an MMU has to do in another way (arch/lkl/mm/vmap.c): F2FS, NTFS and EROFS
 * for compressed files, XFS for directory blocks beyond a page.  A mapping that
 * is a copy and not an alias loses data here without any error: F2FS maps its
 * pages before they are read, NTFS reads plain frames past the mapping.
 */
#include "content.h"
#include "scratch.h"

#define NAMES 6000
/* Little, so that free pages are soon scattered. */
#define MEMORY (64u << 20)

/* How many of the files take less room than their size. */
static unsigned int compressed_files(struct lkl_kernel *kernel, int root)
{
	struct lkl_statx statx;
	unsigned int count = 0;

	for (unsigned int file = 0; file < FILES; file++)
		if (lkl_sys_statx(kernel, root, name_of(file), 0,
				  LKL_STATX_BASIC_STATS, &statx) == 0)
			count += statx.stx_blocks * 512 < FILE_SIZE;
	return count;
}

/* F2FS reports a file's size as if it were not compressed; this asks. */
static unsigned int f2fs_compressed_files(struct lkl_kernel *kernel, int root)
{
	const uint32_t get_compress_blocks = 0x8008f511;
	unsigned int count = 0;

	for (unsigned int file = 0; file < FILES; file++) {
		uint64_t saved = 0;
		int fd = lkl_open_file(kernel, root, name_of(file));

		if (fd < 0)
			continue;
		if (lkl_sys_ioctl(kernel, fd, get_compress_blocks, &saved) == 0)
			count += saved > 0;
		lkl_sys_close(kernel, fd);
	}
	return count;
}

static void test_f2fs(char **argv, const char *algorithm)
{
	struct lkl_kernel *kernel = boot(argv, MEMORY);
	struct scratch_disk scratch;
	char options[128];
	char path[256];
	int root;

	need(run("rm -f f2fs.img; truncate -s 160M f2fs.img && mkfs.f2fs -q -O "
		 "extra_attr,inode_checksum,sb_checksum,compression f2fs.img "
		 ">/dev/null"),
	     "an image of F2FS");
	snprintf(options, sizeof(options),
		 "compress_algorithm=%s,compress_extension=*", algorithm);
	root =
	    mount_root(kernel, add_scratch(kernel, "f2fs.img", &scratch, true),
		       "f2fs", 0, options, path);
	is(write_files(kernel, root, NULL), FILES, "F2FS %s: files written",
	   algorithm);
	is(f2fs_compressed_files(kernel, root), FILES,
	   "F2FS %s: they are compressed", algorithm);
	lkl_sys_close(kernel, root);
	is(lkl_halt(kernel), 0, "F2FS %s: halt", algorithm);
	lkl_destroy(kernel);
	close(scratch.fd);

	kernel = boot(argv, MEMORY);
	root = mount_root(kernel, add_image(kernel, "f2fs.img", 0), "f2fs",
			  LKL_MS_RDONLY, NULL, path);
	if (!is(read_files(kernel, root), FILES, "F2FS %s: files read",
		algorithm))
		show_log(kernel);
	lkl_destroy(kernel);
}

static void test_ntfs(char **argv)
{
	const unsigned char compressed[4] = {0x20, 0x08, 0, 0};
	struct lkl_kernel *kernel = boot(argv, MEMORY);
	struct scratch_disk scratch;
	unsigned int right = 0;
	char path[256];
	int root;

	need(run("truncate -s 64M ntfs.img && mkntfs -q -F -C ntfs.img "
		 ">/dev/null 2>&1"),
	     "an image of NTFS");
	root =
	    mount_root(kernel, add_scratch(kernel, "ntfs.img", &scratch, true),
		       "ntfs3", 0, NULL, path);
	is(write_files(kernel, root, compressed), FILES, "NTFS: files written");
	is(compressed_files(kernel, root), FILES, "NTFS: they are compressed");
	lkl_sys_close(kernel, root);
	is(lkl_halt(kernel), 0, "NTFS: halt");
	lkl_destroy(kernel);
	close(scratch.fd);

	kernel = boot(argv, MEMORY);
	root = mount_root(kernel, add_image(kernel, "ntfs.img", 0), "ntfs3",
			  LKL_MS_RDONLY, NULL, path);
	is(read_files(kernel, root), FILES, "NTFS: files read");
	lkl_destroy(kernel);

	/* Another reader, so that the two errors of one do not cancel out. */
	need(run("mkdir wanted") && make_host_files("wanted"),
	     "what the files should hold");
	for (unsigned int file = 0; file < FILES; file++) {
		const char *name = name_of(file);

		right += run("ntfscat -f ntfs.img '%s' 2>/dev/null | "
			     "cmp -s - 'wanted/%s'",
			     name, name);
	}
	is(right, FILES, "NTFS: ntfscat reads the same");
}

static void test_erofs(char **argv)
{
	struct lkl_kernel *kernel = boot(argv, MEMORY);
	char path[256];
	int root;

	need(run("mkdir tree") && make_host_files("tree"), "a tree");
	need(run("mkfs.erofs -zlz4hc -C65536 erofs.img tree >/dev/null 2>&1"),
	     "an image of EROFS");
	root = mount_root(kernel, add_image(kernel, "erofs.img", 0), "erofs",
			  LKL_MS_RDONLY, NULL, path);
	is(read_files(kernel, root), FILES, "EROFS: files read");
	lkl_destroy(kernel);
}

static unsigned int count_names(struct lkl_kernel *kernel, int directory)
{
	static char buffer[256u << 10] __attribute__((aligned(8)));
	static bool seen[NAMES];
	unsigned int count = 0;
	int64_t filled;

	memset(seen, 0, sizeof(seen));
	while ((filled = lkl_read_directory(kernel, directory, buffer,
					    sizeof(buffer))) > 0) {
		for (char *at = buffer; at < buffer + filled;) {
			struct lkl_entry *entry = (struct lkl_entry *)at;
			unsigned int number;

			if (sscanf((char *)(entry + 1), "a-long-name-%u",
				   &number) == 1 &&
			    number < NAMES && !seen[number]) {
				seen[number] = true;
				count++;
			}
			at += entry->record_size;
		}
	}
	return count;
}

static void test_xfs(char **argv)
{
	struct lkl_kernel *kernel = boot(argv, MEMORY);
	struct scratch_disk scratch;
	unsigned int made = 0;
	char path[256];
	int root;

	need(run("truncate -s 400M xfs.img && mkfs.xfs -q -n size=64k xfs.img"),
	     "an image of XFS with directory blocks of 64 KiB");
	root =
	    mount_root(kernel, add_scratch(kernel, "xfs.img", &scratch, true),
		       "xfs", 0, NULL, path);
	for (unsigned int number = 0; number < NAMES; number++) {
		char name[64];

		snprintf(name, sizeof(name), "a-long-name-%u-%.*s", number,
			 (int)(number % 32),
			 "0123456789abcdef0123456789abcdef");
		made += lkl_sys_mknodat(kernel, root, name, LKL_S_IFREG | 0600,
					0) == 0;
	}
	is(made, NAMES, "XFS: names made");
	lkl_sys_close(kernel, root);
	is(lkl_halt(kernel), 0, "XFS: halt");
	lkl_destroy(kernel);
	close(scratch.fd);
	ok(run("xfs_repair -n -f xfs.img >repair.log 2>&1"),
	   "XFS: xfs_repair finds nothing");

	kernel = boot(argv, MEMORY);
	root = mount_root(kernel, add_image(kernel, "xfs.img", 0), "xfs",
			  LKL_MS_RDONLY, NULL, path);
	is(count_names(kernel, root), NAMES, "XFS: names listed");
	lkl_destroy(kernel);
}

int main(int argc, char **argv)
{
	(void)argc;
	scratch_begin(argv);
	test_f2fs(argv, "lz4");
	test_f2fs(argv, "zstd");
	test_ntfs(argv);
	test_erofs(argv);
	test_xfs(argv);
	return tap_end();
}
