# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python side of the Linux Kernel Library.

The only room that knows cffi. Everything here speaks of kernels, disks, mounts, directories and
files, with names as bytes and errors as :exc:`KernelError`; it knows no image format and no file
system.
"""

from __future__ import annotations

from explorer.kernel.devices import BlockDevice, Mount
from explorer.kernel.files import Directory, File, Walk
from explorer.kernel.kernel import Disk, DiskSource, Kernel, Partition

__all__ = [
    "BlockDevice",
    "Directory",
    "Disk",
    "DiskSource",
    "File",
    "Kernel",
    "Mount",
    "Partition",
    "Walk",
]
