// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#include "virtio_mmio.h"

#include <string.h>

/* Registers, by offset (section 4.2.2). */
enum {
	REG_MAGIC = 0x000,
	REG_VERSION = 0x004,
	REG_DEVICE_ID = 0x008,
	REG_VENDOR_ID = 0x00c,
	REG_DEVICE_FEATURES = 0x010,
	REG_DEVICE_FEATURES_SELECT = 0x014,
	REG_DRIVER_FEATURES = 0x020,
	REG_DRIVER_FEATURES_SELECT = 0x024,
	REG_QUEUE_SELECT = 0x030,
	REG_QUEUE_SIZE_MAX = 0x034,
	REG_QUEUE_SIZE = 0x038,
	REG_QUEUE_READY = 0x044,
	REG_QUEUE_NOTIFY = 0x050,
	REG_INTERRUPT_STATUS = 0x060,
	REG_INTERRUPT_ACK = 0x064,
	REG_STATUS = 0x070,
	REG_QUEUE_DESCRIPTORS_LOW = 0x080,
	REG_QUEUE_DESCRIPTORS_HIGH = 0x084,
	REG_QUEUE_DRIVER_LOW = 0x090,
	REG_QUEUE_DRIVER_HIGH = 0x094,
	REG_QUEUE_DEVICE_LOW = 0x0a0,
	REG_QUEUE_DEVICE_HIGH = 0x0a4,
	REG_SHM_LENGTH_LOW = 0x0b0,
	REG_SHM_BASE_HIGH = 0x0bc,
	REG_CONFIG_GENERATION = 0x0fc,
	REG_CONFIG = 0x100,
};

#define MAGIC 0x74726976  /* "virt" */
#define VENDOR 0x4c4b4c00 /* ours to choose: "LKL" */

#define STATUS_FEATURES_OK 0x08u
#define STATUS_DRIVER_OK 0x04u
#define STATUS_NEEDS_RESET 0x40u

#define INTERRUPT_USED 0x1u
#define INTERRUPT_CONFIG 0x2u

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags;
	uint16_t next;
};

#define DESCRIPTOR_NEXT 0x1
#define DESCRIPTOR_WRITE 0x2
#define DESCRIPTOR_INDIRECT 0x4

struct driver_area {
	uint16_t flags;
	_Atomic uint16_t index;
	uint16_t ring[];
};

#define DRIVER_NO_INTERRUPT 0x1

struct used_element {
	uint32_t head;
	uint32_t written;
};

struct device_area {
	uint16_t flags;
	_Atomic uint16_t index;
	struct used_element ring[];
};

/* Kernel memory given by address, or NULL where it is not all of its RAM. */
static void *ram_at(const struct virtio_device *device, uint64_t address,
		    uint64_t length)
{
	uint64_t start = (uintptr_t)device->ram;

	if (address < start || length > device->ram_size ||
	    address - start > device->ram_size - length)
		return NULL;
	return (void *)(uintptr_t)address;
}

static void needs_reset(struct virtio_device *device)
{
	device->status |= STATUS_NEEDS_RESET;
	device->interrupt_status |= INTERRUPT_CONFIG;
	device->interrupt(device);
}

/* ---- The queue --------------------------------------------------------- */

static void add_segment(struct virtio_chain *chain, void *base, size_t length,
			bool write)
{
	uint32_t count = chain->readable + chain->writable;
	bool follows = write ? chain->writable : chain->readable;

	if (follows) {
		struct host_segment *last = &chain->segments[count - 1];

		if ((unsigned char *)last->base + last->length == base) {
			last->length += length;
			return;
		}
	}
	chain->segments[count] = (struct host_segment){base, length};
	if (write)
		chain->writable++;
	else
		chain->readable++;
}

/*
 * Follows a chain of descriptors from head on, through at most one indirect
 * table.  Returns false when nothing can be answered, because the place of
 * the answer (the last part to write) is not known.
 */
static bool collect_chain(struct virtio_device *device, uint16_t head)
{
	struct virtio_chain *chain = &device->chain;
	const struct descriptor *table =
	    (const void *)(uintptr_t)device->queue.descriptors;
	uint32_t entries = device->queue.size;
	uint32_t index = head;
	bool indirect = false;
	bool answerable = false;

	chain->readable = 0;
	chain->writable = 0;
	chain->valid = true;
	for (uint32_t seen = 0;; seen++) {
		struct descriptor entry;
		void *base;
		bool write;

		if (index >= entries || seen == VIRTIO_CHAIN_MAX)
			return false;
		entry = table[index];
		write = entry.flags & DESCRIPTOR_WRITE;
		base = ram_at(device, entry.address, entry.length);
		if (entry.flags & DESCRIPTOR_INDIRECT) {
			if (indirect || entry.flags & DESCRIPTOR_NEXT ||
			    entry.length % sizeof(entry) || !base ||
			    entry.address % _Alignof(struct descriptor))
				return false;
			indirect = true;
			table = base;
			entries = entry.length / sizeof(entry);
			index = 0;
			continue;
		}
		if (entry.length) {
			if (!base || (!write && chain->writable))
				chain->valid = false;
			else
				add_segment(chain, base, entry.length, write);
			if (write)
				answerable = base;
		}
		if (!(entry.flags & DESCRIPTOR_NEXT))
			return answerable;
		index = entry.next;
	}
}

/* Serves all requests that the driver has made available. */
static void drain(struct virtio_device *device)
{
	struct virtio_queue *queue = &device->queue;
	struct driver_area *driver = (void *)(uintptr_t)queue->driver;
	struct device_area *area = (void *)(uintptr_t)queue->device;
	bool served = false;

	if (!queue->ready || !(device->status & STATUS_DRIVER_OK) ||
	    device->status & STATUS_NEEDS_RESET)
		return;
	for (;;) {
		uint16_t waiting =
		    (uint16_t)(atomic_load_explicit(&driver->index,
						    memory_order_acquire) -
			       queue->next_available);
		struct used_element *used;
		uint32_t written;
		uint16_t head;

		if (!waiting)
			break;
		if (waiting > queue->size) {
			needs_reset(device);
			return;
		}
		head = driver->ring[queue->next_available % queue->size];
		queue->next_available++;
		if (!collect_chain(device, head) ||
		    !device->serve(device, &device->chain, &written)) {
			needs_reset(device);
			return;
		}
		used = &area->ring[queue->next_used % queue->size];
		used->head = head;
		used->written = written;
		queue->next_used++;
		atomic_store_explicit(&area->index, queue->next_used,
				      memory_order_release);
		served = true;
	}
	/* The index must be out before the flag is read. */
	atomic_thread_fence(memory_order_seq_cst);
	if (served && !(driver->flags & DRIVER_NO_INTERRUPT)) {
		device->interrupt_status |= INTERRUPT_USED;
		device->interrupt(device);
	}
}

static void set_ready(struct virtio_device *device, bool ready)
{
	struct virtio_queue *queue = &device->queue;
	uint64_t size = queue->size;

	queue->ready = false;
	if (!ready)
		return;
	if (!size || queue->descriptors % 16 || queue->driver % 2 ||
	    queue->device % 4 ||
	    !ram_at(device, queue->descriptors,
		    size * sizeof(struct descriptor)) ||
	    !ram_at(device, queue->driver,
		    sizeof(struct driver_area) + size * 2) ||
	    !ram_at(device, queue->device,
		    sizeof(struct device_area) +
			size * sizeof(struct used_element))) {
		needs_reset(device);
		return;
	}
	queue->next_available = 0;
	queue->next_used = 0;
	queue->ready = true;
}

/* ---- The registers ----------------------------------------------------- */

static void reset(struct virtio_device *device)
{
	device->status = 0;
	device->interrupt_status = 0;
	device->features_select = 0;
	device->driver_features_select = 0;
	device->queue_select = 0;
	device->driver_features = 0;
	device->queue = (struct virtio_queue){0};
}

static void set_status(struct virtio_device *device, uint32_t status)
{
	if (!status) {
		reset(device);
		return;
	}
	/* A driver that asks for what is not offered is refused here. */
	if (status & STATUS_FEATURES_OK &&
	    (device->driver_features & ~device->features ||
	     !(device->driver_features & VIRTIO_F_VERSION_1)))
		status &= ~STATUS_FEATURES_OK;
	device->status = status | (device->status & STATUS_NEEDS_RESET);
}

static void set_half(uint64_t *word, uint32_t value, bool high)
{
	if (high)
		*word = (*word & UINT32_MAX) | (uint64_t)value << 32;
	else
		*word = (*word & ~(uint64_t)UINT32_MAX) | value;
}

static uint32_t half(uint64_t word, uint32_t select)
{
	if (select > 1)
		return 0;
	return (uint32_t)(word >> (32 * select));
}

static uint64_t read_config(const struct virtio_device *device, uint64_t offset,
			    uint32_t size)
{
	uint64_t value = 0;

	if (size <= sizeof(value) && offset < device->config_size &&
	    size <= device->config_size - offset)
		memcpy(&value, (const char *)device->config + offset, size);
	return value;
}

static struct virtio_device *device_at(uint64_t address)
{
	return (void *)(uintptr_t)(address &
				   ~(uint64_t)(VIRTIO_WINDOW_SIZE - 1));
}

uint64_t virtio_mmio_read(uint64_t address, uint32_t size)
{
	const struct virtio_device *device = device_at(address);
	uint64_t offset = address % VIRTIO_WINDOW_SIZE;
	bool queue = device->queue_select == 0;

	if (offset >= REG_CONFIG)
		return read_config(device, offset - REG_CONFIG, size);
	switch (offset) {
	case REG_MAGIC:
		return MAGIC;
	case REG_VERSION:
		return 2;
	case REG_DEVICE_ID:
		return device->id;
	case REG_VENDOR_ID:
		return VENDOR;
	case REG_DEVICE_FEATURES:
		return half(device->features, device->features_select);
	case REG_QUEUE_SIZE_MAX:
		return queue ? VIRTIO_QUEUE_SIZE : 0;
	case REG_QUEUE_READY:
		return queue && device->queue.ready;
	case REG_INTERRUPT_STATUS:
		return device->interrupt_status;
	case REG_STATUS:
		return device->status;
	case REG_SHM_LENGTH_LOW ... REG_SHM_BASE_HIGH:
		return UINT32_MAX;  /* there is no shared memory region */
	case REG_CONFIG_GENERATION: /* it never changes */
	default:
		return 0;
	}
}

static void write_queue(struct virtio_device *device, uint64_t offset,
			uint32_t value)
{
	struct virtio_queue *queue = &device->queue;

	switch (offset) {
	case REG_QUEUE_SIZE:
		/* A power of two (section 2.7); set_ready() refuses 0. */
		if (value <= VIRTIO_QUEUE_SIZE && !(value & (value - 1)))
			queue->size = value;
		break;
	case REG_QUEUE_DESCRIPTORS_LOW:
	case REG_QUEUE_DESCRIPTORS_HIGH:
		set_half(&queue->descriptors, value, offset & 4);
		break;
	case REG_QUEUE_DRIVER_LOW:
	case REG_QUEUE_DRIVER_HIGH:
		set_half(&queue->driver, value, offset & 4);
		break;
	case REG_QUEUE_DEVICE_LOW:
	case REG_QUEUE_DEVICE_HIGH:
		set_half(&queue->device, value, offset & 4);
		break;
	default:
		break;
	}
}

void virtio_mmio_write(uint64_t address, uint64_t value, uint32_t size)
{
	struct virtio_device *device = device_at(address);
	uint64_t offset = address % VIRTIO_WINDOW_SIZE;
	bool queue = device->queue_select == 0;

	(void)size; /* registers are 32 bits wide; nothing of config is set */
	switch (offset) {
	case REG_DEVICE_FEATURES_SELECT:
		device->features_select = (uint32_t)value;
		break;
	case REG_DRIVER_FEATURES:
		if (device->driver_features_select <= 1)
			set_half(&device->driver_features, (uint32_t)value,
				 device->driver_features_select);
		break;
	case REG_DRIVER_FEATURES_SELECT:
		device->driver_features_select = (uint32_t)value;
		break;
	case REG_QUEUE_SELECT:
		device->queue_select = (uint32_t)value;
		break;
	case REG_QUEUE_READY:
		if (queue)
			set_ready(device, value & 1);
		break;
	case REG_QUEUE_NOTIFY:
		if (value == 0)
			drain(device);
		break;
	case REG_INTERRUPT_ACK:
		device->interrupt_status &= ~(uint32_t)value;
		break;
	case REG_STATUS:
		set_status(device, (uint32_t)value);
		break;
	default:
		/* Not while the queue is in use: drain() trusts it. */
		if (queue && !device->queue.ready)
			write_queue(device, offset, (uint32_t)value);
		break;
	}
}
