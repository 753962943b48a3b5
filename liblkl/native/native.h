/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the program's processes need of C and no kernel has a part in: digests,
 * confinement, and the writer's loop.
 *
 * Results follow liblkl: zero or a positive value on success, a negative errno
 * of the host on failure.
 *
 * Everything between "declarations" and "end of declarations" is plain C
 * without preprocessor conditions; the Python binding reads it as it stands.
 */
#ifndef LKL_NATIVE_H
#define LKL_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* declarations */

/* ---- Digests ----------------------------------------------------------- */

#define LKN_MD5 0x1
#define LKN_SHA1 0x2
#define LKN_SHA256 0x4
#define LKN_BLAKE2B 0x8 /* of 512 bits */

/* The most bytes of a digest. */
#define LKN_DIGEST_MOST 64

struct lkn_digests;

/* Begins digests of one sequence of bytes; algorithms are LKN_* together. */
int lkn_digests_open(uint32_t algorithms, struct lkn_digests **digests);
void lkn_digests_update(struct lkn_digests *digests, const void *bytes,
			size_t length);

/*
 * Writes the digest by one algorithm of what was given so far, and returns its
 * length, or -EINVAL.  Nothing more can be given before lkn_digests_reset.
 */
int lkn_digests_read(struct lkn_digests *digests, uint32_t algorithm,
		     unsigned char *digest, size_t size);
void lkn_digests_reset(struct lkn_digests *digests);
void lkn_digests_close(struct lkn_digests *digests);

/* ---- Confinement ------------------------------------------------------- */

/*
 * Each gives up something for ever, for all that this process will do.  They
 * are called in this order, by a process of one thread; -ENOSYS and others say
 * that this host cannot do it.  Only Linux has them so far.
 */

/* The process is killed as soon as its parent, by its number, has ended. */
int lkn_die_with_parent(int parent);

/* No set-user-ID program gives it rights, and it gives up those of root. */
int lkn_confine_rights(void);

/*
 * Landlock without a single rule: no file is opened by name, no port bound or
 * connected, nobody outside is sent a signal.  Returns the version of Landlock,
 * by which it is known what of that is so.
 */
int lkn_confine_files(void);

/*
 * Memory that can be written and executed can only be executed from now on;
 * returns how many such regions there were.
 */
int lkn_confine_memory(void);

/*
 * Only the system calls that reading an image takes.  Executable memory can
 * then be mapped from one descriptor only, the kernel image's (-1: none).
 */
int lkn_confine_calls(int image);

/* ---- Streams ----------------------------------------------------------- */

/*
 * What an engine sends to a writer, by copy_stream.h, where the words used here
 * stand.  Nothing of it is believed: what breaks a rule of that file ends the
 * stream by -EPROTO.
 */

struct lkl_stat; /* of lkl.h */
struct lkn_stream;

/*
 * lkn_event.answer: the other side waits for lkn_stream_answer_mode() or
 * lkn_stream_answer_wanted(), and so does lkn_stream_next().
 */
#define LKN_ANSWER_MODE 1
#define LKN_ANSWER_WANTED 2

/*
 * A message.  What is pointed to stands in the memory of the stream, until
 * lkn_stream_next() is called again.
 */
struct lkn_event {
	uint32_t kind; /* enum copy_kind */
	uint32_t
	    depth; /* directories that are entered, before ENTER and LEAVE */
	uint32_t flags; /* of its struct copy_entry */
	int32_t
	    error; /* REFUSED, BROKEN, BAD, DONE, FINISH: an errno of Linux */
	uint32_t operation; /* REFUSED, BROKEN, DONE: enum copy_operation */
	int32_t file;	 /* EXTENT: a file or block device, to be read only */
	uint32_t answer; /* 0 or LKN_ANSWER_* */
	uint32_t name_length;
	uint64_t number;
	uint64_t first;
	uint64_t length; /* of data; HOLE, EXTENT, BAD: of the content; FINISH:
			    entries; CANDIDATES: how many */
	uint64_t position;	     /* EXTENT: in the file */
	const struct lkl_stat *stat; /* NULL but in ENTER, ENTRY, REFUSED */
	const char *name;	     /* a NUL follows; else NULL */
	const unsigned char *data;   /* XATTRS; DATA: a part; ENTRY: a target, a
					NUL follows; else NULL */
};

/*
 * Reads from a stream socket, which stays the caller's.  When nothing comes for
 * some milliseconds, lkn_stream_next() returns -EAGAIN and can be called again;
 * -1: it waits for ever.
 */
int lkn_stream_open(int socket, int patience, struct lkn_stream **stream);
void lkn_stream_close(struct lkn_stream *stream);

/* All memory that events point into. */
const unsigned char *lkn_stream_memory(const struct lkn_stream *stream,
				       size_t *size);

/*
 * Reads a message: 1; 0 after FINISH; -EPROTO; -ECONNRESET when the other side
 * ended before it; -EINVAL when an answer is due.
 */
int lkn_stream_next(struct lkn_stream *stream, struct lkn_event *event);

/* What -EPROTO means: a text for those who write programs; else NULL. */
const char *lkn_stream_problem(const struct lkn_stream *stream);

/* Reads the next of the CANDIDATES that came last: 1, or 0 after the last. */
int lkn_stream_candidate(struct lkn_stream *stream, struct lkn_event *event);

int lkn_stream_answer_mode(struct lkn_stream *stream, uint32_t mode);
/* One byte, 0 or 1, for each candidate. */
int lkn_stream_answer_wanted(struct lkn_stream *stream,
			     const unsigned char *wanted, size_t count);

/* ---- Names on the host ------------------------------------------------- */

/*
 * A name of an image is any bytes but '/' and NUL; what a host takes is less.
 *
 * LKN_NAMES_POSIX leaves names as they are.  LKN_NAMES_WINDOWS writes as %XX,
 * the byte in two upper-case digits of 16: the characters < > : " \ | ? * and
 * those below 0x20; bytes that are no UTF-8; a dot or space at the end; the
 * first character of a device's name (CON, PRN, AUX, NUL, COM0 to COM9 and LPT0
 * to LPT9, also with superscript 1 to 3, CONIN$, CONOUT$), whatever follows
 * after a dot; and a % that two such digits or a ~ follow.
 *
 * By both, a name that is already another's in the same directory of the host
 * gets %~2, %~3... before its extension, and what is longer than the host takes
 * is cut and ends in %~ and the first 16 digits of the name's SHA-256 (where
 * that is another's, of the name and its number), and its extension.  An
 * extension is what stands from the last dot on, up to 17 bytes.
 *
 * By the rule of Windows each name can be told from what it became, unless it
 * was cut.
 */
#define LKN_NAMES_POSIX 0
#define LKN_NAMES_WINDOWS 1

/* Bytes that a name became, at most; and the NUL that follows. */
#define LKN_NAME_MOST 1024
#define LKN_NAME_SIZE 1025

/*
 * What a name of up to LKN_NAME_MOST bytes becomes; number is 1, or 2, 3... for
 * the ones after.  longest is what the host takes: bytes by the rule of POSIX,
 * else units of UTF-16; from 64 to 255.  Returns the length; -EINVAL.
 */
int lkn_name_map(const char *name, size_t length, uint32_t rules,
		 uint32_t number, uint32_t longest, char *mapped);

/*
 * The name that became this by the rule of Windows: its length; -ENODATA when
 * it was cut, -EINVAL when none becomes this.
 */
int lkn_name_unmap(const char *mapped, size_t length, char *name);

/* end of declarations */

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif
