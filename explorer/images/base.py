# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What every image format offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from explorer.core.extents import Extent


class Image(ABC):
    """An opened source: the bytes of a disk, to be read by position, from any thread."""

    format: ClassVar[str]
    """Name of the format, as in ``raw``."""

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
    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of ``buffer`` from ``offset``; the range must lie inside the disk.

        Raises :exc:`ValueError` for a range outside, :exc:`ImageError` or :exc:`SourceError` when
        the bytes cannot be had.
        """

    @abstractmethod
    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """What the range holds: extents in order, without gaps, that cover it exactly."""

    def plain_file(self) -> int | None:
        """A descriptor whose bytes are the disk's, one for one, or None.

        The kernel reads such a disk without coming back to Python. It stays this object's: open
        until :meth:`close`.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Close the source; a second call does nothing."""

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
