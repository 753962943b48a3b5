/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The boundary between the kernel image and the host.
 *
 * The kernel image is one freestanding ELF shared object, the same bytes on
 * every host.  It calls the host through struct lkl_host_operations and the
 * host calls it through the functions declared at the end; there is no other
 * path.  Both sides include this header, so it holds fixed-width types only,
 * and every function on either side uses the System V calling convention.
 */
#ifndef LKL_IMAGE_H
#define LKL_IMAGE_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdint.h>
#endif

#if defined(_WIN32) && defined(__x86_64__)
#define LKL_ABI __attribute__((sysv_abi))
#else
#define LKL_ABI
#endif

/* Changed with every incompatible change of this header. */
#define LKL_IMAGE_ABI 1

/* Interrupt lines: one machine word of them.  Devices may share a line. */
#define LKL_IRQ_TIMER 1
#define LKL_IRQ_DEVICE_FIRST 2
#define LKL_IRQ_DEVICE_LAST 63

/*
 * What the kernel needs of its host.  @host is handed back as the first
 * argument of every operation; the kernel does not look into it.
 *
 * No operation may call back into the kernel image, except thread_create's
 * new thread and, from any thread at any time, lkl_image_irq().
 */
struct lkl_host_operations {
	void *host;

	/* Appends @length bytes of kernel log; not NUL-terminated. */
	void(LKL_ABI *print)(void *host, const char *text, uint32_t length);

	/*
	 * The kernel has ended, for @reason (enum lkl_end).  The host wakes
	 * every semaphore of this instance once; the threads that sleep there
	 * then leave the kernel image by themselves.
	 */
	void(LKL_ABI *ended)(void *host, uint32_t reason);

	/* A counting semaphore, initially 0; NULL when out of memory. */
	void *(LKL_ABI *sem_alloc)(void *host);
	void(LKL_ABI *sem_free)(void *host, void *sem);
	void(LKL_ABI *sem_up)(void *host, void *sem);
	void(LKL_ABI *sem_down)(void *host, void *sem);

	/* Runs fn(arg) on a new host thread; 0 or a negative errno. */
	int32_t(LKL_ABI *thread_create)(void *host,
					void(LKL_ABI *fn)(void *arg),
					void *arg);

	/*
	 * One pointer per (instance, host thread), initially NULL.  When a
	 * host thread ends with a pointer set, the host calls
	 * lkl_image_thread_exit() on it.
	 */
	void *(LKL_ABI *tls_get)(void *host);
	void(LKL_ABI *tls_set)(void *host, void *value);

	/* Nanoseconds: since an arbitrary start; since 1970-01-01 UTC. */
	uint64_t(LKL_ABI *time_mono)(void *host);
	uint64_t(LKL_ABI *time_real)(void *host);

	/*
	 * Asks for one lkl_image_irq(LKL_IRQ_TIMER) when time_mono() reaches
	 * @deadline.  A later call replaces an earlier one.
	 */
	void(LKL_ABI *timer_set)(void *host, uint64_t deadline);

	/*
	 * Device registers, little-endian; @address is the base given to the
	 * kernel at lkl_add_virtio_mmio plus an offset, @size is 1, 2, 4 or 8.
	 */
	uint64_t(LKL_ABI *iomem_read)(void *host, uint64_t address,
				      uint32_t size);
	void(LKL_ABI *iomem_write)(void *host, uint64_t address, uint64_t value,
				   uint32_t size);

	/*
	 * Optional (both NULL where a host cannot): maps @count pages of the
	 * kernel's RAM, given by address, a second time and one after another.
	 * Returns the address of the alias or NULL.
	 */
	void *(LKL_ABI *pages_map)(void *host, const uint64_t *pages,
				   uint32_t count);
	void(LKL_ABI *pages_unmap)(void *host, void *alias, uint32_t count);
};

enum lkl_end {
	LKL_END_HALT = 1,  /* asked for */
	LKL_END_PANIC = 2, /* panic() */
	LKL_END_FAULT = 3, /* a CPU fault inside the kernel */
};

/* What the host gives a kernel at boot. */
struct lkl_boot {
	uint32_t abi; /* LKL_IMAGE_ABI */
	uint32_t reserved;
	const struct lkl_host_operations *ops;
	const char *command_line;
	/* The kernel's RAM: 32 MiB aligned, a multiple of it, zeroed. */
	uint64_t ram;
	uint64_t ram_size;
	/* Upped once when the first system call may be made. */
	void *booted;
};

/* Facts of the image, readable before boot. */
struct lkl_image_info {
	uint32_t abi; /* LKL_IMAGE_ABI */
	uint32_t page_size;
	char release[64]; /* uname -r, as in "6.12.117" */
};

/*
 * System calls beyond Linux's own, in the range that
 * include/uapi/asm-generic/unistd.h keeps for architectures.
 */
#define LKL_NR_add_virtio_mmio 244    /* (base, size, irq, id) */
#define LKL_NR_remove_virtio_mmio 245 /* (id) */

/*
 * The entry points of the image.  The host finds them in .dynsym by name;
 * the prefix says that they are not for programs: those use lkl.h.
 */
#define LKL_IMAGE_ENTRIES(ENTRY)                                               \
	ENTRY(int32_t, lkl_image_boot, (const struct lkl_boot *boot))          \
	ENTRY(int64_t, lkl_image_syscall, (int64_t nr, const int64_t args[6])) \
	ENTRY(void, lkl_image_irq, (uint32_t irq))                             \
	ENTRY(void, lkl_image_thread_exit, (void))                             \
	ENTRY(void, lkl_image_fault,                                           \
	      (uint64_t kind, uint64_t ip, uint64_t address))

/*
 * lkl_image_boot: becomes the idle task of a new kernel on the calling
 *   thread.  Returns when the kernel has ended.  0 or a negative errno.
 * lkl_image_syscall: makes one system call on behalf of the calling host
 *   thread, which the kernel meets as one task of its process 1.  Returns the
 *   kernel's result, -EIO after the kernel has ended.
 * lkl_image_irq: raises an interrupt line; from any thread, at any time,
 *   also from inside an operation.  May run interrupt handlers on the calling
 *   thread when no other thread is in the kernel.
 * lkl_image_thread_exit: ends the calling host thread's task, if any.
 * lkl_image_fault: where a host's fault handler continues a thread that
 *   faulted inside the kernel (never returns).  @kind is the signal or
 *   exception number.  The stack pointer must be set to a stack with 16 KiB
 *   free, aligned as at a function's entry.
 * lkl_image_info: an object, struct lkl_image_info.
 */
#ifndef __KERNEL__
#define LKL_IMAGE_MEMBER(type, name, args) type(LKL_ABI *name) args;
/* The entry points of one loaded copy. */
struct lkl_image_entries {
	LKL_IMAGE_ENTRIES(LKL_IMAGE_MEMBER)
	const struct lkl_image_info *lkl_image_info;
};
#undef LKL_IMAGE_MEMBER
#endif

#endif
