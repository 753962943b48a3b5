# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The private folders of drags, and what is left of those of dead processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from explorer.host.processes import process_start
from explorer.ui.dragout.folder import TemporaryFolder, remove_left_folders

MAKE = """
import sys
from explorer.ui.dragout.folder import TemporaryFolder
print(TemporaryFolder().make(), flush=True)
sys.stdin.read()
"""
END_SECONDS = 60


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of its own for temporary files."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("TMPDIR", str(place))
    return place


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", MAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    inner = folder / "locked"
    inner.mkdir()
    (inner / "file").touch()
    (folder / "link").symlink_to(outside)
    inner.chmod(0o500)
    # While it lives, its files are its own.
    remove_left_folders()
    assert (inner / "file").exists()
    process.kill()
    process.wait(END_SECONDS)
    process.stdin.close()
    process.stdout.close()
    assert folder.exists()
    remove_left_folders()
    assert not folder.parent.exists()
    assert (outside / "kept").exists()


def test_a_number_used_again_keeps_nothing_alive() -> None:
    mine = TemporaryFolder()
    folder = mine.make().parent
    start = process_start(os.getpid())
    assert start is not None
    earlier = folder.parent / f"{os.getpid()}-{start - 1}-x"
    earlier.mkdir(mode=0o700)
    remove_left_folders()
    assert folder.exists()
    assert not earlier.exists()
    mine.remove()
    assert not folder.exists()


def test_what_is_not_its_own_is_left(tmp_path: Path) -> None:
    common = TemporaryFolder().make().parent.parent
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (outside / "kept").touch()
    (common / "999999999-1-link").symlink_to(outside)
    (common / "999999999-1-file").touch()
    (common / "another").mkdir(mode=0o700)
    (common / "999999999-1-open").mkdir()
    (common / "999999999-1-open").chmod(0o755)
    before = sorted(common.iterdir())
    remove_left_folders()
    assert sorted(common.iterdir()) == before
    assert (outside / "kept").exists()


def test_a_taken_name_is_not_used(temporary: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    left = outside / "999999999-1-x"
    left.mkdir(mode=0o700)
    (temporary / f"lkl-explorer-{os.getuid()}").symlink_to(outside)
    folder = TemporaryFolder().make()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(outside.iterdir()) == [left]
    remove_left_folders()
    assert left.exists()
