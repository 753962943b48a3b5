# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine's handle: answers, cancelling, and engines that end."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from explorer.client.engine import Engine
from explorer.client.session import Session, State
from explorer.core.errors import EngineLost, ExplorerError, SourceError
from explorer.wire.messages import (
    EntryRead,
    Export,
    ListDirectory,
    OpenSource,
    OpenVolume,
    ReadEntry,
    Request,
    VolumeOpened,
)
from tests.gui.conftest import WAIT_MS

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from tests.gui.conftest import OpenSession


class Asked:
    """A request, and what came of it."""

    def __init__(self, session: Session, request: Request) -> None:
        self.parts: list[object] = []
        self.ends: list[object] = []
        self.call = session.request(request, self.ends.append, self.ends.append, self.parts.append)

    def end(self, qtbot: QtBot) -> object:
        """The reply or the error, once and only once."""
        qtbot.waitUntil(lambda: bool(self.ends), timeout=WAIT_MS)
        (end,) = self.ends
        return end


def test_answers_come_by_the_event_loop(
    qtbot: QtBot, open_session: OpenSession, ext4_image: Path
) -> None:
    session = open_session(ext4_image)
    assert session.state is State.OPEN
    assert session.source is not None
    assert session.name == "ext4.img"
    asked = Asked(session, OpenVolume(0))
    assert asked.ends == []
    assert isinstance(asked.end(qtbot), VolumeOpened)
    assert asked.call.ended


def test_a_source_that_cannot_be_opened(qtbot: QtBot, tmp_path: Path) -> None:
    session = Session(OpenSource((bytes(tmp_path / "missing"),)))
    with qtbot.waitSignal(session.failed, timeout=WAIT_MS) as blocker:
        session.open()
    assert isinstance(blocker.args, list)
    assert isinstance(blocker.args[0], SourceError)
    assert session.state is State.FAILED
    session.close()
    session.wait_closed()


def test_a_cancelled_call_fails_and_a_dropped_one_is_silent(
    qtbot: QtBot, open_session: OpenSession, crowd_image: Path, tmp_path: Path
) -> None:
    session = open_session(crowd_image)
    dropped = Asked(session, ListDirectory(0, b"/"))
    dropped.call.drop()
    export = Asked(session, Export(0, (b"/",), bytes(tmp_path), replace=False))
    export.call.cancel()
    error = export.end(qtbot)
    assert isinstance(error, ExplorerError)
    assert error.code in ("request.cancelled", "export.cancelled")
    assert isinstance(Asked(session, OpenVolume(0)).end(qtbot), VolumeOpened)
    assert (dropped.parts, dropped.ends) == ([], [])


def test_a_killed_engine_fails_its_calls_and_can_be_replaced(
    qtbot: QtBot, open_session: OpenSession, crowd_image: Path
) -> None:
    session = open_session(crowd_image)
    asked = Asked(session, ListDirectory(0, b"/"))
    first = session.process_id
    with qtbot.waitSignal(session.lost, timeout=WAIT_MS) as blocker:
        os.kill(first, signal.SIGKILL)
    assert isinstance(blocker.args, list)
    loss = blocker.args[0]
    assert isinstance(loss, EngineLost)
    assert loss.params["exit"] == f"signal {int(signal.SIGKILL)}"
    assert asked.end(qtbot) is loss
    assert session.state is State.LOST
    late = Asked(session, OpenVolume(0))
    assert late.ends == []
    assert late.end(qtbot) is loss
    with qtbot.waitSignal(session.opened, timeout=WAIT_MS):
        session.open()
    assert session.process_id not in (0, first)
    assert isinstance(Asked(session, ReadEntry(0, b"/")).end(qtbot), EntryRead)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/nonexistent/engine"], ""),
        ([sys.executable, "-c", "print('hello, I am no engine')"], "no frame begins there"),
        ([sys.executable, "-c", "import sys; sys.exit('cannot go on')"], "exit code 1"),
    ],
)
def test_a_program_that_is_no_engine(qtbot: QtBot, command: list[str], said: str) -> None:
    engine = Engine(command=command)
    with qtbot.waitSignal(engine.lost, timeout=WAIT_MS) as blocker:
        engine.start()
    assert isinstance(blocker.args, list)
    loss = blocker.args[0]
    assert said in str(loss.params["exit"])
    if "cannot" in command[-1]:
        assert loss.params["log"] == ["cannot go on"]
    engine.stop()
    engine.wait_stopped()
