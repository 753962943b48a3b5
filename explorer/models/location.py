# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where in which source something stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from explorer.client.session import Session


def join_path(directory: bytes, name: bytes) -> bytes:
    """Path of an entry of a directory, both as the wire names them."""
    return directory + name if directory == b"/" else directory + b"/" + name


def split_path(path: bytes) -> tuple[bytes, bytes]:
    """A path's directory and name; the root is its own directory and has no name."""
    directory, _, name = path.rpartition(b"/")
    return directory or b"/", name


class Location(NamedTuple):
    """A folder in a volume, or a source itself when ``volume`` is None."""

    session: Session
    volume: int | None
    path: bytes

    @property
    def parent(self) -> Location | None:
        """One step up; None at the source."""
        if self.volume is None:
            return None
        if self.path == b"/":
            return Location(self.session, None, b"/")
        return self._replace(path=split_path(self.path)[0])

    def child(self, name: bytes) -> Location:
        """The entry of this folder called ``name``."""
        return self._replace(path=join_path(self.path, name))
