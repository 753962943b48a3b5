// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Entries that are no folders: content into a part file, attributes, the name.
 */
#include "folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Names tried for a part file before giving up. */
#define PART_ATTEMPTS 1000u
#define NAME_BYTES_MOST 255u
#define BUFFER_SIZE ((size_t)1 << 20)
/* Copied by the host at once, between two looks at the clock. */
#define RANGE_MOST ((uint64_t)8 << 20)
#define BAD_MOST 256u

/* ---- Part files -------------------------------------------------------- */

static void part_name(struct folder *folder, unsigned int attempt,
		      char part[PART_NAME_SIZE])
{
	const struct choice *choice = &folder->choice;

	if (!attempt &&
	    choice->length + sizeof("..part") + 15 <= NAME_BYTES_MOST)
		snprintf(part, PART_NAME_SIZE, "%.*s.%s.part",
			 (int)choice->length, choice->target, folder->job);
	else
		snprintf(part, PART_NAME_SIZE, ".%llu.%s.part",
			 (unsigned long long)++folder->part_count, folder->job);
}

static bool part_retry(int error)
{
	return error == -EEXIST || error == -ENAMETOOLONG;
}

static int create_part(struct folder *folder, int directory)
{
	int fd = -EEXIST;

	for (unsigned int attempt = 0;
	     part_retry(fd) && attempt < PART_ATTEMPTS; attempt++) {
		part_name(folder, attempt, folder->content.part);
		fd = openat(directory, folder->content.part,
			    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			    S_IRUSR | S_IWUSR);
		if (fd < 0)
			fd = -errno;
	}
	return fd;
}

static void remove_part(struct folder *folder)
{
	int directory = open_deepest(folder);

	if (folder->content.fd >= 0)
		close(folder->content.fd);
	folder->content.fd = -1;
	if (directory >= 0 && folder->content.part[0])
		unlinkat(directory, folder->content.part, 0);
	folder->content.part[0] = '\0';
}

/* Gives what is whole a name that must be new. */
static int rename_new(int directory, const char *part, const char *target)
{
	struct stat host;

	if (renameat2(directory, part, directory, target, RENAME_NOREPLACE) ==
	    0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* This file system cannot, but a second link does as well. */
	if (linkat(directory, part, directory, target, 0) == 0) {
		unlinkat(directory, part, 0);
		return 0;
	}
	if (errno != EPERM && errno != EOPNOTSUPP)
		return -errno;
	/* It knows no links either: the best that is left. */
	if (fstatat(directory, target, &host, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return renameat(directory, part, directory, target) < 0 ? -errno : 0;
}

/* Writes down and names what the part file has become. */
static void name_part(struct folder *folder, int directory,
		      const struct stat *host)
{
	const struct choice *choice = &folder->choice;
	const char *part = folder->content.part;
	int error = journal_append(&folder->journal, JOURNAL_COPIED,
				   folder->path, folder->path_length,
				   choice->renamed, journal_seal(host));

	if (error) {
		end_copy(folder, LKN_ENDED_JOURNAL, error);
		fail_here(&folder->account, LKN_HOST_STOPPED, error);
		unlinkat(directory, part, 0);
		return;
	}
	if (choice->action == ACTION_NEW)
		error = rename_new(directory, part, choice->target);
	else if (renameat(directory, part, directory, choice->target) < 0)
		error = -errno;
	if (error) {
		fail_host(folder, &folder->account, LKN_HOST_CREATE, error);
		unlinkat(directory, part, 0);
	} else if (folder->linked) {
		/* Renaming one link of a file to another does nothing. */
		unlinkat(directory, part, 0);
	} else if (folder->account.stat.links > 1) {
		remember_link(folder, folder->account.number,
			      &folder->account.stat, choice->target, host);
	}
}

/* ---- Content ----------------------------------------------------------- */

static int write_all(struct folder *folder, const void *bytes, size_t length)
{
	struct content *content = &folder->content;

	for (size_t at = 0; at < length;) {
		ssize_t done =
		    pwrite(content->fd, (const char *)bytes + at, length - at,
			   (off_t)(content->position + at));

		if (done < 0 && errno != EINTR)
			return -errno;
		if (done == 0)
			return -ENOSPC;
		if (done > 0)
			at += (size_t)done;
	}
	return 0;
}

static void advance(struct folder *folder, uint64_t length)
{
	struct content *content = &folder->content;

	content->position += length;
	content->end = content->position;
	folder->account.written += length;
	folder->journal.unsafe_bytes += length;
}

static void give_up_content(struct folder *folder, uint32_t operation,
			    int error)
{
	fail_host(folder, &folder->account, operation, error);
	remove_part(folder);
}

static void write_content(struct folder *folder, const void *bytes,
			  size_t length)
{
	int error = write_all(folder, bytes, length);

	if (error) {
		give_up_content(folder, LKN_HOST_WRITE, error);
		return;
	}
	if (folder->digests)
		lkn_digests_update(folder->digests, bytes, length);
	advance(folder, length);
}

static void skip_content(struct folder *folder, uint64_t length)
{
	static const unsigned char zeros[65536];

	folder->content.position += length;
	for (uint64_t left = folder->digests ? length : 0;
	     left && folder->ended < 0;) {
		size_t part = left < sizeof(zeros) ? left : sizeof(zeros);

		lkn_digests_update(folder->digests, zeros, part);
		left -= part;
		/* A hole may be as long as no file is. */
		if (left % RANGE_MOST < sizeof(zeros))
			tick(folder);
	}
}

static void note_bad(struct folder *folder, uint64_t length, int error)
{
	uint64_t position = folder->content.position;

	damage(&folder->account, COPY_READ, error, true);
	folder->account.bad += length;
	if (folder->bad_count &&
	    folder->bad[folder->bad_count - 1][0] +
		    folder->bad[folder->bad_count - 1][1] ==
		position) {
		folder->bad[folder->bad_count - 1][1] += length;
	} else if (folder->bad_count < BAD_MOST) {
		folder->bad[folder->bad_count][0] = position;
		folder->bad[folder->bad_count++][1] = length;
	}
}

/*
 * By the host's own means, which may be no copy at all: the bytes copied; 0
 * when it does not do that here, or an errno of writing.
 */
static int64_t copy_range(struct folder *folder, int file, uint64_t position,
			  uint64_t length)
{
	off_t from = (off_t)position;
	off_t to = (off_t)folder->content.position;
	ssize_t done;

	if (folder->digests || folder->no_copy_range)
		return 0;
	do
		done = copy_file_range(file, &from, folder->content.fd, &to,
				       length, 0);
	while (done < 0 && errno == EINTR);
	if (done >= 0)
		return done;
	if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
		return -errno;
	if (errno != EIO)
		folder->no_copy_range = true;
	return 0;
}

/* Copies bytes of a file of the host to where the content is. */
static void copy_bytes(struct folder *folder, int file, uint64_t position,
		       uint64_t length)
{
	while (length && folder->content.fd >= 0 && folder->ended < 0) {
		uint64_t part = length < RANGE_MOST ? length : RANGE_MOST;
		int64_t done = copy_range(folder, file, position, part);

		if (done < 0) {
			give_up_content(folder, LKN_HOST_WRITE, (int)done);
			return;
		}
		if (done > 0) {
			advance(folder, (uint64_t)done);
		} else {
			do
				done = pread(file, folder->buffer,
					     part < BUFFER_SIZE ? part
								: BUFFER_SIZE,
					     (off_t)position);
			while (done < 0 && errno == EINTR);
			/* It was as long as that when the engine looked. */
			if (done <= 0) {
				give_up_content(folder, LKN_HOST_READ,
						done < 0 ? -errno : -EIO);
				return;
			}
			write_content(folder, folder->buffer, (size_t)done);
		}
		position += (uint64_t)done;
		length -= (uint64_t)done;
		tick(folder);
	}
}

void take_content(struct folder *folder, const struct lkn_event *event)
{
	struct content *content = &folder->content;

	if (event->kind == COPY_XATTRS) {
		folder->xattrs_size = 0;
		if (content->wanted || !S_ISREG(folder->account.stat.mode)) {
			memcpy(folder->xattrs, event->data, event->length);
			folder->xattrs_size = event->length;
		}
		return;
	}
	if (event->kind == COPY_STREAM) {
		content->streams = true;
		if (folder->choice.action <= ACTION_MERGE)
			folder->account.flags |= LKN_STREAM_LOST;
		return;
	}
	if (content->fd < 0 || content->streams)
		return;
	switch (event->kind) {
	case COPY_DATA:
		write_content(folder, event->data, event->length);
		break;
	case COPY_EXTENT:
		copy_bytes(folder, event->file, event->position, event->length);
		break;
	case COPY_BAD:
		note_bad(folder, event->length, event->error);
		skip_content(folder, event->length);
		break;
	default:
		folder->account.holes += event->length;
		skip_content(folder, event->length);
	}
}

/* ---- From the first to the last message of an entry --------------------- */

static void begin_content(struct folder *folder)
{
	int directory = open_deepest(folder);
	int fd;

	if (directory < 0) {
		fail_here(&folder->account, LKN_HOST_FOLDER, directory);
		return;
	}
	fd = create_part(folder, directory);
	if (fd < 0) {
		folder->content.part[0] = '\0';
		fail_host(folder, &folder->account, LKN_HOST_CREATE, fd);
		return;
	}
	folder->content.fd = fd;
	folder->content.wanted = true;
	if (folder->digests)
		lkn_digests_reset(folder->digests);
}

static void begin_account(struct folder *folder, uint64_t number,
			  const struct lkl_stat *stat)
{
	struct account *account = &folder->account;

	account->number = number;
	account->stat = *stat;
	account->flags = 0;
	account->operation = 0;
	account->error = 0;
	account->failed = false;
	account->written = account->holes = account->bad = 0;
	account->target_length = 0;
	folder->bad_count = 0;
	folder->xattrs_size = 0;
	folder->content.wanted = folder->content.streams = false;
	folder->content.position = folder->content.end = 0;
	folder->content.part[0] = '\0';
	folder->linked = false;
}

static void take_choice(struct folder *folder)
{
	struct account *account = &folder->account;
	const struct choice *choice = &folder->choice;

	account->flags |= choice->flags;
	account->target_length = choice->length;
	memcpy(account->target, choice->target, choice->length);
	if (choice->action == ACTION_FAIL)
		fail_here(account, choice->operation, choice->error);
	else if (choice->action == ACTION_MERGE)
		fail_here(account, LKN_HOST_TYPE, -EISDIR);
}

void begin_entry(struct folder *folder, const struct lkn_event *event)
{
	struct account *account = &folder->account;

	begin_account(folder, event->number, event->stat);
	if (!push_path(folder, event->name, event->name_length))
		return;
	folder->working = true;
	folder->linked = event->flags & COPY_LINKED;
	if (folder->linked)
		account->flags |= LKN_LINKED;
	folder->first = event->first;
	if (event->data)
		memcpy(folder->link_target, event->data, event->length + 1);
	if (deepest(folder)->unusable) {
		folder->choice.action = ACTION_FAIL;
		fail_here(account, LKN_HOST_FOLDER, -ENOENT);
		return;
	}
	choose(folder, event->name, event->name_length, event->stat,
	       &folder->choice);
	take_choice(folder);
	if (!folder->plan && !account->failed &&
	    folder->choice.action <= ACTION_REPLACE &&
	    S_ISREG(account->stat.mode) && !folder->linked)
		begin_content(folder);
}

static void finish_content(struct folder *folder)
{
	struct content *content = &folder->content;
	struct place place = {.fd = content->fd};
	int directory = open_deepest(folder);
	struct stat host;

	if (directory < 0) {
		fail_here(&folder->account, LKN_HOST_FOLDER, directory);
		remove_part(folder);
		return;
	}
	if (content->position > content->end &&
	    ftruncate(content->fd, (off_t)content->position) < 0) {
		give_up_content(folder, LKN_HOST_WRITE, -errno);
		return;
	}
	set_attributes(folder, &folder->account, &place, &folder->account.stat,
		       folder->xattrs, folder->xattrs_size);
	if ((folder->journal.fd >= 0 || folder->account.stat.links > 1) &&
	    fstat(content->fd, &host) < 0) {
		give_up_content(folder, LKN_HOST_WRITE, -errno);
		return;
	}
	content->fd = -1;
	/* Some file systems tell only now that the bytes found no room. */
	if (close(place.fd) < 0) {
		give_up_content(folder, LKN_HOST_WRITE, -errno);
		return;
	}
	name_part(folder, directory, &host);
}

/* Makes something that is whole at once: 0 or an errno. */
static int make(struct folder *folder, int directory, const char *name,
		int *copy)
{
	const struct lkl_stat *stat = &folder->account.stat;
	mode_t mode = (stat->mode & S_IFMT) | S_IRUSR | S_IWUSR;

	if (folder->linked)
		return link_to(folder, folder->first, stat, directory, name,
			       copy);
	if (S_ISLNK(stat->mode))
		return symlinkat(folder->link_target, directory, name) < 0
			   ? -errno
			   : 0;
	return mknodat(directory, name, mode,
		       makedev(stat->special_major, stat->special_minor)) < 0
		   ? -errno
		   : 0;
}

/* A copy of the first link's copy, where the host has no links. */
static void copy_linked(struct folder *folder, int copy)
{
	struct stat host;

	folder->linked = false;
	folder->account.flags &= ~(uint32_t)LKN_LINKED;
	folder->account.flags |= LKN_LINK_LOST;
	damage(&folder->account, LKN_HOST_LINK, -EMLINK, false);
	begin_content(folder);
	if (folder->content.fd >= 0 && fstat(copy, &host) == 0)
		copy_bytes(folder, copy, 0, (uint64_t)host.st_size);
	if (folder->content.fd >= 0)
		finish_content(folder);
}

static void make_entry(struct folder *folder)
{
	char *part = folder->content.part;
	struct place place = {.fd = open_deepest(folder), .name = part};
	struct stat host;
	int copy = -1;
	int error = -EEXIST;

	if (place.fd < 0) {
		fail_here(&folder->account, LKN_HOST_FOLDER, place.fd);
		return;
	}
	for (unsigned int attempt = 0;
	     part_retry(error) && attempt < PART_ATTEMPTS; attempt++) {
		part_name(folder, attempt, part);
		error = make(folder, place.fd, part, &copy);
	}
	if (copy >= 0) {
		copy_linked(folder, copy);
		close(copy);
		return;
	}
	if (error) {
		fail_host(folder, &folder->account,
			  folder->linked ? LKN_HOST_LINK : LKN_HOST_CREATE,
			  error);
		return;
	}
	if (!folder->linked)
		set_attributes(folder, &folder->account, &place,
			       &folder->account.stat, folder->xattrs,
			       folder->xattrs_size);
	if (fstatat(place.fd, part, &host, AT_SYMLINK_NOFOLLOW) < 0) {
		fail_host(folder, &folder->account, LKN_HOST_CREATE, -errno);
		return;
	}
	name_part(folder, place.fd, &host);
}

/* A file that holds where a link points. */
static void make_text(struct folder *folder)
{
	struct lkl_stat *stat = &folder->account.stat;
	struct lkl_stat told = *stat;

	begin_content(folder);
	if (folder->content.fd >= 0)
		write_content(folder, folder->link_target,
			      strlen(folder->link_target));
	if (folder->content.fd < 0)
		return;
	/* Of a link nobody asks for its mode, of a file everybody does. */
	stat->mode = S_IFREG | 0644;
	finish_content(folder);
	*stat = told;
}

static void make_what_is_wanted(struct folder *folder)
{
	if (folder->content.fd >= 0)
		finish_content(folder);
	else if (S_ISLNK(folder->account.stat.mode) && !folder->linked &&
		 folder->request->symlinks == LKN_SYMLINK_TEXT)
		make_text(folder);
	else
		make_entry(folder);
}

static uint32_t outcome_of(const struct account *account)
{
	return account->failed	    ? LKN_FAILED
	       : account->operation ? LKN_DAMAGED
				    : LKN_COPIED;
}

static void end_entry(struct folder *folder, uint32_t outcome)
{
	tell_outcome(folder, &folder->account, outcome, folder->choice.rule);
	folder->content.wanted = false;
	folder->bad_count = 0;
	folder->working = false;
	cut_path(folder, deepest(folder)->path_length);
}

void finish_entry(struct folder *folder, const struct lkn_event *event)
{
	struct account *account = &folder->account;
	const struct choice *choice = &folder->choice;

	if (choice->action == ACTION_SKIP && !account->failed) {
		int error = 0;

		if (choice->asked && !folder->plan)
			error = journal_append(&folder->journal,
					       JOURNAL_SKIPPED, folder->path,
					       folder->path_length, 0, 0);
		if (error)
			end_copy(folder, LKN_ENDED_JOURNAL, error);
		end_entry(folder, LKN_SKIPPED);
		return;
	}
	if (event->error && (event->operation == COPY_READ_XATTRS ||
			     event->operation == COPY_READ_STREAM))
		damage(account, event->operation, event->error, true);
	else if (event->error)
		fail_image(account, event->operation, event->error);
	if (account->failed)
		remove_part(folder);
	else if (!folder->plan)
		make_what_is_wanted(folder);
	end_entry(folder, outcome_of(account));
}

void abandon_entry(struct folder *folder, bool image, int error)
{
	if (!folder->working)
		return;
	if (image)
		fail_image(&folder->account, COPY_READ, error);
	else
		fail_here(&folder->account, LKN_HOST_STOPPED, error);
	remove_part(folder);
	end_entry(folder, LKN_FAILED);
}

bool link_candidate(struct folder *folder, const struct lkl_stat *stat,
		    const struct choice *choice)
{
	struct account *account = &folder->account;

	if (choice->action > ACTION_REPLACE || !is_known_source(folder, stat))
		return false;
	begin_account(folder, 0, stat);
	folder->choice = *choice;
	take_choice(folder);
	folder->linked = true;
	account->flags |= LKN_LINKED;
	folder->first = 0;
	make_entry(folder);
	if (account->failed)
		return false;
	folder->unsent++;
	tell_outcome(folder, account, outcome_of(account), 0);
	folder->content.wanted = false;
	return true;
}
