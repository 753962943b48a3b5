# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Watchdogs: every operation of the engine has a limit, and one that hangs is named and ended.

What is at work since when stands in memory that a parent process shares when it forks after this
module was imported; it can find what hangs without any help of the engine, and kill it. Where there
is no parent that watches, a thread of the engine does.

The rule. An operation hangs when for as long as its limit it has not moved (begun, told of a step,
or waited for what is not of the engine's doing) and the source has given no byte; and, whatever the
source gives, when it has not moved for :data:`PATIENCE` times its limit. So a slow disk or server
may take its time, and a loop that reads for ever ends all the same. The clock stands still while
the machine sleeps; and a watcher that was itself held up (stopped, or starved) begins anew, so that
it does not blame the engine for its own sleep.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import sys
import time
from collections import deque
from contextlib import contextmanager
from threading import Thread, local
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.exits import EXIT_HANGS
from explorer.core.names import show_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

# Seconds without a move; read when an operation begins.
OPEN_SECONDS = 120.0
MOUNT_SECONDS = 60.0
LIST_SECONDS = 30.0
READ_SECONDS = 30.0
UNLOCK_SECONDS = 300.0
"""A passphrase is hashed for as long as whoever set it wished, without a step."""

PATIENCE = 20
"""How many times its limit an operation may take without a step while the source gives bytes."""
BEAT_SECONDS = 0.5
"""How often the engine shows that it runs at all."""
ALIVE_SECONDS = 30.0
"""How long it may not show that."""
STARVED_SECONDS = 5.0
"""A watcher that did not run for so long knows nothing of what the engine could do meanwhile."""

SLOTS = 64
"""Operations at once, nested ones counted; many more than there are threads."""
WHAT_LIMIT = 32
WHERE_LIMIT = 192
LOG_LIMIT = 8192
"""Bytes of the kernel's last messages that a parent can read."""
LOG_LINES = 16

_WORD = 8
_BEAT, _SOURCE, _LOG_LENGTH = range(3)
_HEAD_WORDS = 4
# Of a slot: when it began (0: free), when it last moved (0: waits for another), its limit, both in
# nanoseconds, and the lengths of its two texts.
_BEGUN, _MOVED, _LIMIT, _LENGTHS = range(4)
_SLOT_WORDS = 4 + (WHAT_LIMIT + WHERE_LIMIT) // _WORD
_NANO = 1_000_000_000


class Running(NamedTuple):
    """An operation at work."""

    what: str
    """As ``mount``, ``list``, ``read``."""
    where: str
    """As ``volume 2 (ext4)``; safe to show."""
    seconds: float
    """Since it began, or last moved."""

    def __str__(self) -> str:
        where = f", {self.where}" if self.where else ""
        return f"{self.what}{where}: {self.seconds:.0f} s"


class Overdue(Running):
    """An operation that hangs."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"hangs: {super().__str__()}"


class Operation:
    """Something at work, as a context manager; one thread's innermost is the one that counts."""

    __slots__ = ("_base", "_limit", "_outer", "_slot", "_watch", "_what", "_where")

    def __init__(self, watch: Watch, what: str, where: str, limit: float) -> None:
        """Used by :meth:`Watch.operation`."""
        self._watch = watch
        self._what = what
        self._where = where
        self._limit = limit

    def __enter__(self) -> Self:
        watch = self._watch
        self._outer = watch.current()
        self._slot = watch.free.popleft()
        self._base = _HEAD_WORDS + self._slot * _SLOT_WORDS
        if self._outer is not None:
            self._outer.pause()
        watch.local.operation = self
        watch.write_slot(self._base, self._what, self._where, int(self._limit * _NANO))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        watch = self._watch
        watch.words[self._base + _BEGUN] = 0
        watch.free.append(self._slot)
        watch.local.operation = self._outer
        if self._outer is not None:
            self._outer.resume()

    def step(self) -> None:
        """Tells that it gets on."""
        if self._watch.words[self._base + _MOVED]:
            self.resume()

    def pause(self) -> None:
        """Stops its clock until :meth:`resume`."""
        self._watch.words[self._base + _MOVED] = 0

    def resume(self) -> None:
        """Lets its clock begin anew."""
        self._watch.words[self._base + _MOVED] = time.monotonic_ns()


class Watch:
    """What is at work in one engine; :data:`WATCH` is this process's and its parent's."""

    def __init__(self) -> None:
        words = _HEAD_WORDS + SLOTS * _SLOT_WORDS
        self._memory = mmap.mmap(-1, words * _WORD + LOG_LIMIT)
        self._log_at = words * _WORD
        # A word is written by one store, so that another process sees it whole.
        self.words = memoryview(self._memory)[: self._log_at].cast("Q")
        self.free = deque(range(SLOTS))
        self.local = local()
        self._asked = self._since = time.monotonic_ns()

    # ---- In the engine

    def operation(self, what: str, where: str, limit: float) -> Operation:
        """Something that hangs when it does not move for ``limit`` seconds.

        ``what`` and ``where`` are told when it does, cut to :data:`WHAT_LIMIT` and
        :data:`WHERE_LIMIT` bytes. While an operation runs within another of the same thread, the
        outer one's clock stands still.
        """
        return Operation(self, what, where, limit)

    def current(self) -> Operation | None:
        """This thread's innermost operation."""
        operation: Operation | None = getattr(self.local, "operation", None)
        return operation

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While this thread waits for what is not of the engine's doing: a window that is busy."""
        operation = self.current()
        if operation is None:
            yield
            return
        operation.pause()
        try:
            yield
        finally:
            operation.resume()

    def start(self, pulse: Callable[[], tuple[int, bytes]], *, enforce: bool) -> None:
        """Begins to show that the engine runs; once, in the engine's own process.

        ``pulse`` is called twice a second, by a thread: it returns how many bytes the source has
        given so far, and the kernel's last messages. With ``enforce`` the thread also ends the
        process when something hangs, for where no parent does.
        """
        self._beat()
        Thread(target=self._run, args=(pulse, enforce), name="watch", daemon=True).start()

    def write_slot(self, base: int, what: str, where: str, limit: int) -> None:
        """Fills a free slot; its time of beginning last, which makes it one at work."""
        texts = [what.encode()[:WHAT_LIMIT], where.encode("utf-8", "replace")[:WHERE_LIMIT]]
        text = b"".join(texts)
        place = (base + _LENGTHS + 1) * _WORD
        self._memory[place : place + len(text)] = text
        self.words[base + _LENGTHS] = len(texts[0]) << 16 | len(texts[1])
        self.words[base + _LIMIT] = limit
        self.words[base + _MOVED] = self.words[base + _BEGUN] = time.monotonic_ns()

    def _run(self, pulse: Callable[[], tuple[int, bytes]], enforce: bool) -> None:
        given = 0
        while True:
            now, log = pulse()
            if now != given:
                given = now
                self.words[_SOURCE] = time.monotonic_ns()
            self._tell_log(log[-LOG_LIMIT:])
            self._beat()
            if enforce and (overdue := self.overdue()):
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                print(*self.report(overdue), sep="\n", file=sys.stderr, flush=True)
                os._exit(EXIT_HANGS)
            time.sleep(BEAT_SECONDS)

    def _beat(self) -> None:
        self.words[_BEAT] = time.monotonic_ns()

    def _tell_log(self, log: bytes) -> None:
        self._memory[self._log_at : self._log_at + len(log)] = log
        self.words[_LOG_LENGTH] = len(log)

    # ---- In whoever watches

    def overdue(self) -> Overdue | None:
        """What hangs, if anything does; to be asked about once a second."""
        now = time.monotonic_ns()
        if now - self._asked > STARVED_SECONDS * _NANO:
            self._since = now
        self._asked = now
        beat = self.words[_BEAT]
        if beat and now - max(beat, self._since) > ALIVE_SECONDS * _NANO:
            return Overdue("the engine", "none of its threads runs", (now - beat) / _NANO)
        for _begun, moved, limit, what, where in self._slots():
            own = now - max(moved, self._since)
            quiet = now - max(moved, self._since, self.words[_SOURCE])
            if moved and (quiet > limit or own > PATIENCE * limit):
                return Overdue(what, where, (now - moved) / _NANO)
        return None

    def running(self) -> list[Running]:
        """What is at work, the longest first."""
        now = time.monotonic_ns()
        slots = sorted(self._slots())
        return [
            Running(what, where, (now - (moved or begun)) / _NANO)
            for begun, moved, _limit, what, where in slots
        ]

    def log(self) -> list[str]:
        """The kernel's last messages, safe to show."""
        length = min(self.words[_LOG_LENGTH], LOG_LIMIT)
        text = self._memory[self._log_at : self._log_at + length]
        return [show_name(line) for line in text.splitlines()[-LOG_LINES:]]

    def report(self, overdue: Overdue | None = None) -> list[str]:
        """Lines for standard error when the engine has come to its end: what hangs is the last."""
        at_work = [f"at work: {operation}" for operation in self.running()]
        return [*self.log(), *at_work, *([str(overdue)] if overdue else [])]

    def _slots(self) -> Iterator[tuple[int, int, int, str, str]]:
        """Of each operation: when it began and moved, its limit, its texts."""
        for slot in range(SLOTS):
            base = _HEAD_WORDS + slot * _SLOT_WORDS
            begun, moved, limit, lengths = self.words[base : base + 4]
            place = (base + _LENGTHS + 1) * _WORD
            middle = place + min(lengths >> 16, WHAT_LIMIT)
            end = middle + min(lengths & 0xFFFF, WHERE_LIMIT)
            what, where = self._memory[place:middle], self._memory[middle:end]
            # Another may have begun there meanwhile.
            if begun and begun == self.words[base + _BEGUN]:
                yield begun, moved, limit, show_name(what), show_name(where)


WATCH = Watch()
"""This engine's; made before a parent forks."""

operation = WATCH.operation
current = WATCH.current
waiting = WATCH.waiting
start = WATCH.start
overdue = WATCH.overdue
running = WATCH.running
report = WATCH.report
