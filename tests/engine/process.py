# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""An engine asked step by step, without Qt."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from explorer.core.errors import ExplorerError
from explorer.host.handover import Giver
from explorer.wire.ends import last_lines
from explorer.wire.frames import Frame, FrameReader, encode
from explorer.wire.messages import (
    REPLIES,
    Entries,
    Failed,
    ListDirectory,
    Listed,
    LogRead,
    Message,
    OpenSource,
    Pack,
    ReadLog,
    Ready,
    SourceOpened,
)

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from explorer.core.entries import Entry

END_SECONDS = 60
ERRORS_LIMIT = 1 << 20
Reply = TypeVar("Reply", bound=Message)


class EngineProcess:
    """A context manager that ends the engine by closing its pipe.

    ``hang_seconds`` without an answer that is waited for are a :exc:`TimeoutError`.
    """

    def __init__(self, hang_seconds: float = END_SECONDS, module: str = "explorer.engine") -> None:
        self._hang_seconds = hang_seconds
        # Closed with the pipe, when its text is kept.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._said = b""
        self._giver = Giver()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", module, "--hand-over", str(self._giver.other)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            pass_fds=[self._giver.other],
        )
        self._giver.close_other()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._sink = self.process.stdin
        self._source = self.process.stdout
        self._reader = FrameReader()
        self._request = 0
        self._kept: list[Frame] = []
        ready = self.receive(0)
        assert isinstance(ready, Ready)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(self.story())
        code = self.close()
        assert kind is not None or code == 0, self.story()

    def close(self) -> int:
        """Closes the pipe; returns the exit code."""
        if not self._sink.closed:
            self._sink.close()
        self._giver.close()
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired as error:
            error.add_note(self.story())
            raise
        self._source.close()
        if not self._errors.closed:
            self._read_errors()
            self._errors.close()
        return code

    def story(self) -> str:
        """What a failure needs to be understood: how the engine is, what it and its kernel said."""
        if not self._errors.closed:
            self._read_errors()
        said = self._said.decode("utf-8", "replace")
        kernel = "unknown"
        if self.process.poll() is None and not self._sink.closed:
            # Nothing may be open yet, and the engine may end meanwhile.
            with suppress(ExplorerError, EOFError, OSError):
                kernel = self.ask(ReadLog(0), LogRead).payload.decode("utf-8", "replace")
        return f"exit code: {self.process.poll()}\nengine:\n{said}\nkernel:\n{kernel}"

    def last_words(self) -> list[str]:
        """What it said at last on standard error."""
        if not self._errors.closed:
            self._read_errors()
        return last_lines(self._said)

    def _read_errors(self) -> None:
        # By place: the engine writes at the file's own.
        self._said = os.pread(self._errors.fileno(), ERRORS_LIMIT, 0)

    def send(self, *messages: Message) -> list[int]:
        """Sends requests in one piece; returns their numbers."""
        numbers = [self._request + place for place in range(1, len(messages) + 1)]
        self._request += len(messages)
        frames = zip(numbers, messages, strict=True)
        self.send_bytes(b"".join(b"".join(encode(*frame)) for frame in frames))
        return numbers

    def send_bytes(self, data: bytes) -> None:
        """Sends anything at all."""
        self._sink.write(data)
        self._sink.flush()

    def pack(self, message: Pack) -> tuple[int, socket.socket]:
        """Sends a request to pack; its number, and the end that is the writer's."""
        ours, theirs = socket.socketpair()
        with ours:
            (request,) = self.send(message)
            self._giver.give(request, ours.fileno())
        return request, theirs

    def next_frame(self) -> Frame:
        """The next frame of whatever request; EOFError when there is none any more."""
        while (frame := self._reader.next_frame()) is None:
            if not select.select([self._source], [], [], self._hang_seconds)[0]:
                # It hangs: its last words say where each of its threads is.
                self.process.send_signal(signal.SIGABRT)
                self.process.send_signal(signal.SIGCONT)
                self.process.wait(END_SECONDS)
                raise TimeoutError(self.story())
            piece = os.read(self._source.fileno(), 1 << 16)
            if not piece:
                self.process.wait(END_SECONDS)
                raise EOFError(self.story())
            self._reader.feed(piece)
        return frame

    def receive(self, request: int) -> Message:
        """The next message that belongs to a request; others are kept for later."""
        for place, frame in enumerate(self._kept):
            if frame.request == request:
                return self._kept.pop(place).message
        while (frame := self.next_frame()).request != request:
            self._kept.append(frame)
        return frame.message

    def collect(self, request: int, end: type[Reply]) -> tuple[list[Message], Reply]:
        """The parts and the end of an answer; raises the error of one that failed."""
        parts: list[Message] = []
        while True:
            message = self.receive(request)
            if isinstance(message, Failed):
                raise message.error
            if isinstance(message, end):
                return parts, message
            parts.append(message)

    def ask(self, message: Message, end: type[Reply]) -> Reply:
        """The reply to a request that has no parts; raises the error of one that failed."""
        assert REPLIES[type(message)] is end  # type: ignore[index]  # a request
        (request,) = self.send(message)
        parts, reply = self.collect(request, end)
        assert not parts
        return reply

    def open(self, image: Path) -> SourceOpened:
        """Opens an image."""
        return self.ask(OpenSource((bytes(image),)), SourceOpened)

    def list(self, volume: int, path: bytes) -> list[Entry]:
        """The entries of a directory."""
        (request,) = self.send(ListDirectory(volume, path))
        parts, _ = self.collect(request, Listed)
        entries: list[Entry] = []
        for part in parts:
            assert isinstance(part, Entries)
            entries += part.entries
        return entries
