# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How this process comes to files of the host: by itself, or by asking one that may open them.

A confined process sets another way before it reads its first image.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from explorer.core.urls import is_url, url_name
from explorer.images.files import Folder, HostFile, HostFolder, SourceFile
from explorer.images.records import RECORD_LIMIT, load_record, record_name, store_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Access:
    """The host's files, opened by this process itself."""

    def name_sources(self, paths: Sequence[bytes], allowed: Sequence[bytes]) -> None:
        """Tell which files the user wants read, and which folders images may name files in.

        To be called before any is opened, by who did not know when the process started.
        """

    def open_source(
        self, path: bytes, allowed: Sequence[bytes], cache_folder: Path | None
    ) -> tuple[SourceFile, Folder, bytes]:
        """A file that the user named, its folder, and its name in it; raises :exc:`SourceError`."""
        if is_url(path):
            from explorer.images.remote import RemoteFolder, open_remote

            url = os.fsdecode(path)
            return open_remote(url, cache_folder), RemoteFolder(url, cache_folder), url_name(url)
        folder, name = os.path.split(path)
        return HostFile(path), HostFolder(folder, allowed), name

    def load_record(self, file: SourceFile, kind: str, cache_folder: Path) -> bytes | None:
        """What was kept of a file, whole, or None."""
        descriptor = file.descriptor()
        name = None if descriptor is None else record_name(descriptor, kind)
        if name is None:
            return None
        opened = load_record(cache_folder, name)
        if opened is None:
            return None
        with opened:
            return opened.read(RECORD_LIMIT)

    def store_record(self, file: SourceFile, kind: str, record: bytes, cache_folder: Path) -> None:
        """Keep something of a file, all of it or nothing; what prevents it is passed over."""
        descriptor = file.descriptor()
        name = None if descriptor is None else record_name(descriptor, kind)
        if name is not None:
            with suppress(OSError), store_record(cache_folder, name) as target:
                target.write(record)

    def open_scratch(self, cache_folder: Path) -> tuple[IO[bytes], int]:
        """A file without a name, and how many bytes it may have; raises :exc:`OSError`."""
        return open_scratch(cache_folder)


def open_scratch(folder: Path) -> tuple[IO[bytes], int]:
    """See :meth:`Access.open_scratch`."""
    # Hardly ever needed, and slow to import.
    import shutil
    import tempfile

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - whoever asked closes it
    return file, shutil.disk_usage(folder).free // 2


class _Way:
    """This process's."""

    access = Access()


def access() -> Access:
    """How this process comes to files of the host."""
    return _Way.access


def set_access(way: Access) -> None:
    """Use another way from now on."""
    _Way.access = way
