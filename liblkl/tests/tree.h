/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trees on the host: one with everything that a file system can hold, and the
 * comparison of two of them.
 */
#ifndef TREE_H
#define TREE_H

#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

/* What a tree is made of, and what of it is compared. */
#define TREE_LINKS 0x1	  /* symbolic and hard links */
#define TREE_NAMES 0x2	  /* names that are no text */
#define TREE_SPECIAL 0x4  /* devices (as root), fifos, sockets */
#define TREE_XATTRS 0x8	  /* attributes of users, and of root as root */
#define TREE_OWNERS 0x10  /* as root */
#define TREE_MODES 0x20	  /* and setuid bits */
#define TREE_TIMES 0x40	  /* to the nanosecond */
#define TREE_SECONDS 0x80 /* compared: only to the second */
#define TREE_HOLES 0x100
#define TREE_DEEP 0x200 /* deeper than directories are kept open */
#define TREE_ROOT 0x400 /* compared: the folder itself */
#define TREE_ALL 0x77f

#define TREE_DEPTH 80

/* ---- Making one -------------------------------------------------------- */

/* Bytes that differ from file to file and do not compress to nothing. */
__attribute__((unused)) static void fill(unsigned char *bytes, size_t length,
					 uint64_t seed)
{
	uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;

	for (size_t i = 0; i < length; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		bytes[i] = (unsigned char)(state >> 24);
	}
}

__attribute__((unused)) static bool make_file(int directory, const char *name,
					      size_t length, uint64_t seed)
{
	int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	unsigned char *bytes = malloc(length + 1);
	bool made;

	fill(bytes, length, seed);
	made = fd >= 0 && write(fd, bytes, length) == (ssize_t)length;
	free(bytes);
	if (fd >= 0)
		close(fd);
	return made;
}

/* Data at the start, in the middle, and a hole at the end. */
static bool make_sparse(int directory, const char *name)
{
	static const char data[5000] = {1, 2, 3};
	int fd = openat(directory, name, O_WRONLY | O_CREAT, 0644);
	bool made = fd >= 0 && write(fd, data, sizeof(data)) > 0 &&
		    pwrite(fd, data, sizeof(data), 20 << 20) > 0 &&
		    ftruncate(fd, 50 << 20) == 0;

	if (fd >= 0)
		close(fd);
	return made;
}

static bool make_socket(int directory, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	bool made;

	snprintf(address.sun_path, sizeof(address.sun_path),
		 "/proc/self/fd/%d/%s", directory, name);
	made = fd >= 0 &&
	       bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	if (fd >= 0)
		close(fd);
	return made;
}

static bool make_links(int root)
{
	char target[901];

	memset(target, 'x', sizeof(target) - 1);
	target[sizeof(target) - 1] = '\0';
	return symlinkat("text", root, "link") == 0 &&
	       symlinkat("/etc/passwd", root, "absolute") == 0 &&
	       symlinkat("folder", root, "link to folder") == 0 &&
	       symlinkat("nowhere/at all", root, "dangling") == 0 &&
	       symlinkat(target, root, "long") == 0 &&
	       linkat(root, "large", root, "large again", 0) == 0 &&
	       linkat(root, "large", root, "folder/inner/large", 0) == 0 &&
	       linkat(root, "folder/file", root, "empty file too", 0) == 0;
}

static bool make_names(int root)
{
	char name[256];

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	return make_file(root, name, 10, 11) &&
	       make_file(root, "new\nline", 20, 12) &&
	       make_file(root, "no \xff\xfe text", 30, 13) &&
	       make_file(root, "\xc3\xa4\xe2\x82\xac", 40, 14) &&
	       make_file(root, "back\\slash", 50, 15);
}

static bool set_xattr(int root, const char *path, const char *name,
		      const char *value, size_t size)
{
	char full[512];

	snprintf(full, sizeof(full), "/proc/self/fd/%d/%s", root, path);
	return lsetxattr(full, name, value, size, 0) == 0;
}

static bool make_xattrs(int root)
{
	static const char large[2000] = "large";
	/* A capability set, version 2: cap_net_raw+ep. */
	static const char capability[20] = {1, 0, 0, 2, 0, 0x20};

	if (!set_xattr(root, "text", "user.one", "1", 1) ||
	    !set_xattr(root, "text", "user.empty", "", 0) ||
	    !set_xattr(root, "text", "user.\xff", "\0\1\2", 3) ||
	    !set_xattr(root, "large", "user.large", large, sizeof(large)) ||
	    !set_xattr(root, "folder", "user.of", "folder", 6))
		return false;
	return geteuid() != 0 ||
	       (set_xattr(root, "text", "trusted.root", "x", 1) &&
		set_xattr(root, "4097", "security.capability", capability,
			  sizeof(capability)));
}

static bool make_deep(int root)
{
	int fd = dup(root);

	for (int depth = 0; depth < TREE_DEPTH; depth++) {
		int next;

		/* Two in each: the way back up is needed. */
		if (mkdirat(fd, "d", 0755) || mkdirat(fd, "e", 0755) ||
		    !make_file(fd, "f", (size_t)depth, (uint64_t)depth))
			return false;
		next = openat(fd, "d", O_RDONLY | O_DIRECTORY);
		close(fd);
		fd = next;
	}
	return close(fd) == 0;
}

static bool set_time(int root, const char *path, int64_t seconds, long nano)
{
	const struct timespec times[2] = {{seconds + 1, nano}, {seconds, nano}};

	return utimensat(root, path, times, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Makes a tree in a new folder; false with errno when it could not. */
__attribute__((unused)) static bool make_tree(const char *path, unsigned kinds)
{
	int root;
	bool made;

	if (mkdir(path, 0755))
		return false;
	root = open(path, O_RDONLY | O_DIRECTORY);
	made = mkdirat(root, "folder", 0755) == 0 &&
	       mkdirat(root, "folder/inner", 0755) == 0 &&
	       mkdirat(root, "empty folder", 0755) == 0 &&
	       make_file(root, "text", 6, 1) &&
	       make_file(root, "folder/file", 0, 2) &&
	       make_file(root, "4095", 4095, 3) &&
	       make_file(root, "4096", 4096, 4) &&
	       make_file(root, "4097", 4097, 5) &&
	       make_file(root, "large", (9 << 20) + 7, 6);
	for (int i = 0; made && i < 300; i++) {
		char name[32];

		snprintf(name, sizeof(name), "folder/inner/%d", i);
		made = make_file(root, name, (size_t)i * 37, (uint64_t)i);
	}
	if (made && kinds & TREE_HOLES)
		made = make_sparse(root, "sparse");
	if (made && kinds & TREE_NAMES)
		made = make_names(root);
	if (made && kinds & TREE_LINKS)
		made = make_links(root);
	if (made && kinds & TREE_SPECIAL)
		made =
		    mkfifoat(root, "fifo", 0640) == 0 &&
		    make_socket(root, "socket") &&
		    (geteuid() != 0 || (mknodat(root, "device", S_IFCHR | 0600,
						makedev(10, 300)) == 0 &&
					mknodat(root, "block", S_IFBLK | 0600,
						makedev(259, 70000)) == 0));
	if (made && kinds & TREE_DEEP)
		made = make_deep(root);
	if (made && kinds & TREE_OWNERS && geteuid() == 0)
		made = fchownat(root, "4095", 1234, 567890, 0) == 0 &&
		       fchownat(root, "folder/inner", 1, 2, 0) == 0 &&
		       (!(kinds & TREE_LINKS) ||
			fchownat(root, "link", 3, 4, AT_SYMLINK_NOFOLLOW) == 0);
	if (made && kinds & TREE_XATTRS)
		made = make_xattrs(root);
	if (made && kinds & TREE_MODES)
		made = fchmodat(root, "text", 04755, 0) == 0 &&
		       fchmodat(root, "4096", 0, 0) == 0 &&
		       fchmodat(root, "empty folder", 01777, 0) == 0 &&
		       fchmodat(root, "folder", 02550, 0) == 0;
	if (made && kinds & TREE_TIMES)
		made = set_time(root, "text", 981173106, 123456789) &&
		       /* Of 32 bits where tools write no more. */
		       set_time(root, "4096",
				kinds & TREE_SECONDS ? 2000000000 : 4102444799,
				999999999) &&
		       (!(kinds & TREE_LINKS) ||
			set_time(root, "link", 1000000000, 1)) &&
		       set_time(root, "empty folder", 1500000000, 5) &&
		       set_time(root, "folder/inner", 1600000000, 6) &&
		       set_time(root, "folder", 1700000000, 7);
	close(root);
	return made;
}

/* ---- Comparing two ----------------------------------------------------- */

struct comparison {
	unsigned kinds;
	unsigned differences;
	/* inode here, inode there, of files with several links. */
	ino_t (*inodes)[2];
	size_t inode_count;
};

__attribute__((format(printf, 3, 4))) static void
differ(struct comparison *comparison, const char *path, const char *format, ...)
{
	va_list arguments;

	if (++comparison->differences > 20)
		return;
	printf("# %.200s: ", path);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
}

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a directory, sorted. */
static char **names_of(int directory, size_t *count)
{
	DIR *stream = fdopendir(openat(directory, ".", O_RDONLY | O_DIRECTORY));
	char **names = NULL;
	struct dirent *entry;

	*count = 0;
	while (stream && (entry = readdir(stream))) {
		if (strcmp(entry->d_name, ".") == 0 ||
		    strcmp(entry->d_name, "..") == 0)
			continue;
		names = realloc(names, (*count + 1) * sizeof(*names));
		names[(*count)++] = strdup(entry->d_name);
	}
	if (stream)
		closedir(stream);
	if (*count)
		qsort(names, *count, sizeof(*names), compare_strings);
	return names;
}

static bool same_bytes(int a, int b)
{
	static char one[1 << 20], other[1 << 20];
	ssize_t got;

	do {
		got = read(a, one, sizeof(one));
		if (got < 0 || read(b, other, sizeof(other)) != got ||
		    memcmp(one, other, (size_t)got) != 0)
			return false;
	} while (got > 0);
	return true;
}

/* Each attribute of a path is one of the other with the same value. */
static bool has_xattrs_of(const char *path, const char *other)
{
	static char names[65536], one[65536], two[65536];
	ssize_t length = llistxattr(path, names, sizeof(names));

	for (ssize_t at = 0; at < length;
	     at += (ssize_t)strlen(names + at) + 1) {
		ssize_t size = lgetxattr(path, names + at, one, sizeof(one));

		if (strncmp(names + at, "system.", 7) == 0)
			continue;
		if (lgetxattr(other, names + at, two, sizeof(two)) != size ||
		    (size > 0 && memcmp(one, two, (size_t)size) != 0))
			return false;
	}
	return true;
}

static void compare_hard_links(struct comparison *comparison, const char *path,
			       const struct stat *a, const struct stat *b)
{
	if (a->st_nlink != b->st_nlink)
		differ(comparison, path, "%ld and %ld links", (long)a->st_nlink,
		       (long)b->st_nlink);
	if (a->st_nlink < 2)
		return;
	for (size_t i = 0; i < comparison->inode_count; i++) {
		if (comparison->inodes[i][0] != a->st_ino)
			continue;
		if (comparison->inodes[i][1] != b->st_ino)
			differ(comparison, path, "linked to another file");
		return;
	}
	comparison->inodes =
	    realloc(comparison->inodes, (comparison->inode_count + 1) *
					    sizeof(*comparison->inodes));
	comparison->inodes[comparison->inode_count][0] = a->st_ino;
	comparison->inodes[comparison->inode_count++][1] = b->st_ino;
}

static void compare_stat(struct comparison *comparison, const char *path,
			 const struct stat *a, const struct stat *b)
{
	unsigned kinds = comparison->kinds;

	if (kinds & TREE_MODES && (a->st_mode & 07777) != (b->st_mode & 07777))
		differ(comparison, path, "mode %o and %o", a->st_mode,
		       b->st_mode);
	if (kinds & TREE_OWNERS &&
	    (a->st_uid != b->st_uid || a->st_gid != b->st_gid))
		differ(comparison, path, "owner %u:%u and %u:%u", a->st_uid,
		       a->st_gid, b->st_uid, b->st_gid);
	if (kinds & (TREE_TIMES | TREE_SECONDS) &&
	    (a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
	     (!(kinds & TREE_SECONDS) &&
	      a->st_mtim.tv_nsec != b->st_mtim.tv_nsec)))
		differ(comparison, path, "modified %lld.%09ld and %lld.%09ld",
		       (long long)a->st_mtim.tv_sec, a->st_mtim.tv_nsec,
		       (long long)b->st_mtim.tv_sec, b->st_mtim.tv_nsec);
	if ((S_ISCHR(a->st_mode) || S_ISBLK(a->st_mode)) &&
	    a->st_rdev != b->st_rdev)
		differ(comparison, path, "device %lx and %lx", (long)a->st_rdev,
		       (long)b->st_rdev);
	if (S_ISREG(a->st_mode) && kinds & TREE_HOLES &&
	    a->st_size > a->st_blocks * 512 + (1 << 20) &&
	    b->st_blocks > a->st_blocks + 256)
		differ(comparison, path, "%lld blocks became %lld",
		       (long long)a->st_blocks, (long long)b->st_blocks);
	if (!S_ISDIR(a->st_mode) && kinds & TREE_LINKS)
		compare_hard_links(comparison, path, a, b);
}

static void compare_folders(struct comparison *comparison, const char *path,
			    int a, int b);

static void compare_entry(struct comparison *comparison, const char *path,
			  const char *name, int a, int b)
{
	char one[4096], other[4096];
	struct stat left, right;
	int fd_a, fd_b;

	if (fstatat(a, name, &left, AT_SYMLINK_NOFOLLOW) ||
	    fstatat(b, name, &right, AT_SYMLINK_NOFOLLOW)) {
		differ(comparison, path, "%s", strerror(errno));
		return;
	}
	if ((left.st_mode & S_IFMT) != (right.st_mode & S_IFMT)) {
		differ(comparison, path, "type %o and %o", left.st_mode,
		       right.st_mode);
		return;
	}
	compare_stat(comparison, path, &left, &right);
	if (comparison->kinds & TREE_XATTRS) {
		snprintf(one, sizeof(one), "/proc/self/fd/%d/%s", a, name);
		snprintf(other, sizeof(other), "/proc/self/fd/%d/%s", b, name);
		if (!has_xattrs_of(one, other) || !has_xattrs_of(other, one))
			differ(comparison, path, "attributes differ");
	}
	if (S_ISLNK(left.st_mode)) {
		ssize_t length = readlinkat(a, name, one, sizeof(one));

		if (readlinkat(b, name, other, sizeof(other)) != length ||
		    memcmp(one, other, (size_t)length) != 0)
			differ(comparison, path, "targets differ");
		return;
	}
	if (!S_ISDIR(left.st_mode) && !S_ISREG(left.st_mode))
		return;
	fd_a = openat(a, name, O_RDONLY | O_NOFOLLOW);
	fd_b = openat(b, name, O_RDONLY | O_NOFOLLOW);
	if (fd_a < 0 || fd_b < 0)
		differ(comparison, path, "%s", strerror(errno));
	else if (S_ISDIR(left.st_mode))
		compare_folders(comparison, path, fd_a, fd_b);
	else if (left.st_size != right.st_size)
		differ(comparison, path, "size %lld and %lld",
		       (long long)left.st_size, (long long)right.st_size);
	else if (!same_bytes(fd_a, fd_b))
		differ(comparison, path, "bytes differ");
	if (fd_a >= 0)
		close(fd_a);
	if (fd_b >= 0)
		close(fd_b);
}

static void compare_folders(struct comparison *comparison, const char *path,
			    int a, int b)
{
	size_t count_a, count_b, i = 0, j = 0;
	char **names_a = names_of(a, &count_a);
	char **names_b = names_of(b, &count_b);

	while (i < count_a || j < count_b) {
		int order = i == count_a   ? 1
			    : j == count_b ? -1
					   : strcmp(names_a[i], names_b[j]);
		const char *name = order <= 0 ? names_a[i] : names_b[j];
		char *below = malloc(strlen(path) + strlen(name) + 2);

		sprintf(below, "%s/%s", path, name);
		if (order == 0)
			compare_entry(comparison, below, name, a, b);
		/* What mkfs makes is no part of the tree. */
		else if (strcmp(name, "lost+found") != 0)
			differ(comparison, below, "only %s",
			       order < 0 ? "here" : "there");
		free(below);
		i += order <= 0;
		j += order >= 0;
	}
	for (i = 0; i < count_a; i++)
		free(names_a[i]);
	for (j = 0; j < count_b; j++)
		free(names_b[j]);
	free(names_a);
	free(names_b);
}

/* Whether two trees are equal in TREE_* kinds; shows how they are not. */
__attribute__((unused)) static bool same_tree(const char *a, const char *b,
					      unsigned kinds)
{
	struct comparison comparison = {.kinds = kinds};
	int fd_a = open(a, O_RDONLY | O_DIRECTORY);
	int fd_b = open(b, O_RDONLY | O_DIRECTORY);
	struct stat left, right;

	if (fd_a < 0 || fd_b < 0 || fstat(fd_a, &left) || fstat(fd_b, &right)) {
		differ(&comparison, "", "%s", strerror(errno));
	} else {
		if (kinds & TREE_ROOT)
			compare_stat(&comparison, "", &left, &right);
		compare_folders(&comparison, "", fd_a, fd_b);
	}
	if (fd_a >= 0)
		close(fd_a);
	if (fd_b >= 0)
		close(fd_b);
	free(comparison.inodes);
	return comparison.differences == 0;
}

#endif
