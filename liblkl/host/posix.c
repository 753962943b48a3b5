// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/* host.h on POSIX, with the few calls of Linux that have no standard form. */
#define _GNU_SOURCE
#include "host.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "thread.h"

#define SECOND UINT64_C(1000000000)

/* ---- Time -------------------------------------------------------------- */

static uint64_t read_clock(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

uint64_t host_time_mono(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t host_time_real(void)
{
	return read_clock(CLOCK_REALTIME);
}

/* ---- Threads ----------------------------------------------------------- */

#define ALTERNATE_STACK_SIZE (16u << 10)

struct start {
	void (*fn)(void *arg);
	void *arg;
};

static void *run(void *arg)
{
	struct start start = *(struct start *)arg;
	/*
	 * At the far end of this thread's own stack, so that it is there
	 * exactly as long as the thread, and intact when the near end is used
	 * up.
	 */
	unsigned char alternate[ALTERNATE_STACK_SIZE];
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
	stack_t before;

	free(arg);
	sigaltstack(&stack, &before);
	start.fn(start.arg);
	sigaltstack(&before, NULL);
	return NULL;
}

/* A program's signal handlers are not written for our small stacks. */
static void block_signals(sigset_t *before)
{
	sigset_t set;

	sigfillset(&set);
	sigdelset(&set, SIGSEGV);
	sigdelset(&set, SIGBUS);
	sigdelset(&set, SIGILL);
	sigdelset(&set, SIGFPE);
	/* A filter of system calls may answer by it, and kills else. */
	sigdelset(&set, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &set, before);
}

int host_thread_create(void (*fn)(void *arg), void *arg)
{
	struct start *start = malloc(sizeof(*start));
	pthread_attr_t attributes;
	pthread_t thread;
	sigset_t before;
	int error;

	if (!start)
		return -ENOMEM;
	*start = (struct start){fn, arg};
	error = pthread_attr_init(&attributes);
	if (error) {
		free(start);
		return -error;
	}
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes,
				  HOST_STACK_SIZE + ALTERNATE_STACK_SIZE);
	/* The new thread inherits the mask. */
	block_signals(&before);
	error = pthread_create(&thread, &attributes, run, start);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (error)
		free(start);
	return -error;
}

static pthread_key_t exit_key;
static int exit_key_error;

static void on_thread_exit(void *value)
{
	(void)value;
	thread_exit();
}

static void create_exit_key(void)
{
	exit_key_error = pthread_key_create(&exit_key, on_thread_exit);
}

int host_thread_watch_exit(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, create_exit_key);
	if (exit_key_error)
		return -exit_key_error;
	/* Any value but NULL has the destructor called. */
	return -pthread_setspecific(exit_key, &exit_key);
}

void host_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline)
{
	struct timespec until = {
	    .tv_sec = (time_t)(deadline / SECOND),
	    .tv_nsec = (long)(deadline % SECOND),
	};

	/* The one form of waiting that takes an absolute, monotonic time. */
	syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected,
		deadline == HOST_FOREVER ? NULL : &until, NULL,
		FUTEX_BITSET_MATCH_ANY);
}

void host_wake_one(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void host_wake_all(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/* ---- Memory of one's own ----------------------------------------------- */

void *host_aligned_alloc(size_t alignment, size_t size)
{
	return aligned_alloc(alignment, size);
}

void host_aligned_free(void *memory)
{
	free(memory);
}

/* ---- Memory that can be mapped more than once -------------------------- */

/* Address space that starts at a multiple of alignment. */
static unsigned char *reserve_aligned(uint64_t size, uint64_t alignment)
{
	unsigned char *space = host_reserve(size + alignment);
	uint64_t skip;

	if (!space)
		return NULL;
	skip = (alignment - (uintptr_t)space % alignment) % alignment;
	if (skip)
		munmap(space, skip);
	munmap(space + skip + size, alignment - skip);
	return space + skip;
}

int host_ram_create(struct host_ram *ram, uint64_t size, uint64_t alignment)
{
	unsigned char *base = reserve_aligned(size, alignment);
	int error;

	if (!base)
		return -ENOMEM;
	if (mmap(base, size, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
		error = -errno;
		munmap(base, size);
		return error;
	}
	/* A forked child would share it, and has no thread to use it with. */
	madvise(base, size, MADV_DONTFORK);
	*ram = (struct host_ram){base, size, -1};
	return 0;
}

void host_ram_destroy(struct host_ram *ram)
{
	if (!ram->base)
		return;
	munmap(ram->base, ram->size);
	*ram = (struct host_ram){0};
}

/* How many pages from the first on lie one after another in memory. */
static uint32_t run_length(const uint64_t *pages, uint32_t count)
{
	uint32_t length = 1;

	while (length < count &&
	       pages[length] == pages[length - 1] + HOST_PAGE_SIZE)
		length++;
	return length;
}

void *host_ram_alias(const struct host_ram *ram, const uint64_t *pages,
		     uint32_t count)
{
	size_t size = (size_t)count * HOST_PAGE_SIZE;
	unsigned char *alias = count ? host_reserve(size) : NULL;
	uint32_t done = 0;

	if (!alias)
		return NULL;
	/* A run needs one call, and one of the process's few mappings. */
	while (done < count) {
		uint32_t run = run_length(pages + done, count - done);
		uint64_t length = (uint64_t)run * HOST_PAGE_SIZE;
		uint64_t offset = pages[done] - (uintptr_t)ram->base;

		if (offset % HOST_PAGE_SIZE || length > ram->size ||
		    offset > ram->size - length ||
		    /* From a length of 0, shared memory is mapped once more. */
		    mremap(ram->base + offset, 0, length,
			   MREMAP_MAYMOVE | MREMAP_FIXED,
			   alias + (size_t)done * HOST_PAGE_SIZE) ==
			MAP_FAILED) {
			munmap(alias, size);
			return NULL;
		}
		done += run;
	}
	madvise(alias, size, MADV_DONTFORK);
	return alias;
}

void host_ram_unalias(void *alias, uint32_t count)
{
	munmap(alias, (size_t)count * HOST_PAGE_SIZE);
}

/* ---- Executable images ------------------------------------------------- */

int host_file_open(const char *path, intptr_t *file)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*file = fd;
	return 0;
}

int host_file_size(intptr_t file, uint64_t *size)
{
	struct stat stat;

	if (fstat((int)file, &stat) < 0)
		return -errno;
	if (!S_ISREG(stat.st_mode))
		return S_ISDIR(stat.st_mode) ? -EISDIR : -ENOEXEC;
	*size = (uint64_t)stat.st_size;
	return 0;
}

void host_file_close(intptr_t file)
{
	close((int)file);
}

void *host_reserve(size_t size)
{
	void *address =
	    mmap(NULL, size, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return address == MAP_FAILED ? NULL : address;
}

void host_release(void *address, size_t size)
{
	munmap(address, size);
}

int host_map_file(void *address, size_t length, intptr_t file, uint64_t offset,
		  bool execute)
{
	if (mmap(address, length,
		 PROT_READ | (execute ? PROT_EXEC : PROT_WRITE),
		 MAP_PRIVATE | MAP_FIXED, (int)file,
		 (off_t)offset) == MAP_FAILED)
		return -errno;
	return 0;
}

int host_map_zeros(void *address, size_t length)
{
	if (mprotect(address, length, PROT_READ | PROT_WRITE) < 0)
		return -errno;
	return 0;
}

int host_protect(void *address, size_t length)
{
	if (mprotect(address, length, PROT_READ) < 0)
		return -errno;
	return 0;
}

int host_library_open(const char *path, void **library)
{
	static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
	/* Without a directory in it, a name would be searched for. */
	char *file = realpath(path, NULL);
	void *present;
	int error = 0;

	if (!file)
		return -errno;
	pthread_mutex_lock(&one_at_a_time);
	present = dlopen(file, RTLD_LAZY | RTLD_NOLOAD);
	if (present) {
		dlclose(present);
		error = -EBUSY;
	} else {
		*library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
		if (!*library)
			error = -ENOEXEC;
	}
	pthread_mutex_unlock(&one_at_a_time);
	free(file);
	return error;
}

void *host_library_symbol(void *library, const char *name)
{
	return dlsym(library, name);
}

const void *host_library_base(void *library)
{
	struct link_map *map;

	if (dlinfo(library, RTLD_DI_LINKMAP, &map) < 0)
		return NULL;
	return (const void *)map->l_addr;
}

void host_library_close(void *library)
{
	dlclose(library);
}

/* ---- Reading disks ----------------------------------------------------- */

#define VECTORS 256u

int64_t host_read_at(intptr_t file, uint64_t offset,
		     const struct host_segment *segments, uint32_t count,
		     uint64_t total)
{
	struct iovec vectors[VECTORS];
	uint64_t done = 0;
	uint32_t first = 0;
	size_t skip = 0;

	while (done < total) {
		uint32_t used = 0;
		ssize_t got;

		while (used < VECTORS && first + used < count) {
			const struct host_segment *s = &segments[first + used];

			vectors[used++] = (struct iovec){s->base, s->length};
		}
		vectors[0].iov_base = (char *)vectors[0].iov_base + skip;
		vectors[0].iov_len -= skip;
		got = preadv((int)file, vectors, (int)used,
			     (off_t)(offset + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		done += (uint64_t)got;
		skip += (size_t)got;
		while (first < count && skip >= segments[first].length)
			skip -= segments[first++].length;
	}
	return (int64_t)done;
}
