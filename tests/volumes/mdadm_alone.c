// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Lets mdadm make arrays on a host whose kernel has no MD driver: mdadm writes
 * the superblocks itself, and only wants the driver to agree.  Preloaded, this
 * agrees instead: /dev/md* opens, takes the requests, and has its folder in
 * sysfs.  Nothing of an array ever runs.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MD_MAJOR 9
#include <linux/raid/md_u.h>

#define MOST_FILES 1024

static char is_array[MOST_FILES];
static int running;

static int has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static int is_node(const char *path)
{
	return has_prefix(path, "/dev/md") || has_prefix(path, "/dev/.tmp.md");
}

static int is_array_file(int fd)
{
	return fd >= 0 && fd < MOST_FILES && is_array[fd];
}

static int open_any(const char *path, int flags, int mode)
{
	int fd;

	if (!is_node(path))
		return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
	fd = (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
	if (fd >= 0 && fd < MOST_FILES)
		is_array[fd] = 1;
	return fd;
}

int open64(const char *path, int flags, ...)
{
	va_list rest;
	int mode;

	va_start(rest, flags);
	mode = flags & O_CREAT ? va_arg(rest, int) : 0;
	va_end(rest);
	return open_any(path, flags, mode);
}

/* What open() without a mode becomes where it is checked for one. */
int __open64_2(const char *path, int flags)
{
	return open_any(path, flags, 0);
}

int close(int fd)
{
	if (is_array_file(fd))
		is_array[fd] = 0;
	return (int)syscall(SYS_close, fd);
}

int mknod(const char *path, mode_t mode, dev_t device)
{
	if (is_node(path))
		return 0;
	return (int)syscall(SYS_mknodat, AT_FDCWD, path, mode, device);
}

int chown(const char *path, uid_t user, gid_t group)
{
	if (is_node(path))
		return 0;
	return (int)syscall(SYS_fchownat, AT_FDCWD, path, user, group, 0);
}

int chmod(const char *path, mode_t mode)
{
	if (is_node(path))
		return 0;
	return (int)syscall(SYS_fchmodat, AT_FDCWD, path, mode);
}

static void show_array(struct stat64 *info)
{
	info->st_mode = S_IFBLK | 0600;
	info->st_rdev = makedev(MD_MAJOR, 0);
}

int fstat64(int fd, struct stat64 *info)
{
	int (*next)(int, struct stat64 *) = dlsym(RTLD_NEXT, "fstat64");
	int result = next(fd, info);

	if (result == 0 && is_array_file(fd))
		show_array(info);
	return result;
}

int stat64(const char *path, struct stat64 *info)
{
	int (*next)(const char *, struct stat64 *) = dlsym(RTLD_NEXT, "stat64");

	if (!is_node(path) && !has_prefix(path, "/sys/block/md"))
		return next(path, info);
	memset(info, 0, sizeof(*info));
	if (is_node(path))
		show_array(info);
	else
		info->st_mode = S_IFDIR | 0755;
	return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list rest;
	void *argument;

	va_start(rest, request);
	argument = va_arg(rest, void *);
	va_end(rest);
	if (!is_array_file(fd))
		return (int)syscall(SYS_ioctl, fd, request, argument);
	switch (request) {
	case GET_ARRAY_INFO:
		if (!running) {
			errno = ENODEV;
			return -1;
		}
		memset(argument, 0, sizeof(mdu_array_info_t));
		return 0;
	case RUN_ARRAY:
		running = 1;
		return 0;
	case RAID_VERSION:
	case SET_ARRAY_INFO:
	case ADD_NEW_DISK:
	case STOP_ARRAY:
		return 0;
	}
	errno = ENOTTY;
	return -1;
}
