# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The runs of a zstd file: its frames.

Names and sections are those of RFC 8878; the table of contents is that of zstd's
contrib/seekable_format. Without one, frames are found by their blocks' headers, which tell how
long each block is: nothing is decoded for it. A frame can only be decoded from its start.
"""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING, NamedTuple, cast

import zstandard

from explorer.images.kept import Kept
from explorer.images.packed import (
    INPUT_SIZE,
    LARGEST_SIZE,
    PIECE,
    RUNS_LIMIT,
    Aside,
    Input,
    Packing,
    Stream,
)

if TYPE_CHECKING:
    from typing import IO

    from explorer.images.base import Fact
    from explorer.images.opening import Opening

FRAME = "zstd frame"
BLOCK = "zstd block"

WINDOW_LIMIT = 128 << 20
"""Bytes; what ``zstd --long`` takes, and ``zstd -d`` accepts without being asked."""

_MAGIC = 0xFD2FB528
_SKIPPABLE, _SKIPPABLE_MASK = 0x184D2A50, 0xFFFFFFF0
_SEEK_TABLE, _SEEKABLE = 0x184D2A5E, 0x8F92EAB1
_SEEK_FOOTER = struct.Struct("<IBI")
# 3.1.1: sizes of the fields that the frame header descriptor tells.
_DICTIONARY_SIZES = (0, 1, 2, 4)
_CONTENT_SIZES = (0, 2, 4, 8)
# 3.1.1.2
_RLE, _RESERVED = 1, 3

_STEP = 1024
"""Bytes that are read at once to look for headers: most blocks are longer, many are of 4."""


class _Frame(NamedTuple):
    """A frame header."""

    length: int
    window: int
    content: int | None
    """Bytes of what it decodes to, when told."""
    checksum: bool


def _read_header(opening: Opening, position: int) -> _Frame:
    """The header of a frame (3.1.1.1); raises :exc:`UnsupportedFeature` for what it needs."""
    raw = opening.file.read(position, 18)
    if len(raw) < 6 or int.from_bytes(raw[:4], "little") != _MAGIC:
        raise opening.corrupt(FRAME, position, "its header is missing")
    descriptor = raw[4]
    single, checksum = bool(descriptor & 0x20), bool(descriptor & 0x04)
    if descriptor & 0x08:
        raise opening.unsupported("a zstd frame with the reserved bit")
    at = 5
    window = 0
    if not single:
        exponent, mantissa = raw[at] >> 3, raw[at] & 7
        base = 1 << (10 + exponent)
        window = base + base // 8 * mantissa
        at += 1
    size = _DICTIONARY_SIZES[descriptor & 3]
    if any(raw[at : at + size]):
        raise opening.unsupported("a zstd frame with a dictionary")
    at += size
    size = _CONTENT_SIZES[descriptor >> 6] or (1 if single else 0)
    if len(raw) < at + size:
        raise opening.corrupt(FRAME, position, "its header is cut off")
    content = int.from_bytes(raw[at : at + size], "little") if size else None
    if content is not None and size == 2:
        content += 256
    if single:
        window = content or 0
    return _Frame(at + size, window, content, checksum)


def _check_window(opening: Opening, frame: _Frame) -> None:
    if frame.window > WINDOW_LIMIT:
        raise opening.unsupported(
            f"a zstd frame that needs a window of {frame.window >> 20} MiB "
            f"(more than {WINDOW_LIMIT >> 20})"
        )


class _Scanner:
    """Reads a file here and there, a step at a time."""

    def __init__(self, opening: Opening) -> None:
        self._file = opening.file
        self._progress = opening.choices.progress
        self._start = self._told = 0
        self._step = b""

    def read(self, position: int, length: int) -> bytes:
        """A few bytes, fewer at the end of the file."""
        skipped = position - self._start
        if skipped < 0 or skipped + length > len(self._step):
            self._start, skipped = position, 0
            self._step = self._file.read(position, _STEP)
            if self._progress is not None and position - self._told >= INPUT_SIZE:
                self._told = position
                self._progress(position, self._file.size)
        return self._step[skipped : skipped + length]


def _find_end(opening: Opening, scanner: _Scanner, start: int, frame: _Frame) -> int:
    """Where a frame ends, by the headers of its blocks (3.1.1.2)."""
    at = start + frame.length
    while True:
        raw = scanner.read(at, 3)
        if len(raw) < 3:
            raise opening.corrupt(BLOCK, min(at, opening.file.size), "the file is cut off")
        header = int.from_bytes(raw, "little")
        kind, size = header >> 1 & 3, header >> 3
        if kind == _RESERVED:
            raise opening.corrupt(BLOCK, at, "its type is reserved")
        at += 3 + (1 if kind == _RLE else size)
        if header & 1:
            at += 4 if frame.checksum else 0
            if at > opening.file.size:
                raise opening.corrupt(BLOCK, opening.file.size, "the file is cut off")
            return at


class _FrameStream(Stream):
    def __init__(self, opening: Opening, data: Input) -> None:
        self._opening = opening
        self._input = data
        self._reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT).stream_reader(
            cast("IO[bytes]", data), read_size=INPUT_SIZE
        )

    def read(self, length: int) -> bytes:
        try:
            return self._reader.read(length)
        except zstandard.ZstdError as error:
            raise self._opening.corrupt(FRAME, self._input.latest, str(error)) from error


class ZstdPacking(Packing):
    """The frames of a zstd file."""

    name = "zstd"
    structure = FRAME
    # It is decoded faster than put aside.
    long_run = 64 << 20

    def __init__(self, opening: Opening, aside: Aside) -> None:
        """Find the frames, and how long each is.

        Those that do not tell are decoded, once: what that gives is put aside, and the lengths
        are kept. Raises :exc:`CorruptImage`, :exc:`UnsupportedFeature`.
        """
        self._opening = opening
        self._positions = array("Q")
        self._ends = array("Q")
        self._seek_table = False
        lengths = self._read_seek_table()
        if lengths is None:
            lengths = self._find_frames()
        starts, size = array("Q"), 0
        kept = Kept(opening, "zstd frames 1") if _UNKNOWN in lengths else None
        if kept is not None:
            lengths = _unpack(kept.load(), lengths)
        measured = False
        filled = [array("Q") for _ in range(3)]
        for number, length in enumerate(lengths):
            start, end = self._positions[number], self._ends[number]
            if length == _UNKNOWN:
                measured = True
                length = lengths[number] = self._measure(start, end, size, aside)
            if length:
                for values, value in zip(filled, (size, start, end), strict=True):
                    values.append(value)
                size += length
            if size > LARGEST_SIZE:
                raise opening.corrupt(FRAME, start, "the frames are too large")
        if kept is not None and measured:
            kept.store(lengths.tobytes())
        starts, self._positions, self._ends = filled
        super().__init__(opening, starts, size)

    def position(self, number: int) -> int:
        """Where a frame begins."""
        return self._positions[number]

    def open_run(self, number: int) -> Stream:
        """Decode a frame."""
        start = self._positions[number]
        _check_window(self._opening, _read_header(self._opening, start))
        return _FrameStream(
            self._opening, Input(self._opening.file, start, self._ends[number], self.tell)
        )

    def facts(self) -> dict[str, Fact]:
        """What it is made of."""
        return {"frames": len(self.starts), "seek table": self._seek_table}

    def _append(self, start: int, end: int) -> None:
        if len(self._positions) >= RUNS_LIMIT:
            raise self._opening.unsupported(f"a zstd file of more than {RUNS_LIMIT} frames")
        self._positions.append(start)
        self._ends.append(end)

    def _read_seek_table(self) -> array[int] | None:
        """The lengths of the frames by the table at the end, if there is one that fits."""
        file = self._opening.file
        raw = file.read(max(0, file.size - _SEEK_FOOTER.size), _SEEK_FOOTER.size)
        if len(raw) < _SEEK_FOOTER.size:
            return None
        count, descriptor, magic = _SEEK_FOOTER.unpack(raw)
        if magic != _SEEKABLE or descriptor & 0x7C or count > RUNS_LIMIT:
            return None
        entry = struct.Struct("<II4x" if descriptor & 0x80 else "<II")
        length = count * entry.size + _SEEK_FOOTER.size
        start = file.size - length - 8
        if start < 0 or file.read(start, 8) != struct.pack("<II", _SEEK_TABLE, length):
            return None
        lengths = array("Q")
        at = 0
        for packed, unpacked in entry.iter_unpack(file.read(start + 8, count * entry.size)):
            self._append(at, at + packed)
            lengths.append(unpacked)
            at += packed
        if at != start:
            # Frames are somewhere else than it tells: they are looked for.
            del self._positions[:], self._ends[:]
            return None
        self._seek_table = True
        return lengths

    def _find_frames(self) -> array[int]:
        """The lengths of the frames by their headers, :data:`_UNKNOWN` where these do not tell."""
        opening = self._opening
        scanner = _Scanner(opening)
        lengths = array("Q")
        at = 0
        while at < opening.file.size:
            raw = scanner.read(at, 8)
            magic = int.from_bytes(raw[:4], "little")
            if magic & _SKIPPABLE_MASK == _SKIPPABLE and len(raw) == 8:
                # 3.1.2
                at += 8 + int.from_bytes(raw[4:], "little")
                if at > opening.file.size:
                    raise opening.corrupt(
                        "zstd skippable frame", opening.file.size, "the file is cut off"
                    )
                continue
            frame = _read_header(opening, at)
            _check_window(opening, frame)
            end = _find_end(opening, scanner, at, frame)
            self._append(at, end)
            lengths.append(_UNKNOWN if frame.content is None else min(frame.content, _UNKNOWN - 1))
            at = end
        return lengths

    def _measure(self, start: int, end: int, offset: int, aside: Aside) -> int:
        """Bytes that a frame decodes to; it begins at ``offset`` in the disk.

        What it decodes to is put aside, but for pieces that it shares with other frames.
        """
        opening = self._opening
        data = Input(opening.file, start, end, opening.choices.progress)
        stream = _FrameStream(opening, data)
        at = offset
        piece = bytearray()
        while part := stream.read(PIECE - at % PIECE):
            piece += part
            at += len(part)
            if at % PIECE == 0:
                if len(piece) == PIECE:
                    aside.put(at // PIECE - 1, bytes(piece))
                piece.clear()
        if end == self._ends[-1] and len(piece) == at % PIECE:
            aside.put(at // PIECE, bytes(piece))
        return at - offset


_UNKNOWN = (1 << 64) - 1


def _unpack(record: bytes | None, lengths: array[int]) -> array[int]:
    """The lengths of a record, if it is whole; else those given."""
    if record is None or len(record) != len(lengths) * lengths.itemsize:
        return lengths
    return array("Q", record)
