// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The protocol of arch/lkl/include/asm/handover.h by itself: real threads, a
 * toy kernel of a run queue and nothing else, and interrupts from outside at
 * random.  What arch/lkl/kernel/cpu.c does around the protocol is done here
 * in the same order, so that a hole in the design shows without a kernel.
 *
 * Held all the time: one thread at most is inside, and it is the one that the
 * toy kernel calls current.  Held at the end: every call came back, every
 * interrupt raised was seen, no semaphore was upped twice.
 */
#include "tap.h"
#include "../arch/lkl/include/asm/handover.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define CALLERS 12
#define CALLS 20000
#define RAISERS 3
#define LINE_ENTER 0
#define LINES 8
/* More than any run needs; a lost hand-over would take for ever. */
#define SECONDS 120

struct task {
	sem_t sem;
	bool entering;
	bool parked; /* sleeps outside, only admit() wakes it */
	struct task *next_entrant;
	struct task *next_runnable;
	pthread_t thread;
	unsigned int seed;
};

struct lkl_cpu lkl_cpu = {.owner = LKL_CPU_BUSY};

static struct task idle;
static struct task callers[CALLERS];
static struct task *entrants;
static atomic_bool stopping;

/* The toy kernel: touched by the thread that has the CPU only. */
static struct task *current = &idle;
static struct task *runnable_first;
static struct task *runnable_last;
static uint64_t seen[LINES];

static _Atomic uint64_t raised[LINES];
static _Atomic uint32_t inside;
static _Atomic uint32_t violations;

static void check(bool condition)
{
	if (!condition)
		atomic_fetch_add(&violations, 1);
}

static void up(struct task *task)
{
	int value;

	sem_getvalue(&task->sem, &value);
	check(value <= 0);
	sem_post(&task->sem);
}

static void down(struct task *task)
{
	while (sem_wait(&task->sem))
		;
	check(current == task);
}

/* Brackets around every stretch in which a thread runs the toy kernel. */
static void got_cpu(void)
{
	check(atomic_fetch_add(&inside, 1) == 0);
}

static void lose_cpu(void)
{
	check(atomic_fetch_sub(&inside, 1) == 1);
}

static void make_runnable(struct task *task)
{
	task->next_runnable = NULL;
	if (runnable_last)
		runnable_last->next_runnable = task;
	else
		runnable_first = task;
	runnable_last = task;
}

static struct task *pick_next(void)
{
	struct task *task = runnable_first;

	if (!task)
		return &idle;
	runnable_first = task->next_runnable;
	if (!runnable_first)
		runnable_last = NULL;
	return task;
}

static void deliver(void)
{
	uint64_t lines;

	while ((lines = lkl_cpu_lines(&lkl_cpu))) {
		for (unsigned int line = 1; line < LINES; line++)
			if (lines >> line & 1)
				seen[line] = atomic_load(&raised[line]);
		if (!(lines >> LINE_ENTER & 1))
			continue;
		struct task *task =
		    __atomic_exchange_n(&entrants, NULL, __ATOMIC_ACQUIRE);

		while (task) {
			struct task *next = task->next_entrant;

			task->entering = true;
			if (task->parked) {
				task->parked = false;
				make_runnable(task);
			}
			task = next;
		}
	}
}

/* To the next task; true when it was the caller's own turn again. */
static void switch_away(struct task *prev, bool leaving)
{
	struct task *next = pick_next();

	if (next == prev)
		return;
	current = next;
	lose_cpu();
	up(next);
	if (leaving)
		return;
	down(prev);
	got_cpu();
}

static void deschedule(struct task *task)
{
	if (task->entering) {
		lose_cpu();
		up(task);
		return;
	}
	task->parked = true;
	switch_away(task, true);
}

static void interrupt(unsigned int line)
{
	uintptr_t owner = lkl_cpu_raise(&lkl_cpu, line);
	struct task *task;

	if (owner == LKL_CPU_IDLE) {
		up(&idle);
	} else if (owner != LKL_CPU_BUSY && owner != LKL_CPU_ENDED) {
		task = (struct task *)owner;
		check(current == task);
		got_cpu();
		deliver();
		deschedule(task);
	}
}

static void enter(struct task *task)
{
	struct task *head;

	if (lkl_cpu_resume(&lkl_cpu, task)) {
		check(current == task);
		got_cpu();
		return;
	}
	head = __atomic_load_n(&entrants, __ATOMIC_RELAXED);
	do {
		task->next_entrant = head;
	} while (!__atomic_compare_exchange_n(
	    &entrants, &head, task, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
	interrupt(LINE_ENTER);
	down(task);
	got_cpu();
	task->entering = false;
}

static void leave(struct task *task)
{
	for (;;) {
		if (runnable_first || rand_r(&task->seed) % 16 == 0) {
			deschedule(task);
			return;
		}
		lose_cpu();
		if (lkl_cpu_park(&lkl_cpu, task))
			return;
		got_cpu();
		deliver();
	}
}

static void *caller(void *arg)
{
	struct task *task = arg;

	for (int call = 0; call < CALLS; call++) {
		enter(task);
		/* Sometimes the call sleeps: others run, then it goes on. */
		if (rand_r(&task->seed) % 4 == 0) {
			make_runnable(task);
			switch_away(task, false);
		}
		if (rand_r(&task->seed) % 4 == 0)
			deliver();
		leave(task);
		if (rand_r(&task->seed) % 64 == 0)
			usleep(rand_r(&task->seed) % 50);
	}
	return NULL;
}

static void *raiser(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;

	while (!atomic_load(&stopping)) {
		unsigned int line = 1 + rand_r(&seed) % (LINES - 1);

		atomic_fetch_add(&raised[line], 1);
		interrupt(line);
		if (rand_r(&seed) % 8 == 0)
			usleep(rand_r(&seed) % 20);
	}
	return NULL;
}

static void *idler(void *unused)
{
	(void)unused;
	got_cpu();
	for (;;) {
		deliver();
		if (runnable_first) {
			switch_away(&idle, false);
			continue;
		}
		if (atomic_load(&stopping) == true &&
		    !lkl_cpu_pending(&lkl_cpu))
			break;
		lose_cpu();
		if (lkl_cpu_sleep(&lkl_cpu))
			down(&idle);
		got_cpu();
	}
	lkl_cpu_end(&lkl_cpu);
	lose_cpu();
	return NULL;
}

int main(void)
{
	pthread_t raisers[RAISERS];
	pthread_t idle_thread;
	int value;

	alarm(SECONDS);
	sem_init(&idle.sem, 0, 0);
	for (unsigned int i = 0; i < CALLERS; i++) {
		sem_init(&callers[i].sem, 0, 0);
		callers[i].parked = true;
		callers[i].seed = i + 1;
	}
	need(!pthread_create(&idle_thread, NULL, idler, NULL), "idle thread");
	for (uintptr_t i = 0; i < RAISERS; i++)
		need(!pthread_create(&raisers[i], NULL, raiser,
				     (void *)(i + 100)),
		     "interrupt thread %d", (int)i);
	for (int i = 0; i < CALLERS; i++)
		need(!pthread_create(&callers[i].thread, NULL, caller,
				     &callers[i]),
		     "caller %d", i);
	for (int i = 0; i < CALLERS; i++)
		pthread_join(callers[i].thread, NULL);
	ok(true, "%d threads came back from %d calls each", CALLERS, CALLS);

	atomic_store(&stopping, true);
	for (int i = 0; i < RAISERS; i++)
		pthread_join(raisers[i], NULL);
	/* The last one in finds everything that was raised before. */
	interrupt(1);
	pthread_join(idle_thread, NULL);
	for (int line = 1; line < LINES; line++)
		is(seen[line], atomic_load(&raised[line]),
		   "line %d: the last interrupt was seen", line);
	is(atomic_load(&violations), 0, "one thread inside at a time");
	is(atomic_load(&inside), 0, "all are out");
	for (int i = 0; i < CALLERS; i++) {
		sem_getvalue(&callers[i].sem, &value);
		if (value)
			break;
	}
	is(value, 0, "no semaphore was upped without need");
	interrupt(2);
	ok(lkl_cpu_ended(&lkl_cpu), "an interrupt after the end does nothing");
	return tap_end();
}
