# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images in several files, cut by split(1) as the tools that write them do."""

from __future__ import annotations

import gzip
import resource
import shutil
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import (
    CorruptImage,
    ImageError,
    MissingPart,
    SourceError,
    UnsupportedFeature,
)
from explorer.core.extents import ExtentKind
from explorer.images.files import Folder, HostFile, HostFolder, SourceFile
from explorer.images.opening import Choices
from explorer.images.registry import open_file, open_image
from explorer.images.split import following_endings
from tests.images.checks import check_described, check_image, check_refused_or_read
from tests.images.content import convert, convert_back, make_disk
from tests.trees import noise, run_tool, sha256
from tests.volumes.truth import IMAGES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20
SIZE = 3 * MIB + 1000


def cut(raw: Path, prefix: str, *options: str) -> list[Path]:
    """The parts of a file."""
    run_tool("split", *options, raw, str(raw.with_name(prefix)))
    return sorted(raw.parent.glob(prefix + "*"))


def refused(path: Path) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(path)
    check_described(caught.value)
    return caught.value


@pytest.mark.proves("format", "split", ".001, .000, .aa and so on")
@pytest.mark.parametrize(
    "options",
    [
        ("--numeric-suffixes=1", "-a", "3", "-b", "1M"),
        ("--numeric-suffixes=0", "-a", "3", "-b", "700000"),
        ("--numeric-suffixes=1", "-a", "5", "-b", "1M"),
        ("-b", "123456"),
        ("-a", "3", "-b", "1M"),
        # More than 26 parts, and the last of one byte.
        ("-b", "104857"),
    ],
)
def test_parts_are_one_disk(
    options: tuple[str, ...], tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    raw = make_disk(tmp_path / "raw", SIZE, 300_000)
    parts = cut(raw, "disk.img.", *options)
    for part in parts:
        unchanged(part)
    with open_image(parts[0]) as image:
        assert image.format == "split"
        assert image.facts() == {"parts": len(parts)}
        assert image.path == str(parts[0])
        assert image.plain_file() is None
        check_image(image, raw)
        descriptors = {
            extent.descriptor
            for extent in image.extents(0, image.size)
            if extent.kind is ExtentKind.DATA
        }
        assert len(descriptors) > 1
    # The parts by themselves, for whoever wants that.
    with open_image(parts[0], "raw") as image:
        assert image.size == parts[0].stat().st_size


def test_more_numbers_than_the_width_has(tmp_path: Path) -> None:
    content = noise(1002, 1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number, byte in enumerate(content):
        (tmp_path / f"disk.{number + 1:03}").write_bytes(bytes((byte,)))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    try:
        with open_image(tmp_path / "disk.001") as image:
            assert image.facts() == {"parts": 1002}
            assert image.read(0, 2000) == content
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_more_parts_than_files_may_be_open_are_refused(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(1, 300):
        (tmp_path / f"disk.{number:03}").write_bytes(b"x")
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        with pytest.raises(SourceError) as caught:
            open_image(tmp_path / "disk.001")
        check_described(caught.value)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.proves("format", "split", ".001, .000, .aa and so on")
@pytest.mark.parametrize(
    ("ending", "following"),
    [
        (b"001", [b"002"]),
        (b"009", [b"010"]),
        (b"999", [b"1000"]),
        (b"1000", [b"1001"]),
        (b"aa", [b"ab"]),
        (b"az", [b"ba"]),
        (b"yz", [b"za", b"zaaa"]),
        (b"zaaa", [b"zaab"]),
        (b"zyzz", [b"zzaa", b"zzaaaa"]),
        (b"zz", []),
    ],
)
def test_endings_in_order(ending: bytes, following: list[bytes]) -> None:
    assert following_endings(ending) == following


def test_letters_become_longer(tmp_path: Path) -> None:
    content = noise(700, 1)
    raw = tmp_path / "raw"
    raw.write_bytes(content)
    parts = cut(raw, "disk.", "-b", "1")
    assert len(parts) == 700
    assert parts[650].name == "disk.zaaa"
    with open_image(parts[0]) as image:
        assert image.facts() == {"parts": 700}
        assert image.read(0, 1000) == content


def test_parts_of_different_sizes(tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "raw", 100_000, 7000)
    content = raw.read_bytes()
    at = 0
    for number, size in enumerate((1, 50_000, 511, 40_000, 9488)):
        (tmp_path / f"disk.{number:03}").write_bytes(content[at : at + size])
        at += size
    with open_image(tmp_path / "disk.000") as image:
        check_image(image, raw)


def test_a_single_part_is_what_it_is(tmp_path: Path) -> None:
    for name in ("disk.001", "disk.000", "disk.aa", "disk.aaa"):
        path = tmp_path / name
        path.write_bytes(noise(5000, 1))
        with open_image(path) as image:
            assert (image.format, image.size) == ("raw", 5000)
            assert image.plain_file() is not None
        path.unlink()
    raw = make_disk(tmp_path / "raw", MIB, 300_000)
    path = convert(raw, tmp_path / "disk.001", "qcow2")
    with open_image(path) as image:
        assert image.format == "qcow2"
        check_image(image, raw)
    # Other files beside do not matter.
    for name in ("disk.0002", "disk.20241231", "disk.gz", "disk.md", "other.002", "disk.2"):
        (tmp_path / name).write_bytes(b"x")
    with open_image(path) as image:
        assert image.format == "qcow2"
    shutil.copyfile(path, tmp_path / "disk.aa")
    with open_image(tmp_path / "disk.aa") as image:
        assert image.format == "qcow2"


@pytest.mark.proves("format", "split", "missing part named")
@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("disk.001", "disk.003"), "disk.002"),
        (("disk.000", "disk.001", "disk.900"), "disk.002"),
        (("disk.aa", "disk.ab", "disk.ad"), "disk.ac"),
        (("disk.aa", "disk.az"), "disk.ab"),
    ],
)
def test_a_missing_part_is_named(names: tuple[str, ...], missing: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_bytes(noise(1000, 1))
    error = refused(tmp_path / names[0])
    assert isinstance(error, MissingPart)
    assert (error.params["role"], error.params["name"]) == ("part", missing)


def test_the_second_part_leads_to_the_first(tmp_path: Path) -> None:
    for name in ("disk.000", "disk.001", "disk.002"):
        (tmp_path / name).write_bytes(noise(1000, 1))
    error = refused(tmp_path / "disk.001")
    assert isinstance(error, UnsupportedFeature)
    assert (error.code, error.params["name"]) == ("image.part", "disk.000")
    with open_image(tmp_path / "disk.001", "raw") as image:
        assert image.size == 1000


@pytest.mark.proves("format", "split", "any format in parts")
def test_what_is_cut_may_be_an_image_of_another_format(tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "raw", SIZE // 512 * 512, 300_000)
    for kind, options in (("qcow2", ()), ("vpc", ("subformat=fixed", "force_size=on"))):
        path = convert(raw, tmp_path / f"disk.{kind}", kind, *options)
        parts = cut(path, f"{kind}.", "--numeric-suffixes=1", "-a", "3", "-b", "300000")
        with open_image(parts[0]) as image:
            assert image.format == ("qcow2" if kind == "qcow2" else "vhd")
            assert image.facts()["parts"] == len(parts)
            check_image(image, raw)
            assert ExtentKind.DATA in {extent.kind for extent in image.extents(0, image.size)}
    (tmp_path / "disk.gz").write_bytes(gzip.compress(raw.read_bytes(), 1))
    parts = cut(tmp_path / "disk.gz", "disk.img.gz.", "-b", "300000")
    with open_image(parts[0]) as image:
        check_image(image, raw)
    # As it is, for whoever names the format.
    with open_image(parts[0], "split") as image:
        assert image.read(0, image.size) == (tmp_path / "disk.gz").read_bytes()


def test_a_snapshot_in_what_is_cut_is_chosen(tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "raw", MIB, 300_000)
    inner = convert(raw, tmp_path / "inner", "qcow2")
    run_tool("qemu-img", "snapshot", "-c", "before", inner)
    run_tool("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", str(inner))
    parts = cut(inner, "disk.", "-b", "300000")
    with open_image(parts[0], choices=Choices(snapshot="before")) as image:
        check_image(image, raw)
    # One that a raw disk does not have.
    parts = cut(raw, "raw.", "-b", "300000")
    with pytest.raises(UnsupportedFeature):
        open_image(parts[0], choices=Choices(snapshot="before"))


def test_parts_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "disk.001").write_bytes(noise(1000, 1))
    (tmp_path / "disk.002").touch()
    with pytest.raises(SourceError) as caught:
        open_image(tmp_path / "disk.001")
    assert "disk.002" in str(caught.value.params["path"])
    (tmp_path / "disk.002").unlink()
    # A link that leads out of the folder.
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (tmp_path / "disk.002").symlink_to(tmp_path / "disk.001")
    with open_image(tmp_path / "disk.001") as image:
        assert image.size == 2000
    (folder / "disk.001").write_bytes(noise(1000, 1))
    (folder / "disk.002").symlink_to(tmp_path / "disk.001")
    assert refused(folder / "disk.001").code == "image.consent"
    with open_image(folder / "disk.001", choices=Choices(allowed=(bytes(tmp_path),))) as image:
        assert image.size == 2000


class Unlisted(Folder):
    """A folder whose names nobody tells, as a server's."""

    def __init__(self, path: Path) -> None:
        """Of what is in ``path``."""
        self._folder = HostFolder(bytes(path))

    def open(self, name: bytes, role: str, owner: str) -> tuple[SourceFile, Folder]:
        """Open a file by its name."""
        return self._folder.open(name, role, owner)

    def names(self) -> list[bytes]:
        """None are told."""
        return []


def test_parts_in_a_folder_that_is_not_listed(tmp_path: Path) -> None:
    raw = make_disk(tmp_path / "raw", SIZE, 300_000)
    parts = cut(raw, "disk.", "--numeric-suffixes=1", "-a", "3", "-b", "1M")
    with open_file(HostFile(parts[0]), Unlisted(tmp_path), Choices(), b"disk.001") as image:
        assert image.facts() == {"parts": 4}
        check_image(image, raw)


@pytest.mark.proves("format", "split", "real images")
def test_a_real_split_image(tmp_path: Path) -> None:
    source = IMAGES / "dfvfs" / "ext2.splitraw.000"
    if not source.exists():
        pytest.skip(f"needs {source}")
    whole = tmp_path / "whole"
    with open_image(source) as image:
        assert image.facts() == {"parts": 2}
        whole.write_bytes(image.read(0, image.size))
    # The same disk as in another container.
    other = convert_back(IMAGES / "dfvfs" / "ext2.qcow2", tmp_path / "raw", "qcow2")
    assert sha256(whole) == sha256(other)
    with pytest.raises(UnsupportedFeature):
        open_image(source.with_suffix(".001"))


def test_a_chosen_format_does_not_need_the_name(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(noise(1000, 1))
    with open_image(path, "split") as image:
        assert image.read(0, 1000) == noise(1000, 1)
    assert check_refused_or_read(path, Choices(format="split"))


def test_a_part_that_becomes_shorter_is_an_error(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"disk.00{number}").write_bytes(noise(1000, number))
    with open_image(tmp_path / "disk.001") as image:
        (tmp_path / "disk.002").write_bytes(b"")
        assert image.read(0, 1000) == noise(1000, 1)
        with pytest.raises((SourceError, CorruptImage)) as caught:
            image.read(0, 2000)
        check_described(caught.value)
