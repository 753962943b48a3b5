# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A line above a view that says what went wrong there, instead of a box that stops the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QSize, Qt
from PySide6.QtGui import QFontDatabase, QGuiApplication
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
)

from explorer.ui.icons import icon

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QWidget


DETAIL_LINES = 6


class Banner(QFrame):
    """Hidden until :meth:`show_text`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._action: Callable[[], None] | None = None
        self._all_details = ""
        self._icon = QLabel()
        self._text = QLabel()
        self._text.setWordWrap(True)
        self._text.setTextFormat(Qt.TextFormat.PlainText)
        self._text.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
            | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self._text.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._text.setAccessibleName(QCoreApplication.translate("Banner", "Message"))
        self._details = QLabel()
        self._details.setTextFormat(Qt.TextFormat.PlainText)
        self._details.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self._details.setTextInteractionFlags(self._text.textInteractionFlags())
        self._details.setAccessibleName(QCoreApplication.translate("Banner", "Last messages"))
        # A long line is cut off, and copied whole.
        self._details.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._button = QPushButton()
        self._button.clicked.connect(self._act)
        self._button.hide()
        self._copy = QToolButton(autoRaise=True)
        self._copy.setToolTip(QCoreApplication.translate("Banner", "Copy the message"))
        self._copy.setAccessibleName(self._copy.toolTip())
        self._copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self._everything))
        self._close = QToolButton(autoRaise=True)
        self._close.setToolTip(QCoreApplication.translate("Banner", "Close the message"))
        self._close.setAccessibleName(self._close.toolTip())
        self._close.clicked.connect(self.hide)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 4, 4, 4)
        layout = QHBoxLayout()
        column.addLayout(layout)
        column.addWidget(self._details)
        for widget in (self._icon, self._text, self._button, self._copy, self._close):
            layout.addWidget(widget)
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.setAutoFillBackground(True)
        self.setBackgroundRole(self.backgroundRole().ToolTipBase)
        self.setForegroundRole(self.foregroundRole().ToolTipText)
        for label in (self._text, self._details):
            label.setForegroundRole(self.foregroundRole().ToolTipText)
        self.retint()
        self.hide()

    @property
    def text(self) -> str:
        """What it says."""
        return self._text.text()

    @property
    def _everything(self) -> str:
        return f"{self._text.text()}\n{self.details}".strip()

    @property
    def details(self) -> str:
        """What it says below that."""
        return self._all_details

    def show_text(
        self,
        text: str,
        action_text: str = "",
        action: Callable[[], None] | None = None,
        details: str = "",
    ) -> None:
        """Says ``text``; with a button when there is something to be done about it.

        Of the details the last :data:`DETAIL_LINES` are shown, and all of them copied.
        """
        self._text.setText(text)
        self._all_details = details
        self._details.setText("\n".join(details.splitlines()[-DETAIL_LINES:]))
        self._details.setVisible(bool(details))
        self._button.setText(action_text)
        self._button.setVisible(action is not None)
        self._action = action
        self.retint()
        self.show()

    def retint(self) -> None:
        """Draws the icons in the colours of the palette."""
        self._icon.setPixmap(icon("warning").pixmap(QSize(20, 20)))
        self._copy.setIcon(icon("copy"))
        self._close.setIcon(icon("close"))

    def _act(self) -> None:
        self.hide()
        if self._action is not None:
            self._action()
