# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole small images to be changed, and which of their blocks Linux looks at."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from mmap import ACCESS_COPY, mmap
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.entries import FileType
from explorer.core.errors import ExplorerError
from explorer.core.extents import Extent, ExtentKind
from explorer.images.files import HostFile
from explorer.images.raw import RawImage
from explorer.kernel import Kernel
from explorer.volumes import Stack
from tests.dirty import KINDS, make_dirty
from tests.gate.sums import find_sums
from tests.makers import write_tree
from tests.trees import make_empty, noise, run_tool
from tests.volumes.test_hostile_images import MAKERS as PLAIN
from tests.volumes.test_hostile_images import written
from tests.volumes.truth import IMAGES, copy_of, real_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from explorer.kernel import BlockDevice, Mount
    from tests.fuzz.seed import Sum

BLOCK = 4096
"""Bytes that runs are made of."""
SECTOR = 512
"""Bytes of which it is told apart whether they are read."""
MIB = 1 << 20
# include/uapi/linux/fs.h: _IO(0x12, 97) and _IO(0x12, 98)
_BLKFLSBUF, _BLKRASET = 0x1261, 0x1262


class Run(NamedTuple):
    """Bytes that are not all zeros."""

    start: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Base:
    """A whole image."""

    name: str
    size: int
    runs: list[Run]
    mounted: list[int]
    """Where the sectors start that are read until it is mounted, but for zeros and files' bytes."""
    walked: list[int]
    """Those that are read afterwards, to list and stat everything."""
    filled: list[int]
    """All that hold something."""
    sums: list[Sum]

    def write(self, path: Path) -> None:
        """Make a file of it."""
        with path.open("wb") as file:
            for run in self.runs:
                file.seek(run.start)
                file.write(run.content)
            file.truncate(self.size)


_NOISE = noise(90_000, 1)
_WORDS = b"all the same "


# ---- Makers ------------------------------------------------------------------------------------


def make_small_tree(top: Path) -> None:
    """Folders and files that every file system can hold."""
    (top / "folder" / "deeper").mkdir(parents=True)
    for number in range(40):
        (top / "folder" / f"file{number:02}.txt").write_text(f"{number}\n" * number * 7)
    (top / "folder" / "deeper" / "leaf").write_text("leaf\n")
    (top / "noise").write_bytes(_NOISE)
    (top / "repeated").write_bytes(_WORDS * 20_000)
    (top / "empty").touch()


def make_rich_tree(top: Path) -> None:
    """More: links, attributes of all lengths, holes, and a folder of several blocks."""
    make_small_tree(top)
    many = top / "many"
    many.mkdir()
    for number in range(400):
        (many / f"a file with a longer name, number {number:04}").touch()
    (top / "short link").symlink_to("folder/deeper/leaf")
    (top / "long link").symlink_to("x" * 900)
    os.link(top / "noise", top / "folder" / "noise again")
    os.mkfifo(top / "fifo")
    for length in (0, 40, 900, 3000):
        os.setxattr(top / "empty", f"user.of-{length}", b"v" * length)
    os.setxattr(top / "folder", "user.note", b"n" * 100)
    with (top / "holes").open("wb") as file:
        for start in range(0, 40 * 65536, 2 * 65536):
            file.seek(start)
            file.write(noise(4096, start))


def _tool(size: int, *command: str) -> Callable[[Path, Path], None]:
    """Made and filled by its own tool; TREE stands for the tree, the image comes last."""

    def make(tree: Path, image: Path) -> None:
        make_empty(image, size * MIB)
        run_tool(command[0], *(tree if one == "TREE" else one for one in command[1:]), image)

    return make


def _rich(size: int, kind: str, *tool: str, options: str = "") -> Callable[[Path, Path], None]:
    """A rich tree, written by our kernel."""

    def make(tree: Path, image: Path) -> None:
        make_empty(image, size * MIB)
        run_tool(*tool, image)
        write_tree(kind, tree, image, options)

    return make


RICH: dict[str, Callable[[Path, Path], None]] = {
    "ext4-rich": _tool(
        16, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O",
        "^metadata_csum,inline_data,ea_inode,dir_index", "-d", "TREE",
    ),
    "ext2-rich": _tool(8, "mke2fs", "-q", "-F", "-t", "ext2", "-b", "4096", "-d", "TREE"),
    "xfs-rich": _rich(
        48, "xfs", "mkfs.xfs", "-q", "--unsupported", "-n", "size=4096",
        "-m", "rmapbt=1,reflink=1,bigtime=1,inobtcount=1", "-i", "nrext64=0",
    ),
    "btrfs-rich": _rich(120, "btrfs", "mkfs.btrfs", "-q", "-m", "single", options="compress=lzo"),
    "f2fs-rich": _rich(
        64, "f2fs", "mkfs.f2fs", "-q", "-O",
        "extra_attr,inode_checksum,inode_crtime,flexible_inline_xattr,compression",
    ),
    "jfs-rich": _rich(16, "jfs", "mkfs.jfs", "-q"),
    "ntfs-rich": _rich(16, "ntfs3", "mkntfs", "-qfF", "-c", "512"),
}  # fmt: skip


def _squashfs_xz(tree: Path, image: Path) -> None:
    run_tool("mksquashfs", tree, image, "-comp", "xz", "-noI", "-noappend", "-no-progress")


OTHERS: dict[str, Callable[[Path, Path], None]] = {
    "ext4-sums": _tool(16, "mke2fs", "-q", "-F", "-t", "ext4", "-d", "TREE"),
    "fat32": written(48, "mkfs.vfat", "-F", "32", kind="vfat", options="utf8"),
    "minix1": written(4, "mkfs.minix", "-1", "-n", "30", kind="minix"),
    "squashfs-xz": _squashfs_xz,
}

REAL = {
    "hfsplus": "dfvfs/hfsplus.raw",
    "udf-nero": "blkid/udf-bdr-2.60-nero.img.xz",
    "udf-windows": "blkid/udf-hdd-win7.img.xz",
}
"""Of file systems that nothing here can make, by what they are called."""

DIRTY = {f"{kind.name}-dirty": kind for kind in KINDS}
"""With a journal or log that has to be replayed."""

NAMES = (*PLAIN, *OTHERS, *RICH, *DIRTY, *REAL)


# ---- What is read of them ----------------------------------------------------------------------


class _Recorded(RawImage):
    """An image that remembers where it is read."""

    def __init__(self, path: Path) -> None:
        super().__init__(HostFile(path))
        self.sectors: set[int] = set()

    def plain_file(self) -> int | None:
        """None, so that every read comes by here."""
        return None

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """All of it is to be asked for."""
        yield Extent(offset, length, ExtentKind.ENCODED, -1, 0)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``."""
        self.sectors.update(range(offset - offset % SECTOR, offset + len(buffer), SECTOR))
        super().read_into(offset, buffer)


def _record(path: Path) -> tuple[str, set[int], set[int]]:
    """The file system of an image, the sectors read to mount it, and those to walk it then."""
    image = _Recorded(path)
    with image, Kernel() as kernel, Stack(kernel, [image]) as stack:
        for disk in stack.disks:
            _read_no_further(disk.device())
        image.sectors.clear()
        for volume in stack.volumes():
            if volume.mountable:
                with stack.mount(volume) as mounted:
                    before = set(image.sectors)
                    _walk(mounted.mount)
                    return mounted.kind, before, image.sectors - before
    raise AssertionError(f"{path}: nothing to mount")


def _read_no_further(device: BlockDevice) -> None:
    """Have the kernel forget what it has read, and from now on read nothing ahead."""
    kernel, descriptor = device.kernel, device.open()
    try:
        library, nothing = kernel.binding.library, kernel.binding.ffi.NULL
        for name, request in (("BLKRASET", _BLKRASET), ("BLKFLSBUF", _BLKFLSBUF)):
            result = library.lkl_sys_ioctl(kernel.pointer, descriptor, request, nothing)
            kernel.check(result, name)
    finally:
        kernel.close_descriptor(descriptor)


def _walk(mount: Mount) -> None:
    paths: dict[int, bytes] = {0: b""}
    with mount.open_directory() as root, root.walk() as walk:
        for entry in walk:
            path = paths.get(entry.directory, b"") + b"/" + entry.name
            if entry.number:
                paths[entry.number] = path
            with suppress(ExplorerError):
                if entry.type == FileType.LINK:
                    mount.read_link(path)
                mount.read_xattrs(path)


# ---- All of it ---------------------------------------------------------------------------------


def _runs(path: Path) -> Iterator[Run]:
    """What is in a file, without its zeros."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = 0
        while offset < size:
            try:
                offset = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(file.fileno(), offset, os.SEEK_HOLE)
            offset -= offset % BLOCK
            for start in range(offset, end, BLOCK):
                block = os.pread(file.fileno(), BLOCK, start)
                if block.count(0) < len(block):
                    yield Run(start, block)
            offset = end


def _joined(blocks: Iterator[Run]) -> list[Run]:
    """Runs that follow upon one another as one."""
    joined: list[Run] = []
    pieces: list[bytes] = []
    start = end = -1
    for block in blocks:
        if block.start != end:
            if pieces:
                joined.append(Run(start, b"".join(pieces)))
            start, pieces = block.start, []
        pieces.append(block.content)
        end = block.start + len(block.content)
    if pieces:
        joined.append(Run(start, b"".join(pieces)))
    return joined


def can_be_made(name: str) -> bool:
    """Whether what an image is made of is here; that of other projects need not be."""
    return name not in REAL or (IMAGES / REAL[name]).is_file()


def _make_image(name: str, folder: Path) -> Path:
    if name in REAL:
        (real,) = [one for one in real_images() if one.name == REAL[name]]
        return copy_of(real, folder)
    if name in DIRTY:
        return make_dirty(DIRTY[name], folder)
    tree = folder / "tree"
    tree.mkdir()
    (make_rich_tree if name in RICH else make_small_tree)(tree)
    image = folder / f"{name}.img"
    {**PLAIN, **OTHERS, **RICH}[name](tree, image)
    return image


def _is_told(sector: bytes) -> bool:
    """Whether something of the file system's own may be in it: neither zeros nor files' bytes."""
    return any(sector) and sector.count(_WORDS) < 20 and sector not in _NOISE


def make_base(name: str, folder: Path) -> Base:
    """Make an image in an empty folder, and look at it."""
    path = _make_image(name, folder)
    kind, mounted, walked = _record(path)
    runs = _joined(_runs(path))
    filled = [at for run in runs for at in range(run.start, run.start + len(run.content), BLOCK)]
    told = [
        run.start + at
        for run in runs
        for at in range(0, len(run.content), SECTOR)
        if _is_told(run.content[at : at + SECTOR])
    ]
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_COPY) as content:
        sums = find_sums(kind, content, [(run.start, run.start + len(run.content)) for run in runs])
    return Base(
        name,
        path.stat().st_size,
        runs,
        [at for at in told if at in mounted],
        [at for at in told if at in walked],
        filled,
        sums,
    )
