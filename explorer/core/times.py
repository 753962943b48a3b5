# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Times, which are nanoseconds since 1970-01-01 UTC, as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# In a listing many entries are of the same second.
@lru_cache(maxsize=4096)
def _calendar(seconds: int) -> str | None:
    # By addition, for the years before 1970 too; None outside the years 1 to 9999.
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")


def iso_time(time_ns: int) -> str:
    """All of a time, as ``2026-01-31T23:59:59.123456789Z``.

    A year that no calendar shows gives seconds since 1970, as ``@-99999999999999.000000001``.
    """
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    shown = _calendar(seconds)
    return f"{shown}.{nanoseconds:09d}Z" if shown else f"@{seconds}.{nanoseconds:09d}"


def short_time(time_ns: int) -> str:
    """A time in UTC to the second, as ``2026-01-31 23:59:59``."""
    seconds = time_ns // 1_000_000_000
    shown = _calendar(seconds)
    return shown.replace("T", " ") if shown else f"@{seconds}"
