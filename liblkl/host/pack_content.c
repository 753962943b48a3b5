// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The bytes of a file as messages: small files are read into the output buffer
 * itself, large ones by direct I/O into memory that is sent from.
 */
#include "pack.h"

#include <errno.h>

/* Read into the output; more at once is worth a send of its own. */
#define SMALL_MOST (128u << 10)
/* What is tried by itself once reading has failed. */
#define BLOCK 4096u
/* Blocks in a row that were read before more is tried at once. */
#define TRUST_LEAST 16u

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A file at work. */
struct reading {
	struct lkl_packer *packer;
	struct content content;
	/* Not 0: that many blocks must be read one by one before it is trusted.
	 */
	uint32_t careful;
	/* Not yet told: what could not be read. */
	struct copy_bad bad;
};

static void put_bad(struct reading *reading)
{
	if (reading->bad.length)
		pack_put(reading->packer, COPY_BAD, &reading->bad,
			 sizeof(reading->bad));
	reading->bad.length = 0;
}

static void add_bad(struct reading *reading, uint64_t length, int error)
{
	if (reading->bad.error != error)
		put_bad(reading);
	reading->bad.error = error;
	reading->bad.length += length;
}

/* Puts bytes of the packer's memory; those of files with holes by what they
 * are. */
static void put_bytes(struct reading *reading, unsigned char *bytes,
		      size_t length)
{
	put_bad(reading);
	if (!reading->content.holes) {
		pack_put_data(reading->packer, bytes, length);
		return;
	}
	while (length > 0) {
		bool zeros;
		size_t run = content_run(bytes, length, &zeros);

		if (zeros)
			pack_put_hole(reading->packer, run);
		else
			pack_put_data(reading->packer, bytes, run);
		bytes += run;
		length -= run;
	}
}

/* Reads and puts some bytes: how many, or a negative errno. */
static int64_t read_some(struct reading *reading, uint64_t at, uint64_t length)
{
	struct lkl_packer *packer = reading->packer;
	struct content *content = &reading->content;
	int64_t got;

	if (length <= SMALL_MOST && !content->holes && content->direct < 0) {
		put_bad(reading);
		got = content_read(content, at, pack_place(packer, length),
				   length);
		if (got > 0)
			pack_put_read(packer, (size_t)got);
		return got;
	}
	got = content_read(content, at, packer->memory.base,
			   smaller(length, packer->memory.size));
	if (got > 0)
		put_bytes(reading, packer->memory.base, (size_t)got);
	return got;
}

/*
 * Reads and puts one block or what is left of it.  Directly where that is
 * possible: in the page cache a good block may share its fate with bad ones
 * that were read together with it.
 */
static int64_t read_block(struct reading *reading, uint64_t at, uint64_t length)
{
	struct content *content = &reading->content;
	unsigned char *place = reading->packer->memory.base;
	size_t rest = BLOCK - at % BLOCK;
	int64_t got = -EINVAL;

	length = smaller(length, rest);
	if (content->direct >= 0 && rest == BLOCK)
		got = lkl_sys_pread64(content->kernel, content->direct, place,
				      BLOCK, (int64_t)at);
	if (got == -EINVAL)
		got = lkl_sys_pread64(content->kernel, content->fd, place,
				      length, (int64_t)at);
	if (got > (int64_t)length)
		got = (int64_t)length;
	if (got > 0) {
		put_bytes(reading, place, (size_t)got);
		reading->careful--;
	} else if (got < 0) {
		add_bad(reading, length, (int)got);
		reading->careful = TRUST_LEAST;
		got = (int64_t)length;
	}
	return got;
}

static bool may_leave_out(const struct reading *reading, int error)
{
	return reading->packer->request.flags & LKL_PACK_HOLES &&
	       error != -ENOMEM;
}

static int64_t read_next(struct reading *reading, uint64_t at, uint64_t length)
{
	struct content *content = &reading->content;
	int64_t got;

	if (reading->careful)
		return read_block(reading, at, length);
	got = read_some(reading, at, length);
	if (got >= 0 || !may_leave_out(reading, (int)got))
		return got;
	reading->careful = TRUST_LEAST;
	if (reading->packer->memory.of_kernel)
		content_open_direct(content);
	return read_block(reading, at, length);
}

/* Sends a range of the file as its bytes are. */
static int read_range(struct reading *reading, uint64_t at, uint64_t end)
{
	struct content *content = &reading->content;

	while (at < end && !reading->packer->stopped) {
		uint64_t length = end - at;
		int64_t got;

		if (content->holes && at >= content->data_end) {
			uint64_t data = at;
			int error = content_find(content, at, &data);

			/* Then each block tells for itself. */
			if (error && !may_leave_out(reading, error))
				return error;
			data = smaller(data, end);
			if (data > at) {
				put_bad(reading);
				pack_put_hole(reading->packer, data - at);
				at = data;
				continue;
			}
		}
		if (content->holes)
			length = smaller(length, content->data_end - at);
		got = read_next(reading, at, length);
		if (got < 0)
			return (int)got;
		/* An end before the end that the inode tells. */
		if (got == 0)
			return -EIO;
		at += (uint64_t)got;
		pack_tell(reading->packer);
	}
	put_bad(reading);
	return 0;
}

static void put_extent(struct lkl_packer *packer, const struct piece *piece)
{
	const struct copy_extent extent = {
	    .position = piece->position,
	    .length = piece->length,
	    .descriptor = (uint32_t)piece->source,
	};

	pack_put(packer, COPY_EXTENT, &extent, sizeof(extent));
	packer->done.bytes += piece->length;
}

static int send_pieces(struct reading *reading)
{
	struct lkl_packer *packer = reading->packer;
	uint64_t at = 0;
	int error = 0;

	for (size_t i = 0;
	     i < packer->piece_count && !error && !packer->stopped; i++) {
		const struct piece *piece = &packer->pieces[i];

		if (piece->source == PIECE_READ)
			error = read_range(reading, at, at + piece->length);
		else if (piece->source == PIECE_HOLE)
			pack_put_hole(packer, piece->length);
		else
			put_extent(packer, piece);
		at += piece->length;
		pack_tell(packer);
	}
	return error;
}

int pack_content(struct lkl_packer *packer, int fd, const struct lkl_stat *stat)
{
	struct reading reading = {.packer = packer};
	int error;

	if (!stat->size)
		return 0;
	reading.content = content_open(packer->kernel, fd, stat,
				       packer->piece_count ? 0 : stat->size,
				       packer->memory.of_kernel);
	if (packer->piece_count)
		error = send_pieces(&reading);
	else
		error = read_range(&reading, 0, stat->size);
	content_close(&reading.content);
	/* Not sent whole: that must not look as if it were. */
	return error ? error : packer->stopped;
}
