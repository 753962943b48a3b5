# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``info``, ``stat`` and ``cat``. Each returns the exit code."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from explorer.cli.codes import DONE, SOME_FAILED
from explorer.cli.output import json_image, print_error, print_json, stat_lines
from explorer.cli.session import open_source, open_volume
from explorer.core.entries import FileType
from explorer.core.errors import KernelError, UnknownFormat, VolumeError
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.core.objects import json_entry, json_name
from explorer.core.selection import volume_lines
from explorer.volumes.facts import fact_lines, image_lines

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable

    from explorer.core.entries import Entry
    from explorer.images.base import Fact
    from explorer.kernel import File
    from explorer.volumes import MountedVolume
    from explorer.volumes.ntfs_streams import Stream


def info(arguments: Namespace) -> int:
    """What the image is, and its volumes."""
    with open_source(arguments) as source:
        stack = source.stack
        if arguments.unlock:
            source.unlock_all()
        for volume in stack.volumes():
            try:
                stack.find_subvolumes(volume)
            except (KernelError, VolumeError) as error:
                # One that cannot be mounted hides nothing else that is known.
                if error.code == "kernel.ended":
                    raise
                print_error(describe(error))
        volumes = stack.volumes()
        if not volumes:
            raise UnknownFormat("image.not-an-image", path=source.image.path)
        if arguments.json:
            print_json(
                {
                    "images": [json_image(image) for image in stack.images],
                    "view": stack.view.value,
                    "tables": [
                        {"volume": name, "type": table.kind, "facts": table.facts}
                        for name, table in stack.tables()
                    ],
                    "volumes": [
                        {**volume.to_wire(), "facts": stack.facts(volume)} for volume in volumes
                    ],
                }
            )
        else:
            for image in stack.images:
                print("\n".join(image_lines(image)))
            for name, table in stack.tables():
                print("\n".join([f"  {name}: {table.title}", *_indented(table.facts)]))
            print(volume_lines(volumes))
            for volume in volumes:
                if facts := stack.facts(volume):
                    print("\n".join([f"  {volume.name}: {volume.title}", *_indented(facts)]))
    return DONE


def _indented(facts: dict[str, Fact]) -> list[str]:
    return [f"    {line}" for line in fact_lines(facts)]


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
        streams: list[Stream] = []
        code = DONE
        try:
            streams = list_streams(mounted, entry)
        except VolumeError as error:
            print_error(f"{show_name(path)}: {describe(error)}")
            code = SOME_FAILED
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
            if streams:
                shown["streams"] = [
                    {**stream._asdict(), **json_name(stream.name)} for stream in streams
                ]
            print_json(shown)
        else:
            print("\n".join(stat_lines(path, entry, target, xattrs, streams)))
    return code


def list_streams(mounted: MountedVolume, entry: Entry) -> list[Stream]:
    """The named streams of an entry, where its file system has such; raises VolumeError."""
    if mounted.kind != "ntfs3":
        return []
    from explorer.volumes import ntfs_streams

    return ntfs_streams.list_streams(mounted.window(), entry.inode)


def read_stream(mounted: MountedVolume, path: bytes) -> Iterable[bytes] | None:
    """The stream that ``PATH:STREAM`` names; None where there is none of that name."""
    base, separator, name = path.rpartition(b":")
    if mounted.kind != "ntfs3" or not separator or not base or not name:
        return None
    from explorer.volumes import ntfs_streams

    entry = mounted.mount.stat(base, follow=True)
    return ntfs_streams.read_stream(mounted.window(), entry.inode, name)


def cat(arguments: Namespace) -> int:
    """Write a file's bytes to the output; links are followed."""
    path = os.fsencode(arguments.path)
    with open_volume(arguments) as mounted, ExitStack() as closing:
        file: File | None = None
        stream: Iterable[bytes] | None = None
        try:
            file = closing.enter_context(mounted.mount.open_file(path))
        except KernelError as error:
            stream = read_stream(mounted, path) if error.name == "ENOENT" else None
            if stream is None:
                raise
        if arguments.json:
            content = file.read_at(0, file.size) if file else b"".join(stream or ())
            print_json(
                {
                    "volume": mounted.volume.number,
                    **json_name(path, "path"),
                    "content_hex": content.hex(),
                }
            )
        elif file:
            sys.stdout.flush()
            # Called between pieces, it lets Ctrl-C through.
            file.copy_to_fd(sys.stdout.fileno(), progress=lambda _count: False)
        else:
            sys.stdout.buffer.writelines(stream or ())
    return DONE
