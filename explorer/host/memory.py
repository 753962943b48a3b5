# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory the host can still give."""

from __future__ import annotations

import os
import re
import sys
from functools import cache

_SIZE = 1 << 14


@cache
def hold_information() -> int | None:
    """What tells of memory, opened once; a process that is to be confined opens it before.

    None where there is nothing of the kind. See proc_meminfo(5).
    """
    if sys.platform != "linux":
        return None
    try:
        return os.open("/proc/meminfo", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def available_memory() -> int | None:
    """Bytes that can be used before the host has to swap; None where it cannot be told."""
    descriptor = hold_information()
    if descriptor is None:
        return None
    text = os.pread(descriptor, _SIZE, 0)
    found = re.search(rb"^MemAvailable: +(\d+) kB$", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else None
