# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The images that are measured: computed from fixed seeds, kept in build/bench.

All of them together, with those of formats.py, stay below 6 GB. They are made again when their
recipe changes.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.measure import MIB, BenchError, run_micro

if TYPE_CHECKING:
    from pathlib import Path

SEED = 20260101
RECIPE = 2
"""Raised with every change of what the images hold."""

FILES_PER_FOLDER = 100
MARKED_STEP = 50
"""Of so many small files one has what simple readers lose."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    name: str
    data: int
    """Bytes of the one large file."""
    entries: int
    """Entries of the one large folder."""
    files: int
    """Small files, in folders of FILES_PER_FOLDER."""
    disk: int
    """Bytes of the disk that is stored in every format."""


FULL = Sizes("full", 1024 * MIB, 100_000, 80_000, 256 * MIB)
QUICK = Sizes("quick", 128 * MIB, 10_000, 4_000, 64 * MIB)


@dataclass(frozen=True)
class Images:
    """The images, and what is known to be in them."""

    data: Path
    """ext4 with the file "data"."""
    data_file: Path
    """That file, on the host."""
    data_hash: str
    """SHA-256 of it."""
    many: Path
    """ext4 with the folder "many"."""
    small: Path
    """ext4 with the folder "files"."""
    small_tree: Path
    """What it was made of, on the host."""
    small_hash: str
    """:func:`tree_hash` of it."""
    small_bytes: int
    xfs: Path
    btrfs: Path


def make_images(folder: Path, sizes: Sizes, micro: tuple[str | Path, ...]) -> Images:
    """Makes what is missing in folder; micro fills the large directory."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "recipe"
    recipe = f"{RECIPE} {SEED} {sizes}"
    if not stamp.is_file() or stamp.read_text() != recipe:
        shutil.rmtree(folder)
        folder.mkdir()
        make_data(folder, sizes)
        make_many(folder, sizes, micro)
        make_small(folder, sizes)
        make_empty(folder)
        stamp.write_text(recipe)
    small_hash, small_bytes = (folder / "small.facts").read_text().split()
    return Images(
        folder / "data.img",
        folder / "data.tree" / "data",
        (folder / "data.facts").read_text(),
        folder / "many.img",
        folder / "small.img",
        folder / "small.tree",
        small_hash,
        int(small_bytes),
        folder / "xfs.img",
        folder / "btrfs.img",
    )


def make_data(folder: Path, sizes: Sizes) -> None:
    """One large file of random bytes."""
    tree = folder / "data.tree"
    tree.mkdir()
    generator = random.Random(SEED)
    total = hashlib.sha256()
    with (tree / "data").open("wb") as file:
        for _ in range(sizes.data // MIB):
            piece = generator.randbytes(MIB)
            total.update(piece)
            file.write(piece)
    make_ext4(folder / "data.img", sizes.data + sizes.data // 16 + 64 * MIB, tree)
    (folder / "data.facts").write_text(total.hexdigest())


def make_many(folder: Path, sizes: Sizes, micro: tuple[str | Path, ...]) -> None:
    """One large folder of empty files, made by this project's kernel, checked by e2fsck."""
    image = folder / "many.img"
    make_ext4(image, 64 * MIB + sizes.entries * 400, None, inodes=sizes.entries + 1000)
    run_micro((*micro, "fill", image, "ext4", "many", str(sizes.entries)))
    run_tool("e2fsck", "-fn", image)


def make_small(folder: Path, sizes: Sizes) -> None:
    """Many small files, of 1 to 8 KiB; some with a mode, an attribute, a second name."""
    tree = folder / "small.tree"
    generator = random.Random(SEED)
    count = 0
    for number in range(sizes.files):
        place = tree / "files" / f"folder-{number // FILES_PER_FOLDER:04}"
        place.mkdir(parents=True, exist_ok=True)
        content = generator.randbytes(generator.randrange(1024, 8 * 1024))
        path = place / f"file-{number:06}.bin"
        path.write_bytes(content)
        count += len(content)
        if number % MARKED_STEP == 0:
            path.chmod(0o640)
            os.setxattr(path, "user.bench", b"marked")
            path.with_suffix(".link").hardlink_to(path)
        # Whole seconds, as mke2fs writes them.
        os.utime(path, (SEED, SEED + number))
    facts = f"{tree_hash(tree / 'files')} {count}"
    make_ext4(folder / "small.img", count * 3 // 2 + 64 * MIB, tree, inodes=sizes.files * 2)
    (folder / "small.facts").write_text(facts)


def make_empty(folder: Path) -> None:
    """Empty file systems, of which only the mount is measured."""
    for name in ("xfs", "btrfs"):
        image = folder / f"{name}.img"
        with image.open("wb") as file:
            file.truncate(512 * MIB)
        run_tool(f"mkfs.{name}", "-q", image)


def make_ext4(image: Path, size: int, tree: Path | None, inodes: int | None = None) -> None:
    """An ext4 image with the contents of tree."""
    with image.open("wb") as file:
        file.truncate(size // MIB * MIB)
    options: list[str | Path] = ["-E", "lazy_itable_init=0,lazy_journal_init=0"]
    if tree is not None:
        options += ["-d", tree]
    if inodes is not None:
        options += ["-N", str(inodes)]
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", *options, image)


def tree_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of all files below a folder."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def run_tool(program: str, *arguments: str | Path) -> None:
    """Runs a tool of a file system, which Debian keeps out of an ordinary user's PATH."""
    environment = {**os.environ, "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"}
    path = shutil.which(program, path=environment["PATH"])
    if path is None:
        raise BenchError(f"needs {program}")
    done = subprocess.run(
        (path, *arguments), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"{program} failed ({done.returncode}): {done.stdout}{done.stderr}")
