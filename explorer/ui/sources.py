# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The sources that are open, and what becomes of their engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from explorer.client.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from explorer.core.errors import ExplorerError
    from explorer.wire.messages import OpenSource, SourceOpened


class Sources(QObject):
    """A session for each source, from opening it to closing it."""

    opened = Signal(object, object)
    """A :class:`Session` and its :class:`SourceOpened`; again when its engine was restarted."""
    refused = Signal(object, object)
    """A :class:`Session` and the error why it never opened; it is closed already."""
    failed = Signal(object, object)
    """A :class:`Session` and the error why it cannot be asked now; ``session.open()`` may help."""

    def __init__(self, engine_command: Sequence[str] = (), parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._engine_command = engine_command
        self._sessions: list[Session] = []

    def __len__(self) -> int:
        return len(self._sessions)

    def __bool__(self) -> bool:
        return bool(self._sessions)

    def add(self, wanted: OpenSource) -> Session:
        """A session for images or devices of the host; its ``open()`` is the caller's."""
        session = Session(wanted, self, self._engine_command)

        def take_source(source: SourceOpened) -> None:
            self.opened.emit(session, source)

        def take_failure(error: ExplorerError) -> None:
            # A source that never opened leaves; one that did stays, to be tried again.
            if session.source is None:
                self.close(session)
                self.refused.emit(session, error)
            else:
                self.failed.emit(session, error)

        session.opened.connect(take_source)
        session.failed.connect(take_failure)
        session.lost.connect(take_failure)
        self._sessions.append(session)
        return session

    def close(self, session: Session) -> None:
        """Closes a source and ends its engine, without waiting for it."""
        self._sessions.remove(session)
        session.close()

    def close_all(self) -> None:
        """Closes all, and waits for their engines to end."""
        for session in self._sessions:
            session.close()
        # Those closed before, too: their engines may still be about to end.
        for session in self.findChildren(Session):
            session.wait_closed()
