// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Gives up, for ever, what a process that reads an image does not need.
 *
 * The filter of system calls is a list of what is allowed.  What it refuses
 * fails with an errno, so that libraries that only try something go on: EACCES
 * for whatever would open a file, EPERM for the rest.
 */
#ifdef __linux__

#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* ---- Rights ------------------------------------------------------------ */

int lkn_die_with_parent(int parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return -errno;
	/* It may have died before. */
	return getppid() == parent ? 0 : -ESRCH;
}

int lkn_confine_rights(void)
{
	struct __user_cap_header_struct header = {
	    .version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &header, none) < 0)
		return -errno;
	return 0;
}

/* ---- Landlock ---------------------------------------------------------- */

/*
 * include/uapi/linux/landlock.h of Linux 6.12, as distributions' headers know
 * less than their kernels.
 */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

#define LANDLOCK_VERSION 1u

struct landlock_ruleset {
	uint64_t handled_access_fs;
	uint64_t handled_access_net; /* from version 4 on */
	uint64_t scoped;	     /* from version 6 on */
};

/* How many rights there are in each version, counted from bit 0. */
static unsigned int file_rights(int version)
{
	if (version >= 5)
		return 16; /* ioctl of devices */
	if (version >= 3)
		return 15; /* truncate */
	return version == 2 ? 14 /* refer */ : 13;
}

/* With what is not of files; a descriptor, or a negative errno. */
static int create_ruleset(struct landlock_ruleset *ruleset, int version)
{
	size_t size = offsetof(struct landlock_ruleset, handled_access_net);
	int fd;

	if (version >= 4) {
		ruleset->handled_access_net = 3; /* bind and connect, TCP */
		size = offsetof(struct landlock_ruleset, scoped);
	}
	if (version >= 6) {
		ruleset->scoped = 3; /* abstract sockets, signals */
		size = sizeof(*ruleset);
	}
	fd = (int)syscall(SYS_landlock_create_ruleset, ruleset, size, 0);
	return fd < 0 ? -errno : fd;
}

int lkn_confine_files(void)
{
	struct landlock_ruleset ruleset = {0};
	int version = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
				   LANDLOCK_VERSION);
	int fd, error = 0;

	if (version < 0)
		return -errno;
	ruleset.handled_access_fs = (UINT64_C(1) << file_rights(version)) - 1;
	fd = create_ruleset(&ruleset, version);
	if (fd < 0)
		return fd;
	/* No rule is added: nothing that is handled is allowed. */
	if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		error = -errno;
	close(fd);
	return error < 0 ? error : version;
}

/* Numbers of rights, counted from bit 0. */
enum {
	RIGHT_EXECUTE = 0,
	RIGHT_READ_FILE = 2,
	RIGHT_READ_FOLDER = 3,
	RIGHT_DEVICE = 15,
};

#define RIGHT(number) (UINT64_C(1) << (number))
#define RULE_BENEATH 1

struct landlock_beneath {
	uint64_t allowed_access;
	int32_t parent;
} __attribute__((packed));

int lkn_confine_writes(const int32_t *folders, size_t count)
{
	struct landlock_ruleset ruleset = {0};
	int version = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
				   LANDLOCK_VERSION);
	uint64_t rights;
	int fd, error = 0;

	if (version < 0)
		return -errno;
	rights = (RIGHT(file_rights(version)) - 1) &
		 ~(RIGHT(RIGHT_READ_FILE) | RIGHT(RIGHT_READ_FOLDER));
	ruleset.handled_access_fs = rights;
	fd = create_ruleset(&ruleset, version);
	if (fd < 0)
		return fd;
	for (size_t i = 0; i < count && !error; i++) {
		struct landlock_beneath rule = {
		    .allowed_access =
			rights & ~(RIGHT(RIGHT_EXECUTE) | RIGHT(RIGHT_DEVICE)),
		    .parent = folders[i],
		};

		if (syscall(SYS_landlock_add_rule, fd, RULE_BENEATH, &rule, 0) <
		    0)
			error = -errno;
	}
	if (!error && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		error = -errno;
	if (!error && syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		error = -errno;
	close(fd);
	return error < 0 ? error : version;
}

/* ---- Memory that is both written and executed -------------------------- */

int lkn_confine_memory(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	int count = 0;

	if (!maps)
		return -errno;
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end;
		char rights[5];

		if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) != 3 ||
		    rights[1] != 'w' || rights[2] != 'x')
			continue;
		if (mprotect((void *)start, end - start,
			     PROT_READ | PROT_EXEC) < 0) {
			count = -errno;
			break;
		}
		count++;
	}
	fclose(maps);
	return count;
}

/* ---- The filter of system calls ---------------------------------------- */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "no system calls known for this processor"
#endif

/* Numbers from here on are x32's on x86-64, and nobody's elsewhere. */
#define FOREIGN_CALLS 0x40000000

#define FILTER_SIZE 512

struct filter {
	struct sock_filter code[FILTER_SIZE];
	unsigned short length;
	bool overflow;
};

static void emit(struct filter *filter, uint16_t code, uint32_t value,
		 uint8_t if_true, uint8_t if_false)
{
	if (filter->length == FILTER_SIZE) {
		filter->overflow = true;
		return;
	}
	filter->code[filter->length++] =
	    (struct sock_filter){code, if_true, if_false, value};
}

static void load(struct filter *filter, size_t offset)
{
	emit(filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void give(struct filter *filter, uint32_t action)
{
	emit(filter, BPF_RET | BPF_K, action, 0, 0);
}

#define REFUSE(error) (SECCOMP_RET_ERRNO | (error))

/* Goes on only if the call is this one. */
static void allow(struct filter *filter, int call)
{
	emit(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1);
	give(filter, SECCOMP_RET_ALLOW);
}

static void refuse(struct filter *filter, int call, int error)
{
	emit(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1);
	give(filter, REFUSE(error));
}

/*
 * Rules about the arguments of one call: begin, any number of conditions that
 * allow or refuse, end.  Only the low half of an argument is looked at where
 * the kernel itself takes an int.
 */
static unsigned short begin_call(struct filter *filter, int call)
{
	emit(filter, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 1, 0);
	/* Where to go on is known at the end. */
	emit(filter, BPF_JMP | BPF_JA, 0, 0, 0);
	return filter->length - 1;
}

static void end_call(struct filter *filter, unsigned short begun,
		     uint32_t action)
{
	give(filter, action);
	filter->code[begun].k = filter->length - begun - 1u;
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the halves of arguments lie the other way round"
#endif

static void load_low(struct filter *filter, unsigned int argument)
{
	load(filter, offsetof(struct seccomp_data, args) + 8u * argument);
}

static void load_high(struct filter *filter, unsigned int argument)
{
	load(filter, offsetof(struct seccomp_data, args) + 8u * argument + 4);
}

/* After load_low. */
static void if_equal(struct filter *filter, uint32_t value, uint32_t action)
{
	emit(filter, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
	give(filter, action);
}

/* After load_low: if any of these bits is set. */
static void if_any(struct filter *filter, uint32_t bits, uint32_t action)
{
	emit(filter, BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
	give(filter, action);
}

static const int allowed[] = {
    /* What is done most stands first. */
    SYS_futex,
    SYS_preadv,
    SYS_pread64,
    SYS_read,
    SYS_write,
    SYS_lseek,
    SYS_munmap,
    SYS_madvise,
    SYS_rt_sigprocmask,
    SYS_clock_nanosleep,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_gettimeofday,
    SYS_nanosleep,
    SYS_restart_syscall,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    /* Descriptors that are there. */
    SYS_preadv2,
    SYS_pwrite64,
    SYS_pwritev,
    SYS_pwritev2,
    SYS_readv,
    SYS_writev,
    SYS_fstat,
    SYS_dup,
    SYS_pipe2,
    SYS_ppoll,
    SYS_pselect6,
    SYS_sendmsg,
    SYS_recvmsg,
    SYS_sendto,
    SYS_recvfrom,
    SYS_shutdown,
    SYS_getsockname,
    SYS_getsockopt,
    /* Memory. */
    SYS_brk,
    SYS_mremap,
    /* Threads and signals of one's own. */
    SYS_rseq,
    SYS_set_robust_list,
    SYS_sigaltstack,
    SYS_rt_sigaction,
    SYS_rt_sigreturn,
    SYS_rt_sigtimedwait,
    SYS_exit,
    SYS_exit_group,
    SYS_gettid,
    SYS_getpid,
    SYS_getppid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    /* What the machine is like. */
    SYS_getrandom,
    SYS_getrusage,
    SYS_getcpu,
    SYS_sysinfo,
    SYS_uname,
#ifdef __x86_64__
    SYS_poll,
    SYS_select,
    SYS_time,
#endif
};

/* A name that leads out must not look like a fault of the program. */
static const int openers[] = {
    SYS_openat,
#ifdef SYS_openat2
    SYS_openat2,
#endif
#ifdef __x86_64__
    SYS_open,	    SYS_creat,	   SYS_access,
    SYS_readlink,   SYS_stat,	   SYS_lstat,
#endif
    SYS_readlinkat, SYS_faccessat,
#ifdef SYS_faccessat2
    SYS_faccessat2,
#endif
    SYS_statx,	    SYS_execve,	   SYS_execveat,
};

/*
 * Executable memory is mapped from one descriptor, the kernel image's, which
 * nothing else can ever be put in the place of.
 */
static void filter_memory(struct filter *filter, int image)
{
	unsigned short call = begin_call(filter, SYS_mmap);

	load_low(filter, 2);
	emit(filter, BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0);
	give(filter, SECCOMP_RET_ALLOW);
	if_any(filter, PROT_WRITE, REFUSE(EPERM));
	load_low(filter, 3);
	if_any(filter, MAP_ANONYMOUS, REFUSE(EPERM));
	if (image >= 0) {
		load_low(filter, 4);
		if_equal(filter, (uint32_t)image, SECCOMP_RET_ALLOW);
	}
	end_call(filter, call, REFUSE(EPERM));

	call = begin_call(filter, SYS_mprotect);
	load_low(filter, 2);
	if_any(filter, PROT_EXEC, REFUSE(EPERM));
	end_call(filter, call, SECCOMP_RET_ALLOW);
}

static void filter_descriptors(struct filter *filter, int image)
{
	unsigned short call = begin_call(filter, SYS_close);

	load_low(filter, 0);
	if (image >= 0)
		if_equal(filter, (uint32_t)image, REFUSE(EPERM));
	end_call(filter, call, SECCOMP_RET_ALLOW);

	call = begin_call(filter, SYS_dup3);
	load_low(filter, 1);
	if (image >= 0)
		if_equal(filter, (uint32_t)image, REFUSE(EPERM));
	end_call(filter, call, SECCOMP_RET_ALLOW);
#ifdef SYS_dup2
	call = begin_call(filter, SYS_dup2);
	load_low(filter, 1);
	if (image >= 0)
		if_equal(filter, (uint32_t)image, REFUSE(EPERM));
	end_call(filter, call, SECCOMP_RET_ALLOW);
#endif

	call = begin_call(filter, SYS_fcntl);
	load_low(filter, 1);
	if_equal(filter, F_GETFD, SECCOMP_RET_ALLOW);
	if_equal(filter, F_SETFD, SECCOMP_RET_ALLOW);
	if_equal(filter, F_GETFL, SECCOMP_RET_ALLOW);
	if_equal(filter, F_DUPFD_CLOEXEC, SECCOMP_RET_ALLOW);
	end_call(filter, call, REFUSE(EPERM));

	/* Whether it is a terminal, and how wide; nothing is typed into it. */
	call = begin_call(filter, SYS_ioctl);
	load_low(filter, 1);
	if_equal(filter, TCGETS, SECCOMP_RET_ALLOW);
	if_equal(filter, TIOCGWINSZ, SECCOMP_RET_ALLOW);
	if_equal(filter, FIONBIO, SECCOMP_RET_ALLOW);
	if_equal(filter, FIOCLEX, SECCOMP_RET_ALLOW);
	if_equal(filter, FIONCLEX, SECCOMP_RET_ALLOW);
	end_call(filter, call, REFUSE(EPERM));
}

#define THREAD_FLAGS                                                           \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |    \
	 CLONE_SYSVSEM)
#define PROCESS_FLAGS                                                          \
	(CLONE_VFORK | CLONE_PTRACE | CLONE_NEWNS | CLONE_NEWCGROUP |          \
	 CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |          \
	 CLONE_NEWNET | CLONE_IO)

static void filter_processes(struct filter *filter)
{
	unsigned short call = begin_call(filter, SYS_clone);

	load_low(filter, 0);
	if_any(filter, PROCESS_FLAGS, REFUSE(EPERM));
	emit(filter, BPF_ALU | BPF_AND | BPF_K, THREAD_FLAGS, 0, 0);
	if_equal(filter, THREAD_FLAGS, SECCOMP_RET_ALLOW);
	end_call(filter, call, REFUSE(EPERM));

	/* Its flags lie in memory; the C library then asks the old way. */
	refuse(filter, SYS_clone3, ENOSYS);

	/* raise() and abort(). */
	call = begin_call(filter, SYS_tgkill);
	load_low(filter, 0);
	if_equal(filter, (uint32_t)getpid(), SECCOMP_RET_ALLOW);
	end_call(filter, call, REFUSE(EPERM));

	call = begin_call(filter, SYS_prctl);
	load_low(filter, 0);
	if_equal(filter, PR_SET_NAME, SECCOMP_RET_ALLOW);
	if_equal(filter, PR_GET_NAME, SECCOMP_RET_ALLOW);
	end_call(filter, call, REFUSE(EPERM));

	/* Of itself, and only to know. */
	call = begin_call(filter, SYS_prlimit64);
	load_low(filter, 0);
	emit(filter, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
	give(filter, REFUSE(EPERM));
	load_low(filter, 2);
	emit(filter, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
	give(filter, REFUSE(EPERM));
	load_high(filter, 2);
	if_equal(filter, 0, SECCOMP_RET_ALLOW);
	end_call(filter, call, REFUSE(EPERM));
}

static void make_filter(struct filter *filter, int image)
{
	load(filter, offsetof(struct seccomp_data, arch));
	emit(filter, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
	give(filter, SECCOMP_RET_KILL_PROCESS);
	load(filter, offsetof(struct seccomp_data, nr));
	emit(filter, BPF_JMP | BPF_JGE | BPF_K, FOREIGN_CALLS, 0, 1);
	give(filter, SECCOMP_RET_KILL_PROCESS);
	for (size_t i = 0; i < sizeof(allowed) / sizeof(*allowed); i++)
		allow(filter, allowed[i]);
	filter_memory(filter, image);
	filter_descriptors(filter, image);
	filter_processes(filter);
	for (size_t i = 0; i < sizeof(openers) / sizeof(*openers); i++)
		refuse(filter, openers[i], EACCES);
	/* The C library's fstat(): see on_refused(). */
	emit(filter, BPF_JMP | BPF_JEQ | BPF_K, SYS_newfstatat, 0, 1);
	give(filter, SECCOMP_RET_TRAP);
	give(filter, REFUSE(EPERM));
}

/* ---- fstat() ----------------------------------------------------------- */

/*
 * The C library asks for the state of a descriptor by a call that also takes a
 * path, which a filter cannot see.  It is answered by the one that does not.
 */
static void on_refused(int signal, siginfo_t *info, void *opaque)
{
	ucontext_t *context = opaque;
	int error = errno;
	long result = -EACCES;
	uint64_t arguments[4];

	(void)signal;
#if defined(__x86_64__)
	arguments[0] = (uint64_t)context->uc_mcontext.gregs[REG_RDI];
	arguments[1] = (uint64_t)context->uc_mcontext.gregs[REG_RSI];
	arguments[2] = (uint64_t)context->uc_mcontext.gregs[REG_RDX];
	arguments[3] = (uint64_t)context->uc_mcontext.gregs[REG_R10];
#else
	memcpy(arguments, context->uc_mcontext.regs, sizeof(arguments));
#endif
	if (info->si_syscall == SYS_newfstatat &&
	    arguments[3] & AT_EMPTY_PATH &&
	    *(const char *)(uintptr_t)arguments[1] == '\0') {
		result = syscall(SYS_fstat, arguments[0], arguments[2]);
		if (result < 0)
			result = -errno;
	}
#if defined(__x86_64__)
	context->uc_mcontext.gregs[REG_RAX] = result;
#else
	context->uc_mcontext.regs[0] = (uint64_t)result;
#endif
	errno = error;
}

int lkn_confine_calls(int image)
{
	struct filter filter = {.length = 0};
	struct sigaction action = {
	    .sa_sigaction = on_refused,
	    .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER,
	};
	struct sock_fprog program;
	long result;

	make_filter(&filter, image);
	if (filter.overflow)
		return -E2BIG;
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGSYS, &action, NULL) < 0)
		return -errno;
	program = (struct sock_fprog){filter.length, filter.code};
	result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			 SECCOMP_FILTER_FLAG_TSYNC, &program);
	if (result < 0)
		return -errno;
	/* The thread that cannot be confined like this one. */
	return result ? -EBUSY : 0;
}

#endif
