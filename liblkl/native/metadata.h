/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a file of the host has beside its content: owner, attributes, mode,
 * times.
 */
#ifndef LKN_METADATA_H
#define LKN_METADATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOST_NAMES_SIZE 4096u

struct lkl_stat;

/* An open file of the host, or something in a directory by its name. */
struct place {
	int fd;
	const char *name; /* NULL: fd itself */
};

/* What was not kept. */
struct metadata_losses {
	uint32_t operation; /* that failed first: LKN_HOST_*, or 0 */
	int error;	    /* of it */
	bool owner;
	uint32_t xattrs; /* how many */
	/* Their names, each with a NUL after it; the last may be left out. */
	char names[LOST_NAMES_SIZE];
	size_t names_size;
};

/*
 * Sets all of it.  Without owners, attributes but those of users are left out,
 * and so are bits that give rights of an owner.
 */
void set_metadata(const struct place *place, const struct lkl_stat *stat,
		  const unsigned char *xattrs, size_t xattrs_size, bool owners,
		  struct metadata_losses *losses);

#endif
