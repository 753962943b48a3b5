# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the tests of the program's interface for others."""

from __future__ import annotations

from tests.engine.fixtures import crowd_image, disk_image, ext4_image, image_folder, tree

__all__ = ["crowd_image", "disk_image", "ext4_image", "image_folder", "tree"]
