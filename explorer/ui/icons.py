# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The project's icons, drawn in the colours of the window's palette.

An icon is a file in ``resources/icons`` that uses two colours: ink, which becomes the palette's
text, and accent, which becomes its highlight.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray, QSize, Qt
from PySide6.QtGui import QColor, QGuiApplication, QIcon, QPainter, QPalette, QPixmap
from PySide6.QtSvg import QSvgRenderer

from explorer.core.entries import FileType

if TYPE_CHECKING:
    from explorer.models.tree import Kind

INK = "#111111"
ACCENT = "#2a7fff"
SIZES = (16, 20, 24, 32, 48, 64)

_TYPE_ICONS = {
    FileType.DIRECTORY: "folder",
    FileType.FILE: "file",
    FileType.LINK: "link",
    FileType.BLOCK_DEVICE: "device",
    FileType.CHARACTER_DEVICE: "device",
    FileType.FIFO: "pipe",
    FileType.SOCKET: "socket",
    FileType.UNKNOWN: "other",
}


def resource_path(name: str) -> Path:
    """A file of the program's resources."""
    frozen = getattr(sys, "_MEIPASS", None)
    root = Path(frozen) if frozen else Path(__file__).resolve().parents[2]
    return root / "resources" / name


def icon(name: str) -> QIcon:
    """An icon in the colours that the palette has now."""
    return _tinted(name, QGuiApplication.palette().cacheKey())


def type_icon(kind: int) -> QIcon:
    """The icon of a :class:`FileType`."""
    return icon(_TYPE_ICONS[FileType(kind)])


def tree_icon(kind: Kind) -> QIcon:
    """The icon of a row of the tree."""
    return icon(kind.value)


def application_icon() -> QIcon:
    """The program's own icon, the same in every palette."""
    return QIcon(str(resource_path("icons/application.svg")))


@cache
def _tinted(name: str, _palette_key: int) -> QIcon:
    drawing = resource_path(f"icons/{name}.svg").read_text(encoding="utf-8")
    palette = QGuiApplication.palette()
    active, disabled = QPalette.ColorGroup.Active, QPalette.ColorGroup.Disabled
    text, highlight = QPalette.ColorRole.WindowText, QPalette.ColorRole.Highlight
    selected = palette.color(active, QPalette.ColorRole.HighlightedText)
    faded = palette.color(disabled, text)
    result = QIcon()
    for mode, ink, accent in (
        (QIcon.Mode.Normal, palette.color(active, text), palette.color(active, highlight)),
        (QIcon.Mode.Disabled, faded, faded),
        (QIcon.Mode.Selected, selected, selected),
    ):
        for size in SIZES:
            result.addPixmap(_draw(drawing, size, ink, accent), mode)
    return result


def _draw(drawing: str, size: int, ink: QColor, accent: QColor) -> QPixmap:
    coloured = drawing.replace(INK, ink.name()).replace(ACCENT, accent.name())
    pixmap = QPixmap(QSize(size, size))
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    QSvgRenderer(QByteArray(coloured.encode())).render(painter)
    painter.end()
    return pixmap
