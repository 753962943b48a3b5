# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the program starts: the window, or the command line.

Nothing is imported before it is known which: a command shall not wait for a window's libraries.
"""

from __future__ import annotations

import os
import sys

from explorer.core.urls import is_url

READING = ("info", "ls", "stat", "cat", "hash", "verify", "timeline", "inventory", "find", "grep")
COMMANDS = frozenset((*READING, "diff", "cp", "tar", "zip", "self-test"))


def main(argv: list[str] | None = None) -> int:
    """Run with the given arguments (without the program's name) and return the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    # No argument, or only an image: the window. An image named like a command is ./ls.
    if not arguments or (len(arguments) == 1 and is_image(arguments[0])):
        # A mistyped command is told of here, not in a window or for want of one.
        if arguments and not (os.path.lexists(arguments[0]) or is_url(os.fsencode(arguments[0]))):
            from explorer.cli.main import refuse_missing

            return refuse_missing(arguments[0])
        from explorer.app.start import start

        return start(arguments)
    from explorer.cli.main import run

    return run(arguments)


def is_image(argument: str) -> bool:
    """Whether an argument that stands alone names an image."""
    return argument not in COMMANDS and not argument.startswith("-")


if __name__ == "__main__":
    sys.exit(main())
