# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tar archives in the pax format (POSIX.1-2001), as a stream.

Headers are made here, for Python's own ``tarfile`` takes text where names and attributes are bytes.
What POSIX has no word for is written as others do: attributes as star does (``SCHILY.xattr.*``,
``SCHILY.acl.*``), labels as Red Hat does (``RHT.security.selinux``), the time of birth as
libarchive does, and holes as GNU tar does (``GNU.sparse``, version 1.0).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.entries import FileType
from explorer.wire.limits import PATH_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from explorer.core.entries import Entry
    from explorer.writer.output import Output

BLOCK = 512
RECORD = 20 * BLOCK
"""An archive's size is a multiple of it."""

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_SUM_AT = 148
_NAME_MOST = 100
_EXTENDED = b"x"
_HARD_LINK = b"1"
_FILE = b"0"
_TYPES = {
    FileType.LINK: b"2",
    FileType.CHARACTER_DEVICE: b"3",
    FileType.BLOCK_DEVICE: b"4",
    FileType.DIRECTORY: b"5",
    FileType.FIFO: b"6",
}
_DEVICES = (b"3", b"4")
_MOST = {
    b"uid": 8**7 - 1,
    b"gid": 8**7 - 1,
    b"size": 8**11 - 1,
    b"SCHILY.devmajor": 8**7 - 1,
    b"SCHILY.devminor": 8**7 - 1,
}
"""The largest numbers of a header; keywords are those that larger ones have."""
_ACLS = {
    b"system.posix_acl_access": b"SCHILY.acl.access",
    b"system.posix_acl_default": b"SCHILY.acl.default",
}
_ACL_HEAD = struct.Struct("<I")
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_VERSION = 2
_ACL_NAMES = {1: "user", 2: "user", 4: "group", 8: "group", 16: "mask", 32: "other"}
_ACL_NUMBERED = (2, 8)

_Record = tuple[bytes, bytes]


class _Sparse(NamedTuple):
    """That a file is stored without its holes."""

    size: int
    """With them."""


def pax_record(keyword: bytes, value: bytes) -> bytes:
    """One record of an extended header; its length counts itself."""
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, keyword, value)


def pax_time(time_ns: int) -> bytes:
    """A time in seconds, with all nanoseconds that it has."""
    seconds, rest = divmod(abs(time_ns), 1_000_000_000)
    text = f"{'-' * (time_ns < 0)}{seconds}.{rest:09d}".rstrip("0").rstrip(".")
    return text.encode("ascii")


def acl_text(value: bytes) -> bytes | None:
    """A POSIX ACL as Linux stores it (``posix_acl_xattr.h``), as text; None when it is none."""
    entries = []
    if len(value) < _ACL_HEAD.size or (len(value) - _ACL_HEAD.size) % _ACL_ENTRY.size:
        return None
    if _ACL_HEAD.unpack_from(value) != (_ACL_VERSION,):
        return None
    for tag, bits, number in _ACL_ENTRY.iter_unpack(value[_ACL_HEAD.size :]):
        if tag not in _ACL_NAMES:
            return None
        who = str(number) if tag in _ACL_NUMBERED else ""
        rights = "".join(
            letter if bits & bit else "-" for letter, bit in zip("rwx", (4, 2, 1), strict=True)
        )
        entries.append(f"{_ACL_NAMES[tag]}:{who}:{rights}")
    return ",".join(entries).encode("ascii")


class TarArchive:
    """A tar archive that is being written; an :class:`explorer.writer.archive.Archive`."""

    links = True
    special = True
    xattrs = True
    path_most = PATH_LIMIT
    sized = True

    def __init__(self, output: Output) -> None:
        self._output = output
        self._left = 0
        """Bytes of the file that is being written, which are still to come."""

    def add(
        self, path: bytes, entry: Entry, xattrs: Mapping[bytes, bytes], target: bytes = b""
    ) -> None:
        """Add what has no content: a directory, a link, a device, a fifo.

        Paths are relative; ``target`` is where a symbolic link points.
        """
        kind = _TYPES[FileType(entry.type)]
        name = path + b"/" if entry.is_directory else path
        self._write_header(name, kind, entry, 0, xattrs, target)

    def add_hard_link(self, path: bytes, entry: Entry, first: bytes) -> None:
        """Add a further name of a file that was written as ``first``."""
        self._write_header(path, _HARD_LINK, entry, 0, {}, first)

    def begin_file(
        self,
        path: bytes,
        entry: Entry,
        xattrs: Mapping[bytes, bytes],
        size: int,
        pieces: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """Add a file of ``size`` bytes, whose content is written next.

        ``pieces`` are offset and length of what is no hole, in order; None: there is no hole.
        """
        if pieces is None:
            self._write_header(path, _FILE, entry, size, xattrs)
            self._left = size
            return
        # A last piece of nothing tells where a hole at the end ends.
        if not pieces or sum(pieces[-1]) < size:
            pieces = [*pieces, (size, 0)]
        numbers = [len(pieces), *(number for piece in pieces for number in piece)]
        table = _pad(b"".join(b"%d\n" % number for number in numbers))
        self._left = len(table) + sum(length for _offset, length in pieces)
        self._write_header(path, _FILE, entry, self._left, xattrs, sparse=_Sparse(size))
        self.write(table)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write the next bytes of the file's content, holes left out."""
        self._left -= len(data)
        self._output.write(data)

    def write_zeros(self, length: int) -> None:
        """Write zeros as content."""
        self._left -= length
        self._output.write_zeros(length)

    def end_file(self) -> None:
        """End the file, of which all bytes were written."""
        assert not self._left
        self._output.write_zeros(-self._output.position % BLOCK)

    def finish(self) -> None:
        """End the archive."""
        self._output.write_zeros(2 * BLOCK)
        self._output.write_zeros(-self._output.position % RECORD)

    def _write_header(
        self,
        path: bytes,
        kind: bytes,
        entry: Entry,
        size: int,
        xattrs: Mapping[bytes, bytes],
        target: bytes = b"",
        sparse: _Sparse | None = None,
    ) -> None:
        numbers = {b"uid": entry.uid, b"gid": entry.gid, b"size": size}
        if kind in _DEVICES:
            numbers[b"SCHILY.devmajor"] = entry.special_major
            numbers[b"SCHILY.devminor"] = entry.special_minor
        stored = path
        if sparse is not None:
            folder, _slash, name = path.rpartition(b"/")
            stored = b"/".join(filter(None, (folder, b"GNUSparseFile.0", name)))
        records = [
            *_name_records(path, target, sparse),
            *_time_records(entry),
            *((key, b"%d" % number) for key, number in numbers.items() if number > _MOST[key]),
            *_xattr_records(xattrs),
        ]
        if extended := b"".join(pax_record(*record) for record in records):
            name = b"PaxHeaders/" + path.rstrip(b"/").rpartition(b"/")[2]
            self._output.write(_header(name, _EXTENDED, 0o644, {b"size": len(extended)}))
            self._output.write(_pad(extended))
        self._output.write(
            _header(stored, kind, entry.mode & 0o7777, numbers, entry.modify_ns or 0, target)
        )


def _header(
    path: bytes,
    kind: bytes,
    mode: int,
    numbers: Mapping[bytes, int],
    modify_ns: int = 0,
    target: bytes = b"",
) -> bytes:
    """A header of POSIX.1-1988; what does not fit stands in an extended header before it."""

    def octal(number: int, digits: int) -> bytes:
        return b"%0*o" % (digits, number if 0 <= number < 8**digits else 0)

    fields = (
        path[:_NAME_MOST],
        octal(mode, 7),
        octal(numbers.get(b"uid", 0), 7),
        octal(numbers.get(b"gid", 0), 7),
        octal(numbers[b"size"], 11),
        octal(modify_ns // 1_000_000_000, 11),
    )
    more = (
        kind,
        target[:_NAME_MOST],
        b"ustar\00000",
        b"",
        b"",
        octal(numbers.get(b"SCHILY.devmajor", 0), 7),
        octal(numbers.get(b"SCHILY.devminor", 0), 7),
        b"",
    )
    total = sum(_HEADER.pack(*fields, b" " * 8, *more))
    return _HEADER.pack(*fields, b"%06o\0 " % total, *more)


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _name_records(path: bytes, target: bytes, sparse: _Sparse | None) -> Iterator[_Record]:
    if not (_is_utf8(path) and _is_utf8(target)):
        yield b"hdrcharset", b"BINARY"
    if sparse is not None:
        yield b"GNU.sparse.major", b"1"
        yield b"GNU.sparse.minor", b"0"
        yield b"GNU.sparse.name", path
        yield b"GNU.sparse.realsize", b"%d" % sparse.size
    elif len(path) > _NAME_MOST or not path.isascii():
        yield b"path", path
    if len(target) > _NAME_MOST or not target.isascii():
        yield b"linkpath", target


def _time_records(entry: Entry) -> Iterator[_Record]:
    # There is no keyword of the standard's for the birth, and GNU tar warns of others.
    times = {b"mtime": entry.modify_ns, b"atime": entry.access_ns, b"ctime": entry.change_ns}
    return ((key, pax_time(time)) for key, time in times.items() if time is not None)


def _xattr_records(xattrs: Mapping[bytes, bytes]) -> Iterator[_Record]:
    for name, value in xattrs.items():
        # GNU tar's way for what would end a keyword.
        safe = name.replace(b"%", b"%25").replace(b"=", b"%3D")
        yield b"SCHILY.xattr." + safe, value
        if name in _ACLS and (text := acl_text(value)):
            yield _ACLS[name], text
        if name == b"security.selinux":
            yield b"RHT.security.selinux", value.rstrip(b"\0")
