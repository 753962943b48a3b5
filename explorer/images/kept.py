# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What was found out by reading a whole file, kept for the next time it is opened.

It is stored under the file's identity, and never needed: a record that is missing, damaged, or of
another file is as none, and whatever prevents it from being written is passed over.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from explorer.images.access import access
from explorer.images.records import RECORD_LIMIT, record_name

if TYPE_CHECKING:
    from explorer.images.opening import Opening

_MAGIC = b"lkl-explorer kept\n"
_DIGEST = 32


class Kept:
    """The record about one file, of one kind."""

    def __init__(self, opening: Opening, kind: str) -> None:
        """``kind`` names what the record is made of, and its version."""
        self._file = opening.file
        self._kind = kind
        folder, descriptor = opening.choices.cache_folder, opening.file.descriptor()
        # Only of a host's file it can be told that it is still the same.
        name = None if folder is None or descriptor is None else record_name(descriptor, kind)
        self._folder = None if name is None else folder
        self._name = name or b""
        self._head = _MAGIC + self._name

    def load(self) -> bytes | None:
        """What was stored, whole, or None."""
        if self._folder is None:
            return None
        record = access().load_record(self._file, self._kind, self._folder)
        if record is None:
            return None
        body = record[len(self._head) : -_DIGEST]
        if not record.startswith(self._head) or record[-_DIGEST:] != self._digest(body):
            return None
        return body

    def store(self, body: bytes) -> None:
        """Keep a record, all of it or nothing."""
        record = b"".join((self._head, body, self._digest(body)))
        if self._folder is not None and len(record) <= RECORD_LIMIT:
            access().store_record(self._file, self._kind, record, self._folder)

    def _digest(self, body: bytes) -> bytes:
        return hashlib.sha256(self._name + body).digest()
