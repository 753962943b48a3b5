# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is recognised on a volume: beside the formats' own tools and beside blkid."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.core.messages import WHY
from explorer.images.registry import open_image
from explorer.volumes.options import attempts
from explorer.volumes.signatures import Recognised, iter_recognised, recognise
from explorer.volumes.window import Window
from tests.trees import find_tool, make_empty, run_tool
from tests.volumes.truth import RealImage, copy_of, real_images

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
UUID = "6b2f1e0a-5d43-4c11-9a54-1f7d50b1a0ff"

# Content, size in MiB, the tool and its options; label and UUID are what is asked for.
TOOLS: dict[str, tuple[str, int, tuple[str, ...], str, str]] = {
    "ext2": ("ext2", 8, ("mke2fs", "-qFt", "ext2", "-L", "a label", "-U", UUID), "a label", UUID),
    "ext3": ("ext3", 8, ("mke2fs", "-qFt", "ext3", "-L", "Größe", "-U", UUID), "Größe", UUID),
    "ext4": ("ext4", 8, ("mke2fs", "-qFt", "ext4", "-L", "sixteen letters!", "-U", UUID),
             "sixteen letters!", UUID),
    "xfs": ("xfs", 320, ("mkfs.xfs", "-q", "-L", "twelve bytes", "-m", f"uuid={UUID}"),
            "twelve bytes", UUID),
    "btrfs": ("btrfs", 128, ("mkfs.btrfs", "-q", "-L", "a label", "-U", UUID), "a label", UUID),
    "f2fs": ("f2fs", 64, ("mkfs.f2fs", "-q", "-l", "a label"), "a label", ""),
    "nilfs2": ("nilfs2", 160, ("mkfs.nilfs2", "-q", "-L", "a label"), "a label", ""),
    "jfs": ("jfs", 16, ("mkfs.jfs", "-q", "-L", "a label"), "a label", ""),
    "fat12": ("vfat", 2, ("mkfs.vfat", "-F", "12", "-n", "A LABEL", "-i", "12ab34cd"), "A LABEL",
              "12AB-34CD"),
    "fat16": ("vfat", 32, ("mkfs.vfat", "-F", "16", "-n", "A LABEL", "-i", "12ab34cd"), "A LABEL",
              "12AB-34CD"),
    "fat32": ("vfat", 64, ("mkfs.vfat", "-F", "32", "-n", "A LABEL", "-i", "12ab34cd"), "A LABEL",
              "12AB-34CD"),
    "exfat": ("exfat", 16, ("mkfs.exfat", "-L", "Größe"), "Größe", ""),
    "ntfs": ("ntfs", 16, ("mkntfs", "-qfF", "-L", "日本語"), "日本語", ""),
    "udf": ("udf", 16, ("mkfs.udf", "-l", "a label"), "a label", ""),
    "minix1": ("minix", 4, ("mkfs.minix", "-1"), "", ""),
    "minix3": ("minix", 4, ("mkfs.minix", "-3"), "", ""),
    "swap": ("swap", 4, ("mkswap", "-L", "a label", "-U", UUID), "a label", UUID),
    "bfs": ("bfs", 1, ("mkfs.bfs",), "", ""),
}  # fmt: skip

# Labels that are told otherwise than by blkid.
OTHER_LABELS = {
    "fat32_cp850_O_tilde": "blkid does not translate the code page",
    "gfs2": "refused, so not looked for",
    "hfsplus": "is in the catalogue, not in the superblock",
    "iso-unicode-long-label": "blkid puts one together from two descriptors",
    "mpool": "refused, so not looked for",
    "ocfs2": "refused, so not looked for",
    "udf-hdd-mkudffs-1.3-7": "has one for each size of block; Linux mounts the one of 512",
    "vmfs": "refused, so not looked for",
    "zfs": "refused, so not looked for",
}


def look(path: Path) -> Recognised | None:
    with open_image(path, "raw") as image:
        return recognise(Window(image.read, 0, image.size))


@pytest.mark.parametrize("name", TOOLS)
def test_what_a_tool_made(name: str, tmp_path: Path) -> None:
    content, size, (tool, *options), label, uuid = TOOLS[name]
    path = make_empty(tmp_path / "image", size * MIB)
    run_tool(tool, *options, path)
    found = look(path)
    assert found is not None
    assert (found.content, found.label) == (content, label)
    assert not uuid or found.uuid == uuid
    assert bool(found.types) == (not found.why)


@pytest.mark.parametrize(
    "real",
    [real for real in real_images() if real.file.parent.name == "blkid"],
    ids=lambda real: str(real.name),
)
def test_beside_blkid(real: RealImage, tmp_path: Path) -> None:
    path = copy_of(real, tmp_path)
    done = subprocess.run(
        [find_tool("blkid"), "-p", "-o", "udev", path], capture_output=True, text=True, check=False
    )
    known = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    found = look(path)
    wanted = known.get("ID_FS_TYPE", "")
    if wanted:
        assert found is not None
        assert found.content == wanted
        encoded = known.get("ID_FS_LABEL_ENC", "").encode()
        label = encoded.decode("unicode_escape").encode("latin-1").decode("utf-8", "replace")
        if real.file.name.removesuffix(".img.xz") in OTHER_LABELS:
            assert found.label != label
        else:
            assert found.label == label.strip()
        assert found.uuid in (known.get("ID_FS_UUID", ""), "")


MAGICS = (
    (0, b"XFSB"), (0, b"hsqs"), (0, b"-rom1fs-"), (0, b"DOS\0"), (3, b"NTFS    "), (3, b"EXFAT   "),
    (0x410, b"\x7f\x13"), (0x438, b"\x53\xef"), (0x400, b"BD"), (0x400, b"H+"), (0x406, b"44"),
    (0x1018, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")), (0, b"LUKS\xba\xbe\0\2"),
    (0x2000, b"\x49\xe8\x95\xf9\xc5\xe9\x53\xfa"), (510, b"\x55\xaa"), (0, b"LABELONE"),
    (24, b"LVM2 001"), (0x8001, b"CD001"), (0x8801, b"NSR02"), (0x8001, b"BEA01"),
    (272, b"\xc2\x99\x3d\x87"), (0x400, b"\xf5\xfc\x01\xa5"), (8192 + 1372, b"\x19\x01\x54\x19"),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(MAGICS), max_size=3),
    st.lists(st.tuples(st.integers(0, 70_000), st.binary(min_size=1, max_size=64)), max_size=8),
    st.integers(0, 140_000),
)
def test_no_bytes_make_a_probe_fail(
    magics: list[tuple[int, bytes]], noise: list[tuple[int, bytes]], size: int
) -> None:
    data = bytearray(140_000)
    for offset, some in (*noise, *magics):
        data[offset : offset + len(some)] = some

    def read(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert offset + length <= size
        return bytes(data[offset : offset + length])

    for found in iter_recognised(Window(read, 0, size)):
        assert bool(found.types) == (not found.why)
        assert found.why in WHY or not found.why
        assert found.label.isprintable() or not found.label.isascii()
        for kind in found.types:
            assert attempts(kind, found.variant)


def test_an_lvm_uuid_is_safe_to_show() -> None:
    content = bytearray(1024)
    content[:32] = b"LABELONE".ljust(20, b"\0") + (32).to_bytes(4, "little") + b"LVM2 001"
    content[32:64] = b"\x1b[31m\x07".ljust(32, b"\xff")
    found = recognise(Window(lambda offset, length: bytes(content[offset:][:length]), 0, 1024))
    assert found is not None
    assert found.content == "LVM2_member"
    assert found.uuid.isprintable()


def test_zeros_are_nothing() -> None:
    assert recognise(Window(lambda _offset, length: bytes(length), 0, 10 * MIB)) is None
