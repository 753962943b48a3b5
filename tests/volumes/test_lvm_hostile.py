# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""LVM2's metadata as nobody should write it: named and refused, and nothing else is lost by it.

The physical volumes are written here, with checksums that are right, so that what is wrong in
them is looked at.
"""

from __future__ import annotations

import random
import re
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import VolumeError
from explorer.core.messages import describe
from explorer.volumes import lvm
from explorer.volumes.lvm_caches import Cached, read_cache, read_write_cache
from explorer.volumes.lvm_metadata import (
    DEEPEST,
    LARGEST_TEXT,
    MOST_VALUES,
    Metadata,
    parse_text,
)
from tests.kernel.test_kernel import Memory
from tests.trees import make_empty, noise, run_tool
from tests.volumes.test_lvm import window_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from explorer.kernel import BlockDevice, Kernel

MIB = 1 << 20
SIZE = 8 * MIB
EXTENT = 65536
FIRST_EXTENT = MIB

UUIDS = ("A" * 32, "B" * 32)


def crc(content: bytes) -> int:
    """LVM2's checksum, bit by bit: CRC-32 begun with 0xf597a6cf and left as it is."""
    value = 0xF597A6CF
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    return value


def number(value: int, length: int = 8) -> bytes:
    """A number as it is stored."""
    return value.to_bytes(length, "little")


def dashed(uuid: str) -> str:
    """A UUID as text has it."""
    cuts = (6, 10, 14, 18, 22, 26)
    return "".join(("-" if at in cuts else "") + letter for at, letter in enumerate(uuid))


def label(uuid: str, areas: list[tuple[int, int]], *, sector: int = 1) -> bytes:
    """A label with its physical volume's header."""
    body = number(32, 4) + b"LVM2 001" + uuid.encode() + number(SIZE)
    body += number(FIRST_EXTENT) + number(0) + bytes(16)
    body += b"".join(number(offset) + number(size) for offset, size in areas) + bytes(16)
    body = body.ljust(512 - 20, b"\0")
    return b"LABELONE" + number(sector) + number(crc(body), 4) + body


def area(text: bytes, offset: int = 4096, size: int = FIRST_EXTENT - 4096) -> bytes:
    """A metadata area with a text that begins behind its header."""
    body = b" LVM2 x[5A%r0N*>" + number(1, 4) + number(offset) + number(size)
    body += number(512) + number(len(text)) + number(crc(text), 4) + number(0, 4)
    body = body.ljust(508, b"\0")
    return number(crc(body), 4) + body + text


def physical(text: bytes, place: int = 0) -> bytes:
    """A physical volume that tells of its group by ``text``; its first extents are noise."""
    content = bytes(512) + label(UUIDS[place], [(4096, FIRST_EXTENT - 4096)])
    content = content.ljust(4096, b"\0") + area(text)
    content = content.ljust(FIRST_EXTENT, b"\0") + noise(16 * EXTENT, place)
    return content.ljust(SIZE, b"\0")


GROUP = """
id = "{id}"
seqno = {seqno}
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = {extent_size}
max_lv = 0
max_pv = 0
physical_volumes {{
{physical}
}}
logical_volumes {{
good {{
id = "{good}"
status = ["READ", "WRITE", "VISIBLE"]
segment_count = 1
segment1 {{ start_extent = 0 extent_count = 2 type = "striped" stripe_count = 1
stripes = ["pv0", 0] }}
}}
{volumes}
}}
"""

PHYSICAL = """
pv0 {{ id = "{}" device = "/dev/one" status = ["ALLOCATABLE"] flags = []
dev_size = 16384 pe_start = 2048 pe_count = 100 }}
pv1 {{ id = "{}" device = "/dev/two" status = ["ALLOCATABLE"] flags = []
dev_size = 16384 pe_start = 2048 pe_count = 100 }}
""".format(*map(dashed, UUIDS))


def text_of(
    volumes: str = "",
    *,
    extent_size: str = "128",
    physical: str = PHYSICAL,
    seqno: str = "1",
    head: str = 'contents = "Text Format Volume Group"\nversion = 1\n',
) -> bytes:
    """The text of a group with one good volume, and others."""
    group = GROUP.format(
        id=dashed("G" * 32),
        seqno=seqno,
        good=dashed("L" * 32),
        extent_size=extent_size,
        physical=physical,
        volumes=volumes,
    )
    return f"group {{{group}}}\n{head}".encode("latin-1") + b"\0"


def volume(
    name: str,
    *segments: str,
    status: str = '"READ", "WRITE", "VISIBLE"',
    uuid: str = dashed("V" * 32),
    count: int | None = None,
) -> str:
    """The text of a volume."""
    body = "\n".join(f"segment{place} {{ {one} }}" for place, one in enumerate(segments, 1))
    count = len(segments) if count is None else count
    return f'{name} {{ id = "{uuid}"\nstatus = [{status}]\nsegment_count = {count}\n{body} }}\n'


def stripes(areas: str, count: int = 1, start: int = 0, length: object = 2) -> str:
    """The text of a striped segment."""
    size = "stripe_size = 16\n" if count > 1 else ""
    return (
        f'start_extent = {start}\nextent_count = {length}\ntype = "striped"\n'
        f"stripe_count = {count}\n{size}stripes = [{areas}]"
    )


def other(kind: str, body: str = "", length: int = 2) -> str:
    """The text of another segment."""
    return f'start_extent = 0\nextent_count = {length}\ntype = "{kind}"\n{body}'


CORRUPT = "volume.corrupt-metadata"
FEATURE = "volume.feature"
REFUSED = "group.refused"

RAID = 'device_count = 2\nraids = ["m0", "i0", "m1", "i1"]'
IMAGES = "".join(
    volume(name, stripes(f'"pv0", {10 + 2 * place}'), status='"READ"', uuid=dashed(name * 16))
    for place, name in enumerate(("m0", "i0", "m1", "i1"))
)

BAD_VOLUMES = {
    "on itself": (volume("bad", stripes('"bad", 0')), CORRUPT, "made of itself"),
    "in a circle": (
        volume("bad", stripes('"b", 0'))
        + volume("b", stripes('"c", 0'), status='"READ"', uuid=dashed("X" * 32))
        + volume("c", stripes('"bad", 0'), status='"READ"', uuid=dashed("Y" * 32)),
        CORRUPT,
        "made of itself",
    ),
    "too deep": (
        volume("bad", stripes('"d0", 0'))
        + "".join(
            volume(
                f"d{depth}",
                stripes(f'"d{depth + 1}", 0'),
                status='"READ"',
                uuid=dashed(f"{depth:032}"),
            )
            for depth in range(40)
        )
        + volume("d40", stripes('"pv0", 4'), status='"READ"', uuid=dashed("Z" * 32)),
        CORRUPT,
        "more than 32 volumes on one another",
    ),
    "on nothing": (volume("bad", stripes('"nobody", 0')), CORRUPT, "needs nobody"),
    "without extents": (volume("bad", stripes('"pv0", 4', length=0)), CORRUPT, "extent_count"),
    "of negative extents": (volume("bad", stripes('"pv0", 4', length=-1)), CORRUPT, "extent_count"),
    "too many extents": (volume("bad", stripes('"pv0", 4', length=1 << 32)), CORRUPT, "out of"),
    "a text for a number": (volume("bad", stripes('"pv0", 4', length='"2"')), CORRUPT, "whole"),
    "a fraction": (volume("bad", stripes('"pv0", 4', length=2.5)), CORRUPT, "whole number"),
    "an array for a number": (volume("bad", stripes('"pv0", 4', length=[2])), CORRUPT, "whole"),
    "a gap": (
        volume("bad", stripes('"pv0", 4'), stripes('"pv0", 8', start=3)),
        CORRUPT,
        "a gap or an overlap at extent 2",
    ),
    "segments over one another": (
        volume("bad", stripes('"pv0", 4'), stripes('"pv0", 8', start=1)),
        CORRUPT,
        "a gap or an overlap at extent 2",
    ),
    "not at the start": (volume("bad", stripes('"pv0", 4', start=1)), CORRUPT, "at extent 0"),
    "without segments": (volume("bad"), CORRUPT, "0 extents"),
    "segments miscounted": (volume("bad", stripes('"pv0", 4'), count=2), CORRUPT, "1 segments"),
    "stripes over one another": (
        volume("bad", stripes('"pv0", 4, "pv0", 4', count=2)),
        CORRUPT,
        "extent 4 of pv0 also belongs to bad",
    ),
    "beyond its physical volume": (volume("bad", stripes('"pv0", 99')), CORRUPT, "beyond the end"),
    "far beyond": (volume("bad", stripes('"pv0", 4294967295')), CORRUPT, "beyond the end"),
    "an extent that cannot be": (volume("bad", stripes('"pv0", -1')), CORRUPT, "extent -1"),
    "beyond another volume": (
        volume("bad", stripes('"part", 1'))
        + volume("part", stripes('"pv0", 4'), status='"READ"', uuid=dashed("X" * 32)),
        CORRUPT,
        "beyond the end of part",
    ),
    "no stripes": (volume("bad", stripes("", count=0)), CORRUPT, "stripe_count"),
    "fewer stripes than told": (
        volume("bad", stripes('"pv0", 4', count=1 << 30)),
        CORRUPT,
        "2 values for 1073741824 areas",
    ),
    "a stripe without an extent": (volume("bad", stripes('"pv0"')), CORRUPT, "1 values"),
    "stripes the other way round": (volume("bad", stripes('4, "pv0"')), CORRUPT, "not pairs"),
    "uneven stripes": (
        volume("bad", stripes('"pv0", 4, "pv1", 4', count=2, length=3)),
        CORRUPT,
        "cannot be shared",
    ),
    "no UUID": (volume("bad", stripes('"pv0", 4'), uuid="x"), CORRUPT, "not a UUID"),
    "an unknown status": (
        volume("bad", stripes('"pv0", 4'), status='"VISIBLE", "SHREDDED"'),
        FEATURE,
        "SHREDDED",
    ),
    "a name that cannot be": (
        volume('"b\x1bad"', stripes('"pv0", 4')),
        CORRUPT,
        "not a name that a logical volume may have",
    ),
    "the name of a physical volume": (
        volume("pv0", stripes('"pv0", 4')),
        CORRUPT,
        "not a name that a logical volume may have",
    ),
    "an unknown kind": (volume("bad", other("quantum")), FEATURE, "segment of type quantum"),
    "an unknown flag": (
        volume("bad", stripes('"pv0", 4').replace('"striped"', '"striped+LATER"')),
        FEATURE,
        "striped+LATER",
    ),
    "a kind with control characters": (volume("bad", other("a\x1b[2J")), FEATURE, "a\\x1b[2J"),
    "VDO": (
        volume("bad", other("vdo", 'vdo_pool = "vpool"\nvdo_offset = 0')),
        FEATURE,
        "segment of type vdo",
    ),
    "integrity": (
        volume("bad", other("integrity", 'origin = "good"\nmeta_dev = "good"')),
        FEATURE,
        "segment of type integrity",
    ),
    "RAID of integrity": (
        volume("bad", other("raid1", RAID))
        + "".join(
            volume(name, other("integrity"), status='"READ"', uuid=dashed(name * 16))
            for name in ("m0", "i0", "m1", "i1")
        ),
        FEATURE,
        "segment of type integrity",
    ),
    "RAID of itself": (
        volume("bad", other("raid1", 'device_count = 1\nraids = ["bad", "bad"]')),
        CORRUPT,
        "made of itself",
    ),
    "RAID of too few names": (
        volume("bad", other("raid1", 'device_count = 3\nraids = ["m0", "i0"]')),
        CORRUPT,
        "1 images instead of 3",
    ),
    "RAID of too many images": (
        volume("bad", other("raid1", 'device_count = 254\nraids = ["m0", "i0"]')),
        CORRUPT,
        "device_count",
    ),
    "RAID of stripes of no size": (
        volume("bad", other("raid5_ls", f"{RAID}\nstripe_size = 0")) + IMAGES,
        CORRUPT,
        "stripe_size",
    ),
    "RAID of stripes of an odd size": (
        volume("bad", other("raid5_ls", f"{RAID}\nstripe_size = 24")) + IMAGES,
        REFUSED,
        "",
    ),
    "RAID that is all reserve": (
        volume("bad", other("raid1", f"{RAID}\nreshape_count = 2")) + IMAGES,
        CORRUPT,
        "spare",
    ),
    "RAID longer than its images": (
        volume("bad", other("raid1", RAID, length=50)) + IMAGES,
        CORRUPT,
        "shorter than the RAID needs",
    ),
    "a pool of itself": (
        volume("bad", other("thin", 'thin_pool = "bad"\ndevice_id = 1')),
        CORRUPT,
        "made of itself",
    ),
    "a thin volume of a number too large": (
        volume("bad", other("thin", 'thin_pool = "good"\ndevice_id = 16777216')),
        CORRUPT,
        "device_id",
    ),
    "a thin volume of what is no pool": (
        volume("bad", other("thin", 'thin_pool = "good"\ndevice_id = 1')),
        REFUSED,
        "",
    ),
    "a pool without metadata": (
        volume("bad", other("thin", 'thin_pool = "pool"\ndevice_id = 1'))
        + volume(
            "pool",
            other("thin-pool", 'metadata = "i0"\npool = "i1"\nchunk_size = 128'),
            uuid=dashed("P" * 32),
        )
        + IMAGES,
        CORRUPT,
        "not the metadata of a thin pool",
    ),
    "a snapshot of its own store": (
        volume("bad", stripes('"pv0", 4'))
        + volume(
            "snapshot0",
            other("snapshot", 'chunk_size = 8\norigin = "bad"\ncow_store = "bad"'),
            uuid=dashed("S" * 32),
        ),
        CORRUPT,
        "",
    ),
    "the store of two snapshots": (
        volume("bad", stripes('"pv0", 4'))
        + "".join(
            volume(
                f"snapshot{place}",
                other("snapshot", 'chunk_size = 8\norigin = "good"\ncow_store = "bad"'),
                uuid=dashed(str(place) * 32),
            )
            for place in range(2)
        ),
        CORRUPT,
        "the store of two snapshots",
    ),
    "a cache of itself": (
        volume("bad", other("cache", 'origin = "bad"\ncache_pool = "bad"')),
        CORRUPT,
        "made of itself",
    ),
    "a write cache of noise": (
        volume(
            "bad",
            other("writecache", 'origin = "i0"\nwritecache = "m1"\nwritecache_block_size = 4096'),
        )
        + IMAGES,
        CORRUPT,
        "not a write cache",
    ),
    "a mirror of none": (
        volume("bad", other("mirror", "mirror_count = 0\nmirrors = []")),
        CORRUPT,
        "mirror_count",
    ),
    "two segments of one kind that may be alone": (
        volume(
            "bad",
            other("thin", 'thin_pool = "good"\ndevice_id = 1'),
            stripes('"pv0", 4', start=2),
        ),
        CORRUPT,
        "not the only segment",
    ),
    "larger than any device": (
        volume("bad", *(stripes('"pv0", 4', start=4294967295 * at, length=4294967295)
                        for at in range(2))),
        CORRUPT,
        "",
    ),
}  # fmt: skip


def disk(kernel: Kernel, content: bytes) -> BlockDevice:
    """Some bytes as a disk, which is gone with its kernel."""
    return kernel.add_disk(Memory(content)).device()


def test_the_writer_of_this_test_writes_what_is_read(kernel: Kernel) -> None:
    content = physical(text_of())
    found = lvm.read_physical_volume(window_of(content))
    assert found is not None
    assert found.uuid == dashed(UUIDS[0])
    assert (found.size, found.device_size) == (SIZE, SIZE)
    (group,) = lvm.group_volumes([(found, disk(kernel, content))])
    assert group.missing == [f"{dashed(UUIDS[1])} (/dev/two)"]
    (good,) = group.volumes
    active = lvm.activate(kernel, group, good, read_only=True)
    assert active.device.read(0, MIB) == content[FIRST_EXTENT : FIRST_EXTENT + 2 * EXTENT]
    active.close()


@pytest.mark.parametrize("name", list(BAD_VOLUMES))
def test_a_bad_volume_is_refused_and_others_are_not(kernel: Kernel, name: str) -> None:
    volumes, code, said = BAD_VOLUMES[name]
    contents = [physical(text_of(volumes), place) for place in range(2)]
    found = []
    for content in contents:
        one = lvm.read_physical_volume(window_of(content))
        assert one is not None
        assert one.metadata is not None
        found.append((one, disk(kernel, content)))
    (group,) = lvm.group_volumes(found)
    assert group.fault is None
    bad = [one for one in group.volumes if one.name not in ("good", "pool")]
    assert bad
    with pytest.raises(VolumeError) as caught:
        lvm.activate(kernel, group, bad[0], read_only=True)
    text = describe(caught.value)
    assert caught.value.code == code, text
    assert said in text
    assert text.isprintable()
    assert all(one.name.isprintable() for one in group.volumes)
    (good,) = (one for one in group.volumes if one.name == "good")
    active = lvm.activate(kernel, group, good, read_only=True)
    assert active.device.read(0, MIB) == contents[0][FIRST_EXTENT : FIRST_EXTENT + 2 * EXTENT]
    active.close()


BAD_GROUPS = {
    "no size of an extent": (text_of(extent_size="0"), "extent_size"),
    "extents of one sector": (text_of(extent_size="1"), "extent_size"),
    "extents too large": (text_of(extent_size=str(1 << 62)), "extent_size"),
    "extents of a text": (text_of(extent_size='"128"'), "extent_size"),
    "a physical volume without a UUID": (text_of(physical="pv0 { pe_start = 1 }"), "pv0/id"),
    "a physical volume without a start": (
        text_of(physical=f'pv0 {{ id = "{dashed(UUIDS[0])}" pe_count = 5 }}'),
        "pv0/pe_start",
    ),
    "physical volumes that are none": (text_of(physical="pv0 = 1").replace(
        b"physical_volumes {", b"physical_volumes = 3 other {"), "physical_volumes"),
    "volumes that are none": (
        text_of().replace(b"logical_volumes {", b"logical_volumes = 3 other {"),
        "logical_volumes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD_GROUPS))
def test_a_bad_group_says_so(name: str) -> None:
    text, said = BAD_GROUPS[name]
    found = lvm.read_physical_volume(window_of(physical(text)))
    assert found is not None
    assert found.metadata is not None
    (group,) = lvm.group_volumes([(found, None)])
    assert group.volumes == []
    assert group.fault is not None
    assert group.fault.code == CORRUPT
    assert said in describe(group.fault)


BAD_TEXTS = {
    "a volume twice": (
        text_of(volume("twin", stripes('"pv0", 4')) + volume("twin", stripes('"pv0", 8'))),
        "twin is there twice",
    ),
    "another version": (
        text_of(head='contents = "Text Format Volume Group"\nversion = 2\n'),
        "known version",
    ),
    "other contents": (text_of(head='contents = "Poem"\nversion = 1\n'), "known version"),
    "no version": (text_of(head='contents = "Text Format Volume Group"'), "version: is missing"),
    "no number": (text_of(seqno='"one"'), "seqno"),
    "no group": (b'contents = "Text Format Volume Group"\nversion = 1\n', "0 volume groups"),
    "two groups": (text_of() + b"another { }", "2 volume groups"),
    "nothing": (b"", "the text: not a text of a known version"),
    "no end": (text_of().partition(b"}")[0], "a section without an end"),
    "an end too many": (b"} " + text_of(), "line 1: an end without a section"),
    "sections for ever": (b"a {" * 100_000, f"more than {DEEPEST} sections"),
    "an array for ever": (b"a = [" + b"1," * 600_000, f"more than {MOST_VALUES} values"),
    "arrays in arrays": (b"a = " + b"[" * 100_000, "[ instead of a value"),
    "a number for ever": (b"a = " + b"9" * 100_000, "a number of too many digits"),
    "a string for ever": (b'a = "' + b"x" * 100_000, "a string without an end"),
    "escapes for ever": (b'a = "' + b"\\" * 100_000, "a string without an end"),
    "sections without end": (
        b"".join(b"a%x {} " % one for one in range(MOST_VALUES + 1)),
        f"more than {MOST_VALUES} values",
    ),
}


@pytest.mark.parametrize("name", list(BAD_TEXTS))
def test_a_bad_text_says_where(name: str) -> None:
    text, said = BAD_TEXTS[name]
    size = max(SIZE, 2 * len(text) + MIB)
    content = bytes(512) + label(UUIDS[0], [(4096, size - 4096)])
    content = content.ljust(4096, b"\0")
    # The checksum of long ones is as good as any: computed once by the reader's own means.
    content += fast_area(text, size - 4096)
    found = lvm.read_physical_volume(window_of(content.ljust(size, b"\0")))
    assert found is not None
    assert found.metadata is None
    assert found.fault is not None
    assert found.fault.code == CORRUPT
    assert said in describe(found.fault), describe(found.fault)
    assert lvm.group_volumes([(found, None)]) == []


def fast_area(text: bytes, size: int) -> bytes:
    """A metadata area, however long its text."""
    head = area(b"", size=size)
    checksum = zlib.crc32(text, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    body = head[4:48] + number(len(text)) + number(checksum, 4) + head[60:512]
    return number(crc(body), 4) + body + text


@pytest.mark.parametrize(
    ("offset", "length", "value", "said"),
    [
        # Of the label: its own place, the checksum, where the header begins, the UUID, the areas.
        (512 + 8, 1, b"\x07", "stands in sector 7"),
        (512 + 16, 1, b"\x07", "checksum is wrong"),
        (512 + 20, 4, number(4, 4), "begins at byte 4"),
        (512 + 20, 4, number(508, 4), "begins at byte 508"),
        (512 + 32, 1, b"\xff", "not a UUID"),
        (512 + 72, 440, b"\x01" * 440, "areas have no end"),
    ],
)
def test_a_bad_label_says_so(offset: int, length: int, value: bytes, said: str) -> None:
    content = bytearray(physical(text_of()))
    content[offset : offset + length] = value
    if offset > 512 + 16:
        content[512 + 16 : 512 + 20] = number(crc(bytes(content[532:1024])), 4)
    with pytest.raises(VolumeError) as caught:
        lvm.read_physical_volume(window_of(bytes(content)))
    assert caught.value.code == CORRUPT
    assert "label at byte 512" in describe(caught.value)
    assert said in describe(caught.value)
    # Another sector may have a better one.
    content[1024:1536] = label(UUIDS[0], [(4096, FIRST_EXTENT - 4096)], sector=2)
    found = lvm.read_physical_volume(window_of(bytes(content)))
    assert found is not None
    assert found.metadata is not None


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [
        (4, b"\xff", "not an area"),
        (20, b"\x02", "not an area"),
        (24, b"\x01", "stands at byte 4097"),
        (32, number(100), "a size of 100 bytes"),
        (32, number(1 << 60), "a size of"),
        (40, number(1), "at byte 1 of"),
        (40, number(1 << 60), "at byte"),
        (48, number(LARGEST_TEXT + 1), "is the most"),
        (48, number(FIRST_EXTENT), "a text of 1048576 bytes"),
        (56, b"\x99", "checksum of its text"),
    ],
)
def test_a_bad_metadata_area_says_so(offset: int, value: bytes, said: str) -> None:
    content = bytearray(physical(text_of()))
    content[4096 + offset : 4096 + offset + len(value)] = value
    content[4096:4100] = number(crc(bytes(content[4100:4608])), 4)
    found = lvm.read_physical_volume(window_of(bytes(content)))
    assert found is not None
    assert found.metadata is None
    assert found.fault is not None
    assert "metadata area at byte 4096" in describe(found.fault)
    assert said in describe(found.fault)


@pytest.mark.parametrize("size", [4096, 4608, 5000])
def test_an_area_beyond_the_end_says_so(size: int) -> None:
    found = lvm.read_physical_volume(window_of(physical(text_of())[:size]))
    assert found is not None
    assert found.fault is not None
    assert "beyond the end" in describe(found.fault)


def test_what_is_no_physical_volume() -> None:
    for content in (b"", bytes(MIB), noise(MIB, 1), b"LABELONE" * 64):
        assert lvm.read_physical_volume(window_of(content)) is None


# ---- Whatever else -------------------------------------------------------------------------------


def test_flipped_bits_are_found() -> None:
    content = physical(text_of(IMAGES))
    chance = random.Random(7)
    end = 4608 + len(text_of(IMAGES))
    places = [*range(512, 512 + 128), *(chance.randrange(4096, end) for _ in range(600))]
    passed = []
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        found = None
        with suppress(VolumeError):
            found = lvm.read_physical_volume(window_of(bytes(damaged)))
        # None of it passes for what it was not.
        if found is not None and (found.metadata is not None or found.fault is None):
            passed.append(place)
    assert not passed


SOUND = (
    IMAGES
    + volume("raid", other("raid1", RAID), uuid=dashed("R" * 32))
    + "".join(
        volume(name, stripes(f'"pv1", {4 * place}', length=4), uuid=dashed(name * 16))
        for place, name in enumerate(("p0", "p1", "p2", "p3", "p4", "p5"))
    )
    + volume(
        "moved",
        other("mirror", 'mirror_count = 2\nextents_moved = 1\nmirrors = ["p0", 0, "p1", 0]'),
        stripes('"p2", 0, "p3", 1', count=2, start=2),
        uuid=dashed("M" * 32),
    )
    + volume(
        "snapshot0",
        other("snapshot", 'chunk_size = 8\norigin = "p4"\ncow_store = "p5"', 4),
        uuid=dashed("S" * 32),
    )
    + volume("zero", other("zero"), uuid=dashed("Z" * 32))
)
"""Volumes of several kinds, in which nothing is wrong."""


def test_texts_of_other_pieces(kernel: Kernel) -> None:
    # Whatever a text says, it is refused by name, or read.
    chance = random.Random(11)
    pieces = text_of(SOUND).decode().split()
    values = [
        place for place, piece in enumerate(pieces) if re.match(r'["\[]*[\w"-]+[\],]*$', piece)
    ]
    contents = [physical(text_of(SOUND), place) for place in range(2)]
    devices = [disk(kernel, content) for content in contents]
    counted = {"all refused": 0, "refused": 0, "read": 0}
    begin = time.monotonic()
    for _ in range(400):
        mixed = pieces.copy()
        for _ in range(chance.randrange(1, 4)):
            place = chance.choice(values)
            turn = chance.randrange(10)
            if turn == 0:
                mixed[place] = ""
            elif turn < 6:
                mixed[place] = pieces[chance.choice(values)]
            else:
                mixed[place] = str(chance.choice((0, -1, 1, 1 << 31, 1 << 63, 1 << 70)))
        for outcome, said in outcomes(kernel, " ".join(mixed).encode(), devices):
            counted[outcome] += 1
            assert said.isprintable()
    assert min(counted.values()) > 100, counted
    assert time.monotonic() - begin < 60


def outcomes(kernel: Kernel, text: bytes, devices: list[BlockDevice]) -> Iterator[tuple[str, str]]:
    """What becomes of the volumes that a text tells of, and what is said of it."""
    try:
        groups = [section for _name, section in parse_text(text, "volume").sections()]
    except VolumeError as error:
        yield "all refused", describe(error)
        return
    for section in groups:
        metadata = Metadata("group", "uuid", 1, section)
        (group,) = lvm.group_volumes(
            [
                (lvm.PhysicalVolume(dashed(uuid), SIZE, SIZE, metadata, None), device)
                for uuid, device in zip(UUIDS, devices, strict=True)
            ]
        )
        if group.fault is not None:
            yield "all refused", describe(group.fault)
        for one in group.volumes:
            try:
                active = lvm.activate(kernel, group, one, read_only=True)
            except VolumeError as error:
                yield "refused", describe(error)
            else:
                active.close()
                yield "read", ""


# ---- The syntax of texts -------------------------------------------------------------------------


def test_the_syntax_of_texts() -> None:
    top = parse_text(
        b"""
        # a comment { with } marks " and quotes
        number = 12  negative = -3 plus = +4
        fraction = 1.5
        text = "a \\"quoted\\" one \\\\ and \\n" # behind it
        plain = 'as it \\ is'
        word = bare/word-1
        empty = [] one = [ "x" ]
        array = [ 1, "two", 3.0,
                  'four', ]
        bytes = "caf\xe9 \xc3\xa9"
        section { inner { number = 7 } other = "x" }
        # nothing behind this comment""",
        "volume",
    )
    assert top.number("number") == 12
    assert (top.number("negative", -5), top.number("plus")) == (-3, 4)
    assert top.text("text") == 'a "quoted" one \\ and \\n'
    assert top.text("plain") == "as it \\ is"
    assert top.text("word") == "bare/word-1"
    assert top.texts("empty") == top.texts("nowhere") == []
    assert top.texts("one") == ["x"]
    assert top.texts("word") == ["bare/word-1"]
    assert top.values("array") == [1, "two", 3.0, "four"]
    assert top.values("fraction") == [1.5]
    # Bytes stay what they are.
    assert top.text("bytes").encode("latin-1") == b"caf\xe9 \xc3\xa9"
    assert top.section("section").section("inner").number("number") == 7
    assert top.section("section").section("inner").where == "section/inner"
    assert [name for name, _section in top.sections()] == ["section"]
    assert "number" in top
    assert "inner" not in top
    assert top.number("nowhere", default=9) == 9
    for wrong in (
        lambda: top.number("text"),
        lambda: top.number("fraction"),
        lambda: top.number("negative"),
        lambda: top.number("number", 13),
        lambda: top.number("number", 0, 11),
        lambda: top.number("nowhere"),
        lambda: top.number("section"),
        lambda: top.text("number"),
        lambda: top.text("nowhere"),
        lambda: top.texts("array"),
        lambda: top.values("section"),
        lambda: top.values("nowhere"),
        lambda: top.section("number"),
    ):
        with pytest.raises(VolumeError) as caught:
            wrong()
        assert caught.value.code == CORRUPT


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        (b"a", "line 1", "after the name a"),
        (b"\n\na 1", "line 3", "1 after the name a"),
        (b"a = }", "line 1", "} instead of a value"),
        (b"a = [1 2]", "line 1", "2 within an array"),
        (b"a = [1,", "line 1", "the end instead of a value"),
        (b"a = ", "line 1", "the end instead of a value"),
        (b"= 1", "line 1", "= instead of a name"),
        (b"'a' = 1", "line 1", "'a' instead of a name"),
        (b"a = 'x", "line 1", "a string without an end"),
        (b"a { b = 1\n", "line 2", "a section without an end"),
        (b"a = 1 # ok\na = 2", "line 2", "a is there twice"),
        (b"\x1b[2J", "line 1", "[ after the name \\x1b"),
    ],
)
def test_what_is_no_syntax(text: bytes, where: str, said: str) -> None:
    with pytest.raises(VolumeError) as caught:
        parse_text(text, "volume")
    assert caught.value.code == CORRUPT
    assert caught.value.params["where"] == where
    assert said in str(caught.value.params["reason"])
    assert describe(caught.value).isprintable()


# ---- Metadata of caches -------------------------------------------------------------------------

BLOCK = 4096


def crc32c(content: bytes) -> int:
    """The checksum of RFC 3720 (section 12.1), bit by bit."""
    value = 0xFFFFFFFF
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


KEYS = {"superblock": 9031977, "node": 121107, "array": 595846735}
"""What the kernel adds to the checksums of each kind of block."""


class CacheMetadata:
    """Metadata that cache_restore made, to be changed."""

    def __init__(self, folder: Path, version: int = 2, count: int = 700) -> None:
        xml, path = folder / "cache.xml", make_empty(folder / "metadata", MIB)
        mappings = "".join(
            f'<mapping cache_block="{place}" origin_block="{3 * place}" dirty="true"/>'
            for place in range(count)
        )
        xml.write_text(
            f'<superblock uuid="" block_size="128" nr_cache_blocks="{count}" policy="smq" '
            f'hint_width="4"><mappings>{mappings}</mappings><hints></hints></superblock>'
        )
        options = ["-i", str(xml), "-o", str(path), "--metadata-version", str(version)]
        run_tool("cache_restore", *options)
        self.content = bytearray(path.read_bytes())

    def at(self, block: int, offset: int, length: int = 8) -> int:
        """A number in a block."""
        start = block * BLOCK + offset
        return int.from_bytes(self.content[start : start + length], "little")

    def set(self, kind: str, block: int, offset: int, value: int, length: int = 8) -> None:
        """Set a number in a block, and its checksum to what is right."""
        start = block * BLOCK
        self.content[start + offset : start + offset + length] = number(value, length)
        checksum = crc32c(bytes(self.content[start + 4 : start + BLOCK])) ^ 0xFFFFFFFF ^ KEYS[kind]
        self.content[start : start + 4] = number(checksum, 4)

    @property
    def mappings(self) -> int:
        """The root of the mappings' tree."""
        return self.at(0, 192)

    @property
    def dirty(self) -> int:
        """The root of the dirty bits' tree."""
        return self.at(0, 284)

    def leaf(self, place: int = 0) -> int:
        """A block of the mappings themselves."""
        most = self.at(self.mappings, 20, 4)
        return self.at(self.mappings, 32 + 8 * most + 8 * place)

    def read(self, mode: str = "writeback") -> list[tuple[int, int]]:
        """What the reader finds."""
        found = read_cache(
            lambda offset, length: bytes(self.content[offset : offset + length]),
            "cache",
            mode=mode,
        )
        return found.blocks


def damage_superblock(offset: int, value: int, length: int = 4) -> Callable[[CacheMetadata], None]:
    """Set a number in the superblock."""
    return lambda made: made.set("superblock", 0, offset, value, length)


def damage_node(offset: int, value: int, length: int = 4) -> Callable[[CacheMetadata], None]:
    """Set a number in the root of the mappings' tree."""
    return lambda made: made.set("node", made.mappings, offset, value, length)


def damage_array(offset: int, value: int, length: int = 4) -> Callable[[CacheMetadata], None]:
    """Set a number in the first block of the mappings."""
    return lambda made: made.set("array", made.leaf(), offset, value, length)


def damage_to_circle(made: CacheMetadata) -> None:
    """Let the root of the mappings' tree lead to itself."""
    most = made.at(made.mappings, 20, 4)
    made.set("node", made.mappings, 4, 1, 4)
    made.set("node", made.mappings, 32 + 8 * most, made.mappings)


BAD_CACHES: dict[str, tuple[Callable[[CacheMetadata], None], str, str]] = {
    "another magic": (damage_superblock(32, 5, 8), CORRUPT, "not the metadata of a cache"),
    "version 3": (damage_superblock(40, 3), FEATURE, "version 3:0x0"),
    "a feature": (damage_superblock(252, 1), FEATURE, "version 2:0x1"),
    "blocks of nothing": (damage_superblock(232, 0), CORRUPT, "blocks of 0 sectors"),
    "blocks too large": (damage_superblock(232, 1 << 30), CORRUPT, "blocks of"),
    "metadata in other blocks": (damage_superblock(236, 16), CORRUPT, "in such of 16"),
    "more blocks than mappings": (damage_superblock(240, 701), CORRUPT, "700 blocks instead"),
    "a root that is not there": (damage_superblock(192, 1 << 60, 8), CORRUPT, "beyond the end"),
    "a root beyond the end": (damage_superblock(192, 5000, 8), CORRUPT, "beyond the end"),
    "a root that is the superblock": (damage_superblock(192, 0, 8), CORRUPT, "used twice"),
    "a root that is something else": (
        lambda made: made.set("superblock", 0, 192, made.leaf()),
        CORRUPT,
        "checksum is wrong",
    ),
    "a node in another place": (damage_node(8, 77, 8), CORRUPT, "not a node"),
    "a node of too many": (damage_node(16, 5000), CORRUPT, "not a node"),
    "a node for too many": (damage_node(20, 1 << 31), CORRUPT, "not a node"),
    "a node of another size": (damage_node(24, 4), CORRUPT, "not a node"),
    "a node in a circle": (damage_to_circle, CORRUPT, "used twice"),
    "a part in another place": (damage_array(16, 77, 8), CORRUPT, "not a part"),
    "a part of too many": (damage_array(8, 5000), CORRUPT, "not a part"),
    "a part for too many": (damage_array(4, 1 << 31), CORRUPT, "not a part"),
    "a part of another size": (damage_array(12, 4), CORRUPT, "not a part"),
    "two blocks for one": (damage_array(24, 3 << 16 | 3, 8), CORRUPT, "two blocks of the cache"),
    "no dirty bits": (
        lambda made: made.set("node", made.dirty, 16, 0, 4),
        CORRUPT,
        "tells of 0 blocks instead of 700",
    ),
}


@pytest.mark.parametrize("name", list(BAD_CACHES))
def test_bad_metadata_of_a_cache_says_so(tmp_path: Path, name: str) -> None:
    damage, code, said = BAD_CACHES[name]
    made = CacheMetadata(tmp_path)
    assert made.read() == [(3 * place, place) for place in range(700)]
    damage(made)
    with pytest.raises(VolumeError) as caught:
        made.read()
    assert caught.value.code == code, describe(caught.value)
    assert said in describe(caught.value)


@pytest.mark.parametrize("version", [1, 2])
def test_flipped_bits_in_the_metadata_of_a_cache_are_found(tmp_path: Path, version: int) -> None:
    made = CacheMetadata(tmp_path, version)
    wanted = made.read()
    whole = bytes(made.content)
    used = [0, made.mappings, made.leaf(0), made.leaf(1), *([made.dirty] if version == 2 else [])]
    chance = random.Random(5)
    for block in used * 8:
        made.content = bytearray(whole)
        made.content[block * BLOCK + chance.randrange(BLOCK)] ^= 1 << chance.randrange(8)
        with pytest.raises(VolumeError):
            made.read()
    made.content = bytearray(whole)
    assert made.read() == wanted
    # Where nothing is newer than its origin, all of it may be forgotten, but not if it is torn off.
    flags = made.at(0, 4, 4)
    assert flags & 1
    made.set("superblock", 0, 4, flags & ~1, 4)
    assert made.read("writethrough") == []
    assert made.read() == wanted
    assert read_cache(lambda _offset, length: bytes(length), "cache", mode="writeback").blocks == []


def test_bad_write_caches_say_so() -> None:
    def head(
        magic: int = 0x23489321, version: int = 1, block: int = 4096, count: int = 3, turn: int = 9
    ) -> bytes:
        fields = number(magic, 4) + number(version, 4) + number(block, 4) + bytes(4)
        return (fields + number(count) + number(turn)).ljust(64, b"\0")

    def entries(*pairs: tuple[int, int]) -> bytes:
        return b"".join(number(sector) + number(turn) for sector, turn in pairs)

    def read(content: bytes, size: int = MIB) -> Cached:
        content = content.ljust(size, b"\0")[:size]
        return read_write_cache(lambda at, length: content[at : at + length], size, "cache")

    never = (1 << 64) - 1
    found = read(head() + entries((16, 8), (never, never), (0, 3)))
    assert found == Cached(8, 8, [(0, 2), (2, 0)])
    # The newest of two, and none that was not committed.
    assert read(head() + entries((16, 3), (16, 5), (8, 9))).blocks == [(2, 1)]
    assert read(bytes(64)).blocks == []
    for content, code, said in (
        (head(magic=5), CORRUPT, "not a write cache"),
        (head(version=2), FEATURE, "version 2"),
        (head(block=0), CORRUPT, "blocks of 0 bytes"),
        (head(block=3000), CORRUPT, "blocks of 3000 bytes"),
        (head(count=1 << 60), CORRUPT, "beyond the end"),
        (head(count=256), CORRUPT, "beyond the end"),
        (head() + entries((17, 8), (0, 3)), CORRUPT, "belongs to sector 17"),
    ):
        with pytest.raises(VolumeError) as caught:
            read(content)
        assert caught.value.code == code
        assert said in describe(caught.value)
    with pytest.raises(VolumeError) as caught:
        read(head(), size=32)
    assert "beyond the end" in describe(caught.value)
