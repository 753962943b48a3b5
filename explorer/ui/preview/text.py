# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Guesses whether bytes are text, and in which encoding."""

from __future__ import annotations

import codecs
from typing import NamedTuple

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\x1b\b")
_CONTROLS = bytes(code for code in range(32) if code not in _TEXT_CONTROLS) + b"\x7f"


class Text(NamedTuple):
    """Decoded text."""

    text: str
    encoding: str


def guess_text(head: bytes, *, whole: bool) -> Text | None:
    """The text that a file begins with, or None for what is no text.

    ``whole`` is whether ``head`` is all of the file; otherwise a character may be cut off at its
    end. A mark decides; then UTF-8; then an 8-bit encoding of Western Europe, unless there are
    control characters that no text has.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return Text(head.decode(encoding, "replace"), encoding.removesuffix("-sig"))
    if head.translate(None, _CONTROLS) != head:
        return None
    try:
        return Text(codecs.getincrementaldecoder("utf-8")().decode(head, whole), "utf-8")
    except UnicodeDecodeError:
        return Text(head.decode("cp1252", "replace"), "windows-1252")
