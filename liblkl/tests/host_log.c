// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/* The log ring: positions, wrapping, readers that fall behind. */
#include <string.h>

#include "log.h"
#include "tap.h"

#define SIZE 1000

/* The byte at each position of a log that is filled by fill(). */
static char byte_at(uint64_t position)
{
	return (char)('a' + position % 23);
}

static void fill(struct log *log, size_t length)
{
	static char text[10 * SIZE];

	for (size_t i = 0; i < length; i++)
		text[i] = byte_at(log->end + i);
	log_append(log, text, length);
}

static bool right(const char *text, size_t length, uint64_t position)
{
	for (size_t i = 0; i < length; i++)
		if (text[i] != byte_at(position + i))
			return false;
	return true;
}

int main(void)
{
	static char text[2 * SIZE];
	struct log log;
	uint64_t position = 0;
	uint64_t seen = 0;
	bool all = true;
	size_t got;

	need(log_init(&log, SIZE) == 0, "a log of %d bytes", SIZE);
	is(log_read(&log, &position, text, sizeof(text)), 0, "empty at first");

	fill(&log, 10);
	is(log_read(&log, &position, text, 4), 4, "part of it");
	ok(right(text, 4, 0), "from its beginning");
	is(position, 4, "the position moves on");
	is(log_read(&log, &position, text, sizeof(text)), 6, "the rest");
	ok(right(text, 6, 4), "in order");
	is(log_read(&log, &position, text, sizeof(text)), 0, "then nothing");

	/* Reader and writer side by side, over many turns of the ring. */
	for (int i = 0; i < 1000; i++) {
		fill(&log, (size_t)i % 400);
		got = log_read(&log, &position, text, sizeof(text));
		all = all && got == (size_t)i % 400 &&
		      right(text, got, position - got);
	}
	ok(all, "nothing lost over %" PRIu64 " bytes", position);
	is(position, log.end, "at the end");

	fill(&log, SIZE + 1);
	seen = position;
	got = log_read(&log, &seen, text, sizeof(text));
	is(got, SIZE, "one byte too late: all that is kept");
	ok(right(text, got, log.end - SIZE), "the oldest byte kept is first");

	fill(&log, 9 * SIZE + 7);
	seen = 0;
	got = log_read(&log, &seen, text, sizeof(text));
	is(got, SIZE, "more than the ring at once: its end is kept");
	ok(right(text, got, log.end - SIZE), "in order");
	seen = log.end + 5;
	is(log_read(&log, &seen, text, sizeof(text)), 0,
	   "a position of the future gives nothing");
	log_free(&log);
	return tap_end();
}
