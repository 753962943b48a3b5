# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What was found out by reading a whole file, kept for the next time it is opened.

A record is in the cache folder under the file's identity: device, inode, size, time of change,
and its first and last bytes. It is never needed: one that is missing, damaged, or of another file
is as none, and whatever prevents it from being written is passed over.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from explorer.images.opening import Opening

KEPT_LIMIT = 1 << 30
"""Bytes of all records together; those not used for longest leave first."""
RECORD_LIMIT = 1 << 28
"""Bytes of one."""
ENDS = 1 << 16
"""Bytes of a file's head and tail that belong to its identity."""

_FOLDER = "seek-points"
_MAGIC = b"lkl-explorer kept\n"
_IDENTITY = struct.Struct("<QQQq")


class Kept:
    """The record about one file, of one kind."""

    def __init__(self, opening: Opening, kind: str) -> None:
        """``kind`` names what the record is made of, and its version."""
        self._path: Path | None = None
        self._name = b""
        file, folder = opening.file, opening.choices.cache_folder
        descriptor = file.descriptor()
        if folder is None or descriptor is None:
            # Only of a host's file it can be told that it is still the same.
            return
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        digest = hashlib.sha256(kind.encode())
        digest.update(
            _IDENTITY.pack(
                status.st_dev & (1 << 64) - 1,
                status.st_ino & (1 << 64) - 1,
                file.size,
                status.st_mtime_ns,
            )
        )
        digest.update(file.read(0, ENDS))
        digest.update(file.read(max(0, file.size - ENDS), ENDS))
        self._name = digest.digest()
        self._path = Path(folder, _FOLDER, digest.hexdigest())

    def load(self) -> bytes | None:
        """What was stored, whole, or None."""
        if self._path is None:
            return None
        try:
            with self._path.open("rb") as file:
                record = file.read(RECORD_LIMIT)
            # Used again: it leaves later.
            os.utime(self._path)
        except OSError:
            return None
        head = len(_MAGIC) + len(self._name)
        body = record[head:-32]
        if record[:head] != _MAGIC + self._name or record[-32:] != self._digest(body):
            return None
        return body

    def store(self, body: bytes) -> None:
        """Keep a record, all of it or nothing."""
        record = b"".join((_MAGIC, self._name, body, self._digest(body)))
        if self._path is None or len(record) > RECORD_LIMIT:
            return
        with suppress(OSError):
            folder = self._path.parent
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(prefix=".", dir=folder, delete=False) as file:
                written = Path(file.name)
                try:
                    file.write(record)
                    file.flush()
                    written.replace(self._path)
                except OSError:
                    written.unlink()
                    raise
            _make_room(folder)

    def _digest(self, body: bytes) -> bytes:
        return hashlib.sha256(self._name + body).digest()


def _make_room(folder: Path) -> None:
    found = []
    for path in folder.iterdir():
        status = path.stat()
        found.append((status.st_mtime_ns, status.st_size, path))
    held = sum(size for _time, size, _path in found)
    for _time, size, path in sorted(found):
        if held <= KEPT_LIMIT:
            return
        path.unlink(missing_ok=True)
        held -= size
