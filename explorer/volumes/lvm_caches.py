# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Which blocks of a cached volume stand in its cache only.

The kernel's own targets for caches write as soon as they run: they note that they were not
stopped yet, and they move blocks to and fro. What a reader needs is where the newest content of
each block is, and that is only read here. The structures are those of
``drivers/md/dm-cache-metadata.c``, of ``drivers/md/persistent-data`` and of
``drivers/md/dm-writecache.c``.
"""

from __future__ import annotations

import sys
from array import array
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import VolumeError
from explorer.images.crc32c import crc32c
from explorer.volumes.lvm_metadata import SECTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[int, int], bytes]
    """Reads a number of bytes at an offset, fewer only at the end."""

assert sys.byteorder == "little", "arrays are read as they are stored"

_BLOCK = 4096
_LARGEST_BLOCK = 1 << 21


class Cached(NamedTuple):
    """What a cache has of its origin."""

    unit: int
    """Sectors of a block."""
    start: int
    """Sectors before the first block of the cache."""
    blocks: list[tuple[int, int]]
    """Number of a block in the origin and in the cache, the former ascending and each once."""


NOTHING = Cached(1, 0, [])


def _corrupt(volume: str, where: str, reason: str) -> VolumeError:
    return VolumeError("volume.corrupt-metadata", volume=volume, where=where, reason=reason)


# ---- Of dm-cache -------------------------------------------------------------------------------

# struct cache_disk_superblock: csum, flags, blocknr, uuid, magic, version, policy, size of a hint,
# root of a space map, roots of mappings, hints and discards, two numbers about these; then
# data_block_size, metadata_block_size, cache_blocks, three sets of features, statistics, version
# of the policy, and the root of dirty bits.
_CACHE = Struct("<I I Q 16x Q I 16x I 128x Q Q Q 16x I I I I I I 16x 12x Q")
_CACHE_MAGIC = 0o6142003
_CACHE_CHECKSUM = 9031977
_CLEAN_SHUTDOWN = 1 << 0

# struct node_header, and struct array_block
_NODE = Struct("<I I Q I I I 4x")
_NODE_CHECKSUM = 121107
_INTERNAL = 1 << 0
_ARRAY = Struct("<I I I I Q")
_ARRAY_CHECKSUM = 595846735

_VALID, _DIRTY = 1, 2
_WORD = 64


class _Blocks:
    """The blocks of persistent data, each of which may be met once."""

    def __init__(self, read: Read, volume: str) -> None:
        self._read = read
        self._volume = volume
        self._met: set[int] = set()

    def fault(self, number: int, reason: str) -> VolumeError:
        """The error for a block."""
        return _corrupt(self._volume, f"block {number} of the cache's metadata", reason)

    def read(self, number: int, key: int) -> bytes:
        """A block whose checksum is right; ``key`` is what its kind adds to that."""
        if number in self._met:
            raise self.fault(number, "is used twice")
        self._met.add(number)
        block = self._read(number * _BLOCK, _BLOCK) if number < 1 << 51 else b""
        if len(block) < _BLOCK:
            raise self.fault(number, "is beyond the end")
        # dm_bm_checksum() leaves out the last step of the usual checksum.
        if int.from_bytes(block[:4], "little") != crc32c(block[4:]) ^ 0xFFFFFFFF ^ key:
            raise self.fault(number, "its checksum is wrong")
        return block

    def values(self, root: int) -> Iterator[array[int]]:
        """The 64-bit values of an array, in order and some hundred at a time."""
        nodes = [root]
        while nodes:
            number = nodes.pop()
            block = self.read(number, _NODE_CHECKSUM)
            _csum, flags, own, count, most, size = _NODE.unpack_from(block)
            if own != number or size != 8 or count > most or most > (_BLOCK - _NODE.size) // 16:
                raise self.fault(number, "not a node of a tree")
            places = array("Q", block[_NODE.size + 8 * most :][: 8 * count])
            if flags & _INTERNAL:
                nodes += reversed(places)
            else:
                for place in places:
                    yield self._leaf(place)

    def _leaf(self, number: int) -> array[int]:
        block = self.read(number, _ARRAY_CHECKSUM)
        _csum, most, count, size, own = _ARRAY.unpack_from(block)
        if own != number or size != 8 or count > most or most > (_BLOCK - _ARRAY.size) // 8:
            raise self.fault(number, "not a part of an array")
        return array("Q", block[_ARRAY.size :][: 8 * count])


def read_cache(read: Read, volume: str, *, mode: str) -> Cached:
    """What of a cache is newer than its origin; ``read`` reads its metadata.

    ``mode`` is how it was written to. Raises :exc:`VolumeError` when the metadata is damaged.
    """
    blocks = _Blocks(read, volume)
    if not any(read(0, _BLOCK)):
        # Not used yet.
        return NOTHING
    block = blocks.read(0, _CACHE_CHECKSUM)
    (
        _csum, flags, _own, magic, version, _hint_size, mappings, _hints, _discards,
        unit, block_size, count, _compatible, _read_only, incompatible, dirty_bits,
    ) = _CACHE.unpack_from(block)  # fmt: skip
    if magic != _CACHE_MAGIC:
        raise blocks.fault(0, "not the metadata of a cache")
    if version not in (1, 2) or incompatible:
        raise VolumeError(
            "volume.feature", feature=f"cache metadata of version {version}:{incompatible:#x}"
        )
    if block_size * SECTOR != _BLOCK or not 0 < unit <= _LARGEST_BLOCK:
        raise blocks.fault(0, f"blocks of {unit} sectors, described in such of {block_size}")
    clean = bool(flags & _CLEAN_SHUTDOWN)
    if not clean and mode != "writeback":
        # What is dirty was not noted, but nothing is.
        return NOTHING
    words = (word for part in blocks.values(dirty_bits) for word in part)
    found = []
    number = 0
    word: int | None = 0
    for part in blocks.values(mappings):
        for value in part[: count - number]:
            dirty = value & _DIRTY
            if version == 2 and clean:
                if number % _WORD == 0:
                    word = next(words, None)
                if word is None:
                    raise blocks.fault(dirty_bits, f"tells of {number} blocks instead of {count}")
                dirty = word >> number % _WORD & 1
            # Without a clean shutdown, whatever is there may be newer.
            if value & _VALID and (dirty or not clean):
                found.append((value >> 16, number))
            number += 1
    if number < count:
        raise blocks.fault(mappings, f"tells of {number} blocks instead of {count}")
    found.sort()
    for (one, _), (other, _) in pairwise(found):
        if one == other:
            raise blocks.fault(mappings, f"two blocks of the cache for block {one}")
    return Cached(unit, 0, found)


# ---- Of dm-writecache --------------------------------------------------------------------------

# struct wc_memory_superblock, of 64 bytes: magic, version, block_size, n_blocks, seq_count
_WRITE_CACHE = Struct("<I I I 4x Q Q 32x")
_WRITE_CACHE_MAGIC = 0x23489321
_ENTRIES_AT_ONCE = 65536


def read_write_cache(read: Read, size: int, volume: str) -> Cached:
    """What a write cache of ``size`` bytes has; ``read`` reads it.

    Raises :exc:`VolumeError` when it is damaged.
    """

    def fault(reason: str) -> VolumeError:
        return _corrupt(volume, "superblock of the write cache", reason)

    head = read(0, _WRITE_CACHE.size)
    if len(head) < _WRITE_CACHE.size:
        raise fault("is beyond the end")
    magic, version, block_size, count, committed = _WRITE_CACHE.unpack(head)
    if magic == version == 0:
        # Not used yet.
        return NOTHING
    if magic != _WRITE_CACHE_MAGIC:
        raise fault("not a write cache")
    if version != 1:
        raise VolumeError("volume.feature", feature=f"write cache of version {version}")
    if block_size not in (512, 1024, 2048, 4096):
        raise fault(f"blocks of {block_size} bytes")
    # struct wc_memory_entry: original_sector, seq_count
    start = -(-(_WRITE_CACHE.size + 16 * count) // block_size) * block_size
    if start + count * block_size > size:
        raise fault(f"{count} blocks, which are beyond the end")
    newest: dict[int, tuple[int, int]] = {}
    unit = block_size // SECTOR
    for first in range(0, count, _ENTRIES_AT_ONCE):
        length = min(_ENTRIES_AT_ONCE, count - first)
        entries = array("Q", read(_WRITE_CACHE.size + 16 * first, 16 * length))
        for number, (sector, sequence) in enumerate(
            zip(entries[::2], entries[1::2], strict=True), first
        ):
            # One that is free has the highest number there is.
            if sequence >= committed:
                continue
            if sector % unit:
                raise fault(f"block {number} belongs to sector {sector}")
            known = newest.get(sector)
            if known is None or sequence > known[0]:
                newest[sector] = sequence, number
    found = sorted((sector // unit, number) for sector, (_, number) in newest.items())
    return Cached(unit, start // SECTOR, found)
