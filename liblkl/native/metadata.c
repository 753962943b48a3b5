// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#include "metadata.h"
#include "copy_stream.h"
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PERMISSIONS (S_IRWXU | S_IRWXG | S_IRWXO | S_ISVTX)
#define XATTR_NAME_SIZE 256u

static void lose(struct metadata_losses *losses, uint32_t operation)
{
	if (losses->operation)
		return;
	losses->operation = operation;
	losses->error = -errno;
}

static void lose_xattr(struct metadata_losses *losses, const char *name,
		       size_t length)
{
	losses->xattrs++;
	if (losses->names_size + length + 1 > sizeof(losses->names))
		return;
	memcpy(losses->names + losses->names_size, name, length + 1);
	losses->names_size += length + 1;
}

/* Whether an attribute is kept: most mean something with an owner only. */
static bool is_kept(const char *name, bool owners)
{
	if (strncmp(name, "user.", 5) == 0)
		return true;
	return owners && (strncmp(name, "security.", 9) == 0 ||
			  strncmp(name, "trusted.", 8) == 0 ||
			  strcmp(name, "system.posix_acl_access") == 0 ||
			  strcmp(name, "system.posix_acl_default") == 0);
}

static int set_xattr(const struct place *place, const char *name,
		     const void *value, size_t size)
{
	char path[64 + LKN_NAME_SIZE];

	if (!place->name)
		return fsetxattr(place->fd, name, value, size, 0);
	/* setxattrat(2) is too young to be relied on. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", place->fd,
		 place->name);
	return lsetxattr(path, name, value, size, 0);
}

/* Records of lkl_read_xattrs, which the stream's reader found sound. */
static void set_xattrs(const struct place *place, const unsigned char *xattrs,
		       size_t size, bool owners, struct metadata_losses *losses)
{
	for (size_t at = 0; at < size;) {
		char name[XATTR_NAME_SIZE];
		uint32_t lengths[2];
		const unsigned char *bytes = xattrs + at + sizeof(lengths);

		memcpy(lengths, xattrs + at, sizeof(lengths));
		at += (sizeof(lengths) + lengths[0] + lengths[1] + 7) &
		      ~(size_t)7;
		memcpy(name, bytes, lengths[0]);
		name[lengths[0]] = '\0';
		if (!is_kept(name, owners)) {
			lose_xattr(losses, name, lengths[0]);
		} else if (set_xattr(place, name, bytes + lengths[0],
				     lengths[1]) < 0) {
			lose(losses, LKN_HOST_XATTRS);
			lose_xattr(losses, name, lengths[0]);
		}
	}
}

static int set_owner(const struct place *place, const struct lkl_stat *stat)
{
	return place->name ? fchownat(place->fd, place->name, stat->uid,
				      stat->gid, AT_SYMLINK_NOFOLLOW)
			   : fchown(place->fd, stat->uid, stat->gid);
}

static int set_mode(const struct place *place, mode_t mode)
{
	return place->name
		   ? fchmodat(place->fd, place->name, mode, AT_SYMLINK_NOFOLLOW)
		   : fchmod(place->fd, mode);
}

static int set_times(const struct place *place, const struct lkl_stat *stat)
{
	const struct timespec times[2] = {
	    {stat->access_seconds, stat->access_nanoseconds},
	    {stat->modify_seconds, stat->modify_nanoseconds},
	};

	return place->name ? utimensat(place->fd, place->name, times,
				       AT_SYMLINK_NOFOLLOW)
			   : futimens(place->fd, times);
}

/*
 * In the order that lets each stand: a new owner clears capabilities and
 * set-user-ID bits, and everything changes times.
 */
void set_metadata(const struct place *place, const struct lkl_stat *stat,
		  const unsigned char *xattrs, size_t xattrs_size, bool owners,
		  struct metadata_losses *losses)
{
	mode_t mode = stat->mode & PERMISSIONS;

	losses->operation = 0;
	losses->error = 0;
	losses->owner = false;
	losses->xattrs = 0;
	losses->names_size = 0;
	if (!owners) {
		losses->owner =
		    stat->uid != geteuid() || stat->gid != getegid();
	} else if (set_owner(place, stat) < 0) {
		losses->owner = true;
		lose(losses, LKN_HOST_OWNER);
	} else {
		mode = stat->mode & 07777;
	}
	set_xattrs(place, xattrs, xattrs_size, owners, losses);
	/* A link's mode means nothing on Linux. */
	if (!S_ISLNK(stat->mode) && set_mode(place, mode) < 0)
		lose(losses, LKN_HOST_MODE);
	if (set_times(place, stat) < 0)
		lose(losses, LKN_HOST_TIMES);
}
