// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The one CPU: context switches, idling, the way in and out of the kernel for
 * host threads, and the end.  asm/handover.h has the protocol.
 */
#include <linux/cpu.h>
#include <linux/hardirq.h>
#include <linux/resume_user_mode.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/sched/task.h>
#include <asm/lkl.h>
#include <asm/process.h>
#include <asm/switch_to.h>
#include <asm/syscall.h>

/* Of host threads: nine times a kernel thread's share. */
#define LKL_HOST_NICE	-10

struct lkl_cpu lkl_cpu = { .owner = LKL_CPU_BUSY };

struct task_struct *lkl_current = &init_task;
EXPORT_SYMBOL(lkl_current);

static enum lkl_end end_reason;

/* Host threads that wait for the CPU: a stack, pushed to from any thread. */
static struct task_struct *entrants;

/* Host threads that are in a system call, or wait at the door. */
static unsigned int inside;

/*
 * The end of this kernel.  The calling thread leaves at once, all others when
 * the host wakes them; no one runs kernel code afterwards.
 */
void __noreturn lkl_end(enum lkl_end reason)
{
	end_reason = reason;
	lkl_irq_flags = ARCH_IRQ_DISABLED;
	lkl_cpu_end(&lkl_cpu);
	lkl_host(ended, reason);
	lkl_jump(current->thread.leave);
}

/* Waits until @task is given the CPU; does not return when there is none. */
static void wait_for_cpu(void *sem, struct lkl_jump *leave)
{
	lkl_host(sem_down, sem);
	if (unlikely(lkl_cpu_ended(&lkl_cpu)))
		lkl_jump(leave);
}

struct task_struct *__switch_to(struct task_struct *prev,
				struct task_struct *next)
{
	struct lkl_jump *leave = prev->thread.leave;
	void *sem = prev->thread.sem;
	bool leaving = prev->thread.leaving || prev->__state == TASK_DEAD;
	struct task_struct *last;

	prev->thread.leaving = false;
	next->thread.prev = prev;
	lkl_current = next;
	lkl_host(sem_up, next->thread.sem);
	/*
	 * The next task runs.  It may have freed a dead task by now, and a task
	 * that left may be inside again on another stack.
	 */
	if (leaving)
		lkl_jump(leave);

	wait_for_cpu(sem, leave);
	last = prev->thread.prev;
	prev->thread.prev = NULL;
	return last;
}

/* @task's host thread has been given the CPU: finishes what brought it. */
void lkl_take_over(struct task_struct *task, struct lkl_jump *leave)
{
	struct task_struct *prev = task->thread.prev;

	task->thread.leave = leave;
	task->thread.entering = false;
	task->thread.prev = NULL;
	if (prev)
		schedule_tail(prev);
	else
		local_irq_enable();
}

/* Called with interrupts disabled; the caller enables them. */
void arch_cpu_idle(void)
{
	if (lkl_cpu_sleep(&lkl_cpu))
		wait_for_cpu(init_task.thread.sem, init_task.thread.leave);
}

/*
 * The current task has a host thread that is not in the kernel, or is about to
 * leave it: lets the others run.  The task sleeps in a state that nothing but
 * lkl_admit() wakes, so that a stray wake-up cannot give the CPU to a thread
 * that does not wait for it.
 *
 * Jumps to the task's leave, unless its host thread came back meanwhile: then
 * it is given the CPU as it stands.
 */
static void deschedule(struct task_struct *task)
{
	for (;;) {
		set_current_state(TASK_PARKED);
		if (task->thread.entering)
			break;
		task->thread.leaving = true;
		schedule();
		task->thread.leaving = false;
	}
	__set_current_state(TASK_RUNNING);
	lkl_host(sem_up, task->thread.sem);
}

/* Interrupts for a kernel that nobody is in: run in the parked task's name. */
static noinline void serve_parked(struct task_struct *task)
{
	struct lkl_jump leave;

	if (lkl_set_jump(&leave))
		return;
	task->thread.leave = &leave;
	lkl_deliver_irqs();
	deschedule(task);
}

void lkl_image_irq(uint32_t line)
{
	uintptr_t owner = lkl_cpu_raise(&lkl_cpu, line);

	if (owner == LKL_CPU_IDLE)
		lkl_host(sem_up, init_task.thread.sem);
	else if (owner != LKL_CPU_BUSY && owner != LKL_CPU_ENDED)
		serve_parked((struct task_struct *)owner);
}

/* The handler of LKL_IRQ_ENTER: those that wait at the door become runnable. */
void lkl_admit(void)
{
	struct task_struct *task, *next;

	task = __atomic_exchange_n(&entrants, NULL, __ATOMIC_ACQUIRE);
	for (; task; task = next) {
		next = task->thread.next_entrant;
		task->thread.entering = true;
		inside++;
		wake_up_state(task, TASK_PARKED);
	}
	lkl_attach_requests();
}

static void push_entrant(struct task_struct *task)
{
	struct task_struct *head = __atomic_load_n(&entrants, __ATOMIC_RELAXED);

	do {
		task->thread.next_entrant = head;
	} while (!__atomic_compare_exchange_n(&entrants, &head, task, false,
					      __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
}

/* The way in for @task's own host thread. */
static void enter(struct task_struct *task, struct lkl_jump *leave)
{
	if (likely(lkl_cpu_resume(&lkl_cpu, task))) {
		task->thread.leave = leave;
		inside++;
		return;
	}

	push_entrant(task);
	lkl_image_irq(LKL_IRQ_ENTER);
	wait_for_cpu(task->thread.sem, leave);
	lkl_take_over(task, leave);
}

static bool exit_work(void)
{
	if (test_thread_flag(TIF_NOTIFY_RESUME) ||
	    test_thread_flag(TIF_NOTIFY_SIGNAL)) {
		clear_thread_flag(TIF_NOTIFY_SIGNAL);
		resume_user_mode_work(&lkl_no_regs);
		return true;
	}
	/* No handler could run: whatever was sent is dropped. */
	if (signal_pending(current)) {
		flush_signals(current);
		return true;
	}
	return false;
}

/*
 * Whether a host thread on its way out gives the CPU away.  To another host
 * thread at once.  Kernel threads can wait for the scheduler's word, or for the
 * next tick if it finds us outside: each hand-over costs two switches of host
 * threads, on a loaded host two waits for its scheduler.
 */
static bool others_wait(void)
{
	return need_resched() ||
	       ((inside || lkl_attach_waiting()) && !single_task_running());
}

/* The way out: the CPU stays parked with us unless someone else can use it. */
static void leave(struct task_struct *task)
{
	inside--;
	for (;;) {
		while (exit_work())
			;
		if (others_wait()) {
			deschedule(task);
			return;
		}
		if (lkl_cpu_park(&lkl_cpu, task))
			return;
		lkl_deliver_irqs();
	}
}

/*
 * A new task has the CPU on the host thread that asked for it; its first way
 * out.  Host threads come before kernel threads, whose waking shall not take
 * the CPU from them.
 */
void lkl_attached(struct task_struct *task, struct lkl_jump *jump)
{
	lkl_take_over(task, jump);
	inside++;
	set_user_nice(task, LKL_HOST_NICE);
	leave(task);
}

static noinline s64 call(struct task_struct *task, u64 nr, const s64 *args)
{
	struct lkl_jump jump;
	s64 result;

	if (lkl_set_jump(&jump)) {
		if (lkl_cpu_ended(&lkl_cpu))
			return end_reason == LKL_END_HALT ? 0 : -EIO;
		return task->thread.result;
	}
	enter(task, &jump);
	result = lkl_syscall(nr, args);
	/* Once parked or descheduled, the task may be running elsewhere. */
	task->thread.result = result;
	leave(task);
	return result;
}

int64_t lkl_image_syscall(int64_t nr, const int64_t args[6])
{
	struct task_struct *task = lkl_host(tls_get);

	if (unlikely(lkl_cpu_ended(&lkl_cpu)))
		return -EIO;
	if (unlikely(!task)) {
		task = lkl_attach();
		if (IS_ERR(task))
			return PTR_ERR(task);
		lkl_host(tls_set, task);
	}
	return call(task, nr, args);
}

static noinline void exit_task(struct task_struct *task)
{
	struct lkl_jump jump;

	if (lkl_set_jump(&jump))
		return;
	enter(task, &jump);
	inside--;
	do_exit(0);
}

void lkl_image_thread_exit(void)
{
	struct task_struct *task = lkl_host(tls_get);

	if (!task || lkl_cpu_ended(&lkl_cpu))
		return;
	lkl_host(tls_set, NULL);
	exit_task(task);
}
