// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#include "semaphore.h"

#define SLEEPER (UINT64_C(1) << 32)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "the value must be the first half of the state");

/*
 * How long to look before sleeping, in nanoseconds.  A sleep and its wake-up
 * cost 2 to 25 us (most under virtualisation), and a kernel thread is often
 * wanted back at once: looking for about as long as a sleep would cost never
 * loses more than twice, and a hand-over between two CPUs takes 50 ns.
 */
#define LOOKING 4000

/* How often to look between two readings of the clock. */
#define LOOKS 16

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#endif
}

/* With one CPU nobody can up a semaphore while we look at it. */
static bool looking_helps(void)
{
	static _Atomic int known; /* 1: yes, -1: no */
	int value = atomic_load_explicit(&known, memory_order_relaxed);

	if (!value) {
		value = host_cpus() > 1 ? 1 : -1;
		atomic_store_explicit(&known, value, memory_order_relaxed);
	}
	return value > 0;
}

static _Atomic uint32_t *value_of(struct semaphore *semaphore)
{
	return (_Atomic uint32_t *)&semaphore->state;
}

static bool try_down(struct semaphore *semaphore)
{
	uint64_t state =
	    atomic_load_explicit(&semaphore->state, memory_order_relaxed);

	while ((uint32_t)state)
		if (atomic_compare_exchange_weak_explicit(
			&semaphore->state, &state, state - 1,
			memory_order_acquire, memory_order_relaxed))
			return true;
	return false;
}

void semaphore_up(struct semaphore *semaphore)
{
	_Atomic uint32_t *value = value_of(semaphore);

	if (atomic_fetch_add(&semaphore->state, 1) >= SLEEPER)
		host_wake_one(value);
}

/* Waits for a moment, without sleeping. */
static bool look(struct semaphore *semaphore)
{
	uint64_t end = host_time_mono() + LOOKING;

	do {
		for (int i = 0; i < LOOKS; i++) {
			cpu_relax();
			if (try_down(semaphore))
				return true;
		}
	} while (host_time_mono() < end);
	return false;
}

bool semaphore_down_until(struct semaphore *semaphore, uint64_t deadline)
{
	if (try_down(semaphore) || (looking_helps() && look(semaphore)))
		return true;
	for (;;) {
		atomic_fetch_add(&semaphore->state, SLEEPER);
		host_wait(value_of(semaphore), 0, deadline);
		atomic_fetch_sub(&semaphore->state, SLEEPER);
		if (try_down(semaphore))
			return true;
		if (deadline != HOST_FOREVER && host_time_mono() >= deadline)
			return false;
	}
}

void semaphore_down(struct semaphore *semaphore)
{
	semaphore_down_until(semaphore, HOST_FOREVER);
}
