# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Opens images one after the other, or several at once, each in a folder and engine of its own."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING

from tests.gate.corpora import keep
from tests.gate.outcomes import End, Outcome
from tests.gate.visit import visit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.gate.corpora import Case

FOUND = Path(__file__).resolve().parents[2] / "build" / "gate" / "found"
MOST_KEPT = 300
SAID_LIMIT = 16384


def run(
    cases: Iterable[Case], *, jobs: int = 1, seconds: float | None = None, tell: bool = False
) -> list[Outcome]:
    """The outcomes of all, or of those that could be begun in so many seconds.

    ``tell``: what fell is shown at once.
    """
    ahead = _Ahead(iter(cases), seconds)
    with ThreadPoolExecutor(jobs) as pool:
        parts = [pool.submit(_work, ahead, tell) for _ in range(jobs)]
        try:
            wait(parts)
        except KeyboardInterrupt:
            # What was seen until then is told all the same.
            ahead.stop()
        return sorted((one for part in parts for one in part.result()), key=lambda one: one.number)


class _Ahead:
    """What is to be done, for several threads."""

    def __init__(self, cases: Iterator[Case], seconds: float | None) -> None:
        self._cases = cases
        self._end = None if seconds is None else time.monotonic() + seconds
        self._lock = Lock()
        self._number = 0

    def stop(self) -> None:
        """Begin no more."""
        self._end = time.monotonic()

    def take(self) -> tuple[int, Case] | None:
        """The next, and its number; None at the end."""
        with self._lock:
            if self._end is not None and time.monotonic() > self._end:
                return None
            self._number += 1
            case = next(self._cases, None)
            return None if case is None else (self._number, case)


def _work(ahead: _Ahead, tell: bool) -> list[Outcome]:
    outcomes = []
    while (taken := ahead.take()) is not None:
        number, case = taken
        outcome = open_case(case)
        outcome.number = number
        if tell and (outcome.failed or outcome.end is End.RESTARTED or outcome.cut):
            print(outcome.line(), file=sys.stderr, flush=True)
        outcomes.append(outcome)
    return outcomes


def open_case(case: Case) -> Outcome:
    """Make an image, open it, and keep it where that went badly."""
    outcome = Outcome(case.corpus, case.name, case.view.value)
    with TemporaryDirectory(prefix="gate") as folder:
        path = case.make(Path(folder))
        visit(path, case.view, outcome)
        bad = outcome.failed or outcome.end is End.RESTARTED
        if bad and path.is_relative_to(folder):
            _keep(case, path, outcome)
    return outcome


def _keep(case: Case, path: Path, outcome: Outcome) -> None:
    FOUND.mkdir(parents=True, exist_ok=True)
    if len(list(FOUND.glob("*.txt"))) < MOST_KEPT:
        name = case.title.replace("/", "--")
        keep(path, FOUND / f"{name}.img")
        (FOUND / f"{name}.txt").write_text(f"{outcome.line()}\n"[:SAID_LIMIT])
