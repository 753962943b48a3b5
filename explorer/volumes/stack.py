# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""From images to their volumes, however these are nested, and from a volume to its files.

What a disk holds is found by looking: partitions, members of arrays and volume groups, encrypted
volumes, and whatever stands on these in turn. Arrays and groups are put together as soon as their
members are there, whichever image or partition they come from. An encrypted volume stays as it is
until it is unlocked, and subvolumes are not looked for until somebody wants them.

What only some volumes need is imported when one of these is met: most sources are a disk with a
file system or two.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.closing import Closing
from explorer.core.errors import (
    ExplorerError,
    ImageError,
    KernelError,
    SourceError,
    VolumeError,
)
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.core.views import View
from explorer.core.volume import (
    ARRAY,
    DISK,
    FREE,
    LOGICAL,
    NO_PARENT,
    OPENED,
    PARTITION,
    SUBVOLUME,
    Volume,
)
from explorer.kernel.pack import DiskRange
from explorer.volumes.mounting import MountedVolume, mount_recognised
from explorer.volumes.signatures import recognise
from explorer.volumes.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from explorer.images.base import Fact, Image
    from explorer.kernel import BlockDevice, Disk, Kernel, Partition
    from explorer.volumes import btrfs, lvm, md, tables
    from explorer.volumes.signatures import Recognised

OVERLAY_LIMIT = 256 * 1024 * 1024
"""Bytes of memory, for each disk, in which a file system may replay its journal."""

DEPTH_LIMIT = 16
"""Volumes that may stand on one another."""

VOLUME_LIMIT = 512
"""Volumes, beyond which no partitions within partitions are looked for: tables can be laid so that
each partition begins with a table of others, without an end."""

FIRST_NUMBER = 1000
"""Of the volumes that are no partitions of the first disk."""

BLOCK_SIZES = (512, 1024, 2048, 4096)

LUKS = "crypto_LUKS"
LVM_MEMBER = "LVM2_member"
RAID_MEMBER = "linux_raid_member"
BTRFS = "btrfs"

SILENT = ("f2fs", "ntfs")
"""Recover without a word in the kernel's log."""

ON_DEMAND = ("ntfs",)
"""Replay their journal only when they are mounted in another way, which costs more."""

UNREPLAYED = ("jfs", "hfsplus")
"""Have a journal that Linux leaves as it is, and are mounted all the same."""

EMPTY = Window(lambda _offset, _length: b"", 0, 0)
"""Of a volume that cannot be read."""


def disk_block_size(image: Image) -> int:
    """Bytes of a logical block: where the GPT stands, when there is one, tells it."""
    # UEFI specification, section 5.3.2: the header is in the second block, a copy in the last.
    sizes = (image.block_size, *BLOCK_SIZES)
    for size in sizes:
        if image.read(size, 8) == b"EFI PART":
            return size
    if image.read(446 + 4, 1) == b"\xee":
        for size in sizes:
            if image.size > size and image.read(image.size - size, 8) == b"EFI PART":
                return size
    return image.block_size


@dataclass(slots=True)
class _Node:
    """A volume, and how it is reached."""

    volume: Volume
    window: Window
    depth: int
    found: Recognised | None = None
    device: Callable[[], BlockDevice] | None = None
    """Gives the kernel's device; None for what is only listed."""
    options: str = ""
    """More options to mount it with."""
    searched: bool = False
    """Whether its subvolumes were looked for."""


def has_to_replay(node: _Node) -> bool:
    """Whether there is something in the journal of a file system that must be asked to replay."""
    from explorer.volumes import features

    content = node.volume.content
    return content in ON_DEMAND and features.has_to_replay(
        features.describe_content(node.window, content)
    )


def is_dirty(node: _Node) -> bool:
    """Whether what is on a volume says that it was not closed cleanly."""
    from explorer.volumes.features import describe_content, is_clean

    return not is_clean(describe_content(node.window, node.volume.content))


def _describe_failure(error: ExplorerError) -> str:
    """What is told of a volume that cannot be read.

    Raises what ended the kernel, which is no matter of one volume.
    """
    if isinstance(error, KernelError) and error.code != "kernel.call":
        raise error
    return describe(error)


class _Place(NamedTuple):
    """Where a new volume belongs."""

    kind: str
    name: str
    parent: int = NO_PARENT
    depth: int = 0
    start: int = 0
    type: str = ""
    label: str = ""
    """The partition's, as is the next."""
    uuid: str = ""
    note: str = ""


class Stack(Closing):
    """Images as disks of a kernel, and all that stands on them. A context manager."""

    def __init__(
        self,
        kernel: Kernel,
        images: Sequence[Image],
        *,
        view: View = View.AUTO,
        overlay_limit: int = OVERLAY_LIMIT,
    ) -> None:
        """Give the images to the kernel, and look at what they hold.

        As stored, every write of the kernel fails; else what it writes is kept in memory, up to
        ``overlay_limit`` bytes for each disk.
        """
        self._kernel = kernel
        self._images = tuple(images)
        self._view = view
        self._read_only = view is View.STORED or not overlay_limit
        self._closing = ExitStack()
        self._numbers = count(FIRST_NUMBER)
        self._nodes: dict[int, _Node] = {}
        self._raid_members: list[tuple[md.Member, BlockDevice]] = []
        self._physical_volumes: list[tuple[lvm.PhysicalVolume, BlockDevice]] = []
        self._holders: dict[bytes, int] = {}
        """The number of the volume that a device of the kernel is."""
        self._logical: dict[tuple[str, str], int] = {}
        """The number of a logical volume, by the UUIDs of its group and its own."""
        self._arrays: set[str] = set()
        """The UUIDs of those that were put together, or could not be."""
        self._btrfs_devices: list[tuple[btrfs.BtrfsMember, BlockDevice]] = []
        self._btrfs_joined: dict[str, btrfs.RegisteredDevices] = {}
        """By the UUID of the file system."""
        self._tables: list[tuple[str, tables.Table]] = []
        self._waiting = False
        """Whether members were met since the last assembly."""
        self.disks: list[Disk] = []
        try:
            for image in self._images:
                self._add_image(image, 0 if self._read_only else overlay_limit)
            self._assemble()
        except BaseException:
            self.close()
            raise

    # ---- What there is

    @property
    def kernel(self) -> Kernel:
        """The kernel that reads it."""
        return self._kernel

    @property
    def images(self) -> tuple[Image, ...]:
        """The images, in the order given."""
        return self._images

    @property
    def view(self) -> View:
        """How journals are treated."""
        return self._view

    def volumes(self) -> list[Volume]:
        """All that is known by now.

        The whole of a disk is listed only when something is recognised on it.
        """
        return [
            node.volume
            for node in self._nodes.values()
            if node.volume.kind != DISK or node.found is not None
        ]

    def overlay_bytes(self) -> int:
        """Memory that holds what the kernel has written, of all disks."""
        return sum(disk.statistics().overlay_bytes for disk in self.disks)

    def tables(self) -> list[tuple[str, tables.Table]]:
        """The partition tables, each after the name of the volume that it divides."""
        return self._tables

    def window(self, volume: Volume) -> Window:
        """The bytes that a volume presents: an array put together, an encrypted volume opened.

        What the kernel has written, in memory, is in those of volumes on others, and not in those
        of partitions.
        """
        return self._node(volume).window

    def facts(self, volume: Volume) -> dict[str, Fact]:
        """What the file system on a volume, or what else is there, tells of itself."""
        node = self._node(volume)
        try:
            if volume.content == LUKS:
                from explorer.volumes import luks

                header = luks.read_header(node.window, self.name(volume))
                return header.facts() if header is not None else {}
            if volume.content == RAID_MEMBER:
                from explorer.volumes import md

                member = md.read_superblock(node.window)
                return member.facts() if member is not None else {}
            from explorer.volumes.features import describe_content

            return describe_content(node.window, volume.content) if node.found else {}
        except (ImageError, SourceError, VolumeError, KernelError) as error:
            return {"damage": _describe_failure(error)}

    def name(self, volume: Volume) -> str:
        """How messages name a volume."""
        path = self._images[0].path
        return path if volume.number == 0 else f"{path}, volume {volume.name}"

    # ---- Disks and partitions

    def _add_image(self, image: Image, overlay_limit: int) -> None:
        block_size = disk_block_size(image)
        disk = self._kernel.add_disk(image, overlay_limit=overlay_limit, block_size=block_size)
        self._closing.enter_context(disk)
        prefix = f"{len(self.disks) + 1}:" if self.disks else ""
        self.disks.append(disk)

        def window(start: int, size: int) -> Window:
            # A partition may reach beyond an image that is cut off.
            return Window(image.read, start, max(0, min(size, image.size - start)))

        numbered = not prefix
        whole = self._add(
            _Place(DISK, f"{prefix}0"), window(0, image.size), disk.device, 0 if numbered else None
        )
        partitions = disk.partitions()
        if not partitions and whole.found is None:
            from explorer.volumes import tables

            table = tables.read_table(whole.window, block_size)
            if table is not None and tables.add_missing(disk.device(), table, image.size):
                partitions = disk.partitions()
            if not partitions and whole.volume.note:
                # Nothing else will tell why nothing was found.
                recognise(whole.window)
        self._add_partitions(
            whole, partitions, block_size, prefix, window, disk.device, numbered=numbered
        )

    def _add_partitions(
        self,
        whole: _Node,
        partitions: Sequence[Partition],
        block_size: int,
        prefix: str,
        window: Callable[[int, int], Window],
        device: Callable[[int], BlockDevice],
        *,
        numbered: bool = False,
    ) -> None:
        """Take in the partitions of a disk, and the space between them.

        With ``numbered`` they keep the numbers that Linux gives them.
        """
        if not partitions:
            return
        from explorer.volumes import tables

        table = None
        with suppress(ImageError, SourceError):
            # The kernel has read it; a copy of it may be damaged.
            table = tables.read_table(whole.window, block_size)
        if table is not None:
            self._tables.append((whole.volume.name, table))
        told = {entry.start: entry for entry in table.entries} if table else {}
        parent, depth = whole.volume.number, whole.depth + 1
        for partition in partitions:
            view = window(partition.start, partition.size)
            entry = told.get(partition.start)
            if partition.start == 0 and whole.found and recognise(view) == whole.found:
                # The partition that covers the disc of a hybrid ISO is that disc once more.
                continue
            place = _Place(PARTITION, f"{prefix}{partition.number}", parent, depth, partition.start)
            if entry is not None:
                place = place._replace(type=entry.type, label=entry.label, uuid=entry.uuid)
            number = partition.number if numbered else None
            node = self._add(place, view, partial(device, partition.number), number)
            # As the table has it: an image that is cut off shows by it.
            node.volume = replace(node.volume, size=partition.size)
        ranges = [(partition.start, partition.size) for partition in partitions]
        for start, size in tables.free_ranges(ranges, whole.volume.size):
            number = next(self._numbers)
            free = Volume(
                number, start, size, "", "", "", "", mountable=False, kind=FREE, parent=parent
            )
            self._nodes[number] = _Node(free, window(start, size), depth)

    # ---- Any volume

    def _add(
        self,
        place: _Place,
        window: Window,
        device: Callable[[], BlockDevice] | None,
        number: int | None = None,
    ) -> _Node:
        """Take a volume in, and look at what it holds.

        What it is a member of is put together later, when all members may be there.
        """
        if number is None:
            number = next(self._numbers)
        found, note = None, place.note
        try:
            found = recognise(window)
        except ExplorerError as error:
            note = _describe_failure(error)
        volume = Volume(
            number,
            place.start,
            window.size,
            found.content if found else "",
            found.title if found else "",
            found.label if found else "",
            found.uuid if found else "",
            mountable=bool(found and found.types and device),
            kind=place.kind,
            name=place.name,
            parent=place.parent,
            locked=bool(found and found.content == LUKS and device),
            type=place.type,
            partition_label=place.label,
            partition_uuid=place.uuid,
            note=note,
        )
        node = self._nodes[number] = _Node(volume, window, place.depth, found, device)
        if device is not None:
            try:
                self._look_inside(node, device)
            except ExplorerError as error:
                node.volume = replace(node.volume, note=_describe_failure(error))
        window.forget()
        return node

    def _look_inside(self, node: _Node, device: Callable[[], BlockDevice]) -> None:
        content = node.volume.content
        if content == LVM_MEMBER:
            from explorer.volumes import lvm

            volume = lvm.read_physical_volume(node.window)
            if volume is not None:
                self._physical_volumes.append((volume, self._hold(device(), node)))
                if volume.fault is not None:
                    node.volume = replace(node.volume, note=describe(volume.fault))
        elif content == RAID_MEMBER:
            from explorer.volumes import md

            member = md.read_superblock(node.window)
            if member is not None:
                self._raid_members.append((member, self._hold(device(), node)))
        elif content == BTRFS:
            from explorer.volumes import btrfs

            device_of = btrfs.read_device(node.window)
            if device_of is not None and device_of.devices > 1:
                self._btrfs_devices.append((device_of, self._hold(device(), node)))
        elif node.found is None and node.volume.kind != DISK and node.depth < DEPTH_LIMIT:
            self._look_for_partitions(node, device)

    def _hold(self, device: BlockDevice, node: _Node) -> BlockDevice:
        self._holders[device.path] = node.volume.number
        self._waiting = True
        return device

    def _look_for_partitions(self, node: _Node, device: Callable[[], BlockDevice]) -> None:
        from explorer.kernel.loop import attach_loop
        from explorer.volumes import tables

        if node.volume.kind == PARTITION and node.volume.start == 0:
            # What is at its start is the table that tells of it.
            return
        # The kernel looks for partitions on disks only, and on loop devices.
        for block_size in BLOCK_SIZES:
            if tables.read_table(node.window, block_size) is not None:
                break
        else:
            return
        if len(self._nodes) >= VOLUME_LIMIT:
            raise VolumeError("volume.too-many", limit=VOLUME_LIMIT)
        loop = attach_loop(self._kernel, device(), read_only=self._read_only, block_size=block_size)
        self._closing.enter_context(loop)
        self._add_partitions(
            node,
            loop.partitions(),
            block_size,
            f"{node.volume.name}.",
            lambda start, size: Window(
                loop.read, start, max(0, min(size, node.window.size - start))
            ),
            loop.partition,
        )

    def _add_device(self, place: _Place, device: BlockDevice, number: int | None = None) -> _Node:
        """Take in what the kernel made of other volumes."""
        return self._add(place, Window(device.read, 0, device.size()), lambda: device, number)

    # ---- What volumes make together

    def _assemble(self) -> None:
        """Put together whatever has its members, and what stands on it in turn."""
        for _ in range(DEPTH_LIMIT):
            if not self._waiting:
                return
            self._waiting = False
            self._assemble_arrays()
            self._assemble_groups()
            self._join_btrfs()

    def _parent(self, devices: Iterable[BlockDevice]) -> _Node | None:
        """The volume that one on several is shown below: that of its first member."""
        for device in devices:
            number = self._holders.get(device.path)
            if number is not None:
                return self._nodes[number]
        return None

    def _below(self, kind: str, name: str, parent: _Node | None, type_: str = "") -> _Place:
        if parent is None:
            return _Place(kind, name, type=type_)
        return _Place(kind, name, parent.volume.number, parent.depth + 1, type=type_)

    def _unused_name(self, name: str) -> str:
        used = {node.volume.name for node in self._nodes.values()}
        if name not in used:
            return name
        return next(tried for number in count(2) if (tried := f"{name}#{number}") not in used)

    def _assemble_arrays(self) -> None:
        if not self._raid_members:
            return
        from explorer.volumes import md

        for array in md.group_members(self._raid_members):
            if array.uuid in self._arrays:
                continue
            parent = self._parent(array.devices)
            name = self._unused_name(f"md/{show_name(array.name.encode()) or array.uuid}")
            place = self._below(ARRAY, name, parent, array.level)
            try:
                assembled = md.assemble(self._kernel, array, read_only=self._read_only)
            except (VolumeError, ImageError, SourceError, KernelError) as error:
                self._add(place._replace(note=_describe_failure(error)), EMPTY, None)
            else:
                self._closing.callback(assembled.close)
                self._add_device(place._replace(note=array.note), assembled.device)
            self._arrays.add(array.uuid)

    def _assemble_groups(self) -> None:
        if not self._physical_volumes:
            return
        from explorer.volumes import lvm

        for group in lvm.group_volumes(self._physical_volumes):
            parent = self._parent(group.devices)
            if group.fault is not None and parent is not None:
                parent.volume = replace(parent.volume, note=describe(group.fault))
            for logical in group.volumes:
                known = self._logical.get((group.uuid, logical.uuid))
                if known is not None and self._nodes[known].device is not None:
                    continue
                # One that lacked a physical volume before may have it now.
                name = (
                    self._nodes[known].volume.name
                    if known is not None
                    else self._unused_name(f"{group.name}/{logical.name}")
                )
                place = self._below(LOGICAL, name, parent, logical.kind)
                try:
                    active = lvm.activate(self._kernel, group, logical, read_only=self._read_only)
                except (VolumeError, ImageError, SourceError, KernelError) as error:
                    note = _describe_failure(error)
                    node = self._add(place._replace(note=note), EMPTY, None, known)
                    node.volume = replace(node.volume, size=logical.size)
                else:
                    self._closing.callback(active.close)
                    place = place._replace(note=logical.note)
                    node = self._add_device(place, active.device, known)
                self._logical[group.uuid, logical.uuid] = node.volume.number

    def _join_btrfs(self) -> None:
        """Make file systems on several devices one volume each, that of their first device."""
        if not self._btrfs_devices:
            return
        from explorer.volumes import btrfs

        for group in btrfs.group_devices(self._btrfs_devices):
            joined = self._btrfs_joined.pop(group.uuid, None)
            if joined is not None:
                # There are more of them now.
                joined.close()
            registered = btrfs.register_devices(group)
            self._btrfs_joined[group.uuid] = registered
            first, *others = (self._nodes[self._holders[one.path]] for one in group.devices)
            first.device = lambda registered=registered: registered
            first.volume = replace(first.volume, mountable=True, note=group.note)
            for node in others:
                note = f"a device of the file system on {first.volume.name}"
                node.volume = replace(node.volume, mountable=False, note=note)

    # ---- What is done with a volume

    def _node(self, volume: Volume) -> _Node:
        return self._nodes[volume.number]

    def unlock(self, volume: Volume, passphrase: bytes) -> Volume:
        """Open an encrypted volume; what is in it, and what that makes whole, is then known.

        ``passphrase`` is what was typed, or the content of a key file. Raises :exc:`VolumeError`,
        ``volume.passphrase-wrong`` among others.
        """
        from explorer.volumes import luks

        node = self._node(volume)
        if node.volume.content != LUKS or node.device is None:
            raise VolumeError("volume.not-locked", volume=self.name(volume))
        if not node.volume.locked:
            return next(
                one.volume
                for one in self._nodes.values()
                if one.volume.kind == OPENED and one.volume.parent == volume.number
            )
        header = luks.read_header(node.window, self.name(volume))
        if header is None:
            raise VolumeError("volume.unknown", volume=self.name(volume))
        device = luks.unlock(
            self._kernel,
            node.device(),
            header,
            passphrase,
            name=self.name(volume),
            read_only=self._read_only,
        )
        self._closing.enter_context(device)
        node.volume = replace(node.volume, locked=False)
        opened = self._add_device(self._below(OPENED, f"{node.volume.name}/open", node), device)
        self._assemble()
        return opened.volume

    def find_subvolumes(self, volume: Volume) -> list[Volume]:
        """The subvolumes and snapshots of a file system that has such; mounts it to see."""
        node = self._node(volume)
        if node.volume.content != BTRFS or node.volume.kind == SUBVOLUME:
            return []
        if node.searched:
            return [
                one.volume
                for one in self._nodes.values()
                if one.volume.kind == SUBVOLUME and one.volume.parent == volume.number
            ]
        from explorer.volumes import btrfs

        with self.mount(volume) as mounted:
            found = btrfs.list_subvolumes(mounted.mount)
        node.searched = True
        added = []
        for subvolume in found:
            if subvolume.is_default:
                # What the volume itself shows.
                continue
            path = "/" + show_name(subvolume.path)
            number = next(self._numbers)
            shown = replace(
                node.volume,
                number=number,
                kind=SUBVOLUME,
                name=f"{node.volume.name}@{path}",
                parent=node.volume.number,
                label=path,
                uuid=subvolume.uuid,
                title=subvolume.title,
                note="",
            )
            self._nodes[number] = replace(
                node, volume=shown, depth=node.depth + 1, options=subvolume.mount_options
            )
            added.append(shown)
        return added

    def mount(self, volume: Volume) -> MountedVolume:
        """Mount a volume, read-only; raises :exc:`VolumeError` with what the kernel said."""
        node = self._node(volume)
        found = node.found
        if found is None:
            if node.volume.note:
                raise VolumeError(
                    "volume.unusable", volume=self.name(volume), reason=node.volume.note
                )
            raise VolumeError("volume.unknown", volume=self.name(volume))
        if node.volume.locked:
            raise VolumeError("volume.locked", volume=self.name(volume))
        if not found.types or node.device is None:
            raise VolumeError(
                "volume.refused", volume=self.name(volume), title=found.title, why=found.why
            )
        before = self.overlay_bytes()
        mounted = mount_recognised(
            node.device(),
            node.volume,
            found,
            self._view,
            name=self.name(volume),
            extra_options=node.options,
            replay=has_to_replay(node),
        )
        # Not all of them say in the log that they replayed something. (What is written alone does
        # not tell: XFS clears a part of its log even when that is empty.)
        recovered = mounted.recovered or (
            node.volume.content in SILENT
            and not mounted.as_stored
            and self.overlay_bytes() > before
            and is_dirty(node)
        )
        as_stored = mounted.as_stored or (node.volume.content in UNREPLAYED and is_dirty(node))
        place = self._place(node.volume)
        return replace(mounted, recovered=recovered, as_stored=as_stored, place=place)

    def _place(self, volume: Volume) -> DiskRange | None:
        """Where a volume lies on a disk, if it is one or one of its partitions."""
        disks = [node.volume.number for node in self._nodes.values() if node.volume.kind == DISK]
        whole = volume.number if volume.kind == DISK else volume.parent
        if volume.kind not in (DISK, PARTITION) or whole not in disks:
            return None
        return DiskRange(self.disks[disks.index(whole)].number, volume.start, volume.size)

    def close(self) -> None:
        """Take everything apart and remove the disks; the volumes must be unmounted."""
        for joined in self._btrfs_joined.values():
            joined.close()
        self._btrfs_joined.clear()
        self._closing.close()
