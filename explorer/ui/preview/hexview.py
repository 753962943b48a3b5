# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A file's bytes in hexadecimal; of any size, for only what is shown is read."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QRect, Qt, Signal
from PySide6.QtGui import QFontDatabase, QGuiApplication, QKeySequence, QPainter, QPalette
from PySide6.QtWidgets import QAbstractScrollArea

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtCore import QPoint
    from PySide6.QtGui import QKeyEvent, QMouseEvent, QPaintEvent, QResizeEvent
    from PySide6.QtWidgets import QWidget

    Reader = Callable[[int, int], None]

ROW = 16
BLOCK = 1 << 16
BLOCKS_KEPT = 64
COPY_LIMIT = 1 << 20
SCROLL_LIMIT = (1 << 31) - 1


class HexView(QAbstractScrollArea):
    """Shows bytes that it asks for by ``wanted`` and gets by :meth:`set_block`."""

    wanted = Signal(int)
    """The number of a block of :data:`BLOCK` bytes that is to be shown."""
    cursor_moved = Signal(int)
    """Offset of the byte under the cursor."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._size = 0
        self._blocks: OrderedDict[int, bytes | None] = OrderedDict()
        self._cursor = 0
        self._anchor = 0
        self.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(QCoreApplication.translate("HexView", "Bytes in hexadecimal"))
        self.viewport().setBackgroundRole(QPalette.ColorRole.Base)
        self.viewport().setCursor(Qt.CursorShape.IBeamCursor)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)

    # ---- Bytes

    def set_size(self, size: int) -> None:
        """Shows another file, of ``size`` bytes; its blocks are asked for as they come in sight."""
        self._size = size
        self._blocks.clear()
        self._cursor = self._anchor = 0
        self.verticalScrollBar().setValue(0)
        self._set_scroll_range()
        self.viewport().update()

    def set_block(self, number: int, data: bytes) -> None:
        """Takes a block that was wanted; empty for one that cannot be read."""
        self._blocks[number] = data
        while len(self._blocks) > BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        self.viewport().update()

    def _bytes_at(self, offset: int, length: int) -> bytes | None:
        """Bytes at hand; None, and asked for, when they are not."""
        number, start = divmod(offset, BLOCK)
        if number not in self._blocks:
            # Marked first: one block is asked for once.
            self._blocks[number] = None
            self.wanted.emit(number)
        data = self._blocks.get(number)
        return None if data is None else data[start : start + length]

    # ---- Geometry

    @property
    def _rows(self) -> int:
        return -(-self._size // ROW)

    @property
    def _row_height(self) -> int:
        return self.fontMetrics().height() + 2

    @property
    def _rows_shown(self) -> int:
        return max(1, self.viewport().height() // self._row_height)

    @property
    def _character(self) -> int:
        return self.fontMetrics().horizontalAdvance("0")

    @property
    def _digits(self) -> int:
        return max(8, len(f"{max(0, self._size - 1):x}"))

    @property
    def _hex_left(self) -> int:
        return (self._digits + 3) * self._character

    @property
    def _text_left(self) -> int:
        return self._hex_left + (ROW * 3 + 2) * self._character

    def _hex_x(self, column: int) -> int:
        # A gap after the eighth byte.
        return self._hex_left + (column * 3 + column // 8) * self._character

    def _set_scroll_range(self) -> None:
        bar = self.verticalScrollBar()
        bar.setRange(0, min(SCROLL_LIMIT, max(0, self._rows - self._rows_shown)))
        bar.setPageStep(self._rows_shown)
        width = self._text_left + (ROW + 1) * self._character
        self.horizontalScrollBar().setRange(0, max(0, width - self.viewport().width()))

    @property
    def _first_row(self) -> int:
        bar = self.verticalScrollBar()
        last = max(0, self._rows - self._rows_shown)
        # Qt's bars count to 2**31: of longer files one step is several rows.
        return bar.value() if last <= SCROLL_LIMIT else bar.value() * last // SCROLL_LIMIT

    def _show_row(self, row: int) -> None:
        first = self._first_row
        if row < first:
            first = row
        elif row >= first + self._rows_shown:
            first = row - self._rows_shown + 1
        else:
            return
        last = max(1, self._rows - self._rows_shown)
        self.verticalScrollBar().setValue(
            first if last <= SCROLL_LIMIT else -(-first * SCROLL_LIMIT // last)
        )

    def _offset_at(self, point: QPoint) -> int:
        x = point.x() + self.horizontalScrollBar().value()
        row = self._first_row + max(0, point.y()) // self._row_height
        if x >= self._text_left - self._character:
            column = (x - self._text_left) // self._character
        else:
            column = next((place for place in range(ROW - 1, -1, -1) if x >= self._hex_x(place)), 0)
        offset = row * ROW + max(0, min(column, ROW - 1))
        return max(0, min(offset, self._size - 1))

    # ---- Painting

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draws the rows in sight."""
        painter = QPainter(self.viewport())
        palette, metrics = self.palette(), self.fontMetrics()
        if not self._size:
            painter.setPen(palette.color(QPalette.ColorRole.PlaceholderText))
            painter.drawText(
                self.viewport().rect(),
                Qt.AlignmentFlag.AlignCenter,
                QCoreApplication.translate("HexView", "No bytes"),
            )
            return
        painter.translate(-self.horizontalScrollBar().value(), 0)
        height, width = self._row_height, self._character
        ink = palette.color(QPalette.ColorRole.Text)
        pale = palette.color(QPalette.ColorRole.PlaceholderText)
        selected_from, selected_to = sorted((self._cursor, self._anchor))
        first = self._first_row
        for row in range(first, min(self._rows, first + self._rows_shown + 1)):
            top = (row - first) * height
            baseline = top + metrics.ascent() + 1
            offset = row * ROW
            painter.setPen(pale)
            painter.drawText(width, baseline, f"{offset:0{self._digits}x}")
            data = self._bytes_at(offset, ROW)
            if data is None:
                continue
            for column, value in enumerate(data):
                place = offset + column
                hex_x, text_x = self._hex_x(column), self._text_left + column * width
                if selected_from <= place <= selected_to:
                    fill = palette.brush(QPalette.ColorRole.Highlight)
                    painter.fillRect(QRect(hex_x - width // 2, top, 3 * width, height), fill)
                    painter.fillRect(QRect(text_x, top, width, height), fill)
                    painter.setPen(palette.color(QPalette.ColorRole.HighlightedText))
                else:
                    painter.setPen(ink if value else pale)
                painter.drawText(hex_x, baseline, f"{value:02x}")
                painter.drawText(text_x, baseline, chr(value) if 32 <= value < 127 else "·")

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keeps the bars right."""
        super().resizeEvent(event)
        self._set_scroll_range()

    # ---- Cursor

    def _move(self, offset: int, *, extend: bool) -> None:
        if not self._size:
            return
        self._cursor = max(0, min(offset, self._size - 1))
        if not extend:
            self._anchor = self._cursor
        self._show_row(self._cursor // ROW)
        self.viewport().update()
        data = self._bytes_at(self._cursor, 1)
        value = f"{data[0]:02x}" if data else ""
        self.setAccessibleDescription(f"{self._cursor:x}: {value}")
        self.cursor_moved.emit(self._cursor)

    def copy_selection(self) -> None:
        """Puts the selected bytes on the clipboard, in hexadecimal; as far as they are at hand."""
        start, last = sorted((self._cursor, self._anchor))
        end = min(last + 1, start + COPY_LIMIT, self._size)
        pieces = []
        while start < end:
            data = self._bytes_at(start, end - start)
            if not data:
                break
            pieces.append(data)
            start += len(data)
        QGuiApplication.clipboard().setText(b"".join(pieces).hex(" "))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Moves the cursor as in a text; Shift selects."""
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy_selection()
            return
        if event.matches(QKeySequence.StandardKey.SelectAll):
            self._anchor = 0
            self._move(self._size - 1, extend=True)
            return
        control = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        page = self._rows_shown * ROW
        row_start = self._cursor - self._cursor % ROW
        target = {
            Qt.Key.Key_Left: self._cursor - 1,
            Qt.Key.Key_Right: self._cursor + 1,
            Qt.Key.Key_Up: self._cursor - ROW,
            Qt.Key.Key_Down: self._cursor + ROW,
            Qt.Key.Key_PageUp: self._cursor - page,
            Qt.Key.Key_PageDown: self._cursor + page,
            Qt.Key.Key_Home: 0 if control else row_start,
            Qt.Key.Key_End: self._size - 1 if control else row_start + ROW - 1,
        }.get(Qt.Key(event.key()))
        if target is None:
            super().keyPressEvent(event)
            return
        shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        self._move(target, extend=shift)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Places the cursor."""
        if event.button() == Qt.MouseButton.LeftButton:
            shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            self._move(self._offset_at(event.position().toPoint()), extend=shift)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Selects."""
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._move(self._offset_at(event.position().toPoint()), extend=True)
