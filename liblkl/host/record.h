/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records of directory entries (struct lkl_entry) and the kernel's answers
 * that fill them.  Internal to this room.
 */
#ifndef LKL_HOST_RECORD_H
#define LKL_HOST_RECORD_H

#include "lkl.h"

#include <assert.h>
#include <stdbool.h>

/* The layout is part of the API: a reader in another language counts on it. */
static_assert(sizeof(struct lkl_stat) == 120, "struct lkl_stat has no padding");
static_assert(sizeof(struct lkl_entry) == 152,
	      "struct lkl_entry has no padding");

#define RECORD_ALIGNMENT 8u

/* Bytes of a record whose name has that length. */
static inline size_t record_size(size_t name_length)
{
	size_t size = sizeof(struct lkl_entry) + name_length + 1;

	return (size + RECORD_ALIGNMENT - 1) & ~(size_t)(RECORD_ALIGNMENT - 1);
}

static inline const char *record_name(const struct lkl_entry *record)
{
	return (const char *)(record + 1);
}

static inline const struct lkl_entry *
record_next(const struct lkl_entry *record)
{
	return (const struct lkl_entry *)((const unsigned char *)record +
					  record->record_size);
}

/*
 * Writes a record with a name and nothing else; the caller has made sure of
 * record_size() bytes at place.
 */
struct lkl_entry *record_put(void *place, const char *name, size_t name_length);

/* LKL_DT_* of a mode. */
static inline uint8_t type_of_mode(uint32_t mode)
{
	return (mode & LKL_S_IFMT) >> 12;
}

/* A name that an image may give and a path may be made of. */
bool name_is_safe(const char *name, size_t length);

/*
 * What the kernel knows of an entry, a link not followed; name "" is the
 * handle itself.  *mount, unless NULL, tells which mount it stands in.
 * Returns 0 or a negative errno.
 */
int stat_entry(struct lkl_kernel *kernel, int directory, const char *name,
	       struct lkl_stat *stat, uint64_t *mount);

#endif
