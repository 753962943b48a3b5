# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""VMDK images: by qemu-img and VMDKstream, and what neither makes by a writer of our own.

Read once more by qemu-img, 7-Zip, and libvmdk through the Sleuth Kit's img_cat.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
import zlib
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
from explorer.images.vmdk import DESCRIPTOR_LIMIT, EXTENT_LIMIT
from tests.images.checks import check_damaged, check_described, check_extents, check_image
from tests.images.content import convert, convert_back, make_disk
from tests.trees import find_tool, make_empty, noise, run_tool
from tests.volumes.truth import IMAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from explorer.images.base import Image

MIB = 1 << 20
SECTOR = 512
AT_END = 2**64 - 1
LARGEST = 2**63 - 4096

NEWLINES = 1
REDUNDANT = 2
ZEROED = 4
COMPRESSED = 1 << 16
MARKERS = 1 << 17

SUBFORMATS = (
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
)


# ---- A writer of our own -----------------------------------------------------------------------


def descriptor(
    *extents: str,
    kind: str = "twoGbMaxExtentSparse",
    content_id: str = "12345678",
    parent_id: str = "ffffffff",
    more: Sequence[str] = (),
) -> bytes:
    """A descriptor's text."""
    lines = (
        "# Disk DescriptorFile",
        "version=1",
        f"CID={content_id}",
        f"parentCID={parent_id}",
        f'createType="{kind}"',
        *more,
        "",
        "# Extent description",
        *extents,
        "",
        "# The Disk Data Base",
        "#DDB",
        'ddb.adapterType = "ide"',
        "",
    )
    return "\n".join(lines).encode()


EMBEDDED = descriptor('RW 1 SPARSE "some.vmdk"', kind="monolithicSparse")


def padded(data: bytes, unit: int = SECTOR) -> bytes:
    return data + bytes(-len(data) % unit)


@dataclass
class Sparse:
    """A sparse extent to be written (Virtual Disk Format 5.0, Hosted Sparse Extents)."""

    capacity: int
    """Sectors."""
    grains: dict[int, bytes | int] = field(default_factory=dict)
    """Content of a grain, or the table's entry of one without."""
    grain: int = 128
    """Sectors."""
    entries: int = 512
    tables: dict[int, int] = field(default_factory=dict)
    """Entries of the directory that are not to be those of the tables written."""
    descriptor: bytes = EMBEDDED
    version: int = 1
    flags: int = NEWLINES | REDUNDANT
    compression: int = 0
    unclean: int = 0
    newlines: bytes = b"\n \r\n"
    footer: bool = False
    lba: int = 0
    """Added to the sector in grain markers."""
    places: dict[str, int] = field(default_factory=dict)
    """Where structures were written, in bytes."""

    def header(self, directory: int, redundant: int) -> bytes:
        """The first sector, with the directories' places."""
        text = len(padded(self.descriptor)) // SECTOR
        return padded(
            struct.pack(
                "<4sIIQQQQIQQQB4sH",
                b"KDMV",
                self.version,
                self.flags,
                self.capacity,
                self.grain,
                1 if text else 0,
                text,
                self.entries,
                redundant,
                directory,
                1 + text,
                self.unclean,
                self.newlines,
                self.compression,
            )
        )

    def write(self, path: Path) -> Path:
        """Write the extent to a file: all grains first, from the last to the first."""
        out = bytearray(self.header(0, 0) + padded(self.descriptor))
        count = -(-self.capacity // self.grain)
        entries = [0] * (-(-count // self.entries) * self.entries)
        for number in sorted(self.grains, reverse=True):
            content = self.grains[number]
            if isinstance(content, int):
                entries[number] = content
                continue
            entries[number] = len(out) // SECTOR
            self.places[f"grain {number}"] = len(out)
            if self.compression:
                content = zlib.compress(content)
                if self.flags & MARKERS:
                    lba = number * self.grain + self.lba
                    content = struct.pack("<QI", lba, len(content)) + content
            out += padded(content)
        directories = []
        for copy in ("redundant", "main"):
            if copy == "redundant" and not self.flags & REDUNDANT:
                continue
            directory = []
            for number in range(len(entries) // self.entries):
                table = entries[number * self.entries :][: self.entries]
                if not any(table):
                    directory.append(self.tables.get(number, 0))
                    continue
                out += self.marker(1)
                directory.append(self.tables.get(number, len(out) // SECTOR))
                self.places[f"{copy} table {number}"] = len(out)
                out += padded(struct.pack(f"<{self.entries}I", *table))
            out += self.marker(2)
            directories.append(len(out) // SECTOR)
            self.places[f"{copy} directory"] = len(out)
            out += padded(struct.pack(f"<{len(directory)}I", *directory))
        redundant = directories[0] if len(directories) == 2 else 0
        out[:SECTOR] = self.header(AT_END if self.footer else directories[-1], redundant)
        if self.footer:
            out += self.marker(3)
            self.places["footer"] = len(out)
            out += self.header(directories[-1], redundant) + bytes(SECTOR)
        path.write_bytes(out)
        return path

    def marker(self, kind: int) -> bytes:
        """What precedes other structures in a stream."""
        return padded(struct.pack("<QII", 0, 0, kind)) if self.flags & MARKERS else b""

    def content(self) -> bytes:
        """The disk's bytes."""
        size = self.grain * SECTOR
        out = bytearray(-(-self.capacity // self.grain) * size)
        for number, grain in self.grains.items():
            if isinstance(grain, bytes):
                out[number * size : (number + 1) * size] = grain
        return bytes(out[: self.capacity * SECTOR])


@dataclass
class Cowd:
    """An ESX Server sparse extent to be written (Virtual Disk Format 1.1)."""

    capacity: int
    grains: dict[int, bytes] = field(default_factory=dict)
    grain: int = 1
    version: int = 1
    directory_entries: int | None = None
    unclean: int = 0

    def write(self, path: Path) -> Path:
        """Write the extent to a file: header, directory, tables, grains."""
        count = -(-self.capacity // (self.grain * 4096))
        given = count if self.directory_entries is None else self.directory_entries
        start = 4 + -(-count // 128)
        tables = sorted({number // 4096 for number in self.grains})
        places = {table: start + 32 * at for at, table in enumerate(tables)}
        data = start + 32 * len(tables)
        entries = {table: [0] * 4096 for table in tables}
        out = bytearray()
        for number, content in self.grains.items():
            entries[number // 4096][number % 4096] = data + len(out) // SECTOR
            out += content
        header = struct.pack(
            "<4sIIIIIII", b"COWD", self.version, 3, self.capacity, self.grain, 4, given, 0
        )
        header = header.ljust(1648, b"\0") + struct.pack("<I", self.unclean)
        directory = struct.pack(f"<{count}I", *(places.get(n, 0) for n in range(count)))
        filled = b"".join(struct.pack("<4096I", *entries[table]) for table in tables)
        path.write_bytes(padded(header, 2048) + padded(directory) + filled + out)
        return path


# ---- Other readers


def seven_zip(path: Path) -> bytes:
    done = subprocess.run(
        [find_tool("7z"), "x", "-tvmdk", "-so", path], capture_output=True, check=True
    )
    return done.stdout


def libvmdk(path: Path) -> bytes:
    done = subprocess.run(
        [find_tool("img_cat"), "-i", "vmdk", path], capture_output=True, check=True
    )
    return done.stdout


def by_qemu(path: Path, raw: Path) -> bytes:
    return convert_back(path, raw, "vmdk").read_bytes()


def refused(path: Path, choices: Choices | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(path, choices=choices)
    check_described(caught.value)
    return caught.value


def read_all(path: Path, choices: Choices | None = None) -> bytes:
    """The disk, when extents and random reads agree with it."""
    with open_image(path, choices=choices) as image:
        assert image.format == "vmdk"
        content = image.read(0, image.size)
        copy = path.with_suffix(".read")
        copy.write_bytes(content)
        check_image(image, copy)
        copy.unlink()
    return content


# ---- By other writers --------------------------------------------------------------------------


@pytest.mark.proves(
    "format",
    "vmdk",
    "monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat, streamOptimized",
)
@pytest.mark.parametrize("size", [9 * MIB, 3 * MIB - 1536])
@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_images_by_qemu(
    subformat: str, size: int, tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    raw = make_disk(tmp_path / "raw", size, 700_000)
    path = convert(raw, tmp_path / "image.vmdk", "vmdk", f"subformat={subformat}")
    for file in tmp_path.glob("*.vmdk"):
        unchanged(file)
    with open_image(path) as image:
        facts = image.facts()
        assert facts["type"] == subformat
        assert facts["extents"] == 1
        assert facts.get("grain size") == (None if "Flat" in subformat else 65536)
        assert facts.get("compressed", False) == (subformat == "streamOptimized")
        assert facts.get("closed cleanly", True) is True
        assert "descriptor" not in facts
        assert image.parent is None
        check_image(image, raw)


@pytest.mark.proves("format", "vmdk", "zeroed grains")
@pytest.mark.parametrize("subformat", ["monolithicSparse", "twoGbMaxExtentSparse"])
def test_zeroed_grains_by_qemu(subformat: str, tmp_path: Path) -> None:
    base = convert(make_disk(tmp_path / "raw", 4 * MIB, 700_000), tmp_path / "base.vmdk", "vmdk")
    path = tmp_path / "image.vmdk"
    options = f"subformat={subformat},zeroed_grain=on"
    run_tool(
        "qemu-img", "create", "-q", "-f", "vmdk", "-o", options, "-b", base, "-F", "vmdk", path
    )
    # Whole grains over what the parent holds.
    run_tool("qemu-io", "-f", "vmdk", "-c", "write -z 0 1M", "-c", "write -P 7 2M 100k", str(path))
    with open_image(path) as image:
        assert not any(image.read(0, MIB))
        assert next(image.extents(0, MIB)).kind is ExtentKind.ZERO
        check_image(image, convert_back(path, tmp_path / "back", "vmdk"))


@pytest.mark.proves("format", "vmdk", "several extents")
@pytest.mark.parametrize("subformat", ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_several_extents_by_qemu(subformat: str, tmp_path: Path) -> None:
    path = tmp_path / "image.vmdk"
    run_tool("qemu-img", "create", "-q", "-f", "vmdk", "-o", f"subformat={subformat}", path, "5G")
    commands = []
    limits = [2047 * MIB, 2 << 30, 4094 * MIB, 4096 * MIB]
    for number, limit in enumerate((0, *limits)):
        commands += ["-c", f"write -P {number + 1} {max(0, limit - 70_144)} 200k"]
    run_tool("qemu-io", "-f", "vmdk", *commands, str(path))
    raw = convert_back(path, tmp_path / "back", "vmdk")
    with open_image(path) as image, raw.open("rb") as expected:
        assert image.facts()["extents"] == 3
        assert image.size == 5 << 30

        def part(offset: int, length: int) -> bytes:
            expected.seek(offset)
            return expected.read(length)

        for limit in (MIB, *limits, (5 << 30) - MIB):
            assert image.read(limit - MIB, 2 * MIB) == part(limit - MIB, 2 * MIB)
        check_extents(image, part)


@pytest.mark.proves("format", "vmdk", "streamOptimized, by another writer")
@pytest.mark.parametrize("size", [70 * MIB, 5 * MIB - 5 * SECTOR])
def test_streams_by_vmdkstream(size: int, tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "raw", size, 1_000_000)
    path = tmp_path / "image.vmdk"
    program = "import sys, VMDKstream; VMDKstream.convert_to_stream(*sys.argv[1:])"
    done = subprocess.run(
        [find_tool("/usr/bin/python3"), "-c", program, raw, path],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip("needs VMDKstream")
    assert done.returncode == 0, done.stderr
    with open_image(path) as image:
        assert image.facts()["type"] == "streamOptimized"
        check_image(image, raw)
    assert by_qemu(path, tmp_path / "back") == raw.read_bytes()
    # 7-Zip takes whole grains only.
    if size % 65536 == 0:
        assert seven_zip(path) == raw.read_bytes()


@pytest.mark.proves("format", "vmdk", "real images")
def test_a_real_image(tmp_path: Path) -> None:
    source = IMAGES / "dfvfs" / "ext2.vmdk"
    if not source.exists():
        pytest.skip(f"needs {source}")
    raw = convert_back(source, tmp_path / "raw", "vmdk")
    run_tool("e2fsck", "-fn", raw)
    with open_image(source) as image:
        assert image.facts()["CID"] == "dc80b6c7"
        check_image(image, raw)


# ---- Sparse extents ----------------------------------------------------------------------------


@pytest.mark.proves("format", "vmdk", "grain sizes")
@pytest.mark.parametrize("grain", [1, 8, 16, 128, 2048])
@pytest.mark.parametrize("entries", [128, 512])
def test_grains_of_all_sizes(grain: int, entries: int, tmp_path: Path) -> None:
    # Grains of four tables, of which one is absent; the last grain is not whole.
    count = 4 * entries if grain <= 16 else 40
    per_table = entries if grain <= 16 else 13
    numbers = [n for n in range(count) if n % 7 < 4 and n // per_table != 2]
    grains: dict[int, bytes | int] = {n: noise(grain * SECTOR, n) for n in numbers}
    grains[count - 1] = noise(grain * SECTOR, 999)
    writer = Sparse(count * grain - grain // 3, grains, grain, entries)
    path = writer.write(tmp_path / "image.vmdk")
    assert read_all(path) == writer.content() == by_qemu(path, tmp_path / "raw")


def test_grains_in_a_row_are_one_extent(tmp_path: Path) -> None:
    # Written from the last to the first; then three that follow each other.
    size = 8 * SECTOR
    writer = Sparse(8 * 3000, {n: noise(size, n) for n in (0, 1, 5, 6)}, 8)
    path = writer.write(tmp_path / "image.vmdk")
    table = writer.places["main table 0"]
    first = writer.places["grain 6"] // SECTOR
    data = bytearray(path.read_bytes())
    data[table : table + 8 * 4] = struct.pack("<8I", first, first + 8, first + 16, 0, 0, 0, 0, 0)
    path.write_bytes(data)
    with open_image(path) as image:
        extents = list(image.extents(0, image.size))
        assert [(e.kind, e.length) for e in extents] == [
            (ExtentKind.DATA, 3 * size),
            (ExtentKind.ZERO, image.size - 3 * size),
        ]
        assert extents[0].position == first * SECTOR
        assert image.read(size, size) == noise(size, 5)
        # Inside one grain, and across two.
        assert next(image.extents(100, 50)).position == first * SECTOR + 100
        assert next(image.extents(size - 10, 20)).length == 20


def test_zeroed_grains_and_tables(tmp_path: Path) -> None:
    parent = Sparse(3 * 8 * 512, {n: noise(4096, n) for n in range(3 * 512)}, 8)
    parent.write(tmp_path / "parent.vmdk")
    text = descriptor(
        'RW 12288 SPARSE "image.vmdk"',
        parent_id="12345678",
        more=['parentFileNameHint="parent.vmdk"'],
    )
    writer = Sparse(
        3 * 8 * 512,
        {0: noise(4096, 10_000), 1: 1, 2: 1, 600: 0, 1024: 1},
        8,
        tables={1: 1},
        descriptor=text,
        version=2,
        flags=NEWLINES | ZEROED,
    )
    path = writer.write(tmp_path / "image.vmdk")
    expected = bytearray(parent.content())
    expected[:4096] = noise(4096, 10_000)
    expected[4096 : 3 * 4096] = bytes(2 * 4096)
    expected[512 * 4096 : 1024 * 4096] = bytes(512 * 4096)
    expected[1024 * 4096 : 1025 * 4096] = bytes(4096)
    assert read_all(path) == expected
    # Without the flag an entry of 1 is a place; sector 1 is the descriptor.
    writer.flags, writer.tables, writer.version = NEWLINES, {}, 1
    writer.write(path)
    with open_image(path) as image:
        assert image.read(4096, len(text)) == text


@pytest.mark.proves("format", "vmdk", "compressed grains, with markers and footer")
@pytest.mark.parametrize(("markers", "footer"), [(0, False), (MARKERS, False), (MARKERS, True)])
def test_compressed_grains(markers: int, footer: bool, tmp_path: Path) -> None:
    # Compressible or not; in the second table too, and the last grain is not whole.
    grains: dict[int, bytes | int] = {n: noise(32768, n) * 2 for n in (0, 1, 2, 9, 700)}
    grains |= {3: noise(65536, 3), 515: b"text " * 13107 + b"!", 719: noise(65536, 719)}
    writer = Sparse(
        720 * 128 - 77,
        grains,
        descriptor=descriptor('RW 92083 SPARSE "image.vmdk"', kind="streamOptimized"),
        version=3,
        flags=NEWLINES | COMPRESSED | markers,
        compression=1,
        footer=footer,
    )
    path = writer.write(tmp_path / "image.vmdk")
    content = read_all(path)
    assert content == writer.content()
    if markers:
        assert by_qemu(path, tmp_path / "raw") == content
        assert libvmdk(path) == content
    with open_image(path) as image:
        kinds = [extent.kind for extent in image.extents(0, 4 * 65536)]
        assert kinds == [ExtentKind.ENCODED]


STREAM_GRAIN = 32 * SECTOR


def stream(path: Path, **changes: object) -> Sparse:
    """Write a small compressed extent with fields changed."""
    grains: dict[int, bytes | int] = {0: noise(STREAM_GRAIN, 0), 3: b"A" * STREAM_GRAIN}
    flags = NEWLINES | COMPRESSED | MARKERS
    writer = Sparse(4 * 32, grains, 32, flags=flags, compression=1, footer=True)
    for name, value in changes.items():
        setattr(writer, name, value)
    writer.write(path)
    return writer


def reading(path: Path, offset: int, length: int) -> ImageError:
    """The error of a read that fails; the image opens."""
    with open_image(path) as image:
        with pytest.raises(ImageError) as caught:
            image.read(offset, length)
        check_described(caught.value)
    return caught.value


def test_damaged_compressed_grains_are_named(tmp_path: Path) -> None:
    path = tmp_path / "image.vmdk"
    writer = stream(path)
    place = writer.places["grain 3"]
    whole = path.read_bytes()

    def changed(at: int, value: bytes) -> CorruptImage:
        path.write_bytes(whole[:at] + value + whole[at + len(value) :])
        error = reading(path, 3 * STREAM_GRAIN, 512)
        assert isinstance(error, CorruptImage)
        # Others are read.
        with open_image(path) as image:
            assert image.read(0, STREAM_GRAIN) == noise(STREAM_GRAIN, 0)
        return error

    error = changed(place, struct.pack("<Q", 5))
    assert (error.params["structure"], error.params["offset"]) == ("grain marker", place)
    assert "sector 5" in describe(error)
    assert "100000 bytes" in describe(changed(place + 8, struct.pack("<I", 100_000)))
    assert "beyond the end" in describe(changed(place + 8, struct.pack("<I", 30_000)))
    assert changed(place + 12, b"\xff").params["structure"] == "grain"
    short = zlib.compress(bytes(STREAM_GRAIN - 1))
    error = changed(place + 8, struct.pack("<I", len(short)) + short)
    assert f"{STREAM_GRAIN - 1} bytes instead of {STREAM_GRAIN}" in describe(error)
    # Markers may count from the start of the disk, where the extent is not the first.
    writer = stream(tmp_path / "second.vmdk", lba=1000)
    path.write_bytes(descriptor("RW 1000 ZERO", 'RW 128 SPARSE "second.vmdk"'))
    assert read_all(path) == bytes(1000 * SECTOR) + writer.content()
    path.write_bytes(descriptor("RW 1001 ZERO", 'RW 128 SPARSE "second.vmdk"'))
    assert reading(path, 1001 * SECTOR, 10).params["structure"] == "grain marker"


def two_tables(path: Path) -> tuple[Sparse, bytes]:
    """A sparse extent with redundant tables, and its content."""
    grains: dict[int, bytes | int] = {n: noise(4096, n) for n in (0, 1, 130, 131)}
    writer = Sparse(8 * 200, grains, 8, 128)
    writer.write(path)
    return writer, writer.content()


@pytest.mark.proves("format", "vmdk", "redundant tables")
def test_redundant_tables_are_used_where_the_first_are_wrong(tmp_path: Path) -> None:
    path = tmp_path / "image.vmdk"
    writer, content = two_tables(path)
    whole = path.read_bytes()
    beyond = struct.pack("<I", len(whole))
    for at in (
        writer.places["main directory"] + 4,
        writer.places["main table 1"] + 8,
        # The header's place of the directory.
        56,
    ):
        path.write_bytes(whole[:at] + beyond + whole[at + 4 :])
        assert read_all(path) == content
        with open_image(path) as image:
            image.read(0, image.size)
            assert "redundant" in str(image.facts()["grain tables"])
    path.write_bytes(whole)
    with open_image(path) as image:
        image.read(0, image.size)
        assert "grain tables" not in image.facts()


def told_before_error(image: Image) -> int:
    """Bytes whose extents are told before a wrong table is met."""
    told = 0
    try:
        for extent in image.extents(0, image.size):
            told += extent.length
    except CorruptImage:
        return told
    raise AssertionError


def test_what_is_wrong_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "image.vmdk"
    writer, content = two_tables(path)
    whole = path.read_bytes()
    beyond = struct.pack("<I", len(whole))

    def broken(*places: int) -> CorruptImage:
        changed = bytearray(whole)
        for at in places:
            changed[at : at + 4] = beyond
        path.write_bytes(changed)
        error = reading(path, 128 * 4096, 4 * 4096)
        assert isinstance(error, CorruptImage)
        with open_image(path) as image:
            # What comes before is read, and told.
            assert image.read(0, 128 * 4096) == content[: 128 * 4096]
            assert told_before_error(image) >= 128 * 4096
        return error

    main, other = writer.places["main directory"], writer.places["redundant directory"]
    error = broken(main + 4, other + 4)
    assert (error.params["structure"], error.params["offset"]) == ("grain directory", main + 4)
    main, other = writer.places["main table 1"], writer.places["redundant table 1"]
    error = broken(main + 8, other + 8)
    assert error.params["structure"] == "grain"
    path.write_bytes(whole[:48] + b"\xff" * 7 + b"\x00" + b"\xff" * 7 + b"\x00" + whole[64:])
    assert refused(path).params["structure"] == "grain directory"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"version": 0}, "version 0"),
        ({"version": 4}, "version 4"),
        ({"flags": NEWLINES | 8}, "flags 0x9"),
        ({"flags": NEWLINES, "compression": 2}, "compression method 2"),
        ({"flags": NEWLINES, "compression": 1}, "disagree"),
        ({"flags": NEWLINES | COMPRESSED}, "disagree"),
        ({"newlines": b"\r\n \r"}, "transferred as text"),
        ({"grain": 24}, "no power of 2"),
        ({"grain": 1 << 22}, "grains of 2147483648 bytes"),
        ({"grain": 1 << 16, "flags": NEWLINES | COMPRESSED, "compression": 1}, "33554432 bytes"),
        ({"entries": 8192}, "8192 entries"),
        ({"capacity": 2**53}, "grain directory"),
        ({"capacity": 2**55}, "capacity"),
        ({"capacity": 2**64 - 1}, "capacity"),
        ({"capacity": 0, "descriptor": b""}, "neither a capacity nor a descriptor"),
        ({"descriptor": b"createType=x\n"}, "no CID"),
        ({"descriptor": b"CID=xyz\n"}, "cid is no number"),
        ({"descriptor": EMBEDDED + b'RW 1 SPARSE "more"\n'}, "several extents"),
        ({"descriptor": EMBEDDED + b'ddb.iofilters = "vmwarevmcrypt"\n'}, "encrypted"),
        ({"descriptor": EMBEDDED + b'encryption.keySafe = "vmware:key"\n'}, "encrypted"),
    ],
)
def test_headers_that_cannot_be_are_refused(
    changes: dict[str, object], where: str, tmp_path: Path
) -> None:
    writer = Sparse(64, {0: noise(4096, 0)}, 8)
    written = writer.write(tmp_path / "image.vmdk").read_bytes()
    for name, value in changes.items():
        setattr(writer, name, value)
    if "descriptor" in changes:
        writer.grains.clear()
        writer.write(tmp_path / "image.vmdk")
    else:
        directory, redundant = struct.unpack_from("<QQ", written, 48)[::-1]
        header = writer.header(directory, redundant)
        (tmp_path / "image.vmdk").write_bytes(header + written[SECTOR:])
    assert where in describe(refused(tmp_path / "image.vmdk"))


def test_footers_that_cannot_be_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.vmdk"
    writer = stream(path)
    whole = path.read_bytes()
    place = writer.places["footer"]
    for at, value in ((0, b"COWD"), (4, b"\4"), (16, b"\3"), (56, b"\xff" * 8)):
        path.write_bytes(whole[: place + at] + value + whole[place + at + len(value) :])
        refused(path)
    # Cut off: what is at its place is something else.
    path.write_bytes(whole[:-SECTOR])
    error = refused(path)
    assert (error.params["structure"], error.params["offset"]) == ("footer", place - SECTOR)
    path.write_bytes(whole[: 2 * SECTOR])
    assert "nowhere" in describe(refused(path))


def test_a_truncated_extent_is_read_up_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "image.vmdk"
    raw = make_disk(tmp_path / "raw", 2 * MIB, 2 * MIB)
    convert(raw, path, "vmdk")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - MIB - 100])
    with open_image(path) as image:
        assert image.read(0, MIB - 100) == raw.read_bytes()[: MIB - 100]
        with pytest.raises(CorruptImage) as caught:
            image.read(MIB - 100, 1)
        assert caught.value.params["offset"] == len(whole) - MIB - 100
        assert sum(e.length for e in image.extents(0, MIB - 100)) == MIB - 100


def test_not_closed_cleanly_is_a_fact(tmp_path: Path) -> None:
    path = Sparse(64, unclean=1).write(tmp_path / "image.vmdk")
    with open_image(path) as image:
        assert image.facts()["closed cleanly"] is False
        assert not any(image.read(0, image.size))


# ---- ESX Server sparse extents -----------------------------------------------------------------


def cowd_content(writer: Cowd, parent: bytes) -> bytes:
    out = bytearray(parent)
    for number, content in writer.grains.items():
        start = number * writer.grain * SECTOR
        out[start : start + len(content)] = content
    return bytes(out[: writer.capacity * SECTOR])


@pytest.mark.proves("format", "vmdk", "ESX (COWD, VMFS) extents")
@pytest.mark.parametrize("grain", [1, 8, 128])
def test_esx_snapshots(grain: int, tmp_path: Path) -> None:
    sectors = 3 * 4096
    raw = make_disk(tmp_path / "disk-flat.vmdk", sectors * SECTOR, 700_000)
    base = tmp_path / "disk.vmdk"
    base.write_bytes(
        descriptor(f'RW {sectors} VMFS "disk-flat.vmdk"', kind="vmfs", content_id="a1b2c3d4")
    )
    numbers = [n for n in range(-(-sectors // grain)) if n % 11 < 3 and n // 4096 != 1]
    writer = Cowd(sectors - grain // 3, {n: noise(grain * SECTOR, n) for n in numbers}, grain)
    writer.write(tmp_path / "disk-000001-delta.vmdk")
    child = tmp_path / "disk-000001.vmdk"
    child.write_bytes(
        descriptor(
            f'RW {writer.capacity} VMFSSPARSE "disk-000001-delta.vmdk"',
            kind="vmfsSparse",
            parent_id="A1B2C3D4",
            more=['parentFileNameHint="disk.vmdk"'],
        )
    )
    with open_image(base) as image:
        assert image.facts()["type"] == "vmfs"
        check_image(image, raw)
    content = cowd_content(writer, raw.read_bytes())
    assert read_all(child) == content
    assert by_qemu(child, tmp_path / "raw") == content
    with open_image(child) as image:
        assert image.parent is not None
        assert str(image.facts()["parent"]).endswith("disk.vmdk")
    # By itself it is only a part; where the descriptor is lost, it is all there is.
    error = refused(tmp_path / "disk-000001-delta.vmdk")
    assert (error.code, error.params["name"]) == ("image.part", "disk-000001.vmdk")
    child.unlink()
    with open_image(tmp_path / "disk-000001-delta.vmdk") as image:
        assert "missing" in str(image.facts()["descriptor"])
        assert image.read(0, image.size) == cowd_content(writer, bytes(sectors * SECTOR))


def test_headers_of_esx_that_cannot_be_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.vmdk"
    Cowd(4096, version=2).write(path)
    assert "version 2" in describe(refused(path))
    Cowd(5000, directory_entries=1).write(path)
    assert "too small" in describe(refused(path))
    Cowd(4096, grain=3).write(path)
    assert "power of 2" in describe(refused(path))
    path.write_bytes(Cowd(4096).write(path).read_bytes()[:2000])
    assert refused(path).params["structure"] == "COWD header"
    with open_image(Cowd(4096, unclean=7).write(path)) as image:
        assert image.facts()["closed cleanly"] is False


# ---- Descriptors and their files ---------------------------------------------------------------


@pytest.mark.proves("format", "vmdk", "ZERO and NOACCESS extents, other kinds")
def test_extents_of_all_kinds(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    flat = noise(10 * SECTOR, 1)
    (tmp_path / "flat").write_bytes(flat)
    sparse = Sparse(70, {0: noise(4096, 2), 8: noise(4096, 3)}, 8, descriptor=b"")
    sparse.write(tmp_path / "disk-s003.vmdk")
    cowd = Cowd(9, {1: noise(SECTOR, 4), 8: noise(SECTOR, 5)})
    cowd.write(tmp_path / "cow")
    (tmp_path / "vmfs").write_bytes(noise(3 * SECTOR, 6))
    # The extents of a disk of several partitions, of which one is another's.
    path.write_bytes(
        descriptor(
            'RW 4 FLAT "flat" 3',
            "RW 5 ZERO",
            '  RDONLY   65 SPARSE   "disk-s003.vmdk"  ',
            'RW 9 VMFSSPARSE "cow"',
            'RW 0 FLAT "nowhere" 0',
            'RW 3 VMFS "vmfs"',
            'NOACCESS 7 FLAT "secret" 0',
            'RW 2 FLAT "flat" 8 partitionUUID device',
        ).replace(b"\n", b"\r\n")
    )
    expected = (
        flat[3 * SECTOR : 7 * SECTOR]
        + bytes(5 * SECTOR)
        + sparse.content()[: 65 * SECTOR]
        + cowd_content(cowd, bytes(9 * SECTOR))
        + noise(3 * SECTOR, 6)
    )
    with open_image(path) as image:
        assert image.size == (4 + 5 + 65 + 9 + 3 + 7 + 2) * SECTOR
        assert image.read(0, len(expected)) == expected
        check_extents(
            image,
            lambda offset, length: (expected + bytes(7 * SECTOR) + flat[8 * SECTOR :])[
                offset : offset + length
            ],
        )
        assert image.read(image.size - 2 * SECTOR, 2 * SECTOR) == flat[8 * SECTOR :]
        with pytest.raises(UnsupportedFeature) as caught:
            image.read(len(expected) - 1, 2)
        assert "secret without access" in describe(caught.value)
        assert image.facts()["extents"] == 7


def test_qemu_reads_the_same_mixture(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    (tmp_path / "flat").write_bytes(noise(300 * SECTOR, 1))
    Sparse(128, {0: noise(4096, 2), 9: noise(4096, 3)}, 8).write(tmp_path / "sparse")
    Cowd(4097, {1: noise(SECTOR, 4), 4096: noise(SECTOR, 5)}).write(tmp_path / "cow")
    path.write_bytes(
        descriptor(
            'RW 100 FLAT "flat" 200',
            'RW 128 SPARSE "sparse"',
            'RW 4097 VMFSSPARSE "cow"',
            'RW 300 VMFS "flat"',
        )
    )
    assert read_all(path) == by_qemu(path, tmp_path / "raw")


def test_one_extent_of_several_is_only_a_part(tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "raw", 2 * MIB, 700_000)
    path = convert(raw, tmp_path / "disk.vmdk", "vmdk", "subformat=twoGbMaxExtentSparse")
    part = tmp_path / "disk-s001.vmdk"
    error = refused(part)
    assert isinstance(error, UnsupportedFeature)
    assert (error.code, error.params["name"]) == ("image.part", "disk.vmdk")
    # Nothing beside lists it: another disk's descriptor, a damaged one, none.
    for text in (descriptor('RW 1 SPARSE "disk-s002.vmdk"'), b"RW RW RW\n", None):
        if text is None:
            path.unlink()
        else:
            path.write_bytes(text)
        with open_image(part) as image:
            assert "missing" in str(image.facts()["descriptor"])
            check_image(image, raw)


@pytest.mark.proves("format", "vmdk", "missing extents named")
def test_missing_extents_are_named(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    convert(make_disk(tmp_path / "raw", MIB, 1000), path, "vmdk", "subformat=monolithicFlat")
    (tmp_path / "disk-flat.vmdk").unlink()
    error = refused(path)
    assert isinstance(error, MissingPart)
    assert (error.params["role"], error.params["name"]) == ("extent", "disk-flat.vmdk")


def test_a_flat_extent_that_is_cut_off_is_read_up_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    (tmp_path / "flat").write_bytes(noise(1000, 1))
    path.write_bytes(descriptor('RW 4 FLAT "flat" 1', 'RW 2 FLAT "flat" 5'))
    with open_image(path) as image:
        assert image.read(0, 488) == noise(1000, 1)[512:]
        for offset in (488, 4 * SECTOR):
            with pytest.raises(CorruptImage) as caught:
                image.read(offset, 1)
            assert caught.value.params["offset"] == 1000
            check_described(caught.value)
        check_extents(
            image,
            lambda offset, length: (noise(1000, 1)[512:] + bytes(3000))[offset : offset + length],
        )


@pytest.mark.proves("format", "vmdk", "files elsewhere only with consent")
def test_files_elsewhere_need_consent(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    path = folder / "disk.vmdk"
    secret = tmp_path / "secret"
    secret.write_bytes(noise(SECTOR, 1))
    for name in ("../secret", str(secret)):
        path.write_bytes(descriptor(f'RW 1 FLAT "{name}" 0'))
        error = refused(path)
        assert (error.code, error.params["role"]) == ("image.consent", "extent")
        choices = Choices(allowed=(bytes(tmp_path),))
        assert read_all(path, choices) == noise(SECTOR, 1)


@pytest.mark.proves("format", "vmdk", "descriptors in other character sets")
@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("", "größe.vmdk"),
        ("UTF-8", "größe 日本.vmdk"),
        ("windows-1252", "größe.vmdk"),
        ("GBK", "文件.vmdk"),
        ("Shift_JIS", "日本.vmdk"),
    ],
)
def test_names_in_other_character_sets(encoding: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(noise(SECTOR, 1))
    line = f'RW 1 FLAT "{name}" 0'.encode(encoding or "utf-8")
    text = descriptor("EXTENT", more=[f'encoding="{encoding}"'] if encoding else [])
    path = tmp_path / "disk.vmdk"
    path.write_bytes(text.replace(b"EXTENT", line))
    assert read_all(path) == noise(SECTOR, 1)


@pytest.mark.parametrize("encoding", ["utf-16-le", "idna", "hex", "no such", "\\xff", "rot13"])
def test_an_encoding_cannot_do_harm(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    for name in ("not here.vmdk", "A\x01B\x02", "x" * 300, "x" * 1_000_000):
        path.write_bytes(descriptor(f'RW 1 FLAT "{name}" 0', more=[f'encoding="{encoding}"']))
        with pytest.raises(ExplorerError) as caught:
            open_image(path)
        check_described(caught.value)


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        (['RW 1 SESPARSE "disk-sesparse.vmdk"'], "SESPARSE"),
        (['RW 1 VMFSRDM "disk-rdm.vmdk"'], "VMFSRDM"),
        (["RW 1 FLAT"], "no file"),
        (["RW 1 FLAT disk"], "not an extent"),
        (['RW x FLAT "disk"'], "not an extent"),
        ([f"RW {2**63} ZERO"], "larger than a disk"),
        (['RW 1 FLAT "disk" 99999999999999999'], "larger than a disk"),
        ([f"RW {LARGEST // SECTOR} ZERO", "RW 1 ZERO"], "extents have"),
        ([], "extents have 0 bytes"),
        (['RW 1 SPARSE "disk.vmdk"'], "does not begin with"),
        (['RW 65 SPARSE "sparse"'], "capacity of 32768 bytes, not 33280"),
        (["RW 1 ZERO"] * (EXTENT_LIMIT + 1), "extents"),
    ],
)
def test_descriptors_that_cannot_be_are_refused(
    lines: list[str], where: str, tmp_path: Path
) -> None:
    path = tmp_path / "disk.vmdk"
    Sparse(64, {}, 8).write(tmp_path / "sparse")
    (tmp_path / "disk").write_bytes(bytes(512))
    path.write_bytes(descriptor(*lines))
    assert where in describe(refused(path))


def test_what_is_no_descriptor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    path.write_bytes(noise(5000, 1))
    assert refused(path, Choices(format="vmdk")).params["structure"] == "descriptor"
    make_empty(path, DESCRIPTOR_LIMIT + 1)
    assert "descriptor of" in describe(refused(path, Choices(format="vmdk")))
    # A text that is too long to be one is a disk of text.
    path.write_bytes(descriptor("RW 1 ZERO") + b"#" * DESCRIPTOR_LIMIT)
    with open_image(path) as image:
        assert image.format == "raw"
    writer = Sparse(64)
    data = bytearray(writer.write(path).read_bytes())
    data[36:44] = struct.pack("<Q", DESCRIPTOR_LIMIT)
    path.write_bytes(data)
    assert "a descriptor of" in describe(refused(path))


def test_a_header_may_hold_nothing_but_a_descriptor(tmp_path: Path) -> None:
    (tmp_path / "flat").write_bytes(noise(SECTOR, 1))
    text = descriptor('RW 1 FLAT "flat" 0', kind="monolithicFlat")
    path = Sparse(0, descriptor=text).write(tmp_path / "disk.vmdk")
    assert read_all(path) == noise(SECTOR, 1) == by_qemu(path, tmp_path / "raw")


# ---- Parents -----------------------------------------------------------------------------------


def make_chain(folder: Path, subformat: str, sizes: Sequence[int]) -> list[Path]:
    """A chain of images by qemu-img, each with some writes; the last is the newest."""
    paths: list[Path] = []
    for number, size in enumerate(sizes):
        path = folder / f"disk-{number:06}.vmdk"
        below = ["-b", str(paths[-1]), "-F", "vmdk"] if paths else []
        options = ["-f", "vmdk", "-o", f"subformat={subformat}"]
        run_tool("qemu-img", "create", "-q", *options, *below, str(path), str(size))
        commands = []
        for at in range(number, size // MIB, len(sizes) + 1):
            commands += ["-c", f"write -P {number + 1} {at * MIB + number * 4096} 100k"]
        run_tool("qemu-io", "-f", "vmdk", *commands, str(path))
        paths.append(path)
    return paths


@pytest.mark.proves("format", "vmdk", "parents")
@pytest.mark.parametrize("subformat", ["monolithicSparse", "twoGbMaxExtentSparse"])
@pytest.mark.parametrize("sizes", [(9, 9, 9), (5, 9, 7), (9, 6, 8)])
def test_parents(subformat: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    paths = make_chain(tmp_path, subformat, [size * MIB for size in sizes])
    for path in paths[1:]:
        with open_image(path) as image:
            assert image.parent is not None
            assert image.parent.path == str(
                path.with_name(f"disk-{int(path.stem[5:]) - 1:06}.vmdk")
            )
            check_image(image, convert_back(path, tmp_path / "raw", "vmdk"))


def test_the_parent_of_several_extents_begins_with_the_disk(tmp_path: Path) -> None:
    parent = make_disk(tmp_path / "flat", 100 * SECTOR, 5000)
    (tmp_path / "parent.vmdk").write_bytes(descriptor('RW 100 FLAT "flat" 0'))
    for name in ("one", "two"):
        Sparse(48, {2: noise(4096, 3)}, 8, descriptor=b"").write(tmp_path / name)
    path = tmp_path / "disk.vmdk"
    lines = ('RW 48 SPARSE "one"', 'RW 48 SPARSE "two"', 'RW 48 SPARSE "one"')
    path.write_bytes(
        descriptor(*lines, parent_id="12345678", more=['parentFileNameHint="parent.vmdk"'])
    )
    expected = bytearray(parent.read_bytes() + bytes(44 * SECTOR))
    for start in (16, 64, 112):
        expected[start * SECTOR : (start + 8) * SECTOR] = noise(4096, 3)
    assert read_all(path) == expected


@pytest.mark.parametrize(
    "hint",
    [
        "base.vmdk",
        "./base.vmdk",
        "C:\\\\VMs\\\\base.vmdk",
        "/vmfs/volumes/x/base.vmdk",
        "..\\\\b\\\\base.vmdk",
    ],
)
def test_a_hint_leads_to_the_parent_beside(hint: str, tmp_path: Path) -> None:
    base = Sparse(64, {1: noise(4096, 1)}, 8)
    base.write(tmp_path / "base.vmdk")
    text = descriptor(
        'RW 64 SPARSE "x"', parent_id="12345678", more=[f'parentFileNameHint="{hint}"']
    )
    path = Sparse(64, {}, 8, descriptor=text).write(tmp_path / "disk.vmdk")
    assert read_all(path) == base.content()


@pytest.mark.proves("format", "vmdk", "parents")
def test_parents_that_cannot_be_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    path = folder / "disk.vmdk"

    def child(hint: str | None, parent_id: str = "12345678") -> ImageError:
        more = [] if hint is None else [f'parentFileNameHint="{hint}"']
        text = descriptor('RW 64 SPARSE "x"', parent_id=parent_id, more=more)
        Sparse(64, {}, 8, descriptor=text).write(path)
        return refused(path)

    Sparse(64).write(folder / "base.vmdk")
    Sparse(64).write(tmp_path / "other.vmdk")
    error = child("base.vmdk", "12345679")
    assert isinstance(error, CorruptImage)
    assert "has changed since" in describe(error)
    error = child("gone.vmdk")
    assert isinstance(error, MissingPart)
    assert error.params["role"] == "parent"
    error = child("../other.vmdk")
    assert error.code == "image.consent"
    with open_image(path, choices=Choices(allowed=(bytes(tmp_path),))) as image:
        assert image.parent is not None
    assert "no name for it" in describe(child(None))
    assert "parentcid is no number" in describe(child("base.vmdk", "none"))
    assert "behind itself" in describe(child("disk.vmdk"))
    # A parent is a VMDK, whatever it looks like.
    shutil.copyfile(folder / "base.vmdk", folder / "raw")
    with (folder / "raw").open("r+b") as file:
        file.write(b"QFI\xfb")
    assert isinstance(child("raw"), CorruptImage)


# ---- Damage and size ---------------------------------------------------------------------------


@pytest.mark.proves("format", "vmdk", "damage gives typed errors")
def test_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "image.vmdk"
    writer, _content = two_tables(path)
    structures = [(0, 80), (SECTOR, len(EMBEDDED))]
    for name, place in writer.places.items():
        if "grain" not in name:
            structures.append((place, 4 * 132 if "table" in name else 8))
    check_damaged(path, tmp_path, structures)


@pytest.mark.proves("format", "vmdk", "damage gives typed errors")
def test_damage_to_a_stream_is_found(tmp_path: Path) -> None:
    path = tmp_path / "image.vmdk"
    writer = stream(path)
    structures = [(0, 80), (writer.places["footer"], 80)]
    structures += [(writer.places[f"grain {n}"], 40) for n in (0, 3)]
    structures += [(writer.places["main directory"], 4), (writer.places["main table 0"], 16)]
    check_damaged(path, tmp_path, structures)


@pytest.mark.proves("format", "vmdk", "damage gives typed errors")
def test_damage_to_an_esx_extent_is_found(tmp_path: Path) -> None:
    path = tmp_path / "image.vmdk"
    Cowd(9000, {n: noise(SECTOR, n) for n in (0, 1, 5000, 8999)}).write(path)
    check_damaged(path, tmp_path, [(0, 32), (2048, 12), (2560, 20)])


@pytest.mark.proves("format", "vmdk", "damage gives typed errors")
def test_damage_to_a_descriptor_is_found(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    Sparse(64, {1: noise(4096, 1)}, 8).write(tmp_path / "base.vmdk")
    Sparse(64, {0: noise(4096, 1)}, 8, descriptor=b"").write(tmp_path / "sparse")
    (tmp_path / "flat").write_bytes(noise(5000, 2))
    path.write_bytes(
        descriptor(
            'RW 64 SPARSE "sparse"',
            'RW 5 FLAT "flat" 2',
            parent_id="12345678",
            more=['encoding="windows-1252"', 'parentFileNameHint="base.vmdk"'],
        )
    )
    check_damaged(path, tmp_path, [(0, path.stat().st_size)], flips=400)


@pytest.mark.proves("format", "vmdk", "the largest disks")
def test_a_disk_of_62_tib_opens_quickly(tmp_path: Path) -> None:
    path = tmp_path / "image.vmdk"
    run_tool("qemu-img", "create", "-q", "-f", "vmdk", path, "62T")
    far = 61 << 40
    run_tool("qemu-io", "-f", "vmdk", "-c", f"write -P 7 {far} 1M", str(path))
    start = time.monotonic()
    with open_image(path) as image:
        assert image.size == 62 << 40
        assert image.read(far - 4, 8) == bytes(4) + b"\7" * 4
        assert image.read(image.size - 10, 10) == bytes(10)
        kinds = [extent.kind for extent in image.extents(far - (1 << 30), 2 << 30)]
        assert kinds == [ExtentKind.ZERO, ExtentKind.DATA, ExtentKind.ZERO]
    assert time.monotonic() - start < 2


def test_absent_tables_are_passed_over(tmp_path: Path) -> None:
    # A directory of 8 MiB, almost empty.
    capacity = (62 << 40) // SECTOR
    grains: dict[int, bytes | int] = {}
    writer = Sparse(capacity, grains, flags=NEWLINES)
    path = tmp_path / "image.vmdk"
    directory = padded(struct.pack("<I", 0) * (capacity // 65536))
    place = 3 * SECTOR
    table = struct.pack("<512I", *(100_000 + 128 * n for n in range(512)))
    header = writer.header(place // SECTOR, 0) + padded(EMBEDDED, 2 * SECTOR)
    data = bytearray(header + directory)
    at = place + 4 * 2_000_000
    data[at : at + 4] = struct.pack("<I", len(data) // SECTOR)
    path.write_bytes(bytes(data) + table)
    with path.open("r+b") as file:
        file.truncate((100_000 + 65536) * SECTOR)
        file.seek(100_000 * SECTOR)
        file.write(b"here")
    start = time.monotonic()
    with open_image(path) as image:
        assert [(e.kind, e.offset, e.length) for e in image.extents(0, image.size)] == [
            (ExtentKind.ZERO, 0, 2_000_000 << 25),
            (ExtentKind.DATA, 2_000_000 << 25, 1 << 25),
            (ExtentKind.ZERO, 2_000_001 << 25, image.size - (2_000_001 << 25)),
        ]
        assert image.read(2_000_000 << 25, 5) == b"here\0"
    assert time.monotonic() - start < 2


@pytest.mark.proves("format", "vmdk", "the largest disks")
def test_the_largest_disk(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    (tmp_path / "flat").write_bytes(b"end!" * 128)
    path.write_bytes(descriptor(f"RW {LARGEST // SECTOR - 1} ZERO", 'RW 1 FLAT "flat" 0'))
    with open_image(path) as image:
        assert image.size == LARGEST
        assert image.read(LARGEST - 516, 600) == bytes(4) + b"end!" * 128
        assert [extent.length for extent in image.extents(0, LARGEST)] == [LARGEST - 512, 512]
