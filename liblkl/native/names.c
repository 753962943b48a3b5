// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Names that a host can hold, and the way back.  The rules stand in native.h.
 */
#include "names.h"
#include "digests.h"
#include "native.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* With its dot; what is longer is no extension worth keeping. */
#define EXTENSION_MOST 17u
#define HASH_DIGITS 16u
#define LONGEST_LEAST 64u
#define LONGEST_MOST 255u

/* Everything escaped, and a number. */
#define ESCAPED_SIZE (3u * LKN_NAME_MOST + 16)

static const char digits[] = "0123456789ABCDEF";

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Length of the UTF-8 character at the start; 0: there is none. */
static size_t character_length(const unsigned char *at, size_t length)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t character;
	size_t count;

	if (at[0] < 0x80)
		return 1;
	if (at[0] < 0xc2 || at[0] > 0xf4)
		return 0;
	count = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
	if (count > length)
		return 0;
	character = at[0] & (0xffu >> (count + 1));
	for (size_t i = 1; i < count; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		character = character << 6 | (at[i] & 0x3f);
	}
	if (character < least[count] || character > 0x10ffff ||
	    (character >= 0xd800 && character < 0xe000))
		return 0;
	return count;
}

/* Whether some bytes are a word, in letters of any size. */
static bool is_word(const char *name, size_t length, const char *word)
{
	if (strlen(word) != length)
		return false;
	for (size_t i = 0; i < length; i++) {
		char c = name[i];

		if ((c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c) != word[i])
			return false;
	}
	return true;
}

static bool is_device(const char *name, size_t length)
{
	static const char *const words[] = {
	    "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$",
	};
	static const char *const superscripts[] = {"\u00b9", "\u00b2",
						   "\u00b3"};
	const char *dot = memchr(name, '.', length);

	if (dot)
		length = (size_t)(dot - name);
	while (length && name[length - 1] == ' ')
		length--;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (is_word(name, length, words[i]))
			return true;
	if (length < 4 ||
	    (!is_word(name, 3, "COM") && !is_word(name, 3, "LPT")))
		return false;
	if (length == 4)
		return name[3] >= '0' && name[3] <= '9';
	for (size_t i = 0; i < sizeof(superscripts) / sizeof(char *); i++)
		if (length == 5 && memcmp(name + 3, superscripts[i], 2) == 0)
			return true;
	return false;
}

/* Whether the rule of Windows writes the character at a place as %XX. */
static bool is_escaped(const char *name, size_t length, size_t at)
{
	char c = name[at];

	if ((unsigned char)c < 0x20 || strchr("<>:\"\\|?*", c))
		return true;
	if (at == length - 1)
		return c == '.' || c == ' ';
	if (c != '%')
		return false;
	return name[at + 1] == '~' ||
	       (at + 2 < length && digit_of(name[at + 1]) >= 0 &&
		digit_of(name[at + 2]) >= 0);
}

static size_t escape(const char *name, size_t length, char *escaped)
{
	bool device = is_device(name, length);
	size_t size = 0;

	for (size_t at = 0; at < length;) {
		size_t count = character_length(
		    (const unsigned char *)name + at, length - at);

		if (count > 1 || (count == 1 && !(device && at == 0) &&
				  !is_escaped(name, length, at))) {
			memcpy(escaped + size, name + at, count);
			size += count;
			at += count;
		} else {
			unsigned char byte = (unsigned char)name[at++];

			escaped[size++] = '%';
			escaped[size++] = digits[byte >> 4];
			escaped[size++] = digits[byte & 15];
		}
	}
	return size;
}

/*
 * Goes over a name as long as it takes no more units than told: the bytes that
 * are, never a part of a character or of %XX.
 */
static size_t fitting(const char *name, size_t length, uint32_t rules,
		      size_t units)
{
	size_t at = 0;

	while (at < length) {
		size_t count = character_length(
		    (const unsigned char *)name + at, length - at);
		size_t cost;

		if (!count)
			count = 1;
		if (rules == LKN_NAMES_WINDOWS && name[at] == '%' &&
		    length - at > 2 && digit_of(name[at + 1]) >= 0 &&
		    digit_of(name[at + 2]) >= 0)
			count = 3;
		if (rules == LKN_NAMES_POSIX)
			cost = count;
		else if (name[at] == '%')
			cost = count;
		else
			cost = count == 4 ? 2 : 1;
		if (cost > units)
			break;
		units -= cost;
		at += count;
	}
	return at;
}

static size_t extension_of(const char *name, size_t length)
{
	const char *dot = memrchr(name, '.', length);
	size_t size = dot ? length - (size_t)(dot - name) : 0;

	return dot == name || size > EXTENSION_MOST ? 0 : size;
}

/* The digits that stand for what was cut. */
static void hash_name(const char *name, size_t length, uint32_t number,
		      char hash[HASH_DIGITS + 1])
{
	unsigned char digest[SHA256_SIZE];
	char text[LKN_NAME_MOST + 16];
	size_t size = length;

	memcpy(text, name, length);
	if (number > 1)
		size += (size_t)snprintf(text + length, sizeof(text) - length,
					 "%u", number);
	sha256(text, size, digest);
	for (size_t i = 0; i < HASH_DIGITS; i++)
		hash[i] = digits[digest[i / 2] >> (i % 2 ? 0 : 4) & 15];
	hash[HASH_DIGITS] = '\0';
}

size_t units_of(const char *name)
{
	size_t units = 0;

	for (; *name; name++) {
		units += ((unsigned char)*name & 0xc0) != 0x80;
		units += (unsigned char)*name >= 0xf0;
	}
	return units;
}

size_t name_insert(const char *name, size_t length, const char *what,
		   uint32_t rules, uint32_t longest, char *result)
{
	size_t extension = extension_of(name, length);
	size_t size = strlen(what);
	size_t kept = rules == LKN_NAMES_WINDOWS
			  ? units_of(name + length - extension)
			  : extension;
	size_t stem =
	    fitting(name, length - extension, rules, longest - size - kept);

	memcpy(result, name, stem);
	memcpy(result + stem, what, size);
	memcpy(result + stem + size, name + length - extension, extension);
	size += stem + extension;
	result[size] = '\0';
	return size;
}

int lkn_name_map(const char *name, size_t length, uint32_t rules,
		 uint32_t number, uint32_t longest, char *mapped)
{
	char escaped[ESCAPED_SIZE], suffix[2 + HASH_DIGITS + 1] = "";
	size_t size;

	if (!length || length > LKN_NAME_MOST || rules > LKN_NAMES_WINDOWS ||
	    !number || longest < LONGEST_LEAST || longest > LONGEST_MOST)
		return -EINVAL;
	if (rules == LKN_NAMES_WINDOWS) {
		size = escape(name, length, escaped);
	} else {
		memcpy(escaped, name, length);
		size = length;
	}
	escaped[size] = '\0';
	if (number > 1)
		snprintf(suffix, sizeof(suffix), "%%~%u", number);
	if (fitting(escaped, size, rules, longest - strlen(suffix)) < size) {
		memcpy(suffix, "%~", 2);
		hash_name(name, length, number, suffix + 2);
	}
	return (int)name_insert(escaped, size, suffix, rules, longest, mapped);
}

/* What stands after "%~": its length, -ENODATA of a name cut, or -EINVAL. */
static int suffix_length(const char *at, size_t length)
{
	size_t count = 0, decimal = 0;

	while (count < length && digit_of(at[count]) >= 0) {
		if (decimal == count && at[count] <= '9')
			decimal++;
		count++;
	}
	if (count < length && at[count] != '.')
		return -EINVAL;
	if (count == HASH_DIGITS)
		return -ENODATA;
	if (count != decimal || !count || at[0] == '0' || count > 10 ||
	    (count == 1 && at[0] == '1'))
		return -EINVAL;
	return (int)count;
}

int lkn_name_unmap(const char *mapped, size_t length, char *name)
{
	char again[LKN_NAME_SIZE];
	unsigned long number = 1;
	size_t size = 0;
	int count;

	if (!length || length > LKN_NAME_MOST)
		return -EINVAL;
	for (size_t at = 0; at < length;) {
		if (mapped[at] == '%' && at + 1 < length &&
		    mapped[at + 1] == '~') {
			count = suffix_length(mapped + at + 2, length - at - 2);
			if (count < 0)
				return count;
			number = 0;
			for (int i = 0; i < count; i++)
				number = number * 10 +
					 (unsigned)(mapped[at + 2 + i] - '0');
			at += 2 + (size_t)count;
		} else if (mapped[at] == '%' && at + 2 < length &&
			   digit_of(mapped[at + 1]) >= 0 &&
			   digit_of(mapped[at + 2]) >= 0) {
			name[size++] = (char)(digit_of(mapped[at + 1]) << 4 |
					      digit_of(mapped[at + 2]));
			at += 3;
		} else {
			name[size++] = mapped[at++];
		}
	}
	name[size] = '\0';
	/* What is not written as it would be stands for no name. */
	if (!size || number > UINT32_MAX ||
	    lkn_name_map(name, size, LKN_NAMES_WINDOWS, (uint32_t)number,
			 LONGEST_MOST, again) != (int)length ||
	    memcmp(again, mapped, length) != 0)
		return -EINVAL;
	return (int)size;
}
