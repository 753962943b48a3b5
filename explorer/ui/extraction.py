# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking files out of a source: into a folder, by a drag, by the clipboard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PySide6.QtCore import QCoreApplication, QObject, Qt
from PySide6.QtGui import QDrag, QGuiApplication
from PySide6.QtWidgets import QFileDialog, QMessageBox, QWidget

from explorer.client.copying import CopyJob
from explorer.core.names import show_name
from explorer.host.processes import may_keep_owners
from explorer.models.location import join_path
from explorer.ui.dragout.folder import TemporaryFolder
from explorer.ui.dragout.mime import EntriesMimeData
from explorer.ui.questions import ask_conflict
from explorer.wire.messages import Pack
from explorer.wire.writing import Write

if TYPE_CHECKING:
    from PySide6.QtCore import QSettings
    from PySide6.QtGui import QPixmap

    from explorer.models.location import Location
    from explorer.ui.jobs import JobPanel
    from explorer.wire.writing import Conflict

LISTED_NAMES = 10
"""Names that a question shows; of more there is only the number."""


class Selection(NamedTuple):
    """Entries of one folder."""

    folder: Location
    names: list[bytes]
    """At most ``PATHS_LIMIT``."""
    total: int | None
    """Bytes of them, where that is known without walking folders."""


class Extraction(QObject):
    """Begins copies and shows them in a panel; asks before it replaces anything."""

    def __init__(self, settings: QSettings, jobs: JobPanel, window: QWidget) -> None:
        """``window`` is what the dialogs belong to."""
        super().__init__(window)
        self._settings = settings
        self._jobs = jobs
        self._window = window
        self._temporary = TemporaryFolder()

    def begin(self, selection: Selection, folder: Path, *, conflicts: str = "skip") -> CopyJob:
        """Begins to copy entries into a folder of the host.

        ``conflicts`` is what becomes of files that exist there: ``skip``, ``overwrite`` or ``ask``.
        """
        there, names = selection.folder, selection.names
        assert there.volume is not None
        paths = tuple(join_path(there.path, name) for name in names)
        pack = Pack(there.volume, paths)
        write = Write(
            sink="folder",
            destination=bytes(folder),
            conflicts=conflicts,
            owner=may_keep_owners(),
            expected=selection.total or 0,
        )
        job = CopyJob(there.session, pack, write, selection.total)
        job.asked.connect(lambda conflict: self._ask(job, conflict))
        what = (
            show_name(names[0])
            if len(names) == 1
            else QCoreApplication.translate("Extraction", "%n entries", None, len(names))
        )
        self._jobs.add(job, f"{what} → {show_name(bytes(folder))}")
        return job

    def choose_folder(self, selection: Selection) -> None:
        """Lets the user choose where the entries go."""
        title = QCoreApplication.translate("Extraction", "Extract to")
        folder = self._settings.value("extract/folder", str(Path.home()), type=str)
        dialog = QFileDialog(self._window, title, str(folder))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda chosen: self.extract(selection, Path(chosen)))
        dialog.open()

    def extract(self, selection: Selection, folder: Path) -> None:
        """Copies entries into a folder; asks first what becomes of those that exist there."""
        self._settings.setValue("extract/folder", str(folder))
        target = bytes(folder)
        existing = [name for name in selection.names if os.path.lexists(join_path(target, name))]
        if not existing:
            self.begin(selection, folder)
            return
        translate = QCoreApplication.translate
        box = QMessageBox(
            QMessageBox.Icon.Question,
            translate("Extraction", "Replace?"),
            translate("Extraction", "%n of them exist in that folder.", None, len(existing)),
            parent=self._window,
        )
        lines = [show_name(name) for name in existing[:LISTED_NAMES]]
        if any(os.path.isdir(join_path(target, name)) for name in existing):  # noqa: PTH112 - bytes
            lines += [
                "",
                translate("Extraction", "Folders are merged: the choice is for the files."),
            ]
        box.setInformativeText("\n".join(lines))
        replace = box.addButton(
            translate("Extraction", "Replace"), QMessageBox.ButtonRole.DestructiveRole
        )
        keep = box.addButton(
            translate("Extraction", "Keep those"), QMessageBox.ButtonRole.AcceptRole
        )
        each = box.addButton(translate("Extraction", "Ask me"), QMessageBox.ButtonRole.ActionRole)
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(keep)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        replace.clicked.connect(lambda: self.begin(selection, folder, conflicts="overwrite"))
        keep.clicked.connect(lambda: self.begin(selection, folder))
        each.clicked.connect(lambda: self.begin(selection, folder, conflicts="ask"))
        box.open()

    def _ask(self, job: CopyJob, conflict: Conflict) -> None:
        box = ask_conflict(
            self._window,
            conflict,
            lambda decision, for_all: job.decide(conflict, decision, for_all=for_all),
        )
        # Nobody waits for an answer any more.
        job.finished.connect(box.close)

    def mime_data(self, selection: Selection) -> EntriesMimeData:
        """The entries as files for other programs; extracted when one takes them."""
        return EntriesMimeData(
            selection.names, self._temporary.make, lambda folder: self.begin(selection, folder)
        )

    def drag(self, source: QWidget, selection: Selection, picture: QPixmap) -> None:
        """Drags the entries from a widget; returns when they were dropped, or not."""
        drag = QDrag(source)
        drag.setMimeData(self.mime_data(selection))
        drag.setPixmap(picture)
        drag.exec(Qt.DropAction.CopyAction)

    def copy(self, selection: Selection) -> None:
        """Puts the entries on the clipboard."""
        QGuiApplication.clipboard().setMimeData(self.mime_data(selection))

    def may_stop(self) -> bool:
        """Whether nothing is being copied, or the user lets it be stopped."""
        if not self._jobs.running:
            return True
        translate = QCoreApplication.translate
        answer = QMessageBox.question(
            self._window,
            translate("Extraction", "Stop copying?"),
            translate("Extraction", "Files are still being copied. Stop and close?"),
        )
        return answer == QMessageBox.StandardButton.Yes

    def clear_clipboard(self) -> None:
        """Takes entries off the clipboard: their files are about to go, and Python before it."""
        clipboard = QGuiApplication.clipboard()
        if isinstance(clipboard.mimeData(), EntriesMimeData):
            clipboard.clear()

    def remove_files(self) -> None:
        """Removes what was extracted for other programs; when all engines have ended."""
        self._temporary.remove()
