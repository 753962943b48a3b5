# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``info``, ``stat`` and ``cat``. Each returns the exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from explorer.cli.codes import DONE
from explorer.cli.output import json_entry, json_name, print_json, stat_lines
from explorer.cli.session import open_disk, open_volume
from explorer.core.entries import FileType
from explorer.core.errors import UnknownFormat
from explorer.volumes.disk import show_size, volume_lines

if TYPE_CHECKING:
    from argparse import Namespace


def info(arguments: Namespace) -> int:
    """What the image is, and its volumes."""
    with open_disk(arguments) as (image, disk):
        volumes = disk.volumes()
        if not volumes:
            raise UnknownFormat("image.not-an-image", path=image.path)
        if arguments.json:
            print_json(
                {
                    "image": {"path": image.path, "format": image.format, "size": image.size},
                    "volumes": [volume.to_wire() for volume in volumes],
                }
            )
        else:
            print(f"{image.path}: {image.format}, {show_size(image.size)} ({image.size} bytes)")
            print(volume_lines(volumes))
    return DONE


def join(folder: bytes, name: bytes) -> bytes:
    """A path of a folder and a name in it."""
    return folder.rstrip(b"/") + b"/" + name


def split(path: bytes) -> tuple[bytes, bytes]:
    """The folder that a path leads through, and the name in it; the root has none."""
    folder, _, name = path.rstrip(b"/").rpartition(b"/")
    return folder or b"/", name


def stat(arguments: Namespace) -> int:
    """All that is known of an entry; a link's own."""
    path = os.fsencode(arguments.path)
    with open_volume(arguments) as mounted:
        mount = mounted.mount
        entry = mount.stat(path)
        target = mount.read_link(path) if entry.type == FileType.LINK else None
        xattrs = mount.read_xattrs(path)
        if arguments.json:
            shown = {
                "volume": mounted.volume.number,
                **json_name(path, "path"),
                **json_entry(entry),
                "xattrs": [
                    {**json_name(name), "value_hex": value.hex()}
                    for name, value in sorted(xattrs.items())
                ],
            }
            if target is not None:
                shown |= json_name(target, "target")
            print_json(shown)
        else:
            print("\n".join(stat_lines(path, entry, target, xattrs)))
    return DONE


def cat(arguments: Namespace) -> int:
    """Write a file's bytes to the output; links are followed."""
    path = os.fsencode(arguments.path)
    with open_volume(arguments) as mounted, mounted.mount.open_file(path) as file:
        if arguments.json:
            print_json(
                {
                    "volume": mounted.volume.number,
                    **json_name(path, "path"),
                    "content_hex": file.read_at(0, file.size).hex(),
                }
            )
        else:
            sys.stdout.flush()
            # Called between pieces, it lets Ctrl-C through.
            file.copy_to_fd(sys.stdout.fileno(), progress=lambda _count: False)
    return DONE
