// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/panic_notifier.h>
#include <linux/reboot.h>
#include <linux/sched/debug.h>
#include <linux/seq_file.h>
#include <linux/start_kernel.h>
#include <linux/string.h>
#include <generated/utsrelease.h>
#include <asm/lkl.h>
#include <asm/sections.h>
#include <asm/setup.h>

const struct lkl_host_operations *lkl_ops;
struct lkl_boot lkl_boot;
struct pt_regs lkl_no_regs;

const struct lkl_image_info lkl_image_info = {
	.abi = LKL_IMAGE_ABI,
	.page_size = PAGE_SIZE,
	.release = UTS_RELEASE,
};

/* The calling thread becomes the idle task's. */
noinline __ref int32_t lkl_image_boot(const struct lkl_boot *boot)
{
	struct lkl_jump leave;

	if (boot->abi != LKL_IMAGE_ABI)
		return -EINVAL;
	lkl_boot = *boot;
	lkl_ops = boot->ops;
	init_task.thread.sem = lkl_host(sem_alloc);
	if (!init_task.thread.sem)
		return -ENOMEM;
	if (lkl_set_jump(&leave))
		return 0;
	init_task.thread.leave = &leave;
	strscpy(boot_command_line, boot->command_line, COMMAND_LINE_SIZE);
	start_kernel();
}

static int lkl_panicked(struct notifier_block *block, unsigned long event,
			void *message)
{
	lkl_end(LKL_END_PANIC);
}

static struct notifier_block lkl_panic_block = {
	.notifier_call = lkl_panicked,
	.priority = INT_MIN,
};

void __init setup_arch(char **command_line)
{
	*command_line = boot_command_line;
	lkl_console_init();
	parse_early_param();
	lkl_memory_init();
	atomic_notifier_chain_register(&panic_notifier_list, &lkl_panic_block);
}

void machine_halt(void)
{
	lkl_end(LKL_END_HALT);
}

void machine_power_off(void)
{
	lkl_end(LKL_END_HALT);
}

void machine_restart(char *command)
{
	lkl_end(LKL_END_HALT);
}

/* The image is the host's memory, not the kernel's to give away. */
void free_initmem(void)
{
}

/* Stacks are the host's, and so are the debuggers that can read them. */
void show_stack(struct task_struct *task, unsigned long *sp, const char *level)
{
}

void show_regs(struct pt_regs *regs)
{
}

static int show_cpuinfo(struct seq_file *m, void *v)
{
	seq_puts(m, "processor\t: 0\nmodel name\t: Linux Kernel Library\n");
	return 0;
}

static void *cpuinfo_start(struct seq_file *m, loff_t *pos)
{
	return *pos ? NULL : SEQ_START_TOKEN;
}

static void *cpuinfo_next(struct seq_file *m, void *v, loff_t *pos)
{
	++*pos;
	return NULL;
}

static void cpuinfo_stop(struct seq_file *m, void *v)
{
}

const struct seq_operations cpuinfo_op = {
	.start = cpuinfo_start,
	.next = cpuinfo_next,
	.stop = cpuinfo_stop,
	.show = show_cpuinfo,
};
