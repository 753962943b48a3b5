# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Folders of the host that programs keep their own things in."""

from __future__ import annotations

from pathlib import Path

PROGRAM = "lkl-explorer"


def cache_folder() -> Path:
    """Where what was costly to find out is kept; it may be emptied at any time."""
    import appdirs

    return Path(appdirs.user_cache_dir(PROGRAM, appauthor=False))
