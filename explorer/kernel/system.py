# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own files: what sysfs tells and takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.core.entries import FileType
from explorer.kernel.calls import c_path
from explorer.kernel.files import Directory

if TYPE_CHECKING:
    from explorer.kernel.kernel import Kernel

_PAGE = 4096


def _open(kernel: Kernel, path: bytes, flags: int) -> int:
    library = kernel.binding.library
    return kernel.check(
        library.lkl_sys_openat(
            kernel.pointer, library.LKL_AT_FDCWD, c_path(path), flags | library.LKL_O_CLOEXEC, 0
        ),
        "openat",
        path,
    )


def read_text(kernel: Kernel, path: bytes) -> str:
    """An attribute of sysfs, without the newline; at most a page, as these are."""
    ffi, library = kernel.binding.ffi, kernel.binding.library
    descriptor = _open(kernel, path, library.LKL_O_RDONLY)
    try:
        buffer = ffi.new("char[]", _PAGE)
        got = kernel.check(
            library.lkl_read_file(kernel.pointer, descriptor, 0, buffer, _PAGE), "read", path
        )
        return bytes(ffi.buffer(buffer, got)).decode("ascii", "backslashreplace").rstrip("\n")
    finally:
        kernel.close_descriptor(descriptor)


def write_text(kernel: Kernel, path: bytes, text: str) -> None:
    """Set an attribute of sysfs."""
    library = kernel.binding.library
    descriptor = _open(kernel, path, library.LKL_O_WRONLY)
    try:
        data = text.encode("ascii")
        kernel.check(
            library.lkl_sys_write(kernel.pointer, descriptor, data, len(data)), "write", path
        )
    finally:
        kernel.close_descriptor(descriptor)


def list_folders(kernel: Kernel, path: bytes) -> list[bytes]:
    """The names of the folders in a folder of the kernel's own tree."""
    library = kernel.binding.library
    descriptor = _open(kernel, path, library.LKL_O_RDONLY | library.LKL_O_DIRECTORY)
    with Directory(kernel, descriptor, path) as folder:
        return [entry.name for entry in folder if entry.type == FileType.DIRECTORY]
