# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A source the user opened, through however many engines it takes."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from PySide6.QtCore import QObject, Signal

from explorer.client.engine import Call, Engine
from explorer.core.errors import VolumeError
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.host.handover import Giver
from explorer.host.processes import own_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from explorer.client.engine import TakeFailure, TakePart, TakeReply
    from explorer.core.errors import EngineLost, ExplorerError
    from explorer.core.volume import Volume
    from explorer.wire.messages import OpenSource, Request, SourceOpened, VolumesFound


class State(Enum):
    """What can be done with a session."""

    OPENING = "opening"
    OPEN = "open"
    FAILED = "failed"
    """The source cannot be opened; :meth:`Session.open` tries again."""
    LOST = "lost"
    """The engine ended; :meth:`Session.open` starts another."""
    CLOSED = "closed"


class Mark(NamedTuple):
    """What is kept against a volume that was read when an engine came to its end."""

    engines: int
    """How many have ended so."""
    reason: str
    """How the last one ended, to show."""
    blocked: bool
    """Whether nothing is asked about the volume until :meth:`Session.try_again`."""


class Session(QObject):
    """One source and the engine that reads it now.

    An image may end every engine that reads it. So an engine is started again only by whoever calls
    :meth:`open`, and the volumes that it was at when it ended are marked: whatever is asked about
    one of these fails (``volume.marked``), until the user wants it tried again.
    """

    opened = Signal(object)
    """A :class:`SourceOpened`; again after every restart."""
    failed = Signal(object)
    """The :class:`ExplorerError` why the source could not be opened."""
    lost = Signal(object)
    """The :class:`EngineLost` of an engine that ended after the source was open."""

    def __init__(
        self, wanted: OpenSource, parent: QObject | None = None, command: Sequence[str] = ()
    ) -> None:
        super().__init__(parent)
        self.wanted = wanted
        """What :meth:`open` asks for; whoever changes it opens again."""
        self.state = State.CLOSED
        self.source: SourceOpened | None = None
        self._command = command
        self._engine: Engine | None = None
        self._giver: Giver | None = None
        self._left: list[Engine] = []
        self._marks: dict[tuple[str, str, int], Mark] = {}

    @property
    def path(self) -> bytes:
        """Of the host: the first file or disk of the source."""
        return self.wanted.paths[0]

    @property
    def name(self) -> str:
        """The source's file name, to show."""
        path = os.fsencode(self.wanted.inside[-1]) if self.wanted.inside else self.path
        return show_name(os.path.basename(path) or path)  # noqa: PTH119 - bytes

    def open(self, passphrases: tuple[bytes, ...] = ()) -> None:
        """Starts an engine and opens the source with it; ``opened`` or ``failed`` follows.

        ``passphrases`` are for what is encrypted on the way; they are not kept.
        """
        self._leave_engine()
        self.state = State.OPENING
        self._giver = Giver()
        argv = [*(self._command or own_command("engine")), "--hand-over", str(self._giver.other)]
        self._engine = Engine(self, argv, inherited=[self._giver.other])
        self._engine.lost.connect(self._take_loss)
        self._engine.start()
        self._giver.close_other()
        request = replace(self.wanted, passphrases=passphrases)
        self._engine.request(request, self._take_source, self._take_failure)

    def request(
        self,
        message: Request,
        done: TakeReply,
        failed: TakeFailure | None = None,
        part: TakePart | None = None,
    ) -> Call:
        """Asks the engine, as :meth:`Engine.request`; only after :meth:`open`."""
        assert self._engine is not None
        volume = self.volume(getattr(message, "volume", None))
        mark = self.mark(volume) if self.state is State.OPEN else None
        if volume is not None and mark is not None and mark.blocked:
            name = volume.label or volume.name or str(volume.number)
            error = VolumeError("volume.marked", volume=name, reason=mark.reason)
            return self._engine.refuse(message, failed, error)
        return self._engine.request(message, done, failed, part)

    def hand_over(self, call: Call, descriptor: int) -> None:
        """Gives the engine a copy of a descriptor that a request just made needs."""
        assert self._giver is not None
        # Of an engine that is no more, the request tells.
        with suppress(OSError):
            self._giver.give(call.number, descriptor)

    def volume(self, number: int | None) -> Volume | None:
        """A volume of the source by its number, as far as it is known."""
        volumes = self.source.volumes if self.source else ()
        return next((volume for volume in volumes if volume.number == number), None)

    def mark(self, volume: Volume | None) -> Mark | None:
        """What is kept against a volume, if anything is."""
        return None if volume is None else self._marks.get(_key(volume))

    def try_again(self, volume: Volume) -> None:
        """Lets a marked volume be asked about again; its mark stays."""
        mark = self.mark(volume)
        if mark is not None:
            self._marks[_key(volume)] = mark._replace(blocked=False)

    def take_volumes(self, found: VolumesFound) -> None:
        """Keeps what the engine has found since the source was opened."""
        assert self.source is not None
        self.source = replace(self.source, volumes=found.volumes)

    def close(self) -> None:
        """Ends the engine without waiting for it."""
        self.state = State.CLOSED
        if self._engine is not None:
            self._engine.stop()
        if self._giver is not None:
            self._giver.close()

    def wait_closed(self) -> None:
        """Waits for the end of its engines; only for when no window is left to block."""
        for engine in (*self._left, self._engine):
            if engine is not None:
                engine.wait_stopped()

    @property
    def process_id(self) -> int:
        """Of the engine's process; 0 when there is none."""
        return self._engine.process_id if self._engine else 0

    def _leave_engine(self) -> None:
        if self._engine is not None:
            self._engine.lost.disconnect(self._take_loss)
            self._engine.stop()
            self._left = [engine for engine in self._left if engine.process_id]
            self._left.append(self._engine)
            self._engine = None
        if self._giver is not None:
            self._giver.close()
            self._giver = None

    def _take_source(self, source: SourceOpened) -> None:
        self.source = source
        self.state = State.OPEN
        self.opened.emit(source)

    def _take_failure(self, error: ExplorerError) -> None:
        if self.state is State.OPENING:
            self.state = State.FAILED
            self._leave_engine()
            self.failed.emit(error)

    def _take_loss(self, loss: EngineLost) -> None:
        # While opening, the call's failure has told it already.
        if self.state is State.OPEN:
            self.state = State.LOST
            self._mark_volumes(loss)
            self.lost.emit(loss)

    def _mark_volumes(self, loss: EngineLost) -> None:
        """Marks what the engine was at."""
        assert self._engine is not None
        numbers = {getattr(request, "volume", None) for request in self._engine.unanswered}
        for volume in map(self.volume, numbers):
            if volume is not None:
                before = self.mark(volume)
                engines = 1 if before is None else before.engines + 1
                self._marks[_key(volume)] = Mark(engines, describe(loss), blocked=True)


def _key(volume: Volume) -> tuple[str, str, int]:
    """What is the same of a volume in every engine: numbers are given as volumes are found."""
    return volume.kind, volume.name, volume.start
