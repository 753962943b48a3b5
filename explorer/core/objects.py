# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Names and entries as JSON objects, the same wherever they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explorer.core.entries import MASK_INODE, MASK_MODE, TYPE_NAMES, FileType
from explorer.core.names import show_name
from explorer.core.times import iso_time

if TYPE_CHECKING:
    from explorer.core.entries import Entry

DEVICES = (FileType.BLOCK_DEVICE, FileType.CHARACTER_DEVICE)

TIMES = ("accessed", "modified", "changed", "born")
"""What the four times are called, in the order of :func:`entry_times`."""


def entry_times(entry: Entry) -> tuple[int | None, int | None, int | None, int | None]:
    """The four times of an entry, in nanoseconds; None for what is not kept."""
    return entry.access_ns, entry.modify_ns, entry.change_ns, entry.birth_ns


def json_name(name: bytes, key: str = "name") -> dict[str, str]:
    """A name for JSON: as it is when it is UTF-8, else as shown, with its bytes in hexadecimal."""
    try:
        return {key: name.decode("utf-8")}
    except UnicodeDecodeError:
        return {key: show_name(name), f"{key}_hex": name.hex()}


def json_entry(entry: Entry) -> dict[str, Any]:
    """An entry for JSON, without its name; what is not known is left out."""
    shown: dict[str, Any] = {"type": TYPE_NAMES[entry.type]}
    if entry.mask & MASK_MODE:
        shown |= {
            "mode": f"{entry.mode & 0o7777:04o}",
            "uid": entry.uid,
            "gid": entry.gid,
            "links": entry.links,
            "inode": entry.inode,
            "size": entry.size,
            "allocated": entry.blocks * 512,
        }
    elif entry.mask & MASK_INODE:
        # Its stat failed.
        shown["inode"] = entry.inode
    if entry.type in DEVICES:
        shown |= {"major": entry.special_major, "minor": entry.special_minor}
    for word, time_ns in zip(TIMES, entry_times(entry), strict=True):
        if time_ns is not None:
            shown[word] = iso_time(time_ns)
    return shown
