# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""VHDX, the format of Hyper-V: fixed, dynamic and differencing images.

Sections are those of Microsoft's specification [MS-VHDX].
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

from explorer.core.names import show_name
from explorer.images.base import Fact, Image, Piece, clip_parent
from explorer.images.blocks import SLICE, BlockTable, Slices, sector_runs
from explorer.images.crc32c import crc32c
from explorer.images.guids import show_guid
from explorer.images.vhdx_log import replay_log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.images.opening import Opening

HEADER = "VHDX header"
REGIONS = "VHDX region table"
METADATA = "VHDX metadata table"
TABLE = "VHDX block allocation table"
BITMAP = "VHDX sector bitmap"
LOCATOR = "VHDX parent locator"

_KIB = 1 << 10
_MIB = 1 << 20
_LARGEST_DISK = 64 << 40

# Section 2.2.2: signature, checksum, sequence number, identifiers of file, data and log, versions
# of log and format, length and offset of the log.
_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
_HEADER_SIZE = 4 * _KIB
_HEADER_OFFSETS = (64 * _KIB, 128 * _KIB)

# Section 2.2.3: signature, checksum, entries; then of each identifier, offset, length, and whether
# it must be understood.
_REGIONS = struct.Struct("<4sIII")
_REGION = struct.Struct("<16sQII")
_REGIONS_SIZE = 64 * _KIB
_REGIONS_OFFSETS = (192 * _KIB, 256 * _KIB)
_MOST_ENTRIES = 2047
_TABLE_REGION = "2dc27766-f623-4200-9d64-115e9bfd4a08"
_METADATA_REGION = "8b7ca206-4790-4b9a-b8fe-575f050f886e"

# Section 2.6.1: signature, reserved, entries; then of each identifier, offset, length, flags.
_METADATA = struct.Struct("<8sHH20x")
_ITEM = struct.Struct("<16sIIII")
_METADATA_SIZE = 64 * _KIB
_USER, _REQUIRED = 1 << 0, 1 << 2
_FILE_PARAMETERS = "caa16737-fa36-4d43-b3b6-33f0aa44e76b"
_DISK_SIZE = "2fa54224-cd1b-4876-b211-5dbed83bf4b8"
_DISK_ID = "beca12ab-b2e6-4523-93ef-c309e000c746"
_LOGICAL_SECTOR = "8141bf1d-a96f-4709-ba47-f233a8faab5f"
_PHYSICAL_SECTOR = "cda348c7-445d-4471-9cc9-e9885251c556"
_PARENT_LOCATOR = "a8d35f2d-b30b-454d-abf7-d3d84834ab0c"
_ITEMS = {
    _FILE_PARAMETERS: "file parameters",
    _DISK_SIZE: "virtual disk size",
    _DISK_ID: "virtual disk ID",
    _LOGICAL_SECTOR: "logical sector size",
    _PHYSICAL_SECTOR: "physical sector size",
    _PARENT_LOCATOR: "parent locator",
}
_LEAVE_ALLOCATED = 1 << 0
_HAS_PARENT = 1 << 1

# Section 2.6.2.6: type, reserved, entries; then of each offset of key and value, length of both.
_LOCATOR = struct.Struct("<16sHH")
_PAIR = struct.Struct("<IIHH")
_VHDX_LOCATOR = "b04aefb7-d19e-4a81-b789-25b8e9445913"

# Section 2.5.1: the state of a block is in the lowest bits, its place in the highest, in MiB.
_STATE = 0x7
_PLACE = ~(_MIB - 1)
_NOT_PRESENT, _UNDEFINED, _ZERO, _UNMAPPED = 0, 1, 2, 3
_FULLY_PRESENT, _PARTIALLY_PRESENT = 6, 7
_BITMAP_PRESENT = 6

_BITS_PER_BITMAP = 1 << 23
"""Sectors of which a bitmap of 1 MiB tells."""


class _Header(NamedTuple):
    """What is used of the current header."""

    data_guid: bytes
    """Changes with the disk's data."""
    log_guid: bytes
    log_length: int
    log_offset: int


def _read_header(opening: Opening) -> _Header:
    """The valid header with the greater sequence number (section 2.2.2)."""
    if opening.file.read(0, 8) != b"vhdxfile":
        raise opening.corrupt("VHDX file identifier", 0, "it is missing")
    valid: list[tuple[int, bytes]] = []
    for offset in _HEADER_OFFSETS:
        raw = opening.read_exactly(offset, _HEADER_SIZE, HEADER)
        signature, checksum, sequence = _HEADER.unpack_from(raw)[:3]
        if signature == b"head" and crc32c(raw[:4] + bytes(4) + raw[8:]) == checksum:
            valid.append((sequence, raw))
    if not valid:
        raise opening.corrupt(HEADER, _HEADER_OFFSETS[0], "neither of the two is valid")
    if len(valid) == 2 and valid[0][0] == valid[1][0] and valid[0] != valid[1]:
        raise opening.corrupt(HEADER, _HEADER_OFFSETS[0], "neither of the two is the current one")
    fields = _HEADER.unpack_from(max(valid)[1])
    data_guid, log_guid, log_version, version, log_length, log_offset = fields[4:]
    if version != 1:
        raise opening.unsupported(f"VHDX version {version}")
    if log_version and any(log_guid):
        raise opening.unsupported(f"a VHDX log of version {log_version}")
    return _Header(data_guid, log_guid, log_length, log_offset)


class _Region(NamedTuple):
    """A part of the file."""

    offset: int
    length: int


def _read_regions(opening: Opening) -> dict[str, _Region]:
    """The known regions (section 2.2.3)."""
    for offset in _REGIONS_OFFSETS:
        raw = opening.read_exactly(offset, _REGIONS_SIZE, REGIONS)
        signature, checksum, count, _reserved = _REGIONS.unpack_from(raw)
        if signature == b"regi" and crc32c(raw[:4] + bytes(4) + raw[8:]) == checksum:
            break
    else:
        raise opening.corrupt(REGIONS, _REGIONS_OFFSETS[0], "neither of the copies is valid")
    if count > _MOST_ENTRIES:
        raise opening.corrupt(REGIONS, offset + 8, f"{count} entries")
    regions: dict[str, _Region] = {}
    for number in range(count):
        place = _REGIONS.size + number * _REGION.size
        raw_guid, start, length, required = _REGION.unpack_from(raw, place)
        guid = show_guid(raw_guid)
        if guid not in (_TABLE_REGION, _METADATA_REGION):
            if required & 1:
                raise opening.unsupported(f"a VHDX region of the kind {guid}")
            continue
        if guid in regions or start < _MIB or start % _MIB or length % _MIB:
            raise opening.corrupt(
                REGIONS, offset + place, f"the region {guid} with {length} bytes at {start}"
            )
        regions[guid] = _Region(start, length)
    for guid in (_TABLE_REGION, _METADATA_REGION):
        if guid not in regions:
            raise opening.corrupt(REGIONS, offset, f"the region {guid} is missing")
    return regions


class _Metadata:
    """The items of the metadata region (section 2.6)."""

    def __init__(self, opening: Opening, region: _Region) -> None:
        self._opening = opening
        self._region = region
        raw = opening.read_exactly(region.offset, _METADATA_SIZE, METADATA)
        signature, _reserved, count = _METADATA.unpack_from(raw)
        if signature != b"metadata" or count > _MOST_ENTRIES:
            raise opening.corrupt(METADATA, region.offset, "it does not begin as one")
        self._items: dict[str, _Region] = {}
        for number in range(count):
            place = _METADATA.size + number * _ITEM.size
            raw_guid, offset, length, flags, _reserved = _ITEM.unpack_from(raw, place)
            guid = show_guid(raw_guid)
            if guid not in _ITEMS or flags & _USER:
                if flags & _REQUIRED:
                    raise opening.unsupported(f"VHDX metadata of the kind {guid}")
                continue
            if guid in self._items or offset < _METADATA_SIZE or offset + length > region.length:
                raise opening.corrupt(
                    METADATA,
                    region.offset + place,
                    f"the {_ITEMS[guid]} with {length} bytes at {offset}",
                )
            self._items[guid] = _Region(region.offset + offset, length)

    def read(self, guid: str, length: int | None = None) -> tuple[int, bytes]:
        """Where an item is in the file, and its bytes, which are ``length`` if that is given."""
        name = _ITEMS[guid]
        if guid not in self._items:
            raise self._opening.corrupt(METADATA, self._region.offset, f"the {name} is missing")
        item = self._items[guid]
        # Section 2.6.1.2.
        if item.length > _MIB or length not in (None, item.length):
            raise self._opening.corrupt(f"VHDX {name}", item.offset, f"{item.length} bytes")
        return item.offset, self._opening.read_exactly(item.offset, item.length, f"VHDX {name}")


class _Parameters(NamedTuple):
    """What the metadata tells of the disk."""

    size: int
    block_size: int
    flags: int
    sector: int
    """Bytes of a logical sector."""
    physical_sector: int
    identifier: bytes


def _read_parameters(opening: Opening, metadata: _Metadata) -> _Parameters:
    """The items that every image has (section 2.6.2)."""
    place, raw = metadata.read(_FILE_PARAMETERS, 8)
    block_size, flags = struct.unpack("<II", raw)
    if not _MIB <= block_size <= 256 * _MIB or block_size & (block_size - 1):
        raise opening.corrupt("VHDX file parameters", place, f"blocks of {block_size} bytes")
    if flags & ~(_LEAVE_ALLOCATED | _HAS_PARENT):
        raise opening.unsupported(f"a VHDX image with the flags 0x{flags:x}")
    sectors = []
    for guid in (_LOGICAL_SECTOR, _PHYSICAL_SECTOR):
        place, raw = metadata.read(guid, 4)
        (sector,) = struct.unpack("<I", raw)
        if sector not in (512, 4096):
            raise opening.corrupt(f"VHDX {_ITEMS[guid]}", place, f"sectors of {sector} bytes")
        sectors.append(sector)
    place, raw = metadata.read(_DISK_SIZE, 8)
    (size,) = struct.unpack("<Q", raw)
    if not 0 < size <= _LARGEST_DISK or size % sectors[0]:
        raise opening.corrupt("VHDX virtual disk size", place, f"a disk of {size} bytes")
    _place, identifier = metadata.read(_DISK_ID, 16)
    return _Parameters(size, block_size, flags, sectors[0], sectors[1], identifier)


class VhdxImage(Image):
    """A VHDX image."""

    format = "vhdx"

    def __init__(
        self,
        opening: Opening,
        header: _Header,
        parameters: _Parameters,
        table: _Region,
        parent: VhdxImage | None,
    ) -> None:
        """Of the opening's file, with its log replayed."""
        super().__init__()
        self._opening = opening
        self._file = opening.file
        self.header = header
        self.parameters = parameters
        self._parent = parent
        # Section 2.5: after the entries of each chunk's blocks comes the one of its bitmap.
        blocks = -(-parameters.size // parameters.block_size)
        self._chunk_size = _BITS_PER_BITMAP * parameters.sector
        self._chunk_blocks = self._chunk_size // parameters.block_size
        if parent is None:
            count = blocks + (blocks - 1) // self._chunk_blocks
        else:
            count = -(-blocks // self._chunk_blocks) * (self._chunk_blocks + 1)
        if count * 8 > table.length:
            raise opening.corrupt(
                TABLE, table.offset, f"{table.length} bytes do not hold {count} entries"
            )
        self._table = BlockTable(opening, TABLE, table.offset, count, width=8)

    @property
    def path(self) -> str:
        """The file's path, safe to show."""
        return self._file.path

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self.parameters.size

    @property
    def block_size(self) -> int:
        """Bytes of a logical sector: 512 or 4096."""
        return self.parameters.sector

    @property
    def parent(self) -> Image | None:
        """The image that a differencing one was made of."""
        return self._parent

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Blocks of the file, zeros, and what the parent has."""
        end = offset + length
        block_size = self.parameters.block_size
        first, last = offset // block_size, -(-end // block_size)
        while first < last:
            chunk = first // self._chunk_blocks
            stop = min(last, (chunk + 1) * self._chunk_blocks)
            runs = self._table.runs(first + chunk, stop + chunk, _is_data, block_size)
            for entry_index, count, entry in runs:
                index = entry_index - chunk
                start = max(offset, index * block_size)
                length = min(end, (index + count) * block_size) - start
                state = entry & _STATE
                if state == _NOT_PRESENT:
                    yield from clip_parent(self._parent, start, length)
                elif state in (_UNDEFINED, _ZERO, _UNMAPPED):
                    yield Piece(length)
                else:
                    position = self._position(entry_index, entry, start - index * block_size)
                    self._check(entry_index, position, length)
                    if state == _FULLY_PRESENT:
                        yield Piece(length, self._file, position)
                    else:
                        yield from self._sectors(chunk, start, length, position)
            first = stop

    def _position(self, entry_index: int, entry: int, skipped: int) -> int:
        """Where bytes of a block are whose state says that it is in the file."""
        state = entry & _STATE
        if state != _FULLY_PRESENT and (state != _PARTIALLY_PRESENT or self._parent is None):
            raise self._opening.corrupt(
                TABLE, self._table.position(entry_index), f"a block in state {state}"
            )
        return (entry & _PLACE) + skipped

    def _check(self, entry_index: int, position: int, length: int) -> None:
        if position < _MIB or position + length > self._file.size:
            raise self._opening.corrupt(
                TABLE,
                self._table.position(entry_index),
                f"{length} bytes at {position} in a file of {self._file.size}",
            )

    def _sectors(self, chunk: int, start: int, length: int, position: int) -> Iterator[Piece]:
        """The pieces of blocks of a chunk that its bitmap divides between file and parent.

        They begin at ``start`` on the disk and at ``position`` in the file, in a row.
        """
        sector = self.parameters.sector
        entry_index = (chunk + 1) * (self._chunk_blocks + 1) - 1
        entry = self._table.read_entry(entry_index)
        if entry & _STATE != _BITMAP_PRESENT:
            raise self._opening.corrupt(
                TABLE, self._table.position(entry_index), "the sector bitmap is missing"
            )
        place = entry & _PLACE
        self._check(entry_index, place, _MIB)
        bitmap = Slices(self._opening, BITMAP, place, _MIB)
        origin = chunk * self._chunk_size
        end = start + length
        number = (start - origin) // sector
        last = -(-(end - origin) // sector)
        while number < last:
            count = min(last - number, 8 * SLICE - number % (8 * SLICE))
            raw = bitmap.read_slice(number // (8 * SLICE))
            base = number - number % (8 * SLICE)
            for own, bit, sectors in sector_runs(raw, number - base, count, low_bit_first=True):
                begin = max(start, origin + (base + bit) * sector)
                size = min(end, origin + (base + bit + sectors) * sector) - begin
                if own:
                    yield Piece(size, self._file, position + begin - start)
                else:
                    yield from clip_parent(self._parent, begin, size)
            number += count

    def facts(self) -> dict[str, Fact]:
        """Type, sizes, creator, identifier, state of the log, and parent."""
        parameters = self.parameters
        kind = "fixed" if parameters.flags & _LEAVE_ALLOCATED else "dynamic"
        facts: dict[str, Fact] = {
            "type": "differencing" if parameters.flags & _HAS_PARENT else kind,
            "block size": parameters.block_size,
            "logical sector": parameters.sector,
            "physical sector": parameters.physical_sector,
            # Section 2.2.1: after the signature.
            "creator": _show_text(self._file.read(8, 512)),
            "id": show_guid(parameters.identifier),
            "log": "replayed in memory" if any(self.header.log_guid) else "empty",
        }
        if self._parent is not None:
            facts["parent"] = self._parent.path
        return facts


def _is_data(entry: int) -> bool:
    return entry & _STATE > _UNMAPPED


def _show_text(raw: bytes) -> str:
    return show_name(raw.decode("utf-16-le", "replace").split("\0")[0].encode())


# ---- The parent --------------------------------------------------------------------------------


def _read_locator(opening: Opening, metadata: _Metadata) -> tuple[int, dict[str, str]]:
    """Where the parent locator is, and its pairs of key and value (section 2.6.2.6)."""
    place, raw = metadata.read(_PARENT_LOCATOR)
    if len(raw) < _LOCATOR.size:
        raise opening.corrupt(LOCATOR, place, f"{len(raw)} bytes")
    raw_guid, _reserved, count = _LOCATOR.unpack_from(raw)
    guid = show_guid(raw_guid)
    if guid != _VHDX_LOCATOR:
        raise opening.unsupported(f"a VHDX parent of the kind {guid}")
    pairs = {}
    for number in range(count):
        at = _LOCATOR.size + number * _PAIR.size
        if at + _PAIR.size > len(raw):
            raise opening.corrupt(LOCATOR, place + at, f"{count} entries in {len(raw)} bytes")
        key, value, key_length, value_length = _PAIR.unpack_from(raw, at)
        if max(key + key_length, value + value_length) > len(raw):
            raise opening.corrupt(LOCATOR, place + at, "a text beyond its end")
        pairs[_text(raw[key : key + key_length])] = _text(raw[value : value + value_length])
    return place, pairs


def _text(raw: bytes) -> str:
    return raw.decode("utf-16-le", "replace")


def _open_parent(opening: Opening, metadata: _Metadata, parameters: _Parameters) -> VhdxImage:
    place, pairs = _read_locator(opening, metadata)
    paths = [
        pairs.get(key, "").split("\0")[0].replace("\\", "/").encode()
        for key in ("relative_path", "volume_path", "absolute_win32_path")
    ]
    # Of Windows' absolute paths, only the last part means something here.
    names = [paths[0], *(path.rpartition(b"/")[2] for path in paths)]
    named = [name for name in dict.fromkeys(names) if name]
    # Of this format, or refused.
    parent = cast("VhdxImage", opening.open_other(named, "parent", "vhdx"))
    # Section 2.6.2.6.3: while an image is merged into its parent, either may be right.
    known = {pairs.get(key, "").lower() for key in ("parent_linkage", "parent_linkage2")}
    found = show_guid(parent.header.data_guid)
    if f"{{{found}}}" not in known:
        raise opening.corrupt(
            LOCATOR, place, f"{parent.path} is not the parent, or was written to since: {found}"
        )
    if parent.parameters.sector != parameters.sector:
        raise opening.corrupt(LOCATOR, place, f"{parent.path} has sectors of another size")
    return parent


def open_vhdx(opening: Opening) -> Image:
    """Open a VHDX image, and its parents."""
    header = _read_header(opening)
    if any(header.log_guid):
        overlay = replay_log(opening, header.log_guid, header.log_offset, header.log_length)
        opening = replace(opening, file=overlay)
    regions = _read_regions(opening)
    metadata = _Metadata(opening, regions[_METADATA_REGION])
    parameters = _read_parameters(opening, metadata)
    parent = None
    if parameters.flags & _HAS_PARENT:
        parent = _open_parent(opening, metadata, parameters)
    return VhdxImage(opening, header, parameters, regions[_TABLE_REGION], parent)
