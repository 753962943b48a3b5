# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The views of what is open: tree at left, contents at right, preview below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, QModelIndex, QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QPixmap
from PySide6.QtWidgets import QListView, QSplitter, QStackedWidget, QTreeView, QVBoxLayout, QWidget

from explorer.core.entries import FileType
from explorer.models.directory import DirectoryModel
from explorer.models.texts import size_text
from explorer.models.tree import FolderTreeModel, Kind
from explorer.ui.contents import ContentsView
from explorer.ui.extraction import Selection
from explorer.ui.icons import tree_icon, type_icon
from explorer.ui.preview.pane import PreviewPane
from explorer.wire.messages import PATHS_LIMIT

if TYPE_CHECKING:
    from PySide6.QtCore import QSettings

    from explorer.models.location import Location

PREVIEW_DELAY_MS = 60
"""A row must be selected that long before it is read: keys held down move on."""


class Browser(QSplitter):
    """Shows one location, and tells what the user wants of it."""

    folder_chosen = Signal(object)
    """The :class:`Location` of a folder, a volume or a source to be shown."""
    link_chosen = Signal(object)
    """The :class:`Location` of a link to be followed."""
    file_chosen = Signal()
    """The entry selected is to be looked at."""
    menu_wanted = Signal(int, QPoint)
    """For a row of the contents, -1 for none, at a point of the screen."""
    changed = Signal()
    """The items shown or selected are others."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self.location: Location | None = None
        self._wanted_name = b""
        self.tree_model = FolderTreeModel(tree_icon, self)
        self.contents_model = DirectoryModel(type_icon, self)
        self.tree = self._make_tree()
        self.contents = ContentsView(self.contents_model)
        self.volumes = self._make_volumes()
        self.preview = PreviewPane()
        self._shown = QStackedWidget()
        self._shown.addWidget(self.contents)
        self._shown.addWidget(self.volumes)
        right = QWidget()
        self.column = QVBoxLayout(right)
        """What stands above the preview, from top to bottom."""
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(2)
        self.column.addWidget(self._shown, 1)
        self._vertical = QSplitter(Qt.Orientation.Vertical)
        self._vertical.addWidget(right)
        self._vertical.addWidget(self.preview)
        self._vertical.setStretchFactor(0, 3)
        self._vertical.setStretchFactor(1, 2)
        self._vertical.setCollapsible(0, False)
        self.addWidget(self.tree)
        self.addWidget(self._vertical)
        self.setStretchFactor(0, 0)
        self.setStretchFactor(1, 1)
        self.setCollapsible(1, False)
        self.setSizes([280, 820])
        self._preview_timer = QTimer(self, interval=PREVIEW_DELAY_MS, singleShot=True)
        self._preview_timer.timeout.connect(self._preview_selection)
        self._connect()

    def _make_tree(self) -> QTreeView:
        tree = QTreeView()
        tree.setModel(self.tree_model)
        tree.setHeaderHidden(True)
        tree.setUniformRowHeights(True)
        name = QCoreApplication.translate("Browser", "Sources, volumes and folders")
        tree.setAccessibleName(name)
        return tree

    def _make_volumes(self) -> QListView:
        volumes = QListView()
        volumes.setModel(self.tree_model)
        volumes.setAccessibleName(QCoreApplication.translate("Browser", "Volumes of the source"))
        volumes.setIconSize(volumes.iconSize() * 1.5)
        volumes.setSpacing(4)
        return volumes

    def _connect(self) -> None:
        self.tree.selectionModel().currentChanged.connect(self._enter_tree_row)
        self.volumes.activated.connect(self._enter_volume)
        self.contents.opened.connect(self.open_row)
        self.contents.selection_changed.connect(self._preview_timer.start)
        self.contents.selection_changed.connect(self.changed)
        self.contents.customContextMenuRequested.connect(self._want_menu)
        self.contents_model.loading_changed.connect(self._take_loading)
        self.contents_model.rowsInserted.connect(self.changed)
        self.contents_model.modelReset.connect(self.changed)

    # ---- What is shown

    def show_location(self, location: Location, name: bytes) -> None:
        """Shows a folder, or a source's volumes, with the entry called ``name`` current."""
        self.location = location
        self._wanted_name = name
        self.preview.clear_entry()
        index = self.tree_model.reveal(location)
        selection = self.tree.selectionModel()
        blocked = selection.blockSignals(True)
        self.tree.setCurrentIndex(index)
        selection.blockSignals(blocked)
        self.tree.viewport().update()
        self.tree.scrollTo(index)
        if self.shows_volumes:
            self.contents_model.clear()
            self.volumes.setRootIndex(index)
            self._shown.setCurrentWidget(self.volumes)
            self.changed.emit()
        else:
            self._shown.setCurrentWidget(self.contents)
            self.contents_model.open(location)

    @property
    def shows_volumes(self) -> bool:
        """Whether what is shown has volumes instead of folders: a source, or a volume of such."""
        here = self.location
        if here is None:
            return False
        volume = here.session.volume(here.volume)
        return here.volume is None or (
            volume is not None
            and not volume.mountable
            and (volume.locked or self.tree_model.hasChildren(self.tree_model.reveal(here)))
        )

    def show_nothing(self) -> None:
        """Shows no location."""
        self.location = None
        self.contents_model.clear()
        self.preview.clear_entry()

    def items_text(self) -> str:
        """How many items are shown, hidden and selected."""
        translate = QCoreApplication.translate
        here = self.location
        if here is None:
            return ""
        if self.shows_volumes:
            volumes = self.tree_model.rowCount(self.tree_model.reveal(here))
            return translate("Browser", "%n volumes", None, volumes)
        text = translate("Browser", "%n items", None, self.contents_model.rowCount())
        if self.contents_model.loading:
            text += " · " + translate("Browser", "reading…")
        if hidden := self.contents_model.hidden:
            text += " · " + translate("Browser", "%n hidden by the filter", None, hidden)
        if selected := self.selected_count():
            size = self.contents_model.total_size(self.contents.iter_selected_rows())
            chosen = translate("Browser", "%n selected", None, selected)
            text += f" · {chosen}" + (f", {size_text(size)}" if size else "")
        return text

    def _take_loading(self, loading: bool) -> None:
        here = self.contents_model.location
        if not loading and here is not None:
            self.tree_model.set_folders(here, self.contents_model.folder_names())
            if self._wanted_name:
                self.contents.select_name(self._wanted_name)
                self._wanted_name = b""
        self.changed.emit()

    # ---- What is selected

    def selected_count(self) -> int:
        """How many entries are selected."""
        return self.contents.selected_count()

    def is_file_selected(self) -> bool:
        """Whether one file is selected, and nothing else."""
        if self.selected_count() != 1:
            return False
        row = next(self.contents.iter_selected_rows())
        return self.contents_model.type(row) == FileType.FILE

    def current_name(self) -> bytes:
        """Name of the entry that has the cursor; empty for none."""
        row = self.contents.currentIndex().row()
        return self.contents_model.name(row) if row >= 0 else b""

    def current_picture(self) -> QPixmap:
        """The icon of that entry; an empty picture for none."""
        row = self.contents.currentIndex().row()
        return type_icon(self.contents_model.type(row)).pixmap(32, 32) if row >= 0 else QPixmap()

    def selection(self) -> Selection | None:
        """The entries selected, at most as many as one copy takes; None when there are none."""
        model, here = self.contents_model, self.contents_model.location
        # As many names as one copy takes: the shorter of the two ends it.
        rows = [row for row, _ in zip(self.contents.iter_selected_rows(), range(PATHS_LIMIT))]  # noqa: B905
        if here is None or not rows:
            return None
        are_files = all(model.type(row) == FileType.FILE for row in rows)
        total = model.total_size(rows) if are_files else None
        return Selection(here, [model.name(row) for row in rows], total)

    # ---- The preview

    def set_preview_visible(self, visible: bool) -> None:
        """Shows or hides the pane; what is selected is shown in it at once."""
        self.preview.setVisible(visible)
        self._preview_selection()

    def bring_preview(self) -> None:
        """Turns from the properties to what is in the entry."""
        if self.preview.currentWidget() is self.preview.properties:
            self.preview.setCurrentIndex(0)

    def _preview_selection(self) -> None:
        """Shows the entry selected; of several only how many there are."""
        translate = QCoreApplication.translate
        here, selected = self.location, self.selected_count()
        if not self.preview.isVisible():
            return
        if here is None or here.volume is None:
            self.preview.clear_entry()
        elif selected == 1:
            row = next(self.contents.iter_selected_rows())
            self.preview.show_entry(here.child(self.contents_model.name(row)))
        elif selected:
            self.preview.clear_entry(translate("Browser", "%n entries selected", None, selected))
        else:
            self.preview.clear_entry(translate("Browser", "Nothing selected"))

    # ---- What the user wants

    def open_row(self, row: int) -> None:
        """Opens an entry: a folder is shown, a link followed, anything else previewed."""
        here = self.location
        if here is None:
            return
        location = here.child(self.contents_model.name(row))
        match self.contents_model.type(row):
            case FileType.DIRECTORY:
                self.folder_chosen.emit(location)
            case FileType.LINK:
                self.link_chosen.emit(location)
            case _:
                self.file_chosen.emit()

    def _enter_tree_row(self, index: QModelIndex) -> None:
        location = self.tree_model.location(index)
        if location is not None and location != self.location and location.session.source:
            self.folder_chosen.emit(location)

    def _enter_volume(self, index: QModelIndex) -> None:
        location = self.tree_model.location(index)
        if location is not None and self.tree_model.kind(index) != Kind.FOLDER:
            self.folder_chosen.emit(location)

    def _want_menu(self, point: QPoint) -> None:
        row = self.contents.indexAt(point).row()
        self.menu_wanted.emit(row, self.contents.viewport().mapToGlobal(point))

    # ---- Settings

    def save(self, settings: QSettings) -> None:
        """Keeps the sizes of its parts."""
        settings.setValue("window/horizontal", self.saveState())
        settings.setValue("window/vertical", self._vertical.saveState())
        settings.setValue("window/columns", self.contents.horizontalHeader().saveState())

    def restore(self, settings: QSettings) -> None:
        """Takes the sizes that were kept, if there are any."""
        for key, restore in (
            ("window/horizontal", self.restoreState),
            ("window/vertical", self._vertical.restoreState),
            ("window/columns", self.contents.horizontalHeader().restoreState),
        ):
            saved = settings.value(key)
            if saved:
                restore(saved)
