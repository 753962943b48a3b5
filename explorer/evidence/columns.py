# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries as rows of text: what timeline and inventory have in common."""

from __future__ import annotations

import csv
import io
import stat
from functools import lru_cache
from typing import TYPE_CHECKING

from explorer.core.entries import MASK_MODE, Entry
from explorer.core.names import show_name
from explorer.core.objects import entry_times
from explorer.core.times import iso_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def iso_times(entry: Entry) -> list[str]:
    """The four times as text; empty where there is none."""
    return ["" if time is None else iso_time(time) for time in entry_times(entry)]


def exact_name(name: bytes) -> tuple[str, str]:
    """A name as text, and its bytes in hexadecimal when that text is not just them in UTF-8."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return show_name(name), name.hex()
    return (text, "") if text.isprintable() else (show_name(name), name.hex())


def shown_mode(entry: Entry) -> str:
    """As ``-rwxr-xr-x``; empty where it is not known."""
    return _filemode(entry.mode) if entry.mask & MASK_MODE else ""


# A volume has few modes, and each entry asks.
_filemode = lru_cache(maxsize=4096)(stat.filemode)


def csv_rows(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as CSV (RFC 4180, but lines end as on Unix), in UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
