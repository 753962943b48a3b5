# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Raw images: reads, extents, and what is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.core.errors import SourceError
from explorer.core.extents import ExtentKind
from explorer.core.messages import describe
from explorer.images.registry import open_image
from tests.images.checks import check_image
from tests.trees import noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from explorer.images.base import Image

SIZE = 1_000_001


@pytest.fixture(scope="module")
def content() -> bytes:
    # A hole in the middle, where the host keeps holes.
    some = bytearray(noise(SIZE, 1))
    some[200_000:800_000] = bytes(600_000)
    return bytes(some)


@pytest.fixture(scope="module")
def image(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    path = tmp_path_factory.mktemp("raw") / "image"
    with path.open("wb") as file:
        file.write(content[:200_000])
        file.seek(800_000)
        file.write(content[800_000:])
    with open_image(path, "raw") as opened:
        yield opened


RANGES = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(sorted)


@settings(deadline=None)
@given(limits=RANGES)
def test_a_range_is_read(limits: list[int], image: Image, content: bytes) -> None:
    start, end = limits
    buffer = bytearray(end - start)
    image.read_into(start, memoryview(buffer))
    assert buffer == content[start:end]


@settings(deadline=None)
@given(limits=RANGES)
def test_extents_cover_a_range_and_tell_the_truth(
    limits: list[int], image: Image, content: bytes
) -> None:
    start, end = limits
    at = start
    for extent in image.extents(start, end - start):
        assert extent.offset == at
        assert extent.length > 0
        at += extent.length
        if extent.kind is not ExtentKind.DATA:
            assert not any(content[extent.offset : at])
    assert at == end


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, SIZE + 1), (SIZE, 1), (2**63, 1)])
def test_a_range_outside_is_refused(image: Image, offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="not in a disk"):
        image.read_into(offset, memoryview(bytearray(length)))
    with pytest.raises(ValueError, match="not in a disk"):
        list(image.extents(offset, length))


def test_a_read_ends_with_the_disk(image: Image, content: bytes) -> None:
    assert image.read(SIZE - 3, 100) == content[-3:]
    assert image.read(SIZE + 3, 100) == b""


def test_it_is_opened_for_reading_only(image: Image) -> None:
    descriptor = image.plain_file()
    assert descriptor is not None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(descriptor, b"x")
    assert not os.get_inheritable(descriptor)


def refused(path: Path | str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        open_image(path, "raw")
    assert str(path).rpartition("/")[2] in describe(caught.value)
    return caught.value


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "missing").code == "source.missing"
    assert refused(tmp_path).code == "source.directory"
    assert refused("/dev/null").code == "source.kind"
    (tmp_path / "empty").touch()
    assert refused(tmp_path / "empty").code == "source.empty"
    os.mkfifo(tmp_path / "fifo")
    assert refused(tmp_path / "fifo").code == "source.kind"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_right_to_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "secret").chmod(0)
    assert refused(tmp_path / "secret").code == "source.rights"


def test_a_file_that_becomes_shorter_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(8192))
    with open_image(path, "raw") as opened:
        os.truncate(path, 4096)
        with pytest.raises(SourceError) as caught:
            opened.read(0, 8192)
    assert caught.value.code == "source.changed"


def test_a_closed_image_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(512))
    opened = open_image(path, "raw")
    opened.close()
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        opened.read(0, 1)


@pytest.mark.proves("format", "raw", "block devices, with their size and sector size")
@pytest.mark.parametrize("sector", [512, 4096])
def test_a_block_device_tells_its_size_and_sectors(tmp_path: Path, sector: int) -> None:
    if os.geteuid() or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    path = tmp_path / "image"
    path.write_bytes(noise(1 << 20, 1))
    options = ("--find", "--show", "--read-only", "--sector-size", str(sector))
    device = run_tool("losetup", *options, path).strip()
    try:
        with open_image(device) as opened:
            assert (opened.size, opened.block_size) == (1 << 20, sector)
            assert opened.plain_file() is not None
            check_image(opened, path)
    finally:
        run_tool("losetup", "--detach", device)


@pytest.mark.proves("format", "raw", "sparse files as large as the host has them")
def test_the_largest_file_of_the_host(tmp_path: Path) -> None:
    path = tmp_path / "image"
    with path.open("wb") as file:
        # As far as the file system of the host goes.
        for bits in range(62, 40, -1):
            try:
                file.truncate(1 << bits)
            except OSError:
                continue
            break
        size = file.seek(0, os.SEEK_END)
        file.seek(size - 512)
        file.write(b"\x55" * 512)
    with open_image(path) as opened:
        assert opened.size == size
        assert opened.read(size - 513, 513) == b"\0" + b"\x55" * 512
        kinds = [extent.kind for extent in opened.extents(0, size)]
        assert kinds == [ExtentKind.ZERO, ExtentKind.DATA]
