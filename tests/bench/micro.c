/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Figures from inside one process, where starting programs and Python would
 * hide what the library itself costs.  Each run boots a kernel, measures one
 * thing, and prints one JSON object; tests/bench/__main__.py repeats and
 * compares.
 *
 *   micro KERNEL boot
 *   micro KERNEL call COUNT
 *   micro KERNEL mount IMAGE TYPE
 *   micro KERNEL read IMAGE TYPE PATH buffered|direct
 *   micro KERNEL pread IMAGE TYPE PATH COUNT
 *   micro KERNEL list IMAGE TYPE PATH
 *   micro KERNEL names IMAGE TYPE PATH
 *   micro KERNEL open IMAGE TYPE PATH
 *   micro KERNEL fill IMAGE TYPE DIRECTORY COUNT
 *
 * fill is no measurement: it makes a directory of many empty files in an
 * image that is nobody's evidence, which mke2fs -d takes minutes for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <lkl.h>

#define PIECE (1 << 20)
#define MEMORY (UINT64_C(128) << 20)

static struct lkl_kernel *kernel;
static char mounted[256];
static uint64_t resident_at_start;

static _Noreturn void fail(const char *what, int64_t error)
{
	char log[4096];
	uint64_t position = 0;
	size_t length;

	fprintf(stderr, "micro: %s: %s\n", what, lkl_strerror((int)error));
	while (kernel &&
	       (length = lkl_log_read(kernel, &position, log, sizeof(log))) > 0)
		fwrite(log, 1, length, stderr);
	exit(1);
}

static int64_t check(const char *what, int64_t result)
{
	if (result < 0)
		fail(what, result);
	return result;
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Memory of the whole process, in bytes, now. */
static uint64_t resident(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	uint64_t pages;

	if (!file || fscanf(file, "%*u %" SCNu64, &pages) != 1)
		fail("/proc/self/statm", -EIO);
	fclose(file);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void print_resident(uint64_t nanoseconds)
{
	printf("{\"seconds\": %.6f, \"resident_before\": %" PRIu64
	       ", \"resident\": %" PRIu64 "}\n",
	       (double)nanoseconds / 1e9, resident_at_start, resident());
}

static void boot(const char *image)
{
	struct lkl_options options = {.image = image, .memory = MEMORY};

	check("lkl_init", lkl_init(&kernel, &options));
	check("lkl_start_kernel", lkl_start_kernel(kernel));
}

static int fill_read(void *opaque, uint64_t offset, void *buffer, size_t length)
{
	ssize_t done = pread(*(int *)opaque, buffer, length, (off_t)offset);

	return done == (ssize_t)length ? 0 : -EIO;
}

static int fill_write(void *opaque, uint64_t offset, const void *buffer,
		      size_t length)
{
	ssize_t done = pwrite(*(int *)opaque, buffer, length, (off_t)offset);

	return done == (ssize_t)length ? 0 : -EIO;
}

/* Mounts an image; only fill asks for it to be writable. */
static void mount_image(const char *image, const char *type, bool writable)
{
	static const struct lkl_disk_operations scratch = {
	    .read = fill_read,
	    .write = fill_write,
	};
	static int fd;
	struct lkl_disk disk = {0};
	struct stat stat;
	int number;

	fd = open(image, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &stat))
		fail(image, -errno);
	disk.size = (uint64_t)stat.st_size;
	disk.fd = fd;
	if (writable) {
		disk.operations = &scratch;
		disk.opaque = &fd;
	}
	number = (int)check("lkl_disk_add", lkl_disk_add(kernel, &disk));
	check("lkl_mount_dev", lkl_mount_dev(kernel, number, 0, type,
					     writable ? 0 : LKL_MS_RDONLY, NULL,
					     mounted, sizeof(mounted)));
}

static int open_inside(const char *name, int flags)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", mounted, name);
	return (int)check(name,
			  lkl_sys_openat(kernel, LKL_AT_FDCWD, path, flags, 0));
}

static void *allocate(size_t size)
{
	void *memory = aligned_alloc(4096, size);

	if (!memory)
		fail("memory", -ENOMEM);
	return memory;
}

static void measure_call(uint64_t count)
{
	uint64_t begin, i;

	check("getppid", lkl_sys_getppid(kernel));
	begin = now();
	for (i = 0; i < count; i++)
		lkl_sys_getppid(kernel);
	printf("{\"nanoseconds\": %.2f}\n", (double)(now() - begin) / count);
}

static void measure_read(const char *name, bool direct)
{
	int fd = open_inside(name, direct ? LKL_O_DIRECT : 0);
	void *buffer = direct ? lkl_mem_alloc(kernel, PIECE) : allocate(PIECE);
	uint64_t begin, total = 0;
	int64_t got;

	if (!buffer)
		fail("lkl_mem_alloc", -ENOMEM);
	begin = now();
	while ((got = check("read", lkl_sys_read(kernel, fd, buffer, PIECE))) >
	       0)
		total += (uint64_t)got;
	printf("{\"seconds\": %.6f, \"bytes\": %" PRIu64 "}\n",
	       (double)(now() - begin) / 1e9, total);
}

static void measure_pread(const char *name, uint64_t count)
{
	int fd = open_inside(name, 0);
	void *buffer = allocate(4096);
	uint64_t begin, i;

	check("pread", lkl_sys_pread64(kernel, fd, buffer, 4096, 0));
	begin = now();
	for (i = 0; i < count; i++)
		check("pread", lkl_sys_pread64(kernel, fd, buffer, 4096, 0));
	printf("{\"nanoseconds\": %.2f}\n", (double)(now() - begin) / count);
}

static uint64_t count_records(const char *buffer, int64_t filled)
{
	uint64_t count = 0;
	int64_t place = 0;

	while (place < filled) {
		const struct lkl_entry *entry =
		    (const struct lkl_entry *)(buffer + place);

		place += entry->record_size;
		count++;
	}
	return count;
}

/* Entries with the stat of each, in bulk. */
static void measure_list(const char *name)
{
	int fd = open_inside(name, LKL_O_DIRECTORY);
	char *buffer = allocate(PIECE);
	uint64_t begin, count = 0;
	int64_t filled;

	begin = now();
	while ((filled = check("lkl_read_directory",
			       lkl_read_directory(kernel, fd, buffer, PIECE))))
		count += count_records(buffer, filled);
	printf("{\"seconds\": %.6f, \"entries\": %" PRIu64 "}\n",
	       (double)(now() - begin) / 1e9, count);
}

/* Names alone, by the system call; "." and ".." are counted too. */
static void measure_names(const char *name)
{
	int fd = open_inside(name, LKL_O_DIRECTORY);
	char *buffer = allocate(PIECE);
	uint64_t begin, count = 0;
	int64_t filled, place;

	begin = now();
	while ((filled = check("getdents64", lkl_sys_getdents64(
						 kernel, fd, buffer, PIECE)))) {
		for (place = 0; place < filled; count++) {
			const struct lkl_linux_dirent64 *entry =
			    (const void *)(buffer + place);

			place += entry->d_reclen;
		}
	}
	printf("{\"seconds\": %.6f, \"entries\": %" PRIu64 "}\n",
	       (double)(now() - begin) / 1e9, count);
}

struct totals {
	uint64_t files;
	uint64_t bytes;
};

/* Opens, reads and closes every file below a directory, a call each. */
static void read_tree(int directory, char *content, struct totals *totals)
{
	char *entries = allocate(PIECE);
	int64_t filled, place;

	while ((filled = check(
		    "lkl_read_directory",
		    lkl_read_directory(kernel, directory, entries, PIECE)))) {
		for (place = 0; place < filled;) {
			const struct lkl_entry *entry =
			    (const void *)(entries + place);
			const char *name = (const char *)(entry + 1);
			int fd =
			    (int)check(name, lkl_sys_openat(kernel, directory,
							    name, 0, 0));

			if (entry->type == LKL_DT_DIR) {
				read_tree(fd, content, totals);
			} else {
				totals->files++;
				totals->bytes += (uint64_t)check(
				    name,
				    lkl_sys_read(kernel, fd, content, PIECE));
			}
			check(name, lkl_sys_close(kernel, fd));
			place += entry->record_size;
		}
	}
	free(entries);
}

static void measure_open(const char *name)
{
	int fd = open_inside(name, LKL_O_DIRECTORY);
	char *content = allocate(PIECE);
	struct totals totals = {0};
	uint64_t begin = now();

	read_tree(fd, content, &totals);
	printf("{\"seconds\": %.6f, \"entries\": %" PRIu64
	       ", \"bytes\": %" PRIu64 "}\n",
	       (double)(now() - begin) / 1e9, totals.files, totals.bytes);
}

static void fill(const char *name, uint64_t count)
{
	char path[4096];
	uint64_t i;
	int fd, file;

	snprintf(path, sizeof(path), "%s/%s", mounted, name);
	check(path, lkl_sys_mkdirat(kernel, LKL_AT_FDCWD, path, 0755));
	fd = open_inside(name, LKL_O_DIRECTORY);
	for (i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "entry-%06" PRIu64 ".txt", i);
		file = (int)check(
		    path, lkl_sys_openat(
			      kernel, fd, path,
			      LKL_O_CREAT | LKL_O_WRONLY | LKL_O_EXCL, 0644));
		check(path, lkl_sys_close(kernel, file));
	}
	check("close", lkl_sys_close(kernel, fd));
	printf("{\"entries\": %" PRIu64 "}\n", count);
}

/* Each gets what follows its name on the command line. */
static void run_boot(char **arguments)
{
	(void)arguments;
	print_resident(lkl_boot_time(kernel));
}

static void run_call(char **arguments)
{
	measure_call(strtoull(arguments[0], NULL, 10));
}

static void run_mount(char **arguments)
{
	uint64_t begin = now();

	mount_image(arguments[0], arguments[1], false);
	print_resident(now() - begin);
}

static void run_read(char **arguments)
{
	mount_image(arguments[0], arguments[1], false);
	measure_read(arguments[2], !strcmp(arguments[3], "direct"));
}

static void run_pread(char **arguments)
{
	mount_image(arguments[0], arguments[1], false);
	measure_pread(arguments[2], strtoull(arguments[3], NULL, 10));
}

static void run_list(char **arguments)
{
	mount_image(arguments[0], arguments[1], false);
	measure_list(arguments[2]);
}

static void run_names(char **arguments)
{
	mount_image(arguments[0], arguments[1], false);
	measure_names(arguments[2]);
}

static void run_open(char **arguments)
{
	mount_image(arguments[0], arguments[1], false);
	measure_open(arguments[2]);
}

static void run_fill(char **arguments)
{
	mount_image(arguments[0], arguments[1], true);
	fill(arguments[2], strtoull(arguments[3], NULL, 10));
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int arguments;
		void (*run)(char **arguments);
	} commands[] = {
	    {"boot", 0, run_boot},   {"call", 1, run_call},
	    {"mount", 2, run_mount}, {"read", 4, run_read},
	    {"pread", 4, run_pread}, {"list", 3, run_list},
	    {"names", 3, run_names}, {"open", 3, run_open},
	    {"fill", 4, run_fill},
	};
	size_t i;

	for (i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (argc != 3 + commands[i].arguments ||
		    strcmp(argv[2], commands[i].name))
			continue;
		resident_at_start = resident();
		boot(argv[1]);
		commands[i].run(argv + 3);
		check("lkl_halt", lkl_halt(kernel));
		lkl_destroy(kernel);
		return 0;
	}
	fprintf(stderr, "micro: wrong use; see micro.c\n");
	return 2;
}
