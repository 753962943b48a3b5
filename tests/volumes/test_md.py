# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""RAID arrays of every level, whole and degraded, give back what was spread over their members."""

from __future__ import annotations

import itertools
import os
import random
import struct
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest

from explorer.core.errors import KernelError, VolumeError
from explorer.core.messages import describe
from explorer.images.registry import open_image
from explorer.kernel import BlockDevice
from explorer.kernel.loop import attach_loop
from explorer.kernel.system import read_text, write_text
from explorer.volumes import md
from explorer.volumes.signatures import recognise
from explorer.volumes.window import Window
from tests.makers import ScratchDisk, Writer
from tests.trees import (
    assert_same,
    host_facts,
    make_empty,
    mount_facts,
    noise,
    run_tool,
    sha256,
    whole_seconds,
    without,
)
from tests.volumes.raid_arrays import (
    CHUNK,
    COMPONENT,
    KIB,
    MIB,
    Loop,
    Shape,
    build_driver,
    change_superblock,
    create_array,
    data_offset,
    examine,
    fix_checksum,
    make_content,
    make_small_tree,
    spread,
    superblock_offset,
    write_members,
)
from tests.volumes.truth import real_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from explorer.kernel import Disk, Kernel

SECTOR = 512
NEVER = (1 << 64) - 1

RAID5_LAYOUTS = (
    "left-asymmetric", "right-asymmetric", "left-symmetric", "right-symmetric",
    "parity-first", "parity-last",
)  # fmt: skip
RAID6_LAYOUTS = (
    *RAID5_LAYOUTS, "ddf-zero-restart", "ddf-N-restart", "ddf-N-continue",
    "left-asymmetric-6", "right-asymmetric-6", "left-symmetric-6", "right-symmetric-6",
    "parity-first-6",
)  # fmt: skip
SHAPES = (
    # Odd numbers of sectors, so that nothing may be rounded.
    Shape("linear", 3, sizes=(3 * MIB + 7 * SECTOR, 2 * MIB, 4 * MIB + SECTOR)),
    Shape("0", 3),
    Shape("1", 2),
    Shape("1", 3),
    Shape("4", 3),
    *(Shape("5", 4, layout) for layout in RAID5_LAYOUTS),
    *(Shape("6", 5, layout) for layout in RAID6_LAYOUTS),
    *(Shape("10", 4, layout) for layout in ("n2", "n3", "f2", "f3", "o2", "o3")),
    *(Shape("10", 5, layout) for layout in ("n2", "f2", "o2")),
)


def shape_name(shape: Shape) -> str:
    return f"{shape.level}-{shape.disks}{shape.layout and '-' + shape.layout}"


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lets mdadm make arrays here."""
    return build_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture(scope="session")
def small_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files on each array."""
    return make_small_tree(tmp_path_factory.mktemp("raid") / "tree")


class Made(NamedTuple):
    """An array in files."""

    shape: Shape
    members: list[Path]
    content: bytes
    """Of the array."""


MakeArray = "Callable[..., Made]"


@pytest.fixture
def make_array(driver: Path, small_tree: Path, tmp_path: Path) -> Callable[..., Made]:
    """Makes arrays with the small tree and noise on them; as :func:`create_array` takes it."""
    numbers = itertools.count()

    def make(shape: Shape, **options: object) -> Made:
        folder = tmp_path / f"array{next(numbers)}"
        folder.mkdir()
        paths = create_array(folder, driver, shape, **options)  # type: ignore[arg-type]
        content = make_content(folder / "content.img", small_tree, shape.size)
        write_members(paths, spread(shape, content))
        return Made(shape, paths, content)

    return make


def window_over(content: bytes) -> Window:
    """What a probe sees of a device with this content."""
    return Window(lambda at, length: content[at : at + length], 0, len(content))


def window_of(path: Path) -> Window:
    """What a probe sees of a file."""
    return window_over(path.read_bytes())


def read_member(path: Path) -> md.Member:
    member = md.read_superblock(window_of(path))
    assert member is not None
    return member


@contextmanager
def disks_of(
    kernel: Kernel, paths: Sequence[Path], *, overlay: int = 0
) -> Iterator[list[tuple[md.Member, BlockDevice]]]:
    """Images as disks of a kernel, which are not changed by it, with their superblocks."""
    with ExitStack() as stack:
        found = []
        before = [sha256(path) for path in paths]
        disks: list[Disk] = []
        for path in paths:
            image = stack.enter_context(open_image(path, "raw"))
            disks.append(stack.enter_context(kernel.add_disk(image, overlay_limit=overlay)))
            found.append((read_member(path), disks[-1].device()))
        yield found
        if not overlay:
            # Not even tried.
            assert not sum(disk.statistics().write_errors for disk in disks)
        assert [sha256(path) for path in paths] == before


@contextmanager
def running(
    kernel: Kernel, paths: Sequence[Path], *, read_only: bool = True
) -> Iterator[md.RunningArray]:
    """The one array that some images make."""
    with disks_of(kernel, paths, overlay=0 if read_only else 16 * MIB) as found:
        (array,) = md.group_members(found)
        started = md.assemble(kernel, array, read_only=read_only)
        try:
            yield started
        finally:
            started.close()


def content_of(device: BlockDevice) -> bytes:
    return device.read(0, device.size())


def check_tree(device: BlockDevice, tree: Path) -> None:
    """Mount the ext4 of an array, and compare its files with those of the host."""
    with device.mount("ext4") as mount:
        found = without(mount_facts(mount), b"", b"lost+found")
        assert_same(whole_seconds(found), whole_seconds(without(host_facts(tree), b"")))


# ---- Superblocks -------------------------------------------------------------------------------


@pytest.mark.proves("volume", "MD RAID", "metadata 0.90, 1.0, 1.1, 1.2")
@pytest.mark.parametrize(
    ("shape", "metadata"),
    [
        (shape, metadata)
        for shape in (
            Shape("0", 3),
            Shape("1", 2),
            Shape("5", 3, "right-symmetric"),
            Shape("10", 4, "f2"),
        )
        for metadata in ("0.90", "1.0", "1.1", "1.2")
        # mdadm 4.2 makes no such array; see test_raid0_with_old_metadata.
        if (shape.level, metadata) != ("0", "0.90")
    ],
    ids=lambda value: value if isinstance(value, str) else shape_name(value),
)
def test_superblock_reads_as_mdadm_reads_it(
    driver: Path, tmp_path: Path, shape: Shape, metadata: str
) -> None:
    paths = create_array(tmp_path, driver, shape, metadata=metadata)
    for number, path in enumerate(paths):
        check_superblock(path, read_member(path), number)


def check_superblock(path: Path, member: md.Member, role: int, *options: str) -> None:
    """Compare a member with what mdadm tells of it."""
    facts = examine(path, *options)
    old = member.version == "0.90"
    assert facts["Version"].startswith(member.version)
    assert facts["Checksum"].endswith("correct")
    assert (facts["UUID"] if old else facts["Array UUID"]).startswith(member.uuid)
    if not old:
        assert member.name == "test:array"
        assert facts["Name"].startswith(member.name)
        assert facts["Device Role"] == f"Active device {role}"
        assert int(facts["Avail Dev Size"].split()[0]) == member.size
    assert member.role == role
    assert facts["Raid Level"] == member.shape.level
    assert int(facts["Raid Devices"]) == member.shape.disks
    # Old metadata shows the two halves of it.
    assert facts["Events"] in (f"{member.events}", f"0.{member.events}")
    assert data_offset(facts) == member.offset * SECTOR
    if member.shape.level in ("raid5", "raid10", "raid0"):
        assert facts["Chunk Size"] == f"{member.shape.chunk // KIB}K"
    assert member.facts().get("layout", "") == facts.get("Layout", "").removeprefix("-unknown-")
    assert member.facts()["role"] == f"{role} of {member.shape.disks}"
    assert facts["State"] == "clean"
    assert member.in_step is None


def swap_superblock(path: Path) -> None:
    """Write a superblock of version 0.90 as a big-endian machine would have."""
    start = path.stat().st_size // 65536 * 65536 - 65536
    with path.open("r+b") as file:
        file.seek(start)
        words = list(struct.unpack("<1024I", file.read(4096)))
        for low in (39, 41, 44):
            words[low], words[low + 1] = words[low + 1], words[low]
        file.seek(start)
        file.write(struct.pack(">1024I", *words))


@pytest.mark.proves("volume", "MD RAID", "metadata 0.90 of the other byte order")
def test_big_endian_superblock(
    make_array: Callable[..., Made], kernel: Kernel, small_tree: Path
) -> None:
    made = make_array(Shape("5", 3, "left-symmetric"), metadata="0.90")
    before = [read_member(path) for path in made.members]
    for path in made.members:
        swap_superblock(path)
    for number, path in enumerate(made.members):
        member = read_member(path)
        # The same words, so the same array.
        assert member == before[number]
        check_superblock(path, member, number, "--metadata=0.swap")
    with running(kernel, made.members) as started:
        assert content_of(started.device) == made.content
        check_tree(started.device, small_tree)


def test_superblock_of_a_partition_is_not_that_of_its_disk(driver: Path, tmp_path: Path) -> None:
    paths = create_array(tmp_path, driver, Shape("1", 2), metadata="1.0")
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(MIB) + paths[0].read_bytes())
    window = window_of(disk)
    assert md.read_superblock(window) is None
    inside = Window(lambda at, length: window.at(MIB + at, length), 0, window.size - MIB)
    assert md.read_superblock(inside) == read_member(paths[0])


def test_newest_of_two_superblocks_counts(driver: Path, tmp_path: Path) -> None:
    paths = create_array(tmp_path, driver, Shape("1", 2), metadata="1.0")
    change_superblock(paths[0], {72: struct.pack("<Q", 1_000_000)})
    old = paths[0].read_bytes()
    again = tmp_path / "again"
    again.mkdir()
    (path, _other) = create_array(again, driver, Shape("1", 2), metadata="1.2")
    with path.open("r+b") as file:
        file.seek(len(old) - 64 * KIB)
        file.write(old[-64 * KIB :])
    assert read_member(path).version == "1.2"


# ---- Every level -------------------------------------------------------------------------------


@pytest.mark.proves("volume", "MD RAID", "linear, 0, 1, 4, 5, 6, 10, all layouts")
@pytest.mark.parametrize("shape", SHAPES, ids=shape_name)
def test_array(
    make_array: Callable[..., Made], kernel: Kernel, small_tree: Path, shape: Shape
) -> None:
    made = make_array(shape)
    # In whatever order they come.
    members = random.Random(1).sample(made.members, len(made.members))
    with running(kernel, members) as started:
        array = started.array
        assert array.level in ("linear", f"raid{shape.level}")
        assert array.name == "test:array"
        assert not array.note
        assert started.device.size() == shape.size
        assert content_of(started.device) == made.content
        check_tree(started.device, small_tree)
    # What mdadm says that it holds; it does not round to chunks where copies do not divide.
    told = examine(made.members[0]).get("Array Size")
    if told is not None and not shape.layout.endswith("3"):
        assert int(told.split()[0]) == shape.size // KIB


@pytest.mark.proves("volume", "MD RAID", "linear, 0, 1, 4, 5, 6, 10, all layouts")
@pytest.mark.parametrize("metadata", ["0.90", "1.0", "1.1"])
def test_array_with_other_metadata(
    make_array: Callable[..., Made], kernel: Kernel, small_tree: Path, metadata: str
) -> None:
    made = make_array(Shape("5", 3, "left-symmetric"), metadata=metadata)
    with running(kernel, made.members) as started:
        assert content_of(started.device) == made.content
        check_tree(started.device, small_tree)


def test_raid0_with_old_metadata(
    make_array: Callable[..., Made], kernel: Kernel, small_tree: Path
) -> None:
    made = make_array(Shape("5", 3, "left-symmetric"), metadata="0.90")
    size = read_member(made.members[0]).size // (CHUNK // SECTOR) * CHUNK
    shape = Shape("0", 3, sizes=(size,) * 3)
    for path in made.members:
        change_superblock(path, {7 * 4: bytes(4), 64 * 4: bytes(4)})
        assert examine(path)["Raid Level"] == "raid0"
        assert examine(path)["Checksum"].endswith("correct")
    content = made.content + noise(shape.size - len(made.content), 9)
    write_members(made.members, spread(shape, content))
    with running(kernel, made.members) as started:
        assert content_of(started.device) == content
        check_tree(started.device, small_tree)


UNEQUAL = (2 * MIB, 4 * MIB + CHUNK, 3 * MIB + CHUNK)


@pytest.mark.proves("volume", "MD RAID", "RAID 0 of unequal members")
@pytest.mark.parametrize("layout", ["original", "alternate"])
def test_raid0_of_unequal_members(
    make_array: Callable[..., Made], kernel: Kernel, small_tree: Path, layout: str
) -> None:
    made = make_array(Shape("0", 3, layout, sizes=UNEQUAL))
    with running(kernel, made.members) as started:
        assert content_of(started.device) == made.content
        check_tree(started.device, small_tree)


def test_raid0_of_unequal_members_without_a_layout(
    make_array: Callable[..., Made], kernel: Kernel
) -> None:
    made = make_array(Shape("0", 3, "original", sizes=UNEQUAL))
    for path in made.members:
        change_superblock(path, {8: bytes(4), 76: bytes(4)})
    with disks_of(kernel, made.members) as found:
        (array,) = md.group_members(found)
        with pytest.raises(VolumeError, match=r"volume\.feature"):
            md.assemble(kernel, array, read_only=True)


# ---- Degraded ----------------------------------------------------------------------------------

DEGRADED = tuple(shape for shape in SHAPES if shape.level not in ("0", "linear"))


def survives(shape: Shape, gone: Sequence[int], members: Sequence[bytes]) -> bool:
    """Whether each chunk, or a parity for it, stands on a member that is left."""
    if shape.level != "10":
        return len(gone) <= {"1": shape.disks - 1, "6": 2}.get(shape.level, 1)
    # Noise: chunks that are equal are copies of one another.
    chunks = [{member[at : at + 64] for at in range(0, COMPONENT, CHUNK)} for member in members]
    every = set().union(*chunks)
    return every == set().union(*(chunks[disk] for disk in range(shape.disks) if disk not in gone))


@pytest.mark.proves("volume", "MD RAID", "degraded, as far as the level allows")
@pytest.mark.parametrize("shape", DEGRADED, ids=shape_name)
def test_degraded_array(
    make_array: Callable[..., Made], kernel: Kernel, small_tree: Path, shape: Shape
) -> None:
    made = make_array(shape)
    members = spread(shape, made.content)
    most = {"1": shape.disks, "6": 3, "10": 3}.get(shape.level, 2)
    refused = 0
    with disks_of(kernel, made.members) as found:
        for count in range(1, most + 1):
            for gone in itertools.combinations(range(shape.disks), count):
                left = [each for number, each in enumerate(found) if number not in gone]
                if not left:
                    continue
                (array,) = md.group_members(left)
                assert array.missing == list(gone)
                if not array.can_start:
                    assert not survives(shape, gone, members)
                    refused += 1
                    with pytest.raises(VolumeError, match=r"array\.incomplete"):
                        md.assemble(kernel, array, read_only=True)
                    continue
                assert survives(shape, gone, members)
                assert "missing" in array.note
                started = md.assemble(kernel, array, read_only=True)
                assert content_of(started.device) == made.content
                if count == 1:
                    check_tree(started.device, small_tree)
                started.close()
    assert refused or shape.level == "1"


@pytest.mark.proves("volume", "MD RAID", "degraded, as far as the level allows")
@pytest.mark.parametrize("level", ["0", "linear"])
def test_array_that_needs_every_member(
    make_array: Callable[..., Made], kernel: Kernel, level: str
) -> None:
    made = make_array(Shape(level, 2, sizes=(2 * MIB, 2 * MIB)))
    with disks_of(kernel, made.members[1:]) as found:
        (array,) = md.group_members(found)
        assert array.missing == [0]
        with pytest.raises(VolumeError) as caught:
            md.assemble(kernel, array, read_only=True)
        assert "these, which miss: 0" in describe(caught.value)


def test_raid10_in_sets(make_array: Callable[..., Made], kernel: Kernel, small_tree: Path) -> None:
    made = make_array(Shape("10", 4, "s2"))
    for path in made.members:
        # No mdadm of today makes it.
        change_superblock(path, {76: struct.pack("<I", 0x201 | 2 << 17)})
    with disks_of(kernel, made.members) as found:
        # Of sets (0, 1) and (2, 3), but the driver wants one of each two that stand side by side.
        for gone in ((), (0,), (1,), (2,), (3,), (0, 2), (1, 3)):
            left = [each for number, each in enumerate(found) if number not in gone]
            (array,) = md.group_members(left)
            started = md.assemble(kernel, array, read_only=True)
            assert content_of(started.device) == made.content
            started.close()
        for gone in ((0, 1), (1, 2), (2, 3), (0, 3)):
            left = [each for number, each in enumerate(found) if number not in gone]
            (array,) = md.group_members(left)
            assert not array.can_start


# ---- Which members belong together -------------------------------------------------------------


def refused(paths: Sequence[Path]) -> md.Array[Path]:
    """The array that members make, by their paths."""
    (array,) = md.group_members([(read_member(path), path) for path in paths])
    return array


def left_out(array: md.Array[Path]) -> list[tuple[Path, str]]:
    return [(left.handle, left.code) for left in array.left_out]


@pytest.mark.proves("volume", "MD RAID", "stale, foreign and doubled members")
def test_members_of_several_arrays(make_array: Callable[..., Made], kernel: Kernel) -> None:
    first, second = (make_array(Shape("5", 3, "left-symmetric")) for _ in range(2))
    mixed = [first.members[0], second.members[1], first.members[2], second.members[0]]
    with disks_of(kernel, mixed) as found:
        arrays = md.group_members(found)
        assert [array.missing for array in arrays] == [[1], [2]]
        for array, made in zip(arrays, (first, second), strict=True):
            started = md.assemble(kernel, array, read_only=True)
            assert content_of(started.device) == made.content
            started.close()


@pytest.mark.proves("volume", "MD RAID", "stale, foreign and doubled members")
def test_member_that_is_out_of_date(make_array: Callable[..., Made], kernel: Kernel) -> None:
    made = make_array(Shape("1", 3))
    for path in made.members[1:]:
        change_superblock(path, {200: struct.pack("<Q", 7)})
    # What it holds is of an earlier time.
    write_members(made.members[:1], [noise(COMPONENT, 11)])
    array = refused(made.members)
    assert left_out(array) == [(made.members[0], "array.outdated")]
    assert array.note == (
        "of its 3 disks these are missing: 0; "
        "disk 0 is out of date, and left out: written 0 times, the newest 7"
    )
    with running(kernel, made.members) as started:
        assert content_of(started.device) == made.content


def test_member_that_is_one_write_behind(make_array: Callable[..., Made], kernel: Kernel) -> None:
    made = make_array(Shape("1", 2))
    change_superblock(made.members[1], {200: struct.pack("<Q", 1)})
    array = refused(made.members)
    assert not array.left_out
    assert not array.missing


def test_member_that_does_not_know_that_it_has_failed(
    make_array: Callable[..., Made], kernel: Kernel
) -> None:
    made = make_array(Shape("1", 2))
    # The other one wrote that, and was not stopped cleanly.
    roles = {256: struct.pack("<H", md.FAULTY), 200: struct.pack("<Q", 1)}
    change_superblock(made.members[1], roles)
    write_members(made.members[:1], [noise(COMPONENT, 11)])
    array = refused(made.members)
    assert left_out(array) == [(made.members[0], "array.failed")]
    with running(kernel, made.members) as started:
        assert content_of(started.device) == made.content


def test_halves_that_were_used_alone(make_array: Callable[..., Made], kernel: Kernel) -> None:
    made = make_array(Shape("1", 2))
    for number, path in enumerate(made.members):
        change_superblock(path, {256 + 2 * (1 - number): struct.pack("<H", md.FAULTY)})
    array = refused(made.members)
    assert left_out(array) == [(made.members[1], "array.split")]
    assert array.can_start


def test_member_that_is_there_twice(make_array: Callable[..., Made]) -> None:
    made = make_array(Shape("1", 2))
    array = refused([*made.members, made.members[0]])
    assert left_out(array) == [(made.members[0], "array.twice")]
    assert not array.missing


def test_member_that_does_not_fit(make_array: Callable[..., Made]) -> None:
    made = make_array(Shape("5", 3, "left-symmetric"))
    change_superblock(made.members[2], {76: struct.pack("<I", 3)})
    array = refused(made.members)
    assert left_out(array) == [(made.members[2], "array.different")]
    assert array.can_start


def test_spare_is_not_used(driver: Path, tmp_path: Path, kernel: Kernel) -> None:
    paths = create_array(tmp_path, driver, Shape("1", 2), options=["--spare-devices=1"], files=3)
    assert read_member(paths[2]).role == md.SPARE
    assert examine(paths[2])["Device Role"] == "spare"
    array = refused(paths)
    assert not array.left_out
    assert array.devices == paths[:2]
    # And it does not start an array by itself.
    array = refused(paths[2:])
    assert not array.can_start


# ---- Written by the kernel's own driver --------------------------------------------------------


class Driver:
    """The MD driver as on a real machine, with disks that it may write to: the other side.

    It reads and writes superblocks itself, brings members in step, and changes arrays.
    """

    def __init__(self, kernel: Kernel, paths: Sequence[Path], metadata: str = "1.2") -> None:
        self._kernel = kernel
        self.targets = [ScratchDisk(path) for path in paths]
        self.disks = [kernel.add_scratch_disk(target) for target in self.targets]
        write_text(kernel, b"/sys/module/md_mod/parameters/new_array", "md0\n")
        self.device = BlockDevice(kernel, b"/dev/md0")
        self.set("metadata_version", metadata)
        for disk in self.disks:
            descriptor = disk.device().open()
            node = kernel.stat_descriptor(descriptor, b"")
            kernel.close_descriptor(descriptor)
            self.set("new_dev", f"{node.special_major}:{node.special_minor}")

    def start(self, sync_max: str = "max") -> None:
        """Run the array; members are brought in step up to some sector, where it waits."""
        # Nothing begins before the first write, or this.
        self.set("array_state", "read-auto")
        self.set("sync_max", sync_max)
        self.set("array_state", "active")

    def set(self, attribute: str, value: str) -> None:
        """Set an attribute of the array."""
        write_text(self._kernel, b"/sys/block/md0/md/" + attribute.encode(), f"{value}\n")

    def set_member(self, member: int, attribute: str, value: str) -> None:
        """Set an attribute of a member."""
        name = self.disks[member].device().path.rpartition(b"/")[2]
        self.set(f"dev-{name.decode()}/{attribute}", value)

    def get(self, attribute: str) -> str:
        """An attribute of the array."""
        return read_text(self._kernel, b"/sys/block/md0/md/" + attribute.encode())

    def write(self, content: bytes, offset: int = 0) -> None:
        """Write to the array."""
        kernel, library = self._kernel, cast("Any", self._kernel.binding.library)
        descriptor = self.device.open(read_only=False)
        for at in range(0, len(content), MIB):
            piece = content[at : at + MIB]
            done = library.lkl_sys_pwrite64(
                kernel.pointer, descriptor, piece, len(piece), offset + at
            )
            assert kernel.check(done, "pwrite64") == len(piece)
        kernel.check(library.lkl_sys_fsync(kernel.pointer, descriptor), "fsync")
        kernel.close_descriptor(descriptor)

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait for what the driver does by itself."""
        for _ in range(2000):
            if done():
                return
            time.sleep(0.005)
        raise AssertionError(self._kernel.log()[-2000:])

    def wait_until_idle(self) -> None:
        """Wait until it has found that there is nothing to do, which it looks for at each start."""
        seen: list[str] = []

        def idle() -> bool:
            seen.append(self.get("sync_action"))
            return seen[-20:] == ["idle"] * 20

        self.wait(idle)

    def wait_for_stillness(self, attribute: str) -> None:
        """Wait until an attribute no longer changes."""
        seen: list[str] = []

        def still() -> bool:
            seen.append(self.get(attribute))
            return len(seen) > 60 and len(set(seen[-60:])) == 1

        self.wait(still)

    def stop(self) -> None:
        """Stop the array, and let go of its disks."""
        self.set("array_state", "clear")
        for disk, target in zip(self.disks, self.targets, strict=True):
            disk.close()
            target.close()


@pytest.mark.proves("volume", "MD RAID", "written by Linux itself")
@pytest.mark.parametrize(
    "shape",
    [
        Shape("1", 2),
        Shape("4", 3),
        Shape("5", 4, "left-symmetric"),
        Shape("6", 5, "left-symmetric"),
        Shape("10", 4, "n2"),
        Shape("10", 3, "f2"),
    ],
    ids=shape_name,
)
def test_what_the_driver_writes_stands_where_arithmetic_says(
    driver: Path, tmp_path: Path, small_tree: Path, kernel: Kernel, shape: Shape
) -> None:
    paths = create_array(tmp_path, driver, shape, options=["--bitmap=internal"])
    content = make_content(tmp_path / "content.img", small_tree, shape.size)
    other = Driver(kernel, paths)
    other.start()
    other.write(content)
    other.stop()
    for path, wanted in zip(paths, spread(shape, content), strict=True):
        start = data_offset(examine(path))
        assert path.read_bytes()[start : start + len(wanted)] == wanted
        member = read_member(path)
        assert "bitmap" in member.features
        assert member.events == int(examine(path)["Events"]) > 0
    with running(kernel, paths) as started:
        assert content_of(started.device) == content
        check_tree(started.device, small_tree)


def test_member_that_failed(driver: Path, tmp_path: Path, small_tree: Path, kernel: Kernel) -> None:
    shape = Shape("5", 3, "left-symmetric")
    paths = create_array(tmp_path, driver, shape)
    other = Driver(kernel, paths)
    other.start()
    other.write(noise(shape.size, 12))
    other.set_member(1, "state", "faulty")
    content = make_content(tmp_path / "content.img", small_tree, shape.size)
    other.write(content)
    other.stop()
    assert examine(paths[0])["Array State"].startswith("A.A")
    array = refused(paths)
    assert left_out(array) == [(paths[1], "array.outdated")]
    with running(kernel, paths) as started:
        assert content_of(started.device) == content
        check_tree(started.device, small_tree)


@pytest.mark.proves("volume", "MD RAID", "recovery and reshape that were interrupted")
def test_recovery_that_was_interrupted(driver: Path, tmp_path: Path, kernel: Kernel) -> None:
    shape = Shape("5", 3, "left-symmetric")
    paths = create_array(
        tmp_path,
        driver,
        shape,
        devices=["{}", "{}", "missing", "{}"],
        options=["--spare-devices=1"],
        files=3,
    )
    content = noise(shape.size, 13)
    members = spread(shape, content)
    write_members(paths, [members[0], members[1], noise(COMPONENT, 14)])
    other = Driver(kernel, paths)
    half = COMPONENT // 2 // SECTOR
    other.start(f"{half}")
    other.wait(lambda: other.get("sync_completed").startswith(f"{half} "))
    other.stop()
    member = read_member(paths[2])
    assert member.recovered == half
    assert examine(paths[2])["Recovery Offset"].startswith(f"{half} ")
    assert path_content(paths[2], half * SECTOR) == members[2][: half * SECTOR]
    with running(kernel, paths) as started:
        assert started.array.missing == [2]
        assert content_of(started.device) == content
    # It does not stand in for one that is whole.
    assert not refused(paths[1:]).can_start


def path_content(path: Path, length: int) -> bytes:
    """The first bytes of a member's data."""
    start = data_offset(examine(path))
    return path.read_bytes()[start : start + length]


def test_replacement_that_was_interrupted(driver: Path, tmp_path: Path, kernel: Kernel) -> None:
    shape = Shape("1", 2)
    paths = create_array(tmp_path, driver, shape, options=["--spare-devices=1"], files=3)
    content = noise(shape.size, 15)
    write_members(paths, [content, content, noise(COMPONENT, 16)])
    other = Driver(kernel, paths)
    half = COMPONENT // 2 // SECTOR
    other.start(f"{half}")
    other.set_member(0, "state", "want_replacement")
    other.wait(lambda: other.get("sync_completed").startswith(f"{half} "))
    other.stop()
    member = read_member(paths[2])
    assert (member.role, member.replacement, member.recovered) == (0, True, half)
    with running(kernel, paths) as started:
        assert not started.array.missing
        assert content_of(started.device) == content
    # Without the one that it was to replace, it is good for what it has.
    with running(kernel, paths[1:]) as started:
        assert started.array.missing == [0]
        assert content_of(started.device) == content
    assert not refused([paths[2]]).can_start


class Change(NamedTuple):
    """A reshape."""

    name: str
    shape: Shape
    disks: int
    """After it."""
    settings: tuple[tuple[str, str], ...]
    metadata: str = "1.2"


CHANGES = (
    Change("grow", Shape("5", 3, "left-symmetric"), 4, (("raid_disks", "4"),)),
    Change("grow-old", Shape("5", 3, "left-symmetric"), 4, (("raid_disks", "4"),), "0.90"),
    Change("grow-raid6", Shape("6", 4, "left-symmetric"), 5, (("raid_disks", "5"),)),
    Change("grow-raid10", Shape("10", 4, "n2"), 5, (("raid_disks", "5"),)),
    Change("layout", Shape("5", 4, "left-symmetric"), 4, (("layout", "0"),)),
    Change("chunk", Shape("5", 3, "left-symmetric"), 3, (("chunk_size", f"{CHUNK // 2}"),)),
    Change("shrink", Shape("5", 4, "left-symmetric"), 3, (("raid_disks", "3"),)),
)


@pytest.mark.proves("volume", "MD RAID", "recovery and reshape that were interrupted")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_reshape_that_was_interrupted(
    driver: Path, tmp_path: Path, small_tree: Path, kernel: Kernel, change: Change
) -> None:
    shape = change.shape
    spares = max(0, change.disks - shape.disks)
    paths = create_array(
        tmp_path,
        driver,
        shape,
        metadata=change.metadata,
        options=[f"--spare-devices={spares}"] if spares else [],
        files=shape.disks + spares,
    )
    content = make_content(tmp_path / "content.img", small_tree, shape.size)
    members = spread(shape, content)
    write_members(paths, [*members, *[noise(COMPONENT, 17)] * spares])
    other = Driver(kernel, paths, change.metadata)
    other.start()
    other.wait_until_idle()
    if change.name == "shrink":
        content = content[: COMPONENT * (change.disks - 1)]
        other.set("array_size", f"{len(content) // KIB}")
    if shape.level == "10":
        # It never writes over what it has not read.
        for number in range(len(paths)):
            other.set_member(number, "new_offset", str(2048 - CHUNK // SECTOR))
    other.wait_until_idle()
    for name, value in change.settings:
        other.set(name, value)
    other.wait_until_idle()
    other.set("sync_max", f"{COMPONENT // 2 // SECTOR}")
    other.set("sync_action", "reshape")
    other.wait(lambda: other.get("reshape_position") not in ("none", "0"))
    other.wait_for_stillness("sync_completed")
    other.stop()
    member = read_member(paths[0])
    assert member.reshape is not None
    assert (member.shape.disks, member.reshape.shape.disks) == (shape.disks, change.disks)
    assert examine(paths[0])["Reshape pos'n"].startswith(f"{member.reshape.position // 2}")
    with running(kernel, paths, read_only=False) as started:
        assert "another shape" in started.array.note
        assert content_of(started.device)[: len(content)] == content
        check_tree(started.device, small_tree)
    with running(kernel, paths[1:]) as started:
        assert content_of(started.device)[: len(content)] == content


# ---- What else a superblock tells --------------------------------------------------------------


@pytest.mark.parametrize("level", ["1", "5"])
def test_bad_blocks_are_read_elsewhere(
    make_array: Callable[..., Made], kernel: Kernel, small_tree: Path, level: str
) -> None:
    made = make_array(Shape(level, 3))
    path = made.members[0]
    start = data_offset(examine(path))
    # Nothing tells that these bytes are wrong, but the log.
    bad = [(start // SECTOR + 8, 16), (start // SECTOR + 1024, 128)]
    with path.open("r+b") as file:
        for first, length in bad:
            file.seek(first * SECTOR)
            file.write(noise(length * SECTOR, 18))
        # mdadm leaves room for it 16 sectors behind the superblock.
        file.seek(4096 + 16 * SECTOR)
        file.write(struct.pack("<3Q", *[first << 10 | length for first, length in bad], NEVER))
    change_superblock(path, {8: struct.pack("<I", 8)})
    told = run_tool("mdadm", "--examine-badblocks", path)
    for first, length in bad:
        assert f"{first} for {length} sectors" in told
    assert read_member(path).bad_blocks == tuple(bad)
    with running(kernel, made.members, read_only=False) as started:
        assert content_of(started.device) == made.content
        check_tree(started.device, small_tree)


def test_dirty_array(make_array: Callable[..., Made], kernel: Kernel) -> None:
    made = make_array(Shape("5", 3, "left-symmetric"))
    for path in made.members:
        change_superblock(path, {208: bytes(8)})
        assert examine(path)["State"] == "active"
    for read_only in (True, False):
        with running(kernel, made.members, read_only=read_only) as started:
            assert started.array.is_dirty
            assert not started.array.note
            assert content_of(started.device) == made.content
    # The driver itself would refuse this without force.
    with running(kernel, made.members[1:]) as started:
        assert "not stopped cleanly" in started.array.note
        assert content_of(started.device) == made.content


def test_journal_is_left_alone(driver: Path, tmp_path: Path, kernel: Kernel) -> None:
    shape = Shape("5", 3, "left-symmetric")
    journal = make_empty(tmp_path / "journal.img", 8 * MIB)
    with Loop(journal) as device:
        paths = create_array(tmp_path, driver, shape, options=[f"--write-journal={device}"])
    assert read_member(journal).role == md.JOURNAL
    content = noise(shape.size, 19)
    other = Driver(kernel, [*paths, journal])
    other.start()
    other.write(content)
    other.stop()
    with running(kernel, [*paths, journal]) as started:
        assert started.array.newest.features == ("journal",)
        assert "journal is not replayed" in started.array.note
        assert content_of(started.device) == content


def test_partial_parity_log(driver: Path, tmp_path: Path, kernel: Kernel) -> None:
    shape = Shape("5", 3, "left-symmetric")
    paths = create_array(tmp_path, driver, shape, options=["--consistency-policy=ppl"])
    assert read_member(paths[0]).features == ("PPL",)
    content = noise(shape.size, 20)
    write_members(paths, spread(shape, content))
    with running(kernel, paths) as started:
        assert content_of(started.device) == content


# ---- Writing goes to memory --------------------------------------------------------------------


@pytest.mark.proves("volume", "MD RAID", "no resync, nothing written")
@pytest.mark.parametrize(
    "shape",
    [Shape("0", 2, sizes=(2 * MIB, 2 * MIB)), *DEGRADED[:4], Shape("6", 4), Shape("10", 4, "n2")],
    ids=shape_name,
)
def test_array_takes_writes_and_does_nothing_by_itself(
    make_array: Callable[..., Made], kernel: Kernel, tmp_path: Path, shape: Shape
) -> None:
    made = make_array(shape)
    before = [path.read_bytes() for path in made.members]
    if shape.level != "0":
        # As after a power cut: a driver of its own would bring members in step now.
        for path in made.members:
            change_superblock(path, {208: bytes(8)})
    more = tmp_path / "more"
    more.mkdir()
    (more / "new").write_bytes(noise(50_000, 21))
    with disks_of(kernel, made.members, overlay=16 * MIB) as found:
        (array,) = md.group_members(found)
        started = md.assemble(kernel, array, read_only=False)
        with started.device.mount("ext4", read_only=False) as mount:
            Writer(kernel, mount).write(os.fsencode(more), b"/more")
        with started.device.mount("ext4") as mount:
            assert_same(without(mount_facts(mount, b"/more"), b""), without(host_facts(more), b""))
        name = started.device.path.rpartition(b"/")[2]
        if shape.level != "0":
            action = read_text(kernel, b"/sys/block/%b/md/sync_action" % name)
            assert action == "frozen"
        started.close()
    assert "resync of RAID" not in kernel.log()
    assert "recovery of RAID" not in kernel.log()
    assert [path.read_bytes()[8192:] for path in made.members] == [old[8192:] for old in before]


@pytest.mark.proves("volume", "MD RAID", "a journal replayed on it in memory")
def test_replayed_journal_of_a_file_system(driver: Path, tmp_path: Path, kernel: Kernel) -> None:
    """What only the journal of an ext4 on the array knows is there, and nothing was written."""
    shape = Shape("5", 3, "left-symmetric", sizes=())
    image = make_empty(tmp_path / "journaled.img", shape.size)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-J", "size=1", image)
    script = tmp_path / "commands"
    block = tmp_path / "block"
    block.write_bytes(noise(1024, 22))
    # Block 3000 is free: the journal brings it.
    script.write_text(f"journal_open\njournal_write -b 3000 {block}\njournal_close\n")
    run_tool("debugfs", "-w", "-f", script, image)
    content = image.read_bytes()
    assert content[3000 * 1024 : 3001 * 1024] == bytes(1024)
    paths = create_array(tmp_path, driver, shape)
    write_members(paths, spread(shape, content))
    with running(kernel, paths, read_only=False) as started:
        with started.device.mount("ext4") as mount:
            assert any("recovery complete" in line for line in mount.messages)
        assert started.device.read(3000 * 1024, 1024) == noise(1024, 22)
    with running(kernel, paths) as started:
        with pytest.raises(KernelError):
            started.device.mount("ext4")
        with started.device.mount("ext4", options="noload"):
            assert started.device.read(3000 * 1024, 1024) == bytes(1024)


# ---- Partitions below and above ----------------------------------------------------------------


@pytest.mark.proves("volume", "MD RAID", "on partitions, and with partitions")
def test_members_on_partitions(make_array: Callable[..., Made], kernel: Kernel) -> None:
    made = make_array(Shape("5", 3, "left-symmetric"), metadata="1.0")
    with ExitStack() as stack:
        found = []
        for path in made.members:
            disk_path = path.with_suffix(".disk")
            with disk_path.open("wb") as file:
                file.truncate(path.stat().st_size + 2 * MIB)
                file.seek(MIB)
                file.write(path.read_bytes())
            sectors = path.stat().st_size // SECTOR
            run_tool("sfdisk", "-q", disk_path, text=f"label: gpt\n2048 {sectors} R\n")
            image = stack.enter_context(open_image(disk_path, "raw"))
            disk = stack.enter_context(kernel.add_disk(image))
            (partition,) = disk.partitions()
            window = Window(image.read, partition.start, partition.size)
            assert recognise(Window(image.read, 0, image.size)) is None
            member = md.read_superblock(window)
            assert member is not None
            found.append((member, disk.device(partition.number)))
        (array,) = md.group_members(found)
        started = md.assemble(kernel, array, read_only=True)
        assert content_of(started.device) == made.content
        started.close()


@pytest.mark.proves("volume", "MD RAID", "on partitions, and with partitions")
def test_array_with_partitions(
    driver: Path, tmp_path: Path, small_tree: Path, kernel: Kernel
) -> None:
    shape = Shape("0", 2, sizes=(2 * MIB, 2 * MIB))
    image = make_empty(tmp_path / "inside.img", shape.size)
    run_tool("sfdisk", "-q", image, text="label: gpt\n2048 2048 L\n")
    tree = make_content(tmp_path / "content.img", small_tree, MIB)
    with image.open("r+b") as file:
        file.seek(MIB)
        file.write(tree)
    paths = create_array(tmp_path, driver, shape)
    write_members(paths, spread(shape, image.read_bytes()))
    with running(kernel, paths) as started, attach_loop(kernel, started.device) as loop:
        (partition,) = loop.partitions()
        assert (partition.start, partition.size) == (MIB, MIB)
        check_tree(loop.partition(partition.number), small_tree)


# ---- Damaged and hostile superblocks -----------------------------------------------------------

WRONG = {
    "chunk of nothing": ("1.2", {88: bytes(4)}, "in chunks of 0"),
    "chunk of no power of two": ("1.2", {88: struct.pack("<I", 24)}, "in chunks of"),
    "chunk of 2 TiB": ("1.2", {88: struct.pack("<I", 1 << 31)}, "in chunks of"),
    "no disks": ("1.2", {92: bytes(4)}, "of 0 disks"),
    "one disk": ("1.2", {92: struct.pack("<I", 1)}, "of 1 disks"),
    "too many disks": ("1.2", {92: struct.pack("<I", 0xFFFF_FFFF)}, "disks"),
    "unknown level": ("1.2", {72: struct.pack("<i", 7)}, "level 7"),
    "multipath": ("1.2", {72: struct.pack("<i", -4)}, "multipath"),
    "unknown layout": ("1.2", {76: struct.pack("<I", 77)}, "layout 0x4d"),
    "data beyond the end": ("1.2", {128: struct.pack("<Q", 1 << 40)}, "data of"),
    "data of nothing": ("1.2", {136: bytes(8)}, "data of 0"),
    "data of far too much": ("1.2", {136: struct.pack("<Q", NEVER)}, "data of"),
    "data over the superblock": ("1.2", {128: bytes(8)}, "over the superblock"),
    "more used than there is": ("1.2", {80: struct.pack("<Q", 1 << 60)}, "are used"),
    "nothing used": ("1.2", {80: bytes(8)}, "0 of"),
    "unknown features": ("1.2", {8: struct.pack("<I", 1 << 20)}, "unknown features (0x100000)"),
    "new padding": ("1.2", {12: struct.pack("<I", 1)}, "unknown features"),
    "bad blocks beyond": (
        "1.2",
        {8: struct.pack("<I", 8), 188: struct.pack("<i", 1 << 30)},
        "bad block log",
    ),
    "bad blocks without room": ("1.2", {8: struct.pack("<I", 8), 186: bytes(2)}, "bad block log"),
    "reshape to nothing": ("1.2", {8: struct.pack("<I", 4)}, "on its way to raid0"),
    "reshape from no disks": (
        "1.2",
        {8: struct.pack("<I", 4), 100: struct.pack("<iQi", 5, 0, 3)},
        "of 0 disks",
    ),
    "reshape to another level": (
        "1.2",
        {8: struct.pack("<I", 4), 100: struct.pack("<iQiII", 6, 0, 0, 2, 128)},
        "on its way",
    ),
    "reshape of data before the disk": (
        "1.2",
        {8: struct.pack("<I", 4 | 64), 100: struct.pack("<iQiIIi", 5, 0, 0, 2, 128, -99999)},
        "new data",
    ),
    "old chunk of nothing": ("0.90", {65 * 4: bytes(4)}, "in chunks of 0"),
    "old disk beyond the table": ("0.90", {992 * 4: struct.pack("<I", 1 << 31)}, "of disk"),
    "old number of disks": ("0.90", {10 * 4: struct.pack("<I", 1 << 31)}, "disks"),
    "old level": ("0.90", {7 * 4: struct.pack("<i", -3)}, "level -3"),
    "old version": ("0.90", {2 * 4: struct.pack("<I", 95)}, "0.95"),
}


@pytest.mark.proves("volume", "MD RAID", "damage gives typed errors")
@pytest.mark.parametrize("case", WRONG)
def test_superblock_that_cannot_be(driver: Path, tmp_path: Path, case: str) -> None:
    metadata, changes, told = WRONG[case]
    paths = create_array(tmp_path, driver, Shape("5", 3, "left-symmetric"), metadata=metadata)
    change_superblock(paths[0], changes)
    with pytest.raises(VolumeError) as caught:
        read_member(paths[0])
    assert told in describe(caught.value)
    if caught.value.code == "volume.damaged":
        assert caught.value.params["structure"] == "RAID superblock"
        assert caught.value.params["offset"] == (4096 if metadata == "1.2" else 0x4F0000)


@pytest.mark.parametrize("metadata", ["0.90", "1.2"])
def test_wrong_checksum(driver: Path, tmp_path: Path, metadata: str) -> None:
    paths = create_array(tmp_path, driver, Shape("1", 2), metadata=metadata)
    start = 4096 if metadata == "1.2" else paths[0].stat().st_size // 65536 * 65536 - 65536
    with paths[0].open("r+b") as file:
        file.seek(start + 24)
        file.write(b"\xa5")
    with pytest.raises(VolumeError) as caught:
        read_member(paths[0])
    assert "its checksum is wrong" in describe(caught.value)


@pytest.mark.parametrize("metadata", ["0.90", "1.0", "1.2"])
@pytest.mark.parametrize(
    "shape",
    [Shape("1", 2), Shape("5", 3, "left-symmetric"), Shape("6", 4), Shape("10", 4, "f2")],
    ids=shape_name,
)
def test_any_superblock_ends_in_an_array_or_a_typed_error(
    driver: Path, tmp_path: Path, kernel: Kernel, shape: Shape, metadata: str
) -> None:
    """Numbers of all kinds in all places, with checksums that are right."""
    paths = create_array(tmp_path, driver, shape, metadata=metadata)
    chance = random.Random(f"{shape} {metadata}")
    facts = examine(paths[0])
    start = superblock_offset(paths[0], facts)
    blocks = [path.read_bytes()[start : start + 4096] for path in paths]
    places = list(range(8, 300))
    if metadata == "0.90":
        words = [1, 2, *range(5, 12), *range(33, 50), 64, 65, *range(128, 133), 992, 995, 996]
        places = [word * 4 for word in words]
    values = (0, 1, 2, 3, 5, 0x7F, 0xFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
    ran = 0
    texts = set()
    with ExitStack() as stack:
        disks = []
        for path in paths:
            image = stack.enter_context(open_image(path, "raw"))
            disks.append(stack.enter_context(kernel.add_disk(image)))
        for _ in range(150):
            size = chance.choice((1, 2, 4, 8))
            at = chance.choice(places) // size * size
            value = chance.choice((*values, chance.getrandbits(size * 8)))
            change = (value & ((1 << size * 8) - 1)).to_bytes(size, "little")
            everywhere = chance.random() < 0.7
            found = []
            for number, (path, disk) in enumerate(zip(paths, disks, strict=True)):
                block = bytearray(blocks[number])
                if everywhere or number == 0:
                    block[at : at + size] = change
                    fix_checksum(block, metadata)
                content = path.read_bytes()
                content = content[:start] + bytes(block) + content[start + 4096 :]
                try:
                    member = md.read_superblock(window_over(content))
                except VolumeError as error:
                    texts.add(describe(error))
                    continue
                if member is not None:
                    found.append((member, disk.device()))
            for array in md.group_members(found):
                try:
                    started = md.assemble(kernel, array, read_only=True)
                except VolumeError as error:
                    texts.add(describe(error))
                    continue
                with suppress(KernelError):
                    started.device.read(0, 2 * CHUNK)
                started.close()
                ran += 1
    assert ran > 10
    assert len(texts) > 2
    assert not any("{" in text for text in texts)
    assert kernel.state == "running"
    assert "BUG" not in kernel.log()


# ---- Real images -------------------------------------------------------------------------------


@pytest.mark.proves("volume", "MD RAID", "real images")
@pytest.mark.parametrize(
    ("name", "version", "level"),
    [("mdraid.img.xz", "0.90", "raid1"), ("mdraid-1.img.xz", "1.2", "raid0")],
)
def test_real_superblock(tmp_path: Path, name: str, version: str, level: str) -> None:
    (real,) = [one for one in real_images() if one.name == f"blkid/{name}"]
    path = tmp_path / "member.img"
    real.unpack(path)
    member = read_member(path)
    assert (member.version, member.shape.level) == (version, level)
    facts = examine(path)
    assert (facts.get("UUID") or facts["Array UUID"]).startswith(member.uuid)
    assert int(facts["Raid Devices"]) == member.shape.disks
    assert facts["Events"] in (f"{member.events}", f"0.{member.events}")


@pytest.mark.parametrize("name", ["ddf-raid", "isw-raid", "nvidia-raid", "promise-raid"])
def test_firmware_raid_is_no_member(tmp_path: Path, name: str) -> None:
    (real,) = [one for one in real_images() if one.name == f"blkid/{name}.img.xz"]
    path = tmp_path / "member.img"
    real.unpack(path)
    assert md.read_superblock(window_of(path)) is None
