# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m explorer.engine``: how the window starts an engine; not for people."""

from __future__ import annotations

import sys

from explorer.engine.main import main

if __name__ == "__main__":
    sys.exit(main())
