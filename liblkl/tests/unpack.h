/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other side of lkl_pack: a thread that holds what it receives against the
 * grammar of copy_stream.h, answers as it is told to, and keeps all in memory.
 * It has no code in common with the program's own reader.
 */
#ifndef UNPACK_H
#define UNPACK_H

#include "../shared/copy_stream.h"
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Content of larger files is counted, not kept. */
#define KEPT_MOST (INT64_C(256) << 20)

/* An ENTER, ENTRY or REFUSED and what followed it. */
struct node {
	char *path; /* below the destination */
	uint32_t kind;
	struct copy_entry entry;
	unsigned char *content;
	uint64_t length; /* so far: the sum of what follows */
	uint64_t data, holes, extents, bad;
	uint64_t bad_at; /* of the first of them */
	uint32_t bads, messages;
	char *target;
	unsigned char *xattrs;
	size_t xattrs_size;
	char *streams;	       /* "name=content;" of each */
	struct copy_done done; /* of ENTER: of its streams */
	struct copy_done broken;
};

struct unpack {
	/* What to answer; NULL: all is wanted, nothing stands there. */
	uint32_t (*mode)(const char *path);
	bool (*wanted)(const char *path, const struct copy_entry *entry);
	/* Sent instead of the first answer: what is not one. */
	const void *wrong;
	size_t wrong_length;
	/* Bytes after which it stops to read, for some time or for ever. */
	uint64_t stop_after;
	bool close_then;
	unsigned pause; /* microseconds before each message */

	int sockets[2]; /* the packer's, ours */
	pthread_t thread;
	char problem[200]; /* the first one */
	struct node *nodes;
	size_t count;
	uint32_t asked_modes, asked_candidates, candidates;
	uint32_t files[COPY_DESCRIPTORS_MOST];
	uint32_t file_count;
	bool finished, ended;
	struct copy_finish finish;

	uint64_t received;
	int untold;			   /* a descriptor that came, or -1 */
	size_t stack[COPY_DEPTH_MOST + 1]; /* nodes */
	bool below[COPY_DEPTH_MOST + 1];   /* a directory was entered in it */
	unsigned char modes[COPY_DEPTH_MOST + 1];
	uint32_t depth;
	unsigned char *body;
};

/* Shown by the test when it is set; only the first counts. */
__attribute__((format(printf, 2, 3), unused)) static bool
wrong(struct unpack *unpack, const char *format, ...)
{
	va_list arguments;

	if (unpack->problem[0])
		return false;
	va_start(arguments, format);
	vsnprintf(unpack->problem, sizeof(unpack->problem), format, arguments);
	va_end(arguments);
	return false;
}

static bool unpack_receive(struct unpack *unpack, void *bytes, size_t length)
{
	size_t at = 0;

	while (at < length) {
		char space[CMSG_SPACE(4 * sizeof(int))];
		struct iovec part = {(char *)bytes + at, length - at};
		struct msghdr message = {
		    .msg_iov = &part,
		    .msg_iovlen = 1,
		    .msg_control = space,
		    .msg_controllen = sizeof(space),
		};
		struct cmsghdr *control;
		ssize_t got = recvmsg(unpack->sockets[1], &message, 0);

		if (got <= 0) {
			unpack->ended = true;
			return at ? wrong(unpack, "ends in a message") : false;
		}
		control = CMSG_FIRSTHDR(&message);
		if (control && unpack->untold >= 0)
			return wrong(unpack, "a descriptor not told of");
		if (control)
			memcpy(&unpack->untold, CMSG_DATA(control),
			       sizeof(int));
		at += (size_t)got;
	}
	unpack->received += length;
	return true;
}

static bool unpack_answer(struct unpack *unpack, uint32_t kind,
			  const void *body, size_t length)
{
	struct copy_head head = {kind, (uint32_t)length};

	if (unpack->wrong) {
		send(unpack->sockets[1], unpack->wrong, unpack->wrong_length,
		     MSG_NOSIGNAL);
		unpack->wrong = NULL;
		return true;
	}
	send(unpack->sockets[1], &head, sizeof(head), MSG_NOSIGNAL);
	send(unpack->sockets[1], body, length, MSG_NOSIGNAL);
	return true;
}

/* A new path: that of the directory entered last, and a name. */
static char *unpack_path(const struct unpack *unpack, const char *name,
			 size_t length)
{
	const char *above =
	    unpack->depth ? unpack->nodes[unpack->stack[unpack->depth]].path
			  : "";
	size_t before = strlen(above);
	char *path = malloc(before + length + 2);

	sprintf(path, "%s%s%.*s", above, before && length ? "/" : "",
		(int)length, name);
	return path;
}

static struct node *add_node(struct unpack *unpack, uint32_t kind,
			     const struct copy_entry *entry, const char *name)
{
	struct node *node;

	if (unpack->count % 1024 == 0)
		unpack->nodes =
		    realloc(unpack->nodes,
			    (unpack->count + 1024) * sizeof(*unpack->nodes));
	node = &unpack->nodes[unpack->count++];
	*node = (struct node){
	    .path = unpack_path(unpack, name, entry->name_length),
	    .kind = kind,
	    .entry = *entry,
	};
	if (entry->number != unpack->count)
		wrong(unpack, "%s has number %d, not %d", node->path,
		      (int)entry->number, (int)unpack->count);
	return node;
}

static bool take_candidates(struct unpack *unpack, uint32_t length)
{
	static unsigned char wanted[COPY_CANDIDATES_MOST];
	uint32_t count = 0;

	if (unpack->modes[unpack->depth] != COPY_ASK)
		return wrong(unpack, "CANDIDATES, not asked for");
	for (uint32_t at = 0; at < length; count++) {
		struct copy_entry entry;
		const char *name;
		char *path;

		memcpy(&entry, unpack->body + at, sizeof(entry));
		name = (char *)unpack->body + at + sizeof(entry);
		if (entry.number || entry.first || entry.error || entry.reason)
			return wrong(unpack, "a candidate with numbers");
		path = unpack_path(unpack, name, entry.name_length);
		wanted[count] = !unpack->wanted || unpack->wanted(path, &entry);
		free(path);
		at += (uint32_t)(sizeof(entry) + entry.name_length + 7) & ~7u;
		if (at > length)
			return wrong(unpack, "a candidate that is cut off");
	}
	unpack->asked_candidates++;
	unpack->candidates += count;
	return unpack_answer(unpack, COPY_WANTED, wanted, count);
}

static bool take_entry(struct unpack *unpack, uint32_t kind, uint32_t length,
		       struct node **at)
{
	const char *name = (char *)unpack->body + sizeof(struct copy_entry);
	struct copy_entry entry;
	uint32_t mode, rest;

	if (length < sizeof(entry))
		return wrong(unpack, "a short entry");
	memcpy(&entry, unpack->body, sizeof(entry));
	if (length < sizeof(entry) + entry.name_length)
		return wrong(unpack, "a short name");
	*at = add_node(unpack, kind, &entry, name);
	rest = length - (uint32_t)sizeof(entry) - entry.name_length;
	if (kind == COPY_ENTRY && S_ISLNK(entry.stat.mode))
		(*at)->target = strndup(name + entry.name_length, rest);
	else if (rest)
		return wrong(unpack, "%s: %u bytes too many", (*at)->path,
			     rest);
	if (kind == COPY_REFUSED)
		return entry.error < 0 ? true : wrong(unpack, "REFUSED: why?");
	if (entry.error || entry.reason)
		return wrong(unpack, "%s: an error", (*at)->path);
	if (kind == COPY_ENTRY) {
		if (unpack->below[unpack->depth] && unpack->depth)
			return wrong(unpack, "%s: after a directory",
				     (*at)->path);
		if (S_ISDIR(entry.stat.mode))
			return wrong(unpack, "%s: a directory", (*at)->path);
		if (!(entry.flags & COPY_LINKED) != !entry.first ||
		    entry.first >= entry.number)
			return wrong(unpack, "%s: first", (*at)->path);
		if (S_ISREG(entry.stat.mode) &&
		    (int64_t)entry.stat.size <= KEPT_MOST)
			(*at)->content = calloc(1, entry.stat.size + 1);
		return true;
	}
	if (!S_ISDIR(entry.stat.mode))
		return wrong(unpack, "%s: no directory", (*at)->path);
	if (!entry.name_length !=
	    (entry.flags & COPY_CONTENTS && unpack->depth == 0))
		return wrong(unpack, "a directory without name");
	unpack->below[unpack->depth] = true;
	mode = COPY_FREE;
	if (unpack->modes[unpack->depth] == COPY_ASK) {
		mode = unpack->mode ? unpack->mode((*at)->path) : COPY_FREE;
		unpack->asked_modes++;
		unpack_answer(unpack, COPY_MODE, &mode, sizeof(mode));
	}
	if (++unpack->depth > COPY_DEPTH_MOST)
		return wrong(unpack, "too deep");
	unpack->stack[unpack->depth] = unpack->count - 1;
	unpack->modes[unpack->depth] = (unsigned char)mode;
	unpack->below[unpack->depth] = false;
	return true;
}

/* Bytes of a named stream go to the end of a text. */
static void add_stream(struct node *node, const void *bytes, size_t length)
{
	size_t before = node->streams ? strlen(node->streams) : 0;

	node->streams = realloc(node->streams, before + length + 1);
	memcpy(node->streams + before, bytes, length);
	node->streams[before + length] = '\0';
}

static bool take_content(struct unpack *unpack, struct node *node, bool stream,
			 uint32_t kind, uint32_t length)
{
	struct copy_extent extent;
	struct copy_bad bad;
	uint64_t size;

	if (stream) {
		add_stream(node, unpack->body, length);
		return kind == COPY_DATA ? true : wrong(unpack, "a stream");
	}
	switch (kind) {
	case COPY_DATA:
		size = length;
		node->data += size;
		break;
	case COPY_HOLE:
		memcpy(&size, unpack->body, sizeof(size));
		node->holes += size;
		break;
	case COPY_BAD:
		memcpy(&bad, unpack->body, sizeof(bad));
		size = bad.length;
		if (!node->bads++)
			node->bad_at = node->length;
		node->bad += size;
		break;
	default:
		memcpy(&extent, unpack->body, sizeof(extent));
		size = extent.length;
		node->extents += size;
		if (extent.descriptor >= unpack->file_count)
			return wrong(unpack, "a descriptor that never came");
	}
	if (!size || size > node->entry.stat.size - node->length)
		return wrong(unpack, "%s: more than its size", node->path);
	node->messages++;
	if (node->content && kind == COPY_DATA)
		memcpy(node->content + node->length, unpack->body, size);
	if (node->content && kind == COPY_EXTENT &&
	    pread((int)unpack->files[extent.descriptor],
		  node->content + node->length, size,
		  (off_t)extent.position) != (ssize_t)size)
		return wrong(unpack, "%s: an extent", node->path);
	node->length += size;
	return true;
}

static bool take_done(struct unpack *unpack, struct node *node, bool entry)
{
	memcpy(&node->done, unpack->body, sizeof(node->done));
	if (entry && !node->done.error && !node->entry.flags &&
	    S_ISREG(node->entry.stat.mode) &&
	    node->length != node->entry.stat.size)
		return wrong(unpack, "%s: %lld bytes of %lld", node->path,
			     (long long)node->length,
			     (long long)node->entry.stat.size);
	return true;
}

static bool take_descriptor(struct unpack *unpack)
{
	if (unpack->untold < 0 ||
	    (fcntl(unpack->untold, F_GETFL) & O_ACCMODE) != O_RDONLY)
		return wrong(unpack, "no descriptor");
	unpack->files[unpack->file_count++] = (uint32_t)unpack->untold;
	unpack->untold = -1;
	return true;
}

/* The grammar: whether a kind may follow. */
enum unpack_place { BETWEEN, ENTERED, IN_ENTRY, IN_CONTENT, IN_STREAM };

static bool may_follow(enum unpack_place place, bool directory, uint32_t kind)
{
	switch (kind) {
	case COPY_ENTER:
	case COPY_LEAVE:
	case COPY_CANDIDATES:
	case COPY_ENTRY:
	case COPY_REFUSED:
	case COPY_BROKEN:
	case COPY_DESCRIPTOR:
	case COPY_FINISH:
		return place == BETWEEN || place == ENTERED;
	case COPY_XATTRS:
		return place == ENTERED || place == IN_ENTRY;
	case COPY_DATA:
		return place == IN_STREAM ||
		       (!directory && place != BETWEEN && place != ENTERED);
	case COPY_HOLE:
	case COPY_EXTENT:
	case COPY_BAD:
		return place == IN_ENTRY || place == IN_CONTENT;
	case COPY_STREAM:
		return place != BETWEEN;
	case COPY_DONE:
		return place != BETWEEN && place != ENTERED;
	}
	return false;
}

static bool unpack_message(struct unpack *unpack, const struct copy_head *head,
			   enum unpack_place *place, struct node **node)
{
	bool directory = *node && (*node)->kind == COPY_ENTER;

	if (!may_follow(*place, directory, head->kind))
		return wrong(unpack, "%u after %d", head->kind, *place);
	if (unpack->modes[unpack->depth] == COPY_UNUSABLE &&
	    head->kind != COPY_LEAVE && head->kind != COPY_XATTRS)
		return wrong(unpack, "%u in an unusable directory", head->kind);
	switch (head->kind) {
	case COPY_ENTER:
		*place = ENTERED;
		return take_entry(unpack, head->kind, head->length, node);
	case COPY_LEAVE:
		*place = BETWEEN;
		return unpack->depth-- ? true : wrong(unpack, "LEAVE");
	case COPY_CANDIDATES:
		*place = BETWEEN;
		return take_candidates(unpack, head->length);
	case COPY_ENTRY:
		*place = IN_ENTRY;
		return take_entry(unpack, head->kind, head->length, node);
	case COPY_REFUSED:
		*place = BETWEEN;
		return take_entry(unpack, head->kind, head->length, node);
	case COPY_BROKEN:
		*place = BETWEEN;
		memcpy(&unpack->nodes[unpack->stack[unpack->depth]].broken,
		       unpack->body, sizeof(struct copy_done));
		return true;
	case COPY_DESCRIPTOR:
		*place = BETWEEN;
		return take_descriptor(unpack);
	case COPY_XATTRS:
		*place = directory ? ENTERED : IN_CONTENT;
		(*node)->xattrs_size = head->length;
		(*node)->xattrs = malloc(head->length);
		memcpy((*node)->xattrs, unpack->body, head->length);
		return true;
	case COPY_STREAM:
		if (*place == IN_STREAM)
			add_stream(*node, ";", 1);
		add_stream(*node, unpack->body, head->length);
		add_stream(*node, "=", 1);
		*place = IN_STREAM;
		return true;
	case COPY_DONE:
		*place = BETWEEN;
		return take_done(unpack, *node, !directory);
	case COPY_FINISH:
		memcpy(&unpack->finish, unpack->body, sizeof(unpack->finish));
		unpack->finished = true;
		if (unpack->finish.entries != unpack->count)
			return wrong(unpack, "FINISH counts %lld",
				     (long long)unpack->finish.entries);
		return unpack->depth && !unpack->finish.error
			   ? wrong(unpack, "FINISH at depth %u", unpack->depth)
			   : true;
	default:
		if (*place != IN_STREAM)
			*place = IN_CONTENT;
		return take_content(unpack, *node, *place == IN_STREAM,
				    head->kind, head->length);
	}
}

static void *unpack_run(void *opaque)
{
	struct unpack *unpack = opaque;
	enum unpack_place place = BETWEEN;
	struct node *node = NULL;
	struct copy_begin begin = {0, 0};
	struct copy_head head;

	if (!unpack_receive(unpack, &head, sizeof(head)) ||
	    !unpack_receive(unpack, &begin, sizeof(begin)) ||
	    head.kind != COPY_BEGIN || head.length != sizeof(begin) ||
	    begin.magic != COPY_STREAM_MAGIC ||
	    begin.version != COPY_STREAM_VERSION)
		wrong(unpack, "BEGIN");
	while (!unpack->problem[0] && !unpack->finished) {
		if (unpack->stop_after && unpack->received > unpack->stop_after)
			break;
		if (unpack->pause)
			usleep(unpack->pause);
		if (!unpack_receive(unpack, &head, sizeof(head)))
			break;
		if (head.length > COPY_BODY_MOST) {
			wrong(unpack, "a body of %u", head.length);
			break;
		}
		if (!unpack_receive(unpack, unpack->body, head.length) &&
		    head.length)
			break;
		if (!unpack_message(unpack, &head, &place, &node))
			break;
	}
	if (unpack->finished && !unpack->problem[0] &&
	    recv(unpack->sockets[1], &head, 1, MSG_DONTWAIT) > 0)
		wrong(unpack, "something after FINISH");
	if (unpack->close_then || unpack->problem[0])
		shutdown(unpack->sockets[1], SHUT_RDWR);
	return NULL;
}

/* Begins to read; lkl_pack.socket is the result. */
__attribute__((unused)) static int unpack_begin(struct unpack *unpack)
{
	unpack->untold = -1;
	unpack->modes[0] = COPY_ASK;
	unpack->body = malloc(COPY_BODY_MOST);
	need(socketpair(AF_UNIX, SOCK_STREAM, 0, unpack->sockets) == 0,
	     "a pair of sockets");
	pthread_create(&unpack->thread, NULL, unpack_run, unpack);
	return unpack->sockets[0];
}

/* Waits until it has read all; true when nothing was against the rules. */
__attribute__((unused)) static bool unpack_end(struct unpack *unpack)
{
	pthread_join(unpack->thread, NULL);
	close(unpack->sockets[0]);
	close(unpack->sockets[1]);
	if (unpack->problem[0])
		printf("# %s\n", unpack->problem);
	return !unpack->problem[0];
}

/* Packs one entry to the end: what lkl_pack_entry told. */
__attribute__((unused)) static int unpack_pack(struct unpack *unpack,
					       struct lkl_kernel *kernel,
					       const struct lkl_pack *request,
					       int directory, const char *name,
					       const char *target)
{
	struct lkl_pack own = *request;
	struct lkl_packer *packer;
	int error, finish;

	own.socket = unpack_begin(unpack);
	own.disk = -1;
	need(lkl_pack_open(kernel, &own, &packer) == 0, "a packer");
	error = lkl_pack_entry(packer, directory, name, target);
	finish = lkl_pack_finish(packer, 0);
	lkl_pack_close(packer);
	shutdown(own.socket, SHUT_WR);
	ok(unpack_end(unpack), "by the rules");
	if (!error)
		ok(finish == 0 && unpack->finished, "to the end");
	return error;
}

/* Of how many entries something could not be read. */
__attribute__((unused)) static int errors_of(const struct unpack *unpack)
{
	int errors = 0;

	for (size_t i = 0; i < unpack->count; i++) {
		const struct node *node = &unpack->nodes[i];

		errors +=
		    node->entry.error || node->done.error || node->broken.error;
	}
	return errors;
}

__attribute__((unused)) static void unpack_free(struct unpack *unpack)
{
	for (size_t i = 0; i < unpack->count; i++) {
		struct node *node = &unpack->nodes[i];

		free(node->path);
		free(node->content);
		free(node->target);
		free(node->xattrs);
		free(node->streams);
	}
	for (uint32_t i = 0; i < unpack->file_count; i++)
		close((int)unpack->files[i]);
	free(unpack->nodes);
	free(unpack->body);
	*unpack = (struct unpack){0};
}

/* What came under a path, or NULL. */
__attribute__((unused)) static struct node *find_node(struct unpack *unpack,
						      const char *path)
{
	for (size_t i = 0; i < unpack->count; i++)
		if (strcmp(unpack->nodes[i].path, path) == 0)
			return &unpack->nodes[i];
	return NULL;
}

/* ---- To the host ------------------------------------------------------- */

static bool write_content(int fd, const struct node *node)
{
	uint64_t size = node->entry.stat.size;
	static const unsigned char zeros[4096];

	for (uint64_t at = 0; at < size; at += 4096) {
		size_t piece = size - at < 4096 ? size - at : 4096;

		if (memcmp(node->content + at, zeros, piece) != 0 &&
		    pwrite(fd, node->content + at, piece, (off_t)at) !=
			(ssize_t)piece)
			return false;
	}
	return ftruncate(fd, (off_t)size) == 0;
}

static bool write_node(struct unpack *unpack, const struct node *node, int to)
{
	const struct lkl_stat *stat = &node->entry.stat;
	int fd;

	if (node->kind == COPY_ENTER)
		return !node->path[0] || mkdirat(to, node->path, 0700) == 0;
	if (node->entry.flags & COPY_LINKED)
		return linkat(to, unpack->nodes[node->entry.first - 1].path, to,
			      node->path, 0) == 0;
	if (S_ISLNK(stat->mode))
		return symlinkat(node->target, to, node->path) == 0;
	if (!S_ISREG(stat->mode))
		return mknodat(to, node->path, stat->mode,
			       makedev(stat->special_major,
				       stat->special_minor)) == 0;
	fd = openat(to, node->path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0 || !write_content(fd, node))
		return false;
	return close(fd) == 0;
}

static bool write_metadata(const struct node *node, int to)
{
	const struct lkl_stat *stat = &node->entry.stat;
	const struct timespec times[2] = {
	    {stat->access_seconds, stat->access_nanoseconds},
	    {stat->modify_seconds, stat->modify_nanoseconds},
	};
	const char *name = node->path[0] ? node->path : ".";
	char path[4200];

	if (node->entry.flags & COPY_LINKED)
		return true;
	if (geteuid() == 0 &&
	    fchownat(to, name, stat->uid, stat->gid, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", to, name);
	for (size_t at = 0; at < node->xattrs_size;) {
		char attribute[256] = "";
		uint32_t lengths[2];

		memcpy(lengths, node->xattrs + at, 8);
		memcpy(attribute, node->xattrs + at + 8, lengths[0]);
		if (lsetxattr(path, attribute,
			      node->xattrs + at + 8 + lengths[0], lengths[1],
			      0) != 0 &&
		    geteuid() == 0)
			return false;
		at += (8 + lengths[0] + lengths[1] + 7) & ~(size_t)7;
	}
	if (!S_ISLNK(stat->mode) && fchmodat(to, name, stat->mode & 07777, 0))
		return false;
	return utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Makes what came in a new folder: false when something does not go. */
__attribute__((unused)) static bool unpack_write(struct unpack *unpack,
						 const char *folder)
{
	bool right = mkdir(folder, 0700) == 0;
	int to = open(folder, O_RDONLY | O_DIRECTORY);

	for (size_t i = 0; right && i < unpack->count; i++) {
		right = write_node(unpack, &unpack->nodes[i], to);
		if (!right)
			printf("# %s: %s\n", unpack->nodes[i].path,
			       strerror(errno));
	}
	/* What is below first: times of directories come last. */
	for (size_t i = unpack->count; right && i > 0; i--) {
		right = write_metadata(&unpack->nodes[i - 1], to);
		if (!right)
			printf("# %s: metadata: %s\n",
			       unpack->nodes[i - 1].path, strerror(errno));
	}
	close(to);
	return right;
}

#endif
