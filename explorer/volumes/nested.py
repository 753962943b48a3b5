# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of a mounted volume as sources of images: an image within an image."""

from __future__ import annotations

import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING

from explorer.core.errors import KernelError, MissingPart, SourceError
from explorer.core.names import show_name
from explorer.images.files import Folder, SourceFile

if TYPE_CHECKING:
    from collections.abc import Hashable

    from explorer.kernel import Mount


class NestedFile(SourceFile):
    """A regular file of a mounted volume."""

    def __init__(self, mount: Mount, path: bytes, shown: str) -> None:
        """Open it through links; ``shown`` is how messages name the volume."""
        self._shown = f"{shown}: {show_name(path)}"
        try:
            self._file = mount.open_file(path)
        except KernelError as error:
            if error.code == "kernel.ended":
                raise
            code = "source.missing" if error.name == "ENOENT" else "source.unreadable"
            raise SourceError(code, path=self._shown, reason=error.reason) from error
        entry = mount.stat(path, follow=True)
        self._size = entry.size
        self._identity = entry.device_major, entry.device_minor, entry.inode
        if not self._size:
            self._file.close()
            raise SourceError("source.empty", path=self._shown)

    @property
    def path(self) -> str:
        """Volume and path, safe to show."""
        return self._shown

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    @property
    def identity(self) -> Hashable:
        """Device and inode in its kernel."""
        return self._identity

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``."""
        try:
            count = self._file.read_into(offset, buffer)
        except KernelError as error:
            raise SourceError("source.unreadable", path=self._shown, reason=error.reason) from error
        if count != len(buffer):
            raise SourceError("source.changed", path=self._shown)

    def close(self) -> None:
        """Close it."""
        self._file.close()


class NestedFolder(Folder):
    """A folder of a mounted volume; all of the volume may be named, and nothing of the host."""

    def __init__(self, mount: Mount, path: bytes, shown: str) -> None:
        """``path`` is the folder's, ``shown`` how messages name the volume."""
        self._mount = mount
        self._path = path
        self._shown = shown

    def open(self, name: bytes, role: str, owner: str) -> tuple[SourceFile, Folder]:
        """Open a file by its relative or absolute name."""
        path = posixpath.join(self._path, name)
        missing = MissingPart("image.missing-part", path=owner, role=role, name=show_name(name))
        if b"\0" in name:
            raise missing
        try:
            file = NestedFile(self._mount, path, self._shown)
        except SourceError as error:
            if error.code == "source.missing":
                raise missing from None
            raise
        return file, NestedFolder(self._mount, posixpath.dirname(path), self._shown)

    def names(self) -> list[bytes]:
        """All names in it."""
        with suppress(KernelError), self._mount.open_directory(self._path) as folder:
            return [entry.name for entry in folder]
        return []
