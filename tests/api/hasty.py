# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""An engine whose watchdog has little patience: ``python -m tests.api.hasty``."""

from __future__ import annotations

import sys

from explorer.engine import watch
from explorer.engine.main import main

READ_SECONDS = 1.0
ALIVE_SECONDS = 3.0

if __name__ == "__main__":
    watch.READ_SECONDS = READ_SECONDS
    watch.ALIVE_SECONDS = ALIVE_SECONDS
    sys.exit(main())
