# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where one file of the host is written: under another name until it is whole, or as a stream.

Nothing is ever sought in it, so a pipe does as well as a file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import ExitStack, suppress
from typing import Protocol

from explorer.core.closing import Closing
from explorer.core.errors import ExportError, host_path

PART = b".part"
"""What a file's name ends in until it is whole."""
BUFFER_SIZE = 1 << 20
_ZEROS = bytes(BUFFER_SIZE)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Output(Protocol):
    """What takes bytes in their order."""

    position: int
    """Bytes that were written so far."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; raises :exc:`ExportError`."""

    def write_zeros(self, length: int) -> None:
        """Take that many zeros."""

    def finish(self) -> None:
        """Everything was written: make it last, under its own name."""

    def close(self) -> None:
        """Let go of it; what was not finished is gone."""


def write_error(path: bytes, failure: OSError) -> ExportError:
    """Why the host would not take something, as a typed error."""
    code = "export.space" if failure.errno in _FULL else "export.target"
    if failure.errno == errno.EPIPE:
        code = "export.pipe-closed"
    return ExportError(code, path=host_path(path), reason=failure.strerror or str(failure))


class StreamOutput(Closing):
    """A descriptor that is written to and cannot be taken back."""

    def __init__(self, descriptor: int, path: bytes = b"-") -> None:
        """``path`` is what errors name it by; the descriptor is closed in the end."""
        self._descriptor = descriptor
        self._path = path
        self._buffer = bytearray()
        self.position = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; raises :exc:`ExportError`."""
        self.position += len(data)
        if len(self._buffer) + len(data) < BUFFER_SIZE:
            self._buffer += data
            return
        self.flush()
        self._put(data)

    def write_zeros(self, length: int) -> None:
        """Take that many zeros."""
        with memoryview(_ZEROS) as zeros:
            while length > 0:
                self.write(zeros[: min(length, BUFFER_SIZE)])
                length -= BUFFER_SIZE

    def flush(self) -> None:
        """Have the host take all that waits; raises :exc:`ExportError`."""
        self._put(self._buffer)
        self._buffer.clear()

    def finish(self) -> None:
        """Have the host take the rest."""
        self.flush()

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        with memoryview(data) as view:
            done = 0
            try:
                while done < len(view):
                    done += os.write(self._descriptor, view[done:])
            except OSError as failure:
                raise write_error(self._path, failure) from failure


class FileOutput(StreamOutput):
    """A file, written as ``name.part`` and renamed when it is whole."""

    def __init__(self, folder: int, path: bytes, *, replace: bool) -> None:
        """A file of the folder that descriptor ``folder`` is of, and ``path`` ends in.

        Without ``replace`` nothing may have that name. Raises :exc:`ExportError`.
        """
        self._folder = folder
        self._name = os.path.basename(path)  # noqa: PTH119 - bytes
        self._replace = replace
        self._path = path
        self._check_name()
        super().__init__(_open_part(folder, self._name + PART, path), path)

    def finish(self) -> None:
        """Give it its own name, once the host's disk has it; raises :exc:`ExportError`."""
        self.flush()
        try:
            os.fsync(self._descriptor)
            self._check_name()
            os.rename(
                self._name + PART, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder
            )
        except OSError as failure:
            raise write_error(self._path, failure) from failure
        super().close()

    def close(self) -> None:
        """Remove what was not finished."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.unlink(self._name + PART, dir_fd=self._folder)
        super().close()

    def _check_name(self) -> None:
        try:
            found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as failure:
            raise write_error(self._path, failure) from failure
        if not (self._replace and stat.S_ISREG(found.st_mode)):
            raise ExportError("export.exists", path=host_path(self._path))


def lock(descriptor: int, path: bytes) -> None:
    """Have a file for this process alone, until it is closed; raises :exc:`ExportError`."""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ExportError("export.exists", path=host_path(path))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ExportError("export.busy", path=host_path(path)) from None
    except OSError as failure:
        raise write_error(path, failure) from failure


def _open_part(folder: int, name: bytes, path: bytes) -> int:
    """An empty file that no other writer has: what a killed one left is begun anew."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with ExitStack() as opened:
        try:
            descriptor = os.open(name, flags, 0o666, dir_fd=folder)
            opened.callback(os.close, descriptor)
            lock(descriptor, path)
            os.ftruncate(descriptor, 0)
        except OSError as failure:
            raise write_error(path, failure) from failure
        opened.pop_all()
    return descriptor
