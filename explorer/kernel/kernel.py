# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels and their disks."""

from __future__ import annotations

import struct
import threading
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from explorer.core.closing import Closing
from explorer.core.entries import (
    MASK_ACCESS,
    MASK_BIRTH,
    MASK_CHANGE,
    MASK_MODIFY,
    TYPE_NAMES,
    Entry,
    FileType,
)
from explorer.core.errors import ExplorerError, KernelError
from explorer.core.extents import ExtentKind
from explorer.kernel.binding import (
    Callbacks,
    LklDisk,
    LklDiskOperations,
    LklDiskStatistics,
    LklOptions,
    LklStatx,
    hold_image,
    load,
)
from explorer.kernel.calls import Kept, make_error, show_log
from explorer.kernel.devices import LAST_MESSAGES, BlockDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    import cffi

    from explorer.core.extents import Extent
    from explorer.kernel.binding import Binding, LklStatxTimestamp
    from explorer.kernel.devices import Mount

    CData = cffi.FFI.CData

_EIO = 5
_PATH_SIZE = 4096

# struct lkl_disk_extent
_EXTENT = struct.Struct("=QqQ")

# Errors that a failed read of the disk can come out as, and about which the log may tell more.
_READ_ERRORS = frozenset({"EIO", "EUCLEAN", "EBADMSG", "EINVAL", "ENODATA"})


class DiskReader(Protocol):
    """What every disk is read from."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of ``buffer`` from ``offset``; called from any thread, one at a time."""


class DiskSource(DiskReader, Protocol):
    """What a disk is made of; :class:`explorer.images.base.Image` is one."""

    def plain_file(self) -> int | None:
        """A descriptor to read directly, if the bytes lie in a file one for one."""

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """How a range is had: extents in order, without gaps, that cover it exactly.

        They stay true, and their descriptors open, as long as the disk.
        """


class DiskTarget(DiskReader, Protocol):
    """A scratch disk, which the kernel may write to."""

    def write_from(self, offset: int, buffer: memoryview) -> None:
        """Take all of ``buffer`` at ``offset``."""


class Partition(NamedTuple):
    """A partition as the kernel found it."""

    number: int
    """From 1, with gaps."""
    start: int
    """Bytes from the start of the disk."""
    size: int
    """Bytes."""
    read_only: bool


class DiskStatistics(NamedTuple):
    """What the kernel asked of a disk so far."""

    read_requests: int
    read_bytes: int
    read_errors: int
    write_requests: int
    write_bytes: int
    write_errors: int
    """Rejected, or the overlay was full."""
    overlay_bytes: int
    """Memory held by the overlay."""


class Kernel(Closing):
    """A Linux kernel in this process.

    A context manager: boots on entry, ends on exit. Any number of threads may call at once, but
    none may be in a call when it is closed.
    """

    def __init__(
        self, *, memory: int = 0, command_line: str = "", debug: bool = False, log_size: int = 0
    ) -> None:
        """Load a kernel.

        ``memory`` and ``log_size`` are bytes, 0 for the library's own choice; ``debug`` loads it so
        that debuggers see it.
        """
        self._binding = load()
        self._lock = threading.Lock()
        self._disks: dict[int, Disk] = {}
        self._pointer: CData | None = None
        ffi, library = self._binding.ffi, self._binding.library
        image = ffi.new("char[]", bytes(self._binding.build.image))
        parameters = ffi.new("char[]", command_line.encode())
        options = self._binding.new(LklOptions)
        options.image = image
        options.memory = memory
        options.command_line = parameters
        if debug:
            options.flags = library.LKL_OPTION_DLOPEN
        else:
            options.flags = library.LKL_OPTION_IMAGE_FD
            options.image_fd = hold_image()
        options.log_size = log_size
        pointer = ffi.new("struct lkl_kernel **")
        result = library.lkl_init(pointer, options)
        if result < 0:
            raise make_error(self._binding, -result, "lkl_init", bytes(self._binding.build.image))
        self._pointer = pointer[0]

    # ---- Life ----------------------------------------------------------------------------

    def start(self) -> None:
        """Boot it."""
        self.check(self._binding.library.lkl_start_kernel(self.pointer), "lkl_start_kernel")

    def close(self) -> None:
        """End the kernel in order, if it still runs, and free it; a second call does nothing."""
        if self._pointer is None:
            return
        library, pointer = self._binding.library, self._pointer
        if library.lkl_state(pointer) == library.LKL_STATE_RUNNING:
            # Whatever it says, what follows frees everything.
            library.lkl_halt(pointer)
        self._pointer = None
        library.lkl_destroy(pointer)
        self._disks.clear()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    @property
    def binding(self) -> Binding:
        """The library this kernel was loaded with."""
        return self._binding

    @property
    def pointer(self) -> CData:
        """The library's own handle."""
        if self._pointer is None:
            raise ValueError("the kernel is closed")
        return self._pointer

    @property
    def state(self) -> str:
        """``loaded``, ``running``, ``halted``, ``panicked``, ``faulted`` or ``closed``."""
        if self._pointer is None:
            return "closed"
        library = self._binding.library
        return {
            library.LKL_STATE_LOADED: "loaded",
            library.LKL_STATE_RUNNING: "running",
            library.LKL_STATE_HALTED: "halted",
            library.LKL_STATE_PANICKED: "panicked",
            library.LKL_STATE_FAULTED: "faulted",
        }[library.lkl_state(self._pointer)]

    @property
    def release(self) -> str:
        """Linux' release, as ``6.12.117``."""
        return self._binding.text(self._binding.library.lkl_release(self.pointer))

    @property
    def boot_ns(self) -> int:
        """Nanoseconds that booting took; 0 before."""
        return self._binding.library.lkl_boot_time(self.pointer)

    # ---- Log and errors ------------------------------------------------------------------

    def read_log(self, position: int = 0) -> tuple[bytes, int]:
        """The log from a position (bytes since boot) on, and the position after it."""
        ffi, library = self._binding.ffi, self._binding.library
        where = ffi.new("uint64_t *", position)
        size = 65536
        buffer = ffi.new("char[]", size)
        pieces: list[bytes] = []
        while count := library.lkl_log_read(self.pointer, where, buffer, size):
            pieces.append(bytes(ffi.buffer(buffer, count)))
        return b"".join(pieces), where[0]

    def log(self) -> str:
        """All of the log that is kept, as text that is safe to show."""
        return "\n".join(show_log(self.read_log()[0]))

    def messages_since(self, position: int) -> list[str]:
        """The lines the kernel logged after a position, safe to show."""
        return show_log(self.read_log(position)[0])

    def make_error(self, number: int, call: str, path: bytes = b"") -> KernelError:
        """The error for a positive errno, with no regard to the kernel's state."""
        return make_error(self._binding, number, call, path)

    def is_cancelled(self, result: int) -> bool:
        """Whether a result says that a callback cancelled the call."""
        return result < 0 and self.make_error(-result, "").name == "ECANCELED"

    def check(self, result: int, call: str, path: bytes = b"") -> int:
        """Turn a negative result into the exception it stands for; the only place that does.

        When a disk's own reader failed, its exception is raised: it says more than the I/O error
        that the kernel made of it.
        """
        if result >= 0:
            return result
        error = make_error(self._binding, -result, call, path)
        if error.name not in _READ_ERRORS or self._pointer is None:
            raise error
        error.log[:] = self.messages_since(0)[-LAST_MESSAGES:]
        if self.state != "running" and error.number == _EIO:
            raise KernelError(
                "kernel.ended",
                errno=error.number,
                name=error.name,
                call=call,
                reason=self.state,
                path=error.path,
                log=error.log,
            )
        for disk in tuple(self._disks.values()):
            failure = disk.take_failure()
            if failure is not None:
                raise failure from error
        raise error

    # ---- Descriptors ---------------------------------------------------------------------

    def close_descriptor(self, descriptor: int) -> None:
        """Close a file descriptor of the kernel; nothing to do when the kernel has ended."""
        if self.state == "running":
            self._binding.library.lkl_sys_close(self.pointer, descriptor)

    def stat_descriptor(self, descriptor: int, path: bytes) -> Entry:
        """The stat of an open descriptor, as an entry named by the path's last part."""
        library = self._binding.library
        found = self._binding.new(LklStatx)
        self.check(
            library.lkl_sys_statx(
                self.pointer,
                descriptor,
                b"",
                library.LKL_AT_EMPTY_PATH,
                library.LKL_STATX_BASIC_STATS | library.LKL_STATX_BTIME,
                found,
            ),
            "statx",
            path,
        )
        return _entry(path.rstrip(b"/").rpartition(b"/")[2], found)

    # ---- Disks ---------------------------------------------------------------------------

    def add_disk(
        self, source: DiskSource, *, overlay_limit: int = 0, block_size: int = 512
    ) -> Disk:
        """Add a disk that cannot be written to.

        What the kernel writes is an error, or goes into ``overlay_limit`` bytes of memory and is
        forgotten with the disk.
        """
        return self._add_disk(
            Disk(
                self,
                source,
                plain=source.plain_file(),
                extents=source.extents,
                overlay_limit=overlay_limit,
                block_size=block_size,
            )
        )

    def add_scratch_disk(self, target: DiskTarget, *, block_size: int = 512) -> Disk:
        """Add a disk that the kernel may write to; never for what a user opened."""
        return self._add_disk(Disk(self, target, write=target.write_from, block_size=block_size))

    def _add_disk(self, disk: Disk) -> Disk:
        with self._lock:
            self._disks[disk.number] = disk
        return disk

    def forget_disk(self, number: int) -> None:
        """Let go of a disk that was removed."""
        with self._lock:
            self._disks.pop(number, None)


class Disk(Closing):
    """A block device of the kernel. A context manager that removes it."""

    def __init__(
        self,
        kernel: Kernel,
        source: DiskReader,
        *,
        plain: int | None = None,
        extents: Callable[[int, int], Iterator[Extent]] | None = None,
        write: Callable[[int, memoryview], None] | None = None,
        overlay_limit: int = 0,
        block_size: int = 512,
    ) -> None:
        """Used by :meth:`Kernel.add_disk` and :meth:`Kernel.add_scratch_disk`."""
        self._kernel = kernel
        self._source = source
        self._kept = Kept()
        library = kernel.binding.library
        disk = kernel.binding.new(LklDisk)
        # What C holds pointers to lives as long as this object, which the kernel's table holds.
        self._held: list[object] = []
        if plain is not None:
            disk.fd = plain
        else:
            operations = kernel.binding.new(LklDiskOperations)
            callbacks = Callbacks(kernel.binding, self._kept)
            operations.read = callbacks.add("read", self._read)
            if extents is not None:
                self._extents = extents
                operations.map = callbacks.add("map", self._map)
            if write is not None:
                self._write_from = write
                operations.write = callbacks.add("write", self._write)
            self._held += (callbacks, operations)
            disk.operations = operations
            disk.opaque = callbacks.opaque
            disk.fd = -1
        disk.size = source.size
        disk.block_size = block_size
        disk.overlay_limit = overlay_limit
        self.number = kernel.check(library.lkl_disk_add(kernel.pointer, disk), "lkl_disk_add")

    def _read(self, offset: int, buffer: CData, length: int) -> int:
        view = memoryview(self._kernel.binding.ffi.buffer(buffer, length))
        self._source.read_into(offset, view)
        return 0

    def _map(self, offset: int, length: int, table: CData, count: int) -> int:
        view = self._kernel.binding.ffi.buffer(table, count * _EXTENT.size)
        library = self._kernel.binding.library
        found = 0
        # It is asked about more than is read: only a read of the very bytes may tell of an error.
        with suppress(ExplorerError):
            for extent in islice(self._extents(offset, length), count):
                if extent.kind is ExtentKind.DATA:
                    descriptor = extent.descriptor
                elif extent.kind is ExtentKind.ZERO:
                    descriptor = library.LKL_EXTENT_ZERO
                else:
                    descriptor = library.LKL_EXTENT_ENCODED
                _EXTENT.pack_into(
                    view, found * _EXTENT.size, extent.length, descriptor, extent.position
                )
                found += 1
        return found

    def _write(self, offset: int, buffer: CData, length: int) -> int:
        view = memoryview(self._kernel.binding.ffi.buffer(buffer, length)).toreadonly()
        self._write_from(offset, view)
        return 0

    def take_failure(self) -> BaseException | None:
        """The first exception of the source since the last call."""
        return self._kept.take()

    @property
    def kernel(self) -> Kernel:
        """The kernel it belongs to."""
        return self._kernel

    def partitions(self) -> list[Partition]:
        """The partitions the kernel found, ordered by number."""
        kernel, ffi, library = self._kernel, self._kernel.binding.ffi, self._kernel.binding.library
        count = 0
        while True:
            table = ffi.new("struct lkl_partition[]", count)
            found = kernel.check(
                library.lkl_disk_partitions(kernel.pointer, self.number, table, count),
                "lkl_disk_partitions",
            )
            if found <= count:
                return [
                    Partition(p.number, p.start, p.size, bool(p.read_only)) for p in table[0:found]
                ]
            count = found

    def statistics(self) -> DiskStatistics:
        """What was read and written so far."""
        kernel = self._kernel
        now = kernel.binding.new(LklDiskStatistics)
        kernel.check(
            kernel.binding.library.lkl_disk_statistics(kernel.pointer, self.number, now),
            "lkl_disk_statistics",
        )
        return DiskStatistics(
            now.read_requests,
            now.read_bytes,
            now.read_errors,
            now.write_requests,
            now.write_bytes,
            now.write_errors,
            now.overlay_bytes,
        )

    def mount(
        self,
        kind: str,
        *,
        partition: int = 0,
        options: str = "",
        read_only: bool = True,
    ) -> Mount:
        """Mount the disk (partition 0) or a partition as file system ``kind``."""
        return self.device(partition).mount(kind, options=options, read_only=read_only)

    def device(self, partition: int = 0) -> BlockDevice:
        """The disk (partition 0) or one of its partitions as a device of the kernel."""
        kernel, ffi = self._kernel, self._kernel.binding.ffi
        path = ffi.new("char[]", _PATH_SIZE)
        length = kernel.check(
            kernel.binding.library.lkl_disk_device(
                kernel.pointer, self.number, partition, path, _PATH_SIZE
            ),
            "lkl_disk_device",
        )
        return BlockDevice(kernel, bytes(ffi.buffer(path, length)))

    def close(self) -> None:
        """Remove the disk; nothing of it may be mounted. Nothing to do in a kernel that ended."""
        if self._kernel.state == "running":
            self._kernel.check(
                self._kernel.binding.library.lkl_disk_remove(self._kernel.pointer, self.number),
                "lkl_disk_remove",
            )
            self._kernel.forget_disk(self.number)


def _entry(name: bytes, found: LklStatx) -> Entry:
    """An entry from ``struct statx``."""

    def time(bit: int, stamp: LklStatxTimestamp) -> int | None:
        return stamp.tv_sec * 1_000_000_000 + stamp.tv_nsec if found.stx_mask & bit else None

    # A damaged image may say a type that is none.
    kind = found.stx_mode >> 12
    return Entry(
        name=name,
        type=kind if kind in TYPE_NAMES else FileType.UNKNOWN,
        error=0,
        depth=0,
        directory=0,
        number=0,
        mask=found.stx_mask,
        mode=found.stx_mode,
        uid=found.stx_uid,
        gid=found.stx_gid,
        links=found.stx_nlink,
        block_size=found.stx_blksize,
        inode=found.stx_ino,
        size=found.stx_size,
        blocks=found.stx_blocks,
        attributes=found.stx_attributes,
        device_major=found.stx_dev_major,
        device_minor=found.stx_dev_minor,
        special_major=found.stx_rdev_major,
        special_minor=found.stx_rdev_minor,
        access_ns=time(MASK_ACCESS, found.stx_atime),
        modify_ns=time(MASK_MODIFY, found.stx_mtime),
        change_ns=time(MASK_CHANGE, found.stx_ctime),
        birth_ns=time(MASK_BIRTH, found.stx_btime),
    )
