# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Some hundred changed inputs for each reader, the same each time.

``python -m tests.fuzz NAME`` goes on from here, for as long as one likes, and is led by the code
that inputs reach.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import image_seeds
from tests.fuzz.mutation import mutate
from tests.fuzz.targets import NAMES, WITHOUT_SUMS, Target, make_target, open_seed

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20

RUNS = 400
"""Inputs of each target; fewer where they take longer than :data:`SECONDS` in all."""
LEAST_RUNS = 40
SECONDS = 2.0
"""Of the processor."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Target]:
    """Targets, each made once."""
    made: dict[str, Target] = {}

    def get(name: str) -> Target:
        if name not in made:
            made[name] = make_target(name, tmp_path_factory.mktemp("seeds"))
        return made[name]

    return get


@pytest.mark.parametrize("name", NAMES)
def test_whole_inputs_are_read(name: str, target: Callable[[str], Target]) -> None:
    """What is changed below is worth it: unchanged, it stays as it is and is read to its end."""
    for seed, data in zip(target(name).seeds, target(name).inputs(), strict=True):
        content = seed.unpack(data[1:])
        assert content == seed.content
        if name in image_seeds.MAKERS:
            with open_seed(seed, content) as image:
                assert image.format != "raw"
                for offset in range(0, image.size, MIB):
                    assert len(image.read(offset, MIB)) == min(MIB, image.size - offset)
        elif name in ("tables", "signatures"):
            # Among these are damaged ones, which are no errors to them.
            target(name).run(data)
        else:
            target(name).read(seed, content)


@pytest.mark.parametrize("name", NAMES)
def test_changed_inputs_are_read_or_refused(name: str, target: Callable[[str], Target]) -> None:
    chance = random.Random(name)
    inputs = target(name).inputs()
    end = time.process_time() + SECONDS
    for number in range(RUNS):
        if number >= LEAST_RUNS and time.process_time() > end:
            break
        whole = chance.choice(inputs)
        kind = whole[0] | (WITHOUT_SUMS if chance.random() < 0.1 else 0)
        data = bytes([kind]) + mutate(whole[1:], chance)
        try:
            target(name).run(data)
        except BaseException as error:
            error.add_note(f"target {name}, input {number}: {data.hex()}")
            raise
