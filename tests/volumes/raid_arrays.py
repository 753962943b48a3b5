# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""RAID arrays: their superblocks by mdadm itself, their bytes spread over members by arithmetic.

Where a level puts what is told in md(4), and for RAID6 in "The mathematics of RAID-6" by
H. Peter Anvin. Nothing here has been seen by the kernel.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.trees import ROOT, find_tool, make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KIB = 1024
MIB = 1 << 20

CHUNK = 64 * KIB
COMPONENT = 2 * MIB
"""Bytes of each member that are used."""


class Shape(NamedTuple):
    """An array to make."""

    level: str
    """As mdadm takes it: ``linear``, ``0``, ``5``."""
    disks: int
    layout: str = ""
    """As mdadm takes it; empty for a level that has none. ``s2``: as ``f2``, within sets of two."""
    sizes: tuple[int, ...] = ()
    """Bytes of each member's data, where these are not all :data:`COMPONENT`."""

    @property
    def data_disks(self) -> int:
        """Members that a row of chunks has data on."""
        return self.disks - {"4": 1, "5": 1, "6": 2}.get(self.level, 0)

    @property
    def size(self) -> int:
        """Bytes of the array."""
        if self.sizes:
            return sum(self.sizes)
        if self.level == "1":
            return COMPONENT
        if self.level == "10":
            # A far copy fills its part of each member in whole rows.
            copies = int(self.layout[1:])
            rows = COMPONENT // CHUNK
            if self.layout[0] == "n":
                return rows * self.disks // copies * CHUNK
            return rows // copies * self.disks * CHUNK
        return self.data_disks * COMPONENT


# ---- mdadm ---------------------------------------------------------------------------------------


def build_driver(folder: Path) -> Path:
    """What makes mdadm do without the host's kernel; see its source."""
    target = folder / "mdadm_alone.so"
    source = Path(__file__).with_name("mdadm_alone.c")
    run_tool("cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", target, source)
    return target


class Loop:
    """A file of the host as a block device of the host. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> str:
        self.device = run_tool("losetup", "--find", "--show", self._path).strip()
        return self.device

    def __exit__(self, *_error: object) -> None:
        run_tool("losetup", "--detach", self.device)


def needs_loop() -> None:
    """Skip the test where there are no loop devices to give to mdadm."""
    if not ROOT or not Path("/dev/loop-control").exists():
        pytest.skip("needs root and loop devices")


def create_array(
    folder: Path,
    driver: Path,
    shape: Shape,
    *,
    metadata: str = "1.2",
    options: Sequence[str] = (),
    devices: Sequence[str] | None = None,
    files: int | None = None,
) -> list[Path]:
    """The members of a new array, with superblocks by mdadm and nothing else on them.

    ``devices`` are what mdadm is told, with ``{}`` for the next of ``files`` members.
    """
    needs_loop()
    count = shape.disks if files is None else files
    sizes = shape.sizes or (COMPONENT,) * count
    # These are used to their end.
    more = MIB if shape.level in ("0", "linear") else 3 * MIB
    paths = [
        make_empty(folder / f"member{number}.img", size + more) for number, size in enumerate(sizes)
    ]
    command = ["--create", "/dev/md0", "--run", "--assume-clean", f"--metadata={metadata}"]
    command += [f"--level={shape.level}", f"--raid-devices={shape.disks}", "--homehost=test"]
    if shape.level not in ("1", "linear"):
        command.append(f"--chunk={CHUNK // KIB}")
    if shape.layout:
        command.append(
            f"--layout={shape.layout.replace('s', 'f') if shape.level == '10' else shape.layout}"
        )
    if shape.level not in ("0", "linear"):
        command.append(f"--size={COMPONENT // KIB}")
    if metadata != "0.90":
        command.append("--name=array")
    if metadata in ("1.1", "1.2"):
        command.append("--data-offset=1M")
    with ExitStack() as stack:
        loops = iter([stack.enter_context(Loop(path)) for path in paths])
        told = ["{}"] * count if devices is None else devices
        names = [next(loops) if name == "{}" else name for name in told]
        done = subprocess.run(
            [find_tool("mdadm"), *command, *options, *names],
            env={**os.environ, "LD_PRELOAD": str(driver)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return paths


def examine(path: Path, *options: str) -> dict[str, str]:
    """What mdadm reads in a superblock."""
    text = run_tool("mdadm", "--examine", *options, path)
    return {
        key.strip(): value.strip() for key, value in re.findall(r"^ *(.+?) : (.*)$", text, re.M)
    }


def change_superblock(path: Path, changes: Mapping[int, bytes]) -> None:
    """Write into a superblock, by position in it, and put its checksum right."""
    facts = examine(path)
    start = superblock_offset(path, facts)
    with path.open("r+b") as file:
        file.seek(start)
        block = bytearray(file.read(4096))
        for at, value in changes.items():
            block[at : at + len(value)] = value
        fix_checksum(block, facts["Version"])
        file.seek(start)
        file.write(block)


def fix_checksum(block: bytearray, version: str) -> None:
    """Put the checksum of a superblock right."""
    if version.startswith("0"):
        place = 38 * 4
        used = bytes(block)
        total = sum(struct.unpack("<1024I", used)) - struct.unpack_from("<I", used, place)[0]
    else:
        place = 216
        block[place : place + 4] = bytes(4)
        used = bytes(block[: 256 + 2 * struct.unpack_from("<I", block, 220)[0]])
        total = sum(struct.unpack(f"<{len(used) // 4}I", used[: len(used) // 4 * 4]))
        if len(used) % 4:
            total += int.from_bytes(used[-2:], "little")
    checksum = (total & 0xFFFFFFFF) + (total >> 32)
    struct.pack_into("<I", block, place, checksum & 0xFFFFFFFF)


def superblock_offset(path: Path, facts: Mapping[str, str]) -> int:
    """Where a superblock stands, in bytes."""
    if facts["Version"].startswith("0"):
        return path.stat().st_size // 65536 * 65536 - 65536
    return int(facts["Super Offset"].split()[0]) * 512


def data_offset(facts: Mapping[str, str]) -> int:
    """Where the data of a member begins, in bytes."""
    return int(facts.get("Data Offset", "0").split()[0]) * 512


# ---- Where the bytes go --------------------------------------------------------------------------


def _xor(blocks: Sequence[bytes]) -> bytes:
    total = 0
    for block in blocks:
        total ^= int.from_bytes(block, "little")
    return total.to_bytes(len(blocks[0]), "little")


# Times x in the field of 256 elements with x^8 + x^4 + x^3 + x^2 + 1.
_TIMES_X = bytes((value << 1 & 0xFF) ^ (0x1D if value & 0x80 else 0) for value in range(256))


def _syndrome(blocks: Sequence[bytes]) -> bytes:
    """The sum of x^n times the n-th block."""
    total = bytes(len(blocks[0]))
    for block in reversed(blocks):
        total = _xor((total.translate(_TIMES_X), block))
    return total


def _raid5_places(row: int, disks: int, layout: str) -> tuple[int, list[int]]:
    """The member with the parity of a row, and those with its data, in order."""
    if layout.startswith("parity"):
        parity = 0 if layout == "parity-first" else disks - 1
    else:
        parity = row % disks if layout.startswith("right") else disks - 1 - row % disks
    if layout.endswith("-symmetric"):
        return parity, [(parity + 1 + number) % disks for number in range(disks - 1)]
    return parity, [disk for disk in range(disks) if disk != parity]


def _raid6_row(row: int, disks: int, layout: str, chunks: Sequence[bytes]) -> dict[int, bytes]:
    """What stands on each member in a row of a RAID6."""
    ddf = layout.startswith("ddf")
    if layout.endswith("-6"):
        # A RAID5 with one more disk for Q.
        parity, data = _raid5_places(row, disks - 1, layout.removesuffix("-6"))
        second = disks - 1
    elif layout == "ddf-N-continue":
        parity = disks - 1 - row % disks
        second = (parity - 1) % disks
        data = [(parity + 1 + number) % disks for number in range(disks - 2)]
    else:
        if layout.startswith("parity"):
            parity = 0 if layout == "parity-first" else disks - 2
        elif layout.startswith("right") or layout == "ddf-zero-restart":
            parity = row % disks
        elif layout == "ddf-N-restart":
            parity = disks - 1 - (row + 1) % disks
        else:
            parity = disks - 1 - row % disks
        second = (parity + 1) % disks
        if layout.endswith("-symmetric"):
            data = [(second + 1 + number) % disks for number in range(disks - 2)]
        else:
            data = [disk for disk in range(disks) if disk not in (parity, second)]
    found = dict(zip(data, chunks, strict=True))
    zero = bytes(len(chunks[0]))
    if ddf:
        ordered = [found.get(disk, zero) for disk in range(disks)]
    else:
        # From the member behind Q on, and around.
        around = ((second + 1 + number) % disks for number in range(disks))
        ordered = [found[disk] for disk in around if disk in found]
    found[parity] = _xor(chunks)
    found[second] = _syndrome(ordered)
    return found


def spread(shape: Shape, content: bytes) -> list[bytes]:
    """What stands in the data area of each member of an array with this content."""
    assert len(content) == shape.size
    disks = shape.disks
    if shape.level == "linear":
        starts = [sum(shape.sizes[:number]) for number in range(disks)]
        return [
            content[start : start + size] for start, size in zip(starts, shape.sizes, strict=True)
        ]
    if shape.level == "1":
        return [content] * disks
    chunks = [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)]
    if shape.level == "0":
        return _spread_raid0(shape, chunks)
    members = [bytearray(COMPONENT) for _ in range(disks)]

    def put(disk: int, row: int, chunk: bytes) -> None:
        members[disk][row * CHUNK : (row + 1) * CHUNK] = chunk

    if shape.level == "10":
        kind, copies = shape.layout[0], int(shape.layout[1:])
        for number, chunk in enumerate(chunks):
            for copy in range(copies):
                if kind == "n":
                    row, disk = divmod(number * copies + copy, disks)
                else:
                    row, disk = divmod(number, disks)
                    if kind == "s":
                        # Copies stay within sets of as many members as there are copies.
                        disk += (disk % copies + copy) % copies - disk % copies
                    else:
                        disk = (disk + copy) % disks
                    part = COMPONENT // CHUNK // copies
                    row = row * copies + copy if kind == "o" else row + copy * part
                put(disk, row, chunk)
        return [bytes(member) for member in members]
    width = shape.data_disks
    for row in range(len(chunks) // width):
        here = chunks[row * width : (row + 1) * width]
        if shape.level == "6":
            placed = _raid6_row(row, disks, shape.layout or "left-symmetric", here)
        else:
            layout = "parity-last" if shape.level == "4" else shape.layout or "left-symmetric"
            parity, data = _raid5_places(row, disks, layout)
            placed = dict(zip(data, here, strict=True))
            placed[parity] = _xor(here)
        for disk, chunk in placed.items():
            put(disk, row, chunk)
    return [bytes(member) for member in members]


def _spread_raid0(shape: Shape, chunks: Sequence[bytes]) -> list[bytes]:
    """Rows over all members, then over those that are not full."""
    rows = [size // CHUNK for size in shape.sizes or (COMPONENT,) * shape.disks]
    members = [bytearray() for _ in rows]
    number = 0
    for row in range(max(rows)):
        here = [disk for disk, count in enumerate(rows) if count > row]
        # The older layout goes on counting from the start of the array.
        shift = number % len(here) if shape.layout == "original" else 0
        for place in range(len(here)):
            members[here[(place + shift) % len(here)]] += chunks[number]
            number += 1
    return [bytes(member) for member in members]


def write_members(paths: Sequence[Path], members: Sequence[bytes]) -> None:
    """Put the data where each superblock says that it begins."""
    for path, member in zip(paths, members, strict=True):
        with path.open("r+b") as file:
            file.seek(data_offset(examine(path)))
            file.write(member)


# ---- What is on an array -------------------------------------------------------------------------

TREE_SIZE = MIB


def make_small_tree(top: Path) -> Path:
    """A few files, of which one needs many chunks."""
    (top / "folder").mkdir(parents=True)
    (top / "small").write_bytes(b"small\n")
    (top / "folder" / "noise").write_bytes(noise(300_000, 5))
    (top / "folder" / "link").symlink_to("../small")
    return top


def make_content(image: Path, tree: Path, size: int) -> bytes:
    """An ext4 of the tree, and noise to the end."""
    make_empty(image, TREE_SIZE)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-d", tree, image)
    return image.read_bytes() + noise(size - TREE_SIZE, 6)
