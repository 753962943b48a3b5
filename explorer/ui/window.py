# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The main window: how its parts are laid out, and what each tells the others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QEvent, QPoint, QSettings, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QFileDialog,
    QLineEdit,
    QMainWindow,
    QStackedWidget,
    QToolBar,
    QVBoxLayout,
    QWidget,
)

from explorer.client.session import State
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.models.location import Location, join_path
from explorer.models.tree import volume_place
from explorer.ui.banner import Banner
from explorer.ui.browser import Browser
from explorer.ui.commands import Commands
from explorer.ui.dragout.mime import OWN_ENTRIES
from explorer.ui.extraction import Extraction
from explorer.ui.jobs import JobPanel
from explorer.ui.navigation import Navigation
from explorer.ui.pathbar import PathBar
from explorer.ui.recent import RecentMenu
from explorer.ui.sources import Sources
from explorer.ui.startpage import StartPage
from explorer.ui.status import StatusBar
from explorer.wire.messages import OpenVolume, SourceOpened, VolumeOpened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent

    from explorer.client.session import Session
    from explorer.core.errors import ExplorerError
    from explorer.ui.extraction import Selection

PROGRAM = "LKL Explorer"


class MainWindow(QMainWindow):
    """Opens sources, walks through them, takes files out of them."""

    def __init__(self, settings: QSettings, engine_command: Sequence[str] = ()) -> None:
        """``engine_command`` starts another engine than the program's own."""
        super().__init__()
        self._settings = settings
        self._shown_volume: tuple[Session, int | None] | None = None
        self._volume: VolumeOpened | None = None
        self.sources = Sources(engine_command, self)
        self.navigation = Navigation(self)
        self.commands = Commands(self)
        self.browser = Browser()
        self.banner = Banner()
        self.start_page = StartPage()
        self.jobs = JobPanel()
        self.extraction = Extraction(settings, self.jobs, self)
        self.recent = RecentMenu(settings, self)
        self.path_bar = PathBar()
        self.filter_edit = self._make_filter_edit()
        self.status = StatusBar()
        self._lay_out()
        self._connect_commands()
        self._connect_parts()
        self.setAcceptDrops(True)
        self._restore()
        self._update_place()

    # ---- Making

    @staticmethod
    def _make_filter_edit() -> QLineEdit:
        edit = QLineEdit()
        edit.setPlaceholderText(QCoreApplication.translate("MainWindow", "Filter names"))
        edit.setAccessibleName(edit.placeholderText())
        edit.setClearButtonEnabled(True)
        edit.setMaximumWidth(200)
        return edit

    def _lay_out(self) -> None:
        self._pages = QStackedWidget()
        self._pages.addWidget(self.start_page)
        self._pages.addWidget(self.browser)
        page = QWidget()
        self._column = QVBoxLayout(page)
        self._column.setContentsMargins(4, 0, 4, 0)
        self._column.addWidget(self._pages, 1)
        self._column.addWidget(self.jobs)
        self.setCentralWidget(page)
        self._place_banner()
        bar = QToolBar(QCoreApplication.translate("MainWindow", "Navigation"))
        bar.setObjectName("navigation")
        bar.setMovable(False)
        self.commands.fill_tool_bar(bar, self.path_bar, self.filter_edit)
        self.addToolBar(bar)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.NoContextMenu)
        self.commands.fill_menu_bar(self.menuBar(), self.recent)
        self.setStatusBar(self.status)
        browser = self.browser
        for view in (browser.contents, browser.tree, browser.volumes):
            view.addAction(self.commands.up)
        browser.contents.addAction(self.commands.copy)

    def _connect_commands(self) -> None:
        commands, navigation, extraction = self.commands, self.navigation, self.extraction
        commands.open.triggered.connect(self._choose_image)
        commands.close.triggered.connect(self._close_current)
        commands.quit.triggered.connect(self.close)
        commands.back.triggered.connect(navigation.go_back)
        commands.forward.triggered.connect(navigation.go_forward)
        commands.up.triggered.connect(navigation.go_up)
        commands.refresh.triggered.connect(self._refresh)
        commands.edit_path.triggered.connect(self.path_bar.begin_edit)
        commands.filter_names.triggered.connect(lambda: self.filter_edit.setFocus())
        commands.extract.triggered.connect(self._with_selection(extraction.choose_folder))
        commands.copy.triggered.connect(self._with_selection(extraction.copy))
        commands.copy_path.triggered.connect(self._with_selection(_copy_paths))
        commands.properties.triggered.connect(self._show_properties)
        commands.preview.toggled.connect(self.browser.set_preview_visible)

    def _connect_parts(self) -> None:
        browser, navigation = self.browser, self.navigation
        self.start_page.open_wanted.connect(self._choose_image)
        self.start_page.recent_chosen.connect(self.open_path)
        self.recent.chosen.connect(self.open_path)
        self.sources.opened.connect(self._take_source)
        self.sources.refused.connect(self._take_refusal)
        self.sources.failed.connect(self._offer_restart)
        navigation.moved.connect(self._show)
        navigation.failed.connect(self._show_error)
        self.path_bar.location_chosen.connect(navigation.go)
        self.path_bar.path_entered.connect(navigation.enter_path)
        self.filter_edit.textChanged.connect(browser.contents_model.set_filter)
        self.filter_edit.returnPressed.connect(browser.contents.setFocus)
        browser.folder_chosen.connect(navigation.go)
        browser.link_chosen.connect(navigation.follow)
        browser.file_chosen.connect(self._show_preview)
        browser.menu_wanted.connect(self._show_menu)
        browser.changed.connect(self._update_items)
        browser.contents.drag_begun.connect(self._with_selection(self._drag))
        browser.contents_model.failed.connect(self._take_contents_failure)
        browser.tree_model.failed.connect(self._take_tree_failure)

    def _with_selection(self, act: Callable[[Selection], None]) -> Callable[[], None]:
        """Does something with what is selected, if anything is."""

        def act_now() -> None:
            selection = self.browser.selection()
            if selection is not None:
                act(selection)

        return act_now

    # ---- Sources

    @property
    def location(self) -> Location | None:
        """What is shown; None while nothing is open."""
        return self.navigation.location

    def open_path(self, path: str | bytes) -> None:
        """Opens an image or device of the host."""
        session = self.sources.add(path)
        self.browser.tree_model.add_source(session)
        self._pages.setCurrentWidget(self.browser)
        text = QCoreApplication.translate("MainWindow", "Opening %1…")
        text = text.replace("%1", session.name)
        self.status.items.setText(text)
        self.browser.contents.show_message(text)
        session.open()

    def close_source(self, session: Session) -> None:
        """Closes a source and ends its engine."""
        was_shown = self.location is not None and self.location.session is session
        self.navigation.forget(session)
        if was_shown:
            self.banner.hide()
            self.browser.show_nothing()
        self.browser.tree_model.remove_source(session)
        self.sources.close(session)
        if was_shown:
            self.navigation.show_again(b"")
        self._update_place()

    def _take_source(self, session: Session, source: SourceOpened) -> None:
        tree, model = self.browser.tree, self.browser.tree_model
        model.set_volumes(session, source)
        self.recent.remember(os.fsdecode(session.path))
        self.start_page.set_recent(self.recent.paths)
        root = Location(session, None, b"/")
        tree.expand(model.reveal(root))
        here = self.location
        if here is not None and here.session is session:
            # The engine was started again.
            self.navigation.show_again(b"")
            return
        usable = [volume for volume in source.volumes if volume.mountable]
        one = len(usable) == 1
        self.navigation.go(Location(session, usable[0].number, b"/") if one else root)

    def _take_refusal(self, session: Session, error: ExplorerError) -> None:
        self.browser.tree_model.remove_source(session)
        self._update_place()
        self._show_error(error)

    def _offer_restart(self, session: Session, error: ExplorerError) -> None:
        log = error.params.get("log")
        self._place_banner()
        self.banner.show_text(
            f"{session.name}: {describe(error)}",
            QCoreApplication.translate("MainWindow", "Open again"),
            session.open,
            "\n".join(log) if isinstance(log, list) else "",
        )

    def _close_current(self) -> None:
        if self.location is not None:
            self.close_source(self.location.session)

    def _choose_image(self) -> None:
        title = QCoreApplication.translate("MainWindow", "Open a disk image")
        folder = self._settings.value("open/folder", str(Path.home()), type=str)
        dialog = QFileDialog(self, title, str(folder))
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self._open_chosen)
        dialog.open()

    def _open_chosen(self, path: str) -> None:
        self._settings.setValue("open/folder", str(Path(path).parent))
        self.open_path(path)

    # ---- What is shown

    def _show(self, location: Location, name: bytes) -> None:
        if self._shown_volume != location[:2]:
            self._shown_volume = location[:2]
            self._volume = None
        self.banner.hide()
        self.filter_edit.clear()
        self._update_place()
        if location.volume is not None:
            location.session.request(
                OpenVolume(location.volume), lambda opened: self._take_volume(location, opened)
            )
        self.browser.show_location(location, name)

    def _take_volume(self, location: Location, volume: VolumeOpened) -> None:
        here = self.location
        if here is not None and here[:2] == location[:2]:
            self._volume = volume
            self._update_place()

    def _refresh(self) -> None:
        here = self.location
        if here is None:
            return
        if here.session.state in (State.LOST, State.FAILED):
            here.session.open()
        else:
            self.navigation.show_again(self.browser.current_name())

    def _update_place(self) -> None:
        here, commands, navigation = self.location, self.commands, self.navigation
        self._pages.setCurrentWidget(self.browser if self.sources else self.start_page)
        self.path_bar.set_location(here, _volume_name(here))
        title = PROGRAM
        if here is not None:
            system = self._volume.type if self._volume else ""
            read_only = QCoreApplication.translate("MainWindow", "[Read-only]")
            title = " - ".join(part for part in (here.session.name, system, read_only) if part)
        self.setWindowTitle(title)
        self.status.show_volume(self._volume)
        self.status.watch(here.session if here is not None else None)
        commands.back.setEnabled(navigation.can_go_back)
        commands.forward.setEnabled(navigation.can_go_forward)
        commands.up.setEnabled(here is not None and here.parent is not None)
        for action in (commands.refresh, commands.close, commands.edit_path):
            action.setEnabled(here is not None)
        self.filter_edit.setEnabled(here is not None and here.volume is not None)
        self._update_items()

    def _update_items(self) -> None:
        commands, selected = self.commands, self.browser.selected_count()
        for action in (commands.extract, commands.copy, commands.copy_path):
            action.setEnabled(selected > 0)
        commands.properties.setEnabled(selected == 1)
        self.status.items.setText(self.browser.items_text())

    def _show_preview(self) -> None:
        self.commands.preview.setChecked(True)
        self.browser.bring_preview()

    def _show_properties(self) -> None:
        self.commands.preview.setChecked(True)
        self.browser.preview.show_properties()

    def _show_menu(self, row: int, point: QPoint) -> None:
        if row >= 0:
            menu = self.commands.make_entry_menu(lambda: self.browser.open_row(row))
        else:
            menu = self.commands.make_folder_menu()
        menu.popup(point)

    def _drag(self, selection: Selection) -> None:
        browser = self.browser
        self.extraction.drag(browser.contents, selection, browser.current_picture())

    # ---- What went wrong

    def _place_banner(self) -> None:
        # Above the contents; where nothing is open, above the start page.
        is_open = self._pages.currentWidget() is self.browser
        (self.browser.column if is_open else self._column).insertWidget(0, self.banner)

    def _show_error(self, error: ExplorerError) -> None:
        self._place_banner()
        self.banner.show_text(describe(error))

    def _take_contents_failure(self, error: ExplorerError) -> None:
        self.browser.contents.show_message("")
        here = self.location
        # A lost engine has its own banner.
        if here is not None and here.session.state is State.OPEN:
            self._show_error(error)

    def _take_tree_failure(self, location: Location, error: ExplorerError) -> None:
        if location != self.location and location.session.state is State.OPEN:
            self._show_error(error)

    # ---- The window itself

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Takes files of the host, but not the window's own entries."""
        data = event.mimeData()
        if not data.hasFormat(OWN_ENTRIES) and data.hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Opens what was dropped."""
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            event.acceptProposedAction()
        for path in paths:
            self.open_path(path)

    def _restore(self) -> None:
        self.resize(1100, 720)
        geometry = self._settings.value("window/geometry")
        if geometry:
            self.restoreGeometry(geometry)
        self.browser.restore(self._settings)
        self.start_page.set_recent(self.recent.paths)

    def changeEvent(self, event: QEvent) -> None:
        """Draws the icons anew when the palette has changed."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and hasattr(self, "status"):
            for part in (self.commands, self.banner, self.jobs, self.start_page):
                part.retint()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Ends all engines; what is being copied is stopped, and asked about first."""
        if not self.extraction.may_stop():
            event.ignore()
            return
        self._settings.setValue("window/geometry", self.saveGeometry())
        self.browser.save(self._settings)
        self.extraction.clear_clipboard()
        self.status.watch(None)
        self.sources.close_all()
        self.extraction.remove_files()
        super().closeEvent(event)


def _volume_name(location: Location | None) -> str:
    if location is None or location.volume is None or location.session.source is None:
        return ""
    for volume in location.session.source.volumes:
        if volume.number == location.volume:
            return volume.label or volume_place(volume)
    return str(location.volume)


def _copy_paths(selection: Selection) -> None:
    """Puts paths on the clipboard, as they are shown."""
    paths = [show_name(join_path(selection.folder.path, name)) for name in selection.names]
    QGuiApplication.clipboard().setText("\n".join(paths))
