# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A volume's bytes, as the probes look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.core.names import show_name

if TYPE_CHECKING:
    from collections.abc import Callable

_PIECE = 65536


class Window:
    """A range of an image, read in pieces that are kept.

    What lies outside reads as nothing: a probe never fails for being near the end.
    """

    def __init__(self, read: Callable[[int, int], bytes], start: int, size: int) -> None:
        """Look at ``size`` bytes from ``start`` of what ``read(offset, length)`` reads."""
        self._read = read
        self._start = start
        self._pieces: dict[int, bytes] = {}
        self.size = size

    def _piece(self, number: int) -> bytes:
        piece = self._pieces.get(number)
        if piece is None:
            offset = number * _PIECE
            length = max(0, min(_PIECE, self.size - offset))
            piece = self._read(self._start + offset, length) if length else b""
            self._pieces[number] = piece
        return piece

    def forget(self) -> None:
        """Let go of what was read: of some hundred volumes it is much."""
        self._pieces.clear()

    def at(self, offset: int, length: int) -> bytes:
        """The bytes at an offset, padded with zeros where the window ends."""
        if offset < 0:
            return bytes(length)
        first, last = offset // _PIECE, (offset + length - 1) // _PIECE
        found = b"".join(self._piece(number) for number in range(first, last + 1))
        inside = found[offset - first * _PIECE :][:length]
        return inside.ljust(length, b"\0")

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset, which are not kept; fewer where the window ends."""
        length = min(length, self.size - offset)
        return self._read(self._start + offset, length) if offset >= 0 and length > 0 else b""

    def has(self, offset: int, magic: bytes) -> bool:
        """Whether ``magic`` stands at an offset."""
        return 0 <= offset <= self.size - len(magic) and self.at(offset, len(magic)) == magic

    def le(self, offset: int, length: int) -> int:
        """A little-endian number."""
        return int.from_bytes(self.at(offset, length), "little")

    def be(self, offset: int, length: int) -> int:
        """A big-endian number."""
        return int.from_bytes(self.at(offset, length), "big")

    def text(self, offset: int, length: int, encoding: str = "utf-8") -> str:
        """A label that ends at its first NUL or with its field; safe to show."""
        raw = self.at(offset, length)
        if encoding == "utf-8":
            return show_name(raw.split(b"\0")[0].rstrip())
        return show_text(raw, encoding)

    def uuid(self, offset: int) -> str:
        """A UUID in the order of its text; empty when it is all zeros."""
        text = self.at(offset, 16).hex()
        parts = (text[:8], text[8:12], text[12:16], text[16:20], text[20:])
        return "-".join(parts) if text.strip("0") else ""


def show_text(raw: bytes, encoding: str) -> str:
    """A label in another encoding, up to its first NUL; safe to show."""
    text = raw.decode(encoding, "replace").split("\0")[0].rstrip()
    return show_name(text.encode("utf-8", "replace"))
