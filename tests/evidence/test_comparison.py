# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Two trees side by side, where what was changed between them is known."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from explorer.cli.arguments import DIFF_FACTS
from explorer.evidence.comparison import FACTS, Difference, compare_trees
from tests.makers import ext4_written
from tests.trees import ROOT, make_empty, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.kernel import Mount

    MountImage = Callable[[Path], Mount]

# The kernel that writes the images gives these.
ALWAYS = ("changed",)


def test_the_command_line_knows_all_facts() -> None:
    assert DIFF_FACTS == FACTS


def told(differences: list[Difference]) -> dict[bytes, tuple[str, ...] | str]:
    found: dict[bytes, tuple[str, ...] | str] = {}
    for one in differences:
        assert one.error is None
        assert one.path not in found
        if one.facts and one.path == b"/lost+found":
            # As old as its image.
            continue
        found[one.path] = (
            "added" if one.left is None else "removed" if one.right is None else one.facts
        )
    return found


@pytest.mark.skipif(not ROOT, reason="owners")
def test_each_change_is_told_and_nothing_else(
    tree: Path, tmp_path: Path, image_of: Callable[[str], Path], mount: MountImage
) -> None:
    copy = tmp_path / "copy"
    run_tool("cp", "-a", tree, copy)
    top = os.fsencode(copy)
    (copy / "empty").unlink()
    (copy / "folder" / "deeper" / "deepest").rename(copy / "moved")
    (copy / "block").chmod(0o600)
    os.chown(copy / "-rf", 1, 2)
    os.utime(copy / "line\nbreak", ns=(1, 2))
    os.setxattr(copy / "one byte", "user.empty", b"not any more")
    (copy / "to a file").unlink()
    (copy / "to a file").symlink_to("elsewhere")
    (copy / "fifo").unlink()
    (copy / "fifo").write_bytes(b"now a file")
    (copy / "device").unlink()
    os.mknod(copy / "device", stat.S_IFCHR | 0o640, os.makedev(4, 68))
    keep = os.stat(copy / "folder" / "large").st_mtime_ns
    with (copy / "folder" / "large").open("r+b") as file:
        file.seek(2_000_000)
        file.write(b"!")
    os.utime(copy / "folder" / "large", ns=(keep, keep))
    with (copy / "folder" / "repeated").open("ab") as file:
        file.write(b"more")
    # What follows from these, in folders, and of the links and fifo made anew.
    for folder, _folders, _files in os.walk(top):
        there = os.fsencode(tree) + folder[len(top) :]
        if os.path.isdir(there):
            info = os.stat(there)
            os.utime(folder, ns=(info.st_atime_ns, info.st_mtime_ns))
    left = mount(image_of("ext4-written"))
    right = mount(ext4_written(copy, tmp_path / "copy.img"))
    found = told(list(compare_trees(left, right, content=True, ignore=ALWAYS)))
    three = ("mode",)
    assert found == {
        b"/empty": "removed",
        b"/folder/deeper/deepest": "removed",
        b"/folder/deeper/deepest/small": "removed",
        b"/moved": "added",
        b"/moved/small": "added",
        b"/block": three,
        b"/folder/second name": three,
        b"/folder/deeper/third name": three,
        b"/-rf": ("owner",),
        b"/line\nbreak": ("modified",),
        b"/one byte": ("xattrs",),
        b"/to a file": ("modified", "target"),
        b"/fifo": ("type", "mode", "size", "modified"),
        b"/device": ("device", "modified"),
        b"/folder/large": ("content",),
        b"/folder/repeated": ("size", "modified"),
    }
    # Contents are compared only when that is asked for, and facts may be ignored.
    less = told(list(compare_trees(left, right, ignore=(*ALWAYS, "mode", "xattrs", "target"))))
    assert less.keys() == found.keys() - {
        b"/block", b"/folder/second name", b"/folder/deeper/third name", b"/one byte",
        b"/folder/large",
    }  # fmt: skip
    assert less[b"/to a file"] == ("modified",)
    below = told(list(compare_trees(left, right, b"/folder/deeper/", ignore=ALWAYS)))
    assert below == {
        path: change for path, change in found.items() if path.startswith(b"/folder/deeper")
    }
    # And nothing differs from itself.
    assert not list(compare_trees(right, right, content=True))


def test_across_file_systems(image_of: Callable[[str], Path], mount: MountImage) -> None:
    left, right = mount(image_of("ext4-written")), mount(image_of("xfs"))
    found = told(list(compare_trees(left, right, content=True, ignore=ALWAYS)))
    assert found == {b"/lost+found": "removed"}


def test_what_cannot_be_read_is_told(tmp_path: Path, mount: MountImage) -> None:
    top = tmp_path / "top"
    (top / "a" / "inside").mkdir(parents=True)
    (top / "b").write_bytes(b"x" * 5000)
    images = []
    for number in range(2):
        image = make_empty(tmp_path / f"image{number}", 8 << 20)
        run_tool("mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024", "-d", top, image)
        images.append(image)
    run_tool("debugfs", "-w", "-R", "sif /b block[2] 0x7fffffff", images[1])
    found = list(compare_trees(mount(images[0]), mount(images[1]), ignore=("changed", "modified")))
    (one,) = [each for each in found if each.error is not None]
    assert one.path == b"/b"
    assert one.error is not None
    assert one.error.name == "EUCLEAN"
