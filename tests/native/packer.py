# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams made by hand, as an engine would send them, or as no engine may."""

from __future__ import annotations

import array
import socket
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct, pack
from typing import TYPE_CHECKING

from explorer.native.stream import CONTENTS, LINKED, PLAN, STAT, Kind, Mode, Operation, Stat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

HEADER = Path(__file__).resolve().parents[2] / "liblkl" / "shared" / "copy_stream.h"
MAGIC, VERSION = 0x4B4C5343, 1
MODE, WANTED = 64, 65
HEAD = Struct("=II")
ENTRY = Struct("=QQIIiI")
MOST = 1 << 20


def make_stat(mode: int, size: int = 0, **more: int) -> Stat:
    """What a file system would tell of an entry; times are in the past and have nanoseconds."""
    told = {
        "mask": 0xFFF, "mode": mode, "uid": 1000, "gid": 1000, "links": 1, "size": size,
        "access_seconds": 1_500_000_000, "access_nanoseconds": 5,
        "modify_seconds": 1_400_000_000, "modify_nanoseconds": 123_456_789,
    }  # fmt: skip
    return Stat._make({**told, **more}.get(name, 0) for name in Stat._fields)


def make_xattrs(values: dict[bytes, bytes]) -> bytes:
    """Records as ``lkl_read_xattrs`` makes them."""
    made = b""
    for name, value in values.items():
        made += pack("=II", len(name), len(value)) + name + value
        made += bytes(-len(made) % 8)
    return made


def message(kind: int, body: bytes = b"") -> bytes:
    """A head and a body."""
    return HEAD.pack(kind, len(body)) + body


def make_entry(
    name: bytes,
    told: Stat,
    number: int = 0,
    *,
    first: int = 0,
    flags: int = 0,
    error: int = 0,
    reason: int = 0,
    length: int | None = None,
) -> bytes:
    """``struct copy_entry`` and its name."""
    size = len(name) if length is None else length
    return ENTRY.pack(number, first, size, flags, error, reason) + STAT.pack(*told) + name


@dataclass
class Node:
    """One entry of a tree to be sent."""

    name: bytes
    mode: int = stat.S_IFREG | 0o644
    content: list[bytes | tuple[str, int] | tuple[int, int, int]] = field(default_factory=list)
    """DATA; ``("hole", length)``, ``("bad", length)``; ``(descriptor, position, length)``."""
    below: list[Node] = field(default_factory=list)
    target: bytes = b""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    streams: dict[bytes, bytes] = field(default_factory=dict)
    more: dict[str, int] = field(default_factory=dict)
    """Fields of its stat."""
    result: tuple[int, int] = (0, 0)
    """Error and operation of DONE."""
    link: object = None
    """What all links of one file have in common."""

    def size(self) -> int:
        """The sum of its content."""
        return sum(len(one) if isinstance(one, bytes) else one[-1] for one in self.content)

    def stat(self) -> Stat:
        """What is told of it."""
        size = len(self.target) if self.target else self.size()
        return make_stat(self.mode, self.more.get("size", size), **{
            name: value for name, value in self.more.items() if name != "size"
        })  # fmt: skip


def folder(name: bytes, *below: Node, mode: int = 0o755, **more: int) -> Node:
    """A directory."""
    return Node(name, stat.S_IFDIR | mode, below=list(below), more=more)


def file(name: bytes, *content: bytes | tuple[str, int], mode: int = 0o644, **more: int) -> Node:
    """A regular file."""
    return Node(name, stat.S_IFREG | mode, content=[*content], more=more)


def link(name: bytes, target: bytes) -> Node:
    """A symbolic link."""
    return Node(name, stat.S_IFLNK | 0o777, target=target)


class Packer:
    """Sends trees by the rules, and waits for answers where the rules say so."""

    def __init__(self, to: socket.socket, *, plan: bool = False) -> None:
        """Begin; descriptors are sent by :meth:`descriptor`."""
        self.socket = to
        self.number = 0
        self.plan = PLAN if plan else 0
        self.modes: list[int] = [Mode.ASK]
        self.links: dict[object, int] = {}
        self.wanted: list[bytes] = []
        """Names that were."""
        self._waiting = bytearray()
        self.limit = 0
        """Where to hold on, by the number of an entry; 0: nowhere."""
        self.held, self.released = threading.Event(), threading.Event()

    def send(self, kind: int, body: bytes = b"") -> None:
        """Queue a message."""
        self._waiting += message(kind, body)
        if len(self._waiting) > 100_000:
            self.flush()

    def flush(self) -> None:
        """Send what is queued."""
        self.socket.sendall(self._waiting)
        self._waiting.clear()

    def begin(self) -> None:
        """Send BEGIN."""
        self.send(Kind.BEGIN, pack("=II", MAGIC, VERSION))

    def finish(self, error: int = 0) -> None:
        """Send FINISH."""
        self.send(Kind.FINISH, pack("=QiI", self.number, error, 0))
        self.flush()

    def descriptor(self, number: int) -> None:
        """Send one, which takes the next number."""
        self.flush()
        files = array.array("i", [number]).tobytes()
        self.socket.sendmsg(
            [message(Kind.DESCRIPTOR)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)]
        )

    def _count(self) -> int:
        self.number += 1
        if self.number == self.limit:
            self.flush()
            self.held.set()
            self.released.wait()
            raise ConnectionResetError
        return self.number

    def _answer(self, kind: int) -> bytes:
        self.flush()
        head = self._receive(HEAD.size)
        assert HEAD.unpack(head)[0] == kind
        return self._receive(HEAD.unpack(head)[1])

    def _receive(self, length: int) -> bytes:
        got = b""
        while len(got) < length:
            part = self.socket.recv(length - len(got))
            if not part:
                raise ConnectionResetError
            got += part
        return got

    def tree(self, nodes: list[Node], *, contents: bool = False) -> None:
        """Send things that were asked for, or what stands in the one directory given."""
        for node in nodes:
            if contents:
                self._folder(node, CONTENTS)
            else:
                self._below([node])

    def _below(self, nodes: list[Node]) -> None:
        for start in range(0, len(nodes), 1000):
            chosen = nodes[start : start + 1000]
            if self.modes[-1] == Mode.ASK:
                chosen = self._choose(chosen)
            for node in chosen:
                if stat.S_ISDIR(node.mode):
                    self._folder(node)
                else:
                    self._entry(node)

    def _choose(self, nodes: list[Node]) -> list[Node]:
        body = b""
        for node in nodes:
            body += make_entry(node.name, node.stat(), flags=self.plan)
            body += bytes(-len(body) % 8)
        self.send(Kind.CANDIDATES, body)
        wanted = self._answer(WANTED)
        assert len(wanted) == len(nodes)
        chosen = [node for node, one in zip(nodes, wanted, strict=True) if one]
        self.wanted += [node.name for node in chosen]
        return chosen

    def _folder(self, node: Node, flags: int = 0) -> None:
        name = b"" if flags & CONTENTS else node.name
        told = make_entry(name, node.stat(), self._count(), flags=flags | self.plan)
        self.send(Kind.ENTER, told)
        if self.modes[-1] == Mode.ASK:
            self.modes.append(int.from_bytes(self._answer(MODE), "little"))
        else:
            self.modes.append(Mode.FREE)
        if self.modes[-1] != Mode.UNUSABLE:
            if node.xattrs:
                self.send(Kind.XATTRS, make_xattrs(node.xattrs))
            if node.streams:
                self._streams(node)
                self.send(Kind.DONE, pack("=iI", 0, 0))
            self._below(node.below)
            if node.result[0]:
                self.send(Kind.BROKEN, pack("=iI", *node.result))
        self.modes.pop()
        self.send(Kind.LEAVE)

    def _entry(self, node: Node) -> None:
        if node.result[1] == Operation.STAT:
            error, reason = node.result
            self.send(
                Kind.REFUSED,
                make_entry(node.name, node.stat(), self._count(), error=error, reason=reason),
            )
            return
        first = self.links.get(node.link, 0) if node.link is not None else 0
        number = self._count()
        flags = self.plan | (LINKED if first else 0)
        told = make_entry(node.name, node.stat(), number, first=first, flags=flags)
        self.send(Kind.ENTRY, told + node.target)
        if node.link is not None:
            self.links.setdefault(node.link, number)
        if not flags:
            self._content(node)
        self.send(Kind.DONE, pack("=iI", *node.result))

    def _content(self, node: Node) -> None:
        if node.xattrs:
            self.send(Kind.XATTRS, make_xattrs(node.xattrs))
        for one in node.content:
            if isinstance(one, bytes):
                for start in range(0, len(one), MOST):
                    self.send(Kind.DATA, one[start : start + MOST])
            elif one[0] == "hole":
                self.send(Kind.HOLE, pack("=Q", one[1]))
            elif one[0] == "bad":
                self.send(Kind.BAD, pack("=QiI", one[1], -5, 0))
            else:
                descriptor, position, length = one  # type: ignore[misc]  # it has three
                self.send(Kind.EXTENT, pack("=QQII", position, length, descriptor, 0))
        self._streams(node)

    def _streams(self, node: Node) -> None:
        for name, content in node.streams.items():
            self.send(Kind.STREAM, name)
            self.send(Kind.DATA, content)


class Engine:
    """A thread that sends trees; ``source`` is the writer's end of the stream."""

    def __init__(
        self,
        nodes: list[Node],
        *,
        contents: bool = False,
        plan: bool = False,
        files: list[int] | None = None,
        finish: bool = True,
        limit: int = 0,
    ) -> None:
        """Begin to send; the descriptors in ``files`` go first."""
        self.source, self._to = socket.socketpair()
        self.packer = Packer(self._to, plan=plan)
        self.packer.limit = limit
        self._what = (nodes, contents, files or [], finish)
        self._thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None

    def _run(self) -> None:
        nodes, contents, files, finish = self._what
        try:
            self.packer.begin()
            for number in files:
                self.packer.descriptor(number)
            self.packer.tree(nodes, contents=contents)
            if finish:
                self.packer.finish()
            self.packer.flush()
        except OSError:
            # The writer stopped, as it may.
            pass
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            self.error = error
        finally:
            with suppress(OSError):
                self._to.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        self.packer.released.set()
        self._thread.join()
        self._to.close()
        if self.error is not None:
            raise self.error


def walk(nodes: list[Node]) -> Iterator[Node]:
    """All nodes, each before what stands below it."""
    for node in nodes:
        yield node
        yield from walk(node.below)
