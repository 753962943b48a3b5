// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/* What is kept of a disk's map, against a map that is computed. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "extent_map.h"
#include "tap.h"
#include "thread.h"

#define KIB UINT64_C(1024)
#define MIB (KIB << 10)
#define TIB (MIB << 20)

/* ---- A disk of clusters ------------------------------------------------ */

static struct {
	uint64_t size;
	uint64_t cluster;
	bool scattered; /* each cluster anywhere; else all in one file, in order
			 */

	/* What the answer is instead, when the question meets bad_from. */
	uint64_t bad_from;
	int64_t answer;
	struct lkl_disk_extent lie[3];

	/* What was asked. */
	uint32_t questions;
	uint64_t last_offset, last_length;
	uint64_t told; /* bytes */
	bool inside;   /* a kernel, while it was asked */
} disk;

static uint64_t hash(uint64_t value)
{
	value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
	return value ^ value >> 31;
}

/* How the byte at an offset is had; the length is that to its cluster's end. */
static struct lkl_disk_extent truth(uint64_t offset)
{
	uint64_t number = offset / disk.cluster;
	uint64_t within = offset % disk.cluster;
	struct lkl_disk_extent extent = {
	    .length = disk.cluster - within,
	    .fd = 5,
	    .position = 4096 + offset,
	};

	if (disk.scattered) {
		static const int64_t files[] = {
		    3, 4, INT_MAX, LKL_EXTENT_ZERO, LKL_EXTENT_ENCODED,
		};

		extent.fd = files[hash(number) % 5];
		extent.position = (hash(~number) >> 24) * disk.cluster + within;
		if (extent.fd < 0)
			extent.position = 77; /* says nothing */
	}
	if (extent.length > disk.size - offset)
		extent.length = disk.size - offset;
	return extent;
}

static int64_t tell(void *opaque, uint64_t offset, uint64_t length,
		    struct lkl_disk_extent *extents, size_t count)
{
	size_t used = 0;

	disk.questions++;
	disk.last_offset = offset;
	disk.last_length = length;
	disk.inside |= thread_inside != NULL;
	if (opaque != &disk || !length || !count || offset >= disk.size ||
	    length > disk.size - offset)
		return -EINVAL;
	if (offset + length > disk.bad_from) {
		memcpy(extents, disk.lie, sizeof(disk.lie));
		return disk.answer;
	}
	while (used < count && length) {
		struct lkl_disk_extent next = truth(offset);

		if (!disk.scattered || next.length > length)
			next.length = length;
		extents[used++] = next;
		offset += next.length;
		length -= next.length;
		disk.told += next.length;
	}
	return (int64_t)used;
}

static struct extent_map *start(uint64_t size, uint64_t cluster, bool scattered)
{
	static const struct lkl_disk_operations operations = {.map = tell};
	struct extent_map *map;

	memset(&disk, 0, sizeof(disk));
	disk.size = size;
	disk.cluster = cluster;
	disk.scattered = scattered;
	disk.bad_from = UINT64_MAX;
	map = extent_map_create(&operations, &disk, size);
	need(map, "a map");
	return map;
}

/* Whether an extent found is a true one. */
static bool is_true(uint64_t offset, uint64_t length,
		    const struct lkl_disk_extent *found)
{
	uint64_t done = 0;

	if (!found->length || found->length > length)
		return false;
	while (done < found->length) {
		struct lkl_disk_extent wanted = truth(offset + done);

		if (found->fd != wanted.fd)
			return false;
		if (found->fd >= 0 && found->position + done != wanted.position)
			return false;
		done += wanted.length;
	}
	return true;
}

/* Finds all of a range and holds it to the truth. */
static bool find_range(struct extent_map *map, uint64_t offset, uint64_t length)
{
	while (length) {
		struct lkl_disk_extent found;

		if (extent_map_find(map, offset, length, &found) != 0 ||
		    !is_true(offset, length, &found))
			return false;
		offset += found.length;
		length -= found.length;
	}
	return true;
}

/* Whether the windows are as extent_map.h says, and know nothing twice. */
static bool sound(const struct extent_map *map)
{
	bool seen[EXTENT_WINDOWS] = {false};
	uint64_t end = 0;

	for (uint32_t i = 0; i < EXTENT_WINDOWS; i++) {
		uint16_t number = map->order[i];
		const struct extent_window *window = &map->windows[number];
		uint64_t length = 0;

		if (number >= EXTENT_WINDOWS || seen[number])
			return false;
		seen[number] = true;
		if (i >= map->count)
			continue;
		if (window->start < end || !window->count ||
		    window->count > EXTENT_WINDOW)
			return false;
		for (uint32_t j = 0; j < window->count; j++)
			length += window->extents[j].length;
		end = window->end;
		if (end - window->start != length || end > disk.size)
			return false;
	}
	return true;
}

/* ---- Tests ------------------------------------------------------------- */

static void test_in_order(void)
{
	const uint64_t size = 512 * MIB + 1234;
	struct extent_map *map = start(size, 64 * KIB, true);
	bool right = true;

	for (uint64_t at = 0; at < size; at += MIB)
		right = right &&
			find_range(map, at, size - at < MIB ? size - at : MIB);
	ok(right, "in order: every extent is true");
	ok(sound(map), "in order: sound");
	is(disk.told, size, "in order: nothing is told twice");
	ok(disk.questions < 512, "in order: %u questions for 512 MiB",
	   disk.questions);
	ok(!disk.inside, "in order: no question is asked inside a kernel");
	disk.questions = 0;
	ok(find_range(map, 0, size), "in order: once more");
	is(disk.questions, 0, "in order: without a question");
	extent_map_destroy(map);
}

static void test_one_piece(void)
{
	const uint64_t size = 8 * TIB;
	struct extent_map *map = start(size, size, false);
	struct lkl_disk_extent found;
	uint64_t before = 0;
	bool right = true, grows = true;

	for (uint64_t at = 0; at < 1024 * MIB; at = map->windows[0].end) {
		right = right && extent_map_find(map, at, MIB, &found) == 0 &&
			found.position == 4096 + at;
		grows = grows && disk.last_length >= before &&
			disk.last_length <= EXTENT_AHEAD_MOST;
		before = disk.last_length;
	}
	ok(right, "one piece: its place");
	ok(grows, "one piece: questions grow");
	is(before, EXTENT_AHEAD_MOST, "one piece: up to the most");
	is(map->count, 1, "one piece: one window");
	is(map->windows[0].count, 1, "one piece: of one extent");
	is(extent_map_find(map, 100 * MIB + 1, 7, &found), 0,
	   "one piece: in it");
	ok(found.length == 7 && found.position == 4096 + 100 * MIB + 1,
	   "one piece: no more than was wanted");

	/* From the last to the first: each question meets the last answer. */
	for (uint64_t at = 2048 * MIB; at > 1024 * MIB; at -= 4 * KIB)
		right = right && find_range(map, at - 4 * KIB, 4 * KIB);
	ok(right && sound(map), "one piece: read backwards");
	is(map->count, 1, "one piece: joined to what was there");
	extent_map_destroy(map);
}

static void test_anywhere(uint64_t cluster, uint64_t size)
{
	struct extent_map *map = start(size, cluster, true);
	bool right = true, kept;

	for (uint64_t i = 0; i < 20000; i++) {
		uint64_t at = hash(i) % size;
		uint64_t length = 1 + hash(~i) % (i % 16 ? 4096 : MIB);

		right = right &&
			find_range(map, at,
				   size - at < length ? size - at : length);
		if (i % 1000 == 0)
			right = right && sound(map);
	}
	ok(right, "anywhere, by %" PRIu64 ": every extent is true", cluster);
	is(disk.told, size, "anywhere, by %" PRIu64 ": told once, all of it",
	   cluster);
	kept = find_range(map, 0, size);
	disk.questions = 0;
	ok(kept && find_range(map, 0, size) && !disk.questions,
	   "anywhere, by %" PRIu64 ": and kept", cluster);
	extent_map_destroy(map);
}

static void test_no_room(void)
{
	const uint64_t size = 4 * TIB;
	/* Each of these is a window of its own, as nothing is beside it. */
	const uint64_t step = 2 * TIB / EXTENT_WINDOWS;
	const uint64_t hot = 4 * TIB - 8 * MIB;
	struct extent_map *map = start(size, 16 * KIB, true);
	bool right = true, bounded = true;

	right = find_range(map, hot, 4096);
	for (uint64_t i = 0; i < EXTENT_WINDOWS - 1; i++)
		right = right && find_range(map, i * step, 4096);
	is(disk.questions, EXTENT_WINDOWS, "no room: as many as there is");
	is(map->count, EXTENT_WINDOWS, "no room: all in use");
	right =
	    right && find_range(map, hot, 4096) && find_range(map, step, 4096);
	is(disk.questions, EXTENT_WINDOWS, "no room: all are kept");

	/* One more: that of the first is the oldest. */
	right = right && find_range(map, 3 * TIB, 4096);
	right = right && find_range(map, step, 4096) &&
		find_range(map, 2 * step, 4096);
	is(disk.questions, EXTENT_WINDOWS + 1, "no room: the others stay");
	right = right && find_range(map, 0, 4096);
	is(disk.questions, EXTENT_WINDOWS + 2, "no room: one had to go");

	disk.questions = 0;
	for (uint64_t i = 0; i < 20000; i++) {
		right = right &&
			find_range(map, hash(i) % (hot - 8 * MIB), 4096) &&
			find_range(map, hot, 4096);
		bounded = bounded && map->count <= EXTENT_WINDOWS;
	}
	ok(right && bounded && sound(map),
	   "no room: 20000 other places, every extent true");
	ok(disk.questions > 15000, "no room: with many questions (%u)",
	   disk.questions);
	disk.questions = 0;
	ok(find_range(map, hot, 4096) && !disk.questions,
	   "no room: what is in use stays");

	/* Where there is no room, what is read in order still is no worse. */
	disk.questions = 0;
	ok(find_range(map, TIB + 4096, 1024 * MIB), "no room: in order");
	ok(disk.questions <= 1026, "no room: %u questions for 1 GiB",
	   disk.questions);
	ok(sound(map), "no room: sound");
	extent_map_destroy(map);
}

static void test_limits(void)
{
	struct extent_map *map = start(INT64_MAX - 511, 512, true);
	uint64_t last = disk.size - 512;
	struct lkl_disk_extent found;

	ok(find_range(map, last, 512), "limits: the last bytes before 2^63");
	ok(disk.last_offset + disk.last_length == disk.size,
	   "limits: no question goes beyond");
	ok(find_range(map, disk.size - 1, 1), "limits: the very last");
	ok(find_range(map, UINT64_C(1) << 62, MIB), "limits: in the middle");
	ok(find_range(map, 0, 1), "limits: the first");
	ok(sound(map), "limits: sound");
	extent_map_destroy(map);

	/* A question ends where the next window begins. */
	map = start(TIB, 64 * KIB, true);
	ok(find_range(map, 2 * MIB, 1), "limits: later");
	ok(find_range(map, 2 * MIB - 100 * KIB, 1), "limits: just before it");
	is(disk.last_offset, 2 * MIB - EXTENT_ALIGNMENT,
	   "limits: from shortly before");
	is(disk.last_length, EXTENT_ALIGNMENT, "limits: up to what is known");
	is(map->count, 1, "limits: both are one");
	extent_map_destroy(map);

	/* A position as large as may be. */
	map = start(TIB, TIB, false);
	disk.bad_from = 0;
	disk.answer = 1;
	disk.lie[0] = (struct lkl_disk_extent){512, 3, INT64_MAX - 512};
	is(extent_map_find(map, 0, 512, &found), 0, "limits: a far position");
	is(found.position, INT64_MAX - 512, "limits: is kept");
	extent_map_destroy(map);
}

static void test_answers(void)
{
	static const struct {
		const char *name;
		int64_t answer;
		struct lkl_disk_extent lie[3];
		int error;
	} cases[] = {
	    {"an error", -ENOMEM, {}, -ENOMEM},
	    {"the largest error", -4095, {}, -4095},
	    {"no error", -4096, {}, -EIO},
	    {"an error beyond 32 bits", -(INT64_C(1) << 32), {}, -EIO},
	    {"the least number", INT64_MIN, {}, -EIO},
	    {"more extents than were asked for", EXTENT_WINDOW + 1, {}, -EIO},
	    {"more than there can be", INT64_MAX, {}, -EIO},
	    {"an extent of nothing", 1, {{0, 3, 0}}, -EIO},
	    {"nothing behind something", 2, {{512, 3, 0}}, -EIO},
	    {"more bytes than were asked for", 1, {{MIB + 1, -1, 0}}, -EIO},
	    {"in two", 2, {{MIB, 3, 0}, {1, -2, 0}}, -EIO},
	    {"in two beyond 64 bits",
	     2,
	     {{MIB / 2, 3, 0}, {UINT64_MAX - MIB / 2 + 1, 3, 0}},
	     -EIO},
	    {"a kind that does not exist", 1, {{512, -3, 0}}, -EIO},
	    {"no file", 1, {{512, (int64_t)INT_MAX + 1, 0}}, -EIO},
	    {"a position beyond 63 bits",
	     1,
	     {{512, 3, (uint64_t)INT64_MAX - 511}},
	     -EIO},
	    {"the largest position", 1, {{512, 3, UINT64_MAX}}, -EIO},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct extent_map *map = start(TIB, 64 * KIB, true);
		struct lkl_disk_extent found;

		disk.bad_from = 0;
		disk.answer = cases[i].answer;
		memcpy(disk.lie, cases[i].lie, sizeof(disk.lie));
		is(extent_map_find(map, 0, 4096, &found), cases[i].error,
		   "%s: its error", cases[i].name);
		is(map->count, 0, "%s: nothing is kept", cases[i].name);
		disk.bad_from = UINT64_MAX;
		ok(find_range(map, 0, 4 * MIB), "%s: a true answer helps",
		   cases[i].name);
		extent_map_destroy(map);
	}
}

static void test_nothing_told(void)
{
	struct extent_map *map = start(TIB, 64 * KIB, true);
	struct lkl_disk_extent found;

	ok(find_range(map, 0, 100), "nothing told: what is known");
	ok(find_range(map, 8 * MIB, 100), "nothing told: what comes later");
	disk.bad_from = 0;
	is(extent_map_find(map, MIB + 5, 64 * MIB, &found), 0,
	   "nothing told: no error");
	ok(found.fd == LKL_EXTENT_ENCODED && found.length == 7 * MIB - 5,
	   "nothing told: encoded, up to what is known");
	is(extent_map_find(map, 6 * MIB, 4096, &found), 0,
	   "nothing told: again");
	ok(found.fd == LKL_EXTENT_ENCODED && found.length == 4096,
	   "nothing told: no more than was wanted");
	is(extent_map_find(map, TIB - 1, MIB, &found), 0, "nothing told: last");
	is(found.length, 1, "nothing told: up to the end of the disk");
	is(map->count, 2, "nothing told: nothing is kept");
	disk.bad_from = UINT64_MAX;
	ok(find_range(map, 0, 16 * MIB), "nothing told: until it is told");
	extent_map_destroy(map);
}

/* Answers of a byte each, as slow as can be, and yet right. */
static int64_t tell_a_byte(void *opaque, uint64_t offset, uint64_t length,
			   struct lkl_disk_extent *extents, size_t count)
{
	return tell(opaque, offset, length ? 1 : 0, extents, count);
}

static void test_small_answers(void)
{
	struct extent_map *map = start(TIB, 64 * KIB, true);
	const uint64_t at = EXTENT_ALIGNMENT + KIB;
	struct lkl_disk_extent found;

	map->ask = tell_a_byte;
	is(extent_map_find(map, at, 9, &found), 0, "small answers");
	ok(is_true(at, 9, &found), "small answers: true");
	is(found.length, 1, "small answers: small");
	is(disk.questions, KIB + 1, "small answers: many");
	ok(sound(map), "small answers: sound");
	extent_map_destroy(map);
}

int main(void)
{
	/* As where a request is served; there is no kernel to be looked at. */
	struct lkl_kernel *kernel = (struct lkl_kernel *)&disk;

	thread_enter(kernel);
	test_in_order();
	test_one_piece();
	test_anywhere(512, 4 * MIB + 100);
	test_anywhere(4 * KIB, 64 * MIB + 4097);
	test_anywhere(64 * KIB, 256 * MIB - 1);
	test_no_room();
	test_limits();
	test_answers();
	test_nothing_told();
	test_small_answers();
	ok(thread_inside == kernel, "still inside");
	thread_leave(NULL);
	return tap_end();
}
