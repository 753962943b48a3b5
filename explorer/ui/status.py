# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The line below everything: what is shown, of which file system, and what was written to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QTimer
from PySide6.QtWidgets import QLabel, QStatusBar, QWidget

from explorer.client.session import State
from explorer.models.texts import size_text
from explorer.wire.messages import Counters, ReadCounters, VolumeOpened

if TYPE_CHECKING:
    from explorer.client.engine import Call
    from explorer.client.session import Session

COUNTERS_MS = 2000

OVERLAY_BLOCK = 4096
"""Bytes of a block that is kept in memory instead of being written."""


class StatusBar(QStatusBar):
    """Three texts, of which the last counts by itself."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.items = QLabel()
        self.system = QLabel()
        self.written = QLabel()
        self.addWidget(self.items, 1)
        self.addPermanentWidget(self.system)
        self.addPermanentWidget(self.written)
        self._session: Session | None = None
        self._call: Call | None = None
        self._timer = QTimer(self, interval=COUNTERS_MS)
        self._timer.timeout.connect(self._ask)

    def watch(self, session: Session | None) -> None:
        """Shows what is written to a source; to none any more by None."""
        self.written.setVisible(session is not None)
        if session is self._session:
            return
        self._session = session
        if self._call is not None:
            self._call.drop()
            self._call = None
        if session is None:
            self._timer.stop()
        else:
            self._timer.start()
            self._ask()

    def show_volume(self, volume: VolumeOpened | None) -> None:
        """Says what the volume is."""
        self.system.setText("" if volume is None else _volume_text(volume))

    def _ask(self) -> None:
        if self._session is not None and self._session.state is State.OPEN:
            self._call = self._session.request(ReadCounters(), self._take)

    def _take(self, counters: Counters) -> None:
        translate = QCoreApplication.translate
        text = translate("StatusBar", "Bytes written to the source: %1")
        text = text.replace("%1", f"{counters.written_bytes:,}")
        if counters.overlay_bytes:
            held = translate("StatusBar", "%1 blocks in memory")
            text += " · " + held.replace("%1", f"{counters.overlay_bytes // OVERLAY_BLOCK:,}")
        self.written.setText(text)
        tip = translate("StatusBar", "Read: %1. Writes refused: %2. Kept in memory instead: %3.")
        self.written.setToolTip(
            tip.replace("%1", size_text(counters.read_bytes))
            .replace("%2", str(counters.refused_writes))
            .replace("%3", size_text(counters.overlay_bytes))
        )


def _volume_text(volume: VolumeOpened) -> str:
    translate = QCoreApplication.translate
    text = volume.type
    if volume.size:
        space = translate("StatusBar", "%1 free of %2")
        free, size = size_text(volume.free), size_text(volume.size)
        text += " · " + space.replace("%1", free).replace("%2", size)
    if volume.recovered:
        text += " · " + translate("StatusBar", "recovered in memory")
    elif volume.as_stored:
        text += " · " + translate("StatusBar", "as stored, not recovered")
    else:
        text += " · " + translate("StatusBar", "as stored")
    return text
