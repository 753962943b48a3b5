/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef LKN_NAMES_H
#define LKN_NAMES_H

#include <stddef.h>
#include <stdint.h>

/*
 * Puts something before a name's extension, and cuts the name before that to
 * where all of it is no longer than told: the new length.
 */
size_t name_insert(const char *name, size_t length, const char *what,
		   uint32_t rules, uint32_t longest, char *result);

/* Units of UTF-16 that a name takes. */
size_t units_of(const char *name);

#endif
