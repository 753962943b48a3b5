# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of an entry, as rows of names and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtGui import QFontDatabase, QPalette
from PySide6.QtWidgets import QFormLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from explorer.core.entries import (
    MASK_BLOCKS,
    MASK_MODE,
    MASK_SIZE,
    TYPE_NAMES,
    Entry,
    FileType,
    mode_string,
)
from explorer.core.names import show_name
from explorer.models.texts import exact_time_text, size_text

if TYPE_CHECKING:
    from explorer.wire.messages import XattrsRead

VALUE_LIMIT = 256
"""Bytes of an attribute's value shown."""

Rows = list[tuple[str, str]]


def type_text(kind: int) -> str:
    """What a :class:`FileType` is called."""
    return TYPE_NAMES[kind]


def entry_rows(entry: Entry, path: bytes) -> Rows:
    """Everything that a stat tells, exactly."""
    translate = QCoreApplication.translate
    rows = [(translate("Properties", "Name"), show_name(entry.name) or "/")]
    if entry.name.decode("utf-8", "replace") != show_name(entry.name):
        rows.append((translate("Properties", "Name, raw bytes"), entry.name.hex(" ")))
    rows.append((translate("Properties", "Path"), show_name(path)))
    rows.append((translate("Properties", "Type"), type_text(entry.type)))
    if entry.mask & MASK_SIZE:
        exact = translate("Properties", "%1 bytes").replace("%1", f"{entry.size:,}")
        text = f"{size_text(entry.size)} ({exact})" if entry.size >= 1024 else exact
        rows.append((translate("Properties", "Size"), text))
    if entry.mask & MASK_BLOCKS:
        rows.append((translate("Properties", "Allocated"), size_text(entry.blocks * 512)))
    if entry.mask & MASK_MODE:
        mode = f"{mode_string(entry)} ({entry.mode & 0o7777:04o})"
        rows.append((translate("Properties", "Mode"), mode))
    rows.append((translate("Properties", "Owner"), f"{entry.uid}:{entry.gid}"))
    rows.append((translate("Properties", "Links"), str(entry.links)))
    rows.append((translate("Properties", "Inode"), str(entry.inode)))
    if entry.type in (FileType.BLOCK_DEVICE, FileType.CHARACTER_DEVICE):
        number = f"{entry.special_major}:{entry.special_minor}"
        rows.append((translate("Properties", "Device number"), number))
    for title, moment in (
        (translate("Properties", "Modified"), entry.modify_ns),
        (translate("Properties", "Changed"), entry.change_ns),
        (translate("Properties", "Accessed"), entry.access_ns),
        (translate("Properties", "Created"), entry.birth_ns),
    ):
        if moment is not None:
            rows.append((title, exact_time_text(moment)))
    return rows


def xattr_rows(read: XattrsRead) -> Rows:
    """Extended attributes: their text where it is text, else hexadecimal."""
    return [
        (show_name(name), _value_text(value))
        for name, value in zip(read.names, read.values, strict=False)
    ]


def _value_text(value: bytes) -> str:
    shown = value[:VALUE_LIMIT]
    more = "…" if len(value) > VALUE_LIMIT else ""
    # Some attributes end with the NUL of the string they were made from.
    text = shown.removesuffix(b"\0").decode("utf-8", "replace")
    if text.isprintable() and "\ufffd" not in text:
        return text + more
    return shown.hex(" ") + more


class PropertiesView(QScrollArea):
    """Rows that can be selected and copied."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setAccessibleName(QCoreApplication.translate("Properties", "Properties"))
        self._rows: Rows = []
        self.set_rows([])

    @property
    def rows(self) -> Rows:
        """What is shown."""
        return self._rows

    def set_rows(self, rows: Rows) -> None:
        """Shows other rows."""
        self._rows = list(rows)
        page = QWidget()
        column = QVBoxLayout(page)
        form = QFormLayout()
        form.setLabelAlignment(Qt.AlignmentFlag.AlignRight)
        form.setHorizontalSpacing(16)
        form.setVerticalSpacing(4)
        column.addLayout(form)
        column.addStretch(1)
        for title, text in rows:
            self._add_row(form, title, text)
        self.setWidget(page)

    def add_rows(self, rows: Rows, after: str = "") -> None:
        """Shows more rows below the others, or right below the one titled ``after``."""
        titles = [title for title, _ in self._rows]
        place = titles.index(after) + 1 if after in titles else len(titles)
        self.set_rows([*self._rows[:place], *rows, *self._rows[place:]])

    @staticmethod
    def _add_row(form: QFormLayout, title: str, text: str) -> None:
        label, value = QLabel(title), QLabel(text)
        label.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        for shown in (label, value):
            shown.setTextFormat(Qt.TextFormat.PlainText)
        value.setWordWrap(True)
        value.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
            | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        value.setAccessibleName(f"{title}: {text}")
        if text[:1].isdigit() or text[:1] in "-dlcbps?":
            value.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        form.addRow(label, value)
