/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each host thread knows of kernels: which one it is inside right now
 * (for the fault handler), and its task in each (for the kernel image).
 */
#ifndef LKL_THREAD_H
#define LKL_THREAD_H

#include "host.h"

struct lkl_kernel;

/*
 * The kernel whose image this thread is running, or NULL.  Initial-exec: a
 * signal handler reads it, and the other models may allocate at first use.
 */
extern _Thread_local struct lkl_kernel *thread_inside
    __attribute__((tls_model("initial-exec")));

/*
 * Brackets every call into an image; and, with NULL, every call of a
 * program's callback out of it.  Returns what to give thread_leave().
 */
static inline struct lkl_kernel *thread_enter(struct lkl_kernel *kernel)
{
	struct lkl_kernel *before = thread_inside;

	thread_inside = kernel;
	atomic_signal_fence(memory_order_seq_cst);
	return before;
}

static inline void thread_leave(struct lkl_kernel *before)
{
	atomic_signal_fence(memory_order_seq_cst);
	thread_inside = before;
}

/* One task of one host thread; see thread.c. */
struct attachment {
	struct lkl_kernel *_Atomic kernel; /* NULL once that has been freed */
	void *task;
	struct attachment *next;	   /* of the same thread */
	struct attachment *before, *after; /* of the same kernel */
};

void *thread_task(struct lkl_kernel *kernel);
/* False when there is no memory for it. */
bool thread_set_task(struct lkl_kernel *kernel, void *task);

/* Ends the calling thread's task in one kernel, in all. */
void thread_exit_kernel(struct lkl_kernel *kernel);
void thread_exit(void);

/* The kernel is about to be freed: no thread may find its task any more. */
void thread_forget_kernel(struct lkl_kernel *kernel);

#endif
