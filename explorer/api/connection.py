# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Child processes that speak the wire, asked without an event loop.

Threads read the pipes and do nothing else, for no system lets a program wait for all kinds of them
at once; frames are decoded, and answers given, on the thread that waits for them.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections import deque
from collections.abc import Callable, Generator, Sequence
from itertools import count
from queue import Full, Queue
from threading import Thread
from typing import IO, TYPE_CHECKING, Any

from explorer import __version__
from explorer.core.closing import Closing
from explorer.core.errors import RecordError
from explorer.wire.ends import LOG_TAIL, exit_loss, protocol_loss, start_loss
from explorer.wire.fields import check_answer
from explorer.wire.frames import FrameReader, encode
from explorer.wire.messages import (
    PARTS,
    REPLIES,
    Cancel,
    Failed,
    Message,
    Part,
    Ready,
    Request,
)

if TYPE_CHECKING:
    from explorer.core.errors import EngineLost
    from explorer.wire.frames import Frame

READ_SIZE = 1 << 18
INBOX_LIMIT = 16
"""Pieces of :data:`READ_SIZE` that wait to be decoded; a process that sends more waits, too."""
PUT_SECONDS = 0.1
END_SECONDS = 5.0
"""How long a process may take to end in order before it is killed; killing is always safe."""

TakePart = Callable[[Any], None]
# What exactly comes follows from the request: see REPLIES and PARTS.
Result = Any


def _ignore(_part: object) -> None:
    """Takes what nobody wants."""


class Inbox:
    """Where all that the processes of one program send arrives."""

    def __init__(self) -> None:
        self._queue: Queue[tuple[Connection, bytes]] = Queue(INBOX_LIMIT)

    def put(self, connection: Connection, piece: bytes) -> bool:
        """Leave a piece of a connection, empty at its end; whether there was room in time."""
        try:
            self._queue.put((connection, piece), timeout=PUT_SECONDS)
        except Full:
            return False
        return True

    def pump(self) -> None:
        """Wait for one piece, of whichever process, and have it taken."""
        connection, piece = self._queue.get()
        connection.take(piece)

    def wait(self, *pendings: Pending) -> None:
        """Wait until all of these have ended."""
        while any(pending.end is None for pending in pendings):
            self.pump()


class Pending:
    """A request under way."""

    def __init__(
        self, connection: Connection, number: int, request: Request, part: TakePart
    ) -> None:
        """Used by :meth:`Connection.begin`."""
        self.connection = connection
        self.number = number
        self.request = request
        self.part = part
        self.end: Message | None = None
        """The reply, or :class:`Failed`, once it is there."""

    def cancel(self) -> None:
        """Ask for its end; which comes as ``Failed(request.cancelled)`` or as the reply."""
        if self.end is None:
            self.connection.send(0, Cancel(self.number))

    def take(self, message: Message) -> None:
        """Take what came; raises :exc:`RecordError` for what does not answer the request."""
        kind = type(self.request)
        if not isinstance(message, (*PARTS.get(kind, ()), REPLIES[kind], Failed)):
            name = type(message).__name__
            raise RecordError("record.frame", reason=f"{name} does not answer that")
        check_answer(self.request, message)
        if isinstance(message, Part):
            self.part(message)
        else:
            self.end = message

    def result(self) -> Result:
        """The reply, once it is there; raises the error that ended it."""
        if isinstance(self.end, Failed):
            raise self.end.error
        return self.end


class Connection(Closing):
    """A process of the program's own. A context manager that ends it."""

    def __init__(self, inbox: Inbox, argv: Sequence[str], descriptors: Sequence[int] = ()) -> None:
        """Start ``argv``, which inherits ``descriptors``; raises :exc:`EngineLost`."""
        self.inbox = inbox
        self.loss: EngineLost | None = None
        """Why the process can be asked nothing more."""
        self.missing: tuple[str, ...] = ()
        """Parts of its confinement that this host lacks; known once it has answered anything."""
        self._reader = FrameReader()
        self._log = bytearray()
        self._numbers = count(1)
        self._pending: dict[int, Pending] = {}
        self._closed = False
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=tuple(descriptors),
            )
        except OSError as error:
            raise start_loss(error.strerror or str(error)) from error
        streams = self._process.stdin, self._process.stdout, self._process.stderr
        self._sink, output, errors = streams
        assert self._sink is not None
        self._threads = [
            Thread(target=self._read_output, args=(output,), daemon=True),
            Thread(target=self._read_errors, args=(errors,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def process_id(self) -> int:
        """Of the operating system."""
        return self._process.pid

    # ---- The threads

    def _read_output(self, output: IO[bytes]) -> None:
        with output:
            while piece := output.read1(READ_SIZE):  # type: ignore[attr-defined]
                self._leave(piece)
        self._leave(b"")

    def _leave(self, piece: bytes) -> None:
        # What comes after close() is decoded by nobody.
        while not self._closed and not self.inbox.put(self, piece):
            pass

    def _read_errors(self, errors: IO[bytes]) -> None:
        with errors:
            while piece := errors.read1(READ_SIZE):  # type: ignore[attr-defined]
                self._log += piece
                del self._log[:-LOG_TAIL]

    # ---- Requests

    def begin(self, request: Request, part: TakePart = _ignore) -> Pending:
        """Send a request; ``part`` is given the parts of its answer when somebody waits."""
        pending = Pending(self, next(self._numbers), request, part)
        if self.loss is not None:
            pending.end = Failed(self.loss)
        else:
            self._pending[pending.number] = pending
            self.send(pending.number, request)
        return pending

    def ask(self, request: Request, part: TakePart = _ignore) -> Result:
        """Send a request and wait for its reply; raises the error that it failed by.

        What ``part`` raises, or Ctrl-C, cancels the request and is let through.
        """
        pending = self.begin(request, part)
        try:
            self.inbox.wait(pending)
        except BaseException:
            pending.part = _ignore
            pending.cancel()
            raise
        return pending.result()

    def stream(self, request: Request) -> Generator[Any, None, Result]:
        """Send a request and give the parts of its answer as they come; returns its reply.

        Closing the generator cancels the request.
        """
        parts: deque[Any] = deque()
        pending = self.begin(request, parts.append)
        try:
            while pending.end is None:
                self.inbox.pump()
                while parts:
                    yield parts.popleft()
        finally:
            pending.part = _ignore
            pending.cancel()
        return pending.result()

    def send(self, number: int, message: Message) -> None:
        """Write one frame; to a process that has ended, none."""
        head, payload = encode(number, message)
        assert self._sink is not None
        # Of its end, whoever waits is told.
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._sink.write(head + payload)
            self._sink.flush()

    # ---- Answers

    def take(self, piece: bytes) -> None:
        """Take what came through the pipe, nothing at its end; used by :meth:`Inbox.pump`."""
        if self.loss is not None:
            return
        if not piece:
            self._lose()
            return
        self._reader.feed(piece)
        try:
            for frame in self._reader:
                self._take_frame(frame)
        except RecordError as error:
            # Nothing that follows can be trusted, not even where the next frame begins.
            self._process.kill()
            self._lose(str(error))

    def _take_frame(self, frame: Frame) -> None:
        message = frame.message
        if frame.request == 0 and isinstance(message, Ready):
            if message.version != __version__:
                raise RecordError("record.frame", reason=f"a process of version {message.version}")
            self.missing = message.missing
            return
        pending = self._pending.get(frame.request)
        if pending is None:
            raise RecordError("record.frame", reason="an answer to no request")
        if not isinstance(message, Part):
            del self._pending[frame.request]
        pending.take(message)

    def _lose(self, broken: str = "") -> None:
        code = self._end_process()
        self.loss = protocol_loss(broken, self._log) if broken else exit_loss(code, self._log)
        pending, self._pending = list(self._pending.values()), {}
        for one in pending:
            one.end = Failed(self.loss)

    def _end_process(self) -> int:
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for thread in self._threads:
            thread.join(END_SECONDS)
        return code

    def close(self) -> None:
        """End the process in order, or kill it; a second call does nothing."""
        if not self._closed:
            self._closed = True
            assert self._sink is not None
            with contextlib.suppress(BrokenPipeError):
                self._sink.close()
            self._end_process()
