# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A small whole image as something to be changed.

What is changed are the bytes that say something: long runs of zeros are left out and put back, so
that an input of some KiB stands for an image of MiB. Checksums are put right afterwards, or what
lies behind them would never be reached.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from explorer.images.opening import Choices

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from mmap import mmap

    Content = bytearray | mmap

GRAIN = 64
"""Bytes; zeros are left out in units of these, but for one on each side of what is not zero."""


class Sum(NamedTuple):
    """A checksum in an image."""

    start: int
    """Of what is summed up; the end may lie beyond the image's."""
    end: int
    at: int
    """Where the sum stands; inside the range it counts as zeros."""
    width: int
    pack: Callable[[bytes], bytes]
    """Gives the bytes of the sum."""

    def mend(self, content: Content) -> None:
        """Put the sum right."""
        place = slice(self.at, self.at + self.width)
        if place.stop <= len(content):
            content[place] = bytes(self.width)
            content[place] = self.pack(bytes(content[self.start : self.end]))


@dataclass(frozen=True)
class Seed:
    """A whole image, and what belongs to it."""

    content: bytes
    """Of the file that is changed."""
    name: bytes = b"image"
    """Its name."""
    opened: bytes = b""
    """The name of the file that is opened, if that is another."""
    others: Mapping[bytes, bytes] = field(default_factory=dict)
    """Files beside it, by name."""
    sums: Sequence[Sum] = ()
    """In the order in which they are to be put right."""
    kept: Sequence[tuple[int, int]] = ()
    """Start and end of what is not changed: how often to repeat something that takes long."""
    choices: Choices = field(default_factory=Choices)

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """Start and end of what is changed."""
        runs: list[tuple[int, int]] = []
        size = len(self.content)
        for start in range(0, size, GRAIN):
            if self.content.count(0, start, start + GRAIN) == min(GRAIN, size - start) or any(
                first <= start and start + GRAIN <= last for first, last in self.kept
            ):
                continue
            first, last = max(0, start - GRAIN), min(size, start + 2 * GRAIN)
            if runs and first <= runs[-1][1]:
                runs[-1] = runs[-1][0], last
            else:
                runs.append((first, last))
        return runs

    def pack(self) -> bytes:
        """The bytes that are changed, one run after the other."""
        return b"".join(self.content[start:end] for start, end in self.runs)

    def unpack(self, packed: bytes, *, mend: bool = True) -> bytearray:
        """An image of changed bytes.

        Where they come to an end, so does the image; what is too much is added to its end.
        """
        content = bytearray(len(self.content))
        at = 0
        for start, end in self.runs:
            part = packed[at : at + end - start]
            content[start : start + len(part)] = part
            at += end - start
            if len(part) < end - start:
                del content[start + len(part) :]
                break
        else:
            content += packed[at:]
        for start, end in self.kept:
            content[start:end] = self.content[start : min(end, len(content))]
        if mend:
            for one in self.sums:
                if self._differs(content, one.start, one.end) or self._differs(
                    content, one.at, one.at + one.width
                ):
                    one.mend(content)
        return content

    def _differs(self, content: bytearray, start: int, end: int) -> bool:
        return memoryview(content)[start:end] != memoryview(self.content)[start:end]
