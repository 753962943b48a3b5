# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of a server as sources, by way of the process that fetches them."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from explorer.core.errors import SourceError, UnsupportedFeature
from explorer.core.fetching import ANSWER, LENGTH_LIMIT, LINE_LIMIT, REQUEST, TEXT_LIMIT
from explorer.core.names import show_name
from explorer.host.processes import own_command
from explorer.images.files import FLOW, Folder, SourceFile, missing_part

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path
    from typing import IO

END_SECONDS = 5.0


def show_url(url: str) -> str:
    """A URL for messages, without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return show_name(urlunsplit((parts.scheme, host, parts.path, "", "")).encode())


def start_fetching(url: str, cache_folder: Path | None) -> subprocess.Popen[bytes]:
    """Start the process that fetches a file, and ask it for that one.

    Blocks are kept in ``cache_folder`` for the next time, as far as the server tells one state of
    the file from another.
    """
    process = subprocess.Popen(
        own_command("fetch"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=True
    )
    assert process.stdin is not None
    cache = None if cache_folder is None else str(cache_folder)
    # It may have ended already, of which its silence will tell.
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps({"url": url, "cache": cache}).encode() + b"\n")
        process.stdin.flush()
    return process


def stop_fetching(process: subprocess.Popen[bytes]) -> None:
    """See to it that a process ends whose pipes are closed."""
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class RemoteFile(SourceFile):
    """A file of a server, by way of the process that fetches it."""

    def __init__(
        self, requests: IO[bytes], answers: IO[bytes], shown: str, identity: Hashable
    ) -> None:
        """Take over the pipes to and from a process that was asked for it.

        ``shown`` is the URL for messages. Raises :exc:`SourceError`.
        """
        self._requests = requests
        self._answers = answers
        self._shown = shown
        self._identity = identity
        self._lock = Lock()
        try:
            self._size = self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> int:
        line = self._answers.readline(LINE_LIMIT)
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
        try:
            self._requests.write(data)
            self._requests.flush()
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
        """The URL, or what stands for it."""
        return self._identity

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``."""
        for start in range(0, len(buffer), LENGTH_LIMIT):
            piece = buffer[start : start + LENGTH_LIMIT]
            with self._lock:
                self._read_piece(offset + start, piece)
            FLOW.add(len(piece))

    def _read_piece(self, offset: int, piece: memoryview) -> None:
        self._send(REQUEST.pack(offset, len(piece)))
        head = self._answers.read(ANSWER.size)
        if len(head) != ANSWER.size:
            raise self._lost()
        code, length = ANSWER.unpack(head)
        if code:
            reason = self._answers.read(min(length, TEXT_LIMIT))
            raise SourceError("source.unreadable", path=self._shown, reason=show_name(reason))
        done = 0
        while length == len(piece) and done < length:
            # A buffered reader, whose one read may bring less.
            got = self._answers.readinto(piece[done:])  # type: ignore[attr-defined]
            if not got:
                break
            done += got
        if done != len(piece):
            raise self._lost()

    def close(self) -> None:
        """Close the pipes, at which the process ends; a second call does nothing."""
        if not self._requests.closed:
            with self._lock:
                # What was not sent is of no use to one that has ended.
                with suppress(BrokenPipeError):
                    self._requests.close()
                self._answers.close()


class _FetchedFile(RemoteFile):
    """With a process of its own."""

    def __init__(self, url: str, cache_folder: Path | None) -> None:
        self._process = start_fetching(url, cache_folder)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        super().__init__(self._process.stdin, self._process.stdout, show_url(url), url)

    def close(self) -> None:
        super().close()
        stop_fetching(self._process)


def open_remote(url: str, cache_folder: Path | None = None) -> RemoteFile:
    """A file of a server, fetched by a process of its own; raises :exc:`SourceError`."""
    return _FetchedFile(url, cache_folder)


class RemoteFolder(Folder):
    """A folder of a server: gives out what lies below it."""

    def __init__(self, url: str, cache_folder: Path | None = None) -> None:
        """The folder of the file at ``url``."""
        self.url = url
        self._top = urljoin(url, ".")
        self._cache_folder = cache_folder

    def open(self, name: bytes, role: str, owner: str) -> tuple[SourceFile, Folder]:
        """Open a file by its relative name."""
        url = self.locate(name, role, owner)
        try:
            file = open_remote(url, self._cache_folder)
        except SourceError as error:
            raise missing_part(error, name, role, owner) from None
        return file, RemoteFolder(url, self._cache_folder)

    def locate(self, name: bytes, role: str, owner: str) -> str:
        """The URL of a file by its relative name; raises :exc:`UnsupportedFeature`."""
        url = urljoin(self._top, quote(name))
        if not url.startswith(self._top) or b"\0" in name:
            raise UnsupportedFeature(
                "image.consent",
                path=owner,
                role=role,
                name=show_name(name),
                folder=show_url(url),
                allow="",
            )
        return url

    def names(self) -> list[bytes]:
        """None: a server does not list them."""
        return []
