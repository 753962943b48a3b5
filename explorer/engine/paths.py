# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths inside a volume, as the wire names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.core.entries import FileType
from explorer.core.errors import RecordError
from explorer.core.names import is_path

if TYPE_CHECKING:
    from explorer.core.entries import Entry
    from explorer.kernel import Mount

LINK_LIMIT = 40
"""As many as Linux follows."""


def check_path(path: bytes) -> bytes:
    """The path, if it is one of the wire's; raises :exc:`RecordError` if not."""
    if not is_path(path):
        raise RecordError("record.message", message="path", reason="a path that cannot be")
    return path


def split_path(path: bytes) -> tuple[bytes, bytes]:
    """Directory and name; the root's name is empty."""
    directory, _, name = check_path(path).rpartition(b"/")
    return directory or b"/", name


def resolve(mount: Mount, path: bytes) -> tuple[bytes, Entry]:
    """Where a path leads to, by a path without links, ``.`` and ``..``, and what stands there.

    The mount's own root is the root of absolute links, and ``..`` does not lead out of it. Raises
    :exc:`KernelError` when there is nothing, or there are too many links.
    """
    if not path.startswith(b"/") or b"\0" in path:
        raise RecordError("record.message", message="path", reason="a path that cannot be")
    done: list[bytes] = []
    ahead = path.split(b"/")[::-1]
    links = 0
    while ahead:
        name = ahead.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            del done[-1:]
            continue
        here = b"/" + b"/".join([*done, name])
        if mount.stat(here).type != FileType.LINK:
            done.append(name)
            continue
        links += 1
        if links > LINK_LIMIT:
            # The kernel counts them too, and says so by its own error.
            mount.stat(path, follow=True)
            raise RecordError("record.message", message="path", reason="too many links")
        target = mount.read_link(here)
        if target.startswith(b"/"):
            done = []
        ahead += target.split(b"/")[::-1]
    found = b"/" + b"/".join(done)
    return found, mount.stat(found)
