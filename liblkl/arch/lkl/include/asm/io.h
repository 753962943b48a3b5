/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_IO_H
#define _ASM_LKL_IO_H

#include <linux/types.h>

/* Device registers are the host's; their addresses mean nothing to the CPU. */
u64 lkl_iomem_read(const volatile void __iomem *addr, u32 size);
void lkl_iomem_write(volatile void __iomem *addr, u64 value, u32 size);

#define LKL_RAW_IO(suffix, type)					\
static inline type							\
__raw_read##suffix(const volatile void __iomem *addr)			\
{									\
	return lkl_iomem_read(addr, sizeof(type));			\
}									\
static inline void							\
__raw_write##suffix(type value, volatile void __iomem *addr)		\
{									\
	lkl_iomem_write(addr, value, sizeof(type));			\
}

LKL_RAW_IO(b, u8)
LKL_RAW_IO(w, u16)
LKL_RAW_IO(l, u32)
LKL_RAW_IO(q, u64)

#define __raw_readb	__raw_readb
#define __raw_readw	__raw_readw
#define __raw_readl	__raw_readl
#define __raw_readq	__raw_readq
#define __raw_writeb	__raw_writeb
#define __raw_writew	__raw_writew
#define __raw_writel	__raw_writel
#define __raw_writeq	__raw_writeq

static inline void __iomem *ioremap(phys_addr_t offset, size_t size)
{
	return (void __iomem *)offset;
}
#define ioremap ioremap

static inline void iounmap(volatile void __iomem *addr)
{
}
#define iounmap iounmap

#include <asm-generic/io.h>

#endif
