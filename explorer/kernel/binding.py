# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: D102  (the functions are documented where they are declared)
"""The C library, as the header declares it.

cffi in ABI mode: the same library for every Python version. The declarations are read from
``lkl.h`` itself, and what cffi makes of them is kept beside the library for the next start.
:class:`Library` and the structs repeat them for the type checker only, and a test holds both
together.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from explorer.core.errors import ExplorerError, host_path
from explorer.native.declarations import read_types
from explorer.native.locate import find_build

if TYPE_CHECKING:
    from collections.abc import Callable

    import cffi

    from explorer.kernel.calls import Kept
    from explorer.native.locate import Build

    CData = cffi.FFI.CData

_Struct = TypeVar("_Struct")


class LklOptions:
    """``struct lkl_options``."""

    image: CData
    memory: int
    command_line: CData
    flags: int
    log_size: int
    image_fd: int


class LklDiskExtent:
    """``struct lkl_disk_extent``."""

    length: int
    fd: int
    position: int


class LklDiskOperations:
    """``struct lkl_disk_operations``."""

    read: CData
    write: CData
    close: CData
    map: CData


class LklDisk:
    """``struct lkl_disk``."""

    operations: LklDiskOperations
    opaque: CData
    fd: int
    size: int
    block_size: int
    flags: int
    overlay_limit: int


class LklDiskStatistics:
    """``struct lkl_disk_statistics``."""

    read_requests: int
    read_bytes: int
    read_errors: int
    write_requests: int
    write_bytes: int
    write_errors: int
    overlay_bytes: int


class LklPartition:
    """``struct lkl_partition``."""

    number: int
    read_only: int
    start: int
    size: int


class LklPack:
    """``struct lkl_pack``."""

    flags: int
    max_depth: int
    socket: int
    root: int
    disk: int
    start: int
    size: int
    progress: CData
    extra: CData
    opaque: CData


class LklPackProgress:
    """``struct lkl_pack_progress``."""

    entries: int
    bytes: int
    errors: int


class LklStatxTimestamp:
    """``struct lkl_statx_timestamp``."""

    tv_sec: int
    tv_nsec: int


class LklStatx:
    """``struct lkl_statx``."""

    stx_mask: int
    stx_blksize: int
    stx_attributes: int
    stx_nlink: int
    stx_uid: int
    stx_gid: int
    stx_mode: int
    stx_ino: int
    stx_size: int
    stx_blocks: int
    stx_atime: LklStatxTimestamp
    stx_btime: LklStatxTimestamp
    stx_ctime: LklStatxTimestamp
    stx_mtime: LklStatxTimestamp
    stx_rdev_major: int
    stx_rdev_minor: int
    stx_dev_major: int
    stx_dev_minor: int


class LklStatfs:
    """``struct lkl_statfs``."""

    f_bsize: int
    f_blocks: int
    f_bfree: int
    f_frsize: int


class Library(Protocol):
    """The functions and constants of ``lkl.h`` that are used from Python."""

    LKL_OPTION_DLOPEN: int
    LKL_OPTION_IMAGE_FD: int
    LKL_EXTENT_ZERO: int
    LKL_EXTENT_ENCODED: int
    LKL_STATE_LOADED: int
    LKL_STATE_RUNNING: int
    LKL_STATE_HALTED: int
    LKL_STATE_PANICKED: int
    LKL_STATE_FAULTED: int
    LKL_MS_RDONLY: int
    LKL_MS_REMOUNT: int
    LKL_AT_FDCWD: int
    LKL_AT_EMPTY_PATH: int
    LKL_O_RDONLY: int
    LKL_O_WRONLY: int
    LKL_O_RDWR: int
    LKL_O_NONBLOCK: int
    LKL_O_DIRECTORY: int
    LKL_O_NOFOLLOW: int
    LKL_O_CLOEXEC: int
    LKL_O_PATH: int
    LKL_SEEK_SET: int
    LKL_SEEK_DATA: int
    LKL_STATX_BASIC_STATS: int
    LKL_STATX_BTIME: int
    LKL_COPY_SPARSE: int
    LKL_PACK_XATTRS: int
    LKL_PACK_HOLES: int
    LKL_PACK_FOLLOW: int
    LKL_PACK_PLAN: int
    LKL_PACK_EVERY_LINK: int

    def lkl_init(self, kernel: CData, options: LklOptions) -> int: ...
    def lkl_start_kernel(self, kernel: CData) -> int: ...
    def lkl_halt(self, kernel: CData) -> int: ...
    def lkl_destroy(self, kernel: CData) -> None: ...
    def lkl_state(self, kernel: CData) -> int: ...
    def lkl_release(self, kernel: CData) -> CData: ...
    def lkl_boot_time(self, kernel: CData) -> int: ...
    def lkl_log_read(self, kernel: CData, position: CData, buffer: CData, size: int) -> int: ...
    def lkl_errno_name(self, error: int) -> CData: ...
    def lkl_strerror(self, error: int) -> CData: ...
    def lkl_disk_add(self, kernel: CData, disk: LklDisk) -> int: ...
    def lkl_disk_remove(self, kernel: CData, disk: int) -> int: ...
    def lkl_disk_statistics(
        self, kernel: CData, disk: int, statistics: LklDiskStatistics
    ) -> int: ...
    def lkl_disk_device(
        self, kernel: CData, disk: int, partition: int, path: CData, size: int
    ) -> int: ...
    def lkl_disk_partitions(
        self, kernel: CData, disk: int, partitions: CData, count: int
    ) -> int: ...
    def lkl_mount_device(
        self,
        kernel: CData,
        device: bytes,
        type: bytes,  # noqa: A002  # the header's word
        flags: int,
        options: CData | bytes,
        path: CData,
        size: int,
    ) -> int: ...
    def lkl_umount(self, kernel: CData, path: bytes) -> int: ...
    def lkl_read_directory(
        self, kernel: CData, directory: int, buffer: CData, size: int
    ) -> int: ...
    def lkl_walk_open(self, kernel: CData, directory: int, max_depth: int, walk: CData) -> int: ...
    def lkl_walk_read(self, walk: CData, buffer: CData, size: int) -> int: ...
    def lkl_walk_close(self, walk: CData) -> None: ...
    def lkl_open_file(self, kernel: CData, directory: int, name: bytes) -> int: ...
    def lkl_read_file(
        self, kernel: CData, fd: int, offset: int, buffer: CData, length: int
    ) -> int: ...
    def lkl_copy_file(
        self,
        kernel: CData,
        fd: int,
        offset: int,
        length: int,
        host_fd: int,
        flags: int,
        progress: CData,
        opaque: CData,
        host_error: CData,
    ) -> int: ...
    def lkl_read_xattrs(
        self, kernel: CData, directory: int, name: bytes, buffer: CData, size: int
    ) -> int: ...
    def lkl_pack_open(self, kernel: CData, request: LklPack, packer: CData) -> int: ...
    def lkl_pack_entry(self, packer: CData, directory: int, name: bytes, target: bytes) -> int: ...
    def lkl_pack_stream(self, packer: CData, name: bytes) -> int: ...
    def lkl_pack_stream_bytes(self, packer: CData, bytes: bytes, length: int) -> int: ...  # noqa: A002  # the header's word
    def lkl_pack_finish(self, packer: CData, error: int) -> int: ...
    def lkl_pack_progress(self, packer: CData, progress: LklPackProgress) -> None: ...
    def lkl_pack_waiting(self, packer: CData) -> int: ...
    def lkl_pack_cancel(self, packer: CData) -> None: ...
    def lkl_pack_close(self, packer: CData) -> None: ...
    def lkl_syscall(self, kernel: CData, number: int, arguments: CData) -> int: ...
    def lkl_sys_openat(
        self, kernel: CData, dirfd: int, path: bytes, flags: int, mode: int
    ) -> int: ...
    def lkl_sys_close(self, kernel: CData, fd: int) -> int: ...
    def lkl_sys_write(self, kernel: CData, fd: int, buffer: bytes, size: int) -> int: ...
    def lkl_sys_lseek(self, kernel: CData, fd: int, offset: int, whence: int) -> int: ...
    def lkl_sys_statx(
        self, kernel: CData, dirfd: int, path: bytes, flags: int, mask: int, statx: LklStatx
    ) -> int: ...
    def lkl_sys_readlinkat(
        self, kernel: CData, dirfd: int, path: bytes, buffer: CData, size: int
    ) -> int: ...
    def lkl_sys_ioctl(self, kernel: CData, fd: int, request: int, argument: CData) -> int: ...
    def lkl_sys_fstatfs(self, kernel: CData, fd: int, statfs: LklStatfs) -> int: ...
    def lkl_sys_mount(
        self,
        kernel: CData,
        source: bytes | CData,
        target: bytes,
        kind: bytes | CData,
        flags: int,
        data: bytes | CData,
    ) -> int: ...


@dataclass(frozen=True, slots=True)
class Binding:
    """The library, loaded, with the types of its header."""

    build: Build
    ffi: cffi.FFI
    library: Library
    entries: dict[str, CData]
    """See :class:`Callbacks`."""

    def new(self, struct: type[_Struct]) -> _Struct:
        """A zeroed C struct; it lives as long as the object."""
        name = "_".join(re.findall("[A-Z][a-z]+", struct.__name__)).lower()
        return cast("_Struct", self.ffi.new(f"struct {name} *"))

    def buffer(self, size: int) -> CData:
        """Memory for records, aligned as they are; zeroed."""
        return self.ffi.new("uint64_t[]", -(-size // 8))

    def text(self, string: CData) -> str:
        """A C string of the library's own, which are ASCII."""
        text = self.ffi.string(string)
        return text.decode("ascii", "backslashreplace") if isinstance(text, bytes) else text


class Callbacks:
    """C functions that call Python's, as long as the object lives.

    An exception is kept, and C sees -EIO: a failed read, or the wish to cancel.
    """

    def __init__(self, binding: Binding, kept: Kept) -> None:
        self._binding = binding
        self._functions: dict[str, Callable[..., int]] = {}
        self.kept = kept
        self.opaque: CData = binding.ffi.new_handle(self)
        """What C has to hand to each of them as the first argument."""

    def add(self, name: str, function: Callable[..., int]) -> CData:
        """The C function, of a signature by its name in :data:`_SIGNATURES`."""
        self._functions[name] = function
        return self._binding.entries[name]

    def call(self, name: str, arguments: tuple[Any, ...]) -> int:
        """Used by the C functions."""
        return self._functions[name](*arguments)


_SIGNATURES = {
    "read": "int(void *, uint64_t, void *, size_t)",
    "write": "int(void *, uint64_t, const void *, size_t)",
    "map": "int64_t(void *, uint64_t, uint64_t, struct lkl_disk_extent *, size_t)",
    "copied": "int(void *, uint64_t)",
    "packed": "int(void *, const struct lkl_pack_progress *)",
    "extra": "int(void *, struct lkl_packer *, const struct lkl_stat *)",
}
_EIO = 5


def _make_entries(ffi: cffi.FFI) -> dict[str, CData]:
    """A C function of each signature; made once, for a confined process can make no code."""

    def make(name: str, signature: str) -> CData:
        def enter(opaque: CData, *arguments: Any) -> int:  # noqa: ANN401  # as declared
            callbacks: Callbacks = ffi.from_handle(opaque)
            return callbacks.call(name, arguments)

        def keep(kind: object, error: object, trace: Any) -> None:  # noqa: ANN401  # a traceback
            opaque = trace.tb_frame.f_locals["opaque"]
            callbacks: Callbacks = ffi.from_handle(opaque)
            callbacks.kept.keep(kind, error, trace)

        made = ffi.callback(signature, enter, error=-_EIO, onerror=keep)
        return cast("CData", made)

    return {name: make(name, signature) for name, signature in _SIGNATURES.items()}


@cache
def hold_image() -> int:
    """The kernel image's file, opened once for all kernels; raises :exc:`ExplorerError`.

    A process that is to be confined opens it before.
    """
    path = load().build.image
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as failure:
        raise ExplorerError("kernel.load", path=host_path(path), reason=str(failure)) from failure


@cache
def load() -> Binding:
    """Load the library, once per process; raises :exc:`ExplorerError`."""
    build = find_build()
    ffi = read_types(build.library, build.header)
    try:
        library = cast("Library", ffi.dlopen(str(build.library)))
    except OSError as failure:
        raise ExplorerError(
            "kernel.load", path=host_path(build.library), reason=str(failure)
        ) from failure
    return Binding(build, ffi, library, _make_entries(ffi))
