/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_CMPXCHG_H
#define _ASM_LKL_CMPXCHG_H

#include <linux/compiler.h>

/*
 * One CPU, and interrupts only where they get enabled: plain C is atomic.
 * What other host threads touch too (asm/handover.h) does not use these.
 */
#define arch_xchg(ptr, new)						\
({									\
	__typeof__(ptr) __p = (ptr);					\
	__typeof__(*(ptr)) __was = *__p;				\
									\
	barrier();							\
	*__p = (__typeof__(*(ptr)))(new);				\
	barrier();							\
	__was;								\
})

#define arch_cmpxchg_local(ptr, old, new)				\
({									\
	__typeof__(ptr) __p = (ptr);					\
	__typeof__(*(ptr)) __was = *__p;				\
									\
	barrier();							\
	if (__was == (__typeof__(*(ptr)))(old))			\
		*__p = (__typeof__(*(ptr)))(new);			\
	barrier();							\
	__was;								\
})

#define arch_cmpxchg		arch_cmpxchg_local
#define arch_cmpxchg64		arch_cmpxchg_local
#define arch_cmpxchg64_local	arch_cmpxchg_local

#endif
