// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Copies a tree of the kernel to a POSIX host.
 *
 * On the host every name is used relative to an open directory, and no link is
 * followed: what is written stands below the host directory given, also when
 * the image is made to do harm or someone else works in the same place.
 */
#define _GNU_SOURCE
#include "copy.h"
#include "record.h"
#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define RECORDS_SIZE (256u << 10)
/* More than any file system of Linux stores in a link. */
#define LINK_MOST 65536u
#define XATTRS_SIZE (576u << 10)
#define XATTR_NAME_MOST 255u
#define PART_NAME_MOST 320u
/* Names tried for a part file before giving up. */
#define PART_ATTEMPTS 1000u
/* Nanoseconds between two calls of the caller's progress function. */
#define PROGRESS_INTERVAL 50000000

#define PERMISSIONS (S_IRWXU | S_IRWXG | S_IRWXO | S_ISVTX)
#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* A directory being copied; its place in the array is its depth. */
struct level {
	int fd; /* of the host; -1: closed for the time being, or failed */
	dev_t device;
	ino_t inode;
	char *name; /* of the host; NULL at depth 0 */
	uint64_t number;
	bool existed;  /* other things may stand in it */
	bool finish;   /* it gets the source's mode, times... when left */
	bool failed;   /* something of it was not kept */
	bool unusable; /* not there on the host: nothing below is copied */
	struct lkl_stat stat;
	unsigned char *xattrs;
	size_t xattrs_size;
};

/* The first copy of a file that has several links. */
struct link {
	uint64_t device, inode; /* in the kernel; what links are found by */
	ino_t host_inode;
	uint64_t number; /* of the directory it stands in */
	char path[];	 /* below the level of depth 0 */
};

struct export
{
	struct lkl_kernel *kernel;
	const struct lkl_export *request;
	struct lkl_export_progress done;
	struct timespec last_progress;
	bool cancelled;

	int host_directory;
	const char *target;
	struct level *levels;
	size_t depth;
	size_t allocated;

	bool entry_failed; /* the entry at work was not kept whole */
	uint64_t part_count;
	void *links; /* a tree of tsearch(3) */
	struct copy_memory memory;
	const struct copy *copy; /* of the file at work */
	uint64_t bytes_before;	 /* it */
	unsigned char *records;
	unsigned char *xattrs;
	char *link_target;
};

/* What is at work: from where, to where. */
struct item {
	int directory; /* of the kernel */
	const char *source;
	int host; /* directory of the host */
	const char *target;
	const struct lkl_stat *stat;
	bool source_itself;
};

/* Where attributes go: an open file of the host, or a name that is not one. */
struct place {
	int fd;
	const char *name; /* in directory fd; NULL: fd itself */
};

/* ---- Reports ----------------------------------------------------------- */

/* Length of the path of a name in the deepest level; writes it unless NULL. */
static size_t build_path(const struct export *export, const char *name,
			 char *path)
{
	size_t length = 0;

	for (size_t depth = 1; depth < export->depth; depth++) {
		size_t part = strlen(export->levels[depth].name);

		if (path) {
			memcpy(path + length, export->levels[depth].name, part);
			path[length + part] = '/';
		}
		length += part + 1;
	}
	if (path)
		memcpy(path + length, name, strlen(name) + 1);
	return length + strlen(name);
}

/* Reports a failure of an entry of the deepest level; error is negative. */
static void report(struct export *export, const char *name, size_t name_length,
		   const char *operation, int error, bool host)
{
	size_t length = build_path(export, "", NULL);
	char *path;

	export->entry_failed = true;
	if (!export->request->failed)
		return;
	path = malloc(length + name_length + 1);
	if (!path) {
		/* Better the bare name than silence. */
		export->request->failed(export->request->opaque, name,
					name_length, operation, error, host);
		return;
	}
	build_path(export, "", path);
	/* A directory's own path does not end in a slash. */
	if (name_length == 0 && length > 0)
		length--;
	memcpy(path + length, name, name_length);
	path[length + name_length] = '\0';
	export->request->failed(export->request->opaque, path,
				length + name_length, operation, error, host);
	free(path);
}

static void fail(struct export *export, const struct item *item,
		 const char *operation, int error, bool host)
{
	const char *name = item->source_itself ? "" : item->source;

	report(export, name, strlen(name), operation, error, host);
}

/* Tells the caller how far it is, if it is time to; notices a cancellation. */
static void tell_progress(struct export *export)
{
	struct timespec now;

	if (!export->request->progress || export->cancelled)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if ((now.tv_sec - export->last_progress.tv_sec) * INT64_C(1000000000) +
		now.tv_nsec - export->last_progress.tv_nsec <
	    PROGRESS_INTERVAL)
		return;
	export->last_progress = now;
	if (export->request->progress(export->request->opaque, &export->done))
		export->cancelled = true;
}

static void entry_done(struct export *export)
{
	export->done.entries++;
	if (export->entry_failed)
		export->done.errors++;
	export->entry_failed = false;
	tell_progress(export);
}

/* ---- Mode, owner, times, attributes ------------------------------------ */

static bool wants_xattr(const struct export *export, const char *name)
{
	if (strncmp(name, "user.", 5) == 0)
		return true;
	/* These have a meaning only together with owners. */
	return export->request->flags & LKL_EXPORT_OWNER &&
	       (strncmp(name, "security.", 9) == 0 ||
		strncmp(name, "trusted.", 8) == 0 ||
		strcmp(name, "system.posix_acl_access") == 0 ||
		strcmp(name, "system.posix_acl_default") == 0);
}

static int set_xattr(const struct place *place, const char *name,
		     const void *value, size_t size)
{
	char path[64 + PART_NAME_MOST];
	int result;

	if (!place->name) {
		result = fsetxattr(place->fd, name, value, size, 0);
	} else {
		/* The kernel of the host lacks setxattrat as much as ours. */
		if (place->fd == AT_FDCWD)
			snprintf(path, sizeof(path), "%s", place->name);
		else
			snprintf(path, sizeof(path), "/proc/self/fd/%d/%s",
				 place->fd, place->name);
		result = lsetxattr(path, name, value, size, 0);
	}
	return result < 0 ? -errno : 0;
}

/* Sets attributes as lkl_read_xattrs gives them: the first errno, or 0. */
static int set_xattrs(const struct export *export, const struct place *place,
		      const unsigned char *xattrs, size_t size)
{
	int first = 0;

	for (size_t at = 0; at < size;) {
		char name[XATTR_NAME_MOST + 1];
		uint32_t lengths[2];
		const unsigned char *bytes = xattrs + at + sizeof(lengths);
		int error = -ENAMETOOLONG;

		memcpy(lengths, xattrs + at, sizeof(lengths));
		at += (sizeof(lengths) + lengths[0] + lengths[1] + 7) &
		      ~(size_t)7;
		if (lengths[0] <= XATTR_NAME_MOST) {
			memcpy(name, bytes, lengths[0]);
			name[lengths[0]] = '\0';
			if (!wants_xattr(export, name))
				continue;
			error = set_xattr(place, name, bytes + lengths[0],
					  lengths[1]);
		}
		if (error && !first)
			first = error;
	}
	return first;
}

static int set_owner(const struct place *place, const struct lkl_stat *stat)
{
	int result = place->name ? fchownat(place->fd, place->name, stat->uid,
					    stat->gid, AT_SYMLINK_NOFOLLOW)
				 : fchown(place->fd, stat->uid, stat->gid);

	return result < 0 ? -errno : 0;
}

static int set_mode(const struct place *place, mode_t mode)
{
	int result = place->name ? fchmodat(place->fd, place->name, mode,
					    AT_SYMLINK_NOFOLLOW)
				 : fchmod(place->fd, mode);

	return result < 0 ? -errno : 0;
}

static int set_times(const struct place *place, const struct lkl_stat *stat)
{
	const struct timespec times[2] = {
	    {stat->access_seconds, stat->access_nanoseconds},
	    {stat->modify_seconds, stat->modify_nanoseconds},
	};
	int result = place->name ? utimensat(place->fd, place->name, times,
					     AT_SYMLINK_NOFOLLOW)
				 : futimens(place->fd, times);

	return result < 0 ? -errno : 0;
}

/*
 * All that is not content, in the order that lets each stand: a new owner
 * clears capabilities and setuid bits, and everything changes times.
 */
static void set_metadata(struct export *export, const struct place *place,
			 const struct lkl_stat *stat,
			 const unsigned char *xattrs, size_t xattrs_size,
			 const struct item *item)
{
	mode_t mode = stat->mode & PERMISSIONS;
	int error;

	if (export->request->flags & LKL_EXPORT_OWNER) {
		error = set_owner(place, stat);
		if (error)
			fail(export, item, "owner", error, true);
		else
			mode = stat->mode & 07777;
	}
	error = set_xattrs(export, place, xattrs, xattrs_size);
	if (error)
		fail(export, item, "xattr", error, true);
	/* A link's mode means nothing on Linux. */
	if (!S_ISLNK(stat->mode)) {
		error = set_mode(place, mode);
		if (error)
			fail(export, item, "mode", error, true);
	}
	error = set_times(place, stat);
	if (error)
		fail(export, item, "times", error, true);
}

/* The attributes of a source into export->xattrs: their size. */
static size_t read_xattrs(struct export *export, int directory,
			  const char *name, const struct item *item)
{
	int64_t got;

	if (!(export->request->flags & LKL_EXPORT_XATTRS))
		return 0;
	got = lkl_read_xattrs(export->kernel, directory, name, export->xattrs,
			      XATTRS_SIZE);
	if (got >= 0)
		return (size_t)got;
	fail(export, item, "xattr", (int)got, false);
	return 0;
}

/* ---- Part files -------------------------------------------------------- */

/*
 * A name for something not yet whole: "target.part", or where that is taken or
 * too long another one.
 */
static void part_name(struct export *export, const char *target,
		      unsigned int attempt, char name[PART_NAME_MOST])
{
	if (attempt == 0 && strlen(target) + sizeof(".part") <= PART_NAME_MOST)
		snprintf(name, PART_NAME_MOST, "%s.part", target);
	else
		snprintf(name, PART_NAME_MOST, ".%ld-%llu.part", (long)getpid(),
			 (unsigned long long)++export->part_count);
}

static bool part_retry(int error)
{
	return error == -EEXIST || error == -ENAMETOOLONG;
}

/* Creates the part file of a target: a descriptor or an errno of the host. */
static int create_part(struct export *export, const struct item *item,
		       char part[PART_NAME_MOST])
{
	int fd = -EEXIST;

	for (unsigned int attempt = 0;
	     part_retry(fd) && attempt < PART_ATTEMPTS; attempt++) {
		part_name(export, item->target, attempt, part);
		fd =
		    openat(item->host, part,
			   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			   S_IRUSR | S_IWUSR);
		if (fd < 0)
			fd = -errno;
	}
	return fd;
}

/* Gives a whole file its name, which must be new. */
static int rename_new(int host, const char *part, const char *target)
{
	if (renameat2(host, part, host, target, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* This file system cannot, but a second link does as well. */
	if (linkat(host, part, host, target, 0) < 0)
		return -errno;
	unlinkat(host, part, 0);
	return 0;
}

static int rename_part(const struct export *export, const struct item *item,
		       const char *part)
{
	int error = 0;

	if (!(export->request->flags & LKL_EXPORT_OVERWRITE))
		error = rename_new(item->host, part, item->target);
	else if (renameat(item->host, part, item->host, item->target) < 0)
		error = -errno;
	if (error)
		unlinkat(item->host, part, 0);
	return error;
}

/*
 * Makes something that is whole at once: tries the target's own name, then,
 * where it may be replaced, another one that is renamed.
 */
static int make_at_once(struct export *export, const struct item *item,
			int (*make)(int host, const char *name,
				    const void *opaque),
			const void *opaque)
{
	char part[PART_NAME_MOST];
	int error = make(item->host, item->target, opaque);

	if (error != -EEXIST ||
	    !(export->request->flags & LKL_EXPORT_OVERWRITE))
		return error;
	for (unsigned int attempt = 0;
	     part_retry(error) && attempt < PART_ATTEMPTS; attempt++) {
		part_name(export, item->target, attempt, part);
		error = make(item->host, part, opaque);
	}
	if (error)
		return error;
	error = rename_part(export, item, part);
	/* Renaming one link of a file to another does nothing at all. */
	if (!error)
		unlinkat(item->host, part, 0);
	return error;
}

/* ---- Hard links -------------------------------------------------------- */

static int compare_links(const void *a, const void *b)
{
	const struct link *left = a, *right = b;

	if (left->device != right->device)
		return left->device < right->device ? -1 : 1;
	if (left->inode != right->inode)
		return left->inode < right->inode ? -1 : 1;
	return 0;
}

static uint64_t device_of(const struct lkl_stat *stat)
{
	return (uint64_t)stat->device_major << 32 | stat->device_minor;
}

static uint64_t current_number(const struct export *export)
{
	return export->depth ? export->levels[export->depth - 1].number : 0;
}

/* Remembers the copy just made; without memory later links become copies. */
static void remember_link(struct export *export, const struct item *item,
			  int copy)
{
	struct stat host;
	struct link *link, **node;

	if (fstat(copy, &host) < 0)
		return;
	link =
	    malloc(sizeof(*link) + build_path(export, item->target, NULL) + 1);
	if (!link)
		return;
	link->device = device_of(item->stat);
	link->inode = item->stat->inode;
	link->host_inode = host.st_ino;
	link->number = current_number(export);
	build_path(export, item->target, link->path);
	node = tsearch(link, &export->links, compare_links);
	if (!node) {
		free(link);
	} else if (*node != link) {
		/* The one before could not be linked to. */
		free(*node);
		*node = link;
	}
}

struct link_source {
	int directory;
	const char *name;
};

static int make_link(int host, const char *name, const void *opaque)
{
	const struct link_source *source = opaque;

	if (linkat(source->directory, source->name, host, name, 0) < 0)
		return -errno;
	return 0;
}

/*
 * Opens the host's directory in which a link stands, name by name, and sets
 * the link's own name.
 */
static int open_link_directory(const struct export *export,
			       const struct link *link, const char **name)
{
	const char *at = link->path;
	int fd = openat(export->levels[0].fd, ".", DIRECTORY_FLAGS);

	for (;;) {
		const char *end = strchr(at, '/');
		char part[PART_NAME_MOST];
		int next;

		if (fd < 0)
			return -errno;
		if (!end) {
			*name = at;
			return fd;
		}
		if ((size_t)(end - at) >= sizeof(part)) {
			close(fd);
			return -ENAMETOOLONG;
		}
		memcpy(part, at, (size_t)(end - at));
		part[end - at] = '\0';
		next = openat(fd, part, DIRECTORY_FLAGS);
		close(fd);
		fd = next;
		at = end + 1;
	}
}

/*
 * Links an entry to the copy made of another link of its file.  0: done;
 * -ENOENT: there is none yet; else it could not be.
 */
static int export_link_of(struct export *export, const struct item *item)
{
	const struct link key = {
	    .device = device_of(item->stat),
	    .inode = item->stat->inode,
	};
	struct link_source source = {.directory = item->host};
	const struct link *const *found =
	    tfind(&key, &export->links, compare_links);
	struct stat host;
	int opened = -1;
	int error;

	if (!found)
		return -ENOENT;
	if ((*found)->number == current_number(export)) {
		const char *slash = strrchr((*found)->path, '/');

		source.name = slash ? slash + 1 : (*found)->path;
	} else {
		opened = open_link_directory(export, *found, &source.name);
		if (opened < 0)
			return opened == -ENOENT ? -ESTALE : opened;
		source.directory = opened;
	}
	/* It must still be the file that was written. */
	if (fstatat(source.directory, source.name, &host, AT_SYMLINK_NOFOLLOW) <
		0 ||
	    !S_ISREG(host.st_mode) || host.st_ino != (*found)->host_inode)
		error = -ESTALE;
	else
		error = make_at_once(export, item, make_link, &source);
	if (opened >= 0)
		close(opened);
	return error;
}

/* ---- Entries ----------------------------------------------------------- */

static int copy_progress(void *opaque, uint64_t bytes)
{
	struct export *export = opaque;

	(void)bytes;
	export->done.bytes = export->bytes_before + export->copy->written;
	tell_progress(export);
	return export->cancelled;
}

/* Copies the content of an open file into its part file. */
static bool export_content(struct export *export, const struct item *item,
			   const struct lkl_stat *stat, int fd, int sink)
{
	struct copy copy = {
	    .kernel = export->kernel,
	    .memory = &export->memory,
	    .fd = fd,
	    .sink = sink,
	    .sparse = true,
	    .progress = copy_progress,
	    .opaque = export,
	};
	int64_t copied = 0;

	export->copy = &copy;
	export->bytes_before = export->done.bytes;
	if (stat->size)
		copied = copy_file(&copy, stat, 0, UINT64_MAX);
	export->done.bytes = export->bytes_before + copy.written;
	/* An end before the end the inode tells is an error of the image. */
	if (copied >= 0 && (uint64_t)copied != stat->size)
		copied = -EIO;
	if (copied < 0)
		fail(export, item, copy.host_failed ? "write" : "read",
		     (int)copied, copy.host_failed);
	return copied >= 0;
}

static void export_opened(struct export *export, const struct item *item,
			  const struct lkl_stat *stat, int fd)
{
	char part[PART_NAME_MOST];
	int sink = create_part(export, item, part);
	struct place place = {.fd = sink};
	int error;

	if (sink < 0) {
		fail(export, item, "create", sink, true);
		return;
	}
	if (!export_content(export, item, stat, fd, sink)) {
		close(sink);
		unlinkat(item->host, part, 0);
		return;
	}
	set_metadata(export, &place, stat, export->xattrs,
		     read_xattrs(export, fd, "", item), item);
	error = rename_part(export, item, part);
	if (error)
		fail(export, item, "create", error, true);
	else if (stat->links > 1)
		remember_link(export, item, sink);
	/* Some file systems tell only now that the bytes found no room. */
	if (close(sink) < 0 && !error)
		fail(export, item, "write", -errno, true);
}

static void export_file(struct export *export, const struct item *item)
{
	struct lkl_stat stat;
	int fd;

	if (item->stat->links > 1) {
		int error = export_link_of(export, item);

		if (!error)
			return;
		if (error == -EEXIST) {
			fail(export, item, "create", error, true);
			return;
		}
		if (error != -ENOENT)
			fail(export, item, "link", error, true);
	}
	fd = open_regular(export->kernel, item->directory, item->source, &stat);
	if (fd < 0) {
		fail(export, item, "open", fd, false);
		return;
	}
	export_opened(export, item, &stat, fd);
	/*
	 * Its pages serve the next file at once: memory that is in the CPU's
	 * caches, and nothing that is of use to others is pushed out.
	 */
	lkl_sys_fadvise64(export->kernel, fd, 0, 0, LKL_FADV_DONTNEED);
	lkl_sys_close(export->kernel, fd);
}

static int make_symlink(int host, const char *name, const void *opaque)
{
	return symlinkat(opaque, host, name) < 0 ? -errno : 0;
}

static int make_node(int host, const char *name, const void *opaque)
{
	const struct lkl_stat *stat = opaque;
	mode_t mode = (stat->mode & S_IFMT) | S_IRUSR | S_IWUSR;

	if (mknodat(host, name, mode,
		    makedev(stat->special_major, stat->special_minor)) < 0)
		return -errno;
	return 0;
}

static void export_made(struct export *export, const struct item *item,
			int (*make)(int host, const char *name,
				    const void *opaque),
			const void *opaque)
{
	struct place place = {.fd = item->host, .name = item->target};
	int error = make_at_once(export, item, make, opaque);

	if (error) {
		fail(export, item, "create", error, true);
		return;
	}
	set_metadata(export, &place, item->stat, export->xattrs,
		     read_xattrs(export, item->directory, item->source, item),
		     item);
}

static void export_symlink(struct export *export, const struct item *item)
{
	int64_t length =
	    lkl_sys_readlinkat(export->kernel, item->directory, item->source,
			       export->link_target, LINK_MOST);

	if (length == LINK_MOST)
		length = -ENAMETOOLONG;
	/* A link to nothing, or beyond a NUL, cannot be made. */
	else if (length >= 0 && (length == 0 || memchr(export->link_target,
						       '\0', (size_t)length)))
		length = -EUCLEAN;
	if (length < 0) {
		fail(export, item, "read", (int)length, false);
		return;
	}
	export->link_target[length] = '\0';
	export_made(export, item, make_symlink, export->link_target);
}

/* Copies whatever is not a directory. */
static void export_entry(struct export *export, const struct item *item,
			 bool host_existed)
{
	struct stat host;

	/* Before work is done in vain; the last word has the rename. */
	if (host_existed && !(export->request->flags & LKL_EXPORT_OVERWRITE) &&
	    fstatat(item->host, item->target, &host, AT_SYMLINK_NOFOLLOW) ==
		0) {
		fail(export, item, "create", -EEXIST, true);
		return;
	}
	switch (item->stat->mode & LKL_S_IFMT) {
	case LKL_S_IFREG:
		export_file(export, item);
		break;
	case LKL_S_IFLNK:
		export_symlink(export, item);
		break;
	case LKL_S_IFIFO:
	case LKL_S_IFSOCK:
	case LKL_S_IFCHR:
	case LKL_S_IFBLK:
		if (export->request->flags & LKL_EXPORT_SPECIAL)
			export_made(export, item, make_node, item->stat);
		else
			fail(export, item, "special", -EOPNOTSUPP, false);
		break;
	default:
		fail(export, item, "open", -EUCLEAN, false);
	}
}

/* ---- Directories ------------------------------------------------------- */

static void close_level(struct level *level)
{
	if (level->fd >= 0)
		close(level->fd);
	level->fd = -1;
}

static void close_above(struct export *export, size_t depth)
{
	if (depth > WALK_OPEN_MOST)
		close_level(&export->levels[depth - WALK_OPEN_MOST]);
}

/* Opens a directory of the host and looks at what it is. */
static int open_host(int directory, const char *name, struct stat *stat)
{
	int fd = openat(directory, name, DIRECTORY_FLAGS);
	int error;

	if (fd < 0)
		return -errno;
	if (fstat(fd, stat) < 0) {
		error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

/* Makes sure that the deepest level is open: its descriptor or an errno. */
static int host_of_deepest(struct export *export)
{
	size_t depth = export->depth - 1;
	size_t at = depth;

	if (export->levels[depth].unusable)
		return -ESTALE;
	while (export->levels[at].fd < 0)
		at--;
	for (at++; at <= depth; at++) {
		struct level *level = &export->levels[at];
		struct stat stat;
		int fd = open_host(level[-1].fd, level->name, &stat);

		if (fd < 0)
			return fd;
		if (stat.st_dev != level->device ||
		    stat.st_ino != level->inode) {
			close(fd);
			return -ESTALE;
		}
		level->fd = fd;
		close_above(export, at);
	}
	return export->levels[depth].fd;
}

/* Makes the host's directory of a level; -EEXIST where it must be new. */
static int make_directory(struct export *export, int host, const char *name,
			  struct level *level)
{
	bool top = export->depth == 0;
	struct stat stat;

	level->finish = true;
	if (mkdirat(host, name, S_IRWXU) < 0) {
		bool merge = export->request->flags &
			     (top ? LKL_EXPORT_OVERWRITE | LKL_EXPORT_CONTENTS
				  : LKL_EXPORT_OVERWRITE);

		if (errno != EEXIST || !merge)
			return -errno;
		level->existed = true;
		/* The caller's own directory is not made over. */
		if (top && export->request->flags & LKL_EXPORT_CONTENTS)
			level->finish = false;
	}
	level->fd = open_host(host, name, &stat);
	if (level->fd < 0)
		return level->fd;
	level->device = stat.st_dev;
	level->inode = stat.st_ino;
	return 0;
}

static struct item item_of_level(const struct export *export,
				 const struct walk_step *step)
{
	return (struct item){
	    .source = step->name,
	    .source_itself = export->depth == 0,
	};
}

/* Begins a directory; returns -ENOMEM or 0. */
static int enter_directory(struct export *export, struct lkl_walk *walk,
			   const struct walk_step *step)
{
	struct item item = item_of_level(export, step);
	struct level level = {
	    .fd = -1,
	    .number = step->number,
	    .stat = step->stat,
	};
	const char *name = export->depth ? step->name : export->target;
	int host = export->host_directory;
	int error = 0;

	if (export->depth == export->allocated) {
		size_t count = export->allocated ? export->allocated * 2 : 16;
		struct level *levels =
		    realloc(export->levels, count * sizeof(*levels));

		if (!levels)
			return -ENOMEM;
		export->levels = levels;
		export->allocated = count;
	}
	if (export->depth) {
		level.name = strdup(name);
		if (!level.name)
			return -ENOMEM;
		host = host_of_deepest(export);
		error = host < 0 ? host : 0;
	}
	if (!error)
		error = make_directory(export, host, name, &level);
	if (error) {
		fail(export, &item, "create", error, true);
		level.unusable = true;
		walk_skip(walk);
	} else if (level.finish) {
		level.xattrs_size = read_xattrs(export, step->fd, "", &item);
		if (level.xattrs_size) {
			level.xattrs = malloc(level.xattrs_size);
			if (!level.xattrs) {
				free(level.name);
				close_level(&level);
				return -ENOMEM;
			}
			memcpy(level.xattrs, export->xattrs, level.xattrs_size);
		}
	}
	level.failed = export->entry_failed;
	export->entry_failed = false;
	export->levels[export->depth++] = level;
	close_above(export, export->depth - 1);
	return 0;
}

static void free_deepest(struct export *export)
{
	struct level *level = &export->levels[--export->depth];

	close_level(level);
	free(level->name);
	free(level->xattrs);
}

/* Completes a directory of which all entries are done. */
static void leave_directory(struct export *export)
{
	struct level *level = &export->levels[export->depth - 1];
	struct item item = {
	    .source = "",
	    .source_itself = true,
	};

	if (level->finish && !level->unusable) {
		int host = host_of_deepest(export);
		struct place place = {.fd = host};

		if (host < 0)
			fail(export, &item, "open", host, true);
		else
			set_metadata(export, &place, &level->stat,
				     level->xattrs, level->xattrs_size, &item);
	}
	export->entry_failed |= level->failed;
	free_deepest(export);
	entry_done(export);
}

/* Copies the entries of the deepest level that are not directories. */
static void export_entries(struct export *export, const struct walk_step *step)
{
	const struct lkl_entry *record = (const void *)export->records;
	const struct lkl_entry *end =
	    (const void *)(export->records + step->size);
	int host = host_of_deepest(export);
	bool existed = export->levels[export->depth - 1].existed;

	for (; record < end && !export->cancelled;
	     record = record_next(record)) {
		struct item item = {
		    .directory = step->fd,
		    .source = record_name(record),
		    .host = host,
		    .target = record_name(record),
		    .stat = &record->stat,
		};

		if (record->error ||
		    !name_is_safe(item.source, record->name_length))
			report(export, item.source, record->name_length, "stat",
			       record->error ? record->error : -EUCLEAN, false);
		else if (record->type == LKL_DT_DIR)
			continue;
		else if (host < 0)
			fail(export, &item, "create", host, true);
		else
			export_entry(export, &item, existed);
		entry_done(export);
	}
}

/* Copies a directory with all below it. */
static int export_tree(struct export *export, struct lkl_walk *walk)
{
	for (;;) {
		struct walk_step step;
		int error =
		    walk_step(walk, export->records, RECORDS_SIZE, &step);

		if (error)
			return error;
		switch (step.event) {
		case WALK_END:
			return 0;
		case WALK_ENTER:
			error = enter_directory(export, walk, &step);
			if (error)
				return error;
			break;
		case WALK_ENTRIES:
			export_entries(export, &step);
			break;
		case WALK_REFUSED:
			report(export, step.name, strlen(step.name), "open",
			       step.error, false);
			entry_done(export);
			break;
		case WALK_BROKEN:
			report(export, "", 0, "read", step.error, false);
			export->levels[export->depth - 1].failed = true;
			export->entry_failed = false;
			break;
		case WALK_LEAVE:
			leave_directory(export);
			break;
		}
		if (export->cancelled)
			return -ECANCELED;
	}
}

/* ---- The call ---------------------------------------------------------- */

static int export_directory(struct export *export, int directory,
			    const char *name)
{
	struct lkl_walk *walk;
	int error;
	int fd = (int)lkl_sys_openat(
	    export->kernel, directory, name[0] ? name : ".",
	    LKL_O_RDONLY | LKL_O_DIRECTORY | LKL_O_NOFOLLOW | LKL_O_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	error = lkl_walk_open(export->kernel, fd, export->request->max_depth,
			      &walk);
	lkl_sys_close(export->kernel, fd);
	if (error)
		return error;
	error = export_tree(export, walk);
	lkl_walk_close(walk);
	while (export->depth > 0)
		free_deepest(export);
	return error;
}

static int export_allocate(struct export *export)
{
	int error =
	    copy_memory_alloc(export->kernel, UINT64_MAX, &export->memory);

	if (error)
		return error;
	export->records = malloc(RECORDS_SIZE);
	export->link_target = malloc(LINK_MOST + 1);
	if (export->request->flags & LKL_EXPORT_XATTRS) {
		export->xattrs = malloc(XATTRS_SIZE);
		if (!export->xattrs)
			return -ENOMEM;
	}
	return export->records && export->link_target ? 0 : -ENOMEM;
}

static void export_free(struct export *export)
{
	tdestroy(export->links, free);
	free(export->levels);
	free(export->records);
	free(export->link_target);
	free(export->xattrs);
	if (export->memory.base)
		copy_memory_free(export->kernel, &export->memory);
}

int lkl_export(struct lkl_kernel *kernel, int directory, const char *name,
	       int host_directory, const char *target,
	       const struct lkl_export *request,
	       struct lkl_export_progress *result)
{
	struct export export = {
	    .kernel = kernel,
	    .request = request,
	    .host_directory = host_directory,
	    .target = target,
	};
	bool here =
	    request->flags & LKL_EXPORT_CONTENTS && strcmp(target, ".") == 0;
	struct lkl_stat stat;
	int error;

	*result = export.done;
	if (!here && !name_is_safe(target, strlen(target)))
		return -EINVAL;
	error = stat_entry(kernel, directory, name, &stat, NULL);
	if (error)
		return error;
	error = export_allocate(&export);
	if (!error && type_of_mode(stat.mode) == LKL_DT_DIR) {
		error = export_directory(&export, directory, name);
	} else if (!error && request->flags & LKL_EXPORT_CONTENTS) {
		error = -ENOTDIR;
	} else if (!error) {
		struct item item = {
		    .directory = directory,
		    .source = name,
		    .host = host_directory,
		    .target = target,
		    .stat = &stat,
		    .source_itself = true,
		};

		export_entry(&export, &item, true);
		entry_done(&export);
		error = export.cancelled ? -ECANCELED : 0;
	}
	export_free(&export);
	*result = export.done;
	return error;
}
