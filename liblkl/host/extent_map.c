// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#include "extent_map.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "thread.h"

/* MAX_ERRNO of include/linux/err.h */
#define LARGEST_ERROR 4095

_Static_assert(sizeof(struct extent_map) <= 2u << 20, "what extent_map.h says");

static uint64_t min_length(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

struct extent_map *
extent_map_create(const struct lkl_disk_operations *operations, void *opaque,
		  uint64_t size)
{
	struct extent_map *map = calloc(1, sizeof(*map));

	if (!map)
		return NULL;
	map->ask = operations->map;
	map->opaque = opaque;
	map->size = size;
	for (uint32_t i = 0; i < EXTENT_WINDOWS; i++)
		map->order[i] = (uint16_t)i;
	return map;
}

void extent_map_destroy(struct extent_map *map)
{
	free(map);
}

/* ---- Extents ----------------------------------------------------------- */

/* The part of an extent that begins skip bytes after its start. */
static struct lkl_disk_extent rest_of(const struct lkl_disk_extent *extent,
				      uint64_t skip)
{
	return (struct lkl_disk_extent){
	    .length = extent->length - skip,
	    .fd = extent->fd,
	    .position = extent->fd < 0 ? 0 : extent->position + skip,
	};
}

static bool continues(const struct lkl_disk_extent *before,
		      const struct lkl_disk_extent *after)
{
	return before->fd == after->fd &&
	       (after->fd < 0 ||
		before->position + before->length == after->position);
}

/* The caller knows that there is room. */
static void append(struct extent_window *window,
		   const struct lkl_disk_extent *extent)
{
	struct lkl_disk_extent *last =
	    window->count ? &window->extents[window->count - 1] : NULL;

	if (last && continues(last, extent))
		last->length += extent->length;
	else
		window->extents[window->count++] = *extent;
	window->end += extent->length;
}

/* Whether what the callback filled in is what it was asked for. */
static bool valid_answer(const struct lkl_disk_extent *extents, int64_t count,
			 uint64_t length)
{
	for (int64_t i = 0; i < count; i++) {
		const struct lkl_disk_extent *extent = &extents[i];

		if (!extent->length || extent->length > length ||
		    extent->fd < LKL_EXTENT_ENCODED || extent->fd > INT_MAX)
			return false;
		if (extent->fd >= 0 &&
		    extent->position > (uint64_t)INT64_MAX - extent->length)
			return false;
		length -= extent->length;
	}
	return true;
}

/* ---- Windows ----------------------------------------------------------- */

static struct extent_window *window_at(struct extent_map *map, uint32_t place)
{
	return &map->windows[map->order[place]];
}

/* How many windows begin at offset or before it. */
static uint32_t place_of(struct extent_map *map, uint64_t offset)
{
	uint32_t low = 0, high = map->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (window_at(map, middle)->start <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void mark_used(struct extent_map *map, uint32_t place)
{
	map->last_used[map->order[place]] = ++map->turn;
}

static void remove_window(struct extent_map *map, uint32_t place)
{
	uint16_t number = map->order[place];

	map->count--;
	memmove(&map->order[place], &map->order[place + 1],
		(map->count - place) * sizeof(*map->order));
	map->order[map->count] = number;
}

static void remove_oldest(struct extent_map *map)
{
	uint32_t oldest = 0;

	for (uint32_t i = 1; i < map->count; i++)
		if (map->last_used[map->order[i]] <
		    map->last_used[map->order[oldest]])
			oldest = i;
	remove_window(map, oldest);
}

static void insert_window(struct extent_map *map, uint32_t place,
			  uint64_t start, const struct lkl_disk_extent *extents,
			  int64_t count)
{
	uint16_t number = map->order[map->count];
	struct extent_window *window = &map->windows[number];

	memmove(&map->order[place + 1], &map->order[place],
		(map->count - place) * sizeof(*map->order));
	map->order[place] = number;
	map->count++;
	window->start = start;
	window->end = start;
	window->count = 0;
	for (int64_t i = 0; i < count; i++)
		append(window, &extents[i]);
	mark_used(map, place);
}

/* Makes one window of this and the next, where they touch and it fits. */
static void join(struct extent_map *map, uint32_t place)
{
	struct extent_window *window, *next;

	if (place + 1 >= map->count)
		return;
	window = window_at(map, place);
	next = window_at(map, place + 1);
	if (window->end != next->start ||
	    window->count + next->count > EXTENT_WINDOW)
		return;
	for (uint32_t i = 0; i < next->count; i++)
		append(window, &next->extents[i]);
	remove_window(map, place + 1);
	mark_used(map, place);
}

/* ---- Questions --------------------------------------------------------- */

/*
 * Has the gap between two windows that offset lies in filled, from its start or
 * from shortly before offset on.  place: how many windows are before it.
 * Returns the number of extents, 0 when nothing is known of them, or an error.
 */
static int64_t fill(struct extent_map *map, uint64_t offset, uint32_t place)
{
	struct lkl_disk_extent extents[EXTENT_WINDOW];
	uint64_t limit =
	    place < map->count ? window_at(map, place)->start : map->size;
	uint64_t start = offset - offset % EXTENT_ALIGNMENT;
	uint64_t ahead = EXTENT_AHEAD_LEAST;
	struct lkl_kernel *before;
	int64_t count;

	if (place && window_at(map, place - 1)->end >= start) {
		const struct extent_window *known = window_at(map, place - 1);

		start = known->end;
		ahead =
		    min_length(known->end - known->start, EXTENT_AHEAD_MOST);
		if (ahead < EXTENT_AHEAD_LEAST)
			ahead = EXTENT_AHEAD_LEAST;
	}
	ahead = min_length(ahead, limit - start);
	before = thread_enter(NULL);
	count = map->ask(map->opaque, start, ahead, extents, EXTENT_WINDOW);
	thread_leave(before);
	if (count < -LARGEST_ERROR || count > EXTENT_WINDOW ||
	    !valid_answer(extents, count, ahead))
		return -EIO;
	if (count <= 0)
		return count;
	if (map->count == EXTENT_WINDOWS)
		remove_oldest(map);
	place = place_of(map, start);
	insert_window(map, place, start, extents, count);
	join(map, place);
	if (place)
		join(map, place - 1);
	return count;
}

/* Of a window that has offset. */
static struct lkl_disk_extent extent_at(const struct extent_window *window,
					uint64_t offset)
{
	const struct lkl_disk_extent *extent = window->extents;
	uint64_t start = window->start;

	while (offset - start >= extent->length)
		start += extent++->length;
	return rest_of(extent, offset - start);
}

int extent_map_find(struct extent_map *map, uint64_t offset, uint64_t length,
		    struct lkl_disk_extent *found)
{
	uint32_t place = place_of(map, offset);

	/* Each turn tells of bytes that were not known, up to offset. */
	while (!place || window_at(map, place - 1)->end <= offset) {
		int64_t count = fill(map, offset, place);

		if (count < 0)
			return (int)count;
		if (!count) {
			uint64_t end = place < map->count
					   ? window_at(map, place)->start
					   : map->size;

			*found = (struct lkl_disk_extent){
			    .length = min_length(length, end - offset),
			    .fd = LKL_EXTENT_ENCODED,
			};
			return 0;
		}
		place = place_of(map, offset);
	}
	*found = extent_at(window_at(map, place - 1), offset);
	found->length = min_length(found->length, length);
	mark_used(map, place - 1);
	return 0;
}
