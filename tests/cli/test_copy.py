# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``cp``: what comes out equals what went in, and goes where ``cp`` would put it."""

from __future__ import annotations

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
    found = run("cp", "-r", unchanged(image_of(name)), "/", tmp_path / "new")
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
    assert "/block" in found.errors
    assert "host" in found.errors


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
    assert report["errors"] == 1
    assert [one["path"] for one in report["failures"]] == ["/bad"]
    listed = run("ls", image)
    assert listed.code == 1
    assert "bad" in listed.lines


def test_a_report_as_json(run: Run, ext4: Path, tmp_path: Path) -> None:
    report = run("cp", "-r", "--json", ext4, "/folder", tmp_path).json
    assert report["entries"] == 9
    assert report["errors"] == 0
    assert report["failures"] == []
    assert report["bytes"] >= 3 * 2**20


def test_a_progress_bar_on_a_terminal(built: None, ext4: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "explorer", "cp", "-r", ext4, "/", tmp_path / "new"],
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
