# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Exit codes; ``lkl-explorer --help`` lists them."""

from __future__ import annotations

from explorer.core.errors import (
    ExplorerError,
    ExportError,
    ImageError,
    KernelError,
    SearchError,
    SourceError,
    VolumeError,
)

DONE = 0
SOME_FAILED = 1
USAGE = 2
SOURCE = 3
VOLUME = 4
PATH = 5
TARGET = 6
KERNEL = 7
NOTHING_TO_COMPARE = 8
INTERRUPTED = 130
PIPE_CLOSED = 141


def exit_code(error: ExplorerError) -> int:
    """The exit code that tells an error's kind."""
    if isinstance(error, (SourceError, ImageError)):
        return SOURCE
    if isinstance(error, SearchError):
        return USAGE
    if isinstance(error, VolumeError):
        return VOLUME
    if isinstance(error, ExportError):
        return TARGET
    if isinstance(error, KernelError) and error.code == "kernel.call":
        return PATH
    return KERNEL
