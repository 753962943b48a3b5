// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Kernels that end out of order, by a panic or a fault of the CPU: the process
 * goes on, the log can be read, and a new kernel boots.
 */
#include <pthread.h>

#include "machine.h"
#include "../shared/lkl_image.h"

static bool log_has(struct lkl_kernel *kernel, const char *words)
{
	static char text[1 << 18];
	uint64_t position = 0;
	size_t got = lkl_log_read(kernel, &position, text, sizeof(text) - 1);

	text[got] = '\0';
	return strstr(text, words);
}

/* Threads that are in the kernel, asleep or at work, when it ends. */
#define THREADS 6

struct caller {
	struct lkl_kernel *kernel;
	int64_t pipe; /* to sleep on, or -1: to work */
	int64_t last;
	pthread_t thread;
};

static void *call(void *arg)
{
	struct caller *caller = arg;
	char byte;

	do {
		if (caller->pipe >= 0)
			caller->last = lkl_sys_read(
			    caller->kernel, (int)caller->pipe, &byte, 1);
		else
			caller->last = lkl_sys_mkdirat(
			    caller->kernel, LKL_AT_FDCWD, "/dev", 0755);
	} while (caller->last != -EIO && caller->last != 0);
	return NULL;
}

#define NR_pipe2 59

static void begin(struct caller *callers, struct lkl_kernel *kernel)
{
	int32_t ends[2];
	const int64_t args[6] = {(intptr_t)ends};

	need(lkl_syscall(kernel, NR_pipe2, args) == 0, "a pipe");
	for (int i = 0; i < THREADS; i++) {
		callers[i] = (struct caller){
		    .kernel = kernel,
		    .pipe = i % 2 ? ends[0] : -1,
		};
		need(!pthread_create(&callers[i].thread, NULL, call,
				     &callers[i]),
		     "a thread");
	}
	usleep(20000);
}

static void end(struct caller *callers, struct lkl_kernel *kernel, int state,
		const char *words)
{
	for (int i = 0; i < THREADS; i++) {
		pthread_join(callers[i].thread, NULL);
		is(callers[i].last, -EIO, "the call of a thread %s it",
		   callers[i].pipe < 0 ? "at work in" : "asleep in");
	}
	is(lkl_state(kernel), state, "the state tells");
	is(lkl_sys_getpid(kernel), -EIO, "calls end with -EIO");
	is(lkl_halt(kernel), -EIO, "halt too");
	ok(log_has(kernel, words), "the log says \"%s\"", words);
	lkl_destroy(kernel);
	ok(true, "destroyed");
}

static void test_panic(char **argv)
{
	struct caller callers[THREADS];
	struct lkl_kernel *kernel = boot(argv, 0);
	int64_t fd = lkl_sys_openat(kernel, LKL_AT_FDCWD, "/proc/sysrq-trigger",
				    LKL_O_WRONLY, 0);

	need(fd >= 0, "a way to make it panic");
	begin(callers, kernel);
	is(lkl_sys_write(kernel, (int)fd, "c", 1), -EIO, "it panics");
	end(callers, kernel, LKL_STATE_PANICKED, "Kernel panic");
}

/* The driver reads the registers of a device that is not there. */
static void test_fault(char **argv)
{
	struct caller callers[THREADS];
	struct lkl_kernel *kernel = boot(argv, 0);
	const int64_t args[6] = {0x10000, 0x1000, 20, 999};

	begin(callers, kernel);
	is(lkl_syscall(kernel, LKL_NR_add_virtio_mmio, args), -EIO,
	   "the CPU faults");
	end(callers, kernel, LKL_STATE_FAULTED, "fault 11");
}

static void test_bad_pointers(char **argv)
{
	struct lkl_kernel *kernel = boot(argv, 0);
	int64_t fd = lkl_sys_openat(kernel, LKL_AT_FDCWD, "/file",
				    LKL_O_RDWR | LKL_O_CREAT, 0644);
	bool good = true;

	need(fd >= 0, "a file");
	for (int i = 0; i < 100; i++) {
		good = good && lkl_sys_write(kernel, (int)fd, (void *)64, 10) ==
				   -EFAULT;
		good = good && lkl_sys_mkdirat(kernel, LKL_AT_FDCWD,
					       (void *)-4096, 0) == -EFAULT;
	}
	ok(good, "a program's bad pointers are -EFAULT, again and again");
	is(lkl_state(kernel), LKL_STATE_RUNNING, "and the kernel lives");
	is(lkl_halt(kernel), 0, "halts");
	lkl_destroy(kernel);
}

static void test_out_of_memory(char **argv)
{
	struct lkl_kernel *kernel = boot(argv, 32 << 20);
	static char block[1 << 20];
	int64_t fd = lkl_sys_openat(kernel, LKL_AT_FDCWD, "/large",
				    LKL_O_RDWR | LKL_O_CREAT, 0644);
	int64_t put = 1;

	memset(block, 1, sizeof(block));
	for (int i = 0; i < 100 && put > 0; i++)
		put = lkl_sys_write(kernel, (int)fd, block, sizeof(block));
	ok(put == -EIO || put == -ENOSPC || put == -ENOMEM,
	   "a file larger than its memory: %s", lkl_errno_name((int)put));
	lkl_destroy(kernel);
	ok(true, "destroyed");
}

static void test_boot_panic(char **argv)
{
	const struct lkl_options options = {
	    .image = argv[1],
	    .command_line = "rdinit=/none root=/dev/none",
	};
	struct lkl_kernel *kernel;

	need(lkl_init(&kernel, &options) == 0, "a kernel without its init");
	ok(lkl_start_kernel(kernel) < 0, "does not boot");
	ok(lkl_state(kernel) != LKL_STATE_RUNNING, "does not run");
	ok(log_has(kernel, "anic"), "the log says why");
	lkl_destroy(kernel);
}

int main(int argc, char **argv)
{
	struct lkl_kernel *kernel;

	(void)argc;
	need(argv[1], "the path of a kernel image as argument");
	for (int i = 0; i < 3; i++) {
		test_panic(argv);
		test_fault(argv);
	}
	test_bad_pointers(argv);
	test_out_of_memory(argv);
	test_boot_panic(argv);
	kernel = boot(argv, 0);
	ok(lkl_sys_getpid(kernel) > 0, "after all that, one more boots");
	lkl_destroy(kernel);
	return tap_end();
}
