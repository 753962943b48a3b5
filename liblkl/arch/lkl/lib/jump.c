// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/compiler.h>
#include <asm/jump.h>

/* Apart from lkl_set_jump(): the compiler wants two functions. */
void __noreturn lkl_jump(struct lkl_jump *jump)
{
	__builtin_longjmp(jump->words, 1);
}
