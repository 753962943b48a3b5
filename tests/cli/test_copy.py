# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``cp``: what comes out equals what went in, and goes where ``cp`` would put it."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import ROOT
from tests.makers import write_tree
from tests.trees import ROOT as IS_ROOT
from tests.trees import (
    Facts,
    assert_same,
    host_facts,
    make_empty,
    noise,
    run_tool,
    whole_seconds,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]


def as_copied(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """What an ordinary user's copy keeps: not the owner, and no setuid bits with it."""
    if IS_ROOT:
        return dict(facts)
    return {
        path: replace(one, uid=os.getuid(), gid=os.getgid(), mode=one.mode & 0o1777)
        for path, one in facts.items()
    }


@pytest.mark.parametrize("name", ["ext4-written", "xfs", "btrfs-written", "f2fs"])
def test_the_root_into_a_new_folder(
    run: Run,
    name: str,
    image_of: Callable[[str], Path],
    unchanged: Callable[[Path], Path],
    tree: Path,
    tmp_path: Path,
) -> None:
    found = run("cp", "-r", "--special", unchanged(image_of(name)), "/", tmp_path / "new")
    assert (found.code, found.errors, found.output) == (0, "", b"")
    assert_same(without(host_facts(tmp_path / "new"), b"lost+found"), as_copied(host_facts(tree)))
    assert not list(tmp_path.rglob("*.part"))
    sparse = (tmp_path / "new" / "sparse").stat()
    assert sparse.st_blocks * 512 < 1 << 20


def test_where_things_go(run: Run, ext4: Path, tmp_path: Path) -> None:
    """Every case beside what cp makes of the same tree."""
    content = noise(4096, 1)
    (tmp_path / "folder").mkdir()
    assert run("cp", ext4, "/block", tmp_path / "renamed").code == 0
    assert (tmp_path / "renamed").read_bytes() == content
    assert run("cp", ext4, "/block", "/empty", f"{tmp_path}/folder").code == 0
    assert (tmp_path / "folder" / "block").read_bytes() == content
    assert (tmp_path / "folder" / "empty").read_bytes() == b""
    # A folder into one that exists keeps its name; into a new one it takes the new name.
    assert run("cp", "-r", ext4, "/folder", tmp_path / "folder").code == 0
    assert (tmp_path / "folder" / "folder" / "deeper" / "deepest" / "small").is_file()
    assert run("cp", "-r", ext4, "/folder", tmp_path / "other").code == 0
    assert (tmp_path / "other" / "deeper" / "deepest" / "small").is_file()
    # Contents only.
    assert run("cp", "-r", ext4, "/folder/.", tmp_path / "folder").code == 0
    assert (tmp_path / "folder" / "deeper" / "deepest" / "small").is_file()
    assert run("cp", "-r", ext4, "/", tmp_path / "folder").code == 0
    assert (tmp_path / "folder" / "sparse").is_file()


def test_links(run: Run, ext4: Path, tmp_path: Path) -> None:
    assert run("cp", ext4, "/to a file", tmp_path / "file").code == 0
    assert (tmp_path / "file").read_bytes() == noise(3 * 2**20 + 17, 2)
    assert run("cp", "-r", ext4, "/to a file", tmp_path / "link").code == 0
    assert os.readlink(tmp_path / "link") == "folder/large"


def test_a_relative_target(run: Run, ext4: Path, tmp_path: Path) -> None:
    assert run("cp", ext4, "block", "copy", folder=tmp_path).code == 0
    assert run("cp", ext4, "empty", ".", folder=tmp_path).code == 0
    assert sorted(os.listdir(tmp_path)) == ["copy", "empty"]


def test_files_are_replaced_as_by_cp(run: Run, ext4: Path, tmp_path: Path) -> None:
    (tmp_path / "block").write_bytes(b"mine")
    assert run("cp", ext4, "/block", tmp_path).code == 0
    assert (tmp_path / "block").read_bytes() == noise(4096, 1)


def refused(found: Outcome, code: int, *parts: str) -> None:
    assert found.code == code, found.errors
    assert len(found.errors.splitlines()) == 1, found.errors
    for part in parts:
        assert part in found.errors


def test_what_is_refused(run: Run, ext4: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    refused(run("cp", ext4, "/folder", tmp_path / "x"), 6, "/folder", "-r")
    refused(run("cp", ext4, "/none", tmp_path / "x"), 5, "/none")
    refused(run("cp", ext4, "/block", tmp_path / "no" / "x"), 6, str(tmp_path / "no"))
    refused(run("cp", ext4, "/block", f"{tmp_path}/x/"), 6, "x", "folder")
    refused(run("cp", "-r", ext4, "/folder", tmp_path / "file"), 6, "file", "folder")
    refused(run("cp", ext4, "/block", "/empty", tmp_path / "x"), 6, "x", "folder")
    assert os.listdir(tmp_path) == ["file"]


def test_the_image_itself_is_never_replaced(
    run: Run, ext4: Path, tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    image = tmp_path / "block"
    shutil.copyfile(ext4, image)
    unchanged(image)
    refused(run("cp", image, "/block", image), 6, "block", "image")
    refused(run("cp", image, "/block", tmp_path), 6, "block", "image")
    refused(run("cp", "-r", image, "/", tmp_path), 6, "block", "image")
    (tmp_path / "link").symlink_to("block")
    refused(run("cp", image, "/block", tmp_path / "link"), 6, "block", "image")
    assert run("cp", "-r", image, "/folder", tmp_path).code == 0


def test_an_unwritable_target(run: Run, ext4: Path) -> None:
    # Not even root writes into /proc.
    found = run("cp", ext4, "/block", "/proc/x")
    assert found.code in (1, 6)
    assert "/proc" in found.errors
    assert "cannot be written" in found.errors or "are free" in found.errors


def damage(image: Path, tmp_path: Path) -> Path:
    """An image of which a single file cannot be read: its bytes end before it."""
    copy = make_empty(tmp_path / "damaged.img", 64 << 20)
    top = tmp_path / "top"
    top.mkdir()
    (top / "good").write_bytes(b"good")
    (top / "bad").write_bytes(noise(8192, 4))
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, copy)
    # A block number far outside.
    run_tool("debugfs", "-w", "-R", "set_inode_field bad block[0] 0", copy)
    run_tool("debugfs", "-w", "-R", "set_inode_field bad block[2] 0xffffffff", copy)
    return copy


def test_an_entry_that_cannot_be_read_is_reported(
    run: Run, ext4: Path, tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    image = unchanged(damage(ext4, tmp_path))
    found = run("cp", "-r", image, "/", tmp_path / "new")
    assert found.code == 1
    assert "/bad: " in found.errors
    assert "1 of" in found.errors.splitlines()[-1]
    assert (tmp_path / "new" / "good").read_bytes() == b"good"
    assert not (tmp_path / "new" / "bad").exists()
    assert not list(tmp_path.rglob("*.part"))
    report = run("cp", "-r", "--json", image, "/", tmp_path / "again").json
    assert (report["failed"], report["complete"]) == (1, True)
    assert [one["path"] for one in report["failures"]] == ["/bad"]
    listed = run("ls", image)
    assert listed.code == 1
    assert "bad" in listed.lines


def test_a_report_as_json(run: Run, ext4: Path, tmp_path: Path) -> None:
    report = run("cp", "-r", "--json", ext4, "/folder", tmp_path).json
    assert report["entries"] == 9
    assert report["copied"] == 9
    assert report["failed"] == report["damaged"] == report["done_before"] == 0
    assert report["failures"] == []
    assert report["skipped"] == {}
    assert report["bytes"] >= 3 * 2**20


def test_a_progress_bar_on_a_terminal(built: None, ext4: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "explorer", "cp", "-r", "--special", ext4, "/", tmp_path / "new"],
        cwd=ROOT,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:
                break
            if not piece:
                break
            shown += piece
    os.close(ours)
    assert process.returncode == 0
    # A copy that is over at once needs no bar; one that was begun is taken away again.
    assert not shown or (b"%" in shown and shown.endswith(b"\r\x1b[K"))


def test_ctrl_c_leaves_nothing_half_written(built: None, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for number in range(400):
        (top / f"{number}").write_bytes(noise(1 << 18, number))
    image = make_empty(tmp_path / "image", 256 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    process = subprocess.Popen(
        [sys.executable, "-m", "explorer", "cp", "-r", image, "/", tmp_path / "new"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    # As soon as it copies.
    while not (tmp_path / "new").exists() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    errors = process.stderr.read().decode()
    process.stderr.close()
    code = process.wait(timeout=60)
    assert "Traceback" not in errors
    # On a machine that is fast enough it was done before.
    assert code in (0, 130)
    if code == 130:
        assert errors == "lkl-explorer: interrupted\n"
    assert not list(tmp_path.rglob("*.part"))
    for path in (tmp_path / "new").glob("[0-9]*"):
        assert path.read_bytes() == noise(1 << 18, int(path.name))


# ---- What is there already, what is asked for, what was interrupted -----------------------------


def test_conflicts(run: Run, ext4: Path, tmp_path: Path) -> None:
    block = tmp_path / "block"
    block.write_bytes(b"mine")
    found = run("cp", "--json", "--conflicts", "skip", ext4, "/block", tmp_path)
    assert (found.code, found.json["skipped"]) == (0, {"exists": 1})
    assert block.read_bytes() == b"mine"
    # Nobody is there to be asked.
    assert run("cp", "--conflicts", "ask", ext4, "/block", tmp_path).code == 0
    assert block.read_bytes() == b"mine"
    # It was written just now.
    found = run("cp", "--json", "--conflicts", "newer", ext4, "/block", tmp_path)
    assert (found.code, found.json["skipped"]) == (0, {"not-newer": 1})
    os.utime(block, (1, 1))
    assert run("cp", "--conflicts", "newer", ext4, "/block", tmp_path).code == 0
    assert block.read_bytes() == noise(4096, 1)
    block.write_bytes(b"mine")
    found = run("cp", "--json", "--conflicts", "rename", ext4, "/block", tmp_path)
    (mapped,) = found.json["mapped"]
    assert block.read_bytes() == b"mine"
    assert (tmp_path / mapped["name"]).read_bytes() == noise(4096, 1)


def test_what_stands_in_the_way_is_asked_about(built: None, ext4: Path, tmp_path: Path) -> None:
    (tmp_path / "block").write_bytes(b"mine")
    (tmp_path / "empty").write_bytes(b"mine too")
    argv = [sys.executable, "-m", "explorer", "cp", "--conflicts", "ask", str(ext4)]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*argv, "/block", "/empty", tmp_path], cwd=ROOT, stdin=theirs, stderr=subprocess.PIPE
    ) as process:
        os.close(theirs)
        os.write(ours, b"what?\ns\no\n")
        assert process.stderr is not None
        said = process.stderr.read().decode()
    os.close(ours)
    assert process.returncode == 0, said
    assert said.count("[s]kip") == 3
    assert "4 bytes" in said
    assert (tmp_path / "block").read_bytes() == b"mine"
    assert (tmp_path / "empty").read_bytes() == b""


def test_a_copy_is_tried_before_it_is_made(run: Run, ext4: Path, tmp_path: Path) -> None:
    (tmp_path / "block").write_bytes(b"mine")
    found = run("cp", "-r", "--dry-run", "--json", "--names", "windows", ext4, "/", tmp_path)
    assert found.code == 0
    assert found.json["complete"]
    assert found.json["bytes"] > 3 << 20
    assert os.listdir(tmp_path) == ["block"]
    mapped = {one["path"]: one["name"] for one in found.json["mapped"]}
    done = run("cp", "-r", "--json", "--names", "windows", ext4, "/", tmp_path).json
    assert {one["path"]: one["name"] for one in done["mapped"]} == mapped
    assert mapped
    for path, name in mapped.items():
        assert not set(name) & set('<>:"/\\|?*')
        assert os.path.lexists(tmp_path / name) or path.count("/") > 1


def test_links_as_text_or_not_at_all(run: Run, ext4: Path, tmp_path: Path) -> None:
    assert run("cp", "-r", "--symlinks", "text", ext4, "/to a file", tmp_path).code == 0
    assert (tmp_path / "to a file").read_bytes() == b"folder/large"
    found = run("cp", "-r", "--json", "--symlinks", "skip", ext4, "/to a file", tmp_path / "x")
    assert found.json["skipped"] == {"symlinks": 1}
    assert run("cp", "-r", "--symlinks", "follow", ext4, "/to a file", tmp_path / "y").code == 0
    assert (tmp_path / "y").read_bytes() == noise(3 * 2**20 + 17, 2)


def test_a_hole_in_place_of_what_cannot_be_read(run: Run, tmp_path: Path) -> None:
    content = noise(256 << 10, 4)
    top = tmp_path / "top"
    top.mkdir()
    (top / "bad").write_bytes(content)
    raw = make_empty(tmp_path / "raw.img", 8 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, raw)
    run_tool("ewfacquire", "-u", "-q", "-c", "none", "-t", tmp_path / "damaged", raw)
    image = tmp_path / "damaged.E01"
    # A chunk of 32 KiB whose checksum is wrong.
    stored = bytearray(image.read_bytes())
    stored[stored.index(content[100_000:100_064])] ^= 1
    image.write_bytes(stored)
    found = run("cp", "-r", "--holes", "--json", image, "/", tmp_path / "new")
    assert (found.code, found.json["damaged"], found.json["failed"]) == (1, 1, 0)
    copied = (tmp_path / "new" / "bad").read_bytes()
    assert len(copied) == len(content)
    lost = [at for at in range(0, len(content), 4096) if copied[at:][:4096] != content[at:][:4096]]
    assert 1 <= len(lost) <= 9
    assert all(copied[at:][:4096] == bytes(4096) for at in lost)
    # Without that, it is left out.
    found = run("cp", "-r", "--json", image, "/", tmp_path / "other")
    assert (found.code, found.json["damaged"], found.json["failed"]) == (1, 0, 1)
    assert not (tmp_path / "other" / "bad").exists()


def test_a_manifest_tells_of_everything(run: Run, ext4: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.json"
    argv = ("cp", "-r", "--hash", "md5", "--hash", "sha256", "--manifest", listed)
    assert run(*argv, ext4, "/", tmp_path / "new").code == 0
    head, *entries, end = map(json.loads, listed.read_text().splitlines())
    assert head["digests"] == "md5 sha256"
    accounts = end["accounts"]
    assert accounts["seen"] == len(entries)
    assert accounts["seen"] == accounts["copied"] + sum(accounts["skipped"].values())
    files = [one for one in entries if one["type"] == "file" and "same_as" not in one]
    for one in files:
        name = bytes.fromhex(one["target_hex"]) if "target_hex" in one else one["target"].encode()
        content = (tmp_path / "new" / os.fsdecode(name.partition(b"/")[2])).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["sha256"]
        assert hashlib.md5(content).hexdigest() == one["md5"]
    assert len(files) > 5


def test_a_report_tells_of_source_and_copy(run: Run, ext4: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ("--report", report, "--hash-source")
    assert run("cp", "-r", *options, ext4, "/folder", tmp_path).code == 0
    told = json.loads(report.read_text())
    digest = hashlib.sha256(ext4.read_bytes()).hexdigest()
    assert {one["before"]["sha256"] for one in told["hashes"]} == {digest}
    assert {one["after"]["sha256"] for one in told["hashes"]} == {digest}
    assert {one["verdict"] for one in told["hashes"]} == {"the same"}
    assert (told["written_bytes"], told["problems"]) == (0, [])
    (copy,) = told["copies"]
    assert copy["complete"]
    content = noise(3 * 2**20 + 17, 2)
    (large,) = (one for one in copy["files"] if one["path"] == "/folder/large")
    assert large["digests"] == {"sha256": hashlib.sha256(content).hexdigest()}
    page = tmp_path / "report.html"
    assert run("cp", "-r", "--report", page, ext4, "/folder", tmp_path / "again").code == 0
    assert "<h2>Problems</h2>\n<p>None.</p>" in page.read_text()
    assert (tmp_path / "report.html.manifest.csv").is_file()


def test_what_was_killed_is_gone_on_with(built: None, run: Run, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for number in range(300):
        (top / f"{number}").write_bytes(noise(1 << 18, number))
    image = make_empty(tmp_path / "image", 256 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    new = tmp_path / "new"
    new.mkdir()
    argv = ("cp", "-r", image, "/.", new)
    refused(run(*argv[:2], "--resume", *argv[2:]), 6, "unfinished")
    process = subprocess.Popen(
        [sys.executable, "-m", "explorer", *argv], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    while len(os.listdir(new)) < 30 and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    found = run(*argv[:2], "--resume", "--json", *argv[2:])
    if found.code == 6:
        # It was done before it was killed.
        assert "unfinished" in found.errors
    else:
        assert (found.code, found.json["complete"], found.json["failed"]) == (0, True, 0)
    # Its maker writes seconds.
    ours, wanted = whole_seconds(host_facts(new)), whole_seconds(as_copied(host_facts(top)))
    assert_same(without(ours, b"", b"lost+found"), without(wanted, b""))


# ---- A real tree -------------------------------------------------------------------------------

PACKAGES = ("base-files", "bash", "coreutils", "libc-bin", "perl-base", "tzdata", "util-linux")


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of installed Debian packages, as they stand on this machine."""
    if shutil.which("dpkg-query") is None:
        pytest.skip("needs a Debian system")
    top = tmp_path_factory.mktemp("debian") / "root"
    top.mkdir()
    listed = subprocess.run(
        ["dpkg-query", "-L", *PACKAGES], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    # /bin is a link to /usr/bin today: the folders as they are, so that all unpacks.
    paths = {
        os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        for path in listed
        if os.path.lexists(path) and path != "/."
    }
    files = sorted(path for path in paths if os.access(path, os.R_OK) or os.path.islink(path))
    folders = {path for path in files if os.path.isdir(path) and not os.path.islink(path)}
    packed = subprocess.run(
        ["tar", "-c", "--no-recursion", "--xattrs", "-C", "/", "-T", "-"],
        input="\n".join(path.lstrip("/") for path in files).encode(),
        capture_output=True,
        check=False,
    )
    # 1: something changed meanwhile; what was packed is the truth all the same.
    assert packed.returncode in (0, 1), packed.stderr
    subprocess.run(["tar", "-xp", "--xattrs", "-C", top], input=packed.stdout, check=True)
    assert len(files) > 1000
    assert len(folders) > 50
    return top


def make_ext4(tree: Path, image: Path) -> None:
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, image)


def make_btrfs(tree: Path, image: Path) -> None:
    run_tool("mkfs.btrfs", "-q", "--rootdir", tree, image)


def make_xfs(tree: Path, image: Path) -> None:
    run_tool("mkfs.xfs", "-q", image)
    write_tree("xfs", tree, image)
    run_tool("xfs_repair", "-n", image)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "exact"),
    [(make_ext4, False), (make_btrfs, False), (make_xfs, True)],
    ids=["ext4", "btrfs", "xfs"],
)
def test_a_debian_tree(
    run: Run,
    make: Callable[[Path, Path], None],
    exact: bool,
    debian: Path,
    tmp_path: Path,
    unchanged: Callable[[Path], Path],
) -> None:
    image = make_empty(tmp_path / "image", 512 << 20)
    make(debian, image)
    found = run("cp", "-r", unchanged(image), "/", tmp_path / "new")
    assert (found.code, found.errors) == (0, "")
    ours = without(host_facts(tmp_path / "new"), b"lost+found")
    wanted = as_copied(host_facts(debian))
    if not exact:
        # The makers of these write seconds, and a root of their own.
        ours, wanted = (without(whole_seconds(facts), b"") for facts in (ours, wanted))
    assert_same(ours, wanted)
