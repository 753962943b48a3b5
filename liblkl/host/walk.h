/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A walk, step by step: what lkl_walk_read and lkl_pack have in common.
 * Internal to this room.
 *
 * Each directory is read to its end before the first one in it is entered,
 * and left when all below it is done.
 */
#ifndef LKL_HOST_WALK_H
#define LKL_HOST_WALK_H

#include "lkl.h"

enum walk_event {
	WALK_END,
	WALK_ENTER,   /* a directory was opened */
	WALK_ENTRIES, /* some of its entries were read */
	WALK_REFUSED, /* a directory was not entered: error tells why */
	WALK_BROKEN,  /* the rest of an entered directory cannot be read */
	WALK_LEAVE,   /* all below an entered directory is done */
};

struct walk_step {
	enum walk_event event;
	int error;
	int fd;		    /* of the directory; not for REFUSED, LEAVE */
	uint32_t depth;	    /* of the directory, the start being 0 */
	uint64_t directory; /* number of the one it stands in */
	uint64_t number;
	const char *name;     /* until the next step; "" of the start */
	struct lkl_stat stat; /* ENTER only */
	size_t size;	      /* ENTRIES: bytes of records */
};

/*
 * The next step.  Records go into buffer, for which the rules of
 * lkl_read_directory hold.  Returns 0 or a negative errno that ends the walk,
 * but for -EINVAL: buffer too small, try again.
 */
int walk_step(struct lkl_walk *walk, void *buffer, size_t size,
	      struct walk_step *step);

/* Nothing more of the directory just entered is wanted: leave it next. */
void walk_skip(struct lkl_walk *walk);

/*
 * A directory among the ENTRIES just read, by its number, is not to be entered.
 * Several are given in their order.
 */
void walk_drop(struct lkl_walk *walk, uint64_t number);

#endif
