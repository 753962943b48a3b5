# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""DMG images: a real one, and of all kinds of runs by a writer of our own.

Read once more by 7-Zip, and by qemu-img where it knows the runs.
"""

from __future__ import annotations

import bz2
import lzma
import plistlib
import random
import struct
import subprocess
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.core.errors import CorruptImage, ImageError, UnsupportedFeature
from explorer.core.extents import ExtentKind
from explorer.core.messages import describe
from explorer.images.dmg import RUN_LIMIT, TABLES_LIMIT, expand_adc
from explorer.images.registry import open_image
from tests.images.checks import check_damaged, check_described, check_image
from tests.images.content import convert_back
from tests.trees import find_tool, noise, run_tool
from tests.volumes.truth import IMAGES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECTOR = 512

ZERO = 0
RAW = 1
IGNORED = 2
COMMENT = 0x7FFFFFFE
LAST = 0xFFFFFFFF
ADC = 0x80000004
ZLIB = 0x80000005
BZIP2 = 0x80000006
LZFSE = 0x80000007
XZ = 0x80000008


def compress_adc(data: bytes) -> bytes:
    """Compress with all three kinds of steps, wherever the last 4 bytes occurred before."""
    out = bytearray()
    seen: dict[bytes, int] = {}
    plain = bytearray()

    def flush() -> None:
        for start in range(0, len(plain), 128):
            part = plain[start : start + 128]
            out.append(0x80 | len(part) - 1)
            out.extend(part)
        plain.clear()

    at = 0
    while at < len(data):
        key = data[at : at + 4]
        before = seen.get(key) if len(key) == 4 else None
        length = 0
        if before is not None and at - before <= 65536:
            while length < 67 and at + length < len(data):
                if data[before + length] != data[at + length]:
                    break
                length += 1
        if before is not None and length >= 4:
            flush()
            distance = at - before - 1
            if length <= 18 and distance < 1024:
                out += bytes(((length - 3) << 2 | distance >> 8, distance & 0xFF))
            else:
                out.append(0x40 | length - 4)
                out += distance.to_bytes(2, "big")
        else:
            length = 1
            plain.append(data[at])
        for place in range(at, at + length):
            seen[data[place : place + 4]] = place
        at += length
    flush()
    return bytes(out)


ENCODERS: dict[int, Callable[[bytes], bytes]] = {
    RAW: lambda data: data,
    ADC: compress_adc,
    ZLIB: zlib.compress,
    BZIP2: bz2.compress,
    XZ: lambda data: lzma.compress(data, lzma.FORMAT_XZ),
}


@dataclass
class Run:
    """A run to be written, with fields that may be wrong."""

    kind: int
    content: bytes
    stored: bytes | None = None
    place: int | None = None
    length: int | None = None
    sectors: int | None = None
    start: int | None = None


@dataclass
class Dmg:
    """An image to be written."""

    tables: list[list[Run]]
    first: int = 0
    """Bytes before the data fork."""
    data_offset: int = 0
    """That runs of all tables are counted from."""
    fork: bool = False
    """Whether the tables are in a resource fork."""
    trailer_first: bool = False
    version: int = 4
    segments: int = 1
    sectors: int | None = None
    reverse: bool = False
    """Whether the last table comes first."""
    magic: bytes = b"mish"
    more_runs: int = 0
    """Added to the tables' counts."""
    names: list[str] = field(default_factory=list)
    tables_length: int | None = None
    data_length: int | None = None
    property_list: bytes | None = None
    resources: bytes | None = None

    def content(self) -> bytes:
        """The disk's bytes, where no run has a start of its own."""
        return b"".join(run.content for table in self.tables for run in table)

    def write(self, path: Path) -> Path:
        """Write the image to a file: data fork, tables, trailer."""
        start = (SECTOR if self.trailer_first else 0) + self.first
        out = bytearray(noise(start, 77) + bytes(self.data_offset))
        tables = []
        checksums = b""
        first = 0
        for number, table in enumerate(self.tables):
            packed = b""
            at = 0
            for run in table:
                stored = run.stored
                if stored is None:
                    stored = ENCODERS[run.kind](run.content) if run.kind in ENCODERS else b""
                place = len(out) - start - self.data_offset
                sectors = len(run.content) // SECTOR
                packed += struct.pack(
                    ">IIQQQQ",
                    run.kind,
                    0,
                    at if run.start is None else run.start,
                    sectors if run.sectors is None else run.sectors,
                    place if run.place is None else run.place,
                    len(stored) if run.length is None else run.length,
                )
                out += stored
                at += sectors
            packed += struct.pack(">IIQQQQ", LAST, 0, at, 0, 0, 0)
            # What is ignored is not in it.
            summed = b"".join(run.content for run in table if run.kind != IGNORED)
            checksum = struct.pack(">I", zlib.crc32(summed))
            checksums += checksum
            head = struct.pack(
                ">4sIQQQII24sII128s",
                self.magic,
                1,
                first,
                at,
                self.data_offset,
                2056,
                number,
                b"",
                2,
                32,
                checksum,
            )
            count = len(table) + 1 + self.more_runs
            tables.append(head + struct.pack(">I", count) + packed)
            first += at
        if self.reverse:
            tables.reverse()
        length = len(out) - start if self.data_length is None else self.data_length
        places = [0, 0, 0, 0]
        if self.fork:
            data = resource_fork(tables) if self.resources is None else self.resources
            places[:2] = len(out), len(data)
        else:
            data = self.property_list or property_list(tables, self.names)
            places[2:] = len(out), len(data)
        if self.tables_length is not None:
            places[1 if self.fork else 3] = self.tables_length
        if tables:
            out += data
        else:
            places = [0, 0, 0, 0]
        trailer = struct.pack(
            ">4sIIIQQQQQII16sII128sQQ120sIII124sIQ12s",
            b"koly",
            self.version,
            SECTOR,
            1,
            0,
            start,
            length,
            places[0],
            places[1],
            1,
            self.segments,
            b"",
            2,
            32,
            struct.pack(">I", zlib.crc32(out[start : start + length])),
            places[2],
            places[3],
            b"",
            2,
            32,
            zlib.crc32(checksums),
            b"",
            1,
            first if self.sectors is None else self.sectors,
            b"",
        )
        assert len(trailer) == SECTOR
        if self.trailer_first:
            out[:SECTOR] = trailer
        else:
            out += trailer
        path.write_bytes(out)
        return path


def property_list(tables: list[bytes], names: list[str]) -> bytes:
    entries = [
        {
            "Attributes": "0x0050",
            "CFName": f"table {number}",
            "Data": table,
            "ID": str(number - 1),
            "Name": names[number] if number < len(names) else f"table {number}",
        }
        for number, table in enumerate(tables)
    ]
    # Of another kind, with data as well.
    plst = [{"Attributes": "0x0050", "Data": bytes(1032), "ID": "0", "Name": "no table"}]
    return plistlib.dumps({"resource-fork": {"blkx": entries, "plst": plst}, "Data": b"mish"})


def resource_fork(tables: list[bytes]) -> bytes:
    """A resource fork with the tables, and resources of another type before and after."""
    groups = [(b"AAAA", [b"first"]), (b"blkx", tables), (b"plst", [b"x" * 1032])]
    data = b""
    lists = b""
    types = b""
    for kind, resources in groups:
        place = 2 + 8 * len(groups) + len(lists)
        types += struct.pack(">4sHH", kind, len(resources) - 1, place)
        for number, resource in enumerate(resources):
            lists += struct.pack(">hHII", number, 0xFFFF, 0x50 << 24 | len(data), 0)
            data += struct.pack(">I", len(resource)) + resource
    type_list = struct.pack(">H", len(groups) - 1) + types + lists
    map_size = 28 + len(type_list)
    header = struct.pack(">IIII", 256, 256 + len(data), len(data), map_size)
    resource_map = header + struct.pack(">IHHHH", 0, 0, 0, 28, map_size) + type_list
    return header.ljust(256, b"\0") + data + resource_map


def disk(sectors: int, seed: int) -> bytes:
    """Bytes that become shorter by any compression."""
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randrange(3, 40)) for _ in range(50)]
    out = bytearray()
    while len(out) < sectors * SECTOR:
        out += chance.choice(words)
        if chance.randrange(40) == 0:
            out += bytes(chance.randrange(300))
    return bytes(out[: sectors * SECTOR])


def seven_zip(path: Path) -> bytes:
    done = subprocess.run(
        [find_tool("7z"), "x", "-tdmg", "-so", path], capture_output=True, check=True
    )
    return done.stdout


def refused(path: Path) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(path)
    check_described(caught.value)
    return caught.value


def check_read(path: Path, content: bytes) -> None:
    raw = path.with_suffix(".raw")
    raw.write_bytes(content)
    with open_image(path) as image:
        assert image.format == "dmg"
        check_image(image, raw)


# ---- Whole images ------------------------------------------------------------------------------


@pytest.mark.proves("format", "dmg", "real images")
def test_a_real_image(tmp_path: Path, unchanged: Callable[[Path], Path]) -> None:
    source = IMAGES / "dfvfs" / "hfsplus_zlib.dmg"
    if not source.exists():
        pytest.skip(f"needs {source}")
    unchanged(source)
    raw = convert_back(source, tmp_path / "raw", "dmg")
    with open_image(source) as image:
        facts = image.facts()
        assert facts["compression"] == ["zlib"]
        assert facts["checksum"] == "CRC-32 13be34b8"
        names = facts["partitions"]
        assert isinstance(names, list)
        assert names[4] == "disk image (Apple_HFS : 4)"
        check_image(image, raw)
        assert image.read(0, image.size) == seven_zip(source)


@pytest.mark.proves("format", "dmg", "raw, zero and zlib runs")
@pytest.mark.parametrize("kind", [ZLIB, RAW])
@pytest.mark.parametrize("fork", [False, True])
def test_qemu_and_seven_zip_read_the_same(kind: int, fork: bool, tmp_path: Path) -> None:
    # What the last run leaves of the disk are zeros.
    writer = Dmg(
        [
            [Run(kind, disk(1, 1)), Run(COMMENT, b""), Run(ZERO, bytes(33 * SECTOR))],
            [Run(kind, disk(300, 2)), Run(kind, disk(7, 3)), Run(IGNORED, bytes(5000 * SECTOR))],
            [Run(kind, disk(64, 4))],
        ],
        fork=fork,
    )
    path = writer.write(tmp_path / "image.dmg")
    check_read(path, writer.content())
    assert convert_back(path, tmp_path / "back", "dmg").read_bytes() == writer.content()
    assert seven_zip(path) == writer.content()


@pytest.mark.proves("format", "dmg", "bzip2, lzma and ADC runs")
@pytest.mark.parametrize("kind", [ADC, BZIP2, XZ])
def test_other_compressions(kind: int, tmp_path: Path) -> None:
    writer = Dmg([[Run(kind, disk(200, 1)), Run(kind, disk(57, 2)), Run(ZERO, bytes(1024))]])
    path = writer.write(tmp_path / "image.dmg")
    check_read(path, writer.content())
    assert seven_zip(path) == writer.content()
    with open_image(path) as image:
        kinds = [extent.kind for extent in image.extents(0, image.size)]
        assert kinds == [ExtentKind.ENCODED, ExtentKind.ZERO]


@pytest.mark.proves("format", "dmg", "property list or resource fork")
@pytest.mark.parametrize(
    "options",
    [
        {"first": 1000},
        {"data_offset": 700},
        {"trailer_first": True},
        {"reverse": True},
        {"sectors": 0},
        {"sectors": 5000},
    ],
)
def test_unusual_layouts(options: dict[str, int], tmp_path: Path) -> None:
    tables = [
        [Run(RAW, disk(9, 1)), Run(ZLIB, disk(40, 2)), Run(RAW, disk(3, 3))],
        [Run(ZERO, bytes(10 * SECTOR)), Run(ADC, disk(20, 4))],
    ]
    writer = Dmg(tables)
    for name, value in options.items():
        setattr(writer, name, value)
    path = writer.write(tmp_path / "image.dmg")
    content = writer.content()
    check_read(path, content + bytes(max(0, options.get("sectors", 0) * SECTOR - len(content))))


def test_gaps_between_runs_are_zeros(tmp_path: Path) -> None:
    runs = [
        Run(RAW, disk(2, 1), start=5),
        Run(ZERO, bytes(SECTOR), start=9),
        Run(ZLIB, disk(3, 2), start=20),
        Run(RAW, b"", start=0),
    ]
    path = Dmg([runs], sectors=30).write(tmp_path / "image.dmg")
    expected = bytearray(30 * SECTOR)
    expected[5 * SECTOR : 7 * SECTOR] = disk(2, 1)
    expected[20 * SECTOR : 23 * SECTOR] = disk(3, 2)
    check_read(path, bytes(expected))
    with open_image(path) as image:
        assert [extent.length // SECTOR for extent in image.extents(0, image.size)] == [
            5,
            2,
            13,
            3,
            7,
        ]


def test_a_disk_that_is_stored_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "image.dmg"
    content = disk(50, 1)
    writer = Dmg([], data_length=len(content))
    trailer = writer.write(path).read_bytes()
    path.write_bytes(content + trailer)
    check_read(path, content)
    with open_image(path) as image:
        assert [extent.kind for extent in image.extents(0, image.size)] == [ExtentKind.DATA]
    path.write_bytes(content[:-1] + trailer)
    error = refused(path)
    assert isinstance(error, CorruptImage)
    assert error.params["structure"] == "data fork"


# ---- Apple Data Compression


@pytest.mark.proves("format", "dmg", "bzip2, lzma and ADC runs")
@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([b"a", b"bc", b"\0" * 90, bytes(range(200))]), max_size=60))
def test_adc_comes_back(parts: list[bytes]) -> None:
    data = b"".join(parts)
    assert expand_adc(compress_adc(data), len(data)) == data
    assert expand_adc(compress_adc(data), len(data) // 2) == data[: len(data) // 2]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_adc_fail_otherwise(data: bytes) -> None:
    with suppress(ValueError):
        assert len(expand_adc(data, 1000)) <= 1000


# ---- What is refused ---------------------------------------------------------------------------


def small(**changes: object) -> Dmg:
    writer = Dmg([[Run(ZLIB, disk(8, 1)), Run(RAW, disk(8, 2))]])
    for name, value in changes.items():
        setattr(writer, name, value)
    return writer


def one_run(**changes: object) -> Dmg:
    run = Run(ZLIB, disk(8, 1))
    for name, value in changes.items():
        setattr(run, name, value)
    return Dmg([[run]])


PLIST = b'<?xml version="1.0"?><plist version="1.0">'


@pytest.mark.proves("format", "dmg", "LZFSE and segments refused by name")
@pytest.mark.parametrize(
    ("writer", "where"),
    [
        (small(version=5), "version 5 of a DMG"),
        (small(segments=3), "a DMG in 3 segments"),
        (small(magic=b"hsim"), "not a table"),
        (small(more_runs=1), "not a table of 4 runs"),
        (small(more_runs=2**32 - 4), "not a table of"),
        (small(sectors=2**55), "36028797018963968 sectors"),
        (small(tables_length=TABLES_LIMIT + 1), "a property list of"),
        (small(tables_length=100_000), "beyond the end of the file"),
        (small(tables_length=100_000, fork=True), "beyond the end of the file"),
        (small(fork=True, resources=b"\0\0\0"), "points beyond its end"),
        (small(fork=True, resources=bytes(64)), "there are no runs"),
        (small(fork=True, resources=b"\0\0\1\0" * 64), "points beyond its end"),
        (small(property_list=b"no XML"), "property list"),
        (small(property_list=PLIST + b"<dict>"), "property list"),
        (small(property_list=PLIST + b"<array>" * 20), "nested too deeply"),
        (small(property_list=b'<!DOCTYPE x [<!ENTITY a "b">]>' + PLIST), "entities"),
        (small(property_list=b'<?xml version="1.0" encoding="none"?>'), "property list"),
        (small(property_list=b'<?xml version="1.0" encoding="utf-7"?><a/>'), "property list"),
        (small(property_list=PLIST + b"<dict></dict></plist>"), "there are no runs"),
        (
            small(
                property_list=PLIST + b"<dict><key>resource-fork</key><dict><key>blkx</key><array>"
                b"<dict><key>Data</key><data>A</data></dict></array></dict></dict></plist>"
            ),
            "property list",
        ),
        (
            small(
                property_list=PLIST + b"<dict><key>resource-fork</key><dict><key>blkx</key><array>"
                b"<dict><key>Data</key><data>AAAA</data></dict></array></dict></dict></plist>"
            ),
            "a table of 3 bytes",
        ),
        (one_run(kind=LZFSE), "a DMG with LZFSE"),
        (one_run(kind=0x80000009), "a run of type 0x80000009"),
        (one_run(sectors=RUN_LIMIT // SECTOR + 1), "runs of"),
        (one_run(sectors=2**54), "beyond the largest disk"),
        (one_run(start=2**64 - 1), "beyond the largest disk"),
        (one_run(place=2**64 - 1), "beyond the end of the file"),
        (one_run(length=2**64 - 1), "beyond the end of the file"),
        (one_run(kind=RAW, sectors=9), "4608 bytes are stored in 4096"),
        (
            Dmg([[Run(RAW, disk(8, 1)), Run(ZERO, bytes(SECTOR), start=7)]]),
            "two runs have the byte 3584",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused(writer: Dmg, where: str, tmp_path: Path) -> None:
    path = writer.write(tmp_path / "image.dmg")
    assert where in describe(refused(path))


def test_a_zero_run_may_name_any_place(tmp_path: Path) -> None:
    for kind in (ZERO, IGNORED):
        run = Run(kind, bytes(1024), place=2**64 - 1, length=2**64 - 1)
        check_read(Dmg([[run]]).write(tmp_path / "image.dmg"), bytes(1024))


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (ADC, b"\x40\0\0"),
        (ADC, b"\x83abcd"),
        (ADC, b"\x83abcd\x7f"),
        (ZLIB, b"no zlib"),
        (ZLIB, zlib.compress(bytes(4000))),
        (ZLIB, zlib.compress(noise(4096, 1))[:2000]),
        (BZIP2, b"no bzip2"),
        (BZIP2, bz2.compress(bytes(4000))),
        (BZIP2, b""),
        (XZ, b"no xz"),
        (XZ, lzma.compress(noise(4096, 1))[:2000]),
        # A dictionary of 1 GiB, which the decoder would have to keep.
        (XZ, lzma.compress(bytes(4096), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 28}])),
    ],
)
def test_damaged_runs_are_named_when_they_are_read(
    kind: int, stored: bytes, tmp_path: Path
) -> None:
    runs = [Run(RAW, disk(8, 1)), Run(kind, bytes(4096), stored=stored)]
    path = Dmg([runs]).write(tmp_path / "image.dmg")
    with open_image(path) as image:
        assert image.read(0, 4096) == disk(8, 1)
        with pytest.raises(CorruptImage) as caught:
            image.read(4096, 1)
        check_described(caught.value)
        assert str(caught.value.params["structure"]).endswith("run")
        assert caught.value.params["offset"] == 4096


def test_a_format_that_was_chosen_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "image.dmg"
    path.write_bytes(bytes(5000))
    with pytest.raises(CorruptImage) as caught:
        open_image(path, "dmg")
    assert caught.value.params["structure"] == "koly trailer"


@pytest.mark.proves("format", "dmg", "encrypted refused by name")
def test_an_encrypted_image_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "image.dmg"
    path.write_bytes(b"encrcdsa" + bytes(5000))
    error = refused(path)
    assert isinstance(error, UnsupportedFeature)
    assert "encrypted" in describe(error)


@pytest.mark.proves("format", "dmg", "damage gives typed errors")
@pytest.mark.parametrize("fork", [False, True])
def test_damage_is_found(fork: bool, tmp_path: Path) -> None:
    runs = [Run(kind, disk(4, kind)) for kind in (ADC, ZLIB, BZIP2, XZ, RAW)]
    writer = Dmg([runs, [Run(ZERO, bytes(512)), Run(ZLIB, disk(2, 1))]], fork=fork)
    path = writer.write(tmp_path / "image.dmg")
    size = path.stat().st_size
    data = path.read_bytes()
    tables = data.find(b"<?xml") if not fork else data.find(struct.pack(">II", 256, 256)[:4])
    check_damaged(
        path,
        tmp_path,
        [(size - SECTOR, SECTOR), (size - SECTOR + 216, 16), (tables, size - SECTOR - tables)],
        flips=400,
    )
    check_damaged(path, tmp_path, [(0, tables)])


# ---- Size --------------------------------------------------------------------------------------


def test_many_runs_open_quickly(tmp_path: Path) -> None:
    # A disk of 100 GiB in runs of 512 KiB, of which every other is stored.
    count = 100_000
    packed = bytearray()
    for number in range(count):
        kind = ZLIB if number % 2 else ZERO
        packed += struct.pack(">IIQQQQ", kind, 0, number * 1024, 1024, 0, 531)
    stored = zlib.compress(b"\1" * (1 << 19))
    writer = Dmg([[Run(RAW, b"", stored=stored.ljust(531, b"\0"))]])
    head = struct.pack(">4sIQQQII24sII128s", b"mish", 1, 0, 0, 0, 0, 0, b"", 2, 32, b"")
    table = head + struct.pack(">I", count) + bytes(packed)
    writer.property_list = property_list([table], [])
    path = writer.write(tmp_path / "image.dmg")
    start = time.monotonic()
    with open_image(path) as image:
        assert image.size == count << 19
        assert image.facts()["runs"] == count
        assert image.read((count << 19) - 3, 3) == b"\1\1\1"
        assert image.read((1 << 19) - 1, 2) == b"\0\1"
        assert time.monotonic() - start < 5
        assert sum(1 for _extent in image.extents(0, image.size)) == count


def test_the_largest_disk(tmp_path: Path) -> None:
    sectors = (2**63 - 4096) // SECTOR
    run = Run(RAW, disk(1, 1), start=sectors - 1)
    path = Dmg([[run]], sectors=sectors).write(tmp_path / "image.dmg")
    with open_image(path) as image:
        assert image.size == 2**63 - 4096
        assert image.read(image.size - 516, 600) == bytes(4) + disk(1, 1)
    run_tool("7z", "l", "-tdmg", path)
