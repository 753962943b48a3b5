# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""DMG: Apple's Universal Disk Image Format (UDIF).

A trailer leads to a property list, or in older images to a resource fork, with one table for each
partition: runs of sectors that are stored plainly or compressed, or not at all.

Apple never published the format. Sources: Jonathan Levin, "Demystifying the DMG File Format"; the
description of UDIF in libmodi; for the resource fork "Inside Macintosh: More Macintosh Toolbox",
chapter 1. Encrypted images are another container around this one.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from array import array
from base64 import b64decode
from bisect import bisect_right
from functools import partial
from typing import TYPE_CHECKING
from xml.parsers import expat

from explorer.core.names import show_name
from explorer.images.base import Image, Piece
from explorer.images.files import FileRange
from explorer.images.raw import RawImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from explorer.images.base import Fact
    from explorer.images.opening import Opening

SECTOR = 512
_SIZE_LIMIT = 2**63 - 4096

# UDIFResourceFile, the trailer: magic, version, size, flags, running offset; data fork, resource
# fork; segment number and count; further on the property list, the checksum and the sectors.
_TRAILER = struct.Struct(">4sIIIQQQQQII")
_TRAILER_SIZE = 512
_PROPERTY_LIST = struct.Struct(">QQ")
_PROPERTY_LIST_AT = 216
_CHECKSUM = struct.Struct(">III")
_CHECKSUM_AT = 352
_CRC32 = 2
_SECTORS_AT = 492

# BLKXTable: magic, version, first sector, sectors, data offset; the count of runs; then the runs:
# kind, comment, first sector in the table, sectors, place in the data fork, stored length.
_TABLE = struct.Struct(">4sIQQQ")
_RUN_COUNT = struct.Struct(">I")
_RUN_COUNT_AT = 200
_RUN = struct.Struct(">IIQQQQ")
_RUNS_AT = 204

_ZERO = 0
_RAW = 1
_IGNORED = 2
_COMMENT = 0x7FFFFFFE
_LAST = 0xFFFFFFFF
_ADC = 0x80000004
_ZLIB = 0x80000005
_BZIP2 = 0x80000006
_LZMA = 0x80000008
_COMPRESSIONS = {
    _ADC: "ADC",
    _ZLIB: "zlib",
    _BZIP2: "bzip2",
    0x80000007: "LZFSE",
    _LZMA: "LZMA",
}

TABLES_LIMIT = 64 << 20
"""Bytes of the property list or resource fork: the runs of about a terabyte."""

RUN_LIMIT = 32 << 20
"""Bytes of what must be decompressed in one go; Apple's runs have 1 MiB."""

_SHOWN_NAMES = 128

# What a decoder of LZMA may take for its dictionary.
_LZMA_MEMORY = 128 << 20


# ---- Apple Data Compression


def expand_adc(stored: bytes, size: int) -> bytes:
    """Decompress at most ``size`` bytes; raises :exc:`ValueError` when they are damaged.

    Each step is a control byte: with bit 7, that many bytes follow; with bit 6, a long repetition
    of what came before, with 16 bits of distance; else a short one with 10 bits.
    """
    out = bytearray()
    at = 0
    while at < len(stored) and len(out) < size:
        control = stored[at]
        if control & 0x80:
            count = (control & 0x7F) + 1
            out += stored[at + 1 : at + 1 + count]
            at += 1 + count
            continue
        if control & 0x40:
            count = (control & 0x3F) + 4
            distance = int.from_bytes(stored[at + 1 : at + 3], "big") + 1
            at += 3
        else:
            count = (control >> 2) + 3
            distance = ((control & 3) << 8 | int.from_bytes(stored[at + 1 : at + 2], "big")) + 1
            at += 2
        if distance > len(out):
            raise ValueError("a repetition of what is before the start")
        start = len(out) - distance
        # A repetition may reach into itself.
        repeated = out[start : start + count]
        out += (repeated * -(-count // len(repeated)))[:count]
    return bytes(out[:size])


def _expand_lzma(stored: bytes, size: int) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, _LZMA_MEMORY).decompress(stored, size)


_DECODERS: dict[int, Callable[[bytes, int], bytes]] = {
    _ADC: expand_adc,
    _ZLIB: lambda stored, size: zlib.decompressobj().decompress(stored, size),
    _BZIP2: lambda stored, size: bz2.BZ2Decompressor().decompress(stored, size),
    _LZMA: _expand_lzma,
}


# ---- The tables


class _Runs:
    """The runs of a disk in order, without gaps."""

    def __init__(self) -> None:
        self.starts = array("Q")
        """Bytes from the start of the disk; one more than runs, the last is the disk's size."""
        self.kinds = array("I")
        self.places = array("Q")
        """Bytes from the start of the file."""
        self.lengths = array("Q")
        """Bytes that are stored."""

    def add(self, start: int, kind: int, place: int, length: int) -> None:
        """Add a run; of neighbours that are zeros, one."""
        if kind == _ZERO and self.kinds and self.kinds[-1] == _ZERO:
            return
        self.starts.append(start)
        self.kinds.append(kind)
        self.places.append(place)
        self.lengths.append(length)


class _PropertyListReader:
    """Finds the tables in a property list: in ``resource-fork``, the ``blkx`` array.

    Only these are kept: a list may be large, and is not to be trusted.
    """

    _DEPTH = 16

    def __init__(self, opening: Opening, start: int) -> None:
        self._opening = opening
        self._start = start
        self._keys: list[str] = []
        # The key that the next value stands at; and the text since the last tag.
        self._key = ""
        self._text: list[str] = []
        self.tables: list[bytes] = []
        self.names: list[str] = []

    def read(self, data: bytes) -> None:
        """Parse the whole list."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._open
        parser.EndElementHandler = self._close
        parser.CharacterDataHandler = self._text.append
        parser.EntityDeclHandler = self._refuse_entity
        try:
            parser.Parse(data, True)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise self._opening.corrupt("property list", self._start, str(error)) from None

    def _refuse_entity(self, *_declared: object) -> None:
        raise ValueError("it declares entities")

    def _open(self, name: str, _attributes: dict[str, str]) -> None:
        self._text.clear()
        if name in ("dict", "array"):
            if len(self._keys) == self._DEPTH:
                raise ValueError("it is nested too deeply")
            self._keys.append(self._key)
            self._key = ""

    def _close(self, name: str) -> None:
        if name in ("dict", "array"):
            self._key = self._keys.pop()
        elif name == "key":
            self._key = "".join(self._text)
        elif self._keys == ["", "resource-fork", "blkx", ""]:
            if (name, self._key) == ("data", "Data"):
                self.tables.append(b64decode("".join(self._text)))
            elif (name, self._key) == ("string", "Name"):
                self.names.append(show_name("".join(self._text).encode()))
        self._text.clear()


def _read_resource_fork(opening: Opening, start: int, data: bytes) -> Iterator[bytes]:
    """The resources of type ``blkx``."""
    try:
        data_at, map_at = struct.unpack_from(">II", data)
        types_at = map_at + struct.unpack_from(">H", data, map_at + 24)[0]
        (types,) = struct.unpack_from(">H", data, types_at)
        # Counts are one less than there are.
        for number in range((types + 1) % 65536):
            kind, count, list_at = struct.unpack_from(">4sHH", data, types_at + 2 + 8 * number)
            if kind != b"blkx":
                continue
            for reference in range(count + 1):
                # ID, place of the name, attributes and 24 bits of the place.
                at = types_at + list_at + 12 * reference
                place = data_at + (struct.unpack_from(">I", data, at + 4)[0] & 0xFFFFFF)
                (length,) = struct.unpack_from(">I", data, place)
                yield data[place + 4 : place + 4 + length]
    except struct.error:
        raise opening.corrupt("resource fork", start, "it points beyond its end") from None


def _read_tables(opening: Opening, tables: list[bytes], at: int, data_fork: int) -> _Runs:
    """All runs of all tables; ``at`` is where the tables stand, for messages."""
    found = _Runs()
    ends = array("Q")
    sorted_already = True
    for table in tables:
        if len(table) < _RUNS_AT:
            raise opening.corrupt("blkx table", at, f"a table of {len(table)} bytes")
        magic, _version, first, _sectors, data_offset = _TABLE.unpack_from(table)
        (count,) = _RUN_COUNT.unpack_from(table, _RUN_COUNT_AT)
        if magic != b"mish" or _RUNS_AT + count * _RUN.size > len(table):
            raise opening.corrupt("blkx table", at, f"not a table of {count} runs")
        runs = _RUN.iter_unpack(table[_RUNS_AT : _RUNS_AT + count * _RUN.size])
        for kind, _comment, start, sectors, place, length in runs:
            if kind in (_COMMENT, _LAST) or not sectors:
                continue
            start = (first + start) * SECTOR
            size = sectors * SECTOR
            place += data_fork + data_offset
            if kind in (_ZERO, _IGNORED):
                kind, place, length = _ZERO, 0, 0
            _check_run(opening, at, kind, start + size, size, place, length)
            sorted_already = sorted_already and (not ends or ends[-1] <= start)
            found.starts.append(start)
            found.kinds.append(kind)
            found.places.append(place)
            found.lengths.append(length)
            ends.append(start + size)
    order: Sequence[int] = range(len(ends))
    if not sorted_already:
        order = sorted(order, key=found.starts.__getitem__)
    return _fill_gaps(opening, at, found, ends, order)


def _check_run(
    opening: Opening, at: int, kind: int, end: int, size: int, place: int, length: int
) -> None:
    if end > _SIZE_LIMIT:
        raise opening.corrupt("blkx table", at, "a run is beyond the largest disk")
    if kind == _ZERO:
        return
    if kind not in (_RAW, *_DECODERS):
        name = _COMPRESSIONS.get(kind, f"a run of type {kind:#010x}")
        raise opening.unsupported(f"a DMG with {name}")
    if place + length > opening.file.size:
        raise opening.corrupt(
            "blkx table", at, f"a run of {length} bytes at {place} is beyond the end of the file"
        )
    if kind == _RAW:
        if length < size:
            raise opening.corrupt("blkx table", at, f"{size} bytes are stored in {length}")
    elif max(size, length) > RUN_LIMIT:
        raise opening.unsupported(f"a DMG with runs of {max(size, length)} bytes")


def _fill_gaps(
    opening: Opening, at: int, found: _Runs, ends: array[int], order: Sequence[int]
) -> _Runs:
    """The runs in order, with zeros where there are none."""
    runs = _Runs()
    end = 0
    for index in order:
        start = found.starts[index]
        if start < end:
            raise opening.corrupt("blkx table", at, f"two runs have the byte {start} of the disk")
        if start > end:
            runs.add(end, _ZERO, 0, 0)
        runs.add(start, found.kinds[index], found.places[index], found.lengths[index])
        end = ends[index]
    runs.starts.append(end)
    return runs


# ---- The image


class DmgImage(Image):
    """A disk in runs."""

    format = "dmg"

    def __init__(self, opening: Opening, runs: _Runs, facts: dict[str, Fact]) -> None:
        """Of ``opening.file``, which whoever opened it closes."""
        super().__init__()
        self._opening = opening
        self._runs = runs
        self._facts = facts

    @property
    def path(self) -> str:
        """The file."""
        return self._opening.path

    @property
    def size(self) -> int:
        """Bytes up to the end of the last run."""
        return self._runs.starts[-1]

    def facts(self) -> dict[str, Fact]:
        """Of the trailer and the tables."""
        return dict(self._facts)

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The runs; of neighbours that are all compressed, one piece."""
        starts, kinds, places = self._runs.starts, self._runs.kinds, self._runs.places
        end = offset + length
        index = bisect_right(starts, offset) - 1
        while offset < end:
            kind = kinds[index]
            skipped = offset - starts[index]
            position = places[index] + skipped
            index += 1
            while kind > _RAW and starts[index] < end and kinds[index] > _RAW:
                index += 1
            length = min(starts[index], end) - offset
            if kind == _ZERO:
                yield Piece(length)
            elif kind == _RAW:
                yield Piece(length, self._opening.file, position)
            else:
                yield Piece(length, self, offset)
            offset += length

    def decode_into(self, position: int, buffer: memoryview) -> None:
        """Decompress runs; ``position`` is in the disk."""
        index = bisect_right(self._runs.starts, position) - 1
        done = 0
        while done < len(buffer):
            run = self._opening.cache.get((self, index), partial(self._decode, index))
            within = position + done - self._runs.starts[index]
            part = run[within : within + len(buffer) - done]
            buffer[done : done + len(part)] = part
            done += len(part)
            index += 1

    def _decode(self, index: int) -> bytes:
        runs = self._runs
        size = runs.starts[index + 1] - runs.starts[index]
        place = runs.places[index]
        name = _COMPRESSIONS[runs.kinds[index]]
        stored = self._opening.read_exactly(place, runs.lengths[index], f"{name} run")
        try:
            decoded = _DECODERS[runs.kinds[index]](stored, size)
        except (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError) as error:
            raise self._opening.corrupt(f"{name} run", place, str(error)) from None
        if len(decoded) != size:
            raise self._opening.corrupt(
                f"{name} run", place, f"it has {len(decoded)} bytes instead of {size}"
            )
        return decoded


class PlainDmgImage(RawImage):
    """A disk that is stored as it is, before a trailer."""

    format = "dmg"


def open_dmg(opening: Opening) -> Image:
    """Open an image by its trailer, which a few writers put at the start."""
    last = max(0, opening.file.size - _TRAILER_SIZE)
    at = last if opening.file.read(last, 4) == b"koly" else 0
    trailer = opening.read_exactly(at, _TRAILER_SIZE, "koly trailer")
    (
        magic,
        version,
        _size,
        _flags,
        _running,
        data_fork,
        data_length,
        fork,
        fork_length,
        _segment,
        segments,
    ) = _TRAILER.unpack_from(trailer)
    if magic != b"koly":
        raise opening.corrupt("koly trailer", at, "it does not begin with koly")
    if version != 4:
        raise opening.unsupported(f"version {version} of a DMG")
    if segments > 1:
        raise opening.unsupported(f"a DMG in {segments} segments")
    listing, listing_length = _PROPERTY_LIST.unpack_from(trailer, _PROPERTY_LIST_AT)
    facts: dict[str, Fact] = {}
    checksum, _bits, value = _CHECKSUM.unpack_from(trailer, _CHECKSUM_AT)
    if checksum == _CRC32:
        facts["checksum"] = f"CRC-32 {value:08x}"
    if listing_length:
        start, structure = listing, "property list"
        reader = _PropertyListReader(opening, listing)
        reader.read(_read_tables_data(opening, listing, listing_length, structure))
        tables = reader.tables
        facts["partitions"] = reader.names[:_SHOWN_NAMES]
    elif fork_length:
        start, structure = fork, "resource fork"
        data = _read_tables_data(opening, fork, fork_length, structure)
        tables = list(_read_resource_fork(opening, fork, data))
    else:
        return _open_plain(opening, data_fork, data_length, at or opening.file.size)
    runs = _read_tables(opening, tables, start, data_fork)
    if not runs.kinds:
        raise opening.corrupt(structure, start, "there are no runs in it")
    (sectors,) = struct.unpack_from(">Q", trailer, _SECTORS_AT)
    if sectors * SECTOR > _SIZE_LIMIT:
        raise opening.corrupt("koly trailer", at + _SECTORS_AT, f"{sectors} sectors")
    if sectors * SECTOR > runs.starts[-1]:
        end = runs.starts.pop()
        runs.add(end, _ZERO, 0, 0)
        runs.starts.append(sectors * SECTOR)
    facts["runs"] = len(runs.kinds)
    kinds = sorted(set(runs.kinds) & set(_COMPRESSIONS))
    facts["compression"] = [_COMPRESSIONS[kind] for kind in kinds] or "none"
    return DmgImage(opening, runs, facts)


def _read_tables_data(opening: Opening, start: int, length: int, structure: str) -> bytes:
    if length > TABLES_LIMIT:
        raise opening.unsupported(f"a DMG with a {structure} of {length} bytes")
    return opening.read_exactly(start, length, structure)


def _open_plain(opening: Opening, start: int, length: int, end: int) -> Image:
    if length == 0 or start + length > end:
        raise opening.corrupt(
            "data fork", start, f"{length} bytes, of which {end - start} are there"
        )
    return PlainDmgImage(FileRange(opening.file, start, length, opening.path))
