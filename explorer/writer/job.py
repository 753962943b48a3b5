# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""One job: what it writes to is opened, then the stream is taken to its end.

Opening comes first and by itself: afterwards the process confines itself to what it opened.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from explorer.core.closing import Closing
from explorer.core.errors import ExportError, host_path
from explorer.native.stream import Stream
from explorer.writer.archive import ArchiveCopy
from explorer.writer.content import PlainContent
from explorer.writer.folder import FolderCopy
from explorer.writer.manifest import ManifestWriter
from explorer.writer.naming import PosixNames, WindowsNames
from explorer.writer.outcomes import Accounts
from explorer.writer.output import FileOutput, StreamOutput, lock, write_error
from explorer.writer.steering import Steering, Teller
from explorer.writer.tar import TarArchive
from explorer.writer.zip import ZipArchive

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from explorer.core.errors import ExplorerError
    from explorer.wire.pipe import Pipe
    from explorer.wire.writing import Write, Written
    from explorer.writer.archive import Archive, NameRule
    from explorer.writer.outcomes import Outcome
    from explorer.writer.output import Output

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Job(Closing):
    """A :class:`Write` that is done; a context manager that removes what did not become whole."""

    def __init__(
        self, job: Write, source: socket.socket, output: int | None, pipe: Pipe, request: int
    ) -> None:
        """``source`` is the engine's stream, ``output`` what to write to without a destination."""
        self._job = job
        self._source = source
        self._given = output
        self.steering = Steering(request)
        self._accounts = Accounts()
        self._teller = Teller(pipe, request, self._accounts)
        self._opened = ExitStack()
        self._manifest: ManifestWriter | None = None
        self.folders: list[int] = []
        """Descriptors of the folders that are written to, once it is open."""

    def open(self) -> None:
        """Open all that is written to; raises :exc:`ExplorerError`."""
        job = self._job
        if job.manifest is not None:
            replace = job.resume or job.conflicts == "overwrite"
            self._manifest = ManifestWriter(self._open_file(job.manifest, replace=replace), job)
        stream = self._opened.enter_context(Stream(self._source, self.steering.check))
        self._run_copy = (
            self._open_folder(stream) if job.sink == "folder" else self._open_archive(stream)
        )

    def run(self) -> Written:
        """Take the stream to its end; raises :exc:`ExplorerError`."""
        ended = self._run_copy()
        self._teller.flush()
        written = self._accounts.written_message(ended)
        if self._manifest is not None:
            self._manifest.finish(written)
        return written

    # ---- A folder

    def _open_folder(self, stream: Stream) -> Callable[[], ExplorerError | None]:
        job = self._job
        assert job.destination is not None
        destination = open_folder(job.destination)
        self._opened.callback(os.close, destination)
        self.folders.append(destination)
        if not job.plan:
            check_room(destination, job.destination, job.expected)
        journal = self._open_journal()
        copy = FolderCopy(
            stream,
            destination,
            job,
            self._accounts,
            self.steering,
            self._teller,
            self._tell,
            journal=journal,
        )

        def run() -> ExplorerError | None:
            copy.run()
            if copy.ended is None and not job.plan:
                copy.ended = _missing(destination, job.destination or b"")
            if journal is not None and copy.ended is None:
                # Nothing is left to go on with.
                assert job.journal is not None
                name = os.path.basename(job.journal)  # noqa: PTH119 - bytes
                os.unlink(name, dir_fd=self.folders[-1])
            return copy.ended

        return run

    def _open_journal(self) -> int | None:
        path, job = self._job.journal, self._job
        if path is None or job.plan:
            return None
        folder = open_folder(_folder_of(path))
        self._opened.callback(os.close, folder)
        self.folders.append(folder)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        flags |= os.O_CLOEXEC
        try:
            name = os.path.basename(path)  # noqa: PTH119 - bytes
            journal = os.open(name, flags, 0o600, dir_fd=folder)
            self._opened.callback(os.close, journal)
            lock(journal, path)
            if not job.resume:
                os.ftruncate(journal, 0)
            # Its name must last as long as what it tells of.
            os.fsync(folder)
        except OSError as failure:
            raise write_error(path, failure) from failure
        return journal

    # ---- An archive, or a file's content

    def _open_archive(self, stream: Stream) -> Callable[[], ExplorerError | None]:
        job = self._job
        output = None if job.plan else self._open_output()
        archive = None if output is None else _new_archive(job, output)
        copy = self._opened.enter_context(
            ArchiveCopy(
                stream,
                archive,
                job,
                _names(job),
                spool_folder=None if job.destination is None else _folder_of(job.destination),
                tell=self._take,
                check=self.steering.check,
            )
        )

        def run() -> ExplorerError | None:
            copy.run()
            if copy.error:
                # Half an archive is none: it goes, and the copy is made anew.
                raise ExportError("export.incomplete-stream")
            if archive is not None and output is not None:
                archive.finish()
                output.finish()
            return None

        return run

    def close(self) -> None:
        """Close everything; a second call does nothing."""
        self._opened.close()

    def _take(self, outcome: Outcome) -> None:
        self._accounts.add(outcome)
        self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        if self._manifest is not None:
            self._manifest.add(outcome)
        self._teller.add(outcome)

    def _open_output(self) -> Output:
        job = self._job
        if job.destination is None:
            if self._given is None:
                raise ExportError("export.missing-folder", path="-")
            return self._opened.enter_context(StreamOutput(self._given))
        output = self._open_file(job.destination, replace=job.conflicts == "overwrite")
        # What is compressed may take less.
        if not (job.sink == "zip" and job.deflate):
            check_room(self.folders[-1], job.destination, job.expected)
        return output

    def _open_file(self, path: bytes, *, replace: bool) -> Output:
        folder = open_folder(_folder_of(path))
        self._opened.callback(os.close, folder)
        self.folders.append(folder)
        return self._opened.enter_context(FileOutput(folder, path, replace=replace))


def open_folder(path: bytes) -> int:
    """A descriptor of a folder of the host; raises :exc:`ExportError`."""
    try:
        return os.open(path, _FOLDER)
    except OSError as failure:
        reason = failure.strerror or ""
        raise ExportError("export.missing-folder", path=host_path(path), reason=reason) from failure


def _missing(folder: int, path: bytes) -> ExportError | None:
    """Why what was copied into a folder is not where it was wanted.

    Somebody may have unmounted, moved or removed it, which no call on a descriptor tells.
    """
    try:
        found, held = os.stat(path), os.fstat(folder)  # noqa: PTH116 - bytes
    except OSError as failure:
        reason = failure.strerror or ""
    else:
        if os.path.samestat(found, held):
            return None
        reason = "another folder is there now"
    return ExportError("export.target", path=host_path(path), reason=reason)


def check_room(folder: int, path: bytes, needed: int) -> None:
    """Raise :exc:`ExportError` when the host has not as many bytes left as are needed."""
    found = os.fstatvfs(folder)
    free = found.f_bavail * found.f_frsize
    if needed > free:
        raise ExportError("export.room", path=host_path(path), needed=needed, free=free)


def _folder_of(path: bytes) -> bytes:
    return os.path.dirname(path) or b"."  # noqa: PTH120 - bytes


def _new_archive(job: Write, output: Output) -> Archive:
    if job.sink == "tar":
        return TarArchive(output)
    if job.sink == "zip":
        return ZipArchive(output, deflate=job.deflate)
    return PlainContent(output)


def _names(job: Write) -> NameRule:
    if job.names == "windows":
        return WindowsNames()
    return PosixNames(utf8=job.sink == "zip")
