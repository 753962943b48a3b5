# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Zip archives, as a stream.

Zip knows neither extended attributes nor hard links nor holes nor devices. Names are UTF-8; times
are kept in UTC by two extra fields: to the second by Info-ZIP's (``UT``), to 100 nanoseconds by
PKWARE's of NTFS. Owners are in Info-ZIP's ``ux``.
"""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import IO, TYPE_CHECKING, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from explorer.core.entries import Entry
    from explorer.writer.output import Output

_UNIX = 3
_FOLDER_ATTRIBUTE = 0x10
_LARGE = 1 << 31
_ZEROS = bytes(1 << 20)

_UT = Struct("<HHBi")
_NTFS = Struct("<HHIHHQQQ")
_UX = Struct("<HHBBIBI")
_NTFS_EPOCH = -11_644_473_600 * 1_000_000_000
"""1601, in nanoseconds since 1970."""
_EARLIEST, _LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2107, 12, 31, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ZipArchive:
    """A zip archive that is being written; an :class:`explorer.writer.archive.Archive`."""

    links = False
    special = False
    xattrs = False
    sized = False
    path_most = 65535

    def __init__(self, output: Output, *, deflate: bool) -> None:
        self._zip = ZipFile(
            cast("IO[bytes]", _OneWay(output)), "w", ZIP_DEFLATED if deflate else ZIP_STORED
        )
        self._file: IO[bytes] | None = None

    def add(
        self,
        path: bytes,
        entry: Entry,
        xattrs: Mapping[bytes, bytes],  # noqa: ARG002 - zip has no room for them
        target: bytes = b"",
    ) -> None:
        """Add a directory or a symbolic link, whose content is where it points."""
        info = _info(path, entry)
        if not entry.is_directory:
            self._zip.writestr(info, target, ZIP_STORED)
            return
        # An entry without content needs no descriptor behind it.
        self._zip.mkdir(info)

    def add_hard_link(self, path: bytes, entry: Entry, first: bytes) -> None:
        """Never called: it holds no links."""
        raise NotImplementedError

    def begin_file(
        self,
        path: bytes,
        entry: Entry,
        xattrs: Mapping[bytes, bytes],  # noqa: ARG002
        size: int,
        pieces: Sequence[tuple[int, int]] | None = None,  # noqa: ARG002 - nor for holes
    ) -> None:
        """Add a file whose content is written next."""
        info = _info(path, entry)
        info.compress_type = self._zip.compression
        self._file = self._zip.open(info, "w", force_zip64=size >= _LARGE)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write the next bytes of the file's content."""
        assert self._file is not None
        self._file.write(data)

    def write_zeros(self, length: int) -> None:
        """Write zeros as content."""
        with memoryview(_ZEROS) as zeros:
            while length > 0:
                self.write(zeros[: min(length, len(zeros))])
                length -= len(zeros)

    def end_file(self) -> None:
        """End the file."""
        assert self._file is not None
        self._file.close()
        self._file = None

    def finish(self) -> None:
        """Write the directory of the archive."""
        self._zip.close()


class _OneWay:
    """An output as :class:`ZipFile` wants it: a file without a place to go back to."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def write(self, data: bytes) -> int:
        self._output.write(data)
        return len(data)

    def flush(self) -> None:
        """The output decides when."""


def _info(path: bytes, entry: Entry) -> ZipInfo:
    name = path + b"/" if entry.is_directory else path
    info = ZipInfo(name.decode(), _dos_time(entry.modify_ns or 0))
    info.CRC = 0
    info.create_system = _UNIX
    info.external_attr = (entry.mode & 0xFFFF) << 16
    if stat.S_ISDIR(entry.mode):
        info.external_attr |= _FOLDER_ATTRIBUTE
    info.extra = _time_fields(entry) + _UX.pack(0x7875, 11, 1, 4, entry.uid, 4, entry.gid)
    return info


def _dos_time(time_ns: int) -> tuple[int, int, int, int, int, int]:
    try:
        moment = _EPOCH + timedelta(seconds=time_ns // 1_000_000_000)
    except OverflowError:
        moment = _EARLIEST if time_ns < 0 else _LATEST
    moment = min(max(moment, _EARLIEST), _LATEST)
    return (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)


def _time_fields(entry: Entry) -> bytes:
    fields = b""
    times = (entry.modify_ns, entry.access_ns, entry.birth_ns)
    seconds = None if entry.modify_ns is None else entry.modify_ns // 1_000_000_000
    if seconds is not None and -(1 << 31) <= seconds < 1 << 31:
        fields += _UT.pack(0x5455, 5, 1, seconds)
    units = [0 if time is None else (time - _NTFS_EPOCH) // 100 for time in times]
    if all(0 <= unit < 1 << 64 for unit in units):
        fields += _NTFS.pack(0x000A, 32, 0, 1, 24, *units)
    return fields
