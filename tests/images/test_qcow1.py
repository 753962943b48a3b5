# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""QCOW images (version 1) by QEMU, and what it does not write by changes to these."""

from __future__ import annotations

import shutil
import struct
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import CorruptImage, ImageError, UnsupportedFeature
from explorer.core.extents import ExtentKind
from explorer.images.opening import Choices
from explorer.images.registry import open_image
from tests.images.checks import check_damaged, check_described, check_image
from tests.images.content import convert, convert_back, make_disk
from tests.images.encrypted import PASSPHRASE, create_encrypted, fill_encrypted
from tests.trees import make_empty, run_tool

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1 << 10
MIB = 1 << 20

COMPRESSED = 1 << 63


def create(path: Path, size: int | str, *, backing: str = "") -> Path:
    """An empty image; it names ``backing``, unseen, as raw."""
    behind = ["-u", "-b", backing, "-F", "raw"] if backing else []
    run_tool("qemu-img", "create", "-q", "-f", "qcow", *behind, str(path), str(size))
    return path


def edit(path: Path, *commands: str) -> Path:
    """Change an image by commands of qemu-io."""
    lines = (part for line in commands for part in ("-c", line))
    run_tool("qemu-io", "-f", "qcow", *lines, str(path))
    return path


def change(path: Path, offset: int, content: bytes) -> Path:
    """Overwrite bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)
    return path


def field(path: Path, offset: int) -> int:
    """A number of 64 bits in a file."""
    with path.open("rb") as file:
        file.seek(offset)
        return int.from_bytes(file.read(8), "big")


def check(path: Path, tmp_path: Path) -> None:
    """An image reads as qemu-img reads it."""
    expected = convert_back(path, tmp_path / f"{path.name}.expected", "qcow")
    with open_image(path) as image:
        assert image.format == "qcow"
        check_image(image, expected)


def open_and_read(path: Path) -> None:
    """Open an image, and read all of it."""
    with open_image(path, "qcow") as image:
        for offset in range(0, min(image.size, 8 * MIB), MIB):
            image.read(offset, MIB)


def refused(path: Path, kind: type[ImageError]) -> ImageError:
    """Opening an image or reading it fails."""
    with pytest.raises(kind) as caught:
        open_and_read(path)
    check_described(caught.value)
    return caught.value


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five MiB and some sectors, with holes; partly such as can be compressed."""
    path = make_disk(tmp_path_factory.mktemp("disk") / "raw", 5 * MIB + 3 * 512, 300_000)
    return change(path, 2 * MIB, b"all the same " * 80_000)


@pytest.mark.proves("format", "qcow", "version 1")
def test_an_image(disk: Path, tmp_path: Path) -> None:
    path = convert(disk, tmp_path / "image", "qcow")
    with open_image(path) as image:
        assert image.facts() == {"version": 1, "cluster size": 4096}
        check_image(image, disk)


@pytest.mark.proves("format", "qcow", "zlib clusters")
def test_compressed_clusters(tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_bytes(b"".join(b"word %d " % number for number in range(1000))[:4096])
    lines = [f"write -c -P {number} {number * 12}k 4k" for number in range(1, 80)]
    lines += [f"write -c -s {words} {number * 12 + 4}k 4k" for number in range(1, 80, 3)]
    path = edit(create(tmp_path / "image", "1M"), *lines, "write -P 1 980k 10k")
    check(path, tmp_path)
    with open_image(path) as image:
        kinds = {extent.kind for extent in image.extents(0, image.size)}
    assert kinds == {ExtentKind.ZERO, ExtentKind.DATA, ExtentKind.ENCODED}


@pytest.mark.proves("format", "qcow", "backing image")
def test_a_backing_image(disk: Path, tmp_path: Path) -> None:
    shutil.copy(disk, tmp_path / "base")
    # Before a backing image QEMU makes clusters of 512 bytes.
    path = create(tmp_path / "image", 6 * MIB, backing="base")
    edit(path, "write -P 1 1000k 3k", "write -P 2 5500k 100k", "write -P 3 0 512")
    check(path, tmp_path)
    with open_image(path) as image:
        facts = image.facts()
        assert image.parent is not None
        assert image.parent.format == "raw"
    assert (facts["cluster size"], facts["backing image"]) == (512, "base")
    assert facts["backing format"] == "raw"


def test_a_format_is_recognised(disk: Path, tmp_path: Path) -> None:
    convert(disk, tmp_path / "base", "qcow2")
    path = edit(create(tmp_path / "image", 6 * MIB, backing="base"), "write -P 3 0 512")
    with open_image(path) as image:
        assert image.facts()["backing format"] == "qcow2"
        assert image.read(0, 1024) == b"\3" * 512 + disk.read_bytes()[512:1024]


@pytest.mark.parametrize(
    ("cluster_bits", "l2_bits"), [(9, 6), (9, 13), (12, 9), (13, 13), (16, 6), (16, 9)]
)
def test_other_tables(cluster_bits: int, l2_bits: int, tmp_path: Path) -> None:
    # By ourselves: QEMU reads all, and makes but two.
    cluster = 1 << cluster_bits
    span = cluster << l2_bits
    size = 2 * span + 5 * cluster + 512
    place = 64 * KIB
    content = make_disk(tmp_path / "raw", 8 * cluster, cluster // 2 + 512).read_bytes()
    l1 = [place + 8 * cluster, 0, place + 8 * cluster + (8 << l2_bits)]
    first = [0] * (1 << l2_bits)
    first[1:4] = [place + number * cluster for number in (0, 1, 4)]
    last = [place + number * cluster for number in (2, 3, 5, 6, 7, 0)]
    last += [0] * ((1 << l2_bits) - 6)
    # Magic to size of the backing image's name, time, size; bits; no encryption; the L1 table.
    header = b"QFI\xfb" + struct.pack(
        ">IQIIQBBHIQ", 1, 0, 0, 0, size, cluster_bits, l2_bits, 0, 0, 48
    )
    tables = struct.pack(f">{2 << l2_bits}Q", *first, *last)
    path = tmp_path / "image"
    path.write_bytes((header + struct.pack(">3Q", *l1)).ljust(place, b"\0") + content + tables)
    check(path, tmp_path)
    with open_image(path) as image:
        assert image.read(cluster, 2 * cluster) == content[: 2 * cluster]
        assert image.read(2 * span, cluster) == content[2 * cluster : 3 * cluster]


@pytest.mark.proves("format", "qcow", "AES encryption")
def test_encryption(disk: Path, tmp_path: Path) -> None:
    path = create_encrypted(
        tmp_path / "image",
        "qcow",
        5 * MIB + 3 * 512,
        "encrypt.format=aes,encrypt.key-secret=secret",
    )
    fill_encrypted(disk, path, "qcow,encrypt.format=aes", "encrypt.key-secret")
    asked = []

    def answer(what: str) -> bytes:
        asked.append(what)
        return PASSPHRASE.encode()

    with open_image(path, choices=Choices(ask_passphrase=answer)) as image:
        assert image.facts()["encryption"] == "AES-128-CBC"
        list(image.extents(0, image.size))
        assert not asked
        check_image(image, disk)
    assert asked == [str(path)]
    assert refused(path, ImageError).code == "image.passphrase-needed"


def test_a_large_disk(tmp_path: Path) -> None:
    size = 1 << 46
    # L2 tables of 64 KiB for clusters of 64 KiB: 512 MiB each, and 1 MiB of L1 table.
    path = create(tmp_path / "image", "1M")
    change(path, 24, struct.pack(">QBB", size, 16, 13))
    change(path, 40, struct.pack(">Q", 64 * KIB))
    with path.open("r+b") as file:
        file.truncate(64 * KIB + (size >> 29) * 8)
    edit(path, f"write -P 7 {size - 512} 512")
    with open_image(path) as image:
        assert image.size == size
        assert image.read(size - 600, 600) == bytes(88) + b"\7" * 512
        assert len(list(image.extents(0, size))) == 2


@pytest.mark.parametrize(
    ("offset", "content", "kind"),
    [
        (0, b"QFIX", CorruptImage),
        (4, struct.pack(">I", 2), UnsupportedFeature),
        (8, struct.pack(">QI", 100, 1024), CorruptImage),
        (8, struct.pack(">QI", 1 << 40, 10), CorruptImage),
        (24, struct.pack(">Q", 1), CorruptImage),
        (24, struct.pack(">Q", 1 << 62), CorruptImage),
        (24, b"\xff" * 8, CorruptImage),
        (32, b"\x08", CorruptImage),
        (32, b"\x11", CorruptImage),
        (33, b"\x05", CorruptImage),
        (33, b"\x0e", CorruptImage),
        (36, struct.pack(">I", 2), UnsupportedFeature),
        (40, struct.pack(">Q", 1 << 40), CorruptImage),
        (40, b"\xff" * 8, CorruptImage),
    ],
)
def test_headers_that_cannot_be(
    offset: int, content: bytes, kind: type[ImageError], tmp_path: Path
) -> None:
    refused(change(create(tmp_path / "image", "1M"), offset, content), kind)


@pytest.mark.parametrize(
    "number", [1 << 40, COMPRESSED, COMPRESSED | 1 << 51 | 1 << 40, COMPRESSED | 0xFFF << 51]
)
def test_entries_that_cannot_be(number: int, tmp_path: Path) -> None:
    path = edit(create(tmp_path / "image", "1M"), "write -P 7 0 1M")
    entry = field(path, field(path, 40)) + 3 * 8
    change(path, entry, struct.pack(">Q", number))
    refused(path, CorruptImage)
    with open_image(path) as image:
        assert image.read(0, 3 * 4096) == b"\7" * 3 * 4096
    change(path, field(path, 40), struct.pack(">Q", 1 << 40))
    assert refused(path, CorruptImage).params["structure"] == "L2 table"


def test_loops_are_refused(tmp_path: Path) -> None:
    refused(create(tmp_path / "image", "1M", backing="image"), CorruptImage)


@pytest.mark.proves("format", "qcow", "damage gives typed errors")
def test_damage(disk: Path, tmp_path: Path) -> None:
    make_empty(tmp_path / "base", MIB)
    path = create(tmp_path / "image", 2 * MIB, backing="base")
    edit(path, "write -P 1 0 100k", "write -c -P 2 200k 512", "write -P 3 1M 512k")
    l1 = field(path, 40)
    check_damaged(path, tmp_path, [(0, 64), (l1, 8), (field(path, l1), 4096)])
