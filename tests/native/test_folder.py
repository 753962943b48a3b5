# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A folder is written as the stream says, and nothing beside it."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import stat
import subprocess
from struct import pack
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import ExplorerError
from explorer.native.folder import (
    Conflicts,
    Ended,
    Flag,
    HostOperation,
    Options,
    Result,
    Rule,
    Symlinks,
)
from explorer.native.stream import Mode, Operation
from tests.native.folders import JOB_NAME, Witness, copy, look
from tests.native.packer import Node, file, folder, link, walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root")


def plain_tree() -> list[Node]:
    chance = random.Random(4)
    one, other, far = (file(name, b"linked", links=3) for name in (b"one", b"other", b"far"))
    for node in (one, other, far):
        node.link = "one"
    return [
        folder(
            b"top",
            file(b"empty"),
            file(b"text", b"some text\n", mode=0o640),
            file(b"large", chance.randbytes(5 * MIB + 7)),
            file(b"sparse", ("hole", 8 * MIB), b"middle", ("hole", 3 * MIB)),
            file(b"\xff\xfe name\n", b"x", mode=0o400),
            one,
            other,
            link(b"symlink", b"/etc/passwd"),
            folder(b"empty folder", mode=0o700),
            folder(b"deep", folder(b"deeper", far, file(b"f", b"1")), mode=0o555),
            modify_seconds=1_000_000_000,
        )
    ]


def check_plain_tree(top: Path) -> None:
    found = look(top)
    nodes = list(walk(plain_tree()))
    assert len(found) == len(nodes)
    for path, one in found.items():
        (node,) = (node for node in nodes if node.name == os.path.basename(path))
        told = node.stat()
        assert one.kind == stat.S_IFMT(node.mode)
        if one.kind != stat.S_IFLNK:
            assert one.mode == stat.S_IMODE(node.mode)
        assert one.modified == told.modify_seconds * 10**9 + told.modify_nanoseconds
        if one.kind == stat.S_IFREG:
            assert one.content == b"".join(
                part if isinstance(part, bytes) else bytes(part[-1]) for part in node.content
            )
    assert found[b"top/symlink"].content == b"/etc/passwd"
    assert found[b"top/one"].linked == found[b"top/other"].linked
    assert found[b"top/one"].linked == found[b"top/deep/deeper/far"].linked
    assert found[b"top/sparse"].blocks < 1000


def test_a_tree_is_written_whole(built: None, tmp_path: Path) -> None:
    copied = copy(plain_tree(), tmp_path)
    assert copied.end.why == Ended.WHOLE
    check_plain_tree(tmp_path)
    assert set(copied.results.values()) == {Result.COPIED}
    outcomes = copied.witness.by_path()
    assert outcomes[b"top/sparse"].holes == 11 * MIB
    assert outcomes[b"top/sparse"].written == 6
    assert outcomes[b"top/symlink"].link == b"/etc/passwd"
    assert outcomes[b"top/deep/deeper/far"].flags & Flag.LINKED
    assert outcomes[b"top/deep/deeper/far"].link == b"top/one"
    assert copied.end.accounts.size == copied.end.accounts.written + copied.end.accounts.holes


def test_contents_go_into_the_folder_itself(built: None, tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    before = tmp_path.stat().st_mode
    copied = copy([folder(b"", file(b"a", b"1"), mode=0o700)], tmp_path, contents=True)
    assert set(look(tmp_path)) == {b"a"}
    assert copied.results == {b"": Result.COPIED, b"a": Result.COPIED}
    assert tmp_path.stat().st_mode == before


@pytest.mark.parametrize("names", [("md5",), ("sha256", "blake2b"), ("md5", "sha1", "sha256")])
def test_digests_are_of_what_is_written(
    built: None, tmp_path: Path, names: tuple[str, ...]
) -> None:
    (tmp_path / "host").write_bytes(random.Random(5).randbytes(3 * MIB))
    host = os.open(tmp_path / "host", os.O_RDONLY)
    (tmp_path / "to").mkdir()
    mixed = Node(b"mixed", content=[b"ab", ("hole", 70000), (0, 100, 2 * MIB), ("bad", 512), b"c"])
    tree = [file(b"empty"), mixed, file(b"text", b"text"), link(b"link", b"x")]
    copied = copy(tree, tmp_path / "to", Options(digests=names), files=[host])
    os.close(host)
    for name in ("empty", "mixed", "text"):
        content = (tmp_path / "to" / name).read_bytes()
        digests = b"".join(hashlib.new(one, content).digest() for one in names)
        assert copied.witness.by_path()[name.encode()].digests == digests
    assert copied.witness.by_path()[b"link"].digests == b""
    assert (tmp_path / "to" / "mixed").stat().st_size == mixed.size()
    damaged = copied.witness.by_path()[b"mixed"]
    assert damaged.result == Result.DAMAGED
    assert damaged.ranges == ((70002 + 2 * MIB, 512),)
    assert (damaged.operation, damaged.error) == (Operation.READ, -errno.EIO)


def test_extents_are_copied_by_the_host(built: None, tmp_path: Path) -> None:
    content = random.Random(6).randbytes(20 * MIB + 11)
    (tmp_path / "host").write_bytes(content)
    host = os.open(tmp_path / "host", os.O_RDONLY)
    (tmp_path / "to").mkdir()
    tree = [Node(b"a", content=[(0, 7, 20 * MIB), ("hole", 4096), (0, 0, 1)]),
            Node(b"beyond", content=[(0, 20 * MIB, 12)])]  # fmt: skip
    copied = copy(tree, tmp_path / "to", files=[host])
    os.close(host)
    made = (tmp_path / "to" / "a").read_bytes()
    assert made == content[7 : 7 + 20 * MIB] + bytes(4096) + content[:1]
    # The file became shorter than the engine said.
    assert copied.results[b"beyond"] == Result.FAILED
    assert copied.witness.by_path()[b"beyond"].operation == HostOperation.READ
    assert sorted(look(tmp_path / "to")) == [b"a"]


def test_what_could_not_be_read_costs_its_entry_only(built: None, tmp_path: Path) -> None:
    half = Node(b"half", content=[b"12345"], more={"size": 9}, result=(-5, Operation.READ))
    unlooked = Node(b"a/b", result=(-117, Operation.STAT))
    attributes = Node(b"xattrs", content=[b"1"], result=(-5, Operation.READ_XATTRS))
    broken = folder(b"broken", file(b"rest", b"1"))
    broken.result = (-5, Operation.READ)
    copied = copy([folder(b"top", half, unlooked, attributes, broken)], tmp_path)
    assert copied.results == {
        b"top/half": Result.FAILED,
        b"top/a/b": Result.FAILED,
        b"top/xattrs": Result.DAMAGED,
        b"top/broken/rest": Result.COPIED,
        b"top/broken": Result.DAMAGED,
        b"top": Result.COPIED,
    }
    assert set(look(tmp_path)) == {b"top", b"top/xattrs", b"top/broken", b"top/broken/rest"}
    failed = copied.witness.by_path()[b"top/a/b"]
    assert (failed.flags, failed.operation, failed.error) == (Flag.OF_IMAGE, Operation.STAT, -117)


def test_attributes_of_users_are_kept(built: None, tmp_path: Path) -> None:
    tree = folder(b"top", Node(b"a", content=[b"1"], xattrs={b"user.a": b"1" * 300}))
    tree.xattrs = {b"user.b": b"", b"trusted.c": b"1"}
    copied = copy([tree], tmp_path)
    assert os.getxattr(tmp_path / "top" / "a", "user.a") == b"1" * 300
    assert os.getxattr(tmp_path / "top", "user.b") == b""
    outcome = copied.witness.by_path()[b"top"]
    assert outcome.flags & Flag.XATTRS_LOST
    assert outcome.not_kept == (b"trusted.c",)
    # That was not asked for: nothing is damaged.
    assert outcome.result == Result.COPIED
    assert copied.end.accounts.xattrs_lost == 1


def test_attributes_that_the_host_refuses_are_told(built: None, tmp_path: Path) -> None:
    copied = copy([Node(b"a", xattrs={b"user.a": b"1" * 70000, b"user.b": b"2"})], tmp_path)
    outcome = copied.witness.by_path()[b"a"]
    assert outcome.result == Result.DAMAGED
    assert outcome.operation == HostOperation.XATTRS
    assert outcome.not_kept == (b"user.a",)
    assert os.getxattr(tmp_path / "a", "user.b") == b"2"


@needs_root
def test_owners_are_kept_when_asked(built: None, tmp_path: Path) -> None:
    acl = b"\2\0\0\0" + b"".join(
        pack("<HHI", tag, bits, who)
        for tag, bits, who in ((1, 6, 0xFFFFFFFF), (2, 7, 1000), (4, 4, 0xFFFFFFFF),
                               (0x10, 7, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF))
    )  # fmt: skip
    capability = pack("<IIIII", 0x2000001, 0x2000, 0, 0, 0)
    xattrs = {b"security.capability": capability, b"trusted.t": b"1"}
    tree = [
        Node(b"suid", stat.S_IFREG | 0o4755, [b"1"], more={"uid": 12, "gid": 34}),
        Node(b"capable", stat.S_IFREG | 0o755, [b"1"], xattrs=xattrs, more={"uid": 12}),
        Node(b"acl", stat.S_IFREG | 0o674, [b"1"], xattrs={b"system.posix_acl_access": acl}),
        link(b"link", b"x"),
    ]
    copied = copy(tree, tmp_path, Options(owner=True))
    found = look(tmp_path)
    assert (found[b"suid"].owner, found[b"suid"].mode) == ((12, 34), 0o4755)
    assert found[b"capable"].xattrs["security.capability"] == capability
    assert found[b"capable"].xattrs["trusted.t"] == b"1"
    assert found[b"acl"].xattrs["system.posix_acl_access"] == acl
    assert found[b"acl"].mode == 0o674
    assert found[b"link"].owner == (1000, 1000)
    assert copied.end.accounts.copied == 4
    assert copied.end.accounts.owners_lost == 0


def test_owners_are_told_when_they_are_not_kept(built: None, tmp_path: Path) -> None:
    tree = [
        Node(b"a", stat.S_IFREG | 0o6755, more={"uid": os.geteuid() + 1, "gid": os.getegid()}),
        Node(b"b", more={"uid": os.geteuid(), "gid": os.getegid()}),
    ]
    copied = copy(tree, tmp_path)
    assert copied.end.accounts.owners_lost == 1
    assert copied.witness.by_path()[b"a"].flags == Flag.OWNER_LOST
    assert set(copied.results.values()) == {Result.COPIED}
    # Nobody gets rights of someone else.
    assert look(tmp_path)[b"a"].mode == 0o755


def special_tree() -> list[Node]:
    return [
        Node(b"fifo", stat.S_IFIFO | 0o640),
        Node(b"socket", stat.S_IFSOCK | 0o600),
        Node(b"device", stat.S_IFCHR | 0o600, more={"special_major": 1, "special_minor": 3}),
    ]


def test_special_files_are_listed_only(built: None, tmp_path: Path) -> None:
    copied = copy(special_tree(), tmp_path)
    assert look(tmp_path) == {}
    assert copied.end.accounts.skipped_special == 3
    assert {one.rule for one in copied.witness.outcomes} == {Rule.SPECIAL}


@needs_root
def test_special_files_are_made_when_asked(built: None, tmp_path: Path) -> None:
    copy(special_tree(), tmp_path, Options(special=True))
    found = look(tmp_path)
    assert (found[b"fifo"].kind, found[b"fifo"].mode) == (stat.S_IFIFO, 0o640)
    assert found[b"socket"].kind == stat.S_IFSOCK
    assert os.lstat(tmp_path / "device").st_rdev == os.makedev(1, 3)


def test_symbolic_links_as_text_or_not_at_all(built: None, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "none").mkdir()
    tree = [link(b"link", b"../some\xff where")]
    copy(tree, tmp_path / "text", Options(symlinks=Symlinks.TEXT))
    (found,) = look(tmp_path / "text").values()
    assert (found.kind, found.mode, found.content) == (stat.S_IFREG, 0o644, b"../some\xff where")
    assert found.modified == 1_400_000_000_123_456_789
    copied = copy(tree, tmp_path / "none", Options(symlinks=Symlinks.SKIP))
    assert look(tmp_path / "none") == {}
    assert copied.end.accounts.skipped_symlink == 1


def test_named_streams_are_told_of(built: None, tmp_path: Path) -> None:
    node = Node(b"a", content=[b"main"], streams={b"zone": b"data", b"two": b"x" * 100})
    above = folder(b"d", node)
    above.streams = {b"three": b"y" * 5}
    copied = copy([above], tmp_path)
    assert (tmp_path / "d" / "a").read_bytes() == b"main"
    assert set(look(tmp_path)) == {b"d", b"d/a"}
    for path in (b"d", b"d/a"):
        assert copied.witness.by_path()[path].flags & Flag.STREAM_LOST
        assert copied.results[path] == Result.COPIED
    assert copied.end.accounts.streams_lost == 2


# ---- Conflicts -------------------------------------------------------------


def existing(top: Path) -> None:
    (top / "d").mkdir()
    (top / "d" / "old").write_text("kept")
    (top / "d" / "same").write_text("theirs")
    (top / "newer").write_text("theirs")
    os.utime(top / "newer", ns=(0, 1_400_000_000_123_456_790))
    (top / "older").write_text("theirs")
    os.utime(top / "older", ns=(0, 1_400_000_000_123_456_788))


def conflicting() -> list[Node]:
    return [
        folder(b"d", file(b"same", b"ours"), file(b"new", b"ours")),
        file(b"newer", b"ours"),
        file(b"older", b"ours"),
    ]


OUTCOMES = {
    Conflicts.SKIP: ({"d/same", "newer", "older"}, set()),
    Conflicts.OVERWRITE: (set(), {"d/same", "newer", "older"}),
    Conflicts.NEWER: ({"newer"}, {"older", "d/same"}),
    Conflicts.RENAME: ({"d/same", "newer", "older"}, {"d/same (2)", "newer (2)", "older (2)"}),
}


@pytest.mark.parametrize("asked", [False, True], ids=["rule", "asked"])
@pytest.mark.parametrize("rule", OUTCOMES)
def test_what_stands_there_already(
    built: None, tmp_path: Path, rule: Conflicts, asked: bool
) -> None:
    existing(tmp_path)
    os.utime(tmp_path / "d" / "same", ns=(0, 0))
    witness = Witness(lambda _path: rule)
    copied = copy(
        conflicting(), tmp_path, Options(conflicts=Conflicts.ASK if asked else rule),
        witness=witness,
    )  # fmt: skip
    theirs, ours = OUTCOMES[rule]
    for name in theirs:
        assert (tmp_path / name).read_text() == "theirs"
    for name in {*ours, "d/new"}:
        assert (tmp_path / name).read_text() == "ours"
    assert (tmp_path / "d" / "old").read_text() == "kept"
    assert sorted(witness.asked) == ([b"d/same", b"newer", b"older"] if asked else [])
    assert copied.end.accounts.existed == 3
    assert copied.results[b"d"] == Result.COPIED
    # What is not wanted was not sent.
    assert len(copied.engine.packer.wanted) == 5 - copied.end.accounts.skipped


def test_a_tree_over_itself_is_the_same_tree(built: None, tmp_path: Path) -> None:
    tree = [*plain_tree(), *(special_tree() if ROOT else [])]
    copy(tree, tmp_path, Options(special=True))
    before = look(tmp_path)
    copied = copy(tree, tmp_path, Options(special=True, conflicts=Conflicts.OVERWRITE))
    assert set(copied.results.values()) == {Result.COPIED}
    after = look(tmp_path)
    # All but which file of the host it is.
    for path, one in before.items():
        assert after[path]._replace(linked=one.linked, blocks=one.blocks) == one
    assert set(after) == set(before)
    for node in special_tree() if ROOT else []:
        (tmp_path / os.fsdecode(node.name)).unlink()
    check_plain_tree(tmp_path)


def test_one_kind_in_place_of_another(built: None, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("theirs")
    to = tmp_path / "to"
    to.mkdir()
    (to / "a").write_text("theirs")
    (to / "b").symlink_to(outside)
    linked = [file(b"c", b"ours", links=2), file(b"d", b"ours", links=2)]
    for node in linked:
        node.link = "one"
    (to / "c").write_text("theirs")
    os.link(to / "c", to / "d")
    os.link(to / "c", tmp_path / "other")
    tree = [link(b"a", b"somewhere"), file(b"b", b"ours"), *linked]
    copied = copy(tree, to, Options(conflicts=Conflicts.OVERWRITE))
    assert set(copied.results.values()) == {Result.COPIED}
    found = look(to)
    assert (found[b"a"].kind, found[b"a"].content) == (stat.S_IFLNK, b"somewhere")
    assert (found[b"b"].kind, found[b"b"].content) == (stat.S_IFREG, b"ours")
    assert found[b"c"].linked == found[b"d"].linked
    assert found[b"d"].content == b"ours"
    # What was replaced has other names, and keeps its content there.
    assert outside.read_text() == (tmp_path / "other").read_text() == "theirs"


def test_an_answer_that_raises_ends_the_copy(built: None, tmp_path: Path) -> None:
    def refuse(path: bytes) -> Conflicts:
        raise InterruptedError

    existing(tmp_path)
    before = look(tmp_path)
    with pytest.raises(InterruptedError):
        copy(conflicting(), tmp_path, witness=Witness(refuse))
    assert {path for path in look(tmp_path) if path not in before} == set()


@pytest.mark.parametrize("rule", [Conflicts.SKIP, Conflicts.OVERWRITE, Conflicts.NEWER])
def test_a_folder_is_no_file(built: None, tmp_path: Path, rule: Conflicts) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("theirs")
    copied = copy([file(b"a", b"1"), folder(b"b", file(b"x"))], tmp_path, Options(conflicts=rule))
    assert (tmp_path / "a").is_dir()
    assert (tmp_path / "b").read_text() == "theirs"
    assert {copied.results[b"a"], copied.results[b"b"]} == {Result.FAILED}
    assert copied.witness.by_path()[b"a"].operation == HostOperation.TYPE


def test_a_folder_beside_a_file_of_its_name(built: None, tmp_path: Path) -> None:
    (tmp_path / "a.d").mkdir()
    (tmp_path / "b").write_text("theirs")
    copied = copy(
        [file(b"a.d", b"1"), folder(b"b", file(b"x", b"2"))], tmp_path,
        Options(conflicts=Conflicts.RENAME),
    )  # fmt: skip
    assert (tmp_path / "a (2).d").read_bytes() == b"1"
    assert (tmp_path / "b (2)" / "x").read_bytes() == b"2"
    assert copied.witness.by_path()[b"b/x"].target == b"b (2)/x"


def test_what_came_before_from_the_same_source_is_not_replaced(built: None, tmp_path: Path) -> None:
    twice = [folder(b"d", file(b"a", b"first"), file(b"a", b"second"))]
    copied = copy(twice, tmp_path, Options(conflicts=Conflicts.OVERWRITE))
    assert (tmp_path / "d" / "a").read_bytes() == b"first"
    assert copied.end.accounts.failed == 1
    (tmp_path / "e").mkdir()
    twice[0].name = b"e"
    copied = copy(twice, tmp_path, Options(conflicts=Conflicts.OVERWRITE))
    assert (tmp_path / "e" / "a").read_bytes() == b"first"
    assert copied.end.accounts.failed == 1


def test_a_plan_writes_nothing(built: None, tmp_path: Path) -> None:
    existing(tmp_path)
    before = look(tmp_path)
    stamp = tmp_path.stat().st_mtime_ns
    tree = [*conflicting(), folder(b"CON", file(b"a:b", b"x")), link(b"l", b"x")]
    copied = copy(tree, tmp_path, Options(plan=True, names="windows"))
    assert copied.engine.packer.modes == [Mode.ASK]
    assert look(tmp_path) == before
    assert tmp_path.stat().st_mtime_ns == stamp
    told = copied.witness.by_path()
    assert {path for path in told if told[path].flags & Flag.EXISTED} == {
        b"d/same", b"newer", b"older",
    }  # fmt: skip
    assert told[b"CON/a:b"].target == b"%43ON/a%3Ab"
    assert b"l" not in told
    assert copied.end.accounts.seen == 8
    assert copied.end.accounts.mapped == 2


# ---- Names -----------------------------------------------------------------


def test_names_that_windows_cannot_hold(built: None, tmp_path: Path) -> None:
    names = [b"a:b", b"NUL", b"dot.", b"\xff", b"%41", b"README", b"readme", b"Readme.",
             "Straße".encode(), b"STRASSE", "é".encode(), "e\u0301".encode()]  # fmt: skip
    tree = folder(b"AUX", *(file(name, name) for name in names))
    copied = copy([tree], tmp_path, Options(names="windows", fold=True))
    made = {path: one.content for path, one in look(tmp_path).items()}
    for name, mapped in {
        b"a:b": b"a%3Ab", b"NUL": b"%4EUL", b"dot.": b"dot%2E", b"\xff": b"%FF", b"%41": b"%2541",
        b"README": b"README", b"readme": b"readme%~2", b"Readme.": b"Readme%2E",
        b"STRASSE": b"STRASSE%~2", "e\u0301".encode(): "e\u0301%~2".encode(),
    }.items():  # fmt: skip
        assert made[b"%41UX/" + mapped] == name
        outcome = copied.witness.by_path()[b"AUX/" + name]
        assert outcome.target == b"%41UX/" + mapped
        assert bool(outcome.flags & Flag.MAPPED) == (name != mapped)
    assert copied.end.accounts.copied == len(names) + 1


def test_names_that_are_too_long_are_cut(built: None, tmp_path: Path) -> None:
    long = "é".encode() * 200 + b".txt"
    copied = copy([folder(b"d", file(long, b"1"), file(b"x" * 250, b"2"))], tmp_path)
    made = sorted(os.listdir(os.fsencode(tmp_path / "d")))
    assert len(made) == 2
    digits = hashlib.sha256(long).hexdigest()[:16].upper().encode()
    assert made[1].endswith(b"%~" + digits + b".txt")
    assert len(made[1]) == 255 - 1
    assert copied.witness.by_path()[b"d/" + long].target == b"d/" + made[1]


def test_paths_that_windows_finds_long_are_told(built: None, tmp_path: Path) -> None:
    tree = folder(b"d" * 130, folder(b"e" * 120, file(b"short"), file(b"f" * 20)))
    copied = copy([tree], tmp_path, Options(names="windows"))
    flagged = {path for path, one in copied.witness.by_path().items() if one.flags & Flag.LONG_PATH}
    assert flagged == {b"/".join((b"d" * 130, b"e" * 120, b"f" * 20))}
    assert copied.end.accounts.long_paths == 1


# ---- Nothing outside -------------------------------------------------------


def test_links_of_the_host_are_not_followed(built: None, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_text("alive")
    to = tmp_path / "to"
    to.mkdir()
    (to / "d").symlink_to(outside)
    (to / "f").symlink_to(outside / "canary")
    (to / "g").symlink_to(outside / "new")
    tree = [folder(b"d", file(b"canary", b"dead")), file(b"f", b"dead"), file(b"g", b"dead")]
    copied = copy(tree, to, Options(conflicts=Conflicts.OVERWRITE))
    assert {path: one.content for path, one in look(outside).items()} == {b"canary": b"alive"}
    assert copied.results[b"d"] == Result.FAILED
    assert not (to / "f").is_symlink()


def test_links_of_the_image_are_not_followed(built: None, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    to = tmp_path / "to"
    to.mkdir()
    tree = [
        folder(b"d", link(b"x", os.fsencode(outside)), folder(b"x", file(b"canary", b"dead"))),
        link(b"y", b"../outside"),
        folder(b"y", file(b"canary", b"dead")),
    ]
    for rule in Conflicts:
        copied = copy(tree, to, Options(conflicts=rule))
        assert copied.end.accounts.failed >= 1
    assert os.listdir(outside) == []


def test_a_folder_that_is_exchanged_meanwhile(built: None, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    to = tmp_path / "to"
    to.mkdir()
    depth = 70

    class Exchange(Witness):
        def ask(self, path, existing, entry):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            # The first folder is closed by now, so deep it is.
            os.rename(to / "d0", to / "moved")
            (to / "d0").symlink_to(outside)
            return Conflicts.SKIP

    deep = folder(b"d%d" % depth, file(b"conflict", b"1"))
    (to / "/".join(f"d{number}" for number in range(depth + 1))).mkdir(parents=True)
    (to / "/".join([*(f"d{number}" for number in range(depth + 1)), "conflict"])).write_text("")
    for number in reversed(range(depth)):
        deep = folder(b"d%d" % number, deep, file(b"late", b"1"))
    copied = copy([deep], to, witness=Exchange())
    assert os.listdir(outside) == []
    assert copied.end.why == Ended.WHOLE
    late = copied.witness.by_path()[b"d0/late"]
    # It was opened before and is still the folder that was made, or it is refused.
    assert late.result == Result.FAILED or (to / "moved" / "late").exists()


def test_very_deep_trees(built: None, tmp_path: Path) -> None:
    node = folder(b"d" * 200, file(b"leaf", b"1"))
    for _ in range(300):
        node = folder(b"d" * 200, node, file(b"leaf", b"1"))
    copied = copy([node], tmp_path)
    assert copied.end.accounts.copied == 602
    assert copied.end.why == Ended.WHOLE
    # Python's own means end at 4096 bytes.
    assert os.system(f"rm -r {tmp_path}/d*") == 0


# ---- The host's own troubles -----------------------------------------------


def test_part_files_do_not_stay(built: None, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    to = tmp_path / "to"
    to.mkdir()
    (to / f"text.{JOB_NAME}.part").write_text("another's")
    (to / f"more.{JOB_NAME}.part").symlink_to(outside)
    tree = [file(b"text", b"1"), file(b"more", b"2"), file(b"x" * 250, b"3"), file(b"y" * 255)]
    copied = copy(tree, to)
    assert copied.end.accounts.copied == 4
    assert (to / f"text.{JOB_NAME}.part").read_text() == "another's"
    assert (to / "more").read_text() == "2"
    assert not outside.exists()
    assert len(os.listdir(to)) == 6


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A host of one MiB."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def too_large() -> list[Node]:
    large = file(b"large", b"x" * (2 * MIB))
    return [file(b"before", b"1" * 1000), large, file(b"after", b"2" * 1000)]


def test_a_host_that_is_full_costs_what_has_no_room(built: None, small: Path) -> None:
    copied = copy(too_large(), small)
    assert copied.end.why == Ended.WHOLE
    assert set(look(small)) == {b"before", b"after"}
    failed = copied.witness.by_path()[b"large"]
    assert (failed.result, failed.operation) == (Result.FAILED, HostOperation.WRITE)
    assert failed.error == -errno.ENOSPC


def test_a_host_that_is_full_ends_the_copy_when_asked(built: None, small: Path) -> None:
    copied = copy(too_large(), small, Options(stop_full=True))
    assert (copied.end.why, copied.end.error) == (Ended.FULL, -errno.ENOSPC)
    assert set(look(small)) == {b"before"}
    assert copied.end.accounts.failed == 1


def test_a_host_that_cannot_be_written_ends_the_copy(built: None, small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    copied = copy([folder(b"d", *(file(b"%d" % one) for one in range(100)))], small)
    assert (copied.end.why, copied.end.error) == (Ended.LOST, -errno.EROFS)
    assert copied.end.accounts.seen == 1


def test_an_engine_that_breaks_off(built: None, tmp_path: Path) -> None:
    half = Node(b"half", content=[b"12345", b"6"], more={"size": 9})
    witness = Witness()
    with pytest.raises(ExplorerError, match=r"copy\.protocol"):
        copy([folder(b"d", file(b"whole", b"1"), half)], tmp_path, witness=witness)
    assert {one.path: one.result for one in witness.outcomes} == {
        b"d/whole": Result.COPIED, b"d/half": Result.FAILED, b"d": Result.DAMAGED,
    }  # fmt: skip
    assert set(look(tmp_path)) == {b"d", b"d/whole"}


def test_a_raise_in_progress_ends_the_copy(built: None, tmp_path: Path) -> None:
    class Cancelling(Witness):
        def progress(self, accounts, path):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            raise InterruptedError

    many = folder(b"d", *(file(b"%d" % number, b"1" * 5000) for number in range(50000)))
    witness = Cancelling()
    with pytest.raises(InterruptedError):
        copy([many], tmp_path, witness=witness)
    made = look(tmp_path)
    assert 0 < len(made) < 50001
    assert not [path for path in made if path.endswith(b".part")]
    # The one that was at work is told to have failed.
    made_or_failed = {
        b"d": Result.DAMAGED,
        **{path: Result.COPIED for path in made if path != b"d"},
    }
    told = {one.path: one.result for one in witness.outcomes if one.result != Result.FAILED}
    assert told == made_or_failed
