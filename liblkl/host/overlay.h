/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was written to a disk, kept in memory instead: blocks by number, up to
 * a limit.  How source and overlay are put together is disk.c's business.
 */
#ifndef LKL_OVERLAY_H
#define LKL_OVERLAY_H

#include "host.h"

#define OVERLAY_BLOCK 4096u

struct overlay_slot {
	uint64_t block;
	unsigned char *data; /* NULL: the slot is free */
};

struct overlay {
	struct overlay_slot *slots; /* open addressing, a power of two */
	size_t slot_count;
	size_t used;
	uint64_t limit; /* bytes */
};

void overlay_init(struct overlay *overlay, uint64_t limit);
void overlay_free(struct overlay *overlay);

/* A block's OVERLAY_BLOCK bytes, or NULL. */
unsigned char *overlay_find(const struct overlay *overlay, uint64_t block);

/*
 * Adds a block that is not there; data, of OVERLAY_BLOCK bytes from malloc(),
 * is the overlay's from then on.  -ENOSPC beyond the limit, -ENOMEM.
 */
int overlay_add(struct overlay *overlay, uint64_t block, unsigned char *data);

static inline uint64_t overlay_bytes(const struct overlay *overlay)
{
	return (uint64_t)overlay->used * OVERLAY_BLOCK;
}

#endif
