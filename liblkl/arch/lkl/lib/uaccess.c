// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Copies from and to the memory of the process.
 *
 * There is no page table to consult: the copy is tried, and a fault brings the
 * thread to lkl_image_fault(), which asks lkl_uaccess_fault().  One
 * variable is enough, for no other task can run during a copy.
 */
#include <linux/export.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <asm/jump.h>
#include <asm/lkl.h>

static struct lkl_jump *copying;

/* Does not return when the fault was ours. */
bool lkl_uaccess_fault(void)
{
	struct lkl_jump *jump = copying;

	if (!jump)
		return false;
	copying = NULL;
	lkl_jump(jump);
}

/*
 * All or nothing: how far a copy got before it faulted is not known, so all of
 * it counts as not copied.
 */
static noinline unsigned long copy(void *to, const void *from, unsigned long n)
{
	struct lkl_jump jump;

	if (lkl_set_jump(&jump))
		return n;
	WRITE_ONCE(copying, &jump);
	barrier();
	memcpy(to, from, n);
	barrier();
	WRITE_ONCE(copying, NULL);
	return 0;
}

unsigned long raw_copy_from_user(void *to, const void __user *from,
				 unsigned long n)
{
	return copy(to, (__force const void *)from, n);
}
EXPORT_SYMBOL(raw_copy_from_user);

unsigned long raw_copy_to_user(void __user *to, const void *from,
			       unsigned long n)
{
	return copy((__force void *)to, from, n);
}
EXPORT_SYMBOL(raw_copy_to_user);

unsigned long __clear_user(void __user *to, unsigned long n)
{
	struct lkl_jump jump;

	if (lkl_set_jump(&jump))
		return n;
	WRITE_ONCE(copying, &jump);
	barrier();
	memset((__force void *)to, 0, n);
	barrier();
	WRITE_ONCE(copying, NULL);
	return 0;
}
EXPORT_SYMBOL(__clear_user);
