# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A writer process, and an engine made by hand that sends to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from explorer.wire.frames import FrameReader, encode
from explorer.wire.messages import Failed, Ready
from explorer.wire.writing import (
    Conflict,
    EntriesFailed,
    NamesMapped,
    Write,
    WriteProgress,
    Written,
)
from tests.native.packer import Engine, Packer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from explorer.core.errors import ExplorerError
    from explorer.wire.messages import Message
    from tests.native.packer import Node

ROOT = Path(__file__).resolve().parents[2]


class Writer:
    """A writer process; a context manager that ends it."""

    def __init__(self, stream: int, output: int | None = None, *more: str) -> None:
        """``stream`` is the socket that it reads from, ``output`` a descriptor to write to."""
        argv = [sys.executable, "-m", "explorer.writer", "--stream", str(stream), *more]
        inherited = [stream]
        if output is not None:
            argv += ["--output", str(output)]
            inherited.append(output)
        self.process = subprocess.Popen(
            argv,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=inherited,
        )
        self._reader = FrameReader()
        self.parts: list[Any] = []

    def __enter__(self) -> Self:
        assert isinstance(self.receive(), Ready)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def send(self, message: Message, request: int = 0) -> None:
        """Send a frame."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(encode(request, message)))
        self.process.stdin.flush()

    def receive(self) -> Message:
        """The next frame's message; the writer's own words when there is none."""
        stdout: IO[bytes] | None = self.process.stdout
        assert stdout is not None
        while (frame := self._reader.next_frame()) is None:
            piece = os.read(stdout.fileno(), 1 << 16)
            if not piece:
                assert self.process.stderr is not None
                raise AssertionError(self.process.stderr.read().decode())
            self._reader.feed(piece)
        return frame.message

    def run(self, job: Write, on_part: Callable[[Message], None] = lambda _: None) -> Message:
        """Do a job; its end. Parts are kept."""
        self.send(job, 1)
        return self.wait(on_part)

    def wait(self, on_part: Callable[[Message], None] = lambda _: None) -> Message:
        """The end of the job that was begun."""
        while True:
            message = self.receive()
            if isinstance(message, (Written, Failed)):
                return message
            assert isinstance(message, (WriteProgress, EntriesFailed, NamesMapped, Conflict))
            self.parts.append(message)
            on_part(message)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that the writer does; not for one that has ended, nor for ever."""
        end = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)

    def stop(self) -> int:
        """Close its pipe, and wait; its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(30)

    @property
    def failures(self) -> dict[bytes, ExplorerError]:
        """What was told of entries that were not kept whole."""
        return {
            path: error
            for part in self.parts
            if isinstance(part, EntriesFailed)
            for path, error in zip(part.paths, part.errors, strict=True)
        }

    @property
    def mapped(self) -> dict[bytes, bytes]:
        """What was told of names that are others at the destination."""
        return {
            path: name
            for part in self.parts
            if isinstance(part, NamesMapped)
            for path, name in zip(part.paths, part.names, strict=True)
        }


def write(
    nodes: Sequence[Node],
    job: Write,
    output: int | None = None,
    *,
    contents: bool = False,
    plan: bool = False,
    files: list[int] | None = None,
) -> tuple[Writer, Message]:
    """Have a tree written; the writer, ended, and the job's end."""
    sender = Engine(list(nodes), contents=contents, plan=plan, files=files)
    with sender, Writer(sender.source.fileno(), output) as writer:
        end = writer.run(job)
        assert writer.stop() == 0
        assert writer.process.stderr is not None
        assert writer.process.stderr.read().decode() == ""
    return writer, end


class Endless:
    """A stream that is not ended: its entries come when they are sent."""

    def __init__(self) -> None:
        self.source, self._to = socket.socketpair()
        self.packer = Packer(self._to)
        self.packer.begin()
        self.packer.flush()

    def __enter__(self) -> Self:
        return self

    def end(self) -> None:
        """End it, as a killed engine does."""
        self._to.close()

    def __exit__(self, *_: object) -> None:
        self.source.close()
        self._to.close()
