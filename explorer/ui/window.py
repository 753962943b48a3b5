# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The main window: how its parts are laid out, and what each tells the others."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QEvent, QPoint, QSettings, Qt
from PySide6.QtGui import QAction, QGuiApplication
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
from explorer.core.urls import is_url
from explorer.models.location import Location, join_path
from explorer.models.tree import volume_place, volume_text
from explorer.ui.banner import Banner
from explorer.ui.browser import Browser
from explorer.ui.commands import Commands
from explorer.ui.dragout.mime import OWN_ENTRIES
from explorer.ui.extraction import Extraction
from explorer.ui.jobs import JobPanel
from explorer.ui.navigation import Navigation
from explorer.ui.pathbar import PathBar
from explorer.ui.questions import NEEDS_CONSENT, NEEDS_PASSPHRASE, ask_consent, ask_passphrase
from explorer.ui.recent import RecentMenu
from explorer.ui.sources import Sources
from explorer.ui.startpage import StartPage
from explorer.ui.status import StatusBar
from explorer.wire.messages import (
    FindSubvolumes,
    OpenSource,
    OpenVolume,
    SourceOpened,
    Unlock,
    VolumeOpened,
    VolumesFound,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent

    from explorer.client.session import Session
    from explorer.core.errors import ExplorerError
    from explorer.core.volume import Volume
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
        commands.open_together.triggered.connect(self._choose_images)
        commands.open_inside.triggered.connect(self._with_selection(self._open_inside))
        commands.views.triggered.connect(self._set_view)
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

    def open_path(self, *paths: str | bytes) -> None:
        """Opens an image or device of the host; several make one source."""
        raw_paths = map(os.fsencode, paths)
        absolute = (
            path if is_url(path) else os.path.abspath(path)  # noqa: PTH100 - bytes
            for path in raw_paths
        )
        self.open_source(OpenSource(tuple(absolute)))

    def open_source(self, wanted: OpenSource, passphrases: tuple[bytes, ...] = ()) -> None:
        """Opens a source, with passphrases for what is encrypted on the way to it."""
        session = self.sources.add(wanted)
        self.browser.tree_model.add_source(session)
        self._pages.setCurrentWidget(self.browser)
        text = QCoreApplication.translate("MainWindow", "Opening %1…")
        text = text.replace("%1", session.name)
        self.status.items.setText(text)
        self.browser.contents.show_message(text)
        session.open(passphrases)

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
        # Where rows go away the tree makes another one current, which is not where the user goes.
        blocked = tree.selectionModel().blockSignals(True)
        model.set_volumes(session, source.volumes)
        tree.selectionModel().blockSignals(blocked)
        self.recent.remember(os.fsdecode(session.path))
        self.start_page.set_recent(self.recent.paths)
        root = Location(session, None, b"/")
        tree.expand(model.reveal(root))
        here = self.location
        if here is not None and here.session is session:
            # The engine was started again; what was unlocked is locked again.
            if here.volume is None or session.volume(here.volume) is not None:
                self.navigation.show_again(b"")
            else:
                self.navigation.go(root)
            return
        usable = [volume for volume in source.volumes if volume.mountable]
        one = len(usable) == 1
        self.navigation.go(Location(session, usable[0].number, b"/") if one else root)

    def _take_refusal(self, session: Session, error: ExplorerError) -> None:
        self.browser.tree_model.remove_source(session)
        self._update_place()
        wanted = session.wanted
        if error.code in NEEDS_PASSPHRASE:
            ask_passphrase(self, describe(error), lambda typed: self.open_source(wanted, (typed,)))
        elif error.code == NEEDS_CONSENT:
            ask_consent(
                self,
                error,
                lambda folder: self.open_source(replace(wanted, allowed=(*wanted.allowed, folder))),
            )
        else:
            self._show_error(error)

    def _offer_restart(self, session: Session, error: ExplorerError) -> None:
        log = error.params.get("log")
        if session.source is not None:
            # Volumes may be marked now.
            self.browser.tree_model.update_volumes(session, session.source.volumes)
        self._place_banner()
        self.banner.show_text(
            f"{session.name}: {describe(error)}",
            QCoreApplication.translate("MainWindow", "Start again"),
            session.open,
            "\n".join(log) if isinstance(log, list) else "",
        )

    def _offer_try_again(self, location: Location, error: ExplorerError) -> None:
        session, volume = location.session, location.session.volume(location.volume)

        def try_again() -> None:
            if volume is not None and session.source is not None:
                session.try_again(volume)
                self.browser.tree_model.update_volumes(session, session.source.volumes)
                self.navigation.go(location)

        self._place_banner()
        self.banner.show_text(
            f"{session.name}: {describe(error)}",
            QCoreApplication.translate("MainWindow", "Try again"),
            try_again,
        )

    def _close_current(self) -> None:
        if self.location is not None:
            self.close_source(self.location.session)

    def _choose_image(self) -> None:
        dialog = self._make_file_dialog(
            QCoreApplication.translate("MainWindow", "Open a disk image"),
            QFileDialog.FileMode.ExistingFile,
        )
        dialog.fileSelected.connect(lambda path: self._open_chosen([path]))
        dialog.open()

    def _choose_images(self) -> None:
        dialog = self._make_file_dialog(
            QCoreApplication.translate("MainWindow", "Open images that belong together"),
            QFileDialog.FileMode.ExistingFiles,
        )
        dialog.filesSelected.connect(self._open_chosen)
        dialog.open()

    def _make_file_dialog(self, title: str, mode: QFileDialog.FileMode) -> QFileDialog:
        folder = self._settings.value("open/folder", str(Path.home()), type=str)
        dialog = QFileDialog(self, title, str(folder))
        dialog.setFileMode(mode)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        return dialog

    def _open_chosen(self, paths: Sequence[str]) -> None:
        self._settings.setValue("open/folder", str(Path(paths[0]).parent))
        self.open_path(*paths)

    def _open_inside(self, selection: Selection) -> None:
        """Opens a file of the image as an image itself."""
        folder = selection.folder
        volume = folder.session.volume(folder.volume)
        if volume is None or len(selection.names) != 1:
            return
        path = os.fsdecode(join_path(folder.path, selection.names[0]))
        wanted = folder.session.wanted
        self.open_source(
            replace(
                wanted,
                inside=(*wanted.inside, f"{volume.name}:{path}"),
                format="",
                snapshot="",
                member="",
            )
        )

    def _set_view(self, action: QAction) -> None:
        """Looks at the source in another way, with an engine of its own."""
        here = self.location
        if here is not None and here.session.wanted.view != action.data():
            here.session.wanted = replace(here.session.wanted, view=action.data())
            here.session.open()

    # ---- Volumes

    def _ask_to_unlock(self, location: Location, volume: Volume, failure: str = "") -> None:
        text = QCoreApplication.translate("MainWindow", "Passphrase for %1:")
        text = text.replace("%1", volume_text(volume))
        ask_passphrase(
            self,
            f"{failure}\n\n{text}" if failure else text,
            lambda typed: self._unlock(location, volume, typed),
        )

    def _unlock(self, location: Location, volume: Volume, passphrase: bytes) -> None:
        known = (
            {one.number for one in location.session.source.volumes}
            if (location.session.source)
            else set()
        )

        def take(found: VolumesFound) -> None:
            self._take_volumes(location.session, found)
            new = [one for one in found.volumes if one.number not in known and one.mountable]
            if len(new) == 1:
                self.navigation.go(location._replace(volume=new[0].number))
            else:
                self.browser.tree.expand(self.browser.tree_model.reveal(location))
                self.navigation.show_again(b"")

        def fail(error: ExplorerError) -> None:
            if error.code in NEEDS_PASSPHRASE:
                self._ask_to_unlock(location, volume, describe(error))
            else:
                self._show_error(error)

        location.session.request(Unlock(volume.number, passphrase), take, fail)

    def _take_volumes(self, session: Session, found: VolumesFound) -> None:
        session.take_volumes(found)
        self.browser.tree_model.update_volumes(session, found.volumes)

    # ---- What is shown

    def _show(self, location: Location, name: bytes) -> None:
        if self._shown_volume != location[:2]:
            self._shown_volume = location[:2]
            self._volume = None
        self.banner.hide()
        self.filter_edit.clear()
        self._update_place()
        volume = location.session.volume(location.volume)
        self.browser.show_location(location, name)
        if volume is not None and volume.locked:
            self._ask_to_unlock(location, volume)
        elif location.volume is not None and not self.browser.shows_volumes:
            location.session.request(
                OpenVolume(location.volume), lambda opened: self._take_volume(location, opened)
            )

    def _take_volume(self, location: Location, volume: VolumeOpened) -> None:
        here = self.location
        if here is not None and here[:2] == location[:2]:
            self._volume = volume
            self._update_place()
        if volume.type == "btrfs" and location.volume is not None:
            session = location.session
            session.request(
                FindSubvolumes(location.volume),
                lambda found: self._take_volumes(session, found),
            )

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
        commands.views.setEnabled(here is not None)
        for action in commands.views.actions():
            action.setChecked(here is not None and action.data() == here.session.wanted.view)
        for action in (commands.refresh, commands.close, commands.edit_path):
            action.setEnabled(here is not None)
        self.filter_edit.setEnabled(here is not None and here.volume is not None)
        self._update_items()

    def _update_items(self) -> None:
        commands, selected = self.commands, self.browser.selected_count()
        for action in (commands.extract, commands.copy, commands.copy_path):
            action.setEnabled(selected > 0)
        commands.properties.setEnabled(selected == 1)
        commands.open_inside.setEnabled(self.browser.is_file_selected())
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
            if error.code == "volume.marked":
                self._offer_try_again(here, error)
            else:
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
        self.jobs.close_all()
        self.sources.close_all()
        self.extraction.remove_files()
        super().closeEvent(event)


def _volume_name(location: Location | None) -> str:
    if location is None or location.volume is None:
        return ""
    volume = location.session.volume(location.volume)
    return str(location.volume) if volume is None else volume.label or volume_place(volume)


def _copy_paths(selection: Selection) -> None:
    """Puts paths on the clipboard, as they are shown."""
    paths = [show_name(join_path(selection.folder.path, name)) for name in selection.names]
    QGuiApplication.clipboard().setText("\n".join(paths))
