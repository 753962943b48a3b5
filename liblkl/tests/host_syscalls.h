/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lkl_syscall() by the host's own Linux: gives the bulk calls a kernel whose
 * answers can be compared with the host's, below the sanitizers and without an
 * image.  What it shows is that the bulk calls are right by any Linux; that
 * ours is right is shown by the tests that boot it.
 */
#ifndef HOST_SYSCALLS_H
#define HOST_SYSCALLS_H

#include "host.h"
#include "kernel.h"
#include "lkl.h"
#include "syscall_numbers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The host's number of a system call that is asm-generic's number here. */
static long host_number(int64_t number)
{
	switch (number) {
	case LKL_NR_openat:
		return SYS_openat;
	case LKL_NR_close:
		return SYS_close;
	case LKL_NR_pread64:
		return SYS_pread64;
	case LKL_NR_lseek:
		return SYS_lseek;
	case LKL_NR_getdents64:
		return SYS_getdents64;
	case LKL_NR_statx:
		return SYS_statx;
	case LKL_NR_readlinkat:
		return SYS_readlinkat;
	case LKL_NR_lgetxattr:
		return SYS_lgetxattr;
	case LKL_NR_fgetxattr:
		return SYS_fgetxattr;
	case LKL_NR_llistxattr:
		return SYS_llistxattr;
	case LKL_NR_flistxattr:
		return SYS_flistxattr;
	case LKL_NR_fadvise64:
		return SYS_fadvise64;
	default:
		return -1;
	}
}

int64_t lkl_syscall(struct lkl_kernel *kernel, int64_t number,
		    const int64_t arguments[6])
{
	long host = host_number(number);
	long result;

	(void)kernel;
	if (host < 0)
		return -ENOSYS;
	result = syscall(host, arguments[0], arguments[1], arguments[2],
			 arguments[3], arguments[4], arguments[5]);
	return result < 0 ? -errno : result;
}

void *lkl_mem_alloc(struct lkl_kernel *kernel, size_t size)
{
	(void)kernel;
	return aligned_alloc(4096, (size + 4095) & ~(size_t)4095);
}

void lkl_mem_free(struct lkl_kernel *kernel, void *memory, size_t size)
{
	(void)kernel;
	(void)size;
	free(memory);
}

/* In nanoseconds; the library's own stands beside what needs a kernel. */
uint64_t host_time_mono(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) +
	       (uint64_t)now.tv_nsec;
}

/* There are no disks. */
bool disk_exists(struct lkl_kernel *kernel, int number)
{
	(void)kernel;
	(void)number;
	return false;
}

int disks_find(struct lkl_kernel *kernel, int number, uint64_t offset,
	       uint64_t length, struct lkl_disk_extent *found)
{
	(void)kernel;
	(void)number;
	(void)offset;
	(void)length;
	(void)found;
	return -ENODEV;
}

#endif
