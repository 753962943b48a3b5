# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The types of the binding are those of the header."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path

import pytest

from explorer.core.entries import ENTRY_HEAD
from explorer.core.errors import ExplorerError
from explorer.kernel import binding
from explorer.native import declarations
from explorer.native.locate import Build, find_build

STRUCTS = [
    kind
    for name, kind in vars(binding).items()
    if inspect.isclass(kind) and name.startswith("Lkl") and kind.__module__ == binding.__name__
]
CONSTANTS = [name for name in binding.Library.__annotations__ if name.isupper()]
FUNCTIONS = [name for name in vars(binding.Library) if name.startswith("lkl_")]


def c_name(kind: type) -> str:
    return "_".join(re.findall("[A-Z][a-z]+", kind.__name__)).lower()


@pytest.fixture(scope="module")
def loaded(built: None) -> binding.Binding:
    return binding.load()


def test_there_is_something_to_compare() -> None:
    assert len(STRUCTS) >= 9
    assert len(FUNCTIONS) >= 25
    assert len(CONSTANTS) >= 15


@pytest.mark.parametrize("kind", STRUCTS, ids=c_name)
def test_fields_are_those_of_the_struct(loaded: binding.Binding, kind: type) -> None:
    fields = dict(loaded.ffi.typeof(f"struct {c_name(kind)}").fields)
    for name, annotated in kind.__annotations__.items():
        assert name in fields
        assert (fields[name].type.kind == "primitive") == (annotated == "int")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_the_same_arguments(loaded: binding.Binding, name: str) -> None:
    declared = loaded.ffi.typeof(getattr(loaded.library, name))
    typed = inspect.signature(getattr(binding.Library, name))
    arguments = list(typed.parameters.values())[1:]
    assert len(arguments) == len(declared.args)
    for argument, c_type in zip(arguments, declared.args, strict=True):
        assert (c_type.kind == "primitive") == (argument.annotation == "int")
    result = {"int": "primitive", "None": "void"}.get(typed.return_annotation, "pointer")
    assert declared.result.kind == result


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_there(loaded: binding.Binding, name: str) -> None:
    assert isinstance(getattr(loaded.library, name), int)


def test_records_have_the_size_of_the_struct(loaded: binding.Binding) -> None:
    assert loaded.ffi.sizeof("struct lkl_entry") == ENTRY_HEAD.size


def test_a_missing_build_is_named(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LKL_BUILD", str(tmp_path_factory.mktemp("empty")))
    with pytest.raises(ExplorerError) as caught:
        find_build()
    assert caught.value.code == "kernel.missing"
    assert "liblkl.so" in str(caught.value.params["path"])


@pytest.fixture
def copied(built: None, tmp_path: Path) -> Build:
    """The build, in a folder of its own."""
    build = find_build()
    return Build(
        *(Path(shutil.copy(path, tmp_path)) for path in (build.library, build.image, build.header))
    )


def test_types_are_kept_beside_the_library(copied: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = copied.library.with_name("liblkl_types.py")
    size = declarations.read_types(copied.library, copied.header).sizeof("struct lkl_entry")
    assert kept.is_file()
    # From now on no header is parsed.
    monkeypatch.setattr(declarations, "_compile", pytest.fail)
    assert (
        declarations.read_types(copied.library, copied.header).sizeof("struct lkl_entry")
        == size
        == ENTRY_HEAD.size
    )
    assert not list(copied.library.parent.glob("*.part"))


@pytest.mark.parametrize("junk", [b"", b"junk\n", b"\xff\xfe", None])
def test_kept_types_that_are_not_whole_are_made_anew(copied: Build, junk: bytes | None) -> None:
    kept = copied.library.with_name("liblkl_types.py")
    declarations.read_types(copied.library, copied.header)
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] if junk is None else junk)
    assert (
        declarations.read_types(copied.library, copied.header).sizeof("struct lkl_entry")
        == ENTRY_HEAD.size
    )
    assert kept.read_bytes() == whole


def test_a_changed_header_gives_other_types(copied: Build) -> None:
    declarations.read_types(copied.library, copied.header)
    text = copied.header.read_text()
    end = "/* end of declarations */"
    copied.header.write_text(text.replace(end, f"struct lkl_added {{ uint64_t more; }};\n{end}"))
    assert declarations.read_types(copied.library, copied.header).sizeof("struct lkl_added") == 8


def test_types_need_not_be_kept(copied: Build) -> None:
    # A folder of that name cannot be replaced by a file, nor read as one.
    copied.library.with_name("liblkl_types.py").mkdir()
    assert (
        declarations.read_types(copied.library, copied.header).sizeof("struct lkl_entry")
        == ENTRY_HEAD.size
    )
    assert not list(copied.library.parent.glob("*.part"))
