/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_DELAY_H
#define _ASM_LKL_DELAY_H

void __ndelay(unsigned long nsecs);

#define ndelay(n)	__ndelay(n)
#define udelay(n)	__ndelay((n) * 1000UL)

#endif
