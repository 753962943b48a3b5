# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""All that is known of each entry of a volume, a row for each: as CSV, or as lines of JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from explorer.core.entries import MASK_INODE, MASK_MODE, TYPE_NAMES, Entry
from explorer.core.errors import ExplorerError
from explorer.core.objects import DEVICES, TIMES, entry_times, json_name
from explorer.evidence.attributes import describe_attribute
from explorer.evidence.columns import csv_rows, entry_object, exact_name, iso_times, json_rows
from explorer.evidence.owners import read_owners
from explorer.evidence.timeline import Rows, read_target
from explorer.evidence.walking import Failure, Folders, go_on, never, walk_tree
from explorer.native.digests import Digests

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from explorer.evidence.owners import Owners
    from explorer.evidence.walking import Check
    from explorer.kernel import File, Mount

Form = Literal["csv", "json"]
FORMS: tuple[Form, ...] = ("csv", "json")

_PIECE = 1 << 20


def csv_columns(algorithms: Sequence[str] = ()) -> list[str]:
    """The names of a CSV's columns."""
    return [
        *("path", "path_hex", "type", "mode", "uid", "user", "gid", "group", "links", "inode"),
        *("size", "allocated", *TIMES, *(f"{name}_ns" for name in TIMES)),
        *("target", "target_hex", "major", "minor", "xattrs"),
        *algorithms,
    ]


class _Row(NamedTuple):
    """An entry, and what of it must be read one by one."""

    path: bytes
    entry: Entry
    target: bytes | None
    xattrs: dict[bytes, bytes]
    digests: dict[str, bytes]


def inventory(
    mount: Mount,
    start: bytes = b"/",
    form: Form = "csv",
    *,
    algorithms: Sequence[str] = (),
    prefix: bytes = b"",
    head: bool = True,
    check: Check = never,
) -> Iterator[Rows]:
    """The inventory of what is at and below a path, piece by piece.

    With ``algorithms``, of :data:`explorer.native.digests.ALGORITHMS`, every file is read.
    ``prefix`` is put before each path; without ``head`` a CSV has no line of its columns. Raises as
    :func:`walk_tree`.
    """
    owners = read_owners(mount)
    make = _csv if form == "csv" else _json
    if form == "csv" and head:
        yield Rows(csv_rows([csv_columns(algorithms)]), 0, [])
    buffer = memoryview(bytearray(_PIECE if algorithms else 0))
    with Folders(mount) as folders:
        for entries, failures in walk_tree(mount, start, check):
            placed = []
            for path, entry in entries:
                target, xattrs, digests = None, {}, {}
                if not entry.error:
                    target = read_target(mount, (path, entry), failures)
                    try:
                        folder, name = folders.of(path)
                        xattrs = folder.read_xattrs(name)
                        if algorithms and entry.is_file:
                            with folder.open_file(name) as file:
                                digests = _hash(file, entry.size, algorithms, buffer, check)
                    except ExplorerError as error:
                        failures.append(Failure(path, go_on(error)))
                placed.append(_Row(prefix + path, entry, target, xattrs, digests))
            yield Rows(make(placed, owners, algorithms), len(entries), failures)


def _hash(
    file: File, size: int, algorithms: Sequence[str], buffer: memoryview, check: Check
) -> dict[str, bytes]:
    with Digests(algorithms) as digests:
        offset = 0
        # What is read short may be followed by what cannot be read: the next read tells.
        while offset < size and (count := file.read_into(offset, buffer)):
            digests.update(buffer[:count])
            offset += count
            check()
        return digests.read()


def _csv(rows: list[_Row], owners: Owners, algorithms: Sequence[str]) -> bytes:
    return csv_rows(_csv_row(row, owners, algorithms) for row in rows)


def _csv_row(row: _Row, owners: Owners, algorithms: Sequence[str]) -> list[object]:
    entry = row.entry
    known = bool(entry.mask & MASK_MODE)
    device = entry.type in DEVICES
    return [
        *exact_name(row.path),
        TYPE_NAMES[entry.type],
        f"{entry.mode & 0o7777:04o}" if known else "",
        entry.uid if known else "",
        owners.users.get(entry.uid, "") if known else "",
        entry.gid if known else "",
        owners.groups.get(entry.gid, "") if known else "",
        entry.links if known else "",
        entry.inode if entry.mask & MASK_INODE else "",
        entry.size if known else "",
        entry.blocks * 512 if known else "",
        *iso_times(entry),
        *entry_times(entry),
        *exact_name(row.target or b""),
        entry.special_major if device else "",
        entry.special_minor if device else "",
        json.dumps(_xattrs(row.xattrs)) if row.xattrs else "",
        *(row.digests[name].hex() if name in row.digests else "" for name in algorithms),
    ]


def _json(rows: list[_Row], owners: Owners, _algorithms: Sequence[str]) -> bytes:
    return json_rows(_json_row(row, owners) for row in rows)


def _json_row(row: _Row, owners: Owners) -> dict[str, Any]:
    """What is not known is left out."""
    entry = row.entry
    shown = entry_object(row.path, entry, row.target)
    named = (("user", entry.uid, owners.users), ("group", entry.gid, owners.groups))
    for key, number, names in named:
        if entry.mask & MASK_MODE and number in names:
            shown[key] = names[number]
    if row.xattrs:
        shown["xattrs"] = _xattrs(row.xattrs)
    return shown | {name: digest.hex() for name, digest in row.digests.items()}


def _xattrs(xattrs: dict[bytes, bytes]) -> list[dict[str, str]]:
    shown = []
    for name, value in sorted(xattrs.items()):
        one = {**json_name(name), "value_hex": value.hex()}
        text = describe_attribute(name, value)
        if text is not None:
            one["text"] = text
        shown.append(one)
    return shown
