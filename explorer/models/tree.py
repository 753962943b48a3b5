# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources, their volumes and the folders in them, read when they are opened."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import (
    QAbstractItemModel,
    QCoreApplication,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    Qt,
    Signal,
)

from explorer.core.entries import FileType
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.core.volume import DISK, FREE, PARTITION, SUBVOLUME
from explorer.models.location import Location
from explorer.models.sorting import natural_key
from explorer.models.texts import size_text
from explorer.wire.messages import Entries, ListDirectory, Listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from PySide6.QtGui import QIcon

    from explorer.client.engine import Call
    from explorer.client.session import Mark, Session
    from explorer.core.errors import ExplorerError
    from explorer.core.volume import Volume

    Index = QModelIndex | QPersistentModelIndex

ItemRole = Qt.ItemDataRole


class Kind(Enum):
    """What a row of the tree stands for."""

    SOURCE = "source"
    VOLUME = "volume"
    LOCKED_VOLUME = "locked-volume"
    """Needs a passphrase."""
    HOLDING_VOLUME = "holding-volume"
    """Holds no files itself; what is on it may."""
    UNKNOWN_VOLUME = "unknown-volume"
    MARKED_VOLUME = "marked-volume"
    """An engine ended while it read it; it is read again only when the user wants it."""
    FOLDER = "folder"


@dataclass(slots=True)
class _Node:
    kind: Kind
    location: Location
    text: str
    parent: int
    row: int
    tool_tip: str = ""
    key: tuple[str, bytes] = ("", b"")
    children: list[int] = field(default_factory=list)
    read: bool = False
    """Whether the children are all known."""
    call: Call | None = None


ROOT = 0


def volume_place(volume: Volume) -> str:
    """Where on the disk a volume is, as ``Partition 2``."""
    translate = QCoreApplication.translate
    match volume.kind:
        case "disk":
            return translate("Tree", "Whole disk")
        case "partition":
            return translate("Tree", "Partition %1").replace("%1", volume.name or "?")
        case "free":
            return translate("Tree", "Free space")
        case "opened":
            return translate("Tree", "Unlocked contents")
        case _:
            return volume.name


def volume_text(volume: Volume) -> str:
    """A volume as one line: its label or place, what it is, its size."""
    parts = [volume.label or volume.partition_label or volume_place(volume)]
    if volume.kind != FREE:
        parts.append(volume.title or QCoreApplication.translate("Tree", "unknown contents"))
    if volume.kind != SUBVOLUME:
        parts.append(size_text(volume.size))
    return " · ".join(parts)


def _marked_text(volume: Volume, mark: Mark | None) -> str:
    """A volume as one line that tells of the engines that ended at it."""
    text = volume_text(volume)
    if mark is None:
        return text
    count = QCoreApplication.translate("Tree", "%n engines ended at it", None, mark.engines)
    return f"{text} · {count}"


def _volume_tool_tip(volume: Volume, mark: Mark | None) -> str:
    extent = QCoreApplication.translate("Tree", "%1 bytes from %2")
    extent = extent.replace("%1", f"{volume.size:,}").replace("%2", f"{volume.start:,}")
    lines = (
        volume_text(volume),
        volume_place(volume),
        volume.type,
        extent if volume.kind in (DISK, PARTITION, FREE) else "",
        volume.uuid or volume.partition_uuid,
        volume.note,
        mark.reason if mark is not None else "",
    )
    return "\n".join(line for line in lines if line)


def _volume_kind(volume: Volume, mark: Mark | None) -> Kind:
    if mark is not None and mark.blocked:
        return Kind.MARKED_VOLUME
    if volume.mountable:
        return Kind.VOLUME
    if volume.locked:
        return Kind.LOCKED_VOLUME
    return Kind.HOLDING_VOLUME if volume.content else Kind.UNKNOWN_VOLUME


class FolderTreeModel(QAbstractItemModel):
    """The tree; indexes carry a node's number, never an object."""

    failed = Signal(object, object)
    """A folder could not be read: its :class:`Location` and the :class:`ExplorerError`."""

    def __init__(
        self, icon_of: Callable[[Kind], QIcon] | None = None, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._icon_of = icon_of
        self._numbers = count(1)
        self._nodes: dict[int, _Node] = {}
        self._sources: list[int] = []
        self._folders: dict[Location, int] = {}

    # ---- Sources

    def add_source(self, session: Session) -> None:
        """Shows a source; its volumes follow when it has been opened."""
        location = Location(session, None, b"/")
        number = next(self._numbers)
        row = len(self._sources)
        self.beginInsertRows(QModelIndex(), row, row)
        node = _Node(Kind.SOURCE, location, session.name, ROOT, row, show_name(session.path))
        self._nodes[number] = node
        self._folders[location] = number
        self._sources.append(number)
        self.endInsertRows()

    def set_volumes(self, session: Session, volumes: Iterable[Volume]) -> None:
        """Shows the volumes of a source anew."""
        number = self._folders[Location(session, None, b"/")]
        self._remove_children(number)
        self._nodes[number].read = True
        self.update_volumes(session, volumes)

    def update_volumes(self, session: Session, volumes: Iterable[Volume]) -> None:
        """Shows what is known of volumes now, and those that were found since; none goes away."""
        source = self._folders[Location(session, None, b"/")]
        for volume in volumes:
            location = Location(session, volume.number, b"/")
            mark = session.mark(volume)
            text, tool_tip = _marked_text(volume, mark), _volume_tool_tip(volume, mark)
            kind = _volume_kind(volume, mark)
            number = self._folders.get(location)
            if number is not None:
                node = self._nodes[number]
                node.kind, node.text, node.tool_tip = kind, text, tool_tip
                self.dataChanged.emit(self._index(number), self._index(number))
                continue
            above = Location(session, volume.parent, b"/")
            parent = self._folders.get(above, source)
            # Volumes stand before the folders of the one they are in.
            row = self._volume_count(self._nodes[parent].children)
            node = _Node(kind, location, text, parent, 0, tool_tip)
            self._insert_children(parent, row, [node])

    def _volume_count(self, children: list[int]) -> int:
        """How many of a node's first children are volumes."""
        return bisect_left(
            children, 1, key=lambda child: int(self._nodes[child].kind is Kind.FOLDER)
        )

    def remove_source(self, session: Session) -> None:
        """Shows it no longer."""
        number = self._folders[Location(session, None, b"/")]
        row = self._nodes[number].row
        self.beginRemoveRows(QModelIndex(), row, row)
        self._forget(number)
        del self._sources[row]
        self._renumber(self._sources, row)
        self.endRemoveRows()

    # ---- Folders

    def set_folders(self, location: Location, names: Iterable[bytes]) -> None:
        """Makes the children of a folder, if it is in the tree, those of these names."""
        number = self._folders.get(location)
        if number is None:
            return
        node = self._nodes[number]
        wanted = set(names)
        volumes = self._volume_count(node.children)
        for child in reversed(node.children[volumes:]):
            if self._nodes[child].key[1] not in wanted:
                self._remove_child(number, child)
        known = {self._nodes[child].key[1] for child in node.children[volumes:]}
        new = sorted((natural_key(name), name) for name in wanted - known)
        if len(node.children) == volumes:
            self._insert_children(number, volumes, [self._folder(number, key) for key in new])
        else:
            for key in new:
                self._insert_folder(number, key)
        had_none = not node.read and not wanted
        node.read = True
        if had_none:
            # Views draw the sign of "may have children" until they are told.
            self.dataChanged.emit(self._index(number), self._index(number))

    def reveal(self, location: Location) -> QModelIndex:
        """The index of a location, its row made if need be; invalid if its source is gone."""
        # Not recursive: an image may nest folders deeper than Python calls.
        missing: list[bytes] = []
        while (number := self._folders.get(location)) is None:
            parent = location.parent
            if parent is None or location.path == b"/":
                return QModelIndex()
            missing.append(location.path.rpartition(b"/")[2])
            location = parent
        for name in reversed(missing):
            number = self._insert_folder(number, (natural_key(name), name))
        return self._index(number)

    def location(self, index: Index) -> Location | None:
        """What a row stands for."""
        node = self._node(index)
        return node.location if node else None

    def kind(self, index: Index) -> Kind | None:
        """What sort of thing a row stands for."""
        node = self._node(index)
        return node.kind if node else None

    # ---- What the views ask

    def index(self, row: int, column: int, parent: Index = QModelIndex()) -> QModelIndex:  # noqa: B008 - Qt's own default
        """The index of a child."""
        children = self._children(parent)
        if column != 0 or not 0 <= row < len(children):
            return QModelIndex()
        return self.createIndex(row, 0, children[row])

    def parent(self, index: Index = QModelIndex()) -> Any:  # noqa: ANN401, B008 - QObject.parent is another one
        """The index of a row's parent."""
        node = self._node(index)
        return self._index(node.parent) if node else QModelIndex()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own default
        """Children known so far."""
        return len(self._children(parent))

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: ARG002, B008 - Qt's own default
        """One."""
        return 1

    def hasChildren(self, parent: Index = QModelIndex()) -> bool:  # noqa: B008 - Qt's own default
        """Whether there may be children."""
        node = self._node(parent)
        if node is None:
            return bool(self._sources)
        return bool(node.children) or self._may_be_read(node)

    def canFetchMore(self, parent: Index) -> bool:
        """Whether the children have not been asked for."""
        node = self._node(parent)
        return node is not None and self._may_be_read(node) and node.call is None

    def fetchMore(self, parent: Index) -> None:
        """Asks for the children; they come later."""
        node = self._node(parent)
        if node is not None and self.canFetchMore(parent):
            self._read(node)

    def data(self, index: Index, role: int = ItemRole.DisplayRole) -> Any:  # noqa: ANN401 - Qt's variant
        """What one row shows."""
        node = self._node(index)
        if node is None:
            return None
        if role == ItemRole.DisplayRole:
            return node.text
        if role == ItemRole.ToolTipRole:
            return node.tool_tip or node.text
        if role == ItemRole.DecorationRole and self._icon_of is not None:
            return self._icon_of(node.kind)
        return None

    # ---- Nodes

    def _node(self, index: Index) -> _Node | None:
        return self._nodes.get(index.internalId()) if index.isValid() else None

    def _index(self, number: int) -> QModelIndex:
        return QModelIndex() if number == ROOT else self._index_of(number)

    def _index_of(self, number: int) -> QModelIndex:
        return self.createIndex(self._nodes[number].row, 0, number)

    def _children(self, parent: Index) -> list[int]:
        if not parent.isValid():
            return self._sources
        node = self._node(parent)
        return node.children if node and parent.column() == 0 else []

    @staticmethod
    def _may_be_read(node: _Node) -> bool:
        return node.kind in (Kind.VOLUME, Kind.FOLDER) and not node.read

    def _read(self, node: _Node) -> None:
        assert node.location.volume is not None
        names: list[bytes] = []

        def take(message: Entries) -> None:
            names.extend(
                entry.name for entry in message.entries if entry.type == FileType.DIRECTORY
            )

        def end(_reply: Listed) -> None:
            node.call = None
            self.set_folders(node.location, names)

        def fail(error: ExplorerError) -> None:
            node.call = None
            self.set_folders(node.location, names)
            node.tool_tip = describe(error)
            self.failed.emit(node.location, error)

        request = ListDirectory(node.location.volume, node.location.path)
        node.call = node.location.session.request(request, end, fail, take)

    def _folder(self, parent: int, key: tuple[str, bytes]) -> _Node:
        location = self._nodes[parent].location.child(key[1])
        return _Node(Kind.FOLDER, location, show_name(key[1]), parent, 0, key=key)

    def _insert_folder(self, parent: int, key: tuple[str, bytes]) -> int:
        children = self._nodes[parent].children
        row = bisect_left(
            children,
            key,
            self._volume_count(children),
            key=lambda child: self._nodes[child].key,
        )
        self._insert_children(parent, row, [self._folder(parent, key)])
        return children[row]

    def _insert_children(self, parent: int, row: int, nodes: list[_Node]) -> None:
        if not nodes:
            return
        children = self._nodes[parent].children
        self.beginInsertRows(self._index(parent), row, row + len(nodes) - 1)
        numbers = []
        for node in nodes:
            number = next(self._numbers)
            self._nodes[number] = node
            self._folders[node.location] = number
            numbers.append(number)
        children[row:row] = numbers
        self._renumber(children, row)
        self.endInsertRows()

    def _remove_child(self, parent: int, child: int) -> None:
        children = self._nodes[parent].children
        row = self._nodes[child].row
        self.beginRemoveRows(self._index(parent), row, row)
        self._forget(child)
        del children[row]
        self._renumber(children, row)
        self.endRemoveRows()

    def _remove_children(self, parent: int) -> None:
        children = self._nodes[parent].children
        if children:
            self.beginRemoveRows(self._index(parent), 0, len(children) - 1)
            for child in children:
                self._forget(child)
            children.clear()
            self.endRemoveRows()

    def _renumber(self, children: list[int], start: int) -> None:
        for row in range(start, len(children)):
            self._nodes[children[row]].row = row

    def _forget(self, number: int) -> None:
        # Not recursive: an image may nest folders deeper than Python calls.
        numbers = [number]
        while numbers:
            node = self._nodes.pop(numbers.pop())
            if node.call is not None:
                node.call.drop()
            del self._folders[node.location]
            numbers += node.children
