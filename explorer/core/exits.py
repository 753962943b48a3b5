# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Exit codes of the program's own processes, by which the one that started them knows why."""

from __future__ import annotations

EXIT_PROTOCOL = 65
"""What came over the pipe was no request."""
EXIT_ABUSE = 69
"""It wished for what none in order does; the last line names it."""
EXIT_KERNEL_ENDED = 70
"""Its kernel has ended, nothing more can be asked of it."""
EXIT_MEMORY = 71
"""It came to the limit of its memory."""
EXIT_HANGS = 75
"""An operation hung; the last line of its standard error names it."""
