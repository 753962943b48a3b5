# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies into a folder of the host, and what trees look like afterwards."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from explorer.native.folder import Accounts, Conflicts, Options, Outcome, Result, copy_to_folder
from explorer.native.stream import Stream
from tests.native.packer import Engine, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from explorer.native.folder import End, Journal
    from explorer.native.stream import Stat

JOB = bytes(range(16))
JOB_NAME = JOB[:8].hex()
DEFAULT = Options()


class Witness:
    """Takes down what it is told; answers conflicts by a function."""

    def __init__(self, answer: Callable[[bytes], Conflicts] = lambda _path: Conflicts.SKIP) -> None:
        self.outcomes: list[Outcome] = []
        self.asked: list[bytes] = []
        self.durable = 0
        self._answer = answer

    def ask(self, path: bytes, existing: Stat, entry: Stat) -> Conflicts:
        """Answer a conflict."""
        self.asked.append(path)
        return self._answer(path)

    def take(self, outcomes: Sequence[Outcome], durable: bool) -> None:
        """Keep them all."""
        self.outcomes += outcomes
        self.durable += durable

    def progress(self, accounts: Accounts, path: bytes) -> None:
        """Hold the accounts to what they promise."""
        assert accounts.seen == total(accounts)

    def by_path(self) -> dict[bytes, Outcome]:
        """The last outcome of each path."""
        return {outcome.path: outcome for outcome in self.outcomes}


def total(accounts: Accounts) -> int:
    """The sum of all outcomes."""
    return (
        accounts.copied
        + accounts.damaged
        + accounts.skipped
        + accounts.failed
        + accounts.done_before
    )


class Copied(NamedTuple):
    """What came of a copy."""

    end: End
    witness: Witness
    engine: Engine

    @property
    def results(self) -> dict[bytes, Result]:
        """By path."""
        return {one.path: Result(one.result) for one in self.witness.outcomes}


def copy(
    nodes: list[Node],
    destination: Path,
    options: Options = DEFAULT,
    *,
    witness: Witness | None = None,
    contents: bool = False,
    files: list[int] | None = None,
    journal: Journal | None = None,
    job: bytes = JOB,
) -> Copied:
    """Copy a tree, and hold the accounts to what was told."""
    witness = witness or Witness()
    options = replace(options, list_all=not options.plan)
    folder = os.open(destination, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with (
            Engine(nodes, contents=contents, plan=options.plan, files=files) as engine,
            Stream(engine.source) as stream,
        ):
            end = copy_to_folder(stream, folder, options, witness, job=job, journal=journal)
    finally:
        os.close(folder)
    check_accounts(end.accounts, witness, plan=options.plan)
    return Copied(end, witness, engine)


def check_accounts(accounts: Accounts, witness: Witness, *, plan: bool = False) -> None:
    """Every entry that was seen has one outcome, and was told of."""
    assert accounts.seen == total(accounts)
    if plan:
        return
    assert accounts.seen == len(witness.outcomes)
    for result, count in (
        (Result.COPIED, accounts.copied),
        (Result.DAMAGED, accounts.damaged),
        (Result.SKIPPED, accounts.skipped),
        (Result.FAILED, accounts.failed),
        (Result.DONE_BEFORE, accounts.done_before),
    ):
        assert count == sum(one.result == result for one in witness.outcomes)


class Found(NamedTuple):
    """One file of the host."""

    kind: int
    mode: int
    owner: tuple[int, int]
    modified: int
    content: bytes
    blocks: int
    linked: bytes
    """The first path of the same file."""
    xattrs: dict[str, bytes]


def look(top: Path) -> dict[bytes, Found]:
    """All that stands in a folder, by path."""
    found: dict[bytes, Found] = {}
    inodes: dict[int, bytes] = {}

    def visit(path: bytes, name: bytes) -> None:
        told = os.lstat(path)
        kind = stat.S_IFMT(told.st_mode)
        content = b""
        if kind == stat.S_IFREG:
            with open(path, "rb") as file:
                content = file.read()
        elif kind == stat.S_IFLNK:
            content = os.readlink(path)
        first = inodes.setdefault(told.st_ino, name)
        xattrs = {
            one: os.getxattr(path, one, follow_symlinks=False)
            for one in os.listxattr(path, follow_symlinks=False)
        }
        found[name] = Found(
            kind, stat.S_IMODE(told.st_mode), (told.st_uid, told.st_gid), told.st_mtime_ns,
            content, told.st_blocks, first, xattrs,
        )  # fmt: skip

    for root, folders, files in os.walk(os.fsencode(top)):
        folders.sort()
        for one in sorted((*folders, *files)):
            path = os.path.join(root, one)
            visit(path, os.path.relpath(path, os.fsencode(top)))
    return found


def same(a: dict[bytes, Found], b: dict[bytes, Found]) -> bool:
    """Whether trees are the same, but for how many blocks a file takes."""
    return {path: one._replace(blocks=0) for path, one in a.items()} == {
        path: one._replace(blocks=0) for path, one in b.items()
    }
