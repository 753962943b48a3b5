// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Content of files: opened safely, read, copied to the host in large pieces.
 */
#include "copy.h"
#include "record.h"
#include "sink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One read and one write at a time. */
#define PIECE (1u << 20)
/* From this length on, opening once more for direct I/O costs less. */
#define DIRECT_LEAST (1u << 20)
/* Linux reads no more than 2 GiB less a page at a time. */
#define READ_MOST (1u << 30)

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The errno that tells of what cannot be read as a file. */
static int error_of_mode(uint32_t mode)
{
	switch (mode & LKL_S_IFMT) {
	case LKL_S_IFREG:
		return 0;
	case LKL_S_IFDIR:
		return -EISDIR;
	case LKL_S_IFLNK:
		return -ELOOP;
	default:
		return -EINVAL;
	}
}

int open_regular(struct lkl_kernel *kernel, int directory, const char *name,
		 struct lkl_stat *stat)
{
	int fd = (int)lkl_sys_openat(kernel, directory, name,
				     LKL_O_RDONLY | LKL_O_NOFOLLOW |
					 LKL_O_NONBLOCK | LKL_O_NOATIME |
					 LKL_O_LARGEFILE | LKL_O_CLOEXEC,
				     0);
	int error;

	if (fd < 0) {
		/* What a socket or device answers says little: look at it. */
		if (stat_entry(kernel, directory, name, stat, NULL))
			return fd;
		error = error_of_mode(stat->mode);
		return error ? error : fd;
	}
	/* Only what was opened tells what it is: directories lie. */
	error = stat_entry(kernel, fd, "", stat, NULL);
	if (!error)
		error = error_of_mode(stat->mode);
	if (!error)
		return fd;
	lkl_sys_close(kernel, fd);
	return error;
}

int lkl_open_file(struct lkl_kernel *kernel, int directory, const char *name)
{
	struct lkl_stat stat;

	return open_regular(kernel, directory, name, &stat);
}

int64_t lkl_read_file(struct lkl_kernel *kernel, int fd, uint64_t offset,
		      void *buffer, size_t length)
{
	size_t done = 0;

	if (offset > INT64_MAX)
		return -EINVAL;
	while (done < length) {
		size_t wanted = smaller(length - done, READ_MOST);
		int64_t got =
		    lkl_sys_pread64(kernel, fd, (unsigned char *)buffer + done,
				    wanted, (int64_t)(offset + done));

		/* The next call will meet the error at its very place. */
		if (got < 0)
			return done ? (int64_t)done : got;
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (int64_t)done;
}

int copy_memory_alloc(struct lkl_kernel *kernel, uint64_t length,
		      struct copy_memory *memory)
{
	size_t size = (size_t)smaller(length, PIECE);

	/* Whole pages, and one at least. */
	size = (size + !size + DIRECT_ALIGNMENT - 1) / DIRECT_ALIGNMENT *
	       DIRECT_ALIGNMENT;
	memory->size = size;
	memory->base = lkl_mem_alloc(kernel, size);
	memory->of_kernel = memory->base;
	if (!memory->base)
		memory->base = malloc(size);
	return memory->base ? 0 : -ENOMEM;
}

void copy_memory_free(struct lkl_kernel *kernel, struct copy_memory *memory)
{
	if (memory->of_kernel)
		lkl_mem_free(kernel, memory->base, memory->size);
	else
		free(memory->base);
	memory->base = NULL;
}

/* By a second descriptor: a flag set on the first would meet whoever else reads
 * there. */
void content_open_direct(struct content *content)
{
	char path[32];

	if (content->direct >= 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", content->fd);
	content->direct = (int)lkl_sys_openat(
	    content->kernel, LKL_AT_FDCWD, path,
	    LKL_O_RDONLY | LKL_O_DIRECT | LKL_O_NONBLOCK | LKL_O_NOATIME |
		LKL_O_LARGEFILE | LKL_O_CLOEXEC,
	    0);
}

struct content content_open(struct lkl_kernel *kernel, int fd,
			    const struct lkl_stat *stat, uint64_t length,
			    bool direct)
{
	struct content content = {
	    .kernel = kernel,
	    .fd = fd,
	    .direct = -1,
	    /* Files that tell no size, as those of proc, have some bytes. */
	    .size = stat->size ? stat->size : INT64_MAX,
	    .holes = stat->size / 512 > stat->blocks,
	};

	if (direct && stat->size && length >= DIRECT_LEAST)
		content_open_direct(&content);
	return content;
}

void content_close(struct content *content)
{
	if (content->direct >= 0)
		lkl_sys_close(content->kernel, content->direct);
	content->direct = -1;
}

/*
 * Directly what is whole blocks, heads and tails through the page cache, and
 * everything once that has not worked.
 */
int64_t content_read(struct content *content, uint64_t at, void *place,
		     size_t length)
{
	size_t head = at % DIRECT_ALIGNMENT;

	if (content->direct >= 0 && head) {
		length = smaller(length, DIRECT_ALIGNMENT - head);
	} else if (content->direct >= 0 && length >= DIRECT_ALIGNMENT) {
		int64_t got = lkl_sys_pread64(
		    content->kernel, content->direct, place,
		    length - length % DIRECT_ALIGNMENT, (int64_t)at);

		if (got > 0)
			return got;
		content_close(content);
	}
	return lkl_sys_pread64(content->kernel, content->fd, place, length,
			       (int64_t)at);
}

int content_find(struct content *content, uint64_t at, uint64_t *data)
{
	int64_t begin = lkl_sys_lseek(content->kernel, content->fd, (int64_t)at,
				      LKL_SEEK_DATA);
	int64_t hole;

	*data = at;
	content->data_end = UINT64_MAX;
	if (begin == -ENXIO) {
		*data = content->size;
		return 0;
	}
	/* Not known here: all of it is read. */
	if (begin < 0)
		return begin == -EINVAL ? 0 : (int)begin;
	*data = (uint64_t)begin;
	hole =
	    lkl_sys_lseek(content->kernel, content->fd, begin, LKL_SEEK_HOLE);
	if (hole < 0)
		return hole == -EINVAL ? 0 : (int)hole;
	if (hole > begin)
		content->data_end = (uint64_t)hole;
	return 0;
}

static bool is_zero(const unsigned char *bytes, size_t length)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

size_t content_run(const unsigned char *bytes, size_t length, bool *zeros)
{
	size_t end = 0;

	*zeros = is_zero(bytes, smaller(HOLE_LEAST, length));
	do
		end += smaller(HOLE_LEAST, length - end);
	while (end < length &&
	       is_zero(bytes + end, smaller(HOLE_LEAST, length - end)) ==
		   *zeros);
	return end;
}

/* A copy to a descriptor of the host. */
struct copy {
	struct lkl_kernel *kernel;
	const struct copy_memory *memory;
	int fd;	  /* of the kernel */
	int sink; /* of the host */
	bool sparse;
	lkl_progress progress; /* or NULL */
	void *opaque;
	bool host_failed; /* set when the error is the host's */
};

static int put_hole(struct copy *copy, uint64_t length)
{
	static const unsigned char zeros[64 << 10];
	int error = 0;

	if (copy->sparse)
		return sink_skip(copy->sink, length);
	while (length > 0 && !error) {
		size_t piece = smaller(length, sizeof(zeros));

		error = sink_write(copy->sink, zeros, piece);
		length -= piece;
	}
	return error;
}

/* Writes bytes of a file with holes: blocks of zeros become holes too. */
static int put_sparse(struct copy *copy, const unsigned char *bytes,
		      size_t length)
{
	int error = 0;

	while (length > 0 && !error) {
		bool hole;
		size_t run = content_run(bytes, length, &hole);

		error = hole ? put_hole(copy, run)
			     : sink_write(copy->sink, bytes, run);
		bytes += run;
		length -= run;
	}
	return error;
}

/*
 * Copies part of a file that has that stat to the sink.  Returns the bytes the
 * sink grew by or a negative errno.
 */
static int64_t copy_file(struct copy *copy, const struct lkl_stat *stat,
			 uint64_t offset, uint64_t length)
{
	struct content content;
	uint64_t at = offset, end;
	int error = 0;

	content = content_open(copy->kernel, copy->fd, stat,
			       smaller(length, stat->size - offset),
			       copy->memory->of_kernel && offset < stat->size);
	end = offset >= content.size
		  ? offset
		  : offset + smaller(length, content.size - offset);
	while (at < end && !error) {
		const unsigned char *bytes = copy->memory->base;
		int64_t got;
		size_t wanted;

		if (content.holes && at >= content.data_end) {
			uint64_t data;

			error = content_find(&content, at, &data);
			if (error)
				break;
			data = smaller(data, end);
			if (data > at) {
				error = put_hole(copy, data - at);
				copy->host_failed = error;
				at = data;
				if (!error && copy->progress &&
				    copy->progress(copy->opaque, at - offset))
					error = -ECANCELED;
				continue;
			}
		}
		wanted = smaller(copy->memory->size, end - at);
		if (content.holes)
			wanted = smaller(wanted, content.data_end - at);
		got = content_read(&content, at, copy->memory->base, wanted);
		if (got < 0)
			error = (int)got;
		if (got <= 0)
			break;
		error = content.holes && copy->sparse
			    ? put_sparse(copy, bytes, (size_t)got)
			    : sink_write(copy->sink, bytes, (size_t)got);
		copy->host_failed = error;
		at += (uint64_t)got;
		if (!error && copy->progress &&
		    copy->progress(copy->opaque, at - offset))
			error = -ECANCELED;
	}
	/* A hole at the end is no part of the file yet. */
	if (!error && content.holes && copy->sparse && at > offset) {
		error = sink_end_here(copy->sink);
		copy->host_failed = error;
	}
	content_close(&content);
	return error ? error : (int64_t)(at - offset);
}

int64_t lkl_copy_file(struct lkl_kernel *kernel, int fd, uint64_t offset,
		      uint64_t length, int host_fd, uint32_t flags,
		      lkl_progress progress, void *opaque, int *host_error)
{
	struct copy_memory memory;
	struct copy copy = {
	    .kernel = kernel,
	    .memory = &memory,
	    .fd = fd,
	    .sink = host_fd,
	    .sparse = flags & LKL_COPY_SPARSE,
	    .progress = progress,
	    .opaque = opaque,
	};
	struct lkl_stat stat;
	int64_t result;

	*host_error = 0;
	if (offset > INT64_MAX || flags & ~(uint32_t)LKL_COPY_SPARSE)
		return -EINVAL;
	result = stat_entry(kernel, fd, "", &stat, NULL);
	if (result)
		return result;
	result =
	    copy_memory_alloc(kernel, stat.size ? stat.size : PIECE, &memory);
	if (result)
		return result;
	result = copy_file(&copy, &stat, offset, length);
	*host_error = copy.host_failed;
	copy_memory_free(kernel, &memory);
	return result;
}
