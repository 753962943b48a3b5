# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the window is, and how it gets elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from explorer.core.entries import FileType
from explorer.models.location import join_path
from explorer.ui.history import History
from explorer.wire.messages import EntryRead, Resolve

if TYPE_CHECKING:
    from explorer.client.session import Session
    from explorer.models.location import Location


class Navigation(QObject):
    """One current location and the ways from it; it shows nothing itself."""

    moved = Signal(object, object)
    """The :class:`Location` to show now, and the name of the entry to make current there: bytes,
    empty for none."""
    failed = Signal(object)
    """The :class:`ExplorerError` why a path leads nowhere; the location stays."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._history = History()

    @property
    def location(self) -> Location | None:
        """What is shown; None while nothing is open."""
        return self._history.current

    @property
    def can_go_back(self) -> bool:
        """Whether there is an earlier location."""
        return self._history.can_go_back

    @property
    def can_go_forward(self) -> bool:
        """Whether there is a later location."""
        return self._history.can_go_forward

    def go(self, location: Location, name: bytes = b"") -> None:
        """Goes to a location, and makes the entry called ``name`` current there."""
        self._history.visit(location)
        self.moved.emit(location, name)

    def show_again(self, name: bytes) -> None:
        """Shows the location as it is now."""
        if self.location is not None:
            self.moved.emit(self.location, name)

    def go_back(self) -> None:
        """Goes to the earlier location, if there is one."""
        if self.can_go_back:
            left = self.location
            there = self._history.back()
            self.moved.emit(there, _name_below(there, left))

    def go_forward(self) -> None:
        """Goes to the later location, if there is one."""
        if self.can_go_forward:
            self.moved.emit(self._history.forward(), b"")

    def go_up(self) -> None:
        """Goes to the folder above, or from a volume to its source."""
        here = self.location
        if here is not None and here.parent is not None:
            self.go(here.parent, here.path.rpartition(b"/")[2])

    def enter_path(self, text: str) -> None:
        """Goes where a path leads that a person typed, from here if it is not absolute."""
        here = self.location
        if here is None or here.volume is None:
            return
        # What was typed is text; a name that is no UTF-8 can be reached by clicking only.
        typed = os.fsencode(text.strip())
        path = typed if typed.startswith(b"/") else join_path(here.path, typed)
        self.follow(here._replace(path=path))

    def follow(self, location: Location) -> None:
        """Goes to the folder that a path leads to through links, or to the file in its folder."""
        assert location.volume is not None

        def take(read: EntryRead) -> None:
            target = location._replace(path=read.path)
            if read.entry.type == FileType.DIRECTORY:
                self.go(target)
            elif target.parent is not None:
                self.go(target.parent, read.entry.name)

        location.session.request(Resolve(location.volume, location.path), take, self.failed.emit)

    def forget(self, session: Session) -> None:
        """Forgets all locations of a source that is closed; shows nothing else yet."""
        self._history.forget(session)


def _name_below(parent: Location, child: Location | None) -> bytes:
    """Name by which a folder shows a place below it, or nothing if it does not."""
    if child is None or child.parent != parent:
        return b""
    return child.path.rpartition(b"/")[2]
