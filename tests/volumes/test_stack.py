# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Stacks: what stands on what stands on what, found and put together by itself."""

from __future__ import annotations

import itertools
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import ImageError, VolumeError
from explorer.core.messages import describe
from explorer.core.views import View
from explorer.kernel import Kernel
from explorer.kernel.btrfs import scan_device
from explorer.volumes import Source, Wanted
from tests.images.content import convert
from tests.images.test_qcow2 import change, entry_of
from tests.makers import ScratchDisk, Writer
from tests.trees import make_empty, noise, run_tool
from tests.volumes.luks_maker import Recipe, make_luks2
from tests.volumes.lvm_host import LvmHost, lay
from tests.volumes.raid_arrays import Shape, build_driver, create_array, spread, write_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1 << 20
KNOWN = noise(100_000, 5)
PASSPHRASE = Recipe().passphrase

VIEWS = pytest.mark.parametrize("view", list(View))


def make_ext4(folder: Path, size: int, label: str) -> bytes:
    """An ext4 with one file that is known."""
    top = folder / f"{label}-top"
    top.mkdir()
    (top / "known").write_bytes(KNOWN)
    image = make_empty(folder / f"{label}.img", size)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-d", top, image)
    return image.read_bytes()


@pytest.fixture(scope="module")
def host(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LvmHost]:
    with LvmHost(tmp_path_factory.mktemp("lvm")) as made:
        yield made


@pytest.fixture(scope="module")
def group(host: LvmHost, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A group on two physical volumes, with a volume on each and one on both."""
    folder = tmp_path_factory.mktemp("group")
    images = host.images(folder, 2, 8 * MIB)
    host.make_group("nested", images)
    first, second = (host.loop(image) for image in images)
    host.run("lvcreate", "-qq", "-an", "-Zn", "-Wn", "-l", "32", "-n", "root", "nested", first)
    host.run("lvcreate", "-qq", "-an", "-Zn", "-Wn", "-l", "32", "-n", "home", "nested", second)
    host.run("lvcreate", "-qq", "-an", "-Zn", "-Wn", "-l", "64", "-i", "2", "-n", "both", "nested")
    for name, row in host.volumes("nested").items():
        lay(row, make_ext4(folder, row.size, name))
    return images


def partitioned(folder: Path, *contents: bytes) -> Path:
    """A disk with a GPT, and something on each of its partitions."""
    starts = [2048]
    for content in contents:
        starts.append(starts[-1] + -(-len(content) // MIB) * 2048)
    disk = make_empty(folder / "disk.img", starts[-1] * 512 + MIB)
    lines = [f"start={start}, size={end - start}" for start, end in itertools.pairwise(starts)]
    run_tool("sfdisk", "-q", disk, text="\n".join(["label: gpt", *lines, ""]))
    with disk.open("r+b") as file:
        for start, content in zip(starts, contents, strict=False):
            file.seek(start * 512)
            file.write(content)
    return disk


def ask(*passphrases: bytes) -> Callable[[str, int], bytes | None]:
    """Give these, one after the other, for whatever is asked."""
    given = list(passphrases)
    return lambda _what, _wrong: given.pop(0) if given else None


def wanted(*paths: Path, view: View = View.AUTO) -> Wanted:
    return Wanted(paths=tuple(os.fsencode(path) for path in paths), view=view)


def read_known(source: Source, name: str | None) -> bool:
    with source.mount(source.choose(name)) as mounted, mounted.mount.open_file(b"/known") as file:
        return file.read_at(0, file.size) == KNOWN


def names(source: Source) -> list[str]:
    return [volume.name for volume in source.stack.volumes() if volume.kind != "free"]


@pytest.mark.proves("volume", "stack", "partition, LUKS, LVM, ext4")
@VIEWS
def test_lvm_in_luks_in_a_partition(
    group: list[Path],
    tmp_path: Path,
    unchanged: Callable[[Path], Path],
    view: View,
) -> None:
    payload = group[0].read_bytes()
    luks = make_luks2(tmp_path / "luks.img", Recipe(size=len(payload) + 8 * MIB), payload)
    plain = make_ext4(tmp_path, 4 * MIB, "plain")
    disk = unchanged(partitioned(tmp_path, plain, luks.read_bytes()))
    with Source(wanted(disk, view=view)) as source:
        # Nobody is asked only to be listed.
        assert names(source) == ["1", "2"]
        assert [volume.locked for volume in source.stack.volumes()[:2]] == [False, True]
        assert read_known(source, "1")
        with pytest.raises(VolumeError) as caught:
            source.choose("2")
        assert caught.value.code == "volume.locked"
    with Source(wanted(disk, view=view), ask(b"wrong", PASSPHRASE)) as source:
        assert read_known(source, "nested/root")
        found = {volume.name: volume for volume in source.stack.volumes()}
        assert found["2/open"].parent == found["2"].number
        assert found["nested/root"].parent == found["2/open"].number
        assert (found["nested/root"].label, found["nested/root"].type) == ("root", "linear")
        # Its other physical volume is not here.
        assert not found["nested/home"].mountable
        assert "nested" in found["nested/home"].note or "missing" in found["nested/home"].note
        with pytest.raises(VolumeError) as caught:
            source.mount(found["nested/home"])
        assert "{" not in describe(caught.value)


@pytest.mark.proves("volume", "LUKS", "a wrong passphrase says so")
def test_a_passphrase_that_stays_wrong(tmp_path: Path, built: None) -> None:
    luks = make_luks2(tmp_path / "luks.img", Recipe(), b"")
    with Source(wanted(luks), ask(b"wrong", b"wrong again")) as source:
        with pytest.raises(VolumeError) as caught:
            source.choose(None)
        assert caught.value.code == "volume.passphrase-wrong"
        assert "wrong again" not in describe(caught.value) + repr(caught.value)


@pytest.mark.proves("volume", "LVM2", "a group on several images")
def test_a_group_on_two_images(group: list[Path], unchanged: Callable[[Path], Path]) -> None:
    images = [unchanged(image) for image in group]
    for order in (images, images[::-1]):
        with Source(wanted(*order)) as source:
            for name in ("nested/root", "nested/home", "both"):
                assert read_known(source, name)
    with Source(wanted(images[1])) as source:
        usable = [volume.name for volume in source.stack.volumes() if volume.mountable]
        assert usable == ["nested/home"]


@pytest.mark.proves("volume", "stack", "LVM on MD RAID 5, on partitions of three images")
@VIEWS
def test_lvm_on_an_array(
    group: list[Path],
    tmp_path: Path,
    unchanged: Callable[[Path], Path],
    view: View,
) -> None:
    shape = Shape("5", 5, "left-symmetric")
    content = group[0].read_bytes()
    assert shape.size == len(content)
    members = create_array(tmp_path, build_driver(tmp_path), shape)
    write_members(members, spread(shape, content))
    disks = []
    for number, member in enumerate(members):
        folder = tmp_path / f"disk{number}"
        folder.mkdir()
        disks.append(unchanged(partitioned(folder, member.read_bytes())))
    with Source(wanted(*disks, view=view)) as source:
        assert read_known(source, "nested/root")
    # The third is missing: what was on it is made from the others.
    with Source(wanted(*disks[:2], *disks[3:], view=view)) as source:
        assert read_known(source, "nested/root")
        (array,) = (volume for volume in source.stack.volumes() if volume.kind == "array")
        assert array.type == "raid5"
        assert array.note
    with Source(wanted(*disks[:3], view=view)) as source:
        assert not any(volume.mountable for volume in source.stack.volumes())
        (array,) = (volume for volume in source.stack.volumes() if volume.kind == "array")
        assert array.note


def make_btrfs(folder: Path, count: int, *options: str) -> list[Path]:
    """A Btrfs on several images, with one file that is known."""
    top = folder / "top"
    top.mkdir()
    (top / "known").write_bytes(KNOWN)
    images = [make_empty(folder / f"device{number}.img", 128 * MIB) for number in range(count)]
    run_tool("mkfs.btrfs", "-q", *options, *images)
    with ExitStack() as stack:
        kernel = stack.enter_context(Kernel())
        devices = []
        for image in images:
            scratch = ScratchDisk(image)
            stack.callback(scratch.close)
            devices.append(stack.enter_context(kernel.add_scratch_disk(scratch)).device())
            scan_device(devices[-1])
        mount = stack.enter_context(devices[0].mount("btrfs", read_only=False))
        Writer(kernel, mount).write(os.fsencode(top))
    return images


@pytest.mark.proves("volume", "Btrfs", "a file system on several images")
@VIEWS
def test_a_btrfs_on_two_images(
    tmp_path: Path, built: None, unchanged: Callable[[Path], Path], view: View
) -> None:
    images = make_btrfs(tmp_path, 2, "-d", "raid1", "-m", "raid1")
    for order in (images, images[::-1]):
        with Source(wanted(*map(unchanged, order), view=view)) as source:
            usable = [volume for volume in source.stack.volumes() if volume.mountable]
            assert len(usable) == 1
            assert not usable[0].note
            assert read_known(source, None)
    # One of two mirrors is enough, and it is said that the other is not there.
    with Source(wanted(unchanged(images[1]), view=view)) as source:
        assert read_known(source, None)
        (volume,) = source.stack.volumes()
        assert volume.note


def test_a_btrfs_that_lacks_what_it_cannot_do_without(tmp_path: Path, built: None) -> None:
    images = make_btrfs(tmp_path, 2, "-d", "single", "-m", "raid0")
    with Source(wanted(images[0])) as source:
        assert source.stack.volumes()[0].note
        with pytest.raises(VolumeError) as caught:
            source.mount(source.choose(None))
        assert "{" not in describe(caught.value)


@pytest.mark.proves("volume", "Btrfs", "subvolumes and snapshots as volumes of their own")
def test_subvolumes_are_volumes(tmp_path: Path, built: None) -> None:
    (image,) = make_btrfs(tmp_path, 1)
    with (
        ExitStack() as stack,
        Kernel() as kernel,
    ):
        scratch = ScratchDisk(image)
        stack.callback(scratch.close)
        disk = stack.enter_context(kernel.add_scratch_disk(scratch))
        mount = stack.enter_context(disk.mount("btrfs", read_only=False))
        with mount.open_directory() as root:
            for name in (b"first", b"zweites"):
                # BTRFS_IOC_SUBVOL_CREATE, of struct btrfs_ioctl_vol_args: a descriptor, a name.
                argument = kernel.binding.ffi.new("char[]", bytes(8) + name.ljust(4088, b"\0"))
                kernel.check(
                    kernel.binding.library.lkl_sys_ioctl(
                        kernel.pointer, root.descriptor, 0x5000940E, argument
                    ),
                    "ioctl",
                )
    with Source(wanted(image)) as source:
        assert names(source) == ["0"]
        found = source.stack.find_subvolumes(source.choose(None))
        assert [volume.name for volume in found] == ["0@/first", "0@/zweites"]
        assert {volume.kind for volume in found} == {"subvolume"}
        assert {volume.parent for volume in found} == {0}
        # What stands at the top is not in them.
        with (
            source.mount(source.choose("0@/first")) as mounted,
            mounted.mount.open_directory() as top,
        ):
            assert not list(top)
        assert read_known(source, "0")


def test_what_cannot_be_read_hides_nothing_else(tmp_path: Path, built: None) -> None:
    first, second = make_ext4(tmp_path, 2 * MIB, "first"), make_ext4(tmp_path, 2 * MIB, "second")
    raw = partitioned(tmp_path, first, second)
    path = convert(raw, tmp_path / "disk.qcow2", "qcow2")
    # The second partition's first cluster, by its entry in the only table, is beyond the file.
    change(path, entry_of(path, 3 * MIB // 65536), (1 << 40).to_bytes(8, "big"))
    with Source(wanted(path)) as source:
        assert read_known(source, "1")
        found = {volume.name: volume for volume in source.stack.volumes()}
        assert not found["2"].mountable
        assert "damaged: L2 table" in found["2"].note
        with pytest.raises(VolumeError) as caught:
            source.mount(found["2"])
        assert found["2"].note in describe(caught.value)
        assert source.stack.facts(found["2"]) == {}
    # A disk of which nothing else is known.
    bare = tmp_path / "bare"
    bare.write_bytes(first)
    path = convert(bare, tmp_path / "bare.qcow2", "qcow2")
    change(path, entry_of(path, 0), (1 << 40).to_bytes(8, "big"))
    with pytest.raises(ImageError):
        Source(wanted(path))


def test_an_end_that_cannot_be_read_hides_nothing_else(
    group: list[Path], host: LvmHost, tmp_path: Path
) -> None:
    # The volume's end, where superblocks of arrays stand, is on what is cut off.
    (piece,) = host.volumes("nested")["root"].pieces
    path = tmp_path / "cut"
    path.write_bytes(piece.image.read_bytes()[: piece.offset + piece.length - 65536])
    with Source(wanted(path)) as source:
        assert read_known(source, "nested/root")
