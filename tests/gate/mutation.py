# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to a whole image by chance, at places that its readers look at.

The same name gives the same changes to the same image.
"""

from __future__ import annotations

import os
import random
from mmap import mmap
from typing import TYPE_CHECKING

from tests.gate.bases import BLOCK, SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.gate.bases import Base

_GRAIN = 64
_NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0xFFF, 0x1000, 0x7FFF, 0xFFFF)
"""Numbers at which arithmetic goes wrong, themselves, turned over, and near half of the largest."""
_COUNTS = (1, 1, 1, 2, 2, 3, 4, 8, 16)
"""Changes to one image: the fewer there are, the further its reader gets."""
_MENDED = 0.85
"""Share of images whose checksums are put right."""
_CUT = 0.03
"""Share of images that end too early."""


class _Changed:
    """An image that is being changed."""

    def __init__(self, base: Base, content: mmap, chance: random.Random) -> None:
        self.content = content
        self.chance = chance
        self._base = base
        self._touched: list[tuple[int, int]] = []
        # What is read to mount it is little, and decides over everything.
        places = (base.mounted, base.walked, base.filled)
        weights = tuple(
            weight if some else 0 for weight, some in zip((5, 4, 1), places, strict=True)
        )
        self._sectors = chance.choices(places, weights)[0]

    def sector(self) -> int:
        """Where some sector starts."""
        return self.chance.choice(self._sectors)

    def place(self) -> int:
        """A place in some sector, mostly where something stands."""
        sector = self.sector()
        grains = [
            at
            for at in range(sector, min(sector + SECTOR, len(self.content)), _GRAIN)
            if any(self.content[at : at + _GRAIN])
        ]
        start = self.chance.choice(grains) if grains and self.chance.random() < 0.9 else sector
        return start + self.chance.randrange(_GRAIN)

    def put(self, at: int, data: bytes) -> None:
        """Overwrite some bytes, so far as the image goes."""
        data = data[: max(0, len(self.content) - at)]
        self.content[at : at + len(data)] = data
        self._touched.append((at, at + len(data)))

    def mend(self) -> None:
        """Put the sums of what was changed right."""
        for one in self._base.sums:
            if self._is_touched(one.start, one.end) or self._is_touched(one.at, one.at + one.width):
                one.mend(self.content)
                self._touched.append((one.at, one.at + one.width))

    def _is_touched(self, start: int, end: int) -> bool:
        return any(start < last and first < end for first, last in self._touched)


def _flip(image: _Changed) -> None:
    at = min(image.place(), len(image.content) - 1)
    image.put(at, bytes([image.content[at] ^ 1 << image.chance.randrange(8)]))


def _step(image: _Changed) -> None:
    """A number that is a little more or less."""
    at = min(image.place(), len(image.content) - 1)
    step = image.chance.choice((-16, -8, -2, -1, 1, 2, 8, 16))
    image.put(at, bytes([(image.content[at] + step) % 256]))


def _number(image: _Changed) -> None:
    """A number of either byte order; small, or near the largest."""
    chance = image.chance
    width = chance.choice((1, 2, 2, 4, 4, 4, 8))
    limit = 1 << 8 * width
    value = chance.choice(_NUMBERS)
    value = chance.choice((value, limit - 1 - value, limit // 2 + value, limit // 2 - 1 - value))
    at = image.place()
    image.put(
        at - at % min(width, 4), (value % limit).to_bytes(width, chance.choice(("little", "big")))
    )


def _fill(image: _Changed) -> None:
    value = image.chance.choice((0x00, 0xFF, 0x20, 0x41))
    image.put(image.place(), bytes([value]) * image.chance.choice((4, 16, 64, 512)))


def _noise(image: _Changed) -> None:
    image.put(image.place(), image.chance.randbytes(image.chance.choice((4, 16, 64, 256))))


def _splice(image: _Changed) -> None:
    """Some of one place in another."""
    length = image.chance.choice((_GRAIN, SECTOR, BLOCK))
    source, target = (at - at % length for at in (image.place(), image.place()))
    image.put(target, bytes(image.content[source : source + length]))


def _shift(image: _Changed) -> None:
    """What follows comes a little earlier or later."""
    at, by = image.place(), image.chance.choice((1, 2, 4, 8, 16))
    piece = bytes(image.content[at : at + 256])
    image.put(at, piece[by:] if image.chance.random() < 0.5 else bytes(by) + piece[:-by])


def _swap(image: _Changed) -> None:
    """Two blocks, or sectors, in each other's place."""
    size = image.chance.choice((SECTOR, 2 * SECTOR, BLOCK))
    places = [at - at % size for at in (image.place(), image.place())]
    contents = [bytes(image.content[at : at + size]) for at in reversed(places)]
    for at, content in zip(places, contents, strict=True):
        image.put(at, content)


def _repeat(image: _Changed) -> None:
    """A number that stands somewhere, also in another place: a pointer to what is used already."""
    width = image.chance.choice((2, 4, 8))
    source, target = (at - at % width for at in (image.place(), image.place()))
    image.put(target, bytes(image.content[source : source + width]))


_CHANGES: tuple[Callable[[_Changed], None], ...] = (
    _flip, _flip, _step, _step, _number, _number, _number, _number, _fill, _noise, _splice, _shift,
    _swap, _repeat, _repeat,
)  # fmt: skip


def mutate(base: Base, path: Path, name: str) -> None:
    """Write a changed image; ``name`` is what its changes are drawn by."""
    chance = random.Random(name)
    base.write(path)
    with path.open("r+b") as file, mmap(file.fileno(), 0) as content:
        image = _Changed(base, content, chance)
        for _ in range(chance.choice(_COUNTS)):
            chance.choice(_CHANGES)(image)
        if chance.random() < _MENDED:
            image.mend()
    if chance.random() < _CUT:
        os.truncate(path, chance.randrange(1, base.filled[-1] + BLOCK))
