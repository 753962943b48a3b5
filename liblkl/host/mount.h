/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What mount.c offers to kernel.c and disk.c.  No list of mounts is kept on
 * the host's side: the kernel itself knows what is mounted.
 */
#ifndef LKL_HOST_MOUNT_H
#define LKL_HOST_MOUNT_H

struct lkl_kernel;

/*
 * For lkl_halt: unmounts everything below /mnt, the latest first.  What is
 * still in use is detached.  Returns 0 or the first negative errno.
 */
int lkl_mounts_undo(struct lkl_kernel *kernel);

/*
 * For lkl_disk_remove: -EBUSY when the disk or one of its partitions is
 * mounted or part of another device (dm, md), else 0 or a negative errno.
 */
int lkl_mounts_busy(struct lkl_kernel *kernel, int disk);

#endif
