// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * File systems that map scattered pages as one piece, which a kernel without
 * an MMU has to do in another way (arch/lkl/mm/vmap.c): F2FS, NTFS and EROFS
 * for compressed files, XFS for directory blocks beyond a page.  A mapping that
 * is a copy and not an alias loses data here without any error: F2FS maps its
 * pages before they are read, NTFS reads plain frames past the mapping.
 */
#include "machine.h"
#include "scratch.h"

#define FILES 24
#define FILE_SIZE (384u << 10)
/* Frames of 64 KiB: as it is, compressible, empty, mixed, in turn. */
#define FRAME (64u << 10)
#define NAMES 6000
/* Little, so that free pages are soon scattered. */
#define MEMORY (64u << 20)

static unsigned char content[FILE_SIZE];

static void make_content(unsigned int file)
{
	uint64_t state = file * UINT64_C(0x9e3779b97f4a7c15) + 1;

	for (size_t i = 0; i < FILE_SIZE; i++) {
		unsigned int kind = (unsigned int)(i / FRAME + file) % 4;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		if (kind == 0 || (kind == 3 && i / 4096 % 2))
			content[i] = (unsigned char)(state >> 24);
		else if (kind == 2)
			content[i] = 0;
		else
			content[i] = "the same few words, "[(i + file) % 20];
	}
}

static const char *name_of(unsigned int file)
{
	static char name[32];

	snprintf(name, sizeof(name), "file-%u", file);
	return name;
}

static bool write_file(struct lkl_kernel *kernel, int root, unsigned int file,
		       const void *attributes)
{
	int64_t fd = lkl_sys_openat(kernel, root, name_of(file),
				    LKL_O_CREAT | LKL_O_RDWR, 0644);
	int64_t put = -1;

	if (fd < 0)
		return false;
	if (attributes &&
	    lkl_syscall(kernel, 7 /* fsetxattr */,
			(int64_t[6]){fd, (intptr_t) "system.ntfs_attrib",
				     (intptr_t)attributes, 4, 0, 0}) < 0) {
		lkl_sys_close(kernel, (int)fd);
		return false;
	}
	make_content(file);
	put = lkl_sys_write(kernel, (int)fd, content, FILE_SIZE);
	if (lkl_sys_fsync(kernel, (int)fd) < 0)
		put = -1;
	lkl_sys_close(kernel, (int)fd);
	return put == FILE_SIZE;
}

static unsigned int write_files(struct lkl_kernel *kernel, int root,
				const void *attributes)
{
	unsigned int written = 0;

	for (unsigned int file = 0; file < FILES; file++)
		written += write_file(kernel, root, file, attributes);
	return written;
}

/*
 * Reads every file, in pieces from the end to the start so that the pages of
 * one cluster come to memory in no order; returns how many are right.
 */
static unsigned int read_files(struct lkl_kernel *kernel, int root)
{
	static unsigned char got[FILE_SIZE];
	const size_t piece = 20u << 10;
	unsigned int right = 0;

	for (unsigned int file = 0; file < FILES; file++) {
		int fd = lkl_open_file(kernel, root, name_of(file));
		size_t offset = FILE_SIZE;

		if (fd < 0)
			continue;
		memset(got, 0xee, sizeof(got));
		while (offset) {
			size_t length = offset % piece ? offset % piece : piece;

			offset -= length;
			if (lkl_read_file(kernel, fd, offset, got + offset,
					  length) != (int64_t)length)
				break;
		}
		make_content(file);
		if (memcmp(got, content, FILE_SIZE) == 0)
			right++;
		else
			printf("# %s differs\n", name_of(file));
		lkl_sys_close(kernel, fd);
	}
	return right;
}

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
	for (unsigned int file = 0; file < FILES; file++) {
		FILE *wanted = fopen("wanted", "wb");

		make_content(file);
		need(wanted && fwrite(content, FILE_SIZE, 1, wanted) == 1 &&
			 fclose(wanted) == 0,
		     "what file %u should hold", file);
		right += run("ntfscat -f ntfs.img '%s' 2>/dev/null | "
			     "cmp -s - wanted",
			     name_of(file));
	}
	is(right, FILES, "NTFS: ntfscat reads the same");
}

static void test_erofs(char **argv)
{
	struct lkl_kernel *kernel = boot(argv, MEMORY);
	char path[256];
	int root;

	need(run("mkdir tree"), "a tree");
	for (unsigned int file = 0; file < FILES; file++) {
		char name[64];
		FILE *stream;

		snprintf(name, sizeof(name), "tree/%s", name_of(file));
		stream = fopen(name, "wb");
		make_content(file);
		need(stream && fwrite(content, FILE_SIZE, 1, stream) == 1 &&
			 fclose(stream) == 0,
		     "%s", name);
	}
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
