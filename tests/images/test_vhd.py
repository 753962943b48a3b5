# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""VHD images: by qemu-img, real ones, and by a writer of our own what no tool here makes."""

from __future__ import annotations

import random
import shutil
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
from explorer.images.opening import Choices
from explorer.images.registry import open_image
from tests.images.checks import check_damaged, check_image, check_refused_or_read
from tests.images.content import convert, convert_back, make_disk
from tests.trees import find_tool, noise, run_tool, sha256
from tests.volumes.truth import IMAGES

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
SECTOR = 512
FREE = 0xFFFFFFFF
BLOCK = 16 * 1024
"""Bytes of a block of what the writer makes: 32 sectors."""


def checksum(raw: bytes | bytearray) -> int:
    return ~sum(raw) & 0xFFFFFFFF


@dataclass
class Vhd:
    """A VHD image to be written, field by field."""

    size: int
    blocks: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    """Of the blocks that there are, bitmap and content."""
    type: int = 3
    block_size: int = BLOCK
    creator: bytes = b"win "
    geometry: tuple[int, int, int] = (0, 0, 0)
    id: int = 1
    parent: int = 0
    parent_name: str = ""
    parent_time: int = 0
    locators: tuple[tuple[bytes, bytes], ...] = ()
    features: int = 2
    version: int = 0x00010000
    header_version: int = 0x00010000
    entries: int | None = None
    saved: int = 0
    cookie: bytes = b"cxsparse"

    def footer(self) -> bytes:
        """The footer, with its checksum."""
        raw = bytearray(512)
        struct.pack_into(
            ">8sIIQI4sI4sQQHBBII16sB",
            raw,
            0,
            b"conectix",
            self.features,
            self.version,
            2**64 - 1 if self.type == 2 else 512,
            800_000_000,
            self.creator,
            0x000A0002,
            b"Wi2k",
            self.size,
            self.size,
            *self.geometry,
            self.type,
            0,
            self.id.to_bytes(16, "big"),
            self.saved,
        )
        struct.pack_into(">I", raw, 64, checksum(raw))
        return bytes(raw)

    def write(self, path: Path) -> Path:
        """Write a dynamic or differencing image to a file."""
        needed = max(1, -(-self.size // self.block_size))
        table_offset = 512 + 1024
        table_size = -(-4 * needed // 512) * 512
        end = table_offset + table_size
        locators = b""
        names = b""
        for platform, name in self.locators:
            space = -(-len(name) // 512) * 512
            locators += struct.pack(">4sIIIQ", platform, space, len(name), 0, end)
            names += name.ljust(space, b"\0")
            end += space
        header = bytearray(1024)
        struct.pack_into(
            ">8sQQIIII16sII512s192s",
            header,
            0,
            self.cookie,
            2**64 - 1,
            table_offset,
            self.header_version,
            needed if self.entries is None else self.entries,
            self.block_size,
            0,
            self.parent.to_bytes(16, "big"),
            self.parent_time,
            0,
            self.parent_name.encode("utf-16-be"),
            locators,
        )
        struct.pack_into(">I", header, 36, checksum(header))
        table = [FREE] * needed
        data = b""
        bitmap_size = -(-self.block_size // SECTOR // 8 // 512) * 512
        # In an order of its own: the last block is the first in the file.
        for index, (bitmap, content) in reversed(self.blocks.items()):
            table[index] = (end + len(data)) // SECTOR
            data += bitmap.ljust(bitmap_size, b"\0") + content.ljust(self.block_size, b"\0")
        raw = self.footer() + header + struct.pack(f">{needed}I", *table).ljust(table_size, b"\xff")
        path.write_bytes(raw + names + data + self.footer())
        return path


def utf16(name: str) -> bytes:
    return name.encode("utf-16-le")


def seven_zip(path: Path) -> bytes:
    """The disk as 7-Zip reads it, which finds parents by their relative names."""
    done = subprocess.run(
        [find_tool("7z"), "x", "-tvhd", "-so", path], capture_output=True, check=True
    )
    return done.stdout


def refused(path: Path) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(path)
    return caught.value


# ---- By qemu-img


@pytest.mark.proves("format", "vhd", "fixed and dynamic")
@pytest.mark.parametrize("size", [9 * MIB, 3 * MIB - 1536])
@pytest.mark.parametrize("force_size", ["off", "on"])
@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_images_by_qemu(size: int, force_size: str, subformat: str, tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "raw", size, 700_000)
    options = (f"subformat={subformat}", f"force_size={force_size}")
    path = convert(raw, tmp_path / "image.vhd", "vpc", *options)
    # Without the option the size is the next that a geometry has.
    expected = convert_back(path, tmp_path / "back", "vpc")
    with open_image(path) as image:
        assert image.format == "vhd"
        assert image.size == size if force_size == "on" else image.size > size
        facts = image.facts()
        assert facts["type"] == subformat
        assert facts["size by"] == ("current size" if force_size == "on" else "geometry")
        assert str(facts["creator"]).startswith("qem")
        assert facts.get("block size") == (2 * MIB if subformat == "dynamic" else None)
        assert (image.plain_file() is not None) == (subformat == "fixed")
        assert image.parent is None
        check_image(image, expected)


def test_what_qemu_writes_out_of_order_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image.vhd"
    run_tool("qemu-img", "create", "-q", "-f", "vpc", path, "64M")
    commands = []
    for megabyte in (33, 2, 60, 4, 5, 0):
        commands += ["-c", f"write -P {megabyte + 1} {megabyte}M 300k"]
    run_tool("qemu-io", "-f", "vpc", *commands, str(path))
    with open_image(path) as image:
        check_image(image, convert_back(path, tmp_path / "raw", "vpc"))


def test_seven_zip_reads_the_same(tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "raw", 5 * MIB, 700_000)
    path = convert(raw, tmp_path / "image.vhd", "vpc", "force_size=on")
    with open_image(path) as image:
        assert image.read(0, image.size) == seven_zip(path)


# ---- The size


@pytest.mark.proves("format", "vhd", "size by geometry or field")
@pytest.mark.parametrize(
    ("creator", "geometry", "sectors"),
    [
        (b"vpc ", (10, 4, 17), 680),
        (b"qemu", (10, 4, 17), 680),
        (b"vpc ", (0, 4, 17), 700),
        (b"win ", (10, 4, 17), 700),
        (b"vbox", (10, 4, 17), 700),
        (b"qem2", (10, 4, 17), 700),
        (b"vpc ", (65535, 16, 255), 700),
    ],
)
def test_geometry_or_current_size(
    creator: bytes, geometry: tuple[int, int, int], sectors: int, tmp_path: Path
) -> None:
    # As QEMU 10 decides; that of Debian 12 goes by the geometry for more creators.
    image = Vhd(700 * SECTOR + 100, creator=creator, geometry=geometry)
    with open_image(image.write(tmp_path / "dynamic.vhd")) as opened:
        assert opened.size == sectors * SECTOR
    image.type = 2
    path = tmp_path / "fixed.vhd"
    path.write_bytes(noise(700 * SECTOR, 1) + image.footer())
    with open_image(path) as opened:
        assert opened.size == sectors * SECTOR
        assert opened.read(0, opened.size) == noise(700 * SECTOR, 1)[: opened.size]


# ---- The footer


def dynamic(path: Path) -> bytes:
    """Write a dynamic image; its disk."""
    content = noise(BLOCK, 1)
    Vhd(3 * BLOCK, {1: (b"\xff" * 4, content)}, saved=1, features=3).write(path)
    return bytes(BLOCK) + content + bytes(BLOCK)


@pytest.mark.proves("format", "vhd", "old footers")
def test_a_footer_of_511_bytes(tmp_path: Path) -> None:
    path = tmp_path / "old.vhd"
    expected = dynamic(path)
    path.write_bytes(path.read_bytes()[:-1])
    # Without its copy, too.
    other = tmp_path / "fixed.vhd"
    other.write_bytes(noise(8192, 1) + Vhd(8192, type=2).footer()[:-1])
    with open_image(path) as image, open_image(other) as fixed:
        assert image.read(0, image.size) == expected
        assert "footer" not in image.facts()
        assert fixed.read(0, fixed.size) == noise(8192, 1)


@pytest.mark.proves("format", "vhd", "damaged footer, good copy")
@pytest.mark.parametrize("cut", [1, 511, 512, 700])
def test_a_damaged_footer_is_replaced_by_its_copy(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "image.vhd"
    expected = dynamic(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-512] + bytes(100) + whole[-412:])
    with open_image(path) as image:
        assert "copy" in str(image.facts()["footer"])
        assert image.facts()["saved state"] is True
        assert image.facts()["temporary"] is True
        assert image.read(0, image.size) == expected
    path.write_bytes(whole[:-cut])
    with open_image(path) as image:
        assert image.size == len(expected)
        assert image.read(0, 2 * BLOCK - 1024) == expected[: 2 * BLOCK - 1024]


def test_a_damaged_copy_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "image.vhd"
    expected = dynamic(path)
    path.write_bytes(b"conectix" + bytes(504) + path.read_bytes()[512:])
    with open_image(path) as image:
        assert "footer" not in image.facts()
        assert image.read(0, image.size) == expected


def test_a_wrong_checksum_without_a_copy_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fixed.vhd"
    footer = bytearray(Vhd(8192, type=2).footer())
    footer[100] ^= 1
    path.write_bytes(bytes(8192) + footer)
    error = refused(path)
    assert isinstance(error, CorruptImage)
    assert "footer at byte 8192: the checksum" in describe(error)


def test_a_disk_that_begins_with_a_footer_is_not_taken_for_one(tmp_path: Path) -> None:
    # An image of an image.
    inner = Vhd(8192, type=2)
    disk = inner.footer() + noise(8192 - 512, 1)
    path = tmp_path / "fixed.vhd"
    path.write_bytes(disk + Vhd(8192, type=2, id=2).footer())
    with open_image(path) as image:
        assert image.read(0, 8192) == disk
    path.write_bytes(disk + b"conectix" + bytes(504))
    assert isinstance(refused(path), CorruptImage)


# ---- Differencing images


def chain(folder: Path, blocks: int = 7) -> tuple[Path, bytes]:
    """Three images behind one another, and the disk of 8 blocks; the base has ``blocks``."""
    base = noise(blocks * BLOCK, 1)
    path = folder / "base.vhd"
    path.write_bytes(base + Vhd(len(base), type=2, id=100).footer())
    # Bit 7 of the first byte is the first sector.
    middle = [noise(BLOCK, 2), noise(BLOCK, 3), noise(BLOCK, 4)]
    Vhd(
        8 * BLOCK,
        {
            0: (b"\xff\xff\xff\xff", middle[0]),
            2: (b"\x80\x00\x00\x01", middle[1]),
            7: (b"\x0f\xf0\xa5\x00", middle[2]),
        },
        type=4,
        id=200,
        parent=100,
        parent_time=700_000_000,
        locators=((b"W2ru", utf16(".\\base.vhd")),),
    ).write(folder / "middle.vhd")
    top = [noise(BLOCK, 5), noise(BLOCK, 6)]
    path = Vhd(
        8 * BLOCK,
        {
            0: (b"\x00\x00\x00\x00", top[0]),
            2: (b"\x01\x23\x45\x67", top[1]),
        },
        type=4,
        id=300,
        parent=200,
        locators=((b"W2ku", utf16("D:\\else\\where.vhd")), (b"W2ru", utf16(".\\middle.vhd"))),
    ).write(folder / "top.vhd")

    def mixed(bitmap: bytes, own: bytes, below: bytes) -> bytes:
        bits = "".join(f"{byte:08b}" for byte in bitmap)
        return b"".join(
            (own if bit == "1" else below)[n * SECTOR : (n + 1) * SECTOR]
            for n, bit in enumerate(bits)
        )

    disk = [base[n * BLOCK : (n + 1) * BLOCK].ljust(BLOCK, b"\0") for n in range(8)]
    disk[0] = middle[0]
    disk[2] = mixed(b"\x80\x00\x00\x01", middle[1], disk[2])
    disk[7] = mixed(b"\x0f\xf0\xa5\x00", middle[2], disk[7])
    disk[2] = mixed(b"\x01\x23\x45\x67", top[1], disk[2])
    return path, b"".join(disk)


@pytest.mark.proves("format", "vhd", "differencing")
def test_a_chain_is_read_sector_by_sector(tmp_path: Path) -> None:
    path, expected = chain(tmp_path)
    raw = tmp_path / "raw"
    raw.write_bytes(expected)
    with open_image(path) as image:
        assert image.facts()["type"] == "differencing"
        assert str(image.facts()["parent"]).endswith("/middle.vhd")
        assert "parent written" not in image.facts()
        assert image.parent is not None
        assert image.parent.facts()["parent written"] == "2022-03-07 20:26:40 UTC"
        check_image(image, raw)


@pytest.mark.proves("format", "vhd", "differencing")
def test_seven_zip_reads_the_chain_the_same(tmp_path: Path) -> None:
    # It does not read beyond the end of a parent.
    path, expected = chain(tmp_path, 8)
    with open_image(path) as image:
        assert image.read(0, image.size) == expected
    assert seven_zip(path) == expected


def test_sectors_in_a_row_are_one_piece(tmp_path: Path) -> None:
    path, _disk = chain(tmp_path)
    with open_image(path) as image:
        # Nothing of the first block is here, all of it is in the parent; four blocks are in the
        # base only.
        assert len(list(image.pieces(0, BLOCK))) == 1
        assert len(list(image.pieces(3 * BLOCK, 4 * BLOCK))) == 1
        # 0000 0001 0010 0011 0100 0101 0110 0111: sixteen runs of equal bits, of which the middle
        # has the first sector.
        assert len(list(image.pieces(2 * BLOCK, BLOCK))) == 17


NAMES = [
    {"locators": ((b"W2ru", utf16(".\\base.vhd")),)},
    {"locators": ((b"W2ru", utf16("base.vhd\0\0")),)},
    {"locators": ((b"W2ru", utf16("..\\gone\\base.vhd")),)},
    {"locators": ((b"W2ku", utf16("C:\\disks\\base.vhd")),)},
    {"locators": ((b"W2ku", utf16("\\\\server\\share\\base.vhd")),)},
    {"locators": ((b"MacX", b"file://localhost/Users/me/base.vhd"),)},
    {"locators": ((b"MacX", b"file://./base.vhd"),)},
    {"locators": ((b"MacX", b"file:///b%61se.vhd\0"),)},
    {"locators": ((b"Wi2k", b"base.vhd"), (b"Mac ", b"alias")), "parent_name": "base.vhd"},
    {"locators": ((b"W2ru", utf16("moved.vhd")),), "parent_name": "C:\\disks\\base.vhd"},
    {"locators": ((b"MacX", b"http://host/base.vhd"),), "parent_name": "base.vhd"},
]


@pytest.mark.proves("format", "vhd", "differencing")
@pytest.mark.parametrize("names", NAMES, ids=lambda names: str(names)[:60])
def test_names_of_the_parent(names: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "base.vhd").write_bytes(noise(BLOCK, 1) + Vhd(BLOCK, type=2, id=100).footer())
    child = Vhd(BLOCK, type=4, parent=100)
    for name, value in names.items():
        setattr(child, name, value)
    with open_image(child.write(tmp_path / "child.vhd")) as image:
        assert image.read(0, BLOCK) == noise(BLOCK, 1)


def test_a_name_that_is_not_ascii(tmp_path: Path) -> None:
    name = "Größe 日本 😀.vhd"
    (tmp_path / name).write_bytes(noise(BLOCK, 1) + Vhd(BLOCK, type=2, id=100).footer())
    child = Vhd(BLOCK, type=4, parent=100, locators=((b"W2ru", utf16(f".\\{name}")),))
    with open_image(child.write(tmp_path / "child.vhd")) as image:
        assert image.read(0, BLOCK) == noise(BLOCK, 1)


@pytest.mark.proves("format", "vhd", "files elsewhere only with consent")
def test_a_parent_elsewhere_needs_consent(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "child").mkdir()
    (tmp_path / "base" / "base.vhd").write_bytes(
        noise(BLOCK, 1) + Vhd(BLOCK, type=2, id=100).footer()
    )
    child = Vhd(BLOCK, type=4, parent=100, locators=((b"W2ru", utf16("..\\base\\base.vhd")),))
    path = child.write(tmp_path / "child" / "child.vhd")
    error = refused(path)
    assert error.code == "image.consent"
    with open_image(path, choices=Choices(allowed=(bytes(tmp_path / "base"),))) as image:
        assert image.read(0, BLOCK) == noise(BLOCK, 1)


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    child = Vhd(BLOCK, type=4, parent=100, parent_name="gone.vhd")
    error = refused(child.write(tmp_path / "child.vhd"))
    assert isinstance(error, MissingPart)
    assert "gone.vhd" in describe(error)
    error = refused(Vhd(BLOCK, type=4, parent=100).write(tmp_path / "nameless.vhd"))
    assert isinstance(error, MissingPart)


def test_another_image_of_the_parents_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base.vhd").write_bytes(noise(BLOCK, 1) + Vhd(BLOCK, type=2, id=101).footer())
    child = Vhd(BLOCK, type=4, parent=100, parent_name="base.vhd")
    error = refused(child.write(tmp_path / "child.vhd"))
    assert isinstance(error, CorruptImage)
    assert "00000000-0000-0000-0000-000000000064" in describe(error)


def test_an_image_behind_itself_is_refused(tmp_path: Path) -> None:
    child = Vhd(BLOCK, type=4, id=100, parent=100, parent_name="child.vhd")
    error = refused(child.write(tmp_path / "child.vhd"))
    assert isinstance(error, CorruptImage)
    assert "behind itself" in describe(error)


# ---- Real images


def real(name: str, folder: Path, copy: str) -> Path:
    """A real image under the name by which others know it; skips where it is missing."""
    source = IMAGES / "dfvfs" / name
    if not source.exists():
        pytest.skip(f"needs {source}")
    shutil.copyfile(source, folder / copy)
    return folder / copy


@pytest.mark.proves("format", "vhd", "real images")
def test_a_real_dynamic_image(tmp_path: Path) -> None:
    path = real("ext2.vhd", tmp_path, "ext2.vhd")
    with open_image(path) as image:
        check_image(image, convert_back(path, tmp_path / "raw", "vpc"))


@pytest.mark.proves("format", "vhd", "real images")
def test_a_real_differencing_image(tmp_path: Path) -> None:
    # Edited by hand: no checksum in them is right, but for the header of the parent.
    real("test_data-image.vhd", tmp_path, "image.vhd")
    path = real("image-differential.vhd", tmp_path, "image-differential.vhd")
    raw = tmp_path / "raw"
    with open_image(path) as image:
        assert "checksum" in str(image.facts()["footer"])
        assert "checksum" in str(image.facts()["header"])
        assert image.parent is not None
        assert "header" not in image.parent.facts()
        raw.write_bytes(image.read(0, image.size))
    run_tool("e2fsck", "-fn", raw)
    truth = (IMAGES / "truth/dfvfs/image-differential.vhd.7z.txt").read_text().splitlines()
    files = [line.split(" ", 3) for line in truth if line.startswith("f ")]
    assert files
    for _kind, size, digest, name in files:
        dumped = tmp_path / "file"
        run_tool("debugfs", "-R", f"dump /{name.strip(chr(39))} {dumped}", raw)
        assert (str(dumped.stat().st_size), sha256(dumped)) == (size, digest)


def test_a_real_differencing_image_over_a_parent_of_ours(tmp_path: Path) -> None:
    # Windows made it; its parent was not kept.
    path = real("fat-differential.vhd", tmp_path, "fat-differential.vhd")
    size = 4 * MIB
    parent = tmp_path / "fat-parent.vhd"
    identifier = int("5fa21a55f394aa4d99581951a67d5540", 16)
    parent.write_bytes(noise(size, 1) + Vhd(size, type=2, id=identifier).footer())
    with open_image(path) as image:
        assert image.size == size
        assert len({piece.place for piece in image.pieces(0, size)}) == 2
        assert image.read(0, size) == seven_zip(path)


# ---- What is refused


@pytest.mark.parametrize(
    ("image", "kind", "words"),
    [
        (Vhd(BLOCK, version=0x00020000), UnsupportedFeature, "version 2.0"),
        (Vhd(BLOCK, header_version=0x00030001), UnsupportedFeature, "header version 3.1"),
        (Vhd(BLOCK, features=0x12), UnsupportedFeature, "0x10"),
        (Vhd(BLOCK, type=5), UnsupportedFeature, "type 5"),
        (Vhd(BLOCK, cookie=b"cxsparce"), CorruptImage, "header at byte 512"),
        (Vhd(BLOCK, block_size=3 * SECTOR), CorruptImage, "byte 544"),
        (Vhd(BLOCK, block_size=256), CorruptImage, "byte 544"),
        (Vhd(2 * BLOCK, entries=1), CorruptImage, "byte 540"),
        (Vhd(0), CorruptImage, "a disk of 0 bytes"),
        (Vhd(BLOCK, entries=2**32 - 1, block_size=1 << 31), CorruptImage, "a disk of"),
        (
            Vhd(BLOCK, type=4, locators=((b"W2ru", bytes(65537)),)),
            CorruptImage,
            "locator W2ru at byte 2048",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    image: Vhd, kind: type[ExplorerError], words: str, tmp_path: Path
) -> None:
    if image.entries == 2**32 - 1:
        image.size = 2041 << 30
    error = refused(image.write(tmp_path / "image.vhd"))
    assert type(error) is kind
    assert words in describe(error)


@pytest.mark.parametrize("size", [0, 8192 + 512])
def test_a_fixed_disk_ends_before_its_footer(size: int, tmp_path: Path) -> None:
    path = tmp_path / "fixed.vhd"
    path.write_bytes(bytes(8192) + Vhd(size, type=2).footer())
    assert isinstance(refused(path), CorruptImage)


@pytest.mark.parametrize("content", [b"x", bytes(600)])
def test_what_has_no_footer_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image.vhd"
    path.write_bytes(content)
    with pytest.raises(CorruptImage) as caught:
        open_image(path, "vhd")
    assert "there is none" in describe(caught.value)


def test_a_block_beyond_the_file_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image.vhd"
    expected = dynamic(path)
    with path.open("r+b") as file:
        file.seek(1536 + 8)
        file.write(struct.pack(">I", 7777))
    with open_image(path) as image:
        assert image.read(0, 2 * BLOCK) == expected[: 2 * BLOCK]
        with pytest.raises(CorruptImage) as caught:
            image.read(2 * BLOCK, 1)
    assert "table at byte 1544: block 2" in describe(caught.value)


@pytest.mark.proves("format", "vhd", "damage gives typed errors")
def test_damage_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    path, _disk = chain(folder)
    size = path.stat().st_size
    tables = [(0, 100), (512, 900), (1536, 512), (2048, 1024), (size - 512, 100)]
    check_damaged(path, folder, tables)
    check_damaged(folder / "base.vhd", folder, [((folder / "base.vhd").stat().st_size - 512, 512)])


def test_damage_with_right_checksums_is_found(tmp_path: Path) -> None:
    path, _disk = chain(tmp_path)
    whole = path.read_bytes()
    copy = tmp_path / "damaged.vhd"
    chance = random.Random(1)
    read = 0
    for _ in range(400):
        changed = bytearray(whole)
        # The fields of footer and header, not the checksums.
        places = [*range(8, 64), *range(68, 85), *range(520, 548), *range(552, 580)]
        places += range(512 + 576, 512 + 576 + 48)
        for _ in range(chance.choice((1, 1, 2, 4))):
            changed[chance.choice(places)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        for start, end, place in ((0, 512, 64), (512, 1536, 548)):
            changed[place : place + 4] = bytes(4)
            struct.pack_into(">I", changed, place, checksum(changed[start:end]))
        changed[-512:] = changed[:512]
        copy.write_bytes(changed)
        read += check_refused_or_read(copy)
    assert 0 < read < 400


@pytest.mark.proves("format", "vhd", "the largest disks")
def test_the_largest_disk_opens_quickly(tmp_path: Path) -> None:
    path = tmp_path / "large.vhd"
    run_tool("qemu-img", "create", "-q", "-f", "vpc", "-o", "force_size=on", path, "2040G")
    run_tool("qemu-io", "-f", "vpc", "-c", "write -P 7 2039G 64k", str(path))
    started = time.monotonic()
    with open_image(path) as image:
        assert image.size == 2040 << 30
        assert image.read(2039 << 30, 65536) == b"\7" * 65536
        kinds = [extent.kind for extent in image.extents(0, image.size)]
    assert kinds == [ExtentKind.ZERO, ExtentKind.DATA, ExtentKind.ZERO]
    assert time.monotonic() - started < 2
