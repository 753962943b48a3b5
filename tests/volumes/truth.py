# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Real images of other projects, and what Linux 6.1 itself found in them.

Both are test data beside the project, not part of it; ``LKL_IMAGES`` names another place.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from explorer.core.entries import Entry, FileType
from explorer.core.errors import KernelError

if TYPE_CHECKING:
    from explorer.kernel import Mount

IMAGES = Path(
    os.environ.get("LKL_IMAGES", Path(__file__).resolve().parents[3] / "shared" / "images")
)

_PREFIX = re.compile(
    r"tests/ts/blkid/images-../|tests/ts/cramfs/|tests/|test_data/|test-data/files/"
)
_LETTERS = {
    FileType.FIFO: "p",
    FileType.CHARACTER_DEVICE: "c",
    FileType.DIRECTORY: "d",
    FileType.BLOCK_DEVICE: "b",
    FileType.FILE: "f",
    FileType.LINK: "l",
    FileType.SOCKET: "s",
}
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """What Linux found on one volume."""

    mounted: bool
    command: str
    """How it was mounted."""
    log: str
    entries: dict[str, str]
    """Path to the rest of its line; of a folder that could not be read, the error under "!"."""


@dataclass(frozen=True, slots=True)
class RealImage:
    """An image, and the name its truth goes by."""

    file: Path
    truth: Path
    """Without what tells the reader."""

    @property
    def name(self) -> str:
        """Folder and file."""
        return f"{self.file.parent.name}/{self.file.name}"

    def unpack(self, target: Path) -> None:
        """Write the image itself, with zeros as holes."""
        with self._open() as source, target.open("wb") as output:
            while piece := source.read(_PIECE):
                if piece.count(0) == len(piece):
                    output.seek(len(piece), os.SEEK_CUR)
                else:
                    output.write(piece)
            output.truncate()

    def _open(self) -> BinaryIO:
        if self.file.suffix == ".xz":
            return cast("BinaryIO", lzma.open(self.file))
        if self.file.suffix == ".gz":
            return cast("BinaryIO", gzip.open(self.file))
        if self.file.suffix == ".bz2":
            return cast("BinaryIO", bz2.open(self.file))
        return self.file.open("rb")

    def found(self, volume: int) -> Found | None:
        """What Linux found on a volume (0: the whole disk); None where it was not asked."""
        part = f".p{volume}" if volume else ""
        path = self.truth.with_name(f"{self.truth.name}{part}.txt")
        return _read_found(path) if path.is_file() else None

    def seven_zip(self) -> dict[str, tuple[int, str]] | None:
        """Path to size and SHA-256 of the files that 7-Zip found; None where it was not asked."""
        path = self.truth.with_name(f"{self.truth.name}.7z.txt")
        if not path.is_file():
            return None
        rows = re.findall(r"^f (\d+) ([0-9a-f]{64}) '(.*)'$", path.read_text(), re.MULTILINE)
        return {name: (int(size), digest) for size, digest, name in rows}

    def sleuth_kit(self) -> dict[str, str] | None:
        """Path to type, as a letter, of what the Sleuth Kit found and was not deleted."""
        path = self.truth.with_name(f"{self.truth.name}.fls.txt")
        if not path.is_file():
            return None
        # What it makes up itself is of type V, or below that.
        rows = re.findall(r"^([a-z])/\1 \d+:\t(?!\$)(.*)$", path.read_text(), re.MULTILINE)
        return {name: "f" if letter == "r" else letter for letter, name in rows}

    def partitions(self) -> list[tuple[int, int, int]] | None:
        """Number, first sector and sectors of what Linux found."""
        path = self.truth.with_name(f"{self.truth.name}.txt.pt")
        if not path.is_file():
            return None
        rows = re.findall(r"^ubd[a-z](\d+) (\d+) (\d+)$", path.read_text(), re.MULTILINE)
        return [(int(number), int(start), int(size)) for number, start, size in rows]


def _read_found(path: Path) -> Found:
    text = path.read_text(errors="backslashreplace")
    entries: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("! "):
            _, error, folder = line.split(" ", 2)
            entries[f"!{folder}"] = error
        elif re.match(r"[a-z] \d{4} ", line):
            *fields, name = line.split(" ", 9)
            entries[name] = " ".join(fields)
    head = text.splitlines()[0] if text else ""
    mounted = re.search(r"^# mount rc 0\b", text, re.MULTILINE) is not None
    return Found(mounted, head, text, entries)


def real_images() -> list[RealImage]:
    """All of them; none where the folder is missing."""
    index = IMAGES / "ORIGIN.tsv"
    if not index.is_file():
        return []
    with index.open(newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    images = []
    for row in rows:
        name = _PREFIX.sub("", row["path"], count=1)
        name = re.sub(r"\.(xz|gz|bz2|zst)$", "", name).replace("/", "__")
        file = IMAGES / row["file"]
        images.append(RealImage(file, IMAGES / "truth" / file.parent.name / name))
    return images


def _escape(raw: bytes) -> str:
    return "".join(
        chr(byte) if 0x20 < byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in raw
    )


def _hash(mount: Mount, path: bytes) -> str:
    with mount.open_file(path) as file:
        return file.sha256().hex()


def _line(mount: Mount, path: bytes, entry: Entry) -> str:
    content = "-"
    extra = "-"
    if entry.type == FileType.LINK:
        content = "->" + _escape(mount.read_link(path))
    elif entry.type in (FileType.CHARACTER_DEVICE, FileType.BLOCK_DEVICE):
        content = f"{entry.special_major}:{entry.special_minor}"
    elif entry.is_file:
        try:
            content = _hash(mount, path)
        except KernelError as error:
            content = f"read:{error.name}"
    try:
        extra = ",".join(_escape(name) for name in mount.read_xattrs(path)) or "-"
    except KernelError as error:
        extra = f"xattr:{error.name}"
    seconds = "-" if entry.modify_ns is None else str(entry.modify_ns // 1_000_000_000)
    return (
        f"{_LETTERS.get(FileType(entry.type), '?')} {entry.mode & 0o7777:04o} {entry.uid} "
        f"{entry.gid} {entry.links} {entry.size} {seconds} {content} {extra}"
    )


def list_volume(mount: Mount) -> dict[str, str]:
    """A mounted volume in the words of :class:`Found`."""
    lines = {".": _line(mount, b"/", mount.stat(b"/"))}
    paths: dict[int, bytes] = {0: b""}
    with mount.open_directory() as root, root.walk() as walk:
        for entry in walk:
            if not entry.name:
                error = mount.kernel.make_error(-entry.error, "readdir").name
                lines[f"!.{_path(paths[entry.number])}"] = f"readdir:{error}"
                continue
            path = paths[entry.directory] + b"/" + entry.name
            if entry.number:
                paths[entry.number] = path
            if entry.error:
                error = mount.kernel.make_error(-entry.error, "stat").name
                lines[f"!.{_path(path)}"] = f"stat:{error}"
            else:
                lines[f".{_path(path)}"] = _line(mount, path, entry)
    return lines


def _path(path: bytes) -> str:
    return "/".join(_escape(part) if part else "" for part in path.split(b"/"))


def copy_of(image: RealImage, folder: Path) -> Path:
    """The image unpacked into a folder."""
    target = folder / image.file.name.removesuffix(image.file.suffix)
    if image.file.suffix in (".xz", ".gz", ".bz2"):
        image.unpack(target)
    else:
        target = folder / image.file.name
        shutil.copyfile(image.file, target)
    return target
