// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * As what an entry is written: names that the host can hold, and what is done
 * where something stands already.
 */
#include "folder.h"
#include "names.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define RENAMED_MOST 10000u
/* Units of UTF-16 that most programs of Windows take, with a NUL. */
#define LONG_PATH_MOST 259u
#define LONGEST_LEAST 64u
#define KEY_SIZE (4u * LKN_NAME_SIZE)

/* A choice that was made, as small as it can be kept. */
struct slot {
	const char *name, *key, *target;
	uint32_t length, renamed, flags, next;
	uint8_t action;
	bool own, asked;
	bool arrived; /* the entry came: another of that name is one too many */
	char bytes[];
};

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct slot *)a)->name,
		      ((const struct slot *)b)->name);
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(((const struct slot *)a)->key,
		      ((const struct slot *)b)->key);
}

static void free_nothing(void *slot)
{
	(void)slot;
}

void free_choices(struct level *level)
{
	tdestroy(level->by_name, free_nothing);
	tdestroy(level->by_key, free);
	level->by_name = level->by_key = NULL;
}

static struct slot *find_name(const struct level *level, const char *name)
{
	const struct slot key = {.name = name};
	struct slot *const *found = tfind(&key, &level->by_name, compare_names);

	return found ? *found : NULL;
}

static struct slot *find_key(const struct level *level, const char *text)
{
	const struct slot key = {.key = text};
	struct slot *const *found = tfind(&key, &level->by_key, compare_keys);

	return found ? *found : NULL;
}

/* What all names that the host takes for one have in common. */
static void make_key(const struct folder *folder, const char *target,
		     size_t length, char key[KEY_SIZE])
{
	bool ascii = true;
	int size = -1;

	for (size_t i = 0; i <= length; i++) {
		char c = target[i];

		ascii = ascii && (unsigned char)c < 0x80;
		if (folder->folds && c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		key[i] = c;
	}
	if (ascii || !folder->folds || !folder->request->fold)
		return;
	size = folder->request->fold(folder->request->opaque, target, length,
				     key, KEY_SIZE - 1);
	if (size >= 0 && (uint32_t)size < KEY_SIZE)
		key[size] = '\0';
}

static void keep(struct level *level, const char *name, const char *key,
		 const struct choice *choice, bool arrived)
{
	size_t sizes[] = {strlen(name) + 1, strlen(key) + 1,
			  choice->length + 1};
	struct slot *slot =
	    malloc(sizeof(*slot) + sizes[0] + sizes[1] + sizes[2]);
	char *at;

	/* Without memory it is decided once more when it comes. */
	if (!slot)
		return;
	*slot = (struct slot){
	    .length = choice->length,
	    .renamed = choice->renamed,
	    .flags = choice->flags,
	    .next = 2,
	    .action = (uint8_t)choice->action,
	    .own = choice->own,
	    .asked = choice->asked,
	    .arrived = arrived,
	};
	at = slot->bytes;
	slot->name = memcpy(at, name, sizes[0]);
	slot->key = memcpy(at + sizes[0], key, sizes[1]);
	slot->target =
	    memcpy(at + sizes[0] + sizes[1], choice->target, sizes[2]);
	if (!tsearch(slot, &level->by_key, compare_keys)) {
		free(slot);
		return;
	}
	tsearch(slot, &level->by_name, compare_names);
}

/* ---- Names ------------------------------------------------------------- */

static void map_name(const struct folder *folder, const char *name,
		     uint32_t length, uint32_t number, struct choice *choice)
{
	int size = lkn_name_map(name, length, folder->request->names, number,
				folder->longest_name, choice->target);

	/* Units are not all that the host counts. */
	if (size > (int)folder->longest_host_name)
		size = lkn_name_map(name, length, folder->request->names,
				    number, LONGEST_LEAST, choice->target);
	choice->length = (uint32_t)size;
}

/* A target that is no other's in this folder, and its key. */
static void find_target(const struct folder *folder, const struct level *level,
			const char *name, uint32_t length,
			struct choice *choice, char key[KEY_SIZE])
{
	struct slot *first;

	map_name(folder, name, length, 1, choice);
	make_key(folder, choice->target, choice->length, key);
	first = find_key(level, key);
	while (first) {
		map_name(folder, name, length, first->next++, choice);
		make_key(folder, choice->target, choice->length, key);
		if (!find_key(level, key))
			break;
	}
}

static void rename_target(const struct folder *folder, uint32_t number,
			  struct choice *choice)
{
	char name[LKN_NAME_SIZE], what[16];

	memcpy(name, choice->target, choice->length + 1);
	snprintf(what, sizeof(what), " (%u)", number);
	choice->renamed = number;
	choice->length = (uint32_t)name_insert(
	    name, choice->length, what, folder->request->names,
	    folder->longest_name, choice->target);
}

/* ---- What is there ----------------------------------------------------- */

void stat_of_host(const struct stat *host, struct lkl_stat *stat)
{
	*stat = (struct lkl_stat){
	    .mask = LKL_STATX_BASIC_STATS,
	    .mode = (uint16_t)host->st_mode,
	    .uid = host->st_uid,
	    .gid = host->st_gid,
	    .links = (uint32_t)host->st_nlink,
	    .block_size = (uint32_t)host->st_blksize,
	    .inode = host->st_ino,
	    .size = (uint64_t)host->st_size,
	    .blocks = (uint64_t)host->st_blocks,
	    .device_major = major(host->st_dev),
	    .device_minor = minor(host->st_dev),
	    .special_major = major(host->st_rdev),
	    .special_minor = minor(host->st_rdev),
	    .access_seconds = host->st_atim.tv_sec,
	    .access_nanoseconds = (uint32_t)host->st_atim.tv_nsec,
	    .modify_seconds = host->st_mtim.tv_sec,
	    .modify_nanoseconds = (uint32_t)host->st_mtim.tv_nsec,
	    .change_seconds = host->st_ctim.tv_sec,
	    .change_nanoseconds = (uint32_t)host->st_ctim.tv_nsec,
	};
}

static void skip(struct choice *choice, uint32_t rule)
{
	choice->action = ACTION_SKIP;
	choice->rule = rule;
}

static void refuse(struct choice *choice, uint32_t operation, int error)
{
	choice->action = ACTION_FAIL;
	choice->operation = operation;
	choice->error = error;
}

/* The first name that is neither there nor another's. */
static void rename_free(const struct folder *folder, const struct level *level,
			struct choice *choice, char key[KEY_SIZE])
{
	struct choice first = *choice;
	struct stat host;

	for (uint32_t number = 2; number < RENAMED_MOST; number++) {
		*choice = first;
		rename_target(folder, number, choice);
		make_key(folder, choice->target, choice->length, key);
		if (find_key(level, key) ||
		    fstatat(level->fd, choice->target, &host,
			    AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		choice->action = ACTION_NEW;
		return;
	}
	refuse(choice, LKN_HOST_CREATE, -EEXIST);
}

static uint32_t ask(struct folder *folder, const struct lkl_stat *stat,
		    const struct stat *host)
{
	struct lkl_stat existing;
	struct lkn_conflict conflict = {
	    .path = folder->path,
	    .path_length = folder->path_length,
	    .existing = &existing,
	    .entry = stat,
	};
	int answer;

	stat_of_host(host, &existing);
	answer = folder->request->ask(folder->request->opaque, &conflict);
	if (answer >= LKN_CONFLICT_SKIP && answer <= LKN_CONFLICT_NEWER)
		return (uint32_t)answer;
	end_copy(folder, LKN_ENDED_CANCELLED, -ECANCELED);
	return LKN_CONFLICT_SKIP;
}

static bool is_newer(const struct lkl_stat *stat, const struct stat *host)
{
	if (stat->modify_seconds != host->st_mtim.tv_sec)
		return stat->modify_seconds > host->st_mtim.tv_sec;
	return stat->modify_nanoseconds > (uint64_t)host->st_mtim.tv_nsec;
}

/* What becomes of an entry for which something is in the way. */
static void decide_conflict(struct folder *folder, const struct level *level,
			    const struct lkl_stat *stat,
			    const struct stat *host, struct choice *choice,
			    char key[KEY_SIZE])
{
	bool folder_there = S_ISDIR(host->st_mode);
	bool folder_comes = S_ISDIR(stat->mode);
	uint32_t decision = folder->request->conflicts;

	if (folder_there && folder_comes) {
		choice->action = ACTION_MERGE;
		return;
	}
	choice->flags |= LKN_EXISTED;
	if (decision == LKN_CONFLICT_ASK && folder->plan) {
		choice->action = ACTION_NEW;
		return;
	}
	if (decision == LKN_CONFLICT_ASK) {
		decision = ask(folder, stat, host);
		choice->asked = true;
	}
	if (decision == LKN_CONFLICT_RENAME) {
		rename_free(folder, level, choice, key);
	} else if (folder_there || folder_comes) {
		refuse(choice, LKN_HOST_TYPE,
		       folder_there ? -EISDIR : -ENOTDIR);
	} else if (decision == LKN_CONFLICT_SKIP) {
		skip(choice, LKN_RULE_EXISTS);
	} else if (decision == LKN_CONFLICT_NEWER && !is_newer(stat, host)) {
		skip(choice, LKN_RULE_NOT_NEWER);
	} else {
		choice->action = ACTION_REPLACE;
		choice->flags |= LKN_REPLACED;
	}
}

/* Goes on with what is there by this copy's doing at an earlier time. */
static void go_on(struct folder *folder, const struct lkl_stat *stat,
		  const struct stat *host, const uint64_t *seal,
		  struct choice *choice)
{
	choice->own = true;
	if (S_ISDIR(host->st_mode) != S_ISDIR(stat->mode)) {
		refuse(choice, LKN_HOST_TYPE,
		       S_ISDIR(host->st_mode) ? -EISDIR : -ENOTDIR);
	} else if (S_ISDIR(host->st_mode)) {
		choice->action = ACTION_MERGE;
	} else if (seal && journal_seal(host) == *seal &&
		   !(stat->links > 1 && is_another_file(folder, stat, host))) {
		choice->action = ACTION_DONE;
		if (stat->links > 1)
			remember_link(folder, 0, stat, choice->target, host);
	} else {
		choice->action = ACTION_REPLACE;
	}
}

/* Looks at what an earlier time of the copy says; true when that decides. */
static bool decide_by_journal(struct folder *folder, const struct level *level,
			      const struct lkl_stat *stat,
			      struct choice *choice, char key[KEY_SIZE])
{
	const struct journal_record *record;
	struct stat host;
	bool safe, found;

	if (!folder->journal.resumed)
		return false;
	record = journal_find(&folder->journal, folder->path,
			      folder->path_length, &safe);
	if (record && record->kind == JOURNAL_SKIPPED) {
		choice->flags |= LKN_EXISTED;
		skip(choice, LKN_RULE_EXISTS);
		return true;
	}
	/* Nobody but this copy has anything in a folder that it made. */
	if (!record && !level->made)
		return false;
	if (record && record->renamed) {
		rename_target(folder, record->renamed, choice);
		make_key(folder, choice->target, choice->length, key);
	}
	found =
	    fstatat(level->fd, choice->target, &host, AT_SYMLINK_NOFOLLOW) == 0;
	if (found)
		go_on(folder, stat, &host,
		      safe && record->kind == JOURNAL_COPIED ? &record->seal
							     : NULL,
		      choice);
	return true;
}

static void decide(struct folder *folder, const char *name, uint32_t length,
		   const struct lkl_stat *stat, struct choice *choice,
		   char key[KEY_SIZE])
{
	struct level *level = deepest(folder);
	struct stat host;
	int fd;

	find_target(folder, level, name, length, choice, key);
	if (S_ISLNK(stat->mode) &&
	    folder->request->symlinks == LKN_SYMLINK_SKIP) {
		skip(choice, LKN_RULE_SYMLINK);
		return;
	}
	if (!S_ISLNK(stat->mode) && !S_ISREG(stat->mode) &&
	    !S_ISDIR(stat->mode) &&
	    !(folder->request->flags & LKN_FOLDER_SPECIAL)) {
		skip(choice, LKN_RULE_SPECIAL);
		return;
	}
	choice->action = ACTION_NEW;
	if (level->fresh)
		return;
	fd = open_deepest(folder);
	if (fd < 0) {
		refuse(choice, LKN_HOST_FOLDER, fd);
		return;
	}
	if (decide_by_journal(folder, level, stat, choice, key))
		return;
	if (fstatat(fd, choice->target, &host, AT_SYMLINK_NOFOLLOW) == 0)
		decide_conflict(folder, level, stat, &host, choice, key);
}

static void choose_new(struct folder *folder, const char *name, uint32_t length,
		       const struct lkl_stat *stat, struct choice *choice,
		       bool arrived)
{
	struct level *level = deepest(folder);
	char key[KEY_SIZE];

	decide(folder, name, length, stat, choice, key);
	if (strcmp(choice->target, name) != 0)
		choice->flags |= LKN_MAPPED;
	if (folder->request->names == LKN_NAMES_WINDOWS &&
	    level->units + units_of(choice->target) > LONG_PATH_MOST)
		choice->flags |= LKN_LONG_PATH;
	/* A new folder of a host that takes each name for itself needs none. */
	if (choice->action != ACTION_FAIL && (!level->fresh || folder->folds))
		keep(level, name, key, choice, arrived);
}

void choose_candidate(struct folder *folder, const char *name, uint32_t length,
		      const struct lkl_stat *stat, struct choice *choice)
{
	*choice = (struct choice){0};
	if (find_name(deepest(folder), name))
		refuse(choice, LKN_HOST_CREATE, -EEXIST);
	else
		choose_new(folder, name, length, stat, choice, false);
}

void choose(struct folder *folder, const char *name, uint32_t length,
	    const struct lkl_stat *stat, struct choice *choice)
{
	struct slot *slot = find_name(deepest(folder), name);

	*choice = (struct choice){0};
	if (!slot) {
		choose_new(folder, name, length, stat, choice, true);
		return;
	}
	if (slot->arrived || slot->action >= ACTION_SKIP) {
		refuse(choice, LKN_HOST_CREATE, -EEXIST);
		return;
	}
	slot->arrived = true;
	*choice = (struct choice){
	    .action = slot->action,
	    .flags = slot->flags,
	    .renamed = slot->renamed,
	    .own = slot->own,
	    .asked = slot->asked,
	    .length = slot->length,
	};
	memcpy(choice->target, slot->target, slot->length + 1);
}

/* ---- The host ---------------------------------------------------------- */

bool folds_names(const struct folder *folder, int directory)
{
	char name[64], other[64];
	struct statfs system;
	struct stat host;
	unsigned int flags = 0;
	int fd;

	if (fstatfs(directory, &system) == 0 &&
	    (system.f_type == MSDOS_SUPER_MAGIC ||
	     system.f_type == EXFAT_SUPER_MAGIC ||
	     system.f_type == SMB_SUPER_MAGIC ||
	     system.f_type == (long)CIFS_SUPER_MAGIC ||
	     system.f_type == (long)SMB2_SUPER_MAGIC))
		return true;
	if (ioctl(directory, FS_IOC_GETFLAGS, &flags) == 0 &&
	    flags & FS_CASEFOLD_FL)
		return true;
	if (folder->plan)
		return false;
	/* Others do not say so; they are tried. */
	snprintf(name, sizeof(name), ".a.%s.part", folder->job);
	snprintf(other, sizeof(other), ".A.%s.part", folder->job);
	fd = openat(directory, name,
		    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	close(fd);
	fd = fstatat(directory, other, &host, AT_SYMLINK_NOFOLLOW);
	unlinkat(directory, name, 0);
	return fd == 0;
}
