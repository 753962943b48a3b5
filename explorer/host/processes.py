# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Which processes there are."""

from __future__ import annotations

from pathlib import Path


def process_start(number: int) -> int | None:
    """When the process of a number began, in clock ticks since boot.

    None when there is none, or none that this user may know of. Number and start together name a
    process: numbers are used again. See proc_pid_stat(5).
    """
    try:
        text = Path(f"/proc/{number}/stat").read_bytes()
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return None
    # Field 22; the second is a name in brackets, which may hold anything.
    return int(text.rpartition(b")")[2].split()[19])
