# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks and files that are made of others, one after the other."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from explorer.images.base import Image, Piece, file_pieces
from explorer.images.files import SourceFile, check_file_range

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

Place = TypeVar("Place", bound=SourceFile | Image | None)


class Part(NamedTuple, Generic[Place]):
    """The next bytes of a row of parts, and what holds them."""

    length: int
    """Bytes; never 0."""
    place: Place
    """None: they are zeros."""
    position: int = 0
    """Bytes from the start of ``place``, which must have ``length`` bytes from there."""


class Parts(Generic[Place]):
    """A row of parts."""

    def __init__(self, parts: Sequence[Part[Place]]) -> None:
        """The parts in order."""
        self._parts = tuple(parts)
        *self._starts, self._size = accumulate((part.length for part in parts), initial=0)

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return self._size

    def find(self, offset: int, length: int) -> Iterator[Part[Place]]:
        """What of each part lies in a range; nothing of the range may be beyond the last."""
        end = offset + length
        number = bisect_right(self._starts, offset) - 1
        while offset < end:
            part = self._parts[number]
            skipped = offset - self._starts[number]
            count = min(part.length - skipped, end - offset)
            yield Part(count, part.place, part.position + skipped)
            offset += count
            number += 1

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The pieces of a range, as :meth:`Image.pieces` gives them."""
        for count, place, position in self.find(offset, length):
            if place is None:
                yield Piece(count)
            elif isinstance(place, SourceFile):
                yield from file_pieces(place, position, count)
            else:
                yield from place.pieces(position, count)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``, in one read of each part whatever holes there are."""
        done = 0
        for count, place, position in self.find(offset, len(buffer)):
            part = buffer[done : done + count]
            if place is None:
                part[:] = bytes(count)
            else:
                place.read_into(position, part)
            done += count


class JoinedFile(SourceFile):
    """Several files that are one when laid after one another."""

    def __init__(self, files: Sequence[SourceFile], path: str) -> None:
        """Of ``files``, at least one, none empty; they stay whose they are."""
        self.files = tuple(files)
        self._parts = Parts([Part(file.size, file) for file in files])
        self._path = path

    @property
    def path(self) -> str:
        """The name it was given."""
        return self._path

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self._parts.size

    @property
    def identity(self) -> Hashable:
        """Those of all files."""
        identities = tuple(file.identity for file in self.files)
        return None if None in identities else identities

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``."""
        check_file_range(self, offset, len(buffer))
        self._parts.read_into(offset, buffer)

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """What is data, as the files know it."""
        for count, file, position in self._parts.find(offset, length):
            for start, data in file.data_ranges(position, count):
                yield offset + start - position, data
            offset += count

    def locate(self, offset: int, length: int) -> Iterator[tuple[SourceFile, int, int]]:
        """Where the files have them."""
        for count, file, position in self._parts.find(offset, length):
            yield from file.locate(position, count)

    def close(self) -> None:
        """Nothing: the files are closed by whoever opened them."""
