# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Checksums in whole images of file systems, so that changes can get past them.

Places are guessed by magic numbers; what is kept of the guesses is what has the right sum.
Offsets are those of the structures in Linux' own headers (fs/xfs/libxfs/xfs_format.h,
include/uapi/linux/btrfs_tree.h, include/linux/f2fs_fs.h, nilfs2_ondisk.h, fs/erofs/erofs_fs.h,
fs/exfat/exfat_raw.h) and of ECMA-167.
"""

from __future__ import annotations

import binascii
import struct
import zlib
from typing import TYPE_CHECKING

from explorer.images.crc32c import crc32c
from tests.fuzz.seed import Sum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tests.fuzz.seed import Content

_SECTOR = 512
_BLOCK = 4096
_ONES = 0xFFFFFFFF


def find_sums(kind: str, content: Content, runs: Sequence[tuple[int, int]]) -> list[Sum]:
    """The checksums in an image of a file system, in the order in which to put them right.

    ``runs`` are start and end of what is not all zeros.
    """
    guess = _GUESSES.get(kind)
    if guess is None:
        return []
    return [one for one in guess(content, runs) if is_right(one, content)]


def is_right(one: Sum, content: Content) -> bool:
    """Whether a checksum stands there; the content stays as it is."""
    if one.start < 0 or max(one.end, one.at + one.width) > len(content):
        return False
    place = slice(one.at, one.at + one.width)
    stored = bytes(content[place])
    one.mend(content)
    right = bytes(content[place]) == stored
    content[place] = stored
    return right


def _places(runs: Iterable[tuple[int, int]], step: int) -> Iterator[int]:
    """Multiples of ``step`` in the runs."""
    for start, end in runs:
        yield from range(-(-start // step) * step, end, step)


def _little(function: Callable[[bytes], int], width: int = 4) -> Callable[[bytes], bytes]:
    return lambda raw: function(raw).to_bytes(width, "little")


_CASTAGNOLI = _little(crc32c)


# ---- XFS ---------------------------------------------------------------------------------------

_XFS_SECTORS = {b"XFSB": 224, b"XAGF": 216, b"XAGI": 312, b"XAFL": 32}
"""Magic to the place of the sum; numbers of them are big-endian, sums are not."""
_XFS_BLOCKS = {
    **dict.fromkeys((b"AB3B", b"AB3C", b"IAB3", b"FIB3", b"RMB3", b"R3FC"), 52),
    b"BMA3": 64,
    **dict.fromkeys((b"XDB3", b"XDD3", b"XDF3"), 4),
    **dict.fromkeys((b"XARM", b"XSLM"), 12),
}
_XFS_NODES = (0x3DF1, 0x3DFF, 0x3EBE, 0x3BEE)
"""Leaves and nodes of directories and attributes: 16 bits at 8; the sum at 12."""
_XFS_RECORD = 328
"""Bytes of the header of a record in the log; its body begins a sector after it."""


def _xfs(content: Content, runs: Sequence[tuple[int, int]]) -> Iterator[Sum]:
    block, inode = struct.unpack_from(">4xI", content)[0], struct.unpack_from(">H", content, 104)[0]
    if not 256 <= inode <= block <= 1 << 16:
        return
    for at in _places(runs, _SECTOR):
        magic = bytes(content[at : at + 4])
        if magic in _XFS_SECTORS:
            yield Sum(at, at + _SECTOR, at + _XFS_SECTORS[magic], 4, _CASTAGNOLI)
        elif magic == b"\xfe\xed\xba\xbe":
            (length,) = struct.unpack_from(">I", content, at + 12)
            yield Sum(at, at + _SECTOR + length, at + 32, 4, _little(_xfs_record))
        elif magic[:2] == b"IN" and magic[2:3] != b"\0" and at % inode == 0:
            yield Sum(at, at + inode, at + 100, 4, _CASTAGNOLI)
    for at in _places(runs, block):
        magic = bytes(content[at : at + 4])
        if magic in _XFS_BLOCKS:
            yield Sum(at, at + block, at + _XFS_BLOCKS[magic], 4, _CASTAGNOLI)
        elif struct.unpack_from(">H", content, at + 8)[0] in _XFS_NODES:
            yield Sum(at, at + block, at + 12, 4, _CASTAGNOLI)


def _xfs_record(raw: bytes) -> int:
    return crc32c(raw[:_XFS_RECORD] + raw[_SECTOR:])


# ---- Btrfs -------------------------------------------------------------------------------------


def _btrfs(content: Content, runs: Sequence[tuple[int, int]]) -> Iterator[Sum]:
    first = 64 << 10
    fsid = bytes(content[first + 32 : first + 48])
    (size,) = struct.unpack_from("<I", content, first + 148)
    for at in _places(runs, _BLOCK):
        if bytes(content[at + 32 : at + 48]) == fsid:
            above = bytes(content[at + 64 : at + 72]) == b"_BHRfS_M"
            yield Sum(at + 32, at + (_BLOCK if above else size), at, 4, _CASTAGNOLI)


# ---- F2FS --------------------------------------------------------------------------------------


def _f2fs_sum(raw: bytes) -> int:
    return zlib.crc32(raw, 0xF2F52010 ^ _ONES) ^ _ONES


def _f2fs(content: Content, runs: Sequence[tuple[int, int]]) -> Iterator[Sum]:
    for at in _places(runs, _BLOCK):
        (place,) = struct.unpack_from("<I", content, at + 164)
        if 168 <= place <= _BLOCK - 4:
            yield Sum(at, at + place, at + place, 4, _little(_f2fs_sum))


# ---- NILFS2 ------------------------------------------------------------------------------------


def _nilfs2(content: Content, runs: Sequence[tuple[int, int]]) -> Iterator[Sum]:
    (seed,) = struct.unpack_from("<I", content, 1024 + 12)
    pack = _little(lambda raw: zlib.crc32(raw, seed ^ _ONES) ^ _ONES)
    for at in _places(runs, 1024):
        if bytes(content[at + 6 : at + 8]) == b"\x34\x34":
            (length,) = struct.unpack_from("<H", content, at + 8)
            yield Sum(at, at + length, at + 16, 4, pack)
        elif bytes(content[at + 8 : at + 12]) == b"\x11\xfa\xaf\x1e":
            (blocks,) = struct.unpack_from("<I", content, at + 40)
            (length,) = struct.unpack_from("<I", content, at + 48)
            # A log's last block may be the root of everything else.
            root = at + (blocks - 1) * _BLOCK
            if root + 6 <= len(content):
                (size,) = struct.unpack_from("<H", content, root + 4)
                yield Sum(root + 4, root + size, root, 4, pack)
            yield Sum(at + 8, at + length, at + 4, 4, pack)
            yield Sum(at + 4, at + blocks * _BLOCK, at, 4, pack)


# ---- Others ------------------------------------------------------------------------------------


def _erofs(content: Content, _runs: Sequence[tuple[int, int]]) -> Iterator[Sum]:
    pack = _little(lambda raw: crc32c(raw) ^ _ONES)
    yield Sum(1024, 1 << content[1024 + 12], 1028, 4, pack)


def _exfat_boot(raw: bytes) -> bytes:
    total = 0
    for place, byte in enumerate(raw):
        # Flags and the share in use change while it is mounted.
        if place not in (106, 107, 112):
            total = ((total << 31 | total >> 1) + byte) & _ONES
    return total.to_bytes(4, "little") * (_SECTOR // 4)


def _exfat(_content: Content, _runs: Sequence[tuple[int, int]]) -> Iterator[Sum]:
    for at in (0, 12 * _SECTOR):
        end = at + 11 * _SECTOR
        yield Sum(at, end, end, _SECTOR, _exfat_boot)


def _udf(content: Content, runs: Sequence[tuple[int, int]]) -> Iterator[Sum]:
    crc = _little(lambda raw: binascii.crc_hqx(raw, 0), 2)
    for at in _places(runs, 4):
        tag = bytes(content[at : at + 16])
        # A number, version 2 or 3, its sum, and a byte of zeros.
        if len(tag) == 16 and tag[2:4] in (b"\2\0", b"\3\0") and not tag[5]:
            (length,) = struct.unpack_from("<H", tag, 10)
            if length:
                yield Sum(at + 16, at + 16 + length, at + 8, 2, crc)
            yield Sum(at, at + 16, at + 4, 1, lambda raw: bytes([sum(raw) & 0xFF]))


_GUESSES: dict[str, Callable[[Content, Sequence[tuple[int, int]]], Iterator[Sum]]] = {
    "xfs": _xfs,
    "btrfs": _btrfs,
    "f2fs": _f2fs,
    "nilfs2": _nilfs2,
    "erofs": _erofs,
    "exfat": _exfat,
    "udf": _udf,
}
