# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Extents: where the bytes of a disk lie."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class ExtentKind(Enum):
    """How the bytes of an extent are had."""

    DATA = "data"
    """They stand in a file of the host, as they are."""
    ZERO = "zero"
    """They are zeros, whether or not these are stored."""
    ENCODED = "encoded"
    """They must be decoded (decompressed, decrypted), or come from elsewhere than a host file."""


class Extent(NamedTuple):
    """A range of a disk's bytes that are had in one way."""

    offset: int
    """Bytes from the start of the disk."""
    length: int
    """Bytes; never 0."""
    kind: ExtentKind
    descriptor: int = -1
    """Of ``DATA``: the host's descriptor of the file, open as long as the image."""
    position: int = 0
    """Of ``DATA``: bytes from the start of that file."""
