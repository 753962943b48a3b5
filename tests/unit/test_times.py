# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Times as text, also those that no calendar shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.times import iso_time, short_time


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
        (-62135596800 * 10**9, "0001-01-01T00:00:00.000000000Z"),
        (253402300799 * 10**9, "9999-12-31T23:59:59.000000000Z"),
        (253402300800 * 10**9, "@253402300800.000000000"),
        (-62135596801 * 10**9, "@-62135596801.000000000"),
    ],
)
def test_all_of_a_time(moment: int, shown: str) -> None:
    assert iso_time(moment) == shown


def test_a_time_to_the_second() -> None:
    assert short_time(1_700_000_000_999_999_999) == "2023-11-14 22:13:20"


@given(st.integers(-(2**63) * 10**9, 2**63 * 10**9))
def test_no_time_is_too_much(moment: int) -> None:
    assert iso_time(moment)
    assert short_time(moment)
