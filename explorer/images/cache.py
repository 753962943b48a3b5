# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps what was decoded, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

CACHE_SIZE = 32 * 1024 * 1024
"""Bytes; the kernel's own page cache stands before this one."""


class BlockCache:
    """Blocks by key, the least recently used of them leaving first; from any thread."""

    def __init__(self, limit: int = CACHE_SIZE) -> None:
        """Hold at most ``limit`` bytes; a single larger block is returned but not kept."""
        self._limit = limit
        self._held = 0
        self._lock = Lock()
        self._blocks: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The block of this key, made if it is not there; what ``make`` raises passes through."""
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
                return block
        # Not under the lock: two threads may make the same block, which is only slower.
        block = make()
        with self._lock:
            if len(block) <= self._limit and key not in self._blocks:
                self._blocks[key] = block
                self._held += len(block)
                while self._held > self._limit:
                    self._held -= len(self._blocks.popitem(last=False)[1])
        return block

    @property
    def held(self) -> int:
        """Bytes kept now."""
        return self._held
