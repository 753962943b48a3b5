/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The content of the kernel's files on its way to the host: what lkl_copy_file
 * and lkl_pack have in common.  Internal to this room.
 */
#ifndef LKL_HOST_COPY_H
#define LKL_HOST_COPY_H

#include "lkl.h"

#include <stdbool.h>

/* Where bytes stay between the kernel's read and the host's write. */
struct copy_memory {
	unsigned char *base;
	size_t size;
	bool of_kernel; /* from lkl_mem_alloc: fit for direct I/O */
};

int copy_memory_alloc(struct lkl_kernel *kernel, uint64_t length,
		      struct copy_memory *memory);
void copy_memory_free(struct lkl_kernel *kernel, struct copy_memory *memory);

/* The largest logical block, which direct I/O must be aligned to. */
#define DIRECT_ALIGNMENT 4096u
/* Zeros of this size become a hole in the copy of a file with holes. */
#define HOLE_LEAST 4096u

/* The content of an open file, read from its begin on. */
struct content {
	struct lkl_kernel *kernel;
	int fd;
	int direct;	   /* the same file for direct I/O, or -1 */
	uint64_t size;	   /* INT64_MAX: not known */
	bool holes;	   /* it has some */
	uint64_t data_end; /* what is known to be data ends here */
};

/*
 * Begins with a file that has that stat, of which so many bytes will be read,
 * into memory that is fit for direct I/O or not.
 */
struct content content_open(struct lkl_kernel *kernel, int fd,
			    const struct lkl_stat *stat, uint64_t length,
			    bool direct);
void content_close(struct content *content);
/* Opens it for direct I/O too, if that is possible. */
void content_open_direct(struct content *content);

/* Of a file with holes: where the data at or behind a place begins. */
int content_find(struct content *content, uint64_t at, uint64_t *data);

/*
 * Reads up to length bytes; place is aligned to DIRECT_ALIGNMENT when direct
 * I/O is wanted.  Fewer may come: 0 is the end.
 */
int64_t content_read(struct content *content, uint64_t at, void *place,
		     size_t length);

/* Bytes from the front on, at most length, that are all zeros or all not. */
size_t content_run(const unsigned char *bytes, size_t length, bool *zeros);

/* lkl_open_file, with the stat of what was opened. */
int open_regular(struct lkl_kernel *kernel, int directory, const char *name,
		 struct lkl_stat *stat);

#endif
