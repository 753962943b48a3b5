/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_CURRENT_H
#define _ASM_LKL_CURRENT_H

struct task_struct;

/* One CPU, handed over only in __switch_to(): a plain variable will do. */
extern struct task_struct *lkl_current;
#define current lkl_current

#endif
