# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a confined process is granted, and what not.

Whoever wishes is taken for an enemy from its first file on: each number may be wrong, each name a
trap. The rules about names are those of :mod:`explorer.images.files`, which do not hold the less
for being asked by an image's reader that has been taken over.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from explorer.core.closing import Closing
from explorer.core.errors import ExplorerError, SourceError
from explorer.core.urls import is_url, url_name
from explorer.images.access import open_scratch
from explorer.images.files import HostFile, HostFolder
from explorer.images.records import RECORD_LIMIT, load_record, record_name, store_record
from explorer.keeper.modules import find_module, read_state
from explorer.keeper.wishes import (
    AskPassphrase,
    AskState,
    BeginRecord,
    EndRecord,
    FileOpened,
    FindModule,
    Given,
    ListNames,
    LoadRecord,
    Names,
    NameSources,
    OpenNamed,
    OpenScratch,
    OpenSource,
    PassphraseGiven,
    Refused,
    ScratchOpened,
    UrlOpened,
    Wish,
)
from explorer.wire.limits import COUNT_LIMIT

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from explorer.images.remote import RemoteFolder
    from explorer.keeper.wishes import Answer

SCRATCH_LIMIT = 17 << 30
"""Bytes of a file for scratch; its writer keeps to 16 GiB."""
NAMES_LIMIT = min(COUNT_LIMIT, 100_000)
"""Names of a folder that are told."""

_OFTEN = 65_536
MOST: dict[type[Wish], int] = {
    NameSources: 64,
    # As many as a process may have files open; looking for a next part that is not there counts.
    OpenSource: _OFTEN,
    OpenNamed: _OFTEN,
    ListNames: 4096,
    LoadRecord: 4096,
    BeginRecord: 4096,
    EndRecord: 4096,
    OpenScratch: 1024,
    FindModule: 8192,
    AskState: 8192,
    AskPassphrase: 256,
}
"""How many wishes of a kind one process may have."""

AskPerson = Callable[[str, int], bytes | None]
"""Given what a passphrase is for and how many were wrong, what the person typed."""


class Abuse(Exception):
    """No wish that a process in order would have; it is ended. Its argument says which."""


@dataclass(slots=True)
class Grant:
    """An answer and what goes with it."""

    answer: Answer
    descriptors: tuple[int, ...] = ()
    """Closed once they are handed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user wants read."""

    paths: tuple[bytes, ...]
    allowed: tuple[bytes, ...]


class Rules(Closing):
    """Grants the wishes of one process. A context manager that ends what it began for it."""

    def __init__(
        self,
        wanted: Wanted | None = None,
        *,
        cache_folder: Path | None = None,
        ask_passphrase: AskPerson | None = None,
    ) -> None:
        """With ``wanted`` None the process itself says what the user wants, before it reads."""
        self._wanted = wanted
        self._fixed = wanted is not None
        self._cache_folder = cache_folder
        self._ask_passphrase = ask_passphrase
        self._folders: list[HostFolder | RemoteFolder] = []
        self._files: list[int] = []
        """A descriptor of each file that was given out; they tell which file a record is of."""
        self._counts: Counter[type[Wish]] = Counter()
        self._fetching: list[subprocess.Popen[bytes]] = []
        self._scratch: list[IO[bytes]] = []
        self._record: tuple[ExitStack, IO[bytes]] | None = None

    # ---- Wishes

    def grant(self, wish: Wish) -> Grant:
        """Answer a wish; raises :exc:`Abuse` for what ends the process that has it."""
        kind = type(wish)
        self._counts[kind] += 1
        if self._counts[kind] > MOST[kind]:
            raise Abuse(f"more than {MOST[kind]} times {kind.__name__}")
        try:
            return self._grant(wish)
        except ExplorerError as error:
            return Grant(Refused(error))
        except OSError as error:
            reason = error.strerror or str(error)
            return Grant(Refused(SourceError("source.unreadable", path="", reason=reason)))

    def _grant(self, wish: Wish) -> Grant:
        match wish:
            case NameSources(paths, allowed):
                return self._name_sources(Wanted(paths=paths, allowed=allowed))
            case OpenSource(number):
                return self._open_source(number)
            case OpenNamed(folder, name, role, owner):
                return self._open_named(self._folder(folder), name, role, owner)
            case ListNames(folder, allowed):
                found = self._folder(folder)
                names = found.allowed_names() if allowed else found.names()
                return Grant(Names(tuple(names[:NAMES_LIMIT])))
            case LoadRecord(file, kind):
                return self._load_record(file, kind)
            case BeginRecord(file, kind):
                return self._begin_record(file, kind)
            case EndRecord():
                self._end_record()
                return Grant(Given())
            case OpenScratch():
                return self._open_scratch()
            case FindModule(name):
                return Grant(find_module(name))
            case AskState(path):
                return Grant(read_state(path))
            case AskPassphrase(what, wrong):
                ask = self._ask_passphrase
                typed = ask(what, wrong) if ask is not None else None
                return Grant(PassphraseGiven(typed is not None, typed or b""))

    # ---- Files

    def _name_sources(self, wanted: Wanted) -> Grant:
        if self._fixed:
            raise Abuse("sources named by who may already be under an image's control")
        self._wanted = wanted
        return Grant(Given())

    def _open_source(self, number: int) -> Grant:
        wanted = self._wanted
        if wanted is None or number >= len(wanted.paths):
            raise Abuse("a source that nobody named")
        # From here on it may be under an image's control.
        self._fixed = True
        path = wanted.paths[number]
        if is_url(path):
            url = os.fsdecode(path)
            return self._fetch(url)
        folder, name = os.path.split(path)
        return self._give(HostFile(path), HostFolder(folder, wanted.allowed), name)

    def _open_named(
        self, folder: HostFolder | RemoteFolder, name: bytes, role: str, owner: str
    ) -> Grant:
        if not isinstance(folder, HostFolder):
            return self._fetch(folder.locate(name, role, owner))
        file, inner = folder.open(name, role, owner)
        return self._give(file, inner, name.rpartition(b"/")[2])

    def _give(self, file: HostFile, folder: HostFolder, name: bytes) -> Grant:
        descriptor = file.descriptor()
        assert descriptor is not None
        # The file's own becomes the one that is kept here.
        self._files.append(descriptor)
        self._folders.append(folder)
        answer = FileOpened(
            len(self._files) - 1,
            file.path,
            file.size,
            file.block_size,
            len(self._folders) - 1,
            name,
        )
        return Grant(answer, (os.dup(descriptor),))

    def _fetch(self, url: str) -> Grant:
        from explorer.images.remote import RemoteFolder, show_url, start_fetching

        process = start_fetching(url, self._cache_folder)
        self._fetching.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        # Only the confined process is to hold the other ends: at its end they end.
        ends = os.dup(process.stdin.fileno()), os.dup(process.stdout.fileno())
        process.stdin.close()
        process.stdout.close()
        self._folders.append(RemoteFolder(url, self._cache_folder))
        # The URL itself may hold a password.
        identity = f"url {len(self._folders)}"
        for number, known in enumerate(self._folders):
            if isinstance(known, RemoteFolder) and known.url == url:
                identity = f"url {number}"
                break
        return Grant(
            UrlOpened(identity, show_url(url), len(self._folders) - 1, url_name(url)), ends
        )

    def _folder(self, number: int) -> HostFolder | RemoteFolder:
        if number >= len(self._folders):
            raise Abuse("a folder that was not given out")
        return self._folders[number]

    # ---- What is kept

    def _record_name(self, number: int, kind: str) -> bytes | None:
        if number >= len(self._files):
            raise Abuse("a record of a file that was not given out")
        return record_name(self._files[number], kind)

    def _load_record(self, number: int, kind: str) -> Grant:
        name = self._record_name(number, kind)
        if name is None or self._cache_folder is None:
            return Grant(Given())
        record = load_record(self._cache_folder, name)
        if record is None:
            return Grant(Given())
        with record:
            return Grant(Given(), (os.dup(record.fileno()),))

    def _begin_record(self, number: int, kind: str) -> Grant:
        self._drop_record()
        name = self._record_name(number, kind)
        if name is None or self._cache_folder is None:
            return Grant(Given())
        with ExitStack() as stack:
            target = stack.enter_context(store_record(self._cache_folder, name))
            self._record = stack.pop_all(), target
        return Grant(Given(), (os.dup(target.fileno()),))

    def _end_record(self) -> None:
        record, self._record = self._record, None
        if record is not None:
            record[0].close()

    def _drop_record(self) -> None:
        record, self._record = self._record, None
        if record is not None:
            with suppress(_Dropped):
                record[0].__exit__(_Dropped, _Dropped(), None)

    def _open_scratch(self) -> Grant:
        if self._cache_folder is None:
            raise SourceError("source.unreadable", path="", reason="nothing is kept")
        file, room = open_scratch(self._cache_folder)
        self._scratch.append(file)
        return Grant(ScratchOpened(room), (os.dup(file.fileno()),))

    # ---- The whole

    def check(self) -> None:
        """Look at what the process has written so far; raises :exc:`Abuse` for too much."""
        for file in self._scratch:
            if os.fstat(file.fileno()).st_size > SCRATCH_LIMIT:
                raise Abuse("a file for scratch beyond its limit")
        if self._record is not None and os.fstat(self._record[1].fileno()).st_size > RECORD_LIMIT:
            raise Abuse("a record beyond its limit")
        # Those that have ended are not waited for by anybody else.
        self._fetching = [one for one in self._fetching if one.poll() is None]

    def close(self) -> None:
        """End what was begun; the process must have ended, or hold no descriptor any more."""
        self._drop_record()
        for file in self._scratch:
            file.close()
        for descriptor in self._files:
            os.close(descriptor)
        self._files.clear()
        self._scratch.clear()
        for process in self._fetching:
            from explorer.images.remote import stop_fetching

            stop_fetching(process)
        self._fetching.clear()


class _Dropped(Exception):
    """A record that was begun and is not to be kept."""
