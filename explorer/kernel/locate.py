# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the library, the kernel image and the header lie."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from explorer.core.errors import ExplorerError, host_path

LIBRARY = "liblkl.so"
KERNEL_IMAGE = "lkl-kernel.so"
HEADER = "lkl.h"


@dataclass(frozen=True, slots=True)
class Build:
    """One build of the Linux Kernel Library."""

    library: Path
    """The host library."""
    image: Path
    """The kernel image that it loads."""
    header: Path
    """The declarations of its functions."""


def find_build() -> Build:
    """Find the build: ``LKL_BUILD``, then a frozen program's resources, then the source tree.

    Raises :exc:`ExplorerError` (``kernel.missing``).
    """
    root = Path(__file__).resolve().parents[2]
    frozen = getattr(sys, "_MEIPASS", None)
    if given := os.environ.get("LKL_BUILD"):
        folder = Path(given)
    elif frozen is not None:
        folder = Path(frozen) / "lkl"
    else:
        folder = root / "build"
    # A frozen program carries the header beside the library.
    beside = folder / HEADER
    header = beside if beside.is_file() else root / "liblkl" / "include" / HEADER
    build = Build(folder / LIBRARY, folder / KERNEL_IMAGE, header)
    for path in (build.library, build.image, build.header):
        if not path.is_file():
            raise ExplorerError("kernel.missing", path=host_path(path))
    return build
