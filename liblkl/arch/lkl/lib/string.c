// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * memcpy(), memmove(), memset(): most of the data a reader sees passes here.
 *
 * Small sizes by overlapping words, which needs no loop over single bytes;
 * large ones by the CPU's string instructions where it has them, which are as
 * fast as its widest registers.
 */
#include <linux/export.h>
#include <linux/string.h>
#include <linux/types.h>

/* Any alignment, any type. */
#define __any __attribute__((may_alias)) __aligned(1)

typedef u64 word_t __any;
typedef u32 half_t __any;
typedef u16 quarter_t __any;
typedef u64 vector_t __attribute__((vector_size(16))) __any;

#define LARGE 512

static __always_inline void copy_large(u8 *to, const u8 *from, size_t n)
{
#ifdef __x86_64__
	asm volatile("rep movsb"
		     : "+D"(to), "+S"(from), "+c"(n) : : "memory");
#else
	for (; n >= 64; n -= 64, to += 64, from += 64) {
		vector_t a = ((const vector_t *)from)[0];
		vector_t b = ((const vector_t *)from)[1];
		vector_t c = ((const vector_t *)from)[2];
		vector_t d = ((const vector_t *)from)[3];

		((vector_t *)to)[0] = a;
		((vector_t *)to)[1] = b;
		((vector_t *)to)[2] = c;
		((vector_t *)to)[3] = d;
	}
	for (; n; n--)
		*to++ = *from++;
#endif
}

static __always_inline void set_large(u8 *to, int byte, size_t n)
{
#ifdef __x86_64__
	asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
#else
	u64 word = (u8)byte * 0x0101010101010101ULL;
	vector_t fill = { word, word };

	for (; n >= 16; n -= 16, to += 16)
		*(vector_t *)to = fill;
	for (; n; n--)
		*to++ = byte;
#endif
}

/*
 * Up to 16 bytes.  Everything is loaded before anything is stored, so the
 * two may overlap.
 */
static __always_inline void copy_16(u8 *to, const u8 *from, size_t n)
{
	if (n >= 8) {
		u64 head = *(const word_t *)from;
		u64 tail = *(const word_t *)(from + n - 8);

		*(word_t *)to = head;
		*(word_t *)(to + n - 8) = tail;
	} else if (n >= 4) {
		u32 head = *(const half_t *)from;
		u32 tail = *(const half_t *)(from + n - 4);

		*(half_t *)to = head;
		*(half_t *)(to + n - 4) = tail;
	} else if (n >= 2) {
		u16 head = *(const quarter_t *)from;
		u16 tail = *(const quarter_t *)(from + n - 2);

		*(quarter_t *)to = head;
		*(quarter_t *)(to + n - 2) = tail;
	} else if (n) {
		*to = *from;
	}
}

/* Upwards: right when @to is below @from, or they do not overlap. */
static __always_inline void copy_up(u8 *to, const u8 *from, size_t n)
{
	vector_t tail;
	size_t i;

	if (n <= 16) {
		copy_16(to, from, n);
		return;
	}
	tail = *(const vector_t *)(from + n - 16);
	for (i = 0; i + 16 < n; i += 16)
		*(vector_t *)(to + i) = *(const vector_t *)(from + i);
	*(vector_t *)(to + n - 16) = tail;
}

static __always_inline void copy_down(u8 *to, const u8 *from, size_t n)
{
	vector_t head;

	if (n <= 16) {
		copy_16(to, from, n);
		return;
	}
	head = *(const vector_t *)from;
	for (; n > 16; n -= 16)
		*(vector_t *)(to + n - 16) = *(const vector_t *)(from + n - 16);
	*(vector_t *)to = head;
}

#undef memcpy
void *memcpy(void *to, const void *from, size_t n)
{
	if (n > LARGE)
		copy_large(to, from, n);
	else
		copy_up(to, from, n);
	return to;
}
EXPORT_SYMBOL(memcpy);

#undef memmove
void *memmove(void *to, const void *from, size_t n)
{
	if (to > from && to < from + n)
		copy_down(to, from, n);
	else
		memcpy(to, from, n);
	return to;
}
EXPORT_SYMBOL(memmove);

#undef memset
void *memset(void *to, int byte, size_t n)
{
	u64 word = (u8)byte * 0x0101010101010101ULL;
	u8 *p = to;
	size_t i;

	if (n > LARGE) {
		set_large(p, byte, n);
	} else if (n >= 8) {
		for (i = 0; i + 8 <= n; i += 8)
			*(word_t *)(p + i) = word;
		*(word_t *)(p + n - 8) = word;
	} else {
		while (n--)
			*p++ = byte;
	}
	return to;
}
EXPORT_SYMBOL(memset);
