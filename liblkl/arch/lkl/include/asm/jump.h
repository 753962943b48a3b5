/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_JUMP_H
#define _ASM_LKL_JUMP_H

/*
 * Non-local jumps by the compiler's own means, so that no instruction of any
 * CPU needs to be written here.  The buffer's size is the compiler's (GCC
 * manual, "Nonlocal Gotos"): five words.
 *
 * lkl_set_jump() is 0 at first and 1 after lkl_jump(); as with setjmp(),
 * the function that set it must not have returned, and variables that it
 * changed in between are undefined unless volatile.
 */
struct lkl_jump {
	void *words[5];
};

#define lkl_set_jump(jump)	__builtin_setjmp((jump)->words)

void __noreturn lkl_jump(struct lkl_jump *jump);

#endif
