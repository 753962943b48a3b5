# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is held against changed inputs: every image format, every reader of metadata.

A target opens and reads what an input stands for. An error of the program's own tree is a right
answer; any other exception is a finding, and so is one input that takes too long or too much.
"""

from __future__ import annotations

import resource
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import category

from explorer.client.engine import SLICE_MS, Engine
from explorer.core.errors import ExplorerError
from explorer.core.messages import TEXTS, describe
from explorer.core.names import show_name
from explorer.images.registry import open_file
from explorer.models.texts import exact_time_text, mode_text, size_text, time_text
from explorer.models.tree import volume_text
from explorer.volumes import btrfs, features, luks, lvm, lvm_caches, md, signatures, tables
from explorer.volumes.stack import BLOCK_SIZES
from explorer.volumes.window import Window
from explorer.wire.frames import FrameReader, encode
from explorer.wire.messages import Entries, EntryRead, SourceOpened, VolumesFound
from tests.fuzz import image_seeds, volume_seeds, wire_seeds
from tests.fuzz.memory import MemoryFile, MemoryFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from explorer.core.entries import Entry
    from explorer.images.base import Fact, Image
    from tests.fuzz.seed import Seed

TIME_LIMIT = 5.0
"""Seconds of the processor for one input."""
MEMORY_LIMIT = 512 << 20
"""Bytes of address space that one input may take."""

READ_SIZE = 65536
STREAM_PIECE = 61
"""Bytes of a stream that come at once."""
MOST_EXTENTS = 1000
WITHOUT_SUMS = 0x80
"""In an input's first byte: the checksums are left as they are."""


class TooSlow(BaseException):
    """One input took too long; no handler of errors shall hold it up."""


@dataclass(frozen=True)
class Target:
    """A reader, and whole inputs for it."""

    name: str
    seeds: list[Seed]
    read: Callable[[Seed, bytearray], None]
    """Given a seed, and what its file has become."""

    def inputs(self) -> list[bytes]:
        """The unchanged inputs."""
        return [bytes([number]) + seed.pack() for number, seed in enumerate(self.seeds)]

    def run(self, data: bytes) -> None:
        """Read what an input stands for; raises for findings alone."""
        if not data:
            return
        seed = self.seeds[(data[0] & ~WITHOUT_SUMS) % len(self.seeds)]
        content = seed.unpack(data[1:], mend=not data[0] & WITHOUT_SUMS)
        with limits():
            try:
                self.read(seed, content)
            except ExplorerError as error:
                check_described(error)


def check_text(text: str) -> None:
    """A text is one line that is safe to show."""
    assert all(one.isprintable() or category(one) == "Zs" for one in text), ascii(text)


def check_facts(facts: Mapping[str, Fact]) -> None:
    """What is told is safe to show."""
    for fact in facts.values():
        for text in fact if isinstance(fact, list) else [str(fact)]:
            check_text(text)


def check_described(error: ExplorerError) -> None:
    """An error has a text, which is one line that is safe to show."""
    assert error.code in TEXTS, error
    check_text(describe(error))


@contextmanager
def limits() -> Iterator[None]:
    """Ends what takes too long, or too much memory, by an exception."""
    usual = resource.getrlimit(resource.RLIMIT_AS)
    # proc_pid_statm(5): the first field is the size in pages.
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGPROF, _too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_LIMIT, usual[1]))
    signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, usual)
        signal.signal(signal.SIGPROF, before)


def _too_slow(_number: int, _frame: FrameType | None) -> None:
    raise TooSlow(f"more than {TIME_LIMIT} s")


# ---- Images


def open_seed(seed: Seed, content: bytearray) -> Image:
    """Open a seed's image, with what its file has become."""
    files: dict[bytes, bytes | bytearray] = {**seed.others, seed.name: content}
    name = seed.opened or seed.name
    return open_file(MemoryFile(name, files[name]), MemoryFolder(files), seed.choices, name)


def read_image(seed: Seed, content: bytearray) -> None:
    """Open an image, ask it for all it tells, and read some of it."""
    with open_seed(seed, content) as image:
        check_facts(image.facts())
        image.stored_hashes()
        for offset in {0, image.size // 3, image.size // 2, max(0, image.size - READ_SIZE)}:
            _try(image, offset)
        covered = 0
        for number, extent in enumerate(image.extents(0, image.size)):
            assert extent.offset == covered
            assert extent.length > 0
            covered += extent.length
            if number == MOST_EXTENTS:
                break
        else:
            assert covered == image.size


def _try(image: Image, offset: int) -> None:
    # One damaged place says nothing of others.
    try:
        found = image.read(offset, READ_SIZE)
    except ExplorerError as error:
        check_described(error)
    else:
        assert len(found) == min(READ_SIZE, image.size - offset)


# ---- What stands on disks


def window_of(content: bytearray) -> Window:
    """A volume of these bytes, which must not be read beyond its end."""

    def read(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(content)
        return bytes(content[offset : offset + length])

    return Window(read, 0, len(content))


def read_lvm(_seed: Seed, content: bytearray) -> None:
    """A physical volume, and the group that it tells of."""
    volume = lvm.read_physical_volume(window_of(content))
    if volume is None:
        return
    if volume.fault is not None:
        check_described(volume.fault)
    for group in lvm.group_volumes([(volume, 0)]):
        assert group.missing is not None
        assert set(group.devices) <= {0}
        if group.fault is not None:
            check_described(group.fault)
        for logical in group.volumes:
            check_text(logical.name)
            check_text(logical.note)
            assert logical.size >= 0
            if logical.refusal is not None:
                check_described(logical.refusal)


def read_dm_raid(_seed: Seed, content: bytearray) -> None:
    """A superblock beside an image of an LVM RAID."""
    found = lvm._read_superblock(bytes(content[: lvm._SUPERBLOCK.size]))
    if found is not None:
        found.has_failed(found.position)


def read_caches(seed: Seed, content: bytearray) -> None:
    """What of a cache is newer than its origin."""

    def read(offset: int, length: int) -> bytes:
        assert 0 <= length <= len(seed.content)
        return bytes(content[offset : offset + length])

    if seed.name == b"write cache":
        lvm_caches.read_write_cache(read, len(content), "cache")
    else:
        lvm_caches.read_cache(read, "cache", mode="writeback")


def read_md(_seed: Seed, content: bytearray) -> None:
    """A member of an array, and what one array would be of it."""
    member = md.read_superblock(window_of(content))
    if member is None:
        return
    for array in md.group_members([(member, 0)]):
        check_text(array.name)
        check_text(array.note)
        assert isinstance(array.can_start, bool)
        assert isinstance(array.is_dirty, bool)


def read_luks(_seed: Seed, content: bytearray) -> None:
    """The header of an encrypted volume."""
    header = luks.read_header(window_of(content), "a volume")
    if header is not None:
        check_facts(header.facts())


def read_tables(_seed: Seed, content: bytearray) -> None:
    """A partition table, and the space that it leaves, for blocks of all sizes."""
    for block_size in BLOCK_SIZES:
        table = tables.read_table(window_of(content), block_size)
        if table is None:
            continue
        for entry in table.entries:
            assert entry.start >= 0
            assert entry.size > 0
            check_text(entry.label)
        ranges = [(entry.start, entry.size) for entry in table.entries]
        for start, size in tables.free_ranges(ranges, len(content)):
            assert 0 <= start < start + size <= len(content)


def read_signatures(_seed: Seed, content: bytearray) -> None:
    """What a volume may be, and the facts of each of these."""
    window = window_of(content)
    for found in signatures.iter_recognised(window):
        assert bool(found.types) != bool(found.why)
        check_text(found.label)
        check_text(found.uuid)
    for content_name in features._DESCRIBERS:
        check_facts(features.describe_content(window, content_name))


def read_stream(_seed: Seed, content: bytearray) -> None:
    """What comes over a pipe, in pieces."""
    reader = FrameReader()
    for start in range(0, len(content), STREAM_PIECE):
        reader.feed(content[start : start + STREAM_PIECE])
        for request, message in reader:
            # What is believed can be sent on, and is the same then.
            again = FrameReader()
            again.feed(b"".join(encode(request, message)))
            assert type(next(iter(again)).message) is type(message)
    assert reader.waiting <= len(content)


def read_answers(_seed: Seed, content: bytearray) -> None:
    """What an engine answers: each request ends once, whatever comes."""
    engine = Engine(command=["none"])
    ends: list[object] = []
    requests = wire_seeds.requests()
    for request in requests:
        engine._begin(request, ends.append, ends.append, show_answer)
    engine._reader.feed(content)
    while engine._decode(SLICE_MS):
        pass
    for end in ends:
        show_answer(end)
    # What ended is forgotten; the rest waits, or has failed with the engine.
    assert len(ends) + len(engine._calls) == len(requests)
    assert engine._loss is None or not engine._calls


def show_answer(answer: object) -> None:
    """What a window does with it: nothing of it may fail, or be unsafe to show."""
    if isinstance(answer, ExplorerError):
        for line in describe(answer).split("\n"):
            check_text(line)
    for entry in getattr(answer, "entries", ()) if isinstance(answer, Entries) else ():
        check_entry(entry)
    if isinstance(answer, EntryRead):
        check_entry(answer.entry)
    if isinstance(answer, (SourceOpened, VolumesFound)):
        for volume in answer.volumes:
            check_text(volume_text(volume))


def check_entry(entry: Entry) -> None:
    """An entry can be shown."""
    check_text(show_name(entry.name))
    check_text(mode_text(entry.mode))
    check_text(size_text(entry.size))
    if entry.modify_ns is not None:
        check_text(exact_time_text(entry.modify_ns))
        check_text(time_text(entry.modify_ns))


def read_btrfs(_seed: Seed, content: bytearray) -> None:
    """A device of a Btrfs."""
    member = btrfs.read_device(window_of(content))
    if member is not None:
        for group in btrfs.group_devices([(member, 0)]):
            check_text(group.note)


def read_btrfs_items(_seed: Seed, content: bytearray) -> None:
    """Items that Btrfs gives as they stand on the disk; it holds a chunk's to their least size."""
    subvolume = btrfs._parse_root(256, bytes(content))
    if subvolume is not None:
        check_text(subvolume.title)
        check_text(subvolume.uuid)
    if len(content) >= btrfs._CHUNK.size:
        assert btrfs._lost(bytes(content), {1, 2}) >= 0


READERS: dict[str, Callable[[Seed, bytearray], None]] = {
    "lvm": read_lvm,
    "dm-raid": read_dm_raid,
    "caches": read_caches,
    "md": read_md,
    "luks": read_luks,
    "tables": read_tables,
    "signatures": read_signatures,
    "btrfs": read_btrfs,
    "btrfs-items": read_btrfs_items,
    "wire": read_stream,
    "wire-answers": read_answers,
}

NAMES = (*image_seeds.MAKERS, *READERS)
"""Of all targets."""


_SEEDS = {**volume_seeds.MAKERS, **wire_seeds.MAKERS}


def make_target(name: str, folder: Path) -> Target:
    """A target, with seeds that are made in ``folder``."""
    if name in READERS:
        return Target(name, list(_SEEDS[name](folder)), READERS[name])
    return Target(name, list(image_seeds.MAKERS[name](folder)), read_image)
