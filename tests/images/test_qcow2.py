# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""QCOW2 images by QEMU, and what it does not write by changes to these."""

from __future__ import annotations

import random
import shutil
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import (
    CorruptImage,
    Encrypted,
    ImageError,
    MissingPart,
    UnsupportedFeature,
)
from explorer.core.extents import ExtentKind
from explorer.images.opening import Choices
from explorer.images.registry import open_image
from tests.images.checks import check_damaged, check_described, check_extents, check_image
from tests.images.content import convert, convert_back, make_disk
from tests.images.encrypted import PASSPHRASE, SECRET, create_encrypted, fill_encrypted, make_luks1
from tests.trees import make_empty, noise, run_tool
from tests.volumes.truth import IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from explorer.images.base import Image

KIB = 1 << 10
MIB = 1 << 20

COPIED = 1 << 63
COMPRESSED = 1 << 62


def create(path: Path, size: int | str, *options: str, backing: str = "", kind: str = "") -> Path:
    """An empty image by qemu-img; ``backing`` as it shall be named, of format ``kind``."""
    given = ["-o", ",".join(options)] if options else []
    behind = ["-b", backing, "-F", kind] if backing else []
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", *given, *behind, str(path), str(size))
    return path


def edit(path: Path, *commands: str, kind: str = "qcow2") -> Path:
    """Change an image by commands of qemu-io."""
    run_tool(
        "qemu-io", "-f", kind, *(part for line in commands for part in ("-c", line)), str(path)
    )
    return path


def change(path: Path, offset: int, content: bytes) -> Path:
    """Overwrite bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)
    return path


def field(path: Path, offset: int, form: str = ">Q") -> int:
    """A number in a file."""
    with path.open("rb") as file:
        file.seek(offset)
        (value,) = struct.unpack(form, file.read(struct.calcsize(form)))
    return int(value)


def entry_of(path: Path, cluster: int, *, width: int = 8) -> int:
    """Where the L2 entry of one of the first clusters is."""
    return (field(path, field(path, 40)) & ~COPIED) + cluster * width


def check(path: Path, tmp_path: Path, choices: Choices | None = None) -> None:
    """An image reads as qemu-img reads it."""
    expected = convert_back(path, tmp_path / f"{path.name}.expected", "qcow2")
    with open_image(path, choices=choices) as image:
        assert image.format == "qcow2"
        check_image(image, expected)


def refused(
    path: Path, kind: type[ImageError], choices: Choices | None = None, *, read: bool = False
) -> ImageError:
    """Opening an image fails, or reading all of it does."""
    with pytest.raises(kind) as caught:
        image = open_image(path, choices=choices)
        with image:
            assert read
            for offset in range(0, image.size, MIB):
                image.read(offset, MIB)
    check_described(caught.value)
    return caught.value


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five MiB and some sectors, with holes; partly such as can be compressed."""
    path = make_disk(tmp_path_factory.mktemp("disk") / "raw", 5 * MIB + 3 * 512, 300_000)
    change(path, 2 * MIB, b"all the same " * 80_000)
    return path


# ---- Clusters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(9, 22))
@pytest.mark.parametrize("compressed", [False, True])
def test_each_cluster_size(bits: int, compressed: bool, disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    given = ["-c"] if compressed else []
    options = f"cluster_size={1 << bits}"
    run_tool("qemu-img", "convert", *given, "-O", "qcow2", "-o", options, str(disk), str(path))
    with open_image(path) as image:
        assert image.facts()["cluster size"] == 1 << bits
        kinds = {extent.kind for extent in image.extents(0, image.size)}
        assert (ExtentKind.ENCODED in kinds) == compressed
        check_image(image, disk)


@pytest.mark.parametrize("bits", [9, 16, 21])
@pytest.mark.parametrize("compressed", [False, True])
def test_version_2(bits: int, compressed: bool, disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    given = ["-c"] if compressed else []
    options = f"compat=0.10,cluster_size={1 << bits}"
    run_tool("qemu-img", "convert", *given, "-O", "qcow2", "-o", options, str(disk), str(path))
    with open_image(path) as image:
        assert image.facts()["version"] == 2
        check_image(image, disk)


@pytest.mark.parametrize("bits", [9, 12, 16, 21])
def test_zstd(bits: int, disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    options = f"compression_type=zstd,cluster_size={1 << bits}"
    run_tool("qemu-img", "convert", "-c", "-O", "qcow2", "-o", options, str(disk), str(path))
    with open_image(path) as image:
        assert image.facts()["compression"] == "zstd"
        check_image(image, disk)


@pytest.mark.parametrize("bits", range(14, 22))
@pytest.mark.parametrize("compression", ["", "zlib", "zstd"])
def test_subclusters(bits: int, compression: str, disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    given = ["-c"] if compression else []
    options = f"extended_l2=on,cluster_size={1 << bits},compression_type={compression or 'zlib'}"
    run_tool("qemu-img", "convert", *given, "-O", "qcow2", "-o", options, str(disk), str(path))
    with open_image(path) as image:
        assert image.facts()["subclusters"] is True
        check_image(image, disk)


def some_changes(
    chance: random.Random, size: int, cluster: int, *, compressed: int = 3
) -> Iterator[str]:
    """Commands of qemu-io that leave clusters of every kind."""
    # Compressed ones can only be written where nothing is yet.
    for number in chance.sample(range(size // cluster), compressed):
        yield f"write -c -P {chance.randrange(256)} {number * cluster} {cluster}"
    for _ in range(20):
        unit = chance.choice((512, 2048, 4096, cluster))
        start = chance.randrange(size // unit) * unit
        length = min(chance.choice((512, 5 * 512, cluster, 3 * cluster)), size - start)
        command = chance.choice(
            ("write -P 7", "write -P 201", "write -z", "write -z -u", "discard")
        )
        yield f"{command} {start} {length}"


@pytest.mark.parametrize("backed", [False, True])
@pytest.mark.parametrize(
    ("cluster", "options"),
    [
        (512, ("compat=1.1",)),
        (4096, ("compat=0.10",)),
        (64 * KIB, ("compat=1.1",)),
        (64 * KIB, ("extended_l2=on",)),
        (16 * KIB, ("extended_l2=on", "compression_type=zstd")),
        (256 * KIB, ("extended_l2=on", "preallocation=metadata")),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_all_kinds_of_clusters(
    cluster: int, options: tuple[str, ...], backed: bool, seed: int, disk: Path, tmp_path: Path
) -> None:
    size = 5 * MIB
    behind = {"backing": str(disk), "kind": "raw"} if backed else {}
    path = create(tmp_path / "image", size, f"cluster_size={cluster}", *options, **behind)
    compressed = 0 if "preallocation=metadata" in options else 3
    edit(path, *some_changes(random.Random(seed), size, cluster, compressed=compressed))
    check(path, tmp_path, Choices(allowed=(bytes(disk.parent),)))
