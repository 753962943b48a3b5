# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems that no tool here makes: images of our own, read by Linux and by other readers."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from tests.trees import mount_facts, read_by_grub, run_tool
from tests.volumes.handmade import (
    DIRECTORY_MODE,
    FILE_MODE,
    FILES,
    LINK,
    LINK_MODE,
    LONG_NAME,
    MOMENT,
    TARGET,
    affs,
    befs,
    handmade,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.volumes import MountedVolume
    from tests.volumes.handmade import Handmade

SECOND = 10**9


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(
            image,
            id=f"{image.name}-{image.feature}",
            marks=pytest.mark.proves(
                "file system", image.name, f"{image.feature} (an image of our own)"
            ),
        )
        for image in handmade()
    ],
)
def test_what_was_written_by_its_description_is_read(
    image: Handmade, tmp_path: Path, mounted: Callable[[Path], MountedVolume]
) -> None:
    path = tmp_path / "image"
    path.write_bytes(image.content)
    volume = mounted(path)
    assert volume.kind == image.kind
    found = mount_facts(volume.mount)
    # QNX4's bitmap is a file like others.
    names = found.keys() - {b"", b".bitmap"}
    wanted = {name.encode(): content for name, content in FILES.items()}
    if image.name == "qnx6":
        wanted[LONG_NAME.encode()] = b"long\n"
    assert names == wanted.keys() | {b"folder", LINK.encode()}
    for name, content in wanted.items():
        with volume.mount.open_file(name) as file:
            assert file.read_at(0, len(content) + 1) == content
    assert volume.mount.read_link(LINK.encode()) == TARGET
    with volume.mount.open_file(LINK.encode()) as file:
        assert file.read_at(0, 100) == b"leaf\n"
    for name in names:
        one = found[name]
        kind = {b"folder": DIRECTORY_MODE, LINK.encode(): LINK_MODE}.get(name, FILE_MODE)
        assert one.type == stat.S_IFMT(kind) >> 12
        if not (image.name == "hpfs" and name == LINK.encode()):
            assert one.modify_ns == MOMENT * SECOND
        if image.owners:
            assert (one.mode, one.uid, one.gid) == (stat.S_IMODE(kind), 12, 34)


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "old"])
def test_unadf_reads_the_amiga_disk(fast: bool, tmp_path: Path) -> None:
    image = tmp_path / "image.adf"
    image.write_bytes(affs(fast=fast))
    (tmp_path / "unpacked").mkdir()
    run_tool("unadf", image, "-d", tmp_path / "unpacked")
    for name, content in FILES.items():
        assert (tmp_path / "unpacked" / name).read_bytes() == content


def test_grub_reads_the_disk_of_befs(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(befs())
    for name, content in FILES.items():
        assert read_by_grub(image, f"/{name}") == content
