# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The raw format: a file or a disk of the host whose bytes are the disk's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.images.base import Image, file_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.images.base import Piece
    from explorer.images.files import SourceFile
    from explorer.images.opening import Opening


class RawImage(Image):
    """A file, byte for byte."""

    format = "raw"

    def __init__(self, file: SourceFile) -> None:
        """Of ``file``, which whoever opened it closes."""
        super().__init__()
        self._file = file

    @property
    def path(self) -> str:
        """The file's path, safe to show."""
        return self._file.path

    @property
    def size(self) -> int:
        """Bytes of the file or device."""
        return self._file.size

    @property
    def block_size(self) -> int:
        """Logical block of a device; 512 for a file, which does not know."""
        return self._file.block_size

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The file, but for its holes."""
        return file_pieces(self._file, offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``, in one read whatever holes there are."""
        self.check_range(offset, len(buffer))
        self._file.read_into(offset, buffer)

    def whole_file(self) -> SourceFile | None:
        """The file."""
        return self._file

    def plain_file(self) -> int | None:
        """The file's descriptor, when the host has one."""
        return self._file.descriptor()


def open_raw(opening: Opening) -> Image:
    """Take a file as it is."""
    return RawImage(opening.file)
