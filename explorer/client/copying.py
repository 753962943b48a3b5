# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A copy out of a source: an engine that sends, a writer that writes, and how far they are."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from PySide6.QtCore import QElapsedTimer, QObject, Signal

from explorer.client.engine import Engine
from explorer.core.errors import ExportError
from explorer.core.messages import describe_at
from explorer.core.origins import Origins, name_tops
from explorer.host.processes import own_command
from explorer.wire.ends import CANCELLED, copy_loss
from explorer.wire.writing import (
    AnswerConflict,
    Conflict,
    Continue,
    EntriesFailed,
    NamesMapped,
    Pause,
    WriteProgress,
    Written,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from explorer.client.session import Session
    from explorer.core.errors import ExplorerError
    from explorer.wire.messages import Pack, Packed
    from explorer.wire.writing import Write

SPEED_MS = 500
"""Over how long the speed is measured."""
LISTED_FAILURES = 1000
"""Failures kept with their texts; more are only counted."""


class CopyJob(QObject):
    """One copy, from its beginning to its end."""

    changed = Signal()
    asked = Signal(object)
    """A :class:`Conflict`, which :meth:`decide` answers; the writer waits."""
    finished = Signal()

    def __init__(
        self,
        session: Session,
        pack: Pack,
        write: Write,
        total: int | None,
        parent: QObject | None = None,
        command: Sequence[str] = (),
    ) -> None:
        """``total`` is the bytes it will write, where they are known beforehand."""
        super().__init__(parent)
        origins, tops = name_tops(pack.paths, pack.name, contents=pack.contents)
        write = replace(write, origins=origins, tops=tops)
        self._origins = Origins(origins, tops)
        self.pack = pack
        self.write = write
        self.total = total
        self.entries = 0
        self.written = 0
        self.errors = 0
        self.speed = 0
        """Bytes a second, over the last half second."""
        self.failures: list[str] = []
        self.mapped = 0
        self.accounts: Written | None = None
        """What the writer tells at the end."""
        self.error: ExplorerError | None = None
        """Why it ended before its end; None if it did not."""
        self.ended = False
        self.paused = False
        self._lost: ExplorerError | None = None
        self._clock = QElapsedTimer()
        self._clock.start()
        self._measured = 0
        ours, theirs = socket.socketpair()
        with ours, theirs:
            number = theirs.fileno()
            argv = [*(command or own_command("writer")), "--stream", str(number)]
            self._writer = Engine(self, argv, inherited=[number])
            self._writer.start()
            self._writing = self._writer.request(
                write, self._take_accounts, self._take_failure, self._take_part
            )
            self._sending = session.request(pack, self._take_sent, self._take_loss)
            session.hand_over(self._sending, ours.fileno())

    @property
    def cancelled(self) -> bool:
        """Whether the user stopped it."""
        return self.error is not None and self.error.code in CANCELLED

    def cancel(self) -> None:
        """Asks for its end; ``finished`` follows."""
        if not self.ended:
            self._writing.cancel()
            self._sending.cancel()

    def close(self) -> None:
        """Ends it at once, without hearing what came of it."""
        if not self.ended:
            self._writing.drop()
            self.error = ExportError("export.cancelled")
            self._end()

    def wait_closed(self) -> None:
        """Waits for the writer's end; only for when no window is left to block."""
        self._writer.wait_stopped()

    def pause(self) -> None:
        """Has the writer stop after what it is at; the engine waits for it."""
        self._steer(paused=True)

    def resume(self) -> None:
        """Lets the writer go on."""
        self._steer(paused=False)

    def decide(self, conflict: Conflict, decision: str, *, for_all: bool) -> None:
        """Answers what was asked: ``skip``, ``overwrite``, ``rename`` or ``newer``."""
        if not self.ended:
            answer = AnswerConflict(self._writing.number, conflict.question, decision, for_all)
            self._writer.steer(answer)

    def _steer(self, *, paused: bool) -> None:
        if not self.ended and self.paused != paused:
            self.paused = paused
            kind = Pause if paused else Continue
            self._writer.steer(kind(self._writing.number))
            self.changed.emit()

    # ---- What the writer tells

    def _take_part(self, part: WriteProgress | EntriesFailed | NamesMapped | Conflict) -> None:
        match part:
            case WriteProgress():
                self._count(part.seen, part.written)
            case EntriesFailed(paths, errors, _damaged):
                self.errors += len(paths)
                for path, error in zip(paths, errors, strict=True):
                    if len(self.failures) < LISTED_FAILURES:
                        self.failures.append(describe_at(self._origins.find(path) or path, error))
            case NamesMapped(paths, _names):
                self.mapped += len(paths)
            case Conflict():
                self.asked.emit(part)
        self.changed.emit()

    def _count(self, entries: int, written: int) -> None:
        self.entries, self.written = entries, written
        elapsed = self._clock.elapsed()
        if elapsed >= SPEED_MS:
            self.speed = (written - self._measured) * 1000 // elapsed
            self._measured = written
            self._clock.restart()

    def _take_accounts(self, accounts: Written) -> None:
        self.accounts = accounts
        self._count(accounts.seen, accounts.written)
        self.errors = accounts.failed + accounts.damaged
        if accounts.ended is not None:
            self.error = copy_loss(self._lost, accounts.ended)
        self._end()

    def _take_failure(self, error: ExplorerError) -> None:
        self.error = copy_loss(self._lost, error)
        self._end()

    # ---- What the engine tells: all that matters has gone to the writer

    def _take_sent(self, _sent: Packed) -> None:
        pass

    def _take_loss(self, error: ExplorerError) -> None:
        self._lost = error
        # It may not have come as far as to show the writer that nothing follows.
        self._writing.cancel()

    def _end(self) -> None:
        self.ended = True
        self._sending.drop()
        self._writer.stop()
        self.changed.emit()
        self.finished.emit()
