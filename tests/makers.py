# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images of a tree: by each file system's own tools where these take a tree.

Where they do not, or lose something on the way, the tree is written by our own kernel onto a
scratch disk that the file system's own tool made, and that its own checker then looks at.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from explorer.kernel import Kernel
from tests.trees import LONGEST_NAME, make_empty, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.kernel import Mount

_MIB = 1 << 20
_PIECE = 256 * 1024


class ScratchDisk:
    """A file that the kernel may write to."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Read a range."""
        assert os.preadv(self._descriptor, [buffer], offset) == len(buffer)

    def write_from(self, offset: int, buffer: memoryview) -> None:
        """Write a range."""
        assert os.pwrite(self._descriptor, buffer, offset) == len(buffer)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Writer:
    """Writes a host's tree into a file system of our kernel.

    ``plain``: names, contents and times only, for file systems that know no more.
    """

    def __init__(self, kernel: Kernel, mount: Mount, *, plain: bool = False) -> None:
        self._kernel = kernel
        self._plain = plain
        self._top = mount.mount_point
        # System calls that only tests make, and that the binding therefore does not declare.
        self._library: Any = kernel.binding.library
        self._links: dict[tuple[int, int], bytes] = {}

    def _call(self, name: str, *arguments: object) -> int:
        result = getattr(self._library, f"lkl_sys_{name}")(self._kernel.pointer, *arguments)
        return self._kernel.check(result, name)

    def write(self, source: bytes, name: bytes = b"") -> None:
        """Write an entry with all below it; the start is the mount's root itself."""
        target = self._top + name
        info = os.lstat(source)
        here = self._library.LKL_AT_FDCWD
        first = self._links.get((info.st_dev, info.st_ino))
        if first is not None:
            self._call("linkat", here, first, here, target, 0)
            return
        if stat.S_ISDIR(info.st_mode):
            if name:
                self._call("mkdirat", here, target, 0o700)
            for entry in sorted(os.listdir(source)):
                self.write(source + b"/" + entry, name + b"/" + entry)
        elif stat.S_ISLNK(info.st_mode):
            self._call("symlinkat", os.readlink(source), here, target)
        elif stat.S_ISREG(info.st_mode):
            self._write_file(source, target, info.st_size)
        else:
            # The kernel's own coding of a device's numbers (new_encode_dev).
            major, minor = os.major(info.st_rdev), os.minor(info.st_rdev)
            device = (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
            self._call("mknodat", here, target, info.st_mode, device)
        if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
            self._links[info.st_dev, info.st_ino] = target
        self._write_facts(source, target, info)

    def _write_file(self, source: bytes, target: bytes, size: int) -> None:
        library = self._library
        flags = library.LKL_O_WRONLY | library.LKL_O_CREAT | library.LKL_O_EXCL
        descriptor = self._call("openat", library.LKL_AT_FDCWD, target, flags, 0o600)
        self._call("ftruncate", descriptor, size)
        host = os.open(source, os.O_RDONLY)
        try:
            offset = 0
            while offset < size:
                try:
                    offset = os.lseek(host, offset, os.SEEK_DATA)
                except OSError:
                    break
                end = os.lseek(host, offset, os.SEEK_HOLE)
                while offset < end:
                    piece = os.pread(host, min(_PIECE, end - offset), offset)
                    offset += self._call("pwrite64", descriptor, piece, len(piece), offset)
        finally:
            os.close(host)
        self._call("close", descriptor)

    def _write_facts(self, source: bytes, target: bytes, info: os.stat_result) -> None:
        library, ffi = self._library, self._kernel.binding.ffi
        here = library.LKL_AT_FDCWD
        nofollow = library.LKL_AT_SYMLINK_NOFOLLOW
        if not self._plain:
            self._write_owner(source, target, info)
        times = ffi.new("struct lkl_timespec[2]")
        for time, moment in zip(times, (info.st_atime_ns, info.st_mtime_ns), strict=True):
            time.tv_sec, time.tv_nsec = divmod(moment, 10**9)
        self._call("utimensat", here, target, times, nofollow)

    def _write_owner(self, source: bytes, target: bytes, info: os.stat_result) -> None:
        library = self._library
        here = library.LKL_AT_FDCWD
        nofollow = library.LKL_AT_SYMLINK_NOFOLLOW
        # Which takes capabilities away, and so comes before these.
        self._call("fchownat", here, target, info.st_uid, info.st_gid, nofollow)
        for name in os.listxattr(source, follow_symlinks=False):
            value = os.getxattr(source, name, follow_symlinks=False)
            self._call("lsetxattr", target, os.fsencode(name), value, len(value), 0)
        if not stat.S_ISLNK(info.st_mode):
            self._call("fchmodat", here, target, info.st_mode & 0o7777)


def write_tree(
    kind: str, tree: Path, image: Path, options: str = "", *, plain: bool = False
) -> None:
    """Write a tree into the file system that an image holds, by our own kernel."""
    with ExitStack() as stack:
        scratch = ScratchDisk(image)
        stack.callback(scratch.close)
        kernel = stack.enter_context(Kernel())
        disk = stack.enter_context(kernel.add_scratch_disk(scratch))
        mount = stack.enter_context(disk.mount(kind, options=options, read_only=False))
        Writer(kernel, mount, plain=plain).write(os.fsencode(tree))


# ---- One maker per image -----------------------------------------------------------------------


def ext4(tree: Path, image: Path) -> Path:
    """By mke2fs from the tree."""
    make_empty(image, 64 * _MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, image)
    return image


def ext4_written(tree: Path, image: Path) -> Path:
    """Written by our kernel, so that times have their nanoseconds; checked by e2fsck."""
    make_empty(image, 64 * _MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", image)
    write_tree("ext4", tree, image)
    run_tool("e2fsck", "-f", "-n", image)
    return image


def ext2(tree: Path, image: Path) -> Path:
    """Without a journal, in small blocks."""
    make_empty(image, 64 * _MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024", "-d", tree, image)
    return image


def xfs(tree: Path, image: Path) -> Path:
    """Written by our kernel, for mkfs takes no such names; checked by xfs_repair."""
    make_empty(image, 320 * _MIB)
    run_tool("mkfs.xfs", "-q", image)
    write_tree("xfs", tree, image)
    run_tool("xfs_repair", "-n", image)
    return image


def btrfs(tree: Path, image: Path) -> Path:
    """By mkfs.btrfs from the tree."""
    make_empty(image, 256 * _MIB)
    run_tool("mkfs.btrfs", "-q", "--rootdir", tree, image)
    return image


def btrfs_written(tree: Path, image: Path) -> Path:
    """Written by our kernel, compressed; checked by btrfs check."""
    make_empty(image, 256 * _MIB)
    run_tool("mkfs.btrfs", "-q", image)
    write_tree("btrfs", tree, image, "compress-force=zstd")
    run_tool("btrfs", "check", "--readonly", image)
    return image


def f2fs(tree: Path, image: Path) -> Path:
    """Written by our kernel; checked by fsck.f2fs."""
    make_empty(image, 256 * _MIB)
    run_tool("mkfs.f2fs", "-q", "-O", "extra_attr,inode_crtime", image)
    write_tree("f2fs", tree, image)
    run_tool("fsck.f2fs", "--dry-run", image)
    return image


def squashfs(compression: str) -> Callable[[Path, Path], Path]:
    """By mksquashfs, with one of its compressions."""

    def make(tree: Path, image: Path) -> Path:
        run_tool("mksquashfs", tree, image, "-comp", compression, "-noappend", "-no-progress")
        return image

    return make


def erofs(*options: str) -> Callable[[Path, Path], Path]:
    """By mkfs.erofs."""

    def make(tree: Path, image: Path) -> Path:
        # mkfs.erofs 1.5 fails at a name of 255 bytes.
        copy = image.with_suffix(".tree")
        run_tool("cp", "-a", tree, copy)
        (copy / LONGEST_NAME).unlink()
        os.utime(copy, ns=(tree.stat().st_atime_ns, tree.stat().st_mtime_ns))
        run_tool("mkfs.erofs", *options, image, copy)
        return image

    return make


MAKERS: dict[str, Callable[[Path, Path], Path]] = {
    "ext4": ext4,
    "ext4-written": ext4_written,
    "ext2": ext2,
    "xfs": xfs,
    "btrfs": btrfs,
    "btrfs-written": btrfs_written,
    "f2fs": f2fs,
    **{f"squashfs-{name}": squashfs(name) for name in ("gzip", "xz", "lzo", "lz4", "zstd")},
    "erofs": erofs("-Eforce-inode-extended"),
    "erofs-lz4": erofs("-zlz4", "-Eforce-inode-extended"),
}
