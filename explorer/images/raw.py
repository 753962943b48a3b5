# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The raw format: a file or block device whose bytes are the disk's."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from explorer.core.errors import SourceError, host_path, source_error
from explorer.core.extents import Extent, ExtentKind
from explorer.images.base import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

# include/uapi/linux/fs.h: _IOR(0x12, 114, size_t) and _IO(0x12, 104)
_BLKGETSIZE64 = 0x80081272
_BLKSSZGET = 0x1268

# Linux reads at most this much at once (MAX_RW_COUNT), whatever is asked for.
_LARGEST_READ = 0x7FFFF000


def _device_number(descriptor: int, request: int, size: int) -> int:
    # Not on every host, and not needed for files.
    import fcntl

    answer = fcntl.ioctl(descriptor, request, bytes(size))
    return int.from_bytes(answer, "little")


class RawImage(Image):
    """A plain file, or a block device, opened for reading only."""

    format = "raw"

    def __init__(self, path: str | bytes | os.PathLike[str]) -> None:
        """Open ``path``; raises :exc:`SourceError`."""
        self._path = host_path(path)
        self._block_size = 512
        self._descriptor: int | None = None
        try:
            # O_NONBLOCK: a fifo of this name must not hold the program up.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as failure:
            raise source_error(path, failure) from failure
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISREG(mode):
                self._size = os.fstat(descriptor).st_size
            elif stat.S_ISBLK(mode):
                self._size = _device_number(descriptor, _BLKGETSIZE64, 8)
                self._block_size = _device_number(descriptor, _BLKSSZGET, 4)
            else:
                code = "source.directory" if stat.S_ISDIR(mode) else "source.kind"
                raise SourceError(code, path=self._path)
            if self._size == 0:
                raise SourceError("source.empty", path=self._path)
        except OSError as failure:
            os.close(descriptor)
            raise source_error(path, failure) from failure
        except SourceError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    @property
    def path(self) -> str:
        """The file's path, safe to show."""
        return self._path

    @property
    def size(self) -> int:
        """Bytes of the file or device."""
        return self._size

    @property
    def block_size(self) -> int:
        """Logical block of a device; 512 for a file, which does not know."""
        return self._block_size

    def _opened(self) -> int:
        if self._descriptor is None:
            raise ValueError("the image is closed")
        return self._descriptor

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``."""
        self.check_range(offset, len(buffer))
        descriptor = self._opened()
        done = 0
        while done < len(buffer):
            piece = buffer[done : done + _LARGEST_READ]
            try:
                count = os.preadv(descriptor, [piece], offset + done)
            except OSError as failure:
                raise SourceError(
                    "source.unreadable", path=self._path, reason=failure.strerror
                ) from failure
            if count == 0:
                raise SourceError("source.changed", path=self._path)
            done += count

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Data and holes, as the host's file system knows them."""
        self.check_range(offset, length)
        descriptor = self._opened()
        end = offset + length
        while offset < end:
            try:
                data = min(os.lseek(descriptor, offset, os.SEEK_DATA), end)
            except OSError as failure:
                if failure.errno != errno.ENXIO:
                    # A device, or a host file system that keeps no holes.
                    yield Extent(offset, end - offset, ExtentKind.DATA)
                    return
                data = end
            if data > offset:
                yield Extent(offset, data - offset, ExtentKind.HOLE)
            if data < end:
                hole = min(os.lseek(descriptor, data, os.SEEK_HOLE), end)
                yield Extent(data, hole - data, ExtentKind.DATA)
                offset = hole
            else:
                offset = end

    def plain_file(self) -> int | None:
        """The file's descriptor."""
        return self._opened()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
