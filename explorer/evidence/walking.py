# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Walks a tree and names each entry by its path."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from explorer.core.closing import Closing
from explorer.core.entries import Entry, iter_entries
from explorer.core.errors import ExplorerError, KernelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from explorer.kernel import Directory, Mount

    Check = Callable[[], None]
    """Called now and then; what it raises ends the work."""

Placed = tuple[bytes, Entry]
"""An entry and its path, from the volume's root."""


class Failure(NamedTuple):
    """What of an entry could not be read; the work went on."""

    path: bytes
    error: ExplorerError


class Batch(NamedTuple):
    """Some entries of a walk, those of one directory one after another."""

    entries: list[Placed]
    failures: list[Failure]
    """Of entries whose stat failed, which are among the entries too, and of directories."""


def never() -> None:
    """A check that lets the work go on to its end."""


def clean_path(path: bytes) -> bytes:
    """A path as the walk names what it begins with: absolute, no slash doubled or at the end."""
    return b"/" + b"/".join(filter(None, path.split(b"/")))


def parent_path(path: bytes) -> bytes:
    """The directory that an entry's clean path leads through."""
    return path.rpartition(b"/")[0] or b"/"


def go_on(error: ExplorerError) -> ExplorerError:
    """The error, when it is one entry's; raises it when nothing more can be read after it."""
    if isinstance(error, KernelError) and error.code == "kernel.ended":
        raise error
    return error


class _Place:
    """Where in the tree a walk is.

    The walk reads a directory to its end and then enters those in it, in the order met, each with
    all that is below. So only the paths of those still to be entered are kept.
    """

    def __init__(self, start: bytes) -> None:
        self._waiting = [(0, start)]
        self._met: list[tuple[int, bytes]] = []
        self.number = -1
        self.path = start
        self.prefix = b""

    def meet(self, number: int, path: bytes) -> None:
        """A directory stands in the present one."""
        self._met.append((number, path))

    def enter(self, number: int) -> None:
        """The walk is in another directory; those passed over were empty."""
        self._waiting += reversed(self._met)
        self._met.clear()
        while True:
            self.number, self.path = self._waiting.pop()
            if self.number == number:
                break
        self.prefix = self.path if self.path.endswith(b"/") else self.path + b"/"


def walk_tree(mount: Mount, start: bytes = b"/", check: Check = never) -> Iterator[Batch]:
    """What stands at a path, and all below it when that is a directory.

    Links are not followed, but for one that ``start`` ends in when a slash follows. Raises
    :exc:`KernelError` when the start cannot be read; all else is reported.
    """
    path = clean_path(start)
    entry = mount.stat(path, follow=start.endswith(b"/"))
    yield Batch([(path, entry)], [])
    if not entry.is_directory:
        return
    place = _Place(path)
    with mount.open_directory(path) as directory, directory.walk() as walk:
        while records := walk.read():
            check()
            yield _read_batch(mount, place, records)


def _read_batch(mount: Mount, place: _Place, records: bytes) -> Batch:
    entries: list[Placed] = []
    failures: list[Failure] = []
    number, prefix = place.number, place.prefix
    for entry in iter_entries(records):
        name = entry.name
        if not name:
            # A directory that cannot be read, or not to its end.
            if entry.number != number:
                place.enter(entry.number)
                number, prefix = place.number, place.prefix
            failures.append(_failure(mount, "open", place.path, entry))
            continue
        if entry.directory != number:
            place.enter(entry.directory)
            number, prefix = place.number, place.prefix
        path = prefix + name
        if entry.number:
            place.meet(entry.number, path)
        if entry.error:
            failures.append(_failure(mount, "stat", path, entry))
        entries.append((path, entry))
    return Batch(entries, failures)


def _failure(mount: Mount, call: str, path: bytes, entry: Entry) -> Failure:
    return Failure(path, mount.kernel.make_error(-entry.error, call, path))


class Folders(Closing):
    """The directories that entries are reached by; the last one stays open for its next entry."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self._path = b""
        self._directory: Directory | None = None

    def of(self, path: bytes) -> tuple[Directory, bytes]:
        """The directory of an entry, and its name there; the root is itself, without a name."""
        parent = parent_path(path)
        if self._directory is None or parent != self._path:
            self.close()
            self._directory = self._mount.open_directory(parent)
            self._path = parent
        return self._directory, path[1:] if parent == b"/" else path[len(parent) + 1 :]

    def close(self) -> None:
        """Close the directory; another call opens one again."""
        if self._directory is not None:
            directory, self._directory = self._directory, None
            directory.close()
