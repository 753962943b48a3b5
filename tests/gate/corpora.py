# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where hostile images come from: each is made when its turn comes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING

from explorer.core.views import View
from tests.fuzz import image_seeds, volume_seeds
from tests.fuzz.mutation import mutate as mutate_input
from tests.gate.bases import NAMES, can_be_made, make_base
from tests.gate.mutation import mutate
from tests.trees import find_tool
from tests.volumes.truth import IMAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fuzz.seed import Seed
    from tests.gate.bases import Base

UNPACKED = (".xz", ".gz", ".bz2")
LARGEST = 1 << 30
"""Bytes, zeros not counted, to which an image of others is unpacked; opened as it is beyond."""
ALL_VIEWS = (View.AUTO, View.STORED, View.RECOVERED)
_PIECE = 1 << 20
_TOOL_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Case:
    """An image to be opened in one view."""

    corpus: str
    name: str
    view: View
    make: Callable[[Path], Path]
    """Makes it in an empty folder, or finds it elsewhere; returns what is to be opened."""

    @property
    def title(self) -> str:
        """What ``--only`` is compared with."""
        return f"{self.corpus}/{self.name}"


# ---- Of other projects -------------------------------------------------------------------------


def real(views: tuple[View, ...] = ALL_VIEWS) -> Iterator[Case]:
    """Every image beside the project, whatever it is."""
    for path in sorted(IMAGES.glob("*/*")):
        if path.parent.name != "truth":
            for view in views:
                yield Case("real", f"{path.parent.name}/{path.name}", view, partial(_unpack, path))


def _unpack(path: Path, folder: Path) -> Path:
    """A compressed image unpacked, with zeros as holes; any other where it lies."""
    if path.suffix not in UNPACKED:
        return path
    target = folder / path.stem
    command = {".xz": "xz", ".gz": "gzip", ".bz2": "bzip2"}[path.suffix]
    written = 0
    with (
        subprocess.Popen([command, "-dc", path], stdout=subprocess.PIPE) as process,
        target.open("wb") as output,
    ):
        assert process.stdout is not None
        while piece := process.stdout.read(_PIECE):
            if piece.count(0) == len(piece):
                output.seek(len(piece), os.SEEK_CUR)
                continue
            output.write(piece)
            written += len(piece)
            if written > LARGEST:
                process.kill()
                return path
        output.truncate()
    return target


# ---- Changed by chance -------------------------------------------------------------------------


class Bases:
    """Whole images, each made when it is first asked for, from any thread."""

    def __init__(self) -> None:
        self._made: dict[str, Base] = {}
        self._lock = Lock()

    def get(self, name: str) -> Base:
        """One of them."""
        with self._lock:
            if name not in self._made:
                with TemporaryDirectory() as folder:
                    self._made[name] = make_base(name, Path(folder))
            return self._made[name]


def mutated(bases: Bases, count: int, seed: int) -> Iterator[Case]:
    """Changed images, as many of each file system; each opened in one of the views."""
    names = [name for name in NAMES if can_be_made(name)]
    for number in range(count):
        base = names[number % len(names)]
        name = f"{base}/{seed}-{number}"
        yield Case("mutated", name, _view(name), partial(_mutate, bases, base, name))


def _view(name: str) -> View:
    return random.Random(f"view {name}").choice((*ALL_VIEWS, View.AUTO))


def _mutate(bases: Bases, base: str, name: str, folder: Path) -> Path:
    path = folder / "image"
    mutate(bases.get(base), path, name)
    return path


# ---- Changed by tools that know the structures ---------------------------------------------------

_XFS_TYPES = (
    "agf", "agi", "agfl", "bnobt", "cntbt", "inobt", "finobt", "rmapbt", "refcntbt", "inode",
    "dir3", "attr3", "bmapbta", "sb",
)  # fmt: skip
_XFS_VERBS = ("zeroes", "ones", "firstbit", "middlebit", "lastbit", "add", "sub", "random")
_XFS_FIELDS = {
    "sb 0": (
        "blocksize", "dblocks", "rextents", "logstart", "rootino", "rextsize", "agblocks",
        "agcount", "logblocks", "versionnum", "sectsize", "inodesize", "inopblock", "blocklog",
        "sectlog", "inodelog", "inopblog", "agblklog", "icount", "ifree", "fdblocks", "qflags",
        "flags", "inoalignmt", "unit", "width", "dirblklog", "logsectsize", "logsunit", "features2",
        "features_compat", "features_ro_compat", "features_incompat", "features_log_incompat",
        "spino_align",
    ),
    "agf 0": (
        "length", "bnoroot", "cntroot", "rmaproot", "refcntroot", "bnolevel", "cntlevel",
        "rmaplevel", "refcntlevel", "flfirst", "fllast", "flcount", "freeblks", "longest",
    ),
    "agi 0": (
        "length", "count", "root", "level", "freecount", "newino", "unlinked[0]", "free_root",
        "free_level",
    ),
    "inode": (
        "core.mode", "core.version", "core.format", "core.nlinkv2", "core.size", "core.nblocks",
        "core.extsize", "core.nextents", "core.naextents", "core.forkoff", "core.aformat",
        "core.gen", "next_unlinked", "v3.flags2", "v3.cowextsize", "v3.inumber", "u3", "a",
    ),
}  # fmt: skip
_EXT4_SUPER = (
    "inodes_count", "blocks_count", "free_blocks_count", "first_data_block", "log_block_size",
    "log_cluster_size", "blocks_per_group", "clusters_per_group", "inodes_per_group", "state",
    "errors", "rev_level", "first_ino", "inode_size", "feature_compat", "feature_incompat",
    "feature_ro_compat", "journal_inum", "last_orphan", "desc_size", "first_meta_bg",
    "jnl_blocks[0]", "min_extra_isize", "want_extra_isize", "log_groups_per_flex",
    "raid_stride", "error_count", "usr_quota_inum", "orphan_file_inum", "checksum_type", "encoding",
)  # fmt: skip
_EXT4_INODE = (
    "mode", "size", "size_high", "links_count", "blocks", "flags", "file_acl", "generation",
    "extra_isize", "block[IND]", "block[DIND]", "block[0]", "block[1]", "block[2]", "block[3]",
    "block[4]", "block[5]", "block[6]", "block[7]", "dtime", "faddr",
)  # fmt: skip
_EXT4_GROUP = ("block_bitmap", "inode_bitmap", "inode_table", "flags", "itable_unused")
_NUMBERS = (0, 1, 2, 7, 0x7F, 0xFF, 0x1000, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def fuzzed(bases: Bases, count: int, seed: int) -> Iterator[Case]:
    """XFS by ``xfs_db``, ext4 by ``debugfs``; both put right what sums they can."""
    makers: tuple[tuple[str, Callable[[random.Random, Path], None]], ...] = (
        ("xfs5", _trash_xfs),
        ("xfs-rich", _trash_xfs),
        ("xfs-rich", _fuzz_xfs),
        ("ext4-sums", _fuzz_ext4),
        ("xfs5", _fuzz_xfs),
        ("ext4-rich", _fuzz_ext4),
    )
    for number in range(count):
        base, change = makers[number % len(makers)]
        name = f"{base}-{change.__name__[1:]}/{seed}-{number}"
        yield Case("fuzzed", name, _view(name), partial(_change, bases, base, change, name))


def _change(
    bases: Bases,
    base: str,
    change: Callable[[random.Random, Path], None],
    name: str,
    folder: Path,
) -> Path:
    path = folder / "image"
    bases.get(base).write(path)
    change(random.Random(name), path)
    return path


def _trash_xfs(chance: random.Random, path: Path) -> None:
    types = chance.sample(_XFS_TYPES, chance.choice((1, 2, 4)))
    options = [f"-t {kind}" for kind in types]
    options += [f"-n {chance.choice((1, 2, 8))}", f"-s {chance.randrange(1 << 30)}"]
    options += [f"-x {chance.choice((1, 4))}", f"-y {chance.choice((4, 32, 1024))}"]
    options.append(f"-{chance.randrange(4)}")
    _run("xfs_db", "-x", "-c", "blockget", "-c", " ".join(["blocktrash", *options]), path)


def _fuzz_xfs(chance: random.Random, path: Path) -> None:
    commands: list[str] = []
    for _ in range(chance.choice((1, 1, 2, 4))):
        kind = chance.choice(list(_XFS_FIELDS))
        field = chance.choice(_XFS_FIELDS[kind])
        place = f"inode {chance.randrange(128, 192)}" if kind == "inode" else kind
        # -d: with the right sum, whatever is in it.
        commands += ["-c", place, "-c", f"fuzz -d {field} {chance.choice(_XFS_VERBS)}"]
    _run("xfs_db", "-x", *commands, path)


def _fuzz_ext4(chance: random.Random, path: Path) -> None:
    commands = []
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        number = chance.choice((*_NUMBERS, chance.randrange(1 << 32)))
        inode = f"<{chance.randrange(2, 60)}>"
        block = chance.randrange(1, 400)
        part = f"-o {chance.randrange(1000)} -l {chance.choice((1, 4, 16))}"
        pattern = f"-p {chance.randrange(256)}"
        choices = (
            f"set_super_value {chance.choice(_EXT4_SUPER)} {number}",
            f"set_inode_field {inode} {chance.choice(_EXT4_INODE)} {number}",
            f"set_inode_field {inode} {chance.choice(_EXT4_INODE)} {number}",
            f"set_block_group 0 {chance.choice(_EXT4_GROUP)} {number}",
            f"zap_block {part} {pattern} {block}",
            f"zap_block -f {inode} {part} {pattern} 0",
            f"link {inode} /folder/again",
            f"clri {inode}",
            f"freeb {block} 4",
            f"freei {inode}",
        )
        commands.append(chance.choice(choices))
    script = path.with_name("commands")
    script.write_text("\n".join(commands) + "\n")
    _run("debugfs", "-w", "-f", script, path)
    script.unlink()


def _run(tool: str, *arguments: str | Path) -> None:
    """A tool that may fail, or fall, at what it has done itself."""
    subprocess.run(
        [find_tool(tool), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_TOOL_SECONDS,
        check=False,
    )


# ---- Image formats, and what stands below file systems ------------------------------------------


def containers(count: int, seed: int) -> Iterator[Case]:
    """Changed images of every format that has a reader."""
    return _seeded("containers", image_seeds.MAKERS, count, seed)


def stacks(count: int, seed: int) -> Iterator[Case]:
    """Changed metadata of what disks are divided into, or put together by."""
    return _seeded("stacks", volume_seeds.MAKERS, count, seed)


def _seeded(
    corpus: str, makers: dict[str, Callable[[Path], Iterator[Seed]]], count: int, seed: int
) -> Iterator[Case]:
    seeds: dict[str, list[Seed]] = {}
    names = list(makers)
    for number in range(count):
        kind = names[number % len(names)]
        if kind not in seeds:
            with TemporaryDirectory() as folder:
                seeds[kind] = list(makers[kind](Path(folder)))
        name = f"{kind}/{seed}-{number}"
        yield Case(corpus, name, View.AUTO, partial(_write_seed, seeds[kind], name))


def _write_seed(seeds: list[Seed], name: str, folder: Path) -> Path:
    chance = random.Random(name)
    one = chance.choice(seeds)
    content = one.unpack(mutate_input(one.pack(), chance), mend=chance.random() < 0.9)
    for other, data in one.others.items():
        (folder / os.fsdecode(other)).write_bytes(data)
    (folder / os.fsdecode(one.name)).write_bytes(content)
    return folder / os.fsdecode(one.opened or one.name)


def keep(source: Path, target: Path) -> None:
    """A copy of an image that is worth another look, with its holes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "--sparse=always", source, target], check=True)
