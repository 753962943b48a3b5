# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
# ruff: noqa: D102  (the functions are documented where they are declared)
"""The C library that needs no kernel, as ``native.h`` declares it.

:class:`Library` repeats the declarations for the type checker only; a test holds both together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

from explorer.core.errors import ExplorerError, host_path
from explorer.native.declarations import read_types
from explorer.native.locate import find_native

if TYPE_CHECKING:
    import cffi

    CData = cffi.FFI.CData


class Library(Protocol):
    """The functions and constants of ``native.h``."""

    LKN_MD5: int
    LKN_SHA1: int
    LKN_SHA256: int
    LKN_BLAKE2B: int
    LKN_DIGEST_MOST: int

    def lkn_digests_open(self, algorithms: int, digests: CData) -> int: ...
    def lkn_digests_update(self, digests: CData, bytes: CData, length: int) -> None: ...  # noqa: A002  # the header's word
    def lkn_digests_read(self, digests: CData, algorithm: int, digest: CData, size: int) -> int: ...
    def lkn_digests_reset(self, digests: CData) -> None: ...
    def lkn_digests_close(self, digests: CData) -> None: ...

    def lkn_die_with_parent(self, parent: int) -> int: ...
    def lkn_confine_rights(self) -> int: ...
    def lkn_confine_files(self) -> int: ...
    def lkn_confine_writes(self, folders: CData, count: int) -> int: ...
    def lkn_confine_memory(self) -> int: ...
    def lkn_confine_calls(self, image: int) -> int: ...

    LKN_ANSWER_MODE: int
    LKN_ANSWER_WANTED: int
    LKN_NAMES_POSIX: int
    LKN_NAMES_WINDOWS: int
    LKN_NAME_MOST: int
    LKN_NAME_SIZE: int

    def lkn_stream_open(self, socket: int, patience: int, stream: CData) -> int: ...
    def lkn_stream_close(self, stream: CData) -> None: ...
    def lkn_stream_memory(self, stream: CData, size: CData) -> CData: ...
    def lkn_stream_next(self, stream: CData, event: CData) -> int: ...
    def lkn_stream_problem(self, stream: CData) -> CData: ...
    def lkn_stream_candidate(self, stream: CData, event: CData) -> int: ...
    def lkn_stream_answer_mode(self, stream: CData, mode: int) -> int: ...
    def lkn_stream_answer_wanted(self, stream: CData, wanted: CData, count: int) -> int: ...

    LKN_FOLDER_OWNER: int
    LKN_FOLDER_SPECIAL: int
    LKN_FOLDER_FOLD: int
    LKN_FOLDER_PLAN: int
    LKN_FOLDER_STOP_FULL: int
    LKN_FOLDER_LIST: int

    def lkn_folder_run(
        self, folder: CData, stream: CData, accounts: CData, error: CData
    ) -> int: ...

    def lkn_name_map(
        self,
        name: CData,
        length: int,
        rules: int,
        number: int,
        longest: int,
        mapped: CData,
    ) -> int: ...
    def lkn_name_unmap(self, mapped: CData, length: int, name: CData) -> int: ...


@dataclass(frozen=True, slots=True)
class Native:
    """The library, loaded, with the types of its header."""

    ffi: cffi.FFI
    library: Library


@cache
def load() -> Native:
    """Load the library, once per process; raises :exc:`ExplorerError`."""
    path, header = find_native()
    ffi = read_types(path, header)
    try:
        library = cast("Library", ffi.dlopen(str(path)))
    except OSError as failure:
        raise ExplorerError("kernel.load", path=host_path(path), reason=str(failure)) from failure
    return Native(ffi, library)
