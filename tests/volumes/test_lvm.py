# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""LVM2: what its tools and the kernel's own targets write, read in both views.

The volumes' places are those that the tools report, never those of the reader under test. What
stands in RAID, snapshots and caches is written by the kernel's targets with their own metadata,
as LVM2 would have it; or computed here, or made by thin-provisioning-tools.
"""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

from explorer.core.errors import KernelError, VolumeError
from explorer.core.messages import describe
from explorer.images.registry import open_image
from explorer.kernel import Kernel
from explorer.kernel.mapper import SECTOR, Target, map_device
from explorer.volumes import lvm
from explorer.volumes.window import Window
from tests.kernel.test_mapper import write
from tests.makers import ScratchDisk
from tests.trees import noise
from tests.volumes.lvm_host import EXTENT, LvmHost, Row, Text, fetch, lay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from explorer.kernel import BlockDevice
    from explorer.kernel.mapper import MappedDevice

    Group = lvm.VolumeGroup[BlockDevice]

MIB = 1 << 20

VIEWS = pytest.mark.parametrize("read_only", [True, False], ids=["stored", "recovered"])


# ---- Reading -----------------------------------------------------------------------------------


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
