# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Digests of sources, beside those that coreutils and the formats' own tools compute."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import pytest

from explorer.cli.arguments import ALGORITHMS as CLI_ALGORITHMS
from explorer.core.errors import ImageError, SourceError
from explorer.evidence.hashing import PIECE, read_ahead, source_hash, volume_hash
from explorer.images.registry import open_image
from explorer.native.digests import ALGORITHMS
from explorer.volumes import Source, Wanted
from tests.trees import make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.evidence.hashing import Hashed

ALL = ("md5", "sha1", "sha256", "blake2b")
TOOLS = {"md5": "md5sum", "sha1": "sha1sum", "sha256": "sha256sum", "blake2b": "b2sum"}
SIZE = 2 * PIECE + 4096


def by_tools(path: Path) -> dict[str, str]:
    """Each algorithm's digest of a file, by coreutils."""
    return {name: run_tool(TOOLS[name], path).split()[0].lstrip("\\") for name in ALL}


def hexes(hashed: Hashed) -> dict[str, str]:
    assert hashed.error is None
    return {name: digest.hex() for name, digest in hashed.digests.items()}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with something in it, a hole, and more."""
    path = make_empty(tmp_path_factory.mktemp("raw") / "disk.img", SIZE)
    with path.open("r+b") as file:
        file.write(noise(PIECE + 1000, 1))
        file.seek(SIZE - 3000)
        file.write(noise(3000, 2))
    return path


def test_the_command_line_knows_all_algorithms() -> None:
    assert set(CLI_ALGORITHMS) == set(ALGORITHMS) == set(ALL)


def test_a_raw_disk_is_read_once(raw: Path, unchanged: Callable[[Path], Path]) -> None:
    told: list[tuple[int, int]] = []
    with open_image(unchanged(raw)) as image:
        stored, disk = source_hash(
            image, ALL, progress=lambda done, total: told.append((done, total))
        )
    assert (stored.kind, stored.name, stored.size) == ("file", str(raw), SIZE)
    assert (disk.kind, disk.format, disk.size, disk.same) == ("disk", "raw", SIZE, True)
    assert hexes(stored) == hexes(disk) == by_tools(raw)
    assert told[-1] == (SIZE, SIZE)
    assert [done for done, _total in told] == sorted(done for done, _total in told)


@pytest.mark.parametrize("form", ["qcow2", "vmdk", "vdi", "vhdx"])
def test_a_disk_in_a_format_has_digests_of_its_own(form: str, raw: Path, tmp_path: Path) -> None:
    path = tmp_path / f"disk.{form}"
    run_tool("qemu-img", "convert", "-f", "raw", "-O", form, raw, path)
    with open_image(path) as image:
        stored, disk = source_hash(image, ALL)
        (disk_alone,) = source_hash(image, ALL, stored=False)
        (stored_alone,) = source_hash(image, ALL, disk=False)
    assert hexes(stored) == by_tools(path) == hexes(stored_alone)
    assert hexes(disk) == by_tools(raw) == hexes(disk_alone)
    assert (disk.size, disk.same, disk.format) == (SIZE, False, form)


def test_a_backing_image_is_stored_too(raw: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.img"
    base.write_bytes(raw.read_bytes())
    over = tmp_path / "over.qcow2"
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", base.name, "-F", "raw", over)
    with open_image(over) as image:
        one, two, disk = source_hash(image, ("sha256",))
    assert [one.name, two.name] == [str(over), str(base)]
    assert hexes(one)["sha256"] == by_tools(over)["sha256"]
    assert hexes(two) == hexes(disk) == {"sha256": by_tools(raw)["sha256"]}


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_parts_are_hashed_by_themselves_and_together(form: str, raw: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run_tool("qemu-img", "convert", "-f", "raw", "-O", form, raw, whole)
    run_tool("split", "-b", "2000000", "-a", "3", "-d", whole, tmp_path / "disk.")
    names = sorted(tmp_path.glob("disk.*"))
    assert len(names) > 2
    total: list[int] = []
    with open_image(names[0]) as image:
        results = source_hash(image, ALL, progress=lambda _done, size: total.append(size))
    assert [one.kind for one in results] == [*("file" for _ in names), "parts", "disk"]
    for one, path in zip(results, names, strict=False):
        assert (one.name, one.size) == (str(path), path.stat().st_size)
        assert hexes(one) == by_tools(path)
    parts, disk = results[len(names) :]
    assert hexes(parts) == by_tools(whole)
    assert parts.size == whole.stat().st_size
    assert hexes(disk) == by_tools(raw)
    assert disk.same == (form == "raw")
    # What is stored is read once, for a part and for all of them.
    assert set(total) == {whole.stat().st_size + (0 if form == "raw" else SIZE)}


def test_segments_of_an_ewf(raw: Path, tmp_path: Path) -> None:
    run_tool(
        "ewfacquire", "-u", "-q", "-S", "2M", "-c", "none", "-t", tmp_path / "case", raw,
    )  # fmt: skip
    names = sorted(tmp_path.glob("case.E*"))
    assert len(names) > 1
    with open_image(names[0]) as image:
        results = source_hash(image, ALL)
        assert results[-1].digests["md5"] == image.stored_hashes()["md5"]
    assert [hexes(one) for one in results[:-1]] == [by_tools(path) for path in names]
    assert hexes(results[-1]) == by_tools(raw)
    # And as libewf finds it.
    said = run_tool("ewfverify", "-q", "-d", "sha256", names[0])
    assert re.findall(r"SHA256 hash calculated over data:\s*(\w+)", said) == [
        hexes(results[-1])["sha256"]
    ]


def test_what_cannot_be_read_has_an_error_and_the_rest_digests(raw: Path, tmp_path: Path) -> None:
    run_tool("ewfacquire", "-u", "-q", "-c", "none", "-t", tmp_path / "case", raw)
    path = tmp_path / "case.E01"
    data = bytearray(path.read_bytes())
    # In the middle of a chunk of noise, whose checksum follows it.
    at = data.index(noise(PIECE + 1000, 1)[70_000:70_016])
    data[at] ^= 1
    path.write_bytes(data)
    with open_image(path) as image:
        stored, disk = source_hash(image, ("sha256",))
    assert hexes(stored)["sha256"] == hashlib.sha256(data).hexdigest()
    assert isinstance(disk.error, ImageError)
    assert not disk.digests


def test_a_source_that_becomes_shorter(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(raw.read_bytes())
    with open_image(path) as image:
        with path.open("r+b") as file:
            file.truncate(PIECE)
        stored, disk = source_hash(image, ("sha256",))
    for one in (stored, disk):
        assert isinstance(one.error, SourceError)
        assert one.error.code == "source.changed"
        assert not one.digests


def test_hashing_ends_when_it_is_not_wanted(raw: Path) -> None:
    class Enough(Exception):
        pass

    def progress(_done: int, _total: int) -> None:
        raise Enough

    with open_image(raw) as image, pytest.raises(Enough):
        source_hash(image, ("sha256",), progress=progress)


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 7 * PIECE + 3])
def test_pieces_come_in_order_and_whole(size: int) -> None:
    asked: list[tuple[int, int]] = []

    def read_into(offset: int, buffer: memoryview) -> None:
        asked.append((offset, len(buffer)))
        buffer[:8] = offset.to_bytes(8, "little")[: len(buffer)]
        buffer[-1:] = b"\xff"

    at = 0
    for piece in read_ahead(read_into, size):
        assert len(piece) == min(PIECE, size - at)
        if len(piece) > 8:
            assert int.from_bytes(piece[:8], "little") == at
        assert piece[-1] == 0xFF
        at += len(piece)
    assert at == size
    assert asked == [(start, min(PIECE, size - start)) for start in range(0, size, PIECE)]


def test_a_volume_has_the_bytes_of_its_partition(
    built: None, tmp_path: Path, unchanged: Callable[[Path], Path]
) -> None:
    disk = make_empty(tmp_path / "disk.img", 20 << 20)
    run_tool("sfdisk", "-q", disk, text="label: gpt\nstart=1MiB, size=9MiB\n")
    part = make_empty(tmp_path / "part", 9 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", part)
    with disk.open("r+b") as file:
        file.seek(1 << 20)
        file.write(part.read_bytes())
    with Source(Wanted(paths=(bytes(unchanged(disk)),))) as source:
        volume = source.choose("1")
        result = volume_hash(source.stack, volume, ALL)
    assert (result.kind, result.size) == ("volume", 9 << 20)
    assert hexes(result) == by_tools(part)
