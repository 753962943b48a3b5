# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What names become in an archive.

Tar holds any name, zip those that are UTF-8: what is not becomes one by the rule of Windows, which
can be undone. Where archives are for Windows, all names follow that rule. Names of one folder
that are the same to whoever unpacks it (the same bytes, or for Windows the same letters of another
size) get numbers, so that nothing replaces another thing.
"""

from __future__ import annotations

from unicodedata import normalize

from explorer.native.names import map_name


class PosixNames:
    """Names stay as they are; in a zip, as far as they are UTF-8."""

    def __init__(self, *, utf8: bool) -> None:
        self._utf8 = utf8

    def map(self, name: bytes, number: int) -> bytes:
        """The name that stands for another; see :class:`explorer.writer.archive.NameRule`."""
        if self._utf8 and not _is_utf8(name):
            return map_name(name, "windows", number)
        # By itself it may be longer than a host takes: that is the host's affair.
        return name if number == 1 else map_name(name, "posix", number)

    def key(self, name: bytes) -> bytes:
        """A name is the same as itself only."""
        return name


class WindowsNames:
    """Names that Windows can hold."""

    def map(self, name: bytes, number: int) -> bytes:
        """The name that stands for another."""
        return map_name(name, "windows", number)

    def key(self, name: bytes) -> bytes:
        """Letters of any size are the same, and so are characters made in two ways."""
        return normalize("NFC", name.decode().casefold()).encode()


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
