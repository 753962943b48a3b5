# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the C libraries, their headers and the kernel image lie."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from explorer.core.errors import ExplorerError, host_path

LIBRARY = "liblkl.so"
KERNEL_IMAGE = "lkl-kernel.so"
HEADER = "lkl.h"
NATIVE_LIBRARY = "liblklnative.so"
NATIVE_HEADER = "native.h"
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
    return Build(
        _check_file(folder / LIBRARY, "kernel.missing"),
        _check_file(folder / KERNEL_IMAGE, "kernel.missing"),
        _find_header(_ROOT / "liblkl" / "include" / HEADER),
    )


def find_native() -> tuple[Path, Path]:
    """Find the library that needs no kernel, and its header.

    Raises :exc:`ExplorerError` (``kernel.missing``).
    """
    return (
        _check_file(_folder() / NATIVE_LIBRARY, "kernel.missing"),
        _find_header(_ROOT / "liblkl" / "native" / NATIVE_HEADER),
    )


def _find_header(source: Path) -> Path:
    # A frozen program carries the headers beside the libraries.
    beside = _folder() / source.name
    return _check_file(beside if beside.is_file() else source, "kernel.missing")


def find_sample() -> Path:
    """Find the sample disk beside the build; raises :exc:`ExplorerError` (``sample.missing``)."""
    beside = _folder() / SAMPLE
    return beside if beside.is_file() else _check_file(_ROOT / "build" / SAMPLE, "sample.missing")
