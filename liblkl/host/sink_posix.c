// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#include "sink.h"

#include <errno.h>
#include <unistd.h>

int sink_write(int fd, const void *bytes, size_t length)
{
	const char *at = bytes;

	while (length > 0) {
		ssize_t written = write(fd, at, length);

		if (written < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		at += written;
		length -= (size_t)written;
	}
	return 0;
}

int sink_skip(int fd, uint64_t length)
{
	if (length > INT64_MAX)
		return -EFBIG;
	return lseek(fd, (off_t)length, SEEK_CUR) < 0 ? -errno : 0;
}

int sink_end_here(int fd)
{
	off_t end = lseek(fd, 0, SEEK_CUR);

	if (end < 0 || ftruncate(fd, end) < 0)
		return -errno;
	return 0;
}
