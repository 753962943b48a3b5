/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an engine sends to a writer through a stream socket (AF_UNIX): a tree,
 * entry by entry, with all that is known of each.  lkl_pack() writes it,
 * lkn_stream_next() reads it and believes nothing.
 *
 * Messages are a head and a body, one after another, without padding between.
 * Integers have the host's byte order: both ends are on one machine.
 *
 * The reader is a machine with a stack of directories:
 *
 *   BEGIN  ( directory | LEAVE | entry | CANDIDATES | REFUSED | BROKEN |
 *            DESCRIPTOR )*  FINISH
 *   directory:  ENTER  ( XATTRS )?  ( streams  DONE )?
 *   entry:  ENTRY  ( XATTRS )?  content  ( streams )?  DONE
 *   streams:  ( STREAM  content )+
 *   content:  ( DATA | HOLE | EXTENT | BAD )*
 *
 * An entry stands in the directory that was entered last and not yet left; at
 * depth 0 that is the destination.  Each thing that was asked for begins at
 * depth 0 and ends there.
 *
 * Selection.  When COPY_ASK stands in a directory's answer, the packer first
 * sends its entries without content as CANDIDATES, and then only those that the
 * writer's WANTED names.  Candidates have no number (0): FINISH counts what was
 * sent.  At depth 0 a thing comes as the only candidate, unless it is CONTENTS.
 * The answers are the only bytes that go the other way:
 *
 *   to ENTER in a directory whose answer was ASK (depth 0 always is):  MODE
 *   to CANDIDATES:  WANTED
 *
 * Below a directory whose answer is FREE nothing is answered: the packer runs
 * ahead of the writer as far as the socket's buffer lets it.
 */
#ifndef LKL_COPY_STREAM_H
#define LKL_COPY_STREAM_H

#include "lkl.h"

#define COPY_STREAM_MAGIC 0x4b4c5343u
#define COPY_STREAM_VERSION 1u

/* Bodies are not longer; of DATA the packer uses up to this as well. */
#define COPY_BODY_MOST (1u << 20)
/* As deep as a walk goes. */
#define COPY_DEPTH_MOST 4096u
#define COPY_NAME_MOST 1024u
#define COPY_LINK_MOST 65536u
#define COPY_XATTRS_MOST (576u << 10)
#define COPY_CANDIDATES_MOST 4096u
#define COPY_DESCRIPTORS_MOST 256u

enum copy_kind {
	/* Packer to writer. */
	COPY_BEGIN = 1,	 /* body: struct copy_begin */
	COPY_ENTER,	 /* struct copy_entry, name: a directory; pushed */
	COPY_LEAVE,	 /* no body: all of the directory was sent; popped */
	COPY_CANDIDATES, /* struct copy_entry with name, each padded to 8 */
	COPY_ENTRY,	 /* struct copy_entry, name, and for a symbolic link its
			    target, which fills the body */
	COPY_XATTRS,	 /* records of lkl_read_xattrs; after ENTRY or ENTER */
	COPY_DATA,	 /* bytes, of any number from 1 */
	COPY_HOLE,	 /* u64: zeros that take no space */
	COPY_EXTENT,	 /* struct copy_extent */
	COPY_BAD,	 /* struct copy_bad: bytes that could not be read */
	COPY_STREAM,	 /* name of a named stream; DATA etc. that follow, up to
			    the next STREAM or DONE, are its content */
	COPY_DONE,	 /* struct copy_done */
	COPY_REFUSED,	 /* struct copy_entry with an error, name: an entry that
			    could not be looked at, or a directory not entered */
	COPY_BROKEN,	 /* struct copy_done: the rest of the directory entered
			    last cannot be read, or, with COPY_READ_XATTRS or
			    COPY_READ_STREAM, its attributes or streams */
	COPY_DESCRIPTOR, /* no body; one descriptor as SCM_RIGHTS beside the
			    head: numbered from 0 as they come */
	COPY_FINISH,	 /* struct copy_finish; nothing follows */

	/* Writer to packer. */
	COPY_MODE = 64, /* u32: COPY_FREE, COPY_ASK or COPY_UNUSABLE */
	COPY_WANTED,	/* one byte for each candidate: 0 or 1 */
};

struct copy_head {
	uint32_t kind;
	uint32_t length; /* of the body */
};

struct copy_begin {
	uint32_t magic, version;
};

/* Answers to ENTER. */
#define COPY_FREE 0u	 /* nothing stands there: send all, wait for nothing */
#define COPY_ASK 1u	 /* something may: send CANDIDATES first */
#define COPY_UNUSABLE 2u /* it cannot be made: send only LEAVE */

/* copy_entry.flags */
#define COPY_CONTENTS 0x1u /* ENTER: into the destination itself; no name */
#define COPY_PLAN 0x2u	   /* no content follows: what would be copied */
#define COPY_LINKED 0x4u   /* a further link to the entry numbered first */

/* How an entry is told of; a name of name_length bytes follows, without NUL. */
struct copy_entry {
	uint64_t
	    number;	/* 1 for the first ENTRY, ENTER or REFUSED, then 2... */
	uint64_t first; /* LINKED: number of the first link, else 0 */
	uint32_t name_length;
	uint32_t flags;
	int32_t error;	 /* REFUSED: a negative errno of Linux, else 0 */
	uint32_t reason; /* REFUSED: enum copy_operation */
	struct lkl_stat stat;
};

/* Bytes of a file of the host, by position in a DESCRIPTOR. */
struct copy_extent {
	uint64_t position, length;
	uint32_t descriptor;
	uint32_t reserved;
};

struct copy_bad {
	uint64_t length;
	int32_t error; /* a negative errno of Linux */
	uint32_t reserved;
};

/* What the packer was doing when something failed. */
enum copy_operation {
	COPY_NOTHING,
	COPY_STAT,
	COPY_OPEN,
	COPY_READ,
	COPY_READ_XATTRS, /* content is whole, attributes are not */
	COPY_READ_STREAM,
	COPY_SPECIAL, /* a kind of entry that is not copied */
};

struct copy_done {
	int32_t error; /* 0: whole; else a negative errno of Linux */
	uint32_t operation;
};

struct copy_finish {
	uint64_t entries; /* that were sent: as numbered */
	int32_t error;	  /* 0, or what ended it early */
	uint32_t reserved;
};

#endif
