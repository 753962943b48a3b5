/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_TIMEX_H
#define _ASM_LKL_TIMEX_H

typedef unsigned long cycles_t;

cycles_t get_cycles(void);
#define get_cycles get_cycles

#define random_get_entropy() get_cycles()

#endif
