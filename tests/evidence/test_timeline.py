# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Timelines, beside the Sleuth Kit's own and what the host knows of the tree."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from explorer.core.times import iso_time
from explorer.evidence.timeline import CSV_COLUMNS, timeline
from explorer.evidence.walking import walk_tree
from tests.trees import ROOT, find_tool, make_empty, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.evidence.timeline import Form
    from explorer.kernel import Mount

    MountImage = Callable[[Path], Mount]

PIPE = b"pipe | 100% |"
CONTROL = b"line\nbreak \x1b[31m\t\x7f"


def text_of(mount: Mount, form: Form, start: bytes = b"/") -> bytes:
    rows = list(timeline(mount, start, form))
    assert not any(row.failures for row in rows)
    return b"".join(row.text for row in rows)


def fls(image: Path) -> list[bytes]:
    """The Sleuth Kit's body file, without what it makes up and what was deleted."""
    done = subprocess.run(
        [find_tool("fls"), "-m", "/", "-r", image], capture_output=True, check=True
    )
    return [
        line
        for line in done.stdout.splitlines()
        if b"$OrphanFiles" not in line and not re.search(rb"\(deleted(-realloc)?\)", line)
    ]


def as_fls_writes(body: bytes) -> list[bytes]:
    """Our rows but for the root's, which fls has none for, with names as fls leaves them.

    It writes control bytes as ``^``, but for DEL, and knows no target that fills a block.
    """
    rows = [row for row in body.splitlines() if not row.startswith(b"0|/|")]
    restored = (row.replace(b"%7C", b"|").replace(b"%25", b"%") for row in rows)
    shown = (re.sub(rb"\\x[01][0-9a-f]", b"^", row) for row in restored)
    return [row.replace(rb"\x7f", b"\x7f").replace(b" -> " + b"t" * 1000, b"") for row in shown]


@pytest.fixture
def plain(tmp_path: Path, tree: Path) -> Path:
    """The tree as mke2fs puts it into an ext4, with names that are hard to put into a line."""
    copy = tmp_path / "copy"
    run_tool("cp", "-a", tree, copy)
    for name in (PIPE, CONTROL):
        with open(os.fsencode(copy) + b"/" + name, "wb") as file:
            file.write(b"text")
    os.symlink(b"to|a\nplace", os.fsencode(copy) + b"/link to %7C")
    image = make_empty(tmp_path / "plain.img", 64 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", copy, image)
    return image


def test_body_file_has_the_rows_of_fls(plain: Path, mount: MountImage) -> None:
    ours = as_fls_writes(text_of(mount(plain), "body"))
    theirs = fls(plain)
    assert len(ours) == len(theirs)
    ours_by, theirs_by = (
        {tuple(row.rsplit(b"|", 9)[0:2]): row for row in rows} for rows in (ours, theirs)
    )
    assert ours_by.keys() == theirs_by.keys()
    for key, row in ours_by.items():
        fields, wanted = row.rsplit(b"|", 9)[2:], theirs_by[key].rsplit(b"|", 9)[2:]
        # mode, uid, gid, size
        assert fields[:4] == wanted[:4], key
        for mine, other in zip(fields[4:], wanted[4:], strict=True):
            # mke2fs keeps 32 bits of a time, which are signed to Linux, and not to fls.
            assert int(mine) % (1 << 32) == int(other), key


def test_mactime_reads_the_body_file(plain: Path, mount: MountImage, tmp_path: Path) -> None:
    mounted = mount(plain)
    body = tmp_path / "body"
    body.write_bytes(text_of(mounted, "body"))
    done = subprocess.run(
        [find_tool("mactime"), "-y", "-m", "-d", "-b", body], capture_output=True, check=True
    )
    lines = done.stdout.splitlines()[1:]
    # Each name is in a row of its own, as it is but for control bytes.
    names = {line.split(b",", 7)[7].strip(b'"') for line in lines}
    wanted = set()
    for batch in walk_tree(mounted):
        for path, entry in batch.entries:
            if entry.type != stat.S_IFLNK >> 12 and max(
                entry.modify_ns or 0, entry.access_ns or 0, entry.change_ns or 0
            ):
                wanted.add(path)
    shown = {re.sub(rb"[\0-\x1f\x7f]", lambda one: b"\\x%02x" % one[0][0], path) for path in wanted}
    assert shown <= names
    assert b"/" + PIPE in names
    assert not any(b"\x1b" in line for line in lines)


@pytest.mark.skipif(not ROOT, reason="owners")
def test_csv_and_json_have_nanoseconds(
    image_of: Callable[[str], Path], tree: Path, mount: MountImage
) -> None:
    mounted = mount(image_of("ext4-written"))
    rows = list(csv.reader(io.StringIO(text_of(mounted, "csv").decode(), newline="")))
    assert tuple(rows[0]) == CSV_COLUMNS
    found = [dict(zip(CSV_COLUMNS, row, strict=True)) for row in rows[1:]]
    objects = [json.loads(line) for line in text_of(mounted, "json").splitlines()]
    assert len(objects) == len(found)
    top = os.fsencode(tree)
    seen = set()
    for row, shown in zip(found, objects, strict=True):
        raw = bytes.fromhex(row["path_hex"]) if row["path_hex"] else row["path"].encode()
        assert raw == (
            bytes.fromhex(shown["path_hex"]) if "path_hex" in shown else shown["path"].encode()
        )
        if raw == b"/lost+found":
            continue
        seen.add(raw)
        info = os.lstat(top + raw)
        entry = mounted.stat(raw)
        for key, time in (
            # The host's own time of access moves with each test.
            ("accessed", entry.access_ns),
            ("modified", info.st_mtime_ns),
            ("changed", entry.change_ns),
            ("born", entry.birth_ns),
        ):
            assert time is not None
            assert int(row[f"{key}_ns"]) == time == shown[f"{key}_ns"], raw
            assert row[key] == iso_time(time) == shown[key]
        assert row["mode"] == stat.filemode(info.st_mode)
        assert (int(row["uid"]), int(row["gid"])) == (info.st_uid, info.st_gid)
        assert int(row["inode"]) == shown["inode"]
        target = os.readlink(top + raw) if stat.S_ISLNK(info.st_mode) else b""
        assert (
            bytes.fromhex(row["target_hex"]) if row["target_hex"] else row["target"].encode()
        ) == target
    wanted = {b"/"}
    for folder, folders, files in os.walk(top):
        wanted |= {(folder + b"/" + name)[len(top) :] for name in folders + files}
    assert seen == wanted


def test_a_part_of_the_volume(plain: Path, mount: MountImage) -> None:
    mounted = mount(plain)
    body = text_of(mounted, "body", b"folder/")
    paths = [row.split(b"|")[1] for row in body.splitlines()]
    assert paths[0] == b"/folder"
    assert all(path.startswith(b"/folder") for path in paths)
    (row,) = text_of(mounted, "body", b"/one byte").splitlines()
    assert row.startswith(b"0|/one byte|")


def test_a_walk_names_each_entry_by_its_path(tmp_path: Path, mount: MountImage) -> None:
    """Empty folders and deep ones, in an order in which each is entered long after it is met."""
    top = tmp_path / "top"
    for number in range(40):
        (top / f"a{number}" / f"b{number}" / "c").mkdir(parents=True)
        (top / f"empty{number}").mkdir()
        (top / f"a{number}" / f"file{number}").touch()
        (top / f"a{number}" / f"b{number}" / f"deep{number}").touch()
    image = make_empty(tmp_path / "image", 16 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    found = [path for batch in walk_tree(mount(image)) for path, _entry in batch.entries]
    root = os.fsencode(top)
    wanted = {b"/", b"/lost+found"}
    for folder, folders, files in os.walk(root):
        wanted |= {(folder + b"/" + name)[len(root) :] for name in folders + files}
    assert set(found) == wanted
    assert len(found) == len(wanted)


def test_what_cannot_be_entered_is_reported(tmp_path: Path, mount: MountImage) -> None:
    top = tmp_path / "top"
    for folder in ("a/inside", "b", "c"):
        (top / folder).mkdir(parents=True)
    image = make_empty(tmp_path / "image", 8 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    # A folder that stands in itself, as only a damaged file system has it.
    run_tool("debugfs", "-w", "-R", "link a a/again", image)
    rows = list(timeline(mount(image)))
    (failure,) = [failure for row in rows for failure in row.failures]
    assert failure.path == b"/a/again"
    assert {row.split(b"|")[1] for one in rows for row in one.text.splitlines()} == {
        *(b"/", b"/a", b"/a/again", b"/a/inside", b"/b", b"/c", b"/lost+found"),
    }
