// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Files with several links: where the first copy of each stands.
 */
#include "folder.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In the tree `links` by number, or in `sources` by inode of the image. */
struct link {
	uint64_t number;
	uint64_t device, inode; /* of the image */
	dev_t host_device;
	ino_t host_inode;
	size_t length;
	char path[]; /* names of the host, each with a NUL after it */
};

static int compare(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int compare_numbers(const void *a, const void *b)
{
	return compare(((const struct link *)a)->number,
		       ((const struct link *)b)->number);
}

static int compare_sources(const void *a, const void *b)
{
	const struct link *left = a, *right = b;
	int order = compare(left->device, right->device);

	return order ? order : compare(left->inode, right->inode);
}

static uint64_t device_of(const struct lkl_stat *stat)
{
	return (uint64_t)stat->device_major << 32 | stat->device_minor;
}

/* Without memory, later links are told to have none to link to. */
static void remember(const struct link *link, void **tree,
		     int (*order)(const void *, const void *))
{
	struct link *copy = malloc(sizeof(*link) + link->length);
	struct link **node;

	if (!copy)
		return;
	memcpy(copy, link, sizeof(*link) + link->length);
	node = tsearch(copy, tree, order);
	if (node && *node == copy)
		return;
	if (node) {
		/* The last one is what was looked at last. */
		free(*node);
		*node = copy;
	} else {
		free(copy);
	}
}

void remember_link(struct folder *folder, uint64_t number,
		   const struct lkl_stat *stat, const char *target,
		   const struct stat *host)
{
	size_t length = strlen(target) + 1;
	struct link *link;
	char *at;

	for (size_t i = 1; i < folder->depth; i++)
		length += folder->levels[i].account.target_length + 1;
	link = malloc(sizeof(*link) + length);
	if (!link)
		return;
	*link = (struct link){
	    .number = number,
	    .device = device_of(stat),
	    .inode = stat->inode,
	    .host_device = host->st_dev,
	    .host_inode = host->st_ino,
	    .length = length,
	};
	at = link->path;
	for (size_t i = 1; i < folder->depth; i++) {
		const struct account *account = &folder->levels[i].account;

		/* That of the destination itself is empty. */
		if (!account->target_length) {
			link->length--;
			continue;
		}
		at = stpcpy(at, account->target) + 1;
	}
	strcpy(at, target);
	if (number)
		remember(link, &folder->links, compare_numbers);
	if (folder->journal.resumed)
		remember(link, &folder->sources, compare_sources);
	free(link);
}

static const struct link *find(const struct folder *folder, uint64_t number,
			       const struct lkl_stat *stat)
{
	struct link key = {.number = number};
	const struct link *const *found;

	if (number) {
		found = tfind(&key, &folder->links, compare_numbers);
	} else {
		key.device = device_of(stat);
		key.inode = stat->inode;
		found = tfind(&key, &folder->sources, compare_sources);
	}
	return found ? *found : NULL;
}

bool is_known_source(const struct folder *folder, const struct lkl_stat *stat)
{
	return stat->links > 1 && find(folder, 0, stat);
}

bool is_another_file(const struct folder *folder, const struct lkl_stat *stat,
		     const struct stat *host)
{
	const struct link *link = find(folder, 0, stat);

	return link && (host->st_dev != link->host_device ||
			host->st_ino != link->host_inode);
}

/* Opens the folder in which a link stands, and tells its own name. */
static int open_folder_of(const struct folder *folder, const struct link *link,
			  const char **name)
{
	const char *at = link->path;
	int fd = openat(folder->levels[0].fd, ".", DIRECTORY_FLAGS);

	while (fd >= 0 && at + strlen(at) + 1 < link->path + link->length) {
		int next = openat(fd, at, DIRECTORY_FLAGS);

		close(fd);
		fd = next;
		at += strlen(at) + 1;
	}
	*name = at;
	return fd < 0 ? -errno : fd;
}

static bool is_file_of(const struct link *link, const struct stat *stat)
{
	return stat->st_dev == link->host_device &&
	       stat->st_ino == link->host_inode && !S_ISDIR(stat->st_mode);
}

int link_to(struct folder *folder, uint64_t number, const struct lkl_stat *stat,
	    int directory, const char *name, int *copy)
{
	const struct link *link = find(folder, number, stat);
	const char *source;
	struct stat host;
	int error, fd;

	*copy = -1;
	if (!link)
		return -ENOENT;
	fd = open_folder_of(folder, link, &source);
	if (fd < 0)
		return -ENOENT;
	/* Before and after, for someone else may work there, too. */
	error = -ENOENT;
	if (fstatat(fd, source, &host, AT_SYMLINK_NOFOLLOW) == 0 &&
	    is_file_of(link, &host))
		error = linkat(fd, source, directory, name, 0) < 0 ? -errno : 0;
	if (!error &&
	    (fstatat(directory, name, &host, AT_SYMLINK_NOFOLLOW) < 0 ||
	     !is_file_of(link, &host))) {
		unlinkat(directory, name, 0);
		error = -ENOENT;
	}
	if ((error == -EPERM || error == -EOPNOTSUPP || error == -EMLINK) &&
	    S_ISREG(host.st_mode)) {
		error = -EMLINK;
		*copy = openat(fd, source,
			       O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (*copy < 0 || fstat(*copy, &host) < 0 ||
		    !is_file_of(link, &host)) {
			if (*copy >= 0)
				close(*copy);
			*copy = -1;
			error = -ENOENT;
		}
	}
	close(fd);
	return error;
}

size_t path_of_link(const struct folder *folder, uint64_t number,
		    const struct lkl_stat *stat, char *text, size_t size)
{
	const struct link *link = find(folder, number, stat);

	if (!link || link->length > size)
		return 0;
	memcpy(text, link->path, link->length);
	for (size_t i = 0; i + 1 < link->length; i++)
		if (!text[i])
			text[i] = '/';
	return link->length - 1;
}

void free_links(struct folder *folder)
{
	tdestroy(folder->links, free);
	tdestroy(folder->sources, free);
}
