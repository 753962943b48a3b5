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
from explorer.core.extents import Extent, ExtentKind
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


KIB = 1 << 10
MIB = 1 << 20

COPIED = 1 << 63
COMPRESSED = 1 << 62


def create(path: Path, size: int | str, *options: str, backing: str = "", kind: str = "") -> Path:
    """An empty image by qemu-img; it names ``backing``, unseen, of format ``kind``."""
    given = ["-o", ",".join(options)] if options else []
    behind = ["-u", "-b", backing, "-F", kind] if backing else []
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


def copy_of(path: Path, target: Path) -> Path:
    """A copy to change."""
    shutil.copy(path, target)
    return target


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


def open_and_read(path: Path, choices: Choices | None, *, read: bool) -> None:
    """Open an image; reading all of it is an error of the test's unless ``read``."""
    with open_image(path, choices=choices) as image:
        assert read
        for offset in range(0, image.size, MIB):
            image.read(offset, MIB)


def refused(
    path: Path, kind: type[ImageError], choices: Choices | None = None, *, read: bool = False
) -> ImageError:
    """Opening an image fails, or reading all of it does."""
    with pytest.raises(kind) as caught:
        open_and_read(path, choices, read=read)
    check_described(caught.value)
    return caught.value


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five MiB and some sectors, with holes; partly such as can be compressed."""
    path = make_disk(tmp_path_factory.mktemp("disk") / "raw", 5 * MIB + 3 * 512, 300_000)
    change(path, 2 * MIB, b"all the same " * 80_000)
    return path


# ---- Clusters ------------------------------------------------------------------------------------


@pytest.mark.proves("format", "qcow2", "every cluster size, 512 B to 2 MiB; zlib clusters")
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


@pytest.mark.proves("format", "qcow2", "version 2")
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


@pytest.mark.proves("format", "qcow2", "zstd clusters")
@pytest.mark.parametrize("bits", [9, 12, 16, 21])
def test_zstd(bits: int, disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    options = f"compression_type=zstd,cluster_size={1 << bits}"
    run_tool("qemu-img", "convert", "-c", "-O", "qcow2", "-o", options, str(disk), str(path))
    with open_image(path) as image:
        assert image.facts()["compression"] == "zstd"
        check_image(image, disk)


@pytest.mark.proves("format", "qcow2", "extended L2 entries (subclusters)")
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


@pytest.mark.proves("format", "qcow2", "zero, discarded and allocated clusters")
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


# ---- Sizes ---------------------------------------------------------------------------------------


@pytest.mark.proves("format", "qcow2", "the largest disks (2 EiB)")
@pytest.mark.parametrize("bits", [11, 16, 21])
def test_the_largest_disk(bits: int, tmp_path: Path) -> None:
    # What 32 MiB of L1 table describe: the largest that QEMU makes.
    cluster = 1 << bits
    size = (4 * MIB) * (cluster // 8) * cluster
    path = create(tmp_path / "image", size, f"cluster_size={cluster}")
    edit(path, f"write -P 7 {size - 512} 512", f"write -P 9 {size // 2 - 512} 1024")
    begun = time.process_time()
    with open_image(path) as image:
        assert image.size == size
        assert image.read(size - 513, 513) == b"\0" + b"\7" * 512
        assert image.read(size // 2 - 513, 1026) == b"\0" + b"\x09" * 1024 + b"\0"
        (first,) = islice(image.pieces(0, size), 1)
        assert (first.place, first.length) == (None, (size // 2 - 512) // cluster * cluster)
        check_extents(image, image.read)
    assert time.process_time() - begun < 5
    # One more byte of disk, and the table is too small.
    change(path, 24, struct.pack(">Q", size + 1))
    assert "L1 table" in str(refused(path, CorruptImage))
    change(path, 24, struct.pack(">QII", size, 0, 4 * MIB + 1))
    assert "L1 table" in str(refused(path, CorruptImage))


@pytest.mark.parametrize("size", [1, 511, 513, 64 * KIB - 1, 64 * KIB + 1])
@pytest.mark.parametrize("options", [(), ("extended_l2=on",)])
def test_a_disk_of_any_number_of_bytes(size: int, options: tuple[str, ...], tmp_path: Path) -> None:
    # QEMU makes whole sectors; the field counts bytes.
    path = create(tmp_path / "image", 128 * KIB, *options)
    edit(path, f"write -P 7 0 {128 * KIB}")
    change(path, 24, struct.pack(">Q", size))
    raw = tmp_path / "raw"
    raw.write_bytes(b"\7" * size)
    with open_image(path) as image:
        check_image(image, raw)


def test_a_disk_of_no_bytes(tmp_path: Path) -> None:
    with open_image(create(tmp_path / "image", 0)) as image:
        assert image.size == 0
        assert image.read(0, 10) == b""
        assert list(image.extents(0, 0)) == []


def test_a_whole_disk_is_mapped_at_once(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "10G", "preallocation=metadata")
    with open_image(path) as image:
        begun = time.process_time()
        extents = list(image.extents(0, image.size))
        assert time.process_time() - begun < 1
        # QEMU puts an L2 table between.
        assert len(extents) == 20
        assert {extent.kind for extent in extents} == {ExtentKind.DATA}


def test_many_threads_read(disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "image"
    run_tool("qemu-img", "convert", "-c", "-O", "qcow2", str(disk), str(path))
    content = disk.read_bytes()
    with open_image(path) as image, ThreadPoolExecutor(8) as pool:

        def read(seed: int) -> bool:
            chance = random.Random(seed)
            start = chance.randrange(len(content) - 100_000)
            return image.read(start, 100_000) == content[start : start + 100_000]

        assert all(pool.map(read, range(200)))


# ---- Backing images ------------------------------------------------------------------------------


@pytest.mark.proves("format", "qcow2", "backing chains, of raw, qcow and qcow2")
def test_a_chain_of_formats(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir()
    base = tmp_path / "layers" / "base.raw"
    # Not a whole number of clusters or sectors.
    base.write_bytes(disk.read_bytes()[: MIB + 1000])
    old = tmp_path / "layers" / "old.qcow"
    run_tool("qemu-img", "create", "-qf", "qcow", "-b", "base.raw", "-F", "raw", str(old), "2M")
    edit(old, "write -P 11 100k 50k", kind="qcow")
    middle = create(
        tmp_path / "layers" / "middle", "3M", "cluster_size=4k", backing="old.qcow", kind="qcow"
    )
    edit(middle, "write -P 12 1100k 400k", "write -z 200k 64k", "write -c -P 13 2900k 4k")
    top = create(
        tmp_path / "top",
        "4M",
        "compat=1.1,extended_l2=on",
        backing="layers/middle",
        kind="qcow2",
    )
    edit(top, "write -P 14 1000k 3k", "write -z 2900k 2k", "write -P 15 3500k 10k")
    check(top, tmp_path)
    with open_image(top) as image:
        facts = image.facts()
        assert (facts["backing image"], facts["backing format"]) == ("layers/middle", "qcow2")
        parents = []
        parent = image.parent
        while parent is not None:
            parents.append((parent.format, parent.size))
            parent = parent.parent
    assert parents == [("qcow2", 3 * MIB), ("qcow", 2 * MIB), ("raw", MIB + 1000)]


@pytest.mark.proves("format", "qcow2", "backing chains, of raw, qcow and qcow2")
@pytest.mark.parametrize("kind", ["raw", "qcow2", "vmdk", "vpc", "vdi", "vhdx"])
def test_backing_formats(kind: str, disk: Path, tmp_path: Path) -> None:
    base = convert(disk, tmp_path / "base", kind)
    top = create(tmp_path / "image", 6 * MIB, backing="base", kind=kind)
    edit(top, "write -P 14 1000k 3k")
    check(top, tmp_path)
    assert base.exists()


def without_format(path: Path) -> Path:
    """The extension with the backing image's format becomes one that nobody knows."""
    at = path.read_bytes().index(struct.pack(">I", 0xE2792ACA))
    return change(path, at, b"none")


def test_a_format_that_is_not_told_is_recognised(disk: Path, tmp_path: Path) -> None:
    convert(disk, tmp_path / "base", "qcow2")
    path = without_format(create(tmp_path / "image", 5 * MIB, backing="base", kind="raw"))
    with open_image(path) as image:
        assert image.facts()["backing format"] == "qcow2"
        check_extents(image, image.read)
    check(path, tmp_path)


def test_a_format_that_is_told_is_believed(disk: Path, tmp_path: Path) -> None:
    # The guest could have written a header that names files of the host.
    base = convert(disk, tmp_path / "base", "qcow2")
    path = create(tmp_path / "image", 5 * MIB, backing="base", kind="raw")
    with open_image(path) as image:
        assert image.read(0, 8) == b"QFI\xfb\0\0\0\3"
        assert image.parent is not None
        assert image.parent.size == base.stat().st_size


@pytest.mark.proves("format", "qcow2", "files elsewhere only with consent")
def test_a_backing_image_elsewhere_needs_consent(disk: Path, tmp_path: Path) -> None:
    path = create(tmp_path / "image", 5 * MIB, backing=str(disk), kind="raw")
    error = refused(path, UnsupportedFeature)
    assert error.code == "image.consent"
    check(path, tmp_path, Choices(allowed=(bytes(disk.parent),)))
    change(path, field(path, 8), b"file:/" + bytes(disk)[6:])
    assert refused(path, UnsupportedFeature).code == "image.consent"


def test_a_path_with_a_protocol(disk: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("file:base", "file:./base", "./a:b")):
        copy_of(disk, tmp_path / name.rpartition("file:")[2])
        size = disk.stat().st_size
        path = create(tmp_path / f"image {number}", size, backing=name, kind="raw")
        with open_image(path) as image:
            check_image(image, disk)
    for number, name in enumerate(("nbd:base", "nbd://server/base", "json:{}", "a\x1b:b")):
        path = create(tmp_path / f"refused {number}", MIB, backing=name, kind="raw")
        text = str(refused(path, UnsupportedFeature))
        assert f"{name[0]}" in text
        assert "\x1b" not in text


def test_a_backing_image_that_is_not_there(tmp_path: Path) -> None:
    make_empty(tmp_path / "base", MIB)
    path = create(tmp_path / "image", MIB, backing="base", kind="raw")
    (tmp_path / "base").unlink()
    assert refused(path, MissingPart).params["name"] == "base"


@pytest.mark.proves("format", "qcow2", "loops refused")
def test_loops_are_refused(tmp_path: Path) -> None:
    first = create(tmp_path / "first", MIB, backing="second", kind="qcow2")
    create(tmp_path / "second", MIB, backing="first", kind="qcow2")
    refused(first, CorruptImage)
    refused(create(tmp_path / "itself", MIB, backing="itself", kind="qcow2"), CorruptImage)


@pytest.mark.parametrize("name", [b"luks", b"qed\0", b"\xff\n\0\0"])
def test_a_backing_format_that_is_not_known(name: bytes, tmp_path: Path) -> None:
    make_empty(tmp_path / "base", MIB)
    path = create(tmp_path / "image", MIB, backing="base", kind="vhdx")
    refused(change(path, path.read_bytes().index(b"vhdx"), name), UnsupportedFeature)


def test_a_backing_name_that_cannot_be(tmp_path: Path) -> None:
    make_empty(tmp_path / "base", MIB)
    path = create(tmp_path / "image", MIB, backing="base", kind="raw")
    start = field(path, 8)
    change(path, 16, struct.pack(">I", 1024))
    refused(path, CorruptImage)
    change(path, 8, struct.pack(">QI", 64 * KIB + 1, 4))
    refused(path, CorruptImage)
    change(path, 8, struct.pack(">QI", start, 0))
    with open_image(path) as image:
        assert image.parent is None


# ---- Snapshots -----------------------------------------------------------------------------------


@pytest.fixture
def with_snapshots(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """An image with snapshots, and by name what a disk was when it was taken."""
    path = create(tmp_path / "image", "4M")
    kept = {}
    edit(path, "write -P 1 0 2M", "write -c -P 2 2M 64k")
    for name, size in (("before", "8M"), ("zw ei", "3M"), ("3", None)):
        kept[name] = convert_back(path, tmp_path / f"raw of {name}", "qcow2")
        run_tool("qemu-img", "snapshot", "-c", name, str(path))
        if size is not None:
            run_tool("qemu-img", "resize", "-q", "--shrink", "-f", "qcow2", str(path), size)
        edit(path, f"write -P {3 + len(kept)} 1M {len(kept)}00k", "write -z 0 100k")
    return path, kept


@pytest.mark.proves("format", "qcow2", "internal snapshots, listed and opened")
def test_snapshots_are_listed_and_opened(
    with_snapshots: tuple[Path, dict[str, Path]], tmp_path: Path
) -> None:
    path, kept = with_snapshots
    check(path, tmp_path)
    with open_image(path) as image:
        listed = image.facts()["snapshots"]
        assert isinstance(listed, list)
    assert [line.partition(" (")[0] for line in listed] == ["1: before", "2: zw ei", "3: 3"]
    assert "disk of 8388608 bytes" in listed[1]
    for number, (name, raw) in enumerate(kept.items(), 1):
        for wanted in (name, str(number)):
            with open_image(path, choices=Choices(snapshot=wanted)) as image:
                check_image(image, raw)
                assert image.facts()["opened snapshot"] == listed[number - 1]


def test_a_snapshot_that_is_not_there(with_snapshots: tuple[Path, dict[str, Path]]) -> None:
    path, _kept = with_snapshots
    error = refused(path, UnsupportedFeature, Choices(snapshot="4"))
    assert error.code == "image.snapshot-missing"
    assert error.params["wanted"] == "4"
    assert "2 (zw ei)" in str(error.params["known"])


def test_a_number_goes_before_a_name(tmp_path: Path) -> None:
    path = edit(create(tmp_path / "image", "1M"), "write -P 1 0 64k")
    run_tool("qemu-img", "snapshot", "-c", "2", str(path))
    edit(path, "write -P 2 0 64k")
    run_tool("qemu-img", "snapshot", "-c", "1", str(path))
    edit(path, "write -P 3 0 64k")
    for wanted, content in (("1", b"\1"), ("2", b"\2")):
        with open_image(path, choices=Choices(snapshot=wanted)) as image:
            assert image.read(0, 1) == content


@pytest.mark.proves("format", "qcow2", "internal snapshots, listed and opened")
def test_snapshots_of_an_old_image(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "1M", "compat=0.10")
    edit(path, "write -P 1 0 1M")
    run_tool("qemu-img", "snapshot", "-c", "one", str(path))
    edit(path, "write -P 2 0 64k")
    raw = tmp_path / "raw"
    raw.write_bytes(b"\1" * MIB)
    with open_image(path, choices=Choices(snapshot="one")) as image:
        check_image(image, raw)
    # Before QEMU 1.1 there was no extra data, and so the disk's size not with the snapshot.
    table = field(path, 64)
    entry = path.read_bytes()[table : table + 40]
    change(path, table, entry[:36] + struct.pack(">I", 0) + b"1one")
    with open_image(path, choices=Choices(snapshot="one")) as image:
        check_image(image, raw)


def test_a_snapshot_with_a_short_table_was_empty_there(tmp_path: Path) -> None:
    path = edit(create(tmp_path / "image", "64k", "cluster_size=512"), "write -P 1 0 64k")
    run_tool("qemu-img", "snapshot", "-c", "one", str(path))
    table = field(path, 64)
    change(path, table + 8, struct.pack(">I", 1))
    raw = tmp_path / "raw"
    raw.write_bytes(b"\1" * 32 * KIB + bytes(32 * KIB))
    with open_image(path, choices=Choices(snapshot="one")) as image:
        check_image(image, raw)
    change(path, table + 48, struct.pack(">Q", 1 << 63))
    refused(path, CorruptImage, Choices(snapshot="one"))


def test_a_state_of_the_machine_is_told(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "1M")
    run_tool("qemu-img", "snapshot", "-c", "one", str(path))
    change(path, field(path, 64) + 40, struct.pack(">Q", 12345))
    with open_image(path) as image:
        assert "12345 bytes of machine state" in str(image.facts()["snapshots"])


# ---- Data files ----------------------------------------------------------------------------------


@pytest.mark.proves("format", "qcow2", "external data file, also raw")
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("more", ["", ",extended_l2=on"])
def test_a_data_file(raw: bool, more: str, disk: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    path = convert(
        disk,
        tmp_path / "image",
        "qcow2",
        f"data_file={data},data_file_raw={'on' if raw else 'off'}{more}",
    )
    edit(path, "write -P 7 1000k 3k", "write -z 100k 300k", "discard 2000k 200k")
    check(path, tmp_path)
    with open_image(path) as image:
        assert image.facts()["data file"] == str(data)
        assert image.facts()["raw data file"] is raw
        if raw:
            # QEMU lets it end with a cluster.
            assert image.read(0, image.size) == data.read_bytes()[: image.size]


def test_a_data_file_by_a_relative_name(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "1M", f"data_file={tmp_path}/data")
    edit(path, "write -P 7 0 100k")
    at = path.read_bytes().index(struct.pack(">I", 0x44415441))
    length = field(path, at + 4, ">I")
    change(path, at + 8, b".".ljust(length - 4, b"/") + b"data")
    with open_image(path) as image:
        assert image.read(0, 100 * KIB) == b"\7" * 100 * KIB
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert str(refused(path, MissingPart).params["name"]).endswith("/data")
    change(path, at, b"none")
    refused(path, MissingPart)


@pytest.mark.proves("format", "qcow2", "files elsewhere only with consent")
def test_a_data_file_elsewhere_needs_consent(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("elsewhere")
    path = create(tmp_path / "image", "1M", f"data_file={folder}/data")
    edit(path, "write -P 7 0 100k")
    assert refused(path, UnsupportedFeature).code == "image.consent"
    with open_image(path, choices=Choices(allowed=(bytes(folder),))) as image:
        assert image.read(0, 1) == b"\7"


@pytest.mark.proves("format", "qcow2", "external data file, also raw")
def test_tables_that_contradict_a_data_file(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "1M", f"data_file={tmp_path}/data")
    edit(path, f"write -P 7 0 {MIB}")
    entry = entry_of(path, 3)
    for number in (COPIED | 2 * 64 * KIB, COMPRESSED | 64 * KIB, COPIED | 3 * 64 * KIB + 512):
        change(path, entry, struct.pack(">Q", number))
        assert refused(path, CorruptImage, read=True).params["offset"] == entry


def test_a_cut_data_file(tmp_path: Path) -> None:
    for raw in ("off", "on"):
        path = create(tmp_path / raw, "1M", f"data_file={tmp_path}/data,data_file_raw={raw}")
        edit(path, f"write -P 7 0 {MIB}")
        with (tmp_path / "data").open("r+b") as file:
            file.truncate(100_000)
        error = refused(path, CorruptImage, read=True)
        assert "data" in str(error)
        with open_image(path) as image:
            assert image.read(0, 100_000) == b"\7" * 100_000
            with pytest.raises(CorruptImage):
                image.read(0, 100_001)


# ---- Encryption ----------------------------------------------------------------------------------


def ask(*answers: bytes | None) -> Choices:
    """Choices that answer each question for a passphrase once."""
    left = list(answers)
    return Choices(ask_passphrase=lambda _what: left.pop(0))


KNOWN = PASSPHRASE.encode()


@pytest.fixture(scope="module")
def luks_by_qemu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty image with a LUKS header."""
    return create_encrypted(
        tmp_path_factory.mktemp("luks") / "image",
        "qcow2",
        5 * MIB + 3 * 512,
        "encrypt.format=luks,encrypt.key-secret=secret",
        # The slowest, so that QEMU can measure it.
        "encrypt.hash-alg=ripemd160,encrypt.iter-time=10",
    )


def with_header(image: Path, target: Path, *options: str) -> Path:
    """A copy with another LUKS header, by cryptsetup: the data is encrypted by QEMU later."""
    header = make_luks1(target.with_suffix(".luks"), KNOWN, *options).read_bytes()
    copy_of(image, target)
    return change(target, luks_place(target), header[: 4096 + 8 * 252 * KIB])


def luks_place(path: Path) -> int:
    """Where the LUKS header of an image is."""
    return path.read_bytes().index(b"LUKS\xba\xbe")


@pytest.fixture(scope="module")
def luks(luks_by_qemu: Path) -> Path:
    """An empty image that is quickly unlocked."""
    return with_header(luks_by_qemu, luks_by_qemu.with_name("quick"), "--key-size=512")


def fill_luks(raw: Path, path: Path, *commands: str) -> Path:
    """Have QEMU write into an encrypted image: a whole disk, then what commands say."""
    fill_encrypted(raw, path, "qcow2,encrypt.format=luks", "encrypt.key-secret")
    options = f"driver=qcow2,encrypt.format=luks,encrypt.key-secret=secret,file.filename={path}"
    lines = (part for line in commands for part in ("-c", line))
    if commands:
        run_tool("qemu-io", *SECRET, "--image-opts", *lines, options)
    return path


def decrypted(path: Path, raw: Path, method: str = "luks", kind: str = "qcow2") -> Path:
    """What QEMU reads of an encrypted image."""
    options = (
        f"driver={kind},encrypt.format={method},encrypt.key-secret=secret,file.filename={path}"
    )
    run_tool("qemu-img", "convert", *SECRET, "--image-opts", "-O", "raw", options, str(raw))
    return raw


@pytest.mark.proves("format", "qcow2", "LUKS-encrypted payload")
def test_luks_by_qemu(luks_by_qemu: Path, disk: Path, tmp_path: Path) -> None:
    path = copy_of(luks_by_qemu, tmp_path / "image")
    fill_luks(disk, path, "write -P 7 1000k 3k", "write -z 100k 300k")
    expected = decrypted(path, tmp_path / "raw")
    with open_image(path, choices=ask(KNOWN)) as image:
        assert image.facts()["encryption"] == "LUKS, aes-xts-plain64, 512 bits"
        check_image(image, expected)


@pytest.mark.proves("format", "qcow2", "LUKS-encrypted payload")
@pytest.mark.parametrize(
    ("cipher", "bits", "hashed"),
    [
        ("aes-xts-plain64", 256, "sha512"),
        ("aes-xts-plain", 512, "sha256"),
        ("aes-cbc-plain64", 256, "sha1"),
        ("aes-cbc-essiv:sha256", 128, "sha256"),
        ("aes-cbc-essiv:sha256", 256, "sha1"),
    ],
)
def test_luks_with_other_ciphers(
    cipher: str, bits: int, hashed: str, luks_by_qemu: Path, disk: Path, tmp_path: Path
) -> None:
    options = (f"--cipher={cipher}", f"--key-size={bits}", f"-h{hashed}")
    path = with_header(luks_by_qemu, tmp_path / "image", *options)
    fill_luks(disk, path)
    with open_image(path, choices=ask(KNOWN)) as image:
        assert image.facts()["encryption"] == f"LUKS, {cipher}, {bits} bits"
        check_image(image, disk)


def test_luks_with_subclusters_before_a_backing_image(disk: Path, tmp_path: Path) -> None:
    shutil.copy(disk, tmp_path / "base")
    path = create_encrypted(
        tmp_path / "by qemu",
        "qcow2",
        5 * MIB,
        "encrypt.format=luks,encrypt.key-secret=secret",
        "encrypt.hash-alg=ripemd160,encrypt.iter-time=10",
        "extended_l2=on,backing_file=base,backing_fmt=raw",
    )
    path = with_header(path, tmp_path / "image", "--key-size=512")
    options = f"driver=qcow2,encrypt.format=luks,encrypt.key-secret=secret,file.filename={path}"
    changes = some_changes(random.Random(1), 5 * MIB, 64 * KIB, compressed=0)
    lines = (part for line in changes for part in ("-c", line))
    run_tool("qemu-io", *SECRET, "--image-opts", *lines, options)
    with open_image(path, choices=ask(KNOWN)) as image:
        check_image(image, decrypted(path, tmp_path / "raw"))


@pytest.mark.proves("format", "qcow2", "LUKS-encrypted payload")
def test_luks_in_a_data_file(disk: Path, tmp_path: Path) -> None:
    path = create_encrypted(
        tmp_path / "by qemu",
        "qcow2",
        5 * MIB + 3 * 512,
        "encrypt.format=luks,encrypt.key-secret=secret",
        "encrypt.hash-alg=ripemd160,encrypt.iter-time=10",
        f"data_file={tmp_path}/data,data_file_raw=on",
    )
    path = with_header(path, tmp_path / "image", "--key-size=512")
    fill_luks(disk, path)
    with open_image(path, choices=ask(KNOWN)) as image:
        check_image(image, disk)


def test_a_key_of_another_slot(luks: Path, disk: Path, tmp_path: Path) -> None:
    path = copy_of(luks, tmp_path / "image")
    fill_luks(disk, path)
    place = luks_place(path)
    header = tmp_path / "header"
    header.write_bytes(path.read_bytes()[place : place + 3 * MIB].ljust(3 * MIB, b"\0"))
    for name, passphrase in (("known", KNOWN), ("new", b"another\0")):
        (tmp_path / name).write_bytes(passphrase)
    run_tool(
        "cryptsetup",
        "luksAddKey",
        "--batch-mode",
        "--pbkdf-force-iterations=1000",
        "--key-slot=5",
        f"--key-file={tmp_path}/known",
        str(header),
        str(tmp_path / "new"),
    )
    change(path, place, header.read_bytes()[: 4096 + 8 * 252 * KIB])
    with open_image(path, choices=ask(b"another\0")) as image:
        check_image(image, disk)


@pytest.mark.proves("format", "qcow2", "passphrase asked only when read")
def test_a_passphrase_is_asked_for_once_and_late(luks: Path, disk: Path, tmp_path: Path) -> None:
    path = fill_luks(disk, copy_of(luks, tmp_path / "image"))
    asked = []

    def answer(what: str) -> bytes:
        asked.append(what)
        return KNOWN

    with open_image(path, choices=Choices(ask_passphrase=answer)) as image:
        image.facts()
        extents = list(image.extents(0, image.size))
        assert ExtentKind.ENCODED in {extent.kind for extent in extents}
        assert not asked
        with ThreadPoolExecutor(4) as pool:
            read = pool.map(lambda offset: image.read(offset, 1), range(0, image.size, 99_999))
            assert b"".join(read) == disk.read_bytes()[::99_999]
    assert asked == [str(path)]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"falsch", "image.passphrase-wrong"),
        (b"", "image.passphrase-wrong"),
        (None, "image.passphrase-needed"),
    ],
)
def test_a_passphrase_that_is_wrong(
    answer: bytes | None, code: str, luks: Path, disk: Path, tmp_path: Path
) -> None:
    path = fill_luks(disk, copy_of(luks, tmp_path / "image"))
    # A second question would find no answer, and fail.
    with open_image(path, choices=ask(answer)) as image:
        for _ in range(3):
            with pytest.raises(Encrypted) as caught:
                image.read(0, 10)
            assert caught.value.code == code
            check_described(caught.value)
    if answer is None:
        assert refused(path, Encrypted, read=True).code == code


@pytest.mark.parametrize("size", [5 * MIB + 3 * 512 - 200, 5 * MIB + 1])
def test_a_last_sector_in_part(size: int, luks: Path, disk: Path, tmp_path: Path) -> None:
    path = fill_luks(disk, copy_of(luks, tmp_path / "image"), "write -P 7 5M 1536")
    change(path, 24, struct.pack(">Q", size))
    raw = decrypted(path, tmp_path / "raw").read_bytes()
    expected = tmp_path / "expected"
    expected.write_bytes(raw.ljust(size, b"\7"))
    with open_image(path, choices=ask(KNOWN)) as image:
        check_image(image, expected)


@pytest.mark.proves("format", "qcow2", "AES-encrypted payload (old)")
def test_the_old_encryption(disk: Path, tmp_path: Path) -> None:
    for version in ("0.10", "1.1"):
        path = create_encrypted(
            tmp_path / version,
            "qcow2",
            5 * MIB + 3 * 512,
            f"compat={version},encrypt.format=aes,encrypt.key-secret=secret",
        )
        fill_encrypted(disk, path, "qcow2,encrypt.format=aes", "encrypt.key-secret")
        with open_image(path, choices=ask(KNOWN)) as image:
            assert image.facts()["encryption"] == "AES-128-CBC"
            check_image(image, disk)
        # Only 16 bytes of the passphrase count; which is the right one cannot be told.
        with open_image(path, choices=ask(KNOWN.ljust(16, b"\0") + b"more")) as image:
            assert image.read(0, MIB) == disk.read_bytes()[:MIB]
        with open_image(path, choices=ask(b"falsch")) as image:
            assert image.read(0, MIB) != disk.read_bytes()[:MIB]


@pytest.mark.parametrize(
    ("offset", "content", "kind"),
    [
        (8, b"serpent\0", UnsupportedFeature),
        (40, b"ctr-plain64\0", UnsupportedFeature),
        (72, b"whirlpool\0", UnsupportedFeature),
        (0, b"LUKX", CorruptImage),
        (6, b"\0\2", UnsupportedFeature),
        (108, b"\xff\xff\xff\xff", CorruptImage),
        (208 + 40, b"\xff\xff\xff\xff", CorruptImage),
    ],
)
def test_luks_headers_that_cannot_be_used(
    offset: int, content: bytes, kind: type[ImageError], luks: Path, disk: Path, tmp_path: Path
) -> None:
    path = fill_luks(disk, copy_of(luks, tmp_path / "image"))
    place = luks_place(path)
    change(path, place + offset, content)
    refused(path, kind, ask(KNOWN), read=True)


def test_a_pointer_to_the_encryption_header(luks: Path, tmp_path: Path) -> None:
    path = copy_of(luks, tmp_path / "image")
    at = path.read_bytes().index(struct.pack(">I", 0x0537BE77)) + 8
    start, length = field(path, at), field(path, at + 8)
    for wrong in ((start + 512, length), (start, 591), (1 << 40, length), (start, 0)):
        change(path, at, struct.pack(">QQ", *wrong))
        refused(path, CorruptImage)
    change(path, at, struct.pack(">QQ", start, length))
    change(path, at - 4, struct.pack(">I", 15))
    refused(path, CorruptImage)
    change(path, at - 4, struct.pack(">I", 16))
    for method, kind in ((0, CorruptImage), (1, CorruptImage), (3, CorruptImage)):
        change(path, 32, struct.pack(">I", method))
        refused(path, kind)
    change(path, 32, struct.pack(">I", 2))
    change(path, at - 8, b"none")
    refused(path, CorruptImage)
    change(path, 32, struct.pack(">I", 3))
    refused(path, UnsupportedFeature)


# ---- Header --------------------------------------------------------------------------------------


def test_what_is_told_of_an_image(tmp_path: Path) -> None:
    options = "refcount_bits=64,lazy_refcounts=on,cluster_size=4k"
    with open_image(create(tmp_path / "image", "1M", options)) as image:
        assert image.facts() == {
            "version": 3,
            "cluster size": 4096,
            "compression": "zlib",
            "refcount bits": 64,
            "subclusters": False,
            "dirty": False,
            "corrupt": False,
            "snapshots": [],
        }
    with open_image(create(tmp_path / "image", "1M", "compat=0.10")) as image:
        assert image.facts()["refcount bits"] == 16


@pytest.mark.proves("format", "qcow2", "dirty and corrupt bits")
@pytest.mark.parametrize(("bit", "name"), [(0, "dirty"), (1, "corrupt")])
def test_marks_are_told(bit: int, name: str, disk: Path, tmp_path: Path) -> None:
    path = convert(disk, tmp_path / "image", "qcow2")
    change(path, 72, struct.pack(">Q", 1 << bit))
    with open_image(path) as image:
        assert image.facts()[name] is True
        check_image(image, disk)


@pytest.mark.proves("format", "qcow2", "unknown features refused by name")
def test_unknown_features_are_named(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "1M")
    change(path, 72, struct.pack(">Q", 1 << 5 | 1 << 63))
    text = str(refused(path, UnsupportedFeature))
    assert "incompatible feature 5, incompatible feature 63" in text
    # The table's last entry becomes the name of one of them.
    at = path.read_bytes().index(struct.pack(">I", 0x6803F857))
    entry = at + 8 + field(path, at + 4, ">I") - 48
    change(path, entry, struct.pack(">BB46s", 0, 63, b"time\x1b travel"))
    text = str(refused(path, UnsupportedFeature))
    assert "incompatible feature 5, time" in text
    assert "travel" in text
    assert "\x1b" not in text
    # Those that may be ignored.
    change(path, 72, struct.pack(">QQQ", 0, 1 << 60, 1 << 59))
    with open_image(path) as image:
        assert image.read(0, 1) == b"\0"


@pytest.mark.proves("format", "qcow2", "damage gives typed errors")
@pytest.mark.parametrize(
    ("offset", "content", "kind"),
    [
        (4, struct.pack(">I", 4), UnsupportedFeature),
        (20, struct.pack(">I", 8), CorruptImage),
        (20, struct.pack(">I", 22), CorruptImage),
        (20, b"\xff\xff\xff\xff", CorruptImage),
        (32, struct.pack(">I", 3), UnsupportedFeature),
        (36, struct.pack(">I", 0), CorruptImage),
        (36, struct.pack(">I", 1 << 20), CorruptImage),
        (40, struct.pack(">Q", 512), CorruptImage),
        (40, struct.pack(">Q", 1 << 40), CorruptImage),
        (40, b"\xff" * 8, CorruptImage),
        (60, struct.pack(">IQ", 65537, 0), CorruptImage),
        (60, struct.pack(">IQ", 1, 512), CorruptImage),
        (60, struct.pack(">IQ", 1, 1 << 40), CorruptImage),
        (72, struct.pack(">Q", 1 << 3), CorruptImage),
        (88, struct.pack(">Q", 1 << 1), CorruptImage),
        (96, struct.pack(">I", 7), CorruptImage),
        (100, struct.pack(">I", 103), CorruptImage),
        (100, struct.pack(">I", 64 * KIB + 8), CorruptImage),
        (104, b"\1", CorruptImage),
        (104, b"\2", UnsupportedFeature),
        (116, struct.pack(">I", 64 * KIB), CorruptImage),
    ],
)
def test_headers_that_cannot_be(
    offset: int, content: bytes, kind: type[ImageError], tmp_path: Path
) -> None:
    path = create(tmp_path / "image", "1M")
    refused(change(path, offset, content), kind)


def test_features_that_exclude_others(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "1M", "cluster_size=8k")
    change(path, 72, struct.pack(">Q", 1 << 4))
    refused(path, CorruptImage)
    make_empty(tmp_path / "base", MIB)
    path = create(tmp_path / "image", MIB, backing="base", kind="raw")
    change(path, 72, struct.pack(">QQQ", 1 << 2, 0, 1 << 1))
    refused(path, CorruptImage)


def test_a_short_header_of_version_3(disk: Path, tmp_path: Path) -> None:
    # As before there were compression types: 104 bytes, and then the extensions.
    path = convert(disk, tmp_path / "image", "qcow2")
    length = field(path, 100, ">I")
    head = path.read_bytes()[: 64 * KIB]
    change(path, 104, head[length:] + bytes(length - 104))
    change(path, 100, struct.pack(">I", 104))
    check(path, tmp_path)
    with open_image(path) as image:
        check_image(image, disk)


def test_another_file_is_not_this_format(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(noise(1000, 1))
    refused(path, CorruptImage, Choices(format="qcow2"))
    path.write_bytes(b"QFI\xfb\0\0\0\3")
    refused(path, CorruptImage)


# ---- Tables --------------------------------------------------------------------------------------


@pytest.mark.proves("format", "qcow2", "damage gives typed errors")
@pytest.mark.parametrize(
    ("options", "width", "number"),
    [
        ("compat=1.1", 8, COPIED | 512),
        ("compat=1.1", 8, COPIED | 5 * 64 * KIB + 512 | 1),
        ("compat=1.1", 8, COPIED | 1 << 55),
        ("compat=1.1", 8, COMPRESSED | 1 << 50),
        ("compat=1.1", 8, COMPRESSED),
        ("compat=0.10", 8, 1),
        ("extended_l2=on", 16, COPIED | 512),
        ("extended_l2=on", 16, COPIED | 1 << 55),
        ("extended_l2=on", 16, COMPRESSED | 1 << 50),
        ("extended_l2=on", 16, 0),
    ],
)
def test_entries_that_cannot_be(options: str, width: int, number: int, tmp_path: Path) -> None:
    path = edit(create(tmp_path / "image", "1M", options), "write -P 7 0 1M")
    entry = entry_of(path, 3, width=width)
    change(path, entry, struct.pack(">Q", number))
    error = refused(path, CorruptImage, read=True)
    if error.params["structure"] == "L2 table":
        assert error.params["offset"] in (entry, entry + 8)
    # What stands before is read.
    with open_image(path) as image:
        assert image.read(0, 3 * 64 * KIB) == b"\7" * 3 * 64 * KIB


def test_subclusters_that_contradict_themselves(tmp_path: Path) -> None:
    path = edit(create(tmp_path / "image", "1M", "extended_l2=on"), "write -P 7 0 1M")
    bitmap = entry_of(path, 3, width=16) + 8
    change(path, bitmap, struct.pack(">II", 1, 1))
    assert refused(path, CorruptImage, read=True).params["offset"] == bitmap


def test_reserved_bits_of_tables_are_not_minded(tmp_path: Path) -> None:
    # As QEMU does when it reads.
    path = edit(create(tmp_path / "image", "1M"), "write -P 7 0 1M")
    entry = entry_of(path, 3)
    for place, bits in ((entry, 0x3F << 56 | 0xFE), (field(path, 40), 0x7F << 56 | 0x1FF)):
        change(path, place, struct.pack(">Q", field(path, place) | bits))
    check(path, tmp_path)


def test_tables_that_are_not_there(tmp_path: Path) -> None:
    path = edit(create(tmp_path / "image", "1M"), "write -P 7 0 1M")
    l1 = field(path, 40)
    change(path, l1, struct.pack(">Q", 512 + 1024))
    assert refused(path, CorruptImage, read=True).params["offset"] == l1
    change(path, l1, struct.pack(">Q", 1 << 40))
    assert refused(path, CorruptImage, read=True).params["structure"] == "L2 table"


def test_a_cut_image_is_read_up_to_there(tmp_path: Path) -> None:
    path = edit(create(tmp_path / "image", "1M"), "write -P 7 0 1M")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 3 * 64 * KIB - 100)
    left = MIB - 3 * 64 * KIB - 100
    with open_image(path) as image:
        assert image.read(0, left) == b"\7" * left
        with pytest.raises(CorruptImage):
            image.read(0, left + 1)
        told: list[Extent] = []
        with pytest.raises(CorruptImage) as caught:
            told.extend(image.extents(0, MIB))
        assert caught.value.params["offset"] == entry_of(path, 12)
        assert sum(extent.length for extent in told) == left


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compressed_clusters_that_cannot_be(compression: str, tmp_path: Path) -> None:
    path = create(tmp_path / "image", "1M", f"compression_type={compression}")
    edit(path, "write -c -P 7 0 64k", "write -c -P 8 64k 64k")
    entry = entry_of(path, 0)
    number = field(path, entry)
    place = number & ((1 << 54) - 1)
    stored = path.read_bytes()[place : place + 16]
    for wrong in (b"\xff" * 16, bytes(16), stored[:5] + b"\xff" * 11):
        change(path, place, wrong)
        refused(path, CorruptImage, read=True)
        with open_image(path) as image:
            assert image.read(64 * KIB, 64 * KIB) == b"\x08" * 64 * KIB
    change(path, place, stored)
    change(path, entry, struct.pack(">Q", number + 1))
    refused(path, CorruptImage, read=True)


def test_a_window_of_zstd_is_bounded(tmp_path: Path) -> None:
    from zstandard import ZstdCompressionParameters, ZstdCompressor

    path = create(tmp_path / "image", "2M", "compression_type=zstd,cluster_size=2M")
    edit(path, "write -c -P 7 0 2M")
    entry = entry_of(path, 0)
    place = field(path, entry) & ((1 << 49) - 1)
    content = noise(MIB, 1) * 2
    for log, fits in ((23, True), (24, False)):
        settings = ZstdCompressionParameters.from_level(3, window_log=log)
        # Of a length that is not told before, or the window would not be.
        compressor = ZstdCompressor(compression_params=settings).compressobj()
        stored = compressor.compress(content) + compressor.flush()
        change(path, place, stored)
        change(path, entry, struct.pack(">Q", COMPRESSED | (len(stored) // 512 + 1) << 49 | place))
        if fits:
            with open_image(path) as image:
                assert image.read(0, 2 * MIB) == content
        else:
            refused(path, CorruptImage, read=True)


@pytest.mark.proves("format", "qcow2", "zstd clusters")
def test_a_cluster_of_two_frames(tmp_path: Path) -> None:
    from zstandard import ZstdCompressor

    path = create(tmp_path / "image", "64k", "compression_type=zstd")
    edit(path, "write -c -P 7 0 64k")
    place = field(path, entry_of(path, 0)) & ((1 << 54) - 1)
    compress = ZstdCompressor().compress
    change(path, place, compress(b"\1" * 60 * KIB) + compress(b"\2" * 4 * KIB))
    check(path, tmp_path)
    with open_image(path) as image:
        assert image.read(60 * KIB - 1, 2) == b"\1\2"


def test_a_table_that_is_two_things(tmp_path: Path) -> None:
    # The first L2 table is the second part of the L1 table, which is read by another length.
    path = edit(create(tmp_path / "image", "512M", "cluster_size=512"), "write -P 7 300M 64k")
    l1 = field(path, 40)
    change(path, l1, struct.pack(">Q", l1 + 64 * KIB))
    with open_image(path) as image:
        image.read(0, 512)
        assert image.read(300 * MIB, 64 * KIB) == b"\7" * 64 * KIB


# ---- Damage --------------------------------------------------------------------------------------


@pytest.fixture
def everything(disk: Path, tmp_path: Path) -> Path:
    """An image with as much in it as fits: its tables are near the start."""
    shutil.copy(disk, tmp_path / "base")
    path = create(
        tmp_path / "image",
        "2M",
        "cluster_size=4k",
        backing="base",
        kind="raw",
    )
    edit(path, *some_changes(random.Random(5), 2 * MIB, 4 * KIB))
    run_tool("qemu-img", "snapshot", "-c", "one", str(path))
    edit(path, "write -P 7 0 1M")
    run_tool("qemu-img", "snapshot", "-c", "two", str(path))
    return path


@pytest.mark.proves("format", "qcow2", "damage gives typed errors")
@pytest.mark.parametrize("snapshot", [None, "one"])
def test_damage(snapshot: str | None, everything: Path, tmp_path: Path) -> None:
    l1 = field(everything, 40)
    structures = [
        (0, 112),
        (112, 500),
        (l1, 8 * field(everything, 36, ">I")),
        (field(everything, l1) & ~COPIED, 4096),
        (field(everything, 48), 64),
        (field(everything, field(everything, 48)), 64),
        (field(everything, 64), 150),
    ]
    check_damaged(everything, tmp_path, structures, choices=Choices(snapshot=snapshot))


def test_damage_to_subclusters(disk: Path, tmp_path: Path) -> None:
    path = create(tmp_path / "image", "2M", "cluster_size=16k,extended_l2=on")
    edit(path, *some_changes(random.Random(5), 2 * MIB, 16 * KIB))
    l1 = field(path, 40)
    check_damaged(path, tmp_path, [(0, 112), (field(path, l1) & ~COPIED, 2048)])


def test_damage_to_encryption(luks: Path, tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "raw", 5 * MIB + 3 * 512, 300_000)
    path = fill_luks(raw, copy_of(luks, tmp_path / "image"))
    place = luks_place(path)
    choices = Choices(ask_passphrase=lambda _what: KNOWN)
    # Not the iterations: more of them only take longer.
    structures = [(112, 64), (place, 164), (place + 168, 44), (place + 208 + 8, 40)]
    check_damaged(path, tmp_path, structures, choices=choices, flips=30)


# ---- Images of others ----------------------------------------------------------------------------


@pytest.mark.proves("format", "qcow2", "real images")
@pytest.mark.parametrize("name", ["ext2.qcow2", "windows_volume.qcow2"])
def test_real_images(name: str, tmp_path: Path) -> None:
    path = IMAGES / "dfvfs" / name
    if not path.exists():
        pytest.skip(f"needs {path}")
    check(path, tmp_path)
