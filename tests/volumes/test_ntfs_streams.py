# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""NTFS' alternate data streams, made and read by ntfs-3g's tools, too."""

from __future__ import annotations

import random
import struct
import subprocess
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import pytest

from explorer.core.errors import VolumeError
from explorer.core.messages import describe
from explorer.volumes.ntfs_streams import Stream, list_streams, read_stream
from explorer.volumes.window import Window
from tests.cli.conftest import run_program
from tests.makers import write_tree
from tests.trees import find_tool, make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from explorer.volumes import MountedVolume

MIB = 1 << 20
RECORD = 1024
DAMAGES = 40
UNWRITTEN = 0x38
"""Where a non-resident attribute tells how much of it was written."""

REPEATED = b"all the same " * 30_000
# A chunk without a match, one of zeros only, copies that overlap, and a last chunk that is short.
MIXED = noise(70_000, 5) + bytes(100_000) + b"ab" * 40_000 + noise(1000, 6) + REPEATED[:5000]

STREAMS: dict[str, bytes] = {
    "small": b"a small stream",
    "empty": b"",
    "Größe 日本": b"unicode\n",
    "noise": noise(300_001, 1),
    "repeated": REPEATED,
    "mixed": MIXED,
    "Zone.Identifier": b"[ZoneTransfer]\r\nZoneId=3\r\n",
}
MANY = {f"stream {number:03}": noise(2000 + number, number) for number in range(60)}
"""More than a record has room for: their attributes are in others, by an attribute list."""


class Volume(NamedTuple):
    """An image with files that have streams."""

    image: Path
    numbers: dict[str, int]
    """MFT records by the names of files."""


def make_volume(folder: Path, *options: str) -> Volume:
    image = make_empty(folder / "ntfs.img", 16 * MIB)
    run_tool("mkntfs", "-q", "-F", *options, image)
    content = folder / "content"
    for name, streams in (("file", STREAMS), ("many", MANY), ("none", {})):
        content.write_bytes(f"content of {name}\n".encode())
        run_tool("ntfscp", image, content, name)
        for stream, data in streams.items():
            content.write_bytes(data)
            run_tool("ntfscp", "-N", stream, image, content, name)
    numbers = {name: inode(image, name) for name in ("file", "many", "none")}
    return Volume(image, numbers)


def inode(image: Path, name: str) -> int:
    first = run_tool("ntfsinfo", "-F", name, image).splitlines()[0]
    return int(first.split()[2])


@pytest.fixture(scope="module", params=["plain", "compressed", "small clusters"])
def volume(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Volume:
    options = {"plain": (), "compressed": ("-C",), "small clusters": ("-c", "512")}
    return make_volume(tmp_path_factory.mktemp("streams"), *options[request.param])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return make_volume(tmp_path_factory.mktemp("streams"))


def window(image: Path) -> Window:
    content = image.read_bytes()
    return Window(lambda offset, length: content[offset : offset + length], 0, len(content))


def read(volume: Window, record: int, name: str) -> bytes:
    pieces = read_stream(volume, record, name.encode())
    assert pieces is not None
    return b"".join(pieces)


def cat(image: Path, path: str, stream: str) -> bytes:
    """A stream as ntfscat reads it."""
    tool = find_tool("ntfscat")
    return subprocess.run([tool, "-n", stream, image, path], capture_output=True, check=True).stdout


@pytest.mark.proves("file system", "ntfs", "alternate data streams")
@pytest.mark.proves("file system", "ntfs", "compressed alternate data streams")
@pytest.mark.parametrize(("name", "wanted"), [("file", STREAMS), ("many", MANY), ("none", {})])
def test_streams_are_those_that_ntfscp_wrote(
    volume: Volume, name: str, wanted: dict[str, bytes]
) -> None:
    opened = window(volume.image)
    found = list_streams(opened, volume.numbers[name])
    assert {one.name.decode(): one.size for one in found} == {
        stream: len(data) for stream, data in wanted.items()
    }
    shown = run_tool("ntfsinfo", "-F", name, volume.image)
    for one in found:
        assert f"Attribute name:\t\t '{one.name.decode()}'" in shown
        data = read(opened, volume.numbers[name], one.name.decode())
        assert data == wanted[one.name.decode()]
    assert read(opened, volume.numbers[name], "") == f"content of {name}\n".encode()
    assert read_stream(opened, volume.numbers[name], b"not there") is None
    if name == "many":
        assert "Dumping attribute $ATTRIBUTE_LIST" in shown


def test_streams_are_those_that_ntfscat_reads(volume: Volume) -> None:
    opened = window(volume.image)
    for name in STREAMS:
        assert read(opened, volume.numbers["file"], name) == cat(volume.image, "file", name)


def test_what_is_told_of_a_stream(volume: Volume) -> None:
    told = {one.name: one for one in list_streams(window(volume.image), volume.numbers["file"])}
    compressed = told[b"repeated"].compressed
    assert told[b"small"] == Stream(b"small", 14, True, compressed, False, False)
    assert told[b"noise"] == Stream(b"noise", 300_001, False, compressed, False, False)
    shown = run_tool("ntfsinfo", "-F", "file", volume.image)
    assert compressed == ("Compressed size" in shown)


# ---- Beside Linux' driver ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(
    built: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, Path]]:
    """A tree, and an image that Linux' driver wrote it into."""
    folder = tmp_path_factory.mktemp("written")
    top = folder / "top"
    top.mkdir()
    with (top / "sparse").open("wb") as file:
        file.write(noise(10_000, 1))
        file.seek(3 * MIB)
        file.write(noise(100_000, 2))
        file.truncate(8 * MIB + 17)
    (top / "repeated").write_bytes(REPEATED)
    (top / "mixed").write_bytes(MIXED)

    def make(options: str) -> tuple[Path, Path]:
        image = folder / f"{options}.img"
        if not image.exists():
            make_empty(image, 32 * MIB)
            run_tool("mkntfs", "-q", "-F", *(("-C",) if options == "compressed" else ()), image)
            mount = "sparse,iocharset=utf8" if options == "sparse" else "iocharset=utf8"
            write_tree("ntfs3", top, image, mount, plain=True)
        return top, image

    return make


@pytest.mark.proves("file system", "ntfs", "sparse files")
def test_sparse_files_by_both(
    written: Callable[[str], tuple[Path, Path]], mounted: Callable[[Path], MountedVolume]
) -> None:
    compare_with_linux(*written("sparse"), mounted, "Attribute flags:\t 0x8000", "sparse")


@pytest.mark.proves("file system", "ntfs", "compressed files")
def test_compressed_files_by_both(
    written: Callable[[str], tuple[Path, Path]], mounted: Callable[[Path], MountedVolume]
) -> None:
    compare_with_linux(*written("compressed"), mounted, "Compressed size", "repeated", "mixed")


def compare_with_linux(
    top: Path,
    image: Path,
    mounted: Callable[[Path], MountedVolume],
    flag: str,
    *flagged: str,
) -> None:
    """Files as Linux reads them, as this reader does, and as ntfscat does."""
    volume = mounted(image)
    opened = volume.window()
    for name in ("sparse", "repeated", "mixed"):
        content = (top / name).read_bytes()
        if name in flagged:
            assert flag in run_tool("ntfsinfo", "-F", name, image)
        with volume.mount.open_file(name.encode()) as file:
            assert file.read_at(0, file.size) == content
        number = volume.mount.stat(name.encode()).inode
        assert number == inode(image, name)
        assert read(opened, number, "") == content
        done = subprocess.run([find_tool("ntfscat"), image, name], capture_output=True, check=True)
        assert done.stdout == content


# ---- The commands ------------------------------------------------------------------------------


@pytest.mark.usefixtures("built")
def test_commands_show_and_read_them(plain: Volume, unchanged: Callable[[Path], Path]) -> None:
    image = unchanged(plain.image)
    found = run_program("stat", image, "/file")
    assert found.code == 0
    assert [line for line in found.lines if line.startswith("stream:")] == [
        f"stream:    {one.name.decode()}, {one.size} bytes"
        for one in list_streams(window(image), plain.numbers["file"])
    ]
    shown = run_program("stat", "--json", image, "/file").json["streams"]
    assert {one["name"]: one["size"] for one in shown} == {
        name: len(data) for name, data in STREAMS.items()
    }
    assert "streams" not in run_program("stat", "--json", image, "/none").json
    for name in ("noise", "Größe 日本"):
        found = run_program("cat", image, f"/file:{name}")
        assert (found.code, found.output) == (0, STREAMS[name])
    found = run_program("cat", "--json", image, "/file:small")
    assert found.json["content_hex"] == STREAMS["small"].hex()
    for path in ("/file:other", "/other:small"):
        found = run_program("cat", image, path)
        assert found.code == 5
        assert "no such file" in found.errors


@pytest.mark.usefixtures("built")
def test_a_damaged_stream_does_not_hide_the_rest(plain: Volume, tmp_path: Path) -> None:
    # Linux reads nothing of a record's named streams, and does not mind what is in them.
    image = tmp_path / "damaged.img"
    content = bytearray(plain.image.read_bytes())
    at = content.index("noise".encode("utf-16-le"))
    while content[at : at + 4] != b"\x80\0\0\0":
        at -= 8
    runs = at + int.from_bytes(content[at + 0x20 : at + 0x22], "little")
    content[runs] = 0x99
    image.write_bytes(content)
    found = run_program("stat", image, "/file")
    assert found.code == 1
    assert "path:      /file" in found.lines
    assert f"damaged: runs at byte {runs}: a run breaks their rules" in found.errors


# ---- Structures that no tool here makes --------------------------------------------------------


def records(content: bytes | bytearray) -> Iterator[int]:
    """Where MFT records begin, from the file table's own place on."""
    start = int.from_bytes(content[48:56], "little") * content[13] * 512
    while content[start : start + 4] == b"FILE":
        yield start
        start += RECORD


def without_fixups(content: bytearray, at: int) -> None:
    """Put a record's protected bytes back, and protect them by themselves."""
    start, count = struct.unpack_from("<HH", content, at + 4)
    for number in range(1, count):
        end = at + number * 512
        content[end - 2 : end] = content[at + start + 2 * number : at + start + 2 * number + 2]


def with_fixups(content: bytearray, at: int) -> None:
    start, count = struct.unpack_from("<HH", content, at + 4)
    for number in range(1, count):
        end = at + number * 512
        place = at + start + 2 * number
        content[place : place + 2] = content[end - 2 : end]
        content[end - 2 : end] = content[at + start : at + start + 2]


def attribute_at(content: bytearray, record: int, kind: int, name: str = "") -> int:
    """Where an attribute begins."""
    at = record + int.from_bytes(content[record + 20 : record + 22], "little")
    while True:
        found, size = struct.unpack_from("<II", content, at)
        assert found != 0xFFFF_FFFF
        length, name_at = content[at + 9], int.from_bytes(content[at + 10 : at + 12], "little")
        text = content[at + name_at : at + name_at + 2 * length].decode("utf-16-le")
        if (found, text) == (kind, name):
            return at
        at += size


def changed(plain: Volume, tmp_path: Path, name: str, kind: int, stream: str) -> tuple[Path, int]:
    """A copy of the image, its record without fix-ups, and where an attribute of it is."""
    image = tmp_path / "changed.img"
    content = bytearray(plain.image.read_bytes())
    record = next(islice(records(content), plain.numbers[name], None))
    without_fixups(content, record)
    at = attribute_at(content, record, kind, stream)
    image.write_bytes(content)
    return image, at


def with_numbers(image: Path, record: int, *numbers: tuple[int, str, int]) -> Window:
    """The image with numbers in a record without fix-ups, which it gets again."""
    content = bytearray(image.read_bytes())
    for at, form, number in numbers:
        struct.pack_into(form, content, at, number)
    with_fixups(content, record)
    image.write_bytes(content)
    return window(image)


def record_of(image: Path, number: int) -> int:
    return next(islice(records(image.read_bytes()), number, None))


def test_what_was_not_written_is_zeros(plain: Volume, tmp_path: Path) -> None:
    image, at = changed(plain, tmp_path, "file", 0x80, "noise")
    number = plain.numbers["file"]
    opened = with_numbers(image, record_of(image, number), (at + UNWRITTEN, "<Q", 100_001))
    found = read(opened, number, "noise")
    assert found == STREAMS["noise"][:100_001] + bytes(200_000)
    assert found == cat(image, "file", "noise")


def test_an_encrypted_stream_is_refused_by_name(plain: Volume, tmp_path: Path) -> None:
    image, at = changed(plain, tmp_path, "file", 0x80, "noise")
    number = plain.numbers["file"]
    opened = with_numbers(image, record_of(image, number), (at + 12, "<H", 0x4000))
    assert [one.name for one in list_streams(opened, number) if one.encrypted] == [b"noise"]
    with pytest.raises(VolumeError, match=r"volume\.feature.*EFS"):
        read_stream(opened, number, b"noise")


def test_a_fragmented_file_table_is_followed(
    plain: Volume, tmp_path: Path, mounted: Callable[[Path], MountedVolume]
) -> None:
    # The table's own record is continued in record 15, which is kept free for that, and which its
    # first part maps.
    content = bytearray(plain.image.read_bytes())
    places = list(islice(records(content), 16))
    table, other = places[0], places[15]
    without_fixups(content, table)
    without_fixups(content, other)
    at = attribute_at(content, table, 0x80)
    size = int.from_bytes(content[at + 4 : at + 8], "little")
    last, runs_at = struct.unpack_from("<QH", content, at + 0x18)
    head, behind = content[at : at + runs_at], content[at + size : table + RECORD]
    first = int.from_bytes(content[48:56], "little")
    whole = 16 * RECORD // (content[13] * 512)
    assert whole <= last

    def part(begin: int, end: int) -> bytes:
        packed = struct.pack("<BIQ", 0x84, end + 1 - begin, first + begin) + b"\0"
        raw = bytes(head) + packed.ljust(-(-len(packed) // 8) * 8, b"\0")
        return (
            raw[:4] + struct.pack("<I", len(raw)) + raw[8:16] + struct.pack("<QQ", begin, end)
        ) + raw[32:]

    def entry(kind: int, begin: int, record: int, sequence: int) -> bytes:
        reference = sequence << 48 | record
        place = attribute_at(content, table, kind) + 14
        number = int.from_bytes(content[place : place + 2], "little")
        return struct.pack("<IHBBQQH6x", kind, 32, 0, 26, begin, reference, number)

    kinds = (0x10, 0x30, 0x80, 0xB0)
    listed = b"".join(entry(kind, 0, 0, 1) for kind in kinds[:3])
    listed += entry(0x80, whole, 15, 15) + entry(0xB0, 0, 0, 1)
    attribute_list = struct.pack("<IIBBHHHIHH", 0x20, 24 + len(listed), 0, 0, 24, 0, 99,
                                 len(listed), 24, 0) + listed  # fmt: skip
    start = attribute_at(content, table, 0x30)
    new = bytes(content[table:start])
    new += attribute_list + bytes(content[start:at]) + part(0, whole - 1) + bytes(behind)
    content[table : table + RECORD] = new[:RECORD]
    used = int.from_bytes(content[table + 24 : table + 28], "little")
    grown = len(attribute_list) + len(part(0, 0)) - size
    struct.pack_into("<I", content, table + 24, used + grown)
    begin = other + int.from_bytes(content[other + 20 : other + 22], "little")
    tail = part(whole, last) + b"\xff\xff\xff\xff\0\0\0\0"
    content[begin : begin + len(tail)] = tail
    struct.pack_into("<I", content, other + 24, begin + len(tail) - other)
    struct.pack_into("<HH", content, other + 16, 15, 0)
    struct.pack_into("<H", content, other + 22, 1)
    struct.pack_into("<Q", content, other + 0x20, 1 << 48)
    with_fixups(content, table)
    with_fixups(content, other)
    mirror = int.from_bytes(content[56:64], "little") * content[13] * 512
    content[mirror : mirror + RECORD] = content[table : table + RECORD]
    image = tmp_path / "fragmented.img"
    image.write_bytes(content)
    assert cat(image, "file", "noise") == STREAMS["noise"]
    volume = mounted(image)
    assert volume.mount.stat(b"/file").inode == plain.numbers["file"]
    opened = volume.window()
    for name, data in STREAMS.items():
        assert read(opened, plain.numbers["file"], name) == data


# ---- Damages -----------------------------------------------------------------------------------


def test_no_record_of_that_number(plain: Volume) -> None:
    with pytest.raises(VolumeError, match="has no record 99999999"):
        list_streams(window(plain.image), 99_999_999)


@pytest.mark.parametrize(
    ("at", "form", "value", "reason"),
    [
        (11, "<H", 500, "500 bytes of a sector"),
        (13, "<B", 0, "0 bytes of a cluster"),
        (13, "<B", 129, "bytes of a cluster"),
        (64, "<B", 200, "bytes of a record"),
        (48, "<Q", 1 << 60, "begins beyond"),
    ],
)
def test_a_damaged_boot_sector(
    plain: Volume, tmp_path: Path, at: int, form: str, value: int, reason: str
) -> None:
    content = bytearray(plain.image.read_bytes())
    struct.pack_into(form, content, at, value)
    image = tmp_path / "damaged.img"
    image.write_bytes(content)
    with pytest.raises(VolumeError) as caught:
        list_streams(window(image), plain.numbers["file"])
    assert "boot sector" in describe(caught.value)
    assert reason in describe(caught.value)


def test_an_image_that_ends_early(plain: Volume) -> None:
    whole = window(plain.image)
    number = plain.numbers["file"]
    end = plain.image.read_bytes().index(STREAMS["noise"][:512]) + 100_000
    short = Window(whole.read, 0, end)
    with pytest.raises(VolumeError) as caught:
        read(short, number, "noise")
    assert "behind the end" in describe(caught.value)


@pytest.mark.parametrize("name", ["file", "many"])
def test_whatever_stands_in_a_record_is_read_or_refused(volume: Volume, name: str) -> None:
    content = volume.image.read_bytes()
    chance = random.Random(name)
    record = next(islice(records(content), volume.numbers[name], None))
    refused = 0
    codes: set[str] = set()
    for _ in range(DAMAGES):
        damaged = bytearray(content[record : record + RECORD])
        for _ in range(chance.choice((1, 2, 8))):
            at = chance.randrange(0x30, 0x300)
            width = chance.choice((1, 2, 4, 8))
            value = chance.choice((0, 1, 0x7F, 0x80, 2 ** (8 * width) - 1, chance.getrandbits(8)))
            damaged[at : at + width] = value.to_bytes(width, "little")

        def look(offset: int, length: int, damaged: bytes = bytes(damaged)) -> bytes:
            found = bytearray(content[offset : offset + length])
            if offset <= record < offset + length:
                found[record - offset : record - offset + RECORD] = damaged
            elif record < offset < record + RECORD:
                found[: record + RECORD - offset] = damaged[offset - record :][: len(found)]
            return bytes(found[:length])

        opened = Window(look, 0, len(content))
        try:
            for stream in list_streams(opened, volume.numbers[name]):
                pieces = read_stream(opened, volume.numbers[name], stream.name)
                assert pieces is not None
                for piece in islice(pieces, 5):
                    assert len(piece) <= MIB
        except VolumeError as error:
            refused += 1
            codes.add(error.code)
    assert 10 < refused < DAMAGES
    assert codes <= {"volume.damaged", "volume.feature"}
