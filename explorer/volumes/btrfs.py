# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Btrfs beyond a mount: the devices that make a file system together, and its subvolumes.

The structures are those of ``include/uapi/linux/btrfs_tree.h``.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from explorer.core.closing import Closing
from explorer.core.errors import KernelError, VolumeError
from explorer.core.messages import describe
from explorer.kernel import BlockDevice
from explorer.kernel.btrfs import forget_device, has_device, scan_device, search_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from explorer.kernel import Mount
    from explorer.volumes.window import Window

Handle = TypeVar("Handle")

TOP_LEVEL = 5
"""The number of the root that all subvolumes are in."""

# ---- Devices -------------------------------------------------------------------------------------

_SUPERBLOCK = 0x10000


class BtrfsMember(NamedTuple):
    """What a superblock says of its device, and of the file system that it is a part of."""

    uuid: str
    """The file system's."""
    number: int
    """The device's, from 1."""
    devices: int
    """Devices of the file system; seed devices are some of them."""
    device_uuid: str
    generation: int
    """Of the last write; that of a device which was left out of some is lower."""
    label: str
    """Safe to show."""


def read_device(volume: Window) -> BtrfsMember | None:
    """Which device of a Btrfs a volume is; None when it is none.

    Checksums are left to Btrfs itself, which looks at them when it is told of the device.
    """
    # struct btrfs_super_block: fsid 32, bytenr 48, magic 64, generation 72, num_devices 136,
    # dev_item 201 (its devid first, and its uuid 66 bytes on), label 299.
    start = _SUPERBLOCK
    if not volume.has(start + 64, b"_BHRfS_M") or volume.le(start + 48, 8) != start:
        return None
    return BtrfsMember(
        uuid=volume.uuid(start + 32),
        number=volume.le(start + 201, 8),
        devices=volume.le(start + 136, 8),
        device_uuid=volume.uuid(start + 267),
        generation=volume.le(start + 72, 8),
        label=volume.text(start + 299, 256),
    )


@dataclass(frozen=True, slots=True)
class BtrfsDevices(Generic[Handle]):
    """The devices of one file system that are there."""

    members: tuple[tuple[BtrfsMember, Handle], ...]
    """By number."""
    left_out: tuple[tuple[BtrfsMember, Handle], ...]
    """Of each number, all but the one that was written last: mostly older copies."""

    @property
    def uuid(self) -> str:
        """The file system's."""
        return self.members[0][0].uuid

    @property
    def devices(self) -> list[Handle]:
        """Those that are used, by number."""
        return [handle for _member, handle in self.members]

    @property
    def count(self) -> int:
        """How many devices there should be, as the one that was written last has it."""
        return max(self.members, key=lambda each: each[0].generation)[0].devices

    @property
    def missing(self) -> int:
        """How many are not there; their numbers are known when it is mounted."""
        return max(0, self.count - len(self.members))

    @property
    def note(self) -> str:
        """What is worth knowing of its state, in a line; empty when all is there."""
        notes = []
        if self.missing:
            numbers = ", ".join(str(member.number) for member, _handle in self.members)
            notes.append(
                VolumeError("btrfs.missing", missing=self.missing, count=self.count, found=numbers)
            )
        notes += [
            VolumeError("btrfs.twice", number=member.number) for member, _handle in self.left_out
        ]
        return "; ".join(map(describe, notes))


def group_devices(
    found: Sequence[tuple[BtrfsMember, Handle]],
) -> list[BtrfsDevices[Handle]]:
    """The file systems that devices make, in the order in which they are met."""
    by_uuid: dict[str, list[tuple[BtrfsMember, Handle]]] = {}
    for each in found:
        by_uuid.setdefault(each[0].uuid, []).append(each)
    groups = []
    for devices in by_uuid.values():
        newest = sorted(devices, key=lambda device: -device[0].generation)
        used: dict[int, tuple[BtrfsMember, Handle]] = {}
        left_out = [each for each in newest if used.setdefault(each[0].number, each) is not each]
        groups.append(BtrfsDevices(tuple(used[number] for number in sorted(used)), tuple(left_out)))
    return groups


class RegisteredDevices(Closing, BlockDevice):
    """The devices of a file system, of which Btrfs was told: what is mounted is all of them.

    A context manager that makes Btrfs forget them.
    """

    def __init__(self, group: BtrfsDevices[BlockDevice]) -> None:
        """Used by :func:`register_devices`."""
        devices: list[BlockDevice] = []
        self._refused: list[tuple[BtrfsMember, KernelError]] = []
        with ExitStack() as stack:
            for member, device in group.members:
                # An earlier device may have had the same name.
                forget_device(device)
                try:
                    scan_device(device)
                except KernelError as error:
                    if error.code != "kernel.call":
                        raise
                    self._refused.append((member, error))
                else:
                    stack.callback(forget_device, device)
                    devices.append(device)
            self._stack = stack.pop_all()
        first = devices[0] if devices else group.devices[0]
        super().__init__(first.kernel, first.path)
        self._present = len(devices)
        self._is_whole = len(devices) >= group.count
        self._missing = ""

    @property
    def note(self) -> str:
        """What is worth knowing of devices that were missing at the last mount, in a line."""
        refused = [
            describe(
                VolumeError(
                    "btrfs.refused", number=member.number, reason=error.reason, log=error.log
                )
            )
            for member, error in self._refused
        ]
        return "; ".join(filter(None, (self._missing, *refused)))

    def mount(self, kind: str = "btrfs", *, options: str = "", read_only: bool = True) -> Mount:
        """Mount the file system; raises why, when Btrfs has refused all of its devices.

        Without all of its devices it is mounted ``degraded``, where the profiles of all that it
        holds allow to do without. Raises :exc:`VolumeError` where they do not, else
        :exc:`KernelError` as :meth:`BlockDevice.mount`.
        """
        if not self._present:
            raise self._refused[0][1]
        try:
            return super().mount(kind, options=options, read_only=read_only)
        except KernelError as error:
            if error.code != "kernel.call" or self._is_whole:
                raise
            failure = error
        degraded = f"{options},degraded" if options else "degraded"
        try:
            mount = super().mount(kind, options=degraded, read_only=read_only)
        except KernelError as error:
            if error.code != "kernel.call":
                raise
            # What it said without the option is what is wrong.
            raise failure from error
        try:
            self._missing = _describe_missing(mount)
        except BaseException:
            mount.close()
            raise
        return mount

    def close(self) -> None:
        """Have them forgotten; the file system must be unmounted. A second call does nothing."""
        self._stack.close()


def register_devices(group: BtrfsDevices[BlockDevice]) -> RegisteredDevices:
    """Tell Btrfs of all devices of a file system, which can then be mounted.

    One that Btrfs refuses is done without; when it refuses all, a mount raises why.
    """
    return RegisteredDevices(group)


# Trees and items.
_ROOT_TREE, _CHUNK_TREE = 1, 3
_DEV_ITEM, _CHUNK_ITEM = 216, 228
_FIRST_CHUNK_TREE = 256

# struct btrfs_chunk: length, owner, stripe_len, type, io_align, io_width, sector_size,
# num_stripes, sub_stripes; then struct btrfs_stripe: devid, offset, dev_uuid.
_CHUNK = Struct("<QQQQ III HH")
_STRIPE = Struct("<QQ 16s")

# BTRFS_BLOCK_GROUP_*: the profiles, and how many devices each of them can do without; for
# RAID10 of each group of mirrors.
_RAID0, _RAID1, _DUP, _RAID10 = 1 << 3, 1 << 4, 1 << 5, 1 << 6
_RAID5, _RAID6, _RAID1C3, _RAID1C4 = 1 << 7, 1 << 8, 1 << 9, 1 << 10
_SPARED = {_RAID1: 1, _RAID5: 1, _RAID6: 2, _RAID1C3: 2, _RAID1C4: 3}


def _lost(data: bytes, missing: set[int]) -> int:
    """Bytes of a chunk that has not enough of its devices; 0 when it has."""
    length, _owner, _stripe_length, kind, _align, _width, _sector, count, mirrors = (
        _CHUNK.unpack_from(data)
    )
    there = [
        _STRIPE.unpack_from(data, _CHUNK.size + number * _STRIPE.size)[0] not in missing
        for number in range(min(count, (len(data) - _CHUNK.size) // _STRIPE.size))
    ]
    if kind & _DUP:
        return 0 if any(there) else length
    if kind & _RAID10:
        width = max(1, mirrors)
        groups = [there[at : at + width] for at in range(0, len(there), width)]
        return 0 if all(map(any, groups)) else length
    spared = next((number for profile, number in _SPARED.items() if kind & profile), 0)
    return 0 if there.count(False) <= spared else length


def _describe_missing(mount: Mount) -> str:
    """The missing devices of a mounted file system; raises :exc:`VolumeError` when it needs them.

    Where data is lost, Linux 6.12 does not always fail to read: in btrfs_bio_end_io() in
    ``fs/btrfs/bio.c`` the error of a part of a read is forgotten when it is the last to come, and
    zeros are shown.
    """
    items = search_tree(mount, _CHUNK_TREE, (1, 1), (_DEV_ITEM, _DEV_ITEM))
    known = [item.offset for item in items]
    missing = {number for number in known if not has_device(mount, number)}
    chunks = search_tree(
        mount, _CHUNK_TREE, (_FIRST_CHUNK_TREE, _FIRST_CHUNK_TREE), (_CHUNK_ITEM, _CHUNK_ITEM)
    )
    lost = sum(_lost(item.data, missing) for item in chunks)
    error = VolumeError(
        "btrfs.lost" if lost else "btrfs.degraded",
        numbers=", ".join(map(str, sorted(missing))),
        count=len(known),
        lost=lost,
    )
    if lost:
        raise error
    return describe(error)


# ---- Subvolumes ----------------------------------------------------------------------------------

_DIR_ITEM, _INODE_REF, _ROOT_ITEM, _ROOT_BACKREF = 84, 12, 132, 144
_TREE_DIRECTORY = 6
_FIRST, _LAST = 256, (1 << 64) - 256
"""Numbers of subvolumes, and of what is in them; the first is a subvolume's own root."""

_READ_ONLY = 1
_DEPTH_LIMIT = 4096

# struct btrfs_root_item: after the inode's 160 bytes generation, 40 bytes, flags, refs, 19 bytes,
# generation_v2, uuid, parent_uuid, received_uuid, 32 bytes, ctime, otime. Before Linux 3.6 it
# ended with the 19 bytes.
_OLD_ROOT = Struct("<160x Q 40x Q I 19x")
_ROOT = Struct("<160x Q 40x Q I 19x Q 16s 16s 16s 32x 12x QI")
_REFERENCE = Struct("<QQH")
_INODE_REFERENCE = Struct("<QH")
# struct btrfs_dir_item: location (objectid, type, offset), transid, data_len, name_len, type
_ENTRY = Struct("<QBQ QHHB")


class Subvolume(NamedTuple):
    """A root of its own within a file system."""

    number: int
    """What ``subvolid=`` names it by."""
    parent: int
    """The number of the subvolume that it stands in; 0 for the top level."""
    path: bytes
    """From the top level, without a leading slash."""
    uuid: str
    """Empty in file systems of before Linux 3.6, as the next."""
    parent_uuid: str
    """Of the subvolume that it is a snapshot of; empty when it is none."""
    read_only: bool
    created_ns: int
    """Nanoseconds since 1970; 0 where that is not known."""
    is_default: bool
    """Whether it is mounted when no other is asked for."""

    @property
    def is_snapshot(self) -> bool:
        """Whether it began as another one's copy."""
        return bool(self.parent_uuid)

    @property
    def title(self) -> str:
        """What it is, for people."""
        if self.number == TOP_LEVEL:
            return "Btrfs top level"
        return "Btrfs snapshot" if self.is_snapshot else "Btrfs subvolume"

    @property
    def mount_options(self) -> str:
        """What mounts it."""
        return f"subvolid={self.number}"


def list_subvolumes(mount: Mount) -> list[Subvolume]:
    """The subvolumes and snapshots of a mounted Btrfs, by path; whichever of them is mounted.

    The top level is among them only when another one is the default, for else it is what the file
    system itself shows. Deleted ones are not, though they may not be cleaned up yet. Raises
    :exc:`KernelError` when the trees cannot be read.
    """
    default = _default_subvolume(mount)
    roots: dict[int, bytes] = {}
    names: dict[int, tuple[int, int, bytes]] = {}
    for item in search_tree(mount, _ROOT_TREE, (TOP_LEVEL, _LAST), (_ROOT_ITEM, _ROOT_BACKREF)):
        if item.number != TOP_LEVEL and item.number < _FIRST:
            continue
        if item.type == _ROOT_ITEM:
            roots[item.number] = item.data
        elif item.type == _ROOT_BACKREF and len(item.data) >= _REFERENCE.size:
            directory, _sequence, length = _REFERENCE.unpack_from(item.data)
            name = item.data[_REFERENCE.size :][:length]
            names[item.number] = (item.offset, directory, name)
    paths = _Paths(mount, names)
    found = []
    for number, data in roots.items():
        if number == TOP_LEVEL:
            path: bytes | None = b"" if default != TOP_LEVEL else None
        else:
            path = paths.of(number)
        subvolume = _parse_root(number, data)
        if path is None or subvolume is None:
            continue
        parent = names[number][0] if number in names else 0
        found.append(subvolume._replace(parent=parent, path=path, is_default=number == default))
    return sorted(found, key=lambda subvolume: subvolume.path)


def _parse_root(number: int, data: bytes) -> Subvolume | None:
    """What a root item tells; None for one that is deleted, or damaged."""
    if len(data) < _OLD_ROOT.size:
        return None
    generation, flags, references = _OLD_ROOT.unpack_from(data)
    if not references:
        return None
    uuid, parent_uuid, created = bytes(16), bytes(16), 0
    if len(data) >= _ROOT.size:
        fields = _ROOT.unpack_from(data)
        # Else an older Linux wrote it later, which does not know of these.
        if fields[3] == generation:
            uuid, parent_uuid = fields[4], fields[5]
            created = fields[7] * 10**9 + fields[8]
    return Subvolume(
        number,
        0,
        b"",
        _show_uuid(uuid),
        _show_uuid(parent_uuid),
        bool(flags & _READ_ONLY),
        created,
        is_default=False,
    )


def _show_uuid(uuid: bytes) -> str:
    text = uuid.hex()
    parts = (text[:8], text[8:12], text[12:16], text[16:20], text[20:])
    return "-".join(parts) if any(uuid) else ""


def _default_subvolume(mount: Mount) -> int:
    directory = (_TREE_DIRECTORY, _TREE_DIRECTORY)
    for item in search_tree(mount, _ROOT_TREE, directory, (_DIR_ITEM, _DIR_ITEM)):
        # Names with the same hash share an item.
        at = 0
        while at + _ENTRY.size <= len(item.data):
            number, _type, _offset, _transid, more, length, _kind = _ENTRY.unpack_from(
                item.data, at
            )
            at += _ENTRY.size
            if item.data[at : at + length] == b"default":
                return int(number)
            at += length + more
    return TOP_LEVEL


class _Paths:
    """Finds the paths of subvolumes, and of the folders that they stand in."""

    def __init__(self, mount: Mount, names: dict[int, tuple[int, int, bytes]]) -> None:
        """``names``: parent, the folder's number there, and name, of each subvolume."""
        self._mount = mount
        self._names = names
        self._folders: dict[tuple[int, int], bytes | None] = {}

    def of(self, number: int) -> bytes | None:
        """The path of a subvolume from the top level; None for one that is not below it."""
        parts: list[bytes] = []
        seen = set()
        while number != TOP_LEVEL:
            # A damaged file system may have one within itself.
            if number not in self._names or number in seen:
                return None
            seen.add(number)
            parent, directory, name = self._names[number]
            folder = self._folder(parent, directory)
            if folder is None:
                return None
            parts += [name, *([folder] if folder else [])]
            number = parent
        return b"/".join(reversed(parts))

    def _folder(self, tree: int, number: int) -> bytes | None:
        """The path of a folder within its subvolume; empty for its root."""
        if (tree, number) not in self._folders:
            self._folders[tree, number] = self._find_folder(tree, number)
        return self._folders[tree, number]

    def _find_folder(self, tree: int, number: int) -> bytes | None:
        parts: list[bytes] = []
        while number != _FIRST:
            item = next(self._references(tree, number), None)
            if item is None or len(parts) > _DEPTH_LIMIT:
                return None
            parts.append(item[1])
            number = item[0]
        return b"/".join(reversed(parts))

    def _references(self, tree: int, number: int) -> Iterator[tuple[int, bytes]]:
        """The folder that a folder is in, and its name there."""
        for item in search_tree(self._mount, tree, (number, number), (_INODE_REF, _INODE_REF)):
            if len(item.data) >= _INODE_REFERENCE.size:
                _index, length = _INODE_REFERENCE.unpack_from(item.data)
                yield item.offset, item.data[_INODE_REFERENCE.size :][:length]
