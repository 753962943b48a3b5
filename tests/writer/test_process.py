# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The writer as a process: what it is told while it works, and what it does to others' nonsense."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from explorer.core.exits import EXIT_PROTOCOL
from explorer.native.stream import Kind
from explorer.wire.messages import Cancel, Failed, ReadLog
from explorer.wire.writing import (
    AnswerConflict,
    Conflict,
    Continue,
    Pause,
    Write,
    WriteProgress,
    Written,
)
from explorer.writer.checking import check_manifest
from tests.native.packer import Engine, Node, file, folder, link
from tests.writer.process import ROOT, Endless, Writer, write
from tests.writer.test_tar import TAR, run

if TYPE_CHECKING:
    from explorer.wire.messages import Message

pytestmark = pytest.mark.usefixtures("built")
DIGESTS = ("md5", "sha1", "sha256", "blake2b")


def to_folder(target: Path, **more: object) -> Write:
    return Write("folder", os.fsencode(target), **more)  # type: ignore[arg-type]


def test_one_file_to_a_pipe(tmp_path: Path) -> None:
    content = [b"start", ("hole", 100_000), b"end"]
    with (tmp_path / "out").open("wb") as out:
        _writer, end = write([Node(b"f", content=content)], Write("content", None), out.fileno())  # type: ignore[arg-type]
    assert isinstance(end, Written)
    assert (tmp_path / "out").read_bytes() == b"start" + bytes(100_000) + b"end"


@pytest.mark.parametrize("tree", [[folder(b"f")], [link(b"l", b"x")], [file(b"a"), file(b"b")]])
def test_only_one_file_has_a_content(tmp_path: Path, tree: list[Node]) -> None:
    _writer, end = write(tree, Write("content", os.fsencode(tmp_path / "out")))
    assert isinstance(end, Failed)
    assert end.error.code == "copy.not-a-file"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize("sink", ["folder", "tar"])
def test_a_manifest_is_of_what_is_there(tmp_path: Path, form: str, sink: str) -> None:
    one, two = (file(name, b"same", links=2) for name in (b"one", b"two"))
    one.link = two.link = 1
    tree = [
        folder(b"=1+1", file(b'\xff\n"\\', b"raw"), link(b"l", b"../@x"), one, two),
        Node(b"holes", content=[b"1" * 5000, ("hole", 1 << 20), b"2"]),
        Node(b"bad", content=[b"1" * 4096, ("bad", 4096), b"2"]),
        Node(b"no", more={"size": 9}, result=(-5, 2)),
        file(b"late", b"1", modify_seconds=1 << 50),
    ]
    out, manifest = tmp_path / "out", tmp_path / "manifest"
    out.mkdir()
    target = out if sink == "folder" else tmp_path / "a.tar"
    job = Write(
        sink,
        os.fsencode(target),
        digests=DIGESTS,
        manifest=os.fsencode(manifest),
        manifest_form=form,
        source="disk.img",
    )
    writer, end = write(tree, job)
    assert isinstance(end, Written)
    assert (end.seen, end.failed, end.damaged) == (9, 1, 1 + (b"/late" in writer.failures))
    if sink == "tar":
        run(*TAR, "--warning=no-timestamp", "-xpf", target, "-C", out)
    assert not list(check_manifest(out, manifest))
    text = manifest.read_text()
    assert "disk.img" in text.splitlines()[0 if form == "json" else 2]
    assert "4096+4096" in text
    if form == "json":
        lines = [json.loads(line) for line in text.splitlines()]
        assert lines[-1]["accounts"]["seen"] == 9
        by_path = {line["path"]: line for line in lines[1:-1]}
        assert by_path["/=1+1"]["target"] == "\\x3d1+1"
        assert by_path["/no"]["outcome"] == "failed"
        assert by_path["/=1+1/two"]["same_as_hex"] == b"=1+1/one".hex()
        assert len(by_path["/holes"]["blake2b"]) == 128

    # And what is not there any more is found.
    (out / "holes").write_bytes(b"x" * ((1 << 20) + 5001))
    (out / "=1+1/l").unlink()
    (out / "=1+1/two").unlink()
    (out / "=1+1/two").write_bytes(b"same")
    (out / "late").write_bytes(b"")
    (out / "bad").unlink()
    (out / "bad").mkdir()
    (out / "more").write_bytes(b"")
    problems = {problem.target: problem.what for problem in check_manifest(out, manifest)}
    assert problems == {
        b"holes": "blake2b", b"=1+1/l": "missing", b"=1+1/two": "link", b"late": "size",
        b"bad": "type", b"more": "extra",
    }  # fmt: skip


def test_conflicts_are_asked_about(tmp_path: Path) -> None:
    names = [b"a", b"b", b"c", b"d"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"old")
    decisions = iter([("skip", False), ("overwrite", True)])
    sender = Engine([file(name, b"new") for name in names])
    with sender, Writer(sender.source.fileno()) as writer:

        def answer(part: Message) -> None:
            if isinstance(part, Conflict):
                assert part.existing.size == part.new.size == 3
                writer.send(AnswerConflict(1, part.question, *next(decisions)))

        end = writer.run(to_folder(tmp_path), answer)
        assert writer.stop() == 0
    assert isinstance(end, Written)
    assert (end.rules, end.skipped, end.copied) == (("exists",), (1,), 3)
    contents = [(tmp_path / os.fsdecode(name)).read_bytes() for name in names]
    assert contents == [b"old", b"new", b"new", b"new"]


@pytest.mark.parametrize("sink", ["folder", "tar"])
def test_a_job_pauses_goes_on_and_is_cancelled(tmp_path: Path, sink: str) -> None:
    target = tmp_path if sink == "folder" else tmp_path / "a.tar"
    with Endless() as sender, Writer(sender.source.fileno()) as writer:
        writer.send(Write(sink, os.fsencode(target)), 1)
        send(sender, 1)
        until(writer, 1)
        writer.send(Pause(1))
        send(sender, 2)
        # One that was on its way when it paused may still come.
        time.sleep(0.5)
        writer.send(Continue(1))
        until(writer, 2)
        writer.send(Cancel(1))
        end = writer.wait()
        assert writer.stop() == 0
    if isinstance(end, Failed):
        assert sink == "tar"
        assert end.error.code == "export.cancelled"
        assert not list(tmp_path.iterdir())
    else:
        assert isinstance(end, Written)
        assert not end.complete
        assert end.ended is not None
        assert end.ended.code == "export.cancelled"
        assert {path.name for path in tmp_path.iterdir()} == {"f1", "f2"}


def send(sender: Endless, number: int) -> None:
    sender.packer.modes = [0]
    sender.packer.tree([file(b"f%d" % number, b"1")])
    sender.packer.flush()


def until(writer: Writer, seen: int) -> None:
    while not (isinstance(part := writer.receive(), WriteProgress) and part.seen >= seen):
        pass


@pytest.mark.parametrize("message", [ReadLog(0), Cancel(1), to_folder(Path("/")), None])
def test_what_is_no_job_ends_the_process(message: Message | None) -> None:
    with Endless() as sender, Writer(sender.source.fileno()) as writer:
        if message is None:
            assert writer.process.stdin is not None
            writer.process.stdin.write(b"no frame, whatever it may be")
            writer.process.stdin.flush()
        elif isinstance(message, Write):
            # In the connection's own request.
            writer.send(message, 0)
        else:
            writer.send(message)
        assert writer.process.wait(60) == EXIT_PROTOCOL


def test_a_stream_that_breaks_its_rules_ends_the_job(tmp_path: Path) -> None:
    with Endless() as sender, Writer(sender.source.fileno()) as writer:
        sender.packer.send(Kind.LEAVE)
        sender.packer.flush()
        end = writer.run(Write("tar", os.fsencode(tmp_path / "a.tar")))
        assert isinstance(end, Failed)
        assert end.error.code == "copy.protocol"
        assert writer.stop() == 0
    assert not list(tmp_path.iterdir())


def test_nobody_waits_for_a_writer_that_nobody_hears(tmp_path: Path) -> None:
    with Endless() as sender, Writer(sender.source.fileno()) as writer:
        writer.send(Write("tar", os.fsencode(tmp_path / "a.tar")), 1)
        writer.until(lambda: list(tmp_path.iterdir()))
        assert writer.stop() == 0
    assert not list(tmp_path.iterdir())


def test_a_copy_is_gone_on_with(tmp_path: Path) -> None:
    out, journal, manifest = tmp_path / "out", tmp_path / "journal", tmp_path / "manifest"
    out.mkdir()
    job = to_folder(
        out, journal=os.fsencode(journal), manifest=os.fsencode(manifest), digests=("sha256",)
    )
    with Endless() as sender, Writer(sender.source.fileno()) as writer:
        writer.send(job, 1)
        for number in range(3):
            send(sender, number)
            until(writer, number + 1)
        sender.end()
        end = writer.wait()
        assert isinstance(end, Written)
        assert (end.complete, end.copied) == (False, 3)
    assert journal.stat().st_size
    assert not list(check_manifest(out, manifest))
    tree = [file(b"f%d" % number, b"1") for number in range(5)]
    _writer, end = write(tree, replace(job, resume=True))
    assert isinstance(end, Written)
    assert (end.complete, end.done_before, end.copied) == (True, 3, 2)
    assert not journal.exists()
    assert not list(check_manifest(out, manifest))
    assert manifest.read_text().count(hashlib.sha256(b"1").hexdigest()) == 5


def test_no_room_is_told_before(tmp_path: Path) -> None:
    _writer, end = write([file(b"f")], to_folder(tmp_path, expected=1 << 60))
    assert isinstance(end, Failed)
    assert end.error.code == "export.room"


ATTEMPTS = """
import os, sys
from pathlib import Path
from explorer.native.confine import confine_writes
inside, outside = map(Path, sys.argv[1:])
(outside / "there").write_bytes(b"1")
os.link(outside / "there", inside / "linked")
folder = os.open(inside, os.O_RDONLY)
if not confine_writes([folder]):
    sys.exit(77)
(inside / "made").write_bytes(b"1")
(inside / "folder").mkdir()
os.rename(inside / "made", inside / "folder" / "moved")
os.symlink("/etc", inside / "link")
assert (outside / "there").read_bytes() == b"1"

def refused(act):
    try:
        act()
    except PermissionError:
        return
    raise AssertionError(act)

refused(lambda: (outside / "made").write_bytes(b"1"))
refused(lambda: (outside / "there").write_bytes(b"1"))
refused(lambda: (outside / "there").unlink())
refused(lambda: (outside / "folder").mkdir())
refused(lambda: os.symlink("x", outside / "link"))
refused(lambda: os.open(outside, os.O_TMPFILE | os.O_WRONLY))
refused(lambda: os.execv("/bin/true", ["true"]))
refused(lambda: (inside / ".." / outside.name / "made").write_bytes(b"1"))
try:
    os.rename(inside / "folder" / "moved", outside / "moved")
except OSError:
    pass
else:
    raise AssertionError("moved outside")
"""


def test_a_writer_writes_below_its_destination_only(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, inside, outside],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("no Landlock here")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in outside.iterdir()] == ["there"]


def test_a_writer_is_confined(tmp_path: Path) -> None:
    with Endless() as sender, Writer(sender.source.fileno()) as writer:
        writer.send(to_folder(tmp_path), 1)
        send(sender, 1)
        until(writer, 1)
        status = Path(f"/proc/{writer.process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
