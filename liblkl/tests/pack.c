// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Trees sent to a writer: all of it, what is wanted of it, and what is wrong
 * with it; see pack_extents.c for extents.
 */
#define _GNU_SOURCE
#include "import.h"
#include "machine.h"
#include "scratch.h"
#include "unpack.h"

#define MARK "find this data in the image"
#define BAD_SIZE (4 << 20)

static struct lkl_kernel *kernel;

static int pack(struct unpack *unpack, const struct lkl_pack *request, int root,
		const char *name, const char *target)
{
	return unpack_pack(unpack, kernel, request, root, name, target);
}

static int mount_image(const char *image, const char *type, int *disk,
		       char path[256])
{
	*disk = add_image(kernel, image, 0);
	return mount_root(kernel, *disk, type, LKL_MS_RDONLY, NULL, path);
}

static void unmount(int root, const char *path, int disk)
{
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
}

/* ---- All of it --------------------------------------------------------- */

/* Makes an image of the tree, through the kernel. */
static void make_image(const char *image, const char *type, const char *options,
		       unsigned kinds)
{
	struct scratch_disk scratch;
	char path[256];
	int disk, root;

	need(run("rm -f %s && truncate -s 400M %s && mkfs.%s -q %s %s "
		 ">mkfs.log 2>&1",
		 image, image, type, options, image),
	     "mkfs.%s", type);
	disk = add_scratch(kernel, image, &scratch, true);
	root = mount_root(kernel, disk, type, 0, NULL, path);
	need(import_tree(kernel, "tree", root, path, kinds), "filled");
	unmount(root, path, disk);
	close(scratch.fd);
}

static void check_whole(const char *image, const char *type)
{
	const struct lkl_pack request = {.flags = LKL_PACK_XATTRS};
	struct unpack unpack = {0};
	char path[256];
	int disk, root = mount_image(image, type, &disk, path);

	is(pack(&unpack, &request, root, "", ""), 0, "%s: packed", type);
	is(errors_of(&unpack), 0, "without an error");
	is(unpack.asked_modes, 1, "asked about the first directory only");
	is(unpack.asked_candidates, 0, "and for no entry");
	ok(unpack_write(&unpack, "out"), "written");
	ok(same_tree("tree", "out", TREE_ALL | TREE_ROOT),
	   "%s: the tree that went in", type);
	ok(find_node(&unpack, "sparse")->data < 1 << 20,
	   "of a file with holes its data was sent");
	unpack_free(&unpack);
	run("chmod -R u+rwx out; rm -rf out");

	is(pack(&unpack, &request, root, "folder", "renamed"), 0, "one folder");
	ok(find_node(&unpack, "renamed/inner/299") != NULL, "under its name");
	is(unpack.candidates, 1, "as the only candidate");
	unpack_free(&unpack);
	is(pack(&unpack, &request, root, "large", "one"), 0, "one file");
	is(unpack.count, 1, "is one entry");
	is(find_node(&unpack, "one")->data, (9 << 20) + 7, "with its bytes");
	unpack_free(&unpack);
	unmount(root, path, disk);
}

static void test_whole(void)
{
	need(make_tree("tree", TREE_ALL), "a tree");
	make_image("image", "ext4", "-b 4096 -I 512", TREE_ALL);
	check_whole("image", "ext4");
	make_image("image", "xfs", "", TREE_ALL);
	check_whole("image", "xfs");
	make_image("image", "btrfs", "", TREE_ALL);
	check_whole("image", "btrfs");
	run("chmod -R u+rwx tree; rm -rf tree image");
}

/* ---- What is wanted ---------------------------------------------------- */

static uint32_t mode_of(const char *path)
{
	if (strcmp(path, "free") == 0)
		return COPY_FREE;
	return strcmp(path, "unusable") == 0 ? COPY_UNUSABLE : COPY_ASK;
}

static bool is_wanted(const char *path, const struct copy_entry *entry)
{
	(void)entry;
	return !strstr(path, "not");
}

static uint32_t always_ask(const char *path)
{
	(void)path;
	return COPY_ASK;
}

static bool odd_only(const char *path, const struct copy_entry *entry)
{
	const char *name = strrchr(path, '/');

	return S_ISDIR(entry->stat.mode) || !name || atoi(name + 1) % 2;
}

static bool nothing(const char *path, const struct copy_entry *entry)
{
	(void)path;
	(void)entry;
	return false;
}

static int count_kind(const struct unpack *unpack, uint32_t kind)
{
	int count = 0;

	for (size_t i = 0; i < unpack->count; i++)
		count += unpack->nodes[i].kind == kind;
	return count;
}

static void test_wanted(void)
{
	const struct lkl_pack request = {0};
	const struct lkl_pack plan = {
	    .flags = LKL_PACK_PLAN | LKL_PACK_XATTRS,
	};
	struct unpack unpack = {.mode = mode_of, .wanted = is_wanted};
	char path[256];
	int disk, root;

	need(run("mkdir -p tree/free/notable tree/unusable/below tree/asked/on "
		 "tree/asked/not tree/many && cd tree && echo 1 > free/file && "
		 "echo 2 > unusable/file && echo 3 > unusable/below/file && "
		 "echo 4 > asked/file && echo 5 > asked/not/file && "
		 "echo 6 > asked/on/file && echo 7 > not && ln not linked && "
		 "ln -s file asked/link && ln not free/again && "
		 "cd many && mkdir `seq 300` && touch `seq 1001 3000` && cd .. "
		 "&& touch `seq -f 'many/%%g/1' 300` && cd .. && truncate -s "
		 "20M image && "
		 "mkfs.ext4 -q -d tree image"),
	     "an image");
	root = mount_image("image", "ext4", &disk, path);
	is(pack(&unpack, &request, root, "", ""), 0, "packed");
	ok(find_node(&unpack, "free/notable") &&
	       find_node(&unpack, "free/file"),
	   "nothing is asked where nothing stands");
	ok(find_node(&unpack, "asked/file") &&
	       find_node(&unpack, "asked/on/file") &&
	       find_node(&unpack, "asked/link"),
	   "what is wanted comes");
	ok(!find_node(&unpack, "asked/not") && !find_node(&unpack, "not") &&
	       !find_node(&unpack, "asked/not/file"),
	   "what is not does not");
	ok(find_node(&unpack, "unusable") &&
	       !find_node(&unpack, "unusable/file") &&
	       !find_node(&unpack, "unusable/below"),
	   "nothing comes below what cannot be used");
	ok(find_node(&unpack, "linked")->length == 2 &&
	       find_node(&unpack, "free/again")->entry.first ==
		   find_node(&unpack, "linked")->entry.number,
	   "the first link wanted has the content");
	is(unpack.asked_modes, 307, "a question for each directory");
	unpack_free(&unpack);

	unpack = (struct unpack){.mode = always_ask, .wanted = odd_only};
	is(pack(&unpack, &request, root, "many", "many"), 0, "packed");
	is(count_kind(&unpack, COPY_ENTER), 301, "all directories");
	is(count_kind(&unpack, COPY_ENTRY), 1300, "half of most files");
	is(unpack.candidates, 2601, "of all candidates");
	unpack_free(&unpack);

	unpack = (struct unpack){.mode = always_ask, .wanted = nothing};
	is(pack(&unpack, &request, root, "", ""), 0, "nothing is wanted");
	is(unpack.count, 1, "nothing comes");
	unpack_free(&unpack);
	unpack = (struct unpack){.wanted = nothing};
	is(pack(&unpack, &request, root, "many", "many"), 0, "nor is this");
	is(unpack.count, 0, "nothing at all");
	unpack_free(&unpack);

	is(pack(&unpack, &plan, root, "", ""), 0, "a plan");
	is(unpack.count, 1 + 9 + 300 + 2300 + 10, "of all (%d)",
	   (int)unpack.count);
	for (size_t i = 0; i < unpack.count; i++)
		if (!(unpack.nodes[i].entry.flags & COPY_PLAN) ||
		    unpack.nodes[i].length || unpack.nodes[i].xattrs ||
		    !unpack.nodes[i].entry.stat.mode)
			wrong(&unpack, "%s", unpack.nodes[i].path);
	ok(!unpack.problem[0], "without content");
	ok(find_node(&unpack, "not")->entry.stat.size == 2 &&
	       find_node(&unpack, "free/again")->entry.flags & COPY_LINKED,
	   "with sizes and links");
	unpack_free(&unpack);
	unmount(root, path, disk);
	run("rm -rf tree image");
}

/* ---- Links ------------------------------------------------------------- */

static bool is_file(struct unpack *unpack, const char *path,
		    const char *content)
{
	struct node *node = find_node(unpack, path);

	return ok(node && S_ISREG(node->entry.stat.mode) && !node->done.error &&
		      node->content &&
		      strcmp((char *)node->content, content) == 0,
		  "%s is the file", path);
}

static bool is_link(struct unpack *unpack, const char *path, const char *target)
{
	struct node *node = find_node(unpack, path);

	return ok(node && S_ISLNK(node->entry.stat.mode) && node->target &&
		      strcmp(node->target, target) == 0,
		  "%s stays a link", path);
}

static void test_links(void)
{
	struct lkl_pack request = {.flags = LKL_PACK_FOLLOW};
	struct unpack unpack = {0};
	char path[256];
	int disk, root;

	need(run("mkdir -p tree/a/b tree/etc tree/proc/self && cd tree && "
		 "printf inner > a/file && printf own > etc/passwd && "
		 "printf version > proc/version && "
		 "ln -s file a/near && ln -s ../file a/b/up && "
		 "ln -s /a/file absolute && ln -s near a/twice && "
		 "ln -s ../../../../../../etc/passwd a/out && "
		 "ln -s /etc/passwd passwd && ln -s a folder && "
		 "ln -s /proc/self/status magic && ln -s /proc/version procfs "
		 "&& ln -s nowhere dangling && ln -s loop loop && "
		 "ln -s a/b/../near dots && mkfifo fifo && ln -s fifo pipe && "
		 "ln a/file hard && ln -s hard soft && cd .. && "
		 "truncate -s 20M image && mkfs.ext4 -q -d tree image"),
	     "an image");
	root = mount_image("image", "ext4", &disk, path);
	request.root = root;
	is(pack(&unpack, &request, root, "", ""), 0, "packed");
	is_file(&unpack, "a/near", "inner");
	is_file(&unpack, "a/b/up", "inner");
	is_file(&unpack, "absolute", "inner");
	is_file(&unpack, "a/twice", "inner");
	is_file(&unpack, "a/out", "own");
	is_file(&unpack, "passwd", "own");
	is_file(&unpack, "procfs", "version");
	is_file(&unpack, "dots", "inner");
	is_file(&unpack, "soft", "inner");
	is_link(&unpack, "folder", "a");
	is_link(&unpack, "magic", "/proc/self/status");
	is_link(&unpack, "dangling", "nowhere");
	is_link(&unpack, "loop", "loop");
	is_link(&unpack, "pipe", "fifo");
	is(find_node(&unpack, "soft")->entry.first, 0,
	   "what was followed is no hard link");
	ok(!find_node(&unpack, "hard")->entry.first !=
	       !find_node(&unpack, "a/file")->entry.first,
	   "those that are still are");
	is(errors_of(&unpack), 0, "no error");
	unpack_free(&unpack);
	unpack.mode = always_ask;
	is(pack(&unpack, &request, root, "passwd", "x"), 0, "one link");
	is_file(&unpack, "x", "own");
	unpack_free(&unpack);
	request.flags = 0;
	is(pack(&unpack, &request, root, "", ""), 0, "packed");
	is_link(&unpack, "a/out", "../../../../../../etc/passwd");
	is_link(&unpack, "a/near", "file");
	unpack_free(&unpack);
	unmount(root, path, disk);
	run("rm -rf tree image");
}

/* ---- What cannot be read ----------------------------------------------- */

/* Where the file's data stands in the image, in a row. */
static uint64_t find_mark(int fd, uint64_t size)
{
	static char piece[1 << 20];

	for (uint64_t at = 0; at < size; at += sizeof(piece)) {
		ssize_t got = pread(fd, piece, sizeof(piece), (off_t)at);

		for (ssize_t i = 0; i + 512 <= got; i += 512)
			if (memcmp(piece + i, MARK, sizeof(MARK)) == 0)
				return at + (uint64_t)i;
	}
	return 0;
}

/* Whether it is the file on the host but for a range of zeros. */
static bool is_but_for(const struct node *node, const char *path, uint64_t from,
		       uint64_t to)
{
	static unsigned char bytes[BAD_SIZE];
	int fd = open(path, O_RDONLY);
	bool right = read(fd, bytes, BAD_SIZE) == BAD_SIZE;

	close(fd);
	memset(bytes + from, 0, to - from);
	return right && memcmp(bytes, node->content, BAD_SIZE) == 0;
}

static void set_bad(struct scratch_disk *scratch, uint64_t from, uint64_t to)
{
	__atomic_store_n(&scratch->fail_reads, 0, __ATOMIC_RELEASE);
	scratch->fail_from = from;
	scratch->fail_to = to;
	__atomic_store_n(&scratch->fail_reads, EIO, __ATOMIC_RELEASE);
}

static void check_bad(const char *type)
{
	/* In bytes of the file: what fails, in whole blocks. */
	static const uint32_t ranges[][2] = {
	    {0, 4096},		{2 << 20, (2 << 20) + 4096},
	    {12288, 20480},	{BAD_SIZE - 4096, BAD_SIZE},
	    {65536, 3 << 20},	{0, BAD_SIZE},
	    {1 << 20, 1114112}, {(1 << 20) - 4096, (1 << 20) + 4096},
	};
	struct lkl_pack request = {0};
	struct unpack unpack = {0};
	struct scratch_disk scratch;
	struct node *node;
	struct stat stat;
	char path[256];
	int disk = add_scratch(kernel, "image", &scratch, false);
	uint64_t start;
	int root;

	fstat(scratch.fd, &stat);
	start = find_mark(scratch.fd, (uint64_t)stat.st_size);
	need(start, "%s: the file is found in the image", type);
	root = mount_root(kernel, disk, type, LKL_MS_RDONLY, NULL, path);
	set_bad(&scratch, start + (2 << 20), start + (2 << 20) + 4096);
	is(pack(&unpack, &request, root, "", ""), 0, "%s: packed", type);
	node = find_node(&unpack, "bad");
	ok(node->done.error == -EIO && node->done.operation == COPY_READ,
	   "a file that cannot be read is an error");
	is(errors_of(&unpack), 1, "the only one");
	is_file(&unpack, "good", "well");
	unpack_free(&unpack);

	request.flags = LKL_PACK_HOLES;
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		uint32_t from = ranges[i][0], to = ranges[i][1];

		lkl_sys_close(kernel, root);
		is(lkl_umount(kernel, path), 0, "unmounted");
		scratch.fail_reads = 0;
		root =
		    mount_root(kernel, disk, type, LKL_MS_RDONLY, NULL, path);
		set_bad(&scratch, start + from, start + to);
		is(pack(&unpack, &request, root, "", ""), 0, "packed");
		node = find_node(&unpack, "bad");
		is(node->done.error, 0, "%s: sent to its end", type);
		ok(node->bads == 1 && node->bad_at == from &&
		       node->bad == to - from,
		   "bad are %u to %u (%u: %d from %d)", from, to, node->bads,
		   (int)node->bad, (int)node->bad_at);
		ok(is_but_for(node, "tree/bad", from, to), "all else is there");
		unpack_free(&unpack);
	}
	scratch.fail_reads = 0;
	unmount(root, path, disk);
	close(scratch.fd);
}

static void test_bad(void)
{
	need(run("mkdir tree && printf well > tree/good && "
		 "printf '%s' > tree/bad && "
		 "head -c %d /dev/urandom >> tree/bad && "
		 "truncate -s %d tree/bad && truncate -s 64M image && "
		 "mkfs.ext4 -q -b 4096 -d tree image",
		 MARK "\\0", BAD_SIZE, BAD_SIZE),
	     "an image with a file");
	check_bad("ext4");
	make_image("image", "xfs", "", 0);
	check_bad("xfs");
	run("rm -rf tree image");
}

/* Attributes and directories whose blocks cannot be read. */
static void test_metadata(void)
{
	const struct lkl_pack request = {.flags = LKL_PACK_XATTRS};
	struct unpack unpack = {0};
	struct scratch_disk scratch;
	struct node *node;
	char path[256];
	int disk, root;
	uint64_t block;
	static const char value[500] = "long";

	/* Attributes that the inode has no room for have a block; so has a
	 * directory. */
	need(run("mkdir -p tree/folder/sub && touch tree/folder/a "
		 "tree/folder/b && "
		 "printf text > tree/file") &&
		 setxattr("tree/file", "user.long", value, sizeof(value), 0) ==
		     0 &&
		 setxattr("tree/folder", "user.long", value, sizeof(value) - 1,
			  0) == 0 &&
		 run("truncate -s 20M image && mkfs.ext4 -q -b 4096 -O "
		     "^metadata_csum "
		     "-d tree image"),
	     "an image");
	disk = add_scratch(kernel, "image", &scratch, false);
	root = mount_root(kernel, disk, "ext4", LKL_MS_RDONLY, NULL, path);
	block = strtoull(line_of("debugfs -R 'stat file' image 2>/dev/null | "
				 "sed -n 's/.*File ACL: //p'"),
			 NULL, 10);
	need(block, "a block of attributes");
	set_bad(&scratch, block * 4096, block * 4096 + 4096);
	is(pack(&unpack, &request, root, "", ""), 0, "packed");
	node = find_node(&unpack, "file");
	ok(node->done.error == -EIO && node->done.operation == COPY_READ_XATTRS,
	   "attributes that cannot be read are told of");
	is_file(&unpack, "folder/a", "");
	ok(strcmp((char *)node->content, "text") == 0, "the content is there");
	unpack_free(&unpack);

	block = strtoull(line_of("debugfs -R 'stat folder' image 2>/dev/null | "
				 "sed -n 's/.*File ACL: //p'"),
			 NULL, 10);
	need(block, "those of a folder");
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	scratch.fail_reads = 0;
	root = mount_root(kernel, disk, "ext4", LKL_MS_RDONLY, NULL, path);
	set_bad(&scratch, block * 4096, block * 4096 + 4096);
	is(pack(&unpack, &request, root, "", ""), 0, "packed");
	node = find_node(&unpack, "folder");
	ok(node->broken.error == -EIO &&
	       node->broken.operation == COPY_READ_XATTRS,
	   "so are those of a folder");
	is_file(&unpack, "folder/b", "");
	unpack_free(&unpack);

	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	scratch.fail_reads = 0;
	root = mount_root(kernel, disk, "ext4", LKL_MS_RDONLY, NULL, path);
	block = strtoull(
	    line_of("debugfs -R 'blocks folder' image 2>/dev/null"), NULL, 10);
	need(block, "a block of a folder");
	set_bad(&scratch, block * 4096, block * 4096 + 4096);
	is(pack(&unpack, &request, root, "", ""), 0, "packed");
	node = find_node(&unpack, "folder");
	ok(node->broken.error < 0 && node->broken.operation == COPY_READ,
	   "a folder that cannot be read is told of (%s)",
	   lkl_errno_name(node->broken.error));
	is_file(&unpack, "file", "text");
	unpack_free(&unpack);
	unmount(root, path, disk);
	close(scratch.fd);
	run("rm -rf tree image");
}

/* Replaces bytes in the image wherever they stand. */
static int replace(const char *path, const char *from, const char *to,
		   size_t length)
{
	static char piece[8 << 20];
	int fd = open(path, O_RDWR);
	ssize_t got = read(fd, piece, sizeof(piece));
	int count = 0;

	for (ssize_t i = 0; i + (ssize_t)length <= got; i++)
		if (memcmp(piece + i, from, length) == 0 &&
		    pwrite(fd, to, length, i) == (ssize_t)length)
			count++;
	close(fd);
	return count;
}

static void test_hostile(void)
{
	const struct lkl_pack request = {.max_depth = 3};
	struct unpack unpack = {0};
	char path[256];
	int disk, root, loops = 0;

	need(run("mkdir -p tree/a/b/c tree/deep/1/2/3/4/5 tree/slashes && "
		 "touch tree/a/file tree/slashes/slaZsh && mkfifo tree/liar && "
		 "truncate -s 8M image && "
		 "mkfs.ext4 -q -O ^metadata_csum,^dir_index -d tree image && "
		 "printf 'ln /a /a/b/c/loop\\nln /a /again\\n' | "
		 "debugfs -w image >debugfs.log 2>&1"),
	     "an image with loops");
	need(replace("image", "slaZsh", "sla/sh", 6) > 0, "with a slash");
	need(replace("image", "\4\5liar", "\4\1liar", 6) > 0, "with a lie");
	root = mount_image("image", "ext4", &disk, path);
	is(pack(&unpack, &request, root, "", ""), 0, "packed");
	for (size_t i = 0; i < unpack.count; i++)
		loops += unpack.nodes[i].entry.error == -ELOOP;
	is(loops, 2, "both ways to a directory met before are refused");
	is(find_node(&unpack, "deep/1/2/3")->entry.error, -ENAMETOOLONG,
	   "so is what is too deep");
	ok(S_ISFIFO(find_node(&unpack, "liar")->entry.stat.mode),
	   "what lies is told of as what it is");
	ok(find_node(&unpack, "slashes")->broken.error ||
	       !find_node(&unpack, "slashes/sla/sh") ||
	       find_node(&unpack, "slashes/sla/sh")->kind == COPY_REFUSED,
	   "no name has a slash");
	unpack_free(&unpack);
	is(pack(&unpack, &request, root, "missing", "missing"), 0,
	   "what is not there");
	ok(unpack.count == 1 && unpack.nodes[0].kind == COPY_REFUSED &&
	       unpack.nodes[0].entry.error == -ENOENT &&
	       unpack.nodes[0].entry.reason == COPY_STAT,
	   "is refused");
	unpack_free(&unpack);
	is(pack(&unpack, &request, root, "liar", "a/b"), -EINVAL,
	   "a path is no target");
	unpack_free(&unpack);
	is(pack(&unpack, &request, root, "liar", ".."), -EINVAL, "nor is ..");
	unpack_free(&unpack);
	is(pack(&unpack, &request, root, "liar", ""), -ENOTDIR,
	   "a fifo has no contents");
	unpack_free(&unpack);
	unmount(root, path, disk);
	run("rm -rf tree image");
}

/* ---- Named streams ----------------------------------------------------- */

static int put_streams(void *opaque, struct lkl_packer *packer,
		       const struct lkl_stat *stat)
{
	char name[32];

	(void)opaque;
	if (stat->size == 3 || (stat->mode & 07777) == 0711)
		return -EBADMSG;
	if (lkl_pack_stream_bytes(packer, "x", 1) != -EINVAL ||
	    lkl_pack_stream(packer, "a/b") != -EINVAL)
		return -EIO;
	snprintf(name, sizeof(name), "mode %o", stat->mode & LKL_S_IFMT);
	lkl_pack_stream(packer, name);
	lkl_pack_stream_bytes(packer, "one, ", 5);
	lkl_pack_stream_bytes(packer, "two", 3);
	return lkl_pack_stream(packer, "empty");
}

static void test_streams(void)
{
	const struct lkl_pack request = {.extra = put_streams};
	struct unpack unpack = {0};
	struct node *node;
	char path[256];
	int disk, root;

	need(run("mkdir -p tree/folder && printf four > tree/folder/file && "
		 "printf bad > tree/bad && ln -s bad tree/link && "
		 "mkdir -m 711 tree/closed && "
		 "truncate -s 8M image && mkfs.ext4 -q -d tree image"),
	     "an image");
	root = mount_image("image", "ext4", &disk, path);
	is(pack(&unpack, &request, root, "", ""), 0, "packed");
	node = find_node(&unpack, "folder/file");
	ok(node->streams &&
	       strcmp(node->streams, "mode 100000=one, two;empty=") == 0,
	   "streams of a file");
	is_file(&unpack, "folder/file", "four");
	node = find_node(&unpack, "folder");
	ok(node->streams &&
	       strcmp(node->streams, "mode 40000=one, two;empty=") == 0,
	   "of a folder");
	node = find_node(&unpack, "bad");
	ok(!node->streams && node->done.error == -EBADMSG &&
	       node->done.operation == COPY_READ_STREAM && node->length == 3,
	   "those that cannot be read are told of");
	node = find_node(&unpack, "closed");
	ok(!node->streams && node->broken.error == -EBADMSG &&
	       node->broken.operation == COPY_READ_STREAM,
	   "those of a folder too");
	ok(!find_node(&unpack, "link")->streams, "links have none");
	unpack_free(&unpack);
	unmount(root, path, disk);
	run("rm -rf tree image");
}

/* ---- Ends before the end ----------------------------------------------- */

struct canceller {
	struct lkl_packer *packer;
	int root;
	bool listed;
};

/* While the packer's thread waits to send: list, then cancel. */
static void *cancel_later(void *opaque)
{
	struct canceller *canceller = opaque;
	static char records[65536] __attribute__((aligned(8)));
	int fd;

	usleep(200000);
	fd = (int)lkl_sys_openat(kernel, canceller->root, ".",
				 LKL_O_RDONLY | LKL_O_DIRECTORY, 0);
	canceller->listed =
	    lkl_read_directory(kernel, fd, records, sizeof(records)) > 0;
	lkl_sys_close(kernel, fd);
	lkl_pack_cancel(canceller->packer);
	return NULL;
}

static void check_blocked(int root)
{
	struct unpack unpack = {.stop_after = 1};
	struct lkl_pack request = {.disk = -1, .socket = unpack_begin(&unpack)};
	struct canceller canceller = {.root = root};
	pthread_t thread;

	need(lkl_pack_open(kernel, &request, &canceller.packer) == 0,
	     "a packer");
	/* The reader reads no more than the begin. */
	pthread_create(&thread, NULL, cancel_later, &canceller);
	is(lkl_pack_entry(canceller.packer, root, "", "all"), -ECANCELED,
	   "cancelled while it waited");
	pthread_join(thread, NULL);
	ok(canceller.listed, "which kept nobody from listing");
	is(lkl_pack_entry(canceller.packer, root, "", "all"), -ECANCELED,
	   "nothing can follow");
	is(lkl_pack_finish(canceller.packer, 0), -ECANCELED,
	   "not even its end");
	lkl_pack_close(canceller.packer);
	unpack_end(&unpack);
	unpack_free(&unpack);
}

static int cancel_at_once(void *opaque,
			  const struct lkl_pack_progress *progress)
{
	uint64_t *limit = opaque;

	return progress->bytes > *limit;
}

static void test_ends(void)
{
	static const struct copy_head other = {COPY_WANTED, 4};
	static const struct {
		struct copy_head head;
		uint32_t mode;
	} value = {{COPY_MODE, 4}, 3};
	static const struct copy_head length = {COPY_MODE, 1u << 30};
	uint64_t limit = 10 << 20;
	struct lkl_pack request = {0};
	struct unpack unpack = {0};
	char path[256];
	int disk, root;

	need(run("mkdir tree && cd tree && for i in `seq 20`; do "
		 "head -c 3000000 /dev/urandom > $i; done && cd .. && "
		 "truncate -s 100M image && mkfs.ext4 -q -d tree image"),
	     "an image");
	root = mount_image("image", "ext4", &disk, path);
	check_blocked(root);

	unpack = (struct unpack){.stop_after = 5000000, .close_then = true};
	is(pack(&unpack, &request, root, "", ""), -ECANCELED,
	   "nobody listens any more");
	unpack_free(&unpack);
	unpack = (struct unpack){.wrong = &other, .wrong_length = 8};
	is(pack(&unpack, &request, root, "", ""), -EPROTO, "another answer");
	unpack_free(&unpack);
	unpack = (struct unpack){.wrong = &value, .wrong_length = 12};
	is(pack(&unpack, &request, root, "", ""), -EPROTO, "a wrong answer");
	unpack_free(&unpack);
	unpack = (struct unpack){.wrong = &length, .wrong_length = 8};
	is(pack(&unpack, &request, root, "", ""), -EPROTO, "a long answer");
	unpack_free(&unpack);

	request.progress = cancel_at_once;
	request.opaque = &limit;
	unpack.pause = 10000;
	is(pack(&unpack, &request, root, "", ""), -ECANCELED, "cancelled");
	ok(unpack.finished && unpack.finish.error == -ECANCELED,
	   "which is told to the other side");
	unpack_free(&unpack);
	unmount(root, path, disk);
	is(lkl_halt(kernel), 0, "halted");
	request.progress = NULL;
	is(pack(&unpack, &request, root, "", ""), -EIO,
	   "nothing comes of a kernel that has ended");
	unpack_free(&unpack);
	run("rm -rf tree image");
}

int main(int argc, char **argv)
{
	(void)argc;
	kernel = boot(argv, 0);
	scratch_begin(argv);
	test_whole();
	test_wanted();
	test_links();
	test_bad();
	test_metadata();
	test_hostile();
	test_streams();
	test_ends();
	lkl_destroy(kernel);
	return tap_end();
}
