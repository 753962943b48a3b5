# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What partition tables tell, beyond where the partitions are.

The partitions of a disk are those that the kernel finds. Here is read what it does not pass on: the
kind of table, and types, labels and UUIDs, by where the partitions start. Where partitions begin is
reckoned as the kernel does (``block/partitions`` in the Linux source). Some tables it does not take
(:func:`add_missing`).

The layouts are from the UEFI specification, section 5 (MBR, GPT), and from the kernel's headers.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import KernelError
from explorer.core.names import show_name
from explorer.images.guids import show_guid
from explorer.volumes import partition_types as types
from explorer.volumes.ldm import read_dynamic_disk
from explorer.volumes.window import show_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from explorer.images.base import Fact
    from explorer.kernel import BlockDevice
    from explorer.volumes.window import Window

SECTOR = 512

FREE_FROM = 1 << 20
"""Bytes without a partition that are worth a mention: more than what alignment leaves."""

_MOST_ENTRIES = 4 << 20
"""Bytes of a GPT's entries; Linux takes no more."""
_MOST_LINKS = 100
"""Links without a partition that Linux follows in an extended partition."""
_MOST_PARTITIONS = 256
"""That Linux counts on a disk."""

_PROTECTIVE = 0xEE
_EXTENDED = (0x05, 0x0F, 0x85)


class Entry(NamedTuple):
    """What a table tells of a partition."""

    number: int
    """As Linux counts."""
    start: int
    """Bytes from the start of the disk."""
    size: int
    """Bytes."""
    type: str
    """For people; what has no name is shown by its number or GUID."""
    label: str = ""
    uuid: str = ""
    flags: tuple[str, ...] = ()
    """As ``bootable``."""


class Table(NamedTuple):
    """A partition table."""

    kind: str
    """Short name, as blkid's PTTYPE."""
    title: str
    entries: tuple[Entry, ...]
    facts: dict[str, Fact]
    """More about it, for people, in the order to show it; keys are short words."""


def _name(known: dict[int, str], number: int) -> str:
    return known.get(number) or f"{number:#04x}"


# ---- GPT ---------------------------------------------------------------------------------------

# UEFI specification, section 5.3.2: signature, revision, size, checksum, 4 unused bytes, own and
# other position, first and last block for partitions, GUID, then of the entries the position,
# number, size and checksum.
_GPT = struct.Struct("<8s I I I 4x Q Q Q Q 16s Q I I I")
# Section 5.3.3: type, GUID, first and last block, attributes, name.
_GPT_ENTRY = struct.Struct("<16s 16s Q Q Q 72s")

_GPT_FLAGS = {0: "required", 1: "no block I/O", 2: "bootable"}
# Microsoft's PARTITION_INFORMATION_GPT, of its basic data partitions only.
_MICROSOFT_FLAGS = {60: "read-only", 61: "shadow copy", 62: "hidden", 63: "no drive letter"}
_MICROSOFT_DATA = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"


class _Gpt(NamedTuple):
    block: int
    other: int
    first: int
    last: int
    guid: str
    entries: bytes
    entry_size: int


def _read_gpt(volume: Window, block_size: int, block: int) -> _Gpt | str:
    """A header with its entries, or what is wrong with it."""
    raw = volume.at(block * block_size, block_size)
    signature, _revision, size, checksum, own, other, first, last, guid, at, count, each, total = (
        _GPT.unpack_from(raw)
    )
    if signature != b"EFI PART":
        return "missing"
    if not _GPT.size <= size <= block_size or own != block:
        return "damaged"
    if zlib.crc32(raw[:16] + bytes(4) + raw[20:size]) != checksum:
        return "damaged: its checksum is wrong"
    if each < _GPT_ENTRY.size or count * each > _MOST_ENTRIES:
        return "damaged: its entries have no possible size"
    start = at * block_size
    if start + count * each > volume.size:
        return "its entries are beyond the end of the disk"
    entries = volume.at(start, count * each)
    if zlib.crc32(entries) != total:
        return "the checksum of its entries is wrong"
    return _Gpt(block, other, first, last, show_guid(guid), entries, each)


def _gpt_entries(table: _Gpt, block_size: int) -> Iterator[Entry]:
    for number, at in enumerate(range(0, len(table.entries), table.entry_size), 1):
        kind, guid, first, last, attributes, name = _GPT_ENTRY.unpack_from(table.entries, at)
        if not any(kind) or last < first or number >= _MOST_PARTITIONS:
            continue
        shown = show_guid(kind)
        names = _GPT_FLAGS | (_MICROSOFT_FLAGS if shown == _MICROSOFT_DATA else {})
        yield Entry(
            number,
            first * block_size,
            (last - first + 1) * block_size,
            types.GPT_TYPES.get(shown, shown),
            show_text(name, "utf-16-le"),
            show_guid(guid),
            tuple(names.get(bit, f"attribute {bit}") for bit in range(64) if attributes >> bit & 1),
        )


def _gpt(volume: Window, block_size: int) -> Table | None:
    """A GPT that a protective or hybrid MBR speaks of: Linux takes no other."""
    primaries = _primaries(volume)
    if primaries is None or all(one.kind != _PROTECTIVE for one in primaries):
        return None
    hybrid = any(one.kind not in (0, _PROTECTIVE) for one in primaries)
    return _any_gpt(volume, block_size, "hybrid MBR" if hybrid else "protective MBR")


def _bare_gpt(volume: Window, block_size: int) -> Table | None:
    """A GPT where nothing else is: its protective MBR was overwritten."""
    return _any_gpt(volume, block_size, "no MBR before it")


def _any_gpt(volume: Window, block_size: int, before: str) -> Table | None:
    primary = _read_gpt(volume, block_size, 1)
    end = volume.size // block_size - 1
    place = primary.other if isinstance(primary, _Gpt) else end
    backup = _read_gpt(volume, block_size, place)
    if isinstance(backup, str) and place != end:
        # A disk that grew, or a larger one's copy.
        backup = _read_gpt(volume, block_size, end)
    table = primary if isinstance(primary, _Gpt) else backup
    if not isinstance(table, _Gpt):
        return None
    return Table(
        "gpt",
        "GUID partition table (GPT)",
        tuple(_gpt_entries(table, block_size)),
        {
            "disk GUID": table.guid,
            "block size": block_size,
            "primary": primary if isinstance(primary, str) else "whole",
            "backup": backup if isinstance(backup, str) else "whole",
            "MBR": before,
        },
    )


# ---- MBR ---------------------------------------------------------------------------------------

# Status, type, first block, number of blocks; between them cylinders, heads and sectors.
_MBR_ENTRY = struct.Struct("<B 3x B 3x I I")


class _Mbr(NamedTuple):
    status: int
    kind: int
    first: int
    """In blocks, from wherever the table counts."""
    blocks: int


def _mbr_entries(volume: Window, offset: int) -> list[_Mbr] | None:
    """The four entries of the sector at an offset, if it ends as such a sector does."""
    if not volume.has(offset + 510, b"\x55\xaa"):
        return None
    return [_Mbr(*fields) for fields in _MBR_ENTRY.iter_unpack(volume.at(offset + 446, 64))]


def _primaries(volume: Window) -> list[_Mbr] | None:
    entries = _mbr_entries(volume, 0)
    # A file system's boot sector ends in the same way, and has code there.
    if entries is None or any(one.status not in (0, 0x80) for one in entries):
        return None
    return entries


def _mbr_entry(number: int, one: _Mbr, base: int, block_size: int, signature: int) -> Entry:
    return Entry(
        number,
        base + one.first * block_size,
        one.blocks * block_size,
        _name(types.MBR_TYPES, one.kind),
        uuid=f"{signature:08x}-{number:02x}" if signature else "",
        flags=("bootable",) if one.status == 0x80 else (),
    )


def _logical(
    volume: Window, extended: Entry, number: int, block_size: int, signature: int
) -> Iterator[Entry]:
    """The partitions of an extended one: a chain of tables, each with one and the next link."""
    start, size = extended.start, extended.size
    limits = extended.start, extended.start + extended.size
    links = 0
    while links < _MOST_LINKS:
        links += 1
        entries = _mbr_entries(volume, start)
        if entries is None:
            return
        for place, one in enumerate(entries):
            if not one.blocks or one.kind in _EXTENDED:
                continue
            entry = _mbr_entry(number, one, start, block_size, signature)
            # The last two are often garbage.
            if place >= 2 and (
                entry.start + entry.size - start > size
                or entry.start < limits[0]
                or entry.start + entry.size > limits[1]
            ):
                continue
            yield entry
            links = 0
            number += 1
            if number == _MOST_PARTITIONS:
                return
        following = [one for one in entries if one.blocks and one.kind in _EXTENDED]
        if not following:
            return
        start = limits[0] + following[0].first * block_size
        size = following[0].blocks * block_size


def _aix(volume: Window, _block_size: int) -> Table | None:
    # block/partitions/msdos.c: "IBMA" in EBCDIC, and no partition that Linux could use.
    if not volume.has(0, b"\xc9\xc2\xd4\xc1") or not volume.has(7 * SECTOR, b"_LVM"):
        return None
    entries = _MBR_ENTRY.iter_unpack(volume.at(446, 64))
    if any(kind in (0x82, 0x83, 0x8E, 0xFD, *_EXTENDED) for _status, kind, *_ in entries):
        return None
    return Table("aix", "AIX volume group", (), {})


def _ldm(volume: Window, _block_size: int) -> Table | None:
    # Linux needs an MBR with a partition of this type, whatever its place.
    entries = _mbr_entries(volume, 0)
    if entries is None or all(one.kind != 0x42 for one in entries):
        return None
    disk = read_dynamic_disk(volume)
    if disk is None:
        return None
    partitions = (
        Entry(number, one.start, one.size, f"Windows dynamic volume, {one.kind}", one.volume)
        for number, one in enumerate(disk.partitions, 1)
    )
    facts: dict[str, Fact] = {"disk GUID": disk.guid, "disk group": disk.group}
    return Table("ldm", "Windows dynamic disk (LDM)", tuple(partitions), facts)


def _dos(volume: Window, block_size: int) -> Table | None:
    primaries = _primaries(volume)
    if primaries is None or not any(one.kind and one.blocks for one in primaries):
        return None
    if any(one.kind == _PROTECTIVE for one in primaries):
        return None
    signature = volume.le(440, 4)
    used = [
        (one, _mbr_entry(number, one, 0, block_size, signature))
        for number, one in enumerate(primaries, 1)
        if one.blocks
    ]
    entries = [entry for _one, entry in used]
    number = 5
    for one, entry in used:
        if one.kind in _EXTENDED:
            entries += _logical(volume, entry, number, block_size, signature)
            number = max(number, entries[-1].number + 1)
    for one, entry in used:
        if one.kind in _NESTED:
            for inner in _NESTED[one.kind](volume, entry):
                if number < _MOST_PARTITIONS:
                    entries.append(inner._replace(number=number))
                    number += 1
    facts: dict[str, Fact] = {"disk signature": f"{signature:08x}"}
    return Table("dos", "MBR partition table", tuple(entries), facts)


# ---- Tables inside MBR partitions --------------------------------------------------------------

# block/partitions/msdos.c (struct bsd_disklabel): two magics, then a checksum, the number of
# partitions, and after two sizes the partitions: size, start, fragment size, type
_BSD_MAGIC = b"\x57\x45\x56\x82"
_BSD_LENGTH = 148
_BSD_ENTRY = struct.Struct("<I I I B 3x")


def _bsd_slices(
    volume: Window, label: int, most: int
) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
    count = min(volume.le(label + 138, 2), most)
    raw = volume.at(label + _BSD_LENGTH, count * _BSD_ENTRY.size)
    yield from enumerate(_BSD_ENTRY.iter_unpack(raw))


def _bsd_type(place: int, kind: int) -> str:
    return f"BSD {chr(ord('a') + place)}: {_name(types.BSD_TYPES, kind)}"


def _nested_bsd(volume: Window, parent: Entry, *, relative: bool) -> Iterator[Entry]:
    label = parent.start + SECTOR
    if not volume.has(label, _BSD_MAGIC):
        return
    # FreeBSD counts from the parent where the partition for all of it, "c", starts at 0.
    relative = relative and not volume.le(label + _BSD_LENGTH + 2 * _BSD_ENTRY.size + 4, 4)
    for place, (count, first, _fragment, kind) in _bsd_slices(volume, label, 16):
        start = first * SECTOR + (parent.start if relative else 0)
        size = count * SECTOR
        inside = parent.start <= start and start + size <= parent.start + parent.size
        if kind and count and inside and (start, size) != (parent.start, parent.size):
            yield Entry(0, start, size, _bsd_type(place, kind))


def _freebsd(volume: Window, parent: Entry) -> Iterator[Entry]:
    return _nested_bsd(volume, parent, relative=True)


def _other_bsd(volume: Window, parent: Entry) -> Iterator[Entry]:
    return _nested_bsd(volume, parent, relative=False)


# Tag, flags, first sector, number of sectors: of Solaris and of UnixWare.
_SLICE = struct.Struct("<H H I I")


def _solaris(volume: Window, parent: Entry) -> Iterator[Entry]:
    # struct solaris_x86_vtoc: sanity and version at byte 12, number of slices at 30, slices at 72
    table = parent.start + SECTOR
    if not volume.has(table + 12, b"\xee\xde\x0d\x60\x01\0\0\0"):
        return
    most = 16 if volume.le(table + 30, 2) > 8 else 8
    for tag, _flags, first, count in _SLICE.iter_unpack(volume.at(table + 72, most * _SLICE.size)):
        if count:
            name = f"Solaris: {_name(types.SUN_TAGS, tag)}"
            yield Entry(0, parent.start + first * SECTOR, count * SECTOR, name)


def _unixware(volume: Window, parent: Entry) -> Iterator[Entry]:
    # struct unixware_disklabel: magic at byte 4, that of the slices at 156, these at 216. The first
    # is the parent itself.
    table = parent.start + 29 * SECTOR
    if not volume.has(table + 4, b"\x0d\x60\x5e\xca"):
        return
    if not volume.has(table + 156, b"\xee\xde\x0d\x60"):
        return
    raw = volume.at(table + 216 + _SLICE.size, 15 * _SLICE.size)
    for tag, _flags, first, count in _SLICE.iter_unpack(raw):
        if tag and count:
            name = f"UnixWare: {_name(types.UNIXWARE_TAGS, tag)}"
            yield Entry(0, first * SECTOR, count * SECTOR, name)


def _minix(volume: Window, parent: Entry) -> Iterator[Entry]:
    entries = _mbr_entries(volume, parent.start)
    if entries is None or entries[0].kind != 0x81:
        return
    for one in entries:
        if one.kind == 0x81 and one.blocks:
            yield Entry(0, one.first * SECTOR, one.blocks * SECTOR, "Minix")


_NESTED: dict[int, Callable[[Window, Entry], Iterator[Entry]]] = {
    0x63: _unixware,
    0x81: _minix,
    0x82: _solaris,
    0xA5: _freebsd,
    0xA6: _other_bsd,
    0xA9: _other_bsd,
    0xBF: _solaris,
}


# ---- Tables of other machines ------------------------------------------------------------------


def _is_zero_sum(raw: bytes) -> bool:
    return not sum(struct.unpack(f">{len(raw) // 4}I", raw)) % (1 << 32)


def _sgi(volume: Window, _block_size: int) -> Table | None:
    # block/partitions/sgi.c: sixteen times size, start and type at byte 312; all words make zero
    if not volume.has(0, b"\x0b\xe5\xa9\x41") or not _is_zero_sum(volume.at(0, SECTOR)):
        return None
    fields = struct.iter_unpack(">3I", volume.at(312, 192))
    entries = tuple(
        Entry(number, first * SECTOR, count * SECTOR, _name(types.SGI_TYPES, kind))
        for number, (count, first, kind) in enumerate(fields, 1)
        if count
    )
    return Table("sgi", "SGI disk label", entries, {"boot file": volume.text(8, 16)})


def _osf(volume: Window, _block_size: int) -> Table | None:
    # block/partitions/osf.c: a BSD label in the first sector
    if not volume.has(64, _BSD_MAGIC) or not volume.has(64 + 132, _BSD_MAGIC):
        return None
    if volume.le(64 + 138, 2) > 18:
        return None
    entries = tuple(
        Entry(place + 1, first * SECTOR, count * SECTOR, _bsd_type(place, kind))
        for place, (count, first, _fragment, kind) in _bsd_slices(volume, 64, 18)
        if count
    )
    return Table("bsd", "BSD disk label (Alpha)", entries, {"pack": volume.text(64 + 24, 16)})


def _bsd(volume: Window, _block_size: int) -> Table | None:
    # BSD's sys/disklabel.h: in the second sector; all 16-bit words of it make zero
    label = SECTOR
    if not volume.has(label, _BSD_MAGIC) or not volume.has(label + 132, _BSD_MAGIC):
        return None
    count = volume.le(label + 138, 2)
    if count > 22:
        return None
    total = 0
    for (word,) in struct.iter_unpack("<H", volume.at(label, _BSD_LENGTH + count * 16)):
        total ^= word
    if total:
        return None
    # "c" is the whole disk.
    entries = tuple(
        Entry(place + 1, first * SECTOR, size * SECTOR, _bsd_type(place, kind))
        for place, (size, first, _fragment, kind) in _bsd_slices(volume, label, 22)
        if size and kind and place != 2
    )
    return Table("bsd", "BSD disk label", entries, {"pack": volume.text(label + 24, 16)})


def _sun(volume: Window, _block_size: int) -> Table | None:
    # block/partitions/sun.c (struct sun_disklabel): magic at byte 508; all 16-bit words make zero
    raw = volume.at(0, SECTOR)
    total = 0
    for (word,) in struct.iter_unpack(">H", raw):
        total ^= word
    if raw[508:510] != b"\xda\xbe" or total:
        return None
    version, label, count = struct.unpack_from(">I 8s H", raw, 128)
    sanity = volume.be(188, 4)
    told = sanity == 0x600DDEEE and version == 1 and count <= 8
    named = told or not (sanity or version or count)
    cylinder = volume.be(436, 2) * volume.be(438, 2)
    entries = []
    for place in range(count if told else 8):
        first, size = struct.unpack_from(">I I", raw, 444 + 8 * place)
        tag, flags = struct.unpack_from(">H H", raw, 142 + 4 * place)
        if size:
            entries.append(
                Entry(
                    place + 1,
                    first * cylinder * SECTOR,
                    size * SECTOR,
                    _name(types.SUN_TAGS, tag) if named and tag else "",
                    flags=(("not mountable",) if flags & 1 else ())
                    + (("read-only",) if flags & 16 else ()),
                )
            )
    return Table("sun", "Sun disk label", tuple(entries), {"volume": show_text(label, "ascii")})


def _amiga(volume: Window, _block_size: int) -> Table | None:
    # include/uapi/linux/affs_hardblocks.h: in one of 16 sectors, each block with a checksum over as
    # many words as it says
    for start in range(0, 16 * SECTOR, SECTOR):
        if volume.has(start, b"RDSK") and _is_summed(volume, start):
            break
    else:
        return None
    scale = volume.be(start + 16, 4) // SECTOR
    block = volume.be(start + 28, 4)
    entries: list[Entry] = []
    for _ in range(16):
        if not 0 < block < 1 << 31 or not scale:
            break
        at = block * scale * SECTOR
        block = volume.be(at + 16, 4)
        if not volume.has(at, b"PART") or not _is_summed(volume, at):
            continue
        heads, sectors = volume.be(at + 140, 4), volume.be(at + 148, 4)
        low, high = volume.be(at + 164, 4), volume.be(at + 168, 4)
        cylinder = heads * sectors * scale * SECTOR
        if high < low or not cylinder:
            continue
        kind, flags = volume.at(at + 192, 4), volume.be(at + 20, 4)
        entries.append(
            Entry(
                len(entries) + 1,
                low * cylinder,
                (high - low + 1) * cylinder,
                types.AMIGA_TYPES.get(kind) or show_name(kind[:3]) + f"/{kind[3]}",
                show_text(volume.at(at + 37, min(volume.le(at + 36, 1), 31)), "latin-1"),
                flags=(("bootable",) if flags & 1 else ())
                + (("not mounted by itself",) if flags & 2 else ()),
            )
        )
    vendor, product = volume.text(start + 160, 8), volume.text(start + 168, 16)
    facts: dict[str, Fact] = {"disk": f"{vendor} {product}".strip()}
    return Table("amiga", "Amiga rigid disk block (RDB)", tuple(entries), facts)


def _is_summed(volume: Window, start: int) -> bool:
    return _is_zero_sum(volume.at(start, 4 * (volume.be(start + 4, 4) & 0x7F)))


# Flag, identifier, first sector, number of sectors.
_ATARI_ENTRY = struct.Struct(">B 3s I I")


def _atari(volume: Window, block_size: int) -> Table | None:
    # block/partitions/atari.h (struct rootsector). There is no magic, so one must look right.
    if block_size != SECTOR:
        return None
    sectors = volume.size // SECTOR
    roots = list(_ATARI_ENTRY.iter_unpack(volume.at(0x1C6, 48)))
    if not any(
        flag & 1 and kind in types.ATARI_TYPES and count and first + count <= sectors
        for flag, kind, first, count in roots
    ):
        return None
    entries: list[Entry] = []

    def add(number: int, flag: int, kind: bytes, first: int, count: int) -> None:
        name = types.ATARI_TYPES.get(kind) or show_name(kind)
        flags = ("bootable",) if flag & 0x80 else ()
        if count:
            entries.append(Entry(number, first * SECTOR, count * SECTOR, name, flags=flags))

    number = 0
    for flag, kind, first, count in roots:
        number += 1
        if number >= _MOST_PARTITIONS:
            break
        if flag & 1 and kind != b"XGM":
            add(number, flag, kind, first, count)
        if not flag & 1 or kind != b"XGM":
            continue
        # Each link has one partition and the next link, which counts from the first.
        at = first
        while number < _MOST_PARTITIONS:
            inner, link = list(_ATARI_ENTRY.iter_unpack(volume.at(at * SECTOR + 0x1C6, 24)))
            if not inner[0] & 1:
                break
            add(number, inner[0], inner[1], at + inner[2], inner[3])
            if not link[0] & 1 or link[1] != b"XGM":
                break
            at = first + link[2]
            number += 1
    return Table("atari", "Atari partition table (AHDI)", tuple(entries), {})


def _mac(volume: Window, _block_size: int) -> Table | None:
    # block/partitions/mac.h: a driver descriptor, then a block for each partition
    unit = volume.be(2, 2)
    if not volume.has(0, b"ER") or unit < SECTOR or unit.bit_count() != 1:
        return None
    if not volume.has(unit, b"PM"):
        return None
    entries = []
    for number in range(1, min(volume.be(unit + 4, 4), _MOST_PARTITIONS - 1) + 1):
        at = number * unit
        if not volume.has(at, b"PM"):
            break
        first, count = volume.be(at + 8, 4), volume.be(at + 12, 4)
        if count:
            flags = ("bootable",) if volume.be(at + 88, 4) & 8 else ()
            kind, label = volume.text(at + 48, 32), volume.text(at + 16, 32)
            entries.append(Entry(number, first * unit, count * unit, kind, label, flags=flags))
    return Table("mac", "Apple partition map (APM)", tuple(entries), {"block size": unit})


def _ultrix(volume: Window, _block_size: int) -> Table | None:
    # block/partitions/ultrix.c: at the end of the first 16 KiB
    if not volume.has(16384 - 72, b"\x57\x29\x03\0\x01\0\0\0"):
        return None
    fields = struct.iter_unpack("<I I", volume.at(16384 - 64, 64))
    entries = tuple(
        Entry(number, first * SECTOR, count * SECTOR, f"Ultrix {chr(ord('a') + number - 1)}")
        for number, (count, first) in enumerate(fields, 1)
        if count
    )
    return Table("ultrix", "Ultrix disk label", entries, {})


# ---- All of them -------------------------------------------------------------------------------

# In the order that Linux looks for them, then those that it does not take.
_READERS = (
    _gpt,
    _sgi,
    _ldm,
    _aix,
    _dos,
    _osf,
    _sun,
    _amiga,
    _atari,
    _mac,
    _ultrix,
    _bsd,
    _bare_gpt,
)


def read_table(volume: Window, block_size: int) -> Table | None:
    """The partition table of a disk, or None; ``block_size`` is that of its logical blocks."""
    for read in _READERS:
        table = read(volume, block_size)
        if table is not None:
            return table
    return None


def add_missing(device: BlockDevice, table: Table, size: int) -> int:
    """Have the kernel make the partitions of a table that it did not take; the number of them.

    Linux takes no GPT whose first header is damaged, whose MBR is gone, or which tells of a larger
    disk than the image of it, and no BSD label that stands by itself. ``device`` is a disk of
    ``size`` bytes on which the kernel found nothing, and nothing else was recognised.
    """
    added = 0
    for entry in table.entries:
        length = min(entry.size, size - entry.start) // SECTOR * SECTOR
        if length > 0:
            try:
                device.add_partition(entry.number, entry.start, length)
            except KernelError as error:
                # One that overlaps with another, or is not on whole blocks.
                if error.name not in ("EBUSY", "EINVAL"):
                    raise
            else:
                added += 1
    return added


def free_ranges(
    partitions: Sequence[tuple[int, int]], size: int, least: int = FREE_FROM
) -> Iterator[tuple[int, int]]:
    """Start and length of what no partition covers, where it is more than ``least`` bytes.

    ``partitions`` are starts and lengths, in any order, which may overlap.
    """
    end = 0
    for start, length in (*sorted(partitions), (size, 0)):
        if min(start, size) - end > least:
            yield end, min(start, size) - end
        end = max(end, start + length)
