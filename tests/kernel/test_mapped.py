# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks whose images say where their bytes lie: read without Python where a file has them."""

from __future__ import annotations

import random
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from explorer.core.errors import CorruptImage, ExplorerError, KernelError, SourceError
from explorer.images.base import Image, Piece
from explorer.images.files import HostFile
from tests.trees import make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from explorer.core.extents import Extent
    from explorer.kernel import Kernel

MIB = 1 << 20
UNIT = 20 * 1024
"""Not the size of anything else, so that every end meets every other."""


class Patchwork(Image):
    """A disk in units of a size: each in one of two files, zeros, or to be decoded."""

    format = "patchwork"

    def __init__(self, content: bytes, folder: Path, *, encoded: bool, seed: int = 1) -> None:
        """Lay ``content`` out in ``folder``; without ``encoded`` files and zeros have it all."""
        super().__init__()
        self.content = content
        self.reads: list[tuple[int, int]] = []
        self.questions = 0
        self.wrong: tuple[int, Exception] | None = None
        """Where the tables are wrong, and what they raise there."""
        self.bug: Exception | None = None
        """What a question raises, but no read."""
        self.places: list[tuple[str, int]] = []
        chance = random.Random(seed)
        paths = {name: folder / f"{name}-{seed}" for name in ("first", "second")}
        parts: dict[str, list[bytes]] = {name: [] for name in paths}
        for start in range(0, len(content), UNIT):
            unit = content[start : start + UNIT]
            kind = chance.choice(("first", "second", "encoded" if encoded else "first"))
            if not any(unit):
                kind = "zero"
            place = 0
            if kind in parts:
                # Not the order of the disk: one file is filled from a place by itself now and then.
                if chance.random() < 0.2:
                    parts[kind].append(b"\xee" * chance.randrange(1, 5000))
                place = sum(map(len, parts[kind]))
                parts[kind].append(unit)
            self.places.append((kind, place))
        self.files = {}
        for name, path in paths.items():
            path.write_bytes(b"".join(parts[name]))
            self.files[name] = HostFile(path)
            self._owned.callback(self.files[name].close)

    @property
    def path(self) -> str:
        """A name for messages."""
        return "patchwork"

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return len(self.content)

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """By the table that was made."""
        end = offset + length
        while offset < end:
            number, skip = divmod(offset, UNIT)
            if self.wrong is not None and number == self.wrong[0] // UNIT:
                raise self.wrong[1]
            count = min(UNIT - skip, end - offset)
            kind, place = self.places[number]
            if kind == "zero":
                yield Piece(count)
            elif kind == "encoded":
                yield Piece(count, self, offset)
            else:
                yield Piece(count, self.files[kind], place + skip)
            offset += count

    def decode_into(self, position: int, buffer: memoryview) -> None:
        """Give what no file has."""
        buffer[:] = self.content[position : position + len(buffer)]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Count, and read."""
        self.reads.append((offset, len(buffer)))
        super().read_into(offset, buffer)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Count, and answer."""
        self.questions += 1
        if self.bug is not None:
            raise self.bug
        return super().extents(offset, length)


class Content(NamedTuple):
    """An ext4 image of files and holes."""

    disk: bytes
    files: dict[bytes, bytes]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    """The disk that all images here are."""
    folder = tmp_path_factory.mktemp("mapped")
    top = folder / "top"
    top.mkdir()
    files = {}
    for number in range(12):
        files[b"/file %d" % number] = noise(1 + number * 150_001, number)
        (top / f"file {number}").write_bytes(files[b"/file %d" % number])
    image = make_empty(folder / "image", 48 * MIB + 3 * 512)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    return Content(image.read_bytes(), files)


@pytest.fixture
def patchwork(tmp_path: Path, content: Content) -> Iterator[Callable[..., Patchwork]]:
    """Makes images of the content."""
    with ExitStack() as stack:

        def make(*, encoded: bool, seed: int = 1) -> Patchwork:
            return stack.enter_context(
                Patchwork(content.disk, tmp_path, encoded=encoded, seed=seed)
            )

        yield make


@pytest.mark.parametrize("seed", range(3))
def test_files_of_a_mapped_disk_are_right(
    kernel: Kernel, patchwork: Callable[..., Patchwork], content: Content, seed: int
) -> None:
    image = patchwork(encoded=True, seed=seed)
    with kernel.add_disk(image) as disk, disk.mount("ext4") as mount:
        for path, wanted in content.files.items():
            with mount.open_file(path) as file:
                assert file.read_at(0, len(wanted) + 1) == wanted
    assert image.reads
    assert {kind for kind, _ in image.places} == {"first", "second", "zero", "encoded"}


def test_all_of_a_mapped_disk_is_right(
    kernel: Kernel, patchwork: Callable[..., Patchwork], content: Content
) -> None:
    image = patchwork(encoded=True)
    size = len(content.disk)
    with kernel.add_disk(image) as disk:
        device = disk.device()
        assert device.read(0, size + 4096) == content.disk
        # One call for each run that must be decoded, but for where a request or an answer ends.
        runs = sum(
            kind == "encoded" and before != "encoded"
            for (before, _), (kind, _) in zip([("", 0), *image.places], image.places, strict=False)
        )
        assert runs <= len(image.reads) <= runs + disk.statistics().read_requests + image.questions
        assert sum(length for _, length in image.reads) < size // 2
        chance = random.Random(7)
        for _ in range(200):
            offset = chance.randrange(size)
            length = chance.randrange(1, 100_000)
            assert device.read(offset, length) == content.disk[offset : offset + length]


def test_what_files_have_is_read_without_python(
    kernel: Kernel, patchwork: Callable[..., Patchwork], content: Content
) -> None:
    image = patchwork(encoded=False)
    with kernel.add_disk(image) as disk:
        device = disk.device()
        assert device.read(0, len(content.disk)) == content.disk
        first = image.questions
        assert 0 < first < disk.statistics().read_requests
        # Nothing of a device that nobody has open stays in the kernel's memory: it is read again.
        before = disk.statistics().read_bytes
        assert device.read(0, len(content.disk)) == content.disk
        assert disk.statistics().read_bytes - before >= len(content.disk)
        assert image.questions == first
        with disk.mount("ext4") as mount, mount.open_file(b"/file 11") as file:
            assert file.read_at(0, 4 * MIB) == content.files[b"/file 11"]
    assert image.questions == first
    assert not image.reads


def test_writes_over_a_mapped_disk_go_to_the_overlay(
    kernel: Kernel, patchwork: Callable[..., Patchwork], content: Content
) -> None:
    image = patchwork(encoded=True)
    with kernel.add_disk(image, overlay_limit=8 * MIB) as disk:
        with disk.mount("ext4", read_only=False) as mount:
            with mount.open_file(b"/file 5") as file:
                assert file.read_at(0, 4 * MIB) == content.files[b"/file 5"]
            assert mount.stat(b"/file 5").size == len(content.files[b"/file 5"])
        assert disk.statistics().overlay_bytes > 0
        with disk.mount("ext4") as mount, mount.open_file(b"/file 6") as file:
            assert file.read_at(0, 4 * MIB) == content.files[b"/file 6"]


def test_a_file_that_shrank_says_so(
    kernel: Kernel, patchwork: Callable[..., Patchwork], content: Content
) -> None:
    image = patchwork(encoded=False)
    with kernel.add_disk(image) as disk:
        device = disk.device()
        device.read(0, len(content.disk))
        number = next(
            number
            for number, (kind, place) in enumerate(image.places)
            if kind == "first" and place > 1_000_000
        )
        with open(image.files["first"].path, "r+b") as file:
            file.truncate(1_000_000)
        with pytest.raises(SourceError) as caught:
            device.read(number * UNIT, UNIT)
        assert caught.value.code == "source.changed"
        assert isinstance(caught.value.__cause__, KernelError)


def test_tables_that_are_wrong_fail_what_needs_them_and_no_more(
    kernel: Kernel, patchwork: Callable[..., Patchwork], content: Content
) -> None:
    image = patchwork(encoded=True)
    wrong = 1000 * UNIT
    error = CorruptImage("image.corrupt", path="it", structure="table", offset=8, reason="no")
    image.wrong = (wrong, error)
    with kernel.add_disk(image) as disk:
        device = disk.device()
        # What lies before and behind it, up to the blocks that it has a part of.
        assert device.read(0, wrong) == content.disk[:wrong]
        behind = wrong + UNIT
        assert device.read(behind, 4 * MIB) == content.disk[behind : behind + 4 * MIB]
        with pytest.raises(ExplorerError) as caught:
            device.read(wrong, 4096)
        assert caught.value is error
        # Nothing is left of it.
        with pytest.raises(KernelError):
            disk.mount("xfs")
        image.wrong = None
        assert device.read(wrong, UNIT) == content.disk[wrong : wrong + UNIT]


def test_a_bug_in_a_map_comes_back(
    kernel: Kernel, patchwork: Callable[..., Patchwork], content: Content
) -> None:
    image = patchwork(encoded=True)
    with kernel.add_disk(image) as disk:
        image.bug = ZeroDivisionError("a bug")
        with pytest.raises(ZeroDivisionError, match="a bug"):
            disk.device().read(30 * MIB, 4096)
        image.bug = None
        assert disk.device().read(0, len(content.disk)) == content.disk
