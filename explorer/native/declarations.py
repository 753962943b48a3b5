# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The declarations of a C library, as cffi takes them from its header.

cffi in ABI mode: the same library for every Python version. No declaration is written twice, and
what cffi makes of them is kept beside the library for the next start.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import _cffi_backend

from explorer.core.errors import ExplorerError, host_path

if TYPE_CHECKING:
    from pathlib import Path

    import cffi

_DECLARATIONS = re.compile(r"/\* declarations \*/\n(.*)/\* end of declarations \*/", re.DOTALL)
_LAST_LINE = "# end of types\n"


def read_declarations(header: Path) -> str:
    """The part of a header that is plain C declarations, as cffi takes it."""
    found = _DECLARATIONS.search(header.read_text(encoding="utf-8"))
    if found is None:
        raise ExplorerError(
            "kernel.load", path=host_path(header), reason="its declarations are not marked"
        )
    # cffi wants the value of a constant without parentheses.
    return re.sub(r"(#define \w+) \((-\d+)\)", r"\1 \2", found[1])


def _compile(declarations: str) -> str:
    """The types as Python source, which cffi needs no parser to read."""
    # Half of a short command's time, and hardly ever needed.
    from io import StringIO

    import cffi
    from cffi.recompiler import make_py_source

    ffi = cffi.FFI()
    ffi.cdef(declarations)
    source = StringIO()
    make_py_source(ffi, "types", source)
    return source.getvalue()


def _keep(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    # Where nobody may write, the next start compiles again.
    with suppress(OSError):
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def map_library(path: str) -> object:
    """A library in memory for as long as the object lives; None when it cannot be loaded.

    Nothing of it is used: whoever loads it later by this name finds it without opening a file.
    """
    try:
        return _cffi_backend.load_library(path, _cffi_backend.RTLD_NOW)
    except OSError:
        return None


def read_types(library: Path, header: Path) -> cffi.FFI:
    """The types of a library's header, compiled once for each header and version of cffi.

    What is kept is code, and is run. It stands beside the library and nowhere else: who may write
    there could as well change the library, which is run too.
    """
    kept = library.with_name(f"{library.stem}_types.py")
    declarations = read_declarations(header)
    first_line = f"# cffi {_cffi_backend.__version__} {declarations!r}\n"
    try:
        source = kept.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        source = ""
    if not (source.startswith(first_line) and source.endswith(_LAST_LINE)):
        source = first_line + _compile(declarations) + _LAST_LINE
        _keep(kept, source)
    found: dict[str, Any] = {}
    exec(compile(source, kept, "exec"), found)
    return cast("cffi.FFI", found["ffi"])
