/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of lkl_pack have in common: pack.c has trees, selection and
 * entries, pack_content.c the bytes of files, pack_extents.c where these lie in
 * files of the host, pack_output.c messages and answers.  Internal to this
 * room.
 */
#ifndef LKL_HOST_PACK_H
#define LKL_HOST_PACK_H

#include "../shared/copy_stream.h"

#include "copy.h"
#include "walk.h"

#include <stdatomic.h>

/* How the next bytes of a file are sent. */
struct piece {
	uint64_t length;
	uint64_t position; /* in a file of the host */
	int32_t source;	   /* number of a DESCRIPTOR, or PIECE_* */
};

#define PIECE_READ (-1) /* through the kernel */
#define PIECE_HOLE (-2)

/* A file of the host that bytes of the disk lie in. */
struct source {
	int64_t fd;
	int32_t
	    number; /* of its DESCRIPTOR; PIECE_READ: it is not given away */
};

/* The first link that was sent of a file that has several. */
struct first_link {
	uint64_t device, inode;
	uint64_t number; /* 0: a free slot */
};

struct lkl_packer {
	struct lkl_kernel *kernel;
	struct lkl_pack request;
	struct lkl_pack_progress done;
	uint64_t last_progress;
	_Atomic bool cancelled;
	_Atomic bool waiting; /* for the other side */
	int stopped;	      /* the negative errno that stopped it */
	bool lost;	      /* the socket: nothing more can be sent */

	unsigned char *output;
	size_t used;
	struct copy_memory memory; /* for content that is large */
	unsigned char *records;
	unsigned char *xattrs;
	char *target; /* of a link */
	unsigned char wanted[COPY_CANDIDATES_MOST];

	uint64_t number; /* of what was told last */
	uint32_t depth;
	/* COPY_FREE or COPY_ASK, by depth */
	unsigned char modes[COPY_DEPTH_MOST + 1];
	bool in_extra;	/* lkl_pack_stream may be called */
	bool in_stream; /* its bytes too */

	/* A hash table. */
	struct first_link *links;
	size_t link_count, link_slots;

	char *root_path; /* FOLLOW: in the kernel */
	char *link_path;

	/* Of the file at work, one following the other; then count is not 0. */
	struct piece *pieces;
	size_t piece_count, piece_slots;
	struct source *sources;
	uint32_t source_count;
	int32_t descriptors; /* sent */
	struct fiemap *map;
};

/* What is at work: an entry of a directory of the kernel. */
struct item {
	int directory;
	const char *name;   /* there; "" is the directory itself */
	const char *target; /* what it is sent as */
	struct lkl_stat stat;
	bool followed; /* a link, and stat that of the file it leads to */
};

static inline bool pack_has(const struct lkl_packer *packer, uint32_t flag)
{
	return packer->request.flags & flag;
}

/* ---- pack_output.c ----------------------------------------------------- */

int pack_output_open(struct lkl_packer *packer);

/* Stops the packer, if it was not, by a negative errno: which one it was. */
int pack_stop(struct lkl_packer *packer, int error);

/* Sends what was put so far. */
int pack_flush(struct lkl_packer *packer);
/* As that, and bytes after it. */
int pack_flush_with(struct lkl_packer *packer, const void *bytes,
		    size_t length);

/* Begins a message whose body of that length pack_add() gives. */
void pack_begin(struct lkl_packer *packer, uint32_t kind, size_t length);
void pack_add(struct lkl_packer *packer, const void *bytes, size_t length);
void pack_put(struct lkl_packer *packer, uint32_t kind, const void *body,
	      size_t length);
void pack_put_done(struct lkl_packer *packer, uint32_t kind, int error,
		   uint32_t operation);
void pack_put_hole(struct lkl_packer *packer, uint64_t length);
/* Content that may be sent as it lies; also of named streams. */
void pack_put_data(struct lkl_packer *packer, const void *bytes, size_t length);
/*
 * Where up to length bytes of content can be read to, to be put by
 * pack_put_read() once they are there.
 */
void *pack_place(struct lkl_packer *packer, size_t length);
void pack_put_read(struct lkl_packer *packer, size_t length);

/* Gives a file of the host to the other side. */
void pack_put_descriptor(struct lkl_packer *packer, int file);

/* Sends all and waits for the answer of that kind and length. */
int pack_ask(struct lkl_packer *packer, uint32_t kind, void *answer,
	     size_t length);

/* Tells the caller how far it is, if it is time to, and sees whether to stop.
 */
void pack_tell(struct lkl_packer *packer);

/* ---- pack_extents.c ---------------------------------------------------- */

int pack_extents_open(struct lkl_packer *packer);
/*
 * Finds the pieces of an open file, or none when it is to be read as any other,
 * and gives away the files of the host that these need.
 */
void pack_find_pieces(struct lkl_packer *packer, int fd,
		      const struct lkl_stat *stat);

/* ---- pack_links.c ------------------------------------------------------ */

int pack_links_open(struct lkl_packer *packer);

/* The number of the first link that was sent of an item's file, or 0. */
uint64_t pack_first_link(const struct lkl_packer *packer,
			 const struct item *item);
/*
 * Remembers that the next entry is the first link to its file.  Without memory
 * further ones are sent as files of their own.
 */
void pack_remember_link(struct lkl_packer *packer, const struct item *item);

/* Makes an item that is a link to a file the file, if asked to follow. */
void pack_follow(struct lkl_packer *packer, struct item *item);
/* Opens that file: a descriptor or a negative errno. */
int pack_open_followed(struct lkl_packer *packer, int directory,
		       const char *name, uint32_t flags, struct lkl_stat *stat);

/* ---- pack_content.c ---------------------------------------------------- */

/* Sends the content of a file: 0 or the negative errno that ended it. */
int pack_content(struct lkl_packer *packer, int fd,
		 const struct lkl_stat *stat);

#endif
