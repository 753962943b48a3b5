# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""From an image to its volumes, and from a volume to its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from explorer.core.errors import KernelError, UnknownFormat, VolumeError
from explorer.core.volume import Volume
from explorer.volumes.options import RECOVERED, attempts
from explorer.volumes.signatures import recognise
from explorer.volumes.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from explorer.images.base import Image
    from explorer.kernel.devices import Mount
    from explorer.kernel.kernel import Kernel, Partition
    from explorer.volumes.options import Attempt
    from explorer.volumes.signatures import Recognised

OVERLAY_LIMIT = 256 * 1024 * 1024
"""Bytes of memory in which a file system may replay its journal."""


def disk_block_size(image: Image) -> int:
    """Bytes of a logical block: where the GPT stands, when there is one, tells it."""
    # UEFI specification, section 5.3.2: the header is in the second block.
    for size in (image.block_size, 512, 1024, 2048, 4096):
        if image.read(size, 8) == b"EFI PART":
            return size
    return image.block_size


def _look(image: Image, start: int, size: int) -> Recognised | None:
    # A partition may reach beyond an image that is cut off.
    return recognise(Window(image.read, start, max(0, min(size, image.size - start))))


def _volume(number: int, start: int, size: int, found: Recognised | None) -> Volume:
    if found is None:
        return Volume(number, start, size, "", "", "", "", mountable=False)
    return Volume(
        number,
        start,
        size,
        found.content,
        found.title,
        found.label,
        found.uuid,
        mountable=bool(found.types),
    )


def list_volumes(image: Image, partitions: Sequence[Partition]) -> list[Volume]:
    """The volumes of a disk: what is on the whole of it, if anything, then its partitions."""
    whole = _look(image, 0, image.size)
    volumes = [_volume(0, 0, image.size, whole)] if whole else []
    for partition in partitions:
        found = _look(image, partition.start, partition.size)
        if partition.start == 0 and whole and found and found.content == whole.content:
            # The partition that covers the disc of a hybrid ISO is that disc once more.
            continue
        volumes.append(_volume(partition.number, partition.start, partition.size, found))
    return volumes


def volume_lines(volumes: Sequence[Volume]) -> str:
    """A table of volumes for people."""
    rows = [
        (
            str(volume.number),
            volume.title or "not recognised",
            show_size(volume.size),
            volume.label,
            volume.uuid,
            "" if volume.mountable else "(cannot be opened)",
        )
        for volume in volumes
    ]
    rows.insert(0, ("N", "CONTENT", "SIZE", "LABEL", "UUID", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  "
        + "  ".join([row[column].ljust(widths[column]) for column in range(5)] + [row[5]]).rstrip()
        for row in rows
    )


def show_size(size: int) -> str:
    """A number of bytes for people, as ``1.5 GiB``."""
    number = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} EiB"


def select_volume(path: str, volumes: Sequence[Volume], wanted: str | None) -> Volume:
    """The volume a person means: by number, label or UUID, or the only one.

    Raises :exc:`VolumeError` with a list to choose from, :exc:`UnknownFormat` when nothing at all
    was recognised.
    """
    listing = volume_lines(volumes)
    if wanted is not None:
        for matching in (
            [volume for volume in volumes if str(volume.number) == wanted],
            [volume for volume in volumes if volume.label == wanted],
            [volume for volume in volumes if volume.uuid.lower() == wanted.lower() != ""],
        ):
            if len(matching) == 1:
                return matching[0]
            if matching:
                raise VolumeError("volume.ambiguous", path=path, wanted=wanted, list=listing)
        raise VolumeError("volume.missing", path=path, wanted=wanted, list=listing)
    if not any(volume.content for volume in volumes):
        if volumes:
            raise VolumeError("volume.none", path=path, list=listing)
        raise UnknownFormat("image.not-an-image", path=path)
    mountable = [volume for volume in volumes if volume.mountable]
    if len(mountable) > 1:
        raise VolumeError("volume.choose", path=path, list=listing)
    if mountable:
        return mountable[0]
    # Opening it gives the reason; with several, the list shows what they are.
    recognised = [volume for volume in volumes if volume.content]
    if len(recognised) == 1:
        return recognised[0]
    raise VolumeError("volume.none", path=path, list=listing)


@dataclass(frozen=True, slots=True)
class MountedVolume:
    """A volume whose files can be read. A context manager that unmounts it."""

    volume: Volume
    mount: Mount
    kind: str
    """The kernel's file system."""
    options: str
    recovered: bool
    """Whether it was not closed cleanly and replayed its journal, in memory."""
    as_stored: bool
    """Whether it could only be opened without that; the newest changes may be missing."""

    def close(self) -> None:
        """Unmount it."""
        self.mount.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.mount.__exit__(kind, error, trace)


class ImageDisk:
    """An image as a disk of the kernel. A context manager that removes the disk."""

    def __init__(self, kernel: Kernel, image: Image, *, overlay_limit: int = OVERLAY_LIMIT) -> None:
        """Give the image to the kernel; ``overlay_limit`` 0 forbids every write."""
        self._image = image
        self.disk = kernel.add_disk(
            image, overlay_limit=overlay_limit, block_size=disk_block_size(image)
        )

    def volumes(self) -> list[Volume]:
        """What the disk holds."""
        return list_volumes(self._image, self.disk.partitions())

    def name(self, volume: Volume) -> str:
        """How messages name a volume."""
        if volume.number == 0:
            return self._image.path
        return f"{self._image.path}, volume {volume.number}"

    def mount(self, volume: Volume) -> MountedVolume:
        """Mount a volume, read-only; raises :exc:`VolumeError` with what the kernel said."""
        found = _look(self._image, volume.start, volume.size)
        if found is None:
            raise VolumeError("volume.unknown", volume=self.name(volume))
        if not found.types:
            raise VolumeError(
                "volume.refused", volume=self.name(volume), title=found.title, why=found.why
            )
        failure: KernelError | None = None
        for kind in found.types:
            for attempt in attempts(kind, found.variant):
                try:
                    return self._mount(volume, kind, attempt)
                except KernelError as error:
                    if error.code != "kernel.call":
                        raise
                    failure = failure or error
        raise VolumeError(
            "volume.mount",
            volume=self.name(volume),
            type=found.title,
            reason=failure.reason if failure else "",
            log=failure.log if failure else [],
        ) from failure

    def _mount(self, volume: Volume, kind: str, attempt: Attempt) -> MountedVolume:
        mount = self.disk.mount(kind, partition=volume.number, options=attempt.options)
        recovered = any(RECOVERED.search(line) for line in mount.messages)
        return MountedVolume(volume, mount, kind, attempt.options, recovered, attempt.as_stored)

    def close(self) -> None:
        """Remove the disk; its volumes must be unmounted."""
        self.disk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.disk.__exit__(kind, error, trace)
