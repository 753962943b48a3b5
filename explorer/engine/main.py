# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of an engine, from its first frame to its end, and that of its keeper."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from argparse import ArgumentParser
from threading import Timer
from typing import TYPE_CHECKING

from explorer import __version__
from explorer.core.errors import RecordError
from explorer.core.exits import EXIT_ABUSE, EXIT_HANGS, EXIT_MEMORY, EXIT_PROTOCOL
from explorer.engine import watch
from explorer.host.folders import cache_folder
from explorer.host.limits import raise_file_limit
from explorer.keeper.keeper import Bounds, Ending, end_like, keep
from explorer.keeper.rules import Rules

if TYPE_CHECKING:
    from explorer.core.errors import ExplorerError
    from explorer.engine.server import Answer, Handler
    from explorer.keeper.asking import Asker
    from explorer.native.confine import Confinement
    from explorer.wire.messages import Message, Reply

END_SECONDS = 10.0
"""How long the end may take when the window is gone, before it is enforced."""
NICENESS = 5
"""The window goes before it."""


def main() -> int:
    """Serves until the window closes the pipe; returns the process's exit code."""
    # Ctrl+C in a terminal reaches all processes; the window decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_file_limit()
    parser = ArgumentParser()
    parser.add_argument("--hand-over", type=int, metavar="DESCRIPTOR")
    engine = _Engine(parser.parse_args().hand_over)
    bounds = Bounds(overdue=watch.overdue, niceness=NICENESS)
    return _tell(keep(engine, Rules(cache_folder=cache_folder()), (), bounds))


def _tell(ending: Ending) -> int:
    """Says on standard error how an engine ended, if not in order; returns the exit code."""
    reason, code = "", ending.code
    if ending.hangs:
        reason, code = ending.hangs, EXIT_HANGS
    elif ending.memory:
        reason, code = f"out of bounds: {ending.memory >> 20} MiB of memory", EXIT_MEMORY
    elif ending.abuse:
        reason, code = f"out of bounds: {ending.abuse}", EXIT_ABUSE
    if reason or ending.signal:
        lines = [*watch.report(), *([reason] if reason else [])]
        print(*lines, sep="\n", file=sys.stderr, flush=True)
    end_like(ending)
    return code


class _Engine:
    """What is done in the confined process."""

    def __init__(self, way: int | None) -> None:
        """``way`` is the descriptor through which others are handed over."""
        self._way = way

    def prepare(self) -> int:
        """Imports and opens what it will need."""
        from explorer.engine.server import Server
        from explorer.engine.source import Source
        from explorer.host.handover import Taker
        from explorer.host.memory import hold_information
        from explorer.kernel.binding import hold_image
        from explorer.wire.messages import Ready
        from explorer.wire.pipe import Pipe, take_standard_streams

        self._ready, self._server, self._source = Ready, Server, Source
        self._pipe = Pipe(*take_standard_streams())
        self._taker = None if self._way is None else Taker(self._way)
        # Python's own faults; those inside the kernel are the library's to catch.
        faulthandler.enable(file=sys.stderr, all_threads=True)
        hold_information()
        return hold_image()

    def run(self, _asker: Asker, confinement: Confinement) -> int:
        """Serves until the window closes the pipe."""
        with self._source(self._taker) as source:
            watch.start(source.pulse, enforce=False)
            return self._serve(source, confinement.missing)

    def fail(self, failure: ExplorerError) -> int:
        """Answers whatever is asked with the failure."""
        return self._serve(_Broken(failure), ())

    def _serve(self, handler: Handler, missing: tuple[str, ...]) -> int:
        code = 0
        self._pipe.send(0, self._ready(__version__, missing))
        server = self._server(self._pipe, handler)
        try:
            server.serve()
        except RecordError as error:
            print(error, file=sys.stderr)
            code = EXIT_PROTOCOL
        # A thread that hangs in the kernel must not outlive the window.
        enforcer = Timer(END_SECONDS, _end_hanging)
        enforcer.daemon = True
        enforcer.start()
        server.stop()
        return code


class _Broken:
    """What answers where a part of the program is missing."""

    def __init__(self, failure: ExplorerError) -> None:
        self._failure = failure

    def handle(self, _message: Message, _answer: Answer) -> Reply:
        """Fails."""
        raise self._failure


def _end_hanging() -> None:
    """Says where each thread is, and ends."""
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    os._exit(EXIT_HANGS)
