# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Block devices of a kernel, by their paths in its ``/dev``, and the file systems on them."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.closing import Closing
from explorer.core.entries import FileType
from explorer.core.errors import KernelError
from explorer.kernel.binding import LklStatfs
from explorer.kernel.calls import c_path
from explorer.kernel.files import Directory, File

if TYPE_CHECKING:
    from explorer.core.entries import Entry
    from explorer.kernel.kernel import Kernel

_PATH_SIZE = 4096
_LINK_LIMIT = 40
_SIZE_LIMIT = (1 << 63) - 1
LAST_MESSAGES = 8
"""Lines of the kernel's log that an error takes along."""

# include/uapi/asm-generic/unistd.h and include/uapi/linux/openat2.h
_NR_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10

# include/uapi/linux/fs.h: _IOR(0x12, 114, size_t)
_BLKGETSIZE64 = 0x80081272
# include/uapi/linux/blkpg.h: _IO(0x12, 105); struct blkpg_ioctl_arg and struct blkpg_partition
_BLKPG = 0x1269
_BLKPG_ADD_PARTITION = 1
_BLKPG_ARGUMENT = Struct("=i i i 4x Q")
_BLKPG_PARTITION = Struct("=q q i 64x 64x 4x")


class Capacity(NamedTuple):
    """How full a file system is, in bytes."""

    size: int
    free: int


class BlockDevice:
    """A block device of the kernel: a disk, a partition, or what is made of others."""

    def __init__(self, kernel: Kernel, path: bytes) -> None:
        """``path`` is in the kernel's ``/dev``, where its node is present."""
        self._kernel = kernel
        self._path = path

    @property
    def kernel(self) -> Kernel:
        """The kernel it belongs to."""
        return self._kernel

    @property
    def path(self) -> bytes:
        """Its node, as ``/dev/vda1``."""
        return self._path

    def open(self, *, read_only: bool = True) -> int:
        """A descriptor of the kernel to reach it by; the caller closes it."""
        library = self._kernel.binding.library
        return self._kernel.check(
            library.lkl_sys_openat(
                self._kernel.pointer,
                library.LKL_AT_FDCWD,
                self._path,
                (library.LKL_O_RDONLY if read_only else library.LKL_O_RDWR) | library.LKL_O_CLOEXEC,
                0,
            ),
            "openat",
            self._path,
        )

    def size(self) -> int:
        """Bytes."""
        ffi, library = self._kernel.binding.ffi, self._kernel.binding.library
        answer = ffi.new("uint64_t *")
        descriptor = self.open()
        try:
            self._kernel.check(
                library.lkl_sys_ioctl(self._kernel.pointer, descriptor, _BLKGETSIZE64, answer),
                "BLKGETSIZE64",
                self._path,
            )
        finally:
            self._kernel.close_descriptor(descriptor)
        return int(answer[0])

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``, fewer than ``length`` only at the end."""
        kernel, ffi = self._kernel, self._kernel.binding.ffi
        buffer = ffi.new("char[]", max(length, 1))
        descriptor = self.open()
        done = 0
        try:
            # What stands in the way of a read shows at its beginning only.
            while done < length:
                got = kernel.check(
                    kernel.binding.library.lkl_read_file(
                        kernel.pointer, descriptor, offset + done, buffer + done, length - done
                    ),
                    "read",
                    self._path,
                )
                if not got:
                    break
                done += got
        finally:
            kernel.close_descriptor(descriptor)
        return bytes(ffi.buffer(buffer, done))

    def add_partition(self, number: int, start: int, size: int) -> None:
        """Make a partition of it; ``start`` and ``size`` are bytes in whole blocks.

        Of a disk or loop device, whose own partitions it then is. Raises :exc:`KernelError`:
        ``EBUSY`` where it overlaps with another, ``EINVAL`` where it does not lie inside.
        """
        kernel, ffi = self._kernel, self._kernel.binding.ffi
        partition = ffi.new("char[]", _BLKPG_PARTITION.pack(start, size, number))
        address = int(ffi.cast("intptr_t", partition))
        argument = ffi.new(
            "char[]", _BLKPG_ARGUMENT.pack(_BLKPG_ADD_PARTITION, 0, _BLKPG_PARTITION.size, address)
        )
        descriptor = self.open()
        try:
            kernel.check(
                kernel.binding.library.lkl_sys_ioctl(kernel.pointer, descriptor, _BLKPG, argument),
                "BLKPG",
                self._path,
            )
        finally:
            kernel.close_descriptor(descriptor)

    def mount(self, kind: str, *, options: str = "", read_only: bool = True) -> Mount:
        """Mount it as file system ``kind``."""
        kernel, ffi, library = self._kernel, self._kernel.binding.ffi, self._kernel.binding.library
        path = ffi.new("char[]", _PATH_SIZE)
        position = kernel.read_log()[1]
        result = library.lkl_mount_device(
            kernel.pointer,
            self._path,
            kind.encode(),
            library.LKL_MS_RDONLY if read_only else 0,
            options.encode() if options else ffi.NULL,
            path,
            _PATH_SIZE,
        )
        try:
            kernel.check(result, "mount")
        except KernelError as error:
            # Only what this mount had to say.
            if error.code == "kernel.call":
                error.log[:] = kernel.messages_since(position)[-LAST_MESSAGES:]
            raise
        mount_point = ffi.string(path)
        return Mount(
            kernel,
            mount_point if isinstance(mount_point, bytes) else b"",
            kind,
            kernel.messages_since(position),
        )


class Mount(Closing):
    """A mounted file system. A context manager that unmounts it.

    Paths are bytes, from the file system's root, with or without a leading slash. Links are
    resolved as if that root were the only one: an absolute link, or any number of ``..``, stays
    inside.
    """

    def __init__(self, kernel: Kernel, mount_point: bytes, kind: str, messages: list[str]) -> None:
        """Used by :meth:`BlockDevice.mount`."""
        self._kernel = kernel
        self.messages = messages
        """What the kernel said while it mounted."""
        self._mount_point = mount_point
        self._kind = kind
        self._root: int | None = None
        library = kernel.binding.library
        self._root = kernel.check(
            library.lkl_sys_openat(
                kernel.pointer,
                library.LKL_AT_FDCWD,
                mount_point,
                library.LKL_O_PATH | library.LKL_O_DIRECTORY | library.LKL_O_CLOEXEC,
                0,
            ),
            "openat",
            b"/",
        )

    @property
    def kernel(self) -> Kernel:
        """The kernel it is mounted in."""
        return self._kernel

    @property
    def kind(self) -> str:
        """The file system's name in the kernel."""
        return self._kind

    @property
    def mount_point(self) -> bytes:
        """Where it stands in the kernel's own tree."""
        return self._mount_point

    def _open(self, path: bytes, flags: int) -> int:
        if self._root is None:
            raise ValueError("it is not mounted any more")
        kernel, ffi, library = self._kernel, self._kernel.binding.ffi, self._kernel.binding.library
        text = ffi.new("char[]", c_path(path) or b"/")
        how = ffi.new(
            "uint64_t[3]",
            [flags | library.LKL_O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS],
        )
        arguments = ffi.new(
            "int64_t[6]",
            [
                self._root,
                int(ffi.cast("intptr_t", text)),
                int(ffi.cast("intptr_t", how)),
                ffi.sizeof(how),
                0,
                0,
            ],
        )
        return kernel.check(
            library.lkl_syscall(kernel.pointer, _NR_OPENAT2, arguments), "openat2", path
        )

    def make_read_only(self, options: str = "") -> None:
        """Write what is left to be written, and nothing from then on; ``options`` as mounted."""
        kernel, ffi, library = self._kernel, self._kernel.binding.ffi, self._kernel.binding.library
        kernel.check(
            library.lkl_sys_mount(
                kernel.pointer,
                ffi.NULL,
                self._mount_point,
                ffi.NULL,
                library.LKL_MS_REMOUNT | library.LKL_MS_RDONLY,
                options.encode() if options else ffi.NULL,
            ),
            "mount",
        )

    def open_directory(self, path: bytes = b"/") -> Directory:
        """Open a directory."""
        library = self._kernel.binding.library
        return Directory(
            self._kernel, self._open(path, library.LKL_O_RDONLY | library.LKL_O_DIRECTORY), path
        )

    def open_file(self, path: bytes) -> File:
        """Open a regular file, through links; raises :exc:`KernelError` for anything else."""
        with self.open_directory(self._parent(path := self.resolve(path))) as parent:
            return parent.open_file(self._name(path))

    def stat(self, path: bytes, *, follow: bool = False) -> Entry:
        """The entry at a path; a link's own unless ``follow``."""
        library = self._kernel.binding.library
        flags = library.LKL_O_PATH | (0 if follow else library.LKL_O_NOFOLLOW)
        descriptor = self._open(path, flags)
        try:
            return self._kernel.stat_descriptor(descriptor, path)
        finally:
            self._kernel.close_descriptor(descriptor)

    def read_link(self, path: bytes) -> bytes:
        """A symbolic link's target."""
        kernel, library = self._kernel, self._kernel.binding.library
        descriptor = self._open(path, library.LKL_O_PATH | library.LKL_O_NOFOLLOW)
        try:
            buffer = kernel.binding.ffi.new("char[]", _PATH_SIZE)
            length = kernel.check(
                library.lkl_sys_readlinkat(kernel.pointer, descriptor, b"", buffer, _PATH_SIZE),
                "readlinkat",
                path,
            )
            return bytes(kernel.binding.ffi.buffer(buffer, length))
        finally:
            kernel.close_descriptor(descriptor)

    def read_xattrs(self, path: bytes) -> dict[bytes, bytes]:
        """The extended attributes of an entry, a link's own."""
        with self.open_directory(self._parent(path)) as parent:
            return parent.read_xattrs(self._name(path))

    def resolve(self, path: bytes) -> bytes:
        """A path to the same thing whose last part is no link."""
        for _ in range(_LINK_LIMIT):
            if self.stat(path).type != FileType.LINK:
                return path
            target = self.read_link(path)
            path = target if target.startswith(b"/") else self._parent(path) + b"/" + target
        # Let the kernel say that there are too many.
        self.stat(path, follow=True)
        return path

    @staticmethod
    def _parent(path: bytes) -> bytes:
        return path.rstrip(b"/").rpartition(b"/")[0] or b"/"

    @staticmethod
    def _name(path: bytes) -> bytes:
        return path.rstrip(b"/").rpartition(b"/")[2]

    def capacity(self) -> Capacity:
        """Size and free space, each below 2**63: a damaged image may say anything."""
        kernel = self._kernel
        with self.open_directory() as root:
            now = kernel.binding.new(LklStatfs)
            kernel.check(
                kernel.binding.library.lkl_sys_fstatfs(kernel.pointer, root.descriptor, now),
                "fstatfs",
                b"/",
            )
        unit = now.f_frsize or now.f_bsize
        size, free = (
            min(max(blocks * unit, 0), _SIZE_LIMIT) for blocks in (now.f_blocks, now.f_bfree)
        )
        return Capacity(size, free)

    def close(self) -> None:
        """Unmount; a second call does nothing, nor does one in a kernel that ended."""
        if self._root is None:
            return
        root, self._root = self._root, None
        self._kernel.close_descriptor(root)
        if self._kernel.state == "running":
            self._kernel.check(
                self._kernel.binding.library.lkl_umount(self._kernel.pointer, self._mount_point),
                "umount",
                self._mount_point,
            )
