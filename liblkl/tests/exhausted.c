// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * No process number left: host threads get an error for their first call, a
 * mount that wants threads of the kernel's fails, and both work again once
 * numbers are free.  A fork that fails so late has its host thread already.
 */
#include "machine.h"
#include "scratch.h"

#include <pthread.h>

/* More than Linux has numbers with CONFIG_BASE_SMALL: 4096. */
#define THREADS 4200

static struct lkl_kernel *kernel;
static pthread_barrier_t all_called, may_end;
static int64_t results[THREADS];

static void *caller(void *arg)
{
	int64_t *result = arg;

	*result = lkl_sys_gettid(kernel);
	pthread_barrier_wait(&all_called);
	pthread_barrier_wait(&may_end);
	return NULL;
}

int main(int argc, char **argv)
{
	static pthread_t threads[THREADS];
	pthread_attr_t small;
	unsigned int refused = 0, others = 0;
	char path[256];
	int disk, started = 0;

	(void)argc;
	kernel = boot(argv, UINT64_C(256) << 20);
	scratch_begin(argv);
	need(run("truncate -s 400M disk.img && mkfs.xfs -q disk.img"),
	     "an image of XFS");
	disk = add_image(kernel, "disk.img", 0);

	pthread_barrier_init(&all_called, NULL, THREADS + 1);
	pthread_barrier_init(&may_end, NULL, THREADS + 1);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 128u << 10);
	for (; started < THREADS; started++)
		if (pthread_create(&threads[started], &small, caller,
				   &results[started]))
			break;
	need(started == THREADS, "%d threads", THREADS);
	pthread_barrier_wait(&all_called);
	for (int i = 0; i < THREADS; i++) {
		refused += results[i] == -EAGAIN;
		others += results[i] < 0 && results[i] != -EAGAIN;
	}
	ok(refused > 0, "some found no number: %u", refused);
	is(others, 0, "and nothing worse");
	ok(lkl_mount_dev(kernel, disk, 0, "xfs", LKL_MS_RDONLY, NULL, path,
			 sizeof(path)) < 0,
	   "a mount that needs threads fails");
	is(lkl_state(kernel), LKL_STATE_RUNNING, "the kernel lives");

	pthread_barrier_wait(&may_end);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	is(lkl_mount_dev(kernel, disk, 0, "xfs", LKL_MS_RDONLY, NULL, path,
			 sizeof(path)),
	   0, "mounts once numbers are free");
	is(lkl_umount(kernel, path), 0, "unmounts");
	is(lkl_halt(kernel), 0, "halts");
	lkl_destroy(kernel);
	ok(true, "and leaves no thread behind");
	return tap_end();
}
