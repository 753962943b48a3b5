# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of an engine, from its first frame to its end."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from threading import Timer

from explorer import __version__
from explorer.core.errors import RecordError
from explorer.engine import watch
from explorer.engine.server import Server
from explorer.engine.source import Source
from explorer.host.limits import raise_file_limit
from explorer.wire.frames import EXIT_HANGS, EXIT_PROTOCOL
from explorer.wire.messages import Ready
from explorer.wire.pipe import Pipe, take_standard_streams

END_SECONDS = 10.0
"""How long the end may take when the window is gone, before it is enforced."""


def main() -> int:
    """Serves until the window closes the pipe; returns the process's exit code."""
    # Ctrl+C in a terminal reaches both processes; the window decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_file_limit()
    pipe = Pipe(*take_standard_streams())
    # Python's own faults; those inside the kernel are the library's to catch.
    faulthandler.enable(file=sys.stderr, all_threads=True)
    code = 0
    with Source() as source:
        watch.start(source.pulse, enforce=True)
        pipe.send(0, Ready(__version__))
        server = Server(pipe, source)
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


def _end_hanging() -> None:
    """Says where each thread is, and ends."""
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    os._exit(EXIT_HANGS)
