# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``info``, ``ls``, ``stat`` and ``cat``. Each returns the exit code."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from itertools import groupby
from typing import TYPE_CHECKING

from explorer.cli.codes import DONE, SOME_FAILED
from explorer.cli.output import (
    json_entry,
    json_name,
    long_lines,
    print_error,
    print_json,
    print_raw,
    stat_lines,
)
from explorer.cli.session import open_disk, open_volume
from explorer.core.entries import Entry, FileType
from explorer.core.errors import ExplorerError, UnknownFormat
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.volumes.disk import show_size, volume_lines

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Generator, Iterable, Iterator

    from explorer.kernel import Directory, Mount
    from explorer.volumes import MountedVolume


def info(arguments: Namespace) -> int:
    """What the image is, and its volumes."""
    with open_disk(arguments) as (image, disk):
        volumes = disk.volumes()
        if not volumes:
            raise UnknownFormat("image.not-an-image", path=image.path)
        if arguments.json:
            print_json(
                {
                    "image": {"path": image.path, "format": image.format, "size": image.size},
                    "volumes": [volume.to_wire() for volume in volumes],
                }
            )
        else:
            print(f"{image.path}: {image.format}, {show_size(image.size)} ({image.size} bytes)")
            print(volume_lines(volumes))
    return DONE


# ---- ls ----------------------------------------------------------------------------------------


class _Folder:
    """The entries of one folder, in the order of their names."""

    def __init__(self, path: bytes, entries: Iterable[Entry]) -> None:
        self.path = path
        self.entries = sorted((entry for entry in entries if entry.name), key=lambda e: e.name)


class _Listing:
    """Reads folders and collects what could not be read."""

    def __init__(self, mount: Mount, start: bytes) -> None:
        self._mount = mount
        self._start = start
        self._paths = {0: start}
        self.failures: list[tuple[bytes, ExplorerError]] = []

    def folders(self, *, long: bool, recursive: bool) -> Generator[_Folder, None, None]:
        """The folder itself, and with ``recursive`` those below it, each before what is in it.

        Of anything but a folder, that entry alone; ``long`` shows a link rather than its folder.
        """
        path = self._start
        entry = self._mount.stat(path, follow=not long or path.endswith(b"/"))
        if not entry.is_directory:
            folder, name = split(path)
            yield _Folder(folder, [entry._replace(name=name)])
            return
        with self._mount.open_directory(path) as directory:
            if recursive:
                yield from self._below(directory)
            else:
                yield _Folder(path, self._seen(directory))

    def _below(self, directory: Directory) -> Iterator[_Folder]:
        empty = True
        with directory.walk() as walk:
            # The walk reads a folder to its end before it enters the first one in it.
            for number, group in groupby(walk, key=lambda entry: entry.directory):
                folder = _Folder(self._paths[number], self._seen(group))
                if folder.entries:
                    empty = False
                    yield folder
        if empty:
            yield _Folder(self._start, ())

    def _seen(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if entry.name:
                path = join(self._paths[entry.directory], entry.name)
            else:
                path = self._paths[entry.number]
            if entry.error:
                error = self._mount.kernel.make_error(-entry.error, "stat", path)
                self.failures.append((path, error))
            elif entry.number:
                self._paths[entry.number] = path
            yield entry

    def targets(self, folder: _Folder) -> dict[bytes, bytes]:
        """Where the links of a folder lead."""
        found = {}
        for entry in folder.entries:
            if entry.type == FileType.LINK:
                path = join(folder.path, entry.name)
                try:
                    found[entry.name] = self._mount.read_link(path)
                except ExplorerError as error:
                    self.failures.append((path, error))
        return found


def join(folder: bytes, name: bytes) -> bytes:
    """A path of a folder and a name in it."""
    return folder.rstrip(b"/") + b"/" + name


def ls(arguments: Namespace) -> int:
    """List a folder, or show a single entry."""
    path = os.fsencode(arguments.path)
    with open_volume(arguments) as mounted:
        listing = _Listing(mounted.mount, path)
        folders = listing.folders(long=arguments.long, recursive=arguments.recursive)
        # Closed at once when the output is not wanted any more, before the volume is.
        with closing(folders):
            if arguments.json:
                _print_listing_json(arguments, mounted, listing, folders)
            elif arguments.raw:
                for folder in folders:
                    prefix = join(folder.path, b"") if arguments.recursive else b""
                    print_raw(*(prefix + one.name for one in folder.entries))
            else:
                _print_listing(arguments, listing, folders)
    for _path, error in listing.failures:
        print_error(describe(error))
    return SOME_FAILED if listing.failures else DONE


def split(path: bytes) -> tuple[bytes, bytes]:
    """The folder that a path leads through, and the name in it; the root has none."""
    folder, _, name = path.rstrip(b"/").rpartition(b"/")
    return folder or b"/", name


def _print_listing(arguments: Namespace, listing: _Listing, folders: Iterator[_Folder]) -> None:
    separator = ""
    for folder in folders:
        if arguments.recursive:
            print(f"{separator}{show_name(folder.path)}:")
            separator = "\n"
        if arguments.long:
            lines = long_lines(folder.entries, listing.targets(folder))
        else:
            lines = [show_name(entry.name) for entry in folder.entries]
        if lines:
            print("\n".join(lines))


def _print_listing_json(
    arguments: Namespace, mounted: MountedVolume, listing: _Listing, folders: Iterator[_Folder]
) -> None:
    # Written as it is read: a listing may be larger than memory.
    head = {"volume": mounted.volume.number, **json_name(os.fsencode(arguments.path), "path")}
    sys.stdout.write(json.dumps(head)[:-1] + ', "entries": [')
    separator = "\n"
    for folder in folders:
        targets = listing.targets(folder)
        for entry in folder.entries:
            shown = {**json_name(entry.name), **json_entry(entry)}
            if arguments.recursive:
                shown |= json_name(join(folder.path, entry.name), "path")
            if entry.name in targets:
                shown |= json_name(targets[entry.name], "target")
            if entry.error:
                shown["error"] = mounted.mount.kernel.make_error(-entry.error, "stat").name
            sys.stdout.write(separator + json.dumps(shown))
            separator = ",\n"
    errors = [json_failure(path, error) for path, error in listing.failures]
    sys.stdout.write(f'\n], "errors": {json.dumps(errors)}}}\n')


def json_failure(path: bytes, error: ExplorerError) -> dict[str, object]:
    """What could not be read, for JSON."""
    return {**json_name(path, "path"), "message": describe(error), **error.to_wire()}


# ---- stat and cat ------------------------------------------------------------------------------


def stat(arguments: Namespace) -> int:
    """All that is known of an entry; a link's own."""
    path = os.fsencode(arguments.path)
    with open_volume(arguments) as mounted:
        mount = mounted.mount
        entry = mount.stat(path)
        target = mount.read_link(path) if entry.type == FileType.LINK else None
        xattrs = mount.read_xattrs(path)
        if arguments.json:
            shown = {
                "volume": mounted.volume.number,
                **json_name(path, "path"),
                **json_entry(entry),
                "xattrs": [
                    {**json_name(name), "value_hex": value.hex()}
                    for name, value in sorted(xattrs.items())
                ],
            }
            if target is not None:
                shown |= json_name(target, "target")
            print_json(shown)
        else:
            print("\n".join(stat_lines(path, entry, target, xattrs)))
    return DONE


def cat(arguments: Namespace) -> int:
    """Write a file's bytes to the output; links are followed."""
    path = os.fsencode(arguments.path)
    with open_volume(arguments) as mounted, mounted.mount.open_file(path) as file:
        if arguments.json:
            print_json(
                {
                    "volume": mounted.volume.number,
                    **json_name(path, "path"),
                    "content_hex": file.read_at(0, file.size).hex(),
                }
            )
        else:
            sys.stdout.flush()
            # Called between pieces, it lets Ctrl-C through.
            file.copy_to_fd(sys.stdout.fileno(), progress=lambda _count: False)
    return DONE
