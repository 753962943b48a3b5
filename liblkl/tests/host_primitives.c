// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/* Semaphores, the timer, memory that is mapped twice. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"
#include "semaphore.h"
#include "tap.h"
#include "timer.h"

#define MS UINT64_C(1000000)

static void sleep_until(uint64_t time)
{
	struct semaphore never;

	semaphore_init(&never, 0);
	semaphore_down_until(&never, time);
}

/* ---- Semaphores -------------------------------------------------------- */

#define THREADS 8
#define ROUNDS 20000

static struct semaphore mutex, items, done;
static uint64_t sum;

static void add_under_lock(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		lock(&mutex);
		sum++;
		unlock(&mutex);
	}
	semaphore_up(&done);
}

static void produce(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++)
		semaphore_up(&items);
	semaphore_up(&done);
}

static _Atomic uint64_t consumed;

static void consume(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		semaphore_down(&items);
		atomic_fetch_add(&consumed, 1);
	}
	semaphore_up(&done);
}

/* As the kernel's CPU goes round: each thread ups the next, then sleeps. */
static struct semaphore ring[THREADS];
static uint32_t holders, wrong_holders;

static void pass_round(void *arg)
{
	size_t me = (uintptr_t)arg;

	for (int i = 0; i < ROUNDS / 4; i++) {
		semaphore_down(&ring[me]);
		if (++holders != 1)
			wrong_holders++;
		holders--;
		semaphore_up(&ring[(me + 1) % THREADS]);
	}
	semaphore_up(&done);
}

static void test_semaphores(void)
{
	uint64_t began;
	int errors = 0;

	lock_init(&mutex);
	semaphore_init(&items, 0);
	semaphore_init(&done, 0);

	for (int i = 0; i < THREADS; i++)
		errors |= host_thread_create(add_under_lock, NULL);
	need(!errors, "%d threads", THREADS);
	for (int i = 0; i < THREADS; i++)
		semaphore_down(&done);
	is(sum, THREADS * ROUNDS, "as a lock, no update is lost");

	for (int i = 0; i < THREADS / 2; i++) {
		errors |= host_thread_create(consume, NULL);
		errors |= host_thread_create(produce, NULL);
	}
	need(!errors, "producers and consumers");
	for (int i = 0; i < THREADS; i++)
		semaphore_down(&done);
	is(consumed, THREADS / 2 * ROUNDS, "each up lets one down through");
	is(items.state, 0, "and none is left over");

	for (int i = 0; i < THREADS; i++) {
		semaphore_init(&ring[i], 0);
		errors |= host_thread_create(pass_round, (void *)(uintptr_t)i);
	}
	need(!errors, "a ring of threads");
	semaphore_up(&ring[0]);
	for (int i = 0; i < THREADS; i++)
		semaphore_down(&done);
	is(wrong_holders, 0, "one at a time has the turn");
	is(ring[0].state, 1, "which comes back to the first");

	began = host_time_mono();
	ok(!semaphore_down_until(&items, began + 20 * MS),
	   "nobody ups: the deadline ends the wait");
	ok(host_time_mono() >= began + 20 * MS, "not before its time");
	semaphore_up(&items);
	ok(semaphore_down_until(&items, 0), "what is there is had at once");
}

/* ---- The timer --------------------------------------------------------- */

static struct timer timer;
static _Atomic uint32_t expiries;
static _Atomic uint64_t expired_at;

static void count_expiry(void *opaque)
{
	(void)opaque;
	atomic_store(&expired_at, host_time_mono());
	atomic_fetch_add(&expiries, 1);
}

static void run_timer(void *arg)
{
	timer_run(arg);
	semaphore_up(&done);
}

static void test_timer(void)
{
	uint64_t now;
	uint64_t late = 0;
	bool early = false;

	timer_init(&timer, count_expiry, NULL);
	need(host_thread_create(run_timer, &timer) == 0, "the timer's thread");

	for (uint32_t i = 1; i <= 20; i++) {
		uint64_t deadline = host_time_mono() + 2 * MS;

		timer_set(&timer, deadline);
		while (atomic_load(&expiries) < i &&
		       host_time_mono() < deadline + 1000 * MS)
			sleep_until(host_time_mono() + MS / 10);
		early = early || expired_at < deadline;
		if (expired_at - deadline > late)
			late = expired_at - deadline;
	}
	is(expiries, 20, "each deadline expires once");
	ok(!early, "none too early");
	printf("# latest by %" PRIu64 " us\n", late / 1000);

	expiries = 0;
	now = host_time_mono();
	timer_set(&timer, now + 5 * MS);
	timer_set(&timer, now + 60 * MS);
	sleep_until(now + 30 * MS);
	is(expiries, 0, "moved to later: not at the earlier time");
	sleep_until(now + 200 * MS);
	is(expiries, 1, "but at the later, once");
	ok(expired_at >= now + 60 * MS, "not before");

	expiries = 0;
	now = host_time_mono();
	timer_set(&timer, now + 10000 * MS);
	sleep_until(now + 5 * MS);
	timer_set(&timer, now + 10 * MS);
	sleep_until(now + 500 * MS);
	is(expiries, 1, "moved to earlier: the sleeping thread is woken");

	timer_set(&timer, 0);
	sleep_until(host_time_mono() + 200 * MS);
	is(expiries, 2, "a deadline of the past expires at once");

	/* Two threads set it; the last word must not be lost. */
	for (int i = 0; i < 20000; i++)
		timer_set(&timer, host_time_mono() + (uint64_t)(i % 50) * 1000);
	expiries = 0;
	timer_set(&timer, host_time_mono() + MS);
	sleep_until(host_time_mono() + 500 * MS);
	ok(expiries > 0, "the last of many is not lost");
	timer_stop(&timer);
	ok(semaphore_down_until(&done, host_time_mono() + 5000 * MS),
	   "stops when told");
}

/* ---- Memory ------------------------------------------------------------ */

#define RAM_SIZE (UINT64_C(64) << 20)
#define RAM_ALIGNMENT (UINT64_C(32) << 20)

static void test_memory(void)
{
	struct host_ram ram;
	uint64_t pages[64];
	unsigned char *alias, *second;
	bool same = true, zero = true;
	int status;
	pid_t child;

	need(host_ram_create(&ram, RAM_SIZE, RAM_ALIGNMENT) == 0, "64 MiB");
	is((uintptr_t)ram.base % RAM_ALIGNMENT, 0, "aligned to 32 MiB");
	for (uint64_t i = 0; i < RAM_SIZE; i += HOST_PAGE_SIZE)
		zero = zero && !ram.base[i];
	ok(zero, "all of it zeros");

	/* Every second page backwards, then a run of 16. */
	for (uint32_t i = 0; i < 48; i++)
		pages[i] = (uintptr_t)ram.base +
			   (1000 - 2 * (uint64_t)i) * HOST_PAGE_SIZE;
	for (uint32_t i = 48; i < 64; i++)
		pages[i] = (uintptr_t)ram.base + (uint64_t)i * HOST_PAGE_SIZE;
	alias = host_ram_alias(&ram, pages, 64);
	need(alias, "64 scattered pages mapped one after another");
	for (uint32_t i = 0; i < 64; i++)
		memset((void *)(uintptr_t)pages[i], (int)i + 1, HOST_PAGE_SIZE);
	for (uint32_t i = 0; i < 64 * HOST_PAGE_SIZE; i++)
		same = same && alias[i] == i / HOST_PAGE_SIZE + 1;
	ok(same, "what is written to a page is read from the alias");
	for (uint32_t i = 0; i < 64; i++)
		alias[i * HOST_PAGE_SIZE + 5] = (unsigned char)(200 - i);
	for (uint32_t i = 0; i < 64; i++)
		same = same &&
		       ((unsigned char *)(uintptr_t)pages[i])[5] == 200 - i;
	ok(same, "and the other way round");
	second = host_ram_alias(&ram, pages, 1);
	need(second, "one page mapped a third time");
	second[7] = 77;
	is(alias[7], 77, "all three are one");
	host_ram_unalias(second, 1);
	host_ram_unalias(alias, 64);
	is(((unsigned char *)(uintptr_t)pages[0])[7], 77,
	   "the page outlives its aliases");

	pages[0] = (uintptr_t)ram.base + RAM_SIZE;
	ok(!host_ram_alias(&ram, pages, 1), "no alias beyond the memory");
	pages[0] = (uintptr_t)ram.base - HOST_PAGE_SIZE;
	ok(!host_ram_alias(&ram, pages, 1), "nor before it");
	pages[0] = (uintptr_t)ram.base + 1;
	ok(!host_ram_alias(&ram, pages, 1), "nor across pages");

	child = fork();
	if (child == 0) {
		/* A system call tells without a fault whether it is there. */
		int ends[2];

		if (pipe(ends) < 0)
			_exit(2);
		_exit(write(ends[1], ram.base, 1) < 0 && errno == EFAULT ? 0
									 : 1);
	}
	waitpid(child, &status, 0);
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 0,
	   "a forked child does not share it");
	host_ram_destroy(&ram);
	ok(!ram.base, "given back");
}

int main(void)
{
	test_semaphores();
	test_timer();
	test_memory();
	return tap_end();
}
