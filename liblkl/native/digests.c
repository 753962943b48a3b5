// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Digests by libgcrypt, which uses what the CPU has for them.
 */
#include "digests.h"
#include "native.h"

#include <errno.h>
#include <gcrypt.h>
#include <pthread.h>
#include <string.h>

static const struct {
	uint32_t bit;
	int algorithm;
} digests_known[] = {
    {LKN_MD5, GCRY_MD_MD5},
    {LKN_SHA1, GCRY_MD_SHA1},
    {LKN_SHA256, GCRY_MD_SHA256},
    {LKN_BLAKE2B, GCRY_MD_BLAKE2B_512},
};

#define KNOWN_COUNT (sizeof(digests_known) / sizeof(digests_known[0]))

static pthread_once_t digests_once = PTHREAD_ONCE_INIT;

static void digests_begin(void)
{
	/* No secrets are held: no memory need be locked for them. */
	if (gcry_check_version(NULL)) {
		gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
		gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
	}
}

static int algorithm_of(uint32_t bit)
{
	for (size_t i = 0; i < KNOWN_COUNT; i++)
		if (digests_known[i].bit == bit)
			return digests_known[i].algorithm;
	return GCRY_MD_NONE;
}

int lkn_digests_open(uint32_t algorithms, struct lkn_digests **digests)
{
	gcry_md_hd_t handle;
	uint32_t left = algorithms;

	pthread_once(&digests_once, digests_begin);
	if (gcry_md_open(&handle, GCRY_MD_NONE, 0))
		return -ENOMEM;
	for (size_t i = 0; i < KNOWN_COUNT; i++) {
		if (!(algorithms & digests_known[i].bit))
			continue;
		left &= ~digests_known[i].bit;
		if (gcry_md_enable(handle, digests_known[i].algorithm)) {
			gcry_md_close(handle);
			return -ENOMEM;
		}
	}
	if (left) {
		gcry_md_close(handle);
		return -EINVAL;
	}
	*digests = (struct lkn_digests *)handle;
	return 0;
}

void lkn_digests_update(struct lkn_digests *digests, const void *bytes,
			size_t length)
{
	gcry_md_write((gcry_md_hd_t)digests, bytes, length);
}

int lkn_digests_read(struct lkn_digests *digests, uint32_t algorithm,
		     unsigned char *digest, size_t size)
{
	gcry_md_hd_t handle = (gcry_md_hd_t)digests;
	int number = algorithm_of(algorithm);
	unsigned int length;

	if (!number || !gcry_md_is_enabled(handle, number))
		return -EINVAL;
	length = gcry_md_get_algo_dlen(number);
	if (length > size)
		return -EINVAL;
	memcpy(digest, gcry_md_read(handle, number), length);
	return (int)length;
}

void lkn_digests_reset(struct lkn_digests *digests)
{
	gcry_md_reset((gcry_md_hd_t)digests);
}

void lkn_digests_close(struct lkn_digests *digests)
{
	gcry_md_close((gcry_md_hd_t)digests);
}

void sha256(const void *bytes, size_t length, unsigned char digest[SHA256_SIZE])
{
	pthread_once(&digests_once, digests_begin);
	gcry_md_hash_buffer(GCRY_MD_SHA256, digest, bytes, length);
}
