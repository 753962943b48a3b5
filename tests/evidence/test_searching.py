# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Contents that are found, beside what grep(1) and Python find in the same files."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.core.errors import SearchError
from explorer.evidence import searching
from explorer.evidence.finding import Criteria
from explorer.evidence.searching import (
    AFTER,
    BEFORE,
    HOLE_LEAST,
    PATTERN_PIECE,
    PATTERN_SPAN,
    PIECE,
    Match,
    Needle,
    bytes_needle,
    pattern_needle,
    search_contents,
    text_needles,
)
from tests.trees import find_tool, make_empty, noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from explorer.kernel import Mount

    MountImage = Callable[[Path], Mount]


def search(
    mount: Mount, needles: Sequence[Needle], criteria: Criteria | None = None
) -> list[Match]:
    matches: list[Match] = []
    for some, failures, _seen in search_contents(mount, b"/", needles, criteria):
        assert not failures
        matches += some
    return matches


def places(matches: list[Match]) -> set[tuple[bytes, int]]:
    found = {(one.path, one.offset) for one in matches}
    assert len(found) == len(matches)
    return found


def by_grep(tree: Path, *arguments: str | bytes) -> set[tuple[bytes, int]]:
    done = subprocess.run(
        [find_tool("grep"), "-r", "-a", "-o", "-b", "-Z", *arguments, "."],
        cwd=tree,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    found = set()
    # Name, NUL, offset, colon, match, newline; names and matches may have newlines of their own.
    for one in re.finditer(rb"(?:^|(?<=\n))\.(/[^\0]*)\0(\d+):", done.stdout):
        found.add((one[1], int(one[2])))
    return found


@pytest.mark.parametrize(
    ("needles", "arguments"),
    [
        (text_needles("same", ["utf-8"], ignore_case=False), ("-F", "same")),
        (text_needles("E THE S", ["utf-8"], ignore_case=True), ("-F", "-i", "e the s")),
        ([bytes_needle(b"\xff\x00"[:1] + b"a")], ("-P", r"\xffa")),
        ([bytes_needle(noise(4096, 1)[100:104])], ("-F", "-e", noise(4096, 1)[100:104])),
        ([pattern_needle(rb"s[a-m]+e", ignore_case=False)], ("-P", "s[a-m]+e")),
        ([pattern_needle(rb"^ne.line$", ignore_case=True)], ("-P", "^ne.line$")),
        ([pattern_needle(rb"[0-9]{5,}", ignore_case=False)], ("-P", "[0-9]{5,}")),
    ],
    ids=["text", "any case", "bytes", "noise", "pattern", "a line", "digits"],
)
def test_what_grep_finds_is_found(
    needles: list[Needle],
    arguments: tuple[str, ...],
    image_of: Callable[[str], Path],
    tree: Path,
    mount: MountImage,
) -> None:
    wanted = by_grep(tree, *arguments)
    assert places(search(mount(image_of("ext4-written")), needles)) == wanted


ALL_KINDS = "Grüße, Ärger"


def make_image(tmp_path: Path, files: dict[str, bytes]) -> Path:
    top = tmp_path / "top"
    top.mkdir()
    for name, content in files.items():
        (top / name).write_bytes(content)
    image = make_empty(tmp_path / "image", 96 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    return image


def test_text_in_each_encoding(tmp_path: Path, mount: MountImage) -> None:
    encodings = ["utf-8", "utf-16-le", "utf-16-be", "latin-1", "utf-32-le", "cp437"]
    files = {
        f"{place}-{encoding}": b"x" * place + text.encode(encoding) + b"yy"
        for encoding in encodings
        for place, text in ((3, ALL_KINDS), (5, ALL_KINDS.upper()))
    }
    mounted = mount(make_image(tmp_path, files))
    matches = search(mounted, text_needles(ALL_KINDS, encodings, ignore_case=False))
    assert {(one.path.decode(), one.offset, one.encoding) for one in matches} == {
        (f"/3-{encoding}", 3, encoding) for encoding in encodings
    }
    for one in matches:
        assert one.match.decode(one.encoding) == ALL_KINDS
        assert (one.before, one.after) == (b"xxx", b"yy")
    # In upper case it has one letter more.
    matches = search(mounted, text_needles(ALL_KINDS, encodings, ignore_case=True))
    assert {(one.path.decode(), one.offset, one.encoding) for one in matches} == {
        (f"/{place}-{encoding}", place, encoding) for encoding in encodings for place in (3, 5)
    }


def test_text_that_is_the_same_in_two_encodings_is_found_once(
    tmp_path: Path, mount: MountImage
) -> None:
    mounted = mount(make_image(tmp_path, {"a": b"plain"}))
    needles = text_needles("plain", ["utf-8", "latin-1", "utf-16-le"], ignore_case=False)
    assert [(one.offset, one.encoding) for one in search(mounted, needles)] == [(0, "utf-8")]


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: text_needles("a", ["klingon"], ignore_case=False), "search.encoding"),
        (lambda: text_needles("a", ["base64"], ignore_case=False), "search.encoding"),
        (lambda: text_needles("€", ["latin-1"], ignore_case=False), "search.encoding"),
        (lambda: text_needles("€", ["latin-1"], ignore_case=True), "search.encoding"),
        (lambda: text_needles("\udcff", ["utf-8"], ignore_case=False), "search.encoding"),
        (lambda: text_needles("", ["utf-8"], ignore_case=False), "search.length"),
        (lambda: text_needles("", ["utf-8"], ignore_case=True), "search.length"),
        (lambda: bytes_needle(b""), "search.length"),
        (lambda: bytes_needle(b"x" * (searching.NEEDLE_LIMIT + 1)), "search.length"),
        (lambda: pattern_needle(b"(", ignore_case=False), "search.pattern"),
        (lambda: pattern_needle(b"a{99999999999}", ignore_case=False), "search.pattern"),
    ],
)
def test_what_cannot_be_searched_for(call: Callable[[], object], code: str) -> None:
    with pytest.raises(SearchError) as caught:
        call()
    assert caught.value.code == code


def test_only_in_some_files(tmp_path: Path, mount: MountImage) -> None:
    mounted = mount(
        make_image(tmp_path, {"a.txt": b"text", "b.txt": b"text" * 9, "c.bin": b"text"})
    )
    needles = [bytes_needle(b"text")]
    assert {one.path for one in search(mounted, needles, Criteria(names=(b"*.txt",)))} == {
        b"/a.txt",
        b"/b.txt",
    }
    small = Criteria(names=(b"*.txt",), size_most=4)
    assert {one.path for one in search(mounted, needles, small)} == {b"/a.txt"}


# ---- Where two pieces meet


class Bytes:
    """A file of our own, to see what is read."""

    def __init__(
        self, content: bytes, holes: Sequence[tuple[int, int]] = (), short: int = 0
    ) -> None:
        self.content = content
        self.holes = holes
        self.short = short
        self.asked: list[tuple[int, int]] = []

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """As a file of a volume is read."""
        self.asked.append((offset, len(buffer)))
        piece = self.content[offset : offset + len(buffer)]
        if self.short and len(piece) > self.short:
            piece = piece[: self.short]
        buffer[: len(piece)] = piece
        return len(piece)

    def next_data(self, offset: int, size: int) -> int:
        """The end of the hole that an offset is in."""
        for start, end in self.holes:
            if start <= offset < end:
                return min(end, size)
        return offset


def search_bytes(needles: Sequence[Needle], file: Bytes) -> list[Match]:
    searcher = searching._Searcher(needles, lambda: None)
    found = searcher.search(file, b"/", len(file.content))  # type: ignore[arg-type]
    return [one for some in found for one in some]


def plainly(needle: Needle, content: bytes) -> list[tuple[int, bytes]]:
    if needle.pattern is None:
        pattern = re.compile(re.escape(needle.literal), re.IGNORECASE if needle.folded else 0)
    else:
        pattern = needle.pattern
    return [(one.start(), one[0]) for one in pattern.finditer(content) if one[0]]


NEEDLES = st.one_of(
    st.binary(min_size=1, max_size=6).map(bytes_needle),
    st.sampled_from(["ab", "aAb", "b"]).map(
        lambda text: text_needles(text, ["utf-8"], ignore_case=True)[0]
    ),
    st.sampled_from([b"a+b", b"^a", b"b$", b"(?<=a)b", b"a|ab", b"b*", rb"\ba"]).map(
        lambda text: pattern_needle(text, ignore_case=False)
    ),
)
LETTERS = st.lists(st.sampled_from([b"a", b"b", b"A", b"\n", b"\0"]), max_size=400).map(b"".join)


@settings(deadline=None)
@given(st.lists(NEEDLES, min_size=1, max_size=3), LETTERS, st.integers(1, 40), st.integers(0, 5))
def test_matches_are_those_of_the_whole(
    needles: list[Needle], content: bytes, piece: int, short: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "PIECE", piece)
        patch.setattr(searching, "PATTERN_PIECE", piece)
        patch.setattr(searching, "BEFORE", 3)
        patch.setattr(searching, "AFTER", 2)
        found = search_bytes(
            [one if one.pattern is None else _with_span(one, 420) for one in needles],
            Bytes(content, short=short),
        )
    wanted = sorted(
        (offset, match, number)
        for number, needle in enumerate(needles)
        for offset, match in plainly(needle, content)
    )
    assert [(one.offset, one.match) for one in found] == [
        (offset, match) for offset, match, _number in wanted
    ] or sorted((one.offset, one.match) for one in found) == sorted(
        (offset, match) for offset, match, _number in wanted
    )
    assert [one.offset for one in found] == sorted(one.offset for one in found)
    for one in found:
        end = one.offset + len(one.match)
        assert one.before == content[max(0, one.offset - 3) : one.offset]
        assert one.after == content[end : end + 2]


def _with_span(needle: Needle, span: int) -> Needle:
    """Patterns need no more than these files are long."""
    return Needle(span, pattern=needle.pattern, in_holes=True)


@pytest.mark.parametrize("shift", [-9, -8, -5, -1, 0, 1, AFTER, -AFTER, -AFTER - 8, -PATTERN_SPAN])
@pytest.mark.parametrize("piece", [PIECE, PATTERN_PIECE])
def test_a_match_across_two_pieces(shift: int, piece: int) -> None:
    at = piece + shift
    content = noise(at, 1).replace(b"NEEDLE", b"needle") + b"A NEEDLE" + noise(PIECE, 2)
    for needle in (
        bytes_needle(b"A NEEDLE"),
        text_needles("a needle", ["utf-8"], ignore_case=True)[0],
        pattern_needle(rb"A N\w+E", ignore_case=False),
    ):
        (one,) = search_bytes([needle], Bytes(content))
        assert (one.offset, one.match) == (at, b"A NEEDLE")
        assert one.before == content[at - BEFORE : at]
        assert one.after == content[at + 8 : at + 8 + AFTER]


# ---- Holes


def test_large_holes_are_not_read_and_nothing_at_their_edges_is_missed() -> None:
    hole = (2 * PIECE + 100, 2 * PIECE + 100 + 16 * HOLE_LEAST)
    needle = b"\0\0edge\0\0"
    content = bytearray(hole[1] + 3 * PIECE)
    content[: hole[0] - 4] = noise(hole[0] - 4, 1)
    content[hole[0] - 4 : hole[0]] = b"edge"
    content[hole[0] - 6 : hole[0] - 4] = b"\0\0"
    content[hole[1] : hole[1] + 4] = b"edge"
    content[hole[1] + 6 :] = noise(len(content) - hole[1] - 6, 2)
    content[-20:-12] = needle
    file = Bytes(bytes(content), holes=[hole])
    found = [one.offset for one in search_bytes([bytes_needle(needle)], file)]
    assert found == [hole[0] - 6, hole[1] - 2, len(content) - 20]
    assert sum(length for _offset, length in file.asked) < len(content) - 15 * HOLE_LEAST
    # Zeros are in the hole, too.
    zeros = Bytes(bytes(content), holes=[hole])
    assert len(search_bytes([bytes_needle(bytes(PIECE // 16))], zeros)) >= 16 * HOLE_LEAST // (
        PIECE // 16
    )


def test_holes_of_a_real_file(tmp_path: Path, mount: MountImage) -> None:
    top = tmp_path / "top"
    top.mkdir()
    size = 3 << 30
    with make_empty(top / "sparse", size).open("r+b") as file:
        for at in (0, 1 << 30, (2 << 30) + 12345, size - 6):
            file.seek(at)
            file.write(b"needle")
    image = make_empty(tmp_path / "image", 32 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", top, image)
    found = search(mount(image), text_needles("Needle", ["utf-8"], ignore_case=True))
    assert [one.offset for one in found] == [0, 1 << 30, (2 << 30) + 12345, size - 6]


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path, mount: MountImage) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "bad").write_bytes(b"needle" + bytes(10_000) + b"x" * 100_000)
    (top / "good").write_bytes(b"a needle")
    image = make_empty(tmp_path / "image", 8 << 20)
    run_tool("mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024", "-d", top, image)
    (indirect,) = re.findall(r"\(IND\):(\d+)", run_tool("debugfs", "-R", "stat /bad", image))
    with image.open("r+b") as file:
        file.seek(int(indirect) * 1024 + 200)
        file.write(b"\xff\xff\xff\x7f")
    seen = 0
    matches: list[tuple[bytes, int]] = []
    failures = []
    for some, failed, files in search_contents(mount(image), b"/", [bytes_needle(b"needle")]):
        seen += files
        matches += [(one.path, one.offset) for one in some]
        failures += failed
    assert sorted(matches) == [(b"/bad", 0), (b"/good", 2)]
    assert [one.path for one in failures] == [b"/bad"]
    assert seen == 2


def test_a_search_ends_when_it_is_not_wanted(tmp_path: Path, mount: MountImage) -> None:
    class Enough(Exception):
        pass

    mounted = mount(make_image(tmp_path, {"large": noise(8 * PIECE, 1)}))
    left = [4]

    def check() -> None:
        left[0] -= 1
        if not left[0]:
            raise Enough

    found = search_contents(mounted, b"/", [bytes_needle(b"not there")], None, check)
    with pytest.raises(Enough):
        list(found)
    # And leaves nothing open that keeps the volume.
    mounted.close()
