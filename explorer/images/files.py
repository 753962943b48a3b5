# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that images are stored in, and the folders where those that they name are looked for.

A file is one of the host, of another image, or of a server. An image's header may name others: a
backing image, a parent, extents. It must not choose which file of the host is read, so a folder
gives out what lies inside itself, and else only what the user allowed.
"""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import (
    ExplorerError,
    MissingPart,
    SourceError,
    UnsupportedFeature,
    host_path,
    source_error,
)
from explorer.core.names import show_name
from explorer.host.devices import device_geometry

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence
    from typing import Self

# Linux reads at most this much at once (MAX_RW_COUNT), whatever is asked for.
_LARGEST_READ = 0x7FFFF000


class Flow:
    """Bytes that files of the host and of servers have given to this process so far.

    For whoever watches whether there is any progress: an addition may be lost among threads.
    """

    def __init__(self) -> None:
        self.given = 0

    def add(self, count: int) -> None:
        """Count some more."""
        self.given += count


FLOW = Flow()


class SourceFile(ABC):
    """A file that is only read, by position, from any thread."""

    @property
    @abstractmethod
    def path(self) -> str:
        """Its name, safe to show."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes."""

    @property
    def block_size(self) -> int:
        """Bytes of a logical block of a device; 512 for a file, which does not know."""
        return 512

    @property
    def identity(self) -> Hashable:
        """Equal for two objects that are the same file; None when it cannot be told."""
        return None

    @abstractmethod
    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of ``buffer`` from ``offset``.

        Raises :exc:`SourceError` when the bytes cannot be had, for a range beyond the end too.
        """

    def descriptor(self) -> int | None:
        """A descriptor of the host that the same bytes can be read from by position, if any."""
        return None

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Start and length of what is not known to be a hole, in order, inside a range."""
        if length:
            yield offset, length

    def locate(self, offset: int, length: int) -> Iterator[tuple[SourceFile, int, int]]:
        """Where the bytes of a range stand: file, position in it and length, in order.

        Only a file that is made of others names any but itself.
        """
        if length:
            yield self, offset, length

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``, fewer than ``length`` only at the end of the file."""
        buffer = bytearray(max(0, min(length, self.size - offset)))
        if buffer:
            self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    @abstractmethod
    def close(self) -> None:
        """Close it; a second call does nothing."""


class FileRange(SourceFile):
    """A range of another file as a file of its own: a member of an archive, for example."""

    def __init__(self, file: SourceFile, start: int, size: int, path: str) -> None:
        """``size`` bytes from ``start``, which must lie inside ``file``; whose it stays."""
        if start < 0 or size < 0 or start + size > file.size:
            raise ValueError(f"{size} bytes at {start} are not in a file of {file.size}")
        self._file = file
        self._start = start
        self._size = size
        self._path = path

    @property
    def path(self) -> str:
        """The name it was given."""
        return self._path

    @property
    def size(self) -> int:
        """Bytes of the range."""
        return self._size

    @property
    def identity(self) -> Hashable:
        """That of the file, and the range."""
        identity = self._file.identity
        return None if identity is None else (identity, self._start, self._size)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``."""
        check_file_range(self, offset, len(buffer))
        self._file.read_into(self._start + offset, buffer)

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """What is data, as the other file knows it."""
        for start, count in self._file.data_ranges(self._start + offset, length):
            yield start - self._start, count

    def locate(self, offset: int, length: int) -> Iterator[tuple[SourceFile, int, int]]:
        """Where the other file has them."""
        return self._file.locate(self._start + offset, length)

    def close(self) -> None:
        """Nothing: the other file is closed by whoever opened it."""


def check_file_range(file: SourceFile, offset: int, length: int) -> None:
    """Raise :exc:`SourceError` when a range does not lie inside a file."""
    if offset < 0 or offset + length > file.size:
        raise SourceError(
            "source.unreadable",
            path=file.path,
            reason=f"{length} bytes at {offset} are beyond its end ({file.size} bytes)",
        )


class HostFile(SourceFile):
    """A plain file or a disk of the host, opened for reading only."""

    def __init__(self, path: str | bytes | os.PathLike[str], *, flags: int = 0) -> None:
        """Open ``path``, with more of ``os.O_*`` if need be; raises :exc:`SourceError`."""
        self._path = host_path(path)
        self._block_size = 512
        self._descriptor: int | None = None
        self._identity: Hashable = None
        try:
            # O_NONBLOCK: a fifo of this name must not hold the program up.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
        except OSError as failure:
            raise source_error(path, failure) from failure
        try:
            self._take(descriptor)
        except OSError as failure:
            os.close(descriptor)
            raise source_error(path, failure) from failure
        except SourceError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    @classmethod
    def adopt(cls, descriptor: int, path: str, size: int, block_size: int) -> Self:
        """A file that another process has opened and looked at; its descriptor is now this one's.

        ``path`` is safe to show.
        """
        file = cls.__new__(cls)
        file._path = path
        file._size = size
        file._block_size = block_size
        file._descriptor = descriptor
        status = os.fstat(descriptor)
        file._identity = status.st_dev, status.st_ino
        return file

    def _take(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._identity = status.st_dev, status.st_ino
        if stat.S_ISREG(status.st_mode):
            self._size = status.st_size
        else:
            geometry = device_geometry(descriptor, status.st_mode)
            if geometry is None:
                code = "source.directory" if stat.S_ISDIR(status.st_mode) else "source.kind"
                raise SourceError(code, path=self._path)
            self._size, self._block_size = geometry
        if self._size == 0:
            raise SourceError("source.empty", path=self._path)

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

    @property
    def identity(self) -> Hashable:
        """Device and inode."""
        return self._identity

    def _opened(self) -> int:
        if self._descriptor is None:
            raise ValueError("the file is closed")
        return self._descriptor

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``."""
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
            FLOW.add(count)

    def descriptor(self) -> int | None:
        """The file's descriptor."""
        return self._opened()

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """What is data, as the host's file system knows it."""
        descriptor = self._opened()
        end = offset + length
        while offset < end:
            try:
                data = min(os.lseek(descriptor, offset, os.SEEK_DATA), end)
                hole = min(os.lseek(descriptor, data, os.SEEK_HOLE), end) if data < end else end
            except OSError as failure:
                if failure.errno != errno.ENXIO:
                    # A device, or a host file system that keeps no holes.
                    yield offset, end - offset
                return
            if data < hole:
                yield data, hole - data
            offset = hole

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def missing_part(error: SourceError, name: bytes, role: str, owner: str) -> ExplorerError:
    """Why a file that an image names cannot be opened: one that is missing is a part of it."""
    if error.code != "source.missing":
        return error
    return MissingPart("image.missing-part", path=owner, role=role, name=show_name(name))


class Folder(ABC):
    """Where the files that an image names are looked for."""

    @abstractmethod
    def open(self, name: bytes, role: str, owner: str) -> tuple[SourceFile, Folder]:
        """Open a file named in an image, and the folder that names in it are relative to.

        ``role`` is what the file is to the image, as ``backing image``; ``owner`` the image's
        path, for messages. Raises :exc:`MissingPart` when there is none,
        :exc:`UnsupportedFeature` (``image.consent``) when the name leads where the user has not
        allowed it, :exc:`SourceError` when it cannot be read.
        """

    @abstractmethod
    def names(self) -> list[bytes]:
        """The names of the files in it; empty when they cannot be listed."""

    def allowed_names(self) -> list[bytes]:
        """Names, as :meth:`open` takes them, of what is in the folders that the user allowed."""
        return []


class HostFolder(Folder):
    """A folder of the host: gives out what lies below it, or below what the user allowed."""

    def __init__(self, path: bytes, allowed: Sequence[bytes] = ()) -> None:
        """``allowed`` are folders whose files may be named as well."""
        self._path = path or b"."
        self._allowed = tuple(allowed)

    def open(self, name: bytes, role: str, owner: str) -> tuple[HostFile, HostFolder]:
        """Open a file by its relative or absolute name."""
        path = os.path.join(self._path, name)  # noqa: PTH118 - bytes
        missing = MissingPart("image.missing-part", path=owner, role=role, name=show_name(name))
        if b"\0" in name:
            raise missing
        # Where links lead is what counts, and what is opened.
        real = os.path.realpath(path)
        if not self._may_open(real):
            raise UnsupportedFeature(
                "image.consent",
                path=owner,
                role=role,
                name=show_name(name),
                folder=show_name(os.path.dirname(real)),  # noqa: PTH120 - bytes
                allow=os.fsdecode(os.path.dirname(real)),  # noqa: PTH120 - bytes
            )
        try:
            file = HostFile(real, flags=getattr(os, "O_NOFOLLOW", 0))
        except SourceError as error:
            if error.code == "source.missing":
                raise missing from None
            raise
        folder = os.path.dirname(real)  # noqa: PTH120 - bytes
        return file, HostFolder(folder, (*self._allowed, os.path.realpath(self._path)))

    def _may_open(self, real: bytes) -> bool:
        for folder in (self._path, *self._allowed):
            top = os.path.realpath(folder)
            if real.startswith(top.rstrip(os.fsencode(os.sep)) + os.fsencode(os.sep)):
                return True
        return False

    def names(self) -> list[bytes]:
        """All names in it."""
        with suppress(OSError):
            return [entry.name for entry in os.scandir(self._path)]
        return []

    def allowed_names(self) -> list[bytes]:
        """Absolute names of all that is in the allowed folders."""
        names: list[bytes] = []
        for folder in self._allowed:
            with suppress(OSError):
                names += [os.path.abspath(entry.path) for entry in os.scandir(folder)]  # noqa: PTH100 - bytes
        return names


class Stored(NamedTuple):
    """A file that an image is stored in."""

    name: bytes
    """As it was asked for: from the folder of what names it, or absolute."""
    file: SourceFile


class Origin(NamedTuple):
    """What an image was opened from."""

    files: tuple[Stored, ...]
    """All that it is stored in: that which was opened, parts, extents, images behind it. One that
    joins parts stands behind these. They are closed with the image."""
    folder: Folder
    """Where the first of them is."""
