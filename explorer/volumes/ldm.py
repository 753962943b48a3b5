# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Windows' dynamic disks: the database of the Logical Disk Manager, and what it calls partitions.

The layouts are those of ``block/partitions/ldm.c`` and ``ldm.h`` in the Linux source, whose
partitions these are. Numbers are big-endian.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from explorer.core.names import show_name
from explorer.images.guids import show_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.volumes.window import Window

SECTOR = 512

_HEADER = 6 * SECTOR
_DATABASE_SIZE = 1 << 20
"""Bytes; Windows makes no other."""
_OBJECTS = 17 * SECTOR
"""Where the head of the objects is in the database."""

# Types of objects, the version in the lower half.
_DISK_3, _DISK_4, _PARTITION, _COMPONENT, _VOLUME = 0x34, 0x44, 0x33, 0x32, 0x51

_KINDS = {1: "striped", 3: "RAID-5"}
"""By the type of a volume's component."""


class DynamicPartition(NamedTuple):
    """A partition of a dynamic disk."""

    start: int
    """Bytes from the start of the disk."""
    size: int
    """Bytes."""
    kind: str
    """Of the volume that it is or is a part of, as ``simple`` or ``spanned``."""
    volume: str
    """The name of that volume."""


class DynamicDisk(NamedTuple):
    """What the database tells of a disk."""

    guid: str
    group: str
    """Name of the group of disks that it is in."""
    partitions: tuple[DynamicPartition, ...]
    """By their starts."""


class _Fields:
    """The fields of an object, one after the other; raises :exc:`IndexError` beyond its end."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 24

    def skip(self, length: int) -> bytes:
        """Bytes of a fixed number."""
        self._at += length
        if self._at > len(self._raw):
            raise IndexError
        return self._raw[self._at - length : self._at]

    def data(self) -> bytes:
        """Bytes after their number."""
        return self.skip(self.skip(1)[0])

    def number(self) -> int:
        """A number after the number of its bytes."""
        return int.from_bytes(self.data(), "big")

    def text(self) -> str:
        """A text after its length; safe to show."""
        return show_name(self.data())


class _Disk(NamedTuple):
    guid: str


class _Partition(NamedTuple):
    start: int
    size: int
    component: int
    disk: int


class _Component(NamedTuple):
    type: int
    volume: int


class _Volume(NamedTuple):
    name: str


_Object = _Disk | _Partition | _Component | _Volume


def _parse(raw: bytes) -> tuple[int, _Object | None]:
    """An object with its number; None when it is of no interest."""
    fields = _Fields(raw)
    kind, number, name = raw[19], fields.number(), fields.text()
    if kind == _DISK_3:
        return number, _Disk(fields.text().lower())
    if kind == _DISK_4:
        return number, _Disk(show_uuid(fields.skip(16)))
    if kind == _PARTITION:
        fields.skip(12)
        start = int.from_bytes(fields.skip(8), "big")
        fields.skip(8)
        return number, _Partition(start, fields.number(), fields.number(), fields.number())
    if kind == _COMPONENT:
        fields.text()
        structure = fields.skip(5)[0]
        fields.number()
        fields.skip(16)
        return number, _Component(structure, fields.number())
    if kind == _VOLUME:
        return number, _Volume(name)
    return number, None


def _records(database: bytes) -> Iterator[bytes]:
    """The objects; one that is longer than its place is in several, in any order."""
    head = database[_OBJECTS : _OBJECTS + SECTOR]
    if head[:4] != b"VMDB" or head[16:18] != b"\0\1":
        return
    count, size, start = (int.from_bytes(head[at : at + 4], "big") for at in (4, 8, 12))
    if not 32 <= size <= SECTOR or start + count * size > len(database):
        return
    parts: dict[int, dict[int, bytes]] = {}
    for at in range(_OBJECTS + start, _OBJECTS + count * size, size):
        raw = database[at : at + size]
        if raw[:4] != b"VBLK":
            return
        group = int.from_bytes(raw[8:12], "big")
        part, total = (int.from_bytes(raw[at : at + 2], "big") for at in (12, 14))
        if total == 1:
            yield raw
        elif total > 1:
            found = parts.setdefault(group, {})
            found[part] = raw if not part else raw[16:]
            if len(found) == total:
                yield b"".join(found[number] for number in sorted(found))


def read_dynamic_disk(volume: Window) -> DynamicDisk | None:
    """The database at the end of a disk, or None when there is none that can be read."""
    if not volume.has(_HEADER, b"PRIVHEAD"):
        return None
    guid = volume.text(_HEADER + 0x30, 64).lower()
    first = volume.be(_HEADER + 0x11B, 8) * SECTOR
    database = volume.be(_HEADER + 0x12B, 8) * SECTOR
    if database + _DATABASE_SIZE > volume.size:
        return None
    objects: dict[int, _Object | None] = {}
    try:
        for raw in _records(volume.at(database, _DATABASE_SIZE)):
            number, found = _parse(raw)
            objects[number] = found
    except IndexError:
        return None
    disks = {number for number, one in objects.items() if one == _Disk(guid)}
    if not disks:
        return None
    partitions = [
        DynamicPartition(first + one.start * SECTOR, one.size * SECTOR, *_volume_of(one, objects))
        for one in objects.values()
        if isinstance(one, _Partition) and one.disk in disks
    ]
    group = volume.text(_HEADER + 0xF0, 31)
    return DynamicDisk(guid, group, tuple(sorted(partitions)))


def _volume_of(partition: _Partition, objects: dict[int, _Object | None]) -> tuple[str, str]:
    """Kind and name of the volume that a partition belongs to."""
    component = objects.get(partition.component)
    if not isinstance(component, _Component):
        return "", ""
    beside = [
        one
        for one in objects.values()
        if isinstance(one, _Partition) and one.component == partition.component
    ]
    copies = [
        one
        for one in objects.values()
        if isinstance(one, _Component) and one.volume == component.volume
    ]
    kind = _KINDS.get(component.type) or ("simple" if len(beside) == 1 else "spanned")
    volume = objects.get(component.volume)
    name = volume.name if isinstance(volume, _Volume) else ""
    return ("mirrored" if len(copies) > 1 else kind), name
