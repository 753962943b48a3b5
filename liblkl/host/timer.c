// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#include "timer.h"

void timer_init(struct timer *timer, void (*expired)(void *opaque),
		void *opaque)
{
	timer->expired = expired;
	timer->opaque = opaque;
	atomic_init(&timer->deadline, HOST_FOREVER);
	atomic_init(&timer->wakes_at, HOST_FOREVER);
	atomic_init(&timer->stopped, false);
	semaphore_init(&timer->changed, 0);
}

/*
 * A kernel moves its next tick to a later time again and again; waking the
 * thread for that would cost a system call each time.  So the thread is only
 * woken for an earlier deadline, and finds a later one when it looks.
 *
 * The order of the two stores and loads here and in timer_run() makes one of
 * the two sides see the other.
 */
void timer_set(struct timer *timer, uint64_t deadline)
{
	atomic_store(&timer->deadline, deadline);
	if (deadline < atomic_load(&timer->wakes_at))
		semaphore_up(&timer->changed);
}

void timer_run(struct timer *timer)
{
	while (!atomic_load(&timer->stopped)) {
		uint64_t deadline = atomic_load(&timer->deadline);

		if (deadline <= host_time_mono()) {
			if (atomic_compare_exchange_strong(
				&timer->deadline, &deadline, HOST_FOREVER))
				timer->expired(timer->opaque);
			continue;
		}
		atomic_store(&timer->wakes_at, deadline);
		if (atomic_load(&timer->deadline) >= deadline)
			semaphore_down_until(&timer->changed, deadline);
		/* Awake: nobody needs to wake us. */
		atomic_store(&timer->wakes_at, 0);
	}
}

void timer_stop(struct timer *timer)
{
	atomic_store(&timer->stopped, true);
	semaphore_up(&timer->changed);
}
