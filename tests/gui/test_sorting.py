# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sorting in slices is sorting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from explorer.models.sorting import iter_sorted, natural_key

if TYPE_CHECKING:
    from collections.abc import Generator


def drain(generator: Generator[None, None, list[int]]) -> tuple[list[int], int]:
    """The result, and how many times the event loop would have run before it."""
    turns = 0
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value, turns
        turns += 1


@given(st.lists(st.integers(0, 20), max_size=300), st.integers(1, 50))
def test_it_is_stable_and_complete(values: list[int], step: int) -> None:
    rows, _ = drain(iter_sorted(range(len(values)), values.__getitem__, step))
    assert rows == sorted(range(len(values)), key=values.__getitem__)


def test_equal_values_do_not_make_one_long_slice_of_everything() -> None:
    values = list(range(100_000))
    rows, turns = drain(iter_sorted(range(len(values)), lambda row: -values[row]))
    assert rows == values[::-1]
    assert turns > 40


def test_names_are_in_natural_order() -> None:
    names = [b"file10", b"File9", b"file09", b"a", b"B", b"1", b"10", b"2", b"x1y10", b"x1y9"]
    assert sorted(names, key=natural_key) == [
        b"1", b"2", b"10", b"a", b"B", b"File9", b"file09", b"file10", b"x1y9", b"x1y10",
    ]  # fmt: skip
