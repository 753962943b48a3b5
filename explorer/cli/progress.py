# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a command is, on a terminal."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

from explorer.core.selection import show_size

COUNT_SECONDS = 0.1
"""How often a count is shown anew."""


class Progress:
    """One line that is written over and over."""

    def __init__(self, stream: TextIO) -> None:
        """Write to a terminal."""
        self._stream = stream
        self._begin = time.monotonic()
        self._shown = False
        self._told = 0.0

    def show(self, entries: int, count: int, total: int) -> None:
        """Show how many entries and bytes are done; of ``total`` bytes, if that is not 0."""
        elapsed = max(time.monotonic() - self._begin, 0.001)
        text = f"{show_size(count)}  {entries} entries  {show_size(int(count / elapsed))}/s"
        if total:
            part = min(1.0, count / total)
            self._draw(part, f" {part:4.0%}  {text}")
        else:
            self._write(text)

    def show_bytes(self, count: int, total: int) -> None:
        """Show how many bytes of how many are done."""
        part = count / total if total else 1.0
        elapsed = max(time.monotonic() - self._begin, 0.001)
        speed = show_size(int(count / elapsed))
        self._draw(part, f" {part:4.0%}  {show_size(count)} of {show_size(total)}  {speed}/s")

    def show_count(self, entries: int, found: int) -> None:
        """Show how far a search is whose end nobody knows."""
        now = time.monotonic()
        if now - self._told >= COUNT_SECONDS:
            self._told = now
            self._write(f"{entries} entries, {found} found")

    def _draw(self, part: float, text: str) -> None:
        width = max(10, min(40, shutil.get_terminal_size().columns - len(text) - 3))
        full = round(part * width)
        self._write(f"[{'#' * full}{'.' * (width - full)}]{text}")

    def _write(self, text: str) -> None:
        self._stream.write(f"\r{text}\x1b[K")
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False
