/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_SYSCALL_H
#define _ASM_LKL_SYSCALL_H

#include <uapi/linux/audit.h>

struct task_struct;

/* No number of a CPU: the system calls are those of asm-generic. */
static inline int syscall_get_arch(struct task_struct *task)
{
	return EM_NONE | __AUDIT_ARCH_64BIT | __AUDIT_ARCH_LE;
}

typedef s64 (*lkl_syscall_t)(s64, s64, s64, s64, s64, s64);

s64 lkl_syscall(u64 nr, const s64 *args);

s64 sys_lkl_add_virtio_mmio(u64 base, u64 size, u64 irq, u64 id);
s64 sys_lkl_remove_virtio_mmio(u64 id);

#endif
