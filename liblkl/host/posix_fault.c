// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * CPU faults as signals.  One handler for the process: the fault of a thread
 * that is inside a kernel image ends that kernel, all others go on to whoever
 * handled them before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "kernel.h"

static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
#define SIGNALS (sizeof(signals) / sizeof(*signals))

static struct sigaction before[SIGNALS];

/* ---- The processor's part ---------------------------------------------- */

#if defined(__x86_64__)

#define DIRECTION_FLAG 0x400

static uint64_t instruction(const ucontext_t *context)
{
	return (uint64_t)context->uc_mcontext.gregs[REG_RIP];
}

static uint64_t stack_pointer(const ucontext_t *context)
{
	return (uint64_t)context->uc_mcontext.gregs[REG_RSP];
}

/* stack is 16-byte aligned, as before a call. */
static void call(ucontext_t *context, uint64_t function, uint64_t stack,
		 const uint64_t arguments[3])
{
	greg_t *registers = context->uc_mcontext.gregs;

	/* The call would have pushed where to return to: nowhere. */
	stack -= sizeof(uint64_t);
	*(uint64_t *)(uintptr_t)stack = 0;
	registers[REG_RIP] = (greg_t)function;
	registers[REG_RSP] = (greg_t)stack;
	registers[REG_RDI] = (greg_t)arguments[0];
	registers[REG_RSI] = (greg_t)arguments[1];
	registers[REG_RDX] = (greg_t)arguments[2];
	registers[REG_EFL] &= ~DIRECTION_FLAG;
}

#elif defined(__aarch64__)

static uint64_t instruction(const ucontext_t *context)
{
	return context->uc_mcontext.pc;
}

static uint64_t stack_pointer(const ucontext_t *context)
{
	return context->uc_mcontext.sp;
}

static void call(ucontext_t *context, uint64_t function, uint64_t stack,
		 const uint64_t arguments[3])
{
	context->uc_mcontext.pc = function;
	context->uc_mcontext.sp = stack;
	for (int i = 0; i < 3; i++)
		context->uc_mcontext.regs[i] = arguments[i];
	context->uc_mcontext.regs[30] = 0; /* where to return to: nowhere */
}

#else
#error "no way known to continue a thread elsewhere on this processor"
#endif

/* ---- The handler ------------------------------------------------------- */

/* Below what the interrupted function may use without saying so. */
#define RED_ZONE 128

/* A fault so near to the stack pointer is one of the stack. */
#define NEAR (64u << 10)

/*
 * The thread goes on on its own stack, unless that is used up (or the pointer
 * to it is wrong: SIGBUS).  As one thread at a time runs the kernel, one stack
 * for that is enough.
 */
static uint64_t choose_stack(struct lkl_kernel *kernel, int signal,
			     const siginfo_t *info, const ucontext_t *context)
{
	uint64_t stack = stack_pointer(context);

	if (signal == SIGBUS ||
	    (uintptr_t)info->si_addr - (stack - NEAR) < 2 * NEAR)
		stack = (uintptr_t)kernel->fault_stack + FAULT_STACK_SIZE;
	else
		stack -= RED_ZONE;
	return stack & ~UINT64_C(15);
}

static void leave_image(struct lkl_kernel *kernel, int signal,
			const siginfo_t *info, ucontext_t *context)
{
	uint64_t arguments[3] = {(uint64_t)signal, instruction(context),
				 (uintptr_t)info->si_addr};

	call(context, (uintptr_t)kernel->image.entries.lkl_image_fault,
	     choose_stack(kernel, signal, info, context), arguments);
}

static void restore_default(int signal, bool sent)
{
	struct sigaction action = {.sa_handler = SIG_DFL};

	sigaction(signal, &action, NULL);
	/* A fault happens again at the return, a sent signal does not. */
	if (sent)
		raise(signal);
}

static void pass_on(int signal, siginfo_t *info, void *context)
{
	const struct sigaction *previous = &before[0];
	bool sent = info->si_code <= 0;

	for (size_t i = 0; i < SIGNALS; i++)
		if (signals[i] == signal)
			previous = &before[i];
	if (previous->sa_flags & SA_SIGINFO)
		previous->sa_sigaction(signal, info, context);
	else if (previous->sa_handler == SIG_DFL ||
		 (previous->sa_handler == SIG_IGN && !sent))
		restore_default(signal, sent);
	else if (previous->sa_handler != SIG_IGN)
		previous->sa_handler(signal);
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	struct lkl_kernel *kernel = thread_inside;

	if (kernel && info->si_code > 0) {
		leave_image(kernel, signal, info, context);
		return;
	}
	/*
	 * Handlers that stand before ours (Python's faulthandler) hand a fault
	 * on by raise(); it is for real when they return.
	 */
	if (kernel && info->si_code == SI_TKILL && info->si_pid == getpid())
		return;
	pass_on(signal, info, context);
}

static int install(void)
{
	struct sigaction action = {
	    .sa_sigaction = on_fault,
	    .sa_flags = SA_SIGINFO | SA_ONSTACK,
	};

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < SIGNALS; i++) {
		if (sigaction(signals[i], NULL, &before[i]) < 0 ||
		    sigaction(signals[i], &action, NULL) < 0)
			return -errno;
	}
	return 0;
}

/*
 * Once only: a program that sets a handler later calls ours from it, as it
 * should, and with ours in place anew the two would call each other for ever.
 */
int host_faults_catch(void)
{
	static struct semaphore installing = {1};
	static bool installed;
	int error = 0;

	lock(&installing);
	if (!installed)
		error = install();
	installed = !error;
	unlock(&installing);
	return error;
}
