# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Manifests read back, and held against the copies that they are of."""

from __future__ import annotations

import csv
import json
import os
import stat
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from explorer.core.errors import RecordError
from explorer.core.names import is_entry_name
from explorer.evidence.report import CopiedFile, CopyRecord
from explorer.native.digests import ALGORITHMS, Digests
from explorer.writer.manifest import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

READ_SIZE = 1 << 20


class Line(NamedTuple):
    """One entry of a manifest that was read."""

    path: bytes
    target: bytes
    type: str
    outcome: str
    size: int
    written: int
    link: bytes
    same_as: bytes
    error: str
    digests: dict[str, str]


class Problem(NamedTuple):
    """Where a copy is not what its manifest says."""

    target: bytes
    what: str
    """``missing``, ``type``, ``size``, ``link``, ``extra``, ``unreadable``, or a digest's name."""


class Manifest(NamedTuple):
    """A whole manifest."""

    head: dict[str, str]
    """Program, source, volume, sink and so on."""
    lines: list[Line]
    accounts: dict[str, str]
    """Empty: the copy did not come to its end."""


def read_manifest(path: Path) -> Iterator[Line]:
    """The entries of a manifest; raises :exc:`RecordError` for what is none, :exc:`OSError`."""
    for _name, line in _read_lines(path):
        if isinstance(line, Line):
            yield line


def read_whole(path: Path) -> Manifest:
    """All that a manifest tells; raises as :func:`read_manifest`."""
    found = Manifest({}, [], {})
    for name, line in _read_lines(path):
        if isinstance(line, Line):
            found.lines.append(line)
        else:
            (found.accounts if name == "seen" or found.accounts else found.head)[name] = line
    return found


def record_copy(path: Path, destination: bytes) -> CopyRecord:
    """What a session's report tells of a copy by its manifest; raises as :func:`read_manifest`."""
    manifest = read_whole(path)
    accounts = manifest.accounts
    return CopyRecord(
        volume=manifest.head.get("volume", ""),
        destination=destination,
        sink=manifest.head.get("sink", ""),
        accounts={name: int(value) for name, value in accounts.items() if value.isdecimal()},
        complete=accounts.get("complete") == "true",
        files=tuple(
            CopiedFile(
                *(line.path, line.target, line.type, line.outcome, line.size),
                {name: bytes.fromhex(digest) for name, digest in line.digests.items()},
                line.error,
            )
            for line in manifest.lines
        ),
    )


def check_manifest(folder: Path, manifest: Path) -> Iterator[Problem]:
    """Where the copy in a folder differs from its manifest, as it is found.

    Contents are read and compared by the strongest digest that is there. What the manifest does
    not know of is told last.
    """
    top = os.fsencode(folder)
    known = {b""}
    for line in read_manifest(manifest):
        if not line.target or line.outcome not in ("copied", "damaged", "before"):
            continue
        known.add(line.target)
        if what := _difference(os.path.join(top, line.target), top, line):  # noqa: PTH118 - bytes
            yield Problem(line.target, what)
    own = os.fsencode(manifest.resolve())
    for above, folders, files in os.walk(top):
        for name in (*folders, *files):
            full = os.path.join(above, name)  # noqa: PTH118
            if os.path.relpath(full, top) not in known and os.path.realpath(full) != own:
                yield Problem(os.path.relpath(full, top), "extra")


_STRONGEST_FIRST = ("blake2b", "sha256", "sha1", "md5")
_MODES = {
    "file": stat.S_ISREG,
    "stream": stat.S_ISREG,
    "directory": stat.S_ISDIR,
    "link": stat.S_ISLNK,
    "fifo": stat.S_ISFIFO,
    "socket": stat.S_ISSOCK,
    "character device": stat.S_ISCHR,
    "block device": stat.S_ISBLK,
}


def _difference(full: bytes, top: bytes, line: Line) -> str:
    """How an entry of the host differs; empty when it does not."""
    try:
        found = os.lstat(full)
        if line.type == "link" and stat.S_ISREG(found.st_mode):
            # Links were asked for as files that hold where they point.
            return "" if _read(full) == line.link else "link"
        if not _MODES[line.type](found.st_mode):
            return "type"
        if line.same_as:
            first = os.lstat(os.path.join(top, line.same_as))  # noqa: PTH118
            return "" if os.path.samestat(first, found) else "link"
        if line.type == "link":
            return "" if os.readlink(full) == line.link else "link"  # noqa: PTH115
        if not stat.S_ISREG(found.st_mode):
            return ""
        # What was done before was not written again.
        if found.st_size != (line.size if line.outcome == "before" else line.written):
            return "size"
        for name in _STRONGEST_FIRST:
            if expected := line.digests.get(name):
                return "" if _digest(full, name) == expected else name
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"
    return ""


def _read(full: bytes) -> bytes:
    with open(full, "rb") as file:  # noqa: PTH123
        return file.read(READ_SIZE)


def _digest(full: bytes, name: str) -> str:
    with Digests([name]) as digests, open(full, "rb") as file:  # noqa: PTH123
        while data := file.read(READ_SIZE):
            digests.update(data)
        return digests.read()[name].hex()


def _read_lines(path: Path) -> Iterator[tuple[str, str | Line]]:
    """Entries, and fields of the head and of the accounts, by name, in the file's order."""
    try:
        with path.open(encoding="utf-8", newline="") as text:
            first = text.readline()
            lines = chain([first], text)
            yield from _csv_lines(lines) if first.startswith("#") else _json_lines(lines)
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise RecordError("record.manifest", reason=str(error)) from error


def _csv_lines(lines: Iterable[str]) -> Iterator[tuple[str, str | Line]]:
    columns: list[str] | None = None
    # A quoted field may hold a line break, but here none does: names are shown on one line.
    for line in lines:
        if line.startswith("# "):
            name, _, value = line[2:].rstrip("\n").partition(": ")
            if name == "manifest" and value != str(VERSION):
                raise ValueError("not a manifest of this version")
            yield name, value
            continue
        (row,) = csv.reader([line])
        if columns is None:
            columns = row
        else:
            yield "", _line_of(dict(zip(columns, row, strict=True)))


def _json_lines(lines: Iterable[str]) -> Iterator[tuple[str, str | Line]]:
    for number, line in enumerate(lines):
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("not an object")
        if not number:
            if row.get("manifest") != VERSION:
                raise ValueError("not a manifest of this version")
            yield from ((name, str(value)) for name, value in row.items())
        elif "accounts" in row:
            accounts = row["accounts"]
            skipped = accounts.pop("skipped")
            accounts |= {f"skipped by {rule}": count for rule, count in skipped.items()}
            for name, value in accounts.items():
                yield name, str(value).lower() if isinstance(value, bool) else str(value)
        else:
            yield "", _line_of(row)


def _line_of(row: Mapping[str, Any]) -> Line:
    def name(key: str) -> bytes:
        if given := row.get(f"{key}_hex"):
            return bytes.fromhex(given)
        return str(row.get(key) or "").encode()

    target, same_as = name("target"), name("same_as")
    for place in filter(None, (target, same_as)):
        if not all(map(is_entry_name, place.split(b"/"))):
            raise ValueError("a target beside the destination")
    return Line(
        *(name("path"), target, row["type"], row["outcome"]),
        *(int(row.get("size") or 0), int(row.get("written") or 0), name("link"), same_as),
        str(row.get("error") or ""),
        {key: row[key] for key in ALGORITHMS if row.get(key)},
    )
