# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How the program starts and ends, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from explorer.app.start import EXIT_NO_DISPLAY, make_settings

if TYPE_CHECKING:
    from pathlib import Path

START = "import sys; from explorer.app.start import start; sys.exit(start(sys.argv[1:]))"
END_SECONDS = 60


def environment(home: Path, **changes: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    }
    folders = {f"XDG_{name}_HOME": str(home / name) for name in ("CONFIG", "CACHE", "DATA")}
    return {**kept, **folders, "HOME": str(home), **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "neither DISPLAY nor WAYLAND_DISPLAY is set"),
        ({"DISPLAY": ":98765"}, "nothing answers at DISPLAY=:98765"),
    ],
)
def test_without_a_screen_it_says_so(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START],
        env=environment(tmp_path, **changes),
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
        check=False,
    )
    assert done.returncode == EXIT_NO_DISPLAY
    assert said in done.stderr
    assert "lkl-explorer ls IMAGE" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_opens_its_argument_and_ends_in_order(tmp_path: Path, ext4_image: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", START, ext4_image],
        env=environment(tmp_path, QT_QPA_PLATFORM="offscreen"),
        stderr=subprocess.PIPE,
        text=True,
    )
    settings = tmp_path / "CONFIG" / "lkl-explorer"
    deadline = time.monotonic() + END_SECONDS
    # It remembers what it has opened.
    while not make_settings(settings).value("open/recent"):
        assert program.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=END_SECONDS)
    assert program.returncode == 0
    assert "Traceback" not in errors
    assert make_settings(settings).value("open/recent") == str(ext4_image)
    assert make_settings(settings).value("window/geometry")
