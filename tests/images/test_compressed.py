# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressed images read in place: by the usual tools, many members, damage, and what is kept."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import random
import resource
import shutil
import struct
import threading
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

from explorer.core.errors import (
    CorruptImage,
    ExplorerError,
    ImageError,
    SourceError,
    UnsupportedFeature,
)
from explorer.core.extents import ExtentKind
from explorer.core.messages import describe
from explorer.images import packed_bzip2, packed_gzip, packed_xz, packed_zstd
from explorer.images.files import HostFile, HostFolder
from explorer.images.opening import CHAIN_LIMIT, Choices
from explorer.images.registry import open_file, open_image
from tests.images.checks import check_damaged, check_described, check_image
from tests.trees import find_tool, make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from explorer.images.base import Image

MIB = 1 << 20


def content(size: int, seed: int = 1) -> bytes:
    """Bytes that compress somewhat: words, noise, zeros and repeated bytes in turn."""
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randrange(2, 12)) for _ in range(500)]
    parts = bytearray()
    while len(parts) < size:
        kind = chance.randrange(4)
        length = chance.randrange(1, 200_000)
        if kind == 0:
            parts += chance.randbytes(length)
        elif kind == 1:
            parts += b"".join(chance.choices(words, k=length // 7))
        else:
            parts += bytes((0 if kind == 2 else chance.randrange(256),)) * length
    return bytes(parts[:size])


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "disk"
    path.write_bytes(content(3 * MIB + 12_345))
    return path


def shell(script: str, source: Path, target: Path) -> Path:
    """Run a line of shell with ``$IN`` and ``$OUT``."""
    for tool in ("gzip", "bgzip", "xz", "pixz", "zstd", "bzip2"):
        if script.startswith(tool + " "):
            find_tool(tool)
    run_tool("sh", "-ec", f"IN='{source}' OUT='{target}'\n{script}")
    return target


# By name: the format, a line of shell, whether the length is known without decoding it all.
TOOLS = {
    "gzip -1": ("gzip", 'gzip -1 -c "$IN" > "$OUT"', False),
    "gzip -9": ("gzip", 'gzip -9 -c "$IN" > "$OUT"', False),
    "bgzip": ("gzip", 'bgzip -c "$IN" > "$OUT"', True),
    "bgzip with an index": ("gzip", 'bgzip -i -I "$OUT.gzi" -c "$IN" > "$OUT"', True),
    "gzip in parts": (
        "gzip",
        'split -b 1000000 "$IN" "$OUT."; for i in "$OUT".*; do gzip -c "$i"; done > "$OUT"',
        False,
    ),
    "gzip in small parts": (
        "gzip",
        'split -a 4 -b 30000 "$IN" "$OUT."; for i in "$OUT".*; do gzip -c "$i"; done > "$OUT"',
        False,
    ),
    "xz": ("xz", 'xz -1 -T1 -c "$IN" > "$OUT"', True),
    "xz -9": ("xz", 'xz -9 -T1 -c "$IN" > "$OUT"', True),
    "xz in blocks": ("xz", 'xz -1 -T2 --block-size=1000000 -c "$IN" > "$OUT"', True),
    "xz in streams": (
        "xz",
        'split -b 900000 "$IN" "$OUT."; for i in "$OUT".*; do xz -1 -c "$i"; done > "$OUT"',
        True,
    ),
    "xz with SHA-256": ("xz", 'xz -1 -C sha256 -c "$IN" > "$OUT"', True),
    "xz without a check": ("xz", 'xz -1 -C none -c "$IN" > "$OUT"', True),
    "xz with filters": ("xz", 'xz --x86 --delta=dist=4 --lzma2=preset=1 -c "$IN" > "$OUT"', True),
    "pixz": ("xz", 'pixz -1 -t -f 0.05 < "$IN" > "$OUT"', True),
    "zstd": ("zstd", 'zstd -q -c "$IN" > "$OUT"', True),
    "zstd from a pipe": ("zstd", 'zstd -q -c < "$IN" > "$OUT"', False),
    "zstd without a checksum": ("zstd", 'zstd -q --no-check -c "$IN" > "$OUT"', True),
    "zstd --long": ("zstd", 'zstd -q --long -1 -c "$IN" > "$OUT"', True),
    "zstd -T2": ("zstd", 'zstd -q -T2 -B1MiB -c "$IN" > "$OUT"', True),
    "zstd in frames": (
        "zstd",
        'split -b 700000 "$IN" "$OUT."; for i in "$OUT".*; do zstd -q -c "$i"; done > "$OUT"',
        True,
    ),
    "zstd in frames from pipes": (
        "zstd",
        'split -b 700000 "$IN" "$OUT."; for i in "$OUT".*; do zstd -q -c < "$i"; done > "$OUT"',
        False,
    ),
    "bzip2 -1": ("bzip2", 'bzip2 -1 -c "$IN" > "$OUT"', False),
    "bzip2 -9": ("bzip2", 'bzip2 -9 -c "$IN" > "$OUT"', False),
    "bzip2 in streams": (
        "bzip2",
        'split -b 900000 "$IN" "$OUT."; for i in "$OUT".*; do bzip2 -c "$i"; done > "$OUT"',
        False,
    ),
}


class CountingFile(HostFile):
    """Counts what is read of a file."""

    count = 0

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer``, and count."""
        self.count += len(buffer)
        super().read_into(offset, buffer)


def open_counted(path: Path, choices: Choices) -> tuple[CountingFile, Image]:
    file = CountingFile(path)
    return file, open_file(file, HostFolder(os.fsencode(path.parent)), choices)


# ---- What tools write --------------------------------------------------------------------------


@pytest.mark.proves("format", "gzip, xz, zstd, bzip2", "as the tools write them")
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("cached", [False, True])
def test_what_tools_write_is_read(tool: str, cached: bool, raw: Path, tmp_path: Path) -> None:
    name, script, at_once = TOOLS[tool]
    path = shell(script, raw, tmp_path / "disk.img")
    cache = tmp_path / "cache" if cached else None
    # Without a look at what is inside, which may want to see its end.
    file, image = open_counted(path, Choices(format=name, cache_folder=cache))
    with image:
        assert (file.count < path.stat().st_size // 2) is at_once
    with open_image(path, choices=Choices(cache_folder=cache)) as image:
        assert image.format == name
        check_image(image, raw)
        facts = image.facts()
        assert facts["compressed with"] == name
        assert facts["compressed size"] == path.stat().st_size
        assert "ignored bytes at the end" not in facts
        (extent,) = image.extents(0, image.size)
        assert extent.kind is ExtentKind.ENCODED


@pytest.mark.proves("format", "gzip, xz, zstd, bzip2", "seek points kept in the cache folder")
@pytest.mark.parametrize("tool", [name for name in TOOLS if not TOOLS[name][2]])
def test_what_was_found_is_kept(tool: str, raw: Path, tmp_path: Path) -> None:
    name, script, _at_once = TOOLS[tool]
    path = shell(script, raw, tmp_path / "disk.img")
    size = path.stat().st_size
    # Without a look at what is inside.
    choices = Choices(format=name, cache_folder=tmp_path / "cache")
    file, image = open_counted(path, choices)
    with image:
        assert file.count >= size
        facts = image.facts()
    file, image = open_counted(path, choices)
    with image:
        # The ends of the file, by which it is known, and the headers.
        assert file.count < 200_000
        assert image.facts() == facts
        check_image(image, raw)


def test_nothing_is_kept_without_a_folder(raw: Path, tmp_path: Path) -> None:
    path = shell('gzip -1 -c "$IN" > "$OUT"', raw, tmp_path / "disk.gz")
    for _ in range(2):
        file, image = open_counted(path, Choices())
        with image:
            assert file.count >= path.stat().st_size
    assert [entry.name for entry in tmp_path.iterdir()] == ["disk.gz"]


@pytest.mark.proves("format", "gzip, xz, zstd, bzip2", "multi-block files seek at once")
@pytest.mark.parametrize(
    "tool", ["bgzip", "gzip -1", "xz in blocks", "xz in streams", "zstd in frames", "bzip2 -1"]
)
def test_a_read_far_away_reads_only_there(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_gzip, "SPACING", MIB)
    name, script, _at_once = TOOLS[tool]
    disk = tmp_path / "disk"
    disk.write_bytes(noise(6 * MIB, 6))
    path = shell(script, disk, tmp_path / "disk.img")
    choices = Choices(format=name, cache_folder=tmp_path / "cache")
    open_image(path, choices=choices).close()
    file, image = open_counted(path, choices)
    with image:
        before = file.count
        offset = 4 * MIB + 123
        assert image.read(offset, 1000) == disk.read_bytes()[offset : offset + 1000]
        # A run or two, of less than a MiB each, and what is read ahead.
        assert file.count - before < 2 * MIB


def test_reading_in_order_goes_the_way_once(raw: Path, tmp_path: Path) -> None:
    path = shell('xz -1 -T1 -c "$IN" > "$OUT"', raw, tmp_path / "disk.xz")
    file, image = open_counted(path, Choices())
    with image:
        before = file.count
        for offset in range(0, image.size, 100_000):
            image.read(offset, 100_000)
        assert file.count - before <= path.stat().st_size + MIB


def test_what_was_decoded_is_put_aside(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no seek points are possible, the way back is only gone once with a cache folder."""
    for packing in (packed_xz.XzPacking, packed_zstd.ZstdPacking):
        monkeypatch.setattr(packing, "long_run", MIB)
    for tool in ("xz", "zstd", "zstd from a pipe"):
        path = shell(TOOLS[tool][1], raw, tmp_path / "disk")
        size = path.stat().st_size
        for cached in (True, False):
            cache = tmp_path / f"cache of {tool}" if cached else None
            file, image = open_counted(path, Choices(cache_folder=cache))
            with image:
                image.read(image.size - 10, 10)
                before = file.count
                # More than what is kept in memory of this image.
                image._opening.cache._blocks.clear()  # type: ignore[attr-defined]
                check_image(image, raw)
                assert (file.count - before < size // 4) is cached
            # The file that it was put into has no name, and is gone.
            if cache is not None:
                assert all(entry.is_dir() for entry in cache.iterdir())


def test_a_folder_that_cannot_be_written_is_done_without(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for tool in ("gzip -1", "xz", "zstd from a pipe", "bzip2 -1"):
        path = shell(TOOLS[tool][1], raw, tmp_path / "disk")
        with open_image(path, choices=Choices(cache_folder=tmp_path / "file")) as image:
            assert image.read(image.size - 1000, 1000) == raw.read_bytes()[-1000:]
            assert image.read(0, 1000) == raw.read_bytes()[:1000]


REAL = Path(__file__).parents[3] / "shared" / "images"


@pytest.mark.parametrize(("suffix", "tool"), [("gz", "gzip"), ("xz", "xz"), ("bz2", "bzip2")])
def test_real_images(suffix: str, tool: str, tmp_path: Path) -> None:
    """Some of those that other projects keep, the smallest and the largest among them."""
    if not REAL.exists():
        pytest.skip(f"{REAL} is not here")
    found = sorted(REAL.glob(f"*/*.{suffix}"), key=lambda path: path.stat().st_size)
    found = [path for path in found if path.stat().st_size < 200_000]
    assert len(found) > 10
    compared = 0
    for path in [*found[:: len(found) // 6], found[-1]]:
        with open_image(path, tool) as image:
            if image.size > 32 * MIB:
                continue
            disk = shell(f'{tool} -dc "$IN" > "$OUT"', path, tmp_path / "disk")
            assert image.read(0, 32 * MIB) == disk.read_bytes(), path
            compared += 1
    assert compared > 2


@pytest.mark.slow
def test_a_member_of_more_than_4_gib(tmp_path: Path) -> None:
    """Whose size in the trailer is modulo that, and so tells nothing."""
    size = (1 << 32) + 5 * MIB
    mark = b"the end of the first 4 GiB"
    script = f'head -c {1 << 32} /dev/zero | cat - "$IN" | head -c {size} | gzip -1 > "$OUT"'
    source = tmp_path / "rest"
    source.write_bytes(mark + noise(6 * MIB, 2))
    path = shell(script, source, tmp_path / "disk.gz")
    with open_image(path, "gzip") as image:
        assert image.size == size
        assert image.read((1 << 32) - 5, 5 + len(mark)) == bytes(5) + mark
        assert image.read(size - 1000, 2000) == source.read_bytes()[: 5 * MIB][-1000:]
        assert image.read(1 << 31, 10) == bytes(10)


# ---- What is kept ------------------------------------------------------------------------------


KEPT = ["gzip -1", "zstd from a pipe", "bzip2 -1"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "disk"
    path.write_bytes(content(MIB, 8))
    return path


@pytest.mark.proves("format", "gzip, xz, zstd, bzip2", "a damaged index is ignored")
@pytest.mark.parametrize("tool", KEPT)
def test_a_damaged_record_is_as_none(tool: str, small: Path, tmp_path: Path) -> None:
    path = shell(TOOLS[tool][1], small, tmp_path / "disk")
    choices = Choices(cache_folder=tmp_path / "cache")
    open_image(path, choices=choices).close()
    (record,) = (tmp_path / "cache" / "seek-points").iterdir()
    whole = record.read_bytes()
    chance = random.Random(1)
    damaged = [b"", whole[:10], whole[:-1], whole + b"x", noise(len(whole), 5)]
    for _ in range(10):
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(changed))
    for bad in damaged:
        record.write_bytes(bad)
        file, image = open_counted(path, choices)
        with image:
            # Made anew.
            assert file.count >= path.stat().st_size
            offset = image.size // 2
            assert image.read(offset, 5000) == small.read_bytes()[offset : offset + 5000]
        assert record.read_bytes() == whole


@pytest.mark.parametrize("tool", KEPT)
def test_a_record_that_is_whole_but_wrong_is_as_none(
    tool: str, small: Path, tmp_path: Path
) -> None:
    """Its own checksum is right, as if an older program had written it otherwise."""
    path = shell(TOOLS[tool][1], small, tmp_path / "disk")
    choices = Choices(cache_folder=tmp_path / "cache")
    open_image(path, choices=choices).close()
    wanted = small.read_bytes()
    (record,) = (tmp_path / "cache" / "seek-points").iterdir()
    whole = record.read_bytes()
    head, body = whole[:50], whole[50:-32]
    chance = random.Random(2)
    for number in range(60):
        changed = bytearray(body)
        if number % 3 == 0:
            del changed[chance.randrange(len(body)) :]
        else:
            at = chance.randrange(min(len(body), 400)) if number % 3 == 1 else number % len(body)
            changed[at] = chance.choice((0, 1, 0x7F, 0xFF, changed[at] ^ 1))
        digest = hashlib.sha256(head[-32:] + changed).digest()
        record.write_bytes(head + changed + digest)
        try:
            with open_image(path, choices=choices) as image:
                for offset in (0, min(image.size, len(wanted)) // 2):
                    image.read(offset, 5000)
        except ImageError as error:
            check_described(error)
        record.write_bytes(whole)


@pytest.mark.proves("format", "gzip, xz, zstd, bzip2", "index by the file's identity")
def test_a_record_is_of_one_file_only(raw: Path, tmp_path: Path) -> None:
    path = shell('gzip -1 -c "$IN" > "$OUT"', raw, tmp_path / "disk.gz")
    choices = Choices(format="gzip", cache_folder=tmp_path / "cache")
    open_image(path, choices=choices).close()
    kept = tmp_path / "cache" / "seek-points"
    assert len(list(kept.iterdir())) == 1
    # The same bytes somewhere else are not the same file; nor is it the same when touched.
    other = tmp_path / "other.gz"
    shutil.copyfile(path, other)
    file, image = open_counted(other, choices)
    with image:
        assert file.count >= path.stat().st_size
    os.utime(path, ns=(1, 1))
    file, image = open_counted(path, choices)
    with image:
        assert file.count >= path.stat().st_size
    assert len(list(kept.iterdir())) == 3
    # But it may be moved.
    path.rename(tmp_path / "moved.gz")
    file, image = open_counted(tmp_path / "moved.gz", choices)
    with image:
        assert file.count < 200_000


def test_records_make_room(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.images.records.KEPT_LIMIT", 1000)
    kept = tmp_path / "cache" / "seek-points"
    kept.mkdir(parents=True)
    (kept / "old").write_bytes(bytes(900))
    os.utime(kept / "old", ns=(1, 1))
    path = shell('bzip2 -9 -c "$IN" > "$OUT"', raw, tmp_path / "disk")
    open_image(path, choices=Choices(cache_folder=tmp_path / "cache")).close()
    assert not (kept / "old").exists()
    assert len(list(kept.iterdir())) == 1


# ---- gzip --------------------------------------------------------------------------------------


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with files of many gigabytes: sessions of a few points, of which few are kept."""
    monkeypatch.setattr(packed_gzip, "SPACING", 40_000)
    monkeypatch.setattr(packed_gzip, "SESSION_POINTS", 10)
    monkeypatch.setattr(packed_gzip, "_COUNT_EVERY", 1)
    monkeypatch.setattr(packed_gzip, "POINTS_LIMIT", 30)


@pytest.mark.parametrize("tool", ["gzip -1", "gzip -9", "gzip in parts", "gzip in small parts"])
def test_sessions_of_a_few_points(tool: str, raw: Path, tmp_path: Path, small_steps: None) -> None:
    path = shell(TOOLS[tool][1], raw, tmp_path / "disk.gz")
    choices = Choices(cache_folder=tmp_path / "cache")
    for _ in range(2):
        with open_image(path, choices=choices) as image:
            facts = image.facts()
            points = facts["seek points"]
            assert isinstance(points, int)
            assert 10 < points <= 30
            assert facts["checksums compared"] is False
            check_image(image, raw)


def test_windows_are_bounded(
    raw: Path, tmp_path: Path, small_steps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_gzip, "WINDOWS_LIMIT", 200_000)
    path = shell('gzip -1 -c "$IN" > "$OUT"', raw, tmp_path / "disk.gz")
    with open_image(path) as image:
        windows = image._packing._points.windows  # type: ignore[attr-defined]
        assert 0 < sum(len(window) for window in windows) <= 200_000
        check_image(image, raw)


def test_seek_points_at_each_bit(raw: Path, tmp_path: Path, small_steps: None) -> None:
    """Decoding goes on from every bit of a byte, stored blocks behind it too."""
    data = content(3 * MIB, 5)
    compressor = zlib.compressobj(6, zlib.DEFLATED, 31, memLevel=1)
    parts = []
    for at in range(0, len(data), 4096):
        parts.append(compressor.compress(data[at : at + 4096]))
        if at % 5 == 0:
            parts.append(compressor.flush(zlib.Z_BLOCK))
    parts.append(compressor.flush())
    path = tmp_path / "disk.gz"
    path.write_bytes(b"".join(parts))
    disk = tmp_path / "disk"
    disk.write_bytes(data)
    with open_image(path) as image:
        points = image._packing._points  # type: ignore[attr-defined]
        assert len(points.starts) > 10
        check_image(image, disk)


@pytest.mark.parametrize("bits", range(1, 8))
def test_what_fills_the_bits_before_a_block(bits: int) -> None:
    """A block of deflate at any bit: what zlib makes of it is what it was made of."""
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = block.compress(b"some text, some text") + block.flush()
    # Its bits from the first on, behind others that are not its own.
    number = int.from_bytes(data, "little") << (8 - bits) | (1 << 8 - bits) - 1
    moved = number.to_bytes(len(data) + 1, "little")
    stream = zlib.decompressobj(-15)
    text = stream.decompress(packed_gzip._fill(moved[0], bits) + moved[1:])
    assert text + stream.flush() == b"some text, some text"


def bgzf_member(data: bytes, length: int | None = None) -> bytes:
    """A member of BGZF (SAM specification, 4.1)."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = compressor.compress(data) + compressor.flush()
    size = 18 + len(body) + 8 if length is None else length
    head = b"\x1f\x8b\x08\x04" + bytes(6) + struct.pack("<H2sHH", 6, b"BC", 2, size - 1)
    return head + body + struct.pack("<II", zlib.crc32(data), len(data))


def test_bgzf_that_lies_is_an_error(tmp_path: Path) -> None:
    data = content(50_000)
    path = tmp_path / "disk.gz"
    good = bgzf_member(data)
    for isize in (49_999, 50_001, 0xFFFF):
        path.write_bytes(good[:-4] + struct.pack("<I", isize) + bgzf_member(b""))
        with open_image(path, "gzip") as image:
            assert image.facts()["BGZF"] is True
            with pytest.raises(CorruptImage) as caught:
                image.read(0, image.size)
            check_described(caught.value)
    # One that is not what it seems is an ordinary gzip file.
    for member in (bgzf_member(data, 20), bgzf_member(data, 40_000)):
        path.write_bytes(member + bgzf_member(b""))
        with open_image(path) as image:
            assert image.facts()["BGZF"] is False
            assert image.read(0, len(data)) == data


def test_bgzf_with_something_behind_it(raw: Path, tmp_path: Path) -> None:
    path = shell('bgzip -c "$IN" > "$OUT"', raw, tmp_path / "disk.gz")
    with path.open("ab") as file:
        file.write(gzip.compress(b"more"))
    with open_image(path) as image:
        assert image.size == raw.stat().st_size + 4
        assert image.read(image.size - 4, 4) == b"more"


def test_a_gzip_header_with_all_its_fields(tmp_path: Path) -> None:
    data = content(200_000)
    body = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed_data = body.compress(data) + body.flush()
    head = b"\x1f\x8b\x08\x1e" + bytes(6) + struct.pack("<H", 5) + b"extra" + b"name\0comment\0"
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    path = tmp_path / "disk.gz"
    path.write_bytes(head + packed_data + struct.pack("<II", zlib.crc32(data), len(data)))
    with open_image(path) as image:
        assert image.read(0, image.size) == data


# ---- Ends --------------------------------------------------------------------------------------

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "bzip2": bz2.compress,
}


def opened_error(path: Path) -> ExplorerError | None:
    """What opening a file and reading all of it raises."""
    try:
        with open_image(path, choices=Choices()) as image:
            for offset in range(0, image.size, MIB):
                image.read(offset, MIB)
    except ExplorerError as error:
        check_described(error)
        return error
    return None


@pytest.mark.parametrize("garbage", [b"x", bytes(512) + b"garbage", b"\x1f\x8b\x08", b"BZh9"])
@pytest.mark.parametrize("name", ["gzip", "bzip2"])
def test_other_bytes_at_the_end_are_ignored_and_told(
    name: str, garbage: bytes, tmp_path: Path
) -> None:
    """As gzip and bzip2 do, which warn."""
    data = content(300_000)
    path = tmp_path / "disk"
    path.write_bytes(COMPRESS[name](data) + garbage)
    if (name, garbage) in (("gzip", b"\x1f\x8b\x08"), ("bzip2", b"BZh9")):
        # What begins like another member is one that is cut off.
        error = opened_error(path)
        assert isinstance(error, CorruptImage)
        assert "cut off" in describe(error)
        return
    with open_image(path) as image:
        assert image.read(0, image.size) == data
        assert image.facts()["ignored bytes at the end"] == len(garbage)


def test_long_garbage_behind_gzip(tmp_path: Path) -> None:
    data = content(300_000)
    path = tmp_path / "disk"
    garbage = noise(3 * MIB, 1)
    assert b"\x1f\x8b" in garbage
    path.write_bytes(gzip.compress(data) + garbage)
    with open_image(path) as image:
        assert image.read(0, image.size) == data
        assert image.facts()["ignored bytes at the end"] == len(garbage)


def test_zeros_between_gzip_members(tmp_path: Path) -> None:
    first, second = content(300_000, 1), content(300_000, 2)
    path = tmp_path / "disk"
    path.write_bytes(gzip.compress(first) + bytes(1024) + gzip.compress(second) + bytes(512))
    with open_image(path) as image:
        assert image.read(0, image.size) == first + second


@pytest.mark.parametrize("padding", [4, 1024, 200_000])
def test_padding_of_xz(padding: int, tmp_path: Path) -> None:
    first, second = content(300_000, 1), content(300_000, 2)
    path = tmp_path / "disk"
    path.write_bytes(lzma.compress(first) + bytes(padding) + lzma.compress(second) + bytes(padding))
    with open_image(path) as image:
        assert image.read(0, image.size) == first + second
        assert image.facts()["streams"] == 2
    for wrong in (bytes(3), b"x", b"abcd"):
        path.write_bytes(lzma.compress(first) + wrong)
        assert isinstance(opened_error(path), CorruptImage)


def test_other_bytes_behind_zstd_are_an_error(tmp_path: Path) -> None:
    """As zstd says."""
    path = tmp_path / "disk"
    whole = COMPRESS["zstd"](content(300_000))
    for garbage in (b"x", bytes(512), noise(1000, 1)):
        path.write_bytes(whole + garbage)
        error = opened_error(path)
        assert isinstance(error, CorruptImage)
        assert error.params["offset"] == len(whole)


@pytest.mark.proves("format", "gzip, xz, zstd, bzip2", "damage gives typed errors")
@pytest.mark.parametrize("name", COMPRESS)
def test_a_file_that_is_cut_off(name: str, tmp_path: Path) -> None:
    data = content(2 * MIB)
    whole = COMPRESS[name](data)
    path = tmp_path / "disk"
    for cut in (20, 100, len(whole) // 2, len(whole) - 20, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:cut])
        error = opened_error(path)
        assert isinstance(error, CorruptImage), cut
        offset = error.params["offset"]
        assert isinstance(offset, int)
        assert 0 <= offset <= cut


@pytest.mark.proves("format", "gzip, xz, zstd, bzip2", "damage gives typed errors")
@pytest.mark.parametrize("name", COMPRESS)
def test_a_changed_byte_is_never_passed_over(name: str, tmp_path: Path) -> None:
    """Each changed byte of the data is told, at an offset not far before it."""
    data = content(MIB + 5)
    whole = COMPRESS[name](data)
    path = tmp_path / "disk"
    chance = random.Random(3)
    for _ in range(25):
        at = chance.randrange(100, len(whole) - 100)
        changed = bytearray(whole)
        changed[at] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        error = opened_error(path)
        assert isinstance(error, CorruptImage), at
        offset = error.params["offset"]
        assert isinstance(offset, int)
        assert 0 <= offset <= len(whole)


@pytest.mark.parametrize("name", ["xz", "zstd", "bzip2"])
def test_other_runs_are_read_beside_a_damaged_one(name: str, tmp_path: Path) -> None:
    """Where runs are found without decoding them all."""
    parts = [content(700_000, seed) for seed in range(4)]
    packed_parts = [COMPRESS[name](part) for part in parts]
    packed_parts[2] = packed_parts[2][:5000] + b"!" + packed_parts[2][5001:]
    path = tmp_path / "disk"
    path.write_bytes(b"".join(packed_parts))
    if name == "bzip2":
        # How long the block is nobody knows.
        assert isinstance(opened_error(path), CorruptImage)
        return
    with open_image(path) as image:
        for number in (0, 1, 3):
            assert image.read(number * 700_000, 100_000) == parts[number][:100_000]
        with pytest.raises(CorruptImage) as caught:
            image.read(2 * 700_000, 700_000)
        # And again: nothing is kept of it.
        with pytest.raises(CorruptImage):
            image.read(2 * 700_000, 700_000)
    offset = caught.value.params["offset"]
    start = len(packed_parts[0]) + len(packed_parts[1])
    assert isinstance(offset, int)
    assert start <= offset <= start + len(packed_parts[2])


@pytest.mark.parametrize("name", COMPRESS)
def test_nothing_inside_is_an_empty_source(name: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(COMPRESS[name](b""))
    with pytest.raises(SourceError) as caught:
        open_image(path)
    assert caught.value.code == "source.empty"


@pytest.mark.parametrize("name", COMPRESS)
def test_one_byte(name: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(COMPRESS[name](b"x") + COMPRESS[name](b"") + COMPRESS[name](b"y"))
    with open_image(path) as image:
        assert image.read(0, 10) == b"xy"


# ---- Structures of zstd, xz and bzip2 that tools here do not write -----------------------------


def seek_table(frames: list[tuple[int, int]], *, checksums: bool = False) -> bytes:
    """The table of zstd's seekable format, in its skippable frame."""
    entries = b"".join(
        struct.pack("<II", *frame) + (b"\xaa" * 4 if checksums else b"") for frame in frames
    )
    body = entries + struct.pack("<IBI", len(frames), 0x80 if checksums else 0, 0x8F92EAB1)
    return struct.pack("<II", 0x184D2A5E, len(body)) + body


@pytest.mark.parametrize("checksums", [False, True])
def test_a_seek_table_of_zstd(checksums: bool, tmp_path: Path) -> None:
    parts = [content(100_000, seed) for seed in range(20)]
    # From a pipe: the frames themselves do not tell.
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    frames = [compressor.compress(part) for part in parts]
    table = [(len(frame), len(part)) for frame, part in zip(frames, parts, strict=True)]
    path, disk = tmp_path / "disk.zst", tmp_path / "disk"
    disk.write_bytes(b"".join(parts))
    path.write_bytes(b"".join(frames) + seek_table(table, checksums=checksums))
    file, image = open_counted(path, Choices(format="zstd"))
    with image:
        assert file.count < 1000
        assert image.facts()["seek table"] is True
        check_image(image, disk)
    # Lengths that are not the frames': told where it is read.
    for wrong in (99_999, 100_001):
        path.write_bytes(
            b"".join(frames) + seek_table([*table[:5], (table[5][0], wrong), *table[6:]])
        )
        with open_image(path) as image:
            assert image.read(0, 100_000) == parts[0]
            with pytest.raises(CorruptImage):
                image.read(500_000, wrong)
    # A table that does not fit is no table.
    for bad in (
        seek_table([*table[:-1], (table[-1][0] + 1, 5)]),
        seek_table(table)[:-1] + b"x",
        seek_table(table)[:4] + b"x" + seek_table(table)[5:],
    ):
        path.write_bytes(b"".join(frames) + bad)
        try:
            with open_image(path) as image:
                assert image.facts()["seek table"] is False
                check_image(image, disk)
        except CorruptImage as error:
            check_described(error)


def test_skippable_frames_of_zstd(tmp_path: Path) -> None:
    skipped = struct.pack("<II", 0x184D2A53, 1000) + bytes(1000)
    data = content(300_000)
    frame = COMPRESS["zstd"](data)
    path = tmp_path / "disk.zst"
    path.write_bytes(skipped + frame + skipped + frame + skipped)
    with open_image(path) as image:
        assert image.format == "zstd"
        assert image.read(0, image.size) == data * 2
    path.write_bytes(skipped + frame + skipped[:-1])
    assert isinstance(opened_error(path), CorruptImage)


def test_zstd_that_needs_too_much_is_refused_by_name(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk.zst"
    # A window of 2 GiB, and a frame in one segment of 3 GiB.
    block = struct.pack("<I", 1 | 1 << 1 | 5 << 3)[:3] + b"x"
    window = b"\x28\xb5\x2f\xfd" + bytes((0x80, 21 << 3)) + struct.pack("<I", 5) + block
    single = b"\x28\xb5\x2f\xfd" + bytes((0xA0,)) + struct.pack("<I", 3 << 30) + block
    for frame in (window, single):
        path.write_bytes(frame)
        error = opened_error(path)
        assert isinstance(error, UnsupportedFeature)
        assert "window" in describe(error)
    dictionary = b"\x28\xb5\x2f\xfd" + bytes((0x21, 7, 5)) + block
    reserved = b"\x28\xb5\x2f\xfd" + bytes((0x28, 5)) + block
    for frame in (dictionary, reserved):
        path.write_bytes(frame)
        assert isinstance(opened_error(path), UnsupportedFeature)
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes((0x20, 5)) + b"\x07\0\0")
    error = opened_error(path)
    assert isinstance(error, CorruptImage)
    assert "reserved" in describe(error)


def test_a_raw_frame_of_zstd_with_a_window_of_no_power(tmp_path: Path) -> None:
    data = content(120_000)
    block = (1 | len(data) << 3).to_bytes(3, "little") + data
    path = tmp_path / "disk.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes((0x00, 7 << 3 | 3)) + block)
    with open_image(path) as image:
        assert image.read(0, image.size) == data


def test_xz_that_needs_too_much_is_refused_by_name(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
    whole = bytearray(lzma.compress(content(100_000), filters=filters))
    # The block header (3.1): size, flags, filter, size of its properties, dictionary size.
    header = whole[12 : 12 + (whole[12] + 1) * 4]
    assert header[2:4] == b"\x21\x01"
    header[4] = 40
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    whole[12 : 12 + len(header)] = header
    path = tmp_path / "disk.xz"
    path.write_bytes(whole)
    error = opened_error(path)
    assert isinstance(error, UnsupportedFeature)
    assert "memory" in describe(error)


def xz_number(number: int) -> bytes:
    """A multibyte integer (section 1.2)."""
    parts = bytearray()
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def xz_tail(blocks: bytes, records: bytes, count: int, check: int = 4) -> bytes:
    """A stream with any index."""
    head = bytes((0, check))
    start = b"\xfd7zXZ\0" + head + struct.pack("<I", zlib.crc32(head))
    index = b"\0" + xz_number(count) + records
    index += bytes(-len(index) % 4)
    index += struct.pack("<I", zlib.crc32(index))
    foot = struct.pack("<I", len(index) // 4 - 1) + head
    return start + blocks + index + struct.pack("<I", zlib.crc32(foot)) + foot + b"YZ"


def test_indexes_of_xz_that_lie(tmp_path: Path) -> None:
    data = content(100_000)
    whole = lzma.compress(data)
    backward = struct.unpack("<I", whole[-8:-4])[0]
    blocks = whole[12 : len(whole) - 12 - (backward + 1) * 4]
    path = tmp_path / "disk.xz"

    def record(unpadded: int, size: int) -> bytes:
        return xz_number(unpadded) + xz_number(size)

    unpadded = len(blocks)
    path.write_bytes(xz_tail(blocks, record(unpadded, len(data)), 1))
    with open_image(path) as image:
        assert image.read(0, len(data)) == data
    bad = [
        (record(unpadded, len(data) + 1), 1),
        (record(unpadded, len(data) - 1), 1),
        (record(unpadded, 1 << 62), 1),
        (record(unpadded, (1 << 63) - 1), 1),
        (record(unpadded - 4, len(data)), 1),
        (record(unpadded + 4, len(data)), 1),
        (record(1 << 62, len(data)), 1),
        (record(unpadded, len(data)), 2),
        (record(unpadded, len(data)), 1 << 40),
        (record(unpadded, len(data)) * 2, 1),
        (b"\xff" * 9, 1),
        (b"\xff" * 30, 1),
        (b"", 0),
    ]
    for records, count in bad:
        path.write_bytes(xz_tail(blocks, records, count))
        error = opened_error(path)
        assert isinstance(error, CorruptImage), (records, count)


def test_flags_of_xz_that_are_not_known(tmp_path: Path) -> None:
    for flags in ((1, 4), (0, 0x14)):
        head = bytes(flags)
        foot = struct.pack("<I", 1) + head
        path = tmp_path / "disk.xz"
        start = b"\xfd7zXZ\0" + head + struct.pack("<I", zlib.crc32(head))
        path.write_bytes(start + bytes(8) + struct.pack("<I", zlib.crc32(foot)) + foot + b"YZ")
        error = opened_error(path)
        assert isinstance(error, UnsupportedFeature)
        assert "flags" in describe(error)


def test_an_xz_block_that_tells_its_sizes(raw: Path, tmp_path: Path) -> None:
    """Which several threads write, for whoever decodes with several."""
    path = shell('xz -0 -T2 --block-size=500000 -c "$IN" > "$OUT"', raw, tmp_path / "disk.xz")
    with open_image(path) as image:
        check_image(image, raw)
        blocks = image.facts()["blocks"]
        assert isinstance(blocks, int)
        assert blocks == 7
        assert image.facts()["longest run"] == 500_000


def test_marks_in_the_data_of_bzip2(tmp_path: Path) -> None:
    """What looks like the start of a block may be data of one."""
    magics = (0x314159265359, 0x177245385090)
    path, disk = tmp_path / "disk.bz2", tmp_path / "disk"
    disk.write_bytes(content(2_500_000, 4))
    whole = bz2.compress(disk.read_bytes(), 9)
    path.write_bytes(whole)
    real = packed_bzip2._find_marks

    def with_others(opening: object, start: int) -> Iterator[packed_bzip2._Mark]:
        chance = random.Random(5)
        for mark in real(opening, start):  # type: ignore[arg-type]
            yield mark
            if not mark.is_end:
                yield packed_bzip2._Mark(mark.bit + chance.randrange(100, 2000), False)
                yield packed_bzip2._Mark(mark.bit + chance.randrange(2001, 4000), True)

    patched = pytest.MonkeyPatch()
    with patched.context() as patch:
        patch.setattr(packed_bzip2, "_find_marks", with_others)
        with open_image(path) as image:
            check_image(image, disk)
    assert all(magic.to_bytes(6, "big") for magic in magics)


def test_marks_of_bzip2_are_found_at_each_bit(tmp_path: Path) -> None:
    for step in (1 << 20, 64):
        number = 0
        wanted = []
        at = 0
        chance = random.Random(1)
        for place in range(200):
            gap = chance.randrange(1, 200)
            number = number << gap | chance.getrandbits(gap)
            magic = (0x314159265359, 0x177245385090)[place % 2]
            at += gap
            wanted.append(packed_bzip2._Mark(at + 32, place % 2 == 1))
            number = number << 48 | magic
            at += 48
        number <<= -at % 8
        path = tmp_path / "marks"
        path.write_bytes(b"BZh9" + number.to_bytes((at + 7) // 8, "big"))
        file = HostFile(path)
        patched = pytest.MonkeyPatch()
        with patched.context() as patch:
            patch.setattr(packed_bzip2, "_STEP", step)

            class Holder:
                pass

            holder = Holder()
            holder.file = file  # type: ignore[attr-defined]
            found = list(packed_bzip2._find_marks(holder, 4))  # type: ignore[arg-type]
        file.close()
        assert found == wanted


def test_a_wrong_checksum_of_a_bzip2_stream(tmp_path: Path) -> None:
    whole = bytearray(bz2.compress(content(100_000)))
    # The last bytes are the checksum of the stream, and bits that fill up.
    whole[-3] ^= 1
    path = tmp_path / "disk.bz2"
    path.write_bytes(whole)
    error = opened_error(path)
    assert isinstance(error, CorruptImage)
    assert error.params["structure"] == packed_bzip2.STREAM


# ---- What is inside ----------------------------------------------------------------------------


@pytest.mark.proves("format", "gzip, xz, zstd, bzip2", "an image of another format inside")
@pytest.mark.parametrize("name", COMPRESS)
@pytest.mark.parametrize("kind", ["qcow2", "vmdk", "vdi", "vhdx"])
def test_an_image_inside(name: str, kind: str, tmp_path: Path) -> None:
    disk, inner = tmp_path / "disk", tmp_path / f"disk.{kind}"
    disk.write_bytes(content(2 * MIB))
    run_tool("qemu-img", "convert", "-O", kind, "-f", "raw", str(disk), str(inner))
    path = tmp_path / f"disk.{kind}.{name}"
    path.write_bytes(COMPRESS[name](inner.read_bytes()))
    with open_image(path) as image:
        assert image.format == kind
        facts = image.facts()
        assert facts["compressed with"] == name
        assert len(facts) > 5
        check_image(image, disk)
    # Whoever names the compression wants what is in it.
    with open_image(path, name) as image:
        assert image.format == name
        check_image(image, inner)
    with open_image(path, "raw") as image:
        assert image.format == "raw"
        check_image(image, path)


@pytest.mark.proves("format", "gzip, xz, zstd, bzip2", "an image of another format inside")
def test_a_backing_file_beside_the_compressed_image(tmp_path: Path) -> None:
    base, top = tmp_path / "base.raw", tmp_path / "top.qcow2"
    base.write_bytes(content(MIB))
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", str(top))
    path = tmp_path / "top.qcow2.gz"
    path.write_bytes(gzip.compress(top.read_bytes()))
    top.unlink()
    with open_image(path) as image:
        assert image.parent is not None
        check_image(image, base)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    path.rename(folder / path.name)
    with pytest.raises(ImageError) as caught:
        open_image(folder / path.name)
    check_described(caught.value)


def test_compressed_twice(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk.gz.xz"
    path.write_bytes(lzma.compress(gzip.compress(raw.read_bytes(), 1), preset=0))
    with open_image(path, choices=Choices(cache_folder=tmp_path / "cache")) as image:
        assert image.format == "gzip"
        check_image(image, raw)


def test_an_ewf_image_inside(raw: Path, tmp_path: Path) -> None:
    run_tool("ewfacquire", "-q", "-u", "-t", str(tmp_path / "disk"), str(raw))
    path = tmp_path / "disk.E01.zst"
    path.write_bytes(COMPRESS["zstd"]((tmp_path / "disk.E01").read_bytes()))
    with open_image(path) as image:
        assert image.format == "ewf"
        assert set(image.stored_hashes()) == {"md5"}
        assert image.read(MIB, MIB) == raw.read_bytes()[MIB : 2 * MIB]


def test_too_many_within_one_another(tmp_path: Path) -> None:
    data = b"content"
    for _ in range(CHAIN_LIMIT + 1):
        data = gzip.compress(data, 1)
    path = tmp_path / "disk.gz"
    path.write_bytes(data)
    before = len(os.listdir("/proc/self/fd"))
    error = opened_error(path)
    assert isinstance(error, CorruptImage)
    assert "in one another" in describe(error)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_archive_inside_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    run_tool("tar", "-C", str(tmp_path), "-czf", str(tmp_path / "files.tar.gz"), "file")
    error = opened_error(tmp_path / "files.tar.gz")
    assert isinstance(error, UnsupportedFeature)
    assert "tar archive" in describe(error)


def test_a_name_with_a_number_inside_does_not_lead_to_others(tmp_path: Path) -> None:
    path = tmp_path / "disk.001.gz"
    path.write_bytes(gzip.compress(content(100_000)))
    with open_image(path) as image:
        assert image.format == "gzip"


# ---- Progress, threads, memory -----------------------------------------------------------------


@pytest.mark.parametrize("tool", ["xz", "zstd"])
def test_progress_is_told_of_a_look_at_the_end(tool: str, raw: Path, tmp_path: Path) -> None:
    path = shell(TOOLS[tool][1], raw, tmp_path / "disk")
    size = path.stat().st_size
    told: list[tuple[int, int]] = []
    with open_image(path, choices=Choices(progress=lambda *now: told.append(now))) as image:
        assert max(told) == (size, size) or max(told)[0] > size * 0.9
        count = len(told)
        assert count > 3
        image.read(image.size // 2, 1000)
        # But not of what is read later.
        assert len(told) == count


class Cancelled(Exception):
    """Raised by a user who does not want to wait."""


@pytest.mark.parametrize("tool", [name for name in TOOLS if not TOOLS[name][2]])
def test_progress_is_told_and_can_end_it(tool: str, raw: Path, tmp_path: Path) -> None:
    path = shell(TOOLS[tool][1], raw, tmp_path / "disk")
    size = path.stat().st_size
    told: list[tuple[int, int]] = []
    open_image(path, choices=Choices(progress=lambda *now: told.append(now))).close()
    assert {total for _done, total in told} == {size}
    assert all(0 <= done <= size for done, _total in told)
    assert max(told)[0] >= size * 0.9
    assert len(told) >= 2

    def cancel(done: int, _total: int) -> None:
        if done > size // 2:
            raise Cancelled

    before = len(os.listdir("/proc/self/fd"))
    cache = tmp_path / "cache"
    with pytest.raises(Cancelled):
        open_image(path, choices=Choices(progress=cancel, cache_folder=cache))
    assert len(os.listdir("/proc/self/fd")) == before
    assert not list(cache.glob("seek-points/*"))


@pytest.mark.parametrize("tool", ["gzip -1", "xz", "xz in blocks", "zstd", "bzip2 -1"])
def test_it_is_read_from_several_threads(tool: str, raw: Path, tmp_path: Path) -> None:
    path = shell(TOOLS[tool][1], raw, tmp_path / "disk")
    wanted = raw.read_bytes()
    wrong: list[int] = []
    with open_image(path, choices=Choices(cache_folder=tmp_path / "cache")) as image:

        def read(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(15):
                offset = chance.randrange(len(wanted) - 70_000)
                if image.read(offset, 70_000) != wanted[offset : offset + 70_000]:
                    wrong.append(offset)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@contextmanager
def memory_limit(more: int) -> Iterator[None]:
    """At most ``more`` bytes of address space beyond what is taken now."""
    usual = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + more, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, usual)


ZEROS = 200 * MIB
BOMBS = {
    "gzip": "gzip -1 -c",
    "xz": "xz -0 -c",
    "zstd": "zstd -q -c",
    "bzip2": "bzip2 -9 -c",
}


@pytest.mark.proves("format", "gzip, xz, zstd, bzip2", "bounded memory")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_no_more_memory_than_anything(name: str, tmp_path: Path) -> None:
    """200 MiB from a MiB or less, with less room than that."""
    empty = make_empty(tmp_path / "zeros", ZEROS)
    path = shell(f'{BOMBS[name]} < "$IN" > "$OUT"', empty, tmp_path / "bomb")
    assert path.stat().st_size < 2 * MIB
    with memory_limit(150 * MIB), open_image(path, name) as image:
        assert image.size == ZEROS
        assert image.read(ZEROS - MIB, MIB) == bytes(MIB)
        assert image.read(0, MIB) == bytes(MIB)


def test_many_small_members_take_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "disk.gz"
    path.write_bytes(gzip.compress(b"x") * 40_000)
    with open_image(path) as image:
        assert image.size == 40_000
        assert image.read(0, image.size) == b"x" * 40_000
        facts = image.facts()
        assert (facts["members"], facts["seek points"]) == (40_000, 1)


@pytest.mark.parametrize(
    ("module", "tool", "word"),
    [
        (packed_xz, "xz in blocks", "blocks"),
        (packed_xz, "xz in streams", "blocks"),
        (packed_zstd, "zstd in frames", "frames"),
        (packed_bzip2, "bzip2 -1", "blocks"),
        (packed_gzip, "bgzip", "runs"),
    ],
)
def test_more_runs_than_are_kept_in_memory(
    module: object,
    tool: str,
    word: str,
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RUNS_LIMIT", 2)
    path = shell(TOOLS[tool][1], raw, tmp_path / "disk")
    error = opened_error(path)
    assert isinstance(error, UnsupportedFeature)
    assert f"more than 2 {word}" in describe(error)


# ---- Damage ------------------------------------------------------------------------------------


@pytest.mark.proves("format", "gzip, xz, zstd, bzip2", "damage gives typed errors")
@pytest.mark.parametrize("tool", TOOLS)
def test_damaged_files(tool: str, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(content(150_000, 3)[:150_000])
    script = TOOLS[tool][1].replace("30000", "9000").replace("00000", "0000")
    path = shell(script, small, tmp_path / "disk")
    size = path.stat().st_size
    structures = [(0, min(64, size)), (max(0, size - 64), min(64, size)), (0, size)]
    check_damaged(path, tmp_path, structures, flips=60)


def test_damaged_seek_tables(tmp_path: Path) -> None:
    frames = [COMPRESS["zstd"](content(30_000, seed)) for seed in range(3)]
    table = seek_table([(len(frame), 30_000) for frame in frames])
    path = tmp_path / "disk.zst"
    path.write_bytes(b"".join(frames) + table)
    size = path.stat().st_size
    check_damaged(path, tmp_path, [(size - len(table), len(table))], flips=200)
