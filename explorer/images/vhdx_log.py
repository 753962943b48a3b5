# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of a VHDX file, replayed in memory.

A file that was not closed in order has changes of its tables in a log only. They must be made
before anything else is read (MS-VHDX, section 2.3); here they are laid over the file.
"""

from __future__ import annotations

import heapq
import struct
from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from explorer.images.crc32c import crc32c
from explorer.images.files import SourceFile, check_file_range

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from explorer.images.opening import Opening

LOG = "VHDX log"

_SECTOR = 4096
_MIB = 1 << 20
_LARGEST_LOG = 16 * _MIB
"""Bytes that are taken into memory; Windows makes logs of 1 MiB."""
_LARGEST_FILE = 1 << 62

# Section 2.3.1.1: signature, checksum, length, tail, sequence number, descriptors, reserved, log's
# identifier, flushed file offset, last file offset.
_ENTRY = struct.Struct("<4sIIIQII16sQQ")
# Sections 2.3.1.2 and 2.3.1.3: signature, last bytes of the sector, first bytes of it (or length of
# zeros), file offset, sequence number.
_DESCRIPTOR = struct.Struct("<4s4s8sQQ")
# Section 2.3.1.4: signature, high half of the sequence number, data, low half.
_DATA = struct.Struct("<4sI4084sI")


class _Write(NamedTuple):
    """A change of the file."""

    start: int
    end: int
    data: bytes | None
    """One sector, or None: zeros."""


class _Entry(NamedTuple):
    """A valid entry of the log."""

    start: int
    """Bytes from the start of the log, as is ``tail``."""
    length: int
    tail: int
    """Where the sequence begins that ends with this entry."""
    sequence: int
    flushed_size: int
    """Bytes that the file had at least."""
    last_size: int
    """Bytes that the file has to have."""
    writes: list[_Write]


class Overlay(SourceFile):
    """A file with changes laid over it."""

    def __init__(self, file: SourceFile, size: int, writes: Sequence[_Write]) -> None:
        """Of ``file``, whose it stays; later writes go over earlier ones.

        It is as long as the longest of the file, ``size``, and the end of the last change.
        """
        self._file = file
        self._changes = _flatten(writes)
        self._starts = [change.start for change in self._changes]
        self._size = max(file.size, size, *(change.end for change in self._changes[-1:]))

    @property
    def path(self) -> str:
        """The file's."""
        return self._file.path

    @property
    def size(self) -> int:
        """Bytes after the changes."""
        return self._size

    @property
    def identity(self) -> Hashable:
        """The file's."""
        return self._file.identity

    def _parts(self, offset: int, length: int) -> Iterator[tuple[int, int, _Write | None]]:
        """A range as parts: offset, length, and the change that covers it, if any."""
        end = offset + length
        number = max(0, bisect_right(self._starts, offset) - 1)
        while offset < end:
            change = self._changes[number] if number < len(self._changes) else None
            if change is not None and change.end <= offset:
                number += 1
            elif change is not None and change.start <= offset:
                stop = min(end, change.end)
                yield offset, stop - offset, change
                offset = stop
            else:
                stop = end if change is None else min(end, change.start)
                yield offset, stop - offset, None
                offset = stop

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``."""
        check_file_range(self, offset, len(buffer))
        origin = offset
        for start, length, change in self._parts(offset, len(buffer)):
            part = buffer[start - origin : start - origin + length]
            if change is None:
                stored = max(0, min(length, self._file.size - start))
                if stored:
                    self._file.read_into(start, part[:stored])
                part[stored:] = bytes(length - stored)
            elif change.data is None:
                part[:] = bytes(length)
            else:
                part[:] = change.data[start - change.start :][:length]

    def locate(self, offset: int, length: int) -> Iterator[tuple[SourceFile, int, int]]:
        """The file where it is unchanged, this object elsewhere."""
        for start, count, change in self._parts(offset, length):
            stored = 0 if change is not None else max(0, min(count, self._file.size - start))
            if stored:
                yield from self._file.locate(start, stored)
            if stored < count:
                yield self, start + stored, count - stored

    def close(self) -> None:
        """Nothing: the file is closed by whoever opened it."""


def _flatten(writes: Sequence[_Write]) -> list[_Write]:
    """What is left of each write after those behind it, in the order of their places."""
    by_start = sorted(range(len(writes)), key=lambda number: writes[number].start)
    bounds = sorted({bound for write in writes for bound in (write.start, write.end)})
    flat: list[_Write] = []
    # Those that reach here, the newest first.
    open_writes: list[int] = []
    taken = 0
    for start, end in pairwise(bounds):
        while taken < len(by_start) and writes[by_start[taken]].start <= start:
            heapq.heappush(open_writes, -by_start[taken])
            taken += 1
        while open_writes and writes[-open_writes[0]].end <= start:
            heapq.heappop(open_writes)
        if open_writes:
            write = writes[-open_writes[0]]
            data = write.data
            if data is not None:
                data = data[start - write.start : end - write.start]
            flat.append(_Write(start, end, data))
    return flat


class _Log:
    """The log in memory: a ring of sectors."""

    def __init__(self, opening: Opening, position: int, raw: bytes, identifier: bytes) -> None:
        self._opening = opening
        self._position = position
        self._raw = raw
        self._identifier = identifier
        self._entries: dict[int, _Entry | None] = {}
        # Entries do not overlap; those of a hostile log may, and each costs a checksum.
        self._budget = 2 * len(raw)

    def _read(self, start: int, length: int) -> bytes:
        part = self._raw[start : start + length]
        return part + self._raw[: length - len(part)]

    def entry(self, start: int) -> _Entry | None:
        """The entry at ``start``, or None when there is no valid one."""
        if start not in self._entries:
            self._entries[start] = self._parse(start)
        return self._entries[start]

    def _parse(self, start: int) -> _Entry | None:
        # Section 2.3.1: an entry has sectors with its header and descriptors, then those with data.
        fields = _ENTRY.unpack_from(self._raw, start)
        signature, checksum, length, tail, sequence, count, _, identifier, flushed, last = fields
        descriptors_end = -(-(_ENTRY.size + count * _DESCRIPTOR.size) // _SECTOR) * _SECTOR
        if (
            signature != b"loge"
            or identifier != self._identifier
            or length % _SECTOR
            or tail % _SECTOR
            or not sequence
            or not descriptors_end <= length <= len(self._raw)
        ):
            return None
        self._budget -= length
        if self._budget < 0:
            raise self._opening.corrupt(LOG, self._position + start, "its entries overlap")
        raw = self._read(start, length)
        if crc32c(raw[:4] + bytes(4) + raw[8:]) != checksum:
            return None
        writes = []
        data_start = descriptors_end
        for number in range(count):
            kind, trailing, leading, offset, same = _DESCRIPTOR.unpack_from(
                raw, _ENTRY.size + number * _DESCRIPTOR.size
            )
            if same != sequence or offset % _SECTOR:
                return None
            if kind == b"zero":
                size = int.from_bytes(leading, "little")
                if size % _SECTOR:
                    return None
                writes.append(_Write(offset, offset + size, None))
            elif kind == b"desc" and data_start + _SECTOR <= length:
                kind, high, middle, low = _DATA.unpack_from(raw, data_start)
                if kind != b"data" or high << 32 | low != sequence:
                    return None
                writes.append(_Write(offset, offset + _SECTOR, leading + middle + trailing))
                data_start += _SECTOR
            else:
                return None
        return _Entry(start, length, tail, sequence, flushed, last, writes)

    def active_sequence(self) -> list[_Entry]:
        """The newest valid sequence of entries, as section 2.3.3 finds it; empty for none."""
        active: list[_Entry] = []
        tail = 0
        while True:
            sequence: list[_Entry] = []
            head = tail
            while entry := self.entry(head):
                if sequence and entry.sequence != sequence[-1].sequence + 1:
                    break
                sequence.append(entry)
                head = (head + entry.length) % len(self._raw)
            following = tail + _SECTOR
            if sequence and any(entry.start == sequence[-1].tail for entry in sequence):
                if not active or sequence[-1].sequence > active[-1].sequence:
                    active = sequence
                following = head
            # It has come round.
            if not tail < following < len(self._raw):
                return active
            tail = following


def replay_log(opening: Opening, identifier: bytes, position: int, length: int) -> Overlay:
    """The opening's file with its log replayed over it.

    ``identifier``, ``position`` and ``length`` are those of the file's header. Raises
    :exc:`CorruptImage` for a log without a valid sequence of entries, and for a file that is
    shorter than it was when the log was written.
    """
    if position < _MIB or position % _MIB or not length or length % _MIB:
        raise opening.corrupt(LOG, position, f"a log of {length} bytes")
    if length > _LARGEST_LOG:
        raise opening.unsupported(f"a VHDX log of {length} bytes that must be replayed")
    raw = opening.read_exactly(position, length, LOG)
    sequence = _Log(opening, position, raw, identifier).active_sequence()
    if not sequence:
        raise opening.corrupt(LOG, position, "it must be replayed, and has no valid entries")
    head = sequence[-1]
    if opening.file.size < head.flushed_size:
        raise opening.corrupt(
            LOG,
            position + head.start,
            f"the file was cut from {head.flushed_size} bytes to {opening.file.size}",
        )
    tail = next(n for n, entry in enumerate(sequence) if entry.start == head.tail)
    writes = [write for entry in sequence[tail:] for write in entry.writes]
    if max([head.last_size, *(write.end for write in writes)]) > _LARGEST_FILE:
        raise opening.corrupt(LOG, position + head.start, "it makes the file too large")
    return Overlay(opening.file, head.last_size, writes)
