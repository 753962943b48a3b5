/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of lkn_folder_run: accounts of what became of entries, names and
 * conflicts, folders of the host, entries.
 */
#ifndef LKN_FOLDER_H
#define LKN_FOLDER_H

#include "copy_stream.h"
#include "journal.h"
#include "metadata.h"
#include "native.h"

#include <stdbool.h>
#include <sys/stat.h>

#define PART_NAME_SIZE 320u
#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* What is known of an entry until its outcome is told. */
struct account {
	uint64_t number;
	struct lkl_stat stat;
	uint32_t flags;	    /* LKN_OF_IMAGE ... */
	uint32_t operation; /* the failure that is told; 0: none */
	int error;
	bool failed; /* it is not there; else only something of it */
	uint64_t written, holes, bad;
	char target[LKN_NAME_SIZE]; /* of the host; "": none yet */
	uint32_t target_length;
};

enum action {
	ACTION_NEW,	/* nothing may be there */
	ACTION_REPLACE, /* what is there */
	ACTION_MERGE,	/* a folder into one that is there */
	ACTION_SKIP,
	ACTION_DONE, /* before */
	ACTION_FAIL,
};

/* What is done with a name of a folder, and as which. */
struct choice {
	enum action action;
	uint32_t rule;	    /* SKIP */
	uint32_t operation; /* FAIL */
	int error;	    /* FAIL */
	uint32_t flags;	    /* for the account */
	uint32_t renamed;   /* for the journal */
	bool own; /* what is there is this copy's, of an earlier time */
	bool asked;
	uint32_t length;
	char target[LKN_NAME_SIZE];
};

/* A folder of the host that is worked in; its place in the array is its depth.
 */
struct level {
	int fd; /* -1: closed for the time being, or there is none */
	dev_t device;
	ino_t inode;
	size_t path_length; /* of the source, with all above */
	size_t units;	    /* of UTF-16, of the path on the host */
	bool unusable;	    /* there is none, and nothing below is copied */
	bool fresh;	    /* made by this run: nothing else stands in it */
	bool made;	    /* by this copy, now or at an earlier time */
	bool own;	    /* it gets all of the source's attributes */
	bool mapped;	    /* its path on the host is another, somewhere */
	void *by_name;	    /* trees of tsearch(3) of struct slot */
	void *by_key;
	struct account account;
	unsigned char *xattrs;
	size_t xattrs_size;
};

/* The content of the entry at work. */
struct content {
	bool wanted;  /* it is written somewhere, or told only */
	bool streams; /* it is that of a named stream by now */
	int fd;	      /* of the part file; -1: none */
	char part[PART_NAME_SIZE];
	uint64_t position; /* in the content */
	uint64_t end;	   /* of the last byte written */
};

struct folder {
	const struct lkn_folder *request;
	struct lkn_stream *stream;
	struct lkn_accounts *accounts;
	struct journal journal;
	bool plan, owners, folds;
	uint32_t longest_name;	    /* for lkn_name_map */
	uint32_t longest_host_name; /* bytes */
	char job[17];
	uint64_t part_count;

	int ended; /* LKN_ENDED_*; -1: it goes on */
	int error;
	uint64_t told, flushed; /* when; monotonic nanoseconds */

	struct level *levels;
	size_t depth, allocated; /* levels[0] is the destination */

	char *path; /* of the entry at work, or of the deepest level */
	size_t path_length, path_allocated;

	unsigned char *records; /* outcomes not told yet */
	size_t records_size;
	uint32_t record_count;
	uint64_t unsent; /* outcomes of what was not wanted */

	struct account account; /* of the entry at work */
	struct choice choice;
	struct content content;
	uint64_t (*bad)[2]; /* of the entry at work */
	uint32_t bad_count;
	struct lkn_digests *digests;
	bool working; /* on an entry: between ENTRY and DONE */
	bool linked;
	uint64_t first;
	char *link_target;
	struct metadata_losses losses; /* of what was written last */
	unsigned char *xattrs;
	size_t xattrs_size;
	void *links, *sources; /* see links.c */
	void *buffer;	       /* for bytes from one file to another */
	bool no_copy_range;    /* the last one was refused */
};

/* ---- outcomes.c -------------------------------------------------------- */

/* Ends the copy, unless it has ended. */
void end_copy(struct folder *folder, int ended, int error);

/* It cannot be copied: for the image's sake, the host's, or what is there. */
void fail_image(struct account *account, uint32_t operation, int error);
/* Some errors of the host end the copy. */
void fail_host(struct folder *folder, struct account *account,
	       uint32_t operation, int error);
void fail_here(struct account *account, uint32_t operation, int error);
/* Something of it was not kept. */
void damage(struct account *account, uint32_t operation, int error, bool image);

/* Counts an entry and tells of it; its path is folder->path. */
void tell_outcome(struct folder *folder, const struct account *account,
		  uint32_t outcome, uint32_t rule);
/* Hands over what was not told yet. */
void flush_outcomes(struct folder *folder, bool durable);
/* What is due: outcomes, progress, a checkpoint. */
void tick(struct folder *folder);
uint64_t monotonic(void);

/* Sets what an account's entry has beside its content, and notes losses. */
void set_attributes(struct folder *folder, struct account *account,
		    const struct place *place, const struct lkl_stat *stat,
		    const unsigned char *xattrs, size_t xattrs_size);

/* ---- choices.c --------------------------------------------------------- */

/*
 * Decides what is done with an entry of the deepest level, unless that was done
 * before; folder->path is its path.
 */
void choose(struct folder *folder, const char *name, uint32_t length,
	    const struct lkl_stat *stat, struct choice *choice);
/* The same for candidates, whose choices are kept until they come. */
void choose_candidate(struct folder *folder, const char *name, uint32_t length,
		      const struct lkl_stat *stat, struct choice *choice);
void free_choices(struct level *level);
/* Whether the host takes names for the same that differ in case only. */
bool folds_names(const struct folder *folder, int directory);
void stat_of_host(const struct stat *host, struct lkl_stat *stat);

/* ---- levels.c ---------------------------------------------------------- */

struct level *deepest(struct folder *folder);
/* The deepest level's descriptor, or -ESTALE when another stands there now. */
int open_deepest(struct folder *folder);
/* As above, of any level. */
int open_level(struct folder *folder, size_t depth);
/* Puts a name to the end of folder->path; false: no memory. */
bool push_path(struct folder *folder, const char *name, size_t length);
void cut_path(struct folder *folder, size_t length);
void enter(struct folder *folder, const struct lkn_event *event);
void keep_level_xattrs(struct folder *folder, const struct lkn_event *event);
void leave(struct folder *folder);
void free_deepest(struct folder *folder);
/* Removes part files of this copy's earlier times. */
void remove_parts(struct folder *folder, int directory);

/* ---- links.c ----------------------------------------------------------- */

/* Remembers where a file with several links is, by number and by inode. */
void remember_link(struct folder *folder, uint64_t number,
		   const struct lkl_stat *stat, const char *target,
		   const struct stat *host);
/*
 * Makes a link, called name in a directory, to the copy of an entry by number,
 * or by inode when that is 0: 0; -ENOENT when it is not there.  When links
 * cannot be had here -EMLINK, and copy is the open file.
 */
int link_to(struct folder *folder, uint64_t number, const struct lkl_stat *stat,
	    int directory, const char *name, int *copy);
/* Whether link_to() by inode has a file to link to. */
bool is_known_source(const struct folder *folder, const struct lkl_stat *stat);
/* Whether a file of the host is not the one that link_to() would link to. */
bool is_another_file(const struct folder *folder, const struct lkl_stat *stat,
		     const struct stat *host);
/* The path on the host of the first link, into text: its length, or 0. */
size_t path_of_link(const struct folder *folder, uint64_t number,
		    const struct lkl_stat *stat, char *text, size_t size);
void free_links(struct folder *folder);

/* ---- entries.c --------------------------------------------------------- */

void begin_entry(struct folder *folder, const struct lkn_event *event);
void take_content(struct folder *folder, const struct lkn_event *event);
void finish_entry(struct folder *folder, const struct lkn_event *event);
/* The copy ends within the entry. */
void abandon_entry(struct folder *folder, bool image, int error);
/*
 * A candidate becomes a link to what an earlier time has copied, if that can
 * be: then nothing of it need be sent.
 */
bool link_candidate(struct folder *folder, const struct lkl_stat *stat,
		    const struct choice *choice);

#endif
