# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Btrfs: subvolumes and snapshots, and file systems on several devices.

The host's own kernel and btrfs-progs write them, and tell what is in them.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from explorer.core.entries import FileType
from explorer.core.errors import KernelError, VolumeError
from explorer.core.messages import describe
from explorer.images.registry import open_image
from explorer.kernel.btrfs import scan_device, search_tree
from explorer.volumes import btrfs
from explorer.volumes.window import Window
from tests.trees import (
    ROOT,
    assert_same,
    host_facts,
    make_empty,
    make_tree,
    mount_facts,
    noise,
    run_tool,
    sha256,
)
from tests.volumes.raid_arrays import Loop
from tests.volumes.truth import real_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from explorer.core.errors import ExplorerError
    from explorer.kernel import BlockDevice, Kernel, Mount
    from tests.trees import Facts
    from tests.volumes.truth import RealImage

MIB = 1 << 20
SIZE = 128 * MIB


@contextmanager
def host_mount(paths: Sequence[Path], target: Path, options: str = "") -> Iterator[Path]:
    """A Btrfs mounted by the host's kernel."""
    known = Path("/proc/filesystems").read_text(encoding="ascii").split()
    if not ROOT or not Path("/dev/loop-control").exists() or "btrfs" not in known:
        pytest.skip("needs root, loop devices, and a host that has Btrfs")
    target.mkdir(exist_ok=True)
    with ExitStack() as stack:
        devices = [stack.enter_context(Loop(path)) for path in paths]
        run_tool("btrfs", "device", "scan", *devices)
        given = ",".join(
            [f"device={device}" for device in devices] + ([options] if options else [])
        )
        run_tool("mount", "-t", "btrfs", "-o", given, devices[0], target)
        try:
            yield target
        finally:
            run_tool("umount", target)
            run_tool("btrfs", "device", "scan", "--forget", *devices)


class Devices:
    """Images as disks of a kernel, which are not changed by it. A context manager."""

    def __init__(self, kernel: Kernel, paths: Sequence[Path], *, overlay: int = 0) -> None:
        self._kernel = kernel
        self._paths = paths
        self._overlay = overlay
        self._stack = ExitStack()

    def __enter__(self) -> list[tuple[btrfs.BtrfsMember, BlockDevice]]:
        self._before = [path.stat() for path in self._paths]
        found = []
        for path in self._paths:
            image = self._stack.enter_context(open_image(path, "raw"))
            disk = self._stack.enter_context(
                self._kernel.add_disk(image, overlay_limit=self._overlay)
            )
            member = btrfs.read_device(Window(image.read, 0, image.size))
            assert member is not None
            found.append((member, disk.device()))
        return found

    def __exit__(self, *_error: object) -> None:
        self._stack.close()
        for path, before in zip(self._paths, self._before, strict=True):
            assert path.stat().st_mtime_ns == before.st_mtime_ns
            assert path.stat().st_blocks == before.st_blocks


@contextmanager
def mounted(
    kernel: Kernel, paths: Sequence[Path], options: str = ""
) -> Iterator[tuple[Mount, str]]:
    """The one file system that some images make, and what is told of what is missing."""
    with Devices(kernel, paths) as found:
        (group,) = btrfs.group_devices(found)
        with (
            btrfs.register_devices(group) as registered,
            registered.mount(options=options) as mount,
        ):
            yield mount, registered.note


# ---- Subvolumes --------------------------------------------------------------------------------


class Told(NamedTuple):
    """What btrfs-progs tells of a subvolume."""

    number: int
    parent: int
    parent_uuid: str
    uuid: str
    path: bytes


def list_by_host(top: Path, *options: str) -> dict[int, Told]:
    """The subvolumes below a mount, by number."""
    found = {}
    text = run_tool("btrfs", "subvolume", "list", "-pqu", *options, top)
    for number, parent, parent_uuid, uuid, path in re.findall(
        r"^ID (\d+) gen \d+ (?:cgen \d+ )?parent (\d+) top level \d+ (?:otime .{19} )?"
        r"parent_uuid (\S+) +uuid (\S+) path (.*)$",
        text,
        re.MULTILINE,
    ):
        # The tool's bytes that are no UTF-8 come as backslashes.
        raw = path.encode().decode("unicode_escape").encode("latin-1") if "\\x" in path else None
        told = Told(
            int(number),
            int(parent),
            parent_uuid.strip("-") and parent_uuid,
            uuid,
            raw if raw is not None else path.encode(),
        )
        found[told.number] = told
    return found


@pytest.fixture(scope="module")
def subvolumes(tmp_path_factory: pytest.TempPathFactory) -> Subvolumes:
    """A file system with subvolumes and snapshots of all kinds."""
    folder = tmp_path_factory.mktemp("subvolumes")
    image = make_empty(folder / "disk.img", SIZE)
    run_tool("mkfs.btrfs", "-q", image)
    with host_mount([image], folder / "mount") as top:

        def create(path: bytes) -> bytes:
            where = os.path.join(os.fsencode(top), path)
            run_tool("btrfs", "subvolume", "create", os.fsdecode(where))
            return where

        (top / "file").write_text("top\n")
        first = create(b"first")
        Path(os.fsdecode(first), "file").write_text("first\n")
        os.makedirs(first + b"/folder/deep er")
        within = create(b"first/folder/deep er/within")
        Path(os.fsdecode(within), "file").write_text("within\n")
        create(b"latin \xe9")
        os.makedirs(top / "snapshots")
        snapshot = ["btrfs", "subvolume", "snapshot"]
        run_tool(*snapshot, "-r", top / "first", top / "snapshots" / "read-only")
        Path(os.fsdecode(first), "file").write_text("first, later\n")
        run_tool(*snapshot, top / "first", top / "snapshots" / "writable")
        run_tool(*snapshot, top / "snapshots" / "writable", top / "snapshots" / "second")
        # As deep as paths go that the tools take in one piece.
        deep = top
        for number in range(20):
            deep /= f"{number:02}" + "d" * 60
        os.makedirs(deep)
        create(os.fsencode((deep / "buried").relative_to(top)))
        create(b"deleted")
        run_tool("btrfs", "subvolume", "delete", top / "deleted")
        os.sync()
        run_tool("btrfs", "filesystem", "sync", top)
        facts = {
            "all": list_by_host(top),
            "read-only": list_by_host(top, "-r"),
            "snapshots": list_by_host(top, "-s"),
        }
        created = {
            number: run_tool("btrfs", "subvolume", "show", "--rootid", str(number), top)
            for number in facts["all"]
        }
        contents = {
            number: host_facts(Path(os.fsdecode(os.fsencode(top) + b"/" + told.path)))
            for number, told in facts["all"].items()
        }
    return Subvolumes(image, facts, created, contents)


class Subvolumes(NamedTuple):
    """An image, and what the host told of it."""

    image: Path
    told: dict[str, dict[int, Told]]
    created: dict[int, str]
    contents: dict[int, dict[bytes, Facts]]


@pytest.mark.proves("volume", "Btrfs", "subvolumes and snapshots listed")
def test_subvolumes_as_the_host_lists_them(subvolumes: Subvolumes, kernel: Kernel) -> None:
    with mounted(kernel, [subvolumes.image]) as (mount, note):
        assert not note
        found = {one.number: one for one in btrfs.list_subvolumes(mount)}
    told = subvolumes.told["all"]
    assert len(told) == 7
    assert {
        number: Told(number, one.parent, one.parent_uuid, one.uuid, one.path)
        for number, one in found.items()
    } == told
    assert {number for number, one in found.items() if one.read_only} == set(
        subvolumes.told["read-only"]
    )
    assert {number for number, one in found.items() if one.is_snapshot} == set(
        subvolumes.told["snapshots"]
    )
    assert not any(one.is_default for one in found.values())
    for number, one in found.items():
        text = re.search(r"Creation time:\s+(\S+ \S+ \S+)", subvolumes.created[number])
        assert text is not None
        at = datetime.strptime(text[1], "%Y-%m-%d %H:%M:%S %z")
        assert one.created_ns // 10**9 == int(at.timestamp())
        assert one.title == ("Btrfs snapshot" if one.is_snapshot else "Btrfs subvolume")


@pytest.mark.proves("volume", "Btrfs", "subvolumes and snapshots mounted as roots")
def test_each_subvolume_is_mounted_as_a_root(subvolumes: Subvolumes, kernel: Kernel) -> None:
    with mounted(kernel, [subvolumes.image]) as (mount, _note):
        found = btrfs.list_subvolumes(mount)
    for one in found:
        with mounted(kernel, [subvolumes.image], one.mount_options) as (mount, _note):
            ours = mount_facts(mount)
            theirs = subvolumes.contents[one.number]
            # A subvolume within one shows as an empty folder in its snapshots, with times of now.
            assert set(ours) == set(theirs)
            for path, facts in ours.items():
                if facts.type == FileType.FILE:
                    assert facts == theirs[path]
            # Whichever is mounted, all are listed.
            assert btrfs.list_subvolumes(mount) == found


@pytest.mark.proves("volume", "Btrfs", "default subvolume")
def test_default_subvolume(tmp_path: Path, kernel: Kernel) -> None:
    image = make_empty(tmp_path / "disk.img", SIZE)
    run_tool("mkfs.btrfs", "-q", image)
    with host_mount([image], tmp_path / "mount") as top:
        run_tool("btrfs", "subvolume", "create", top / "root")
        (top / "root" / "inside").write_text("inside\n")
        (top / "outside").write_text("outside\n")
        run_tool("btrfs", "subvolume", "set-default", top / "root")
    with mounted(kernel, [image]) as (mount, _note):
        assert b"inside" in mount_facts(mount)
        whole, root = btrfs.list_subvolumes(mount)
        assert (whole.number, whole.path, whole.is_default) == (5, b"", False)
        assert whole.title == "Btrfs top level"
        assert (root.path, root.is_default) == (b"root", True)
    with mounted(kernel, [image], whole.mount_options) as (mount, _note):
        assert {b"outside", b"root/inside"} <= set(mount_facts(mount))


def test_many_subvolumes(tmp_path: Path, kernel: Kernel) -> None:
    """More than come in one answer of the kernel."""
    image = make_empty(tmp_path / "disk.img", SIZE)
    run_tool("mkfs.btrfs", "-q", image)
    with host_mount([image], tmp_path / "mount") as top:
        for number in range(300):
            run_tool("btrfs", "subvolume", "create", top / f"{number:03}")
    with mounted(kernel, [image]) as (mount, _note):
        found = btrfs.list_subvolumes(mount)
        assert [one.path for one in found] == [b"%03d" % number for number in range(300)]
        items = list(search_tree(mount, 1, (256, (1 << 64) - 256)))
        assert items == sorted(items, key=lambda item: (item.number, item.type, item.offset))
        assert len({item[:3] for item in items}) == len(items) >= 600


def test_subvolumes_of_another_file_system(kernel: Kernel, tmp_path: Path) -> None:
    image = make_empty(tmp_path / "disk.img", 8 * MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", image)
    with open_image(image, "raw") as opened, kernel.add_disk(opened) as disk:
        assert btrfs.read_device(Window(opened.read, 0, opened.size)) is None
        with disk.mount("ext4") as mount, pytest.raises(KernelError, match="ENOTTY"):
            btrfs.list_subvolumes(mount)
        with pytest.raises(KernelError, match="EINVAL"):
            scan_device(disk.device())


# ---- Several devices ---------------------------------------------------------------------------


class Profile(NamedTuple):
    """How data and metadata are kept on several devices."""

    name: str
    devices: int
    spared: int
    """Devices that it can do without."""
    metadata: str = ""
    """Another profile; as the data's when empty."""
    options: str = ""
    """Of the mount that writes."""


PROFILES = (
    Profile("single", 1, 0, "dup"),
    Profile("single", 2, 0, "raid1", "compress-force=zlib"),
    Profile("raid0", 2, 0, "raid1", "compress-force=lzo"),
    Profile("raid0", 3, 0),
    Profile("raid1", 2, 1, "", "compress-force=zstd"),
    Profile("raid1", 3, 1),
    Profile("raid1c3", 3, 2),
    Profile("raid1c4", 4, 3),
    Profile("raid10", 4, 1),
    Profile("raid5", 3, 1),
    Profile("raid5", 4, 1, "raid1", "compress-force=zstd"),
    Profile("raid6", 4, 2),
)


SPREAD = {("raid10", 4), ("raid1", 3)}
"""Where one more may be missing, if no chunk has all its copies on these."""


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that a file system may keep."""
    top = tmp_path_factory.mktemp("tree") / "top"
    top.mkdir()
    make_tree(top)
    return top


def make_devices(folder: Path, tree: Path, profile: Profile) -> list[Path]:
    """The images of a file system with a tree, written by the host."""
    paths = [make_empty(folder / f"device{n}.img", SIZE) for n in range(profile.devices)]
    metadata = profile.metadata or profile.name
    run_tool("mkfs.btrfs", "-q", "-f", "-d", profile.name, "-m", metadata, *paths)
    with host_mount(paths, folder / "mount", profile.options) as top:
        run_tool("cp", "-a", f"{tree}/.", top)
    with ExitStack() as stack:
        devices = [stack.enter_context(Loop(path)) for path in paths]
        run_tool("btrfs", "check", "--readonly", devices[0])
    return paths


@pytest.mark.proves(
    "volume", "Btrfs", "single, dup, RAID 0, 1, 1c3, 1c4, 10, 5, 6 on several devices, degraded too"
)
@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: "-".join(map(str, profile[:2])))
def test_several_devices(
    tmp_path: Path, small_tree: Path, kernel: Kernel, profile: Profile
) -> None:
    paths = make_devices(tmp_path, small_tree, profile)
    wanted = host_facts(small_tree)
    before = [sha256(path) for path in paths]
    # In whatever order they come.
    with mounted(kernel, paths[::-1]) as (mount, note):
        assert not note
        assert_same(mount_facts(mount), wanted)
        profiles = {
            int.from_bytes(item.data[24:32], "little") & ~7
            for item in search_tree(mount, 3, (256, 256), (228, 228))
        }
        assert len(profiles) == (2 if profile.metadata else 1)
    for count in range(1, min(profile.spared + 2, profile.devices)):
        for gone in itertools.combinations(range(profile.devices), count):
            left = [path for number, path in enumerate(paths) if number not in gone]
            with Devices(kernel, left) as found:
                (group,) = btrfs.group_devices(found)
                assert group.missing == count
                assert f"of its {profile.devices} devices {count} are missing" in group.note
                with btrfs.register_devices(group) as registered:
                    works = check_degraded(registered, small_tree, profile, gone)
                if count <= profile.spared:
                    assert works
                elif (profile.name, profile.devices) not in SPREAD:
                    assert not works
    assert [sha256(path) for path in paths] == before


def check_degraded(
    registered: btrfs.RegisteredDevices, tree: Path, profile: Profile, gone: Sequence[int]
) -> bool:
    """Mount what is left of a file system; whether it could be."""
    numbers = ", ".join(str(number + 1) for number in gone)
    refusal: ExplorerError | None = None
    with ExitStack() as stack:
        try:
            mount = registered.mount()
        except (VolumeError, KernelError) as error:
            refusal = error
        else:
            stack.enter_context(mount)
            assert registered.note == (
                f"of its {profile.devices} devices these are missing, without loss: {numbers}"
            )
            assert_same(mount_facts(mount), host_facts(tree))
    if isinstance(refusal, VolumeError):
        assert f"missing: {numbers}; areas of" in describe(refusal)
    # Else its metadata is not there.
    return refusal is None


def test_file_systems_are_told_apart(tmp_path: Path, small_tree: Path, kernel: Kernel) -> None:
    sets = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        sets.append(make_devices(folder, small_tree, Profile("raid1", 2, 1)))
    mixed = [sets[0][0], sets[1][1], sets[1][0], sets[0][1]]
    with Devices(kernel, mixed) as found:
        groups = btrfs.group_devices(found)
        assert [group.missing for group in groups] == [0, 0]
        assert [[member.number for member, _ in group.members] for group in groups] == [[1, 2]] * 2
        for group in groups:
            with btrfs.register_devices(group) as registered, registered.mount() as mount:
                assert not registered.note
                assert_same(mount_facts(mount), host_facts(small_tree))


@pytest.mark.proves("volume", "Btrfs", "older copies of a device left out")
def test_older_copy_of_a_device(tmp_path: Path, small_tree: Path, kernel: Kernel) -> None:
    paths = make_devices(tmp_path, small_tree, Profile("raid1", 2, 1))
    old = tmp_path / "old.img"
    shutil.copyfile(paths[1], old)
    with host_mount(paths, tmp_path / "mount") as top:
        (top / "later").write_bytes(noise(100_000, 31))
    for order in ([*paths, old], [old, *paths]):
        with Devices(kernel, order) as found:
            (group,) = btrfs.group_devices(found)
            assert [member.number for member, _device in group.left_out] == [2]
            assert "device 2 is there more than once" in group.note
            with (
                btrfs.register_devices(group) as registered,
                registered.mount() as mount,
                mount.open_file(b"/later") as file,
            ):
                assert file.read_at(0, 100_000) == noise(100_000, 31)


def test_disks_that_take_the_names_of_others(
    tmp_path: Path, small_tree: Path, kernel: Kernel
) -> None:
    """Names of disks are used again; Btrfs must not look for the first file system there."""
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        paths = make_devices(folder, small_tree, Profile("raid1", 2, 1))
        for left in (paths, paths[:1]):
            with mounted(kernel, left) as (mount, note):
                assert bool(note) == (left is not paths)
                assert_same(mount_facts(mount), host_facts(small_tree))


def test_superblock_reads_as_the_tools_read_it(tmp_path: Path) -> None:
    paths = [make_empty(tmp_path / f"{number}.img", SIZE) for number in range(3)]
    run_tool("mkfs.btrfs", "-q", "-L", "a label", "-d", "raid0", "-m", "raid1", *paths)
    for path in paths:
        with open_image(path, "raw") as image:
            member = btrfs.read_device(Window(image.read, 0, image.size))
        text = run_tool("btrfs", "inspect-internal", "dump-super", path)
        facts = dict(re.findall(r"^(\S+)\s+(.*)$", text, re.MULTILINE))
        assert member == btrfs.BtrfsMember(
            facts["fsid"],
            int(facts["dev_item.devid"]),
            int(facts["num_devices"]),
            facts["dev_item.uuid"],
            int(facts["generation"]),
            facts["label"],
        )


# ---- Damaged and real --------------------------------------------------------------------------


def test_damaged_superblock_is_refused(tmp_path: Path, kernel: Kernel) -> None:
    paths = [make_empty(tmp_path / f"{number}.img", SIZE) for number in range(2)]
    run_tool("mkfs.btrfs", "-q", "-d", "raid1", "-m", "raid1", *paths)
    broken = tmp_path / "broken.img"
    run_tool("cp", "--sparse=always", paths[1], broken)
    with broken.open("rb") as file:
        superblock = file.read(0x11000)[0x10000:]
    for at in (0, 32, 48, 64, 72, 80, 136, 144, 148, 196, 201, 811):
        with broken.open("r+b") as file:
            file.seek(0x10000)
            file.write(superblock[:at] + b"\xff" * 4 + superblock[at + 4 :])
        with open_image(broken, "raw") as image, kernel.add_disk(image) as disk:
            member = btrfs.read_device(Window(image.read, 0, image.size))
            if member is None:
                assert at in (48, 64)
                continue
            (group,) = btrfs.group_devices([(member, disk.device())])
            with pytest.raises(KernelError):
                mount_any(group)
    assert kernel.state == "running"


def mount_any(group: btrfs.BtrfsDevices[BlockDevice]) -> None:
    """Register and mount, whichever of it fails."""
    with btrfs.register_devices(group) as registered:
        registered.mount().close()


REFUSED = {f"disk{number}": "incomplete metadata_uuid change" for number in (1, 4, 6, 8)}
"""Halves of file systems whose UUID was being changed when the power went, which 6.12 minds."""


def unpack_disks(folder: Path, *names: str) -> list[Path]:
    """Real devices of file systems of two."""
    paths = []
    for name in names:
        wanted = f"btrfs-progs/034-metadata-uuid-{name}.raw.xz"
        for real in real_images():
            if real.name == wanted:
                paths.append(folder / f"{name}.img")
                real.unpack(paths[-1])
    if len(paths) < len(names):
        pytest.skip("the real images are not here")
    return paths


@pytest.mark.proves("volume", "Btrfs", "real images")
@pytest.mark.parametrize(
    "name",
    [
        *[f"disk{number}" for number in range(1, 7)],
        *[pytest.param(f"disk{number}", marks=pytest.mark.slow) for number in (7, 8)],
    ],
)
def test_real_device_of_two(tmp_path: Path, kernel: Kernel, name: str) -> None:
    paths = unpack_disks(tmp_path, name)
    with Devices(kernel, paths) as found:
        (group,) = btrfs.group_devices(found)
        if name in REFUSED:
            with pytest.raises(KernelError) as caught:
                mount_any(group)
            assert REFUSED[name] in caught.value.log[-1]
            return
        with btrfs.register_devices(group) as registered, registered.mount():
            assert "of its 2 devices these are missing, without loss" in registered.note


def test_real_device_that_is_refused_is_done_without(tmp_path: Path, kernel: Kernel) -> None:
    with mounted(kernel, unpack_disks(tmp_path, "disk1", "disk2")) as (_mount, note):
        assert "of its 2 devices these are missing, without loss: 1" in note
        assert "Linux refuses its device 1" in note
        assert "incomplete metadata_uuid change" in note


BTRFS = [
    real
    for real in real_images()
    if real.name.startswith(("btrfs-progs/", "blkid/btrfs")) and real.file.stat().st_size < 60_000
]
"""Those that are small when unpacked; the others are mounted elsewhere."""


@pytest.mark.proves("volume", "Btrfs", "real images")
@pytest.mark.parametrize("real", BTRFS, ids=lambda real: real.name)
def test_subvolumes_of_real_images(real: RealImage, tmp_path: Path, kernel: Kernel) -> None:
    """Most of these are damaged: they are listed, or refused by Btrfs, and nothing hangs."""
    path = tmp_path / "device.img"
    real.unpack(path)
    with open_image(path, "raw") as image:
        member = btrfs.read_device(Window(image.read, 0, image.size))
        if member is None:
            return
        with kernel.add_disk(image, overlay_limit=64 * MIB) as disk, ExitStack() as stack:
            (group,) = btrfs.group_devices([(member, disk.device())])
            try:
                registered = stack.enter_context(btrfs.register_devices(group))
                mount = stack.enter_context(registered.mount())
            except KernelError:
                return
            for one in btrfs.list_subvolumes(mount):
                assert one.number == 5 or one.path
