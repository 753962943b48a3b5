/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The virtio block device, section 5.2 of the virtio 1.2 specification. */
#ifndef LKL_VIRTIO_BLK_H
#define LKL_VIRTIO_BLK_H

#include <stdint.h>

struct disk;

struct virtio_blk_config {
	uint64_t capacity; /* sectors of 512 bytes, whatever blk_size */
	uint32_t size_max;
	uint32_t seg_max;
	uint16_t cylinders;
	uint8_t heads;
	uint8_t sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp;
	uint8_t alignment_offset;
	uint16_t min_io_size; /* logical blocks */
	uint32_t opt_io_size; /* logical blocks */
};

/* Fills disk->device and disk->config from what the disk is. */
void virtio_blk_init(struct disk *disk, uint32_t block_size);

#endif
