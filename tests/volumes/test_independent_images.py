# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images that no Linux wrote: made and filled by tools with an implementation of their own."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from explorer.core.entries import FileType
from tests.trees import find_tool, host_facts, make_empty, mount_facts, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from explorer.volumes import MountedVolume
    from tests.trees import Facts

MIB = 1 << 20

NAMES = ("type", "size", "content")
TIMES = (*NAMES, "modify_ns")
MODES = (*NAMES, "mode", "uid", "gid")
ALL = (*MODES, "modify_ns", "links")
PLAIN_TYPES = (FileType.FILE, FileType.DIRECTORY)
WITH_LINKS = (*PLAIN_TYPES, FileType.LINK)


@dataclass(frozen=True, slots=True)
class Made:
    """How an image is made, and what its file system and its maker keep."""

    name: str
    feature: str
    make: Callable[[Path, Path], None]
    """From a tree, at a path."""
    kept: tuple[str, ...] = ALL
    types: tuple[FileType, ...] = tuple(FileType)
    volume: str | None = None


# ---- Makers ------------------------------------------------------------------------------------


def by_tool(tool: str, *arguments: str, size: int = 0) -> Callable[[Path, Path], None]:
    """By one tool; TREE and IMAGE stand for both. ``size``: MiB of an empty image before."""

    def make(tree: Path, image: Path) -> None:
        if size:
            make_empty(image, size * MIB)
        run_tool(tool, *({"TREE": tree, "IMAGE": image}.get(one, one) for one in arguments))

    return make


def fat(bits: int, size: int) -> Callable[[Path, Path], None]:
    """By mtools."""

    def make(tree: Path, image: Path) -> None:
        make_empty(image, size * MIB)
        run_tool("mkfs.fat", "-F", str(bits), image)
        entries = sorted(tree.iterdir())
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC", "MTOOLS_SKIP_CHECK": "1"}
        subprocess.run(
            [find_tool("mcopy"), "-i", image, "-s", "-m", "-Q", *entries, "::"],
            env=environment, check=True,
        )  # fmt: skip

    return make


def with_only(
    kinds: tuple[int, ...], make: Callable[[Path, Path], None]
) -> Callable[[Path, Path], None]:
    """A maker that is given a tree without what it would fail at, or follow."""

    def make_narrowed(tree: Path, image: Path) -> None:
        folder = image.with_suffix(".tree")
        run_tool("cp", "-a", tree, folder)
        for path in folder.rglob("*"):
            if stat.S_IFMT(path.lstat().st_mode) not in kinds:
                path.unlink()
        for path in (folder, *folder.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                times = (tree / path.relative_to(folder)).stat()
                os.utime(path, ns=(times.st_mtime_ns, times.st_mtime_ns))
        make(folder, image)
        shutil.rmtree(folder)

    return make_narrowed


PLAIN = (stat.S_IFREG, stat.S_IFDIR)


def hfs(tree: Path, image: Path) -> None:
    """By hfsutils, which keep the current volume in a file of the home folder."""
    make_empty(image, 8 * MIB)
    environment = {**os.environ, "HOME": str(image.parent)}

    def run(tool: str, *arguments: str | bytes | Path) -> None:
        done = subprocess.run([find_tool(tool), *arguments], env=environment, check=True)
        assert done.returncode == 0

    run("hformat", "-l", "volume", image)
    run("hmount", image)
    for path in sorted(tree.rglob("*")):
        target = f":{path.relative_to(tree)}".replace("/", ":").encode("mac_roman")
        if path.is_dir():
            run("hmkdir", target)
        else:
            run("hcopy", "-r", path, target)
    run("humount")


ZISOFS = b"\x37\xe4\x53\x96\xc9\xdb\xd6\x07"
"""What a compressed file begins with."""


def zisofs(tree: Path, image: Path) -> None:
    """By mkzftree, which compresses, and genisoimage, which marks what is compressed."""
    folder = image.with_suffix(".compressed")
    run_tool("mkzftree", tree, folder)
    run_tool("genisoimage", "-quiet", "-R", "-z", "-o", image, folder)
    assert ZISOFS in image.read_bytes()


def zisofs_by_xorriso(tree: Path, image: Path) -> None:
    """By xorriso, which has a compressor of its own."""
    run_tool("xorriso", "-outdev", image, "-map", tree, "/", "-set_filter_r", "--zisofs", "/", "--")
    assert ZISOFS in image.read_bytes()


def xfs(*options: str) -> Callable[[Path, Path], None]:
    """By mkfs.xfs from a prototype, a format that has no spaces in names."""

    def make(tree: Path, image: Path) -> None:
        make_empty(image, 320 * MIB)
        lines = ["/none", "0 0", *prototype(tree)]
        file = image.with_suffix(".prototype")
        file.write_text("\n".join(lines) + "\n")
        run_tool("mkfs.xfs", "-q", *options, "-p", file, image)
        run_tool("xfs_repair", "-n", image)

    return make


def prototype(path: Path, name: str = "") -> list[str]:
    info = path.lstat()
    letter = {
        stat.S_IFREG: "-", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p",
        stat.S_IFCHR: "c", stat.S_IFBLK: "b",
    }[stat.S_IFMT(info.st_mode)]  # fmt: skip
    setuid = "u" if info.st_mode & stat.S_ISUID else "-"
    setgid = "g" if info.st_mode & stat.S_ISGID else "-"
    mode = f"{letter}{setuid}{setgid}{info.st_mode & 0o777:03o}"
    head = f"{name} {mode} {info.st_uid} {info.st_gid}".strip()
    if letter == "d":
        entries = sorted(path.iterdir())
        lines = [line for entry in entries for line in prototype(entry, entry.name)]
        return [head, *lines, "$"]
    if letter == "l":
        return [f"{head} {os.readlink(path)}"]
    if letter in "cb":
        return [f"{head} {os.major(info.st_rdev)} {os.minor(info.st_rdev)}"]
    return [f"{head} {path}" if letter == "-" else head]


def f2fs(tree: Path, image: Path) -> None:
    """By sload.f2fs."""
    make_empty(image, 64 * MIB)
    run_tool("mkfs.f2fs", "-q", "-O", "extra_attr,inode_crtime", image)
    run_tool("sload.f2fs", "-P", "-f", tree, image)
    run_tool("fsck.f2fs", "--dry-run", image)


def ufs(order: str, version: int, *more: str) -> Callable[[Path, Path], None]:
    """By makefs of NetBSD."""
    options = (f"version={version}", *more)
    return by_tool(
        "makefs", "-t", "ffs", "-B", order, "-o", ",".join(options), "-s", "16m", "IMAGE", "TREE"
    )


def ufs2(tree: Path, image: Path) -> None:
    """By makefs, which puts UFS2's superblock where UFS1 has it; Linux wants it at 64 KiB.

    FreeBSD has it there, and looks in both places. Inodes that are not used make room for it.
    """
    ufs("le", 2, "bsize=4096", "fsize=1024", "density=2048")(tree, image)
    with image.open("r+b") as file:
        file.seek(8192)
        superblock = file.read(1376)
        file.seek(65536)
        modes = (file.read(256)[:2] for _ in range(8))
        assert not any(map(any, modes))
        file.seek(65536)
        file.write(superblock)
        # The old one must not be what is read.
        file.seek(8192)
        file.write(bytes(1376))


ISO = ("genisoimage", "-quiet")
MADE = (
    Made("xfs", "version 4", xfs("--unsupported", "-m", "crc=0"), MODES),
    Made("xfs", "version 5", xfs("-m", "crc=1,rmapbt=1"), MODES),
    Made("xfs", "directory blocks of 64 KiB", xfs("-n", "size=65536"), MODES),
    Made("f2fs", "files, links, owners, modes, times", with_only((*PLAIN, stat.S_IFLNK), f2fs),
         (*MODES, "modify_ns"), WITH_LINKS),
    Made("fat", "FAT12, long names in Unicode", with_only(PLAIN, fat(12, 6)), TIMES, PLAIN_TYPES),
    Made("fat", "FAT16, long names in Unicode", with_only(PLAIN, fat(16, 16)), TIMES, PLAIN_TYPES),
    Made("fat", "FAT32, long names in Unicode", with_only(PLAIN, fat(32, 64)), TIMES, PLAIN_TYPES),
    Made("hfs", "files, folders, names in Mac Roman", with_only(PLAIN, hfs), NAMES, PLAIN_TYPES),
    Made(
        "hfs+", "files, links, owners, modes, times, names in Unicode",
        by_tool("xorriso", "-as", "mkisofs", "-quiet", "-hfsplus", "-o", "IMAGE", "TREE"),
        (*MODES, "modify_ns"), WITH_LINKS, "HFSPLUS_Hybrid",
    ),
    Made("cramfs", "files, links, owners, modes, devices", by_tool("mkfs.cramfs", "TREE", "IMAGE"),
         MODES),
    Made("romfs", "files, links, devices", by_tool("genromfs", "-d", "TREE", "-f", "IMAGE"),
         NAMES),
    Made("iso9660", "Rock Ridge", by_tool(*ISO, "-R", "-o", "IMAGE", "TREE"), ALL),
    Made("iso9660", "Joliet", with_only(PLAIN, by_tool(*ISO, "-J", "-o", "IMAGE", "TREE")),
         TIMES, PLAIN_TYPES),
    Made("iso9660", "zisofs of mkzftree", zisofs, MODES, WITH_LINKS),
    Made("iso9660", "zisofs of xorriso", zisofs_by_xorriso),
    Made("udf", "on an optical disc, names in Unicode",
         with_only(PLAIN, by_tool(*ISO, "-udf", "-o", "IMAGE", "TREE")), TIMES, PLAIN_TYPES),
    Made("ufs", "UFS1 of BSD", ufs("le", 1)),
    Made("ufs", "UFS1 of BSD, big-endian", ufs("be", 1)),
    Made("ufs", "UFS2", ufs2),
    Made("btrfs", "files, links, owners, modes",
         by_tool("mkfs.btrfs", "-q", "--rootdir", "TREE", "IMAGE", size=128), MODES,
         WITH_LINKS),
)  # fmt: skip


def narrowed(facts: Mapping[bytes, Facts], made: Made) -> dict[bytes, tuple[object, ...]]:
    """What of each entry is compared; the root is its maker's."""
    return {
        path: tuple(getattr(one, field) for field in made.kept)
        for path, one in facts.items()
        if path and one.type in made.types
    }


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(
            made,
            id=f"{made.name}-{made.feature.replace(' ', '_')}",
            marks=pytest.mark.proves("file system", made.name, made.feature),
        )
        for made in MADE
    ],
)
def test_what_its_own_tool_wrote_is_read(
    made: Made,
    modest_tree: Path,
    tmp_path: Path,
    mounted: Callable[[Path, str | None], MountedVolume],
) -> None:
    image = tmp_path / "image"
    made.make(modest_tree, image)
    found = narrowed(mount_facts(mounted(image, made.volume).mount), made)
    found.pop(b"lost+found", None)
    wanted = narrowed(host_facts(modest_tree), made)
    assert found.keys() == wanted.keys()
    wrong = {path: (found[path], wanted[path]) for path in wanted if found[path] != wanted[path]}
    assert not wrong
