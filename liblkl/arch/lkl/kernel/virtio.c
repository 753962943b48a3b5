// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * virtio devices of the host, as platform devices that the generic
 * virtio-mmio driver finds; added and removed at run time.
 */
#include <linux/blkdev.h>
#include <linux/device.h>
#include <linux/err.h>
#include <linux/ioport.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/xarray.h>
#include <asm/syscall.h>

static DEFINE_XARRAY(devices);
static DEFINE_MUTEX(devices_lock);

/* Returns once the driver has bound and partitions are known. */
s64 sys_lkl_add_virtio_mmio(u64 base, u64 size, u64 irq, u64 id)
{
	const struct resource resources[] = {
		DEFINE_RES_MEM(base, size),
		DEFINE_RES_IRQ(irq),
	};
	struct platform_device *device;
	int error = 0;

	if (irq >= NR_IRQS || id > INT_MAX)
		return -EINVAL;

	mutex_lock(&devices_lock);
	device = platform_device_register_simple("virtio-mmio", id, resources,
						 ARRAY_SIZE(resources));
	if (IS_ERR(device)) {
		error = PTR_ERR(device);
		goto unlock;
	}
	if (!platform_get_drvdata(device))
		error = -ENODEV;
	else
		error = xa_err(xa_store(&devices, id, device, GFP_KERNEL));
	if (error)
		platform_device_unregister(device);
unlock:
	mutex_unlock(&devices_lock);
	return error;
}

/* A block device below @parent that somebody has open, as a mount has. */
static int in_use(struct device *device, void *unused)
{
	if (device->class == &block_class &&
	    atomic_read(&dev_to_bdev(device)->bd_openers))
		return -EBUSY;
	return device_for_each_child(device, NULL, in_use);
}

s64 sys_lkl_remove_virtio_mmio(u64 id)
{
	struct platform_device *device;
	int error;

	mutex_lock(&devices_lock);
	device = xa_load(&devices, id);
	error = device ? device_for_each_child(&device->dev, NULL, in_use) :
			 -ENODEV;
	if (!error) {
		xa_erase(&devices, id);
		platform_device_unregister(device);
	}
	mutex_unlock(&devices_lock);
	return error;
}
