# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Chooses the format of a source.

Each format looks at the first and last bytes and gives a score; the best one opens the source.
Raw takes what no other wants. A container that is recognised but has no reader is refused by its
name: read as raw it would only look like a disk of nonsense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from explorer.core.errors import UnsupportedFeature, host_path
from explorer.images.raw import RawImage

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from explorer.images.base import Image

HEAD_SIZE = 65536
TAIL_SIZE = 512


@dataclass(frozen=True, slots=True)
class Ends:
    """What a probe may look at."""

    head: bytes
    """The first :data:`HEAD_SIZE` bytes, or all."""
    tail: bytes
    """The last :data:`TAIL_SIZE` bytes, or all."""
    size: int


class Opener(Protocol):
    """Opens a source of one format."""

    def __call__(self, path: str | bytes | os.PathLike[str]) -> Image:
        """Open it; raises :exc:`SourceError` or :exc:`ImageError`."""


@dataclass(frozen=True, slots=True)
class Format:
    """An image format that can be read."""

    name: str
    probe: Callable[[Ends], int]
    """0: not this format; 1: only if nobody else wants it; 100: certain."""
    open: Opener


FORMATS: tuple[Format, ...] = (Format("raw", lambda _ends: 1, RawImage),)


@dataclass(frozen=True, slots=True)
class _Container:
    """A container that is recognised only to be refused by its name."""

    title: str
    magic: bytes
    offset: int = 0
    at_end: bool = False


# Sources: the formats' own descriptions; for the compressors and archives, RFC 1952, RFC 8878,
# the .xz, bzip2, lz4, 7z and zip format documents.
_CONTAINERS: tuple[_Container, ...] = (
    _Container("a QCOW2 image", b"QFI\xfb"),
    _Container("a QED image", b"QED\0"),
    _Container("a VMDK image", b"KDMV"),
    _Container("a VMDK image (ESX)", b"COWD"),
    _Container("a VMDK descriptor", b"# Disk DescriptorFile"),
    _Container("a VDI image", b"\x7f\x10\xda\xbe", 0x40),
    _Container("a VHDX image", b"vhdxfile"),
    _Container("a VHD image", b"conectix"),
    _Container("a VHD image", b"conectix", 0, at_end=True),
    _Container("an Apple disk image (DMG)", b"koly", 0, at_end=True),
    _Container("an encrypted Apple disk image", b"encrcdsa"),
    _Container("an Apple sparse image", b"sprs"),
    _Container("a Parallels image", b"WithoutFreeSpace"),
    _Container("a Parallels image", b"WithouFreSpacExt"),
    _Container("a Bochs image", b"Bochs Virtual HD Image"),
    _Container("an EWF image (E01)", b"EVF\x09\x0d\x0a\xff\x00"),
    _Container("an EWF image (L01)", b"LVF\x09\x0d\x0a\xff\x00"),
    _Container("an EWF 2 image (Ex01)", b"EVF2\x0d\x0a\x81\x00"),
    _Container("an EWF 2 image (Lx01)", b"LEF2\x0d\x0a\x81\x00"),
    _Container("an AFF image", b"AFF10\r\n\0"),
    _Container("an Android sparse image", b"\x3a\xff\x26\xed"),
    _Container("a partclone image", b"partclone-image"),
    _Container("an ntfsclone image", b"\0ntfsclone-image"),
    _Container("a WIM image", b"MSWIM\0\0\0"),
    _Container("a CHD image", b"MComprHD"),
    _Container("a CISO image", b"CISO\0"),
    _Container("a CD image with raw sectors", b"\0" + b"\xff" * 10 + b"\0"),
    _Container("a gzip-compressed file", b"\x1f\x8b\x08"),
    _Container("an xz-compressed file", b"\xfd7zXZ\0"),
    _Container("a zstd-compressed file", b"\x28\xb5\x2f\xfd"),
    _Container("an lz4-compressed file", b"\x04\x22\x4d\x18"),
    # "BZh", the block size, then the first block's or the end's number.
    *(
        _Container("a bzip2-compressed file", b"BZh" + level + block)
        for level in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9")
        for block in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")
    ),
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
        where = ends.tail if known.at_end else ends.head
        if where.startswith(known.magic, known.offset):
            return known.title
    return ""


def _read_ends(image: RawImage) -> Ends:
    return Ends(
        image.read(0, HEAD_SIZE),
        image.read(max(0, image.size - TAIL_SIZE), TAIL_SIZE),
        image.size,
    )


def open_image(path: str | bytes | os.PathLike[str], format_name: str | None = None) -> Image:
    """Open a source with the format it has, or with the one the user insists on.

    Raises :exc:`SourceError` when the host cannot open it, :exc:`UnsupportedFeature` for a
    container without a reader or an unknown ``format_name``.
    """
    if format_name is not None:
        for known in FORMATS:
            if known.name == format_name:
                return known.open(path)
        raise UnsupportedFeature(
            "image.unknown-name", format=format_name, known=", ".join(format_names())
        )
    with RawImage(path) as source:
        ends = _read_ends(source)
    best = max(FORMATS, key=lambda known: known.probe(ends))
    if best.probe(ends) <= 1:
        container = recognise_container(ends)
        if container:
            raise UnsupportedFeature(
                "image.unsupported-format", path=host_path(path), format=container
            )
    return best.open(path)
