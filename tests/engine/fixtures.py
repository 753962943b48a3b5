# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images that several rooms' tests use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.images import make_crowd, make_disk, make_ext4, make_tree

if TYPE_CHECKING:
    from pathlib import Path

CROWD = 20_000


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the images are."""
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="session")
def tree(image_folder: Path) -> Path:
    """What is in the ext4, as a folder of the host."""
    folder = image_folder / "tree"
    make_tree(folder)
    return folder


@pytest.fixture(scope="session")
def ext4_image(image_folder: Path, tree: Path) -> Path:
    """An ext4 without a partition table."""
    image = image_folder / "ext4.img"
    make_ext4(tree, image)
    return image


@pytest.fixture(scope="session")
def disk_image(image_folder: Path, ext4_image: Path) -> Path:
    """A disk with an ext4, an encrypted and an unknown partition."""
    image = image_folder / "disk.img"
    make_disk(ext4_image, image)
    return image


@pytest.fixture(scope="session")
def crowd_image(image_folder: Path) -> Path:
    """A SquashFS with one folder of many files."""
    image = image_folder / "crowd.img"
    make_crowd(image_folder, image, CROWD)
    return image
