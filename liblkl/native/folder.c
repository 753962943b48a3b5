// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Files of what an engine sends: the loop of lkn_folder_run.
 */
#include "folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BUFFER_SIZE ((size_t)1 << 20)
#define BAD_MOST 256u
#define NAME_LEAST 64u
#define NAME_MOST 255u

/* ---- Candidates -------------------------------------------------------- */

/* What became of one that is not wanted: LKN_*, or 0: it is. */
static uint32_t judge(struct folder *folder, const struct lkn_event *event,
		      struct choice *choice, struct account *account)
{
	if (deepest(folder)->unusable) {
		fail_here(account, LKN_HOST_FOLDER, -ENOENT);
		return LKN_FAILED;
	}
	choose_candidate(folder, event->name, event->name_length, event->stat,
			 choice);
	account->flags = choice->flags;
	account->target_length = choice->length;
	memcpy(account->target, choice->target, choice->length);
	switch (choice->action) {
	case ACTION_SKIP:
		return LKN_SKIPPED;
	case ACTION_DONE:
		return LKN_DONE_BEFORE;
	case ACTION_FAIL:
		fail_here(account, choice->operation, choice->error);
		return LKN_FAILED;
	default:
		return 0;
	}
}

/*
 * Where other things may stand, it is written down before which of them are
 * this copy's: after a loss of power nothing else would tell.
 */
static void write_down(struct folder *folder, const struct lkl_stat *stat,
		       const struct choice *choice, bool *written)
{
	enum journal_kind kind =
	    S_ISDIR(stat->mode) ? JOURNAL_DIRECTORY : JOURNAL_BEGUN;
	int error;

	if (folder->journal.fd < 0 || deepest(folder)->made ||
	    choice->action > ACTION_REPLACE)
		return;
	error = journal_append(&folder->journal, kind, folder->path,
			       folder->path_length, choice->renamed, 0);
	if (error)
		end_copy(folder, LKN_ENDED_JOURNAL, error);
	*written = true;
}

static bool is_wanted(struct folder *folder, const struct lkn_event *event,
		      bool *written)
{
	struct account account = {.stat = *event->stat};
	struct choice choice;
	uint32_t outcome = judge(folder, event, &choice, &account);
	int error = 0;

	if (!outcome && folder->plan)
		return true;
	if (!outcome) {
		if (link_candidate(folder, event->stat, &choice))
			return false;
		write_down(folder, event->stat, &choice, written);
		return true;
	}
	if (outcome == LKN_SKIPPED && choice.asked)
		error = journal_append(&folder->journal, JOURNAL_SKIPPED,
				       folder->path, folder->path_length, 0, 0);
	if (error)
		end_copy(folder, LKN_ENDED_JOURNAL, error);
	folder->unsent++;
	tell_outcome(folder, &account, outcome, choice.rule);
	return false;
}

static void answer_candidates(struct folder *folder)
{
	unsigned char wanted[COPY_CANDIDATES_MOST];
	size_t above = deepest(folder)->path_length;
	struct lkn_event event;
	bool written = false;
	size_t count = 0;
	int error;

	while (folder->ended < 0 &&
	       lkn_stream_candidate(folder->stream, &event)) {
		if (!push_path(folder, event.name, event.name_length))
			return;
		wanted[count++] = is_wanted(folder, &event, &written);
		cut_path(folder, above);
		tick(folder);
	}
	error = written ? journal_sync(&folder->journal) : 0;
	if (error)
		end_copy(folder, LKN_ENDED_JOURNAL, error);
	if (folder->ended >= 0)
		return;
	error = lkn_stream_answer_wanted(folder->stream, wanted, count);
	if (error)
		end_copy(folder, LKN_ENDED_STREAM, error);
}

/* ---- The loop ---------------------------------------------------------- */

static void take_refused(struct folder *folder, const struct lkn_event *event)
{
	struct account account = {
	    .number = event->number,
	    .stat = *event->stat,
	};

	fail_image(&account, event->operation, event->error);
	if (!push_path(folder, event->name, event->name_length))
		return;
	tell_outcome(folder, &account, LKN_FAILED, 0);
	cut_path(folder, deepest(folder)->path_length);
}

static void finish(struct folder *folder, const struct lkn_event *event)
{
	if (event->error)
		end_copy(folder, LKN_ENDED_ENGINE, event->error);
	else if (folder->accounts->seen != event->length + folder->unsent)
		end_copy(folder, LKN_ENDED_STREAM, -EPROTO);
	else
		end_copy(folder, LKN_ENDED_WHOLE, 0);
}

/* Attributes and named streams of the folder entered last. */
static void take_of_level(struct folder *folder, const struct lkn_event *event)
{
	struct level *level = deepest(folder);

	if (event->kind == COPY_XATTRS)
		keep_level_xattrs(folder, event);
	else if (event->kind == COPY_STREAM)
		level->account.flags |= LKN_STREAM_LOST;
	else if (event->kind == COPY_DONE && event->error)
		damage(&level->account, event->operation, event->error, true);
}

static void take(struct folder *folder, const struct lkn_event *event)
{
	switch (event->kind) {
	case COPY_ENTER:
		enter(folder, event);
		break;
	case COPY_LEAVE:
		leave(folder);
		break;
	case COPY_CANDIDATES:
		answer_candidates(folder);
		break;
	case COPY_ENTRY:
		begin_entry(folder, event);
		break;
	case COPY_XATTRS:
	case COPY_DATA:
	case COPY_HOLE:
	case COPY_EXTENT:
	case COPY_BAD:
	case COPY_STREAM:
		if (folder->working)
			take_content(folder, event);
		else
			take_of_level(folder, event);
		break;
	case COPY_DONE:
		if (folder->working)
			finish_entry(folder, event);
		else
			take_of_level(folder, event);
		break;
	case COPY_REFUSED:
		take_refused(folder, event);
		break;
	case COPY_BROKEN:
		damage(&deepest(folder)->account,
		       event->operation ? event->operation : COPY_READ,
		       event->error, true);
		break;
	case COPY_FINISH:
		finish(folder, event);
		break;
	}
}

static void run(struct folder *folder)
{
	struct lkn_event event;

	while (folder->ended < 0) {
		int result = lkn_stream_next(folder->stream, &event);

		if (result > 0)
			take(folder, &event);
		else if (result != -EAGAIN)
			end_copy(folder, LKN_ENDED_STREAM,
				 result ? result : -EPROTO);
		tick(folder);
	}
}

/* What was begun and did not come to its end is accounted for, too. */
static void wind_up(struct folder *folder)
{
	/* A stream that breaks off tells nothing about what it brought. */
	bool image = folder->ended == LKN_ENDED_ENGINE;
	int error = folder->error ? folder->error : -ECANCELED;

	abandon_entry(folder, image, error);
	while (folder->depth > 1) {
		struct level *level = deepest(folder);

		cut_path(folder, level->path_length);
		if (!level->unusable) {
			damage(&level->account,
			       image ? COPY_READ : LKN_HOST_STOPPED, error,
			       image);
			tell_outcome(folder, &level->account, LKN_DAMAGED, 0);
		}
		free_deepest(folder);
	}
	cut_path(folder, 0);
	flush_outcomes(folder, folder->journal.fd >= 0 && !folder->plan);
	if (folder->journal.fd >= 0 && !folder->plan &&
	    folder->ended != LKN_ENDED_LOST &&
	    folder->ended != LKN_ENDED_JOURNAL) {
		error = journal_checkpoint(&folder->journal, monotonic());
		if (error && folder->ended == LKN_ENDED_WHOLE) {
			folder->ended = LKN_ENDED_JOURNAL;
			folder->error = error;
		}
	}
}

/* ---- Beginning and end ------------------------------------------------- */

static int look_at_destination(struct folder *folder)
{
	const struct lkn_folder *request = folder->request;
	struct level *top = &folder->levels[0];
	struct statfs system;
	struct stat stat;

	/* One of our own, whose place nobody else changes. */
	top->fd = openat(request->destination, ".", DIRECTORY_FLAGS);
	if (top->fd < 0 || fstat(top->fd, &stat) < 0 ||
	    fstatfs(top->fd, &system) < 0)
		return -errno;
	top->device = stat.st_dev;
	top->inode = stat.st_ino;
	folder->longest_host_name = LKN_NAME_MOST;
	if (system.f_namelen >= NAME_LEAST && system.f_namelen < LKN_NAME_MOST)
		folder->longest_host_name = (uint32_t)system.f_namelen;
	folder->longest_name = folder->longest_host_name < NAME_MOST
				   ? folder->longest_host_name
				   : NAME_MOST;
	folder->folds =
	    request->flags & LKN_FOLDER_FOLD || folds_names(folder, top->fd);
	if (folder->journal.resumed && !folder->plan)
		remove_parts(folder, top->fd);
	return 0;
}

static int prepare(struct folder *folder)
{
	const struct lkn_folder *request = folder->request;
	int error;

	for (size_t i = 0; i < 8; i++)
		snprintf(folder->job + 2 * i, 3, "%02x", request->job[i]);
	folder->levels = calloc(16, sizeof(*folder->levels));
	folder->path = calloc(1, LKN_NAME_SIZE);
	folder->bad = malloc(BAD_MOST * sizeof(*folder->bad));
	folder->link_target = malloc(COPY_LINK_MOST + 1);
	folder->xattrs = malloc(COPY_XATTRS_MOST);
	folder->buffer = malloc(BUFFER_SIZE);
	if (!folder->levels || !folder->path || !folder->bad ||
	    !folder->link_target || !folder->xattrs || !folder->buffer)
		return -ENOMEM;
	folder->allocated = 16;
	folder->path_allocated = LKN_NAME_SIZE;
	folder->depth = 1;
	folder->levels[0].fd = -1;
	if (request->digests && !folder->plan) {
		error = lkn_digests_open(request->digests, &folder->digests);
		if (error)
			return error;
	}
	error =
	    journal_open(&folder->journal, folder->plan ? -1 : request->journal,
			 request->destination, request->checkpoints,
			 request->job, request->options);
	return error ? error : look_at_destination(folder);
}

static void release(struct folder *folder)
{
	while (folder->depth > 0)
		free_deepest(folder);
	journal_close(&folder->journal);
	free_links(folder);
	if (folder->digests)
		lkn_digests_close(folder->digests);
	free(folder->levels);
	free(folder->path);
	free(folder->bad);
	free(folder->link_target);
	free(folder->xattrs);
	free(folder->buffer);
	free(folder->records);
}

int lkn_folder_run(const struct lkn_folder *request, struct lkn_stream *stream,
		   struct lkn_accounts *accounts, int *error)
{
	struct folder folder = {
	    .request = request,
	    .stream = stream,
	    .accounts = accounts,
	    .plan = request->flags & LKN_FOLDER_PLAN,
	    .owners = request->flags & LKN_FOLDER_OWNER,
	    .ended = -1,
	    .content = {.fd = -1},
	};
	int result;

	*accounts = (struct lkn_accounts){0};
	*error = 0;
	if (request->names > LKN_NAMES_WINDOWS ||
	    request->conflicts > LKN_CONFLICT_NEWER ||
	    request->symlinks > LKN_SYMLINK_SKIP)
		return -EINVAL;
	result = prepare(&folder);
	if (!result) {
		folder.flushed = folder.told = monotonic();
		run(&folder);
		wind_up(&folder);
		*error = folder.error;
		result = folder.ended;
	}
	release(&folder);
	return result;
}
