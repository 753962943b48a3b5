# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The one source of this process, and the kernel that reads it: what answers the requests."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING

from explorer.core.errors import (
    KernelError,
    RecordError,
    UnknownFormat,
    VolumeError,
    host_path,
)
from explorer.engine.export import export
from explorer.engine.paths import check_path, resolve, split_path
from explorer.images.registry import open_image
from explorer.kernel import Kernel
from explorer.volumes import ImageDisk
from explorer.wire.frames import EXIT_KERNEL_ENDED
from explorer.wire.messages import (
    LINKS_LIMIT,
    RANGE_LIMIT,
    Counters,
    Entries,
    EntryRead,
    Export,
    LinksRead,
    ListDirectory,
    Listed,
    LogRead,
    Message,
    OpenSource,
    OpenVolume,
    RangeRead,
    ReadCounters,
    ReadEntry,
    ReadLinks,
    ReadLog,
    ReadRange,
    ReadXattrs,
    Reply,
    Resolve,
    SourceOpened,
    VolumeOpened,
    XattrsRead,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from explorer.core.volume import Volume
    from explorer.engine.server import Answer
    from explorer.kernel import Mount
    from explorer.volumes import MountedVolume

LISTING_BATCH = 1 << 17
"""Bytes of records sent at once: what a window decodes in a few milliseconds."""


class Source:
    """Answers every request. A context manager that closes the source."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._stack = ExitStack()
        self._kernel: Kernel | None = None
        self._disk: ImageDisk | None = None
        self._volumes: dict[int, Volume] = {}
        self._mount_locks: dict[int, Lock] = {}
        self._mounted: dict[int, MountedVolume] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def handle(self, message: Message, answer: Answer) -> Reply:
        """Answers one request; from any thread."""
        try:
            return self._handle(message, answer)
        except KernelError as error:
            if error.code == "kernel.ended":
                print(error, *error.log, sep="\n", file=sys.stderr, flush=True)
                os._exit(EXIT_KERNEL_ENDED)
            raise

    def _handle(self, message: Message, answer: Answer) -> Reply:
        match message:
            case OpenSource(path):
                return self._open(path)
            case OpenVolume(volume):
                return self._open_volume(volume)
            case ListDirectory(volume, path):
                return self._list(volume, path, answer)
            case ReadEntry(volume, path):
                return EntryRead(path, self._mount(volume).stat(check_path(path)))
            case Resolve(volume, path):
                return EntryRead(*resolve(self._mount(volume), path))
            case ReadLinks(volume, path, names):
                return self._read_links(volume, path, names)
            case ReadXattrs(volume, path):
                directory, name = split_path(path)
                with self._mount(volume).open_directory(directory) as parent:
                    found = parent.read_xattrs(name)
                return XattrsRead(tuple(found), tuple(found.values()))
            case ReadRange(volume, path, offset, length):
                return self._read_range(volume, path, offset, length)
            case Export():
                return export(self._mount(message.volume), message, answer)
            case ReadCounters():
                return self._read_counters()
            case ReadLog(position):
                text, end = self._opened_kernel().read_log(position)
                return LogRead(end, text)
            case _:
                kind = type(message).__name__
                raise RecordError("record.message", message=kind, reason="no request")

    # ---- Opening

    def _open(self, path: bytes) -> SourceOpened:
        with self._lock:
            if self._disk is not None:
                raise RecordError("record.message", message="OpenSource", reason="a second one")
            image = self._stack.enter_context(open_image(path))
            self._kernel = self._stack.enter_context(Kernel())
            self._disk = self._stack.enter_context(ImageDisk(self._kernel, image))
            volumes = tuple(self._disk.volumes())
            if not volumes:
                raise UnknownFormat("image.not-an-image", path=host_path(path))
            self._volumes = {volume.number: volume for volume in volumes}
            self._mount_locks = {number: Lock() for number in self._volumes}
            return SourceOpened(
                image.size, image.format, self._kernel.release, self._kernel.boot_ns, volumes
            )

    def _opened_kernel(self) -> Kernel:
        if self._kernel is None:
            raise RecordError("record.message", message="OpenSource", reason="not opened yet")
        return self._kernel

    def _mounted_volume(self, number: int) -> MountedVolume:
        volume = self._volumes.get(number)
        if volume is None or self._disk is None:
            raise VolumeError("volume.missing", wanted=str(number))
        with self._mount_locks[number]:
            mounted = self._mounted.get(number)
            if mounted is None:
                mounted = self._disk.mount(volume)
                with self._lock:
                    self._stack.enter_context(mounted)
                self._mounted[number] = mounted
            return mounted

    def _mount(self, number: int) -> Mount:
        return self._mounted_volume(number).mount

    def _open_volume(self, number: int) -> VolumeOpened:
        mounted = self._mounted_volume(number)
        space = mounted.mount.capacity()
        return VolumeOpened(
            mounted.kind, mounted.recovered, mounted.as_stored, space.size, space.free
        )

    # ---- Reading

    def _list(self, volume: int, path: bytes, answer: Answer) -> Listed:
        with self._mount(volume).open_directory(check_path(path)) as directory:
            while records := directory.read_entries(LISTING_BATCH):
                answer.send(Entries(records))
        return Listed()

    def _read_links(self, volume: int, path: bytes, names: tuple[bytes, ...]) -> LinksRead:
        if len(names) > LINKS_LIMIT:
            raise RecordError("record.message", message="ReadLinks", reason="too many names")
        mount = self._mount(volume)
        targets: list[bytes | None] = []
        for name in names:
            entry = path + name if path == b"/" else path + b"/" + name
            try:
                targets.append(mount.read_link(check_path(entry)))
            except KernelError as error:
                if error.code == "kernel.ended":
                    raise
                targets.append(None)
        return LinksRead(tuple(targets))

    def _read_range(self, volume: int, path: bytes, offset: int, length: int) -> RangeRead:
        if offset < 0 or not 0 <= length <= RANGE_LIMIT:
            raise RecordError("record.message", message="ReadRange", reason="its range")
        directory, name = split_path(path)
        mount = self._mount(volume)
        with mount.open_directory(directory) as parent, parent.open_file(name) as file:
            return RangeRead(file.read_at(offset, length))

    def _read_counters(self) -> Counters:
        self._opened_kernel()
        assert self._disk is not None
        now = self._disk.disk.statistics()
        # What was written went to memory; the library has no way to write to a source.
        written = 0 if now.overlay_bytes else now.write_bytes
        return Counters(
            now.read_requests, now.read_bytes, written, now.write_errors, now.overlay_bytes
        )
