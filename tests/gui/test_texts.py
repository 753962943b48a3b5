# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Texts: those for translators, sizes, times, and what is text at all."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QCoreApplication

from explorer.models.texts import exact_time_text, size_text, time_text
from explorer.ui.plurals import SINGULARS, EnglishPlurals
from explorer.ui.preview.text import guess_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PySide6.QtWidgets import QApplication

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (ROOT / "explorer" / "ui", ROOT / "explorer" / "models")
FILES = sorted(path for room in ROOMS for path in room.rglob("*.py"))
CALLS = ("translate", "QCoreApplication.translate")


def translated(path: Path) -> Iterator[tuple[int, list[ast.expr]]]:
    """Line and arguments of the calls that ask for a translation."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            yield node.lineno, node.args


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_translators_see_every_text(path: Path) -> None:
    assert "self.tr(" not in path.read_text(encoding="utf-8")
    for line, arguments in translated(path):
        texts = [
            part.value
            for part in arguments[:2]
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
        assert len(texts) == 2, f"{path}:{line}: not a plain text"
        has_number = "%n" in texts[1]
        assert has_number == (len(arguments) == 4), f"{path}:{line}: %n needs its number"
        assert not has_number or texts[1] in SINGULARS, f"{path}:{line}: no singular"


def test_one_is_not_many(qapp: QApplication) -> None:
    plurals = EnglishPlurals()
    qapp.installTranslator(plurals)
    try:
        texts = [
            QCoreApplication.translate("MainWindow", "%n items", None, number)
            for number in (0, 1, 2)
        ]
        plain = QCoreApplication.translate("MainWindow", "&Copy")
    finally:
        qapp.removeTranslator(plurals)
    assert texts == ["0 items", "1 item", "2 items"]
    assert plain == "&Copy"


def test_there_are_texts() -> None:
    assert sum(len(list(translated(path))) for path in FILES) > 50


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (10 << 20, "10.0 MiB"),
        (123 << 30, "123 GiB"),
        ((1 << 64) - 1, "16.0 EiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_every_time_has_a_text(moment: int) -> None:
    assert time_text(moment)
    assert exact_time_text(moment)


@pytest.mark.parametrize(
    ("data", "whole", "text", "encoding"),
    [
        (b"plain\n", True, "plain\n", "utf-8"),
        ("日本語".encode(), True, "日本語", "utf-8"),
        ("日本語".encode()[:-1], False, "日本", "utf-8"),
        (b"\xef\xbb\xbfmarked", True, "marked", "utf-8"),
        ("wide".encode("utf-16"), True, "wide", "utf-16"),
        (b"\xfe\xff\0w", True, "w", "utf-16"),
        (b"Gr\xfc\xdfe", True, "Grüße", "windows-1252"),
    ],
)
def test_text_is_recognised(data: bytes, whole: bool, text: str, encoding: str) -> None:
    found = guess_text(data, whole=whole)
    assert found is not None
    assert found == (text, encoding)


@pytest.mark.parametrize("data", [b"\x7fELF\x02\x01\x01\0", b"a\0b", b"\x01\x02\x03"])
def test_what_is_no_text(data: bytes) -> None:
    assert guess_text(data, whole=True) is None
