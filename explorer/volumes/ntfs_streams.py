# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""NTFS' alternate data streams, which Linux' own driver neither lists nor opens.

A file is a record of the master file table (MFT); its contents are the record's $DATA attributes,
of which the kernel reads the one without a name. The structures are those of ``fs/ntfs3/ntfs.h``,
named at each function; the compression is LZNT1 of [MS-XCA], section 2.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from explorer.volumes.window import Window

_ATTRIBUTE_LIST, _DATA, _END = 0x20, 0x80, 0xFFFF_FFFF
_COMPRESSED, _ENCRYPTED, _SPARSE = 0x00FF, 0x4000, 0x8000

_STRIDE = 512
"""Bytes that a fix-up protects."""
_RECORD_LIMIT = 4096
_CLUSTER_LIMIT = 2 << 20
_LIST_LIMIT = 256 << 10
"""Bytes of an attribute list: no more fits into the cache of Windows."""
_UNIT_LIMIT = 1 << 20
"""Bytes that are compressed as one; Windows compresses 64 KiB."""
_PIECE = 1 << 20
_CHUNK = 4096
"""Bytes that LZNT1 compresses as one."""

# struct MFT_REC: magic, fix-ups (where, how many), LSN, sequence, links, attributes, flags, used
_RECORD = Struct("<4s H H Q H H H H I")
_BASE = 0x20
"""Where a record that is the continuation of another names that one."""
# struct ATTRIB: type, size, non-resident, length of the name, where it is, flags, id
_ATTRIBUTE = Struct("<I I B B H H H")
# struct ATTR_RESIDENT, ATTR_NONRESIDENT
_RESIDENT = Struct("<I H")
_NON_RESIDENT = Struct("<Q Q H B 5x Q Q Q")
# struct ATTR_LIST_ENTRY: type, size, name's length and place, first cluster, record, id
_LIST_ENTRY = Struct("<I H B B Q Q H")


class Stream(NamedTuple):
    """A named stream of a file or folder."""

    name: bytes
    """UTF-8; what is no valid UTF-16 is encoded as if it were."""
    size: int
    resident: bool
    """Whether it stands in the record itself."""
    compressed: bool
    sparse: bool
    encrypted: bool


class _Run(NamedTuple):
    """Clusters in a row."""

    first: int
    """On the volume; -1 of a hole."""
    clusters: int


@dataclass(slots=True)
class _Attribute:
    """One $DATA or $ATTRIBUTE_LIST, or a part of it."""

    type: int
    name: bytes
    flags: int
    offset: int
    """Of the volume, for messages."""
    value: bytes | None = None
    """Of a resident one; the others have what follows."""
    first: int = 0
    """The number within the attribute of the first cluster that this part maps."""
    runs: tuple[_Run, ...] = ()
    unit: int = 0
    """Clusters that are compressed as one, as a power of two; 0: it is not compressed."""
    size: int = 0
    valid: int = 0
    """Bytes that were written; those beyond are zeros."""


def _damaged(structure: str, offset: int, reason: str) -> VolumeError:
    return VolumeError("volume.damaged", structure=structure, offset=offset, reason=reason)


def list_streams(volume: Window, record: int) -> list[Stream]:
    """The named streams of a file by its number, which the kernel gives as its inode's.

    Raises :exc:`VolumeError`, ``volume.damaged``, where a structure breaks its rules.
    """
    return [
        Stream(
            name,
            parts[0].size,
            parts[0].value is not None,
            bool(parts[0].flags & _COMPRESSED),
            bool(parts[0].flags & _SPARSE),
            bool(parts[0].flags & _ENCRYPTED),
        )
        for name, parts in sorted(_Table(volume).streams(record).items())
        if name
    ]


def read_stream(volume: Window, record: int, name: bytes) -> Iterator[bytes] | None:
    """The content of a stream in pieces of at most 1 MiB; None where there is no such stream.

    Raises :exc:`VolumeError`, at once or on the way: as :func:`list_streams`, and
    ``volume.feature`` for one that is encrypted.
    """
    table = _Table(volume)
    parts = table.streams(record).get(name)
    if parts is None:
        return None
    if parts[0].flags & _ENCRYPTED:
        raise VolumeError("volume.feature", feature="a stream that Windows encrypted (EFS)")
    return table.content(parts)


class _Table:
    """The master file table of a volume."""

    def __init__(self, volume: Window) -> None:
        self._volume = volume
        # struct NTFS_BOOT
        sector, per_cluster, clusters = volume.le(11, 2), volume.le(13, 1), volume.le(40, 8)
        self._cluster = sector * (per_cluster if per_cluster <= 128 else 1 << 256 - per_cluster)
        size = volume.le(64, 1)
        self._record_size = 1 << 256 - size if size > 128 else size * self._cluster
        for value, limit, reason in (
            (sector, _RECORD_LIMIT, "bytes of a sector"),
            (self._cluster, _CLUSTER_LIMIT, "bytes of a cluster"),
            (self._record_size, _RECORD_LIMIT, "bytes of a record"),
        ):
            if not _STRIDE <= value <= limit or value & value - 1:
                raise _damaged("boot sector", 0, f"{value} {reason}")
        self._clusters = clusters * sector // self._cluster
        start = volume.le(48, 8)
        if start >= self._clusters:
            raise _damaged("boot sector", 48, "the MFT begins beyond the volume")
        # Enough of it to read its own record, which maps all of it.
        whole = -(-self._record_size // self._cluster)
        self._runs: tuple[_Run, ...] = (_Run(start, whole),)
        self._runs = self._map_itself()

    def _map_itself(self) -> tuple[_Run, ...]:
        runs: list[_Run] = []
        attributes = list(self._attributes(0))
        for part in attributes:
            if part.type == _DATA and not part.name:
                runs += part.runs
        self._runs = tuple(runs)
        # Where its continuations are is known from the runs before them.
        for number in self._listed(attributes):
            if number:
                for part in self._attributes(number, base=0):
                    if part.type == _DATA and not part.name:
                        runs += part.runs
                self._runs = tuple(runs)
        return tuple(runs)

    # ---- Records

    def _read_record(self, number: int) -> tuple[int, bytes]:
        """Where a record is on the volume, and its content without the fix-ups."""
        at, left = number * self._record_size, self._record_size
        content = b""
        offset = -1
        for run in self._runs:
            length = run.clusters * self._cluster
            if at < length and run.first >= 0:
                start = run.first * self._cluster + at
                offset = start if offset < 0 else offset
                content += self._read(run.first, min(left, length - at), at)
                left = self._record_size - len(content)
                if not left:
                    break
            at = max(0, at - length)
        else:
            raise _damaged("MFT", number * self._record_size, f"has no record {number}")
        return offset, self._fix_up(content, offset)

    @staticmethod
    def _fix_up(content: bytes, offset: int) -> bytes:
        """Put the last bytes of each 512 back, which were set aside to notice torn writes."""
        magic, start, count, *_ = _RECORD.unpack_from(content)
        if magic != b"FILE":
            raise _damaged("MFT record", offset, "it does not begin with FILE")
        if not 2 <= count <= len(content) // _STRIDE + 1 or start + 2 * count > _STRIDE - 2:
            raise _damaged("MFT record", offset + 4, "its update sequence lies outside")
        fixed = bytearray(content)
        mark = content[start : start + 2]
        for number in range(1, count):
            end = number * _STRIDE
            if content[end - 2 : end] != mark:
                raise _damaged("MFT record", offset + end - 2, "it was not written whole")
            fixed[end - 2 : end] = content[start + 2 * number : start + 2 * number + 2]
        return bytes(fixed)

    def _attributes(self, number: int, base: int | None = None) -> Iterator[_Attribute]:
        """The attributes that matter here, of one record; ``base`` is whose continuation it is."""
        offset, record = self._read_record(number)
        *_, at, flags, used = _RECORD.unpack_from(record)
        if not flags & 1:
            raise _damaged("MFT record", offset + 22, f"record {number} is not in use")
        if base is not None and int.from_bytes(record[_BASE : _BASE + 6], "little") != base:
            raise _damaged("MFT record", offset + _BASE, f"it does not continue record {base}")
        used = min(used, len(record))
        while at + 4 <= used and record[at : at + 4] != b"\xff\xff\xff\xff":
            size = int.from_bytes(record[at + 4 : at + 8], "little") if at + 8 <= used else 0
            if size < _ATTRIBUTE.size + 8 or size % 8 or at + size > used:
                raise _damaged("attribute", offset + at, f"{size} bytes do not fit")
            attribute = self._parse(record[at : at + size], offset + at)
            if attribute is not None:
                yield attribute
            at += size

    def _parse(self, raw: bytes, offset: int) -> _Attribute | None:
        kind, _, non_resident, length, name_at, flags, _ = _ATTRIBUTE.unpack_from(raw)
        if kind not in (_ATTRIBUTE_LIST, _DATA):
            return None
        if name_at + 2 * length > len(raw):
            raise _damaged("attribute", offset + 10, "its name lies outside")
        text = raw[name_at : name_at + 2 * length].decode("utf-16-le", "surrogatepass")
        attribute = _Attribute(kind, text.encode("utf-8", "surrogatepass"), flags, offset)
        if not non_resident:
            attribute.size, at = _RESIDENT.unpack_from(raw, 16)
            attribute.valid = attribute.size
            if at + attribute.size > len(raw):
                raise _damaged("attribute", offset + 16, "its value lies outside")
            attribute.value = raw[at : at + attribute.size]
            return attribute
        if len(raw) < 16 + _NON_RESIDENT.size:
            raise _damaged("attribute", offset + 4, f"{len(raw)} bytes are too few")
        first, last, runs_at, unit, _, size, valid = _NON_RESIDENT.unpack_from(raw, 16)
        attribute.first, attribute.size, attribute.valid = first, size, min(valid, size)
        attribute.unit = unit if flags & _COMPRESSED else 0
        attribute.runs = tuple(self._unpack_runs(raw[runs_at:], offset + runs_at))
        if sum(run.clusters for run in attribute.runs) != (last + 1 - first) % 2**64:
            raise _damaged("attribute", offset + runs_at, "its runs are not as long as it is")
        return attribute

    def _unpack_runs(self, packed: bytes, offset: int) -> Iterator[_Run]:
        # fs/ntfs3/run.c (run_unpack): the sizes of a length and of a distance, and these two.
        at = before = 0
        while at < len(packed) and packed[at]:
            for_count, for_first = packed[at] & 0xF, packed[at] >> 4
            end = at + 1 + for_count + for_first
            count = int.from_bytes(packed[at + 1 : at + 1 + for_count], "little")
            if for_count > 8 or for_first > 8 or end > len(packed) or not 0 < count < 2**63:
                raise _damaged("runs", offset + at, "a run breaks their rules")
            if for_first:
                before += int.from_bytes(packed[end - for_first : end], "little", signed=True)
                if before < 0 or before + count > self._clusters:
                    raise _damaged("runs", offset + at, "a run lies beyond the volume")
            yield _Run(before if for_first else -1, count)
            at = end

    # ---- Streams

    def _listed(self, attributes: Iterable[_Attribute]) -> list[int]:
        """The records that an attribute list names for $DATA, in their order, each once."""
        lists = [one for one in attributes if one.type == _ATTRIBUTE_LIST]
        if not lists:
            return []
        found = lists[0]
        if found.size > _LIST_LIMIT:
            raise _damaged("attribute list", found.offset, f"{found.size} bytes")
        content = b"".join(self.content([found]))
        numbers: dict[int, None] = {}
        at = 0
        while at + _LIST_ENTRY.size <= len(content):
            kind, size, *_, reference, _ = _LIST_ENTRY.unpack_from(content, at)
            if size < _LIST_ENTRY.size:
                raise _damaged("attribute list", found.offset, f"an entry of {size} bytes")
            if kind == _DATA:
                numbers[reference & (1 << 48) - 1] = None
            at += size
        return list(numbers)

    def streams(self, number: int) -> dict[bytes, list[_Attribute]]:
        """The parts of each $DATA of a file, in their order, by its name."""
        own = list(self._attributes(number))
        parts = [one for one in own if one.type == _DATA]
        for listed in self._listed(own):
            if listed != number:
                more = self._attributes(listed, base=number)
                parts += [one for one in more if one.type == _DATA]
        found: dict[bytes, list[_Attribute]] = {}
        for part in sorted(parts, key=lambda one: one.first):
            before = found.setdefault(part.name, [])
            end = sum(run.clusters for one in before for run in one.runs)
            if part.first != end or (before and before[0].value is not None):
                raise _damaged("attribute", part.offset, "a part of it does not follow the others")
            before.append(part)
        return found

    def content(self, parts: list[_Attribute]) -> Iterator[bytes]:
        """What stands in an attribute, given all its parts."""
        head = parts[0]
        if head.value is not None:
            return iter([head.value] if head.value else [])
        runs = [run for part in parts for run in part.runs]
        if sum(run.clusters for run in runs) * self._cluster < head.size:
            raise _damaged("attribute", head.offset, f"{head.size} bytes in fewer clusters")
        if not head.unit:
            return self._plain(runs, head)
        unit = self._cluster << head.unit if head.unit < 16 else 0
        if not 0 < unit <= _UNIT_LIMIT:
            raise _damaged("attribute", head.offset + 0x22, f"a compression unit of {head.unit}")
        return self._compressed(runs, head)

    def _read(self, first: int, length: int, offset: int = 0) -> bytes:
        start = first * self._cluster + offset
        content = self._volume.read(start, length)
        if len(content) < length:
            raise _damaged("cluster", start, "it lies behind the end of the image")
        return content

    def _plain(self, runs: list[_Run], head: _Attribute) -> Iterator[bytes]:
        left, valid = head.size, head.valid
        for run in runs:
            within, end = 0, run.clusters * self._cluster
            while within < end and left:
                length = min(_PIECE, end - within, left)
                kept = min(length, valid) if run.first >= 0 else 0
                piece = self._read(run.first, kept, within) if kept else b""
                yield piece.ljust(length, b"\0")
                within += length
                left -= length
                valid = max(0, valid - length)

    def _compressed(self, runs: list[_Run], head: _Attribute) -> Iterator[bytes]:
        per_unit = 1 << head.unit
        size = per_unit * self._cluster
        left, valid = head.size, head.valid
        # What is left of the runs, the next one last.
        rest = runs[::-1]
        while left:
            stored, wanted = b"", per_unit
            holes = False
            while wanted and rest:
                run = rest.pop()
                count = min(run.clusters, wanted)
                if count < run.clusters:
                    further = run.first + count if run.first >= 0 else -1
                    rest.append(_Run(further, run.clusters - count))
                holes |= run.first < 0
                if run.first >= 0:
                    stored += self._read(run.first, count * self._cluster)
                wanted -= count
            if stored and holes:
                stored = _decompress(stored, size, head.offset)
            length = min(size, left)
            yield stored[: min(length, valid)].ljust(length, b"\0")
            left -= length
            valid = max(0, valid - length)


def _decompress(packed: bytes, limit: int, offset: int) -> bytes:
    """LZNT1: at most ``limit`` bytes; ``offset`` is the attribute's, for messages."""
    out = bytearray()
    at = 0
    while at + 2 <= len(packed) and len(out) < limit:
        header = int.from_bytes(packed[at : at + 2], "little")
        if not header:
            break
        end = at + (header & 0xFFF) + 3
        if end > len(packed):
            raise _damaged("compressed stream", offset, "a chunk lies outside")
        if header & 0x8000:
            out += _decompress_chunk(packed[at + 2 : end], offset)
        else:
            out += packed[at + 2 : end]
        at = end
        # A chunk that is short is followed by zeros.
        if len(out) % _CHUNK:
            out += bytes(-len(out) % _CHUNK)
    return bytes(out[:limit])


def _decompress_chunk(packed: bytes, offset: int) -> bytes:
    out = bytearray()
    at = 0
    while at < len(packed):
        flags = packed[at]
        at += 1
        for bit in range(8):
            if at >= len(packed):
                break
            if not flags >> bit & 1:
                out.append(packed[at])
                at += 1
                continue
            # The more there is already, the more bits are the distance's.
            pair = int.from_bytes(packed[at : at + 2], "little")
            at += 2
            shift = 12 - max(0, (len(out) - 1).bit_length() - 4)
            distance, length = (pair >> shift) + 1, (pair & (1 << shift) - 1) + 3
            if distance > len(out) or len(out) + length > _CHUNK or at > len(packed):
                raise _damaged("compressed stream", offset, "a copy from outside its chunk")
            if distance >= length:
                out += out[-distance : len(out) - distance + length]
            else:
                pattern = out[-distance:]
                out += (pattern * (length // distance + 1))[:length]
    return bytes(out)
