# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Volumes as people see and choose them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from explorer.core.errors import UnknownFormat, VolumeError
from explorer.core.volume import FREE, NO_PARENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from explorer.core.volume import Volume


def show_size(size: int) -> str:
    """A number of bytes for people, as ``1.5 GiB``."""
    number = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} EiB"


def iter_tree(volumes: Sequence[Volume]) -> Iterator[tuple[int, Volume]]:
    """Depth and volume of each, those on or in another after it."""
    known = {volume.number for volume in volumes}
    children: dict[int, list[Volume]] = {}
    roots: list[Volume] = []
    for volume in volumes:
        within = volume.parent in known and volume.parent != volume.number
        (children.setdefault(volume.parent, []) if within else roots).append(volume)
    waiting = [(0, volume) for volume in reversed(roots)]
    while waiting:
        depth, volume = waiting.pop()
        yield depth, volume
        waiting += [(depth + 1, child) for child in reversed(children.get(volume.number, []))]


def volume_lines(volumes: Sequence[Volume]) -> str:
    """A table of volumes for people."""
    holders = {volume.parent for volume in volumes}
    rows = [
        (
            "  " * depth + volume.name,
            _content(volume),
            volume.type,
            str(volume.start) if volume.start else "",
            show_size(volume.size),
            volume.label or volume.partition_label,
            volume.uuid or volume.partition_uuid,
            _remark(volume, holds_others=volume.number in holders),
        )
        for depth, volume in iter_tree(volumes)
    ]
    rows.insert(0, ("VOLUME", "CONTENT", "TYPE", "START", "SIZE", "LABEL", "UUID", ""))
    # The last is a remark, and what no volume has is not shown.
    shown = [column for column in range(7) if any(row[column] for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in shown}
    return "\n".join(
        "  " + "  ".join([*(row[one].ljust(widths[one]) for one in shown), row[-1]]).rstrip()
        for row in rows
    )


def _content(volume: Volume) -> str:
    if volume.kind == FREE:
        return "free"
    return volume.title or ("not usable" if volume.note else "not recognised")


def _remark(volume: Volume, *, holds_others: bool) -> str:
    if volume.note:
        return f"({volume.note})"
    if volume.locked:
        return "(locked)"
    usable = volume.mountable or volume.kind == FREE or holds_others
    return "" if usable else "(cannot be opened)"


def select_volume(path: str, volumes: Sequence[Volume], wanted: str | None) -> Volume:
    """The volume a person means: by name, number, label or UUID, or the only one.

    Raises :exc:`VolumeError` with a list to choose from, :exc:`UnknownFormat` when nothing at all
    was recognised.
    """
    listing = volume_lines(volumes)
    if wanted is not None:
        for matching in (
            [volume for volume in volumes if volume.name == wanted],
            [volume for volume in volumes if str(volume.number) == wanted],
            [volume for volume in volumes if volume.label == wanted],
            [volume for volume in volumes if volume.uuid.lower() == wanted.lower() != ""],
            [volume for volume in volumes if volume.partition_label == wanted],
            [volume for volume in volumes if volume.partition_uuid.lower() == wanted.lower() != ""],
        ):
            if len(matching) == 1:
                return matching[0]
            if matching:
                raise VolumeError("volume.ambiguous", path=path, wanted=wanted, list=listing)
        raise VolumeError("volume.missing", path=path, wanted=wanted, list=listing)
    if not any(volume.content for volume in volumes):
        if any(volume.kind != FREE for volume in volumes):
            raise VolumeError("volume.none", path=path, list=listing)
        raise UnknownFormat("image.not-an-image", path=path)
    mountable = [volume for volume in volumes if volume.mountable]
    if len(mountable) > 1:
        raise VolumeError("volume.choose", path=path, list=listing)
    if mountable:
        return mountable[0]
    # Opening it gives the reason; with several, the list shows what they are.
    recognised = [volume for volume in volumes if volume.content]
    locked = [volume for volume in volumes if volume.locked]
    for only in (recognised, locked):
        if len(only) == 1:
            return only[0]
    raise VolumeError("volume.none", path=path, list=listing)


class Holder(Protocol):
    """What has volumes, and can open those that are encrypted."""

    def volumes(self) -> Sequence[Volume]:
        """All that are known."""

    def find_subvolumes(self, volume: Volume) -> None:
        """Make the subvolumes of one known."""

    def unlock(self, volume: Volume) -> Volume:
        """Open an encrypted one, asking for its passphrase; returns what it holds.

        Raises :exc:`VolumeError` when there is no passphrase, or only wrong ones.
        """


def choose_volume(path: str, holder: Holder, wanted: str | None) -> Volume:
    """The volume that a person means, as :func:`select_volume`, unlocked as far as need be.

    Raises as :func:`select_volume` and :meth:`Holder.unlock`.
    """
    if wanted is not None and "@" in wanted:
        base = wanted.partition("@")[0]
        for volume in holder.volumes():
            if base in (volume.name, str(volume.number), volume.label):
                holder.find_subvolumes(volume)
    while True:
        try:
            volume = select_volume(path, holder.volumes(), wanted)
        except VolumeError as error:
            # It may be behind a lock.
            if error.code in ("volume.missing", "volume.none") and unlock_any(holder):
                continue
            raise
        if not volume.locked:
            return volume
        opened = holder.unlock(volume)
        if opened.mountable:
            return opened
        # The only one on what was unlocked, if there is one.
        volumes = holder.volumes()
        within = [one for one in volumes if _is_on(volumes, one, opened)]
        volume = select_volume(path, within, None)
        if not volume.locked:
            return volume
        wanted = volume.name


def unlock_any(holder: Holder) -> bool:
    """Unlock all that is locked and known; whether anything was."""
    locked = [volume for volume in holder.volumes() if volume.locked]
    for volume in locked:
        holder.unlock(volume)
    return bool(locked)


def _is_on(volumes: Sequence[Volume], volume: Volume, below: Volume) -> bool:
    parents = {one.number: one.parent for one in volumes}
    number = volume.number
    for _ in parents:
        if number == below.number:
            return True
        number = parents.get(number, NO_PARENT)
    return False
