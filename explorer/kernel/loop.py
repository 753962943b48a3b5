# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Loop devices: how the kernel is made to look for partitions on what is no disk by itself.

Partition tables also stand on logical volumes, arrays and in other partitions, and the kernel
scans none of these. ``include/uapi/linux/loop.h`` has the structures.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from explorer.core.closing import Closing
from explorer.kernel.devices import BlockDevice
from explorer.kernel.kernel import Partition
from explorer.kernel.system import list_folders, read_text

if TYPE_CHECKING:
    from explorer.kernel.kernel import Kernel

_CONFIGURE = 0x4C0A
_CLEAR = 0x4C01
_GET_FREE = 0x4C82

_READ_ONLY = 1
_PARTITION_SCAN = 8

# struct loop_config: fd, block_size, then struct loop_info64 (of which only lo_flags is set,
# after five 64-bit and three 32-bit fields) and eight reserved words.
_CONFIG = Struct("=II 40x 12x I 176x 64x")
_SECTOR = 512


class LoopDevice(Closing, BlockDevice):
    """A device that is another one once more, with its partitions. A context manager."""

    def __init__(self, kernel: Kernel, number: int) -> None:
        """Used by :func:`attach_loop`."""
        super().__init__(kernel, b"/dev/loop%d" % number)
        self._number = number

    def partitions(self) -> list[Partition]:
        """The partitions the kernel found, ordered by number."""
        top = b"/sys/block/loop%d" % self._number
        found = []
        for name in list_folders(self._kernel, top):
            if name.startswith(b"loop%dp" % self._number):
                numbers = [
                    int(read_text(self._kernel, b"%b/%b/%b" % (top, name, attribute)))
                    for attribute in (b"partition", b"start", b"size", b"ro")
                ]
                number, start, size, read_only = numbers
                found.append(Partition(number, start * _SECTOR, size * _SECTOR, bool(read_only)))
        return sorted(found)

    def partition(self, number: int) -> BlockDevice:
        """One of its partitions as a device."""
        return BlockDevice(self._kernel, b"%bp%d" % (self._path, number))

    def close(self) -> None:
        """Let go of the other device; nothing of this one may be in use."""
        if self._kernel.state == "running":
            kernel = self._kernel
            descriptor = self.open()
            try:
                result = kernel.binding.library.lkl_sys_ioctl(
                    kernel.pointer, descriptor, _CLEAR, kernel.binding.ffi.NULL
                )
                kernel.check(result, "LOOP_CLR_FD", self._path)
            finally:
                kernel.close_descriptor(descriptor)


def attach_loop(
    kernel: Kernel, device: BlockDevice, *, read_only: bool = True, block_size: int = 512
) -> LoopDevice:
    """Make a loop device of another device, and have its partitions looked for."""
    ffi, library = kernel.binding.ffi, kernel.binding.library
    control = BlockDevice(kernel, b"/dev/loop-control").open()
    try:
        number = kernel.check(
            library.lkl_sys_ioctl(kernel.pointer, control, _GET_FREE, ffi.NULL), "LOOP_CTL_GET_FREE"
        )
    finally:
        kernel.close_descriptor(control)
    loop = LoopDevice(kernel, number)
    backing = device.open(read_only=read_only)
    try:
        flags = _PARTITION_SCAN | (_READ_ONLY if read_only else 0)
        config = ffi.new("char[]", _CONFIG.pack(backing, block_size, flags))
        descriptor = loop.open()
        try:
            kernel.check(
                library.lkl_sys_ioctl(kernel.pointer, descriptor, _CONFIGURE, config),
                "LOOP_CONFIGURE",
                device.path,
            )
        finally:
            kernel.close_descriptor(descriptor)
    finally:
        kernel.close_descriptor(backing)
    return loop
