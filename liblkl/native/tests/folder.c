// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Streams as an engine in bad hands might send them: whatever comes, nothing
 * beside the destination is changed, every entry is accounted for, no part file
 * stays, and the accounts add up.  The number of streams can be given.
 */
#include "copy_stream.h"
#include "native.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define STREAMS 1500
#define STREAM_MOST 65536u

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint32_t chance(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 11) % below;
}

/* ---- A stream ---------------------------------------------------------- */

struct stream {
	unsigned char bytes[STREAM_MOST];
	size_t size;
	uint64_t number;
	uint32_t depth;
};

static void put(struct stream *stream, const void *bytes, size_t length)
{
	if (stream->size + length > sizeof(stream->bytes))
		return;
	if (length)
		memcpy(stream->bytes + stream->size, bytes, length);
	stream->size += length;
}

static void put_message(struct stream *stream, uint32_t kind, const void *body,
			size_t length)
{
	struct copy_head head = {.kind = kind, .length = (uint32_t)length};

	put(stream, &head, sizeof(head));
	put(stream, body, length);
}

static const char *some_name(void)
{
	/* Few, so that they meet, and some that no name is. */
	static const char *const names[] = {
	    "a",   "A",	 "b",	    "out",  "link",   "a%~2",
	    "..",  ".",	 "",	    "a/b",  "../out", "/tmp",
	    "CON", "x.", "con.txt", "\xff", "a:b",    "b",
	};

	return names[chance(20) ? chance(6)
				: chance(sizeof(names) / sizeof(names[0]))];
}

/* A struct copy_entry with its name and more behind it. */
static void put_entry(struct stream *stream, uint32_t kind, const char *name,
		      uint32_t mode, uint64_t size, uint32_t flags,
		      uint64_t first, const char *more)
{
	unsigned char body[sizeof(struct copy_entry) + 256];
	struct copy_entry entry = {
	    .number = ++stream->number,
	    .first = first,
	    .name_length = (uint32_t)strlen(name),
	    .flags = flags,
	    .error = kind == COPY_REFUSED ? -5 : 0,
	    .reason = kind == COPY_REFUSED ? COPY_STAT : 0,
	    .stat = {.mode = (uint16_t)mode,
		     .size = size,
		     .links = 1 + chance(2),
		     .modify_seconds = chance(3)},
	};

	memcpy(body, &entry, sizeof(entry));
	memcpy(body + sizeof(entry), name, entry.name_length);
	memcpy(body + sizeof(entry) + entry.name_length, more, strlen(more));
	put_message(stream, kind, body,
		    sizeof(entry) + entry.name_length + strlen(more));
}

static void put_candidate(struct stream *stream, const char *name,
			  uint32_t mode)
{
	unsigned char body[sizeof(struct copy_entry) + 64] = {0};
	struct copy_entry entry = {
	    .name_length = (uint32_t)strlen(name),
	    .stat = {.mode = (uint16_t)mode},
	};

	memcpy(body, &entry, sizeof(entry));
	memcpy(body + sizeof(entry), name, entry.name_length);
	put_message(stream, COPY_CANDIDATES, body,
		    (sizeof(entry) + entry.name_length + 7) & ~(size_t)7);
}

static void put_done(struct stream *stream, uint32_t kind)
{
	struct copy_done done = {0};

	if (kind == COPY_BROKEN || chance(8) == 0)
		done = (struct copy_done){-5, chance(7)};
	put_message(stream, kind, &done, sizeof(done));
}

static void put_file(struct stream *stream)
{
	uint64_t size = chance(9);
	struct copy_bad bad = {.length = 2, .error = -5};
	struct copy_extent extent = {.position = chance(50), .length = 2};
	uint64_t hole = 2;

	put_entry(stream, COPY_ENTRY, some_name(), S_IFREG | 0644, size, 0, 0,
		  "");
	if (chance(4) == 0)
		put_message(stream, COPY_XATTRS,
			    "\6\0\0\0\1\0\0\0user.a1\0\0\0\0\0\0\0\0\0", 16);
	while (size >= 2 && chance(10)) {
		switch (chance(4)) {
		case 0:
			put_message(stream, COPY_HOLE, &hole, sizeof(hole));
			break;
		case 1:
			put_message(stream, COPY_BAD, &bad, sizeof(bad));
			break;
		case 2:
			put_message(stream, COPY_EXTENT, &extent,
				    sizeof(extent));
			break;
		default:
			put_message(stream, COPY_DATA, "xy", 2);
		}
		size -= 2;
	}
	if (size == 1)
		put_message(stream, COPY_DATA, "z", 1);
	if (chance(8) == 0) {
		put_message(stream, COPY_STREAM, "stream", 6);
		put_message(stream, COPY_DATA, "content", 7);
	}
	put_done(stream, COPY_DONE);
}

static void put_something(struct stream *stream)
{
	static const uint32_t types[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFREG};

	switch (chance(11)) {
	case 0:
	case 1:
		put_entry(stream, COPY_ENTER, some_name(),
			  S_IFDIR | (chance(2) ? 0755 : 0), 0, 0, 0, "");
		stream->depth++;
		break;
	case 2:
	case 3:
		if (stream->depth) {
			put_message(stream, COPY_LEAVE, NULL, 0);
			stream->depth--;
		}
		break;
	case 4:
		put_entry(stream, COPY_ENTRY, some_name(), S_IFLNK | 0777, 0, 0,
			  0, chance(2) ? "../out" : "/proc/self/cwd");
		put_done(stream, COPY_DONE);
		break;
	case 5:
		put_entry(stream, COPY_ENTRY, some_name(),
			  types[chance(4)] | 0600, 0, 0, 0, "");
		put_done(stream, COPY_DONE);
		break;
	case 6:
		put_entry(stream, COPY_ENTRY, some_name(), S_IFREG | 0644, 3,
			  COPY_LINKED, 1 + chance((uint32_t)stream->number + 1),
			  "");
		put_done(stream, COPY_DONE);
		break;
	case 7:
		if (stream->depth && chance(2))
			put_done(stream, COPY_BROKEN);
		else
			put_entry(stream, COPY_REFUSED, some_name(), S_IFREG, 0,
				  0, 0, "");
		break;
	case 8:
		put_candidate(stream, some_name(), S_IFREG | 0600);
		break;
	default:
		put_file(stream);
	}
}

static void make_stream(struct stream *stream)
{
	struct copy_begin begin = {COPY_STREAM_MAGIC, COPY_STREAM_VERSION};
	struct copy_finish finish = {0};
	uint32_t count = chance(40);

	stream->size = stream->number = stream->depth = 0;
	put_message(stream, COPY_BEGIN, &begin, sizeof(begin));
	while (count--)
		put_something(stream);
	while (stream->depth && chance(30)) {
		put_message(stream, COPY_LEAVE, NULL, 0);
		stream->depth--;
	}
	finish.entries = stream->number;
	finish.error = chance(10) ? 0 : -5;
	put_message(stream, COPY_FINISH, &finish, sizeof(finish));
}

static void change_stream(struct stream *stream)
{
	uint32_t count = chance(3) ? 0 : 1 + chance(3);

	while (count--) {
		unsigned char *at =
		    stream->bytes + chance((uint32_t)stream->size);

		switch (chance(4)) {
		case 0:
			*at ^= (unsigned char)(1u << chance(8));
			break;
		case 1:
			*at = chance(2) ? 0xff : '/';
			break;
		case 2:
			*at = (unsigned char)(*at + chance(3) - 1);
			break;
		default:
			if (chance(4) == 0)
				stream->size = (size_t)(at - stream->bytes) + 1;
		}
	}
}

/* ---- A run ------------------------------------------------------------- */

struct sending {
	const struct stream *stream;
	int socket, file;
};

static void *send_stream(void *opaque)
{
	const struct sending *sending = opaque;
	const struct stream *stream = sending->stream;
	const size_t begin =
	    sizeof(struct copy_head) + sizeof(struct copy_begin);
	size_t at = 0;

	/* A descriptor comes behind BEGIN, as far as that is whole. */
	while (at < stream->size) {
		size_t length = stream->size - at;
		ssize_t sent;

		if (at < begin && length > begin - at)
			length = begin - at;
		sent = send(sending->socket, stream->bytes + at, length,
			    MSG_NOSIGNAL);
		if (sent <= 0)
			break;
		at += (size_t)sent;
		if (at == begin) {
			union {
				char bytes[CMSG_SPACE(sizeof(int))];
				struct cmsghdr aligned;
			} control = {0};
			struct copy_head head = {.kind = COPY_DESCRIPTOR};
			struct iovec part = {&head, sizeof(head)};
			struct msghdr message = {
			    .msg_iov = &part,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes),
			};
			struct cmsghdr *first = CMSG_FIRSTHDR(&message);

			first->cmsg_level = SOL_SOCKET;
			first->cmsg_type = SCM_RIGHTS;
			first->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(first), &sending->file, sizeof(int));
			if (sendmsg(sending->socket, &message, MSG_NOSIGNAL) <=
			    0)
				break;
		}
	}
	shutdown(sending->socket, SHUT_WR);
	return NULL;
}

struct told {
	uint64_t outcomes[6];
	bool sound;
};

static int take_ask(void *opaque, const struct lkn_conflict *conflict)
{
	(void)opaque;
	return conflict->path[conflict->path_length] ? -1 : 1 + (int)chance(4);
}

static int take_outcomes(void *opaque, const void *records, uint64_t size,
			 uint32_t count, int durable)
{
	struct told *told = opaque;
	uint64_t at = 0;

	(void)durable;
	while (at < size) {
		struct lkn_outcome outcome;

		memcpy(&outcome, (const char *)records + at, sizeof(outcome));
		told->sound = told->sound && outcome.outcome <= 5 &&
			      outcome.record_size % 8 == 0 &&
			      outcome.record_size >=
				  sizeof(outcome) + sizeof(struct lkl_stat) +
				      outcome.path_length &&
			      outcome.record_size <= size - at;
		if (!told->sound)
			return 1;
		told->outcomes[outcome.outcome]++;
		at += outcome.record_size;
		count--;
	}
	return count != 0;
}

static int take_progress(void *opaque, const struct lkn_accounts *accounts,
			 const char *path, uint64_t length)
{
	(void)opaque, (void)accounts;
	return path[length] != '\0';
}

static int take_fold(void *opaque, const char *name, uint64_t length,
		     char *folded, uint64_t size)
{
	(void)opaque;
	memcpy(folded, name, length < size ? length : size);
	return (int)(length < size ? length : size);
}

static bool accounts_add_up(const struct lkn_accounts *accounts,
			    const struct told *told, bool plan)
{
	uint64_t skipped = 0;

	for (size_t i = 0; i < LKN_RULE_COUNT; i++)
		skipped += accounts->skipped[i];
	if (accounts->seen != accounts->copied + accounts->damaged + skipped +
				  accounts->failed + accounts->done_before)
		return false;
	return plan ||
	       (told->outcomes[LKN_COPIED] == accounts->copied &&
		told->outcomes[LKN_DAMAGED] == accounts->damaged &&
		told->outcomes[LKN_SKIPPED] == skipped &&
		told->outcomes[LKN_FAILED] == accounts->failed &&
		told->outcomes[LKN_DONE_BEFORE] == accounts->done_before);
}

/* ---- Folders ----------------------------------------------------------- */

static bool part_seen;

/* Removes all in a folder; mounts and links are not followed. */
static void empty_folder(int folder)
{
	DIR *stream = fdopendir(openat(folder, ".", O_RDONLY | O_DIRECTORY));
	struct dirent *entry;

	while (stream && (entry = readdir(stream))) {
		const char *name = entry->d_name;
		int below;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			continue;
		part_seen = part_seen || strstr(name, ".part");
		if (unlinkat(folder, name, 0) == 0)
			continue;
		fchmodat(folder, name, 0700, 0);
		below =
		    openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
		if (below >= 0) {
			empty_folder(below);
			close(below);
		}
		unlinkat(folder, name, AT_REMOVEDIR);
	}
	closedir(stream);
}

/* What is beside the destination is as it was made. */
static bool canaries_live(int top)
{
	DIR *stream = fdopendir(openat(top, ".", O_RDONLY | O_DIRECTORY));
	struct dirent *entry;
	struct stat out, file;
	char content[8] = "";
	int fd, count = 0;

	while ((entry = readdir(stream)))
		count++;
	closedir(stream);
	fd = openat(top, "out/canary", O_RDONLY | O_NOFOLLOW);
	if (fd < 0 || read(fd, content, sizeof(content)) != 5 ||
	    fstat(fd, &file) || fstatat(top, "out", &out, 0))
		return false;
	close(fd);
	return count == 5 && strcmp(content, "alive") == 0 &&
	       file.st_mode == (S_IFREG | 0640) && file.st_nlink == 1 &&
	       out.st_mode == (S_IFDIR | 0750) && out.st_nlink == 2;
}

/* Things that streams will meet. */
static void fill(int folder)
{
	if (chance(2))
		symlinkat("../out", folder, "out");
	if (chance(2))
		symlinkat("../out/canary", folder, "b");
	if (chance(2))
		mkdirat(folder, "a", 0700);
	if (chance(4) == 0)
		close(openat(folder, "A", O_CREAT | O_WRONLY, 0600));
}

static bool run_one(int top, int to, struct stream *stream)
{
	int sockets[2], source, journal, error, result;
	struct lkn_accounts accounts;
	struct lkn_stream *reader;
	struct told told = {.sound = true};
	struct lkn_folder folder = {
	    .destination = to,
	    .journal = -1,
	    .job = "01234567abcdefgh",
	    .flags = chance(32) | LKN_FOLDER_LIST,
	    .conflicts = chance(5),
	    .symlinks = chance(3),
	    .names = chance(2),
	    .digests = chance(3) ? 0 : LKN_SHA256 | LKN_MD5,
	    .opaque = &told,
	    .ask = take_ask,
	    .outcomes = take_outcomes,
	    .progress = take_progress,
	    .fold = take_fold,
	};
	struct sending sending = {.stream = stream};
	pthread_t thread;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		return false;
	source = openat(top, "source", O_RDONLY | O_CLOEXEC);
	journal = openat(top, "journal", O_RDWR | O_APPEND | O_CLOEXEC);
	/* Now and then the one before is gone on with. */
	if (chance(3) == 0)
		folder.journal = journal;
	if (chance(2) && ftruncate(journal, 0))
		return false;
	sending.socket = sockets[1];
	sending.file = source;
	if (lkn_stream_open(sockets[0], 100, &reader) ||
	    pthread_create(&thread, NULL, send_stream, &sending))
		return false;
	result = lkn_folder_run(&folder, reader, &accounts, &error);
	lkn_stream_close(reader);
	close(sockets[0]);
	pthread_join(thread, NULL);
	close(sockets[1]);
	close(source);
	close(journal);
	return result >= 0 && told.sound &&
	       accounts_add_up(&accounts, &told,
			       folder.flags & LKN_FOLDER_PLAN);
}

int main(int argc, char **argv)
{
	static struct stream stream;
	char path[] = "/tmp/lkn-folder-XXXXXX";
	unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : STREAMS;
	unsigned long failed = 0, dead = 0, parts = 0;
	int top, to, fd;

	need(mkdtemp(path), "a folder to work in");
	top = open(path, O_RDONLY | O_DIRECTORY);
	need(mkdirat(top, "to", 0700) == 0 && mkdirat(top, "out", 0750) == 0 &&
		 (fd = openat(top, "out/canary", O_CREAT | O_WRONLY, 0640)) >=
		     0 &&
		 write(fd, "alive", 5) == 5 && close(fd) == 0,
	     "what must not be touched");
	fchmodat(top, "out/canary", 0640, 0);
	fchmodat(top, "out", 0750, 0);
	fd = openat(top, "source", O_CREAT | O_WRONLY, 0600);
	need(write(fd, "0123456789012345678901234567890123456789", 40) == 40,
	     "a file for extents");
	close(fd);
	unlinkat(top, "journal", 0);
	to = openat(top, "to", O_RDONLY | O_DIRECTORY);
	for (unsigned long i = 0; i < count; i++) {
		fd = openat(top, "journal", O_CREAT | O_RDWR, 0600);
		close(fd);
		if (chance(2))
			empty_folder(to);
		fill(to);
		make_stream(&stream);
		change_stream(&stream);
		failed += !run_one(top, to, &stream);
		unlinkat(top, "source", 0);
		unlinkat(top, "journal", 0);
		fd = openat(top, "source", O_CREAT | O_WRONLY, 0600);
		if (write(fd, "0123456789012345678901234567890123456789", 40) !=
		    40)
			failed++;
		close(fd);
		dead += !canaries_live(top);
		part_seen = false;
		empty_folder(to);
		parts += part_seen;
	}
	is(failed, 0, "each of %lu streams is taken to its end", count);
	is(dead, 0, "nothing beside the destination is changed");
	is(parts, 0, "nothing is left half made");
	empty_folder(top);
	close(top);
	close(to);
	ok(rmdir(path) == 0, "all is gone again");
	return tap_end();
}
