// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Sends trees of the kernel to a writer: the walk, what of it is wanted, and
 * entries.  shared/copy_stream.h says what is sent in which order.
 *
 * Names are used one by one, relative to an open directory.  A link is followed
 * only if asked, and then the kernel itself sees to it that nothing outside of
 * the volume is reached.
 */
#include "pack.h"

#include "channel.h"
#include "kernel.h"
#include "record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS_SIZE (256u << 10)

/* A batch of records is one message of candidates. */
_Static_assert(RECORDS_SIZE / sizeof(struct lkl_entry) <= COPY_CANDIDATES_MOST,
	       "candidates of a batch are not too many");
_Static_assert(sizeof(struct copy_entry) <= sizeof(struct lkl_entry) &&
		   RECORDS_SIZE <= COPY_BODY_MOST,
	       "candidates of a batch are not too large");

static bool type_is_known(uint32_t mode)
{
	switch (mode & LKL_S_IFMT) {
	case LKL_S_IFREG:
	case LKL_S_IFDIR:
	case LKL_S_IFLNK:
	case LKL_S_IFIFO:
	case LKL_S_IFSOCK:
	case LKL_S_IFCHR:
	case LKL_S_IFBLK:
		return true;
	default:
		return false;
	}
}

/* ---- Messages about entries -------------------------------------------- */

/* Begins a message about an entry, with room for more bytes behind the name. */
static void begin_entry(struct lkl_packer *packer, uint32_t kind,
			struct copy_entry *entry, const char *name, size_t more)
{
	entry->number = ++packer->number;
	entry->name_length = (uint32_t)strlen(name);
	if (pack_has(packer, LKL_PACK_PLAN))
		entry->flags |= COPY_PLAN;
	pack_begin(packer, kind, sizeof(*entry) + entry->name_length + more);
	pack_add(packer, entry, sizeof(*entry));
	pack_add(packer, name, entry->name_length);
	packer->done.entries++;
}

static void put_refused(struct lkl_packer *packer, const char *name,
			const struct lkl_stat *stat, int error, uint32_t reason)
{
	struct copy_entry entry = {
	    .error = error,
	    .reason = reason,
	    .stat = *stat,
	};
	char cut[COPY_NAME_MOST + 1];

	/* What is cannot be told whole is told as far as possible. */
	snprintf(cut, sizeof(cut), "%s", name);
	if (entry.stat.size > INT64_MAX)
		entry.stat.size = 0;
	begin_entry(packer, COPY_REFUSED, &entry, cut, 0);
	packer->done.errors++;
}

static void put_entry(struct lkl_packer *packer, const struct item *item,
		      const struct lkl_stat *stat, uint64_t first,
		      const char *link, size_t link_length)
{
	struct copy_entry entry = {
	    .first = first,
	    .flags = first ? COPY_LINKED : 0,
	    .stat = *stat,
	};

	begin_entry(packer, COPY_ENTRY, &entry, item->target, link_length);
	pack_add(packer, link, link_length);
}

/* Sends the attributes of what is at work: 0 or a negative errno. */
static int put_xattrs(struct lkl_packer *packer, int directory,
		      const char *name)
{
	int64_t got;

	if (!pack_has(packer, LKL_PACK_XATTRS) ||
	    pack_has(packer, LKL_PACK_PLAN))
		return 0;
	got = lkl_read_xattrs(packer->kernel, directory, name, packer->xattrs,
			      COPY_XATTRS_MOST);
	if (got > 0)
		pack_put(packer, COPY_XATTRS, packer->xattrs, (size_t)got);
	return got < 0 ? (int)got : 0;
}

/* ---- Named streams ----------------------------------------------------- */

int lkl_pack_stream(struct lkl_packer *packer, const char *name)
{
	size_t length = strlen(name);

	if (!packer->in_extra || length > COPY_NAME_MOST ||
	    !name_is_safe(name, length))
		return -EINVAL;
	pack_put(packer, COPY_STREAM, name, length);
	packer->in_stream = true;
	return packer->stopped;
}

int lkl_pack_stream_bytes(struct lkl_packer *packer, const void *bytes,
			  size_t length)
{
	const unsigned char *at = bytes;

	if (!packer->in_stream)
		return -EINVAL;
	while (length > 0 && !packer->stopped) {
		size_t piece =
		    length < COPY_BODY_MOST ? length : COPY_BODY_MOST;

		pack_put_data(packer, at, piece);
		at += piece;
		length -= piece;
		pack_tell(packer);
	}
	return packer->stopped;
}

/* Has the program send the streams of a file; whether there was one. */
static bool put_streams(struct lkl_packer *packer, const struct lkl_stat *stat,
			int *error)
{
	bool any;

	*error = 0;
	if (!packer->request.extra || pack_has(packer, LKL_PACK_PLAN) ||
	    packer->stopped)
		return false;
	packer->in_extra = true;
	*error = packer->request.extra(packer->request.opaque, packer, stat);
	packer->in_extra = false;
	any = packer->in_stream;
	packer->in_stream = false;
	/* A positive result breaks the contract, and is not success. */
	if (*error > 0)
		*error = -EIO;
	return any;
}

/* ---- Entries ----------------------------------------------------------- */

static int open_item(struct lkl_packer *packer, const struct item *item,
		     struct lkl_stat *stat)
{
	if (item->followed)
		return pack_open_followed(packer, item->directory, item->name,
					  LKL_O_RDONLY | LKL_O_NONBLOCK |
					      LKL_O_NOATIME | LKL_O_LARGEFILE,
					  stat);
	return open_regular(packer->kernel, item->directory, item->name, stat);
}

static void pack_opened(struct lkl_packer *packer, const struct item *item,
			const struct lkl_stat *stat, int fd)
{
	int xattrs, content, streams;

	/* Descriptors that it needs go before it. */
	pack_find_pieces(packer, fd, stat);
	pack_remember_link(packer, item);
	put_entry(packer, item, stat, 0, NULL, 0);
	xattrs = put_xattrs(packer, fd, "");
	content = pack_content(packer, fd, stat);
	put_streams(packer, stat, &streams);
	if (content)
		pack_put_done(packer, COPY_DONE, content, COPY_READ);
	else if (streams)
		pack_put_done(packer, COPY_DONE, streams, COPY_READ_STREAM);
	else
		pack_put_done(packer, COPY_DONE, xattrs, COPY_READ_XATTRS);
}

static void pack_file(struct lkl_packer *packer, const struct item *item)
{
	struct lkl_stat stat;
	int fd = open_item(packer, item, &stat);

	if (fd < 0 || stat.size > INT64_MAX) {
		pack_remember_link(packer, item);
		put_entry(packer, item, &item->stat, 0, NULL, 0);
		pack_put_done(packer, COPY_DONE, fd < 0 ? fd : -EUCLEAN,
			      COPY_OPEN);
	} else {
		pack_opened(packer, item, &stat, fd);
	}
	if (fd < 0)
		return;
	/*
	 * Its pages serve the next file at once: memory that is in the CPU's
	 * caches, and nothing that is of use to others is pushed out.
	 */
	lkl_sys_fadvise64(packer->kernel, fd, 0, 0, LKL_FADV_DONTNEED);
	lkl_sys_close(packer->kernel, fd);
}

static void pack_link(struct lkl_packer *packer, const struct item *item)
{
	int64_t length =
	    lkl_sys_readlinkat(packer->kernel, item->directory, item->name,
			       packer->target, COPY_LINK_MOST);
	int xattrs;

	if (length == COPY_LINK_MOST)
		length = -ENAMETOOLONG;
	/* A link to nothing, or beyond a NUL, cannot be made. */
	else if (length >= 0 &&
		 (length == 0 || memchr(packer->target, '\0', (size_t)length)))
		length = -EUCLEAN;
	pack_remember_link(packer, item);
	put_entry(packer, item, &item->stat, 0, packer->target,
		  length < 0 ? 0 : (size_t)length);
	xattrs = put_xattrs(packer, item->directory, item->name);
	if (length < 0)
		pack_put_done(packer, COPY_DONE, (int)length, COPY_READ);
	else
		pack_put_done(packer, COPY_DONE, xattrs, COPY_READ_XATTRS);
}

static void pack_special(struct lkl_packer *packer, const struct item *item)
{
	pack_remember_link(packer, item);
	put_entry(packer, item, &item->stat, 0, NULL, 0);
	pack_put_done(packer, COPY_DONE,
		      put_xattrs(packer, item->directory, item->name),
		      COPY_READ_XATTRS);
}

/* Sends whatever is not a directory and has a known type. */
static void pack_item(struct lkl_packer *packer, const struct item *item)
{
	uint64_t first = pack_first_link(packer, item);

	if (first || pack_has(packer, LKL_PACK_PLAN)) {
		if (!first)
			pack_remember_link(packer, item);
		put_entry(packer, item, &item->stat, first, NULL, 0);
		pack_put_done(packer, COPY_DONE, 0, COPY_NOTHING);
		return;
	}
	switch (type_of_mode(item->stat.mode)) {
	case LKL_DT_REG:
		pack_file(packer, item);
		break;
	case LKL_DT_LNK:
		pack_link(packer, item);
		break;
	default:
		pack_special(packer, item);
	}
}

/* ---- Selection --------------------------------------------------------- */

static void put_candidate(struct lkl_packer *packer, const char *name,
			  const struct lkl_stat *stat, size_t size)
{
	static const unsigned char padding[8];
	const struct copy_entry entry = {
	    .name_length = (uint32_t)strlen(name),
	    .flags = pack_has(packer, LKL_PACK_PLAN) ? COPY_PLAN : 0,
	    .stat = *stat,
	};

	pack_add(packer, &entry, sizeof(entry));
	pack_add(packer, name, entry.name_length);
	pack_add(packer, padding, size - sizeof(entry) - entry.name_length);
}

static size_t candidate_size(size_t name_length)
{
	return (sizeof(struct copy_entry) + name_length + 7) & ~(size_t)7;
}

/* Receives the answer for count candidates: one byte each in packer->wanted. */
static int ask_wanted(struct lkl_packer *packer, size_t count)
{
	int error = pack_ask(packer, COPY_WANTED, packer->wanted, count);

	for (size_t i = 0; i < count && !error; i++)
		if (packer->wanted[i] > 1)
			error = pack_stop(packer, -EPROTO);
	return error;
}

/* Whether the only candidate at depth 0 is wanted. */
static bool is_wanted(struct lkl_packer *packer, const char *name,
		      const struct lkl_stat *stat)
{
	size_t size = candidate_size(strlen(name));

	pack_begin(packer, COPY_CANDIDATES, size);
	put_candidate(packer, name, stat, size);
	return ask_wanted(packer, 1) == 0 && packer->wanted[0];
}

/* Whether an entry can be told of as what it is. */
static bool is_sound(const struct lkl_entry *record)
{
	return !record->error && type_is_known(record->stat.mode) &&
	       record->stat.size <= INT64_MAX &&
	       record->name_length <= COPY_NAME_MOST;
}

static void refuse(struct lkl_packer *packer, const struct lkl_entry *record)
{
	const char *name = record_name(record);

	if (record->error)
		put_refused(packer, name, &record->stat, record->error,
			    COPY_STAT);
	else if (record->name_length > COPY_NAME_MOST)
		put_refused(packer, name, &record->stat, -ENAMETOOLONG,
			    COPY_STAT);
	else
		put_refused(packer, name, &record->stat, -EUCLEAN,
			    COPY_SPECIAL);
}

static struct item item_of(struct lkl_packer *packer, int directory,
			   const struct lkl_entry *record)
{
	struct item item = {
	    .directory = directory,
	    .name = record_name(record),
	    .target = record_name(record),
	    .stat = record->stat,
	};

	pack_follow(packer, &item);
	return item;
}

/* Asks which of the entries just read are wanted. */
static int ask_entries(struct lkl_packer *packer, const struct walk_step *step)
{
	const struct lkl_entry *begin = (const void *)packer->records;
	const struct lkl_entry *end =
	    (const void *)(packer->records + step->size);
	const struct lkl_entry *record;
	size_t count = 0, size = 0;

	for (record = begin; record < end; record = record_next(record))
		if (is_sound(record)) {
			size += candidate_size(record->name_length);
			count++;
		}
	if (!count)
		return 0;
	pack_begin(packer, COPY_CANDIDATES, size);
	for (record = begin; record < end; record = record_next(record))
		if (is_sound(record)) {
			struct item item = item_of(packer, step->fd, record);

			put_candidate(packer, item.name, &item.stat,
				      candidate_size(record->name_length));
		}
	return ask_wanted(packer, count);
}

/* ---- Directories ------------------------------------------------------- */

static bool asks(const struct lkl_packer *packer)
{
	return packer->modes[packer->depth] == COPY_ASK;
}

static void pack_entries(struct lkl_packer *packer, struct lkl_walk *walk,
			 const struct walk_step *step)
{
	const struct lkl_entry *record = (const void *)packer->records;
	const struct lkl_entry *end =
	    (const void *)(packer->records + step->size);
	size_t candidate = 0;

	if (asks(packer) && ask_entries(packer, step))
		return;
	for (; record < end && !packer->stopped; record = record_next(record)) {
		bool sound = is_sound(record);
		bool wanted =
		    sound && (!asks(packer) || packer->wanted[candidate++]);

		if (!sound)
			refuse(packer, record);
		if (record->number && !wanted) {
			walk_drop(walk, record->number);
		} else if (wanted && !record->number) {
			struct item item = item_of(packer, step->fd, record);

			pack_item(packer, &item);
		}
		pack_tell(packer);
	}
}

/* Asks how to go on in a directory just told of. */
static void ask_mode(struct lkl_packer *packer)
{
	uint32_t mode = COPY_FREE;

	if (asks(packer) &&
	    pack_ask(packer, COPY_MODE, &mode, sizeof(mode)) == 0 &&
	    mode > COPY_UNUSABLE)
		pack_stop(packer, -EPROTO);
	packer->modes[++packer->depth] = (unsigned char)mode;
}

/* Begins a directory; name is what it is sent as. */
static void enter(struct lkl_packer *packer, struct lkl_walk *walk,
		  const struct walk_step *step, const char *name)
{
	struct copy_entry entry = {
	    .flags = name[0] ? 0 : COPY_CONTENTS,
	    .stat = step->stat,
	};
	int xattrs, streams;
	bool any;

	begin_entry(packer, COPY_ENTER, &entry, name, 0);
	xattrs = put_xattrs(packer, step->fd, "");
	ask_mode(packer);
	if (packer->modes[packer->depth] == COPY_UNUSABLE) {
		walk_skip(walk);
		return;
	}
	any = put_streams(packer, &step->stat, &streams);
	if (any || streams)
		pack_put_done(packer, any ? COPY_DONE : COPY_BROKEN, streams,
			      COPY_READ_STREAM);
	if (xattrs)
		pack_put_done(packer, COPY_BROKEN, xattrs, COPY_READ_XATTRS);
}

static void refuse_directory(struct lkl_packer *packer, const char *name,
			     const struct walk_step *step)
{
	struct lkl_stat stat = step->stat;

	if (!stat.mode) {
		stat.mask = LKL_STATX_TYPE;
		stat.mode = LKL_S_IFDIR;
	}
	put_refused(packer, name, &stat, step->error, COPY_OPEN);
}

/* Sends a directory with all below it. */
static int pack_tree(struct lkl_packer *packer, struct lkl_walk *walk,
		     const char *target)
{
	while (!packer->stopped) {
		struct walk_step step;
		int error =
		    walk_step(walk, packer->records, RECORDS_SIZE, &step);

		if (error)
			return pack_stop(packer, error);
		switch (step.event) {
		case WALK_END:
			return packer->stopped;
		case WALK_ENTER:
			enter(packer, walk, &step,
			      packer->depth ? step.name : target);
			break;
		case WALK_ENTRIES:
			pack_entries(packer, walk, &step);
			break;
		case WALK_REFUSED:
			refuse_directory(packer, step.name, &step);
			break;
		case WALK_BROKEN:
			pack_put_done(packer, COPY_BROKEN, step.error,
				      COPY_READ);
			break;
		case WALK_LEAVE:
			pack_put(packer, COPY_LEAVE, NULL, 0);
			packer->depth--;
			break;
		}
		pack_tell(packer);
	}
	return packer->stopped;
}

static int pack_directory(struct lkl_packer *packer, const struct item *item)
{
	struct lkl_walk *walk;
	int error;
	int fd = (int)lkl_sys_openat(
	    packer->kernel, item->directory, item->name[0] ? item->name : ".",
	    LKL_O_RDONLY | LKL_O_DIRECTORY | LKL_O_NOFOLLOW | LKL_O_CLOEXEC, 0);

	error = fd < 0 ? fd
		       : lkl_walk_open(packer->kernel, fd,
				       packer->request.max_depth, &walk);
	if (fd >= 0)
		lkl_sys_close(packer->kernel, fd);
	if (error == -ENOMEM)
		return pack_stop(packer, error);
	if (error) {
		put_refused(packer, item->target, &item->stat, error,
			    COPY_OPEN);
		return packer->stopped;
	}
	error = pack_tree(packer, walk, item->target);
	lkl_walk_close(walk);
	return error;
}

/* ---- The calls --------------------------------------------------------- */

static int allocate(struct lkl_packer *packer)
{
	int error =
	    copy_memory_alloc(packer->kernel, UINT64_MAX, &packer->memory);

	if (!error)
		error = pack_output_open(packer);
	if (!error)
		error = pack_extents_open(packer);
	if (!error)
		error = pack_links_open(packer);
	packer->records = malloc(RECORDS_SIZE);
	packer->target = malloc(COPY_LINK_MOST);
	packer->xattrs = malloc(COPY_XATTRS_MOST);
	if (!packer->records || !packer->target || !packer->xattrs)
		error = -ENOMEM;
	return error;
}

int lkl_pack_open(struct lkl_kernel *kernel, const struct lkl_pack *request,
		  struct lkl_packer **result)
{
	const uint32_t flags = LKL_PACK_XATTRS | LKL_PACK_HOLES |
			       LKL_PACK_FOLLOW | LKL_PACK_PLAN |
			       LKL_PACK_EVERY_LINK;
	struct lkl_packer *packer;
	int error;

	if (request->flags & ~flags)
		return -EINVAL;
	packer = calloc(1, sizeof(*packer));
	if (!packer)
		return -ENOMEM;
	packer->kernel = kernel;
	packer->request = *request;
	/* One is the start itself. */
	if (!request->max_depth || request->max_depth >= COPY_DEPTH_MOST)
		packer->request.max_depth = COPY_DEPTH_MOST - 1;
	packer->modes[0] = COPY_ASK;
	error = allocate(packer);
	if (error) {
		lkl_pack_close(packer);
		return error;
	}
	*result = packer;
	return 0;
}

int lkl_pack_entry(struct lkl_packer *packer, int directory, const char *name,
		   const char *target)
{
	struct item item = {
	    .directory = directory,
	    .name = name,
	    .target = target,
	};
	bool contents = target[0] == '\0';
	size_t length = strlen(target);
	int error;

	if (!contents &&
	    (length > COPY_NAME_MOST || !name_is_safe(target, length)))
		return -EINVAL;
	pack_tell(packer);
	if (packer->stopped)
		return packer->stopped;
	error = stat_entry(packer->kernel, directory, name, &item.stat, NULL);
	if (error) {
		item.stat = (struct lkl_stat){0};
		put_refused(packer, target, &item.stat, error, COPY_STAT);
		return packer->stopped;
	}
	pack_follow(packer, &item);
	if (type_of_mode(item.stat.mode) == LKL_DT_DIR) {
		if (contents || is_wanted(packer, target, &item.stat))
			return pack_directory(packer, &item);
		return packer->stopped;
	}
	if (contents)
		return -ENOTDIR;
	if (!type_is_known(item.stat.mode) || item.stat.size > INT64_MAX)
		put_refused(packer, target, &item.stat, -EUCLEAN, COPY_SPECIAL);
	else if (is_wanted(packer, target, &item.stat))
		pack_item(packer, &item);
	return packer->stopped;
}

int lkl_pack_finish(struct lkl_packer *packer, int error)
{
	const struct copy_finish finish = {
	    .entries = packer->number,
	    .error = error ? error : packer->stopped,
	};

	pack_put(packer, COPY_FINISH, &finish, sizeof(finish));
	pack_flush(packer);
	return packer->lost ? packer->stopped : 0;
}

void lkl_pack_cancel(struct lkl_packer *packer)
{
	atomic_store_explicit(&packer->cancelled, true, memory_order_relaxed);
	channel_shutdown(packer->request.socket);
}

void lkl_pack_progress(const struct lkl_packer *packer,
		       struct lkl_pack_progress *progress)
{
	*progress = packer->done;
}

void lkl_pack_close(struct lkl_packer *packer)
{
	if (!packer)
		return;
	if (packer->memory.base)
		copy_memory_free(packer->kernel, &packer->memory);
	free(packer->output);
	free(packer->records);
	free(packer->target);
	free(packer->xattrs);
	free(packer->root_path);
	free(packer->link_path);
	free(packer->links);
	free(packer->pieces);
	free(packer->sources);
	free(packer->map);
	free(packer);
}

int lkl_pack_waiting(const struct lkl_packer *packer)
{
	return atomic_load_explicit(&packer->waiting, memory_order_relaxed);
}
