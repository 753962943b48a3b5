# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes requests from the pipe and has them answered, several at once.

What a person waits for (a listing, a preview) never queues behind an export: the two have threads
of their own, and the kernel takes calls from any of them.
"""

from __future__ import annotations

import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event, Lock
from typing import TYPE_CHECKING, Protocol

from explorer.core.errors import ExplorerError, RecordError
from explorer.wire.messages import Cancel, Export, Failed, Message, Part, Reply

if TYPE_CHECKING:
    from explorer.wire.pipe import Pipe

INTERACTIVE_THREADS = 4
BULK_THREADS = 1


class Cancelled(Exception):
    """The window no longer wants the answer."""


class Answer:
    """One request's way back to the window."""

    def __init__(self, pipe: Pipe, request: int) -> None:
        self._pipe = pipe
        self._request = request
        self._cancelled = Event()

    def cancel(self) -> None:
        """The next :meth:`check` or :meth:`send` raises; from any thread."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether to stop."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raises :exc:`Cancelled` when the answer is no longer wanted."""
        if self._cancelled.is_set():
            raise Cancelled

    def send(self, part: Part) -> None:
        """Sends a part of the answer; raises :exc:`Cancelled` instead when nobody wants it."""
        self.check()
        self._pipe.send(self._request, part)

    def end(self, message: Reply | Failed) -> None:
        """Sends the end of the answer."""
        self._pipe.send(self._request, message)


class Handler(Protocol):
    """What knows the answers."""

    def handle(self, message: Message, answer: Answer) -> Reply:
        """Answers one request; called from several threads at once."""


class Server:
    """Reads requests until the window closes the pipe."""

    def __init__(self, pipe: Pipe, handler: Handler) -> None:
        self._pipe = pipe
        self._handler = handler
        self._answers: dict[int, Answer] = {}
        self._lock = Lock()
        self._interactive = ThreadPoolExecutor(INTERACTIVE_THREADS, "interactive")
        self._bulk = ThreadPoolExecutor(BULK_THREADS, "bulk")

    def serve(self) -> None:
        """Takes requests until the pipe is closed.

        Raises :exc:`RecordError` when what comes is no request.
        """
        for request, message in self._pipe.frames():
            if isinstance(message, Cancel):
                self._cancel(message.target)
            else:
                self._begin(request, message)

    def stop(self) -> None:
        """Cancels what is still running, and waits for it."""
        with self._lock:
            for answer in self._answers.values():
                answer.cancel()
        for pool in (self._interactive, self._bulk):
            pool.shutdown(cancel_futures=True)

    def _begin(self, request: int, message: Message) -> None:
        answer = Answer(self._pipe, request)
        with self._lock:
            if request in self._answers or not request:
                raise RecordError("record.frame", reason=f"request number {request}")
            self._answers[request] = answer
        pool = self._bulk if isinstance(message, Export) else self._interactive
        pool.submit(self._answer, request, message, answer)

    def _cancel(self, request: int) -> None:
        with self._lock:
            answer = self._answers.get(request)
        if answer:
            answer.cancel()

    def _answer(self, request: int, message: Message, answer: Answer) -> None:
        end: Reply | Failed
        try:
            answer.check()
            end = self._handler.handle(message, answer)
        except Cancelled:
            end = Failed(ExplorerError("request.cancelled"))
        except ExplorerError as error:
            end = Failed(error)
        except BrokenPipeError:
            # The window is gone; serve() is about to read the end of its pipe.
            return
        except Exception as error:  # noqa: BLE001 - one request's bug must not end the others
            traceback.print_exc(file=sys.stderr)
            end = Failed(ExplorerError("engine.internal", reason=repr(error)))
        with self._lock:
            del self._answers[request]
        with suppress(BrokenPipeError):
            try:
                answer.end(end)
            except RecordError as error:
                # A reply beyond the wire's limits: the request must end all the same.
                answer.end(Failed(error))
