// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a confined process can do all the same, and what of the processor's
 * other ways into the kernel; tests/engine/test_sandbox.py tries all that it
 * cannot.
 */
#include "native.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int image = -1;

static void *set_flag(void *flag)
{
	*(int *)flag = 1;
	return NULL;
}

static bool thread_runs(void)
{
	pthread_t thread;
	int flag = 0;

	return !pthread_create(&thread, NULL, set_flag, &flag) &&
	       !pthread_join(thread, NULL) && flag;
}

static bool file_is_known(void)
{
	struct stat status;

	return !fstat(image, &status) && S_ISREG(status.st_mode) &&
	       fstat(-1, &status) < 0 && errno == EBADF;
}

static bool name_is_not_known(void)
{
	struct stat status;

	return stat("/", &status) < 0 && errno == EACCES &&
	       fstatat(image, "/", &status, AT_EMPTY_PATH) < 0 &&
	       errno == EACCES;
}

static bool image_is_executed(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, image, 0) !=
	       MAP_FAILED;
}

static bool shared_memory_is_mapped_twice(void)
{
	int *one = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int *two = mremap(one, 0, 4096, MREMAP_MAYMOVE);

	if (one == MAP_FAILED || two == MAP_FAILED)
		return false;
	*one = 5;
	return *two == 5;
}

static bool memory_loses_a_right(void)
{
	unsigned char *page =
	    mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int regions = lkn_confine_memory();
	int ends[2];

	/* The kernel tells whether it may write there. */
	return page != MAP_FAILED && regions >= 1 && !pipe(ends) &&
	       write(ends[1], "x", 1) == 1 && read(ends[0], page, 1) < 0 &&
	       errno == EFAULT;
}

/* Runs something confined; its wait status. */
static int status_of(bool (*act)(void))
{
	pid_t child = fork();
	int status = -1;

	if (!child) {
		if (lkn_die_with_parent(getppid()) < 0 ||
		    lkn_confine_rights() < 0)
			_exit(2);
		lkn_confine_files();
		if (lkn_confine_calls(image) < 0)
			_exit(3);
		_exit(!act());
	}
	waitpid(child, &status, 0);
	return status;
}

static int unconfined(bool (*act)(void))
{
	pid_t child = fork();
	int status = -1;

	if (!child)
		_exit(!act());
	waitpid(child, &status, 0);
	return status;
}

static bool aborts(void)
{
	abort();
}

#ifdef __x86_64__
static bool enters_as_32_bits(void)
{
	long result;

	/* getpid() of 32 bits; 20 is writev() of 64. */
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
	return result > 0;
}

static bool enters_as_x32(void)
{
	return syscall(0x40000000 | SYS_getpid) > 0;
}
#endif

static bool is_a_child_of_init(void)
{
	return lkn_die_with_parent(getppid() + 1) == -ESRCH;
}

static bool killed_by(int status, int signal)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == signal;
}

int main(void)
{
	image = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	need(image >= 0, "a file");
	is(status_of(thread_runs), 0, "threads run");
	is(status_of(file_is_known), 0, "what is open can be looked at");
	is(status_of(name_is_not_known), 0, "what is not cannot");
	is(status_of(image_is_executed), 0, "the image is executed");
	is(status_of(shared_memory_is_mapped_twice), 0,
	   "shared memory is mapped twice");
	is(unconfined(memory_loses_a_right), 0,
	   "no memory is written and executed");
	is(unconfined(is_a_child_of_init), 0, "a parent that is gone is told");
	ok(killed_by(status_of(aborts), SIGABRT), "it can end itself");
#ifdef __x86_64__
	ok(killed_by(status_of(enters_as_32_bits), SIGSYS),
	   "system calls of 32 bits are its end");
	ok(killed_by(status_of(enters_as_x32), SIGSYS),
	   "and so are those of x32");
#endif
	return tap_end();
}
