# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the sample disk: what the window shows when it is given no image.

A GPT disk with an ext4 and a Btrfs partition, filled with texts, pictures, links, names
beyond ASCII, a sparse file and a folder of many files. All of it is computed here, but for
the licence text. The disk is made rather than kept in the repository: it needs the tools that
the tests need anyway, and no binary has to be trusted.

Names, contents, modes, times of modification and identifiers are the same each time. The
times of change are those of making: no tool of e2fsprogs or btrfs-progs lets one choose them.

usage: make.py OUTPUT
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MIB = 1 << 20
LICENCE = Path(__file__).resolve().parents[2] / "LICENSE"

# 2026-01-01 00:00:00 UTC; files get later ones, a minute apart.
EPOCH = 1767225600

DISK_ID = "6b2f1e0a-5d43-4c11-9a54-1f7d50b1a000"
EXT4_ID = "6b2f1e0a-5d43-4c11-9a54-1f7d50b1a001"
EXT4_HASH_SEED = "6b2f1e0a-5d43-4c11-9a54-1f7d50b1a002"
BTRFS_ID = "6b2f1e0a-5d43-4c11-9a54-1f7d50b1a003"

EXT4_START = 1 * MIB
EXT4_SIZE = 24 * MIB
BTRFS_START = EXT4_START + EXT4_SIZE
BTRFS_SIZE = 40 * MIB
# A MiB is kept behind the last partition for the second table of GPT.
DISK_SIZE = BTRFS_START + BTRFS_SIZE + MIB

WELCOME = """\
Welcome to LKL Explorer.

You are looking into a disk image: a file that holds a whole disk. Nothing was
mounted on this computer and nothing can be written to the image: Linux' own
file systems run inside the program, and read it.

  Pictures      drawn by the script that made this disk
  Texts         tables, and names in several scripts
  Data          bytes for the hex view; a file that is mostly hole
  Links         a hard link, symbolic links, one of them broken
  Many files    five hundred of them

Drag a file or a folder out of the window, or choose "Extract to...".
The second volume holds a Btrfs file system.
"""


def main(output: Path) -> None:
    """Writes the disk image to output, which is replaced when it is whole."""
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    with tempfile.TemporaryDirectory(prefix="lkl-explorer-sample-") as name:
        folder = Path(name)
        ext4 = make_ext4(folder)
        btrfs = make_btrfs(folder)
        with part.open("wb") as disk:
            disk.truncate(DISK_SIZE)
        make_table(part)
        with part.open("r+b") as disk:
            for start, volume in ((EXT4_START, ext4), (BTRFS_START, btrfs)):
                disk.seek(start)
                copy_sparse(volume, disk.fileno())
    part.replace(output)


def make_table(disk: Path) -> None:
    """Writes the GPT."""
    kind = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"  # Linux file system data
    run(
        ("sfdisk", "--quiet", "--no-reread", disk),
        f"label: gpt\nlabel-id: {DISK_ID}\nunit: sectors\n"
        f"start={EXT4_START // 512}, size={EXT4_SIZE // 512}, type={kind}, "
        f"uuid={EXT4_ID}, name=first\n"
        f"start={BTRFS_START // 512}, size={BTRFS_SIZE // 512}, type={kind}, "
        f"uuid={BTRFS_ID}, name=second\n",
    )


def make_ext4(folder: Path) -> Path:
    """The first volume, in a file of its own."""
    tree = folder / "ext4"
    write(tree / "Welcome.txt", WELCOME.encode())
    write(tree / "Licence.txt", LICENCE.read_bytes())
    write(tree / "Pictures" / "Mandelbrot.png", mandelbrot(480, 320))
    write(tree / "Pictures" / "Colours.png", png(256, 256, colours))
    write(tree / "Texts" / "Multiplication.csv", table(40).encode())
    write(tree / "Texts" / "Primes.txt", primes(20000).encode())
    write(tree / "Texts" / "日本語.txt", "これはテキストファイルです。\n".encode())
    write(tree / "Texts" / "Größe und Maß.txt", "Eine Umlautprobe: äöü ß.\n".encode())
    write(tree / "Texts" / "Ελληνικά" / "άλφα.txt", "άλφα\n".encode())
    write(tree / "Data" / "All bytes.bin", bytes(range(256)) * 16)
    sparse = tree / "Data" / "Mostly hole.bin"
    write(sparse, b"begin")
    with sparse.open("r+b") as file:
        file.seek(64 * MIB)
        file.write(b"end")
    links = tree / "Links"
    links.mkdir()
    (links / "to the welcome").symlink_to("../Welcome.txt")
    (links / "to the pictures").symlink_to("../Pictures")
    (links / "to nowhere").symlink_to("missing")
    (links / "hard link to the welcome").hardlink_to(tree / "Welcome.txt")
    (tree / "Empty").mkdir()
    for number in range(1, 501):
        write(
            tree / "Many files" / f"{number:03}.txt", f"{number} squared is {number**2}\n".encode()
        )
    write(tree / "Private" / "diary.txt", b"Nothing to see here.\n", mode=0o600)
    settle(tree)

    volume = folder / "ext4.img"
    with volume.open("wb") as file:
        file.truncate(EXT4_SIZE)
    identity = ("-L", "first", "-U", EXT4_ID)
    options = ("-E", f"hash_seed={EXT4_HASH_SEED},root_owner=0:0,lazy_itable_init=0,nodiscard")
    run(
        ("mke2fs", "-q", "-F", "-t", "ext4", *identity, *options, "-d", tree, volume),
        environment={"E2FSPROGS_FAKE_TIME": str(EPOCH)},
    )
    return volume


def make_btrfs(folder: Path) -> Path:
    """The second volume, in a file of its own."""
    tree = folder / "btrfs"
    write(tree / "About.txt", b"This volume is a Btrfs file system.\n")
    for year in range(2021, 2027):
        for month in range(1, 13):
            text = "".join(f"{year}-{month:02}-{day:02}\n" for day in range(1, 29))
            write(tree / "Calendar" / str(year) / f"{month:02}.txt", text.encode())
    write(tree / "Pictures" / "Rings.png", png(300, 300, rings))
    settle(tree)

    volume = folder / "btrfs.img"
    with volume.open("wb") as file:
        file.truncate(BTRFS_SIZE)
    identity = ("--label", "second", "--uuid", BTRFS_ID)
    run(("mkfs.btrfs", "--quiet", "--mixed", *identity, "--rootdir", tree, volume))
    return volume


# ---- Contents -----------------------------------------------------------------------------


def table(size: int) -> str:
    """A multiplication table as CSV."""
    rows = [",".join(str(x * y) for x in range(1, size + 1)) for y in range(1, size + 1)]
    return "\n".join(rows) + "\n"


def primes(limit: int) -> str:
    """Primes below limit, one a line."""
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return "".join(f"{number}\n" for number in range(limit) if sieve[number])


def mandelbrot(width: int, height: int) -> bytes:
    """The Mandelbrot set as PNG."""

    def colour(x: int, y: int) -> tuple[int, int, int]:
        c = complex(3.0 * x / width - 2.1, 2.4 * y / height - 1.2)
        z = 0j
        for step in range(48):
            z = z * z + c
            if z.real * z.real + z.imag * z.imag > 4:
                return (5 * step, (9 * step) % 256, 255 - 5 * step)
        return (0, 0, 0)

    return png(width, height, colour)


def colours(x: int, y: int) -> tuple[int, int, int]:
    """Red to the right, green to the bottom."""
    return (x, y, 128)


def rings(x: int, y: int) -> tuple[int, int, int]:
    """Circles around the middle of 300 by 300."""
    distance = (x - 150) ** 2 + (y - 150) ** 2
    shade = (distance // 40) % 256
    return (shade, 90, 255 - shade)


def png(width: int, height: int, colour: Callable[[int, int], tuple[int, int, int]]) -> bytes:
    """A picture in 8-bit RGB (PNG, ISO/IEC 15948), a colour per place."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    rows = bytearray()
    for y in range(height):
        rows.append(0)  # this row: no filter
        for x in range(width):
            rows.extend(colour(x, y))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(rows), 9))
        + chunk(b"IEND", b"")
    )


# ---- Files --------------------------------------------------------------------------------


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def settle(tree: Path) -> None:
    """Gives every entry its time, a minute apart in the order of their names."""
    entries = [tree, *sorted(tree.rglob("*"))]
    for number, path in reversed(list(enumerate(entries))):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700 if path.name == "Private" else 0o755)
        moment = (EPOCH + 60 * number) * 10**9
        os.utime(path, ns=(moment, moment), follow_symlinks=False)


def copy_sparse(source: Path, target: int) -> None:
    """Copies a file to a descriptor's position, zeros as holes."""
    zeros = bytes(65536)
    with source.open("rb") as file:
        while piece := file.read(len(zeros)):
            if piece == zeros[: len(piece)]:
                os.lseek(target, len(piece), os.SEEK_CUR)
            else:
                os.write(target, piece)


def run(
    argv: Sequence[str | Path], text: str = "", environment: dict[str, str] | None = None
) -> None:
    """Runs a tool; ends with its message when it fails."""
    program = str(argv[0])
    # Debian keeps these tools out of an ordinary user's PATH.
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    if shutil.which(program, path=path) is None:
        sys.exit(f"make.py: needs {program}")
    done = subprocess.run(
        argv,
        input=text,
        env={**os.environ, **(environment or {}), "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"make.py: {program} failed ({done.returncode}): {done.stdout.strip()}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make.py OUTPUT")
    main(Path(sys.argv[1]))
