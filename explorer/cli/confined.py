# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A command in a process that may open nothing; this one opens for it what the user named."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from explorer.cli.main import find_command, guard, perform
from explorer.cli.output import print_error
from explorer.cli.passphrases import ask_terminal, read_key, set_person
from explorer.core.errors import EngineLost, ExplorerError
from explorer.core.messages import describe
from explorer.host.folders import cache_folder
from explorer.keeper.keeper import Bounds, end_like, keep
from explorer.keeper.rules import Rules, Wanted

if TYPE_CHECKING:
    from argparse import Namespace

    from explorer.keeper.asking import Asker
    from explorer.native.confine import Confinement


def keep_command(arguments: Namespace) -> int:
    """Run a command confined; returns its exit code."""
    if arguments.key_file is not None:
        # Kept for the process to be, which could not read it.
        read_key(arguments.key_file)
    against = getattr(arguments, "against", None)
    paths = (arguments.image, *arguments.more, *([against] if against else []))
    wanted = Wanted(
        paths=tuple(map(os.fsencode, paths)), allowed=tuple(map(os.fsencode, arguments.allowed))
    )
    rules = Rules(wanted, cache_folder=cache_folder(), ask_passphrase=_ask)
    ending = keep(_Command(arguments), rules, wanted.paths, Bounds())
    if ending.memory:
        raise EngineLost("engine.memory")
    if ending.hangs:
        raise EngineLost("engine.hangs", what=ending.hangs)
    if ending.abuse:
        raise EngineLost("engine.protocol", exit=ending.abuse)
    if ending.signal:
        print_error(describe(EngineLost("engine.signal", exit=f"signal {ending.signal}")))
    end_like(ending)
    return ending.code


def _ask(what: str, wrong: int) -> bytes | None:
    """Ask at the terminal; Ctrl-C takes the question away, and ends the command."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return ask_terminal(what, wrong)
    except KeyboardInterrupt:
        return None
    finally:
        signal.signal(signal.SIGINT, before)


class _Command:
    """What is done in the confined process."""

    def __init__(self, arguments: Namespace) -> None:
        self._arguments = arguments

    def prepare(self) -> int:
        """Import what most commands need, and open the kernel image."""
        from explorer.host.memory import hold_information
        from explorer.kernel.binding import hold_image

        find_command(self._arguments.command)
        hold_information()
        return hold_image()

    def run(self, asker: Asker, _confinement: Confinement) -> int:
        """Run the command."""
        set_person(asker.ask_passphrase)
        return guard(self._arguments, lambda: perform(self._arguments))

    def fail(self, failure: ExplorerError) -> int:
        """Tell it as any other failure."""

        def fail() -> int:
            raise failure

        return guard(self._arguments, fail)
