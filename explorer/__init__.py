# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""LKL Explorer: looks into disk images with Linux' own file systems, in process.

:class:`Source` opens an image for a program of yours; docs/api.md has examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from explorer.api.source import Source
    from explorer.core.errors import ExplorerError

__all__ = ["ExplorerError", "Source"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Each process of the program imports this package, and few of them need that.
    if name == "Source":
        from explorer.api.source import Source

        return Source
    if name == "ExplorerError":
        from explorer.core.errors import ExplorerError

        return ExplorerError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
