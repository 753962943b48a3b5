# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""One engine process and the requests that are under way in it."""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QElapsedTimer, QObject, QProcess, QTimer, Signal

from explorer import __version__
from explorer.core.errors import RecordError
from explorer.host.processes import own_command
from explorer.wire.ends import LOG_TAIL, exit_loss, protocol_loss, start_loss
from explorer.wire.fields import check_answer
from explorer.wire.frames import Frame, FrameReader, encode
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
    from collections.abc import Callable, Sequence

    from explorer.core.errors import EngineLost, ExplorerError
    from explorer.wire.writing import Steering

    # What exactly comes follows from the request: see REPLIES and PARTS.
    TakeReply = Callable[[Any], None]
    TakeFailure = Callable[[ExplorerError], None]
    TakePart = Callable[[Any], None]

SLICE_MS = 8
"""How long frames are decoded before the event loop gets its turn."""
WAITING_LIMIT = 8 << 20
"""Bytes not yet decoded beyond which the event loop has to wait: an engine that floods its window
shall not fill its memory."""
STOP_MS = 3000
"""How long an engine may take to end in order before it is killed; killing is always safe."""


class Call:
    """A request under way.

    Plain functions take what comes, not signals: a request may be made for every row painted, and
    an object of Qt's for each would cost more than its answer.
    """

    def __init__(
        self,
        engine: Engine,
        number: int,
        request: Request,
        done: TakeReply,
        failed: TakeFailure,
        part: TakePart,
    ) -> None:
        """Used by :meth:`Engine.request`."""
        self._engine = engine
        self.number = number
        self.request = request
        self._parts = PARTS.get(type(request), ())
        self._reply = REPLIES[type(request)]
        self._done = done
        self._failed = failed
        self._part = part
        self.ended = False

    def cancel(self) -> None:
        """Asks the engine to stop; a failure follows, or the reply if it was faster."""
        if not self.ended:
            self._engine.cancel(self.number)

    def drop(self) -> None:
        """Cancels, and hears no more of it."""
        self.cancel()
        self._forget()

    def check(self, message: Message) -> None:
        """Raises :exc:`RecordError` for what is no answer to this request."""
        if not isinstance(message, (*self._parts, self._reply, Failed)):
            name = type(message).__name__
            raise RecordError("record.frame", reason=f"{name} does not answer that")
        if self._part is not _ignore or not isinstance(message, self._parts):
            check_answer(self.request, message)

    def take(self, message: Message) -> None:
        """Takes what the engine answered, checked."""
        if isinstance(message, self._parts):
            self._part(message)
            return
        self.ended = True
        done, failed = self._done, self._failed
        # What they hold may hold this.
        self._forget()
        if isinstance(message, Failed):
            failed(message.error)
        else:
            done(message)

    def _forget(self) -> None:
        self._done = self._failed = self._part = _ignore


def _ignore(_message: object) -> None:
    """Takes what nobody wants."""


class Engine(QObject):
    """A process that reads one source.

    Frames are decoded in slices of :data:`SLICE_MS`, so that an engine that sends faster than the
    window can draw does not hold up its event loop.
    """

    ready = Signal()
    lost = Signal(object)
    """An :class:`EngineLost`, once, however the process came to its end unasked."""

    def __init__(
        self,
        parent: QObject | None = None,
        command: Sequence[str] = (),
        inherited: Sequence[int] = (),
    ) -> None:
        """``inherited`` are descriptors that the process keeps, under the same numbers."""
        super().__init__(parent)
        self._command = list(command) or own_command("engine")
        self._inherited = inherited
        self._reader = FrameReader()
        self._calls: dict[int, Call] = {}
        self._numbers = count(1)
        self._log = bytearray()
        self._stopping = False
        self._loss: EngineLost | None = None
        self._is_ready = False
        self._refused: list[tuple[int, ExplorerError]] = []
        self.unanswered: tuple[Request, ...] = ()
        """What was under way when the engine was lost."""
        self._process = QProcess(self)
        self._process.readyReadStandardOutput.connect(self._take_output)
        self._process.readyReadStandardError.connect(self._take_log)
        self._process.errorOccurred.connect(self._take_process_error)
        self._process.finished.connect(self._take_end)
        self._slices = QTimer(self, interval=0, singleShot=True)
        self._slices.timeout.connect(self._decode_slice)
        self._late = QTimer(self, interval=0, singleShot=True)
        self._late.timeout.connect(self._fail_calls)
        self._killer = QTimer(self, interval=STOP_MS, singleShot=True)
        self._killer.timeout.connect(self._process.kill)

    def start(self) -> None:
        """Starts the process; requests may be made at once."""
        for descriptor in self._inherited:
            os.set_inheritable(descriptor, True)
        self._process.start(self._command[0], self._command[1:])
        # No process that is started later shall keep them open.
        for descriptor in self._inherited:
            os.set_inheritable(descriptor, False)

    def request(
        self,
        message: Request,
        done: TakeReply,
        failed: TakeFailure | None = None,
        part: TakePart | None = None,
    ) -> Call:
        """Sends a request; the functions take its reply, its failure, and the parts before.

        They are called from the event loop, never from in here. A lost engine fails every request.
        """
        call = self._begin(message, done, failed, part)
        if self._loss is not None:
            self._late.start()
            return call
        try:
            self._send(call.number, message)
        except RecordError as error:
            # Not to be asked: a path that was typed, say.
            self._refuse(call, error)
        return call

    def refuse(self, message: Request, failed: TakeFailure | None, error: ExplorerError) -> Call:
        """A request that fails, as all do: from the event loop; it is not sent."""
        call = self._begin(message, _ignore, failed, None)
        self._refuse(call, error)
        return call

    def _begin(
        self,
        message: Request,
        done: TakeReply,
        failed: TakeFailure | None,
        part: TakePart | None,
    ) -> Call:
        number = next(self._numbers)
        call = Call(self, number, message, done, failed or _ignore, part or _ignore)
        self._calls[number] = call
        return call

    def _refuse(self, call: Call, error: ExplorerError) -> None:
        self._refused.append((call.number, error))
        self._late.start()

    def cancel(self, number: int) -> None:
        """Sends the wish to end a request early."""
        if number in self._calls and self._loss is None:
            self._send(0, Cancel(number))

    def steer(self, message: Steering) -> None:
        """Sends what changes a request under way, and is not answered itself."""
        if self._loss is None:
            self._send(0, message)

    def stop(self) -> None:
        """Ends the process in order; it is killed when it does not end soon."""
        self._stopping = True
        if self._process.state() == QProcess.ProcessState.NotRunning:
            return
        self._process.closeWriteChannel()
        self._killer.start()

    def wait_stopped(self) -> None:
        """Waits for the end that :meth:`stop` began; only for when no window is left to block."""
        running = self._process.state() != QProcess.ProcessState.NotRunning
        if running and not self._process.waitForFinished(STOP_MS):
            self._process.kill()
            self._process.waitForFinished(STOP_MS)

    @property
    def process_id(self) -> int:
        """Of the operating system; 0 while there is none."""
        return self._process.processId()

    def _send(self, number: int, message: Message) -> None:
        head, payload = encode(number, message)
        self._process.write(head + payload)

    def _take_output(self) -> None:
        self._reader.feed(self._process.readAllStandardOutput().data())
        if not self._slices.isActive():
            self._decode_slice()

    def _decode_slice(self) -> None:
        if self._decode(SLICE_MS):
            self._slices.start()

    def _decode(self, limit_ms: int) -> bool:
        """Takes frames for some time; returns whether there are more."""
        clock = QElapsedTimer()
        clock.start()
        try:
            while clock.elapsed() < limit_ms or self._reader.waiting > WAITING_LIMIT:
                frame = self._reader.next_frame()
                if frame is None:
                    return False
                self._take_frame(frame)
        except RecordError as error:
            # Nothing that follows can be trusted, not even where the next frame begins.
            self._lose(protocol_loss(str(error), self._log))
            self._process.kill()
            return False
        return True

    def _take_frame(self, frame: Frame) -> None:
        message = frame.message
        if frame.request == 0 and isinstance(message, Ready) and not self._is_ready:
            if message.version != __version__:
                raise RecordError("record.frame", reason=f"an engine of version {message.version}")
            self._is_ready = True
            self.ready.emit()
            return
        call = self._calls.get(frame.request)
        if call is None:
            raise RecordError("record.frame", reason="an answer to no request")
        call.check(message)
        if not isinstance(message, Part):
            del self._calls[frame.request]
        call.take(message)

    def _take_log(self) -> None:
        self._log += self._process.readAllStandardError().data()
        del self._log[:-LOG_TAIL]

    def _take_process_error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self._lose(start_loss(self._process.errorString()))

    def _take_end(self, code: int, status: QProcess.ExitStatus) -> None:
        self._take_log()
        if self._loss is None:
            # What it answered before it ended is taken: the rest is what it was at.
            self._reader.feed(self._process.readAllStandardOutput().data())
            while self._decode(SLICE_MS):
                pass
        self._lose(exit_loss(-code if status == QProcess.ExitStatus.CrashExit else code, self._log))

    def _lose(self, loss: EngineLost) -> None:
        if self._loss is not None:
            return
        self._loss = loss
        self.unanswered = tuple(call.request for call in self._calls.values())
        self._killer.stop()
        self._slices.stop()
        self._fail_calls()
        if not self._stopping:
            self.lost.emit(loss)

    def _fail_calls(self) -> None:
        refused, self._refused = self._refused, []
        for number, error in refused:
            call = self._calls.pop(number, None)
            if call is not None:
                call.take(Failed(error))
        if self._loss is not None:
            calls, self._calls = list(self._calls.values()), {}
            for call in calls:
                call.take(Failed(self._loss))
