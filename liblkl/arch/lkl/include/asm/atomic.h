/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_ATOMIC_H
#define _ASM_LKL_ATOMIC_H

#include <linux/types.h>
#include <asm/barrier.h>
#include <asm/cmpxchg.h>

/* See asm/cmpxchg.h for why these are plain C. */
#define LKL_ATOMIC_OP(atomic_type_t, type, atomic, op, c_op)		\
static __always_inline void						\
arch_##atomic##_##op(type i, atomic_type_t *v)				\
{									\
	WRITE_ONCE(v->counter, v->counter c_op i);			\
}									\
static __always_inline type						\
arch_##atomic##_fetch_##op(type i, atomic_type_t *v)			\
{									\
	type old = READ_ONCE(v->counter);				\
									\
	barrier();							\
	WRITE_ONCE(v->counter, old c_op i);				\
	barrier();							\
	return old;							\
}

#define LKL_ATOMIC_OP_RETURN(atomic_type_t, type, atomic, op, c_op)	\
static __always_inline type						\
arch_##atomic##_##op##_return(type i, atomic_type_t *v)			\
{									\
	return arch_##atomic##_fetch_##op(i, v) c_op i;			\
}

#define LKL_ATOMIC(atomic_type_t, type, atomic)				\
static __always_inline type arch_##atomic##_read(const atomic_type_t *v)	\
{									\
	return READ_ONCE(v->counter);					\
}									\
static __always_inline void arch_##atomic##_set(atomic_type_t *v, type i)	\
{									\
	WRITE_ONCE(v->counter, i);					\
}									\
LKL_ATOMIC_OP(atomic_type_t, type, atomic, add, +)			\
LKL_ATOMIC_OP(atomic_type_t, type, atomic, sub, -)			\
LKL_ATOMIC_OP(atomic_type_t, type, atomic, and, &)			\
LKL_ATOMIC_OP(atomic_type_t, type, atomic, or, |)			\
LKL_ATOMIC_OP(atomic_type_t, type, atomic, xor, ^)			\
LKL_ATOMIC_OP_RETURN(atomic_type_t, type, atomic, add, +)		\
LKL_ATOMIC_OP_RETURN(atomic_type_t, type, atomic, sub, -)

#define ATOMIC64_INIT(i)	{ (i) }

LKL_ATOMIC(atomic_t, int, atomic)
LKL_ATOMIC(atomic64_t, s64, atomic64)

#define arch_atomic_add_return		arch_atomic_add_return
#define arch_atomic_sub_return		arch_atomic_sub_return
#define arch_atomic_fetch_add		arch_atomic_fetch_add
#define arch_atomic_fetch_sub		arch_atomic_fetch_sub
#define arch_atomic_fetch_and		arch_atomic_fetch_and
#define arch_atomic_fetch_or		arch_atomic_fetch_or
#define arch_atomic_fetch_xor		arch_atomic_fetch_xor

#define arch_atomic64_add_return	arch_atomic64_add_return
#define arch_atomic64_sub_return	arch_atomic64_sub_return
#define arch_atomic64_fetch_add		arch_atomic64_fetch_add
#define arch_atomic64_fetch_sub		arch_atomic64_fetch_sub
#define arch_atomic64_fetch_and		arch_atomic64_fetch_and
#define arch_atomic64_fetch_or		arch_atomic64_fetch_or
#define arch_atomic64_fetch_xor		arch_atomic64_fetch_xor

#endif
