# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a file system can sit on, as every process and the command line name it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from explorer.core.errors import RecordError

DISK: Final = "disk"
"""The whole of what an image holds."""
PARTITION: Final = "partition"
FREE: Final = "free"
"""Space of a disk without a partition."""
ARRAY: Final = "array"
"""What members of a RAID make together."""
LOGICAL: Final = "logical"
"""A logical volume of a volume group."""
OPENED: Final = "opened"
"""What an encrypted volume holds, once it is unlocked."""
SUBVOLUME: Final = "subvolume"
"""A root of its own within a file system: a subvolume or a snapshot."""

KINDS: Final = (DISK, PARTITION, FREE, ARRAY, LOGICAL, OPENED, SUBVOLUME)

NO_PARENT: Final = -1


@dataclass(frozen=True, slots=True)
class Volume:
    """A node of the stack on a source, and what was recognised on it."""

    number: int
    """What requests name it by. Partitions of the first disk have the number that Linux counts,
    with gaps; 0 is that whole disk. All others are beyond."""
    start: int
    """Bytes from the start of its disk; 0 for what does not lie in one piece."""
    size: int
    """Bytes."""
    content: str
    """Short name of what was recognised, as ``ext4`` or ``crypto_LUKS``; empty for nothing."""
    title: str
    """The same for people, as ``ext4`` or ``LUKS encrypted volume``."""
    label: str
    uuid: str
    mountable: bool
    """Whether the kernel has a file system for it, so that opening it is worth a try."""
    kind: str = PARTITION
    """One of :data:`KINDS`."""
    name: str = ""
    """What a person names it by: ``2``, ``2:1`` (of the second disk), ``group/logical``."""
    parent: int = NO_PARENT
    """Number of the volume that it is on or in; a volume on several has the first as its own."""
    locked: bool = False
    """Whether it needs a passphrase before what is in it can be seen."""
    type: str = ""
    """What its partition table, or its kind of volume, says it is for."""
    partition_label: str = ""
    partition_uuid: str = ""
    note: str = ""
    """Why it cannot be used, or is not whole; empty when nothing is wrong."""

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
    "kind": str,
    "name": str,
    "parent": int,
    "locked": bool,
    "type": str,
    "partition_label": str,
    "partition_uuid": str,
    "note": str,
}


def volume_from_wire(data: object) -> Volume:
    """The volume that :meth:`Volume.to_wire` gave; raises :exc:`RecordError` if it is none."""
    names = {field.name for field in fields(Volume)}
    if not isinstance(data, dict) or set(data) != names:
        raise RecordError("record.volume", reason="not the fields of a volume")
    for name, kind in _TYPES.items():
        if type(data[name]) is not kind:
            raise RecordError("record.volume", reason=f"{name} is wrong")
    if min(data["number"], data["start"], data["size"]) < 0 or data["parent"] < NO_PARENT:
        raise RecordError("record.volume", reason="a negative number")
    if data["kind"] not in KINDS:
        raise RecordError("record.volume", reason="kind is wrong")
    return Volume(**data)
