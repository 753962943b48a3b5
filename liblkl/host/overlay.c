// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#include "overlay.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_SLOTS 256u

void overlay_init(struct overlay *overlay, uint64_t limit)
{
	*overlay = (struct overlay){.limit = limit};
}

void overlay_free(struct overlay *overlay)
{
	for (size_t i = 0; i < overlay->slot_count; i++)
		free(overlay->slots[i].data);
	free(overlay->slots);
	overlay_init(overlay, 0);
}

/* The slot of a block, or the free one where it would stand. */
static struct overlay_slot *slot_of(struct overlay_slot *slots, size_t count,
				    uint64_t block)
{
	/* Multiplication by 2^64 / golden ratio spreads runs of blocks. */
	uint64_t hash = block * UINT64_C(0x9e3779b97f4a7c15);
	size_t at = (size_t)(hash >> 32) & (count - 1);

	while (slots[at].data && slots[at].block != block)
		at = (at + 1) & (count - 1);
	return &slots[at];
}

unsigned char *overlay_find(const struct overlay *overlay, uint64_t block)
{
	if (!overlay->used)
		return NULL;
	return slot_of(overlay->slots, overlay->slot_count, block)->data;
}

static int grow(struct overlay *overlay)
{
	size_t count =
	    overlay->slot_count ? 2 * overlay->slot_count : FIRST_SLOTS;
	struct overlay_slot *slots = calloc(count, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < overlay->slot_count; i++) {
		struct overlay_slot *old = &overlay->slots[i];

		if (old->data)
			*slot_of(slots, count, old->block) = *old;
	}
	free(overlay->slots);
	overlay->slots = slots;
	overlay->slot_count = count;
	return 0;
}

int overlay_add(struct overlay *overlay, uint64_t block, unsigned char *data)
{
	if (overlay_bytes(overlay) + OVERLAY_BLOCK > overlay->limit)
		return -ENOSPC;
	/* At most half full, so that searches stay short. */
	if (2 * (overlay->used + 1) > overlay->slot_count) {
		int error = grow(overlay);

		if (error < 0)
			return error;
	}
	*slot_of(overlay->slots, overlay->slot_count, block) =
	    (struct overlay_slot){block, data};
	overlay->used++;
	return 0;
}
