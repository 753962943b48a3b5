# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""VDI, the format of VirtualBox: fixed, dynamic and differencing images.

There is no specification. The structures and their names are those of VirtualBox' VDICore.h;
QEMU's block/vdi.c describes the same for fixed and dynamic images.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, cast

from explorer.core.errors import ImageError, MissingPart, SourceError
from explorer.core.names import show_name
from explorer.images.base import Fact, Image, Piece, clip_parent
from explorer.images.blocks import BlockTable
from explorer.images.guids import show_guid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.images.opening import Opening

HEADER = "VDI header"
BLOCK_MAP = "VDI block map"

_DYNAMIC, _FIXED, _UNDO, _DIFFERENCING = 1, 2, 3, 4
_TYPES = {_DYNAMIC: "dynamic", _FIXED: "fixed", _DIFFERENCING: "differencing"}

_UNALLOCATED = 0xFFFFFFFF
"""Entry of a block that was never written: the parent's, or zeros."""
_ZERO = 0xFFFFFFFE
"""Entry of a block that was discarded: zeros."""

PARENT_SEARCH_LIMIT = 1000
"""Files that are looked at to find a parent."""

# VDIPREHEADER and VDIHEADER1: text, signature, version, size of the rest, type, flags, comment,
# offsets of block map and data, geometry (cylinders, heads, sectors, bytes of a sector), unused,
# size, block size, extra bytes before each block, blocks, allocated blocks, four identifiers.
_LAYOUT = struct.Struct("<64sIIIII256sIIIIIIIQIIII16s16s16s16s")
_SIGNATURE = 0xBEDA107F
_VERSION = 0x00010001
_SECTOR = 512
_LARGEST_BLOCK = 1 << 30


class _Header(NamedTuple):
    """What is used of the two headers."""

    creator: bytes
    type: int
    comment: bytes
    map_offset: int
    data_offset: int
    size: int
    block_size: int
    extra: int
    blocks: int
    identifier: bytes
    modified: bytes
    """Changes with each writing."""
    parent: bytes
    """The parent's identifier."""
    parent_modified: bytes
    """The parent's ``modified`` when this image was made."""


def _read_header(opening: Opening) -> _Header:
    raw = opening.read_exactly(0, _LAYOUT.size, HEADER)
    fields = _LAYOUT.unpack(raw)
    creator, signature, version, length, kind, _flags, comment, map_offset, data_offset = fields[:9]
    sector, size, block_size, extra, blocks = fields[12], *fields[14:18]
    if signature != _SIGNATURE:
        raise opening.corrupt(HEADER, 64, "the signature is missing")
    if version != _VERSION:
        raise opening.unsupported(f"VDI version {version >> 16}.{version & 0xFFFF}")
    if length < _LAYOUT.size - 72:
        raise opening.corrupt(HEADER, 72, f"a header of {length} bytes")
    if kind == _UNDO:
        raise opening.unsupported("a VDI undo image")
    if kind not in _TYPES:
        raise opening.unsupported(f"VDI image type {kind}")
    if sector != _SECTOR:
        raise opening.unsupported(f"a VDI image with sectors of {sector} bytes")
    if not _SECTOR <= block_size <= _LARGEST_BLOCK or block_size & (block_size - 1):
        raise opening.corrupt(HEADER, 376, f"blocks of {block_size} bytes")
    if extra > _LARGEST_BLOCK:
        raise opening.corrupt(HEADER, 380, f"{extra} extra bytes before each block")
    if not 0 < size <= blocks * block_size:
        raise opening.corrupt(
            HEADER, 368, f"a disk of {size} bytes in {blocks} blocks of {block_size}"
        )
    return _Header(
        creator,
        kind,
        comment,
        map_offset,
        data_offset,
        size,
        block_size,
        extra,
        blocks,
        *fields[19:23],
    )


class VdiImage(Image):
    """A VDI image."""

    format = "vdi"

    def __init__(self, opening: Opening, header: _Header, parent: VdiImage | None) -> None:
        """Of the opening's file, whose header this is."""
        super().__init__()
        self._opening = opening
        self._file = opening.file
        self.header = header
        self._parent = parent
        # The used part of the map only, which may be longer than the disk.
        count = -(-header.size // header.block_size)
        self._map = BlockTable(opening, BLOCK_MAP, header.map_offset, count)

    @property
    def path(self) -> str:
        """The file's path, safe to show."""
        return self._file.path

    @property
    def size(self) -> int:
        """Bytes of the disk; VirtualBox rounds them down to sectors, QEMU up."""
        return self.header.size

    @property
    def parent(self) -> Image | None:
        """The image that a differencing one was made of."""
        return self._parent

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Blocks of the file, zeros, and what the parent has."""
        end = offset + length
        header = self.header
        block_size = header.block_size
        distance = block_size + header.extra
        runs = self._map.runs(
            offset // block_size,
            -(-end // block_size),
            lambda entry: entry < _ZERO,
            0 if header.extra else 1,
        )
        for index, count, entry in runs:
            start = max(offset, index * block_size)
            length = min(end, (index + count) * block_size) - start
            if entry == _UNALLOCATED:
                yield from clip_parent(self._parent, start, length)
            elif entry == _ZERO:
                yield Piece(length)
            else:
                position = header.data_offset + entry * distance + header.extra
                position += start - index * block_size
                if position + length > self._file.size:
                    raise self._opening.corrupt(
                        BLOCK_MAP,
                        self._map.position(index),
                        f"block {index} is beyond the end of the file ({self._file.size} bytes)",
                    )
                yield Piece(length, self._file, position)

    def facts(self) -> dict[str, Fact]:
        """Type, block size, maker, identifier and parent."""
        header = self.header
        facts: dict[str, Fact] = {
            "type": _TYPES[header.type],
            "block size": header.block_size,
            "creator": _show_text(header.creator),
            "id": show_guid(header.identifier),
        }
        comment = _show_text(header.comment)
        if comment:
            facts["comment"] = comment
        if self._parent is not None:
            facts["parent"] = self._parent.path
            facts["parent changed"] = header.parent_modified != self._parent.header.modified
        return facts


def _show_text(text: bytes) -> str:
    return show_name(text.split(b"\0")[0].strip())


def _find_parent(opening: Opening, wanted: bytes) -> bytes:
    """The name of the image that has an identifier: the header tells no name.

    Looked for among the images beside this one, then in the folders that the user allowed.
    """
    names = sorted(name for name in opening.folder.names() if name != opening.name)
    names += sorted(opening.folder.allowed_names())
    images = (name for name in names if name.lower().endswith(b".vdi"))
    for name in islice(images, PARENT_SEARCH_LIMIT):
        try:
            file, _folder = opening.folder.open(name, "parent", opening.path)
        except (SourceError, ImageError):
            continue
        try:
            raw = file.read(0, _LAYOUT.size)
        except SourceError:
            continue
        finally:
            file.close()
        if len(raw) == _LAYOUT.size:
            fields = _LAYOUT.unpack(raw)
            if fields[1] == _SIGNATURE and fields[19] == wanted:
                return name
    raise MissingPart(
        "image.missing-part", path=opening.path, role="parent", name=show_guid(wanted)
    )


def open_vdi(opening: Opening) -> Image:
    """Open a VDI image, and its parents."""
    header = _read_header(opening)
    parent = None
    if header.type == _DIFFERENCING:
        name = _find_parent(opening, header.parent)
        # Of this format, or refused.
        parent = cast("VdiImage", opening.open_other([name], "parent", "vdi"))
        # It may be another file of that name by now.
        if parent.header.identifier != header.parent:
            raise opening.corrupt(HEADER, 424, f"{parent.path} is not the parent")
    return VdiImage(opening, header, parent)
