# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What one job tells while it works, and what it is told."""

from __future__ import annotations

import time
from threading import Condition
from typing import TYPE_CHECKING

from explorer.core.errors import ExplorerError, ExportError
from explorer.wire.messages import Cancel
from explorer.wire.writing import (
    BATCH_BYTES,
    BATCH_LIMIT,
    AnswerConflict,
    Conflict,
    Continue,
    EntriesFailed,
    NamesMapped,
    Pause,
    WriteProgress,
)

if TYPE_CHECKING:
    from explorer.core.entries import Entry
    from explorer.wire.messages import Message
    from explorer.wire.pipe import Pipe
    from explorer.writer.outcomes import Accounts, Outcome

TELL_SECONDS = 0.1


class Steering:
    """Pause, cancel, and answers; set by the thread that reads the pipe, read by the job's."""

    def __init__(self, request: int) -> None:
        self._request = request
        self._changed = Condition()
        self._paused = False
        self._cancelled = False
        self._answers: dict[int, AnswerConflict] = {}

    def take(self, message: Message) -> bool:
        """Take a message that steers; whether it was one."""
        with self._changed:
            match message:
                case Cancel(self._request):
                    self._cancelled = True
                case Pause(self._request):
                    self._paused = True
                case Continue(self._request):
                    self._paused = False
                case AnswerConflict(self._request, question):
                    self._answers[question] = message
                case Cancel() | Pause() | Continue() | AnswerConflict():
                    # Of a job that has ended.
                    pass
                case _:
                    return False
            self._changed.notify_all()
        return True

    def cancel(self) -> None:
        """End the job early."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def check(self) -> None:
        """Wait while it is paused; raises :exc:`ExportError` when it is cancelled."""
        # A look without the lock costs nothing, and a second one follows soon.
        if not (self._paused or self._cancelled):
            return
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or not self._paused)
            if self._cancelled:
                raise ExportError("export.cancelled")

    def wait_answer(self, question: int) -> AnswerConflict:
        """Wait for an answer; raises :exc:`ExportError` when the job is cancelled meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or question in self._answers)
            if self._cancelled:
                raise ExportError("export.cancelled")
            return self._answers.pop(question)


class Teller:
    """Sends what is told of a job, in batches; used by the job's thread."""

    def __init__(self, pipe: Pipe, request: int, accounts: Accounts) -> None:
        self._pipe = pipe
        self._request = request
        self._accounts = accounts
        self._failed: list[tuple[bytes, ExplorerError, bool]] = []
        self._mapped: list[tuple[bytes, bytes]] = []
        self._bytes = 0
        self._told = 0.0
        self._questions = 0

    def add(self, outcome: Outcome) -> None:
        """Take an outcome that was added to the accounts."""
        if outcome.error is not None:
            self._make_room(len(outcome.path))
            self._failed.append((outcome.path, outcome.error, outcome.result == "damaged"))
        if outcome.mapped:
            self._make_room(len(outcome.path))
            self._mapped.append((outcome.path, outcome.mapped))
        self.progress(outcome.path)

    def _make_room(self, length: int) -> None:
        """For one more name in what waits."""
        full = len(self._failed) + len(self._mapped) >= BATCH_LIMIT
        if full or self._bytes + length > BATCH_BYTES:
            self.flush()
        self._bytes += length

    def progress(self, path: bytes) -> None:
        """Tell how far it is, now and then: at ``path``."""
        now = time.monotonic()
        if now - self._told < TELL_SECONDS:
            return
        self._told = now
        self.flush()
        results, accounts = self._accounts.results, self._accounts
        self._pipe.send(
            self._request,
            WriteProgress(
                seen=accounts.seen,
                copied=results["copied"] + results["damaged"],
                skipped=results["skipped"] + results["before"],
                failed=results["failed"],
                written=accounts.written,
                path=path,
            ),
        )

    def ask(self, path: bytes, existing: Entry, new: Entry) -> int:
        """Ask what to do about what is there already; returns the question's number."""
        self.flush()
        self._questions += 1
        self._pipe.send(self._request, Conflict(self._questions, path, existing, new))
        return self._questions

    def flush(self) -> None:
        """Send what waits."""
        if self._failed:
            paths, errors, damaged = zip(*self._failed, strict=True)
            self._pipe.send(self._request, EntriesFailed(paths, errors, damaged))
            self._failed = []
        if self._mapped:
            paths, names = zip(*self._mapped, strict=True)
            self._pipe.send(self._request, NamesMapped(paths, names))
            self._mapped = []
        self._bytes = 0
