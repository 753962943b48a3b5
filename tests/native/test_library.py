# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The library that needs no kernel: its declarations, and digests beside Python's own."""

from __future__ import annotations

import hashlib
import inspect

import pytest

from explorer.native.digests import ALGORITHMS, Digests
from explorer.native.library import Library, load

FUNCTIONS = [name for name in vars(Library) if name.startswith("lkn_")]
CONSTANTS = [name for name in Library.__annotations__ if name.isupper()]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_the_same_arguments(built: None, name: str) -> None:
    native = load()
    declared = native.ffi.typeof(getattr(native.library, name))
    typed = inspect.signature(getattr(Library, name))
    arguments = list(typed.parameters.values())[1:]
    assert len(arguments) == len(declared.args)
    for argument, c_type in zip(arguments, declared.args, strict=True):
        assert (c_type.kind == "primitive") == (argument.annotation == "int")
    result = {"int": "primitive", "None": "void"}.get(typed.return_annotation, "pointer")
    assert declared.result.kind == result


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_declared(built: None, name: str) -> None:
    assert isinstance(getattr(load().library, name), int)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_digests_are_those_of_python(built: None, name: str) -> None:
    data = bytes(range(256)) * 999
    with Digests([name]) as digests:
        for start in range(0, len(data), 1000):
            digests.update(data[start : start + 1000])
        assert digests.read() == {name: hashlib.new(name, data).digest()}


def test_several_digests_at_once(built: None) -> None:
    with Digests(list(ALGORITHMS)) as digests:
        assert digests.read() == {name: hashlib.new(name).digest() for name in ALGORITHMS}


def test_an_unknown_algorithm_is_refused(built: None) -> None:
    with pytest.raises(KeyError):
        Digests(["crc32"])
