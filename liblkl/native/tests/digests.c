// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Digests are those of the standards (RFC 1321, FIPS 180-4, RFC 7693), in one
 * piece and in many.
 */
#include "native.h"
#include "tap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
	uint32_t algorithm;
	const char *abc; /* the digest of "abc" */
} known[] = {
    {LKN_MD5, "900150983cd24fb0d6963f7d28e17f72"},
    {LKN_SHA1, "a9993e364706816aba3e25717850c26c9cd0d89d"},
    {LKN_SHA256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f2001"
		 "5ad"},
    {LKN_BLAKE2B,
     "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
     "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"},
};

static bool digest_is(struct lkn_digests *digests, uint32_t algorithm,
		      const char *expected)
{
	unsigned char digest[LKN_DIGEST_MOST];
	char text[2 * LKN_DIGEST_MOST + 1] = "";
	int length =
	    lkn_digests_read(digests, algorithm, digest, sizeof(digest));

	for (int i = 0; i < length; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	return strcmp(text, expected) == 0;
}

int main(void)
{
	struct lkn_digests *digests;
	unsigned char digest[LKN_DIGEST_MOST];
	uint32_t all = LKN_MD5 | LKN_SHA1 | LKN_SHA256 | LKN_BLAKE2B;

	ok(lkn_digests_open(all, &digests) == 0, "all algorithms at once");
	lkn_digests_update(digests, "lost", 4);
	lkn_digests_reset(digests);
	lkn_digests_update(digests, "a", 1);
	lkn_digests_update(digests, "bc", 2);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		ok(digest_is(digests, known[i].algorithm, known[i].abc),
		   "digest %zu of abc", i);
	ok(lkn_digests_read(digests, LKN_SHA256, digest, 31) == -EINVAL,
	   "too little room is refused");
	lkn_digests_close(digests);

	ok(lkn_digests_open(LKN_MD5, &digests) == 0, "one algorithm");
	ok(lkn_digests_read(digests, LKN_SHA1, digest, sizeof(digest)) ==
	       -EINVAL,
	   "one that was not asked for is refused");
	lkn_digests_close(digests);
	ok(lkn_digests_open(0x100, &digests) == -EINVAL,
	   "an unknown one is refused");
	return tap_end();
}
