/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying the content of the kernel's files to the host: what lkl_copy_file and
 * lkl_export have in common.  Internal to this room.
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

struct copy {
	struct lkl_kernel *kernel;
	const struct copy_memory *memory;
	int fd;	  /* of the kernel */
	int sink; /* of the host */
	bool sparse;
	lkl_progress progress; /* or NULL */
	void *opaque;
	uint64_t written; /* bytes of data so far, without holes */
	bool host_failed; /* set when the error is the host's */
};

/*
 * Copies part of a file that has that stat to the sink.  Returns the bytes the
 * sink grew by or a negative errno.
 */
int64_t copy_file(struct copy *copy, const struct lkl_stat *stat,
		  uint64_t offset, uint64_t length);

/* lkl_open_file, with the stat of what was opened. */
int open_regular(struct lkl_kernel *kernel, int directory, const char *name,
		 struct lkl_stat *stat);

#endif
