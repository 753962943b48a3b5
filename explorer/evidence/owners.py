# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of users and groups, as the volume's own ``/etc`` has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import ExplorerError
from explorer.core.names import show_name
from explorer.evidence.walking import go_on

if TYPE_CHECKING:
    from explorer.kernel import Mount

SIZE_LIMIT = 4 << 20
"""Bytes of a list; what is beyond is not looked at."""


class Owners(NamedTuple):
    """Names by number, safe to show; the first of each, as getpwuid(3) does."""

    users: dict[int, str]
    groups: dict[int, str]


def read_owners(mount: Mount) -> Owners:
    """The names that a volume knows; none where it is no root of a system."""
    return Owners(_read_list(mount, b"/etc/passwd"), _read_list(mount, b"/etc/group"))


def _read_list(mount: Mount, path: bytes) -> dict[int, str]:
    try:
        with mount.open_file(path) as file:
            text = file.read_at(0, SIZE_LIMIT)
    except ExplorerError as error:
        go_on(error)
        return {}
    names: dict[int, str] = {}
    for line in text.split(b"\n"):
        # passwd(5), group(5): name:password:number
        name, *rest = line.split(b":", 3)
        if name and len(rest) >= 2 and rest[1].isdigit() and len(rest[1]) <= 10:
            names.setdefault(int(rest[1]), show_name(name))
    return names
