# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""One opening of one image: what a person would do with it, in an engine of its own."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import signal
import subprocess
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from unicodedata import category

from explorer.core.entries import Entry, FileType
from explorer.core.errors import ExplorerError, RecordError
from explorer.core.exits import EXIT_HANGS, EXIT_KERNEL_ENDED, EXIT_MEMORY
from explorer.core.messages import TEXTS, describe
from explorer.core.names import show_name
from explorer.engine import watch
from explorer.wire.messages import (
    Cancel,
    Counters,
    Entries,
    EntryRead,
    Failed,
    FindSubvolumes,
    LinksRead,
    ListDirectory,
    Listed,
    Message,
    OpenSource,
    OpenVolume,
    RangeRead,
    ReadCounters,
    ReadEntry,
    ReadLinks,
    ReadRange,
    ReadXattrs,
    SourceOpened,
    VolumeOpened,
    VolumesFound,
    XattrsRead,
)
from tests.engine.process import EngineProcess
from tests.gate.outcomes import End, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.core.views import View
    from explorer.core.volume import Volume

FOLDERS = 60
"""Folders that are listed, of each volume; damaged ones may lead in circles."""
ENTRIES = 4000
"""Entries of each volume that are looked at."""
SINGLE = 60
"""Entries of each folder that are asked for one by one."""
FILES = 120
"""Files of each volume that are read from."""
PIECE = 64 << 10
"""Bytes that are read at both ends of a file."""
VOLUMES = 12
"""Volumes that are opened."""
VISIT_SECONDS = 40.0
"""After so long nothing more is asked."""
HANG_SECONDS = 60.0 + watch.PATIENCE * max(
    watch.OPEN_SECONDS, watch.MOUNT_SECONDS, watch.LIST_SECONDS, watch.READ_SECONDS
)
"""Longer than the engine's own watchdog lets a request take without a step."""

_ORDERLY = {
    EXIT_KERNEL_ENDED: "kernel ended",
    EXIT_MEMORY: "memory",
    EXIT_HANGS: "watchdog",
}
"""Exit codes by which an engine says why another has to be started."""
_CAUSES = (
    r"kernel BUG at \S+!",
    r"Kernel panic - not syncing: ([^\n]+)",
    r"hangs: ([^\n:]+)",
    r"kernel\.ended\(.*?reason='(\w+)'",
)
_CODES = {*TEXTS, "kernel.call"}
_CLOCK = os.sysconf("SC_CLK_TCK")
Reply = TypeVar("Reply", bound=Message)


class _Over(Exception):
    """Enough has been seen."""


class Fingerprint:
    """All of a file that must not change: its bytes, its size, and the times that tell of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether it is not what it was."""
        return self._look() != self._seen

    def _look(self) -> tuple[int, int, int, str]:
        digest = hashlib.blake2b()
        with self._path.open("rb") as file:
            now = os.fstat(file.fileno())
            offset = 0
            # What is in no such range is zeros.
            while offset < now.st_size:
                try:
                    offset = os.lseek(file.fileno(), offset, os.SEEK_DATA)
                except OSError:
                    break
                end = os.lseek(file.fileno(), offset, os.SEEK_HOLE)
                digest.update(b"%d-%d " % (offset, end))
                while offset < end:
                    piece = os.pread(file.fileno(), min(1 << 20, end - offset), offset)
                    digest.update(piece)
                    offset += len(piece)
        return now.st_size, now.st_mtime_ns, now.st_ctime_ns, digest.hexdigest()


def visit(path: Path, view: View, outcome: Outcome) -> None:
    """Open an image in an engine, see what is in it, and note how that ended."""
    before = Fingerprint(path)
    start = time.monotonic()
    visitor = Visitor(outcome)
    try:
        visitor.run(path, view)
    finally:
        outcome.seconds = time.monotonic() - start
        outcome.changed = before.changed()


class Visitor:
    """Asks one engine after everything, and keeps what went wrong."""

    def __init__(self, outcome: Outcome, hang_seconds: float = HANG_SECONDS) -> None:
        self._outcome = outcome
        self.engine = EngineProcess(hang_seconds)
        self._doing = "open"
        self._started: dict[int, int] = {}
        """Processes that the engine's own has started, and a descriptor of each."""
        self._until = time.monotonic() + VISIT_SECONDS

    def run(self, path: Path, view: View) -> None:
        """All of it, to the end of the engine."""
        process = self.engine.process
        try:
            try:
                self._visit(path, view)
            except _Over:
                self._outcome.cut = True
            self._doing = "close"
            self._measure()
            self._note_end(self.engine.close())
        except EOFError:
            self._note_end(process.returncode)
        except TimeoutError as error:
            self._end(End.HANG, self._doing, str(error))
        except RecordError as error:
            # What came was no answer.
            self._end(End.WRONG, f"{self._doing}: {error.code}", str(error))
        except subprocess.TimeoutExpired:
            self._end(End.HANG, self._doing, self.engine.story())
        finally:
            if process.poll() is None:
                self._measure()
                process.kill()
            # What it had started must not outlive it.
            for descriptor in self._started.values():
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                os.close(descriptor)
            # What could not be sent any more.
            with suppress(BrokenPipeError):
                self.engine.close()
            self.engine.close()

    # ---- What is asked

    def _visit(self, path: Path, view: View) -> None:
        opened = self._ask(OpenSource((bytes(path),), view=view.value), SourceOpened)
        if opened is None:
            return
        ahead = deque(opened.volumes)
        seen = {volume.number for volume in ahead}
        mounted = 0
        while ahead and mounted < VOLUMES:
            volume = ahead.popleft()
            if not volume.mountable:
                continue
            mounted += 1
            self._doing = "mount"
            if self._ask(OpenVolume(volume.number), VolumeOpened) is None:
                continue
            self._walk(volume)
            if volume.content == "btrfs":
                self._doing = "subvolumes"
                found = self._ask(FindSubvolumes(volume.number), VolumesFound)
                more = found.volumes if found is not None else ()
                ahead.extend(volume for volume in more if volume.number not in seen)
                seen.update(volume.number for volume in more)
        self._doing = "count"
        counted = self._ask(ReadCounters(), Counters)
        if counted is not None and counted.written_bytes:
            self._end(End.WRONG, "count: bytes were written", str(counted))

    def _walk(self, volume: Volume) -> None:
        """Everything in a volume, folder by folder, so far as it goes."""
        ahead = deque([b"/"])
        entries = files = 0
        for _ in range(FOLDERS):
            if not ahead or entries >= ENTRIES:
                break
            folder = ahead.popleft()
            found = self._list(volume.number, folder)
            entries += len(found)
            for entry in found:
                if entry.error:
                    self._note(f"list: entry {_errno(entry.error)}", show_name(entry.name))
            # Where it is damaged, there is an entry without a name; none can be asked for.
            listed = [entry for entry in found if entry.name]
            paths = [folder.rstrip(b"/") + b"/" + entry.name for entry in listed]
            ahead.extend(
                path for path, entry in zip(paths, listed, strict=True) if entry.is_directory
            )
            links = [entry.name for entry in listed if entry.type == FileType.LINK][:SINGLE]
            if links:
                self._doing = "links"
                self._ask(ReadLinks(volume.number, folder, tuple(links)), LinksRead)
            for path, entry in list(zip(paths, listed, strict=True))[:SINGLE]:
                self._doing = "stat"
                self._ask(ReadEntry(volume.number, path), EntryRead)
                self._doing = "xattrs"
                self._ask(ReadXattrs(volume.number, path), XattrsRead)
                if entry.is_file and files < FILES:
                    files += 1
                    self._read(volume.number, path, entry.size)
        self._outcome.entries += entries

    def _list(self, volume: int, folder: bytes) -> list[Entry]:
        self._doing = "list"
        found: list[Entry] = []
        try:
            (request,) = self._send(ListDirectory(volume, folder))
            while not isinstance(message := self.engine.receive(request), Listed):
                if isinstance(message, Failed):
                    raise message.error
                assert isinstance(message, Entries)
                found += message.entries
                if len(found) > ENTRIES:
                    self.engine.send(Cancel(request))
        except RecordError:
            raise
        except ExplorerError as error:
            if error.code != "request.cancelled":
                self._note_error(error)
        return found[:ENTRIES]

    def _read(self, volume: int, path: bytes, size: int) -> None:
        """Both ends of a file, and a little beyond."""
        self._doing = "read"
        places = {0, max(0, size - PIECE // 2)}
        for place in sorted(places):
            if place < 1 << 63:
                self._ask(ReadRange(volume, path, place, PIECE), RangeRead)

    def _send(self, message: Message) -> list[int]:
        if time.monotonic() > self._until:
            raise _Over
        self._outcome.requests += 1
        self._measure()
        try:
            return self.engine.send(message)
        except BrokenPipeError:
            # It has just ended; what it said is still to be read.
            self.engine.process.wait(HANG_SECONDS)
            raise EOFError from None

    def _ask(self, message: Message, end: type[Reply]) -> Reply | None:
        """The answer; None where it is an error, which is noted."""
        try:
            (request,) = self._send(message)
            return self.engine.collect(request, end)[1]
        except RecordError:
            raise
        except ExplorerError as error:
            self._note_error(error)
        return None

    # ---- What came of it

    def _note_error(self, error: ExplorerError) -> None:
        detail = f" {error.params['name']}" if error.code == "kernel.call" else ""
        why = f"{self._doing}: {error.code}{detail}"
        said = describe(error)
        self._note(why, said)
        if error.code in ("engine.internal", "engine.lost") or error.code not in _CODES:
            self._end(End.WRONG, why, said)
        elif not all(one.isprintable() or one == "\n" or category(one) == "Zs" for one in said):
            self._end(End.WRONG, f"{why}: not printable", ascii(said))

    def _note(self, why: str, said: str) -> None:
        """Something was refused."""
        self._outcome.errors[why] += 1
        self._end(End.ERROR, why, said)

    def _note_end(self, code: int) -> None:
        """The engine ended by itself."""
        said = self.engine.story()
        if code in _ORDERLY:
            why = f"{self._doing}: {_ORDERLY[code]}{_cause(said)}"
            self._end(End.RESTARTED, why, _last_line(said))
        elif code < 0:
            self._end(End.WRONG, f"{self._doing}: signal {-code}", said)
        elif code or self._doing != "close":
            self._end(End.WRONG, f"{self._doing}: exit {code}", said)

    def _end(self, end: End, why: str, said: str) -> None:
        """Keeps the worst end, and of several the first."""
        order = list(End)
        if order.index(end) > order.index(self._outcome.end):
            self._outcome.end, self._outcome.why, self._outcome.said = end, why, said

    def _measure(self) -> None:
        """What the engine's processes had of memory at most, and how long they worked."""
        memory = ticks = 0
        engine = self.engine.process.pid
        for process in descendants(engine):
            # One may end meanwhile.
            with suppress(OSError, IndexError, ValueError):
                if process != engine and process not in self._started:
                    self._started[process] = os.pidfd_open(process)
                status = Path(f"/proc/{process}/status").read_text()
                found = re.search(r"VmHWM:\s+(\d+) kB", status)
                memory += int(found[1]) << 10 if found else 0
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                # proc_pid_stat(5): utime, stime, and those of children that were waited for.
                ticks += sum(int(field) for field in fields[11:15])
        self._outcome.memory = max(self._outcome.memory, memory)
        self._outcome.cpu = max(self._outcome.cpu, ticks / _CLOCK)


def descendants(process: int) -> Iterator[int]:
    """A process, and all that it started."""
    yield process
    with suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield from descendants(int(child))


def _errno(error: int) -> str:
    return errno.errorcode.get(-error, str(-error))


def _last_line(story: str) -> str:
    """What the engine said last: the kernel's last line, where that had ended."""
    said = story.partition("\nengine:\n")[2].partition("\nkernel:\n")[0].split("\n")
    return next((line for line in reversed(said) if line.strip()), "")


def _cause(story: str) -> str:
    """What ended a kernel, in the kernel's own words."""
    for pattern in _CAUSES:
        found = re.search(pattern, story)
        if found:
            return f": {found[1] if found.lastindex else found[0]}"
    return ""
