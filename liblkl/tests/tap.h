/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Results in the Test Anything Protocol, one line per check; see run.py.
 * Threads other than the first must not report.
 */
#ifndef TAP_H
#define TAP_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int tap_count;
static int tap_failures;

__attribute__((format(printf, 4, 5), unused)) static bool
tap_check(bool passed, const char *file, int line, const char *name, ...)
{
	va_list arguments;

	printf("%sok %d - ", passed ? "" : "not ", ++tap_count);
	va_start(arguments, name);
	vprintf(name, arguments);
	va_end(arguments);
	printf("\n");
	if (!passed) {
		tap_failures++;
		printf("# at %s:%d\n", file, line);
	}
	fflush(stdout);
	return passed;
}

/* ok(condition, "what should be", ...): true when it is so. */
#define ok(condition, ...) tap_check(condition, __FILE__, __LINE__, __VA_ARGS__)

/* is(got, wanted, "what", ...): of integers, shown when they differ. */
#define is(got, wanted, ...)                                                   \
	({                                                                     \
		int64_t tap_got = (int64_t)(got);                              \
		int64_t tap_wanted = (int64_t)(wanted);                        \
		bool tap_same = ok(tap_got == tap_wanted, __VA_ARGS__);        \
                                                                               \
		if (!tap_same)                                                 \
			printf("# got %" PRId64 ", wanted %" PRId64 "\n",      \
			       tap_got, tap_wanted);                           \
		tap_same;                                                      \
	})

/* Without this nothing that follows makes sense. */
#define need(condition, ...)                                                   \
	do {                                                                   \
		if (!ok(condition, __VA_ARGS__)) {                             \
			printf("Bail out!\n");                                 \
			exit(1);                                               \
		}                                                              \
	} while (0)

/* The last line of main(). */
static inline int tap_end(void)
{
	printf("1..%d\n", tap_count);
	return tap_failures != 0;
}

#endif
