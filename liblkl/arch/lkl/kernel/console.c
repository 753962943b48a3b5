// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/console.h>
#include <linux/init.h>
#include <asm/lkl.h>
#include <asm/setup.h>

/* The kernel's log goes to the host as it is written. */
static void lkl_console_write(struct console *console, const char *text,
			      unsigned int length)
{
	lkl_host(print, text, length);
}

static struct console lkl_console = {
	.name = "lkl",
	.write = lkl_console_write,
	.flags = CON_PRINTBUFFER | CON_ENABLED | CON_ANYTIME,
	.index = -1,
};

void __init lkl_console_init(void)
{
	console_verbose();
	register_console(&lkl_console);
}
