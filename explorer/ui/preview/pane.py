# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Preview, bytes and properties of the entry that is current."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QBuffer, QByteArray, QCoreApplication, QIODevice, QSize, Qt
from PySide6.QtGui import QFontDatabase, QImageReader, QPalette, QPixmap
from PySide6.QtWidgets import (
    QLabel,
    QPlainTextEdit,
    QStackedWidget,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from explorer.core.entries import Entry, FileType
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.ui.preview.hexview import BLOCK, HexView
from explorer.ui.preview.properties import PropertiesView, entry_rows, type_text, xattr_rows
from explorer.ui.preview.text import guess_text
from explorer.wire.messages import (
    EntryRead,
    LinksRead,
    RangeRead,
    ReadEntry,
    ReadLinks,
    ReadRange,
    ReadXattrs,
    Request,
    XattrsRead,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtGui import QResizeEvent

    from explorer.client.engine import Call
    from explorer.core.errors import ExplorerError
    from explorer.models.location import Location

TEXT_LIMIT = 256 << 10
"""Bytes of a text that are shown; the hex view shows the rest."""
PICTURE_LIMIT = 4 << 20
"""Bytes of a picture's file. A picture is decoded in the window's process, so only two
well-known formats are, and only small ones."""
PICTURE_MEGABYTES = 64
PICTURES = {b"\x89PNG\r\n\x1a\n": b"png", b"\xff\xd8\xff": b"jpeg"}


class PictureView(QLabel):
    """A picture, made smaller when there is no room."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._picture = QPixmap()
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setMinimumSize(QSize(16, 16))
        self.setAccessibleName(QCoreApplication.translate("Preview", "Picture"))

    def set_picture(self, picture: QPixmap) -> None:
        """Shows another picture."""
        self._picture = picture
        self._fit()

    def _fit(self) -> None:
        picture = self._picture
        if picture.width() > self.width() or picture.height() > self.height():
            picture = picture.scaled(
                self.size(),
                Qt.AspectRatioMode.KeepAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
        self.setPixmap(picture)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Makes it fit."""
        super().resizeEvent(event)
        if not self._picture.isNull():
            self._fit()


def decode_picture(data: bytes) -> QPixmap | None:
    """A small PNG or JPEG; None for anything else, damaged ones too."""
    kind = next((name for magic, name in PICTURES.items() if data.startswith(magic)), None)
    if kind is None:
        return None
    buffer = QBuffer()
    buffer.setData(QByteArray(data))
    buffer.open(QIODevice.OpenModeFlag.ReadOnly)
    reader = QImageReader(buffer, QByteArray(kind))
    reader.setAutoTransform(True)
    QImageReader.setAllocationLimit(PICTURE_MEGABYTES)
    image = reader.read()
    return None if image.isNull() else QPixmap.fromImage(image)


class PreviewPane(QTabWidget):
    """Stays on its tab from one entry to the next."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        translate = QCoreApplication.translate
        self._location: Location | None = None
        self._entry: Entry | None = None
        self._calls: list[Call] = []
        self._picture_data = bytearray()
        self._note = QLabel()
        self._note.setContentsMargins(6, 3, 6, 3)
        self._note.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        self._note.setTextFormat(Qt.TextFormat.PlainText)
        self._text = QPlainTextEdit(readOnly=True)
        self._text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self._text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self._text.setFrameShape(QPlainTextEdit.Shape.NoFrame)
        self._text.setTabChangesFocus(True)
        self._text.setAccessibleName(translate("Preview", "Text"))
        self._message = QLabel()
        self._message.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._message.setWordWrap(True)
        self._message.setTextFormat(Qt.TextFormat.PlainText)
        self._message.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        self._picture = PictureView()
        self._stack = QStackedWidget()
        for widget in (self._message, self._text, self._picture):
            self._stack.addWidget(widget)
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._note)
        layout.addWidget(self._stack, 1)
        self.hex = HexView()
        self.hex.setFrameShape(HexView.Shape.NoFrame)
        self.hex.wanted.connect(self._read_block)
        self.properties = PropertiesView()
        self.addTab(page, translate("Preview", "Preview"))
        self.addTab(self.hex, translate("Preview", "Hex"))
        self.addTab(self.properties, translate("Preview", "Properties"))
        self.setDocumentMode(True)
        for part in (self, self.tabBar()):
            part.setAccessibleName(translate("Preview", "Views of the entry"))
        self.clear_entry()

    # ---- What is shown

    @property
    def text(self) -> str:
        """The text previewed; empty when none is."""
        return self._text.toPlainText() if self._stack.currentWidget() is self._text else ""

    @property
    def message(self) -> str:
        """Why there is no preview; empty when there is one."""
        return self._message.text() if self._stack.currentWidget() is self._message else ""

    @property
    def shows_picture(self) -> bool:
        """Whether a picture is previewed."""
        return self._stack.currentWidget() is self._picture

    def clear_entry(self, message: str = "") -> None:
        """Shows nothing."""
        for call in self._calls:
            call.drop()
        self._calls = []
        self._location = None
        self._entry = None
        self._note.hide()
        self._show_message(message)
        self.hex.set_size(0)
        self.properties.set_rows([])

    def show_entry(self, location: Location) -> None:
        """Shows the entry at a location, a link itself."""
        assert location.volume is not None
        self.clear_entry()
        self._location = location
        self._ask(ReadEntry(location.volume, location.path), self._take_entry)
        self._ask(ReadXattrs(location.volume, location.path), self._take_xattrs, quiet=True)

    def show_properties(self) -> None:
        """Brings the properties to the front."""
        self.setCurrentWidget(self.properties)
        self.properties.setFocus()

    # ---- Answers

    def _ask(self, request: Request, take: Callable[..., None], *, quiet: bool = False) -> None:
        assert self._location is not None
        failed = None if quiet else self._take_failure
        call = self._location.session.request(request, take, failed)
        self._calls = [known for known in self._calls if not known.ended]
        self._calls.append(call)

    def _take_failure(self, error: ExplorerError) -> None:
        self._show_message(describe(error))

    def _take_entry(self, read: EntryRead) -> None:
        assert self._location is not None
        assert self._location.volume is not None
        entry = read.entry
        self._entry = entry
        path = self._location.path
        # The attributes may have been faster.
        self.properties.set_rows([*entry_rows(entry, path), *self.properties.rows])
        if entry.type == FileType.FILE:
            self.hex.set_size(entry.size)
            if entry.size:
                length = min(entry.size, TEXT_LIMIT)
                self._ask(ReadRange(self._location.volume, path, 0, length), self._take_head)
            else:
                self._show_message(QCoreApplication.translate("Preview", "The file is empty"))
        elif entry.type == FileType.LINK:
            directory, _, name = path.rpartition(b"/")
            request = ReadLinks(self._location.volume, directory or b"/", (name,))
            self._ask(request, self._take_target)
        else:
            self._show_message(type_text(entry.type).capitalize())

    def _take_xattrs(self, read: XattrsRead) -> None:
        self.properties.add_rows(xattr_rows(read))

    def _take_target(self, read: LinksRead) -> None:
        target = read.targets[0] if read.targets else None
        if target is not None:
            self._show_message(f"→ {show_name(target)}")
            translate = QCoreApplication.translate
            title = translate("Properties", "Target")
            rows = [(title, show_name(target))]
            self.properties.add_rows(rows, after=translate("Properties", "Type"))

    def _take_head(self, read: RangeRead) -> None:
        assert self._entry is not None
        head, size = read.payload, self._entry.size
        is_picture = any(head.startswith(magic) for magic in PICTURES)
        if is_picture and size <= PICTURE_LIMIT:
            self._picture_data = bytearray(head)
            self._read_picture()
            return
        whole = len(head) >= size
        text = guess_text(head, whole=whole)
        if text is None:
            self._show_message(
                QCoreApplication.translate("Preview", "Not a text; the Hex tab shows its bytes")
            )
            return
        self._text.setPlainText(text.text)
        self._stack.setCurrentWidget(self._text)
        note = text.encoding
        if not whole:
            note += " · " + QCoreApplication.translate("Preview", "the first %1 bytes").replace(
                "%1", f"{len(head):,}"
            )
        self._note.setText(note)
        self._note.show()

    def _read_picture(self) -> None:
        assert self._location is not None
        assert self._location.volume is not None
        assert self._entry is not None
        done = len(self._picture_data)
        if done < self._entry.size:
            length = min(self._entry.size - done, TEXT_LIMIT)
            request = ReadRange(self._location.volume, self._location.path, done, length)
            self._ask(request, self._take_picture_piece)
            return
        picture = decode_picture(bytes(self._picture_data))
        if picture is None:
            self._show_message(QCoreApplication.translate("Preview", "The picture is damaged"))
            return
        self._picture.set_picture(picture)
        self._stack.setCurrentWidget(self._picture)
        self._note.setText(f"{picture.width()} x {picture.height()}")
        self._note.show()

    def _take_picture_piece(self, read: RangeRead) -> None:
        if not read.payload:
            self._show_message(QCoreApplication.translate("Preview", "The picture is damaged"))
            return
        self._picture_data += read.payload
        self._read_picture()

    def _read_block(self, number: int) -> None:
        location = self._location
        if location is None or location.volume is None:
            return
        self._ask(
            ReadRange(location.volume, location.path, number * BLOCK, BLOCK),
            lambda read: self.hex.set_block(number, read.payload),
        )

    def _show_message(self, text: str) -> None:
        self._note.hide()
        self._message.setText(text)
        self._stack.setCurrentWidget(self._message)
