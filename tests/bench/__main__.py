# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the program costs, beside other readers of the same images on the same machine.

Each comparison is of whole processes, from start to exit, on images that the host's page cache
holds; before it is timed, its result is checked. Figures "in process" come from micro.c, which
calls the library without Python. Medians are printed; build/bench.json keeps every run.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.formats import (
    alternate_readers,
    make_formats,
    our_digest,
    our_reader,
    random_peer,
    sequential_peer,
)
from tests.bench.images import FULL, QUICK, Images, Sizes, make_images, tree_hash
from tests.bench.latency import JOBS, copy_latency, listing_latency
from tests.bench.measure import (
    MIB,
    BenchError,
    Contestant,
    Runs,
    alternate,
    median,
    output_hash,
    peak_memory,
    repeat_micro,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.bench.formats import Reader

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
FOLDER = BUILD / "bench"
EXPLORER = Path(sys.executable).with_name("lkl-explorer")
KERNEL = BUILD / "lkl-kernel.so"
LISTED = b"/files/folder-0000"
LISTINGS = 20
"""In each round."""
MICRO = (FOLDER / "micro", KERNEL)


@dataclass
class Row:
    """A line of the table: this program, and others beside it."""

    title: str
    ours: str
    others: list[str] = field(default_factory=list)


@dataclass
class Bench:
    """The table and the record of one run."""

    sizes: Sizes
    rounds: int
    rows: list[Row] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def images(self) -> Images:
        """The images, made when they are first wanted."""
        folder = FOLDER / self.sizes.name
        print(f"making images in {folder} ...", flush=True)
        return make_images(folder, self.sizes, MICRO)

    def in_process(self, name: str, arguments: tuple[str | Path, ...]) -> dict[str, list[float]]:
        """Repeats a measurement of micro and keeps its runs."""
        figures = repeat_micro((*MICRO, *arguments), self.rounds)
        self.record[name] = figures
        return figures

    def compare_readers(
        self, name: str, title: str, readers: list[Reader], show: Callable[[float], str]
    ) -> None:
        """Compares readers that tell their own seconds, the first ours; adds a row."""
        results = alternate_readers(readers, self.rounds)
        self.record[name] = results
        ours, *others = (median(results[reader.name]) for reader in readers)
        row = Row(title, show(ours))
        for reader, seconds in zip(readers[1:], others, strict=True):
            row.others.append(f"{reader.name} {show(seconds)} ({seconds / ours:.2f}x)")
        self.rows.append(row)

    def compare(self, name: str, title: str, contestants: list[Contestant]) -> dict[str, Runs]:
        """Compares whole programs, of which the first is ours; adds a row of times."""
        results = alternate(contestants, self.rounds)
        self.record[name] = {key: dataclasses.asdict(runs) for key, runs in results.items()}
        ours, *others = contestants
        own = median(results[ours.name].wall)
        row = Row(title, seconds(own))
        for other in others:
            wall = median(results[other.name].wall)
            row.others.append(f"{other.name} {seconds(wall)} ({ratio(wall, own)})")
        self.rows.append(row)
        return results


def main() -> int:
    """Measures everything; prints the table and writes the record."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the size, or less")
    parser.add_argument("--rounds", type=int, default=0, help="runs of each program (default 5)")
    parser.add_argument("what", nargs="*", choices=[*MEASURES, "all"], default="all")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    rounds = options.rounds or (3 if options.quick else 5)
    try:
        build_micro()
        bench = Bench(sizes, rounds)
        begin = describe_machine()
        for name in MEASURES if "all" in options.what else options.what:
            print(f"measuring {name} ...", flush=True)
            MEASURES[name](bench)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print_table(bench.rows)
    report = {
        "begin": begin,
        "end": describe_machine(),
        "sizes": dataclasses.asdict(sizes),
        "rounds": rounds,
        "measurements": bench.record,
    }
    path = BUILD / "bench.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nmedians of {rounds} runs; every run: {path}")
    return 0


# ---- What is measured ---------------------------------------------------------------------


def measure_boot(bench: Bench) -> None:
    """Boot of the kernel, and the process's memory after it."""
    figures = repeat_micro((*MICRO, "boot"), max(21, bench.rounds))
    bench.record["boot"] = figures
    bench.rows.append(Row("kernel boot", milliseconds(figures["seconds"])))
    before = f"{mebibytes(figures['resident_before'])} before the kernel"
    memory = mebibytes(figures["resident"])
    bench.rows.append(Row("  resident memory of the process then", memory, [before]))


def measure_mounts(bench: Bench) -> None:
    """First mount of a file system, and the process's memory after it."""
    for kind, image in (
        ("ext4", bench.images.small),
        ("xfs", bench.images.xfs),
        ("btrfs", bench.images.btrfs),
    ):
        figures = bench.in_process(f"mount {kind}", ("mount", image, kind))
        bench.rows.append(Row(f"first mount, {kind}", milliseconds(figures["seconds"])))
        memory = mebibytes(figures["resident"])
        bench.rows.append(Row("  resident memory of the process then", memory))


def measure_calls(bench: Bench) -> None:
    """A system call that does nothing, and one that copies a cached page."""
    figures = bench.in_process("getppid", ("call", "3000000"))
    bench.rows.append(Row("system call (getppid)", nanoseconds(figures["nanoseconds"])))
    arguments = ("pread", bench.images.data, "ext4", "data", "300000")
    figures = bench.in_process("pread", arguments)
    bench.rows.append(Row("system call (pread, 4 KiB cached)", nanoseconds(figures["nanoseconds"])))


def measure_reading(bench: Bench) -> None:
    """One large file from its first to its last byte."""
    image = bench.images.data
    ours = Contestant("lkl-explorer cat", (EXPLORER, "cat", image, "/data"))
    seven = Contestant("7z x -so", ("7z", "x", "-so", image, "data"))
    for contestant in (ours, seven):
        if output_hash(contestant) != bench.images.data_hash:
            raise BenchError(f"{contestant.name} gave other bytes than were written")
    size = bench.sizes.data
    bench.compare(
        "read",
        f"read {size // MIB} MiB to /dev/null",
        [ours, Contestant("cat of the image", ("cat", image)), seven],
    )
    for way in ("buffered", "direct"):
        figures = bench.in_process(f"read {way}", ("read", image, "ext4", "data", way))
        if set(figures["bytes"]) != {float(size)}:
            raise BenchError(f"{way} reads ended early: {figures['bytes']}")
        rate = size / median(figures["seconds"]) / 1e9
        bench.rows.append(Row(f"  in process, {way}, 1 MiB a call", f"{rate:.2f} GB/s"))


def measure_listing(bench: Bench) -> None:
    """One large folder, with the times and sizes of its entries."""
    image, entries = bench.images.many, bench.sizes.entries
    ours = Contestant("lkl-explorer ls -l", (EXPLORER, "ls", "-l", image, "/many"))
    others = [
        Contestant("7z l", ("7z", "l", image)),
        Contestant("debugfs ls -l", ("/usr/sbin/debugfs", "-R", "ls -l /many", image)),
    ]
    for contestant in (ours, *others):
        done = subprocess.run(contestant.argv, capture_output=True, check=False)
        found = done.stdout.count(b"entry-")
        if found != entries:
            raise BenchError(f"{contestant.name} listed {found} of {entries} entries")
    bench.compare("list", f"list {entries} entries", [ours, *others])
    peaks = {contestant.name: peak_memory(contestant) for contestant in (ours, *others)}
    bench.record["list peak memory"] = peaks
    beside = [f"{other.name} {mebibytes([peaks[other.name]])}" for other in others]
    bench.rows.append(Row("  peak memory", mebibytes([peaks[ours.name]]), beside))
    figures = bench.in_process("list with statx", ("list", image, "ext4", "many"))
    if set(figures["entries"]) != {float(entries)}:
        raise BenchError(f"lkl_read_directory gave {figures['entries']} entries")
    bench.rows.append(Row("  in process, statx of each", milliseconds(figures["seconds"])))
    figures = bench.in_process("list names", ("names", image, "ext4", "many"))
    if set(figures["entries"]) != {float(entries + 2)}:
        raise BenchError(f"getdents64 gave {figures['entries']} entries")
    bench.rows.append(Row("  in process, names only", milliseconds(figures["seconds"])))


def measure_latency(bench: Bench) -> None:
    """A folder of some hundred files, while the engine is busy with something else."""
    images, rounds = bench.images, bench.rounds
    for name, job in JOBS.items():
        latency = listing_latency(images.small, LISTED, job, LISTINGS * rounds)
        bench.record[f"listing latency: {name}"] = dataclasses.asdict(latency)
        whole = sorted(latency.whole)
        title = "list a folder while idle" if job is None else f"  while busy: {name}"
        most = f"95 % within {1000 * whole[len(whole) * 95 // 100]:.1f} ms"
        bench.rows.append(Row(title, f"{1000 * median(whole):.1f} ms", [most]))
    folder = choose_target(images)
    folder.mkdir()
    try:
        latency = copy_latency(images.small, LISTED, folder)
    finally:
        shutil.rmtree(folder)
    bench.record["listing latency: copy"] = dataclasses.asdict(latency)
    whole = sorted(latency.whole)
    most = f"95 % within {1000 * whole[len(whole) * 95 // 100]:.1f} ms, {len(whole)} listings"
    bench.rows.append(Row("  while busy: copy", f"{1000 * median(whole):.1f} ms", [most]))
    latency = listing_latency(images.many, b"/many", None, rounds)
    bench.record["first entries"] = dataclasses.asdict(latency)
    shown = f"{1000 * median(latency.first):.1f} ms, all in {1000 * median(latency.whole):.0f} ms"
    bench.rows.append(Row(f"first of {bench.sizes.entries} entries", shown))


def measure_copying(bench: Bench) -> None:
    """Many small files, and a large one, to a file system of the host."""
    folder = choose_target(bench.images)
    try:
        copy_files(bench, folder)
        copy_data(bench, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_files(bench: Bench, folder: Path) -> None:
    """Copies many small files to a folder."""
    image, files = bench.images.small, bench.sizes.files
    contestants = [
        Contestant("lkl-explorer cp -r", (EXPLORER, "cp", "-r", image, "/files", folder), folder),
        Contestant("7z x", ("7z", "x", "-y", f"-o{folder}", image, "files"), folder),
        Contestant("tsk_recover -a", ("tsk_recover", "-a", image, folder), folder),
        Contestant(
            "debugfs rdump", ("/usr/sbin/debugfs", "-R", f"rdump /files {folder}", image), folder
        ),
        Contestant("host cp -a", ("cp", "-a", bench.images.small_tree / "files", folder), folder),
    ]
    losses = []
    for contestant in contestants:
        run(contestant, Runs())
        if tree_hash(folder / "files") != bench.images.small_hash:
            raise BenchError(f"{contestant.name} did not copy all files")
        lost = lost_on_the_way(bench.images.small_tree / "files", folder / "files")
        losses.append(f"{contestant.name}: {lost}")
    results = bench.compare(
        "copy",
        f"copy {files} files, {bench.images.small_bytes // MIB} MiB, to {folder.parent}",
        contestants,
    )
    bench.record["copy losses"] = losses
    bench.rows.append(Row("  lost on the way", losses[0].partition(": ")[2], losses[1:]))
    rate = files / median(results[contestants[0].name].wall)
    bench.rows.append(Row("  of the whole program", f"{rate:,.0f} files/s"))
    figures = bench.in_process("open", ("open", bench.images.small, "ext4", "files/folder-0000"))
    each = [
        took / count for took, count in zip(figures["seconds"], figures["entries"], strict=True)
    ]
    bench.rows.append(
        Row("  in process, open + read + close", f"{median(each) * 1e6:.1f} us a file")
    )


def measure_evidence(bench: Bench) -> None:
    """The digest of a disk, a timeline, and a search of all contents."""
    image = bench.images.data
    contestants = [
        Contestant("lkl-explorer hash", (EXPLORER, "hash", image)),
        Contestant("sha256sum", ("sha256sum", image)),
    ]
    digests = [
        set(re.findall(rb"\b[0-9a-f]{64}\b", printed_by(contestant))) for contestant in contestants
    ]
    if digests[0] != digests[1]:
        raise BenchError("hash and sha256sum do not agree")
    size = image.stat().st_size
    bench.compare("hash", f"SHA-256 of {size // MIB} MiB", contestants)

    image, files = bench.images.small, bench.sizes.files
    contestants = [
        Contestant("lkl-explorer timeline", (EXPLORER, "timeline", image)),
        Contestant("fls -m / -r", ("fls", "-m", "/", "-r", image)),
    ]
    for contestant in contestants:
        rows = sum(b"|r/r" in line for line in printed_by(contestant).splitlines())
        if rows != files:
            raise BenchError(f"{contestant.name} told of {rows} of {files} files")
    bench.compare("timeline", f"timeline of {files} files", contestants)

    folder = choose_target(bench.images)
    try:
        search_files(bench, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def search_files(bench: Bench, folder: Path) -> None:
    """Searches all contents, beside grep on a copy that the host has."""
    image = bench.images.small
    run(Contestant("cp", (EXPLORER, "cp", "-r", image, "/files", folder), folder), Runs())
    needle = "ab1"
    contestants = [
        Contestant("lkl-explorer grep", (EXPLORER, "grep", "--encoding", "latin-1", image, needle)),
        Contestant("grep -r of a copy", ("grep", "-r", "-a", "-o", "-b", "-F", needle, folder)),
    ]
    found = [len(printed_by(contestant).splitlines()) for contestant in contestants]
    if found[0] != found[1] or not found[0]:
        raise BenchError(f"{found[0]} matches, where grep has {found[1]}")
    bench.compare("grep", f"search {bench.images.small_bytes // MIB} MiB of files", contestants)


def printed_by(contestant: Contestant) -> bytes:
    """What a program prints."""
    return subprocess.run(contestant.argv, capture_output=True, check=True).stdout


def lost_on_the_way(tree: Path, copy: Path) -> str:
    """What of a tree's files a copy has not: times, modes, attributes, hard links."""
    lost = dict.fromkeys(("times", "modes", "attributes", "links"), 0)
    for path in tree.rglob("*"):
        ours, theirs = path.lstat(), (copy / path.relative_to(tree)).lstat()
        if path.is_file():
            lost["times"] += ours.st_mtime != theirs.st_mtime
            lost["modes"] += ours.st_mode != theirs.st_mode
            lost["links"] += ours.st_nlink != theirs.st_nlink
            lost["attributes"] += os.listxattr(path) != os.listxattr(copy / path.relative_to(tree))
    return ", ".join(f"{number} {what}" for what, number in lost.items() if number) or "nothing"


def copy_data(bench: Bench, folder: Path) -> None:
    """Copies one large file to a folder."""
    image, size = bench.images.data, bench.sizes.data
    contestants = [
        Contestant("lkl-explorer cp", (EXPLORER, "cp", image, "/data", folder), folder),
        Contestant("7z x", ("7z", "x", "-y", f"-o{folder}", image, "data"), folder),
        Contestant(
            "debugfs dump", ("/usr/sbin/debugfs", "-R", f"dump /data {folder}/data", image), folder
        ),
        Contestant("host cp", ("cp", bench.images.data_file, folder), folder),
    ]
    for contestant in contestants:
        run(contestant, Runs())
        with (folder / "data").open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != bench.images.data_hash:
                raise BenchError(f"{contestant.name} copied other bytes")
    bench.compare("copy large", f"copy a file of {size // MIB} MiB", contestants)


def measure_formats(bench: Bench) -> None:
    """The same disk in every format: in order, and at random places."""
    size = bench.sizes.disk
    images, digest = make_formats(FOLDER / f"formats-{bench.sizes.name}", size)
    for known, image in images.items():
        if our_digest(image) != digest:
            raise BenchError(f"{image} is not read as what was stored in it")
        # What is quickly read is read several times over: qemu-img tells milliseconds.
        passes, count = (1, 200) if known.encoded else (8, 20_000)
        bench.compare_readers(
            f"{known.title}, in order",
            f"{known.title}: {size // MIB} MiB in order",
            [our_reader(image, "direct", passes), sequential_peer(known, image, passes * size)],
            partial(throughput, passes * size),
        )
        peer = random_peer(known, image, count)
        bench.compare_readers(
            f"{known.title}, random",
            "  4 KiB at random places",
            [our_reader(image, "random", count), *([peer] if peer else [])],
            partial(microseconds, count),
        )


MEASURES: dict[str, Callable[[Bench], None]] = {
    "boot": measure_boot,
    "mounts": measure_mounts,
    "calls": measure_calls,
    "reading": measure_reading,
    "listing": measure_listing,
    "latency": measure_latency,
    "copying": measure_copying,
    "evidence": measure_evidence,
    "formats": measure_formats,
}


# ---- Surroundings -------------------------------------------------------------------------


def build_micro() -> None:
    """Compiles micro.c against the library."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{ROOT}/liblkl/include")
    library = (BUILD / "liblkl.so", f"-Wl,-rpath,{BUILD}")
    done = subprocess.run(
        ("cc", *flags, "-o", MICRO[0], Path(__file__).with_name("micro.c"), *library),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"micro.c does not compile: {done.stderr}")


def choose_target(images: Images) -> Path:
    """Where copies go: memory where there is room, so that no disk is measured."""
    memory = Path("/dev/shm")
    room = shutil.disk_usage(memory).free if memory.is_dir() else 0
    parent = memory if room > 4 * images.small_bytes else FOLDER
    return parent / f"lkl-explorer-bench-{os.getpid()}"


def describe_machine() -> dict[str, Any]:
    """What figures depend on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    commit = subprocess.run(
        ("git", "describe", "--always", "--dirty"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": model,
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "kernel_image_bytes": KERNEL.stat().st_size,
    }


# ---- Text ---------------------------------------------------------------------------------


def print_table(rows: list[Row]) -> None:
    """Prints the rows in columns; a ratio above 1 says that this program is quicker."""
    title = max(len(row.title) for row in rows)
    ours = max(len(row.ours) for row in rows)
    print(f"\n{'':{title}}  {'ours':>{ours}}  beside (their time / ours)")
    for row in rows:
        print(f"{row.title:{title}}  {row.ours:>{ours}}  {', '.join(row.others)}".rstrip())


def seconds(value: float) -> str:
    """Seconds."""
    return f"{value:.3f} s"


def milliseconds(values: list[float]) -> str:
    """The median of seconds, in milliseconds."""
    return f"{median(values) * 1e3:.2f} ms"


def nanoseconds(values: list[float]) -> str:
    """The median of nanoseconds."""
    return f"{median(values):.0f} ns"


def throughput(size: int, taken: float) -> str:
    """Bytes in a time."""
    return f"{size / taken / 1e9:.2f} GB/s"


def microseconds(count: int, taken: float) -> str:
    """What each of several took."""
    return f"{taken / count * 1e6:.1f} us"


def mebibytes(values: Sequence[float]) -> str:
    """The median of bytes, in MiB."""
    return f"{median(values) / MIB:.1f} MiB"


def ratio(other: float, own: float) -> str:
    """How many times longer the other took."""
    return f"{other / own:.1f}x"


if __name__ == "__main__":
    sys.exit(main())
