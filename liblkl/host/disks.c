// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/* The disks of a kernel, by number: adding and removing at run time. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "disk.h"
#include "kernel.h"

#define IRQ_LINES (LKL_IRQ_DEVICE_LAST - LKL_IRQ_DEVICE_FIRST + 1)

/* Called on the thread that is in the kernel: only marks the line. */
static void interrupt(struct virtio_device *device)
{
	struct disk *disk = (struct disk *)device;

	disk->kernel->image.entries.lkl_image_irq(disk->irq);
}

/* Under disks_lock; NULL when there is none, or it is on its way out. */
static struct disk *find_disk(struct lkl_kernel *kernel, int number)
{
	if (number < 0 || (size_t)number >= kernel->disk_count ||
	    !kernel->disks[number] || kernel->disks[number]->removing)
		return NULL;
	return kernel->disks[number];
}

bool disk_exists(struct lkl_kernel *kernel, int number)
{
	bool exists;

	lock(&kernel->disks_lock);
	exists = find_disk(kernel, number);
	unlock(&kernel->disks_lock);
	return exists;
}

static int reserve_number(struct lkl_kernel *kernel)
{
	struct disk **disks;
	int number = -ENOMEM;

	lock(&kernel->disks_lock);
	if (kernel->disk_count < INT_MAX) {
		disks = realloc(kernel->disks,
				(kernel->disk_count + 1) * sizeof(*disks));
		if (disks) {
			kernel->disks = disks;
			number = (int)kernel->disk_count++;
			disks[number] = NULL;
		}
	}
	unlock(&kernel->disks_lock);
	return number;
}

static void set_disk(struct lkl_kernel *kernel, int number, struct disk *disk)
{
	lock(&kernel->disks_lock);
	kernel->disks[number] = disk;
	unlock(&kernel->disks_lock);
}

int lkl_disk_add(struct lkl_kernel *kernel, const struct lkl_disk *options)
{
	struct disk *disk;
	int number;
	int error;

	if (!kernel_running(kernel))
		return -EIO;
	number = reserve_number(kernel);
	if (number < 0)
		return number;
	error = disk_create(&disk, options, number, &kernel->ram);
	if (error < 0)
		return error;
	disk->kernel = kernel;
	disk->irq = LKL_IRQ_DEVICE_FIRST + (uint32_t)number % IRQ_LINES;
	disk->device.interrupt = interrupt;
	/* Before the kernel knows it, as it reads the disk at once. */
	set_disk(kernel, number, disk);
	error =
	    (int)kernel_syscall(kernel, LKL_NR_add_virtio_mmio, (intptr_t)disk,
				VIRTIO_WINDOW_SIZE, disk->irq, number);
	if (error >= 0)
		return number;
	/* The source stays the caller's. */
	disk->operations.close = NULL;
	/* If the kernel has ended meanwhile, lkl_destroy() frees the disk. */
	if (kernel_running(kernel)) {
		set_disk(kernel, number, NULL);
		disk_destroy(disk);
	}
	return error;
}

int lkl_disk_remove(struct lkl_kernel *kernel, int number)
{
	struct disk *disk;
	int error;

	if (!kernel_running(kernel))
		return -EIO;
	lock(&kernel->disks_lock);
	disk = find_disk(kernel, number);
	if (disk)
		disk->removing = true;
	unlock(&kernel->disks_lock);
	if (!disk)
		return -ENODEV;
	error = (int)kernel_syscall(kernel, LKL_NR_remove_virtio_mmio, number);
	lock(&kernel->disks_lock);
	if (error < 0)
		disk->removing = false;
	else
		kernel->disks[number] = NULL;
	unlock(&kernel->disks_lock);
	if (error < 0)
		return error;
	/* Who had found it before has its lock. */
	lock(&disk->lock);
	unlock(&disk->lock);
	disk_destroy(disk);
	return 0;
}

int disks_find(struct lkl_kernel *kernel, int number, uint64_t offset,
	       uint64_t length, struct lkl_disk_extent *found)
{
	int error = -EINVAL;
	struct disk *disk;

	lock(&kernel->disks_lock);
	disk = find_disk(kernel, number);
	if (disk)
		lock(&disk->lock);
	unlock(&kernel->disks_lock);
	if (!disk)
		return -ENODEV;
	if (length && length <= disk->capacity &&
	    offset <= disk->capacity - length)
		error = disk_find(disk, offset, length, found);
	unlock(&disk->lock);
	return error;
}

int lkl_disk_statistics(struct lkl_kernel *kernel, int number,
			struct lkl_disk_statistics *statistics)
{
	struct disk *disk;

	lock(&kernel->disks_lock);
	disk = find_disk(kernel, number);
	if (disk)
		*statistics = (struct lkl_disk_statistics){
		    .read_requests = disk->read_requests,
		    .read_bytes = disk->read_bytes,
		    .read_errors = disk->read_errors,
		    .write_requests = disk->write_requests,
		    .write_bytes = disk->write_bytes,
		    .write_errors = disk->write_errors,
		    .overlay_bytes = disk->overlay_bytes,
		};
	unlock(&kernel->disks_lock);
	return disk ? 0 : -ENODEV;
}

void disks_destroy(struct lkl_kernel *kernel)
{
	for (size_t i = 0; i < kernel->disk_count; i++)
		if (kernel->disks[i])
			disk_destroy(kernel->disks[i]);
	free(kernel->disks);
	kernel->disks = NULL;
	kernel->disk_count = 0;
}
