/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing to a descriptor of the host, at its position.  Each function returns
 * 0 or a negative errno of the host.  Internal to this room; written once
 * per operating system.
 */
#ifndef LKL_HOST_SINK_H
#define LKL_HOST_SINK_H

#include <stddef.h>
#include <stdint.h>

/* Writes all of it. */
int sink_write(int fd, const void *bytes, size_t length);
/* Moves the position forward, which leaves a hole once more is written. */
int sink_skip(int fd, uint64_t length);
/* Makes the position the end of the file. */
int sink_end_here(int fd);

#endif
