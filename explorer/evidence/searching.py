# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Searches the contents of files for bytes, or for text in several encodings.

A file is read in large pieces into one buffer, each behind the end of the last one, which is looked
at again with it: so nothing is missed, or found twice, where two pieces meet. Large holes are
passed over where nothing but zeros could be found in them.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from heapq import merge
from itertools import groupby, islice
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import ExplorerError, SearchError
from explorer.evidence.finding import Criteria, compile_pattern, make_tests
from explorer.evidence.walking import Failure, Folders, Placed, go_on, never, parent_path, walk_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from explorer.evidence.walking import Check
    from explorer.kernel import File, Mount

PIECE = 1 << 20
"""Bytes read at once."""
PATTERN_PIECE = 1 << 17
"""The same for patterns: while one is matched, no other thread of Python's can run."""
HOLE_LEAST = 4 << 20
"""Bytes of a hole that is worth being passed over."""
NEEDLE_LIMIT = 1 << 16
"""Bytes of what is searched for."""
PATTERN_SPAN = 1 << 14
"""The longest match of a regular expression that is surely found whole."""
BEFORE, AFTER = 32, 64
"""Bytes around a match that are given with it."""
BATCH = 500
"""Matches given at once."""


class Match(NamedTuple):
    """A place where something was found."""

    path: bytes
    offset: int
    """Bytes from the start of the file."""
    encoding: str
    """Of text: the first in which it is these bytes. Else empty."""
    before: bytes
    """Up to :data:`BEFORE` bytes."""
    match: bytes
    after: bytes
    """Up to :data:`AFTER` bytes."""


class Searched(NamedTuple):
    """What was found in some files."""

    matches: list[Match]
    failures: list[Failure]
    seen: int
    """Files looked into."""


@dataclass(frozen=True, slots=True)
class Needle:
    """Something to search for."""

    span: int
    """The most bytes of a match."""
    literal: bytes = b""
    folded: bool = False
    """Whether the literal is in lower case, and what is searched has to be, too."""
    pattern: re.Pattern[bytes] | None = None
    encoding: str = ""
    in_holes: bool = False
    """Whether it might be found where there are only zeros."""

    def find_all(
        self, data: bytes | bytearray, start: int, stop: int, end: int
    ) -> Iterator[tuple[int, int]]:
        """Start and end of each match that begins from ``start`` on and before ``stop``.

        ``end`` is that of the data.
        """
        if self.pattern is None:
            size, find = len(self.literal), data.find
            last = min(stop + size - 1, end)
            while (at := find(self.literal, start, last)) >= 0:
                start = at + size
                yield at, start
            return
        while start < stop and (found := self.pattern.search(data, start, end)):
            at, start = found.span()
            if at >= stop:
                return
            if at == start:
                # Nothing is found at every place.
                start += 1
            else:
                yield at, start


# ---- What to search for ------------------------------------------------------------------------


def text_needles(text: str, encodings: Sequence[str], *, ignore_case: bool) -> list[Needle]:
    """A text in each encoding; those in which it is the same bytes make one.

    Raises :exc:`SearchError`: ``search.encoding`` where an encoding is not known or lacks a
    character, ``search.length`` for no text or too much.
    """
    needles: dict[object, Needle] = {}
    for encoding in encodings:
        try:
            needle = _text_needle(text, encoding, ignore_case=ignore_case)
        except (LookupError, UnicodeError) as wrong:
            raise SearchError("search.encoding", encoding=encoding, reason=str(wrong)) from None
        needles.setdefault((needle.literal, needle.pattern), needle)
    return list(needles.values())


def bytes_needle(literal: bytes) -> Needle:
    """Some bytes; raises :exc:`SearchError` (``search.length``) for none or too many."""
    return _literal_needle(literal)


def pattern_needle(pattern: bytes, *, ignore_case: bool) -> Needle:
    """A regular expression over bytes; raises :exc:`SearchError` (``search.pattern``)."""
    compiled = compile_pattern(pattern, ignore_case=ignore_case)
    return Needle(PATTERN_SPAN, pattern=compiled, in_holes=True)


def _literal_needle(literal: bytes, encoding: str = "", *, folded: bool = False) -> Needle:
    if not 0 < len(literal) <= NEEDLE_LIMIT:
        raise SearchError("search.length", limit=NEEDLE_LIMIT)
    zeros = not literal.strip(b"\0")
    return Needle(len(literal), literal, folded=folded, encoding=encoding, in_holes=zeros)


# Of these the encoder would put a mark before the text.
_WITHOUT_MARK = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}


def _text_needle(text: str, encoding: str, *, ignore_case: bool) -> Needle:
    codec = codecs.lookup(encoding).name
    codec = _WITHOUT_MARK.get(codec, codec)
    if not ignore_case:
        return _literal_needle(text.encode(codec), encoding)
    lower, upper = text.lower().encode(codec), text.upper().encode(codec)
    if text.isascii() and upper.lower() == lower:
        # Case is a matter of single bytes, which is what bytes.lower() is about.
        return _literal_needle(lower, encoding, folded=True)
    parts: list[bytes] = []
    span = 0
    for character in text:
        forms = {character, character.lower(), character.upper(), character.title()}
        encoded = sorted({_encode(form, codec) for form in forms} - {b""})
        if not encoded:
            character.encode(codec)
        parts.append(b"(?:%b)" % b"|".join(map(re.escape, encoded)))
        span += max(map(len, encoded))
    if not 0 < span <= NEEDLE_LIMIT:
        raise SearchError("search.length", limit=NEEDLE_LIMIT)
    zeros = not text.strip("\0")
    pattern = re.compile(b"".join(parts))
    return Needle(span, pattern=pattern, encoding=encoding, in_holes=zeros)


def _encode(text: str, codec: str) -> bytes:
    return text.encode(codec, "ignore")


# ---- Searching ---------------------------------------------------------------------------------


def search_contents(
    mount: Mount,
    start: bytes,
    needles: Sequence[Needle],
    criteria: Criteria | None = None,
    check: Check = never,
) -> Iterator[Searched]:
    """Where the needles are, in the files at and below a path that meet the criteria.

    Files that cannot be read, or not to their end, are reported. Raises as :func:`find_entries`.
    """
    tests = make_tests(criteria or Criteria())
    searcher = _Searcher(needles, check)
    with Folders(mount) as folders:
        for entries, failures in walk_tree(mount, start, check):
            seen = 0
            files = [
                (path, entry)
                for path, entry in entries
                if entry.is_file and entry.size and all(test(path, entry) for test in tests)
            ]
            for path, entry in _in_disk_order(files):
                seen += 1
                try:
                    folder, name = folders.of(path)
                    with folder.open_file(name) as file:
                        for matches in searcher.search(file, path, entry.size):
                            yield Searched(matches, [], seen)
                            seen = 0
                except ExplorerError as error:
                    failures.append(Failure(path, go_on(error)))
            yield Searched([], failures, seen)


def _in_disk_order(files: list[Placed]) -> Iterator[Placed]:
    """The files of each directory by their inodes, which is about how they lie on the disk."""
    for _parent, group in groupby(files, key=lambda one: parent_path(one[0])):
        yield from sorted(group, key=lambda one: one[1].inode)


class _Searcher:
    """Searches one file after the other, with one buffer."""

    def __init__(self, needles: Sequence[Needle], check: Check) -> None:
        self._needles = needles
        self._check = check
        span = max(one.span for one in needles)
        self._keep = span - 1 + AFTER
        """Bytes at a piece's end in which no match may begin yet: what follows belongs to it."""
        self._skip_holes = not any(one.in_holes for one in needles)
        plain = all(one.pattern is None for one in needles)
        self._piece = PIECE if plain else PATTERN_PIECE
        self._buffer = bytearray(BEFORE + self._keep + self._piece + self._keep)

    def search(self, file: File, path: bytes, size: int) -> Iterator[list[Match]]:
        """All matches in a file, by their offsets, some at once."""
        buffer, view, keep = self._buffer, memoryview(self._buffer), self._keep
        # Where the next match of each needle may begin, as an offset in the file. Of the buffer:
        # the offset of its first byte, and how much is in it.
        begin = [0] * len(self._needles)
        base = filled = 0
        position = 0
        while True:
            wanted = min(self._piece, size - position)
            count = file.read_into(position, view[filled : filled + wanted])
            filled += count
            position += count
            # What is read short may be followed by what cannot be read: the next read tells.
            last = not count or position >= size
            jump = 0 if last else self._next_data(file, position, size)
            if jump:
                # Of the hole as much as belongs to matches that begin before it.
                view[filled : filled + keep] = bytes(keep)
                filled += keep
            stop = filled if last else max(0, filled - keep)
            yield from self._matches(path, base, begin, stop, filled)
            if last:
                return
            self._check()
            begin = [max(at, base + stop) for at in begin]
            if jump:
                base, filled, position = jump, 0, jump
                begin = [max(at, base) for at in begin]
                continue
            kept_from = max(0, stop - BEFORE)
            buffer[: filled - kept_from] = buffer[kept_from:filled]
            base, filled = base + kept_from, filled - kept_from

    def _next_data(self, file: File, position: int, size: int) -> int:
        """Where to go on reading when a large hole begins at a position; 0 for no such hole."""
        if not self._skip_holes or size - position <= HOLE_LEAST + 2 * self._keep:
            return 0
        # What begins in the hole's end and goes on in the data is found too.
        data = file.next_data(position, size) - self._keep
        return data if data - position > HOLE_LEAST + self._keep else 0

    def _matches(
        self, path: bytes, base: int, begin: list[int], stop: int, filled: int
    ) -> Iterator[list[Match]]:
        buffer = self._buffer
        folded = any(one.folded for one in self._needles)
        lower = buffer[:filled].lower() if folded else b""

        def matches_of(number: int) -> Iterator[tuple[int, int, int]]:
            needle = self._needles[number]
            data = lower if needle.folded else buffer
            for start, end in needle.find_all(data, max(0, begin[number] - base), stop, filled):
                begin[number] = base + end
                yield start, end, number

        found = merge(*map(matches_of, range(len(self._needles))))
        while some := [
            Match(
                path,
                base + start,
                self._needles[number].encoding,
                bytes(buffer[max(0, start - BEFORE) : start]),
                bytes(buffer[start:end]),
                bytes(buffer[end : min(end + AFTER, filled)]),
            )
            for start, end, number in islice(found, BATCH)
        ]:
            yield some
