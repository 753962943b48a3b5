/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counting semaphores: how the kernel's one CPU is handed from thread to
 * thread, so the speed of the whole rests on them.  Also used as locks.
 */
#ifndef LKL_SEMAPHORE_H
#define LKL_SEMAPHORE_H

#include "host.h"

/*
 * The value in the low half, the number of sleepers in the high half: one
 * atomic step both ups and tells whether to wake, so that an up touches the
 * semaphore no more once another thread can have taken and freed it.
 */
struct semaphore {
	_Atomic uint64_t state;
};

static inline void semaphore_init(struct semaphore *semaphore, uint32_t value)
{
	atomic_init(&semaphore->state, value);
}

void semaphore_up(struct semaphore *semaphore);
void semaphore_down(struct semaphore *semaphore);

/* Also ends at the deadline (host_time_mono()), then with false. */
bool semaphore_down_until(struct semaphore *semaphore, uint64_t deadline);

/* A lock is a semaphore of value 1: held briefly, rarely contended. */
static inline void lock_init(struct semaphore *lock)
{
	semaphore_init(lock, 1);
}

static inline void lock(struct semaphore *lock)
{
	semaphore_down(lock);
}

static inline void unlock(struct semaphore *lock)
{
	semaphore_up(lock);
}

#endif
