# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Partition tables: beside the kernel's own partitions, and beside partx, sfdisk and blkid."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.images.registry import open_image
from explorer.volumes import Stack, partition_types
from explorer.volumes.tables import Entry, Table, add_missing, free_ranges, read_table
from explorer.volumes.window import Window
from tests.trees import find_tool, make_empty, run_tool
from tests.volumes.truth import RealImage, copy_of, real_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from explorer.kernel import Disk, Kernel

SECTOR = 512
MIB = 1 << 20
SIZE = 192 * MIB

Range = tuple[int, int, int]
"""Number, first byte and bytes of a partition."""


def look(path: Path, block_size: int = SECTOR) -> Table | None:
    with open_image(path, "raw") as image:
        return read_table(Window(image.read, 0, image.size), block_size)


def read(path: Path, block_size: int = SECTOR) -> Table:
    table = look(path, block_size)
    assert table is not None
    return table


@contextmanager
def as_disk(kernel: Kernel, path: Path, block_size: int = SECTOR) -> Iterator[Disk]:
    with open_image(path, "raw") as image, kernel.add_disk(image, block_size=block_size) as disk:
        yield disk


def found_by_linux(disk: Disk) -> list[Range]:
    return [(one.number, one.start, one.size) for one in disk.partitions()]


def made_by_linux(table: Table, size: int, block_size: int = SECTOR) -> list[Range]:
    """What the kernel makes of the entries on a disk of this size."""
    ranges = []
    for one in table.entries:
        # Of an extended partition only what a boot loader needs; nothing beyond the disk.
        most = max(1024, block_size) if "extended" in one.type else one.size
        if one.start < size:
            ranges.append((one.number, one.start, min(one.size, most, size - one.start)))
    return sorted(ranges)


def check_beside_linux(kernel: Kernel, path: Path, block_size: int = SECTOR) -> Table:
    table = read(path, block_size)
    with as_disk(kernel, path, block_size) as disk:
        expected = made_by_linux(table, path.stat().st_size, block_size)
        assert found_by_linux(disk) == expected
    return table


def partx(path: Path, block_size: int = SECTOR) -> list[tuple[int, int, int, str, str]]:
    """Number, first byte, bytes, UUID and name of what partx finds."""
    columns = ("--pairs", "-o", "NR,START,SECTORS,UUID,NAME", "--sector-size", str(block_size))
    told = run_tool("partx", *columns, path)
    rows = [re.findall(r'\w+="([^"]*)"', line) for line in told.splitlines()]
    return [
        (int(number), int(start) * SECTOR, int(sectors) * SECTOR, uuid, unescape(name))
        for number, start, sectors, uuid, name in rows
    ]


def unescape(shown: str) -> str:
    """Without the escapes of an output that is to be read by a shell."""
    return shown.encode().decode("unicode_escape").encode("latin-1").decode()


def as_partx(table: Table) -> list[tuple[int, int, int, str, str]]:
    return [(one.number, one.start, one.size, one.uuid, one.label) for one in table.entries]


# ---- Made by sfdisk ----------------------------------------------------------------------------

SCRIPTS = {
    "gpt": """label: gpt
label-id: 6B2F1E0A-5D43-4C11-9A54-1F7D50B1A0FF
start=1MiB, size=2MiB, type=U, name="the EFI system"
size=4MiB, type=L, name="Größe 日本語", attrs="LegacyBIOSBootable GUID:50"
start=16MiB, size=4MiB, type=S, attrs="RequiredPartition,NoBlockIOProtocol"
type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, size=1MiB, attrs="GUID:60,62,63"
type=11112222-3333-4444-5555-666677778888, size=1MiB
""",
    "gpt, gaps in its numbers": """label: gpt
3: start=1MiB, size=2MiB, type=L
9: start=8MiB, size=2MiB, type=L
""",
    "gpt, 128 partitions": "label: gpt\n" + "size=1MiB, type=L\n" * 128,
    "gpt, 512 entries": "label: gpt\ntable-length: 512\n" + "size=1MiB, type=L\n" * 3,
    "dos": """label: dos
label-id: 0x12ab34cd
start=1MiB, size=4MiB, type=7, bootable
size=4MiB, type=83
size=4MiB, type=ef
type=c
""",
    "dos, 21 logical": """label: dos
label-id: 0x12ab34cd
start=1MiB, size=4MiB, type=83
size=150MiB, type=f
size=4MiB, type=c
"""
    + "size=2MiB, type=83\n" * 21,
    "dos, all of it extended": """label: dos
4: start=1MiB, size=60MiB, type=5
size=4MiB, type=83
size=8MiB, type=fd
""",
    "sun": """label: sun
1: start=0, size=16065, type=2
2: start=16065, size=16065, type=3
3: start=0, type=5
""",
    "sgi": """label: sgi
1: start=4096, size=16065, type=a
2: start=32130, size=16065, type=3
9: start=0, size=4096, type=0
11: start=0, type=6
""",
}


def make_scripted(name: str, path: Path) -> Path:
    run_tool("sfdisk", "--quiet", make_empty(path, SIZE), text=SCRIPTS[name])
    return path


@pytest.mark.proves(
    "volume",
    "partition table",
    "GPT, MBR with logical partitions, and others, beside sfdisk and partx",
)
@pytest.mark.parametrize("name", SCRIPTS)
def test_beside_sfdisk_partx_and_linux(name: str, tmp_path: Path, kernel: Kernel) -> None:
    path = make_scripted(name, tmp_path / "disk")
    table = check_beside_linux(kernel, path)
    # partx leaves out Sun's partition for the whole disk.
    assert [one for one in as_partx(table) if table.kind != "sun" or one[0] != 3] == partx(path)
    told = json.loads(run_tool("sfdisk", "--json", path))["partitiontable"]
    assert table.kind == told["label"]
    if table.kind == "gpt":
        assert str(table.facts["disk GUID"]).upper() == told["id"]
    if table.kind == "dos":
        assert f"0x{table.facts['disk signature']}" == told["id"]
    for entry, one in zip(table.entries, told["partitions"], strict=True):
        assert entry.number == int(one["node"].removeprefix(str(path)))
        assert (entry.start, entry.size) == (one["start"] * SECTOR, one["size"] * SECTOR)
        assert entry.label == one.get("name", "")
        assert entry.type == name_of(table.kind, one["type"])
        assert ("bootable" in entry.flags) == (
            one.get("bootable", False) or "LegacyBIOSBootable" in one.get("attrs", "")
        )


def name_of(label: str, kind: str) -> str:
    """What we call a type that sfdisk gives by number or GUID."""
    if label == "gpt":
        return partition_types.GPT_TYPES.get(kind.lower(), kind.lower())
    known = {
        "dos": partition_types.MBR_TYPES,
        "sun": partition_types.SUN_TAGS,
        "sgi": partition_types.SGI_TYPES,
    }
    return known[label][int(kind, 16)]


def test_attributes(tmp_path: Path) -> None:
    assert [one.flags for one in read(make_scripted("gpt", tmp_path / "disk")).entries] == [
        (),
        ("bootable", "attribute 50"),
        ("required", "no block I/O"),
        ("read-only", "hidden", "no drive letter"),
        (),
    ]


# Said by sfdisk without a word of ours.
OTHER_WORDS = {
    "Windows recovery", "Windows dynamic disk", "no file system", "XENIX bad blocks",
    "volume header", "System V", "whole disk", "logical volume", "raw logical volume",
    "XFS journal",
}  # fmt: skip


@pytest.mark.proves("volume", "partition table", "types for people")
@pytest.mark.parametrize(("label", "names"), [
    ("gpt", partition_types.GPT_TYPES),
    ("dos", partition_types.MBR_TYPES),
    ("sun", partition_types.SUN_TAGS),
    ("sgi", partition_types.SGI_TYPES),
])  # fmt: skip
def test_types_beside_sfdisk(label: str, names: Mapping[str, str] | Mapping[int, str]) -> None:
    told = run_tool("sfdisk", "--list-types", "--label", label)
    theirs = {
        key.lower() if label == "gpt" else f"{int(key, 16)}": set(re.findall(r"\w+", name.lower()))
        for key, name in re.findall(r"^ ?([0-9a-fA-F-]+)  (.+)$", told, re.MULTILINE)
    }
    for key, name in names.items():
        ours = set(re.findall(r"\w+", name.lower()))
        assert ours & theirs[str(key)] or name in OTHER_WORDS, (key, name)


# ---- Made by others ----------------------------------------------------------------------------


@pytest.mark.proves("volume", "partition table", "hybrid MBR")
def test_sgdisk_hybrid_mbr(tmp_path: Path, kernel: Kernel) -> None:
    path = make_empty(tmp_path / "disk", SIZE)
    run_tool(
        "sgdisk", "-n", "1:0:+4M", "-t", "1:ef00", "-c", "1:boot", "-n", "2:0:+8M", "-t", "2:a500",
        "-A", "2:set:2", "-h", "1:2", path,
    )  # fmt: skip
    table = check_beside_linux(kernel, path)
    assert as_partx(table) == partx(path)
    assert table.facts["MBR"] == "hybrid MBR"
    assert [(one.type, one.label, one.flags) for one in table.entries] == [
        ("EFI system", "boot", ()),
        ("FreeBSD", "", ("bootable",)),
    ]


def run_parted(path: Path, *commands: str) -> None:
    run_tool("parted", "--script", path, *" ".join(commands).split())


@pytest.mark.proves("volume", "partition table", "APM, Sun, Amiga, BSD and others by parted")
@pytest.mark.parametrize("kind", ["gpt", "msdos", "mac", "sun", "dvh", "amiga"])
def test_parted(kind: str, tmp_path: Path, kernel: Kernel) -> None:
    path = make_empty(tmp_path / "disk", SIZE)
    name = {"msdos": "primary", "dvh": "primary", "sun": ""}.get(kind, "name")
    run_parted(
        path,
        f"mklabel {kind}",
        f"mkpart {name} ext2 4MiB 20MiB",
        f"mkpart {name} linux-swap 24MiB 40MiB",
    )
    table = check_beside_linux(kernel, path)
    assert table.kind == {"msdos": "dos", "dvh": "sgi"}.get(kind, kind)
    if kind == "amiga":
        # partx does not know these.
        told = [(one.start, one.size, one.type, one.label) for one in table.entries]
        assert told == [
            (4 * MIB, 16 * MIB, "LNX/0", "name"),
            (24 * MIB, 16 * MIB, "SWP/0", "name"),
        ]
    else:
        ours = [one for one in as_partx(table) if kind != "sun" or one[0] != 3]
        assert ours == partx(path)
    if kind == "mac":
        assert [(one.type, one.label) for one in table.entries] == [
            ("Apple_partition_map", "Apple"),
            ("Apple_UNIX_SVR2", "name"),
            ("Apple_UNIX_SVR2", "swap"),
            *[("Apple_Free", "Extra")] * 3,
        ]


@pytest.mark.proves("volume", "partition table", "blocks of 4096 bytes")
@pytest.mark.parametrize("keys", [
    "g n1=4M n2=8M",
    "o p1=4M e2 l=4M l=4M l=4M",
])  # fmt: skip
def test_blocks_of_4096(keys: str, tmp_path: Path, kernel: Kernel) -> None:
    path = make_empty(tmp_path / "disk", SIZE)
    answers = {"g": "g", "o": "o", "n": "n\n\n\n+{}", "p": "n\np\n\n\n+{}", "e": "n\ne\n\n\n",
               "l": "n\n\n+{}"}  # fmt: skip
    typed = [answers[key[0]].format(key.partition("=")[2]) for key in keys.split()]
    run_tool("fdisk", "--sector-size", "4096", path, text="\n".join([*typed, "w", ""]))
    table = check_beside_linux(kernel, path, 4096)
    assert len(table.entries) == len(keys.split()) - 1
    assert as_partx(table) == partx(path, 4096)
    # In the other unit there is no such table, or other partitions.
    other = look(path, 512)
    assert other is None or [one[1:3] for one in other.entries] != [
        one[1:3] for one in table.entries
    ]


@pytest.mark.proves("volume", "partition table", "hybrid ISO")
@pytest.mark.parametrize("gpt", [False, True], ids=["mbr", "gpt"])
@pytest.mark.parametrize("apm", [False, True], ids=["", "apm"])
def test_hybrid_disc(gpt: bool, apm: bool, tmp_path: Path, kernel: Kernel) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("on the disc")
    run_tool("mkfs.vfat", make_empty(tmp_path / "efi", MIB))
    path = tmp_path / "disc.iso"
    run_tool(
        "xorriso", "-as", "mkisofs", "-quiet", "-o", path,
        "-append_partition", "2", "0xef", tmp_path / "efi", "-partition_offset", "16",
        *(("-appended_part_as_gpt",) if gpt else ()),
        *(("-hfsplus", "-apm-block-size", "2048") if apm else ()),
        tmp_path / "tree",
    )  # fmt: skip
    table = check_beside_linux(kernel, path)
    assert table.kind == ("gpt" if gpt else "dos")
    assert as_partx(table) == partx(path)
    assert any(one.size == MIB for one in table.entries)


# ---- Tables inside partitions ------------------------------------------------------------------


def mbr(*partitions: tuple[int, int, int]) -> bytes:
    """A first sector with partitions given by type, first sector and sectors."""
    entries = b"".join(struct.pack("<BxxxBxxxII", 0, *one) for one in partitions)
    return (bytes(440) + b"\xcd\x34\xab\x12\0\0" + entries).ljust(510, b"\0") + b"\x55\xaa"


def bsd_label(*slices: tuple[int, int, int], sum_up: bool = True) -> bytes:
    """A BSD label with partitions given by sectors, first sector and type."""
    magic = b"\x57\x45\x56\x82"
    entries = b"".join(struct.pack("<IIIBxxx", size, at, 0, kind) for size, at, kind in slices)
    label = bytearray(magic.ljust(132, b"\0") + magic + bytes(4) + bytes(8) + entries)
    struct.pack_into("<H", label, 138, len(slices))
    if sum_up:
        total = 0
        for (word,) in struct.iter_unpack("<H", label):
            total ^= word
        struct.pack_into("<H", label, 136, total)
    return bytes(label)


def write_at(path: Path, *pieces: tuple[int, bytes]) -> Path:
    """Write bytes at sectors."""
    with path.open("r+b") as file:
        for sector, content in pieces:
            file.seek(sector * SECTOR)
            file.write(content)
    return path


def solaris_slices(*slices: tuple[int, int, int]) -> bytes:
    """A table of slices given by tag, first sector and sectors."""
    entries = b"".join(struct.pack("<HHII", tag, 0, at, size) for tag, at, size in slices)
    return bytes(12) + struct.pack("<II8sHH40x", 0x600DDEEE, 1, b"", 512, len(slices)) + entries


def unixware_slices(*slices: tuple[int, int, int]) -> bytes:
    """The same; the first is the whole partition."""
    entries = b"".join(struct.pack("<HHII", tag, 0, at, size) for tag, at, size in slices)
    head = bytes(4) + struct.pack("<I", 0xCA5E600D)
    return head.ljust(156, b"\0") + struct.pack("<I", 0x600DDEEE).ljust(60, b"\0") + entries


PARENT = (4096, 65536)
"""First sector and sectors."""
BEFORE = (0x83, 2048, 2048)

NESTED = {
    "freebsd, counted from the parent": (
        0xA5, 1,
        bsd_label((2048, 16, 7), (1024, 2064, 1), (65536, 0, 0), (4096, 4096, 27)),
        ["BSD a: 4.2BSD FFS", "BSD b: swap", "BSD d: ZFS"],
    ),
    "freebsd, counted from the start": (
        0xA5, 1,
        bsd_label((2048, 4112, 7), (1024, 8192, 1), (65536, 4096, 0)),
        ["BSD a: 4.2BSD FFS", "BSD b: swap"],
    ),
    "openbsd": (
        0xA6, 1,
        bsd_label((2048, 4160, 7), (1024, 8192, 1), (65536, 4096, 8), (4096, 100, 7)),
        ["BSD a: 4.2BSD FFS", "BSD b: swap"],
    ),
    "netbsd": (
        0xA9, 1,
        bsd_label((2048, 4160, 7), (1024, 8192, 1), (0, 0, 0), (4096, 12288, 17)),
        ["BSD a: 4.2BSD FFS", "BSD b: swap", "BSD d: ext2"],
    ),
    "solaris": (
        0xBF, 1,
        solaris_slices((2, 16, 4096), (3, 8192, 1024), (5, 0, 65536)),
        ["Solaris: root", "Solaris: swap", "Solaris: whole disk"],
    ),
    "solaris, the old type": (
        0x82, 1,
        solaris_slices(*[(8, 2048 * number, 1024) for number in range(1, 17)]),
        ["Solaris: /home"] * 16,
    ),
    "unixware": (
        0x63, 29,
        unixware_slices((5, 4096, 65536), (2, 4160, 2048), (3, 8192, 1024), (0, 9216, 1)),
        ["UnixWare: root", "UnixWare: swap"],
    ),
    "minix": (
        0x81, 0,
        mbr((0x81, 4160, 2048), (0x81, 8192, 1024), (0x83, 9216, 1024)),
        ["Minix", "Minix"],
    ),
}  # fmt: skip

# partx leaves out what stands for the whole, and counts Minix' from the start as well.
ONLY_OURS = {"Solaris: whole disk"}


@pytest.mark.proves("volume", "partition table", "BSD, Solaris, UnixWare and Minix within MBR")
@pytest.mark.parametrize("name", NESTED)
def test_nested(name: str, tmp_path: Path, kernel: Kernel) -> None:
    kind, sector, content, names = NESTED[name]
    path = write_at(
        make_empty(tmp_path / "disk", 64 * MIB),
        (0, mbr(BEFORE, (kind, *PARENT))),
        (PARENT[0] + sector, content),
    )
    table = check_beside_linux(kernel, path)
    assert [one.type for one in table.entries[2:]] == names
    ours = [one[:3] for one in as_partx(table) if table.entries]
    told = [one[:3] for one in partx(path)]
    assert {one[1:] for one in told} <= {one[1:] for one in ours}


def test_logical_partitions_are_counted_before_nested_ones(tmp_path: Path, kernel: Kernel) -> None:
    path = write_at(
        make_empty(tmp_path / "disk", 64 * MIB),
        (0, mbr((0xA6, *PARENT), (0x05, 80000, 20000))),
        (PARENT[0] + 1, bsd_label((2048, 4160, 7))),
        (80000, mbr((0x83, 16, 4096), (0x05, 8000, 4096))),
        (88000, mbr((0x82, 16, 1024))),
    )
    table = check_beside_linux(kernel, path)
    assert [(one.number, one.type) for one in table.entries] == [
        (1, "OpenBSD"), (2, "extended"), (5, "Linux"), (6, "Linux swap or Solaris"),
        (7, "BSD a: 4.2BSD FFS"),
    ]  # fmt: skip


def test_a_chain_that_never_ends(tmp_path: Path, kernel: Kernel) -> None:
    path = make_empty(tmp_path / "disk", 64 * MIB)
    # Its second table names itself, without and with a partition beside the link.
    write_at(path, (0, mbr((0x05, 2048, 65536))), (2048, mbr((0x05, 0, 100))))
    assert len(check_beside_linux(kernel, path).entries) == 1
    write_at(path, (2048, mbr((0x83, 100, 100), (0x05, 0, 100))))
    assert len(read(path).entries) == 252


# ---- Tables of other machines ------------------------------------------------------------------


def test_bsd_by_parted(tmp_path: Path, kernel: Kernel) -> None:
    path = make_empty(tmp_path / "disk", SIZE)
    run_parted(path, "mklabel bsd", "mkpart ext2 4MiB 20MiB", "mkpart linux-swap 24MiB 40MiB")
    table = check_beside_linux(kernel, path)
    assert as_partx(table) == partx(path)
    assert [one.type for one in table.entries] == ["BSD a: MS-DOS", "BSD b: swap"]


def test_osf(tmp_path: Path, kernel: Kernel) -> None:
    label = bsd_label((8192, 2048, 7), (0, 0, 0), (131072, 0, 0), (4096, 16384, 1))
    path = write_at(make_empty(tmp_path / "disk", 64 * MIB), (0, bytes(64) + label))
    table = check_beside_linux(kernel, path)
    assert [(one.number, one.type) for one in table.entries] == [
        (1, "BSD a: 4.2BSD FFS"), (3, "BSD c: 0x00"), (4, "BSD d: swap"),
    ]  # fmt: skip


def test_ultrix(tmp_path: Path, kernel: Kernel) -> None:
    slices = [(2048, 64), (4096, 2112), (131072, 0), (0, 0), (1024, 8192)]
    label = struct.pack("<II", 0x032957, 1) + b"".join(struct.pack("<II", *one) for one in slices)
    path = make_empty(tmp_path / "disk", 64 * MIB)
    write_at(path, (31, bytes(512 - 72) + label))
    table = check_beside_linux(kernel, path)
    assert [one.type for one in table.entries] == ["Ultrix a", "Ultrix b", "Ultrix c", "Ultrix e"]
    assert as_partx(table) == partx(path)


def prefixed(value: int | bytes) -> bytes:
    """A number or bytes after the number of bytes, as the database has them."""
    raw = value if isinstance(value, bytes) else value.to_bytes(4, "big")
    return bytes([len(raw)]) + raw


def dynamic_object(kind: int, number: int, name: bytes, *fields: bytes, flags: int = 0) -> bytes:
    """An object of the database, in records of 128 bytes."""
    body = prefixed(number) + prefixed(name) + b"".join(fields)
    # What is fixed of each kind counts, too: what is after the last that is not.
    head = struct.pack(">HBBI", 0, flags, kind, len(body))
    data = head + body
    pieces = [data[at : at + 112] for at in range(0, len(data), 112)]
    return b"".join(
        struct.pack(">4sIIHH", b"VBLK", 0, number, part, len(pieces)) + piece.ljust(112, b"\0")
        for part, piece in enumerate(pieces)
    )


DISK_GUID = "1b77da20-c717-11d0-a5be-00a0c91db73c"
OTHER_GUID = "6b2f1e0a-5d43-4c11-9a54-1f7d50b1a0ff"


def partition_object(number: int, component: int, start: int, size: int, disk: int = 1) -> bytes:
    fixed = bytes(12) + struct.pack(">QQ", start, 0)
    return dynamic_object(
        0x33, number, b"Disk-%d" % number, fixed, prefixed(size), prefixed(component),
        prefixed(disk),
    )  # fmt: skip


def component_object(number: int, volume: int, kind: int) -> bytes:
    return dynamic_object(
        0x32, number, b"Volume-%d" % number, prefixed(b"ACTIVE"), bytes([kind, 0, 0, 0, 0]),
        prefixed(1), bytes(16), prefixed(volume), b"\0",
    )  # fmt: skip


def volume_object(number: int, name: bytes) -> bytes:
    return dynamic_object(
        0x51, number, name, prefixed(b"gen"), prefixed(b""), bytes(21), prefixed(1), bytes(16),
        prefixed(2048), bytes(21),
    )  # fmt: skip


def dynamic_disk(path: Path, objects: bytes, version: int = 11) -> Path:
    """A disk of 64 MiB with a database of these objects."""
    sectors = 64 * MIB // SECTOR
    base = sectors - 2048
    head = bytearray(struct.pack(">8sIHH", b"PRIVHEAD", 0, 2, version).ljust(512, b"\0"))
    head[0x30:0x54] = DISK_GUID.encode()
    head[0xF0:0xFA] = b"DISKS-DG0\0"
    struct.pack_into(">QQQQ", head, 0x11B, 63, base - 63, base, 2048)
    toc = bytearray(b"TOCBLOCK".ljust(512, b"\0"))
    struct.pack_into(">10sQQ", toc, 0x24, b"config", 17, 1482)
    struct.pack_into(">10sQQ", toc, 0x46, b"log", 1499, 224)
    objects = objects.ljust(-(-len(objects) // 512) * 512, b"\0")
    # Records that are not used.
    unused = struct.pack(">4sIIHH", b"VBLK", 0, 0, 0, 0).ljust(128, b"\0")
    objects = b"".join(
        objects[at : at + 128] if any(objects[at : at + 128]) else unused
        for at in range(0, len(objects), 128)
    )
    count = 4 + len(objects) // 128
    vmdb = struct.pack(">4sIIIHHH", b"VMDB", count, 128, 512, 1, 4, 10)
    return write_at(
        make_empty(path, 64 * MIB),
        (0, mbr((0x42, 63, sectors - 63))),
        *[(sector, bytes(head)) for sector in (6, base + 1856, base + 2047)],
        *[(base + sector, bytes(toc)) for sector in (1, 2, 2045, 2046)],
        (base + 17, vmdb),
        (base + 18, objects),
    )


OBJECTS = (
    dynamic_object(0x34, 1, b"Disk1", prefixed(DISK_GUID.encode()), prefixed(b""), bytes(12))
    + dynamic_object(0x34, 2, b"Disk2", prefixed(OTHER_GUID.encode()), prefixed(b""), bytes(12))
    + volume_object(10, b"Volume1") + component_object(11, 10, 2)
    + volume_object(20, b"Stripe1") + component_object(21, 20, 1)
    + volume_object(30, b"Mirror1") + component_object(31, 30, 2) + component_object(32, 30, 2)
    + volume_object(40, b"Spanned1") + component_object(41, 40, 2)
    + volume_object(50, "Gr\u00f6\u00dfe".encode()) + component_object(51, 50, 3)
    # Not in the order of their starts.
    + partition_object(43, 41, 40960, 2048) + partition_object(12, 11, 0, 8192)
    + partition_object(22, 21, 8192, 8192) + partition_object(23, 21, 0, 8192, disk=2)
    + partition_object(33, 31, 16384, 4096) + partition_object(34, 32, 8192, 4096, disk=2)
    + partition_object(42, 41, 30000, 1000) + partition_object(52, 51, 50000, 777)
)  # fmt: skip


@pytest.mark.proves("volume", "partition table", "LDM (dynamic disks)")
def test_dynamic_disk(tmp_path: Path, kernel: Kernel) -> None:
    table = check_beside_linux(kernel, dynamic_disk(tmp_path / "disk", OBJECTS))
    assert table.kind == "ldm"
    assert table.facts == {"disk GUID": DISK_GUID, "disk group": "DISKS-DG0"}
    told = [(one.start // SECTOR - 63, one.type.rpartition(" ")[2], one.label) for one in table[2]]
    assert told == [
        (0, "simple", "Volume1"), (8192, "striped", "Stripe1"), (16384, "mirrored", "Mirror1"),
        (30000, "spanned", "Spanned1"), (40960, "spanned", "Spanned1"),
        (50000, "RAID-5", "Größe"),
    ]  # fmt: skip


def test_dynamic_disk_of_the_other_version(tmp_path: Path, kernel: Kernel) -> None:
    # Its name makes the object longer than a record.
    disk = dynamic_object(0x44, 1, b"D" * 200, bytes.fromhex(DISK_GUID.replace("-", "")), bytes(29))
    path = dynamic_disk(tmp_path / "disk", partition_object(2, 9, 100, 200) + disk, 12)
    table = check_beside_linux(kernel, path)
    assert [(one.start, one.size) for one in table.entries] == [(163 * SECTOR, 200 * SECTOR)]


@pytest.mark.parametrize(("sector", "content"), [
    (6, b"PRIVHEAX"), (131072 - 2048 + 17, b"VMDX"), (131072 - 2048 + 18, b"VBLX"),
    (131072 - 2048 + 18, b"VBLK\0\0\0\0\0\0\0\1\0\0\0\1\0\0\0\x34\0\0\0\x20\xff"),
])  # fmt: skip
def test_damaged_dynamic_disk(sector: int, content: bytes, tmp_path: Path, kernel: Kernel) -> None:
    path = write_at(dynamic_disk(tmp_path / "disk", OBJECTS), (sector, content))
    table = check_beside_linux(kernel, path)
    assert [(table.kind, *table.entries[0][:4])] == [
        ("dos", 1, 63 * SECTOR, (131072 - 63) * SECTOR, "Windows dynamic disk")
    ]


@settings(max_examples=100, deadline=None)
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from((6 * 512, (131072 - 2031) * 512, (131072 - 2030) * 512)),
            st.integers(0, 511),
            st.integers(0, 255),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_no_bytes_make_a_dynamic_disk_fail(
    changes: list[tuple[int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = dynamic_disk(tmp_path_factory.mktemp("ldm") / "disk", OBJECTS)
    with path.open("r+b") as file:
        for start, at, byte in changes:
            file.seek(start + at)
            file.write(bytes([byte]))
    assert read(path).kind in ("ldm", "dos")
    path.unlink()


def test_aix(tmp_path: Path) -> None:
    path = write_at(make_empty(tmp_path / "disk", MIB), (0, b"\xc9\xc2\xd4\xc1"), (7, b"_LVM"))
    assert read(path).kind == "aix"
    write_at(path, (0, b"\xc9\xc2\xd4\xc1".ljust(450, b"\0") + b"\x83"))
    assert look(path) is None


def test_amiga_facts(tmp_path: Path, kernel: Kernel) -> None:
    def block(magic: bytes, *fields: tuple[int, int | bytes]) -> bytes:
        raw = bytearray(magic.ljust(256, b"\0"))
        for at, value in ((4, 64), *fields):
            part = struct.pack(">I", value) if isinstance(value, int) else value
            raw[at : at + len(part)] = part
        struct.pack_into(">I", raw, 8, -sum(struct.unpack(">64I", raw)) % (1 << 32))
        return bytes(raw)

    def partition(following: int, name: bytes, flags: int, *cylinders: int, kind: bytes) -> bytes:
        low, high = cylinders
        return block(
            b"PART", (16, following), (20, flags), (36, bytes([len(name)]) + name),
            (140, 2), (148, 32), (164, low), (168, high), (192, kind),
        )  # fmt: skip

    path = write_at(
        make_empty(tmp_path / "disk", 64 * MIB),
        # Blocks of 1024 bytes; the first is not the first sector.
        (2, block(b"RDSK", (16, 1024), (28, 4), (144, 64), (160, b"QUANTUM FIREBALL"))),
        (8, partition(6, b"DH0", 1, 2, 9, kind=b"DOS\3")),
        (12, partition(0xFFFFFFFF, "Gr\u00f6\u00dfe".encode("latin-1"), 2, 10, 20, kind=b"PFS\3")),
    )
    table = check_beside_linux(kernel, path)
    assert table.facts == {"disk": "QUANTUM FIREBALL"}
    assert [entry[3:] for entry in table.entries] == [
        ("FFS, international", "DH0", "", ("bootable",)),
        ("PFS3", "Größe", "", ("not mounted by itself",)),
    ]


# ---- What Linux does not take ------------------------------------------------------------------


def fill(path: Path, table: Table) -> None:
    """Write each partition's number into its first sector."""
    write_at(path, *[(one.start // SECTOR, b"partition %d" % one.number) for one in table.entries])


def check_added(kernel: Kernel, path: Path, expected: Table, block_size: int = SECTOR) -> Table:
    """The kernel finds nothing by itself, and with our help what is expected."""
    table = read(path, block_size)
    size = path.stat().st_size
    with as_disk(kernel, path, block_size) as disk:
        assert not found_by_linux(disk)
        wanted = made_by_linux(expected, size, block_size)
        assert add_missing(disk.device(), table, size) == len(wanted)
        assert found_by_linux(disk) == wanted
        for number, _start, _size in wanted:
            assert disk.device(number).read(0, 12).startswith(b"partition %d" % number)
    return table


def make_gpt(path: Path) -> Table:
    make_scripted("gpt", path)
    table = read(path)
    fill(path, table)
    return table


@pytest.mark.proves("volume", "partition table", "GPT of which only the backup is whole")
def test_a_gpt_of_which_only_the_backup_is_whole(tmp_path: Path, kernel: Kernel) -> None:
    path = tmp_path / "disk"
    expected = make_gpt(path)
    write_at(path, (1, bytes(512)))
    assert check_added(kernel, path, expected).facts["primary"] == "missing"


def test_a_gpt_whose_first_entries_are_damaged(tmp_path: Path, kernel: Kernel) -> None:
    path = tmp_path / "disk"
    expected = make_gpt(path)
    write_at(path, (2, b"garbage"))
    table = check_added(kernel, path, expected)
    assert table.facts["primary"] == "the checksum of its entries is wrong"
    assert table.facts["backup"] == "whole"


def test_a_gpt_whose_mbr_is_gone(tmp_path: Path, kernel: Kernel) -> None:
    path = tmp_path / "disk"
    expected = make_gpt(path)
    write_at(path, (0, bytes(512)))
    assert check_added(kernel, path, expected).facts["MBR"] == "no MBR before it"


@pytest.mark.proves("volume", "partition table", "GPT of a disk that is cut off")
def test_a_gpt_of_a_disk_that_is_cut_off(tmp_path: Path, kernel: Kernel) -> None:
    path = tmp_path / "disk"
    expected = make_gpt(path)
    with path.open("r+b") as file:
        # In the middle of the third partition.
        file.truncate(18 * MIB)
    table = check_added(kernel, path, expected)
    assert (table.facts["primary"], table.facts["backup"]) == ("whole", "missing")
    assert table.entries == expected.entries


def test_a_gpt_of_a_disk_that_grew(tmp_path: Path, kernel: Kernel) -> None:
    path = tmp_path / "disk"
    expected = make_gpt(path)
    with path.open("r+b") as file:
        file.truncate(SIZE + 64 * MIB)
    table = check_beside_linux(kernel, path)
    assert table.entries == expected.entries
    assert table.facts["backup"] == "whole"


def test_a_gpt_in_blocks_of_4096_of_which_only_the_backup_is_whole(
    tmp_path: Path, kernel: Kernel
) -> None:
    path = make_empty(tmp_path / "disk", SIZE)
    run_tool("fdisk", "--sector-size", "4096", path, text="g\nn\n\n\n+4M\nn\n\n\n+8M\nw\n")
    expected = read(path, 4096)
    fill(path, expected)
    write_at(path, (8, bytes(4096)))
    check_added(kernel, path, expected, 4096)


@pytest.mark.parametrize("block_size", ["512", "4096"])
def test_partitions_of_a_backup_are_volumes(
    block_size: str, tmp_path: Path, kernel: Kernel
) -> None:
    path = make_empty(tmp_path / "disk", SIZE)
    run_tool(
        "fdisk", "--sector-size", block_size, path, text="g\nn\n\n\n+4M\nn\n\n\n+16M\nt\n\n4\nw\n"
    )
    start = read(path, int(block_size)).entries[1].start
    options = ("-q", "-F", "-t", "ext4", "-b", "4096", "-L", "inside", f"-Eoffset={start}")
    run_tool("mke2fs", *options, path, "16M")
    write_at(path, (int(block_size) // SECTOR, bytes(512)))
    with open_image(path) as image, Stack(kernel, [image]) as stack:
        names = [(one.name, one.kind, one.type, one.label) for one in stack.volumes()]
        assert names[:2] == [
            ("1", "partition", "Linux file system", ""),
            ("2", "partition", "BIOS boot", "inside"),
        ]
        ((_, table),) = stack.tables()
        assert (table.facts["primary"], table.facts["backup"]) == ("missing", "whole")
        with stack.mount(stack.volumes()[1]) as mounted:
            assert mounted.mount.stat(b"/lost+found").is_directory


def test_a_gpt_that_is_damaged_twice(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    make_gpt(path)
    write_at(path, (1, bytes(512)), (SIZE // SECTOR - 1, bytes(512)))
    assert look(path) is None


def test_a_bsd_label_by_itself(tmp_path: Path, kernel: Kernel) -> None:
    path = make_empty(tmp_path / "disk", 64 * MIB)
    label = bsd_label((8192, 2048, 7), (2048, 16384, 1), (131072, 0, 0), (4096, 32768, 27))
    write_at(path, (1, label))
    expected = read(path)
    fill(path, expected)
    table = check_added(kernel, path, expected)
    assert [(one.number, one.type) for one in table.entries] == [
        (1, "BSD a: 4.2BSD FFS"), (2, "BSD b: swap"), (4, "BSD d: ZFS"),
    ]  # fmt: skip
    # partx counts those that there are.
    assert [one[1:] for one in as_partx(table)] == [one[1:] for one in partx(path)]


def test_a_table_that_is_left_over(tmp_path: Path, kernel: Kernel) -> None:
    path = tmp_path / "disk"
    make_gpt(path)
    # A new MBR, as by an old tool that knows no GPT.
    write_at(path, (0, mbr((0x83, 2048, 8192))))
    assert [one[:4] for one in check_beside_linux(kernel, path).entries] == [
        (1, 2048 * SECTOR, 8192 * SECTOR, "Linux")
    ]


# ---- Real ones ---------------------------------------------------------------------------------

TOLD_BY_LINUX = {"bsd.img.xz": "bsd", "fat.img.xz": "dos"}

REAL = [real for real in real_images() if real.file.parent.name == "blkid"]


@pytest.mark.proves("volume", "partition table", "beside blkid")
@pytest.mark.parametrize("real", REAL, ids=lambda real: str(real.name))
def test_beside_blkid(real: RealImage, tmp_path: Path) -> None:
    path = copy_of(real, tmp_path)
    done = subprocess.run(
        [find_tool("blkid"), "-p", "-o", "udev", path], capture_output=True, text=True, check=False
    )
    known = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    wanted = known.get("ID_PART_TABLE_TYPE", "")
    table = look(path)
    if real.file.name in TOLD_BY_LINUX:
        # blkid goes by the file system, or not at all by a label at the start of what it is in.
        assert (table.kind if table else "", wanted) == (TOLD_BY_LINUX[real.file.name], "")
    else:
        assert (table.kind if table else "") == wanted
    identifier = known.get("ID_PART_TABLE_UUID", "")
    if table and identifier:
        assert identifier in table.facts.values()


@pytest.mark.proves("volume", "partition table", "real images")
@pytest.mark.parametrize(
    "real", [real for real in REAL if real.partitions() is not None], ids=lambda real: real.name
)
def test_real_tables(real: RealImage, tmp_path: Path, kernel: Kernel) -> None:
    path = copy_of(real, tmp_path)
    table = check_beside_linux(kernel, path)
    # Linux 6.1 says the same.
    assert sorted(real.partitions() or ()) == [
        (number, start // SECTOR, size // SECTOR)
        for number, start, size in made_by_linux(table, path.stat().st_size)
    ]


def test_real_bsd_in_mbr(tmp_path: Path, kernel: Kernel) -> None:
    real = next((real for real in REAL if real.file.name == "dos+bsd.img.xz"), None)
    if real is None:
        pytest.skip("needs the real images")
    path = copy_of(real, tmp_path)
    table = check_beside_linux(kernel, path)
    assert as_partx(table) == partx(path)
    assert [one.type for one in table.entries] == [
        "Linux", "FreeBSD", "BSD e: 4.2BSD FFS", "BSD f: 4.2BSD FFS",
    ]  # fmt: skip


# ---- Damaged ones ------------------------------------------------------------------------------


def gpt_header(**changed: int) -> bytes:
    fields = {"first": 34, "last": 2000, "at": 2, "count": 128, "each": 128, "other": 2047}
    fields |= changed
    entry = struct.pack("<16s16sQQQ72s", b"t" * 16, b"u" * 16, 100, 200, 0, b"n\0")
    entries = entry.ljust(fields["count"] * fields["each"] % (1 << 24), b"\0")
    head = bytearray(struct.pack(
        "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, fields["other"], fields["first"],
        fields["last"], b"g" * 16, fields["at"], fields["count"], fields["each"],
        zlib.crc32(entries),
    ))  # fmt: skip
    struct.pack_into("<I", head, 16, zlib.crc32(head))
    return bytes(head).ljust(512, b"\0") + entries


SAMPLES: dict[str, bytes] = {
    "gpt": mbr((0xEE, 1, 2047)) + gpt_header(),
    "gpt, huge": mbr((0xEE, 1, 2047)) + gpt_header(count=0xFFFFFFFF, each=0xFFFFFFFF),
    "gpt, far": mbr((0xEE, 1, 2047)) + gpt_header(at=1 << 63, other=(1 << 64) - 1),
    "dos": mbr(BEFORE, (0x05, 4096, 65536), (0xA5, 1, 100), (0x82, 2, 50)) + bsd_label((1, 2, 3)),
    "bsd": bytes(512) + bsd_label(*[(100, 100 * number, 7) for number in range(20)]),
    "osf": bytes(64) + bsd_label(*[(100, 100 * number, 7) for number in range(18)]),
    "amiga": b"RDSK\0\0\0\0"
    + bytes(8)
    + struct.pack(">IIII", 512, 0, 0, 1)
    + bytes(480)
    + b"PART\0\0\0\0"
    + bytes(8)
    + struct.pack(">I", 1),
    "atari": bytes(0x1C6) + struct.pack(">B3sII", 1, b"XGM", 0, 100) * 4,
    "mac": b"ER\x02\0".ljust(512, b"\0") + b"PM\0\0\xff\xff\xff\xff".ljust(512, b"\xff") * 4,
    "sun": bytes(128) + struct.pack(">I8sH", 1, b"", 0xFFFF),
}


@pytest.mark.proves("volume", "partition table", "damage gives typed errors")
@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), max_size=8),
    st.integers(0, 1 << 20),
    st.sampled_from((512, 2048, 4096)),
)
def test_no_bytes_make_it_fail(
    name: str, noise: list[tuple[int, int]], size: int, block_size: int
) -> None:
    data = bytearray(SAMPLES[name].ljust(1 << 20, b"\0"))
    for offset, byte in noise:
        data[offset] = byte
    table = read_table(
        Window(lambda offset, length: bytes(data[offset : offset + length]), 0, size), block_size
    )
    for entry in table.entries if table else ():
        assert entry.start >= 0
        assert entry.size > 0
        assert 0 < entry.number < 256
        assert entry.label.isprintable()


def test_zeros_are_nothing() -> None:
    assert read_table(Window(lambda _offset, length: bytes(length), 0, MIB), 512) is None


# ---- Free space --------------------------------------------------------------------------------


@pytest.mark.proves("volume", "partition table", "space without a partition")
@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 60)), max_size=8))
def test_free_ranges(partitions: list[tuple[int, int]]) -> None:
    free = list(free_ranges(partitions, 100, 0))
    covered = {byte for start, length in partitions for byte in range(start, start + length)}
    assert [byte for start, length in free for byte in range(start, start + length)] == [
        byte for byte in range(100) if byte not in covered
    ]


def test_what_alignment_leaves_is_not_free(tmp_path: Path) -> None:
    table = read(make_scripted("dos", tmp_path / "disk"))
    assert not list(free_ranges([(one.start, one.size) for one in table.entries], SIZE))
    assert list(free_ranges([(MIB, MIB)], 8 * MIB)) == [(2 * MIB, 6 * MIB)]


def test_an_entry_shows_no_control_characters(tmp_path: Path) -> None:
    name = "a\x1b[31m\u202eb".encode("utf-16-le").ljust(72, b"\0")
    entries = struct.pack("<16s16sQQQ72s", b"t" * 16, b"u" * 16, 100, 200, 0, name)
    entries = entries.ljust(128 * 128, b"\0")
    head = bytearray(gpt_header()[:92])
    struct.pack_into("<I", head, 88, zlib.crc32(entries))
    struct.pack_into("<I", head, 16, 0)
    struct.pack_into("<I", head, 16, zlib.crc32(head))
    path = make_empty(tmp_path / "disk", MIB)
    write_at(path, (0, mbr((0xEE, 1, 2047))), (1, bytes(head)), (2, entries))
    assert [entry.label for entry in read(path).entries] == ["a\\x1b[31m\\u202eb"]
    assert isinstance(read(path).entries[0], Entry)
