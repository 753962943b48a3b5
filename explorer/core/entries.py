# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Directory entries, and the packed records they travel in.

The records are ``struct lkl_entry`` of ``liblkl/include/lkl.h``, from the C library through the
pipe to the window, unchanged. Each end decodes them here and believes nothing before it is
checked.
"""

from __future__ import annotations

import stat
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import RecordError
from explorer.core.names import is_entry_name

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY_HEAD = Struct("<IHBBiIQQ" + "IHHIIIIQQQQIIIIqqqqIIII")
"""``struct lkl_entry`` up to its name, the stat included; little-endian, no padding."""

RECORD_ALIGNMENT = 8
NAME_LIMIT = 65535
"""More than any file system allows; a record's length field ends there."""


class FileType(IntEnum):
    """What an entry is; the numbers of ``d_type``."""

    UNKNOWN = 0
    FIFO = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 4
    BLOCK_DEVICE = 6
    FILE = 8
    LINK = 10
    SOCKET = 12


TYPE_NAMES: dict[int, str] = {kind.value: kind.name.lower().replace("_", " ") for kind in FileType}

# Bits of Entry.mask: which fields the file system knew (LKL_STATX_*).
MASK_TYPE = 0x1
MASK_MODE = 0x2
MASK_LINKS = 0x4
MASK_UID = 0x8
MASK_GID = 0x10
MASK_ACCESS = 0x20
MASK_MODIFY = 0x40
MASK_CHANGE = 0x80
MASK_INODE = 0x100
MASK_SIZE = 0x200
MASK_BLOCKS = 0x400
MASK_BIRTH = 0x800

_SECOND = 1_000_000_000


class Entry(NamedTuple):
    """A directory entry with its stat; immutable.

    A named tuple because folders hold a hundred thousand of them: one is made four times as fast
    as a frozen dataclass.
    """

    name: bytes
    """Raw; empty in a walk's record about a directory that could not be read."""
    type: int
    """A :class:`FileType`."""
    error: int
    """0, or the negative errno that reading its stat (or the directory) gave."""
    depth: int
    """In a walk: 1 for entries of the start directory. Else 0."""
    directory: int
    """In a walk: number of the directory it stands in."""
    number: int
    """In a walk: its own number when it is a directory, else 0."""
    mask: int
    """``MASK_*`` of the fields that follow and are known; the others are 0."""
    mode: int
    """Type and permissions, as st_mode."""
    uid: int
    gid: int
    links: int
    block_size: int
    inode: int
    size: int
    """Bytes."""
    blocks: int
    """Space taken, in units of 512 bytes."""
    attributes: int
    """STATX_ATTR_* bits."""
    device_major: int
    device_minor: int
    special_major: int
    """Of a device node."""
    special_minor: int
    access_ns: int | None
    """Nanoseconds since 1970-01-01 UTC; None where the file system keeps no such time."""
    modify_ns: int | None
    change_ns: int | None
    birth_ns: int | None

    @property
    def is_directory(self) -> bool:
        """Whether it can be entered."""
        return self.type == FileType.DIRECTORY

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.type == FileType.FILE


def mode_string(entry: Entry) -> str:
    """As ``ls -l`` shows it: ``-rwxr-xr-x``; question marks where nothing is known."""
    if not entry.mask & MASK_MODE:
        return "?" * 10
    return stat.filemode(entry.mode)


def iter_entries(buffer: bytes | bytearray | memoryview) -> Iterator[Entry]:
    """Decodes the records of one buffer, in order.

    Raises :exc:`RecordError` at the first record that breaks a rule: sizes outside the buffer or
    not aligned, a name that no directory entry may have, an unknown type, times beyond a second.
    """
    data = bytes(buffer)
    total = len(data)
    head_size = ENTRY_HEAD.size
    offset = 0
    while offset < total:
        if total - offset < head_size:
            raise RecordError("record.entry", reason="a record is cut off", offset=offset)
        (
            record_size, name_length, kind, _, error, depth, directory, number,
            mask, mode, _, uid, gid, links, block_size, inode, size, blocks, attributes,
            device_major, device_minor, special_major, special_minor,
            access_s, modify_s, change_s, birth_s,
            access_ns, modify_ns, change_ns, birth_ns,
        ) = ENTRY_HEAD.unpack_from(data, offset)  # fmt: skip
        name_end = offset + head_size + name_length
        end = offset + record_size
        if record_size % RECORD_ALIGNMENT or not name_end < end <= total:
            raise RecordError("record.entry", reason="a wrong record size", offset=offset)
        name = data[offset + head_size : name_end]
        # A walk tells of a directory it could not read by a record without a name.
        if data[name_end] or not (is_entry_name(name) or (not name and error < 0)):
            raise RecordError("record.entry", reason="a name that cannot be", offset=offset)
        if kind not in TYPE_NAMES or error > 0:
            raise RecordError("record.entry", reason="a wrong type or error", offset=offset)
        if max(access_ns, modify_ns, change_ns, birth_ns) >= _SECOND:
            raise RecordError("record.entry", reason="nanoseconds beyond a second", offset=offset)
        yield Entry(
            name, kind, error, depth, directory, number,
            mask, mode, uid, gid, links, block_size, inode, size, blocks, attributes,
            device_major, device_minor, special_major, special_minor,
            access_s * _SECOND + access_ns if mask & MASK_ACCESS else None,
            modify_s * _SECOND + modify_ns if mask & MASK_MODIFY else None,
            change_s * _SECOND + change_ns if mask & MASK_CHANGE else None,
            birth_s * _SECOND + birth_ns if mask & MASK_BIRTH else None,
        )  # fmt: skip
        offset = end
