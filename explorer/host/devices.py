# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The size of a disk of the host, asked of the system as each wants to be asked."""

from __future__ import annotations

import stat
import sys

# include/uapi/linux/fs.h: _IOR(0x12, 114, size_t) and _IO(0x12, 104)
_BLKGETSIZE64 = 0x80081272
_BLKSSZGET = 0x1268

# macOS' <sys/disk.h>: _IOR('d', 24, uint32_t) and _IOR('d', 25, uint64_t)
_DKIOCGETBLOCKSIZE = 0x40046418
_DKIOCGETBLOCKCOUNT = 0x40086419


def _number(descriptor: int, request: int, size: int) -> int:
    # Not on every host, and not needed for files.
    import fcntl

    answer = fcntl.ioctl(descriptor, request, bytes(size))
    return int.from_bytes(answer, sys.byteorder)


def device_geometry(descriptor: int, mode: int) -> tuple[int, int] | None:
    """Bytes of a disk, and of its logical block; None when the file is no disk.

    Raises :exc:`OSError` when the system will not tell.
    """
    if sys.platform == "linux":
        if not stat.S_ISBLK(mode):
            return None
        return _number(descriptor, _BLKGETSIZE64, 8), _number(descriptor, _BLKSSZGET, 4)
    # Both of a disk's nodes there, /dev/disk2 and the character device /dev/rdisk2.
    if sys.platform == "darwin" and (stat.S_ISBLK(mode) or stat.S_ISCHR(mode)):
        block = _number(descriptor, _DKIOCGETBLOCKSIZE, 4)
        return _number(descriptor, _DKIOCGETBLOCKCOUNT, 8) * block, block
    return None
