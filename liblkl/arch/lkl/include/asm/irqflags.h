/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_IRQFLAGS_H
#define _ASM_LKL_IRQFLAGS_H

#include <asm/handover.h>

/*
 * Interrupts are delivered when they get enabled and at no other point,
 * by the thread that has the CPU.  So code between two such points is atomic
 * without further measures.
 */
#define ARCH_IRQ_ENABLED	0UL
#define ARCH_IRQ_DISABLED	1UL

extern unsigned long lkl_irq_flags;

void lkl_deliver_irqs(void);

static inline unsigned long arch_local_save_flags(void)
{
	return lkl_irq_flags;
}
#define arch_local_save_flags arch_local_save_flags

static inline void arch_local_irq_restore(unsigned long flags)
{
	barrier();
	lkl_irq_flags = flags;
	if (flags == ARCH_IRQ_ENABLED && unlikely(lkl_cpu_pending(&lkl_cpu)))
		lkl_deliver_irqs();
	barrier();
}
#define arch_local_irq_restore arch_local_irq_restore

static inline unsigned long arch_local_irq_save(void)
{
	unsigned long flags = lkl_irq_flags;

	lkl_irq_flags = ARCH_IRQ_DISABLED;
	barrier();
	return flags;
}
#define arch_local_irq_save arch_local_irq_save

#include <asm-generic/irqflags.h>

#endif
