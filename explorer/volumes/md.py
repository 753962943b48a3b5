# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux software RAID: the superblocks of members, and the arrays that they make together.

The superblocks are read here, and the kernel's driver is told what they say. The structures are
those of ``include/uapi/linux/raid/md_p.h``; which members belong together, and which of them are
out of date, is decided as ``drivers/md/md.c`` and mdadm decide it.
"""

from __future__ import annotations

from array import array as typed_array
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from explorer.core.errors import KernelError, Param, VolumeError
from explorer.core.messages import describe
from explorer.kernel.mapper import Target, map_device
from explorer.kernel.raid import RaidMember, RaidReshape, RaidShape, run_array

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from explorer.images.base import Fact
    from explorer.kernel import BlockDevice, Kernel
    from explorer.kernel.mapper import MappedDevice
    from explorer.kernel.raid import RaidDevice
    from explorer.volumes.window import Window

Handle = TypeVar("Handle")

SECTOR = 512

SPARE = 0xFFFF
FAULTY = 0xFFFE
JOURNAL = 0xFFFD
_MOST_ROLES = 0xFF00

_LEVELS = {-1: "linear", 0: "raid0", 1: "raid1", 4: "raid4", 5: "raid5", 6: "raid6", 10: "raid10"}
_PARITY = {"raid4": 1, "raid5": 1, "raid6": 2}
"""How many members may be missing."""

# drivers/md/raid5.h; the names are mdadm's.
_RAID5_LAYOUTS = {
    0: "left-asymmetric", 1: "right-asymmetric", 2: "left-symmetric", 3: "right-symmetric",
    4: "parity-first", 5: "parity-last",
}  # fmt: skip
_LAYOUTS = {
    "raid5": _RAID5_LAYOUTS,
    "raid6": {
        **_RAID5_LAYOUTS,
        8: "ddf-zero-restart", 9: "ddf-N-restart", 10: "ddf-N-continue",
        16: "left-asymmetric-6", 17: "right-asymmetric-6", 18: "left-symmetric-6",
        19: "right-symmetric-6", 20: "parity-first-6",
    },
}  # fmt: skip

_PAGE_SECTORS = 8
_LARGEST_CHUNK = 1 << 30
_NEVER = (1 << 64) - 1


class Member(NamedTuple):
    """What a superblock says of its device, and of the array that it is a member of.

    Sectors are of 512 bytes.
    """

    version: str
    """Of the metadata: ``0.90``, ``1.0``, ``1.1`` or ``1.2``."""
    uuid: str
    """The array's, as mdadm shows it."""
    name: str
    """The array's, mostly with its host's; safe to show. 0.90 has none."""
    shape: RaidShape
    """In a reshape, the old one."""
    component: int
    """Sectors of each member that are used; 0 where each is used whole."""
    number: int
    """The member's own, which is an index of ``roles``."""
    roles: tuple[int, ...]
    """The role of each number, or one of SPARE, FAULTY and JOURNAL; beyond the end, SPARE."""
    events: int
    """How often the superblock was written; who has fewer than the others is out of date."""
    created: int
    """Seconds since 1970."""
    in_step: int | None
    """Sectors of the members that agree with one another; None: all."""
    offset: int
    """Sectors before the data."""
    size: int
    """Sectors of data."""
    new_offset: int
    """In a reshape, ``offset`` in the new shape."""
    recovered: int | None
    """Sectors of data that were brought in step; None: all."""
    reshape: RaidReshape | None
    replacement: bool
    bad_blocks: tuple[tuple[int, int], ...]
    """Ranges of the device, in sectors, that do not hold what they should."""
    features: tuple[str, ...]
    """What the array uses beyond its level."""
    device_size: int
    """Bytes of the device that it was found on."""

    @property
    def role(self) -> int:
        """From 0, or one of SPARE, FAULTY and JOURNAL."""
        return _role(self, self.number)

    def facts(self) -> dict[str, Fact]:
        """What it tells, in the order to show it."""
        role = _ROLE_NAMES.get(self.role, f"{self.role} of {self.shape.disks}")
        facts: dict[str, Fact] = {
            "metadata": self.version,
            "array": self.uuid,
            "name": self.name,
            "level": self.shape.level,
            "layout": _layout_name(self.shape),
            "chunk": self.shape.chunk,
            "role": role,
            "events": self.events,
            "features": list(self.features),
            "state": "clean" if self.in_step is None else "not stopped cleanly",
        }
        return {word: fact for word, fact in facts.items() if fact or word == "events"}


_ROLE_NAMES = {SPARE: "spare", FAULTY: "faulty", JOURNAL: "journal"}


def _layout_name(shape: RaidShape) -> str:
    if shape.level != "raid10":
        return _LAYOUTS.get(shape.level, {}).get(shape.layout, "")
    near, far = shape.layout & 0xFF, shape.layout >> 8 & 0xFF
    kind = "offset" if shape.layout >> 16 & 1 else "far"
    parts = [f"near={near}"] * (near > 1) + [f"{kind}={far}"] * (far > 1)
    return ", ".join(parts)


def _role(member: Member, number: int) -> int:
    """The role of a number, as one of the members knows it."""
    return member.roles[number] if number < len(member.roles) else SPARE


def _damaged(start: int, reason: str) -> VolumeError:
    return VolumeError("volume.damaged", structure="RAID superblock", offset=start, reason=reason)


# ---- Superblocks ---------------------------------------------------------------------------------


def read_superblock(volume: Window) -> Member | None:
    """What a volume is a member of; None when it is none.

    Raises :exc:`VolumeError` for a superblock that is damaged, or has what cannot be read.
    """
    found: list[Member] = []
    failure: VolumeError | None = None
    for start, version in _places(volume.size):
        try:
            member = _read_version_1(volume, start, version)
        except VolumeError as error:
            failure = failure or error
        else:
            found += [member] if member is not None else []
    try:
        old = _read_version_0(volume)
    except VolumeError as error:
        failure = failure or error
    else:
        found += [old] if old is not None else []
    if not found and failure is not None:
        raise failure
    # A device that was in several arrays may have kept an older superblock in another place.
    return max(found, key=lambda member: member.created, default=None)


def _places(size: int) -> Iterator[tuple[int, str]]:
    """Where superblocks of version 1 may stand in a device of ``size`` bytes."""
    yield 0, "1.1"
    yield 4096, "1.2"
    last = (size // SECTOR - 16) // 8 * 8 * SECTOR
    if last >= 0:
        yield last, "1.0"


_MAGIC = 0xA92B4EFC

# struct mdp_superblock_1, to the end of its fixed part.
_VERSION_1 = Struct(
    "<4I 16s 32s"
    # ctime, level, layout, size, chunksize, raid_disks, bitmap_offset
    " Q i I Q I I i"
    # new_level, reshape_position, delta_disks, new_layout, new_chunk, new_offset
    " i Q i I I i"
    # data_offset, data_size, super_offset, recovery_offset, dev_number, cnt_corrected_read
    " Q Q Q Q I I"
    # device_uuid, devflags, bblog_shift, bblog_size, bblog_offset
    " 16s B B H i"
    # utime, events, resync_offset, sb_csum, max_dev, pad3
    " Q Q Q I I 32s"
)
_SUPERBLOCK_SIZE = 4096
_MOST_NUMBERS = (_SUPERBLOCK_SIZE - _VERSION_1.size) // 2
_CHECKSUM_AT = 216

_RECOVERY_OFFSET = 1 << 1
_RESHAPE = 1 << 2
_BAD_BLOCKS = 1 << 3
_REPLACEMENT = 1 << 4
_BACKWARDS = 1 << 5
_NEW_OFFSET = 1 << 6
_FEATURES = (
    "bitmap",
    "recovery",
    "reshape",
    "bad blocks",
    "replacement",
    "reshape backwards",
    "new offset",
    "recovery by bitmap",
    "cluster",
    "journal",
    "PPL",
    "several PPLs",
    "RAID0 layout",
)
"""The bits of ``feature_map``, from the lowest."""


def _read_version_1(volume: Window, start: int, version: str) -> Member | None:
    if volume.le(start, 4) != _MAGIC or volume.le(start + 4, 4) != 1:
        return None
    block = volume.at(start, _SUPERBLOCK_SIZE)
    (
        _magic, _major, features, padding, uuid, _name,
        created, level, layout, component, chunk, disks, _bitmap,
        new_level, position, delta, new_layout, new_chunk, new_offset,
        offset, size, own_sector, recovered, number, _corrected,
        _device_uuid, _flags, bad_shift, bad_size, bad_offset,
        _updated, events, in_step, checksum, numbers, _padding,
    ) = _VERSION_1.unpack_from(block)  # fmt: skip
    if own_sector != start // SECTOR:
        # That of a partition, or of a device that was larger: not of this one.
        return None
    if numbers > _MOST_NUMBERS:
        raise _damaged(start, f"room for {numbers} members")
    if checksum != _checksum_1(block[: _VERSION_1.size + 2 * numbers]):
        raise _damaged(start, "its checksum is wrong")
    if padding or features >> len(_FEATURES):
        unknown = features >> len(_FEATURES) << len(_FEATURES)
        raise VolumeError("volume.feature", feature=f"RAID with unknown features ({unknown:#x})")
    roles = list(typed_array("H", block[_VERSION_1.size : _VERSION_1.size + 2 * numbers]))
    while roles and roles[-1] == SPARE:
        roles.pop()
    _check_level(start, level)
    shape = RaidShape(_LEVELS[level], disks, chunk * SECTOR, layout)
    reshape = None
    if features & _RESHAPE:
        _check_level(start, new_level)
        reshape = RaidReshape(
            position,
            RaidShape(_LEVELS[new_level], disks, new_chunk * SECTOR, new_layout),
            delta < 0 or (delta == 0 and bool(features & _BACKWARDS)),
        )
        shape = shape._replace(disks=disks - delta)
    member = Member(
        version=version,
        uuid=_show_uuid(uuid),
        name=volume.text(start + 32, 32),
        shape=shape,
        component=component,
        number=number,
        roles=tuple(roles),
        events=events,
        created=created & ((1 << 40) - 1),
        in_step=None if in_step == _NEVER else in_step,
        offset=offset,
        size=size,
        new_offset=offset + (new_offset if reshape and features & _NEW_OFFSET else 0),
        recovered=recovered if features & _RECOVERY_OFFSET else None,
        reshape=reshape,
        replacement=bool(features & _REPLACEMENT),
        bad_blocks=(),
        features=tuple(name for bit, name in enumerate(_FEATURES) if features >> bit & 1),
        device_size=volume.size,
    )
    _check(start, member)
    if features & _BAD_BLOCKS:
        bad = _read_bad_blocks(volume, start, start + bad_offset * SECTOR, bad_size, bad_shift)
        member = member._replace(bad_blocks=bad)
    return member


def _checksum_1(block: bytes) -> int:
    """calc_sb_1_csum() in drivers/md/md.c: 32-bit words added up, an odd half one at the end."""
    words = typed_array("I", block[: len(block) // 4 * 4])
    total = sum(words) - words[_CHECKSUM_AT // 4]
    total += int.from_bytes(block[len(words) * 4 :], "little")
    return ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF


def _read_bad_blocks(
    volume: Window, start: int, log: int, size: int, shift: int
) -> tuple[tuple[int, int], ...]:
    # super_1_load() in drivers/md/md.c: 54 bits of position, 10 of length, all ones at the end.
    if not 0 < size <= _PAGE_SECTORS or shift >= 44:
        raise _damaged(start, f"a bad block log of {size} sectors in units of 2^{shift}")
    if log < 0 or log + size * SECTOR > volume.size:
        raise _damaged(start, f"a bad block log at byte {log}")
    found = []
    for entry in typed_array("Q", volume.at(log, size * SECTOR)):
        if entry == _NEVER:
            break
        if entry & 0x3FF:
            found.append((entry >> 10 << shift, (entry & 0x3FF) << shift))
    return tuple(found)


# The words of mdp_superblock_s, and where its parts begin, in words.
_WORDS = 1024
_DISKS_AT, _DISK_WORDS, _MOST_DISKS, _OWN_AT = 128, 32, 27, 992
_RESERVED = 65536

_DISK_FAULTY, _DISK_ACTIVE, _DISK_SYNC = 1 << 0, 1 << 1, 1 << 2


def _read_version_0(volume: Window) -> Member | None:
    # In the byte order of the machine that wrote it.
    start = volume.size // _RESERVED * _RESERVED - _RESERVED
    if start < 0:
        return None
    for order in ("<", ">"):
        words = Struct(f"{order}{_WORDS}I").unpack(volume.at(start, _WORDS * 4))
        if words[0] == _MAGIC and words[1] == 0:
            return _parse_version_0(volume, start, words, little=order == "<")
    return None


def _parse_version_0(
    volume: Window, start: int, words: tuple[int, ...], *, little: bool
) -> Member | None:
    minor, created, level, component, disks = words[2], words[6], words[7], words[8], words[10]
    if minor not in (90, 91):
        raise VolumeError("volume.feature", feature=f"RAID metadata of version 0.{minor}")
    if not _same_checksum_0(sum(words) - words[38], words[38]):
        raise _damaged(start, "its checksum is wrong")
    level = _signed(level)
    _check_level(start, level)
    uuid = b"".join(word.to_bytes(4, "big") for word in (words[5], *words[13:16]))
    state, layout, chunk = words[33], words[64], words[65]
    # The halves of a 64-bit number stand in the machine's order, too.
    events, checkpoint, position = (
        words[at + little] << 32 | words[at + 1 - little] for at in (39, 41, 44)
    )
    own = words[_OWN_AT]
    if own >= _MOST_DISKS:
        raise _damaged(start, f"it is that of disk {own}")
    shape = RaidShape(_LEVELS[level], disks, chunk, layout)
    reshape = None
    if minor == 91:
        new_level, delta = _signed(words[46]), _signed(words[47])
        new_layout, new_chunk = words[48:50]
        _check_level(start, new_level)
        new = RaidShape(_LEVELS[new_level], disks, new_chunk, new_layout)
        reshape = RaidReshape(position, new, delta < 0)
        shape = shape._replace(disks=disks - delta)
    in_step = None
    if not state & 1:
        in_step = words[43] if events == checkpoint else 0
    roles = []
    recovered = None
    for number in range(_MOST_DISKS):
        _number, _major, _minor, role, flags = words[_DISKS_AT + number * _DISK_WORDS :][:5]
        if flags & _DISK_FAULTY:
            role = FAULTY
        elif not (flags & _DISK_SYNC or (flags & _DISK_ACTIVE and reshape)) or role > _MOST_DISKS:
            role = SPARE
        elif not flags & _DISK_SYNC and reshape and number == own:
            recovered = _reshaped(reshape, shape)
        roles.append(role)
    size = start // SECTOR
    # The superblock cannot tell of more where it counts.
    if _LEVELS[level] not in ("linear", "raid0"):
        size = min(size, (2 << 32) - 2)
    member = Member(
        version="0.90",
        uuid=_show_uuid(uuid),
        name="",
        shape=shape,
        component=component * 2 if level > 0 else 0,
        number=own,
        roles=tuple(roles),
        events=events,
        created=created,
        in_step=in_step,
        offset=0,
        size=size,
        new_offset=0,
        recovered=recovered,
        reshape=reshape,
        replacement=False,
        bad_blocks=(),
        features=tuple(
            name for name, used in (("bitmap", state >> 8 & 1), ("reshape", reshape)) if used
        ),
        device_size=volume.size,
    )
    _check(start, member)
    return member


def _same_checksum_0(total: int, stored: int) -> bool:
    """md_csum_fold() in drivers/md/md.c: some machines' sums agree in 16 bits only."""
    sums = ((total & 0xFFFFFFFF) + (total >> 32), stored)
    folded = []
    for value in sums:
        half = (value & 0xFFFF) + (value >> 16 & 0xFFFF)
        folded.append((half & 0xFFFF) + (half >> 16))
    return folded[0] == folded[1]


def _reshaped(reshape: RaidReshape, shape: RaidShape) -> int:
    """Sectors of each member that a reshape has come to."""
    chunk = max(shape.chunk, reshape.shape.chunk) // SECTOR
    row = chunk * (reshape.shape.disks - _PARITY.get(shape.level, 0))
    return reshape.position // row * chunk if row > 0 else 0


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


def _show_uuid(uuid: bytes) -> str:
    text = uuid.hex()
    return ":".join(text[at : at + 8] for at in range(0, 32, 8))


# ---- What a superblock must not say --------------------------------------------------------------


def _check_level(start: int, level: int) -> None:
    if level in (-4, -5):
        name = "multipath" if level == -4 else "faulty"
        raise VolumeError("volume.feature", feature=f"RAID of level {name}")
    if level not in _LEVELS:
        raise _damaged(start, f"RAID of level {level}")


def _check(start: int, member: Member) -> None:
    """Raise :exc:`VolumeError` for what the driver would not survive, or could not run."""
    offset, size = member.offset, member.size
    begin, end = offset * SECTOR, (offset + size) * SECTOR
    if not size or end > member.device_size:
        raise _damaged(start, f"data of {size} sectors from sector {offset} on")
    if begin <= start < end:
        raise _damaged(start, f"data from sector {offset} on, over the superblock itself")
    if member.shape.level not in ("linear", "raid0") and not 0 < member.component <= size:
        raise _damaged(start, f"{member.component} of {size} sectors are used")
    _check_shape(start, member.shape, member.component or size)
    reshape = member.reshape
    if reshape is None:
        return
    if reshape.shape.level != member.shape.level or member.shape.level not in (*_PARITY, "raid10"):
        raise VolumeError(
            "volume.feature",
            feature=f"{member.shape.level} on its way to {reshape.shape.level}",
        )
    _check_shape(start, reshape.shape, member.component)
    new_end = (member.new_offset + member.component) * SECTOR
    if member.new_offset < 0 or new_end > member.device_size:
        raise _damaged(start, f"new data from sector {member.new_offset} on")


def _check_shape(start: int, shape: RaidShape, component: int) -> None:
    level, disks, chunk, layout = shape
    copies = (layout & 0xFF) * (layout >> 8 & 0xFF) if level == "raid10" else 1
    least = {"raid4": 2, "raid5": 2, "raid6": 4, "raid10": max(2, copies)}.get(level, 1)
    if not least <= disks <= _MOST_NUMBERS:
        raise _damaged(start, f"{level} of {disks} disks")
    if level not in ("linear", "raid1"):
        if level == "raid0":
            usable = chunk and not chunk % 1024
        else:
            usable = chunk >= _PAGE_SECTORS * SECTOR and chunk.bit_count() == 1
        if not usable or chunk > _LARGEST_CHUNK or chunk > component * SECTOR:
            raise _damaged(start, f"{level} in chunks of {chunk} bytes")
    # setup_geo() in drivers/md/raid10.c: near and far copies, and three flags.
    known = copies >= 2 and layout >> 17 < 3 if level == "raid10" else True
    if not known or layout not in _LAYOUTS.get(level, (layout,)):
        raise _damaged(start, f"{level} in layout {layout:#x}")


# ---- Arrays --------------------------------------------------------------------------------------


class LeftOut(NamedTuple, Generic[Handle]):
    """A member that is not used."""

    member: Member
    handle: Handle
    code: str
    """Why: a code of :mod:`explorer.core.messages`."""


@dataclass(frozen=True, slots=True)
class Array(Generic[Handle]):
    """Members that belong together."""

    newest: Member
    """The one whose superblock was written last; it tells what the array is."""
    members: tuple[tuple[int, Member, Handle], ...]
    """Role, member and its handle, by role; a replacement stands after what it replaces."""
    left_out: tuple[LeftOut[Handle], ...]

    @property
    def uuid(self) -> str:
        """As mdadm shows it."""
        return self.newest.uuid

    @property
    def name(self) -> str:
        """As it was given, mostly with its host's name; empty for none. Safe to show."""
        return self.newest.name

    @property
    def shape(self) -> RaidShape:
        """In a reshape, the old one."""
        return self.newest.shape

    @property
    def level(self) -> str:
        """As ``raid5``."""
        return self.shape.level

    @property
    def devices(self) -> list[Handle]:
        """The members that are used, by role."""
        return [handle for _role, _member, handle in self.members]

    @property
    def missing(self) -> list[int]:
        """The roles that no member in step has."""
        whole = {role for role, member, _handle in self.members if member.recovered is None}
        return [role for role in range(self._most_disks) if role not in whole]

    @property
    def _most_disks(self) -> int:
        reshape = self.newest.reshape
        return max(self.shape.disks, reshape.shape.disks if reshape else 0)

    @property
    def can_start(self) -> bool:
        """Whether what is there is enough for the array's level."""
        missing = set(self.missing)
        reshape = self.newest.reshape
        shapes = [self.shape] if reshape is None else [self.shape, reshape.shape]
        return all(_is_enough(shape, missing) for shape in shapes)

    @property
    def is_dirty(self) -> bool:
        """Whether it was not stopped cleanly, so that its members may not agree."""
        return self.newest.in_step is not None

    @property
    def note(self) -> str:
        """What is worth knowing of its state, in a line; empty for an array that is whole."""
        return "; ".join(describe(VolumeError(code, **params)) for code, params in self._notes())

    def _notes(self) -> Iterator[tuple[str, Mapping[str, Param]]]:
        if self.missing:
            yield "array.degraded", {"roles": _show(self.missing), "disks": self._most_disks}
        for left in self.left_out:
            params: dict[str, Param] = {
                "role": left.member.role if _is_active(left.member.role) else "of no role",
                "events": left.member.events,
                "newest": self.newest.events,
            }
            yield left.code, params
        if self.is_dirty and self.missing and self.level in _PARITY:
            yield "array.dirty", {}
        if "journal" in self.newest.features:
            yield "array.journal", {}
        if self.newest.reshape is not None:
            yield "array.reshape", {}


def _show(roles: Sequence[int]) -> str:
    return ", ".join(map(str, roles))


def _is_enough(shape: RaidShape, missing: set[int]) -> bool:
    level, disks, _chunk, layout = shape
    gone = sum(role in missing for role in range(disks))
    if level in _PARITY:
        return gone <= _PARITY[level]
    if level == "raid1":
        return gone < disks
    if level == "raid10":
        copies = (*raid10_copies(disks, layout), *_raid10_neighbours(disks, layout))
        return not any(missing.issuperset(roles) for roles in copies)
    return not gone


def raid10_copies(disks: int, layout: int) -> list[frozenset[int]]:
    """The sets of roles that hold the same chunks, of which each needs one that is there.

    ``layout`` as in the superblock: numbers of near and of far copies, and flags. As
    __raid10_find_phys() in ``drivers/md/raid10.c`` places them.
    """
    near, far = layout & 0xFF, layout >> 8 & 0xFF
    # How far copies are moved within parts of the disks, or all of them.
    in_sets = layout >> 17
    set_size = (disks, disks // far, near * far)[in_sets]
    last_set = disks // set_size * set_size - set_size
    last_size = disks - last_set
    found = []
    for first in range(0, disks * near, near):
        copies = set()
        for number in range(near):
            role = (first + number) % disks
            copies.add(role)
            for _ in range(far - 1):
                if in_sets and role >= last_set:
                    role = last_set + (role - last_set + near) % last_size
                elif in_sets:
                    start = role // set_size * set_size
                    role = start + (role - start + near) % set_size
                else:
                    role = (role + near) % disks
                copies.add(role)
        found.append(frozenset(copies))
    return found


def _raid10_neighbours(disks: int, layout: int) -> list[frozenset[int]]:
    """The sets of roles of each of which the driver wants one, whether or not it is needed."""
    # _enough() in drivers/md/raid10.c
    near, far = layout & 0xFF, layout >> 8 & 0xFF
    return [
        frozenset((first + number) % disks for number in range(near * far))
        for first in range(0, disks * near, near)
    ]


def group_members(found: Sequence[tuple[Member, Handle]]) -> list[Array[Handle]]:
    """The arrays that members make, in the order in which they are met.

    A member that is out of date is left out, and so is a second one of a role.
    """
    by_array: dict[str, list[tuple[Member, Handle]]] = {}
    for member, handle in found:
        by_array.setdefault(member.uuid, []).append((member, handle))
    return [_make_array(members) for members in by_array.values()]


def _is_active(role: int) -> bool:
    return role < _MOST_ROLES


def _make_array(found: Sequence[tuple[Member, Handle]]) -> Array[Handle]:
    # A spare says nothing of the array's state. The end of a disk may show the superblock of its
    # last partition: the smallest device that has it is the member.
    ordered = sorted(
        found,
        key=lambda each: (
            not _is_active(each[0].role),
            -each[0].events,
            each[0].device_size,
        ),
    )
    newest = ordered[0][0]
    used: dict[tuple[int, bool], tuple[Member, Handle]] = {}
    left_out = []
    for member, handle in ordered:
        # A superblock that is one write behind may not know yet that its device has failed.
        role = _role(newest if member.events < newest.events else member, member.number)
        if role == JOURNAL or (role == SPARE and member.role == SPARE):
            continue
        if (why := _find_fault(newest, member, role)) is None:
            if (role, member.replacement) not in used:
                used[role, member.replacement] = member, handle
                continue
            why = "array.twice"
        left_out.append(LeftOut(member, handle, why))
    members = [(role, *used[role, new]) for role, new in sorted(used)]
    return Array(newest, tuple(members), tuple(left_out))


def _find_fault(newest: Member, member: Member, role: int) -> str | None:
    """Why a member is left out; None: it is not."""
    if member.events + 1 < newest.events:
        return "array.outdated"
    if not _is_active(role):
        return "array.failed"
    if not _fits(newest, member, role):
        return "array.different"
    # Each of two halves that were used alone says that the other has failed.
    if _is_active(newest.role) and _role(member, newest.number) != newest.role:
        return "array.split"
    return None


def _fits(newest: Member, member: Member, role: int) -> bool:
    """Whether a member is one of the array that the newest tells of."""
    # As super_1_load() in drivers/md/md.c; the number of disks may just have changed.
    level, disks, chunk, layout = newest.shape
    reshape = newest.reshape
    if member.shape != (level, member.shape.disks, chunk, layout):
        return False
    if role >= max(disks, reshape.shape.disks if reshape else 0):
        return False
    # Each superblock was held against itself only.
    end = (max(member.offset, member.new_offset) + newest.component) * SECTOR
    return member.size >= newest.component and (not reshape or end <= member.device_size)


# ---- Running them --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunningArray:
    """An array as a device of the kernel."""

    array: Array[BlockDevice]
    device: RaidDevice | MappedDevice

    def close(self) -> None:
        """Stop it; nothing may use the device. A second call does nothing."""
        self.device.close()


def assemble(kernel: Kernel, array: Array[BlockDevice], *, read_only: bool) -> RunningArray:
    """Run an array. Nothing is written to its members, but for what is written to it.

    Raises :exc:`VolumeError` when members are missing, or when the driver refuses.
    """
    if not array.can_start:
        raise VolumeError(
            "array.incomplete",
            level=array.level,
            disks=array.shape.disks,
            roles=_show(array.missing),
        )
    if array.level == "raid0":
        _check_zones(array)
    try:
        if array.level == "linear":
            return RunningArray(array, _map_linear(kernel, array, read_only=read_only))
        return RunningArray(array, _run(kernel, array, read_only=read_only))
    except KernelError as error:
        if error.code != "kernel.call":
            raise
        raise VolumeError("array.refused", reason=error.reason, log=error.log) from error


def _run(kernel: Kernel, array: Array[BlockDevice], *, read_only: bool) -> RaidDevice:
    newest = array.newest
    # What is missing must be made from the parity, in step or not.
    trusted = array.level == "raid0" or (array.level in _PARITY and bool(array.missing))
    replaced = {role for role, member, _handle in array.members if not member.replacement}
    members = [
        RaidMember(
            handle,
            role,
            member.offset,
            member.size,
            member.new_offset,
            member.recovered,
            # One that replaces nothing that is there is as good as any other.
            member.replacement and role in replaced,
            member.bad_blocks,
        )
        for role, member, handle in array.members
    ]
    return run_array(
        kernel,
        array.shape,
        0 if array.level == "raid0" else newest.component,
        members,
        reshape=newest.reshape,
        in_step=None if trusted else newest.in_step,
        read_only=read_only,
    )


def _check_zones(array: Array[BlockDevice]) -> None:
    """Raise :exc:`VolumeError` where nothing tells how a RAID0 of unequal members is laid out."""
    # create_strip_zones() in drivers/md/raid0.c: Linux 3.14 changed where the chunks behind the
    # end of the smallest member stand; what knows of it says which of the two it is.
    chunk = array.shape.chunk // SECTOR
    sizes = [member.size // chunk for _role, member, _handle in array.members]
    known = "RAID0 layout" in array.newest.features and array.shape.layout in (1, 2)
    if sum(size > min(sizes) for size in sizes) > 1 and not known:
        raise VolumeError(
            "volume.feature", feature="RAID0 of unequal members, in one of two layouts,"
        )


def _map_linear(kernel: Kernel, array: Array[BlockDevice], *, read_only: bool) -> MappedDevice:
    # The driver's own linear level takes sizes in KiB only, and members may be odd.
    targets = []
    start = 0
    unit = max(1, array.shape.chunk // SECTOR)
    for _role, member, handle in array.members:
        length = member.size // unit * unit
        if length:
            parameters = b"%b %d" % (handle.path, member.offset)
            targets.append(Target(start, length, "linear", parameters))
            start += length
    name = b"md-" + array.uuid.replace(":", "").encode("ascii")
    return map_device(kernel, name, targets, read_only=read_only)
