// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/* The life of kernels: one after another, several at once, by dlopen. */
#include <dirent.h>
#include <stdlib.h>

#include "machine.h"

/* Entries of a folder of the host's own /proc/self. */
static int count_entries(const char *path)
{
	DIR *folder = opendir(path);
	int count = 0;

	if (!folder)
		return -1;
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static int count_lines(const char *path)
{
	FILE *file = fopen(path, "r");
	int count = 0;
	int c;

	if (!file)
		return -1;
	while ((c = fgetc(file)) != EOF)
		count += c == '\n';
	fclose(file);
	return count;
}

static bool log_has(struct lkl_kernel *kernel, const char *words)
{
	static char text[1 << 18];
	uint64_t position = 0;
	size_t got = lkl_log_read(kernel, &position, text, sizeof(text) - 1);

	text[got] = '\0';
	return strstr(text, words);
}

static void test_refusals(const char *image)
{
	struct lkl_options options = {.image = "/nonexistent"};
	struct lkl_kernel *kernel = (void *)1;

	is(lkl_init(&kernel, &options), -ENOENT, "no such image");
	ok(!kernel, "no kernel then");
	options.image = "/etc/passwd";
	is(lkl_init(&kernel, &options), -ENOEXEC, "no image");
	options.image = NULL;
	is(lkl_init(&kernel, &options), -EINVAL, "no path");
	options.image = image;
	options.flags = 0x80;
	is(lkl_init(&kernel, &options), -EINVAL, "flags that do not exist");
	options.flags = 0;
	options.memory = UINT64_MAX;
	is(lkl_init(&kernel, &options), -EINVAL, "more memory than there is");
	lkl_destroy(NULL);
}

static void test_states(const char *image)
{
	struct lkl_options options = {.image = image};
	struct lkl_kernel *kernel;
	const int64_t none[6] = {0};

	need(lkl_init(&kernel, &options) == 0, "a kernel");
	is(lkl_state(kernel), LKL_STATE_LOADED, "is loaded");
	ok(!strncmp(lkl_release(kernel), "6.", 2), "its release: %s",
	   lkl_release(kernel));
	is(lkl_boot_time(kernel), 0, "has not booted");
	is(lkl_syscall(kernel, 172, none), -EIO, "so there is no calling it");
	is(lkl_halt(kernel), -EIO, "nor halting");
	lkl_destroy(kernel);
	ok(true, "but destroying");

	need(lkl_init(&kernel, &options) == 0, "another");
	is(lkl_start_kernel(kernel), 0, "boots");
	is(lkl_state(kernel), LKL_STATE_RUNNING, "runs");
	ok(lkl_boot_time(kernel) > 0, "booted in %.1f ms",
	   (double)lkl_boot_time(kernel) / 1e6);
	is(lkl_start_kernel(kernel), -EINVAL, "does not boot twice");
	is(lkl_syscall(kernel, 9999, none), -ENOSYS, "no such system call");
	ok(lkl_sys_getpid(kernel) > 0, "getpid");
	ok(lkl_sys_gettid(kernel) == lkl_sys_gettid(kernel),
	   "a thread stays the same task");
	is(lkl_sys_openat(kernel, LKL_AT_FDCWD, "/none", 0, 0), -ENOENT,
	   "results are the kernel's");
	ok(log_has(kernel, "Linux version"), "the log");
	is(lkl_halt(kernel), 0, "halts");
	is(lkl_state(kernel), LKL_STATE_HALTED, "is halted");
	is(lkl_sys_getpid(kernel), -EIO, "calls end with -EIO");
	is(lkl_halt(kernel), -EIO, "so does a second halt");
	ok(log_has(kernel, "Linux version"), "the log can still be read");
	lkl_destroy(kernel);

	need(lkl_init(&kernel, &options) == 0, "another");
	need(lkl_start_kernel(kernel) == 0, "boots");
	lkl_destroy(kernel);
	ok(true, "is destroyed while it runs");
}

static bool boot_once(const struct lkl_options *options)
{
	struct lkl_kernel *kernel;
	bool good;

	if (lkl_init(&kernel, options) < 0)
		return false;
	good = lkl_start_kernel(kernel) == 0 && lkl_sys_getpid(kernel) > 0 &&
	       lkl_halt(kernel) == 0;
	lkl_destroy(kernel);
	return good;
}

static void test_many(const char *image)
{
	struct lkl_options options = {.image = image, .memory = 32 << 20};
	bool good = boot_once(&options);
	int threads = count_entries("/proc/self/task");
	int files = count_entries("/proc/self/fd");
	int mappings = count_lines("/proc/self/maps");

	for (int i = 0; i < 20; i++)
		good = good && boot_once(&options);
	ok(good, "20 times: boot, call, halt, destroy");
	is(count_entries("/proc/self/fd"), files, "no file is left open");
	/* A detached thread is gone a moment after its last word. */
	for (int i = 0; i < 1000 && count_entries("/proc/self/task") > threads;
	     i++)
		usleep(1000);
	ok(count_entries("/proc/self/task") <= threads, "no thread is left");
	/* The host's allocator may keep some stacks and an arena. */
	ok(count_lines("/proc/self/maps") < mappings + 40,
	   "%d mappings became %d", mappings, count_lines("/proc/self/maps"));
}

#define KERNELS 4

static void test_several(const char *image)
{
	struct lkl_options options = {.image = image, .memory = 64 << 20};
	struct lkl_kernel *kernels[KERNELS];
	char path[32];

	for (int i = 0; i < KERNELS; i++) {
		need(lkl_init(&kernels[i], &options) == 0, "kernel %d", i);
		need(lkl_start_kernel(kernels[i]) == 0, "boots");
	}
	for (int i = 0; i < KERNELS; i++) {
		snprintf(path, sizeof(path), "/only-in-%d", i);
		is(lkl_sys_mkdirat(kernels[i], LKL_AT_FDCWD, path, 0755), 0,
		   "a folder in kernel %d", i);
	}
	for (int i = 0; i < KERNELS; i++)
		for (int j = 0; j < KERNELS; j++) {
			snprintf(path, sizeof(path), "/only-in-%d", j);
			is(lkl_sys_unlinkat(kernels[i], LKL_AT_FDCWD, path,
					    LKL_AT_REMOVEDIR),
			   i == j ? 0 : -ENOENT, "%s from kernel %d", path, i);
		}
	is(lkl_halt(kernels[1]), 0, "one halts");
	lkl_destroy(kernels[1]);
	for (int i = 0; i < KERNELS; i++)
		if (i != 1)
			ok(lkl_sys_getpid(kernels[i]) > 0, "kernel %d runs on",
			   i);
	for (int i = 0; i < KERNELS; i++)
		if (i != 1)
			lkl_destroy(kernels[i]);
}

static void test_dlopen(const char *image)
{
	struct lkl_options options = {
	    .image = image,
	    .flags = LKL_OPTION_DLOPEN,
	};
	struct lkl_kernel *kernel, *other;

	need(lkl_init(&kernel, &options) == 0, "by dlopen");
	is(lkl_start_kernel(kernel), 0, "boots");
	is(lkl_init(&other, &options), -EBUSY, "not twice at once");
	options.flags = 0;
	ok(boot_once(&options), "but beside it by our loader");
	ok(lkl_sys_getpid(kernel) > 0, "it works");
	is(lkl_halt(kernel), 0, "halts");
	lkl_destroy(kernel);
	options.flags = LKL_OPTION_DLOPEN;
	ok(boot_once(&options), "and once more by dlopen");
}

static void test_options(const char *image)
{
	struct lkl_options options = {
	    .image = image,
	    .memory = (40 << 20) + 1,
	    .command_line = "loglevel=8 lkl.no=1",
	    .log_size = 1024,
	};
	struct lkl_kernel *kernel;
	static char text[8192];
	uint64_t position = 0;
	size_t got;

	need(lkl_init(&kernel, &options) == 0, "40 MiB and a byte");
	got = lkl_log_read(kernel, &position, text, sizeof(text) - 1);
	text[got] = '\0';
	ok(strstr(text, "of 64 MiB"), "become 64 MiB: %s", text);
	is(lkl_start_kernel(kernel), 0, "boots");
	position = 0;
	is(lkl_log_read(kernel, &position, text, sizeof(text)), 1024,
	   "a log of 1 KiB keeps that much");
	is(lkl_halt(kernel), 0, "halts");
	lkl_destroy(kernel);
}

int main(int argc, char **argv)
{
	(void)argc;
	need(argv[1], "the path of a kernel image as argument");
	test_refusals(argv[1]);
	test_states(argv[1]);
	test_many(argv[1]);
	test_several(argv[1]);
	test_dlopen(argv[1]);
	test_options(argv[1]);
	return tap_end();
}
