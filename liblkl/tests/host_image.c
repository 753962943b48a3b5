// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The image loader: independent copies, and files that are not what they
 * should be.  Damaged files may load or be refused, but never harm the process.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image.h"
#include "tap.h"
#include "tiny_image.h"

static unsigned char *file;
static size_t file_size;
/* A file without a name, but with a path for this process. */
static int scratch;
static char scratch_path[64];

static int64_t ask(const struct image *image, int64_t nr, int64_t argument)
{
	const int64_t args[6] = {argument};

	return image->entries.lkl_image_syscall(nr, args);
}

static void read_whole(const char *path)
{
	struct stat stat;
	int fd = open(path, O_RDONLY);

	need(fd >= 0 && fstat(fd, &stat) == 0, "the test's image");
	file_size = (size_t)stat.st_size;
	file = malloc(file_size);
	need(file && read(fd, file, file_size) == (ssize_t)file_size,
	     "of %zu bytes", file_size);
	close(fd);
}

/* Loads these bytes as a file; the image is freed again. */
static int load_bytes(const void *bytes, size_t size)
{
	struct image image = {0};
	int error;

	if (ftruncate(scratch, (off_t)size) < 0 ||
	    pwrite(scratch, bytes, size, 0) != (ssize_t)size) {
		printf("Bail out! cannot write a file in memory\n");
		exit(1);
	}
	error = image_load(&image, scratch_path, IMAGE_BY_PATH);
	if (!error)
		image_free(&image);
	return error;
}

static void test_copies(void)
{
	struct image one = {0}, two = {0};
	int opened;

	is(image_load(&one, TINY_IMAGE, IMAGE_BY_PATH), 0, "loads");
	is(image_load(&two, TINY_IMAGE, IMAGE_BY_PATH), 0, "and a second time");
	ok(image_base(&one) != image_base(&two), "as another copy");
	ok(!strcmp(one.entries.lkl_image_info->release, TINY_RELEASE),
	   "its release can be read before anything has run");
	is(ask(&one, TINY_POINTED, 0), 11, "pointers in data are relocated");
	is(ask(&one, TINY_POINTED, 1), 22, "each");
	is(ask(&one, TINY_ZEROS, 0), 20000, "unset data is zero");
	ask(&one, TINY_COUNT, 0);
	ask(&one, TINY_COUNT, 0);
	is(ask(&one, TINY_COUNT, 0), 3, "the first copy counts");
	is(ask(&two, TINY_COUNT, 0), 1, "the second for itself");
	is(ask(&two, TINY_POINTED, 2), 1, "through its own pointers too");
	image_free(&one);
	is(ask(&two, TINY_COUNT, 0), 2, "it outlives the first");
	image_free(&two);
	opened = open(TINY_IMAGE, O_RDONLY);
	is(image_load(&one, "not opened", opened), 0, "by a descriptor");
	is(ask(&one, TINY_POINTED, 1), 22, "the same");
	image_free(&one);
	ok(fcntl(opened, F_GETFD) >= 0, "which stays open");
	close(opened);
	is(image_load(&one, TINY_IMAGE, opened), -EBADF,
	   "none is opened instead");
}

static void test_dlopen(void)
{
	struct image one = {0}, two = {0};

	is(image_load_library(&one, TINY_IMAGE), 0, "loads by dlopen");
	is(ask(&one, TINY_COUNT, 0), 1, "and works");
	ok(image_base(&one), "its base is known");
	is(image_load_library(&two, TINY_IMAGE), -EBUSY,
	   "by dlopen not twice, as it would be the same copy");
	is(image_load(&two, TINY_IMAGE, IMAGE_BY_PATH), 0, "but by our loader");
	image_free(&two);
	image_free(&one);
	is(image_load_library(&one, TINY_IMAGE), 0, "once freed, anew");
	is(ask(&one, TINY_COUNT, 0), 1, "from the beginning");
	image_free(&one);
	is(image_load_library(&one, "/nonexistent"), -ENOENT, "no such file");
	is(image_load_library(&one, "/etc/passwd"), -ENOEXEC, "no object");
}

static void test_refusals(void)
{
	struct image image = {0};
	Elf64_Ehdr *header = (Elf64_Ehdr *)file;
	Elf64_Phdr *program = (Elf64_Phdr *)(file + header->e_phoff);
	unsigned char *whole = malloc(file_size);
	uint32_t accepted = 0;

	need(whole, "memory");
	memcpy(whole, file, file_size);
	is(image_load(&image, "/nonexistent", IMAGE_BY_PATH), -ENOENT,
	   "no such file");
	is(image_load(&image, "/", IMAGE_BY_PATH), -EISDIR, "a directory");
	is(image_load(&image, "/dev/null", IMAGE_BY_PATH), -ENOEXEC,
	   "a device");
	is(image_load(&image, "/proc/self/exe", IMAGE_BY_PATH), -ENOEXEC,
	   "a program that needs libraries");
	is(load_bytes(file, file_size), 0, "the file as it is");

	header->e_machine ^= 1;
	is(load_bytes(file, file_size), -ENOEXEC, "another processor");
	header->e_machine ^= 1;
	header->e_type = ET_EXEC;
	is(load_bytes(file, file_size), -ENOEXEC, "not a shared object");
	header->e_type = ET_DYN;
	header->e_ident[EI_CLASS] = ELFCLASS32;
	is(load_bytes(file, file_size), -ENOEXEC, "32 bits");
	header->e_ident[EI_CLASS] = ELFCLASS64;
	header->e_phoff = UINT64_MAX - 7;
	is(load_bytes(file, file_size), -ENOEXEC, "headers beyond the end");
	memcpy(file, whole, file_size);

	for (int i = 0; i < header->e_phnum; i++) {
		if (program[i].p_type != PT_LOAD)
			continue;
		program[i].p_filesz = UINT64_MAX - 1;
		is(load_bytes(file, file_size), -ENOEXEC,
		   "segment %d larger than all", i);
		memcpy(file, whole, file_size);
		program[i].p_memsz = UINT64_MAX - program[i].p_vaddr;
		is(load_bytes(file, file_size), -ENOEXEC,
		   "segment %d wants all memory", i);
		memcpy(file, whole, file_size);
		program[i].p_vaddr += UINT64_C(1) << 40;
		is(load_bytes(file, file_size), -ENOEXEC, "segment %d far away",
		   i);
		memcpy(file, whole, file_size);
		program[i].p_flags = PF_R | PF_W | PF_X;
		is(load_bytes(file, file_size), -ENOEXEC,
		   "segment %d written and executed", i);
		memcpy(file, whole, file_size);
		program[i].p_type = PT_TLS;
		is(load_bytes(file, file_size), -ENOEXEC,
		   "segment %d thread-local", i);
		memcpy(file, whole, file_size);
	}

	for (size_t size = 0; size < file_size; size += 1 + size / 40)
		accepted += load_bytes(file, size) == 0;
	/* What is behind the last segment (section headers) is not needed. */
	ok(accepted < 10, "cut short: refused, but for %u cuts", accepted);
	free(whole);
}

/*
 * A flip may be in the code or in what it works on, which a loader cannot see;
 * it runs none of that, so whatever the file says, this process must live.
 */
static void flip(uint32_t *loaded, uint32_t *refused, uint32_t *other)
{
	for (size_t i = 0; i < file_size * 8; i += 1 + i / 600) {
		int error;

		file[i / 8] ^= (unsigned char)(1 << i % 8);
		error = load_bytes(file, file_size);
		file[i / 8] ^= (unsigned char)(1 << i % 8);
		if (!error)
			++*loaded;
		else if (error == -ENOEXEC || error == -EPROTO ||
			 error == -ENOMEM)
			++*refused;
		else
			++*other;
	}
}

static void test_flips(void)
{
	Elf64_Ehdr *header = (Elf64_Ehdr *)file;
	Elf64_Phdr *program = (Elf64_Phdr *)(file + header->e_phoff);
	uint32_t loaded = 0, refused = 0, other = 0;

	flip(&loaded, &refused, &other);
	ok(loaded > 0 && refused > 0,
	   "flipped bits: %u files loaded, %u refused", loaded, refused);
	is(other, 0, "none with an error of another kind");

	/* Where it says most about itself: each bit of the dynamic section. */
	for (int i = 0; i < header->e_phnum; i++) {
		uint64_t offset = program[i].p_offset;

		if (program[i].p_type != PT_DYNAMIC)
			continue;
		loaded = 0;
		refused = 0;
		for (uint64_t bit = 0; bit < program[i].p_filesz * 8; bit++) {
			unsigned char *byte = &file[offset + bit / 8];

			*byte ^= (unsigned char)(1 << bit % 8);
			if (load_bytes(file, file_size) == 0)
				loaded++;
			else
				refused++;
			*byte ^= (unsigned char)(1 << bit % 8);
		}
		ok(refused > 100, "dynamic section: %u loaded, %u refused",
		   loaded, refused);
	}
}

int main(void)
{
	scratch = memfd_create("image", MFD_CLOEXEC);
	need(scratch >= 0, "a file for damaged images");
	snprintf(scratch_path, sizeof(scratch_path), "/proc/self/fd/%d",
		 scratch);
	read_whole(TINY_IMAGE);
	test_copies();
	test_dlopen();
	test_refusals();
	test_flips();
	free(file);
	close(scratch);
	return tap_end();
}
