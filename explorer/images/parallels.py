# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Parallels images: expandable ones, and the disks that a DiskDescriptor.xml makes of several.

Described in QEMU's docs/interop/parallels.rst and prl-xml.rst, whose words are used here.
"""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET

from explorer.core.errors import CorruptImage, UnsupportedFeature
from explorer.core.names import show_name
from explorer.images.base import Fact, Image, Piece, clip_parent
from explorer.images.blocks import BlockTable
from explorer.images.concat import Part, Parts
from explorer.images.opening import CHAIN_LIMIT, find_choice
from explorer.images.raw import RawImage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.images.opening import Opening

HEADER = "Parallels header"
TABLE = "Parallels block allocation table"
EXTENSION = "Parallels format extension"
DESCRIPTOR = "Parallels disk descriptor"

_SECTOR = 512
_LARGEST_DISK = (1 << 63) - 4096

# Section "Header": magic, version, heads, cylinders, sectors of a cluster, entries, sectors of the
# disk, whether it is open, start of the data, flags, start of the extension.
_LAYOUT = struct.Struct("<16sIIIIIQIIIQ")
_MAGIC = b"WithoutFreeSpace"
_MAGIC_EXTENDED = b"WithouFreSpacExt"
_LARGEST_CLUSTER = 64 << 20
_IN_USE = {0x746F6E59: "open, or not closed in order", 0x312E3276: "closed", 0: "unknown"}
_EMPTY = 1 << 0

# Section "Format Extension": magic and MD5; then of each feature magic, flags, bytes of data.
_EXTENSION = struct.Struct("<Q16s")
_EXTENSION_MAGIC = 0xAB234CEF23DCEA87
_FEATURE = struct.Struct("<QQI4x")
_END = 0
_FEATURES = {0x20385FAE252CB34A: "dirty bitmap"}
_NECESSARY = 1 << 0

_DESCRIPTOR_LIMIT = 1 << 20
_PARTS_LIMIT = 1000
_TOP = "5fbaabe3-6958-40ff-92a7-860e329aab41"
_NONE = "00000000-0000-0000-0000-000000000000"


class _Header(NamedTuple):
    """What is used of the header."""

    size: int
    cluster: int
    """Bytes, as all of these."""
    unit: int
    """What the entries of the table count."""
    entries: int
    in_use: int
    flags: int
    extension: int


def _read_header(opening: Opening) -> _Header:
    raw = opening.read_exactly(0, _LAYOUT.size, HEADER)
    (
        magic,
        version,
        _heads,
        _cylinders,
        tracks,
        entries,
        sectors,
        in_use,
        _data,
        flags,
        extension,
    ) = _LAYOUT.unpack(raw)
    if magic not in (_MAGIC, _MAGIC_EXTENDED):
        raise opening.corrupt(HEADER, 0, "the magic is missing")
    if version != 2:
        raise opening.unsupported(f"version {version} of the Parallels format")
    cluster = tracks * _SECTOR
    if not 0 < cluster <= _LARGEST_CLUSTER:
        raise opening.corrupt(HEADER, 28, f"clusters of {cluster} bytes")
    if magic == _MAGIC:
        sectors &= 0xFFFFFFFF
    size = sectors * _SECTOR
    if not 0 < size <= min(entries * cluster, _LARGEST_DISK):
        raise opening.corrupt(
            HEADER, 36, f"a disk of {size} bytes in {entries} clusters of {cluster}"
        )
    unit = _SECTOR if magic == _MAGIC else cluster
    return _Header(size, cluster, unit, entries, in_use, flags, extension * _SECTOR)


def _read_extension(opening: Opening, header: _Header) -> list[str]:
    """Names of the features that the extension adds; raises for those that must be known."""
    from hashlib import md5

    place = header.extension
    raw = opening.read_exactly(place, header.cluster, EXTENSION)
    magic, checksum = _EXTENSION.unpack_from(raw)
    if magic != _EXTENSION_MAGIC:
        raise opening.corrupt(EXTENSION, place, "the magic is missing")
    if md5(raw[_EXTENSION.size :], usedforsecurity=False).digest() != checksum:
        raise opening.corrupt(EXTENSION, place + 8, "the checksum is wrong")
    names: list[str] = []
    at = _EXTENSION.size
    while at + _FEATURE.size <= len(raw):
        magic, flags, length = _FEATURE.unpack_from(raw, at)
        if magic == _END:
            return names
        name = _FEATURES.get(magic)
        if name is None:
            name = f"0x{magic:016x}"
            if flags & _NECESSARY:
                raise opening.unsupported(f"the extension {name} of the Parallels format")
        names.append(name)
        at += -(-(_FEATURE.size + length) // 8) * 8
    raise opening.corrupt(EXTENSION, place + at, "it has no end")


class ParallelsImage(Image):
    """An expandable image."""

    format = "parallels"

    def __init__(self, opening: Opening, parent: Image | None = None) -> None:
        """Of the opening's file; ``parent`` has what it does not.

        Raises :exc:`CorruptImage` or :exc:`UnsupportedFeature` when it cannot be read.
        """
        super().__init__()
        self._opening = opening
        self._file = opening.file
        self._parent = parent
        self._header = header = _read_header(opening)
        self._extensions = _read_extension(opening, header) if header.extension else []
        # The used part of the table only, which may be longer than the disk.
        count = -(-header.size // header.cluster)
        self._table = BlockTable(opening, TABLE, _LAYOUT.size, count)

    @property
    def path(self) -> str:
        """The file's path, safe to show."""
        return self._file.path

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self._header.size

    @property
    def parent(self) -> Image | None:
        """The image of the snapshot before."""
        return self._parent

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Clusters of the file, and what the parent has; zeros where neither has any."""
        end = offset + length
        header = self._header
        cluster = header.cluster
        runs = self._table.runs(offset // cluster, -(-end // cluster), bool, cluster // header.unit)
        for index, count, entry in runs:
            start = max(offset, index * cluster)
            length = min(end, (index + count) * cluster) - start
            if not entry:
                yield from clip_parent(self._parent, start, length)
                continue
            position = entry * header.unit
            if position < _LAYOUT.size + 4 * header.entries:
                raise self._wrong(index, f"cluster {index} is in the table itself")
            position += start - index * cluster
            if position + length > self._file.size:
                raise self._wrong(
                    index,
                    f"cluster {index} is beyond the end of the file ({self._file.size} bytes)",
                )
            yield Piece(length, self._file, position)

    def _wrong(self, index: int, reason: str) -> CorruptImage:
        return self._opening.corrupt(TABLE, self._table.position(index), reason)

    def facts(self) -> dict[str, Fact]:
        """Type, cluster size, and what its writer left."""
        header = self._header
        facts: dict[str, Fact] = {
            "type": "expandable",
            "cluster size": header.cluster,
            "state": _IN_USE.get(header.in_use, f"0x{header.in_use:08x}"),
        }
        if header.flags & _EMPTY:
            facts["marked empty"] = True
        if self._extensions:
            facts["extensions"] = self._extensions
        return facts


# ---- Disks of several images -------------------------------------------------------------------


class _Builder(ET.TreeBuilder):
    """Makes a tree of a document without a type declaration: in one, entities could be."""

    def doctype(self, _name: str, _public: str | None, _system: str | None) -> None:
        raise ValueError("a document type declaration")


class _Descriptor:
    """A parsed DiskDescriptor.xml."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        size = opening.file.size
        if size > _DESCRIPTOR_LIMIT:
            raise self.corrupt(f"a text of {size} bytes")
        parser = ET.XMLParser(target=_Builder())
        try:
            parser.feed(opening.file.read(0, size))
            self.root = parser.close()
        except (ET.ParseError, ValueError, LookupError) as error:
            raise self.corrupt(str(error)) from None
        if self.root.tag != "Parallels_disk_image":
            raise self.corrupt("it is another document")
        version = self.root.get("Version", "")
        if version != "1.0":
            raise opening.unsupported(f"version {show_name(version.encode())} of {DESCRIPTOR}s")

    def corrupt(self, reason: str) -> CorruptImage:
        """The error for a descriptor that breaks the rules."""
        return self._opening.corrupt(DESCRIPTOR, 0, show_name(reason.encode(errors="replace")))

    def text(self, element: ET.Element, path: str, default: str | None = None) -> str:
        """The text of an element below another; one without a default must be there."""
        found = element.find(path)
        text = ("" if found is None else found.text or "").strip()
        if text:
            return text
        if default is None:
            raise self.corrupt(f"{path} is missing")
        return default

    def guid(self, element: ET.Element, path: str, default: str | None = None) -> str:
        """The identifier in an element below another, without its braces."""
        return self.text(element, path, default).strip("{}").lower()

    def number(self, element: ET.Element, path: str, default: str | None = None) -> int:
        """The number in an element below another."""
        text = self.text(element, path, default)
        if not re.fullmatch("[0-9]{1,18}", text):
            raise self.corrupt(f"{path} is no number")
        return int(text)


class ParallelsDisk(Image):
    """A disk whose descriptor names the images that hold it."""

    format = "parallels"

    def __init__(self, opening: Opening) -> None:
        """Of the descriptor that is the opening's file, and the images beside it."""
        super().__init__()
        self._opening = opening
        self._descriptor = descriptor = _Descriptor(opening)
        parameters = descriptor.root.find("Disk_Parameters")
        if parameters is None:
            raise descriptor.corrupt("Disk_Parameters is missing")
        self._check_parameters(parameters)
        self._parents = self._read_snapshots()
        self._top = self._choose()
        self._images: list[Image] = []
        parts: list[Part[Image | None]] = []
        at = 0
        storages = descriptor.root.findall("StorageData/Storage")
        if len(storages) > _PARTS_LIMIT:
            raise descriptor.corrupt(f"{len(storages)} storages")
        for storage in storages:
            start, end = descriptor.number(storage, "Start"), descriptor.number(storage, "End")
            if not at == start < end:
                raise descriptor.corrupt(f"a storage from {start} to {end} after {at}")
            image = self._open_storage(storage)
            self._images.append(image)
            # An image may be shorter or longer than what it stands for.
            size = (end - start) * _SECTOR
            stored = min(size, image.size)
            row: tuple[Part[Image | None], ...] = (Part(stored, image), Part(size - stored, None))
            parts += [part for part in row if part.length]
            at = end
        if not at or at != descriptor.number(parameters, "Disk_size"):
            raise descriptor.corrupt(f"storages of {at} sectors for a disk of another size")
        self._parts = Parts(parts)
        if self._parts.size > _LARGEST_DISK:
            raise descriptor.corrupt(f"a disk of {at} sectors")

    def _check_parameters(self, parameters: ET.Element) -> None:
        descriptor, opening = self._descriptor, self._opening
        if descriptor.number(parameters, "Padding", "0"):
            raise opening.unsupported("a Parallels disk with padding")
        if descriptor.guid(parameters, "Encryption/Engine", _NONE) != _NONE:
            raise opening.unsupported("an encrypted Parallels disk")
        sector = descriptor.number(parameters, "LogicSectorSize", str(_SECTOR))
        if sector != _SECTOR:
            raise opening.unsupported(f"a Parallels disk with sectors of {sector} bytes")

    def _read_snapshots(self) -> dict[str, str]:
        """Each snapshot's identifier, and its parent's."""
        parents = {}
        for shot in self._descriptor.root.findall("Snapshots/Shot"):
            guid = self._descriptor.guid(shot, "GUID")
            parents[guid] = self._descriptor.guid(shot, "ParentGUID", _NONE)
        return parents

    def _choose(self) -> str:
        """The snapshot to show: the one that was chosen, or the present state."""
        top = self._descriptor.guid(self._descriptor.root, "Snapshots/TopGUID", _TOP)
        wanted = self._opening.choices.snapshot
        if wanted is None:
            return top
        known = list(self._parents)
        number = find_choice(wanted.strip("{}").lower(), [guid.encode() for guid in known])
        if number is None:
            raise UnsupportedFeature(
                "image.snapshot-missing",
                path=self._opening.path,
                wanted=wanted,
                known=", ".join(show_name(guid.encode()) for guid in known),
            )
        return known[number]

    def _open_storage(self, storage: ET.Element) -> Image:
        """The image of the snapshot to show, with those before it behind it."""
        descriptor = self._descriptor
        elements = {
            descriptor.guid(element, "GUID"): element for element in storage.findall("Image")
        }
        guid = self._top
        chain: list[ET.Element] = []
        while guid != _NONE:
            if guid not in elements:
                raise descriptor.corrupt(f"the image of the snapshot {guid} is missing")
            if len(chain) == CHAIN_LIMIT:
                raise descriptor.corrupt(f"more than {CHAIN_LIMIT} images behind one another")
            chain.append(elements[guid])
            # A disk without snapshots need not tell of them.
            guid = self._parents.get(guid, _NONE)
        image: Image | None = None
        for element in reversed(chain):
            image = self._open_image(element, image)
        if image is None:
            raise descriptor.corrupt("no snapshot is the present one")
        return image

    def _open_image(self, element: ET.Element, parent: Image | None) -> Image:
        kind = self._descriptor.text(element, "Type")
        name = self._descriptor.text(element, "File").encode(errors="surrogateescape")
        if kind not in ("Plain", "Compressed"):
            raise self._opening.unsupported(
                f"a Parallels image of the type {show_name(kind.encode())}"
            )
        file = self._opening.open_file([name, name.rpartition(b"/")[2]], "image")
        if kind == "Compressed":
            return ParallelsImage(replace(self._opening, file=file), parent)
        if parent is not None:
            raise self._descriptor.corrupt("a plain image that has a parent")
        return RawImage(file)

    @property
    def path(self) -> str:
        """The descriptor's path, safe to show."""
        return self._opening.path

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self._parts.size

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """Those of the images, one after the other."""
        return self._parts.pieces(offset, length)

    def plain_file(self) -> int | None:
        """The file of a single plain image, when it is as long as the disk."""
        image = self._images[0]
        alone = len(self._images) == 1 and image.size >= self.size
        return image.plain_file() if alone else None

    def facts(self) -> dict[str, Fact]:
        """The images in use, and the snapshots."""
        facts: dict[str, Fact] = {"type": "descriptor", "storages": len(self._images)}
        paths: list[str] = []
        for image in self._images:
            one: Image | None = image
            while one is not None:
                paths.append(one.path)
                one = one.parent
        facts["images"] = paths
        facts["snapshot"] = show_name(self._top.encode())
        others = [show_name(guid.encode()) for guid in self._parents if guid != self._top]
        if others:
            facts["snapshots"] = others
        return facts


def open_parallels(opening: Opening) -> Image:
    """Open an expandable image, or the disk that a descriptor tells of."""
    if opening.file.read(0, 16) in (_MAGIC, _MAGIC_EXTENDED):
        return ParallelsImage(opening)
    return ParallelsDisk(opening)
