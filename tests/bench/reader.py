# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads an image through the kernel's block device; prints what it took, as one JSON object.

    python -m tests.bench.reader digest IMAGE 1
    python -m tests.bench.reader direct IMAGE PASSES
    python -m tests.bench.reader buffered IMAGE PASSES
    python -m tests.bench.reader random IMAGE COUNT

``direct`` and ``buffered`` read the whole disk in every pass, 1 MiB a call: right into one buffer,
as the library copies a large file, or through the kernel's page cache, as small files are read.
``random`` reads 4 KiB a call, through the page cache, at COUNT places that never come twice.
The seconds are those of the reads; what comes before the first is not among them.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from explorer.images.registry import open_image
from explorer.kernel import Kernel
from tests.bench.measure import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

PIECE = MIB
BLOCK = 4096
STEP = 100_003 * BLOCK
"""From one random place to the next: an odd number of blocks, so that each is met once."""


class Device:
    """The kernel's device of an image, open."""

    def __init__(self, kernel: Kernel, path: bytes, *, direct: bool) -> None:
        # The binding declares what the program itself calls.
        library: Any = kernel.binding.library
        self._library, self._kernel, self._ffi = library, kernel, kernel.binding.ffi
        flags = library.LKL_O_DIRECT if direct else 0
        self._descriptor = kernel.check(
            library.lkl_sys_openat(kernel.pointer, library.LKL_AT_FDCWD, path, flags, 0), "openat"
        )
        self.buffer: Any = (
            library.lkl_mem_alloc(kernel.pointer, PIECE)
            if direct
            else self._ffi.new("char[]", PIECE)
        )
        if self.buffer == self._ffi.NULL:
            raise MemoryError

    def read(self, offset: int, length: int) -> memoryview:
        """Bytes, valid until the next read."""
        got = self._kernel.check(
            self._library.lkl_read_file(
                self._kernel.pointer, self._descriptor, offset, self.buffer, length
            ),
            "read",
        )
        return memoryview(self._ffi.buffer(self.buffer, got))

    def close(self) -> None:
        """Close it; a disk that is in use cannot be removed."""
        self._kernel.close_descriptor(self._descriptor)


def read_places(device: Device, places: Iterable[int], length: int) -> dict[str, float]:
    """Seconds and bytes of reads of a length."""
    read, total = device.read, 0
    begin = time.perf_counter()
    for place in places:
        total += len(read(place, length))
    return {"seconds": time.perf_counter() - begin, "bytes": total}


def read_digest(device: Device, size: int) -> dict[str, str]:
    """SHA-256 of the disk."""
    digest = hashlib.sha256()
    for place in range(0, size, PIECE):
        digest.update(device.read(place, PIECE))
    return {"sha256": digest.hexdigest()}


def main() -> None:
    """Does what the command line says."""
    what, path, count = sys.argv[1:]
    with open_image(path) as image, Kernel() as kernel, kernel.add_disk(image) as disk:
        size = image.size
        device = Device(kernel, disk.device().path, direct=what == "direct")
        # What a format imports when it is first read.
        device.read(size - BLOCK, BLOCK)
        if what == "digest":
            answer: object = read_digest(device, size)
        elif what == "random":
            places = [number * STEP % (size - BLOCK) for number in range(int(count))]
            answer = read_places(device, places, BLOCK)
        else:
            answer = read_places(device, [*range(0, size, PIECE)] * int(count), PIECE)
        print(json.dumps(answer))
        device.close()


if __name__ == "__main__":
    main()
