# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Engines that come to a bad end, for real: each says by its exit code and its last words how."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import KernelError
from explorer.core.exits import EXIT_HANGS, EXIT_KERNEL_ENDED, EXIT_MEMORY
from explorer.core.messages import describe
from explorer.wire.ends import exit_loss, last_lines
from explorer.wire.messages import ListDirectory, Listed
from tests.engine.process import EngineProcess

if TYPE_CHECKING:
    from pathlib import Path


def end_by(image: Path, path: bytes) -> tuple[int, list[str]]:
    """The exit code and the last words of an engine that was asked to list a folder."""
    engine = EngineProcess(module="tests.engine.faulty")
    engine.open(image)
    engine.list(0, b"/")
    (request,) = engine.send(ListDirectory(0, path))
    with pytest.raises(EOFError):
        engine.collect(request, Listed)
    code = engine.close()
    return code, engine.last_words()


@pytest.mark.parametrize(
    ("path", "code", "said", "told"),
    [
        (b"/panic", EXIT_KERNEL_ENDED, "Kernel panic - not syncing", "Kernel panic"),
        (b"/fault", EXIT_KERNEL_ENDED, "fault 11", "the kernel that read the image has ended"),
        (b"/hang", EXIT_HANGS, "hangs: list, volume 0, /hang: ", "hangs: list, volume 0, /hang"),
        (b"/memory", EXIT_MEMORY, "MemoryError", "the limit of its memory"),
        (b"/abort", -signal.SIGABRT, "Thread 0x", "crashed (SIGABRT)"),
    ],
)
def test_an_end_is_told_by_exit_code_and_last_words(
    ext4_image: Path, path: bytes, code: int, said: str, told: str
) -> None:
    found, lines = end_by(ext4_image, path)
    assert found == code
    assert any(said in line for line in lines), lines
    loss = exit_loss(found, "\n".join(lines).encode())
    assert told in describe(loss)


def test_what_hangs_is_the_last_that_is_said(ext4_image: Path) -> None:
    _, lines = end_by(ext4_image, b"/hang")
    assert lines[-1].startswith("hangs: list, volume 0, /hang: ")
    # The kernel's own last words are there, too.
    assert any("Kernel" in line or "vda" in line or "EXT4" in line for line in lines), lines


def test_what_takes_long_step_by_step_is_left_alone(ext4_image: Path) -> None:
    with EngineProcess(module="tests.engine.faulty") as engine:
        engine.open(ext4_image)
        with pytest.raises(KernelError) as caught:
            engine.list(0, b"/slow")
        assert caught.value.name == "ENOENT"
        assert engine.list(0, b"/")


def test_a_keepers_exit_code_tells_of_the_signal() -> None:
    assert exit_loss(128 + signal.SIGKILL, b"").code == "engine.killed"
    assert exit_loss(-signal.SIGKILL, b"").code == "engine.killed"
    assert exit_loss(128 + signal.SIGSEGV, b"").params["exit"] == "SIGSEGV"
    assert exit_loss(1, b"no\n").code == "engine.lost"


def test_last_words_are_bounded_and_safe_to_show() -> None:
    lines = last_lines(b"\x1b[31m" + b"x" * 100_000 + b"\n" + b"line\n" * 1000)
    assert lines == ["line"] * 20
    (line,) = last_lines(b"\x1b" * 100_000)
    assert line.isprintable()
    assert len(line) < 4000
