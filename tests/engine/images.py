# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images for the tests of engine and window, made by the file systems' own tools."""

from __future__ import annotations

import os
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
SECTOR = 512
MODIFIED_NS = 1_600_000_000_000_000_000
EXACT_NS = MODIFIED_NS + 123_456_789
"""Of ``readme.txt``: the tool that fills an ext4 leaves out the nanoseconds."""
TEXT = "Grüße aus dem Abbild\n" * 40
LATIN = "Grüße".encode("latin-1")
LARGE_SIZE = 3 * MIB + 17
XATTR = (b"user.note", b"a note")
ODD_NAMES: tuple[bytes, ...] = (
    b"caf\xe9",
    b"two\nlines",
    b"-rf",
    b"tab\there",
    "日本語.txt".encode(),
)
COUNT = 120


def png(width: int, height: int) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\x20\x80\xc0" * width) * height
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def large_bytes() -> bytes:
    """Contents of ``folder/large.bin``: every 8 bytes are their own offset."""
    return b"".join(struct.pack(">Q", at) for at in range(0, LARGE_SIZE + 8, 8))[:LARGE_SIZE]


def make_tree(root: Path) -> None:
    """Everything a view has to cope with, in a folder of the host."""
    root.mkdir()
    (root / "readme.txt").write_text(TEXT, encoding="utf-8")
    (root / "latin.txt").write_bytes(LATIN)
    (root / "empty").touch()
    (root / "picture.png").write_bytes(png(40, 30))
    folder = root / "folder"
    folder.mkdir()
    (folder / "large.bin").write_bytes(large_bytes())
    (folder / "below").mkdir()
    (folder / "below" / "deep.txt").write_text("deep\n")
    os.mkfifo(folder / "pipe")
    many = root / "many"
    many.mkdir()
    for number in range(COUNT):
        (many / f"file{number}.txt").write_bytes(b"x" * number)
    for folder_name in ("Alpha", "beta", "gamma10", "gamma9"):
        (many / folder_name).mkdir()
    odd = root / "odd"
    odd.mkdir()
    for name in ODD_NAMES:
        (odd / os.fsdecode(name)).write_bytes(bytes(name))
    links = root / "links"
    links.mkdir()
    (links / "to-folder").symlink_to("../folder")
    (links / "absolute").symlink_to("/folder/below")
    (links / "out").symlink_to("../../../../folder/below/deep.txt")
    (links / "dangling").symlink_to("nowhere")
    (links / "loop").symlink_to("loop")
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, ns=(MODIFIED_NS, MODIFIED_NS), follow_symlinks=False)
    os.utime(root, ns=(MODIFIED_NS, MODIFIED_NS))
    os.utime(root / "readme.txt", ns=(EXACT_NS, EXACT_NS))


def make_ext4(tree: Path, image: Path, *, label: str = "sample") -> None:
    """An ext4 of 24 MiB with a tree in it, and what the tool that fills it leaves out."""
    with image.open("wb") as file:
        file.truncate(24 * MIB)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-d", tree, image)
    name, value = XATTR
    run("debugfs", "-w", "-R", f'ea_set /readme.txt {name.decode()} "{value.decode()}"', image)
    # Two bits of the year come first.
    extra = EXACT_NS % 1_000_000_000 << 2
    run("debugfs", "-w", "-R", f"set_inode_field /readme.txt mtime_extra {extra}", image)


def make_disk(volume: Path, disk: Path) -> None:
    """A disk with an MBR and three partitions: ``volume``, one that is encrypted, one of zeros."""
    start = 2048
    sectors = (volume.stat().st_size // SECTOR, 8192, 2048)
    starts = [start, start + sectors[0], start + sectors[0] + sectors[1]]
    table = b"".join(
        struct.pack("<B3sB3sII", 0, b"", 0x83, b"", *at) for at in zip(starts, sectors, strict=True)
    )
    # The head of a LUKS2 header, which is all that tells one.
    locked = b"LUKS\xba\xbe" + struct.pack(">HQQ", 2, 16384, 1) + b"secret".ljust(48, b"\0")
    with disk.open("wb") as file:
        file.write(bytes(446) + table + bytes(16) + b"\x55\xaa")
        file.seek(starts[0] * SECTOR)
        file.write(volume.read_bytes())
        file.seek(starts[1] * SECTOR)
        file.write(locked)
        file.truncate((starts[2] + sectors[2]) * SECTOR)


def make_crowd(folder: Path, image: Path, count: int) -> None:
    """A SquashFS of one folder with ``count`` empty files; ext4's own tool needs minutes for it."""
    crowd = folder / "crowd"
    crowd.mkdir()
    for number in range(count):
        # Scattered, so that sorting has something to do.
        (crowd / f"file{number * 7919 % count:06d}.txt").touch()
    run("mksquashfs", crowd, image, "-quiet", "-no-progress", "-comp", "gzip")


def run(*arguments: str | Path) -> None:
    """Runs a tool; its output is the test's only when it fails."""
    done = subprocess.run(arguments, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
