# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What only the user can answer: passphrases, and which files an image may name.

The questions do not block: each calls back when it is answered, and not at all when it is not.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtWidgets import QInputDialog, QLineEdit, QMessageBox

from explorer.core.messages import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QWidget

    from explorer.core.errors import ExplorerError

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
