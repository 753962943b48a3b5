// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A disk of 3 TiB with a partition near its end, beyond what 32 bits of sectors
 * or bytes can tell, and volumes of 70 GiB and more.
 */
#include "gpt.h"
#include "machine.h"
#include "scratch.h"

#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)
#define VOLUME (80 * GIB)
#define START (3 * TIB - 100 * GIB)
/* Far into a volume, beyond 64 GiB. */
#define FAR (70 * GIB)

static void check_disk(struct lkl_kernel *kernel)
{
	const struct gpt_partition partition = {
	    .first = START / GPT_SECTOR,
	    .last = (START + VOLUME) / GPT_SECTOR - 1,
	};
	struct lkl_partition found = {0};
	struct scratch_disk scratch;
	char path[256];
	int disk, root, fd;
	struct lkl_statfs statfs;
	static char one[1 << 16], other[1 << 16];

	need(run("truncate -s 3T disk && "
		 "mkfs.ext4 -q -E offset=%llu,lazy_itable_init=1 -O "
		 "^has_journal "
		 "disk %lluk",
		 (unsigned long long)START, (unsigned long long)VOLUME >> 10),
	     "a volume near the end of 3 TiB");
	need(gpt_write("disk", &partition, 1), "its partition");
	disk = add_scratch(kernel, "disk", &scratch, true);
	is(lkl_disk_partitions(kernel, disk, &found, 1), 1, "it is found");
	ok(found.number == 1 && found.start == START && found.size == VOLUME,
	   "where it is");
	is(lkl_mount_dev(kernel, disk, 1, "ext4", 0, NULL, path, sizeof(path)),
	   0, "mounted");
	root = (int)lkl_sys_openat(kernel, LKL_AT_FDCWD, path,
				   LKL_O_RDONLY | LKL_O_DIRECTORY, 0);
	is(lkl_sys_fstatfs(kernel, root, &statfs), 0, "statfs");
	ok((uint64_t)(statfs.f_blocks * statfs.f_bsize) > 76 * GIB,
	   "tells its size");
	fd = (int)lkl_sys_openat(kernel, root, "file",
				 LKL_O_RDWR | LKL_O_CREAT | LKL_O_LARGEFILE,
				 0644);
	memset(one, 'x', sizeof(one));
	is(lkl_sys_pwrite64(kernel, fd, one, sizeof(one), (int64_t)FAR),
	   sizeof(one), "a file of more than 70 GiB");
	is(lkl_sys_fsync(kernel, fd), 0, "written");
	lkl_sys_close(kernel, fd);
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
	close(scratch.fd);

	disk = add_image(kernel, "disk", 0);
	is(lkl_mount_dev(kernel, disk, 1, "ext4", LKL_MS_RDONLY, NULL, path,
			 sizeof(path)),
	   0, "mounted again");
	strcat(path, "/file");
	fd = lkl_open_file(kernel, LKL_AT_FDCWD, path);
	is(lkl_read_file(kernel, fd, FAR, other, sizeof(other)), sizeof(other),
	   "read");
	ok(memcmp(one, other, sizeof(one)) == 0, "the same bytes");
	lkl_sys_close(kernel, fd);
	*strrchr(path, '/') = '\0';
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
	unlink("disk");
}

/* The last block of the disk itself, by its number. */
static void check_raw(struct lkl_kernel *kernel)
{
	const uint64_t size = 9 * TIB + 5 * 512;
	char path[64], bytes[512] = "the very last sector", got[512] = "";
	int fd = open("disk", O_RDWR | O_CREAT, 0600);
	int disk;

	need(ftruncate(fd, (off_t)size) == 0 &&
		 pwrite(fd, bytes, sizeof(bytes),
			(off_t)(size - sizeof(bytes))) == sizeof(bytes),
	     "a disk of 9 TiB");
	close(fd);
	disk = add_image(kernel, "disk", 0);
	need(lkl_disk_device(kernel, disk, 0, path, sizeof(path)) > 0,
	     "its device");
	fd = (int)lkl_sys_openat(kernel, LKL_AT_FDCWD, path,
				 LKL_O_RDONLY | LKL_O_LARGEFILE, 0);
	is(lkl_sys_lseek(kernel, fd, 0, LKL_SEEK_END), size, "its size");
	is(lkl_read_file(kernel, fd, size - sizeof(got), got, sizeof(got)),
	   sizeof(got), "its last sector");
	ok(memcmp(got, bytes, sizeof(got)) == 0, "is what was written");
	lkl_sys_close(kernel, fd);
	is(lkl_disk_remove(kernel, disk), 0, "removed");
}

int main(int argc, char **argv)
{
	struct lkl_kernel *kernel = boot(argv, 0);

	(void)argc;
	scratch_begin(argv);
	check_disk(kernel);
	check_raw(kernel);
	is(lkl_halt(kernel), 0, "halted");
	lkl_destroy(kernel);
	return tap_end();
}
