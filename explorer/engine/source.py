# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The one source of this process, and the kernel that reads it: what answers the requests."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, suppress
from socket import socket
from threading import Lock
from typing import TYPE_CHECKING

from explorer.core.closing import Closing
from explorer.core.errors import (
    KernelError,
    RecordError,
    UnknownFormat,
    VolumeError,
)
from explorer.core.exits import EXIT_KERNEL_ENDED
from explorer.core.views import View
from explorer.engine import evidence, watch
from explorer.engine.packing import Beats, pack
from explorer.engine.paths import check_path, resolve, split_path
from explorer.host.folders import cache_folder
from explorer.images.access import access
from explorer.images.files import FLOW
from explorer.images.opening import Choices
from explorer.volumes import Source as OpenedSource
from explorer.volumes import Wanted
from explorer.volumes.facts import image_lines
from explorer.wire.evidence import (
    FindEntries,
    HashSource,
    ReadInventory,
    ReadTimeline,
    SearchContents,
)
from explorer.wire.messages import (
    LINKS_LIMIT,
    RANGE_LIMIT,
    Counters,
    Entries,
    EntryRead,
    FindSubvolumes,
    LinksRead,
    ListDirectory,
    Listed,
    LogRead,
    Message,
    OpenSource,
    OpenVolume,
    Pack,
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
    Unlock,
    VolumeOpened,
    VolumesFound,
    XattrsRead,
)

if TYPE_CHECKING:
    from explorer.core.volume import Volume
    from explorer.engine.server import Answer
    from explorer.host.handover import Taker
    from explorer.kernel import Mount
    from explorer.volumes import MountedVolume

FIRST_BATCH = 1 << 16
"""Bytes of records sent first: some hundred entries, so that a large folder appears at once."""
NEXT_BATCH = 1 << 17
"""Bytes of records sent at once after that: what a window decodes in a few milliseconds."""


def _step(_done: int, _total: int) -> None:
    """A step of whatever is at work: a compressed image may be looked through for an hour."""
    operation = watch.current()
    if operation is not None:
        operation.step()


class Source(Closing):
    """Answers every request. A context manager that closes the source."""

    def __init__(self, taker: Taker | None = None) -> None:
        """``taker`` is given the sockets of writers."""
        self._taker = taker
        self._lock = Lock()
        self._stack = ExitStack()
        self._source: OpenedSource | None = None
        self._volumes: dict[int, Volume] = {}
        self._mount_locks: dict[int, Lock] = {}
        self._mounted: dict[int, MountedVolume] = {}
        self._pulse_lock = Lock()
        self._beats = Beats()
        self._log_position = 0
        self._log_tail = b""

    def close(self) -> None:
        """Close the source."""
        with self._pulse_lock:
            self._source = None
        self._stack.close()

    def pulse(self) -> tuple[int, bytes]:
        """Bytes that the source has given so far, and the kernel's last messages."""
        self._beats.beat()
        with self._pulse_lock:
            # What is decoded or read before a kernel is there; that reads plain files itself.
            given = FLOW.given
            source = self._source
            if source is None:
                return given, self._log_tail
            # A disk that is removed meanwhile gives nothing.
            with suppress(KernelError):
                given += sum(disk.statistics().read_bytes for disk in source.stack.disks)
            text, self._log_position = source.kernel.read_log(self._log_position)
            self._log_tail = (self._log_tail + text)[-watch.LOG_LIMIT :]
            return given, self._log_tail

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
            case OpenSource():
                return self._open(message)
            case Unlock(volume, passphrase):
                return self._unlock(volume, passphrase)
            case FindSubvolumes(volume):
                return self._find_subvolumes(volume)
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
                return XattrsRead.of(found)
            case ReadRange(volume, path, offset, length):
                return self._read_range(volume, path, offset, length)
            case HashSource(volume=volume):
                wanted = None if volume is None else self._volume(volume)
                return evidence.hash_source(self._opened(), wanted, message, answer)
            case ReadTimeline(volume) | ReadInventory(volume):
                return evidence.tell_rows(self._mount(volume), message, answer)
            case FindEntries(volume):
                return evidence.find(self._mount(volume), message, answer)
            case SearchContents(volume):
                return evidence.search(self._mount(volume), message, answer)
            case Pack():
                if self._taker is None:
                    raise RecordError("record.message", message="Pack", reason="nobody to send to")
                # Closed whatever happens: its other end shows the writer that nothing comes.
                with socket(fileno=self._taker.take(answer.request)) as way:
                    mounted = self._mounted_volume(message.volume)
                    return pack(mounted, message, way.fileno(), answer, self._beats)
            case ReadCounters():
                return self._read_counters()
            case ReadLog(position):
                text, end = self._opened().kernel.read_log(position)
                return LogRead(end, text)
            case _:
                kind = type(message).__name__
                raise RecordError("record.message", message=kind, reason="no request")

    # ---- Opening

    def _open(self, message: OpenSource) -> SourceOpened:
        passphrases = message.passphrases

        def ask(_what: str, wrong: int = 0) -> bytes | None:
            return passphrases[wrong] if wrong < len(passphrases) else None

        try:
            view = View(message.view)
        except ValueError:
            raise RecordError("record.message", message="OpenSource", reason="its view") from None
        wanted = Wanted(
            paths=message.paths,
            choices=Choices(
                format=message.format or None,
                snapshot=message.snapshot or None,
                member=message.member or None,
                allowed=message.allowed,
                ask_passphrase=ask,
                progress=_step,
                cache_folder=cache_folder(),
            ),
            inside=message.inside,
            view=view,
        )
        with self._lock:
            if self._source is not None or not message.paths:
                raise RecordError("record.message", message="OpenSource", reason="a second one")
            access().name_sources(wanted.paths, wanted.choices.allowed)
            source = self._stack.enter_context(OpenedSource(wanted, ask))
            if not source.stack.volumes():
                raise UnknownFormat("image.not-an-image", path=source.image.path)
            self._source = source
            image = source.image
            return SourceOpened(
                image.size,
                image.format,
                source.kernel.release,
                source.kernel.boot_ns,
                self._take_volumes(source),
                tuple(image_lines(image)),
            )

    def _take_volumes(self, source: OpenedSource) -> tuple[Volume, ...]:
        volumes = tuple(source.stack.volumes())
        for volume in volumes:
            self._volumes[volume.number] = volume
            self._mount_locks.setdefault(volume.number, Lock())
        return volumes

    def _opened(self) -> OpenedSource:
        if self._source is None:
            raise RecordError("record.message", message="OpenSource", reason="not opened yet")
        return self._source

    def _volume(self, number: int) -> Volume:
        volume = self._volumes.get(number)
        if volume is None:
            raise VolumeError("volume.missing", wanted=str(number))
        return volume

    def _unlock(self, number: int, passphrase: bytes) -> VolumesFound:
        source, volume = self._opened(), self._volume(number)
        with self._lock:
            source.stack.unlock(volume, passphrase)
            return VolumesFound(self._take_volumes(source))

    def _find_subvolumes(self, number: int) -> VolumesFound:
        source, volume = self._opened(), self._volume(number)
        with self._lock:
            source.stack.find_subvolumes(volume)
            return VolumesFound(self._take_volumes(source))

    def _mounted_volume(self, number: int) -> MountedVolume:
        source, volume = self._opened(), self._volume(number)
        mounted = self._mounted.get(number)
        if mounted is not None:
            return mounted
        # Whoever waits for another to mount it waits no longer than that one may.
        with self._mounting(volume), self._mount_locks[number]:
            mounted = self._mounted.get(number)
            if mounted is None:
                mounted = source.mount(volume)
                with self._lock:
                    self._stack.enter_context(mounted)
                self._mounted[number] = mounted
            return mounted

    @staticmethod
    def _mounting(volume: Volume) -> watch.Operation:
        where = f"volume {volume.number} ({volume.content})"
        return watch.operation("mount", where, watch.MOUNT_SECONDS)

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
            size = FIRST_BATCH
            while records := directory.read_entries(size):
                answer.send(Entries(records))
                size = NEXT_BATCH
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
        now = [disk.statistics() for disk in self._opened().stack.disks]
        # What was written went to memory; the library has no way to write to a source.
        return Counters(
            sum(disk.read_requests for disk in now),
            sum(disk.read_bytes for disk in now),
            sum(0 if disk.overlay_bytes else disk.write_bytes for disk in now),
            sum(disk.write_errors for disk in now),
            sum(disk.overlay_bytes for disk in now),
        )
