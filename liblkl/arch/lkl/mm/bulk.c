// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Pages allocated in bulk, as neighbours where possible.
 *
 * XFS allocates the pages of its multi-page buffers this way and then maps
 * them; neighbours need no alias (vmap.c), and the metadata of a large
 * directory is full of such buffers.
 */
#include <linux/gfp.h>
#include <linux/log2.h>
#include <linux/mm.h>

unsigned long
__real_alloc_pages_bulk_noprof(gfp_t gfp, int preferred_nid, nodemask_t *nodes,
			       int count, struct list_head *list,
			       struct page **pages);
unsigned long
__wrap_alloc_pages_bulk_noprof(gfp_t gfp, int preferred_nid, nodemask_t *nodes,
			       int count, struct list_head *list,
			       struct page **pages);

/* Larger blocks are too often not to be had. */
#define MAX_NEIGHBOURS 256

static bool fill(gfp_t gfp, int count, struct page **pages)
{
	int order = order_base_2(count);
	struct page *block;
	int i;

	for (i = 0; i < count; i++)
		if (pages[i])
			return false;
	block = alloc_pages_noprof(gfp | __GFP_NOWARN | __GFP_NORETRY, order);
	if (!block)
		return false;
	split_page(block, order);
	for (i = 0; i < count; i++)
		pages[i] = block + i;
	for (; i < 1 << order; i++)
		__free_page(block + i);
	return true;
}

unsigned long
__wrap_alloc_pages_bulk_noprof(gfp_t gfp, int preferred_nid, nodemask_t *nodes,
			       int count, struct list_head *list,
			       struct page **pages)
{
	if (pages && count > 1 && count <= MAX_NEIGHBOURS &&
	    fill(gfp, count, pages))
		return count;
	return __real_alloc_pages_bulk_noprof(gfp, preferred_nid, nodes, count,
					      list, pages);
}
EXPORT_SYMBOL(__wrap_alloc_pages_bulk_noprof);
