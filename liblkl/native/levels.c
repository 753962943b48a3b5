// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Folders of the host that are worked in, from the destination down.
 *
 * Each name is used relative to an open directory, and no link is followed.  A
 * directory that is opened again must be the one it was.
 */
#include "folder.h"
#include "names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Directories that are open at a time. */
#define OPEN_MOST 64u

struct level *deepest(struct folder *folder)
{
	return &folder->levels[folder->depth - 1];
}

bool push_path(struct folder *folder, const char *name, size_t length)
{
	size_t needed = folder->path_length + length + 2;

	if (needed > folder->path_allocated) {
		char *path = realloc(folder->path, needed * 2);

		if (!path) {
			end_copy(folder, LKN_ENDED_MEMORY, -ENOMEM);
			return false;
		}
		folder->path = path;
		folder->path_allocated = needed * 2;
	}
	if (folder->path_length)
		folder->path[folder->path_length++] = '/';
	memcpy(folder->path + folder->path_length, name, length);
	folder->path_length += length;
	folder->path[folder->path_length] = '\0';
	return true;
}

void cut_path(struct folder *folder, size_t length)
{
	folder->path_length = length;
	folder->path[length] = '\0';
}

static void close_level(struct level *level)
{
	if (level->fd >= 0)
		close(level->fd);
	level->fd = -1;
}

/* The destination itself stays open always. */
static void close_above(struct folder *folder, size_t depth)
{
	if (depth > OPEN_MOST)
		close_level(&folder->levels[depth - OPEN_MOST]);
}

static int open_folder(int directory, const char *name, struct stat *stat)
{
	int fd = openat(directory, name, DIRECTORY_FLAGS);
	int error;

	if (fd < 0)
		return -errno;
	if (fstat(fd, stat) == 0)
		return fd;
	error = -errno;
	close(fd);
	return error;
}

static const char *host_name(const struct level *level)
{
	return level->account.target_length ? level->account.target : ".";
}

int open_level(struct folder *folder, size_t depth)
{
	size_t at = depth;

	if (folder->levels[depth].unusable)
		return -ENOENT;
	while (folder->levels[at].fd < 0)
		at--;
	for (at++; at <= depth; at++) {
		struct level *level = &folder->levels[at];
		struct stat stat;
		int fd = open_folder(level[-1].fd, host_name(level), &stat);

		if (fd < 0)
			return fd;
		if (stat.st_dev != level->device ||
		    stat.st_ino != level->inode) {
			close(fd);
			return -ENOENT;
		}
		level->fd = fd;
		close_above(folder, at);
	}
	return folder->levels[depth].fd;
}

int open_deepest(struct folder *folder)
{
	return open_level(folder, folder->depth - 1);
}

void remove_parts(struct folder *folder, int directory)
{
	char suffix[32];
	size_t size =
	    (size_t)snprintf(suffix, sizeof(suffix), ".%s.part", folder->job);
	int fd = openat(directory, ".", DIRECTORY_FLAGS);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!stream) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(stream))) {
		size_t length = strlen(entry->d_name);

		if (length > size &&
		    strcmp(entry->d_name + length - size, suffix) == 0)
			unlinkat(fd, entry->d_name, 0);
	}
	closedir(stream);
}

/* ---- Entering ---------------------------------------------------------- */

static bool allocate_level(struct folder *folder)
{
	size_t count = folder->allocated ? folder->allocated * 2 : 16;
	struct level *levels;

	if (folder->depth < folder->allocated)
		return true;
	levels = realloc(folder->levels, count * sizeof(*levels));
	if (!levels) {
		end_copy(folder, LKN_ENDED_MEMORY, -ENOMEM);
		return false;
	}
	folder->levels = levels;
	folder->allocated = count;
	return true;
}

static void open_made(struct folder *folder, struct level *level, int parent)
{
	struct stat stat;

	level->fd = open_folder(parent, host_name(level), &stat);
	if (level->fd < 0) {
		fail_host(folder, &level->account, LKN_HOST_CREATE, level->fd);
		level->fd = -1;
		return;
	}
	level->device = stat.st_dev;
	level->inode = stat.st_ino;
}

static void make_level(struct folder *folder, struct level *level)
{
	int parent = open_deepest(folder);
	int error;

	if (parent < 0) {
		fail_here(&level->account, LKN_HOST_FOLDER, parent);
		return;
	}
	error =
	    journal_append(&folder->journal, JOURNAL_DIRECTORY, folder->path,
			   folder->path_length, folder->choice.renamed, 0);
	if (error) {
		end_copy(folder, LKN_ENDED_JOURNAL, error);
		fail_here(&level->account, LKN_HOST_STOPPED, error);
		return;
	}
	if (mkdirat(parent, level->account.target, S_IRWXU) < 0) {
		fail_host(folder, &level->account, LKN_HOST_CREATE, -errno);
		return;
	}
	level->made = level->own = true;
	/* At a later time, what is not asked for could be linked to. */
	level->fresh = !folder->journal.resumed;
	open_made(folder, level, parent);
}

static void merge_level(struct folder *folder, struct level *level)
{
	const struct choice *choice = &folder->choice;
	int parent = open_deepest(folder);

	if (parent < 0) {
		fail_here(&level->account, LKN_HOST_FOLDER, parent);
		return;
	}
	level->made = choice->own;
	level->own =
	    choice->own || folder->request->conflicts == LKN_CONFLICT_OVERWRITE;
	/* It may have got a mode already that keeps us out. */
	if (choice->own && !folder->plan)
		fchmodat(parent, level->account.target, S_IRWXU,
			 AT_SYMLINK_NOFOLLOW);
	open_made(folder, level, parent);
	if (level->fd >= 0 && folder->journal.resumed && !folder->plan)
		remove_parts(folder, level->fd);
}

/* Chooses what becomes of a folder: true unless it was told to be skipped. */
static bool choose_level(struct folder *folder, struct level *level,
			 const struct lkn_event *event)
{
	struct choice *choice = &folder->choice;
	const struct level *parent = deepest(folder);

	if (parent->unusable) {
		fail_here(&level->account, LKN_HOST_FOLDER, -ENOENT);
		return true;
	}
	choose(folder, event->name, event->name_length, event->stat, choice);
	level->account.flags |= choice->flags;
	level->account.target_length = choice->length;
	memcpy(level->account.target, choice->target, choice->length + 1);
	level->mapped = parent->mapped || choice->flags & LKN_MAPPED;
	level->units = parent->units + units_of(choice->target) + 1;
	switch (choice->action) {
	case ACTION_NEW:
	case ACTION_REPLACE:
		if (folder->plan)
			level->fresh = true;
		else
			make_level(folder, level);
		return true;
	case ACTION_MERGE:
		merge_level(folder, level);
		return true;
	case ACTION_SKIP:
		return false;
	default:
		fail_here(&level->account, choice->operation, choice->error);
		return true;
	}
}

void enter(struct folder *folder, const struct lkn_event *event)
{
	struct level level = {.fd = -1};
	bool chosen = true;

	level.account.number = event->number;
	level.account.stat = *event->stat;
	if (!allocate_level(folder) ||
	    (!(event->flags & COPY_CONTENTS) &&
	     !push_path(folder, event->name, event->name_length)))
		return;
	if (event->flags & COPY_CONTENTS)
		/* It is what the user gave: its own attributes stay. */
		open_made(folder, &level, folder->levels[0].fd);
	else
		chosen = choose_level(folder, &level, event);
	level.path_length = folder->path_length;
	level.unusable = level.account.failed || !chosen;
	if (level.unusable)
		tell_outcome(folder, &level.account,
			     chosen ? LKN_FAILED : LKN_SKIPPED,
			     folder->choice.rule);
	if (level.unusable && level.fd >= 0)
		close_level(&level);
	folder->levels[folder->depth++] = level;
	close_above(folder, folder->depth - 1);
	if (event->answer && folder->ended < 0) {
		int error = lkn_stream_answer_mode(
		    folder->stream, level.unusable ? COPY_UNUSABLE
				    : level.fresh  ? COPY_FREE
						   : COPY_ASK);

		if (error)
			end_copy(folder, LKN_ENDED_STREAM, error);
	}
}

void keep_level_xattrs(struct folder *folder, const struct lkn_event *event)
{
	struct level *level = deepest(folder);

	if (!level->own || level->unusable || !event->length)
		return;
	level->xattrs = malloc(event->length);
	if (!level->xattrs) {
		end_copy(folder, LKN_ENDED_MEMORY, -ENOMEM);
		return;
	}
	memcpy(level->xattrs, event->data, event->length);
	level->xattrs_size = event->length;
}

/* ---- Leaving ----------------------------------------------------------- */

static void finish_level(struct folder *folder, struct level *level)
{
	struct place place = {.fd = open_deepest(folder)};

	if (place.fd < 0)
		damage(&level->account, LKN_HOST_FOLDER, place.fd, false);
	else
		set_attributes(folder, &level->account, &place,
			       &level->account.stat, level->xattrs,
			       level->xattrs_size);
}

void leave(struct folder *folder)
{
	struct level *level = deepest(folder);

	cut_path(folder, level->path_length);
	if (!level->unusable) {
		if (level->own && !folder->plan)
			finish_level(folder, level);
		tell_outcome(
		    folder, &level->account,
		    level->account.operation ? LKN_DAMAGED : LKN_COPIED, 0);
	}
	free_deepest(folder);
	cut_path(folder, deepest(folder)->path_length);
}

void free_deepest(struct folder *folder)
{
	struct level *level = &folder->levels[--folder->depth];

	close_level(level);
	free_choices(level);
	free(level->xattrs);
}
