# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A source the user opened, through however many engines it takes."""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from explorer.client.engine import Call, Engine
from explorer.core.names import show_name
from explorer.wire.messages import OpenSource, Request, SourceOpened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from explorer.client.engine import TakeFailure, TakePart, TakeReply
    from explorer.core.errors import EngineLost, ExplorerError


class State(Enum):
    """What can be done with a session."""

    OPENING = "opening"
    OPEN = "open"
    FAILED = "failed"
    """The source cannot be opened; :meth:`Session.open` tries again."""
    LOST = "lost"
    """The engine ended; :meth:`Session.open` starts another."""
    CLOSED = "closed"


class Session(QObject):
    """One source and the engine that reads it now."""

    opened = Signal(object)
    """A :class:`SourceOpened`; again after every restart."""
    failed = Signal(object)
    """The :class:`ExplorerError` why the source could not be opened."""
    lost = Signal(object)
    """The :class:`EngineLost` of an engine that ended after the source was open."""

    def __init__(
        self, path: bytes, parent: QObject | None = None, command: Sequence[str] = ()
    ) -> None:
        super().__init__(parent)
        self.path = path
        self.state = State.CLOSED
        self.source: SourceOpened | None = None
        self._command = command
        self._engine: Engine | None = None
        self._left: list[Engine] = []

    @property
    def name(self) -> str:
        """The source's file name, to show."""
        return show_name(os.path.basename(self.path) or self.path)  # noqa: PTH119 - bytes

    def open(self) -> None:
        """Starts an engine and opens the source with it; ``opened`` or ``failed`` follows."""
        self._leave_engine()
        self.state = State.OPENING
        self._engine = Engine(self, self._command)
        self._engine.lost.connect(self._take_loss)
        self._engine.start()
        self._engine.request(OpenSource(self.path), self._take_source, self._take_failure)

    def request(
        self,
        message: Request,
        done: TakeReply,
        failed: TakeFailure | None = None,
        part: TakePart | None = None,
    ) -> Call:
        """Asks the engine, as :meth:`Engine.request`; only after :meth:`open`."""
        assert self._engine is not None
        return self._engine.request(message, done, failed, part)

    def close(self) -> None:
        """Ends the engine without waiting for it."""
        self.state = State.CLOSED
        if self._engine is not None:
            self._engine.stop()

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
            self.lost.emit(loss)
