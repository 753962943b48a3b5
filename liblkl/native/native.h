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
 * Landlock for a process that writes: files are made, changed and removed below
 * these folders only, nothing is executed, no port bound or connected, nobody
 * outside is sent a signal.  Reading stays free, and so do owners, modes, times
 * and attributes of what may be opened.  Alone, or before lkn_confine_memory;
 * returns as lkn_confine_files.
 */
int lkn_confine_writes(const int32_t *folders, size_t count);

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

/* ---- A folder as destination ------------------------------------------- */

/* lkn_folder.flags */
#define LKN_FOLDER_OWNER 0x1   /* keep owners, and what has a meaning by them */
#define LKN_FOLDER_SPECIAL 0x2 /* create devices, fifos and sockets */
/* The host takes "a" and "A" for one name; found out too, where it can be. */
#define LKN_FOLDER_FOLD 0x4
#define LKN_FOLDER_PLAN 0x8	  /* write nothing, tell what would be */
#define LKN_FOLDER_STOP_FULL 0x10 /* end when the host is full */
#define LKN_FOLDER_LIST 0x20	  /* tell also what went as expected */

/* What to do where the host has something else of that name. */
#define LKN_CONFLICT_ASK 0
#define LKN_CONFLICT_SKIP 1
#define LKN_CONFLICT_OVERWRITE 2
#define LKN_CONFLICT_RENAME 3
#define LKN_CONFLICT_NEWER 4 /* overwrite what is older, skip else */

/* What becomes of symbolic links. */
#define LKN_SYMLINK_RECREATE 0
#define LKN_SYMLINK_TEXT 1 /* a file that holds the target */
#define LKN_SYMLINK_SKIP 2

/* lkn_outcome.outcome */
#define LKN_COPIED 1
#define LKN_DAMAGED 2 /* copied, but something of it was not kept */
#define LKN_SKIPPED 3
#define LKN_FAILED 4
#define LKN_DONE_BEFORE 5 /* by the copy that this one goes on with */

/* lkn_outcome.rule: why it was skipped */
#define LKN_RULE_EXISTS 0
#define LKN_RULE_NOT_NEWER 1
#define LKN_RULE_SYMLINK 2
#define LKN_RULE_SPECIAL 3
#define LKN_RULE_COUNT 4

/* lkn_outcome.flags */
#define LKN_OF_IMAGE 0x1   /* error: of Linux, operation: copy_operation */
#define LKN_OWNER_LOST 0x2 /* it has the owner of this process */
#define LKN_XATTRS_LOST 0x4
#define LKN_STREAM_LOST 0x8 /* named streams have no place on this host */
#define LKN_LINK_LOST 0x10  /* a copy instead of a further link */
#define LKN_MAPPED 0x20	    /* its name is another one on the host */
#define LKN_LONG_PATH 0x40  /* longer than most programs of Windows take */
#define LKN_EXISTED 0x80    /* something of that name was there */
#define LKN_LINKED 0x200    /* it is a further link to another */
#define LKN_REPLACED 0x100  /* and is no more (plan: would be no more) */

/* What this side was doing when it failed. */
#define LKN_HOST_CREATE 1
#define LKN_HOST_WRITE 2
#define LKN_HOST_READ 3 /* a file of the host, of which the image is made */
#define LKN_HOST_OWNER 4
#define LKN_HOST_XATTRS 5
#define LKN_HOST_MODE 6
#define LKN_HOST_TIMES 7
#define LKN_HOST_LINK 8	    /* the first link is not there to be linked to */
#define LKN_HOST_FOLDER 9   /* the folder it belongs into could not be made */
#define LKN_HOST_TYPE 10    /* a folder stands in the place of a file, or so */
#define LKN_HOST_STOPPED 11 /* the copy ended before this was whole */

/*
 * What became of an entry.  There follow struct lkl_stat; ranges that could not
 * be read (u64 position, u64 length; the first 256); digests in the order of
 * their bits; the path; that on the host, if it is another; where a symbolic
 * link points, or of a further link the path on the host of the first; names of
 * attributes that were not kept, each with a NUL after it.
 */
struct lkn_outcome {
	uint32_t record_size; /* with all that follows and padding to 8 */
	uint32_t outcome;
	uint32_t flags;
	uint32_t rule;
	uint32_t operation;
	int32_t error; /* negative, or 0 */
	uint32_t path_length;
	uint32_t target_length;
	uint32_t digests_length;
	uint32_t bad_count;
	uint32_t link_length;
	uint32_t lost_length;
	uint64_t number;  /* 0: it was not sent because it was not wanted */
	uint64_t written; /* bytes of content, without holes */
	uint64_t holes;
	uint64_t bad; /* bytes that could not be read and became holes */
};

/* seen == copied + damaged + all skipped + failed + done_before */
struct lkn_accounts {
	uint64_t seen, copied, damaged, failed, done_before;
	uint64_t skipped[4]; /* by LKN_RULE_* */
	uint64_t written, holes, bad;
	uint64_t mapped, long_paths, owners_lost, xattrs_lost, streams_lost;
	uint64_t existed; /* conflicts */
	uint64_t size;	  /* bytes of files copied, with holes; each once */
};

/* Something of the host in the way of an entry. */
struct lkn_conflict {
	const char *path; /* of the entry, as in lkn_outcome */
	uint64_t path_length;
	const struct lkl_stat *existing, *entry;
};

/*
 * Paths in outcomes and elsewhere are names of the source with '/' between,
 * beginning with what came at depth 0; of the destination itself: "".
 */
typedef int (*lkn_ask)(void *opaque, const struct lkn_conflict *conflict);
typedef int (*lkn_outcomes)(void *opaque, const void *records, uint64_t size,
			    uint32_t count, int durable);
typedef int (*lkn_progress)(void *opaque, const struct lkn_accounts *accounts,
			    const char *path, uint64_t length);
typedef int (*lkn_fold)(void *opaque, const char *name, uint64_t length,
			char *folded, uint64_t size);

struct lkn_folder {
	int32_t destination; /* an open directory */
	int32_t journal;     /* a file open for reading and appending, or -1 */
	unsigned char job[16];	   /* what tells this copy from others */
	unsigned char options[32]; /* of it: another digest is another copy */
	uint32_t flags;
	uint32_t conflicts;   /* LKN_CONFLICT_* */
	uint32_t symlinks;    /* LKN_SYMLINK_* */
	uint32_t names;	      /* LKN_NAMES_* */
	uint32_t digests;     /* LKN_SHA256 ... */
	uint32_t checkpoints; /* milliseconds from one to the next, at least */
	void *opaque;
	/* Decides: LKN_CONFLICT_* but ASK; negative: end the copy. */
	lkn_ask ask;
	/*
	 * Takes outcomes, some hundred at once; not 0: end the copy.  durable:
	 * these and those before must be safe before it returns, because they
	 * are not told again.
	 */
	lkn_outcomes outcomes;
	/*
	 * Called about ten times a second, also when nothing comes; the copy
	 * pauses as long as it does not return.  Not 0: end the copy.
	 */
	lkn_progress progress;
	/*
	 * Writes a name, which is not ASCII only, as all names the host takes
	 * for the same would be written; its length.  NULL: none are the same.
	 */
	lkn_fold fold;
};

/* Why lkn_folder_run ended. */
#define LKN_ENDED_WHOLE 0
#define LKN_ENDED_CANCELLED 1
#define LKN_ENDED_FULL 2
#define LKN_ENDED_LOST 3   /* the destination is not there any more */
#define LKN_ENDED_STREAM 4 /* lkn_stream_next failed */
#define LKN_ENDED_ENGINE 5 /* the engine said FINISH with an error */
#define LKN_ENDED_MEMORY 6
#define LKN_ENDED_JOURNAL 7 /* it cannot be written to */

/*
 * Takes all that comes and makes files of it; returns LKN_ENDED_*, or before
 * anything was done: -EKEYREJECTED when the journal is another copy's,
 * -EUCLEAN when it is none, and other errors of reading it.  error: the errno
 * that LKN_ENDED_FULL, LOST, STREAM, ENGINE and JOURNAL go with.
 *
 * Whatever comes, nothing is changed that does not stand below the destination,
 * no link of the host is followed, and only what is asked to be overwritten or
 * was written by the same copy is replaced.  What is not yet whole is called
 * NAME.JOB.part, or .NUMBER.JOB.part, JOB being 16 digits of it.
 *
 * A journal that is empty is begun; else the copy is gone on with: what it had
 * done, and is still as it was left, is not asked for again.  What it had begun
 * is made anew, and so is all that stands in folders that it made and of which
 * the journal knows nothing, as it is after a loss of power.
 */
int lkn_folder_run(const struct lkn_folder *folder, struct lkn_stream *stream,
		   struct lkn_accounts *accounts, int *error);

/* end of declarations */

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif
