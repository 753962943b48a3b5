# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What file systems tell of themselves is what their own tools tell of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from explorer.images.registry import open_image
from explorer.volumes.features import CLEAN, DIRTY, DIRTY_JOURNAL, describe_content
from explorer.volumes.signatures import recognise
from explorer.volumes.window import Window
from tests.dirty import JFS, KINDS, REISERFS, Kind, make_dirty
from tests.trees import make_empty, run_tool

if TYPE_CHECKING:
    from pathlib import Path

    from explorer.images.base import Fact

MIB = 1 << 20

XFS_NAMES = {"sparse_inodes": "sparse", "inobtcnt": "inobtcount", "v5": "", "v4": ""}


def describe(image: Path) -> dict[str, Fact]:
    """What is told of a file system on a bare image."""
    with open_image(image, "raw") as opened:
        window = Window(opened.read, 0, opened.size)
        found = recognise(window)
        assert found is not None
        return describe_content(window, found.content)


def features(image: Path) -> set[str]:
    told = describe(image)["features"]
    assert isinstance(told, list)
    assert len(set(told)) == len(told)
    return set(told)


@pytest.mark.proves("file system", "ext4", "features and state, as dumpe2fs tells them")
@pytest.mark.parametrize(
    "options",
    [
        ("-t", "ext2"),
        ("-t", "ext3"),
        (
            "-t",
            "ext4",
            "-O",
            "inline_data,encrypt,casefold,project,verity,quota,large_dir,ea_inode",
        ),
        ("-t", "ext4", "-O", "bigalloc,metadata_csum_seed,sparse_super2,stable_inodes,mmp"),
        ("-t", "ext4", "-O", "^has_journal,^64bit,^flex_bg,meta_bg,^resize_inode,uninit_bg"),
    ],
)
def test_ext(tmp_path: Path, options: tuple[str, ...]) -> None:
    image = make_empty(tmp_path / "image", 64 * MIB)
    run_tool("mke2fs", "-q", "-F", *options, image)
    shown = re.search(r"Filesystem features: +(.*)", run_tool("dumpe2fs", "-h", image))
    assert shown is not None
    assert features(image) == set(shown[1].split())
    assert describe(image)["state"] == CLEAN
    assert describe(image)["last mounted"] == "never"


@pytest.mark.proves("file system", "xfs", "features and state, as xfs_db tells them")
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-m", "rmapbt=1,reflink=0,bigtime=0", "-i", "sparse=0"),
        ("-m", "crc=0", "-i", "attr=1,projid32bit=0", "-l", "version=1"),
    ],
)
def test_xfs(tmp_path: Path, options: tuple[str, ...]) -> None:
    image = make_empty(tmp_path / "image", 320 * MIB)
    run_tool("mkfs.xfs", "-q", *options, image)
    shown = run_tool("xfs_db", "-r", "-c", "version", image).split(" = ")[1].strip().lower()
    wanted = {XFS_NAMES.get(name, name) for name in shown.split(",")} - {""}
    # The tool has words of its own for what all file systems of these days have.
    assert features(image) - {"nlink", "dirv2"} == wanted - {"nlink", "dirv2"}
    assert describe(image)["state"] == CLEAN


@pytest.mark.proves("file system", "btrfs", "features and state, as its own tools tell them")
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--csum", "blake2", "-O", "^no-holes,raid1c34"),
        ("-M", "-n", "4096", "--csum", "xxhash"),
    ],
)
def test_btrfs(tmp_path: Path, options: tuple[str, ...]) -> None:
    image = make_empty(tmp_path / "image", 128 * MIB)
    run_tool("mkfs.btrfs", "-q", *options, image)
    shown = run_tool("btrfs", "inspect-internal", "dump-super", image)
    wanted = set()
    for flags in ("compat_ro_flags", "incompat_flags"):
        named = re.search(rf"\n{flags}\t+\S+\n\t+\(([^)]*)\)", shown)
        if named:
            wanted |= {name.strip().lower().replace("_", "-") for name in named[1].split("|")}
    assert features(image) == wanted
    kind = re.search(r"csum_type\t+\d+ \((\w+)\)", shown)
    assert kind is not None
    told = describe(image)
    assert str(told["checksums"]) == kind[1]
    assert told["state"] == CLEAN


@pytest.mark.proves("file system", "f2fs", "features and state, as fsck.f2fs tells them")
def test_f2fs(tmp_path: Path) -> None:
    image = make_empty(tmp_path / "image", 128 * MIB)
    run_tool(
        "mkfs.f2fs", "-q", "-O",
        "extra_attr,inode_checksum,inode_crtime,compression,sb_checksum,project_quota,lost_found",
        image,
    )  # fmt: skip
    shown = re.search(
        r"superblock features = \S+ : (.*)", run_tool("fsck.f2fs", "--dry-run", image)
    )
    assert shown is not None
    assert features(image) == set(shown[1].split())
    assert describe(image)["state"] == CLEAN


@pytest.mark.parametrize(
    ("kind", "tool", "clean", "dirty"),
    [
        (KINDS[0], ("dumpe2fs", "-h"), "Filesystem state: +clean", "needs_recovery"),
        (KINDS[1], ("xfs_logprint", "-t"), "<CLEAN>", "<DIRTY>"),
        (
            KINDS[2],
            ("btrfs", "inspect-internal", "dump-super"),
            r"log_root\t+0\n",
            r"log_root\t+[1-9]",
        ),
        (KINDS[3], ("fsck.f2fs", "--dry-run"), "checkpoint state.* unmount", "sudden-power-off"),
        (REISERFS, ("debugreiserfs",), "state: consistent", "not checked after last mounting"),
    ],
    ids=lambda value: value.name if isinstance(value, Kind) else "",
)  # fmt: skip
def test_whether_it_was_closed_cleanly(
    tmp_path: Path, kind: Kind, tool: tuple[str, ...], clean: str, dirty: str
) -> None:
    image = make_empty(tmp_path / "clean", kind.size)
    run_tool(*kind.tool, image)
    if kind is not REISERFS:
        assert re.search(clean, run_tool(*tool, image))
    assert describe(image)["state"] == CLEAN
    image = make_dirty(kind, tmp_path)
    assert re.search(dirty, run_tool(*tool, image))
    assert describe(image)["state"] in (DIRTY, DIRTY_JOURNAL)


@pytest.mark.proves("file system", "jfs", "state")
def test_jfs(tmp_path: Path) -> None:
    image = make_empty(tmp_path / "clean", JFS.size)
    run_tool(*JFS.tool, image)
    assert describe(image) == {"state": CLEAN, "version": 1, "block size": 4096}
    assert str(describe(make_dirty(JFS, tmp_path))["state"]).startswith(DIRTY)


@pytest.mark.proves("file system", "fat", "state")
@pytest.mark.parametrize(
    ("bits", "size", "at", "mask"),
    [("12", 1, None, 0), ("16", 16, 2 + 1, 0x80), ("32", 64, 4 + 3, 0x08)],
)
def test_fat(tmp_path: Path, bits: str, size: int, at: int | None, mask: int) -> None:
    image = make_empty(tmp_path / "image", size * MIB)
    run_tool("mkfs.fat", "-F", bits, image)
    assert describe(image)["state"] == CLEAN
    if at is None:
        return
    content = bytearray(image.read_bytes())
    table = int.from_bytes(content[14:16], "little") * int.from_bytes(content[11:13], "little")
    content[table + at] &= ~mask
    image.write_bytes(content)
    assert describe(image)["state"] == DIRTY


@pytest.mark.proves("file system", "exfat", "state")
def test_exfat(tmp_path: Path) -> None:
    image = make_empty(tmp_path / "image", 16 * MIB)
    run_tool("mkfs.exfat", "-c", "8K", image)
    assert describe(image) == {"state": CLEAN, "sector size": 512, "cluster size": 8192}
    content = bytearray(image.read_bytes())
    content[106] |= 2
    image.write_bytes(content)
    assert describe(image)["state"] == DIRTY


@pytest.mark.proves("file system", "ntfs", "version and state, as ntfsinfo tells them")
def test_ntfs(tmp_path: Path) -> None:
    image = make_empty(tmp_path / "image", 16 * MIB)
    run_tool("mkntfs", "-q", "-F", "-c", "2048", image)
    told = describe(image)
    assert told["state"] == CLEAN
    assert told["cluster size"] == 2048
    shown = run_tool("ntfsinfo", "-m", image)
    assert f"Volume Version: {told['version']}" in shown
    assert f"Size of MFT Record: {told['record size']}" in shown.replace(
        "MFT Record Size", "Size of MFT Record"
    )
    run_tool("ntfsfix", "-n", image)


@pytest.mark.proves("file system", "squashfs", "compression and blocks are told")
@pytest.mark.parametrize("compression", ["gzip", "lzo", "xz", "lz4", "zstd"])
def test_squashfs(tmp_path: Path, compression: str) -> None:
    (tmp_path / "top").mkdir()
    image = tmp_path / "image"
    run_tool("mksquashfs", tmp_path / "top", image, "-comp", compression, "-b", "64K",
             "-mkfs-time", "1000000000")  # fmt: skip
    told = describe(image)
    assert told["compression"] == compression
    assert told["block size"] == 65536
    assert told["made"] == "2001-09-09T01:46:40.000000000Z"


@pytest.mark.proves("file system", "erofs", "features, as dump.erofs tells them")
def test_erofs(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "file").write_bytes(bytes(100_000))
    image = tmp_path / "image"
    run_tool("mkfs.erofs", "-zlz4", image, tmp_path / "top")
    assert describe(image)["block size"] == 4096
    shown = re.search(r"features: +(.*)", run_tool("dump.erofs", "-s", image))
    assert shown is not None
    names = {"sb_chksum": "sb_csum", "zero_padding": "0padding"}
    assert {names.get(name, name) for name in features(image)} == set(shown[1].split())
