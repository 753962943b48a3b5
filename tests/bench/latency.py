# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a person waits for a listing while an engine is busy with something else."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import explorer
from explorer.wire.evidence import HashSource, ReadInventory, ReadTimeline
from explorer.wire.messages import (
    Entries,
    Failed,
    ListDirectory,
    Listed,
    OpenVolume,
    Part,
    VolumeOpened,
)
from tests.bench.measure import BenchError
from tests.engine.process import EngineProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.wire.messages import Request

    MakeJob = Callable[[int], Request]
    """Given a volume's number."""

PAUSE = 0.02
"""Seconds between two listings."""


@dataclass
class Latency:
    """Seconds, of many listings of one folder."""

    first: list[float] = field(default_factory=list)
    """Until some entries are there."""
    whole: list[float] = field(default_factory=list)
    """Until all are."""


class _Busy:
    """An engine that has a job to do whenever it is asked for a listing."""

    def __init__(self, engine: EngineProcess, volume: int, job: MakeJob | None) -> None:
        self._engine = engine
        self._volume = volume
        self._make = job
        self._job = 0

    def begin(self) -> None:
        """Begins the job, if there is one and it is not at work."""
        if self._make is not None and not self._job:
            (self._job,) = self._engine.send(self._make(self._volume))
            # Until it is really at work.
            time.sleep(10 * PAUSE)

    def list(self, path: bytes, latency: Latency) -> None:
        """Lists a folder once."""
        start = time.perf_counter()
        (request,) = self._engine.send(ListDirectory(self._volume, path))
        first = 0.0
        while True:
            frame = self._engine.next_frame()
            if frame.request == request:
                first = first or time.perf_counter() - start
                if isinstance(frame.message, Listed):
                    break
                if not isinstance(frame.message, Entries):
                    raise BenchError(f"no listing but {frame.message}")
            elif isinstance(frame.message, Failed):
                raise BenchError(f"the job failed: {frame.message.error}")
            elif not isinstance(frame.message, Part):
                self._job = 0
        latency.first.append(first)
        latency.whole.append(time.perf_counter() - start)


def listing_latency(image: Path, path: bytes, job: MakeJob | None, rounds: int) -> Latency:
    """Lists a folder again and again, while the job that ``job`` makes for a volume is at work.

    One that ends is begun again.
    """
    latency = Latency()
    # Its end is a kill: the job shall not be waited for.
    engine = EngineProcess()
    try:
        volume = next(one.number for one in engine.open(image).volumes if one.mountable)
        engine.ask(OpenVolume(volume), VolumeOpened)
        busy = _Busy(engine, volume, job)
        busy.list(path, Latency())
        for _ in range(rounds):
            busy.begin()
            time.sleep(PAUSE)
            busy.list(path, latency)
    finally:
        engine.process.kill()
        engine.close()
    return latency


def copy_latency(image: Path, path: bytes, folder: Path) -> Latency:
    """Lists a folder again and again, while all of the volume is copied to ``folder``."""
    latency = Latency()
    with explorer.Source(image) as source:
        volume = source.volume()

        def list_once(_now: object) -> None:
            start = time.perf_counter()
            entries = volume.list(path)
            next(entries)
            latency.first.append(time.perf_counter() - start)
            deque(entries, maxlen=0)
            latency.whole.append(time.perf_counter() - start)

        copied = volume.copy(["/"], folder, progress=list_once)
    if not copied.whole:
        raise BenchError(f"not all was copied: {copied.failures[:1]}")
    return latency


JOBS: dict[str, MakeJob | None] = {
    "idle": None,
    "timeline": lambda volume: ReadTimeline(volume, b"/", "body"),
    "inventory with SHA-256": lambda volume: ReadInventory(volume, b"/", "csv", ("sha256",)),
    "hash of the disk": lambda _volume: HashSource(("sha256",), stored=False, disk=True),
}
"""What an engine is busy with."""
