# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Zip archives, read back by unzip, 7-Zip, bsdtar and Python."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from explorer.native.names import unmap_name
from explorer.wire.writing import Write, Written
from tests.native.packer import Node, file, folder, link
from tests.writer.process import write
from tests.writer.test_tar import expected, run, tree_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("built")
RANDOM = random.Random(5)
TREE = [
    folder(
        b"top",
        file(b"empty"),
        file(b"text", b"hello\n" * 1000, mode=0o755),
        file(b"large", RANDOM.randbytes(3_000_001)),
        folder(b"inner", folder(b"nothing", mode=0o700)),
        link(b"link", b"text"),
        file("Zürich 日本".encode(), b"text"),
        file(b"back\\slash", b"odd"),
        folder(b"d" * 200, file(b"e" * 200, b"deep")),
        Node(b"holes", content=[b"a", ("hole", 3 << 20), b"b"]),
    )
]


def job(target: Path, **more: object) -> Write:
    return Write("zip", os.fsencode(target), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("deflate", [True, False])
@pytest.mark.parametrize("tool", ["unzip", "7z", "bsdtar"])
def test_a_tree_comes_out_as_it_was(tmp_path: Path, tool: str, *, deflate: bool) -> None:
    archive, out = tmp_path / "a.zip", tmp_path / "out"
    _writer, end = write(TREE, job(archive, deflate=deflate))
    assert isinstance(end, Written)
    assert (end.seen, end.copied, end.holes) == (12, 12, 3 << 20)
    out.mkdir()
    if tool == "unzip":
        run("unzip", "-q", archive, "-d", out)
    elif tool == "7z":
        run("7z", "x", "-snl", f"-o{out}", archive)
    else:
        run("bsdtar", "-xpf", archive, "-C", out)
    got, wanted = tree_of(os.fsencode(out)), expected(TREE)
    if tool == "7z":
        # It makes folders of what stands behind a backslash, as archives from Windows have it.
        got = {path: told for path, told in got.items() if b"slash" not in path}
        wanted = {path: told for path, told in wanted.items() if b"slash" not in path}
    assert got.keys() - {b"top/back"} == wanted.keys()
    for path, (mode, moment, content) in wanted.items():
        assert got[path][0] == mode, path
        assert got[path][2] == content, path
        if path != b"top/link":
            # To a second in one field, to 100 nanoseconds in another.
            assert isinstance(moment, int)
            assert got[path][1] in (moment // 10**9 * 10**9, moment // 100 * 100), path


def test_times_are_kept_to_100_nanoseconds(tmp_path: Path) -> None:
    write([file(b"a", b"1")], job(tmp_path / "a.zip"))
    assert "2014-05-13 16:53:20.1234567" in run("7z", "l", "-slt", tmp_path / "a.zip")


def test_names_that_are_not_utf8_are_mapped_and_told(tmp_path: Path) -> None:
    tree = [folder(b"\xff", file(b"\xe9t\xe9", b"1"), file(b"%E9t%E9", b"2"))]
    writer, end = write(tree, job(tmp_path / "a.zip"))
    assert isinstance(end, Written)
    assert writer.mapped == {
        b"/\xff": b"%FF", b"/\xff/\xe9t\xe9": b"%E9t%E9", b"/\xff/%E9t%E9": b"%E9t%E9%~2"
    }  # fmt: skip
    assert end.mapped == 3
    assert unmap_name(b"%E9t%E9") == b"\xe9t\xe9"
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        assert opened.namelist() == ["%FF/", "%FF/%E9t%E9", "%FF/%E9t%E9%~2"]
        assert opened.testzip() is None


def test_what_a_zip_cannot_hold_is_told(tmp_path: Path) -> None:
    one, two = (file(name, b"1", links=2) for name in (b"one", b"two"))
    one.link = two.link = 1
    one.xattrs = {b"user.a": b"1", b"user.b": b"2"}
    long = b"x" * 1000
    tree = [one, two, Node(b"fifo", stat.S_IFIFO | 0o600)]
    inner = folder(long, file(b"deep"))
    for _ in range(70):
        inner = folder(long, inner)
    tree.append(inner)
    writer, end = write(tree, job(tmp_path / "a.zip", special=True))
    assert isinstance(end, Written)
    assert (end.rules, end.skipped, end.attributes_lost) == (("special",), (1,), 2)
    assert writer.failures[b"/two"].code == "copy.no-links"
    assert {error.code for error in writer.failures.values()} == {
        "copy.no-links", "copy.path-length", "copy.parent"
    }  # fmt: skip
    assert (end.copied, end.failed) == (1 + 65, 1 + 71 - 65 + 1)
    run("7z", "t", tmp_path / "a.zip")


@pytest.mark.slow
def test_sizes_beyond_four_gigabytes(tmp_path: Path) -> None:
    size = (4 << 30) + 5
    tree = [Node(b"vast", content=[b"first", ("hole", size - 9), b"last"]), file(b"after", b"1")]
    write(tree, job(tmp_path / "a.zip"))
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        assert opened.getinfo("vast").file_size == size
        assert opened.read("after") == b"1"
    run("7z", "t", tmp_path / "a.zip")


def test_to_a_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    read = subprocess.Popen(["bsdtar", "-tf", "-"], stdin=reading, stdout=subprocess.PIPE)
    os.close(reading)
    _writer, end = write([file(b"a", b"1" * 5000), link(b"b", b"a")], Write("zip", None), writing)
    os.close(writing)
    assert isinstance(end, Written)
    assert read.communicate()[0] == b"a\nb\n"
