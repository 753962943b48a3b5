# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m explorer.writer``: how a copy starts its writer; not for people."""

from __future__ import annotations

import sys

from explorer.writer.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
