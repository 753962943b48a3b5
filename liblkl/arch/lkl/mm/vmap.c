// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmap() and its kin on a machine without page tables.
 *
 * mm/nommu.c has BUG() there.  The host can do what an MMU does: its pages_map
 * operation makes the kernel's pages appear a second time, one after another,
 * as true aliases.  So callers may read and write through either view, in any
 * order, as on every other architecture.  Pages that are neighbours already
 * need no alias.
 *
 * The linker's --wrap brings the callers here (arch/lkl/Makefile).
 */
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/xarray.h>
#include <asm/lkl.h>

void *__wrap_vmap(struct page **pages, unsigned int count, unsigned long flags,
		  pgprot_t prot);
void __wrap_vunmap(const void *addr);
void *__wrap_vm_map_ram(struct page **pages, unsigned int count, int node);
void __wrap_vm_unmap_ram(const void *addr, unsigned int count);

/* vunmap() is not told how much it unmaps: pages by alias page number. */
static DEFINE_XARRAY(aliases);

static bool contiguous(struct page **pages, unsigned int count)
{
	unsigned int i;

	for (i = 1; i < count; i++)
		if (page_to_pfn(pages[i]) != page_to_pfn(pages[0]) + i)
			return false;
	return true;
}

static bool is_alias(const void *addr)
{
	return !virt_addr_valid(addr);
}

void *__wrap_vm_map_ram(struct page **pages, unsigned int count, int node)
{
	unsigned int i;
	u64 *addresses;
	void *alias;

	if (contiguous(pages, count))
		return page_address(pages[0]);
	if (!lkl_ops->pages_map)
		return NULL;

	addresses = kmalloc_array(count, sizeof(*addresses), GFP_KERNEL);
	if (!addresses)
		return NULL;
	for (i = 0; i < count; i++)
		addresses[i] = page_to_phys(pages[i]);
	alias = lkl_host(pages_map, addresses, count);
	kfree(addresses);
	return alias;
}
EXPORT_SYMBOL(__wrap_vm_map_ram);

void __wrap_vm_unmap_ram(const void *addr, unsigned int count)
{
	if (is_alias(addr))
		lkl_host(pages_unmap, (void *)addr, count);
}
EXPORT_SYMBOL(__wrap_vm_unmap_ram);

void *__wrap_vmap(struct page **pages, unsigned int count, unsigned long flags,
		  pgprot_t prot)
{
	void *addr = __wrap_vm_map_ram(pages, count, NUMA_NO_NODE);

	if (!addr || !is_alias(addr))
		return addr;
	if (xa_err(xa_store(&aliases, virt_to_pfn(addr), xa_mk_value(count),
			    GFP_KERNEL))) {
		lkl_host(pages_unmap, addr, count);
		return NULL;
	}
	return addr;
}
EXPORT_SYMBOL(__wrap_vmap);

void __wrap_vunmap(const void *addr)
{
	void *count;

	if (!addr || !is_alias(addr))
		return;
	count = xa_erase(&aliases, virt_to_pfn(addr));
	if (WARN_ON(!count))
		return;
	lkl_host(pages_unmap, (void *)addr, xa_to_value(count));
}
EXPORT_SYMBOL(__wrap_vunmap);
