// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Direct I/O: into memory of the kernel's own, whose pages can be pinned
 * without an MMU, and into other memory, which has none.  Btrfs reads a
 * compressed extent through the page cache even then, and asks for the rest to
 * be faulted in, which is BUG() in a kernel without an MMU unless arch/lkl
 * answers.
 */
#include "machine.h"
#include "scratch.h"

#define PIECE (2u << 20)
#define TAIL 777u
#define SIZE (2 * PIECE + TAIL)
#define BUFFER (8u << 20)

static unsigned char wanted[SIZE];

static void make_wanted(void)
{
	uint64_t state = 1;

	for (size_t i = 0; i < SIZE; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		wanted[i] = i < PIECE ? "compressible "[i % 13]
				      : (unsigned char)(state >> 24);
	}
}

static bool append(struct lkl_kernel *kernel, int root, size_t from, size_t to)
{
	int64_t fd = lkl_sys_openat(kernel, root, "mixed",
				    LKL_O_CREAT | LKL_O_WRONLY, 0644);
	bool written = fd >= 0 && lkl_sys_pwrite64(
				      kernel, (int)fd, wanted + from, to - from,
				      (int64_t)from) == (int64_t)(to - from);

	if (fd >= 0)
		lkl_sys_close(kernel, (int)fd);
	lkl_sys_sync(kernel);
	return written;
}

/* A file of compressed extents, then plain ones, and an end inside a block. */
static void make_mixed(char **argv)
{
	struct lkl_kernel *kernel = boot(argv, 0);
	struct scratch_disk scratch;
	char path[256];
	int disk, root;

	need(run("truncate -s 200M disk.img && mkfs.btrfs -q disk.img"),
	     "an image of Btrfs");
	disk = add_scratch(kernel, "disk.img", &scratch, true);
	root =
	    mount_root(kernel, disk, "btrfs", 0, "compress-force=zstd", path);
	ok(append(kernel, root, 0, PIECE), "a compressed piece");
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmount");
	root = mount_root(kernel, disk, "btrfs", 0, NULL, path);
	ok(append(kernel, root, PIECE, SIZE), "a plain piece");
	lkl_sys_close(kernel, root);
	is(lkl_halt(kernel), 0, "halt");
	lkl_destroy(kernel);
	close(scratch.fd);
}

int main(int argc, char **argv)
{
	struct lkl_kernel *kernel;
	unsigned char *buffer, *page;
	static unsigned char host_memory[2 * 4096];
	char path[256];
	int64_t fd;
	int root;

	(void)argc;
	make_wanted();
	scratch_begin(argv);
	make_mixed(argv);

	kernel = boot(argv, 0);
	buffer = lkl_mem_alloc(kernel, BUFFER);
	need(buffer, "memory for direct I/O");
	root = mount_root(kernel, add_image(kernel, "disk.img", 0), "btrfs",
			  LKL_MS_RDONLY, NULL, path);
	fd = lkl_sys_openat(kernel, root, "mixed", LKL_O_RDONLY | LKL_O_DIRECT,
			    0);
	need(fd >= 0, "the file opens for direct reads");
	memset(buffer, 0xee, BUFFER);
	is(lkl_sys_pread64(kernel, (int)fd, buffer, BUFFER, 0), SIZE,
	   "read whole, beyond its end");
	ok(memcmp(buffer, wanted, SIZE) == 0, "with the right bytes");
	memset(buffer, 0xee, BUFFER);
	is(lkl_sys_pread64(kernel, (int)fd, buffer, PIECE, PIECE / 2), PIECE,
	   "read across the border of compressed and plain");
	ok(memcmp(buffer, wanted + PIECE / 2, PIECE) == 0,
	   "with the right bytes");
	/* No pages of the kernel's there: Btrfs takes the page cache instead.
	 */
	page = (unsigned char *)(((uintptr_t)host_memory + 4095) &
				 ~(uintptr_t)4095);
	is(lkl_sys_pread64(kernel, (int)fd, page, 4096, PIECE + 65536), 4096,
	   "read into memory of the program");
	ok(memcmp(page, wanted + PIECE + 65536, 4096) == 0,
	   "with the right bytes");
	is(lkl_state(kernel), LKL_STATE_RUNNING, "the kernel lives");
	lkl_mem_free(kernel, buffer, BUFFER);
	lkl_destroy(kernel);
	return tap_end();
}
