/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copies a tree of the host into a mounted file system of the kernel, call by
 * call, as a program on that kernel would: the other way round from lkl_pack
 * and without any of its code.
 */
#ifndef IMPORT_H
#define IMPORT_H

#include "lkl.h"
#include "tree.h"

struct import {
	struct lkl_kernel *kernel;
	unsigned kinds;
	int root; /* of the kernel's file system */
	char root_path[256];
	/* Paths in the kernel of files with several links. */
	struct import_link {
		ino_t inode;
		char *path;
	} * links;
	size_t link_count;
	int64_t error; /* the first one, and where */
	char at[512];
};

static bool import_check(struct import *import, const char *path,
			 const char *what, int64_t result)
{
	if (result < 0 && !import->error) {
		import->error = result;
		snprintf(import->at, sizeof(import->at), "%s %.400s", what,
			 path);
	}
	return result >= 0;
}

/* The data of a file; holes stay. */
static void import_content(struct import *import, const char *path, int file,
			   off_t size)
{
	static char bytes[1 << 20];
	int fd = (int)lkl_sys_openat(
	    import->kernel, import->root, path,
	    LKL_O_WRONLY | LKL_O_CREAT | LKL_O_EXCL | LKL_O_LARGEFILE, 0600);
	off_t at = 0;

	if (!import_check(import, path, "create", fd))
		return;
	while (at < size) {
		off_t data = lseek(file, at, SEEK_DATA);
		off_t hole = data < 0 ? size : lseek(file, data, SEEK_HOLE);
		ssize_t got;

		if (data < 0)
			break;
		for (at = data; at < hole; at += got) {
			size_t wanted = sizeof(bytes);

			if ((off_t)wanted > hole - at)
				wanted = (size_t)(hole - at);
			got = pread(file, bytes, wanted, at);
			if (got <= 0 ||
			    !import_check(import, path, "write",
					  lkl_sys_pwrite64(import->kernel, fd,
							   bytes, (size_t)got,
							   at)))
				break;
		}
		if (import->error)
			break;
	}
	import_check(import, path, "truncate",
		     lkl_sys_ftruncate(import->kernel, fd, size));
	lkl_sys_close(import->kernel, fd);
}

static void import_xattrs(struct import *import, const char *path,
			  int directory, const char *name)
{
	static char names[65536], value[65536];
	char from[512], to[4096];
	ssize_t length;

	snprintf(from, sizeof(from), "/proc/self/fd/%d/%s", directory, name);
	snprintf(to, sizeof(to), "%s/%s", import->root_path, path);
	length = llistxattr(from, names, sizeof(names));
	for (ssize_t at = 0; at < length;
	     at += (ssize_t)strlen(names + at) + 1) {
		ssize_t size =
		    lgetxattr(from, names + at, value, sizeof(value));

		if (size >= 0 && strncmp(names + at, "system.", 7) != 0)
			import_check(import, path, names + at,
				     lkl_sys_lsetxattr(import->kernel, to,
						       names + at, value,
						       (size_t)size, 0));
	}
}

/* All but content, last of all for directories. */
static void import_metadata(struct import *import, const char *path,
			    const struct stat *stat, int directory,
			    const char *name)
{
	const struct lkl_timespec times[2] = {
	    {stat->st_atim.tv_sec, stat->st_atim.tv_nsec},
	    {stat->st_mtim.tv_sec, stat->st_mtim.tv_nsec},
	};

	if (import->kinds & TREE_OWNERS)
		import_check(import, path, "owner",
			     lkl_sys_fchownat(import->kernel, import->root,
					      path, stat->st_uid, stat->st_gid,
					      LKL_AT_SYMLINK_NOFOLLOW));
	if (import->kinds & TREE_XATTRS)
		import_xattrs(import, path, directory, name);
	if (import->kinds & TREE_MODES && !S_ISLNK(stat->st_mode))
		import_check(import, path, "mode",
			     lkl_sys_fchmodat(import->kernel, import->root,
					      path, stat->st_mode & 07777));
	if (import->kinds & (TREE_TIMES | TREE_SECONDS))
		import_check(import, path, "times",
			     lkl_sys_utimensat(import->kernel, import->root,
					       path, times,
					       LKL_AT_SYMLINK_NOFOLLOW));
}

/* Links to what is there already; remembers what may be linked to. */
static bool import_link(struct import *import, const char *path,
			const struct stat *stat)
{
	struct import_link *link;

	for (size_t i = 0; i < import->link_count; i++)
		if (import->links[i].inode == stat->st_ino)
			return import_check(
			    import, path, "link",
			    lkl_sys_linkat(import->kernel, import->root,
					   import->links[i].path, import->root,
					   path, 0));
	import->links = realloc(import->links, (import->link_count + 1) *
						   sizeof(*import->links));
	link = &import->links[import->link_count++];
	link->inode = stat->st_ino;
	link->path = strdup(path);
	return false;
}

static void import_folder(struct import *import, const char *path, int folder);

static void import_entry(struct import *import, const char *path, int directory,
			 const char *name)
{
	struct stat stat;
	char target[4096];
	ssize_t length;
	int fd;

	if (!import_check(import, path, "stat",
			  fstatat(directory, name, &stat, AT_SYMLINK_NOFOLLOW)))
		return;
	if (!S_ISDIR(stat.st_mode) && stat.st_nlink > 1 &&
	    import->kinds & TREE_LINKS && import_link(import, path, &stat))
		return;
	switch (stat.st_mode & S_IFMT) {
	case S_IFDIR:
		if (!import_check(import, path, "mkdir",
				  lkl_sys_mkdirat(import->kernel, import->root,
						  path, 0700)))
			return;
		fd = openat(directory, name, O_RDONLY | O_DIRECTORY);
		import_folder(import, path, fd);
		close(fd);
		break;
	case S_IFREG:
		fd = openat(directory, name, O_RDONLY);
		import_content(import, path, fd, stat.st_size);
		close(fd);
		break;
	case S_IFLNK:
		length =
		    readlinkat(directory, name, target, sizeof(target) - 1);
		target[length < 0 ? 0 : length] = '\0';
		import_check(import, path, "symlink",
			     lkl_sys_symlinkat(import->kernel, target,
					       import->root, path));
		break;
	default:
		import_check(
		    import, path, "mknod",
		    lkl_sys_mknodat(import->kernel, import->root, path,
				    stat.st_mode,
				    (minor(stat.st_rdev) & 0xff) |
					major(stat.st_rdev) << 8 |
					(minor(stat.st_rdev) & ~0xffu) << 12));
	}
	import_metadata(import, path, &stat, directory, name);
}

static void import_folder(struct import *import, const char *path, int folder)
{
	size_t count;
	char **names = names_of(folder, &count);

	for (size_t i = 0; i < count; i++) {
		char *below = malloc(strlen(path) + strlen(names[i]) + 2);

		sprintf(below, "%s%s%s", path, *path ? "/" : "", names[i]);
		if (!import->error)
			import_entry(import, below, folder, names[i]);
		free(below);
		free(names[i]);
	}
	free(names);
}

/* Copies a folder of the host into an open directory with that path. */
__attribute__((unused)) static bool import_tree(struct lkl_kernel *kernel,
						const char *folder, int root,
						const char *root_path,
						unsigned kinds)
{
	struct import import = {
	    .kernel = kernel,
	    .kinds = kinds,
	    .root = root,
	};
	struct stat stat;
	int fd = open(folder, O_RDONLY | O_DIRECTORY);

	snprintf(import.root_path, sizeof(import.root_path), "%s", root_path);
	import_folder(&import, "", fd);
	if (import_check(&import, ".", "stat", fstat(fd, &stat)))
		import_metadata(&import, ".", &stat, fd, ".");
	close(fd);
	for (size_t i = 0; i < import.link_count; i++)
		free(import.links[i].path);
	free(import.links);
	if (import.error)
		printf("# %s: %s\n", import.at,
		       lkl_errno_name((int)import.error));
	return !import.error;
}

#endif
