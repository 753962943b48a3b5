// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Many threads on one kernel, each listing and reading on one of two disks of
 * different file systems: every byte and every name must be right.
 */
#include "machine.h"
#include "scratch.h"
#include "tree.h"

#include <pthread.h>

#define THREADS 12
#define ROUNDS 40
#define FILES 200

struct worker {
	struct lkl_kernel *kernel;
	int root;
	unsigned seed;
	unsigned wrong;
	pthread_t thread;
};

static size_t length_of(unsigned file)
{
	return 100 + file * 311;
}

static void check_file(struct worker *worker, unsigned file)
{
	size_t length = length_of(file);
	unsigned char *wanted = malloc(length);
	unsigned char *got = malloc(length + 1);
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "f%u", file);
	fd = lkl_open_file(worker->kernel, worker->root, name);
	fill(wanted, length, file);
	if (lkl_read_file(worker->kernel, fd, 0, got, length + 1) !=
		(int64_t)length ||
	    memcmp(got, wanted, length) != 0)
		worker->wrong++;
	lkl_sys_close(worker->kernel, fd);
	free(wanted);
	free(got);
}

static void check_list(struct worker *worker)
{
	size_t size = 8192;
	char *buffer = malloc(size);
	unsigned files = 0;
	int64_t got;
	int fd = (int)lkl_sys_openat(worker->kernel, worker->root, ".",
				     LKL_O_RDONLY | LKL_O_DIRECTORY, 0);

	while ((got = lkl_read_directory(worker->kernel, fd, buffer, size)) > 0)
		for (int64_t at = 0; at < got;) {
			struct lkl_entry *entry = (void *)(buffer + at);
			unsigned file;

			if (sscanf((char *)(entry + 1), "f%u", &file) == 1 &&
			    entry->stat.size == length_of(file))
				files++;
			at += entry->record_size;
		}
	if (files != FILES || got < 0)
		worker->wrong++;
	lkl_sys_close(worker->kernel, fd);
	free(buffer);
}

static void *work(void *opaque)
{
	struct worker *worker = opaque;

	for (int round = 0; round < ROUNDS; round++) {
		check_list(worker);
		for (int i = 0; i < 20; i++)
			check_file(worker,
				   (unsigned)rand_r(&worker->seed) % FILES);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	/* Little memory, so that caches are emptied meanwhile. */
	struct lkl_kernel *kernel = boot(argv, 64 << 20);
	struct worker workers[THREADS];
	char paths[2][256];
	int disks[2], roots[2], folder;
	unsigned wrong = 0;

	(void)argc;
	scratch_begin(argv);
	need(mkdir("tree", 0755) == 0, "a tree");
	folder = open("tree", O_RDONLY | O_DIRECTORY);
	for (unsigned i = 0; i < FILES; i++) {
		char name[32];

		snprintf(name, sizeof(name), "f%u", i);
		if (!make_file(folder, name, length_of(i), i))
			need(false, "%s is made", name);
	}
	close(folder);
	need(run("truncate -s 40M ext4 && mkfs.ext4 -q -d tree ext4 && "
		 "mksquashfs tree squashfs -quiet -no-progress"),
	     "two images");
	disks[0] = add_image(kernel, "ext4", 0);
	disks[1] = add_image(kernel, "squashfs", 0);
	roots[0] =
	    mount_root(kernel, disks[0], "ext4", LKL_MS_RDONLY, NULL, paths[0]);
	roots[1] = mount_root(kernel, disks[1], "squashfs", LKL_MS_RDONLY, NULL,
			      paths[1]);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){
		    .kernel = kernel,
		    .root = roots[i % 2],
		    .seed = i,
		};
		need(pthread_create(&workers[i].thread, NULL, work,
				    &workers[i]) == 0,
		     "thread %u", i);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		wrong += workers[i].wrong;
	}
	is(wrong, 0, "all names and bytes are right");
	for (int i = 0; i < 2; i++) {
		lkl_sys_close(kernel, roots[i]);
		is(lkl_umount(kernel, paths[i]), 0, "unmounted");
		is(lkl_disk_remove(kernel, disks[i]), 0, "removed");
	}
	is(lkl_halt(kernel), 0, "halted");
	lkl_destroy(kernel);
	return tap_end();
}
