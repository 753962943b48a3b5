// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What became of each entry: counted, and told in batches.
 */
#include "folder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RECORDS_MOST 1000u
#define RECORDS_SIZE ((size_t)256 << 10)
#define INTERVAL UINT64_C(100000000)
#define DIGEST_COUNT 4u
/* Of a path to the first link, which is told as far as it fits. */
#define FIRST_MOST ((size_t)1 << 20)

uint64_t monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void end_copy(struct folder *folder, int ended, int error)
{
	if (folder->ended >= 0)
		return;
	folder->ended = ended;
	folder->error = error;
}

static void note(struct account *account, uint32_t operation, int error,
		 bool image)
{
	account->operation = operation;
	account->error = error;
	account->flags &= ~(uint32_t)LKN_OF_IMAGE;
	if (image)
		account->flags |= LKN_OF_IMAGE;
}

void damage(struct account *account, uint32_t operation, int error, bool image)
{
	if (!account->operation)
		note(account, operation, error, image);
}

static void fail(struct account *account, uint32_t operation, int error,
		 bool image)
{
	if (!account->failed)
		note(account, operation, error, image);
	account->failed = true;
}

void fail_image(struct account *account, uint32_t operation, int error)
{
	/* Whoever fails is doing something. */
	fail(account, operation ? operation : COPY_READ, error, true);
}

void fail_here(struct account *account, uint32_t operation, int error)
{
	fail(account, operation, error, false);
}

void fail_host(struct folder *folder, struct account *account,
	       uint32_t operation, int error)
{
	fail_here(account, operation, error);
	switch (error) {
	case -ENOSPC:
	case -EDQUOT:
		if (folder->request->flags & LKN_FOLDER_STOP_FULL)
			end_copy(folder, LKN_ENDED_FULL, error);
		break;
	case -ESTALE:
	case -ENOTCONN:
	case -EROFS:
	case -ENODEV:
	case -EHOSTDOWN:
	case -ESHUTDOWN:
		end_copy(folder, LKN_ENDED_LOST, error);
		break;
	}
}

void set_attributes(struct folder *folder, struct account *account,
		    const struct place *place, const struct lkl_stat *stat,
		    const unsigned char *xattrs, size_t xattrs_size)
{
	struct metadata_losses *losses = &folder->losses;

	set_metadata(place, stat, xattrs, xattrs_size, folder->owners, losses);
	if (losses->operation)
		damage(account, losses->operation, losses->error, false);
	if (losses->owner)
		account->flags |= LKN_OWNER_LOST;
	if (losses->xattrs)
		account->flags |= LKN_XATTRS_LOST;
	folder->accounts->xattrs_lost += losses->xattrs;
}

static void count_outcome(struct folder *folder, const struct account *account,
			  uint32_t outcome, uint32_t rule)
{
	struct lkn_accounts *accounts = folder->accounts;

	accounts->seen++;
	accounts->mapped += !!(account->flags & LKN_MAPPED);
	accounts->long_paths += !!(account->flags & LKN_LONG_PATH);
	accounts->existed += !!(account->flags & LKN_EXISTED);
	switch (outcome) {
	case LKN_COPIED:
		accounts->copied++;
		break;
	case LKN_DAMAGED:
		accounts->damaged++;
		break;
	case LKN_SKIPPED:
		accounts->skipped[rule]++;
		break;
	case LKN_FAILED:
		accounts->failed++;
		break;
	case LKN_DONE_BEFORE:
		accounts->done_before++;
		break;
	}
	if (outcome != LKN_COPIED && outcome != LKN_DAMAGED)
		return;
	if (S_ISREG(account->stat.mode) && !(account->flags & LKN_LINKED))
		accounts->size += account->stat.size;
	accounts->written += account->written;
	accounts->holes += account->holes;
	accounts->bad += account->bad;
	accounts->owners_lost += !!(account->flags & LKN_OWNER_LOST);
	accounts->streams_lost += !!(account->flags & LKN_STREAM_LOST);
}

static unsigned char *put(unsigned char *at, const void *bytes, size_t length)
{
	if (length)
		memcpy(at, bytes, length);
	return at + length;
}

/* Digests of the file at work, in the order of their bits: their length. */
static uint32_t
read_digests(struct folder *folder,
	     unsigned char digests[DIGEST_COUNT * LKN_DIGEST_MOST])
{
	uint32_t size = 0;

	for (uint32_t bit = 1; bit < 1u << DIGEST_COUNT; bit <<= 1) {
		if (!(folder->request->digests & bit))
			continue;
		size += (uint32_t)lkn_digests_read(
		    folder->digests, bit, digests + size, LKN_DIGEST_MOST);
	}
	return size;
}

/* The path on the host of an entry of the deepest level: its length. */
static size_t host_path(const struct folder *folder,
			const struct account *account, char *path)
{
	size_t length = 0;
	size_t depth = folder->depth;

	/* A level is told of from within and from above it. */
	if (account == &folder->levels[depth - 1].account)
		depth--;
	for (size_t i = 1; i < depth; i++) {
		const struct account *above = &folder->levels[i].account;

		if (!above->target_length)
			continue;
		if (path) {
			memcpy(path + length, above->target,
			       above->target_length);
			path[length + above->target_length] = '/';
		}
		length += above->target_length + 1;
	}
	if (path)
		memcpy(path + length, account->target, account->target_length);
	return length + account->target_length;
}

static bool is_mapped(const struct folder *folder,
		      const struct account *account)
{
	const struct level *level = &folder->levels[folder->depth - 1];

	if (account == &level->account && folder->depth > 1)
		level--;
	return level->mapped;
}

/* Where a link points, or the first of it: its length; text holds it. */
static size_t link_of(const struct folder *folder,
		      const struct account *account, const char **text)
{
	if (account != &folder->account)
		return 0;
	if (folder->linked) {
		*text = folder->buffer;
		return path_of_link(folder, folder->first, &account->stat,
				    folder->buffer, FIRST_MOST);
	}
	*text = folder->link_target;
	return S_ISLNK(account->stat.mode) ? strlen(folder->link_target) : 0;
}

/* Whether nobody needs to be told that something was copied. */
static bool goes_without_saying(const struct folder *folder,
				const struct account *account)
{
	/* What is counted, or is as the caller wished. */
	uint32_t expected = LKN_LINKED | LKN_EXISTED | LKN_REPLACED |
			    LKN_OWNER_LOST | LKN_LONG_PATH;

	if (folder->request->flags & LKN_FOLDER_LIST)
		return false;
	return !(account->flags & (folder->plan ? ~0u : ~expected));
}

void tell_outcome(struct folder *folder, const struct account *account,
		  uint32_t outcome, uint32_t rule)
{
	unsigned char digests[DIGEST_COUNT * LKN_DIGEST_MOST];
	bool whole = outcome == LKN_COPIED || outcome == LKN_DAMAGED;
	struct lkn_outcome record = {
	    .outcome = outcome,
	    .flags = account->flags,
	    .rule = rule,
	    .operation = account->operation,
	    .error = account->error,
	    .path_length = (uint32_t)folder->path_length,
	    .number = account->number,
	    .written = account->written,
	    .holes = account->holes,
	    .bad = account->bad,
	};
	const char *link = NULL;
	unsigned char *at;
	size_t size;

	count_outcome(folder, account, outcome, rule);
	if (outcome == LKN_COPIED && goes_without_saying(folder, account))
		return;
	if (account->target_length &&
	    (account->flags & LKN_MAPPED || is_mapped(folder, account)))
		record.target_length =
		    (uint32_t)host_path(folder, account, NULL);
	record.link_length = (uint32_t)link_of(folder, account, &link);
	if (account->flags & LKN_XATTRS_LOST)
		record.lost_length = (uint32_t)folder->losses.names_size;
	if (whole && folder->content.wanted && folder->digests)
		record.digests_length = read_digests(folder, digests);
	if (account == &folder->account)
		record.bad_count = folder->bad_count;
	size = sizeof(record) + sizeof(account->stat) +
	       record.bad_count * sizeof(*folder->bad) + record.digests_length +
	       record.path_length + record.target_length + record.link_length +
	       record.lost_length;
	size = (size + 7) & ~(size_t)7;
	record.record_size = (uint32_t)size;
	if (folder->record_count &&
	    (folder->record_count == RECORDS_MOST ||
	     folder->records_size + size > RECORDS_SIZE))
		flush_outcomes(folder, false);
	/* The path of one that stands very deep is longer than all others. */
	at = realloc(folder->records, folder->records_size + size > RECORDS_SIZE
					  ? folder->records_size + size
					  : RECORDS_SIZE);
	if (!at) {
		end_copy(folder, LKN_ENDED_MEMORY, -ENOMEM);
		return;
	}
	folder->records = at;
	at += folder->records_size;
	memset(at + size - 8, 0, 8);
	at = put(at, &record, sizeof(record));
	at = put(at, &account->stat, sizeof(account->stat));
	at = put(at, folder->bad, record.bad_count * sizeof(*folder->bad));
	at = put(at, digests, record.digests_length);
	at = put(at, folder->path, record.path_length);
	if (record.target_length)
		at += host_path(folder, account, (char *)at);
	at = put(at, link, record.link_length);
	put(at, folder->losses.names, record.lost_length);
	folder->records_size += size;
	folder->record_count++;
}

void flush_outcomes(struct folder *folder, bool durable)
{
	if (!folder->record_count && !durable)
		return;
	if (folder->request->outcomes(folder->request->opaque, folder->records,
				      folder->records_size,
				      folder->record_count, durable))
		end_copy(folder, LKN_ENDED_CANCELLED, -ECANCELED);
	folder->records_size = 0;
	folder->record_count = 0;
	folder->flushed = monotonic();
}

void tick(struct folder *folder)
{
	uint64_t now = monotonic();

	if (!folder->working && !folder->plan &&
	    journal_wants_checkpoint(&folder->journal, now)) {
		int error;

		flush_outcomes(folder, true);
		error = journal_checkpoint(&folder->journal, now);
		if (error)
			end_copy(folder, LKN_ENDED_JOURNAL, error);
		now = monotonic();
	}
	if (folder->record_count && now - folder->flushed >= INTERVAL)
		flush_outcomes(folder, false);
	if (now - folder->told < INTERVAL)
		return;
	if (folder->request->progress(folder->request->opaque, folder->accounts,
				      folder->path, folder->path_length))
		end_copy(folder, LKN_ENDED_CANCELLED, -ECANCELED);
	folder->told = monotonic();
}
