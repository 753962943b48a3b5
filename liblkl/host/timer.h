/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one-shot timer of a kernel: a thread that sleeps until its deadline. */
#ifndef LKL_TIMER_H
#define LKL_TIMER_H

#include "semaphore.h"

struct timer {
	void (*expired)(void *opaque);
	void *opaque;
	_Atomic uint64_t deadline; /* HOST_FOREVER: none */
	_Atomic uint64_t wakes_at; /* when the thread will look by itself */
	_Atomic bool stopped;
	struct semaphore changed;
};

/* expired is called on the thread that runs timer_run(), with no lock held. */
void timer_init(struct timer *timer, void (*expired)(void *opaque),
		void *opaque);
/* The timer's thread; returns after timer_stop(). */
void timer_run(struct timer *timer);
void timer_stop(struct timer *timer);
/* Replaces the deadline; one that has passed expires at once. */
void timer_set(struct timer *timer, uint64_t deadline);

#endif
