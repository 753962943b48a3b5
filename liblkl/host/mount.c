// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Disks and partitions as the kernel names them, and their mounts.
 *
 * All of it is asked of the kernel, through sysfs, at each call: nothing is
 * kept here that could differ from what the kernel thinks.
 */
#include "kernel.h"
#include "record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Paths made here consist of the kernel's own short names. */
#define PATH_SIZE 256u
#define SECTOR 512u
#define RECORDS_SIZE 65536u
/* mount(2) copies a page from where the options begin, whatever their length.
 */
#define OPTIONS_SIZE 4096u

/* A block device: its folder in sysfs and its name there. */
struct device {
	char folder[PATH_SIZE];
	char name[64];
};

/* Reads a short file of sysfs as text, without the newline. */
static int read_text(struct lkl_kernel *kernel, const char *folder,
		     const char *name, char *text, size_t size)
{
	char path[PATH_SIZE + 64];
	int64_t got;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = (int)lkl_sys_openat(kernel, LKL_AT_FDCWD, path,
				 LKL_O_RDONLY | LKL_O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	got = lkl_sys_read(kernel, fd, text, size - 1);
	lkl_sys_close(kernel, fd);
	if (got < 0)
		return (int)got;
	text[got] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return 0;
}

static int read_number(struct lkl_kernel *kernel, const char *folder,
		       const char *name, uint64_t *number)
{
	char text[32];
	char *end;
	int error = read_text(kernel, folder, name, text, sizeof(text));

	if (error)
		return error;
	*number = strtoull(text, &end, 10);
	return end == text || *end ? -EIO : 0;
}

/*
 * Calls visit for each folder in a folder until it returns other than 0, and
 * returns that.
 */
static int visit_folders(struct lkl_kernel *kernel, const char *folder,
			 int (*visit)(struct lkl_kernel *kernel,
				      const char *folder, const char *name,
				      void *opaque),
			 void *opaque)
{
	unsigned char *records = malloc(RECORDS_SIZE);
	int64_t got = 0;
	int result = 0;
	int fd;

	if (!records)
		return -ENOMEM;
	fd = (int)lkl_sys_openat(kernel, LKL_AT_FDCWD, folder,
				 LKL_O_RDONLY | LKL_O_DIRECTORY | LKL_O_CLOEXEC,
				 0);
	if (fd < 0)
		result = fd;
	while (!result && (got = lkl_read_directory(kernel, fd, records,
						    RECORDS_SIZE)) > 0) {
		const struct lkl_entry *record = (const void *)records;
		const struct lkl_entry *end = (const void *)(records + got);

		for (; !result && record < end; record = record_next(record))
			if (record->type == LKL_DT_DIR)
				result = visit(kernel, folder,
					       record_name(record), opaque);
	}
	if (fd >= 0)
		lkl_sys_close(kernel, fd);
	free(records);
	return result ? result : (int)got;
}

/* Takes the first folder whose name begins with a prefix. */
struct search {
	const char *prefix;
	struct device *found;
};

static int take_by_prefix(struct lkl_kernel *kernel, const char *folder,
			  const char *name, void *opaque)
{
	const struct search *search = opaque;
	char path[PATH_SIZE];
	int length;

	(void)kernel;
	if (strncmp(name, search->prefix, strlen(search->prefix)) != 0)
		return 0;
	if (strlen(name) >= sizeof(search->found->name))
		return -ENAMETOOLONG;
	length = snprintf(path, sizeof(path), "%s/%s", folder, name);
	if (length < 0 || (size_t)length >= sizeof(path))
		return -ENAMETOOLONG;
	strcpy(search->found->folder, path);
	strcpy(search->found->name, name);
	return 1;
}

/* Finds a disk's block device: -ENODEV when there is none. */
static int find_disk(struct lkl_kernel *kernel, int disk, struct device *device)
{
	char folder[PATH_SIZE];
	struct search search = {"virtio", device};
	int result;

	if (!disk_exists(kernel, disk))
		return -ENODEV;
	snprintf(folder, sizeof(folder), "/sys/devices/platform/virtio-mmio.%d",
		 disk);
	result = visit_folders(kernel, folder, take_by_prefix, &search);
	if (result <= 0)
		return result ? result : -ENODEV;
	snprintf(folder, sizeof(folder),
		 "/sys/devices/platform/virtio-mmio.%d/%s/block", disk,
		 device->name);
	search.prefix = "vd";
	result = visit_folders(kernel, folder, take_by_prefix, &search);
	if (result <= 0)
		return result ? result : -ENODEV;
	return 0;
}

/* Takes the folder of a partition by its number. */
struct partition_search {
	uint32_t number;
	struct device *found;
};

static int take_by_number(struct lkl_kernel *kernel, const char *folder,
			  const char *name, void *opaque)
{
	const struct partition_search *search = opaque;
	struct search taken = {name, search->found};
	char path[PATH_SIZE + 64];
	uint64_t number;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	/* Other folders, as "queue", have no such file. */
	if (read_number(kernel, path, "partition", &number) ||
	    number != search->number)
		return 0;
	return take_by_prefix(kernel, folder, name, &taken);
}

/* Finds a disk (partition 0) or partition: -ENXIO when it has none of it. */
static int find_device(struct lkl_kernel *kernel, int disk, uint32_t partition,
		       struct device *device)
{
	struct device whole;
	struct partition_search search = {partition, device};
	int result = find_disk(kernel, disk, &whole);

	if (result)
		return result;
	if (partition == 0) {
		*device = whole;
		return 0;
	}
	result = visit_folders(kernel, whole.folder, take_by_number, &search);
	if (result <= 0)
		return result ? result : -ENXIO;
	return 0;
}

/* Makes sure that a path is the node of a block device. */
static int make_node(struct lkl_kernel *kernel, const char *path,
		     uint32_t major, uint32_t minor)
{
	struct lkl_stat stat;
	int error = stat_entry(kernel, LKL_AT_FDCWD, path, &stat, NULL);

	if (!error && (stat.mode & LKL_S_IFMT) == LKL_S_IFBLK &&
	    stat.special_major == major && stat.special_minor == minor)
		return 0;
	if (!error)
		error = (int)lkl_sys_unlinkat(kernel, LKL_AT_FDCWD, path, 0);
	if (error && error != -ENOENT)
		return error;
	/* The encoding of new_encode_dev() in include/linux/kdev_t.h. */
	return (int)lkl_sys_mknodat(
	    kernel, LKL_AT_FDCWD, path, LKL_S_IFBLK | 0600,
	    (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12);
}

int lkl_disk_device(struct lkl_kernel *kernel, int disk, uint32_t partition,
		    char *path, size_t size)
{
	struct device device;
	uint32_t major, minor;
	char numbers[32];
	int error = find_device(kernel, disk, partition, &device);
	int length;

	if (error)
		return error;
	length = snprintf(path, size, "/dev/%s", device.name);
	if (length < 0 || (size_t)length >= size)
		return -ERANGE;
	error =
	    read_text(kernel, device.folder, "dev", numbers, sizeof(numbers));
	if (error)
		return error;
	if (sscanf(numbers, "%" SCNu32 ":%" SCNu32, &major, &minor) != 2)
		return -EIO;
	error = make_node(kernel, path, major, minor);
	return error ? error : length;
}

/* ---- Partitions -------------------------------------------------------- */

struct partition_list {
	struct lkl_partition *partitions;
	size_t count;
	size_t allocated;
};

static int add_partition(struct lkl_kernel *kernel, const char *folder,
			 const char *name, void *opaque)
{
	struct partition_list *list = opaque;
	char path[PATH_SIZE + 64];
	uint64_t number, start, size, read_only;
	int error;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	error = read_number(kernel, path, "partition", &number);
	if (error)
		return error == -ENOENT ? 0 : error;
	error = read_number(kernel, path, "start", &start);
	if (!error)
		error = read_number(kernel, path, "size", &size);
	if (!error)
		error = read_number(kernel, path, "ro", &read_only);
	if (error)
		return error;
	if (list->count == list->allocated) {
		size_t count = list->allocated ? list->allocated * 2 : 16;
		struct lkl_partition *partitions =
		    realloc(list->partitions, count * sizeof(*partitions));

		if (!partitions)
			return -ENOMEM;
		list->partitions = partitions;
		list->allocated = count;
	}
	list->partitions[list->count++] = (struct lkl_partition){
	    .number = (uint32_t)number,
	    .read_only = read_only != 0,
	    .start = start * SECTOR,
	    .size = size * SECTOR,
	};
	return 0;
}

static int compare_partitions(const void *a, const void *b)
{
	const struct lkl_partition *left = a, *right = b;

	return left->number < right->number ? -1 : left->number > right->number;
}

int lkl_disk_partitions(struct lkl_kernel *kernel, int disk,
			struct lkl_partition *partitions, size_t count)
{
	struct partition_list list = {0};
	struct device device;
	int result = find_disk(kernel, disk, &device);

	if (!result)
		result =
		    visit_folders(kernel, device.folder, add_partition, &list);
	if (!result) {
		result = (int)list.count;
		if (list.count)
			qsort(list.partitions, list.count,
			      sizeof(*list.partitions), compare_partitions);
		if (count > list.count)
			count = list.count;
		if (count)
			memcpy(partitions, list.partitions,
			       count * sizeof(*partitions));
	}
	free(list.partitions);
	return result;
}

/* ---- Mounts ------------------------------------------------------------ */

int lkl_mount_device(struct lkl_kernel *kernel, const char *device,
		     const char *type, uint32_t flags, const char *options,
		     char *path, size_t size)
{
	const char *name = strrchr(device, '/');
	char page[OPTIONS_SIZE] = {0};
	int result;

	if (options) {
		if (strlen(options) >= sizeof(page))
			return -E2BIG;
		strcpy(page, options);
	}
	/* "/mnt/vda1.0": no name is given twice. */
	result =
	    snprintf(path, size, "/mnt/%s.%" PRIu64, name ? name + 1 : device,
		     atomic_fetch_add(&kernel->mount_count, 1));
	if (result < 0 || (size_t)result >= size)
		return -ERANGE;
	result = (int)lkl_sys_mkdirat(kernel, LKL_AT_FDCWD, path, 0755);
	if (result)
		return result;
	/* What stands in an image must not reach the kernel's drivers. */
	result = (int)lkl_sys_mount(
	    kernel, device, path, type,
	    flags | LKL_MS_NODEV | LKL_MS_NOSUID | LKL_MS_NOEXEC, page);
	if (result)
		lkl_sys_unlinkat(kernel, LKL_AT_FDCWD, path, LKL_AT_REMOVEDIR);
	return result;
}

int lkl_mount_dev(struct lkl_kernel *kernel, int disk, uint32_t partition,
		  const char *type, uint32_t flags, const char *options,
		  char *path, size_t size)
{
	char device[PATH_SIZE];
	int result =
	    lkl_disk_device(kernel, disk, partition, device, sizeof(device));

	if (result < 0)
		return result;
	return lkl_mount_device(kernel, device, type, flags, options, path,
				size);
}

int lkl_umount(struct lkl_kernel *kernel, const char *path)
{
	int error = (int)lkl_sys_umount2(kernel, path, 0);

	if (error)
		return error;
	return (int)lkl_sys_unlinkat(kernel, LKL_AT_FDCWD, path,
				     LKL_AT_REMOVEDIR);
}
