# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks to put into images: raw files with data, zeros that are stored, and holes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.trees import noise, run_tool

if TYPE_CHECKING:
    from pathlib import Path


def make_disk(path: Path, size: int, unit: int, seed: int = 1) -> Path:
    """A raw disk of which some units are full, some in part, and every third is a hole."""
    with path.open("wb") as file:
        for number, start in enumerate(range(0, size, unit)):
            length = min(unit, size - start)
            file.seek(start)
            if number % 3 == 0:
                file.write(noise(length, seed + number))
            elif number % 3 == 1:
                # Begins and ends inside a sector, and inside the unit.
                file.seek(length // 3, 1)
                file.write(noise(length // 2, seed + number))
        file.truncate(size)
    return path


def convert(raw: Path, image: Path, kind: str, *options: str) -> Path:
    """An image made of a raw disk by qemu-img."""
    given = ["-o", ",".join(options)] if options else []
    run_tool("qemu-img", "convert", "-f", "raw", "-O", kind, *given, str(raw), str(image))
    return image


def convert_back(image: Path, raw: Path, kind: str) -> Path:
    """A raw disk made of an image by qemu-img."""
    run_tool("qemu-img", "convert", "-f", kind, "-O", "raw", str(image), str(raw))
    return raw
