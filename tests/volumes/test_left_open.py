# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems that were left open and have nothing to replay, or nothing that Linux replays."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from explorer.core.views import View
from explorer.volumes import Source, Wanted
from explorer.volumes.features import CLEAN, DIRTY, DIRTY_JOURNAL
from tests.makers import write_tree
from tests.trees import make_empty, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("built")

MIB = 1 << 20


class Left(NamedTuple):
    """A file system, how it is made, and the bits that say it was left open."""

    name: str
    feature: str
    size: int
    """MiB; 0: the tool makes it from a tree."""
    tool: tuple[str, ...]
    kind: str
    options: str
    bits: Callable[[bytearray], tuple[int, int, int]]
    """Where a byte is, and the bits to clear and to set."""
    state: str = DIRTY
    as_stored: bool = False
    """Whether changes may be missing."""
    volume: str | None = None


def sector(content: bytearray) -> int:
    return int.from_bytes(content[11:13], "little")


def table(content: bytearray) -> int:
    """Where the first file allocation table is."""
    return int.from_bytes(content[14:16], "little") * sector(content)


def hfsplus(content: bytearray) -> int:
    """Where the attributes of an HFS+ volume are: Technical Note TN1150."""
    return content.index(b"H+\0\4") + 4


FAT = "utf8,tz=UTC"
HFSPLUS = ("xorriso", "-as", "mkisofs", "-quiet", "-hfsplus", "-o", "IMAGE", "TREE")
LEFT = (
    Left("fat", "FAT12, left open", 4, ("mkfs.fat", "-F", "12"), "vfat", FAT,
         lambda _content: (0x25, 0, 1)),
    Left("fat", "FAT16, left open", 16, ("mkfs.fat", "-F", "16"), "vfat", FAT,
         lambda content: (table(content) + 3, 0x80, 0)),
    Left("fat", "FAT32, left open", 64, ("mkfs.fat", "-F", "32"), "vfat", FAT,
         lambda content: (table(content) + 7, 0x08, 0)),
    Left("fat", "FAT32, left open by Linux", 64, ("mkfs.fat", "-F", "32"), "vfat", FAT,
         lambda _content: (0x41, 0, 1)),
    Left("exfat", "left open", 16, ("mkfs.exfat",), "exfat", "iocharset=utf8",
         lambda _content: (106, 0, 2)),
    Left("hfs", "left open", 8, ("hformat",), "hfs", "", lambda _content: (0x40A, 1, 0)),
    Left("hfs+", "left open", 0, HFSPLUS, "hfsplus", "",
         lambda content: (hfsplus(content) + 2, 0x01, 0), DIRTY, True, "HFSPLUS_Hybrid"),
    Left("hfs+", "dirty, with a journal, as stored", 0, HFSPLUS, "hfsplus", "",
         lambda content: (hfsplus(content) + 2, 0x01, 0x20), DIRTY_JOURNAL, True,
         "HFSPLUS_Hybrid"),
)  # fmt: skip


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(
            left,
            id=f"{left.name}-{left.feature}",
            marks=pytest.mark.proves("file system", left.name, left.feature),
        )
        for left in LEFT
    ],
)
def test_it_is_said_and_every_view_reads(
    left: Left, tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "file.txt").write_text("content\n")
    image = tmp_path / "image"
    if left.size:
        make_empty(image, left.size * MIB)
        run_tool(left.tool[0], *left.tool[1:], image)
        write_tree(left.kind, top, image, left.options, plain=True)
    else:
        places = {"TREE": top, "IMAGE": image}
        run_tool(left.tool[0], *(places.get(one, one) for one in left.tool[1:]))
    with Source(Wanted(paths=(os.fsencode(image),))) as source:
        volume = source.choose(left.volume)
        assert source.stack.facts(volume)["state"] == CLEAN
        with source.mount(volume) as mounted:
            assert not mounted.as_stored
    content = bytearray(image.read_bytes())
    at, clear, add = left.bits(content)
    content[at] = content[at] & ~clear | add
    image.write_bytes(content)
    unchanged(image)
    for view in View:
        with Source(Wanted(paths=(os.fsencode(image),), view=view)) as source:
            volume = source.choose(left.volume)
            assert source.stack.facts(volume)["state"] == left.state
            with source.mount(volume) as mounted:
                assert mounted.as_stored == left.as_stored
                assert not mounted.recovered
                with mounted.mount.open_file(b"/file.txt") as file:
                    assert file.read_at(0, 100) == b"content\n"
