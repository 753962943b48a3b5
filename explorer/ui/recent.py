# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources that were opened before, kept in the settings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, Signal
from PySide6.QtWidgets import QMenu

if TYPE_CHECKING:
    from PySide6.QtCore import QSettings
    from PySide6.QtWidgets import QWidget

RECENT_LIMIT = 10
KEY = "open/recent"


class RecentMenu(QMenu):
    """Offers them, the latest first."""

    chosen = Signal(str)
    """The path of one, to be opened again."""

    def __init__(self, settings: QSettings, parent: QWidget | None = None) -> None:
        super().__init__(QCoreApplication.translate("Recent", "Open &recent"), parent)
        self._settings = settings
        self._fill()

    @property
    def paths(self) -> list[str]:
        """The latest first."""
        paths = self._settings.value(KEY, [], type=list)
        return [str(path) for path in paths] if isinstance(paths, list) else []

    def remember(self, path: str) -> None:
        """Puts a path first."""
        known = [path, *(other for other in self.paths if other != path)]
        self._settings.setValue(KEY, known[:RECENT_LIMIT])
        self._fill()

    def _fill(self) -> None:
        self.clear()
        for path in self.paths:
            action = self.addAction(path.replace("&", "&&"))
            action.triggered.connect(partial(self.chosen.emit, path))
        self.setEnabled(bool(self.paths))
