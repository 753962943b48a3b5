# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries that are found, beside those that find(1) finds in the same tree."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from explorer.cli.arguments import make_parser
from explorer.core.errors import SearchError
from explorer.evidence.finding import Criteria, find_entries
from tests.trees import ROOT, find_tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.kernel import Mount

    MountImage = Callable[[Path], Mount]


def found(mount: Mount, criteria: Criteria, start: bytes = b"/") -> set[bytes]:
    paths: list[bytes] = []
    for placed, failures, _seen in find_entries(mount, start, criteria):
        assert not failures
        paths += [path for path, _entry in placed]
    assert len(paths) == len(set(paths))
    return set(paths) - {b"/lost+found"}


def by_find(tree: Path, *arguments: str) -> set[bytes]:
    done = subprocess.run(
        [find_tool("find"), ".", *arguments, "-print0"],
        cwd=tree,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        check=True,
    )
    return {path[1:] or b"/" for path in done.stdout.split(b"\0") if path}


TIME = 1_234_567_890_000_000_001
CASES: list[tuple[Criteria, tuple[str, ...]]] = [
    (Criteria(), ()),
    (Criteria(names=(b"*l*",)), ("-name", "*l*")),
    (Criteria(names=(b"[st]*", b"up")), ("(", "-name", "[st]*", "-o", "-name", "up", ")")),
    (Criteria(names=("Größe*".encode(),)), ("-name", "Größe*")),
    (Criteria(names=(b"Gr??e*",)), ("-name", "Gr??e*")),
    (Criteria(names=("GRÖßE*".encode(),), ignore_case=True), ("-iname", "GRÖßE*")),
    (Criteria(names=(b"LARGE", b"Up"), ignore_case=True), ("-iregex", ".*/\\(large\\|up\\)")),
    (Criteria(names=(b"*\n*",)), ("-name", "*\n*")),
    (Criteria(pattern=rb"deeper/.*ll$"), ("-regex", ".*deeper/.*ll")),
    (Criteria(pattern=rb"DEEPER", ignore_case=True), ("-iregex", ".*deeper.*")),
    (Criteria(types="f"), ("-type", "f")),
    (Criteria(types="dl"), ("-type", "d,l")),
    (Criteria(types="pscb"), ("-type", "p,s,c,b")),
    (Criteria(types="f", size_least=4097), ("-type", "f", "-size", "+4096c")),
    (Criteria(types="f", size_most=7), ("-type", "f", "-size", "-8c")),
    (Criteria(types="f", size_least=6, size_most=6), ("-type", "f", "-size", "6c")),
    (Criteria(after_ns=TIME), ("-newermt", "@1234567890.000000001")),
    (Criteria(before_ns=TIME + 1), ("-not", "-newermt", "@1234567890.000000001")),
    (Criteria(before_ns=0), ("-not", "-newermt", "@0", "-not", "-newermt", "@-1")),
    (Criteria(uid=1234), ("-uid", "1234")),
    (Criteria(gid=70000), ("-gid", "70000")),
    (Criteria(uid=0, gid=0, types="d"), ("-uid", "0", "-gid", "0", "-type", "d")),
    (Criteria(mode_bits=0o4000), ("-perm", "-4000")),
    (Criteria(mode_bits=0o440, types="f"), ("-perm", "-440", "-type", "f")),
]


@pytest.mark.skipif(not ROOT, reason="owners")
@pytest.mark.parametrize(("criteria", "arguments"), CASES, ids=lambda case: str(case)[:60])
def test_what_find_finds_is_found(
    criteria: Criteria,
    arguments: tuple[str, ...],
    image_of: Callable[[str], Path],
    tree: Path,
    mount: MountImage,
) -> None:
    wanted = by_find(tree, *arguments)
    assert found(mount(image_of("ext4-written")), criteria) == wanted
    assert wanted or criteria.before_ns == 0


def test_below_a_folder(image_of: Callable[[str], Path], tree: Path, mount: MountImage) -> None:
    mounted = mount(image_of("ext4-written"))
    wanted = {b"/folder" + path.removesuffix(b"/") for path in by_find(tree / "folder")}
    assert found(mounted, Criteria(), b"/folder") == wanted
    # Through a link, when it is asked for as a folder.
    assert found(mounted, Criteria(), b"/absolute") == {b"/absolute"}
    assert b"/absolute/deepest/small" in found(mounted, Criteria(), b"/absolute/")


@pytest.mark.parametrize("kind", ["accessed", "changed", "born"])
def test_each_time_is_looked_at(
    kind: str, image_of: Callable[[str], Path], mount: MountImage
) -> None:
    mounted = mount(image_of("ext4-written"))
    entry = mounted.stat(b"/empty")
    time = {
        "accessed": entry.access_ns, "changed": entry.change_ns, "born": entry.birth_ns
    }[kind]  # fmt: skip
    assert time is not None
    just = Criteria(
        names=(b"empty",),
        after_ns=time - 1,
        before_ns=time + 1,
        time_kind=kind,  # type: ignore[arg-type]
    )
    assert found(mounted, just) == {b"/empty"}
    late = Criteria(names=(b"empty",), after_ns=time, time_kind=kind)  # type: ignore[arg-type]
    assert not found(mounted, late)


def test_a_time_that_is_not_kept_is_found_by_none(
    image_of: Callable[[str], Path], mount: MountImage
) -> None:
    mounted = mount(image_of("squashfs-gzip"))
    assert not found(mounted, Criteria(after_ns=-(10**20), time_kind="born"))


@pytest.mark.parametrize(
    ("criteria", "code"),
    [
        (Criteria(pattern=b"("), "search.pattern"),
        (Criteria(pattern=b"(", ignore_case=True), "search.pattern"),
        (Criteria(types="fx"), "search.type"),
    ],
)
def test_criteria_that_cannot_be(
    criteria: Criteria, code: str, image_of: Callable[[str], Path], mount: MountImage
) -> None:
    with pytest.raises(SearchError) as caught:
        found(mount(image_of("ext4-written")), criteria)
    assert caught.value.code == code


def test_a_search_ends_when_it_is_not_wanted(
    image_of: Callable[[str], Path], mount: MountImage
) -> None:
    class Enough(Exception):
        pass

    def check() -> None:
        raise Enough

    mounted = mount(image_of("ext4-written"))
    with pytest.raises(Enough):
        list(find_entries(mounted, b"/", Criteria(), check))
    # And leaves nothing open that keeps the volume.
    mounted.close()


def parsed(*arguments: str) -> dict[str, object]:
    return vars(make_parser().parse_args(["find", "image", *arguments]))


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("4096", 4096, 4096),
        ("+1K", 1025, None),
        ("-1k", None, 1023),
        ("1.5G", 3 << 29, 3 << 29),
        ("+0", 1, None),
        ("2T", 2 << 40, 2 << 40),
    ],
)
def test_sizes_as_they_are_typed(text: str, least: int | None, most: int | None) -> None:
    assert parsed(f"--size={text}")["size"] == (least, most)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1970-01-01", 0),
        ("2009-02-13T23:31:30.000000001Z", 1_234_567_890_000_000_001),
        ("2009-02-13 23:31:30,5", 1_234_567_890_500_000_000),
        ("2009-02-14T01:31:30+02:00", 1_234_567_890_000_000_000),
        ("1969-12-31T23:59:59.25Z", -750_000_000),
    ],
)
def test_times_as_they_are_typed(text: str, time: int) -> None:
    assert parsed("--newer", text)["newer"] == time


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--size", text] for text in ("", "K", "1KK", "x", "+", "nan", "inf", "1e99T")),
        *(["--newer", text] for text in ("", "soon", "2009-02-30", "2009-02-13T25:00:00Z")),
        *(["--perm", text] for text in ("", "8", "0", "10000", "u+s")),
        *(["--type", text] for text in ("", "x", ",")),
    ],
    ids=" ".join,
)
def test_values_that_are_none_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*arguments)
    assert caught.value.code == 2
    assert f"argument {arguments[0]}: not " in capsys.readouterr().err
