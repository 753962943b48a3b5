# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of digests as coreutils write them, and what an image is compared with."""

from __future__ import annotations

import hashlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.evidence.verifying import (
    Listed,
    find_expected,
    find_lists,
    given_expected,
    parse_list,
    verify,
)
from explorer.images.registry import open_image
from tests.trees import make_empty, noise, run_tool

if TYPE_CHECKING:
    from pathlib import Path

    from explorer.evidence.verifying import Compared

TOOLS = {"md5": "md5sum", "sha1": "sha1sum", "sha256": "sha256sum", "blake2b": "b2sum"}
NAMES = [
    b"plain", b"with space ", b"back\\slash", b"new\nline", b"cr\rhere", b"(paren) = x",
    b"caf\xe9", b"*star", b"\\n",
]  # fmt: skip


def of_bytes(algorithm: str, data: bytes) -> bytes:
    return hashlib.new(algorithm, data).digest()


@pytest.mark.parametrize("tag", [(), ("--tag",), ("--binary",)], ids=str)
@pytest.mark.parametrize("algorithm", TOOLS)
def test_what_coreutils_write_is_read(algorithm: str, tag: tuple[str, ...], tmp_path: Path) -> None:
    top = os.fsencode(tmp_path)
    wanted = set()
    for number, name in enumerate(NAMES):
        with open(top + b"/" + name, "wb") as file:
            file.write(noise(number, number))
        wanted.add(Listed(algorithm, of_bytes(algorithm, noise(number, number)), name))
    paths = [tmp_path / os.fsdecode(name) for name in NAMES]
    text = output_of(TOOLS[algorithm], *tag, *paths)
    hint = None if tag != ("--tag",) else "md5"
    assert set(parse_list(text, hint)) == wanted


def output_of(*arguments: str | Path) -> bytes:
    return subprocess.run(arguments, capture_output=True, check=True).stdout


MD5 = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.mark.parametrize(
    ("text", "hint", "found"),
    [
        (MD5, None, [("md5", None)]),
        (MD5.upper() + "\r\n", "md5", [("md5", None)]),
        (f"\ufeff{MD5}  a\r\n", None, [("md5", b"a")]),
        (f"{MD5}  folder/below/a\n# a remark\n\n", None, [("md5", b"a")]),
        # As openssl dgst writes it.
        (f"MD5(a)= {MD5}", None, []),
        (f"MD5 (a) = {MD5}", None, [("md5", b"a")]),
        (f"SHA512 (a) = {'0' * 128}", None, [("", b"a")]),
        ("0" * 128 + "  a", None, [("blake2b", b"a")]),
        ("0" * 128 + "  a", "", [("", b"a")]),
        # Of the wrong length for its name.
        (f"{MD5}  a", "sha256", []),
        (f"{MD5}0  a", None, []),
        ("deadbeef  a", None, [("", b"a")]),
        ("no digest at all", None, []),
    ],
)
def test_lines_of_lists(text: str, hint: str | None, found: list[tuple[str, bytes | None]]) -> None:
    assert [(one.algorithm, one.name) for one in parse_list(text.encode(), hint)] == found


@given(st.binary(max_size=300), st.sampled_from([None, "", "md5"]))
def test_any_bytes_as_a_list(text: bytes, hint: str | None) -> None:
    for one in parse_list(text, hint):
        assert one.name is None or b"/" not in one.name


def test_lists_are_known_by_their_names() -> None:
    names = [
        b"disk.E01", b"disk.E01.md5", b"disk.sha1", b"DISK.E01.SHA256", b"other.E01.md5",
        b"disk.E01.txt", b"SHA256SUMS", b"md5sum.txt", b"disk.E01.sha512", b"SHA512SUMS", b"md5",
    ]  # fmt: skip
    assert find_lists(names, [b"disk.E01"]) == [
        (b"DISK.E01.SHA256", "sha256", b"disk.E01"),
        (b"SHA256SUMS", "sha256", b""),
        (b"SHA512SUMS", "", b""),
        (b"disk.E01.md5", "md5", b"disk.E01"),
        (b"disk.E01.sha512", "", b"disk.E01"),
        (b"disk.sha1", "sha1", b"disk.E01"),
        (b"md5sum.txt", "md5", b""),
    ]


# ---- Comparing


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(noise(1 << 20, 1))
    return path


def compare(path: Path, *digests: bytes) -> list[Compared]:
    with open_image(path) as image:
        expected = [given_expected(image, one) for one in digests] or find_expected(image)
        return verify(image, expected)


def told(compared: list[Compared]) -> list[tuple[str, bool, list[str]]]:
    return [
        (one.expected.algorithm, one.matches, [each.kind for each in one.hashed])
        for one in compared
    ]


def test_nothing_to_compare_with(disk: Path) -> None:
    assert compare(disk) == []


@pytest.mark.parametrize("algorithm", TOOLS)
def test_a_list_beside_the_image(algorithm: str, disk: Path) -> None:
    ending = "b2" if algorithm == "blake2b" else algorithm
    beside = disk.with_name(f"disk.img.{ending}")
    beside.write_text(run_tool(TOOLS[algorithm], disk))
    assert told(compare(disk)) == [(algorithm, True, ["file"])]
    with disk.open("r+b") as file:
        file.write(b"changed")
    assert told(compare(disk)) == [(algorithm, False, ["file"])]
    (one,) = compare(disk)
    assert one.expected.where == f"in {beside.name}"
    assert one.hashed[0].digests[algorithm] == of_bytes(algorithm, disk.read_bytes())


def test_a_list_of_many_files(disk: Path) -> None:
    other = disk.with_name("other.img")
    other.write_bytes(b"other")
    sums = disk.with_name("SHA256SUMS")
    sums.write_text(run_tool("sha256sum", "--tag", other, disk))
    assert told(compare(disk)) == [("sha256", True, ["file"])]
    # What it says of others is none of ours.
    sums.write_text(run_tool("sha256sum", other))
    assert compare(disk) == []


def test_what_is_only_called_like_a_list(disk: Path) -> None:
    disk.with_name("MD5SUMS").mkdir()
    disk.with_name("SHA1SUMS").touch()
    disk.with_name("SHA256SUMS").write_bytes(noise(10_000, 2))
    assert compare(disk) == []


def test_another_algorithm_is_told_and_not_compared(disk: Path) -> None:
    disk.with_name("disk.img.sha512").write_text(run_tool("sha512sum", disk))
    assert told(compare(disk)) == [("", False, [])]


def test_a_digest_beside_a_format_may_be_the_disks(disk: Path) -> None:
    path = disk.with_name("disk.qcow2")
    run_tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, path)
    beside = disk.with_name("disk.qcow2.md5")
    beside.write_text(of_bytes("md5", path.read_bytes()).hex())
    assert told(compare(path)) == [("md5", True, ["file"])]
    beside.write_text(of_bytes("md5", disk.read_bytes()).hex())
    assert told(compare(path)) == [("md5", True, ["disk"])]
    beside.write_text("0" * 32)
    assert told(compare(path)) == [("md5", False, ["file", "disk"])]


def test_given_digests(disk: Path) -> None:
    path = disk.with_name("disk.vdi")
    run_tool("qemu-img", "convert", "-f", "raw", "-O", "vdi", disk, path)
    # What is beside it is not looked at then.
    disk.with_name("disk.vdi.md5").write_text("0" * 32)
    stored, inside = path.read_bytes(), disk.read_bytes()
    assert told(
        compare(
            path,
            of_bytes("sha256", stored),
            of_bytes("sha1", inside),
            of_bytes("md5", b"neither"),
            of_bytes("blake2b", inside),
        )
    ) == [
        ("sha256", True, ["file"]),
        ("sha1", True, ["disk"]),
        ("md5", False, ["file", "disk"]),
        ("blake2b", True, ["disk"]),
    ]


def test_parts_and_what_lists_say_of_them(disk: Path) -> None:
    run_tool("split", "-b", "400000", "-a", "3", "-d", disk, disk.with_name("part."))
    names = sorted(disk.parent.glob("part.*"))
    sums = disk.with_name("MD5SUMS")
    sums.write_text(run_tool("md5sum", *names))
    assert told(compare(names[0])) == [("md5", True, ["file"])] * 3
    # Of all of them, in a list that is called by what they have in common.
    sums.unlink()
    disk.with_name("part.sha1").write_text(of_bytes("sha1", disk.read_bytes()).hex())
    assert told(compare(names[0])) == [("sha1", True, ["parts"])]
    names[1].write_bytes(b"y" * names[1].stat().st_size)
    ((algorithm, matches, kinds),) = told(compare(names[0]))
    assert (algorithm, matches) == ("sha1", False)
    assert "parts" in kinds


def test_an_ewf_knows_its_digests(disk: Path, tmp_path: Path) -> None:
    case = tmp_path / "case"
    run_tool("ewfacquire", "-u", "-q", "-d", "sha1", "-c", "none", "-t", case, disk)
    path = tmp_path / "case.E01"
    assert sorted(told(compare(path))) == [("md5", True, ["disk"]), ("sha1", True, ["disk"])]
    run_tool("ewfverify", "-q", path)
    # A list beside it is compared, too, with the file that it names.
    (tmp_path / "case.E01.sha256").write_text(run_tool("sha256sum", path))
    assert ("sha256", True, ["file"]) in told(compare(path))


def test_names_in_lists_that_stand_elsewhere_are_not_the_images(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    base = make_empty(tmp_path / "sub" / "base.img", 1 << 20)
    over = tmp_path / "over.qcow2"
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", "sub/base.img", "-F", "raw", over)
    other = tmp_path / "base.img"
    other.write_bytes(b"another file of that name")
    (tmp_path / "MD5SUMS").write_text(run_tool("md5sum", other, over))
    (one,) = compare(over)
    assert one.matches
    assert one.hashed[0].name == str(over)
    assert base.exists()
