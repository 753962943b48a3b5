// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/* A disk of 40 partitions: found, described, and the last ones mounted. */
#include "gpt.h"
#include "machine.h"
#include "scratch.h"

#define COUNT 40
#define MIB (1u << 20)

/* Partition i, counted from 0: 3 MiB from (i + 1) * 4 MiB on. */
static uint64_t start_of(unsigned i)
{
	return (i + 1) * 4ull * MIB;
}

static void make_disk(void)
{
	struct gpt_partition partitions[COUNT] = {0};

	for (unsigned i = 0; i < COUNT; i++) {
		/* One number is left out. */
		if (i == 20)
			continue;
		partitions[i].first = start_of(i) / GPT_SECTOR;
		partitions[i].last = partitions[i].first + 3 * MIB / 512 - 1;
	}
	need(run("truncate -s 200M disk && mkdir tree && "
		 "echo partition 40 > tree/name && truncate -s 3M volume && "
		 "mkfs.ext4 -q -d tree volume && "
		 "dd if=volume of=disk bs=1M seek=160 conv=notrunc "
		 "status=none"),
	     "a disk with a volume");
	need(gpt_write("disk", partitions, COUNT), "and a partition table");
}

static void check_partitions(struct lkl_kernel *kernel, int disk)
{
	struct lkl_partition found[COUNT];
	unsigned right = 0;

	is(lkl_disk_partitions(kernel, disk, NULL, 0), COUNT - 1,
	   "39 partitions");
	memset(found, 0xff, sizeof(found));
	is(lkl_disk_partitions(kernel, disk, found, 3), COUNT - 1,
	   "as many with a short list");
	is(found[3].number, UINT32_MAX, "no more than fit are filled in");
	is(lkl_disk_partitions(kernel, disk, found, COUNT), COUNT - 1,
	   "and with a long one");
	for (unsigned i = 0; i < COUNT - 1; i++) {
		unsigned number = i < 20 ? i + 1 : i + 2;

		right += found[i].number == number &&
			 found[i].start == start_of(number - 1) &&
			 found[i].size == 3 * MIB && found[i].read_only;
	}
	is(right, COUNT - 1, "each where it is, in order of their numbers");
	is(lkl_disk_partitions(kernel, disk + 1, found, COUNT), -ENODEV,
	   "none of a disk that is not");
}

int main(int argc, char **argv)
{
	struct lkl_kernel *kernel = boot(argv, 0);
	char path[256], name[64] = "";
	int disk, fd;

	(void)argc;
	scratch_begin(argv);
	make_disk();
	disk = add_image(kernel, "disk", 0);
	check_partitions(kernel, disk);
	ok(lkl_disk_device(kernel, disk, 40, path, sizeof(path)) > 0,
	   "the last one has a device");
	is(lkl_disk_device(kernel, disk, 21, path, sizeof(path)), -ENXIO,
	   "the missing one has none");
	is(lkl_mount_dev(kernel, disk, 40, "ext4", LKL_MS_RDONLY, NULL, path,
			 sizeof(path)),
	   0, "the last one mounts");
	strcat(path, "/name");
	fd = lkl_open_file(kernel, LKL_AT_FDCWD, path);
	ok(lkl_read_file(kernel, fd, 0, name, sizeof(name)) == 13 &&
	       strcmp(name, "partition 40\n") == 0,
	   "and holds what was put there");
	lkl_sys_close(kernel, fd);
	*strrchr(path, '/') = '\0';
	is(lkl_disk_remove(kernel, disk), -EBUSY, "the disk is in use");
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
	is(lkl_disk_partitions(kernel, disk, NULL, 0), -ENODEV, "and gone");

	/* The node is made again when someone has taken it away. */
	disk = add_image(kernel, "disk", 0);
	need(lkl_disk_device(kernel, disk, 30, path, sizeof(path)) > 0,
	     "a device");
	is(lkl_sys_unlinkat(kernel, LKL_AT_FDCWD, path, 0), 0, "is removed");
	need(lkl_disk_device(kernel, disk, 30, path, sizeof(path)) > 0,
	     "and asked for again");
	fd = (int)lkl_sys_openat(kernel, LKL_AT_FDCWD, path, LKL_O_RDONLY, 0);
	ok(fd >= 0, "it opens");
	is(lkl_sys_lseek(kernel, fd, 0, LKL_SEEK_END), 3 * MIB, "its size");
	lkl_sys_close(kernel, fd);
	is(lkl_halt(kernel), 0, "halted");
	lkl_destroy(kernel);
	return tap_end();
}
