/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_PROCESS_H
#define _ASM_LKL_PROCESS_H

#include <asm/jump.h>

struct task_struct;

void __noreturn lkl_process_one(void);
void lkl_take_over(struct task_struct *task, struct lkl_jump *leave);
void lkl_attached(struct task_struct *task, struct lkl_jump *jump);
bool lkl_attach_waiting(void);

#endif
