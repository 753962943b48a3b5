# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A real drag from the window to another program, on a virtual screen."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
END_SECONDS = 60


@pytest.fixture
def screen() -> Iterator[dict[str, str]]:
    """A virtual screen of its own, as the environment of programs on it."""
    reader, writer = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1400x800x24", "-nolisten", "tcp"],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    with os.fdopen(reader) as answer:
        number = answer.readline().strip()
    assert number
    yield {**os.environ, "DISPLAY": f":{number}", "QT_QPA_PLATFORM": "xcb"}
    server.terminate()
    server.wait(END_SECONDS)


@contextmanager
def program(
    screen: dict[str, str], *arguments: str | Path
) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A program of ours on the screen, and the point that it prints when it is ready."""
    process = subprocess.Popen(
        [sys.executable, *arguments], env=screen, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(END_SECONDS)
        process.stdout.close()


def mouse(screen: dict[str, str], *actions: str) -> None:
    subprocess.run(["xdotool", *actions], env=screen, check=True, capture_output=True)
    # Programs look at the mouse between two of its steps.
    time.sleep(0.05)


@pytest.mark.screen
def test_files_arrive_in_another_program(
    screen: dict[str, str], ext4_image: Path, tree: Path, tmp_path: Path
) -> None:
    source = (HERE / "dragsource.py", ext4_image, "/odd", tmp_path / "settings.ini")
    with (
        program(screen, HERE / "droptarget.py") as (target, to),
        program(screen, *source) as (_, start),
    ):
        mouse(screen, "mousemove", str(start[0]), str(start[1]))
        mouse(screen, "mousedown", "1")
        for step in range(1, 11):
            place = [at + (end - at) * step // 10 for at, end in zip(start, to, strict=True)]
            mouse(screen, "mousemove", str(place[0]), str(place[1]))
        time.sleep(0.3)
        mouse(screen, "mouseup", "1")
        assert target.stdout is not None
        found = json.loads(target.stdout.readline())
        assert target.wait(END_SECONDS) == 0
    names = {
        bytes.fromhex(path).rpartition(b"/")[2]: (digest, moment) for path, digest, moment in found
    }
    assert names == {
        os.fsencode(path.name): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in (tree / "odd").iterdir()
    }
