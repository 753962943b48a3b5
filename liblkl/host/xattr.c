// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * All extended attributes of an entry in one call.
 */
#include "lkl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The kernel allocates, and for a value clears, as much as is asked for: most
 * are small, so a small question comes first.
 */
#define LIST_SMALL 1024u
#define LIST_MOST 65536u
#define VALUE_SMALL 256u
#define VALUE_MOST 65536u
#define PATH_MOST 4096u

/* Whose attributes: an open handle, or a path that is not followed. */
struct subject {
	struct lkl_kernel *kernel;
	int fd;
	const char *path; /* or NULL */
};

static int64_t list_names(const struct subject *subject, char *names,
			  size_t size)
{
	if (subject->path)
		return lkl_sys_llistxattr(subject->kernel, subject->path, names,
					  size);
	return lkl_sys_flistxattr(subject->kernel, subject->fd, names, size);
}

static int64_t get_value(const struct subject *subject, const char *name,
			 void *value, size_t size)
{
	if (subject->path)
		return lkl_sys_lgetxattr(subject->kernel, subject->path, name,
					 value, size);
	return lkl_sys_fgetxattr(subject->kernel, subject->fd, name, value,
				 size);
}

/*
 * Fills one record; *size is the space there is, then the record's size: 0 when
 * the attribute has no value that could be read.
 */
static int put_attribute(const struct subject *subject, const char *name,
			 unsigned char *record, size_t *size)
{
	uint32_t lengths[2] = {(uint32_t)strlen(name), 0};
	size_t head = sizeof(lengths) + lengths[0];
	size_t space, whole;
	int64_t got;

	if (*size <= head)
		return -ERANGE;
	space = *size - head;
	got = get_value(subject, name, record + head,
			space < VALUE_SMALL ? space : VALUE_SMALL);
	if (got == -ERANGE && space > VALUE_SMALL)
		got = get_value(subject, name, record + head,
				space < VALUE_MOST ? space : VALUE_MOST);
	if (got == -ENODATA || got == -EOPNOTSUPP) {
		*size = 0;
		return 0;
	}
	if (got < 0)
		return (int)got;
	lengths[1] = (uint32_t)got;
	whole = (head + lengths[1] + 7) & ~(size_t)7;
	if (whole > *size)
		return -ERANGE;
	memcpy(record, lengths, sizeof(lengths));
	memcpy(record + sizeof(lengths), name, lengths[0]);
	memset(record + head + lengths[1], 0, whole - head - lengths[1]);
	*size = whole;
	return 0;
}

static int64_t put_attributes(const struct subject *subject, const char *names,
			      size_t length, unsigned char *buffer, size_t size)
{
	size_t filled = 0;

	for (size_t at = 0; at < length; at += strlen(names + at) + 1) {
		size_t taken = size - filled;
		int error =
		    put_attribute(subject, names + at, buffer + filled, &taken);

		if (error)
			return error;
		filled += taken;
	}
	return (int64_t)filled;
}

int64_t lkl_read_xattrs(struct lkl_kernel *kernel, int directory,
			const char *name, void *buffer, size_t size)
{
	struct subject subject = {.kernel = kernel, .fd = directory};
	char path[PATH_MOST];
	char small[LIST_SMALL + 1];
	char *large = NULL;
	char *names = small;
	int64_t result;

	if (name[0] != '\0') {
		/*
		 * Linux has no *xattrat calls before 6.13, and an O_PATH handle
		 * reads none; but a path through the directory's handle names
		 * the very entry, whatever its type.
		 */
		int length =
		    name[0] == '/' || directory == LKL_AT_FDCWD
			? snprintf(path, sizeof(path), "%s", name)
			: snprintf(path, sizeof(path), "/proc/self/fd/%d/%s",
				   directory, name);

		if (length < 0 || (size_t)length >= sizeof(path))
			return -ENAMETOOLONG;
		subject.path = path;
	}
	result = list_names(&subject, small, LIST_SMALL);
	if (result == -ERANGE) {
		large = malloc(LIST_MOST + 1);
		if (!large)
			return -ENOMEM;
		names = large;
		result = list_names(&subject, large, LIST_MOST);
	}
	if (result > 0) {
		names[result] = '\0';
		result = put_attributes(&subject, names, (size_t)result, buffer,
					size);
	}
	free(large);
	/* A file system without attributes has none. */
	return result == -EOPNOTSUPP ? 0 : result;
}
