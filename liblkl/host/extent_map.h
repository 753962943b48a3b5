/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the bytes of a disk lie, as its map callback told: windows of extents
 * that follow one another, found by offset.  The callback is asked when no
 * window has an offset, the more at once the longer what ends there already is.
 * What touches is joined as far as it fits into one window, and the window
 * used least recently makes room.
 */
#ifndef LKL_EXTENT_MAP_H
#define LKL_EXTENT_MAP_H

#include "lkl.h"

#include "host.h"

/* Together below 2 MiB, of which only what was used ever takes memory. */
#define EXTENT_WINDOW 64u
#define EXTENT_WINDOWS 1280u

/* Bytes that are asked for at once: at a place by itself, and at most. */
#define EXTENT_AHEAD_LEAST (UINT64_C(1) << 20)
#define EXTENT_AHEAD_MOST (UINT64_C(64) << 20)

/* Where a question begins when nothing is known just before the offset. */
#define EXTENT_ALIGNMENT (UINT64_C(256) << 10)

struct extent_window {
	uint64_t start, end; /* bytes from the start of the disk */
	uint32_t count;
	struct lkl_disk_extent extents[EXTENT_WINDOW];
};

struct extent_map {
	int64_t (*ask)(void *opaque, uint64_t offset, uint64_t length,
		       struct lkl_disk_extent *extents, size_t count);
	void *opaque;
	uint64_t size; /* bytes of the disk */
	uint64_t turn; /* grows with each use of a window */
	uint32_t count;

	/* Windows by number: first those in use, by offset, then the others. */
	uint16_t order[EXTENT_WINDOWS];
	uint64_t last_used[EXTENT_WINDOWS]; /* turns, by number of a window */
	struct extent_window windows[EXTENT_WINDOWS];
};

/* For a disk that has a map callback; NULL when there is no memory. */
struct extent_map *
extent_map_create(const struct lkl_disk_operations *operations, void *opaque,
		  uint64_t size);
void extent_map_destroy(struct extent_map *map);

/*
 * How the bytes from offset on are had: at least one, at most length of them,
 * all inside the disk.  Of what the callback cannot tell, the extent is
 * encoded. Returns 0, the callback's error, or -EIO for an answer against the
 * rules.
 */
int extent_map_find(struct extent_map *map, uint64_t offset, uint64_t length,
		    struct lkl_disk_extent *found);

#endif
