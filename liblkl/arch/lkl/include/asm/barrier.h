/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_BARRIER_H
#define _ASM_LKL_BARRIER_H

/*
 * Devices and interrupts are other host threads on other real CPUs, so the
 * barriers towards them are real.  Between tasks there is one CPU, and the
 * semaphore that hands it over orders everything.
 */
#define mb()	__atomic_thread_fence(__ATOMIC_SEQ_CST)
#define rmb()	__atomic_thread_fence(__ATOMIC_ACQUIRE)
#define wmb()	__atomic_thread_fence(__ATOMIC_RELEASE)

/* The virtqueue's other end is such a thread even on a kernel without SMP. */
#define __smp_mb()	mb()
#define __smp_rmb()	rmb()
#define __smp_wmb()	wmb()

#include <asm-generic/barrier.h>

#endif
