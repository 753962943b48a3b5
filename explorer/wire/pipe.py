# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The wire's end inside a child process: its standard input and output."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING

from explorer.wire.frames import FrameReader, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.wire.frames import Frame
    from explorer.wire.messages import Message

READ_SIZE = 1 << 16


def take_standard_streams() -> tuple[int, int]:
    """Moves the wire away from descriptors 0 and 1; returns where it is read and written.

    Whatever prints afterwards, in C or in Python, reaches standard error instead of the wire, and
    whatever reads gets the end of the file.
    """
    sys.stdout.flush()
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return source, sink


class _Turn:
    """A lock that whoever is in a hurry gets before all others, in whatever order they came."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._taken = False
        self._hurried = 0

    @contextmanager
    def take(self, *, bulk: bool) -> Iterator[None]:
        with self._changed:
            if bulk:
                self._changed.wait_for(lambda: not self._taken and not self._hurried)
            else:
                self._hurried += 1
                self._changed.wait_for(lambda: not self._taken)
                self._hurried -= 1
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


class Pipe:
    """Frames in, by one thread; frames out, by any."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._turn = _Turn()

    def send(self, request: int, message: Message, *, bulk: bool = False) -> None:
        """Writes one frame whole, waiting while the other end is busy.

        Frames of ``bulk`` answers let all others pass. None is queued in here, so that one of them
        at most is ahead of an answer that a person waits for. Raises :exc:`RecordError` when it
        breaks a limit and :exc:`BrokenPipeError` when the other end is gone.
        """
        head, payload = encode(request, message)
        with self._turn.take(bulk=bulk):
            _write_all(self._sink, head)
            _write_all(self._sink, payload)

    def frames(self) -> Iterator[Frame]:
        """The frames that come, until the other end closes.

        Raises :exc:`RecordError` at the first that is none.
        """
        reader = FrameReader()
        while piece := os.read(self._source, READ_SIZE):
            reader.feed(piece)
            yield from reader


def _write_all(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]
