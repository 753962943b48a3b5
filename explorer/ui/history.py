# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the user was, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from explorer.client.session import Session
    from explorer.models.location import Location


class History:
    """Visited locations and the place among them."""

    def __init__(self) -> None:
        self._visited: list[Location] = []
        self._place = -1

    @property
    def current(self) -> Location | None:
        """The location shown."""
        return self._visited[self._place] if self._visited else None

    @property
    def can_go_back(self) -> bool:
        """Whether there is an earlier one."""
        return self._place > 0

    @property
    def can_go_forward(self) -> bool:
        """Whether there is a later one."""
        return self._place + 1 < len(self._visited)

    def visit(self, location: Location) -> None:
        """Goes to a new location; what was ahead is forgotten."""
        if location != self.current:
            del self._visited[self._place + 1 :]
            self._visited.append(location)
            self._place += 1

    def back(self) -> Location:
        """Goes to the earlier one; only if :attr:`can_go_back`."""
        self._place -= 1
        return self._visited[self._place]

    def forward(self) -> Location:
        """Goes to the later one; only if :attr:`can_go_forward`."""
        self._place += 1
        return self._visited[self._place]

    def forget(self, session: Session) -> None:
        """Forgets all locations of a source that was closed."""
        before = self._visited[: self._place + 1]
        gone = sum(location.session is session for location in before)
        self._visited = [place for place in self._visited if place.session is not session]
        self._place = min(self._place - gone, len(self._visited) - 1)
        if self._visited:
            self._place = max(self._place, 0)
