# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""VHD, the format of Virtual PC and older Hyper-V: fixed, dynamic and differencing images.

Sections are those of Microsoft's Virtual Hard Disk Image Format Specification, version 1.0.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import unquote_to_bytes

from explorer.core.names import show_name
from explorer.images.base import Fact, Image, Piece, clip_parent, file_pieces
from explorer.images.blocks import BlockTable, sector_runs
from explorer.images.guids import show_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.images.opening import Opening

FOOTER = "hard disk footer"
HEADER = "dynamic disk header"
TABLE = "block allocation table"

_FIXED, _DYNAMIC, _DIFFERENCING = 2, 3, 4
_TYPES = {_FIXED: "fixed", _DYNAMIC: "dynamic", _DIFFERENCING: "differencing"}

SECTOR = 512
_UNALLOCATED = 0xFFFFFFFF
_LARGEST_DISK = 2040 << 30
"""What 32-bit sector numbers hold, less the tables; Windows and QEMU set the same limit."""
_EPOCH = 946684800
"""2000-01-01 00:00 UTC, from which times are counted, in seconds since 1970."""

# "Hard Disk Footer Format": cookie, features, version, offset of the dynamic disk header, time,
# creator, its version and host, original and current size, geometry, type, checksum, identifier,
# saved state.
_FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sB")
_FOOTER_SIZE = 512
_FOOTER_CHECKSUM = 64
# What is known: that the disk is temporary, and a bit that is always set.
_FEATURES = 0x3

# "Dynamic Disk Header Format": cookie, unused offset, offset of the table, version, entries, block
# size, checksum, parent's identifier and time, reserved, parent's name, locators.
_HEADER = struct.Struct(">8sQQIIII16sII512s192s")
_HEADER_SIZE = 1024
_HEADER_CHECKSUM = 36
_LOCATOR = struct.Struct(">4sIIIQ")
_LONGEST_LOCATOR = 64 * 1024

# Creators that mean the geometry's size, which is a little smaller; all others mean the current
# size. QEMU's block/vpc.c (10.0) decides the same.
_GEOMETRY_CREATORS = (b"vpc ", b"qemu")
_LARGEST_GEOMETRY = 65535 * 16 * 255
"""Sectors; larger disks have this one, too."""


def _checksum(raw: bytes, place: int) -> int:
    """The complement of the sum of all bytes but those of the checksum itself."""
    return ~(sum(raw) - sum(raw[place : place + 4])) & 0xFFFFFFFF


class _Footer(NamedTuple):
    """What is used of the footer."""

    offset: int
    """Bytes from the start of the file."""
    features: int
    header_offset: int
    time: int
    creator: bytes
    creator_version: int
    creator_host: bytes
    size: int
    geometry: int
    """Sectors."""
    type: int
    identifier: bytes
    saved: bool
    good: bool = True
    """Whether the checksum is right."""

    @property
    def by_geometry(self) -> bool:
        """Whether the geometry tells the size."""
        return self.creator in _GEOMETRY_CREATORS and 0 < self.geometry < _LARGEST_GEOMETRY

    @property
    def disk_size(self) -> int:
        """Bytes of the disk, which has whole sectors."""
        return self.geometry * SECTOR if self.by_geometry else self.size // SECTOR * SECTOR


def _parse_footer(opening: Opening, offset: int, raw: bytes) -> _Footer:
    fields = _FOOTER.unpack_from(raw)
    _cookie, features, version, header_offset, moment, creator, creator_version, host = fields[:8]
    _original, size, cylinders, heads, sectors, kind, _checksum, identifier, saved = fields[8:]
    if version >> 16 != 1:
        raise opening.unsupported(f"VHD version {version >> 16}.{version & 0xFFFF}")
    if features & ~_FEATURES:
        raise opening.unsupported(f"a VHD image with the features 0x{features & ~_FEATURES:x}")
    if kind not in _TYPES:
        raise opening.unsupported(f"VHD disk type {kind}")
    return _Footer(
        offset,
        features,
        header_offset,
        moment,
        creator,
        creator_version,
        host,
        size,
        cylinders * heads * sectors,
        kind,
        identifier,
        bool(saved),
    )


def _read_footer(opening: Opening) -> _Footer:
    """The footer at the end of the file, or the copy at its start where the other is damaged.

    With two equal ones it is not damage that made the checksum wrong: somebody edited them.
    """
    size = opening.file.size
    copies: list[tuple[int, bytes]] = []
    # Before Virtual PC 2004 it had 511 bytes; the one that is missing was reserved.
    for offset, length in ((size - 512, 512), (size - 511, 511), (0, 512)):
        if offset >= 0 and size >= 512:
            raw = opening.read_exactly(offset, length, FOOTER).ljust(512, b"\0")
            if raw.startswith(b"conectix"):
                copies.append((offset, raw))
    for offset, raw in copies:
        if _checksum(raw, _FOOTER_CHECKSUM) == _FOOTER.unpack_from(raw)[14]:
            footer = _parse_footer(opening, offset, raw)
            # The start of a fixed one is its disk's.
            if offset or footer.type != _FIXED:
                return footer
    if len(copies) > 1 and copies[0][1] == copies[1][1]:
        return _parse_footer(opening, *copies[0])._replace(good=False)
    if copies:
        offset = copies[0][0]
        raise opening.corrupt(FOOTER, offset, "the checksum is wrong, and there is no other copy")
    raise opening.corrupt(FOOTER, max(0, size - 512), "there is none")


class _Header(NamedTuple):
    """What is used of the dynamic disk header."""

    table_offset: int
    entries: int
    block_size: int
    parent: bytes
    """The parent's identifier."""
    parent_time: int
    """When the parent was last written to."""
    parent_name: bytes
    locators: bytes
    good: bool
    """Whether the checksum is right."""


def _read_header(opening: Opening, footer: _Footer) -> _Header:
    offset = footer.header_offset
    raw = opening.read_exactly(offset, _HEADER_SIZE, HEADER)
    cookie, _unused, table, version, entries, block_size, checksum, *parent = _HEADER.unpack_from(
        raw
    )
    if cookie != b"cxsparse":
        raise opening.corrupt(HEADER, offset, "the cookie is missing")
    if version >> 16 != 1:
        raise opening.unsupported(f"VHD header version {version >> 16}.{version & 0xFFFF}")
    if block_size < SECTOR or block_size & (block_size - 1):
        raise opening.corrupt(HEADER, offset + 32, f"blocks of {block_size} bytes")
    if entries * block_size < footer.disk_size:
        raise opening.corrupt(
            HEADER,
            offset + 28,
            f"{entries} blocks of {block_size} bytes for a disk of {footer.disk_size}",
        )
    identifier, moment, _reserved, name, locators = parent
    # There is no copy of it; QEMU does not look at this checksum either.
    good = checksum == _checksum(raw, _HEADER_CHECKSUM)
    return _Header(table, entries, block_size, identifier, moment, name, locators, good)


class VhdImage(Image):
    """What is common to all VHD images."""

    format = "vhd"

    def __init__(self, opening: Opening, footer: _Footer) -> None:
        """Of the opening's file, whose footer this is."""
        super().__init__()
        self._opening = opening
        self._file = opening.file
        self.footer = footer

    @property
    def path(self) -> str:
        """The file's path, safe to show."""
        return self._file.path

    @property
    def size(self) -> int:
        """Bytes of the disk, by current size or geometry."""
        return self.footer.disk_size

    def facts(self) -> dict[str, Fact]:
        """Type, creator, identifier, and what is unusual."""
        footer = self.footer
        major, minor = footer.creator_version >> 16, footer.creator_version & 0xFFFF
        creator, host = (
            show_name(text.strip(b" \0")) for text in (footer.creator, footer.creator_host)
        )
        facts: dict[str, Fact] = {
            "type": _TYPES[footer.type],
            "creator": f"{creator} {major}.{minor} on {host}",
            "created": _show_time(footer.time),
            "id": show_uuid(footer.identifier),
            "size by": "geometry" if footer.by_geometry else "current size",
        }
        if footer.offset == 0:
            facts["footer"] = "damaged; its copy at the start is used"
        elif not footer.good:
            facts["footer"] = "its checksum is wrong, and so is that of its equal copy"
        if footer.features & 1:
            facts["temporary"] = True
        if footer.saved:
            facts["saved state"] = True
        return facts


class FixedVhd(VhdImage):
    """A disk with a footer behind it."""

    def __init__(self, opening: Opening, footer: _Footer) -> None:
        """Raises :exc:`CorruptImage` when the disk does not end before the footer."""
        super().__init__(opening, footer)
        if not 0 < self.size <= footer.offset:
            raise opening.corrupt(
                FOOTER, footer.offset + 48, f"a disk of {self.size} bytes before {footer.offset}"
            )

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The file, but for its holes."""
        return file_pieces(self._file, offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``, in one read whatever holes there are."""
        self.check_range(offset, len(buffer))
        self._file.read_into(offset, buffer)

    def plain_file(self) -> int | None:
        """The file's descriptor, when the host has one."""
        return self._file.descriptor()


class SparseVhd(VhdImage):
    """A dynamic or differencing image."""

    def __init__(
        self, opening: Opening, footer: _Footer, header: _Header, parent: VhdImage | None
    ) -> None:
        """Raises :exc:`CorruptImage` for a table that is not in the file."""
        super().__init__(opening, footer)
        self._header = header
        self._parent = parent
        if not 0 < self.size <= _LARGEST_DISK:
            raise opening.corrupt(FOOTER, footer.offset + 48, f"a disk of {self.size} bytes")
        # "Block Allocation Table and Data Blocks": a block begins with a bitmap of its sectors.
        bits = header.block_size // SECTOR
        self._bitmap_size = -(-bits // (8 * SECTOR)) * SECTOR
        # The used part of the table only, which may be longer than the disk.
        count = -(-self.size // header.block_size)
        self._table = BlockTable(opening, TABLE, header.table_offset, count, byteorder="big")

    @property
    def parent(self) -> Image | None:
        """The image that a differencing one was made of."""
        return self._parent

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Blocks of the file, and what the parent has; zeros where neither has any.

        The bitmap of a dynamic image is not looked at: it tells which sectors were ever written,
        and the others are zeros in the file as well. QEMU does the same.
        """
        end = offset + length
        size = self._header.block_size
        runs = self._table.runs(
            offset // size, -(-end // size), lambda entry: entry != _UNALLOCATED, 0
        )
        for index, count, entry in runs:
            start = max(offset, index * size)
            length = min(end, (index + count) * size) - start
            if entry == _UNALLOCATED:
                yield from clip_parent(self._parent, start, length)
                continue
            skipped = start - index * size
            position = entry * SECTOR + self._bitmap_size
            if position + skipped + length > self._file.size:
                raise self._opening.corrupt(
                    TABLE,
                    self._table.position(index),
                    f"block {index} is beyond the end of the file ({self._file.size} bytes)",
                )
            if self._parent is None:
                yield Piece(length, self._file, position + skipped)
            else:
                yield from self._sectors(start, length, skipped, position)

    def _sectors(self, start: int, length: int, skipped: int, position: int) -> Iterator[Piece]:
        """The pieces of a part of a block, which its bitmap divides between file and parent.

        ``start`` is that of the part on the disk, ``skipped`` that in the block, whose sectors
        are at ``position``.
        """
        bitmap = self._opening.cache.get(
            (self, position),
            lambda: self._file.read(position - self._bitmap_size, self._bitmap_size),
        )
        first = skipped // SECTOR
        count = -(-(skipped + length) // SECTOR) - first
        origin = start - skipped
        for own, number, sectors in sector_runs(bitmap, first, count, low_bit_first=False):
            begin = max(skipped, number * SECTOR)
            size = min(skipped + length, (number + sectors) * SECTOR) - begin
            if own:
                yield Piece(size, self._file, position + begin)
            else:
                yield from clip_parent(self._parent, origin + begin, size)

    def facts(self) -> dict[str, Fact]:
        """What all tell, the block size, and the parent."""
        facts = super().facts()
        facts["block size"] = self._header.block_size
        if not self._header.good:
            facts["header"] = "its checksum is wrong"
        if self._parent is not None:
            facts["parent"] = self._parent.path
            if self._header.parent_time:
                facts["parent written"] = _show_time(self._header.parent_time)
        return facts


def _show_time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(_EPOCH + seconds))


# ---- The parent --------------------------------------------------------------------------------


def _parent_names(opening: Opening, header: _Header) -> list[bytes]:
    """What the parent may be called, likeliest first.

    "Parent Locator Entry": a path relative to this image, one of Windows, which means nothing
    here but for its last part, and a URL, of macOS or XenServer. Then the name in the header.
    """
    found: dict[bytes, bytes] = {}
    for number in range(8):
        platform, _space, length, _reserved, offset = _LOCATOR.unpack_from(
            header.locators, number * _LOCATOR.size
        )
        if platform not in (b"W2ru", b"W2ku", b"MacX"):
            continue
        structure = f"parent locator {platform.decode()}"
        if length > _LONGEST_LOCATOR:
            raise opening.corrupt(structure, offset, f"a name of {length} bytes")
        found[platform] = opening.read_exactly(offset, length, structure)
    # The specification leaves the order of a character's bytes open; Windows' own is meant.
    paths = (
        _windows_path(found.get(b"W2ru", b""), "utf-16-le"),
        _url_path(found.get(b"MacX", b"")),
        _windows_path(header.parent_name, "utf-16-be"),
        _windows_path(found.get(b"W2ku", b""), "utf-16-le"),
    )
    names = [path for path in paths if path[1:2] != b":" and not path.startswith(b"//")]
    names += [path.rpartition(b"/")[2] for path in paths]
    return [name for name in dict.fromkeys(names) if name]


def _windows_path(raw: bytes, encoding: str) -> bytes:
    text = raw.decode(encoding, "replace").split("\0")[0]
    return text.replace("\\", "/").encode()


def _url_path(raw: bytes) -> bytes:
    """The path of a URL: ``file:///path`` and ``file://localhost/path``, or ``file://./path``."""
    head, mark, path = raw.split(b"\0")[0].partition(b"file://")
    if head or not mark:
        return b""
    return unquote_to_bytes(path.removeprefix(b"localhost"))


def _open_parent(opening: Opening, header: _Header) -> VhdImage:
    # Of this format, or refused.
    parent = cast("VhdImage", opening.open_other(_parent_names(opening, header), "parent", "vhd"))
    if parent.footer.identifier != header.parent:
        raise opening.corrupt(
            HEADER,
            0,
            f"{parent.path} is not the parent, whose identifier is {show_uuid(header.parent)}",
        )
    return parent


def open_vhd(opening: Opening) -> Image:
    """Open a VHD image, and its parents."""
    footer = _read_footer(opening)
    if footer.type == _FIXED:
        return FixedVhd(opening, footer)
    header = _read_header(opening, footer)
    parent = _open_parent(opening, header) if footer.type == _DIFFERENCING else None
    return SparseVhd(opening, footer, header, parent)
