# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The runs of a gzip file: what is between seek points.

Names are those of RFC 1952. A seek point is where a block of deflate begins, at some bit, with
the 32 KiB before it that its data may refer to. indexed_gzip finds these points in one pass,
in which it also compares the members' checksums; from there zlib decodes.

Members of BGZF (the SAM specification, section 4.1) tell their length, and need no pass.
"""

from __future__ import annotations

import io
import struct
import zlib
from array import array
from typing import TYPE_CHECKING

from indexed_gzip.indexed_gzip import (  # type: ignore[import-untyped]
    CrcError,
    IndexedGzipFile,
    ZranError,
)

from explorer.images.kept import Kept
from explorer.images.packed import (
    INPUT_SIZE,
    LARGEST_SIZE,
    PIECE,
    RUNS_LIMIT,
    Input,
    Packing,
    Stream,
)

if TYPE_CHECKING:
    from explorer.images.base import Fact
    from explorer.images.files import SourceFile
    from explorer.images.opening import Opening

MEMBER = "gzip member"
DEFLATE = "deflate data"

SPACING = 4 << 20
"""Bytes of the disk between two seek points, at the least."""
SESSION_POINTS = 4096
"""Seek points that are found before they are taken over; indexed_gzip holds 32 KiB for each."""
POINTS_LIMIT = 1 << 16
"""Seek points that are kept: of a disk too large for so many, only every second one is."""
WINDOWS_LIMIT = 128 << 20
"""Bytes of their windows, compressed; the same holds."""
WINDOW = 32768

_MAGIC = b"\x1f\x8b\x08"
_TRAILER = 8
_MEMBER_BITS = 31
"""For zlib: a member with its header and trailer."""
_RAW_BITS = -15

# Of a seek point: what is there.
_AT_HEADER, _AT_DATA, _WINDOWED = 0, 1, 2
_EVERYTHING = 1 << 62
_READ_SIZE = 64 * 1024
_FIRST_READ = 4096
"""Of a member, which may be short; each further one is of twice as much."""
_COUNT_EVERY = 1 << 20


def _empty_block() -> tuple[int, int]:
    """A block of deflate without content (RFC 1951, 3.2.7) with an odd number of bits: 95.

    Returns its bits, the first one lowest, and their number. Its code has only the end of block.
    """
    bits = count = 0
    # Not the last block; dynamic codes; 257 + 1 codes; lengths of all 19 code length codes, in
    # the standard's order: symbols 18, 0 and 1 have 1, 2 and 2 bits, and so are 0, 10 and 11.
    fields = [(0, 1), (2, 2), (0, 5), (0, 5), (15, 4)]
    lengths = {18: 1, 0: 2, 1: 2}
    order = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
    fields += [(lengths.get(symbol, 0), 3) for symbol in order]
    # 138 and 118 lengths of 0, one of 1, and one of 0; then the end of block.
    fields += [(0, 1), (138 - 11, 7), (0, 1), (118 - 11, 7), (0b11, 2), (0b01, 2), (0, 1)]
    for value, width in fields:
        bits |= value << count
        count += width
    return bits, count


_EMPTY_FIXED = 0b010, 10
"""The same with the fixed codes: an even number of bits."""
_EMPTY_DYNAMIC = _empty_block()


def _fill(byte: int, bits: int) -> bytes:
    """Whole bytes of deflate that end with the upper ``bits`` of a byte.

    zlib can be told to begin within a byte, but not from Python: blocks without content fill the
    bits before.
    """
    filled = count = 0
    missing = 8 - bits
    blocks = [_EMPTY_DYNAMIC] if missing % 2 else []
    blocks += [_EMPTY_FIXED] * ((missing - sum(width for _value, width in blocks)) // 2 % 4)
    for value, width in blocks:
        filled |= value << count
        count += width
    filled |= byte >> missing << count
    return filled.to_bytes((count + bits) // 8, "little")


class _Deflate:
    """Decodes from a seek point, or from the header of a member on."""

    def __init__(
        self, opening: Opening, position: int, bits: int, kind: int, window: bytes
    ) -> None:
        """``bits`` of the byte before ``position`` are the first ones."""
        self._opening = opening
        self._input = Input(opening.file, position, opening.file.size)
        self._step = _FIRST_READ
        self._kind = kind
        self._pending = b""
        if bits:
            self._pending = _fill(opening.read_exactly(position - 1, 1, DEFLATE)[0], bits)
        if kind == _WINDOWED:
            self._stream = zlib.decompressobj(_RAW_BITS, zdict=window)
        else:
            self._stream = zlib.decompressobj(_RAW_BITS if kind == _AT_DATA else _MEMBER_BITS)

    @property
    def checked(self) -> bool:
        """Whether zlib reads, and compares, the trailer of the present member."""
        return self._kind == _AT_HEADER

    @property
    def end(self) -> int:
        """The byte behind what zlib has read of this member, which is at its end."""
        return self._input.position - len(self._stream.unused_data)

    def read(self, length: int) -> bytes:
        """Some of the next bytes of this member; empty at its end."""
        while not self._stream.eof:
            packed = self._pending
            if not packed:
                packed = self._input.read(self._step)
                self._step = min(2 * self._step, INPUT_SIZE)
            try:
                data = self._stream.decompress(packed, length)
            except zlib.error as error:
                raise self._opening.corrupt(DEFLATE, self._input.latest, _reason(error)) from error
            self._pending = self._stream.unconsumed_tail
            if data:
                return data
            if not packed and not self._stream.eof:
                raise self._opening.corrupt(DEFLATE, self._input.position, "the file is cut off")
        return b""

    def next_member(self, stop: int) -> bool:
        """Go on to the member behind this one, whose end was reached.

        Returns whether there is one that begins before ``stop``, in the file.
        """
        file = self._opening.file
        start = _skip_zeros(file, self.end if self.checked else self.end + _TRAILER)
        if start >= stop or file.read(start, 3) != _MAGIC:
            return False
        self._input = Input(file, start, file.size)
        self._step = _FIRST_READ
        self._kind = _AT_HEADER
        self._pending = b""
        self._stream = zlib.decompressobj(_MEMBER_BITS)
        return True


class _PointStream(Stream):
    def __init__(self, deflate: _Deflate, stop: int) -> None:
        """Of members that begin before ``stop``, in the file."""
        self._deflate = deflate
        self._stop = stop

    def read(self, length: int) -> bytes:
        while True:
            data = self._deflate.read(length)
            if data or not self._deflate.next_member(self._stop):
                return data


def _reason(error: zlib.error) -> str:
    # "Error -3 while decompressing data: invalid distance too far back"
    return str(error).partition(": ")[2] or str(error)


def _skip_zeros(file: SourceFile, at: int) -> int:
    """The place of the next byte that is not 0: a file may be filled up to a tape's block.

    Looked for in a few KiB.
    """
    if file.read(at, 1) != b"\0":
        return at
    step = file.read(at, _READ_SIZE)
    return at + len(step) - len(step.lstrip(b"\0"))


# ---- Seek points -------------------------------------------------------------------------------


class _Points:
    """Seek points, in order."""

    def __init__(self) -> None:
        self.size = 0
        self.end = 0
        """Of the last member, in the file."""
        self.members = 0
        self.checked = True
        """Whether the checksums of all members were compared."""
        self.starts = array("Q")
        """In the disk."""
        self.positions = array("Q")
        """In the file."""
        self.kinds = array("B")
        self.bits = array("B")
        self.windows: list[bytes] = []
        """Of each point, compressed; empty for those that need none."""
        self.window_bytes = 0

    def append(self, start: int, position: int, kind: int, bits: int, window: bytes) -> None:
        """Take in one more; of two at the same place the later one counts."""
        if self.starts and self.starts[-1] == start:
            self._pop()
        self.starts.append(start)
        self.positions.append(position)
        self.kinds.append(kind)
        self.bits.append(bits)
        self.windows.append(window)
        self.window_bytes += len(window)

    def trim(self) -> None:
        """Let those go that are at the end of the disk."""
        while self.starts and self.starts[-1] >= self.size:
            self._pop()

    def _pop(self) -> None:
        self.window_bytes -= len(self.windows[-1])
        for values in (self.starts, self.positions, self.kinds, self.bits, self.windows):
            values.pop()

    def wants(self, start: int, spacing: int) -> bool:
        """Whether a point is far enough from the last one."""
        return not self.starts or start - self.starts[-1] >= spacing

    def thinned(self, spacing: int) -> _Points:
        """Those of them that are wanted with a larger spacing."""
        points = _Points()
        points.size, points.members, points.checked = self.size, self.members, self.checked
        for point in zip(
            self.starts, self.positions, self.kinds, self.bits, self.windows, strict=True
        ):
            if points.wants(point[0], spacing):
                points.append(*point)
        return points

    def pack(self) -> bytes:
        """As a record."""
        head = array("Q", (self.size, self.end, self.members, self.checked, len(self.starts)))
        lengths = array("Q", map(len, self.windows))
        tables = (head, self.starts, self.positions, lengths, self.kinds, self.bits)
        return b"".join((*(table.tobytes() for table in tables), *self.windows))

    @classmethod
    def unpack(cls, record: bytes | None, file_size: int) -> _Points | None:
        """The way back; None when the record is none, or tells what cannot be."""
        if record is None or len(record) < 40:
            return None
        points = cls()
        points.size, points.end, points.members, checked, count = array("Q", record[:40])
        points.checked = bool(checked)
        at = 40 + count * 26
        if len(record) < at or not count:
            return None
        numbers = array("Q", record[40 : 40 + count * 24])
        points.starts, points.positions = numbers[:count], numbers[count : 2 * count]
        lengths = numbers[2 * count :]
        points.kinds = array("B", record[at - 2 * count : at - count])
        points.bits = array("B", record[at - count : at])
        for kind, length in zip(points.kinds, lengths, strict=True):
            window = record[at : at + length]
            if not _is_window(window) if kind == _WINDOWED else window:
                return None
            points.windows.append(window)
            at += length
        if (
            at != len(record)
            or points.starts[0]
            or points.starts[-1] >= points.size
            or list(points.starts) != sorted(set(points.starts))
            or max(points.positions) > file_size
            or not min(points.positions)
            or max(points.kinds) > _WINDOWED
            or max(points.bits) > 7
        ):
            return None
        return points


def _is_window(packed: bytes) -> bool:
    stream = zlib.decompressobj()
    try:
        window = stream.decompress(packed, WINDOW + 1)
    except zlib.error:
        return False
    return stream.eof and len(window) == WINDOW


class _Export(io.RawIOBase):
    """Takes apart what indexed_gzip exports, without ever holding all of it.

    The parts: a head with the number of points, a record for each point, and the windows of
    those that have one. It is written field by field.
    """

    HEAD = struct.Struct("<5sBBQQIII")
    RECORD = struct.Struct("<QQBB")

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()
        self._count = -1
        self.records: list[tuple[int, int, int, int]] = []
        """Position in the file, in the disk, bits, whether there is a window."""
        self.windows: list[bytes] = []
        """Compressed, of those that have one."""
        self.last_window = b""

    def writable(self) -> bool:
        """It is only written."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Take in the next part."""
        self._buffer += data
        if self._count < 0:
            if len(self._buffer) < self.HEAD.size:
                return len(data)
            self._count = self.HEAD.unpack(self._take(self.HEAD.size))[-1]
        while len(self.records) < self._count and len(self._buffer) >= self.RECORD.size:
            self.records.append(self.RECORD.unpack(self._take(self.RECORD.size)))
        if len(self.records) == self._count:
            while len(self._buffer) >= WINDOW:
                self.last_window = bytes(self._take(WINDOW))
                self.windows.append(zlib.compress(self.last_window, 1))
        return len(data)

    def _take(self, length: int) -> bytearray:
        part = self._buffer[:length]
        del self._buffer[:length]
        return part


class _EnoughPoints(Exception):
    """A session has found as many seek points as it may hold."""


class _Unclear(Exception):
    """Decoding does not end where indexed_gzip says."""


class _Source(io.RawIOBase):
    """The file for indexed_gzip: tells of progress, and ends a session."""

    def __init__(self, opening: Opening, size: int) -> None:
        super().__init__()
        self._file = opening.file
        self._progress = opening.choices.progress
        self._size = size
        self._at = 0
        self._counted = 0
        self.reader: IndexedGzipFile | None = None
        self.latest = 0

    def readable(self) -> bool:
        """It is only read."""
        return True

    def seekable(self) -> bool:
        """It can be."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Only from the start and from the end, as is needed."""
        self._at = offset + (self._size if whence == io.SEEK_END else 0)
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        self.latest = self._at
        data = self._file.read(self._at, max(0, min(size, self._size - self._at)))
        self._at += len(data)
        if self._progress is not None:
            self._progress(self._at, self._size)
        if self.reader is not None and self._at - self._counted >= _COUNT_EVERY:
            self._counted = self._at
            if sum(1 for _ in self.reader.seek_points()) > SESSION_POINTS:
                raise _EnoughPoints
        return data


class _Builder:
    """Finds the seek points of a file, in sessions that each hold so many of them."""

    def __init__(self, opening: Opening, size: int) -> None:
        """Of the first ``size`` bytes of the file."""
        self._opening = opening
        self._size = size
        self.points = _Points()
        self._spacing = SPACING
        self._member = 0
        """Where the last member begins, in the disk."""
        self._resume: tuple[int, int, int, int] | None = None
        self._window = b""

    def build(self) -> _Points:
        """All of them.

        Raises :exc:`CorruptImage` where zlib finds damage, and what indexed_gzip does where it
        does.
        """
        while not self._session():
            pass
        self._find_end()
        self.points.trim()
        return self.points

    def _session(self) -> bool:
        """Find some more; whether the end of the file was reached."""
        source = _Source(self._opening, self._size)
        reader = IndexedGzipFile(
            fileobj=source, spacing=SPACING, readbuf_size=_READ_SIZE, buffer_size=_READ_SIZE
        )
        if self._resume is not None:
            reader.import_index(fileobj=io.BytesIO(self._import()))
            # From within a member it cannot.
            self.points.checked = False
        source.reader = reader
        try:
            reader.seek(_EVERYTHING)
        except _EnoughPoints:
            ended = False
        else:
            ended = True
        export = _Export()
        reader.export_index(fileobj=export)
        self._take(export, ended=ended)
        return ended

    def _import(self) -> bytes:
        """An index that makes indexed_gzip go on from the last point; it wants two."""
        assert self._resume is not None
        windowed = self._resume[3]
        return b"".join(
            (
                _Export.HEAD.pack(b"GZIDX", 1, 0, self._size, 0, SPACING, WINDOW, 2),
                _Export.RECORD.pack(0, 0, 0, 0),
                _Export.RECORD.pack(*self._resume),
                self._window if windowed else b"",
            )
        )

    def _take(self, export: _Export, *, ended: bool) -> None:
        windows = iter(export.windows)
        records = export.records
        if self._resume is not None:
            # These two are known.
            records = records[2:]
            if self._resume[3]:
                next(windows)
        for position, start, bits, windowed in records[: -1 if ended else None]:
            kind = _WINDOWED if windowed else _AT_DATA
            window = next(windows) if windowed else b""
            if kind == _AT_DATA:
                self._member = start
                self.points.members += 1
            if self.points.wants(start, self._spacing):
                self.points.append(start, position, kind, bits, window)
        if ended:
            # The last one only tells where the end is.
            self.points.size = export.records[-1][1]
        self._resume = export.records[-1]
        self._window = export.last_window
        while len(self.points.starts) > POINTS_LIMIT or self.points.window_bytes > WINDOWS_LIMIT:
            self._spacing *= 2
            self.points = self.points.thinned(self._spacing)

    def _find_end(self) -> None:
        """Decode the last run: indexed_gzip takes a file that is cut off for one that ends."""
        points, opening = self.points, self._opening
        windowed = points.kinds[-1] == _WINDOWED
        deflate = _open_point(opening, points, len(points.starts) - 1)
        at = points.starts[-1]
        member = self._member if windowed else at
        while True:
            while data := deflate.read(PIECE):
                at += len(data)
            if not deflate.next_member(self._size):
                break
            member = at
        if at != points.size:
            raise _Unclear
        points.end = deflate.end
        if not deflate.checked:
            trailer = opening.file.read(points.end, _TRAILER)
            length = (at - member) & 0xFFFFFFFF
            if len(trailer) < _TRAILER or int.from_bytes(trailer[4:], "little") != length:
                raise opening.corrupt(
                    MEMBER, points.end, "its trailer is cut off, or tells another size"
                )
            points.end += _TRAILER


def _open_point(opening: Opening, points: _Points, number: int) -> _Deflate:
    window = points.windows[number]
    return _Deflate(
        opening,
        points.positions[number],
        points.bits[number],
        points.kinds[number],
        zlib.decompress(window, bufsize=WINDOW) if window else b"",
    )


def _check_members(opening: Opening) -> tuple[int, int]:
    """Decode all members, to tell what is wrong.

    Returns where the last one ends, and how long what they hold is.
    """
    deflate = _Deflate(opening, 0, 0, _AT_HEADER, b"")
    size = 0
    while True:
        while data := deflate.read(PIECE):
            size += len(data)
        end = deflate.end
        if not deflate.next_member(opening.file.size):
            return end, size


_FAILURES = (ZranError, CrcError, _Unclear)


def _build(opening: Opening) -> _Points:
    size = opening.file.size
    try:
        return _Builder(opening, size).build()
    except _FAILURES:
        # It does not tell where; and it looks for members in whatever is behind the last one.
        end, length = _check_members(opening)
    if not length:
        # Nor does it take a member without content.
        return _Points()
    try:
        return _Builder(opening, end).build()
    except _FAILURES as error:
        raise opening.corrupt(MEMBER, 0, "no seek points can be found") from error


# ---- BGZF --------------------------------------------------------------------------------------

# SAM specification, 4.1: the header of a member with one extra field of two bytes, its length.
_BGZF = struct.Struct("<4s6sH2sHH")
_LARGEST_MEMBER = 65536


def _find_members(opening: Opening) -> _Points | None:
    """The members of a BGZF file, some together; None when it is not one to the end."""
    file = opening.file
    points = _Points()
    at, head = 0, file.read(0, _BGZF.size)
    while at < file.size:
        if len(head) < _BGZF.size:
            return None
        magic, _rest, extra, name, two, length = _BGZF.unpack(head)
        if (magic, extra, name, two) != (_MAGIC + b"\4", 6, b"BC", 2):
            return None
        if length + 1 < _BGZF.size + _TRAILER or at + length + 1 > file.size:
            return None
        if points.wants(points.size, PIECE):
            if len(points.starts) >= RUNS_LIMIT:
                raise opening.unsupported(f"a BGZF file of more than {RUNS_LIMIT} runs")
            points.append(points.size, at, _AT_HEADER, 0, b"")
        at += length + 1
        following = file.read(at - 4, 4 + _BGZF.size)
        size = int.from_bytes(following[:4], "little")
        if size > _LARGEST_MEMBER:
            return None
        points.size += size
        points.members += 1
        head = following[4:]
    points.end = at
    points.trim()
    return points


class GzipPacking(Packing):
    """What is between the seek points of a gzip file."""

    name = "gzip"
    structure = DEFLATE

    def __init__(self, opening: Opening) -> None:
        """Find the seek points, or take those that are kept; raises :exc:`CorruptImage`."""
        self._opening = opening
        points = _find_members(opening)
        self.whole_runs = points is not None
        if points is None:
            kept = Kept(opening, "gzip points 1")
            points = _Points.unpack(kept.load(), opening.file.size)
            if points is None:
                points = _build(opening)
                kept.store(points.pack())
        self._points = points
        if points.size > LARGEST_SIZE:
            raise opening.corrupt(MEMBER, 0, "the members are too large")
        super().__init__(opening, points.starts, points.size)

    def position(self, number: int) -> int:
        """Where the block of a seek point begins."""
        return self._points.positions[number]

    def open_run(self, number: int) -> Stream:
        """Decode from a seek point on."""
        points = self._points
        deflate = _open_point(self._opening, points, number)
        # A run of whole members ends where the next one begins.
        stop = points.end
        if self.whole_runs and number + 1 < len(points.positions):
            stop = points.positions[number + 1]
        return _PointStream(deflate, stop)

    def facts(self) -> dict[str, Fact]:
        """What it is made of, and what does not belong to it."""
        facts: dict[str, Fact] = {
            "members": self._points.members,
            "seek points": len(self.starts),
            "BGZF": self.whole_runs,
        }
        if not self.whole_runs:
            facts["checksums compared"] = self._points.checked
        if self._points.end < self._opening.file.size:
            facts["ignored bytes at the end"] = self._opening.file.size - self._points.end
        return facts
