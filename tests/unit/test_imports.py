# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who imports whom: what the contracts in pyproject.toml cannot say, and that they hold."""

from __future__ import annotations

import ast
import json
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXPLORER = ROOT / "explorer"
ROOMS = sorted(path.name for path in EXPLORER.iterdir() if (path / "__init__.py").is_file())
MODULES = sorted(
    module.name for module in pkgutil.walk_packages([str(EXPLORER)], prefix="explorer.")
)


def imported_by(path: Path) -> set[str]:
    """Full names of all that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            names.add(node.module)
    return names


def loaded_after(statement: str) -> set[str]:
    """Names of the modules a fresh interpreter has loaded after a statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_contracts_notice_a_breach(tmp_path: Path) -> None:
    # The same contracts over a copy of the rooms in which one import is wrong.
    settings = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(settings)
    for path in EXPLORER.rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "explorer" / "core" / "wrong.py").write_text("import explorer.wire\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "explorer.core is not allowed to import explorer.wire" in done.stdout


def test_every_room_stands_in_the_order() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    order = [layer for layer in contracts if layer["type"] == "layers"]
    named = {name.strip("() ") for layer in order[0]["layers"] for name in layer.split("|")} - {
        "__main__"
    }
    assert set(ROOMS) <= named


def test_the_engine_loads_no_qt() -> None:
    loaded = loaded_after("import explorer.engine, explorer.engine.server")
    assert "explorer.engine" in loaded
    assert not {name for name in loaded if name.startswith(("PySide6", "shiboken6"))}


@pytest.mark.parametrize("room", ["core", "wire", "images", "kernel", "volumes", "cli"])
def test_rooms_below_the_window_load_no_qt(room: str) -> None:
    names = [name for name in MODULES if f"{name}.".startswith(f"explorer.{room}.")]
    assert names
    loaded = loaded_after(f"import {', '.join(names)}")
    assert not {name for name in loaded if name.startswith(("PySide6", "shiboken6"))}


@pytest.mark.parametrize("room", ["core", "wire"])
def test_some_rooms_need_the_standard_library_only(room: str) -> None:
    foreign = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (EXPLORER / room).rglob("*.py")
        for name in imported_by(path)
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "explorer"}
    }
    assert not foreign


def test_nothing_is_imported_that_is_not_declared() -> None:
    # The second half of cffi, which compiled types need alone.
    declared = {"PySide6", "cffi", "_cffi_backend", "appdirs"}
    # What images are compressed and encrypted with, by the names of their modules.
    declared |= {"Crypto", "argon2", "indexed_gzip", "zstandard"}
    declared |= {"aiohttp", "fsspec"}
    foreign = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in EXPLORER.rglob("*.py")
        for name in imported_by(path)
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "explorer", *declared}
    }
    assert not foreign


def test_ctypes_is_not_a_second_binding() -> None:
    # cffi is the one way into the library; ctypes would bypass its types.
    users = {
        str(path.relative_to(ROOT))
        for path in EXPLORER.rglob("*.py")
        if "ctypes" in imported_by(path)
    }
    assert not users


@pytest.mark.parametrize("name", MODULES)
def test_each_module_can_be_imported_first(name: str) -> None:
    # An import cycle shows only from one of its ends.
    assert name in loaded_after(f"import {name}")


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_says_what_it_is_for(room: str) -> None:
    text = ast.get_docstring(ast.parse((EXPLORER / room / "__init__.py").read_bytes()))
    assert text
    assert len(text) > 40
