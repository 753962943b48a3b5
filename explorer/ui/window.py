# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The main window: tree at left, contents at right, preview below them."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QEvent, QModelIndex, QPoint, QSettings, Qt, QTimer
from PySide6.QtGui import QAction, QDrag, QGuiApplication, QKeySequence
from PySide6.QtWidgets import (
    QFileDialog,
    QLabel,
    QLineEdit,
    QListView,
    QMainWindow,
    QMenu,
    QMessageBox,
    QSplitter,
    QStackedWidget,
    QToolBar,
    QTreeView,
    QVBoxLayout,
    QWidget,
)

from explorer.client.session import Session, State
from explorer.core.entries import FileType
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.models.directory import DirectoryModel
from explorer.models.location import Location, join_path
from explorer.models.texts import size_text
from explorer.models.tree import FolderTreeModel, Kind, volume_place
from explorer.ui.banner import Banner
from explorer.ui.contents import ContentsView
from explorer.ui.dragout.folder import TemporaryFolder
from explorer.ui.dragout.mime import OWN_ENTRIES, EntriesMimeData
from explorer.ui.history import History
from explorer.ui.icons import icon, tree_icon, type_icon
from explorer.ui.jobs import ExportJob, JobPanel
from explorer.ui.pathbar import PathBar
from explorer.ui.preview.pane import PreviewPane
from explorer.ui.startpage import StartPage
from explorer.wire.messages import (
    EXPORT_LIMIT,
    Counters,
    EntryRead,
    Export,
    OpenVolume,
    ReadCounters,
    Resolve,
    SourceOpened,
    VolumeOpened,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent

    from explorer.core.errors import EngineLost, ExplorerError

RECENT_LIMIT = 10
PREVIEW_DELAY_MS = 60
"""A row must be selected that long before it is read: keys held down move on."""
COUNTERS_MS = 2000
PROGRAM = "LKL Explorer"


class MainWindow(QMainWindow):
    """Opens sources, walks through them, takes files out of them."""

    def __init__(self, settings: QSettings, engine_command: Sequence[str] = ()) -> None:
        """``engine_command`` starts another engine than the program's own."""
        super().__init__()
        self._settings = settings
        self._engine_command = engine_command
        self._history = History()
        self._temporary = TemporaryFolder()
        self._sessions: list[Session] = []
        self._wanted_name = b""
        self._shown_volume: tuple[Session, int | None] | None = None
        self._volume: VolumeOpened | None = None
        self._icon_names: dict[QAction, str] = {}
        self.tree_model = FolderTreeModel(tree_icon, self)
        self.contents_model = DirectoryModel(type_icon, self)
        self._make_actions()
        self._make_views()
        self._make_tool_bar()
        self._make_menus()
        self._make_status_bar()
        self._connect()
        self.setAcceptDrops(True)
        self._restore()
        self._update_place()

    # ---- Making

    def _action(
        self,
        text: str,
        act: Callable[[], object],
        *,
        icon_name: str = "",
        keys: Sequence[QKeySequence | QKeySequence.StandardKey | str] = (),
    ) -> QAction:
        action = QAction(text, self)
        action.triggered.connect(lambda _checked=False: act())
        action.setShortcuts([QKeySequence(key) for key in keys])
        if icon_name:
            self._icon_names[action] = icon_name
            action.setIcon(icon(icon_name))
        if keys:
            shown = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
            action.setToolTip(f"{text.replace('&', '')} ({shown})")
        self.addAction(action)
        return action

    def _make_actions(self) -> None:
        translate = QCoreApplication.translate
        standard = QKeySequence.StandardKey
        self.open_action = self._action(
            translate("MainWindow", "&Open image…"),
            self._choose_image,
            icon_name="open",
            keys=[standard.Open],
        )
        self.close_action = self._action(
            translate("MainWindow", "&Close image"), self._close_current, keys=["Ctrl+W"]
        )
        self.quit_action = self._action(
            translate("MainWindow", "&Quit"), self.close, keys=["Ctrl+Q"]
        )
        self.back_action = self._action(
            translate("MainWindow", "&Back"), self._go_back, icon_name="back", keys=["Alt+Left"]
        )
        self.forward_action = self._action(
            translate("MainWindow", "&Forward"),
            self._go_forward,
            icon_name="forward",
            keys=["Alt+Right"],
        )
        self.up_action = self._action(
            translate("MainWindow", "&Up"),
            self._go_up,
            icon_name="up",
            keys=["Alt+Up", "Backspace"],
        )
        self.refresh_action = self._action(
            translate("MainWindow", "&Refresh"),
            self._refresh,
            icon_name="refresh",
            keys=["F5", "Ctrl+R"],
        )
        self.path_action = self._action(
            translate("MainWindow", "&Edit path"),
            lambda: self.path_bar.begin_edit(),
            keys=["Ctrl+L", "Alt+D", "F4"],
        )
        self.filter_action = self._action(
            translate("MainWindow", "&Filter names"),
            lambda: self.filter_edit.setFocus(),
            keys=["Ctrl+F"],
        )
        self.extract_action = self._action(
            translate("MainWindow", "&Extract to…"),
            self._choose_destination,
            icon_name="extract",
            keys=["Ctrl+E"],
        )
        self.copy_action = self._action(
            translate("MainWindow", "&Copy"), self._copy, icon_name="copy", keys=[standard.Copy]
        )
        self.copy_path_action = self._action(
            translate("MainWindow", "Copy &path"), self._copy_path, keys=["Ctrl+Shift+C"]
        )
        self.properties_action = self._action(
            translate("MainWindow", "P&roperties"),
            self._show_properties,
            icon_name="properties",
            keys=["Alt+Return", "Alt+Enter"],
        )
        self.preview_action = self._action(
            translate("MainWindow", "&Preview pane"), self._toggle_preview, keys=["Alt+P"]
        )
        self.preview_action.setCheckable(True)
        self.preview_action.setChecked(True)
        # These act on the contents only: elsewhere Ctrl+C and Backspace have their own meaning.
        for action in (self.copy_action, self.up_action):
            action.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)

    def _make_views(self) -> None:
        translate = QCoreApplication.translate
        self.tree = QTreeView()
        self.tree.setModel(self.tree_model)
        self.tree.setHeaderHidden(True)
        self.tree.setUniformRowHeights(True)
        self.tree.setAccessibleName(translate("MainWindow", "Sources, volumes and folders"))
        self.contents = ContentsView(self.contents_model)
        self.volumes = QListView()
        self.volumes.setModel(self.tree_model)
        self.volumes.setAccessibleName(translate("MainWindow", "Volumes of the source"))
        self.volumes.setIconSize(self.volumes.iconSize() * 1.5)
        self.volumes.setSpacing(4)
        self.volumes.activated.connect(self._enter_volume)
        for view in (self.contents, self.tree, self.volumes):
            view.addAction(self.up_action)
        self.contents.addAction(self.copy_action)
        self.banner = Banner()
        self.preview = PreviewPane()
        self.jobs = JobPanel()
        self._shown = QStackedWidget()
        self._shown.addWidget(self.contents)
        self._shown.addWidget(self.volumes)
        right = QWidget()
        column = QVBoxLayout(right)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.banner)
        column.addWidget(self._shown, 1)
        self._vertical = QSplitter(Qt.Orientation.Vertical)
        self._vertical.addWidget(right)
        self._vertical.addWidget(self.preview)
        self._vertical.setStretchFactor(0, 3)
        self._vertical.setStretchFactor(1, 2)
        self._vertical.setCollapsible(0, False)
        self._horizontal = QSplitter(Qt.Orientation.Horizontal)
        self._horizontal.addWidget(self.tree)
        self._horizontal.addWidget(self._vertical)
        self._horizontal.setStretchFactor(0, 0)
        self._horizontal.setStretchFactor(1, 1)
        self._horizontal.setCollapsible(1, False)
        self._horizontal.setSizes([280, 820])
        self.start_page = StartPage()
        self._pages = QStackedWidget()
        self._pages.addWidget(self.start_page)
        self._pages.addWidget(self._horizontal)
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(4, 0, 4, 0)
        layout.addWidget(self._pages, 1)
        layout.addWidget(self.jobs)
        self.setCentralWidget(page)
        self._preview_timer = QTimer(self, interval=PREVIEW_DELAY_MS, singleShot=True)
        self._preview_timer.timeout.connect(self._preview_selection)

    def _make_tool_bar(self) -> None:
        translate = QCoreApplication.translate
        bar = QToolBar(translate("MainWindow", "Navigation"))
        bar.setObjectName("navigation")
        bar.setMovable(False)
        self.path_bar = PathBar()
        self.filter_edit = QLineEdit()
        self.filter_edit.setPlaceholderText(translate("MainWindow", "Filter names"))
        self.filter_edit.setAccessibleName(self.filter_edit.placeholderText())
        self.filter_edit.setClearButtonEnabled(True)
        self.filter_edit.setMaximumWidth(200)
        bar.addActions([self.open_action])
        bar.addSeparator()
        bar.addActions([self.back_action, self.forward_action, self.up_action, self.refresh_action])
        bar.addWidget(self.path_bar)
        bar.addWidget(self.filter_edit)
        bar.addActions([self.extract_action])
        self.addToolBar(bar)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.NoContextMenu)

    def _make_menus(self) -> None:
        translate = QCoreApplication.translate
        menus = self.menuBar()
        file_menu = menus.addMenu(translate("MainWindow", "&File"))
        file_menu.addAction(self.open_action)
        self._recent_menu = file_menu.addMenu(translate("MainWindow", "Open &recent"))
        file_menu.addAction(self.close_action)
        file_menu.addSeparator()
        file_menu.addAction(self.extract_action)
        file_menu.addSeparator()
        file_menu.addAction(self.quit_action)
        edit_menu = menus.addMenu(translate("MainWindow", "&Edit"))
        edit_menu.addActions([self.copy_action, self.copy_path_action])
        edit_menu.addSeparator()
        edit_menu.addActions([self.filter_action, self.properties_action])
        go_menu = menus.addMenu(translate("MainWindow", "&Go"))
        go_menu.addActions(
            [self.back_action, self.forward_action, self.up_action, self.path_action]
        )
        view_menu = menus.addMenu(translate("MainWindow", "&View"))
        view_menu.addActions([self.refresh_action, self.preview_action])

    def _make_status_bar(self) -> None:
        bar = self.statusBar()
        self.items_label = QLabel()
        self.system_label = QLabel()
        self.written_label = QLabel()
        bar.addWidget(self.items_label, 1)
        bar.addPermanentWidget(self.system_label)
        bar.addPermanentWidget(self.written_label)
        self._counters = QTimer(self, interval=COUNTERS_MS)
        self._counters.timeout.connect(self._ask_counters)

    def _connect(self) -> None:
        self.start_page.open_wanted.connect(self._choose_image)
        self.start_page.recent_chosen.connect(self.open_path)
        self.tree.selectionModel().currentChanged.connect(self._enter_tree_row)
        self.tree_model.failed.connect(self._show_failure_at)
        self.path_bar.location_chosen.connect(self.go)
        self.path_bar.path_entered.connect(self._enter_path)
        self.filter_edit.textChanged.connect(self.contents_model.set_filter)
        self.filter_edit.returnPressed.connect(self.contents.setFocus)
        self.contents.opened.connect(self._open_row)
        self.contents.drag_begun.connect(self._drag)
        self.contents.selection_changed.connect(self._preview_timer.start)
        self.contents.selection_changed.connect(self._update_items)
        self.contents.customContextMenuRequested.connect(self._show_menu)
        self.contents_model.loading_changed.connect(self._take_loading)
        self.contents_model.failed.connect(self._take_contents_failure)
        self.contents_model.rowsInserted.connect(self._update_items)
        self.contents_model.modelReset.connect(self._update_items)

    # ---- Sources

    @property
    def location(self) -> Location | None:
        """What is shown; None while nothing is open."""
        return self._history.current

    def open_path(self, path: str | bytes) -> None:
        """Opens an image or device of the host."""
        session = Session(os.path.abspath(os.fsencode(path)), self, self._engine_command)  # noqa: PTH100 - bytes
        session.opened.connect(lambda source: self._take_source(session, source))
        session.failed.connect(lambda error: self._take_source_failure(session, error))
        session.lost.connect(lambda loss: self._take_loss(session, loss))
        self._sessions.append(session)
        self.tree_model.add_source(session)
        self._pages.setCurrentIndex(1)
        text = QCoreApplication.translate("MainWindow", "Opening %1…")
        text = text.replace("%1", session.name)
        self.items_label.setText(text)
        self.contents.show_message(text)
        session.open()

    def close_source(self, session: Session) -> None:
        """Closes a source and ends its engine."""
        was_shown = self.location is not None and self.location.session is session
        self._sessions.remove(session)
        self._history.forget(session)
        if was_shown:
            self.contents_model.clear()
            self.preview.clear_entry()
        self.tree_model.remove_source(session)
        session.close()
        if was_shown:
            self.banner.hide()
            if self.location is not None:
                self.go(self.location)
        self._update_place()

    def _take_source(self, session: Session, source: SourceOpened) -> None:
        self.tree_model.set_volumes(session, source)
        self._remember(os.fsdecode(session.path))
        self._counters.start()
        self._ask_counters()
        root = Location(session, None, b"/")
        self.tree.expand(self.tree_model.reveal(root))
        here = self.location
        if here is not None and here.session is session:
            # The engine was started again.
            self.go(here)
            return
        usable = [volume for volume in source.volumes if volume.mountable]
        self.go(root if len(usable) != 1 else Location(session, usable[0].number, b"/"))

    def _take_source_failure(self, session: Session, error: ExplorerError) -> None:
        # A source that never opened leaves; one that did stays, to be tried again.
        if session.source is None:
            self._sessions.remove(session)
            self.tree_model.remove_source(session)
            session.close()
            self._update_place()
            self._show_banner(describe(error))
        else:
            self._offer_restart(session, error)

    def _take_loss(self, session: Session, loss: EngineLost) -> None:
        self._offer_restart(session, loss)

    def _offer_restart(self, session: Session, error: ExplorerError) -> None:
        translate = QCoreApplication.translate
        log = error.params.get("log")
        self._place_banner()
        self.banner.show_text(
            f"{session.name}: {describe(error)}",
            translate("MainWindow", "Open again"),
            session.open,
            "\n".join(log) if isinstance(log, list) else "",
        )

    def _show_banner(self, text: str) -> None:
        self._place_banner()
        self.banner.show_text(text)

    def _place_banner(self) -> None:
        # Above the contents; where nothing is open, above the start page.
        holder = self._shown.parentWidget() if self._pages.currentIndex() else self.centralWidget()
        layout = holder.layout() if holder else None
        assert isinstance(layout, QVBoxLayout)
        layout.insertWidget(0, self.banner)

    def _close_current(self) -> None:
        if self.location is not None:
            self.close_source(self.location.session)

    # ---- Going places

    def go(self, location: Location, name: bytes = b"") -> None:
        """Shows a location, and makes the entry called ``name`` current there."""
        self._history.visit(location)
        self._show(location, name)

    def _show(self, location: Location, name: bytes = b"") -> None:
        self._wanted_name = name
        if self._shown_volume != location[:2]:
            self._shown_volume = location[:2]
            self._volume = None
        self.banner.hide()
        self.filter_edit.clear()
        self.preview.clear_entry()
        self._update_place()
        index = self.tree_model.reveal(location)
        selection = self.tree.selectionModel()
        blocked = selection.blockSignals(True)
        self.tree.setCurrentIndex(index)
        selection.blockSignals(blocked)
        self.tree.viewport().update()
        self.tree.scrollTo(index)
        if location.volume is None:
            self.contents_model.clear()
            self.volumes.setRootIndex(index)
            self._shown.setCurrentWidget(self.volumes)
            self._update_items()
            return
        self._shown.setCurrentWidget(self.contents)
        location.session.request(
            OpenVolume(location.volume), lambda opened: self._take_volume(location, opened)
        )
        self.contents_model.open(location)

    def _take_volume(self, location: Location, volume: VolumeOpened) -> None:
        here = self.location
        if here is not None and here[:2] == location[:2]:
            self._volume = volume
            self._update_place()

    def _go_back(self) -> None:
        if self._history.can_go_back:
            left = self.location
            self._show(self._history.back(), _name_below(self.location, left))

    def _go_forward(self) -> None:
        if self._history.can_go_forward:
            self._show(self._history.forward())

    def _go_up(self) -> None:
        here = self.location
        if here is not None and here.parent is not None:
            self.go(here.parent, here.path.rpartition(b"/")[2])

    def _refresh(self) -> None:
        here = self.location
        if here is None:
            return
        if here.session.state in (State.LOST, State.FAILED):
            here.session.open()
            return
        row = self.contents.currentIndex().row()
        self._show(here, self.contents_model.name(row) if row >= 0 else b"")

    def _enter_tree_row(self, index: QModelIndex) -> None:
        location = self.tree_model.location(index)
        if location is not None and location != self.location and location.session.source:
            self.go(location)

    def _enter_volume(self, index: QModelIndex) -> None:
        location = self.tree_model.location(index)
        if location is not None and self.tree_model.kind(index) != Kind.FOLDER:
            self.go(location)

    def _enter_path(self, text: str) -> None:
        here = self.location
        if here is None or here.volume is None:
            return
        # What was typed is text; a name that is no UTF-8 can be reached by clicking only.
        typed = os.fsencode(text.strip())
        self._resolve_and_go(here._replace(path=join_path(here.path, typed)), absolute=typed)

    def _open_row(self, row: int) -> None:
        here = self.location
        if here is None:
            return
        location = here.child(self.contents_model.name(row))
        match self.contents_model.type(row):
            case FileType.DIRECTORY:
                self.go(location)
            case FileType.LINK:
                self._resolve_and_go(location)
            case _:
                self._preview_in_front()

    def _resolve_and_go(self, location: Location, absolute: bytes = b"") -> None:
        """Goes to the folder that a path leads to through links, or to the file in its folder."""
        assert location.volume is not None
        path = absolute if absolute.startswith(b"/") else location.path

        def take(read: EntryRead) -> None:
            target = location._replace(path=read.path)
            if read.entry.type == FileType.DIRECTORY:
                self.go(target)
            elif target.parent is not None:
                self.go(target.parent, read.entry.name)

        location.session.request(
            Resolve(location.volume, path),
            take,
            lambda error: self._show_banner(describe(error)),
        )

    def _preview_in_front(self) -> None:
        self.preview_action.setChecked(True)
        self._toggle_preview()
        if self.preview.currentWidget() is self.preview.properties:
            self.preview.setCurrentIndex(0)

    # ---- What the model tells

    def _take_loading(self, loading: bool) -> None:
        here = self.contents_model.location
        if not loading and here is not None:
            self.tree_model.set_folders(here, self.contents_model.folder_names())
            if self._wanted_name:
                self.contents.select_name(self._wanted_name)
                self._wanted_name = b""
        self._update_items()

    def _take_contents_failure(self, error: ExplorerError) -> None:
        self.contents.show_message("")
        here = self.location
        # A lost engine has its own banner.
        if here is not None and here.session.state is State.OPEN:
            self._show_banner(describe(error))

    def _show_failure_at(self, location: Location, error: ExplorerError) -> None:
        if location != self.location and location.session.state is State.OPEN:
            self._show_banner(describe(error))

    # ---- What is shown beside

    def _preview_selection(self) -> None:
        """Shows the entry selected; of several only how many there are."""
        translate = QCoreApplication.translate
        here, selected = self.location, self.contents.selected_count()
        if not self.preview.isVisible():
            return
        if here is None or here.volume is None:
            self.preview.clear_entry()
        elif selected == 1:
            (name,) = self.selected_names()
            self.preview.show_entry(here.child(name))
        elif selected:
            self.preview.clear_entry(translate("MainWindow", "%n entries selected", None, selected))
        else:
            self.preview.clear_entry(translate("MainWindow", "Nothing selected"))

    def _toggle_preview(self) -> None:
        self.preview.setVisible(self.preview_action.isChecked())
        self._preview_selection()

    def _show_properties(self) -> None:
        self.preview_action.setChecked(True)
        self._toggle_preview()
        self.preview.show_properties()

    def _update_place(self) -> None:
        translate = QCoreApplication.translate
        here = self.location
        self._pages.setCurrentIndex(1 if self._sessions else 0)
        self.path_bar.set_location(here, self._volume_name(here))
        title = PROGRAM
        if here is not None:
            system = self._volume.type if self._volume else ""
            parts = [here.session.name, system, translate("MainWindow", "[Read-only]")]
            title = " - ".join(part for part in parts if part)
        self.setWindowTitle(title)
        self.system_label.setText(self._system_text())
        self.written_label.setVisible(here is not None)
        self.back_action.setEnabled(self._history.can_go_back)
        self.forward_action.setEnabled(self._history.can_go_forward)
        self.up_action.setEnabled(here is not None and here.parent is not None)
        for action in (self.refresh_action, self.close_action, self.path_action):
            action.setEnabled(here is not None)
        self.filter_edit.setEnabled(here is not None and here.volume is not None)
        self._update_items()

    def _volume_name(self, location: Location | None) -> str:
        if location is None or location.volume is None or location.session.source is None:
            return ""
        for volume in location.session.source.volumes:
            if volume.number == location.volume:
                return volume.label or volume_place(volume)
        return str(location.volume)

    def _system_text(self) -> str:
        volume = self._volume
        if volume is None:
            return ""
        translate = QCoreApplication.translate
        text = volume.type
        if volume.size:
            space = translate("MainWindow", "%1 free of %2")
            free, size = size_text(volume.free), size_text(volume.size)
            text += " · " + space.replace("%1", free).replace("%2", size)
        if volume.recovered:
            text += " · " + translate("MainWindow", "recovered in memory")
        elif volume.as_stored:
            text += " · " + translate("MainWindow", "as stored, not recovered")
        return text

    def _update_items(self) -> None:
        translate = QCoreApplication.translate
        here = self.location
        selected = self.contents.selected_count()
        for action in (self.extract_action, self.copy_action, self.copy_path_action):
            action.setEnabled(bool(selected) and self._shown.currentWidget() is self.contents)
        self.properties_action.setEnabled(selected == 1)
        if here is None:
            self.items_label.clear()
            return
        if here.volume is None:
            volumes = len(here.session.source.volumes) if here.session.source else 0
            self.items_label.setText(translate("MainWindow", "%n volumes", None, volumes))
            return
        text = translate("MainWindow", "%n items", None, self.contents_model.rowCount())
        if self.contents_model.loading:
            text += " · " + translate("MainWindow", "reading…")
        if hidden := self.contents_model.hidden:
            text += " · " + translate("MainWindow", "%n hidden by the filter", None, hidden)
        if selected:
            size = self.contents_model.total_size(self.contents.iter_selected_rows())
            chosen = translate("MainWindow", "%n selected", None, selected)
            text += f" · {chosen}" + (f", {size_text(size)}" if size else "")
        self.items_label.setText(text)

    def _ask_counters(self) -> None:
        here = self.location
        if here is not None and here.session.state is State.OPEN:
            here.session.request(ReadCounters(), self._take_counters)

    def _take_counters(self, counters: Counters) -> None:
        translate = QCoreApplication.translate
        text = translate("MainWindow", "Bytes written to the source: %1")
        self.written_label.setText(text.replace("%1", f"{counters.written_bytes:,}"))
        tip = translate("MainWindow", "Read: %1. Writes refused: %2. Kept in memory instead: %3.")
        self.written_label.setToolTip(
            tip.replace("%1", size_text(counters.read_bytes))
            .replace("%2", str(counters.refused_writes))
            .replace("%3", size_text(counters.overlay_bytes))
        )

    # ---- Taking files out

    def selected_names(self) -> list[bytes]:
        """Names of the rows selected, at most as many as one export takes."""
        rows = self.contents.iter_selected_rows()
        return [self.contents_model.name(row) for row, _ in zip(rows, range(EXPORT_LIMIT))]  # noqa: B905 - the shorter ends it

    def extract(self, names: list[bytes], folder: Path, *, replace: bool = False) -> ExportJob:
        """Begins to copy entries of the folder shown into a folder of the host."""
        here = self.location
        assert here is not None
        assert here.volume is not None
        paths = tuple(join_path(here.path, name) for name in names)
        request = Export(here.volume, paths, bytes(folder), replace)
        job = ExportJob(here.session, request, self._total_of(names))
        what = (
            show_name(names[0])
            if len(names) == 1
            else QCoreApplication.translate("MainWindow", "%n entries", None, len(names))
        )
        self.jobs.add(job, f"{what} → {show_name(bytes(folder))}")
        return job

    def _total_of(self, names: list[bytes]) -> int | None:
        """Bytes of the selection, when it is files only."""
        rows = list(self.contents.iter_selected_rows())
        if [self.contents_model.name(row) for row in rows] != names:
            return None
        if any(self.contents_model.type(row) != FileType.FILE for row in rows):
            return None
        return self.contents_model.total_size(rows)

    def _choose_destination(self) -> None:
        names = self.selected_names()
        if not names:
            return
        title = QCoreApplication.translate("MainWindow", "Extract to")
        folder = self._settings.value("extract/folder", str(Path.home()), type=str)
        dialog = QFileDialog(self, title, str(folder))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(lambda chosen: self._extract_to(names, Path(chosen)))
        dialog.open()

    def _extract_to(self, names: list[bytes], folder: Path) -> None:
        self._settings.setValue("extract/folder", str(folder))
        existing = [name for name in names if os.path.lexists(bytes(folder) + b"/" + name)]
        if not existing:
            self.extract(names, folder)
            return
        translate = QCoreApplication.translate
        box = QMessageBox(
            QMessageBox.Icon.Question,
            translate("MainWindow", "Replace?"),
            translate("MainWindow", "%n of them exist in that folder.", None, len(existing)),
            parent=self,
        )
        box.setInformativeText("\n".join(show_name(name) for name in existing[:10]))
        replace = box.addButton(
            translate("MainWindow", "Replace"), QMessageBox.ButtonRole.DestructiveRole
        )
        keep = box.addButton(
            translate("MainWindow", "Keep those"), QMessageBox.ButtonRole.AcceptRole
        )
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(keep)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        replace.clicked.connect(lambda: self.extract(names, folder, replace=True))
        keep.clicked.connect(lambda: self.extract(names, folder))
        box.open()

    def mime_data(self) -> EntriesMimeData:
        """The selection as files for other programs; extracted when one takes them."""
        names = self.selected_names()
        return EntriesMimeData(
            names, self._temporary.make, lambda folder: self.extract(names, folder)
        )

    def _drag(self) -> None:
        drag = QDrag(self.contents)
        drag.setMimeData(self.mime_data())
        row = self.contents.currentIndex().row()
        if row >= 0:
            kind = self.contents_model.type(row)
            drag.setPixmap(type_icon(kind).pixmap(32, 32))
        drag.exec(Qt.DropAction.CopyAction)

    def _copy(self) -> None:
        if self.contents.selected_count():
            QGuiApplication.clipboard().setMimeData(self.mime_data())

    def _copy_path(self) -> None:
        here = self.location
        if here is not None:
            names = self.selected_names()
            paths = [show_name(join_path(here.path, name)) for name in names]
            QGuiApplication.clipboard().setText("\n".join(paths))

    def _show_menu(self, point: QPoint) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        row = self.contents.indexAt(point).row()
        if row >= 0:
            text = QCoreApplication.translate("MainWindow", "&Open")
            menu.addAction(text, lambda: self._open_row(row))
            menu.addSeparator()
            menu.addActions([self.extract_action, self.copy_action, self.copy_path_action])
            menu.addSeparator()
            menu.addAction(self.properties_action)
        else:
            menu.addActions([self.refresh_action, self.up_action])
        menu.popup(self.contents.viewport().mapToGlobal(point))

    # ---- Opening

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

    def _recent_paths(self) -> list[str]:
        paths = self._settings.value("open/recent", [], type=list)
        return [str(path) for path in paths] if isinstance(paths, list) else []

    def _remember(self, path: str) -> None:
        known = [path, *(other for other in self._recent_paths() if other != path)]
        self._settings.setValue("open/recent", known[:RECENT_LIMIT])
        self._update_recent()

    def _update_recent(self) -> None:
        paths = self._recent_paths()
        self.start_page.set_recent(paths)
        self._recent_menu.clear()
        for path in paths:
            action = self._recent_menu.addAction(path.replace("&", "&&"))
            action.triggered.connect(partial(self.open_path, path))
        self._recent_menu.setEnabled(bool(paths))

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

    # ---- The window itself

    def _restore(self) -> None:
        self.resize(1100, 720)
        for key, restore in (
            ("window/geometry", self.restoreGeometry),
            ("window/horizontal", self._horizontal.restoreState),
            ("window/vertical", self._vertical.restoreState),
            ("window/columns", self.contents.horizontalHeader().restoreState),
        ):
            saved = self._settings.value(key)
            if saved:
                restore(saved)
        self._update_recent()

    def _save(self) -> None:
        for key, state in (
            ("window/geometry", self.saveGeometry()),
            ("window/horizontal", self._horizontal.saveState()),
            ("window/vertical", self._vertical.saveState()),
            ("window/columns", self.contents.horizontalHeader().saveState()),
        ):
            self._settings.setValue(key, state)

    def changeEvent(self, event: QEvent) -> None:
        """Draws the icons anew when the palette has changed."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and hasattr(self, "start_page"):
            for action, name in self._icon_names.items():
                action.setIcon(icon(name))
            for part in (self.banner, self.jobs, self.start_page):
                part.retint()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Ends all engines; what is being copied is stopped, and asked about first."""
        if self.jobs.running and not self._may_stop_jobs():
            event.ignore()
            return
        self._save()
        clipboard = QGuiApplication.clipboard()
        if isinstance(clipboard.mimeData(), EntriesMimeData):
            # Its files are about to go, and Python before the clipboard.
            clipboard.clear()
        self._counters.stop()
        for session in self._sessions:
            session.close()
        # Those closed before, too: their engines may still be about to end.
        for session in self.findChildren(Session):
            session.wait_closed()
        self._temporary.remove()
        super().closeEvent(event)

    def _may_stop_jobs(self) -> bool:
        translate = QCoreApplication.translate
        answer = QMessageBox.question(
            self,
            translate("MainWindow", "Stop copying?"),
            translate("MainWindow", "Files are still being copied. Stop and close?"),
        )
        return answer == QMessageBox.StandardButton.Yes


def _name_below(parent: Location | None, child: Location | None) -> bytes:
    """Name by which a folder shows a place below it, or nothing if it does not."""
    if parent is None or child is None or child.parent != parent:
        return b""
    return child.path.rpartition(b"/")[2]
