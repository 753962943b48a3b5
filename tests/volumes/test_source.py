# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources: images within images, several at once, partitions in what is no disk, two views."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import MissingPart, SourceError, VolumeError
from explorer.core.messages import describe
from explorer.core.views import View
from explorer.images.registry import open_image
from explorer.kernel import Kernel
from explorer.kernel.mapper import Target, map_device
from explorer.volumes import Source, Wanted
from explorer.volumes.source import NESTING_LIMIT
from tests.trees import make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.volumes import Stack

MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("built")

nested = pytest.mark.proves("format", "image within an image", "any format, any depth to a limit")


def make_ext4(folder: Path, image: Path, size: int, label: str = "") -> Path:
    """An ext4 with what is in a folder."""
    make_empty(image, size)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-d", folder, image)
    return image


def wanted(*paths: Path, inside: tuple[str, ...] = (), view: View = View.AUTO) -> Wanted:
    return Wanted(paths=tuple(os.fsencode(path) for path in paths), inside=inside, view=view)


def read_file(source: Source, name: str | None, path: bytes) -> bytes:
    with source.mount(source.choose(name)) as mounted, mounted.mount.open_file(path) as file:
        return file.read_at(0, file.size)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file, to be put into images."""
    made = tmp_path / "folder"
    made.mkdir()
    (made / "known").write_bytes(noise(100_000, 5))
    return made


def wrap(image: Path, name: str, size: int) -> Path:
    """An ext4 that holds an image as a file."""
    holder = image.parent / f"in-{name}"
    holder.mkdir()
    os.link(image, holder / name)
    return make_ext4(holder, image.parent / f"{name}.outer", size)


@nested
def test_an_image_within_an_image_within_an_image(
    tmp_path: Path, folder: Path, unchanged: Callable[[Path], Path]
) -> None:
    raw = make_ext4(folder, tmp_path / "inner.img", 4 * MIB)
    run_tool("qemu-img", "convert", "-O", "qcow2", "-c", raw, tmp_path / "inner.qcow2")
    middle = wrap(tmp_path / "inner.qcow2", "inner.qcow2", 8 * MIB)
    run_tool("qemu-img", "convert", "-O", "vmdk", middle, tmp_path / "middle.vmdk")
    outer = unchanged(wrap(tmp_path / "middle.vmdk", "middle.vmdk", 16 * MIB))
    with Source(wanted(outer, inside=("/middle.vmdk", "0:/inner.qcow2"))) as source:
        assert source.image.format == "qcow2"
        assert source.image.path.endswith("/middle.vmdk: /inner.qcow2")
        assert read_file(source, None, b"/known") == (folder / "known").read_bytes()


@nested
def test_what_an_image_within_names_is_looked_for_in_the_image_only(
    tmp_path: Path, folder: Path
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    make_ext4(folder, files / "base.raw", 4 * MIB)
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw",
             files / "good.qcow2")  # fmt: skip
    # Of the host, and there; but not in the image.
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", files / "base.raw", "-F", "raw",
             files / "bad.qcow2")  # fmt: skip
    outer = make_ext4(files, tmp_path / "outer.img", 16 * MIB)
    with Source(wanted(outer, inside=("/good.qcow2",))) as source:
        assert read_file(source, None, b"/known") == (folder / "known").read_bytes()
    with pytest.raises(MissingPart, match="bad"):
        Source(wanted(outer, inside=("/bad.qcow2",)))


@nested
@pytest.mark.parametrize(
    ("inside", "code"),
    [
        (("/nothing",), "source.missing"),
        (("/empty",), "source.empty"),
        (("/folder",), "source.unreadable"),
        (("9:/known",), "volume.missing"),
        (("/known",) * (NESTING_LIMIT + 1), "volume.nesting"),
    ],
)
def test_what_cannot_be_opened_within_is_named(
    tmp_path: Path, folder: Path, inside: tuple[str, ...], code: str
) -> None:
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    outer = make_ext4(folder, tmp_path / "outer.img", 4 * MIB)
    with pytest.raises((SourceError, VolumeError)) as caught:
        Source(wanted(outer, inside=inside))
    assert caught.value.code == code
    assert "{" not in describe(caught.value)


def names(stack: Stack) -> list[str]:
    return [volume.name for volume in stack.volumes() if volume.content]


@pytest.mark.proves("volume", "partition table", "on a partition of another")
def test_partitions_in_a_partition(tmp_path: Path, folder: Path) -> None:
    # A whole disk with two partitions, itself the second partition of a disk.
    inner = tmp_path / "inner.img"
    make_empty(inner, 12 * MIB)
    run_tool("sfdisk", "-q", inner, text="label: gpt\nstart=2048,size=8192\nsize=8192\n")
    for start, label in ((2048, "one"), (10240, "two")):
        part = make_ext4(folder, tmp_path / label, 4 * MIB, label)
        run_tool("dd", f"if={part}", f"of={inner}", "bs=512", f"seek={start}", "conv=notrunc")
    outer = tmp_path / "outer.img"
    make_empty(outer, 16 * MIB)
    run_tool("sfdisk", "-q", outer, text="label: dos\nstart=2048,size=1024\nstart=4096\n")
    run_tool("dd", f"if={inner}", f"of={outer}", "bs=512", "seek=4096", "conv=notrunc")
    with Source(wanted(outer)) as source:
        assert names(source.stack) == ["2.1", "2.2"]
        assert [name for name, _table in source.stack.tables()] == ["0", "2"]
        for name in ("2.1", "2.2", "two"):
            assert read_file(source, name, b"/known") == (folder / "known").read_bytes()


def test_several_images_have_names_of_their_own(tmp_path: Path, folder: Path) -> None:
    one = make_ext4(folder, tmp_path / "one.img", 4 * MIB, "one")
    two = make_ext4(folder, tmp_path / "two.img", 4 * MIB, "two")
    with Source(wanted(one, two)) as source:
        assert names(source.stack) == ["0", "2:0"]
        numbers = [volume.number for volume in source.stack.volumes()]
        assert len(set(numbers)) == len(numbers)
        for name in ("2:0", "two", str(numbers[-1])):
            assert source.choose(name).label == "two"
        with pytest.raises(VolumeError) as caught:
            source.choose(None)
        assert caught.value.code == "volume.choose"


@pytest.mark.parametrize("view", list(View))
def test_a_clean_file_system_is_the_same_in_every_view(
    tmp_path: Path, folder: Path, view: View, unchanged: Callable[[Path], Path]
) -> None:
    image = unchanged(make_ext4(folder, tmp_path / "clean.img", 4 * MIB))
    with Source(wanted(image, view=view)) as source:
        assert source.stack.view is view
        assert read_file(source, None, b"/known") == (folder / "known").read_bytes()
        (disk,) = source.stack.disks
        assert disk.statistics().overlay_bytes == 0
        assert disk.statistics().write_errors == 0


@pytest.mark.proves("format", "all formats", "disks of 2 TiB, 16 TiB and 8 EiB less 4 KiB")
@pytest.mark.parametrize("size", [2 << 40, 16 << 40, (8 << 60) - 4096], ids=str)
def test_the_largest_disks(tmp_path: Path, folder: Path, size: int) -> None:
    # Nothing but zeros, and a file system at the very end.
    end = make_ext4(folder, tmp_path / "end.raw", 4 * MIB)
    sectors = size // 512
    (tmp_path / "disk.vmdk").write_text(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
        'createType="custom"\n'
        f'RW {sectors - 8192} ZERO\nRW 8192 FLAT "end.raw" 0\n'
    )
    with (
        open_image(tmp_path / "disk.vmdk") as image,
        Kernel() as kernel,
        kernel.add_disk(image) as disk,
    ):
        device = disk.device()
        assert image.size == device.size() == size
        assert device.read(size - 4 * MIB, 4 * MIB) == end.read_bytes()
        assert not any(device.read(0, MIB))
        assert not any(device.read(size // 2, MIB))
        last = Target(0, 8192, "linear", b"%b %d" % (device.path, sectors - 8192))
        with (
            map_device(kernel, b"end", [last]) as mapped,
            mapped.mount("ext4") as mount,
            mount.open_file(b"/known") as file,
        ):
            assert file.read_at(0, file.size) == (folder / "known").read_bytes()
