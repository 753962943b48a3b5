# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a command is, on a terminal."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from explorer.core.errors import KernelError
from explorer.core.selection import show_size

if TYPE_CHECKING:
    from explorer.core.entries import Entry
    from explorer.kernel import Mount


COUNT_SECONDS = 0.1
"""How often a count is shown anew."""


def data_size(entry: Entry) -> int:
    """The bytes of an entry that have to be read: a hole costs nothing."""
    return min(entry.size, entry.blocks * 512) if entry.is_file else 0


class Progress:
    """One line that is written over and over."""

    def __init__(self, stream: TextIO) -> None:
        """Write to a terminal."""
        self._stream = stream
        self._begin = time.monotonic()
        self._shown = False
        self._entries = 0
        self._bytes = 0
        self._told = 0.0

    def expect(self, mount: Mount, path: bytes) -> None:
        """Look at what is to be copied, so that the bar has an end.

        A walk is much faster than the copy; what fails here will be reported by the copy.
        """
        with suppress(KernelError):
            entry = mount.stat(path, follow=path.endswith(b"/"))
            self._entries, self._bytes = 1, data_size(entry)
            if entry.is_directory:
                with mount.open_directory(path) as directory, directory.walk() as walk:
                    for one in walk:
                        self._entries += 1
                        self._bytes += data_size(one)

    def show(self, entries: int, count: int) -> None:
        """Show how far it is."""
        # Either may be a poor measure: many empty files, or one large one.
        total = self._bytes + 4096 * self._entries
        part = min(1.0, (count + 4096 * entries) / total) if total else 0.0
        elapsed = max(time.monotonic() - self._begin, 0.001)
        self._draw(
            part,
            f" {part:4.0%}  {show_size(count)}  {entries} of {self._entries}"
            f"  {show_size(int(count / elapsed))}/s",
        )

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
