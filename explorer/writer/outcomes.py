# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What came of each entry, and the accounts of a whole job."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from explorer.core.entries import (
    MASK_ACCESS,
    MASK_BIRTH,
    MASK_CHANGE,
    MASK_MODIFY,
    Entry,
    FileType,
)
from explorer.core.errors import KernelError
from explorer.core.names import show_name
from explorer.native.stream import Operation
from explorer.wire.writing import Written

if TYPE_CHECKING:
    from explorer.core.errors import ExplorerError
    from explorer.native.stream import Stat

Result = Literal["copied", "damaged", "skipped", "failed", "before"]
"""``damaged``: it is there, with something missing; ``before``: by a copy that was gone on with."""

_SECOND = 1_000_000_000
_TYPES = frozenset(FileType)
_SHOWN_MOST = 8192
_CALLS = {
    Operation.NOTHING: "copy",
    Operation.STAT: "stat",
    Operation.OPEN: "open",
    Operation.READ: "read",
    Operation.READ_XATTRS: "xattr",
    Operation.READ_STREAM: "stream",
    Operation.SPECIAL: "special",
}


@dataclass(slots=True)
class Outcome:
    """What came of one entry."""

    path: bytes
    """From the destination, in the source's names: ``/name``."""
    entry: Entry
    result: Result = "copied"
    target: bytes = b""
    """Where it went, from the destination, without a slash before it; empty: nowhere."""
    rule: str = ""
    """Why it was skipped."""
    error: ExplorerError | None = None
    written: int = 0
    """Bytes of content."""
    holes: int = 0
    """Of these, in holes."""
    link: bytes | None = None
    """Where a symbolic link points."""
    same_as: bytes = b""
    """The target of the file that it is a further link to."""
    digests: dict[str, bytes] = field(default_factory=dict)
    """Of the content as it was written."""
    unreadable: list[tuple[int, int]] = field(default_factory=list)
    """Offset and length of what could not be read, which is zeros in the copy."""
    not_kept: list[bytes] = field(default_factory=list)
    """Names of extended attributes that were not kept."""
    owner_lost: bool = False
    is_stream: bool = False
    """A named stream of an entry, which is no entry of its own."""

    @property
    def mapped(self) -> bytes:
        """Its name at the destination, when it is another one."""
        name = self.target.rpartition(b"/")[2]
        return name if name != self.path.rpartition(b"/")[2] else b""


@dataclass(slots=True)
class Accounts:
    """How many entries had which outcome."""

    results: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    written: int = 0
    holes: int = 0
    mapped: int = 0
    owners_lost: int = 0
    attributes_lost: int = 0

    @property
    def seen(self) -> int:
        """Entries, whatever came of them."""
        return self.results.total()

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        self.written += outcome.written
        self.holes += outcome.holes
        self.mapped += bool(outcome.mapped)
        if outcome.is_stream:
            return
        self.results[outcome.result] += 1
        if outcome.result == "skipped":
            self.rules[outcome.rule] += 1
        self.owners_lost += outcome.owner_lost
        self.attributes_lost += len(outcome.not_kept)

    def written_message(self, ended: ExplorerError | None) -> Written:
        """The accounts as the end of a job, with what ended it early, if something did."""
        rules = sorted(self.rules)
        return Written(
            seen=self.seen,
            copied=self.results["copied"],
            damaged=self.results["damaged"],
            rules=tuple(rules),
            skipped=tuple(self.rules[rule] for rule in rules),
            failed=self.results["failed"],
            done_before=self.results["before"],
            written=self.written,
            holes=self.holes,
            mapped=self.mapped,
            owners_lost=self.owners_lost,
            attributes_lost=self.attributes_lost,
            complete=ended is None,
            ended=ended,
        )


def show_path(path: bytes) -> str:
    """A path as an error's parameter; of one that is very long, the end."""
    shown = show_name(path)
    return shown if len(shown) <= _SHOWN_MOST else "..." + shown[-_SHOWN_MOST:]


def kernel_error(number: int, operation: int, path: bytes) -> KernelError:
    """Why the engine could not read something; ``number`` is a negative errno."""
    return KernelError(
        errno=-number,
        name=errno.errorcode.get(-number, str(-number)),
        call=_CALLS[Operation(operation)],
        reason=os.strerror(-number),
        path=show_path(path),
    )


def entry_of(name: bytes, found: Stat) -> Entry:
    """An entry by its stat, as the stream brings it."""
    kind = stat.S_IFMT(found.mode) >> 12

    def time(bit: int, seconds: int, nanoseconds: int) -> int | None:
        return seconds * _SECOND + nanoseconds if found.mask & bit else None

    return Entry(
        name,
        kind if kind in _TYPES else FileType.UNKNOWN,
        *(0, 0, 0, 0),
        *(found.mask, found.mode, found.uid, found.gid, found.links, found.block_size),
        *(found.inode, found.size, found.blocks, found.attributes),
        *(found.device_major, found.device_minor, found.special_major, found.special_minor),
        time(MASK_ACCESS, found.access_seconds, found.access_nanoseconds),
        time(MASK_MODIFY, found.modify_seconds, found.modify_nanoseconds),
        time(MASK_CHANGE, found.change_seconds, found.change_nanoseconds),
        time(MASK_BIRTH, found.birth_seconds, found.birth_nanoseconds),
    )
