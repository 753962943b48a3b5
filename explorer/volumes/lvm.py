# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""LVM2: logical volumes as devices of the kernel.

The metadata is read by :mod:`explorer.volumes.lvm_metadata` and understood by
:mod:`explorer.volumes.lvm_group`; here the kernel is told what it says, from the bottom up, as
LVM2's ``lib/activate`` does. What the targets take is told in
``Documentation/admin-guide/device-mapper``.

Nothing is mapped that writes by itself, so that it is the same whether the disks refuse writes or
keep them in memory: RAID runs without its superblocks and bitmaps, which are read here; what
caches hold is found here, too; a thin pool that must not change is told so.
"""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from explorer.core.errors import ExplorerError, KernelError, VolumeError
from explorer.kernel.mapper import Target, map_device
from explorer.kernel.raid import RaidMember, RaidReshape, RaidShape, run_array
from explorer.volumes.lvm_caches import Cached, read_cache, read_write_cache
from explorer.volumes.lvm_group import (
    PARITY,
    LogicalVolume,
    VolumeGroup,
    group_volumes,
    is_enough,
)
from explorer.volumes.lvm_metadata import SECTOR, PhysicalVolume, corrupt, read_physical_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from explorer.kernel import BlockDevice, Kernel
    from explorer.kernel.mapper import MappedDevice
    from explorer.kernel.raid import RaidDevice
    from explorer.volumes.lvm_group import Area, Segment

    Device = MappedDevice | RaidDevice

__all__ = [
    "Activation",
    "LogicalVolume",
    "PhysicalVolume",
    "VolumeGroup",
    "activate",
    "group_volumes",
    "read_physical_volume",
]

_MOST_TARGETS = 1 << 17
"""Of one device, which take some 60 MB of the kernel's memory."""

_NUMBERS = count()
"""Make the names of devices."""


# ---- What is mapped ----------------------------------------------------------------------------


@dataclass(slots=True)
class _Made:
    """A device that several may use."""

    device: Device
    below: list[str]
    """What it stands on."""
    users: int = 0


@dataclass(slots=True)
class _Maps:
    """The devices that were made of a volume group, by what they are."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    read_only: bool = True
    made: dict[str, _Made] = field(default_factory=dict)

    def take(self, key: str, make: Callable[[list[str]], Device]) -> Device:
        """A device, which is made unless it is there; ``make`` adds to its list what it takes."""
        made = self.made.get(key)
        if made is None:
            below: list[str] = []
            try:
                made = _Made(make(below), below)
            except BaseException:
                with suppress(KernelError):
                    self.drop_all(below)
                raise
            self.made[key] = made
        made.users += 1
        return made.device

    def drop(self, key: str) -> None:
        """Let go of a device; the last one takes it apart, with what only it stood on."""
        made = self.made[key]
        if made.users == 1:
            made.device.close()
            del self.made[key]
            self.drop_all(made.below)
        else:
            made.users -= 1

    def drop_all(self, keys: list[str]) -> None:
        """Let go of several, the last taken first."""
        while keys:
            self.drop(keys.pop())


_MAPS: WeakKeyDictionary[Kernel, dict[str, _Maps]] = WeakKeyDictionary()
"""By the UUIDs of groups: what one finds mapped must not be mapped by another a second time."""
_MAPS_LOCK = threading.Lock()


class Activation:
    """A logical volume as a device of the kernel."""

    def __init__(self, maps: _Maps, keys: list[str], device: BlockDevice) -> None:
        """Used by :func:`activate`."""
        self._maps = maps
        self._keys = keys
        self.device = device

    def close(self) -> None:
        """Take it apart; nothing may use the device. A second call does nothing."""
        with self._maps.lock:
            while self._keys:
                key = self._keys.pop()
                try:
                    self._maps.drop(key)
                except KernelError:
                    # What is in use can be closed later.
                    if key in self._maps.made:
                        self._keys.append(key)
                    raise


def activate(
    kernel: Kernel,
    group: VolumeGroup[BlockDevice],
    logical_volume: LogicalVolume,
    *,
    read_only: bool,
) -> Activation:
    """Make a device of a logical volume.

    With ``read_only`` it takes no writes; all volumes of a group that are active at one time are
    activated alike. Raises :exc:`VolumeError` for one that lacks what it needs, is damaged or of a
    kind that cannot be read, and what a disk's reader raises when its bytes cannot be had.
    """
    if logical_volume.refusal is not None:
        raise logical_volume.refusal
    name = f"{group.name}/{logical_volume.name}"
    with _MAPS_LOCK:
        maps = _MAPS.setdefault(kernel, {}).setdefault(group.uuid, _Maps())
    with maps.lock:
        if maps.made and maps.read_only != read_only:
            raise ValueError(f"volumes of {group.name} are active in another way")
        maps.read_only = read_only
        keys: list[str] = []
        try:
            device = _Builder(kernel, group, maps, name).build(logical_volume.name, keys)
        except KernelError as error:
            if error.code != "kernel.call":
                raise
            raise VolumeError(
                "group.refused", volume=name, reason=error.reason, log=error.log
            ) from error
        return Activation(maps, keys, device)


class _Builder:
    """Makes the devices of one volume, those below it first.

    Its methods add the names of the devices that they take to a list, for them to be let go of
    together with what they were taken for.
    """

    def __init__(
        self, kernel: Kernel, group: VolumeGroup[BlockDevice], maps: _Maps, name: str
    ) -> None:
        self._kernel = kernel
        self._group = group
        self._maps = maps
        self._name = name

    def _need(self, below: list[str], key: str, make: Callable[[list[str]], Device]) -> Device:
        device = self._maps.take(key, make)
        below.append(key)
        return device

    def _map(self, targets: Iterable[Target], *, read_only: bool | None = None) -> MappedDevice:
        return map_device(
            self._kernel,
            b"lvm-%d" % next(_NUMBERS),
            list(targets),
            read_only=self._maps.read_only if read_only is None else read_only,
        )

    def _corrupt(self, where: str, reason: str) -> VolumeError:
        return corrupt(self._name, where, reason)

    def _extents(self, number: int) -> int:
        """Sectors of a number of extents."""
        return number * self._group.extent_size

    # ---- Volumes

    def build(self, name: str, below: list[str]) -> Device:
        """A volume as a person wants to see it."""
        group = self._group
        if group.origin_of(name) is not None:
            return self._snapshot(name, below)
        snapshots = group.snapshots.get(name, [])
        for store, segment in snapshots:
            if segment.numbers["merging"]:
                # What was not merged yet is newer than the origin, which is no snapshot's any more.
                return self._snapshot(store, below)
        if snapshots and not self._maps.read_only:
            return self._origin(name, below)
        return self._volume(name, below)

    def _volume(self, name: str, below: list[str]) -> Device:
        """A volume as it is by itself: of a snapshot, its store; of an origin, its content."""

        def targets(inner: list[str]) -> Iterator[Target]:
            for segment in self._group.segments(name):
                yield from self._targets(name, segment, inner)

        def make(inner: list[str]) -> Device:
            pool = self._group.segments(name)[0].type == "thin-pool"
            # The table of a pool must be writable, whatever the pool is.
            return self._map(targets(inner), read_only=False if pool else None)

        return self._need(below, name, make)

    def _targets(self, name: str, segment: Segment, below: list[str]) -> Iterator[Target]:
        start, length = self._extents(segment.start), self._extents(segment.length)
        others, numbers = segment.others, segment.numbers
        if segment.type == "striped":
            area = self._extents(segment.area_length)
            places = [self._place(one, area, below) for one in segment.areas]
            yield _stripes(start, length, segment.stripe_size, places)
        elif segment.type == "mirror":
            yield _linear(start, length, self._mirror(segment, length, below))
        elif segment.type in ("raid0", "raid0_meta"):
            images = [(self._volume(one.name, below).path, 0) for one in segment.areas]
            yield _stripes(start, length, segment.stripe_size, images)
        elif segment.type.startswith("raid"):
            array = self._need(below, f"{name} array", lambda inner: self._array(segment, inner))
            length = self._extents(segment.used)
            # As long as it is given more images, it has not grown yet.
            there = min(length, array.size() // SECTOR)
            yield _linear(start, there, (array.path, 0))
            if there < length:
                yield Target(there, length - there, "error", b"")
        elif segment.type == "thin-pool":
            yield self._thin_pool(segment, below)
        elif segment.type == "thin":
            parameters = b"%b %d" % (self._volume(others["pool"], below).path, numbers["device_id"])
            if "origin" in others:
                parameters += b" " + self._extended(others["origin"], length, below).path
            yield Target(start, length, "thin", parameters)
        elif segment.type == "cache":
            yield from self._cache(segment, below)
        elif segment.type == "writecache":
            cache = self._volume(others["cache"], below)
            size = self._group.sectors(others["cache"]) * SECTOR
            cached = read_write_cache(cache.read, size, self._name)
            yield from self._over(segment, cached, (cache.path, 0), below)
        else:
            yield Target(start, length, segment.type, b"")

    def _place(self, area: Area, length: int, below: list[str]) -> tuple[bytes, int]:
        """The device and the first sector of an area of ``length`` sectors."""
        offset = self._extents(area.extent)
        if not area.physical:
            return self._volume(area.name, below).path, offset
        volume = self._group.physical[area.name]
        # Without its physical volumes a volume is not activated.
        assert volume.handle is not None
        path = volume.handle.path
        offset += volume.start
        there = volume.handle.size() // SECTOR - offset
        if there >= length:
            return path, offset

        def make(_inner: list[str]) -> Device:
            # What an image that is cut off does not have cannot be read; the rest can.
            targets = [Target(max(0, there), length - max(0, there), "error", b"")]
            if there > 0:
                targets.insert(0, _linear(0, there, (path, offset)))
            return self._map(targets)

        return self._need(below, f"{area.name} {offset} {length}", make).path, 0

    # ---- Mirrors and RAID

    def _mirror(self, segment: Segment, length: int, below: list[str]) -> tuple[bytes, int]:
        """The first of the mirrors that is whole: the others are brought in step with it."""
        healths = [self._group.area_health(area, segment.length) for area in segment.areas]
        number = next(
            (number for number, health in enumerate(healths) if health.whole),
            next(number for number, health in enumerate(healths) if health.usable),
        )
        return self._place(segment.areas[number], length, below)

    def _array(self, segment: Segment, below: list[str]) -> RaidDevice:
        group = self._group
        healths = [group.health(area.name) for area in segment.areas]
        present = {number for number, health in enumerate(healths) if health.whole}
        if not is_enough(segment, present):
            present = {number for number, health in enumerate(healths) if health.usable}
        superblocks = {
            number: superblock
            for number in sorted(present)
            if (superblock := self._superblock(segment, number)) is not None
        }
        newest = max(superblocks.values(), key=lambda one: one.events, default=None)
        if newest is not None:
            # An image without a superblock was not brought in step yet.
            present = {
                number
                for number, superblock in superblocks.items()
                if not newest.has_failed(superblock.position)
            }
        present = {number for number in present if not group.is_rebuilt(segment.areas[number].name)}
        if not is_enough(segment, present):
            outdated = [
                area.name
                for number, area in enumerate(segment.areas)
                if healths[number].usable and number not in present
            ]
            raise VolumeError("group.outdated", volume=self._name, names=", ".join(outdated))
        plan = _plan_array(segment, self._extents(segment.used), newest, self._corrupt)
        # What is missing must be made from the parity, in step or not.
        trusted = segment.level in PARITY and len(present) < plan.shape.disks
        members = []
        for number in sorted(present):
            superblock = superblocks.get(number)
            image = segment.areas[number].name
            offset, new_offset = (
                (superblock.data_offset, superblock.new_data_offset) if superblock else (0, 0)
            )
            size = group.sectors(image) - max(offset, new_offset)
            if size < plan.component:
                raise self._corrupt(image, "it is shorter than the RAID needs")
            members.append(
                RaidMember(
                    self._volume(image, below),
                    role=number,
                    offset=offset,
                    size=size,
                    new_offset=new_offset,
                    recovered=superblock.recovered if superblock else None,
                )
            )
        return run_array(
            self._kernel,
            plan.shape,
            plan.component,
            members,
            reshape=plan.reshape,
            in_step=None if trusted else plan.in_step,
            read_only=self._maps.read_only,
        )

    def _superblock(self, segment: Segment, number: int) -> _Superblock | None:
        name = segment.superblocks[number]
        if not self._group.health(name).usable:
            return None
        keys: list[str] = []
        try:
            block = self._volume(name, keys).read(0, _SUPERBLOCK.size)
        except ExplorerError as error:
            if isinstance(error, KernelError) and error.code != "kernel.call":
                raise
            return None
        finally:
            self._maps.drop_all(keys)
        return _read_superblock(block)

    # ---- Snapshots

    def _snapshot(self, store: str, below: list[str]) -> Device:
        """A snapshot, by the volume that stores what it has of its own."""
        segment = self._group.origin_of(store)
        assert segment is not None

        def make(inner: list[str]) -> Device:
            origin = self._volume(segment.others["origin"], inner)
            content = self._volume(store, inner)
            length = self._extents(segment.length)
            # struct disk_header in drivers/md/dm-snap-persistent.c: magic, valid
            head = content.read(0, _SNAPSHOT.size)
            magic, valid = _SNAPSHOT.unpack(head.ljust(_SNAPSHOT.size, b"\0"))
            if magic == 0:
                # Not used yet; the driver would begin with it.
                return self._map([_linear(0, length, (origin.path, 0))])
            if magic != _SNAPSHOT_MAGIC:
                raise self._corrupt(store, "not the store of a snapshot")
            if not valid:
                raise VolumeError("group.snapshot-lost", volume=self._name)
            parameters = b"%b %b P %d" % (
                origin.path,
                content.path,
                segment.numbers["chunk_size"],
            )
            return self._map([Target(0, length, "snapshot", parameters)])

        return self._need(below, f"{store} snapshot", make)

    def _origin(self, name: str, below: list[str]) -> Device:
        """An origin, on which what is written is first copied to its snapshots."""

        def make(inner: list[str]) -> Device:
            real = self._volume(name, inner)
            for store, _segment in self._group.snapshots[name]:
                # One that cannot be had needs no copies.
                if not self._group.health(store).usable:
                    continue
                try:
                    self._snapshot(store, inner)
                except (VolumeError, KernelError) as error:
                    if error.code == "kernel.ended":
                        raise
            length = self._group.sectors(name)
            return self._map([Target(0, length, "snapshot-origin", real.path)])

        return self._need(below, f"{name} origin", make)

    # ---- Thin volumes

    def _thin_pool(self, segment: Segment, below: list[str]) -> Target:
        metadata = self._volume(segment.others["metadata"], below)
        data = self._volume(segment.others["data"], below)
        unit = segment.numbers["chunk_size"]
        block = metadata.read(0, _THIN.size)
        magic, data_blocks, metadata_blocks = _THIN.unpack(block.ljust(_THIN.size, b"\0"))
        if magic != _THIN_MAGIC:
            raise self._corrupt(segment.others["metadata"], "not the metadata of a thin pool")
        # A pool would grow to the sizes of its volumes, but that is to change it.
        length = min(self._extents(segment.length), data_blocks * unit)
        own = min(self._group.sectors(segment.others["metadata"]), metadata_blocks * 8)
        table = metadata.path
        if own < self._group.sectors(segment.others["metadata"]):
            table = self._need(
                below,
                f"{segment.others['metadata']} {own}",
                lambda _inner: self._map([_linear(0, own, (metadata.path, 0))]),
            ).path
        features = [b"ignore_discard", b"error_if_no_space"]
        if self._maps.read_only:
            features.append(b"read_only")
        parameters = b"%b %b %d 0 %d %b" % (
            table,
            data.path,
            unit,
            len(features),
            b" ".join(features),
        )
        return Target(0, length, "thin-pool", parameters)

    def _extended(self, name: str, length: int, below: list[str]) -> Device:
        """A volume of at least ``length`` sectors, of which the last are zeros."""
        device = self._volume(name, below)
        own = self._group.sectors(name)
        if own >= length:
            return device
        # A pool that must not change reads on behind the end of a shorter origin.
        targets = [_linear(0, own, (device.path, 0)), Target(own, length - own, "zero", b"")]
        return self._need(below, f"{name} {length}", lambda _inner: self._map(targets))

    # ---- Caches

    def _cache(self, segment: Segment, below: list[str]) -> Iterator[Target]:
        group, numbers = self._group, segment.numbers
        pool = segment.others["pool"]
        mode = group.cache_mode(segment)
        if not group.health(pool).usable:
            # Its health says that the origin has it all.
            yield from self._over(segment, Cached(1, 0, []), (b"", 0), below)
            return
        if numbers:
            # A volume with both parts.
            device = self._volume(pool, below)
            begin, size = numbers["metadata_start"] * SECTOR, numbers["metadata_len"] * SECTOR
            place = (device.path, numbers["data_start"])
        else:
            parts = group.segments(pool)[0].others
            device = self._volume(parts["metadata"], below)
            begin, size = 0, group.sectors(parts["metadata"]) * SECTOR
            place = (self._volume(parts["data"], below).path, 0)

        def read(offset: int, length: int) -> bytes:
            return device.read(begin + offset, max(0, min(length, size - offset)))

        yield from self._over(segment, read_cache(read, self._name, mode=mode), place, below)

    def _over(
        self, segment: Segment, cached: Cached, cache: tuple[bytes, int], below: list[str]
    ) -> Iterator[Target]:
        """The origin, but for what stands in the cache that begins at a sector of a device."""
        origin = self._volume(segment.others["origin"], below).path
        length = self._extents(segment.length)
        path, first = cache
        first += cached.start
        targets = 0
        at = 0
        for number, place, blocks in _runs(cached.blocks):
            begin = number * cached.unit
            end = min((number + blocks) * cached.unit, length)
            if begin >= length:
                raise self._corrupt(segment.others["origin"], f"its cache has block {number} of it")
            targets += 2
            if targets > _MOST_TARGETS:
                raise VolumeError(
                    "volume.feature", feature=f"a cache with more than {targets // 2} ranges"
                )
            if begin > at:
                yield _linear(at, begin - at, (origin, at))
            yield _linear(begin, end - begin, (path, first + place * cached.unit))
            at = end
        if at < length:
            yield _linear(at, length - at, (origin, at))


def _linear(start: int, length: int, place: tuple[bytes, int]) -> Target:
    return Target(start, length, "linear", b"%b %d" % place)


def _stripes(start: int, length: int, size: int, places: list[tuple[bytes, int]]) -> Target:
    if len(places) == 1:
        return _linear(start, length, places[0])
    parameters = b"%d %d " % (len(places), size) + b" ".join(b"%b %d" % place for place in places)
    return Target(start, length, "striped", parameters)


def _runs(blocks: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Blocks that follow one another on both sides: the first of each, and how many."""
    begin: tuple[int, int, int] | None = None
    for number, place in blocks:
        if begin is not None and (number, place) == (begin[0] + begin[2], begin[1] + begin[2]):
            begin = (*begin[:2], begin[2] + 1)
            continue
        if begin is not None:
            yield begin
        begin = number, place, 1
    if begin is not None:
        yield begin


# ---- Structures of the kernel's targets ---------------------------------------------------------

_SNAPSHOT = Struct("<I I")
_SNAPSHOT_MAGIC = 0x70416E53

# struct thin_disk_superblock in drivers/md/dm-thin-metadata.c: magic; the first numbers of the
# roots of two space maps, which are their blocks.
_THIN = Struct("<32x Q 24x Q 120x Q")
_THIN_MAGIC = 27022010

# struct dm_raid_superblock in drivers/md/dm-raid.c: magic, features, num_devices, array_position,
# events, failed_devices, disk_recovery_offset, array_resync_offset, level, layout,
# stripe_sectors; flags, reshape_position, new_level, new_layout, new_stripe_sectors, delta_disks,
# array_sectors, data_offset, new_data_offset, sectors, more failed_devices, features.
_SUPERBLOCK = Struct("<I I I I Q Q Q Q i i I I Q i i I i Q Q Q Q 24s I")
_SUPERBLOCK_MAGIC = 0x64526D44
_EXTENDED = 1 << 0
_RESHAPING, _BACKWARDS = 1 << 0, 1 << 1
_NEVER = (1 << 64) - 1

_LEVELS = {1: "raid1", 4: "raid4", 5: "raid5", 6: "raid6", 10: "raid10"}

# The levels and layouts of dm-raid's names, as raid_types[] in drivers/md/dm-raid.c has them:
# its RAID4 is MD's RAID5 with the parity on the first disk.
_SHAPES = {
    "raid1": ("raid1", 0),
    "raid4": ("raid5", 4),
    "raid5": ("raid5", 2),
    "raid5_la": ("raid5", 0),
    "raid5_ra": ("raid5", 1),
    "raid5_ls": ("raid5", 2),
    "raid5_rs": ("raid5", 3),
    "raid5_n": ("raid5", 5),
    "raid6": ("raid6", 8),
    "raid6_zr": ("raid6", 8),
    "raid6_nr": ("raid6", 9),
    "raid6_nc": ("raid6", 10),
    "raid6_la_6": ("raid6", 16),
    "raid6_ra_6": ("raid6", 17),
    "raid6_ls_6": ("raid6", 18),
    "raid6_rs_6": ("raid6", 19),
    "raid6_n_6": ("raid6", 5),
    "raid10": ("raid10", 0),
    "raid10_near": ("raid10", 0),
}


class _Superblock(NamedTuple):
    """What dm-raid notes beside each image of a RAID."""

    disks: int
    position: int
    """The image's own."""
    events: int
    """How often it was written."""
    failed: int
    """A bit for each image."""
    recovered: int | None
    """Sectors of the image that were brought in step; None: all."""
    in_step: int | None
    """Sectors of the images that agree with one another; None: all."""
    shape: RaidShape
    """In a reshape, the old one."""
    reshape: RaidReshape | None
    data_offset: int
    """Sectors of the image before its data."""
    new_data_offset: int
    """The same after a reshape."""
    array: int
    """Sectors of the array; 0 where it does not say."""
    sectors: int
    """Sectors of the image that may be used; 0 where it does not say."""

    def has_failed(self, position: int) -> bool:
        """Whether an image is out of date."""
        return bool(self.failed >> position & 1)


def _read_superblock(block: bytes) -> _Superblock | None:
    """What a superblock says; None where none was written yet."""
    (
        magic, features, disks, position, events, failed, recovered, in_step,
        level, layout, chunk, flags, reshape_position, new_level, new_layout, new_chunk, delta,
        array, data_offset, new_data_offset, sectors, more_failed, incompatible,
    ) = _SUPERBLOCK.unpack(block.ljust(_SUPERBLOCK.size, b"\0"))  # fmt: skip
    if magic != _SUPERBLOCK_MAGIC:
        return None
    extended = bool(features & _EXTENDED)
    if (
        features & ~_EXTENDED
        or (extended and incompatible)
        or level not in _LEVELS
        or (extended and new_level not in _LEVELS)
    ):
        raise VolumeError(
            "volume.feature",
            feature=f"LVM RAID of level {level}, features {features:#x}:{incompatible:#x}",
        )
    shape = RaidShape(_LEVELS[level], disks, chunk * SECTOR, layout)
    reshape = None
    if extended and flags & _RESHAPING:
        new = RaidShape(_LEVELS[new_level], disks, new_chunk * SECTOR, new_layout)
        reshape = RaidReshape(reshape_position, new, bool(flags & _BACKWARDS))
        shape = shape._replace(disks=disks - delta)
    return _Superblock(
        disks,
        position,
        events,
        failed | (int.from_bytes(more_failed, "little") << 64 if extended else 0),
        None if recovered == _NEVER else recovered,
        None if in_step == _NEVER else in_step,
        shape,
        reshape,
        data_offset if extended else 0,
        new_data_offset if extended else 0,
        array if extended else 0,
        sectors if extended else 0,
    )


class _Plan(NamedTuple):
    """How an array is run."""

    shape: RaidShape
    component: int
    """Sectors of each image that are used."""
    in_step: int | None
    reshape: RaidReshape | None


def _plan_array(
    segment: Segment,
    length: int,
    newest: _Superblock | None,
    fault: Callable[[str, str], VolumeError],
) -> _Plan:
    """The array of a segment of ``length`` sectors.

    The superblock knows better than the metadata what shape it has: that is changed first.
    """
    images = len(segment.areas)
    level, layout = _SHAPES[segment.type]
    copies = segment.numbers["data_copies"]
    if level == "raid10":
        # One far copy, as many near ones as there are.
        layout = 1 << 8 | copies
    shape = RaidShape(level, images, segment.stripe_size * SECTOR, layout)
    in_step, reshape = None, None
    if newest is not None:
        shape, in_step, reshape = newest.shape, newest.in_step, newest.reshape
    shapes = [shape] if reshape is None else [shape, reshape.shape]
    most = max(one.disks for one in shapes)
    if most > images:
        raise fault(segment.areas[0].name, f"a RAID of {most} images, where there are {images}")
    # In a reshape the array is as long as both shapes allow.
    data = min(map(_data_images, shapes))
    if data <= 0:
        raise fault(segment.areas[0].name, f"a RAID of {shape.disks} images without data")
    if reshape is not None and newest is not None:
        length = newest.array
    component = math.ceil(length / data)
    if reshape is None and newest is not None and 0 < newest.sectors < component:
        # It was made longer, but did not run since.
        in_step = newest.sectors if in_step is None else min(in_step, newest.sectors)
    return _Plan(shape, component, in_step, reshape)


def _data_images(shape: RaidShape) -> Fraction:
    """How many images' worth of content an array has."""
    if shape.level == "raid1":
        return Fraction(1)
    if shape.level == "raid10":
        return Fraction(shape.disks, max(1, shape.layout & 0xFF))
    return Fraction(shape.disks - PARITY.get(shape.level, 0))
