# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries as data that a program may take, extracted at the moment it does."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from PySide6.QtCore import QByteArray, QEventLoop, QMetaType, QMimeData, QUrl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.client.copying import CopyJob

URI_LIST = "text/uri-list"
GNOME_FILES = "x-special/gnome-copied-files"
OWN_ENTRIES = "application/x-lkl-explorer-entries"
"""Carried along so that the window knows its own drags, and does not extract to look at them."""


def file_uri(path: bytes) -> str:
    """``file://`` with every byte of a path kept, whatever its encoding."""
    return "file://" + quote_from_bytes(path)


class EntriesMimeData(QMimeData):
    """Offers files; extracts them once, at the first request for their places."""

    def __init__(
        self,
        names: list[bytes],
        make_folder: Callable[[], Path],
        begin_copy: Callable[[Path], CopyJob],
    ) -> None:
        super().__init__()
        self._names = names
        self._make_folder = make_folder
        self._begin_copy = begin_copy
        self._folder: Path | None = None
        self._job: CopyJob | None = None

    def formats(self) -> list[str]:
        """What other programs may ask for."""
        return [URI_LIST, GNOME_FILES, OWN_ENTRIES]

    def hasFormat(self, format_name: str) -> bool:
        """Whether it may be asked for."""
        return format_name in self.formats()

    def retrieveData(self, format_name: str, preferred: QMetaType | QMetaType.Type) -> object:
        """The data: for files, after they have been extracted."""
        if format_name == OWN_ENTRIES:
            return QByteArray(b"1")
        if format_name not in (URI_LIST, GNOME_FILES) or not self._extract():
            return None
        assert self._folder is not None
        folder = bytes(self._folder)
        uris = [file_uri(folder + b"/" + name) for name in self._names]
        wanted = preferred.id() if isinstance(preferred, QMetaType) else preferred.value
        if wanted == QMetaType.Type.QVariantList.value:
            # Programs within this process; Qt does not make a list of bytes from Python.
            return [QUrl.fromEncoded(uri.encode("ascii")) for uri in uris]
        if format_name == URI_LIST:
            return QByteArray("".join(f"{uri}\r\n" for uri in uris).encode("ascii"))
        return QByteArray("\n".join(["copy", *uris]).encode("ascii"))

    def _extract(self) -> bool:
        """Extracts the entries; False if that was cancelled or failed altogether."""
        if self._job is None:
            self._folder = self._make_folder()
            self._job = self._begin_copy(self._folder)
        if not self._job.ended:
            # The answer is due when this returns; the event loop goes on meanwhile.
            loop = QEventLoop()
            self._job.finished.connect(loop.quit)
            loop.exec()
        return self._job.error is None
