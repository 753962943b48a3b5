# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""NTFS that was not closed cleanly: as stored, and with $LogFile replayed in memory."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import KernelError, VolumeError
from explorer.core.views import View
from explorer.evidence.comparison import compare_trees
from explorer.volumes import Source, Wanted
from explorer.volumes.features import CLEAN, DIRTY, DIRTY_JOURNAL
from tests.trees import find_tool, make_empty, noise, run_tool
from tests.volumes.ntfs_log import FIRST_PAGE, leave_dirty, log_place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.volumes import MountedVolume

    Unchanged = Callable[[Path], Path]

pytestmark = pytest.mark.usefixtures("built")

MIB = 1 << 20
OLD, NEW = b"what was there before\n", b"what the journal knew\n"
LARGE = noise(500_000, 1)


@pytest.fixture(params=["4096", "1024"], ids=lambda size: f"clusters of {size}")
def clean(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    image = make_empty(tmp_path / "ntfs.img", 16 * MIB)
    run_tool("mkntfs", "-q", "-F", "-c", request.param, image)
    for name, content in (("file", OLD), ("large", LARGE)):
        (tmp_path / "content").write_bytes(content)
        run_tool("ntfscp", image, tmp_path / "content", name)
    return image


@pytest.fixture
def dirty(clean: Path) -> Path:
    leave_dirty(clean, OLD, NEW)
    return clean


def wanted(image: Path, view: View) -> Wanted:
    return Wanted(paths=(os.fsencode(image),), view=view)


def read_file(mounted: MountedVolume, path: bytes) -> bytes:
    with mounted.mount.open_file(path) as file:
        return file.read_at(0, file.size)


def can_write(mounted: MountedVolume) -> bool:
    kernel = mounted.mount.kernel
    library = kernel.binding.library
    flags = library.LKL_O_WRONLY | library.LKL_O_CREAT  # type: ignore[attr-defined]
    path = mounted.mount.mount_point + b"/new"
    try:
        kernel.check(
            library.lkl_sys_openat(kernel.pointer, library.LKL_AT_FDCWD, path, flags, 0o644),
            "openat",
        )
    except KernelError as error:
        return error.name != "EROFS"
    return True


def probe(image: Path) -> str:
    """What ntfs-3g has to say against writing to a volume."""
    done = subprocess.run(
        [find_tool("ntfs-3g.probe"), "--readwrite", image], capture_output=True, check=False
    )
    return done.stderr.decode() if done.returncode else ""


@pytest.mark.proves("file system", "ntfs", "dirty, its journal recovered in memory")
@pytest.mark.parametrize("view", [View.AUTO, View.RECOVERED])
def test_the_change_that_only_the_journal_knows_is_read(
    view: View, dirty: Path, unchanged: Unchanged
) -> None:
    assert "unclean file system" in probe(dirty)
    with Source(wanted(unchanged(dirty), view)) as source:
        volume = source.choose(None)
        assert source.stack.facts(volume)["state"] == DIRTY_JOURNAL
        with source.mount(volume) as mounted:
            assert mounted.recovered
            assert not mounted.as_stored
            assert not can_write(mounted)
            assert read_file(mounted, b"/file") == NEW
            assert read_file(mounted, b"/large") == LARGE
            assert source.stack.overlay_bytes() > 0


@pytest.mark.proves("file system", "ntfs", "dirty, as stored")
def test_as_stored_nothing_is_replayed_or_written(dirty: Path, unchanged: Unchanged) -> None:
    with (
        Source(wanted(unchanged(dirty), View.STORED)) as source,
        source.mount(source.choose(None)) as mounted,
    ):
        assert mounted.as_stored
        assert not mounted.recovered
        assert not can_write(mounted)
        assert read_file(mounted, b"/file") == OLD
        assert source.stack.overlay_bytes() == 0


def test_the_two_views_are_compared(dirty: Path) -> None:
    with (
        Source(wanted(dirty, View.STORED)) as stored,
        Source(wanted(dirty, View.RECOVERED)) as recovered,
        stored.mount(stored.choose(None)) as left,
        recovered.mount(recovered.choose(None)) as right,
    ):
        assert [one.path for one in compare_trees(left.mount, right.mount, content=True)] == [
            b"/file"
        ]


@pytest.mark.parametrize("view", View)
@pytest.mark.parametrize("marked", [False, True], ids=["clean", "marked as dirty"])
def test_without_a_journal_to_replay_nothing_is_written(
    view: View, marked: bool, clean: Path, unchanged: Unchanged
) -> None:
    if marked:
        content = bytearray(clean.read_bytes())
        # $VOLUME_INFORMATION: its version, 3.1, and flags, of which 1 is "dirty"
        at = content.index(b"\x70\0\0\0\x28\0\0\0") + 24
        assert content[at + 8 : at + 12] == b"\3\1\0\0"
        content[at + 10] = 1
        clean.write_bytes(content)
    else:
        assert probe(clean) == ""
    with Source(wanted(unchanged(clean), view)) as source:
        volume = source.choose(None)
        assert source.stack.facts(volume)["state"] == (DIRTY if marked else CLEAN)
        with source.mount(volume) as mounted:
            assert not mounted.as_stored
            assert not mounted.recovered
            assert not can_write(mounted)
            assert read_file(mounted, b"/file") == OLD
            assert source.stack.overlay_bytes() == 0


def test_a_damaged_journal_is_left_alone(dirty: Path, unchanged: Unchanged) -> None:
    content = bytearray(dirty.read_bytes())
    # The number of the first record, which is not where the restart area says then.
    content[log_place(content)[0] + FIRST_PAGE + 0x40] ^= 0xFF
    dirty.write_bytes(content)
    unchanged(dirty)
    with (
        Source(wanted(dirty, View.AUTO)) as source,
        source.mount(source.choose(None)) as mounted,
    ):
        assert mounted.as_stored
        assert not mounted.recovered
        assert not can_write(mounted)
        assert read_file(mounted, b"/file") == OLD
    with (
        Source(wanted(dirty, View.RECOVERED)) as source,
        pytest.raises(VolumeError, match=r"volume\.mount"),
    ):
        source.mount(source.choose(None))
