# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Files in memory, for images that live only as long as one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.core.errors import MissingPart, SourceError
from explorer.core.names import show_name
from explorer.images.files import Folder, SourceFile, check_file_range

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping


class MemoryFile(SourceFile):
    """Bytes as a file."""

    def __init__(self, name: bytes, content: bytes | bytearray) -> None:
        """Raises :exc:`SourceError` for an empty one, as files of the host do."""
        self._name = name
        self._content = content
        if not content:
            raise SourceError("source.empty", path=self.path)

    @property
    def path(self) -> str:
        """The name, safe to show."""
        return show_name(self._name)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._content)

    @property
    def identity(self) -> Hashable:
        """The name: there is one folder."""
        return self._name

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``."""
        check_file_range(self, offset, len(buffer))
        buffer[:] = self._content[offset : offset + len(buffer)]

    def close(self) -> None:
        """Nothing."""


class MemoryFolder(Folder):
    """A folder of such files."""

    def __init__(self, files: Mapping[bytes, bytes | bytearray]) -> None:
        """``files`` are contents by name."""
        self._files = files

    def open(self, name: bytes, role: str, owner: str) -> tuple[SourceFile, Folder]:
        """Open a file by its name, whatever folder stands before it."""
        content = self._files.get(name.rpartition(b"/")[2])
        if content is None:
            raise MissingPart("image.missing-part", path=owner, role=role, name=show_name(name))
        return MemoryFile(name, content), self

    def names(self) -> list[bytes]:
        """All names."""
        return list(self._files)
