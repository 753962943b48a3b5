# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A folder of the host as destination of a copy: the loop is C's, decisions and accounts are ours.

What it promises stands in ``liblkl/native/native.h``: nothing outside the destination is touched,
whatever the stream says, and every entry has one outcome.
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from explorer.core.errors import ExplorerError
from explorer.native.digests import ALGORITHMS
from explorer.native.library import load
from explorer.native.names import RULES
from explorer.native.stream import STAT, Stat, read_stat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from explorer.native.library import CData, Native
    from explorer.native.stream import Stream

_OUTCOME = Struct("=IIIIIiIIIIIIQQQQ")
_ACCOUNTS = Struct("=19Q")
_RANGE = Struct("=QQ")
_EKEYREJECTED, _EUCLEAN = -129, -117


class Conflicts(IntEnum):
    """What to do where the host has something of that name (``LKN_CONFLICT_*``)."""

    ASK = 0
    SKIP = 1
    OVERWRITE = 2
    RENAME = 3
    NEWER = 4


class Symlinks(IntEnum):
    """What becomes of symbolic links (``LKN_SYMLINK_*``)."""

    RECREATE = 0
    TEXT = 1
    SKIP = 2


class Result(IntEnum):
    """What became of an entry."""

    COPIED = 1
    DAMAGED = 2
    SKIPPED = 3
    FAILED = 4
    DONE_BEFORE = 5


class Rule(IntEnum):
    """Why an entry was skipped (``LKN_RULE_*``)."""

    EXISTS = 0
    NOT_NEWER = 1
    SYMLINK = 2
    SPECIAL = 3


class Flag(IntFlag):
    """More about an entry."""

    OF_IMAGE = 0x1
    OWNER_LOST = 0x2
    XATTRS_LOST = 0x4
    STREAM_LOST = 0x8
    LINK_LOST = 0x10
    MAPPED = 0x20
    LONG_PATH = 0x40
    EXISTED = 0x80
    REPLACED = 0x100
    LINKED = 0x200


class HostOperation(IntEnum):
    """What this side was doing when it failed (``LKN_HOST_*``)."""

    NOTHING = 0
    CREATE = 1
    WRITE = 2
    READ = 3
    OWNER = 4
    XATTRS = 5
    MODE = 6
    TIMES = 7
    LINK = 8
    FOLDER = 9
    TYPE = 10
    STOPPED = 11


class Ended(IntEnum):
    """Why a copy ended (``LKN_ENDED_*``)."""

    WHOLE = 0
    CANCELLED = 1
    FULL = 2
    LOST = 3
    STREAM = 4
    ENGINE = 5
    MEMORY = 6
    JOURNAL = 7


class Outcome(NamedTuple):
    """What became of one entry."""

    path: bytes
    """Names of the source with ``/`` between, from what came at depth 0 on."""
    result: int
    """A :class:`Result`."""
    flags: int
    """Of :class:`Flag`."""
    rule: int
    """SKIPPED: a :class:`Rule`."""
    operation: int
    """0: nothing went wrong; a :class:`HostOperation`, or with OF_IMAGE a stream's Operation."""
    error: int
    """A negative errno, or 0."""
    number: int
    written: int
    holes: int
    unreadable: int
    """Bytes that could not be read, and are zeros in the copy."""
    stat: Stat
    target: bytes
    """The path on the host, if it is another; else empty."""
    link: bytes
    """Where a symbolic link points; with LINKED, the path on the host of the first link."""
    not_kept: tuple[bytes, ...]
    """Names of extended attributes."""
    digests: bytes
    """One after another, in the order of their bits."""
    ranges: tuple[tuple[int, int], ...]
    """Position and length of what could not be read; the first 256."""


class Accounts(NamedTuple):
    """``struct lkn_accounts``; seen is the sum of all outcomes."""

    seen: int = 0
    copied: int = 0
    damaged: int = 0
    failed: int = 0
    done_before: int = 0
    skipped_exists: int = 0
    skipped_not_newer: int = 0
    skipped_symlink: int = 0
    skipped_special: int = 0
    written: int = 0
    holes: int = 0
    unreadable: int = 0
    mapped: int = 0
    long_paths: int = 0
    owners_lost: int = 0
    xattrs_lost: int = 0
    streams_lost: int = 0
    existed: int = 0
    size: int = 0

    @property
    def skipped(self) -> int:
        """By all rules."""
        return (
            self.skipped_exists
            + self.skipped_not_newer
            + self.skipped_symlink
            + self.skipped_special
        )


class Watcher(Protocol):
    """Who is told of a copy, and asked; what these raise ends the copy and is raised again."""

    def ask(self, path: bytes, existing: Stat, entry: Stat) -> Conflicts:
        """Decide a conflict; ASK is no answer."""

    def take(self, outcomes: Sequence[Outcome], durable: bool) -> None:
        """Take some hundred; ``durable``: all so far must be safe, they are not told again."""

    def progress(self, accounts: Accounts, path: bytes) -> None:
        """Called ten times a second; the copy pauses until it returns."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a folder is written."""

    owner: bool = False
    special: bool = False
    fold: bool = False
    """The host takes names that differ in case for the same; it is also found out."""
    plan: bool = False
    """Write nothing, and tell what would be."""
    list_all: bool = False
    """Tell also of what was copied as one would expect."""
    stop_full: bool = False
    """End when the host is full, instead of failing entry by entry."""
    conflicts: Conflicts = Conflicts.ASK
    symlinks: Symlinks = Symlinks.RECREATE
    names: str = "posix"
    """A rule of :data:`explorer.native.names.RULES`."""
    digests: tuple[str, ...] = ()
    """Names of :data:`explorer.native.digests.ALGORITHMS`."""


class Journal(NamedTuple):
    """What is done is kept in a file, so that another run can go on with it."""

    file: int
    """Open for reading and appending."""
    options: bytes
    """32 bytes: a digest of all that must be the same to go on."""
    interval: int = 2000
    """Milliseconds after which what was done is made safe, at least."""


class _Conflict(Protocol):
    """``struct lkn_conflict``."""

    path: CData
    path_length: int
    existing: CData
    entry: CData


class End(NamedTuple):
    """How a copy ended."""

    why: Ended
    error: int
    """The negative errno that goes with it, or 0."""
    accounts: Accounts


def fold_name(name: bytes) -> bytes:
    """A name as all that are the same to most hosts that do not tell cases apart."""
    text = name.decode("utf-8", "surrogateescape")
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return folded.encode("utf-8", "surrogateescape")


def copy_to_folder(
    stream: Stream,
    destination: int,
    options: Options,
    watcher: Watcher,
    *,
    job: bytes,
    journal: Journal | None = None,
) -> End:
    """Make files of all that comes; ``destination`` is an open directory, ``job`` 16 bytes.

    A copy with a journal that is not empty goes on with what was done. Raises
    :exc:`ExplorerError`: ``copy.other-journal`` when that is of another job or of other options,
    ``copy.journal`` when it is none, ``copy.protocol`` and ``copy.engine`` as :class:`Stream` does;
    :exc:`OSError`; and whatever ``watcher`` raises.
    """
    return _Run(stream, options, watcher).run(destination, job, journal)


class _Run:
    """One call of ``lkn_folder_run``."""

    def __init__(self, stream: Stream, options: Options, watcher: Watcher) -> None:
        self._native: Native = load()
        self._stream = stream
        self._options = options
        self._watcher = watcher
        self._raised: BaseException | None = None

    def run(self, destination: int, job: bytes, journal: Journal | None) -> End:
        """Call it, and raise what the callbacks raised."""
        ffi, library = self._native.ffi, self._native.library
        request: Any = ffi.new("struct lkn_folder *")
        request.destination = destination
        request.journal = -1 if journal is None else journal.file
        request.job = job
        request.options = bytes(32) if journal is None else journal.options
        request.checkpoints = 0 if journal is None else journal.interval
        options = self._options
        flags = {
            library.LKN_FOLDER_OWNER: options.owner,
            library.LKN_FOLDER_SPECIAL: options.special,
            library.LKN_FOLDER_FOLD: options.fold,
            library.LKN_FOLDER_PLAN: options.plan,
            library.LKN_FOLDER_STOP_FULL: options.stop_full,
            library.LKN_FOLDER_LIST: options.list_all,
        }
        request.flags = sum(bit for bit, given in flags.items() if given)
        request.conflicts = options.conflicts
        request.symlinks = options.symlinks
        request.names = RULES[options.names]
        request.digests = sum({ALGORITHMS[name] for name in options.digests})
        callbacks = [
            self._callback("lkn_ask", self._ask),
            self._callback("lkn_outcomes", self._take),
            self._callback("lkn_progress", self._progress),
            self._callback("lkn_fold", self._fold),
        ]
        request.ask, request.outcomes, request.progress, request.fold = callbacks
        accounts = ffi.new("struct lkn_accounts *")
        error = ffi.new("int *")
        result = library.lkn_folder_run(request, self._stream.handle, accounts, error)
        del callbacks
        if result >= 0:
            # The last word about it, also when the stream or a callback is why it ended.
            self._watcher.progress(self._accounts(accounts), b"")
        if self._raised is not None:
            raise self._raised
        if result == _EKEYREJECTED:
            raise ExplorerError("copy.other-journal")
        if result == _EUCLEAN:
            raise ExplorerError("copy.journal")
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        if result == Ended.STREAM:
            raise self._stream.failure(error[0])
        if result == Ended.MEMORY:
            raise MemoryError
        return End(Ended(result), error[0], self._accounts(accounts))

    def _callback(self, kind: str, function: Callable[..., int]) -> CData:
        made = self._native.ffi.callback(kind, function, error=-1, onerror=self._keep)
        return cast("CData", made)

    def _keep(self, _kind: object, error: object, _trace: object) -> None:
        if self._raised is None and isinstance(error, BaseException):
            self._raised = error

    def _bytes(self, pointer: CData, length: int) -> bytes:
        return bytes(self._native.ffi.buffer(pointer, length)) if length else b""

    def _accounts(self, pointer: CData) -> Accounts:
        return Accounts._make(_ACCOUNTS.unpack(self._native.ffi.buffer(pointer, _ACCOUNTS.size)))

    def _ask(self, _opaque: CData, conflict: _Conflict) -> int:
        path = self._bytes(conflict.path, conflict.path_length)
        existing, entry = (
            read_stat(self._bytes(stat, STAT.size)) for stat in (conflict.existing, conflict.entry)
        )
        return int(self._watcher.ask(path, existing, entry))

    def _take(self, _opaque: CData, records: CData, size: int, _count: int, durable: int) -> int:
        told = list(read_outcomes(self._bytes(records, size)))
        self._watcher.take(told, bool(durable))
        return 0

    def _progress(self, _opaque: CData, accounts: CData, path: CData, length: int) -> int:
        self._watcher.progress(self._accounts(accounts), self._bytes(path, length))
        return 0

    def _fold(self, _opaque: CData, name: CData, length: int, folded: CData, size: int) -> int:
        made = fold_name(self._bytes(name, length))[:size]
        self._native.ffi.memmove(folded, made, len(made))
        return len(made)


def read_outcomes(records: bytes) -> Iterator[Outcome]:
    """Outcomes as C tells them."""
    start = 0
    while start < len(records):
        (
            size, result, flags, rule, operation, error, path_length, target_length,
            digests_length, bad_count, link_length, lost_length, number, written, holes, bad,
        ) = _OUTCOME.unpack_from(records, start)  # fmt: skip
        at = start + _OUTCOME.size
        told = read_stat(records, at)
        at += STAT.size
        ranges = tuple(_RANGE.iter_unpack(records[at : at + bad_count * _RANGE.size]))
        at += bad_count * _RANGE.size
        digests = records[at : at + digests_length]
        at += digests_length
        path = records[at : at + path_length]
        at += path_length
        target = records[at : at + target_length]
        at += target_length
        link = records[at : at + link_length]
        at += link_length
        lost = records[at : at + lost_length]
        yield Outcome(
            path, result, flags, rule, operation, error, number, written, holes, bad, told,
            target, link, tuple(lost.split(b"\0")[:-1]), digests, ranges,
        )  # fmt: skip
        start += size
