# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Real images of other projects, each beside what Linux 6.1 found in it.

Most of them are damaged on purpose. Ours must never read less; where it reads more, or where a
newer Linux refuses what an older one let pass, it is said here.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import pytest

from explorer.core.errors import ImageError, MissingPart, UnsupportedFeature, VolumeError
from explorer.core.messages import describe
from explorer.images.opening import Choices
from explorer.images.registry import open_image
from explorer.volumes import Stack
from tests.volumes.truth import Found, RealImage, copy_of, list_volume, real_images

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _pytest.mark import ParameterSet

    from explorer.core.volume import Volume
    from explorer.kernel import Kernel

# The other list ends after so many entries.
LIMIT = 20_000

ENCRYPTED = "6.1 was built without fs-crypt; ours shows encrypted names and refuses the content"
STORED = "the journal cannot be replayed, so it is shown as stored, which 6.1 was not asked to do"
NEWER_CHECKS = "Linux 6.12 checks more than 6.1 did, and refuses"
OLD_DRIVER = "read in 6.1 by the old ext2 driver, which checks nothing"
NOW = "the file system sets it to the time of the mount, when it deletes an orphan's blocks"

# Compressed images up to this size are read where they lie; larger ones are unpacked first.
IN_PLACE = 64 << 20

# What is not opened as it lies there, and the words that say why.
REFUSED: dict[str, tuple[type[ImageError], str]] = {
    "dfvfs/ext2.splitraw.001": (UnsupportedFeature, "open ext2.splitraw.000 instead"),
    "dfvfs/fat-differential.vhd": (MissingPart, "parent ./fat-parent.vhd is missing"),
    # The parent has another name here; see below.
    "dfvfs/image-differential.vhd": (MissingPart, "parent image.vhd is missing"),
    "e2fsprogs/j_corrupt_ext_jnl_sb_block-image.tar.bz2": (UnsupportedFeature, "a tar archive"),
    "e2fsprogs/j_corrupt_ext_jnl_sb_csum-image.tar.bz2": (UnsupportedFeature, "a tar archive"),
}

FORMATS = {
    ".000": "split",
    ".E01": "ewf",
    ".E02": "ewf",
    ".bz2": "bzip2",
    ".dmg": "dmg",
    ".gz": "gzip",
    ".qcow2": "qcow2",
    ".vhd": "vhd",
    ".vmdk": "vmdk",
    ".xz": "xz",
}
"""By the ending of the file's name, where that is not raw."""

COMPRESSED = ("bzip2", "gzip", "xz")

# Mounted here, refused by the other.
READS_MORE = {
    **{
        f"btrfs-progs/034-metadata-uuid-disk{number}.raw.xz": "6.1 was not asked to do without "
        "the other device"
        for number in (2, 3, 5, 7)
    },
    "dfvfs/ext2.splitraw.000": "6.1 was given the first of its parts alone",
    "blkid/hfsplus.img.xz": "6.1 had no utf8 character set",
    "e2fsprogs/f_bad_fname-image.gz": "6.1 was built without Unicode's case folding",
    "e2fsprogs/f_ea_inode_spurious_flag_dir-image": "6.12 no longer minds the flag",
    "e2fsprogs/f_ext_journal-image.gz": STORED,
    "e2fsprogs/f_jnl_etb_alloc_fail-image.gz": STORED,
    "e2fsprogs/j_corrupt_commit_csum-image.gz": STORED,
    "e2fsprogs/j_corrupt_descr_csum-image.gz": STORED,
    "e2fsprogs/j_corrupt_journal_block-image.gz": STORED,
    "e2fsprogs/j_corrupt_revoke_rcount-image.gz": STORED,
    "e2fsprogs/j_corrupt_sb_csum-image.gz": STORED,
    "e2fsprogs/j_corrupt_sb_magic-image.gz": STORED,
    "e2fsprogs/j_recover_fast_commit-image.gz": "6.12 replays more kinds of fast commits",
}

# Refused here, mounted by the other.
READS_LESS = {
    "btrfs-progs/060-ino-cache-clean-ino-cache-enabled.raw.xz": NEWER_CHECKS,
    "e2fsprogs/f_crashdisk-image.gz": OLD_DRIVER,
    "e2fsprogs/f_miss_blk_bmap-image.gz": OLD_DRIVER,
    "e2fsprogs/f_overfsblks-image.gz": OLD_DRIVER,
}

# Entries that differ, by image and pattern of their paths.
DIFFERENT: dict[str, dict[str, str]] = {
    "dfvfs/hfsplus.raw": {"*": "6.12 lists the names of HFS+'s attributes without their last byte"},
    "e2fsprogs/f_badinode-image.gz": {"./motd": OLD_DRIVER},
    "e2fsprogs/f_badsymlinks-image.gz": {"./*link*": OLD_DRIVER},
    "e2fsprogs/f_badsymlinks2-image.gz": {"*encrypted/*": ENCRYPTED},
    "e2fsprogs/f_dupfsblks-image.gz": {"./*": OLD_DRIVER},
    "e2fsprogs/f_dupsuper-image.gz": {"./termcap": OLD_DRIVER},
    "e2fsprogs/f_ea_inode-image.gz": {"./out-of-range": NEWER_CHECKS},
    "e2fsprogs/f_ea_inode_disconnected-image": {
        "./lost+found/#13": "what is listed is this image after the repair"
    },
    "e2fsprogs/f_ea_inode_no_feature-image.gz": {"./xfile": NEWER_CHECKS},
    "e2fsprogs/f_filetype-image.gz": {"./symlink": OLD_DRIVER},
    "e2fsprogs/f_holedir-image.gz": {"./lost+found": OLD_DRIVER},
    "e2fsprogs/f_orphan_extents_inode-image.gz": {"./a": NOW},
    "e2fsprogs/f_orphan_indirect_inode-image.gz": {"./a": NOW},
}


def differences(ours: dict[str, str], found: Found) -> dict[str, str]:
    """Paths where we read less than, or otherwise than, Linux did; with what is different."""
    theirs = found.entries
    limited = sum(not path.startswith("!") for path in theirs) >= LIMIT
    wrong = {}
    for path in sorted({*ours, *theirs}):
        mine, other = ours.get(path), theirs.get(path)
        # Errors: the other tells of folders only; what it read nevertheless differs below.
        if mine == other or path.startswith("!"):
            continue
        if other is None:
            if not limited and not unreadable_above(path, theirs):
                wrong[path] = f"only ours: {mine}"
        elif mine is None:
            wrong[path] = f"not found: {other} ({ours.get('!' + path, 'not listed')})"
        elif not alike(mine.split(" "), other.split(" ")):
            wrong[path] = f"{mine}\n    instead of {other}"
    return wrong


def unreadable_above(path: str, entries: dict[str, str]) -> bool:
    """Whether one of the folders above could not be read."""
    parts = path.split("/")
    return any("!" + "/".join(parts[:end]) in entries for end in range(1, len(parts)))


def alike(mine: list[str], other: list[str]) -> bool:
    """Whether two lines say the same, so far as the other was asked."""
    *facts, my_time, my_content, my_extra = mine
    *their_facts, their_time, their_content, their_extra = other
    # It prints seconds as 32 bits without a sign.
    if facts != their_facts or (int(my_time) - int(their_time)) % 2**32:
        return False
    unread = their_content.startswith(("read:", "open:", "first64M:"))
    if my_content != their_content and not unread:
        return False
    # It looks for attributes of files and folders only, not with its old drivers, and says nothing
    # of failures.
    return my_extra == their_extra or their_extra == "-" or my_extra.startswith("xattr:")


def with_marks(real: RealImage) -> ParameterSet:
    """An image as a parameter that tells what it proves."""
    name = FORMATS.get(real.file.suffix, "raw")
    marks = [] if real.name in REFUSED else [pytest.mark.proves("format", name, "real images")]
    return pytest.param(real, marks=marks, id=real.name)


REAL = [real for real in real_images() if real.name not in REFUSED]


@pytest.mark.parametrize("real", [with_marks(real) for real in REAL])
def test_real_image(
    real: RealImage,
    tmp_path: Path,
    kernel: Kernel,
    unchanged: Callable[[Path], Path],
) -> None:
    wanted = FORMATS.get(real.file.suffix, "raw")
    choices = Choices(cache_folder=tmp_path / "cache")
    path = real.file
    if wanted in COMPRESSED:
        # How much it is, without a look at what it is.
        with open_image(path, wanted) as image:
            size = image.size
        if size > IN_PLACE:
            path = copy_of(real, tmp_path)
            assert path.stat().st_size == size
            wanted = "raw"
    with open_image(unchanged(path), choices=choices) as image, Stack(kernel, [image]) as disk:
        assert image.format == wanted
        partitions = real.partitions()
        if partitions is not None:
            ours = [
                (one.number, one.start // 512, one.size // 512)
                for one in disk.disks[0].partitions()
            ]
            assert ours == sorted(partitions)
        for volume in disk.volumes():
            check_volume(real, disk, volume)


@pytest.mark.parametrize("name", REFUSED)
def test_real_image_that_is_refused(name: str) -> None:
    real = next((real for real in real_images() if real.name == name), None)
    if real is None:
        pytest.skip("the real images are not here")
    kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        open_image(real.file)
    assert words in describe(caught.value)


# ---- Beside other readers ----------------------------------------------------------------------

CONTAINERS = [
    real for real in REAL if FORMATS.get(real.file.suffix, "raw") not in ("raw", *COMPRESSED)
]


def check_other_readers(real: RealImage, disk: Stack) -> None:
    """The files of the only volume are those that 7-Zip and the Sleuth Kit found."""
    (volume,) = [volume for volume in disk.volumes() if volume.mountable]
    with disk.mount(volume) as mounted:
        ours = {path[2:]: line.split(" ") for path, line in list_volume(mounted.mount).items()}
    assert not [path for path in ours if path.startswith("!")]
    packed, listed = real.seven_zip(), real.sleuth_kit()
    assert packed or listed
    files = {path: line for path, line in ours.items() if line[0] == "f"}
    if packed is not None:
        found = {}
        for path, (size, digest) in packed.items():
            # The file system's own files, streams beside a file's content, and a DMG's folder.
            path = path.removeprefix("hfsplus_test/")
            if not path.startswith("[SYSTEM]/") and ":" not in path:
                found[path] = str(size), digest
        for path, line in files.items():
            if path in found or not path.startswith("."):
                assert (line[5], line[7]) == found.pop(path), path
        # Links it shows as empty files.
        assert all(ours[path][0] == "l" for path in found)
    if listed is not None:
        assert {path: line[0] for path, line in ours.items() if path} == listed


@pytest.mark.parametrize("real", CONTAINERS, ids=lambda real: str(real.name))
def test_real_container_beside_other_readers(
    real: RealImage, kernel: Kernel, unchanged: Callable[[Path], Path]
) -> None:
    with open_image(unchanged(real.file)) as image, Stack(kernel, [image]) as disk:
        check_other_readers(real, disk)


@pytest.mark.proves("format", "vhd", "real images")
def test_real_differencing_image(tmp_path: Path, kernel: Kernel) -> None:
    # Its parent under the name that the image knows it by.
    names = {"image-differential.vhd": "", "test_data-image.vhd": "image.vhd"}
    found = {real.file.name: real for real in real_images() if real.file.name in names}
    if not found:
        pytest.skip("the real images are not here")
    for name, other in names.items():
        (tmp_path / (other or name)).symlink_to(found[name].file)
    choices = Choices(allowed=(os.fsencode(found["test_data-image.vhd"].file.parent),))
    child = tmp_path / "image-differential.vhd"
    with open_image(child, choices=choices) as image, Stack(kernel, [image]) as disk:
        assert image.parent is not None
        check_other_readers(found["image-differential.vhd"], disk)


# ---- Beside Linux 6.1 --------------------------------------------------------------------------


def check_volume(real: RealImage, disk: Stack, volume: Volume) -> None:
    """Mount a volume, and compare what is in it."""
    found = real.found(volume.number)
    refusal: VolumeError | None = None
    try:
        with disk.mount(volume) as mounted:
            ours = list_volume(mounted.mount)
    except VolumeError as error:
        refusal, ours = error, {}
    if refusal is not None:
        assert len(describe(refusal).splitlines()) == 1
        expected = found is None or not found.mounted or real.name in READS_LESS
        assert expected, describe(refusal)
        return
    assert real.name not in READS_LESS
    if found is None:
        return
    assert found.mounted or real.name in READS_MORE
    if found.mounted:
        wrong = differences(ours, found)
        known = DIFFERENT.get(real.name, {})
        unknown = [
            f"{path}: {text}"
            for path, text in wrong.items()
            if not any(fnmatchcase(path, pattern) for pattern in known)
        ]
        assert not unknown, "\n".join(unknown[:20])
        gone = [pattern for pattern in known if not any(fnmatchcase(p, pattern) for p in wrong)]
        assert not gone, f"not different any more: {gone}"
