# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images made of a tree of the host give that tree back: every name, byte and fact."""

from __future__ import annotations

import lzma
import os
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.makers import write_tree
from tests.trees import (
    LONGEST_NAME,
    Facts,
    assert_same,
    host_facts,
    make_empty,
    mount_facts,
    noise,
    read_by_grub,
    run_tool,
    whole_seconds,
    without,
)
from tests.volumes.truth import IMAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from explorer.volumes import MountedVolume


_SECOND = 10**9


def times_in(facts: Mapping[bytes, Facts], low: int, high: int) -> dict[bytes, Facts]:
    """Whole seconds, in 32 bits: what is beyond comes round at the other end."""
    return {
        path: replace(
            one, modify_ns=((one.modify_ns // _SECOND - low) % (high - low) + low) * _SECOND
        )
        for path, one in facts.items()
    }


def by_mke2fs(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """Its -d writes no more of a time than 32 bits, and a root of its own."""
    return without(times_in(facts, -(2**31), 2**31), b"")


def by_mksquashfs(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """SquashFS has 32 bits without a sign for a time."""
    return times_in(facts, 0, 2**32)


def by_mkfs_btrfs(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """Its --rootdir writes seconds, no numbers of devices, and a root of its own."""
    kept = {
        path: replace(one, content="0:0") if one.type in (2, 6) else one
        for path, one in facts.items()
    }
    return without(whole_seconds(kept), b"")


def by_mkfs_erofs(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """A name was left out for it."""
    return without(facts, LONGEST_NAME.encode())


def same(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """Everything is kept."""
    return dict(facts)


# What an image's maker cannot keep is taken off what is wanted.
KEPT: dict[str, Callable[[Mapping[bytes, Facts]], dict[bytes, Facts]]] = {
    "ext4": by_mke2fs,
    "ext4-written": same,
    "ext2": by_mke2fs,
    "xfs": same,
    "btrfs": by_mkfs_btrfs,
    "btrfs-written": same,
    "f2fs": same,
    **{f"squashfs-{name}": by_mksquashfs for name in ("gzip", "xz", "lzo", "lz4", "zstd")},
    "erofs": by_mkfs_erofs,
    "erofs-lz4": by_mkfs_erofs,
}


def whole_tree(name: str) -> object:
    """An image of the whole tree, and what that proves."""
    kind, _, how = name.partition("-")
    feature = {
        "": "a whole tree: names as bytes, holes, modes, owners, links, devices, attributes",
        "written": "a whole tree, times in nanoseconds from before 1970 to beyond 2038",
    }.get(how, how)
    return pytest.param(name, marks=pytest.mark.proves("file system", kind, feature))


@pytest.mark.parametrize("name", [whole_tree(name) for name in sorted(KEPT)])
def test_a_tree_comes_back(
    name: str,
    tree: Path,
    image_of: Callable[[str], Path],
    mounted: Callable[[Path], MountedVolume],
) -> None:
    volume = mounted(image_of(name))
    assert not volume.as_stored
    wanted = KEPT[name](host_facts(tree))
    found = without(mount_facts(volume.mount), b"lost+found", *({b""} - wanted.keys()))
    assert_same(found, wanted)


# ---- File systems that keep less ---------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders and files with ordinary names, and times that every file system can hold."""
    top = tmp_path_factory.mktemp("plain") / "top"
    (top / "folder" / "deeper").mkdir(parents=True)
    (top / "empty folder").mkdir()
    for number in range(300):
        (top / "folder" / f"number {number:03}.txt").write_text(f"{number}\n")
    (top / "Größe 日本.txt").write_text("unicode\n")
    (top / "MiXed.Case.Name").write_bytes(noise(70_000, 1))
    (top / "folder" / "deeper" / "large.bin").write_bytes(noise(3_000_017, 2))
    (top / "empty").touch()
    moment = 1_700_000_000 * _SECOND
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, ns=(moment, moment))
    return top


class Plain(NamedTuple):
    """A file system that knows no owners, modes or links, and how it is made and written."""

    name: str
    feature: str
    size: int
    """MiB."""
    tool: tuple[str, ...]
    kind: str
    """The kernel's name."""
    options: str = ""
    """For writing."""
    checker: tuple[str, ...] = ()


FAT = "utf8,tz=UTC"
PLAIN = (
    Plain("fat", "FAT12", 6, ("mkfs.vfat", "-F", "12"), "vfat", FAT, ("fsck.vfat", "-n")),
    Plain("fat", "FAT16", 32, ("mkfs.vfat", "-F", "16"), "vfat", FAT, ("fsck.vfat", "-n")),
    Plain("fat", "FAT32", 64, ("mkfs.vfat", "-F", "32"), "vfat", FAT, ("fsck.vfat", "-n")),
    Plain("exfat", "names in Unicode", 32, ("mkfs.exfat",), "exfat", "iocharset=utf8",
          ("fsck.exfat", "-n")),
    Plain("ntfs", "names in Unicode", 64, ("mkntfs", "-qfF"), "ntfs3", "iocharset=utf8",
          ("ntfsfix", "-n")),
    Plain("jfs", "names in Unicode", 32, ("mkfs.jfs", "-q"), "jfs", "iocharset=utf8",
          ("fsck.jfs", "-n")),
    Plain("nilfs2", "names in Unicode", 256, ("mkfs.nilfs2", "-q"), "nilfs2"),
    Plain("minix", "version 3", 16, ("mkfs.minix", "-3"), "minix", "", ("fsck.minix",)),
    Plain("udf", "on a hard disk", 32, ("mkfs.udf",), "udf"),
)  # fmt: skip


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(
            made,
            id=f"{made.name}-{made.feature}",
            marks=pytest.mark.proves("file system", made.name, made.feature),
        )
        for made in PLAIN
    ],
)
def test_names_bytes_and_times_come_back(
    made: Plain,
    plain_tree: Path,
    tmp_path: Path,
    built: None,
    mounted: Callable[[Path], MountedVolume],
) -> None:
    image = make_empty(tmp_path / "image", made.size << 20)
    run_tool(made.tool[0], *made.tool[1:], image)
    write_tree(made.kind, plain_tree, image, made.options, plain=True)
    if made.checker:
        run_tool(made.checker[0], *made.checker[1:], image)
    facts = mount_facts(mounted(image).mount)
    found = {path: (one.type, one.size, one.modify_ns, one.content) for path, one in facts.items()}
    wanted = {
        path: (one.type, one.size, one.modify_ns, one.content)
        for path, one in host_facts(plain_tree).items()
    }
    # The root is the maker's, and so is a file in NILFS2's.
    for path in (b"", b".nilfs"):
        found.pop(path, None)
        wanted.pop(path, None)
    assert found == wanted
    # Not only Linux reads what Linux wrote.
    for name in ("MiXed.Case.Name", "folder/deeper/large.bin", "folder/number 299.txt"):
        assert read_by_grub(image, f"/{name}") == (plain_tree / name).read_bytes()


class Older(NamedTuple):
    """A file system with owners, modes and links, in small numbers and whole seconds."""

    name: str
    feature: str
    size: int
    """MiB."""
    tool: tuple[str, ...]
    options: str = ""
    """For writing."""
    checker: tuple[str, ...] = ()
    xattrs: bool = False


MODES = "modes, owners, links, devices"
OLDER = (
    Older("jfs", f"{MODES}, attributes", 32, ("mkfs.jfs", "-q"), "iocharset=utf8",
          ("fsck.jfs", "-n"), xattrs=True),
    Older("reiserfs", f"{MODES}, attributes", 64, ("mkreiserfs", "-q", "-f", "-f"), "user_xattr",
          ("reiserfsck", "-y", "-q", "--check"), xattrs=True),
    Older("nilfs2", MODES, 160, ("mkfs.nilfs2", "-q")),
    Older("minix", f"version 1: {MODES}", 8, ("mkfs.minix", "-1"), "", ("fsck.minix",)),
    Older("minix", f"version 2: {MODES}", 8, ("mkfs.minix", "-2"), "", ("fsck.minix",)),
    Older("minix", f"version 3: {MODES}", 8, ("mkfs.minix", "-3"), "", ("fsck.minix",)),
    Older("udf", MODES, 32, ("mkfs.udf",)),
)  # fmt: skip


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(
            made,
            id=f"{made.name}-{made.feature.split(':')[0]}",
            marks=pytest.mark.proves("file system", made.name, made.feature),
        )
        for made in OLDER
    ],
)
def test_modes_owners_and_links_come_back(
    made: Older,
    modest_tree: Path,
    tmp_path: Path,
    built: None,
    mounted: Callable[[Path], MountedVolume],
) -> None:
    top = tmp_path / "top"
    run_tool("cp", "-a", modest_tree, top)
    if made.xattrs:
        os.setxattr(top / "hello.txt", "user.note", b"a value with \0 and \xff")
        os.setxattr(top / "folder", "user.folder", b"x" * 3000)
    image = make_empty(tmp_path / "image", made.size << 20)
    run_tool(made.tool[0], *made.tool[1:], image)
    write_tree(made.name, top, image, made.options)
    if made.checker:
        run_tool(made.checker[0], *made.checker[1:], image)
    wanted = without(host_facts(top), b"")
    assert_same(without(mount_facts(mounted(image).mount), b"", b".nilfs"), wanted)
    assert read_by_grub(image, "/folder/large.bin") == (top / "folder/large.bin").read_bytes()


# ---- bcachefs: no tool of it, but a real superblock --------------------------------------------

# One of util-linux' images holds a bcachefs as its mkfs leaves it: superblocks without checksum
# and without anything else, which the kernel fills at the first mount, on 4 MiB: too little.
BCACHEFS = IMAGES / "blkid" / "bcachefs-2.img.xz"
BCACHEFS_SUPERBLOCKS = (8, 2560, 6144)
"""Where its copies are, in sectors of 512 bytes."""
BCACHEFS_BUCKETS = 752 + 8 + 16
"""Byte of the number of buckets: struct bch_member in the field members_v1 (bcachefs_format.h)."""
BCACHEFS_BUCKET = 64 << 10


@pytest.mark.proves(
    "file system",
    "bcachefs",
    "a whole tree: names as bytes, holes, modes, owners, links, devices, attributes",
)
@pytest.mark.skipif(not BCACHEFS.is_file(), reason="the real images are not here")
def test_bcachefs_gives_a_tree_back(
    tree: Path, tmp_path: Path, built: None, mounted: Callable[[Path], MountedVolume]
) -> None:
    image = tmp_path / "bcachefs.img"
    content = bytearray(lzma.decompress(BCACHEFS.read_bytes()))
    for sector in BCACHEFS_SUPERBLOCKS:
        at = sector * 512 + BCACHEFS_BUCKETS
        assert struct.unpack_from("<Q", content, at) == (len(content) // BCACHEFS_BUCKET,)
        struct.pack_into("<Q", content, at, (256 << 20) // BCACHEFS_BUCKET)
    image.write_bytes(content)
    os.truncate(image, 256 << 20)
    write_tree("bcachefs", tree, image)
    volume = mounted(image)
    assert volume.kind == "bcachefs"
    wanted = host_facts(tree)
    found = without(mount_facts(volume.mount), b"lost+found", *({b""} - wanted.keys()))
    assert_same(found, wanted)
