# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the header of a LUKS2 volume.

"LUKS2 On-Disk Format Specification", version 1.1: a binary header and metadata in JSON, twice, each
pair under a checksum of its own. Section 2 has the binary header, section 3 the metadata.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import CorruptImage, ImageError, UnsupportedFeature
from explorer.core.names import show_name
from explorer.images.luks import find_hash
from explorer.volumes.luks_header import (
    IGNORED,
    NORMAL,
    PREFERRED,
    SECTOR,
    Argon2,
    Digest,
    KeySlot,
    LuksHeader,
    Pbkdf2,
    Segment,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.volumes.window import Window

# Magic, version, size with the metadata, sequence number, label, checksum's algorithm, salt, UUID,
# subsystem, own offset, and after 184 unused bytes the checksum; padded to 4096 bytes.
_BINARY = Struct(">6sHQQ48s32s64s40s48sQ184x64s")
_BINARY_SIZE = 4096
_CHECKSUM = slice(_BINARY.size - 64, _BINARY.size)
_FIRST, _SECOND = b"LUKS\xba\xbe", b"SKUL\xba\xbe"
_SIZES = tuple(0x4000 << power for power in range(9))
"""Bytes that a header with its metadata may have."""
_MOST_KEYSLOTS_SIZE = 128 << 20

_MOST_SLOTS = 32
_MOST_KEY_SIZE = 4096
_MOST_STRIPES = 65536


class _Binary(NamedTuple):
    offset: int
    size: int
    sequence: int
    label: str
    uuid: str
    subsystem: str
    metadata: bytes


def _text(raw: bytes) -> str:
    return show_name(raw.split(b"\0")[0])


def _corrupt(name: str, structure: str, offset: int, reason: str) -> CorruptImage:
    return CorruptImage(
        "image.corrupt", path=name, structure=structure, offset=offset, reason=reason
    )


# ---- The binary header -------------------------------------------------------------------------


def _read_binary(volume: Window, offset: int, name: str) -> _Binary:
    """One of the two headers; raises :exc:`ImageError` when it is not whole."""
    structure = "LUKS2 binary header" if offset == 0 else "second LUKS2 binary header"

    def wrong(reason: str) -> CorruptImage:
        return _corrupt(name, structure, offset, reason)

    magic, version, size, sequence, label, algorithm, _salt, uuid, subsystem, own, checksum = (
        _BINARY.unpack(volume.at(offset, _BINARY.size))
    )
    if magic != (_SECOND if offset else _FIRST):
        raise wrong("the magic is not there")
    if version != 2:
        raise wrong(f"version {version}")
    if size not in _SIZES or (offset and size != offset):
        raise wrong(f"a size of {size} bytes")
    if own != offset:
        raise wrong(f"it says that it is at byte {own}")
    if offset + size > volume.size:
        raise wrong(f"{size} bytes are beyond the end of the volume")
    hashed = find_hash(_text(algorithm))
    if hashed is None:
        raise UnsupportedFeature(
            "image.feature", path=name, feature=f"the checksum {_text(algorithm)} of its header"
        )
    content = bytearray(volume.at(offset, size))
    content[_CHECKSUM] = bytes(64)
    found = hashed.new(content).digest()
    if checksum[: len(found)] != found:
        raise wrong("the checksum is wrong")
    metadata = bytes(content[_BINARY_SIZE:]).split(b"\0")[0]
    return _Binary(offset, size, sequence, _text(label), _text(uuid), _text(subsystem), metadata)


def read_luks2(volume: Window, name: str) -> LuksHeader | None:
    """The newer of the two headers, of those that are whole; None when there is no trace of one.

    Raises :exc:`CorruptImage` when both are damaged, for what the first has.
    """
    places = [0] if volume.has(0, _FIRST) and volume.be(6, 2) == 2 else []
    places += [size for size in _SIZES if volume.has(size, _SECOND)]
    if not places:
        return None
    failures: list[ImageError] = []
    newest: tuple[_Binary, LuksHeader] | None = None
    for offset in places:
        # The second stands right behind the first; one elsewhere is left over from before.
        if newest is not None and offset != newest[0].size:
            continue
        try:
            binary = _read_binary(volume, offset, name)
            header = _Metadata(binary, name).header()
        except ImageError as failure:
            failures.append(failure)
        else:
            if newest is None or binary.sequence > newest[0].sequence:
                newest = binary, header
    if newest is None:
        raise failures[0]
    return newest[1]


# ---- The metadata ------------------------------------------------------------------------------


class _Object:
    """An object of the metadata, whose members are checked as they are taken."""

    def __init__(self, members: object, where: str, name: str, offset: int) -> None:
        """``where`` is how errors name it, ``offset`` where the metadata is in the volume."""
        self.where = where
        self._name = name
        self._offset = offset
        if not isinstance(members, dict):
            raise self.wrong("is not an object")
        self._members: dict[str, object] = members

    def wrong(self, reason: str) -> CorruptImage:
        """The error for it."""
        return _corrupt(self._name, f"LUKS2 metadata, {self.where}", self._offset, reason)

    def _take(self, key: str) -> object:
        if key not in self._members:
            raise self.wrong(f"{key} is missing")
        return self._members[key]

    def has(self, key: str) -> bool:
        """Whether there is such a member."""
        return key in self._members

    def object(self, key: str) -> _Object:
        """A member that is an object."""
        return _Object(self._take(key), f"{self.where}.{key}", self._name, self._offset)

    def numbered(self, key: str) -> Iterator[tuple[int, _Object]]:
        """The members, in their order, of an object whose keys are numbers."""
        inner = self.object(key)
        for text in inner._members:
            if not _is_number(text):
                raise inner.wrong(f"{show_name(text.encode('utf-8', 'replace'))} is no number")
        for text in sorted(inner._members, key=int):
            yield int(text), inner.object(text)

    def text(self, key: str) -> str:
        """A member that is a text; safe to show."""
        value = self._take(key)
        if not isinstance(value, str):
            raise self.wrong(f"{key} is not a text")
        return show_name(value.encode("utf-8", "replace"))

    def texts(self, key: str) -> tuple[str, ...]:
        """A member that is an array of texts; empty when it is not there."""
        values = self._members.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.wrong(f"{key} is not an array of texts")
        return tuple(show_name(value.encode("utf-8", "replace")) for value in values)

    def number(self, key: str, least: int, most: int) -> int:
        """A member that is a number within limits."""
        value = self._take(key)
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(f"{key} is not a number from {least} to {most}")
        return value

    def bytes_count(self, key: str) -> int:
        """A member that is a 64-bit number, written as a text."""
        text = self.text(key)
        if not _is_number(text) or int(text) >= 1 << 64:
            raise self.wrong(f"{key} is not a number of 64 bits")
        return int(text)

    def sectors(self, key: str) -> int:
        """The same, of bytes in whole sectors."""
        count = self.bytes_count(key)
        if count % SECTOR:
            raise self.wrong(f"{key} is not a multiple of {SECTOR}")
        return count

    def base64(self, key: str) -> bytes:
        """A member that is bytes."""
        try:
            return b64decode(self.text(key), validate=True)
        except (binascii.Error, ValueError):
            raise self.wrong(f"{key} is not base64") from None

    def numbers(self, key: str) -> frozenset[int]:
        """A member that is an array of numbers, written as texts."""
        texts = self.texts(key)
        if not all(map(_is_number, texts)):
            raise self.wrong(f"{key} is not an array of numbers")
        return frozenset(map(int, texts))


def _is_number(text: str) -> bool:
    # No more digits than a number of 64 bits has.
    return text.isascii() and text.isdigit() and len(text) <= 20


class _Metadata:
    """Makes a header of the metadata behind a binary one."""

    def __init__(self, binary: _Binary, name: str) -> None:
        self._binary = binary
        self._name = name
        offset = binary.offset + _BINARY_SIZE
        try:
            content = json.loads(binary.metadata.decode("utf-8"))
        except (ValueError, RecursionError) as failure:
            # Of what json says, the first part is without what is in the text.
            reason = str(failure).split(":")[0].lower()
            raise _corrupt(name, "LUKS2 metadata", offset, reason) from None
        self._top = _Object(content, "all of it", name, offset)

    def header(self) -> LuksHeader:
        """All of it, checked; raises :exc:`CorruptImage`."""
        config = self._top.object("config")
        if config.sectors("json_size") != self._binary.size - _BINARY_SIZE:
            raise config.wrong("json_size is not that of the binary header")
        slots, foreign = self._slots(config)
        segments = self._segments()
        requirements = config.object("requirements") if config.has("requirements") else None
        return LuksHeader(
            version=2,
            size=2 * self._binary.size,
            uuid=self._binary.uuid,
            label=self._binary.label,
            subsystem=self._binary.subsystem,
            slots=slots,
            digests=tuple(self._digests()),
            segments=segments,
            foreign_slots=foreign,
            tokens=tuple(
                f"{number}: {token.text('type')}" for number, token in self._top.numbered("tokens")
            ),
            flags=config.texts("flags"),
            requirements=requirements.texts("mandatory") if requirements else (),
            secondary=self._binary.offset != 0,
        )

    def _slots(self, config: _Object) -> tuple[tuple[KeySlot, ...], tuple[str, ...]]:
        known: list[KeySlot] = []
        foreign: list[str] = []
        start = 2 * self._binary.size
        size = config.sectors("keyslots_size")
        if size > _MOST_KEYSLOTS_SIZE:
            raise config.wrong(f"keyslots_size is more than {_MOST_KEYSLOTS_SIZE}")
        areas: list[tuple[int, int, _Object]] = []
        for number, slot in self._top.numbered("keyslots"):
            if number >= _MOST_SLOTS:
                raise slot.wrong(f"more than {_MOST_SLOTS} key slots")
            area = slot.object("area")
            areas.append((area.sectors("offset"), area.sectors("size"), area))
            if slot.text("type") == "luks2":
                known.append(self._slot(number, slot, area))
            else:
                foreign.append(f"{number}: {slot.text('type')}")
        areas.sort(key=lambda area: area[:2])
        for offset, length, area in areas:
            if not length or offset < start or offset + length > start + size:
                raise area.wrong(f"{length} bytes at {offset} are not in the key slots' area")
        for before, after in pairwise(areas):
            if before[0] + before[1] > after[0]:
                raise after[2].wrong(f"it overlaps with {before[2].where}")
        return tuple(known), tuple(foreign)

    def _slot(self, number: int, slot: _Object, area: _Object) -> KeySlot:
        af = slot.object("af")
        if af.text("type") != "luks1" or area.text("type") != "raw":
            raise slot.wrong("af or area is of a type that is not known")
        key_size = slot.number("key_size", 1, _MOST_KEY_SIZE)
        stripes = af.number("stripes", 1, _MOST_STRIPES)
        if key_size * stripes > area.bytes_count("size"):
            raise area.wrong(f"{stripes} pieces of {key_size} bytes do not fit into it")
        return KeySlot(
            number,
            key_size,
            self._kdf(slot.object("kdf")),
            area.text("encryption"),
            area.number("key_size", 1, _MOST_KEY_SIZE),
            area.bytes_count("offset"),
            stripes,
            af.text("hash"),
            slot.number("priority", IGNORED, PREFERRED) if slot.has("priority") else NORMAL,
        )

    def _kdf(self, kdf: _Object) -> Pbkdf2 | Argon2:
        kind = kdf.text("type")
        most = (1 << 32) - 1
        if kind == "pbkdf2":
            return self._pbkdf2(kdf)
        if kind not in ("argon2i", "argon2id"):
            raise kdf.wrong(f"{kind} is not known")
        return Argon2(
            kind,
            kdf.number("time", 1, most),
            kdf.number("memory", 1, most),
            kdf.number("cpus", 1, most),
            kdf.base64("salt"),
        )

    def _pbkdf2(self, kdf: _Object) -> Pbkdf2:
        iterations = kdf.number("iterations", 1, (1 << 32) - 1)
        return Pbkdf2(kdf.text("hash"), iterations, kdf.base64("salt"))

    def _digests(self) -> Iterator[Digest]:
        for _number, digest in self._top.numbered("digests"):
            if digest.text("type") != "pbkdf2":
                raise digest.wrong(f"{digest.text('type')} is not known")
            value = digest.base64("digest")
            if not value:
                raise digest.wrong("digest is empty")
            yield Digest(
                self._pbkdf2(digest), value, digest.numbers("keyslots"), digest.numbers("segments")
            )

    def _segments(self) -> tuple[Segment, ...]:
        segments = [self._segment(*one) for one in self._top.numbered("segments")]
        found = tuple(segment for segment in segments if segment is not None)
        if not found:
            raise self._top.object("segments").wrong("is empty")
        for segment in found[:-1]:
            if segment.size is None:
                raise self._top.object("segments").wrong(
                    f"{segment.number} has all that follows, and is not the last"
                )
        if len(found) > 1 and any(segment.integrity for segment in found):
            raise self._top.object("segments").wrong("one of several is authenticated")
        return found

    def _segment(self, number: int, segment: _Object) -> Segment | None:
        # What the state before or after a change of the encryption is remembered by.
        if any(flag.startswith("backup-") for flag in segment.texts("flags")):
            return None
        offset = segment.sectors("offset")
        size = None if segment.text("size") == "dynamic" else segment.sectors("size")
        if size == 0:
            raise segment.wrong("it is empty")
        if segment.text("type") == "linear":
            return Segment(number, offset, size)
        if segment.text("type") != "crypt":
            raise UnsupportedFeature(
                "image.feature",
                path=self._name,
                feature=f"its segment {number} of the type {segment.text('type')}",
            )
        sector = segment.number("sector_size", SECTOR, 4096)
        if sector.bit_count() != 1 or (size or 0) % sector:
            raise segment.wrong("sector_size is no power of 2, or size no multiple of it")
        first = segment.bytes_count("iv_tweak")
        if first % (sector // SECTOR):
            raise segment.wrong("iv_tweak is no multiple of sector_size")
        integrity, integrity_key = "", 0
        if segment.has("integrity"):
            tags = segment.object("integrity")
            integrity = tags.text("type")
            journal = {tags.text("journal_encryption"), tags.text("journal_integrity")}
            if journal != {"none"}:
                raise UnsupportedFeature(
                    "image.feature", path=self._name, feature="an encrypted integrity journal"
                )
            if tags.has("key_size"):
                integrity_key = tags.number("key_size", 1, _MOST_KEY_SIZE)
        return Segment(
            number,
            offset,
            size,
            segment.text("encryption"),
            sector,
            first,
            integrity,
            integrity_key,
        )
