// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tasks and their host threads.
 *
 * A kernel thread gets a host thread of its own.  The host's threads are
 * tasks of process 1, which forks one for each that calls for the first
 * time: they are no kernel threads, so that the kernel does for them what it
 * does on the way back to user mode.
 */
#include <linux/err.h>
#include <linux/interrupt.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <asm/lkl.h>
#include <asm/process.h>

/**
 * struct attach - a host thread that wants to become a task
 * @sem: the thread sleeps here, then the task's
 * @task: the task, once there is one
 * @error: why there is none
 * @next: link in @attaching
 */
struct attach {
	void *sem;
	struct task_struct *task;
	int error;
	struct attach *next;
};

static struct attach *attaching;
/* How many there are, until they have the CPU. */
static unsigned int waiting;
static struct task_struct *process_one;

/* Never runs: it marks a task whose host thread exists already. */
static int host_thread(void *unused)
{
	return 0;
}

static noinline void LKL_ABI run_kernel_thread(void *arg)
{
	struct task_struct *task = arg;
	struct lkl_jump leave;

	if (lkl_set_jump(&leave))
		return;
	lkl_host(sem_down, task->thread.sem);
	if (lkl_cpu_ended(&lkl_cpu))
		return;
	if (!task->thread.fn) {
		/* Dismissed.  Once this is seen, the task is gone. */
		__atomic_store_n(&task->thread.entering, false,
				 __ATOMIC_RELEASE);
		return;
	}
	lkl_take_over(task, &leave);
	task->thread.fn(task->thread.arg);
	/* Only process 1 gets here, from its exec; the others do_exit(). */
	lkl_process_one();
}

/* A copy that fails half-way must not release its parent's semaphore. */
int arch_dup_task_struct(struct task_struct *to, struct task_struct *from)
{
	*to = *from;
	memset(&to->thread, 0, sizeof(to->thread));
	return 0;
}

int copy_thread(struct task_struct *task, const struct kernel_clone_args *args)
{
	int error;

	/* fork() from the outside is not on offer, see syscall.c. */
	if (!args->fn)
		return -EINVAL;

	if (args->fn == host_thread) {
		struct attach *request = args->fn_arg;

		task->thread.sem = request->sem;
		task->thread.borrowed = true;
		request->task = task;
		return 0;
	}

	task->thread.fn = args->fn;
	task->thread.arg = args->fn_arg;
	task->thread.entering = true;
	task->thread.sem = lkl_host(sem_alloc);
	if (!task->thread.sem)
		return -ENOMEM;
	error = lkl_host(thread_create, run_kernel_thread, task);
	if (error) {
		lkl_host(sem_free, task->thread.sem);
		task->thread.sem = NULL;
		task->thread.fn = NULL;
	}
	return error;
}

/* The fork failed after its host thread was made, which waits for the CPU. */
static void dismiss(struct task_struct *task)
{
	task->thread.fn = NULL;
	lkl_host(sem_up, task->thread.sem);
	while (__atomic_load_n(&task->thread.entering, __ATOMIC_ACQUIRE))
		cpu_relax();
}

void arch_release_task_struct(struct task_struct *task)
{
	if (task->thread.fn && task->thread.entering)
		dismiss(task);
	if (task->thread.sem && !task->thread.borrowed)
		lkl_host(sem_free, task->thread.sem);
}

/* Whether a host thread waits for process 1 to fork its task. */
bool lkl_attach_waiting(void)
{
	return __atomic_load_n(&waiting, __ATOMIC_RELAXED);
}

/* From an interrupt: someone asks for a task. */
void lkl_attach_requests(void)
{
	if (__atomic_load_n(&attaching, __ATOMIC_ACQUIRE) && process_one)
		wake_up_process(process_one);
}

static void fork_host_threads(struct attach *request)
{
	struct attach *next;
	pid_t pid;

	for (; request; request = next) {
		struct kernel_clone_args args = {
			.flags = CLONE_VM | CLONE_FS | CLONE_FILES |
				 CLONE_SIGHAND | CLONE_THREAD,
			.fn = host_thread,
			.fn_arg = request,
		};

		/* Once its task exists, the request may be gone. */
		next = request->next;
		pid = kernel_clone(&args);
		if (pid < 0) {
			request->task = NULL;
			request->error = pid;
			lkl_host(sem_up, request->sem);
		}
	}
}

void __noreturn lkl_process_one(void)
{
	struct attach *requests;

	process_one = current;
	lkl_host(sem_up, lkl_boot.booted);
	for (;;) {
		set_current_state(TASK_IDLE);
		requests = __atomic_exchange_n(&attaching, NULL,
					       __ATOMIC_ACQUIRE);
		if (!requests) {
			schedule();
			continue;
		}
		__set_current_state(TASK_RUNNING);
		fork_host_threads(requests);
	}
}

static noinline struct task_struct *attach(struct attach *request)
{
	struct lkl_jump leave;

	if (lkl_set_jump(&leave))
		return lkl_cpu_ended(&lkl_cpu) ? ERR_PTR(-EIO) : request->task;

	__atomic_fetch_add(&waiting, 1, __ATOMIC_RELAXED);
	request->next = __atomic_load_n(&attaching, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&attaching, &request->next, request,
					    false, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED))
		;
	lkl_image_irq(LKL_IRQ_ENTER);
	lkl_host(sem_down, request->sem);
	if (lkl_cpu_ended(&lkl_cpu))
		return ERR_PTR(-EIO);
	if (!request->task) {
		__atomic_fetch_sub(&waiting, 1, __ATOMIC_RELAXED);
		lkl_host(sem_free, request->sem);
		return ERR_PTR(request->error);
	}
	request->task->thread.borrowed = false;
	__atomic_fetch_sub(&waiting, 1, __ATOMIC_RELAXED);
	lkl_attached(request->task, &leave);
	return request->task;
}

/*
 * Makes the calling host thread a task, parked or descheduled; -EIO when the
 * kernel ended meanwhile.
 */
struct task_struct *lkl_attach(void)
{
	struct attach request = { .sem = lkl_host(sem_alloc) };

	if (!request.sem)
		return ERR_PTR(-ENOMEM);
	return attach(&request);
}
