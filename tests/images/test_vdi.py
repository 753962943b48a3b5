# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""VDI images: by qemu-img, and differencing ones and rare fields by a writer of our own."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import (
    CorruptImage,
    ExplorerError,
    ImageError,
    MissingPart,
    UnsupportedFeature,
)
from explorer.core.extents import ExtentKind
from explorer.core.messages import describe
from explorer.images.files import HostFile, HostFolder
from explorer.images.opening import Choices
from explorer.images.registry import open_file, open_image
from explorer.images.vdi import PARENT_SEARCH_LIMIT
from tests.images.checks import check_damaged, check_image
from tests.images.content import convert, make_disk
from tests.trees import find_tool, make_empty, noise, run_tool

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
FREE = 0xFFFFFFFF
ZERO = 0xFFFFFFFE


@dataclass
class Vdi:
    """A VDI image to be written, field by field (VirtualBox' VDICore.h)."""

    size: int
    blocks: dict[int, bytes | int] = field(default_factory=dict)
    """Content of a block, or the entry of one without."""
    type: int = 1
    block_size: int = MIB
    extra: int = 0
    signature: int = 0xBEDA107F
    version: int = 0x00010001
    header_size: int = 400
    sector_size: int = 512
    count: int | None = None
    comment: bytes = b""
    ids: tuple[int, int, int, int] = (1, 2, 0, 0)
    """The image's, its last change's, and the parent's two."""

    def write(self, path: Path) -> Path:
        """Write the image to a file."""
        needed = -(-self.size // self.block_size)
        count = needed if self.count is None else self.count
        entries = []
        data = bytearray()
        # In an order of its own: the last block is the first in the file.
        places = {
            index: number
            for number, index in enumerate(
                sorted((n for n, block in self.blocks.items() if isinstance(block, bytes)))[::-1]
            )
        }
        for index in range(needed):
            block = self.blocks.get(index, FREE)
            entries.append(places[index] if isinstance(block, bytes) else block)
        for index in places:
            block = self.blocks[index]
            assert isinstance(block, bytes)
            data += b"\xee" * self.extra + block.ljust(self.block_size, b"\0")
        header = struct.pack(
            "<64sIIIII256sIIIIIIIQIIII16s16s16s16sIIII",
            b"<<< a writer of tests >>>\n",
            self.signature,
            self.version,
            self.header_size,
            self.type,
            0,
            self.comment,
            1024,
            4096,
            0,
            0,
            0,
            self.sector_size,
            0,
            self.size,
            self.block_size,
            self.extra,
            count,
            len(places),
            *(number.to_bytes(16, "big") for number in self.ids),
            0,
            0,
            0,
            512,
        )
        table = struct.pack(f"<{needed}I", *entries)
        assert 1024 + len(table) <= 4096
        path.write_bytes(header.ljust(1024, b"\0") + table.ljust(3072, b"\0") + data)
        return path


def refused(path: Path) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert path.name in describe(caught.value)
    return caught.value


@pytest.mark.proves("format", "vdi", "fixed and dynamic")
@pytest.mark.parametrize("size", [9 * MIB, 8 * MIB + 512, 3 * MIB - 1536])
@pytest.mark.parametrize("static", ["off", "on"])
def test_images_by_qemu(size: int, static: str, tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "raw", size, 700_000)
    path = convert(raw, tmp_path / "image.vdi", "vdi", f"static={static}")
    with open_image(path) as image:
        assert image.format == "vdi"
        facts = image.facts()
        assert facts["type"] == ("dynamic" if static == "off" else "fixed")
        assert facts["block size"] == MIB
        assert "QEMU" in str(facts["creator"])
        assert image.parent is None
        assert image.plain_file() is None
        check_image(image, raw)


def test_what_qemu_writes_out_of_order_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image.vdi"
    run_tool("qemu-img", "create", "-q", "-f", "vdi", str(path), "64M")
    writes = [(33, 0x11), (2, 0x22), (3, 0x33), (60, 0x44), (4, 0x55), (0, 0x66)]
    commands = []
    for megabyte, byte in writes:
        commands += ["-c", f"write -P {byte} {megabyte}M 300k"]
    run_tool("qemu-io", "-f", "vdi", *commands, str(path))
    raw = tmp_path / "raw"
    run_tool("qemu-img", "convert", "-O", "raw", str(path), str(raw))
    with open_image(path) as image:
        check_image(image, raw)
        for megabyte, byte in writes:
            assert image.read(megabyte * MIB, 300 * 1024) == bytes([byte]) * 300 * 1024


@pytest.mark.proves("format", "vdi", "fixed and dynamic")
def test_seven_zip_reads_the_same(tmp_path: Path) -> None:
    image_path = Vdi(5 * MIB, {1: noise(MIB, 1), 4: noise(MIB, 2), 2: ZERO}).write(
        tmp_path / "image.vdi"
    )
    done = subprocess.run(
        [find_tool("7z"), "x", "-tvdi", "-so", str(image_path)], capture_output=True, check=True
    )
    with open_image(image_path) as image:
        assert image.read(0, image.size) == done.stdout


def test_an_odd_size_is_kept(tmp_path: Path) -> None:
    # VirtualBox rounds it down to sectors, and QEMU up.
    path = Vdi(MIB + 1000, {0: noise(MIB, 1), 1: noise(1000, 2)}).write(tmp_path / "odd.vdi")
    raw = tmp_path / "raw"
    raw.write_bytes(noise(MIB, 1) + noise(1000, 2))
    with open_image(path) as image:
        check_image(image, raw)


@pytest.mark.proves("format", "vdi", "block sizes and extra data")
@pytest.mark.parametrize("block_size", [512, 4096, 2 * MIB])
@pytest.mark.parametrize("extra", [0, 512])
def test_other_block_sizes_and_extra_data(block_size: int, extra: int, tmp_path: Path) -> None:
    contents = {index: noise(block_size, index + 1) for index in (0, 1, 2, 5)}
    path = Vdi(7 * block_size - 100, {**contents, 4: ZERO}, block_size=block_size, extra=extra)
    expected = b"".join(contents.get(index, bytes(block_size)) for index in range(7))
    raw = tmp_path / "raw"
    raw.write_bytes(expected[:-100])
    with open_image(path.write(tmp_path / "image.vdi")) as image:
        check_image(image, raw)


def test_blocks_in_a_row_are_one_extent(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(noise(8 * MIB, 1))
    path = convert(raw, tmp_path / "image.vdi", "vdi")
    with open_image(path) as image:
        assert len(list(image.pieces(0, image.size))) == 1
        (extent,) = image.extents(0, image.size)
        assert extent.kind is ExtentKind.DATA


# ---- Differencing images


def chain(folder: Path) -> tuple[Path, bytes]:
    """Three images behind one another, the last shorter than those above; and the disk."""
    base = [noise(MIB, 10 + n) for n in range(5)]
    Vdi(5 * MIB, dict(enumerate(base)), comment=b"the base", ids=(10, 11, 0, 0)).write(
        folder / "Base.VDI"
    )
    new = [noise(MIB, 20 + n) for n in range(3)]
    Vdi(8 * MIB, {1: new[0], 2: ZERO, 6: new[1]}, type=4, ids=(20, 21, 10, 11)).write(
        folder / "middle.vdi"
    )
    path = Vdi(8 * MIB, {3: new[2], 1: ZERO}, type=4, ids=(30, 31, 20, 99)).write(
        folder / "top.vdi"
    )
    zero = bytes(MIB)
    return path, b"".join([base[0], zero, zero, new[2], base[4], zero, new[1], zero])


@pytest.mark.proves("format", "vdi", "differencing")
def test_a_chain_is_found_by_identifiers(tmp_path: Path) -> None:
    path, expected = chain(tmp_path)
    (tmp_path / "a note.txt").write_text("no image")
    (tmp_path / "a short.vdi").write_bytes(b"too short")
    (tmp_path / "an empty.vdi").touch()
    (tmp_path / "a folder.vdi").mkdir()
    (tmp_path / "another.vdi").write_bytes(bytes(1000))
    raw = tmp_path / "raw"
    raw.write_bytes(expected)
    with open_image(path) as image:
        assert image.facts()["type"] == "differencing"
        assert str(image.facts()["parent"]).endswith("middle.vdi")
        assert image.facts()["parent changed"] is True
        assert image.parent is not None
        assert image.parent.facts()["parent changed"] is False
        assert image.parent.parent is not None
        assert image.parent.parent.facts()["comment"] == "the base"
        assert image.parent.parent.facts()["id"] == "00000000-0000-0000-0000-00000000000a"
        check_image(image, raw)


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    path, _disk = chain(tmp_path)
    (tmp_path / "Base.VDI").unlink()
    with pytest.raises(MissingPart) as caught:
        open_image(path)
    assert "00000000-0000-0000-0000-00000000000a" in describe(caught.value)


def test_a_parent_elsewhere_is_found_when_its_folder_is_allowed(tmp_path: Path) -> None:
    # As VirtualBox has it: the base beside a folder of its snapshots.
    snapshots = tmp_path / "Snapshots"
    snapshots.mkdir()
    path, expected = chain(snapshots)
    (snapshots / "Base.VDI").rename(tmp_path / "Base.VDI")
    with pytest.raises(MissingPart):
        open_image(path)
    with open_image(path, choices=Choices(allowed=(bytes(tmp_path),))) as image:
        assert image.read(0, image.size) == expected


def test_an_image_behind_itself_is_refused(tmp_path: Path) -> None:
    Vdi(MIB, type=4, ids=(1, 2, 3, 4)).write(tmp_path / "one.vdi")
    Vdi(MIB, type=4, ids=(3, 4, 1, 2)).write(tmp_path / "two.vdi")
    error = refused(tmp_path / "one.vdi")
    assert isinstance(error, CorruptImage)
    assert "behind itself" in describe(error)


def test_a_chain_has_an_end(tmp_path: Path) -> None:
    for number in range(70):
        Vdi(4096, type=4, block_size=4096, ids=(number, 0, number + 1, 0)).write(
            tmp_path / f"{number}.vdi"
        )
    with pytest.raises(CorruptImage) as caught:
        open_image(tmp_path / "0.vdi")
    assert "behind one another" in describe(caught.value)


def test_the_search_for_a_parent_has_an_end(tmp_path: Path) -> None:
    path = Vdi(MIB, type=4, ids=(1, 2, 3, 4)).write(tmp_path / "child.vdi")
    for number in range(PARENT_SEARCH_LIMIT):
        (tmp_path / f"a{number}.vdi").write_bytes(b"x")
    Vdi(MIB, ids=(3, 4, 0, 0)).write(tmp_path / "parent.vdi")
    assert isinstance(refused(path), MissingPart)


class Changing(HostFolder):
    """A folder whose files change while they are looked at."""

    def __init__(self, path: Path) -> None:
        super().__init__(bytes(path))
        self._top = path
        self._opened: set[bytes] = set()

    def open(self, name: bytes, role: str, owner: str) -> tuple[HostFile, HostFolder]:
        """The file; cut short once it is open, or another one the second time."""
        if name in self._opened:
            return super().open(b"other.vdi", role, owner)
        self._opened.add(name)
        file, folder = super().open(name, role, owner)
        if name == b"cut.vdi":
            os.truncate(self._top / "cut.vdi", 10)
        return file, folder


def test_files_that_change_meanwhile(tmp_path: Path) -> None:
    path = Vdi(MIB, type=4, ids=(1, 2, 3, 4)).write(tmp_path / "child.vdi")
    Vdi(MIB, ids=(9, 9, 0, 0)).write(tmp_path / "cut.vdi")
    Vdi(MIB, ids=(5, 6, 0, 0)).write(tmp_path / "other.vdi")
    Vdi(MIB, ids=(3, 4, 0, 0)).write(tmp_path / "parent.vdi")
    with pytest.raises(CorruptImage) as caught:
        open_file(HostFile(path), Changing(tmp_path), Choices(), b"child.vdi")
    assert (tmp_path / "cut.vdi").stat().st_size == 10
    assert "other.vdi is not the parent" in describe(caught.value)


# ---- What is refused


@pytest.mark.proves("format", "vdi", "damage gives typed errors")
@pytest.mark.parametrize(
    ("image", "kind", "words"),
    [
        (Vdi(MIB, version=0x00000001), UnsupportedFeature, "version 0.1"),
        (Vdi(MIB, version=0x00020000), UnsupportedFeature, "version 2.0"),
        (Vdi(MIB, type=3), UnsupportedFeature, "undo"),
        (Vdi(MIB, type=7), UnsupportedFeature, "type 7"),
        (Vdi(MIB, sector_size=4096), UnsupportedFeature, "4096"),
        (Vdi(MIB, header_size=100), CorruptImage, "byte 72"),
        (Vdi(2 * MIB, count=1), CorruptImage, "byte 368"),
        (Vdi(0), CorruptImage, "byte 368"),
        (Vdi(MIB, block_size=3 * 512), CorruptImage, "byte 376"),
        (Vdi(MIB, block_size=1 << 31), CorruptImage, "byte 376"),
        (Vdi(MIB, extra=1 << 31), CorruptImage, "byte 380"),
    ],
)
def test_what_cannot_be_is_refused(
    image: Vdi, kind: type[ExplorerError], words: str, tmp_path: Path
) -> None:
    extra, image.extra = image.extra, min(image.extra, 512)
    path = image.write(tmp_path / "image.vdi")
    if extra != image.extra:
        with path.open("r+b") as file:
            file.seek(380)
            file.write(struct.pack("<I", extra))
    error = refused(path)
    assert type(error) is kind
    assert words in describe(error)


def test_a_format_that_was_chosen_is_not_guessed(tmp_path: Path) -> None:
    path = Vdi(MIB, signature=0).write(tmp_path / "image.vdi")
    with pytest.raises(CorruptImage) as caught:
        open_image(path, "vdi")
    assert "signature" in describe(caught.value)


def test_a_block_beyond_the_file_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = Vdi(4 * MIB, {0: noise(MIB, 1), 3: 77}).write(tmp_path / "image.vdi")
    with open_image(path) as image:
        assert image.read(0, 3 * MIB) == noise(MIB, 1) + bytes(2 * MIB)
        with pytest.raises(CorruptImage) as caught:
            image.read(3 * MIB, 1)
    assert "block map at byte 1036" in describe(caught.value)


@pytest.mark.proves("format", "vdi", "damage gives typed errors")
def test_damage_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    path, _disk = chain(folder)
    check_damaged(path, folder, [(0, 472), (1024, 32)])
    plain = Vdi(3 * MIB, {0: noise(MIB, 1)}, extra=512).write(folder / "plain.vdi")
    check_damaged(plain, folder, [(0, 472), (1024, 12), (4096, MIB)])


@pytest.mark.proves("format", "vdi", "the largest disks")
def test_the_largest_disk_opens_quickly(tmp_path: Path) -> None:
    # The most that 32-bit entries can hold, with a map of 16 GiB; all entries are 0: each block is
    # the first in the file.
    count = 0xFFFFFFFF
    data = -(-(1024 + 4 * count) // MIB) * MIB
    header = bytearray(Vdi(MIB).write(tmp_path / "small.vdi").read_bytes()[:512])
    struct.pack_into("<II", header, 340, 1024, 0)
    struct.pack_into("<QIII", header, 368, count * MIB, MIB, 0, count)
    path = make_empty(tmp_path / "large.vdi", data)
    with path.open("r+b") as file:
        file.write(header)
    started = time.monotonic()
    with open_image(path) as image:
        assert image.size == count * MIB
        assert image.read(image.size - MIB, 512) == bytes(header)
        assert sum(piece.length for piece in image.pieces(1 << 40, 1 << 32)) == 1 << 32
    assert time.monotonic() - started < 1


def test_a_large_sparse_disk_is_one_extent(tmp_path: Path) -> None:
    path = tmp_path / "large.vdi"
    run_tool("qemu-img", "create", "-q", "-f", "vdi", str(path), "16T")
    run_tool("qemu-io", "-f", "vdi", "-c", "write -P 7 16383G 64k", str(path))
    with open_image(path) as image:
        extents = list(image.extents(0, image.size))
        assert [extent.kind for extent in extents] == [
            ExtentKind.ZERO,
            ExtentKind.DATA,
            ExtentKind.ZERO,
        ]
        assert image.read(16383 << 30, 65536) == b"\7" * 65536
