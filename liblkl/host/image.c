// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#include "image.h"

#include <errno.h>
#include <string.h>

/* A function's or object's address by name, from whichever loader. */
static void *find(const struct image *image, const char *name, size_t size,
		  bool execute)
{
	if (image->library)
		return host_library_symbol(image->library, name);
	return elf_symbol(&image->elf, name, size, execute);
}

static bool find_function(const struct image *image, const char *name,
			  void *entry)
{
	void *address = find(image, name, 1, true);

	/* By memcpy, as C knows no conversion to a function's address. */
	memcpy(entry, &address, sizeof(address));
	return address;
}

#define FIND_ENTRY(type, name, args)                                           \
	found = find_function(image, #name, &image->entries.name) && found;

static int find_entries(struct image *image)
{
	const struct lkl_image_info *info;
	bool found = true;

	LKL_IMAGE_ENTRIES(FIND_ENTRY)
	info = find(image, "lkl_image_info", sizeof(*info), false);
	if (!found || !info ||
	    !memchr(info->release, '\0', sizeof(info->release)))
		return -ENOEXEC;
	image->entries.lkl_image_info = info;
	if (info->abi != LKL_IMAGE_ABI || info->page_size != HOST_PAGE_SIZE)
		return -EPROTO;
	return 0;
}

static int finish(struct image *image, int error)
{
	if (!error)
		error = find_entries(image);
	if (error < 0)
		image_free(image);
	return error;
}

int image_load(struct image *image, const char *path, intptr_t file)
{
	return finish(image, elf_load(&image->elf, path, file));
}

int image_load_library(struct image *image, const char *path)
{
	return finish(image, host_library_open(path, &image->library));
}

void image_free(struct image *image)
{
	if (image->library)
		host_library_close(image->library);
	else
		elf_free(&image->elf);
	memset(image, 0, sizeof(*image));
}

const void *image_base(const struct image *image)
{
	if (image->library)
		return host_library_base(image->library);
	return image->elf.base;
}
