# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What every image format offers."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.closing import Closing
from explorer.core.errors import ExplorerError
from explorer.core.extents import Extent, ExtentKind
from explorer.images.files import SourceFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from explorer.images.files import Origin

Fact = str | int | bool | list[str]
"""Something that a format tells about an image, as ``info`` shows it."""


class Piece(NamedTuple):
    """Where the next bytes of an image come from."""

    length: int
    """Bytes; never 0."""
    place: SourceFile | Image | None = None
    """A file that holds them as they are, an image that decodes them, or None: they are zeros."""
    position: int = 0
    """Bytes from the start of ``place``."""


class Image(Closing):
    """An opened source: the bytes of a disk, to be read by position, from any thread.

    A format says where bytes come from (:meth:`pieces`), and how to decode those that are not
    stored as they are (:meth:`decode_into`). There is no way to write.
    """

    format: str
    """Name of the format, as in ``raw``."""
    origin: Origin | None = None
    """What the source was opened from; None of an image that another one names."""

    def __init__(self) -> None:
        self._owned = ExitStack()

    @property
    @abstractmethod
    def path(self) -> str:
        """The source as the user named it, safe to show."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes of the disk."""

    @property
    def block_size(self) -> int:
        """Bytes of a logical block, where the source knows; 512 otherwise."""
        return 512

    @abstractmethod
    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Where the bytes of a range inside the disk come from, in order, covering it exactly.

        Raises :exc:`ImageError` where the image's own tables are wrong.
        """

    def decode_into(self, position: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with bytes that this image must decode.

        ``position`` is that of a :class:`Piece` that names this image, or within it. Raises
        :exc:`ImageError` when the stored bytes are wrong.
        """
        raise NotImplementedError

    def facts(self) -> dict[str, Fact]:
        """What the format tells of this image, in the order to show it; keys are short words."""
        return {}

    def stored_hashes(self) -> dict[str, bytes]:
        """Digests of the whole disk that the format keeps, by :mod:`hashlib`'s names."""
        return {}

    @property
    def parent(self) -> Image | None:
        """The image that holds what this one does not, if there is one."""
        return None

    def whole_file(self) -> SourceFile | None:
        """The file, or joined files, whose bytes are the disk's, one for one; None: there is none.

        It stays this object's: open until :meth:`close`.
        """
        return None

    def plain_file(self) -> int | None:
        """A descriptor whose bytes are the disk's, one for one, or None.

        The kernel reads such a disk without coming back to Python. It stays this object's: open
        until :meth:`close`.
        """
        return None

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of ``buffer`` from ``offset``; the range must lie inside the disk.

        Raises :exc:`ValueError` for a range outside, :exc:`ImageError` or :exc:`SourceError` when
        the bytes cannot be had.
        """
        self.check_range(offset, len(buffer))
        if not buffer:
            return
        done = 0
        for piece in self.pieces(offset, len(buffer)):
            part = buffer[done : done + piece.length]
            if piece.place is None:
                part[:] = bytes(piece.length)
            elif isinstance(piece.place, SourceFile):
                piece.place.read_into(piece.position, part)
            else:
                piece.place.decode_into(piece.position, part)
            done += piece.length

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """How a range is had: extents in order, without gaps, that cover it exactly.

        Raises as :meth:`pieces`, after the extents of what comes before.
        """
        self.check_range(offset, length)
        if not length:
            return
        held, kind, descriptor, position = 0, ExtentKind.ZERO, -1, 0
        try:
            for count, next_kind, next_descriptor, next_position in _located(
                self.pieces(offset, length)
            ):
                if (
                    next_kind is kind
                    and next_descriptor == descriptor
                    and (kind is not ExtentKind.DATA or next_position == position + held)
                ):
                    held += count
                    continue
                if held:
                    yield Extent(offset, held, kind, descriptor, position)
                offset += held
                held, kind = count, next_kind
                descriptor, position = next_descriptor, next_position
        except ExplorerError:
            if held:
                yield Extent(offset, held, kind, descriptor, position)
            raise
        yield Extent(offset, held, kind, descriptor, position)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``, fewer than ``length`` only at the end of the disk."""
        buffer = bytearray(max(0, min(length, self.size - offset)))
        if buffer:
            self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def check_range(self, offset: int, length: int) -> None:
        """Raise :exc:`ValueError` when a range does not lie inside the disk."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset} are not in a disk of {self.size}")

    def own(self, stack: ExitStack) -> None:
        """Close what is in ``stack`` together with this image."""
        self._owned.enter_context(stack)

    def close(self) -> None:
        """Close the source; a second call does nothing."""
        self._owned.close()


def _located(pieces: Iterable[Piece]) -> Iterator[tuple[int, ExtentKind, int, int]]:
    """Length, kind, descriptor and position of each piece, or of several that its file is made of.

    Disks in small clusters have millions: what is known of a place is not asked again for the next.
    """
    known: SourceFile | Image | None = None
    kind, descriptor = ExtentKind.ZERO, -1
    for length, place, position in pieces:
        if place is not known:
            known = place
            kind, descriptor = _describe(place)
        if kind is ExtentKind.ENCODED and isinstance(place, SourceFile):
            for file, start, count in place.locate(position, length):
                yield count, *_describe(file), start
        else:
            yield length, kind, descriptor, position if kind is ExtentKind.DATA else 0


def _describe(place: SourceFile | Image | None) -> tuple[ExtentKind, int]:
    """The kind of extents in a place, and the descriptor of ``DATA``."""
    if place is None:
        return ExtentKind.ZERO, -1
    descriptor = place.descriptor() if isinstance(place, SourceFile) else None
    if descriptor is None:
        return ExtentKind.ENCODED, -1
    return ExtentKind.DATA, descriptor


def file_pieces(file: SourceFile, position: int, length: int) -> Iterator[Piece]:
    """The pieces of a range that a file holds as it is: the file, and zeros for its holes."""
    end = position + length
    for start, count in file.data_ranges(position, length):
        if start > position:
            yield Piece(start - position)
        yield Piece(count, file, start)
        position = start + count
    if position < end:
        yield Piece(end - position)


def clip_parent(parent: Image | None, offset: int, length: int) -> Iterator[Piece]:
    """The pieces of a range that an image leaves to its parent: zeros beyond its end, or without.

    A parent may be shorter than the image that names it, as after ``qemu-img resize``.
    """
    present = 0 if parent is None else max(0, min(length, parent.size - offset))
    if parent is not None and present:
        yield from parent.pieces(offset, present)
    if present < length:
        yield Piece(length - present)
