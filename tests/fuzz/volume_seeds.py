# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands on disks: labels, superblocks, headers and tables, whole and small."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from functools import partial
from typing import TYPE_CHECKING

from explorer.images.crc32c import crc32c
from tests.fuzz.image_seeds import CRC
from tests.fuzz.seed import Seed, Sum
from tests.trees import make_empty, run_tool
from tests.volumes import luks_maker, test_lvm_hostile, test_signatures, test_tables
from tests.volumes.lvm_host import Text, segment
from tests.volumes.raid_arrays import fix_checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KIB = 1 << 10
MIB = 1 << 20
SECTOR = 512

# ---- LVM2


def lvm_sum(raw: bytes) -> bytes:
    """Begun otherwise than the usual CRC-32, and not turned over at the end."""
    value = zlib.crc32(raw, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    return value.to_bytes(4, "little")


def physical_volume(group: str) -> Seed:
    """A physical volume with a metadata text (LVM2's lib/format_text/layout.h)."""
    size, area, length = 2 * MIB, 4096, 64 * KIB
    raw = group.encode() + b"\0"
    label = bytearray(SECTOR)
    struct.pack_into("<8sQII8s", label, 0, b"LABELONE", 1, 0, 32, b"LVM2 001")
    places = (MIB, 0, 0, 0, area, length, 0, 0)
    struct.pack_into("<32sQ8Q", label, 32, uuid(0).replace("-", "").encode(), size, *places)
    head = struct.pack(
        "<4x16sIQQQQII", b" LVM2 x[5A%r0N*>", 1, area, length, SECTOR, len(raw), 0, 0
    )
    content = bytearray(size)
    content[SECTOR : 2 * SECTOR] = label
    content[area : area + len(head)] = head
    content[area + SECTOR : area + SECTOR + len(raw)] = raw
    sums = [
        Sum(SECTOR + 20, 2 * SECTOR, SECTOR + 16, 4, lvm_sum),
        Sum(area + SECTOR, area + SECTOR + len(raw), area + 56, 4, lvm_sum),
        Sum(area + 4, area + SECTOR, area, 4, lvm_sum),
    ]
    for one in sums:
        one.mend(content)
    return Seed(bytes(content), sums=sums)


def uuid(number: int) -> str:
    """A UUID in LVM2's letters."""
    return f"AbCdEf-{number:04}-GhIj-KlMn-OpQr-StUv-WxYz01"


def group_text(volumes: str, count: int = 2) -> str:
    """A volume group on so many physical volumes of 1000 extents."""
    physical = "\n".join(
        f'pv{number} {{ id = "{uuid(number)}"\ndevice = "/dev/sd{number}"\n'
        f'status = ["ALLOCATABLE"]\nflags = []\ndev_size = 4096\n'
        f"pe_start = 2048\npe_count = 1000\n}}"
        for number in range(count)
    )
    return (
        f'group {{ id = "{uuid(99)}"\nseqno = 7\nformat = "lvm2"\n'
        f'status = ["RESIZEABLE", "READ", "WRITE"]\nflags = []\nextent_size = 128\nmax_lv = 0\n'
        f"max_pv = 0\nmetadata_copies = 0\nphysical_volumes {{\n{physical}\n}}\n"
        f'logical_volumes {{\n{volumes}\n}} }}\ncontents = "Text Format Volume Group"\n'
        'version = 1\ndescription = ""\ncreation_host = "host"\ncreation_time = 1700000000\n'
    )


def lvm(folder: Path) -> Iterator[Seed]:
    """Volume groups with volumes of all kinds."""
    plain = Text()
    plain.linear("plain", 0, 3, hidden=False)
    areas = f"{plain.take(0, 2)}, {plain.take(1, 2)}"
    plain.add(
        "striped",
        segment(0, 4, "striped", f"stripe_count = 2\nstripe_size = 8\nstripes = [{areas}]"),
        segment(4, 1, "striped", f"stripe_count = 1\nstripes = [{plain.take(0, 1)}]"),
    )
    plain.linear("store", 0, 2)
    plain.add(
        "snapshot0",
        segment(0, 3, "snapshot", 'chunk_size = 8\norigin = "plain"\ncow_store = "store"'),
        hidden=True,
    )
    raid = Text()
    raid.raid("mirror", "raid1", 2, 4, 4)
    raid.raid("parity", "raid5", 2, 4, 4, "stripe_size = 32")
    thin = Text()
    thin.linear("pool_tmeta", 0, 1)
    thin.linear("pool_tdata", 0, 20)
    thin.add(
        "pool",
        segment(
            0, 20, "thin-pool",
            'metadata = "pool_tmeta"\npool = "pool_tdata"\ntransaction_id = 2\nchunk_size = 128\n'
            'discards = "passdown"\nzero_new_blocks = 1',
        ),
    )  # fmt: skip
    thin.add(
        "thin",
        segment(0, 9, "thin", 'thin_pool = "pool"\ntransaction_id = 0\ndevice_id = 1'),
    )
    cache = Text()
    for name, extents in (("slow_corig", 20), ("fast_cdata", 4), ("fast_cmeta", 1)):
        cache.linear(name, 0, extents)
    cache.add(
        "fast",
        segment(
            0, 4, "cache-pool",
            'data = "fast_cdata"\nmetadata = "fast_cmeta"\nchunk_size = 128\n'
            'cache_mode = "writethrough"\npolicy = "smq"\nmetadata_format = 2',
        ),
        hidden=True,
    )  # fmt: skip
    cache.add("slow", segment(0, 20, "cache", 'cache_pool = "fast"\norigin = "slow_corig"'))
    for one in (plain, raid, thin, cache):
        yield physical_volume(group_text(str(one)))


def dm_raid(folder: Path) -> Iterator[Seed]:
    """What dm-raid notes beside an image (struct dm_raid_superblock in drivers/md/dm-raid.c)."""
    never = (1 << 64) - 1
    block = struct.pack("<IIIIQQQQiii", 0x64526D44, 0, 3, 1, 9, 0, never, never, 5, 2, 128)
    yield Seed(block.ljust(4096, b"\x01"))
    more = struct.pack("<IQiiiiQQQQ", 1, 4096, 5, 2, 64, 1, 1 << 20, 2048, 0, 1 << 19)
    block = block[:4] + struct.pack("<I", 1) + block[8:]
    yield Seed((block + more).ljust(4096, b"\0"))


def persistent_sum(key: int, raw: bytes) -> bytes:
    """Of a block of persistent data, without the last step of the usual CRC-32C."""
    return (crc32c(raw) ^ 0xFFFFFFFF ^ key).to_bytes(4, "little")


def caches(folder: Path) -> Iterator[Seed]:
    """Metadata of caches of both versions, by cache_restore; and a write cache."""
    for version in (1, 2):
        made = test_lvm_hostile.CacheMetadata(folder, version, 40)
        blocks = {0: "superblock", made.mappings: "node", made.leaf(): "array"}
        if version == 2:
            most = made.at(made.dirty, 20, 4)
            blocks[made.dirty] = "node"
            blocks[made.at(made.dirty, 32 + 8 * most)] = "array"
        sums = [
            Sum(at * 4096 + 4, (at + 1) * 4096, at * 4096, 4,
                partial(persistent_sum, test_lvm_hostile.KEYS[kind]))
            for at, kind in blocks.items()
        ]  # fmt: skip
        # What is not looked at: the maps of used space.
        content = bytearray(len(made.content))
        for at in blocks:
            content[at * 4096 : (at + 1) * 4096] = made.content[at * 4096 : (at + 1) * 4096]
        yield Seed(bytes(content[: 64 * KIB]), sums=sums)
    head = struct.pack("<IIIIQQ", 0x23489321, 1, 4096, 0, 3, 9).ljust(64, b"\0")
    entries = struct.pack("<6Q", 16, 8, (1 << 64) - 1, (1 << 64) - 1, 0, 3)
    yield Seed((head + entries).ljust(64 * KIB, b"\0"), b"write cache")


# ---- MD


def md_1(version: str, level: int, features: int = 0, layout: int = 2) -> Seed:
    """A member with a superblock of version 1 (include/uapi/linux/raid/md_p.h)."""
    size = 2 * MIB
    at = {"1.0": (size // SECTOR - 16) // 8 * 8 * SECTOR, "1.1": 0, "1.2": 4096}[version]
    data = 0 if version == "1.0" else 1024
    block = bytearray(4096)
    struct.pack_into(
        "<4I16s32sQiIQIIi", block, 0, 0xA92B4EFC, 1, features, 0, b"the array's uuid",
        b"host:name", 1_700_000_000, level, layout, 2048, 128, 3, 8,
    )  # fmt: skip
    struct.pack_into("<iQiIIi", block, 100, level, 512, 1, 2, 64, 0)
    struct.pack_into("<QQQQII16sBBHi", block, 128, data, 2560, at // SECTOR, 0, 1, 0, b"device",
                     0, 0, 1, 8)  # fmt: skip
    struct.pack_into("<QQQII", block, 192, 1_700_000_001, 42, (1 << 64) - 1, 0, 8)
    struct.pack_into("<8H", block, 256, 0, 1, 2, *(0xFFFF,) * 5)
    fix_checksum(block, version)
    content = bytearray(size)
    content[at : at + 4096] = block
    content[at + 4096 : at + 4096 + 64] = struct.pack("<QQ", 7 << 10 | 3, (1 << 64) - 1).ljust(64)
    return Seed(bytes(content), sums=[Sum(at, at + 4096, at + 216, 4, partial(md_sum, version))])


def md_sum(version: str, raw: bytes) -> bytes:
    """The checksum of a superblock, by the length that it gives itself."""
    block = bytearray(raw.ljust(4096, b"\0"))
    place = 152 if version.startswith("0") else 216
    if place == 216 and 256 + 2 * int.from_bytes(block[220:224], "little") > 4096:
        return bytes(4)
    fix_checksum(block, version)
    return bytes(block[place : place + 4])


def md_0() -> Seed:
    """A member with a superblock of version 0.90."""
    size = 2 * MIB
    at = size - 64 * KIB
    words = [0] * 1024
    words[:11] = 0xA92B4EFC, 0, 90, 0, 0, 1, 1_700_000_000, 5, 960, 3, 3
    words[13:16] = 2, 3, 4
    words[32:42] = 1_700_000_001, 1, 3, 3, 0, 0, 0, 42, 0, 42
    words[64:66] = 2, 64 * KIB
    for number in range(3):
        words[128 + 32 * number : 133 + 32 * number] = number, 8, 0, number, 6
    words[992:997] = 1, 8, 0, 1, 6
    block = bytearray(struct.pack("<1024I", *words))
    fix_checksum(block, "0.90")
    content = bytes(at) + block + bytes(64 * KIB - 4096)
    return Seed(content, sums=[Sum(at, at + 4096, at + 152, 4, partial(md_sum, "0.90"))])


def md(folder: Path) -> Iterator[Seed]:
    """Members of arrays, with superblocks of every version."""
    yield md_0()
    for version in ("1.0", "1.1", "1.2"):
        yield md_1(version, 5)
    yield md_1("1.2", 10, 1 << 3, 0x102)
    yield md_1("1.2", 5, 1 << 2 | 1 << 6)


# ---- LUKS


def luks2_sum(raw: bytes) -> bytes:
    """Of the binary header and the metadata."""
    return hashlib.sha256(raw).digest()


def luks(folder: Path) -> Iterator[Seed]:
    """Headers of both versions."""
    # LUKS1 specification, section 2.1: the header, then eight key slots.
    head = struct.pack(
        ">6sH32s32s32sII20s32sI40s", b"LUKS\xba\xbe", 1, b"aes", b"xts-plain64", b"sha256", 4096,
        64, b"digest", b"salt", 1000, luks_maker.UUID.encode(),
    )  # fmt: skip
    slots = b"".join(
        struct.pack(">II32sII", 0x00AC71F3 if number < 2 else 0xDEAD, 1000, b"salt", 8, 4000)
        for number in range(8)
    )
    yield Seed((head + slots).ljust(4 * MIB, b"\0"))
    size = luks_maker.HEADER
    recipe = luks_maker.Recipe(integrity="hmac(sha256)", tag_size=32)
    for metadata in (luks_maker.Recipe().metadata(), recipe.metadata(), argon2()):
        raw = json.dumps(metadata).encode()
        content = b"".join(luks_maker.binary_header(raw, at) for at in (0, size))
        sums = [Sum(at, at + size, at + 448, 32, luks2_sum) for at in (0, size)]
        # What is changed is the first header; the second is worse than none.
        yield Seed((content[:size] + bytes(size)).ljust(4 * MIB, b"\0"), sums=sums[:1])
        if metadata["tokens"]:
            yield Seed(content.ljust(4 * MIB, b"\0"), sums=sums)


def argon2() -> luks_maker.Metadata:
    """Metadata with all that may stand in it."""
    metadata = luks_maker.Recipe().metadata()
    slot = metadata["keyslots"]["0"]
    slot["kdf"] = {
        "type": "argon2id", "time": 4, "memory": 32, "cpus": 1, "salt": slot["kdf"]["salt"]
    }  # fmt: skip
    slot["priority"] = 2
    metadata["tokens"]["0"] = {"type": "systemd-tpm2", "keyslots": ["0"]}
    metadata["config"]["flags"] = ["allow-discards"]
    metadata["config"]["requirements"] = {"mandatory": []}
    segment = dict(metadata["segments"]["0"])
    metadata["segments"]["0"]["size"] = str(MIB)
    metadata["segments"]["1"] = {**segment, "type": "linear", "offset": str(3 * MIB)}
    return metadata


# ---- Tables


def gpt_sums(size: int, block: int = SECTOR) -> list[Sum]:
    """Of the entries, then of the header (UEFI specification, section 5.3.2)."""
    sums = []
    for header, entries in ((block, 2 * block), (size - block, size - block - 16384)):
        sums += [
            Sum(entries, entries + 16384, header + 88, 4, CRC),
            Sum(header, header + 92, header + 16, 4, CRC),
        ]
    return sums


def tables(folder: Path) -> Iterator[Seed]:
    """Tables of all kinds, and those within partitions."""
    for name, sample in test_tables.SAMPLES.items():
        sums = gpt_sums(MIB)[:2] if name == "gpt" else []
        yield Seed(sample[: 64 * KIB].ljust(MIB, b"\0"), sums=sums)
    path = make_empty(folder / "gpt", 4 * MIB)
    lines = 'label: gpt\nsize=1MiB, name="one"\nsize=1MiB, type=uefi, name="Größe"\n'
    run_tool("sfdisk", "-q", path, text=lines)
    yield Seed(path.read_bytes(), sums=gpt_sums(4 * MIB))
    dynamic = test_tables.dynamic_disk(folder / "dynamic", test_tables.OBJECTS)
    yield Seed(dynamic.read_bytes())
    dynamic.unlink()
    for kind, sector, content, _names in test_tables.NESTED.values():
        whole = bytearray(4 * MIB)
        start = 64
        whole[:SECTOR] = test_tables.mbr((0x83, 8, 8), (kind, start, 4000), (0x05, 5000, 3000))
        logical = test_tables.mbr((0x83, 8, 100), (0x05, 200, 100))
        whole[5000 * SECTOR : 5001 * SECTOR] = logical
        whole[5200 * SECTOR : 5201 * SECTOR] = test_tables.mbr((0x82, 8, 16))
        at = (start + sector) * SECTOR
        whole[at : at + len(content)] = content
        yield Seed(bytes(whole))


# ---- File systems


def btrfs_items(folder: Path) -> Iterator[Seed]:
    """Items of trees that are read by ioctl: a root (struct btrfs_root_item), a chunk."""
    root = bytearray(439)
    struct.pack_into("<Q", root, 160, 7)
    struct.pack_into("<QI", root, 208, 1, 1)
    struct.pack_into("<Q16s16s", root, 239, 7, b"uuid of the root", b"uuid of a parent")
    yield Seed(bytes(root))
    chunk = struct.pack("<QQQQIIIHH", MIB, 2, 65536, 1 << 6, 4096, 4096, 4096, 4, 2)
    stripes = b"".join(
        struct.pack("<QQ16s", number, MIB, b"uuid %011d" % number) for number in range(4)
    )
    yield Seed(chunk + stripes)


def signatures(folder: Path) -> Iterator[Seed]:
    """The first blocks of file systems, and magic numbers by themselves."""
    for name, (_content, size, (tool, *options), _label, _uuid) in test_signatures.TOOLS.items():
        path = make_empty(folder / name, size * MIB)
        run_tool(tool, *options, path)
        with path.open("rb") as file:
            yield Seed(file.read(8 * KIB) + bytes(56 * KIB) + superblock_at_64(file.read(MIB)))
        path.unlink()
    content = bytearray(70 * KIB)
    for offset, magic in test_signatures.MAGICS:
        content[offset : offset + len(magic)] = magic
        alone = bytearray(70 * KIB)
        alone[offset : offset + len(magic)] = magic
        alone[offset + 128 : offset + 256] = bytes(range(128))
        yield Seed(bytes(alone))
    yield Seed(bytes(content))


def superblock_at_64(rest: bytes) -> bytes:
    """What stands at 64 KiB, of what follows the first 8 KiB."""
    return rest[56 * KIB : 60 * KIB]


def btrfs(folder: Path) -> Iterator[Seed]:
    """A superblock (struct btrfs_super_block)."""
    block = bytearray(4096)
    struct.pack_into("<32x16sQQ8sQ", block, 0, b"fsid of a btrfs.", 65536, 0, b"_BHRfS_M", 7)
    struct.pack_into("<Q", block, 136, 2)
    struct.pack_into("<QQQ", block, 201, 1, MIB, MIB)
    block[267:283] = b"uuid of a device"
    block[299:306] = b"a label"
    yield Seed(bytes(65536) + block)


MAKERS: dict[str, Callable[[Path], Iterator[Seed]]] = {
    "lvm": lvm,
    "dm-raid": dm_raid,
    "caches": caches,
    "md": md,
    "luks": luks,
    "tables": tables,
    "signatures": signatures,
    "btrfs": btrfs,
    "btrfs-items": btrfs_items,
}
