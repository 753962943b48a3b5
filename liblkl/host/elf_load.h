/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loads a freestanding ELF64 shared object: one that needs no other object,
 * has no undefined symbol, no thread-local storage, and no constructors.
 */
#ifndef LKL_ELF_LOAD_H
#define LKL_ELF_LOAD_H

#include "host.h"

struct elf_segment {
	uint64_t address; /* relative to base */
	uint64_t size;
	bool write;
	bool execute;
};

#define ELF_SEGMENTS_MAX 8

struct elf {
	unsigned char *base;
	size_t size;
	struct elf_segment segments[ELF_SEGMENTS_MAX];
	uint32_t segment_count;
	/* Of the dynamic section, relative to base. */
	uint64_t symbols, strings, strings_size, hash;
};

#define ELF_BY_PATH ((intptr_t)-1)

/*
 * From a file that is open for reading, or by its path.  Errors: of opening and
 * reading; -ENOEXEC; -ENOMEM.
 */
int elf_load(struct elf *elf, const char *path, intptr_t file);
void elf_free(struct elf *elf);

/*
 * The address of an exported symbol; NULL when there is none, when it is not
 * size bytes inside one segment, or not executable when that is asked for.
 */
void *elf_symbol(const struct elf *elf, const char *name, size_t size,
		 bool execute);

#endif
