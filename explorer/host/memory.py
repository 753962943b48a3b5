# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How much memory the host can still give."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path


def available_memory() -> int | None:
    """Bytes that can be used before the host has to swap; None where it cannot be told."""
    # proc_meminfo(5)
    if sys.platform == "linux":
        with suppress(OSError):
            found = re.search(
                r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE
            )
            return 1024 * int(found[1]) if found else None
    return None
