# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""From a stream of entries to an archive.

Nothing is asked and nothing can be taken back: an archive is written in the order in which entries
come. A file's size stands before its content, so one that turns out not to be readable to its end
is there with zeros in place of what is missing, and listed as damaged.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from struct import Struct
from typing import TYPE_CHECKING, Protocol, TypeVar

from explorer.core.closing import Closing
from explorer.core.entries import MASK_BLOCKS, Entry, FileType
from explorer.core.errors import ExplorerError
from explorer.native.digests import Digests
from explorer.native.stream import CONTENTS, LINKED, PLAN, Kind, Mode, Operation, Stat
from explorer.wire.limits import PATH_LIMIT
from explorer.writer.outcomes import Outcome, entry_of, kernel_error, show_path
from explorer.writer.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from explorer.native.stream import Event, Stream
    from explorer.wire.writing import Write

T = TypeVar("T")

RANGES_MOST = 4096
"""Unreadable ranges of one file that are told apart."""
PIECE = 1 << 20
_ZEROS = bytes(PIECE)
_XATTR = Struct("=II")
_EIO = -5
_UNKNOWN_SIZE = 1 << 62


class Archive(Protocol):
    """What an archive of some format can take; paths are relative."""

    links: bool
    """Whether it holds hard links."""
    special: bool
    """Whether it holds devices and fifos."""
    xattrs: bool
    """Whether it holds extended attributes."""
    sized: bool
    """Whether a file's holes must be known before its content."""
    path_most: int
    """Bytes of a path."""

    def add(
        self, path: bytes, entry: Entry, xattrs: Mapping[bytes, bytes], target: bytes = b""
    ) -> None:
        """Add what has no content."""

    def add_hard_link(self, path: bytes, entry: Entry, first: bytes) -> None:
        """Add a further name of a file."""

    def begin_file(
        self,
        path: bytes,
        entry: Entry,
        xattrs: Mapping[bytes, bytes],
        size: int,
        pieces: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """Add a file, whose content follows."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write the next bytes of content."""

    def write_zeros(self, length: int) -> None:
        """Write zeros as content."""

    def end_file(self) -> None:
        """End the file."""

    def finish(self) -> None:
        """End the archive."""


class NameRule(Protocol):
    """How names become those that the archive may hold."""

    def map(self, name: bytes, number: int) -> bytes:
        """The name that stands for another; ``number`` is above 1 where that is taken."""

    def key(self, name: bytes) -> bytes:
        """What two names have in common that cannot stand beside one another."""


@dataclass(slots=True)
class _Folder:
    """A directory that was entered."""

    outcome: Outcome
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    waits: bool = True
    """Whether it is still to be added, for its attributes may follow."""
    names: dict[bytes, int] = field(default_factory=dict)
    """By the key of each name that is taken: the last number it was given out by."""


class _Content(Closing):
    """The content of a file, or of a named stream, on its way into the archive."""

    def __init__(
        self, archive: Archive, outcome: Outcome, xattrs: dict[bytes, bytes], spool: Spool | None
    ) -> None:
        """With a spool, the archive gets it at the end."""
        self._archive = archive
        self._outcome = outcome
        self._xattrs = xattrs
        self._spool = spool
        self._digests: Digests | None = None
        self._begun = False
        self.position = 0

    def digest(self, algorithms: Sequence[str]) -> None:
        """Have digests made of it."""
        self._digests = Digests(algorithms)

    def write(self, data: bytes | memoryview) -> None:
        self.position += len(data)
        if self._digests is not None:
            self._digests.update(data)
        if self._spool is not None:
            self._spool.write(data)
        else:
            self._begin()
            self._archive.write(data)

    def skip(self, length: int) -> None:
        """Take a hole."""
        self.position += length
        self._outcome.holes += length
        self._take_zeros(length)
        if self._spool is not None:
            self._spool.skip(length)
        else:
            self._begin()
            self._archive.write_zeros(length)

    def lose(self, length: int) -> None:
        """Write zeros in place of what could not be read."""
        if not length:
            return
        ranges = self._outcome.unreadable
        start, end = self.position, self.position + length
        if ranges and (sum(ranges[-1]) == start or len(ranges) >= RANGES_MOST):
            start, _length = ranges.pop()
        ranges.append((start, end - start))
        holes = self._outcome.holes
        self.skip(length)
        # They take no space, but nobody knows what stands there.
        self._outcome.holes = holes

    def end(self) -> None:
        """Write what is still to be written."""
        outcome = self._outcome
        if self._spool is not None:
            size = self._spool.size
            whole = not outcome.holes and not outcome.unreadable
            pieces = None if whole else self._spool.pieces
            self._archive.begin_file(outcome.target, outcome.entry, self._xattrs, size, pieces)
            for data in self._spool.read():
                self._archive.write(data)
        else:
            self._begin()
        self._archive.end_file()
        outcome.written = self.position
        if self._digests is not None:
            outcome.digests = self._digests.read()
        self.close()

    def close(self) -> None:
        """Free what it keeps."""
        if self._digests is not None:
            self._digests.close()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            outcome = self._outcome
            self._archive.begin_file(
                outcome.target, outcome.entry, self._xattrs, outcome.entry.size
            )

    def _take_zeros(self, length: int) -> None:
        if self._digests is not None:
            while length > 0:
                self._digests.update(memoryview(_ZEROS)[: min(length, PIECE)])
                length -= PIECE


@dataclass(slots=True)
class _File:
    """An entry that is no directory, until its DONE."""

    outcome: Outcome
    number: int
    first: int
    flags: int
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    content: _Content | None = None
    streams: list[Outcome] = field(default_factory=list)
    is_folder: bool = False
    """Whether it is the directory entered last, of which only named streams come."""
    ended: bool = False
    """Whether its own content ended, and that of named streams may come."""


class ArchiveCopy(Closing):
    """One archive, from the stream's first message to its last."""

    def __init__(
        self,
        stream: Stream,
        archive: Archive | None,
        job: Write,
        names: NameRule,
        *,
        spool_folder: bytes | None,
        tell: Callable[[Outcome], None],
        check: Callable[[], None],
    ) -> None:
        """Without an archive nothing is written: what would be is told.

        ``tell`` takes every outcome, in the stream's order; a directory's when it was left.
        ``check`` is called between messages, may wait, and ends it all by raising.
        """
        self._stream = stream
        self._archive = archive
        self._job = job
        self._names = names
        self._tell = tell
        self._check = check
        self._spool = Spool(spool_folder) if archive is not None and archive.sized else None
        root = Outcome(b"/", entry_of(b"", Stat(*[0] * len(Stat._fields))))
        self._folders = [_Folder(root, waits=False)]
        self._file: _File | None = None
        self._targets: dict[int, tuple[bytes, str]] = {}
        """Of files with several links, by number: where they went, or by what rule nowhere."""
        self.error = 0
        """A negative errno: what ended the stream early."""

    def close(self) -> None:
        """Free what it keeps."""
        if self._spool is not None:
            self._spool.close()

    def run(self) -> None:
        """Take the whole stream; raises :exc:`ExplorerError`."""
        takers: dict[int, Callable[[Event], None]] = {
            Kind.ENTER: self._enter,
            Kind.LEAVE: self._leave,
            Kind.CANDIDATES: self._want_all,
            Kind.ENTRY: self._begin_entry,
            Kind.XATTRS: self._take_xattrs,
            Kind.DATA: self._take_data,
            Kind.HOLE: self._take_hole,
            Kind.EXTENT: self._take_extent,
            Kind.BAD: self._take_bad,
            Kind.STREAM: self._begin_stream,
            Kind.DONE: self._end_entry,
            Kind.REFUSED: self._take_refused,
            Kind.BROKEN: self._take_broken,
            Kind.FINISH: self._finish,
        }
        while (event := self._stream.next()) is not None:
            self._check()
            if taker := takers.get(event.kind):
                taker(event)

    # ---- Directories

    def _enter(self, event: Event) -> None:
        outcome = self._outcome(event)
        if event.answer:
            self._stream.answer_mode(Mode.FREE)
        writes = self._archive is not None and not event.flags & (PLAN | CONTENTS)
        self._folders.append(_Folder(outcome, waits=writes and bool(outcome.target)))

    def _leave(self, _event: Event) -> None:
        self._add_folder()
        outcome = self._folders.pop().outcome
        if outcome.error is not None and outcome.result == "copied":
            outcome.result = "damaged"
        self._tell(outcome)

    def _add_folder(self) -> None:
        """Add the directory entered last, if it still waits."""
        folder = self._folders[-1]
        if not folder.waits:
            return
        folder.waits = False
        assert self._archive is not None
        self._keep_xattrs(folder.outcome, folder.xattrs)
        self._archive.add(folder.outcome.target, folder.outcome.entry, folder.xattrs)

    def _take_broken(self, event: Event) -> None:
        outcome = self._folders[-1].outcome
        if outcome.error is None:
            outcome.error = kernel_error(event.error, event.operation, outcome.path)

    def _want_all(self, event: Event) -> None:
        self._stream.answer_wanted(bytes([1]) * event.length)

    # ---- Entries

    def _outcome(self, event: Event) -> Outcome:
        """Where an entry stands and goes."""
        self._add_folder()
        assert event.stat is not None
        entry = entry_of(event.name, event.stat)
        parent = self._folders[-1]
        above = parent.outcome
        if event.flags & CONTENTS:
            return Outcome(above.path, entry)
        path = above.path.rstrip(b"/") + b"/" + event.name
        outcome = Outcome(path, entry)
        if len(path) >= PATH_LIMIT:
            # No message could tell of it by its own path.
            outcome.path = above.path
            _fail(outcome, "copy.path-length")
        elif above.result == "failed":
            _fail(outcome, "copy.parent")
        elif event.kind != Kind.REFUSED:
            outcome.target = self._target(parent, event.name)
            if self._archive is not None and len(outcome.target) >= self._archive.path_most:
                _fail(outcome, "copy.path-length")
        return outcome

    def _target(self, parent: _Folder, name: bytes) -> bytes:
        """A name in the archive that is not taken: else one entry would replace another."""
        mapped = self._names.map(name, 1)
        first = key = self._names.key(mapped)
        number = parent.names.get(first, 1)
        while key in parent.names:
            number += 1
            mapped = self._names.map(name, number)
            key = self._names.key(mapped)
        parent.names[key] = 1
        parent.names[first] = number
        above = parent.outcome.target
        return above + b"/" + mapped if above else mapped

    def _take_refused(self, event: Event) -> None:
        outcome = self._outcome(event)
        outcome.result = "failed"
        outcome.error = kernel_error(event.error, event.operation, outcome.path)
        self._tell(outcome)

    def _begin_entry(self, event: Event) -> None:
        outcome = self._outcome(event)
        if event.data is not None:
            outcome.link = bytes(event.data)
        self._file = _File(outcome, event.number, event.first, event.flags)
        rule = self._rule(outcome.entry)
        if rule and outcome.result == "copied":
            outcome.result, outcome.rule = "skipped", rule

    def _rule(self, entry: Entry) -> str:
        """Why an entry is not to be copied; empty when it is."""
        if entry.type == FileType.FILE:
            return ""
        if entry.type == FileType.LINK:
            return "symlinks" if self._job.symlinks == "skip" else ""
        holds = self._archive is None or self._archive.special
        return "" if self._job.special and holds and entry.type != FileType.SOCKET else "special"

    def _take_xattrs(self, event: Event) -> None:
        assert event.data is not None
        found = dict(_iter_xattrs(event.data))
        if self._file is not None:
            self._file.xattrs = found
        else:
            self._folders[-1].xattrs = found

    def _keep_xattrs(self, outcome: Outcome, xattrs: dict[bytes, bytes]) -> None:
        if self._archive is not None and not self._archive.xattrs:
            outcome.not_kept = list(xattrs)

    def _end_entry(self, event: Event) -> None:
        if self._file is None:
            self._file = _File(self._folders[-1].outcome, 0, 0, 0, is_folder=True)
        file = self._file
        outcome = file.outcome
        if outcome.result == "copied":
            self._end_file(file, event)
        self._file = None
        if file.is_folder:
            for told in file.streams:
                self._tell(told)
            return
        if outcome.entry.links > 1 and not file.first:
            there = outcome.result in ("copied", "damaged")
            self._targets[file.number] = (outcome.target if there else b"", outcome.rule)
        if outcome.result not in ("copied", "damaged"):
            outcome.target = b""
        for told in (outcome, *file.streams):
            self._tell(told)

    def _end_file(self, file: _File, event: Event) -> None:
        outcome = file.outcome
        if event.operation == Operation.SPECIAL and event.error:
            outcome.result, outcome.rule = "skipped", "special"
            return
        if event.error:
            outcome.error = kernel_error(event.error, event.operation, outcome.path)
        if file.flags & LINKED:
            self._add_hard_link(file)
        elif file.flags & PLAN or self._archive is None:
            pass
        elif outcome.entry.type == FileType.FILE or file.is_folder:
            self._end_main(file)
            self._end_stream(file)
            if any(stream.error for stream in file.streams) and outcome.error is None:
                outcome.error = file.streams[-1].error
        elif outcome.entry.type == FileType.LINK and outcome.link is None:
            outcome.result = "failed"
            return
        else:
            self._keep_xattrs(outcome, file.xattrs)
            self._add_plain(file)
        if outcome.error is not None and outcome.result == "copied":
            outcome.result = "damaged"

    def _add_plain(self, file: _File) -> None:
        """Add a symbolic link, or a device."""
        assert self._archive is not None
        outcome = file.outcome
        entry, target = outcome.entry, outcome.link or b""
        if entry.type == FileType.LINK and self._job.symlinks == "text":
            entry = entry._replace(
                type=FileType.FILE, mode=stat.S_IFREG | 0o644, size=len(target), blocks=0
            )
            self._archive.begin_file(outcome.target, entry, {}, len(target))
            self._archive.write(target)
            self._archive.end_file()
        else:
            self._archive.add(outcome.target, entry, file.xattrs, target)

    def _add_hard_link(self, file: _File) -> None:
        outcome = file.outcome
        first, rule = self._targets.get(file.first, (b"", ""))
        if rule:
            outcome.result, outcome.rule = "skipped", rule
        elif not first:
            _fail(outcome, "copy.first-link")
        elif self._archive is not None and not self._archive.links:
            _fail(outcome, "copy.no-links")
        else:
            outcome.same_as = first
            if self._archive is not None and not file.flags & PLAN:
                self._archive.add_hard_link(outcome.target, outcome.entry, first)

    # ---- Content

    def _content(self) -> _Content | None:
        """Where bytes that come belong; None: nowhere."""
        file = self._file
        assert file is not None
        if self._current().result != "copied" or self._archive is None:
            return None
        if file.content is None:
            self._keep_xattrs(file.outcome, file.xattrs)
            entry = file.outcome.entry
            # What takes the space of its size has no holes worth keeping.
            dense = entry.mask & MASK_BLOCKS and entry.blocks * 512 >= entry.size
            file.content = self._new_content(file.outcome, file.xattrs, spooled=not dense)
        return file.content

    def _new_content(
        self, outcome: Outcome, xattrs: dict[bytes, bytes], *, spooled: bool
    ) -> _Content:
        assert self._archive is not None
        spool = self._spool if spooled else None
        if spool is not None:
            spool.clear()
        content = _Content(self._archive, outcome, xattrs, spool)
        if self._job.digests:
            content.digest(self._job.digests)
        return content

    def _take_data(self, event: Event) -> None:
        assert event.data is not None
        if content := self._content():
            self._give(content, content.write, event.data)

    def _take_hole(self, event: Event) -> None:
        if content := self._content():
            self._give(content, content.skip, event.length)

    def _take_bad(self, event: Event) -> None:
        if content := self._content():
            self._give(content, content.lose, event.length)
            self._note_unreadable(event.error)

    def _take_extent(self, event: Event) -> None:
        at, end = event.position, event.position + event.length
        while at < end and (content := self._content()):
            self._check()
            try:
                data = os.pread(event.file, min(PIECE, end - at), at)
            except OSError:
                data = b""
            if not data:
                self._give(content, content.lose, end - at)
                self._note_unreadable(_EIO)
                return
            self._give(content, content.write, data)
            at += len(data)

    def _give(self, content: _Content, take: Callable[[T], None], what: T) -> None:
        """Give content something; what has too many holes fails, and the rest of it is dropped."""
        try:
            take(what)
        except ExplorerError as error:
            if error.code != "copy.pieces":
                raise
            # Nothing of it is in the archive yet.
            content.close()
            _fail(self._current(), error.code)

    def _current(self) -> Outcome:
        """Of what the content that comes belongs to."""
        assert self._file is not None
        return (self._file.streams or [self._file.outcome])[-1]

    def _note_unreadable(self, number: int) -> None:
        outcome = self._current()
        if outcome.error is None:
            outcome.error = kernel_error(number, Operation.READ, outcome.path)

    def _end_main(self, file: _File) -> None:
        """End the content of a file itself, when no more of it comes."""
        if file.ended or file.is_folder:
            return
        file.ended = True
        outcome = file.outcome
        content = self._content()
        if content is None:
            return
        left = outcome.entry.size - content.position
        if left and not content.position:
            # Nothing of it came, and nothing of it is in the archive.
            outcome.result = "failed"
            return
        self._give(content, content.lose, left)
        file.content = None
        if outcome.result == "copied":
            content.end()

    def _end_stream(self, file: _File) -> None:
        """End the named stream that comes now, if one does."""
        if not file.streams:
            return
        outcome = file.streams[-1]
        content, file.content = file.content, None
        if content is not None and outcome.result == "copied":
            outcome.entry = outcome.entry._replace(size=content.position)
            content.end()
        if outcome.error is not None and outcome.result == "copied":
            outcome.result = "damaged"

    def _begin_stream(self, event: Event) -> None:
        file = self._file
        if file is None:
            # Of the directory entered last.
            self._add_folder()
            file = self._file = _File(self._folders[-1].outcome, 0, 0, 0, is_folder=True)
        self._end_main(file)
        self._end_stream(file)
        whole = file.outcome
        path = whole.path + b":" + event.name
        outcome = Outcome(path if len(path) < PATH_LIMIT else whole.path, whole.entry)
        outcome.is_stream = True
        outcome.result, outcome.rule, outcome.error = whole.result, whole.rule, whole.error
        file.streams.append(outcome)
        if whole.result != "copied" or self._archive is None:
            return
        # It stands beside what it is a stream of.
        parent = self._folders[-2 if file.is_folder else -1]
        outcome.target = self._target(parent, whole.entry.name + b":" + event.name)
        # How large it is turns out only at its end.
        outcome.entry = whole.entry._replace(size=_UNKNOWN_SIZE, links=1)
        file.content = self._new_content(outcome, {}, spooled=True)

    def _finish(self, event: Event) -> None:
        self.error = event.error


def _iter_xattrs(data: memoryview) -> Iterator[tuple[bytes, bytes]]:
    """Names and values of records that the stream found sound."""
    at = 0
    while at < len(data):
        name, value = _XATTR.unpack_from(data, at)
        start = at + _XATTR.size
        yield bytes(data[start : start + name]), bytes(data[start + name : start + name + value])
        at += (_XATTR.size + name + value + 7) & ~7


def _fail(outcome: Outcome, code: str) -> None:
    outcome.result = "failed"
    outcome.error = ExplorerError(code, path=show_path(outcome.path))
