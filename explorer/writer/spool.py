# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The content of one file, kept until it is known how it is to be written.

An archive tells of a file's holes before its content, but they are known only when all of it came.
"""

from __future__ import annotations

import os
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from explorer.core.closing import Closing
from explorer.core.errors import ExplorerError
from explorer.writer.output import write_error

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_MOST = 4 << 20
"""Bytes that are kept without a file."""
PIECES_MOST = 1 << 20
"""Between holes; more are not kept."""
BLOCK = 512
READ_SIZE = 1 << 20


class Spool(Closing):
    """Pieces of a file between its holes, in memory and then in a file without a name."""

    def __init__(self, folder: bytes | None) -> None:
        """``folder`` is where the file lies; None: where the host keeps such files."""
        self._path = folder or b"-"
        try:
            self._file = TemporaryFile(dir=folder)  # noqa: SIM115 - closed with this
        except OSError as failure:
            raise write_error(self._path, failure) from failure
        self._memory = bytearray()
        self._stored = 0
        """Bytes in the file."""
        self.size = 0
        """Bytes that came, holes among them."""
        self.pieces: list[tuple[int, int]] = []
        """Offset and length of what is no hole, in order."""

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes; raises :exc:`ExplorerError` when there is no room."""
        if self.pieces and sum(self.pieces[-1]) == self.size:
            offset, length = self.pieces[-1]
            self.pieces[-1] = (offset, length + len(data))
        elif len(self.pieces) < PIECES_MOST:
            self.pieces.append((self.size, len(data)))
        else:
            raise ExplorerError("copy.pieces")
        self.size += len(data)
        self._memory += data
        if len(self._memory) >= MEMORY_MOST:
            self._store()

    def skip(self, length: int) -> None:
        """Take a hole; zeros are made of what of it is no whole block.

        GNU tar reads each piece as blocks, so that it must begin and end with one.
        """
        if partial := min(length, -self.size % BLOCK):
            self.write(bytes(partial))
        rest = length - partial
        self.size += rest - rest % BLOCK
        if rest % BLOCK:
            self.write(bytes(rest % BLOCK))

    def read(self) -> Iterator[bytes | bytearray]:
        """All bytes between holes, in pieces; the spool is empty afterwards."""
        try:
            at = 0
            while at < self._stored:
                data = os.pread(self._file.fileno(), READ_SIZE, at)
                at += len(data)
                yield data
            yield self._memory
        except OSError as failure:
            raise write_error(self._path, failure) from failure
        self.clear()

    def clear(self) -> None:
        """Forget all of it."""
        if self._stored:
            os.ftruncate(self._file.fileno(), 0)
        self._stored = self.size = 0
        self._memory = bytearray()
        self.pieces = []

    def close(self) -> None:
        """Free it."""
        self._file.close()

    def _store(self) -> None:
        done = 0
        try:
            with memoryview(self._memory) as view:
                while done < len(view):
                    done += os.pwrite(self._file.fileno(), view[done:], self._stored + done)
        except OSError as failure:
            raise write_error(self._path, failure) from failure
        self._stored += done
        self._memory.clear()
