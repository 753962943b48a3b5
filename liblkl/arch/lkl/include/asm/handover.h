/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_HANDOVER_H
#define _ASM_LKL_HANDOVER_H

/*
 * Who has the one CPU.
 *
 * Many host threads, one of which at most runs kernel code.  One word says
 * how things stand, and a second one which interrupts wait:
 *
 *	owner		meaning
 *	BUSY		a thread runs the kernel
 *	a task		PARKED: the task is current and runnable, but its
 *			host thread has returned from a system call
 *	IDLE		the idle task's host thread sleeps in its semaphore
 *	ENDED		halted, panicked or faulted; never left again
 *
 *	from	to	by		when
 *	BUSY	PARKED	park()		system call done, nothing else to run
 *	PARKED	BUSY	resume()	the same host thread calls again
 *	PARKED	BUSY	raise()		an interrupt; the raising thread goes on
 *					in the parked task's name
 *	BUSY	IDLE	sleep()		the scheduler found nothing to run
 *	IDLE	BUSY	raise()		an interrupt; the raising thread then
 *					ups the idle task's semaphore
 *	BUSY	ENDED	end()
 *
 * Between tasks the CPU is handed over while BUSY: __switch_to() ups the
 * semaphore of the next task's host thread.  So there is one rule: an up of a
 * task's semaphore is the CPU, given once, to a thread that waits for it or is
 * about to.
 *
 * No interrupt is lost: raise() sets the pending bit before it reads the owner,
 * and park() and sleep() set the owner before they read the pending bits, all
 * in one total order.  So either raise() sees the CPU free and takes it, or the
 * leaving thread sees the bit and takes the CPU back.
 *
 * This file depends on the compiler only, so that the protocol can be tested
 * by itself with real threads.
 */
#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdbool.h>
#include <stdint.h>
#endif

#define LKL_CPU_BUSY	((uintptr_t)0)
#define LKL_CPU_IDLE	((uintptr_t)1)
#define LKL_CPU_ENDED	((uintptr_t)2)
/* Every greater value is the address of the parked task. */

struct lkl_cpu {
	uintptr_t owner;
	uint64_t pending;
};

extern struct lkl_cpu lkl_cpu;

/* Takes the CPU if it stands as @from says. */
static inline bool lkl_cpu_take(struct lkl_cpu *cpu, uintptr_t from)
{
	return __atomic_compare_exchange_n(&cpu->owner, &from, LKL_CPU_BUSY,
					   false, __ATOMIC_SEQ_CST,
					   __ATOMIC_RELAXED);
}

/* True: @task runs on as if it had never left. */
static inline bool lkl_cpu_resume(struct lkl_cpu *cpu, void *task)
{
	return lkl_cpu_take(cpu, (uintptr_t)task);
}

/* True: the CPU is free.  False: it is still ours, interrupts wait. */
static inline bool lkl_cpu_release(struct lkl_cpu *cpu, uintptr_t to)
{
	__atomic_store_n(&cpu->owner, to, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&cpu->pending, __ATOMIC_SEQ_CST))
		return true;
	return !lkl_cpu_take(cpu, to);
}

static inline bool lkl_cpu_park(struct lkl_cpu *cpu, void *task)
{
	return lkl_cpu_release(cpu, (uintptr_t)task);
}

/* True: wait for the idle task's semaphore, which the next raise() ups. */
static inline bool lkl_cpu_sleep(struct lkl_cpu *cpu)
{
	return lkl_cpu_release(cpu, LKL_CPU_IDLE);
}

/*
 * Raises an interrupt line, from any thread.  Returns what was taken: BUSY or
 * ENDED nothing, for whoever has the CPU will see the line; IDLE or a parked
 * task that the caller now has to act for.
 */
static inline uintptr_t lkl_cpu_raise(struct lkl_cpu *cpu, unsigned int line)
{
	uintptr_t owner;

	__atomic_fetch_or(&cpu->pending, (uint64_t)1 << line, __ATOMIC_SEQ_CST);
	do {
		owner = __atomic_load_n(&cpu->owner, __ATOMIC_SEQ_CST);
		if (owner == LKL_CPU_BUSY || owner == LKL_CPU_ENDED)
			return owner;
	} while (!lkl_cpu_take(cpu, owner));
	return owner;
}

/* The lines that wait, for a look without taking them. */
static inline uint64_t lkl_cpu_pending(const struct lkl_cpu *cpu)
{
	return __atomic_load_n(&cpu->pending, __ATOMIC_RELAXED);
}

/* Takes the lines that wait; by the thread that has the CPU. */
static inline uint64_t lkl_cpu_lines(struct lkl_cpu *cpu)
{
	return __atomic_exchange_n(&cpu->pending, 0, __ATOMIC_SEQ_CST);
}

/* Ends the CPU; by the thread that has it. */
static inline void lkl_cpu_end(struct lkl_cpu *cpu)
{
	__atomic_store_n(&cpu->owner, LKL_CPU_ENDED, __ATOMIC_SEQ_CST);
}

static inline bool lkl_cpu_ended(const struct lkl_cpu *cpu)
{
	return __atomic_load_n(&cpu->owner, __ATOMIC_SEQ_CST) == LKL_CPU_ENDED;
}

#endif
