# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's LVM2 on loop devices, as writer and reader of volume groups.

Its tools make volumes without the host's device mapper as far as they are willing to. Where they
insist on it, they are given the text of such a group to restore: then they are its reader, and
what stands on the disks is what they made of it.
"""

from __future__ import annotations

import json
import os
import random
import string
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.trees import ROOT, find_tool, make_empty

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

EXTENT = 64 * 1024

_CONFIGURATION = """
devices {{
    dir = "/dev"
    scan = ["/dev"]
    filter = [{filter}]
    global_filter = [{filter}]
    use_devicesfile = 0
    sysfs_scan = 0
    md_component_detection = 0
    multipath_component_detection = 0
    obtain_device_list_from_udev = 0
    external_device_info_source = "none"
    hints = "none"
}}
global {{
    activation = 0
    use_lvmpolld = 0
    notify_dbus = 0
    event_activation = 0
    locking_dir = "{folder}/lock"
}}
activation {{
    udev_sync = 0
    udev_rules = 0
    monitoring = 0
}}
backup {{
    backup = 0
    archive = 0
}}
allocation {{
    raid_stripe_all_devices = 0
}}
"""


class Piece(NamedTuple):
    """Where a range of a logical volume stands."""

    start: int
    """Bytes from the start of the volume."""
    length: int
    image: Path
    offset: int


@dataclass(frozen=True, slots=True)
class Row:
    """A logical volume as ``lvs`` reports it."""

    name: str
    uuid: str
    hidden: bool
    kind: str
    size: int
    pieces: tuple[Piece, ...]
    """Of linear and striped volumes on physical ones."""


class LvmHost:
    """Images as loop devices, and the tools. A context manager that detaches them."""

    def __init__(self, folder: Path) -> None:
        """Keep its settings in ``folder``; skips the test where there is no LVM2."""
        find_tool("lvm")
        self._folder = folder / "lvm"
        self._folder.mkdir()
        self._closing = ExitStack()
        self._loops: dict[Path, str] = {}

    def attach(self, image: Path) -> str:
        """Make a loop device of an image; skips the test where that cannot be."""
        if not ROOT:
            pytest.skip("needs root for loop devices")
        done = subprocess.run(
            [find_tool("losetup"), "--find", "--show", image],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"needs loop devices: {done.stderr.strip()}")
        loop = done.stdout.strip()
        self._loops[image] = loop
        self._closing.callback(subprocess.run, [find_tool("losetup"), "--detach", loop], check=True)
        rules = ", ".join(f'"a|^{one}$|"' for one in self._loops.values())
        (self._folder / "lvm.conf").write_text(
            _CONFIGURATION.format(filter=f'{rules}, "r|.*|"', folder=self._folder)
        )
        return loop

    def images(self, folder: Path, count: int, size: int = 12 << 20) -> list[Path]:
        """Make and attach empty images."""
        paths = [make_empty(folder / f"pv{number}.img", size) for number in range(count)]
        for path in paths:
            self.attach(path)
        return paths

    def loop(self, image: Path) -> str:
        """The device of an image."""
        return self._loops[image]

    def run(self, command: str, *arguments: str) -> str:
        """Run one of the tools, which must succeed; what it printed."""
        done = subprocess.run(
            [find_tool("lvm"), command, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "LVM_SYSTEM_DIR": str(self._folder),
                "LVM_SUPPRESS_FD_WARNINGS": "1",
                "DM_DISABLE_UDEV": "1",
            },
        )
        assert done.returncode == 0, f"{command} {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def make_group(self, name: str, images: Sequence[Path], *options: str) -> None:
        """Make physical volumes of images, and a group of these."""
        loops = [self._loops[image] for image in images]
        self.run("pvcreate", "-qq", *options, *loops)
        self.run("vgcreate", "-qq", "--physicalextentsize", f"{EXTENT}b", name, *loops)

    def make_volume(self, group: str, name: str, extents: int, *options: str) -> None:
        """Make a logical volume of a kind that needs no device mapper."""
        fixed = ("--activate", "n", "--zero", "n", "--wipesignatures", "n")
        self.run("lvcreate", "-qq", *fixed, "-l", str(extents), "-n", name, *options, group)

    def backup(self, group: str) -> str:
        """The text of a group."""
        path = self._folder / "backup"
        self.run("vgcfgbackup", "-qq", "--file", str(path), group)
        return path.read_text()

    def restore(self, group: str, volumes: str) -> None:
        """Give a group other logical volumes, by the text of these."""
        text = self.backup(group)
        end = text.index("\n}\n")
        path = self._folder / "restore"
        path.write_text(f"{text[:end]}\nlogical_volumes {{\n{volumes}\n}}\n{text[end:]}")
        self.run("vgcfgrestore", "-qq", "--force", "--file", str(path), group)
        self.run("vgck", group)

    def report(self, command: str, *columns: str, group: str = "") -> list[dict[str, str]]:
        """What ``lvs`` and the like report of a group."""
        kind = {"lvs": "lv", "pvs": "pv", "vgs": "vg"}[command]
        options = ("--reportformat", "json", "--units", "b", "--nosuffix", "-o", ",".join(columns))
        everything = ("--all",) if command == "lvs" else ()
        output = self.run(command, *everything, *options, *([group] if group else []))
        found: list[dict[str, str]] = json.loads(output)["report"][0][kind]
        return found

    def volumes(self, group: str) -> dict[str, Row]:
        """The logical volumes of a group, hidden ones too, and where they stand."""
        starts = {
            row["pv_name"]: int(row["pe_start"])
            for row in self.report("pvs", "pv_name", "pe_start")
        }
        images = {loop: image for image, loop in self._loops.items()}
        columns = (
            *("lv_name", "lv_uuid", "segtype", "lv_size", "seg_start_pe", "seg_size_pe"),
            *("stripe_size", "seg_pe_ranges", "vg_extent_size"),
        )
        rows: dict[str, Row] = {}
        for row in self.report("lvs", *columns, group=group):
            name = row["lv_name"].strip("[]")
            unit = int(row["vg_extent_size"])
            pieces = []
            if row["segtype"] in ("linear", "striped"):
                places = []
                for place in row["seg_pe_ranges"].split():
                    loop, _, extents = place.rpartition(":")
                    if loop in images:
                        first = int(extents.partition("-")[0])
                        places.append((images[loop], starts[loop] + first * unit))
                pieces = list(
                    _spread(
                        int(row["seg_start_pe"]) * unit,
                        int(row["seg_size_pe"]) * unit,
                        int(row["stripe_size"]),
                        places,
                    )
                )
            before = rows[name].pieces if name in rows else ()
            rows[name] = Row(
                name,
                row["lv_uuid"],
                row["lv_name"].startswith("["),
                row["segtype"],
                int(row["lv_size"]),
                (*before, *pieces),
            )
        return rows

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()


def _spread(
    start: int, length: int, stripe: int, places: Sequence[tuple[Path, int]]
) -> Iterator[Piece]:
    """The pieces of a segment over one place or several."""
    if len(places) == 1:
        yield Piece(start, length, *places[0])
        return
    for number in range(length // stripe if places else 0):
        image, offset = places[number % len(places)]
        row = number // len(places)
        yield Piece(start + number * stripe, stripe, image, offset + row * stripe)


def lay(row: Row, content: bytes) -> None:
    """Put content into a logical volume, where the tools say that it stands."""
    for piece in row.pieces:
        part = content[piece.start : piece.start + piece.length]
        with piece.image.open("r+b") as file:
            file.seek(piece.offset)
            file.write(part)


def fetch(row: Row) -> bytes:
    """The content of a logical volume."""
    content = bytearray(row.size)
    for piece in row.pieces:
        with piece.image.open("rb") as file:
            file.seek(piece.offset)
            content[piece.start : piece.start + piece.length] = file.read(piece.length)
    return bytes(content)


# ---- Texts -------------------------------------------------------------------------------------


class Text:
    """Writes the text of logical volumes, each on extents of its own."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._used: dict[int, int] = {}
        self._volumes: list[str] = []

    def __str__(self) -> str:
        return "\n".join(self._volumes)

    def _uuid(self) -> str:
        letters = string.ascii_letters + string.digits
        text = "".join(self._random.choice(letters) for _ in range(32))
        cuts = (0, 6, 10, 14, 18, 22, 26, 32)
        return "-".join(text[a:b] for a, b in pairwise(cuts))

    def add(
        self, name: str, *segments: str, hidden: bool = False, flags: str = "", status: str = ""
    ) -> str:
        """Add a volume of segments that were made by :func:`segment`; its name."""
        known = ['"READ"', '"WRITE"', *([] if hidden else ['"VISIBLE"'])]
        if status:
            known.append(f'"{status}"')
        numbered = "\n".join(
            text.replace("segment", f"segment{number}", 1)
            for number, text in enumerate(segments, 1)
        )
        self._volumes.append(
            f'{name} {{ id = "{self._uuid()}"\nstatus = [{", ".join(known)}]\nflags = [{flags}]\n'
            f'creation_time = 1700000000\ncreation_host = "host"\n'
            f"segment_count = {len(segments)}\n{numbered} }}"
        )
        return name

    def take(self, physical: int, extents: int) -> str:
        """Use extents of a physical volume: the area of a segment."""
        first = self._used.get(physical, 0)
        self._used[physical] = first + extents
        return f'"pv{physical}", {first}'

    def linear(
        self,
        name: str,
        physical: int,
        extents: int,
        *,
        hidden: bool = True,
        flags: str = "",
        status: str = "",
    ) -> str:
        """Add a linear volume; its name."""
        body = f"stripe_count = 1\nstripes = [{self.take(physical, extents)}]"
        return self.add(
            name,
            segment(0, extents, "striped", body),
            hidden=hidden,
            flags=flags,
            status=status,
        )

    def raid(
        self, name: str, kind: str, images: int, extents: int, each: int, body: str = ""
    ) -> str:
        """Add a RAID of images on as many physical volumes, ``each`` of so many extents."""
        names = []
        for number in range(images):
            names.append(self.linear(f"{name}_rmeta_{number}", number, 1))
            names.append(self.linear(f"{name}_rimage_{number}", number, each))
        listed = ", ".join(f'"{one}"' for one in names)
        body = f"device_count = {images}\nregion_size = 128\n{body}\nraids = [{listed}]"
        return self.add(name, segment(0, extents, kind, body))


def segment(start: int, extents: int, kind: str, body: str = "") -> str:
    """The text of a segment."""
    return (
        f'segment {{ start_extent = {start}\nextent_count = {extents}\ntype = "{kind}"\n{body} }}'
    )
