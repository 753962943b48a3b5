# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Two trees side by side: what is only in one, and what differs.

Entries are the same when they have the same path. What is compared is what a copy would keep; times
of access and of birth, and numbers of inodes, are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from explorer.core.entries import FileType
from explorer.core.errors import KernelError
from explorer.core.objects import DEVICES
from explorer.evidence.walking import clean_path, never, walk_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from explorer.core.entries import Entry
    from explorer.evidence.walking import Check
    from explorer.kernel import Directory, File, Mount

_PIECE = 1 << 20

_OF_ENTRIES: dict[str, Callable[[Entry], object]] = {
    "type": lambda entry: entry.type,
    "mode": lambda entry: entry.mode,
    "owner": lambda entry: (entry.uid, entry.gid),
    # A directory's are made up by some file systems, and follow from what is in it.
    "links": lambda entry: None if entry.is_directory else entry.links,
    "size": lambda entry: entry.size if entry.is_file else None,
    "device": lambda entry: entry.type in DEVICES and (entry.special_major, entry.special_minor),
    "modified": lambda entry: entry.modify_ns,
    "changed": lambda entry: entry.change_ns,
}
FACTS = (*_OF_ENTRIES, "target", "xattrs", "content")
"""What is compared."""


class Difference(NamedTuple):
    """An entry that is not the same on both sides."""

    path: bytes
    left: Entry | None
    """None: only on the right."""
    right: Entry | None
    facts: tuple[str, ...]
    """Those of :data:`FACTS` that differ; of what is on one side only, none."""
    error: KernelError | None = None
    """Why it, or what is in it, could not be compared; ``facts`` are those found before."""


def compare_trees(
    left: Mount,
    right: Mount,
    start: bytes = b"/",
    *,
    content: bool = False,
    ignore: Collection[str] = (),
    check: Check = never,
) -> Iterator[Difference]:
    """All differences of what is at and below a path, folder by folder.

    What is in a folder of one side only is listed, too. Contents of files are compared, byte by
    byte, only with ``content``; ``ignore`` are facts that may differ. Raises :exc:`KernelError`
    when the start cannot be read on one of the sides.
    """
    ignored = {*ignore} if content else {*ignore, "content"}
    yield from _Comparison(left, right, frozenset(ignored), check).run(clean_path(start))


class _Comparison:
    def __init__(self, left: Mount, right: Mount, ignored: frozenset[str], check: Check) -> None:
        self._left = left
        self._right = right
        self._ignored = ignored
        self._check = check
        self._facts = [one for one in _OF_ENTRIES.items() if one[0] not in ignored]

    def run(self, start: bytes) -> Iterator[Difference]:
        entry, other = self._left.stat(start), self._right.stat(start)
        parent, _, name = start.rpartition(b"/")
        with (
            self._left.open_directory(parent or b"/") as one,
            self._right.open_directory(parent or b"/") as two,
        ):
            yield from self._compare(start, one, two, entry, other, name)
        waiting = [start] if entry.is_directory and other.is_directory else []
        while waiting:
            path = waiting.pop()
            self._check()
            try:
                with (
                    self._left.open_directory(path) as one,
                    self._right.open_directory(path) as two,
                ):
                    yield from self._compare_folders(path, one, two, waiting)
            except KernelError as error:
                if error.code == "kernel.ended":
                    raise
                yield Difference(path, self._left.stat(path), self._right.stat(path), (), error)

    def _compare_folders(
        self, path: bytes, one: Directory, two: Directory, waiting: list[bytes]
    ) -> Iterator[Difference]:
        lefts = {entry.name: entry for entry in one}
        rights = {entry.name: entry for entry in two}
        below = []
        for name in sorted(lefts.keys() | rights.keys()):
            entry, other = lefts.get(name), rights.get(name)
            whole = path.rstrip(b"/") + b"/" + name
            if entry is None or other is None:
                yield from self._only(whole, entry, other)
                continue
            yield from self._compare(whole, one, two, entry, other, name)
            if entry.is_directory and other.is_directory:
                below.append(whole)
        waiting += reversed(below)

    def _only(self, path: bytes, entry: Entry | None, other: Entry | None) -> Iterator[Difference]:
        """What is on one side, with all below it."""
        known = entry or other
        if known is None or not known.is_directory or known.error:
            yield Difference(path, entry, other, ())
            return
        for entries, failures in walk_tree(self._left if entry else self._right, path, self._check):
            failed = dict(failures)
            for each, found in entries:
                error = failed.pop(each, None)
                yield Difference(
                    each,
                    found if entry else None,
                    None if entry else found,
                    (),
                    error if isinstance(error, KernelError) else None,
                )
            for each, error in failed.items():
                if isinstance(error, KernelError):
                    yield Difference(each, entry, other, (), error)

    def _compare(
        self,
        path: bytes,
        one: Directory,
        two: Directory,
        entry: Entry,
        other: Entry,
        name: bytes,
    ) -> Iterator[Difference]:
        facts = [word for word, fact in self._facts if fact(entry) != fact(other)]
        failure = None
        try:
            facts += self._compare_deeper(path, one, two, entry, other, name)
        except KernelError as error:
            if error.code == "kernel.ended":
                raise
            failure = error
        if facts or failure:
            yield Difference(path, entry, other, tuple(facts), failure)

    def _compare_deeper(
        self,
        path: bytes,
        one: Directory,
        two: Directory,
        entry: Entry,
        other: Entry,
        name: bytes,
    ) -> Iterator[str]:
        """What a look at the entry itself tells."""
        for each in (entry, other):
            if each.error:
                raise self._left.kernel.make_error(-each.error, "stat", path)
        if "xattrs" not in self._ignored and one.read_xattrs(name) != two.read_xattrs(name):
            yield "xattrs"
        if entry.type != other.type:
            return
        if entry.type == FileType.LINK and "target" not in self._ignored:
            if self._left.read_link(path) != self._right.read_link(path):
                yield "target"
        elif entry.is_file and entry.size == other.size and "content" not in self._ignored:
            with one.open_file(name) as file, two.open_file(name) as twin:
                if not self._same_content(file, twin, entry.size):
                    yield "content"

    def _same_content(self, file: File, twin: File, size: int) -> bool:
        """Whether two files of one size have the same bytes; holes of both are not read."""
        pieces = memoryview(bytearray(_PIECE)), memoryview(bytearray(_PIECE))
        offset = 0
        while offset < size:
            self._check()
            offset = min(file.next_data(offset, size), twin.next_data(offset, size))
            length = min(_PIECE, size - offset)
            counts = [
                each.read_into(offset, piece[:length])
                for each, piece in zip((file, twin), pieces, strict=True)
            ]
            # What is read short may be followed by what cannot be read: the next read tells.
            both = min(counts)
            if pieces[0][:both] != pieces[1][:both]:
                return False
            if not both:
                return counts[0] == counts[1]
            offset += both
        return True
