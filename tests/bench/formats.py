# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""One disk in every image format that a tool here can write, and who else reads it.

Half of each block is random, so that what compresses has work to do, and nothing is zeros, which
need not be read. QEMU's formats are read beside ``qemu-img bench`` with one request at a time, of
the same sizes at the same places, and each reader tells the seconds of its reads alone. Formats
that QEMU has no reader for are read beside their own tool, from its start to its exit.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.images import SEED, run_tool
from tests.bench.measure import BenchError
from tests.bench.reader import BLOCK, PIECE, STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

RECIPE = 1
"""Raised with every change of what the images hold."""


@dataclass(frozen=True)
class Format:
    """A way to store the disk."""

    title: str
    name: str
    """Of the file, with the ending that the format is known by."""
    make: tuple[str, ...]
    """The program that makes IMAGE of RAW, or prints what it makes."""
    qemu: str = ""
    """QEMU's name of the format, where it has a reader."""
    other: tuple[str, ...] = ()
    """A program that prints the disk, where it has not."""
    encoded: bool = False
    """Whether blocks are stored in another form, which costs more than to read them."""


def _converted(title: str, name: str, qemu: str, options: str = "", *more: str) -> Format:
    chosen = ("-o", options) if options else ()
    make = ("qemu-img", "convert", "-f", "raw", "-O", qemu, *chosen, *more, "RAW", "IMAGE")
    return Format(title, name, make, qemu=qemu, encoded="-c" in more)


def _acquired(title: str, name: str, level: str) -> Format:
    # It adds the ending to the name it is given.
    make = ("ewfacquire", "-u", "-q", "-c", level, "-S", "8GiB", "-t", "STEM", "RAW")
    other = ("ewfexport", "-u", "-q", "-t", "-", "IMAGE")
    return Format(title, name, make, other=other, encoded=True)


def _packed(program: str, name: str, *options: str) -> Format:
    make = (program, "-c", *options, "RAW")
    return Format(program, name, make, other=(program, "-d", "-c", "IMAGE"), encoded=True)


FORMATS = (
    Format("raw", "raw.img", ("cp", "RAW", "IMAGE"), qemu="raw"),
    _converted("qcow2", "plain.qcow2", "qcow2"),
    _converted("qcow2, zlib", "zlib.qcow2", "qcow2", "compression_type=zlib", "-c"),
    _converted("qcow2, zstd", "zstd.qcow2", "qcow2", "compression_type=zstd", "-c"),
    _converted("VMDK", "sparse.vmdk", "vmdk", "subformat=monolithicSparse"),
    _converted("VMDK, stream", "stream.vmdk", "vmdk", "subformat=streamOptimized", "-c"),
    _converted("VDI", "dynamic.vdi", "vdi"),
    _converted("VHD", "dynamic.vhd", "vpc", "subformat=dynamic,force_size=on"),
    _converted("VHDX", "dynamic.vhdx", "vhdx", "subformat=dynamic"),
    _converted("Parallels", "plain.hdd", "parallels"),
    _acquired("E01", "plain.E01", "none"),
    _acquired("E01, deflate", "fast.E01", "fast"),
    _packed("gzip", "disk.gz"),
    _packed("xz", "disk.xz", "-1", "--block-size=1MiB"),
    _packed("zstd", "disk.zst"),
)


# ---- Images -------------------------------------------------------------------------------


def make_formats(folder: Path, size: int) -> tuple[dict[Format, Path], str]:
    """Makes what is missing in folder; gives the files, and the disk's SHA-256."""
    stamp = folder / "recipe"
    recipe = f"{RECIPE} {SEED} {size} {FORMATS}"
    if not stamp.is_file() or stamp.read_text() != recipe:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        raw = folder / "disk"
        digest = make_disk(raw, size)
        for known in FORMATS:
            make_image(known, raw, folder / known.name)
        raw.unlink()
        (folder / "facts").write_text(digest)
        stamp.write_text(recipe)
    return {known: folder / known.name for known in FORMATS}, (folder / "facts").read_text()


def make_image(known: Format, raw: Path, image: Path) -> None:
    """Makes one of them."""
    argv = _filled(known.make, raw, image)
    if argv != _filled(known.make, raw, raw):
        run_tool(*argv)
        return
    with image.open("wb") as file:
        done = subprocess.run(argv, stdout=file, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{argv[0]} failed ({done.returncode}): {done.stderr}")


def _filled(argv: Sequence[str], raw: Path, image: Path) -> list[str]:
    words = {"RAW": str(raw), "IMAGE": str(image), "STEM": str(image.with_suffix(""))}
    return [re.sub("RAW|IMAGE|STEM", lambda found: words[found[0]], word) for word in argv]


def make_disk(path: Path, size: int) -> str:
    """A disk that compresses to about half; gives its SHA-256."""
    generator = random.Random(SEED)
    text = b"the quick brown fox jumps over the lazy dog; " * BLOCK
    total = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(size // BLOCK):
            block = generator.randbytes(BLOCK // 2) + text[number % 45 :][: BLOCK // 2]
            total.update(block)
            file.write(block)
    return total.hexdigest()


# ---- Readers ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """A program that reads an image, and how long it says that took."""

    name: str
    argv: tuple[str | Path, ...]
    seconds: Callable[[str], float] | None = None
    """From what it prints; None: from its start to its exit."""

    def measure(self) -> float:
        """Runs it; gives its seconds."""
        output = subprocess.PIPE if self.seconds else subprocess.DEVNULL
        begin = time.perf_counter()
        done = subprocess.run(self.argv, stdout=output, stderr=subprocess.PIPE, check=False)
        wall = time.perf_counter() - begin
        if done.returncode:
            text = done.stderr.decode(errors="backslashreplace").strip()[-1000:]
            raise BenchError(f"{self.name} failed ({done.returncode}): {text}")
        return self.seconds(done.stdout.decode()) if self.seconds else wall


def our_reader(image: Path, what: str, count: int = 1) -> Reader:
    """This program's; ``count`` are passes, or places."""

    def seconds(output: str) -> float:
        return float(json.loads(output)["seconds"])

    program = (sys.executable, "-m", "tests.bench.reader")
    return Reader("ours", (*program, what, image, str(count)), seconds)


def our_digest(image: Path) -> str:
    """The disk's SHA-256 as this program reads it."""
    done = subprocess.run(
        our_reader(image, "digest").argv, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"{image} cannot be read: {done.stderr.strip()[-1000:]}")
    return str(json.loads(done.stdout)["sha256"])


def sequential_peer(known: Format, image: Path, size: int) -> Reader:
    """Who else reads the disk in order, over and over up to ``size``; once without QEMU."""
    if known.qemu:
        return _qemu_bench(known, image, size // PIECE, PIECE, PIECE)
    argv = tuple(_filled(known.other, image, image))
    return Reader(" ".join(known.other[:-1]), argv)


def random_peer(known: Format, image: Path, count: int) -> Reader | None:
    """Who else reads single blocks at the same places."""
    return _qemu_bench(known, image, count, BLOCK, STEP) if known.qemu else None


def _qemu_bench(known: Format, image: Path, count: int, length: int, step: int) -> Reader:
    def seconds(output: str) -> float:
        found = re.search(r"Run completed in ([0-9.]+) seconds", output)
        if found is None:
            raise BenchError(f"qemu-img bench said {output!r}")
        return float(found[1])

    numbers = ("-d", "1", "-c", str(count), "-s", str(length), "-S", str(step))
    return Reader(
        "qemu-img bench", ("qemu-img", "bench", "-f", known.qemu, *numbers, image), seconds
    )


def alternate_readers(readers: Sequence[Reader], rounds: int) -> dict[str, list[float]]:
    """Seconds of every reader, run in turn, and once before to warm the caches."""
    results: dict[str, list[float]] = {reader.name: [] for reader in readers}
    for reader in readers:
        reader.measure()
    for turn in range(rounds):
        first = turn % len(readers)
        for reader in (*readers[first:], *readers[:first]):
            results[reader.name].append(reader.measure())
    return results
