# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes over the wire, as something to be changed: an example of every message."""

from __future__ import annotations

import types
import typing
from contextlib import suppress
from dataclasses import fields
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

from explorer.core.entries import ENTRY_HEAD, Entry, FileType
from explorer.core.errors import ExplorerError, KernelError, RecordError, VolumeError
from explorer.core.volume import Volume
from explorer.wire.evidence import Matches, SearchContents
from explorer.wire.frames import encode
from explorer.wire.limits import OneOf
from explorer.wire.messages import (
    MESSAGES,
    PARTS,
    REPLIES,
    Entries,
    EntryRead,
    Failed,
    Message,
    XattrsRead,
)
from tests.fuzz.seed import Seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from explorer.wire.messages import Request

ENTRY = Entry(
    b"a", FileType.FILE, 0, 0, 0, 0, 0xFFF, 0o100644, 1, 2, 1, 4096, 12, 5, 8, 0, 8, 1, 0, 0,
    1_000_000_001, 2, -3, None,
)  # fmt: skip

_VALUES: dict[object, tuple[object, ...]] = {
    bytes: (b"/a", b"a"),
    str: ("a",),
    int: (1, 0),
    bool: (True,),
    Entry: (ENTRY,),
    Volume: (Volume(1, 0, 4096, "ext4", "ext4", "label", "", mountable=True),),
    ExplorerError: (VolumeError("volume.missing", wanted="a", list=["b"]),),
}


def _record(name: bytes) -> bytes:
    size = ENTRY_HEAD.size + len(name) + 1
    size += -size % 8
    head = ENTRY_HEAD.pack(size, len(name), FileType.FILE, *[0] * 28)
    return (head + name).ljust(size, b"\0")


def values_of(hint: object) -> tuple[object, ...]:
    """Some values for a field, of which one at least keeps the rules of its type."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        words = [tuple(sorted(rule.words)) for rule in parts[1:] if isinstance(rule, OneOf)]
        return words[0] if words else values_of(parts[0])
    if origin is tuple:
        return *((value,) for value in values_of(parts[0])), ()
    if origin in (types.UnionType, typing.Union):
        return *(
            value for part in parts if part is not type(None) for value in values_of(part)
        ), None
    return _VALUES.get(hint, ())


_EXAMPLES: dict[type[Message], Message] = {
    Entries: Entries(_record(b"a") + _record(b"name")),
    EntryRead: EntryRead(b"/a", ENTRY),
    XattrsRead: XattrsRead.of({b"user.a": b"value", b"user.b": b""}),
    SearchContents: SearchContents(1, b"/a", literal=b"a"),
    Matches: Matches(b"/a", (1,), (1,), ("",), (0, 1, 0), b"a"),
}
"""Of classes whose fields must fit one another."""


def examples(kind: type[Message]) -> Iterator[Message]:
    """A message of a class, as the wire takes it."""
    if kind in _EXAMPLES:
        yield _EXAMPLES[kind]
        return
    hints = typing.get_type_hints(kind, include_extras=True)
    choices = [values_of(hints[field.name]) for field in fields(kind) if field.init]
    make: Callable[..., Message] = kind
    for values in product(*choices):
        with suppress(RecordError):
            encode(1, make(*values))
            yield make(*values)
            return


def make_streams(_folder: Path) -> Iterator[Seed]:
    """Every message alone, and some in a row."""
    frames = [
        b"".join(encode(request, message))
        for kind in MESSAGES.values()
        for request, message in enumerate(examples(kind), 1)
    ]
    for frame in frames:
        yield Seed(frame)
    yield Seed(b"".join(frames[:6]))


@cache
def requests() -> tuple[Request, ...]:
    """One of each, to be asked in this order: the first has number 1."""
    return tuple(next(examples(kind)) for kind in REPLIES)  # type: ignore[misc]


def make_answers(_folder: Path) -> Iterator[Seed]:
    """Answers to the requests that are under way: the parts, and the ends."""
    error = KernelError(errno=5, name="EIO", call="openat", reason="x", path="/a", log=["b"])
    for number, request in enumerate(requests(), 1):
        kinds = (*PARTS.get(type(request), ()), REPLIES[type(request)])
        answers = [answer for kind in kinds for answer in examples(kind)]
        for messages in (answers, [Failed(error)], [Failed(ExplorerError("x", a=[], b=None))]):
            yield Seed(b"".join(b"".join(encode(number, message)) for message in messages))


MAKERS: dict[str, Callable[[Path], Iterator[Seed]]] = {
    "wire": make_streams,
    "wire-answers": make_answers,
}
"""By the name of the target."""
