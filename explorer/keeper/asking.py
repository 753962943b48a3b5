# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The confined process's side: files of the host, had by asking the keeper."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Lock
from typing import IO, TYPE_CHECKING, TypeVar

from explorer.core.errors import ExplorerError, SourceError, host_path
from explorer.images.access import Access
from explorer.images.files import Folder, HostFile, SourceFile, missing_part
from explorer.images.records import RECORD_LIMIT
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
    ModuleFound,
    Names,
    NameSources,
    OpenNamed,
    OpenScratch,
    OpenSource,
    PassphraseGiven,
    Refused,
    ScratchOpened,
    StateFound,
    UrlOpened,
    encode,
    receive_answer,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from explorer.keeper.wishes import Answer, Wish

_Kind = TypeVar("_Kind")


class Asker:
    """The way to the keeper; from any thread, one wish at a time."""

    def __init__(self, way: socket.socket) -> None:
        self._way = way
        self._lock = Lock()

    def ask(self, wish: Wish) -> tuple[Answer, list[int]]:
        """An answer and its descriptors, which are then the caller's; raises what it tells."""
        with self._lock:
            try:
                self._way.sendall(encode(wish))
                answer, descriptors = receive_answer(self._way)
            except (OSError, EOFError) as error:
                raise ExplorerError("keeper.gone") from error
        if isinstance(answer, Refused):
            raise answer.error
        return answer, descriptors

    def ask_plain(self, wish: Wish, kind: type[_Kind]) -> _Kind:
        """An answer that brings no descriptor."""
        answer, _none = self.ask(wish)
        assert isinstance(answer, kind)
        return answer

    def ask_one(self, wish: Wish) -> int | None:
        """The descriptor that comes with an answer."""
        _answer, descriptors = self.ask(wish)
        return descriptors[0] if descriptors else None

    def find_module(self, name: str) -> ModuleFound:
        """A module of the program's installation."""
        return self.ask_plain(FindModule(name), ModuleFound)

    def ask_state(self, path: bytes) -> StateFound:
        """What is at a path of the program's installation."""
        if not path or len(path) > 4096:
            return StateFound(0, 0)
        return self.ask_plain(AskState(path), StateFound)

    def ask_passphrase(self, what: str, wrong: int) -> bytes | None:
        """What the person at the terminal types; None when there is none, or nothing."""
        answer = self.ask_plain(AskPassphrase(what, wrong), PassphraseGiven)
        return answer.payload if answer.given else None


class _KeptFolder(Folder):
    """A folder that the keeper knows."""

    def __init__(self, asker: Asker, number: int) -> None:
        self._asker = asker
        self._number = number

    def open(self, name: bytes, role: str, owner: str) -> tuple[SourceFile, Folder]:
        """Open a file as an image names it."""
        answer, descriptors = self._asker.ask(OpenNamed(self._number, name, role, owner))
        try:
            return _take(self._asker, answer, descriptors)
        except SourceError as error:
            raise missing_part(error, name, role, owner) from None

    def names(self) -> list[bytes]:
        """All names in it."""
        return self._names(allowed=False)

    def allowed_names(self) -> list[bytes]:
        """Absolute names of all that is in the allowed folders."""
        return self._names(allowed=True)

    def _names(self, *, allowed: bool) -> list[bytes]:
        return list(self._asker.ask_plain(ListNames(self._number, allowed), Names).names)


class _KeptFile(HostFile):
    """A file that the keeper has opened."""

    number = -1
    """The keeper's."""


def _take(
    asker: Asker, answer: Answer, descriptors: Sequence[int]
) -> tuple[SourceFile, _KeptFolder]:
    if isinstance(answer, UrlOpened):
        from explorer.images.remote import RemoteFile

        requests, answers = (
            os.fdopen(end, mode) for end, mode in zip(descriptors, ("wb", "rb"), strict=True)
        )
        remote = RemoteFile(requests, answers, answer.shown, answer.identity)
        return remote, _KeptFolder(asker, answer.folder)
    assert isinstance(answer, FileOpened)
    (descriptor,) = descriptors
    file = _KeptFile.adopt(descriptor, answer.path, answer.size, answer.block_size)
    file.number = answer.file
    return file, _KeptFolder(asker, answer.folder)


class KeptAccess(Access):
    """The host's files, by way of the keeper."""

    def __init__(self, asker: Asker, paths: Sequence[bytes] = ()) -> None:
        """``paths`` are the sources that the keeper knows already."""
        self._asker = asker
        self._paths = list(paths)

    def name_sources(self, paths: Sequence[bytes], allowed: Sequence[bytes]) -> None:
        """Tell the keeper, who heeds it until the first is opened."""
        self._asker.ask_plain(NameSources(tuple(paths), tuple(allowed)), Given)
        self._paths = list(paths)

    def open_source(
        self, path: bytes, _allowed: Sequence[bytes], _cache_folder: Path | None
    ) -> tuple[SourceFile, Folder, bytes]:
        """One of those that were named."""
        if path not in self._paths:
            raise SourceError("source.rights", path=host_path(path), reason="it was not named")
        answer, descriptors = self._asker.ask(OpenSource(self._paths.index(path)))
        file, folder = _take(self._asker, answer, descriptors)
        assert isinstance(answer, (FileOpened, UrlOpened))
        return file, folder, answer.name

    def load_record(self, file: SourceFile, kind: str, _cache_folder: Path) -> bytes | None:
        """What was kept of a file."""
        if not isinstance(file, _KeptFile):
            return None
        descriptor = self._asker.ask_one(LoadRecord(file.number, kind))
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb") as record:
            return record.read(RECORD_LIMIT)

    def store_record(self, file: SourceFile, kind: str, record: bytes, _cache_folder: Path) -> None:
        """Keep something of a file."""
        if not isinstance(file, _KeptFile):
            return
        with suppress(OSError, SourceError):
            descriptor = self._asker.ask_one(BeginRecord(file.number, kind))
            if descriptor is None:
                return
            with os.fdopen(descriptor, "wb") as target:
                target.write(record)
            self._asker.ask_plain(EndRecord(), Given)

    def open_scratch(self, _cache_folder: Path) -> tuple[IO[bytes], int]:
        """A file without a name."""
        try:
            answer, descriptors = self._asker.ask(OpenScratch())
        except SourceError as error:
            raise OSError(str(error)) from error
        assert isinstance(answer, ScratchOpened)
        return os.fdopen(descriptors[0], "w+b"), answer.room
