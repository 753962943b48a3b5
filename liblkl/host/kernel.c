// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/* The life of a kernel, from its image to the last of its threads. */
#define _GNU_SOURCE
#include "kernel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The kernel's largest block of memory, to which its RAM must be aligned. */
#define RAM_UNIT (UINT64_C(32) << 20)
/* Enough that a listing of 100,000 entries keeps its inodes. */
#define RAM_DEFAULT (UINT64_C(192) << 20)
#define LOG_DEFAULT (256u << 10)

/*
 * Linux sizes its tables of names and inodes by RAM, of which this kernel has
 * little, while the directories it reads may be of any size: with its own
 * choice a listing of 100,000 entries spends a third of its time in chains.
 */
#define PARAMETERS "ihash_entries=65536 dhash_entries=65536"

/* ---- Threads ----------------------------------------------------------- */

struct kernel_thread {
	struct lkl_kernel *kernel;
	void (*fn)(void *arg);
	void *arg;
};

void kernel_thread_done(struct lkl_kernel *kernel)
{
	_Atomic uint32_t *threads = &kernel->threads;

	if (atomic_fetch_sub(threads, 1) == 1)
		host_wake_all(threads);
}

static void run_thread(void *arg)
{
	struct kernel_thread thread = *(struct kernel_thread *)arg;

	free(arg);
	thread.fn(thread.arg);
	thread_exit_kernel(thread.kernel);
	kernel_thread_done(thread.kernel);
}

int kernel_thread_create(struct lkl_kernel *kernel, void (*fn)(void *),
			 void *arg)
{
	struct kernel_thread *thread = malloc(sizeof(*thread));
	int error;

	if (!thread)
		return -ENOMEM;
	*thread = (struct kernel_thread){kernel, fn, arg};
	atomic_fetch_add(&kernel->threads, 1);
	error = host_thread_create(run_thread, thread);
	if (error < 0) {
		kernel_thread_done(kernel);
		free(thread);
	}
	return error;
}

static void wait_for_threads(struct lkl_kernel *kernel)
{
	uint32_t threads;

	while ((threads = atomic_load(&kernel->threads)))
		host_wait(&kernel->threads, threads, HOST_FOREVER);
}

/* ---- Init -------------------------------------------------------------- */

void kernel_note(struct lkl_kernel *kernel, const char *format, ...)
{
	char line[512] = "lkl: ";
	size_t prefix = strlen(line);
	va_list arguments;
	int length;

	va_start(arguments, format);
	/* Room is kept for the end of the line. */
	length = vsnprintf(line + prefix, sizeof(line) - prefix - 1, format,
			   arguments);
	va_end(arguments);
	if (length < 0)
		return;
	length = (int)strlen(line);
	line[length++] = '\n';
	log_append(&kernel->log, line, (size_t)length);
}

static void timer_expired(void *opaque)
{
	struct lkl_kernel *kernel = opaque;
	struct lkl_kernel *before = thread_enter(kernel);

	kernel->image.entries.lkl_image_irq(LKL_IRQ_TIMER);
	thread_leave(before);
}

static int init_memory(struct lkl_kernel *kernel,
		       const struct lkl_options *options)
{
	uint64_t memory = options->memory ? options->memory : RAM_DEFAULT;
	size_t log_size = options->log_size ? options->log_size : LOG_DEFAULT;
	int error;

	if (memory > INT64_MAX)
		return -EINVAL;
	memory = (memory + RAM_UNIT - 1) / RAM_UNIT * RAM_UNIT;
	error = log_init(&kernel->log, log_size);
	if (error < 0)
		return error;
	if (asprintf(&kernel->command_line, PARAMETERS " %s",
		     options->command_line ? options->command_line : "") < 0) {
		kernel->command_line = NULL;
		return -ENOMEM;
	}
	kernel->fault_stack = malloc(FAULT_STACK_SIZE);
	if (!kernel->fault_stack)
		return -ENOMEM;
	return host_ram_create(&kernel->ram, memory, RAM_UNIT);
}

static int load_image(struct lkl_kernel *kernel,
		      const struct lkl_options *options)
{
	if (options->flags & LKL_OPTION_DLOPEN)
		return image_load_library(&kernel->image, options->image);
	return image_load(&kernel->image, options->image,
			  options->flags & LKL_OPTION_IMAGE_FD
			      ? (intptr_t)options->image_fd
			      : IMAGE_BY_PATH);
}

#define OPTIONS_KNOWN (LKL_OPTION_DLOPEN | LKL_OPTION_IMAGE_FD)

int lkl_init(struct lkl_kernel **result, const struct lkl_options *options)
{
	struct lkl_kernel *kernel;
	int error;

	*result = NULL;
	if (!options->image || options->flags & ~(uint32_t)OPTIONS_KNOWN)
		return -EINVAL;
	kernel = calloc(1, sizeof(*kernel));
	if (!kernel)
		return -ENOMEM;
	atomic_init(&kernel->state, LKL_STATE_LOADED);
	lock_init(&kernel->resources_lock);
	lock_init(&kernel->disks_lock);
	timer_init(&kernel->timer, timer_expired, kernel);
	operations_init(kernel);
	error = host_faults_catch();
	if (!error)
		error = init_memory(kernel, options);
	if (!error)
		error = load_image(kernel, options);
	if (error < 0) {
		lkl_destroy(kernel);
		return error;
	}
	/* A debugger, or who reads a stack by hand, needs the base. */
	kernel_note(kernel, "%s (Linux %s) at %p, RAM %p of %llu MiB",
		    options->image, lkl_release(kernel),
		    image_base(&kernel->image), (void *)kernel->ram.base,
		    (unsigned long long)(kernel->ram.size >> 20));
	*result = kernel;
	return 0;
}

/* ---- Start ------------------------------------------------------------- */

static void run_timer(void *arg)
{
	struct lkl_kernel *kernel = arg;

	timer_run(&kernel->timer);
}

static void run_boot(void *arg)
{
	struct lkl_kernel *kernel = arg;
	struct lkl_boot boot = {
	    .abi = LKL_IMAGE_ABI,
	    .ops = &kernel->operations,
	    .command_line = kernel->command_line,
	    .ram = (uintptr_t)kernel->ram.base,
	    .ram_size = kernel->ram.size,
	    .booted = kernel->booted,
	};
	struct lkl_kernel *before = thread_enter(kernel);

	kernel->boot_error = kernel->image.entries.lkl_image_boot(&boot);
	thread_leave(before);
	/* It did not come to an end by itself if it never began. */
	kernel_end(kernel, LKL_STATE_PANICKED);
}

/* The file systems by which the library and programs see the kernel. */
static int mount_own(struct lkl_kernel *kernel)
{
	static const struct {
		const char *type;
		const char *path;
		bool needed;
	} mounts[] = {
	    {"devtmpfs", "/dev", true},
	    {"sysfs", "/sys", true},
	    {"proc", "/proc", false},
	};
	int64_t error;

	for (size_t i = 0; i < sizeof(mounts) / sizeof(*mounts); i++) {
		error =
		    lkl_sys_mkdirat(kernel, LKL_AT_FDCWD, mounts[i].path, 0755);
		if (error < 0 && error != -EEXIST)
			return (int)error;
		error = lkl_sys_mount(kernel, mounts[i].type, mounts[i].path,
				      mounts[i].type, 0, NULL);
		/* The kernel may have mounted /dev itself. */
		if (error < 0 && error != -EBUSY && mounts[i].needed) {
			kernel_note(kernel, "mount of %s: error %d",
				    mounts[i].path, (int)-error);
			return (int)error;
		}
	}
	error = lkl_sys_mkdirat(kernel, LKL_AT_FDCWD, "/mnt", 0755);
	return error == -EEXIST ? 0 : (int)error;
}

int lkl_start_kernel(struct lkl_kernel *kernel)
{
	uint64_t began = host_time_mono();
	int state = LKL_STATE_LOADED;
	int error;

	if (atomic_exchange(&kernel->started, true))
		return -EINVAL;
	kernel->booted = kernel_semaphore_alloc(kernel);
	if (!kernel->booted)
		return -ENOMEM;
	error = kernel_thread_create(kernel, run_timer, kernel);
	if (!error)
		error = kernel_thread_create(kernel, run_boot, kernel);
	if (error < 0) {
		kernel_end(kernel, LKL_STATE_HALTED);
		return error;
	}
	semaphore_down(kernel->booted);
	if (!atomic_compare_exchange_strong(&kernel->state, &state,
					    LKL_STATE_RUNNING))
		return -EIO;
	error = mount_own(kernel);
	if (error < 0)
		return error;
	kernel->boot_time = host_time_mono() - began;
	return 0;
}

/* ---- Halt and destroy -------------------------------------------------- */

#define MOUNTS_FILE "/proc/self/mounts"

/* The whole text of a file of /proc; NULL when it cannot be read. */
static char *read_text(struct lkl_kernel *kernel, const char *path)
{
	size_t room = 64u << 10;
	size_t length = 0;
	char *text = malloc(room);
	int64_t fd;
	int64_t got;

	fd = lkl_sys_openat(kernel, LKL_AT_FDCWD, path, LKL_O_RDONLY, 0);
	if (fd < 0 || !text) {
		free(text);
		return NULL;
	}
	while ((got = lkl_sys_read(kernel, (int)fd, text + length,
				   room - length - 1)) > 0) {
		length += (size_t)got;
		if (length + 1 == room) {
			char *larger = realloc(text, 2 * room);

			if (!larger)
				break;
			text = larger;
			room *= 2;
		}
	}
	lkl_sys_close(kernel, (int)fd);
	text[length] = '\0';
	return text;
}

/* Turns the "\040" that stand for blanks in /proc/mounts back. */
static void unescape(char *path)
{
	char *to = path;

	for (; *path; to++) {
		if (path[0] == '\\' && path[1] && path[2] && path[3]) {
			*to = (char)((path[1] - '0') << 6 |
				     (path[2] - '0') << 3 | (path[3] - '0'));
			path += 4;
		} else {
			*to = *path++;
		}
	}
	*to = '\0';
}

/* Lines are in the order of mounting: later ones may stand on earlier ones. */
static void unmount_all(struct lkl_kernel *kernel)
{
	char *text = read_text(kernel, MOUNTS_FILE);
	char *end;

	if (!text)
		return;
	end = text + strlen(text);
	while (end > text) {
		char *line = end;
		char *path;

		if (line[-1] == '\n')
			*--line = '\0';
		while (line > text && line[-1] != '\n')
			line--;
		end = line;
		path = strchr(line, ' ');
		if (!path || strncmp(path + 1, "/mnt/", 5) != 0)
			continue;
		path++;
		path[strcspn(path, " ")] = '\0';
		unescape(path);
		/* In use still: out of sight now, written back by sync(). */
		if (lkl_sys_umount2(kernel, path, 0) < 0)
			lkl_sys_umount2(kernel, path, LKL_MNT_DETACH);
	}
	free(text);
}

int lkl_halt(struct lkl_kernel *kernel)
{
	if (!kernel_running(kernel))
		return -EIO;
	unmount_all(kernel);
	lkl_sys_sync(kernel);
	/* LINUX_REBOOT_CMD_POWER_OFF of include/uapi/linux/reboot.h */
	return (int)kernel_syscall(kernel, NR_reboot, 0xfee1dead, 672274793,
				   0x4321fedc);
}

void lkl_destroy(struct lkl_kernel *kernel)
{
	if (!kernel)
		return;
	if (kernel_running(kernel))
		lkl_halt(kernel);
	wait_for_threads(kernel);
	thread_forget_kernel(kernel);
	/* For threads of the program that are just ending their task. */
	wait_for_threads(kernel);
	disks_destroy(kernel);
	operations_free_resources(kernel);
	image_free(&kernel->image);
	host_ram_destroy(&kernel->ram);
	free(kernel->fault_stack);
	free(kernel->command_line);
	log_free(&kernel->log);
	free(kernel);
}

/* ---- Questions --------------------------------------------------------- */

int lkl_state(const struct lkl_kernel *kernel)
{
	return atomic_load(&kernel->state);
}

const char *lkl_release(const struct lkl_kernel *kernel)
{
	return kernel->image.entries.lkl_image_info->release;
}

uint64_t lkl_boot_time(const struct lkl_kernel *kernel)
{
	return kernel->boot_time;
}

size_t lkl_log_read(struct lkl_kernel *kernel, uint64_t *position, char *buffer,
		    size_t size)
{
	return log_read(&kernel->log, position, buffer, size);
}

/* ---- System calls ------------------------------------------------------ */

int64_t lkl_syscall(struct lkl_kernel *kernel, int64_t number,
		    const int64_t arguments[6])
{
	struct lkl_kernel *before;
	int64_t result;

	if (!kernel_running(kernel))
		return -EIO;
	before = thread_enter(kernel);
	result = kernel->image.entries.lkl_image_syscall(number, arguments);
	thread_leave(before);
	return result;
}

/* PROT_* and MAP_* of include/uapi/asm-generic/mman-common.h */
#define PROTECTION_READ_WRITE 0x3
#define MAP_PRIVATE_ANONYMOUS 0x22

void *lkl_mem_alloc(struct lkl_kernel *kernel, size_t size)
{
	int64_t result =
	    kernel_syscall(kernel, NR_mmap, 0, (int64_t)size,
			   PROTECTION_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);

	/* Addresses are positive; errors are the last page of all. */
	return result < 0 ? NULL : (void *)(intptr_t)result;
}

void lkl_mem_free(struct lkl_kernel *kernel, void *memory, size_t size)
{
	kernel_syscall(kernel, NR_munmap, (intptr_t)memory, (int64_t)size);
}
