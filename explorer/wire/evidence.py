# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Digests, timeline, inventory and search; part of :mod:`explorer.wire.messages`.

All of them take their time, and what is found is told as it is found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

# Read at run time: a field's annotation says how it is decoded.
from explorer.core.entries import Entry  # noqa: TC001
from explorer.core.errors import ExplorerError  # noqa: TC001
from explorer.wire.limits import (
    AtMost,
    Between,
    Count,
    Line,
    OneOf,
    Path,
    VolumeNumber,
    Word,
    is_below,
)

ROWS_LIMIT = 1 << 20
"""Bytes of text that are told at once."""
FOUND_LIMIT = 256
"""Entries or matches that are told at once."""
FOUND_BYTES = 1 << 15
"""Of their paths, after which a part is sent; one path may be longer."""
CONTEXT_LIMIT = 256
"""Bytes of what was found, and of what is before and after it, that are told."""
NEEDLE_LIMIT = 1 << 16
PATTERNS_LIMIT = 256

Algorithm = Annotated[str, OneOf(frozenset({"md5", "sha1", "sha256", "blake2b"}))]
Algorithms = Annotated[tuple[Algorithm, ...], AtMost(8)]
Digest = Annotated[bytes, AtMost(64)]
Pattern = Annotated[bytes, AtMost(NEEDLE_LIMIT)]
Patterns = Annotated[tuple[Pattern, ...], AtMost(PATTERNS_LIMIT)]


# ---- Requests --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HashSource:
    """Hash what the source is stored in, the disk in it, or a volume.

    :class:`HashProgress` now and then, a :class:`SourceDigest` for each thing that was hashed, then
    :class:`SourceHashed`.
    """

    algorithms: Algorithms
    stored: bool
    """The files, each by itself, and all parts of a split image."""
    disk: bool
    """The bytes that the image presents."""
    volume: VolumeNumber | None = None
    """The bytes that a volume presents."""

    def check(self) -> None:
        """Something is to be done."""
        if not self.algorithms or len({*self.algorithms}) != len(self.algorithms):
            raise ValueError("no algorithm, or one of them twice")


@dataclass(frozen=True, slots=True)
class ReadTimeline:
    """Tell the times of all that is at and below a path.

    :class:`Rows` as they are read, :class:`WalkFailed` for what could not be, then
    :class:`Searched`, whose matches are the entries told of.
    """

    volume: VolumeNumber
    path: Path
    form: Annotated[str, OneOf(frozenset({"body", "csv", "json"}))]


@dataclass(frozen=True, slots=True)
class ReadInventory:
    """Tell all that is known of all that is at and below a path; answered as a timeline is."""

    volume: VolumeNumber
    path: Path
    form: Annotated[str, OneOf(frozenset({"csv", "json"}))]
    algorithms: Algorithms = ()
    """Of the digests of each file's content."""


@dataclass(frozen=True, slots=True)
class FindEntries:
    """Find entries at and below a path; see :class:`explorer.evidence.finding.Criteria`.

    :class:`Found` as they are met, :class:`WalkFailed`, then :class:`Searched`.
    """

    volume: VolumeNumber
    path: Path
    names: Patterns = ()
    ignore_case: bool = False
    pattern: Pattern = b""
    size_least: Count | None = None
    size_most: Count | None = None
    after_ns: int | None = None
    before_ns: int | None = None
    time_kind: Annotated[str, OneOf(frozenset({"accessed", "modified", "changed", "born"}))] = (
        "modified"
    )
    types: Annotated[str, AtMost(16)] = ""
    uid: Count | None = None
    gid: Count | None = None
    mode_bits: Annotated[int, Between(0, 0o7777)] = 0


@dataclass(frozen=True, slots=True)
class SearchContents:
    """Search the contents of files at and below a path, for a text, bytes or a pattern.

    :class:`Matches` as they are met, :class:`WalkFailed`, then :class:`Searched`.
    """

    volume: VolumeNumber
    path: Path
    text: Annotated[str, AtMost(NEEDLE_LIMIT)] = ""
    encodings: Annotated[tuple[Word, ...], AtMost(64)] = ()
    """Of the text."""
    literal: Pattern = b""
    pattern: Pattern = b""
    """A regular expression over bytes."""
    ignore_case: bool = False
    names: Patterns = ()
    """Only in files of which one of these patterns of the shell is the name's."""
    size_most: Count | None = None

    def check(self) -> None:
        """One thing is searched for."""
        if bool(self.text) + bool(self.literal) + bool(self.pattern) != 1:
            raise ValueError("not one thing to search for")
        if bool(self.text) != bool(self.encodings):
            raise ValueError("text without an encoding, or the other way round")


# ---- Parts of an answer ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class HashProgress:
    """How far hashing is, in bytes."""

    done: Count
    total: Count


@dataclass(frozen=True, slots=True)
class SourceDigest:
    """What was hashed, and what came out; see :class:`explorer.evidence.hashing.Hashed`."""

    kind: Annotated[str, OneOf(frozenset({"file", "parts", "disk", "volume"}))]
    name: Line
    size: Count
    format: Word
    same: bool
    digests: Annotated[tuple[Digest, ...], AtMost(8)]
    """In the order of the algorithms asked for; none where it could not be read."""
    error: ExplorerError | None

    def check_answer(self, request: HashSource) -> None:
        """There is a digest by each algorithm, or an error."""
        wanted = 0 if self.error is not None else len(request.algorithms)
        if len(self.digests) != wanted:
            raise ValueError("not the digests asked for")


@dataclass(frozen=True, slots=True)
class Rows:
    """Some text; a line may go on in the next."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """Some entries that were found."""

    paths: Annotated[tuple[Path, ...], AtMost(FOUND_LIMIT)]
    entries: Annotated[tuple[Entry, ...], AtMost(FOUND_LIMIT)]

    def check(self) -> None:
        """Each entry has the name that its path ends in."""
        if [path.rpartition(b"/")[2] for path in self.paths] != [one.name for one in self.entries]:
            raise ValueError("paths of other entries")

    def check_answer(self, request: FindEntries) -> None:
        """They are where they were looked for."""
        if not all(is_below(path, request.path) for path in self.paths):
            raise ValueError("a path that was not asked for")


@dataclass(frozen=True, slots=True)
class Matches:
    """Some places in one file where something was found."""

    path: Path
    offsets: Annotated[tuple[Count, ...], AtMost(FOUND_LIMIT)]
    lengths: Annotated[tuple[Count, ...], AtMost(FOUND_LIMIT)]
    """Of what was found, which is not told beyond :data:`CONTEXT_LIMIT`."""
    encodings: Annotated[tuple[Word, ...], AtMost(FOUND_LIMIT)]
    """Empty for bytes and patterns."""
    sizes: Annotated[tuple[Annotated[int, Between(0, CONTEXT_LIMIT)], ...], AtMost(3 * FOUND_LIMIT)]
    """In the payload: what is before each match, the match, and what is after it."""
    payload: bytes

    def check(self) -> None:
        """They belong together."""
        count = len(self.offsets)
        if (len(self.lengths), len(self.encodings), len(self.sizes)) != (count, count, 3 * count):
            raise ValueError("not as many of each")
        if sum(self.sizes) != len(self.payload):
            raise ValueError("bytes that are no match")

    def check_answer(self, request: SearchContents) -> None:
        """They are where they were looked for."""
        if not is_below(self.path, request.path):
            raise ValueError("a path that was not asked for")

    def contexts(self) -> list[tuple[bytes, bytes, bytes]]:
        """Of each match: what is before it, itself, what is after it."""
        pieces: list[bytes] = []
        at = 0
        for size in self.sizes:
            pieces.append(self.payload[at : at + size])
            at += size
        return list(zip(pieces[0::3], pieces[1::3], pieces[2::3], strict=True))


@dataclass(frozen=True, slots=True)
class WalkFailed:
    """An entry, or what is in a directory, that could not be read."""

    path: Path
    error: ExplorerError

    def check_answer(
        self, request: ReadTimeline | ReadInventory | FindEntries | SearchContents
    ) -> None:
        """It is where was looked."""
        if not is_below(self.path, request.path):
            raise ValueError("a path that was not asked for")


# ---- Ends of an answer -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceHashed:
    """All was hashed that can be."""


@dataclass(frozen=True, slots=True)
class Searched:
    """All was looked at."""

    entries: Count
    """Of contents: the files."""
    matches: Count
    errors: Count


EvidenceRequest = HashSource | ReadTimeline | ReadInventory | FindEntries | SearchContents
EvidencePart = HashProgress | SourceDigest | Rows | Found | Matches | WalkFailed
EvidenceReply = SourceHashed | Searched
