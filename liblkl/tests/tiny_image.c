// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A freestanding object of the kernel image's kind: its entry points, with
 * relocated data behind them, for tests of the loader and the fault handler.
 * It is no kernel; its "system calls" are the enumeration below.
 */
#include "tiny_image.h"

#define EXPORT __attribute__((visibility("default")))
#define DECLARE(type, name, args) EXPORT type name args;

LKL_IMAGE_ENTRIES(DECLARE)

EXPORT const struct lkl_image_info lkl_image_info = {
    .abi = LKL_IMAGE_ABI,
    .page_size = 4096,
    .release = TINY_RELEASE,
};

static int64_t counter;
static int64_t first = 11, second = 22;
static unsigned char zeros[20000];
/* Pointers in initialised data: relocations. */
static int64_t *const pointers[] = {&first, &second, &counter};

static void *resume[5];
static uint64_t fault[3];

/* Goes on until the stack's end: each frame is larger than it looks. */
static int64_t use_up_stack(volatile int64_t depth)
{
	volatile int64_t frame[64];

	frame[0] = depth;
	return depth < 0 ? 0 : use_up_stack(depth + 1) + frame[0];
}

static int64_t run(int64_t nr, const int64_t args[6])
{
	switch (nr) {
	case TINY_COUNT:
		return ++counter;
	case TINY_POINTED:
		return *pointers[args[0]];
	case TINY_ZEROS:
		for (uint64_t i = 0; i < sizeof(zeros); i++)
			if (zeros[i])
				return -1;
		return sizeof(zeros);
	case TINY_WRITE:
		*(volatile int64_t *)args[0] = 1;
		return 0;
	case TINY_JUMP:
		((void (*)(void))args[0])();
		return 0;
	case TINY_ILLEGAL:
		__builtin_trap();
	case TINY_OVERFLOW:
		return use_up_stack(0);
	case TINY_FAULT_KIND:
	case TINY_FAULT_IP:
	case TINY_FAULT_ADDRESS:
		return (int64_t)fault[nr - TINY_FAULT_KIND];
	default:
		return -38;
	}
}

int64_t lkl_image_syscall(int64_t nr, const int64_t args[6])
{
	if (__builtin_setjmp(resume))
		return TINY_FAULTED;
	return run(nr, args);
}

void lkl_image_fault(uint64_t kind, uint64_t ip, uint64_t address)
{
	/* Aligned as at any function's entry, or this faults again. */
	volatile int64_t aligned[2] __attribute__((aligned(16))) = {0, 0};

	(void)aligned;
	fault[0] = kind;
	fault[1] = ip;
	fault[2] = address;
	__builtin_longjmp(resume, 1);
}

int32_t lkl_image_boot(const struct lkl_boot *boot)
{
	return boot->abi == LKL_IMAGE_ABI ? 0 : -22;
}

void lkl_image_irq(uint32_t irq)
{
	counter += irq;
}

void lkl_image_thread_exit(void)
{
	counter += 1000;
}
