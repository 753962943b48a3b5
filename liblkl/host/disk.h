/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk: its source, which is only read (unless a program gave a write
 * callback), the overlay that takes the writes, and the virtio device that the
 * kernel drives.
 *
 * Reads and writes come from the thread that holds the kernel's one CPU, hence
 * one at a time.
 */
#ifndef LKL_DISK_H
#define LKL_DISK_H

#include "lkl.h"

#include "extent_map.h"
#include "overlay.h"
#include "semaphore.h"
#include "virtio_blk.h"
#include "virtio_mmio.h"

struct disk {
	struct virtio_device device; /* first, for its alignment */

	/*
	 * Held while a request is served and while disk_find() looks: the
	 * former happens on whichever thread has the kernel's CPU, the latter
	 * outside of the kernel.  Both change the map and may ask the program.
	 */
	struct semaphore lock;
	struct virtio_blk_config config;
	char serial[20]; /* padded with NUL, as GET_ID wants it */

	/* The source; by the file when there are no operations. */
	struct lkl_disk_operations operations;
	void *opaque;
	intptr_t file;
	uint64_t size;		/* bytes of the source */
	uint64_t capacity;	/* bytes: the size in whole logical blocks */
	struct extent_map *map; /* NULL without a map callback */
	unsigned char *bounce;	/* for the read callback */
	struct overlay overlay;

	_Atomic uint64_t read_requests, read_bytes, read_errors;
	_Atomic uint64_t write_requests, write_bytes, write_errors;
	_Atomic uint64_t overlay_bytes;

	/* Pieces of a request, while it is put together from its sources. */
	struct host_segment pieces[VIRTIO_CHAIN_MAX];

	/* Set by who adds the disk to a kernel. */
	struct lkl_kernel *kernel;
	uint32_t irq;
	bool removing; /* under disks_lock */
};

/*
 * Checks what the program gave and makes a disk of it.  ram is the memory the
 * driver's requests point into.  -EINVAL, -ENOMEM, or what reading the file's
 * first byte gives.  Nothing of the source is taken on failure.
 */
int disk_create(struct disk **disk, const struct lkl_disk *options, int number,
		const struct host_ram *ram);
/* Calls the close callback. */
void disk_destroy(struct disk *disk);

static inline bool disk_writable(const struct disk *disk)
{
	return disk->operations.write || disk->overlay.limit;
}

/* A place in a list of segments. */
struct cursor {
	const struct host_segment *segment;
	size_t skip; /* bytes of it that are done */
};

/*
 * Reads or writes length bytes at offset, all inside the capacity, into or
 * from the segments at the cursor.  0 or a negative errno.
 */
int disk_read(struct disk *disk, uint64_t offset, struct cursor *cursor,
	      uint64_t length);
int disk_write(struct disk *disk, uint64_t offset, struct cursor *cursor,
	       uint64_t length);

/*
 * Where the bytes from offset on are in files of the host: at least one, at
 * most length of them, all inside the capacity.  What has to be read through
 * the disk, as it stands in the overlay or the source must make it, is encoded.
 * Returns 0 or a negative errno.
 */
int disk_find(struct disk *disk, uint64_t offset, uint64_t length,
	      struct lkl_disk_extent *found);

#endif
