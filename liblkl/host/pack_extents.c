// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where the bytes of a file lie in files of the host, so that these need not be
 * read here: the file system tells where on the volume (FIEMAP), the disk where
 * in files.  Whatever is not plain and sound is read through the kernel.
 *
 * The disk is looked at outside of the kernel, under a lock that its requests
 * take as well (disk.h).  What was found stays true: the source of a disk does
 * not change, what an overlay has is not told of, and a block of a file that is
 * written to an overlay later has been changed by who recovers the volume,
 * which is over when it is mounted; FIEMAP_FLAG_SYNC has all of that on the
 * disk.
 */
#include "pack.h"

#include "channel.h"
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Smaller files are as quickly read. */
#define EXTENTS_LEAST (64u << 10)
/* Below this many bytes apiece on average, too. */
#define PIECE_LEAST (16u << 10)
/* Of one file; larger ones have longer pieces. */
#define PIECES_MOST (1u << 20)
/* Extents that the kernel is asked for at once. */
#define MAP_EXTENTS 512u
/* A file that can be copied has fewer: more come from a damaged tree. */
#define MAPS_MOST 4096u

/* include/uapi/linux/fiemap.h, include/uapi/linux/fs.h */
#define FS_IOC_FIEMAP 0xc020660bu
#define FIEMAP_FLAG_SYNC 0x1u
#define FIEMAP_EXTENT_LAST 0x1u
#define FIEMAP_EXTENT_UNWRITTEN 0x800u
/*
 * UNKNOWN, DELALLOC, ENCODED, DATA_ENCRYPTED, NOT_ALIGNED, DATA_INLINE,
 * DATA_TAIL: the bytes are not there as they are.
 */
#define FIEMAP_EXTENT_DOUBTFUL                                                 \
	(0x2u | 0x4u | 0x8u | 0x80u | 0x100u | 0x200u | 0x400u)

/* STATX_ATTR_COMPRESSED, _ENCRYPTED, _VERITY of include/uapi/linux/stat.h */
#define ATTRIBUTES_DOUBTFUL                                                    \
	(UINT64_C(0x4) | UINT64_C(0x800) | UINT64_C(0x100000))

struct fiemap_extent {
	uint64_t logical, physical, length;
	uint64_t reserved64[2];
	uint32_t flags;
	uint32_t reserved[3];
};

struct fiemap {
	uint64_t start, length;
	uint32_t flags;
	uint32_t mapped, count;
	uint32_t reserved;
	struct fiemap_extent extents[MAP_EXTENTS];
};

_Static_assert(sizeof(struct fiemap) == 32 + MAP_EXTENTS * 56u,
	       "struct fiemap of the kernel has no padding");

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

int pack_extents_open(struct lkl_packer *packer)
{
	const struct lkl_pack *request = &packer->request;

	if (request->disk < 0)
		return 0;
	if (!disk_exists(packer->kernel, request->disk))
		return -ENODEV;
	if (request->size > UINT64_MAX - request->start)
		return -EINVAL;
	packer->map = malloc(sizeof(*packer->map));
	packer->sources =
	    malloc(COPY_DESCRIPTORS_MOST * sizeof(*packer->sources));
	return packer->map && packer->sources ? 0 : -ENOMEM;
}

/* ---- Pieces ------------------------------------------------------------ */

static bool continues(const struct piece *before, const struct piece *after)
{
	return before->source == after->source &&
	       (after->source < 0 ||
		before->position + before->length == after->position);
}

static bool add_piece(struct lkl_packer *packer, const struct piece *piece)
{
	struct piece *last = packer->piece_count
				 ? &packer->pieces[packer->piece_count - 1]
				 : NULL;

	if (last && continues(last, piece)) {
		last->length += piece->length;
		return true;
	}
	if (packer->piece_count == packer->piece_slots) {
		size_t count =
		    packer->piece_slots ? packer->piece_slots * 2 : MAP_EXTENTS;
		struct piece *pieces;

		if (count > PIECES_MOST)
			return false;
		pieces = realloc(packer->pieces, count * sizeof(*pieces));
		if (!pieces)
			return false;
		packer->pieces = pieces;
		packer->piece_slots = count;
	}
	packer->pieces[packer->piece_count++] = *piece;
	return true;
}

static bool add_hole(struct lkl_packer *packer, uint64_t length)
{
	const struct piece hole = {.length = length, .source = PIECE_HOLE};

	return !length || add_piece(packer, &hole);
}

/* The place in packer->sources of a file of the host, or PIECE_READ. */
static int32_t source_of(struct lkl_packer *packer, int64_t fd)
{
	struct source *source;

	for (uint32_t i = 0; i < packer->source_count; i++)
		if (packer->sources[i].fd == fd)
			return packer->sources[i].number;
	/* Not remembered: asked for again, and found to be too many. */
	if (packer->source_count == COPY_DESCRIPTORS_MOST)
		return PIECE_READ;
	source = &packer->sources[packer->source_count++];
	source->fd = fd;
	source->number = PIECE_READ;
	if (channel_takes_file(fd)) {
		source->number = packer->descriptors++;
		pack_put_descriptor(packer, (int)fd);
	}
	return source->number;
}

/* Adds the pieces of a range of the volume that belongs to the file. */
static bool add_range(struct lkl_packer *packer, uint64_t physical,
		      uint64_t length)
{
	const struct lkl_pack *request = &packer->request;

	if (length > request->size || physical > request->size - length)
		return false;
	physical += request->start;
	while (length) {
		struct lkl_disk_extent found;
		struct piece piece;
		int error = disks_find(packer->kernel, request->disk, physical,
				       length, &found);

		/* Reading it will meet the error at its very place. */
		if (error == -EINVAL || error == -ENODEV)
			return false;
		if (error)
			found = (struct lkl_disk_extent){
			    .length = length,
			    .fd = LKL_EXTENT_ENCODED,
			};
		piece = (struct piece){
		    .length = found.length,
		    .position = found.position,
		    .source = PIECE_READ,
		};
		if (found.fd == LKL_EXTENT_ZERO)
			piece.source = PIECE_HOLE;
		else if (found.fd >= 0)
			piece.source = source_of(packer, found.fd);
		if (!add_piece(packer, &piece))
			return false;
		physical += found.length;
		length -= found.length;
	}
	return true;
}

/* Adds what an extent tells; *at is the end of those before it. */
static bool add_extent(struct lkl_packer *packer,
		       const struct fiemap_extent *extent, uint64_t size,
		       uint64_t *at)
{
	uint64_t length;

	if (extent->flags & FIEMAP_EXTENT_DOUBTFUL || !extent->length ||
	    extent->logical < *at ||
	    extent->length > UINT64_MAX - extent->logical)
		return false;
	/* Blocks may be kept behind the end. */
	if (extent->logical >= size)
		return true;
	if (!add_hole(packer, extent->logical - *at))
		return false;
	length = smaller(extent->length, size - extent->logical);
	*at = extent->logical + length;
	if (extent->flags & FIEMAP_EXTENT_UNWRITTEN)
		return add_hole(packer, length);
	return add_range(packer, extent->physical, length);
}

static bool find_pieces(struct lkl_packer *packer, int fd, uint64_t size)
{
	struct fiemap *map = packer->map;
	uint64_t at = 0;

	for (uint32_t turn = 0; turn < MAPS_MOST && at < size; turn++) {
		memset(map, 0, offsetof(struct fiemap, extents));
		map->start = at;
		map->length = size - at;
		map->flags = FIEMAP_FLAG_SYNC;
		map->count = MAP_EXTENTS;
		if (lkl_sys_ioctl(packer->kernel, fd, FS_IOC_FIEMAP, map) < 0 ||
		    map->mapped > MAP_EXTENTS)
			return false;
		for (uint32_t i = 0; i < map->mapped; i++) {
			if (!add_extent(packer, &map->extents[i], size, &at))
				return false;
			if (map->extents[i].flags & FIEMAP_EXTENT_LAST)
				return add_hole(packer, size - at);
		}
		if (!map->mapped)
			return add_hole(packer, size - at);
	}
	return at == size;
}

static bool worth_it(const struct lkl_packer *packer)
{
	uint64_t given = 0, pieces = 0;

	for (size_t i = 0; i < packer->piece_count; i++) {
		const struct piece *piece = &packer->pieces[i];

		if (piece->source >= 0) {
			given += piece->length;
			pieces++;
		}
	}
	return given && given / pieces >= PIECE_LEAST;
}

void pack_find_pieces(struct lkl_packer *packer, int fd,
		      const struct lkl_stat *stat)
{
	packer->piece_count = 0;
	if (packer->request.disk < 0 || stat->size < EXTENTS_LEAST ||
	    stat->attributes & ATTRIBUTES_DOUBTFUL)
		return;
	if (!find_pieces(packer, fd, stat->size) || !worth_it(packer))
		packer->piece_count = 0;
}
