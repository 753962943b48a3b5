# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The scheduler: what a person waits for goes before bulk work, and what is cancelled ends."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import RecordError
from explorer.engine.server import BULK_THREADS, INTERACTIVE_THREADS, Server
from explorer.wire.evidence import HashProgress, HashSource, SourceHashed
from explorer.wire.frames import Frame, FrameReader, encode
from explorer.wire.messages import (
    Cancel,
    Counters,
    Failed,
    Listed,
    LogRead,
    Message,
    ReadCounters,
    ReadLog,
    Reply,
)
from explorer.wire.pipe import Pipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.engine.server import Answer

WAIT = 60.0
JOB = HashSource(("sha256",), stored=True, disk=True)
STEP = HashProgress(1, 2)
LOOK = ReadCounters()
COUNTERS = Counters(0, 0, 0, 0, 0)


class Work:
    """Answers that are given when the test says so."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.looks = threading.Event()
        self.looks.set()
        self.flood = False
        self.running = 0

    def handle(self, message: Message, answer: Answer) -> Reply:
        """Bulk work goes on by steps until it may end."""
        if isinstance(message, HashSource):
            self.begun.release()
            while not self.go_on.wait(0.001):
                answer.check()
                if self.flood:
                    answer.send(STEP)
            return SourceHashed()
        if isinstance(message, ReadLog):
            self.begun.release()
            self.looks.wait(WAIT)
            return LogRead(0, b"")
        return COUNTERS


class Window:
    """The other end of a server's pipe."""

    def __init__(self, work: Work) -> None:
        self.source, answers = os.pipe()
        requests, self.sink = os.pipe()
        self._ends = [answers, requests]
        self.server = Server(Pipe(requests, answers), work)
        self._reader = FrameReader()
        self.error: RecordError | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            self.server.serve()
        except RecordError as error:
            self.error = error

    def ask(self, *messages: tuple[int, Message]) -> None:
        """Sends requests in one piece."""
        os.write(self.sink, b"".join(b"".join(encode(*message)) for message in messages))

    def take(self) -> Frame:
        """The next frame that was answered."""
        while (frame := self._reader.next_frame()) is None:
            self._reader.feed(os.read(self.source, 1 << 16))
        return frame

    def wait(self) -> None:
        """Waits until no more requests are taken."""
        self._thread.join(WAIT)

    def close(self) -> None:
        """Ends the server in order."""
        os.close(self.sink)
        self.wait()
        # Who is still sending is not waited for.
        os.close(self.source)
        self.server.stop()
        for end in self._ends:
            os.close(end)


@pytest.fixture
def work() -> Work:
    """What the requests come to."""
    return Work()


@pytest.fixture
def window(work: Work) -> Iterator[Window]:
    """A server at work."""
    window = Window(work)
    yield window
    work.go_on.set()
    work.looks.set()
    window.close()


def test_what_waits_for_a_thread_ends_at_once_when_it_is_cancelled(
    window: Window, work: Work
) -> None:
    busy, waiting = BULK_THREADS, (BULK_THREADS + 2, BULK_THREADS + 1)
    window.ask(*((number, JOB) for number in range(1, busy + 3)))
    for _ in range(busy):
        assert work.begun.acquire(timeout=WAIT)
    window.ask(*((0, Cancel(number)) for number in (*waiting, 99)))
    for number in waiting:
        frame = window.take()
        assert isinstance(frame.message, Failed)
        assert (frame.request, frame.message.error.code) == (number, "request.cancelled")
    window.ask((0, Cancel(1)))
    assert window.take().request == 1
    # Its number is free again, and so is its thread.
    window.ask((1, JOB))
    work.go_on.set()
    ends = sorted(window.take() for _ in range(busy))
    assert ends == [Frame(number, SourceHashed()) for number in range(1, busy + 1)]


def test_several_are_answered_at_once_while_bulk_work_goes_on(window: Window, work: Work) -> None:
    work.looks.clear()
    window.ask((1, JOB), *((number, ReadLog(0)) for number in range(2, 2 + INTERACTIVE_THREADS)))
    for _ in range(1 + INTERACTIVE_THREADS):
        assert work.begun.acquire(timeout=WAIT)
    work.looks.set()
    numbers = {window.take().request for _ in range(INTERACTIVE_THREADS)}
    assert numbers == set(range(2, 2 + INTERACTIVE_THREADS))
    work.go_on.set()
    assert window.take().request == 1


def test_answers_overtake_what_bulk_work_sends(window: Window, work: Work) -> None:
    work.flood = True
    window.ask((1, JOB))
    work.begun.acquire()
    # Until the pipe is full, and longer: the job waits for the window.
    time.sleep(0.5)
    window.ask(*((number, LOOK) for number in range(2, 12)))
    time.sleep(0.2)
    before = 0
    found = 0
    while found < 10:
        frame = window.take()
        found += frame.request > 1
        before += frame.request == 1
    work.go_on.set()
    # What the pipe held already, a frame that was being written, and those let in between.
    size = sum(map(len, encode(1, STEP)))
    assert before <= (1 << 16) // size + 1 + 10


def test_bulk_work_waits_while_a_person_does(window: Window, work: Work) -> None:
    work.looks.clear()
    work.flood = True
    window.ask((1, JOB))
    assert window.take().request == 1
    window.ask((2, ReadLog(0)))
    work.begun.acquire()
    work.begun.acquire()
    # It goes on all the same, if slowly.
    assert all(window.take().request == 1 for _ in range(3))
    work.looks.set()
    while window.take().request == 1:
        pass


@pytest.mark.parametrize(
    "frames",
    [
        [(0, LOOK)],
        [(1, JOB), (1, JOB)],
        [(1, Listed())],
        [(1, COUNTERS)],
    ],
)
def test_what_is_no_request_ends_it(
    window: Window, work: Work, frames: list[tuple[int, Message]]
) -> None:
    window.ask(*frames)
    window.wait()
    assert isinstance(window.error, RecordError)
    work.go_on.set()
