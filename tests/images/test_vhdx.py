# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""VHDX images: by qemu-img, and by a writer of our own what no tool here makes."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.errors import (
    CorruptImage,
    ExplorerError,
    ImageError,
    MissingPart,
    UnsupportedFeature,
)
from explorer.core.extents import ExtentKind
from explorer.core.messages import describe
from explorer.images.crc32c import crc32c
from explorer.images.files import SourceFile
from explorer.images.opening import Choices
from explorer.images.registry import open_image
from explorer.images.vhdx_log import Overlay, _Write
from tests.images.checks import check_damaged, check_extents, check_image, check_refused_or_read
from tests.images.content import convert, convert_back, make_disk
from tests.trees import find_tool, make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KIB = 1 << 10
MIB = 1 << 20
SECTOR = 4096
"""Of the log."""

NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, FULL, PARTIAL = 0, 1, 2, 3, 6, 7

TABLE_REGION = "2dc27766f62342009d64115e9bfd4a08"
METADATA_REGION = "8b7ca20647904b9ab8fe575f050f886e"
FILE_PARAMETERS = "caa16737fa364d43b3b633f0aa44e76b"
DISK_SIZE = "2fa54224cd1b4876b2115dbed83bf4b8"
DISK_ID = "beca12abb2e6452393efc309e000c746"
LOGICAL = "8141bf1da96f4709ba47f233a8faab5f"
PHYSICAL = "cda348c7445d44719cc9e9885251c556"
PARENT = "a8d35f2db30b454dabf7d3d84834ab0c"
LOCATOR_TYPE = "b04aefb7d19e4a81b78925b8e9445913"

LOG_AT, METADATA_AT, TABLE_AT, DATA_AT = MIB, 2 * MIB, 3 * MIB, 4 * MIB
LOG_GUID = b"the log's own id"


def guid(text: str) -> bytes:
    """16 bytes of a GUID that is written without dashes."""
    return struct.pack("<IHH8s", *struct.unpack(">IHH8s", bytes.fromhex(text)))


def summed(raw: bytes) -> bytes:
    """A structure with its checksum, which is in its bytes 4 to 8."""
    raw = raw[:4] + bytes(4) + raw[8:]
    return raw[:4] + struct.pack("<I", crc32c(raw)) + raw[8:]


@dataclass
class Vhdx:
    """A VHDX image to be written, field by field."""

    size: int
    blocks: dict[int, bytes | int] = field(default_factory=dict)
    """Content of a block, or the state of one without."""
    partial: dict[int, bytes] = field(default_factory=dict)
    """Content of the blocks that are partially present."""
    bitmaps: dict[int, bytes] = field(default_factory=dict)
    """By chunk."""
    block_size: int = MIB
    sector: int = 512
    physical: int = 4096
    flags: int = 0
    data_guid: bytes = b"version of data."
    log_guid: bytes = bytes(16)
    log: bytes = b""
    log_length: int = MIB
    log_version: int = 0
    version: int = 1
    parent: dict[str, str] | None = None
    locator_type: str = LOCATOR_TYPE
    locator: bytes | None = None
    regions: tuple[tuple[str, int, int, int], ...] = ()
    """More of them: identifier, offset, length, required."""
    items: tuple[tuple[str, bytes, int], ...] = ()
    """More of the metadata: identifier, content, flags."""
    without: tuple[str, ...] = ()
    """Regions and metadata that are left out."""

    def _locator(self) -> bytes:
        if self.locator is not None:
            return self.locator
        pairs = self.parent or {}
        table, texts = b"", b""
        base = 20 + 12 * len(pairs)
        for key, value in pairs.items():
            raw_key, raw_value = key.encode("utf-16-le"), value.encode("utf-16-le")
            at = base + len(texts)
            table += struct.pack("<IIHH", at, at + len(raw_key), len(raw_key), len(raw_value))
            texts += raw_key + raw_value
        return guid(self.locator_type) + struct.pack("<HH", 0, len(pairs)) + table + texts

    def _metadata(self) -> bytes:
        flags = self.flags | (2 if self.parent is not None else 0)
        items = [
            (FILE_PARAMETERS, struct.pack("<II", self.block_size, flags), 4),
            (DISK_SIZE, struct.pack("<Q", self.size), 6),
            (DISK_ID, guid("00112233445566778899aabbccddeeff"), 6),
            (LOGICAL, struct.pack("<I", self.sector), 6),
            (PHYSICAL, struct.pack("<I", self.physical), 6),
        ]
        if self.parent is not None:
            items.append((PARENT, self._locator(), 4))
        items = [item for item in items if item[0] not in self.without]
        items += self.items
        table, data = b"", b""
        for name, content, item_flags in items:
            table += guid(name) + struct.pack(
                "<IIII", 64 * KIB + len(data), len(content), item_flags, 0
            )
            data += content
        head = struct.pack("<8sHH20x", b"metadata", 0, len(items))
        return (head + table).ljust(64 * KIB, b"\0") + data

    def write(self, path: Path) -> Path:
        """Write the image to a file."""
        ratio = (1 << 23) * self.sector // self.block_size
        count = max(1, -(-self.size // self.block_size))
        chunks = -(-count // ratio)
        entries = [0] * (chunks * (ratio + 1))
        table_size = -(-8 * len(entries) // MIB) * MIB
        at = TABLE_AT + table_size
        header = summed(
            struct.pack(
                "<4sIQ16s16s16sHHIQ",
                b"head",
                0,
                7,
                b"version of file.",
                self.data_guid,
                self.log_guid,
                self.log_version,
                self.version,
                self.log_length,
                LOG_AT,
            ).ljust(4096, b"\0")
        )
        regions = [
            (TABLE_REGION, TABLE_AT, table_size, 1),
            (METADATA_REGION, METADATA_AT, MIB, 1),
        ]
        regions = [region for region in regions if region[0] not in self.without]
        regions += self.regions
        table = struct.pack("<4sIII", b"regi", 0, len(regions), 0)
        for name, offset, length, required in regions:
            table += guid(name) + struct.pack("<QII", offset, length, required)
        table = summed(table.ljust(64 * KIB, b"\0"))
        with path.open("wb") as file:
            file.write(b"vhdxfile" + "a writer of tests".encode("utf-16-le"))
            for offset, raw in (
                (64 * KIB, summed(header[:8] + struct.pack("<Q", 6) + header[16:])),
                (128 * KIB, header),
                (192 * KIB, table),
                (256 * KIB, table),
                (LOG_AT, self.log),
                (METADATA_AT, self._metadata()),
            ):
                file.seek(offset)
                file.write(raw)
            # In an order of its own: the last block is the first in the file.
            for index, block in sorted({**self.blocks, **self.partial}.items(), reverse=True):
                place = index + index // ratio
                if isinstance(block, bytes):
                    entries[place] = at | (PARTIAL if index in self.partial else FULL)
                    file.seek(at)
                    file.write(block)
                    at += self.block_size
                else:
                    entries[place] = block
            for chunk, bitmap in self.bitmaps.items():
                entries[chunk * (ratio + 1) + ratio] = at | FULL
                file.seek(at)
                file.write(bitmap)
                at += MIB
            file.seek(TABLE_AT)
            file.write(struct.pack(f"<{len(entries)}Q", *entries))
            file.truncate(at)
        return path


def refused(path: Path) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(path)
    return caught.value


# ---- By qemu-img


@pytest.mark.proves("format", "vhdx", "fixed and dynamic")
@pytest.mark.parametrize("size", [9 * MIB, 3 * MIB - 1536])
@pytest.mark.parametrize(
    "options",
    [
        ("subformat=dynamic", "block_size=1M"),
        ("subformat=dynamic", "block_size=2M", "block_state_zero=on", "log_size=2M"),
        ("subformat=fixed", "block_size=1M"),
        ("subformat=fixed",),
    ],
)
def test_images_by_qemu(size: int, options: tuple[str, ...], tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "raw", size, 700_000)
    path = convert(raw, tmp_path / "image.vhdx", "vhdx", *options)
    with open_image(path) as image:
        assert image.format == "vhdx"
        facts = image.facts()
        assert f"subformat={facts['type']}" == options[0]
        assert str(facts["creator"]).startswith("QEMU")
        assert facts["log"] == "empty"
        assert image.block_size == 512
        assert image.plain_file() is None
        assert image.parent is None
        check_image(image, raw)


def test_what_qemu_writes_out_of_order_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image.vhdx"
    run_tool("qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", path, "64M")
    commands = []
    for megabyte in (33, 2, 3, 60, 4, 5, 0):
        commands += ["-c", f"write -P {megabyte + 1} {megabyte}M 300k"]
    run_tool("qemu-io", "-f", "vhdx", *commands, str(path))
    with open_image(path) as image:
        check_image(image, convert_back(path, tmp_path / "raw", "vhdx"))


def seven_zip(path: Path) -> bytes:
    """The disk as 7-Zip reads it."""
    done = subprocess.run(
        [find_tool("7z"), "x", "-tvhdx", "-so", path], capture_output=True, check=True
    )
    return done.stdout


def test_seven_zip_reads_the_same(tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "raw", 9 * MIB, 700_000)
    path = convert(raw, tmp_path / "image.vhdx", "vhdx", "block_size=1M")
    with open_image(path) as image:
        assert image.read(0, image.size) == seven_zip(path)


# ---- Blocks


@pytest.mark.proves("format", "vhdx", "all states of blocks")
@pytest.mark.parametrize("sector", [512, 4096])
def test_states_of_blocks(sector: int, tmp_path: Path) -> None:
    path = Vhdx(
        7 * MIB - 8192,
        {0: noise(MIB, 1), 1: UNDEFINED, 2: ZERO, 3: UNMAPPED, 5: noise(MIB, 2), 6: noise(MIB, 3)},
        sector=sector,
        physical=sector,
    ).write(tmp_path / "image.vhdx")
    raw = tmp_path / "raw"
    raw.write_bytes(noise(MIB, 1) + bytes(4 * MIB) + noise(MIB, 2) + noise(MIB, 3)[:-8192])
    with open_image(path) as image:
        assert image.block_size == sector
        assert image.facts() == {
            "type": "dynamic",
            "block size": MIB,
            "logical sector": sector,
            "physical sector": sector,
            "creator": "a writer of tests",
            "id": "00112233-4455-6677-8899-aabbccddeeff",
            "log": "empty",
        }
        check_image(image, raw)


def test_blocks_in_a_row_are_one_piece(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(noise(8 * MIB, 1))
    path = convert(raw, tmp_path / "image.vhdx", "vhdx", "subformat=fixed", "block_size=1M")
    with open_image(path) as image:
        assert len(list(image.pieces(0, image.size))) == 1
        (extent,) = image.extents(0, image.size)
        assert extent.kind is ExtentKind.DATA


@pytest.mark.parametrize(("state", "words"), [(4, "state 4"), (5, "state 5"), (7, "state 7")])
def test_a_state_that_cannot_be_is_named(state: int, words: str, tmp_path: Path) -> None:
    path = Vhdx(3 * MIB, {0: noise(MIB, 1), 1: state | DATA_AT}).write(tmp_path / "image.vhdx")
    with open_image(path) as image:
        assert image.read(0, MIB) == noise(MIB, 1)
        assert image.read(2 * MIB, MIB) == bytes(MIB)
        with pytest.raises(CorruptImage) as caught:
            image.read(MIB, 1)
    assert words in describe(caught.value)
    assert f"table at byte {TABLE_AT + 8}" in describe(caught.value)


@pytest.mark.parametrize("place", [0, 1 << 40])
def test_a_block_that_is_not_in_the_file_is_named(place: int, tmp_path: Path) -> None:
    path = Vhdx(3 * MIB, {0: noise(MIB, 1), 2: FULL | place}).write(tmp_path / "image.vhdx")
    with open_image(path) as image:
        assert image.read(0, 2 * MIB) == noise(MIB, 1) + bytes(MIB)
        with pytest.raises(CorruptImage) as caught:
            image.read(3 * MIB - 1, 1)
    assert f"table at byte {TABLE_AT + 16}" in describe(caught.value)


def test_entries_of_bitmaps_are_skipped(tmp_path: Path) -> None:
    # A chunk of sectors of 512 bytes is 4 GiB: it has 128 blocks of 32 MiB.
    block, size = 32 * MIB, 9 << 30
    path = Vhdx(size, block_size=block).write(tmp_path / "image.vhdx")
    places = (0, 127, 128, 129, 255, 256, 287)
    with path.open("r+b") as file:
        for number, index in enumerate(places):
            file.seek(TABLE_AT + 8 * (index + index // 128))
            file.write(struct.pack("<Q", DATA_AT + number * block | FULL))
            file.seek(DATA_AT + number * block + 1000)
            file.write(b"block %d" % index)
        file.truncate(DATA_AT + len(places) * block)
    back = convert_back(path, tmp_path / "raw", "vhdx")
    with open_image(path) as image, back.open("rb") as file:
        assert image.size == back.stat().st_size == size
        for index in range(288):
            found = image.read(index * block + 1000, 10).rstrip(b"\0")
            assert found == (b"block %d" % index if index in places else b"")
        check_extents(image, lambda at, length: os.pread(file.fileno(), length, at))


# ---- Differencing images


BASE_GUID = "{11111111-2222-3333-4444-555555555555}"
MIDDLE_GUID = "{AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE}"


def raw_guid(text: str) -> bytes:
    return guid(text.strip("{}").replace("-", ""))


def chain(folder: Path, sector: int = 512, *, plain: bool = False) -> tuple[Path, bytes]:
    """Three images behind one another, and the disk of 6 blocks.

    With ``plain`` the base has as many, and the parent's first identifier is the right one.
    """
    chance = random.Random(1)
    blocks = 6 if plain else 4
    base = [noise(MIB, n) for n in range(blocks)]
    Vhdx(blocks * MIB, dict(enumerate(base)), sector=sector, data_guid=raw_guid(BASE_GUID)).write(
        folder / "base.vhdx"
    )
    bits = MIB // sector
    bitmap = bytearray(chance.randbytes(5 * bits // 8))
    # Runs and single sectors; of the block 4, beyond the end of the base, too.
    bitmap[bits // 8 : bits // 8 + 20] = b"\xff" * 10 + bytes(10)
    middle = {1: noise(MIB, 11), 2: noise(MIB, 12), 4: noise(MIB, 14)}
    Vhdx(
        6 * MIB,
        {0: ZERO, 5: noise(MIB, 15)},
        middle,
        {0: bytes(bitmap)},
        sector=sector,
        data_guid=raw_guid(MIDDLE_GUID),
        parent={"parent_linkage": BASE_GUID.lower(), "relative_path": ".\\base.vhdx"},
    ).write(folder / "middle.vhdx")
    top_bitmap = bytearray(5 * bits // 8)
    top_bitmap[bits // 4 : 3 * bits // 8] = bytes([0x0F] * (bits // 8))
    top = {2: noise(MIB, 22)}
    path = Vhdx(
        6 * MIB,
        {3: noise(MIB, 23)},
        top,
        {0: bytes(top_bitmap)},
        sector=sector,
        parent={
            "parent_linkage": MIDDLE_GUID.lower() if plain else BASE_GUID,
            "parent_linkage2": MIDDLE_GUID,
            "relative_path": ".\\middle.vhdx",
        },
    ).write(folder / "top.vhdx")

    def mixed(given: bytes | bytearray, index: int, own: bytes, below: bytes) -> bytes:
        parts = []
        for number in range(bits):
            bit = index * bits + number
            source = own if given[bit // 8] >> bit % 8 & 1 else below
            parts.append(source[number * sector : (number + 1) * sector])
        return b"".join(parts)

    disk = [*base, bytes(MIB), bytes(MIB)][:6]
    disk[0], disk[5] = bytes(MIB), noise(MIB, 15)
    for index, content in middle.items():
        disk[index] = mixed(bitmap, index, content, disk[index])
    disk[2] = mixed(top_bitmap, 2, top[2], disk[2])
    disk[3] = noise(MIB, 23)
    return path, b"".join(disk)


@pytest.mark.proves("format", "vhdx", "differencing")
@pytest.mark.parametrize("sector", [512, 4096])
def test_a_chain_is_read_sector_by_sector(sector: int, tmp_path: Path) -> None:
    path, expected = chain(tmp_path, sector)
    raw = tmp_path / "raw"
    raw.write_bytes(expected)
    with open_image(path) as image:
        assert image.facts()["type"] == "differencing"
        assert str(image.facts()["parent"]).endswith("/middle.vhdx")
        assert image.parent is not None
        assert str(image.parent.facts()["parent"]).endswith("/base.vhdx")
        check_image(image, raw)


@pytest.mark.proves("format", "vhdx", "differencing")
def test_seven_zip_reads_the_chain_the_same(tmp_path: Path) -> None:
    # It does not read beyond the end of a parent, and does not know the second identifier.
    path, expected = chain(tmp_path, plain=True)
    assert seven_zip(path) == expected
    with open_image(path) as image:
        assert image.read(0, image.size) == expected


def test_sectors_in_a_row_are_one_piece(tmp_path: Path) -> None:
    blocks = {n: noise(MIB, n) for n in range(3)}
    Vhdx(4 * MIB, dict(blocks.items()), data_guid=raw_guid(BASE_GUID)).write(tmp_path / "base.vhdx")
    # Written downwards, so the blocks 3, 2, 1 follow one another in the file; 2048 bits each.
    path = Vhdx(
        4 * MIB,
        {},
        {1: noise(MIB, 4), 2: noise(MIB, 5)},
        {0: bytes(256) + b"\xff" * 256 + bytes(128) + b"\xff" * 128},
        parent={"parent_linkage": BASE_GUID, "relative_path": "base.vhdx"},
    ).write(tmp_path / "top.vhdx")
    with open_image(path) as image:
        lengths = [piece.length for piece in image.pieces(0, image.size)]
        assert lengths == [MIB, MIB, MIB // 2, MIB // 2, MIB]
        # Inside of sectors, too.
        (piece,) = image.pieces(2 * MIB + MIB // 2 + 100, 1000)
        assert piece.length == 1000
        assert image.read(2 * MIB + MIB // 2 - 3, 6) == (
            blocks[2][MIB // 2 - 3 : MIB // 2] + noise(MIB, 5)[MIB // 2 : MIB // 2 + 3]
        )


def test_a_bitmap_of_more_than_a_slice(tmp_path: Path) -> None:
    # Of blocks of 256 MiB, each has 64 KiB of bitmap.
    block = 256 * MIB
    Vhdx(2 * block, block_size=block, data_guid=raw_guid(BASE_GUID)).write(tmp_path / "base.vhdx")
    bitmap = bytearray(2 * 64 * KIB)
    for bit in (0, 1, 524287, 524288, 524290, 1048575):
        bitmap[bit // 8] |= 1 << bit % 8
    path = Vhdx(
        2 * block,
        {},
        {0: b"\x11" * 1024, 1: b"\x22" * 4096},
        {0: bytes(bitmap)},
        block_size=block,
        parent={"parent_linkage": BASE_GUID, "relative_path": "base.vhdx"},
    ).write(tmp_path / "top.vhdx")
    with open_image(path) as image:
        assert image.read(0, 2048) == b"\x11" * 1024 + bytes(1024)
        assert image.read(block - 512, 2048) == bytes(512) + b"\x22" * 512 + bytes(512) + (
            b"\x22" * 512
        )
        assert sum(piece.length for piece in image.pieces(100, 2 * block - 200)) == 2 * block - 200


def child(**fields: object) -> Vhdx:
    one = Vhdx(MIB, parent={"parent_linkage": BASE_GUID})
    return replace(one, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "paths",
    [
        {"relative_path": ".\\base.vhdx"},
        {"relative_path": "base.vhdx"},
        {"relative_path": "..\\gone\\base.vhdx"},
        {"volume_path": "\\\\?\\Volume{26A21BDA-A627-11D7-9931-806E6F6E6963}\\base.vhdx"},
        {"absolute_win32_path": "\\\\?\\d:\\disks\\base.vhdx"},
        {"relative_path": "moved.vhdx", "absolute_win32_path": "\\\\?\\d:\\base.vhdx"},
    ],
    ids=str,
)
def test_names_of_the_parent(paths: dict[str, str], tmp_path: Path) -> None:
    base = Vhdx(MIB, {0: noise(MIB, 1)}, data_guid=raw_guid(BASE_GUID))
    base.write(tmp_path / "base.vhdx")
    path = child(parent={"parent_linkage": BASE_GUID, **paths}).write(tmp_path / "child.vhdx")
    with open_image(path) as image:
        assert image.read(0, MIB) == noise(MIB, 1)


@pytest.mark.proves("format", "vhdx", "files elsewhere only with consent")
def test_a_parent_elsewhere_needs_consent(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "child").mkdir()
    base = Vhdx(MIB, {0: noise(MIB, 1)}, data_guid=raw_guid(BASE_GUID))
    base.write(tmp_path / "base" / "base.vhdx")
    paths = {"parent_linkage": BASE_GUID, "relative_path": "..\\base\\base.vhdx"}
    path = child(parent=paths).write(tmp_path / "child" / "child.vhdx")
    assert refused(path).code == "image.consent"
    with open_image(path, choices=Choices(allowed=(bytes(tmp_path / "base"),))) as image:
        assert image.read(0, MIB) == noise(MIB, 1)


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    paths = {"parent_linkage": BASE_GUID, "relative_path": "gone.vhdx"}
    error = refused(child(parent=paths).write(tmp_path / "child.vhdx"))
    assert isinstance(error, MissingPart)
    assert "gone.vhdx" in describe(error)
    assert isinstance(refused(child().write(tmp_path / "nameless.vhdx")), MissingPart)


def test_another_image_of_the_parents_name_is_refused(tmp_path: Path) -> None:
    paths = {"parent_linkage": BASE_GUID, "relative_path": "base.vhdx"}
    path = child(parent=paths).write(tmp_path / "child.vhdx")
    Vhdx(MIB, data_guid=raw_guid(MIDDLE_GUID)).write(tmp_path / "base.vhdx")
    error = refused(path)
    assert isinstance(error, CorruptImage)
    assert "aaaaaaaa-bbbb" in describe(error)
    Vhdx(MIB, data_guid=raw_guid(BASE_GUID), sector=4096).write(tmp_path / "base.vhdx")
    error = refused(path)
    assert isinstance(error, CorruptImage)
    assert "sectors" in describe(error)


def test_an_image_behind_itself_is_refused(tmp_path: Path) -> None:
    paths = {"parent_linkage": BASE_GUID, "relative_path": "child.vhdx"}
    path = child(parent=paths, data_guid=raw_guid(BASE_GUID)).write(tmp_path / "child.vhdx")
    assert "behind itself" in describe(refused(path))


def test_an_image_with_a_log_is_known_again(tmp_path: Path) -> None:
    paths = {"parent_linkage": BASE_GUID, "relative_path": "child.vhdx"}
    path = child(parent=paths, log_guid=LOG_GUID, log=entry(1, [])).write(tmp_path / "child.vhdx")
    assert "behind itself" in describe(refused(path))


def test_a_bitmap_must_be_there(tmp_path: Path) -> None:
    Vhdx(2 * MIB, data_guid=raw_guid(BASE_GUID)).write(tmp_path / "base.vhdx")
    paths = {"parent_linkage": BASE_GUID, "relative_path": "base.vhdx"}
    path = child(size=2 * MIB, partial={0: noise(MIB, 1)}, parent=paths).write(
        tmp_path / "child.vhdx"
    )
    bitmap_entry = TABLE_AT + 8 * 4096
    with open_image(path) as image:
        assert image.read(MIB, MIB) == bytes(MIB)
        with pytest.raises(CorruptImage) as caught:
            image.read(0, 1)
    assert f"byte {bitmap_entry}: the sector bitmap is missing" in describe(caught.value)
    with path.open("r+b") as file:
        file.seek(bitmap_entry)
        file.write(struct.pack("<Q", 1 << 40 | FULL))
    with open_image(path) as image, pytest.raises(CorruptImage) as caught:
        image.read(0, 1)
    assert f"byte {bitmap_entry}" in describe(caught.value)


@pytest.mark.parametrize(
    ("locator", "kind", "words"),
    [
        (guid("ff" * 16) + struct.pack("<HH", 0, 0), UnsupportedFeature, "ffffffff-ffff"),
        (b"short", CorruptImage, "locator at byte"),
        (guid(LOCATOR_TYPE) + struct.pack("<HH", 0, 2) + bytes(12), CorruptImage, "2 entries"),
        (
            guid(LOCATOR_TYPE) + struct.pack("<HHIIHH", 0, 1, 2**32 - 1, 0, 4, 4),
            CorruptImage,
            "beyond its end",
        ),
    ],
)
def test_a_locator_that_cannot_be_is_refused(
    locator: bytes, kind: type[ExplorerError], words: str, tmp_path: Path
) -> None:
    error = refused(child(locator=locator).write(tmp_path / "child.vhdx"))
    assert type(error) is kind
    assert words in describe(error)


# ---- The log


def entry(
    sequence: int,
    writes: list[tuple[int, bytes | int]],
    *,
    tail: int = 0,
    identifier: bytes = LOG_GUID,
    flushed: int = MIB,
    last: int = MIB,
) -> bytes:
    """An entry of the log: places with a sector's content, or with a length of zeros."""
    descriptors, data = b"", b""
    for place, content in writes:
        if isinstance(content, int):
            descriptors += struct.pack("<4sIQQQ", b"zero", 0, content, place, sequence)
        else:
            assert len(content) == SECTOR
            descriptors += struct.pack(
                "<4s4s8sQQ", b"desc", content[-4:], content[:8], place, sequence
            )
            data += struct.pack("<4sI", b"data", sequence >> 32) + content[8:-4]
            data += struct.pack("<I", sequence & 0xFFFFFFFF)
    head_size = -(-(64 + len(descriptors)) // SECTOR) * SECTOR
    head = struct.pack(
        "<4sIIIQII16sQQ",
        b"loge",
        0,
        head_size + len(data),
        tail,
        sequence,
        len(writes),
        0,
        identifier,
        flushed,
        last,
    )
    return summed((head + descriptors).ljust(head_size, b"\0") + data)


def dirty(folder: Path) -> tuple[Vhdx, bytes]:
    """An image whose newest changes are in its log only; and the sector of its table with them."""
    image = Vhdx(
        6 * MIB,
        {0: noise(MIB, 1), 1: noise(MIB, 2)},
        log_guid=LOG_GUID,
    )
    plain = replace(image, log_guid=bytes(16)).write(folder / "plain.vhdx").read_bytes()
    table = bytearray(plain[TABLE_AT : TABLE_AT + SECTOR])
    # Block 4 becomes what block 0 was, and block 0 is gone.
    table[32:40], table[0:8] = table[0:8], bytes(8)
    return image, bytes(table)


def place_of(plain: Path, block: int) -> int:
    """Where a block of the first chunk is in the file."""
    with plain.open("rb") as file:
        file.seek(TABLE_AT + 8 * block)
        return int(struct.unpack("<Q", file.read(8))[0]) & ~(MIB - 1)


def check_as_qemu_replays(path: Path, folder: Path) -> None:
    """The image reads as it does after QEMU has replayed the log of a copy."""
    before = path.read_bytes()
    copy = folder / "replayed.vhdx"
    shutil.copyfile(path, copy)
    # Without its log it is another disk, or QEMU would refuse to read it without a replay.
    refusal = subprocess.run(
        [find_tool("qemu-img"), "convert", "-f", "vhdx", "-O", "raw", path, folder / "no"],
        capture_output=True,
        check=False,
    )
    assert b"log that needs to be replayed" in refusal.stderr
    run_tool("qemu-img", "check", "-q", "-r", "all", "-f", "vhdx", copy)
    raw = convert_back(copy, folder / "replayed.raw", "vhdx")
    with open_image(path) as image:
        assert image.facts()["log"] == "replayed in memory"
        check_image(image, raw)
    assert path.read_bytes() == before


@pytest.mark.proves("format", "vhdx", "log replayed in memory")
def test_a_log_is_replayed_in_memory(tmp_path: Path) -> None:
    image, table = dirty(tmp_path)
    data = place_of(tmp_path / "plain.vhdx", 1)
    image.log = (
        entry(5, [(TABLE_AT, table)])
        + entry(6, [(data + 8192, noise(SECTOR, 7)), (data + 16384, 12288)])
        + entry(7, [(data + 20480, noise(SECTOR, 8))])
    )
    path = image.write(tmp_path / "dirty.vhdx")
    check_as_qemu_replays(path, tmp_path)
    with open_image(path) as opened:
        assert opened.read(0, MIB) == bytes(MIB)
        assert opened.read(4 * MIB, MIB) == noise(MIB, 1)
        assert opened.read(MIB + 8192, SECTOR) == noise(SECTOR, 7)
        assert opened.read(MIB + 16384, 3 * SECTOR) == bytes(SECTOR) + noise(SECTOR, 8) + (
            bytes(SECTOR)
        )
        kinds = [extent.kind for extent in opened.extents(MIB, MIB)]
        assert kinds == [
            ExtentKind.DATA,
            ExtentKind.ENCODED,
            ExtentKind.DATA,
            ExtentKind.ENCODED,
            ExtentKind.DATA,
        ]


@pytest.mark.proves("format", "vhdx", "log replayed in memory")
def test_a_torn_entry_at_the_end_is_left_out(tmp_path: Path) -> None:
    image, table = dirty(tmp_path)
    data = place_of(tmp_path / "plain.vhdx", 1)
    torn = entry(6, [(data, noise(SECTOR, 7)), (data + SECTOR, noise(SECTOR, 8))])
    image.log = entry(5, [(TABLE_AT, table)]) + torn[:-SECTOR]
    path = image.write(tmp_path / "dirty.vhdx")
    check_as_qemu_replays(path, tmp_path)
    with open_image(path) as opened:
        assert opened.read(MIB, MIB) == noise(MIB, 2)
        assert opened.read(4 * MIB, MIB) == noise(MIB, 1)


@pytest.mark.parametrize("damaged", [0, 4, 16, 40, 64, 80, 96, SECTOR, SECTOR + 4, 3 * SECTOR - 1])
def test_a_damaged_entry_ends_the_sequence(damaged: int, tmp_path: Path) -> None:
    image, table = dirty(tmp_path)
    data = place_of(tmp_path / "plain.vhdx", 1)
    last = bytearray(entry(6, [(data, noise(SECTOR, 7)), (data + SECTOR, noise(SECTOR, 8))]))
    last[damaged] ^= 0x40
    image.log = entry(5, [(TABLE_AT, table)]) + last
    with open_image(image.write(tmp_path / "dirty.vhdx")) as opened:
        assert opened.read(MIB, MIB) == noise(MIB, 2)
        assert opened.read(4 * MIB, MIB) == noise(MIB, 1)


def bad_signature(raw: bytearray) -> None:
    raw[64:68] = b"deso"


def bad_place(raw: bytearray) -> None:
    raw[64 + 16] ^= 1


def bad_sequence(raw: bytearray) -> None:
    raw[64 + 24] ^= 1


def bad_zero_length(raw: bytearray) -> None:
    raw[96 + 8] ^= 1


def bad_data_signature(raw: bytearray) -> None:
    raw[SECTOR : SECTOR + 4] = b"date"


def bad_data_sequence(raw: bytearray) -> None:
    raw[-1] ^= 1


def bad_tail(raw: bytearray) -> None:
    raw[12] ^= 1


def bad_length(raw: bytearray) -> None:
    raw[9] ^= 1


def bad_count(raw: bytearray) -> None:
    raw[27] ^= 1


def one_too_many(raw: bytearray) -> None:
    # A third descriptor, of data that there is not.
    raw[24] = 3
    raw[128:160] = raw[64:96]


@pytest.mark.parametrize(
    "damage",
    [
        bad_signature,
        bad_place,
        bad_sequence,
        bad_zero_length,
        bad_data_signature,
        bad_data_sequence,
        bad_tail,
        bad_length,
        bad_count,
        one_too_many,
    ],
)
def test_an_entry_is_checked_beyond_its_checksum(
    damage: Callable[[bytearray], None], tmp_path: Path
) -> None:
    image, table = dirty(tmp_path)
    data = place_of(tmp_path / "plain.vhdx", 1)
    last = bytearray(entry(6, [(data, noise(SECTOR, 7)), (data + SECTOR, SECTOR)]))
    good = entry(5, [(TABLE_AT, table)])
    image.log = good + bytes(last)
    with open_image(image.write(tmp_path / "good.vhdx")) as opened:
        assert opened.read(MIB, SECTOR) == noise(SECTOR, 7)
    damage(last)
    image.log = good + summed(bytes(last))
    with open_image(image.write(tmp_path / "damaged.vhdx")) as opened:
        assert opened.read(MIB, SECTOR) == noise(MIB, 2)[:SECTOR]
        assert opened.read(4 * MIB, MIB) == noise(MIB, 1)


def test_a_sequence_goes_round_the_end_of_the_log(tmp_path: Path) -> None:
    image, table = dirty(tmp_path)
    data = place_of(tmp_path / "plain.vhdx", 1)
    first = entry(9, [(data, noise(SECTOR, 7))], tail=MIB - 3 * SECTOR)
    second = entry(10, [(TABLE_AT, table)], tail=MIB - 3 * SECTOR)
    third = entry(11, [(data, noise(SECTOR, 8))], tail=MIB - 3 * SECTOR)
    ring = first + second + third
    image.log = (ring[3 * SECTOR :]).ljust(MIB - 3 * SECTOR, b"\0") + ring[: 3 * SECTOR]
    with open_image(image.write(tmp_path / "dirty.vhdx")) as opened:
        assert opened.read(MIB, SECTOR) == noise(SECTOR, 8)
        assert opened.read(4 * MIB, MIB) == noise(MIB, 1)


@pytest.mark.proves("format", "vhdx", "log replayed in memory")
def test_the_newest_sequence_is_replayed_and_no_other(tmp_path: Path) -> None:
    image, table = dirty(tmp_path)
    data = place_of(tmp_path / "plain.vhdx", 1)
    place = 0
    parts = []
    for number, writes, options in (
        # Older, complete; the newest; one that is a log before this one, with a greater number.
        (3, [(data, noise(SECTOR, 3))], {}),
        (20, [(TABLE_AT, table)], {}),
        (21, [(data + SECTOR, noise(SECTOR, 4))], {"tail": 2 * SECTOR}),
        (90, [(data, noise(SECTOR, 5))], {"identifier": b"another log's id"}),
        # Newer than all, but what it begins with is gone.
        (50, [(data, noise(SECTOR, 6))], {"tail": 200 * SECTOR}),
        (7, [(data, noise(SECTOR, 7))], {}),
    ):
        one = entry(number, writes, **{"tail": place, **options})  # type: ignore[arg-type]
        parts.append(one)
        place += len(one)
    image.log = b"".join(parts)
    path = image.write(tmp_path / "dirty.vhdx")
    with open_image(path) as opened:
        assert opened.read(MIB, SECTOR) == noise(MIB, 2)[:SECTOR]
        assert opened.read(MIB + SECTOR, SECTOR) == noise(SECTOR, 4)
        assert opened.read(4 * MIB, MIB) == noise(MIB, 1)


def test_entries_before_the_tail_are_left_out(tmp_path: Path) -> None:
    image, table = dirty(tmp_path)
    data = place_of(tmp_path / "plain.vhdx", 1)
    # The first has been written to its place already, and written over since.
    image.log = entry(5, [(data, noise(SECTOR, 7))]) + entry(
        6, [(TABLE_AT, table)], tail=2 * SECTOR
    )
    with open_image(image.write(tmp_path / "dirty.vhdx")) as opened:
        assert opened.read(MIB, MIB) == noise(MIB, 2)
        assert opened.read(4 * MIB, MIB) == noise(MIB, 1)


def test_the_file_grows_as_the_log_says(tmp_path: Path) -> None:
    image, table = dirty(tmp_path)
    end = (tmp_path / "plain.vhdx").stat().st_size
    changed = bytearray(table)
    struct.pack_into("<Q", changed, 16, end | FULL)
    struct.pack_into("<Q", changed, 24, end + MIB | FULL)
    writes: list[tuple[int, bytes | int]] = [
        (TABLE_AT, bytes(changed)),
        (end + SECTOR, noise(SECTOR, 9)),
    ]
    image.log = entry(5, writes, flushed=end, last=end + 2 * MIB)
    path = image.write(tmp_path / "dirty.vhdx")
    with open_image(path) as opened:
        assert opened.read(2 * MIB, 2 * MIB) == bytes(SECTOR) + noise(SECTOR, 9) + bytes(
            2 * MIB - 2 * SECTOR
        )


def test_tables_of_regions_and_metadata_may_be_in_the_log(tmp_path: Path) -> None:
    image, _table = dirty(tmp_path)
    plain = (tmp_path / "plain.vhdx").read_bytes()
    other = replace(image, sector=4096, log_guid=bytes(16))
    metadata = other.write(tmp_path / "other.vhdx").read_bytes()[METADATA_AT + 64 * KIB :][:SECTOR]
    image.log = entry(
        1,
        [
            (192 * KIB, plain[192 * KIB : 196 * KIB]),
            (METADATA_AT + 64 * KIB, metadata),
        ],
    )
    path = image.write(tmp_path / "dirty.vhdx")
    with path.open("r+b") as file:
        for place in (192 * KIB, 256 * KIB):
            file.seek(place)
            file.write(bytes(SECTOR))
    with open_image(path) as opened:
        assert opened.block_size == 4096
        assert opened.read(0, MIB) == noise(MIB, 1)


def test_a_log_without_valid_entries_is_refused(tmp_path: Path) -> None:
    image, _table = dirty(tmp_path)
    error = refused(image.write(tmp_path / "dirty.vhdx"))
    assert isinstance(error, CorruptImage)
    assert f"log at byte {MIB}" in describe(error)


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    image, table = dirty(tmp_path)
    image.log = entry(5, [(TABLE_AT, table)], flushed=100 * MIB)
    error = refused(image.write(tmp_path / "dirty.vhdx"))
    assert isinstance(error, CorruptImage)
    assert "was cut from" in describe(error)


@pytest.mark.parametrize(
    ("writes", "last"), [([(0, 1 << 63)], MIB), ([(1 << 63, bytes(SECTOR))], MIB), ([], 1 << 63)]
)
def test_a_file_cannot_grow_without_limit(
    writes: list[tuple[int, bytes | int]], last: int, tmp_path: Path
) -> None:
    image, _table = dirty(tmp_path)
    image.log = entry(5, writes, last=last)
    error = refused(image.write(tmp_path / "dirty.vhdx"))
    assert isinstance(error, CorruptImage)
    assert "too large" in describe(error)


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"log_length": 0}, CorruptImage, "a log of 0 bytes"),
        ({"log_length": MIB + SECTOR}, CorruptImage, "a log of"),
        ({"log_length": 17 * MIB}, UnsupportedFeature, "17825792 bytes"),
        ({"log_length": 16 * MIB}, CorruptImage, "beyond the end"),
        ({"log_version": 1}, UnsupportedFeature, "version 1"),
    ],
)
def test_a_log_that_cannot_be_is_refused(
    fields: dict[str, int], kind: type[ExplorerError], words: str, tmp_path: Path
) -> None:
    image, table = dirty(tmp_path)
    image.log = entry(5, [(TABLE_AT, table)])
    image = replace(image, **fields)  # type: ignore[arg-type]
    error = refused(image.write(tmp_path / "dirty.vhdx"))
    assert type(error) is kind
    assert words in describe(error)


@pytest.mark.proves("format", "vhdx", "log replayed in memory")
def test_a_hostile_log_costs_little(tmp_path: Path) -> None:
    # Each sector begins an entry that is as long as the log, with a wrong checksum.
    image, _table = dirty(tmp_path)
    image.log_length = 16 * MIB
    head = struct.pack(
        "<4sIIIQII16sQQ", b"loge", 0, 16 * MIB, 0, 1, 0, 0, LOG_GUID, MIB, MIB
    ).ljust(SECTOR, b"\0")
    path = image.write(tmp_path / "dirty.vhdx")
    with path.open("r+b") as file:
        file.seek(LOG_AT)
        file.write(head * 4096)
    started = time.monotonic()
    error = refused(path)
    assert time.monotonic() - started < 5
    assert isinstance(error, CorruptImage)
    assert "overlap" in describe(error)


SPAN = 64

WRITES = st.lists(
    st.tuples(st.integers(0, SPAN), st.integers(0, 12), st.booleans()), max_size=12
).map(
    lambda given: [
        _Write(
            start * SECTOR,
            (start + (1 if stored else length)) * SECTOR,
            bytes([number + 1]) * SECTOR if stored else None,
        )
        for number, (start, length, stored) in enumerate(given)
    ]
)


@given(writes=WRITES, limits=st.tuples(st.integers(0, 90), st.integers(0, 90)).map(sorted))
def test_an_overlay_is_what_the_writes_make(writes: list[_Write], limits: list[int]) -> None:
    expected = bytearray(b"\xff" * (40 * SECTOR))
    expected.extend(bytes(50 * SECTOR))
    size = 50 * SECTOR
    for start, end, data in writes:
        if start < end:
            expected[start:end] = data if data is not None else bytes(end - start)
            size = max(size, end)
    overlay = Overlay(Filled(), 50 * SECTOR, writes)
    assert overlay.size == size
    start, end = (min(limit * SECTOR + 100, size) for limit in limits)
    assert overlay.read(start, end - start) == expected[start:end]
    at = start
    for _file, position, length in overlay.locate(start, end - start):
        assert position == at
        assert length > 0
        at += length
    assert at == end


class Filled(SourceFile):
    """40 sectors that are full of ones."""

    path = "filled"
    size = 40 * SECTOR

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill it."""
        assert 0 <= offset <= offset + len(buffer) <= self.size
        buffer[:] = b"\xff" * len(buffer)

    def close(self) -> None:
        """Nothing."""


# ---- What is refused


def test_the_header_with_the_greater_number_is_used(tmp_path: Path) -> None:
    path = Vhdx(MIB, {0: noise(MIB, 1)}).write(tmp_path / "image.vhdx")
    whole = path.read_bytes()
    good = whole[128 * KIB : 132 * KIB]
    # An older one would have a log to be replayed.
    old = bytearray(good)
    old[8:16] = struct.pack("<Q", 3)
    old[48:64] = LOG_GUID
    other = summed(bytes(old))
    for first, second in ((other, good), (good, other), (bytes(4096), good), (good, bytes(4096))):
        changed = bytearray(whole)
        changed[64 * KIB : 68 * KIB] = first
        changed[128 * KIB : 132 * KIB] = second
        path.write_bytes(changed)
        with open_image(path) as image:
            assert image.facts()["log"] == "empty"
            assert image.read(0, MIB) == noise(MIB, 1)
    same = summed(other[:8] + good[8:16] + other[16:])
    for first, second in ((bytes(4096), bytes(4096)), (same, good)):
        changed = bytearray(whole)
        changed[64 * KIB : 68 * KIB] = first
        changed[128 * KIB : 132 * KIB] = second
        path.write_bytes(changed)
        assert "header at byte 65536: neither" in describe(refused(path))


def test_the_second_table_of_regions_is_used(tmp_path: Path) -> None:
    path = Vhdx(MIB, {0: noise(MIB, 1)}).write(tmp_path / "image.vhdx")
    with path.open("r+b") as file:
        file.seek(192 * KIB + 20)
        file.write(b"damage")
    with open_image(path) as image:
        assert image.read(0, MIB) == noise(MIB, 1)
    with path.open("r+b") as file:
        file.seek(256 * KIB)
        file.write(b"damage")
    assert "region table at byte 196608: neither" in describe(refused(path))


def test_what_need_not_be_understood_is_not(tmp_path: Path) -> None:
    path = Vhdx(
        MIB,
        {0: noise(MIB, 1)},
        regions=(("ab" * 16, 20 * MIB, MIB, 0),),
        # One has the identifier of a known item, but is the user's.
        items=(("cd" * 16, b"something", 0), (LOGICAL, b"something else", 1)),
    ).write(tmp_path / "image.vhdx")
    with open_image(path) as image:
        assert image.read(0, MIB) == noise(MIB, 1)


REFUSALS = [
    ({"version": 2}, UnsupportedFeature, "version 2"),
    ({"regions": (("ab" * 16, 20 * MIB, MIB, 1),)}, UnsupportedFeature, "abababab-abab-abab"),
    ({"items": (("cd" * 16, b"x", 4),)}, UnsupportedFeature, "cdcdcdcd-cdcd-cdcd"),
    ({"items": ((LOGICAL, b"x", 5),)}, UnsupportedFeature, "8141bf1d-a96f"),
    ({"flags": 4}, UnsupportedFeature, "0x4"),
    ({"without": (TABLE_REGION,)}, CorruptImage, "2dc27766-f623-4200-9d64-115e9bfd4a08 is missing"),
    ({"without": (METADATA_REGION,)}, CorruptImage, "is missing"),
    ({"regions": ((TABLE_REGION, 20 * MIB, MIB, 1),)}, CorruptImage, "the region 2dc27766"),
    (
        {"without": (TABLE_REGION,), "regions": ((TABLE_REGION, 0, MIB, 1),)},
        CorruptImage,
        "the region 2dc27766",
    ),
    (
        {"without": (TABLE_REGION,), "regions": ((TABLE_REGION, 3 * MIB + 1, MIB, 1),)},
        CorruptImage,
        "the region 2dc27766",
    ),
    (
        {"without": (TABLE_REGION,), "regions": ((TABLE_REGION, 3 * MIB, 0, 1),)},
        CorruptImage,
        "0 bytes do not hold 1 entries",
    ),
    (
        {"without": (TABLE_REGION,), "regions": ((TABLE_REGION, 99 * MIB, MIB, 1),)},
        CorruptImage,
        "beyond the end of the file",
    ),
    ({"without": (FILE_PARAMETERS,)}, CorruptImage, "file parameters is missing"),
    ({"without": (DISK_SIZE,)}, CorruptImage, "virtual disk size is missing"),
    ({"without": (DISK_ID,)}, CorruptImage, "virtual disk ID is missing"),
    ({"without": (LOGICAL,)}, CorruptImage, "logical sector size is missing"),
    ({"without": (PHYSICAL,)}, CorruptImage, "physical sector size is missing"),
    ({"items": ((LOGICAL, bytes(4), 6),)}, CorruptImage, "the logical sector size with 4 bytes"),
    (
        {"without": (LOGICAL,), "items": ((LOGICAL, bytes(8), 6),)},
        CorruptImage,
        "logical sector size at byte",
    ),
    ({"block_size": 512 * KIB}, CorruptImage, "blocks of 524288 bytes"),
    ({"block_size": 3 * MIB}, CorruptImage, "blocks of 3145728 bytes"),
    ({"block_size": 512 * MIB}, CorruptImage, "blocks of"),
    ({"sector": 1024}, CorruptImage, "sectors of 1024 bytes"),
    ({"physical": 8192}, CorruptImage, "sectors of 8192 bytes"),
    ({"size": 0}, CorruptImage, "a disk of 0 bytes"),
    ({"size": MIB + 1}, CorruptImage, "a disk of 1048577 bytes"),
    ({"size": MIB + 512, "sector": 4096}, CorruptImage, "a disk of"),
]


@pytest.mark.parametrize(("fields", "kind", "words"), REFUSALS, ids=lambda value: str(value)[:50])
def test_what_cannot_be_is_refused(
    fields: dict[str, object], kind: type[ExplorerError], words: str, tmp_path: Path
) -> None:
    image = replace(Vhdx(MIB), **fields)  # type: ignore[arg-type]
    error = refused(image.write(tmp_path / "image.vhdx"))
    assert type(error) is kind
    assert words in describe(error)


def test_a_disk_of_more_than_64_tib_is_refused(tmp_path: Path) -> None:
    path = Vhdx(MIB).write(tmp_path / "image.vhdx")
    whole = bytearray(path.read_bytes())
    place = METADATA_AT + 64 * KIB + 8
    assert whole[place : place + 8] == struct.pack("<Q", MIB)
    for size in ((64 << 40) + 512, 2**64 - 512):
        whole[place : place + 8] = struct.pack("<Q", size)
        path.write_bytes(whole)
        assert f"byte {place}: a disk of {size} bytes" in describe(refused(path))


@pytest.mark.parametrize(
    ("place", "raw", "words"),
    [
        (0, b"vhdxfilf", "file identifier at byte 0"),
        (METADATA_AT, b"metadate", f"metadata table at byte {METADATA_AT}"),
        (METADATA_AT + 10, b"\xff\xff", f"metadata table at byte {METADATA_AT}"),
        (METADATA_AT + 32 + 16, b"\0\0\0\0", f"byte {METADATA_AT + 32}"),
        (METADATA_AT + 32 + 16, b"\xff\xff\xff\xff", f"byte {METADATA_AT + 32}"),
    ],
)
def test_wrong_bytes_are_named(place: int, raw: bytes, words: str, tmp_path: Path) -> None:
    path = Vhdx(MIB).write(tmp_path / "image.vhdx")
    with path.open("r+b") as file:
        file.seek(place)
        file.write(raw)
    with pytest.raises(CorruptImage) as caught:
        open_image(path, "vhdx")
    assert words in describe(caught.value)


def test_too_many_regions_are_refused(tmp_path: Path) -> None:
    path = Vhdx(MIB).write(tmp_path / "image.vhdx")
    whole = bytearray(path.read_bytes())
    table = bytearray(whole[192 * KIB : 256 * KIB])
    table[8:12] = struct.pack("<I", 2048)
    whole[192 * KIB : 256 * KIB] = summed(bytes(table))
    path.write_bytes(whole)
    assert "byte 196616: 2048 entries" in describe(refused(path))


@pytest.mark.proves("format", "vhdx", "damage gives typed errors")
def test_damage_is_found(tmp_path: Path) -> None:
    path, _disk = chain(tmp_path)
    tables = [
        (0, 40),
        (64 * KIB, 100),
        (128 * KIB, 100),
        (192 * KIB, 100),
        (METADATA_AT, 300),
        (METADATA_AT + 64 * KIB, 300),
        (TABLE_AT, 64),
        (TABLE_AT + 8 * 4096, 8),
    ]
    check_damaged(path, tmp_path, tables, flips=60)
    image, table = dirty(tmp_path)
    image.log = entry(5, [(TABLE_AT, table)]) + entry(6, [(DATA_AT, 2 * SECTOR)])
    image.write(path)
    check_damaged(path, tmp_path, [(LOG_AT, 5 * SECTOR), *tables], flips=60)


@pytest.mark.proves("format", "vhdx", "damage gives typed errors")
def test_damage_with_right_checksums_is_found(tmp_path: Path) -> None:
    path, _disk = chain(tmp_path)
    image, table = dirty(tmp_path)
    logged = entry(5, [(TABLE_AT, table), (DATA_AT, 2 * SECTOR)])
    image.log = logged
    other = image.write(tmp_path / "dirty.vhdx")
    chance = random.Random(1)
    summed_places = [(64 * KIB, 4096, 80), (128 * KIB, 4096, 80), (192 * KIB, 64 * KIB, 80)]
    plain_places = [(METADATA_AT, 300), (METADATA_AT + 64 * KIB, 300), (TABLE_AT, 64)]
    read = 0
    for number in range(300):
        target = (path, other)[number % 2]
        places = [*summed_places, (LOG_AT, len(logged), 200)] if target == other else summed_places
        undo: list[tuple[int, bytes]] = []
        with target.open("r+b") as file:
            for _ in range(chance.choice((1, 1, 2, 4))):
                start, length, fields = chance.choice(
                    [*places, *((start, length, 0) for start, length in plain_places)]
                )
                file.seek(start)
                raw = bytearray(file.read(length))
                undo.append((start, bytes(raw)))
                at = chance.randrange(8, fields) if fields else chance.randrange(length)
                raw[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
                file.seek(start)
                file.write(summed(bytes(raw)) if fields else raw)
        read += check_refused_or_read(target)
        with target.open("r+b") as file:
            for start, content in reversed(undo):
                file.seek(start)
                file.write(content)
    assert 0 < read < 300
    with open_image(path) as opened, open_image(other) as replayed:
        assert opened.size == replayed.size == 6 * MIB


@pytest.mark.proves("format", "vhdx", "the largest disks (64 TiB)")
def test_the_largest_disk_opens_quickly(tmp_path: Path) -> None:
    # Its table has 512 MiB; QEMU writes all of it, so it is made here.
    small = Vhdx(MIB).write(tmp_path / "small.vhdx").read_bytes()
    entries = (64 << 20) + (64 << 20) // 4096
    table_size = -(-8 * entries // MIB) * MIB
    path = make_empty(tmp_path / "large.vhdx", TABLE_AT + table_size + MIB)
    table = bytearray(small[192 * KIB : 256 * KIB])
    struct.pack_into("<I", table, 16 + 24, table_size)
    last = (64 << 20) - 1
    with path.open("r+b") as file:
        file.write(small[: 192 * KIB])
        file.write(summed(bytes(table)))
        file.seek(METADATA_AT)
        file.write(small[METADATA_AT:TABLE_AT])
        file.seek(METADATA_AT + 64 * KIB + 8)
        file.write(struct.pack("<Q", 64 << 40))
        file.seek(TABLE_AT + 8 * (last + last // 4096))
        file.write(struct.pack("<Q", TABLE_AT + table_size | FULL))
        file.seek(TABLE_AT + table_size)
        file.write(noise(MIB, 1))
    started = time.monotonic()
    with open_image(path) as image:
        assert image.size == 64 << 40
        assert image.read(image.size - MIB, MIB) == noise(MIB, 1)
        assert image.read(1 << 45, MIB) == bytes(MIB)
        # Its table is not read for that; and to look at all of it is no work of minutes.
        assert time.monotonic() - started < 2
        kinds = [extent.kind for extent in image.extents(0, image.size)]
    assert kinds == [ExtentKind.ZERO, ExtentKind.DATA]
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", 0),
        # RFC 3720, section B.4.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_crc32c(data: bytes, value: int) -> None:
    assert crc32c(data) == value


@given(st.binary(max_size=2000), st.integers(0, 70))
def test_crc32c_of_any_length(data: bytes, more: int) -> None:
    data += bytes(more)
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    assert crc32c(data) == value ^ 0xFFFFFFFF
