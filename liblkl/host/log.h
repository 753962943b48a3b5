/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The last bytes that a kernel said; positions count from its first one. */
#ifndef LKL_LOG_H
#define LKL_LOG_H

#include "semaphore.h"

struct log {
	struct semaphore lock;
	char *ring;
	size_t size;
	uint64_t end; /* position after the last byte */
};

int log_init(struct log *log, size_t size);
void log_free(struct log *log);
void log_append(struct log *log, const char *text, size_t length);
/* As lkl_log_read(). */
size_t log_read(struct log *log, uint64_t *position, char *buffer, size_t size);

#endif
