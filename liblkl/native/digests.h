/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One digest of bytes that are all there.
 */
#ifndef LKN_DIGESTS_H
#define LKN_DIGESTS_H

#include <stddef.h>

#define SHA256_SIZE 32

void sha256(const void *bytes, size_t length,
	    unsigned char digest[SHA256_SIZE]);

#endif
