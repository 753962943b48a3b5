# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Which format a source is opened with."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.errors import ImageError, SourceError, UnsupportedFeature
from explorer.core.messages import describe
from explorer.images.files import HostFile
from explorer.images.opening import Choices
from explorer.images.registry import (
    FORMATS,
    Ends,
    find_format,
    format_names,
    open_image,
    read_ends,
    recognise_container,
    recognise_format,
)
from tests.images import test_dmg
from tests.images.checks import check_described
from tests.images.content import convert
from tests.images.test_ova import description
from tests.trees import make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 1 << 20

# ---- An image of each format, by its tool ------------------------------------------------------


def by_qemu(kind: str, *options: str) -> Callable[[Path, Path], Path]:
    """Made of a raw disk by qemu-img."""
    return lambda raw, folder: convert(raw, folder / kind, kind, *options)


def by_filter(*command: str) -> Callable[[Path, Path], Path]:
    """Packed by a tool that writes to its output."""

    def make(raw: Path, folder: Path) -> Path:
        target = folder / command[0]
        run_tool("sh", "-c", f'{" ".join(command)} < "$0" > "$1"', raw, target)
        return target

    return make


def split(raw: Path, folder: Path) -> Path:
    """Cut in three by the tool of that name."""
    run_tool("split", "-b", "400000", "-d", "-a", "3", raw, f"{folder}/part.")
    return folder / "part.000"


def dmg(raw: Path, folder: Path) -> Path:
    """By the smallest writer: no tool here makes one."""
    run = test_dmg.Run(test_dmg.ZLIB, raw.read_bytes())
    return test_dmg.Dmg([[run]]).write(folder / "dmg")


def simg(raw: Path, folder: Path) -> Path:
    """By Android's img2simg."""
    run_tool("img2simg", raw, folder / "simg")
    return folder / "simg"


def ova(raw: Path, folder: Path) -> Path:
    """A streamed VMDK in an archive by tar(1)."""
    convert(raw, folder / "disk.vmdk", "vmdk", "subformat=streamOptimized")
    (folder / "machine.ovf").write_bytes(description(["disk.vmdk"]))
    path = folder / "ova"
    run_tool("tar", "-C", folder, "--format=ustar", "-cf", path, "machine.ovf", "disk.vmdk")
    return path


def ewf(raw: Path, folder: Path) -> Path:
    """By ewfacquire."""
    run_tool("ewfacquire", "-q", "-u", "-f", "encase6", "-t", str(folder / "ewf"), str(raw))
    return folder / "ewf.E01"


MADE: dict[str, Callable[[Path, Path], Path]] = {
    "raw": lambda raw, folder: Path(shutil.copyfile(raw, folder / "raw")),
    "split": split,
    "qcow": by_qemu("qcow"),
    "qcow2": by_qemu("qcow2"),
    "vdi": by_qemu("vdi"),
    "vhd": by_qemu("vpc", "force_size=on"),
    "vhdx": by_qemu("vhdx"),
    "vmdk": by_qemu("vmdk"),
    "parallels": by_qemu("parallels"),
    "dmg": dmg,
    "simg": simg,
    "ova": ova,
    "ewf": ewf,
    "gzip": by_filter("gzip"),
    "xz": by_filter("xz"),
    "zstd": by_filter("zstd", "-q"),
    "bzip2": by_filter("bzip2"),
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with a file system, so that something stands in it that might be mistaken."""
    path = make_empty(tmp_path_factory.mktemp("raw") / "disk", SIZE)
    run_tool("mke2fs", "-q", "-F", path)
    with path.open("r+b") as file:
        file.seek(SIZE // 2)
        file.write(noise(70_000, 1))
    return path


@pytest.fixture(scope="module")
def made(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """An image of the disk in each format, each made once."""
    paths: dict[str, Path] = {}

    def image(name: str) -> Path:
        if name not in paths:
            paths[name] = MADE[name](raw, tmp_path_factory.mktemp("image"))
        return paths[name]

    return image


def recognised(path: Path, name: bytes = b"") -> str:
    """The format that a file is opened with."""
    file = HostFile(path)
    try:
        return recognise_format(read_ends(file, name)).name
    finally:
        file.close()


def check_content(path: Path, raw: Path, choices: Choices) -> None:
    """An image holds the disk."""
    content = raw.read_bytes()
    with open_image(path, choices=choices) as image:
        # Fixed by some formats to whole cylinders, clusters or blocks.
        assert image.size >= len(content)
        assert image.read(0, len(content)) == content


EACH = pytest.mark.parametrize("name", format_names())
NOT_RAW = pytest.mark.parametrize("name", [name for name in format_names() if name != "raw"])


def test_there_is_an_image_of_each_format() -> None:
    assert list(MADE) == format_names()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.proves("format", name, "recognised by its content"))
        for name in format_names()
        if name != "split"
    ],
)
def test_a_format_is_recognised_by_its_content(
    name: str, raw: Path, made: Callable[[str], Path], tmp_path: Path
) -> None:
    path = made(name)
    assert recognised(path, path.name.encode()) == name
    check_content(path, raw, Choices())
    for other in ("disk", "disk.img", "disk.raw", "disk.qcow2", "disk.vmdk", "disk.gz"):
        assert recognised(path, other.encode()) == name
        copy = tmp_path / other
        copy.symlink_to(path)
        check_content(copy, raw, Choices())


@pytest.mark.proves("format", "split", "recognised by the name of its first part")
def test_parts_are_recognised_by_their_name(raw: Path, made: Callable[[str], Path]) -> None:
    path = made("split")
    assert recognised(path, path.name.encode()) == "split"
    check_content(path, raw, Choices())
    # Nothing in the bytes tells.
    assert recognised(path) == "raw"


@EACH
def test_a_format_that_is_named_is_taken(name: str, raw: Path, made: Callable[[str], Path]) -> None:
    check_content(made(name), raw, Choices(format=name))


@EACH
def test_what_is_named_raw_is_never_guessed_again(name: str, made: Callable[[str], Path]) -> None:
    path = made(name)
    with open_image(path, "raw") as image:
        assert image.format == "raw"
        assert image.size == path.stat().st_size
        assert image.read(0, image.size) == path.read_bytes()
        assert image.plain_file() is not None


@NOT_RAW
def test_a_disk_is_not_what_it_is_named(name: str, raw: Path) -> None:
    if name == "split":
        # One part by itself.
        check_content(raw, raw, Choices(format=name))
        return
    with pytest.raises(ImageError) as caught:
        open_image(raw, name)
    check_described(caught.value)
    assert str(raw) in describe(caught.value)


@NOT_RAW
def test_an_opener_is_there(name: str) -> None:
    module, _, function = find_format(name).opener.partition(":")
    assert callable(getattr(import_module(f"explorer.images.{module}"), function))


# ---- Raw, and names ----------------------------------------------------------------------------


def test_a_plain_file_is_raw(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(noise(5000, 7))
    with open_image(path) as image:
        assert (image.format, image.size) == ("raw", 5000)
        assert image.plain_file() is not None


def test_raw_comes_last(made: Callable[[str], Path]) -> None:
    zeros = Ends(bytes(65536), bytes(512), 1 << 20, b"disk")
    assert {known.name: known.probe(zeros) for known in FORMATS if known.probe(zeros)} == {"raw": 1}
    for name in MADE:
        file = HostFile(made(name))
        ends = read_ends(file, made(name).name.encode())
        file.close()
        assert find_format("raw").probe(ends) == 1
        others = [known.name for known in FORMATS if known.probe(ends) > 1]
        assert others == ([] if name == "raw" else [name])


def test_a_name_is_only_looked_at_for_parts(
    raw: Path, made: Callable[[str], Path], tmp_path: Path
) -> None:
    for name in ("disk.qcow2", "disk.E01", "disk.vhd", "disk.xz", "disk.dmg"):
        copy = tmp_path / name
        copy.symlink_to(raw)
        with open_image(copy) as image:
            assert image.format == "raw"
    # What only looks like the first of several.
    alone = tmp_path / "disk.001"
    shutil.copyfile(made("qcow2"), alone)
    with open_image(alone) as image:
        assert image.format == "qcow2"
        assert image.read(0, SIZE) == raw.read_bytes()


def test_an_empty_file_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.touch()
    with pytest.raises(SourceError) as caught:
        open_image(path)
    assert caught.value.code == "source.empty"


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        open_image(tmp_path / "disk", "floppy")
    text = describe(caught.value)
    assert "floppy" in text
    assert "raw" in text


# ---- What has no reader ------------------------------------------------------------------------

CONTAINERS: dict[str, tuple[bytes, str]] = {
    "encrypted DMG": (b"encrcdsa", "encrypted Apple disk image"),
    "sparse DMG": (b"sprs", "Apple sparse image"),
    "Bochs": (b"Bochs Virtual HD Image", "Bochs"),
    "L01": (b"LVF\x09\x0d\x0a\xff\x00", "L01"),
    "Ex01": (b"EVF2\x0d\x0a\x81\x00", "Ex01"),
    "Lx01": (b"LEF2\x0d\x0a\x81\x00", "Lx01"),
    "AFF": (b"AFF10\r\n\0", "AFF"),
    "partclone": (b"partclone-image", "partclone"),
    "ntfsclone": (b"\0ntfsclone-image", "ntfsclone"),
    "WIM": (b"MSWIM\0\0\0", "WIM"),
    "CHD": (b"MComprHD", "CHD"),
    "CISO": (b"CISO\0", "CISO"),
    "CD": (b"\0" + b"\xff" * 10 + b"\0", "raw sectors"),
    "RAR": (b"Rar!\x1a\x07\0", "RAR"),
}
"""What no tool here makes: its first bytes, and what its name must have in it."""

ARCHIVES = {
    "7-Zip": ("7z", "a", "-bso0", "-bsp0"),
    "ZIP": ("zip", "-q", "-j"),
    "tar": ("tar", "-P", "-cf"),
    "lz4": ("lz4", "-q", "-f"),
}


def check_refused(path: Path, title: str) -> None:
    """A container is refused by its name, unless somebody knows better."""
    with pytest.raises(UnsupportedFeature) as caught:
        open_image(path)
    check_described(caught.value)
    assert caught.value.code == "image.unsupported-format"
    assert title in describe(caught.value)
    assert str(path) in describe(caught.value)
    with open_image(path, "raw") as image:
        assert image.size == path.stat().st_size


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_without_a_reader_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    magic, title = CONTAINERS[name]
    path = tmp_path / "disk.img"
    path.write_bytes(magic.ljust(5000, b"\0"))
    check_refused(path, title)


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_refused_by_its_name(name: str, raw: Path, tmp_path: Path) -> None:
    tool, *options = ARCHIVES[name]
    # Two of them would add the ending of their own otherwise.
    path = tmp_path / f"disk.{tool}"
    first, second = (raw, path) if tool == "lz4" else (path, raw)
    run_tool(tool, *options, first, second)
    check_refused(path, name)


def test_a_qed_image_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    run_tool("qemu-img", "create", "-q", "-f", "qed", path, "16M")
    check_refused(path, "QED")


@given(st.binary(max_size=2000), st.binary(max_size=512))
def test_no_bytes_make_a_probe_fail(head: bytes, tail: bytes) -> None:
    ends = Ends(head, tail, len(head))
    assert isinstance(recognise_container(ends), str)
    assert all(known.probe(ends) >= 0 for known in FORMATS)
