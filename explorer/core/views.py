# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The two ways to look at a file system that was not closed cleanly."""

from __future__ import annotations

from enum import Enum


class View(Enum):
    """How journals and logs are treated. The source is written to by none of them."""

    AUTO = "auto"
    """Recovered where that is needed and works, else as stored."""
    STORED = "stored"
    """As stored: nothing is replayed, and every write of the kernel fails."""
    RECOVERED = "recovered"
    """As a real mount would leave it: replayed and cleaned up, in memory."""
