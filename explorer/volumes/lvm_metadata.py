# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""LVM2's physical volumes, and the text in which they tell of their volume group.

The structures on disk are those of LVM2's ``lib/label/label.h`` and ``lib/format_text/layout.h``;
the text's syntax is that of ``libdm/libdm-config.c``, in which also ``lvm.conf`` is written.
"""

from __future__ import annotations

import re
import zlib
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import VolumeError
from explorer.core.names import show_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.volumes.window import Window

SECTOR = 512

LARGEST_TEXT = 8 << 20
"""Bytes of metadata; LVM2 itself makes areas of 1 MiB, for two copies of it."""
MOST_VALUES = 600_000
"""Values and sections that a metadata text may hold: some 200 bytes of memory each."""
DEEPEST = 16
"""Sections within one another; LVM2 writes five."""

LARGEST_NUMBER = (1 << 63) - 1

# label_header: id, sector, crc, offset of the content, type
_LABEL = Struct("<8s Q I I 8s")
_CHECKED_FROM = 20
# pv_header: uuid and size of the device; the areas follow
_VOLUME = Struct("<32s Q")
# disk_locn: offset and size
_PLACE = Struct("<Q Q")
# mda_header: checksum, magic, version, own position, size of the area
_AREA = Struct("<I 16s I Q Q")
_AREA_MAGIC = b" LVM2 x[5A%r0N*>"
# raw_locn: offset of the text, its size and checksum, flags
_TEXT = Struct("<Q Q I I")
_AREA_HEADER = 512

_UUID_CUTS = (0, 6, 10, 14, 18, 22, 26, 32)
_UUID = re.compile(r"[A-Za-z0-9!#]{32}", re.ASCII)


# ---- Text --------------------------------------------------------------------------------------

Scalar = int | float | str
Value = Scalar | list[Scalar] | dict[str, "Value"]

_TOKEN = re.compile(
    r"(?:\s++|\#[^\n]*+)*+"
    r"(?:(?P<mark>[{}\[\]=,])"
    r'|(?P<quoted>"(?:[^"\\]++|\\.)*+")'
    r"|(?P<plain>'[^']*+')"
    r"|(?P<number>[-+]?[0-9]++(?:\.[0-9]*+)?+(?![^\s\#\"'{}\[\]=,]))"
    r"|(?P<word>[^\s\#\"'{}\[\]=,]++)"
    r"|(?P<end>\Z)"
    r"|(?P<wrong>.))",
    re.DOTALL | re.ASCII,
)
_ESCAPED = re.compile(r'\\(["\\])')
_LONGEST_NUMBER = 20


class _Parser:
    """Reads a text into dictionaries, without ever calling itself."""

    def __init__(self, text: str, volume: str) -> None:
        self._text = text
        self._volume = volume
        self._at = 0
        self._begin = 0
        self._values = 0

    def fault(self, reason: str) -> VolumeError:
        """The error for what was just read."""
        line = self._text.count("\n", 0, self._begin) + 1
        return corrupt(self._volume, f"line {line}", reason)

    def _next(self) -> tuple[str, str]:
        found = _TOKEN.match(self._text, self._at)
        # One of the alternatives matches anywhere.
        assert found is not None
        assert found.lastgroup is not None
        kind = found.lastgroup
        self._begin = found.start(kind)
        self._at = found.end()
        if kind == "wrong":
            raise self.fault("a string without an end")
        return kind, found[kind]

    def _count(self) -> None:
        self._values += 1
        if self._values > MOST_VALUES:
            raise self.fault(f"more than {MOST_VALUES} values")

    def parse(self) -> dict[str, Value]:
        """All of it."""
        top: dict[str, Value] = {}
        within = [top]
        while True:
            kind, token = self._next()
            if kind == "end":
                if len(within) > 1:
                    raise self.fault("a section without an end")
                return top
            if token == "}":
                within.pop()
                if not within:
                    raise self.fault("an end without a section")
                continue
            if kind not in ("word", "number", "quoted"):
                raise self.fault(f"{self._show(token)} instead of a name")
            name = self._string(token) if kind == "quoted" else token
            if name in within[-1]:
                raise self.fault(f"{self._show(name)} is there twice")
            self._count()
            _kind, mark = self._next()
            if mark == "{":
                if len(within) > DEEPEST:
                    raise self.fault(f"more than {DEEPEST} sections within one another")
                section: dict[str, Value] = {}
                within[-1][name] = section
                within.append(section)
            elif mark == "=":
                within[-1][name] = self._value()
            else:
                raise self.fault(f"{self._show(mark)} after the name {self._show(name)}")

    def _value(self) -> Value:
        kind, token = self._next()
        if token != "[":
            return self._scalar(kind, token)
        values: list[Scalar] = []
        kind, token = self._next()
        while token != "]":
            values.append(self._scalar(kind, token))
            kind, token = self._next()
            if token == ",":
                kind, token = self._next()
            elif token != "]":
                raise self.fault(f"{self._show(token)} within an array")
        return values

    def _scalar(self, kind: str, token: str) -> Scalar:
        self._count()
        if kind == "number":
            if len(token) > _LONGEST_NUMBER:
                raise self.fault("a number of too many digits")
            return float(token) if "." in token else int(token)
        if kind == "quoted":
            return self._string(token)
        if kind == "plain":
            return token[1:-1]
        if kind == "word":
            return token
        raise self.fault(f"{self._show(token)} instead of a value")

    @staticmethod
    def _string(token: str) -> str:
        return _ESCAPED.sub(r"\1", token[1:-1])

    @staticmethod
    def _show(token: str) -> str:
        return show_text(token[:40]) or "the end"


def show_text(text: str) -> str:
    """What stands in a text, safe to show."""
    return show_name(text.encode("latin-1", "replace"))


def parse_text(text: bytes, volume: str) -> Section:
    """Read a text of LVM2's, as nested sections; its strings keep bytes as they are, in Latin-1.

    ``volume`` names what it tells of in errors. Raises :exc:`VolumeError` with the line.
    """
    parser = _Parser(text.rstrip(b"\0").decode("latin-1"), volume)
    return Section(parser.parse(), volume, "")


class Section:
    """A section of a text, whose values are taken only as what they must be."""

    __slots__ = ("_values", "_volume", "where")

    def __init__(self, values: dict[str, Value], volume: str, where: str) -> None:
        """Used by :func:`parse_text` and by sections."""
        self._values = values
        self._volume = volume
        self.where = where
        """Names from the top, between slashes; safe to show."""

    def fault(self, reason: str, name: str = "") -> VolumeError:
        """The error for this section, or for one of its values."""
        parts = [part for part in (self.where, show_text(name)) if part]
        return corrupt(self._volume, "/".join(parts) or "the text", reason)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def number(
        self, name: str, lowest: int = 0, highest: int = LARGEST_NUMBER, default: int | None = None
    ) -> int:
        """A whole number within bounds; the default only where there is no such value."""
        value = self._values.get(name, default)
        if not isinstance(value, int):
            raise self.fault("not a whole number" if name in self else "is missing", name)
        if not lowest <= value <= highest:
            raise self.fault(f"{value} is out of bounds", name)
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self._values.get(name, default)
        if not isinstance(value, str):
            raise self.fault("not a string" if name in self else "is missing", name)
        return value

    def values(self, name: str) -> list[Scalar]:
        """An array, which may be written as a single value."""
        value = self._values.get(name)
        if value is None or isinstance(value, dict):
            raise self.fault("not an array" if name in self else "is missing", name)
        return value if isinstance(value, list) else [value]

    def texts(self, name: str) -> list[str]:
        """An array of strings; an empty one where there is none."""
        values = self.values(name) if name in self else []
        return [self._string(value, name) for value in values]

    def _string(self, value: Scalar, name: str) -> str:
        if not isinstance(value, str):
            raise self.fault("not an array of strings", name)
        return value

    def section(self, name: str) -> Section:
        """A section within; an empty one where there is none."""
        value = self._values.get(name, {})
        if not isinstance(value, dict):
            raise self.fault("not a section", name)
        where = f"{self.where}/{show_text(name)}" if self.where else show_text(name)
        return Section(value, self._volume, where)

    def sections(self) -> Iterator[tuple[str, Section]]:
        """All sections within, by name."""
        for name, value in self._values.items():
            if isinstance(value, dict):
                yield name, self.section(name)


def corrupt(volume: str, where: str, reason: str) -> VolumeError:
    """The error for metadata that breaks its rules."""
    return VolumeError("volume.corrupt-metadata", volume=volume, where=where, reason=reason)


# ---- Physical volumes --------------------------------------------------------------------------


class Metadata(NamedTuple):
    """A volume group, as one of its physical volumes tells of it."""

    name: str
    uuid: str
    sequence: int
    """Counts the changes; the highest is the newest."""
    group: Section


class PhysicalVolume(NamedTuple):
    """A disk, a partition or the like that belongs to a volume group."""

    uuid: str
    size: int
    """Bytes of the device, as it was when it became a physical volume."""
    device_size: int
    """Bytes of the device that it was found on."""
    metadata: Metadata | None
    """None: it keeps none, belongs to no group, or what it keeps is damaged."""
    fault: VolumeError | None
    """How its metadata is damaged, when no whole copy is left."""


def show_uuid(text: str) -> str:
    """A UUID of 32 characters as LVM2 shows it."""
    return "-".join(text[a:b] for a, b in pairwise(_UUID_CUTS))


def read_uuid(section: Section) -> str:
    """The UUID of what a section tells of, as LVM2 shows it."""
    text = section.text("id").replace("-", "")
    if not _UUID.fullmatch(text):
        raise section.fault("not a UUID", "id")
    return show_uuid(text)


def _checksum(content: bytes) -> int:
    # The usual CRC-32, but begun otherwise and not turned over at the end: INITIAL_CRC and
    # calc_crc() in LVM2's lib/misc/crc.c.
    return zlib.crc32(content, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def read_physical_volume(volume: Window) -> PhysicalVolume | None:
    """What a volume is as a physical volume; None when it is none.

    Raises :exc:`VolumeError` when its label is damaged. Damaged metadata is no error: others may
    have it, too.
    """
    failure: VolumeError | None = None
    for sector in range(4):
        block = volume.at(sector * SECTOR, SECTOR)
        if not block.startswith(b"LABELONE") or block[24:32] != b"LVM2 001":
            continue
        try:
            return _read_label(volume, sector, block)
        except VolumeError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return None


def _read_label(volume: Window, sector: int, block: bytes) -> PhysicalVolume:
    def fault(reason: str) -> VolumeError:
        return corrupt("LVM physical volume", f"label at byte {sector * SECTOR}", reason)

    _magic, own_sector, checksum, start, _type = _LABEL.unpack_from(block)
    if own_sector != sector:
        raise fault(f"says that it stands in sector {own_sector}")
    if checksum != _checksum(block[_CHECKED_FROM:]):
        raise fault("its checksum is wrong")
    if not _LABEL.size <= start <= SECTOR - _VOLUME.size:
        raise fault(f"its content begins at byte {start}")
    raw, size = _VOLUME.unpack_from(block, start)
    text = raw.decode("latin-1")
    if not _UUID.fullmatch(text):
        raise fault("not a UUID")
    uuid = show_uuid(text)
    # Areas for data, the end of that list, and areas for metadata.
    at = start + _VOLUME.size
    lists: list[list[tuple[int, int]]] = [[], []]
    for places in lists:
        while True:
            if at + _PLACE.size > SECTOR:
                raise fault("its areas have no end")
            offset, length = _PLACE.unpack_from(block, at)
            at += _PLACE.size
            if not offset:
                break
            places.append((offset, length))
    newest: Metadata | None = None
    failure: VolumeError | None = None
    for offset, length in lists[1]:
        try:
            found = _read_area(volume, uuid, offset, length)
        except VolumeError as error:
            failure = failure or error
            continue
        if found is not None and (newest is None or found.sequence > newest.sequence):
            newest = found
    return PhysicalVolume(uuid, size, volume.size, newest, None if newest else failure)


def _read_area(volume: Window, uuid: str, offset: int, size: int) -> Metadata | None:
    """The text that a metadata area holds; None when it holds none yet."""
    name = f"LVM physical volume {uuid}"

    def fault(reason: str) -> VolumeError:
        return corrupt(name, f"metadata area at byte {offset}", reason)

    if offset + _AREA_HEADER > volume.size:
        raise fault("it is beyond the end")
    header = volume.at(offset, _AREA_HEADER)
    checksum, magic, version, own_offset, own_size = _AREA.unpack_from(header)
    if checksum != _checksum(header[4:]):
        raise fault("its checksum is wrong")
    if magic != _AREA_MAGIC or version != 1:
        raise fault("not an area of this kind")
    if own_offset != offset:
        raise fault(f"says that it stands at byte {own_offset}")
    if own_size > size or own_size <= _AREA_HEADER:
        raise fault(f"a size of {own_size} bytes")
    # Behind the first of these there may be another, of a change that was not completed.
    start, length, checksum, _flags = _TEXT.unpack_from(header, _AREA.size)
    if not start:
        return None
    if length > LARGEST_TEXT:
        raise fault(f"a text of {length} bytes; {LARGEST_TEXT} is the most")
    if not _AREA_HEADER <= start < own_size or length > own_size - _AREA_HEADER:
        raise fault(f"a text of {length} bytes at byte {start} of {own_size}")
    # The area is a ring, but for its header.
    first = min(length, own_size - start)
    if offset + max(start + first, _AREA_HEADER + length - first) > volume.size:
        raise fault("its text is beyond the end")
    text = volume.at(offset + start, first)
    if length > first:
        text += volume.at(offset + _AREA_HEADER, length - first)
    if checksum != _checksum(text):
        raise fault("the checksum of its text is wrong")
    return _read_text(text, name)


def _read_text(text: bytes, volume: str) -> Metadata:
    top = parse_text(text, volume)
    if top.text("contents", "") != "Text Format Volume Group" or top.number("version") != 1:
        raise top.fault("not a text of a known version")
    groups = list(top.sections())
    if len(groups) != 1:
        raise top.fault(f"{len(groups)} volume groups")
    name, group = groups[0]
    return Metadata(show_text(name), read_uuid(group), group.number("seqno"), group)
