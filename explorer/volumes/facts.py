# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts about images and volumes as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.core.selection import show_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from explorer.images.base import Fact, Image


def fact_lines(facts: Mapping[str, Fact]) -> list[str]:
    """Facts, a line each."""
    return [f"{word}: {_text(fact)}" for word, fact in facts.items()]


def _text(fact: Fact) -> str:
    if isinstance(fact, list):
        return ", ".join(fact) or "none"
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return str(fact)


def image_lines(image: Image) -> list[str]:
    """An image and those behind it, each with its facts."""
    lines: list[str] = []
    indent = ""
    behind: Image | None = image
    while behind is not None:
        size = f"{show_size(behind.size)} ({behind.size} bytes)"
        lines.append(f"{indent}{behind.path}: {behind.format}, {size}")
        indent += "  "
        lines += [f"{indent}{line}" for line in fact_lines(behind.facts())]
        behind = behind.parent
    return lines
