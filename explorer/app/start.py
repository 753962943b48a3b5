# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts the window.

The order: a look whether there is a screen at all; the folders; the crash log, so that whatever
follows leaves a trace; Qt; settings; the window; and last the images named as arguments, each in
an engine of its own. What an earlier window left that was killed is removed meanwhile.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import traceback
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, TextIO

import appdirs

from explorer import __version__
from explorer.host.display import missing_display

if TYPE_CHECKING:
    from types import TracebackType

    from PySide6.QtCore import QSettings

NAME = "lkl-explorer"
EXIT_NO_DISPLAY = 69
"""There is no screen to show a window on."""
WAKE_MS = 200


def start(argv: list[str]) -> int:
    """Opens the window, with the images of ``argv``; returns the process's exit code."""
    reason = missing_display()
    if reason:
        print(f"{NAME}: {reason}", file=sys.stderr)
        print(f"{NAME}: without a window, try: {NAME} ls IMAGE", file=sys.stderr)
        return EXIT_NO_DISPLAY
    log = _open_crash_log(Path(appdirs.user_log_dir(NAME)))
    if log is not None:
        faulthandler.enable(file=log)
    sys.excepthook = _Reporter(log)

    # Qt costs a tenth of a second, and is of no use without a screen.
    from PySide6.QtCore import QTimer
    from PySide6.QtWidgets import QApplication

    from explorer.ui.dragout.folder import remove_left_folders
    from explorer.ui.icons import application_icon
    from explorer.ui.plurals import EnglishPlurals
    from explorer.ui.window import MainWindow

    application = QApplication([NAME])
    application.setApplicationName(NAME)
    application.setApplicationDisplayName("")
    application.setApplicationVersion(__version__)
    application.setDesktopFileName(NAME)
    application.setWindowIcon(application_icon())
    plurals = EnglishPlurals(application)
    application.installTranslator(plurals)
    window = MainWindow(make_settings(Path(appdirs.user_config_dir(NAME))))
    window.show()
    for path in argv:
        window.open_path(path)
    Thread(target=remove_left_folders, daemon=True).start()

    # Ctrl+C in the terminal closes the window; Python sees a signal only while it runs.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: window.close())
    waker = QTimer(interval=WAKE_MS)
    waker.timeout.connect(lambda: None)
    waker.start()
    return application.exec()


def make_settings(folder: Path) -> QSettings:
    """The settings' file, in a folder of its own."""
    from PySide6.QtCore import QSettings

    return QSettings(str(folder / "settings.ini"), QSettings.Format.IniFormat)


def _open_crash_log(folder: Path) -> TextIO | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / "crash.log").open("a", encoding="utf-8")
    except OSError as error:
        # A home that cannot be written to is no reason not to show images.
        print(f"{NAME}: no crash log: {error}", file=sys.stderr)
        return None


class _Reporter:
    """Keeps what nobody caught: in the log and on standard error; the window goes on."""

    def __init__(self, log: TextIO | None) -> None:
        self._log = log

    def __call__(
        self,
        kind: type[BaseException],
        error: BaseException,
        trace: TracebackType | None,
    ) -> None:
        for stream in (sys.stderr, self._log):
            if stream is not None:
                traceback.print_exception(kind, error, trace, file=stream)
                stream.flush()
