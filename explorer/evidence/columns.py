# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries as rows of text: what timeline and inventory have in common."""

from __future__ import annotations

import csv
import io
import json
import stat
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from explorer.core.entries import MASK_MODE, Entry
from explorer.core.names import show_name
from explorer.core.objects import TIMES, entry_times, json_entry, json_name
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


def entry_object(path: bytes, entry: Entry, target: bytes | None) -> dict[str, Any]:
    """An entry as a JSON object, as the commands show it, with its times as numbers too."""
    shown = {**json_name(path, "path"), **json_entry(entry)}
    for key, time in zip(TIMES, entry_times(entry), strict=True):
        if time is not None:
            shown[f"{key}_ns"] = time
    return shown if target is None else shown | json_name(target, "target")


def json_rows(rows: Iterable[dict[str, Any]]) -> bytes:
    """JSON objects, a line each."""
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def csv_rows(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as CSV (RFC 4180, but lines end as on Unix), in UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
