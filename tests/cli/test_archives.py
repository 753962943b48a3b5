# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``tar`` and ``zip``: what the tools of these formats find in them, and pipes that are closed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

from tests.cli.conftest import ROOT
from tests.trees import noise

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]


def test_a_tar_archive_on_standard_output(run: Run, ext4: Path, tmp_path: Path) -> None:
    found = run("tar", ext4, "/folder", "/block")
    assert (found.code, found.errors) == (0, "")
    archive = tmp_path / "a.tar"
    archive.write_bytes(found.output)
    assert subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True).returncode == 0
    assert (tmp_path / "block").read_bytes() == noise(4096, 1)
    assert (tmp_path / "folder" / "large").read_bytes() == noise(3 * 2**20 + 17, 2)
    with tarfile.open(archive) as opened:
        assert {member.name.split("/")[0] for member in opened} == {"folder", "block"}


def test_archives_as_files(run: Run, ext4: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.json"
    argv = ("zip", "-o", tmp_path / "a.zip", "--manifest", listed, "--json", ext4, "/folder")
    report = run(*argv).json
    assert (report["complete"], report["failed"], report["damaged"]) == (True, 0, 0)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        content = archive.read("folder/large")
    assert content == noise(3 * 2**20 + 17, 2)
    assert hashlib.sha256(content).hexdigest() in listed.read_text()
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "list.json"]


def test_a_reader_that_goes_away_is_no_error(built: None, ext4: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "explorer", "tar", ext4, "/"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (128 + signal.SIGPIPE, b"")
