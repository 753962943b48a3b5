# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What file systems tell of themselves: their features, and whether they were closed cleanly.

Names of features are those that each file system's own tools use; where a bit has no name here,
its number is shown. The layouts are from the headers of the Linux source, named at each function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.core.times import iso_time
from explorer.volumes.signatures import FAT16_CLUSTERS, fat_geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from explorer.images.base import Fact
    from explorer.volumes.window import Window

Facts = dict[str, "Fact"]

CLEAN = "clean"
DIRTY = "dirty: it was not closed cleanly"
DIRTY_JOURNAL = "dirty: its journal has to be replayed"
ERRORS = "errors were found in it"


def _names(value: int, known: Mapping[int, str]) -> list[str]:
    """The names of the bits that are set."""
    bits = [1 << number for number in range(value.bit_length()) if value >> number & 1]
    return [known.get(bit, f"{bit:#x}") for bit in bits]


def _time(seconds: int) -> str:
    return iso_time(seconds * 10**9) if seconds else "never"


# ---- ext2, ext3, ext4: Documentation/filesystems/ext4/super.rst ----------------------------------

_EXT_COMPAT = {
    0x1: "dir_prealloc", 0x2: "imagic_inodes", 0x4: "has_journal", 0x8: "ext_attr",
    0x10: "resize_inode", 0x20: "dir_index", 0x40: "lazy_bg", 0x100: "snapshot_bitmap",
    0x200: "sparse_super2", 0x400: "fast_commit", 0x800: "stable_inodes", 0x1000: "orphan_file",
}  # fmt: skip
_EXT_INCOMPAT = {
    0x1: "compression", 0x2: "filetype", 0x4: "needs_recovery", 0x8: "journal_dev",
    0x10: "meta_bg", 0x40: "extent", 0x80: "64bit", 0x100: "mmp", 0x200: "flex_bg",
    0x400: "ea_inode", 0x1000: "dirdata", 0x2000: "metadata_csum_seed", 0x4000: "large_dir",
    0x8000: "inline_data", 0x10000: "encrypt", 0x20000: "casefold",
}  # fmt: skip
_EXT_RO_COMPAT = {
    0x1: "sparse_super", 0x2: "large_file", 0x8: "huge_file", 0x10: "uninit_bg",
    0x20: "dir_nlink", 0x40: "extra_isize", 0x80: "snapshot", 0x100: "quota", 0x200: "bigalloc",
    0x400: "metadata_csum", 0x800: "replica", 0x1000: "read-only", 0x2000: "project",
    0x4000: "shared_blocks", 0x8000: "verity", 0x10000: "orphan_present",
}  # fmt: skip


def _ext(volume: Window) -> Facts:
    at = 0x400
    incompat, state = volume.le(at + 0x60, 4), volume.le(at + 0x3A, 2)
    if incompat & 0x4:
        closed = DIRTY_JOURNAL
    elif state & 0x2:
        closed = ERRORS
    else:
        closed = CLEAN if state & 0x1 else DIRTY
    return {
        "state": closed,
        "features": [
            *_names(volume.le(at + 0x5C, 4), _EXT_COMPAT),
            *_names(incompat, _EXT_INCOMPAT),
            *_names(volume.le(at + 0x64, 4), _EXT_RO_COMPAT),
        ],
        "block size": 1024 << min(volume.le(at + 0x18, 4), 20),
        "last mounted on": volume.text(at + 0x88, 64) or "unknown",
        "last mounted": _time(volume.le(at + 0x2C, 4) | volume.le(at + 0x275, 1) << 32),
        "last written": _time(volume.le(at + 0x30, 4) | volume.le(at + 0x274, 1) << 32),
    }


# ---- XFS: fs/xfs/libxfs/xfs_format.h (struct xfs_dsb), xfs_log_format.h --------------------------

_XFS_VERSION = {
    0x10: "attr", 0x20: "nlink", 0x40: "quota", 0x80: "align", 0x100: "dalign", 0x200: "shared",
    0x400: "logv2", 0x800: "sector", 0x1000: "extflg", 0x2000: "dirv2", 0x4000: "borg",
    0x8000: "morebits",
}  # fmt: skip
_XFS_FEATURES2 = {
    0x2: "lazysbcount", 0x8: "attr2", 0x10: "parent", 0x80: "projid32bit", 0x100: "crc",
    0x200: "ftype",
}  # fmt: skip
_XFS_RO_COMPAT = {0x1: "finobt", 0x2: "rmapbt", 0x4: "reflink", 0x8: "inobtcount"}
_XFS_INCOMPAT = {
    0x1: "ftype", 0x2: "sparse", 0x4: "meta_uuid", 0x8: "bigtime", 0x10: "needsrepair",
    0x20: "nrext64", 0x40: "exchange", 0x80: "parent",
}  # fmt: skip


def _xfs(volume: Window) -> Facts:
    version = volume.be(100, 2)
    features = _names(version & 0xFFF0, _XFS_VERSION) + _names(volume.be(200, 4), _XFS_FEATURES2)
    if version & 0xF == 5:
        features += _names(volume.be(212, 4), _XFS_RO_COMPAT)
        features += _names(volume.be(216, 4), _XFS_INCOMPAT)
    return {
        "state": _xfs_state(volume),
        "version": version & 0xF,
        "features": list(dict.fromkeys(features)),
        "block size": volume.be(4, 4),
        "sector size": volume.be(102, 2),
    }


def _xfs_state(volume: Window) -> str:
    """Whether the log ends with the record that unmounting writes."""
    block, start = volume.be(4, 4), volume.be(48, 8)
    per_group, group_bits = volume.be(84, 4), volume.be(124, 1)
    sectors = volume.be(96, 4) * block // 512
    if not start or not per_group or not sectors or group_bits > 31:
        return "its journal is on another device"
    group, within = start >> group_bits, start & (1 << group_bits) - 1
    log = (group * per_group + within) * block

    def cycle(sector: int) -> int:
        at = log + sector * 512
        # A record's header has its magic first; all other sectors begin with their cycle.
        return volume.be(at + 4 if volume.has(at, b"\xfe\xed\xba\xbe") else at, 4)

    # The sectors before the head are of this round through the log, those after it of the last.
    first, low, high = cycle(0), 0, sectors
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if cycle(middle) == first else (low, middle)
    head = high
    # One operation, in the sector after its header: its flags tell.
    header = log + (head - 2) * 512
    if not volume.has(header, b"\xfe\xed\xba\xbe") or volume.be(header + 40, 4) != 1:
        return DIRTY_JOURNAL
    return CLEAN if volume.be(header + 512 + 9, 1) & 0x20 else DIRTY_JOURNAL


# ---- Btrfs: include/uapi/linux/btrfs_tree.h (struct btrfs_super_block) ---------------------------

_BTRFS_INCOMPAT = {
    0x1: "mixed-backref", 0x2: "default-subvol", 0x4: "mixed-groups", 0x8: "compress-lzo",
    0x10: "compress-zstd", 0x20: "big-metadata", 0x40: "extended-iref", 0x80: "raid56",
    0x100: "skinny-metadata", 0x200: "no-holes", 0x400: "metadata-uuid", 0x800: "raid1c34",
    0x1000: "zoned", 0x2000: "extent-tree-v2", 0x4000: "raid-stripe-tree", 0x10000: "simple-quota",
}  # fmt: skip
_BTRFS_RO_COMPAT = {
    0x1: "free-space-tree", 0x2: "free-space-tree-valid", 0x4: "verity", 0x8: "block-group-tree",
}  # fmt: skip
_BTRFS_SUMS = {0: "crc32c", 1: "xxhash64", 2: "sha256", 3: "blake2"}


def _btrfs(volume: Window) -> Facts:
    at = 0x10000
    checksum = volume.le(at + 0xC4, 2)
    return {
        # All else is written so that the last state is always whole.
        "state": DIRTY_JOURNAL if volume.le(at + 0x60, 8) else CLEAN,
        "features": [
            *_names(volume.le(at + 0xBC, 8), _BTRFS_INCOMPAT),
            *_names(volume.le(at + 0xB4, 8), _BTRFS_RO_COMPAT),
        ],
        "checksums": _BTRFS_SUMS.get(checksum, str(checksum)),
        "devices": volume.le(at + 0x88, 8),
        "sector size": volume.le(at + 0x90, 4),
        "node size": volume.le(at + 0x94, 4),
        "generation": volume.le(at + 0x48, 8),
    }


# ---- F2FS: include/linux/f2fs_fs.h (struct f2fs_super_block, struct f2fs_checkpoint) -------------

_F2FS = {
    0x1: "encrypt", 0x2: "blkzoned", 0x4: "atomic_write", 0x8: "extra_attr", 0x10: "project_quota",
    0x20: "inode_checksum", 0x40: "flexible_inline_xattr", 0x80: "quota_ino", 0x100: "inode_crtime",
    0x200: "lost_found", 0x400: "verity", 0x800: "sb_checksum", 0x1000: "casefold",
    0x2000: "compression", 0x4000: "readonly",
}  # fmt: skip


def _f2fs(volume: Window) -> Facts:
    at = 0x400 if volume.has(0x400, b"\x10\x20\xf5\xf2") else 0x1400
    block = 1 << min(volume.le(at + 16, 4), 16)
    segment = 1 << min(volume.le(at + 20, 4), 16)
    first = volume.le(at + 0x4C, 4) * block
    # Two packs, of which the one with the higher version counts.
    pack = max((first, first + segment * block), key=lambda start: volume.le(start, 8))
    flags = volume.le(pack + 132, 4)
    return {
        "state": CLEAN if flags & 0x1 else DIRTY_JOURNAL,
        "features": _names(volume.le(at + 0x884, 4), _F2FS),
        "block size": block,
    }


# ---- Others --------------------------------------------------------------------------------------


def _jfs(volume: Window) -> Facts:
    # fs/jfs/jfs_superblock.h; Linux leaves the log to jfs_fsck, and shows what is stored
    state = volume.le(0x8000 + 40, 4)
    return {
        "state": CLEAN if not state else f"{DIRTY}; Linux does not replay its journal",
        "version": volume.le(0x8004, 4),
        "block size": volume.le(0x8010, 4),
    }


def _reiserfs(volume: Window) -> Facts:
    # fs/reiserfs/reiserfs.h (struct reiserfs_super_block_v1)
    at = 0x10000 if volume.at(0x10000 + 52, 7) in (b"ReIsEr2", b"ReIsEr3", b"ReIsErF") else 0x2000
    return {
        "state": CLEAN if volume.le(at + 50, 2) == 1 else DIRTY,
        "version": {0: "3.5", 2: "3.6"}.get(volume.le(at + 72, 2), "unknown"),
        "block size": volume.le(at + 44, 2),
    }


def _nilfs2(volume: Window) -> Facts:
    # include/uapi/linux/nilfs2_ondisk.h
    state = volume.le(0x400 + 116, 2)
    return {
        "state": ERRORS if state & 0x2 else CLEAN if state & 0x1 else DIRTY_JOURNAL,
        "block size": 1024 << min(volume.le(0x400 + 20, 4), 6),
        "last checkpoint": volume.le(0x400 + 56, 8),
    }


def _fat(volume: Window) -> Facts:
    # Microsoft's "FAT: General Overview of On-Disk Format": the second entry of the table; and the
    # byte of the boot sector where Linux and Windows note it, too.
    geometry = fat_geometry(volume)
    if geometry is None:
        return {}
    sector, _table, clusters = geometry
    table = volume.le(14, 2) * sector
    if volume.le(22, 2) == 0:
        mark, noted = volume.le(table + 4, 4) & 0x0800_0000, volume.le(0x41, 1) & 1
    elif clusters >= FAT16_CLUSTERS:
        mark, noted = volume.le(table + 2, 2) & 0x8000, volume.le(0x25, 1) & 1
    else:
        # FAT12 has no room for a mark.
        mark, noted = 1, volume.le(0x25, 1) & 1
    return {
        "state": CLEAN if mark and not noted else DIRTY,
        "sector size": sector,
        "cluster size": sector * volume.le(13, 1),
    }


def _exfat(volume: Window) -> Facts:
    # Microsoft's "exFAT file system specification", section 3.1.13
    flags = volume.le(106, 2)
    sector = 1 << min(volume.le(108, 1), 12)
    return {
        "state": DIRTY if flags & 0x2 else ERRORS if flags & 0x4 else CLEAN,
        "sector size": sector,
        "cluster size": sector << min(volume.le(109, 1), 25),
    }


def _ntfs(volume: Window) -> Facts:
    # fs/ntfs3/ntfs.h (struct NTFS_BOOT, struct MFT_REC, struct VOLUME_INFO)
    sector, per_cluster = volume.le(11, 2), volume.le(13, 1)
    cluster = sector * (per_cluster if per_cluster <= 128 else 1 << min(256 - per_cluster, 20))
    size = volume.le(64, 1)
    record = 1 << min(256 - size, 16) if size > 127 else size * cluster
    facts: Facts = {"state": "unknown", "cluster size": cluster, "record size": record}
    # Record 3 is $Volume; 0x70 is $VOLUME_INFORMATION, which is resident.
    table = volume.le(48, 8) * cluster
    start = table + 3 * record
    at = start + volume.le(start + 20, 2)
    while volume.has(start, b"FILE") and at < start + min(record, 65536):
        kind, length = volume.le(at, 4), volume.le(at + 4, 4)
        if kind == 0x70:
            value = at + volume.le(at + 20, 2)
            facts["state"] = DIRTY if volume.le(value + 10, 2) & 0x1 else CLEAN
            if _ntfs_log_is_open(volume, table + 2 * record, record, cluster):
                facts["state"] = DIRTY_JOURNAL
            facts["version"] = f"{volume.le(value + 8, 1)}.{volume.le(value + 9, 1)}"
        if kind >= 0x70 or length < 24:
            break
        at += length
    return facts


def _ntfs_log_is_open(volume: Window, start: int, record: int, cluster: int) -> bool:
    """Whether $LogFile, the record at ``start``, has a client that did not close it."""
    # fs/ntfs3/fslog.c (struct RESTART_HDR, struct RESTART_AREA); 0x80 is $DATA, the first of whose
    # runs has both restart pages.
    at = start + volume.le(start + 20, 2)
    while volume.le(at, 4) != 0x80:
        length = volume.le(at + 4, 4)
        if length < 24 or at + length >= start + min(record, 65536):
            return False
        at += length
    runs = at + volume.le(at + 32, 2)
    for_count, for_first = volume.le(runs, 1) & 0xF, volume.le(runs, 1) >> 4
    log = volume.le(runs + 1 + for_count, for_first) * cluster if for_first else 0
    newest, is_open = 0, False
    for page in (log, log + min(volume.le(log + 16, 4), 65536)):
        area = page + volume.le(page + 24, 2)
        if volume.has(page, b"RSTR") and volume.le(area, 8) > newest:
            newest = volume.le(area, 8)
            # No client, or one that left it in order.
            is_open = volume.le(area + 12, 2) != 0xFFFF and not volume.le(area + 14, 2) & 0x2
    return is_open


def _hfsplus(volume: Window) -> Facts:
    # Apple's Technical Note TN1150, "Volume Attributes"
    if not volume.has(0x400, b"H+") and not volume.has(0x400, b"HX"):
        return {}
    attributes = volume.be(0x404, 4)
    journaled = bool(attributes & 0x2000)
    unclean = not attributes & 0x100 or bool(attributes & 0x800)
    return {
        "state": (DIRTY_JOURNAL if journaled else DIRTY) if unclean else CLEAN,
        "features": [
            name
            for name, there in (
                ("journaled", journaled),
                ("case-sensitive", volume.has(0x400, b"HX")),
            )
            if there
        ],
        "block size": volume.be(0x428, 4),
    }


def _hfs(volume: Window) -> Facts:
    # fs/hfs/hfs.h (struct hfs_mdb): drAtrb
    return {"state": CLEAN if volume.be(0x40A, 2) & 0x100 else DIRTY}


_SQUASHFS_COMPRESSIONS = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}


def _squashfs(volume: Window) -> Facts:
    # fs/squashfs/squashfs_fs.h
    compression = volume.le(20, 2)
    return {
        "compression": _SQUASHFS_COMPRESSIONS.get(compression, str(compression)),
        "block size": volume.le(12, 4),
        "made": _time(volume.le(8, 4)),
    }


_EROFS_INCOMPAT = {
    0x1: "zero_padding", 0x2: "compr_cfgs", 0x4: "chunked_file", 0x8: "device_table",
    0x10: "ztailpacking", 0x20: "fragments", 0x40: "xattr_prefixes",
}  # fmt: skip
_EROFS_COMPAT = {0x1: "sb_chksum", 0x2: "mtime", 0x4: "xattr_filter"}
_EROFS_ALGORITHMS = {0x1: "lz4", 0x2: "lzma", 0x4: "deflate", 0x8: "zstd"}


def _erofs(volume: Window) -> Facts:
    # fs/erofs/erofs_fs.h (struct erofs_super_block)
    incompat = volume.le(0x450, 4)
    return {
        "features": [
            *_names(volume.le(0x408, 4), _EROFS_COMPAT), *_names(incompat, _EROFS_INCOMPAT),
        ],
        "compression": _names(volume.le(0x454, 2), _EROFS_ALGORITHMS) if incompat & 0x2 else [],
        "block size": 1 << min(volume.le(0x40C, 1), 16),
    }  # fmt: skip


_DESCRIBERS: dict[str, Callable[[Window], Facts]] = {
    "ext2": _ext,
    "ext3": _ext,
    "ext4": _ext,
    "jbd": _ext,
    "xfs": _xfs,
    "btrfs": _btrfs,
    "f2fs": _f2fs,
    "jfs": _jfs,
    "reiserfs": _reiserfs,
    "nilfs2": _nilfs2,
    "vfat": _fat,
    "exfat": _exfat,
    "ntfs": _ntfs,
    "hfs": _hfs,
    "hfsplus": _hfsplus,
    "squashfs": _squashfs,
    "erofs": _erofs,
}


def describe_content(volume: Window, content: str) -> Facts:
    """Facts about what was recognised on a volume, in the order to show them."""
    describe = _DESCRIBERS.get(content)
    return {} if describe is None else describe(volume)


def has_to_replay(facts: Facts) -> bool:
    """Whether these facts say that there is something in the file system's journal."""
    return facts.get("state") == DIRTY_JOURNAL


def is_clean(facts: Facts) -> bool:
    """Whether these facts do not say that the file system was left open."""
    return not str(facts.get("state", CLEAN)).startswith("dirty")
