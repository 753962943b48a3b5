# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Gives up, for this process and for ever, what reading an image does not take.

By Linux' own means: no new privileges, Landlock without a rule, a list of allowed system calls,
limits. What the host lacks of these is told; the rest is done all the same.

What stays open. A confined process reads and writes the descriptors it has, asks its keeper, uses
memory up to its bound, starts threads, and waits. It can raise no limit and run no code that is
not in a file of the program: memory is written or executed, never both, and what is executed
comes from libraries loaded before, or from the kernel image.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.native.library import load

if TYPE_CHECKING:
    from collections.abc import Sequence

LANDLOCK = "landlock"
"""Files are not opened by name, ports not reached, nobody outside is sent a signal."""
SECCOMP = "seccomp"
"""Only the system calls of a list."""
RIGHTS = "no-new-privileges"
"""No program gives it rights, and root's are gone."""
LIMITS = "limits"
"""Memory has a bound, and a crash leaves no file with what was in it."""
ORPHAN = "parent-death"
"""It ends with its keeper."""
CODE = "code"
"""No memory is both written and executed."""
PARTS = (ORPHAN, RIGHTS, LIMITS, CODE, LANDLOCK, SECCOMP)

# The version of Landlock that knows all that is asked of it: with signals and abstract sockets.
_LANDLOCK_WHOLE = 6

# What the process maps beside what it uses: libraries, stacks of threads, room for aliases of the
# kernel's RAM, and what the C library reserves for each thread.
_MAPPED_BESIDE = 8 << 30
_OOM_SCORE = "500"


@dataclass(frozen=True, slots=True)
class Confinement:
    """What of the confinement is on."""

    parts: tuple[str, ...]
    """Of :data:`PARTS`."""
    landlock: int = 0
    """The version of Landlock; 0: none."""

    @property
    def missing(self) -> tuple[str, ...]:
        """What this host lacks, as texts to show."""
        texts = [part for part in PARTS if part not in self.parts]
        if 0 < self.landlock < _LANDLOCK_WHOLE:
            texts.append(f"{LANDLOCK} (only version {self.landlock})")
        return tuple(texts)


def confine(
    *, image: int, keeper: int, memory: int, without: frozenset[str] = frozenset()
) -> Confinement:
    """Confine this process, which must have one thread.

    ``image`` is the kernel image's descriptor, ``keeper`` the parent's number, ``memory`` the bound
    in bytes. ``without`` leaves parts out, as on a host that lacks them.
    """
    if sys.platform != "linux":
        return Confinement(())
    library = load().library
    found: list[str] = []
    landlock = 0

    def wanted(part: str) -> bool:
        return part not in without

    def note(part: str, result: int) -> None:
        if result >= 0:
            found.append(part)

    if wanted(ORPHAN):
        note(ORPHAN, library.lkn_die_with_parent(keeper))
    if wanted(LIMITS):
        _limit(memory)
        found.append(LIMITS)
    if wanted(RIGHTS):
        note(RIGHTS, library.lkn_confine_rights())
    code = library.lkn_confine_memory() if wanted(CODE) else -1
    if wanted(LANDLOCK):
        landlock = max(0, library.lkn_confine_files())
        note(LANDLOCK, landlock - 1)
    if wanted(SECCOMP):
        calls = library.lkn_confine_calls(image)
        note(SECCOMP, calls)
        # Without the filter, memory could be made executable again.
        note(CODE, min(code, calls))
    return Confinement(tuple(part for part in PARTS if part in found), landlock)


def confine_writes(folders: Sequence[int]) -> bool:
    """Have this process, which must have one thread, write below these folders only.

    They are descriptors. Whether the host can do that; see ``lkn_confine_writes``.
    """
    if sys.platform != "linux":
        return False
    native = load()
    given = native.ffi.new("int32_t[]", list(folders))
    return native.library.lkn_confine_writes(given, len(folders)) > 0


def _limit(memory: int) -> None:
    import resource

    bounds = (
        # Evidence must not lie in a core file.
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_AS, memory + _MAPPED_BESIDE),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    )
    for what, most in bounds:
        hard = resource.getrlimit(what)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))
    # If the whole machine is out of memory, this is what can best be spared.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def memory_bound() -> int:
    """Bytes that a process may have that reads an image: most of the machine's, with a limit."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return MEMORY_MOST
    return max(MEMORY_LEAST, min(MEMORY_MOST, physical // 4 * 3))


MEMORY_MOST = 8 << 30
"""A key slot of LUKS2 takes up to 4 GiB for itself."""
MEMORY_LEAST = 1 << 30
