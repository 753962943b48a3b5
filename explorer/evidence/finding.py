# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds entries by name, size, time, type and owner."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from explorer.core.entries import MASK_GID, MASK_SIZE, MASK_UID, FileType
from explorer.core.errors import SearchError
from explorer.core.objects import TIMES, entry_times
from explorer.evidence.walking import Failure, Placed, never, walk_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from explorer.core.entries import Entry
    from explorer.evidence.walking import Check
    from explorer.kernel import Mount

    Test = Callable[[bytes, Entry], bool]
    """Takes a path and its entry."""

TimeKind = Literal["accessed", "modified", "changed", "born"]

TYPE_LETTERS: dict[str, int] = {
    "f": FileType.FILE,
    "d": FileType.DIRECTORY,
    "l": FileType.LINK,
    "p": FileType.FIFO,
    "s": FileType.SOCKET,
    "b": FileType.BLOCK_DEVICE,
    "c": FileType.CHARACTER_DEVICE,
}
"""As find(1) has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What an entry must be to be found: all that is given here."""

    names: tuple[bytes, ...] = ()
    """Patterns of the shell, one of which its name has."""
    ignore_case: bool = False
    """Of names and pattern: of letters as Unicode has them in names that are UTF-8."""
    pattern: bytes = b""
    """A regular expression that is found somewhere in its path."""
    size_least: int | None = None
    """Bytes; of any type of entry."""
    size_most: int | None = None
    after_ns: int | None = None
    """Later than this; an entry without such a time is not found."""
    before_ns: int | None = None
    time_kind: TimeKind = "modified"
    types: str = ""
    """Letters of :data:`TYPE_LETTERS`, one of which is its type."""
    uid: int | None = None
    gid: int | None = None
    mode_bits: int = 0
    """Bits of its mode, of 07777, that are all set."""


class Found(NamedTuple):
    """What was found in some entries."""

    placed: list[Placed]
    failures: list[Failure]
    seen: int
    """Entries looked at."""


def find_entries(
    mount: Mount, start: bytes, criteria: Criteria, check: Check = never
) -> Iterator[Found]:
    """What meets the criteria, of what is at and below a path, as it is met.

    An entry whose stat failed meets only criteria of names and types. Raises :exc:`SearchError`
    (``search.pattern``, ``search.type``) for criteria that cannot be, else as :func:`walk_tree`.
    """
    tests = make_tests(criteria)
    for entries, failures in walk_tree(mount, start, check):
        placed = [one for one in entries if all(test(*one) for test in tests)]
        yield Found(placed, failures, len(entries))


def make_tests(criteria: Criteria) -> list[Test]:
    """The criteria as functions, the cheapest first; raises as :func:`find_entries`."""
    return [*_stat_tests(criteria), *_name_tests(criteria)]


def compile_pattern(pattern: bytes, *, ignore_case: bool = False) -> re.Pattern[bytes]:
    """A regular expression over bytes; raises :exc:`SearchError` (``search.pattern``)."""
    try:
        return re.compile(pattern, re.MULTILINE | (re.IGNORECASE if ignore_case else 0))
    except (re.error, OverflowError, RecursionError) as wrong:
        shown = pattern.decode("utf-8", "backslashreplace")
        raise SearchError("search.pattern", pattern=shown, reason=str(wrong)) from None


def _text(name: bytes) -> str:
    # Each byte that is no UTF-8 stays one character.
    return name.decode("utf-8", "surrogateescape")


def _name_tests(criteria: Criteria) -> Iterator[Test]:
    if criteria.names:
        # A question mark stands for a character, not for a byte of one.
        globs = [fnmatch.translate(_text(name)) for name in criteria.names]
        flags = re.IGNORECASE if criteria.ignore_case else 0
        match = re.compile("|".join(globs), flags).match
        yield lambda path, _entry: match(_text(path.rpartition(b"/")[2])) is not None
    if criteria.pattern:
        if criteria.ignore_case:
            compile_pattern(criteria.pattern)
            search = re.compile(_text(criteria.pattern), re.IGNORECASE).search
            yield lambda path, _entry: search(_text(path)) is not None
        else:
            find = compile_pattern(criteria.pattern).search
            yield lambda path, _entry: find(path) is not None


def _stat_tests(criteria: Criteria) -> Iterator[Test]:
    if criteria.types:
        try:
            types = frozenset(TYPE_LETTERS[letter] for letter in criteria.types)
        except KeyError as wrong:
            raise SearchError(
                "search.type", type=str(wrong.args[0]), known="".join(TYPE_LETTERS)
            ) from None
        yield lambda _path, entry: entry.type in types
    least, most = criteria.size_least, criteria.size_most
    if least is not None:
        yield lambda _path, entry: bool(entry.mask & MASK_SIZE) and entry.size >= least
    if most is not None:
        yield lambda _path, entry: bool(entry.mask & MASK_SIZE) and entry.size <= most
    uid, gid, bits = criteria.uid, criteria.gid, criteria.mode_bits
    if uid is not None:
        yield lambda _path, entry: bool(entry.mask & MASK_UID) and entry.uid == uid
    if gid is not None:
        yield lambda _path, entry: bool(entry.mask & MASK_GID) and entry.gid == gid
    if bits:
        yield lambda _path, entry: entry.mode & bits == bits
    kind = TIMES.index(criteria.time_kind)
    after, before = criteria.after_ns, criteria.before_ns
    if after is not None or before is not None:
        yield (
            lambda _path, entry: (
                (time := entry_times(entry)[kind]) is not None
                and (after is None or time > after)
                and (before is None or time < before)
            )
        )
