# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The private folders for files that other programs take.

All stand in one folder of the user's, each named by its process: ``NUMBER-START-random``. So what a
process that was killed has left can be told from what another window still needs.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path

from explorer.host.processes import process_start

PREFIX = "lkl-explorer-"
_NAME = re.compile(r"(\d{1,10})-(\d{1,20})-\w+", re.ASCII)


class TemporaryFolder:
    """A folder that only this user can enter, made when it is needed and removed at the end."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._numbers = count(1)

    def make(self) -> Path:
        """A new, empty folder in it."""
        if self._path is None:
            number = os.getpid()
            prefix = f"{number}-{process_start(number)}-"
            self._path = Path(tempfile.mkdtemp(prefix=prefix, dir=_make_common_folder()))
        folder = self._path / str(next(self._numbers))
        folder.mkdir(mode=0o700)
        return folder

    def remove(self) -> None:
        """Removes all of it."""
        if self._path is not None:
            path, self._path = self._path, None
            _remove(path)


def remove_left_folders() -> None:
    """Removes what processes have left that are no more; leaves anything else alone."""
    common = _common_folder()
    if not _is_private(common):
        return
    for folder in common.iterdir():
        match = _NAME.fullmatch(folder.name)
        if match is None or not _is_private(folder):
            continue
        number, start = map(int, match.groups())
        if process_start(number) != start:
            _remove(folder)


def _common_folder() -> Path:
    return Path(tempfile.gettempdir(), f"{PREFIX}{os.getuid()}")


def _make_common_folder() -> Path:
    common = _common_folder()
    common.mkdir(mode=0o700, exist_ok=True)
    # Anybody may have taken its name; then this process has a place of its own.
    return common if _is_private(common) else Path(tempfile.mkdtemp(prefix=PREFIX))


def _is_private(path: Path) -> bool:
    """Whether it is a folder, no link to one, that this user alone can enter."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    mode = found.st_mode
    return stat.S_ISDIR(mode) and found.st_uid == os.getuid() and not mode & 0o077


def _remove(path: Path) -> None:
    """Removes a private folder, with folders in it that forbid that; follows no link."""
    for folder, names, _ in os.walk(path):
        for name in names:
            inner = Path(folder, name)
            # Another window may be removing the same at this moment.
            with suppress(OSError):
                if not inner.is_symlink():
                    inner.chmod(stat.S_IRWXU)
    shutil.rmtree(path, ignore_errors=True)
