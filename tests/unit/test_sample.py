# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The sample disk: what its script puts into it, as other readers see it."""

from __future__ import annotations

import importlib.util
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "resources" / "sample" / "make.py"
SBIN = "/usr/sbin:/sbin:/usr/bin:/bin"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sample", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tmp_path_factory.mktemp("sample") / "sample.img"
    subprocess.run([sys.executable, SCRIPT, image], check=True)
    return image


def cut(image: Path, start: int, size: int, target: Path) -> Path:
    """A partition as a file of its own."""
    with image.open("rb") as source:
        source.seek(start)
        target.write_bytes(source.read(size))
    return target


def run(program: str, *arguments: str | Path) -> str:
    path = shutil.which(program, path=SBIN)
    assert path is not None
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_has_two_partitions(sample: Path, make: ModuleType) -> None:
    table = run("sfdisk", "--dump", sample)
    assert "label: gpt" in table
    assert f"start= {make.EXT4_START // 512:>11}, size= {make.EXT4_SIZE // 512:>11}" in table
    assert f"start= {make.BTRFS_START // 512:>11}, size= {make.BTRFS_SIZE // 512:>11}" in table


def test_it_is_small_where_it_lies_and_where_it_is_packed(sample: Path) -> None:
    assert sample.stat().st_blocks * 512 < 4 << 20
    assert len(zlib.compress(sample.read_bytes())) < 1 << 20


def test_ext4_is_clean_and_holds_what_it_should(
    sample: Path, make: ModuleType, tmp_path: Path
) -> None:
    volume = cut(sample, make.EXT4_START, make.EXT4_SIZE, tmp_path / "ext4")
    run("e2fsck", "-fn", volume)
    tree = tmp_path / "tree"
    tree.mkdir()
    run("debugfs", "-R", f"rdump / {tree}", volume)
    assert (tree / "Welcome.txt").read_text() == make.WELCOME
    assert (tree / "Licence.txt").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (tree / "Texts" / "日本語.txt").is_file()
    assert (tree / "Links" / "to the welcome").readlink() == Path("../Welcome.txt")
    assert len(list((tree / "Many files").iterdir())) == 500
    assert (tree / "Data" / "Mostly hole.bin").stat().st_size == 64 * make.MIB + 3
    facts = run("debugfs", "-R", 'stat "/Welcome.txt"', volume)
    assert "Links: 2" in facts


def test_btrfs_is_clean(sample: Path, make: ModuleType, tmp_path: Path) -> None:
    volume = cut(sample, make.BTRFS_START, make.BTRFS_SIZE, tmp_path / "btrfs")
    run("btrfs", "check", volume)


def test_names_contents_and_times_are_the_same_each_time(
    sample: Path, make: ModuleType, tmp_path: Path
) -> None:
    again = tmp_path / "again.img"
    subprocess.run([sys.executable, SCRIPT, again], check=True)
    listings = []
    for number, image in enumerate((sample, again)):
        volume = cut(image, make.EXT4_START, make.EXT4_SIZE, tmp_path / f"ext4-{number}")
        listings.append(
            [
                run("debugfs", "-R", f'ls -l "{folder}"', volume)
                for folder in ("/", "/Texts", "/Links", "/Data", "/Many files", "/Private")
            ]
        )
    assert listings[0] == listings[1]


def test_pictures_are_png(make: ModuleType) -> None:
    picture = make.png(3, 2, make.colours)
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    place, kinds, body = 8, [], b""
    while place < len(picture):
        (length,) = struct.unpack_from(">I", picture, place)
        kind = picture[place + 4 : place + 8]
        content = picture[place + 8 : place + 8 + length]
        (check,) = struct.unpack_from(">I", picture, place + 8 + length)
        assert check == zlib.crc32(kind + content)
        kinds.append(kind)
        body += content if kind == b"IDAT" else b""
        place += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    pixels = b"".join(bytes((x, y, 128)) for x in range(3) for y in (0,))
    assert zlib.decompress(body)[:10] == b"\0" + pixels


def test_a_tool_that_is_missing_is_named(tmp_path: Path) -> None:
    program = (
        "import runpy, shutil, sys\n"
        "shutil.which = lambda *_, **__: None\n"
        f"sys.argv = ['make.py', {str(tmp_path / 'x.img')!r}]\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "make.py: needs mke2fs\n"
