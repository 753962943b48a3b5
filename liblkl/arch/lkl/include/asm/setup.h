/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_SETUP_H
#define _ASM_LKL_SETUP_H

#define COMMAND_LINE_SIZE 2048

void lkl_console_init(void);
void lkl_memory_init(void);

#endif
