# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How much a process may have at once."""

from __future__ import annotations

import sys


def raise_file_limit() -> None:
    """Let this process have as many files open as the system permits it.

    A disk in extents of 2 GiB may have a thousand of them, and the usual limit is 1,024.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
