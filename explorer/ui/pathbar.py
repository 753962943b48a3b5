# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows where the contents stand: ``source > volume > folder``, each a step to click.

A click beside the steps turns it into a field in which a path can be edited or pasted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent, QPalette
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QStackedLayout,
    QToolButton,
    QWidget,
)

from explorer.core.names import show_name

if TYPE_CHECKING:
    from PySide6.QtGui import QMouseEvent, QResizeEvent

    from explorer.models.location import Location


class PathBar(QFrame):
    """Steps and, when asked for, the path as text."""

    location_chosen = Signal(object)
    """A step was clicked: its :class:`Location`."""
    path_entered = Signal(str)
    """A path was typed, absolute in the volume shown."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._location: Location | None = None
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.Base)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._steps = QWidget()
        self._layout = QHBoxLayout(self._steps)
        self._layout.setContentsMargins(4, 0, 4, 0)
        self._layout.setSpacing(0)
        self._layout.addStretch(1)
        self.edit = QLineEdit(frame=False)
        self.edit.setAccessibleName(QCoreApplication.translate("PathBar", "Path"))
        self.edit.returnPressed.connect(self._enter)
        self.edit.installEventFilter(self)
        self._stack = QStackedLayout(self)
        self._stack.setContentsMargins(1, 1, 1, 1)
        self._stack.addWidget(self._steps)
        self._stack.addWidget(self.edit)

    def set_location(self, location: Location | None, volume_name: str) -> None:
        """Shows the steps to a location; ``volume_name`` is how its volume is called here."""
        self._location = location
        while self._layout.count() > 1:
            item = self._layout.takeAt(0)
            widget = item.widget() if item else None
            if widget is not None:
                widget.deleteLater()
        self._stack.setCurrentIndex(0)
        if location is None:
            return
        steps: list[tuple[str, Location]] = []
        place: Location | None = location
        while place is not None:
            if place.volume is None:
                text = place.session.name
            elif place.path == b"/":
                text = volume_name
            else:
                text = show_name(place.path.rpartition(b"/")[2])
            steps.insert(0, (text, place))
            place = place.parent
        for number, (text, step) in enumerate(steps):
            self._add_step(number, text, step, is_last=number == len(steps) - 1)
        self._fit()

    def begin_edit(self) -> None:
        """Shows the path as text, selected."""
        location = self._location
        if location is None or location.volume is None:
            return
        self.edit.setText(show_name(location.path))
        self._stack.setCurrentIndex(1)
        self.edit.setFocus()
        self.edit.selectAll()

    def end_edit(self) -> None:
        """Shows the steps again."""
        self._stack.setCurrentIndex(0)

    def _add_step(self, number: int, text: str, step: Location, *, is_last: bool) -> None:
        button = QToolButton(autoRaise=True)
        # An ampersand would be taken for a shortcut.
        button.setText(text.replace("&", "&&"))
        button.setToolTip(text)
        button.setAccessibleName(text)
        button.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Preferred)
        if is_last:
            font = button.font()
            font.setBold(True)
            button.setFont(font)
        button.clicked.connect(lambda: self.location_chosen.emit(step))
        if number:
            arrow = QLabel(">")
            arrow.setForegroundRole(QPalette.ColorRole.PlaceholderText)
            self._layout.insertWidget(self._layout.count() - 1, arrow)
        self._layout.insertWidget(self._layout.count() - 1, button)

    def _fit(self) -> None:
        """Hides first the steps in the middle when there is no room for all."""
        widgets = [
            item.widget()
            for place in range(self._layout.count() - 1)
            if (item := self._layout.itemAt(place)) is not None
        ]
        shown = [widget for widget in widgets if widget is not None]
        for widget in shown:
            widget.setVisible(True)
        room = self.width() - 12
        needed = sum(widget.sizeHint().width() for widget in shown)
        # The source, the volume and the last step stay to the end.
        for widget in shown[3:-1]:
            if needed <= room:
                break
            needed -= widget.sizeHint().width()
            widget.setVisible(False)

    def _enter(self) -> None:
        self.end_edit()
        self.path_entered.emit(self.edit.text())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Leaves the field by Escape or when the focus goes elsewhere."""
        if watched is self.edit:
            escaped = isinstance(event, QKeyEvent) and event.key() == Qt.Key.Key_Escape
            if event.type() == QEvent.Type.FocusOut or (
                escaped and event.type() == QEvent.Type.KeyPress
            ):
                self.end_edit()
        return super().eventFilter(watched, event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """A click beside the steps edits the path."""
        if event.button() == Qt.MouseButton.LeftButton:
            self.begin_edit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Makes the steps fit."""
        super().resizeEvent(event)
        self._fit()
