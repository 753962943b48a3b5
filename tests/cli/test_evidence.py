# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``hash``, ``verify``, ``timeline``, ``inventory``, ``find``, ``grep`` and ``diff``."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from explorer.core.names import show_name
from tests.trees import find_tool, make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]


def objects(outcome: Outcome) -> list[dict[str, Any]]:
    """Lines of JSON, the last of which may be a summary."""
    return [json.loads(line) for line in outcome.lines]


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """An ext2 with a file that cannot be read, and one that can."""
    top = tmp_path / "top"
    top.mkdir()
    (top / "bad").write_bytes(b"needle" + b"x" * 100_000)
    (top / "good").write_bytes(b"a needle")
    image = make_empty(tmp_path / "damaged.img", 8 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024", "-d", top, image)
    (indirect,) = re.findall(r"\(IND\):(\d+)", run_tool("debugfs", "-R", "stat /bad", image))
    with image.open("r+b") as file:
        file.seek(int(indirect) * 1024 + 40)
        file.write(b"\xff\xff\xff\x7f")
    return image


# ---- hash and verify


def test_hash_says_what_it_hashed(
    run: Run, sample: Path, unchanged: Callable[[Path], Path]
) -> None:
    digest = run_tool("sha256sum", sample).split()[0]
    size = sample.stat().st_size
    found = run("hash", unchanged(sample))
    assert found.code == 0
    assert found.lines == [
        f"{sample}, as stored: {size} bytes",
        f"  sha256   {digest}",
        f"the disk in {sample}, read as raw: {size} bytes (the same bytes)",
        f"  sha256   {digest}",
    ]
    shown = objects(run("hash", "--json", "--algorithm", "md5", "--algorithm", "sha256", sample))
    assert [one["kind"] for one in shown] == ["file", "disk"]
    for one in shown:
        assert one["size"] == size
        assert one["digests"] == {
            "md5": run_tool("md5sum", sample).split()[0],
            "sha256": digest,
        }
    (only,) = objects(run("hash", "--json", "--only", "stored", sample))
    assert only == {**shown[0], "digests": {"sha256": digest}}


def test_hash_of_a_volume_and_of_an_image_within(
    run: Run, two_volumes: Path, tmp_path: Path
) -> None:
    data = two_volumes.read_bytes()[1 << 20 : 9 << 20]
    (shown,) = objects(run("hash", "--json", "--volume", "first", two_volumes))
    assert (shown["kind"], shown["size"]) == ("volume", 8 << 20)
    assert shown["digests"]["sha256"] == hashlib.sha256(data).hexdigest()
    top = tmp_path / "top"
    top.mkdir()
    (top / "inner.img").write_bytes(data)
    outer = make_empty(tmp_path / "outer.img", 24 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, outer)
    stored, disk = objects(run("hash", "--json", "--inside", "/inner.img", outer))
    assert stored["digests"] == disk["digests"] == shown["digests"]


def test_hash_of_what_cannot_be_read(run: Run, tmp_path: Path) -> None:
    raw = tmp_path / "disk.img"
    raw.write_bytes(noise(1 << 20, 1))
    run_tool("ewfacquire", "-u", "-q", "-c", "none", "-t", tmp_path / "case", raw)
    path = tmp_path / "case.E01"
    data = bytearray(path.read_bytes())
    data[data.index(noise(1 << 20, 1)[70_000:70_016])] ^= 1
    path.write_bytes(data)
    found = run("hash", path)
    assert found.code == 1
    assert found.lines[0].startswith(f"{path}, as stored")
    assert "damaged" in found.errors
    assert objects(run("hash", "--json", path))[1]["error"]["code"] == "image.corrupt"
    verified = run("verify", path)
    assert verified.code == 1
    assert verified.lines[0].startswith("MISMATCH: md5")


def test_verify(run: Run, sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(sample.read_bytes()[: 1 << 20])
    nothing = run("verify", path)
    assert (nothing.code, nothing.output) == (8, b"")
    assert "no digest" in nothing.errors
    beside = tmp_path / "disk.img.sha256"
    beside.write_text(run_tool("sha256sum", path))
    found = run("verify", path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.code == 0
    assert found.lines == [
        f"match: sha256 {digest}, in disk.img.sha256",
        f"  is that of {path}, as stored: 1048576 bytes",
    ]
    path.write_bytes(b"changed" + path.read_bytes()[7:])
    (shown,) = objects(run("verify", "--json", path))
    assert (shown["outcome"], shown["expected"]) == ("mismatch", digest)
    assert run("verify", path).code == 1
    now = hashlib.md5(path.read_bytes()).hexdigest()
    assert run("verify", "--expect", now, path).code == 0
    assert run("verify", "--expect", now, "--expect", "0" * 40, path).code == 1
    assert run("verify", "--expect", "0", path).code == 2
    # What is not computed here is no comparison.
    beside.unlink()
    (tmp_path / "disk.img.sha512").write_text(run_tool("sha512sum", path))
    other = run("verify", path)
    assert other.code == 8
    assert other.lines[0].startswith("not compared")


# ---- timeline and inventory


def test_timeline_of_all_volumes(run: Run, two_volumes: Path) -> None:
    each = [run("timeline", "--volume", number, two_volumes) for number in ("1", "2")]
    found = run("timeline", "--all-volumes", two_volumes)
    assert {one.code for one in (*each, found)} == {0}
    wanted = [
        line.replace(b"|/", b"|%d:/" % number, 1)
        for number, one in enumerate(each, 1)
        for line in one.output.splitlines()
    ]
    assert found.output.splitlines() == wanted
    # One head for all of them.
    rows = list(csv.DictReader(io.StringIO(run("timeline", "--csv", "--all-volumes", two_volumes)
        .output.decode())))  # fmt: skip
    assert {row["path"].partition(":")[0] for row in rows} == {"1", "2"}
    many = objects(run("timeline", "--json", "--all-volumes", two_volumes))
    assert many.pop() == {"summary": {"entries": len(rows), "found": len(rows), "errors": 0}}
    assert [one["path"] for one in many] == [row["path"] for row in rows]
    chosen = run("timeline", two_volumes)
    assert chosen.code == 4
    assert not chosen.output


def test_inventory_tells_of_what_cannot_be_read(run: Run, damaged: Path) -> None:
    found = run("inventory", "--hash", "md5", damaged)
    assert found.code == 1
    assert "/bad" in found.errors
    rows = {row["path"]: row for row in csv.DictReader(io.StringIO(found.output.decode()))}
    assert rows["/good"]["md5"] == hashlib.md5(b"a needle").hexdigest()
    assert rows["/bad"]["md5"] == ""
    shown = objects(run("inventory", "--json", "--hash", "md5", damaged))
    assert shown[-1] == {"summary": {"entries": 4, "found": 4, "errors": 1}}
    (error,) = [one for one in shown if "error" in one]
    assert error["path"] == "/bad"
    assert error["error"]["code"] == "kernel.call"


# ---- find and grep


def by_find(tree: Path, *arguments: str) -> set[bytes]:
    done = subprocess.run(
        [find_tool("find"), ".", *arguments, "-print0"], cwd=tree, capture_output=True, check=True
    )
    return {path[1:] or b"/" for path in done.stdout.split(b"\0") if path}


def test_find(run: Run, ext4: Path, tree: Path) -> None:
    wanted = by_find(tree, "-name", "*e*", "-type", "f,l", "-size", "+6c")
    arguments = ("find", "--name", "*e*", "--type", "f,l", "--size", "+6")
    raw = run(*arguments, "-0", ext4)
    assert raw.code == 0
    assert {*raw.output.split(b"\0")[:-1]} == wanted
    assert {*run(*arguments, ext4).lines} == {show_name(path) for path in wanted}
    *shown, summary = objects(run(*arguments, "--json", ext4))
    assert len(shown) == len(wanted) == summary["summary"]["found"]
    assert {one["type"] for one in shown} == {"file", "link"}
    nothing = run("find", "--name", "no such", ext4)
    assert (nothing.code, nothing.output) == (0, b"")


def test_find_by_owner(run: Run, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "etc").mkdir(parents=True)
    (top / "etc" / "passwd").write_text(f"me:x:{os.getuid()}:0::/:\n")
    image = make_empty(tmp_path / "image", 8 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    assert "/etc/passwd" in run("find", "--user", "me", image).lines
    assert run("find", "--user", "99999", image).output == b""
    unknown = run("find", "--user", "you", image)
    assert unknown.code == 2
    assert "user you" in unknown.errors
    # Of several volumes, some may not know the name.
    assert run("find", "--all-volumes", "--user", "you", image).code == 1


def test_find_shows_what_it_has_at_once(ext4: Path) -> None:
    """Whoever has seen enough need not wait for the rest."""
    process = subprocess.Popen(
        ["sh", "-c", '"$@" | head -n 1', "sh", sys.executable, "-m", "explorer", "find", ext4],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = process.communicate(timeout=120)
    assert output == b"/\n"
    assert not errors


def test_grep(run: Run, ext4: Path) -> None:
    found = run("grep", ext4, "unicode")
    assert found.code == 0
    assert found.lines == ["/Größe 日本語 😀:0 utf-8: unicode\\n"]
    *shown, summary = objects(run("grep", "--json", "-i", "--encoding", "latin-1", ext4, "NOT UTF"))
    assert [(one["offset"], one["match"], one["after"]) for one in shown] == [
        (0, "not UTF", "-8\\n")
    ]
    assert bytes.fromhex(shown[0]["path_hex"]) == b"/latin caf\xe9 \xff"
    assert summary["summary"]["found"] == 1
    assert len(run("grep", "--regex", ext4, "^(uni|new)").lines) == 2
    hexadecimal = run("grep", "--hex", ext4, "6e 6f 74 20 55 54 46")
    assert hexadecimal.output.startswith(b"/latin caf\\xe9 \\xff:0: not UTF")
    assert run("grep", "--name", "*.txt", ext4, "unicode").output == b""
    assert run("grep", "--max-size", "7", ext4, "unicode").output == b""


def test_grep_goes_on_after_what_cannot_be_read(run: Run, damaged: Path) -> None:
    found = run("grep", damaged, "needle")
    assert found.code == 1
    assert {line.partition(" ")[0] for line in found.lines} == {"/bad:0", "/good:2"}
    assert "/bad" in found.errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("grep", "--hex", "IMAGE", "xyz"),
        ("grep", "--regex", "IMAGE", "("),
        ("grep", "--encoding", "klingon", "IMAGE", "a"),
        ("grep", "IMAGE", ""),
        ("find", "--regex", "(", "IMAGE"),
        ("find", "--size", "x", "IMAGE"),
        ("hash", "--algorithm", "crc32", "IMAGE"),
        ("diff", "IMAGE"),
        ("diff", "--views", "--ignore", "colour", "IMAGE"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], run: Run, ext4: Path) -> None:
    found = run(*(ext4 if one == "IMAGE" else one for one in arguments))
    assert (found.code, found.output) == (2, b"")
    assert found.errors


# ---- diff


def test_diff_of_images_and_volumes(run: Run, ext4: Path, tmp_path: Path, tree: Path) -> None:
    same = run("diff", "--content", ext4, "--against", ext4)
    assert (same.code, same.output) == (0, b"")
    other = tmp_path / "other.img"
    other.write_bytes(ext4.read_bytes())
    for command in ("rm /empty", "sif /block mode 0100600", f"write {tree}/block /added"):
        run_tool("debugfs", "-w", "-R", command, other)
    found = run("diff", ext4, "--against", other)
    assert found.code == 1
    assert set(found.lines) - {"changed: / (modified, changed)"} == {
        "removed: /empty",
        "added: /added",
        "changed: /block (mode)",
        "changed: /folder/second name (mode)",
        "changed: /folder/deeper/third name (mode)",
    }
    *shown, summary = objects(run("diff", "--json", "--ignore", "mode", ext4, "--against", other))
    changes = {one["path"]: one["change"] for one in shown}
    assert changes.pop("/", "changed") == "changed"
    assert changes == {"/empty": "removed", "/added": "added"}
    assert summary == {"summary": {"found": len(shown), "errors": 0}}


def test_diff_of_two_volumes_of_one_image(run: Run, sample: Path) -> None:
    found = run("diff", "--volume", "1", "--against-volume", "2", sample)
    assert found.code == 1
    assert len(found.lines) > 1
    same = run("diff", "--volume", "1", "--against-volume", "1", "--content", sample)
    assert (same.code, same.output) == (0, b"")
    assert run("diff", "--volume", "1", "--against-volume", "9", sample).code == 4
