# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies that are disturbed: by the end of a process, a source that fails, a host without room.

Whatever happens, nothing is lost silently: what stands at the destination is whole, what does not
is told of, and going on with the copy ends in the tree that an undisturbed copy gives.
``LKL_EXPLORER_FAULT_ROUNDS`` asks for more rounds of what is random.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from explorer.api import copying
from explorer.api.source import Source
from explorer.core.errors import EngineLost, ExplorerError
from explorer.core.messages import describe
from tests.makers import write_tree
from tests.trees import (
    assert_same,
    host_facts,
    make_empty,
    make_tree,
    noise,
    run_tool,
    sha256,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from explorer.api.copying import Copied, Failure
    from tests.trees import Facts

    Disturb = Callable[[Source], None]

pytestmark = pytest.mark.usefixtures("built")

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = int(os.environ.get("LKL_EXPLORER_FAULT_ROUNDS", "4"))
MIB = 1 << 20
HANG_SECONDS = 60.0
"""No copy here takes a tenth of it undisturbed."""
SEED = 20_240


# ---- What is copied ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Original:
    """An image, and the tree that was written into it."""

    image: Path
    facts: Mapping[bytes, Facts]
    """Without the root itself."""
    seen: int
    """Entries by an undisturbed copy's accounts."""
    seconds: float
    """How long an undisturbed copy takes."""


def fill(top: Path) -> None:
    """All kinds of entries, many small files and a few large ones."""
    make_tree(top)
    chance = random.Random(SEED)
    for number in range(20):
        folder = top / f"many{number}"
        folder.mkdir()
        for name in range(40):
            content = chance.randbytes(chance.choice((0, 1, 700, 5000, 70_000)))
            (folder / f"file{name}").write_bytes(content)
        os.link(folder / "file3", top / f"link{number}")
        os.setxattr(folder / "file4", b"user.number", b"%d" % number)
        (folder / "file5").chmod(0o400)
        if number % 4 == 0:
            (folder / "file6").write_bytes(chance.randbytes(4 * MIB))
        os.utime(folder, ns=(10**18 + number, 10**18 + number))
    os.utime(top, ns=(10**18, 10**18))


@pytest.fixture(scope="module")
def original(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Original]:
    """Must be as it was when all is over."""
    folder = tmp_path_factory.mktemp("original")
    top = folder / "top"
    top.mkdir()
    fill(top)
    image = make_empty(folder / "image", 96 * MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", image)
    write_tree("ext4", top, image)
    run_tool("e2fsck", "-f", "-n", image)
    before = sha256(image)
    to = folder / "undisturbed"
    to.mkdir()
    job = Job(image, to, folder / "journal")
    begun = time.monotonic()
    job.go_on()
    seconds = time.monotonic() - begun
    assert job.copied is not None
    assert job.copied.whole
    seen = job.copied.written.seen
    facts = without(host_facts(top), b"")
    # And the root, and the folder for what is found by repairs, which its maker put there.
    assert seen == len(facts) + 2
    assert_same(without(host_facts(to), b"", b"lost+found"), facts)
    shutil.rmtree(to)
    yield Original(image, facts, seen, seconds)
    assert sha256(image) == before


# ---- The copy ----------------------------------------------------------------------------------


@dataclass
class Job:
    """One copy, gone on with until it is done; each step's promises are checked."""

    image: Path | str
    to: Path
    journal: Path
    choices: dict[str, Any] = field(default_factory=dict)
    copied: Copied | None = None
    """What came of the last step, if its writer could tell."""
    lost: ExplorerError | None = None
    """What ended the last step early."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.copied is not None and self.lost is None

    @property
    def failures(self) -> dict[bytes, Failure]:
        """Of the last step, by path."""
        assert self.copied is not None
        return {failure.path: failure for failure in self.copied.failures}

    def go_on(
        self, disturb: Disturb | None = None, *, after: float | None = None, **more: Any
    ) -> None:
        """Begin it, or go on with it, with a process of each kind of its own.

        ``disturb`` is called when the volume is mounted, or by a thread ``after`` as many seconds
        of the copy, if it takes so long.
        """
        self.copied = self.lost = None
        over = threading.Event()
        helper: threading.Thread | None = None
        try:
            with Source(self.image) as source:
                volume = source.volume()
                volume.mount()

                def wait() -> None:
                    if disturb is not None and not over.wait(after):
                        disturb(source)

                if disturb is not None and after is None:
                    disturb(source)
                elif disturb is not None:
                    helper = threading.Thread(target=wait)
                    helper.start()
                try:
                    self.copied = volume.copy(
                        ["/"],
                        self.to,
                        journal=os.fsencode(self.journal),
                        resume=self.journal.exists(),
                        special=True,
                        **{**self.choices, **more},
                    )
                finally:
                    # Before any process is waited for, so that no other has its number.
                    over.set()
                    if helper is not None:
                        helper.join(HANG_SECONDS)
                        assert not helper.is_alive()
            self.lost = self.copied.lost
        except ExplorerError as error:
            self.lost = error
        if self.copied is not None:
            self._check_accounts(self.copied)
            assert not parts_below(self.to)

    def _check_accounts(self, copied: Copied) -> None:
        written = copied.written
        told = written.copied + written.damaged + sum(written.skipped)
        assert told + written.failed + written.done_before == written.seen
        assert written.failed == sum(not failure.damaged for failure in copied.failures)
        assert written.complete == (self.lost is None)
        assert copied.whole == (written.complete and not copied.failures)
        # All is gone on with, and nothing that is done.
        assert self.journal.exists() == (not written.complete)


def parts_below(folder: Path) -> list[Path]:
    """What was begun."""
    return list(folder.rglob("*.part"))


def check_nothing_torn(to: Path, wanted: Mapping[bytes, Facts]) -> None:
    """All files that have a name of the source are whole."""
    for path, found in host_facts(to).items():
        if path and found.type == 8 and not path.endswith(b".part"):
            one = wanted[path]
            assert (found.size, found.content) == (one.size, one.content), path


def check_same(job: Job, original: Original) -> None:
    """It is done, and is what an undisturbed copy is."""
    assert job.lost is None, describe(job.lost)
    assert job.copied is not None
    assert job.copied.failures == []
    assert job.copied.whole
    assert job.copied.written.seen == original.seen
    assert_same(without(host_facts(job.to), b"", b"lost+found"), original.facts)
    assert not parts_below(job.to)
    assert not job.journal.exists()


@pytest.fixture
def job(original: Original, tmp_path: Path) -> Job:
    to = tmp_path / "to"
    to.mkdir()
    return Job(original.image, to, tmp_path / "journal")


# ---- Processes ---------------------------------------------------------------------------------


def children(process: int) -> list[int]:
    """Of all its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def kill(process: int, number: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def confined(source: Source) -> int:
    """The process that reads the image."""
    (child,) = children(source.engine.process_id)
    return child


def writer_of(process: int) -> int | None:
    """The writer that a process has started."""
    for child in children(process):
        with suppress(OSError):
            if b"explorer.writer" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return None


def end_engine(source: Source) -> None:
    kill(confined(source))


def end_keeper(source: Source) -> None:
    kill(source.engine.process_id)


def end_writer(_source: Source) -> None:
    writer = writer_of(os.getpid())
    if writer is not None:
        kill(writer)


VICTIMS = {"engine": end_engine, "keeper": end_keeper, "writer": end_writer}


# ---- What is killed ----------------------------------------------------------------------------


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_killed_process_costs_no_entry(
    victim: str, seed: int, job: Job, original: Original
) -> None:
    chance = random.Random(f"{victim} {seed}")
    interrupted = 0
    for _ in range(3):
        job.go_on(VICTIMS[victim], after=chance.random() * original.seconds)
        check_nothing_torn(job.to, original.facts)
        if job.done:
            break
        interrupted += 1
        assert isinstance(job.lost, EngineLost)
        assert job.lost.code == "engine.killed"
    if not job.done:
        job.go_on()
    check_same(job, original)
