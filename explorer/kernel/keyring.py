# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys of the kernel: how a secret reaches it without being written into a text on the way.

``Documentation/security/keys/core.rst`` tells of the calls, ``dm-crypt.rst`` in
``Documentation/admin-guide/device-mapper`` of how a mapped device takes its key from there.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.kernel.kernel import Kernel

# include/uapi/asm-generic/unistd.h and include/uapi/linux/keyctl.h
_NR_ADD_KEY = 217
_NR_KEYCTL = 219
_KEYCTL_UNLINK = 9
_THREAD_KEYRING = -1

_numbers = count()


@contextmanager
def lend_key(kernel: Kernel, key: bytearray) -> Iterator[bytes]:
    """Give the kernel a key for the calls that this thread makes meanwhile.

    Yields its name in the words of dm-crypt, as ``:64:logon:explorer:1``; ``key`` is not empty.
    Nobody can read a key of this type back. Whoever took it has a copy of its own.
    """
    ffi, library = kernel.binding.ffi, kernel.binding.library
    description = b"explorer:%d" % next(_numbers)
    texts = [ffi.new("char[]", text) for text in (b"logon", description)]
    payload = ffi.from_buffer("char[]", key)
    addresses = [int(ffi.cast("intptr_t", pointer)) for pointer in (*texts, payload)]
    arguments = ffi.new("int64_t[6]", [*addresses, len(key), _THREAD_KEYRING, 0])
    number = kernel.check(library.lkl_syscall(kernel.pointer, _NR_ADD_KEY, arguments), "add_key")
    try:
        yield b":%d:logon:%b" % (len(key), description)
    finally:
        if kernel.state == "running":
            arguments = ffi.new("int64_t[6]", [_KEYCTL_UNLINK, number, _THREAD_KEYRING, 0, 0, 0])
            library.lkl_syscall(kernel.pointer, _NR_KEYCTL, arguments)
