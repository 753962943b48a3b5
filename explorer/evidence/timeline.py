# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
r"""The times of all entries of a volume: as the Sleuth Kit's body file, CSV or JSON.

The body file is that of the Sleuth Kit 3 and later, ``MD5|name|inode|mode|UID|GID|size|atime|
mtime|ctime|crtime``, times in whole seconds, for ``mactime``. A name's ``|`` and ``%`` are written
as ``%7C`` and ``%25``, which mactime takes back; control bytes as ``\xNN``, for it prints what it
takes back, and a name must not make up lines of a timeline. The other forms have all as it is.
"""

from __future__ import annotations

import re
import stat
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from explorer.core.entries import MASK_MODE, Entry, FileType
from explorer.core.errors import ExplorerError
from explorer.core.objects import TIMES, entry_times
from explorer.evidence.columns import (
    csv_rows,
    entry_object,
    exact_name,
    iso_times,
    json_rows,
    shown_mode,
)
from explorer.evidence.walking import Failure, Placed, go_on, never, walk_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.evidence.walking import Check
    from explorer.kernel import Mount

Form = Literal["body", "csv", "json"]
FORMS: tuple[Form, ...] = ("body", "csv", "json")

CSV_COLUMNS = (
    *("path", "path_hex", "target", "target_hex", "inode", "mode", "uid", "gid", "size"),
    *TIMES,
    *(f"{name}_ns" for name in TIMES),
)

_SECOND = 1_000_000_000
_ESCAPED = re.compile(rb"[\x00-\x1f\x7f|%]")


class Rows(NamedTuple):
    """Some lines, ready to be written."""

    text: bytes
    entries: int
    """Lines of entries among them."""
    failures: list[Failure]


def timeline(
    mount: Mount,
    start: bytes = b"/",
    form: Form = "body",
    *,
    prefix: bytes = b"",
    head: bool = True,
    check: Check = never,
) -> Iterator[Rows]:
    """The timeline of what is at and below a path, piece by piece.

    ``prefix`` is put before each path, as the name of one volume among others; without ``head`` a
    CSV has no line of its columns. Raises as :func:`walk_tree`.
    """
    if form == "csv" and head:
        yield Rows(csv_rows([CSV_COLUMNS]), 0, [])
    make = {"body": _body, "csv": _csv, "json": _json}[form]
    for entries, failures in walk_tree(mount, start, check):
        placed = [(*one, read_target(mount, one, failures)) for one in entries]
        yield Rows(make(prefix, placed), len(entries), failures)


def read_target(mount: Mount, placed: Placed, failures: list[Failure]) -> bytes | None:
    """Where a link leads; None when it is none, or cannot be read, which is noted."""
    path, entry = placed
    if entry.type != FileType.LINK:
        return None
    try:
        return mount.read_link(path)
    except ExplorerError as error:
        failures.append(Failure(path, go_on(error)))
        return None


def _json(prefix: bytes, placed: list[tuple[bytes, Entry, bytes | None]]) -> bytes:
    return json_rows(entry_object(prefix + path, entry, target) for path, entry, target in placed)


def _csv(prefix: bytes, placed: list[tuple[bytes, Entry, bytes | None]]) -> bytes:
    return csv_rows(
        (
            *exact_name(prefix + path),
            *exact_name(target or b""),
            entry.inode,
            shown_mode(entry),
            entry.uid,
            entry.gid,
            entry.size,
            *iso_times(entry),
            *entry_times(entry),
        )
        for path, entry, target in placed
    )


def _body(prefix: bytes, placed: list[tuple[bytes, Entry, bytes | None]]) -> bytes:
    return b"".join(
        b"0|%b|%d|%b|%d|%d|%d|%d|%d|%d|%d\n"
        % (
            _escape(prefix + path if target is None else b"%b%b -> %b" % (prefix, path, target)),
            entry.inode,
            _mode(entry.type, entry.mode if entry.mask & MASK_MODE else None),
            entry.uid,
            entry.gid,
            entry.size,
            (entry.access_ns or 0) // _SECOND,
            (entry.modify_ns or 0) // _SECOND,
            (entry.change_ns or 0) // _SECOND,
            (entry.birth_ns or 0) // _SECOND,
        )
        for path, entry, target in placed
    )


def _escape(name: bytes) -> bytes:
    return _ESCAPED.sub(_escape_byte, name)


def _escape_byte(found: re.Match[bytes]) -> bytes:
    byte = found[0]
    return b"%%%02X" % byte[0] if byte in b"|%" else b"\\x%02x" % byte[0]


# Of an entry in its directory; a socket's inode has another letter.
_LETTERS: dict[int, str] = {
    FileType.FIFO: "p",
    FileType.CHARACTER_DEVICE: "c",
    FileType.DIRECTORY: "d",
    FileType.BLOCK_DEVICE: "b",
    FileType.FILE: "r",
    FileType.LINK: "l",
    FileType.SOCKET: "s",
}


@lru_cache(maxsize=4096)
def _mode(kind: int, mode: int | None) -> bytes:
    """Type in the directory, type of the inode, and permissions, as ``r/rrw-r--r--``."""
    letter = _LETTERS.get(kind, "-")
    if mode is None:
        return f"{letter}/----------".encode()
    own = _LETTERS.get(stat.S_IFMT(mode) >> 12, "-")
    return f"{letter}/{'h' if own == 's' else own}{stat.filemode(mode)[1:]}".encode()
