# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""One image, opened with a kernel of its own, for the length of a command."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from explorer.cli.output import print_note
from explorer.images.registry import open_image
from explorer.kernel import Kernel
from explorer.volumes import ImageDisk, select_volume

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from explorer.images.base import Image
    from explorer.volumes import MountedVolume


@contextmanager
def open_disk(arguments: Namespace) -> Iterator[tuple[Image, ImageDisk]]:
    """The image, and its disk in a running kernel."""
    with (
        open_image(arguments.image, arguments.format) as image,
        Kernel() as kernel,
        ImageDisk(kernel, image) as disk,
    ):
        yield image, disk


@contextmanager
def open_volume(arguments: Namespace) -> Iterator[MountedVolume]:
    """The volume that the arguments name, mounted."""
    with open_disk(arguments) as (image, disk):
        volume = select_volume(image.path, disk.volumes(), arguments.volume)
        with disk.mount(volume) as mounted:
            if mounted.as_stored:
                print_note("volume.as-stored", disk.name(volume))
            elif mounted.recovered:
                print_note("volume.recovered", disk.name(volume))
            yield mounted
