# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The program's own processes, and which others there are."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def own_command(name: str) -> list[str]:
    """Program and arguments of the program's own ``engine``, ``writer`` or ``fetch``."""
    if getattr(sys, "frozen", False):
        program = Path(sys.executable)
        return [str(program.with_name(f"lkl-explorer-{name}{program.suffix}"))]
    return [sys.executable, "-m", f"explorer.{name}"]


def may_keep_owners() -> bool:
    """Whether files can be given owners: that needs root's rights."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


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
