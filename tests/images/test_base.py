# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How an image's pieces become extents."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import CorruptImage
from explorer.core.extents import Extent, ExtentKind
from explorer.images.base import Image, Piece
from explorer.images.concat import JoinedFile
from explorer.images.files import HostFile, SourceFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WRONG = CorruptImage("image.corrupt", path="listed", structure="table", offset=0, reason="wrong")


class Listed(Image):
    """An image of the pieces it is given, whose tables may be wrong after them."""

    format = "listed"
    path = "listed"

    def __init__(self, pieces: list[Piece], *, wrong: bool = False) -> None:
        super().__init__()
        self.listed = pieces
        self.wrong = wrong

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return 1 << 60

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The pieces, whatever the range."""
        yield from self.listed
        if self.wrong:
            raise WRONG


class Encoded(SourceFile):
    """A file that the host has no descriptor for."""

    path = "encoded"
    size = 1 << 40

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Nobody reads it."""
        raise AssertionError

    def close(self) -> None:
        """Nothing."""


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[HostFile, HostFile]]:
    """Two files of 1000 bytes."""
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(bytes(1000))
    one, two = HostFile(tmp_path / "one"), HostFile(tmp_path / "two")
    yield one, two
    one.close()
    two.close()


def test_pieces_that_follow_each_other_are_one_extent(files: tuple[HostFile, HostFile]) -> None:
    one, two = files
    image = Listed([])
    image.listed = [
        Piece(10, one, 0),
        Piece(10, one, 10),
        Piece(10, one, 30),
        Piece(10, two, 40),
        Piece(10),
        Piece(20),
        Piece(10, image, 5),
        Piece(10, image, 90),
        Piece(10, Encoded(), 7),
        Piece(10, one, 0),
        Piece(10, one, 0),
    ]
    first, second = one.descriptor(), two.descriptor()
    assert first is not None
    assert second is not None
    assert list(image.extents(1000, 120)) == [
        Extent(1000, 20, ExtentKind.DATA, first, 0),
        Extent(1020, 10, ExtentKind.DATA, first, 30),
        Extent(1030, 10, ExtentKind.DATA, second, 40),
        Extent(1040, 30, ExtentKind.ZERO),
        Extent(1070, 30, ExtentKind.ENCODED),
        Extent(1100, 10, ExtentKind.DATA, first, 0),
        Extent(1110, 10, ExtentKind.DATA, first, 0),
    ]


def test_a_file_of_files_is_where_they_are(files: tuple[HostFile, HostFile]) -> None:
    joined = JoinedFile([*files, Encoded()], "joined")
    image = Listed([Piece(1500, joined, 900), Piece(100, joined, 0)])
    first, second = (file.descriptor() for file in files)
    assert [(e.offset, e.length, e.kind, e.descriptor) for e in image.extents(0, 1600)] == [
        (0, 100, ExtentKind.DATA, first),
        (100, 1000, ExtentKind.DATA, second),
        (1100, 400, ExtentKind.ENCODED, -1),
        (1500, 100, ExtentKind.DATA, first),
    ]


def test_what_comes_before_a_wrong_table_is_told(files: tuple[HostFile, HostFile]) -> None:
    image = Listed([Piece(10), Piece(10, files[0]), Piece(5, files[0], 10)], wrong=True)
    extents = image.extents(0, 1000)
    assert [(e.offset, e.length) for e in islice(extents, 2)] == [(0, 10), (10, 15)]
    with pytest.raises(CorruptImage):
        next(extents)
    with pytest.raises(CorruptImage):
        next(Listed([], wrong=True).extents(0, 1000))
