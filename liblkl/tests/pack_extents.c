// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Files sent as extents of the host's files: put together from these they are
 * what the kernel reads, whatever the disk is made of, and what is not to be
 * had that way is read.
 */
#define _GNU_SOURCE
#include "gpt.h"
#include "machine.h"
#include "scratch.h"
#include "tree.h"
#include "unpack.h"

#define MIB (UINT64_C(1) << 20)
#define KIB (UINT64_C(1) << 10)
#define OVERLAY (64u << 20)

static struct lkl_kernel *kernel;

/* ---- Files of all kinds ------------------------------------------------ */

static int create(int root, const char *name)
{
	return (int)lkl_sys_openat(kernel, root, name,
				   LKL_O_RDWR | LKL_O_CREAT | LKL_O_LARGEFILE,
				   0644);
}

static bool put(int fd, uint64_t at, size_t length, uint64_t seed)
{
	unsigned char *bytes = malloc(length);
	bool right;

	fill(bytes, length, seed);
	right = lkl_sys_pwrite64(kernel, fd, bytes, length, (int64_t)at) ==
		(int64_t)length;
	free(bytes);
	return right;
}

/* Of ext2 such blocks are holes. */
static bool allocate(int fd, int mode, uint64_t length)
{
	int64_t error = lkl_sys_fallocate(kernel, fd, mode, 0, (int64_t)length);

	return error == 0 || error == -EOPNOTSUPP;
}

static bool make_files(int root)
{
	int plain = create(root, "plain"), small = create(root, "small");
	int one = create(root, "one"), two = create(root, "two");
	int sparse = create(root, "sparse"), grid = create(root, "grid");
	int unwritten = create(root, "unwritten");
	int beyond = create(root, "beyond"), hole = create(root, "hole");
	bool made = put(plain, 0, 3 * MIB + 17, 1) && put(small, 0, 10000, 2);

	/* In turn, so that neither lies in a row. */
	for (int i = 0; made && i < 40; i++)
		made = put(one, i * 64 * KIB, 64 * KIB, 10 + i) &&
		       lkl_sys_fsync(kernel, one) == 0 &&
		       put(two, i * 64 * KIB, 64 * KIB - 100 * (i == 39),
			   100 + i) &&
		       lkl_sys_fsync(kernel, two) == 0;
	made = made && put(sparse, 0, 256 * KIB, 200) &&
	       put(sparse, 20 * MIB, 256 * KIB, 201) &&
	       lkl_sys_ftruncate(kernel, sparse, 50 * MIB + 5) == 0;
	for (int i = 0; made && i < 64; i++)
		made = put(grid, i * 8 * KIB, 4 * KIB, 300 + i);
	made = made && allocate(unwritten, 0, 4 * MIB) &&
	       lkl_sys_ftruncate(kernel, unwritten, 4 * MIB) == 0 &&
	       put(unwritten, MIB + 123, 512 * KIB, 400) &&
	       put(beyond, 0, 100 * KIB + 1, 500) &&
	       allocate(beyond, 1 /* KEEP_SIZE */, 2 * MIB) &&
	       lkl_sys_ftruncate(kernel, hole, 10 * MIB) == 0;
	for (int fd = plain; fd <= hole; fd++)
		lkl_sys_close(kernel, fd);
	return made;
}

static void make_image(const char *type, const char *options)
{
	struct scratch_disk scratch;
	char path[256];
	int disk, root;

	need(run("rm -f image && truncate -s 320M image && "
		 "mkfs.%s -q %s image >mkfs.log 2>&1",
		 type, options),
	     "mkfs.%s %s", type, options);
	disk = add_scratch(kernel, "image", &scratch, true);
	root = mount_root(kernel, disk, type, 0, NULL, path);
	need(make_files(root), "files of all kinds");
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
	close(scratch.fd);
}

/* ---- Packing and comparing --------------------------------------------- */

static bool is_as_read(const struct node *node, int root)
{
	uint64_t size = node->entry.stat.size;
	unsigned char *bytes = malloc(size + 1);
	int fd = lkl_open_file(kernel, root, node->path);
	bool right = fd >= 0 && lkl_read_file(kernel, fd, 0, bytes, size + 1) ==
				    (int64_t)size;

	right = right && node->content && !node->done.error &&
		memcmp(bytes, node->content, size) == 0;
	lkl_sys_close(kernel, fd);
	free(bytes);
	if (!right)
		printf("# %s\n", node->path);
	return right;
}

/* Packs a file system and holds each file against what the kernel reads. */
static struct unpack pack(const char *what, int root, int disk, uint64_t start,
			  uint64_t size)
{
	struct unpack *unpack = calloc(1, sizeof(*unpack));
	struct lkl_pack request = {
	    .disk = disk,
	    .start = start,
	    .size = size,
	};
	struct lkl_packer *packer;
	struct unpack result;
	int files = 0, right = 0;

	request.socket = unpack_begin(unpack);
	need(lkl_pack_open(kernel, &request, &packer) == 0, "a packer");
	is(lkl_pack_entry(packer, root, "", ""), 0, "%s: packed", what);
	is(lkl_pack_finish(packer, 0), 0, "to the end");
	lkl_pack_close(packer);
	ok(unpack_end(unpack), "by the rules");
	for (size_t i = 0; i < unpack->count; i++)
		if (S_ISREG(unpack->nodes[i].entry.stat.mode)) {
			files++;
			right += is_as_read(&unpack->nodes[i], root);
		}
	ok(files > 0, "%d files", files);
	is(right, files, "%s: all are what is read", what);
	result = *unpack;
	free(unpack);
	return result;
}

static uint64_t size_of_image(const char *path)
{
	struct stat stat;

	return lstat(path, &stat) ? 0 : (uint64_t)stat.st_size;
}

static uint64_t sum_extents(const struct unpack *unpack)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < unpack->count; i++)
		sum += unpack->nodes[i].extents;
	return sum;
}

/* Of a disk that is a plain file: what goes how. */
static void check_kinds(struct unpack *unpack)
{
	struct node *node = find_node(unpack, "plain");

	ok(node->extents == 3 * MIB + 17 && !node->data, "plain: extents");
	is(find_node(unpack, "small")->extents, 0, "small: read");
	node = find_node(unpack, "one");
	ok(node->extents == 40 * 64 * KIB && node->messages > 1,
	   "fragments: %u extents", node->messages);
	node = find_node(unpack, "sparse");
	ok(node->extents == 512 * KIB && !node->data &&
	       node->holes == 50 * MIB + 5 - 512 * KIB,
	   "holes are holes");
	is(find_node(unpack, "grid")->extents, 0, "crumbs are read");
	node = find_node(unpack, "unwritten");
	ok(node->extents >= 512 * KIB && node->extents < 520 * KIB &&
	       !node->data && node->holes > 3 * MIB,
	   "what was not written is a hole");
	is(find_node(unpack, "beyond")->length, 100 * KIB + 1,
	   "nothing beyond the end");
	is(find_node(unpack, "hole")->holes, 10 * MIB, "nothing but a hole");
}

static void end(struct unpack *unpack, int root, const char *path, int disk)
{
	unpack_free(unpack);
	lkl_sys_close(kernel, root);
	is(lkl_umount(kernel, path), 0, "unmounted");
	is(lkl_disk_remove(kernel, disk), 0, "removed");
}

static void check_plain(const char *type)
{
	int disk = add_image(kernel, "image", 0);
	uint64_t size = size_of_image("image");
	struct unpack unpack;
	char path[256];
	int root = mount_root(kernel, disk, type, LKL_MS_RDONLY, NULL, path);

	unpack = pack(type, root, disk, 0, size);
	check_kinds(&unpack);
	is(unpack.file_count, 1, "one file of the host");
	unpack_free(&unpack);
	unpack = pack("a volume that ends early", root, disk, 0, MIB);
	is(sum_extents(&unpack), 0, "all is read");
	unpack_free(&unpack);
	unpack = pack("one beyond the disk", root, disk, size, size);
	is(sum_extents(&unpack), 0, "all is read");
	unpack_free(&unpack);
	unpack = pack("no disk", root, -1, 0, 0);
	is(sum_extents(&unpack), 0, "all is read");
	end(&unpack, root, path, disk);
}

/* A file that could be written to is not given away. */
static void check_writable(const char *type)
{
	struct lkl_disk options = {
	    .fd = open("image", O_RDWR | O_CLOEXEC),
	    .size = size_of_image("image"),
	};
	int disk = lkl_disk_add(kernel, &options);
	struct unpack unpack;
	char path[256];
	int root = mount_root(kernel, disk, type, LKL_MS_RDONLY, NULL, path);

	unpack = pack("a file open for writing", root, disk, 0, options.size);
	is(sum_extents(&unpack) + unpack.file_count, 0, "all is read");
	end(&unpack, root, path, disk);
	close((int)options.fd);
}

static void check_partition(const char *type)
{
	struct gpt_partition partition = {.first = 2048 + 8};
	uint64_t size = size_of_image("image");
	struct unpack unpack;
	char path[256];
	int disk, root;

	partition.last = partition.first + size / GPT_SECTOR - 1;
	need(run("rm -f disk && truncate -s 400M disk && "
		 "dd if=image of=disk bs=4096 seek=257 conv=notrunc,sparse "
		 "status=none") &&
		 gpt_write("disk", &partition, 1),
	     "a partition");
	disk = add_image(kernel, "disk", 0);
	root = lkl_mount_dev(kernel, disk, 1, type, LKL_MS_RDONLY, NULL, path,
			     sizeof(path));
	is(root, 0, "mounted");
	root = (int)lkl_sys_openat(kernel, LKL_AT_FDCWD, path,
				   LKL_O_RDONLY | LKL_O_DIRECTORY, 0);
	unpack =
	    pack("a partition", root, disk, partition.first * GPT_SECTOR, size);
	check_kinds(&unpack);
	end(&unpack, root, path, disk);
	run("rm disk");
}

/* ---- A disk that is told of piece by piece ----------------------------- */

#define CLUSTER (64 * KIB)

/* Clusters lie in two files from the last to the first, or nowhere. */
struct puzzle {
	int image, files[2];
	uint64_t size;
	unsigned asked;
};

static bool is_zero(struct puzzle *puzzle, uint64_t cluster)
{
	static __thread char bytes[CLUSTER];

	return pread(puzzle->image, bytes, CLUSTER,
		     (off_t)(cluster * CLUSTER)) == (ssize_t)CLUSTER &&
	       !bytes[0] && !memcmp(bytes, bytes + 1, CLUSTER - 1);
}

static int64_t puzzle_map(void *opaque, uint64_t offset, uint64_t length,
			  struct lkl_disk_extent *extents, size_t count)
{
	struct puzzle *puzzle = opaque;
	size_t filled = 0;

	puzzle->asked++;
	while (filled < count && length > 0) {
		uint64_t cluster = offset / CLUSTER, skip = offset % CLUSTER;
		uint64_t piece = CLUSTER - skip;
		struct lkl_disk_extent *extent = &extents[filled++];

		if (piece > length)
			piece = length;
		*extent = (struct lkl_disk_extent){.length = piece};
		if (cluster % 5 == 3) {
			extent->fd = LKL_EXTENT_ENCODED;
		} else if (is_zero(puzzle, cluster)) {
			extent->fd = LKL_EXTENT_ZERO;
		} else {
			extent->fd = puzzle->files[cluster % 2];
			extent->position =
			    puzzle->size - (cluster + 1) * CLUSTER + skip;
		}
		offset += piece;
		length -= piece;
	}
	return (int64_t)filled;
}

static int puzzle_read(void *opaque, uint64_t offset, void *buffer,
		       size_t length)
{
	struct puzzle *puzzle = opaque;

	return pread(puzzle->image, buffer, length, (off_t)offset) ==
		       (ssize_t)length
		   ? 0
		   : -EIO;
}

static void make_puzzle(struct puzzle *puzzle)
{
	static char bytes[CLUSTER];
	int out[2];

	*puzzle = (struct puzzle){
	    .image = open("image", O_RDONLY),
	    .size = size_of_image("image"),
	};
	for (int i = 0; i < 2; i++) {
		const char *name = i ? "odd" : "even";

		out[i] = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		puzzle->files[i] = open(name, O_RDONLY);
	}
	for (uint64_t at = 0; at < puzzle->size; at += CLUSTER)
		if (!is_zero(puzzle, at / CLUSTER) && at / CLUSTER % 5 != 3 &&
		    (pread(puzzle->image, bytes, CLUSTER, (off_t)at) < 0 ||
		     pwrite(out[at / CLUSTER % 2], bytes, CLUSTER,
			    (off_t)(puzzle->size - at - CLUSTER)) < 0))
			need(false, "the pieces of a puzzle");
	close(out[0]);
	close(out[1]);
}

struct reader {
	int root;
	_Atomic bool stop;
	unsigned reads, wrong;
};

/* Reads beside the packer: requests of the same disk. */
static void *read_on(void *opaque)
{
	struct reader *reader = opaque;
	unsigned char *wanted = malloc(MIB), *got = malloc(MIB);
	int fd = lkl_open_file(kernel, reader->root, "plain");

	fill(wanted, MIB, 1);
	while (!reader->stop) {
		lkl_sys_fadvise64(kernel, fd, 0, 0, LKL_FADV_DONTNEED);
		if (lkl_read_file(kernel, fd, 0, got, MIB) != (int64_t)MIB ||
		    memcmp(wanted, got, MIB) != 0)
			reader->wrong++;
		reader->reads++;
	}
	lkl_sys_close(kernel, fd);
	free(wanted);
	free(got);
	return NULL;
}

static void check_puzzle(const char *type)
{
	static const struct lkl_disk_operations operations = {
	    .read = puzzle_read,
	    .map = puzzle_map,
	};
	struct puzzle puzzle;
	struct lkl_disk options = {.operations = &operations};
	struct reader reader = {0};
	struct unpack unpack;
	struct node *node;
	pthread_t thread;
	char path[256];
	int disk, root;

	make_puzzle(&puzzle);
	options.opaque = &puzzle;
	options.size = puzzle.size;
	disk = lkl_disk_add(kernel, &options);
	need(disk >= 0, "a disk of pieces");
	root = mount_root(kernel, disk, type, LKL_MS_RDONLY, NULL, path);
	reader.root = root;
	pthread_create(&thread, NULL, read_on, &reader);
	for (int i = 0; i < 20; i++) {
		unpack = pack("pieces", root, disk, 0, puzzle.size);
		node = find_node(&unpack, "plain");
		ok(node->data > 0 && node->extents > MIB &&
		       unpack.file_count == 2,
		   "%d KiB of the disk are read, the rest are extents",
		   (int)(node->data / KIB));
		ok(find_node(&unpack, "unwritten")->holes > 3 * MIB &&
		       find_node(&unpack, "sparse")->holes > 49 * MIB,
		   "holes are holes");
		unpack_free(&unpack);
	}
	reader.stop = true;
	pthread_join(thread, NULL);
	ok(reader.reads > 0 && !reader.wrong, "%u reads beside it",
	   reader.reads);
	end(&unpack, root, path, disk);
	for (int i = 0; i < 2; i++)
		close(puzzle.files[i]);
	close(puzzle.image);
	run("rm odd even");
}

/* A disk without a map: nothing is known of its bytes. */
static void check_callback(const char *type)
{
	struct scratch_disk scratch;
	int disk = add_scratch(kernel, "image", &scratch, false);
	struct unpack unpack;
	char path[256];
	int root = mount_root(kernel, disk, type, LKL_MS_RDONLY, NULL, path);

	unpack = pack("a read callback", root, disk, 0, size_of_image("image"));
	is(sum_extents(&unpack), 0, "all is read");
	end(&unpack, root, path, disk);
	close(scratch.fd);
}

/* ---- Overlays ---------------------------------------------------------- */

/* What was changed since the mount is in the overlay. */
static void check_overlay(const char *type)
{
	int disk = add_image(kernel, "image", OVERLAY);
	uint64_t size = size_of_image("image");
	struct unpack unpack;
	struct node *node;
	unsigned char changed[4096];
	char path[256];
	int root = mount_root(kernel, disk, type, 0, NULL, path);
	int fd = (int)lkl_sys_openat(kernel, root, "plain", LKL_O_RDWR, 0);

	need(put(fd, MIB, 4096, 777), "a block is overwritten");
	need(put(fd, 3 * MIB + 10, 1000, 778), "and the end is");
	lkl_sys_close(kernel, fd);
	unpack = pack("a volume that is written to", root, disk, 0, size);
	node = find_node(&unpack, "plain");
	fill(changed, sizeof(changed), 777);
	ok(memcmp(node->content + MIB, changed, 4096) == 0,
	   "the block is as written");
	ok(node->data >= 4096 + 1010 && node->data <= 64 * KIB &&
	       node->extents > 2 * MIB,
	   "%s: it is read, the others are extents (%d)", type,
	   (int)node->data);
	end(&unpack, root, path, disk);
}

/* Data that stands in the journal when the power fails. */
static void check_recovered(char **argv)
{
	struct lkl_kernel *outer = kernel;
	struct scratch_disk scratch;
	struct unpack unpack;
	unsigned char wanted[8192];
	char path[256];
	int disk, root, fd;

	need(run("rm image && truncate -s 100M image && mkfs.ext4 -q image"),
	     "mkfs.ext4");
	kernel = boot(argv, 0);
	disk = add_scratch(kernel, "image", &scratch, true);
	root = mount_root(kernel, disk, "ext4", 0, "data=journal", path);
	fd = create(root, "file");
	need(put(fd, 0, 2 * MIB, 5), "a file");
	lkl_sys_fsync(kernel, fd);
	lkl_sys_sync(kernel);
	is(lkl_umount(kernel, path), -EBUSY, "still open");
	need(put(fd, 64 * KIB, sizeof(wanted), 6) &&
		 lkl_sys_fsync(kernel, fd) == 0,
	     "is changed");
	close(scratch.fd);
	scratch.fd = -1;
	lkl_destroy(kernel);

	kernel = outer;
	disk = add_image(kernel, "image", OVERLAY);
	root = mount_root(kernel, disk, "ext4", LKL_MS_RDONLY, NULL, path);
	unpack = pack("recovered", root, disk, 0, size_of_image("image"));
	fill(wanted, sizeof(wanted), 6);
	ok(memcmp(find_node(&unpack, "file")->content + 64 * KIB, wanted,
		  sizeof(wanted)) == 0,
	   "what the journal had is there");
	ok(find_node(&unpack, "file")->data >= sizeof(wanted),
	   "read, as it is in the overlay (%d bytes; %d in extents)",
	   (int)find_node(&unpack, "file")->data,
	   (int)find_node(&unpack, "file")->extents);
	end(&unpack, root, path, disk);
}

/* ---- Damaged ----------------------------------------------------------- */

static void check_damaged(void)
{
	struct unpack unpack = {0};
	struct lkl_pack request = {0};
	struct lkl_packer *packer;
	struct node *node;
	char path[256];
	const uint32_t far = 0x7ffffff0;
	uint64_t block;
	int disk, root, fd;

	need(run("mkdir tree && head -c 1000000 /dev/urandom > tree/good && "
		 "cp tree/good tree/far && rm -f image && "
		 "truncate -s 20M image && mkfs.ext2 -q -b 4096 -d tree image"),
	     "an image");
	/* What is in the inode itself is looked at before it is opened. */
	block = strtoull(line_of("debugfs -R 'stat far' image 2>/dev/null | "
				 "sed -n 's/.*(IND):\\([0-9]*\\).*/\\1/p'"),
			 NULL, 10);
	fd = open("image", O_WRONLY);
	need(block && pwrite(fd, &far, sizeof(far),
			     (off_t)(block * 4096 + 200)) == sizeof(far),
	     "with a block number beyond the disk");
	close(fd);
	disk = add_image(kernel, "image", 0);
	root = mount_root(kernel, disk, "ext4", LKL_MS_RDONLY, NULL, path);
	request.disk = disk;
	request.size = size_of_image("image");
	request.socket = unpack_begin(&unpack);
	need(lkl_pack_open(kernel, &request, &packer) == 0, "a packer");
	is(lkl_pack_entry(packer, root, "", ""), 0, "packed");
	is(lkl_pack_finish(packer, 0), 0, "to the end");
	lkl_pack_close(packer);
	ok(unpack_end(&unpack), "by the rules");
	node = find_node(&unpack, "far");
	ok(node->done.error < 0 && node->done.operation == COPY_READ &&
	       !node->extents,
	   "is an error of the file (%s)", lkl_errno_name(node->done.error));
	ok(is_as_read(find_node(&unpack, "good"), root) &&
	       find_node(&unpack, "good")->extents == 1000000,
	   "others are well");
	request.disk = disk + 1;
	is(lkl_pack_open(kernel, &request, &packer), -ENODEV, "no such disk");
	end(&unpack, root, path, disk);
	run("rm -r tree");
}

static void check(const char *type, const char *options)
{
	make_image(type, options);
	check_plain(type);
	check_writable(type);
	check_partition(type);
	check_puzzle(type);
	check_callback(type);
	check_overlay(type);
}

int main(int argc, char **argv)
{
	(void)argc;
	kernel = boot(argv, 0);
	scratch_begin(argv);
	check("ext4", "-b 4096");
	check("ext4", "-b 1024 -O inline_data,bigalloc -C 16384");
	check("ext2", "-b 4096");
	check("xfs", "");
	check("xfs", "-b size=1024");
	check_recovered(argv);
	check_damaged();
	is(lkl_halt(kernel), 0, "halted");
	lkl_destroy(kernel);
	return tap_end();
}
