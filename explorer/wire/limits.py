# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a field of a message may hold: types that carry the rule by which a value is checked.

A message declares its fields with these, and both ends check them: who sends, so that nothing goes
out that the other end would refuse, and who receives, because it believes nothing. A rule is a
function that raises :exc:`ValueError`. A field without a rule has the limits of its type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from explorer.core.names import is_entry_name, is_path, show_text

if TYPE_CHECKING:
    from collections.abc import Sized

BYTES_LIMIT = 1 << 16
"""Of a field of bytes."""
TEXT_LIMIT = 1 << 16
"""Characters of a text."""
COUNT_LIMIT = 1 << 17
"""Items of a tuple."""
NAME_LIMIT = 1024
"""Bytes of an entry's name: Linux allows 255, and file systems of others up to 255 characters."""
PATH_LIMIT = 1 << 16
VOLUME_LIMIT = 1 << 16
"""Beyond every volume's number."""
SIZE_LIMIT = 1 << 63
"""Beyond every size and offset; Linux' own limit."""
REQUEST_LIMIT = (1 << 32) - 1
"""The largest number of a request."""


class Between(NamedTuple):
    """A number's range, both ends inside."""

    least: int
    most: int

    def __call__(self, value: int) -> None:
        """Raises :exc:`ValueError` for a number outside."""
        if not self.least <= value <= self.most:
            raise ValueError(f"a number that is not between {self.least} and {self.most}")


class AtMost(NamedTuple):
    """How long something may be: items of a tuple, characters of a text, bytes."""

    most: int

    def __call__(self, value: Sized) -> None:
        """Raises :exc:`ValueError` for more."""
        if len(value) > self.most:
            raise ValueError(f"more than {self.most} of it")


class OneOf(NamedTuple):
    """A text that is one of these words."""

    words: frozenset[str]

    def __call__(self, value: str) -> None:
        """Raises :exc:`ValueError` for another."""
        if value not in self.words:
            raise ValueError("not one of its words")


def check_line(text: str) -> None:
    """A text of one line, safe to show; raises :exc:`ValueError` for another."""
    if len(text) > TEXT_LIMIT or "\n" in text or show_text(text) != text:
        raise ValueError("a text that is not safe to show")


def check_name(name: bytes) -> None:
    """An entry's name; raises :exc:`ValueError` for one that no directory can hold."""
    if len(name) > NAME_LIMIT or not is_entry_name(name):
        raise ValueError("a name that cannot be")


def check_path(path: bytes) -> None:
    """A path within a volume, as the wire names entries."""
    if len(path) > PATH_LIMIT or not is_path(path):
        raise ValueError("a path that cannot be")


def is_below(path: bytes, top: bytes) -> bool:
    """Whether a path is another one, or of something in it."""
    return path == top or path.startswith(top.rstrip(b"/") + b"/")


def check_typed_path(path: bytes) -> None:
    """A path as a person types it: absolute, but with ``.``, ``..`` and doubled slashes."""
    if len(path) > PATH_LIMIT or not path.startswith(b"/") or b"\0" in path:
        raise ValueError("a path that cannot be")


def check_host_path(path: bytes) -> None:
    """A path of the host, or a server's address."""
    if not 0 < len(path) <= PATH_LIMIT or b"\0" in path:
        raise ValueError("a path of the host that cannot be")


def check_target(target: bytes) -> None:
    """Where a link points: any bytes that a link can hold."""
    if len(target) > PATH_LIMIT or b"\0" in target:
        raise ValueError("a link that cannot be")


def check_xattr_name(name: bytes) -> None:
    """An extended attribute's name."""
    if not 0 < len(name) <= NAME_LIMIT or b"\0" in name:
        raise ValueError("a name that cannot be")


VolumeNumber = Annotated[int, Between(0, VOLUME_LIMIT - 1)]
RequestNumber = Annotated[int, Between(1, REQUEST_LIMIT)]
Count = Annotated[int, Between(0, SIZE_LIMIT - 1)]
"""Of bytes, entries, nanoseconds; an offset, too."""
Name = Annotated[bytes, check_name]
Path = Annotated[bytes, check_path]
TypedPath = Annotated[bytes, check_typed_path]
HostPath = Annotated[bytes, check_host_path]
LinkTarget = Annotated[bytes, check_target]
XattrName = Annotated[bytes, check_xattr_name]
Line = Annotated[str, check_line]
"""A text to be shown."""
Word = Annotated[str, check_line, AtMost(255)]
"""A short text: a format, a file system, a release."""

DEFAULTS: dict[Any, Any] = {
    bytes: AtMost(BYTES_LIMIT),
    str: AtMost(TEXT_LIMIT),
    tuple: AtMost(COUNT_LIMIT),
}
"""The rule of a field that declares none."""
