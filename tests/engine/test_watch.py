# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Watchdogs: what hangs is found, from the same process and from its parent, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from explorer.engine import watch
from explorer.engine.watch import Overdue, Watch

SECOND = 1_000_000_000


class Clock:
    """Nanoseconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000 * SECOND

    def monotonic_ns(self) -> int:
        """As the module's."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that watches made from now on go by."""
    clock = Clock()
    monkeypatch.setattr(watch, "time", clock)
    return clock


def look_for(watched: Watch, clock: Clock, seconds: float) -> Overdue | None:
    """What a watcher that looks once a second finds within some time."""
    end = clock.now + int(seconds * SECOND)
    while clock.now < end:
        clock.now += min(SECOND, end - clock.now)
        if overdue := watched.overdue():
            return overdue
    return None


def test_an_operation_hangs_after_its_limit(clock: Clock) -> None:
    watched = Watch()
    with watched.operation("mount", "volume 2 (ext4)", 60):
        assert look_for(watched, clock, 60) is None
        overdue = look_for(watched, clock, 2)
        assert overdue == Overdue("mount", "volume 2 (ext4)", 61.0)
        assert str(overdue) == "hangs: mount, volume 2 (ext4): 61 s"
    assert look_for(watched, clock, 1000) is None
    assert watched.running() == []


def test_steps_begin_anew(clock: Clock) -> None:
    watched = Watch()
    with watched.operation("copy", "", 30) as operation:
        for _ in range(1000):
            assert look_for(watched, clock, 29) is None
            operation.step()
        assert look_for(watched, clock, 31)


def test_the_innermost_operation_counts(clock: Clock) -> None:
    watched = Watch()
    with watched.operation("list", "/", 30):
        with watched.operation("mount", "volume 1", 60) as inner:
            assert look_for(watched, clock, 59) is None
            assert [running.what for running in watched.running()] == ["list", "mount"]
            inner.step()
            overdue = look_for(watched, clock, 61)
            assert overdue is not None
            assert overdue.what == "mount"
        # The outer one's clock begins anew.
        assert look_for(watched, clock, 29) is None
        overdue = look_for(watched, clock, 2)
        assert overdue is not None
        assert overdue.what == "list"


def test_waiting_for_others_is_no_hanging(clock: Clock) -> None:
    watched = Watch()
    with watched.operation("list", "/", 30) as operation:
        with watched.waiting():
            assert look_for(watched, clock, 10_000) is None
            operation.step()
            assert look_for(watched, clock, 10_000) is None
        assert look_for(watched, clock, 29) is None
        assert look_for(watched, clock, 2)


def test_a_source_that_gives_bytes_may_take_its_time_but_not_for_ever(clock: Clock) -> None:
    watched = Watch()
    with watched.operation("read", "/a", 30):
        for _ in range(watch.PATIENCE - 1):
            assert look_for(watched, clock, 29) is None
            watched.words[watch._SOURCE] = clock.now
        assert clock.now < (1000 + watch.PATIENCE * 30) * SECOND
        overdue = None
        while overdue is None:
            overdue = look_for(watched, clock, 20)
            watched.words[watch._SOURCE] = clock.now
        assert overdue.seconds < watch.PATIENCE * 30 + 2
        assert overdue.seconds > watch.PATIENCE * 30


def test_a_watcher_that_slept_itself_blames_nobody(clock: Clock) -> None:
    watched = Watch()
    watched.words[watch._BEAT] = clock.now
    with watched.operation("list", "/", 30):
        assert watched.overdue() is None
        clock.now += 3600 * SECOND
        assert watched.overdue() is None
        assert look_for(watched, clock, 29) is None
        assert look_for(watched, clock, 2)


def test_an_engine_that_shows_no_life_hangs(clock: Clock) -> None:
    watched = Watch()
    assert look_for(watched, clock, 1000) is None
    watched.words[watch._BEAT] = clock.now
    assert look_for(watched, clock, watch.ALIVE_SECONDS) is None
    overdue = look_for(watched, clock, 2)
    assert overdue is not None
    assert overdue.what == "the engine"


def test_texts_are_bounded_and_safe_to_show(clock: Clock) -> None:
    watched = Watch()
    with watched.operation("w" * 100, "\x1b[31mé\udcff" * 1000, 1):
        overdue = look_for(watched, clock, 2)
    assert overdue is not None
    assert overdue.what == "w" * watch.WHAT_LIMIT
    assert str(overdue).isprintable()
    assert len(overdue.where) < 4 * watch.WHERE_LIMIT


def test_threads_have_operations_of_their_own() -> None:
    watched = Watch()
    inside, leave = threading.Barrier(21), threading.Event()

    def work(number: int) -> None:
        for _ in range(500):
            with watched.operation("work", str(number), 60) as operation:
                operation.step()
        with watched.operation("stay", str(number), 60):
            inside.wait(60)
            leave.wait(60)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    while any(running.what == "work" for running in watched.running()):
        assert watched.overdue() is None
    inside.wait(60)
    assert sorted(int(running.where) for running in watched.running()) == list(range(20))
    leave.set()
    for thread in threads:
        thread.join()
    assert watched.running() == []


PARENT = """
import os, signal, sys, time
from explorer.engine import watch
watch.ALIVE_SECONDS = 2.0
child = os.fork()
if not child:
    words = b"the kernel's words\\nand its last"
    watch.start(lambda: (int(time.monotonic()), words), enforce=False)
    with watch.operation("list", "volume 1, /folder", 0.5):
        {body}
    os._exit(0)
until = time.monotonic() + 60
while time.monotonic() < until:
    if overdue := watch.overdue():
        os.kill(child, signal.SIGKILL)
        print(*watch.report(overdue), sep="\\n")
        break
    time.sleep(0.1)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize(
    ("body", "last"),
    [
        # Whatever is read of the source: after many times the limit.
        ("time.sleep(60)", "hangs: list, volume 1, /folder: "),
        ("os.kill(os.getpid(), signal.SIGSTOP)", "hangs: "),
    ],
)
def test_a_parent_finds_what_hangs(body: str, last: str) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PARENT.format(body=body)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    lines = run.stdout.splitlines()
    assert lines[:2] == ["the kernel's words", "and its last"]
    assert any(line.startswith("at work: list, volume 1, /folder: ") for line in lines)
    assert lines[-1].startswith(last)
    assert run.stderr == ""
