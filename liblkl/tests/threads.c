// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/* Many host threads in one kernel: at once, and one after another. */
#include <pthread.h>
#include <stdlib.h>

#include "machine.h"

#define THREADS 24
#define ROUNDS 100
#define FILE_SIZE 20000

struct worker {
	struct lkl_kernel *kernel;
	int index;
	const char *failed; /* what went wrong first */
	int64_t error;
	pthread_t thread;
};

static bool check(struct worker *worker, bool good, const char *what,
		  int64_t result)
{
	if (!good && !worker->failed) {
		worker->failed = what;
		worker->error = result;
	}
	return good;
}

static void fill(unsigned char *bytes, size_t length, int seed)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (unsigned char)(i * 7 + (size_t)seed * 31 + i / 256);
}

/* A file of its own: written, read back by two ways, removed. */
static void use_file(struct worker *w, int round)
{
	unsigned char out[FILE_SIZE], in[FILE_SIZE];
	char path[32];
	int64_t fd, got;

	snprintf(path, sizeof(path), "/thread-%d-%d", w->index, round);
	fill(out, sizeof(out), w->index * ROUNDS + round);
	fd = lkl_sys_openat(w->kernel, LKL_AT_FDCWD, path,
			    LKL_O_RDWR | LKL_O_CREAT | LKL_O_EXCL, 0600);
	if (!check(w, fd >= 0, "create", fd))
		return;
	got = lkl_sys_write(w->kernel, (int)fd, out, sizeof(out));
	check(w, got == sizeof(out), "write", got);
	got = lkl_sys_pread64(w->kernel, (int)fd, in, sizeof(in), 0);
	check(w, got == sizeof(in) && !memcmp(in, out, sizeof(in)), "read",
	      got);
	memset(in, 0, sizeof(in));
	got = lkl_read_file(w->kernel, (int)fd, 100, in, sizeof(in));
	check(w,
	      got == sizeof(in) - 100 &&
		  !memcmp(in, out + 100, sizeof(in) - 100),
	      "read by the bulk call", got);
	got = lkl_sys_close(w->kernel, (int)fd);
	check(w, got == 0, "close", got);
	got = lkl_sys_unlinkat(w->kernel, LKL_AT_FDCWD, path, 0);
	check(w, got == 0, "unlink", got);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	int64_t self = lkl_sys_gettid(w->kernel);

	for (int round = 0; round < ROUNDS && !w->failed; round++) {
		int64_t tid = lkl_sys_gettid(w->kernel);

		check(w, tid == self, "another task", tid);
		use_file(w, round);
	}
	return NULL;
}

static void run_workers(struct lkl_kernel *kernel, int count)
{
	struct worker workers[THREADS];
	int wrong = 0;

	for (int i = 0; i < count; i++) {
		workers[i] = (struct worker){.kernel = kernel, .index = i};
		need(!pthread_create(&workers[i].thread, NULL, work,
				     &workers[i]),
		     "thread %d", i);
	}
	for (int i = 0; i < count; i++) {
		pthread_join(workers[i].thread, NULL);
		if (workers[i].failed) {
			printf("# thread %d: %s: %s\n", i, workers[i].failed,
			       lkl_errno_name((int)workers[i].error));
			wrong++;
		}
	}
	is(wrong, 0, "%d threads at work on their own files", count);
}

/* ---- Two threads that wait for each other in the kernel ---------------- */

#define NR_pipe2 59
#define TURNS 5000

struct echo {
	struct lkl_kernel *kernel;
	int from, to;
	uint64_t sum;
};

static void *echo(void *arg)
{
	struct echo *e = arg;
	uint32_t word;

	for (int i = 0; i < TURNS; i++) {
		if (lkl_sys_read(e->kernel, e->from, &word, 4) != 4)
			break;
		e->sum += word++;
		if (lkl_sys_write(e->kernel, e->to, &word, 4) != 4)
			break;
	}
	return NULL;
}

static void test_ping_pong(struct lkl_kernel *kernel)
{
	int32_t there[2], back[2];
	const int64_t one[6] = {(intptr_t)there};
	const int64_t two[6] = {(intptr_t)back};
	struct echo a, b;
	uint32_t first = 0;
	pthread_t threads[2];

	need(!lkl_syscall(kernel, NR_pipe2, one) &&
		 !lkl_syscall(kernel, NR_pipe2, two),
	     "two pipes");
	a = (struct echo){kernel, there[0], back[1], 0};
	b = (struct echo){kernel, back[0], there[1], 0};
	need(!pthread_create(&threads[0], NULL, echo, &a) &&
		 !pthread_create(&threads[1], NULL, echo, &b),
	     "two threads");
	lkl_sys_write(kernel, there[1], &first, 4);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	is(a.sum + b.sum, (uint64_t)TURNS * (2 * TURNS - 1),
	   "%d words went round between them", 2 * TURNS);
}

/* ---- Threads that come and go ------------------------------------------ */

static long field(const char *path, const char *name)
{
	char line[256];
	long value = -1;
	FILE *file = fopen(path, "r");

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			value = strtol(line + strlen(name), NULL, 10);
	if (file)
		fclose(file);
	return value;
}

/* The kernel's own count of the tasks of the calling thread's process. */
static long kernel_tasks(struct lkl_kernel *kernel)
{
	char text[4096];
	char *line;
	int64_t fd = lkl_sys_openat(kernel, LKL_AT_FDCWD, "/proc/self/status",
				    LKL_O_RDONLY, 0);
	int64_t got = lkl_sys_read(kernel, (int)fd, text, sizeof(text) - 1);

	lkl_sys_close(kernel, (int)fd);
	if (got < 0)
		return -1;
	text[got] = '\0';
	line = strstr(text, "\nThreads:");
	return line ? strtol(line + 9, NULL, 10) : -1;
}

static void *visit(void *arg)
{
	struct lkl_kernel *kernel = arg;

	return (void *)(intptr_t)(lkl_sys_gettid(kernel) > 0);
}

static bool visitors(struct lkl_kernel *kernel, int count)
{
	bool good = true;

	for (int i = 0; i < count; i++) {
		pthread_t thread;
		void *result = NULL;

		if (pthread_create(&thread, NULL, visit, kernel))
			return false;
		pthread_join(thread, &result);
		good = good && result;
	}
	return good;
}

/* KiB; the sanitizer keeps what was freed for a while. */
#ifdef __SANITIZE_ADDRESS__
#define GROWTH_MAX (64 << 10)
#else
#define GROWTH_MAX (2 << 10)
#endif

static void test_visitors(struct lkl_kernel *kernel)
{
	long tasks, threads, memory, grown;

	ok(visitors(kernel, 300), "300 threads come, call and go");
	tasks = kernel_tasks(kernel);
	threads = field("/proc/self/status", "Threads:");
	memory = field("/proc/self/status", "VmRSS:");
	ok(visitors(kernel, 3000), "3000 more");
	is(kernel_tasks(kernel), tasks,
	   "the kernel has as many tasks as before");
	for (int i = 0;
	     i < 1000 && field("/proc/self/status", "Threads:") > threads; i++)
		usleep(1000);
	ok(field("/proc/self/status", "Threads:") <= threads,
	   "the process as many threads");
	grown = field("/proc/self/status", "VmRSS:") - memory;
	ok(grown < GROWTH_MAX, "memory grew by %ld KiB", grown);
}

int main(int argc, char **argv)
{
	struct lkl_kernel *kernel;

	(void)argc;
	kernel = boot(argv, 0);
	run_workers(kernel, 1);
	run_workers(kernel, 8);
	run_workers(kernel, THREADS);
	test_ping_pong(kernel);
	test_visitors(kernel);
	is(lkl_halt(kernel), 0, "halts");
	lkl_destroy(kernel);
	return tap_end();
}
