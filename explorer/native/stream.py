# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The stream from an engine to a writer, message by message, for sinks that are no folder.

The rules of the stream stand in ``liblkl/shared/copy_stream.h``; the C library holds it to them,
so that what comes out here is sound: names are names, content has the size that was told, and a
descriptor is a file that is only read from.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple, cast

from explorer.core.closing import Closing
from explorer.core.errors import ExplorerError
from explorer.native.library import load

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from explorer.native.library import CData

_EVENT = Struct("=IIIiIiIIQQQQQQQ")
STAT = Struct("=IHHIIIIQQQQIIIIqqqqIIII")
"""``struct lkl_stat``."""
_ECONNRESET, _EPROTO, _EAGAIN = -104, -71, -11
PATIENCE = 100
"""Milliseconds without a message after which ``idle`` is called."""


class Kind(IntEnum):
    """What a message is (``enum copy_kind``)."""

    BEGIN = 1
    ENTER = 2
    LEAVE = 3
    CANDIDATES = 4
    ENTRY = 5
    XATTRS = 6
    DATA = 7
    HOLE = 8
    EXTENT = 9
    BAD = 10
    STREAM = 11
    DONE = 12
    REFUSED = 13
    BROKEN = 14
    DESCRIPTOR = 15
    FINISH = 16


class Mode(IntEnum):
    """Answers to ENTER."""

    FREE = 0
    ASK = 1
    UNUSABLE = 2


class Operation(IntEnum):
    """What the engine was doing when something failed (``enum copy_operation``)."""

    NOTHING = 0
    STAT = 1
    OPEN = 2
    READ = 3
    READ_XATTRS = 4
    READ_STREAM = 5
    SPECIAL = 6


CONTENTS, PLAN, LINKED = 0x1, 0x2, 0x4
"""Bits of :attr:`Event.flags`."""
ANSWER_MODE, ANSWER_WANTED = 1, 2
"""Values of :attr:`Event.answer`."""


class Stat(NamedTuple):
    """``struct lkl_stat``."""

    mask: int
    mode: int
    reserved: int
    uid: int
    gid: int
    links: int
    block_size: int
    inode: int
    size: int
    blocks: int
    attributes: int
    device_major: int
    device_minor: int
    special_major: int
    special_minor: int
    access_seconds: int
    modify_seconds: int
    change_seconds: int
    birth_seconds: int
    access_nanoseconds: int
    modify_nanoseconds: int
    change_nanoseconds: int
    birth_nanoseconds: int


def read_stat(buffer: bytes | memoryview, at: int = 0) -> Stat:
    """A stat that stands in a buffer."""
    return Stat._make(STAT.unpack_from(buffer, at))


class Event(NamedTuple):
    """A message; the fields are those of ``struct lkn_event``."""

    kind: int
    """A :class:`Kind`."""
    depth: int
    flags: int
    error: int
    """0, or a negative errno of Linux."""
    operation: int
    file: int
    """EXTENT: a descriptor of this process, which stays the stream's; -1 in others."""
    answer: int
    """What the engine waits for: 0, or one of ``ANSWER_*``."""
    number: int
    first: int
    length: int
    position: int
    stat: Stat | None
    name: bytes
    data: memoryview | None
    """XATTRS, DATA, or the target of a link; gone with the next message."""


class Stream(Closing):
    """Messages as they come; used by one thread at a time."""

    def __init__(self, source: socket.socket, idle: Callable[[], None] = lambda: None) -> None:
        """``source`` stays the caller's; ``idle`` is called while nothing comes, and may raise."""
        self._native = load()
        self._source = source
        self._idle = idle
        ffi, library = self._native.ffi, self._native.library
        pointer = ffi.new("struct lkn_stream **")
        if library.lkn_stream_open(source.fileno(), PATIENCE, pointer) < 0:
            raise MemoryError
        self._stream = pointer[0]
        size = ffi.new("size_t *")
        memory = library.lkn_stream_memory(self._stream, size)
        self._base = int(ffi.cast("uintptr_t", memory))
        self._memory = memoryview(ffi.buffer(memory, size[0])).toreadonly()
        self._event = ffi.new("struct lkn_event *")
        self._fields = memoryview(ffi.buffer(self._event))
        self._read = library.lkn_stream_next

    @property
    def handle(self) -> CData:
        """The ``struct lkn_stream`` for other calls of the library."""
        return cast("CData", self._stream)

    def next(self) -> Event | None:
        """The next message, or None after FINISH.

        Raises :exc:`ExplorerError`: ``copy.protocol`` when the engine breaks a rule,
        ``copy.engine`` when it ended before FINISH, and whatever ``idle`` raises.
        """
        while (result := self._read(self._stream, self._event)) != 1:
            if result == 0:
                return None
            if result != _EAGAIN:
                raise self.failure(result)
            self._idle()
        (
            kind, depth, flags, error, operation, file, answer, name_length,
            number, first, length, position, stat, name, data,
        ) = _EVENT.unpack(self._fields)  # fmt: skip
        memory, base = self._memory, self._base
        return Event(
            kind, depth, flags, error, operation, file, answer, number, first, length, position,
            read_stat(memory, stat - base) if stat else None,
            bytes(memory[name - base : name - base + name_length]) if name else b"",
            memory[data - base : data - base + length] if data else None,
        )  # fmt: skip

    def answer_mode(self, mode: Mode) -> None:
        """Answer ENTER; raises as :meth:`next`."""
        self._check(self._native.library.lkn_stream_answer_mode(self._stream, mode))

    def answer_wanted(self, wanted: bytes) -> None:
        """Answer CANDIDATES, by one byte (0 or 1) for each; raises as :meth:`next`."""
        with self._native.ffi.from_buffer(wanted) as given:
            self._check(
                self._native.library.lkn_stream_answer_wanted(self._stream, given, len(wanted))
            )

    def close(self) -> None:
        """Free it, and close the descriptors that came; a second call does nothing."""
        if self._stream is not None:
            self._memory.release()
            self._native.library.lkn_stream_close(self._stream)
            self._stream = None

    def _check(self, result: int) -> None:
        if result < 0:
            raise self.failure(result)

    def failure(self, error: int) -> Exception:
        """What a negative errno of the stream means."""
        if error == _EPROTO:
            ffi = self._native.ffi
            problem = ffi.string(self._native.library.lkn_stream_problem(self._stream))
            assert isinstance(problem, bytes)
            return ExplorerError("copy.protocol", reason=problem.decode("ascii"))
        if error == _ECONNRESET:
            return ExplorerError("copy.engine")
        return OSError(-error, "stream")
