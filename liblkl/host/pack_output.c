// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The packer's end of the socket.  Messages gather in one buffer, which is sent
 * when enough is in it or an answer is needed.  While a send blocks the calling
 * thread is not inside the kernel, whose CPU serves others.
 */
#include "pack.h"

#include "channel.h"
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Sent at once: what stays in the CPU's caches. */
#define OUTPUT_ENOUGH (256u << 10)
#define OUTPUT_SIZE (sizeof(struct copy_head) + COPY_BODY_MOST)
/* Content below this is copied rather than sent by itself. */
#define DATA_APART (16u << 10)
/* Nanoseconds between two calls of the caller's progress function. */
#define PROGRESS_INTERVAL 50000000

_Static_assert(OUTPUT_ENOUGH < OUTPUT_SIZE, "the largest message fits");

int pack_output_open(struct lkl_packer *packer)
{
	const struct copy_begin begin = {COPY_STREAM_MAGIC,
					 COPY_STREAM_VERSION};

	packer->output = malloc(OUTPUT_SIZE);
	if (!packer->output)
		return -ENOMEM;
	pack_put(packer, COPY_BEGIN, &begin, sizeof(begin));
	return 0;
}

int pack_stop(struct lkl_packer *packer, int error)
{
	if (!packer->stopped)
		packer->stopped = error;
	return packer->stopped;
}

static int lose(struct lkl_packer *packer, int error)
{
	packer->lost = true;
	packer->used = 0;
	return pack_stop(packer, error);
}

int pack_flush_with(struct lkl_packer *packer, const void *bytes, size_t length)
{
	struct host_segment segments[2] = {
	    {packer->output, packer->used},
	    {(void *)bytes, length},
	};
	int error;

	if (packer->lost)
		return lose(packer, packer->stopped);
	atomic_store_explicit(&packer->waiting, true, memory_order_relaxed);
	error = channel_send(packer->request.socket, segments, 2);
	atomic_store_explicit(&packer->waiting, false, memory_order_relaxed);
	packer->used = 0;
	return error ? lose(packer, error) : 0;
}

int pack_flush(struct lkl_packer *packer)
{
	return packer->used ? pack_flush_with(packer, NULL, 0) : 0;
}

static void make_room(struct lkl_packer *packer, size_t length)
{
	if (packer->lost)
		packer->used = 0;
	else if (packer->used >= OUTPUT_ENOUGH ||
		 packer->used + sizeof(struct copy_head) + length > OUTPUT_SIZE)
		pack_flush(packer);
}

static void put_head(struct lkl_packer *packer, uint32_t kind, size_t length)
{
	const struct copy_head head = {kind, (uint32_t)length};

	memcpy(packer->output + packer->used, &head, sizeof(head));
	packer->used += sizeof(head);
}

void pack_begin(struct lkl_packer *packer, uint32_t kind, size_t length)
{
	make_room(packer, length);
	put_head(packer, kind, length);
}

void pack_add(struct lkl_packer *packer, const void *bytes, size_t length)
{
	if (length)
		memcpy(packer->output + packer->used, bytes, length);
	packer->used += length;
}

void pack_put(struct lkl_packer *packer, uint32_t kind, const void *body,
	      size_t length)
{
	pack_begin(packer, kind, length);
	pack_add(packer, body, length);
}

void pack_put_done(struct lkl_packer *packer, uint32_t kind, int error,
		   uint32_t operation)
{
	const struct copy_done done = {
	    .error = error,
	    .operation = error ? operation : COPY_NOTHING,
	};

	pack_put(packer, kind, &done, sizeof(done));
	if (error)
		packer->done.errors++;
}

void pack_put_hole(struct lkl_packer *packer, uint64_t length)
{
	pack_put(packer, COPY_HOLE, &length, sizeof(length));
}

void pack_put_data(struct lkl_packer *packer, const void *bytes, size_t length)
{
	packer->done.bytes += length;
	if (length < DATA_APART) {
		pack_put(packer, COPY_DATA, bytes, length);
		return;
	}
	make_room(packer, 0);
	put_head(packer, COPY_DATA, length);
	pack_flush_with(packer, bytes, length);
}

void *pack_place(struct lkl_packer *packer, size_t length)
{
	make_room(packer, length);
	return packer->output + packer->used + sizeof(struct copy_head);
}

void pack_put_read(struct lkl_packer *packer, size_t length)
{
	put_head(packer, COPY_DATA, length);
	packer->used += length;
	packer->done.bytes += length;
}

void pack_put_descriptor(struct lkl_packer *packer, int file)
{
	struct copy_head head = {.kind = COPY_DESCRIPTOR};
	int error;

	/* By itself: a descriptor comes with the first byte of a send. */
	if (pack_flush(packer) || packer->lost)
		return;
	error = channel_send_file(packer->request.socket, &head, sizeof(head),
				  file);
	if (error)
		lose(packer, error);
}

int pack_ask(struct lkl_packer *packer, uint32_t kind, void *answer,
	     size_t length)
{
	struct copy_head head;
	int error = pack_flush(packer);

	if (error)
		return error;
	atomic_store_explicit(&packer->waiting, true, memory_order_relaxed);
	error = channel_receive(packer->request.socket, &head, sizeof(head));
	if (!error && (head.kind != kind || head.length != length))
		error = -EPROTO;
	if (!error)
		error = channel_receive(packer->request.socket, answer, length);
	atomic_store_explicit(&packer->waiting, false, memory_order_relaxed);
	return error ? lose(packer, error) : 0;
}

void pack_tell(struct lkl_packer *packer)
{
	uint64_t now = host_time_mono();

	if (atomic_load_explicit(&packer->cancelled, memory_order_relaxed))
		pack_stop(packer, -ECANCELED);
	if (packer->stopped || now - packer->last_progress < PROGRESS_INTERVAL)
		return;
	packer->last_progress = now;
	/* What is there is of use to the other side, however slow we are. */
	pack_flush(packer);
	if (!kernel_running(packer->kernel))
		pack_stop(packer, -EIO);
	else if (packer->request.progress &&
		 packer->request.progress(packer->request.opaque,
					  &packer->done))
		pack_stop(packer, -ECANCELED);
}
