# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""LVM2's volume groups: what their text says of logical volumes, and which of these can be had.

Names and meanings of what stands in the text are those of LVM2's ``lib/format_text/import_vsn1.c``
and of its segment types in ``lib/striped``, ``mirror``, ``raid``, ``snapshot``, ``thin``,
``cache_segtype`` and ``writecache``. Sizes are in extents, which are as long as the group says, or
in sectors of 512 bytes.

A group may be damaged in one place and whole in others: what is wrong with a logical volume is
kept with it, and does not touch the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from explorer.core.errors import VolumeError
from explorer.core.messages import describe
from explorer.volumes.lvm_metadata import LARGEST_NUMBER, SECTOR, read_uuid, show_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from explorer.volumes.lvm_metadata import Metadata, PhysicalVolume, Section

Handle = TypeVar("Handle")

_NAME = re.compile(r"[A-Za-z0-9+_.-]{1,127}", re.ASCII)

_LARGEST_EXTENT = 1 << 32
_MOST_EXTENTS = (1 << 32) - 1
_LARGEST_UNIT = 1 << 31
_MOST_IMAGES = 253
_DEEPEST = 32
"""Logical volumes that may be made of one another; LVM2 itself comes to some six."""

# Of lib/format_text/flags.c: what is known to leave the layout of a volume as it is.
_STATUS = frozenset(
    (
        *("FIXED_MINOR", "LOCKED", "NOTSYNCED", "PVMOVE", "READ", "REBUILD", "VISIBLE"),
        *("WRITE", "WRITEMOSTLY"),
    )
)
_SEGMENT_FLAGS = frozenset(
    (
        *("CACHE_USES_CACHEVOL", "CROP_METADATA", "METADATA_FORMAT", "REMOVE_AFTER_RESHAPE"),
        *("RESHAPE", "RESHAPE_DATA_OFFSET", "RESHAPE_DELTA_DISKS_MINUS"),
        "RESHAPE_DELTA_DISKS_PLUS",
    )
)

PARITY = {"raid4": 1, "raid5": 1, "raid6": 2}
"""How many images may be missing."""
REDUNDANT = frozenset((*PARITY, "raid1", "raid10"))


# ---- What the text says ------------------------------------------------------------------------


class Area(NamedTuple):
    """Where a part of a segment stands."""

    name: str
    """Of a physical or a logical volume."""
    extent: int
    """Extents from its start."""
    physical: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A range of a logical volume that is made in one way."""

    start: int
    """Extents from the start of the volume."""
    length: int
    """Extents; never 0."""
    type: str
    """As ``striped``, ``raid5_ls`` or ``thin``."""
    areas: tuple[Area, ...] = ()
    """Stripes, mirrors or RAID's images."""
    superblocks: tuple[str, ...] = ()
    """The logical volumes with the superblocks of RAID's images, as many; empty without."""
    stripe_size: int = 0
    """Sectors."""
    spare: int = 0
    """Of RAID: extents that it only needs to be given another shape."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Other logical volumes that it is made of, by what they are to it, as ``origin``."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """Sizes and the like, by their names in the text."""
    mode: str = ""
    """Of a cache: as ``writeback``."""

    @property
    def area_length(self) -> int:
        """Extents of each area of a striped segment."""
        return self.length // max(1, len(self.areas))

    @property
    def used(self) -> int:
        """Extents that it makes of the volume."""
        return self.length - self.spare

    @property
    def level(self) -> str:
        """Of RAID: without the layout, as ``raid5``."""
        return self.type.partition("_")[0]


@dataclass(slots=True)
class _Raw:
    """A logical volume as the text has it, whether a person wants to see it or not."""

    name: str
    uuid: str = ""
    visible: bool = False
    rebuilt: bool = False
    """Whether it is an image of a RAID that is to be written anew."""
    extents: int = 0
    segments: tuple[Segment, ...] = ()
    fault: VolumeError | None = None

    @property
    def used(self) -> int:
        """Extents that can be seen of it."""
        return self.extents - sum(segment.spare for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Physical(Generic[Handle]):
    """A physical volume of a group."""

    uuid: str
    hint: str
    """The name of its device when the group was changed last; safe to show."""
    start: int
    """Sectors before its first extent."""
    extents: int
    handle: Handle | None
    """None: it was not found."""
    sectors: int
    """What there is of its device, which may be cut off."""

    def describe(self) -> str:
        """How it is named to a person."""
        return f"{self.uuid} ({self.hint})" if self.hint else self.uuid


def _read_areas(section: Section, name: str, count: int) -> list[tuple[str, int]]:
    values = section.values(name)
    if len(values) != 2 * count:
        raise section.fault(f"{len(values)} values for {count} areas", name)
    found = []
    for place, extent in zip(values[::2], values[1::2], strict=True):
        if not isinstance(place, str) or not isinstance(extent, int):
            raise section.fault("not pairs of a name and a number", name)
        if not 0 <= extent <= _MOST_EXTENTS:
            raise section.fault(f"extent {extent}", name)
        found.append((place, extent))
    return found


class _Reader:
    """Reads the segments of a group's logical volumes."""

    def __init__(self, physical: Iterable[str]) -> None:
        self._physical = frozenset(physical)

    def read(self, section: Section) -> Segment:
        """A segment; raises :exc:`VolumeError` for one that is wrong, or of an unknown type."""
        kind, *flags = section.text("type", "striped").split("+")
        # What has one stripe is also called so.
        kind = "striped" if kind == "linear" else kind
        read = _TYPES.get(kind)
        unknown = [flag for flag in flags if flag not in _SEGMENT_FLAGS]
        if read is None or unknown:
            text = "+".join([kind, *unknown])
            raise VolumeError("volume.feature", feature=f"LVM segment of type {show_text(text)}")
        return read(
            self,
            section,
            section.number("start_extent", 0, _MOST_EXTENTS),
            section.number("extent_count", 1, _MOST_EXTENTS),
            kind,
        )

    def _areas(self, section: Section, name: str, count: int) -> tuple[Area, ...]:
        return tuple(
            Area(place, extent, place in self._physical)
            for place, extent in _read_areas(section, name, count)
        )

    def read_nothing(self, _section: Section, start: int, length: int, kind: str) -> Segment:
        """Of error and zero."""
        return Segment(start=start, length=length, type=kind)

    def read_stripes(self, section: Section, start: int, length: int, kind: str) -> Segment:
        """Of striped, which is also linear."""
        count = section.number("stripe_count", 1, _MOST_EXTENTS)
        areas = self._areas(section, "stripes", count)
        if length % count:
            raise section.fault(f"{length} extents cannot be shared by {count} stripes")
        size = section.number("stripe_size", 1, _LARGEST_UNIT) if count > 1 else 0
        return Segment(start=start, length=length, type=kind, areas=areas, stripe_size=size)

    def read_mirror(self, section: Section, start: int, length: int, kind: str) -> Segment:
        """Of mirror, by which physical volumes are also emptied."""
        count = section.number("mirror_count", 1, _MOST_EXTENTS)
        areas = self._areas(section, "mirrors", count)
        moved = section.number("extents_moved", default=0)
        if moved >= length and count > 1:
            # The first of them is where they came from.
            areas = areas[1:]
        return Segment(start=start, length=length, type=kind, areas=areas)

    def read_raid(self, section: Section, start: int, length: int, kind: str) -> Segment:
        """Of all levels of RAID."""
        counted = "stripe_count" if kind.startswith("raid0") else "device_count"
        count = section.number(counted, 1, _MOST_IMAGES)
        names = section.texts("raid0_lvs" if kind == "raid0" else "raids")
        superblocks: list[str] = []
        if kind != "raid0":
            superblocks, names = names[::2], names[1::2]
        if len(names) != count or (superblocks and len(superblocks) != count):
            raise section.fault(f"{len(names)} images instead of {count}")
        size = section.number("stripe_size", 8, _LARGEST_UNIT) if kind != "raid1" else 0
        copies = section.number("data_copies", 1, count, 2 if count > 1 else 1)
        # Each image is longer by so much, which the length is told with.
        data = 1 if kind == "raid1" else count - PARITY.get(kind.partition("_")[0], 0)
        spare = data * section.number("reshape_count", 0, _MOST_EXTENTS, 0)
        if data < 1 or spare >= length:
            raise section.fault(f"{length} extents, {spare} of them spare, on {count} images")
        return Segment(
            start=start,
            length=length,
            type=kind,
            areas=tuple(Area(name, 0, physical=False) for name in names),
            superblocks=tuple(superblocks),
            stripe_size=size,
            spare=spare,
            numbers={"data_copies": copies},
        )

    def read_snapshot(self, section: Section, start: int, length: int, kind: str) -> Segment:
        """Of the pseudo volume that ties a snapshot to its origin."""
        merging = "merging_store" in section
        return Segment(
            start=start,
            length=length,
            type=kind,
            others={
                "origin": section.text("origin"),
                "store": section.text("merging_store" if merging else "cow_store"),
            },
            numbers={
                "chunk_size": section.number("chunk_size", 1, _LARGEST_UNIT),
                "merging": int(merging),
            },
        )

    def read_thin_pool(self, section: Section, start: int, length: int, kind: str) -> Segment:
        """Of a pool of blocks for thin volumes."""
        # Before its name was settled it was data_block_size.
        unit = "data_block_size" if "data_block_size" in section else "chunk_size"
        return Segment(
            start=start,
            length=length,
            type=kind,
            others={"data": section.text("pool"), "metadata": section.text("metadata")},
            numbers={"chunk_size": section.number(unit, 1, _LARGEST_UNIT)},
        )

    def read_thin(self, section: Section, start: int, length: int, kind: str) -> Segment:
        """Of a thin volume; its origin within the pool is the pool's own matter."""
        others = {"pool": section.text("thin_pool")}
        if "external_origin" in section:
            others["origin"] = section.text("external_origin")
        number = section.number("device_id", 0, (1 << 24) - 1)
        return Segment(
            start=start, length=length, type=kind, others=others, numbers={"device_id": number}
        )

    def read_cache_pool(self, section: Section, start: int, length: int, kind: str) -> Segment:
        """Of what one cache or another may use."""
        return Segment(
            start=start,
            length=length,
            type=kind,
            others={"data": section.text("data"), "metadata": section.text("metadata")},
            numbers={"chunk_size": section.number("chunk_size", 1, _LARGEST_UNIT, 128)},
            mode=section.text("cache_mode", "writethrough"),
        )

    def read_cache(self, section: Section, start: int, length: int, kind: str) -> Segment:
        """Of a volume with a cache: a cache pool, or a volume that has both of its parts."""
        others = {"origin": section.text("origin"), "pool": section.text("cache_pool")}
        numbers = {}
        if "metadata_start" in section:
            names = ("metadata_start", "metadata_len", "data_start", "data_len")
            numbers = {name: section.number(name, 0, LARGEST_NUMBER // SECTOR) for name in names}
            numbers["chunk_size"] = section.number("chunk_size", 1, _LARGEST_UNIT)
        return Segment(
            start=start,
            length=length,
            type=kind,
            others=others,
            numbers=numbers,
            mode=section.text("cache_mode", "writethrough") if numbers else "",
        )

    def read_writecache(self, section: Section, start: int, length: int, kind: str) -> Segment:
        """Of a volume whose newest writes are kept in another."""
        return Segment(
            start=start,
            length=length,
            type=kind,
            others={"origin": section.text("origin"), "cache": section.text("writecache")},
            numbers={"block_size": section.number("writecache_block_size", SECTOR, 65536)},
        )


_RAID_TYPES = (
    *("raid0", "raid0_meta", "raid1", "raid4", "raid10", "raid10_near", "raid5", "raid5_la"),
    *("raid5_ls", "raid5_n", "raid5_ra", "raid5_rs", "raid6", "raid6_la_6", "raid6_ls_6"),
    *("raid6_n_6", "raid6_nc", "raid6_nr", "raid6_ra_6", "raid6_rs_6", "raid6_zr"),
)

_TYPES: dict[str, Callable[[_Reader, Section, int, int, str], Segment]] = {
    "striped": _Reader.read_stripes,
    "mirror": _Reader.read_mirror,
    **dict.fromkeys(_RAID_TYPES, _Reader.read_raid),
    "snapshot": _Reader.read_snapshot,
    "thin-pool": _Reader.read_thin_pool,
    "thin": _Reader.read_thin,
    "cache-pool": _Reader.read_cache_pool,
    "cache": _Reader.read_cache,
    "writecache": _Reader.read_writecache,
    "error": _Reader.read_nothing,
    "zero": _Reader.read_nothing,
}
_POOLS = frozenset(("thin-pool", "cache-pool"))


# ---- What can be had ---------------------------------------------------------------------------


class Health(NamedTuple):
    """How much of a logical volume there is, redundancy included."""

    usable: bool
    """Whether it can be put together, be it with gaps at the ends of what is cut off."""
    whole: bool
    """Whether every byte can be had."""
    missing: frozenset[str] = frozenset()
    """The names of the physical volumes that are not there, needed or not."""
    fault: VolumeError | None = None
    """Why it is not usable, where that is not for what is missing."""


_NOTHING_WRONG = Health(usable=True, whole=True)


def _join(parts: Iterable[Health]) -> Health:
    """The health of what needs all of its parts."""
    joined = _NOTHING_WRONG
    for part in parts:
        joined = Health(
            joined.usable and part.usable,
            joined.whole and part.whole,
            joined.missing | part.missing,
            joined.fault or part.fault,
        )
    return joined


def is_enough(segment: Segment, present: set[int]) -> bool:
    """Whether a mirror or RAID can do with the images that are present."""
    count = len(segment.areas)
    level = segment.level
    if level in PARITY:
        return len(present) >= max(1, count - PARITY[level])
    if level == "raid10":
        copies = segment.numbers["data_copies"]
        return all(
            any((first + number) % count in present for number in range(copies))
            for first in range(0, count * copies, copies)
        )
    return bool(present)


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A logical volume that a person wants to see."""

    name: str
    uuid: str
    size: int
    """Bytes."""
    kind: str
    """As ``linear``, ``striped``, ``mirror``, ``raid5_ls``, ``thin``, ``snapshot``, ``cache``."""
    missing: tuple[str, ...]
    """The physical volumes that it is on and that are not there: UUID and last known device."""
    refusal: VolumeError | None
    """Why it cannot be activated; None when it can."""
    note: str
    """What is worth knowing of one that can, in a line; empty for one that is whole."""


class VolumeGroup(Generic[Handle]):
    """A volume group, as its newest metadata tells of it."""

    def __init__(self, metadata: Metadata, found: Sequence[tuple[PhysicalVolume, Handle]]) -> None:
        """Used by :func:`group_volumes`."""
        self.name = metadata.name
        """Safe to show."""
        self.uuid = metadata.uuid
        self.sequence = metadata.sequence
        self.fault: VolumeError | None = None
        """Why it shows no volumes, when its metadata is damaged as a whole."""
        self.extent_size = 0
        """Sectors."""
        self.physical: dict[str, Physical[Handle]] = {}
        """By their names in the metadata."""
        self.volumes: list[LogicalVolume] = []
        self._raw: dict[str, _Raw] = {}
        self._health: dict[str, Health] = {}
        self.snapshots: dict[str, list[tuple[str, Segment]]] = {}
        """The snapshots of each origin: the store of what it has, and the segment that says so."""
        self._origins: dict[str, Segment] = {}
        """The same by the store."""
        try:
            self._read(metadata.group, found)
        except VolumeError as error:
            self.fault = error
        else:
            self.volumes = list(self._list_volumes())

    @property
    def devices(self) -> list[Handle]:
        """The physical volumes that were found."""
        return [one.handle for one in self.physical.values() if one.handle is not None]

    @property
    def missing(self) -> list[str]:
        """Those that were not: UUID and last known device."""
        return [one.describe() for one in self.physical.values() if one.handle is None]

    # ---- Reading

    def _read(self, group: Section, found: Sequence[tuple[PhysicalVolume, Handle]]) -> None:
        self.extent_size = group.number("extent_size", 2, _LARGEST_EXTENT)
        by_uuid: dict[str, tuple[PhysicalVolume, Handle]] = {}
        for volume, handle in found:
            # Of a physical volume that is there more than once, the first is as good as any.
            by_uuid.setdefault(volume.uuid, (volume, handle))
        for name, section in group.section("physical_volumes").sections():
            uuid = read_uuid(section)
            here = by_uuid.get(uuid)
            self.physical[name] = Physical(
                uuid,
                show_text(section.text("device", "")),
                section.number("pe_start", 0, LARGEST_NUMBER // SECTOR),
                section.number("pe_count", 0, _MOST_EXTENTS),
                here[1] if here else None,
                here[0].device_size // SECTOR if here else 0,
            )
        reader = _Reader(self.physical)
        for name, section in group.section("logical_volumes").sections():
            self._raw[name] = self._read_volume(reader, name, section)
        self._tie_snapshots()
        self._check_overlaps()

    def _read_volume(self, reader: _Reader, name: str, section: Section) -> _Raw:
        raw = _Raw(name)
        try:
            status = section.texts("status")
            raw.visible = "VISIBLE" in status
            raw.rebuilt = "REBUILD" in status
            raw.uuid = read_uuid(section)
            if not _NAME.fullmatch(name) or name in self.physical:
                raise section.fault("not a name that a logical volume may have")
            unknown = [flag for flag in status if flag not in _STATUS]
            if unknown:
                flags = show_text(", ".join(unknown))
                raise VolumeError("volume.feature", feature=f"LVM volume with status {flags}")
            found = [reader.read(one) for _name, one in section.sections()]
            if section.number("segment_count") != len(found):
                raise section.fault(f"{len(found)} segments", "segment_count")
            raw.segments = tuple(sorted(found, key=lambda one: one.start))
            for segment in raw.segments:
                if segment.start != raw.extents:
                    raise section.fault(f"a gap or an overlap at extent {raw.extents}")
                raw.extents += segment.length
                if segment.others and len(found) > 1:
                    raise section.fault(f"{segment.type} is not the only segment")
            if not 0 < raw.extents * self.extent_size <= LARGEST_NUMBER // SECTOR:
                raise section.fault(f"a size of {raw.extents} extents")
        except VolumeError as error:
            raw.fault = error
            # What it would take is not to be had, but its size can be told.
            raw.extents = max(raw.extents, _guess_extents(section))
        return raw

    def _tie_snapshots(self) -> None:
        for raw in self._raw.values():
            for segment in raw.segments:
                if segment.type != "snapshot":
                    continue
                origin, store = segment.others["origin"], segment.others["store"]
                self.snapshots.setdefault(origin, []).append((store, segment))
                if store in self._origins and store in self._raw:
                    self._raw[store].fault = self._corrupt(store, "the store of two snapshots")
                self._origins[store] = segment

    def _corrupt(self, name: str, reason: str) -> VolumeError:
        return VolumeError(
            "volume.corrupt-metadata",
            volume=f"{self.name}/{show_text(name)}",
            where=f"{self.name}/logical_volumes/{show_text(name)}",
            reason=reason,
        )

    def _check_overlaps(self) -> None:
        """Find extents of physical volumes that are used twice, or that are not there."""
        used: dict[str, list[tuple[int, int, str]]] = {name: [] for name in self.physical}
        for raw in self._raw.values():
            for segment in raw.segments:
                length = segment.area_length if segment.type == "striped" else segment.length
                for area in segment.areas:
                    if not area.physical:
                        continue
                    end = area.extent + length
                    if end > self.physical[area.name].extents:
                        reason = f"extents beyond the end of {show_text(area.name)}"
                        raw.fault = raw.fault or self._corrupt(raw.name, reason)
                    used[area.name].append((area.extent, end, raw.name))
        for name, ranges in used.items():
            furthest = (0, "")
            for start, end, owner in sorted(ranges):
                if start < furthest[0]:
                    for one, other in ((owner, furthest[1]), (furthest[1], owner)):
                        raw = self._raw[one]
                        reason = (
                            f"extent {start} of {show_text(name)} also belongs to "
                            f"{show_text(other)}"
                        )
                        raw.fault = raw.fault or self._corrupt(one, reason)
                furthest = max(furthest, (end, owner))

    # ---- Health

    def segments(self, name: str) -> tuple[Segment, ...]:
        """What a logical volume is made of."""
        return self._raw[name].segments

    def sectors(self, name: str) -> int:
        """The size of a logical volume."""
        return self._raw[name].used * self.extent_size

    def is_rebuilt(self, name: str) -> bool:
        """Whether a logical volume is an image of a RAID that is to be written anew."""
        return self._raw[name].rebuilt

    def origin_of(self, store: str) -> Segment | None:
        """What makes a logical volume the store of a snapshot, if it is one."""
        return self._origins.get(store)

    def health(self, name: str, above: tuple[str, ...] = ()) -> Health:
        """How much of a logical volume there is, as it is by itself.

        ``above`` are those that need it on the way here.
        """
        known = self._health.get(name)
        if known is None:
            known = self._health[name] = self._find_health(name, above)
        return known

    def _find_health(self, name: str, above: tuple[str, ...]) -> Health:
        raw = self._raw.get(name)
        fault: VolumeError | None
        if raw is None:
            fault = self._corrupt(above[-1] if above else name, f"needs {show_text(name)}")
        elif name in above:
            fault = self._corrupt(name, "is made of itself")
        elif len(above) >= _DEEPEST:
            fault = self._corrupt(name, f"more than {_DEEPEST} volumes on one another")
        else:
            fault = raw.fault
        if fault is not None or raw is None:
            return Health(usable=False, whole=False, fault=fault)
        above = (*above, name)
        return _join(self._segment_health(segment, above) for segment in raw.segments)

    def _segment_health(self, segment: Segment, above: tuple[str, ...]) -> Health:
        if segment.type == "cache":
            return self._cache_health(segment, above)
        if segment.type.startswith("raid"):
            # How long its images must be is the level's matter.
            areas = [self.health(area.name, above) for area in segment.areas]
        else:
            length = segment.area_length if segment.type == "striped" else segment.length
            areas = [self.area_health(area, length, above) for area in segment.areas]
        if segment.type == "mirror" or segment.level in REDUNDANT:
            missing = _join(areas).missing
            for whole, present in (
                (True, {number for number, one in enumerate(areas) if one.whole}),
                (False, {number for number, one in enumerate(areas) if one.usable}),
            ):
                if is_enough(segment, present):
                    return Health(usable=True, whole=whole, missing=missing)
        return _join((*areas, *(self.health(name, above) for name in segment.others.values())))

    def area_health(self, area: Area, length: int, above: tuple[str, ...] = ()) -> Health:
        """How much there is of an area of ``length`` extents."""
        end = area.extent + length
        if not area.physical:
            health = self.health(area.name, above)
            if health.usable and end > self._raw[area.name].extents:
                fault = self._corrupt(above[-1], f"extents beyond the end of {area.name}")
                return Health(usable=False, whole=False, fault=fault)
            return health
        volume = self.physical[area.name]
        if volume.handle is None:
            return Health(usable=False, whole=False, missing=frozenset((area.name,)))
        whole = volume.start + end * self.extent_size <= volume.sectors
        return Health(usable=True, whole=whole)

    def _cache_health(self, segment: Segment, above: tuple[str, ...]) -> Health:
        origin = self.health(segment.others["origin"], above)
        cache = self.health(segment.others["pool"], above)
        if self.cache_mode(segment) == "writeback":
            return _join((origin, cache))
        # All that is in the cache stands in the origin, too.
        return origin._replace(missing=origin.missing | cache.missing)

    def cache_mode(self, segment: Segment) -> str:
        """How a cache is written to, as ``writeback``."""
        pool = self._raw.get(segment.others["pool"])
        if segment.mode or pool is None or not pool.segments:
            return segment.mode or "writeback"
        return pool.segments[0].mode or "writeback"

    # ---- Showing

    def _list_volumes(self) -> Iterator[LogicalVolume]:
        merging = {
            segment.others["origin"]: store
            for store, segment in self._origins.items()
            if segment.numbers["merging"]
        }
        for name, raw in self._raw.items():
            types = {segment.type for segment in raw.segments}
            snapshot = self._origins.get(name)
            # The store of a snapshot is not marked as visible, nor is the origin of one of nothing.
            shown = raw.visible if snapshot is None else not snapshot.numbers["merging"]
            if not shown or "snapshot" in types or types & _POOLS:
                continue
            extents, kind = raw.used, _kind(raw)
            parts = [self.health(name)]
            if snapshot is not None:
                extents, kind = snapshot.length, "snapshot"
                parts.append(self.health(snapshot.others["origin"], (name,)))
            elif name in merging:
                parts.append(self.health(merging[name], (name,)))
            health = _join(parts)
            missing = tuple(
                one.describe() for pv, one in self.physical.items() if pv in health.missing
            )
            refusal = self._refusal(name, health, missing)
            yield LogicalVolume(
                show_text(name),
                raw.uuid,
                extents * self.extent_size * SECTOR,
                kind,
                missing,
                refusal,
                "" if refusal else _note(health, missing),
            )

    def _refusal(self, name: str, health: Health, missing: tuple[str, ...]) -> VolumeError | None:
        if health.usable:
            return None
        if health.fault is not None:
            return health.fault
        return VolumeError(
            "volume.missing-member",
            volume=f"{self.name}/{show_text(name)}",
            names=", ".join(missing),
        )


def _guess_extents(section: Section) -> int:
    """The size of a volume that is wrong elsewhere, as far as its segments tell."""
    total = 0
    for _name, segment in section.sections():
        try:
            total += segment.number("extent_count", 1, _MOST_EXTENTS)
        except VolumeError:
            continue
    return min(total, _MOST_EXTENTS)


def _kind(raw: _Raw) -> str:
    if not raw.segments:
        return ""
    kinds = {
        "linear" if one.type == "striped" and len(one.areas) == 1 else one.type
        for one in raw.segments
    }
    return ", ".join(sorted(kinds))


def _note(health: Health, missing: Sequence[str]) -> str:
    notes = []
    if missing:
        notes.append(VolumeError("group.degraded", names=", ".join(missing)))
    if not health.whole:
        notes.append(VolumeError("group.cut-off"))
    return "; ".join(map(describe, notes))


def group_volumes(found: Sequence[tuple[PhysicalVolume, Handle]]) -> list[VolumeGroup[Handle]]:
    """The volume groups that physical volumes belong to, in the order in which they are met.

    Each physical volume comes with whatever it is reached by. The newest metadata of a group tells
    of it; a physical volume without any belongs to the group that names it.
    """
    newest: dict[str, Metadata] = {}
    for volume, _handle in found:
        metadata = volume.metadata
        if metadata is None:
            continue
        known = newest.get(metadata.uuid)
        if known is None or metadata.sequence > known.sequence:
            newest[metadata.uuid] = metadata
    return [VolumeGroup(metadata, found) for metadata in newest.values()]
