# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Names as they are shown: nothing that moves the cursor, and no two alike."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.names import is_entry_name, show_name

_ESCAPE = re.compile(r"\\\\|\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})|\\([nrt])", re.ASCII)


def read_back(shown: str) -> bytes:
    """The name that is shown so: what makes it certain that no two names look the same."""

    def raw(match: re.Match[str]) -> bytes:
        byte, short, long, letter = match.groups()
        if byte:
            return bytes([int(byte, 16)])
        if short or long:
            return chr(int(short or long, 16)).encode()
        return {"n": b"\n", "r": b"\r", "t": b"\t", None: b"\\"}[letter]

    result, at = b"", 0
    for match in _ESCAPE.finditer(shown):
        result += shown[at : match.start()].encode() + raw(match)
        at = match.end()
    return result + shown[at:].encode()


@given(st.binary(max_size=300))
def test_every_name_can_be_told_from_what_is_shown(name: bytes) -> None:
    assert read_back(show_name(name)) == name


@given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
def test_nothing_shown_controls_a_terminal(name: bytes) -> None:
    for character in show_name(name):
        assert unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plain.txt", "plain.txt"),
        ("Größe 日本".encode(), "Größe 日本"),
        (b"caf\xe9", "caf\\xe9"),
        (b"a\nb\tc", "a\\nb\\tc"),
        (b"\x1b[31mred", "\\x1b[31mred"),
        ("\u202etxt.exe".encode(), "\\u202etxt.exe"),
        ("\u0085".encode(), "\\u0085"),
        (b"\x85", "\\x85"),
        (b"back\\slash", "back\\\\slash"),
        ("wide\u3000space".encode(), "wide\u3000space"),
        ("\U000e0001".encode(), "\\U000e0001"),
    ],
)
def test_examples(name: bytes, shown: str) -> None:
    assert show_name(name) == shown


@pytest.mark.parametrize("name", [b"a", b"...", b"\xff", b"\n", b" "])
def test_a_name(name: bytes) -> None:
    assert is_entry_name(name)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"\0"])
def test_no_name(name: bytes) -> None:
    assert not is_entry_name(name)
