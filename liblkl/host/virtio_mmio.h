/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registers of a virtio device with one queue, as the virtio 1.2
 * specification has them for memory-mapped devices of version 2 (section
 * 4.2.2), and its split virtqueue (section 2.7).
 *
 * Requests are done within the notification, so the driver's view is never
 * behind: event indexes (VIRTIO_F_EVENT_IDX) would save nothing.
 *
 * All fields here belong to the thread that holds the kernel's CPU.
 */
#ifndef LKL_VIRTIO_MMIO_H
#define LKL_VIRTIO_MMIO_H

#include "host.h"

/*
 * A device's address in the kernel is that of its struct virtio_device, which
 * therefore is aligned to the window's size: no table of devices is needed to
 * find it again.
 */
#define VIRTIO_WINDOW_SIZE 0x1000u

/* One more entry than this in a chain makes the request fail. */
#define VIRTIO_QUEUE_SIZE 256u
#define VIRTIO_CHAIN_MAX 1024u

#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_VERSION_1 (UINT64_C(1) << 32)

struct virtio_queue {
	uint32_t size;
	bool ready;
	uint64_t descriptors, driver, device; /* addresses of the three areas */
	uint16_t next_available;
	uint16_t next_used;
};

/* A request as the driver made it: what the device reads, then writes. */
struct virtio_chain {
	struct host_segment segments[VIRTIO_CHAIN_MAX];
	uint32_t readable; /* so many segments from 0 on ... */
	uint32_t writable; /* ... and so many after them */
	bool valid;	   /* else only the last writable one can be trusted */
};

struct virtio_device {
	uint32_t id; /* what kind, section 5 */
	uint64_t features;
	const void *config;
	size_t config_size;

	/* Where the driver's addresses may lie. */
	const unsigned char *ram;
	uint64_t ram_size;

	/*
	 * Does one request and returns the bytes written into it; false: there
	 * was not even room for a status.
	 */
	bool (*serve)(struct virtio_device *device, struct virtio_chain *chain,
		      uint32_t *written);
	void (*interrupt)(struct virtio_device *device);

	/* What the driver has set. */
	uint32_t status;
	uint32_t interrupt_status;
	uint32_t features_select, driver_features_select, queue_select;
	uint64_t driver_features;
	struct virtio_queue queue;
	struct virtio_chain chain;
};

uint64_t virtio_mmio_read(uint64_t address, uint32_t size);
void virtio_mmio_write(uint64_t address, uint64_t value, uint32_t size);

#endif
