# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The runs of a bzip2 file: its blocks.

Names are those of Joe Tsai's "BZIP2: Format Specification". A block begins at any bit, with a
number of 48 bits that is looked for; how much it decodes to it does not tell, so all blocks are
decoded once, several at a time. A block is decoded as the only one of a stream of its own: with
a stream header before it and a footer behind. libbz2 compares its checksum.
"""

from __future__ import annotations

import bz2
import os
from array import array
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from explorer.images.kept import Kept
from explorer.images.packed import LARGEST_SIZE, RUNS_LIMIT, Packing, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from explorer.images.base import Fact
    from explorer.images.opening import Opening

BLOCK = "bzip2 block"
STREAM = "bzip2 stream"

_BLOCK_MAGIC, _END_MAGIC = 0x314159265359, 0x177245385090
_MAGIC_BITS = 48
# The magic number of the footer is followed by the checksum of all blocks.
_FOOTER_BITS = _MAGIC_BITS + 32
_HEADER = 4
LARGEST_BLOCK = 2 << 20
"""Bytes of a block as it is packed; 900,000 bytes never take that many."""
DECODED = 1 << 20
"""Bytes that are decoded at once."""
MERGES = 16
"""Marks in a row that may turn out to be a block's data."""
_STEP = 1 << 20


class _Mark(NamedTuple):
    """Where a block or a footer seems to begin."""

    bit: int
    is_end: bool


def _find_marks(opening: Opening, start: int) -> Iterator[_Mark]:
    """All places from a byte on with one of the two magic numbers, in order."""
    # Whatever the bit is that a number begins at, five whole bytes of it can be searched for.
    needles = [
        (shift, magic, (magic >> shift & (1 << 40) - 1).to_bytes(5, "big"))
        for magic in (_BLOCK_MAGIC, _END_MAGIC)
        for shift in range(8)
    ]
    file = opening.file
    for at in range(start, file.size, _STEP):
        # The number that begins in the last byte needs six more.
        step = file.read(at, _STEP + 6)
        found = []
        for shift, magic, needle in needles:
            place = step.find(needle)
            while place >= 0:
                # The number ends ``shift`` bits behind the needle.
                end = (place + 5) * 8 + shift
                begin = end - _MAGIC_BITS
                whole = int.from_bytes(step[max(0, begin // 8) : (end + 7) // 8], "big")
                if (
                    begin >= 0
                    and end <= len(step) * 8
                    and whole >> -end % 8 & (1 << _MAGIC_BITS) - 1 == magic
                    and begin < _STEP * 8
                ):
                    found.append(_Mark(at * 8 + begin, magic == _END_MAGIC))
                place = step.find(needle, place + 1)
        yield from sorted(found)


def _cut(opening: Opening, start: int, end: int) -> bytes:
    """A block, by its first bit and the one behind its last, as a stream of its own."""
    first = start // 8
    raw = opening.file.read(first, (end + 7) // 8 - first)
    count = end - start
    bits = int.from_bytes(raw, "big") >> (len(raw) * 8 - (end - first * 8)) & (1 << count) - 1
    # The checksum of one block is that of its stream.
    checksum = bits >> (count - _MAGIC_BITS - 32) & 0xFFFFFFFF
    bits = (bits << _FOOTER_BITS) | _END_MAGIC << 32 | checksum
    count += _FOOTER_BITS
    bits <<= -count % 8
    return b"BZh9" + bits.to_bytes((count + 7) // 8, "big")


def _block_checksum(opening: Opening, start: int) -> int:
    raw = opening.file.read(start // 8, 11)
    return int.from_bytes(raw, "big") >> (len(raw) * 8 - start % 8 - 80) & 0xFFFFFFFF


class _BlockStream(Stream):
    def __init__(self, opening: Opening, start: int, end: int) -> None:
        self._opening = opening
        self._start = start
        self._packed = _cut(opening, start, end)
        self._decompressor = bz2.BZ2Decompressor()

    def read(self, length: int) -> bytes:
        decompressor = self._decompressor
        while not decompressor.eof:
            packed, self._packed = self._packed, b""
            if not packed and decompressor.needs_input:
                raise self._damaged("it is cut off")
            try:
                data = decompressor.decompress(packed, length)
            except (OSError, ValueError) as error:
                raise self._damaged(str(error)) from error
            if data:
                return data
        return b""

    def _damaged(self, reason: str) -> Exception:
        return self._opening.corrupt(BLOCK, self._start // 8, reason)


def _measure(opening: Opening, start: int, end: int) -> int | None:
    """Bytes that a block decodes to; None when it is damaged."""
    decompressor = bz2.BZ2Decompressor()
    packed = _cut(opening, start, end)
    size = 0
    try:
        while not decompressor.eof:
            if not packed and decompressor.needs_input:
                return None
            size += len(decompressor.decompress(packed, DECODED))
            packed = b""
    except (OSError, ValueError):
        return None
    return None if decompressor.unused_data else size


class Bzip2Packing(Packing):
    """The blocks of a bzip2 file."""

    name = "bzip2"
    structure = BLOCK

    def __init__(self, opening: Opening) -> None:
        """Decode the file once, or take what is kept of that; raises :exc:`CorruptImage`."""
        self._opening = opening
        kept = Kept(opening, "bzip2 blocks 1")
        table = _Table.unpack(kept.load(), opening.file.size)
        if table is None:
            table = _Table()
            _Scan(opening, table).run()
            kept.store(table.pack())
        self._table = table
        super().__init__(opening, table.starts, table.size)

    def position(self, number: int) -> int:
        """The byte that a block begins in."""
        return self._table.bits[number] // 8

    def open_run(self, number: int) -> Stream:
        """Decode a block."""
        table = self._table
        return _BlockStream(self._opening, table.bits[number], table.ends[number])

    def facts(self) -> dict[str, Fact]:
        """What it is made of, and what does not belong to it."""
        facts: dict[str, Fact] = {"blocks": len(self.starts)}
        if self._table.end < self._opening.file.size:
            facts["ignored bytes at the end"] = self._opening.file.size - self._table.end
        return facts


class _Table:
    """What is known of all blocks."""

    def __init__(self) -> None:
        self.starts = array("Q")
        """In the disk."""
        self.bits = array("Q")
        """Of the first bit of each, in the file."""
        self.ends = array("Q")
        """Of the bit behind the last."""
        self.size = 0
        self.end = 0
        """Of the last stream, in the file."""

    def pack(self) -> bytes:
        """As a record."""
        head = array("Q", (self.size, self.end, len(self.starts)))
        return b"".join(part.tobytes() for part in (head, self.starts, self.bits, self.ends))

    @classmethod
    def unpack(cls, record: bytes | None, file_size: int) -> _Table | None:
        """The way back; None when the record is none, or tells what cannot be."""
        if record is None or len(record) < 24 or len(record) % 8:
            return None
        values = array("Q", record)
        table = cls()
        table.size, table.end, count = values[:3]
        if len(values) != 3 + 3 * count:
            return None
        table.starts, table.bits, table.ends = (
            values[3 + part * count : 3 + (part + 1) * count] for part in range(3)
        )
        in_order = list(table.starts) == sorted(set(table.starts))
        inside = all(
            start < end <= file_size * 8 for start, end in zip(table.bits, table.ends, strict=True)
        )
        begins = list(table.starts[:1]) == ([0] if table.size else [])
        if not (in_order and inside and begins) or (count and table.starts[-1] >= table.size):
            return None
        return table


class _Scan:
    """Goes through a file once."""

    def __init__(self, opening: Opening, table: _Table) -> None:
        self._opening = opening
        self._table = table
        self._marks: deque[_Mark] = deque()
        """That come next; the rest is behind them."""
        self._rest = _find_marks(opening, _HEADER)
        self._workers = ThreadPoolExecutor(os.cpu_count())
        self._ahead: dict[tuple[int, int], Future[int | None]] = {}
        """Blocks that are decoded already, by first bit and end."""

    def run(self) -> None:
        """Fill the table; raises :exc:`CorruptImage`."""
        try:
            end: int | None = 0
            while end is not None:
                self._table.end = end
                end = self._read_stream(end)
        finally:
            self._workers.shutdown(cancel_futures=True)

    def _mark(self, number: int) -> _Mark | None:
        """One of the next marks."""
        missing = number + 1 - len(self._marks)
        if missing > 0:
            self._marks.extend(islice(self._rest, missing))
        return self._marks[number] if number < len(self._marks) else None

    def _read_stream(self, start: int) -> int | None:
        """Take in a stream that begins at a byte; returns the byte behind it.

        None when there is none, which ends a file if it is not the first: other bytes behind
        the last stream are ignored, as bzip2 does.
        """
        opening = self._opening
        header = opening.file.read(start, _HEADER)
        if header[:3] != b"BZh" or header[3:] not in b"123456789" or len(header) < _HEADER:
            if not start:
                raise opening.corrupt(STREAM, 0, "the header is missing")
            return None
        bit = (start + _HEADER) * 8
        combined = 0
        while True:
            while (mark := self._mark(0)) is not None and mark.bit < bit:
                self._marks.popleft()
            self._look_ahead()
            if mark is None or mark.bit != bit:
                missing = "the file is cut off" if mark is None else "no block begins there"
                raise opening.corrupt(BLOCK, bit // 8, missing)
            if mark.is_end:
                return self._end_stream(bit, combined)
            bit, checksum = self._read_block(bit)
            combined = ((combined << 1 | combined >> 31) & 0xFFFFFFFF) ^ checksum

    def _end_stream(self, bit: int, combined: int) -> int:
        opening = self._opening
        end = (bit + _FOOTER_BITS + 7) // 8
        raw = opening.file.read(bit // 8, end - bit // 8)
        if len(raw) < end - bit // 8:
            raise opening.corrupt(STREAM, bit // 8, "the file is cut off")
        checksum = int.from_bytes(raw, "big") >> (-(bit + _FOOTER_BITS) % 8) & 0xFFFFFFFF
        if checksum != combined:
            raise opening.corrupt(STREAM, bit // 8, "its checksum is wrong")
        return end

    def _look_ahead(self) -> None:
        """Have the next blocks decoded, as they seem to be."""
        wanted = 2 * (os.cpu_count() or 1)
        for number in range(wanted):
            mark, after = self._mark(number), self._mark(number + 1)
            if mark is None or after is None or len(self._ahead) >= wanted:
                return
            place = mark.bit, after.bit
            if not mark.is_end and place not in self._ahead and self._fits(*place):
                self._ahead[place] = self._workers.submit(_measure, self._opening, *place)

    def _fits(self, start: int, end: int) -> bool:
        return _FOOTER_BITS < end - start <= LARGEST_BLOCK * 8

    def _read_block(self, start: int) -> tuple[int, int]:
        """Take in a block; returns the bit behind it, and its checksum."""
        opening = self._opening
        for number in range(1, MERGES + 1):
            mark = self._mark(number)
            # What looks like the next mark may be this block's data.
            if mark is None or not self._fits(start, mark.bit):
                break
            future = self._ahead.pop((start, mark.bit), None)
            size = _measure(opening, start, mark.bit) if future is None else future.result()
            if size is not None:
                self._forget(mark.bit)
                self._append(start, mark.bit, size)
                return mark.bit, _block_checksum(opening, start)
        raise opening.corrupt(BLOCK, start // 8, "it cannot be decoded, or is cut off")

    def _forget(self, bit: int) -> None:
        for place in [place for place in self._ahead if place[0] < bit]:
            self._ahead.pop(place).cancel()

    def _append(self, start: int, end: int, size: int) -> None:
        table, opening = self._table, self._opening
        if opening.choices.progress is not None:
            opening.choices.progress(end // 8, opening.file.size)
        if len(table.starts) >= RUNS_LIMIT:
            raise opening.unsupported(f"a bzip2 file of more than {RUNS_LIMIT} blocks")
        if size:
            table.starts.append(table.size)
            table.bits.append(start)
            table.ends.append(end)
            table.size += size
        if table.size > LARGEST_SIZE:
            raise opening.corrupt(BLOCK, start // 8, "the blocks are too large")
