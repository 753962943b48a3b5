# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the window asks of its engine, and what the engine answers.

A request is answered by any number of parts (:data:`PARTS`) and then by exactly one end: its
reply (:data:`REPLIES`), or :class:`Failed`. Volumes are named by their number, entries by their
path from the volume's root: bytes, absolute, without ``.``, ``..`` and doubled slashes. A path's
last part is not followed when it is a link; only :class:`Resolve` does that, and no link leaves
its volume.

A field's type says what it may hold (:mod:`explorer.wire.limits`). What must hold between fields is
checked by a message's ``check``, what an answer must be by its ``check_answer``, given the request;
both raise :exc:`ValueError`. Both ends check what they send and what they receive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Annotated

# Read at run time: a field's annotation says how it is decoded.
from explorer.core.entries import Entry, iter_entries
from explorer.core.errors import ExplorerError  # noqa: TC001
from explorer.core.views import View
from explorer.core.volume import Volume  # noqa: TC001
from explorer.wire.evidence import (
    EvidencePart,
    EvidenceReply,
    EvidenceRequest,
    FindEntries,
    Found,
    HashProgress,
    HashSource,
    Matches,
    ReadInventory,
    ReadTimeline,
    Rows,
    SearchContents,
    Searched,
    SourceDigest,
    SourceHashed,
    WalkFailed,
)
from explorer.wire.limits import (
    AtMost,
    Between,
    Count,
    HostPath,
    Line,
    LinkTarget,
    Name,
    OneOf,
    Path,
    RequestNumber,
    TypedPath,
    VolumeNumber,
    Word,
    XattrName,
)
from explorer.wire.writing import (
    AnswerConflict,
    Conflict,
    Continue,
    EntriesFailed,
    NamesMapped,
    Pause,
    Steering,
    Write,
    WriteProgress,
    WriterPart,
    Written,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

RANGE_LIMIT = 1 << 20
"""Bytes of a file that are read at once."""
LINKS_LIMIT = 512
PATHS_LIMIT = 100_000
VOLUMES_LIMIT = 4096
XATTRS_LIMIT = 1 << 16

# ---- From the engine, without being asked ---------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The first frame of every engine, in request 0: it may be asked now."""

    version: Word
    """Of the program; the window refuses an engine of another one."""
    missing: tuple[Word, ...] = ()
    """Parts of its confinement that this host lacks, to show; none if it is confined as meant."""


# ---- Requests --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenSource:
    """Open an image or device, boot the kernel on it: answered by :class:`SourceOpened`.

    The first request, and once only: an engine has one source.
    """

    paths: Annotated[tuple[HostPath, ...], AtMost(1024)]
    """Of the host; several are images whose volumes belong together."""
    format: Word = ""
    """The format to take it as; empty for the one it has. An empty text below means none, too."""
    snapshot: str = ""
    member: str = ""
    inside: Annotated[tuple[str, ...], AtMost(64)] = ()
    """Images within, as ``VOLUME:PATH``; see :class:`explorer.volumes.source.Wanted`."""
    allowed: Annotated[tuple[HostPath, ...], AtMost(1024)] = ()
    """Folders whose files the image may name, besides its own."""
    view: Annotated[str, OneOf(frozenset(view.value for view in View))] = View.AUTO.value
    passphrases: Annotated[tuple[bytes, ...], AtMost(64)] = field(default=(), repr=False)
    """Tried for whatever is encrypted on the way."""


@dataclass(frozen=True, slots=True)
class Unlock:
    """Open an encrypted volume: answered by :class:`VolumesFound`."""

    volume: VolumeNumber
    passphrase: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FindSubvolumes:
    """Look for subvolumes and snapshots: answered by :class:`VolumesFound`."""

    volume: VolumeNumber


@dataclass(frozen=True, slots=True)
class OpenVolume:
    """Mount a volume, if it is not yet: answered by :class:`VolumeOpened`.

    Every request that names a volume mounts it too.
    """

    volume: VolumeNumber


@dataclass(frozen=True, slots=True)
class ListDirectory:
    """Read a directory: :class:`Entries` as they are read, then :class:`Listed`."""

    volume: VolumeNumber
    path: Path


@dataclass(frozen=True, slots=True)
class ReadEntry:
    """Stat one entry, a link itself: answered by :class:`EntryRead`."""

    volume: VolumeNumber
    path: Path


@dataclass(frozen=True, slots=True)
class Resolve:
    """Follow the links of a path, inside the volume: answered by :class:`EntryRead`.

    It may be any absolute path, as a person types it; the answer's is one that names its entry
    by itself.
    """

    volume: VolumeNumber
    path: TypedPath


@dataclass(frozen=True, slots=True)
class ReadLinks:
    """Read where links of one directory point: answered by :class:`LinksRead`."""

    volume: VolumeNumber
    path: Path
    """Of the directory."""
    names: Annotated[tuple[Name, ...], AtMost(LINKS_LIMIT)]


@dataclass(frozen=True, slots=True)
class ReadXattrs:
    """Read an entry's extended attributes: answered by :class:`XattrsRead`."""

    volume: VolumeNumber
    path: Path


@dataclass(frozen=True, slots=True)
class ReadRange:
    """Read a piece of a file: answered by :class:`RangeRead`, shorter only at the file's end."""

    volume: VolumeNumber
    path: Path
    offset: Count
    length: Annotated[int, Between(0, RANGE_LIMIT)]
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Pack:
    """Send entries, with all below them, to a writer: answered by :class:`Packed`.

    They go through the socket that was handed over under this request's number; what becomes of
    each of them is for the writer to tell.
    """

    volume: VolumeNumber
    paths: Annotated[tuple[Path, ...], AtMost(PATHS_LIMIT)]
    """The root stands for all that is in it."""
    name: Name | None = None
    """What the only path's entry is called at the destination; None for its own name."""
    contents: bool = False
    """Whether folders give what is in them, instead of themselves."""
    follow: bool = False
    """Whether links give the file that they lead to, inside the volume."""
    every_link: bool = False
    """Whether each hard link comes with its content, as for a destination that knows none."""
    holes: bool = False
    """Whether what cannot be read of a file becomes a marked hole, instead of failing the file."""
    extents: bool = True
    """Whether ranges of the image's own files may be sent in place of the bytes in them."""
    plan: bool = False
    """Whether only to tell what would be sent."""

    def check(self) -> None:
        """One name is for one path."""
        if self.name is not None and len(self.paths) != 1:
            raise ValueError("a name for several paths")


@dataclass(frozen=True, slots=True)
class ReadCounters:
    """Ask what was done to the source so far: answered by :class:`Counters`."""


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Read the kernel's log: answered by :class:`LogRead`."""

    position: Count
    """Bytes since boot; 0 for the oldest that is kept."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a request early. Itself unanswered; the request ends by ``Failed(request.cancelled)``."""

    target: RequestNumber
    """The request's number; one that has ended is no error."""


# ---- Parts of an answer ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entries:
    """Some entries of a directory."""

    payload: bytes
    """Records as the kernel library packed them; see :func:`explorer.core.entries.iter_entries`."""

    _entries: tuple[Entry, ...] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The records, decoded once; raises :exc:`RecordError` when one breaks a rule."""
        if self._entries is None:
            object.__setattr__(self, "_entries", tuple(iter_entries(self.payload)))
        return self._entries or ()

    def check_answer(self, request: ListDirectory) -> None:  # noqa: ARG002 - of whatever folder
        """Each record is an entry of one folder, not of a walk."""
        if any(entry.depth or not entry.name for entry in self.entries):
            raise ValueError("a record of a walk")


# ---- Ends of an answer -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed, or was cancelled."""

    error: ExplorerError


@dataclass(frozen=True, slots=True)
class SourceOpened:
    """What the source is."""

    size: Count
    """Bytes, of the disk that the image holds."""
    format: Word
    """Name of the image format."""
    kernel: Word
    """Release of the Linux inside."""
    boot_ns: Count
    """Nanoseconds that booting it took."""
    volumes: Annotated[tuple[Volume, ...], AtMost(VOLUMES_LIMIT)]
    facts: Annotated[tuple[Line, ...], AtMost(4096)]
    """What the image's format tells of it, a line each."""

    def check(self) -> None:
        """Each volume has a number of its own."""
        _check_numbers(self.volumes)


@dataclass(frozen=True, slots=True)
class VolumesFound:
    """All volumes of the source as they are known now."""

    volumes: Annotated[tuple[Volume, ...], AtMost(VOLUMES_LIMIT)]

    def check(self) -> None:
        """Each volume has a number of its own."""
        _check_numbers(self.volumes)


@dataclass(frozen=True, slots=True)
class VolumeOpened:
    """A mounted volume."""

    type: Word
    """The file system, as the kernel names it."""
    recovered: bool
    """Whether the file system put something in order, in memory: replayed its journal, say."""
    as_stored: bool
    """Whether it could only be opened without that; the newest changes may be missing."""
    size: Count
    """Bytes."""
    free: Count
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The directory ended."""


@dataclass(frozen=True, slots=True)
class EntryRead:
    """One entry."""

    path: Path
    """Of the entry itself, links resolved when that was asked."""
    entry: Entry
    """Its name is the last component of ``path``, empty for the root."""

    def check(self) -> None:
        """The entry is the one that the path names."""
        if self.entry.name != self.path.rpartition(b"/")[2]:
            raise ValueError("another name than its path's")

    def check_answer(self, request: ReadEntry | Resolve) -> None:
        """It is the entry that was asked for; where links lead is the engine's to tell."""
        if isinstance(request, ReadEntry) and self.path != request.path:
            raise ValueError("another path than asked for")


@dataclass(frozen=True, slots=True)
class LinksRead:
    """Where links point, in the order asked; None for one that cannot be read."""

    targets: Annotated[tuple[LinkTarget | None, ...], AtMost(LINKS_LIMIT)]

    def check_answer(self, request: ReadLinks) -> None:
        """There are as many as were asked for."""
        if len(self.targets) != len(request.names):
            raise ValueError("another number than asked for")


@dataclass(frozen=True, slots=True)
class XattrsRead:
    """Names and values, in the file system's order."""

    names: Annotated[tuple[XattrName, ...], AtMost(XATTRS_LIMIT)]
    ends: Annotated[tuple[Count, ...], AtMost(XATTRS_LIMIT)]
    """Where in the payload each value ends, which is where the next one begins."""
    payload: bytes = b""

    @classmethod
    def of(cls, found: Mapping[bytes, bytes]) -> XattrsRead:
        """The message about attributes."""
        ends = tuple(accumulate(map(len, found.values())))
        return cls(tuple(found), ends, b"".join(found.values()))

    @property
    def values(self) -> tuple[bytes, ...]:
        """As many as names."""
        return tuple(self.payload[start:end] for start, end in pairwise((0, *self.ends)))

    def check(self) -> None:
        """Names and values belong together, and the values are the payload."""
        if len(self.names) != len(self.ends):
            raise ValueError("not as many values as names")
        if any(start > end for start, end in pairwise((0, *self.ends, len(self.payload)))):
            raise ValueError("values that are not in order")
        if (self.ends[-1] if self.ends else 0) != len(self.payload):
            raise ValueError("bytes that are no value")


@dataclass(frozen=True, slots=True)
class RangeRead:
    """Bytes of a file."""

    payload: bytes

    def check_answer(self, request: ReadRange) -> None:
        """It is no more than was asked for."""
        if len(self.payload) > request.length:
            raise ValueError("more bytes than asked for")


@dataclass(frozen=True, slots=True)
class Packed:
    """All was sent."""

    entries: Count


@dataclass(frozen=True, slots=True)
class Counters:
    """Of the source's disk, since it was opened."""

    read_requests: Count
    read_bytes: Count
    written_bytes: Count
    """To the source itself: 0, or the program is broken."""
    refused_writes: Count
    overlay_bytes: Count
    """Held in memory instead of being written."""


@dataclass(frozen=True, slots=True)
class LogRead:
    """Some of the kernel's log; empty when there is no more yet."""

    position: Count
    """Where the next read goes on."""
    payload: bytes

    def check_answer(self, request: ReadLog) -> None:
        """It goes on from where it was asked to, or from later."""
        if self.position < request.position + len(self.payload):
            raise ValueError("a position before its own bytes")


def _check_numbers(volumes: tuple[Volume, ...]) -> None:
    if len({volume.number for volume in volumes}) != len(volumes):
        raise ValueError("two volumes of one number")


Request = (
    OpenSource
    | OpenVolume
    | ListDirectory
    | ReadEntry
    | Resolve
    | ReadLinks
    | ReadXattrs
    | ReadRange
    | Pack
    | ReadCounters
    | ReadLog
    | Unlock
    | FindSubvolumes
    | Write
    | EvidenceRequest
)
Part = Entries | WriterPart | EvidencePart
Reply = (
    SourceOpened
    | VolumeOpened
    | Listed
    | EntryRead
    | LinksRead
    | XattrsRead
    | RangeRead
    | Packed
    | Counters
    | LogRead
    | VolumesFound
    | Written
    | EvidenceReply
)
Message = Ready | Request | Cancel | Steering | Part | Reply | Failed

MESSAGES: dict[int, type[Message]] = {
    1: Ready,
    2: OpenSource,
    3: OpenVolume,
    4: ListDirectory,
    5: ReadEntry,
    6: Resolve,
    7: ReadLinks,
    8: ReadXattrs,
    9: ReadRange,
    11: ReadCounters,
    12: ReadLog,
    13: Cancel,
    14: Entries,
    17: Failed,
    18: SourceOpened,
    19: VolumeOpened,
    20: Listed,
    21: EntryRead,
    22: LinksRead,
    23: XattrsRead,
    24: RangeRead,
    26: Counters,
    27: LogRead,
    28: Unlock,
    29: FindSubvolumes,
    30: VolumesFound,
    31: Pack,
    32: Packed,
    64: Write,
    65: Pause,
    66: Continue,
    67: AnswerConflict,
    68: WriteProgress,
    69: EntriesFailed,
    70: NamesMapped,
    71: Conflict,
    72: Written,
    96: HashSource,
    97: ReadTimeline,
    98: ReadInventory,
    99: FindEntries,
    100: SearchContents,
    101: HashProgress,
    102: SourceDigest,
    103: Rows,
    104: Found,
    105: Matches,
    106: WalkFailed,
    107: SourceHashed,
    108: Searched,
}
"""The number that stands for each class in a frame's header; one that was given up is not used
again."""

REPLIES: dict[type[Request], type[Reply]] = {
    OpenSource: SourceOpened,
    OpenVolume: VolumeOpened,
    ListDirectory: Listed,
    ReadEntry: EntryRead,
    Resolve: EntryRead,
    ReadLinks: LinksRead,
    ReadXattrs: XattrsRead,
    ReadRange: RangeRead,
    Pack: Packed,
    ReadCounters: Counters,
    ReadLog: LogRead,
    Unlock: VolumesFound,
    FindSubvolumes: VolumesFound,
    Write: Written,
    HashSource: SourceHashed,
    ReadTimeline: Searched,
    ReadInventory: Searched,
    FindEntries: Searched,
    SearchContents: Searched,
}
"""The reply that ends each request, unless :class:`Failed` does."""

PARTS: dict[type[Request], tuple[type[Part], ...]] = {
    ListDirectory: (Entries,),
    Write: (WriteProgress, EntriesFailed, NamesMapped, Conflict),
    HashSource: (HashProgress, SourceDigest),
    ReadTimeline: (Rows, WalkFailed),
    ReadInventory: (Rows, WalkFailed),
    FindEntries: (Found, WalkFailed),
    SearchContents: (Matches, WalkFailed),
}
"""The parts that come before it."""

BULK: frozenset[type[Request]] = frozenset(
    (
        *(Pack, Write),
        *(HashSource, ReadTimeline, ReadInventory, FindEntries, SearchContents),
    )
)
"""Requests that take their time: whatever else is asked goes before them."""
