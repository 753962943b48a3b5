/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A copy of the kernel image in memory.  Each load by our own loader gives a
 * new copy, that shares nothing with others but unwritten pages.
 */
#ifndef LKL_IMAGE_COPY_H
#define LKL_IMAGE_COPY_H

#include "../shared/lkl_image.h"

#include "elf_load.h"

struct image {
	struct elf elf;
	void *library; /* of the host's loader, else NULL */
	struct lkl_image_entries entries;
};

#define IMAGE_BY_PATH ELF_BY_PATH

/*
 * From a file that is open for reading, or by its path.  Errors: those of
 * opening the file; -ENOEXEC: not an image of this kind, or damaged; -EPROTO:
 * an image with another boundary (LKL_IMAGE_ABI).
 */
int image_load(struct image *image, const char *path, intptr_t file);
/* By the host's own loader; -EBUSY: it is loaded already. */
int image_load_library(struct image *image, const char *path);
void image_free(struct image *image);

/* Where address 0 of the file lies in memory. */
const void *image_base(const struct image *image);

#endif
