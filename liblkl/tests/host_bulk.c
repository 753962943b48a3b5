// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/* The bulk calls on a tree of the host; see host_syscalls.h. */
#define _GNU_SOURCE
#include "host_syscalls.h"
#include "scratch.h"
#include "tree.h"
#include "unpack.h"

#include <fcntl.h>

/* All that the bulk calls look at. */
static struct lkl_kernel running = {.state = LKL_STATE_RUNNING};
static struct lkl_kernel *const host = &running;

/* ---- lkl_read_directory ------------------------------------------------ */

/* Reads a directory through a buffer of that size: the entries, or an errno. */
static int64_t count_entries(int directory, size_t size)
{
	void *buffer = malloc(size);
	int64_t count = 0;
	int64_t got;

	lseek(directory, 0, SEEK_SET);
	while ((got = lkl_read_directory(host, directory, buffer, size)) > 0)
		for (int64_t at = 0; at < got; count++)
			at += ((struct lkl_entry *)((char *)buffer + at))
				  ->record_size;
	free(buffer);
	return got < 0 ? got : count;
}

/* Each record must be what lstat says, each name be there once. */
static void test_records(int root)
{
	size_t size = 1 << 20;
	char *buffer = malloc(size);
	int64_t got, wrong = 0, count = 0;
	char **names;
	size_t name_count;

	lseek(root, 0, SEEK_SET);
	got = lkl_read_directory(host, root, buffer, size);
	names = names_of(root, &name_count);
	for (int64_t at = 0; at < got; count++) {
		struct lkl_entry *record = (void *)(buffer + at);
		const char *name = (char *)(record + 1);
		struct stat stat;

		if (record->error || strlen(name) != record->name_length ||
		    fstatat(root, name, &stat, AT_SYMLINK_NOFOLLOW) ||
		    stat.st_ino != record->stat.inode ||
		    stat.st_mode != record->stat.mode ||
		    stat.st_size != (off_t)record->stat.size ||
		    stat.st_blocks != (blkcnt_t)record->stat.blocks ||
		    stat.st_nlink != record->stat.links ||
		    stat.st_uid != record->stat.uid ||
		    stat.st_mtim.tv_sec != record->stat.modify_seconds ||
		    stat.st_mtim.tv_nsec !=
			(long)record->stat.modify_nanoseconds ||
		    makedev(record->stat.special_major,
			    record->stat.special_minor) != stat.st_rdev ||
		    record->type != stat.st_mode >> 12)
			wrong++;
		at += record->record_size;
	}
	is(wrong, 0, "all records are what lstat says");
	is(count, name_count, "as many as there are names");
	for (size_t i = 0; i < name_count; i++)
		free(names[i]);
	free(names);
	free(buffer);
}

static void test_directory(int root)
{
	int inner = openat(root, "folder/inner", O_RDONLY | O_DIRECTORY);
	int file = openat(root, "text", O_RDONLY);
	char small[8] __attribute__((aligned(8)));

	test_records(root);
	is(count_entries(inner, 65536), 301, "301 entries");
	is(count_entries(inner, 1024), 301, "by a small buffer");
	is(count_entries(inner, 1 << 20), 301, "by a large buffer");
	is(count_entries(inner, 64), -EINVAL, "not by a tiny one");
	is(lkl_read_directory(host, inner, small + 1, 7), -EINVAL,
	   "nor by one that is not aligned");
	is(lkl_read_directory(host, file, small, 0), -ENOTDIR,
	   "a file is no directory");
	close(inner);
	close(file);
}

/* ---- lkl_walk ---------------------------------------------------------- */

struct walked {
	int64_t result;
	uint64_t entries, directories, errors;
	uint64_t bad; /* records that contradict earlier ones */
	int last_error;
	uint32_t depth;
	uint64_t names; /* sum of their hashes, whatever the order */
};

static uint64_t hash_of(const char *name, uint64_t hash)
{
	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
	return hash;
}

static struct walked walk(int directory, uint32_t max_depth, size_t size)
{
	struct walked walked = {0};
	uint32_t *depths = calloc(100000, sizeof(*depths));
	char *buffer = malloc(size);
	struct lkl_walk *state;
	int64_t got = lkl_walk_open(host, directory, max_depth, &state);

	walked.result = got;
	while (got >= 0 && (got = lkl_walk_read(state, buffer, size)) > 0) {
		for (int64_t at = 0; at < got;) {
			struct lkl_entry *record = (void *)(buffer + at);

			at += record->record_size;
			if (record->depth > walked.depth)
				walked.depth = record->depth;
			if (record->name_length == 0) {
				walked.errors++;
				walked.last_error = record->error;
				continue;
			}
			walked.entries++;
			walked.names +=
			    hash_of((char *)(record + 1), record->depth);
			/* The parent came before, one level up. */
			if (record->directory > walked.directories ||
			    record->depth != depths[record->directory] + 1)
				walked.bad++;
			if (!record->number)
				continue;
			if (record->number != ++walked.directories)
				walked.bad++;
			depths[record->number] = record->depth;
		}
	}
	if (walked.result == 0)
		lkl_walk_close(state);
	walked.result = got;
	free(buffer);
	free(depths);
	return walked;
}

static void test_walk(int root, const char *path)
{
	char command[256];
	struct walked whole = walk(root, 0, 1 << 20), other;
	int file = openat(root, "text", O_RDONLY);
	struct lkl_walk *state;

	snprintf(command, sizeof(command),
		 "find '%s' -mindepth 1 -printf 'x\\n' | wc -l", path);
	is(whole.result, 0, "the walk comes to its end");
	is(whole.entries, atoi(line_of(command)), "with as many as find(1)");
	snprintf(command, sizeof(command),
		 "find '%s' -mindepth 1 -type d | wc -l", path);
	is(whole.directories, atoi(line_of(command)), "and its directories");
	is(whole.bad + whole.errors, 0, "numbers and depths agree");
	is(whole.depth, TREE_DEPTH, "to the deepest");
	other = walk(root, 0, 4096);
	is(other.names, whole.names, "the same by a small buffer");
	is(other.bad, 0, "in the same order");
	is(walk(root, 0, 128).result, -EINVAL, "not by a tiny one");
	other = walk(root, 2, 65536);
	is(other.depth, 3, "entries of directories at most 2 deep");
	is(other.last_error, -ENAMETOOLONG, "deeper ones are refused");
	is(lkl_walk_open(host, file, 0, &state), -ENOTDIR,
	   "a file cannot be walked");
	close(file);
}

/* Changes on the way are met with errors, not with wrong places. */
static void test_walk_moved(void)
{
	size_t size = 65536;
	char *buffer = malloc(size);
	struct lkl_walk *state;
	int64_t got;
	int moved = 0, root;

	need(run("mkdir -p m/a m/b && touch m/a/x"), "a tree to be changed");
	root = open("m", O_RDONLY | O_DIRECTORY);
	is(lkl_walk_open(host, root, 0, &state), 0, "it is walked");
	/* Just enough for one: the directories are not entered yet. */
	for (int i = 0; i < 2; i++)
		is(lkl_walk_read(state, buffer, 320), 160, "a name is read");
	need(run("mv m/a m/c && ln -s /etc m/a && rmdir m/b"), "and changed");
	while ((got = lkl_walk_read(state, buffer, size)) > 0)
		for (int64_t at = 0; at < got;) {
			struct lkl_entry *record = (void *)(buffer + at);

			moved += record->name_length == 0 &&
				 (record->error == -ENOENT ||
				  record->error == -ENOTDIR ||
				  record->error == -ELOOP);
			at += record->record_size;
		}
	is(got, 0, "to its end");
	is(moved, 2, "each lost directory gives an error");
	lkl_walk_close(state);
	close(root);
	free(buffer);
}

/* ---- Files ------------------------------------------------------------- */

static void test_open(int root)
{
	char bytes[5000];
	int fd = lkl_open_file(host, root, "4097");

	ok(fd >= 0, "a file opens");
	is(lkl_read_file(host, fd, 0, bytes, sizeof(bytes)), 4097,
	   "and is read to its end");
	is(lkl_read_file(host, fd, 4090, bytes, 5), 5, "or a part of it");
	is(lkl_read_file(host, fd, 1 << 20, bytes, 5), 0, "or nothing beyond");
	is(lkl_read_file(host, fd, UINT64_MAX, bytes, 5), -EINVAL,
	   "offsets end somewhere");
	close(fd);
	is(lkl_open_file(host, root, "folder"), -EISDIR, "not a directory");
	is(lkl_open_file(host, root, "link"), -ELOOP, "not a link");
	is(lkl_open_file(host, root, "fifo"), -EINVAL, "not a fifo");
	is(lkl_open_file(host, root, "socket"), -EINVAL, "not a socket");
	if (geteuid() == 0)
		is(lkl_open_file(host, root, "device"), -EINVAL,
		   "not a device");
	is(lkl_open_file(host, root, "none"), -ENOENT, "not nothing");
}

static int cancel(void *opaque, uint64_t bytes)
{
	*(uint64_t *)opaque = bytes;
	return 1;
}

static void test_copy(int root)
{
	uint64_t told = 0;
	int host_error;
	int fd = openat(root, "large", O_RDONLY);
	int sparse = openat(root, "sparse", O_RDONLY);
	int out = open("copy", O_RDWR | O_CREAT, 0600);
	int full = open("/dev/full", O_WRONLY);
	struct stat stat;

	is(lkl_copy_file(host, fd, 0, UINT64_MAX, out, 0, NULL, NULL,
			 &host_error),
	   (9 << 20) + 7, "a file is copied");
	lseek(fd, 0, SEEK_SET);
	lseek(out, 0, SEEK_SET);
	ok(same_bytes(fd, out), "byte by byte");
	is(lkl_copy_file(host, fd, 8 << 20, 1000, out, 0, NULL, NULL,
			 &host_error),
	   1000, "a part is added");
	is(lseek(out, 0, SEEK_CUR), (9 << 20) + 1007, "at the position");
	is(lkl_copy_file(host, fd, 10 << 20, 1000, out, 0, NULL, NULL,
			 &host_error),
	   0, "nothing from beyond the end");
	is(lkl_copy_file(host, fd, 0, UINT64_MAX, out, 0, cancel, &told,
			 &host_error),
	   -ECANCELED, "cancelled");
	ok(told > 0 && told < 9 << 20 && !host_error, "after the first piece");
	is(lkl_copy_file(host, fd, 0, UINT64_MAX, full, 0, NULL, NULL,
			 &host_error),
	   -ENOSPC, "a full target");
	is(host_error, 1, "is the host's error");
	is(lkl_copy_file(host, -1, 0, UINT64_MAX, out, 0, NULL, NULL,
			 &host_error),
	   -EBADF, "a bad source");
	is(host_error, 0, "is the kernel's");

	need(ftruncate(out, 0) == 0 && lseek(out, 0, SEEK_SET) == 0, "anew");
	is(lkl_copy_file(host, sparse, 0, UINT64_MAX, out, LKL_COPY_SPARSE,
			 NULL, NULL, &host_error),
	   50 << 20, "a file with holes");
	fstat(out, &stat);
	is(stat.st_size, 50 << 20, "has its size");
	ok(stat.st_blocks < 1000, "and its holes (%ld blocks)",
	   (long)stat.st_blocks);
	lseek(sparse, 0, SEEK_SET);
	lseek(out, 0, SEEK_SET);
	ok(same_bytes(sparse, out), "and its bytes");
	need(ftruncate(out, 0) == 0 && lseek(out, 0, SEEK_SET) == 0, "anew");
	is(lkl_copy_file(host, sparse, 4000, 25 << 20, out, 0, NULL, NULL,
			 &host_error),
	   25 << 20, "a part of it without holes");
	is(lseek(out, 0, SEEK_END), 25 << 20, "is written whole");
	close(fd);
	close(sparse);
	close(out);
	close(full);
}

/* ---- Attributes -------------------------------------------------------- */

/* The value of an attribute in lkl_read_xattrs' records, or NULL. */
static const unsigned char *find_xattr(const unsigned char *records,
				       int64_t size, const char *name,
				       uint32_t *length)
{
	for (int64_t at = 0; at < size;) {
		uint32_t lengths[2];

		memcpy(lengths, records + at, sizeof(lengths));
		*length = lengths[1];
		if (lengths[0] == strlen(name) &&
		    memcmp(records + at + 8, name, lengths[0]) == 0)
			return records + at + 8 + lengths[0];
		at += (8 + lengths[0] + lengths[1] + 7) & ~7u;
	}
	return NULL;
}

static void test_xattrs(int root)
{
	static unsigned char records[512 << 10];
	const unsigned char *value;
	uint32_t length = 0;
	int folder = openat(root, "folder", O_RDONLY | O_DIRECTORY);
	int64_t got =
	    lkl_read_xattrs(host, root, "text", records, sizeof(records));

	value = find_xattr(records, got, "user.one", &length);
	ok(value && length == 1 && *value == '1', "an attribute");
	ok(find_xattr(records, got, "user.empty", &length) && length == 0,
	   "an empty one");
	value = find_xattr(records, got, "user.\xff", &length);
	ok(value && length == 3 && memcmp(value, "\0\1\2", 3) == 0,
	   "one of other bytes");
	is(lkl_read_xattrs(host, root, "text", records, 20), -ERANGE,
	   "a small buffer is told");
	got = lkl_read_xattrs(host, root, "large", records, sizeof(records));
	ok(find_xattr(records, got, "user.large", &length) && length == 2000,
	   "a large one");
	got = lkl_read_xattrs(host, folder, "", records, sizeof(records));
	value = find_xattr(records, got, "user.of", &length);
	ok(value && length == 6 && memcmp(value, "folder", 6) == 0,
	   "a directory's by its handle");
	got = lkl_read_xattrs(host, root, "link", records, sizeof(records));
	ok(got >= 0 && !find_xattr(records, got, "user.one", &length),
	   "a link has its own");
	ok(lkl_read_xattrs(host, root, "fifo", records, sizeof(records)) >= 0,
	   "a fifo is not waited for");
	is(lkl_read_xattrs(host, root, "none", records, sizeof(records)),
	   -ENOENT, "nothing has none");
	close(folder);
}

/* ---- lkl_pack ---------------------------------------------------------- */

static int pack(struct unpack *unpack, int root, const char *name,
		const char *target)
{
	const struct lkl_pack request = {.flags = LKL_PACK_XATTRS};

	return unpack_pack(unpack, host, &request, root, name, target);
}

static void test_pack_whole(int root, uint64_t entries)
{
	struct unpack unpack = {0};

	is(pack(&unpack, root, "", "whole"), 0, "the tree is packed");
	is(errors_of(&unpack), 0, "without an error");
	is(unpack.count, entries, "all entries");
	ok(find_node(&unpack, "whole/sparse")->data < 1 << 20,
	   "of a file with holes its data was sent");
	unpack_free(&unpack);
	is(pack(&unpack, root, "", ""), 0, "its contents");
	is(unpack.count, entries, "and itself");
	ok(unpack_write(&unpack, "whole"), "written");
	ok(same_tree("tree", "whole", TREE_ALL | TREE_ROOT),
	   "equal to the source");
	unpack_free(&unpack);
}

static void test_pack_one(int root)
{
	struct unpack unpack = {0};
	struct node *node;
	char name[257];

	is(pack(&unpack, root, "large", "one"), 0, "a single file");
	is(unpack.count, 1, "is one entry");
	node = find_node(&unpack, "one");
	is(node->length, (9 << 20) + 7, "with all bytes");
	unpack_free(&unpack);
	is(pack(&unpack, root, "link", "one"), 0, "a link");
	ok(find_node(&unpack, "one")->target != NULL, "is not followed");
	unpack_free(&unpack);
	is(pack(&unpack, root, "none", "none"), 0, "what is not there");
	ok(unpack.count == 1 && unpack.nodes[0].kind == COPY_REFUSED &&
	       unpack.nodes[0].entry.error == -ENOENT,
	   "is refused");
	unpack_free(&unpack);
	is(pack(&unpack, root, "text", "a/b"), -EINVAL, "a path is no name");
	unpack_free(&unpack);
	is(pack(&unpack, root, "text", ".."), -EINVAL, "nor are dots");
	unpack_free(&unpack);
	is(pack(&unpack, root, "text", ""), -ENOTDIR, "a file has no contents");
	unpack_free(&unpack);
	memset(name, 'l', 255);
	name[255] = '\0';
	is(pack(&unpack, root, "text", name), 0, "the longest name");
	ok(unpack.count == 1 && unpack.nodes[0].entry.name_length == 255,
	   "is sent as it is");
	unpack_free(&unpack);
}

static int cancel_pack(void *opaque, const struct lkl_pack_progress *done)
{
	unsigned *calls = opaque;

	(void)done;
	++*calls;
	return 1;
}

static void test_pack_cancel(int root)
{
	unsigned calls = 0;
	const struct lkl_pack request = {
	    .progress = cancel_pack,
	    .opaque = &calls,
	};
	struct unpack unpack = {0};

	is(unpack_pack(&unpack, host, &request, root, "", "x"), -ECANCELED,
	   "a packing is cancelled");
	is(calls, 1, "at the first call");
	ok(unpack.finished && unpack.finish.error == -ECANCELED,
	   "which the other side is told");
	unpack_free(&unpack);
}

static uint64_t count_below(const char *path)
{
	char command[256];

	snprintf(command, sizeof(command), "find '%s' -printf 'x\\n' | wc -l",
		 path);
	return (uint64_t)atoll(line_of(command));
}

int main(int argc, char **argv)
{
	int root;

	(void)argc;
	scratch_begin(argv);
	need(make_tree("tree", TREE_ALL), "a tree with everything");
	root = open("tree", O_RDONLY | O_DIRECTORY);
	test_directory(root);
	test_walk(root, "tree");
	test_walk_moved();
	test_open(root);
	test_copy(root);
	test_xattrs(root);
	test_pack_whole(root, count_below("tree"));
	test_pack_one(root);
	test_pack_cancel(root);
	close(root);
	return tap_end();
}
