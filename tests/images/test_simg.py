# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Android sparse images: by img2simg, and by a writer of our own; simg2img is the other reader."""

from __future__ import annotations

import struct
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import ImageError
from explorer.core.extents import ExtentKind
from explorer.core.messages import describe
from explorer.images.registry import open_image
from explorer.images.simg import CHUNK_LIMIT
from tests.images.checks import check_damaged, check_described, check_extents, check_image
from tests.images.content import make_disk
from tests.trees import find_tool, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20
RAW = 0xCAC1
FILL = 0xCAC2
IGNORED = 0xCAC3
CRC32 = 0xCAC4


@dataclass
class Chunk:
    """A chunk to be written; fields that are None are what they should be."""

    kind: int
    blocks: int
    data: bytes = b""
    total: int | None = None


@dataclass
class Simg:
    """An image to be written."""

    chunks: list[Chunk] = field(default_factory=list)
    block: int = 4096
    blocks: int | None = None
    count: int | None = None
    major: int = 1
    minor: int = 0
    header: int = 28
    chunk_header: int = 12
    checksum: int = 0
    magic: int = 0xED26FF3A

    def write(self, path: Path) -> Path:
        """Write the image to a file."""
        blocks = sum(chunk.blocks for chunk in self.chunks if chunk.kind != CRC32)
        out = bytearray(
            struct.pack(
                "<IHHHHIIII",
                self.magic,
                self.major,
                self.minor,
                self.header,
                self.chunk_header,
                self.block,
                blocks if self.blocks is None else self.blocks,
                len(self.chunks) if self.count is None else self.count,
                self.checksum,
            )
        )
        out += bytes(max(0, self.header - 28))
        for chunk in self.chunks:
            total = self.chunk_header + len(chunk.data) if chunk.total is None else chunk.total
            out += struct.pack("<HHII", chunk.kind, 0, chunk.blocks, total)
            out += bytes(max(0, self.chunk_header - 12)) + chunk.data
        path.write_bytes(out)
        return path

    def content(self) -> bytes:
        """The disk's bytes."""
        out = b""
        for chunk in self.chunks:
            if chunk.kind == RAW:
                out += chunk.data
            elif chunk.kind == FILL:
                out += chunk.data * (chunk.blocks * self.block // 4)
            elif chunk.kind == IGNORED:
                out += bytes(chunk.blocks * self.block)
        return out


MIXED = (
    Chunk(RAW, 3, noise(3 * 4096, 1)),
    Chunk(CRC32, 0, b"\1\2\3\4"),
    Chunk(FILL, 20, b"\xde\xad\xbe\xef"),
    Chunk(FILL, 2, b"\xde\xad\xbe\xef"),
    Chunk(FILL, 5, bytes(4)),
    Chunk(IGNORED, 7),
    Chunk(RAW, 0),
    Chunk(IGNORED, 2),
    Chunk(RAW, 1, noise(4096, 2)),
    Chunk(RAW, 2, noise(8192, 3)),
    Chunk(FILL, 1, b"\1\0\0\0"),
)


def by_simg2img(path: Path, raw: Path) -> bytes:
    run_tool("simg2img", path, raw)
    return raw.read_bytes()


def seven_zip(path: Path) -> bytes:
    done = subprocess.run(
        [find_tool("7z"), "x", "-tsparse", "-so", path], capture_output=True, check=True
    )
    return done.stdout


def check_read(path: Path, content: bytes) -> None:
    raw = path.with_suffix(".expected")
    raw.write_bytes(content)
    with open_image(path) as image:
        assert image.format == "simg"
        check_image(image, raw)
    raw.unlink()


def refused(path: Path) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(path)
    check_described(caught.value)
    return caught.value


@pytest.mark.proves("format", "simg", "as img2simg writes it")
@pytest.mark.parametrize("block", [4096, 1024, 65536])
def test_images_by_img2simg(block: int, tmp_path: Path, unchanged: Callable[[Path], Path]) -> None:
    raw = make_disk(tmp_path / "raw", 6 * MIB, 700_000)
    with raw.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"\xab\xcd\xef\x01" * (MIB // 8))
    path = tmp_path / "image.simg"
    run_tool("img2simg", raw, path, str(block))
    unchanged(path)
    with open_image(path) as image:
        assert image.format == "simg"
        assert image.facts()["block size"] == block
        check_image(image, raw)
        kinds = {extent.kind for extent in image.extents(0, image.size)}
        assert kinds == {ExtentKind.DATA, ExtentKind.ZERO, ExtentKind.ENCODED}


def test_a_file_system_by_img2simg(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        file.truncate(8 * MIB)
    run_tool("mke2fs", "-q", "-F", raw)
    path = tmp_path / "image"
    run_tool("img2simg", raw, path)
    assert path.stat().st_size < MIB
    with open_image(path) as image:
        check_image(image, raw)


@pytest.mark.proves("format", "simg", "raw, fill, don't-care and checksum chunks")
@pytest.mark.parametrize(
    ("header", "chunk_header", "minor"), [(28, 12, 0), (28, 12, 7), (40, 12, 0), (28, 20, 0)]
)
def test_all_kinds_of_chunks(header: int, chunk_header: int, minor: int, tmp_path: Path) -> None:
    writer = Simg(list(MIXED), header=header, chunk_header=chunk_header, minor=minor)
    path = writer.write(tmp_path / "image")
    content = writer.content()
    check_read(path, content)
    with open_image(path) as image:
        assert image.facts() == {"block size": 4096, "chunks": len(MIXED)}
        assert [(e.kind, e.length // 4096) for e in image.extents(0, image.size)] == [
            (ExtentKind.DATA, 3),
            (ExtentKind.ENCODED, 22),
            (ExtentKind.ZERO, 14),
            (ExtentKind.DATA, 1),
            (ExtentKind.DATA, 2),
            (ExtentKind.ENCODED, 1),
        ]
        # Inside a value, and more than is filled at once.
        assert image.read(3 * 4096 + 1, 6) == b"\xad\xbe\xef\xde\xad\xbe"
        assert image.read(3 * 4096 + 3, 70_000) == (b"\xef\xde\xad\xbe" * 17_500)


def test_other_readers_read_the_same(tmp_path: Path) -> None:
    # simg2img compares checksums, and takes no chunk without blocks.
    chunks = [chunk for chunk in MIXED if chunk.kind != CRC32 and chunk.blocks]
    writer = Simg(chunks)
    path = writer.write(tmp_path / "image")
    assert by_simg2img(path, tmp_path / "raw") == writer.content()
    assert seven_zip(path) == writer.content()
    check_read(path, writer.content())


def test_the_stored_checksum_is_a_fact(tmp_path: Path) -> None:
    path = Simg(list(MIXED), checksum=0xC0FFEE).write(tmp_path / "image")
    with open_image(path) as image:
        assert image.facts()["checksum"] == "CRC-32 00c0ffee"


@pytest.mark.parametrize(
    ("writer", "where"),
    [
        (Simg(list(MIXED), major=2), "version 2"),
        (Simg(list(MIXED), header=27), "too small"),
        (Simg(list(MIXED), chunk_header=11), "too small"),
        (Simg(list(MIXED), block=0), "blocks of 0 bytes"),
        (Simg(list(MIXED), block=4098), "blocks of 4098 bytes"),
        (Simg([], blocks=0), "0 blocks"),
        (Simg([], blocks=2**32 - 1, block=2**32 - 4), "4294967295 blocks"),
        (Simg([], count=CHUNK_LIMIT + 1, blocks=1), "chunks"),
        (Simg(list(MIXED), blocks=40), "beyond the last block"),
        (Simg(list(MIXED), blocks=50), "have 176128 bytes of 204800"),
        (Simg(list(MIXED), count=12), "chunk header"),
        (Simg([Chunk(0xCAC5, 1)]), "type 0xcac5"),
        (Simg([Chunk(RAW, 1, bytes(4095))]), "a chunk of 4107 bytes"),
        (Simg([Chunk(FILL, 1, bytes(8))]), "a chunk of 20 bytes"),
        (Simg([Chunk(IGNORED, 1, bytes(4))]), "a chunk of 16 bytes"),
        (Simg([Chunk(CRC32, 1)], blocks=1), "a chunk of 12 bytes"),
        (Simg([Chunk(RAW, 1, bytes(4000), total=4108)]), "beyond the end of the file"),
        (Simg([Chunk(FILL, 1, b"ab", total=16)]), "beyond the end of the file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused(writer: Simg, where: str, tmp_path: Path) -> None:
    assert where in describe(refused(writer.write(tmp_path / "image")))


def test_a_format_that_was_chosen_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(5000))
    with pytest.raises(ImageError) as caught:
        open_image(path, "simg")
    assert "magic" in describe(caught.value)


@pytest.mark.proves("format", "simg", "damage gives typed errors")
def test_damage_is_found(tmp_path: Path) -> None:
    path = Simg(list(MIXED)).write(tmp_path / "image")
    structures = [(0, 28)]
    at = 28
    for chunk in MIXED:
        structures.append((at, 16 if chunk.data else 12))
        at += 12 + len(chunk.data)
    check_damaged(path, tmp_path, structures, flips=400)


@pytest.mark.proves("format", "simg", "more than 4 GiB")
def test_more_than_4_gib(tmp_path: Path) -> None:
    # The last byte of a disk of 5 GiB, of which most is left out; beyond 4 GiB in the file too.
    path = tmp_path / "image"
    block = 1 << 20
    large = 4200
    header = struct.pack("<IHHHHIIII", 0xED26FF3A, 1, 0, 28, 12, block, 9000, 6, 0)
    with path.open("wb") as file:
        file.write(header)
        for count, mark in ((2100, b"first"), (2100, b"second")):
            file.write(struct.pack("<HHII", RAW, 0, count, 12 + count * block))
            file.write(mark)
            file.seek(count * block - len(mark), 1)
        file.write(struct.pack("<HHII", IGNORED, 0, 9000 - large - 2, 12))
        file.write(struct.pack("<HHII", FILL, 0, 1, 16) + b"fill")
        file.write(struct.pack("<HHII", RAW, 0, 1, 12 + block) + bytes(block - 3) + b"end")
        file.write(struct.pack("<HHII", CRC32, 0, 0, 16) + bytes(4))
    assert path.stat().st_size > large * block
    start = time.monotonic()
    with open_image(path) as image:
        assert image.size == 9000 * block
        assert image.read(0, 5) == b"first"
        assert image.read(2100 * block - 1, 7) == b"\0second"
        assert image.read(8998 * block - 1, 5) == b"\0fill"
        assert image.read(9000 * block - 4, 10) == b"\0end"
        kinds = [extent.kind for extent in image.extents(0, image.size)]
        assert kinds == [
            ExtentKind.DATA,
            ExtentKind.DATA,
            ExtentKind.ZERO,
            ExtentKind.ENCODED,
            ExtentKind.DATA,
        ]
    assert time.monotonic() - start < 2


def test_the_largest_disk(tmp_path: Path) -> None:
    block = 2**31 - 4096
    blocks = 2**32 - 1
    chunks = [Chunk(IGNORED, blocks - 1), Chunk(FILL, 1, b"last")]
    with open_image(Simg(chunks, block=block).write(tmp_path / "image")) as image:
        assert image.size == block * blocks
        assert image.read(image.size - 6, 10) == b"stlast"
        check_extents(image, lambda _offset, length: bytes(length))


def test_many_chunks_take_little_memory(tmp_path: Path) -> None:
    # Every other block is stored.
    count = 200_000
    pair = struct.pack("<HHII", RAW, 0, 1, 12 + 4) + b"data"
    pair += struct.pack("<HHII", IGNORED, 0, 1, 12)
    header = struct.pack("<IHHHHIIII", 0xED26FF3A, 1, 0, 28, 12, 4, count, count, 0)
    path = tmp_path / "image"
    path.write_bytes(header + pair * (count // 2))
    start = time.monotonic()
    with open_image(path) as image:
        assert time.monotonic() - start < 5
        assert image.read(0, 5000) == b"data\0\0\0\0" * 625
        assert image.read(image.size - 12, 12) == bytes(4) + b"data" + bytes(4)
