# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems as they are when the plug is pulled.

Written by our kernel on a scratch disk, and copied while that is mounted, right after an fsync
that only the journal knows of.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from explorer.kernel import Kernel
from tests.makers import ScratchDisk
from tests.trees import make_empty, noise, run_tool

if TYPE_CHECKING:
    from pathlib import Path

    from explorer.kernel import Mount

MIB = 1 << 20
OLD, NEW = noise(10_000, 1), noise(50_000, 2)


class Kind(NamedTuple):
    """A journalled file system, and how to make one."""

    name: str
    size: int
    tool: tuple[str, ...]


KINDS = (
    Kind("ext4", 16 * MIB, ("mke2fs", "-q", "-F", "-t", "ext4")),
    Kind("xfs", 320 * MIB, ("mkfs.xfs", "-q")),
    Kind("btrfs", 128 * MIB, ("mkfs.btrfs", "-q")),
    Kind("f2fs", 128 * MIB, ("mkfs.f2fs", "-q")),
)
REISERFS = Kind("reiserfs", 64 * MIB, ("mkreiserfs", "-q", "-f", "-f"))
JFS = Kind("jfs", 32 * MIB, ("jfs_mkfs", "-q"))


def write_file(kernel: Kernel, mount: Mount, name: bytes, content: bytes) -> None:
    """Write a file and sync it."""
    library = kernel.binding.library
    flags = library.LKL_O_WRONLY | library.LKL_O_CREAT  # type: ignore[attr-defined]
    descriptor = kernel.check(
        library.lkl_sys_openat(
            kernel.pointer, library.LKL_AT_FDCWD, mount.mount_point + name, flags, 0o644
        ),
        "openat",
    )
    written = library.lkl_sys_write(kernel.pointer, descriptor, content, len(content))
    assert kernel.check(written, "write") == len(content)
    fsync = library.lkl_sys_fsync  # type: ignore[attr-defined]
    kernel.check(fsync(kernel.pointer, descriptor), "fsync")
    kernel.close_descriptor(descriptor)


def make_dirty(kind: Kind, folder: Path) -> Path:
    """An image with a file "old" in its place, and a file "new" that the journal has."""
    image, dirty = folder / f"{kind.name}.img", folder / f"{kind.name}-dirty.img"
    make_empty(image, kind.size)
    run_tool(*kind.tool, image)
    with ExitStack() as stack:
        scratch = ScratchDisk(image)
        stack.callback(scratch.close)
        kernel = stack.enter_context(Kernel())
        disk = stack.enter_context(kernel.add_scratch_disk(scratch))
        mount = stack.enter_context(disk.mount(kind.name, read_only=False))
        write_file(kernel, mount, b"/old", OLD)
        kernel.binding.library.lkl_sys_sync(kernel.pointer)  # type: ignore[attr-defined]
        write_file(kernel, mount, b"/new", NEW)
        shutil.copyfile(image, dirty)
    image.unlink()
    return dirty
