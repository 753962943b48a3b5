// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

_Static_assert(sizeof(struct host_segment) == sizeof(struct iovec) &&
		   offsetof(struct host_segment, length) ==
		       offsetof(struct iovec, iov_len),
	       "segments are what sendmsg() takes");

static int error_of_socket(void)
{
	if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
		return -ECANCELED;
	return -errno;
}

static int send_all(int socket, struct msghdr *message)
{
	while (message->msg_iovlen) {
		ssize_t sent = sendmsg(socket, message, MSG_NOSIGNAL);
		size_t left;

		if (sent < 0) {
			if (errno == EINTR)
				continue;
			return error_of_socket();
		}
		/* A descriptor goes with the first byte. */
		message->msg_control = NULL;
		message->msg_controllen = 0;
		for (left = (size_t)sent;
		     message->msg_iovlen && left >= message->msg_iov->iov_len;
		     message->msg_iovlen--)
			left -= message->msg_iov++->iov_len;
		if (message->msg_iovlen) {
			struct iovec *part = message->msg_iov;

			part->iov_base = (char *)part->iov_base + left;
			part->iov_len -= left;
		}
	}
	return 0;
}

int channel_send(int socket, struct host_segment *segments, uint32_t count)
{
	struct msghdr message = {
	    .msg_iov = (struct iovec *)segments,
	    .msg_iovlen = count,
	};

	return send_all(socket, &message);
}

int channel_send_file(int socket, void *bytes, size_t length, int file)
{
	union {
		char bytes[CMSG_SPACE(sizeof(file))];
		struct cmsghdr aligned;
	} control = {.bytes = {0}};
	struct iovec part = {bytes, length};
	struct msghdr message = {
	    .msg_iov = &part,
	    .msg_iovlen = 1,
	    .msg_control = control.bytes,
	    .msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(file));
	memcpy(CMSG_DATA(head), &file, sizeof(file));
	return send_all(socket, &message);
}

int channel_receive(int socket, void *bytes, size_t length)
{
	char *at = bytes;

	while (length) {
		ssize_t got = recv(socket, at, length, MSG_WAITALL);

		if (got < 0) {
			if (errno == EINTR)
				continue;
			return error_of_socket();
		}
		if (got == 0)
			return -ECANCELED;
		at += got;
		length -= (size_t)got;
	}
	return 0;
}

void channel_shutdown(int socket)
{
	shutdown(socket, SHUT_RDWR);
}

bool channel_takes_file(int64_t file)
{
	struct stat stat;
	int flags;

	if (file < 0 || file > INT_MAX || fstat((int)file, &stat) < 0)
		return false;
	flags = fcntl((int)file, F_GETFL);
	return (S_ISREG(stat.st_mode) || S_ISBLK(stat.st_mode)) && flags >= 0 &&
	       (flags & (O_ACCMODE | O_PATH)) == O_RDONLY;
}
