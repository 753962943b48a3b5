// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/* The bulk calls on a tree of the host; see host_syscalls.h. */
#define _GNU_SOURCE
#include "host_syscalls.h"
#include "scratch.h"
#include "tree.h"

#include <fcntl.h>

static struct lkl_kernel *const host = NULL;

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

/* ---- lkl_export -------------------------------------------------------- */

struct failures {
	unsigned count, host;
	char last[8192];
	char operation[32];
	int error;
};

static void count_failure(void *opaque, const char *path, size_t length,
			  const char *operation, int error, int of_host)
{
	struct failures *failures = opaque;

	failures->count++;
	failures->host += (unsigned)of_host;
	failures->error = error;
	snprintf(failures->last, sizeof(failures->last), "%.*s", (int)length,
		 path);
	snprintf(failures->operation, sizeof(failures->operation), "%s",
		 operation);
}

static int export_to(int root, const char *name, int out, const char *target,
		     uint32_t flags, struct failures *failures,
		     struct lkl_export_progress *done)
{
	const struct lkl_export request = {
	    .flags = flags,
	    .failed = count_failure,
	    .opaque = failures,
	};

	memset(failures, 0, sizeof(*failures));
	return lkl_export(host, root, name, out, target, &request, done);
}

#define WHOLE                                                                  \
	(LKL_EXPORT_XATTRS | LKL_EXPORT_SPECIAL |                              \
	 (geteuid() == 0 ? LKL_EXPORT_OWNER : 0))

static void test_export_whole(int root, int out, uint64_t entries)
{
	struct lkl_export_progress done;
	struct failures failures;

	is(export_to(root, "", out, "whole", WHOLE, &failures, &done), 0,
	   "the tree is exported");
	is(failures.count, 0, "without a failure (%s of %s)",
	   failures.operation, failures.last);
	is(done.errors, 0, "nor an error counted");
	is(done.entries, entries, "all entries");
	ok(same_tree("tree", "out/whole", TREE_ALL), "equal to the source");

	is(export_to(root, "", out, "whole", WHOLE, &failures, &done), 0,
	   "a second time");
	ok(failures.count == 1 && failures.error == -EEXIST && failures.host,
	   "it exists already");
	is(done.entries, 1, "nothing below is met");
	is(export_to(root, "", out, "whole", WHOLE | LKL_EXPORT_OVERWRITE,
		     &failures, &done),
	   0, "a third time, over it");
	is(failures.count, 0, "without a failure (%s of %s)",
	   failures.operation, failures.last);
	ok(same_tree("tree", "out/whole", TREE_ALL), "still equal");
	ok(line_of("find out -name '*.part' | head -1")[0] == '\0',
	   "no part file is left");
}

static void test_export_modest(int root, int out)
{
	struct lkl_export_progress done;
	struct failures failures;
	unsigned special = geteuid() == 0 ? 4 : 2;
	struct stat stat;

	is(export_to(root, "", out, "modest", 0, &failures, &done), 0,
	   "without owners, attributes, devices");
	is(failures.count, special, "devices are reported");
	is(done.errors, special, "and counted");
	ok(strcmp(failures.operation, "special") == 0, "as what they are");
	ok(!fstatat(out, "modest/text", &stat, 0) &&
	       (stat.st_mode & 07777) == 0755,
	   "no setuid bit without its owner");
}

static void test_export_one(int root, int out)
{
	struct lkl_export_progress done;
	struct failures failures;

	is(export_to(root, "large", out, "one", 0, &failures, &done), 0,
	   "a single file");
	ok(run("cmp tree/large out/one"), "is equal");
	is(done.entries, 1, "one entry");
	is(done.bytes, (9 << 20) + 7, "all bytes");
	export_to(root, "text", out, "one", 0, &failures, &done);
	ok(failures.error == -EEXIST && done.errors == 1, "it stays");
	ok(run("cmp tree/large out/one"), "as it is");
	export_to(root, "text", out, "one", LKL_EXPORT_OVERWRITE, &failures,
		  &done);
	ok(failures.count == 0 && run("cmp tree/text out/one"), "or not");
	export_to(root, "link", out, "one", LKL_EXPORT_OVERWRITE, &failures,
		  &done);
	ok(failures.count == 0 && run("test -L out/one"), "even by a link");
	is(export_to(root, "none", out, "none", 0, &failures, &done), -ENOENT,
	   "nothing to export");
	is(export_to(root, "text", out, "a/b", 0, &failures, &done), -EINVAL,
	   "a path is no name");
	is(export_to(root, "text", out, "..", 0, &failures, &done), -EINVAL,
	   "nor are dots");
	is(export_to(root, "text", out, ".", LKL_EXPORT_CONTENTS, &failures,
		     &done),
	   -ENOTDIR, "a file has no contents");
}

static void test_export_contents(int root, int out)
{
	struct lkl_export_progress done;
	struct failures failures;
	struct stat before, after;

	need(mkdirat(out, "mine", 0711) == 0 &&
		 !fstatat(out, "mine", &before, 0),
	     "a directory of the caller's");
	is(export_to(root, "", out, "mine", WHOLE | LKL_EXPORT_CONTENTS,
		     &failures, &done),
	   0, "is filled");
	is(failures.count, 0, "without a failure");
	ok(!fstatat(out, "mine", &after, 0) && before.st_mode == after.st_mode,
	   "and keeps its mode");
	ok(same_tree("tree/folder", "out/mine/folder", TREE_ALL & ~TREE_LINKS),
	   "the contents are equal");
	export_to(root, "", out, "mine", LKL_EXPORT_CONTENTS, &failures, &done);
	ok(failures.count > 5 && failures.error == -EEXIST,
	   "what exists is not touched");
}

/* Nothing of the host may lead the export elsewhere. */
static void test_export_traps(int root, int out)
{
	struct lkl_export_progress done;
	struct failures failures;
	char name[300];

	need(run("mkdir -p elsewhere out/trap && touch elsewhere/text && "
		 "ln -s ../../elsewhere out/trap/folder && "
		 "ln -s ../../elsewhere/text out/trap/text && "
		 "ln -s ../../elsewhere/4095 out/trap/4095.part"),
	     "links that lead elsewhere");
	is(export_to(root, "", out, "trap", LKL_EXPORT_OVERWRITE, &failures,
		     &done),
	   0, "exported over them");
	ok(run("test -z \"$(ls elsewhere | grep -v text)\" -a "
	       "! -s elsewhere/text"),
	   "nothing is written elsewhere");
	ok(run("test -f out/trap/text -a ! -L out/trap/text"),
	   "a link is replaced by the file");
	ok(run("test -L out/trap/folder"), "but not by a directory");
	ok(run("cmp tree/4095 out/trap/4095"), "a part's name may be taken");
	is(export_to(root, "", out, "elsewhere", LKL_EXPORT_OVERWRITE,
		     &failures, &done),
	   0, "beside it");

	memset(name, 'l', 255);
	name[255] = '\0';
	export_to(root, "text", out, name, 0, &failures, &done);
	is(failures.count, 0, "the longest name");
	memset(name, 'm', 256);
	name[256] = '\0';
	export_to(root, "text", out, name, 0, &failures, &done);
	is(failures.error, -ENAMETOOLONG, "a longer one");
	ok(line_of("find out -name '*.part' -type f | head -1")[0] == '\0',
	   "no part file is left");
}

static void test_export_rights(int root, int out)
{
	struct lkl_export_progress done;
	struct failures failures;

	(void)out;
	if (access("/proc/self/oom_score_adj", W_OK))
		return;
	/* A file system that refuses to create anything. */
	out = open("/proc/self", O_RDONLY | O_DIRECTORY);
	is(export_to(root, "text", out, "x", 0, &failures, &done), 0,
	   "to where nothing can be created");
	ok(failures.count == 1 && failures.host &&
	       strcmp(failures.operation, "create") == 0,
	   "is a failure of the host (%s)", lkl_errno_name(failures.error));
	close(out);
}

struct canceller {
	unsigned calls;
	struct lkl_export_progress last;
};

static int cancel_export(void *opaque, const struct lkl_export_progress *done)
{
	struct canceller *canceller = opaque;

	canceller->calls++;
	canceller->last = *done;
	return 1;
}

static void test_export_cancel(int root, int out)
{
	struct canceller canceller = {0};
	const struct lkl_export request = {
	    .progress = cancel_export,
	    .opaque = &canceller,
	};
	struct lkl_export_progress done;

	is(lkl_export(host, root, "", out, "cancelled", &request, &done),
	   -ECANCELED, "an export is cancelled");
	is(canceller.calls, 1, "at the first call");
	ok(line_of("find out/cancelled -name '*.part'")[0] == '\0',
	   "no part file is left");
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
	int root, out;

	(void)argc;
	scratch_begin(argv);
	need(make_tree("tree", TREE_ALL), "a tree with everything");
	root = open("tree", O_RDONLY | O_DIRECTORY);
	need(mkdir("out", 0755) == 0, "a place for copies");
	out = open("out", O_RDONLY | O_DIRECTORY);
	test_directory(root);
	test_walk(root, "tree");
	test_walk_moved();
	test_open(root);
	test_copy(root);
	test_xattrs(root);
	test_export_whole(root, out, count_below("tree"));
	test_export_modest(root, out);
	test_export_one(root, out);
	test_export_contents(root, out);
	test_export_traps(root, out);
	test_export_rights(root, out);
	test_export_cancel(root, out);
	close(root);
	close(out);
	return tap_end();
}
