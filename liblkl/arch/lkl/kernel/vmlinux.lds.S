/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel as an ELF shared object of two segments: code, and data.  What is
 * read-only elsewhere stands with the data, for it holds pointers that the
 * loader relocates.
 */
#include <asm/cache.h>
#include <asm/page.h>
#include <asm/thread_info.h>
#include <asm-generic/vmlinux.lds.h>

#ifdef __aarch64__
OUTPUT_FORMAT(elf64-littleaarch64)
OUTPUT_ARCH(aarch64)
#else
OUTPUT_FORMAT(elf64-x86-64)
OUTPUT_ARCH(i386:x86-64)
#endif

PHDRS
{
	text PT_LOAD FILEHDR PHDRS FLAGS(5);
	data PT_LOAD FLAGS(6);
	dynamic PT_DYNAMIC FLAGS(6);
	stack PT_GNU_STACK FLAGS(6);
}

jiffies = jiffies_64;

SECTIONS
{
	. = SIZEOF_HEADERS;
	_text = 0;
	.hash : { *(.hash) } :text
	.dynsym : { *(.dynsym) }
	.dynstr : { *(.dynstr) }
	.rela.dyn : { *(.rela.*) }

	. = ALIGN(PAGE_SIZE);
	_stext = .;
	.text : {
		TEXT_TEXT
		SCHED_TEXT
		LOCK_TEXT
		KPROBES_TEXT
		IRQENTRY_TEXT
		SOFTIRQENTRY_TEXT
		*(.fixup)
	}
	_etext = .;
	__init_begin = .;
	.head.text : { HEAD_TEXT }
	INIT_TEXT_SECTION(PAGE_SIZE)
	.exit.text : { EXIT_TEXT }

	. = ALIGN(PAGE_SIZE);
	.dynamic : { *(.dynamic) } :data :dynamic
	.got : { *(.got) *(.got.plt) } :data

	_sdata = .;
	RO_DATA(PAGE_SIZE)
	EXCEPTION_TABLE(16)
	INIT_DATA_SECTION(16)
	.exit.data : { EXIT_DATA }
	PERCPU_SECTION(L1_CACHE_BYTES)
	. = ALIGN(PAGE_SIZE);
	__init_end = .;
	RW_DATA(L1_CACHE_BYTES, PAGE_SIZE, THREAD_SIZE)
	.data.rel : { *(.data.rel .data.rel.* .data.rel.local*) }
	_edata = .;
	BSS_SECTION(0, 0, 0)
	_end = .;

	STABS_DEBUG
	DWARF_DEBUG
	ELF_DETAILS

	DISCARDS
	/DISCARD/ : {
		*(.eh_frame) *(.interp) *(.note.gnu.property)
		*(.gnu.version*) *(.comment)
	}
}
