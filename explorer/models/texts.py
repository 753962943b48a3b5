# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers and times as people read them; the same in every view."""

from __future__ import annotations

import stat
import time

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SECOND = 1_000_000_000


def size_text(size: int) -> str:
    """``1.5 MiB``: three digits and the unit, never rounded up to another unit's worth."""
    if size < 1024:
        return f"{size} {'byte' if size == 1 else 'bytes'}"
    unit = min((size.bit_length() - 1) // 10, len(_UNITS) - 1)
    value = size / (1 << 10 * unit)
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{decimals}f} {_UNITS[unit]}"


def time_text(moment: int | None) -> str:
    """``2024-05-01 12:34:56`` in the local time zone; empty when there is no time."""
    return "" if moment is None else _format(moment, "%Y-%m-%d %H:%M:%S")


def exact_time_text(moment: int | None) -> str:
    """``2024-05-01 12:34:56.123456789 +0200``; empty when there is no time."""
    if moment is None:
        return ""
    return _format(moment, f"%Y-%m-%d %H:%M:%S.{moment % _SECOND:09d} %z")


def _format(moment: int, pattern: str) -> str:
    try:
        return time.strftime(pattern, time.localtime(moment // _SECOND))
    except (OverflowError, ValueError, OSError):
        # A year that the host's calendar does not know.
        return f"{moment // _SECOND} s"


def mode_text(mode: int) -> str:
    """``drwxr-xr-x``."""
    return stat.filemode(mode)
