# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The QCOW format, version 1.

Source: block/qcow.c of QEMU, which is its only description, and whose limits are kept.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from explorer.core.names import show_name
from explorer.images.qcow import (
    MAGIC,
    NEVER,
    Crypt,
    Layout,
    QcowImage,
    Source,
    open_backing,
    unlock_aes,
)

if TYPE_CHECKING:
    from explorer.images.base import Fact, Image
    from explorer.images.opening import Opening

# Magic, version, backing name's offset and size, time of modification, size, cluster bits, L2 bits,
# encryption, offset of the L1 table.
_HEADER = struct.Struct(">4sIQIIQBBxxIQ")

_AES = 1
_COMPRESSED = 1 << 63


class Qcow1Image(QcowImage):
    """A QCOW image."""

    format = "qcow"

    def __init__(
        self,
        opening: Opening,
        layout: Layout,
        facts: dict[str, Fact],
        *,
        parent: Image | None,
        crypt: Crypt | None,
    ) -> None:
        """Of what :func:`open_qcow` has read and checked."""
        super().__init__(opening, layout, data=opening.file, parent=parent, crypt=crypt)
        # Of a compressed cluster, its size stands above its offset.
        self._size_shift = 63 - (layout.cluster.bit_length() - 1)
        self._facts = facts

    def facts(self) -> dict[str, Fact]:
        """What the header tells."""
        return dict(self._facts)

    def _l2_position(self, entry: int, _index: int, /) -> int:
        return entry

    def _read_entry(self, entry: int, _position: int, _offset: int, /) -> tuple[Source, int, int]:
        if entry & _COMPRESSED:
            return Source.COMPRESSED, entry, NEVER
        if entry:
            return Source.STORED, entry, self._layout.cluster
        return Source.PARENT, 0, 0

    def _decompress(self, place: int) -> bytes:
        start = place & ((1 << self._size_shift) - 1)
        size = place >> self._size_shift & (self._layout.cluster - 1)
        stored = self._opening.read_exactly(start, size, "compressed cluster")
        return self._inflate("compressed cluster", start, stored)


def open_qcow(opening: Opening) -> Image:
    """Open an image and its backing image; a passphrase is asked for at the first read."""
    magic, version, backing_offset, backing_length, _time, size, *fields = _HEADER.unpack(
        opening.read_exactly(0, _HEADER.size, "header")
    )
    cluster_bits, l2_bits, encryption, l1_offset = fields
    if magic != MAGIC:
        raise opening.corrupt("header", 0, "its magic number is wrong")
    if version != 1:
        raise opening.unsupported(f"QCOW version {version}")
    if not 9 <= cluster_bits <= 16:
        raise opening.corrupt("header", 32, f"clusters of 2^{cluster_bits} bytes")
    if not 6 <= l2_bits <= 13:
        raise opening.corrupt("header", 33, f"L2 tables of 2^{l2_bits} entries")
    if not 1 < size < 1 << 63:
        raise opening.corrupt("header", 24, f"a disk of {size} bytes")
    if encryption not in (0, _AES):
        raise opening.unsupported(f"encryption method {encryption}")
    layout = Layout(
        size=size,
        cluster=1 << cluster_bits,
        entry=8,
        table=8 << l2_bits,
        l1_position=l1_offset,
        l1_count=-(-size >> (cluster_bits + l2_bits)),
    )
    if l1_offset + layout.l1_count * 8 > opening.file.size:
        raise opening.corrupt(
            "L1 table", l1_offset, f"its {layout.l1_count} entries are not in the file"
        )
    facts: dict[str, Fact] = {"version": 1, "cluster size": layout.cluster}
    crypt: Crypt | None = None
    if encryption == _AES:
        crypt = Crypt("AES-128-CBC", lambda: unlock_aes(opening), by_place=False)
        facts["encryption"] = crypt.title
    parent: Image | None = None
    if backing_offset and backing_length:
        name, parent = open_backing(opening, backing_offset, backing_length, None)
        facts["backing image"] = show_name(name)
        facts["backing format"] = parent.format
    return Qcow1Image(opening, layout, facts, parent=parent, crypt=crypt)
