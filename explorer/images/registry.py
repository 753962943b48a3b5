# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Chooses the format of a source.

Each format looks at the first and last bytes and gives a score; the best one opens the source.
Raw takes what no other wants. A container that is recognised but has no reader is refused by its
name: read as raw it would only look like a disk of nonsense.

A format's module is imported when it is needed: a listing shall not wait for all of them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from explorer.core.errors import UnsupportedFeature
from explorer.images.access import access
from explorer.images.files import Folder, Origin, SourceFile, Stored
from explorer.images.opening import Choices, Opening

if TYPE_CHECKING:
    from collections.abc import Callable

    from explorer.images.base import Image

HEAD_SIZE = 65536
TAIL_SIZE = 512

LIKELY = 50
"""The score of a probe that goes by more than a magic number, or by less."""
CERTAIN = 100


@dataclass(frozen=True, slots=True)
class Ends:
    """What a probe may look at."""

    head: bytes
    """The first :data:`HEAD_SIZE` bytes, or all."""
    tail: bytes
    """The last :data:`TAIL_SIZE` bytes, or all."""
    size: int
    name: bytes = b""
    """The file's own name; only what the content cannot tell goes by it."""


@dataclass(frozen=True, slots=True)
class Format:
    """An image format that can be read."""

    name: str
    title: str
    """For people."""
    probe: Callable[[Ends], int]
    """0: not this format; 1: only if nobody else wants it; 100: certain."""
    opener: str
    """``module:function`` below :mod:`explorer.images`; takes an :class:`Opening`."""
    choices: frozenset[str] = frozenset()
    """What a user may choose in such an image, as fields of :class:`Choices`."""

    def open(self, opening: Opening) -> Image:
        """Open a source; raises :exc:`SourceError` or :exc:`ImageError`."""
        module, function = self.opener.split(":")
        found = getattr(import_module(f"explorer.images.{module}"), function)
        return cast("Callable[[Opening], Image]", found)(opening)


_SNAPSHOT = frozenset({"snapshot"})
_MEMBER = frozenset({"member"})
# Those are for what is packed, if that is an image with a format of its own.
_PACKED = _SNAPSHOT | _MEMBER


def _magic(magic: bytes, offset: int = 0) -> Callable[[Ends], int]:
    return lambda ends: CERTAIN if ends.head.startswith(magic, offset) else 0


def _raw(_ends: Ends) -> int:
    return 1


_qcow = _magic(b"QFI\xfb\0\0\0\1")


def _qcow2(ends: Ends) -> int:
    # Later versions, too: to be refused by their number, not taken for raw.
    return CERTAIN if ends.head.startswith(b"QFI\xfb") and not _qcow(ends) else 0


def _vhd(ends: Ends) -> int:
    # A dynamic one begins with a copy of its footer. Before Virtual PC 2004 a footer had 511 bytes.
    if ends.head.startswith(b"conectix"):
        return CERTAIN
    return CERTAIN - 1 if b"conectix" in (ends.tail[:8], ends.tail[1:9]) else 0


def _vmdk(ends: Ends) -> int:
    if ends.head.startswith((b"KDMV", b"COWD")):
        return CERTAIN
    # A descriptor by itself is a text file, which may begin with blank or other comment lines.
    # One of the largest disk, in extents of 2 GiB, has some 2 MiB.
    if ends.size <= 4 << 20 and b"# Disk DescriptorFile" in ends.head[:1024]:
        return LIKELY
    return 0


def _dmg(ends: Ends) -> int:
    # A trailer, which some writers put at the start.
    return CERTAIN if ends.tail.startswith(b"koly") or ends.head.startswith(b"koly") else 0


def _ova(ends: Ends) -> int:
    # A tar archive whose first member is the description of the machine (DSP0243, section 5). Its
    # header may stand after others, which hold what has no place in it.
    at = 0
    while ends.head.startswith(b"ustar", at + 257):
        if ends.head[at + 156 : at + 157] not in (b"x", b"g", b"L"):
            name = ends.head[at : at + 100].split(b"\0")[0]
            return CERTAIN if name.lower().endswith(b".ovf") else 0
        digits = ends.head[at + 124 : at + 135].strip(b"\0 ")
        if not re.fullmatch(rb"[0-7]+", digits):
            break
        at += 512 + -(-int(digits, 8) // 512) * 512
    return 0


def _bzip2(ends: Ends) -> int:
    # "BZh", the block size, then the first block's number or the end's.
    if ends.head[:3] != b"BZh" or ends.head[3:4] not in b"123456789":
        return 0
    return CERTAIN if ends.head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90") else 0


def _zstd(ends: Ends) -> int:
    # RFC 8878: a frame, or a skippable frame before one, as pzstd and seekable writers have it.
    if ends.head.startswith(b"\x28\xb5\x2f\xfd"):
        return CERTAIN
    return LIKELY if ends.head[1:4] == b"\x2a\x4d\x18" and ends.head[0] >> 4 == 5 else 0


def _split(ends: Ends) -> int:
    # Nothing in the bytes tells; the number that ends the name does, when others follow it. What
    # the first part looks like is asked again of all of them.
    return CERTAIN + 1 if re.search(rb".\.(0{2,}[01]|a{2,})\Z", ends.name) else 0


FORMATS: tuple[Format, ...] = (
    Format("raw", "raw disk", _raw, "raw:open_raw"),
    Format("split", "raw disk in several files", _split, "split:open_split", _PACKED),
    Format("qcow", "QCOW image", _qcow, "qcow1:open_qcow"),
    Format("qcow2", "QCOW2 image", _qcow2, "qcow2:open_qcow2", _SNAPSHOT),
    Format("vdi", "VDI image", _magic(b"\x7f\x10\xda\xbe", 0x40), "vdi:open_vdi"),
    Format("vhd", "VHD image", _vhd, "vhd:open_vhd"),
    Format("vhdx", "VHDX image", _magic(b"vhdxfile"), "vhdx:open_vhdx"),
    Format("vmdk", "VMDK image", _vmdk, "vmdk:open_vmdk"),
    Format(
        "parallels",
        "Parallels image",
        lambda ends: max(
            _magic(b"WithoutFreeSpace")(ends),
            _magic(b"WithouFreSpacExt")(ends),
            LIKELY if b"<Parallels_disk_image" in ends.head[:1024] else 0,
        ),
        "parallels:open_parallels",
        _SNAPSHOT,
    ),
    Format("dmg", "Apple disk image (DMG)", _dmg, "dmg:open_dmg"),
    Format("simg", "Android sparse image", _magic(b"\x3a\xff\x26\xed"), "simg:open_simg"),
    Format("ova", "disks of an OVA appliance", _ova, "ova:open_ova", _PACKED),
    Format("ewf", "EWF image (E01)", _magic(b"EVF\x09\x0d\x0a\xff\x00"), "ewf:open_ewf"),
    Format(
        "gzip", "gzip-compressed image", _magic(b"\x1f\x8b\x08"), "compressed:open_gzip", _PACKED
    ),
    Format("xz", "xz-compressed image", _magic(b"\xfd7zXZ\0"), "compressed:open_xz", _PACKED),
    Format("zstd", "zstd-compressed image", _zstd, "compressed:open_zstd", _PACKED),
    Format("bzip2", "bzip2-compressed image", _bzip2, "compressed:open_bzip2", _PACKED),
)


@dataclass(frozen=True, slots=True)
class _Container:
    """A container that is recognised only to be refused by its name."""

    title: str
    magic: bytes
    offset: int = 0


# Sources: the formats' own descriptions; for the compressors and archives, RFC 1952, RFC 8878,
# the .xz, bzip2, lz4, 7z and zip format documents.
_CONTAINERS: tuple[_Container, ...] = (
    _Container("a QED image", b"QED\0"),
    _Container("an encrypted Apple disk image", b"encrcdsa"),
    _Container("an Apple sparse image", b"sprs"),
    _Container("a Bochs image", b"Bochs Virtual HD Image"),
    _Container("an EWF image (L01)", b"LVF\x09\x0d\x0a\xff\x00"),
    _Container("an EWF 2 image (Ex01)", b"EVF2\x0d\x0a\x81\x00"),
    _Container("an EWF 2 image (Lx01)", b"LEF2\x0d\x0a\x81\x00"),
    _Container("an AFF image", b"AFF10\r\n\0"),
    _Container("an image encrypted by FTK Imager", b"ADCRYPT\0"),
    _Container("a partclone image", b"partclone-image"),
    _Container("an ntfsclone image", b"\0ntfsclone-image"),
    _Container("a WIM image", b"MSWIM\0\0\0"),
    _Container("a CHD image", b"MComprHD"),
    _Container("a CISO image", b"CISO\0"),
    _Container("a CD image with raw sectors", b"\0" + b"\xff" * 10 + b"\0"),
    _Container("an lz4-compressed file", b"\x04\x22\x4d\x18"),
    _Container("a 7-Zip archive", b"7z\xbc\xaf\x27\x1c"),
    _Container("a ZIP archive", b"PK\x03\x04"),
    _Container("a RAR archive", b"Rar!\x1a\x07"),
    _Container("a tar archive", b"ustar\0", 257),
    _Container("a tar archive", b"ustar  \0", 257),
)


def format_names() -> list[str]:
    """The formats that :func:`open_image` takes by name."""
    return [known.name for known in FORMATS]


def recognise_container(ends: Ends) -> str:
    """What a source is that only a format of its own could read; empty for none."""
    for known in _CONTAINERS:
        if ends.head.startswith(known.magic, known.offset):
            return known.title
    return ""


def read_ends(file: SourceFile, name: bytes = b"") -> Ends:
    """What the probes look at."""
    return Ends(
        file.read(0, HEAD_SIZE),
        file.read(max(0, file.size - TAIL_SIZE), TAIL_SIZE),
        file.size,
        name,
    )


def recognise_format(ends: Ends) -> Format:
    """The format that wants a source most."""
    return max(FORMATS, key=lambda known: known.probe(ends))


def find_format(name: str) -> Format:
    """A format by its name; raises :exc:`UnsupportedFeature` when there is none."""
    for known in FORMATS:
        if known.name == name:
            return known
    raise UnsupportedFeature("image.unknown-name", format=name, known=", ".join(format_names()))


def _choose(opening: Opening) -> Format:
    if opening.choices.format is not None:
        return find_format(opening.choices.format)
    ends = read_ends(opening.file, opening.name)
    best = recognise_format(ends)
    if best.probe(ends) <= 1:
        container = recognise_container(ends)
        if container:
            raise UnsupportedFeature(
                "image.unsupported-format", path=opening.path, format=container
            )
    return best


def _check_choices(opening: Opening, chosen: Format) -> None:
    """Raise :exc:`UnsupportedFeature` for a choice that the format would not even look at."""
    for name, code in (("snapshot", "image.no-snapshots"), ("member", "image.no-members")):
        if getattr(opening.choices, name) is not None and name not in chosen.choices:
            raise UnsupportedFeature(code, path=opening.path, format=chosen.title)


def open_format(opening: Opening) -> Image:
    """Open an image with the format it has, or with the one that was chosen for it.

    Raises :exc:`SourceError`, or :exc:`ImageError`: :exc:`UnsupportedFeature` for a container
    without a reader or an unknown name of a format, others as the format does.
    """
    with opening.stack as stack:
        chosen = _choose(opening)
        _check_choices(opening, chosen)
        image = chosen.open(opening)
        image.own(stack.pop_all())
    return image


def open_image(
    path: str | bytes | os.PathLike[str],
    format_name: str | None = None,
    choices: Choices | None = None,
) -> Image:
    """Open a source of the host; ``format_name`` is short for that choice alone.

    Raises :exc:`SourceError` when the host cannot open it, else as :func:`open_format`.
    """
    if choices is None:
        choices = Choices(format=format_name)
    if choices.format is not None:
        find_format(choices.format)
    file, folder, name = access().open_source(
        os.fsencode(path), choices.allowed, choices.cache_folder
    )
    return open_file(file, folder, choices, name)


def open_file(file: SourceFile, folder: Folder, choices: Choices, name: bytes = b"") -> Image:
    """Open a file as an image, which closes it; the way in for files that are not the host's."""
    opening = Opening(file=file, folder=folder, name=name, choices=choices, open_image=open_format)
    opening.stack.callback(file.close)
    opening.files.append(Stored(name, file))
    image = open_format(opening)
    image.origin = Origin(tuple(opening.files), folder)
    return image
