# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The contents of a folder as a flat table.

Columns are kept in arrays, about 100 bytes an entry, so that a folder may hold millions. Rows are
appended while they are read and arranged (sorted, filtered) in slices when the folder is whole; a
small folder is whole before the first row is shown. ``index`` and ``flags`` stay Qt's own: in
Python they would make selecting everything ten times slower.
"""

from __future__ import annotations

from array import array
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import (
    QAbstractTableModel,
    QCoreApplication,
    QElapsedTimer,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    Qt,
    QTimer,
    Signal,
)

from explorer.core.entries import MASK_MODE, MASK_SIZE, FileType
from explorer.core.names import show_name
from explorer.models.sorting import iter_sorted, natural_key
from explorer.models.texts import exact_time_text, mode_text, size_text, time_text
from explorer.wire.messages import (
    LINKS_LIMIT,
    Entries,
    LinksRead,
    ListDirectory,
    Listed,
    ReadLinks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from PySide6.QtGui import QIcon

    from explorer.client.engine import Call
    from explorer.core.entries import Entry
    from explorer.core.errors import ExplorerError
    from explorer.models.location import Location

    Index = QModelIndex | QPersistentModelIndex

SHOW_MS = 100
"""How often rows that came are shown while a folder is read."""
SLICE_MS = 8
"""How long rows are arranged before the event loop gets its turn."""
NO_TIME = -(1 << 63)

ItemRole = Qt.ItemDataRole


class Column(IntEnum):
    """The table's columns, in order."""

    NAME = 0
    SIZE = 1
    MODIFIED = 2
    MODE = 3
    OWNER = 4
    LINKS = 5
    INODE = 6


def _column_title(column: Column) -> str:
    translate = QCoreApplication.translate
    match column:
        case Column.NAME:
            return translate("Contents", "Name")
        case Column.SIZE:
            return translate("Contents", "Size")
        case Column.MODIFIED:
            return translate("Contents", "Modified")
        case Column.MODE:
            return translate("Contents", "Mode")
        case Column.OWNER:
            return translate("Contents", "Owner")
        case Column.LINKS:
            return translate("Contents", "Links")
        case Column.INODE:
            return translate("Contents", "Inode")


RIGHT_ALIGNED = {Column.SIZE, Column.LINKS, Column.INODE}
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter


class _Columns:
    """What is known of the entries, by the order in which they came."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.types = bytearray()
        self.errors = array("i")
        self.masks = array("I")
        self.sizes = array("Q")
        self.times = array("q")
        self.modes = array("H")
        self.owners = array("Q")
        self.links = array("I")
        self.inodes = array("Q")

    def __len__(self) -> int:
        return len(self.names)

    def take(self, entries: Iterable[Entry]) -> None:
        """Appends the entries of one batch."""
        for entry in entries:
            self.names.append(entry.name)
            self.types.append(entry.type)
            self.errors.append(entry.error)
            self.masks.append(entry.mask)
            self.sizes.append(entry.size)
            moment = entry.modify_ns
            self.times.append(NO_TIME if moment is None else _bounded(moment))
            self.modes.append(entry.mode)
            self.owners.append(entry.uid << 32 | entry.gid)
            self.links.append(entry.links)
            self.inodes.append(entry.inode)


def _bounded(moment: int) -> int:
    """Nanoseconds as 64 bits: 292 years to either side, beyond which times are only extreme."""
    return max(NO_TIME + 1, min(moment, (1 << 63) - 1))


class DirectoryModel(QAbstractTableModel):
    """Shows the entries of one folder; :meth:`open` another at any time."""

    loading_changed = Signal(bool)
    failed = Signal(object)
    """The :class:`ExplorerError` why the folder could not be read, or not to its end."""

    def __init__(
        self, icon_of: Callable[[int], QIcon] | None = None, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.location: Location | None = None
        self._icon_of = icon_of
        self._columns = _Columns()
        self._order = array("I")
        self._targets: dict[int, bytes | None] = {}
        self._wanted: list[int] = []
        self._call: Call | None = None
        self._sort = (Column.NAME, Qt.SortOrder.AscendingOrder)
        self._filter = ""
        self._shown_filter = ""
        self._arranging: Generator[None, None, array[int]] | None = None
        self._show_timer = QTimer(self, interval=SHOW_MS)
        self._show_timer.timeout.connect(self._show_new_rows)
        self._slices = QTimer(self, interval=0)
        self._slices.timeout.connect(self._arrange_slice)
        self._links_timer = QTimer(self, interval=0, singleShot=True)
        self._links_timer.timeout.connect(self._request_links)

    # ---- Loading

    @property
    def loading(self) -> bool:
        """Whether entries are still read or arranged."""
        return self._call is not None or self._arranging is not None

    def open(self, location: Location) -> None:
        """Shows another folder, or the same one as it is now."""
        assert location.volume is not None
        self.clear()
        self.location = location
        self._call = location.session.request(
            ListDirectory(location.volume, location.path),
            self._take_end,
            self._take_failure,
            self._take_entries,
        )
        self._show_timer.start()
        self.loading_changed.emit(True)

    def clear(self) -> None:
        """Shows nothing."""
        self._end_loading()
        self.beginResetModel()
        self.location = None
        self._columns = _Columns()
        self._order = array("I")
        self._shown_filter = self._filter
        self._targets = {}
        self._wanted = []
        self.endResetModel()

    def _end_loading(self) -> None:
        was_loading = self.loading
        if self._call is not None:
            self._call.drop()
            self._call = None
        self._arranging = None
        self._show_timer.stop()
        self._slices.stop()
        if was_loading:
            self.loading_changed.emit(False)

    def _take_entries(self, message: Entries) -> None:
        self._columns.take(message.entries)

    def _take_end(self, _message: Listed) -> None:
        self._call = None
        self._show_timer.stop()
        self._arrange()

    def _take_failure(self, error: ExplorerError) -> None:
        # What was read before the failure is there, and is shown.
        self._call = None
        self._show_timer.stop()
        self._arrange()
        self.failed.emit(error)

    def _show_new_rows(self) -> None:
        # As they come, unsorted; a filtered folder waits for its end.
        first, end = len(self._order), len(self._columns)
        if first < end and not self._shown_filter:
            self.beginInsertRows(QModelIndex(), first, end - 1)
            self._order.extend(range(first, end))
            self.endInsertRows()

    # ---- Arranging

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sorts by a column, folders first, names in natural order."""
        self._sort = (Column(column), order)
        if self._call is None:
            self._arrange()

    def set_filter(self, text: str) -> None:
        """Shows only names that hold ``text``, whatever the case of its letters."""
        self._filter = text.casefold()
        if self._call is None:
            self._arrange()

    def _arrange(self) -> None:
        was_loading = self._arranging is not None
        self._arranging = self._iter_arranged()
        if not was_loading:
            self.loading_changed.emit(True)
        self._slices.start()
        # A small folder is arranged at once, so that it never shows itself unsorted.
        self._arrange_slice()

    def _arrange_slice(self) -> None:
        clock = QElapsedTimer()
        clock.start()
        assert self._arranging is not None
        try:
            while clock.elapsed() < SLICE_MS:
                next(self._arranging)
        except StopIteration as end:
            self._slices.stop()
            self._arranging = None
            self._set_order(end.value)
            self.loading_changed.emit(False)

    def _iter_arranged(self) -> Generator[None, None, array[int]]:
        columns, wanted = self._columns, self._filter
        keys: list[str] = []
        folders: list[int] = []
        others: list[int] = []
        for row, name in enumerate(columns.names):
            key = natural_key(name)
            keys.append(key)
            if not wanted or wanted in show_name(name).casefold():
                is_folder = columns.types[row] == FileType.DIRECTORY
                (folders if is_folder else others).append(row)
            if row % 2048 == 2047:
                yield
        column, direction = self._sort
        result = array("I")
        for group in (folders, others):
            rows = yield from iter_sorted(group, keys.__getitem__)
            values = self._column_values(column)
            if values is not None:
                rows = yield from iter_sorted(rows, values.__getitem__)
            if direction == Qt.SortOrder.DescendingOrder:
                rows.reverse()
            result.extend(rows)
        return result

    def _column_values(self, column: Column) -> array[int] | None:
        columns = self._columns
        return {
            Column.NAME: None,
            Column.SIZE: columns.sizes,
            Column.MODIFIED: columns.times,
            Column.MODE: columns.modes,
            Column.OWNER: columns.owners,
            Column.LINKS: columns.links,
            Column.INODE: columns.inodes,
        }[column]

    def _set_order(self, order: array[int]) -> None:
        if self._filter != self._shown_filter:
            # Rows come and go: there is no cheap way to say which.
            self.beginResetModel()
            self._order = order
            self._shown_filter = self._filter
            self.endResetModel()
            return
        if not self._order:
            if order:
                self.beginInsertRows(QModelIndex(), 0, len(order) - 1)
                self._order = order
                self.endInsertRows()
            return
        new = len(order) - len(self._order)
        if new:
            shown = set(self._order)
            self.beginInsertRows(QModelIndex(), len(self._order), len(order) - 1)
            self._order.extend(row for row in order if row not in shown)
            self.endInsertRows()
        self.layoutAboutToBeChanged.emit()
        old = self._order
        self._order = order
        kept = self.persistentIndexList()
        if kept:
            rows = {entry: row for row, entry in enumerate(order)}
            moved = [self.index(rows[old[index.row()]], index.column()) for index in kept]
            self.changePersistentIndexList(kept, moved)
        self.layoutChanged.emit()

    # ---- Links, read when they are painted

    def _target(self, entry: int) -> bytes | None:
        if entry not in self._targets:
            self._targets[entry] = None
            self._wanted.append(entry)
            self._links_timer.start()
        return self._targets[entry]

    def _request_links(self) -> None:
        location = self.location
        if location is None or location.volume is None:
            return
        while self._wanted:
            entries, self._wanted = self._wanted[:LINKS_LIMIT], self._wanted[LINKS_LIMIT:]
            names = tuple(self._columns.names[entry] for entry in entries)
            location.session.request(
                ReadLinks(location.volume, location.path, names),
                partial(self._take_links, self._columns, entries),
            )

    def _take_links(self, columns: _Columns, entries: list[int], reply: LinksRead) -> None:
        # Another folder may be shown by now.
        if self._columns is columns and len(reply.targets) == len(entries):
            self._targets.update(zip(entries, reply.targets, strict=True))
            if self._order:
                last = len(self._order) - 1
                self.dataChanged.emit(self.index(0, 0), self.index(last, 0))

    # ---- What the views ask

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own default
        """Entries shown."""
        return 0 if parent.isValid() else len(self._order)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own default
        """As many as :class:`Column` has."""
        return 0 if parent.isValid() else len(Column)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = ItemRole.DisplayRole
    ) -> Any:  # noqa: ANN401 - Qt's variant
        """Titles of the columns."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == ItemRole.DisplayRole:
            return _column_title(Column(section))
        if role == ItemRole.TextAlignmentRole:
            return _RIGHT if section in RIGHT_ALIGNED else _LEFT
        return None

    def data(self, index: Index, role: int = ItemRole.DisplayRole) -> Any:  # noqa: ANN401 - Qt's variant
        """What one cell shows."""
        if not index.isValid():
            return None
        column = index.column()
        if role == ItemRole.DisplayRole:
            return self._text(self._order[index.row()], column)
        if role == ItemRole.DecorationRole:
            if column == Column.NAME and self._icon_of is not None:
                return self._icon_of(self._columns.types[self._order[index.row()]])
        elif role == ItemRole.TextAlignmentRole:
            return _RIGHT if column in RIGHT_ALIGNED else _LEFT
        elif role == ItemRole.ToolTipRole:
            return self._tool_tip(self._order[index.row()], column)
        return None

    def _text(self, entry: int, column: int) -> str:
        columns = self._columns
        if column == Column.NAME:
            text = show_name(columns.names[entry])
            if columns.types[entry] == FileType.LINK:
                target = self._target(entry)
                if target is not None:
                    return f"{text} → {show_name(target)}"
            return text
        if columns.errors[entry]:
            # Its stat could not be read: nothing but the name is known.
            return ""
        match column:
            case Column.SIZE:
                known = columns.masks[entry] & MASK_SIZE
                sized = known and columns.types[entry] != FileType.DIRECTORY
                return size_text(columns.sizes[entry]) if sized else ""
            case Column.MODIFIED:
                return time_text(self._moment(entry))
            case Column.MODE:
                known = columns.masks[entry] & MASK_MODE
                return mode_text(columns.modes[entry]) if known else ""
            case Column.OWNER:
                owner = columns.owners[entry]
                return f"{owner >> 32}:{owner & 0xFFFFFFFF}"
            case Column.LINKS:
                return str(columns.links[entry])
            case _:
                return str(columns.inodes[entry])

    def _tool_tip(self, entry: int, column: int) -> str | None:
        columns = self._columns
        if columns.errors[entry]:
            return QCoreApplication.translate("Contents", "This entry could not be read.")
        if column == Column.NAME:
            return self._text(entry, column)
        if column == Column.SIZE and columns.types[entry] != FileType.DIRECTORY:
            return f"{columns.sizes[entry]:,} bytes"
        if column == Column.MODIFIED:
            return exact_time_text(self._moment(entry))
        return None

    def _moment(self, entry: int) -> int | None:
        moment = self._columns.times[entry]
        return None if moment == NO_TIME else moment

    # ---- What the window asks

    def name(self, row: int) -> bytes:
        """The name in a row, raw."""
        return self._columns.names[self._order[row]]

    def type(self, row: int) -> int:
        """The :class:`FileType` in a row."""
        return self._columns.types[self._order[row]]

    def size(self, row: int) -> int:
        """Bytes of the file in a row; 0 for a folder."""
        entry = self._order[row]
        is_folder = self._columns.types[entry] == FileType.DIRECTORY
        return 0 if is_folder else self._columns.sizes[entry]

    def total_size(self, rows: Iterable[int]) -> int:
        """Bytes of the files in several rows."""
        return sum(self.size(row) for row in rows)

    def row_of(self, name: bytes) -> int | None:
        """The row that shows a name."""
        for row, entry in enumerate(self._order):
            if self._columns.names[entry] == name:
                return row
        return None

    @property
    def hidden(self) -> int:
        """Entries that the filter keeps away."""
        return len(self._columns) - len(self._order) if self._filter else 0

    def folder_names(self) -> list[bytes]:
        """Names of the folders among all entries."""
        types = self._columns.types
        return [n for row, n in enumerate(self._columns.names) if types[row] == FileType.DIRECTORY]
