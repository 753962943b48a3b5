# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""VMDK: the disks of VMware, in one file or many, whole or as the changes to a parent.

A descriptor, which is text, lists extents: files that hold the disk's parts one after the other,
either plainly or, if sparse, in grains that are found by a grain directory and grain tables. The
descriptor is a file of its own or stands inside the only extent.

Sources: VMware, "Virtual Disk Format 5.0" and, for ESX Server sparse extents, "Virtual Disk
Format 1.1"; for what these leave open, the format's description in libvmdk. Sections below are
those of 5.0.
"""

from __future__ import annotations

import re
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import ImageError, SourceError, UnsupportedFeature
from explorer.core.names import show_name
from explorer.images.base import Image, Piece, clip_parent
from explorer.images.concat import Part, Parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from explorer.images.base import Fact
    from explorer.images.files import SourceFile
    from explorer.images.opening import Opening

SECTOR = 512
_SIZE_LIMIT = 2**63 - 4096
_NO_PARENT = 0xFFFFFFFF

DESCRIPTOR_LIMIT = 4 << 20
"""Bytes; enough for the 31,744 extents of 2 GiB that make up the largest disk of 62 TiB."""
EXTENT_LIMIT = 65536

_LONGEST_NAME = 4096

# ---- The descriptor ("The Descriptor File") ----------------------------------------------------

_VALUE = re.compile(rb'([\w.]+)\s*=\s*"?(.*?)"?')
_EXTENT = re.compile(
    rb'(RW|RDONLY|NOACCESS)\s+(\d{1,19})\s+(\w+)(?:\s+"([^"]*)"(?:\s+(\d{1,19}))?.*)?'
)
_EXTENT_START = re.compile(rb"(RW|RDONLY|NOACCESS)\s")


class ExtentLine(NamedTuple):
    """What the descriptor says of an extent; its place and sizes in bytes."""

    at: int
    """Where the line begins in the descriptor's file."""
    access: bytes
    size: int
    kind: bytes
    name: bytes
    position: int
    """Where the data begins in a flat extent's file."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """The descriptor's lines."""

    at: int
    """Where it begins in its file."""
    values: dict[bytes, bytes]
    """By key in small letters; of a repeated key, the first."""
    extents: list[ExtentLine]

    def text(self, key: bytes) -> str:
        """A value to show; empty when it is not there."""
        return show_name(self.values.get(key, b""))

    def content_id(self, opening: Opening, key: bytes) -> int | None:
        """A content ID, which is written in hexadecimal digits."""
        value = self.values.get(key)
        if value is None:
            return None
        if not re.fullmatch(rb"[0-9a-fA-F]{1,8}", value):
            raise opening.corrupt("descriptor", self.at, f"{show_name(key)} is no number")
        return int(value, 16)

    def file_names(self, name: bytes) -> list[bytes]:
        """What a file that the descriptor names may be called here, likeliest first.

        Its text may be in another character set than the host's names, and its paths those of
        another system.
        """
        names = [name]
        encoding = self.values.get(b"encoding", b"").decode("ascii", "replace")
        # Longer names are nowhere, and not all decoders are quick.
        if len(name) <= _LONGEST_NAME:
            with suppress(LookupError, ValueError):
                names.append(name.decode(encoding or "utf-8").encode())
        names += [re.split(rb"[/\\]", one)[-1] for one in names]
        return list(dict.fromkeys(one for one in names if one))


def parse_descriptor(opening: Opening, text: bytes, at: int) -> Descriptor:
    """Parse a descriptor that begins at ``at``; raises :exc:`ImageError` when it is damaged."""
    descriptor = Descriptor(at, {}, [])
    for line in BytesIO(text.split(b"\0", 1)[0]):
        stripped = line.strip()
        if _EXTENT_START.match(stripped):
            if len(descriptor.extents) == EXTENT_LIMIT:
                raise opening.unsupported(f"a VMDK of more than {EXTENT_LIMIT} extents")
            descriptor.extents.append(_parse_extent(opening, stripped, at))
        elif (found := _VALUE.fullmatch(stripped)) is not None:
            descriptor.values.setdefault(found[1].lower(), found[2])
        at += len(line)
    return descriptor


def _parse_extent(opening: Opening, line: bytes, at: int) -> ExtentLine:
    found = _EXTENT.fullmatch(line)
    if found is None:
        raise opening.corrupt("descriptor", at, f"not an extent: {show_name(line[:200])}")
    access, sectors, kind, name, position = found.groups()
    extent = ExtentLine(
        at, access, int(sectors) * SECTOR, kind, name or b"", int(position or 0) * SECTOR
    )
    if max(extent.size, extent.position) > _SIZE_LIMIT:
        raise opening.corrupt("descriptor", at, "the extent is larger than a disk can be")
    if not extent.name and kind != b"ZERO" and access != b"NOACCESS":
        raise opening.corrupt("descriptor", at, "the extent has no file")
    return extent


# ---- Headers of sparse extents -----------------------------------------------------------------

# "Hosted Sparse Extents", SparseExtentHeader.
_HOSTED = struct.Struct("<4sIIQQQQIQQQB4sH")
_NEWLINE_TEST = 1 << 0
_REDUNDANT_TABLES = 1 << 1
_ZEROED_GRAINS = 1 << 2
_COMPRESSED = 1 << 16
_MARKERS = 1 << 17
_KNOWN_FLAGS = _NEWLINE_TEST | _REDUNDANT_TABLES | _ZEROED_GRAINS | _COMPRESSED | _MARKERS
_DEFLATE = 1
_AT_END = 2**64 - 1

# "ESXi Host Sparse Extents", COWDisk_Header.
_COWD = struct.Struct("<4sIIIIIII")
_COWD_SIZE = 2048
_COWD_UNCLEAN = 1648
_COWD_TABLE_ENTRIES = 4096

_LARGEST_GRAIN = 1 << 30
# What must be decoded in one go; VMware's grains have 64 KiB.
_LARGEST_COMPRESSED_GRAIN = 16 << 20


@dataclass(frozen=True, slots=True)
class SparseHeader:
    """What a sparse extent's header tells, in bytes."""

    size: int
    """Of the disk's part."""
    grain_size: int
    table_entries: int
    """Grains that one table is for."""
    directories: tuple[int, ...]
    """Where the grain directory is, and the redundant one."""
    damaged: bool = False
    """Whether one of them is not in the file."""
    descriptor: tuple[int, int] = (0, 0)
    """Start and size of the one inside."""
    zeroed_grains: bool = False
    compressed: bool = False
    markers: bool = False
    unclean: bool = False

    @property
    def directory_entries(self) -> int:
        """Grain tables there may be."""
        return -(-self.size // (self.grain_size * self.table_entries))


def read_header(opening: Opening) -> SparseHeader:
    """The header of a sparse extent; raises :exc:`ImageError`."""
    magic = opening.file.read(0, 4)
    if magic == b"KDMV":
        return _read_hosted(opening, 0)
    if magic == b"COWD":
        return _read_cowd(opening)
    raise opening.corrupt("sparse extent header", 0, "it does not begin with KDMV or COWD")


def _read_hosted(opening: Opening, at: int) -> SparseHeader:
    what = "footer" if at else "sparse extent header"
    (
        magic,
        version,
        flags,
        capacity,
        grain,
        descriptor,
        descriptor_sectors,
        table_entries,
        redundant,
        directory,
        _overhead,
        unclean,
        newlines,
        compression,
    ) = _HOSTED.unpack(opening.read_exactly(at, _HOSTED.size, what))
    if at and magic != b"KDMV":
        raise opening.corrupt(what, at, "it does not begin with KDMV")
    if not 1 <= version <= 3:
        raise opening.unsupported(f"version {version} of a sparse extent")
    if flags & ~_KNOWN_FLAGS:
        raise opening.unsupported(f"a sparse extent with flags {flags:#x}")
    if flags & _NEWLINE_TEST and newlines != b"\n \r\n":
        raise opening.corrupt(what, at + 73, "the file was transferred as text, its bytes changed")
    if compression not in (0, _DEFLATE):
        raise opening.unsupported(f"compression method {compression}")
    if bool(flags & _COMPRESSED) != (compression == _DEFLATE):
        raise opening.corrupt(what, at + 77, "flags and compression method disagree")
    if directory == _AT_END:
        # "Stream-Optimized Compressed": what was not known at the start stands before the
        # end-of-stream marker.
        if at or opening.file.size < 3 * SECTOR:
            raise opening.corrupt(what, at + 56, "the grain directory is nowhere")
        return _read_hosted(opening, opening.file.size - 2 * SECTOR)
    header = SparseHeader(
        size=capacity * SECTOR,
        grain_size=grain * SECTOR,
        table_entries=table_entries,
        directories=(directory * SECTOR, redundant * SECTOR)
        if flags & _REDUNDANT_TABLES and redundant
        else (directory * SECTOR,),
        descriptor=(descriptor * SECTOR, descriptor_sectors * SECTOR),
        zeroed_grains=bool(flags & _ZEROED_GRAINS),
        compressed=compression == _DEFLATE,
        markers=bool(flags & _MARKERS),
        unclean=unclean != 0,
    )
    # A header without a disk may hold the descriptor of others.
    return _check_header(opening, header, what, at) if capacity else header


def _read_cowd(opening: Opening) -> SparseHeader:
    data = opening.read_exactly(0, _COWD_SIZE, "COWD header")
    _magic, version, _flags, capacity, grain, directory, entries, _free = _COWD.unpack_from(data)
    if version != 1:
        raise opening.unsupported(f"version {version} of an ESX sparse extent")
    header = SparseHeader(
        size=capacity * SECTOR,
        grain_size=grain * SECTOR,
        table_entries=_COWD_TABLE_ENTRIES,
        directories=(directory * SECTOR,),
        unclean=any(data[_COWD_UNCLEAN : _COWD_UNCLEAN + 4]),
    )
    header = _check_header(opening, header, "COWD header", 0)
    if entries < header.directory_entries:
        raise opening.corrupt("COWD header", 24, "the grain directory is too small for the disk")
    return header


def _check_header(opening: Opening, header: SparseHeader, what: str, at: int) -> SparseHeader:
    """The header, without a directory that is not in the file."""
    if not 0 < header.size <= _SIZE_LIMIT:
        raise opening.corrupt(what, at, f"a capacity of {header.size} bytes")
    grain = header.grain_size
    if grain == 0 or grain & (grain - 1):
        raise opening.corrupt(what, at, f"grains of {grain} bytes, which is no power of 2")
    if grain > (_LARGEST_COMPRESSED_GRAIN if header.compressed else _LARGEST_GRAIN):
        raise opening.unsupported(f"a sparse extent with grains of {grain} bytes")
    if not 0 < header.table_entries <= _COWD_TABLE_ENTRIES:
        raise opening.corrupt(what, at, f"grain tables of {header.table_entries} entries")
    length = 4 * header.directory_entries
    present = tuple(
        place for place in header.directories if place and place + length <= opening.file.size
    )
    if not present:
        raise opening.corrupt(
            "grain directory",
            header.directories[0],
            f"{length} bytes are beyond the end of the file ({opening.file.size} bytes)",
        )
    return replace(header, directories=present, damaged=present != header.directories)


# ---- Extents -----------------------------------------------------------------------------------

_ABSENT = 0
_ZEROED = 1
# What is read at once of directories and tables, and kept.
_BLOCK = 65536
_ZEROS = bytes(4 * _COWD_TABLE_ENTRIES)
_GRAIN_MARKER = struct.Struct("<QI")


class SparseExtent(Image):
    """A part of a disk in grains, of which those that were never written are not stored."""

    format = "vmdk"

    def __init__(
        self,
        opening: Opening,
        header: SparseHeader,
        parent: Image | None,
        start: int,
    ) -> None:
        """Of ``opening.file``; ``start`` is where the part begins in the disk and in ``parent``."""
        super().__init__()
        self.header = header
        self.damaged = header.damaged
        """Whether tables that are wrong were met, for which there were others."""
        self._opening = opening
        self._file = opening.file
        self._parent = parent
        self._start = start
        # Entries below this one are no places.
        self._first_place = _ZEROED + 1 if header.zeroed_grains else _ABSENT + 1

    @property
    def path(self) -> str:
        """The extent's file."""
        return self._file.path

    @property
    def size(self) -> int:
        """Bytes of the part."""
        return self.header.size

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The grains, those that continue each other in one piece."""
        grain_size = self.header.grain_size
        end = offset + length
        grain = offset // grain_size
        for count, entry in self._runs(grain, -(-end // grain_size)):
            length = min(end, (grain + count) * grain_size) - offset
            if entry == _ABSENT:
                yield from clip_parent(self._parent, self._start + offset, length)
            elif entry < self._first_place:
                yield Piece(length)
            elif self.header.compressed:
                yield Piece(length, self, offset)
            else:
                position = entry * SECTOR + offset - grain * grain_size
                present = max(0, min(length, self._file.size - position))
                if present:
                    yield Piece(present, self._file, position)
                if present < length:
                    raise self._opening.corrupt(
                        "grain", position + present, "it is beyond the end of the file"
                    )
            offset += length
            grain += count

    def _runs(self, grain: int, end: int) -> Iterator[tuple[int, int]]:
        """The grains up to ``end`` in runs: how many, and the first one's entry."""
        compressed = self.header.compressed
        places = self._first_place
        step = 0 if compressed else self.header.grain_size // SECTOR
        run, first, expected = 0, _ABSENT, _ABSENT
        try:
            for count, entry in self._entries(grain, end):
                # Compressed grains follow one another wherever they are.
                kind = places if compressed and entry > places else entry
                if kind == expected:
                    run += count
                else:
                    if run:
                        yield run, first
                    run, first, expected = count, kind, kind
                if kind >= places:
                    expected += step
        except ImageError:
            if run:
                yield run, first
            raise
        yield run, first

    def _entries(self, grain: int, end: int) -> Iterator[tuple[int, int]]:
        """The tables' entries for the grains up to ``end``; of absent ones, many at once."""
        in_table = self.header.table_entries
        while grain < end:
            table, within = divmod(grain, in_table)
            count = min(in_table - within, end - grain)
            entries = self._table_entries(table, within, count)
            if entries:
                yield from zip(repeat(1), entries)
            else:
                following = self._absent_tables(table) * in_table - within
                count = max(count, min(following, end - grain))
                yield count, _ABSENT
            grain += count

    def _table_entries(self, table: int, first: int, count: int) -> tuple[int, ...]:
        """Entries of one grain table; none when all are absent.

        What cannot be right in a table, or in the directory's entry for it, is taken from the
        redundant one, if there is one and it is right.
        """
        size = 4 * self.header.table_entries
        damaged: tuple[int, ...] = ()
        for directory in self.header.directories:
            (entry,) = struct.unpack("<I", self._read_tables(directory + 4 * table, 4))
            if entry == _ABSENT:
                return ()
            if entry < self._first_place:
                return (_ZEROED,) * count
            place = entry * SECTOR
            if place + size > self._file.size:
                self.damaged = True
                continue
            data = self._read_tables(place + 4 * first, 4 * count)
            if _ZEROS.startswith(data):
                return ()
            entries = struct.unpack(f"<{count}I", data)
            if len(self.header.directories) == 1 or max(entries) * SECTOR < self._file.size:
                return entries
            # Which of the grains are lost is told when they are read.
            self.damaged = True
            damaged = damaged or entries
        if damaged:
            return damaged
        raise self._opening.corrupt(
            "grain directory",
            self.header.directories[0] + 4 * table,
            "the grain table is beyond the end of the file",
        )

    def _absent_tables(self, table: int) -> int:
        """How many tables from this one on are certainly not there; not beyond one block."""
        place = self.header.directories[0] + 4 * table
        left = 4 * (self.header.directory_entries - table)
        data = self._read_tables(place, min(left, _BLOCK - place % _BLOCK))
        return (len(data) - len(data.lstrip(b"\0"))) // 4

    def _read_tables(self, offset: int, length: int) -> bytes:
        """Bytes of directories and tables, which lie inside the file."""
        first, skipped = divmod(offset, _BLOCK)
        data = self._block(first)
        while len(data) < skipped + length:
            first += 1
            data += self._block(first)
        return data[skipped : skipped + length]

    def _block(self, number: int) -> bytes:
        return self._opening.cache.get(
            (self, "tables", number), lambda: self._file.read(number * _BLOCK, _BLOCK)
        )

    def decode_into(self, position: int, buffer: memoryview) -> None:
        """Decompress grains; ``position`` is in the extent."""
        done = 0
        while done < len(buffer):
            number, within = divmod(position + done, self.header.grain_size)
            grain = self._opening.cache.get((self, "grain", number), partial(self._inflate, number))
            part = grain[within : within + len(buffer) - done]
            buffer[done : done + len(part)] = part
            done += len(part)

    def _inflate(self, number: int) -> bytes:
        """A grain's bytes; of the last one, at least those inside the disk."""
        header = self.header
        place = next(self._entries(number, number + 1))[1] * SECTOR
        # Deflate makes nothing twice as long.
        limit = 2 * header.grain_size
        if header.markers:
            # "Stream-Optimized Compressed", grain marker.
            marker = self._opening.read_exactly(place, _GRAIN_MARKER.size, "grain marker")
            sector, length = _GRAIN_MARKER.unpack(marker)
            inside = number * header.grain_size // SECTOR
            if sector not in (inside, self._start // SECTOR + inside):
                raise self._opening.corrupt(
                    "grain marker", place, f"it is for sector {sector}, not {inside}"
                )
            if length > limit:
                raise self._opening.corrupt("grain marker", place, f"a grain of {length} bytes")
            place += _GRAIN_MARKER.size
            stored = self._opening.read_exactly(place, length, "grain")
        else:
            stored = self._file.read(place, limit)
        try:
            grain = zlib.decompressobj().decompress(stored, header.grain_size)
        except zlib.error as error:
            raise self._opening.corrupt("grain", place, str(error)) from None
        wanted = min(header.grain_size, header.size - number * header.grain_size)
        if len(grain) < wanted:
            raise self._opening.corrupt(
                "grain", place, f"it has {len(grain)} bytes instead of {wanted}"
            )
        return grain


class _Unreadable(Image):
    """A part of a disk whose bytes cannot be had, for a reason that reading it tells."""

    format = "vmdk"

    def __init__(self, size: int, reason: ImageError) -> None:
        super().__init__()
        self._size = size
        self._reason = reason

    @property
    def path(self) -> str:
        return str(self._reason.params["path"])

    @property
    def size(self) -> int:
        return self._size

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        yield Piece(length, self, offset)

    def decode_into(self, position: int, buffer: memoryview) -> None:  # noqa: ARG002 - Image's
        raise type(self._reason)(self._reason.code, **self._reason.params)


# ---- The disk ----------------------------------------------------------------------------------


class VmdkImage(Image):
    """A disk of one extent or more."""

    format = "vmdk"

    def __init__(
        self,
        path: str,
        parts: Sequence[Part[SourceFile | Image | None]],
        parent: Image | None,
        content_id: int | None,
        facts: dict[str, Fact],
    ) -> None:
        """Of ``parts``, whose files and images whoever opened them closes.

        ``facts`` are those of the descriptor.
        """
        super().__init__()
        self._path = path
        self._parts = Parts(parts)
        self._count = len(parts)
        self._sparse = [part.place for part in parts if isinstance(part.place, SparseExtent)]
        self._parent = parent
        self._facts = facts
        self.content_id = content_id
        """Changes whenever the disk is written to; what a child knows its parent by."""

    @property
    def path(self) -> str:
        """The descriptor's file, or that of the extent it is in."""
        return self._path

    @property
    def size(self) -> int:
        """Bytes of all extents."""
        return self._parts.size

    @property
    def parent(self) -> Image | None:
        """The disk that this one is the changes to."""
        return self._parent

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Those of the extents."""
        return self._parts.pieces(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``."""
        self.check_range(offset, len(buffer))
        self._parts.read_into(offset, buffer)

    def facts(self) -> dict[str, Fact]:
        """Of the descriptor and the sparse extents' headers."""
        facts = {**self._facts, "extents": self._count}
        if self._sparse:
            headers = [extent.header for extent in self._sparse]
            facts["grain size"] = headers[0].grain_size
            facts["compressed"] = any(header.compressed for header in headers)
            facts["closed cleanly"] = not any(header.unclean for header in headers)
            if any(extent.damaged for extent in self._sparse):
                facts["grain tables"] = "damaged; redundant ones are used where they are whole"
        return facts


def open_vmdk(opening: Opening) -> VmdkImage:
    """Open a disk by its descriptor, or by a sparse extent."""
    if opening.file.read(0, 4) not in (b"KDMV", b"COWD"):
        if opening.file.size > DESCRIPTOR_LIMIT:
            raise opening.unsupported(f"a descriptor of {opening.file.size} bytes")
        text = opening.file.read(0, DESCRIPTOR_LIMIT)
        return _open_disk(opening, parse_descriptor(opening, text, 0))
    header = read_header(opening)
    start, length = header.descriptor
    if length > DESCRIPTOR_LIMIT:
        raise opening.corrupt("sparse extent header", 36, f"a descriptor of {length} bytes")
    text = opening.read_exactly(start, length, "descriptor") if start else b""
    # Others than VMware leave room for one even where it is in a file of its own.
    if text.strip(b"\0\r\n "):
        return _open_disk(opening, parse_descriptor(opening, text, start), header)
    if not header.size:
        raise opening.corrupt("sparse extent header", 12, "neither a capacity nor a descriptor")
    _refuse_part(opening)
    return _open_disk(opening, None, header)


def _refuse_part(opening: Opening) -> None:
    """Raise :exc:`UnsupportedFeature` for one of several extents, if the descriptor is beside.

    By itself it would look like a disk, with zeros for what is in the parent. An extent whose
    descriptor is lost is opened.
    """
    stem = re.fullmatch(rb"(.+)-(?:[sf]\d+|delta|flat)(\.\w+)", opening.name)
    if stem is None:
        return
    name = stem[1] + stem[2]
    try:
        file, _folder = opening.folder.open(name, "descriptor", opening.path)
    except (ImageError, SourceError):
        return
    opening.stack.callback(file.close)
    try:
        descriptor = parse_descriptor(opening, file.read(0, DESCRIPTOR_LIMIT), 0)
    except ImageError:
        return
    if any(opening.name in descriptor.file_names(extent.name) for extent in descriptor.extents):
        raise UnsupportedFeature("image.part", path=opening.path, name=show_name(name))


def _open_disk(
    opening: Opening, descriptor: Descriptor | None, header: SparseHeader | None = None
) -> VmdkImage:
    """Open what a descriptor lists, or with ``header`` the extent that it stands in."""
    facts: dict[str, Fact] = {}
    parent: VmdkImage | None = None
    content_id: int | None = None
    if descriptor is None:
        facts["descriptor"] = "missing; what a parent may hold reads as zeros"
    else:
        _refuse_encrypted(opening, descriptor)
        content_id = descriptor.content_id(opening, b"cid")
        if content_id is None:
            raise opening.corrupt("descriptor", descriptor.at, "it has no CID")
        parent = _open_parent(opening, descriptor)
        facts["type"] = descriptor.text(b"createtype")
        facts["CID"] = f"{content_id:08x}"
        if parent is not None:
            facts["parent"] = parent.path
    parts: list[Part[SourceFile | Image | None]]
    if header is not None and header.size:
        if descriptor is not None and len(descriptor.extents) > 1:
            raise opening.unsupported("a descriptor of several extents inside one of them")
        parts = [Part(header.size, SparseExtent(opening, header, parent, 0))]
    else:
        assert descriptor is not None
        parts = _open_extents(opening, descriptor, parent)
    return VmdkImage(opening.path, parts, parent, content_id, facts)


def _refuse_encrypted(opening: Opening, descriptor: Descriptor) -> None:
    """Refuse what would read as noise: vSphere's encryption is a filter of the disk database."""
    filters = descriptor.values.get(b"ddb.iofilters", b"")
    if b"crypt" in filters.lower() or any(b"crypt" in key for key in descriptor.values):
        raise opening.unsupported("an encrypted VMDK")


def _open_parent(opening: Opening, descriptor: Descriptor) -> VmdkImage | None:
    wanted = descriptor.content_id(opening, b"parentcid")
    if wanted in (None, _NO_PARENT):
        return None
    hint = descriptor.values.get(b"parentfilenamehint")
    if not hint:
        raise opening.corrupt("descriptor", descriptor.at, "it has a parent, but no name for it")
    parent = opening.open_other(descriptor.file_names(hint), "parent", "vmdk")
    if not isinstance(parent, VmdkImage) or parent.content_id != wanted:
        raise opening.corrupt(
            "descriptor",
            descriptor.at,
            f"{parent.path} has changed since: it is not the parent with CID {wanted:08x}",
        )
    return parent


def _open_extents(
    opening: Opening, descriptor: Descriptor, parent: Image | None
) -> list[Part[SourceFile | Image | None]]:
    """The disk's parts."""
    parts: list[Part[SourceFile | Image | None]] = []
    files: dict[bytes, SourceFile] = {}
    start = 0
    for line in descriptor.extents:
        if line.size == 0:
            continue
        if line.access == b"NOACCESS":
            refusal = opening.unsupported(f"the extent {show_name(line.name)} without access")
            parts.append(Part(line.size, _Unreadable(line.size, refusal)))
        elif line.kind == b"ZERO":
            parts.append(Part(line.size, None))
        elif line.kind in (b"FLAT", b"VMFS", b"SPARSE", b"VMFSSPARSE"):
            if line.name not in files:
                files[line.name] = opening.open_file(descriptor.file_names(line.name), "extent")
            inner = replace(opening, file=files[line.name])
            if line.kind in (b"FLAT", b"VMFS"):
                parts += _flat_parts(inner, line)
            else:
                header = read_header(inner)
                if header.size < line.size:
                    raise inner.corrupt(
                        "sparse extent header",
                        0,
                        f"a capacity of {header.size} bytes, not {line.size}",
                    )
                parts.append(Part(line.size, SparseExtent(inner, header, parent, start)))
        else:
            raise opening.unsupported(f"a VMDK extent of type {show_name(line.kind)}")
        start += line.size
    if not 0 < start <= _SIZE_LIMIT:
        raise opening.corrupt("descriptor", descriptor.at, f"its extents have {start} bytes")
    return parts


def _flat_parts(opening: Opening, line: ExtentLine) -> Iterator[Part[SourceFile | Image | None]]:
    """A flat extent's file, and what is missing at its end."""
    present = max(0, min(line.size, opening.file.size - line.position))
    if present:
        yield Part(present, opening.file, line.position)
    if present < line.size:
        missing = line.size - present
        reason = opening.corrupt(
            "flat extent", opening.file.size, f"{missing} bytes are missing at its end"
        )
        yield Part(missing, _Unreadable(missing, reason))
