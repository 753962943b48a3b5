# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to an input by chance: numbers at which arithmetic goes wrong, texts cut up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

_NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF)
_LARGEST = 64


def mutate(content: bytes, chance: random.Random) -> bytes:
    """The content with one to eight changes."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 4, 8))):
        if not changed:
            break
        chance.choice(_CHANGES)(changed, chance.randrange(len(changed)), chance)
    return bytes(changed)


def _flip(content: bytearray, at: int, chance: random.Random) -> None:
    content[at] ^= 1 << chance.randrange(8)


def _set(content: bytearray, at: int, chance: random.Random) -> None:
    content[at] = chance.choice((0, 1, 0x20, 0x22, 0x30, 0x39, 0x7F, 0x80, 0xFF))


def _number(content: bytearray, at: int, chance: random.Random) -> None:
    """A number of either byte order; small, or near the largest."""
    width = chance.choice((2, 4, 8))
    limit = 1 << 8 * width
    value = chance.choice(_NUMBERS)
    value = chance.choice((value, limit - 1 - value, limit // 2 + value, limit // 2 - 1 - value))
    place = slice(at - at % 4, at - at % 4 + width)
    raw = (value % limit).to_bytes(width, chance.choice(("little", "big")))
    content[place] = raw[: len(content[place])]


def _step(content: bytearray, at: int, chance: random.Random) -> None:
    """A number that is a little more or less."""
    content[at] = (content[at] + chance.choice((-16, -2, -1, 1, 2, 16))) % 256


def _copy(content: bytearray, at: int, chance: random.Random) -> None:
    """Some bytes in another place as well."""
    length = chance.randrange(1, _LARGEST)
    source = chance.randrange(len(content))
    part = content[source : source + length]
    content[at : at + len(part)] = part[: len(content) - at]


def _insert(content: bytearray, at: int, chance: random.Random) -> None:
    content[at:at] = chance.choice(
        (b"0" * 30, b"9" * 30, b"\0", b"\xff" * 8, b"{", b'"', b"<", b"-1", b"../", b"\x1b[0m")
    )


def _remove(content: bytearray, at: int, chance: random.Random) -> None:
    del content[at : at + chance.choice((1, 2, 4, 8, 512))]


def _cut(content: bytearray, at: int, chance: random.Random) -> None:
    del content[at:]


_CHANGES = (_flip, _flip, _set, _set, _number, _number, _number, _step, _copy, _insert, _remove,
            _cut)  # fmt: skip
