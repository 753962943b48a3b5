# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies that are disturbed: by the end of a process, a source that fails, a host without room.

Whatever happens, nothing is lost silently: what stands at the destination is whole, what does not
is told of, and going on with the copy ends in the tree that an undisturbed copy gives.
``LKL_EXPLORER_FAULT_ROUNDS`` asks for more rounds of what is random.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from explorer.api import copying
from explorer.api.connection import Connection
from explorer.api.source import Source
from explorer.core.entries import FileType
from explorer.core.errors import ExplorerError
from explorer.core.messages import describe
from explorer.wire.messages import ListDirectory
from explorer.wire.writing import Continue, Pause, Write
from tests.api.hasty import READ_SECONDS
from tests.makers import write_tree
from tests.trees import (
    assert_same,
    find_tool,
    host_facts,
    make_empty,
    make_tree,
    noise,
    run_tool,
    sha256,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from explorer.api.connection import Pending
    from explorer.api.copying import Copied, Failure
    from explorer.wire.messages import Request
    from explorer.wire.writing import Conflict
    from tests.trees import Facts

    Disturb = Callable[[Source], object]

pytestmark = pytest.mark.usefixtures("built")

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = int(os.environ.get("LKL_EXPLORER_FAULT_ROUNDS", "2"))
MIB = 1 << 20
HANG_SECONDS = 60.0
"""No copy here takes a tenth of it undisturbed."""
SEED = 20_240


# ---- What is copied ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Original:
    """An image, and the tree that was written into it."""

    image: Path
    facts: Mapping[bytes, Facts]
    """Without the root itself."""
    seen: int
    """Entries by an undisturbed copy's accounts."""
    seconds: float
    """How long an undisturbed copy takes."""


def fill(top: Path) -> None:
    """All kinds of entries, many small files and a few large ones."""
    make_tree(top)
    chance = random.Random(SEED)
    for number in range(20):
        folder = top / f"many{number}"
        folder.mkdir()
        for name in range(40):
            content = chance.randbytes(chance.choice((0, 1, 700, 5000, 70_000)))
            (folder / f"file{name}").write_bytes(content)
        os.link(folder / "file3", top / f"link{number}")
        os.setxattr(folder / "file4", b"user.number", b"%d" % number)
        (folder / "file5").chmod(0o400)
        if number % 4 == 0:
            (folder / "file6").write_bytes(large_content(number))
        os.utime(folder, ns=(10**18 + number, 10**18 + number))
    os.utime(top, ns=(10**18, 10**18))


@pytest.fixture(scope="module")
def original(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Original]:
    """Must be as it was when all is over."""
    folder = tmp_path_factory.mktemp("original")
    top = folder / "top"
    top.mkdir()
    fill(top)
    image = make_empty(folder / "image", 96 * MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", image)
    write_tree("ext4", top, image)
    run_tool("e2fsck", "-f", "-n", image)
    before = sha256(image)
    to = folder / "undisturbed"
    to.mkdir()
    job = Job(image, to, folder / "journal")
    begun = time.monotonic()
    job.go_on()
    seconds = time.monotonic() - begun
    assert job.copied is not None
    assert job.copied.whole
    seen = job.copied.written.seen
    facts = without(host_facts(top), b"")
    # And the root, and the folder for what is found by repairs, which its maker put there.
    assert seen == len(facts) + 2
    assert_same(without(host_facts(to), b"", b"lost+found"), facts)
    shutil.rmtree(to)
    yield Original(image, facts, seen, seconds)
    assert sha256(image) == before


# ---- The copy ----------------------------------------------------------------------------------


@dataclass
class Job:
    """One copy, gone on with until it is done; each step's promises are checked."""

    image: Path | str
    to: Path
    journal: Path
    choices: dict[str, Any] = field(default_factory=dict)
    copied: Copied | None = None
    """What came of the last step, if its writer could tell."""
    lost: ExplorerError | None = None
    """What ended the last step early."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.copied is not None and self.lost is None

    @property
    def failures(self) -> dict[bytes, Failure]:
        """Of the last step, by path."""
        assert self.copied is not None
        return {failure.path: failure for failure in self.copied.failures}

    def go_on(
        self,
        disturb: Disturb | None = None,
        *,
        after: float | None = None,
        amid: int | None = None,
        **more: Any,  # noqa: ANN401  # those of a copy
    ) -> None:
        """Begin it, or go on with it, with a process of each kind of its own.

        ``disturb`` is called when the volume is mounted, or by a thread: ``after`` as many seconds
        of the copy, if it takes so long, or ``amid`` it, while its writer, stopped, has made at
        least as many entries of the destination.
        """
        self.copied = self.lost = None
        over = threading.Event()
        helper: threading.Thread | None = None
        try:
            with Source(self.image) as source:
                volume = source.volume()
                volume.mount()

                def wait(disturb: Disturb) -> None:
                    if amid is not None:
                        self._stop_amid(amid, lambda: disturb(source))
                    elif not over.wait(after):
                        disturb(source)

                if disturb is not None and after is None and amid is None:
                    disturb(source)
                elif disturb is not None:
                    helper = threading.Thread(target=wait, args=(disturb,))
                    helper.start()
                try:
                    self.copied = volume.copy(
                        ["/"],
                        self.to,
                        journal=os.fsencode(self.journal),
                        resume=self.journal.exists(),
                        special=True,
                        **{**self.choices, **more},
                    )
                finally:
                    # Before any process is waited for, so that no other has its number.
                    over.set()
                    if helper is not None:
                        helper.join(HANG_SECONDS)
                        assert not helper.is_alive()
            self.lost = self.copied.lost
        except ExplorerError as error:
            self.lost = error
        if self.copied is not None:
            self._check_accounts(self.copied)
            # Nothing can be removed from what is read-only.
            frozen = self.lost is not None and "Read-only" in describe(self.lost)
            assert frozen or not parts_below(self.to)

    def _stop_amid(self, entries: int, disturb: Callable[[], object]) -> None:
        until = time.monotonic() + HANG_SECONDS
        while len(os.listdir(self.to)) < entries:
            assert time.monotonic() < until, "it does not begin"
            time.sleep(0.001)
        writer = writer_of(os.getpid())
        assert writer is not None, "it was over before"
        os.kill(writer, signal.SIGSTOP)
        try:
            disturb()
        finally:
            kill(writer, signal.SIGCONT)

    def _check_accounts(self, copied: Copied) -> None:
        written = copied.written
        told = written.copied + written.damaged + sum(written.skipped)
        assert told + written.failed + written.done_before == written.seen
        assert written.failed == sum(not failure.damaged for failure in copied.failures)
        assert written.complete == (self.lost is None)
        assert copied.whole == (written.complete and not copied.failures)
        # All is gone on with, and nothing that is done.
        assert self.journal.exists() == (not written.complete)


def parts_below(folder: Path) -> list[Path]:
    """What was begun."""
    return list(folder.rglob("*.part"))


def check_nothing_torn(to: Path, wanted: Mapping[bytes, Facts]) -> None:
    """All files that have a name of the source are whole."""
    for path, found in host_facts(to).items():
        if found.type == FileType.FILE and not path.endswith((b".part", b".journal")):
            one = wanted[path]
            assert (found.size, found.content) == (one.size, one.content), path


def check_same(job: Job, original: Original) -> None:
    """It is done, and is what an undisturbed copy is."""
    assert job.lost is None, describe(job.lost)
    assert job.copied is not None
    assert job.copied.failures == []
    assert job.copied.whole
    assert job.copied.written.seen == original.seen
    assert_same(without(host_facts(job.to), b"", b"lost+found"), original.facts)
    assert not parts_below(job.to)
    assert not job.journal.exists()


@pytest.fixture
def job(original: Original, tmp_path: Path) -> Job:
    to = tmp_path / "to"
    to.mkdir()
    return Job(original.image, to, tmp_path / "journal")


# ---- Processes ---------------------------------------------------------------------------------


def children(process: int) -> list[int]:
    """Of all its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def kill(process: int, number: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def confined(source: Source) -> int:
    """The process that reads the image."""
    (child,) = children(source.engine.process_id)
    return child


def writer_of(process: int) -> int | None:
    """The writer that a process has started."""
    for child in children(process):
        with suppress(OSError):
            if b"explorer.writer" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return None


def end_engine(source: Source) -> None:
    kill(confined(source))


def end_keeper(source: Source) -> None:
    kill(source.engine.process_id)


def end_writer(_source: Source) -> None:
    writer = writer_of(os.getpid())
    if writer is not None:
        kill(writer)


VICTIMS = {"engine": end_engine, "keeper": end_keeper, "writer": end_writer}


# ---- What is killed ----------------------------------------------------------------------------


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_killed_process_costs_no_entry(
    victim: str, seed: int, job: Job, original: Original
) -> None:
    chance = random.Random(f"{victim} {seed}")
    job.go_on(VICTIMS[victim], amid=chance.randrange(1, 30))
    assert not job.done
    for _ in range(8):
        assert job.lost is not None
        assert job.lost.code == ("export.writer-lost" if victim == "writer" else "engine.killed")
        check_nothing_torn(job.to, original.facts)
        job.go_on(VICTIMS[victim], after=chance.random() * 2 * original.seconds)
        if job.done:
            break
    if not job.done:
        job.go_on()
    check_same(job, original)


def wait_for_end(processes: list[int]) -> None:
    """Of those of which nobody is left who would take their exit codes."""
    until = time.monotonic() + HANG_SECONDS
    while any(is_alive(process) for process in processes):
        assert time.monotonic() < until, "it outlives the one who started it"
        time.sleep(0.01)


def is_alive(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    # One that has ended, and waits for somebody to notice.
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def program(*arguments: str | Path, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """The command line's program, begun."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "explorer", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def end_of(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Its exit code, and what it said on standard error."""
    _, errors = process.communicate(timeout=HANG_SECONDS)
    text = errors.decode(errors="backslashreplace")
    assert "Traceback" not in text, text
    return process.returncode, text


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_killed_program_leaves_nobody_behind(seed: int, original: Original, job: Job) -> None:
    chance = random.Random(seed)
    copy = ("cp", "-r", "--special", original.image, "/.", job.to)
    for _ in range(3):
        going_on = ("--resume",) if list(job.to.glob("*.journal")) else ()
        front = program(*copy, *going_on)
        while not list(job.to.glob(".*.journal")) and front.poll() is None:
            time.sleep(0.005)
        # Not longer, or it would be done.
        with suppress(subprocess.TimeoutExpired):
            front.wait(chance.random() * original.seconds / 2)
        started = [*children(front.pid), *(one for c in children(front.pid) for one in children(c))]
        front.kill()
        front.communicate(timeout=HANG_SECONDS)
        wait_for_end(started)
        check_nothing_torn(job.to, original.facts)
    if list(job.to.glob(".*.journal")):
        assert end_of(program(*copy, "--resume")) == (0, "")
    assert_same(without(host_facts(job.to), b"", b"lost+found"), original.facts)
    assert not parts_below(job.to)


# ---- A source that changes under the copy ------------------------------------------------------


@pytest.fixture
def own(original: Original, job: Job, tmp_path: Path) -> Job:
    """A copy of an image of its own."""
    job.image = tmp_path / "image"
    shutil.copyfile(original.image, job.image)
    return job


def check_told(job: Job, original: Original) -> None:
    """What is not whole is in the failures, by itself or with a folder that it is in."""
    copied = host_facts(job.to)
    failures = job.failures
    for path, wanted in original.facts.items():
        found = copied.get(path)
        if found is not None and found == wanted:
            continue
        above = path.split(b"/")
        names = [b"/" + b"/".join(above[:depth]) for depth in range(1, len(above) + 1)]
        assert any(name in failures for name in [b"/", *names]), path
    for failure in failures.values():
        there = os.path.lexists(os.fsencode(job.to) + failure.path)
        assert there == failure.damaged, failure
    check_nothing_torn(job.to, original.facts)


def check_completed(job: Job, original: Original) -> None:
    """What a copy had left out is there after another, of which existing folders keep the time."""

    def timeless(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
        return {
            path: replace(one, modify_ns=0) if one.type == FileType.DIRECTORY else one
            for path, one in facts.items()
            if path not in (b"", b"lost+found")
        }

    assert job.lost is None
    assert job.failures == {}
    assert_same(timeless(host_facts(job.to)), timeless(original.facts))


def middle_of_data(image: Path) -> int:
    """A place in an image with half of its data behind it, in the midst of a large file."""
    content = image.read_bytes()
    large = sorted(content.index(large_content(number)[:4096]) for number in range(0, 20, 4))
    return large[2] + MIB


def large_content(number: int) -> bytes:
    return noise(4 * MIB, number)


@pytest.mark.parametrize("after", [None, 0.1, 0.4], ids=["before", "early", "late"])
def test_a_source_that_becomes_shorter(after: float | None, own: Job, original: Original) -> None:
    assert isinstance(own.image, Path)
    image = own.image
    end = middle_of_data(image)

    def cut(_source: Source) -> None:
        os.truncate(image, end)

    own.go_on(cut, after=None if after is None else after * original.seconds)
    assert own.lost is None
    check_told(own, original)
    assert own.failures or after is not None
    for failure in own.failures.values():
        # Its journal is beyond the end, too, but that is not read.
        assert failure.error.code == "kernel.call"
        assert "image cannot be read" in describe(failure.error)
    # And once it is as it was, all that is missing is copied.
    shutil.copyfile(original.image, image)
    own.go_on()
    check_completed(own, original)


@pytest.mark.parametrize("after", [0.0, 0.3])
def test_a_source_that_is_replaced_or_deleted(after: float, own: Job, original: Original) -> None:
    assert isinstance(own.image, Path)
    image = own.image

    def put_another(_source: Source) -> None:
        other = image.with_name("other")
        other.write_bytes(bytes(MIB))
        other.replace(image)
        image.unlink()

    own.go_on(put_another, after=after * original.seconds)
    check_same(own, original)


# ---- A source that cannot be read in places ----------------------------------------------------


@dataclass(frozen=True)
class Damaged:
    """An image with damaged chunks, and what is in them."""

    image: Path
    facts: Mapping[bytes, Facts]
    files: frozenset[bytes]
    """Those with a block in them."""
    top: Path


DAMAGED = (2, 3, 17, 29)
CHUNK = 32 << 10


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    folder = tmp_path_factory.mktemp("damaged")
    top = folder / "top"
    (top / "folder").mkdir(parents=True)
    for number in range(40):
        (top / "folder" / f"file{number}").write_bytes(noise(150_000, number))
    raw = make_empty(folder / "raw", 24 * MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-d", top, raw)
    content = raw.read_bytes()
    chunks = {
        content.index((top / "folder" / f"file{number}").read_bytes()[:4096]) // CHUNK
        for number in DAMAGED
    }
    image = folder / "damaged.E01"
    run_tool("ewfacquire", "-u", "-q", "-c", "none", "-t", folder / "damaged", raw)
    stored = bytearray(image.read_bytes())
    for chunk in chunks:
        begin = content[chunk * CHUNK : (chunk + 1) * CHUNK]
        stored[stored.index(begin) + CHUNK // 2] ^= 0x40
    image.write_bytes(stored)
    hit = set()
    for number in range(40):
        blocks = run_tool("debugfs", "-R", f"blocks /folder/file{number}", raw)
        places = {int(one) * 4096 // CHUNK for one in blocks.splitlines()[-1].split()}
        if places & chunks:
            hit.add(b"folder/file%d" % number)
    assert len(DAMAGED) <= len(hit) < 12
    return Damaged(image, host_facts(top), frozenset(hit), top)


def test_damaged_chunks_cost_the_files_in_them(damaged: Damaged, job: Job) -> None:
    job.image = damaged.image
    before = sha256(damaged.image)
    job.go_on()
    assert {path[1:] for path in job.failures} == damaged.files
    assert not any(failure.damaged for failure in job.failures.values())
    copied = host_facts(job.to)
    for path, wanted in damaged.facts.items():
        if path in damaged.files:
            assert path not in copied
        elif wanted.type == FileType.FILE:
            assert copied[path].content == wanted.content
    assert sha256(damaged.image) == before


def test_or_leave_holes_of_their_size(damaged: Damaged, job: Job) -> None:
    job.image = damaged.image
    job.go_on(holes=True)
    assert {path[1:] for path in job.failures} == damaged.files
    assert all(failure.damaged for failure in job.failures.values())
    for path in damaged.facts:
        if not path.startswith(b"folder/"):
            continue
        name = os.fsdecode(path)
        ours, wanted = (job.to / name).read_bytes(), (damaged.top / name).read_bytes()
        assert len(ours) == len(wanted)
        lost = [at for at in range(0, len(wanted), 4096) if ours[at:][:4096] != wanted[at:][:4096]]
        assert bool(lost) == (path in damaged.files)
        assert all(not any(ours[at : at + 4096]) for at in lost)
        # Two chunks may touch one file, and none costs more than it holds.
        assert len(lost) * 4096 <= 5 * CHUNK
    assert job.copied is not None
    assert job.copied.written.damaged == len(damaged.files)


# ---- A source that is slow, or gives less than it should ----------------------------------------


class SlowSite:
    """A server of one file, on the loopback."""

    def __init__(self, path: Path) -> None:
        self.seconds = 0.0
        """Before each answer."""
        self.broken = range(0)
        """Bytes of which answers stop short."""
        self.stalled = threading.Event()
        """Set while nothing is answered at all."""
        self.released = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_arguments: object) -> None:
                """Says nothing."""

            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def _answer(self, *, with_body: bool) -> None:
                size = path.stat().st_size
                wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
                first, last = (int(wanted[1]), int(wanted[2])) if wanted else (0, size - 1)
                last = min(last, size - 1)
                site.released.wait(HANG_SECONDS if site.stalled.is_set() else site.seconds)
                self.send_response(206 if wanted else 200)
                if wanted:
                    self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
                self.send_header("ETag", '"one"')
                self.send_header("Content-Length", str(last + 1 - first))
                self.end_headers()
                if not with_body:
                    return
                with path.open("rb") as file:
                    file.seek(first)
                    content = file.read(last + 1 - first)
                if max(first, site.broken.start) < min(last + 1, site.broken.stop):
                    content = content[: max(0, site.broken.start - first)]
                    self.close_connection = True
                with suppress(OSError):
                    self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/{path.name}"

    def close(self) -> None:
        """End it."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def site(original: Original, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SlowSite]:
    # What one test was given must not be kept for the next.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    site = SlowSite(original.image)
    yield site
    site.close()


def test_a_server_that_stops_short(site: SlowSite, job: Job, original: Original) -> None:
    job.image = site.url
    begin = middle_of_data(original.image) - MIB // 2

    def spoil(_source: Source) -> None:
        site.broken = range(begin, begin + 64 * 1024)

    job.go_on(spoil)
    assert job.lost is None
    assert job.failures
    check_told(job, original)
    assert all("image cannot be read" in describe(one.error) for one in job.failures.values())
    site.broken = range(0)
    job.go_on()
    check_completed(job, original)


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Ctrl-C, in this thread."""
    timer = threading.Timer(seconds, signal.raise_signal, [signal.SIGINT])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


@pytest.mark.parametrize("stalls", [False, True], ids=["slow", "stalled"])
def test_a_slow_server_can_be_waited_for_or_not(
    stalls: bool, site: SlowSite, job: Job, original: Original
) -> None:
    with Source(site.url) as source:
        volume = source.volume()
        # So that a listing needs nothing of the server.
        names = {entry.name for entry in volume.list("/many1")}
        site.seconds = 0.3
        if stalls:
            site.stalled.set()
        listed: list[Any] = []
        asked = source.engine.begin(ListDirectory(volume.facts.number, b"/many1"), listed.append)
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt), interrupted_after(1.5):
            volume.copy(["/"], job.to, journal=os.fsencode(job.journal), special=True)
        # It was answered while the copy waited for the server.
        assert asked.end is not None
        asked.result()
        assert {entry.name for part in listed for entry in part.entries} == names
        assert time.monotonic() - begun < 1.5 + 10
        assert not parts_below(job.to)
        site.released.set()
    job.image = site.url
    check_nothing_torn(job.to, original.facts)
    job.go_on()
    check_same(job, original)


# ---- A host without room -----------------------------------------------------------------------


@contextmanager
def mounted(folder: Path, *arguments: str | Path) -> Iterator[Path]:
    """A file system of the host's; skips without the right to mount any."""
    if os.geteuid() != 0:
        pytest.skip("needs the right to mount")
    folder.mkdir()
    done = subprocess.run(["mount", *arguments, folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode(errors='replace')}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False, capture_output=True)


@contextmanager
def small_tmpfs(folder: Path) -> Iterator[Path]:
    with mounted(folder, "-t", "tmpfs", "-o", "size=6m", "tmpfs") as place:
        yield place


@contextmanager
def small_ext4(folder: Path) -> Iterator[Path]:
    disk = make_empty(folder.with_name("disk"), 64 * MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-m", "0", disk)
    with mounted(folder, "-o", "loop", disk) as place:
        yield place


def make_room(place: Path) -> None:
    """For all of it."""
    if (place / "ballast").exists():
        (place / "ballast").unlink()
    else:
        run_tool("mount", "-o", "remount,size=200m", place)


def fill_up(place: Path, left: int) -> None:
    """Leave about as many bytes free, or none at all."""
    with suppress(OSError), (place / "ballast").open("wb", buffering=0) as file:
        while (found := os.statvfs(place)).f_bavail * found.f_frsize > left:
            file.write(bytes(MIB))


def test_too_little_room_is_found_before_the_copy(original: Original, tmp_path: Path) -> None:
    with small_tmpfs(tmp_path / "small") as place:
        code, errors = end_of(program("cp", "-r", original.image, "/.", place))
        assert code == 6
        assert "bytes are needed" in errors
        assert os.listdir(place) == []


@pytest.mark.parametrize("inside", [False, True], ids=["journal-elsewhere", "journal-there"])
@pytest.mark.parametrize("small", [small_tmpfs, small_ext4], ids=["tmpfs", "ext4"])
def test_a_host_that_becomes_full(
    small: Callable[[Path], Any], inside: bool, job: Job, original: Original, tmp_path: Path
) -> None:
    with small(tmp_path / "small") as place:
        if small is small_ext4:
            fill_up(place, 5 * MIB)
        # Its folder is one of the host's that nothing else is in.
        job.to = place / "to"
        job.to.mkdir()
        if inside:
            job.journal = place / "journal"
        for _ in range(2):
            # Nothing was told of how much is coming.
            job.go_on()
            assert job.lost is not None
            assert job.lost.code == "export.full"
            check_nothing_torn(job.to, original.facts)
        make_room(place)
        job.go_on()
        if inside:
            assert not job.journal.exists()
        check_same(job, original)


def test_another_who_fills_the_disk(job: Job, original: Original, tmp_path: Path) -> None:
    with small_ext4(tmp_path / "small") as place:
        job.to = place / "to"
        job.to.mkdir()
        # There was room when it began.
        job.go_on(lambda _source: fill_up(place, 0), amid=5, expected=20 * MIB)
        assert job.lost is not None
        assert job.lost.code == "export.full"
        check_nothing_torn(job.to, original.facts)
        make_room(place)
        job.go_on()
        check_same(job, original)


def test_attributes_that_the_host_has_no_room_for(job: Job, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "file").write_bytes(b"content")
    os.setxattr(top / "file", b"user.large", b"x" * 3000)
    os.setxattr(top / "file", b"user.small", b"x")
    job.image = make_empty(tmp_path / "image", 8 * MIB)
    run_tool("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-d", top, job.image)
    with small_ext4(tmp_path / "small") as place:
        job.to = place / "to"
        job.to.mkdir()
        job.go_on()
        assert job.lost is None
        failure = job.failures[b"/file"]
        assert failure.damaged
        assert describe(failure.error) == "/file: extended attributes were not kept: user.large"
        assert (job.to / "file").read_bytes() == b"content"
        assert os.getxattr(job.to / "file", b"user.small") == b"x"


# ---- A host that is gone -----------------------------------------------------------------------


def test_a_host_that_becomes_read_only(job: Job, original: Original, tmp_path: Path) -> None:
    with small_ext4(tmp_path / "small") as place:
        job.to = place / "to"
        job.to.mkdir()

        def abort(_source: Source) -> None:
            # As the kernel does when the disk fails.
            run_tool("mount", "-o", "remount,abort", place)

        job.go_on(abort, amid=5)
        assert job.lost is not None
        assert job.lost.code == "export.target", job.lost
        assert "Read-only" in describe(job.lost)
    disk = tmp_path / "disk"
    subprocess.run(["e2fsck", "-f", "-y", disk], capture_output=True, check=False)
    (tmp_path / "small").rmdir()
    with mounted(tmp_path / "small", "-o", "loop", disk):
        # Not even that may have come to the disk.
        job.to.mkdir(exist_ok=True)
        job.go_on()
        check_same(job, original)


def test_a_host_that_is_unmounted(job: Job, original: Original, tmp_path: Path) -> None:
    """Even one that still takes all that is written."""
    job.to = tmp_path / "small"
    with small_ext4(job.to):
        job.go_on(lambda _source: run_tool("umount", "-l", job.to), amid=5)
        assert job.lost is not None
        assert job.lost.code == "export.target"
        assert "another folder" in describe(job.lost)
        assert os.listdir(job.to) == []
    # Nothing of what the journal tells of is there.
    job.go_on()
    check_same(job, original)


def test_a_folder_without_rights(original: Original, job: Job) -> None:
    # Root without any privilege, to whom rights apply as to others.
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        prefix = (find_tool("setpriv"), "--inh-caps=-all", "--bounding-set=-all")
    copy = ("cp", "-r", "--json", original.image, "/folder", "/many4", "/many5", job.to)
    (job.to / "many4").mkdir()
    (job.to / "many4").chmod(0o555)
    process = program(*copy, prefix=prefix)
    output, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 1, errors
    report = json.loads(output)
    failed = {one["path"] for one in report["failures"] if not one["damaged"]}
    assert failed == {f"/many4/file{number}" for number in range(40)}
    assert report["failed"] == 40
    assert not list((job.to / "many4").iterdir())
    assert report["complete"]
    for name in ("folder/repeated", "many5/file8"):
        facts = host_facts(job.to)[name.encode()]
        assert facts.content == original.facts[name.encode()].content


def test_a_destination_that_is_removed(job: Job, original: Original) -> None:
    """What it says is not that all is well."""

    def remove(_source: Source) -> None:
        aside = job.to.with_name("aside")
        job.to.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    job.go_on(remove)
    assert job.lost is not None
    assert job.lost.code in ("export.missing-folder", "export.target")
    job.to.mkdir()
    job.go_on()
    check_same(job, original)


# ---- What takes its time -----------------------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines have little patience."""

    def command(name: str) -> list[str]:
        assert name == "engine"
        return [sys.executable, "-m", "tests.api.hasty"]

    monkeypatch.setattr("explorer.api.source.own_command", command)


class Steered(Connection):
    """A writer that is paused as soon as it is at work."""

    seconds = 0.0
    paused: ClassVar[list[int]] = []

    def begin(self, request: Request, part: Callable[[Any], None] = print) -> Pending:
        """Begin it, and pause it."""
        pending = super().begin(request, part)
        if isinstance(request, Write):
            self.paused.append(pending.number)
            self.send(0, Pause(pending.number))
            timer = threading.Timer(self.seconds, self.send, [0, Continue(pending.number)])
            timer.start()
        return pending


@pytest.mark.usefixtures("hasty")
def test_a_pause_is_no_hang(job: Job, original: Original, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Steered, "seconds", 4 * READ_SECONDS)
    monkeypatch.setattr(copying, "Connection", Steered)
    begun = time.monotonic()
    job.go_on()
    assert time.monotonic() - begun > 4 * READ_SECONDS
    assert Steered.paused
    check_same(job, original)


@pytest.mark.usefixtures("hasty")
def test_nor_is_a_question(job: Job, original: Original) -> None:
    (job.to / "one byte").write_bytes(b"mine")

    def ask(_conflict: Conflict) -> tuple[str, bool]:
        time.sleep(4 * READ_SECONDS)
        return "overwrite", True

    job.go_on(ask=ask, conflicts="ask")
    check_same(job, original)


@pytest.mark.usefixtures("hasty")
def test_nor_is_a_writer_that_is_stopped(job: Job, original: Original) -> None:
    job.go_on(lambda _source: time.sleep(4 * READ_SECONDS), amid=5)
    check_same(job, original)


@pytest.mark.usefixtures("hasty")
def test_an_engine_that_hangs_is_ended(job: Job, original: Original) -> None:
    begun = time.monotonic()
    job.go_on(lambda source: kill(confined(source), signal.SIGSTOP), amid=5)
    assert time.monotonic() - begun < HANG_SECONDS
    assert job.lost is not None
    assert job.lost.code == "engine.hangs"
    check_nothing_torn(job.to, original.facts)
    job.go_on()
    check_same(job, original)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_a_server_that_never_answers_is_a_hang(
    site: SlowSite, job: Job, original: Original
) -> None:
    job.image = site.url
    job.go_on(lambda _source: site.stalled.set())
    assert job.lost is not None
    assert job.lost.code == "engine.hangs"
    assert "Pack" in describe(job.lost)
    site.released.set()
    job.go_on()
    check_same(job, original)
