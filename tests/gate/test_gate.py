# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A part of the gate that takes about a minute, and whether the gate would notice."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from explorer.core.views import View
from tests.gate.bases import BLOCK, SECTOR, make_base
from tests.gate.corpora import ALL_VIEWS, Bases, Case, containers, fuzzed, mutated, real, stacks
from tests.gate.mutation import mutate
from tests.gate.outcomes import End, Outcome, counts, table
from tests.gate.running import open_case, run
from tests.gate.sums import is_right
from tests.gate.visit import Fingerprint, Visitor, descendants
from tests.trees import run_tool
from tests.volumes.handmade import qnx6

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("built")

ROOT = Path(__file__).resolve().parents[2]
SEED = 4
JOBS = 2


@pytest.fixture(scope="module")
def bases() -> Bases:
    return Bases()


# ---- The gate ----------------------------------------------------------------------------------


def some(bases: Bases) -> Iterator[Case]:
    """Of each corpus a part; of other projects every fourth image, each in one of the views."""
    for number, case in enumerate(real()):
        image, view = divmod(number, len(ALL_VIEWS))
        if image % 4 == 0 and view == image // 4 % len(ALL_VIEWS):
            yield case
    yield from mutated(bases, 126, SEED)
    yield from fuzzed(bases, 12, SEED)
    yield from containers(22, SEED)
    yield from stacks(18, SEED)


@pytest.mark.slow
def test_every_hostile_image_ends_as_it_may(
    bases: Bases, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = run(some(bases), jobs=JOBS)
    with capsys.disabled():
        print(f"\n{counts(outcomes)}")
    failed = [one.line() for one in outcomes if one.failed]
    assert not failed, "\n".join([*failed, table(outcomes)])
    # Where all end in the same way, nothing has been looked at; containers hold no files.
    for corpus in {one.corpus for one in outcomes}:
        ends = {one.end for one in outcomes if one.corpus == corpus}
        assert ends >= ({End.ERROR} if corpus == "containers" else {End.OK, End.ERROR}), corpus


# ---- What lets it down -------------------------------------------------------------------------


def whole(bases: Bases, folder: Path) -> Path:
    path = folder / "image"
    bases.get("ext4").write(path)
    return path


def test_a_whole_image_is_seen_to_its_end(bases: Bases, tmp_path: Path) -> None:
    outcome = open_case(Case("whole", "ext4", View.AUTO, lambda _: whole(bases, tmp_path)))
    assert (outcome.end, outcome.changed, outcome.cut, outcome.failed) == (
        End.OK,
        False,
        False,
        False,
    ), outcome
    # 40 files in a folder, a folder with a leaf, and five entries above; lost+found.
    assert outcome.entries == 40 + 1 + 1 + 4 + 1
    assert outcome.requests > 3 * outcome.entries
    assert outcome.memory > 10 << 20


@pytest.mark.parametrize(("sent", "whom"), [(signal.SIGKILL, 0), (signal.SIGSEGV, -1)])
def test_an_engine_that_falls_without_a_word_is_noticed(
    sent: signal.Signals, whom: int, bases: Bases, tmp_path: Path
) -> None:
    outcome = Outcome("", "", "")
    visitor = Visitor(outcome)
    # The one with the kernel is the last, whoever started it.
    os.kill([*descendants(visitor.engine.process.pid)][whom], sent)
    visitor.run(whole(bases, tmp_path), View.AUTO)
    # What had been started may have answered once more.
    assert (outcome.end, outcome.failed) == (End.WRONG, True)
    assert outcome.why.endswith(f": signal {sent}")


@pytest.mark.slow
def test_an_engine_that_is_silent_is_noticed(bases: Bases, tmp_path: Path) -> None:
    outcome = Outcome("", "", "")
    # It covers the start of the engine, too.
    visitor = Visitor(outcome, hang_seconds=8.0)
    for process in [*descendants(visitor.engine.process.pid)]:
        os.kill(process, signal.SIGSTOP)
    visitor.run(whole(bases, tmp_path), View.AUTO)
    assert (outcome.end, outcome.why, outcome.failed) == (End.HANG, "open", True)
    assert visitor.engine.process.poll() is not None


def test_a_kernel_that_falls_is_told_from_an_engine_that_does(tmp_path: Path) -> None:
    content = bytearray(qnx6())
    # The root's inode: owner, group, four times, the mode. Linux reads the root of a QNX6 before
    # it knows whether that can be read at all: of a pipe, it calls a function that is not there.
    place = content.index(struct.pack("<II", 12, 34)) + 24
    struct.pack_into("<H", content, place, 0o010644)
    path = tmp_path / "image"
    path.write_bytes(content)
    outcome = open_case(Case("whole", "qnx6", View.AUTO, lambda _: path))
    if outcome.end is End.ERROR:
        pytest.skip("this Linux does not fall over it any more")
    assert outcome.end is End.RESTARTED
    assert outcome.why == "mount: kernel ended: faulted"
    assert outcome.said.startswith("lkl: fault")
    assert not outcome.failed


def test_a_changed_source_is_noticed(bases: Bases, tmp_path: Path) -> None:
    path = whole(bases, tmp_path)
    before, times = Fingerprint(path), path.stat()
    assert not before.changed()
    with path.open("r+b") as file:
        file.seek(1024 + 56)
        file.write(b"\0")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert before.changed()


# ---- Changes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("xfs5", 60),
        ("btrfs", 40),
        ("f2fs", 4),
        ("nilfs2", 6),
        ("erofs", 1),
        ("exfat", 2),
        ("udf", 200),
    ],
)
def test_sums_are_found_and_put_right(name: str, least: int, bases: Bases, tmp_path: Path) -> None:
    base = bases.get(name)
    assert len(base.sums) >= least
    chance = random.Random(SEED)
    path = tmp_path / "image"
    base.write(path)
    content = bytearray(path.read_bytes())
    for one in base.sums:
        if one.end <= len(content):
            inside = [
                at for at in range(one.start, one.end) if not one.at <= at < one.at + one.width
            ]
            # Where sums overlap, the one before may have been put right inside of it.
            one.mend(content)
            assert is_right(one, content)
            content[chance.choice(inside)] ^= 0x10
            assert not is_right(one, content)
            one.mend(content)
            assert is_right(one, content)


def test_sums_are_right_to_others(tmp_path: Path) -> None:
    base = make_base("xfs5", tmp_path)
    path = tmp_path / "changed"
    base.write(path)
    content = bytearray(path.read_bytes())
    (one,) = [one for one in base.sums if one.start == 0]
    # The label, in the superblock.
    content[108:112] = b"gate"

    def crc() -> str:
        path.write_bytes(content)
        return run_tool("xfs_db", "-r", "-c", "sb 0", "-c", "crc -v", "-c", "p fname", path)

    assert "(bad)" in crc()
    one.mend(content)
    assert "(correct)" in crc()
    assert 'fname = "gate' in crc()


def test_changes_are_the_same_again(bases: Bases, tmp_path: Path) -> None:
    base = bases.get("ext2-rich")
    written = []
    for name in ("first", "first", "second"):
        mutate(base, tmp_path / "image", name)
        written.append((tmp_path / "image").read_bytes())
    assert written[0] == written[1] != written[2]


def test_changes_go_where_linux_looks(bases: Bases, tmp_path: Path) -> None:
    base = bases.get("ext4")
    looked = {*base.mounted, *base.walked}
    # The superblock is read to mount it, and few of all sectors at all.
    assert 1024 in base.mounted
    assert {at - at % BLOCK for at in looked} < set(base.filled)
    path = tmp_path / "image"
    base.write(path)
    old = path.read_bytes()
    reached = 0
    for number in range(40):
        mutate(base, path, f"{number}")
        new = path.read_bytes()
        differ = [
            at
            for at in range(0, len(new), SECTOR)
            if new[at : at + SECTOR] != old[at : at + SECTOR]
        ]
        reached += any(at in looked for at in differ)
    assert reached >= 30


def test_a_stopped_run_has_its_order(bases: Bases) -> None:
    outcomes = run(islice(mutated(bases, 6, SEED), 6), jobs=2)
    assert [one.number for one in outcomes] == [1, 2, 3, 4, 5, 6]
    assert not run(mutated(bases, 6, SEED), seconds=0.0)


def test_the_gate_by_hand(tmp_path: Path) -> None:
    written = tmp_path / "outcomes.json"
    command = [sys.executable, "-m", "tests.gate", "--corpus", "mutated", "--mutations", "100"]
    command += ["--only", "mutated/cramfs/*", "--seed", "7", "--jobs", "2", "--json", str(written)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    outcomes = json.loads(written.read_text())
    assert {one["name"].split("/")[0] for one in outcomes} == {"cramfs"}
    assert len(outcomes) in (2, 3)
    assert re.search(rf"^mutated +{len(outcomes)} ", done.stdout, re.MULTILINE)
