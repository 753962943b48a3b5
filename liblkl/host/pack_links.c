// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Links of a tree that is sent: which hard links are to the same file, and
 * where symbolic links lead to.
 */
#include "pack.h"

#include "record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the kernel makes of a path at most. */
#define PATH_MOST 4096u
#define FIRST_SLOTS 256u

/* ---- Hard links -------------------------------------------------------- */

static uint64_t device_of(const struct lkl_stat *stat)
{
	return (uint64_t)stat->device_major << 32 | stat->device_minor;
}

/* The slot of a file, or the free one where it belongs. */
static struct first_link *find_slot(struct first_link *links, size_t count,
				    uint64_t device, uint64_t inode)
{
	/* Multiplication spreads, the upper bits are the best of it. */
	uint64_t hash = (inode ^ device << 40) * UINT64_C(0x9e3779b97f4a7c15);
	size_t at = (hash >> 32) & (count - 1);

	while (links[at].number &&
	       (links[at].device != device || links[at].inode != inode))
		at = (at + 1) & (count - 1);
	return &links[at];
}

uint64_t pack_first_link(const struct lkl_packer *packer,
			 const struct item *item)
{
	if (item->stat.links < 2 || item->followed || !packer->link_slots)
		return 0;
	return find_slot(packer->links, packer->link_slots,
			 device_of(&item->stat), item->stat.inode)
	    ->number;
}

void pack_remember_link(struct lkl_packer *packer, const struct item *item)
{
	struct first_link *slot;

	if (item->stat.links < 2 || item->followed ||
	    pack_has(packer, LKL_PACK_EVERY_LINK))
		return;
	if (packer->link_count * 2 >= packer->link_slots) {
		size_t count =
		    packer->link_slots ? packer->link_slots * 2 : FIRST_SLOTS;
		struct first_link *links = calloc(count, sizeof(*links));

		if (!links)
			return;
		for (size_t i = 0; i < packer->link_slots; i++) {
			const struct first_link *old = &packer->links[i];

			if (old->number)
				*find_slot(links, count, old->device,
					   old->inode) = *old;
		}
		free(packer->links);
		packer->links = links;
		packer->link_slots = count;
	}
	slot = find_slot(packer->links, packer->link_slots,
			 device_of(&item->stat), item->stat.inode);
	*slot = (struct first_link){
	    .device = device_of(&item->stat),
	    .inode = item->stat.inode,
	    .number = packer->number + 1,
	};
	packer->link_count++;
}

/* ---- Following links --------------------------------------------------- */

/* The path of an open directory of the kernel: its length or an errno. */
static int64_t path_of(struct lkl_packer *packer, int directory, char *path)
{
	char link[32];
	int64_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", directory);
	length = lkl_sys_readlinkat(packer->kernel, LKL_AT_FDCWD, link, path,
				    PATH_MOST);
	if (length == PATH_MOST)
		return -ENAMETOOLONG;
	if (length >= 0)
		path[length] = '\0';
	return length;
}

/*
 * Opens the regular file that a link leads to, inside of the root.  The path up
 * to the link is only where the kernel begins: whatever it were, nothing
 * outside of the root could be reached by it.
 */
int pack_open_followed(struct lkl_packer *packer, int directory,
		       const char *name, uint32_t flags, struct lkl_stat *stat)
{
	const struct lkl_open_how how = {
	    .flags = LKL_O_CLOEXEC | flags,
	    .resolve = LKL_RESOLVE_IN_ROOT | LKL_RESOLVE_NO_MAGICLINKS |
		       LKL_RESOLVE_NO_XDEV,
	};
	size_t root = strlen(packer->root_path);
	char *path = packer->link_path;
	int64_t length = path_of(packer, directory, path);
	int fd, error;

	if (length < 0)
		return (int)length;
	if (strncmp(path, packer->root_path, root) != 0 ||
	    (path[root] != '/' && path[root] != '\0'))
		return -EXDEV;
	if ((size_t)length + 1 + strlen(name) >= PATH_MOST)
		return -ENAMETOOLONG;
	sprintf(path + length, "/%s", name);
	fd = (int)lkl_sys_openat2(packer->kernel, packer->request.root,
				  path + root, &how, sizeof(how));
	if (fd < 0)
		return fd;
	error = stat_entry(packer->kernel, fd, "", stat, NULL);
	if (!error && type_of_mode(stat->mode) != LKL_DT_REG)
		error = -EINVAL;
	if (!error)
		return fd;
	lkl_sys_close(packer->kernel, fd);
	return error;
}

void pack_follow(struct lkl_packer *packer, struct item *item)
{
	struct lkl_stat stat;
	int fd;

	if (!pack_has(packer, LKL_PACK_FOLLOW) || item->name[0] == '\0' ||
	    type_of_mode(item->stat.mode) != LKL_DT_LNK)
		return;
	fd = pack_open_followed(packer, item->directory, item->name, LKL_O_PATH,
				&stat);
	if (fd < 0)
		return;
	lkl_sys_close(packer->kernel, fd);
	item->stat = stat;
	item->followed = true;
}

int pack_links_open(struct lkl_packer *packer)
{
	int64_t length;

	if (!pack_has(packer, LKL_PACK_FOLLOW))
		return 0;
	packer->root_path = malloc(PATH_MOST);
	packer->link_path = malloc(PATH_MOST);
	if (!packer->root_path || !packer->link_path)
		return -ENOMEM;
	length = path_of(packer, packer->request.root, packer->root_path);
	return length < 0 ? (int)length : 0;
}
