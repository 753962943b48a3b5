# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What names of an image become on a host, by the rules of ``native.h``, and the way back."""

from __future__ import annotations

from explorer.native.library import load

RULES = {"posix": 0, "windows": 1}
LONGEST = 255
"""What hosts take: bytes, or units of UTF-16 by the rule of Windows."""


def map_name(name: bytes, rules: str, number: int = 1) -> bytes:
    """What a name becomes; ``number`` is 2 and more where that is taken.

    Raises :exc:`ValueError` for what is no name.
    """
    native = load()
    mapped = native.ffi.new("char[]", native.library.LKN_NAME_SIZE)
    length = native.library.lkn_name_map(
        native.ffi.from_buffer(name), len(name), RULES[rules], number, LONGEST, mapped
    )
    if length < 0:
        raise ValueError("no name of an entry")
    return bytes(native.ffi.buffer(mapped, length))


def unmap_name(mapped: bytes) -> bytes | None:
    """The name that became this by the rule of Windows; None where that cannot be told."""
    native = load()
    name = native.ffi.new("char[]", native.library.LKN_NAME_SIZE)
    length = native.library.lkn_name_unmap(native.ffi.from_buffer(mapped), len(mapped), name)
    return bytes(native.ffi.buffer(name, length)) if length >= 0 else None
