# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a confined process asks its keeper, and what it is told: the messages, and how they travel.

One wish at a time, each answered by one message; descriptors go with an answer. Fields are carried
and checked as those of the wire (:mod:`explorer.wire.fields`). The keeper believes nothing of a
wish; the confined process believes its keeper.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from struct import Struct
from typing import Annotated

from explorer.core.errors import ExplorerError, RecordError
from explorer.wire.fields import from_fields, to_fields
from explorer.wire.limits import AtMost, Between, Count, HostPath, Line

HEADER = Struct("<BII")
"""Number of the message's class, bytes of its fields, bytes of its payload."""
WISH_LIMIT = 1 << 18
"""Bytes of a wish's fields; none has a payload."""
DESCRIPTORS_MOST = 2
"""With one answer."""
NUMBER_LIMIT = 1 << 20

_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_KIND = re.compile(r"[a-z0-9 -]{1,64}")


def check_module(name: str) -> None:
    """A module's name; raises :exc:`ValueError` for another."""
    if len(name) > 255 or not _MODULE.fullmatch(name):
        raise ValueError("not a module's name")


def check_kind(kind: str) -> None:
    """What a record is made of; raises :exc:`ValueError` for what cannot be."""
    if not _KIND.fullmatch(kind):
        raise ValueError("not a record's kind")


Number = Annotated[int, Between(0, NUMBER_LIMIT - 1)]
"""The keeper's own, of a folder or a file that it has given out."""
FileName = Annotated[bytes, AtMost(4096)]
"""As an image has it: anything at all."""
ModuleName = Annotated[str, check_module]
RecordKind = Annotated[str, check_kind]
Paths = Annotated[tuple[HostPath, ...], AtMost(4096)]

# ---- Wishes


@dataclass(frozen=True, slots=True)
class NameSources:
    """These are the files that the user wants read, and the folders that he allowed.

    The keeper heeds it until it has given out a file: up to then no image can have a word in it.
    """

    paths: Paths
    allowed: Paths


@dataclass(frozen=True, slots=True)
class OpenSource:
    """Open the file of that number among those named: :class:`FileOpened`, :class:`UrlOpened`."""

    number: Number


@dataclass(frozen=True, slots=True)
class OpenNamed:
    """Open a file that an image names, as :meth:`explorer.images.files.Folder.open`."""

    folder: Number
    name: FileName
    role: Line
    owner: Line


@dataclass(frozen=True, slots=True)
class ListNames:
    """The names in a folder, or in those that the user allowed besides."""

    folder: Number
    allowed: bool


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """What was kept of a file: :class:`Given`, with a descriptor if there is something."""

    file: Number
    kind: RecordKind


@dataclass(frozen=True, slots=True)
class BeginRecord:
    """A place to write what is to be kept of a file: :class:`Given` with a descriptor."""

    file: Number
    kind: RecordKind


@dataclass(frozen=True, slots=True)
class EndRecord:
    """What was begun last is written, and is to be kept."""


@dataclass(frozen=True, slots=True)
class OpenScratch:
    """A file without a name, for what is costly to decode twice: :class:`ScratchOpened`."""


@dataclass(frozen=True, slots=True)
class FindModule:
    """A module of the program's own installation: :class:`ModuleFound`."""

    name: ModuleName


@dataclass(frozen=True, slots=True)
class AskState:
    """What is at a path of the program's own installation: :class:`StateFound`."""

    path: HostPath


@dataclass(frozen=True, slots=True)
class AskPassphrase:
    """Ask the person at the terminal: :class:`PassphraseGiven`."""

    what: Line
    wrong: Annotated[int, Between(0, 1000)]


# ---- Answers


@dataclass(frozen=True, slots=True)
class Refused:
    """Why not."""

    error: ExplorerError


@dataclass(frozen=True, slots=True)
class Given:
    """It was done; with a descriptor, if there is one to give."""


@dataclass(frozen=True, slots=True)
class FileOpened:
    """A file of the host, with its descriptor."""

    file: Number
    path: Line
    size: Count
    block_size: Count
    folder: Number
    name: bytes
    """The file's own, in its folder."""


@dataclass(frozen=True, slots=True)
class UrlOpened:
    """A file of a server, with the ends of the pipes to the process that fetches it."""

    identity: str
    shown: Line
    folder: Number
    name: bytes


@dataclass(frozen=True, slots=True)
class Names:
    """Of files."""

    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ScratchOpened:
    """A file to write to, with its descriptor; up to ``room`` bytes."""

    room: Count


@dataclass(frozen=True, slots=True)
class ModuleFound:
    """A module: its code by :mod:`marshal` in the payload, or where the library lies that it is.

    There is none of that name when neither is there.
    """

    origin: str
    library: bool
    package: bool
    folders: tuple[str, ...]
    """Of a package."""
    payload: bytes


@dataclass(frozen=True, slots=True)
class StateFound:
    """``st_mode`` and ``st_size``; a mode of 0: there is nothing that a wish may ask about."""

    mode: int
    size: int


@dataclass(frozen=True, slots=True)
class PassphraseGiven:
    """What was typed; nothing, when there is nobody to ask."""

    given: bool
    payload: bytes


Wish = (
    NameSources
    | OpenSource
    | OpenNamed
    | ListNames
    | LoadRecord
    | BeginRecord
    | EndRecord
    | OpenScratch
    | FindModule
    | AskState
    | AskPassphrase
)
Answer = (
    Refused
    | Given
    | FileOpened
    | UrlOpened
    | Names
    | ScratchOpened
    | ModuleFound
    | StateFound
    | PassphraseGiven
)

WISHES: dict[int, type[Wish]] = dict(enumerate(Wish.__args__, 1))
ANSWERS: dict[int, type[Answer]] = dict(enumerate(Answer.__args__, 1))
_NUMBERS = {kind: number for table in (WISHES, ANSWERS) for number, kind in table.items()}

# ---- How they travel


def encode(message: Wish | Answer) -> bytes:
    """A message as it travels; raises :exc:`RecordError` when the other end would refuse it."""
    fields, payload = to_fields(message)
    return HEADER.pack(_NUMBERS[type(message)], len(fields), len(payload)) + fields + payload


def decode_wish(buffer: bytearray) -> Wish | None:
    """Takes the next wish out of what has come, None until it is whole.

    Raises :exc:`RecordError` when it is none.
    """
    if len(buffer) < HEADER.size:
        return None
    number, size, payload = HEADER.unpack_from(buffer)
    kind = WISHES.get(number)
    if kind is None or size > WISH_LIMIT or payload:
        raise RecordError("record.frame", reason="no wish begins there")
    end = HEADER.size + size
    if len(buffer) < end:
        return None
    fields = bytes(buffer[HEADER.size : end])
    del buffer[:end]
    return from_fields(kind, fields, b"")


def receive_answer(source: socket.socket) -> tuple[Answer, list[int]]:
    """Waits for an answer and its descriptors; raises :exc:`EOFError` when the keeper has ended."""
    descriptors: list[int] = []
    head = b""
    try:
        while len(head) < HEADER.size:
            # They come with the first byte, and never with the bytes of another answer.
            data, more, _flags, _address = socket.recv_fds(
                source, HEADER.size - len(head), DESCRIPTORS_MOST
            )
            descriptors += more
            if not data:
                raise EOFError
            head += data
        number, size, payload_size = HEADER.unpack(head)
        body = _receive(source, size + payload_size)
        answer = from_fields(ANSWERS[number], bytes(body[:size]), bytes(body[size:]))
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return answer, descriptors


def _receive(source: socket.socket, size: int) -> bytearray:
    body = bytearray(size)
    view = memoryview(body)
    while view:
        count = source.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return body
