// SPDX-License-Identifier: GPL-2.0-or-later
/* kbuild makes asm-offsets.h from this; no assembler file here needs any. */
int main(void)
{
	return 0;
}
