# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories and files of a mounted file system.

Everything is by handle, below an open directory: a name is one component, never a path, and no
link is followed. Objects are used by one thread at a time, different ones by different threads.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING

from explorer.core.closing import Closing
from explorer.core.entries import Entry, iter_entries
from explorer.core.errors import ExportError, RecordError
from explorer.kernel.binding import Callbacks
from explorer.kernel.calls import Kept, c_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import cffi

    from explorer.kernel.kernel import Kernel

    CData = cffi.FFI.CData

BATCH_SIZE = 256 * 1024
"""Bytes of records read at once: about 1,500 entries."""

_XATTRS_SIZES = (4096, 512 * 1024)
"""Memory for an entry's attributes: mostly they are few."""
_XATTR_HEAD = Struct("<II")
_WHOLE_FILE = 2**64 - 1
_HASH_PIECE = 1024 * 1024


class _Handle(Closing):
    """An open file descriptor of the kernel."""

    def __init__(self, kernel: Kernel, descriptor: int, path: bytes) -> None:
        self._kernel = kernel
        self._descriptor: int | None = descriptor
        self._path = path

    @property
    def descriptor(self) -> int:
        """The kernel's file descriptor; not one of the host's."""
        if self._descriptor is None:
            raise ValueError("it is closed")
        return self._descriptor

    @property
    def path(self) -> bytes:
        """The path it was opened by, for messages."""
        return self._path

    def close(self) -> None:
        """Close it; a second call does nothing."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._kernel.close_descriptor(descriptor)


def decode_xattrs(records: bytes | memoryview) -> dict[bytes, bytes]:
    """The records of ``lkl_read_xattrs`` as names and values."""
    view = memoryview(records)
    found: dict[bytes, bytes] = {}
    offset = 0
    while offset < len(view):
        if len(view) - offset < _XATTR_HEAD.size:
            raise RecordError("record.xattr", reason="a record is cut off")
        name_length, value_length = _XATTR_HEAD.unpack_from(view, offset)
        name_at = offset + _XATTR_HEAD.size
        value_at = name_at + name_length
        end = value_at + value_length
        if not name_length or end > len(view):
            raise RecordError("record.xattr", reason="a wrong size")
        found[bytes(view[name_at:value_at])] = bytes(view[value_at:end])
        offset = end + -end % 8
    return found


class Directory(_Handle):
    """An open directory."""

    def read_entries(self, size: int = BATCH_SIZE) -> bytes:
        """The next entries, without ``.`` and ``..``, as packed records; empty at the end.

        :func:`explorer.core.entries.iter_entries` decodes them. ``size`` is the most bytes wanted,
        at least 65,536.
        """
        kernel = self._kernel
        buffer = kernel.binding.buffer(size)
        filled = kernel.check(
            kernel.binding.library.lkl_read_directory(
                kernel.pointer, self.descriptor, buffer, size
            ),
            "getdents64",
            self._path,
        )
        return bytes(kernel.binding.ffi.buffer(buffer, filled))

    def __iter__(self) -> Iterator[Entry]:
        while batch := self.read_entries():
            yield from iter_entries(batch)

    def rewind(self) -> None:
        """Let the next :meth:`read_entries` begin anew."""
        kernel, library = self._kernel, self._kernel.binding.library
        kernel.check(
            library.lkl_sys_lseek(kernel.pointer, self.descriptor, 0, library.LKL_SEEK_SET),
            "lseek",
            self._path,
        )

    def open_file(self, name: bytes) -> File:
        """Open a regular file of this directory; anything else, links too, is an error."""
        kernel = self._kernel
        path = self._path.rstrip(b"/") + b"/" + name
        descriptor = kernel.check(
            kernel.binding.library.lkl_open_file(kernel.pointer, self.descriptor, c_path(name)),
            "openat",
            path,
        )
        return File(kernel, descriptor, path)

    def walk(self, max_depth: int = 0) -> Walk:
        """Walk the tree below; ``max_depth`` 0 is the library's own bound."""
        return Walk(self._kernel, self.descriptor, max_depth, self._path)

    def read_xattrs(self, name: bytes = b"") -> dict[bytes, bytes]:
        """The extended attributes of an entry (a link's own), or of the directory itself."""
        kernel = self._kernel
        small, large = _XATTRS_SIZES
        buffer, filled = self._fill_xattrs(name, small)
        if filled < 0 and kernel.make_error(-filled, "getxattr").name == "ERANGE":
            buffer, filled = self._fill_xattrs(name, large)
        kernel.check(filled, "getxattr", self._path.rstrip(b"/") + b"/" + name)
        return decode_xattrs(bytes(kernel.binding.ffi.buffer(buffer, filled)))

    def _fill_xattrs(self, name: bytes, size: int) -> tuple[CData, int]:
        kernel = self._kernel
        buffer = kernel.binding.buffer(size)
        return buffer, kernel.binding.library.lkl_read_xattrs(
            kernel.pointer, self.descriptor, c_path(name), buffer, size
        )


class Walk(Closing):
    """A walk through a tree, by handles, that neither follows links nor leaves the file system."""

    def __init__(self, kernel: Kernel, descriptor: int, max_depth: int, path: bytes) -> None:
        self._kernel = kernel
        self._path = path
        pointer = kernel.binding.ffi.new("struct lkl_walk **")
        kernel.check(
            kernel.binding.library.lkl_walk_open(kernel.pointer, descriptor, max_depth, pointer),
            "walk",
            path,
        )
        self._pointer = pointer[0]

    def read(self, size: int = BATCH_SIZE) -> bytes:
        """The next entries as packed records; empty at the end."""
        if self._pointer is None:
            raise ValueError("the walk is closed")
        kernel = self._kernel
        buffer = kernel.binding.buffer(size)
        filled = kernel.check(
            kernel.binding.library.lkl_walk_read(self._pointer, buffer, size), "walk", self._path
        )
        return bytes(kernel.binding.ffi.buffer(buffer, filled))

    def __iter__(self) -> Iterator[Entry]:
        while batch := self.read():
            yield from iter_entries(batch)

    def close(self) -> None:
        """End the walk; a second call does nothing."""
        if self._pointer is not None:
            self._kernel.binding.library.lkl_walk_close(self._pointer)
            self._pointer = None


class File(_Handle):
    """An open regular file."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self._kernel.stat_descriptor(self.descriptor, self._path).size

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> int:
        """Fill ``buffer`` from ``offset``; returns the bytes read, fewer only at the end."""
        kernel = self._kernel
        with kernel.binding.ffi.from_buffer(buffer, require_writable=True) as target:
            return kernel.check(
                kernel.binding.library.lkl_read_file(
                    kernel.pointer, self.descriptor, offset, target, len(buffer)
                ),
                "read",
                self._path,
            )

    def next_data(self, offset: int, size: int) -> int:
        """Where the next byte that is not in a hole stands, from ``offset`` on; ``size`` if none.

        A file system that knows no holes answers ``offset``.
        """
        kernel, library = self._kernel, self._kernel.binding.library
        found = library.lkl_sys_lseek(
            kernel.pointer, self.descriptor, offset, library.LKL_SEEK_DATA
        )
        if found < 0 and kernel.make_error(-found, "lseek").name == "ENXIO":
            # Beyond the last data.
            return size
        return min(kernel.check(found, "lseek", self._path), size)

    def read_at(self, offset: int, length: int) -> bytes:
        """At most ``length`` bytes from ``offset``, fewer only at the end."""
        buffer = bytearray(length)
        return bytes(memoryview(buffer)[: self.read_into(offset, buffer)])

    def sha256(self) -> bytes:
        """The digest of all of it."""
        # Brings OpenSSL, which most commands do without.
        import hashlib

        digest = hashlib.sha256()
        buffer = memoryview(bytearray(_HASH_PIECE))
        offset = 0
        while count := self.read_into(offset, buffer):
            digest.update(buffer[:count])
            offset += count
        return digest.digest()

    def copy_to_fd(
        self,
        host_descriptor: int,
        *,
        offset: int = 0,
        length: int | None = None,
        sparse: bool = False,
        progress: Callable[[int], bool] | None = None,
    ) -> int:
        """Copy to a descriptor of the host, at its position; returns the bytes it grew by.

        ``sparse`` skips holes in the target, which must be a new file. ``progress`` gets the bytes
        so far and cancels by True. Raises :exc:`KernelError` when the image cannot be read, a plain
        :exc:`OSError` when the host cannot write, :exc:`ExportError` when cancelled.
        """
        kernel, ffi, library = self._kernel, self._kernel.binding.ffi, self._kernel.binding.library
        kept = Kept()

        def on_progress(count: int) -> int:
            return int(progress is not None and bool(progress(count)))

        callbacks = Callbacks(kernel.binding, kept)
        host_error = ffi.new("int *")
        grown = library.lkl_copy_file(
            kernel.pointer,
            self.descriptor,
            offset,
            _WHOLE_FILE if length is None else length,
            host_descriptor,
            library.LKL_COPY_SPARSE if sparse else 0,
            callbacks.add("copied", on_progress),
            callbacks.opaque,
            host_error,
        )
        kept.raise_kept()
        if kernel.is_cancelled(grown):
            raise ExportError("export.cancelled")
        if grown < 0 and host_error[0]:
            raise OSError(-grown, os.strerror(-grown))
        return kernel.check(grown, "read", self._path)
