// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/bitops.h>
#include <linux/hardirq.h>
#include <linux/init.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irqdesc.h>
#include <asm/irq_regs.h>
#include <asm/lkl.h>

unsigned long lkl_irq_flags = ARCH_IRQ_DISABLED;

/*
 * Runs the handlers of all lines that wait, and what they leave to softirqs;
 * returns with interrupts enabled and no line waiting.
 */
void lkl_deliver_irqs(void)
{
	struct pt_regs *regs;
	unsigned long lines;
	unsigned int line;

	do {
		lkl_irq_flags = ARCH_IRQ_DISABLED;
		barrier();
		regs = set_irq_regs(&lkl_no_regs);
		irq_enter();
		while ((lines = lkl_cpu_lines(&lkl_cpu))) {
			if (__test_and_clear_bit(LKL_IRQ_ENTER, &lines))
				lkl_admit();
			for_each_set_bit(line, &lines, NR_IRQS)
				generic_handle_irq(line);
		}
		irq_exit();
		set_irq_regs(regs);
		barrier();
		lkl_irq_flags = ARCH_IRQ_ENABLED;
	} while (lkl_cpu_pending(&lkl_cpu));
}

void __init init_IRQ(void)
{
	unsigned int line;

	/* A line has no state of its own that would need an acknowledgment. */
	for (line = 1; line < NR_IRQS; line++)
		irq_set_chip_and_handler(line, &dummy_irq_chip,
					 handle_simple_irq);
}
