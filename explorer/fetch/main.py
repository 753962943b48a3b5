# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads ranges of a URL through fsspec, and keeps their blocks on disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO

from explorer.core.fetching import ANSWER, LENGTH_LIMIT, LINE_LIMIT, REQUEST, TEXT_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_SIZE = 1 << 20
"""Bytes that are asked for, and kept, at once."""

CACHE_LIMIT = 8 << 30
"""Bytes on disk of all that is kept; the files used longest ago leave first."""

CONNECT_SECONDS = 30.0
READ_SECONDS = 60.0
"""Without a byte from the server; then the request fails."""


class Refusal(Exception):
    """The file cannot be read; its arguments are a code of the error tree, and a reason."""


def _headers(info: dict[str, Any]) -> dict[str, str]:
    """What makes the server refuse when the file is not the same any more (RFC 9110, 13.1)."""
    tag = str(info.get("ETag", ""))
    if tag and not tag.startswith("W/"):
        return {"If-Match": tag}
    if info.get("Last-Modified"):
        return {"If-Unmodified-Since": str(info["Last-Modified"])}
    return {}


def _make_room(folder: Path, own: str) -> None:
    """Remove what was used longest ago, until what is kept is within its limit."""
    kept = []
    for entry in folder.iterdir():
        files = [file.stat() for file in entry.iterdir()] if entry.is_dir() else []
        size = sum(file.st_blocks * 512 for file in files)
        kept.append((max((file.st_atime for file in files), default=0.0), size, entry))
    total = sum(size for _used, size, _entry in kept)
    for _used, size, entry in sorted(kept):
        if total <= CACHE_LIMIT:
            break
        if entry.name != own:
            shutil.rmtree(entry, ignore_errors=True)
            total -= size


class RemoteFile:
    """A file of a server, by ranges."""

    def __init__(self, url: str, cache: Path | None) -> None:
        """Ask the server about it; raises :exc:`Refusal`."""
        import aiohttp
        import fsspec

        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS
        )
        options: dict[str, Any] = {"client_kwargs": {"timeout": timeout}, "encoded": True}
        plain = fsspec.filesystem("http", **options)
        try:
            info = plain.info(url)
        except FileNotFoundError as error:
            # fsspec's word for whatever went wrong; the cause tells.
            cause = error.__cause__ or error
            missing = getattr(cause, "status", None) in (404, 410)
            code = "source.missing" if missing else "source.unreadable"
            raise Refusal(code, _reason(cause)) from None
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise Refusal("source.unreadable", _reason(error)) from None
        if not info.get("size"):
            raise Refusal("source.no-size", "")
        self.size = int(info["size"])
        headers = _headers(info)
        if self.size > 1:
            self._try_range(plain, url, headers)
        # What is kept is of this state of the file; without a word on its state, of this run only.
        self._temporary: TemporaryDirectory[str] | None = None
        if cache is None or not headers:
            self._temporary = TemporaryDirectory(prefix="lkl-explorer-")
            folder = Path(self._temporary.name)
        else:
            state = f"{url}\n{self.size}\n{headers}"
            name = hashlib.sha256(state.encode()).hexdigest()
            folder = cache / "remote" / name
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):
                _make_room(folder.parent, name)
        caching = fsspec.filesystem(
            "blockcache",
            target_protocol="http",
            target_options={**options, "headers": headers},
            cache_storage=str(folder),
        )
        self._file = caching.open(url, block_size=BLOCK_SIZE)
        # None when all of it is kept: then it is read from there.
        self._cache = getattr(self._file, "cache", None)
        if self._cache is not None:
            # It would give exceptions in the place of bytes.
            self._cache.multi_fetcher = None

    def _try_range(self, plain: Any, url: str, headers: dict[str, str]) -> None:  # noqa: ANN401 - fsspec has no types
        """Hold the server to one byte, not the first; else each read would bring the whole."""
        import aiohttp

        session = plain.loop, plain.set_session

        async def ask() -> tuple[int, str]:
            client = await session[1]()
            wanted = {**headers, "Range": "bytes=1-1", "Accept-Encoding": "identity"}
            async with client.get(plain.encode_url(url), headers=wanted) as answer:
                return answer.status, answer.headers.get("Content-Range", "")

        from fsspec.asyn import sync

        try:
            status, told = sync(session[0], ask)
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise Refusal("source.unreadable", _reason(error)) from None
        if status != 206 or told != f"bytes 1-1/{self.size}":
            raise Refusal("source.no-ranges", f"status {status}")

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a range; raises :exc:`Refusal`."""
        blocks: set[int] = set() if self._cache is None else self._cache.blocks
        first, last = offset // BLOCK_SIZE, (offset + length) // BLOCK_SIZE
        missing = [number for number in range(first, last + 1) if number not in blocks]
        try:
            self._file.seek(offset)
            data: bytes = self._file.read(length)
        except Exception as error:  # noqa: BLE001 - whatever the libraries raise, no byte was read
            # They were noted as kept before they were fetched.
            blocks.difference_update(missing)
            raise Refusal("source.unreadable", _reason(error)) from None
        if len(data) != length:
            blocks.difference_update(missing)
            raise Refusal("source.unreadable", "the server sent too little")
        return data

    def close(self) -> None:
        """Keep what was fetched, and forget what may not be kept."""
        self._file.close()
        if self._temporary is not None:
            self._temporary.cleanup()


def _reason(error: BaseException) -> str:
    status = getattr(error, "status", None)
    if status == 412:
        return "the file on the server has changed"
    if status is not None:
        return f"the server answered {status} {getattr(error, 'message', '')}".rstrip()
    return str(error) or type(error).__name__


def _requests(source: BinaryIO) -> Iterator[tuple[int, int]]:
    while len(head := source.read(REQUEST.size)) == REQUEST.size:
        yield REQUEST.unpack(head)


def _serve(file: RemoteFile, source: BinaryIO, sink: BinaryIO) -> None:
    for offset, length in _requests(source):
        if length > LENGTH_LIMIT or offset + length > file.size:
            code, answer = 1, b"a range outside the file"
        else:
            try:
                code, answer = 0, file.read(offset, length)
            except Refusal as refusal:
                code, answer = 1, str(refusal.args[1]).encode()[:TEXT_LIMIT]
        sink.write(ANSWER.pack(code, len(answer)))
        sink.write(answer)
        sink.flush()


def main() -> int:
    """Serve one URL until whoever asks goes away; returns the exit status."""
    # Ctrl+C reaches the whole terminal; whoever asks decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # What prints shall not reach the answers.
    os.dup2(2, 1)
    asked = json.loads(source.readline(LINE_LIMIT))
    try:
        file = RemoteFile(asked["url"], Path(asked["cache"]) if asked["cache"] else None)
    except Refusal as refusal:
        code, reason = refusal.args
        sink.write(json.dumps({"error": code, "reason": reason}).encode() + b"\n")
        sink.flush()
        return 1
    try:
        sink.write(json.dumps({"size": file.size}).encode() + b"\n")
        sink.flush()
        with suppress(BrokenPipeError):
            _serve(file, source, sink)
    finally:
        file.close()
    return 0
