# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources, their volumes and entries, as other programs use them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from explorer.api.connection import Connection, Inbox
from explorer.api.copying import copy
from explorer.core.closing import Closing
from explorer.core.entries import Entry, iter_entries
from explorer.core.errors import VolumeError
from explorer.core.names import is_entry_name
from explorer.core.selection import select_volume
from explorer.core.views import View
from explorer.core.volume import OPENED
from explorer.host.handover import Giver
from explorer.host.processes import may_keep_owners, own_command
from explorer.wire.evidence import (
    FindEntries,
    HashSource,
    ReadInventory,
    ReadTimeline,
    SearchContents,
    SourceDigest,
    WalkFailed,
)
from explorer.wire.messages import (
    RANGE_LIMIT,
    Counters,
    EntryRead,
    FindSubvolumes,
    LinksRead,
    ListDirectory,
    OpenSource,
    OpenVolume,
    Pack,
    RangeRead,
    ReadCounters,
    ReadEntry,
    ReadLinks,
    ReadRange,
    ReadXattrs,
    Resolve,
    SourceOpened,
    Unlock,
    VolumeOpened,
    VolumesFound,
    XattrsRead,
)
from explorer.wire.writing import Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from explorer.api.copying import Ask, Copied, TellFailure, TellProgress
    from explorer.core.errors import ExplorerError
    from explorer.core.volume import Volume as VolumeFacts

    HostPath = str | bytes | os.PathLike[str]
    PathInside = str | bytes
    TellHashing = Callable[[int, int], None] | None
    TellFailed = Callable[[bytes, ExplorerError], None] | None


class Source(Closing):
    """An image, a disk, or several that belong together, and the engine that reads them.

    A context manager that ends the engine. The source is never written to.
    """

    def __init__(
        self,
        *paths: HostPath,
        format: str = "",  # noqa: A002  # the field's word
        snapshot: str = "",
        member: str = "",
        inside: Sequence[str] = (),
        allowed: Sequence[HostPath] = (),
        view: View | str = View.AUTO,
        passphrases: Sequence[str | bytes] = (),
    ) -> None:
        """Open ``paths``: files or disks of the host, or an ``http(s)`` address.

        ``format`` takes the image as that format; ``snapshot`` and ``member`` choose what of it;
        ``inside`` opens images within, each ``VOLUME:PATH``; ``allowed`` are folders whose files
        the image may name; ``passphrases`` are tried for what is encrypted on the way. Raises
        :exc:`explorer.core.errors.ExplorerError`.
        """
        self._giver = Giver()
        try:
            self._engine = Connection(
                Inbox(),
                [*own_command("engine"), "--hand-over", str(self._giver.other)],
                [self._giver.other],
            )
        except BaseException:
            self._giver.close()
            raise
        self._giver.close_other()
        self.paths = tuple(map(os.fsencode, paths))
        request = OpenSource(
            self.paths,
            format,
            snapshot,
            member,
            tuple(inside),
            tuple(map(os.fsencode, allowed)),
            View(view).value,
            tuple(map(os.fsencode, passphrases)),
        )
        try:
            self.opened: SourceOpened = self._engine.ask(request)
        except BaseException:
            self.close()
            raise
        self._facts = self.opened.volumes

    @property
    def engine(self) -> Connection:
        """The process that reads it."""
        return self._engine

    @property
    def giver(self) -> Giver:
        """By which the engine is handed descriptors."""
        return self._giver

    @property
    def size(self) -> int:
        """Bytes of the disk that the image holds."""
        return self.opened.size

    @property
    def format(self) -> str:
        """Name of the image format."""
        return self.opened.format

    @property
    def volumes(self) -> list[Volume]:
        """All that was found so far; what is locked shows what it holds once unlocked."""
        return [Volume(self, facts) for facts in self._facts]

    def volume(self, wanted: str | int | None = None) -> Volume:
        """The volume of that name, number, label or UUID; the only one, for None.

        Raises :exc:`VolumeError`.
        """
        name = None if wanted is None else str(wanted)
        return Volume(self, select_volume(os.fsdecode(self.paths[0]), self._facts, name))

    def hash(
        self, *algorithms: str, stored: bool = True, disk: bool = True, progress: TellHashing = None
    ) -> list[SourceDigest]:
        """Digests of what the source is ``stored`` in, and of the ``disk`` in it.

        Each says which bytes it is of; ``algorithms`` are ``md5``, ``sha1``, ``sha256`` (if none is
        given) and ``blake2b``. ``progress`` is given bytes done and in all.
        """
        found: list[SourceDigest] = []
        request = HashSource(algorithms or ("sha256",), stored, disk)
        for part in self._engine.stream(request):
            if isinstance(part, SourceDigest):
                found.append(part)
            elif progress is not None:
                progress(part.done, part.total)
        return found

    def counters(self) -> Counters:
        """What was read so far, and that nothing was written."""
        found: Counters = self._engine.ask(ReadCounters())
        return found

    def take_volumes(self, found: VolumesFound) -> None:
        """Keep what was found since the source was opened."""
        self._facts = found.volumes

    def close(self) -> None:
        """End the engine; a second call does nothing."""
        self._engine.close()
        self._giver.close()


class Volume:
    """A volume of a source. Paths are from its root, absolute; text is taken as UTF-8."""

    def __init__(self, source: Source, facts: VolumeFacts) -> None:
        """Used by :class:`Source`."""
        self.source = source
        self.facts = facts

    def __repr__(self) -> str:
        return f"<Volume {self.facts.name} {self.facts.title}>"

    def mount(self) -> VolumeOpened:
        """Mount it, which everything else does too, and tell its file system, view and space."""
        found: VolumeOpened = self.source.engine.ask(OpenVolume(self.facts.number))
        return found

    def unlock(self, passphrase: str | bytes) -> Volume:
        """Open an encrypted volume; returns what it holds, on which others may stand.

        Raises :exc:`VolumeError` for a wrong passphrase.
        """
        request = Unlock(self.facts.number, os.fsencode(passphrase))
        self.source.take_volumes(self.source.engine.ask(request))
        return next(
            volume
            for volume in self.source.volumes
            if volume.facts.parent == self.facts.number and volume.facts.kind == OPENED
        )

    def find_subvolumes(self) -> None:
        """Look for subvolumes and snapshots; they are in :attr:`Source.volumes` then."""
        self.source.take_volumes(self.source.engine.ask(FindSubvolumes(self.facts.number)))

    def list(self, path: PathInside = "/") -> Iterator[Entry]:
        """The entries of a folder, in the file system's order, as they are read."""
        request = ListDirectory(self.facts.number, encode_path(path))
        for part in self.source.engine.stream(request):
            yield from iter_entries(part.payload)

    def stat(self, path: PathInside) -> Entry:
        """One entry, a link itself."""
        found: EntryRead = self.source.engine.ask(ReadEntry(self.facts.number, encode_path(path)))
        return found.entry

    def resolve(self, path: PathInside) -> bytes:
        """The path, without links, of what a path leads to; links do not leave the volume."""
        found: EntryRead = self.source.engine.ask(Resolve(self.facts.number, encode_path(path)))
        return found.path

    def resolve_parent(self, path: PathInside) -> bytes:
        """The path, without links on the way, of an entry; of a link, its own."""
        folder, _, name = encode_path(path).rstrip(b"/").rpartition(b"/")
        if not is_entry_name(name):
            return self.resolve(path)
        return self.resolve(folder or b"/").rstrip(b"/") + b"/" + name

    def read_link(self, path: PathInside) -> bytes:
        """Where a link points; raises :exc:`VolumeError` for what is none."""
        folder, _, name = encode_path(path).rpartition(b"/")
        request = ReadLinks(self.facts.number, folder or b"/", (name,))
        found: LinksRead = self.source.engine.ask(request)
        (target,) = found.targets
        if target is None:
            raise VolumeError("volume.no-link", path=os.fsdecode(path))
        return target

    def read_xattrs(self, path: PathInside) -> dict[bytes, bytes]:
        """Extended attributes of an entry, a link's own."""
        found: XattrsRead = self.source.engine.ask(ReadXattrs(self.facts.number, encode_path(path)))
        return dict(zip(found.names, found.values, strict=True))

    def read(self, path: PathInside, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file from ``offset``, fewer than ``length`` only at its end."""
        return b"".join(self.iter_read(path, offset, length))

    def iter_read(
        self, path: PathInside, offset: int = 0, length: int | None = None
    ) -> Iterator[bytes]:
        """Bytes of a file, in pieces of at most 1 MiB."""
        raw = encode_path(path)
        while length is None or length > 0:
            wanted = RANGE_LIMIT if length is None else min(length, RANGE_LIMIT)
            request = ReadRange(self.facts.number, raw, offset, wanted)
            found: RangeRead = self.source.engine.ask(request)
            if found.payload:
                yield found.payload
            if len(found.payload) < wanted:
                return
            offset += wanted
            length = None if length is None else length - wanted

    # ---- All of a tree. What could not be read of it is given to ``failed``; without that, it is
    # raised when all the rest was told.

    def find(
        self,
        path: PathInside = "/",
        *,
        failed: TellFailed = None,
        **criteria: Any,  # noqa: ANN401
    ) -> Iterator[tuple[bytes, Entry]]:
        """Entries at and below a path, by the criteria of :class:`FindEntries`, as they are met."""
        request = FindEntries(self.facts.number, encode_path(path), **criteria)
        for part in self._walk(request, failed):
            yield from zip(part.paths, part.entries, strict=True)

    def grep(
        self,
        path: PathInside = "/",
        *,
        failed: TellFailed = None,
        **criteria: Any,  # noqa: ANN401
    ) -> Iterator[Match]:
        """Places in files at and below a path, by the criteria of :class:`SearchContents`."""
        request = SearchContents(self.facts.number, encode_path(path), **criteria)
        for part in self._walk(request, failed):
            yield from (
                Match(part.path, *one)
                for one in zip(
                    part.offsets, part.lengths, part.encodings, part.contexts(), strict=True
                )
            )

    def timeline(
        self, path: PathInside = "/", form: str = "body", *, failed: TellFailed = None
    ) -> Iterator[bytes]:
        """Pieces of a timeline: as ``body`` file of the Sleuth Kit, ``csv`` or ``json`` lines."""
        request = ReadTimeline(self.facts.number, encode_path(path), form)
        for part in self._walk(request, failed):
            yield part.payload

    def inventory(
        self,
        path: PathInside = "/",
        form: str = "json",
        *,
        algorithms: Sequence[str] = (),
        failed: TellFailed = None,
    ) -> Iterator[bytes]:
        """Pieces of a list of all that is known of each entry, as ``csv`` or ``json`` lines.

        ``algorithms`` are those of digests of the files' contents.
        """
        request = ReadInventory(self.facts.number, encode_path(path), form, tuple(algorithms))
        for part in self._walk(request, failed):
            yield part.payload

    def _walk(
        self,
        request: ReadTimeline | ReadInventory | FindEntries | SearchContents,
        failed: TellFailed,
    ) -> Iterator[Any]:
        first: ExplorerError | None = None
        for part in self.source.engine.stream(request):
            if not isinstance(part, WalkFailed):
                yield part
            elif failed is not None:
                failed(part.path, part.error)
            else:
                first = first or part.error
        if first is not None:
            raise first

    # ---- Copies

    def copy(
        self,
        paths: Sequence[PathInside],
        destination: HostPath,
        *,
        follow: bool = False,
        holes: bool = False,
        ask: Ask | None = None,
        progress: TellProgress | None = None,
        failed: TellFailure | None = None,
        **choices: Any,  # noqa: ANN401
    ) -> Copied:
        """Copy entries, with all below them, into a folder of the host that exists.

        ``/`` stands for all that is in it. ``follow`` copies what links to files lead to; ``holes``
        leaves a hole where a file cannot be read, instead of leaving it out. ``choices`` are those
        of :class:`Write`: ``conflicts``, ``symlinks``, ``names``, ``special``, ``digests``,
        ``manifest``, ``journal``, ``resume``, ``plan``. What could not be copied is in the result.
        """
        write = Write(
            sink="folder",
            destination=os.fsencode(destination),
            owner=may_keep_owners(),
            **{"conflicts": "skip", **choices},
        )
        return self._copy(paths, write, follow, holes, ask, progress, failed)

    def archive(
        self,
        paths: Sequence[PathInside],
        file: HostPath,
        kind: str = "tar",
        *,
        follow: bool = False,
        holes: bool = False,
        progress: TellProgress | None = None,
        failed: TellFailure | None = None,
        **choices: Any,  # noqa: ANN401
    ) -> Copied:
        """Write entries, with all below them, to an archive: ``tar`` (pax) or ``zip``.

        ``choices`` as of :meth:`copy`, as far as they are of use for an archive.
        """
        write = Write(
            sink=kind,
            destination=os.fsencode(file),
            special=True,
            owner=True,
            **{"conflicts": "skip", **choices},
        )
        return self._copy(paths, write, follow, holes, None, progress, failed)

    def _copy(
        self,
        paths: Sequence[PathInside],
        write: Write,
        follow: bool,
        holes: bool,
        ask: Ask | None,
        progress: TellProgress | None,
        failed: TellFailure | None,
    ) -> Copied:
        pack = Pack(
            volume=self.facts.number,
            paths=tuple(map(encode_path, paths)),
            follow=follow,
            every_link=write.sink == "zip",
            holes=holes,
            plan=write.plan,
        )
        return copy(self.source, pack, write, ask=ask, progress=progress, failed=failed)


class Match(NamedTuple):
    """A place in a file where something was found."""

    path: bytes
    offset: int
    """Bytes from the file's start."""
    length: int
    """Bytes."""
    encoding: str
    """Of a text; empty for bytes and patterns."""
    context: tuple[bytes, bytes, bytes]
    """What is before it, itself, what is after it; the first of each."""


def encode_path(path: PathInside) -> bytes:
    """A path inside a volume as the wire names it; a relative one is from the root."""
    return b"/" + os.fsencode(path).lstrip(b"/")
