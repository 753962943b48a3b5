/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_LKL_H
#define _ASM_LKL_LKL_H

#include <lkl/lkl_image.h>

struct task_struct;

/* The host, as given to lkl_image_boot(). */
extern const struct lkl_host_operations *lkl_ops;
extern struct lkl_boot lkl_boot;

#define lkl_host(op, ...) (lkl_ops->op(lkl_ops->host, ##__VA_ARGS__))

/*
 * The image's entry points: the only symbols that are not hidden.  They must
 * be declared with their visibility before they are defined, since the most
 * constraining declaration wins.
 */
#pragma GCC visibility push(default)
#define LKL_DECLARE_ENTRY(type, name, args) type name args;
LKL_IMAGE_ENTRIES(LKL_DECLARE_ENTRY)
#undef LKL_DECLARE_ENTRY
extern const struct lkl_image_info lkl_image_info;
#pragma GCC visibility pop

/* cpu.c */
void __noreturn lkl_end(enum lkl_end reason);
void lkl_admit(void);

/* process.c */
void lkl_attach_requests(void);
struct task_struct *lkl_attach(void);

/* lib/uaccess.c */
bool lkl_uaccess_fault(void);

#endif
