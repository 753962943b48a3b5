# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine, over its pipe, on real images."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from explorer.core.entries import FileType
from explorer.core.errors import (
    ExportError,
    KernelError,
    RecordError,
    SourceError,
    UnknownFormat,
    UnsupportedFeature,
    VolumeError,
)
from explorer.core.exits import EXIT_PROTOCOL
from explorer.engine.server import BULK_THREADS
from explorer.wire.messages import (
    RANGE_LIMIT,
    Cancel,
    Counters,
    EntryRead,
    Failed,
    LinksRead,
    ListDirectory,
    Listed,
    LogRead,
    OpenVolume,
    Pack,
    Packed,
    RangeRead,
    ReadCounters,
    ReadEntry,
    ReadLinks,
    ReadLog,
    ReadRange,
    ReadXattrs,
    Resolve,
    VolumeOpened,
    XattrsRead,
)
from explorer.wire.writing import Write, Written
from tests.engine.fixtures import CROWD
from tests.engine.images import LARGE_SIZE, MODIFIED_NS, XATTR, large_bytes
from tests.engine.process import END_SECONDS, EngineProcess
from tests.writer.process import Writer

if TYPE_CHECKING:
    import socket

PATHS = (b"", b"relative", b"//", b"/a//b", b"/a/", b"/./a", b"/a/../b", b"/a\0b")


def fingerprint(image: Path) -> tuple[str, int]:
    return hashlib.sha256(image.read_bytes()).hexdigest(), image.stat().st_mtime_ns


def test_opens_a_source(engine: EngineProcess, ext4_image: Path) -> None:
    source = engine.open(ext4_image)
    assert source.size == ext4_image.stat().st_size
    assert source.format == "raw"
    assert source.kernel.startswith("6.12.")
    assert source.boot_ns > 0
    (volume,) = source.volumes
    assert (volume.number, volume.content, volume.label) == (0, "ext4", "sample")
    opened = engine.ask(OpenVolume(0), VolumeOpened)
    assert opened.type == "ext4"
    assert not opened.recovered
    assert 0 < opened.free < opened.size < source.size


def test_lists_what_the_host_has(engine: EngineProcess, ext4_image: Path, tree: Path) -> None:
    engine.open(ext4_image)
    folders = [b"/"]
    seen = 0
    while folders:
        path = folders.pop()
        host = bytes(tree) + path.rstrip(b"/")
        entries = {entry.name: entry for entry in engine.list(0, path)}
        names = {os.fsencode(path.name) for path in Path(os.fsdecode(host)).iterdir()}
        assert set(entries) - {b"lost+found"} == names
        for name in names:
            entry, expected = entries[name], os.lstat(host + b"/" + name)
            assert entry.error == 0
            assert entry.mode == expected.st_mode
            assert entry.modify_ns == expected.st_mtime_ns
            assert (entry.uid, entry.gid) == (expected.st_uid, expected.st_gid)
            if entry.type == FileType.DIRECTORY:
                folders.append(path.rstrip(b"/") + b"/" + name)
            else:
                assert entry.size == expected.st_size
                assert entry.links == expected.st_nlink
            seen += 1
    assert seen == sum(1 for _ in tree.rglob("*"))


def test_a_large_folder_comes_in_batches(engine: EngineProcess, crowd_image: Path) -> None:
    engine.open(crowd_image)
    (request,) = engine.send(ListDirectory(0, b"/"))
    parts, _ = engine.collect(request, Listed)
    assert len(parts) > CROWD // 1000
    names = {entry.name for entry in engine.list(0, b"/")}
    assert names == {b"file%06d.txt" % number for number in range(CROWD)}


def test_reads_one_entry(engine: EngineProcess, ext4_image: Path) -> None:
    engine.open(ext4_image)
    read = engine.ask(ReadEntry(0, b"/folder/large.bin"), EntryRead)
    assert read.path == b"/folder/large.bin"
    assert read.entry.name == b"large.bin"
    assert read.entry.size == LARGE_SIZE
    assert read.entry.modify_ns == MODIFIED_NS
    root = engine.ask(ReadEntry(0, b"/"), EntryRead).entry
    assert (root.name, root.type) == (b"", FileType.DIRECTORY)
    link = engine.ask(ReadEntry(0, b"/links/to-folder"), EntryRead).entry
    assert link.type == FileType.LINK


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/", b"/"),
        (b"//folder/./below/..//", b"/folder"),
        (b"/../../folder", b"/folder"),
        (b"/links/to-folder", b"/folder"),
        (b"/links/to-folder/below/deep.txt", b"/folder/below/deep.txt"),
        (b"/links/absolute", b"/folder/below"),
        (b"/links/out", b"/folder/below/deep.txt"),
    ],
)
def test_resolves_links_inside_the_volume(
    engine: EngineProcess, ext4_image: Path, path: bytes, found: bytes
) -> None:
    engine.open(ext4_image)
    assert engine.ask(Resolve(0, path), EntryRead).path == found


@pytest.mark.parametrize(
    ("path", "name"),
    [(b"/links/dangling", "ENOENT"), (b"/links/loop", "ELOOP"), (b"/readme.txt/x", "ENOTDIR")],
)
def test_what_leads_nowhere_is_said(
    engine: EngineProcess, ext4_image: Path, path: bytes, name: str
) -> None:
    engine.open(ext4_image)
    with pytest.raises(KernelError) as caught:
        engine.ask(Resolve(0, path), EntryRead)
    assert caught.value.params["name"] == name


def test_reads_links_and_attributes(engine: EngineProcess, ext4_image: Path) -> None:
    engine.open(ext4_image)
    names = (b"absolute", b"dangling", b"missing")
    links = engine.ask(ReadLinks(0, b"/links", names), LinksRead)
    assert links.targets == (b"/folder/below", b"nowhere", None)
    read = engine.ask(ReadXattrs(0, b"/readme.txt"), XattrsRead)
    assert dict(zip(read.names, read.values, strict=True)) == dict([XATTR])
    assert engine.ask(ReadXattrs(0, b"/"), XattrsRead).names == ()


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 1),
        (0, RANGE_LIMIT),
        (12345, 70001),
        (LARGE_SIZE - 5, 100),
        (LARGE_SIZE, 10),
        (1 << 40, 9),
    ],
)
def test_reads_a_range(engine: EngineProcess, ext4_image: Path, offset: int, length: int) -> None:
    engine.open(ext4_image)
    read = engine.ask(ReadRange(0, b"/folder/large.bin", offset, length), RangeRead)
    assert read.payload == large_bytes()[offset : offset + length]


@pytest.mark.parametrize(
    ("path", "name"),
    [(b"/folder", "EISDIR"), (b"/folder/pipe", "EINVAL"), (b"/links/out", "ELOOP")],
)
def test_only_regular_files_are_read(
    engine: EngineProcess, ext4_image: Path, path: bytes, name: str
) -> None:
    engine.open(ext4_image)
    with pytest.raises(KernelError) as caught:
        engine.ask(ReadRange(0, path, 0, 10), RangeRead)
    assert caught.value.params["name"] == name


def everything(volume: int = 0) -> Pack:
    """All of a volume, for a writer."""
    return Pack(
        volume=volume,
        paths=(b"/",),
        name=None,
        contents=False,
        follow=False,
        every_link=False,
        holes=False,
        extents=False,
        plan=False,
    )


def drain(way: socket.socket) -> bytes:
    """All that comes until the other end is closed."""
    with way:
        way.settimeout(END_SECONDS)
        return b"".join(iter(lambda: way.recv(1 << 20), b""))


def test_packs_for_a_writer(engine: EngineProcess, ext4_image: Path, tmp_path: Path) -> None:
    before = fingerprint(ext4_image)
    engine.open(ext4_image)
    request, way = engine.pack(everything())
    job = Write(sink="folder", destination=bytes(tmp_path), conflicts="skip")
    with way, Writer(way.fileno()) as writer:
        way.close()
        end = writer.run(job)
        assert writer.stop() == 0
    assert isinstance(end, Written)
    _, packed = engine.collect(request, Packed)
    assert packed.entries == end.seen
    assert (end.complete, end.failed, end.damaged) == (True, 0, 0)
    assert (tmp_path / "folder" / "large.bin").read_bytes() == large_bytes()
    assert fingerprint(ext4_image) == before
    counters = engine.ask(ReadCounters(), Counters)
    assert counters.written_bytes == 0
    assert counters.read_bytes > LARGE_SIZE


def test_packing_neither_blocks_nor_outlives_its_cancel(
    engine: EngineProcess, crowd_image: Path
) -> None:
    engine.open(crowd_image)
    engine.ask(OpenVolume(0), VolumeOpened)
    # Nobody reads what these send, so they never come to their end.
    packing = [engine.pack(everything()) for _ in range(BULK_THREADS + 1)]
    for _, way in packing[:-1]:
        assert way.recv(1)
    (look,) = engine.send(ReadEntry(0, b"/file000001.txt"))
    assert engine.next_frame().request == look
    # The last has not been begun, the others wait for their writers: all end.
    for request, _way in (packing[-1], *packing[:-1]):
        engine.send(Cancel(request))
        message = engine.receive(request)
        assert isinstance(message, Failed)
        assert message.error.code in ("export.cancelled", "request.cancelled")
    *_, (_, way) = packing
    way.close()
    for _, way in packing[:-1]:
        # Nothing of it goes on.
        drain(way)
    assert len(engine.list(0, b"/")) == CROWD


def test_a_writer_that_goes_ends_the_packing(engine: EngineProcess, crowd_image: Path) -> None:
    engine.open(crowd_image)
    request, way = engine.pack(everything())
    assert way.recv(1)
    way.close()
    with pytest.raises(ExportError) as caught:
        engine.collect(request, Packed)
    assert caught.value.code == "export.cancelled"
    assert engine.ask(OpenVolume(0), VolumeOpened).type == "squashfs"


def test_what_cannot_be_packed_is_shown_to_the_writer(
    engine: EngineProcess, disk_image: Path
) -> None:
    engine.open(disk_image)
    for number, code in ((2, "volume.locked"), (3, "volume.unknown"), (9, "volume.missing")):
        request, way = engine.pack(everything(number))
        assert drain(way) == b""
        with pytest.raises(VolumeError) as caught:
            engine.collect(request, Packed)
        assert caught.value.code == code


def test_a_locked_or_unknown_volume_says_why(engine: EngineProcess, disk_image: Path) -> None:
    source = engine.open(disk_image)
    partitions = [volume for volume in source.volumes if volume.kind == "partition"]
    assert [volume.number for volume in partitions] == [1, 2, 3]
    assert [volume.mountable for volume in partitions] == [True, False, False]
    assert [volume.locked for volume in partitions] == [False, True, False]
    assert {entry.name for entry in engine.list(1, b"/")} >= {b"folder", b"readme.txt"}
    for number, code in ((2, "volume.locked"), (3, "volume.unknown"), (9, "volume.missing")):
        with pytest.raises(VolumeError) as caught:
            engine.list(number, b"/")
        assert caught.value.code == code


def test_what_is_no_image_is_refused(tmp_path: Path, ext4_image: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no image\n" * 1000)
    (tmp_path / "archive").write_bytes(b"PK\x03\x04" + bytes(5000))
    for name, kind in (
        ("missing", SourceError),
        ("empty", SourceError),
        (".", SourceError),
        ("text", UnknownFormat),
        ("archive", UnsupportedFeature),
    ):
        with EngineProcess() as engine, pytest.raises(kind):
            engine.open(tmp_path / name)


def test_a_request_that_breaks_the_rules_fails_alone(
    engine: EngineProcess, ext4_image: Path
) -> None:
    for early in (ReadCounters(), ReadLog(0)):
        with pytest.raises(RecordError):
            engine.ask(early, Counters if isinstance(early, ReadCounters) else LogRead)
    engine.open(ext4_image)
    with pytest.raises(RecordError):
        engine.open(ext4_image)
    for path in PATHS:
        with pytest.raises(RecordError):
            engine.ask(ReadEntry(0, path), EntryRead)
    for offset, length in ((-1, 10), (0, -1), (0, RANGE_LIMIT + 1)):
        with pytest.raises(RecordError):
            engine.ask(ReadRange(0, b"/readme.txt", offset, length), RangeRead)
    assert engine.ask(ReadEntry(0, b"/readme.txt"), EntryRead).entry.type == FileType.FILE


def test_reads_the_kernel_log(engine: EngineProcess, ext4_image: Path) -> None:
    engine.open(ext4_image)
    log = engine.ask(ReadLog(0), LogRead)
    assert b"Linux version 6.12." in log.payload
    assert engine.ask(ReadLog(log.position), LogRead).position >= log.position


def test_bytes_that_are_no_request_end_it() -> None:
    engine = EngineProcess()
    engine.send_bytes(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(EOFError):
        engine.next_frame()
    assert engine.close() == EXIT_PROTOCOL


def test_it_ends_with_the_pipe_even_while_it_works(crowd_image: Path) -> None:
    with EngineProcess() as engine:
        engine.open(crowd_image)
        _, way = engine.pack(everything())
        assert way.recv(1)
        assert engine.close() == 0
    # Nothing of it goes on.
    assert drain(way)


def test_it_loads_no_qt_and_heeds_no_interrupt(engine: EngineProcess, ext4_image: Path) -> None:
    engine.open(ext4_image)
    keeper = engine.process.pid
    (confined,) = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    maps = Path(f"/proc/{confined}/maps").read_text()
    assert "liblkl.so" in maps
    assert "Qt" not in maps
    # Whoever opens files parses none, and has no kernel.
    assert "liblkl.so" not in Path(f"/proc/{keeper}/maps").read_text()
    engine.process.send_signal(signal.SIGINT)
    assert engine.ask(OpenVolume(0), VolumeOpened).type == "ext4"
