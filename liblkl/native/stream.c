// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reads what an engine sends to a writer (copy_stream.h).
 *
 * The engine may be in the hands of who made the image.  So each message is
 * held against the rules of that file before anyone sees it, and no memory is
 * asked for because a number says so: all there is of it is had at the start.
 */
#include "native.h"
#include "copy_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Taken from the socket at once: what stays in the CPU's caches. */
#define RECEIVE_MOST ((size_t)256 << 10)
#define BUFFER_SIZE (sizeof(struct copy_head) + COPY_BODY_MOST + RECEIVE_MOST)
/* Descriptors that may be under way and not yet told of. */
#define UNTOLD_MOST 4u
#define ERRNO_MOST 4095
#define XATTR_NAME_MOST 255u
#define NANOSECONDS 1000000000u

/* Where in the grammar of copy_stream.h. */
enum place {
	PLACE_START,
	PLACE_BETWEEN,	 /* entries */
	PLACE_ENTERED,	 /* a directory: its attributes may follow */
	PLACE_DIRECTORY, /* its named streams may, still */
	PLACE_ENTRY,	 /* its attributes may follow */
	PLACE_CONTENT,
	PLACE_STREAM, /* content of a named stream */
	PLACE_FINISHED,
};

/* What events point to; one piece of memory. */
struct memory {
	unsigned char buffer[BUFFER_SIZE];
	struct lkl_stat stat;
	char name[COPY_NAME_MOST + 1];
	char target[COPY_LINK_MOST + 1];
};

struct lkn_stream {
	int socket;
	int patience;
	struct memory *memory;
	size_t start, end; /* of what has come and was not told */
	int failed;	   /* the negative errno it ended by */
	const char *problem;

	enum place place;
	uint32_t depth;
	unsigned char modes[COPY_DEPTH_MOST + 1]; /* answers, by depth */
	uint32_t answer;			  /* due: LKN_ANSWER_* or 0 */
	uint64_t number;			  /* of the last entry */

	struct copy_entry entry; /* at work */
	bool target;		 /* it is a symbolic link and has one */
	uint64_t left;		 /* of its content */
	uint32_t data_left;	 /* of a DATA message */

	uint32_t candidates; /* of the last message of these */
	uint32_t candidate;  /* to be told next */
	size_t candidate_at; /* in the buffer */

	int files[COPY_DESCRIPTORS_MOST];
	uint32_t file_count;
	int untold[UNTOLD_MOST];
	uint32_t untold_count;
};

int lkn_stream_open(int socket, int patience, struct lkn_stream **result)
{
	struct lkn_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return -ENOMEM;
	stream->memory = malloc(sizeof(*stream->memory));
	if (!stream->memory) {
		free(stream);
		return -ENOMEM;
	}
	stream->socket = socket;
	stream->patience = patience;
	stream->modes[0] = COPY_ASK;
	*result = stream;
	return 0;
}

void lkn_stream_close(struct lkn_stream *stream)
{
	for (uint32_t i = 0; i < stream->file_count; i++)
		close(stream->files[i]);
	for (uint32_t i = 0; i < stream->untold_count; i++)
		close(stream->untold[i]);
	free(stream->memory);
	free(stream);
}

const unsigned char *lkn_stream_memory(const struct lkn_stream *stream,
				       size_t *size)
{
	*size = sizeof(*stream->memory);
	return (const unsigned char *)stream->memory;
}

const char *lkn_stream_problem(const struct lkn_stream *stream)
{
	return stream->problem;
}

static int broken(struct lkn_stream *stream, const char *problem)
{
	stream->problem = problem;
	stream->failed = -EPROTO;
	return -EPROTO;
}

/* ---- The socket -------------------------------------------------------- */

static int take_files(struct lkn_stream *stream, struct msghdr *message)
{
	bool many = message->msg_flags & MSG_CTRUNC;

	for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control;
	     control = CMSG_NXTHDR(message, control)) {
		size_t count;

		if (control->cmsg_level != SOL_SOCKET ||
		    control->cmsg_type != SCM_RIGHTS)
			continue;
		count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int file;

			memcpy(&file, CMSG_DATA(control) + i * sizeof(file),
			       sizeof(file));
			if (stream->untold_count < UNTOLD_MOST) {
				stream->untold[stream->untold_count++] = file;
			} else {
				close(file);
				many = true;
			}
		}
	}
	return many ? broken(stream, "too many descriptors") : 0;
}

/* Takes more from the socket; an errno, of which -EAGAIN can be tried again. */
static int receive(struct lkn_stream *stream)
{
	union {
		char bytes[CMSG_SPACE(UNTOLD_MOST * sizeof(int))];
		struct cmsghdr aligned;
	} control;
	unsigned char *buffer = stream->memory->buffer;
	struct iovec part;
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	struct pollfd waiting = {.fd = stream->socket, .events = POLLIN};
	ssize_t got;

	if (stream->start) {
		stream->end -= stream->start;
		memmove(buffer, buffer + stream->start, stream->end);
		stream->start = 0;
	}
	part.iov_base = buffer + stream->end;
	part.iov_len = BUFFER_SIZE - stream->end;
	if (part.iov_len > RECEIVE_MOST)
		part.iov_len = RECEIVE_MOST;
	for (;;) {
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
		got = recvmsg(stream->socket, &message,
			      MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (got >= 0)
			break;
		if (errno == EAGAIN) {
			int ready = poll(&waiting, 1, stream->patience);

			if (ready > 0)
				continue;
			/* A signal is for the caller to see, too. */
			return ready == 0 || errno == EINTR ? -EAGAIN : -errno;
		}
		if (errno != EINTR)
			return stream->failed = -errno;
	}
	if (got == 0)
		return stream->failed = -ECONNRESET;
	stream->end += (size_t)got;
	return take_files(stream, &message);
}

/* Makes sure that so many bytes are there. */
static int need(struct lkn_stream *stream, size_t length)
{
	while (stream->end - stream->start < length) {
		int error = receive(stream);

		if (error)
			return error;
	}
	return 0;
}

static int answer(struct lkn_stream *stream, uint32_t kind, const void *body,
		  size_t length)
{
	struct copy_head head = {.kind = kind, .length = (uint32_t)length};
	struct iovec parts[2] = {
	    {&head, sizeof(head)},
	    {(void *)body, length},
	};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	ssize_t sent;

	do
		/* One answer is under way at most: there is always room. */
		sent = sendmsg(stream->socket, &message,
			       MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	stream->answer = 0;
	if (sent < 0 && errno != EAGAIN)
		return stream->failed = errno == EPIPE ? -ECONNRESET : -errno;
	if (sent != (ssize_t)(sizeof(head) + length))
		return broken(stream, "answers are not taken");
	return 0;
}

int lkn_stream_answer_mode(struct lkn_stream *stream, uint32_t mode)
{
	if (stream->failed || stream->answer != LKN_ANSWER_MODE ||
	    mode > COPY_UNUSABLE)
		return stream->failed ? stream->failed : -EINVAL;
	stream->modes[stream->depth] = (unsigned char)mode;
	return answer(stream, COPY_MODE, &mode, sizeof(mode));
}

int lkn_stream_answer_wanted(struct lkn_stream *stream,
			     const unsigned char *wanted, size_t count)
{
	if (stream->failed || stream->answer != LKN_ANSWER_WANTED ||
	    count != stream->candidates)
		return stream->failed ? stream->failed : -EINVAL;
	return answer(stream, COPY_WANTED, wanted, count);
}

/* ---- Parts of messages ------------------------------------------------- */

static bool errno_is_sound(int32_t error)
{
	return error <= 0 && error >= -ERRNO_MOST;
}

static bool stat_is_sound(const struct lkl_stat *stat)
{
	return stat->access_nanoseconds < NANOSECONDS &&
	       stat->modify_nanoseconds < NANOSECONDS &&
	       stat->change_nanoseconds < NANOSECONDS &&
	       stat->birth_nanoseconds < NANOSECONDS && stat->size <= INT64_MAX;
}

static bool name_is_sound(const char *name, size_t length)
{
	return length > 0 && !memchr(name, '/', length) &&
	       !memchr(name, '\0', length) &&
	       !(name[0] == '.' &&
		 (length == 1 || (length == 2 && name[1] == '.')));
}

static bool type_is_known(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return true;
	}
	return false;
}

/*
 * Takes a struct copy_entry with its name from the front of a body and checks
 * what holds for all of them: the bytes taken, or -EPROTO.
 */
static int64_t take_entry(struct lkn_stream *stream, const unsigned char *body,
			  size_t length, struct copy_entry *entry)
{
	struct memory *memory = stream->memory;

	if (length < sizeof(*entry))
		return broken(stream, "an entry is cut short");
	memcpy(entry, body, sizeof(*entry));
	if (entry->name_length > COPY_NAME_MOST ||
	    entry->name_length > length - sizeof(*entry))
		return broken(stream, "length of a name");
	if (!stat_is_sound(&entry->stat))
		return broken(stream, "numbers of a stat");
	if (!errno_is_sound(entry->error))
		return broken(stream, "number of an error");
	memcpy(memory->name, body + sizeof(*entry), entry->name_length);
	memory->name[entry->name_length] = '\0';
	memory->stat = entry->stat;
	return (int64_t)(sizeof(*entry) + entry->name_length);
}

static void tell_entry(const struct lkn_stream *stream,
		       const struct copy_entry *entry, struct lkn_event *event)
{
	event->flags = entry->flags;
	event->number = entry->number;
	event->first = entry->first;
	event->name_length = entry->name_length;
	event->name = stream->memory->name;
	event->stat = &stream->memory->stat;
}

/* The number of what is told now is the next one. */
static int count_entry(struct lkn_stream *stream,
		       const struct copy_entry *entry)
{
	if (entry->number != stream->number + 1)
		return broken(stream, "number of an entry");
	stream->number++;
	return 0;
}

/* ---- Messages ---------------------------------------------------------- */

static int take_begin(struct lkn_stream *stream, const unsigned char *body,
		      size_t length)
{
	struct copy_begin begin;

	if (stream->place != PLACE_START || length != sizeof(begin))
		return broken(stream, "BEGIN");
	memcpy(&begin, body, sizeof(begin));
	if (begin.magic != COPY_STREAM_MAGIC)
		return broken(stream, "another kind of stream");
	if (begin.version != COPY_STREAM_VERSION)
		return broken(stream, "another version");
	stream->place = PLACE_BETWEEN;
	return 0;
}

static int take_enter(struct lkn_stream *stream, const unsigned char *body,
		      size_t length, struct lkn_event *event)
{
	struct copy_entry entry;
	int64_t taken = take_entry(stream, body, length, &entry);
	bool contents;

	if (taken < 0)
		return (int)taken;
	if ((size_t)taken != length || entry.error || entry.reason ||
	    entry.first || entry.flags & ~(COPY_CONTENTS | COPY_PLAN) ||
	    !S_ISDIR(entry.stat.mode))
		return broken(stream, "ENTER");
	contents = entry.flags & COPY_CONTENTS;
	if (contents ? stream->depth || entry.name_length
		     : !name_is_sound(stream->memory->name, entry.name_length))
		return broken(stream, "name of a directory");
	if (stream->depth == COPY_DEPTH_MOST)
		return broken(stream, "depth");
	if (count_entry(stream, &entry))
		return -EPROTO;
	tell_entry(stream, &entry, event);
	/* DONE may come for it, too. */
	stream->entry = entry;
	stream->left = 0;
	stream->place = PLACE_ENTERED;
	stream->depth++;
	stream->modes[stream->depth] = COPY_FREE;
	if (stream->modes[stream->depth - 1] == COPY_ASK)
		stream->answer = event->answer = LKN_ANSWER_MODE;
	return 0;
}

static int take_leave(struct lkn_stream *stream, size_t length)
{
	if (length || !stream->depth)
		return broken(stream, "LEAVE");
	stream->depth--;
	stream->place = PLACE_BETWEEN;
	return 0;
}

static int take_link_target(struct lkn_stream *stream,
			    const unsigned char *target, size_t length,
			    struct lkn_event *event)
{
	if (length > COPY_LINK_MOST || memchr(target, '\0', length))
		return broken(stream, "target of a link");
	memcpy(stream->memory->target, target, length);
	stream->memory->target[length] = '\0';
	stream->target = length > 0;
	event->data = (unsigned char *)stream->memory->target;
	event->length = length;
	return 0;
}

static int take_one_entry(struct lkn_stream *stream, const unsigned char *body,
			  size_t length, struct lkn_event *event)
{
	struct copy_entry *entry = &stream->entry;
	int64_t taken = take_entry(stream, body, length, entry);
	bool linked;

	if (taken < 0)
		return (int)taken;
	linked = entry->flags & COPY_LINKED;
	if (entry->error || entry->reason ||
	    entry->flags & ~(COPY_PLAN | COPY_LINKED) ||
	    !type_is_known(entry->stat.mode) || S_ISDIR(entry->stat.mode))
		return broken(stream, "ENTRY");
	if (!name_is_sound(stream->memory->name, entry->name_length))
		return broken(stream, "name of an entry");
	if (linked ? !entry->first || entry->first >= entry->number
		   : entry->first != 0)
		return broken(stream, "first link of an entry");
	if (count_entry(stream, entry))
		return -EPROTO;
	tell_entry(stream, entry, event);
	stream->target = false;
	stream->left = 0;
	if (S_ISLNK(entry->stat.mode)) {
		if (take_link_target(stream, body + taken,
				     length - (size_t)taken, event))
			return -EPROTO;
	} else if ((size_t)taken != length) {
		return broken(stream, "length of an entry");
	}
	if (S_ISREG(entry->stat.mode) && !entry->flags)
		stream->left = entry->stat.size;
	stream->place = PLACE_ENTRY;
	return 0;
}

static int take_refused(struct lkn_stream *stream, const unsigned char *body,
			size_t length, struct lkn_event *event)
{
	struct copy_entry entry;
	int64_t taken = take_entry(stream, body, length, &entry);

	if (taken < 0)
		return (int)taken;
	/* Its name is what cannot be right: it may be anything. */
	if ((size_t)taken != length || !entry.error ||
	    entry.reason > COPY_SPECIAL || entry.first ||
	    entry.flags & ~COPY_PLAN)
		return broken(stream, "REFUSED");
	if (count_entry(stream, &entry))
		return -EPROTO;
	tell_entry(stream, &entry, event);
	event->error = entry.error;
	event->operation = entry.reason;
	stream->place = PLACE_BETWEEN;
	return 0;
}

static int take_xattrs(struct lkn_stream *stream, const unsigned char *body,
		       size_t length, struct lkn_event *event)
{
	if ((stream->place != PLACE_ENTERED && stream->place != PLACE_ENTRY) ||
	    length > COPY_XATTRS_MOST ||
	    (stream->place == PLACE_ENTRY && stream->entry.flags))
		return broken(stream, "XATTRS");
	for (size_t at = 0; at < length;) {
		uint32_t lengths[2];
		uint64_t size;

		if (length - at < sizeof(lengths))
			return broken(stream, "attributes are cut short");
		memcpy(lengths, body + at, sizeof(lengths));
		size =
		    (sizeof(lengths) + (uint64_t)lengths[0] + lengths[1] + 7) &
		    ~(uint64_t)7;
		if (size > length - at || !lengths[0] ||
		    lengths[0] > XATTR_NAME_MOST ||
		    memchr(body + at + sizeof(lengths), '\0', lengths[0]))
			return broken(stream, "an attribute");
		at += size;
	}
	event->data = body;
	event->length = length;
	stream->place =
	    stream->place == PLACE_ENTRY ? PLACE_CONTENT : PLACE_DIRECTORY;
	return 0;
}

/* Counts bytes of content: of the entry itself, or of a named stream. */
static int count_content(struct lkn_stream *stream, uint64_t length)
{
	if (!length || length > INT64_MAX)
		return broken(stream, "length of content");
	if (stream->place == PLACE_STREAM)
		return 0;
	if (length > stream->left)
		return broken(stream, "more content than its size");
	stream->left -= length;
	stream->place = PLACE_CONTENT;
	return 0;
}

static int take_hole(struct lkn_stream *stream, const unsigned char *body,
		     size_t length, struct lkn_event *event)
{
	if (length != sizeof(event->length))
		return broken(stream, "HOLE");
	memcpy(&event->length, body, sizeof(event->length));
	return count_content(stream, event->length);
}

static int take_extent(struct lkn_stream *stream, const unsigned char *body,
		       size_t length, struct lkn_event *event)
{
	struct copy_extent extent;

	if (length != sizeof(extent))
		return broken(stream, "EXTENT");
	memcpy(&extent, body, sizeof(extent));
	if (extent.descriptor >= stream->file_count || extent.reserved ||
	    extent.position > INT64_MAX ||
	    extent.length > INT64_MAX - extent.position)
		return broken(stream, "EXTENT");
	event->file = stream->files[extent.descriptor];
	event->position = extent.position;
	event->length = extent.length;
	return count_content(stream, extent.length);
}

static int take_bad(struct lkn_stream *stream, const unsigned char *body,
		    size_t length, struct lkn_event *event)
{
	struct copy_bad bad;

	if (length != sizeof(bad))
		return broken(stream, "BAD");
	memcpy(&bad, body, sizeof(bad));
	if (!bad.error || !errno_is_sound(bad.error) || bad.reserved)
		return broken(stream, "BAD");
	event->error = bad.error;
	event->length = bad.length;
	return count_content(stream, bad.length);
}

static int take_stream(struct lkn_stream *stream, const unsigned char *body,
		       size_t length, struct lkn_event *event)
{
	struct memory *memory = stream->memory;

	if (length > COPY_NAME_MOST ||
	    !name_is_sound((const char *)body, length) ||
	    stream->entry.flags & ~COPY_CONTENTS)
		return broken(stream, "name of a stream");
	memcpy(memory->name, body, length);
	memory->name[length] = '\0';
	event->name = memory->name;
	event->name_length = (uint32_t)length;
	stream->place = PLACE_STREAM;
	return 0;
}

static int take_result(struct lkn_stream *stream, const unsigned char *body,
		       size_t length, struct lkn_event *event)
{
	struct copy_done done;

	if (length != sizeof(done))
		return broken(stream, "length of a result");
	memcpy(&done, body, sizeof(done));
	if (!errno_is_sound(done.error) || done.operation > COPY_SPECIAL)
		return broken(stream, "a result");
	event->error = done.error;
	event->operation = done.operation;
	return 0;
}

static int take_done(struct lkn_stream *stream, const unsigned char *body,
		     size_t length, struct lkn_event *event)
{
	const struct copy_entry *entry = &stream->entry;
	bool whole;

	if (take_result(stream, body, length, event))
		return -EPROTO;
	whole = !event->error || event->operation == COPY_READ_XATTRS ||
		event->operation == COPY_READ_STREAM;
	if (whole && stream->left)
		return broken(stream, "less content than its size");
	if (whole && S_ISLNK(entry->stat.mode) && !stream->target &&
	    !entry->flags)
		return broken(stream, "a link without target");
	stream->place = PLACE_BETWEEN;
	return 0;
}

static int take_broken(struct lkn_stream *stream, const unsigned char *body,
		       size_t length, struct lkn_event *event)
{
	if (take_result(stream, body, length, event))
		return -EPROTO;
	if (!stream->depth || !event->error)
		return broken(stream, "BROKEN");
	stream->place = PLACE_BETWEEN;
	return 0;
}

static int take_descriptor(struct lkn_stream *stream, size_t length)
{
	struct stat stat;
	int file, flags;

	if (length || !stream->untold_count)
		return broken(stream, "DESCRIPTOR");
	if (stream->file_count == COPY_DESCRIPTORS_MOST)
		return broken(stream, "too many descriptors");
	file = stream->untold[0];
	flags = fcntl(file, F_GETFL);
	/* Neither what blocks, nor what could be written to by a mistake. */
	if (fstat(file, &stat) < 0 || flags < 0 ||
	    (!S_ISREG(stat.st_mode) && !S_ISBLK(stat.st_mode)) ||
	    (flags & O_ACCMODE) != O_RDONLY || flags & O_PATH)
		return broken(stream, "a descriptor of another kind");
	stream->untold_count--;
	memmove(stream->untold, stream->untold + 1,
		stream->untold_count * sizeof(stream->untold[0]));
	stream->files[stream->file_count++] = file;
	return 0;
}

static int take_candidates(struct lkn_stream *stream, const unsigned char *body,
			   size_t length, struct lkn_event *event)
{
	uint32_t count = 0;

	if (stream->modes[stream->depth] != COPY_ASK)
		return broken(stream, "CANDIDATES that nobody asked for");
	for (size_t at = 0; at < length; count++) {
		struct copy_entry entry;
		int64_t taken =
		    take_entry(stream, body + at, length - at, &entry);

		if (taken < 0)
			return (int)taken;
		taken = (taken + 7) & ~(int64_t)7;
		if ((size_t)taken > length - at || entry.number ||
		    entry.first || entry.error || entry.reason ||
		    entry.flags & ~COPY_PLAN ||
		    !type_is_known(entry.stat.mode) ||
		    !name_is_sound(stream->memory->name, entry.name_length))
			return broken(stream, "a candidate");
		at += (size_t)taken;
	}
	if (!count || count > COPY_CANDIDATES_MOST)
		return broken(stream, "number of candidates");
	stream->place = PLACE_BETWEEN;
	stream->candidates = count;
	stream->candidate = 0;
	stream->candidate_at = (size_t)(body - stream->memory->buffer);
	stream->answer = event->answer = LKN_ANSWER_WANTED;
	event->length = count;
	return 0;
}

int lkn_stream_candidate(struct lkn_stream *stream, struct lkn_event *event)
{
	struct copy_entry entry;
	int64_t taken;

	if (stream->candidate == stream->candidates)
		return 0;
	*event = (struct lkn_event){
	    .kind = COPY_CANDIDATES,
	    .depth = stream->depth,
	    .file = -1,
	};
	/* It was found sound when it came, and has not changed since. */
	taken =
	    take_entry(stream, stream->memory->buffer + stream->candidate_at,
		       BUFFER_SIZE - stream->candidate_at, &entry);
	stream->candidate_at += ((size_t)taken + 7) & ~(size_t)7;
	stream->candidate++;
	tell_entry(stream, &entry, event);
	return 1;
}

static int take_finish(struct lkn_stream *stream, const unsigned char *body,
		       size_t length, struct lkn_event *event)
{
	struct copy_finish finish;

	if (length != sizeof(finish))
		return broken(stream, "FINISH");
	memcpy(&finish, body, sizeof(finish));
	if (!errno_is_sound(finish.error) || finish.reserved)
		return broken(stream, "FINISH");
	if (finish.entries != stream->number)
		return broken(stream, "accounts");
	/* What ended early may have left off anywhere. */
	if (stream->depth && !finish.error)
		return broken(stream, "FINISH within a directory");
	if (stream->start != stream->end)
		return broken(stream, "something after FINISH");
	event->error = finish.error;
	event->length = finish.entries;
	stream->place = PLACE_FINISHED;
	return 0;
}

/* Whether a message of a kind may stand here; the rest is its own affair. */
static bool is_in_place(const struct lkn_stream *stream, uint32_t kind)
{
	switch (stream->place) {
	case PLACE_START:
		return kind == COPY_BEGIN;
	case PLACE_BETWEEN:
	case PLACE_ENTERED:
	case PLACE_DIRECTORY:
		if (stream->modes[stream->depth] == COPY_UNUSABLE)
			return kind == COPY_LEAVE || kind == COPY_XATTRS ||
			       kind == COPY_FINISH;
		switch (kind) {
		case COPY_ENTER:
		case COPY_LEAVE:
		case COPY_CANDIDATES:
		case COPY_ENTRY:
		case COPY_XATTRS:
		case COPY_REFUSED:
		case COPY_BROKEN:
		case COPY_DESCRIPTOR:
		case COPY_FINISH:
			return true;
		case COPY_STREAM:
			return stream->place != PLACE_BETWEEN;
		}
		return false;
	case PLACE_ENTRY:
	case PLACE_CONTENT:
	case PLACE_STREAM:
		switch (kind) {
		case COPY_XATTRS:
		case COPY_DATA:
		case COPY_HOLE:
		case COPY_EXTENT:
		case COPY_BAD:
		case COPY_STREAM:
		case COPY_DONE:
			return true;
		}
		return false;
	case PLACE_FINISHED:
		break;
	}
	return false;
}

static int take(struct lkn_stream *stream, uint32_t kind,
		const unsigned char *body, size_t length,
		struct lkn_event *event)
{
	switch (kind) {
	case COPY_BEGIN:
		return take_begin(stream, body, length);
	case COPY_ENTER:
		return take_enter(stream, body, length, event);
	case COPY_LEAVE:
		return take_leave(stream, length);
	case COPY_CANDIDATES:
		return take_candidates(stream, body, length, event);
	case COPY_ENTRY:
		return take_one_entry(stream, body, length, event);
	case COPY_XATTRS:
		return take_xattrs(stream, body, length, event);
	case COPY_HOLE:
		return take_hole(stream, body, length, event);
	case COPY_EXTENT:
		return take_extent(stream, body, length, event);
	case COPY_BAD:
		return take_bad(stream, body, length, event);
	case COPY_STREAM:
		return take_stream(stream, body, length, event);
	case COPY_DONE:
		return take_done(stream, body, length, event);
	case COPY_REFUSED:
		return take_refused(stream, body, length, event);
	case COPY_BROKEN:
		return take_broken(stream, body, length, event);
	case COPY_DESCRIPTOR:
		return take_descriptor(stream, length);
	default:
		return take_finish(stream, body, length, event);
	}
}

/* Tells of what is there of a DATA message, or waits until there is some. */
static int next_data(struct lkn_stream *stream, struct lkn_event *event)
{
	size_t length;
	int error = need(stream, 1);

	if (error)
		return error;
	length = stream->end - stream->start;
	if (length > stream->data_left)
		length = stream->data_left;
	*event = (struct lkn_event){
	    .kind = COPY_DATA,
	    .depth = stream->depth,
	    .file = -1,
	    .number = stream->entry.number,
	    .data = stream->memory->buffer + stream->start,
	    .length = length,
	};
	stream->start += length;
	stream->data_left -= (uint32_t)length;
	return 1;
}

int lkn_stream_next(struct lkn_stream *stream, struct lkn_event *event)
{
	struct copy_head head;
	const unsigned char *body;
	int error;

	if (stream->failed)
		return stream->failed;
	if (stream->place == PLACE_FINISHED)
		return 0;
	if (stream->answer)
		return -EINVAL;
	if (stream->data_left)
		return next_data(stream, event);
	error = need(stream, sizeof(head));
	if (error)
		return error;
	memcpy(&head, stream->memory->buffer + stream->start, sizeof(head));
	if (head.length > COPY_BODY_MOST)
		return broken(stream, "length of a message");
	if (!is_in_place(stream, head.kind))
		return broken(stream, "a message out of place");
	if (head.kind == COPY_DATA) {
		if (count_content(stream, head.length))
			return -EPROTO;
		stream->start += sizeof(head);
		stream->data_left = head.length;
		return next_data(stream, event);
	}
	error = need(stream, sizeof(head) + head.length);
	if (error)
		return error;
	*event = (struct lkn_event){
	    .kind = head.kind,
	    .depth = stream->depth,
	    .file = -1,
	    .number = stream->entry.number,
	};
	body = stream->memory->buffer + stream->start + sizeof(head);
	stream->start += sizeof(head) + head.length;
	error = take(stream, head.kind, body, head.length, event);
	return error ? error : 1;
}
