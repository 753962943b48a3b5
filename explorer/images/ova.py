# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""OVA: the disks of a virtual appliance, opened where they lie in its archive.

A tar archive holds a description of the machine (OVF), which lists files and disks. Sources: DMTF
DSP0243, "Open Virtualization Format Specification", sections 5 and 7; POSIX, "pax", for the
archive; the GNU tar manual, "Basic Tar Format", for its extensions.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes
from xml.parsers import expat

from explorer.core.errors import MissingPart, SourceError, UnsupportedFeature
from explorer.core.names import show_name
from explorer.images.concat import JoinedFile
from explorer.images.files import FileRange, Folder, SourceFile
from explorer.images.inner import InnerImage
from explorer.images.opening import find_choice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.images.base import Fact, Image
    from explorer.images.opening import Opening

_BLOCK = 512
_SIZE_LIMIT = 2**63 - 4096

HEADER_LIMIT = 10_000
DESCRIPTION_LIMIT = 4 << 20
"""Bytes of XML."""

# Names and other records that precede a member.
_RECORDS_LIMIT = 1 << 20


# ---- The archive


class Member(NamedTuple):
    """A file in the archive."""

    start: int
    size: int
    plain: bool
    """Whether its bytes are there as they are, not as a list of ranges or another's name."""


def read_archive(opening: Opening) -> dict[bytes, Member]:
    """The files of a tar archive by name, in order; of those of the same name, the last.

    Raises :exc:`ImageError` for what is no archive. One that is cut off has its first members.
    """
    members: dict[bytes, Member] = {}
    name: bytes | None = None
    size: int | None = None
    plain = True
    at = 0
    for _ in range(HEADER_LIMIT):
        if at + _BLOCK > opening.file.size:
            return members
        header = opening.file.read(at, _BLOCK)
        if not any(header):
            return members
        _check_sum(opening, at, header)
        kind = header[156:157]
        start = at + _BLOCK
        length = _number(opening, at, header[124:136])
        if kind == b"L":
            name = _read_records(opening, start, length).rstrip(b"\0")
        elif kind == b"x":
            records = dict(_parse_records(opening, start, _read_records(opening, start, length)))
            name = records.get(b"GNU.sparse.name", records.get(b"path", name))
            if b"size" in records:
                size = _decimal(opening, start, records[b"size"])
            plain = not any(key.startswith(b"GNU.sparse.") for key in records)
        elif kind not in (b"g", b"K"):
            # What was recorded is of this member only.
            length = length if size is None else size
            if kind in (b"0", b"\0", b"7", b"1", b"S"):
                plain = plain and kind not in (b"1", b"S")
                key = _clean(_header_name(header) if name is None else name)
                members[key] = Member(start, length, plain)
            name, size, plain = None, None, True
        if length > _SIZE_LIMIT:
            raise opening.corrupt("tar header", at, f"a member of {length} bytes")
        at = start + -(-length // _BLOCK) * _BLOCK
    raise opening.unsupported(f"an archive of more than {HEADER_LIMIT} members")


def _check_sum(opening: Opening, at: int, header: bytes) -> None:
    # The sum of all bytes, of which those of the sum itself count as blanks.
    wanted = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if _number(opening, at, header[148:156]) != wanted:
        raise opening.corrupt("tar header", at, "the checksum is wrong")


def _number(opening: Opening, at: int, data: bytes) -> int:
    """Octal digits; or binary, which the first bit tells."""
    if data[0] & 0x80:
        return int.from_bytes(data, "big") & ~(0x80 << 8 * (len(data) - 1))
    digits = data.strip(b"\0 ")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise opening.corrupt("tar header", at, f"{show_name(data)} is no number")
    return int(digits or b"0", 8)


def _decimal(opening: Opening, at: int, data: bytes) -> int:
    if not re.fullmatch(rb"\d{1,20}", data):
        raise opening.corrupt("pax record", at, "the size is no number")
    return int(data)


def _header_name(header: bytes) -> bytes:
    name = header[:100].split(b"\0")[0]
    # GNU tar has other fields in place of the prefix.
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].split(b"\0")[0] + b"/" + name
    return name


def _read_records(opening: Opening, start: int, length: int) -> bytes:
    if length > _RECORDS_LIMIT:
        raise opening.corrupt("tar header", start - _BLOCK, f"{length} bytes of records")
    return opening.read_exactly(start, length, "pax records")


def _parse_records(opening: Opening, start: int, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of ``LENGTH KEY=VALUE`` lines, the length being that of the whole line."""
    at = 0
    while at < len(data):
        found = re.compile(rb"(\d{1,8}) ([^=]+)=").match(data, at)
        end = at + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise opening.corrupt("pax record", start + at, "it is no record")
        yield found[2], data[found.end() : end - 1]
        at = end


def _clean(name: bytes) -> bytes:
    return posixpath.normpath(b"/" + name).lstrip(b"/")


class ArchiveFolder(Folder):
    """The archive's members; nothing outside of it can be named."""

    def __init__(self, opening: Opening, members: dict[bytes, Member]) -> None:
        """Of ``opening.file``, which whoever opened it closes."""
        self._opening = opening
        self._members = members

    def open(self, name: bytes, role: str, owner: str) -> tuple[SourceFile, Folder]:
        """Open a member, or the chunks of one, as a part of the archive's file."""
        name = _clean(name)
        if name in self._members:
            return self._range(name), self
        chunks: list[SourceFile] = []
        # DSP0243, section 7.1: numbers of nine digits.
        while (chunk := b"%b.%09d" % (name, len(chunks))) in self._members:
            chunks.append(self._range(chunk))
        if not chunks:
            raise MissingPart("image.missing-part", path=owner, role=role, name=show_name(name))
        return JoinedFile(chunks, self._shown(name)), self

    def _range(self, name: bytes) -> SourceFile:
        start, size, plain = self._members[name]
        file = self._opening.file
        if not plain:
            raise self._opening.unsupported(f"the member {show_name(name)}, which is not plain,")
        if not size:
            raise SourceError("source.empty", path=self._shown(name))
        if start + size > file.size:
            raise self._opening.corrupt(
                "tar member", start, f"{size} bytes are beyond the end of the file"
            )
        return FileRange(file, start, size, self._shown(name))

    def _shown(self, name: bytes) -> str:
        return f"{self._opening.path}: {show_name(name)}"

    def names(self) -> list[bytes]:
        """The names of all members."""
        return list(self._members)


# ---- The description


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of the machine that has a file."""

    disk_id: str
    file_id: str
    href: str
    has_parent: bool

    @property
    def names(self) -> list[bytes]:
        """What its file may be called in the archive: it is written as a part of a URL."""
        return list(dict.fromkeys((self.href.encode(), unquote_to_bytes(self.href))))


class _DescriptionReader:
    """Finds files and disks in a description; namespaces differ between versions of OVF."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._disks: list[dict[str, str]] = []

    def read(self, data: bytes) -> list[Disk]:
        """The disks that have a file; raises :exc:`ValueError` and what the parser raises."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._open
        parser.Parse(data, True)
        return [
            Disk(
                disk.get("diskId", ""),
                disk["fileRef"],
                self._files[disk["fileRef"]],
                bool(disk.get("parentRef")),
            )
            for disk in self._disks
            if disk.get("fileRef") in self._files
        ]

    def _refuse_doctype(self, *_declared: object) -> None:
        raise ValueError("it has a document type, which may declare entities")

    def _open(self, name: str, attributes: dict[str, str]) -> None:
        kind = name.rpartition(" ")[2]
        if kind not in ("File", "Disk"):
            return
        values = {key.rpartition(" ")[2]: value for key, value in attributes.items()}
        if kind == "Disk":
            self._disks.append(values)
        elif "href" in values:
            self._files[values.get("id", "")] = values["href"]


def _read_description(opening: Opening, member: Member) -> list[Disk]:
    if member.size > DESCRIPTION_LIMIT:
        raise opening.unsupported(f"a description of {member.size} bytes")
    data = opening.read_exactly(member.start, member.size, "OVF description")
    try:
        return _DescriptionReader().read(data)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise opening.corrupt("OVF description", member.start, str(error)) from None


# ---- The appliance


def open_ova(opening: Opening) -> Image:
    """Open the disk that was chosen, or the only one."""
    members = read_archive(opening)
    description = next((name for name in members if name.lower().endswith(b".ovf")), None)
    if description is None:
        raise opening.corrupt("tar archive", 0, "there is no description (.ovf) in it")
    disks = _read_description(opening, members[description])
    if not disks:
        raise opening.unsupported("an appliance without disks")
    disk = disks[_choose(opening, disks)]
    inside = replace(opening, folder=ArchiveFolder(opening, members))
    image = inside.open_other(disk.names, "disk", snapshot=opening.choices.snapshot)
    if disk.has_parent and image.parent is None:
        raise opening.unsupported("a disk that is the changes to another disk of the appliance")
    facts: dict[str, Fact] = {
        "appliance": show_name(description),
        "disk": _show(disk.href),
        "disks": [_show(one.href) for one in disks],
        "manifest": any(name.lower().endswith(b".mf") for name in members),
    }
    return InnerImage(image, facts)


def _show(text: str) -> str:
    return show_name(text.encode())


def _choose(opening: Opening, disks: list[Disk]) -> int:
    """Which disk is wanted: by the name of its file, the file's ID, or its own."""
    wanted = opening.choices.member
    if wanted is None and len(disks) == 1:
        return 0
    if wanted is not None:
        for names in (
            [disk.names[-1] for disk in disks],
            [disk.file_id.encode() for disk in disks],
            [disk.disk_id.encode() for disk in disks],
        ):
            place = find_choice(wanted, names)
            if place is not None:
                return place
    known = ", ".join(show_name(disk.names[-1]) for disk in disks)
    raise UnsupportedFeature("image.member-missing", path=opening.path, known=known)
