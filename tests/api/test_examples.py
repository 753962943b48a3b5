# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples in docs do what they say."""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.trees import make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def image(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("examples")
    top = folder / "top"
    (top / "folder").mkdir(parents=True)
    (top / "folder" / "large").write_bytes(noise(2 << 20, 1))
    (top / "folder" / "letter").write_text("the needle is here", encoding="utf-16-le")
    image = make_empty(folder / "image", 32 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    before = hashlib.sha256(image.read_bytes()).digest()
    yield image
    assert hashlib.sha256(image.read_bytes()).digest() == before


def run_example(name: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "docs" / "examples" / name, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_look(image: Path) -> None:
    lines = run_example("look.py", image).splitlines()
    assert lines[0].endswith(f"raw, {32 << 20} bytes")
    assert any(line.endswith("  folder") for line in lines)


def test_take_out(image: Path, tmp_path: Path) -> None:
    said = run_example("take_out.py", image, "/folder", tmp_path / "out")
    assert said.startswith("3 entries seen, 3 copied")
    copied = tmp_path / "out" / "folder" / "large"
    assert copied.read_bytes() == noise(2 << 20, 1)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    rows = {row["path"]: row for row in csv.DictReader(one for one in lines if one[0] != "#")}
    assert rows["/folder/large"]["sha256"] == hashlib.sha256(copied.read_bytes()).hexdigest()


def test_search(image: Path) -> None:
    lines = run_example("search.py", image, "needle").splitlines()
    assert any(line.endswith(":/folder/large") for line in lines)
    assert any(line.endswith(":/folder/letter at 8") for line in lines)
