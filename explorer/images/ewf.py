# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""EWF, the format of EnCase, FTK Imager, Linen and SMART: a disk in chunks, in numbered files.

Names of structures are those of Joachim Metz' "Expert Witness Compression Format specification"
(libewf's documentation), which builds on Andrew Rosen's of 2002. What it does not tell of the
volume and header sections was seen in what ewfacquire writes.

A chunk's bytes are given out only when their checksum is right, stored ones too: evidence is
either what was acquired, or an error that says where it is not.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import CorruptImage
from explorer.core.names import show_name
from explorer.images.base import Fact, Image, Piece
from explorer.images.guids import show_guid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.images.opening import Opening

SEGMENT = "segment file header"
SECTION = "section descriptor"
VOLUME = "volume section"
TABLE = "table section"

SIGNATURE = b"EVF\x09\x0d\x0a\xff\x00"

# "File header": signature, start of fields, segment number, end of fields.
_SEGMENT = struct.Struct("<8sBHH")
# "Section descriptor": type, offset of the next one, size, padding, checksum.
_DESCRIPTOR = struct.Struct("<16sQQ40sI")
# The volume section of EnCase and its kin: media type, chunks, sectors per chunk, bytes per
# sector, sectors, geometry, media flags, what PALM and SMART used, compression level, error
# granularity, set identifier, nothing, signature, checksum.
_VOLUME = struct.Struct("<B3xIIIQ12xB15xB3xI4x16s963x5sI")
# That of SMART and of the first specification.
_VOLUME_SMART = struct.Struct("<4xIIII65x5sI")
# "Table header": entries, padding, base offset, padding, checksum.
_TABLE = struct.Struct("<I4xQ4xI")
_HASH = struct.Struct("<16s16xI")
_DIGEST = struct.Struct("<16s20s40xI")

_CHECKSUM = 4
_COMPRESSED = 1 << 31
_OFFSET = _COMPRESSED - 1

LARGEST_CHUNK = 1 << 27
"""Bytes; 32,768 sectors of 4096 bytes are the most that EnCase offers."""
LARGEST_SECTOR = 1 << 20
LARGEST_SIZE = (1 << 63) - 4096
TEXT_LIMIT = 1 << 20
"""Bytes of a case header, unpacked."""
LISTED_LIMIT = 1000
"""Ranges of sectors that are shown of an error table."""
RANGES_LIMIT = 1 << 20
"""Ranges of sectors that are read of it."""

SLICE = 1 << 14
"""Entries of a table that are kept together."""
READ_SIZE = 1 << 20
"""Bytes of stored chunks that are read at once."""
ZEROS_LIMIT = 1 << 20
"""Bytes of the largest chunks that are compared with compressed zeros."""

_LOGICAL = 0x0E
_MEDIA = {0x00: "removable disk", 0x01: "fixed disk", 0x03: "optical disc", 0x10: "memory"}
_PHYSICAL = 0x02
_LEVELS = {0: "none", 1: "fast", 2: "best"}

# "Header2 values"; the password's hash is nobody's business.
_HEADER_FACTS = {
    "c": "case number",
    "n": "evidence number",
    "a": "description",
    "e": "examiner",
    "t": "notes",
    "md": "model",
    "sn": "serial number",
    "l": "device label",
    "av": "acquired with",
    "ov": "acquired on",
    "m": "acquired",
    "u": "system date",
}
_DATES = ("m", "u")


class _Section(NamedTuple):
    """One section of a segment."""

    type: str
    start: int
    """Of its descriptor, in the segment."""
    data: int
    end: int


class _Media(NamedTuple):
    """What is used of a volume or data section."""

    type: int | None
    """None: SMART and the first specification do not tell, nor the flags and the level."""
    sectors_per_chunk: int
    sector_size: int
    sectors: int
    flags: int
    level: int
    granularity: int
    """Sectors that were given up together when one of them could not be read."""
    identifier: bytes

    @property
    def chunk_size(self) -> int:
        """Bytes of a chunk."""
        return self.sectors_per_chunk * self.sector_size

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self.sectors * self.sector_size


class _Table(NamedTuple):
    """Where the entries of the next chunks are: a table section, and its copy."""

    segment: Opening
    """For the file that it is in."""
    first: int
    """Number of the first chunk."""
    entries: int
    base: int
    """What its offsets count from."""
    places: tuple[int, ...]
    """Of the entries: in the table section, in the table2 section; only those that are good."""
    data_end: int
    """Where the last chunk ends, in the segment."""


class _Stored(NamedTuple):
    """Where chunks in a row are, in one segment."""

    segment: Opening
    starts: list[int]
    ends: list[int]
    compressed: list[int]
    """Not 0: the chunk is compressed."""


@dataclass(slots=True)
class _Found:
    """What all segments tell."""

    media: _Media | None = None
    header: dict[str, str] = field(default_factory=dict)
    header_type: str = ""
    tables: list[_Table] = field(default_factory=list)
    chunks: int = 0
    """That the tables have entries for."""
    segments: int = 0
    hashes: dict[str, bytes] = field(default_factory=dict)
    unreadable: list[tuple[int, int]] = field(default_factory=list)
    """Start and number of sectors that could not be acquired."""
    sessions: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """What was passed over, for none of the disk's bytes depend on it."""
    break_off: CorruptImage | None = None
    """Why nothing is known of what follows the tables."""


# ---- Segments ----------------------------------------------------------------------------------


class _Names:
    """The names of the files of a set ("Segment file extensions")."""

    def __init__(self, name: bytes, number: int) -> None:
        """Of the file that has this number in its header."""
        self._stem, dot, extension = name.rpartition(b".")
        self._known = dot == b"." and len(extension) == 3 and extension[:1].isalpha()
        if self._known:
            # .E99 is followed by .EAA, .EZZ by .FAA.
            self._letter = extension[0] - max(0, number - 100) // 26**2
            # A number that does not go with this name tells no others.
            self._known = self._letter >= (ord("a") if extension[:1].islower() else ord("A"))

    def names(self, number: int) -> list[bytes]:
        """What a segment may be called; empty where nothing can be told."""
        if not self._known:
            return []
        if number < 100:
            extension = b"%c%02d" % (self._letter, number)
        else:
            first, rest = divmod(number - 100, 26**2)
            second, third = divmod(rest, 26)
            letter = self._letter + first
            a = ord("a") if self._letter >= ord("a") else ord("A")
            if letter >= a + 26:
                return []
            extension = bytes((letter, a + second, a + third))
        return [self._stem + b"." + spelled for spelled in (extension, extension.swapcase())]


def _read_number(segment: Opening) -> int:
    signature, start, number, end = _SEGMENT.unpack(segment.read_exactly(0, _SEGMENT.size, SEGMENT))
    if (signature, start, end) != (SIGNATURE, 1, 0):
        raise segment.corrupt(SEGMENT, 0, "the signature is missing")
    if not number:
        raise segment.corrupt(SEGMENT, 9, "segments are numbered from 1")
    return int(number)


def _iter_segments(opening: Opening) -> Iterator[Opening]:
    """Each segment as what it is opened with, as long as the next one is asked for."""
    given = _read_number(opening)
    names = _Names(opening.name, given)
    number = 1
    while True:
        if number == given:
            segment = opening
        else:
            file = opening.open_file(names.names(number), f"segment {number}")
            segment = replace(opening, file=file)
            found = _read_number(segment)
            if found != number:
                raise segment.corrupt(SEGMENT, 9, f"segment {found} instead of {number}")
        yield segment
        number += 1


def _iter_sections(segment: Opening) -> Iterator[_Section]:
    """The sections of a segment, the last of which is ``next`` or ``done``."""
    at = _SEGMENT.size
    while True:
        raw = segment.read_exactly(at, _DESCRIPTOR.size, SECTION)
        name, following, size, _padding, checksum = _DESCRIPTOR.unpack(raw)
        if zlib.adler32(raw[:-_CHECKSUM]) != checksum:
            raise segment.corrupt(SECTION, at, "its checksum is wrong")
        kind = name.split(b"\0")[0].decode("ascii", "backslashreplace")
        data = at + _DESCRIPTOR.size
        if kind in ("next", "done"):
            # These point to themselves, and have any size.
            yield _Section(kind, at, data, data)
            return
        # Two ways to the next section must not lead to two images ("Dual image"). Expert
        # Witness 1.35 sets no size.
        if following < data or size not in (0, following - at) or following > segment.file.size:
            raise segment.corrupt(
                SECTION, at, f"{size} bytes, but the next section is at byte {following}"
            )
        yield _Section(kind, at, data, following)
        at = following


# ---- Sections ----------------------------------------------------------------------------------


def _read_media(segment: Opening, section: _Section) -> _Media:
    """A volume, disk or data section."""
    short = section.end - section.data < _VOLUME.size
    layout = _VOLUME_SMART if short else _VOLUME
    raw = segment.read_exactly(section.data, layout.size, VOLUME)
    if zlib.adler32(raw[:-_CHECKSUM]) != layout.unpack(raw)[-1]:
        raise segment.corrupt(VOLUME, section.data, "its checksum is wrong")
    if short:
        _chunks, per_chunk, sector_size, sectors, _signature, _checksum = layout.unpack(raw)
        media = _Media(None, per_chunk, sector_size, sectors, 0, 0, 0, bytes(16))
    else:
        kind, _chunks, per_chunk, sector_size, sectors, flags, level, granularity, identifier = (
            layout.unpack(raw)[:9]
        )
        media = _Media(kind, per_chunk, sector_size, sectors, flags, level, granularity, identifier)
    if media.type == _LOGICAL:
        raise segment.unsupported("a logical evidence file (files instead of a disk)")
    if not 0 < sector_size <= LARGEST_SECTOR or not 0 < media.chunk_size <= LARGEST_CHUNK:
        raise segment.corrupt(
            VOLUME, section.data, f"chunks of {per_chunk} sectors of {sector_size} bytes"
        )
    if media.size > LARGEST_SIZE:
        raise segment.corrupt(VOLUME, section.data, f"{sectors} sectors of {sector_size} bytes")
    return media


def _unpack_text(raw: bytes) -> bytes:
    """Zlib-compressed text; raises :exc:`zlib.error`."""
    stream = zlib.decompressobj()
    text = stream.decompress(raw, TEXT_LIMIT)
    if not stream.eof:
        raise zlib.error("the text is cut off, or too long")
    return text


def _read_header(segment: Opening, section: _Section) -> dict[str, str] | None:
    """The ``main`` category of a case header, by its identifiers; None when it is damaged."""
    try:
        text = _unpack_text(
            segment.file.read(section.data, min(section.end - section.data, TEXT_LIMIT))
        )
    except zlib.error:
        return None
    if section.type == "header2":
        text = text.decode("utf-16", "replace").encode()
    lines = [line.rstrip(b"\r") for line in text.split(b"\n")]
    if lines[1:2] != [b"main"] or len(lines) < 4:
        return None
    names, values = lines[2].split(b"\t"), lines[3].split(b"\t")
    return {
        name.decode("ascii", "replace"): show_name(value)
        for name, value in zip(names, values, strict=False)
    }


def _show_date(text: str) -> str:
    """A date of header2, in seconds, or of header, in parts of some local time."""
    try:
        if text.isdigit():
            return datetime.fromtimestamp(int(text), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        moment = datetime(*map(int, text.split()))  # type: ignore[arg-type]  # noqa: DTZ001
        return moment.strftime("%Y-%m-%d %H:%M:%S")
    except (TypeError, ValueError, OverflowError, OSError):
        return text


def _read_entries(
    segment: Opening, section: _Section, header: struct.Struct, entry: struct.Struct
) -> list[tuple[int, ...]] | None:
    """The array of an error2 or session section; None when it is damaged.

    Both have a header that begins with the number of entries and ends with a checksum, the
    entries, and their checksum.
    """
    raw = segment.file.read(section.data, header.size)
    if len(raw) < header.size or zlib.adler32(raw[:-_CHECKSUM]) != header.unpack(raw)[-1]:
        return None
    count = header.unpack(raw)[0]
    length = count * entry.size
    if count > RANGES_LIMIT or section.data + header.size + length + _CHECKSUM > section.end:
        return None
    raw = segment.file.read(section.data + header.size, length + _CHECKSUM)
    if zlib.adler32(raw[:length]) != int.from_bytes(raw[length:], "little"):
        return None
    return list(entry.iter_unpack(raw[:length]))


_ERRORS, _ERROR = struct.Struct("<I512xI"), struct.Struct("<II")
_SESSIONS, _SESSION = struct.Struct("<I28xI"), struct.Struct("<II24x")


class _Reader:
    """Goes through the sections of all segments."""

    def __init__(self) -> None:
        self.found = _Found()
        self._sectors_end = 0
        """Of the sectors section whose table is still to come; 0: none."""
        self._table: CorruptImage | None = None
        """What is wrong with the table whose copy may come next."""

    def read_segment(self, segment: Opening) -> bool:
        """Take in a segment; whether another one follows."""
        found = self.found
        found.segments += 1
        self._sectors_end = 0
        sections = _iter_sections(segment)
        while True:
            try:
                section = next(sections)
            except CorruptImage as error:
                return self._break_off(error)
            if self._table is not None and section.type != "table2":
                return self._break_off(self._table)
            if section.type in ("next", "done"):
                return section.type == "next"
            if section.type in ("table", "table2"):
                self._take_table(segment, section)
            elif section.type == "sectors":
                self._sectors_end = section.end
            else:
                self._take_other(segment, section)

    def _break_off(self, error: CorruptImage) -> bool:
        # With some chunks in their place the rest is worth opening.
        if not self.found.tables:
            raise error
        self.found.break_off = error
        return False

    def _take_table(self, segment: Opening, section: _Section) -> None:
        found = self.found
        copy = section.type == "table2"
        raw = segment.file.read(section.data, min(_TABLE.size, section.end - section.data))
        reason = ""
        count = base = 0
        if len(raw) < _TABLE.size:
            reason = "it is too short"
        else:
            count, base, checksum = _TABLE.unpack(raw)
            if zlib.adler32(raw[:-_CHECKSUM]) != checksum:
                reason = "the checksum of its header is wrong"
            elif section.data + _TABLE.size + count * 4 > section.end:
                reason = f"{count} entries are more than it has room for"
        place = section.data + _TABLE.size
        if copy and self._table is None:
            # The copy of a table that is in order: another place of its entries.
            if found.tables and not reason:
                last = found.tables[-1]
                if (last.segment, last.entries, last.base) == (segment, count, base):
                    found.tables[-1] = last._replace(places=(*last.places, place))
            return
        if reason:
            self._table = self._table or segment.corrupt(TABLE, section.start, reason)
            return
        self._table = None
        if not count:
            return
        # Chunks are in a section before the table, or in the table's own, behind its entries.
        end = self._sectors_end or section.end
        found.tables.append(_Table(segment, found.chunks, count, base, (place,), end))
        found.chunks += count

    def _take_other(self, segment: Opening, section: _Section) -> None:
        found = self.found
        kind = section.type
        intact = True
        if kind in ("volume", "disk"):
            if found.media is None:
                found.media = _read_media(segment, section)
        elif kind == "data":
            intact = self._take_data(segment, section)
        elif kind in ("header", "header2"):
            if found.header_type != "header2":
                header = _read_header(segment, section)
                intact = header is not None
                if header is not None:
                    found.header, found.header_type = header, kind
        elif kind == "hash":
            intact = self._take_hashes(segment, section, _HASH)
        elif kind == "digest":
            intact = self._take_hashes(segment, section, _DIGEST)
        elif kind == "error2":
            errors = _read_entries(segment, section, _ERRORS, _ERROR)
            intact = errors is not None
            found.unreadable = [(start, count) for start, count in errors or ()]
        elif kind == "session":
            sessions = _read_entries(segment, section, _SESSIONS, _SESSION)
            intact = sessions is not None
            found.sessions = [
                f"{'audio' if flags & 1 else 'data'} from sector {start}"
                for flags, start in sessions or ()
            ]
        elif kind in ("ltree", "ltypes"):
            raise segment.unsupported("a logical evidence file (files instead of a disk)")
        elif kind == "incomplete":
            intact = False
        if not intact:
            found.damaged.append(f"{kind} section at byte {section.start} of {segment.path}")

    def _take_data(self, segment: Opening, section: _Section) -> bool:
        """The copy of the volume section, by which a segment of another set is known."""
        media = self.found.media
        try:
            copy = _read_media(segment, section)
        except CorruptImage:
            return False
        if media is None:
            return True
        identifiers = {media.identifier, copy.identifier} - {bytes(16)}
        if len(identifiers) > 1 or media.chunk_size != copy.chunk_size:
            raise segment.corrupt(
                "data section", section.start, "the segment belongs to another set"
            )
        if not media.sectors:
            # Written while the end was not known yet.
            self.found.media = copy
        return True

    def _take_hashes(self, segment: Opening, section: _Section, layout: struct.Struct) -> bool:
        raw = segment.file.read(section.data, min(layout.size, section.end - section.data))
        if len(raw) < layout.size:
            return False
        *digests, checksum = layout.unpack(raw)
        if zlib.adler32(raw[:-_CHECKSUM]) != checksum:
            return False
        for name, digest in zip(("md5", "sha1"), digests, strict=False):
            if any(digest):
                self.found.hashes[name] = digest
        return True


# ---- The disk ----------------------------------------------------------------------------------


class EwfImage(Image):
    """An EWF image, of however many segments."""

    format = "ewf"

    def __init__(self, opening: Opening, media: _Media, found: _Found) -> None:
        """Of what was found in its segments."""
        super().__init__()
        self._opening = opening
        self._cache = opening.cache
        self._media = media
        self._found = found
        self._chunk_size = media.chunk_size
        self._firsts = [table.first for table in found.tables]
        self._checked: dict[int, tuple[int, int]] = {}
        """By table: where its entries are, and which is the first of 32 bits."""
        self._zeros: dict[int, set[bytes]] | None = None

    @property
    def path(self) -> str:
        """The path of the file that was opened, safe to show."""
        return self._opening.path

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self._media.size

    @property
    def block_size(self) -> int:
        """Bytes of a sector, where these are sectors of a disk."""
        size = self._media.sector_size
        return size if 512 <= size <= 65536 and not size & (size - 1) else 512

    def stored_hashes(self) -> dict[str, bytes]:
        """What was computed while the disk was acquired."""
        return dict(self._found.hashes)

    def facts(self) -> dict[str, Fact]:
        """The case header, how it was acquired, and what went wrong with it."""
        found, media = self._found, self._media
        facts: dict[str, Fact] = {}
        for identifier, word in _HEADER_FACTS.items():
            value = found.header.get(identifier, "")
            if value:
                facts[word] = _show_date(value) if identifier in _DATES else value
        if media.type is not None:
            facts["media"] = _MEDIA.get(media.type, f"type {media.type}")
            facts["physical"] = bool(media.flags & _PHYSICAL)
            facts["compression"] = _LEVELS.get(media.level, f"level {media.level}")
        if any(media.identifier):
            facts["set identifier"] = show_guid(media.identifier)
        facts["segments"] = found.segments
        facts["chunk size"] = media.chunk_size
        if media.granularity:
            facts["error granularity"] = media.granularity
        if found.sessions:
            facts["sessions"] = found.sessions[:LISTED_LIMIT]
        if found.unreadable:
            facts["unreadable sectors"] = sum(count for _start, count in found.unreadable)
            facts["unreadable ranges"] = [
                f"{start}-{start + count - 1}" for start, count in found.unreadable[:LISTED_LIMIT]
            ]
        for name, word in (("md5", "stored MD5"), ("sha1", "stored SHA-1")):
            if name in found.hashes:
                facts[word] = found.hashes[name].hex()
        if found.damaged:
            facts["damaged"] = found.damaged[:LISTED_LIMIT]
        missing = self.size - found.chunks * self._chunk_size
        if missing > 0:
            facts["missing bytes"] = missing
        return facts

    # ---- Where chunks are

    def _check_table(self, number: int) -> tuple[int, int]:
        """Where the entries of a table are that have the right checksum.

        Also which of them is the first whose offset has all 32 bits (the number of entries when
        there is none). Raises :exc:`CorruptImage` when neither the table nor its copy is right.
        """
        known = self._checked.get(number)
        if known is not None:
            return known
        table = self._found.tables[number]
        length = table.entries * 4
        for place in table.places:
            checksum = 1
            for at in range(0, length, READ_SIZE):
                checksum = zlib.adler32(
                    table.segment.file.read(place + at, min(READ_SIZE, length - at)), checksum
                )
            # Without a sectors section nothing is between the entries and the first chunk, and
            # so there is no checksum.
            first = int.from_bytes(table.segment.file.read(place, 4), "little") & _OFFSET
            footer = table.segment.file.read(place + length, _CHECKSUM)
            if table.base + first == place + length or checksum == int.from_bytes(footer, "little"):
                known = place, self._find_overflow(table, place)
                self._checked[number] = known
                return known
        raise table.segment.corrupt(TABLE, table.places[0], "the checksum of its entries is wrong")

    def _find_overflow(self, table: _Table, place: int) -> int:
        """The first entry that uses bit 31 for its offset ("Table entries offset overflow").

        EnCase 6.7.1 writes such, of chunks that are not compressed, beyond 2 GiB.
        """
        if table.data_end - table.base <= _COMPRESSED:
            return table.entries
        before = 0
        for start in range(0, table.entries, SLICE):
            for index, entry in enumerate(self._entries(table, place, start, SLICE), start):
                if entry & _OFFSET < before:
                    return index
                before = entry & _OFFSET
        return table.entries

    def _entries(self, table: _Table, place: int, index: int, count: int) -> tuple[int, ...]:
        """Some entries of one slice of a table and, if there is one, the entry behind them."""
        number, skipped = divmod(index, SLICE)

        def read() -> bytes:
            length = min(SLICE + 1, table.entries - number * SLICE)
            return table.segment.file.read(place + number * SLICE * 4, length * 4)

        raw = self._cache.get((self, table.first, number), read)
        count = min(count + 1, len(raw) // 4 - skipped)
        return struct.unpack_from(f"<{count}I", raw, skipped * 4)

    def _find_entries(self, chunk: int, count: int) -> tuple[_Table, int, tuple[int, ...]]:
        """The table of a chunk, and entries as :meth:`_entries` gives them.

        They are of some of ``count`` chunks, one at the least. Between the two is how many of them
        are not of 32 bits. Raises :exc:`CorruptImage` when no table tells.
        """
        number = bisect_right(self._firsts, chunk) - 1
        table = self._found.tables[number]
        if chunk >= table.first + table.entries:
            error = self._found.break_off
            if error is not None:
                raise CorruptImage(error.code, **error.params)
            raise self._opening.corrupt(
                TABLE, table.places[0], f"there is no entry for chunk {chunk}"
            )
        place, overflow = self._check_table(number)
        index = chunk - table.first
        count = min(count, SLICE - index % SLICE, table.entries - index)
        return table, max(0, overflow - index), self._entries(table, place, index, count)

    def _find_chunks(self, chunk: int, count: int) -> _Stored:
        """Where some of ``count`` chunks are; raises as :meth:`_find_entries`."""
        table, small, entries = self._find_entries(chunk, count)
        starts = [table.base + (entry & _OFFSET) for entry in entries[:small]]
        starts += [table.base + entry for entry in entries[small:]]
        compressed = [entry & _COMPRESSED for entry in entries[:small]]
        compressed += [0] * (len(entries) - len(compressed))
        if chunk + len(entries) == table.first + table.entries:
            starts.append(table.data_end)
        count = min(count, len(starts) - 1)
        return _Stored(table.segment, starts[:count], starts[1 : count + 1], compressed[:count])

    # ---- Zeros

    def _zero_streams(self) -> dict[int, set[bytes]]:
        """What zlib makes of a chunk of zeros, by length."""
        if self._zeros is None:
            zeros: dict[int, set[bytes]] = {}
            if self._chunk_size <= ZEROS_LIMIT:
                for level in range(1, 10):
                    stream = zlib.compress(bytes(self._chunk_size), level)
                    zeros.setdefault(len(stream), set()).add(stream)
            self._zeros = zeros
        return self._zeros

    def _zero_runs(self, chunk: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Chunks in a row: the first, the one behind the last, and whether they are zeros."""
        zeros = self._zero_streams()
        while chunk < end:
            try:
                _table, _small, entries = self._find_entries(chunk, end - chunk)
            except CorruptImage:
                # Told to whoever reads there.
                number = bisect_right(self._firsts, chunk)
                after = self._firsts[number] if number < len(self._firsts) else end
                yield chunk, min(after, end), False
                chunk = after
                continue
            if max(entries) < _COMPRESSED:
                after = min(end, chunk + len(entries))
                yield chunk, after, False
                chunk = after
                continue
            stored = self._find_chunks(chunk, end - chunk)
            count = len(stored.starts)
            likely = [
                bool(packed) and after - start in zeros
                for start, after, packed in zip(*stored[1:], strict=True)
            ]
            at = 0
            while at < count:
                if likely[at]:
                    run, is_zero = self._count_zeros(stored, likely, at)
                else:
                    run = next((i for i in range(at + 1, count) if likely[i]), count) - at
                    is_zero = False
                yield chunk + at, chunk + at + run, is_zero
                at += run
            chunk += count

    def _count_zeros(self, stored: _Stored, likely: list[bool], at: int) -> tuple[int, bool]:
        """How many chunks from one on are zeros alike, or are not; and which of the two."""
        zeros = self._zero_streams()
        start, last = stored.starts[at], at + 1
        while (
            last < len(likely)
            and likely[last]
            and stored.starts[last] == stored.ends[last - 1]
            and stored.ends[last] - start <= READ_SIZE
        ):
            last += 1
        raw = stored.segment.file.read(start, stored.ends[last - 1] - start)
        known = [
            raw[begin - start : end - start] in zeros[end - begin]
            for begin, end in zip(stored.starts[at:last], stored.ends[at:last], strict=True)
        ]
        run = next((i for i, is_zero in enumerate(known) if is_zero is not known[0]), len(known))
        return run, known[0]

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Chunks to decode, and zeros."""
        end = offset + length
        size = self._chunk_size
        run_start, run_zero = offset, False
        for first, _after, is_zero in self._zero_runs(offset // size, -(-end // size)):
            start = max(offset, first * size)
            if is_zero is not run_zero:
                if start > run_start:
                    yield self._piece(run_start, start, run_zero)
                run_start, run_zero = start, is_zero
        yield self._piece(run_start, end, run_zero)

    def _piece(self, start: int, end: int, is_zero: bool) -> Piece:
        return Piece(end - start) if is_zero else Piece(end - start, self, start)

    # ---- Decoding

    def decode_into(self, position: int, buffer: memoryview) -> None:
        """Unpack chunks, and check them."""
        size = self._chunk_size
        done = 0
        while done < len(buffer):
            chunk, skipped = divmod(position + done, size)
            room = len(buffer) - done
            whole = room // size if position + done + room < self.size else -(-room // size)
            if skipped or not whole:
                data = self._cache.get((self, chunk), partial(self._read_chunk, chunk))
                part = data[skipped : skipped + room]
                buffer[done : done + len(part)] = part
                done += len(part)
            else:
                done += self._read_chunks(chunk, whole, buffer[done:])

    def _read_chunk(self, chunk: int) -> bytes:
        data = bytearray(min(self._chunk_size, self.size - chunk * self._chunk_size))
        self._read_chunks(chunk, 1, memoryview(data))
        return bytes(data)

    def _read_chunks(self, chunk: int, count: int, buffer: memoryview) -> int:
        """Unpack some of ``count`` chunks, one at the least; returns how many bytes that were."""
        size = self._chunk_size
        # More than this no chunk has, whatever a table says.
        largest = size + size // 64 + 1024
        segment, starts, ends, compressed = self._find_chunks(chunk, count)
        last = 1
        while last < len(starts) and starts[0] < ends[last] <= starts[0] + READ_SIZE:
            last += 1
        start = starts[0]
        end = ends[last - 1] if last > 1 else min(ends[0], start + largest)
        raw = memoryview(bytearray(max(0, min(end, segment.file.size) - start)))
        segment.file.read_into(start, raw)
        done = 0
        for index in range(last):
            wanted = min(size, self.size - (chunk + index) * size)
            stored = raw[starts[index] - start : ends[index] - start]
            data, reason = (_inflate if compressed[index] else _verify)(stored, size, wanted)
            if reason:
                raise segment.corrupt(f"chunk {chunk + index}", starts[index], reason)
            buffer[done : done + wanted] = data
            done += wanted
        return done


def _inflate(stored: memoryview, size: int, wanted: int) -> tuple[bytes | memoryview, str]:
    """A compressed chunk's bytes, or what is wrong with it; zlib compares the checksum."""
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(stored, size)
        # Its checksum may still be unread when all its bytes are there.
        if not stream.eof and stream.decompress(stream.unconsumed_tail, 1):
            return b"", f"it has more than {size} bytes"
    except zlib.error as error:
        return b"", str(error)
    if not stream.eof:
        return b"", f"it is cut off after {len(data)} bytes"
    if len(data) < wanted:
        return b"", f"it has {len(data)} bytes instead of {wanted}"
    return data[:wanted], ""


def _verify(stored: memoryview, size: int, wanted: int) -> tuple[bytes | memoryview, str]:
    """A stored chunk's bytes, or what is wrong with them."""
    # The last chunk of a disk may be as short as the disk ends, or filled up.
    length = size if len(stored) >= size + _CHECKSUM else wanted
    checksum = stored[length : length + _CHECKSUM]
    if len(checksum) < _CHECKSUM:
        return b"", f"it has {len(stored)} bytes instead of {length + _CHECKSUM}"
    if zlib.adler32(stored[:length]) != int.from_bytes(checksum, "little"):
        return b"", "its checksum is wrong"
    return stored[:wanted], ""


def open_ewf(opening: Opening) -> Image:
    """Open an EWF image, and all its segments.

    Any of them may be named. An image whose last sections are damaged is opened: what they would
    tell of cannot be read.
    """
    reader = _Reader()
    for segment in _iter_segments(opening):
        if not reader.read_segment(segment):
            break
    found = reader.found
    if found.media is None or not found.media.sectors:
        raise opening.corrupt(VOLUME, _SEGMENT.size, "no section tells the size of the disk")
    if not found.tables:
        raise opening.corrupt(TABLE, _SEGMENT.size, "there is none")
    return EwfImage(opening, found.media, found)
