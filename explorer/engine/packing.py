# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The half of a copy that reads: entries of a volume, sent to a writer."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from explorer.engine import watch
from explorer.engine.paths import split_path
from explorer.kernel.pack import Packer
from explorer.wire.messages import Packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from explorer.engine.server import Answer
    from explorer.kernel import Directory
    from explorer.kernel.pack import ReadStreams
    from explorer.volumes import MountedVolume
    from explorer.wire.messages import Pack


class Beats:
    """What is done now and then while copies go on, by the thread that shows the engine's pulse.

    It tells the watchdog that how long a writer takes is no fault of what is at work in here.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._all: list[Callable[[], None]] = []

    @contextmanager
    def during(self, beat: Callable[[], None]) -> Iterator[None]:
        """While ``beat`` may be called."""
        with self._lock:
            self._all.append(beat)
        try:
            yield
        finally:
            with self._lock:
                self._all.remove(beat)

    def beat(self) -> None:
        """Do all of it."""
        with self._lock:
            for beat in self._all:
                beat()


def pack(
    mounted: MountedVolume,
    request: Pack,
    descriptor: int,
    answer: Answer,
    beats: Beats,
) -> Packed:
    """Sends what was asked for through ``descriptor``, a socket, which stays the caller's.

    Raises :exc:`ExportError` (``export.cancelled``) when cancelled or nobody listens.
    """

    def step(_entries: int, _count: int) -> None:
        answer.check()

    with ExitStack() as opened:
        root = opened.enter_context(mounted.mount.open_directory()) if request.follow else None
        packer = opened.enter_context(
            Packer(
                mounted.mount.kernel,
                descriptor,
                holes=request.holes,
                follow=None if root is None else root.descriptor,
                every_link=request.every_link,
                plan=request.plan,
                # A writer that copies extents itself leaves out a file that it cannot read.
                place=mounted.mapped if request.extents and not request.holes else None,
                step=step,
                streams=_streams(mounted),
            )
        )
        opened.enter_context(answer.cancels(packer.cancel))
        operation = watch.current()

        def beat() -> None:
            if operation is not None and packer.waiting:
                operation.step()

        opened.enter_context(beats.during(beat))
        _send_all(packer, mounted, request)
        packer.finish()
        return Packed(packer.entries)


def _send_all(packer: Packer, mounted: MountedVolume, request: Pack) -> None:
    directory: Directory | None = None
    with ExitStack() as opened:
        for path in request.paths:
            folder, name = split_path(path)
            if request.contents or not name:
                target = b"" if request.contents else request.name or b""
                with mounted.mount.open_directory(path) as itself:
                    packer.send(itself, b"", target)
                continue
            if directory is None or directory.path != folder:
                opened.close()
                directory = opened.enter_context(mounted.mount.open_directory(folder))
            packer.send(directory, name, request.name or name)


def _streams(mounted: MountedVolume) -> ReadStreams | None:
    """What reads the named streams of files, where the file system has such."""
    if mounted.kind != "ntfs3":
        return None
    from explorer.volumes import ntfs_streams

    window = mounted.window()

    def read(inode: int) -> Iterable[tuple[bytes, Iterable[bytes]]]:
        for stream in ntfs_streams.list_streams(window, inode):
            yield stream.name, ntfs_streams.read_stream(window, inode, stream.name) or ()

    return read
