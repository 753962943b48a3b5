# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the window shows while nothing is open."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QCoreApplication, QSize, Qt, Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QCommandLinkButton, QLabel, QPushButton, QVBoxLayout, QWidget

from explorer.ui.icons import application_icon, icon

RECENT_SHOWN = 6


class StartPage(QWidget):
    """An invitation, and what was open lately."""

    open_wanted = Signal()
    recent_chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        translate = QCoreApplication.translate
        picture = QLabel()
        picture.setPixmap(application_icon().pixmap(QSize(96, 96)))
        picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        title = QLabel(translate("StartPage", "Open a disk image"))
        font = title.font()
        font.setPointSizeF(font.pointSizeF() * 1.6)
        title.setFont(font)
        title.setAlignment(Qt.AlignmentFlag.AlignCenter)
        hint = QLabel(
            translate(
                "StartPage",
                "Drop it here, or choose it. It is only ever read: nothing is written to it.",
            )
        )
        hint.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        hint.setWordWrap(True)
        self.button = QPushButton(translate("StartPage", "Open image…"))
        self.button.clicked.connect(self.open_wanted)
        self._recent_title = QLabel(translate("StartPage", "Opened lately"))
        self._recent_title.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        self._recent = QVBoxLayout()
        self._recent.setSpacing(0)
        layout = QVBoxLayout(self)
        layout.setSpacing(10)
        layout.addStretch(2)
        for widget in (picture, title, hint):
            layout.addWidget(widget)
        layout.addWidget(self.button, 0, Qt.AlignmentFlag.AlignCenter)
        layout.addSpacing(16)
        layout.addWidget(self._recent_title, 0, Qt.AlignmentFlag.AlignCenter)
        layout.addLayout(self._recent)
        layout.addStretch(3)
        self.retint()
        self.set_recent([])

    def set_recent(self, paths: list[str]) -> None:
        """Offers files to open again."""
        while (item := self._recent.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        self._recent_title.setVisible(bool(paths))
        for path in paths[:RECENT_SHOWN]:
            button = QCommandLinkButton(Path(path).name.replace("&", "&&"), path)
            button.setIcon(icon("source"))
            button.setMaximumWidth(520)
            button.setMinimumWidth(320)
            button.setAccessibleName(path)
            button.clicked.connect(lambda _checked=False, path=path: self.recent_chosen.emit(path))
            self._recent.addWidget(button, 0, Qt.AlignmentFlag.AlignCenter)

    def retint(self) -> None:
        """Draws the icons in the colours of the palette."""
        self.button.setIcon(icon("open"))
