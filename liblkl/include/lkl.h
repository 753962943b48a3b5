/* SPDX-FileCopyrightText: LKL Explorer contributors */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Linux Kernel Library: Linux inside the calling process.
 *
 * A kernel is an object; a process may hold several.  Any number of threads
 * may call at once.  Results follow Linux: zero or a positive value on success,
 * a negative errno (asm-generic numbers, on every host) on failure; there is
 * no errno variable.  Once a kernel has ended (halt, panic, or a CPU fault
 * inside it) each call returns -EIO, lkl_state() tells why, lkl_log_read()
 * still works, and lkl_destroy() frees everything.
 *
 * No function of this library writes to a disk's source: see struct lkl_disk.
 *
 * Everything between "declarations" and "end of declarations" is plain C
 * without preprocessor conditions; the Python binding reads it as it stands.
 */
#ifndef LKL_H
#define LKL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__) && !defined(_WIN32)
#pragma GCC visibility push(default)
#endif

/* declarations */

/* ---- Life of a kernel -------------------------------------------------- */

struct lkl_kernel;

/* lkl_options.flags: load with the host's dlopen, so that debuggers see it. */
#define LKL_OPTION_DLOPEN 0x1
/* lkl_options.flags: the image is read from image_fd, for who may open none. */
#define LKL_OPTION_IMAGE_FD 0x2

struct lkl_options {
	const char *image;	  /* path of the kernel image file */
	uint64_t memory;	  /* bytes of kernel RAM; 0: 192 MiB */
	const char *command_line; /* more kernel parameters, or NULL */
	uint32_t flags;
	uint32_t log_size; /* bytes of log kept; 0: 256 KiB */
	int64_t image_fd;  /* open for reading; stays the caller's */
};

#define LKL_STATE_LOADED 0
#define LKL_STATE_RUNNING 1
#define LKL_STATE_HALTED 2
#define LKL_STATE_PANICKED 3
#define LKL_STATE_FAULTED 4

/* Loads the kernel image; nothing of it runs yet. */
int lkl_init(struct lkl_kernel **kernel, const struct lkl_options *options);

/* Boots it; returns when system calls can be made. */
int lkl_start_kernel(struct lkl_kernel *kernel);

/* Unmounts what lkl_mount_dev mounted, syncs, and ends the kernel in order. */
int lkl_halt(struct lkl_kernel *kernel);

/*
 * Frees a kernel in any state, its disks closed.  No other thread may be inside
 * a call or call again.
 */
void lkl_destroy(struct lkl_kernel *kernel);

/* One of LKL_STATE_*. */
int lkl_state(const struct lkl_kernel *kernel);

/* Linux' release, as "6.12.117"; valid from lkl_init on. */
const char *lkl_release(const struct lkl_kernel *kernel);

/* Nanoseconds that lkl_start_kernel took; 0 before. */
uint64_t lkl_boot_time(const struct lkl_kernel *kernel);

/*
 * The kernel's log: copies at most size bytes that follow position *position
 * (bytes since boot), advances it, and returns the number copied.  A reader
 * that fell behind the ring's tail is moved to the oldest byte kept.
 */
size_t lkl_log_read(struct lkl_kernel *kernel, uint64_t *position, char *buffer,
		    size_t size);

/* "ENOENT" and "No such file or directory" for -2 or 2; never NULL. */
const char *lkl_errno_name(int error);
const char *lkl_strerror(int error);

/* ---- Disks ------------------------------------------------------------- */

/* lkl_disk_extent.fd of bytes that are in no file as they are. */
#define LKL_EXTENT_ZERO (-1)	/* they are zeros */
#define LKL_EXTENT_ENCODED (-2) /* they are had by the read callback */

/* How the next bytes of a disk are had. */
struct lkl_disk_extent {
	uint64_t length;   /* bytes, at least 1 */
	int64_t fd;	   /* a file that holds them, or LKL_EXTENT_* */
	uint64_t position; /* bytes from the start of that file */
};

/*
 * Callbacks may come from any thread, one at a time per disk.  Each returns 0
 * or a negative errno, which the kernel sees as an I/O error.
 */
struct lkl_disk_operations {
	/* Fills all of buffer; the range lies inside the disk. */
	int (*read)(void *opaque, uint64_t offset, void *buffer, size_t length);
	/*
	 * Optional, for disks that are not evidence (scratch disks of tests).
	 * Without it a write fails, or goes into the overlay.
	 */
	int (*write)(void *opaque, uint64_t offset, const void *buffer,
		     size_t length);
	/* Optional: called once, at removal or lkl_destroy. */
	void (*close)(void *opaque);
	/*
	 * Optional, for disks that are not written to: tells where bytes come
	 * from, so that those of plain files are read, and zeros made, by the
	 * library itself.  Fills in at most count extents, one following the
	 * other from offset on, of at most length bytes together; the range,
	 * which may be larger than what the kernel asks for, lies inside the
	 * disk.  Returns their number; 0 when nothing can be told of offset,
	 * which then is read by the read callback; or a negative errno.  An
	 * answer that breaks these rules is an I/O error.
	 *
	 * An answer is kept, as long as there is room for it: it must stay
	 * true, and its files open, until the disk is removed.  What a file
	 * fails to give is asked of the read callback, whose word is final.
	 */
	int64_t (*map)(void *opaque, uint64_t offset, uint64_t length,
		       struct lkl_disk_extent *extents, size_t count);
};

struct lkl_disk {
	const struct lkl_disk_operations *operations; /* or NULL: use fd */
	void *opaque;
	/*
	 * The fast path for a plain file or block device: read by position
	 * by the library itself.  The library never writes to it; the caller
	 * keeps it open until the disk is removed and closes it.
	 */
	int64_t fd;
	uint64_t size;	     /* bytes; a partial last block reads as zeros */
	uint32_t block_size; /* logical: 512, 1024, 2048, 4096; 0: 512 */
	uint32_t flags;	     /* must be 0 */
	/*
	 * Bytes of an in-memory copy-on-write overlay: writes go there and
	 * are forgotten with the disk; beyond it a write fails, which the
	 * kernel sees as an I/O error (virtio has no other).  0: no overlay,
	 * the disk is read-only to the kernel.  Not together with a write
	 * callback.
	 */
	uint64_t overlay_limit;
};

struct lkl_disk_statistics {
	uint64_t read_requests;
	uint64_t read_bytes;
	uint64_t read_errors;
	uint64_t write_requests;
	uint64_t write_bytes;
	uint64_t write_errors;	/* rejected, or overlay full */
	uint64_t overlay_bytes; /* memory held by the overlay */
};

/*
 * Adds a disk at run time; returns its number (>= 0), which is not used again,
 * or a negative errno; nothing is taken then, and close not called.
 */
int lkl_disk_add(struct lkl_kernel *kernel, const struct lkl_disk *disk);

/* Removes it: -EBUSY while something of it is mounted. */
int lkl_disk_remove(struct lkl_kernel *kernel, int disk);

int lkl_disk_statistics(struct lkl_kernel *kernel, int disk,
			struct lkl_disk_statistics *statistics);

/*
 * Path in the kernel's /dev of a disk (partition 0) or of one of its
 * partitions, which may be beyond 15, with its node present.  Returns its
 * length or a negative errno.
 */
int lkl_disk_device(struct lkl_kernel *kernel, int disk, uint32_t partition,
		    char *path, size_t size);

struct lkl_partition {
	uint32_t number; /* as the kernel counts: from 1, with gaps */
	uint32_t read_only;
	uint64_t start; /* bytes */
	uint64_t size;	/* bytes */
};

/*
 * The partitions the kernel found, ordered by number: fills at most count and
 * returns how many there are.
 */
int lkl_disk_partitions(struct lkl_kernel *kernel, int disk,
			struct lkl_partition *partitions, size_t count);

/* ---- Mounts ------------------------------------------------------------ */

/*
 * Mounts a disk (partition 0) or partition below /mnt and writes the mount
 * point's path to path.  MS_NODEV, MS_NOSUID and MS_NOEXEC are always
 * added to flags.  options is comma-separated, or NULL.
 */
int lkl_mount_dev(struct lkl_kernel *kernel, int disk, uint32_t partition,
		  const char *type, uint32_t flags, const char *options,
		  char *path, size_t size);
/*
 * As lkl_mount_dev, of any block device by its path in the kernel's /dev: one
 * that the device mapper, MD or a loop made of disks.
 */
int lkl_mount_device(struct lkl_kernel *kernel, const char *device,
		     const char *type, uint32_t flags, const char *options,
		     char *path, size_t size);
/* Unmounts what stands at path and removes the mount point. */
int lkl_umount(struct lkl_kernel *kernel, const char *path);

/* ---- Bulk calls -------------------------------------------------------- */

/*
 * What statx(2) tells, packed.  A field whose LKL_STATX_* bit is not
 * in mask was not known to the file system and is 0.
 */
struct lkl_stat {
	uint32_t mask;
	uint16_t mode; /* type and permissions */
	uint16_t reserved;
	uint32_t uid;
	uint32_t gid;
	uint32_t links;
	uint32_t block_size;
	uint64_t inode;
	uint64_t size;
	uint64_t blocks; /* of 512 bytes */
	uint64_t attributes;
	uint32_t device_major; /* of the file system */
	uint32_t device_minor;
	uint32_t special_major; /* of a device node */
	uint32_t special_minor;
	int64_t access_seconds;
	int64_t modify_seconds;
	int64_t change_seconds;
	int64_t birth_seconds;
	uint32_t access_nanoseconds;
	uint32_t modify_nanoseconds;
	uint32_t change_nanoseconds;
	uint32_t birth_nanoseconds;
};

/* One record of lkl_read_directory and lkl_walk_read; 8-byte aligned. */
struct lkl_entry {
	uint32_t record_size; /* bytes to the next record */
	uint16_t name_length; /* bytes; the name follows this struct */
	uint8_t type;	      /* LKL_DT_*; from the mode when stat succeeded */
	uint8_t reserved;
	int32_t error;	    /* 0, or the negative errno that stat gave */
	uint32_t depth;	    /* walk: 1 for entries of the start directory */
	uint64_t directory; /* walk: number of the directory it stands in */
	uint64_t number;    /* walk: number of this directory, else 0 */
	struct lkl_stat stat;
	/* char name[name_length]: raw bytes, a NUL after them */
};

/*
 * Reads the next entries of an open directory, without "." and "..", into
 * buffer (8-byte aligned) as records one after another.  Returns the bytes
 * filled, 0 at the end, -EINVAL when buffer is too small for the next one
 * (65,536 is always enough).  An error in the middle comes with the call after
 * the entries before it.  The place is that of the file descriptor: rewind by
 * lkl_sys_lseek.
 */
int64_t lkl_read_directory(struct lkl_kernel *kernel, int directory,
			   void *buffer, size_t size);

struct lkl_walk;

/*
 * Walks the tree below an open directory, by handles, never following a
 * symbolic link nor leaving its mount (Btrfs subvolumes are entered).
 * Directories are numbered in the order met, the start being 0.  A directory
 * that cannot be read gives one more record with its own number, an empty name,
 * and the error; so do one that was met before, as corrupt images have it
 * (ELOOP), one where something else is mounted (EXDEV), and one deeper than
 * max_depth (ENAMETOOLONG; 0: 4096).
 */
int lkl_walk_open(struct lkl_kernel *kernel, int directory, uint32_t max_depth,
		  struct lkl_walk **walk);
/* As lkl_read_directory. */
int64_t lkl_walk_read(struct lkl_walk *walk, void *buffer, size_t size);
void lkl_walk_close(struct lkl_walk *walk);

/*
 * Opens a regular file for reading, never anything else: a fifo or device
 * gives -EINVAL, a directory -EISDIR, a link -ELOOP.
 */
int lkl_open_file(struct lkl_kernel *kernel, int directory, const char *name);

/* Reads until length bytes or the end; returns the bytes read. */
int64_t lkl_read_file(struct lkl_kernel *kernel, int fd, uint64_t offset,
		      void *buffer, size_t length);

/* lkl_copy_file.flags: holes are skipped in the target, which must be new. */
#define LKL_COPY_SPARSE 0x1

/*
 * Told the bytes that the target has grown by; non-zero cancels with
 * -ECANCELED.
 */
typedef int (*lkl_progress)(void *opaque, uint64_t bytes);

/*
 * Copies length bytes (UINT64_MAX: to the end) from offset of an open file to
 * the host's file descriptor, in large pieces, at the descriptor's position.
 * Returns the bytes that the target grew by, or a negative errno;
 * *host_error is 1 when that errno is the host's and not the kernel's.
 */
int64_t lkl_copy_file(struct lkl_kernel *kernel, int fd, uint64_t offset,
		      uint64_t length, int host_fd, uint32_t flags,
		      lkl_progress progress, void *opaque, int *host_error);

/*
 * All extended attributes of an entry (a link's own), as records: u32 name
 * length, u32 value length, name, value, padding to 8.  name may be "" for
 * the directory itself.  Returns the bytes filled, -ERANGE when buffer is
 * too small (512 KiB is enough unless a file system goes beyond Linux' own
 * limits).
 */
int64_t lkl_read_xattrs(struct lkl_kernel *kernel, int directory,
			const char *name, void *buffer, size_t size);

/* lkl_pack.flags */
#define LKL_PACK_XATTRS 0x1	 /* extended attributes too */
#define LKL_PACK_HOLES 0x2	 /* blocks that cannot be read cost no more */
#define LKL_PACK_FOLLOW 0x4	 /* links to files are sent as the files */
#define LKL_PACK_PLAN 0x8	 /* no content: what would be sent */
#define LKL_PACK_EVERY_LINK 0x10 /* each hard link with its content */

struct lkl_packer;

struct lkl_pack_progress {
	uint64_t entries; /* sent or refused */
	uint64_t bytes;	  /* of content, without holes */
	uint64_t errors;  /* entries not sent whole */
};

struct lkl_pack {
	uint32_t flags;
	uint32_t max_depth; /* 0: as deep as the stream can be */
	int socket;	    /* of the host, blocking; stays the caller's */
	int root;	    /* FOLLOW: a directory that no link leads out of */
	/*
	 * A disk and the bytes of it where the volume lies, if a file's bytes
	 * by FIEMAP are the volume's: large files are then sent as extents of
	 * the host's files as far as they are that.  It must not be removed
	 * before lkl_pack_close.  disk -1: all is read.
	 */
	int disk;
	uint64_t start, size;
	/* Called now and then; non-zero cancels. */
	int (*progress)(void *opaque, const struct lkl_pack_progress *progress);
	/*
	 * Called for each regular file that is read, after its content, and
	 * each directory entered: may send named streams.  Returns 0, or a
	 * negative errno when some could not be.
	 */
	int (*extra)(void *opaque, struct lkl_packer *packer,
		     const struct lkl_stat *stat);
	void *opaque;
};

/*
 * Sends trees of the kernel through a stream socket to a process that writes
 * them, in the form of shared/copy_stream.h.  One thread at a time; nothing is
 * held while it waits for the other side.  An entry that cannot be read is sent
 * as such and stops nothing.  What stops it is returned by this and all later
 * calls: -ECANCELED when cancelled or nobody listens any more, -EPROTO for an
 * answer that is none, -ENOMEM, -EIO when the kernel has ended.
 */
int lkl_pack_open(struct lkl_kernel *kernel, const struct lkl_pack *request,
		  struct lkl_packer **packer);

/*
 * Sends an entry of a directory, or the directory itself (name ""), with all
 * below it, under the name target.  target "": a directory's contents, into the
 * destination itself; else -ENOTDIR.  -EINVAL for a target that is no name.
 */
int lkl_pack_entry(struct lkl_packer *packer, int directory, const char *name,
		   const char *target);

/*
 * For lkl_pack.extra: begins a named stream of the file at work, and adds to
 * its content.  0 or what stopped the packer; -EINVAL for a name that is none.
 */
int lkl_pack_stream(struct lkl_packer *packer, const char *name);
int lkl_pack_stream_bytes(struct lkl_packer *packer, const void *bytes,
			  size_t length);

/* Tells that nothing follows: error 0, or why (a negative errno). */
int lkl_pack_finish(struct lkl_packer *packer, int error);

/* From any thread before lkl_pack_close: ends all that goes on or is begun. */
void lkl_pack_cancel(struct lkl_packer *packer);

/* What was sent so far; by the thread that sends. */
void lkl_pack_progress(const struct lkl_packer *packer,
		       struct lkl_pack_progress *progress);

/* From any thread: 1 while it waits for the other side, and for nothing else.
 */
int lkl_pack_waiting(const struct lkl_packer *packer);

void lkl_pack_close(struct lkl_packer *packer);

/*
 * Memory for direct I/O (LKL_O_DIRECT), from the kernel's own RAM: page
 * aligned, at most 16 MiB apiece; NULL when there is none.
 */
void *lkl_mem_alloc(struct lkl_kernel *kernel, size_t size);
void lkl_mem_free(struct lkl_kernel *kernel, void *memory, size_t size);

/* ---- System calls ------------------------------------------------------ */

/* Any system call by the kernel's number (asm-generic/unistd.h). */
int64_t lkl_syscall(struct lkl_kernel *kernel, int64_t number,
		    const int64_t arguments[6]);

#define LKL_AT_FDCWD (-100)
#define LKL_AT_SYMLINK_NOFOLLOW 0x100
#define LKL_AT_REMOVEDIR 0x200
#define LKL_AT_EMPTY_PATH 0x1000

#define LKL_O_RDONLY 0x0
#define LKL_O_WRONLY 0x1
#define LKL_O_RDWR 0x2
#define LKL_O_CREAT 0x40
#define LKL_O_EXCL 0x80
#define LKL_O_TRUNC 0x200
#define LKL_O_APPEND 0x400
#define LKL_O_NONBLOCK 0x800
#define LKL_O_DIRECT 0x4000
#define LKL_O_LARGEFILE 0x8000
#define LKL_O_DIRECTORY 0x10000
#define LKL_O_NOFOLLOW 0x20000
#define LKL_O_NOATIME 0x40000
#define LKL_O_CLOEXEC 0x80000
#define LKL_O_PATH 0x200000

#define LKL_RESOLVE_NO_XDEV 0x1
#define LKL_RESOLVE_NO_MAGICLINKS 0x2
#define LKL_RESOLVE_IN_ROOT 0x10

#define LKL_SEEK_SET 0
#define LKL_SEEK_CUR 1
#define LKL_SEEK_END 2
#define LKL_SEEK_DATA 3
#define LKL_SEEK_HOLE 4

#define LKL_FADV_DONTNEED 4

#define LKL_S_IFMT 0xf000
#define LKL_S_IFSOCK 0xc000
#define LKL_S_IFLNK 0xa000
#define LKL_S_IFREG 0x8000
#define LKL_S_IFBLK 0x6000
#define LKL_S_IFDIR 0x4000
#define LKL_S_IFCHR 0x2000
#define LKL_S_IFIFO 0x1000

#define LKL_DT_UNKNOWN 0
#define LKL_DT_FIFO 1
#define LKL_DT_CHR 2
#define LKL_DT_DIR 4
#define LKL_DT_BLK 6
#define LKL_DT_REG 8
#define LKL_DT_LNK 10
#define LKL_DT_SOCK 12

#define LKL_MS_RDONLY 0x1
#define LKL_MS_NOSUID 0x2
#define LKL_MS_NODEV 0x4
#define LKL_MS_NOEXEC 0x8
#define LKL_MS_REMOUNT 0x20
#define LKL_MS_NOATIME 0x400
#define LKL_MS_BIND 0x1000

#define LKL_MNT_FORCE 0x1
#define LKL_MNT_DETACH 0x2

#define LKL_STATX_TYPE 0x1
#define LKL_STATX_MODE 0x2
#define LKL_STATX_NLINK 0x4
#define LKL_STATX_UID 0x8
#define LKL_STATX_GID 0x10
#define LKL_STATX_ATIME 0x20
#define LKL_STATX_MTIME 0x40
#define LKL_STATX_CTIME 0x80
#define LKL_STATX_INO 0x100
#define LKL_STATX_SIZE 0x200
#define LKL_STATX_BLOCKS 0x400
#define LKL_STATX_BASIC_STATS 0x7ff
#define LKL_STATX_BTIME 0x800

struct lkl_timespec {
	int64_t tv_sec;
	int64_t tv_nsec;
};

struct lkl_statx_timestamp {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

/* struct open_how of include/uapi/linux/openat2.h */
struct lkl_open_how {
	uint64_t flags;
	uint64_t mode;
	uint64_t resolve;
};

/* struct statx of include/uapi/linux/stat.h */
struct lkl_statx {
	uint32_t stx_mask;
	uint32_t stx_blksize;
	uint64_t stx_attributes;
	uint32_t stx_nlink;
	uint32_t stx_uid;
	uint32_t stx_gid;
	uint16_t stx_mode;
	uint16_t spare0;
	uint64_t stx_ino;
	uint64_t stx_size;
	uint64_t stx_blocks;
	uint64_t stx_attributes_mask;
	struct lkl_statx_timestamp stx_atime;
	struct lkl_statx_timestamp stx_btime;
	struct lkl_statx_timestamp stx_ctime;
	struct lkl_statx_timestamp stx_mtime;
	uint32_t stx_rdev_major;
	uint32_t stx_rdev_minor;
	uint32_t stx_dev_major;
	uint32_t stx_dev_minor;
	uint64_t stx_mnt_id;
	uint32_t stx_dio_mem_align;
	uint32_t stx_dio_offset_align;
	uint64_t spare3[12];
};

/* struct statfs64 of include/uapi/asm-generic/statfs.h */
struct lkl_statfs {
	int64_t f_type;
	int64_t f_bsize;
	int64_t f_blocks;
	int64_t f_bfree;
	int64_t f_bavail;
	int64_t f_files;
	int64_t f_ffree;
	int32_t f_fsid[2];
	int64_t f_namelen;
	int64_t f_frsize;
	int64_t f_flags;
	int64_t f_spare[4];
};

/* struct linux_dirent64 of include/linux/dirent.h */
struct lkl_linux_dirent64 {
	uint64_t d_ino;
	int64_t d_off;
	uint16_t d_reclen;
	uint8_t d_type;
	/* char d_name[]: NUL-terminated, from byte 19 on */
};

/*
 * One function per system call.  Their numbers and argument counts are taken
 * from the kernel source at build time (liblkl/host/syscalls.py).
 */
int64_t lkl_sys_openat(struct lkl_kernel *kernel, int dirfd, const char *path,
		       int flags, uint32_t mode);
int64_t lkl_sys_openat2(struct lkl_kernel *kernel, int dirfd, const char *path,
			const struct lkl_open_how *how, size_t size);
int64_t lkl_sys_close(struct lkl_kernel *kernel, int fd);
int64_t lkl_sys_read(struct lkl_kernel *kernel, int fd, void *buffer,
		     size_t size);
int64_t lkl_sys_write(struct lkl_kernel *kernel, int fd, const void *buffer,
		      size_t size);
int64_t lkl_sys_pread64(struct lkl_kernel *kernel, int fd, void *buffer,
			size_t size, int64_t offset);
int64_t lkl_sys_pwrite64(struct lkl_kernel *kernel, int fd, const void *buffer,
			 size_t size, int64_t offset);
int64_t lkl_sys_lseek(struct lkl_kernel *kernel, int fd, int64_t offset,
		      int whence);
int64_t lkl_sys_getdents64(struct lkl_kernel *kernel, int fd, void *buffer,
			   uint32_t size);
int64_t lkl_sys_statx(struct lkl_kernel *kernel, int dirfd, const char *path,
		      int flags, uint32_t mask, struct lkl_statx *statx);
int64_t lkl_sys_readlinkat(struct lkl_kernel *kernel, int dirfd,
			   const char *path, char *buffer, int size);
int64_t lkl_sys_statfs(struct lkl_kernel *kernel, const char *path,
		       struct lkl_statfs *statfs);
int64_t lkl_sys_fstatfs(struct lkl_kernel *kernel, int fd,
			struct lkl_statfs *statfs);
int64_t lkl_sys_lgetxattr(struct lkl_kernel *kernel, const char *path,
			  const char *name, void *value, size_t size);
int64_t lkl_sys_fgetxattr(struct lkl_kernel *kernel, int fd, const char *name,
			  void *value, size_t size);
int64_t lkl_sys_llistxattr(struct lkl_kernel *kernel, const char *path,
			   char *list, size_t size);
int64_t lkl_sys_flistxattr(struct lkl_kernel *kernel, int fd, char *list,
			   size_t size);
int64_t lkl_sys_lsetxattr(struct lkl_kernel *kernel, const char *path,
			  const char *name, const void *value, size_t size,
			  int flags);
int64_t lkl_sys_mount(struct lkl_kernel *kernel, const char *source,
		      const char *target, const char *type, uint64_t flags,
		      const void *data);
int64_t lkl_sys_umount2(struct lkl_kernel *kernel, const char *path, int flags);
int64_t lkl_sys_mkdirat(struct lkl_kernel *kernel, int dirfd, const char *path,
			uint32_t mode);
int64_t lkl_sys_mknodat(struct lkl_kernel *kernel, int dirfd, const char *path,
			uint32_t mode, uint32_t device);
int64_t lkl_sys_unlinkat(struct lkl_kernel *kernel, int dirfd, const char *path,
			 int flags);
int64_t lkl_sys_linkat(struct lkl_kernel *kernel, int dirfd, const char *path,
		       int new_dirfd, const char *new_path, int flags);
int64_t lkl_sys_symlinkat(struct lkl_kernel *kernel, const char *target,
			  int dirfd, const char *path);
int64_t lkl_sys_renameat2(struct lkl_kernel *kernel, int dirfd,
			  const char *path, int new_dirfd, const char *new_path,
			  uint32_t flags);
int64_t lkl_sys_ftruncate(struct lkl_kernel *kernel, int fd, int64_t size);
int64_t lkl_sys_fallocate(struct lkl_kernel *kernel, int fd, int mode,
			  int64_t offset, int64_t length);
int64_t lkl_sys_fadvise64(struct lkl_kernel *kernel, int fd, int64_t offset,
			  int64_t length, int advice);
int64_t lkl_sys_fchmodat(struct lkl_kernel *kernel, int dirfd, const char *path,
			 uint32_t mode);
int64_t lkl_sys_fchownat(struct lkl_kernel *kernel, int dirfd, const char *path,
			 uint32_t uid, uint32_t gid, int flags);
int64_t lkl_sys_utimensat(struct lkl_kernel *kernel, int dirfd,
			  const char *path, const struct lkl_timespec times[2],
			  int flags);
int64_t lkl_sys_fsync(struct lkl_kernel *kernel, int fd);
int64_t lkl_sys_sync(struct lkl_kernel *kernel);
int64_t lkl_sys_ioctl(struct lkl_kernel *kernel, int fd, uint32_t request,
		      void *argument);
int64_t lkl_sys_fcntl(struct lkl_kernel *kernel, int fd, int command,
		      int64_t argument);
int64_t lkl_sys_dup(struct lkl_kernel *kernel, int fd);
int64_t lkl_sys_gettid(struct lkl_kernel *kernel);
int64_t lkl_sys_getpid(struct lkl_kernel *kernel);
int64_t lkl_sys_getppid(struct lkl_kernel *kernel);

/* end of declarations */

#if defined(__GNUC__) && !defined(_WIN32)
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
