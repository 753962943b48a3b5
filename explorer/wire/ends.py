# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How an engine came to its end, as an error: the cause, and the last lines that it said.

And how a copy did, which takes two processes.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from explorer.core.errors import EngineLost, ExportError
from explorer.core.exits import (
    EXIT_ABUSE,
    EXIT_HANGS,
    EXIT_KERNEL_ENDED,
    EXIT_MEMORY,
    EXIT_PROTOCOL,
)
from explorer.core.names import show_name

if TYPE_CHECKING:
    from explorer.core.errors import ExplorerError

CANCELLED = frozenset({"request.cancelled", "export.cancelled"})
"""Codes of what ended because somebody, or the process at the other end, did not want it."""
LOG_TAIL = 1 << 16
"""Bytes of an engine's standard error that are worth keeping."""
LOG_LINES = 20
_LINE_LIMIT = 500
_SIGNALLED = 128
"""An exit code beyond is that of a keeper whose process was ended by the signal of the rest."""

_CODES = {
    EXIT_PROTOCOL: "engine.refused",
    EXIT_ABUSE: "engine.abuse",
    EXIT_KERNEL_ENDED: "engine.kernel-ended",
    EXIT_MEMORY: "engine.memory",
    EXIT_HANGS: "engine.hangs",
}


def exit_loss(code: int, log: bytes | bytearray) -> EngineLost:
    """The loss of an engine by its exit code (negative: a signal), and what it said at last."""
    lines = last_lines(log)
    number = -code if code < 0 else code - _SIGNALLED
    if number > 0:
        name = f"signal {number}"
        with suppress(ValueError):
            name = signal.Signals(number).name
        killed = name == "SIGKILL"
        return EngineLost("engine.killed" if killed else "engine.signal", exit=name, log=lines)
    # What hung, or was out of bounds, is its last line.
    what = lines[-1] if lines else ""
    return EngineLost(
        _CODES.get(code, "engine.lost"), exit=f"exit code {code}", what=what, log=lines
    )


def protocol_loss(reason: str, log: bytes | bytearray) -> EngineLost:
    """The loss of an engine that was not believed any more."""
    return EngineLost("engine.protocol", exit=reason, log=last_lines(log))


def start_loss(reason: str) -> EngineLost:
    """The loss of an engine that could not be started."""
    return EngineLost("engine.start", exit=reason, log=[])


def copy_loss(sending: ExplorerError | None, writing: ExplorerError) -> ExplorerError:
    """Why a copy ended early: the error of its engine, if it failed, or that of its writer.

    When one of them ends so does the other, so the one that was not just cancelled tells why.
    """
    if sending is not None and sending.code not in CANCELLED:
        return sending
    if isinstance(writing, EngineLost):
        # What is told of engines is not true of a writer: nothing of the image is at fault.
        return ExportError("export.writer-lost", exit=str(writing.params["exit"]))
    return writing


def last_lines(log: bytes | bytearray) -> list[str]:
    """The last lines of standard error, safe to show."""
    lines = bytes(log[-LOG_TAIL:]).splitlines()[-LOG_LINES:]
    return [show_name(line[:_LINE_LIMIT]) for line in lines]
