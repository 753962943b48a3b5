# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the QCOW formats have in common: clusters of a disk, found by tables of two levels.

The first level (L1) has an entry for each table of the second (L2), these one for each cluster.
An L1 table may have 32 MiB, an L2 table two: both are read in slices, as they are needed.
"""

from __future__ import annotations

import sys
import zlib
from abc import abstractmethod
from array import array
from enum import Enum
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import ExplorerError
from explorer.core.names import show_name
from explorer.images.base import Image, Piece, clip_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from explorer.images.ciphers import Decrypt
    from explorer.images.files import SourceFile
    from explorer.images.opening import Opening

MAGIC = b"QFI\xfb"

SLICE = 64 * 1024
"""Bytes of a table that are read at once."""

NEVER = 1 << 64
"""How much greater no entry is: of a compressed cluster, none continues another."""

_SECTOR = 512
# Decrypted at once: what the processor's cache holds, a few times over.
_DECRYPTED = 64 * 1024
_LONGEST_NAME = 1023


class Source(Enum):
    """Where a run of bytes comes from."""

    PARENT = "parent"
    ZEROS = "zeros"
    STORED = "stored"
    COMPRESSED = "compressed"


class Run(NamedTuple):
    """The next bytes of a disk, from one source."""

    source: Source
    length: int
    """Bytes; of compressed ones within a single cluster."""
    place: int
    """Of stored ones: where they begin in the file. Of compressed ones: what the entry tells."""


class Crypt(NamedTuple):
    """How stored clusters are encrypted."""

    title: str
    """For people."""
    unlock: Callable[[], Decrypt]
    """Asks for a passphrase; raises :exc:`Encrypted` when it is wrong or not given."""
    by_place: bool
    """Whether sectors are numbered by their place in the file, not on the disk."""


class Layout(NamedTuple):
    """What the tables of an image are like."""

    size: int
    """Bytes of the disk."""
    cluster: int
    """Bytes of a cluster."""
    entry: int
    """Bytes of an entry of an L2 table: 8 or 16."""
    table: int
    """Bytes of an L2 table."""
    l1_position: int
    l1_count: int
    """Entries of the L1 table; what has none is the parent's."""


class QcowImage(Image):
    """A disk whose clusters are stored, compressed, zeros, or its parent's."""

    def __init__(
        self,
        opening: Opening,
        layout: Layout,
        *,
        data: SourceFile,
        parent: Image | None = None,
        crypt: Crypt | None = None,
    ) -> None:
        """``data`` is the file with the stored clusters."""
        super().__init__()
        self._opening = opening
        self._layout = layout
        self._data = data
        self._parent = parent
        self._crypt = crypt
        self._lock = Lock()
        self._decrypt: Decrypt | None = None
        self._refusal: ExplorerError | None = None

    @property
    def path(self) -> str:
        """The file's path, safe to show."""
        return self._opening.path

    @property
    def size(self) -> int:
        """Bytes of the disk, as the header tells."""
        return self._layout.size

    @property
    def parent(self) -> Image | None:
        """The backing image."""
        return self._parent

    # ---- What the formats differ in

    @abstractmethod
    def _l2_position(self, entry: int, index: int, /) -> int:
        """Where the L2 table is that an entry of the L1 table names; 0 for none.

        ``index`` is the entry's number. Raises :exc:`CorruptImage`.
        """

    @abstractmethod
    def _read_entry(self, entry: int, position: int, offset: int, /) -> tuple[Source, int, int]:
        """What an entry of an L2 table tells of its cluster; raises :exc:`CorruptImage`.

        Source and place, as of a :class:`Run`, and how much greater the entry is that continues
        it. ``position`` is the entry's in the file, ``offset`` the cluster's on the disk.
        """

    @abstractmethod
    def _decompress(self, place: int) -> bytes:
        """The cluster that a run's place tells of; raises :exc:`CorruptImage`."""

    # ---- From the tables to pieces

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Where the bytes of a range come from."""
        for source, count, place in _merge(self._runs(offset, offset + length)):
            if source is Source.PARENT:
                yield from clip_parent(self._parent, offset, count)
            elif source is Source.ZEROS:
                yield Piece(count)
            elif source is Source.STORED and self._crypt is None:
                yield Piece(count, self._data, place)
            else:
                yield Piece(count, self, offset)
            offset += count

    def decode_into(self, position: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with what is compressed or encrypted at a position of the disk."""
        done = 0
        for source, length, place in self._runs(position, position + len(buffer)):
            part = buffer[done : done + length]
            if source is Source.COMPRESSED:
                skipped = (position + done) % self._layout.cluster
                part[:] = self._read_cluster(place)[skipped : skipped + length]
            elif self._crypt is not None:
                self._decrypt_into(self._crypt, position + done, place, part)
            done += length

    def _runs(self, offset: int, end: int) -> Iterator[Run]:
        layout = self._layout
        span = layout.table // layout.entry * layout.cluster
        for first, count, table in self._read_l1(offset // span, -(-end // span)):
            stop = min(end, (first + count) * span)
            if table:
                yield from self._read_l2(table, offset, stop)
            else:
                yield Run(Source.PARENT, stop - offset, 0)
            offset = stop

    def _read_l1(self, index: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Number of the first L2 table, how many, and the first one's position; 0: these have none.

        For all tables from ``index`` to before ``end``.
        """
        present = min(end, self._layout.l1_count)
        per_slice = SLICE // 8
        while index < present:
            number, skipped = divmod(index, per_slice)
            start = number * SLICE
            entries = self._read_table(
                self._layout.l1_position + start,
                min(SLICE, self._layout.l1_count * 8 - start),
                "L1 table",
            )[skipped : skipped + present - index]
            if not any(entries):
                yield index, len(entries), 0
            else:
                for at, entry in enumerate(entries, index):
                    yield at, 1, self._l2_position(entry, at)
            index += len(entries)
        if index < end:
            yield index, end - index, 0

    def _read_l2(self, table: int, offset: int, end: int) -> Iterator[Run]:
        """The runs of a range that one L2 table tells of."""
        layout = self._layout
        length = min(SLICE, layout.table)
        span = length // layout.entry * layout.cluster
        slices = layout.table // length
        while offset < end:
            number, skipped = divmod(offset, span)
            start = table + number % slices * length
            stop = min(end, offset - skipped + span)
            first, skipped = divmod(skipped, layout.cluster)
            words = layout.entry // 8
            count = -(-(skipped + stop - offset) // layout.cluster)
            entries = self._read_table(start, length, "L2 table")
            for source, run, place in self._scan(
                entries[first * words : (first + count) * words],
                start + first * layout.entry,
                offset - skipped,
            ):
                # The first cluster may begin before the range, the last one end behind it.
                if run <= skipped:
                    skipped -= run
                    continue
                kept = min(run - skipped, stop - offset)
                if source is Source.STORED:
                    place += skipped
                    if place + kept > self._data.size:
                        entry = start + offset % span // layout.cluster * layout.entry
                        yield from self._cut_off(place, entry)
                yield Run(source, kept, place)
                skipped = 0
                offset += kept
                if offset == stop:
                    break

    def _scan(self, entries: memoryview, position: int, offset: int) -> Iterator[Run]:
        """The runs of whole clusters that a part of an L2 table tells of.

        ``position`` is the part's in the file, ``offset`` that of its first cluster on the disk.
        """
        cluster = self._layout.cluster
        source, length, place = Source.ZEROS, 0, 0
        expected = step = 0
        for index, entry in enumerate(entries):
            if entry == expected and length:
                length += cluster
                expected += step
                continue
            if length:
                yield Run(source, length, place)
            source, place, step = self._read_entry(
                entry, position + 8 * index, offset + cluster * index
            )
            length = cluster
            expected = entry + step
        if length:
            yield Run(source, length, place)

    def _cut_off(self, place: int, entry: int) -> Iterator[Run]:
        """What is there of a run that the file ends before; then raises :exc:`CorruptImage`.

        ``entry`` is where the entry of its first cluster is.
        """
        present = max(0, self._data.size - place)
        if present:
            yield Run(Source.STORED, present, place)
        raise self._opening.corrupt(
            "L2 table",
            entry + present // self._layout.cluster * self._layout.entry,
            f"a cluster at {place + present} is beyond the end of {self._data.path} "
            f"({self._data.size} bytes)",
        )

    def _read_table(self, position: int, length: int, structure: str) -> memoryview:
        """Numbers of 8 bytes, kept in the processor's order."""

        def read() -> bytes:
            numbers = array("Q", self._opening.read_exactly(position, length, structure))
            if sys.byteorder == "little":
                numbers.byteswap()
            return numbers.tobytes()

        return memoryview(self._opening.cache.get((self, position, length), read)).cast("Q")

    # ---- Decoding

    def _read_cluster(self, place: int) -> bytes:
        return self._opening.cache.get(
            (self, Source.COMPRESSED, place), lambda: self._decompress(place)
        )

    def _inflate(self, structure: str, position: int, stored: bytes) -> bytes:
        """A whole cluster of raw deflate with a window of 4 KiB, which may not end there."""
        size = self._layout.cluster
        try:
            cluster = zlib.decompressobj(-12).decompress(stored, size)
        except zlib.error as failure:
            raise self._opening.corrupt(structure, position, str(failure)) from None
        if len(cluster) != size:
            raise self._opening.corrupt(structure, position, "it ends too early")
        return cluster

    def _decrypt_into(self, crypt: Crypt, offset: int, place: int, buffer: memoryview) -> None:
        decrypt = self._unlocked(crypt)
        done = 0
        while done < len(buffer):
            skipped = offset % _SECTOR
            count = min(len(buffer) - done, _DECRYPTED - skipped)
            length = -(-(skipped + count) // _SECTOR) * _SECTOR
            start = place - skipped
            stored = self._data.read(start, length)
            if len(stored) < length:
                raise self._opening.corrupt("cluster", start, "its last sector is cut off")
            sector = (start if crypt.by_place else offset - skipped) // _SECTOR
            buffer[done : done + count] = decrypt(sector, stored)[skipped : skipped + count]
            done += count
            offset += count
            place += count

    def _unlocked(self, crypt: Crypt) -> Decrypt:
        # Asked once: a kernel that reads on must not ask again for each of its reads.
        with self._lock:
            if self._refusal is not None:
                raise self._refusal.with_traceback(None)
            if self._decrypt is None:
                try:
                    self._decrypt = crypt.unlock()
                except ExplorerError as error:
                    self._refusal = error
                    raise
            return self._decrypt


def _merge(runs: Iterable[Run]) -> Iterator[Run]:
    """Fewer runs: those that continue one another are one.

    What comes before a wrong table is told before it raises.
    """
    source, length, place = Source.ZEROS, 0, 0
    try:
        for run in runs:
            if run.source is source and (
                source is not Source.STORED or place + length == run.place
            ):
                length += run.length
            else:
                if length:
                    yield Run(source, length, place)
                source, length, place = run
    except ExplorerError:
        if length:
            yield Run(source, length, place)
        raise
    if length:
        yield Run(source, length, place)


def open_backing(
    opening: Opening, position: int, length: int, format_name: str | None
) -> tuple[bytes, Image]:
    """The backing image's name, which is at a position of the file, and the image.

    Raises as :meth:`Opening.open_other`, :exc:`CorruptImage` for a name that is too long, and
    :exc:`UnsupportedFeature` for one that leads to a server.
    """
    if length > _LONGEST_NAME:
        raise opening.corrupt("header", 16, f"a backing image's name of {length} bytes")
    name = opening.read_exactly(position, length, "backing image's name")
    # As QEMU takes it: "protocol:rest", where the protocol has no slash, is no path.
    protocol, colon, rest = name.partition(b":")
    if protocol == b"file":
        path = rest
    elif colon and b"/" not in protocol:
        raise opening.unsupported(f"a backing image by {show_name(protocol)}:")
    else:
        path = name
    return name, opening.open_other([path], "backing image", format_name)


def unlock_aes(opening: Opening) -> Decrypt:
    """What decrypts clusters of the oldest method: AES-128 whose key is the passphrase.

    Nothing in the image tells whether that is the right one.
    """
    from explorer.images.ciphers import decrypt_aes_cbc

    return decrypt_aes_cbc(opening.ask_passphrase(opening.path)[:16].ljust(16, b"\0"))
