# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks cut into blocks of one size, and the tables that tell where each of them is.

A table may be larger than memory: it is read in slices as they are needed, which the cache keeps.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from explorer.images.opening import Opening

SLICE = 64 * 1024
"""Bytes of a table that are read at once."""


class Slices:
    """A part of an image's file, read in slices."""

    def __init__(self, opening: Opening, structure: str, position: int, length: int) -> None:
        """``structure`` is what the part is called in the format's documents.

        Raises :exc:`CorruptImage` when it does not lie inside the file.
        """
        file = opening.file
        if position + length > file.size:
            raise opening.corrupt(
                structure,
                position,
                f"its {length} bytes reach beyond the end of the file ({file.size} bytes)",
            )
        self._file = file
        self._cache = opening.cache
        self._position = position
        self._length = length

    def read_slice(self, number: int) -> bytes:
        """Bytes from ``number`` times :data:`SLICE`; only the last slice is shorter than that."""
        start = self._position + number * SLICE
        length = min(SLICE, self._length - number * SLICE)
        return self._cache.get((self._file, start, length), lambda: self._file.read(start, length))


class BlockTable:
    """A table with an unsigned number for each block."""

    def __init__(
        self,
        opening: Opening,
        structure: str,
        position: int,
        count: int,
        *,
        width: Literal[4, 8] = 4,
        byteorder: Literal["little", "big"] = "little",
    ) -> None:
        """``count`` numbers of ``width`` bytes at ``position``; raises as :class:`Slices`."""
        self._slices = Slices(opening, structure, position, count * width)
        self._position = position
        self._width = width
        self._code = "I" if width == 4 else "Q"
        self._swapped = byteorder != sys.byteorder

    def position(self, index: int) -> int:
        """Where in the file an entry is, for messages."""
        return self._position + index * self._width

    def read_entry(self, index: int) -> int:
        """One entry."""
        return next(self.runs(index, index + 1, bool, 0))[2]

    def runs(
        self, first: int, end: int, is_data: Callable[[int], bool], step: int
    ) -> Iterator[tuple[int, int, int]]:
        """The entries from ``first`` to before ``end`` as runs: index, number of entries, entry.

        The entry is the run's first. When ``is_data`` says that it names a place, each further
        one is greater by ``step`` than the one before, and with ``step`` 0 there is none;
        otherwise all are equal.
        """
        width = self._width
        per_slice = SLICE // width
        while first < end:
            number, skipped = divmod(first, per_slice)
            count = min(end - first, per_slice - skipped)
            raw = self._slices.read_slice(number)[skipped * width : (skipped + count) * width]
            entries = array(self._code, raw)
            if self._swapped:
                entries.byteswap()
            # Most slices of a sparse image's table are all the same: seen without a loop.
            if not is_data(entries[0]) and raw == raw[:width] * count:
                yield first, count, entries[0]
            else:
                yield from _runs(entries, first, is_data, step)
            first += count


def _runs(
    entries: array[int], first: int, is_data: Callable[[int], bool], step: int
) -> Iterator[tuple[int, int, int]]:
    at, count = 0, len(entries)
    while at < count:
        entry = following = entries[at]
        after = at + 1
        if not is_data(entry):
            while after < count and entries[after] == entry:
                after += 1
        elif step:
            following += step
            while after < count and entries[after] == following:
                after += 1
                following += step
        yield first + at, after - at, entry
        at = after


def sector_runs(
    bitmap: bytes, first: int, count: int, *, low_bit_first: bool
) -> Iterator[tuple[bool, int, int]]:
    """Equal bits of a bitmap in a row: their value, the number of the first, and how many.

    ``count`` bits from ``first`` are looked at.
    """
    start = first // 8
    part = bitmap[start : (first + count + 7) // 8]
    if low_bit_first:
        bits = f"{int.from_bytes(part, 'little'):0{8 * len(part)}b}"[::-1]
    else:
        bits = f"{int.from_bytes(part, 'big'):0{8 * len(part)}b}"
    at = first - 8 * start
    end = at + count
    while at < end:
        bit = bits[at]
        after = bits.find("0" if bit == "1" else "1", at, end)
        if after < 0:
            after = end
        yield bit == "1", 8 * start + at, after - at
        at = after
