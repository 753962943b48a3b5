// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Walks a tree by handles.  The tree may be corrupt, or made to do harm: a
 * directory is entered once only, however often it is met, nothing is found by
 * a path of more than one name, and a directory opened again must be the one it
 * was.
 */
#include "walk.h"
#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OPEN_FLAGS                                                             \
	(LKL_O_RDONLY | LKL_O_DIRECTORY | LKL_O_NOFOLLOW | LKL_O_NONBLOCK |    \
	 LKL_O_NOATIME | LKL_O_CLOEXEC)
/*
 * Directories kept open at once, beside the start: trees may be deeper than the
 * number of descriptors.
 */
#define OPEN_MOST 32u
#define DEPTH_MOST 4096u

/* A directory of the file system, as nothing else has it. */
struct identity {
	uint64_t device; /* never 0 */
	uint64_t inode;
};

/* A directory that stands in another one and waits for being entered. */
struct waiting {
	uint64_t number; /* 0: it is not to be entered */
	uint32_t size;	 /* of this and the name that follows, aligned */
};

/* A directory that was entered; its place in the array is its depth. */
struct level {
	int fd; /* or -1: closed for the time being */
	bool at_end;
	const char *name; /* in the space of the level above */
	uint64_t number;
	struct identity identity;
	/* Records of struct waiting. */
	unsigned char *space;
	size_t used;
	size_t allocated;
	size_t next;
	size_t searched; /* by walk_drop() */
};

struct lkl_walk {
	struct lkl_kernel *kernel;
	uint32_t max_depth;
	bool begun;
	uint64_t mount;
	uint64_t numbers;
	struct level *levels;
	size_t depth; /* levels in use */
	size_t allocated;
	/*
	 * The last directory left, while the one above it is closed: the
	 * kernel keeps what stands above an open one, and so the inode
	 * numbers of file systems that make them up as they go.
	 */
	int pin;
	/* Directories entered: a hash table, device 0 being a free slot. */
	struct identity *met;
	size_t met_count;
	size_t met_slots; /* a power of two */
};

static struct identity identity_of(const struct lkl_stat *stat)
{
	return (struct identity){
	    .device = (uint64_t)stat->device_major << 32 | stat->device_minor,
	    .inode = stat->inode,
	};
}

static bool identity_equal(struct identity a, struct identity b)
{
	return a.device == b.device && a.inode == b.inode;
}

/* The slot of an identity, or the free one where it belongs. */
static struct identity *met_find(struct identity *slots, size_t count,
				 struct identity identity)
{
	/* Multiplication spreads, the upper bits are the best of it. */
	uint64_t hash = (identity.inode ^ identity.device << 40) *
			UINT64_C(0x9e3779b97f4a7c15);
	size_t at = (hash >> 32) & (count - 1);

	while (slots[at].device && !identity_equal(slots[at], identity))
		at = (at + 1) & (count - 1);
	return &slots[at];
}

/* Remembers a directory: -ELOOP when it was met before. */
static int met_add(struct lkl_walk *walk, struct identity identity)
{
	struct identity *slot;

	if (walk->met_count * 2 >= walk->met_slots) {
		size_t count = walk->met_slots ? walk->met_slots * 2 : 64;
		struct identity *slots = calloc(count, sizeof(*slots));

		if (!slots)
			return -ENOMEM;
		for (size_t at = 0; at < walk->met_slots; at++)
			if (walk->met[at].device)
				*met_find(slots, count, walk->met[at]) =
				    walk->met[at];
		free(walk->met);
		walk->met = slots;
		walk->met_slots = count;
	}
	slot = met_find(walk->met, walk->met_slots, identity);
	if (slot->device)
		return -ELOOP;
	*slot = identity;
	walk->met_count++;
	return 0;
}

static void close_directory(struct lkl_walk *walk, int *fd)
{
	if (*fd >= 0)
		lkl_sys_close(walk->kernel, *fd);
	*fd = -1;
}

/* Closes the directory that is OPEN_MOST above a level, if any. */
static void close_above(struct lkl_walk *walk, size_t depth)
{
	if (depth > OPEN_MOST)
		close_directory(walk, &walk->levels[depth - OPEN_MOST].fd);
}

/* Opens a directory that stands in an open one: a descriptor or an errno. */
static int open_below(struct lkl_walk *walk, int directory, const char *name,
		      struct lkl_stat *stat, uint64_t *mount)
{
	int fd =
	    (int)lkl_sys_openat(walk->kernel, directory, name, OPEN_FLAGS, 0);
	int error;

	if (fd < 0)
		return fd;
	error = stat_entry(walk->kernel, fd, "", stat, mount);
	if (error) {
		lkl_sys_close(walk->kernel, fd);
		return error;
	}
	return fd;
}

/* Makes sure that a level's directory is open, from those above it. */
static int reopen(struct lkl_walk *walk, size_t depth)
{
	size_t at = depth;

	while (walk->levels[at].fd < 0)
		at--;
	for (at++; at <= depth; at++) {
		struct level *level = &walk->levels[at];
		struct lkl_stat stat;
		uint64_t mount;
		int fd =
		    open_below(walk, level[-1].fd, level->name, &stat, &mount);

		if (fd < 0)
			return fd;
		level->fd = fd;
		if (!identity_equal(identity_of(&stat), level->identity)) {
			close_directory(walk, &level->fd);
			return -ESTALE;
		}
		close_above(walk, at);
	}
	return 0;
}

/* One more level, not yet filled in. */
static struct level *push(struct lkl_walk *walk)
{
	if (walk->depth == walk->allocated) {
		size_t count = walk->allocated ? walk->allocated * 2 : 16;
		struct level *levels =
		    realloc(walk->levels, count * sizeof(*levels));

		if (!levels)
			return NULL;
		walk->levels = levels;
		walk->allocated = count;
	}
	return &walk->levels[walk->depth];
}

/* Remembers a directory found in a level: its number, or 0 without memory. */
static uint64_t add_waiting(struct lkl_walk *walk, struct level *level,
			    const struct lkl_entry *record)
{
	size_t size = sizeof(struct waiting) + record->name_length + 1u;
	struct waiting *waiting;

	size = (size + RECORD_ALIGNMENT - 1) & ~(size_t)(RECORD_ALIGNMENT - 1);
	if (level->allocated - level->used < size) {
		size_t wanted = level->allocated ? level->allocated * 2 : 512;
		unsigned char *space;

		if (wanted - level->used < size)
			wanted = level->used + size;
		space = realloc(level->space, wanted);
		if (!space)
			return 0;
		level->space = space;
		level->allocated = wanted;
	}
	waiting = (struct waiting *)(level->space + level->used);
	waiting->number = ++walk->numbers;
	waiting->size = (uint32_t)size;
	memcpy(waiting + 1, record_name(record), record->name_length + 1u);
	level->used += size;
	return waiting->number;
}

/* Completes the records of a directory with what only the walk knows. */
static int number_entries(struct lkl_walk *walk, struct level *level,
			  void *records, size_t size)
{
	struct lkl_entry *record = records;
	struct lkl_entry *end = (struct lkl_entry *)((char *)records + size);

	for (; record < end; record = (struct lkl_entry *)record_next(record)) {
		record->depth = (uint32_t)walk->depth;
		record->directory = level->number;
		if (record->type != LKL_DT_DIR || record->error)
			continue;
		record->number = add_waiting(walk, level, record);
		if (!record->number)
			return -ENOMEM;
	}
	return 0;
}

/* Whether a directory waits in a level; passes those that shall not. */
static bool has_waiting(struct level *level)
{
	while (level->next < level->used) {
		const struct waiting *waiting =
		    (const struct waiting *)(level->space + level->next);

		if (waiting->number)
			return true;
		level->next += waiting->size;
	}
	return false;
}

/* Enters the next directory that waits in the deepest level. */
static int enter(struct lkl_walk *walk, struct walk_step *step)
{
	size_t depth = walk->depth;
	struct level *above = &walk->levels[depth - 1];
	const struct waiting *waiting =
	    (const struct waiting *)(above->space + above->next);
	struct level *level;
	uint64_t mount;
	int fd, error;

	step->event = WALK_REFUSED;
	step->depth = (uint32_t)depth;
	step->directory = above->number;
	step->number = waiting->number;
	step->name = (const char *)(waiting + 1);
	level = push(walk);
	if (!level)
		return -ENOMEM;
	above = level - 1;
	above->next += waiting->size;

	if (depth > walk->max_depth) {
		step->error = -ENAMETOOLONG;
		return 0;
	}
	step->error = reopen(walk, depth - 1);
	close_directory(walk, &walk->pin);
	if (step->error)
		return 0;
	fd = open_below(walk, above->fd, step->name, &step->stat, &mount);
	if (fd < 0) {
		step->error = fd;
		return 0;
	}
	error = mount == walk->mount ? met_add(walk, identity_of(&step->stat))
				     : -EXDEV;
	if (error) {
		lkl_sys_close(walk->kernel, fd);
		step->error = error;
		return error == -ENOMEM ? error : 0;
	}
	*level = (struct level){
	    .fd = fd,
	    .name = step->name,
	    .number = step->number,
	    .identity = identity_of(&step->stat),
	};
	walk->depth++;
	close_above(walk, depth);
	step->event = WALK_ENTER;
	step->fd = fd;
	return 0;
}

/* Leaves the deepest level. */
static void leave(struct lkl_walk *walk, struct walk_step *step)
{
	struct level *level = &walk->levels[--walk->depth];

	step->event = WALK_LEAVE;
	step->name = level->name;
	free(level->space);
	level->space = NULL;
	if (walk->depth > 0 && level[-1].fd < 0 && level->fd >= 0) {
		close_directory(walk, &walk->pin);
		walk->pin = level->fd;
		level->fd = -1;
	}
	close_directory(walk, &level->fd);
}

int walk_step(struct lkl_walk *walk, void *buffer, size_t size,
	      struct walk_step *step)
{
	struct level *level;
	int64_t got;

	*step = (struct walk_step){.event = WALK_END, .fd = -1, .name = ""};
	if (walk->depth == 0)
		return 0;
	level = &walk->levels[walk->depth - 1];
	if (level->at_end && has_waiting(level))
		return enter(walk, step);

	step->fd = level->fd;
	step->depth = (uint32_t)walk->depth - 1;
	step->directory = walk->depth > 1 ? level[-1].number : 0;
	step->number = level->number;
	step->name = level->name;
	if (!walk->begun) {
		walk->begun = true;
		step->event = WALK_ENTER;
		return stat_entry(walk->kernel, level->fd, "", &step->stat,
				  NULL);
	}
	if (level->at_end) {
		leave(walk, step);
		return 0;
	}
	got = lkl_read_directory(walk->kernel, level->fd, buffer, size);
	if (got > 0) {
		step->event = WALK_ENTRIES;
		step->size = (size_t)got;
		return number_entries(walk, level, buffer, step->size);
	}
	if (got == -EINVAL && size < 65536)
		return -EINVAL;
	level->at_end = true;
	if (got < 0) {
		step->event = WALK_BROKEN;
		step->error = (int)got;
		return 0;
	}
	return walk_step(walk, buffer, size, step);
}

void walk_skip(struct lkl_walk *walk)
{
	walk->levels[walk->depth - 1].at_end = true;
}

void walk_drop(struct lkl_walk *walk, uint64_t number)
{
	struct level *level = &walk->levels[walk->depth - 1];
	struct waiting *waiting;

	for (; level->searched < level->used;
	     level->searched += waiting->size) {
		waiting = (struct waiting *)(level->space + level->searched);
		if (waiting->number == number) {
			waiting->number = 0;
			return;
		}
	}
}

int lkl_walk_open(struct lkl_kernel *kernel, int directory, uint32_t max_depth,
		  struct lkl_walk **result)
{
	struct lkl_walk *walk = calloc(1, sizeof(*walk));
	struct lkl_stat stat;
	struct level *level;
	int error = -ENOMEM;
	int fd;

	if (!walk)
		return -ENOMEM;
	walk->kernel = kernel;
	walk->max_depth = max_depth ? max_depth : DEPTH_MOST;
	walk->pin = -1;
	level = push(walk);
	if (!level)
		goto failed;
	/* Opened anew: the caller's file position stays his. */
	fd = open_below(walk, directory, ".", &stat, &walk->mount);
	if (fd < 0) {
		error = fd;
		goto failed;
	}
	*level = (struct level){
	    .fd = fd,
	    .name = "",
	    .identity = identity_of(&stat),
	};
	walk->depth = 1;
	error = met_add(walk, level->identity);
	if (error)
		goto failed;
	*result = walk;
	return 0;

failed:
	lkl_walk_close(walk);
	return error;
}

int64_t lkl_walk_read(struct lkl_walk *walk, void *buffer, size_t size)
{
	unsigned char *start = buffer;
	size_t filled = 0;

	if ((uintptr_t)buffer % RECORD_ALIGNMENT)
		return -EINVAL;
	/* Any step may need one record without a name. */
	while (size - filled >= record_size(0)) {
		struct walk_step step;
		struct lkl_entry *record;
		int error =
		    walk_step(walk, start + filled, size - filled, &step);

		if (error)
			return error == -EINVAL && filled ? (int64_t)filled
							  : error;
		switch (step.event) {
		case WALK_END:
			return (int64_t)filled;
		case WALK_ENTRIES:
			filled += step.size;
			break;
		case WALK_REFUSED:
		case WALK_BROKEN:
			record = record_put(start + filled, "", 0);
			record->type = LKL_DT_DIR;
			record->error = step.error;
			record->depth = step.depth;
			record->directory = step.directory;
			record->number = step.number;
			filled += record->record_size;
			break;
		case WALK_ENTER:
		case WALK_LEAVE:
			break;
		}
	}
	return filled ? (int64_t)filled : -EINVAL;
}

void lkl_walk_close(struct lkl_walk *walk)
{
	if (!walk)
		return;
	while (walk->depth > 0) {
		struct walk_step step;

		leave(walk, &step);
	}
	close_directory(walk, &walk->pin);
	free(walk->levels);
	free(walk->met);
	free(walk);
}
