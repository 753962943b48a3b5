# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A program for the drag test: the window, a folder's entries selected, at a known place.

Arguments: image, folder in it, settings file. Prints, as JSON, where the mouse must press.
"""

from __future__ import annotations

import json
import signal
import sys

from PySide6.QtCore import QPoint, QSettings, QTimer
from PySide6.QtWidgets import QApplication

from explorer.ui.window import MainWindow

application = QApplication([])
image, folder, settings = sys.argv[1:]
window = MainWindow(QSettings(settings, QSettings.Format.IniFormat))
window.setGeometry(0, 0, 900, 700)
window.show()
window.open_path(image)


def step() -> None:
    """Goes on as soon as it can: first to the folder, then to the selection."""
    here, model = window.location, window.browser.contents_model
    if window.browser.contents.selected_count():
        return
    path = folder.encode()
    if here is None or model.location is None or model.loading:
        return
    if here.path != path:
        window.navigation.go(here._replace(path=path))
    elif model.rowCount():
        window.browser.contents.selectAll()
        place = window.browser.contents.visualRect(model.index(0, 0)).center()
        point = window.browser.contents.viewport().mapToGlobal(QPoint(40, place.y()))
        print(json.dumps([point.x(), point.y()]), flush=True)


# The timer runs on, so that Python sees the signal; closing removes what was extracted.
signal.signal(signal.SIGTERM, lambda _number, _frame: window.close())
timer = QTimer(interval=50)
timer.timeout.connect(step)
timer.start()
application.exec()
