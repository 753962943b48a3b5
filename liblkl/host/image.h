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

/*
 * Errors: those of opening the file; -ENOEXEC: not an image of this kind, or
 * damaged; -EPROTO: an image with another boundary (LKL_IMAGE_ABI); -EBUSY:
 * by dlopen, and loaded already.
 */
int image_load(struct image *image, const char *path, bool by_dlopen);
void image_free(struct image *image);

/* Where address 0 of the file lies in memory. */
const void *image_base(const struct image *image);

#endif
