# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands in a process that may open nothing: all that its keeper has to do for it."""

from __future__ import annotations

import gzip
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from explorer.host.folders import PROGRAM
from tests.cli.conftest import ROOT
from tests.images.test_remote import Site
from tests.trees import run_tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Outcome

PASSPHRASE = b"open, please"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """An ext4 with one file."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "letter").write_bytes(b"dear reader")
    image = tmp_path / "small.img"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, image)
    return image


@pytest.fixture
def locked(small: Path, tmp_path: Path) -> Path:
    """The same, encrypted; its key is made by Argon2, which is a library of its own."""
    path = tmp_path / "locked.img"
    shutil.copyfile(small, path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + (32 << 20))
    (tmp_path / "key").write_bytes(PASSPHRASE)
    run_tool(
        *("cryptsetup", "--batch-mode", f"--key-file={tmp_path / 'key'}", "reencrypt"),
        *("--encrypt", "--reduce-device-size=32M", "--type=luks2", "--pbkdf=argon2id"),
        *("--pbkdf-memory=65536", "--pbkdf-force-iterations=4", "--pbkdf-parallel=4"),
        path,
    )
    return path


def test_a_key_file_is_read_for_it(
    run: Callable[..., Outcome], locked: Path, tmp_path: Path
) -> None:
    done = run("cat", "--key-file", tmp_path / "key", locked, "/letter")
    assert (done.code, done.output) == (0, b"dear reader")
    done = run("cat", "--key-file", tmp_path / "none", locked, "/letter")
    assert done.code == 3
    assert "none" in done.errors


AT_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from explorer.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


class Terminal:
    """The program at a terminal, and a person."""

    def __init__(self, *arguments: str | Path) -> None:
        ours, theirs = pty.openpty()
        self._ours = ours
        # Its own session, whose terminal this is: where Ctrl-C comes from, and passphrases.
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                AT_TERMINAL,
                *map(str, arguments),
            ],
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = b""

    def wait_for(self, text: bytes) -> None:
        """Reads until the program has shown something."""
        until = time.monotonic() + 60
        while text not in self.shown:
            assert time.monotonic() < until, self.shown
            try:
                piece = os.read(self._ours, 4096)
            except OSError:
                piece = b""
            assert piece, self.shown
            self.shown += piece

    def type(self, text: bytes) -> None:
        """Types something."""
        os.write(self._ours, text)

    def end(self) -> int:
        """The exit code."""
        code = self.process.wait(60)
        try:
            while piece := os.read(self._ours, 4096):
                self.shown += piece
        except OSError:
            pass
        os.close(self._ours)
        return code


def test_a_person_is_asked_for_it(built: None, locked: Path) -> None:
    terminal = Terminal("cat", locked, "/letter")
    terminal.wait_for(b"Passphrase for ")
    terminal.type(b"wrong\n")
    terminal.wait_for(b"Wrong. Passphrase for ")
    terminal.type(PASSPHRASE + b"\n")
    assert terminal.end() == 0, terminal.shown
    assert terminal.shown.endswith(b"dear reader")
    # Neither is shown.
    assert b"please" not in terminal.shown


def test_it_could_not_read_what_is_typed(built: None, locked: Path) -> None:
    terminal = Terminal("cat", locked, "/letter")
    terminal.wait_for(b"Passphrase for ")
    keeper = terminal.process.pid
    (confined,) = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    assert os.readlink(f"/proc/{confined}/fd/0") == os.devnull
    for number in (1, 2):
        text = Path(f"/proc/{confined}/fdinfo/{number}").read_text()
        flags = int(text.partition("flags:")[2].split()[0], 8)
        assert flags & os.O_ACCMODE == os.O_WRONLY
    terminal.type(PASSPHRASE + b"\n")
    assert terminal.end() == 0


def test_ctrl_c_takes_the_question_away(built: None, locked: Path) -> None:
    terminal = Terminal("cat", locked, "/letter")
    terminal.wait_for(b"Passphrase for ")
    terminal.type(b"\x03")
    assert terminal.end() == 130, terminal.shown
    assert b"Traceback" not in terminal.shown


def test_what_was_found_out_is_kept_for_it(
    run: Callable[..., Outcome], small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packed = tmp_path / "small.img.gz"
    with gzip.open(packed, "wb") as file:
        file.write(small.read_bytes())
    kept = tmp_path / "cache" / PROGRAM / "seek-points"
    assert run("cat", packed, "/letter").output == b"dear reader"
    (record,) = kept.iterdir()
    first = record.stat()
    # Found again, and used: it is not written anew.
    assert run("cat", packed, "/letter").output == b"dear reader"
    (record,) = kept.iterdir()
    assert record.stat().st_ino == first.st_ino
    assert record.stat().st_mtime_ns > first.st_mtime_ns


def test_a_server_is_read_for_it(
    run: Callable[..., Outcome], small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "site"
    folder.mkdir()
    run_tool("qemu-img", "convert", "-O", "raw", small, folder / "base.img")
    run_tool(
        *("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.img"),
        folder / "disk.qcow2",
    )
    site = Site(folder)
    try:
        assert run("cat", f"{site.url}/disk.qcow2", "/letter").output == b"dear reader"
        assert site.asked
        done = run("ls", f"{site.url}/none.img")
        assert done.code == 3
        assert "none.img" in done.errors
    finally:
        site.close()


def test_files_outside_take_the_users_word(
    run: Callable[..., Outcome], small: Path, tmp_path: Path
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    disk = inner / "disk.qcow2"
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", small, disk)
    done = run("ls", disk)
    assert done.code == 3
    assert "--allow-path" in done.errors
    done = run("cat", "--allow-path", tmp_path, disk, "/letter")
    assert (done.code, done.output) == (0, b"dear reader")


def test_an_image_within_has_a_kernel_of_its_own(
    run: Callable[..., Outcome], small: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "outer"
    folder.mkdir()
    run_tool("qemu-img", "convert", "-c", "-O", "qcow2", small, folder / "inner.qcow2")
    image = tmp_path / "outer.img"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, image)
    done = run("cat", "--inside", "/inner.qcow2", image, "/letter")
    assert (done.code, done.output) == (0, b"dear reader")


def test_a_crash_is_told(built: None, small: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "explorer", "grep", "nothing", small],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (found := children.read_text().split()) and process.poll() is None:
            time.sleep(0.01)
        assert found
        os.kill(int(found[0]), signal.SIGSEGV)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGSEGV
    assert b"signal 11" in errors or b"SIGSEGV" in errors
