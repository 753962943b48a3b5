# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What only the user can answer: passphrases, which files an image may name, what to replace.

The questions do not block: each calls back when it is answered, and not at all when it is not.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtWidgets import QAbstractButton, QCheckBox, QInputDialog, QLineEdit, QMessageBox

from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.core.times import short_time
from explorer.models.texts import size_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QWidget

    from explorer.core.entries import Entry
    from explorer.core.errors import ExplorerError
    from explorer.wire.writing import Conflict

NEEDS_PASSPHRASE = frozenset(
    {
        "image.passphrase-needed",
        "image.passphrase-wrong",
        "volume.locked",
        "volume.passphrase-wrong",
    }
)
"""Codes of errors that a passphrase helps against."""

NEEDS_CONSENT = "image.consent"


def ask_passphrase(window: QWidget, text: str, take: Callable[[bytes], None]) -> QInputDialog:
    """Ask for a passphrase; ``text`` says for what, and whether the last one was wrong."""
    dialog = QInputDialog(window)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.setWindowTitle(QCoreApplication.translate("Questions", "Unlock"))
    dialog.setLabelText(text)
    dialog.setTextEchoMode(QLineEdit.EchoMode.Password)
    dialog.setOkButtonText(QCoreApplication.translate("Questions", "Unlock"))
    dialog.textValueSelected.connect(lambda typed: take(typed.encode("utf-8")))
    dialog.open()
    return dialog


def ask_consent(
    window: QWidget, error: ExplorerError, take: Callable[[bytes], None]
) -> QMessageBox:
    """Ask whether an image may name files of another folder; ``take`` gets the folder."""
    box = QMessageBox(window)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setIcon(QMessageBox.Icon.Warning)
    translate = QCoreApplication.translate
    box.setWindowTitle(translate("Questions", "Allow another folder?"))
    box.setTextFormat(Qt.TextFormat.PlainText)
    text = translate("Questions", "This image wants to read a file outside its own folder: %1")
    box.setText(text.replace("%1", str(error.params.get("name", ""))))
    folder = translate("Questions", "It would be allowed to read the files in %1.")
    hint = translate("Questions", "Only allow it if you know that this file belongs to the image.")
    box.setInformativeText(
        "\n".join((folder.replace("%1", str(error.params.get("folder", ""))), hint))
    )
    box.setDetailedText(describe(error))
    allow = box.addButton(translate("Questions", "Allow"), QMessageBox.ButtonRole.AcceptRole)
    box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))

    def answer() -> None:
        if box.clickedButton() is allow:
            take(os.fsencode(str(error.params.get("allow", ""))))

    box.finished.connect(answer)
    box.open()
    return box


def ask_conflict(
    window: QWidget, conflict: Conflict, take: Callable[[str, bool], None]
) -> QMessageBox:
    """Ask what becomes of a file that exists: ``take`` gets the decision, and whether for all.

    A box that is closed leaves that one file as it is.
    """
    translate = QCoreApplication.translate
    box = QMessageBox(window)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle(translate("Questions", "Replace?"))
    box.setTextFormat(Qt.TextFormat.PlainText)
    text = translate("Questions", "%1 exists already.")
    box.setText(text.replace("%1", show_name(conflict.path[1:])))
    there = translate("Questions", "There: %1").replace("%1", _sketch(conflict.existing))
    new = translate("Questions", "In the image: %1").replace("%1", _sketch(conflict.new))
    box.setInformativeText(f"{there}\n{new}")
    for_all = QCheckBox(translate("Questions", "The same for all that follow"))
    box.setCheckBox(for_all)
    roles = QMessageBox.ButtonRole
    decisions: dict[QAbstractButton | None, str] = {
        box.addButton(translate("Questions", "Replace"), roles.DestructiveRole): "overwrite",
        box.addButton(translate("Questions", "Replace if newer"), roles.AcceptRole): "newer",
        box.addButton(translate("Questions", "Keep both"), roles.AcceptRole): "rename",
    }
    skip = box.addButton(translate("Questions", "Leave out"), roles.RejectRole)
    box.setDefaultButton(skip)
    box.setEscapeButton(skip)
    box.finished.connect(
        lambda: take(decisions.get(box.clickedButton(), "skip"), for_all.isChecked())
    )
    box.open()
    return box


def _sketch(entry: Entry) -> str:
    size = size_text(entry.size)
    return size if entry.modify_ns is None else f"{size}, {short_time(entry.modify_ns)}"
