# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources, volumes and folders as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import QModelIndex
from PySide6.QtTest import QAbstractItemModelTester

from explorer.core.errors import VolumeError
from explorer.models.location import Location
from explorer.models.tree import FolderTreeModel, Kind
from tests.gui.conftest import WAIT_MS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from explorer.client.session import Session
    from tests.gui.conftest import OpenSession


@pytest.fixture
def model(qtbot: QtBot) -> Iterator[FolderTreeModel]:
    """A model under Qt's own tester."""
    model = FolderTreeModel()
    tester = QAbstractItemModelTester(
        model, QAbstractItemModelTester.FailureReportingMode.Fatal, model
    )
    yield model
    del tester


def add(model: FolderTreeModel, session: Session) -> None:
    assert session.source is not None
    model.add_source(session)
    model.set_volumes(session, session.source.volumes)


def texts(model: FolderTreeModel, parent: QModelIndex) -> list[str]:
    return [str(model.index(row, 0, parent).data()) for row in range(model.rowCount(parent))]


def read(qtbot: QtBot, model: FolderTreeModel, index: QModelIndex) -> None:
    # Qt's tester may have asked already.
    model.fetchMore(index)
    assert not model.canFetchMore(index)
    qtbot.waitUntil(lambda: model.rowCount(index) > 0, timeout=WAIT_MS)


def test_volumes_and_folders(
    qtbot: QtBot, model: FolderTreeModel, open_session: OpenSession, disk_image: Path
) -> None:
    session = open_session(disk_image)
    add(model, session)
    source = model.index(0, 0)
    assert source.data() == "disk.img"
    assert texts(model, source) == [
        "sample · ext4 · 24.0 MiB",
        "secret · LUKS encrypted volume · 4.00 MiB",
        "Partition 3 · unknown contents · 1.00 MiB",
    ]
    volumes = [model.index(row, 0, source) for row in range(3)]
    kinds = [model.kind(volume) for volume in volumes]
    assert kinds == [Kind.VOLUME, Kind.LOCKED_VOLUME, Kind.UNKNOWN_VOLUME]
    assert [model.hasChildren(volume) for volume in volumes] == [True, False, False]
    read(qtbot, model, volumes[0])
    assert texts(model, volumes[0]) == ["folder", "links", "lost+found", "many", "odd"]
    many = model.index(3, 0, volumes[0])
    assert model.location(many) == Location(session, 1, b"/many")
    read(qtbot, model, many)
    assert texts(model, many) == ["Alpha", "beta", "gamma9", "gamma10"]
    assert model.parent(model.index(2, 0, many)) == many


def test_a_place_can_be_revealed_before_its_folders_are_read(
    qtbot: QtBot, model: FolderTreeModel, open_session: OpenSession, ext4_image: Path
) -> None:
    session = open_session(ext4_image)
    add(model, session)
    deep = model.reveal(Location(session, 0, b"/folder/below"))
    assert deep.data() == "below"
    folder = deep.parent()
    assert texts(model, folder.parent()) == ["folder"]
    volume = folder.parent()
    model.fetchMore(volume)
    qtbot.waitUntil(lambda: model.rowCount(volume) == 5, timeout=WAIT_MS)
    assert model.reveal(Location(session, 0, b"/folder/below")).data() == "below"
    model.set_folders(Location(session, 0, b"/"), [b"many", b"new"])
    assert texts(model, volume) == ["many", "new"]


def test_a_folder_without_folders_is_told_apart(
    qtbot: QtBot, model: FolderTreeModel, open_session: OpenSession, ext4_image: Path
) -> None:
    session = open_session(ext4_image)
    add(model, session)
    odd = model.reveal(Location(session, 0, b"/odd"))
    assert model.hasChildren(odd)
    model.fetchMore(odd)
    qtbot.waitUntil(lambda: not model.hasChildren(odd), timeout=WAIT_MS)


def test_a_source_leaves_with_all_below_it(
    qtbot: QtBot,
    model: FolderTreeModel,
    open_session: OpenSession,
    ext4_image: Path,
    disk_image: Path,
) -> None:
    first, second = open_session(ext4_image), open_session(disk_image)
    add(model, first)
    add(model, second)
    model.fetchMore(model.reveal(Location(first, 0, b"/many")))
    model.remove_source(first)
    assert texts(model, QModelIndex()) == ["disk.img"]
    assert not model.reveal(Location(first, 0, b"/")).isValid()
    assert model.reveal(Location(second, 1, b"/")).isValid()


def test_a_folder_that_cannot_be_read_says_why(
    qtbot: QtBot, model: FolderTreeModel, open_session: OpenSession, disk_image: Path
) -> None:
    session = open_session(disk_image)
    assert session.source is not None
    volumes = session.source.volumes
    model.add_source(session)
    # As if it looked openable: the engine has the last word.
    first, locked, last = volumes
    usable = type(locked)(
        locked.number, locked.start, locked.size, "ext4", "ext4", "", "", mountable=True
    )
    model.set_volumes(session, (first, usable, last))
    index = model.reveal(Location(session, locked.number, b"/"))
    failures: list[object] = []
    model.failed.connect(lambda _location, error: failures.append(error))
    model.fetchMore(index)
    qtbot.waitUntil(lambda: bool(failures), timeout=WAIT_MS)
    assert isinstance(failures[0], VolumeError)
    assert not model.hasChildren(index)
