# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the window's tests: real engines on real images, no screen."""

from __future__ import annotations

import os

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from typing import TYPE_CHECKING

import pytest
from PySide6.QtCore import QSettings

from explorer.client.session import Session, State
from explorer.ui.window import MainWindow
from explorer.wire.messages import OpenSource
from tests.engine.fixtures import crowd_image, disk_image, ext4_image, image_folder, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Protocol

    from pytestqt.qtbot import QtBot

    class OpenSession(Protocol):
        """Opens an image, with the program's own engine or another one."""

        def __call__(self, image: Path, command: Sequence[str] = ()) -> Session:
            """Returns when it is open."""

    OpenWindow = Callable[[Path], MainWindow]

__all__ = [
    "crowd_image",
    "disk_image",
    "ext4_image",
    "image_folder",
    "open_session",
    "open_window",
    "tree",
    "window",
]

WAIT_MS = 60_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The offscreen platform says at every window that it knows no size hints."""
    for item in items:
        item.add_marker(
            pytest.mark.qt_log_ignore("does not support propagateSizeHints", extend=True)
        )


@pytest.fixture
def open_session(qtbot: QtBot) -> Iterator[OpenSession]:
    """Opens sources, and ends their engines after the test."""
    sessions: list[Session] = []

    def open_one(image: Path, command: Sequence[str] = ()) -> Session:
        session = Session(OpenSource((bytes(image),)), command=command)
        sessions.append(session)
        with qtbot.waitSignal(session.opened, timeout=WAIT_MS):
            session.open()
        return session

    yield open_one
    for session in sessions:
        session.close()
    for session in sessions:
        session.wait_closed()


@pytest.fixture
def window(qtbot: QtBot, tmp_path: Path) -> Iterator[MainWindow]:
    """A window with settings of its own, nothing open."""
    settings = QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)
    window = MainWindow(settings)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitExposed(window)
    yield window
    for job in window.jobs.running:
        job.cancel()
    qtbot.waitUntil(lambda: not window.jobs.running, timeout=WAIT_MS)
    window.close()


@pytest.fixture
def open_window(qtbot: QtBot, window: MainWindow) -> OpenWindow:
    """Opens an image in the window, and waits until it is shown."""

    def open_one(image: Path) -> MainWindow:
        window.open_path(bytes(image))
        settle(qtbot, window)
        return window

    return open_one


def settle(qtbot: QtBot, window: MainWindow) -> None:
    """Waits until the window shows where it is."""

    def settled() -> bool:
        here = window.location
        if here is None or here.session.state is not State.OPEN:
            return False
        model = window.browser.contents_model
        return here.volume is None or (model.location == here and not model.loading)

    qtbot.waitUntil(settled, timeout=WAIT_MS)
