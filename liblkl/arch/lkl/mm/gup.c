// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * User memory, for direct I/O.
 *
 * Without an MMU mm/gup.c takes plain references, whereas their release
 * (unpin_user_pages() and kin) expects pins, and has BUG() where a page would
 * be faulted in.  And only memory of the kernel's RAM has struct pages: what
 * lkl_mem_alloc() hands out.
 */
#include <linux/mm.h>
#include <asm/lkl.h>

int __wrap_pin_user_pages_fast(unsigned long start, int count,
			       unsigned int flags, struct page **pages);

size_t __wrap_fault_in_safe_writeable(const char __user *uaddr, size_t size);

static void pin(struct page *page)
{
	struct folio *folio = page_folio(page);

	if (folio_test_large(folio)) {
		folio_ref_inc(folio);
		atomic_inc(&folio->_pincount);
	} else {
		folio_ref_add(folio, GUP_PIN_COUNTING_BIAS);
	}
	node_stat_mod_folio(folio, NR_FOLL_PIN_ACQUIRED, 1);
}

int __wrap_pin_user_pages_fast(unsigned long start, int count,
			       unsigned int flags, struct page **pages)
{
	int i;

	start &= PAGE_MASK;
	if (start < memory_start || start >= memory_end ||
	    count > (memory_end - start) >> PAGE_SHIFT)
		return -EFAULT;
	for (i = 0; i < count; i++) {
		pages[i] = virt_to_page((void *)(start + i * PAGE_SIZE));
		pin(pages[i]);
	}
	return count;
}
EXPORT_SYMBOL(__wrap_pin_user_pages_fast);

/* How much could not be faulted in: memory that is there is there to stay. */
size_t __wrap_fault_in_safe_writeable(const char __user *uaddr, size_t size)
{
	return 0;
}
EXPORT_SYMBOL(__wrap_fault_in_safe_writeable);
