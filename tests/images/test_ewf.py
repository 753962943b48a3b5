# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""EWF images: by ewfacquire, real ones, and by a writer of our own where no tool makes it."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import threading
import tracemalloc
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import (
    CorruptImage,
    ExplorerError,
    ImageError,
    MissingPart,
    UnsupportedFeature,
)
from explorer.core.extents import ExtentKind
from explorer.core.messages import describe
from explorer.images import ewf
from explorer.images.registry import open_image
from tests.images.checks import check_damaged, check_described, check_image
from tests.trees import find_tool, noise, run_tool, sha256

if TYPE_CHECKING:
    from explorer.images.base import Image

MIB = 1 << 20
CHUNK = 32768
DFVFS = Path(__file__).parents[3] / "shared" / "images" / "dfvfs"

FORMATS = {
    "ewf": ".e01",
    "smart": ".s01",
    "ftk": ".E01",
    "encase2": ".E01",
    "encase3": ".E01",
    "encase4": ".E01",
    "encase5": ".E01",
    "encase6": ".E01",
    "encase7": ".E01",
    "encase7-v2": ".E01",
    "linen5": ".E01",
    "linen6": ".E01",
    "linen7": ".E01",
    "ewfx": ".e01",
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with noise, text, zeros and other repeated bytes; its last chunk is not full."""
    path = tmp_path_factory.mktemp("raw") / "disk"
    with path.open("wb") as file:
        file.write(noise(1_200_000, 1))
        file.write(b"some text, which can be compressed\n" * 10_000)
        file.seek(2 * MIB)
        file.write(b"\xf6" * 200_000)
        file.truncate(2 * MIB + 500_224)
    return path


def acquire(raw: Path, target: Path, kind: str, *options: str) -> Path:
    """Acquire a disk with ewfacquire; returns the first segment."""
    if not {"-S"} & set(options):
        options = (*options, "-S", str(MIB))
    run_tool("ewfacquire", "-q", "-u", "-f", kind, *options, "-t", str(target), str(raw))
    return target.with_name(target.name + FORMATS[kind])


def count_segments(image: Image) -> int:
    """That an image says it has."""
    count = image.facts()["segments"]
    assert isinstance(count, int)
    return count


def damaged_parts(image: Image) -> list[str]:
    """What an image says is damaged of it."""
    parts = image.facts()["damaged"]
    assert isinstance(parts, list)
    return parts


def check_hashes(image: Image, raw: Path) -> None:
    """The digests that were stored are those of the disk."""
    stored = image.stored_hashes()
    assert stored
    for name, digest in stored.items():
        assert hashlib.new(name, raw.read_bytes(), usedforsecurity=False).digest() == digest


# ---- ewfacquire --------------------------------------------------------------------------------


@pytest.mark.proves("format", "ewf", "formats and segments of ewfacquire")
@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_in_segments(kind: str, raw: Path, tmp_path: Path) -> None:
    first = acquire(raw, tmp_path / "disk", kind, "-c", "none", "-d", "sha1")
    assert len(list(tmp_path.iterdir())) >= 3
    with open_image(first) as image:
        assert image.format == "ewf"
        check_image(image, raw)
        check_hashes(image, raw)
        assert count_segments(image) == len(list(tmp_path.iterdir()))
        assert "damaged" not in image.facts()


@pytest.mark.proves("format", "ewf", "compressed or not")
@pytest.mark.parametrize("level", ["empty-block", "fast", "best"])
@pytest.mark.parametrize("kind", ["smart", "ftk", "encase6"])
def test_each_compression(kind: str, level: str, raw: Path, tmp_path: Path) -> None:
    first = acquire(raw, tmp_path / "disk", kind, "-c", level)
    with open_image(first) as image:
        check_image(image, raw)
        check_hashes(image, raw)
        zeros = sum(
            extent.length
            for extent in image.extents(0, image.size)
            if extent.kind is ExtentKind.ZERO
        )
        # All whole chunks between the text and what repeats; and those behind it.
        assert zeros >= 15 * CHUNK


@pytest.mark.parametrize("sectors", ["16", "1024", "32768"])
def test_each_size_of_a_chunk(sectors: str, raw: Path, tmp_path: Path) -> None:
    first = acquire(raw, tmp_path / "disk", "encase6", "-b", sectors, "-c", "fast")
    with open_image(first) as image:
        check_image(image, raw)
        assert image.facts()["chunk size"] == int(sectors) * 512


@pytest.mark.parametrize("sector", [2048, 4096])
def test_larger_sectors_are_the_block_size(sector: int, raw: Path, tmp_path: Path) -> None:
    disk = tmp_path / "raw"
    disk.write_bytes(raw.read_bytes()[: MIB + 12288])
    first = acquire(disk, tmp_path / "disk", "encase6", "-P", str(sector), "-m", "optical")
    with open_image(first) as image:
        assert image.block_size == sector
        assert image.facts()["media"] == "optical disc"
        check_image(image, disk)


def test_a_disk_acquired_from_a_pipe(raw: Path, tmp_path: Path) -> None:
    tool = find_tool("ewfacquirestream")
    run_tool("sh", "-c", f'"{tool}" -q -f encase6 -t "{tmp_path}/disk" < "{raw}"')
    with open_image(tmp_path / "disk.E01") as image:
        check_image(image, raw)
        check_hashes(image, raw)


@pytest.mark.proves("format", "ewf", "more than 99 segments")
def test_more_than_99_segments(tmp_path: Path) -> None:
    disk = tmp_path / "raw"
    disk.write_bytes(noise(102 * MIB, 3))
    first = acquire(disk, tmp_path / "disk", "encase6", "-c", "none")
    assert (tmp_path / "disk.EAA").exists()
    with open_image(first) as image:
        digest = hashlib.sha256()
        for offset in range(0, image.size, MIB):
            digest.update(image.read(offset, MIB))
        assert digest.hexdigest() == sha256(disk)
        assert count_segments(image) > 100


INFO = {
    "Case number": "case number",
    "Description": "description",
    "Examiner name": "examiner",
    "Evidence number": "evidence number",
    "Notes": "notes",
    "Operating system used": "acquired on",
    "Software version used": "acquired with",
    "MD5": "stored MD5",
    "SHA1": "stored SHA-1",
    "Media type": "media",
}


@pytest.mark.proves("format", "ewf", "case header shown")
@pytest.mark.parametrize("kind", ["smart", "ftk", "encase3", "encase6", "linen7", "ewfx"])
def test_facts_are_those_of_ewfinfo(kind: str, raw: Path, tmp_path: Path) -> None:
    header = ("-C", "2026/17", "-D", "a disk", "-e", "A. Person", "-E", "17.1", "-N", "a note")
    first = acquire(raw, tmp_path / "disk", kind, *header, "-d", "sha1", "-M", "physical")
    printed = dict(
        re.findall(r"^\t([^\t:]+):\t+(.*)$", run_tool("ewfinfo", str(first)), flags=re.MULTILINE)
    )
    with open_image(first) as image:
        facts = image.facts()
    for theirs, ours in INFO.items():
        # The SHA-1 of EWF-X is only in a section of XML that it has beside the usual ones; of
        # SMART's media ewfinfo guesses.
        if (theirs, kind) in (("SHA1", "ewfx"), ("Media type", "smart")):
            continue
        assert facts.get(ours) == printed.get(theirs), theirs
    assert facts["case number"] == "2026/17"
    if "Is physical" in printed and kind != "smart":
        assert facts["physical"] is (printed["Is physical"] == "yes")
    assert str(facts["acquired"]).startswith("20")


@pytest.mark.proves("format", "ewf", "real images")
@pytest.mark.parametrize("name", ["ext2.E01", "ext2.split.E01"])
def test_real_images(name: str, tmp_path: Path) -> None:
    path = DFVFS / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    exported = tmp_path / "raw"
    run_tool("sh", "-c", f'"{find_tool("img_cat")}" -i ewf "{path}" > "{exported}"')
    with open_image(path) as image:
        check_image(image, exported)
        check_hashes(image, exported)
        assert image.facts()["examiner"] == "examiner"


# ---- A writer of our own -----------------------------------------------------------------------


def checksummed(data: bytes) -> bytes:
    return data + struct.pack("<I", zlib.adler32(data))


def section(kind: bytes, data: bytes, at: int) -> bytes:
    """A section that begins at a place of its segment; the last ones point to themselves."""
    last = kind in (b"next", b"done")
    size = 76 + len(data)
    head = struct.pack("<16sQQ40x", kind, at if last else at + size, 0 if last else size)
    return checksummed(head) + data


def stored(data: bytes) -> bytes:
    """A chunk that is not compressed."""
    return checksummed(data)


@dataclass
class Segment:
    """One file of a set."""

    number: int = 1
    data: bytearray = field(default_factory=bytearray)
    places: dict[str, int] = field(default_factory=dict)
    """Where each section begins, by its kind; the last one of each."""

    def __post_init__(self) -> None:
        self.data += ewf.SIGNATURE + struct.pack("<BHH", 1, self.number, 0)

    def add(self, kind: str, data: bytes = b"") -> None:
        """A section."""
        self.places[kind] = len(self.data)
        self.data += section(kind.encode(), data, len(self.data))

    def volume(
        self,
        sectors: int,
        *,
        kind: str = "volume",
        per_chunk: int = 64,
        sector: int = 512,
        media: int = 1,
        identifier: bytes = bytes(16),
    ) -> None:
        """A volume, disk or data section."""
        body = struct.pack("<B3xIIIQ", media, 0, per_chunk, sector, sectors)
        body += bytes(64 - len(body)) + identifier
        self.add(kind, checksummed(body + bytes(1048 - len(body))))

    def chunks(
        self, chunks: list[bytes], compressed: int = 0, *, base: int = 0, copy: bool = True
    ) -> None:
        """Sectors, table and table2; bit n of ``compressed`` is of chunk n."""
        at = len(self.data) + 76 - base
        entries = []
        for number, chunk in enumerate(chunks):
            entries.append(at | (compressed >> number & 1) << 31)
            at += len(chunk)
        self.add("sectors", b"".join(chunks))
        self.table(entries, base)
        if copy:
            self.table(entries, base, "table2")

    def table(self, entries: list[int], base: int = 0, kind: str = "table") -> None:
        """A table section."""
        head = checksummed(struct.pack("<I4xQ4x", len(entries), base))
        body = struct.pack(f"<{len(entries)}I", *entries)
        self.add(kind, head + checksummed(body))

    def flip(self, kind: str, offset: int, *, value: int = 0xFF) -> None:
        """Change a byte of a section, counted from its descriptor."""
        self.data[self.places[kind] + offset] ^= value

    def write(self, path: Path) -> Path:
        """Write the file."""
        path.write_bytes(self.data)
        return path


DISK = noise(5 * CHUNK + 512, 7)
CHUNKS = [DISK[at : at + CHUNK] for at in range(0, len(DISK), CHUNK)]


def simple(*, compressed: int = 0b101010, identifier: bytes = bytes(16)) -> Segment:
    """A disk in one segment, some of its chunks compressed, and two tables."""
    segment = Segment()
    segment.volume(len(DISK) // 512, identifier=identifier)
    packed = [
        zlib.compress(chunk) if compressed >> number & 1 else stored(chunk)
        for number, chunk in enumerate(CHUNKS)
    ]
    segment.chunks(packed[:3], compressed)
    segment.chunks(packed[3:], compressed >> 3)
    return segment


def finish(segment: Segment, path: Path) -> Path:
    segment.add("done")
    return segment.write(path)


def disk_file(folder: Path) -> Path:
    path = folder / "raw"
    path.write_bytes(DISK)
    return path


def test_our_writer_is_understood_by_libewf(tmp_path: Path) -> None:
    path = finish(simple(), tmp_path / "disk.E01")
    exported = tmp_path / "exported"
    run_tool("sh", "-c", f'"{find_tool("img_cat")}" -i ewf "{path}" > "{exported}"')
    assert exported.read_bytes() == DISK


def test_our_writer_is_read(tmp_path: Path) -> None:
    with open_image(finish(simple(), tmp_path / "disk.E01")) as image:
        check_image(image, disk_file(tmp_path))


def test_a_base_offset(tmp_path: Path) -> None:
    segment = Segment()
    segment.volume(len(DISK) // 512)
    segment.chunks([stored(chunk) for chunk in CHUNKS], base=len(segment.data) + 70)
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        check_image(image, disk_file(tmp_path))


def test_a_disk_section_and_sections_without_a_size(tmp_path: Path) -> None:
    """As FTK Imager 2.3 and Expert Witness 1.35 have them."""
    segment = Segment()
    segment.volume(len(DISK) // 512, kind="disk")
    segment.chunks([stored(chunk) for chunk in CHUNKS])
    for at in segment.places.values():
        head = bytearray(segment.data[at : at + 72])
        head[24:32] = bytes(8)
        segment.data[at : at + 76] = checksummed(bytes(head))
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        check_image(image, disk_file(tmp_path))


def test_a_last_chunk_that_is_filled_up(tmp_path: Path) -> None:
    segment = Segment()
    segment.volume(len(DISK) // 512)
    last = CHUNKS[-1].ljust(CHUNK, b"\xaa")
    segment.chunks([stored(chunk) for chunk in CHUNKS[:-1]] + [stored(last)])
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        check_image(image, disk_file(tmp_path))


@pytest.mark.proves("format", "ewf", "tables beyond 31 bits")
def test_offsets_beyond_31_bits(tmp_path: Path) -> None:
    """As EnCase 6.7.1 writes them in a segment of more than 2 GiB."""
    segment = Segment()
    segment.volume(len(DISK) // 512)
    start = len(segment.data)
    limit = 1 << 31
    # Far apart, but for those around the limit; the first is compressed.
    places = [start + 76, limit - CHUNK - 4, limit, limit + CHUNK + 4, limit + 5 * MIB]
    places.append(places[-1] + CHUNK + 4)
    packed = [zlib.compress(CHUNKS[0])] + [stored(chunk) for chunk in CHUNKS[1:]]
    end = places[-1] + len(packed[-1])
    head = checksummed(struct.pack("<16sQQ40x", b"sectors", end, end - start))
    path = tmp_path / "disk.E01"
    with path.open("wb") as file:
        file.write(segment.data + head)
        for place, chunk in zip(places, packed, strict=True):
            file.seek(place)
            file.write(chunk)
    # The sections behind it are written as if of a file that begins where they do.
    tail = bytearray()
    entries = struct.pack("<6I", places[0] | 1 << 31, *places[1:])
    body = checksummed(struct.pack("<I4xQ4x", 6, 0)) + checksummed(entries)
    tail += section(b"table", body, end)
    tail += section(b"done", b"", end + len(tail))
    with path.open("r+b") as file:
        file.seek(end)
        file.write(tail)
    with open_image(path) as image:
        check_image(image, disk_file(tmp_path))


@pytest.mark.proves("format", "ewf", "disks of 2 TiB")
def test_a_table_of_two_tebibytes_is_read_in_slices(tmp_path: Path) -> None:
    chunks = (2 << 40) // CHUNK
    segment = Segment()
    segment.volume(chunks * 64)
    at = len(segment.data) + 76
    segment.add("sectors", stored(CHUNKS[0]) + stored(CHUNKS[1]))
    # All but the last two entries are 0, and not to be read.
    start = len(segment.data)
    last = struct.pack("<2I", at, at + CHUNK + 4)
    checksum = 1
    zeros = bytes(4 * MIB)
    for _ in range(chunks * 4 // len(zeros) - 1):
        checksum = zlib.adler32(zeros, checksum)
    checksum = zlib.adler32(zeros[:-8] + last, checksum)
    size = 76 + 24 + chunks * 4 + 4
    path = tmp_path / "disk.E01"
    with path.open("wb") as file:
        file.write(segment.data)
        file.write(checksummed(struct.pack("<16sQQ40x", b"table", start + size, size)))
        file.write(checksummed(struct.pack("<I4xQ4x", chunks, 0)))
        file.seek(start + size - 12)
        file.write(last + struct.pack("<I", checksum))
        file.write(section(b"done", b"", start + size))
    tracemalloc.start()
    try:
        with open_image(path) as image:
            assert image.size == 2 << 40
            assert image.read(image.size - 2 * CHUNK, 2 * CHUNK) == CHUNKS[0] + CHUNKS[1]
            with pytest.raises(CorruptImage):
                image.read(0, 512)
            for number, _piece in enumerate(image.pieces(0, image.size)):
                assert number == 0
        assert tracemalloc.get_traced_memory()[1] < 48 * MIB
    finally:
        tracemalloc.stop()


def test_names_of_segments_up_to_the_end_of_the_alphabet(tmp_path: Path) -> None:
    """.E99 is followed by .EAA, .EZZ by .FAA; each holds one chunk here."""
    count = 100 + 26 * 26 + 2
    names = [f"E{number:02}" for number in range(1, 100)]
    letters = [chr(ord("A") + number) for number in range(26)]
    names += [f"E{a}{b}" for a in letters for b in letters] + ["FAA", "FAB", "FAC"]
    disk = noise(count * 512, 9)
    identifier = noise(16, 1)
    for number in range(1, count + 1):
        segment = Segment(number)
        kind = "volume" if number == 1 else "data"
        segment.volume(count, kind=kind, per_chunk=1, identifier=identifier)
        segment.chunks([stored(disk[(number - 1) * 512 : number * 512])])
        segment.add("next" if number < count else "done")
        segment.write(tmp_path / f"disk.{names[number - 1]}")
    with open_image(tmp_path / "disk.E01") as image:
        assert image.read(0, len(disk)) == disk
    # Whichever is named.
    with open_image(tmp_path / "disk.FAB") as image:
        assert image.read(0, len(disk)) == disk


def three_segments(folder: Path, identifiers: tuple[bytes, bytes, bytes] | None = None) -> Path:
    """Two chunks in each of three segments; returns the first."""
    if identifiers is None:
        identifiers = (b"i" * 16, b"i" * 16, b"i" * 16)
    for number in range(3):
        segment = Segment(number + 1)
        segment.volume(
            len(DISK) // 512,
            kind="data" if number else "volume",
            identifier=identifiers[number],
        )
        segment.chunks([stored(chunk) for chunk in CHUNKS[2 * number : 2 * number + 2]])
        segment.add("next" if number < 2 else "done")
        segment.write(folder / f"disk.E0{number + 1}")
    return folder / "disk.E01"


def test_any_segment_may_be_named(tmp_path: Path) -> None:
    three_segments(tmp_path)
    for number in (1, 2, 3):
        with open_image(tmp_path / f"disk.E0{number}") as image:
            assert image.read(0, image.size) == DISK


def test_names_in_the_other_case(tmp_path: Path) -> None:
    first = three_segments(tmp_path)
    (tmp_path / "disk.E02").rename(tmp_path / "disk.e02")
    with open_image(first) as image:
        assert image.read(0, image.size) == DISK


@pytest.mark.proves("format", "ewf", "missing segment named")
@pytest.mark.parametrize(("named", "missing"), [("E01", "E02"), ("E01", "E03"), ("E03", "E01")])
def test_a_missing_segment_is_named(named: str, missing: str, tmp_path: Path) -> None:
    three_segments(tmp_path)
    (tmp_path / f"disk.{missing}").unlink()
    with pytest.raises(MissingPart) as caught:
        open_image(tmp_path / f"disk.{named}")
    check_described(caught.value)
    assert f"disk.{missing}" in describe(caught.value)


def test_a_renamed_segment_does_not_lead_to_others(tmp_path: Path) -> None:
    first = three_segments(tmp_path)
    first.rename(tmp_path / "evidence")
    with pytest.raises(MissingPart) as caught:
        open_image(tmp_path / "evidence")
    check_described(caught.value)
    assert "segment 2" in describe(caught.value)


@pytest.mark.parametrize("name", ["disk.E01", "disk.e01"])
def test_a_number_that_no_segment_of_this_name_has(name: str, tmp_path: Path) -> None:
    path = Segment(0xFFFF).write(tmp_path / name)
    with pytest.raises(MissingPart) as caught:
        open_image(path)
    check_described(caught.value)


def test_no_name_is_left_behind_zzz(tmp_path: Path) -> None:
    names = ewf._Names(b"disk.E01", 1)
    last = 100 + 22 * 26 * 26 - 1
    assert names.names(last)[0] == b"disk.ZZZ"
    assert names.names(last + 1) == []
    assert ewf._Names(b"disk.s01", 1).names(100 + 8 * 26 * 26 - 1)[0] == b"disk.zzz"
    assert ewf._Names(b"disk.s01", 1).names(100 + 8 * 26 * 26) == []


def test_a_segment_with_another_number_is_refused(tmp_path: Path) -> None:
    first = three_segments(tmp_path)
    (tmp_path / "disk.E03").rename(tmp_path / "disk.E02")
    with pytest.raises(CorruptImage) as caught:
        open_image(first)
    assert "segment 3 instead of 2" in describe(caught.value)
    assert "disk.E02" in describe(caught.value)


def test_a_segment_of_another_set_is_refused(tmp_path: Path) -> None:
    first = three_segments(tmp_path, (b"i" * 16, b"i" * 16, b"j" * 16))
    with pytest.raises(CorruptImage) as caught:
        open_image(first)
    assert "another set" in describe(caught.value)
    assert "disk.E03" in describe(caught.value)


def test_a_segment_is_not_read_elsewhere(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    first = three_segments(own)
    (own / "disk.E02").rename(other / "secret")
    (own / "disk.E02").symlink_to(other / "secret")
    with pytest.raises(UnsupportedFeature) as caught:
        open_image(first)
    assert caught.value.code == "image.consent"


# ---- Facts -------------------------------------------------------------------------------------


def header2(text: str, encoding: str = "utf-16") -> bytes:
    return zlib.compress(text.encode(encoding))


def test_a_case_header_in_unicode(tmp_path: Path) -> None:
    names = "a\tc\tn\te\tt\tmd\tsn\tl\tav\tov\tm\tu\tp"
    values = (
        "Größe\t\u202e1\t2\tÅsa\tone\x1btwo\tmodel\tserial\tlabel\t7.02\tLinux\t"
        "1142163845\tsometime\tsecret"
    )
    segment = Segment()
    segment.add("header2", header2(f"3\nmain\n{names}\n{values}\n\nsrce\n0\t1\n"))
    old = b"1\r\nmain\r\nc\tm\r\nold\t2006 3 12 11 44 5\r\n\r\n"
    segment.add("header", zlib.compress(old))
    segment.volume(64, identifier=bytes(range(16)))
    segment.chunks([stored(CHUNKS[0])])
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        facts = image.facts()
    assert facts["description"] == "Größe"
    assert facts["case number"] == r"\u202e1"
    assert facts["examiner"] == "Åsa"
    assert facts["notes"] == r"one\x1btwo"
    assert facts["acquired"] == "2006-03-12 11:44:05 UTC"
    assert facts["system date"] == "sometime"
    assert facts["set identifier"] == "03020100-0504-0706-0809-0a0b0c0d0e0f"
    assert "secret" not in facts.values()


def test_an_older_case_header(tmp_path: Path) -> None:
    segment = Segment()
    text = b"1\r\nmain\r\nc\tm\tu\r\nold \xe4\t2006 3 12 11 44 5\t2006 13 1 1 1 1\r\n\r\n"
    segment.add("header", zlib.compress(text))
    segment.volume(64)
    segment.chunks([stored(CHUNKS[0])])
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        facts = image.facts()
    assert facts["case number"] == r"old \xe4"
    assert facts["acquired"] == "2006-03-12 11:44:05"
    assert facts["system date"] == "2006 13 1 1 1 1"


@pytest.mark.parametrize(
    "data",
    [
        b"no zlib",
        zlib.compress(b"x" * 20 * MIB),
        zlib.compress(b"1\nother\na\nb\n"),
        zlib.compress(b"1\nmain\na"),
        zlib.compress(b"1\nmain\na\nb\n")[:-3],
        b"",
    ],
)
def test_a_damaged_case_header_is_told(data: bytes, tmp_path: Path) -> None:
    segment = Segment()
    segment.add("header", data)
    segment.volume(64)
    segment.chunks([stored(CHUNKS[0])])
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        (told,) = damaged_parts(image)
        assert "header section at byte 13" in told
        assert image.read(0, CHUNK) == CHUNKS[0]


def error_section(ranges: list[tuple[int, int]]) -> bytes:
    body = checksummed(struct.pack("<I512x", len(ranges)))
    return body + checksummed(b"".join(struct.pack("<II", *one) for one in ranges))


@pytest.mark.proves("format", "ewf", "error table")
def test_sectors_that_could_not_be_acquired(tmp_path: Path) -> None:
    segment = simple()
    segment.add("error2", error_section([(10, 1), (200, 64)]))
    path = finish(segment, tmp_path / "disk.E01")
    with open_image(path) as image:
        facts = image.facts()
    assert facts["unreadable sectors"] == 65
    assert facts["unreadable ranges"] == ["10-10", "200-263"]
    printed = run_tool("ewfinfo", str(path))
    assert re.search(r"total number:\s*2", printed)
    assert re.search(r"200 - 264|200 - 263", printed)


def test_sessions_of_a_disc(tmp_path: Path) -> None:
    segment = simple()
    body = checksummed(struct.pack("<I28x", 2))
    body += checksummed(struct.pack("<II24xII24x", 0, 16, 1, 5000))
    segment.add("session", body)
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        assert image.facts()["sessions"] == ["data from sector 16", "audio from sector 5000"]


@pytest.mark.proves("format", "ewf", "stored MD5 and SHA-1 offered")
def test_digests_are_offered_for_verification(tmp_path: Path) -> None:
    segment = simple()
    segment.add("digest", checksummed(b"m" * 16 + b"s" * 20 + bytes(40)))
    segment.add("hash", checksummed(b"m" * 16 + bytes(16)))
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        assert image.stored_hashes() == {"md5": b"m" * 16, "sha1": b"s" * 20}
        assert image.facts()["stored MD5"] == b"m".hex() * 16
        assert image.facts()["stored SHA-1"] == b"s".hex() * 20


@pytest.mark.parametrize("kind", ["hash", "digest", "error2", "session", "data"])
@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_section_that_holds_no_data_is_told(kind: str, cut: bool, tmp_path: Path) -> None:
    sections = {
        "hash": checksummed(b"m" * 16 + bytes(16)),
        "digest": checksummed(b"m" * 16 + b"s" * 20 + bytes(40)),
        "error2": error_section([(10, 1)]),
        "session": checksummed(struct.pack("<I28x", 1)) + checksummed(bytes(32)),
        "data": checksummed(struct.pack("<B3xIIIQ", 1, 0, 64, 512, 321).ljust(1048, b"\0")),
    }
    segment = simple()
    segment.add(kind, sections[kind][: -5 if cut else None])
    if not cut:
        segment.flip(kind, 76 + 1)
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        assert image.stored_hashes() == {}
        (told,) = damaged_parts(image)
        assert told.startswith(f"{kind} section at byte {segment.places[kind]}")
        assert image.read(0, image.size) == DISK


def test_more_errors_than_there_is_room_for(tmp_path: Path) -> None:
    segment = simple()
    segment.add("error2", checksummed(struct.pack("<I512x", 0xFFFFFFFF)) + bytes(100))
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        assert "damaged" in image.facts()


def test_an_incomplete_acquisition_is_told(tmp_path: Path) -> None:
    segment = simple()
    segment.add("incomplete", b"whatever")
    segment.add("something else", b"unknown")
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        (told,) = damaged_parts(image)
        assert told.startswith("incomplete")


# ---- Refusals and damage -----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["ltree", "ltypes", "media"])
def test_logical_evidence_is_refused_by_name(how: str, tmp_path: Path) -> None:
    segment = Segment()
    segment.volume(64, media=0x0E if how == "media" else 1)
    segment.chunks([stored(CHUNKS[0])])
    if how != "media":
        segment.add(how, bytes(48))
    with pytest.raises(UnsupportedFeature) as caught:
        open_image(finish(segment, tmp_path / "disk.E01"))
    check_described(caught.value)
    assert "logical evidence" in describe(caught.value)


def read_parts(image: Image) -> list[ExplorerError | None]:
    """Of each chunk, what reading it raises; what is read is right."""
    errors: list[ExplorerError | None] = []
    for number, chunk in enumerate(CHUNKS):
        try:
            assert image.read(number * CHUNK, CHUNK) == chunk
            assert image.read(number * CHUNK + 100, 100) == chunk[100:200]
            errors.append(None)
        except ImageError as error:
            check_described(error)
            errors.append(error)
    return errors


@pytest.mark.proves("format", "ewf", "damaged table, good copy")
@pytest.mark.parametrize("where", [8, 76, 80, 84, 95, 76 + 24, 76 + 24 + 5, 76 + 24 + 3 * 4])
def test_a_damaged_table_is_replaced_by_its_copy(where: int, tmp_path: Path) -> None:
    segment = Segment()
    segment.volume(len(DISK) // 512)
    segment.chunks([stored(chunk) for chunk in CHUNKS])
    if where == 8:
        # A table of a name that is not known is as none.
        at = segment.places["table"]
        head = bytearray(segment.data[at : at + 72])
        head[:5] = b"elbat"
        segment.data[at : at + 76] = checksummed(bytes(head))
        with pytest.raises(CorruptImage):
            open_image(finish(segment, tmp_path / "disk.E01"))
        return
    segment.flip("table", where)
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        check_image(image, disk_file(tmp_path))
        assert "missing bytes" not in image.facts()


def test_only_the_chunks_of_a_lost_table_are_lost(tmp_path: Path) -> None:
    segment = Segment()
    segment.volume(len(DISK) // 512)
    segment.chunks([stored(chunk) for chunk in CHUNKS[:3]])
    segment.flip("table", 76 + 24 + 1)
    segment.flip("table2", 76 + 24 + 1)
    segment.chunks([stored(chunk) for chunk in CHUNKS[3:]])
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        errors = read_parts(image)
        assert [error is None for error in errors] == [False] * 3 + [True] * 3
        assert isinstance(errors[0], CorruptImage)
        assert errors[0].params["structure"] == "table section"
        extents = list(image.extents(0, image.size))
        assert [extent.kind for extent in extents] == [ExtentKind.ENCODED]


@pytest.mark.parametrize("copy", [False, True])
def test_what_follows_a_table_without_its_head_is_lost(copy: bool, tmp_path: Path) -> None:
    segment = Segment()
    segment.volume(len(DISK) // 512)
    segment.chunks([stored(chunk) for chunk in CHUNKS[:2]])
    segment.chunks([stored(chunk) for chunk in CHUNKS[2:4]], copy=copy)
    segment.flip("table", 76)
    if copy:
        segment.flip("table2", 76)
    segment.chunks([stored(chunk) for chunk in CHUNKS[4:]])
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        errors = read_parts(image)
        assert [error is None for error in errors] == [True] * 2 + [False] * 4
        assert image.facts()["missing bytes"] == len(DISK) - 2 * CHUNK


@pytest.mark.proves("format", "ewf", "damaged chunk named, others read")
def test_a_damaged_chunk_is_named_and_others_are_read(tmp_path: Path) -> None:
    for number in range(6):
        for compressed in (0, 0b111111):
            segment = simple(compressed=compressed)
            path = tmp_path / "disk.E01"
            data = bytearray(segment.data)
            packed = (zlib.compress if compressed else stored)(CHUNKS[number])
            at = bytes(data).index(packed)
            data[at + len(packed) // 2] ^= 1
            segment.data = data
            with open_image(finish(segment, path)) as image:
                errors = read_parts(image)
                assert [error is None for error in errors] == [one != number for one in range(6)]
                error = errors[number]
                assert isinstance(error, CorruptImage)
                assert error.params["structure"] == f"chunk {number}"
                assert error.params["offset"] == at


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (zlib.compress(CHUNKS[1] + b"x"), "more than"),
        (zlib.compress(bytes(64 * MIB)), "more than"),
        (zlib.compress(CHUNKS[1][:-1]), "32767 bytes instead of 32768"),
        (zlib.compress(CHUNKS[1])[:-100], "cut off"),
        (b"", "cut off"),
        (b"not zlib", "header"),
    ],
)
def test_a_compressed_chunk_of_another_size(packed: bytes, reason: str, tmp_path: Path) -> None:
    segment = Segment()
    segment.volume(128)
    segment.chunks([stored(CHUNKS[0]), packed], 0b10)
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        assert image.read(0, CHUNK) == CHUNKS[0]
        with pytest.raises(CorruptImage) as caught:
            image.read(CHUNK, CHUNK)
    assert reason in describe(caught.value)
    assert caught.value.params["structure"] == "chunk 1"


def test_a_stored_chunk_that_is_too_short(tmp_path: Path) -> None:
    segment = Segment()
    segment.volume(128)
    segment.chunks([stored(CHUNKS[0])[:-8], stored(CHUNKS[1])])
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        assert image.read(CHUNK, CHUNK) == CHUNKS[1]
        with pytest.raises(CorruptImage) as caught:
            image.read(0, CHUNK)
    assert "32764 bytes instead of 32772" in describe(caught.value)


def test_entries_out_of_order_or_outside(tmp_path: Path) -> None:
    segment = Segment()
    segment.volume(256)
    at = len(segment.data) + 76
    segment.add("sectors", stored(CHUNKS[0]) + stored(CHUNKS[1]))
    segment.table([at + CHUNK + 4, at, 0x7FFFFFF0, 0x10])
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        for number in (0, 2, 3):
            with pytest.raises(ImageError) as caught:
                image.read(number * CHUNK, 512)
            check_described(caught.value)
        list(image.extents(0, image.size))


@pytest.mark.parametrize(
    ("following", "size"), [(0, 0), (0, 200), (13, 76), (89, 77), (1 << 63, 0), (1 << 40, 1 << 40)]
)
def test_sections_that_lead_nowhere(following: int, size: int, tmp_path: Path) -> None:
    segment = Segment()
    segment.data += checksummed(struct.pack("<16sQQ40x", b"volume", following, size))
    segment.volume(64)
    segment.chunks([stored(CHUNKS[0])])
    with pytest.raises(CorruptImage) as caught:
        open_image(finish(segment, tmp_path / "disk.E01"))
    check_described(caught.value)
    assert caught.value.params["structure"] == ewf.SECTION
    assert caught.value.params["offset"] == 13


def test_two_images_in_one_are_refused(tmp_path: Path) -> None:
    """The size of a section leads to another one than its offset does."""
    segment = simple()
    at = segment.places["volume"]
    following, size = struct.unpack_from("<QQ", segment.data, at + 16)
    for changed in ((following, size + 76), (following + 76, size)):
        head = struct.pack("<16sQQ40x", b"volume", *changed)
        segment.data[at : at + 76] = checksummed(head)
        with pytest.raises(CorruptImage):
            open_image(segment.write(tmp_path / "disk.E01"))


@pytest.mark.parametrize(
    ("per_chunk", "sector", "sectors"),
    [
        (0, 512, 64),
        (64, 0, 64),
        (64, 512, 0),
        (1 << 31, 512, 64),
        (1, 1 << 21, 64),
        (64, 512, 1 << 63),
        (64, 1 << 20, 1 << 43),
    ],
)
def test_impossible_sizes(per_chunk: int, sector: int, sectors: int, tmp_path: Path) -> None:
    segment = Segment()
    segment.volume(sectors, per_chunk=per_chunk, sector=sector)
    segment.chunks([stored(CHUNKS[0])])
    with pytest.raises(CorruptImage) as caught:
        open_image(finish(segment, tmp_path / "disk.E01"))
    check_described(caught.value)


def test_a_size_that_only_the_data_section_tells(tmp_path: Path) -> None:
    segment = Segment()
    segment.volume(0)
    segment.chunks([stored(chunk) for chunk in CHUNKS])
    segment.volume(len(DISK) // 512, kind="data")
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        check_image(image, disk_file(tmp_path))


@pytest.mark.parametrize("kind", ["volume", "tables"])
def test_an_image_without_a_needed_section(kind: str, tmp_path: Path) -> None:
    segment = Segment()
    if kind != "volume":
        segment.volume(64)
    else:
        segment.chunks([stored(CHUNKS[0])])
        segment.volume(64, kind="data")
    with pytest.raises(CorruptImage) as caught:
        open_image(finish(segment, tmp_path / "disk.E01"))
    check_described(caught.value)


def test_a_table_without_entries_is_passed_over(tmp_path: Path) -> None:
    segment = Segment()
    segment.volume(64)
    segment.table([])
    segment.chunks([stored(CHUNKS[0])])
    with open_image(finish(segment, tmp_path / "disk.E01")) as image:
        assert image.read(0, CHUNK) == CHUNKS[0]


@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_file_header(number: int, tmp_path: Path) -> None:
    segment = simple()
    if number:
        segment.data[8] = 2
    else:
        segment.data[9:11] = bytes(2)
    with pytest.raises(CorruptImage) as caught:
        open_image(finish(segment, tmp_path / "disk.E01"))
    assert caught.value.params["structure"] == ewf.SEGMENT


def test_a_cut_image_is_read_as_far_as_its_tables_go(tmp_path: Path) -> None:
    segment = simple()
    whole = bytes(segment.data)
    path = tmp_path / "disk.E01"
    # The second pair of tables is cut off, and with it the end.
    path.write_bytes(whole[: segment.places["sectors"] + 2 * CHUNK])
    with open_image(path) as image:
        errors = read_parts(image)
        assert [error is None for error in errors] == [True] * 3 + [False] * 3
        assert isinstance(errors[3], CorruptImage)
        assert errors[3].params["structure"] == ewf.SECTION
        assert image.facts()["missing bytes"] == len(DISK) - 3 * CHUNK
    # Nothing is left without the first.
    path.write_bytes(whole[: segment.places["volume"] + 1128 + 76 + 100])
    with pytest.raises(CorruptImage):
        open_image(path)


@pytest.mark.proves("format", "ewf", "damage gives typed errors")
def test_damaged_images(tmp_path: Path) -> None:
    segment = simple(identifier=b"i" * 16)
    segment.add("header", zlib.compress(b"1\nmain\nc\n17\n\n"))
    segment.add("error2", error_section([(10, 1)]))
    segment.add("session", checksummed(struct.pack("<I28x", 1)) + checksummed(bytes(32)))
    segment.volume(len(DISK) // 512, kind="data", identifier=b"i" * 16)
    segment.add("digest", checksummed(b"m" * 16 + b"s" * 20 + bytes(40)))
    segment.add("hash", checksummed(b"m" * 16 + bytes(16)))
    path = finish(segment, tmp_path / "disk.E01")
    structures = [(0, 13)]
    for kind, at in segment.places.items():
        size = struct.unpack_from("<Q", segment.data, at + 24)[0] or 76
        structures += [(at, 76)]
        if size > 76 and kind != "sectors":
            structures.append((at + 76, min(size - 76, 600)))
    check_damaged(path, tmp_path, structures, flips=600)


@pytest.mark.proves("format", "ewf", "damage gives typed errors")
def test_damaged_images_with_right_checksums(tmp_path: Path) -> None:
    """Fields are changed, and the checksums of what they are in are set right again."""
    segment = simple()
    path = finish(segment, tmp_path / "disk.E01")
    whole = path.read_bytes()
    places = [(at, 72) for at in segment.places.values()]
    places += [(segment.places["volume"] + 76, 1048), (segment.places["table"] + 76, 20)]
    values = (0, 1, 0x7F, 0x80, 0xFF)
    copy = tmp_path / "changed.E01"
    for start, length in places:
        for at in range(start, start + min(length, 32)):
            for value in values:
                changed = bytearray(whole)
                changed[at] = value
                changed[start : start + length + 4] = checksummed(
                    bytes(changed[start : start + length])
                )
                copy.write_bytes(changed)
                try:
                    with open_image(copy) as image:
                        image.facts()
                        for offset in {0, image.size // 2, max(0, image.size - 512)}:
                            image.read(offset, 512)
                except ExplorerError as error:
                    check_described(error)


def test_it_is_read_from_several_threads(raw: Path, tmp_path: Path) -> None:
    first = acquire(raw, tmp_path / "disk", "encase6", "-c", "fast")
    wanted = raw.read_bytes()
    wrong: list[int] = []
    with open_image(first) as image:

        def read(seed: int) -> None:
            for number in range(100):
                offset = (number * 7919 + seed * 104_729) * 511 % (len(wanted) - 70_000)
                if image.read(offset, 70_000) != wanted[offset : offset + 70_000]:
                    wrong.append(offset)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_the_segments_are_closed_with_the_image(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    first = three_segments(tmp_path)
    with open_image(first):
        assert len(os.listdir("/proc/self/fd")) == before + 3
    assert len(os.listdir("/proc/self/fd")) == before
    (tmp_path / "disk.E03").unlink()
    with pytest.raises(MissingPart):
        open_image(first)
    assert len(os.listdir("/proc/self/fd")) == before
