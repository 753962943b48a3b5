# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of a server as sources, by way of the process that fetches them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from explorer.core.errors import MissingPart, SourceError, UnsupportedFeature
from explorer.core.fetching import ANSWER, LENGTH_LIMIT, LINE_LIMIT, REQUEST, TEXT_LIMIT
from explorer.core.names import show_name
from explorer.images.files import Folder, SourceFile

if TYPE_CHECKING:
    from collections.abc import Hashable

END_SECONDS = 5.0


def _command() -> list[str]:
    if getattr(sys, "frozen", False):
        program = Path(sys.executable)
        return [str(program.with_name("lkl-explorer-fetch" + program.suffix))]
    return [sys.executable, "-m", "explorer.fetch"]


def show_url(url: str) -> str:
    """A URL for messages, without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return show_name(urlunsplit((parts.scheme, host, parts.path, "", "")).encode())


class RemoteFile(SourceFile):
    """A file of a server; the fetching process is this object's."""

    def __init__(self, url: str, cache_folder: Path | None = None) -> None:
        """Ask for the file; raises :exc:`SourceError`.

        Blocks are kept in ``cache_folder`` for the next time, as far as the server tells one state
        of the file from another.
        """
        self._url = url
        self._shown = show_url(url)
        self._lock = Lock()
        self._process = subprocess.Popen(
            _command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=True
        )
        try:
            self._size = self._begin(cache_folder)
        except BaseException:
            self.close()
            raise

    def _begin(self, cache_folder: Path | None) -> int:
        cache = None if cache_folder is None else str(cache_folder)
        self._send(json.dumps({"url": self._url, "cache": cache}).encode() + b"\n")
        assert self._process.stdout is not None
        line = self._process.stdout.readline(LINE_LIMIT)
        try:
            told = json.loads(line)
            if "error" in told:
                raise SourceError(
                    str(told["error"]),
                    path=self._shown,
                    reason=show_name(str(told["reason"]).encode()),
                )
            size = told["size"]
        except (ValueError, KeyError, TypeError):
            raise self._lost() from None
        if not isinstance(size, int) or not 0 < size < 1 << 63:
            raise self._lost()
        return size

    def _lost(self) -> SourceError:
        return SourceError(
            "source.unreadable", path=self._shown, reason="the process that fetches it has ended"
        )

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._lost() from None

    @property
    def path(self) -> str:
        """The URL, without what may be secret in it."""
        return self._shown

    @property
    def size(self) -> int:
        """Bytes, as the server tells."""
        return self._size

    @property
    def identity(self) -> Hashable:
        """The URL."""
        return self._url

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``."""
        for start in range(0, len(buffer), LENGTH_LIMIT):
            piece = buffer[start : start + LENGTH_LIMIT]
            with self._lock:
                self._read_piece(offset + start, piece)

    def _read_piece(self, offset: int, piece: memoryview) -> None:
        self._send(REQUEST.pack(offset, len(piece)))
        assert self._process.stdout is not None
        head = self._process.stdout.read(ANSWER.size)
        if len(head) != ANSWER.size:
            raise self._lost()
        code, length = ANSWER.unpack(head)
        if code:
            reason = self._process.stdout.read(min(length, TEXT_LIMIT))
            raise SourceError("source.unreadable", path=self._shown, reason=show_name(reason))
        done = 0
        while length == len(piece) and done < length:
            # A buffered reader, whose one read may bring less.
            got = self._process.stdout.readinto(piece[done:])  # type: ignore[attr-defined]
            if not got:
                break
            done += got
        if done != len(piece):
            raise self._lost()

    def close(self) -> None:
        """End the process; a second call does nothing."""
        process = self._process
        if process.stdin is not None and not process.stdin.closed:
            with self._lock:
                process.stdin.close()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


class RemoteFolder(Folder):
    """A folder of a server: gives out what lies below it."""

    def __init__(self, url: str, cache_folder: Path | None = None) -> None:
        """The folder of the file at ``url``."""
        self._top = urljoin(url, ".")
        self._cache_folder = cache_folder

    def open(self, name: bytes, role: str, owner: str) -> tuple[SourceFile, Folder]:
        """Open a file by its relative name."""
        shown = show_name(name)
        url = urljoin(self._top, quote(name))
        if not url.startswith(self._top) or b"\0" in name:
            raise UnsupportedFeature(
                "image.consent", path=owner, role=role, name=shown, folder=show_url(url), allow=""
            )
        try:
            file = RemoteFile(url, self._cache_folder)
        except SourceError as error:
            if error.code == "source.missing":
                raise MissingPart("image.missing-part", path=owner, role=role, name=shown) from None
            raise
        return file, RemoteFolder(url, self._cache_folder)

    def names(self) -> list[bytes]:
        """None: a server does not list them."""
        return []
