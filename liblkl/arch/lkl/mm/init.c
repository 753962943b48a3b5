// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/init.h>
#include <linux/memblock.h>
#include <linux/mm.h>
#include <asm/lkl.h>
#include <asm/setup.h>

unsigned long memory_start;
EXPORT_SYMBOL(memory_start);
unsigned long memory_end;
EXPORT_SYMBOL(memory_end);

void *empty_zero_page;
EXPORT_SYMBOL(empty_zero_page);

void __init lkl_memory_init(void)
{
	unsigned long max_zone_pfns[MAX_NR_ZONES] = { 0 };

	memory_start = lkl_boot.ram;
	memory_end = lkl_boot.ram + lkl_boot.ram_size;
	if (!IS_ALIGNED(memory_start, PAGE_SIZE << MAX_PAGE_ORDER))
		panic("lkl: RAM at %lx is not aligned to the largest block",
		      memory_start);

	memblock_add(memory_start, lkl_boot.ram_size);
	min_low_pfn = PFN_UP(memory_start);
	max_low_pfn = PFN_DOWN(memory_end);
	max_pfn = max_low_pfn;
	max_zone_pfns[ZONE_NORMAL] = max_low_pfn;
	high_memory = (void *)memory_end;
	set_max_mapnr(max_low_pfn - min_low_pfn);
	free_area_init(max_zone_pfns);

	empty_zero_page = memblock_alloc(PAGE_SIZE, PAGE_SIZE);
	if (!empty_zero_page)
		panic("lkl: no memory for the zero page");
}

void __init mem_init(void)
{
	memblock_free_all();
}
