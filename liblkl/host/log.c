// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int log_init(struct log *log, size_t size)
{
	log->ring = malloc(size);
	if (!log->ring)
		return -ENOMEM;
	lock_init(&log->lock);
	log->size = size;
	log->end = 0;
	return 0;
}

void log_free(struct log *log)
{
	free(log->ring);
	log->ring = NULL;
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

void log_append(struct log *log, const char *text, size_t length)
{
	lock(&log->lock);
	while (length) {
		size_t at = log->end % log->size;
		size_t piece = min_size(length, log->size - at);

		memcpy(log->ring + at, text, piece);
		text += piece;
		length -= piece;
		log->end += piece;
	}
	unlock(&log->lock);
}

size_t log_read(struct log *log, uint64_t *position, char *buffer, size_t size)
{
	uint64_t from = *position;
	size_t done = 0;

	lock(&log->lock);
	if (log->end > log->size && from < log->end - log->size)
		from = log->end - log->size;
	while (done < size && from < log->end) {
		size_t at = from % log->size;
		size_t piece = min_size(size - done, log->size - at);

		if (piece > log->end - from)
			piece = log->end - from;
		memcpy(buffer + done, log->ring + at, piece);
		done += piece;
		from += piece;
	}
	unlock(&log->lock);
	*position = from;
	return done;
}
