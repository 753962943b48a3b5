# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the program starts: the window, or the command line.

Nothing is imported before it is known which: a command shall not wait for a window's libraries.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run with the given arguments (without the program's name) and return the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    # No argument, or only an image: the window. "self-test" is the one command without any.
    if not arguments or (
        len(arguments) == 1 and not arguments[0].startswith("-") and arguments[0] != "self-test"
    ):
        from explorer.app.start import start

        return start(arguments)
    from explorer.cli.main import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
