/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the program's processes need of C and no kernel has a part in: digests,
 * confinement, and the writer's loop.
 *
 * Results follow liblkl: zero or a positive value on success, a negative errno
 * of the host on failure.
 *
 * Everything between "declarations" and "end of declarations" is plain C
 * without preprocessor conditions; the Python binding reads it as it stands.
 */
#ifndef LKL_NATIVE_H
#define LKL_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* declarations */

/* ---- Digests ----------------------------------------------------------- */

#define LKN_MD5 0x1
#define LKN_SHA1 0x2
#define LKN_SHA256 0x4
#define LKN_BLAKE2B 0x8 /* of 512 bits */

/* The most bytes of a digest. */
#define LKN_DIGEST_MOST 64

struct lkn_digests;

/* Begins digests of one sequence of bytes; algorithms are LKN_* together. */
int lkn_digests_open(uint32_t algorithms, struct lkn_digests **digests);
void lkn_digests_update(struct lkn_digests *digests, const void *bytes,
			size_t length);

/*
 * Writes the digest by one algorithm of what was given so far, and returns its
 * length, or -EINVAL.  Nothing more can be given before lkn_digests_reset.
 */
int lkn_digests_read(struct lkn_digests *digests, uint32_t algorithm,
		     unsigned char *digest, size_t size);
void lkn_digests_reset(struct lkn_digests *digests);
void lkn_digests_close(struct lkn_digests *digests);

/* end of declarations */

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#endif
