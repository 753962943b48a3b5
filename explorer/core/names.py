# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Names are bytes; here is how they are shown.

A name in an image may hold anything but ``/`` and NUL: escape sequences for the terminal, a line
break, characters that turn the direction of what follows, bytes that are no UTF-8.
"""

from __future__ import annotations

from unicodedata import category


def _show_character(character: str) -> str:
    # A space of any width is only a space; everything else that is not printable (control,
    # format and bidi characters, line separators, private use, unassigned) is written out.
    if character.isprintable() or category(character) == "Zs":
        return character
    number = ord(character)
    if number < 0x80:
        return character.encode("unicode_escape").decode("ascii")
    # Never \xNN, which stands for a byte that is not UTF-8.
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def show_name(name: bytes) -> str:
    r"""A name or path as text that is safe to print and to put into a window.

    Two different names never look the same by it: bytes that are not UTF-8 become ``\xNN``, a
    backslash ``\\``, control and format characters ``\n``, ``\x1b``, ``\u202e``.
    """
    text = name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(map(_show_character, text))


def show_text(text: str) -> str:
    """Text that another process made, as it is safe to show; line breaks stay.

    What :func:`show_name` made stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(one if one == "\n" else _show_character(one) for one in text)


def is_entry_name(name: bytes) -> bool:
    """Whether a directory entry may have this name: not empty, not ``.`` or ``..``, no ``/``."""
    return bool(name) and b"/" not in name and b"\0" not in name and name not in (b".", b"..")


def is_path(path: bytes) -> bool:
    """Whether it names an entry by itself: absolute, without ``.``, ``..`` and doubled slashes."""
    return path == b"/" or (path.startswith(b"/") and all(map(is_entry_name, path[1:].split(b"/"))))
