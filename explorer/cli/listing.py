# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``ls``.

A folder is sorted as a whole, and may hold a million entries. So an entry is turned at once into a
row, a string of bytes that begins with its name; what else is to be shown follows after a NUL,
which sorts before all that a longer name could go on with.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from itertools import groupby, islice
from typing import TYPE_CHECKING

from explorer.cli.codes import DONE, SOME_FAILED
from explorer.cli.commands import join, split
from explorer.cli.output import long_lines, long_row, print_error, print_raw
from explorer.cli.session import open_volume
from explorer.core.entries import FileType
from explorer.core.errors import ExplorerError
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.core.objects import json_entry, json_name

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Generator, Iterable, Iterator

    from explorer.core.entries import Entry
    from explorer.kernel import Directory, Mount

    MakeRow = Callable[[bytes, Entry], bytes]
    """Takes the path of a folder, and an entry in it."""
    Folder = tuple[bytes, list[bytes]]
    """A path, and the rows of what is in it, in order."""

_PIECE = 1000
"""Lines that are printed at once."""


class _Listing:
    """Reads folders and collects what could not be read."""

    def __init__(self, mount: Mount, start: bytes) -> None:
        self.mount = mount
        self.failures: list[tuple[bytes, ExplorerError]] = []
        self._paths = {0: start}
        self._unreadable: set[int] = set()

    def folders(
        self, make_row: MakeRow, *, follow: bool, recursive: bool
    ) -> Generator[Folder, None, None]:
        """The folder itself, and with ``recursive`` those below it, each before what is in it.

        Of anything but a folder, that entry alone.
        """
        start = self._paths[0]
        entry = self.mount.stat(start, follow=follow or start.endswith(b"/"))
        if not entry.is_directory:
            path, name = split(start)
            yield path, [make_row(path, entry._replace(name=name))]
            return
        with self.mount.open_directory(start) as directory:
            if recursive:
                yield from self._below(directory, make_row)
            else:
                yield start, sorted(make_row(start, one) for one in self._noted(start, directory))

    def _below(self, directory: Directory, make_row: MakeRow) -> Iterator[Folder]:
        # Of an empty folder the walk says nothing. But it reads a folder to its end, then enters
        # those in it as it met them, each with all below: what it passes over was empty.
        waiting = [0]
        with directory.walk() as walk:
            for number, group in groupby(walk, key=lambda entry: entry.directory):
                path = self._paths[number]
                rows = []
                met = []
                for entry in self._noted(path, group):
                    rows.append(make_row(path, entry))
                    if entry.number:
                        met.append(entry.number)
                        self._paths[entry.number] = join(path, entry.name)
                if rows:
                    yield from self._empty(iter(waiting.pop, number))
                    rows.sort()
                    yield path, rows
                    waiting += reversed(met)
        yield from self._empty(reversed(waiting))

    def _empty(self, numbers: Iterable[int]) -> Iterator[Folder]:
        for number in numbers:
            if number not in self._unreadable:
                yield self._paths[number], []

    def _noted(self, path: bytes, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries of a folder, whose errors are kept."""
        for entry in entries:
            if entry.error:
                wrong = join(path, entry.name) if entry.name else self._paths[entry.number]
                error = self.mount.kernel.make_error(-entry.error, "stat", wrong)
                self.failures.append((wrong, error))
            if entry.name:
                yield entry
            else:
                self._unreadable.add(entry.number)

    def target(self, path: bytes, entry: Entry) -> bytes | None:
        """Where a link leads; None when it is none, or cannot be read."""
        if entry.type != FileType.LINK:
            return None
        link = join(path, entry.name)
        try:
            return self.mount.read_link(link)
        except ExplorerError as error:
            self.failures.append((link, error))
            return None


def ls(arguments: Namespace) -> int:
    """List a folder, or show a single entry; the long form shows a link itself."""
    start = os.fsencode(arguments.path)
    with open_volume(arguments) as mounted:
        listing = _Listing(mounted.mount, start)

        def name_row(_path: bytes, entry: Entry) -> bytes:
            return entry.name

        def row(path: bytes, entry: Entry) -> bytes:
            return long_row(entry, listing.target(path, entry))

        def json_row(path: bytes, entry: Entry) -> bytes:
            shown = {**json_name(entry.name), **json_entry(entry)}
            if arguments.recursive:
                shown |= json_name(join(path, entry.name), "path")
            target = listing.target(path, entry)
            if target is not None:
                shown |= json_name(target, "target")
            if entry.error:
                shown["error"] = mounted.mount.kernel.make_error(-entry.error, "stat").name
            return entry.name + b"\0" + json.dumps(shown).encode()

        long = arguments.long and not arguments.raw
        folders = listing.folders(
            json_row if arguments.json else row if long else name_row,
            follow=not arguments.long,
            recursive=arguments.recursive,
        )
        # Closed at once when the output is not wanted any more, before the volume is.
        with closing(folders):
            if arguments.json:
                _print_json(mounted.volume.number, start, folders, listing)
            elif arguments.raw:
                for path, names in folders:
                    prefix = join(path, b"") if arguments.recursive else b""
                    print_raw(prefix + name for name in names)
            else:
                _print_lines(folders, headed=arguments.recursive, long=long)
    for _path, error in listing.failures:
        print_error(describe(error))
    return SOME_FAILED if listing.failures else DONE


def _print_lines(folders: Iterable[Folder], *, headed: bool, long: bool) -> None:
    separator = ""
    for path, rows in folders:
        if headed:
            print(f"{separator}{show_name(path)}:")
            separator = "\n"
        lines = long_lines(rows) if long else map(show_name, rows)
        while piece := list(islice(lines, _PIECE)):
            print("\n".join(piece))


def _print_json(volume: int, start: bytes, folders: Iterable[Folder], listing: _Listing) -> None:
    # Written as it is read: a listing may be larger than memory.
    head = {"volume": volume, **json_name(start, "path")}
    sys.stdout.write(json.dumps(head)[:-1] + ', "entries": [')
    separator = "\n"
    for _path, rows in folders:
        for row in rows:
            sys.stdout.write(separator + row.partition(b"\0")[2].decode())
            separator = ",\n"
    errors = [
        {**json_name(path, "path"), "message": describe(error), **error.to_wire()}
        for path, error in listing.failures
    ]
    sys.stdout.write(f'\n], "errors": {json.dumps(errors)}}}\n')
