// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The few structures and numbers of ELF that are needed are defined here, as
 * not every host has an <elf.h>.  Source: the System V ABI, chapters 4 and 5,
 * and the processor supplements for x86-64 and AArch64.
 */
#include "elf_load.h"

#include <errno.h>
#include <string.h>

struct elf_header {
	unsigned char ident[16];
	uint16_t type;
	uint16_t machine;
	uint32_t version;
	uint64_t entry;
	uint64_t phoff;
	uint64_t shoff;
	uint32_t flags;
	uint16_t ehsize;
	uint16_t phentsize;
	uint16_t phnum;
	uint16_t shentsize;
	uint16_t shnum;
	uint16_t shstrndx;
};

struct program_header {
	uint32_t type;
	uint32_t flags;
	uint64_t offset;
	uint64_t address;
	uint64_t physical;
	uint64_t file_size;
	uint64_t memory_size;
	uint64_t alignment;
};

struct dynamic {
	int64_t tag;
	uint64_t value;
};

struct symbol {
	uint32_t name;
	unsigned char info;
	unsigned char other;
	uint16_t section;
	uint64_t value;
	uint64_t size;
};

struct relocation {
	uint64_t offset;
	uint64_t info; /* symbol in the high half, type in the low */
	int64_t addend;
};

static const unsigned char ident[] = {
    0x7f, 'E', 'L', 'F', 2 /* 64 bits */, 1 /* little-endian */, 1};

#define TYPE_SHARED_OBJECT 3

#if defined(__x86_64__)
#define MACHINE 62
#define RELOCATION_RELATIVE 8
#define RELOCATION_ABSOLUTE 1
#define RELOCATION_GLOB_DAT 6
#define RELOCATION_JUMP_SLOT 7
#elif defined(__aarch64__)
#define MACHINE 183
#define RELOCATION_RELATIVE 1027
#define RELOCATION_ABSOLUTE 257
#define RELOCATION_GLOB_DAT 1025
#define RELOCATION_JUMP_SLOT 1026
#else
#error "no relocations known for this processor"
#endif

#define SEGMENT_LOAD 1
#define SEGMENT_DYNAMIC 2
#define SEGMENT_INTERPRETER 3
#define SEGMENT_TLS 7

#define FLAG_EXECUTE 1
#define FLAG_WRITE 2

#define TAG_NULL 0
#define TAG_NEEDED 1
#define TAG_PLT_RELOCATIONS_SIZE 2
#define TAG_HASH 4
#define TAG_STRINGS 5
#define TAG_SYMBOLS 6
#define TAG_RELA 7
#define TAG_RELA_SIZE 8
#define TAG_RELA_ENTRY 9
#define TAG_STRINGS_SIZE 10
#define TAG_SYMBOL_ENTRY 11
#define TAG_INIT 12
#define TAG_REL 17
#define TAG_PLT_RELOCATIONS_TYPE 20
#define TAG_TEXT_RELOCATIONS 22
#define TAG_PLT_RELOCATIONS 23
#define TAG_INIT_ARRAY 25
#define TAG_RELR 36

/* More than any kernel, less than what overflows sums of a few of them. */
#define IMAGE_SIZE_MAX (UINT64_C(1) << 30)
#define PROGRAM_HEADERS_MAX 32

static uint64_t page_up(uint64_t value)
{
	return (value + HOST_PAGE_SIZE - 1) & ~(uint64_t)(HOST_PAGE_SIZE - 1);
}

static uint64_t page_down(uint64_t value)
{
	return value & ~(uint64_t)(HOST_PAGE_SIZE - 1);
}

static bool inside(uint64_t offset, uint64_t length, uint64_t size)
{
	return length <= size && offset <= size - length;
}

static int read_exactly(intptr_t file, uint64_t offset, void *to, size_t size)
{
	struct host_segment segment = {to, size};
	int64_t result = host_read_at(file, offset, &segment, 1, size);

	if (result < 0)
		return (int)result;
	return (uint64_t)result == size ? 0 : -ENOEXEC;
}

/* ---- Reading and checking headers -------------------------------------- */

static int read_headers(intptr_t file, uint64_t file_size,
			struct program_header *headers, uint32_t *count)
{
	struct elf_header header;
	int error = read_exactly(file, 0, &header, sizeof(header));

	if (error < 0)
		return error;
	if (memcmp(header.ident, ident, sizeof(ident)) != 0 ||
	    header.type != TYPE_SHARED_OBJECT || header.machine != MACHINE ||
	    header.version != 1 || header.phentsize != sizeof(*headers) ||
	    !header.phnum || header.phnum > PROGRAM_HEADERS_MAX ||
	    !inside(header.phoff, header.phnum * sizeof(*headers), file_size))
		return -ENOEXEC;
	*count = header.phnum;
	return read_exactly(file, header.phoff, headers,
			    header.phnum * sizeof(*headers));
}

/*
 * Segments must be in order and share no page, as each has its own rights; none
 * may be both written and executed, and code is in the file as it is.
 */
static int check_segment(const struct program_header *header,
			 uint64_t file_size, uint64_t after)
{
	if (!inside(header->offset, header->file_size, file_size) ||
	    header->file_size > header->memory_size ||
	    !inside(header->address, header->memory_size, IMAGE_SIZE_MAX) ||
	    header->address % HOST_PAGE_SIZE !=
		header->offset % HOST_PAGE_SIZE ||
	    page_down(header->address) < after ||
	    (header->flags & FLAG_EXECUTE &&
	     (header->flags & FLAG_WRITE ||
	      header->file_size != header->memory_size)))
		return -ENOEXEC;
	return 0;
}

static int plan(struct elf *elf, const struct program_header *headers,
		uint32_t count, uint64_t file_size,
		const struct program_header **dynamic)
{
	uint64_t end = 0;

	*dynamic = NULL;
	for (uint32_t i = 0; i < count; i++) {
		const struct program_header *header = &headers[i];

		switch (header->type) {
		case SEGMENT_INTERPRETER:
		case SEGMENT_TLS:
			return -ENOEXEC;
		case SEGMENT_DYNAMIC:
			*dynamic = header;
			break;
		case SEGMENT_LOAD:
			if (elf->segment_count == ELF_SEGMENTS_MAX ||
			    check_segment(header, file_size, end) < 0)
				return -ENOEXEC;
			end = page_up(header->address + header->memory_size);
			elf->segments[elf->segment_count++] =
			    (struct elf_segment){
				.address = header->address,
				.size = header->memory_size,
				.write = header->flags & FLAG_WRITE,
				.execute = header->flags & FLAG_EXECUTE,
			    };
			break;
		default:
			break;
		}
	}
	if (!end || !*dynamic)
		return -ENOEXEC;
	elf->size = end;
	return 0;
}

/* ---- Bringing the segments in ------------------------------------------ */

static int map_segment(const struct elf *elf, intptr_t file,
		       const struct program_header *header)
{
	uint64_t start = page_down(header->address);
	uint64_t file_end = header->address + header->file_size;
	uint64_t end = header->address + header->memory_size;
	uint64_t zeros = start;
	int error;

	if (header->file_size) {
		bool execute = header->flags & FLAG_EXECUTE;

		error = host_map_file(elf->base + start, file_end - start, file,
				      page_down(header->offset), execute);
		if (error < 0)
			return error;
		zeros = page_up(file_end);
		/* Code is mapped as it is, and never was writable. */
		if (execute)
			return 0;
		/* The rest of the file's last page is not the segment's. */
		memset(elf->base + file_end, 0, zeros - file_end);
	}
	if (zeros >= end)
		return 0;
	return host_map_zeros(elf->base + zeros, page_up(end) - zeros);
}

/* ---- What the dynamic section says ------------------------------------- */

/* Memory of the image: all of it inside one segment, or NULL. */
static void *at(const struct elf *elf, uint64_t address, uint64_t size,
		bool write, bool execute)
{
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *segment = &elf->segments[i];

		if (address >= segment->address &&
		    inside(address - segment->address, size, segment->size)) {
			if ((write && !segment->write) ||
			    (execute && !segment->execute))
				return NULL;
			return elf->base + address;
		}
	}
	return NULL;
}

struct relocations {
	uint64_t address, size; /* the main table */
	uint64_t plt_address, plt_size;
};

/*
 * What is not known here cannot matter to a freestanding object; what would
 * need more than this loader does is refused.
 */
static int read_dynamic(struct elf *elf, const struct program_header *header,
			struct relocations *relocations)
{
	uint64_t count = header->memory_size / sizeof(struct dynamic);
	const struct dynamic *dynamic =
	    at(elf, header->address, header->memory_size, false, false);

	if (!dynamic || header->address % _Alignof(struct dynamic))
		return -ENOEXEC;
	for (uint64_t i = 0; i < count && dynamic[i].tag != TAG_NULL; i++) {
		uint64_t value = dynamic[i].value;

		switch (dynamic[i].tag) {
		case TAG_HASH:
			elf->hash = value;
			break;
		case TAG_STRINGS:
			elf->strings = value;
			break;
		case TAG_STRINGS_SIZE:
			elf->strings_size = value;
			break;
		case TAG_SYMBOLS:
			elf->symbols = value;
			break;
		case TAG_RELA:
			relocations->address = value;
			break;
		case TAG_RELA_SIZE:
			relocations->size = value;
			break;
		case TAG_PLT_RELOCATIONS:
			relocations->plt_address = value;
			break;
		case TAG_PLT_RELOCATIONS_SIZE:
			relocations->plt_size = value;
			break;
		case TAG_SYMBOL_ENTRY:
			if (value != sizeof(struct symbol))
				return -ENOEXEC;
			break;
		case TAG_RELA_ENTRY:
			if (value != sizeof(struct relocation))
				return -ENOEXEC;
			break;
		case TAG_PLT_RELOCATIONS_TYPE:
			if (value != TAG_RELA)
				return -ENOEXEC;
			break;
		case TAG_NEEDED:
		case TAG_INIT:
		case TAG_REL:
		case TAG_TEXT_RELOCATIONS:
		case TAG_INIT_ARRAY:
		case TAG_RELR:
			return -ENOEXEC;
		default:
			break;
		}
	}
	if (!at(elf, elf->strings, elf->strings_size, false, false) ||
	    elf->symbols % _Alignof(struct symbol) ||
	    elf->hash % _Alignof(uint32_t))
		return -ENOEXEC;
	return 0;
}

/* ---- Relocations ------------------------------------------------------- */

/* The symbol's address; NULL when it is not defined in this object. */
static unsigned char *symbol_address(const struct elf *elf, uint64_t index)
{
	const struct symbol *symbol =
	    at(elf, elf->symbols + index * sizeof(*symbol), sizeof(*symbol),
	       false, false);

	if (!symbol || !symbol->section || symbol->value > elf->size)
		return NULL;
	return elf->base + symbol->value;
}

static int relocate_table(const struct elf *elf, uint64_t address,
			  uint64_t size)
{
	const struct relocation *table = at(elf, address, size, false, false);

	if (!size)
		return 0;
	if (!table || address % _Alignof(struct relocation) ||
	    size % sizeof(*table))
		return -ENOEXEC;
	for (uint64_t i = 0; i < size / sizeof(*table); i++) {
		struct relocation relocation = table[i];
		unsigned char *base = elf->base;
		uint64_t value;
		void *where =
		    at(elf, relocation.offset, sizeof(value), true, false);

		switch ((uint32_t)relocation.info) {
		case RELOCATION_RELATIVE:
			break;
		case RELOCATION_ABSOLUTE:
		case RELOCATION_GLOB_DAT:
		case RELOCATION_JUMP_SLOT:
			base = symbol_address(elf, relocation.info >> 32);
			break;
		default:
			return -ENOEXEC;
		}
		if (!where || !base)
			return -ENOEXEC;
		value = (uintptr_t)base + (uint64_t)relocation.addend;
		memcpy(where, &value, sizeof(value));
	}
	return 0;
}

static int protect(const struct elf *elf)
{
	for (uint32_t i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *segment = &elf->segments[i];
		uint64_t start = page_down(segment->address);
		uint64_t end = page_up(segment->address + segment->size);
		int error;

		if (segment->write || segment->execute)
			continue;
		error = host_protect(elf->base + start, end - start);
		if (error < 0)
			return error;
	}
	return 0;
}

/* ---- All together ------------------------------------------------------ */

static int load(struct elf *elf, intptr_t file, uint64_t file_size)
{
	struct program_header headers[PROGRAM_HEADERS_MAX];
	const struct program_header *dynamic;
	struct relocations relocations = {0};
	uint32_t count;
	int error;

	error = read_headers(file, file_size, headers, &count);
	if (!error)
		error = plan(elf, headers, count, file_size, &dynamic);
	if (error < 0)
		return error;
	elf->base = host_reserve(elf->size);
	if (!elf->base)
		return -ENOMEM;
	for (uint32_t i = 0; i < count && !error; i++)
		if (headers[i].type == SEGMENT_LOAD)
			error = map_segment(elf, file, &headers[i]);
	if (!error)
		error = read_dynamic(elf, dynamic, &relocations);
	if (!error)
		error =
		    relocate_table(elf, relocations.address, relocations.size);
	if (!error)
		error = relocate_table(elf, relocations.plt_address,
				       relocations.plt_size);
	if (!error)
		error = protect(elf);
	return error;
}

int elf_load(struct elf *elf, const char *path, intptr_t file)
{
	bool opened = file == ELF_BY_PATH;
	uint64_t size;
	int error;

	memset(elf, 0, sizeof(*elf));
	error = opened ? host_file_open(path, &file) : 0;
	if (error < 0)
		return error;
	error = host_file_size(file, &size);
	if (!error)
		error = load(elf, file, size);
	if (opened)
		host_file_close(file);
	if (error < 0)
		elf_free(elf);
	return error;
}

void elf_free(struct elf *elf)
{
	if (elf->base)
		host_release(elf->base, elf->size);
	memset(elf, 0, sizeof(*elf));
}

/* ---- Symbols by name --------------------------------------------------- */

static uint32_t hash_name(const char *name)
{
	uint32_t hash = 0;

	for (; *name; name++) {
		hash = (hash << 4) + (unsigned char)*name;
		hash ^= (hash >> 24) & 0xf0;
		hash &= 0x0fffffff;
	}
	return hash;
}

static bool has_name(const struct elf *elf, uint32_t name, const char *wanted)
{
	size_t size = strlen(wanted) + 1;
	const char *strings =
	    at(elf, elf->strings, elf->strings_size, false, false);

	return strings && inside(name, size, elf->strings_size) &&
	       memcmp(strings + name, wanted, size) == 0;
}

/* The table: bucket and chain counts, then that many words of each. */
void *elf_symbol(const struct elf *elf, const char *name, size_t size,
		 bool execute)
{
	const uint32_t *counts = at(elf, elf->hash, 8, false, false);
	const uint32_t *words;
	uint64_t total;
	uint32_t index;

	if (!counts || !counts[0])
		return NULL;
	total = 2 + (uint64_t)counts[0] + counts[1];
	words = at(elf, elf->hash, total * sizeof(*words), false, false);
	if (!words)
		return NULL;
	index = words[2 + hash_name(name) % counts[0]];
	/* Each symbol at most once: a damaged chain may be a circle. */
	for (uint32_t left = counts[1]; index && left; left--) {
		const struct symbol *symbol =
		    at(elf, elf->symbols + index * sizeof(*symbol),
		       sizeof(*symbol), false, false);

		if (!symbol || index >= counts[1])
			return NULL;
		if (symbol->section && has_name(elf, symbol->name, name))
			return at(elf, symbol->value, size, false, execute);
		index = words[2 + counts[0] + index];
	}
	return NULL;
}
