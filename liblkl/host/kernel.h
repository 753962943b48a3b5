/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One kernel: its image, memory, threads and disks.  Internal to this room.
 */
#ifndef LKL_KERNEL_H
#define LKL_KERNEL_H

#include "lkl.h"
#include "../shared/lkl_image.h"

#include "host.h"
#include "image.h"
#include "log.h"
#include "semaphore.h"
#include "thread.h"
#include "timer.h"

struct disk;
struct kernel_semaphore;

struct lkl_kernel {
	struct image image;
	struct lkl_host_operations operations;
	struct host_ram ram;
	char *command_line; /* or NULL */
	struct log log;
	struct timer timer;

	_Atomic int state; /* LKL_STATE_* */
	_Atomic bool started;
	uint64_t boot_time;
	struct semaphore *booted;
	int boot_error;

	/* Threads made by this kernel that may still run code of its image. */
	_Atomic uint32_t threads;
	struct attachment *attachments; /* under the lock of thread.c */

	/* All that the image has asked for and not given back. */
	struct semaphore resources_lock;
	struct kernel_semaphore *semaphores;
	void *aliases; /* a tree of tsearch(3) */

	/* A stack to leave the image on when a thread's own is used up. */
	unsigned char *fault_stack;

	/* By number; NULL where removed.  Numbers are not used again. */
	struct semaphore disks_lock;
	struct disk **disks;
	size_t disk_count;

	_Atomic uint64_t mount_count; /* names the next mount point */
};

#define FAULT_STACK_SIZE (64u << 10)

/*
 * System calls that the library makes for itself and that lkl.h has no
 * function for; numbers of include/uapi/asm-generic/unistd.h.
 */
#define NR_reboot 142
#define NR_munmap 215
#define NR_mmap 222

/* lkl_syscall() with the arguments in place; those not given are 0. */
#define kernel_syscall(kernel, number, ...)                                    \
	lkl_syscall(kernel, number, (const int64_t[6]){__VA_ARGS__})

static inline bool kernel_running(const struct lkl_kernel *kernel)
{
	return atomic_load_explicit(&kernel->state, memory_order_acquire) ==
	       LKL_STATE_RUNNING;
}

/* Adds a line of the library's own to the kernel's log. */
void kernel_note(struct lkl_kernel *kernel, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Runs fn(arg) on a new thread that counts as one of this kernel's. */
int kernel_thread_create(struct lkl_kernel *kernel, void (*fn)(void *),
			 void *arg);

/* Counts one thread less; the kernel may be freed from here on. */
void kernel_thread_done(struct lkl_kernel *kernel);

/* operations.c: fills kernel->operations; frees what the image left. */
void operations_init(struct lkl_kernel *kernel);
void operations_free_resources(struct lkl_kernel *kernel);

/* A semaphore that is upped when the kernel ends; NULL without memory. */
struct semaphore *kernel_semaphore_alloc(struct lkl_kernel *kernel);

/* Marks the kernel as ended (LKL_STATE_*) and lets every sleeper leave. */
void kernel_end(struct lkl_kernel *kernel, int state);

/*
 * Whether there is a disk of that number.  In the kernel it is the platform
 * device /sys/devices/platform/virtio-mmio.NUMBER.
 */
bool disk_exists(struct lkl_kernel *kernel, int number);
/*
 * disk_find() of the disk of that number; from any thread that is not inside
 * the kernel.  -ENODEV, -EINVAL beyond its end.
 */
int disks_find(struct lkl_kernel *kernel, int number, uint64_t offset,
	       uint64_t length, struct lkl_disk_extent *found);
/* Closes all disks; the kernel has ended. */
void disks_destroy(struct lkl_kernel *kernel);

#endif
