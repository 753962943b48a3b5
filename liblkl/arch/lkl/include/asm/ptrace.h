/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_PTRACE_H
#define _ASM_LKL_PTRACE_H

#include <linux/errno.h>
#include <uapi/asm/ptrace.h>

struct pt_regs {
	unsigned long unused;
};

#define user_mode(regs)			0
#define kernel_mode(regs)		1
#define profile_pc(regs)		0UL
#define instruction_pointer(regs)	0UL
#define user_stack_pointer(regs)	0UL

struct task_struct;

static inline long arch_ptrace(struct task_struct *child, long request,
			       unsigned long addr, unsigned long data)
{
	return -EINVAL;
}

static inline void ptrace_disable(struct task_struct *child)
{
}

#endif
