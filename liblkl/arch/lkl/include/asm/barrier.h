/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_BARRIER_H
#define _ASM_LKL_BARRIER_H

/*
 * Devices and interrupts are other host threads on other real CPUs, so the
 * barriers towards them are real.  Between tasks there is one CPU, and the
 * semaphore that hands it over orders everything.
 */
/* Before a device is told to look at memory, and after it has answered. */
#define mb()	__atomic_thread_fence(__ATOMIC_SEQ_CST)
/* Reads of what a device wrote, after the read that says it did. */
#define rmb()	__atomic_thread_fence(__ATOMIC_ACQUIRE)
/* Writes that a device will read, before the write that says so. */
#define wmb()	__atomic_thread_fence(__ATOMIC_RELEASE)

/* For virtqueues, whose other end is such a thread: virt_mb() and kin. */
#define __smp_mb()	mb()
/* See above. */
#define __smp_rmb()	rmb()
/* See above. */
#define __smp_wmb()	wmb()

#include <asm-generic/barrier.h>

#endif
