# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The contents of a folder: a flat table styled as a list.

A table, because a tree view needs a minute for a million rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QItemSelectionModel, Qt, Signal
from PySide6.QtGui import QPainter, QPalette
from PySide6.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QHeaderView,
    QStyle,
    QStyledItemDelegate,
    QTableView,
)

from explorer.models.directory import RIGHT_ALIGNED, Column

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint
    from PySide6.QtGui import QKeyEvent, QMouseEvent, QPaintEvent
    from PySide6.QtWidgets import QStyleOptionViewItem, QWidget

    from explorer.models.directory import DirectoryModel

GAP = 8
WIDTHS = {
    Column.NAME: 250,
    Column.SIZE: 92,
    Column.MODIFIED: 146,
    Column.MODE: 92,
    Column.OWNER: 72,
    Column.LINKS: 48,
    Column.INODE: 64,
}


class NumberDelegate(QStyledItemDelegate):
    """Keeps right-aligned numbers off the column that follows them."""

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> None:
        """Draws the cell's background in full and its text in what is left of the gap."""
        self.initStyleOption(option, index)
        style = option.widget.style()
        panel = QStyle.PrimitiveElement.PE_PanelItemViewItem
        style.drawPrimitive(panel, option, painter, option.widget)
        option.rect.setRight(option.rect.right() - GAP)
        super().paint(painter, option, index)


class ContentsView(QTableView):
    """Rows can be opened, looked at, dragged out."""

    opened = Signal(int)
    """A row was double-clicked, or Enter pressed on it."""
    drag_begun = Signal()
    """The selection is being dragged."""
    selection_changed = Signal()
    """Other rows are selected."""

    def __init__(self, model: DirectoryModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._contents = model
        self._message = ""
        self._pressed: QPoint | None = None
        self._pressed_selected = False
        self.setModel(model)
        self.setAccessibleName(QCoreApplication.translate("Contents", "Contents of the folder"))
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        rows = self.verticalHeader()
        rows.hide()
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(max(22, self.fontMetrics().height() + 6))
        columns = self.horizontalHeader()
        columns.setHighlightSections(False)
        columns.setStretchLastSection(True)
        columns.setSectionsMovable(True)
        columns.setSortIndicator(Column.NAME, Qt.SortOrder.AscendingOrder)
        self.setSortingEnabled(True)
        for column, width in WIDTHS.items():
            self.setColumnWidth(column, width)
        numbers = NumberDelegate(self)
        for column in RIGHT_ALIGNED:
            self.setItemDelegateForColumn(column, numbers)
        self.selectionModel().selectionChanged.connect(self.selection_changed)
        model.loading_changed.connect(self._update_message)
        model.modelReset.connect(self._update_message)

    # ---- Selection

    def _selected_ranges(self) -> list[tuple[int, int]]:
        selection = self.selectionModel().selection()
        parts = (selection.at(place) for place in range(selection.count()))
        return sorted((part.top(), part.bottom() + 1) for part in parts)

    def iter_selected_rows(self) -> Iterator[int]:
        """The rows selected, in the order shown."""
        for start, end in self._selected_ranges():
            yield from range(start, end)

    def selected_count(self) -> int:
        """How many rows are selected; cheap however many they are."""
        return sum(end - start for start, end in self._selected_ranges())

    def select_name(self, name: bytes) -> None:
        """Makes the row that shows a name current, and visible."""
        row = self._contents.row_of(name)
        if row is not None:
            index = self._contents.index(row, Column.NAME)
            self.setCurrentIndex(index)
            self.scrollTo(index, QAbstractItemView.ScrollHint.PositionAtCenter)

    # ---- Painting

    def _update_message(self) -> None:
        translate = QCoreApplication.translate
        if self._contents.location is None:
            self._message = ""
        elif self._contents.loading:
            self._message = translate("Contents", "Reading…")
        elif self._contents.hidden:
            self._message = translate("Contents", "No name matches the filter")
        else:
            self._message = translate("Contents", "This folder is empty")
        self.viewport().update()

    def show_message(self, text: str) -> None:
        """Says something in the view, as long as it is empty."""
        self._message = text
        self.viewport().update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draws the rows, or why there are none."""
        super().paintEvent(event)
        if self._message and not self._contents.rowCount():
            painter = QPainter(self.viewport())
            painter.setPen(self.palette().color(QPalette.ColorRole.PlaceholderText))
            painter.drawText(self.viewport().rect(), Qt.AlignmentFlag.AlignCenter, self._message)

    # ---- Keys and mouse

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter opens; the rest is the table's."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and not event.modifiers():
            index = self.currentIndex()
            if index.isValid():
                self.opened.emit(index.row())
            return
        super().keyPressEvent(event)

    # Dragging is done here, not by Qt's view: that asks the model's flags whether a row may be
    # dragged, and flags in Python make selecting everything ten times slower.

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Selects; but what is selected already may be about to be dragged, and stays so."""
        point = event.position().toPoint()
        index = self.indexAt(point)
        plain = event.button() == Qt.MouseButton.LeftButton and not event.modifiers()
        self._pressed = point if plain and index.isValid() else None
        self._pressed_selected = plain and self.selectionModel().isSelected(index)
        if self._pressed_selected:
            flag = QItemSelectionModel.SelectionFlag
            self.selectionModel().setCurrentIndex(index, flag.NoUpdate)
        else:
            super().mousePressEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Begins a drag when the mouse has left the place where it was pressed."""
        if self._pressed is None:
            super().mouseMoveEvent(event)
            return
        way = event.position().toPoint() - self._pressed
        if way.manhattanLength() >= QApplication.startDragDistance():
            self._pressed = None
            self._pressed_selected = False
            self.drag_begun.emit()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Selects what was only clicked after all."""
        if self._pressed_selected and self._pressed is not None:
            self.selectRow(self.indexAt(self._pressed).row())
        self._pressed = None
        self._pressed_selected = False
        super().mouseReleaseEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Opens a row."""
        index = self.indexAt(event.position().toPoint())
        if index.isValid() and event.button() == Qt.MouseButton.LeftButton:
            self._pressed = None
            self.opened.emit(index.row())
