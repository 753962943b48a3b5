/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes GUID partition tables, as the UEFI specification (chapter 5) has them,
 * so that no partitioning tool is needed.
 */
#ifndef GPT_H
#define GPT_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GPT_SECTOR 512u
#define GPT_ENTRIES 128u
#define GPT_ENTRY_SIZE 128u
/* Sectors of the table of entries. */
#define GPT_TABLE (GPT_ENTRIES * GPT_ENTRY_SIZE / GPT_SECTOR)

struct gpt_partition {
	uint64_t first, last; /* sectors; first 0: unused */
};

static uint32_t gpt_crc(const unsigned char *bytes, size_t length)
{
	uint32_t crc = ~0u;

	while (length--) {
		crc ^= *bytes++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

static void gpt_put(unsigned char *at, uint64_t value, size_t size)
{
	for (size_t i = 0; i < size; i++)
		at[i] = (unsigned char)(value >> 8 * i);
}

static bool gpt_header(int fd, uint64_t sector, uint64_t other, uint64_t table,
		       uint64_t sectors, uint32_t table_crc)
{
	unsigned char header[GPT_SECTOR] = "EFI PART";

	gpt_put(header + 8, 0x10000, 4);
	gpt_put(header + 12, 92, 4);
	gpt_put(header + 24, sector, 8);
	gpt_put(header + 32, other, 8);
	gpt_put(header + 40, 2 + GPT_TABLE, 8);
	gpt_put(header + 48, sectors - 2 - GPT_TABLE, 8);
	memcpy(header + 56, "disk's own uuid.", 16);
	gpt_put(header + 72, table, 8);
	gpt_put(header + 80, GPT_ENTRIES, 4);
	gpt_put(header + 84, GPT_ENTRY_SIZE, 4);
	gpt_put(header + 88, table_crc, 4);
	gpt_put(header + 16, gpt_crc(header, 92), 4);
	return pwrite(fd, header, sizeof(header),
		      (off_t)(sector * GPT_SECTOR)) == sizeof(header);
}

/* Gives a disk image a partition table; partition i has number i + 1. */
static bool gpt_write(const char *path, const struct gpt_partition *partitions,
		      unsigned count)
{
	/* Linux file system data, in the byte order of the disk. */
	static const unsigned char type[16] = {
	    0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47,
	    0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4};
	unsigned char table[GPT_ENTRIES * GPT_ENTRY_SIZE] = {0};
	unsigned char record[GPT_SECTOR] = {0};
	int fd = open(path, O_RDWR);
	struct stat stat;
	uint64_t sectors;
	uint32_t crc;
	bool written;

	if (fd < 0 || fstat(fd, &stat))
		return false;
	sectors = (uint64_t)stat.st_size / GPT_SECTOR;
	for (unsigned i = 0; i < count; i++) {
		unsigned char *entry = table + i * GPT_ENTRY_SIZE;

		if (!partitions[i].first)
			continue;
		memcpy(entry, type, sizeof(type));
		memcpy(entry + 16, "one partition's ", 16);
		gpt_put(entry + 28, i, 4);
		gpt_put(entry + 32, partitions[i].first, 8);
		gpt_put(entry + 40, partitions[i].last, 8);
	}
	crc = gpt_crc(table, sizeof(table));
	/* The protective record: one partition of type 0xee over all. */
	record[446 + 4] = 0xee;
	gpt_put(record + 446 + 8, 1, 4);
	gpt_put(record + 446 + 12,
		sectors - 1 > UINT32_MAX ? UINT32_MAX : sectors - 1, 4);
	record[510] = 0x55;
	record[511] = 0xaa;
	written =
	    pwrite(fd, record, sizeof(record), 0) == sizeof(record) &&
	    gpt_header(fd, 1, sectors - 1, 2, sectors, crc) &&
	    gpt_header(fd, sectors - 1, 1, sectors - 1 - GPT_TABLE, sectors,
		       crc) &&
	    pwrite(fd, table, sizeof(table), 2 * GPT_SECTOR) == sizeof(table) &&
	    pwrite(fd, table, sizeof(table),
		   (off_t)((sectors - 1 - GPT_TABLE) * GPT_SECTOR)) ==
		sizeof(table);
	close(fd);
	return written;
}

#endif
