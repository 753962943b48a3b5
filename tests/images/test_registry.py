# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Which format a source is opened with."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.errors import UnsupportedFeature
from explorer.core.messages import describe
from explorer.images.registry import FORMATS, Ends, open_image, recognise_container
from tests.trees import find_tool, make_empty, noise, run_tool

if TYPE_CHECKING:
    from pathlib import Path


def test_a_plain_file_is_raw(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(noise(5000, 7))
    with open_image(path) as image:
        assert (image.format, image.size) == ("raw", 5000)
        assert image.plain_file() is not None


@pytest.mark.parametrize(
    ("compressed", "title"),
    [
        (b"\x04\x22\x4d\x18" + bytes(1000), "lz4"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(1000), "7-Zip"),
    ],
)
def test_a_compressed_file_is_refused_by_its_name(
    compressed: bytes, title: str, tmp_path: Path
) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(compressed)
    with pytest.raises(UnsupportedFeature) as caught:
        open_image(path)
    assert title in describe(caught.value)
    assert "disk.img" in describe(caught.value)
    # Somebody who knows better may insist.
    with open_image(path, "raw") as image:
        assert image.size == len(compressed)


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("qed", "QED"),
        ("vmdk", "VMDK"),
        ("vdi", "VDI"),
        ("vhdx", "VHDX"),
        ("vpc", "VHD"),
        ("parallels", "Parallels"),
    ],
)
def test_a_container_is_refused_by_its_name(kind: str, title: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    done = subprocess.run(
        [find_tool("qemu-img"), "create", "-q", "-f", kind, path, "16M"], check=False
    )
    if done.returncode:
        pytest.skip(f"this qemu-img makes no {kind}")
    with pytest.raises(UnsupportedFeature) as caught:
        open_image(path)
    assert title in describe(caught.value)


def test_a_fixed_vhd_is_known_by_its_end(tmp_path: Path) -> None:
    path = make_empty(tmp_path / "disk", 4096)
    with path.open("r+b") as file:
        file.seek(4096 - 512)
        file.write(b"conectix")
    with pytest.raises(UnsupportedFeature):
        open_image(path)


def test_a_disk_is_not_taken_for_a_container(tmp_path: Path) -> None:
    path = make_empty(tmp_path / "disk", 8 << 20)
    run_tool("mke2fs", "-q", "-F", path)
    with open_image(path) as image:
        assert image.format == "raw"


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        open_image(tmp_path / "disk", "floppy")
    text = describe(caught.value)
    assert "floppy" in text
    assert "raw" in text


@given(st.binary(max_size=2000), st.binary(max_size=512))
def test_no_bytes_make_a_probe_fail(head: bytes, tail: bytes) -> None:
    ends = Ends(head, tail, len(head))
    assert isinstance(recognise_container(ends), str)
    assert all(known.probe(ends) >= 0 for known in FORMATS)
