/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_IRQ_H
#define _ASM_LKL_IRQ_H

/* Line 0 is ours: host threads ask for the CPU by it. */
#define LKL_IRQ_ENTER	0
#define NR_IRQS		64

#endif
