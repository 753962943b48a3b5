# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules for a process that may open no file.

Code in Python comes from the keeper when it is imported: most of it never is, and loading all of it
beforehand would take longer than most commands. Libraries cannot come that way. Those that may be
needed are mapped before the confinement, which takes some thirty microseconds each, and the loader
of the C library finds them by their names.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib.machinery import (
    BuiltinImporter,
    ExtensionFileLoader,
    FrozenImporter,
    ModuleSpec,
    PathFinder,
)
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from explorer.keeper.wishes import ModuleFound, StateFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import CodeType, ModuleType

_NONE = ModuleFound("", False, False, (), b"")

# What the standard library has in libraries of its own, as far as any code here comes to need it:
# each distribution of Python builds in others.
_STANDARD = (
    "_bisect",
    "_blake2",
    "_bz2",
    "_contextvars",
    "_csv",
    "_datetime",
    "_elementtree",
    "_heapq",
    "_json",
    "_lzma",
    "_md5",
    "_opcode",
    "_pickle",
    "_posixsubprocess",
    "_queue",
    "_random",
    "_sha1",
    "_sha2",
    "_sha256",
    "_sha3",
    "_sha512",
    "_struct",
    "_typing",
    "_uuid",
    "_zoneinfo",
    "array",
    "binascii",
    "cmath",
    "fcntl",
    "grp",
    "math",
    "mmap",
    "pyexpat",
    "resource",
    "select",
    "termios",
    "unicodedata",
    "zlib",
)
# Packages of others, of which all libraries are taken.
_PACKAGES = ("_argon2_cffi_bindings", "indexed_gzip", "zstandard")
_CRYPTO = "Crypto"
# The C library loads it where a thread is ended by pthread_exit(), as those of Argon2 are.
_UNWINDER = "libgcc_s.so.1"

# ---- In the keeper


class _Place(NamedTuple):
    """Where a module is."""

    spec: ModuleSpec
    folders: tuple[str, ...]


def _locate(name: str) -> _Place | None:
    """Where a module of the installation is, found without importing any."""
    folders: Sequence[str] | None = None
    spec: ModuleSpec | None = None
    whole = ""
    for part in name.split("."):
        if whole and not folders:
            return None
        whole = f"{whole}.{part}" if whole else part
        spec = _find(whole, folders)
        if spec is None:
            return None
        folders = tuple(spec.submodule_search_locations or ())
    assert spec is not None
    return _Place(spec, tuple(folders or ()))


def _find(name: str, folders: Sequence[str] | None) -> ModuleSpec | None:
    """By whatever finds modules here: an editable installation has a finder of its own."""
    for finder in sys.meta_path:
        # Whoever asks has these, too.
        if finder in (BuiltinImporter, FrozenImporter):
            continue
        spec = finder.find_spec(name, folders)
        if spec is not None:
            return spec
    return None


def find_module(name: str) -> ModuleFound:
    """The module of a name, as it is told to a confined process."""
    place = _locate(name)
    if place is None:
        return _NONE
    origin, loader = place.spec.origin or "", place.spec.loader
    package = place.spec.submodule_search_locations is not None
    if isinstance(loader, ExtensionFileLoader):
        return ModuleFound(origin, True, package, place.folders, b"")
    get_code: Callable[[str], CodeType | None] | None = getattr(loader, "get_code", None)
    code = None if get_code is None else get_code(name)
    if code is None:
        return _NONE
    return ModuleFound(origin, False, package, place.folders, marshal.dumps(code))


def read_state(path: bytes) -> StateFound:
    """What is at a path of the installation; nothing is told of any other."""
    wanted = os.path.normpath(os.fsdecode(path))
    nothing = StateFound(0, 0)
    roots = (root for root in map(os.path.abspath, filter(None, sys.path)))
    if not any(wanted.startswith(root.rstrip("/") + "/") for root in roots):
        return nothing
    try:
        status = os.stat(wanted)  # noqa: PTH116 - text
    except OSError:
        return nothing
    return StateFound(status.st_mode, status.st_size)


# ---- In the confined process


def library_paths() -> Iterator[str]:
    """The libraries that may be needed, by the very names that they will be loaded by."""
    yield _UNWINDER
    for name in _STANDARD:
        if name not in sys.modules and name not in sys.builtin_module_names:
            spec = PathFinder.find_spec(name)
            if spec is not None and isinstance(spec.loader, ExtensionFileLoader) and spec.origin:
                yield spec.origin
    for package in _PACKAGES:
        for folder in _folders(package):
            yield from map(str, folder.glob("*.so"))
    for folder in _folders(_CRYPTO):
        # The package itself names them so.
        for one in folder.glob("*/*.so"):
            yield f"{folder}/Util/../{one.parent.name}/{one.name}"


def _folders(package: str) -> list[Path]:
    spec = PathFinder.find_spec(package)
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]


class _CodeLoader:
    """Runs code that was given."""

    def __init__(self, found: ModuleFound) -> None:
        self._found = found

    def create_module(self, _spec: ModuleSpec) -> ModuleType | None:
        """None: a plain one."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        exec(marshal.loads(self._found.payload), module.__dict__)


class KeeperFinder:
    """Finds modules by asking the keeper; what :data:`sys.meta_path` holds."""

    def __init__(self, ask: Callable[[str], ModuleFound]) -> None:
        self._ask = ask

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module of a name."""
        found = self._ask(name)
        if found.library:
            spec = ModuleSpec(name, ExtensionFileLoader(name, found.origin), origin=found.origin)
        elif found.payload:
            loader: Any = _CodeLoader(found)
            spec = ModuleSpec(name, loader, origin=found.origin, is_package=found.package)
        else:
            return None
        if found.package:
            spec.submodule_search_locations = list(found.folders)
        # It gives the module its __file__.
        spec.has_location = True
        return spec


def use_keeper(
    ask_module: Callable[[str], ModuleFound], ask_state: Callable[[bytes], StateFound]
) -> None:
    """Have modules found, and paths looked at, by the keeper alone from now on."""
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, KeeperFinder(ask_module)]
    own = os.stat

    def stat(path: Any, *arguments: Any, **more: Any) -> os.stat_result:  # noqa: ANN401 - as os.stat
        if isinstance(path, int):
            return own(path, *arguments, **more)
        # Packages look in this way for libraries of their own.
        found = ask_state(os.fsencode(path))
        if not found.mode:
            raise PermissionError(f"a confined process may not look at {path!r}")
        return os.stat_result((found.mode, 0, 0, 1, 0, 0, found.size, 0, 0, 0))

    setattr(os, "stat", stat)  # noqa: B010 - what mypy would not have assigned
