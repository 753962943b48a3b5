# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The program as people run it: another process, with arguments, output and exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from explorer.core.errors import ExplorerError
from explorer.native.locate import find_sample
from tests.trees import make_empty, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the program gave."""

    code: int
    output: bytes
    errors: str

    @property
    def lines(self) -> list[str]:
        """The output as lines."""
        return self.output.decode().splitlines()

    @property
    def json(self) -> Any:  # noqa: ANN401  # whatever the program printed
        """The output as JSON."""
        return json.loads(self.output)


def run_program(*arguments: str | bytes | Path, folder: Path | None = None) -> Outcome:
    """Run the program; a traceback fails the test at once."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "explorer", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=120,
    )
    errors = done.stderr.decode(errors="backslashreplace")
    assert "Traceback" not in errors, errors
    return Outcome(done.returncode, done.stdout, errors)


@pytest.fixture
def run(built: None) -> Callable[..., Outcome]:
    """Runs the program."""
    return run_program


@pytest.fixture
def ext4(image_of: Callable[[str], Path], unchanged: Callable[[Path], Path]) -> Path:
    """The tree as an ext4 image with all its facts."""
    return unchanged(image_of("ext4-written"))


@pytest.fixture(scope="session")
def sample() -> Path:
    """The sample disk, with two volumes."""
    try:
        return find_sample()
    except ExplorerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def two_volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with two file systems, a swap space and an empty partition."""
    folder = tmp_path_factory.mktemp("disk")
    disk = make_empty(folder / "disk.img", 40 << 20)
    rows = "".join(f"start={1 + 8 * n}MiB, size=8MiB\n" for n in range(4))
    run_tool("sfdisk", "-q", disk, text=f"label: gpt\n{rows}")
    commands = (
        ("mke2fs", "-q", "-F", "-t", "ext4", "-L", "first", "-U", "random"),
        ("mke2fs", "-q", "-F", "-t", "ext2", "-L", "second \x1b[31m"),
        ("mkswap",),
    )
    for number, command in enumerate(commands):
        part = make_empty(folder / f"part{number}", 8 << 20)
        run_tool(*command, part)
        with disk.open("r+b") as file:
            file.seek((1 + 8 * number) << 20)
            file.write(part.read_bytes())
    return disk
