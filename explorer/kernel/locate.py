# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the library, the kernel image and the header lie."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from explorer.core.errors import ExplorerError, host_path

LIBRARY = "liblkl.so"
KERNEL_IMAGE = "lkl-kernel.so"
HEADER = "lkl.h"
SAMPLE = "sample.img"

_ROOT = Path(__file__).resolve().parents[2]


class Build(NamedTuple):
    """One build of the Linux Kernel Library."""

    library: Path
    """The host library."""
    image: Path
    """The kernel image that it loads."""
    header: Path
    """The declarations of its functions."""


def _folder() -> Path:
    frozen = getattr(sys, "_MEIPASS", None)
    if given := os.environ.get("LKL_BUILD"):
        return Path(given)
    return Path(frozen) / "lkl" if frozen is not None else _ROOT / "build"


def _check_file(path: Path, code: str) -> Path:
    if not path.is_file():
        raise ExplorerError(code, path=host_path(path))
    return path


def find_build() -> Build:
    """Find the build: ``LKL_BUILD``, then a frozen program's resources, then the source tree.

    Raises :exc:`ExplorerError` (``kernel.missing``).
    """
    folder = _folder()
    # A frozen program carries the header beside the library.
    beside = folder / HEADER
    header = beside if beside.is_file() else _ROOT / "liblkl" / "include" / HEADER
    return Build(
        _check_file(folder / LIBRARY, "kernel.missing"),
        _check_file(folder / KERNEL_IMAGE, "kernel.missing"),
        _check_file(header, "kernel.missing"),
    )


def find_sample() -> Path:
    """Find the sample disk beside the build; raises :exc:`ExplorerError` (``sample.missing``)."""
    beside = _folder() / SAMPLE
    return beside if beside.is_file() else _check_file(_ROOT / "build" / SAMPLE, "sample.missing")
