# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where in a volume an entry of a copy came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Origins:
    """Finds paths in the volume by paths at the destination.

    Several things of one name, and the contents of several folders, cannot be told apart.
    """

    def __init__(self, origins: Sequence[bytes], tops: Sequence[bytes]) -> None:
        """``tops`` is what each of ``origins`` is called; empty for the contents of one."""
        self._contents = origins[0].rstrip(b"/") if len(origins) == 1 and not tops else None
        self._tops: dict[bytes, bytes | None] = {}
        for top, origin in zip(tops, origins, strict=False):
            self._tops[top] = None if top in self._tops else origin

    def find(self, path: bytes) -> bytes:
        """Where ``/name``, as a writer names it, came from; empty if that is not known."""
        if self._contents is not None:
            return self._contents + path
        first, slash, rest = path[1:].partition(b"/")
        origin = self._tops.get(first)
        return b"" if origin is None else (origin.rstrip(b"/") + slash + rest or b"/")


def name_tops(
    paths: Sequence[bytes], name: bytes | None, *, contents: bool
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Origins, and what they are called at the destination, of paths that are copied together."""
    if contents or (paths == (b"/",) and name is None):
        return tuple(paths), ()
    return tuple(paths), tuple(name or path.rpartition(b"/")[2] for path in paths)
