# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The runs of an .xz file: its blocks, as the index of each stream tells them.

Names and sections are those of "The .xz File Format", version 1.2.1. A file is read from its end,
so nothing has to be decoded to know where everything is. What liblzma cannot keep is the state of
a decoder: a block can only be decoded from its start, and some files have but one.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from array import array
from typing import TYPE_CHECKING

from explorer.images.packed import LARGEST_SIZE, RUNS_LIMIT, Input, Packing, Stream

if TYPE_CHECKING:
    from explorer.images.base import Fact
    from explorer.images.opening import Opening

FOOTER = "xz stream footer"
INDEX = "xz index"
HEADER = "xz stream header"
BLOCK = "xz block"

MEMORY_LIMIT = 192 << 20
"""Bytes of a decoder; ``xz -9`` needs 65 MiB."""
INDEX_LIMIT = 64 << 20
"""Bytes of an index."""
PADDING_LIMIT = 64 << 20
"""Bytes of zeros between streams."""

# 2.1.1 and 2.1.2: magic bytes, stream flags, CRC32; CRC32, backward size, stream flags, magic.
_MAGIC, _FOOTER_MAGIC = b"\xfd7zXZ\0", b"YZ"
_HEADER_SIZE = 12
_FOOTER = struct.Struct("<II2s2s")
# 2.1.1.2: types of check that have names.
_CHECKS = {0: "none", 1: "CRC32", 4: "CRC64", 10: "SHA-256"}


def _round4(size: int) -> int:
    return (size + 3) & ~3


class _Index:
    """The index of a stream (section 4): the sizes of its blocks."""

    def __init__(self, opening: Opening, position: int, raw: bytes) -> None:
        self._opening = opening
        self._position = position
        self._raw = raw
        self._at = 1
        if raw[:1] != b"\0" or zlib.crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
            raise opening.corrupt(INDEX, position, "it is damaged")
        count = self._number()
        # Each record has two bytes at the least.
        if count * 2 > len(raw):
            raise opening.corrupt(INDEX, position, f"{count} records are more than it has room for")
        self.records = array("Q")
        for _ in range(count):
            self.records.append(self._number())
            self.records.append(self._number())
        if _round4(self._at) != len(raw) - 4:
            raise opening.corrupt(INDEX, position, f"{count} records do not fill it")

    def _number(self) -> int:
        """A multibyte integer (section 1.2)."""
        number = shift = 0
        while self._at < len(self._raw) - 4 and shift < 63:
            byte = self._raw[self._at]
            self._at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7
        raise self._opening.corrupt(INDEX, self._position, "a number in it has no end")


class _BlockStream(Stream):
    def __init__(self, opening: Opening, header: bytes, data: Input) -> None:
        self._opening = opening
        self._input = data
        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT)
        self._header = header

    def read(self, length: int) -> bytes:
        while True:
            data = b""
            if self._decompressor.needs_input:
                data = self._header or self._input.read()
                self._header = b""
                if not data:
                    return b""
            try:
                decoded = self._decompressor.decompress(data, length)
            except lzma.LZMAError as error:
                if "limit" in str(error):
                    raise self._opening.unsupported(
                        f"an xz block that needs more than {MEMORY_LIMIT >> 20} MiB of memory"
                    ) from error
                raise self._opening.corrupt(BLOCK, self._input.latest, str(error)) from error
            if decoded:
                return decoded


class XzPacking(Packing):
    """The blocks of an .xz file."""

    name = "xz"
    structure = BLOCK

    def __init__(self, opening: Opening) -> None:
        """Read the indexes of all streams; raises :exc:`CorruptImage`."""
        self._opening = opening
        self._positions = array("Q")
        self._lengths = array("Q")
        self._flags = array("B")
        """The check of each block's stream."""
        streams = _read_streams(opening)
        starts, size = array("Q"), 0
        for position, check, records in reversed(streams):
            for number in range(0, len(records), 2):
                unpadded, uncompressed = records[number], records[number + 1]
                length = _round4(unpadded)
                if uncompressed:
                    starts.append(size)
                    self._positions.append(position)
                    self._lengths.append(length)
                    self._flags.append(check)
                    size += uncompressed
                    if size > LARGEST_SIZE:
                        raise opening.corrupt(INDEX, position, "the blocks are too large")
                position += length
        self._streams = len(streams)
        super().__init__(opening, starts, size)

    def position(self, number: int) -> int:
        """Where a block begins."""
        return self._positions[number]

    def open_run(self, number: int) -> Stream:
        """Decode a block as if it were the first of its stream."""
        start = self._positions[number]
        return _BlockStream(
            self._opening,
            _stream_header(self._flags[number]),
            Input(self._opening.file, start, start + self._lengths[number], self.tell),
        )

    def facts(self) -> dict[str, Fact]:
        """What it is made of."""
        return {
            "streams": self._streams,
            "blocks": len(self.starts),
            "checks": [_CHECKS.get(check, str(check)) for check in sorted(set(self._flags))],
        }


def _stream_header(check: int) -> bytes:
    flags = bytes((0, check))
    return _MAGIC + flags + zlib.crc32(flags).to_bytes(4, "little")


def _skip_padding(opening: Opening, end: int) -> int:
    """Where the stream ends that is followed by zeros up to ``end`` (section 2.2)."""
    least = max(0, end - PADDING_LIMIT)
    at = end
    while at > least:
        start = max(least, at - 65536)
        rest = len(opening.file.read(start, at - start).rstrip(b"\0"))
        if rest:
            # The padding is of whole words; a footer may not end in zeros.
            return min(end, start + rest)
        at = start
    return at


def _read_streams(opening: Opening) -> list[tuple[int, int, array[int]]]:
    """Of each stream, the last one first: where its blocks begin, its check, its records."""
    streams: list[tuple[int, int, array[int]]] = []
    blocks = 0
    end = opening.file.size
    while end or not streams:
        stop = _skip_padding(opening, end)
        if (end - stop) % 4:
            raise opening.corrupt("xz stream padding", stop, "it is not of whole words")
        start = stop - _FOOTER.size
        if start < _HEADER_SIZE:
            raise opening.corrupt(FOOTER, max(0, start), "there is none")
        raw = opening.read_exactly(start, _FOOTER.size, FOOTER)
        checksum, backward, flags, magic = _FOOTER.unpack(raw)
        if magic != _FOOTER_MAGIC or zlib.crc32(raw[4:10]) != checksum:
            raise opening.corrupt(FOOTER, start, "the file is cut off, or does not end with one")
        if flags[0] or flags[1] > 15:
            raise opening.unsupported(f"xz stream flags {flags.hex()}")
        length = (backward + 1) * 4
        position = start - length
        if length > INDEX_LIMIT:
            raise opening.unsupported(f"an xz index of {length} bytes")
        if position < _HEADER_SIZE:
            raise opening.corrupt(FOOTER, start, f"an index of {length} bytes before it")
        records = _Index(opening, position, opening.read_exactly(position, length, INDEX)).records
        blocks += len(records) // 2
        if blocks > RUNS_LIMIT:
            raise opening.unsupported(f"an xz file of more than {RUNS_LIMIT} blocks")
        first = position - sum(map(_round4, records[::2]))
        header = first - _HEADER_SIZE
        if header < 0 or opening.file.read(header, _HEADER_SIZE) != _stream_header(flags[1]):
            raise opening.corrupt(
                HEADER,
                max(0, header),
                "it is not where the index leads, or differs from the footer",
            )
        streams.append((first, flags[1], records))
        end = header
        if len(streams) > RUNS_LIMIT:
            raise opening.unsupported(f"an xz file of more than {RUNS_LIMIT} streams")
    return streams
