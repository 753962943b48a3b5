# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The contents of folders as a table."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import QModelIndex, QPersistentModelIndex, Qt, QTimer
from PySide6.QtTest import QAbstractItemModelTester

from explorer.core.errors import KernelError
from explorer.models.directory import Column, DirectoryModel
from explorer.models.location import Location
from tests.engine.fixtures import CROWD
from tests.engine.images import COUNT, EXACT_NS, make_crowd
from tests.gui.conftest import WAIT_MS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from explorer.client.session import Session
    from tests.gui.conftest import OpenSession

MANY = 100_000
GAP_MS = 50
DESCENDING = Qt.SortOrder.DescendingOrder


@pytest.fixture
def model(qtbot: QtBot) -> Iterator[DirectoryModel]:
    """A model under Qt's own tester."""
    model = DirectoryModel()
    tester = QAbstractItemModelTester(
        model, QAbstractItemModelTester.FailureReportingMode.Fatal, model
    )
    yield model
    model.clear()
    del tester


def wait(qtbot: QtBot, model: DirectoryModel) -> None:
    qtbot.waitUntil(lambda: not model.loading, timeout=WAIT_MS)


def show(qtbot: QtBot, model: DirectoryModel, session: Session, path: bytes) -> None:
    model.open(Location(session, 0, path))
    wait(qtbot, model)


def names(model: DirectoryModel) -> list[bytes]:
    return [model.name(row) for row in range(model.rowCount())]


def cell(model: DirectoryModel, name: bytes, column: Column, role: int = 0) -> object:
    row = model.row_of(name)
    assert row is not None
    return model.data(model.index(row, column), role)


def test_folders_first_in_natural_order(
    qtbot: QtBot, model: DirectoryModel, open_session: OpenSession, ext4_image: Path
) -> None:
    show(qtbot, model, open_session(ext4_image), b"/many")
    assert names(model) == [
        b"Alpha",
        b"beta",
        b"gamma9",
        b"gamma10",
        *(b"file%d.txt" % number for number in range(COUNT)),
    ]


def test_every_column_sorts_both_ways(
    qtbot: QtBot, model: DirectoryModel, open_session: OpenSession, ext4_image: Path
) -> None:
    show(qtbot, model, open_session(ext4_image), b"/many")
    folders = [b"Alpha", b"beta", b"gamma9", b"gamma10"]
    files = [b"file%d.txt" % number for number in range(COUNT)]
    model.sort(Column.SIZE, DESCENDING)
    wait(qtbot, model)
    assert names(model)[4:] == files[::-1]
    model.sort(Column.NAME, DESCENDING)
    wait(qtbot, model)
    assert names(model) == folders[::-1] + files[::-1]
    for column in Column:
        model.sort(column)
        wait(qtbot, model)
        assert sorted(names(model)) == sorted(folders + files)
        assert set(names(model)[:4]) == set(folders)
    by_inode = [int(str(model.data(model.index(row, Column.INODE)))) for row in range(4, 4 + COUNT)]
    assert by_inode == sorted(by_inode)


def test_what_the_cells_show(
    qtbot: QtBot, model: DirectoryModel, open_session: OpenSession, ext4_image: Path
) -> None:
    session = open_session(ext4_image)
    show(qtbot, model, session, b"/")
    assert cell(model, b"readme.txt", Column.NAME) == "readme.txt"
    assert cell(model, b"readme.txt", Column.MODE) == "-rw-r--r--"
    assert cell(model, b"readme.txt", Column.OWNER) == "0:0"
    assert cell(model, b"readme.txt", Column.LINKS) == "1"
    assert cell(model, b"readme.txt", Column.SIZE) == "920 bytes"
    assert cell(model, b"folder", Column.SIZE) == ""
    tip = Qt.ItemDataRole.ToolTipRole
    exact = str(cell(model, b"readme.txt", Column.MODIFIED, tip))
    assert f".{EXACT_NS % 1_000_000_000:09d} " in exact
    assert str(cell(model, b"readme.txt", Column.MODIFIED)) in exact
    show(qtbot, model, session, b"/odd")
    shown = {str(model.data(model.index(row, Column.NAME))) for row in range(model.rowCount())}
    assert shown == {"caf\\xe9", "two\\nlines", "-rf", "tab\\there", "日本語.txt"}


def test_links_show_where_they_point(
    qtbot: QtBot, model: DirectoryModel, open_session: OpenSession, ext4_image: Path
) -> None:
    show(qtbot, model, open_session(ext4_image), b"/links")
    assert str(cell(model, b"absolute", Column.NAME)).startswith("absolute")
    qtbot.waitUntil(
        lambda: cell(model, b"absolute", Column.NAME) == "absolute → /folder/below",
        timeout=WAIT_MS,
    )
    qtbot.waitUntil(
        lambda: cell(model, b"dangling", Column.NAME) == "dangling → nowhere", timeout=WAIT_MS
    )


def test_the_filter_hides_names(
    qtbot: QtBot, model: DirectoryModel, open_session: OpenSession, ext4_image: Path
) -> None:
    show(qtbot, model, open_session(ext4_image), b"/many")
    model.set_filter("FILE11")
    wait(qtbot, model)
    assert names(model) == [b"file11.txt", *(b"file11%d.txt" % number for number in range(10))]
    assert model.hidden == COUNT + 4 - 11
    model.set_filter("no such name")
    wait(qtbot, model)
    assert model.rowCount() == 0
    model.set_filter("")
    wait(qtbot, model)
    assert model.rowCount() == COUNT + 4
    assert model.hidden == 0


def test_sorting_keeps_the_place_of_a_row(
    qtbot: QtBot, model: DirectoryModel, open_session: OpenSession, ext4_image: Path
) -> None:
    show(qtbot, model, open_session(ext4_image), b"/many")
    row = model.row_of(b"file42.txt")
    assert row is not None
    kept = QPersistentModelIndex(model.index(row, Column.SIZE))
    model.sort(Column.SIZE, DESCENDING)
    wait(qtbot, model)
    assert kept.row() != row
    assert kept.column() == Column.SIZE
    assert model.name(kept.row()) == b"file42.txt"


def test_another_folder_may_be_opened_at_any_moment(
    qtbot: QtBot,
    model: DirectoryModel,
    open_session: OpenSession,
    crowd_image: Path,
    ext4_image: Path,
) -> None:
    crowd, small = open_session(crowd_image), open_session(ext4_image)
    for wait_ms in (0, 1, 5, 20, 80):
        model.open(Location(crowd, 0, b"/"))
        qtbot.wait(wait_ms)
    model.open(Location(small, 0, b"/folder"))
    wait(qtbot, model)
    assert names(model) == [b"below", b"large.bin", b"pipe"]
    show(qtbot, model, crowd, b"/")
    assert names(model) == [b"file%06d.txt" % number for number in range(CROWD)]


def test_a_folder_that_is_none_says_so(
    qtbot: QtBot, model: DirectoryModel, open_session: OpenSession, ext4_image: Path
) -> None:
    session = open_session(ext4_image)
    with qtbot.waitSignal(model.failed, timeout=WAIT_MS) as blocker:
        model.open(Location(session, 0, b"/readme.txt"))
    assert isinstance(blocker.args, list)
    assert isinstance(blocker.args[0], KernelError)
    assert model.rowCount() == 0
    assert not model.loading


def test_none_is_not_used_up(
    qtbot: QtBot, model: DirectoryModel, open_session: OpenSession, ext4_image: Path
) -> None:
    """A binding that loses a reference at every None from data() ends the program in the end."""
    show(qtbot, model, open_session(ext4_image), b"/many")
    index = model.index(0, 0)
    before = sys.getrefcount(None)
    for _ in range(2000):
        # By Qt's own way, which is where the reference was lost.
        QModelIndex.data(index, Qt.ItemDataRole.UserRole)
    assert abs(sys.getrefcount(None) - before) < 200


def test_the_event_loop_runs_while_a_hundred_thousand_entries_come(
    qtbot: QtBot, open_session: OpenSession, tmp_path: Path
) -> None:
    image = tmp_path / "many.img"
    make_crowd(tmp_path, image, MANY)
    session = open_session(image)
    model = DirectoryModel()
    gaps: list[float] = []
    last = 0.0

    def tick() -> None:
        # This thread's own time: what other processes take of the processor is not counted.
        nonlocal last
        now = time.thread_time()
        gaps.append((now - last) * 1000)
        last = now

    ticks = QTimer(interval=0)
    ticks.timeout.connect(tick)
    last = time.thread_time()
    ticks.start()
    show(qtbot, model, session, b"/")
    ticks.stop()
    assert model.rowCount() == MANY
    assert model.name(MANY - 1) == b"file%06d.txt" % (MANY - 1)
    assert len(gaps) > 50
    assert max(gaps) < GAP_MS
