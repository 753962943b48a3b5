# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A copy that was killed, or lost its power, is gone on with to the same tree."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import stat
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import ExplorerError
from explorer.native.folder import (
    Conflicts,
    Ended,
    Journal,
    Options,
    Outcome,
    Result,
    copy_to_folder,
)
from explorer.native.stream import Stream
from tests.native.folders import JOB, JOB_NAME, Found, Witness, copy, look, same, total
from tests.native.packer import Engine, Node, file, folder, link, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

OPTIONS = bytes(range(32))
RECORD, HEADER = 40, 64
COPIED, CHECKPOINT, BEGUN = 1, 4, 5
KIB = 1 << 10


def make_tree(chance: random.Random) -> list[Node]:
    """Some hundred entries; several links within a folder and across."""
    links: list[Node] = []
    for number in range(12):
        node = file(b"link%d" % number, b"linked %d" % (number % 4), links=3, inode=number % 4)
        node.link = number % 4
        links.append(node)

    def some(depth: int) -> Iterator[Node]:
        for number in range(chance.randrange(3, 9)):
            size = chance.choice((0, 1, 100, 5000, 200 * KIB))
            yield file(b"file%d" % number, chance.randbytes(size), mode=chance.choice((0o644, 0)))
        yield file(b"sparse", ("hole", 90 * KIB), b"x" * chance.randrange(1, 9), ("hole", 5))
        yield link(b"symlink", b"file0")
        if links:
            yield links.pop()
        for number in range(3 if depth else 0):
            mode = chance.choice((0o755, 0o555))
            yield folder(b"folder%d" % number, *some(depth - 1), mode=mode)

    return [folder(b"top", *some(2)), file(b"beside", b"1" * 7), *links]


class Ledger(Witness):
    """Writes down what it is told, for it is killed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def take(self, outcomes: Sequence[Outcome], durable: bool) -> None:
        """Keep and write down."""
        super().take(outcomes, durable)
        lines = b"".join(b"%d %s\n" % (one.result, one.path.hex().encode()) for one in outcomes)
        os.write(self._file, lines)


def told_before(path: Path) -> dict[bytes, set[int]]:
    told: dict[bytes, set[int]] = {}
    for line in path.read_text().splitlines():
        result, _, name = line.partition(" ")
        told.setdefault(bytes.fromhex(name), set()).add(int(result))
    return told


class Job:
    """One copy that is begun over and over."""

    def __init__(self, path: Path, tree: list[Node], options: Options) -> None:
        self.tree, self.options = tree, replace(options, list_all=True)
        self.to, self.journal, self.ledger = path / "to", path / "journal", path / "ledger"
        self.to.mkdir(parents=True)

    def _copy(self, engine: Engine, witness: Witness) -> None:
        number = os.open(self.journal, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        directory = os.open(self.to, os.O_RDONLY)
        try:
            with Stream(engine.source) as stream:
                self.end = copy_to_folder(
                    stream, directory, self.options, witness, job=JOB,
                    journal=Journal(number, OPTIONS, interval=2),
                )  # fmt: skip
        finally:
            os.close(number)
            os.close(directory)

    def run_and_kill(self, chance: random.Random) -> bool:
        """Kill it before some entry; false when it came to its end before that."""
        engine = Engine(self.tree, limit=chance.randrange(1, len(list(walk(self.tree)))))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                self._copy(engine, Ledger(self.ledger))
                status = 0
            finally:
                os._exit(status)
        with engine:
            while not engine.packer.held.wait(0.001):
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    assert status == 0
                    return False
            # It may have come to where the engine waits, or not.
            time.sleep(chance.choice((0, chance.uniform(0, 0.02))))
            os.kill(child, signal.SIGKILL)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
        return True

    def finish(self) -> Witness:
        """Go on, undisturbed."""
        witness = Ledger(self.ledger)
        with Engine(self.tree) as engine:
            self._copy(engine, witness)
        assert self.end.why == Ended.WHOLE
        return witness

    def lose_power(self, chance: random.Random) -> None:
        """What was not made safe is lost in part: records, and content of files."""
        content = self.journal.read_bytes() if self.journal.exists() else b""
        records = [
            content[at : at + RECORD] for at in range(HEADER, len(content) - RECORD + 1, RECORD)
        ]
        kinds = [int.from_bytes(record[16:20], "little") for record in records]
        checkpoints = [at for at, kind in enumerate(kinds, 1) if kind == CHECKPOINT]
        safe = max(checkpoints, default=0)
        # These are waited for before anything gets such a name.
        begun = [at for at, kind in enumerate(kinds, 1) if kind == BEGUN]
        top = [at for at, one in enumerate(records, 1) if one[:16] == hash_path(b"top")][:1]
        cut = chance.randrange(max([safe, *top, *begun]), len(records) + 1)
        if not content:
            return
        torn = chance.choice((b"", bytes(RECORD), b"1234567", bytes(3 * RECORD)))
        self.journal.write_bytes(content[: HEADER + cut * RECORD] + torn)
        known = {record[:16] for record, kind in zip(records[:safe], kinds, strict=False)
                 if kind == COPIED}  # fmt: skip
        for path, found in look(self.to).items():
            name = os.path.join(os.fsencode(self.to), path)
            if found.kind != stat.S_IFREG or os.lstat(name).st_nlink > 1:
                continue
            if hash_path(path) not in known and chance.random() < 0.5:
                os.truncate(name, len(found.content) // 2)


def hash_path(path: bytes) -> bytes:
    """What a journal knows a path by."""
    return hashlib.sha256(path).digest()[:16]


@pytest.fixture(scope="module")
def undisturbed(built: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[
    list[Node], dict[bytes, Found]
]:  # fmt: skip
    tree = make_tree(random.Random(11))
    path = tmp_path_factory.mktemp("undisturbed")
    copy(tree, path)
    return tree, look(path)


def check(job: Job, witness: Witness, tree: list[Node], wanted: dict[bytes, Found]) -> None:
    found = look(job.to)
    assert same(found, wanted), {
        path: (found.get(path), wanted.get(path))
        for path in {*found, *wanted}
        if path not in found or path not in wanted
        or found[path]._replace(blocks=0) != wanted[path]._replace(blocks=0)
    }  # fmt: skip
    assert not [path for path in found if path.endswith(b".part")]
    accounts = job.end.accounts
    assert accounts.seen == total(accounts) == len(list(walk(tree)))
    assert accounts.failed == accounts.damaged == accounts.skipped == 0
    # What is not told again was told when it was done.
    before = told_before(job.ledger)
    for outcome in witness.outcomes:
        assert Result.COPIED in before[outcome.path]


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("rule", [Conflicts.ASK, Conflicts.SKIP, Conflicts.OVERWRITE])
def test_a_writer_that_is_killed(
    undisturbed: tuple[list[Node], dict[bytes, Found]], tmp_path: Path, rule: Conflicts, part: int
) -> None:
    tree, wanted = undisturbed
    chance = random.Random(f"{rule} {part}")
    kills = 0
    for number in range(4):
        job = Job(tmp_path / str(number), tree, Options(conflicts=rule, digests=("sha256",)))
        while job.run_and_kill(chance):
            kills += 1
            if chance.random() < 0.2:
                break
        witness = job.finish()
        assert witness.asked == []
        check(job, witness, tree, wanted)
        shutil.rmtree(job.to)
    assert kills >= 1


def test_a_copy_that_is_whole_is_not_made_again(
    undisturbed: tuple[list[Node], dict[bytes, Found]], tmp_path: Path
) -> None:
    tree, wanted = undisturbed
    job = Job(tmp_path, tree, Options())
    job.finish()
    inodes = {path: os.lstat(path).st_ino for path in job.to.rglob("*")}
    witness = job.finish()
    check(job, witness, tree, wanted)
    folders = sum(bool(node.below) for node in walk(tree))
    assert job.end.accounts.done_before == len(wanted) - folders
    assert job.end.accounts.written == 0
    assert {path: os.lstat(path).st_ino for path in job.to.rglob("*")} == inodes


def test_what_was_changed_meanwhile_is_made_again(
    undisturbed: tuple[list[Node], dict[bytes, Found]], tmp_path: Path
) -> None:
    tree, wanted = undisturbed
    job = Job(tmp_path, tree, Options(conflicts=Conflicts.SKIP))
    job.finish()
    (job.to / "top" / "file1").write_text("changed")
    (job.to / "top" / "file2").unlink()
    (job.to / "top" / "sparse").unlink()
    (job.to / "top" / "sparse").symlink_to("file1")
    shutil.rmtree(job.to / "top" / "folder1")
    (job.to / "top" / "folder2").chmod(0)
    witness = job.finish()
    check(job, witness, tree, wanted)


def test_what_was_there_before_stays(built: None, tmp_path: Path) -> None:
    tree = [folder(b"d", file(b"a", b"1"), file(b"b", b"1")), file(b"c", b"1")]
    job = Job(tmp_path, tree, Options(conflicts=Conflicts.SKIP))
    (job.to / "d").mkdir()
    (job.to / "d" / "a").write_text("theirs")
    (job.to / "c").write_text("theirs")
    for _ in range(2):
        job.finish()
        assert (job.to / "d" / "a").read_text() == "theirs"
        assert (job.to / "c").read_text() == "theirs"
        assert job.end.accounts.skipped_exists == 2


def test_names_that_were_given_are_kept(built: None, tmp_path: Path) -> None:
    tree = [file(b"a", b"1"), folder(b"d", file(b"x", b"1"))]
    job = Job(tmp_path, tree, Options(conflicts=Conflicts.RENAME))
    (job.to / "a").write_text("theirs")
    (job.to / "d").write_text("theirs")
    for _ in range(3):
        job.finish()
    assert set(look(job.to)) == {b"a", b"a (2)", b"d", b"d (2)", b"d (2)/x"}
    assert job.end.accounts.done_before == 2


def test_nobody_is_asked_twice_what_to_skip(built: None, tmp_path: Path) -> None:
    job = Job(tmp_path, [file(b"a", b"1")], Options())
    (job.to / "a").write_text("theirs")
    assert job.finish().asked == [b"a"]
    assert job.finish().asked == []
    assert (job.to / "a").read_text() == "theirs"


def test_names_under_the_rule_of_windows_stay_the_same(built: None, tmp_path: Path) -> None:
    tree = [folder(b"d", file(b"A", b"1"), file(b"a", b"2"), file(b"nul", b"3"))]
    job = Job(tmp_path, tree, Options(names="windows", fold=True))
    job.finish()
    wanted = look(job.to)
    (job.to / "d" / "a%~2").unlink()
    job.finish()
    assert {path: one.content for path, one in look(job.to).items()} == {
        path: one.content for path, one in wanted.items()
    }


def test_the_journal_of_another_copy_is_refused(built: None, tmp_path: Path) -> None:
    job = Job(tmp_path, [file(b"a", b"1")], Options())
    job.finish()
    number = os.open(job.journal, os.O_RDWR | os.O_APPEND)
    for given, options in ((JOB[::-1], OPTIONS), (JOB, OPTIONS[::-1])):
        with pytest.raises(ExplorerError, match=r"copy\.other-journal"):
            copy([], job.to, journal=Journal(number, options), job=given)
    os.close(number)


@pytest.mark.parametrize("content", [b"x" * 64, b"LKLcopy1" + bytes(56), b"y" * 5000])
def test_what_is_no_journal_is_refused(built: None, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal").write_bytes(content)
    number = os.open(tmp_path / "journal", os.O_RDWR | os.O_APPEND)
    with pytest.raises(ExplorerError, match=r"copy\.journal"):
        copy([], tmp_path, journal=Journal(number, OPTIONS))
    os.close(number)
    assert (tmp_path / "journal").read_bytes() == content


def test_changed_journals_end_in_the_same_tree(
    undisturbed: tuple[list[Node], dict[bytes, Found]], tmp_path: Path
) -> None:
    tree, wanted = undisturbed
    chance = random.Random("journal")
    job = Job(tmp_path, tree, Options(conflicts=Conflicts.OVERWRITE))
    job.finish()
    whole = job.journal.read_bytes()
    for _ in range(10):
        changed = bytearray(whole)
        at = chance.randrange(HEADER, len(whole))
        changed[at] ^= 1 << chance.randrange(8)
        job.journal.write_bytes(changed[: chance.choice((len(whole), at))])
        check(job, job.finish(), tree, wanted)


def test_part_files_of_the_copy_are_removed(built: None, tmp_path: Path) -> None:
    job = Job(tmp_path, [folder(b"d", file(b"a", b"1"))], Options())
    job.finish()
    for path in (job.to, job.to / "d"):
        (path / f"a.{JOB_NAME}.part").write_text("half")
        (path / f"a.{JOB[8:].hex()}.part").write_text("another's")
    job.finish()
    assert set(look(job.to)) == {
        b"d", b"d/a", f"a.{JOB[8:].hex()}.part".encode(), f"d/a.{JOB[8:].hex()}.part".encode(),
    }  # fmt: skip


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("rule", [Conflicts.SKIP, Conflicts.OVERWRITE])
def test_a_loss_of_power(
    undisturbed: tuple[list[Node], dict[bytes, Found]], tmp_path: Path, rule: Conflicts, number: int
) -> None:
    """As far as a loss can be played: nothing but what a checkpoint made safe is relied on."""
    tree, wanted = undisturbed
    chance = random.Random(f"power {rule} {number}")
    for turn in range(4):
        job = Job(tmp_path / str(turn), tree, Options(conflicts=rule))
        for _ in range(chance.randrange(1, 3)):
            job.run_and_kill(chance)
            job.lose_power(chance)
        check(job, job.finish(), tree, wanted)
        shutil.rmtree(job.to)
