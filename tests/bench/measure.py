# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs programs in turn and keeps what each run took.

Contestants of one comparison alternate, so that a change of the machine's load meets them all
alike, and the order turns with each round.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1 << 20


class BenchError(Exception):
    """A program failed, or did not do what it was measured for."""


@dataclass(frozen=True)
class Contestant:
    """A program to be measured."""

    name: str
    argv: tuple[str | Path, ...]
    folder: Path | None = None
    """Emptied before each run: where the program writes."""


@dataclass
class Runs:
    """What the runs of one contestant took."""

    wall: list[float] = field(default_factory=list)
    """Seconds."""
    cpu: list[float] = field(default_factory=list)
    """Seconds, user and system."""


def alternate(contestants: Sequence[Contestant], rounds: int) -> dict[str, Runs]:
    """Runs every contestant rounds times, in turn, and once before to warm the caches."""
    results = {contestant.name: Runs() for contestant in contestants}
    for contestant in contestants:
        run(contestant, Runs())
    for turn in range(rounds):
        first = turn % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            run(contestant, results[contestant.name])
    return results


def run(contestant: Contestant, runs: Runs) -> None:
    """Runs a program once, output thrown away, and adds what it took."""
    if contestant.folder is not None:
        shutil.rmtree(contestant.folder, ignore_errors=True)
        contestant.folder.mkdir(parents=True)
    begin = time.perf_counter()
    process = subprocess.Popen(
        contestant.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        text = said.decode(errors="backslashreplace").strip()[-1000:]
        raise BenchError(f"{contestant.name} failed ({process.returncode}): {text}")
    runs.wall.append(wall)
    runs.cpu.append(usage.ru_utime + usage.ru_stime)


def output_hash(contestant: Contestant) -> str:
    """SHA-256 of what a program prints."""
    total = hashlib.sha256()
    with subprocess.Popen(contestant.argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while piece := process.stdout.read(MIB):
            total.update(piece)
    if process.returncode:
        raise BenchError(f"{contestant.name} failed ({process.returncode})")
    return total.hexdigest()


def peak_memory(contestant: Contestant) -> int:
    """The largest resident set of a run, in bytes, as seen every two milliseconds.

    What wait4() says is of no use here: it counts this process, which was there before exec.
    """
    peak = 0
    with subprocess.Popen(contestant.argv, stdout=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
            if found:
                peak = int(found[1]) * 1024
            time.sleep(0.002)
    return peak


def repeat_micro(argv: Sequence[str | Path], rounds: int) -> dict[str, list[float]]:
    """Runs micro rounds times; gives the values of each of its figures."""
    figures: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, value in run_micro(argv).items():
            figures.setdefault(name, []).append(float(value))
    return figures


def run_micro(argv: Sequence[str | Path]) -> dict[str, Any]:
    """Runs micro once; gives its figures."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"micro failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def median(values: Sequence[float]) -> float:
    """The value in the middle."""
    return statistics.median(values)
