# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The private folder for files that other programs take."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from itertools import count
from pathlib import Path


class TemporaryFolder:
    """A folder that only this user can enter, made when it is needed and removed at the end."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._numbers = count(1)

    def make(self) -> Path:
        """A new, empty folder in it."""
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix="lkl-explorer-"))
        folder = self._path / str(next(self._numbers))
        folder.mkdir(mode=0o700)
        return folder

    def remove(self) -> None:
        """Removes all of it, folders without write permission too."""
        if self._path is not None:
            path, self._path = self._path, None
            for folder, names, _ in os.walk(path):
                for name in names:
                    inner = Path(folder, name)
                    if not inner.is_symlink():
                        inner.chmod(stat.S_IRWXU)
            shutil.rmtree(path, ignore_errors=True)
