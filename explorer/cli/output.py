# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the commands print."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from explorer.core.entries import TYPE_NAMES, mode_string
from explorer.core.messages import NOTES
from explorer.core.names import show_name
from explorer.core.objects import DEVICES, TIMES, entry_times
from explorer.core.times import iso_time, short_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from explorer.core.entries import Entry
    from explorer.images.base import Image
    from explorer.volumes.ntfs_streams import Stream


def print_json(value: object) -> None:
    """Print a JSON object; ASCII only, so that any terminal may see it."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_json_line(value: object) -> None:
    """Print a JSON object in one line, as one of many."""
    sys.stdout.write(json.dumps(value) + "\n")


def print_raw(names: Iterable[bytes]) -> None:
    """Print raw names, each followed by a NUL."""
    sys.stdout.flush()
    for name in names:
        sys.stdout.buffer.write(name + b"\0")


def print_error(text: str) -> None:
    """One line about what went wrong, on the error output."""
    sys.stdout.flush()
    sys.stderr.write(f"lkl-explorer: {text}\n")


def print_note(code: str, subject: str) -> None:
    """One line that is worth knowing, on the error output."""
    print_error(f"{subject}: {NOTES[code]}")


def show_link(name: str, target: bytes | None) -> str:
    """A name, and where it leads when it is a link."""
    return name if target is None else f"{name} -> {show_name(target)}"


def long_row(entry: Entry, target: bytes | None) -> bytes:
    """An entry's name and columns, each after a NUL; :func:`long_lines` makes lines of them."""
    row = b"%b\0%b\0%d\0%d\0%d\0%b\0%b" % (
        entry.name,
        mode_string(entry).encode(),
        entry.links,
        entry.uid,
        entry.gid,
        b"%d, %d" % (entry.special_major, entry.special_minor)
        if entry.type in DEVICES
        else b"%d" % entry.size,
        b"-" if entry.modify_ns is None else short_time(entry.modify_ns).encode(),
    )
    return row if target is None else row + b"\0" + show_name(target).encode()


def long_lines(rows: Sequence[bytes]) -> Iterator[str]:
    """Rows as ``ls -l`` shows them, in columns; times are UTC."""
    widths = [0] * 7
    for at in range(0, len(rows), 1000):
        table = zip(*(row.split(b"\0") for row in rows[at : at + 1000]), strict=False)
        longest = (max(map(len, column)) for column in table)
        widths = list(map(max, widths, longest))
    template = " ".join(f"%{width}s" for width in widths[1:]) + " %s"
    for row in rows:
        name, _, rest = row.partition(b"\0")
        mode, links, uid, gid, size, time, *target = rest.decode().split("\0")
        shown = show_name(name)
        if target:
            shown = f"{shown} -> {target[0]}"
        yield template % (mode, links, uid, gid, size, time, shown)


def stat_lines(
    path: bytes,
    entry: Entry,
    target: bytes | None,
    xattrs: dict[bytes, bytes],
    streams: Sequence[Stream],
) -> list[str]:
    """An entry with all that is known of it, a line each."""
    rows = [
        ("path", show_link(show_name(path), target)),
        ("type", TYPE_NAMES[entry.type]),
        ("size", f"{entry.size} bytes, {entry.blocks * 512} allocated"),
        ("mode", f"{mode_string(entry)} ({entry.mode & 0o7777:04o})"),
        ("owner", f"user {entry.uid}, group {entry.gid}"),
        ("inode", f"{entry.inode}, {entry.links} link{'' if entry.links == 1 else 's'}"),
    ]
    if entry.type in DEVICES:
        rows.append(("device", f"{entry.special_major}, {entry.special_minor}"))
    for word, time_ns in zip(TIMES, entry_times(entry), strict=True):
        rows.append((word, "not kept" if time_ns is None else iso_time(time_ns)))
    for name, value in sorted(xattrs.items()):
        rows.append(("attribute", f"{show_name(name)} = {show_name(value)}"))
    rows += [("stream", f"{show_name(one.name)}, {one.size} bytes") for one in streams]
    return [f"{word + ':':<10} {text}" for word, text in rows]


def json_image(image: Image) -> dict[str, Any]:
    """An image for JSON, with those behind it."""
    return {
        "path": image.path,
        "format": image.format,
        "size": image.size,
        "block_size": image.block_size,
        "facts": image.facts(),
        "parent": None if image.parent is None else json_image(image.parent),
    }
