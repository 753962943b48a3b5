# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts it: ``python -m explorer.fetch``."""

from __future__ import annotations

import sys

from explorer.fetch.main import main

if __name__ == "__main__":
    sys.exit(main())
