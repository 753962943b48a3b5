/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What mount.c knows of disks beside what lkl.h asks.  Internal to this room.
 */
#ifndef LKL_HOST_MOUNT_H
#define LKL_HOST_MOUNT_H

struct lkl_kernel;

/*
 * -EBUSY when a disk or one of its partitions is mounted, or part of another
 * device (dm, md, a file system of several disks); else 0 or a negative errno.
 */
int disk_in_use(struct lkl_kernel *kernel, int disk);

#endif
