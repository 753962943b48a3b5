# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors: their way over the wire, and their texts."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import explorer
from explorer.core.errors import (
    CorruptImage,
    EngineLost,
    ExplorerError,
    KernelError,
    RecordError,
    SourceError,
    VolumeError,
    error_from_wire,
    source_error,
)
from explorer.core.messages import NOTES, TEXTS, WHY, describe
from explorer.wire.frames import FrameReader, encode
from explorer.wire.messages import Failed

ROOT = Path(explorer.__file__).parent

EXAMPLES = [
    ExplorerError("kernel.missing", path="build/liblkl.so"),
    SourceError("source.empty", path="disk.img"),
    VolumeError("volume.mount", volume="a", type="ext4", reason="no", log=["one", "two"]),
    KernelError(errno=2, name="ENOENT", call="openat2", reason="No such file", path="/a", log=[]),
    EngineLost("engine.lost", exit="9", log=[]),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_crosses_the_wire(error: ExplorerError) -> None:
    back = error_from_wire(json.loads(json.dumps(error.to_wire())))
    assert type(back) is type(error)
    assert (back.code, back.params) == (error.code, error.params)
    assert describe(back) == describe(error)


@pytest.mark.parametrize("offset", [1 << 63, 9444732682065290473472, -(1 << 70)])
def test_a_number_beyond_64_bits_crosses_the_wire_as_text(offset: int) -> None:
    error = CorruptImage("image.corrupt", path="a", structure="b", offset=offset, reason="c")
    message = Failed(error)
    head, payload = encode(1, message)
    reader = FrameReader()
    reader.feed(head + payload)
    frame = reader.next_frame()
    assert frame is not None
    assert isinstance(frame.message, Failed)
    assert describe(frame.message.error) == describe(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(
    JSON
    | st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["ExplorerError", "KernelError", "ImageError", "int"]),
            "code": JSON,
            "params": JSON,
        }
    )
)
def test_what_is_no_error_is_refused(data: object) -> None:
    try:
        error = error_from_wire(data)
    except RecordError:
        return
    assert isinstance(error, ExplorerError)
    assert isinstance(describe(error), str)


def test_a_kernel_error_is_an_os_error() -> None:
    error = KernelError(errno=5, name="EIO", call="read", reason="I/O error")
    assert isinstance(error, OSError)
    assert error.errno == 5
    assert error.strerror == "I/O error"


def test_host_failures_become_source_errors() -> None:
    assert source_error("x", FileNotFoundError(2, "gone")).code == "source.missing"
    assert source_error("x", PermissionError(13, "no")).code == "source.rights"
    assert source_error("x", IsADirectoryError(21, "dir")).code == "source.directory"
    assert source_error("x", OSError(5, "I/O")).code == "source.unreadable"


def test_a_path_of_the_host_is_safe_to_show() -> None:
    assert source_error(b"a\x1b[2Jb\xff", OSError(5, "x")).params["path"] == "a\\x1b[2Jb\\xff"


def test_the_telling_line_of_the_log_is_shown() -> None:
    log = ["EXT4-fs (vda): group descriptors corrupted!", "EXT4-fs (vda): mount failed"]
    error = VolumeError("volume.mount", volume="v", type="ext4", reason="x", log=log)
    assert "group descriptors corrupted" in describe(error)


def raised_codes() -> set[str]:
    """All codes of errors in the program's source: words with a dot, as an error's argument."""
    codes = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                first = node.args[0]
                if (
                    name.endswith(("Error", "Format", "Feature", "Image", "Part", "Lost"))
                    or name == "_target_error"
                ) and isinstance(first, ast.Constant):
                    codes.add(str(first.value))
    return {code for code in codes if "." in code}


def test_every_code_has_its_text() -> None:
    codes = raised_codes()
    assert "source.empty" in codes
    assert "volume.mount" in codes
    assert codes - TEXTS.keys() == set()


def test_a_text_with_parameters_missing_is_still_a_text() -> None:
    for code in TEXTS:
        assert describe(ExplorerError(code))


def test_texts_are_one_line_but_for_lists() -> None:
    for text in (*TEXTS.values(), *WHY.values(), *NOTES.values()):
        assert "\n" not in text.replace("\n{list}", "")
