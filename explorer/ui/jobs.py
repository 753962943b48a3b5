# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies under way: how far they are, a way to stop them, and what they could not copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from explorer.core.messages import describe
from explorer.models.texts import size_text
from explorer.ui.icons import icon

if TYPE_CHECKING:
    from explorer.client.copying import CopyJob

KEEP_DONE_MS = 6000
"""How long the panel of a job that did all it should stays in sight."""


class JobView(QFrame):
    """One job."""

    closed = Signal()

    def __init__(self, job: CopyJob, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        translate = QCoreApplication.translate
        self.job = job
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self._icon = QLabel()
        self._title = QLabel(title)
        self._title.setTextFormat(Qt.TextFormat.PlainText)
        self._title.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._state = QLabel()
        self._state.setTextFormat(Qt.TextFormat.PlainText)
        self._bar = QProgressBar()
        self._bar.setTextVisible(job.total is not None)
        self._bar.setRange(0, 0 if job.total is None else 1000)
        self._bar.setAccessibleName(translate("Jobs", "Progress"))
        self._bar.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._show_errors = QPushButton()
        self._show_errors.setCheckable(True)
        self._show_errors.toggled.connect(self._toggle_errors)
        self._cancel = QPushButton(translate("Jobs", "Cancel"))
        self._cancel.clicked.connect(job.cancel)
        self._pause = QPushButton()
        self._pause.clicked.connect(self._toggle_pause)
        self._close = QToolButton(autoRaise=True)
        self._close.setToolTip(translate("Jobs", "Remove from the list"))
        self._close.setAccessibleName(self._close.toolTip())
        self._close.clicked.connect(self.closed)
        self.errors = QPlainTextEdit(readOnly=True)
        self.errors.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.errors.setMaximumHeight(110)
        self.errors.setAccessibleName(translate("Jobs", "What could not be copied"))
        self.errors.hide()
        self._copy = QPushButton(translate("Jobs", "Copy the list"))
        self._copy.clicked.connect(
            lambda: QGuiApplication.clipboard().setText("\n".join(self.job.failures))
        )
        self._copy.hide()
        layout = QGridLayout(self)
        layout.setContentsMargins(8, 4, 4, 4)
        layout.addWidget(self._icon, 0, 0)
        layout.addWidget(self._title, 0, 1)
        layout.addWidget(self._bar, 0, 2)
        layout.addWidget(self._state, 0, 3)
        buttons = QHBoxLayout()
        for button in (self._show_errors, self._copy, self._pause, self._cancel, self._close):
            buttons.addWidget(button)
        layout.addLayout(buttons, 0, 4)
        layout.addWidget(self.errors, 1, 1, 1, 4)
        layout.setColumnStretch(1, 3)
        layout.setColumnStretch(2, 1)
        self._listed = 0
        job.changed.connect(self._update)
        self._update()

    @property
    def state(self) -> str:
        """The line that says how far it is."""
        return self._state.text()

    def retint(self) -> None:
        """Draws the icons in the colours of the palette."""
        job = self.job
        name = "extract"
        if job.ended:
            name = "warning" if job.error is not None or job.errors else "done"
        self._icon.setPixmap(icon(name).pixmap(QSize(20, 20)))
        self._close.setIcon(icon("close"))

    def _update(self) -> None:
        job = self.job
        translate = QCoreApplication.translate
        entries = translate("Jobs", "%n entries", None, job.entries)
        text = f"{entries} · {size_text(job.written)}"
        if job.paused and not job.ended:
            text = translate("Jobs", "Paused") + f" · {text}"
        elif not job.ended:
            text += f" · {size_text(job.speed)}/s"
        elif job.cancelled:
            text = translate("Jobs", "Cancelled") + f" · {text}"
        elif job.error is not None:
            text = describe(job.error)
        else:
            text = translate("Jobs", "Done") + f" · {text}"
            skipped = sum(job.accounts.skipped) if job.accounts is not None else 0
            if skipped:
                text += " · " + translate("Jobs", "%n left out", None, skipped)
        self._state.setText(text)
        if job.total:
            self._bar.setValue(min(1000, job.written * 1000 // job.total))
        self._bar.setVisible(not job.ended)
        self._cancel.setVisible(not job.ended)
        self._pause.setVisible(not job.ended)
        self._pause.setText(
            translate("Jobs", "Go on") if job.paused else translate("Jobs", "Pause")
        )
        self._close.setVisible(job.ended)
        self._show_errors.setVisible(job.errors > 0)
        self._show_errors.setText(translate("Jobs", "%n failed", None, job.errors))
        for line in job.failures[self._listed :]:
            self.errors.appendPlainText(line)
        self._listed = len(job.failures)
        self.retint()

    def _toggle_pause(self) -> None:
        if self.job.paused:
            self.job.resume()
        else:
            self.job.pause()

    def _toggle_errors(self, shown: bool) -> None:
        self.errors.setVisible(shown)
        self._copy.setVisible(shown)


class JobPanel(QWidget):
    """All jobs; hidden when there are none."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        self.views: list[JobView] = []
        self.hide()

    @property
    def running(self) -> list[CopyJob]:
        """The jobs that have not ended."""
        return [view.job for view in self.views if not view.job.ended]

    def add(self, job: CopyJob, title: str) -> JobView:
        """Shows a job; one that did all it should leaves by itself."""
        view = JobView(job, title)
        job.setParent(view)
        view.closed.connect(lambda: self._remove(view))
        job.finished.connect(lambda: self._schedule_removal(view))
        self.views.append(view)
        self._layout.addWidget(view)
        self.show()
        return view

    def retint(self) -> None:
        """Draws the icons in the colours of the palette."""
        for view in self.views:
            view.retint()

    def close_all(self) -> None:
        """Ends all jobs, and waits for that; when the window closes."""
        for view in self.views:
            view.job.close()
        for view in self.views:
            view.job.wait_closed()

    def _schedule_removal(self, view: JobView) -> None:
        if view.job.error is None and not view.job.errors:
            timer = QTimer(view, interval=KEEP_DONE_MS, singleShot=True)
            timer.timeout.connect(lambda: self._remove(view))
            timer.start()

    def _remove(self, view: JobView) -> None:
        if view in self.views:
            self.views.remove(view)
            self._layout.removeWidget(view)
            view.deleteLater()
            self.setVisible(bool(self.views))
