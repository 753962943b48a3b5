# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Parallels images: by qemu-img, and disks of several images by a writer of our own."""

from __future__ import annotations

import hashlib
import shutil
import struct
import time
from dataclasses import dataclass, field, replace
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
from tests.images.checks import check_damaged, check_image
from tests.images.content import convert, convert_back, make_disk
from tests.trees import make_empty, noise, run_tool

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
SECTOR = 512
CLUSTER = 8 * SECTOR
EXTENSION_MAGIC = 0xAB234CEF23DCEA87
DIRTY_BITMAP = 0x20385FAE252CB34A


@dataclass
class Hds:
    """An expandable image to be written, field by field."""

    size: int
    clusters: dict[int, bytes] = field(default_factory=dict)
    magic: bytes = b"WithouFreSpacExt"
    version: int = 2
    tracks: int = CLUSTER // SECTOR
    entries: int | None = None
    in_use: int = 0x312E3276
    flags: int = 0
    high: int = 0
    """Upper half of the size, which one of the magics leaves out."""
    extension: bytes | None = None

    def write(self, path: Path) -> Path:
        """Write the image to a file."""
        cluster = self.tracks * SECTOR
        needed = -(-self.size // max(1, cluster))
        entries = needed if self.entries is None else self.entries
        unit = cluster if self.magic.endswith(b"Ext") else SECTOR
        head = -(-(64 + 4 * needed) // SECTOR) * SECTOR
        if unit != SECTOR:
            head = -(-head // cluster) * cluster
        table = [0] * needed
        data = b""
        # In an order of its own: the last cluster is the first in the file.
        for index, content in sorted(self.clusters.items(), reverse=True):
            table[index] = (head + len(data)) // unit
            data += content.ljust(cluster, b"\0")
        extension = 0
        if self.extension is not None:
            extension = (head + len(data)) // SECTOR
            data += self.extension.ljust(cluster, b"\0")
        header = struct.pack(
            "<16sIIIIIQIIIQ",
            self.magic,
            self.version,
            16,
            1,
            self.tracks,
            entries,
            self.size // SECTOR | self.high << 32,
            self.in_use,
            head // SECTOR,
            self.flags,
            extension,
        )
        path.write_bytes((header + struct.pack(f"<{needed}I", *table)).ljust(head, b"\0") + data)
        return path


def refused(path: Path, choices: Choices | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(path, choices=choices)
    return caught.value


# ---- Expandable images


@pytest.mark.proves("format", "parallels", "expandable images")
@pytest.mark.parametrize("size", [9 * MIB, 3 * MIB - 1536])
@pytest.mark.parametrize("cluster", [1 * MIB, 64 * 1024, 63 * SECTOR])
def test_images_by_qemu(size: int, cluster: int, tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "raw", size, 700_000)
    path = convert(raw, tmp_path / "image.hds", "parallels", f"cluster_size={cluster}")
    with open_image(path) as image:
        assert image.format == "parallels"
        assert image.facts() == {
            "type": "expandable",
            "cluster size": cluster,
            "state": "unknown",
        }
        assert image.parent is None
        assert image.plain_file() is None
        check_image(image, raw)


def test_what_qemu_writes_out_of_order_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image.hds"
    run_tool("qemu-img", "create", "-q", "-f", "parallels", path, "64M")
    commands = []
    for megabyte in (33, 2, 3, 60, 4, 5, 0):
        commands += ["-c", f"write -P {megabyte + 1} {megabyte}M 300k"]
    run_tool("qemu-io", "-f", "parallels", *commands, str(path))
    with open_image(path) as image:
        check_image(image, convert_back(path, tmp_path / "raw", "parallels"))


@pytest.mark.proves("format", "parallels", "expandable images")
@pytest.mark.parametrize("magic", [b"WithouFreSpacExt", b"WithoutFreeSpace"])
@pytest.mark.parametrize("tracks", [1, 8, 63])
def test_both_magics(magic: bytes, tracks: int, tmp_path: Path) -> None:
    cluster = tracks * SECTOR
    contents = {index: noise(cluster, index + 1) for index in (0, 1, 2, 5, 6)}
    image = Hds(
        7 * cluster - (SECTOR if tracks > 1 else 0),
        contents,
        magic=magic,
        tracks=tracks,
        high=0 if magic.endswith(b"Ext") else 77,
    )
    path = image.write(tmp_path / "image.hds")
    raw = tmp_path / "raw"
    raw.write_bytes(b"".join(contents.get(n, bytes(cluster)) for n in range(7))[: image.size])
    with open_image(path) as opened:
        check_image(opened, raw)
    back = convert_back(path, tmp_path / "back", "parallels")
    assert back.read_bytes() == raw.read_bytes()


def test_clusters_in_a_row_are_one_extent(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(noise(8 * MIB, 1))
    path = convert(raw, tmp_path / "image.hds", "parallels", "cluster_size=64k")
    with open_image(path) as image:
        assert len(list(image.pieces(0, image.size))) == 1
        (extent,) = image.extents(0, image.size)
        assert extent.kind is ExtentKind.DATA


@pytest.mark.parametrize(
    ("in_use", "state"), [(0x746F6E59, "open"), (0x312E3276, "closed"), (7, "0x00000007")]
)
def test_how_it_was_left_is_told(in_use: int, state: str, tmp_path: Path) -> None:
    path = Hds(CLUSTER, {0: noise(CLUSTER, 1)}, in_use=in_use, flags=1).write(tmp_path / "a.hds")
    with open_image(path) as image:
        assert str(image.facts()["state"]).startswith(state)
        assert image.facts()["marked empty"] is True
        # QEMU reads it all the same.
        assert image.read(0, CLUSTER) == noise(CLUSTER, 1)


# ---- The extension


def feature(magic: int, flags: int, data: bytes = b"") -> bytes:
    return struct.pack("<QQI4x", magic, flags, len(data)) + data.ljust(
        -(-len(data) // 8) * 8, b"\0"
    )


def extension(*features: bytes, magic: int = EXTENSION_MAGIC) -> bytes:
    body = b"".join(features).ljust(CLUSTER - 24, b"\0")
    return struct.pack("<Q", magic) + hashlib.md5(body).digest() + body


def test_an_extension_that_need_not_be_known(tmp_path: Path) -> None:
    features = extension(
        feature(DIRTY_BITMAP, 1, bytes(33)), feature(0x1234, 2, b"unknown"), feature(0, 0)
    )
    path = Hds(CLUSTER, {0: noise(CLUSTER, 1)}, extension=features).write(tmp_path / "image.hds")
    with open_image(path) as image:
        assert image.facts()["extensions"] == ["dirty bitmap", "0x0000000000001234"]
        assert image.read(0, CLUSTER) == noise(CLUSTER, 1)


@pytest.mark.parametrize(
    ("features", "kind", "words"),
    [
        (extension(feature(0x1234, 1), feature(0, 0)), UnsupportedFeature, "0x0000000000001234"),
        (extension(feature(0, 0), magic=1), CorruptImage, "magic"),
        (extension(feature(0, 0))[:-1] + b"x", CorruptImage, "checksum"),
        (extension(feature(DIRTY_BITMAP, 0, bytes(CLUSTER - 48))), CorruptImage, "no end"),
        (
            extension(struct.pack("<QQI4x", DIRTY_BITMAP, 0, 2**32 - 1)),
            CorruptImage,
            "no end",
        ),
    ],
)
def test_an_extension_that_cannot_be_is_refused(
    features: bytes, kind: type[ExplorerError], words: str, tmp_path: Path
) -> None:
    error = refused(Hds(CLUSTER, extension=features).write(tmp_path / "image.hds"))
    assert type(error) is kind
    assert words in describe(error)


# ---- What is refused


@pytest.mark.parametrize(
    ("image", "kind", "words"),
    [
        (Hds(CLUSTER, version=3), UnsupportedFeature, "version 3"),
        (Hds(1, magic=b"WithoutFreeSpace", tracks=0), CorruptImage, "byte 28"),
        (Hds(CLUSTER, magic=b"WithoutFreeSpace", tracks=1 << 20), CorruptImage, "byte 28"),
        (Hds(0), CorruptImage, "byte 36"),
        (Hds(2 * CLUSTER, entries=1), CorruptImage, "byte 36"),
        (Hds(CLUSTER, entries=2**32 - 1, tracks=2048, high=1 << 31), CorruptImage, "byte 36"),
    ],
)
def test_what_cannot_be_is_refused(
    image: Hds, kind: type[ExplorerError], words: str, tmp_path: Path
) -> None:
    error = refused(image.write(tmp_path / "image.hds"))
    assert type(error) is kind
    assert words in describe(error)


@pytest.mark.parametrize(("entry", "words"), [(1, "in the table"), (77, "beyond the end")])
def test_a_cluster_that_cannot_be_is_named_when_it_is_read(
    entry: int, words: str, tmp_path: Path
) -> None:
    image = Hds(1024 * CLUSTER, {0: noise(CLUSTER, 1)}, magic=b"WithoutFreeSpace")
    path = image.write(tmp_path / "image.hds")
    with path.open("r+b") as file:
        file.seek(64 + 4 * 5)
        file.write(struct.pack("<I", entry))
    with open_image(path) as opened:
        assert opened.read(0, 5 * CLUSTER) == noise(CLUSTER, 1) + bytes(4 * CLUSTER)
        with pytest.raises(CorruptImage) as caught:
            opened.read(5 * CLUSTER, 1)
    assert "table at byte 84: cluster 5" in describe(caught.value)
    assert words in describe(caught.value)


@pytest.mark.proves("format", "parallels", "damage gives typed errors")
def test_damage_is_found(tmp_path: Path) -> None:
    path = Hds(
        100 * CLUSTER,
        {0: noise(CLUSTER, 1), 99: noise(CLUSTER, 2)},
        extension=extension(feature(DIRTY_BITMAP, 1, bytes(33)), feature(0, 0)),
    ).write(tmp_path / "image.hds")
    size = path.stat().st_size
    check_damaged(path, tmp_path, [(0, 64), (64, 400), (size - CLUSTER, 100)])


def test_the_largest_disk_opens_quickly(tmp_path: Path) -> None:
    path = tmp_path / "large.hds"
    run_tool("qemu-img", "create", "-q", "-f", "parallels", path, "16T")
    run_tool("qemu-io", "-f", "parallels", "-c", "write -P 7 16383G 64k", str(path))
    started = time.monotonic()
    with open_image(path) as image:
        assert image.read(16383 << 30, 65536) == b"\7" * 65536
        kinds = [extent.kind for extent in image.extents(0, image.size)]
    assert kinds == [ExtentKind.ZERO, ExtentKind.DATA, ExtentKind.ZERO]
    assert time.monotonic() - started < 10
    entries = 2**32 - 1
    header = Hds(CLUSTER, tracks=8).write(tmp_path / "small.hds").read_bytes()[:64]
    other = make_empty(tmp_path / "larger.hds", 64 + 4 * entries)
    with other.open("r+b") as file:
        file.write(header[:28] + struct.pack("<IIQ", 1 << 17, entries, entries << 17))
    started = time.monotonic()
    with open_image(other) as image:
        assert image.size == entries << 26
        assert image.read(image.size - MIB, MIB) == bytes(MIB)
    assert time.monotonic() - started < 2


# ---- Disks of several images

TOP = "{5fbaabe3-6958-40ff-92a7-860e329aab41}"
NONE = "{00000000-0000-0000-0000-000000000000}"
FIRST = "{11111111-2222-3333-4444-555555555555}"
SECOND = "{AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE}"


@dataclass
class Descriptor:
    """A DiskDescriptor.xml to be written."""

    storages: list[tuple[int, int, list[tuple[str, str, str]]]]
    """Start, end, and of each image identifier, type and name."""
    shots: list[tuple[str, str]]
    """Identifier of a snapshot and of its parent."""
    top: str = ""
    size: int | None = None
    parameters: str = "<Padding>0</Padding>"
    version: str = "1.0"
    root: str = "Parallels_disk_image"
    before: str = ""

    def write(self, folder: Path) -> Path:
        """Write the descriptor into a folder."""
        size = self.storages[-1][1] if self.size is None else self.size
        storages = "".join(
            f"<Storage><Start>{start}</Start><End>{end}</End><Blocksize>8</Blocksize>"
            + "".join(
                f"<Image><GUID>{guid}</GUID><Type>{kind}</Type><File>{name}</File></Image>"
                for guid, kind, name in images
            )
            + "</Storage>"
            for start, end, images in self.storages
        )
        shots = "".join(
            f"<Shot><GUID>{guid}</GUID><ParentGUID>{parent}</ParentGUID></Shot>"
            for guid, parent in self.shots
        )
        top = f"<TopGUID>{self.top}</TopGUID>" if self.top else ""
        path = folder / "DiskDescriptor.xml"
        path.write_text(
            f"<?xml version='1.0' encoding='UTF-8'?>\n{self.before}"
            f'<{self.root} Version="{self.version}">\n<Disk_Parameters>'
            f"<Disk_size>{size}</Disk_size>\n{self.parameters}</Disk_Parameters>\n"
            f"<StorageData>{storages}</StorageData>\n<Snapshots>{top}{shots}</Snapshots>\n"
            f"</{self.root}>\n"
        )
        return path


def bundle(folder: Path, *, top: str = TOP) -> tuple[Descriptor, bytes, bytes]:
    """Write three snapshots' images; the descriptor, the disk, and the one before."""
    base = noise(6 * CLUSTER, 1)
    (folder / "base.hdd").write_bytes(base)
    first = {1: noise(CLUSTER, 11), 4: noise(CLUSTER, 14)}
    second = {4: noise(CLUSTER, 24), 5: noise(CLUSTER, 25)}
    Hds(6 * CLUSTER, first).write(folder / "first.hds")
    Hds(6 * CLUSTER, second, magic=b"WithoutFreeSpace").write(folder / "top.hds")
    images = [
        (top, "Compressed", "top.hds"),
        (FIRST, "Compressed", "first.hds"),
        (SECOND, "Plain", "base.hdd"),
    ]
    descriptor = Descriptor(
        [(0, 48, images)], [(SECOND, NONE), (FIRST, SECOND.lower()), (top, FIRST)]
    )

    def over(disk: bytes, clusters: dict[int, bytes]) -> bytes:
        parts = [disk[n * CLUSTER : (n + 1) * CLUSTER] for n in range(6)]
        return b"".join(clusters.get(n, part) for n, part in enumerate(parts))

    before = over(base, first)
    return descriptor, over(before, second), before


@pytest.mark.proves("format", "parallels", "disks by descriptor, with snapshots")
def test_snapshots_of_a_disk(tmp_path: Path) -> None:
    descriptor, expected, _before = bundle(tmp_path)
    raw = tmp_path / "raw"
    raw.write_bytes(expected)
    with open_image(descriptor.write(tmp_path)) as image:
        assert image.format == "parallels"
        assert image.path.endswith("DiskDescriptor.xml")
        facts = image.facts()
        assert facts["snapshot"] == TOP.strip("{}")
        assert facts["snapshots"] == [SECOND.strip("{}").lower(), FIRST.strip("{}")]
        assert [str(path).rpartition("/")[2] for path in facts["images"]] == [  # type: ignore[union-attr]
            "top.hds",
            "first.hds",
            "base.hdd",
        ]
        check_image(image, raw)


@pytest.mark.proves("format", "parallels", "disks by descriptor, with snapshots")
def test_qemu_reads_the_images_the_same(tmp_path: Path) -> None:
    # It does not read descriptors, but takes a parent by name.
    descriptor, expected, _before = bundle(tmp_path)
    chain = (
        f"driver=parallels,file.filename={tmp_path}/top.hds,"
        f"backing.driver=parallels,backing.file.filename={tmp_path}/first.hds,"
        f"backing.backing.driver=raw,backing.backing.file.filename={tmp_path}/base.hdd"
    )
    raw = tmp_path / "raw"
    run_tool("qemu-img", "convert", "--image-opts", "-O", "raw", chain, raw)
    assert raw.read_bytes() == expected
    with open_image(descriptor.write(tmp_path)) as image:
        assert image.read(0, image.size) == expected


@pytest.mark.proves("format", "parallels", "disks by descriptor, with snapshots")
def test_a_snapshot_may_be_chosen(tmp_path: Path) -> None:
    descriptor, _expected, before = bundle(tmp_path)
    path = descriptor.write(tmp_path)
    with open_image(path, choices=Choices(snapshot=FIRST)) as image:
        assert image.facts()["snapshot"] == FIRST.strip("{}")
        assert image.read(0, image.size) == before
    with open_image(path, choices=Choices(snapshot=SECOND)) as image:
        assert image.plain_file() is not None
        assert image.read(0, image.size) == noise(6 * CLUSTER, 1)
    error = refused(path, Choices(snapshot="gone"))
    assert error.code == "image.snapshot-missing"
    assert FIRST.strip("{}") in describe(error)


def test_the_top_may_be_named(tmp_path: Path) -> None:
    other = "{99999999-8888-7777-6666-555555555555}"
    descriptor, expected, _before = bundle(tmp_path, top=other)
    descriptor.top = other.upper()
    with open_image(descriptor.write(tmp_path)) as image:
        assert image.read(0, image.size) == expected


@pytest.mark.proves("format", "parallels", "disks in several files")
def test_a_disk_in_several_storages(tmp_path: Path) -> None:
    # One shorter and one longer than what it stands for.
    (tmp_path / "one.hdd").write_bytes(noise(8 * SECTOR - 100, 1))
    Hds(4 * CLUSTER, {0: noise(CLUSTER, 2), 3: noise(CLUSTER, 3)}).write(tmp_path / "two.hds")
    (tmp_path / "three.hdd").write_bytes(noise(9 * SECTOR, 4))
    path = Descriptor(
        [
            (0, 8, [(TOP, "Plain", "one.hdd")]),
            (8, 40, [(TOP, "Compressed", "two.hds")]),
            (40, 47, [(TOP, "Plain", "gone/three.hdd")]),
        ],
        [],
    ).write(tmp_path)
    raw = tmp_path / "raw"
    raw.write_bytes(
        noise(8 * SECTOR - 100, 1)
        + bytes(100)
        + noise(CLUSTER, 2)
        + bytes(2 * CLUSTER)
        + noise(CLUSTER, 3)
        + noise(9 * SECTOR, 4)[: 7 * SECTOR]
    )
    with open_image(path) as image:
        assert image.facts()["storages"] == 3
        assert image.plain_file() is None
        check_image(image, raw)


def test_images_elsewhere_need_consent(tmp_path: Path) -> None:
    (tmp_path / "disk.hdd").mkdir()
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "plain").write_bytes(noise(8 * SECTOR, 1))
    images = [(TOP, "Plain", f"{tmp_path}/else/plain")]
    path = Descriptor([(0, 8, images)], [(TOP, NONE)]).write(tmp_path / "disk.hdd")
    assert refused(path).code == "image.consent"
    with open_image(path, choices=Choices(allowed=(bytes(tmp_path / "else"),))) as image:
        assert image.read(0, image.size) == noise(8 * SECTOR, 1)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    descriptor, _expected, _before = bundle(tmp_path)
    (tmp_path / "first.hds").unlink()
    error = refused(descriptor.write(tmp_path))
    assert isinstance(error, MissingPart)
    assert "first.hds" in describe(error)


PLAIN = [(TOP, "Plain", "plain")]
GOOD = Descriptor([(0, 8, PLAIN)], [(TOP, NONE)])
ENCRYPTION = "<Encryption><Engine>{e19d16bb-1f74-4ae4-9ee6-6b7b1c1a1e1d}</Engine></Encryption>"


@pytest.mark.parametrize(
    ("descriptor", "kind", "words"),
    [
        (replace(GOOD, version="2.0"), UnsupportedFeature, "version 2.0"),
        (replace(GOOD, parameters="<Padding>1</Padding>"), UnsupportedFeature, "padding"),
        (replace(GOOD, parameters=ENCRYPTION), UnsupportedFeature, "encrypted"),
        (
            replace(GOOD, parameters="<LogicSectorSize>4096</LogicSectorSize>"),
            UnsupportedFeature,
            "4096",
        ),
        (replace(GOOD, storages=[(0, 8, [(TOP, "Odd", "plain")])]), UnsupportedFeature, "Odd"),
        (replace(GOOD, root="Parallels_disk_image_of"), CorruptImage, "another document"),
        (replace(GOOD, size=9), CorruptImage, "another size"),
        (replace(GOOD, storages=[(0, 0, PLAIN)]), CorruptImage, "a storage from 0 to 0"),
        (replace(GOOD, storages=[(1, 8, PLAIN)]), CorruptImage, "a storage from 1 to 8"),
        (
            replace(GOOD, storages=[(0, 8, PLAIN), (9, 16, PLAIN)]),
            CorruptImage,
            "a storage from 9 to 16 after 8",
        ),
        (
            replace(GOOD, storages=[(n, n + 1, PLAIN) for n in range(1001)]),
            CorruptImage,
            "1001 storages",
        ),
        (replace(GOOD, storages=[(0, 10**17, PLAIN)]), CorruptImage, "a disk of 1000"),
        (replace(GOOD, size=10**18), CorruptImage, "no number"),
        (replace(GOOD, parameters="<Padding>none</Padding>"), CorruptImage, "no number"),
        (
            replace(GOOD, storages=[(0, 8, [(FIRST, "Plain", "plain")])]),
            CorruptImage,
            TOP.strip("{}"),
        ),
        (replace(GOOD, storages=[(0, 8, [(TOP, "Plain", "")])]), CorruptImage, "File is missing"),
        (
            replace(GOOD, storages=[(0, 8, [(TOP, "Compressed", "plain")])]),
            CorruptImage,
            "plain: damaged: Parallels header at byte 0",
        ),
        (replace(GOOD, top=NONE), CorruptImage, "no snapshot"),
        (replace(GOOD, shots=[(TOP, TOP)]), CorruptImage, "more than 64"),
        (
            Descriptor([(0, 8, [*PLAIN, (FIRST, "Plain", "plain")])], [(TOP, FIRST)]),
            CorruptImage,
            "a plain image that has a parent",
        ),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_a_descriptor_that_cannot_be_is_refused(
    descriptor: Descriptor, kind: type[ExplorerError], words: str, tmp_path: Path
) -> None:
    (tmp_path / "plain").write_bytes(noise(8 * SECTOR, 1))
    error = refused(descriptor.write(tmp_path))
    assert type(error) is kind
    assert words in describe(error)


BOMB = (
    "<!DOCTYPE a [<!ENTITY b 'bbbbbbbbbb'><!ENTITY c '&b;&b;&b;&b;'>"
    "<!ENTITY d SYSTEM 'file:///etc/passwd'>]>\n"
)


def test_entities_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(noise(8 * SECTOR, 1))
    descriptor = replace(GOOD, before=BOMB, parameters="<Padding>&d;</Padding>")
    error = refused(descriptor.write(tmp_path))
    assert isinstance(error, CorruptImage)
    assert "document type" in describe(error)
    # In another encoding, too, in which no search for the word finds it.
    path = tmp_path / "DiskDescriptor.xml"
    text = path.read_text().replace("UTF-8", "UTF-16")
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(CorruptImage) as caught:
        open_image(path, "parallels")
    assert "document type" in describe(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"<Parallels_disk_image",
        b"<Parallels_disk_image>",
        b"<?xml version='1.0' encoding='none'?><Parallels_disk_image/>",
        b"<Parallels_disk_image Version='1.0'>\xff\xfe</Parallels_disk_image>",
        b"<Parallels_disk_image Version='1.0'/>",
        b"<Parallels_disk_image Version='1.0'>" + b"<a>" * 300_000,
        b"<Parallels_disk_image Version='1.0'>"
        + b"<a>" * 100_000
        + b"</a>" * 100_000
        + b"</Parallels_disk_image>",
        b"<Parallels_disk_image Version='1.0'>".ljust((1 << 20) + 1),
    ],
    ids=lambda content: content[:60].decode("latin-1"),
)
def test_what_is_no_descriptor_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "DiskDescriptor.xml"
    path.write_bytes(content)
    error = refused(path)
    assert type(error) is CorruptImage
    assert "\n" not in describe(error)


@pytest.mark.proves("format", "parallels", "damage gives typed errors")
def test_a_damaged_descriptor_is_refused_or_read(tmp_path: Path) -> None:
    descriptor, _expected, _before = bundle(tmp_path)
    path = descriptor.write(tmp_path)
    check_damaged(path, tmp_path, [(0, path.stat().st_size)])
    # Images of which one is damaged.
    copy = tmp_path / "copy"
    shutil.copyfile(tmp_path / "first.hds", copy)
    for cut in (1, 63, 64, 70, 600, 5000):
        (tmp_path / "first.hds").write_bytes(copy.read_bytes()[:cut])
        with pytest.raises(CorruptImage) as caught, open_image(path) as image:
            image.read(0, image.size)
        assert "first.hds" in describe(caught.value)
