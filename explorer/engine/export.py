# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""One export: entries of a volume, with all below them, into a folder of the host.

What exists there is replaced or kept, as asked. A folder that exists is merged with either way: the
library does that itself where it may replace, and tells of the folder where it may not; then its
contents are exported into it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from explorer.core.errors import ExplorerError, ExportError, KernelError, RecordError, host_path
from explorer.core.names import show_name
from explorer.engine.paths import split_path
from explorer.wire.messages import EXPORT_LIMIT, EntryFailed, Export, Exported, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.engine.server import Answer
    from explorer.kernel import Directory, ExportFailure, ExportResult, Mount

PROGRESS_SECONDS = 0.1
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def export(mount: Mount, request: Export, answer: Answer) -> Exported:
    """Copies what was asked for, and tells of progress and failures on the way.

    Raises :exc:`ExportError` when the destination is none or it was cancelled.
    """
    if len(request.paths) > EXPORT_LIMIT:
        raise RecordError("record.message", message="Export", reason="too many paths")
    try:
        destination = os.open(request.destination, _FOLDER)
    except OSError as error:
        raise ExportError(
            "export.missing-folder", path=host_path(request.destination), reason=error.strerror
        ) from error
    try:
        return _Copy(mount, destination, answer, replace=request.replace).run(request.paths)
    finally:
        os.close(destination)


@contextmanager
def _open_below(folder: int, path: bytes) -> Iterator[int]:
    """A folder of the host below another one; raises :exc:`OSError` where a link is on the way."""
    with ExitStack() as opened:
        for name in filter(None, path.split(b"/")):
            folder = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            opened.callback(os.close, folder)
        yield folder


class _Copy:
    """Copies entry by entry and adds up what was done."""

    def __init__(self, mount: Mount, destination: int, answer: Answer, *, replace: bool) -> None:
        self._mount = mount
        self._destination = destination
        self._answer = answer
        self._replace = replace
        self._above = b"/"
        """The directory, in the volume, whose entries go into the destination."""
        self._path = b""
        """Of the entry being copied."""
        self._existing: list[tuple[bytes, ExplorerError]] = []
        """Paths where the host has a folder already, and the failures which that is until they
        are merged."""
        self._told = 0.0
        self._entries = 0
        self._written = 0
        self._errors = 0

    def run(self, paths: tuple[bytes, ...]) -> Exported:
        directory: Directory | None = None
        with ExitStack() as opened:
            for path in paths:
                self._above, name = split_path(path)
                if directory is None or directory.path != self._above:
                    opened.close()
                    directory = opened.enter_context(self._mount.open_directory(self._above))
                self._copy(directory, path, name, self._destination, contents=not name)
                while self._existing:
                    self._merge(*self._existing.pop())
        return Exported(self._entries, self._written, self._errors)

    def _copy(
        self, directory: Directory, path: bytes, name: bytes, host: int, *, contents: bool
    ) -> None:
        self._answer.check()
        self._path = path
        try:
            result = directory.export(
                name or b".",
                host,
                name or b".",
                contents=contents,
                # Another's files need root's rights; pipes need none.
                owner=os.geteuid() == 0,
                special=True,
                overwrite=self._replace,
                progress=self._take_progress,
                failed=self._take_failure,
            )
        except KernelError as error:
            # An entry that could not even be begun.
            if error.code == "kernel.ended":
                raise
            self._entries += 1
            self._errors += 1
            self._tell_failure(path, error)
        else:
            self._entries += result.entries
            self._written += result.bytes
            self._errors += result.errors

    def _merge(self, path: bytes, failure: ExplorerError) -> None:
        """Copies into a folder that exists, if what is to be copied is a folder too."""
        parent, name = split_path(path)
        try:
            if not self._mount.stat(path).is_directory:
                self._tell_failure(path, failure)
                return
            with (
                self._mount.open_directory(parent) as directory,
                _open_below(self._destination, os.path.dirname(self._target(path))) as host,  # noqa: PTH120 - bytes
            ):
                # It was counted as failed, and is counted again.
                self._entries -= 1
                self._errors -= 1
                self._copy(directory, path, name, host, contents=True)
        except KernelError as error:
            if error.code == "kernel.ended":
                raise
            self._tell_failure(path, error)
        except OSError as error:
            reason = error.strerror or str(error)
            self._tell_failure(
                path, ExportError("export.target", path=show_name(path), reason=reason)
            )

    def _target(self, path: bytes) -> bytes:
        """Where an entry goes, from the destination."""
        return path[len(self._above) :].lstrip(b"/")

    def _is_folder_there(self, path: bytes) -> bool:
        try:
            there = os.stat(self._target(path), dir_fd=self._destination, follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISDIR(there.st_mode)

    def _take_progress(self, now: ExportResult) -> bool:
        """Tells it, now and then; returns whether to stop."""
        moment = time.monotonic()
        if moment - self._told >= PROGRESS_SECONDS and not self._answer.cancelled:
            self._told = moment
            errors = self._errors + now.errors - len(self._existing)
            self._answer.send(
                Progress(self._entries + now.entries, self._written + now.bytes, max(0, errors))
            )
        return self._answer.cancelled

    def _take_failure(self, failure: ExportFailure) -> None:
        path = self._path
        if failure.path:
            path = path.rstrip(b"/") + b"/" + failure.path
        error: ExplorerError
        if failure.host:
            error = ExportError("export.target", path=show_name(path), reason=failure.reason)
        else:
            error = KernelError(
                errno=failure.errno,
                name=failure.name,
                call=failure.operation,
                reason=failure.reason,
                path=show_name(path),
            )
        exists = failure.host and failure.errno == errno.EEXIST
        if exists and not self._replace and self._is_folder_there(path):
            self._existing.append((path, error))
        elif not self._answer.cancelled:
            self._tell_failure(path, error)

    def _tell_failure(self, path: bytes, error: ExplorerError) -> None:
        self._answer.send(EntryFailed(path, error))
