# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad input: one clear line that names it, a code that tells its kind, nothing left behind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.trees import make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]


def one_line(found: Outcome, code: int, *parts: str) -> None:
    """One line on the error output, with all parts in it."""
    assert found.code == code, found.errors
    assert len(found.errors.splitlines()) == 1, found.errors
    assert found.errors.startswith("lkl-explorer: ")
    for part in parts:
        assert part in found.errors


def test_the_source(run: Run, tmp_path: Path) -> None:
    one_line(run("ls", tmp_path / "none.img"), 3, "none.img", "no such file")
    one_line(run("ls", tmp_path), 3, str(tmp_path), "folder")
    (tmp_path / "empty.img").touch()
    one_line(run("ls", tmp_path / "empty.img"), 3, "empty.img", "empty")
    one_line(run("ls", "/dev/null"), 3, "/dev/null")
    (tmp_path / "noise.img").write_bytes(noise(100_000, 5))
    one_line(run("ls", tmp_path / "noise.img"), 3, "noise.img", "recognised")
    one_line(run("info", tmp_path / "noise.img"), 3, "noise.img", "recognised")
    (tmp_path / "packed.img").write_bytes(b"\x1f\x8b\x08" + bytes(100))
    one_line(run("ls", tmp_path / "packed.img"), 3, "packed.img", "deflate data")
    one_line(run("ls", "--format", "floppy", tmp_path / "packed.img"), 3, "floppy", "raw")
    evil = tmp_path / "evil\x1b[2J\n.img"
    one_line(run("ls", evil), 3, "evil\\x1b[2J\\n.img")


def test_neither_a_command_nor_an_image(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    one_line(run("lss"), 3, "lss", "no such file")
    one_line(run(tmp_path / "none.img"), 3, "none.img", "no such file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_rights(run: Run, tmp_path: Path) -> None:
    path = make_empty(tmp_path / "secret.img", 4096)
    path.chmod(0)
    one_line(run("ls", path), 3, "secret.img", "right")


def test_a_cut_off_image(run: Run, tmp_path: Path, ext4: Path) -> None:
    path = tmp_path / "cut.img"
    path.write_bytes(ext4.read_bytes()[: 4 << 20])
    one_line(run("ls", path), 4, "cut.img", "ext4")
    assert run("info", path).code == 0


def test_a_btrfs_that_cannot_be_mounted_is_told_of_all_the_same(
    run: Run, tmp_path: Path, image_of: Callable[[str], Path]
) -> None:
    content = bytearray(image_of("btrfs").read_bytes())
    # The checksum of the superblock.
    content[65536] ^= 0xFF
    path = tmp_path / "damaged.img"
    path.write_bytes(content)
    found = run("info", path)
    assert found.code == 0
    assert any(line.split()[:2] == ["0", "Btrfs"] for line in found.lines)
    assert "could not mount it as Btrfs" in found.errors
    one_line(run("ls", path), 4, "damaged.img", "Btrfs")


def test_volumes(run: Run, two_volumes: Path, tmp_path: Path) -> None:
    several = run("ls", two_volumes)
    assert several.code == 4
    assert "choose" in several.errors.splitlines()[0]
    assert "first" in several.errors
    missing = run("ls", "--volume", "9", two_volumes)
    assert missing.code == 4
    assert "no volume 9" in missing.errors.splitlines()[0]
    one_line(run("ls", "--volume", "3", two_volumes), 4, "volume 3", "swap")
    one_line(run("ls", "--volume", "4", two_volumes), 4, "volume 4", "no file system")
    swap = make_empty(tmp_path / "swap.img", 1 << 20)
    run_tool("mkswap", swap)
    one_line(run("ls", swap), 4, "swap.img", "no files")


def test_a_damaged_file_system(run: Run, tmp_path: Path) -> None:
    path = make_empty(tmp_path / "broken.img", 8 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", path)
    with path.open("r+b") as file:
        file.seek(0x800)
        file.write(noise(8192, 9))
    one_line(run("ls", path), 4, "broken.img", "the kernel says")


def test_paths(run: Run, ext4: Path) -> None:
    for command in ("ls", "stat", "cat"):
        one_line(run(command, ext4, "/folder/none"), 5, "/folder/none", "no such file")
        one_line(run(command, ext4, "/block/none"), 5, "/block/none", "no folder")
    one_line(run("cat", ext4, "/folder"), 5, "/folder", "folder")
    one_line(run("cat", ext4, "/fifo"), 5, "/fifo")
    one_line(run("ls", ext4, "/loop"), 5, "/loop", "links")
    one_line(run("cat", ext4, "/broken"), 5)
    one_line(run("stat", ext4, "/x\x1b[31m"), 5, "x\\x1b[31m")


def test_errors_as_json(run: Run, ext4: Path, tmp_path: Path) -> None:
    found = run("stat", "--json", ext4, "/none")
    assert found.code == 5
    error = found.json["error"]
    assert error["code"] == "kernel.call"
    assert error["params"]["name"] == "ENOENT"
    assert "/none" in error["message"]
    assert run("info", "--json", tmp_path / "none").json["error"]["code"] == "source.missing"


@pytest.mark.parametrize(
    "arguments",
    [["ls"], ["sing", "x"], ["cp", "image"], ["ls", "--volume"], ["stat", "x"], ["--unknown"]],
)
def test_wrong_arguments(run: Run, arguments: list[str]) -> None:
    found = run(*arguments)
    assert found.code == 2
    assert "usage:" in found.errors


def test_a_missing_kernel(
    run: Run, ext4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LKL_BUILD", str(tmp_path))
    one_line(run("ls", ext4), 7, "liblkl.so", "make -C liblkl")
    (tmp_path / "liblkl.so").write_bytes(b"no library")
    (tmp_path / "lkl-kernel.so").write_bytes(b"no kernel")
    one_line(run("ls", ext4), 7, "liblkl.so", "cannot be loaded")
    found = run("self-test")
    assert found.code == 7
    assert found.lines[-1] == "self-test FAILED"
