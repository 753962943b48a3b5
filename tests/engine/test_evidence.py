# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Digests, timeline, inventory and search, asked of a real engine over its pipe."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import ExplorerError, KernelError, RecordError, SearchError, VolumeError
from explorer.wire.evidence import (
    FOUND_LIMIT,
    FindEntries,
    Found,
    HashProgress,
    HashSource,
    Matches,
    ReadInventory,
    ReadTimeline,
    Rows,
    SearchContents,
    Searched,
    SourceDigest,
    SourceHashed,
    WalkFailed,
)
from explorer.wire.frames import encode
from explorer.wire.messages import Cancel, EntryRead, Failed, ReadEntry
from tests.engine.images import LATIN, ODD_NAMES, TEXT, large_bytes
from tests.trees import find_tool, make_empty, run_tool

if TYPE_CHECKING:
    from pathlib import Path

    from explorer.wire.messages import Message
    from tests.engine.process import EngineProcess


def ask(engine: EngineProcess, request: Message) -> tuple[list[Message], Searched]:
    (number,) = engine.send(request)
    return engine.collect(number, Searched)


def text(parts: list[Message]) -> bytes:
    return b"".join(part.payload for part in parts if isinstance(part, Rows))


def test_the_source_is_hashed(engine: EngineProcess, disk_image: Path) -> None:
    engine.open(disk_image)
    (number,) = engine.send(HashSource(("sha256", "md5"), stored=True, disk=True, volume=1))
    parts, _end = engine.collect(number, SourceHashed)
    found = [part for part in parts if isinstance(part, SourceDigest)]
    assert all(isinstance(part, (SourceDigest, HashProgress)) for part in parts)
    data = disk_image.read_bytes()
    whole = (hashlib.sha256(data).digest(), hashlib.md5(data).digest())
    assert [(one.kind, one.size, one.digests) for one in found[:2]] == [
        ("file", len(data), whole),
        ("disk", len(data), whole),
    ]
    volume = data[1 << 20 : 25 << 20]
    assert (found[2].kind, found[2].size) == ("volume", len(volume))
    assert found[2].digests[0] == hashlib.sha256(volume).digest()


def test_a_timeline_is_told_as_lines(engine: EngineProcess, ext4_image: Path, tree: Path) -> None:
    engine.open(ext4_image)
    parts, end = ask(engine, ReadTimeline(0, b"/", "body"))
    rows = text(parts).splitlines()
    assert end == Searched(len(rows), len(rows), 0)
    done = subprocess.run(
        [find_tool("fls"), "-m", "/", "-r", ext4_image], capture_output=True, check=True
    )
    # The root is ours, and what fls makes up its own.
    assert len(rows) == len(done.stdout.splitlines()) - 1 + 1
    parts, end = ask(engine, ReadInventory(0, b"/folder", "json", ("sha256",)))
    objects = {one["path"]: one for one in map(json.loads, text(parts).splitlines())}
    assert end.entries == len(objects)
    assert objects["/folder/large.bin"]["sha256"] == hashlib.sha256(large_bytes()).hexdigest()


def test_entries_are_found(engine: EngineProcess, ext4_image: Path, tree: Path) -> None:
    engine.open(ext4_image)
    parts, end = ask(engine, FindEntries(0, b"/", names=(b"file*",), size_least=100))
    found = [path for part in parts if isinstance(part, Found) for path in part.paths]
    wanted = {b"/many/" + path.name.encode() for path in (tree / "many").glob("file*")
              if path.stat().st_size >= 100}  # fmt: skip
    assert set(found) == wanted
    assert len(found) == end.matches == len(wanted)
    parts, end = ask(engine, FindEntries(0, b"/"))
    found = [path for part in parts if isinstance(part, Found) for path in part.paths]
    assert end == Searched(len(found), len(found), 0)
    assert {b"/odd/" + name for name in ODD_NAMES} <= set(found)
    for part in parts:
        assert isinstance(part, Found)
        for path, entry in zip(part.paths, part.entries, strict=True):
            assert entry.inode == engine_stat(engine, path)


def engine_stat(engine: EngineProcess, path: bytes) -> int:

    return engine.ask(ReadEntry(0, path), EntryRead).entry.inode


def test_contents_are_searched(engine: EngineProcess, ext4_image: Path) -> None:
    engine.open(ext4_image)
    encodings = ("utf-8", "latin-1")
    parts, end = ask(engine, SearchContents(0, b"/", text="Grüße", encodings=encodings))
    found = {
        (part.path, offset, encoding, context[1])
        for part in parts
        if isinstance(part, Matches)
        for offset, encoding, context in zip(
            part.offsets, part.encodings, part.contexts(), strict=True
        )
    }
    size = len(TEXT.encode()) // 40
    assert found == {
        (b"/latin.txt", 0, "latin-1", LATIN),
        *((b"/readme.txt", line * size, "utf-8", "Grüße".encode()) for line in range(40)),
    }
    assert end.matches == 41
    # Of a file with more than one part holds: each eight bytes have their offset.
    parts, end = ask(engine, SearchContents(0, b"/folder", literal=b"\0\0\0\0\0"))
    assert end.matches > 8 * FOUND_LIMIT
    places = [offset for part in parts if isinstance(part, Matches) for offset in part.offsets]
    assert len(places) == end.matches
    assert places == sorted(places)
    # What is long is found whole, and told in part.
    parts, _end = ask(engine, SearchContents(0, b"/readme.txt", pattern=rb"Gr[^~]{700}"))
    (match,) = (part for part in parts if isinstance(part, Matches))
    assert match.lengths[0] == 702
    assert match.contexts()[0][1] == TEXT.encode()[:256]


def test_what_cannot_be_read_is_told(engine: EngineProcess, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "a" / "inside").mkdir(parents=True)
    (top / "b").write_bytes(b"x" * 5000)
    image = make_empty(tmp_path / "image", 8 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024", "-d", top, image)
    run_tool("debugfs", "-w", "-R", "link a a/again", image)
    run_tool("debugfs", "-w", "-R", "sif /b block[2] 0x7fffffff", image)
    engine.open(image)
    for request in (
        FindEntries(0, b"/"),
        ReadTimeline(0, b"/", "csv"),
        ReadInventory(0, b"/", "csv"),
        SearchContents(0, b"/", literal=b"x"),
    ):
        parts, end = ask(engine, request)
        failed = [part for part in parts if isinstance(part, WalkFailed)]
        assert {part.path for part in failed} == {b"/b", b"/a/again"}
        assert all(isinstance(part.error, KernelError) for part in failed)
        assert end.errors == len(failed)


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (FindEntries(0, b"/", pattern=b"("), SearchError),
        (FindEntries(0, b"/", types="x"), SearchError),
        (FindEntries(0, b"/no such"), KernelError),
        (FindEntries(7, b"/"), VolumeError),
        (SearchContents(0, b"/", text="a", encodings=("klingon",)), SearchError),
        (SearchContents(0, b"/", pattern=b"("), SearchError),
        (HashSource(("md5",), stored=False, disk=False, volume=7), VolumeError),
    ],
)
def test_what_cannot_be_is_an_error(
    request_: Message, kind: type[ExplorerError], engine: EngineProcess, ext4_image: Path
) -> None:
    engine.open(ext4_image)
    (number,) = engine.send(request_)
    with pytest.raises(kind):
        engine.collect(number, Searched)


def test_a_search_is_cancelled_and_keeps_nobody_waiting(
    engine: EngineProcess, tmp_path: Path
) -> None:
    """While all of a large volume is hashed and searched, an entry is read."""
    top = tmp_path / "top"
    top.mkdir()
    with (top / "large").open("wb") as file:
        for number in range(64):
            file.write(os.urandom(1 << 20) if not number % 16 else bytes(range(256)) * 4096)
    image = make_empty(tmp_path / "image", 96 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    engine.open(image)
    engine_stat(engine, b"/large")
    requests = (
        SearchContents(0, b"/", pattern=rb"(a|b|c|d)*not there"),
        ReadInventory(0, b"/", "csv", ("md5", "sha1", "sha256", "blake2b")),
        HashSource(("md5", "sha1", "sha256", "blake2b"), stored=True, disk=True),
    )
    for request in requests:
        (number,) = engine.send(request)
        begin = time.monotonic()
        engine_stat(engine, b"/large")
        waited = time.monotonic() - begin
        engine.send(Cancel(number))
        while not isinstance(message := engine.receive(number), Failed):
            assert not isinstance(message, (Searched, SourceHashed)), "it was too quick"
        assert message.error.code == "request.cancelled"
        # Generous: the machine may be loaded.
        assert waited < 10


def test_messages_that_make_no_sense_are_not_sent() -> None:
    for message in (
        HashSource((), stored=True, disk=True),
        HashSource(("md5", "md5"), stored=True, disk=True),
        HashSource(("crc32",), stored=True, disk=True),
        SearchContents(0, b"/"),
        SearchContents(0, b"/", text="a"),
        SearchContents(0, b"/", literal=b"a", pattern=b"b"),
        ReadTimeline(0, b"/", "xml"),
        Found((b"/a",), ()),
        Matches(b"/a", (1,), (1,), ("",), (0, 1, 0), b""),
    ):
        with pytest.raises(RecordError):
            encode(1, message)
