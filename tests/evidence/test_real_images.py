# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Real images of another project, beside what libewf and the Sleuth Kit find in them."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from explorer.evidence.hashing import source_hash
from explorer.evidence.timeline import timeline
from explorer.evidence.verifying import find_expected, verify
from explorer.images.registry import open_image
from tests.evidence.test_timeline import as_fls_writes, fls
from tests.trees import run_tool
from tests.volumes.truth import IMAGES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from explorer.kernel import Mount

FOLDER = IMAGES / "dfvfs"
SAME_TREE = [
    *("ext2.E01", "ext2.split.E01", "ext2.splitraw.000", "ext2.qcow2", "ext2.vhd", "ext2.vmdk"),
]


@pytest.fixture(autouse=True)
def present() -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"needs {FOLDER}")


@pytest.mark.parametrize("name", ["ext2.E01", "ext2.split.E01"])
def test_an_acquired_disk_is_what_its_digest_says(name: str) -> None:
    path = FOLDER / name
    with open_image(path) as image:
        (compared,) = verify(image, find_expected(image))
        disk = source_hash(image, ("md5", "sha256"), stored=False)[0]
    assert compared.matches
    assert compared.hashed[0].kind == "disk"
    said = run_tool("ewfverify", "-q", "-d", "sha256", path)
    assert re.findall(r"MD5 hash calculated over data:\s*(\w+)", said) == [
        disk.digests["md5"].hex()
    ]
    assert re.findall(r"SHA256 hash calculated over data:\s*(\w+)", said) == [
        disk.digests["sha256"].hex()
    ]
    assert re.findall(r"MD5:\s*(\w+)", run_tool("ewfinfo", path)) == [
        compared.expected.digest.hex()
    ]


def test_one_disk_in_several_files() -> None:
    """Cut into parts, and acquired: the disk has one digest, what it is stored in others."""
    digests = set()
    for name in ("ext2.E01", "ext2.split.E01", "ext2.splitraw.000", "ext2.qcow2"):
        with open_image(FOLDER / name) as image:
            *stored, disk = source_hash(image, ("sha256",))
        digests.add(disk.digests["sha256"])
        files = [one for one in stored if one.kind == "file"]
        for one in files:
            path = next(each for each in FOLDER.iterdir() if one.name.endswith(f"/{each.name}"))
            assert run_tool("sha256sum", path).split()[0] == one.digests["sha256"].hex()
        if name.startswith("ext2.splitraw"):
            assert [one.kind for one in stored] == ["file", "file", "parts"]
            parts = sorted(FOLDER.glob("ext2.splitraw.*"))
            whole = b"".join(path.read_bytes() for path in parts)
            done = subprocess.run(["sha256sum"], input=whole, capture_output=True, check=True)
            assert done.stdout.split()[0].decode() == stored[-1].digests["sha256"].hex()
    assert len(digests) == 1


@pytest.mark.parametrize("name", SAME_TREE)
def test_timelines_are_those_of_the_sleuth_kit(name: str, mount: Callable[[Path], Mount]) -> None:
    rows = list(timeline(mount(FOLDER / name)))
    assert not any(row.failures for row in rows)
    ours = as_fls_writes(b"".join(row.text for row in rows))
    # Of these formats it reads the first two and the parts; the disk is the same in all of them.
    theirs = fls(FOLDER / "ext2.E01")
    assert len(ours) > 3
    assert sorted(ours) == sorted(theirs)
