# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is asked of a writer, and what it answers; part of :mod:`explorer.wire.messages`.

A writer gets one :class:`Write`, while it works what steers that, and is sent the entries by an
engine through a socket of its own. Its paths begin at the destination: ``/name`` is what came at
depth 0, ``/`` the destination itself. Names are those of the source, raw; what one became on the
host is told by :class:`NamesMapped`.

Every entry that was seen has one outcome: copied, damaged (copied, with something missing), skipped
by a rule, failed, or done before (by a copy that this one goes on with).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

# Read at run time: a field's annotation says how it is decoded.
from explorer.core.entries import Entry  # noqa: TC001
from explorer.core.errors import ExplorerError  # noqa: TC001
from explorer.wire.limits import (
    AtMost,
    Count,
    HostPath,
    Line,
    Name,
    OneOf,
    Path,
    RequestNumber,
    Word,
)

SINKS = frozenset({"folder", "tar", "zip", "content"})
NAME_RULES = frozenset({"auto", "posix", "windows"})
DECISIONS = frozenset({"skip", "overwrite", "rename", "newer"})
"""What to do where the host has something of that name; ``newer``: overwrite what is older."""
LINK_POLICIES = frozenset({"recreate", "text", "skip"})
DIGESTS = frozenset({"md5", "sha1", "sha256", "blake2b"})
MANIFEST_FORMS = frozenset({"csv", "json"})
BATCH_LIMIT = 256
"""Items of a part that tells of several entries."""
BATCH_BYTES = 1 << 15
"""Of their names, after which a part is sent; one name may be longer."""
ORIGINS_LIMIT = 100_000
RULES_LIMIT = 16
"""Of rules by which entries are skipped."""

_Paths = Annotated[tuple[Path, ...], AtMost(BATCH_LIMIT)]


# ---- Requests --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Write:
    """Write what comes through the socket: answered by :class:`Written`.

    :class:`WriteProgress`, :class:`EntriesFailed`, :class:`NamesMapped` and :class:`Conflict` come
    on the way.
    """

    sink: Annotated[str, OneOf(SINKS)]
    """A folder, an archive, or the content of one file."""
    destination: HostPath | None
    """A folder that exists, or the file to write; None: the descriptor that was inherited."""
    names: Annotated[str, OneOf(NAME_RULES)] = "auto"
    """Which names the host can hold; others are mapped."""
    conflicts: Annotated[str, OneOf(DECISIONS | {"ask"})] = "ask"
    """An archive is replaced by ``overwrite`` only."""
    symlinks: Annotated[str, OneOf(LINK_POLICIES)] = "recreate"
    """As links, as files that hold where they point, or not at all."""
    special: bool = False
    """Create devices, fifos and sockets, where the sink knows them."""
    owner: bool = False
    """Give a folder's entries their owners; archives hold them always."""
    deflate: bool = True
    """Whether a zip archive is compressed."""
    digests: Annotated[tuple[Annotated[str, OneOf(DIGESTS)], ...], AtMost(4)] = ()
    """Of each file's content, for the manifest."""
    manifest: HostPath | None = None
    """The file to write it to; see :mod:`explorer.writer.manifest`."""
    manifest_form: Annotated[str, OneOf(MANIFEST_FORMS)] = "csv"
    source: Line = ""
    """What the manifest says it was copied from."""
    origins: Annotated[tuple[Path, ...], AtMost(ORIGINS_LIMIT)] = ()
    """Paths, in the volume, of what comes at depth 0; of a single one that gives its contents, its
    own."""
    tops: Annotated[tuple[Name, ...], AtMost(ORIGINS_LIMIT)] = ()
    """What these are called at the destination: as many, or none of one that gives its contents."""
    volume: Line = ""
    journal: HostPath | None = None
    """Where a folder's copy keeps what is done, to be gone on with."""
    resume: bool = False
    """Go on with what the journal tells of."""
    plan: bool = False
    """Write nothing, and tell what would be: names that are mapped, what is there already."""
    expected: Count = 0
    """Bytes that will be written, as far as is known."""

    def check(self) -> None:
        """What only some sinks know."""
        if self.sink == "folder" and self.destination is None:
            raise ValueError("a folder that is not named")
        if self.resume and self.journal is None:
            raise ValueError("no journal to go on with")
        if self.tops and len(self.tops) != len(self.origins):
            raise ValueError("not as many names as paths")
        if len(set(self.digests)) != len(self.digests):
            raise ValueError("a digest that is asked for twice")


# ---- What steers it: unanswered, as Cancel is ------------------------------


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop after what is being written, until :class:`Continue`."""

    target: RequestNumber


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on after :class:`Pause`."""

    target: RequestNumber


@dataclass(frozen=True, slots=True)
class AnswerConflict:
    """What to do about a :class:`Conflict`; the copy waits for it."""

    target: RequestNumber
    question: Count
    decision: Annotated[str, OneOf(DECISIONS)]
    for_all: bool
    """Do the same wherever it happens again."""


# ---- Parts of an answer ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class WriteProgress:
    """How far it is."""

    seen: Count
    copied: Count
    """Damaged ones too."""
    skipped: Count
    """By rule, or done before."""
    failed: Count
    written: Count
    """Bytes of content."""
    path: Path
    """Of the entry last worked on."""


@dataclass(frozen=True, slots=True)
class EntriesFailed:
    """Some entries that could not be copied, or not whole."""

    paths: _Paths
    errors: Annotated[tuple[ExplorerError, ...], AtMost(BATCH_LIMIT)]
    """As many as paths."""
    damaged: Annotated[tuple[bool, ...], AtMost(BATCH_LIMIT)]
    """As many as paths: whether it is there all the same."""

    def check(self) -> None:
        """Each has an error."""
        if not len(self.paths) == len(self.errors) == len(self.damaged):
            raise ValueError("not as many errors as paths")


@dataclass(frozen=True, slots=True)
class NamesMapped:
    """Some entries that have another name on the host."""

    paths: _Paths
    names: Annotated[tuple[Name, ...], AtMost(BATCH_LIMIT)]
    """What each path's last part became; as many as paths."""

    def check(self) -> None:
        """Each has a name."""
        if len(self.paths) != len(self.names):
            raise ValueError("not as many names as paths")


@dataclass(frozen=True, slots=True)
class Conflict:
    """The host has something of that name, and it is asked what to do: :class:`AnswerConflict`."""

    question: Count
    path: Path
    existing: Entry
    """Of the host."""
    new: Entry


# ---- Ends of an answer -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """The accounts, when it ended."""

    seen: Count
    copied: Count
    """Whole."""
    damaged: Count
    rules: Annotated[tuple[Word, ...], AtMost(RULES_LIMIT)]
    """By which entries were skipped."""
    skipped: Annotated[tuple[Count, ...], AtMost(RULES_LIMIT)]
    """How many; as many as rules."""
    failed: Count
    done_before: Count
    written: Count
    """Bytes of content."""
    holes: Count
    """Bytes of it that take no space."""
    mapped: Count
    """Names that are others on the host."""
    owners_lost: Count
    """Entries whose owner could not be kept."""
    attributes_lost: Count
    """Extended attributes that could not be kept."""
    complete: bool
    """Whether all that was asked for was sent and seen."""
    ended: ExplorerError | None = None
    """Why not."""

    def check(self) -> None:
        """Nothing is unaccounted for."""
        if self.complete != (self.ended is None):
            raise ValueError("an end without its reason")
        if len(self.rules) != len(self.skipped):
            raise ValueError("not as many numbers as rules")
        total = self.copied + self.damaged + sum(self.skipped) + self.failed + self.done_before
        if total != self.seen:
            raise ValueError("accounts that do not add up")


Steering = Pause | Continue | AnswerConflict
WriterPart = WriteProgress | EntriesFailed | NamesMapped | Conflict
