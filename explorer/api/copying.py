# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A copy out of a source: an engine that sends, a writer that writes, and what came of it.

Neither believes the other, and this process touches no content: it starts the writer, hands the
engine the other end of its socket, and adds up what the two tell.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from explorer.api.connection import Connection, Pending
from explorer.core.origins import Origins, name_tops
from explorer.host.processes import own_command
from explorer.wire.ends import copy_loss
from explorer.wire.messages import Failed, Pack
from explorer.wire.writing import (
    AnswerConflict,
    Conflict,
    EntriesFailed,
    NamesMapped,
    Write,
    WriteProgress,
    Written,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from explorer.api.connection import Inbox
    from explorer.api.source import Source
    from explorer.core.errors import ExplorerError

    Ask = Callable[[Conflict], tuple[str, bool]]
    """Given what is in the way: the decision, and whether it is for all that follow."""
    TellProgress = Callable[[WriteProgress], None]
    TellFailure = Callable[["Failure"], None]


class Failure(NamedTuple):
    """An entry that could not be copied, or not whole."""

    path: bytes
    """From the destination, with the source's own names."""
    origin: bytes
    """In the volume; empty where that is not known."""
    error: ExplorerError
    damaged: bool
    """Whether it is there all the same."""


@dataclass
class Copied:
    """What came of a copy."""

    written: Written
    """The accounts."""
    failures: list[Failure] = field(default_factory=list)
    mapped: dict[bytes, bytes] = field(default_factory=dict)
    """Names that are others on the host, by path."""
    lost: ExplorerError | None = None
    """What ended the sending early; the copy can be gone on with."""

    @property
    def whole(self) -> bool:
        """Whether all that was asked for is at the destination, or was skipped by a rule."""
        return self.written.complete and not (self.written.failed or self.written.damaged)


class _Listener:
    """Takes what the writer tells on the way."""

    def __init__(
        self,
        write: Write,
        ask: Ask | None,
        progress: TellProgress | None,
        failed: TellFailure | None,
    ) -> None:
        self._origins = Origins(write.origins, write.tops)
        self._ask = ask
        self._progress = progress
        self._failed = failed
        self.failures: list[Failure] = []
        self.mapped: dict[bytes, bytes] = {}
        self.job: Pending | None = None

    def take(self, part: WriteProgress | EntriesFailed | NamesMapped | Conflict) -> None:
        match part:
            case WriteProgress():
                if self._progress is not None:
                    self._progress(part)
            case EntriesFailed(paths, errors, damaged):
                new = [
                    Failure(path, self._origins.find(path), error, lost)
                    for path, error, lost in zip(paths, errors, damaged, strict=True)
                ]
                self.failures += new
                if self._failed is not None:
                    for failure in new:
                        self._failed(failure)
            case NamesMapped(paths, names):
                self.mapped |= dict(zip(paths, names, strict=True))
            case Conflict():
                assert self.job is not None
                # Without anybody to ask, what exists is left alone.
                decision, for_all = self._ask(part) if self._ask is not None else ("skip", True)
                answer = AnswerConflict(self.job.number, part.question, decision, for_all)
                self.job.connection.send(0, answer)


def copy(
    source: Source,
    pack: Pack,
    write: Write,
    output: int | None = None,
    *,
    ask: Ask | None = None,
    progress: TellProgress | None = None,
    failed: TellFailure | None = None,
) -> Copied:
    """Have a source's engine send what ``pack`` says to a new writer that does what ``write`` says.

    ``output`` is a descriptor for a writer that writes to none of its own. What is raised by the
    functions given, and Ctrl-C, ends both and is let through. Raises :exc:`EngineLost` when the
    writer ends, and what it could not begin for.
    """
    engine = source.engine
    origins, tops = name_tops(pack.paths, pack.name, contents=pack.contents)
    write = replace(write, origins=origins, tops=tops)
    listener = _Listener(write, ask, progress, failed)
    with ExitStack() as opened:
        ours, theirs = socket.socketpair()
        opened.callback(ours.close)
        opened.callback(theirs.close)
        inherited = [theirs.fileno()]
        argv = [*own_command("writer"), "--stream", str(theirs.fileno())]
        if output is not None:
            # Under another number: 0, 1 and 2 are the writer's own.
            copied = os.dup(output)
            opened.callback(os.close, copied)
            inherited.append(copied)
            argv += ["--output", str(copied)]
        writer = opened.enter_context(Connection(engine.inbox, argv, inherited))
        listener.job = writing = writer.begin(write, listener.take)
        sending = engine.begin(pack)
        # Of an engine that is no more, the request tells.
        with suppress(OSError):
            source.giver.give(sending.number, ours.fileno())
        # The last end of each must be theirs, or neither would notice the other's end.
        ours.close()
        theirs.close()
        try:
            _wait(engine.inbox, sending, writing)
        finally:
            sending.cancel()
        engine.inbox.wait(sending)
    return _result(listener, sending, writing)


def _wait(inbox: Inbox, sending: Pending, writing: Pending) -> None:
    """Wait for the end of the writing."""
    while writing.end is None and not isinstance(sending.end, Failed):
        inbox.pump()
    # An engine that fails may not have come as far as to show the writer that nothing follows.
    writing.cancel()
    inbox.wait(writing)


def _result(listener: _Listener, sending: Pending, writing: Pending) -> Copied:
    lost = sending.end.error if isinstance(sending.end, Failed) else None
    if isinstance(writing.end, Failed):
        raise copy_loss(lost, writing.end.error)
    assert isinstance(writing.end, Written)
    copied = Copied(writing.end, listener.failures, listener.mapped)
    if writing.end.ended is not None:
        copied.lost = copy_loss(lost, writing.end.ended)
    return copied
