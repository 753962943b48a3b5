# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be done in the window: the actions with their keys, and the menus that offer them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import QMenu

from explorer.core.views import View
from explorer.ui.icons import icon

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PySide6.QtWidgets import QMenuBar, QToolBar, QWidget

    Keys = Sequence[QKeySequence | QKeySequence.StandardKey | str]


class Commands:
    """The actions of one window; whoever acts connects to their signals."""

    def __init__(self, window: QWidget) -> None:
        translate = QCoreApplication.translate
        standard = QKeySequence.StandardKey
        self._window = window
        self._icon_names: dict[QAction, str] = {}
        make = self._make
        self.open = make(translate("Commands", "&Open image…"), [standard.Open], "open")
        self.open_together = make(translate("Commands", "Open images that &belong together…"), [])
        self.open_inside = make(translate("Commands", "Open as &image"), ["Ctrl+PgDown"])
        self.close = make(translate("Commands", "&Close image"), ["Ctrl+W"])
        self.quit = make(translate("Commands", "&Quit"), ["Ctrl+Q"])
        self.back = make(translate("Commands", "&Back"), ["Alt+Left"], "back")
        self.forward = make(translate("Commands", "&Forward"), ["Alt+Right"], "forward")
        self.up = make(translate("Commands", "&Up"), ["Alt+Up", "Backspace"], "up")
        self.refresh = make(translate("Commands", "&Refresh"), ["F5", "Ctrl+R"], "refresh")
        self.edit_path = make(translate("Commands", "&Edit path"), ["Ctrl+L", "Alt+D", "F4"])
        self.filter_names = make(translate("Commands", "&Filter names"), ["Ctrl+F"])
        self.extract = make(translate("Commands", "&Extract to…"), ["Ctrl+E"], "extract")
        self.copy = make(translate("Commands", "&Copy"), [standard.Copy], "copy")
        self.copy_path = make(translate("Commands", "Copy &path"), ["Ctrl+Shift+C"])
        self.properties = make(
            translate("Commands", "P&roperties"), ["Alt+Return", "Alt+Enter"], "properties"
        )
        self.preview = make(translate("Commands", "&Preview pane"), ["Alt+P"])
        self.preview.setCheckable(True)
        self.preview.setChecked(True)
        self.views = self._make_views()
        # These act on the contents only: elsewhere Ctrl+C and Backspace have their own meaning.
        for action in (self.copy, self.up):
            action.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)

    def _make_views(self) -> QActionGroup:
        """The ways to look at what was not closed cleanly; an action's data is the view."""
        translate = QCoreApplication.translate
        group = QActionGroup(self._window)
        for view, text in (
            (View.AUTO, translate("Commands", "&Recovered where needed")),
            (View.STORED, translate("Commands", "As &stored")),
            (View.RECOVERED, translate("Commands", "Always re&covered")),
        ):
            action = self._make(text, [])
            action.setCheckable(True)
            action.setData(view.value)
            group.addAction(action)
        return group

    def _make(self, text: str, keys: Keys, icon_name: str = "") -> QAction:
        action = QAction(text, self._window)
        action.setShortcuts([QKeySequence(key) for key in keys])
        if icon_name:
            self._icon_names[action] = icon_name
            action.setIcon(icon(icon_name))
        if keys:
            shown = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
            action.setToolTip(f"{text.replace('&', '')} ({shown})")
        self._window.addAction(action)
        return action

    def retint(self) -> None:
        """Draws the icons in the colours of the palette."""
        for action, name in self._icon_names.items():
            action.setIcon(icon(name))

    def fill_tool_bar(self, bar: QToolBar, path_bar: QWidget, filter_edit: QWidget) -> None:
        """Puts the actions used most beside the path and the filter."""
        bar.addActions([self.open])
        bar.addSeparator()
        bar.addActions([self.back, self.forward, self.up, self.refresh])
        bar.addWidget(path_bar)
        bar.addWidget(filter_edit)
        bar.addActions([self.extract])

    def fill_menu_bar(self, bar: QMenuBar, recent: QMenu) -> None:
        """Offers every action; ``recent`` becomes a menu in the first one."""
        translate = QCoreApplication.translate
        files = bar.addMenu(translate("Commands", "&File"))
        files.addActions([self.open, self.open_together])
        files.addMenu(recent)
        files.addAction(self.close)
        files.addSeparator()
        files.addAction(self.extract)
        files.addSeparator()
        files.addAction(self.quit)
        edit = bar.addMenu(translate("Commands", "&Edit"))
        edit.addActions([self.copy, self.copy_path])
        edit.addSeparator()
        edit.addActions([self.filter_names, self.properties])
        go = bar.addMenu(translate("Commands", "&Go"))
        go.addActions([self.back, self.forward, self.up, self.edit_path])
        view = bar.addMenu(translate("Commands", "&View"))
        view.addActions([self.refresh, self.preview])
        view.addSeparator()
        view.addActions(self.views.actions())

    def make_entry_menu(self, open_entry: Callable[[], None]) -> QMenu:
        """What can be done with an entry; deleted when it closes."""
        menu = self._make_menu()
        menu.addAction(QCoreApplication.translate("Commands", "&Open"), open_entry)
        menu.addAction(self.open_inside)
        menu.addSeparator()
        menu.addActions([self.extract, self.copy, self.copy_path])
        menu.addSeparator()
        menu.addAction(self.properties)
        return menu

    def make_folder_menu(self) -> QMenu:
        """What can be done where no entry is; deleted when it closes."""
        menu = self._make_menu()
        menu.addActions([self.refresh, self.up])
        return menu

    def _make_menu(self) -> QMenu:
        menu = QMenu(self._window)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        return menu
