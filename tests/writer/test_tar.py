# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tar archives, read back by GNU tar, bsdtar and Python."""

from __future__ import annotations

import csv
import hashlib
import os
import random
import stat
import subprocess
import tarfile
from struct import pack
from typing import TYPE_CHECKING

import pytest

from explorer.native.stream import Operation
from explorer.wire.messages import Failed
from explorer.wire.writing import Write, Written
from tests.native.packer import Engine, Node, file, folder, link
from tests.writer.process import Endless, Writer, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("built")
RANDOM = random.Random(4)
TAR = ("tar", "--warning=no-unknown-keyword")
"""It says of each word that is libarchive's that it does not know it."""
MODIFIED = 1_400_000_000_123_456_789


def job(target: Path, **more: object) -> Write:
    return Write("tar", os.fsencode(target), **more)  # type: ignore[arg-type]


def run(*argv: object) -> str:
    done = subprocess.run(
        [str(part) for part in argv], capture_output=True, text=True, check=False, errors="replace"
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), done.stderr
    return done.stdout


def extract(archive: Path, to: Path, tool: str) -> Path:
    to.mkdir()
    if tool == "tar":
        run(*TAR, "--xattrs", "--xattrs-include=*", "-xpf", archive, "-C", to)
    elif tool == "bsdtar":
        run("bsdtar", "--xattrs", "-xpf", archive, "-C", to)
    else:
        with tarfile.open(archive, errors="surrogateescape") as opened:
            opened.extractall(to, filter="fully_trusted")
    return to


TREE = [
    folder(
        b"top",
        file(b"empty"),
        file(b"text", b"hello\n", mode=0o4755),
        file(b"large", RANDOM.randbytes(3_000_001)),
        folder(b"inner", folder(b"nothing", mode=0o700)),
        link(b"link", b"text"),
        link(b"away", b"/etc/../" + b"x" * 300),
        file(b"\xff\xfe raw", b"raw"),
        file("Zürich 日本".encode(), b"text"),
        file(b"line\nbreak \\ = %", b"odd"),
        file(b"n" * 250, b"long"),
        folder(b"d" * 200, file(b"e" * 200, b"deep")),
    )
]


def tree_of(top: bytes) -> dict[bytes, tuple[object, ...]]:
    """All that an extracted tree holds."""
    found: dict[bytes, tuple[object, ...]] = {}
    for above, folders, files in os.walk(top):
        for name in (*folders, *files):
            full = os.path.join(above, name)
            told = os.lstat(full)
            content: object = None
            if stat.S_ISREG(told.st_mode):
                with open(full, "rb") as opened:
                    content = hashlib.sha256(opened.read()).hexdigest()
            elif stat.S_ISLNK(told.st_mode):
                content = os.readlink(full)
            found[os.path.relpath(full, top)] = (told.st_mode, told.st_mtime_ns, content)
    return found


def expected(nodes: list[Node], above: bytes = b"") -> dict[bytes, tuple[object, ...]]:
    found: dict[bytes, tuple[object, ...]] = {}
    for node in nodes:
        path = os.path.join(above, node.name)
        content: object = None
        if stat.S_ISREG(node.mode):
            data = b"".join(
                one if isinstance(one, bytes) else bytes(one[-1]) for one in node.content
            )
            content = hashlib.sha256(data).hexdigest()
        elif stat.S_ISLNK(node.mode):
            content = node.target
        found[path] = (node.mode, MODIFIED, content)
        found |= expected(node.below, path)
    return found


@pytest.mark.parametrize("tool", ["tar", "bsdtar", "python"])
def test_a_tree_comes_out_as_it_was(tmp_path: Path, tool: str) -> None:
    archive = tmp_path / "a.tar"
    writer, end = write(TREE, job(archive))
    assert isinstance(end, Written)
    assert (end.seen, end.copied, end.complete) == (14, 14, True)
    assert not writer.failures
    assert not archive.with_name("a.tar.part").exists()
    got = tree_of(os.fsencode(extract(archive, tmp_path / "out", tool)))
    wanted = expected(TREE)
    if tool == "python":
        # It keeps times as floats.
        got = {path: (mode, content) for path, (mode, _time, content) in got.items()}
        wanted = {path: (mode, content) for path, (mode, _time, content) in wanted.items()}
    assert got == wanted


@pytest.mark.parametrize("tool", ["tar", "bsdtar"])
def test_attributes_links_and_owners_are_kept(tmp_path: Path, tool: str) -> None:
    acl = pack("<I", 2) + b"".join(
        pack("<HHI", *one)
        for one in ((1, 6, 0xFFFFFFFF), (2, 4, 1234), (4, 4, 0xFFFFFFFF), (16, 6, 0xFFFFFFFF),
                    (32, 0, 0xFFFFFFFF))
    )  # fmt: skip
    xattrs = {
        b"user.text": b"value",
        b"user.binary": bytes(range(256)) * 9,
        b"user.odd=name%": b"=",
        b"system.posix_acl_access": acl,
        b"security.capability": pack("<IIIII", 0x02000001, 0x400, 0, 0, 0),
        b"trusted.one": b"1",
    }
    if tool == "bsdtar":
        # It does not take names of attributes back as they were.
        del xattrs[b"user.odd=name%"]
    # The group's bits are the mask of the list.
    one, two = (file(name, b"12345", mode=0o660, links=2) for name in (b"one", b"two"))
    one.link = two.link = 1
    one.xattrs = xattrs
    tree = [
        folder(b"top", one, two, uid=3_000_000, gid=70_000),
        Node(b"fifo", stat.S_IFIFO | 0o600),
    ]
    tree.append(Node(b"disk", stat.S_IFBLK | 0o660, more={"special_major": 7, "special_minor": 99}))
    tree.append(Node(b"socket", stat.S_IFSOCK | 0o600))
    tree[0].xattrs = {b"user.folder": b"f"}
    archive = tmp_path / "a.tar"
    _writer, end = write(tree, job(archive, special=True))
    assert isinstance(end, Written)
    assert (end.copied, end.rules, end.skipped) == (5, ("special",), (1,))
    out = extract(archive, tmp_path / "out", tool)
    for name, value in xattrs.items():
        assert os.getxattr(out / "top/one", name) == value, name
    assert os.getxattr(out / "top", b"user.folder") == b"f"
    assert (out / "top/one").samefile(out / "top/two")
    told = (out / "top").stat()
    assert (told.st_uid, told.st_gid) == (3_000_000, 70_000)
    assert stat.S_ISFIFO((out / "fifo").stat().st_mode)
    disk = (out / "disk").stat()
    assert stat.S_ISBLK(disk.st_mode)
    assert (os.major(disk.st_rdev), os.minor(disk.st_rdev)) == (7, 99)
    with tarfile.open(archive) as opened:
        headers = opened.getmember("top/one").pax_headers
    assert headers["SCHILY.acl.access"] == "user::rw-,user:1234:r--,group::r--,mask::rw-,other::---"


def test_times_are_written(tmp_path: Path) -> None:
    times = {
        "access_seconds": -1, "access_nanoseconds": 5, "change_seconds": 1 << 40,
        "birth_seconds": 0, "birth_nanoseconds": 500_000_000,
    }  # fmt: skip
    archive = tmp_path / "a.tar"
    write([file(b"a", b"1", **times)], job(archive))
    with tarfile.open(archive) as opened:
        headers = opened.getmember("a").pax_headers
    assert headers["mtime"] == "1400000000.123456789"
    assert headers["atime"] == "-0.999999995"
    assert headers["ctime"] == str(1 << 40)
    told = subprocess.run(["tar", "-tf", archive], capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("a\n", "")


def test_devices_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    tree = [Node(b"fifo", stat.S_IFIFO), Node(b"no", stat.S_IFIFO, result=(-95, Operation.SPECIAL))]
    tree += [link(b"l", b"x"), file(b"f", b"1")]
    writer, end = write(tree, job(tmp_path / "a.tar", symlinks="skip"))
    assert isinstance(end, Written)
    assert (end.rules, end.skipped, end.copied) == (("special", "symlinks"), (2, 1), 1)
    assert run(*TAR, "-tf", tmp_path / "a.tar") == "f\n"
    assert not writer.failures


@pytest.mark.parametrize("tool", ["tar", "bsdtar", "python"])
def test_holes_stay_holes(tmp_path: Path, tool: str) -> None:
    data = RANDOM.randbytes(200_000)
    mib = 1 << 20
    tree = [
        Node(b"middle", content=[data, ("hole", 50 * mib), data, ("hole", 4096), data]),
        Node(b"ends", content=[("hole", 9 * mib), data[:4096], ("hole", 20 * mib)]),
        Node(b"nothing", content=[("hole", 30 * mib)]),
        Node(b"much", content=[("hole", mib), data * 60, ("hole", mib)]),
        Node("ü".encode() * 100, content=[("hole", mib), b"x"]),
    ]
    archive = tmp_path / "a.tar"
    _writer, end = write(tree, job(archive))
    assert isinstance(end, Written)
    assert end.holes == (50 + 9 + 20 + 30 + 3) * mib + 4096
    assert archive.stat().st_size < 14_000_000
    out = extract(archive, tmp_path / "out", tool)
    for node in tree:
        told = os.stat(os.path.join(os.fsencode(out), node.name))
        assert told.st_size == node.size()
        taken = sum(len(one) for one in node.content if isinstance(one, bytes))
        if tool != "python":
            assert told.st_blocks * 512 <= taken + 3 * 65536
    assert tree_of(os.fsencode(out)).keys() == {node.name for node in tree}
    got = {path: told[2] for path, told in tree_of(os.fsencode(out)).items()}
    assert got == {path: told[2] for path, told in expected(tree).items()}


def test_sizes_beyond_eight_gigabytes(tmp_path: Path) -> None:
    size = 20 << 30
    tree = [Node(b"vast", content=[b"first", ("hole", size - 9), b"last"]), file(b"after", b"1")]
    archive = tmp_path / "a.tar"
    write(tree, job(archive))
    with tarfile.open(archive) as opened:
        assert opened.getmember("vast").size == size
    assert f" {size} " in run(*TAR, "-tvf", archive)
    out = extract(archive, tmp_path / "out", "tar")
    with (out / "vast").open("rb") as vast:
        assert vast.read(5) == b"first"
        vast.seek(-4, os.SEEK_END)
        assert vast.read() == b"last"
    assert (out / "after").read_bytes() == b"1"


def test_names_in_one_folder_never_meet(tmp_path: Path) -> None:
    # A damaged directory may hold a name twice: a link, then what would be written through it.
    tree = [folder(b"t", link(b"a", b"/tmp"), folder(b"a", file(b"f", b"1")), file(b"a", b"2"))]
    writer, end = write(tree, job(tmp_path / "a.tar"))
    assert isinstance(end, Written)
    assert end.mapped == 2
    assert writer.mapped == {b"/t/a": b"a%~3"}
    assert run(*TAR, "-tf", tmp_path / "a.tar").split() == [
        "t/", "t/a", "t/a%~2/", "t/a%~2/f", "t/a%~3"
    ]  # fmt: skip


def test_windows_names(tmp_path: Path) -> None:
    tree = [folder(b"a:b", file(b"CON"), file(b"A"), file(b"a"), file(b"\xff."))]
    writer, _end = write(tree, job(tmp_path / "a.tar", names="windows"))
    assert run(*TAR, "-tf", tmp_path / "a.tar").split() == [
        "a%3Ab/", "a%3Ab/%43ON", "a%3Ab/A", "a%3Ab/a%~2", "a%3Ab/%FF%2E"
    ]  # fmt: skip
    assert writer.mapped[b"/a:b"] == b"a%3Ab"


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    data = RANDOM.randbytes(3 << 20)
    dense = {"blocks": 1 << 20}
    tree = [
        Node(b"bad", content=[data, ("bad", 5000), data], more=dense),
        Node(b"bad-sparse", content=[b"a", ("hole", 4095), ("bad", 4096), ("bad", 100)]),
        Node(b"short", content=[data], more={**dense, "size": len(data) + 999}, result=(-5, 3)),
        Node(b"closed", more={"size": 7}, result=(-13, Operation.OPEN)),
        Node(b"lost", result=(-5, Operation.STAT)),
        Node(b"bare", content=[b"x"], result=(-5, Operation.READ_XATTRS)),
        folder(b"half", file(b"in", b"1")),
        file(b"whole", b"1"),
    ]
    tree[6].result = (-5, Operation.READ)
    manifest = tmp_path / "m.csv"
    writer, end = write(tree, job(tmp_path / "a.tar", manifest=os.fsencode(manifest)))
    assert isinstance(end, Written)
    assert (end.seen, end.copied, end.damaged, end.failed) == (9, 2, 5, 2)
    assert set(writer.failures) == {
        b"/bad", b"/bad-sparse", b"/short", b"/closed", b"/lost", b"/bare", b"/half"
    }  # fmt: skip
    out = extract(tmp_path / "a.tar", tmp_path / "out", "tar")
    assert (out / "bad").read_bytes() == data + bytes(5000) + data
    assert (out / "short").read_bytes() == data + bytes(999)
    assert (out / "bad-sparse").read_bytes() == b"a" + bytes(4095 + 4196)
    assert not (out / "closed").exists()
    with manifest.open(newline="") as opened:
        rows = list(csv.DictReader(line for line in opened if not line.startswith("#")))
    ranges = {row["path"]: row["unreadable"] for row in rows if row["unreadable"]}
    assert ranges == {
        "/bad": f"{len(data)}+5000",
        "/bad-sparse": "4096+4196",
        "/short": f"{len(data)}+999",
    }


def test_extents_and_named_streams(tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.write_bytes(b"0123456789" * 1000)
    descriptor = os.open(host, os.O_RDONLY)
    tree = [
        Node(b"extent", content=[(0, 5, 9000)]),
        Node(b"beyond", content=[(0, 9990, 20)]),
        Node(b"streams", content=[b"main"], streams={b"one": b"1" * 100_000, b"two": b"2"}),
        folder(b"folder", file(b"streams:one", b"another")),
    ]
    writer, end = write(tree, job(tmp_path / "a.tar"), files=[descriptor])
    os.close(descriptor)
    assert isinstance(end, Written)
    assert (end.seen, end.copied, end.damaged) == (5, 4, 1)
    assert set(writer.failures) == {b"/beyond"}
    out = extract(tmp_path / "a.tar", tmp_path / "out", "tar")
    assert (out / "extent").read_bytes() == host.read_bytes()[5:9005]
    assert (out / "beyond").read_bytes() == b"0123456789" + bytes(10)
    assert (out / "streams").read_bytes() == b"main"
    assert (out / "streams:one").read_bytes() == b"1" * 100_000
    assert (out / "streams:two").read_bytes() == b"2"


def test_links_to_what_failed_fail(tmp_path: Path) -> None:
    one, two = (Node(name, more={"size": 5, "links": 2}, link=1) for name in (b"one", b"two"))
    one.result = (-5, Operation.OPEN)
    writer, end = write([folder(b"t", one, two)], job(tmp_path / "a.tar"))
    assert isinstance(end, Written)
    assert (end.seen, end.copied, end.failed) == (3, 1, 2)
    assert writer.failures[b"/t/two"].code == "copy.first-link"


def test_contents_have_no_folder_of_their_own(tmp_path: Path) -> None:
    _writer, end = write([folder(b"t", file(b"a"))], job(tmp_path / "a.tar"), contents=True)
    assert isinstance(end, Written)
    assert run(*TAR, "-tf", tmp_path / "a.tar") == "a\n"


def test_to_a_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    tar = subprocess.Popen(["tar", "-tf", "-"], stdin=reading, stdout=subprocess.PIPE)
    os.close(reading)
    tree = [file(b"a", RANDOM.randbytes(300_000)), Node(b"b", content=[("hole", 70000), b"1"])]
    with Engine(tree) as sender, Writer(sender.source.fileno(), writing) as writer:
        os.close(writing)
        assert isinstance(writer.run(Write("tar", None)), Written)
        assert writer.stop() == 0
    assert tar.communicate()[0] == b"a\nb\n"
    assert not tar.returncode


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    tree = [folder(b"a:", file(b"b", b"12"), link(b"l", b"x"))]
    writer, end = write(tree, job(tmp_path / "a.tar", plan=True, names="windows"), plan=True)
    assert isinstance(end, Written)
    assert (end.seen, end.copied, end.written) == (3, 3, 0)
    assert writer.mapped == {b"/a:": b"a%3A"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sink", ["tar", "zip"])
def test_what_is_there_is_kept_unless_asked(tmp_path: Path, sink: str) -> None:
    there = tmp_path / "a"
    there.write_bytes(b"mine")
    for conflicts in ("ask", "skip", "rename", "newer"):
        wanted = Write(sink, os.fsencode(there), conflicts=conflicts)
        _writer, end = write([file(b"f")], wanted)
        assert isinstance(end, Failed)
        assert end.error.code == "export.exists"
        assert there.read_bytes() == b"mine"
    _writer, end = write([file(b"f")], Write(sink, os.fsencode(there), conflicts="overwrite"))
    assert isinstance(end, Written)
    assert there.read_bytes() != b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("finish", [True, False])
def test_an_engine_that_ends_early_leaves_nothing(tmp_path: Path, *, finish: bool) -> None:
    with Endless() as sender, Writer(sender.source.fileno()) as writer:
        sender.source.close()
        writer.send(job(tmp_path / "a.tar", manifest=os.fsencode(tmp_path / "m")), 1)
        sender.packer.tree([folder(b"f")])
        if finish:
            sender.packer.finish(-5)
        else:
            sender.packer.flush()
            sender.end()
        end = writer.wait()
    assert isinstance(end, Failed)
    assert end.error.code == ("export.incomplete-stream" if finish else "copy.engine")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_before_and_after(tmp_path: Path) -> None:
    _writer, end = write([file(b"f")], job(tmp_path / "a.tar", expected=1 << 60))
    assert isinstance(end, Failed)
    assert end.error.code == "export.room"
    full = os.open("/dev/full", os.O_WRONLY)
    large = file(b"f", RANDOM.randbytes(5 << 20))
    _writer, end = write([large], Write("tar", None), full)
    os.close(full)
    assert isinstance(end, Failed)
    assert end.error.code == "export.space"


def test_two_writers_of_one_archive(tmp_path: Path) -> None:
    with Endless() as first, Writer(first.source.fileno()) as one:
        one.send(job(tmp_path / "a.tar"), 1)
        one.until((tmp_path / "a.tar.part").exists)
        _writer, end = write([file(b"f")], job(tmp_path / "a.tar"))
        assert isinstance(end, Failed)
        assert end.error.code == "export.busy"


def test_a_killed_writer_leaves_a_part_that_the_next_takes_over(tmp_path: Path) -> None:
    part = tmp_path / "a.tar.part"
    with Endless() as sender, Writer(sender.source.fileno()) as writer:
        writer.send(job(tmp_path / "a.tar"), 1)
        sender.packer.tree([folder(b"f")])
        sender.packer.flush()
        writer.until(part.exists)
    assert part.exists()
    _writer, end = write([file(b"f", b"2")], job(tmp_path / "a.tar"))
    assert isinstance(end, Written)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
