/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef _ASM_LKL_ELF_H
#define _ASM_LKL_ELF_H

#include <linux/elf-em.h>

/* No ELF programs run here; generic code wants the words. */
#define ELF_CLASS	ELFCLASS64
#define ELF_DATA	ELFDATA2LSB
#define ELF_ARCH	EM_NONE
#define ELF_PLATFORM	NULL
#define ELF_HWCAP	0
#define ELF_EXEC_PAGESIZE	PAGE_SIZE
#define ELF_NGREG	1

#define elf_check_arch(header)	0

typedef unsigned long elf_greg_t;
typedef elf_greg_t elf_gregset_t[ELF_NGREG];
typedef unsigned long elf_fpregset_t;

#endif
