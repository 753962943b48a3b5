# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes requests from the pipe and has them answered, several at once.

What a person waits for (a listing, a preview) never queues behind bulk work (:data:`BULK`): the two
have threads of their own, answers of bulk work let others pass on their way out, and the kernel
takes calls from any thread. Every request is an operation that is watched.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections import deque
from contextlib import contextmanager, suppress
from threading import Condition, Event, Lock, Thread
from typing import TYPE_CHECKING, Protocol

from explorer.core.errors import ExplorerError, RecordError
from explorer.core.exits import EXIT_MEMORY
from explorer.core.names import show_name
from explorer.engine import watch
from explorer.wire.messages import (
    BULK,
    REPLIES,
    Cancel,
    Failed,
    ListDirectory,
    Message,
    OpenSource,
    OpenVolume,
    Part,
    Reply,
    Unlock,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from explorer.wire.pipe import Pipe

INTERACTIVE_THREADS = 4
BULK_THREADS = 4
"""More than one, so that a copy that is paused does not hold up the next."""
REQUESTS_LIMIT = 1 << 16
"""Requests that may be under way."""
SWITCH_SECONDS = 0.0005
"""How long a thread of Python's keeps the others waiting: each call into the kernel gives the turn
away, and bulk work in Python would have it back only after the usual ten times as long."""
YIELD_SECONDS = 0.05
"""How long a step of bulk work waits at most for what a person waits for: the kernel has one CPU,
of which both would get half."""


class Cancelled(Exception):
    """The window no longer wants the answer."""


class _Urgent:
    """How many answers a person waits for."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._count = 0

    def add(self, change: int) -> None:
        with self._changed:
            self._count += change
            if not self._count:
                self._changed.notify_all()

    def wait_for_none(self, seconds: float) -> None:
        if self._count:
            with self._changed:
                self._changed.wait_for(lambda: not self._count, seconds)


class Answer:
    """One request's way back to the window."""

    def __init__(self, pipe: Pipe, request: int, message: Message, urgent: _Urgent) -> None:
        """Used by :class:`Server`."""
        self._pipe = pipe
        self.request = request
        self.message = message
        self.bulk = type(message) in BULK
        self._urgent = urgent
        self._cancelled = Event()
        self._lock = Lock()
        self._stop: Callable[[], None] | None = None

    def cancel(self) -> None:
        """The next :meth:`check` or :meth:`send` raises; from any thread."""
        self._cancelled.set()
        with self._lock:
            if self._stop is not None:
                self._stop()

    @contextmanager
    def cancels(self, stop: Callable[[], None]) -> Iterator[None]:
        """While ``stop`` is what ends work that waits for others; called from any thread."""
        with self._lock:
            self._stop = stop
        try:
            # It may have been cancelled before.
            self.check()
            yield
        finally:
            with self._lock:
                self._stop = None

    @property
    def cancelled(self) -> bool:
        """Whether to stop.

        To be asked at each step: it tells the watchdog that there is one, and bulk work lets others
        go first.
        """
        if self.bulk:
            self._urgent.wait_for_none(YIELD_SECONDS)
        operation = watch.current()
        if operation is not None:
            operation.step()
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raises :exc:`Cancelled` when the answer is no longer wanted."""
        if self.cancelled:
            raise Cancelled

    def send(self, part: Part) -> None:
        """Sends a part of the answer; raises :exc:`Cancelled` instead when nobody wants it."""
        self.check()
        # A window that is slow to read is no fault of what is at work in here.
        with watch.waiting():
            self._pipe.send(self.request, part, bulk=self.bulk)

    def end(self, message: Reply | Failed) -> None:
        """Sends the end of the answer."""
        self._pipe.send(self.request, message, bulk=self.bulk)


class Handler(Protocol):
    """What knows the answers."""

    def handle(self, message: Message, answer: Answer) -> Reply:
        """Answers one request; called from several threads at once."""


class _Lane:
    """Answers that wait for a thread, in the order they came, and the threads that give them."""

    def __init__(self, name: str, threads: int, give: Callable[[Answer], None]) -> None:
        self._give = give
        self._changed = Condition()
        self._waiting: deque[Answer] = deque()
        self._open = True
        self._threads = [
            Thread(target=self._run, name=f"{name} {number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, answer: Answer) -> None:
        with self._changed:
            self._waiting.append(answer)
            self._changed.notify()

    def withdraw(self, answer: Answer) -> bool:
        """Takes one out that no thread has begun with; returns whether there was time."""
        with self._changed:
            try:
                self._waiting.remove(answer)
            except ValueError:
                return False
            return True

    def stop(self) -> None:
        """Drops what waits, and waits for what has been begun."""
        with self._changed:
            self._open = False
            self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or not self._open)
                if not self._open:
                    return
                answer = self._waiting.popleft()
            self._give(answer)


class Server:
    """Reads requests until the window closes the pipe."""

    def __init__(self, pipe: Pipe, handler: Handler) -> None:
        self._pipe = pipe
        self._handler = handler
        self._answers: dict[int, Answer] = {}
        self._lock = Lock()
        self._urgent = _Urgent()
        sys.setswitchinterval(SWITCH_SECONDS)
        self._interactive = _Lane("interactive", INTERACTIVE_THREADS, self._give)
        self._bulk = _Lane("bulk", BULK_THREADS, self._give)

    def serve(self) -> None:
        """Takes requests until the pipe is closed.

        Raises :exc:`RecordError` when what comes is no request.
        """
        for request, message in self._pipe.frames():
            if isinstance(message, Cancel):
                self._cancel(message.target)
            elif type(message) in REPLIES:
                self._begin(Answer(self._pipe, request, message, self._urgent))
            else:
                kind = type(message).__name__
                raise RecordError("record.message", message=kind, reason="no request")

    def stop(self) -> None:
        """Cancels what is still running, and waits for it."""
        with self._lock:
            for answer in self._answers.values():
                answer.cancel()
        for lane in (self._interactive, self._bulk):
            lane.stop()

    def _lane(self, answer: Answer) -> _Lane:
        return self._bulk if answer.bulk else self._interactive

    def _begin(self, answer: Answer) -> None:
        with self._lock:
            if answer.request in self._answers or not answer.request:
                raise RecordError("record.frame", reason=f"request number {answer.request}")
            if len(self._answers) >= REQUESTS_LIMIT:
                raise RecordError("record.frame", reason="too many requests")
            self._answers[answer.request] = answer
        if not answer.bulk:
            self._urgent.add(1)
        self._lane(answer).add(answer)

    def _cancel(self, request: int) -> None:
        with self._lock:
            answer = self._answers.get(request)
        if answer is None:
            return
        answer.cancel()
        if self._lane(answer).withdraw(answer):
            self._end(answer, Failed(ExplorerError("request.cancelled")))

    def _give(self, answer: Answer) -> None:
        what, seconds = _limit(answer.message)
        try:
            with watch.operation(what, _where(answer.message), seconds):
                end = self._handle(answer)
        except BrokenPipeError:
            # The window is gone; serve() is about to read the end of its pipe.
            return
        self._end(answer, end)

    def _handle(self, answer: Answer) -> Reply | Failed:
        try:
            answer.check()
            return self._handler.handle(answer.message, answer)
        except Cancelled:
            return Failed(ExplorerError("request.cancelled"))
        except ExplorerError as error:
            return Failed(error)
        except BrokenPipeError:
            raise
        except MemoryError:
            # What was half done for want of it cannot be known.
            traceback.print_exc(file=sys.stderr)
            sys.stderr.flush()
            os._exit(EXIT_MEMORY)
        except Exception as error:  # noqa: BLE001 - one request's bug must not end the others
            traceback.print_exc(file=sys.stderr)
            return Failed(ExplorerError("engine.internal", reason=repr(error)))

    def _end(self, answer: Answer, end: Reply | Failed) -> None:
        with self._lock:
            del self._answers[answer.request]
        if not answer.bulk:
            self._urgent.add(-1)
        with suppress(BrokenPipeError):
            try:
                answer.end(end)
            except RecordError as error:
                # A reply beyond the wire's limits: the request must end all the same.
                answer.end(Failed(error))


def _limit(message: Message) -> tuple[str, float]:
    """How a request is called when it hangs, and after how many seconds it does."""
    match message:
        case OpenSource():
            return "open", watch.OPEN_SECONDS
        case Unlock():
            return "unlock", watch.UNLOCK_SECONDS
        case OpenVolume():
            return "mount", watch.MOUNT_SECONDS
        case ListDirectory():
            return "list", watch.LIST_SECONDS
        case _:
            return type(message).__name__, watch.READ_SECONDS


def _where(message: Message) -> str:
    """What a request is about."""
    volume, path = getattr(message, "volume", None), getattr(message, "path", None)
    parts = [] if volume is None else [f"volume {volume}"]
    if isinstance(path, bytes):
        parts.append(show_name(path[-watch.WHERE_LIMIT :]))
    return ", ".join(parts)
