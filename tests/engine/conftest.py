# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the engine's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.fixtures import crowd_image, disk_image, ext4_image, image_folder, tree
from tests.engine.process import EngineProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["crowd_image", "disk_image", "engine", "ext4_image", "image_folder", "tree"]


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    """A real engine, asked over its pipe; it must end by itself and in order."""
    with EngineProcess() as process:
        yield process
        # Shown beside a test that fails.
        print(process.story())
