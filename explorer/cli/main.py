# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command and turns whatever goes wrong into one line and an exit code."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING

from explorer.cli import codes
from explorer.cli.arguments import make_parser

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

UNCONFINED = frozenset({"cp", "tar", "zip", "self-test"})
"""Commands that write files of the host; all others read the image in a confined process."""


def run(argv: list[str]) -> int:
    """Run a command; returns the exit code."""
    # A name that the terminal's character set lacks must not end the listing.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    arguments = make_parser().parse_args(argv)

    from explorer.host.limits import raise_file_limit

    raise_file_limit()
    _hold_null()
    if arguments.command in UNCONFINED:
        return guard(arguments, lambda: perform(arguments))

    from explorer.cli.confined import keep_command

    return guard(arguments, lambda: keep_command(arguments))


def perform(arguments: Namespace) -> int:
    """Run a command in this process."""
    from explorer.cli.interrupt import interruptible

    with interruptible():
        code = find_command(arguments.command)(arguments)
        sys.stdout.flush()
    return code


def guard(arguments: Namespace, work: Callable[[], int]) -> int:
    """Run something that returns an exit code, or that of the error it raises, which is told."""
    from explorer.cli.output import print_error, print_json
    from explorer.core.errors import ExplorerError
    from explorer.core.messages import describe

    try:
        return work()
    except ExplorerError as error:
        print_error(describe(error))
        if arguments.json:
            print_json({"error": {"message": describe(error), **error.to_wire()}})
        return codes.exit_code(error)
    except KeyboardInterrupt:
        print_error("interrupted")
        return codes.INTERRUPTED
    except BrokenPipeError:
        # Nobody reads; the interpreter must not try once more when it ends.
        os.dup2(_hold_null(), sys.stdout.fileno())
        return codes.PIPE_CLOSED
    except OSError as error:
        # The host's: the output cannot be written.
        print_error(describe(error))
        return codes.TARGET


@cache
def _hold_null() -> int:
    """Where what nobody reads can go; opened while files still can be."""
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def refuse_missing(path: str) -> int:
    """Say that what stands alone is neither a command nor an image; returns the exit code."""
    from explorer.cli.output import print_error
    from explorer.core.errors import SourceError, host_path
    from explorer.core.messages import describe

    print_error(describe(SourceError("source.missing", path=host_path(path))))
    return codes.SOURCE


def find_command(name: str) -> Callable[[Namespace], int]:
    """The function of a command; only what it needs is imported."""
    if name in ("cp", "tar", "zip"):
        from explorer.cli import copy

        return {"cp": copy.cp, "tar": copy.archive, "zip": copy.archive}[name]
    if name == "ls":
        from explorer.cli.listing import ls

        return ls
    if name in ("hash", "verify"):
        from explorer.cli import hashing

        return {"hash": hashing.hash_image, "verify": hashing.verify_image}[name]
    if name in ("timeline", "inventory", "find", "grep"):
        from explorer.cli import streaming

        return {
            "timeline": streaming.print_timeline,
            "inventory": streaming.print_inventory,
            "find": streaming.find,
            "grep": streaming.grep,
        }[name]
    if name == "diff":
        from explorer.cli.difference import diff

        return diff
    if name == "self-test":
        from explorer.cli.selftest import self_test

        return self_test
    from explorer.cli import commands

    return {
        "info": commands.info,
        "stat": commands.stat,
        "cat": commands.cat,
    }[name]
