# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems that were not closed cleanly: as stored, and recovered in memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import VolumeError
from explorer.core.views import View
from explorer.evidence.comparison import compare_trees
from explorer.volumes import Source, Wanted
from tests.dirty import JFS, KINDS, NEW, OLD, REISERFS, Kind, make_dirty

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.volumes import MountedVolume

pytestmark = pytest.mark.usefixtures("built")


def each(*kinds: Kind, feature: str) -> pytest.MarkDecorator:
    """A test for each of some kinds."""
    return pytest.mark.parametrize(
        "kind",
        [
            pytest.param(kind, marks=pytest.mark.proves("file system", kind.name, feature))
            for kind in kinds
        ],
        ids=lambda kind: kind.name,
    )


AS_STORED = each(*KINDS, feature="dirty, as stored")
RECOVERED = each(*KINDS, REISERFS, feature="dirty, its journal recovered in memory")


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Path]:
    """Images left dirty, each made once."""
    folder = tmp_path_factory.mktemp("dirty")
    made: dict[str, Path] = {}

    def image(kind: Kind) -> Path:
        if kind.name not in made:
            made[kind.name] = make_dirty(kind, folder)
        return made[kind.name]

    return image


def wanted(image: Path, view: View) -> Wanted:
    return Wanted(paths=(os.fsencode(image),), view=view)


def read_file(mounted: MountedVolume, path: bytes) -> bytes:
    with mounted.mount.open_file(path) as file:
        return file.read_at(0, file.size)


def names(mounted: MountedVolume) -> set[bytes]:
    with mounted.mount.open_directory() as root:
        return {entry.name for entry in root}


@RECOVERED
@pytest.mark.parametrize("view", [View.AUTO, View.RECOVERED])
def test_the_file_that_only_the_journal_knows_is_read(
    kind: Kind, view: View, dirty: Callable[[Kind], Path], unchanged: Callable[[Path], Path]
) -> None:
    image = unchanged(dirty(kind))
    with (
        Source(wanted(image, view)) as source,
        source.mount(source.choose(None)) as mounted,
    ):
        assert mounted.recovered
        assert not mounted.as_stored
        assert read_file(mounted, b"/new") == NEW
        assert source.stack.overlay_bytes() > 0


@AS_STORED
def test_as_stored_nothing_is_replayed_or_written(
    kind: Kind, dirty: Callable[[Kind], Path], unchanged: Callable[[Path], Path]
) -> None:
    image = unchanged(dirty(kind))
    with (
        Source(wanted(image, View.STORED)) as source,
        source.mount(source.choose(None)) as mounted,
    ):
        assert mounted.as_stored
        assert not mounted.recovered
        assert b"new" not in names(mounted)
        assert source.stack.overlay_bytes() == 0
        # Its last checkpoint may be older than "old"; what is there is whole.
        if b"old" in names(mounted):
            assert read_file(mounted, b"/old") == OLD


@AS_STORED
def test_the_two_views_are_compared(kind: Kind, dirty: Callable[[Kind], Path]) -> None:
    image = dirty(kind)
    with (
        Source(wanted(image, View.STORED)) as stored,
        Source(wanted(image, View.RECOVERED)) as recovered,
        stored.mount(stored.choose(None)) as left,
        recovered.mount(recovered.choose(None)) as right,
    ):
        found = {one.path: one for one in compare_trees(left.mount, right.mount, content=True)}
        assert all(one.error is None for one in found.values())
        new = found.pop(b"/new")
        assert new.left is None
        assert new.right is not None
        assert new.right.size == len(NEW)
        # The folder's own times are those of the new file.
        assert found.keys() <= {b"/", b"/old"}
        # A view compared with itself has no differences.
        assert not list(compare_trees(right.mount, right.mount, content=True))


def test_a_dirty_reiserfs_cannot_be_seen_as_stored(dirty: Callable[[Kind], Path]) -> None:
    # Linux replays its journal or does not mount it at all.
    with (
        Source(wanted(dirty(REISERFS), View.STORED)) as source,
        pytest.raises(VolumeError) as caught,
    ):
        source.mount(source.choose(None))
    assert "Replay Failure" in str(caught.value.params["log"])


@pytest.mark.proves("file system", "jfs", "dirty, as stored")
def test_a_journal_that_linux_leaves_alone_is_told_of(dirty: Callable[[Kind], Path]) -> None:
    for view in View:
        with (
            Source(wanted(dirty(JFS), view)) as source,
            source.mount(source.choose(None)) as mounted,
        ):
            assert mounted.as_stored
            assert not mounted.recovered
            assert b"new" not in names(mounted)
