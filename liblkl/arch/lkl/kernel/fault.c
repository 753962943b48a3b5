// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/kernel.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <asm/lkl.h>
#include <asm/sections.h>

/*
 * A CPU fault inside the kernel; the host brought the thread here, on a stack
 * kept for it.  A copy from or to the process' memory goes on with an error; for
 * anything else this kernel is over.
 */
void lkl_image_fault(uint64_t kind, uint64_t ip, uint64_t address)
{
	static bool reported;

	lkl_uaccess_fault();
	/* The report itself may run into what broke. */
	if (!reported) {
		reported = true;
		pr_emerg("lkl: fault %llu at %llx (image + %llx), address %llx, task %s\n",
			 kind, ip, ip - (uint64_t)_text, address, current->comm);
	}
	lkl_end(LKL_END_FAULT);
}
