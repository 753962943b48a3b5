# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What Btrfs is asked beyond files: its devices, and what stands in its trees.

The requests and structures are those of ``include/uapi/linux/btrfs.h``.
"""

from __future__ import annotations

from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import KernelError
from explorer.kernel.calls import c_path
from explorer.kernel.devices import LAST_MESSAGES, BlockDevice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.kernel.devices import Mount
    from explorer.kernel.kernel import Kernel

_CONTROL = b"/dev/btrfs-control"

# struct btrfs_ioctl_vol_args: fd, name
_VOLUME = Struct("=q 4088s")
# struct btrfs_ioctl_search_key: tree_id, then the least and the most of objectid, offset and
# transid, of type, nr_items, and unused fields.
_KEY = Struct("=Q 6Q 2I I 4x 32x")
# struct btrfs_ioctl_search_args_v2: the key, buf_size, then the items.
_SEARCH = Struct(f"={_KEY.size}s Q")
# struct btrfs_ioctl_search_header: transid, objectid, offset, type, len
_HEADER = Struct("=QQQII")
# struct btrfs_ioctl_dev_info_args: devid, then much else, and path in the last quarter.
_DEVICE = Struct("=Q 3064x 1024s")

_MAGIC = 0x94
_SCAN, _FORGET = (0x4000_0000 | _VOLUME.size << 16 | _MAGIC << 8 | number for number in (4, 5))
_TREE_SEARCH = 0xC000_0000 | _SEARCH.size << 16 | _MAGIC << 8 | 17

_DEVICE_INFO = 0xC000_0000 | _DEVICE.size << 16 | _MAGIC << 8 | 30

_ROOM = 65536
"""Bytes for items at a time; one of a leaf always fits, for nodes have 64 KiB at most."""
_MOST = (1 << 64) - 1


class TreeItem(NamedTuple):
    """An item of one of Btrfs' trees; the key's three numbers, then what it holds."""

    number: int
    type: int
    offset: int
    data: bytes


def scan_device(device: BlockDevice) -> None:
    """Tell Btrfs of a device, before the file system that it is a part of is mounted.

    Raises :exc:`KernelError`, with what Btrfs said in its log, for a superblock that is damaged.
    """
    _control(device.kernel, device.path, _SCAN, "BTRFS_IOC_SCAN_DEV")


def forget_device(device: BlockDevice) -> None:
    """Have Btrfs forget a device that is not mounted, or that was never one of its."""
    if device.kernel.state == "running":
        # What it does not know, or what is in use, it does not forget.
        with suppress(KernelError):
            _control(device.kernel, device.path, _FORGET, "BTRFS_IOC_FORGET_DEV")


def _control(kernel: Kernel, path: bytes, request: int, call: str) -> None:
    ffi, library = kernel.binding.ffi, kernel.binding.library
    position = kernel.read_log()[1]
    arguments = ffi.new("char[]", _VOLUME.pack(0, c_path(path)))
    descriptor = BlockDevice(kernel, _CONTROL).open()
    try:
        kernel.check(
            library.lkl_sys_ioctl(kernel.pointer, descriptor, request, arguments), call, path
        )
    except KernelError as error:
        if error.code == "kernel.call":
            error.log[:] = kernel.messages_since(position)[-LAST_MESSAGES:]
        raise
    finally:
        kernel.close_descriptor(descriptor)


def has_device(mount: Mount, number: int) -> bool:
    """Whether a device of a mounted file system is there, which it may be without."""
    kernel = mount.kernel
    arguments = kernel.binding.ffi.new("char[]", _DEVICE.pack(number, b""))
    with mount.open_directory() as top:
        kernel.check(
            kernel.binding.library.lkl_sys_ioctl(
                kernel.pointer, top.descriptor, _DEVICE_INFO, arguments
            ),
            "BTRFS_IOC_DEV_INFO",
        )
    _number, path = _DEVICE.unpack(bytes(kernel.binding.ffi.buffer(arguments))[: _DEVICE.size])
    # One that is missing has no name.
    return bool(path.strip(b"\0"))


def search_tree(
    mount: Mount,
    tree: int,
    numbers: tuple[int, int],
    types: tuple[int, int] = (0, 255),
) -> Iterator[TreeItem]:
    """The items of a tree with these numbers (first and last) and types, in order of their keys.

    Raises :exc:`KernelError` when the tree cannot be read.
    """
    kernel = mount.kernel
    ffi, library = kernel.binding.ffi, kernel.binding.library
    low, high = (numbers[0], types[0], 0), (numbers[1], types[1], _MOST)
    buffer = ffi.new("char[]", _SEARCH.size + _ROOM)
    view = memoryview(ffi.buffer(buffer))
    with mount.open_directory() as top:
        while low <= high:
            key = _KEY.pack(
                tree, low[0], high[0], low[2], high[2], 0, _MOST, low[1], high[1], 0xFFFF_FFFF
            )
            view[: _SEARCH.size] = _SEARCH.pack(key, _ROOM)
            kernel.check(
                library.lkl_sys_ioctl(kernel.pointer, top.descriptor, _TREE_SEARCH, buffer),
                "BTRFS_IOC_TREE_SEARCH_V2",
            )
            found = _KEY.unpack_from(view)[9]
            if not found:
                return
            at = _SEARCH.size
            for _ in range(found):
                _transid, number, offset, kind, length = _HEADER.unpack_from(view, at)
                at += _HEADER.size
                low = (number, kind, offset)
                # Keys count on through all numbers between; what is asked for is less.
                if types[0] <= kind <= types[1]:
                    yield TreeItem(number, kind, offset, bytes(view[at : at + length]))
                at += length
            low = _next_key(low)


def _next_key(key: tuple[int, int, int]) -> tuple[int, int, int]:
    number, kind, offset = key
    if offset < _MOST:
        return number, kind, offset + 1
    return (number, kind + 1, 0) if kind < 255 else (number + 1, 0, 0)
