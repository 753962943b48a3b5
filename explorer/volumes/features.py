# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What file systems tell of themselves: their features, and whether they were closed cleanly."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from explorer.images.base import Fact
    from explorer.volumes.window import Window

_DESCRIBERS: dict[str, Callable[[Window], dict[str, Fact]]] = {}


def describe_content(volume: Window, content: str) -> dict[str, Fact]:
    """Facts about what was recognised on a volume, in the order to show them."""
    describe = _DESCRIBERS.get(content)
    return {} if describe is None else describe(volume)
