# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images whose content is the file of another image: ``disk.qcow2.xz``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.images.base import Fact, Image, Piece
from explorer.images.files import SourceFile, check_file_range
from explorer.images.opening import CHAIN_LIMIT, Opening

if TYPE_CHECKING:
    from collections.abc import Iterator


class ImageFile(SourceFile):
    """The bytes of an image as a file."""

    def __init__(self, image: Image) -> None:
        """Of ``image``, which whoever opened it closes."""
        self._image = image

    @property
    def path(self) -> str:
        """The image's path, safe to show."""
        return self._image.path

    @property
    def size(self) -> int:
        """Bytes of the image."""
        return self._image.size

    @property
    def block_size(self) -> int:
        """The image's."""
        return self._image.block_size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``."""
        check_file_range(self, offset, len(buffer))
        self._image.read_into(offset, buffer)

    def descriptor(self) -> int | None:
        """The image's, when it is one of the host's files."""
        return self._image.plain_file()

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """What the image does not know to be zeros."""
        for piece in self._image.pieces(offset, length):
            if piece.place is not None:
                yield offset, piece.length
            offset += piece.length

    def locate(self, offset: int, length: int) -> Iterator[tuple[SourceFile, int, int]]:
        """The files that the image has its bytes from, as they are."""
        for piece in self._image.pieces(offset, length):
            if isinstance(piece.place, SourceFile):
                yield from piece.place.locate(piece.position, piece.length)
            else:
                yield self, offset, piece.length
            offset += piece.length

    def close(self) -> None:
        """Nothing: the image is closed by whoever opened it."""


class InnerImage(Image):
    """An image within another one, with what the outer one tells added to its facts."""

    def __init__(self, image: Image, outer: dict[str, Fact]) -> None:
        """``image`` is closed by whoever opened it."""
        super().__init__()
        self._image = image
        self._outer = outer
        self.format = image.format

    @property
    def path(self) -> str:
        """The source's path, safe to show."""
        return self._image.path

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self._image.size

    @property
    def block_size(self) -> int:
        """The inner image's."""
        return self._image.block_size

    @property
    def parent(self) -> Image | None:
        """The inner image's."""
        return self._image.parent

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The inner image's."""
        return self._image.pieces(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` in the inner image's own way."""
        self._image.read_into(offset, buffer)

    def stored_hashes(self) -> dict[str, bytes]:
        """The inner image's."""
        return self._image.stored_hashes()

    def facts(self) -> dict[str, Fact]:
        """First the outer image's."""
        return {**self._outer, **self._image.facts()}


def open_inner(opening: Opening, outer: Image) -> Image:
    """What is in an image that was opened: an image of another format, or itself a disk.

    What the inner image names is looked for beside the outer one. Raises as opening it does;
    :exc:`CorruptImage` when too many are within one another.
    """
    chain = (*opening.chain, opening.file.identity)
    if len(chain) >= CHAIN_LIMIT:
        raise opening.corrupt(outer.format, 0, f"more than {CHAIN_LIMIT} images in one another")
    inner = opening.open_image(
        Opening(
            file=ImageFile(outer),
            folder=opening.folder,
            choices=opening.choices,
            open_image=opening.open_image,
            cache=opening.cache,
            chain=chain,
            files=opening.files,
        )
    )
    opening.stack.callback(inner.close)
    if inner.format == "raw":
        return outer
    return InnerImage(inner, outer.facts())
