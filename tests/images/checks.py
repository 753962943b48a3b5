# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What every image format is held to: reads, extents, and typed refusals of damaged files."""

from __future__ import annotations

import os
import random
import resource
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.core.errors import ExplorerError
from explorer.core.extents import ExtentKind
from explorer.core.messages import TEXTS, describe
from explorer.images.registry import open_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from explorer.images.base import Image
    from explorer.images.opening import Choices

PIECE = 1 << 20
READS = 200
LONGEST_READ = 300_000
MEMORY_LIMIT = 512 << 20
"""Bytes of address space that opening a hostile image may take."""


def check_image(image: Image, expected: Path, *, seed: int = 1) -> None:
    """An image reads as the raw file does: in order, at random places, and by its extents."""
    with expected.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        assert image.size == size
        descriptor = file.fileno()
        for offset in range(0, size, PIECE):
            length = min(PIECE, size - offset)
            assert image.read(offset, length) == os.pread(descriptor, length, offset), offset
        check_extents(image, lambda offset, length: os.pread(descriptor, length, offset))
        chance = random.Random(seed)
        for _ in range(READS):
            offset = chance.randrange(size)
            length = min(chance.randrange(1, LONGEST_READ), size - offset)
            assert image.read(offset, length) == os.pread(descriptor, length, offset), offset
        assert image.read(size - 1, 10) == os.pread(descriptor, 1, size - 1)


def check_extents(image: Image, expected: Callable[[int, int], bytes]) -> None:
    """Extents cover the disk and tell the truth; ``expected(offset, length)`` reads the disk."""
    extents = list(image.extents(0, image.size))
    assert extents[0].offset == 0
    assert extents[-1].offset + extents[-1].length == image.size
    for before, after in pairwise(extents):
        assert before.offset + before.length == after.offset
    for extent in extents:
        assert extent.length > 0
        # The ends of each, and all of the short ones.
        for offset in {extent.offset, max(extent.offset, extent.offset + extent.length - PIECE)}:
            length = min(PIECE, extent.offset + extent.length - offset)
            wanted = expected(offset, length)
            if extent.kind is ExtentKind.ZERO:
                assert not any(wanted), extent
            elif extent.kind is ExtentKind.DATA:
                position = extent.position + offset - extent.offset
                assert os.pread(extent.descriptor, length, position) == wanted, extent


def check_described(error: ExplorerError) -> None:
    """An error has a text of one line, with all its parameters filled in."""
    assert error.code in TEXTS, error
    text = describe(error)
    assert "{" not in text, text


def check_refused_or_read(path: Path, choices: Choices | None = None) -> bool:
    """A damaged image is opened and read, or refused by a typed error; whether it was read.

    Only its beginning, its end, and some places between are read.
    """
    usual = resource.getrlimit(resource.RLIMIT_AS)
    # proc_pid_statm(5): the first field is the size in pages.
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_LIMIT, usual[1]))
    try:
        with open_image(path, choices=choices) as image:
            image.facts()
            places = {0, image.size // 3, image.size // 2, max(0, image.size - 65536)}
            for offset in places:
                image.read(offset, 65536)
            for number, _extent in enumerate(image.extents(0, min(image.size, 1 << 30))):
                if number == 1000:
                    break
    except ExplorerError as error:
        check_described(error)
        return False
    else:
        return True
    finally:
        resource.setrlimit(resource.RLIMIT_AS, usual)


def check_damaged(
    path: Path,
    folder: Path,
    structures: Iterable[tuple[int, int]],
    *,
    choices: Choices | None = None,
    flips: int = 200,
    seed: int = 1,
) -> None:
    """Copies of an image that are cut short, or have bytes changed, give no untyped error.

    ``structures`` are start and length of what the format's own tables and headers are. The
    copies are made in ``folder``, where files that the image names must stand already.
    """
    whole = path.read_bytes()
    ranges = list(structures)
    copy = folder / f"damaged-{path.name}"
    chance = random.Random(seed)
    for start, length in ranges:
        for cut in {start, start + 1, start + length // 2, start + length - 1}:
            copy.write_bytes(whole[: max(1, min(cut, len(whole)))])
            check_refused_or_read(copy, choices)
    for _ in range(flips):
        start, length = chance.choice(ranges)
        changed = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 8))):
            at = min(start + chance.randrange(length), len(whole) - 1)
            changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        copy.write_bytes(changed)
        check_refused_or_read(copy, choices)
    copy.unlink()
