# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A program for the drag test: takes files that are dropped on it, as a file manager would.

Prints, as JSON, first where it is, and after the drop what it found at each place it was given:
path in hexadecimal, contents' SHA-256, time of modification.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QLabel

if TYPE_CHECKING:
    from PySide6.QtGui import QDragEnterEvent, QDropEvent


class Target(QLabel):
    """Takes one drop, then ends the program."""

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Takes whatever has places."""
        if event.mimeData().hasFormat("text/uri-list"):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Reads the files at once: nothing says how long they stay."""
        uris = bytes(event.mimeData().data("text/uri-list").data()).decode("ascii").split()
        found = []
        for uri in uris:
            name = unquote_to_bytes(uri.removeprefix("file://"))
            path = Path(os.fsdecode(name))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found.append([name.hex(), digest, path.stat().st_mtime_ns])
        event.acceptProposedAction()
        print(json.dumps(found), flush=True)
        QTimer.singleShot(0, application.quit)


application = QApplication([])
target = Target("drop here")
target.setAcceptDrops(True)
target.setGeometry(1000, 100, 300, 300)
target.show()
QTimer.singleShot(500, lambda: print(json.dumps([1150, 250]), flush=True))
application.exec()
