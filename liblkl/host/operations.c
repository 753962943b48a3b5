// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * struct lkl_host_operations: what the kernel image calls.  Everything it gets
 * is remembered, because a kernel that panics gives nothing back.
 */
#include <errno.h>
#include <search.h>
#include <stdlib.h>

#include "kernel.h"
#include "virtio_mmio.h"

/* ---- Log and end ------------------------------------------------------- */

static void LKL_ABI op_print(void *host, const char *text, uint32_t length)
{
	struct lkl_kernel *kernel = host;

	log_append(&kernel->log, text, length);
}

static void LKL_ABI op_ended(void *host, uint32_t reason)
{
	switch (reason) {
	case LKL_END_HALT:
		kernel_end(host, LKL_STATE_HALTED);
		break;
	case LKL_END_FAULT:
		kernel_end(host, LKL_STATE_FAULTED);
		break;
	default:
		kernel_end(host, LKL_STATE_PANICKED);
		break;
	}
}

/* ---- Semaphores -------------------------------------------------------- */

struct kernel_semaphore {
	struct semaphore semaphore; /* first: the image holds its address */
	struct kernel_semaphore *before, *after;
};

struct semaphore *kernel_semaphore_alloc(struct lkl_kernel *kernel)
{
	struct kernel_semaphore *semaphore = malloc(sizeof(*semaphore));

	if (!semaphore)
		return NULL;
	semaphore_init(&semaphore->semaphore, 0);
	semaphore->before = NULL;
	lock(&kernel->resources_lock);
	semaphore->after = kernel->semaphores;
	if (semaphore->after)
		semaphore->after->before = semaphore;
	kernel->semaphores = semaphore;
	unlock(&kernel->resources_lock);
	return &semaphore->semaphore;
}

void kernel_end(struct lkl_kernel *kernel, int state)
{
	int before = atomic_load(&kernel->state);

	/* The first reason stands. */
	do {
		if (before != LKL_STATE_LOADED && before != LKL_STATE_RUNNING)
			return;
	} while (!atomic_compare_exchange_weak(&kernel->state, &before, state));
	timer_stop(&kernel->timer);
	lock(&kernel->resources_lock);
	for (struct kernel_semaphore *s = kernel->semaphores; s; s = s->after)
		semaphore_up(&s->semaphore);
	unlock(&kernel->resources_lock);
}

static void *LKL_ABI op_sem_alloc(void *host)
{
	return kernel_semaphore_alloc(host);
}

static void LKL_ABI op_sem_free(void *host, void *sem)
{
	struct lkl_kernel *kernel = host;
	struct kernel_semaphore *semaphore = sem;

	lock(&kernel->resources_lock);
	if (semaphore->before)
		semaphore->before->after = semaphore->after;
	else
		kernel->semaphores = semaphore->after;
	if (semaphore->after)
		semaphore->after->before = semaphore->before;
	unlock(&kernel->resources_lock);
	free(semaphore);
}

static void LKL_ABI op_sem_up(void *host, void *sem)
{
	(void)host;
	semaphore_up(sem);
}

static void LKL_ABI op_sem_down(void *host, void *sem)
{
	(void)host;
	semaphore_down(sem);
}

/* ---- Threads ----------------------------------------------------------- */

struct image_thread {
	struct lkl_kernel *kernel;
	void(LKL_ABI *fn)(void *arg);
	void *arg;
};

static void run_image_thread(void *arg)
{
	struct image_thread thread = *(struct image_thread *)arg;
	struct lkl_kernel *before;

	free(arg);
	before = thread_enter(thread.kernel);
	thread.fn(thread.arg);
	thread_leave(before);
}

static int32_t LKL_ABI op_thread_create(void *host,
					void(LKL_ABI *fn)(void *arg), void *arg)
{
	struct image_thread *thread = malloc(sizeof(*thread));
	int error;

	if (!thread)
		return -ENOMEM;
	*thread = (struct image_thread){host, fn, arg};
	error = kernel_thread_create(host, run_image_thread, thread);
	if (error < 0)
		free(thread);
	return error;
}

static void *LKL_ABI op_tls_get(void *host)
{
	return thread_task(host);
}

static void LKL_ABI op_tls_set(void *host, void *value)
{
	/*
	 * The image cannot be told that there is no memory: it takes the
	 * thread for a new one at its next call.  Its task leaks until the
	 * kernel ends.
	 */
	if (!thread_set_task(host, value))
		kernel_note(host, "no memory to remember a thread's task");
}

/* ---- Time -------------------------------------------------------------- */

static uint64_t LKL_ABI op_time_mono(void *host)
{
	(void)host;
	return host_time_mono();
}

static uint64_t LKL_ABI op_time_real(void *host)
{
	(void)host;
	return host_time_real();
}

static void LKL_ABI op_timer_set(void *host, uint64_t deadline)
{
	struct lkl_kernel *kernel = host;

	timer_set(&kernel->timer, deadline);
}

/* ---- Devices ----------------------------------------------------------- */

static uint64_t LKL_ABI op_iomem_read(void *host, uint64_t address,
				      uint32_t size)
{
	(void)host;
	return virtio_mmio_read(address, size);
}

static void LKL_ABI op_iomem_write(void *host, uint64_t address, uint64_t value,
				   uint32_t size)
{
	(void)host;
	virtio_mmio_write(address, value, size);
}

/* ---- Aliases of pages -------------------------------------------------- */

struct alias {
	void *address;
	uint32_t count;
};

static int compare_aliases(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)((const struct alias *)a)->address;
	uintptr_t y = (uintptr_t)((const struct alias *)b)->address;

	return (x > y) - (x < y);
}

static void *LKL_ABI op_pages_map(void *host, const uint64_t *pages,
				  uint32_t count)
{
	struct lkl_kernel *kernel = host;
	struct alias *alias = malloc(sizeof(*alias));
	void *node;

	if (!alias)
		return NULL;
	alias->count = count;
	alias->address = host_ram_alias(&kernel->ram, pages, count);
	if (!alias->address) {
		free(alias);
		return NULL;
	}
	lock(&kernel->resources_lock);
	node = tsearch(alias, &kernel->aliases, compare_aliases);
	unlock(&kernel->resources_lock);
	if (!node) {
		host_ram_unalias(alias->address, count);
		free(alias);
		return NULL;
	}
	return alias->address;
}

static void free_alias(struct lkl_kernel *kernel, struct alias *alias)
{
	tdelete(alias, &kernel->aliases, compare_aliases);
	host_ram_unalias(alias->address, alias->count);
	free(alias);
}

static void LKL_ABI op_pages_unmap(void *host, void *address, uint32_t count)
{
	struct lkl_kernel *kernel = host;
	struct alias wanted = {address, count};
	struct alias **node;

	lock(&kernel->resources_lock);
	node = tfind(&wanted, &kernel->aliases, compare_aliases);
	if (node)
		free_alias(kernel, *node);
	unlock(&kernel->resources_lock);
	if (!node)
		kernel_note(kernel, "no alias of pages at %p", address);
}

/* ---- All together ------------------------------------------------------ */

void operations_init(struct lkl_kernel *kernel)
{
	kernel->operations = (struct lkl_host_operations){
	    .host = kernel,
	    .print = op_print,
	    .ended = op_ended,
	    .sem_alloc = op_sem_alloc,
	    .sem_free = op_sem_free,
	    .sem_up = op_sem_up,
	    .sem_down = op_sem_down,
	    .thread_create = op_thread_create,
	    .tls_get = op_tls_get,
	    .tls_set = op_tls_set,
	    .time_mono = op_time_mono,
	    .time_real = op_time_real,
	    .timer_set = op_timer_set,
	    .iomem_read = op_iomem_read,
	    .iomem_write = op_iomem_write,
	    .pages_map = op_pages_map,
	    .pages_unmap = op_pages_unmap,
	};
}

void operations_free_resources(struct lkl_kernel *kernel)
{
	while (kernel->semaphores) {
		struct kernel_semaphore *semaphore = kernel->semaphores;

		kernel->semaphores = semaphore->after;
		free(semaphore);
	}
	while (kernel->aliases)
		free_alias(kernel, *(struct alias **)kernel->aliases);
}
