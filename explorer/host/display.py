# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a window can be shown here.

Qt ends the process when it cannot: it has to be asked before Qt tries.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

X_SOCKETS = "/tmp/.X11-unix"


def missing_display() -> str:
    """Why no window can be shown, as one line; empty when one can."""
    if sys.platform != "linux" or os.environ.get("QT_QPA_PLATFORM"):
        return ""
    if os.environ.get("WAYLAND_DISPLAY"):
        return ""
    display = os.environ.get("DISPLAY", "")
    if not display:
        return "there is no screen: neither DISPLAY nor WAYLAND_DISPLAY is set"
    host, _, rest = display.rpartition(":")
    if host not in ("", "unix"):
        # Another machine's: Qt finds out.
        return ""
    number = rest.split(".")[0]
    if not _answers(f"{X_SOCKETS}/X{number}"):
        return f"there is no screen: nothing answers at DISPLAY={display}"
    return _missing_library()


def _answers(path: str) -> bool:
    # Servers listen there, in the abstract name space, or both.
    for name in (path, "\0" + path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.connect(name)
            except OSError:
                continue
            return True
    return False


def _missing_library() -> str:
    from PySide6.QtCore import QLibrary, QLibraryInfo

    plugins = Path(QLibraryInfo.path(QLibraryInfo.LibraryPath.PluginsPath))
    library = QLibrary(str(plugins / "platforms" / "libqxcb.so"))
    if library.load():
        return ""
    return f"Qt cannot use the screen: {library.errorString()}"
