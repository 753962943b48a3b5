# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What all calls into the library have in common: results, and callbacks that may fail."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from explorer.core.errors import KernelError
from explorer.core.names import show_name

if TYPE_CHECKING:
    from explorer.kernel.binding import Binding

_TIME_STAMP = re.compile(rb"^\[ *\d+\.\d+\] ")


def make_error(
    binding: Binding,
    number: int,
    call: str,
    path: bytes = b"",
    log: list[str] | None = None,
) -> KernelError:
    """The error for a positive errno of the kernel."""
    return KernelError(
        errno=number,
        name=binding.text(binding.library.lkl_errno_name(number)),
        call=call,
        reason=binding.text(binding.library.lkl_strerror(number)),
        path=show_name(path),
        log=log,
    )


def show_log(log: bytes) -> list[str]:
    """The kernel's log as lines that are safe to show, without their time stamps."""
    return [show_name(_TIME_STAMP.sub(b"", line)) for line in log.splitlines() if line]


def c_path(path: bytes) -> bytes:
    """A path that can be handed to C; a NUL would silently cut it."""
    if b"\0" in path:
        raise ValueError("a path cannot hold a NUL")
    return path


class Kept:
    """Keeps the first exception of callbacks, which cannot pass through C."""

    def __init__(self) -> None:
        self._error: BaseException | None = None

    def keep(self, _kind: object, error: object, _trace: object) -> None:
        """Take an exception; cffi's ``onerror``."""
        if self._error is None and isinstance(error, BaseException):
            self._error = error

    def take(self) -> BaseException | None:
        """The exception kept, once."""
        error, self._error = self._error, None
        return error

    def raise_kept(self) -> None:
        """Raise the exception kept, if there is one."""
        error = self.take()
        if error is not None:
            raise error
