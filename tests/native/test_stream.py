# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The reader of the stream takes what the rules allow, and nothing else."""

from __future__ import annotations

import os
import random
import re
import socket
import stat
import threading
from contextlib import suppress
from struct import pack
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import ExplorerError
from explorer.native import stream as module
from explorer.native.stream import LINKED, Event, Kind, Mode, Operation, Stat, Stream
from tests.fuzz.mutation import mutate
from tests.native.packer import (
    HEADER,
    MAGIC,
    VERSION,
    Engine,
    Node,
    file,
    folder,
    link,
    make_entry,
    make_stat,
    make_xattrs,
    message,
)

if TYPE_CHECKING:
    from pathlib import Path

PROTOCOL = r"copy\.protocol"
FILE = make_stat(stat.S_IFREG | 0o644)
FOLDER = make_stat(stat.S_IFDIR | 0o755)
BEGIN = message(Kind.BEGIN, pack("=II", MAGIC, VERSION))
DONE = message(Kind.DONE, pack("=iI", 0, 0))
LEAVE = message(Kind.LEAVE)


def finish(entries: int) -> bytes:
    return message(Kind.FINISH, pack("=QiI", entries, 0, 0))


def entry(name: bytes = b"a", number: int = 1, told: Stat = FILE, **more: int) -> bytes:
    return message(Kind.ENTRY, make_entry(name, told, number, **more))


def sized(size: int, kind: int = stat.S_IFREG, **more: int) -> Stat:
    return make_stat(kind | 0o600, size, **more)


def read_bytes(content: bytes, mode: Mode = Mode.FREE) -> list[Event]:
    """What a stream of these bytes tells; all of DATA is copied."""
    here, there = socket.socketpair()

    def send() -> None:
        # The reader may have had enough.
        with suppress(OSError):
            there.sendall(content)
            there.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        return read_all(here, mode)
    finally:
        here.close()
        thread.join()
        there.close()


def read_all(source: socket.socket, mode: Mode = Mode.FREE) -> list[Event]:
    told = []
    with Stream(source) as events:
        while (event := events.next()) is not None:
            if event.answer == module.ANSWER_MODE:
                events.answer_mode(mode)
            elif event.answer == module.ANSWER_WANTED:
                events.answer_wanted(b"\1" * event.length)
            if event.data is not None:
                event = event._replace(data=memoryview(bytes(event.data)))
            told.append(event)
    return told


def enumerated(name: str) -> dict[str, int]:
    """An enum of the header, without prefix."""
    body = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    found = re.search(rf"enum {name} {{(.*?)}}", body, re.DOTALL)
    assert found is not None
    values: dict[str, int] = {}
    last = -1
    for one in filter(None, map(str.strip, found[1].split(","))):
        word, _, number = one.partition(" = ")
        last = int(number) if number else last + 1
        values[word.removeprefix("COPY_")] = last
    return values


def test_the_words_are_those_of_the_header() -> None:
    kinds = enumerated("copy_kind")
    assert (kinds.pop("MODE"), kinds.pop("WANTED")) == (64, 65)
    assert kinds == {kind.name: kind.value for kind in Kind}
    assert enumerated("copy_operation") == {one.name: one.value for one in Operation}
    for name in ("FREE", "ASK", "UNUSABLE"):
        assert f"#define COPY_{name} {Mode[name]}u" in HEADER.read_text()
    for name in ("CONTENTS", "PLAN", "LINKED"):
        assert f"#define COPY_{name} 0x{getattr(module, name):x}u" in HEADER.read_text()


def test_a_tree_is_told_as_it_was_sent(built: None, tmp_path: Path) -> None:
    (tmp_path / "host").write_bytes(b"0123456789")
    host = os.open(tmp_path / "host", os.O_RDONLY)
    large = random.Random(1).randbytes(3 << 20)
    extent = Node(b"extent", content=[(0, 2, 5)])
    one, other = file(b"one", b"x"), file(b"other", b"x")
    one.link = other.link = "same"
    xattrs = {b"user.a": b"1", b"security.capability": b"\0" * 20}
    attributed = Node(b"attributed", content=[("hole", 4096), b"ab", ("bad", 7)], xattrs=xattrs)
    tree = [
        folder(b"top", file(b"large", large), extent, one, other, link(b"l\xff", b"../t"),
               attributed,
               folder(b"\xe9", Node(b"streams", content=[b"main"], streams={b"two": b"2"}))),
    ]  # fmt: skip
    with Engine(tree, files=[host]) as engine:
        told = read_all(engine.source)
    os.close(host)
    names = [event.name for event in told if event.kind in (Kind.ENTER, Kind.ENTRY)]
    assert names == [b"top", b"large", b"extent", b"one", b"other", b"l\xff", b"attributed",
                     b"\xe9", b"streams"]  # fmt: skip
    content = [event for event in told if event.kind == Kind.DATA and event.number == 2]
    assert b"".join(event.data or b"" for event in content) == large
    by_name = {event.name: event for event in told if event.stat}
    assert by_name[b"top"].stat == tree[0].stat()
    assert by_name[b"other"].flags == LINKED
    assert by_name[b"other"].first == by_name[b"one"].number
    assert bytes(by_name[b"l\xff"].data or b"") == b"../t"
    (extents,) = (event for event in told if event.kind == Kind.EXTENT)
    assert (extents.position, extents.length) == (2, 5)
    assert extents.file > 2
    (attributes,) = (event for event in told if event.kind == Kind.XATTRS)
    assert bytes(attributes.data or b"") == make_xattrs(xattrs)
    assert [event.length for event in told if event.kind in (Kind.HOLE, Kind.BAD)] == [4096, 7]
    assert [event.name for event in told if event.kind == Kind.STREAM] == [b"two"]
    assert told[-1].kind == Kind.FINISH
    assert told[-1].length == 9


def test_descriptors_are_closed_with_the_stream(built: None, tmp_path: Path) -> None:
    (tmp_path / "host").write_bytes(b"0123456789")
    before = len(os.listdir("/proc/self/fd"))
    host = os.open(tmp_path / "host", os.O_RDONLY)
    with Engine([file(b"a")], files=[host] * 200) as engine:
        read_all(engine.source)
    os.close(host)
    assert len(os.listdir("/proc/self/fd")) == before


def refused(path: Path) -> list[tuple[str, int]]:
    """Descriptors that nobody may be handed."""
    (path / "host").write_bytes(b"")
    os.mkfifo(path / "fifo")
    return [
        ("folder", os.open(path, os.O_RDONLY)),
        ("fifo", os.open(path / "fifo", os.O_RDONLY | os.O_NONBLOCK)),
        ("written", os.open(path / "host", os.O_RDWR)),
        ("write", os.open(path / "host", os.O_WRONLY)),
        ("path", os.open(path / "host", os.O_PATH)),
        ("device", os.open("/dev/zero", os.O_RDONLY)),
        ("socket", socket.socket().detach()),
    ]


def test_descriptors_of_other_kinds_are_refused(built: None, tmp_path: Path) -> None:
    for name, number in refused(tmp_path):
        with Engine([], files=[number]) as engine, pytest.raises(ExplorerError) as error:
            read_all(engine.source)
        assert error.value.params["reason"] == "a descriptor of another kind", name
        os.close(number)


def test_a_descriptor_beside_other_messages_is_not_kept(built: None) -> None:
    before = len(os.listdir("/proc/self/fd"))
    here, there = socket.socketpair()
    with here, there:
        for _ in range(9):
            socket.send_fds(there, [BEGIN[:1]], [0])
        there.close()
        with pytest.raises(ExplorerError, match="protocol"):
            read_all(here)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_end_before_the_finish_is_told(built: None) -> None:
    with pytest.raises(ExplorerError, match=r"copy\.engine"):
        read_bytes(BEGIN + entry())


def test_silence_is_told_and_can_be_ended(built: None) -> None:
    class Enough(Exception):
        pass

    def idle() -> None:
        raise Enough

    here, there = socket.socketpair()
    with here, there, Stream(here, idle) as events:
        there.sendall(BEGIN + entry()[:9])
        assert events.next() is not None
        with pytest.raises(Enough):
            events.next()
        # Nothing is lost by that.
        there.sendall(entry()[9:])
        told = events.next()
        assert told is not None
        assert told.name == b"a"


def test_an_answer_is_waited_for(built: None) -> None:
    here, there = socket.socketpair()
    with here, there, Stream(here) as events:
        there.sendall(BEGIN + message(Kind.ENTER, make_entry(b"a", FOLDER, 1)) + LEAVE)
        events.next()
        with pytest.raises(OSError, match="stream"):
            events.answer_mode(Mode.FREE)
        events.next()
        with pytest.raises(OSError, match="stream"):
            events.next()
        with pytest.raises(OSError, match="stream"):
            events.answer_wanted(b"\1")
        events.answer_mode(Mode.ASK)
        assert there.recv(100) == message(64, pack("=I", 1))
        assert events.next() is not None


ENTER = message(Kind.ENTER, make_entry(b"d", FOLDER, 1))
HOSTILE = {
    "nothing first": entry(),
    "magic": message(Kind.BEGIN, pack("=II", 1, VERSION)),
    "version": message(Kind.BEGIN, pack("=II", MAGIC, 2)),
    "begin short": message(Kind.BEGIN, pack("=I", MAGIC)),
    "two begins": BEGIN + BEGIN,
    "body": BEGIN + pack("=II", Kind.ENTRY, (1 << 20) + 1),
    "all of memory": BEGIN + pack("=II", Kind.ENTRY, 0xFFFFFFFF),
    "kind 0": BEGIN + message(0),
    "kind 17": BEGIN + message(17),
    "an answer": BEGIN + message(64, pack("=I", 0)),
    "entry short": BEGIN + message(Kind.ENTRY, b"x" * 100),
    "name length": BEGIN + entry(length=2),
    "name longer": BEGIN + entry(b"abc", length=1),
    "name huge": BEGIN + entry(length=0xFFFFFFFF),
    "name 1025": BEGIN + entry(b"x" * 1025),
    "name empty": BEGIN + entry(b""),
    "name dot": BEGIN + entry(b"."),
    "name dots": BEGIN + entry(b".."),
    "name slash": BEGIN + entry(b"a/b"),
    "name absolute": BEGIN + entry(b"/etc/passwd"),
    "name NUL": BEGIN + entry(b"a\0b"),
    "folder dots": BEGIN + message(Kind.ENTER, make_entry(b"..", FOLDER, 1)),
    "folder empty": BEGIN + message(Kind.ENTER, make_entry(b"", FOLDER, 1)),
    "folder of a file": BEGIN + message(Kind.ENTER, make_entry(b"a", FILE, 1)),
    "file of a folder": BEGIN + entry(told=FOLDER),
    "type 0": BEGIN + entry(told=make_stat(0o644)),
    "type of none": BEGIN + entry(told=make_stat(0o170000)),
    "contents named": BEGIN + message(Kind.ENTER, make_entry(b"a", FOLDER, 1, flags=1)),
    "contents below": BEGIN + ENTER + message(Kind.ENTER, make_entry(b"", FOLDER, 2, flags=1)),
    "contents of a file": BEGIN + entry(flags=1),
    "flags": BEGIN + entry(flags=8),
    "error of an entry": BEGIN + entry(error=-5),
    "error above 0": BEGIN + message(Kind.REFUSED, make_entry(b"a", FILE, 1, error=5)),
    "error of none": BEGIN + message(Kind.REFUSED, make_entry(b"a", FILE, 1)),
    "error too low": BEGIN + message(Kind.REFUSED, make_entry(b"a", FILE, 1, error=-4096)),
    "reason": BEGIN + message(Kind.REFUSED, make_entry(b"a", FILE, 1, error=-5, reason=7)),
    "number 0": BEGIN + entry(number=0),
    "number 2": BEGIN + entry(number=2),
    "number again": BEGIN + entry() + DONE + entry(),
    "nanoseconds": BEGIN + entry(told=make_stat(0o100644, modify_nanoseconds=1_000_000_000)),
    "size": BEGIN + entry(told=sized(1 << 63)),
    "leave the top": BEGIN + LEAVE,
    "leave with a body": BEGIN + ENTER + message(Kind.LEAVE, b"x"),
    "leave an entry": BEGIN + ENTER + entry(number=2) + LEAVE,
    "enter an entry": BEGIN + entry() + message(Kind.ENTER, make_entry(b"d", FOLDER, 2)),
    "two entries": BEGIN + entry() + entry(b"b", 2),
    "data of none": BEGIN + message(Kind.DATA, b"x"),
    "data of a folder": BEGIN + ENTER + message(Kind.DATA, b"x"),
    "data empty": BEGIN + entry(told=sized(1)) + message(Kind.DATA),
    "data too much": BEGIN + entry(told=sized(1)) + message(Kind.DATA, b"xy"),
    "data of a fifo": BEGIN + entry(told=sized(1, stat.S_IFIFO)) + message(Kind.DATA, b"x"),
    "data too little": BEGIN + entry(told=sized(2)) + message(Kind.DATA, b"x") + DONE,
    "data of a link": BEGIN
    + message(Kind.ENTRY, make_entry(b"a", sized(1, stat.S_IFLNK), 1) + b"t")
    + message(Kind.DATA, b"x"),
    "data of a plan": BEGIN + entry(told=sized(1), flags=2) + message(Kind.DATA, b"x"),
    "less than size": BEGIN + entry(told=sized(2)) + DONE,
    "less, attributes": BEGIN + entry(told=sized(2)) + message(Kind.DONE, pack("=iI", -5, 4)),
    "hole 0": BEGIN + entry(told=sized(1)) + message(Kind.HOLE, pack("=Q", 0)),
    "hole too long": BEGIN + entry(told=sized(1)) + message(Kind.HOLE, pack("=Q", 2)),
    "hole endless": BEGIN + entry(told=sized(1)) + message(Kind.HOLE, pack("=Q", (1 << 64) - 1)),
    "hole short": BEGIN + entry(told=sized(1)) + message(Kind.HOLE, b"1234"),
    "bad without error": BEGIN + entry(told=sized(1)) + message(Kind.BAD, pack("=QiI", 1, 0, 0)),
    "extent of nothing": BEGIN + entry(told=sized(1))
    + message(Kind.EXTENT, pack("=QQII", 0, 1, 0, 0)),
    "descriptor alone": BEGIN + message(Kind.DESCRIPTOR),
    "xattrs late": BEGIN + entry(told=sized(1)) + message(Kind.DATA, b"x") + message(Kind.XATTRS),
    "xattrs twice": BEGIN + entry() + message(Kind.XATTRS) + message(Kind.XATTRS),
    "xattrs of nothing": BEGIN + message(Kind.XATTRS),
    "xattr short": BEGIN + entry() + message(Kind.XATTRS, b"1234"),
    "xattr too long": BEGIN + entry() + message(Kind.XATTRS, pack("=II", 1, 9) + b"a" * 8),
    "xattr endless": BEGIN + entry() + message(Kind.XATTRS, pack("=II", 2, 0xFFFFFFFE) + b"a" * 8),
    "xattr nameless": BEGIN + entry() + message(Kind.XATTRS, pack("=II", 0, 8) + b"a" * 8),
    "xattr NUL": BEGIN + entry() + message(Kind.XATTRS, make_xattrs({b"user.a\0b": b""})),
    "xattr name": BEGIN + entry() + message(Kind.XATTRS, make_xattrs({b"a" * 256: b""})),
    "link NUL": BEGIN + message(Kind.ENTRY, make_entry(b"a", sized(1, stat.S_IFLNK), 1) + b"a\0"),
    "link long": BEGIN
    + message(Kind.ENTRY, make_entry(b"a", sized(1, stat.S_IFLNK), 1) + b"a" * 65537),
    "link nowhere": BEGIN + entry(told=sized(0, stat.S_IFLNK)) + DONE,
    "linked to itself": BEGIN + entry(flags=LINKED, first=1),
    "linked to later": BEGIN + entry(flags=LINKED, first=2),
    "linked to none": BEGIN + entry(flags=LINKED),
    "first of no link": BEGIN + entry() + DONE + entry(b"b", 2, first=1),
    "stream dots": BEGIN + entry() + message(Kind.STREAM, b".."),
    "stream empty": BEGIN + entry() + message(Kind.STREAM, b""),
    "stream slash": BEGIN + entry() + message(Kind.STREAM, b"a/b"),
    "stream of none": BEGIN + message(Kind.STREAM, b"a"),
    "done of none": BEGIN + DONE,
    "done twice": BEGIN + entry() + DONE + DONE,
    "done operation": BEGIN + entry() + message(Kind.DONE, pack("=iI", -5, 7)),
    "broken at the top": BEGIN + message(Kind.BROKEN, pack("=iI", -5, 3)),
    "broken without error": BEGIN + ENTER + message(Kind.BROKEN, pack("=iI", 0, 3)),
    "candidates none": BEGIN + message(Kind.CANDIDATES),
    "candidates where free": BEGIN + ENTER + message(Kind.CANDIDATES, make_entry(b"a", FILE)),
    "candidate numbered": BEGIN + message(Kind.CANDIDATES, make_entry(b"abcdefgh", FILE, 1)),
    "candidate short": BEGIN + message(Kind.CANDIDATES, make_entry(b"a", FILE)),
    "candidates many": BEGIN + message(Kind.CANDIDATES, make_entry(b"12345678", FILE) * 4097),
    "finish within": BEGIN + ENTER + finish(1),
    "finish in an entry": BEGIN + entry() + finish(1),
    "finish miscounted": BEGIN + entry() + DONE + finish(2),
    "more after finish": BEGIN + finish(0) + LEAVE,
    "deep": BEGIN
    + b"".join(message(Kind.ENTER, make_entry(b"d", FOLDER, number)) for number in range(1, 4099)),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_breaks_a_rule_ends_the_stream(built: None, name: str) -> None:
    with pytest.raises(ExplorerError, match=PROTOCOL) as error:
        read_bytes(HOSTILE[name])
    assert error.value.params["reason"]


def test_folders_have_streams_too(built: None) -> None:
    stream = message(Kind.STREAM, b"s") + message(Kind.DATA, b"x")
    rest = DONE + entry(number=2) + DONE + LEAVE + finish(2)
    for xattrs in (b"", message(Kind.XATTRS, make_xattrs({b"user.a": b"1"}))):
        told = read_bytes(BEGIN + ENTER + xattrs + stream + stream + rest)
        assert [event.name for event in told if event.kind == Kind.STREAM] == [b"s", b"s"]
    for wrong in (
        stream,
        ENTER + DONE,
        ENTER + stream + LEAVE,
        ENTER + stream + message(Kind.XATTRS),
        ENTER + entry(number=2) + DONE + stream,
        ENTER + LEAVE + stream,
        ENTER + message(Kind.DATA, b"x"),
    ):
        with pytest.raises(ExplorerError, match=PROTOCOL):
            read_bytes(BEGIN + wrong)


def test_only_leave_follows_an_unusable_folder(built: None) -> None:
    assert len(read_bytes(BEGIN + ENTER + LEAVE + finish(1), Mode.UNUSABLE)) == 4
    with pytest.raises(ExplorerError, match=PROTOCOL):
        read_bytes(BEGIN + ENTER + entry(number=2), Mode.UNUSABLE)


def test_who_does_not_take_answers_is_given_up(built: None) -> None:
    candidates = message(Kind.CANDIDATES, make_entry(b"12345678", FILE) * 4000)
    here, there = socket.socketpair()
    with here, there, Stream(here) as events:
        there.sendall(BEGIN)
        events.next()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)

        def ask() -> None:
            there.sendall(candidates)
            events.next()
            events.answer_wanted(b"\1" * 4000)

        def ask_often() -> None:
            for _ in range(1000):
                ask()

        with pytest.raises(ExplorerError, match=PROTOCOL):
            ask_often()


def test_changed_streams_are_read_or_refused(built: None) -> None:
    chance = random.Random("stream")
    whole = (
        BEGIN + ENTER + message(Kind.XATTRS, make_xattrs({b"user.a": b"1"}))
        + entry(b"one", 2, sized(30)) + message(Kind.XATTRS, make_xattrs({b"user.b": b"2"}))
        + message(Kind.DATA, b"0123456789") + message(Kind.HOLE, pack("=Q", 15))
        + message(Kind.BAD, pack("=QiI", 5, -5, 0)) + message(Kind.STREAM, b"s")
        + message(Kind.DATA, b"x") + DONE
        + message(Kind.ENTRY, make_entry(b"l", sized(1, stat.S_IFLNK), 3) + b"target") + DONE
        + entry(b"two", 4, sized(30), flags=LINKED, first=2) + DONE
        + message(Kind.REFUSED, make_entry(b"..", FILE, 5, error=-5, reason=1))
        + message(Kind.BROKEN, pack("=iI", -5, 3)) + LEAVE + finish(5)
    )  # fmt: skip
    assert read_bytes(whole)[-1].kind == Kind.FINISH
    outcomes = set()
    for _ in range(3000):
        try:
            read_bytes(mutate(whole, chance), chance.choice((Mode.FREE, Mode.ASK)))
        except ExplorerError as error:
            outcomes.add(error.code)
        except OSError:
            # An answer was due where the change left none to wait for.
            outcomes.add("os")
    assert {"copy.protocol", "copy.engine"} <= outcomes
