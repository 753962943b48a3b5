/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_PROCESSOR_H
#define _ASM_LKL_PROCESSOR_H

#include <linux/types.h>
#include <asm/jump.h>
#include <asm/ptrace.h>

struct task_struct;

/**
 * struct thread_struct - a task and its host thread
 * @sem: an up of this host semaphore hands the CPU to the task
 * @leave: where the host thread continues when it leaves the kernel for
 *	good, or when its task is descheduled on the way out of a system call
 * @prev: the task that ran before, for schedule_tail(); NULL when the CPU
 *	came without a context switch
 * @next_entrant: link in the list of host threads that want the CPU
 * @borrowed: @sem is still the attaching host thread's to free
 * @entering: the host thread waits in lkl_cpu_enter()
 * @leaving: the next context switch away from the task is its way out
 * @result: of the system call, kept over the way out
 * @fn: what a kernel thread runs
 * @arg: its argument
 */
struct thread_struct {
	void *sem;
	struct lkl_jump *leave;
	struct task_struct *prev;
	struct task_struct *next_entrant;
	bool borrowed;
	bool entering;
	bool leaving;
	s64 result;
	int (*fn)(void *arg);
	void *arg;
};

#define INIT_THREAD {}

#define TASK_SIZE		ULONG_MAX
#define TASK_UNMAPPED_BASE	0
#define STACK_TOP		TASK_SIZE
#define STACK_TOP_MAX		TASK_SIZE

/* Referred to by generic code, never filled: there is no user mode. */
extern struct pt_regs lkl_no_regs;
#define task_pt_regs(task)	(&lkl_no_regs)
#define KSTK_EIP(task)		(0UL)
#define KSTK_ESP(task)		(0UL)

static inline void start_thread(struct pt_regs *regs, unsigned long pc,
				unsigned long sp)
{
}

static inline unsigned long __get_wchan(struct task_struct *task)
{
	return 0;
}

static inline void flush_thread(void)
{
}

#define cpu_relax()	barrier()

#endif
