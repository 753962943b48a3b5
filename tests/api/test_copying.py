# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies by an engine and a writer, both real: what is there afterwards, and what was told."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from explorer.api.copying import Copied, Failure, copy
from explorer.api.source import Source
from explorer.core.errors import EngineLost, ExplorerError, ExportError
from explorer.wire.messages import Counters, Pack
from explorer.wire.writing import Write
from tests.engine.fixtures import CROWD
from tests.engine.images import LARGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from explorer.wire.writing import WriteProgress

WHOLE = Pack(
    volume=0,
    paths=(b"/",),
    name=None,
    contents=False,
    follow=False,
    every_link=False,
    holes=False,
    extents=True,
    plan=False,
)
ROOT = os.geteuid() == 0


def pack(*paths: bytes, volume: int = 0) -> Pack:
    return replace(WHOLE, volume=volume, paths=paths)


def write(to: Path, conflicts: str = "skip") -> Write:
    return Write(
        sink="folder",
        destination=bytes(to),
        conflicts=conflicts,
        special=True,
        owner=ROOT,
    )


@pytest.fixture
def open_source(built: None) -> Iterator[Callable[[Path], Source]]:
    """Opens images, which must not change by it."""
    opened: list[tuple[Path, bytes, Source]] = []

    def open_one(image: Path) -> Source:
        opened.append((image, hashlib.sha256(image.read_bytes()).digest(), Source(image)))
        return opened[-1][2]

    yield open_one
    for image, digest, source in opened:
        source.close()
        assert hashlib.sha256(image.read_bytes()).digest() == digest


def failed(copied: Copied) -> set[bytes]:
    """Paths of what could not be copied."""
    return {failure.path for failure in copied.failures}


def check_accounts(copied: Copied) -> None:
    """Every entry has one outcome, and each that failed was told of."""
    written = copied.written
    assert written.seen == (
        written.copied
        + written.damaged
        + written.failed
        + written.done_before
        + sum(written.skipped)
    )
    assert len(copied.failures) == written.failed + written.damaged


def same(one: Path, other: Path) -> None:
    """Two trees are equal: names, types, modes, times, contents, link targets."""
    left, right = (
        {path.relative_to(root): path for path in (root, *root.rglob("*"))} for root in (one, other)
    )
    assert set(left) == set(right)
    for name, path in left.items():
        mine, theirs = path.lstat(), right[name].lstat()
        assert mine.st_mode == theirs.st_mode, name
        assert mine.st_mtime_ns == theirs.st_mtime_ns, name
        assert (mine.st_uid, mine.st_gid) == (theirs.st_uid, theirs.st_gid) or not ROOT, name
        if stat.S_ISREG(mine.st_mode):
            assert path.read_bytes() == right[name].read_bytes(), name
        elif stat.S_ISLNK(mine.st_mode):
            assert path.readlink() == right[name].readlink(), name


# ---- What is copied ----------------------------------------------------------------------------


@pytest.mark.parametrize("extents", [True, False])
def test_copied_trees_are_equal(
    open_source: Callable[[Path], Source],
    ext4_image: Path,
    tree: Path,
    tmp_path: Path,
    extents: bool,
) -> None:
    source = open_source(ext4_image)
    names = (b"folder", b"links", b"many", b"odd", b"picture.png")
    request = replace(pack(*(b"/" + name for name in names)), extents=extents)
    copied = copy(source, request, write(tmp_path))
    assert copied.whole
    assert copied.lost is None
    check_accounts(copied)
    assert (copied.failures, copied.mapped) == ([], {})
    for name in names:
        same(tree / os.fsdecode(name), tmp_path / os.fsdecode(name))
    assert {os.fsencode(path.name) for path in tmp_path.iterdir()} == set(names)
    # Folders and what is in them, each once.
    assert copied.written.seen == sum(
        1 + sum(1 for _ in (tree / os.fsdecode(name)).rglob("*")) for name in names
    )
    assert copied.written.written >= LARGE_SIZE
    counters = source.counters()
    assert isinstance(counters, Counters)
    assert counters.written_bytes == 0


def test_the_root_stands_for_all_that_is_in_it(
    open_source: Callable[[Path], Source], crowd_image: Path, tmp_path: Path
) -> None:
    seen: list[WriteProgress] = []
    copied = copy(open_source(crowd_image), WHOLE, write(tmp_path), progress=seen.append)
    assert copied.whole
    assert {path.name for path in tmp_path.iterdir()} == {
        f"file{number:06d}.txt" for number in range(CROWD)
    }
    assert copied.written.seen == CROWD + 1
    steps = [(one.seen, one.copied, one.written) for one in seen]
    assert steps == sorted(steps)


def test_one_thing_under_another_name(
    open_source: Callable[[Path], Source], ext4_image: Path, tree: Path, tmp_path: Path
) -> None:
    source = open_source(ext4_image)
    assert copy(source, replace(pack(b"/folder"), name=b"new"), write(tmp_path)).whole
    same(tree / "folder", tmp_path / "new")


def test_what_is_missing_fails_alone(
    open_source: Callable[[Path], Source], ext4_image: Path, tree: Path, tmp_path: Path
) -> None:
    told: list[Failure] = []
    copied = copy(
        open_source(ext4_image), pack(b"/missing", b"/empty"), write(tmp_path), failed=told.append
    )
    assert copied.written.complete
    assert not copied.whole
    assert failed(copied) == {b"/missing"}
    assert told == copied.failures
    assert told[0].origin == b"/missing"
    same(tree / "empty", tmp_path / "empty")


# ---- What is there already ---------------------------------------------------------------------


def test_existing_files_are_kept_unless_asked(
    open_source: Callable[[Path], Source], ext4_image: Path, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "readme.txt").write_text("mine")
    source = open_source(ext4_image)
    copied = copy(source, pack(b"/readme.txt", b"/empty"), write(tmp_path))
    assert copied.whole
    rules = dict(zip(copied.written.rules, copied.written.skipped, strict=True))
    assert {rule: count for rule, count in rules.items() if count} == {"exists": 1}
    assert (tmp_path / "readme.txt").read_text() == "mine"
    assert (tmp_path / "empty").exists()
    copied = copy(source, pack(b"/readme.txt"), write(tmp_path, "overwrite"))
    assert copied.whole
    same(tree / "readme.txt", tmp_path / "readme.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "readme.txt"]


@pytest.mark.parametrize("conflicts", ["skip", "overwrite"])
def test_folders_that_exist_are_merged(
    open_source: Callable[[Path], Source],
    ext4_image: Path,
    tree: Path,
    tmp_path: Path,
    conflicts: str,
) -> None:
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "deep.txt").write_text("mine")
    (folder / "below" / "more").write_text("mine too")
    # A folder where a file belongs is in the way of both.
    (folder / "large.bin").mkdir()
    source = open_source(ext4_image)
    copied = copy(source, pack(b"/folder", b"/many"), write(tmp_path, conflicts))
    assert copied.written.complete
    check_accounts(copied)
    assert failed(copied) == {b"/folder/large.bin"}
    assert sum(copied.written.skipped) == (1 if conflicts == "skip" else 0)
    deep = "mine" if conflicts == "skip" else (tree / "folder/below/deep.txt").read_text()
    assert (folder / "below" / "deep.txt").read_text() == deep
    assert (folder / "below" / "more").read_text() == "mine too"
    assert list((folder / "large.bin").iterdir()) == []
    assert {path.name for path in folder.iterdir()} == {
        path.name for path in (tree / "folder").iterdir()
    }
    # Folder and contents, each once.
    entries = [*(tree / "folder").rglob("*"), *(tree / "many").rglob("*")]
    assert copied.written.seen == len(entries) + 2
    same(tree / "many", tmp_path / "many")


def test_a_link_is_no_folder_to_merge_with(
    open_source: Callable[[Path], Source], ext4_image: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    destination = tmp_path / "destination"
    destination.mkdir()
    (destination / "folder").symlink_to(elsewhere)
    source = open_source(ext4_image)
    for conflicts in ("skip", "overwrite", "newer"):
        copied = copy(source, pack(b"/folder"), write(destination, conflicts))
        assert not copied.written.copied, conflicts
        assert failed(copied) == {b"/folder"}
        assert (destination / "folder").is_symlink()
    assert list(elsewhere.iterdir()) == []


def test_whoever_is_asked_decides(
    open_source: Callable[[Path], Source], ext4_image: Path, tree: Path, tmp_path: Path
) -> None:
    for name in ("readme.txt", "latin.txt", "empty"):
        (tmp_path / name).write_text("mine")
    asked: list[bytes] = []
    answers = iter([("skip", False), ("overwrite", True)])

    def ask(conflict: object) -> tuple[str, bool]:
        asked.append(conflict.path)  # type: ignore[attr-defined]  # a Conflict
        return next(answers)

    request = pack(b"/readme.txt", b"/latin.txt", b"/empty")
    copied = copy(open_source(ext4_image), request, write(tmp_path, "ask"), ask=ask)
    assert copied.whole
    assert asked == [b"/readme.txt", b"/latin.txt"]
    assert (tmp_path / "readme.txt").read_text() == "mine"
    same(tree / "latin.txt", tmp_path / "latin.txt")
    same(tree / "empty", tmp_path / "empty")


# ---- What cannot be begun ----------------------------------------------------------------------


def error_of(call: Callable[[], Copied]) -> ExplorerError:
    """Why a copy ended before its end, however it is told."""
    try:
        copied = call()
    except ExplorerError as error:
        return error
    assert copied.lost is not None
    assert not copied.whole
    return copied.lost


def test_a_missing_destination_is_said(
    open_source: Callable[[Path], Source], ext4_image: Path, tmp_path: Path
) -> None:
    source = open_source(ext4_image)
    with pytest.raises(ExplorerError) as caught:
        copy(source, pack(b"/empty"), write(tmp_path / "no"))
    assert caught.value.code == "export.missing-folder"
    # The engine is none the worse for it.
    assert copy(source, pack(b"/empty"), write(tmp_path)).whole


def test_a_volume_that_cannot_be_opened_is_said(
    open_source: Callable[[Path], Source], disk_image: Path, tmp_path: Path
) -> None:
    source = open_source(disk_image)
    for number, code in ((2, "volume.locked"), (3, "volume.unknown"), (9, "volume.missing")):
        request = pack(b"/", volume=number)
        assert error_of(lambda: copy(source, request, write(tmp_path))).code == code  # noqa: B023
    assert list(tmp_path.iterdir()) == []
    assert copy(source, pack(b"/empty", volume=1), write(tmp_path)).whole


# ---- Ends before the end -----------------------------------------------------------------------


class Stopped(Exception):
    """Raised by a test in the middle of a copy."""


def no_part_is_left(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if path.name.endswith(".part")]


def children(process: int) -> list[int]:
    found = Path(f"/proc/self/task/{process}/children").read_text().split()
    return [int(number) for number in found]


def test_what_is_raised_ends_both_and_nothing_stays(
    open_source: Callable[[Path], Source], crowd_image: Path, tmp_path: Path
) -> None:
    source = open_source(crowd_image)
    before = children(os.getpid())

    def stop(_now: WriteProgress) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        copy(source, WHOLE, write(tmp_path), progress=stop)
    # The writer is gone, the engine goes on, and nothing is written any more.
    assert children(os.getpid()) == before
    made = sorted(path.name for path in tmp_path.iterdir())
    assert len(made) < CROWD
    assert no_part_is_left(tmp_path)
    assert len(list(source.volume().list("/"))) == CROWD
    assert sorted(path.name for path in tmp_path.iterdir()) == made


def test_many_copies_that_were_stopped_do_not_stop_the_next(
    open_source: Callable[[Path], Source], ext4_image: Path, crowd_image: Path, tmp_path: Path
) -> None:
    source = open_source(crowd_image)
    for _ in range(3):
        with pytest.raises(ExplorerError):
            copy(source, pack(b"/"), write(tmp_path / "no"))
    # Withdrawn while they wait: their sockets are asked for by nobody.
    blocker = source.engine.begin(WHOLE)
    ours, theirs = os.pipe()
    for _ in range(40):
        waiting = source.engine.begin(WHOLE)
        source.giver.give(waiting.number, ours)
        waiting.cancel()
        source.engine.inbox.wait(waiting)
    source.giver.give(blocker.number, ours)
    source.engine.inbox.wait(blocker)
    os.close(ours)
    os.close(theirs)
    to = tmp_path / "to"
    to.mkdir()
    assert copy(source, WHOLE, write(to)).whole
    assert len(list(to.iterdir())) == CROWD


def test_a_killed_engine_ends_the_copy(
    open_source: Callable[[Path], Source], crowd_image: Path, tmp_path: Path
) -> None:
    source = open_source(crowd_image)

    def kill(_now: WriteProgress) -> None:
        # It is told more than once.
        with suppress(ProcessLookupError):
            os.kill(source.engine.process_id, signal.SIGKILL)

    copied = copy(source, WHOLE, write(tmp_path), progress=kill)
    assert isinstance(copied.lost, EngineLost)
    assert not copied.written.complete
    check_accounts(copied)
    assert len(list(tmp_path.iterdir())) == copied.written.copied < CROWD
    assert no_part_is_left(tmp_path)


def test_a_killed_writer_ends_the_copy_and_the_engine_goes_on(
    open_source: Callable[[Path], Source], crowd_image: Path, tmp_path: Path
) -> None:
    source = open_source(crowd_image)
    before = set(children(os.getpid()))

    def kill(_now: WriteProgress) -> None:
        for writer in set(children(os.getpid())) - before:
            os.kill(writer, signal.SIGKILL)

    with pytest.raises(ExportError) as caught:
        copy(source, WHOLE, write(tmp_path), progress=kill)
    assert caught.value.code == "export.writer-lost"
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    assert copy(source, WHOLE, write(tmp_path)).whole


def test_a_listing_goes_on_beside_a_copy(
    open_source: Callable[[Path], Source], crowd_image: Path, tmp_path: Path
) -> None:
    source = open_source(crowd_image)
    volume = source.volume()
    volume.mount()
    listed: list[int] = []
    began = threading.Event()

    def look(_now: WriteProgress) -> None:
        # On the thread that waits for the copy, as a window's would be.
        if not began.is_set():
            began.set()
            listed.append(sum(1 for _ in volume.list("/")))

    assert copy(source, WHOLE, write(tmp_path), progress=look).whole
    assert listed == [CROWD]
