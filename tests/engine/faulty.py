# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""An engine that comes to a bad end when it is asked to list a folder whose name says which.

``python -m tests.engine.faulty``. All else is the real engine's, and what goes wrong goes wrong for
real: the kernel panics, touches what is not there or sleeps for ever, the process has no memory.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from explorer.engine import watch
from explorer.engine.main import main
from explorer.engine.source import Source
from explorer.wire.messages import ListDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from explorer.engine.server import Answer
    from explorer.kernel import Kernel
    from explorer.wire.messages import Message, Reply

_NR_PIPE2 = 59
_NR_READ = 63
_NR_ADD_VIRTIO_MMIO = 244
HANG_SECONDS = 2.0


def _call(kernel: Kernel, number: int, *arguments: int) -> int:
    given = [*arguments, *[0] * (6 - len(arguments))]
    binding = kernel.binding
    return binding.library.lkl_syscall(kernel.pointer, number, binding.ffi.new("int64_t[6]", given))


def panic(kernel: Kernel) -> None:
    """As an administrator would have it."""
    library = kernel.binding.library
    trigger = kernel.check(
        library.lkl_sys_openat(kernel.pointer, -100, b"/proc/sysrq-trigger", 1, 0), "openat"
    )
    kernel.check(library.lkl_sys_write(kernel.pointer, trigger, b"c", 1), "write")


def fault(kernel: Kernel) -> None:
    """The driver reads the registers of a device that is not there."""
    kernel.check(_call(kernel, _NR_ADD_VIRTIO_MMIO, 0x10000, 0x1000, 20, 999), "add_virtio_mmio")


def hang(kernel: Kernel) -> None:
    """A read of a pipe that nobody writes to."""
    ffi = kernel.binding.ffi
    ends, byte = ffi.new("int32_t[2]"), ffi.new("char[1]")
    _call(kernel, _NR_PIPE2, int(ffi.cast("intptr_t", ends)))
    _call(kernel, _NR_READ, ends[0], int(ffi.cast("intptr_t", byte)), 1)


def memory(_kernel: Kernel) -> None:
    """More than there is."""
    bytearray(1 << 62)


def abort(_kernel: Kernel) -> None:
    """As a fault outside the kernel."""
    os.abort()


def slow(_kernel: Kernel) -> None:
    """Longer than the limit, but step by step."""
    operation = watch.current()
    assert operation is not None
    for _ in range(20):
        time.sleep(HANG_SECONDS / 10)
        operation.step()


ENDS: dict[bytes, Callable[[Kernel], None]] = {
    b"/panic": panic,
    b"/fault": fault,
    b"/hang": hang,
    b"/memory": memory,
    b"/abort": abort,
    b"/slow": slow,
}

_handle = Source._handle


def _handle_badly(self: Source, message: Message, answer: Answer) -> Reply:
    if isinstance(message, ListDirectory) and message.path in ENDS:
        ENDS[message.path](self._opened().kernel)
    return _handle(self, message, answer)


if __name__ == "__main__":
    watch.LIST_SECONDS = HANG_SECONDS
    Source._handle = _handle_badly  # type: ignore[method-assign]
    sys.exit(main())
