# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts the confined process, grants its wishes, watches it, and tells how it ended."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from explorer.core.errors import ExplorerError, RecordError
from explorer.images.access import set_access
from explorer.keeper.asking import Asker, KeptAccess
from explorer.keeper.modules import library_paths, use_keeper
from explorer.keeper.rules import Abuse, Grant
from explorer.keeper.wishes import decode_wish, encode
from explorer.native.confine import (
    Confinement,
    confine,
    memory_bound,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from explorer.keeper.rules import Rules
    from explorer.keeper.wishes import Wish

LOOK_SECONDS = 1.0
"""How often the confined process is looked at."""
ANSWER_SECONDS = 60.0
"""How long it may take to take an answer."""
END_SECONDS = 10.0
"""How long it may take to end when it will wish for nothing any more."""

_CRASHED = 1
_READ_SIZE = 1 << 16
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGABRT)


class Work(Protocol):
    """What is done in the confined process."""

    def prepare(self) -> int:
        """Import and load what is always needed; returns the kernel image's descriptor, or -1.

        Done before the confinement, and before anything of an image is read.
        """

    def run(self, asker: Asker, confinement: Confinement) -> int:
        """Do it; returns the exit code."""

    def fail(self, failure: ExplorerError) -> int:
        """Tell why it cannot be done: a part of the program is missing; returns the exit code."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a confined process came to its end."""

    code: int = 0
    """Its exit code."""
    signal: int = 0
    """The signal that ended it, if one did that was not the keeper's."""
    hangs: str = ""
    """What hung, if that was why the keeper ended it."""
    memory: int = 0
    """Bytes that it had, if those were too many."""
    abuse: str = ""
    """What it did, if that was what no process in order does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the keeper watches."""

    memory: int = 0
    """Bytes in memory; 0: most of the machine's."""
    overdue: Callable[[], object | None] = lambda: None
    """What hangs, if anything does."""
    niceness: int = 0
    """Added to the confined process's: how much others go before it."""
    without: frozenset[str] = frozenset()
    """Parts of the confinement to leave out, as if the host lacked them."""


def keep(work: Work, rules: Rules, paths: tuple[bytes, ...], bounds: Bounds) -> Ending:
    """Do some work in a confined process; returns when that has ended.

    To be called by a process of one thread. ``paths`` are the sources that ``rules`` begin with.
    """
    memory = bounds.memory or memory_bound()
    here, there = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    keeper = os.getpid()
    child = os.fork()
    if not child:
        here.close()
        _be_confined(work, there, paths, keeper, memory, bounds)
    there.close()
    # What the child leaves in its memory must not be written to a file by the one who tells of it.
    _forbid_core()
    with rules, here, _forwarding(child):
        return _Keeping(child, here, rules, memory, bounds).run()


def end_like(ending: Ending) -> None:
    """End by the signal that the confined process ended by, if there was one."""
    if ending.signal:
        # What nobody can ignore nobody can set, either.
        with suppress(OSError):
            signal.signal(ending.signal, signal.SIG_DFL)
        os.kill(os.getpid(), ending.signal)


# ---- The confined process


def _be_confined(
    work: Work,
    way: socket.socket,
    paths: tuple[bytes, ...],
    keeper: int,
    memory: int,
    bounds: Bounds,
) -> None:
    """The confined process's life; does not return."""
    code = _CRASHED
    asker = Asker(way)
    try:
        _let_go_of_terminal()
        os.nice(bounds.niceness)
        try:
            image = work.prepare()
            # As long as the process lives: closed, they would be gone.
            libraries = _map_libraries()
            confinement = confine(image=image, keeper=keeper, memory=memory, without=bounds.without)
        except ExplorerError as failure:
            # Nothing is read then.
            code = work.fail(failure)
        else:
            use_keeper(asker.find_module, asker.ask_state)
            set_access(KeptAccess(asker, paths))
            code = work.run(asker, confinement)
            del libraries
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else _CRASHED
    except BaseException:  # noqa: BLE001 - nothing may get back into the keeper's code
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _let_go_of_terminal() -> None:
    """Keep no descriptor that could read what a person types."""
    null = os.open(os.devnull, os.O_RDWR)
    if os.isatty(0):
        os.dup2(null, 0)
    os.close(null)
    for descriptor in (1, 2):
        if os.isatty(descriptor):
            # Another's terminal cannot be opened anew.
            with suppress(OSError):
                writing = os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NOCTTY)
                os.dup2(writing, descriptor)
                os.close(writing)


def _map_libraries() -> list[object]:
    from explorer.native.declarations import map_library

    return [map_library(path) for path in library_paths()]


# ---- The keeper


class _Keeping:
    """One confined process, and what its keeper does for it."""

    def __init__(
        self, child: int, way: socket.socket, rules: Rules, memory: int, bounds: Bounds
    ) -> None:
        self._child = child
        self._way = way
        self._rules = rules
        self._memory = memory
        self._bounds = bounds
        self._buffer = bytearray()
        way.settimeout(ANSWER_SECONDS)

    def run(self) -> Ending:
        """Serve until it ends, or must."""
        try:
            self._serve()
        except _Over as over:
            self._kill()
            return over.ending
        return self._wait()

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._way, select.POLLIN)
        looked = time.monotonic()
        while True:
            ready = poll.poll(int(LOOK_SECONDS * 1000))
            if not ready or time.monotonic() - looked >= LOOK_SECONDS:
                looked = time.monotonic()
                self._look()
            if not ready:
                continue
            piece = self._receive()
            if not piece:
                return
            self._buffer += piece
            try:
                while (wish := decode_wish(self._buffer)) is not None:
                    self._answer(wish)
            except RecordError as error:
                raise _Over(Ending(abuse=str(error))) from error

    def _receive(self) -> bytes:
        # Descriptors that come along are closed by the kernel: nobody asks for them.
        try:
            return self._way.recv(_READ_SIZE)
        except ConnectionResetError:
            return b""

    def _answer(self, wish: Wish) -> None:
        try:
            grant = self._rules.grant(wish)
        except Abuse as abuse:
            raise _Over(Ending(abuse=str(abuse))) from abuse
        except Exception as error:
            # Whatever it is, the wish has brought it about.
            raise _Over(Ending(abuse=f"{type(wish).__name__}: {error!r}")) from error
        try:
            self._send(grant)
        except TimeoutError as error:
            raise _Over(Ending(abuse="it takes no answer")) from error
        except (BrokenPipeError, ConnectionResetError):
            # Its end is read next.
            pass
        finally:
            for descriptor in grant.descriptors:
                os.close(descriptor)

    def _send(self, grant: Grant) -> None:
        data = memoryview(encode(grant.answer))
        if grant.descriptors:
            data = data[socket.send_fds(self._way, [data], grant.descriptors) :]
        self._way.sendall(data)

    def _look(self) -> None:
        overdue = self._bounds.overdue()
        if overdue is not None:
            raise _Over(Ending(hangs=str(overdue)))
        held = _resident(self._child)
        if held > self._memory:
            raise _Over(Ending(memory=held))
        try:
            self._rules.check()
        except Abuse as abuse:
            raise _Over(Ending(abuse=str(abuse))) from abuse

    def _wait(self) -> Ending:
        """How it ended that wishes for nothing any more."""
        until = time.monotonic() + END_SECONDS
        while time.monotonic() < until:
            ended, status = os.waitpid(self._child, os.WNOHANG)
            if ended:
                if os.WIFSIGNALED(status):
                    return Ending(signal=os.WTERMSIG(status))
                return Ending(code=os.WEXITSTATUS(status))
            # It is about to: its end of the socket is the last but one thing that it has.
            time.sleep(0.001)
        self._kill()
        return Ending(abuse="it does without its keeper")

    def _kill(self) -> None:
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)


class _Over(Exception):
    """The confined process must end."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


def _resident(process: int) -> int:
    """Bytes that a process has in memory; 0 where it cannot be told. See proc_pid_statm(5)."""
    try:
        fields = Path(f"/proc/{process}/statm").read_bytes().split()
    except OSError:
        return 0
    # One that has ended has none.
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def _forbid_core() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


@contextmanager
def _forwarding(child: int) -> Iterator[None]:
    """What is meant to end the keeper ends the confined process, of which the keeper tells.

    Ctrl-C reaches both, and is the confined process's to heed.
    """

    def forward(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
