# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of a writer: one job, told by its first frame."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import traceback
from argparse import ArgumentParser
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

from explorer import __version__
from explorer.core.errors import ExplorerError, ExportError, RecordError
from explorer.core.exits import EXIT_HANGS, EXIT_PROTOCOL
from explorer.native.confine import confine_writes
from explorer.wire.messages import Failed, Ready
from explorer.wire.pipe import Pipe, take_standard_streams
from explorer.wire.writing import Write
from explorer.writer.job import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from explorer.wire.writing import Written

END_SECONDS = 10.0
"""How long the job may take to end when nobody listens any more."""


def main(arguments: Sequence[str]) -> int:
    """Do one job, and end when the pipe is closed; returns the process's exit code."""
    parser = ArgumentParser(prog="explorer.writer")
    parser.add_argument("--stream", type=int, required=True)
    parser.add_argument("--output", type=int)
    options = parser.parse_args(arguments)
    # Ctrl+C in a terminal reaches all processes; the one that started this decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = Pipe(*take_standard_streams())
    faulthandler.enable(file=sys.stderr, all_threads=True)
    pipe.send(0, Ready(__version__))
    try:
        with socket.socket(fileno=options.stream) as source:
            _serve(pipe, source, options.output)
    except RecordError as error:
        print(error, file=sys.stderr)
        return EXIT_PROTOCOL
    return 0


def _serve(pipe: Pipe, source: socket.socket, output: int | None) -> None:
    """Take the job and what steers it, until the pipe is closed.

    Raises :exc:`RecordError` when what comes is neither.
    """
    frames = pipe.frames()
    first = next(frames, None)
    if first is None:
        return
    if not isinstance(first.message, Write) or not first.request:
        raise RecordError("record.frame", reason="no job")
    request = first.request
    job = Job(first.message, source, output, pipe, request)
    failed = _failure(job.open)
    if failed is not None:
        job.close()
        _tell(pipe, request, failed)
        for _frame in frames:
            # Nothing steers what did not begin.
            pass
        return
    # A host that cannot do this has no other wall between what comes and its files.
    confine_writes(job.folders)
    worker = Thread(target=_run, args=(pipe, request, job), daemon=True)
    worker.start()
    try:
        for _request, message in frames:
            if not job.steering.take(message):
                raise RecordError("record.frame", reason=type(message).__name__)
    finally:
        # Nobody listens any more.
        job.steering.cancel()
        worker.join(END_SECONDS)
        if worker.is_alive():
            faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
            os._exit(EXIT_HANGS)


def _run(pipe: Pipe, request: int, job: Job) -> None:
    """Do the job, and tell its end when what did not become whole is gone."""
    ends: list[Written] = []
    failed = _failure(lambda: ends.append(job.run()))
    job.close()
    _tell(pipe, request, failed or ends[0])


def _failure(step: Callable[[], None]) -> Failed | None:
    """Do something; what it failed by, as the end of the job."""
    try:
        step()
    except ExplorerError as error:
        return Failed(error)
    except BrokenPipeError:
        # Nobody will be told.
        return Failed(ExportError("export.cancelled"))
    except Exception as error:  # noqa: BLE001 - the end must be told, whatever it is
        traceback.print_exc(file=sys.stderr)
        return Failed(ExplorerError("engine.internal", reason=repr(error)))
    return None


def _tell(pipe: Pipe, request: int, end: Failed | Written) -> None:
    with suppress(BrokenPipeError):
        pipe.send(request, end)
