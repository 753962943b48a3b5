/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream socket to another process of this machine.  Each function returns 0
 * or a negative errno, -ECANCELED when the other side is gone.  Internal to
 * this room; written once per operating system.
 */
#ifndef LKL_HOST_CHANNEL_H
#define LKL_HOST_CHANNEL_H

#include "host.h"

/* Sends all segments, which it uses up. */
int channel_send(int socket, struct host_segment *segments, uint32_t count);
/* Sends bytes, and with the first of them a file of the host. */
int channel_send_file(int socket, void *bytes, size_t length, int file);
/* Receives so many bytes. */
int channel_receive(int socket, void *bytes, size_t length);
/* Ends all that is under way or begun later. */
void channel_shutdown(int socket);

/* Whether a file may be given away: plain or a block device, only for reading.
 */
bool channel_takes_file(int64_t file);

#endif
