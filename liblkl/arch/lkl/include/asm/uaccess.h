/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_UACCESS_H
#define _ASM_LKL_UACCESS_H

#include <linux/compiler.h>
#include <linux/types.h>

/*
 * User memory is the memory of the process.  A bad pointer makes the host's
 * fault handler continue in lkl_image_fault(), which ends the copy with an
 * error (lib/uaccess.c).
 */
unsigned long __must_check
raw_copy_from_user(void *to, const void __user *from, unsigned long n);
unsigned long __must_check
raw_copy_to_user(void __user *to, const void *from, unsigned long n);
unsigned long __must_check __clear_user(void __user *to, unsigned long n);
#define __clear_user __clear_user

#include <asm-generic/uaccess.h>

#endif
