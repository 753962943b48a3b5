/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a copy has done, for the one that goes on with it.
 *
 * A header and records of one size.  A record is appended before the file it
 * tells of gets its name.  After a checkpoint all files of the records before
 * it are safe; what stands behind the last one may or may not be there.
 */
#ifndef LKN_JOURNAL_H
#define LKN_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

enum journal_kind {
	JOURNAL_COPIED = 1,
	JOURNAL_DIRECTORY, /* made by this copy */
	JOURNAL_SKIPPED,   /* a person was asked */
	JOURNAL_CHECKPOINT,
	JOURNAL_BEGUN,	 /* what stands there from now on is this copy's */
	JOURNAL_RESUMED, /* what no checkpoint has made safe never will be */
};

struct journal_record {
	unsigned char path[16]; /* the first bytes of its SHA-256 */
	uint32_t kind;
	uint32_t renamed; /* 0, or the number its name was given */
	uint64_t seal;	  /* of the file as it was left */
	uint32_t reserved;
	uint32_t check;
};

struct journal {
	int fd; /* -1: none is kept */
	int destination;
	bool resumed;
	struct journal_record *records; /* of the copy gone on with, sorted */
	size_t count;
	uint64_t unsafe_bytes; /* written since the last checkpoint */
	uint64_t unsafe_records;
	uint64_t interval; /* nanoseconds between checkpoints, at least */
	uint64_t due;	   /* monotonic nanoseconds of the next checkpoint */
};

/* Reads what is there, or begins; errors as lkn_folder_run. */
int journal_open(struct journal *journal, int fd, int destination,
		 uint32_t interval, const unsigned char job[16],
		 const unsigned char options[32]);
void journal_close(struct journal *journal);

/*
 * What was last said of a path, or NULL; safe: it was so at a checkpoint.
 */
const struct journal_record *journal_find(const struct journal *journal,
					  const char *path, size_t length,
					  bool *safe);

/* Appends a record: 0 or an errno. */
int journal_append(struct journal *journal, enum journal_kind kind,
		   const char *path, size_t length, uint32_t renamed,
		   uint64_t seal);

/* What was appended outlasts a loss of power. */
int journal_sync(struct journal *journal);

/* Whether it is time for one. */
bool journal_wants_checkpoint(const struct journal *journal, uint64_t now);
int journal_checkpoint(struct journal *journal, uint64_t now);

/* By what a file is known to be as it was left. */
uint64_t journal_seal(const struct stat *stat);

#endif
