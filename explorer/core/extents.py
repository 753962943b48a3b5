# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Extents: what an image or file holds where."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class ExtentKind(Enum):
    """What an extent holds."""

    DATA = "data"
    ZERO = "zero"
    """Reads as zeros, and is stored so."""
    HOLE = "hole"
    """Reads as zeros, and is not stored."""


class Extent(NamedTuple):
    """A range of bytes of one kind."""

    offset: int
    """Bytes from the start."""
    length: int
    """Bytes; never 0."""
    kind: ExtentKind
