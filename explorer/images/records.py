# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The folder of what was found out about files of the host: records, by names of their identity.

A record's name is made of the file it is about: device, inode, size, time of change, and its first
and last bytes. So whoever reads one image cannot say anything about another.
"""

from __future__ import annotations

import os
import stat
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT_LIMIT = 1 << 30
"""Bytes of all records together; those not used for longest leave first."""
RECORD_LIMIT = 1 << 28
"""Bytes of one."""
ENDS = 1 << 16
"""Bytes of a file's head and tail that belong to its identity."""

_FOLDER = "seek-points"
_IDENTITY = struct.Struct("<QQQq")


def record_name(descriptor: int, kind: str) -> bytes | None:
    """The name of a file's record of a kind, 32 bytes; None for what is no plain file.

    ``kind`` names what the record is made of, and its version.
    """
    # It brings OpenSSL where it is there, for which a listing shall not wait.
    import hashlib

    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return None
    digest = hashlib.sha256(kind.encode())
    digest.update(
        _IDENTITY.pack(
            status.st_dev & (1 << 64) - 1,
            status.st_ino & (1 << 64) - 1,
            status.st_size,
            status.st_mtime_ns,
        )
    )
    digest.update(os.pread(descriptor, ENDS, 0))
    digest.update(os.pread(descriptor, ENDS, max(0, status.st_size - ENDS)))
    return digest.digest()


def load_record(cache_folder: Path, name: bytes) -> IO[bytes] | None:
    """A record, open for reading; None when there is none."""
    path = cache_folder / _FOLDER / name.hex()
    try:
        file = path.open("rb")
    except OSError:
        return None
    # Used again: it leaves later.
    os.utime(path)
    return file


@contextmanager
def store_record(cache_folder: Path, name: bytes) -> Iterator[IO[bytes]]:
    """A file to write a record to, which is kept when all has gone well.

    Raises :exc:`OSError`; also when the record has become too large.
    """
    # Hardly ever needed, and slow to import.
    import tempfile

    folder = cache_folder / _FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".", dir=folder, delete=False) as file:
        written = Path(file.name)
        try:
            yield file
            file.flush()
            if os.fstat(file.fileno()).st_size > RECORD_LIMIT:
                raise OSError("the record is too large")
            written.replace(folder / name.hex())
        except BaseException:
            written.unlink()
            raise
    _make_room(folder)


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
