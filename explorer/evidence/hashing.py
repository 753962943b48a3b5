# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Digests of a source: of the files it is stored in, of the disk in it, of a volume.

What was hashed is always told with the digest: an E01's file has one, the disk that was acquired
another.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, NamedTuple

from explorer.core.errors import ExplorerError, SourceError
from explorer.evidence.walking import go_on
from explorer.images.concat import JoinedFile
from explorer.images.files import FileRange
from explorer.native.digests import Digests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from explorer.core.volume import Volume
    from explorer.images.base import Image
    from explorer.images.files import SourceFile, Stored
    from explorer.volumes.stack import Stack

    ReadInto = Callable[[int, memoryview], None]
    TellProgress = Callable[[int, int], None]
    """Given how many bytes are hashed, and of how many; what it raises ends the work."""

Kind = Literal["file", "parts", "disk", "volume"]

PIECE = 4 << 20
"""Bytes read at once, at multiples of it."""
AHEAD = 3
"""Pieces in memory: one is hashed while the next are read."""


class Hashed(NamedTuple):
    """What was hashed, and what came out."""

    kind: Kind
    """A file as it is stored, all parts of an image one after the other, the disk that the image
    presents, or a volume."""
    name: str
    """The file's, image's or volume's; safe to show."""
    size: int
    """Bytes that were hashed."""
    format: str
    """Of a disk: the image format."""
    digests: dict[str, bytes]
    """By algorithm."""
    same: bool = False
    """Of a disk: its bytes are the file's, or parts', one for one, and were not read again."""
    error: ExplorerError | None = None
    """Why there are no digests."""

    @property
    def title(self) -> str:
        """What it is, for people."""
        return {
            "file": f"{self.name}, as stored",
            "parts": f"{self.name} and its other parts, one after the other, as stored",
            "disk": f"the disk in {self.name}, read as {self.format}",
            "volume": f"volume {self.name}",
        }[self.kind]


def quiet(_done: int, _total: int) -> None:
    """Progress that nobody wants to know."""


def read_ahead(read_into: ReadInto, size: int) -> Iterator[memoryview]:
    """All bytes of something, piece by piece; the next are being read meanwhile.

    A piece is good until the next is asked for. Raises what ``read_into`` raises.
    """
    buffers = [memoryview(bytearray(min(PIECE, size))) for _ in range(AHEAD)]

    def fill(offset: int) -> memoryview:
        piece = buffers[offset // PIECE % AHEAD][: size - offset]
        read_into(offset, piece)
        return piece

    reading: deque[Future[memoryview]] = deque()
    pool = ThreadPoolExecutor(1, "read ahead")
    try:
        for offset in range(0, size, PIECE):
            # The piece that is given out has the one buffer more.
            if len(reading) == AHEAD - 1:
                yield reading.popleft().result()
            reading.append(pool.submit(fill, offset))
        while reading:
            yield reading.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def stored_files(image: Image) -> list[Stored]:
    """The files that a source is stored in, each once, as they were opened.

    What joins parts comes after these. Files within a file of an appliance are not listed.
    """
    found: list[Stored] = []
    met = set()
    for stored in image.origin.files if image.origin is not None else ():
        file = stored.file
        if file.identity is not None and file.identity in met:
            continue
        met.add(file.identity)
        if isinstance(file, JoinedFile):
            known = all(any(part is one.file for one in found) for part in file.files)
        else:
            known = not isinstance(file, FileRange)
        if known:
            found.append(stored)
    return found


def source_hash(
    image: Image,
    algorithms: Sequence[str],
    *,
    stored: bool = True,
    disk: bool = True,
    progress: TellProgress = quiet,
) -> list[Hashed]:
    """Digests of all that an image is stored in, and of the disk that it presents.

    What is stored is read once, though it counts for a part and for all parts; a disk whose bytes
    are those of a file is not read again. What cannot be read has its error in the result.
    """
    files = [one.file for one in stored_files(image)] if stored else []
    whole = image.whole_file()
    same = next((file for file in files if file is whole), None)
    total = sum(file.size for file in files if not isinstance(file, JoinedFile))
    if disk and same is None:
        total += image.size
    work = _Work(tuple(algorithms), total, progress)
    results = work.hash_files(files)
    if disk:
        if same is None:
            result = work.hash("disk", image.path, image.size, image.read_into)
        else:
            result = results[files.index(same)]._replace(kind="disk", name=image.path, same=True)
        results.append(result._replace(format=image.format))
    return results


def volume_hash(
    stack: Stack, volume: Volume, algorithms: Sequence[str], progress: TellProgress = quiet
) -> Hashed:
    """Digests of the bytes that a volume presents, as the kernel or the image has them."""
    window = stack.window(volume)
    name = stack.name(volume)

    def read_into(offset: int, buffer: memoryview) -> None:
        found = window.read(offset, len(buffer))
        if len(found) != len(buffer):
            raise SourceError("source.changed", path=name)
        buffer[:] = found

    work = _Work(tuple(algorithms), window.size, progress)
    return work.hash("volume", name, window.size, read_into)


class _Work:
    """Hashes one thing after the other, and tells how far it is."""

    def __init__(self, algorithms: tuple[str, ...], total: int, progress: TellProgress) -> None:
        self._algorithms = algorithms
        self._total = total
        self._done = 0
        self._progress = progress

    def hash(
        self, kind: Kind, name: str, size: int, read_into: ReadInto, *others: Digests
    ) -> Hashed:
        """Digests of one thing; its bytes are given to others, too."""
        with Digests(self._algorithms) as digests:
            try:
                for piece in read_ahead(read_into, size):
                    for each in (digests, *others):
                        each.update(piece)
                    self._done += len(piece)
                    self._progress(self._done, self._total)
            except ExplorerError as error:
                return Hashed(kind, name, size, "", {}, error=go_on(error))
            return Hashed(kind, name, size, "", digests.read())

    def hash_files(self, files: Sequence[SourceFile]) -> list[Hashed]:
        """Digests of files, and of those that join others before them."""
        joined = [file for file in files if isinstance(file, JoinedFile)]
        results: list[Hashed] = []
        with ExitStack() as stack:
            digests = [stack.enter_context(Digests(self._algorithms)) for _ in joined]
            for file in files:
                if isinstance(file, JoinedFile):
                    parts = [
                        result
                        for result, each in zip(results, files, strict=False)
                        if any(each is part for part in file.files)
                    ]
                    error = next((part.error for part in parts if part.error), None)
                    found = {} if error else digests[joined.index(file)].read()
                    results.append(Hashed("parts", file.path, file.size, "", found, error=error))
                    continue
                takers = [
                    taker
                    for taker, one in zip(digests, joined, strict=True)
                    if any(file is part for part in one.files)
                ]
                results.append(self.hash("file", file.path, file.size, file.read_into, *takers))
        return results
