# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""LVM2: what its tools and the kernel's own targets write, read in both views.

The volumes' places are those that the tools report, never those of the reader under test. What
stands in RAID, snapshots and caches is written by the kernel's targets with their own metadata,
as LVM2 would have it; or computed here, or made by thin-provisioning-tools.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

from explorer.core.errors import KernelError, SourceError, VolumeError
from explorer.core.extents import Extent, ExtentKind
from explorer.core.messages import describe
from explorer.images.registry import open_image
from explorer.kernel import Kernel
from explorer.kernel.mapper import SECTOR, Target, map_device
from explorer.kernel.system import list_folders
from explorer.volumes import lvm
from explorer.volumes.window import Window
from tests import makers
from tests.kernel.test_kernel import panic
from tests.kernel.test_mapper import write
from tests.makers import ScratchDisk
from tests.trees import (
    assert_same,
    host_facts,
    make_empty,
    mount_facts,
    noise,
    run_tool,
    without,
)
from tests.volumes.lvm_host import EXTENT, LvmHost, Row, Text, fetch, lay, segment
from tests.volumes.truth import copy_of, real_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from explorer.kernel import BlockDevice
    from explorer.kernel.mapper import MappedDevice

    Group = lvm.VolumeGroup[BlockDevice]

MIB = 1 << 20

VIEWS = pytest.mark.parametrize("read_only", [True, False], ids=["stored", "recovered"])


# ---- Reading -----------------------------------------------------------------------------------


def window_of(content: bytes) -> Window:
    """Some bytes as a volume."""
    return Window(lambda offset, length: content[offset : offset + length], 0, len(content))


def window(path: Path) -> Window:
    """The bytes of an image."""
    return window_of(path.read_bytes())


@contextmanager
def disks(
    kernel: Kernel, images: Sequence[Path], *, read_only: bool
) -> Iterator[list[tuple[lvm.PhysicalVolume, BlockDevice]]]:
    """Physical volumes, on disks that refuse writes or keep them in memory."""
    with ExitStack() as stack:
        found = []
        added = []
        for path in images:
            image = stack.enter_context(open_image(path, "raw"))
            disk = stack.enter_context(
                kernel.add_disk(image, overlay_limit=0 if read_only else 64 * MIB)
            )
            volume = lvm.read_physical_volume(Window(image.read, 0, image.size))
            assert volume is not None
            assert volume.fault is None
            found.append((volume, disk.device()))
            added.append(disk)
        yield found
        # Nothing below writes by itself; in this view nothing could.
        if read_only:
            assert all(disk.statistics().write_requests == 0 for disk in added)
            assert all(disk.statistics().write_errors == 0 for disk in added)


@contextmanager
def opened(kernel: Kernel, images: Sequence[Path], *, read_only: bool) -> Iterator[Group]:
    """The only volume group on some images."""
    with disks(kernel, images, read_only=read_only) as found:
        (group,) = lvm.group_volumes(found)
        assert group.fault is None
        yield group


def volume_of(group: Group, name: str) -> lvm.LogicalVolume:
    """A logical volume by its name."""
    (found,) = (volume for volume in group.volumes if volume.name == name)
    return found


@contextmanager
def active(kernel: Kernel, group: Group, name: str, *, read_only: bool) -> Iterator[BlockDevice]:
    """A logical volume as a device."""
    activation = lvm.activate(kernel, group, volume_of(group, name), read_only=read_only)
    try:
        yield activation.device
    finally:
        activation.close()


def content_of(kernel: Kernel, group: Group, name: str, *, read_only: bool) -> bytes:
    """All bytes of a logical volume, and no more."""
    with active(kernel, group, name, read_only=read_only) as device:
        size = volume_of(group, name).size
        assert device.size() == size
        return device.read(0, size + 1)


# ---- Writing -----------------------------------------------------------------------------------


class Bench:
    """A kernel that writes into images, by its own targets. A context manager."""

    def __init__(self, images: Sequence[Path]) -> None:
        self._closing = ExitStack()
        self.kernel = self._closing.enter_context(Kernel())
        self._names = itertools.count()
        self._paths = {}
        for image in images:
            scratch = ScratchDisk(image)
            self._closing.callback(scratch.close)
            disk = self._closing.enter_context(self.kernel.add_scratch_disk(scratch))
            self._paths[image] = disk.device().path

    def map(self, kind: str, size: int, parameters: bytes) -> MappedDevice:
        """A device of one target, of ``size`` bytes."""
        return self._keep([Target(0, size // SECTOR, kind, parameters)])

    def linear(self, row: Row) -> MappedDevice:
        """A volume where the tools say that it stands."""
        return self._keep(
            [
                Target(
                    piece.start // SECTOR,
                    piece.length // SECTOR,
                    "linear",
                    b"%b %d" % (self._paths[piece.image], piece.offset // SECTOR),
                )
                for piece in row.pieces
            ]
        )

    def _keep(self, targets: list[Target]) -> MappedDevice:
        name = b"bench-%d" % next(self._names)
        device = map_device(self.kernel, name, targets, read_only=False)
        return self._closing.enter_context(device)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing.close()


def put(device: BlockDevice, content: bytes, offset: int = 0) -> None:
    """Write to a device."""
    assert write(device, offset, content) == ""


# ---- What the tools make by themselves -----------------------------------------------------------


@pytest.fixture(scope="module")
def host(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LvmHost]:
    """LVM2's tools; what is made with them may be read when they have let go of it."""
    with LvmHost(tmp_path_factory.mktemp("lvm")) as made:
        yield made


class Made:
    """Volumes that were made, and what they hold."""

    def __init__(self, images: list[Path]) -> None:
        self.images = images
        self.rows: dict[str, Row] = {}
        self.content: dict[str, bytes] = {}


@pytest.fixture(scope="module")
def simple(host: LvmHost, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All that lvcreate makes without a device mapper, on three physical volumes."""
    folder = tmp_path_factory.mktemp("simple")
    made = Made(host.images(folder, 3))
    host.make_group("simple", made.images)
    host.make_volume("simple", "line", 10)
    host.make_volume("simple", "two", 8, "--stripes", "2", "--stripesize", "64k")
    host.make_volume("simple", "three", 12, "--stripes", "3", "--stripesize", "4k")
    host.make_volume("simple", "zero", 12, "--type", "raid0", "--stripes", "2")
    # In pieces: behind others, on another physical volume, in stripes of another size.
    host.run("lvextend", "-qq", "-l", "+7", "simple/line", host.loop(made.images[2]))
    host.run("lvextend", "-qq", "-l", "+3", "simple/line", host.loop(made.images[0]))
    host.run("lvextend", "-qq", "-l", "+6", "-i", "3", "-I", "8k", "simple/three")
    made.rows = host.volumes("simple")
    for seed, (name, row) in enumerate(made.rows.items()):
        if row.pieces:
            made.content[name] = noise(row.size, seed)
            lay(row, made.content[name])
    # The default stripes of RAID0, over images that are volumes themselves.
    made.content["zero"] = stripes([made.content[f"zero_rimage_{number}"] for number in (0, 1)])
    return made


def stripes(images: Sequence[bytes], size: int = 65536) -> bytes:
    """What stands on images that take turns."""
    return b"".join(
        image[start : start + size] for start in range(0, len(images[0]), size) for image in images
    )


@pytest.mark.proves("volume", "LVM2", "linear, striped, raid0")
@VIEWS
@pytest.mark.parametrize("name", ["line", "two", "three", "zero"])
def test_volumes_of_lvcreate(
    simple: Made,
    kernel: Kernel,
    unchanged: Callable[[Path], Path],
    name: str,
    read_only: bool,
) -> None:
    images = [unchanged(image) for image in simple.images]
    with opened(kernel, images, read_only=read_only) as group:
        assert content_of(kernel, group, name, read_only=read_only) == simple.content[name]
        # And again, for nothing is left behind.
        assert content_of(kernel, group, name, read_only=read_only) == simple.content[name]


@pytest.mark.proves("volume", "LVM2", "as lvs shows them")
def test_volumes_are_those_that_lvs_shows(simple: Made, host: LvmHost, kernel: Kernel) -> None:
    (row,) = host.report("vgs", "vg_name", "vg_uuid", "vg_seqno", group="simple")
    with opened(kernel, simple.images, read_only=True) as group:
        assert (group.name, group.uuid) == (row["vg_name"], row["vg_uuid"])
        assert group.sequence == int(row["vg_seqno"])
        assert {one.name: (one.uuid, one.size, one.kind) for one in group.volumes} == {
            one.name: (one.uuid, one.size, one.kind)
            for one in simple.rows.values()
            if not one.hidden
        }
        assert len(group.volumes) == 4
        assert not any(one.missing or one.refusal or one.note for one in group.volumes)
        assert group.devices == [one.handle for one in group.physical.values()]
        assert not group.missing


# ---- RAID ----------------------------------------------------------------------------------------


class Raid(NamedTuple):
    """A kind of RAID as LVM2 has it."""

    name: str
    kind: str
    target: str
    """What dm-raid calls it."""
    images: int
    data: int
    """Images' worth of content."""
    spare: int
    """Images that may be missing, whichever these are."""
    copies: int = 0


RAIDS = (
    Raid("one", "raid1", "raid1", 2, 1, 1),
    Raid("three", "raid1", "raid1", 3, 1, 2),
    Raid("four", "raid4", "raid4", 3, 2, 1),
    Raid("five", "raid5", "raid5_ls", 3, 2, 1),
    Raid("five_la", "raid5_la", "raid5_la", 3, 2, 1),
    Raid("five_ls", "raid5_ls", "raid5_ls", 4, 3, 1),
    Raid("five_ra", "raid5_ra", "raid5_ra", 3, 2, 1),
    Raid("five_rs", "raid5_rs", "raid5_rs", 3, 2, 1),
    Raid("five_n", "raid5_n", "raid5_n", 3, 2, 1),
    Raid("six", "raid6", "raid6_zr", 5, 3, 2),
    Raid("six_zr", "raid6_zr", "raid6_zr", 6, 4, 2),
    Raid("six_nr", "raid6_nr", "raid6_nr", 5, 3, 2),
    Raid("six_nc", "raid6_nc", "raid6_nc", 5, 3, 2),
    Raid("six_la", "raid6_la_6", "raid6_la_6", 5, 3, 2),
    Raid("six_ls", "raid6_ls_6", "raid6_ls_6", 5, 3, 2),
    Raid("six_ra", "raid6_ra_6", "raid6_ra_6", 5, 3, 2),
    Raid("six_rs", "raid6_rs_6", "raid6_rs_6", 5, 3, 2),
    Raid("six_n", "raid6_n_6", "raid6_n_6", 5, 3, 2),
    Raid("ten", "raid10", "raid10", 4, 2, 1, 2),
    Raid("ten_3", "raid10", "raid10", 6, 2, 2, 3),
)
IMAGE = 6
"""Extents of each image."""
CHUNK = 16 * 1024


@pytest.fixture(scope="module")
def raids(host: LvmHost, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """RAID of all kinds: read by the tools, and written to through the kernel's dm-raid."""
    folder = tmp_path_factory.mktemp("raids")
    made = Made(host.images(folder, 6))
    host.make_group("raids", made.images)
    text = Text()
    for raid in RAIDS:
        body = f"stripe_size = {CHUNK // SECTOR}" if raid.kind != "raid1" else ""
        if raid.copies:
            body += f"\ndata_copies = {raid.copies}"
        text.raid(raid.name, raid.kind, raid.images, IMAGE * raid.data, IMAGE, body)
    host.restore("raids", str(text))
    made.rows = host.volumes("raids")
    with Bench(made.images) as bench:
        arrays = []
        for seed, raid in enumerate(RAIDS):
            array = run_raid(bench, made.rows, raid, range(raid.images))
            made.content[raid.name] = noise(made.rows[raid.name].size, seed)
            put(array, made.content[raid.name])
            arrays.append(array)
        for array in arrays:
            wait_for_idle(array)
    return made


def run_raid(
    bench: Bench, rows: dict[str, Row], raid: Raid, present: Sequence[int]
) -> MappedDevice:
    """Run a RAID as LVM2 does, with the superblocks beside its images."""
    devices = []
    for number in range(raid.images):
        if number in present:
            devices += [
                bench.linear(rows[f"{raid.name}_{part}_{number}"]).path
                for part in ("rmeta", "rimage")
            ]
        else:
            devices += [b"-", b"-"]
    options = ["0" if raid.kind == "raid1" else str(CHUNK // SECTOR), "region_size", "128"]
    if raid.copies:
        options += ["raid10_copies", str(raid.copies)]
    parameters = f"{raid.target} {len(options)} {' '.join(options)} {raid.images} ".encode()
    return bench.map("raid", rows[raid.name].size, parameters + b" ".join(devices))


def wait_for_idle(array: MappedDevice) -> None:
    """Wait until a RAID is in step."""
    fields: list[bytes] = []
    for _ in range(600):
        fields = array.status()[0].parameters.split()
        done, _, total = fields[3].partition(b"/")
        if fields[4] == b"idle" and done == total:
            return
        time.sleep(0.05)
    pytest.fail(f"still not in step: {fields}")


def test_raid_is_what_lvs_shows(raids: Made, kernel: Kernel) -> None:
    with opened(kernel, raids.images, read_only=True) as group:
        assert {one.name: (one.uuid, one.size, one.kind) for one in group.volumes} == {
            one.name: (one.uuid, one.size, one.kind)
            for one in raids.rows.values()
            if not one.hidden
        }
        assert [one.kind for one in group.volumes] == [raid.kind for raid in RAIDS]


@pytest.mark.proves("volume", "LVM2", "raid1, raid4, raid5, raid6, raid10, degraded too")
@VIEWS
@pytest.mark.parametrize("raid", RAIDS, ids=lambda raid: str(raid.name))
def test_raid(
    raids: Made,
    kernel: Kernel,
    unchanged: Callable[[Path], Path],
    raid: Raid,
    read_only: bool,
) -> None:
    images = [unchanged(image) for image in raids.images]
    with disks(kernel, images, read_only=read_only) as found:
        for missing in range(raid.spare + 2):
            for gone in itertools.combinations(range(raid.images), missing):
                there = [one for number, one in enumerate(found) if number not in gone]
                (group,) = lvm.group_volumes(there)
                volume = volume_of(group, raid.name)
                assert len(volume.missing) == missing
                if volume.refusal is None:
                    assert bool(volume.note) == bool(missing)
                    content = content_of(kernel, group, raid.name, read_only=read_only)
                    assert content == raids.content[raid.name], gone
                    continue
                # Copies may be missing beyond what a level can always do without.
                assert missing > raid.spare, gone
                assert volume.refusal.code == "volume.missing-member"
                for number in gone:
                    assert found[number][0].uuid in describe(volume.refusal)
                with pytest.raises(VolumeError):
                    lvm.activate(kernel, group, volume, read_only=read_only)


def exclusive_or(*chunks: bytes) -> bytes:
    """The parity of chunks."""
    total = 0
    for chunk in chunks:
        total ^= int.from_bytes(chunk, "little")
    return total.to_bytes(len(chunks[0]), "little")


def times_two(chunk: bytes) -> bytes:
    """Every byte doubled in the field of RAID6 ("The mathematics of RAID-6", H. P. Anvin)."""
    return bytes(byte << 1 & 0xFF ^ (0x1D if byte & 0x80 else 0) for byte in chunk)


def computed_images(raid: Raid, content: bytes) -> list[bytes]:
    """The images of a RAID, by what is told of its layout."""
    parts = [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)]
    images: list[list[bytes]] = [[] for _ in range(raid.images)]
    for row in range(len(parts) // raid.data):
        chunks = parts[row * raid.data : (row + 1) * raid.data]
        if raid.kind == "raid10":
            order = [chunk for chunk in chunks for _ in range(raid.copies)]
        elif raid.kind == "raid5_ls":
            # The parity goes from the last to the first; the data begins behind it.
            turn = raid.images - 1 - row % raid.images
            order = [exclusive_or(*chunks), *chunks]
            order = [order[(number - turn) % raid.images] for number in range(raid.images)]
        elif raid.kind == "raid4":
            order = [exclusive_or(*chunks), *chunks]
        else:
            assert raid.kind == "raid6_n_6"
            syndrome = bytes(CHUNK)
            for chunk in reversed(chunks):
                syndrome = exclusive_or(times_two(syndrome), chunk)
            order = [*chunks, exclusive_or(*chunks), syndrome]
        for image, chunk in zip(images, order, strict=True):
            image.append(chunk)
    return [b"".join(image) for image in images]


@pytest.mark.parametrize(
    "raid", [one for one in RAIDS if one.name in ("four", "five_ls", "six_n", "ten", "ten_3")]
)
def test_images_are_as_computed(raids: Made, raid: Raid) -> None:
    # So what is read above is not only what the same driver wrote.
    assert [
        fetch(raids.rows[f"{raid.name}_rimage_{number}"]) for number in range(raid.images)
    ] == computed_images(raid, raids.content[raid.name])


def test_what_is_written_to_raid_stays_in_memory(
    raids: Made, kernel: Kernel, unchanged: Callable[[Path], Path]
) -> None:
    images = [unchanged(image) for image in raids.images]
    with disks(kernel, images, read_only=False) as found:
        for name, gone in (("five_ls", ()), ("six", (0, 3)), ("ten", (1,)), ("one", ())):
            there = [one for number, one in enumerate(found) if number not in gone]
            (group,) = lvm.group_volumes(there)
            with active(kernel, group, name, read_only=False) as device:
                put(device, b"w" * 10000, 12288)
                wanted = bytearray(raids.content[name])
                wanted[12288:22288] = b"w" * 10000
                # Nothing is brought in step behind our back.
                time.sleep(0.3)
                assert device.read(0, len(wanted)) == wanted
            assert content_of(kernel, group, name, read_only=False) == wanted


@pytest.fixture
def own(built: None, tmp_path: Path) -> Iterator[Callable[[Text, int], Made]]:
    """Makes a group of a test's own from a text."""
    with LvmHost(tmp_path) as host:

        def make(text: Text, count: int) -> Made:
            made = Made(host.images(tmp_path, count))
            host.make_group("own", made.images)
            host.restore("own", str(text))
            made.rows = host.volumes("own")
            return made

        yield make


@VIEWS
def test_an_image_that_was_left_behind_is_not_used(
    own: Callable[[Text, int], Made], kernel: Kernel, read_only: bool
) -> None:
    mirror = Raid("mirror", "raid1", "raid1", 2, 1, 1)
    text = Text()
    text.raid(mirror.name, mirror.kind, 2, IMAGE, IMAGE)
    made = own(text, 2)
    old, new = noise(IMAGE * EXTENT, 1), noise(IMAGE * EXTENT, 2)
    with Bench(made.images) as bench:
        array = run_raid(bench, made.rows, mirror, (0, 1))
        put(array, old)
        wait_for_idle(array)
    with Bench(made.images) as bench:
        put(run_raid(bench, made.rows, mirror, (1,)), new)
    assert fetch(made.rows["mirror_rimage_0"]) == old
    assert fetch(made.rows["mirror_rimage_1"]) == new
    with disks(kernel, made.images, read_only=read_only) as found:
        for there in (found, found[1:]):
            (group,) = lvm.group_volumes(there)
            for _ in range(4):
                assert content_of(kernel, group, "mirror", read_only=read_only) == new
        # By itself it does not know that it was left behind.
        (group,) = lvm.group_volumes(found[:1])
        assert volume_of(group, "mirror").note
        assert content_of(kernel, group, "mirror", read_only=read_only) == old


@VIEWS
def test_images_that_were_left_behind_do_not_make_up_for_others(
    own: Callable[[Text, int], Made], kernel: Kernel, read_only: bool
) -> None:
    five = Raid("five", "raid5", "raid5_ls", 3, 2, 1)
    text = Text()
    text.raid(five.name, five.kind, 3, 2 * IMAGE, IMAGE, f"stripe_size = {CHUNK // SECTOR}")
    made = own(text, 3)
    content = noise(2 * IMAGE * EXTENT, 1)
    with Bench(made.images) as bench:
        array = run_raid(bench, made.rows, five, (0, 1, 2))
        put(array, bytes(len(content)))
        wait_for_idle(array)
    with Bench(made.images) as bench:
        put(run_raid(bench, made.rows, five, (0, 1)), content)
    with disks(kernel, made.images, read_only=read_only) as found:
        for there in (found, found[:2]):
            (group,) = lvm.group_volumes(there)
            assert content_of(kernel, group, "five", read_only=read_only) == content
        (group,) = lvm.group_volumes(found[1:])
        with pytest.raises(VolumeError) as caught:
            lvm.activate(kernel, group, volume_of(group, "five"), read_only=read_only)
        assert caught.value.code == "group.outdated"
        assert "five_rimage_2" in describe(caught.value)
        # Nothing of it is left mapped: the disks can be removed.


def change_superblock(row: Row, offset: int, value: int) -> None:
    """Set a 64-bit number in the superblock beside an image."""
    with row.pieces[0].image.open("r+b") as file:
        file.seek(row.pieces[0].offset + offset)
        file.write(value.to_bytes(8, "little"))


@VIEWS
def test_what_is_not_in_step_yet_comes_from_the_first_image(
    own: Callable[[Text, int], Made], kernel: Kernel, read_only: bool
) -> None:
    mirror = Raid("mirror", "raid1", "raid1", 2, 1, 1)
    text = Text()
    text.raid(mirror.name, mirror.kind, 2, IMAGE, IMAGE)
    made = own(text, 2)
    content = noise(IMAGE * EXTENT, 1)
    with Bench(made.images) as bench:
        array = run_raid(bench, made.rows, mirror, (0, 1))
        put(array, content)
        wait_for_idle(array)
    # As if the first synchronisation had come to the third extent.
    half = 3 * EXTENT
    lay(made.rows["mirror_rimage_1"], content[:half] + b"?" * half)
    for number in (0, 1):
        # array_resync_offset
        change_superblock(made.rows[f"mirror_rmeta_{number}"], 40, half // SECTOR)
    with opened(kernel, made.images, read_only=read_only) as group:
        for _ in range(4):
            assert content_of(kernel, group, "mirror", read_only=read_only) == content
    # As if the second image were being rebuilt, and that had come as far.
    for number in (0, 1):
        change_superblock(made.rows[f"mirror_rmeta_{number}"], 40, (1 << 64) - 1)
    # disk_recovery_offset
    change_superblock(made.rows["mirror_rmeta_1"], 32, half // SECTOR)
    with opened(kernel, made.images, read_only=read_only) as group:
        for _ in range(4):
            assert content_of(kernel, group, "mirror", read_only=read_only) == content


def test_a_degraded_raid_without_all_parity_is_read_as_far_as_it_goes(
    own: Callable[[Text, int], Made], kernel: Kernel
) -> None:
    five = Raid("five", "raid5", "raid5_ls", 3, 2, 1)
    text = Text()
    text.raid(five.name, five.kind, 3, 2 * IMAGE, IMAGE, f"stripe_size = {CHUNK // SECTOR}")
    made = own(text, 3)
    content = noise(2 * IMAGE * EXTENT, 1)
    with Bench(made.images) as bench:
        array = run_raid(bench, made.rows, five, (0, 1, 2))
        put(array, content)
        wait_for_idle(array)
    for number in range(3):
        change_superblock(made.rows[f"five_rmeta_{number}"], 40, 0)
    with disks(kernel, made.images, read_only=True) as found:
        for there in (found, found[1:], found[:2]):
            (group,) = lvm.group_volumes(there)
            assert content_of(kernel, group, "five", read_only=True) == content


LONG = 48
"""Extents of an image that is not done at once."""
RESERVE = 2
"""Extents of each image that are there for a change of shape."""


def start_reshape(made: Made, content: bytes) -> None:
    """Give a RAID5 of three images a fourth one, and stop somewhere on the way."""
    rows = made.rows
    with Bench(made.images) as bench:
        metas = [bench.linear(rows[f"five_rmeta_{number}"]).path for number in range(4)]
        images = [bench.linear(rows[f"five_rimage_{number}"]).path for number in range(4)]
        offset = RESERVE * EXTENT // SECTOR
        # As before the images were made longer, at their beginning.
        size = LONG * EXTENT
        old = [bench.map("linear", size, b"%b %d" % (path, offset)) for path in images]
        chunk = b"%d region_size 128" % (CHUNK // SECTOR)

        def run(options: bytes, width: int, length: int, devices: list[bytes]) -> MappedDevice:
            count = len((chunk + options).split())
            pairs = b" ".join(b"%b %b" % pair for pair in zip(metas, devices, strict=False))
            table = b"raid5_ls %d %b%b %d %b" % (count, chunk, options, width, pairs)
            return bench.map("raid", length, table)

        array = run(b"", 3, 2 * size, [one.path for one in old[:3]])
        put(array, content)
        wait_for_idle(array)
        array.close()
        # The first table prepares it, the next one begins.
        array = run(b" delta_disks 1 data_offset %d" % offset, 4, 3 * size, images)
        array.close()
        array = run(b" max_recovery_rate 300", 4, 3 * size, images)
        for _ in range(200):
            # Where it is, among the sectors of the images.
            done = int(array.status()[0].parameters.split()[3].partition(b"/")[0])
            if done > size // SECTOR // 4:
                break
            time.sleep(0.02)
        array.close()


@pytest.mark.proves("volume", "LVM2", "reshape that was interrupted")
@VIEWS
def test_a_raid_on_its_way_to_another_shape(
    own: Callable[[Text, int], Made],
    kernel: Kernel,
    unchanged: Callable[[Path], Path],
    read_only: bool,
) -> None:
    text = Text()
    whole = LONG + RESERVE
    body = f"stripe_size = {CHUNK // SECTOR}\nreshape_count = {RESERVE}"
    text.raid("five", "raid5_ls", 4, 3 * whole, whole, body)
    made = own(text, 4)
    # What is kept for the change of shape is no part of the volume.
    assert made.rows["five"].size == 3 * LONG * EXTENT
    content = noise(2 * LONG * EXTENT, 1)
    start_reshape(made, content)
    for number in range(4):
        meta = fetch(made.rows[f"five_rmeta_{number}"])
        # flags and reshape_position: it did stop on the way.
        assert int.from_bytes(meta[60:64], "little") & 1
        assert 0 < int.from_bytes(meta[64:72], "little") < len(content) // SECTOR
    images = [unchanged(image) for image in made.images]
    with disks(kernel, images, read_only=read_only) as found:
        for gone in (None, 0, 1, 2, 3):
            there = [one for number, one in enumerate(found) if number != gone]
            (group,) = lvm.group_volumes(there)
            volume = volume_of(group, "five")
            assert volume.size == made.rows["five"].size
            with active(kernel, group, "five", read_only=read_only) as device:
                assert device.size() == volume.size
                assert device.read(0, len(content)) == content, gone
                # It has not grown yet.
                with pytest.raises(KernelError):
                    device.read(len(content), SECTOR)


# ---- Thin volumes --------------------------------------------------------------------------------

BLOCK = 64 * 1024
"""Bytes of a pool's block, and of a cache's."""
POOL = 32
"""Blocks that the pool knows of; its volumes are longer."""

THIN = {
    1: {0: 20, 1: 21, 2: 22, 5: 3, 6: 30, 15: 0},
    2: {0: 20, 1: 7, 5: 3},
    3: {1: 9, 2: 25},
    4: {},
}
"""Blocks of thin volumes, and where they stand in the pool."""


def thin_xml() -> str:
    """The same as thin_restore takes it."""
    devices = "".join(
        f'<device dev_id="{device}" mapped_blocks="{len(blocks)}" transaction="0" '
        f'creation_time="0" snap_time="1">'
        + "".join(
            f'<single_mapping origin_block="{block}" data_block="{place}" time="0"/>'
            for block, place in blocks.items()
        )
        + "</device>"
        for device, blocks in THIN.items()
    )
    return (
        f'<superblock uuid="" time="1" transaction="4" data_block_size="{BLOCK // SECTOR}" '
        f'nr_data_blocks="{POOL}">{devices}</superblock>'
    )


@pytest.fixture(scope="module")
def thin(host: LvmHost, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A thin pool and its volumes, whose metadata thin_restore makes."""
    folder = tmp_path_factory.mktemp("thin")
    made = Made(host.images(folder, 2))
    host.make_group("thin", made.images)
    text = Text()
    text.linear("pool_tmeta", 0, 24)
    text.linear("pool_tdata", 1, POOL + 3)
    text.linear("base", 0, 4, hidden=False)
    body = 'metadata = "pool_tmeta"\npool = "pool_tdata"\ntransaction_id = 4\nchunk_size = 128'
    text.add("pool", segment(0, POOL + 3, "thin-pool", f"{body}\nzero_new_blocks = 1"))
    for number, size in enumerate((16, 16, 5, 2), 1):
        body = f'thin_pool = "pool"\ntransaction_id = 0\ndevice_id = {number}'
        if number == 2:
            body += '\norigin = "thin1"'
        if number in (3, 4):
            body += '\nexternal_origin = "base"'
        text.add(f"thin{number}", segment(0, size, "thin", body))
    host.restore("thin", str(text))
    made.rows = host.volumes("thin")
    data = noise(made.rows["pool_tdata"].size, 1)
    base = noise(made.rows["base"].size, 2)
    lay(made.rows["pool_tdata"], data)
    lay(made.rows["base"], base)
    xml, metadata = folder / "thin.xml", make_empty(folder / "metadata", 16 * EXTENT)
    xml.write_text(thin_xml())
    run_tool("thin_restore", "-i", xml, "-o", metadata)
    lay(made.rows["pool_tmeta"], metadata.read_bytes())
    for number, blocks in THIN.items():
        size = made.rows[f"thin{number}"].size
        content = bytearray(size)
        if number in (3, 4):
            content[: len(base)] = base[:size]
        for block, place in blocks.items():
            content[block * BLOCK : (block + 1) * BLOCK] = data[place * BLOCK :][:BLOCK]
        made.content[f"thin{number}"] = bytes(content)
    made.content["base"] = base
    return made


def mapped_devices(kernel: Kernel) -> int:
    """How many devices the mapper has."""
    top = b"/sys/devices/virtual"
    if b"block" not in list_folders(kernel, top):
        return 0
    return sum(name.startswith(b"dm-") for name in list_folders(kernel, top + b"/block"))


@pytest.mark.proves("volume", "LVM2", "thin pools and volumes")
@VIEWS
def test_thin_volumes(
    thin: Made, kernel: Kernel, unchanged: Callable[[Path], Path], read_only: bool
) -> None:
    images = [unchanged(image) for image in thin.images]
    with opened(kernel, images, read_only=read_only) as group:
        assert {one.name: (one.uuid, one.size, one.kind) for one in group.volumes} == {
            one.name: (one.uuid, one.size, one.kind)
            for one in thin.rows.values()
            if not one.hidden and one.kind != "thin-pool"
        }
        for name, content in thin.content.items():
            assert content_of(kernel, group, name, read_only=read_only) == content, name


@VIEWS
def test_thin_volumes_share_one_pool(thin: Made, kernel: Kernel, read_only: bool) -> None:
    with disks(kernel, thin.images, read_only=read_only) as found:
        (group,) = lvm.group_volumes(found)
        with active(kernel, group, "thin1", read_only=read_only) as first:
            # The volume, the pool, and its two parts, of one of which not all is used.
            assert mapped_devices(kernel) == 5
            with active(kernel, group, "thin2", read_only=read_only) as second:
                assert mapped_devices(kernel) == 6
                with active(kernel, group, "thin2", read_only=read_only) as again:
                    assert again.path == second.path
                    assert mapped_devices(kernel) == 6
                assert second.read(0, MIB) == thin.content["thin2"]
            assert first.read(0, MIB) == thin.content["thin1"]
            # Found anew, as when another physical volume comes to it: still the same pool.
            (anew,) = lvm.group_volumes(found)
            with active(kernel, anew, "thin3", read_only=read_only) as third:
                assert third.read(0, MIB) == thin.content["thin3"]
                # And its origin, made longer.
                assert mapped_devices(kernel) == 8
            with pytest.raises(ValueError, match="in another way"):
                lvm.activate(kernel, group, volume_of(group, "thin4"), read_only=not read_only)
        assert mapped_devices(kernel) == 0


def test_what_is_written_to_a_thin_volume_is_its_own(thin: Made, kernel: Kernel) -> None:
    with (
        opened(kernel, thin.images, read_only=False) as group,
        active(kernel, group, "thin1", read_only=False) as first,
        active(kernel, group, "thin2", read_only=False) as second,
    ):
        put(first, b"w" * BLOCK)
        put(second, b"v" * 4096, 10 * BLOCK)
        wanted = [bytearray(thin.content[name]) for name in ("thin1", "thin2")]
        wanted[0][:BLOCK] = b"w" * BLOCK
        wanted[1][10 * BLOCK : 10 * BLOCK + 4096] = b"v" * 4096
        assert first.read(0, MIB) == wanted[0]
        assert second.read(0, MIB) == wanted[1]
        # The pool has no place for all of it, and says so at once.
        begin = time.monotonic()
        assert write(first, 0, b"u" * MIB) == ""
        assert write(second, 0, b"t" * MIB) != ""
        assert time.monotonic() - begin < 10
    with opened(kernel, thin.images, read_only=False) as group:
        assert content_of(kernel, group, "thin1", read_only=False) == thin.content["thin1"]


@VIEWS
@pytest.mark.parametrize(("position", "said"), [(32, "thin pool"), (100, "")])
def test_damaged_metadata_of_a_pool(
    thin: Made, kernel: Kernel, tmp_path: Path, position: int, said: str, read_only: bool
) -> None:
    images = [tmp_path / image.name for image in thin.images]
    for image, copy in zip(thin.images, images, strict=True):
        run_tool("cp", "--sparse=always", image, copy)
    piece = thin.rows["pool_tmeta"].pieces[0]
    with images[0].open("r+b") as file:
        file.seek(piece.offset + position)
        file.write(b"\xff\xff")
    with opened(kernel, images, read_only=read_only) as group:
        with pytest.raises(VolumeError) as caught:
            lvm.activate(kernel, group, volume_of(group, "thin1"), read_only=read_only)
        assert said in describe(caught.value)
        assert mapped_devices(kernel) == 0
        assert content_of(kernel, group, "base", read_only=read_only) == thin.content["base"]


# ---- Snapshots -----------------------------------------------------------------------------------

ORIGIN = 16
"""Extents of an origin."""


def tie(
    text: Text, number: int, origin: str, store: str, chunk: int, *, merge: bool = False
) -> None:
    """Make a volume the store of a snapshot."""
    role = "merging_store" if merge else "cow_store"
    body = f'chunk_size = {chunk}\norigin = "{origin}"\n{role} = "{store}"'
    text.add(f"snapshot{number}", segment(0, ORIGIN, "snapshot", body), hidden=True)


@pytest.fixture(scope="module")
def snapshots(host: LvmHost, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Origins and their snapshots, written to through the kernel's own targets."""
    folder = tmp_path_factory.mktemp("snapshots")
    made = Made(host.images(folder, 2))
    host.make_group("snapshots", made.images)
    text = Text()
    for name in ("origin", "full", "merge"):
        text.linear(name, 0, ORIGIN, hidden=False)
    for number, (name, origin, size, chunk) in enumerate(
        (
            ("first", "origin", 20, 8),
            ("second", "origin", 20, 32),
            ("lost", "full", 1, 8),
            ("unused", "full", 4, 8),
            ("merging", "merge", 20, 8),
        )
    ):
        text.linear(name, 1, size, hidden=False)
        tie(text, number, origin, name, chunk, merge=name == "merging")
    host.restore("snapshots", str(text))
    made.rows = host.volumes("snapshots")
    size = ORIGIN * EXTENT
    content = {
        name: bytearray(noise(size, seed)) for seed, name in enumerate(("origin", "full", "merge"))
    }
    for name, whole in content.items():
        lay(made.rows[name], bytes(whole))
    with Bench(made.images) as bench:
        for origin, stores in (("origin", ("first", "second")), ("full", ("lost",))):
            below = bench.linear(made.rows[origin])
            devices = {}
            for store in stores:
                content[store] = content[origin].copy()
                chunk = 32 if store == "second" else 8
                cow = bench.linear(made.rows[store])
                table = b"%b %b P %d" % (below.path, cow.path, chunk)
                devices[store] = bench.map("snapshot", size, table)
            real = bench.map("snapshot-origin", size, below.path)
            # Of which the snapshots must know nothing.
            for place in (0, 5 * EXTENT, 9 * EXTENT + 4096):
                put(real, noise(20480, place), place)
                content[origin][place : place + 20480] = noise(20480, place)
            if origin == "origin":
                put(devices["first"], b"f" * 4096, 3 * EXTENT)
                content["first"][3 * EXTENT : 3 * EXTENT + 4096] = b"f" * 4096
        # Half of it was merged when that was stopped.
        below = bench.linear(made.rows["merge"])
        cow = bench.linear(made.rows["merging"])
        merging = bench.map("snapshot", size, b"%b %b P 8" % (below.path, cow.path))
        for place in (0, 7 * EXTENT):
            put(merging, noise(8192, place), place)
            content["merge"][place : place + 8192] = noise(8192, place)
    content["unused"] = content["full"]
    del content["lost"]
    made.content = {name: bytes(whole) for name, whole in content.items()}
    return made


@pytest.mark.proves("volume", "LVM2", "snapshots")
@VIEWS
def test_snapshots_and_their_origins(
    snapshots: Made, kernel: Kernel, unchanged: Callable[[Path], Path], read_only: bool
) -> None:
    images = [unchanged(image) for image in snapshots.images]
    with opened(kernel, images, read_only=read_only) as group:
        kinds = {one.name: one.kind for one in group.volumes}
        assert kinds == {
            "origin": "linear",
            "first": "snapshot",
            "second": "snapshot",
            "full": "linear",
            "lost": "snapshot",
            "unused": "snapshot",
            "merge": "linear",
        }
        # A snapshot is as long as its origin, not as its store.
        assert {one.size for one in group.volumes} == {ORIGIN * EXTENT}
        assert {one.uuid for one in group.volumes} == {
            row.uuid for name, row in snapshots.rows.items() if name in kinds
        }
        for name, content in snapshots.content.items():
            assert content_of(kernel, group, name, read_only=read_only) == content, name
        with pytest.raises(VolumeError) as caught:
            lvm.activate(kernel, group, volume_of(group, "lost"), read_only=read_only)
        assert caught.value.code == "group.snapshot-lost"
        assert mapped_devices(kernel) == 0


@pytest.mark.parametrize("order", list(itertools.permutations(("origin", "first", "second"))))
def test_what_is_written_to_an_origin_is_kept_from_its_snapshots(
    snapshots: Made, kernel: Kernel, order: tuple[str, ...]
) -> None:
    with opened(kernel, snapshots.images, read_only=False) as group, ExitStack() as stack:
        device = {
            name: stack.enter_context(active(kernel, group, name, read_only=False))
            for name in order
        }
        content = {name: bytearray(snapshots.content[name]) for name in order}
        put(device["origin"], b"o" * 100_000, 2 * EXTENT)
        content["origin"][2 * EXTENT : 2 * EXTENT + 100_000] = b"o" * 100_000
        put(device["first"], b"1" * 10_000, 12288)
        content["first"][12288:22288] = b"1" * 10_000
        put(device["second"], b"2" * 4096)
        content["second"][:4096] = b"2" * 4096
        for name in order:
            assert device[name].read(0, MIB) == content[name], name


def test_an_origin_without_its_snapshots(snapshots: Made, kernel: Kernel) -> None:
    with disks(kernel, snapshots.images, read_only=False) as found:
        (group,) = lvm.group_volumes(found[:1])
        for name in ("first", "lost"):
            refusal = volume_of(group, name).refusal
            assert refusal is not None
            assert refusal.code == "volume.missing-member"
        with active(kernel, group, "origin", read_only=False) as device:
            put(device, b"o" * 4096)
            assert device.read(0, MIB) == b"o" * 4096 + snapshots.content["origin"][4096:]
        # What is being merged is in both, so that one is not enough.
        assert volume_of(group, "merge").refusal is not None


def test_a_snapshot_that_grows_too_large_in_memory_spoils_nothing_else(
    snapshots: Made, kernel: Kernel
) -> None:
    with (
        opened(kernel, snapshots.images, read_only=False) as group,
        active(kernel, group, "unused", read_only=False) as snapshot,
        active(kernel, group, "full", read_only=False) as origin,
    ):
        assert snapshot.read(0, MIB) == snapshots.content["unused"]
        put(origin, bytes(MIB))
        assert origin.read(0, MIB) == bytes(MIB)


# ---- Mirrors, and volumes on the move ------------------------------------------------------------


@pytest.fixture(scope="module")
def mirrors(host: LvmHost, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Mirrors of the old kind, a physical volume that is being emptied, and volumes of nothing."""
    folder = tmp_path_factory.mktemp("mirrors")
    made = Made(host.images(folder, 3))
    host.make_group("mirrors", made.images)
    text = Text()
    for name, log in (("disk", 'mirror_log = "disk_mlog"'), ("core", "")):
        for number in (0, 1):
            text.linear(f"{name}_mimage_{number}", number, 6)
        if log:
            text.linear("disk_mlog", 2, 1)
        images = f'"{name}_mimage_0", 0, "{name}_mimage_1", 0'
        body = f"mirror_count = 2\n{log}\nregion_size = 128\nmirrors = [{images}]"
        text.add(name, segment(0, 6, "mirror", body))
    # Emptied from the first to the second: done, on the way, not yet begun.
    places = [(text.take(0, 4), text.take(1, 4)) for _ in range(3)]
    text.add(
        "pvmove0",
        *(
            segment(
                4 * number,
                4,
                "mirror",
                f"mirror_count = 2\nregion_size = 128\nextents_moved = {moved}\n"
                f"mirrors = [{source}, {target}]",
            )
            for number, (moved, (source, target)) in enumerate(zip((4, 2, 0), places, strict=True))
        ),
        hidden=True,
        status="PVMOVE",
    )
    text.add(
        "moving",
        segment(0, 8, "striped", 'stripe_count = 1\nstripes = ["pvmove0", 0]'),
        segment(8, 2, "striped", f"stripe_count = 1\nstripes = [{text.take(2, 2)}]"),
        segment(10, 4, "striped", 'stripe_count = 1\nstripes = ["pvmove0", 8]'),
        status="LOCKED",
    )
    text.add("nothing", segment(0, 5, "zero"))
    text.add("wrong", segment(0, 5, "error"))
    text.add(
        "mixed",
        segment(0, 2, "zero"),
        segment(2, 3, "striped", f"stripe_count = 1\nstripes = [{text.take(2, 3)}]"),
    )
    made.rows = {}
    host.restore("mirrors", str(text))
    made.rows = host.volumes("mirrors")
    for seed, (name, row) in enumerate(made.rows.items()):
        made.content[name] = noise(row.size, seed)
        lay(row, made.content[name])
    start = 1 * MIB
    # Where the text above put them, for the tools report no places of mirrors.
    for number, (source, target) in enumerate(places):
        for image, place, seed in ((0, source, 100 + number), (1, target, 200 + number)):
            extent = int(place.rpartition(" ")[2])
            with made.images[image].open("r+b") as file:
                file.seek(start + extent * EXTENT)
                file.write(noise(4 * EXTENT, seed))
    return made


@pytest.mark.proves("volume", "LVM2", "mirrors")
@VIEWS
def test_a_mirror_is_its_first_image_that_is_there(
    mirrors: Made, kernel: Kernel, unchanged: Callable[[Path], Path], read_only: bool
) -> None:
    images = [unchanged(image) for image in mirrors.images]
    with disks(kernel, images, read_only=read_only) as found:
        for name in ("disk", "core"):
            for gone, number in ((None, 0), (1, 0), (0, 1)):
                there = [one for place, one in enumerate(found) if place != gone]
                (group,) = lvm.group_volumes(there)
                assert volume_of(group, name).kind == "mirror"
                content = content_of(kernel, group, name, read_only=read_only)
                assert content == mirrors.content[f"{name}_mimage_{number}"]
                assert bool(volume_of(group, name).note) == (gone is not None)
            (group,) = lvm.group_volumes(found[2:])
            refusal = volume_of(group, name).refusal
            assert refusal is not None
            assert refusal.code == "volume.missing-member"


@VIEWS
def test_a_volume_on_the_move(mirrors: Made, kernel: Kernel, read_only: bool) -> None:
    with opened(kernel, mirrors.images, read_only=read_only) as group:
        assert "pvmove0" not in {one.name for one in group.volumes}
        # What has arrived is at its target, the rest still where it was.
        wanted = noise(4 * EXTENT, 200) + noise(4 * EXTENT, 101)
        own = mirrors.content["moving"][8 * EXTENT : 10 * EXTENT]
        wanted += own + noise(4 * EXTENT, 102)
        assert content_of(kernel, group, "moving", read_only=read_only) == wanted


@VIEWS
def test_volumes_of_nothing(mirrors: Made, kernel: Kernel, read_only: bool) -> None:
    with opened(kernel, mirrors.images, read_only=read_only) as group:
        assert content_of(kernel, group, "nothing", read_only=read_only) == bytes(5 * EXTENT)
        with (
            active(kernel, group, "wrong", read_only=read_only) as device,
            pytest.raises(KernelError),
        ):
            device.read(0, 4096)
        wanted = bytes(2 * EXTENT) + mirrors.content["mixed"][2 * EXTENT :]
        assert content_of(kernel, group, "mixed", read_only=read_only) == wanted
        assert volume_of(group, "mixed").kind == "linear, zero"


# ---- Caches --------------------------------------------------------------------------------------

CACHED = 24
"""Extents, and blocks, of an origin with a cache."""

CACHE = {0: (5, True), 1: (6, True), 2: (0, False), 3: (23, True), 5: (12, False), 7: (11, True)}
"""Blocks of a cache: the block of the origin, and whether it is newer than that."""
CACHE_BLOCKS = 8


def cache_xml() -> str:
    """The same as cache_restore takes it."""
    mappings = "".join(
        f'<mapping cache_block="{place}" origin_block="{block}" dirty="{str(dirty).lower()}"/>'
        for place, (block, dirty) in CACHE.items()
    )
    return (
        f'<superblock uuid="" block_size="{BLOCK // SECTOR}" nr_cache_blocks="{CACHE_BLOCKS}" '
        f'policy="smq" hint_width="4"><mappings>{mappings}</mappings>'
        "<hints></hints></superblock>"
    )


def over(origin: bytes, cache: bytes) -> bytes:
    """An origin with what is in its cache."""
    content = bytearray(origin)
    for place, (block, _dirty) in CACHE.items():
        part = cache[place * BLOCK : (place + 1) * BLOCK]
        content[block * BLOCK : (block + 1) * BLOCK] = part
    return bytes(content)


class CacheCase(NamedTuple):
    """A cache that was left in one way."""

    name: str
    version: int
    mode: str
    clean: bool
    single: bool
    """Whether one volume has both parts of the cache."""


CACHES = (
    CacheCase("back", 2, "writeback", clean=True, single=False),
    CacheCase("back_1", 1, "writeback", clean=True, single=False),
    CacheCase("back_unclean", 2, "writeback", clean=False, single=False),
    CacheCase("back_1_unclean", 1, "writeback", clean=False, single=True),
    CacheCase("back_single", 2, "writeback", clean=True, single=True),
    CacheCase("through", 2, "writethrough", clean=True, single=False),
    CacheCase("through_unclean", 2, "writethrough", clean=False, single=True),
)


@pytest.fixture(scope="module")
def caches(host: LvmHost, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Caches with metadata that cache_restore makes; origins and caches lie on two volumes."""
    folder = tmp_path_factory.mktemp("caches")
    made = Made(host.images(folder, 2, 24 * MIB))
    host.make_group("caches", made.images)
    text = Text()
    settings = 'chunk_size = 128\ncache_mode = "{mode}"\npolicy = "smq"'
    for case in CACHES:
        name = case.name
        body = settings.format(mode=case.mode)
        text.linear(f"{name}_corig", 0, CACHED)
        if case.single:
            text.linear(f"{name}_cvol", 1, CACHE_BLOCKS + 16, flags='"CACHE_VOL"')
            kind = "cache+CACHE_USES_CACHEVOL"
            # Sectors: metadata in front, data behind.
            body = (
                f'cache_pool = "{name}_cvol"\norigin = "{name}_corig"\nmetadata_format = 2\n{body}'
                f"\nmetadata_start = 0\nmetadata_len = {16 * EXTENT // SECTOR}\n"
                f"data_start = {16 * EXTENT // SECTOR}\n"
                f"data_len = {CACHE_BLOCKS * EXTENT // SECTOR}"
            )
        else:
            text.linear(f"{name}_pool_cdata", 1, CACHE_BLOCKS)
            text.linear(f"{name}_pool_cmeta", 1, 16)
            kind = "cache"
            parts = f'data = "{name}_pool_cdata"\nmetadata = "{name}_pool_cmeta"'
            body = f"{parts}\nmetadata_format = {case.version}\n{body}"
            pool = segment(0, CACHE_BLOCKS, "cache-pool", body)
            text.add(f"{name}_pool_cpool", pool, hidden=True)
            body = f'cache_pool = "{name}_pool_cpool"\norigin = "{name}_corig"'
        text.add(name, segment(0, CACHED, kind, body))
    host.restore("caches", str(text))
    made.rows = host.volumes("caches")
    xml = folder / "cache.xml"
    xml.write_text(cache_xml())
    for seed, case in enumerate(CACHES):
        name = case.name
        metadata = make_empty(folder / name, 16 * EXTENT)
        options = ["-i", str(xml), "-o", str(metadata), "--metadata-version", str(case.version)]
        if not case.clean:
            options.append("--omit-clean-shutdown")
        run_tool("cache_restore", *options)
        origin = noise(CACHED * EXTENT, 2 * seed)
        cache = bytearray(noise(CACHE_BLOCKS * EXTENT, 2 * seed + 1))
        for place, (block, dirty) in CACHE.items():
            # What is not newer is the same in both.
            if case.mode == "writethrough" or (case.clean and not dirty):
                part = origin[block * BLOCK : (block + 1) * BLOCK]
                cache[place * BLOCK : (place + 1) * BLOCK] = part
        lay(made.rows[f"{name}_corig"], origin)
        if case.single:
            lay(made.rows[f"{name}_cvol"], metadata.read_bytes() + bytes(cache))
        else:
            lay(made.rows[f"{name}_pool_cmeta"], metadata.read_bytes())
            lay(made.rows[f"{name}_pool_cdata"], bytes(cache))
        made.content[name] = over(origin, bytes(cache))
    return made


def copies_of(made: Made, folder: Path) -> Made:
    """The same volumes, on images that may be written to."""
    copied = Made([folder / image.name for image in made.images])
    moved = dict(zip(made.images, copied.images, strict=True))
    for image, copy in moved.items():
        run_tool("cp", "--sparse=always", image, copy)
    copied.content = made.content
    for name, row in made.rows.items():
        pieces = [piece._replace(image=moved[piece.image]) for piece in row.pieces]
        copied.rows[name] = replace(row, pieces=tuple(pieces))
    return copied


def run_cache(bench: Bench, rows: dict[str, Row], case: CacheCase) -> MappedDevice:
    """Run a cache as LVM2 does; nothing is moved to it or from it by itself."""
    name = case.name
    origin = bench.linear(rows[f"{name}_corig"]).path
    if case.single:
        both = bench.linear(rows[f"{name}_cvol"]).path
        metadata = bench.map("linear", 16 * EXTENT, both + b" 0").path
        start = 16 * EXTENT // SECTOR
        cache = bench.map("linear", CACHE_BLOCKS * EXTENT, b"%b %d" % (both, start)).path
    else:
        metadata = bench.linear(rows[f"{name}_pool_cmeta"]).path
        cache = bench.linear(rows[f"{name}_pool_cdata"]).path
    features = ["metadata2", case.mode] if case.version == 2 else [case.mode]
    parameters = b"%b %b %b 128 %d %b smq 2 migration_threshold 0" % (
        metadata,
        cache,
        origin,
        len(features),
        " ".join(features).encode(),
    )
    return bench.map("cache", rows[name].size, parameters)


@pytest.mark.proves("volume", "LVM2", "caches")
@VIEWS
@pytest.mark.parametrize("case", CACHES, ids=lambda case: str(case.name))
def test_caches(
    caches: Made,
    kernel: Kernel,
    unchanged: Callable[[Path], Path],
    tmp_path: Path,
    case: CacheCase,
    read_only: bool,
) -> None:
    images = [unchanged(image) for image in caches.images]
    content = caches.content[case.name]
    with opened(kernel, images, read_only=read_only) as group:
        volume = volume_of(group, case.name)
        row = caches.rows[case.name]
        assert (volume.uuid, volume.size, volume.kind) == (row.uuid, row.size, "cache")
        assert len(group.volumes) == len(CACHES)
        assert content_of(kernel, group, case.name, read_only=read_only) == content
    if not read_only:
        # The kernel's own target, which writes as it runs, reads the same.
        copied = copies_of(caches, tmp_path)
        with Bench(copied.images) as bench:
            assert run_cache(bench, copied.rows, case).read(0, len(content)) == content


@VIEWS
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "torn-off"])
@pytest.mark.parametrize("case", CACHES[:2], ids=lambda case: str(case.name))
def test_a_cache_that_the_kernel_wrote_to(
    caches: Made, kernel: Kernel, tmp_path: Path, case: CacheCase, closed: bool, read_only: bool
) -> None:
    copied = copies_of(caches, tmp_path)
    content = bytearray(copied.content[case.name])
    torn = tmp_path / "torn"
    torn.mkdir()
    with Bench(copied.images) as bench:
        device = run_cache(bench, copied.rows, case)
        # To what is in the cache, newer or not, and to what is not.
        for place in (12 * BLOCK, 5 * BLOCK + 8192, 20 * BLOCK, 0):
            put(device, noise(12288, place), place)
            content[place : place + 12288] = noise(12288, place)
        left = copies_of(copied, torn)
    images = copied.images if closed else left.images
    with opened(kernel, images, read_only=read_only) as group:
        assert content_of(kernel, group, case.name, read_only=read_only) == content


def test_an_origin_without_its_cache(caches: Made, kernel: Kernel) -> None:
    with disks(kernel, caches.images, read_only=True) as found:
        (group,) = lvm.group_volumes(found[:1])
        for case in CACHES:
            volume = volume_of(group, case.name)
            assert volume.missing
            if case.mode == "writethrough":
                # All of it is there.
                assert volume.note
                content = content_of(kernel, group, case.name, read_only=True)
                assert content == caches.content[case.name]
            else:
                assert volume.refusal is not None
                assert volume.refusal.code == "volume.missing-member"


def test_what_is_written_over_a_cache_stays_in_memory(caches: Made, kernel: Kernel) -> None:
    with (
        opened(kernel, caches.images, read_only=False) as group,
        active(kernel, group, "back", read_only=False) as device,
    ):
        put(device, b"x" * (3 * BLOCK), 4 * BLOCK)
        wanted = bytearray(caches.content["back"])
        wanted[4 * BLOCK : 7 * BLOCK] = b"x" * (3 * BLOCK)
        assert device.read(0, 2 * MIB) == wanted


@pytest.mark.proves("volume", "LVM2", "caches")
@VIEWS
@pytest.mark.parametrize("block", [512, 4096])
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "torn-off"])
def test_a_write_cache(
    own: Callable[[Text, int], Made],
    kernel: Kernel,
    tmp_path: Path,
    block: int,
    closed: bool,
    read_only: bool,
) -> None:
    text = Text()
    text.linear("slow_wcorig", 0, CACHED)
    text.linear("fast_cvol", 1, 16, flags='"CACHE_VOL"')
    body = f'writecache = "fast_cvol"\norigin = "slow_wcorig"\nwritecache_block_size = {block}'
    text.add("slow", segment(0, CACHED, "writecache", body))
    text.linear("new_wcorig", 0, 4)
    text.linear("unused_cvol", 1, 4, flags='"CACHE_VOL"')
    body = body.replace("fast", "unused").replace("slow", "new")
    text.add("new", segment(0, 4, "writecache", body))
    made = own(text, 2)
    content = bytearray(noise(CACHED * EXTENT, 1))
    lay(made.rows["slow_wcorig"], bytes(content))
    fresh = noise(4 * EXTENT, 2)
    lay(made.rows["new_wcorig"], fresh)
    torn = tmp_path / "torn"
    torn.mkdir()
    with Bench(made.images) as bench:
        slow, fast = (bench.linear(made.rows[name]) for name in ("slow_wcorig", "fast_cvol"))
        table = b"s %b %b %d 0" % (slow.path, fast.path, block)
        device = bench.map("writecache", len(content), table)
        # The same places more than once, and runs that follow one another.
        for turn in range(3):
            for place in (0, 4096, 8192, 40960, 20 * EXTENT, CACHED * EXTENT - 4096):
                part = noise(4096, 1000 * turn + place)
                put(device, part, place)
                content[place : place + 4096] = part
        assert device.read(0, len(content)) == content
        left = copies_of(made, torn)
    # It is in the cache that this stands.
    assert fetch(made.rows["slow_wcorig"]) != content
    with opened(kernel, made.images if closed else left.images, read_only=read_only) as group:
        assert volume_of(group, "slow").kind == "writecache"
        assert content_of(kernel, group, "slow", read_only=read_only) == content
        assert content_of(kernel, group, "new", read_only=read_only) == fresh


# ---- Metadata ------------------------------------------------------------------------------------


@pytest.mark.proves("volume", "LVM2", "metadata areas and their copies")
def test_metadata_goes_round_its_area(host: LvmHost, tmp_path: Path) -> None:
    images = host.images(tmp_path, 1)
    host.make_group("round", images, "--metadatasize", "60k", "--dataalignment", "64k")
    places = []
    for turn in range(20):
        tags = [f"tag{turn}.{number}.{'x' * 100}" for number in range(8)]
        options = [option for tag in tags for option in ("--addtag", tag)]
        host.run("vgchange", "-qq", *options, "round")
        volume = lvm.read_physical_volume(window(images[0]))
        assert volume is not None
        assert volume.metadata is not None
        (row,) = host.report("vgs", "vg_seqno", "vg_uuid", "vg_tags", group="round")
        assert volume.metadata.sequence == int(row["vg_seqno"])
        assert volume.metadata.uuid == row["vg_uuid"]
        assert set(volume.metadata.group.texts("tags")) == set(row["vg_tags"].split(","))
        places.append(text_place(images[0]))
    assert sum(start + length > size for start, length, size in places) >= 2


def text_place(image: Path) -> tuple[int, int, int]:
    """Where the text in the metadata area at 4 KiB begins, its length, and the area's."""
    header = image.read_bytes()[4096:4608]
    numbers = [int.from_bytes(header[at : at + 8], "little") for at in (40, 48, 32)]
    return numbers[0], numbers[1], numbers[2]


@pytest.mark.parametrize("sector", range(4))
def test_a_label_may_stand_in_four_sectors(host: LvmHost, tmp_path: Path, sector: int) -> None:
    images = host.images(tmp_path, 1)
    host.make_group(f"label{sector}", images, "--labelsector", str(sector))
    volume = lvm.read_physical_volume(window(images[0]))
    assert volume is not None
    assert volume.metadata is not None
    (row,) = host.report("pvs", "pv_uuid", "dev_size", "vg_name", group=host.loop(images[0]))
    assert volume.uuid == row["pv_uuid"]
    assert volume.size == volume.device_size == int(row["dev_size"])
    assert volume.metadata.name == row["vg_name"] == f"label{sector}"


@pytest.mark.proves("volume", "LVM2", "metadata areas and their copies")
def test_one_whole_copy_of_the_metadata_is_enough(host: LvmHost, tmp_path: Path) -> None:
    images = host.images(tmp_path, 1)
    host.make_group("copies", images, "--metadatacopies", "2")
    host.make_volume("copies", "volume", 3)
    whole = bytearray(images[0].read_bytes())

    def read(content: bytearray) -> lvm.PhysicalVolume:
        volume = lvm.read_physical_volume(window_of(bytes(content)))
        assert volume is not None
        return volume

    wanted = read(whole)
    assert wanted.metadata is not None
    last = whole.rindex(b" LVM2 x[5A%r0N*>") - 4
    assert last > 4096
    for broken in (4096, last):
        content = bytearray(whole)
        content[broken] ^= 1
        volume = read(content)
        assert volume.metadata is not None
        assert volume.metadata.sequence == wanted.metadata.sequence
        assert volume.fault is None
    content = bytearray(whole)
    content[4096] ^= 1
    content[last] ^= 1
    volume = read(content)
    assert volume.metadata is None
    assert volume.fault is not None
    assert describe(volume.fault).endswith("metadata area at byte 4096: its checksum is wrong")
    # An older copy beside a newer one: as if the last change had not come to the second.
    host.make_volume("copies", "another", 3)
    content = bytearray(images[0].read_bytes())
    assert content[last : last + 512] != whole[last : last + 512]
    content[last : last + 512] = whole[last : last + 512]
    newer = read(content)
    assert newer.metadata is not None
    assert newer.metadata.sequence == wanted.metadata.sequence + 1


def test_a_physical_volume_without_metadata(host: LvmHost, tmp_path: Path, kernel: Kernel) -> None:
    images = host.images(tmp_path, 3)
    loops = [host.loop(image) for image in images]
    host.run("pvcreate", "-qq", "--metadatacopies", "0", *loops[:2])
    host.run("pvcreate", "-qq", loops[2])
    host.run("vgcreate", "-qq", "-s", f"{EXTENT}b", "bare", *loops)
    host.make_volume("bare", "volume", 9, "--stripes", "3")
    row = host.volumes("bare")["volume"]
    content = noise(row.size, 1)
    lay(row, content)
    with disks(kernel, images, read_only=True) as found:
        assert [volume.metadata is None for volume, _device in found] == [True, True, False]
        assert lvm.group_volumes(found[:2]) == []
        (group,) = lvm.group_volumes(found)
        assert not group.missing
        assert content_of(kernel, group, "volume", read_only=True) == content


@pytest.mark.proves("volume", "LVM2", "missing physical volumes named")
def test_missing_physical_volumes_are_named(simple: Made, host: LvmHost, kernel: Kernel) -> None:
    uuids = [
        host.report("pvs", "pv_uuid", group=host.loop(image))[0]["pv_uuid"]
        for image in simple.images
    ]
    with disks(kernel, simple.images, read_only=True) as found:
        (group,) = lvm.group_volumes([found[1], found[0]])
        name = f"{uuids[2]} ({host.loop(simple.images[2])})"
        assert group.missing == [name]
        assert len(group.devices) == 2
        for volume in group.volumes:
            lacks = volume.name in ("line", "three")
            assert volume.missing == ((name,) if lacks else ())
            if not lacks:
                assert volume.refusal is None
                continue
            with pytest.raises(VolumeError) as caught:
                lvm.activate(kernel, group, volume, read_only=True)
            assert caught.value.code == "volume.missing-member"
            assert caught.value.params["names"] == name
            assert name in describe(caught.value)
        assert content_of(kernel, group, "two", read_only=True) == simple.content["two"]


@pytest.mark.proves("volume", "LVM2", "two groups of one name")
def test_two_groups_of_one_name(tmp_path: Path, kernel: Kernel) -> None:
    images: list[Path] = []
    contents = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        # Each by a host that knows nothing of the other.
        with LvmHost(folder) as host:
            own = host.images(folder, 2)
            host.make_group("group", own)
            host.make_volume("group", "volume", 6, "--stripes", "2")
            row = host.volumes("group")["volume"]
            contents.append(noise(row.size, number))
            lay(row, contents[-1])
            images += own
    with disks(kernel, images, read_only=True) as found:
        # In whichever order the disks come.
        groups = lvm.group_volumes([found[place] for place in (2, 0, 3, 1)])
        assert [group.name for group in groups] == ["group", "group"]
        assert groups[0].uuid != groups[1].uuid
        with (
            active(kernel, groups[0], "volume", read_only=True) as first,
            active(kernel, groups[1], "volume", read_only=True) as second,
        ):
            assert first.read(0, MIB) == contents[1]
            assert second.read(0, MIB) == contents[0]


@VIEWS
def test_what_is_cut_off_is_read_as_far_as_it_goes(
    simple: Made, kernel: Kernel, tmp_path: Path, read_only: bool
) -> None:
    copied = copies_of(simple, tmp_path)
    # In the middle of the last extents of the volume.
    piece = copied.rows["line"].pieces[-1]
    cut = piece.offset + EXTENT + 8192
    assert piece.image == copied.images[0]
    with piece.image.open("r+b") as file:
        file.truncate(cut)
    with opened(kernel, copied.images, read_only=read_only) as group:
        for volume in group.volumes:
            assert volume.refusal is None
            assert bool(volume.note) == any(
                one.image == piece.image and one.offset + one.length > cut
                for one in copied.rows[volume.name].pieces
            )
        there = piece.start + EXTENT + 8192
        with active(kernel, group, "line", read_only=read_only) as device:
            assert device.size() == copied.rows["line"].size
            assert device.read(0, there) == copied.content["line"][:there]
            with pytest.raises(KernelError):
                device.read(there, 4096)


def test_raid_makes_up_for_an_image_that_is_cut_off(
    raids: Made, kernel: Kernel, tmp_path: Path
) -> None:
    copied = copies_of(raids, tmp_path)
    with copied.images[1].open("r+b") as file:
        file.truncate(copied.rows["five_rimage_1"].pieces[0].offset + EXTENT)
    with opened(kernel, copied.images, read_only=True) as group:
        for name in ("five", "six", "ten"):
            assert volume_of(group, name).refusal is None
            assert content_of(kernel, group, name, read_only=True) == raids.content[name]


@pytest.mark.proves("volume", "LVM2", "a file system on it")
def test_a_file_system_on_a_logical_volume(
    host: LvmHost, kernel: Kernel, tmp_path: Path, unchanged: Callable[[Path], Path], tree: Path
) -> None:
    images = host.images(tmp_path, 3, 40 * MIB)
    host.make_group("files", images)
    host.make_volume("files", "volume", 64 * MIB // EXTENT, "--stripes", "2")
    row = host.volumes("files")["volume"]
    plain = makers.ext4_written(tree, tmp_path / "ext4")
    lay(row, plain.read_bytes())
    for read_only in (True, False):
        with (
            opened(kernel, [unchanged(one) for one in images], read_only=read_only) as group,
            active(kernel, group, "volume", read_only=read_only) as device,
            device.mount("ext4", options="noload" if read_only else "") as mount,
        ):
            assert_same(without(mount_facts(mount), b"lost+found"), host_facts(tree))


@pytest.mark.proves("volume", "LVM2", "real images")
def test_a_real_image(tmp_path: Path) -> None:
    found = [real for real in real_images() if real.file.name == "lvm2.img.xz"]
    if not found:
        pytest.skip("needs the real images")
    path = copy_of(found[0], tmp_path)
    volume = lvm.read_physical_volume(window(path))
    assert volume is not None
    told = run_tool("blkid", "-p", "-o", "value", "-s", "UUID", path)
    assert volume.uuid == told.strip() == "Vynv4k-APH8-xQER-HSBb-8VJ3-SvFF-PB5O1U"
    # It was never made a part of a group.
    assert volume.metadata is None
    assert volume.fault is None


# ---- Around it -----------------------------------------------------------------------------------


class Failing:
    """An image whose bytes cannot be had any more at some places."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)
        self.broken: tuple[int, int] | None = None
        self.failure = SourceError("source.changed", path="disk.img")

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Read, or fail where it is broken."""
        if self.broken and offset < self.broken[1] and offset + len(buffer) > self.broken[0]:
            raise self.failure
        buffer[:] = self._content[offset : offset + len(buffer)]

    def plain_file(self) -> None:
        """None: every read comes through Python."""

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """All of it must be read."""
        yield Extent(offset, length, ExtentKind.ENCODED)


def failing_disks(
    kernel: Kernel, made: Made
) -> tuple[list[Failing], list[tuple[lvm.PhysicalVolume, BlockDevice]]]:
    """The images of a group as disks that can be told to fail."""
    sources = [Failing(image.read_bytes()) for image in made.images]
    found = []
    for image, source in zip(made.images, sources, strict=True):
        volume = lvm.read_physical_volume(window(image))
        assert volume is not None
        found.append((volume, kernel.add_disk(source).device()))
    return sources, found


def test_what_fails_on_the_way_leaves_nothing_behind(thin: Made, kernel: Kernel) -> None:
    sources, found = failing_disks(kernel, thin)
    (group,) = lvm.group_volumes(found)
    piece = thin.rows["pool_tmeta"].pieces[0]
    sources[0].broken = piece.offset, piece.offset + piece.length
    for _ in range(2):
        with pytest.raises(SourceError) as caught:
            lvm.activate(kernel, group, volume_of(group, "thin1"), read_only=True)
        assert caught.value is sources[0].failure
        assert mapped_devices(kernel) == 0
    assert content_of(kernel, group, "base", read_only=True) == thin.content["base"]
    sources[0].broken = None
    assert content_of(kernel, group, "thin1", read_only=True) == thin.content["thin1"]


def test_a_superblock_that_cannot_be_read_is_one_that_is_not_there(
    raids: Made, kernel: Kernel
) -> None:
    sources, found = failing_disks(kernel, raids)
    (group,) = lvm.group_volumes(found)
    piece = raids.rows["five_rmeta_1"].pieces[0]
    sources[1].broken = piece.offset, piece.offset + piece.length
    # Its image is left out, for nothing tells whether it is in step.
    assert content_of(kernel, group, "five", read_only=True) == raids.content["five"]
    piece = raids.rows["five_rimage_0"].pieces[0]
    sources[0].broken = piece.offset, piece.offset + piece.length
    with (
        active(kernel, group, "five", read_only=True) as device,
        pytest.raises((SourceError, KernelError)),
    ):
        device.read(0, MIB)


def test_a_dead_kernel_says_so(thin: Made, raids: Made, kernel: Kernel) -> None:
    (group,) = lvm.group_volumes(failing_disks(kernel, thin)[1])
    (other,) = lvm.group_volumes(failing_disks(kernel, raids)[1])
    activation = lvm.activate(kernel, group, volume_of(group, "thin1"), read_only=True)
    panic(kernel)
    for one, name in ((group, "thin2"), (group, "base"), (other, "five"), (other, "one")):
        with pytest.raises(KernelError) as caught:
            lvm.activate(kernel, one, volume_of(one, name), read_only=True)
        assert caught.value.code == "kernel.ended"
    activation.close()


def test_what_is_in_use_is_not_taken_apart(thin: Made, kernel: Kernel) -> None:
    with opened(kernel, thin.images, read_only=True) as group:
        activation = lvm.activate(kernel, group, volume_of(group, "thin1"), read_only=True)
        before = mapped_devices(kernel)
        targets = [Target(0, 8, "linear", activation.device.path + b" 0")]
        with map_device(kernel, b"user", targets):
            with pytest.raises(KernelError) as caught:
                activation.close()
            assert caught.value.name == "EBUSY"
            assert mapped_devices(kernel) == before + 1
        activation.close()
        activation.close()
        assert mapped_devices(kernel) == 0


def test_many_threads_activate_at_once(thin: Made, kernel: Kernel) -> None:
    wrong: list[object] = []
    with opened(kernel, thin.images, read_only=True) as group:

        def work(seed: int) -> None:
            try:
                for turn in range(12):
                    name = f"thin{(seed + turn) % 4 + 1}"
                    if content_of(kernel, group, name, read_only=True) != thin.content[name]:
                        wrong.append(name)
            except Exception as error:  # noqa: BLE001
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert mapped_devices(kernel) == 0


def test_a_physical_volume_that_is_there_twice(simple: Made, kernel: Kernel) -> None:
    with disks(kernel, [*simple.images, simple.images[0]], read_only=True) as found:
        (group,) = lvm.group_volumes(found)
        assert group.devices == [device for _volume, device in found[:3]]
        assert content_of(kernel, group, "line", read_only=True) == simple.content["line"]


def test_disks_of_large_blocks(simple: Made, kernel: Kernel) -> None:
    with ExitStack() as stack:
        found = []
        for path in simple.images:
            image = stack.enter_context(open_image(path, "raw"))
            disk = stack.enter_context(kernel.add_disk(image, block_size=4096))
            volume = lvm.read_physical_volume(Window(image.read, 0, image.size))
            assert volume is not None
            found.append((volume, disk.device()))
        (group,) = lvm.group_volumes(found)
        for name, content in simple.content.items():
            if "_" not in name:
                assert content_of(kernel, group, name, read_only=True) == content


@VIEWS
def test_raid0_with_superblocks(
    own: Callable[[Text, int], Made], kernel: Kernel, read_only: bool
) -> None:
    text = Text()
    names = []
    for number in range(3):
        for part, extents in (("rmeta", 1), ("rimage", IMAGE)):
            names.append(f'"{text.linear(f"zero_{part}_{number}", number, extents)}"')
    body = f"stripe_count = 3\nstripe_size = 64\nraids = [{', '.join(names)}]"
    text.add("zero", segment(0, 3 * IMAGE, "raid0_meta", body))
    made = own(text, 3)
    images = [noise(IMAGE * EXTENT, number) for number in range(3)]
    for number, image in enumerate(images):
        lay(made.rows[f"zero_rimage_{number}"], image)
    with disks(kernel, made.images, read_only=read_only) as found:
        (group,) = lvm.group_volumes(found)
        content = content_of(kernel, group, "zero", read_only=read_only)
        assert content == stripes(images, 32768)
        (group,) = lvm.group_volumes(found[:2])
        refusal = volume_of(group, "zero").refusal
        assert refusal is not None
        assert refusal.code == "volume.missing-member"


@VIEWS
def test_a_raid_whose_metadata_is_ahead_of_its_superblocks(
    own: Callable[[Text, int], Made], kernel: Kernel, read_only: bool
) -> None:
    # As when a RAID5 was to become a RAID6, and the kernel was not told any more.
    five = Raid("some", "raid5", "raid5_ls", 4, 3, 1)
    text = Text()
    body = f"stripe_size = {CHUNK // SECTOR}"
    text.raid("some", "raid6_ls_6", 5, 3 * IMAGE, IMAGE, body)
    made = own(text, 5)
    content = noise(3 * IMAGE * EXTENT, 1)
    with Bench(made.images) as bench:
        array = run_raid(bench, made.rows, five, (0, 1, 2, 3))
        put(array, content)
        wait_for_idle(array)
    with opened(kernel, made.images, read_only=read_only) as group:
        assert volume_of(group, "some").kind == "raid6_ls_6"
        assert content_of(kernel, group, "some", read_only=read_only) == content


@VIEWS
def test_a_raid_that_was_made_longer_but_did_not_run_since(
    own: Callable[[Text, int], Made], kernel: Kernel, read_only: bool
) -> None:
    mirror = Raid("some", "raid1", "raid1", 2, 1, 1)
    text = Text()
    text.raid("some", "raid1", 2, IMAGE, IMAGE)
    made = own(text, 2)
    content = noise(IMAGE * EXTENT, 1)
    with Bench(made.images) as bench:
        # Of half the length, as it was then.
        half = IMAGE * EXTENT // 2
        rows = {**made.rows, "some": replace(made.rows["some"], size=half)}
        for number in (0, 1):
            row = made.rows[f"some_rimage_{number}"]
            piece = row.pieces[0]._replace(length=half)
            rows[row.name] = replace(row, size=half, pieces=(piece,))
        array = run_raid(bench, rows, mirror, (0, 1))
        put(array, content[:half])
        wait_for_idle(array)
    # What is behind was never brought in step: the first image has it.
    for number, rest in enumerate((content[half:], b"?" * half)):
        lay(made.rows[f"some_rimage_{number}"], content[:half] + rest)
    with opened(kernel, made.images, read_only=read_only) as group:
        for _ in range(4):
            assert content_of(kernel, group, "some", read_only=read_only) == content


@pytest.mark.proves("volume", "LVM2", "thousands of volumes")
def test_thousands_of_volumes(host: LvmHost, kernel: Kernel, tmp_path: Path) -> None:
    images = host.images(tmp_path, 1, 80 * MIB)
    host.run("pvcreate", "-qq", "--metadatasize", "8m", host.loop(images[0]))
    host.run("vgcreate", "-qq", "-s", "4k", "many", host.loop(images[0]))
    text = Text()
    count = 1500
    for number in range(count):
        # Each in five places, none of which follows another.
        places = [
            segment(part, 1, "striped", f'stripe_count = 1\nstripes = ["pv0", {at}]')
            for part, at in enumerate(range(number, 5 * count, count))
        ]
        text.add(f"volume{number}", *places)
    host.restore("many", str(text))
    begin = time.monotonic()
    with opened(kernel, images, read_only=True) as group:
        assert len(group.volumes) == count
        assert {one.uuid for one in group.volumes} == {
            row["lv_uuid"] for row in host.report("lvs", "lv_uuid", group="many")
        }
        with ExitStack() as stack:
            for number in range(0, count, 100):
                name = f"volume{number}"
                stack.enter_context(active(kernel, group, name, read_only=True))
    assert time.monotonic() - begin < 20


@VIEWS
def test_an_image_that_is_to_be_rebuilt_is_not_used(
    own: Callable[[Text, int], Made], kernel: Kernel, read_only: bool
) -> None:
    text = Text()
    names = []
    for number in range(2):
        names.append(text.linear(f"some_rmeta_{number}", number, 1))
        status = "REBUILD" if number == 0 else ""
        names.append(text.linear(f"some_rimage_{number}", number, IMAGE, status=status))
    listed = ", ".join(f'"{name}"' for name in names)
    body = f"device_count = 2\nregion_size = 128\nraids = [{listed}]"
    text.add("some", segment(0, IMAGE, "raid1", body))
    made = own(text, 2)
    content = noise(IMAGE * EXTENT, 1)
    lay(made.rows["some_rimage_0"], b"?" * len(content))
    lay(made.rows["some_rimage_1"], content)
    with disks(kernel, made.images, read_only=read_only) as found:
        (group,) = lvm.group_volumes(found)
        for _ in range(4):
            assert content_of(kernel, group, "some", read_only=read_only) == content
        (group,) = lvm.group_volumes(found[:1])
        with pytest.raises(VolumeError) as caught:
            lvm.activate(kernel, group, volume_of(group, "some"), read_only=read_only)
        assert caught.value.code == "group.outdated"


@pytest.mark.parametrize(
    ("offset", "value", "length", "code", "said"),
    [
        (4, 2, 4, "volume.feature", "features 0x2"),
        (8, 200, 4, "volume.corrupt-metadata", "a RAID of 200 images, where there are 3"),
        (8, 1, 4, "volume.corrupt-metadata", "without data"),
        (48, 7, 4, "volume.feature", "level 7"),
        (52, 99, 4, "group.refused", ""),
        (56, 3, 4, "group.refused", ""),
    ],
)
def test_superblocks_as_nobody_writes_them(
    raids: Made,
    kernel: Kernel,
    tmp_path: Path,
    offset: int,
    value: int,
    length: int,
    code: str,
    said: str,
) -> None:
    copied = copies_of(raids, tmp_path)
    for number in range(3):
        piece = copied.rows[f"five_rmeta_{number}"].pieces[0]
        with piece.image.open("r+b") as file:
            file.seek(piece.offset + offset)
            file.write(value.to_bytes(length, "little"))
    with opened(kernel, copied.images, read_only=True) as group:
        with pytest.raises(VolumeError) as caught:
            lvm.activate(kernel, group, volume_of(group, "five"), read_only=True)
        assert caught.value.code == code, describe(caught.value)
        assert said in describe(caught.value)
        assert mapped_devices(kernel) == 0
        assert content_of(kernel, group, "six", read_only=True) == raids.content["six"]


def test_caches_that_cannot_be(
    caches: Made, kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = copies_of(caches, tmp_path)
    xml, metadata = tmp_path / "cache.xml", make_empty(tmp_path / "metadata", 16 * EXTENT)
    xml.write_text(cache_xml().replace('origin_block="23"', f'origin_block="{CACHED}"'))
    run_tool("cache_restore", "-i", xml, "-o", metadata, "--metadata-version", "2")
    lay(copied.rows["back_pool_cmeta"], metadata.read_bytes())
    with opened(kernel, copied.images, read_only=True) as group:
        with pytest.raises(VolumeError) as caught:
            lvm.activate(kernel, group, volume_of(group, "back"), read_only=True)
        assert caught.value.code == "volume.corrupt-metadata"
        assert f"its cache has block {CACHED} of it" in describe(caught.value)
        # One of more pieces than Linux is given.
        monkeypatch.setattr(lvm, "_MOST_TARGETS", 4)
        with pytest.raises(VolumeError) as caught:
            lvm.activate(kernel, group, volume_of(group, "back_single"), read_only=True)
        assert describe(caught.value) == "a cache with more than 3 ranges cannot be read"
        assert mapped_devices(kernel) == 0


@VIEWS
def test_physical_volumes_of_many_terabytes(
    host: LvmHost, kernel: Kernel, tmp_path: Path, read_only: bool
) -> None:
    name = f"far{int(read_only)}"
    images = host.images(tmp_path, 2, 8 << 40)
    host.make_group(name, images)
    last = int(host.report("pvs", "pv_pe_count", group=host.loop(images[0]))[0]["pv_pe_count"])
    places = [f"{host.loop(image)}:{last - 4}-{last - 1}" for image in images]
    fixed = ("--activate", "n", "--zero", "n", "--wipesignatures", "n", "-qq")
    host.run("lvcreate", *fixed, "-l", "8", "-i", "2", "-n", "far", name, *places)
    row = host.volumes(name)["far"]
    assert min(piece.offset for piece in row.pieces) > 7 << 40
    content = noise(row.size, 1)
    lay(row, content)
    host.make_volume(name, "large", 200 * 1024 * 1024)
    with opened(kernel, images, read_only=read_only) as group:
        assert content_of(kernel, group, "far", read_only=read_only) == content
        with active(kernel, group, "large", read_only=read_only) as device:
            assert device.size() == volume_of(group, "large").size > 12 << 40
            assert device.read(device.size() - 4096, 4096) == bytes(4096)
