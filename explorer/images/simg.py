# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Android sparse images: chunks of blocks that are stored, filled with a value, or left out.

Source: the Android Open Source Project's libsparse, sparse_format.h. All chunks are gone through
when the image is opened, for nothing else tells where they are.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING

from explorer.images.base import Image, Piece

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.images.base import Fact
    from explorer.images.opening import Opening

_SIZE_LIMIT = 2**63 - 4096

# sparse_header: magic, version, sizes of this header and of a chunk's, block size, blocks, chunks,
# checksum.
_HEADER = struct.Struct("<IHHHHIIII")
_MAGIC = 0xED26FF3A
# chunk_header: type, reserved, blocks, bytes with this header.
_CHUNK = struct.Struct("<HHII")
_RAW = 0xCAC1
_FILL = 0xCAC2
_IGNORED = 0xCAC3
_CRC32 = 0xCAC4
_VALUE_SIZE = 4

CHUNK_LIMIT = 1 << 22
"""Chunks of one image; twice as many as 16 GiB have whose every other block of 4 KiB is stored."""

_HELD_AS_IS = 0
_HELD_AS_VALUE = 1
_HELD_AS_ZEROS = 2

# What is read at once of the chunks' headers, or filled at once.
_BLOCK = 65536


class _Runs:
    """The parts of the disk in order, by what they are held as."""

    def __init__(self) -> None:
        self.starts = array("Q")
        """Bytes from the start of the disk; one more than runs, the last is the disk's size."""
        self.kinds = array("B")
        self.places = array("Q")
        """Where the bytes stand in the file, or the value that fills."""

    def add(self, start: int, kind: int, place: int) -> None:
        """Add what begins at ``start``, if it is not the same once more."""
        repeated = self.kinds and (self.kinds[-1], self.places[-1]) == (kind, place)
        if repeated and kind != _HELD_AS_IS:
            return
        self.starts.append(start)
        self.kinds.append(kind)
        self.places.append(place)


class SimgImage(Image):
    """A disk in chunks."""

    format = "simg"

    def __init__(self, opening: Opening, runs: _Runs, facts: dict[str, Fact]) -> None:
        """Of ``opening.file``, which whoever opened it closes."""
        super().__init__()
        self._file = opening.file
        self._runs = runs
        self._facts = facts

    @property
    def path(self) -> str:
        """The file."""
        return self._file.path

    @property
    def size(self) -> int:
        """Bytes of all blocks."""
        return self._runs.starts[-1]

    def facts(self) -> dict[str, Fact]:
        """Of the header."""
        return dict(self._facts)

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The chunks."""
        runs = self._runs
        end = offset + length
        index = bisect_right(runs.starts, offset) - 1
        while offset < end:
            length = min(runs.starts[index + 1], end) - offset
            if runs.kinds[index] == _HELD_AS_ZEROS:
                yield Piece(length)
            elif runs.kinds[index] == _HELD_AS_VALUE:
                yield Piece(length, self, offset)
            else:
                position = runs.places[index] + offset - runs.starts[index]
                yield Piece(length, self._file, position)
            offset += length
            index += 1

    def decode_into(self, position: int, buffer: memoryview) -> None:
        """Fill with the value at ``position`` of the disk."""
        value = self._runs.places[bisect_right(self._runs.starts, position) - 1]
        # Blocks begin at multiples of the value's size, and so does its first byte.
        block = value.to_bytes(_VALUE_SIZE, "little") * (_BLOCK // _VALUE_SIZE + 1)
        skipped = position % _VALUE_SIZE
        for start in range(0, len(buffer), _BLOCK):
            part = buffer[start : start + _BLOCK]
            part[:] = block[skipped : skipped + len(part)]


def open_simg(opening: Opening) -> Image:
    """Open an image by going through its chunks."""
    header = opening.read_exactly(0, _HEADER.size, "sparse header")
    magic, major, _minor, header_size, chunk_size, block_size, blocks, chunks, checksum = (
        _HEADER.unpack(header)
    )
    if magic != _MAGIC:
        raise opening.corrupt("sparse header", 0, "it has another magic number")
    if major != 1:
        raise opening.unsupported(f"version {major} of an Android sparse image")
    if header_size < _HEADER.size or chunk_size < _CHUNK.size:
        raise opening.corrupt("sparse header", 8, "its own size or that of chunks is too small")
    if not block_size or block_size % _VALUE_SIZE:
        raise opening.corrupt("sparse header", 12, f"blocks of {block_size} bytes")
    if not 0 < blocks * block_size <= _SIZE_LIMIT:
        raise opening.corrupt("sparse header", 16, f"{blocks} blocks of {block_size} bytes")
    if chunks > CHUNK_LIMIT:
        raise opening.unsupported(f"an Android sparse image of {chunks} chunks")
    reader = _ChunkReader(opening, header_size, chunk_size, block_size)
    runs = reader.read(chunks, blocks)
    facts: dict[str, Fact] = {"block size": block_size, "chunks": chunks}
    if checksum:
        facts["checksum"] = f"CRC-32 {checksum:08x}"
    return SimgImage(opening, runs, facts)


class _ChunkReader:
    """Goes through the chunks' headers, several of which are read at once where they are near."""

    def __init__(self, opening: Opening, start: int, chunk_size: int, block_size: int) -> None:
        self._opening = opening
        self._start = start
        self._chunk_size = chunk_size
        self._block_size = block_size
        self._held = b""
        self._held_at = 0

    def read(self, chunks: int, blocks: int) -> _Runs:
        """All runs of a disk of so many blocks."""
        runs = _Runs()
        at = self._start
        offset = 0
        size = blocks * self._block_size
        for _ in range(chunks):
            kind, _reserved, count, total = _CHUNK.unpack(self._near(at, _CHUNK.size))
            length = count * self._block_size
            place = at + self._chunk_size
            if kind == _RAW:
                stored = length
            elif kind in (_FILL, _CRC32):
                stored = _VALUE_SIZE
            elif kind == _IGNORED:
                stored = 0
            else:
                raise self._opening.corrupt("chunk header", at, f"a chunk of type {kind:#06x}")
            if total != self._chunk_size + stored:
                raise self._opening.corrupt("chunk header", at, f"a chunk of {total} bytes")
            if place + stored > self._opening.file.size:
                raise self._opening.corrupt(
                    "chunk", place, f"{stored} bytes are beyond the end of the file"
                )
            if kind != _CRC32 and length:
                if offset + length > size:
                    raise self._opening.corrupt("chunk header", at, "it is beyond the last block")
                if kind == _RAW:
                    runs.add(offset, _HELD_AS_IS, place)
                else:
                    value = self._near(place, stored)
                    if any(value):
                        runs.add(offset, _HELD_AS_VALUE, int.from_bytes(value, "little"))
                    else:
                        runs.add(offset, _HELD_AS_ZEROS, 0)
                offset += length
            at = place + stored
        if offset != size:
            raise self._opening.corrupt(
                "sparse header", 16, f"the chunks have {offset} bytes of {size}"
            )
        runs.starts.append(size)
        return runs

    def _near(self, at: int, length: int) -> bytes:
        """Bytes of the file, which must be there."""
        start = at - self._held_at
        if not 0 <= start <= len(self._held) - length:
            left = self._opening.file.size - at
            held = self._opening.read_exactly(at, max(length, min(left, _BLOCK)), "chunk header")
            self._held, self._held_at, start = held, at, 0
        return self._held[start : start + length]
