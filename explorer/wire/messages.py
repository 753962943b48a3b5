# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the window asks of its engine, and what the engine answers.

A request is answered by any number of parts (:data:`PARTS`) and then by exactly one end: its
reply (:data:`REPLIES`), or :class:`Failed`. Volumes are named by their number, entries by their
path from the volume's root: bytes, absolute, without ``.``, ``..`` and doubled slashes. A path's
last part is not followed when it is a link; only :class:`Resolve` does that, and no link leaves
its volume.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Read at run time: a field's annotation says how it is decoded.
from explorer.core.entries import Entry  # noqa: TC001
from explorer.core.errors import ExplorerError  # noqa: TC001
from explorer.core.views import View
from explorer.core.volume import Volume  # noqa: TC001

# ---- From the engine, without being asked ---------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The first frame of every engine, in request 0: it may be asked now."""

    version: str
    """Of the program; the window refuses an engine of another one."""


# ---- Requests --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenSource:
    """Open an image or device, boot the kernel on it: answered by :class:`SourceOpened`.

    The first request, and once only: an engine has one source.
    """

    paths: tuple[bytes, ...]
    """Of the host; several are images whose volumes belong together."""
    format: str = ""
    """The format to take it as; empty for the one it has. An empty text below means none, too."""
    snapshot: str = ""
    member: str = ""
    inside: tuple[str, ...] = ()
    """Images within, as ``VOLUME:PATH``; see :class:`explorer.volumes.source.Wanted`."""
    allowed: tuple[bytes, ...] = ()
    """Folders whose files the image may name, besides its own."""
    view: str = View.AUTO.value
    passphrases: tuple[bytes, ...] = field(default=(), repr=False)
    """Tried for whatever is encrypted on the way."""


@dataclass(frozen=True, slots=True)
class Unlock:
    """Open an encrypted volume: answered by :class:`VolumesFound`."""

    volume: int
    passphrase: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FindSubvolumes:
    """Look for subvolumes and snapshots: answered by :class:`VolumesFound`."""

    volume: int


@dataclass(frozen=True, slots=True)
class OpenVolume:
    """Mount a volume, if it is not yet: answered by :class:`VolumeOpened`.

    Every request that names a volume mounts it too.
    """

    volume: int


@dataclass(frozen=True, slots=True)
class ListDirectory:
    """Read a directory: :class:`Entries` as they are read, then :class:`Listed`."""

    volume: int
    path: bytes


@dataclass(frozen=True, slots=True)
class ReadEntry:
    """Stat one entry, a link itself: answered by :class:`EntryRead`."""

    volume: int
    path: bytes


@dataclass(frozen=True, slots=True)
class Resolve:
    """Follow the links of a path, inside the volume: answered by :class:`EntryRead`.

    It may be any absolute path, as a person types it; the answer's is one that names its entry
    by itself.
    """

    volume: int
    path: bytes


@dataclass(frozen=True, slots=True)
class ReadLinks:
    """Read where links of one directory point: answered by :class:`LinksRead`."""

    volume: int
    path: bytes
    """Of the directory."""
    names: tuple[bytes, ...]
    """At most :data:`LINKS_LIMIT`."""


@dataclass(frozen=True, slots=True)
class ReadXattrs:
    """Read an entry's extended attributes: answered by :class:`XattrsRead`."""

    volume: int
    path: bytes


@dataclass(frozen=True, slots=True)
class ReadRange:
    """Read a piece of a file: answered by :class:`RangeRead`, shorter only at the file's end."""

    volume: int
    path: bytes
    offset: int
    length: int
    """Bytes, at most :data:`RANGE_LIMIT`."""


@dataclass(frozen=True, slots=True)
class Export:
    """Copy entries, with all below them, into a folder of the host.

    :class:`Progress` now and then, :class:`EntryFailed` for each entry not kept whole, then
    :class:`Exported`.
    """

    volume: int
    paths: tuple[bytes, ...]
    """At most :data:`EXPORT_LIMIT`; the root stands for all that is in it."""
    destination: bytes
    """A folder of the host that exists."""
    replace: bool
    """Replace files that exist; otherwise they are reported and left. Folders are merged with."""


@dataclass(frozen=True, slots=True)
class ReadCounters:
    """Ask what was done to the source so far: answered by :class:`Counters`."""


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Read the kernel's log: answered by :class:`LogRead`."""

    position: int
    """Bytes since boot; 0 for the oldest that is kept."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a request early. Itself unanswered; the request ends by ``Failed(request.cancelled)``."""

    target: int
    """The request's number; one that has ended is no error."""


# ---- Parts of an answer ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entries:
    """Some entries of a directory."""

    payload: bytes
    """Records as the kernel library packed them; see :func:`explorer.core.entries.iter_entries`."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an export is."""

    entries: int
    """Done or failed."""
    written: int
    """Bytes of file data."""
    errors: int


@dataclass(frozen=True, slots=True)
class EntryFailed:
    """An entry that an export could not keep whole."""

    path: bytes
    """From the volume's root."""
    error: ExplorerError


# ---- Ends of an answer -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed, or was cancelled."""

    error: ExplorerError


@dataclass(frozen=True, slots=True)
class SourceOpened:
    """What the source is."""

    size: int
    """Bytes, of the disk that the image holds."""
    format: str
    """Name of the image format."""
    kernel: str
    """Release of the Linux inside."""
    boot_ns: int
    """Nanoseconds that booting it took."""
    volumes: tuple[Volume, ...]
    facts: tuple[str, ...]
    """What the image's format tells of it, a line each."""


@dataclass(frozen=True, slots=True)
class VolumesFound:
    """All volumes of the source as they are known now."""

    volumes: tuple[Volume, ...]


@dataclass(frozen=True, slots=True)
class VolumeOpened:
    """A mounted volume."""

    type: str
    """The file system, as the kernel names it."""
    recovered: bool
    """Whether the file system put something in order, in memory: replayed its journal, say."""
    as_stored: bool
    """Whether it could only be opened without that; the newest changes may be missing."""
    size: int
    """Bytes."""
    free: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The directory ended."""


@dataclass(frozen=True, slots=True)
class EntryRead:
    """One entry."""

    path: bytes
    """Of the entry itself, links resolved when that was asked."""
    entry: Entry
    """Its name is the last component of ``path``, empty for the root."""


@dataclass(frozen=True, slots=True)
class LinksRead:
    """Where links point, in the order asked; None for one that cannot be read."""

    targets: tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class XattrsRead:
    """Names and values, in the file system's order."""

    names: tuple[bytes, ...]
    values: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RangeRead:
    """Bytes of a file."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Exported:
    """The export ended; what failed was reported on the way."""

    entries: int
    written: int
    errors: int


@dataclass(frozen=True, slots=True)
class Counters:
    """Of the source's disk, since it was opened."""

    read_requests: int
    read_bytes: int
    written_bytes: int
    """To the source itself: 0, or the program is broken."""
    refused_writes: int
    overlay_bytes: int
    """Held in memory instead of being written."""


@dataclass(frozen=True, slots=True)
class LogRead:
    """Some of the kernel's log; empty when there is no more yet."""

    position: int
    """Where the next read goes on."""
    payload: bytes


Request = (
    OpenSource
    | OpenVolume
    | ListDirectory
    | ReadEntry
    | Resolve
    | ReadLinks
    | ReadXattrs
    | ReadRange
    | Export
    | ReadCounters
    | ReadLog
    | Unlock
    | FindSubvolumes
)
Part = Entries | Progress | EntryFailed
Reply = (
    SourceOpened
    | VolumeOpened
    | Listed
    | EntryRead
    | LinksRead
    | XattrsRead
    | RangeRead
    | Exported
    | Counters
    | LogRead
    | VolumesFound
)
Message = Ready | Request | Cancel | Part | Reply | Failed

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
    10: Export,
    11: ReadCounters,
    12: ReadLog,
    13: Cancel,
    14: Entries,
    15: Progress,
    16: EntryFailed,
    17: Failed,
    18: SourceOpened,
    19: VolumeOpened,
    20: Listed,
    21: EntryRead,
    22: LinksRead,
    23: XattrsRead,
    24: RangeRead,
    25: Exported,
    26: Counters,
    27: LogRead,
    28: Unlock,
    29: FindSubvolumes,
    30: VolumesFound,
}
"""The number that stands for each class in a frame's header."""

REPLIES: dict[type[Request], type[Reply]] = {
    OpenSource: SourceOpened,
    OpenVolume: VolumeOpened,
    ListDirectory: Listed,
    ReadEntry: EntryRead,
    Resolve: EntryRead,
    ReadLinks: LinksRead,
    ReadXattrs: XattrsRead,
    ReadRange: RangeRead,
    Export: Exported,
    ReadCounters: Counters,
    ReadLog: LogRead,
    Unlock: VolumesFound,
    FindSubvolumes: VolumesFound,
}
"""The reply that ends each request, unless :class:`Failed` does."""

PARTS: dict[type[Request], tuple[type[Part], ...]] = {
    ListDirectory: (Entries,),
    Export: (Progress, EntryFailed),
}
"""The parts that come before it."""

RANGE_LIMIT = 1 << 20
LINKS_LIMIT = 1024
EXPORT_LIMIT = 100_000
