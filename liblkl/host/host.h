/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a host system gives: the only functions of this room that are written
 * once per operating system (posix.c, posix_fault.c).  They know nothing of
 * kernels or disks; everything else in this room is portable C over them.
 *
 * Sizes and offsets are in bytes, times in nanoseconds.  An int result is 0 or
 * a negative errno of Linux' own numbering.
 */
#ifndef LKL_HOST_H
#define LKL_HOST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOST_FOREVER UINT64_MAX
#define HOST_PAGE_SIZE 4096u

/* ---- Time -------------------------------------------------------------- */

uint64_t host_time_mono(void);
uint64_t host_time_real(void);

/* ---- Threads ----------------------------------------------------------- */

/*
 * Runs fn(arg) on a new detached thread that has HOST_STACK_SIZE bytes of
 * stack above a guard page, takes no asynchronous signal, and can handle the
 * overflow of its stack as a fault.
 */
#define HOST_STACK_SIZE (512u << 10)
int host_thread_create(void (*fn)(void *arg), void *arg);

/* Has thread_exit() of thread.c called when the calling thread ends. */
int host_thread_watch_exit(void);

/*
 * Sleeps while *word is expected, until host_wake_* or the deadline; may also
 * return early.  Waking touches no memory, so word may be gone by then.
 */
void host_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline);
void host_wake_one(_Atomic uint32_t *word);
void host_wake_all(_Atomic uint32_t *word);

/* ---- Memory of one's own ----------------------------------------------- */

void *host_aligned_alloc(size_t alignment, size_t size);
void host_aligned_free(void *memory);

/* ---- Memory that can be mapped more than once -------------------------- */

/* Zeroed memory, given its pages when first touched. */
struct host_ram {
	unsigned char *base;
	uint64_t size;
	intptr_t object; /* of the operating system, where it needs one */
};

int host_ram_create(struct host_ram *ram, uint64_t size, uint64_t alignment);
void host_ram_destroy(struct host_ram *ram);

/*
 * Maps count pages of ram, given by address, once more and one after another;
 * NULL when the host has no room for it.
 */
void *host_ram_alias(const struct host_ram *ram, const uint64_t *pages,
		     uint32_t count);
void host_ram_unalias(void *alias, uint32_t count);

/* ---- Executable images ------------------------------------------------- */

/* A file read by position; the end of the file gives a short count. */
int host_file_open(const char *path, intptr_t *file);
/* -ENOEXEC, -EISDIR: no plain file. */
int host_file_size(intptr_t file, uint64_t *size);
void host_file_close(intptr_t file);

/* Address space without access, at a page; NULL when there is none. */
void *host_reserve(size_t size);
void host_release(void *address, size_t size);

/*
 * Puts length bytes of a file at a page of reserved space, private, to be
 * executed or else to be written; offset is a multiple of the page size.
 */
int host_map_file(void *address, size_t length, intptr_t file, uint64_t offset,
		  bool execute);
/* Makes reserved pages writable memory of zeros. */
int host_map_zeros(void *address, size_t length);
/* Lets pages only be read from now on. */
int host_protect(void *address, size_t length);

/*
 * The host's own loader.  -EBUSY when this very file is loaded already, as
 * the loader would give the same copy again.
 */
int host_library_open(const char *path, void **library);
const void *host_library_base(void *library);
void *host_library_symbol(void *library, const char *name);
void host_library_close(void *library);

/* ---- Reading disks ----------------------------------------------------- */

struct host_segment {
	void *base;
	size_t length;
};

/*
 * Reads by position into count segments, of total bytes together.  Returns
 * the bytes read, fewer only at the end of the file, or a negative errno.
 */
int64_t host_read_at(intptr_t file, uint64_t offset,
		     const struct host_segment *segments, uint32_t count,
		     uint64_t total);

/* ---- Faults ------------------------------------------------------------ */

/*
 * Makes CPU faults of threads that are inside a kernel image (thread.h)
 * continue in that image's lkl_image_fault(); all others go where they went
 * before.  Done once for the process, however often it is called.
 */
int host_faults_catch(void);

#endif
