# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C, which Python alone would not hear before a call into the kernel returns."""

from __future__ import annotations

import os
import select
import signal
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

from explorer.cli.codes import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Iterator

GRACE_SECONDS = 1.0
"""What an interrupted command has for ending in order."""


@contextmanager
def interruptible() -> Iterator[None]:
    """End the process when a command has not ended a second after Ctrl-C, or at the second one.

    That is safe at any time: sources are only read, and copies are written as ``name.part``.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    Thread(target=_watch, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)


def _watch(reader: int) -> None:
    with open(reader, "rb", buffering=0) as signals:
        # Nothing more comes when the command has ended.
        if signals.read(1) and (not _comes(signals.fileno()) or signals.read(1)):
            # Not through sys.stderr, which the command may be holding.
            os.write(2, b"lkl-explorer: interrupted\n")
            os._exit(INTERRUPTED)


def _comes(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], GRACE_SECONDS)[0])
