# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are ranges of others, or several in a row: what they read, and where it stands."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.core.errors import SourceError
from explorer.core.extents import ExtentKind
from explorer.images.base import Piece
from explorer.images.concat import JoinedFile, Part, Parts
from explorer.images.files import FileRange, HostFile
from explorer.images.raw import RawImage
from tests.images.checks import check_described, check_extents
from tests.trees import noise

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = (5000, 1, 70_000, 4096)
# Of each file, what is left out of it.
SKIPPED = 700
HOLE = (16_384, 32_768)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[JoinedFile, bytes]]:
    """Ranges of four files in a row, with a hole in one of them; and their content."""
    folder = tmp_path_factory.mktemp("joined")
    content = b""
    with ExitStack() as stack:
        ranges = []
        for number, size in enumerate(SIZES):
            stored = bytearray(noise(SKIPPED + size + 10, number))
            path = folder / str(number)
            if number == 2:
                stored[HOLE[0] : HOLE[1]] = bytes(HOLE[1] - HOLE[0])
                path.write_bytes(stored[: HOLE[0]])
                with path.open("r+b") as file:
                    file.seek(HOLE[1])
                    file.write(stored[HOLE[1] :])
            else:
                path.write_bytes(stored)
            opened = HostFile(path)
            stack.callback(opened.close)
            ranges.append(FileRange(opened, SKIPPED, size, f"range {number}"))
            content += stored[SKIPPED : SKIPPED + size]
        yield JoinedFile(ranges, "joined"), content


TOTAL = sum(SIZES)
RANGES = st.tuples(st.integers(0, TOTAL), st.integers(0, TOTAL)).map(sorted)


@settings(deadline=None)
@given(limits=RANGES)
def test_any_range_is_read_and_located(limits: list[int], joined: tuple[JoinedFile, bytes]) -> None:
    file, content = joined
    start, end = limits
    assert file.read(start, end - start) == content[start:end]
    found = b""
    for place, position, length in file.locate(start, end - start):
        descriptor = place.descriptor()
        assert descriptor is not None
        assert length > 0
        found += os.pread(descriptor, length, position)
    assert found == content[start:end]
    at = start
    for position, length in file.data_ranges(start, end - start):
        assert length > 0
        assert not any(content[at:position])
        at = position + length
    assert not any(content[at:end])


def test_an_image_of_it_has_extents_in_each_file(joined: tuple[JoinedFile, bytes]) -> None:
    file, content = joined
    image = RawImage(file)
    assert image.size == TOTAL
    assert image.read(0, TOTAL) == content
    check_extents(image, lambda offset, length: content[offset : offset + length])
    extents = list(image.extents(0, TOTAL))
    assert len({extent.descriptor for extent in extents if extent.kind is ExtentKind.DATA}) == 4
    # The hole is known where the host's file system keeps holes.
    if any(extent.kind is ExtentKind.ZERO for extent in extents):
        assert sum(e.length for e in extents if e.kind is ExtentKind.ZERO) == HOLE[1] - HOLE[0]
    # The bytes of several files are nobody's descriptor.
    assert image.plain_file() is None


def test_a_range_beyond_the_end_is_refused(joined: tuple[JoinedFile, bytes]) -> None:
    file, _content = joined
    assert file.read(TOTAL - 2, 100) == joined[1][-2:]
    for offset, length in ((TOTAL, 1), (TOTAL - 1, 2), (-1, 1)):
        for place in (file, FileRange(file, 0, TOTAL, "all of it")):
            with pytest.raises(SourceError) as caught:
                place.read_into(offset, memoryview(bytearray(length)))
            check_described(caught.value)
    for start, size in ((-1, 1), (TOTAL, 1), (1, TOTAL), (0, -1)):
        with pytest.raises(ValueError, match="not in a file"):
            FileRange(file, start, size, "outside")


def test_the_same_ranges_are_the_same_file(joined: tuple[JoinedFile, bytes]) -> None:
    file, _content = joined
    assert FileRange(file, 1, 5, "one").identity == FileRange(file, 1, 5, "another").identity
    assert FileRange(file, 1, 5, "one").identity != FileRange(file, 1, 6, "one").identity
    assert JoinedFile([file, file], "twice").identity not in (None, file.identity)


def test_parts_may_be_zeros_files_and_images(joined: tuple[JoinedFile, bytes]) -> None:
    file, _content = joined
    image = RawImage(FileRange(file, 100, 1000, "range"))
    parts = Parts([Part(10, None), Part(300, image, 200), Part(20, file, 5), Part(7, None)])
    assert parts.size == 337
    assert list(parts.pieces(0, 0)) == []
    (zeros, inside, after, last) = parts.pieces(4, 330)
    assert (zeros, last) == (Piece(6), Piece(4))
    assert (inside.length, inside.position) == (300, 200)
    assert after == Piece(20, file, 5)
    assert list(parts.pieces(336, 1)) == [Piece(1)]
    assert list(parts.pieces(310, 5)) == [Piece(5, file, 5)]
    content = bytes(10) + image.read(200, 300) + file.read(5, 20) + bytes(7)
    for start, end in ((0, 337), (5, 320), (200, 201), (312, 337), (7, 7)):
        buffer = bytearray(b"x" * (end - start))
        parts.read_into(start, memoryview(buffer))
        assert buffer == content[start:end]
