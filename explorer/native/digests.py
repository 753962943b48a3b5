# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Digests of bytes, by several algorithms at once.

Not Python's hashlib: that brings OpenSSL, whose licence does not go with the kernel's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.core.closing import Closing
from explorer.native.library import load

if TYPE_CHECKING:
    from collections.abc import Sequence

ALGORITHMS = {"md5": 0x1, "sha1": 0x2, "sha256": 0x4, "blake2b": 0x8}
"""Names, as programs that check digests use them, and bits of ``native.h``; BLAKE2b of 512 bits."""


class Digests(Closing):
    """Digests of one sequence of bytes; used by one thread at a time."""

    def __init__(self, algorithms: Sequence[str]) -> None:
        """``algorithms`` are names of :data:`ALGORITHMS`; raises :exc:`KeyError` for others."""
        self._native = load()
        self.algorithms = tuple(algorithms)
        pointer = self._native.ffi.new("struct lkn_digests **")
        bits = sum({ALGORITHMS[name] for name in self.algorithms})
        if self._native.library.lkn_digests_open(bits, pointer) < 0:
            raise MemoryError
        self._digests = pointer[0]

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; other threads run meanwhile."""
        with self._native.ffi.from_buffer(data) as source:
            self._native.library.lkn_digests_update(self._digests, source, len(source))

    def read(self) -> dict[str, bytes]:
        """Each algorithm's digest of all bytes so far, which are all there will be."""
        ffi, library = self._native.ffi, self._native.library
        digest = ffi.new("unsigned char[]", library.LKN_DIGEST_MOST)
        return {
            name: bytes(
                ffi.buffer(
                    digest,
                    library.lkn_digests_read(
                        self._digests, ALGORITHMS[name], digest, library.LKN_DIGEST_MOST
                    ),
                )
            )
            for name in self.algorithms
        }

    def close(self) -> None:
        """Free them; a second call does nothing."""
        if self._digests is not None:
            self._native.library.lkn_digests_close(self._digests)
            self._digests = None
