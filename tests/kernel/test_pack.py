# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Trees sent to a writer: what its reader gets is what stands in the image."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import ExplorerError, ExportError, KernelError
from explorer.kernel.files import decode_xattrs
from explorer.kernel.pack import DiskRange, Packer
from explorer.native.stream import LINKED, PLAN, Event, Kind, Mode, Operation, Stream
from tests.trees import Facts, assert_same, host_facts, mount_facts, noise, without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Any, Self

    from explorer.volumes import MountedVolume

_SECOND = 10**9


@dataclass
class Got:
    """An entry as it came."""

    event: Event = field(default_factory=lambda: Event(*(0,) * 11, None, b"", None))
    content: bytearray = field(default_factory=bytearray)
    extents: int = 0
    """Bytes of the content that came as such."""
    target: bytes = b""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    streams: dict[bytes, bytes] = field(default_factory=dict)
    error: int = 0
    operation: int = 0

    def add(self, event: Event) -> None:
        """Take a message of content."""
        if event.kind == Kind.DATA:
            self.content += event.data or b""
        elif event.kind == Kind.HOLE:
            self.content += bytes(event.length)
        elif event.kind == Kind.EXTENT:
            self.content += os.pread(event.file, event.length, event.position)
            self.extents += event.length

    def facts(self, found: Mapping[bytes, Got]) -> Facts:
        """The same as one would find it in a file system."""
        told = self.event.stat
        assert told is not None
        if self.event.flags & LINKED:
            return next(
                got.facts(found) for got in found.values() if got.event.number == self.event.first
            )
        content = ""
        if stat.S_ISREG(told.mode):
            content = hashlib.sha256(self.content).hexdigest()
        elif stat.S_ISLNK(told.mode):
            content = self.target.hex()
        elif stat.S_ISCHR(told.mode) or stat.S_ISBLK(told.mode):
            content = f"{told.special_major}:{told.special_minor}"
        return Facts(
            type=told.mode >> 12,
            mode=told.mode & 0o7777,
            uid=told.uid,
            gid=told.gid,
            links=0 if stat.S_ISDIR(told.mode) else told.links,
            size=told.size if stat.S_ISREG(told.mode) or stat.S_ISLNK(told.mode) else 0,
            modify_ns=told.modify_seconds * _SECOND + told.modify_nanoseconds,
            content=content,
            xattrs=self.xattrs,
        )


class Reader(threading.Thread):
    """The other side: the writer's own reader, and a tree in memory behind it."""

    def __init__(
        self, *, wanted: bool = True, after: int | None = None, gone: bool = False
    ) -> None:
        """``wanted`` is the answer for all candidates; ``after`` entries it reads no more."""
        super().__init__(daemon=True)
        self.ours, self._theirs = socket.socketpair()
        self._stream = Stream(self._theirs)
        self._wanted = wanted
        self._after = after
        self._gone = gone
        self.found: dict[bytes, Got] = {}
        self.ended: int | None = None
        """The error of FINISH."""
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.ours.close()
        self.join()
        self._stream.close()
        self._theirs.close()

    def run(self) -> None:
        """Read to the end; what was against the rules is kept."""
        try:
            self._read()
        except ExplorerError as failure:
            self.failure = failure
            self._theirs.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        path: list[bytes] = []
        at = Got()
        name: bytes | None = None
        while event := self._stream.next():
            if len(self.found) == self._after:
                if self._gone:
                    self._theirs.shutdown(socket.SHUT_RDWR)
                return
            match event.kind:
                case Kind.ENTER | Kind.ENTRY | Kind.REFUSED:
                    at = Got(event)
                    at.target = bytes(event.data or b"")
                    self.found[b"/".join((*path, event.name))] = at
                    name = None
                    if event.kind == Kind.ENTER:
                        path += [event.name] if event.name else []
                    if event.answer:
                        self._stream.answer_mode(Mode.ASK)
                case Kind.LEAVE:
                    del path[-1:]
                case Kind.CANDIDATES:
                    self._stream.answer_wanted(bytes([self._wanted]) * event.length)
                case Kind.XATTRS:
                    at.xattrs = decode_xattrs(event.data or b"")
                case Kind.STREAM:
                    name = event.name
                    at.streams[name] = b""
                case Kind.DATA if name is not None:
                    at.streams[name] += bytes(event.data or b"")
                case Kind.DONE | Kind.BROKEN:
                    at.error, at.operation = event.error, event.operation
                case Kind.FINISH:
                    self.ended = event.error
                case _:
                    at.add(event)


@pytest.fixture
def open_packer(
    image_of: Callable[[str], Path], mounted: Callable[[Path], MountedVolume]
) -> Iterator[Callable[..., Packer]]:
    """Makes packers of a volume, as they are made for a reader."""
    with ExitStack() as opened:

        def make(volume: MountedVolume, reader: Reader, **more: Any) -> Packer:  # noqa: ANN401
            return opened.enter_context(Packer(volume.mount.kernel, reader.ours.fileno(), **more))

        yield make


def send_all(packer: Packer, volume: MountedVolume, target: bytes = b"") -> None:
    """Sends the root of a volume, and the end."""
    with volume.mount.open_directory() as root:
        packer.send(root, b"", target)
    packer.finish()


@pytest.fixture
def volume(
    image_of: Callable[[str], Path], mounted: Callable[[Path], MountedVolume]
) -> MountedVolume:
    """The tree, as ext4 with all its facts."""
    return mounted(image_of("ext4-written"))


@pytest.mark.parametrize("extents", [False, True])
@pytest.mark.parametrize("name", ["ext4-written", "ext2", "xfs", "btrfs-written", "f2fs", "erofs"])
def test_what_comes_is_what_is_read(
    image_of: Callable[[str], Path],
    mounted: Callable[[Path], MountedVolume],
    open_packer: Callable[..., Packer],
    name: str,
    extents: bool,
) -> None:
    volume = mounted(image_of(name))
    with Reader() as reader:
        packer = open_packer(volume, reader, place=volume.mapped if extents else None)
        send_all(packer, volume)
    assert reader.failure is None
    assert reader.ended == 0
    assert not [path for path, got in reader.found.items() if got.error]
    assert_same(
        {path: got.facts(reader.found) for path, got in reader.found.items()},
        mount_facts(volume.mount),
    )
    mapped = sum(got.extents for got in reader.found.values())
    assert (mapped > 3 * 2**20) == (extents and volume.mapped is not None)


def test_what_comes_is_what_went_in(
    volume: MountedVolume, tree: Path, open_packer: Callable[..., Packer]
) -> None:
    with Reader() as reader:
        send_all(open_packer(volume, reader, place=volume.mapped), volume)
    found = {path: got.facts(reader.found) for path, got in reader.found.items()}
    assert_same(without(found, b"", b"lost+found"), without(host_facts(tree), b""))


def test_a_link_is_told_of_as_one(
    volume: MountedVolume, open_packer: Callable[..., Packer]
) -> None:
    names = (b"folder/large", b"folder/second name", b"folder/deeper/third name")
    with Reader() as reader:
        send_all(open_packer(volume, reader), volume)
    links = [reader.found[path].event for path in names if path in reader.found]
    assert len({event.stat.inode for event in links if event.stat}) < len(links)
    assert sum(bool(event.flags & LINKED) for event in links) >= 1
    with Reader() as reader:
        send_all(open_packer(volume, reader, every_link=True), volume)
    assert not any(got.event.flags & LINKED for got in reader.found.values())
    assert not any(got.error for got in reader.found.values())


def test_a_plan_has_no_content(volume: MountedVolume, open_packer: Callable[..., Packer]) -> None:
    with Reader() as reader:
        send_all(open_packer(volume, reader, plan=True), volume)
    wanted = {path: one.size for path, one in mount_facts(volume.mount).items() if one.type == 8}
    told = {
        path: got.event.stat.size
        for path, got in reader.found.items()
        if got.event.stat and stat.S_ISREG(got.event.stat.mode)
    }
    assert told == wanted
    assert all(got.event.flags & PLAN and not got.content for got in reader.found.values())


def test_links_are_followed_inside(
    volume: MountedVolume, open_packer: Callable[..., Packer]
) -> None:
    with volume.mount.open_directory() as root, Reader() as reader:
        send_all(open_packer(volume, reader, follow=root.descriptor), volume)
    followed = reader.found[b"to a file"]
    assert followed.event.stat
    assert stat.S_ISREG(followed.event.stat.mode)
    assert bytes(followed.content) == noise(3 * 2**20 + 17, 2)
    for name in (b"broken", b"loop", b"absolute"):
        told = reader.found[name].event.stat
        assert told
        assert stat.S_ISLNK(told.mode), name


def test_streams_go_with_their_files(
    volume: MountedVolume, open_packer: Callable[..., Packer]
) -> None:
    inode = volume.mount.stat(b"/block").inode
    folder = volume.mount.stat(b"/folder").inode
    broken = {volume.mount.stat(path).inode for path in (b"/one byte", b"/folder/deeper")}
    content = noise(2**21 + 5, 7)

    def streams(asked: int) -> Iterable[tuple[bytes, Iterable[bytes]]]:
        if asked in (inode, folder):
            yield b"one", [content[:10], content[10:]]
            yield b"empty", []
        if asked in broken:
            raise ExplorerError("volume.damaged", structure="x", offset=0, reason="y")

    with Reader() as reader:
        send_all(open_packer(volume, reader, streams=streams), volume)
    assert reader.failure is None
    for path in (b"block", b"folder"):
        assert reader.found[path].streams == {b"one": content, b"empty": b""}
    assert bytes(reader.found[b"block"].content) == noise(4096, 1)
    failed = {path: got.operation for path, got in reader.found.items() if got.error}
    assert reader.failure is None
    assert failed == dict.fromkeys((b"one byte", b"folder/deeper"), Operation.READ_STREAM)


def test_what_is_not_wanted_does_not_come(
    volume: MountedVolume, open_packer: Callable[..., Packer]
) -> None:
    with Reader(wanted=False) as reader:
        send_all(open_packer(volume, reader), volume)
    assert list(reader.found) == [b""]
    with Reader(wanted=False) as reader:
        send_all(open_packer(volume, reader), volume, b"target")
    assert not reader.found
    assert reader.ended == 0


# ---- Ends --------------------------------------------------------------------------------------


def test_a_missing_entry_is_refused(
    volume: MountedVolume, open_packer: Callable[..., Packer]
) -> None:
    with Reader() as reader:
        packer = open_packer(volume, reader)
        with volume.mount.open_directory() as root:
            packer.send(root, b"missing", b"x")
            with pytest.raises(KernelError) as caught:
                packer.send(root, b"block", b"../x")
            assert caught.value.name == "EINVAL"
            with pytest.raises(KernelError) as caught:
                packer.send(root, b"block", b"")
            assert caught.value.name == "ENOTDIR"
        packer.finish()
    assert reader.found[b"x"].event.kind == Kind.REFUSED
    assert reader.found[b"x"].event.operation == Operation.STAT
    assert reader.ended == 0


def test_a_reader_that_is_gone_ends_it(
    volume: MountedVolume, open_packer: Callable[..., Packer]
) -> None:
    with Reader(after=3, gone=True) as reader:
        packer = open_packer(volume, reader)
        with pytest.raises(ExportError) as caught:
            send_all(packer, volume)
    assert caught.value.code == "export.cancelled"


def test_it_is_cancelled_while_it_waits(
    volume: MountedVolume, open_packer: Callable[..., Packer]
) -> None:
    with Reader(after=3) as reader:
        packer = open_packer(volume, reader)

        def cancel() -> None:
            while not packer.waiting:
                pass
            # Nobody is kept from the kernel meanwhile.
            assert volume.mount.stat(b"/block").size == 4096
            packer.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(ExportError) as caught:
            send_all(packer, volume)
        thread.join()
    assert caught.value.code == "export.cancelled"


def test_what_a_step_raises_comes_back(
    volume: MountedVolume, open_packer: Callable[..., Packer]
) -> None:
    def step(_entries: int, _count: int) -> None:
        raise ZeroDivisionError

    with Reader() as reader, pytest.raises(ZeroDivisionError):
        send_all(open_packer(volume, reader, step=step), volume)


def test_a_disk_must_be_there(volume: MountedVolume, open_packer: Callable[..., Packer]) -> None:
    with Reader() as reader, pytest.raises(KernelError) as caught:
        open_packer(volume, reader, place=DiskRange(1000, 0, 1))
    assert caught.value.name == "ENODEV"
