# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images that are compressed as a whole with gzip, xz, zstd or bzip2, opened in place.

Nothing is unpacked up front, and never more than a few pieces are in memory. How long the disk is
must be known, though: xz tells, zstd and BGZF mostly do; of others the file is gone through once,
and what is found is kept in the cache folder. What is inside may be an image of any format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.core.errors import SourceError
from explorer.images.inner import open_inner
from explorer.images.packed import Aside, PackedImage
from explorer.images.packed_bzip2 import Bzip2Packing
from explorer.images.packed_gzip import GzipPacking
from explorer.images.packed_xz import XzPacking
from explorer.images.packed_zstd import ZstdPacking

if TYPE_CHECKING:
    from collections.abc import Callable

    from explorer.images.base import Image
    from explorer.images.opening import Opening
    from explorer.images.packed import Packing


def open_gzip(opening: Opening) -> Image:
    """Open what is in a gzip file."""
    return _open(opening, lambda _aside: GzipPacking(opening))


def open_xz(opening: Opening) -> Image:
    """Open what is in an .xz file."""
    return _open(opening, lambda _aside: XzPacking(opening))


def open_zstd(opening: Opening) -> Image:
    """Open what is in a zstd file."""
    return _open(opening, lambda aside: ZstdPacking(opening, aside))


def open_bzip2(opening: Opening) -> Image:
    """Open what is in a bzip2 file."""
    return _open(opening, lambda _aside: Bzip2Packing(opening))


def _open(opening: Opening, find_runs: Callable[[Aside], Packing]) -> Image:
    aside = Aside(opening.choices.cache_folder)
    opening.stack.callback(aside.close)
    packing = find_runs(aside)
    if not packing.size:
        raise SourceError("source.empty", path=opening.path)
    image: Image = PackedImage(opening, packing, aside)
    # Whoever names the compression means what is in it as it is.
    if opening.choices.format is None:
        image = open_inner(opening, image)
    packing.progress = None
    return image
