// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What names become on a host, that none becomes what it cannot hold, and that
 * each is told from what it became.
 */
#include "native.h"
#include "tap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RANDOM_NAMES 300000

static const struct {
	const char *name, *mapped;
	uint32_t number;
} known[] = {
    {"plain.txt", "plain.txt", 1},
    {"a:b", "a%3Ab", 1},
    {"<>:\"\\|?*", "%3C%3E%3A%22%5C%7C%3F%2A", 1},
    {"tab\there", "tab%09here", 1},
    {"\x7f", "\x7f", 1},
    {"dot.", "dot%2E", 1},
    {"dots...", "dots..%2E", 1},
    {"space ", "space%20", 1},
    {" in front", " in front", 1},
    {".hidden", ".hidden", 1},
    {"CON", "%43ON", 1},
    {"con.txt", "%63on.txt", 1},
    {"nul .tar.gz", "%6Eul .tar.gz", 1},
    {"Com1", "%43om1", 1},
    {"COM\u00b2.x", "%43OM\u00b2.x", 1},
    {"lpt0", "%6Cpt0", 1},
    {"conout$", "%63onout$", 1},
    {"CONSOLE", "CONSOLE", 1},
    {"COM10", "COM10", 1},
    {"COM", "COM", 1},
    {"%41", "%2541", 1},
    {"%~2", "%25~2", 1},
    {"100%", "100%", 1},
    {"%4g", "%4g", 1},
    {"%2a", "%2a", 1},
    {"%%41", "%%2541", 1},
    {"na\xefve", "na%EFve", 1},
    {"\u00e9\u20ac\U0001f600", "\u00e9\u20ac\U0001f600", 1},
    {"\xed\xa0\x80", "%ED%A0%80", 1},
    {"\xc0\xaf", "%C0%AF", 1},
    {"README.md", "README%~2.md", 2},
    {"Makefile", "Makefile%~17", 17},
    {".bashrc", ".bashrc%~2", 2},
    {"a.", "a%2E%~2", 2},
    {"a.tar.gz", "a.tar%~3.gz", 3},
    {"x.anextensiontoolong", "x.anextensiontoolong%~2", 2},
};

static size_t units_of(const char *name, size_t length)
{
	size_t units = 0;

	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)name[i];

		units += (byte & 0xc0) != 0x80;
		units += byte >= 0xf0;
	}
	return units;
}

/* What Windows holds, by rules told in another way than names.c does. */
static bool windows_holds(const char *name, size_t length)
{
	static const char *const devices[] = {"CON", "PRN",    "AUX",
					      "NUL", "CONIN$", "CONOUT$"};
	char stem[LKN_NAME_SIZE];
	size_t count = strcspn(name, ".");

	if (strlen(name) != length || strpbrk(name, "<>:\"/\\|?*") ||
	    units_of(name, length) > 255 || name[length - 1] == '.' ||
	    name[length - 1] == ' ')
		return false;
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)name[i] < 32)
			return false;
	memcpy(stem, name, count);
	while (count && stem[count - 1] == ' ')
		count--;
	stem[count] = '\0';
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		if (strcasecmp(stem, devices[i]) == 0)
			return false;
	if (strncasecmp(stem, "COM", 3) != 0 &&
	    strncasecmp(stem, "LPT", 3) != 0)
		return true;
	return !(count == 4 && strchr("0123456789", stem[3])) &&
	       strcmp(stem + 3, "\u00b9") != 0 &&
	       strcmp(stem + 3, "\u00b2") != 0 &&
	       strcmp(stem + 3, "\u00b3") != 0;
}

static uint64_t state = 88172645463325252u;

static uint64_t chance(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

/* A name of pieces that are not what they seem. */
static size_t make_name(char *name)
{
	static const char *const pieces[] = {
	    "%",
	    "%~",
	    "%2",
	    "%25",
	    "~",
	    "2",
	    "A",
	    ".",
	    " ",
	    "CO",
	    "N",
	    "COM",
	    "1",
	    "LPT",
	    "\\",
	    ":",
	    "a",
	    "\xc3",
	    "F",
	    "\n",
	    "\u00b9",
	    "\u20ac",
	    "NUL.",
	    "%~2",
	    "$",
	    "E",
	    "con",
	    "IN",
	    "\xf0\x9f\x98\x80",
	    "\xed\xa0\x80",
	    "\xff",
	    "%~0123456789ABCDEF",
	};
	size_t size = 0, count = 1 + chance(chance(20) ? 8 : 200);

	while (count--) {
		const char *piece =
		    pieces[chance(sizeof(pieces) / sizeof(pieces[0]))];

		if (chance(4) == 0) {
			char byte = (char)(1 + chance(255));

			name[size++] = byte == '/' ? '%' : byte;
		} else if (size + strlen(piece) < LKN_NAME_MOST) {
			memcpy(name + size, piece, strlen(piece));
			size += strlen(piece);
		}
		if (size > LKN_NAME_MOST - 30)
			break;
	}
	if (!size)
		name[size++] = '%';
	name[size] = '\0';
	return size;
}

static void check_known(void)
{
	bool all = true;

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		char mapped[LKN_NAME_SIZE] = "", back[LKN_NAME_SIZE] = "";
		int length = lkn_name_map(known[i].name, strlen(known[i].name),
					  LKN_NAMES_WINDOWS, known[i].number,
					  255, mapped);

		if (length != (int)strlen(known[i].mapped) ||
		    strcmp(mapped, known[i].mapped) != 0 ||
		    lkn_name_unmap(mapped, (size_t)length, back) !=
			(int)strlen(known[i].name) ||
		    strcmp(back, known[i].name) != 0) {
			printf("# %s: %s, back %s\n", known[i].mapped, mapped,
			       back);
			all = false;
		}
	}
	ok(all, "names become what the rule says, and back");
}

static void check_posix(void)
{
	char name[400], mapped[LKN_NAME_SIZE];
	int length =
	    lkn_name_map("a:\xff%41 ", 7, LKN_NAMES_POSIX, 1, 255, mapped);

	ok(length == 7 && strcmp(mapped, "a:\xff%41 ") == 0,
	   "POSIX holds nearly all");
	length = lkn_name_map("A.b", 3, LKN_NAMES_POSIX, 2, 255, mapped);
	ok(length == 6 && strcmp(mapped, "A%~2.b") == 0,
	   "one more of the same in other letters");
	memset(name, 'x', sizeof(name));
	memcpy(name + sizeof(name) - 4, ".txt", 4);
	length =
	    lkn_name_map(name, sizeof(name), LKN_NAMES_POSIX, 1, 255, mapped);
	/* printf 'x%.0s' $(seq 396) | sed 's/$/.txt/' | head -c 400 | sha256sum
	 */
	ok(length == 255 && memcmp(mapped + 255 - 4 - 18, "%~", 2) == 0 &&
	       strcmp(mapped + 251, ".txt") == 0,
	   "what is too long is cut and keeps its extension");
	/* 128 times two bytes: no half of a character is left. */
	for (size_t i = 0; i < 256; i += 2)
		memcpy(name + i, "\u00e9", 2);
	length = lkn_name_map(name, 256, LKN_NAMES_POSIX, 1, 255, mapped);
	ok(length == 254 && memcmp(mapped + 236, "%~", 2) == 0,
	   "no character is cut apart");
	is(lkn_name_map("", 0, LKN_NAMES_POSIX, 1, 255, mapped), -EINVAL,
	   "there is no empty name");
	is(lkn_name_map("a", 1, 2, 1, 255, mapped), -EINVAL, "nor more rules");
}

static void check_random(void)
{
	unsigned held = 0, back = 0, cut = 0, kept = 0;

	for (unsigned i = 0; i < RANDOM_NAMES; i++) {
		char name[LKN_NAME_SIZE], mapped[LKN_NAME_SIZE];
		char again[LKN_NAME_SIZE];
		size_t size = make_name(name);
		uint32_t number = chance(3) ? 1 : (uint32_t)chance(3000) + 1;
		int length = lkn_name_map(name, size, LKN_NAMES_WINDOWS, number,
					  255, mapped);
		int result;

		if (length > 0 && windows_holds(mapped, (size_t)length))
			held++;
		else
			printf("# not held: %s\n", mapped);
		result = lkn_name_unmap(mapped, (size_t)length, again);
		if (result == (int)size && memcmp(again, name, size) == 0)
			back++;
		else if (result == -ENODATA && length > 150)
			cut++;
		else
			printf("# %s became %s, and %s\n", name, mapped, again);
		/* What anyone wrote is either what a name became, or none. */
		result = lkn_name_unmap(name, size, again);
		kept += result == -EINVAL || result == -ENODATA ||
			(lkn_name_map(again, (size_t)result, LKN_NAMES_WINDOWS,
				      1, 255, mapped) > 0);
	}
	is(held, RANDOM_NAMES, "Windows holds all that names become");
	is(back + cut, RANDOM_NAMES, "each is told from what it became");
	ok(cut > 100 && back > RANDOM_NAMES / 2, "some were cut (%u)", cut);
	is(kept, RANDOM_NAMES, "what no name becomes is refused");
}

int main(void)
{
	check_known();
	check_posix();
	check_random();
	return tap_end();
}
