# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Stacks whose tables, labels, superblocks and headers are damaged.

The damages are those of the fuzzer, most of them under checksums that are put right. Whatever
they make of a stack, it is opened or refused by a typed error, in a bounded time, and the kernel
lives.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from explorer.volumes.stack import DEPTH_LIMIT, VOLUME_LIMIT
from tests.fuzz.mutation import mutate
from tests.fuzz.seed import Sum
from tests.fuzz.volume_seeds import gpt_sums, luks2_sum, lvm_sum, md_sum
from tests.images.encrypted import make_luks1
from tests.trees import make_empty, run_tool
from tests.volumes.luks_maker import HEADER, Recipe, make_luks2
from tests.volumes.lvm_host import LvmHost, lay
from tests.volumes.raid_arrays import Shape, build_driver, create_array, spread, write_members
from tests.volumes.test_lvm import text_place
from tests.volumes.test_tables import mbr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
KIB = 1 << 10
MIB = 1 << 20
SECTOR = 512
AREA = 4096
PASSPHRASE = Recipe().passphrase

DAMAGES = 25
SECONDS = 300
"""For all damages of a stack, each of which is opened in two views: some 5 s where nothing else
runs."""


class Made(NamedTuple):
    """A stack, and what of it is damaged."""

    paths: tuple[Path, ...]
    """The first one is damaged."""
    structures: list[tuple[int, int]]
    """Start and length."""
    sums: list[Sum]
    mounted: int
    """Volumes that can be mounted while it is whole."""


def moved(sums: Sequence[Sum], start: int) -> list[Sum]:
    """Checksums of what stands at another place."""
    return [
        one._replace(start=one.start + start, end=one.end + start, at=one.at + start)
        for one in sums
    ]


def make_ext4(folder: Path, size: int) -> bytes:
    """An ext4 with a file."""
    top = folder / f"top{size}"
    top.mkdir(exist_ok=True)
    (top / "file").write_text("content\n")
    image = make_empty(folder / f"ext4-{size}", size)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    return image.read_bytes()


def physical_sums(path: Path) -> tuple[list[tuple[int, int]], list[Sum]]:
    """The structures and checksums of a physical volume."""
    start, length, size = text_place(path)
    assert start + length <= size
    text = AREA + start
    sums = [
        Sum(SECTOR + 20, 2 * SECTOR, SECTOR + 16, 4, lvm_sum),
        Sum(text, text + length, AREA + 56, 4, lvm_sum),
        Sum(AREA + 4, AREA + SECTOR, AREA, 4, lvm_sum),
    ]
    return [(SECTOR, 128), (AREA, 96), (text, length), (text, length)], sums


# ---- The stacks --------------------------------------------------------------------------------


def make_group(folder: Path, count: int, size: int, extents: int) -> list[Path]:
    """Physical volumes with a volume on all of them, and an ext4 on it."""
    with LvmHost(folder) as host:
        images = host.images(folder, count, size)
        host.make_group("group", images)
        options = ("--stripes", str(count)) if count > 1 else ()
        host.make_volume("group", "volume", extents, *options)
        row = host.volumes("group")["volume"]
        lay(row, make_ext4(folder, row.size))
    return images


def in_gpt(folder: Path) -> Made:
    """LVM, LUKS with a partition table in it, and a file system, on partitions."""
    (physical,) = make_group(folder, 1, 4 * MIB, 32)
    inner = bytearray(3 * MIB)
    inner[:SECTOR] = mbr((0x83, 64, 2048), (0x05, 3000, 3000))
    inner[3000 * SECTOR : 3001 * SECTOR] = mbr((0x83, 8, 2048))
    files = make_ext4(folder, MIB)
    inner[64 * SECTOR : 64 * SECTOR + MIB] = inner[3008 * SECTOR : 3008 * SECTOR + MIB] = files
    luks = make_luks2(folder / "luks", Recipe(size=6 * MIB), bytes(inner))
    parts = (physical.read_bytes(), luks.read_bytes(), files)
    disk = make_empty(folder / "disk", 16 * MIB)
    lines = ["label: gpt", *(f"size={len(part) // MIB}MiB" for part in parts), ""]
    run_tool("sfdisk", "-q", disk, text="\n".join(lines))
    content = bytearray(disk.read_bytes())
    structures, sums = [(446, 66), (SECTOR, 92), (2 * SECTOR, 3 * 128)], gpt_sums(16 * MIB)
    start = MIB
    for number, part in enumerate(parts):
        content[start : start + len(part)] = part
        if number == 0:
            places, own = physical_sums(physical)
            structures += [(start + at, length) for at, length in places]
            sums += moved(own, start)
        elif number == 1:
            structures += [(start, 512), (start + 4096, 1200), (start + HEADER + 4096, 1200)]
            sums += [
                Sum(start + at, start + at + HEADER, start + at + 448, 32, luks2_sum)
                for at in (0, HEADER)
            ]
        start += len(part)
    disk.write_bytes(content)
    return Made((disk,), structures, sums, 4)


def on_array(folder: Path) -> Made:
    """LVM on an array, of a primary partition and two logical ones."""
    shape = Shape("5", 3, "left-symmetric")
    (physical,) = make_group(folder, 1, shape.size, 32)
    members = create_array(folder, build_driver(folder), shape)
    write_members(members, spread(shape, physical.read_bytes()))
    length = members[0].stat().st_size // SECTOR
    starts = (64, 64 + length + 64, 64 + 2 * (length + 64))
    extended = starts[1] - 8, 2 * (length + 64)
    second = starts[2] - 8 - extended[0]
    disk = bytearray((sum(extended) + 64) * SECTOR)
    disk[:SECTOR] = mbr((0xFD, starts[0], length), (0x05, *extended))
    tables = (
        (extended[0], mbr((0xFD, 8, length), (0x05, second, length + 8))),
        (extended[0] + second, mbr((0xFD, 8, length))),
    )
    structures = [(446, 66)]
    for sector, table in tables:
        disk[sector * SECTOR : (sector + 1) * SECTOR] = table
        structures.append((sector * SECTOR + 446, 66))
    sums = []
    for start, member in zip(starts, members, strict=True):
        disk[start * SECTOR : (start + length) * SECTOR] = member.read_bytes()
        at = start * SECTOR + 4096
        structures.append((at, 272))
        sums.append(Sum(at, at + 4096, at + 216, 4, partial(md_sum, "1.2")))
    path = folder / "disk"
    path.write_bytes(disk)
    return Made((path,), structures, sums, 1)


def on_two_images(folder: Path) -> Made:
    """A striped volume on two images, of which one is damaged."""
    images = make_group(folder, 2, 4 * MIB, 32)
    structures, sums = physical_sums(images[0])
    return Made(tuple(images), structures, sums, 1)


def luks1(folder: Path) -> Made:
    """A whole disk that is encrypted; nothing is in it."""
    path = make_luks1(folder / "disk", PASSPHRASE)
    # Not the iterations, which only take longer.
    return Made((path,), [(0, 164), (168, 44), (208, 4), (212 + 4, 40), (256, 48)], [], 0)


STACKS: dict[str, Callable[[Path], Made]] = {
    "GPT, LVM, LUKS2, MBR": in_gpt,
    "MBR, MD, LVM": on_array,
    "LVM on two images": on_two_images,
    "LUKS1": luks1,
}


@pytest.fixture(scope="module")
def stack(built: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Whole stacks, each made once."""
    made: dict[str, Made] = {}

    def get(name: str) -> Made:
        if name not in made:
            made[name] = STACKS[name](tmp_path_factory.mktemp("stack"))
        return made[name]

    return get


# ---- The damages -------------------------------------------------------------------------------


def damage(whole: bytes, made: Made, chance: random.Random) -> bytes:
    """A copy that is damaged in one to four places, or cut off."""
    content = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 4))):
        start, length = chance.choice(made.structures)
        changed = mutate(bytes(content[start : start + length]), chance)[:length]
        content[start : start + len(changed)] = changed
    if chance.random() < 0.8:
        for one in made.sums:
            one.mend(content)
    if chance.random() < 0.1:
        del content[chance.randrange(SECTOR, len(content)) :]
    return bytes(content)


def read_stacks(stacks: Sequence[Sequence[Path]]) -> list[str]:
    """What the reader tells of each; two lines for each stack."""
    lines = "".join("\t".join(map(str, paths)) + "\n" for paths in stacks)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.volumes.stack_reader", PASSPHRASE.decode()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    told = done.stdout.splitlines()
    place = stacks[min(len(told) // 2, len(stacks) - 1)]
    assert done.returncode == 0, f"{place}: {done.returncode}\n{done.stderr}"
    assert len(told) == 2 * len(stacks)
    return told


def counts(line: str) -> Iterator[tuple[str, int]]:
    """The numbers of a line."""
    for part in line.split():
        name, _, count = part.rpartition("=")
        if name:
            yield name, int(count)


@pytest.mark.parametrize("name", STACKS)
def test_damaged_stacks_are_opened_or_refused(
    name: str, stack: Callable[[str], Made], tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    made = stack(name)
    whole = made.paths[0].read_bytes()
    chance = random.Random(name)
    images = []
    for number in range(DAMAGES):
        path = tmp_path / f"damage{number}"
        path.write_bytes(damage(whole, made, chance))
        images.append(unchanged(path))
    told = read_stacks([made.paths, *((path, *made.paths[1:]) for path in images)])
    for line in told[:2]:
        assert dict(counts(line)).get("mounted", 0) == made.mounted, line
    # Not all of them are without effect, and not all of them end everything.
    outcomes = {line for line in told[2:] if line not in told[:2]}
    assert len(outcomes) >= 3
    assert any("mounted=" in line for line in told[2:]) or not made.mounted


def test_tables_within_tables_have_an_end(tmp_path: Path, built: None) -> None:
    # Each of the first sectors is the table of a disk that begins there.
    table = mbr(*((0x83, start, 4000) for start in range(1, 5)))
    within = tmp_path / "within"
    within.write_bytes((table * 100).ljust(4 * MIB, b"\0"))
    # Each partition begins with the table that tells of it.
    same = tmp_path / "same"
    same.write_bytes(mbr(*((0x83, 0, 4000 + more) for more in range(4))).ljust(4 * MIB, b"\0"))
    told = [dict(counts(line)) for line in read_stacks([[within], [same]])]
    assert told[0] == told[1]
    # The tables that were begun are read to their ends: four partitions, what is before and behind.
    assert VOLUME_LIMIT <= told[0]["volumes"] <= VOLUME_LIMIT + DEPTH_LIMIT * 6
    assert told[2] == told[3]
    assert told[2]["partition"] == 4
