# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a file system can sit on, as every process and the command line name it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from explorer.core.errors import RecordError


@dataclass(frozen=True, slots=True)
class Volume:
    """A partition, or the whole disk, and what was recognised on it."""

    number: int
    """The partition's number as Linux counts, with gaps; 0 is the whole disk."""
    start: int
    """Bytes from the start of the disk."""
    size: int
    """Bytes."""
    content: str
    """Short name of what was recognised, as ``ext4`` or ``luks``; empty when nothing was."""
    title: str
    """The same for people, as ``ext4`` or ``LUKS encrypted volume``."""
    label: str
    uuid: str
    mountable: bool
    """Whether the kernel has a file system for it, so that opening it is worth a try."""

    def to_wire(self) -> dict[str, Any]:
        """The volume as a JSON object; :func:`volume_from_wire` is the way back."""
        return asdict(self)


_TYPES: dict[str, type] = {
    "number": int,
    "start": int,
    "size": int,
    "content": str,
    "title": str,
    "label": str,
    "uuid": str,
    "mountable": bool,
}


def volume_from_wire(data: object) -> Volume:
    """The volume that :meth:`Volume.to_wire` gave; raises :exc:`RecordError` if it is none."""
    names = {field.name for field in fields(Volume)}
    if not isinstance(data, dict) or set(data) != names:
        raise RecordError("record.volume", reason="not the fields of a volume")
    for name, kind in _TYPES.items():
        if type(data[name]) is not kind:
            raise RecordError("record.volume", reason=f"{name} is wrong")
    if min(data["number"], data["start"], data["size"]) < 0:
        raise RecordError("record.volume", reason="a negative number")
    return Volume(**data)
