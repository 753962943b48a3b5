// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#include "thread.h"

#include <stdlib.h>

#include "kernel.h"

_Thread_local struct lkl_kernel *thread_inside
    __attribute__((tls_model("initial-exec")));

/* The calling thread's tasks, the one last used first. */
static _Thread_local struct attachment *tasks
    __attribute__((tls_model("initial-exec")));

/*
 * Orders threads that end against kernels that are freed.  Held while the
 * lists of kernels change, and to tell thread_forget_kernel() about threads
 * that are just ending their task.
 */
static struct semaphore attachments_lock = {1};

void *thread_task(struct lkl_kernel *kernel)
{
	for (struct attachment *a = tasks; a; a = a->next)
		if (atomic_load_explicit(&a->kernel, memory_order_relaxed) ==
		    kernel)
			return a->task;
	return NULL;
}

static void unlink_attachment(struct lkl_kernel *kernel, struct attachment *a)
{
	if (a->before)
		a->before->after = a->after;
	else
		kernel->attachments = a->after;
	if (a->after)
		a->after->before = a->before;
}

/* Frees what kernels that are gone have left in this thread's list. */
static void prune_tasks(void)
{
	struct attachment **link = &tasks;

	while (*link) {
		struct attachment *a = *link;

		if (atomic_load(&a->kernel)) {
			link = &a->next;
			continue;
		}
		*link = a->next;
		free(a);
	}
}

static void detach(struct lkl_kernel *kernel)
{
	lock(&attachments_lock);
	for (struct attachment *a = tasks; a; a = a->next)
		if (atomic_load(&a->kernel) == kernel) {
			unlink_attachment(kernel, a);
			atomic_store(&a->kernel, NULL);
		}
	unlock(&attachments_lock);
	prune_tasks();
}

bool thread_set_task(struct lkl_kernel *kernel, void *task)
{
	struct attachment *a;

	if (!task) {
		detach(kernel);
		return true;
	}
	for (a = tasks; a; a = a->next)
		if (atomic_load(&a->kernel) == kernel) {
			a->task = task;
			return true;
		}
	prune_tasks();
	if (host_thread_watch_exit() < 0)
		return false;
	a = malloc(sizeof(*a));
	if (!a)
		return false;
	atomic_init(&a->kernel, kernel);
	a->task = task;
	a->next = tasks;
	a->before = NULL;
	tasks = a;
	lock(&attachments_lock);
	a->after = kernel->attachments;
	if (a->after)
		a->after->before = a;
	kernel->attachments = a;
	unlock(&attachments_lock);
	return true;
}

/*
 * The image ends the task and asks for the pointer meanwhile, so it stays in
 * place until the call is over.  The count keeps the kernel from being freed.
 */
static void end_task(struct attachment *a)
{
	struct lkl_kernel *kernel, *before;

	lock(&attachments_lock);
	kernel = atomic_load(&a->kernel);
	if (kernel)
		atomic_fetch_add(&kernel->threads, 1);
	unlock(&attachments_lock);
	if (!kernel)
		return;
	if (kernel_running(kernel)) {
		before = thread_enter(kernel);
		kernel->image.entries.lkl_image_thread_exit();
		thread_leave(before);
	}
	detach(kernel);
	kernel_thread_done(kernel);
}

void thread_exit_kernel(struct lkl_kernel *kernel)
{
	for (struct attachment *a = tasks; a; a = a->next)
		if (atomic_load(&a->kernel) == kernel) {
			end_task(a);
			return;
		}
}

void thread_exit(void)
{
	prune_tasks();
	while (tasks) {
		end_task(tasks);
		prune_tasks();
	}
}

void thread_forget_kernel(struct lkl_kernel *kernel)
{
	struct attachment *after;

	lock(&attachments_lock);
	for (struct attachment *a = kernel->attachments; a; a = after) {
		after = a->after;
		/* From here on its thread may free it. */
		atomic_store(&a->kernel, NULL);
	}
	kernel->attachments = NULL;
	unlock(&attachments_lock);
}
