# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Images made of a tree of the host give that tree back: every name, byte and fact."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.trees import (
    LONGEST_NAME,
    Facts,
    assert_same,
    host_facts,
    mount_facts,
    whole_seconds,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from explorer.volumes import MountedVolume


_SECOND = 10**9


def times_in(facts: Mapping[bytes, Facts], low: int, high: int) -> dict[bytes, Facts]:
    """Whole seconds, in 32 bits: what is beyond comes round at the other end."""
    return {
        path: replace(
            one, modify_ns=((one.modify_ns // _SECOND - low) % (high - low) + low) * _SECOND
        )
        for path, one in facts.items()
    }


def by_mke2fs(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """Its -d writes no more of a time than 32 bits, and a root of its own."""
    return without(times_in(facts, -(2**31), 2**31), b"")


def by_mksquashfs(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """SquashFS has 32 bits without a sign for a time."""
    return times_in(facts, 0, 2**32)


def by_mkfs_btrfs(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """Its --rootdir writes seconds, no numbers of devices, and a root of its own."""
    kept = {
        path: replace(one, content="0:0") if one.type in (2, 6) else one
        for path, one in facts.items()
    }
    return without(whole_seconds(kept), b"")


def by_mkfs_erofs(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """A name was left out for it."""
    return without(facts, LONGEST_NAME.encode())


def same(facts: Mapping[bytes, Facts]) -> dict[bytes, Facts]:
    """Everything is kept."""
    return dict(facts)


# What an image's maker cannot keep is taken off what is wanted.
KEPT: dict[str, Callable[[Mapping[bytes, Facts]], dict[bytes, Facts]]] = {
    "ext4": by_mke2fs,
    "ext4-written": same,
    "ext2": by_mke2fs,
    "xfs": same,
    "btrfs": by_mkfs_btrfs,
    "btrfs-written": same,
    "f2fs": same,
    **{f"squashfs-{name}": by_mksquashfs for name in ("gzip", "xz", "lzo", "lz4", "zstd")},
    "erofs": by_mkfs_erofs,
    "erofs-lz4": by_mkfs_erofs,
}


@pytest.mark.parametrize("name", sorted(KEPT))
def test_a_tree_comes_back(
    name: str,
    tree: Path,
    image_of: Callable[[str], Path],
    mounted: Callable[[Path], MountedVolume],
) -> None:
    volume = mounted(image_of(name))
    assert not volume.as_stored
    wanted = KEPT[name](host_facts(tree))
    found = without(mount_facts(volume.mount), b"lost+found", *({b""} - wanted.keys()))
    assert_same(found, wanted)
