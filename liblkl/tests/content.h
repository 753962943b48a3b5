/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files of known content: written and read inside a kernel, or on the host. */
#ifndef CONTENT_H
#define CONTENT_H

#include "machine.h"

#define FILES 24
#define FILE_SIZE (384u << 10)
/* Frames of 64 KiB: as it is, compressible, empty, mixed, in turn. */
#define FRAME (64u << 10)
static unsigned char content[FILE_SIZE];

static void make_content(unsigned int file)
{
	uint64_t state = file * UINT64_C(0x9e3779b97f4a7c15) + 1;

	for (size_t i = 0; i < FILE_SIZE; i++) {
		unsigned int kind = (unsigned int)(i / FRAME + file) % 4;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		if (kind == 0 || (kind == 3 && i / 4096 % 2))
			content[i] = (unsigned char)(state >> 24);
		else if (kind == 2)
			content[i] = 0;
		else
			content[i] = "the same few words, "[(i + file) % 20];
	}
}

static const char *name_of(unsigned int file)
{
	static char name[32];

	snprintf(name, sizeof(name), "file-%u", file);
	return name;
}

static bool write_file(struct lkl_kernel *kernel, int root, unsigned int file,
		       const void *attributes)
{
	int64_t fd = lkl_sys_openat(kernel, root, name_of(file),
				    LKL_O_CREAT | LKL_O_RDWR, 0644);
	int64_t put = -1;

	if (fd < 0)
		return false;
	if (attributes &&
	    lkl_syscall(kernel, 7 /* fsetxattr */,
			(int64_t[6]){fd, (intptr_t) "system.ntfs_attrib",
				     (intptr_t)attributes, 4, 0, 0}) < 0) {
		lkl_sys_close(kernel, (int)fd);
		return false;
	}
	make_content(file);
	put = lkl_sys_write(kernel, (int)fd, content, FILE_SIZE);
	lkl_sys_close(kernel, (int)fd);
	return put == FILE_SIZE;
}

static unsigned int write_files(struct lkl_kernel *kernel, int root,
				const void *attributes)
{
	unsigned int written = 0;

	for (unsigned int file = 0; file < FILES; file++)
		written += write_file(kernel, root, file, attributes);
	/* Not fsync: BFS has none. */
	lkl_sys_sync(kernel);
	return written;
}

/*
 * Reads every file, in pieces from the end to the start so that the pages of
 * one cluster come to memory in no order; returns how many are right.
 */
static unsigned int read_files(struct lkl_kernel *kernel, int root)
{
	static unsigned char got[FILE_SIZE];
	const size_t piece = 20u << 10;
	unsigned int right = 0;

	for (unsigned int file = 0; file < FILES; file++) {
		int fd = lkl_open_file(kernel, root, name_of(file));
		size_t offset = FILE_SIZE;

		if (fd < 0)
			continue;
		memset(got, 0xee, sizeof(got));
		while (offset) {
			size_t length = offset % piece ? offset % piece : piece;

			offset -= length;
			if (lkl_read_file(kernel, fd, offset, got + offset,
					  length) != (int64_t)length)
				break;
		}
		make_content(file);
		if (memcmp(got, content, FILE_SIZE) == 0)
			right++;
		else
			printf("# %s differs\n", name_of(file));
		lkl_sys_close(kernel, fd);
	}
	return right;
}

/* The same files in a folder of the host. */
__attribute__((unused)) static bool make_host_files(const char *folder)
{
	char path[256];
	FILE *stream;

	for (unsigned int file = 0; file < FILES; file++) {
		snprintf(path, sizeof(path), "%s/%s", folder, name_of(file));
		make_content(file);
		stream = fopen(path, "wb");
		if (!stream || fwrite(content, FILE_SIZE, 1, stream) != 1 ||
		    fclose(stream) != 0)
			return false;
	}
	return true;
}

#endif
