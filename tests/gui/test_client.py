# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine's handle: answers, cancelling, and engines that end."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from explorer import __version__
from explorer.client.engine import WAITING_LIMIT, Engine
from explorer.client.session import Mark, Session, State
from explorer.core.entries import Entry
from explorer.core.errors import (
    EngineLost,
    ExplorerError,
    RecordError,
    SourceError,
    VolumeError,
)
from explorer.core.messages import describe
from explorer.wire.evidence import HashProgress, HashSource, SourceHashed
from explorer.wire.frames import encode
from explorer.wire.messages import (
    Counters,
    Entries,
    EntryRead,
    ListDirectory,
    Listed,
    Message,
    OpenSource,
    OpenVolume,
    Pack,
    ReadCounters,
    ReadEntry,
    Ready,
    Request,
    Resolve,
    VolumeOpened,
)
from tests.gui.conftest import WAIT_MS

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from tests.gui.conftest import OpenSession

EVERYTHING = Pack(
    volume=0,
    paths=(b"/",),
    name=None,
    contents=False,
    follow=False,
    every_link=False,
    holes=False,
    extents=False,
    plan=False,
)


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
    qtbot: QtBot, open_session: OpenSession, crowd_image: Path
) -> None:
    session = open_session(crowd_image)
    dropped = Asked(session, ListDirectory(0, b"/"))
    dropped.call.drop()
    packing = Asked(session, EVERYTHING)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        session.hand_over(packing.call, ours.fileno())
        packing.call.cancel()
        error = packing.end(qtbot)
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
    assert (loss.code, loss.params["exit"]) == ("engine.killed", "SIGKILL")
    assert asked.end(qtbot) is loss
    assert session.state is State.LOST
    late = Asked(session, OpenVolume(0))
    assert late.ends == []
    assert late.end(qtbot) is loss
    with qtbot.waitSignal(session.opened, timeout=WAIT_MS):
        session.open()
    assert session.process_id not in (0, first)
    # What it was at is not asked for again by itself.
    marked = Asked(session, ReadEntry(0, b"/"))
    assert marked.ends == []
    error = marked.end(qtbot)
    assert isinstance(error, VolumeError)
    assert error.code == "volume.marked"
    volume = session.volume(0)
    assert volume is not None
    session.try_again(volume)
    assert isinstance(Asked(session, ReadEntry(0, b"/")).end(qtbot), EntryRead)
    assert session.mark(volume) == Mark(1, describe(loss), blocked=False)


FAULTY = [sys.executable, "-W", "error", "-m", "tests.engine.faulty"]


def test_one_of_two_engines_falls_and_the_other_goes_on(
    qtbot: QtBot, open_session: OpenSession, ext4_image: Path, disk_image: Path
) -> None:
    good = open_session(ext4_image)
    bad = open_session(disk_image, FAULTY)
    listing = Asked(good, ListDirectory(0, b"/"))
    with qtbot.waitSignal(bad.lost, timeout=WAIT_MS) as blocker:
        falling = Asked(bad, ListDirectory(1, b"/panic"))
    assert isinstance(blocker.args, list)
    loss = blocker.args[0]
    assert loss.code == "engine.kernel-ended"
    assert any("Kernel panic" in line for line in loss.params["log"])
    assert falling.end(qtbot) is loss
    assert isinstance(listing.end(qtbot), Listed)
    assert good.state is State.OPEN
    assert isinstance(Asked(good, ReadEntry(0, b"/")).end(qtbot), EntryRead)


def test_a_volume_that_ends_engines_is_marked_and_counted(
    qtbot: QtBot, open_session: OpenSession, disk_image: Path
) -> None:
    session = open_session(disk_image, FAULTY)
    volume = session.volume(1)
    assert volume is not None
    for engines, path in enumerate((b"/panic", b"/hang", b"/fault"), 1):
        with qtbot.waitSignal(session.lost, timeout=WAIT_MS):
            asked = Asked(session, ListDirectory(1, path))
        loss = asked.end(qtbot)
        assert isinstance(loss, EngineLost)
        with qtbot.waitSignal(session.opened, timeout=WAIT_MS):
            session.open()
        assert session.mark(session.volume(1)) == Mark(engines, describe(loss), blocked=True)
        assert session.mark(session.volume(0)) is None
        # A request about no volume is none about this one.
        assert isinstance(Asked(session, ReadCounters()).end(qtbot), Counters)
        error = Asked(session, ListDirectory(1, b"/")).end(qtbot)
        assert isinstance(error, VolumeError)
        session.try_again(volume)
        assert isinstance(Asked(session, ListDirectory(1, b"/")).end(qtbot), Listed)


def test_what_may_not_be_asked_fails_alone(
    qtbot: QtBot, open_session: OpenSession, ext4_image: Path
) -> None:
    session = open_session(ext4_image)
    asked = Asked(session, Resolve(0, b"/a\0b"))
    assert asked.ends == []
    assert isinstance(asked.end(qtbot), RecordError)
    assert isinstance(Asked(session, ReadEntry(0, b"/")).end(qtbot), EntryRead)


READY = b"".join(encode(0, Ready(__version__)))
SAYS = "import os, sys, time; os.write(1, bytes.fromhex(sys.argv[1])); time.sleep(60)"
ENTRY = Entry(b"b", *[8 if field == "type" else 0 for field in Entry._fields[1:]])


def answer(*messages: Message) -> bytes:
    return b"".join(b"".join(encode(1, message)) for message in messages)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\0" * 100, "no frame begins there"),
        (READY + READY, "an answer to no request"),
        (READY + b"".join(encode(2, Listed())), "an answer to no request"),
        (READY + answer(VolumeOpened("ext4", False, False, 0, 0)), "does not answer that"),
        (READY + answer(Entries(b"x" * 160)), "record size"),
        (READY + answer(EntryRead(b"/b", ENTRY)), "another path than asked for"),
        (READY + answer(EntryRead(b"/a", ENTRY._replace(name=b"a"))) * 2, "to no request"),
        (b"".join(encode(0, Ready("0"))), "an engine of version 0"),
    ],
)
def test_an_engine_that_breaks_the_rules_is_ended(qtbot: QtBot, said: bytes, reason: str) -> None:
    engine = Engine(command=[sys.executable, "-c", SAYS, said.hex()])
    ends: list[object] = []
    message = ListDirectory(0, b"/") if b"xxx" in said else ReadEntry(0, b"/a")
    with qtbot.waitSignal(engine.lost, timeout=WAIT_MS) as blocker:
        engine.start()
        engine.request(message, ends.append, ends.append, lambda _part: None)
    assert isinstance(blocker.args, list)
    assert blocker.args[0].code == "engine.protocol"
    assert reason in blocker.args[0].params["exit"]
    assert len(ends) == 1
    qtbot.waitUntil(lambda: not engine.process_id, timeout=WAIT_MS)


def test_a_flood_of_answers_does_not_fill_the_memory(qtbot: QtBot) -> None:
    flood = (
        "import os, sys\n"
        "os.write(1, bytes.fromhex(sys.argv[1]))\n"
        "piece = bytes.fromhex(sys.argv[2]) * 1000\n"
        "try:\n"
        "    for _ in range(300): os.write(1, piece)\n"
        "finally: os.write(1, bytes.fromhex(sys.argv[3]))\n"
    )
    part = answer(HashProgress(1, 2))
    end = answer(SourceHashed())
    engine = Engine(command=[sys.executable, "-c", flood, READY.hex(), part.hex(), end.hex()])
    ends: list[object] = []
    most = 0

    def take(_part: object) -> None:
        nonlocal most
        most = max(most, len(engine._reader._buffer))

    engine.start()
    request = HashSource(("sha256",), stored=True, disk=True)
    engine.request(request, ends.append, ends.append, take)
    qtbot.waitUntil(lambda: bool(ends), timeout=WAIT_MS)
    assert isinstance(ends[0], SourceHashed)
    assert 0 < most < 3 * WAITING_LIMIT
    engine.stop()
    engine.wait_stopped()


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
