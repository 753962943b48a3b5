# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts what was recognised on a device, in the first way that works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from explorer.core.closing import Closing
from explorer.core.errors import KernelError, VolumeError
from explorer.volumes.options import RECOVERED, attempts
from explorer.volumes.window import Window

if TYPE_CHECKING:
    from explorer.core.views import View
    from explorer.core.volume import Volume
    from explorer.kernel import BlockDevice, Mount
    from explorer.kernel.pack import DiskRange
    from explorer.volumes.options import Attempt
    from explorer.volumes.signatures import Recognised


MAPPED = frozenset({"ext2", "ext3", "ext4", "xfs"})
"""File systems whose FIEMAP gives bytes of the one device that they are on. Not Btrfs: it gives
addresses of its own."""


@dataclass(frozen=True, slots=True)
class MountedVolume(Closing):
    """A volume whose files can be read. A context manager that unmounts it."""

    volume: Volume
    mount: Mount
    kind: str
    """The kernel's file system."""
    options: str
    recovered: bool
    """Whether it was not closed cleanly and replayed its journal, in memory."""
    as_stored: bool
    """Whether it was opened without that; the newest changes may be missing."""
    device: BlockDevice
    """What it is on."""
    place: DiskRange | None = None
    """Where it lies on a disk of the kernel; None for what is put together of others."""

    @property
    def mapped(self) -> DiskRange | None:
        """The same, if the file system tells where in it the bytes of files lie."""
        return self.place if self.kind in MAPPED else None

    def window(self) -> Window:
        """The bytes that the file system stands in, as the kernel has them by now."""
        return Window(self.device.read, 0, self.device.size())

    def close(self) -> None:
        """Unmount it."""
        self.mount.close()


def mount_recognised(
    device: BlockDevice,
    volume: Volume,
    found: Recognised,
    view: View,
    *,
    name: str,
    extra_options: str = "",
    replay: bool = False,
) -> MountedVolume:
    """Mount a volume, read-only; raises :exc:`VolumeError` with what the kernel said.

    ``name`` is how messages name the volume; ``extra_options`` are added to each way's own,
    and ``replay`` tells that its journal is known to have something to replay.
    """
    failure: KernelError | None = None
    for kind in found.types:
        for attempt in attempts(kind, found.variant, view, replay=replay):
            try:
                return _mount(device, volume, kind, attempt, extra_options)
            except KernelError as error:
                if error.code != "kernel.call":
                    raise
                failure = failure or error
    raise VolumeError(
        "volume.mount",
        volume=name,
        type=found.title,
        reason=failure.reason if failure else "",
        log=failure.log if failure else [],
    ) from failure


def _mount(
    device: BlockDevice, volume: Volume, kind: str, attempt: Attempt, extra_options: str
) -> MountedVolume:
    options = ",".join(part for part in (attempt.options, extra_options) if part)
    mount = device.mount(kind, options=options, read_only=not attempt.writable)
    try:
        if attempt.writable:
            mount.make_read_only(options)
        # One that shut itself down while it was put in order is of no use.
        mount.open_directory().close()
    except KernelError:
        mount.close()
        raise
    recovered = any(RECOVERED.search(line) for line in mount.messages)
    return MountedVolume(volume, mount, kind, options, recovered, attempt.as_stored, device)
