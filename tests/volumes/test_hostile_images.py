# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Damaged images: whatever stands in them, the program lists, copies or refuses, and says why.

Small images are damaged where something stands in them, by a seed, and read by the program as
people run it. The kernel may end itself on the way, as Linux' own file systems do at some damages;
the program may not, nor may it go on for ever, nor touch the image.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from explorer.cli import codes
from explorer.core.entries import FileType
from tests.makers import write_tree
from tests.trees import make_empty, noise, run_tool
from tests.volumes.handmade import affs, befs, hpfs, qnx6

if TYPE_CHECKING:
    from collections.abc import Callable

    from explorer.volumes import MountedVolume

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 30
"""Enough for a small image on a busy machine; a longer run is one without an end."""
SEEDS = range(3)

_MIB = 1 << 20
_BLOCK = 4096
_PIECE = 64
_BEGINNING = 16
"""Blocks with something in them, from the first on: mostly superblocks and tables."""
_NUMBERS = (0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
"""Sizes and places at which arithmetic goes wrong."""

# ---- The images --------------------------------------------------------------------------------


def written(
    size: int, tool: str, *arguments: str, kind: str, options: str = ""
) -> Callable[[Path, Path], None]:
    """Made by its own tool, written by our kernel."""

    def make(tree: Path, image: Path) -> None:
        make_empty(image, size * _MIB)
        run_tool(tool, *arguments, image)
        write_tree(kind, tree, image, options, plain=True)

    return make


def by_tool(tool: str, *arguments: str) -> Callable[[Path, Path], None]:
    """Made and filled by its own tool; TREE and IMAGE stand for both."""

    def make(tree: Path, image: Path) -> None:
        run_tool(tool, *({"TREE": tree, "IMAGE": image}.get(one, one) for one in arguments))

    return make


def by_hand(content: Callable[[], bytes]) -> Callable[[Path, Path], None]:
    """Written by ourselves, with files of its own."""

    def make(_tree: Path, image: Path) -> None:
        image.write_bytes(content())

    return make


def ext4(tree: Path, image: Path) -> None:
    """Without checksums, which would catch every damage at once."""
    make_empty(image, 8 * _MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^metadata_csum", "-d", tree, image)


MAKERS: dict[str, Callable[[Path, Path], None]] = {
    "ext4": ext4,
    # Version 4, for it has no checksums.
    "xfs": written(32, "mkfs.xfs", "-q", "--unsupported", "-m", "crc=0", kind="xfs"),
    "xfs5": written(32, "mkfs.xfs", "-q", "--unsupported", kind="xfs"),
    "btrfs": written(120, "mkfs.btrfs", "-q", kind="btrfs", options="compress-force=zstd"),
    "f2fs": written(64, "mkfs.f2fs", "-q", kind="f2fs"),
    "fat16": written(16, "mkfs.vfat", "-F", "16", kind="vfat", options="utf8"),
    "exfat": written(8, "mkfs.exfat", kind="exfat", options="iocharset=utf8"),
    "ntfs": written(8, "mkntfs", "-qfF", kind="ntfs3", options="iocharset=utf8"),
    "hfs": written(4, "hformat", kind="hfs"),
    "jfs": written(16, "mkfs.jfs", "-q", kind="jfs", options="iocharset=utf8"),
    "reiserfs": written(34, "mkfs.reiserfs", "-q", "-f", "-f", kind="reiserfs"),
    "nilfs2": written(32, "mkfs.nilfs2", "-q", "-B", "256", kind="nilfs2"),
    "minix3": written(4, "mkfs.minix", "-3", kind="minix"),
    "udf": written(8, "mkudffs", kind="udf"),
    # Its tables of inodes and names not compressed: damages reach what reads them.
    "squashfs": by_tool("mksquashfs", "TREE", "IMAGE", "-noI", "-noappend", "-no-progress"),
    "erofs": by_tool("mkfs.erofs", "-zlz4", "IMAGE", "TREE"),
    "cramfs": by_tool("mkfs.cramfs", "TREE", "IMAGE"),
    "romfs": by_tool("genromfs", "-d", "TREE", "-f", "IMAGE"),
    "iso9660": by_tool("genisoimage", "-quiet", "-R", "-J", "-o", "IMAGE", "TREE"),
    "ufs": by_tool("makefs", "-t", "ffs", "-o", "version=1", "-s", "4m", "IMAGE", "TREE"),
    "affs": by_hand(lambda: affs(fast=False)),
    "befs": by_hand(befs),
    "hpfs": by_hand(hpfs),
    "qnx6": by_hand(qnx6),
}


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders and files that every file system can hold."""
    top = tmp_path_factory.mktemp("hostile") / "top"
    (top / "folder" / "deeper").mkdir(parents=True)
    for number in range(40):
        (top / "folder" / f"file{number:02}.txt").write_text(f"{number}\n" * number * 7)
    (top / "folder" / "deeper" / "leaf").write_text("leaf\n")
    (top / "noise").write_bytes(noise(90_000, 1))
    (top / "repeated").write_bytes(b"all the same " * 20_000)
    (top / "empty").touch()
    return top


@pytest.fixture(scope="module")
def whole(
    built: None, small_tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Images of the tree, each made once."""
    folder = tmp_path_factory.mktemp("whole")

    def image(name: str) -> Path:
        path = folder / f"{name}.img"
        if not path.exists():
            MAKERS[name](small_tree, path)
        return path

    return image


# ---- The damages -------------------------------------------------------------------------------


def filled_blocks(descriptor: int) -> list[int]:
    """Where the blocks begin that are not all zeros."""
    found = []
    offset, size = 0, os.fstat(descriptor).st_size
    while offset < size:
        try:
            offset = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError:
            break
        end = os.lseek(descriptor, offset, os.SEEK_HOLE)
        starts = range(offset - offset % _BLOCK, end, _BLOCK)
        found += [start for start in starts if any(os.pread(descriptor, _BLOCK, start))]
        offset = end
    return found


def damage(image: Path, seed: str) -> None:
    """Damage an image: single bits, numbers, runs, blocks in each other's place, a cut-off end."""
    chance = random.Random(seed)
    descriptor = os.open(image, os.O_RDWR)
    try:
        blocks = filled_blocks(descriptor)

        def place() -> int:
            some = blocks[:_BEGINNING] if chance.random() < 0.6 else blocks
            block = chance.choice(some)
            # Not byte by byte: times and UUIDs would make each run another.
            pieces = range(block, block + _BLOCK, _PIECE)
            filled = [piece for piece in pieces if any(os.pread(descriptor, _PIECE, piece))]
            return chance.choice(filled or pieces) + chance.randrange(_PIECE)

        for _ in range(chance.choice((1, 2, 5, 20))):
            at = place()
            way = chance.randrange(5)
            if way == 0:
                (byte,) = os.pread(descriptor, 1, at)
                os.pwrite(descriptor, bytes([byte ^ 1 << chance.randrange(8)]), at)
            elif way == 1:
                number = struct.pack(chance.choice("<>") + "I", chance.choice(_NUMBERS))
                os.pwrite(descriptor, number, at & ~3)
            elif way == 2:
                os.pwrite(descriptor, b"\xff" * chance.choice((4, 16, 64, 512)), at)
            elif way == 3:
                os.pwrite(descriptor, chance.randbytes(chance.choice((4, 16, 64))), at)
            else:
                places = [start - start % 512 for start in (at, place())]
                contents = [os.pread(descriptor, 512, start) for start in reversed(places)]
                for start, content in zip(places, contents, strict=True):
                    os.pwrite(descriptor, content, start)
        if chance.random() < 0.1:
            os.ftruncate(descriptor, chance.randrange(1, blocks[-1] + _BLOCK))
    finally:
        os.close(descriptor)


# ---- The tests ---------------------------------------------------------------------------------


def run_program(*arguments: str | Path) -> tuple[int, str]:
    """Run the program in a process of its own; returns its exit code and what it complained of."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "explorer", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        timeout=SECONDS,
    )
    return done.returncode, done.stderr.decode(errors="backslashreplace")


def assert_honest(code: int, errors: str) -> None:
    """Hold an outcome to the documented ones, each with its reason."""
    assert "Traceback" not in errors, errors
    assert code >= 0, f"signal {-code}: {errors}"
    if code == codes.KERNEL:
        assert "the kernel in this process has ended" in errors
    else:
        outcomes = (codes.DONE, codes.SOME_FAILED, codes.SOURCE, codes.VOLUME, codes.PATH)
        assert code in outcomes, errors
    assert code == codes.DONE or errors


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MAKERS)
def test_a_damaged_image_is_read_or_refused(
    name: str,
    seed: int,
    whole: Callable[[str], Path],
    tmp_path: Path,
    unchanged: Callable[[Path], Path],
) -> None:
    image = tmp_path / "damaged.img"
    run_tool("cp", "--sparse=always", whole(name), image)
    damage(image, f"{name} {seed}")
    unchanged(image)
    target = tmp_path / "copy"
    listed, errors = run_program("ls", "-lR", image)
    assert_honest(listed, errors)
    copied, errors = run_program("cp", "-r", image, "/", target)
    assert_honest(copied, errors)
    # What cannot be listed at all is not copied; nothing but the copy is written.
    assert (listed in (codes.SOURCE, codes.VOLUME)) == (copied in (codes.SOURCE, codes.VOLUME))
    assert {path.name for path in tmp_path.iterdir()} <= {"damaged.img", "copy"}
    assert not list(target.rglob("*.part"))


# ---- Single damages, each of which once took a whole folder ------------------------------------


def test_a_udf_folder_ends_where_it_is_damaged(
    whole: Callable[[str], Path], tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    # Linux' UDF stays at the entry before a damaged one, and gives it again for ever.
    image = tmp_path / "udf.img"
    content = bytearray(whole("udf").read_bytes())
    # ECMA-167 part 4, section 14.4: 38 bytes before the name and its compression, the first of
    # which are the tag's number.
    entry = content.index(b"file05.txt") - 39
    assert content[entry : entry + 2] == b"\x01\x01"
    content[entry] ^= 0xFF
    image.write_bytes(content)
    unchanged(image)
    listed, errors = run_program("ls", "-R", image)
    assert listed == codes.SOME_FAILED
    assert "/folder:" in errors
    copied, errors = run_program("cp", "-r", image, "/", tmp_path / "copy")
    assert copied == codes.SOME_FAILED
    assert (tmp_path / "copy" / "folder" / "file04.txt").is_file()
    assert (tmp_path / "copy" / "noise").read_bytes() == noise(90_000, 1)


@pytest.mark.parametrize("stored", [0x3B9ACA00, 0x3FFFFFFF, 0x3FFFFFFE])
def test_nanoseconds_beyond_a_second(
    stored: int,
    whole: Callable[[str], Path],
    tmp_path: Path,
    unchanged: Callable[[Path], Path],
) -> None:
    # ext4 passes 30 bits on as they are stored; the largest two are utimensat's "now" and "as is".
    image = tmp_path / "ext4.img"
    run_tool("cp", whole("ext4"), image)
    commands = tmp_path / "commands"
    commands.write_text(
        f"set_inode_field /empty mtime_extra {stored << 2:#x}\n"
        "set_inode_field /empty mtime @1700000000\n"
    )
    run_tool("debugfs", "-w", "-f", commands, image)
    unchanged(image)
    assert run_program("ls", "-l", image) == (codes.DONE, "")
    assert run_program("cp", "-r", image, "/", tmp_path / "copy") == (codes.DONE, "")
    wanted = 1_700_000_000 * 10**9 + stored
    assert (tmp_path / "copy" / "empty").stat().st_mtime_ns == wanted


def test_an_hpfs_tree_that_leads_back_to_itself(
    tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    # Without its own checks Linux' HPFS goes round in it for ever, while it mounts.
    content = bytearray(hpfs())
    node = content.index(struct.pack("<I", 0x77E4_0AAE))
    first, end = node + 20, node + 2048
    length, flags = struct.unpack_from("<HB", content, first)
    below = struct.pack("<I", node // 512)
    content[first:end] = content[first : first + length] + below + content[first + length : end - 4]
    # Of the entry: its length, and that there is a node below it.
    struct.pack_into("<HB", content, first, length + 4, flags | 4)
    # The root's own sector is damaged too, which only those checks would mind.
    content[content.index(struct.pack("<I", 0xF7E4_0AAE))] ^= 0xFF
    image = tmp_path / "hpfs.img"
    image.write_bytes(content)
    unchanged(image)
    listed, errors = run_program("ls", "-R", image)
    assert listed == codes.VOLUME, errors


def test_a_file_system_larger_than_numbers_are(
    tmp_path: Path, mounted: Callable[[Path], MountedVolume]
) -> None:
    content = bytearray(befs())
    # struct befs_super_block: after the first magic number 16 bytes, and two numbers of blocks,
    # of which more are used than there are.
    place = content.index(b"1SFB") + 16
    struct.pack_into("<QQ", content, place, 1 << 60, (1 << 60) + 1)
    image = tmp_path / "befs.img"
    image.write_bytes(content)
    size, free = mounted(image).mount.capacity()
    assert 0 <= free <= size == (1 << 63) - 1


def test_a_type_that_is_none(tmp_path: Path, mounted: Callable[[Path], MountedVolume]) -> None:
    content = bytearray(qnx6())
    # struct qnx6_inode_entry: owner and group, four times, the mode; the root's comes first.
    owner = struct.pack("<II", 12, 34)
    second = content.index(owner, content.index(owner) + 1)
    struct.pack_into("<H", content, second + 24, 0o170644)
    image = tmp_path / "qnx6.img"
    image.write_bytes(content)
    mount = mounted(image).mount
    with mount.open_directory() as root:
        listed = {entry.name: entry.type for entry in root}
    assert list(listed.values()).count(FileType.UNKNOWN) == 1
    assert {name: mount.stat(name).type for name in listed} == listed


def test_an_xfs_that_shuts_itself_down_is_shown_as_stored(
    whole: Callable[[str], Path], tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    # Mounted, Linux writes its superblock, finds what is in it wrong only then, and gives up all.
    image = tmp_path / "xfs.img"
    run_tool("cp", "--sparse=always", whole("xfs5"), image)
    change = ("-c", "sb 0", "-c", "write -d features_log_incompat 0x80000000")
    run_tool("xfs_db", "-x", *change, image)
    unchanged(image)
    assert run_program("cat", image, "/folder/file39.txt")[0] == codes.DONE
    listed, errors = run_program("ls", "--view", "recovered", image)
    assert listed == codes.VOLUME
    assert "Corruption" in errors
