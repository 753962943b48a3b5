// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * CPU faults: those inside an image come back as the image says, all others
 * reach whoever handled them before.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel.h"
#include "tap.h"
#include "tiny_image.h"

static struct lkl_kernel kernel;

/* As lkl_syscall() does it, which would ask for a kernel that has booted. */
static int64_t ask(int64_t nr, void *argument)
{
	const int64_t args[6] = {(intptr_t)argument};
	struct lkl_kernel *before = thread_enter(&kernel);
	int64_t result = kernel.image.entries.lkl_image_syscall(nr, args);

	thread_leave(before);
	return result;
}

static void expect_fault(int64_t nr, void *argument, int kind, void *address,
			 const char *name)
{
	is(ask(nr, argument), TINY_FAULTED, "%s: the call comes back", name);
	is(ask(TINY_FAULT_KIND, NULL), kind, "%s: kind", name);
	if (address)
		is(ask(TINY_FAULT_ADDRESS, NULL), (intptr_t)address,
		   "%s: address", name);
}

static void overflow(void *done)
{
	ask(TINY_OVERFLOW, NULL);
	semaphore_up(done);
}

/* ---- Handlers of the program, before ours ------------------------------ */

static _Atomic int earlier_calls;
static sigjmp_buf earlier_return;

static void earlier(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	(void)context;
	earlier_calls++;
	siglongjmp(earlier_return, 1);
}

/* As Python's faulthandler: steps aside, and raises again. */
static struct sigaction saved;
static _Atomic int later_calls;

static void later(int signal)
{
	later_calls++;
	sigaction(signal, &saved, NULL);
	raise(signal);
}

/* How a child ends that does fn(): the signal, or -1. */
static int killed_by(void (*fn)(void))
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		fn();
		_exit(0);
	}
	waitpid(child, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -1;
}

static void *nowhere;

/* The handler that ours replaces is set first; hence a process for each. */
static void fault_outside(void)
{
	signal(SIGSEGV, SIG_DFL);
	host_faults_catch();
	*(volatile int *)nowhere = 1;
}

static void fault_ignored(void)
{
	signal(SIGSEGV, SIG_IGN);
	host_faults_catch();
	*(volatile int *)nowhere = 1;
}

static void kill_from_outside(void)
{
	signal(SIGSEGV, SIG_DFL);
	host_faults_catch();
	kill(getpid(), SIGSEGV);
	pause();
}

static void raise_on_both_sides(void)
{
	signal(SIGSEGV, SIG_DFL);
	host_faults_catch();
	sigaction(SIGSEGV, NULL, &saved);
	signal(SIGSEGV, later);
	host_faults_catch();
	*(volatile int *)nowhere = 1;
}

int main(void)
{
	struct sigaction action = {.sa_sigaction = earlier,
				   .sa_flags = SA_SIGINFO};
	struct semaphore done;
	void *page =
	    mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need(page != MAP_FAILED, "a page that cannot be written");
	nowhere = page;
	kernel.fault_stack = malloc(FAULT_STACK_SIZE);
	need(kernel.fault_stack, "a stack for faults");
	need(image_load(&kernel.image, TINY_IMAGE, IMAGE_BY_PATH) == 0,
	     "the image");

	is(killed_by(fault_outside), SIGSEGV, "without one, the process dies");
	is(killed_by(fault_ignored), SIGSEGV, "also where it was ignored");
	is(killed_by(kill_from_outside), SIGSEGV, "a sent signal kills too");
	is(killed_by(raise_on_both_sides), SIGSEGV,
	   "and when a later handler hands on to ours");

	sigaction(SIGSEGV, &action, NULL);
	is(host_faults_catch(), 0, "the handler is installed");
	is(host_faults_catch(), 0, "and again, which changes nothing");

	expect_fault(TINY_WRITE, page, SIGSEGV, page,
		     "write to a read-only page");
	expect_fault(TINY_WRITE, (void *)8, SIGSEGV, (void *)8, "near NULL");
	expect_fault(TINY_JUMP, page, SIGSEGV, page, "jump to data");
	is(ask(TINY_FAULT_IP, NULL), (intptr_t)page, "instruction pointer");
	expect_fault(TINY_ILLEGAL, NULL, SIGILL, NULL, "illegal instruction");

	semaphore_init(&done, 0);
	for (int i = 0; i < 2; i++) {
		ask(TINY_ILLEGAL, NULL);
		need(host_thread_create(overflow, &done) == 0, "a thread");
		semaphore_down(&done);
		is(ask(TINY_FAULT_KIND, NULL), SIGSEGV, "its stack used up");
	}

	for (int i = 0; i < 2; i++)
		if (!sigsetjmp(earlier_return, 1))
			*(volatile int *)page = 1;
	is(earlier_calls, 2, "faults outside go to the earlier handler");

	sigaction(SIGSEGV, NULL, &saved);
	signal(SIGSEGV, later);
	expect_fault(TINY_WRITE, page, SIGSEGV, page,
		     "below a handler that raises again");
	is(later_calls, 1, "which was asked once");

	image_free(&kernel.image);
	free(kernel.fault_stack);
	munmap(page, 4096);
	return tap_end();
}
