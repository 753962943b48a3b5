// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What stands between a disk and its file systems: the targets of the device
 * mapper and the personalities of MD that volumes are made of, and two of them
 * at work.
 */
#include "machine.h"
#include "scratch.h"

#include <linux/dm-ioctl.h>
#include <linux/ioctl.h>

#define DISK_SIZE (16u << 20)
#define SECTOR 512u

static struct {
	struct dm_ioctl head;
	char data[16384];
} request;

/* Runs a request about a mapped device: 0 or a negative errno. */
static int64_t control(struct lkl_kernel *kernel, int fd, uint32_t command,
		       const char *name, uint32_t flags)
{
	request.head.version[0] = DM_VERSION_MAJOR;
	request.head.data_size = sizeof(request);
	request.head.data_start = sizeof(request.head);
	request.head.flags = flags;
	snprintf(request.head.name, sizeof(request.head.name), "%s", name);
	return lkl_sys_ioctl(kernel, fd, command, &request);
}

static bool has_target(const char *name)
{
	const char *at = request.data;

	for (;;) {
		const struct dm_target_versions *target = (const void *)at;

		if (strcmp(target->name, name) == 0)
			return true;
		if (!target->next)
			return false;
		at += target->next;
	}
}

/* Makes a device of one target over all of its sectors. */
static bool map(struct lkl_kernel *kernel, int fd, const char *name,
		uint64_t sectors, const char *type, const char *parameters)
{
	struct dm_target_spec *spec = (struct dm_target_spec *)request.data;
	int64_t error;

	memset(&request, 0, sizeof(request));
	error = control(kernel, fd, DM_DEV_CREATE, name, 0);
	if (!error) {
		memset(&request, 0, sizeof(request));
		request.head.target_count = 1;
		spec->length = sectors;
		snprintf(spec->target_type, sizeof(spec->target_type), "%s",
			 type);
		strcpy((char *)(spec + 1), parameters);
		error = control(kernel, fd, DM_TABLE_LOAD, name, 0);
	}
	if (!error) {
		memset(&request, 0, sizeof(request));
		error = control(kernel, fd, DM_DEV_SUSPEND, name, 0);
	}
	if (error)
		printf("# %s: %s\n", name, lkl_errno_name((int)error));
	return !error;
}

static bool write_device(struct lkl_kernel *kernel, const char *path,
			 const void *bytes, size_t length)
{
	int64_t fd =
	    lkl_sys_openat(kernel, LKL_AT_FDCWD, path, LKL_O_WRONLY, 0);
	bool written =
	    fd >= 0 &&
	    lkl_sys_write(kernel, (int)fd, bytes, length) == (int64_t)length &&
	    lkl_sys_fsync(kernel, (int)fd) == 0;

	if (fd >= 0)
		lkl_sys_close(kernel, (int)fd);
	return written;
}

static void test_targets(struct lkl_kernel *kernel, int fd)
{
	static const char *const targets[] = {
	    "linear", "striped", "crypt",     "snapshot",   "snapshot-origin",
	    "mirror", "raid",	 "thin-pool", "thin",	    "zero",
	    "verity", "cache",	 "integrity", "writecache",
	};

	memset(&request, 0, sizeof(request));
	is(control(kernel, fd, DM_LIST_VERSIONS, "", 0), 0, "targets listed");
	for (size_t i = 0; i < sizeof(targets) / sizeof(*targets); i++)
		ok(has_target(targets[i]), "target %s", targets[i]);
}

static void test_personalities(struct lkl_kernel *kernel)
{
	static const char *const names[] = {
	    "[linear]", "[raid0]", "[raid1]", "[raid10]",
	    "[raid4]",	"[raid5]", "[raid6]",
	};
	char text[512] = "";
	int64_t fd = lkl_sys_openat(kernel, LKL_AT_FDCWD, "/proc/mdstat",
				    LKL_O_RDONLY, 0);

	need(fd >= 0, "/proc/mdstat opens");
	lkl_sys_read(kernel, (int)fd, text, sizeof(text) - 1);
	lkl_sys_close(kernel, (int)fd);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		ok(strstr(text, names[i]), "personality %s", names[i]);
}

static void test_linear(struct lkl_kernel *kernel, int fd, int disk)
{
	const uint64_t start = 2048;
	unsigned char wanted[SECTOR], got[SECTOR];

	memset(wanted, 0xa7, sizeof(wanted));
	ok(map(kernel, fd, "line", 1024, "linear", "/dev/vda 2048"),
	   "a linear device");
	ok(write_device(kernel, "/dev/dm-0", wanted, sizeof(wanted)),
	   "written to");
	ok(pread(disk, got, SECTOR, (off_t)(start * SECTOR)) == SECTOR &&
	       memcmp(got, wanted, SECTOR) == 0,
	   "the bytes stand where the table says");
}

/* IEEE Std 1619-2007, annex B, vector 1: keys, tweak and plain text zero. */
static void test_crypt(struct lkl_kernel *kernel, int fd, int disk)
{
	static const unsigned char wanted[32] = {
	    0x91, 0x7c, 0xf6, 0x9e, 0xbd, 0x68, 0xb2, 0xec, 0x9b, 0x9f, 0xe9,
	    0xa3, 0xea, 0xdd, 0xa6, 0x92, 0xcd, 0x43, 0xd2, 0xf5, 0x95, 0x98,
	    0xed, 0x85, 0x8c, 0x02, 0xc2, 0x65, 0x2f, 0xbf, 0x92, 0x2e,
	};
	static const unsigned char plain[SECTOR];
	unsigned char got[sizeof(wanted)];

	ok(map(kernel, fd, "secret", 1024, "crypt",
	       "aes-xts-plain64 00000000000000000000000000000000"
	       "00000000000000000000000000000000 0 /dev/vda 8192"),
	   "an encrypted device");
	ok(write_device(kernel, "/dev/dm-1", plain, sizeof(plain)),
	   "written to");
	ok(pread(disk, got, sizeof(got), 8192 * SECTOR) == sizeof(got) &&
	       memcmp(got, wanted, sizeof(got)) == 0,
	   "the cipher text is the standard's");
}

int main(int argc, char **argv)
{
	struct lkl_kernel *kernel = boot(argv, 0);
	struct scratch_disk scratch;
	int64_t fd;

	(void)argc;
	scratch_begin(argv);
	need(run("truncate -s %u disk.img", DISK_SIZE), "an empty disk");
	add_scratch(kernel, "disk.img", &scratch, true);
	fd = lkl_sys_openat(kernel, LKL_AT_FDCWD, "/dev/mapper/control",
			    LKL_O_RDWR, 0);
	need(fd >= 0, "the device mapper's control opens");
	test_targets(kernel, (int)fd);
	test_personalities(kernel);
	test_linear(kernel, (int)fd, scratch.fd);
	test_crypt(kernel, (int)fd, scratch.fd);
	lkl_sys_close(kernel, (int)fd);
	lkl_destroy(kernel);
	close(scratch.fd);
	return tap_end();
}
