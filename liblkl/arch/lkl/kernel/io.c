// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/io.h>
#include <asm/lkl.h>

u64 lkl_iomem_read(const volatile void __iomem *addr, u32 size)
{
	return lkl_host(iomem_read, (__force unsigned long)addr, size);
}

void lkl_iomem_write(volatile void __iomem *addr, u64 value, u32 size)
{
	lkl_host(iomem_write, (__force unsigned long)addr, value, size);
}
