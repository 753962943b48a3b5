# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The content of one file, and nothing beside it: for a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.core.entries import FileType
from explorer.core.errors import ExplorerError
from explorer.core.names import show_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from explorer.core.entries import Entry
    from explorer.writer.output import Output


class PlainContent:
    """One file's bytes; an :class:`explorer.writer.archive.Archive` of one entry."""

    links = False
    special = False
    xattrs = False
    sized = False
    path_most = 1 << 62

    def __init__(self, output: Output) -> None:
        self._output = output
        self._begun = False

    def add(
        self,
        path: bytes,
        entry: Entry,  # noqa: ARG002 - nothing of it is written
        xattrs: Mapping[bytes, bytes],  # noqa: ARG002
        target: bytes = b"",  # noqa: ARG002
    ) -> None:
        """Refuse what has no content; raises :exc:`ExplorerError`."""
        raise ExplorerError("copy.not-a-file", path=show_name(path))

    def add_hard_link(self, path: bytes, entry: Entry, first: bytes) -> None:
        """Never called: it holds no links."""
        raise NotImplementedError

    def begin_file(
        self,
        path: bytes,
        entry: Entry,
        xattrs: Mapping[bytes, bytes],  # noqa: ARG002
        size: int,  # noqa: ARG002
        pieces: Sequence[tuple[int, int]] | None = None,  # noqa: ARG002
    ) -> None:
        """Begin the only file; raises :exc:`ExplorerError` for another."""
        if self._begun or entry.type != FileType.FILE:
            raise ExplorerError("copy.not-a-file", path=show_name(path))
        self._begun = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write the next bytes."""
        self._output.write(data)

    def write_zeros(self, length: int) -> None:
        """Write zeros."""
        self._output.write_zeros(length)

    def end_file(self) -> None:
        """Nothing follows a file."""

    def finish(self) -> None:
        """Nothing follows it."""
