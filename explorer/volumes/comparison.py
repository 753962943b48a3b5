# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Two mounts side by side: what is only in one, and what differs.

Meant for the two views of one volume, so entries are the same when they have the same name. What
is compared is what a copy would keep; times of access are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from explorer.core.entries import FileType
from explorer.core.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from explorer.core.entries import Entry
    from explorer.kernel import Directory, File, Mount

_PIECE = 1 << 20

_FACTS: dict[str, Callable[[Entry], object]] = {
    "type": lambda entry: entry.type,
    "mode": lambda entry: entry.mode,
    "owner": lambda entry: (entry.uid, entry.gid),
    "links": lambda entry: entry.links,
    "modified": lambda entry: entry.modify_ns,
    "changed": lambda entry: entry.change_ns,
}


class Difference(NamedTuple):
    """An entry that is not the same on both sides."""

    path: bytes
    left: Entry | None
    """None: only on the right."""
    right: Entry | None
    facts: tuple[str, ...]
    """What differs, as ``size``, ``content``, ``mode``; of what is on one side only, nothing."""
    error: KernelError | None = None
    """Why it could not be compared; ``facts`` are those found before."""


def compare_mounts(left: Mount, right: Mount) -> Iterator[Difference]:
    """All differences, folder by folder; what is in a folder of one side only is not listed."""
    waiting = [b"/"]
    while waiting:
        path = waiting.pop()
        try:
            with left.open_directory(path) as one, right.open_directory(path) as two:
                yield from _compare_folders(left, right, path, one, two, waiting)
        except KernelError as error:
            if error.code == "kernel.ended":
                raise
            yield Difference(path, left.stat(path), right.stat(path), (), error)


def _compare_folders(
    left: Mount, right: Mount, path: bytes, one: Directory, two: Directory, waiting: list[bytes]
) -> Iterator[Difference]:
    lefts = {entry.name: entry for entry in one}
    rights = {entry.name: entry for entry in two}
    below = []
    for name in sorted(lefts.keys() | rights.keys()):
        entry, other = lefts.get(name), rights.get(name)
        whole = path.rstrip(b"/") + b"/" + name
        if entry is None or other is None:
            yield Difference(whole, entry, other, ())
            continue
        facts = [word for word, fact in _FACTS.items() if fact(entry) != fact(other)]
        failure = None
        try:
            facts += _compare_deeper(left, right, whole, one, two, entry, other)
        except KernelError as error:
            if error.code == "kernel.ended":
                raise
            failure = error
        if facts or failure:
            yield Difference(whole, entry, other, tuple(facts), failure)
        if entry.is_directory and other.is_directory:
            below.append(whole)
    waiting += reversed(below)


def _compare_deeper(
    left: Mount,
    right: Mount,
    path: bytes,
    one: Directory,
    two: Directory,
    entry: Entry,
    other: Entry,
) -> Iterator[str]:
    """What a look at the entry itself tells."""
    for each in (entry, other):
        if each.error:
            raise left.kernel.make_error(-each.error, "stat", path)
    if one.read_xattrs(entry.name) != two.read_xattrs(entry.name):
        yield "xattrs"
    if entry.type != other.type:
        return
    if entry.type == FileType.LINK:
        if left.read_link(path) != right.read_link(path):
            yield "target"
    elif entry.type == FileType.FILE:
        if entry.size != other.size:
            yield "size"
            return
        with one.open_file(entry.name) as file, two.open_file(entry.name) as twin:
            if not _same_content(file, twin, entry.size):
                yield "content"


def _same_content(file: File, twin: File, size: int) -> bool:
    """Whether two files of one size have the same bytes; what is a hole in both is not read."""
    pieces = memoryview(bytearray(_PIECE)), memoryview(bytearray(_PIECE))
    offset = 0
    while offset < size:
        offset = min(file.next_data(offset, size), twin.next_data(offset, size))
        length = min(_PIECE, size - offset)
        counts = [
            each.read_into(offset, piece[:length])
            for each, piece in zip((file, twin), pieces, strict=True)
        ]
        if counts[0] != counts[1] or pieces[0][: counts[0]] != pieces[1][: counts[0]]:
            return False
        if counts[0] < length:
            return True
        offset += length
    return True
