# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Volumes as records, and how one is chosen."""

from __future__ import annotations

import dataclasses
import json

import pytest

from explorer.core.errors import ExplorerError, RecordError, UnknownFormat, VolumeError
from explorer.core.messages import describe
from explorer.core.volume import Volume, volume_from_wire
from explorer.volumes import select_volume

ROOT = Volume(1, 2**20, 2**30, "ext4", "ext4", "root", "AB-cd", mountable=True)
DATA = Volume(2, 2**31, 2**30, "xfs", "XFS", "data", "ef", mountable=True)
SWAP = Volume(3, 2**32, 2**30, "swap", "swap space", "", "", mountable=False)
EMPTY = Volume(4, 2**33, 2**30, "", "", "", "", mountable=False)


def test_a_volume_crosses_the_wire() -> None:
    assert volume_from_wire(json.loads(json.dumps(ROOT.to_wire()))) == ROOT


@pytest.mark.parametrize(
    "change",
    [{"number": "1"}, {"size": -1}, {"label": None}, {"mountable": 1}, {"extra": 1}],
)
def test_what_is_no_volume_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(RecordError):
        volume_from_wire(ROOT.to_wire() | change)


def test_no_object_is_no_volume() -> None:
    with pytest.raises(RecordError):
        volume_from_wire([1, 2])


@pytest.mark.parametrize("wanted", ["2", "data", "EF", "ef"])
def test_by_number_label_or_uuid(wanted: str) -> None:
    assert select_volume("i", [ROOT, DATA, SWAP], wanted) is DATA


def test_the_only_one_needs_no_name() -> None:
    assert select_volume("i", [ROOT, SWAP, EMPTY], None) is ROOT


def chosen(volumes: list[Volume], wanted: str | None) -> ExplorerError:
    with pytest.raises(ExplorerError) as caught:
        select_volume("disk.img", volumes, wanted)
    return caught.value


def test_several_are_listed() -> None:
    error = chosen([ROOT, DATA], None)
    assert isinstance(error, VolumeError)
    assert error.code == "volume.choose"
    text = describe(error)
    assert "disk.img" in text
    assert "root" in text
    assert "data" in text


def test_a_missing_one_is_named() -> None:
    error = chosen([ROOT, DATA], "9")
    assert error.code == "volume.missing"
    assert "9" in describe(error)


def test_a_label_twice_is_no_choice() -> None:
    error = chosen([ROOT, dataclasses.replace(DATA, label="root")], "root")
    assert error.code == "volume.ambiguous"


def test_an_empty_uuid_is_no_name() -> None:
    assert chosen([SWAP, EMPTY], "").code in ("volume.missing", "volume.ambiguous")


def test_only_swap_is_returned_to_say_why() -> None:
    assert select_volume("i", [SWAP, EMPTY], None) is SWAP


def test_nothing_recognised() -> None:
    assert isinstance(chosen([], None), UnknownFormat)
    assert chosen([EMPTY], None).code == "volume.none"
