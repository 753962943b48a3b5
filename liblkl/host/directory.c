// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Directories in bulk: names and statx of every entry in one call.
 */
#include "record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define STATX_MNT_ID 0x1000

#define DIRENT_NAME_OFFSET 19u
/*
 * The kernel's directory entry of a name takes at least 24 bytes, its record
 * at most 136 bytes more.  So records need less than 7 times the space of the
 * kernel's entries, and an eighth of a buffer's free space, at its end, can
 * hold the entries that the rest is filled from: nothing is read that has no
 * room, the file position is always right, and no memory is allocated.
 */
#define SPACE_PER_DIRENT 8u
/* Entries that stay in a CPU's nearest caches until they are used. */
#define DIRENTS_MOST (32u << 10)
/* Too little for a name of 255 bytes: not worth one more call. */
#define DIRENTS_LEAST 512u

struct lkl_entry *record_put(void *place, const char *name, size_t name_length)
{
	struct lkl_entry *record = place;
	size_t size = record_size(name_length);

	memset(record, 0, sizeof(*record));
	record->record_size = (uint32_t)size;
	record->name_length = (uint16_t)name_length;
	memcpy(record + 1, name, name_length);
	memset((char *)(record + 1) + name_length, 0,
	       size - sizeof(*record) - name_length);
	return record;
}

bool name_is_safe(const char *name, size_t length)
{
	if (length == 0 || memchr(name, '/', length) ||
	    memchr(name, '\0', length))
		return false;
	return !(name[0] == '.' &&
		 (length == 1 || (length == 2 && name[1] == '.')));
}

#define SECOND 1000000000u

/* ext4 passes on 30 bits of nanoseconds as they are stored. */
static int64_t seconds_of(const struct lkl_statx_timestamp *time)
{
	return time->tv_sec + time->tv_nsec / SECOND;
}

int stat_entry(struct lkl_kernel *kernel, int directory, const char *name,
	       struct lkl_stat *stat, uint64_t *mount)
{
	struct lkl_statx statx;
	uint32_t mask = LKL_STATX_BASIC_STATS | LKL_STATX_BTIME;
	int flags = LKL_AT_SYMLINK_NOFOLLOW;
	int64_t result;

	if (mount)
		mask |= STATX_MNT_ID;
	if (name[0] == '\0')
		flags |= LKL_AT_EMPTY_PATH;
	result = lkl_sys_statx(kernel, directory, name, flags, mask, &statx);
	if (result < 0)
		return (int)result;
	if (mount)
		*mount = statx.stx_mnt_id;
	*stat = (struct lkl_stat){
	    .mask = statx.stx_mask,
	    .mode = statx.stx_mode,
	    .uid = statx.stx_uid,
	    .gid = statx.stx_gid,
	    .links = statx.stx_nlink,
	    .block_size = statx.stx_blksize,
	    .inode = statx.stx_ino,
	    .size = statx.stx_size,
	    .blocks = statx.stx_blocks,
	    .attributes = statx.stx_attributes,
	    .device_major = statx.stx_dev_major,
	    .device_minor = statx.stx_dev_minor,
	    .special_major = statx.stx_rdev_major,
	    .special_minor = statx.stx_rdev_minor,
	    .access_seconds = seconds_of(&statx.stx_atime),
	    .modify_seconds = seconds_of(&statx.stx_mtime),
	    .change_seconds = seconds_of(&statx.stx_ctime),
	    .birth_seconds = seconds_of(&statx.stx_btime),
	    .access_nanoseconds = statx.stx_atime.tv_nsec % SECOND,
	    .modify_nanoseconds = statx.stx_mtime.tv_nsec % SECOND,
	    .change_nanoseconds = statx.stx_ctime.tv_nsec % SECOND,
	    .birth_nanoseconds = statx.stx_btime.tv_nsec % SECOND,
	};
	return 0;
}

/* A damaged image may say a type that is none. */
static uint8_t known_type(uint8_t type)
{
	switch (type) {
	case LKL_DT_FIFO:
	case LKL_DT_CHR:
	case LKL_DT_DIR:
	case LKL_DT_BLK:
	case LKL_DT_REG:
	case LKL_DT_LNK:
	case LKL_DT_SOCK:
		return type;
	default:
		return LKL_DT_UNKNOWN;
	}
}

/* The record of one entry that getdents64 gave. */
static size_t put_entry(struct lkl_kernel *kernel, int directory,
			const struct lkl_linux_dirent64 *dirent, void *place)
{
	const char *name = (const char *)dirent + DIRENT_NAME_OFFSET;
	size_t length = strnlen(name, dirent->d_reclen - DIRENT_NAME_OFFSET);
	struct lkl_entry *record;

	if (name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')))
		return 0;
	record = record_put(place, name, length);
	/* The kernel refuses such names of a corrupt image; so do we. */
	if (!name_is_safe(name, length))
		record->error = -EUCLEAN;
	else
		record->error =
		    stat_entry(kernel, directory, record_name(record),
			       &record->stat, NULL);
	if (record->error) {
		record->type = known_type(dirent->d_type);
		record->stat.inode = dirent->d_ino;
		record->stat.mask = LKL_STATX_INO;
	} else {
		record->type = known_type(type_of_mode(record->stat.mode));
	}
	return record->record_size;
}

/*
 * What one getdents64 gave.  At a damaged entry UDF and JFS stay at the one
 * before it, and give that for ever: twice the same is the end, and the first
 * time was one too many.  The place alone says nothing, for ext4's is a hash
 * that many names may share; and asking for it by lseek makes ext4 forget which
 * of them it has given.
 */
struct step {
	int64_t got;   /* 0: none yet */
	size_t filled; /* by the steps before */
	/* Of the first entry: */
	int64_t next; /* the place after it */
	uint64_t inode;
	char name[256];
};

static void take_first(struct step *step,
		       const struct lkl_linux_dirent64 *dirent)
{
	step->next = dirent->d_off;
	step->inode = dirent->d_ino;
	snprintf(step->name, sizeof(step->name), "%s",
		 (const char *)dirent + DIRENT_NAME_OFFSET);
}

static bool same_step(const struct step *one, const struct step *other)
{
	return one->got == other->got && one->next == other->next &&
	       one->inode == other->inode &&
	       strcmp(one->name, other->name) == 0;
}

/*
 * HPFS gives ENOENT when it is asked once more at the end of a directory.  From
 * all others it means that the directory was removed.
 */
static bool is_hpfs(struct lkl_kernel *kernel, int directory)
{
	struct lkl_statfs statfs;

	/* HPFS_SUPER_MAGIC of include/uapi/linux/magic.h */
	return lkl_sys_fstatfs(kernel, directory, &statfs) == 0 &&
	       statfs.f_type == 0xf995e849;
}

int64_t lkl_read_directory(struct lkl_kernel *kernel, int directory,
			   void *buffer, size_t size)
{
	unsigned char *start = buffer;
	struct step last = {.got = 0};
	size_t filled = 0;

	if ((uintptr_t)buffer % RECORD_ALIGNMENT)
		return -EINVAL;
	size -= size % RECORD_ALIGNMENT;
	for (;;) {
		size_t space = (size - filled) / SPACE_PER_DIRENT;
		const unsigned char *dirents;
		struct step step;

		if (space > DIRENTS_MOST)
			space = DIRENTS_MOST;
		space -= space % RECORD_ALIGNMENT;
		if (filled && space < DIRENTS_LEAST)
			return (int64_t)filled;
		dirents = start + size - space;
		step.filled = filled;
		step.got = lkl_sys_getdents64(
		    kernel, directory, start + size - space, (uint32_t)space);
		if (step.got == 0 ||
		    (step.got == -ENOENT && is_hpfs(kernel, directory)))
			return (int64_t)filled;
		/* What stands in the way will be met again by the next call. */
		if (step.got < 0)
			return filled ? (int64_t)filled : step.got;
		take_first(&step, (const void *)dirents);
		if (same_step(&step, &last))
			return last.filled ? (int64_t)last.filled : -EUCLEAN;
		last = step;
		for (int64_t at = 0; at < step.got;) {
			const struct lkl_linux_dirent64 *dirent =
			    (const void *)(dirents + at);

			filled += put_entry(kernel, directory, dirent,
					    start + filled);
			at += dirent->d_reclen;
		}
	}
}
