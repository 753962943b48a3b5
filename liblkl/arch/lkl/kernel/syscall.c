// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/capability.h>
#include <linux/errno.h>
#include <linux/syscalls.h>
#include <linux/unistd.h>
#include <asm-generic/syscalls.h>
#include <asm/lkl.h>
#include <asm/syscall.h>

SYSCALL_DEFINE6(mmap, unsigned long, addr, unsigned long, len,
		unsigned long, prot, unsigned long, flags,
		unsigned long, fd, unsigned long, offset)
{
	if (offset & ~PAGE_MASK)
		return -EINVAL;
	return ksys_mmap_pgoff(addr, len, prot, flags, fd,
			       offset >> PAGE_SHIFT);
}

#define __SYSCALL(nr, call)	[nr] = (void *)(call),
#define __SYSCALL_WITH_COMPAT(nr, native, compat)	__SYSCALL(nr, native)

/* There is no signal frame to return from. */
#define sys_rt_sigreturn sys_ni_syscall

/*
 * What makes no sense for a host thread is taken out: it cannot be cloned,
 * replaced or ended by a system call, and has no address space or registers
 * that Linux could manage.
 */
static const lkl_syscall_t syscalls[__NR_syscalls] = {
	[0 ... __NR_syscalls - 1] = (void *)sys_ni_syscall,
#include <asm/syscall_table_64.h>
#define LKL_WITHOUT(name)	[__NR_##name] = (void *)sys_ni_syscall,
	LKL_WITHOUT(brk)
	LKL_WITHOUT(clone)
	LKL_WITHOUT(clone3)
	LKL_WITHOUT(execve)
	LKL_WITHOUT(execveat)
	LKL_WITHOUT(exit)
	LKL_WITHOUT(exit_group)
	LKL_WITHOUT(mremap)
	LKL_WITHOUT(process_vm_readv)
	LKL_WITHOUT(process_vm_writev)
	LKL_WITHOUT(ptrace)
	LKL_WITHOUT(rseq)
	LKL_WITHOUT(rt_sigaction)
	LKL_WITHOUT(set_robust_list)
	LKL_WITHOUT(set_tid_address)
	[LKL_NR_add_virtio_mmio] = (void *)sys_lkl_add_virtio_mmio,
	[LKL_NR_remove_virtio_mmio] = (void *)sys_lkl_remove_virtio_mmio,
};

s64 lkl_syscall(u64 nr, const s64 *args)
{
	if (nr >= __NR_syscalls)
		return -ENOSYS;
	return syscalls[nr](args[0], args[1], args[2], args[3], args[4],
			    args[5]);
}
