# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is on a volume, told by the magic numbers of the on-disk formats.

Each probe looks for one format and names it; the names are those of ``lsblk -f``. Where it costs
a read or two, it brings label and UUID along. A format that Linux cannot mount, or not by itself,
is recognised as well, to be refused by its name.

The layouts are from the formats' own descriptions, named at each probe: mostly the headers and
``Documentation/filesystems`` of the Linux source, given here as their paths.
"""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, NamedTuple

from explorer.core.errors import ExplorerError
from explorer.volumes.window import show_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from explorer.volumes.window import Window

# Why a format is recognised but not mounted; explorer.core.messages has the texts.
ENCRYPTED = "encrypted"
GROUP = "group"
ARRAY = "array"
NO_DRIVER = "no-driver"
NOT_FILES = "not-files"
FLASH = "flash"
OLD_VERSION = "old-version"
BYTE_ORDER = "byte-order"
DAMAGED = "damaged"


class Recognised(NamedTuple):
    """What a volume holds."""

    content: str
    """Short name, as ``lsblk -f`` has it."""
    title: str
    """Name for people."""
    types: tuple[str, ...] = ()
    """The kernel's file systems that may mount it, best first; none: it is refused."""
    why: str = ""
    """Why it is refused."""
    label: str = ""
    uuid: str = ""
    variant: str = ""
    """What the mount options depend on beyond the type."""


# ---- What wraps a file system: looked for first, for what is inside may show -----------------


def _luks(volume: Window) -> Recognised | None:
    # LUKS1 and LUKS2 on-disk format specifications; version 2 has a second header, in one of nine
    # places, for when the first is overwritten.
    seconds = tuple(0x4000 << power for power in range(9))
    for offset in (0, *seconds):
        if volume.has(offset, b"SKUL\xba\xbe" if offset else b"LUKS\xba\xbe"):
            two = volume.be(offset + 6, 2) == 2
            return Recognised(
                "crypto_LUKS",
                "LUKS encrypted volume",
                why=ENCRYPTED,
                label=volume.text(offset + 24, 48) if two else "",
                uuid=volume.text(offset + 168, 40),
            )
    return None


def _bitlocker(volume: Window) -> Recognised | None:
    # libbde's documentation of the format: the volume header's file system signature.
    if volume.has(3, b"-FVE-FS-") or volume.at(424, 4) == b"\x3b\xd6\x67\x49":
        return Recognised("BitLocker", "BitLocker encrypted volume", why=ENCRYPTED)
    return None


def _lvm(volume: Window) -> Recognised | None:
    # LVM2's label_header and pv_header (lib/label/label.h, lib/format_text/layout.h): in one of
    # the first four sectors.
    for sector in range(4):
        start = sector * 512
        if volume.has(start, b"LABELONE") and volume.has(start + 24, b"LVM2 001"):
            name = volume.text(start + volume.le(start + 20, 4), 32)
            cuts = (0, 6, 10, 14, 18, 22, 26, 32)
            uuid = "-".join(name[a:b] for a, b in itertools.pairwise(cuts))
            return Recognised("LVM2_member", "LVM physical volume", why=GROUP, uuid=uuid)
    return None


def _md_raid(volume: Window) -> Recognised | None:
    # include/uapi/linux/raid/md_p.h: 1.1 at the start, 1.2 at 4 KiB, 1.0 8 KiB or more before
    # the end; 0.90 in the last aligned 64 KiB, in the byte order of the machine that made it.
    ends = ((volume.size // 512 - 16) // 8 * 8 * 512, 0, 4096)
    for start in ends:
        if (
            start >= 0
            and volume.has(start, b"\xfc\x4e\x2b\xa9")
            and volume.le(start + 4, 4) == 1
            # Its own sector: else it is that of the disk's last partition.
            and volume.le(start + 144, 8) == start // 512
        ):
            return Recognised(
                "linux_raid_member",
                "member of a Linux RAID",
                why=ARRAY,
                label=volume.text(start + 32, 32),
                uuid=volume.uuid(start + 16),
            )
    start = volume.size // 65536 * 65536 - 65536
    if start >= 0 and volume.at(start, 4) in (b"\xfc\x4e\x2b\xa9", b"\xa9\x2b\x4e\xfc"):
        return Recognised("linux_raid_member", "member of a Linux RAID (0.90)", why=ARRAY)
    return None


_BCACHE_MAGIC = bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")
_BCACHEFS_MAGIC = bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef")


def _bcachefs(volume: Window) -> Recognised | None:
    # fs/bcachefs/bcachefs_format.h (struct bch_sb) and, in the same place with the same magic
    # in its first years, include/uapi/linux/bcache.h: there the sector of the superblock itself,
    # which is 8, stands where a bcachefs has its checksum.
    magic = volume.at(0x1018, 16)
    if magic not in (_BCACHE_MAGIC, _BCACHEFS_MAGIC):
        return None
    if magic == _BCACHE_MAGIC and volume.le(0x1008, 8) == 8 and volume.le(0x1010, 8) < 7:
        return Recognised("bcache", "bcache device", why=NOT_FILES, uuid=volume.uuid(0x1028))
    return Recognised(
        "bcachefs",
        "bcachefs",
        ("bcachefs",),
        label=volume.text(0x1048, 32),
        uuid=volume.uuid(0x1038),
    )


class _Magic(NamedTuple):
    """A format that its magic alone tells, at offsets from the start or (negative) the end."""

    content: str
    title: str
    offsets: tuple[int, ...]
    magic: bytes
    types: tuple[str, ...] = ()
    why: str = ""


def _by_magic(*known: _Magic) -> Callable[[Window], Recognised | None]:
    def probe(volume: Window) -> Recognised | None:
        for one in known:
            for offset in one.offsets:
                if volume.has(offset if offset >= 0 else volume.size + offset, one.magic):
                    return Recognised(one.content, one.title, one.types, one.why)
        return None

    return probe


# Firmware RAID keeps its metadata in the last sectors. SNIA's DDF specification; for the others
# the drivers of dmraid (lib/format/ataraid/*.h).
_firmware_raid = _by_magic(
    _Magic("ddf_raid_member", "member of a DDF RAID", (-512, -257 * 512), b"\xde\x11\xde\x11", (),
           ARRAY),
    _Magic("ddf_raid_member", "member of a DDF RAID", (-512, -257 * 512), b"\x11\xde\x11\xde", (),
           ARRAY),
    _Magic("isw_raid_member", "member of an Intel RAID", (-1024,), b"Intel Raid ISM Cfg Sig. ", (),
           ARRAY),
    _Magic("nvidia_raid_member", "member of an NVIDIA RAID", (-1024,), b"NVIDIA", (), ARRAY),
    _Magic("lsi_mega_raid_member", "member of an LSI RAID", (-512,), b"$XIDE$", (), ARRAY),
    _Magic("adaptec_raid_member", "member of an Adaptec RAID", (-256,), b"DPTM", (), ARRAY),
    _Magic("hpt37x_raid_member", "member of a HighPoint RAID", (4640,), b"\xf0\x16\x78\x5a", (),
           ARRAY),
    _Magic("hpt37x_raid_member", "member of a HighPoint RAID", (4640,), b"\xfd\x16\x78\x5a", (),
           ARRAY),
    _Magic("hpt45x_raid_member", "member of a HighPoint RAID", (-11 * 512,),
           b"\xf3\x16\x78\x5a", (), ARRAY),
    _Magic("promise_fasttrack_raid_member", "member of a Promise RAID",
           tuple(-512 * sector for sector in (63, 255, 256, 16, 399, 591, 675, 735, 911, 974, 991,
                                              951, 3087)),
           b"Promise Technology, Inc.", (), ARRAY),
)  # fmt: skip


def _summed_raid(volume: Window) -> Recognised | None:
    # Weak magics in the last sector, each with a checksum: VIA's is a byte, the sum of the 50
    # before it; Silicon Image's makes 160 words zero; JMicron's makes 64 words 0 or 1. Drivers of
    # dmraid, as above.
    sector = volume.at(volume.size // 512 * 512 - 512, 512)
    words = struct.unpack("<256H", sector)
    if sector[:2] == b"\x55\xaa" and sector[2] <= 1 and sum(sector[:50]) % 256 == sector[50]:
        return Recognised("via_raid_member", "member of a VIA RAID", why=ARRAY)
    if sector[0x60:0x64] == b"\0\0\0\x2f" and not sum(words[:160]) % (1 << 16):
        name = "member of a Silicon Image RAID"
        return Recognised("silicon_medley_raid_member", name, why=ARRAY)
    if sector[:2] == b"JM" and sum(words[:64]) % (1 << 16) <= 1:
        return Recognised("jmicron_raid_member", "member of a JMicron RAID", why=ARRAY)
    return None


def _swap(volume: Window) -> Recognised | None:
    # include/linux/swap.h (union swap_header): the magic ends the first page, whatever its size.
    # TuxOnIce overwrites the very start with its own.
    if volume.has(0, bytes.fromhex("edc302e99856e50c")):
        return Recognised("swsuspend", "swap space with a hibernated system", why=NOT_FILES)
    for page in (4096, 8192, 16384, 32768, 65536):
        magic = volume.at(page - 10, 10)
        if magic in (b"SWAPSPACE2", b"SWAP-SPACE"):
            return Recognised(
                "swap",
                "swap space",
                why=NOT_FILES,
                label=volume.text(1052, 16) if magic == b"SWAPSPACE2" else "",
                uuid=volume.uuid(1036) if magic == b"SWAPSPACE2" else "",
            )
        if magic[:9] in (b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB000"):
            return Recognised("swsuspend", "swap space with a hibernated system", why=NOT_FILES)
    return None


# ---- File systems of Linux ---------------------------------------------------------------------

_EXT3_INCOMPAT = 0x0002 | 0x0004 | 0x0010  # filetype, recover, meta_bg
_EXT3_RO_COMPAT = 0x0001 | 0x0002 | 0x0004  # sparse_super, large_file, btree_dir


def _ext(volume: Window) -> Recognised | None:
    # Documentation/filesystems/ext4/super.rst
    if not volume.has(0x438, b"\x53\xef"):
        return None
    compat, incompat, ro_compat = (volume.le(0x400 + at, 4) for at in (0x5C, 0x60, 0x64))
    label, uuid = volume.text(0x478, 16), volume.uuid(0x468)
    if incompat & 0x0008:
        return Recognised("jbd", "journal of an ext file system", (), NOT_FILES, label, uuid)
    if incompat & ~_EXT3_INCOMPAT or ro_compat & ~_EXT3_RO_COMPAT:
        name = "ext4"
    else:
        name = "ext3" if compat & 0x0004 else "ext2"
    return Recognised(name, name, ("ext4",), "", label, uuid)


def _xfs(volume: Window) -> Recognised | None:
    # fs/xfs/libxfs/xfs_format.h (struct xfs_dsb); xfs_log_format.h (struct xlog_rec_header)
    if volume.has(0, b"XFSB"):
        return Recognised("xfs", "XFS", ("xfs",), "", volume.text(108, 12), volume.uuid(32))
    # A log by itself: its magic, version 1 or 2, and a format number that only Linux writes.
    for sector in range(256):
        start = sector * 512
        if volume.has(start, b"\xfe\xed\xba\xbe") and volume.be(start + 4, 4) in (1, 2):
            if volume.be(start + 300, 4) in (1, 2, 3):
                return Recognised("xfs_external_log", "journal of an XFS", why=NOT_FILES)
            return None
    return None


def _btrfs(volume: Window) -> Recognised | None:
    # include/uapi/linux/btrfs_tree.h (struct btrfs_super_block), at 64 KiB
    if not volume.has(0x10040, b"_BHRfS_M"):
        return None
    return Recognised(
        "btrfs", "Btrfs", ("btrfs",), "", volume.text(0x1012B, 256), volume.uuid(0x10020)
    )


def _f2fs(volume: Window) -> Recognised | None:
    # include/linux/f2fs_fs.h (struct f2fs_super_block); a second copy at 4 KiB
    for start in (0x400, 0x1400):
        if volume.has(start, b"\x10\x20\xf5\xf2"):
            label = show_text(volume.at(start + 0x7C, 1024), "utf-16-le")
            return Recognised("f2fs", "F2FS", ("f2fs",), "", label, volume.uuid(start + 0x6C))
    return None


def _nilfs2(volume: Window) -> Recognised | None:
    # include/uapi/linux/nilfs2_ondisk.h (struct nilfs_super_block); a second copy near the end
    for start in (0x400, (volume.size // 4096 - 1) * 4096):
        if (
            volume.has(start + 6, b"\x34\x34")
            and 0 < volume.le(start + 8, 2) <= 1024
            and volume.le(start, 4) == 2
        ):
            return Recognised(
                "nilfs2",
                "NILFS2",
                ("nilfs2",),
                "",
                volume.text(start + 168, 80),
                volume.uuid(start + 152),
            )
    return None


def _jfs(volume: Window) -> Recognised | None:
    # fs/jfs/jfs_superblock.h
    if not volume.has(0x8000, b"JFS1"):
        return None
    return Recognised("jfs", "JFS", ("jfs",), "", volume.text(0x8098, 16), volume.uuid(0x8088))


def _reiserfs(volume: Window) -> Recognised | None:
    # fs/reiserfs/reiserfs.h (struct reiserfs_super_block): at 64 KiB, at 8 KiB before version 3.5.9
    for start in (0x10000, 0x2000):
        if volume.at(start + 52, 9) in (b"ReIsEr2Fs", b"ReIsEr3Fs") or volume.has(
            start + 52, b"ReIsErFs"
        ):
            return Recognised(
                "reiserfs",
                "ReiserFS",
                ("reiserfs",),
                "",
                volume.text(start + 100, 16),
                volume.uuid(start + 84),
            )
        if volume.has(start, b"ReIsEr4"):
            return Recognised(
                "reiser4",
                "Reiser4",
                (),
                NO_DRIVER,
                volume.text(start + 36, 16),
                volume.uuid(start + 20),
            )
    return None


def _squashfs(volume: Window) -> Recognised | None:
    # fs/squashfs/squashfs_fs.h (struct squashfs_super_block): the major version at byte 28
    magic = volume.at(0, 4)
    if magic == b"hsqs" and volume.le(28, 2) == 4:
        return Recognised("squashfs", "SquashFS", ("squashfs",))
    if magic in (b"hsqs", b"sqsh", b"qshs", b"shsq") and volume.size > 96:
        return Recognised("squashfs3", "SquashFS before version 4", why=OLD_VERSION)
    return None


def _erofs(volume: Window) -> Recognised | None:
    # fs/erofs/erofs_fs.h (struct erofs_super_block)
    if not volume.has(0x400, b"\xe2\xe1\xf5\xe0"):
        return None
    return Recognised("erofs", "EROFS", ("erofs",), "", volume.text(0x440, 16), volume.uuid(0x430))


def _cramfs(volume: Window) -> Recognised | None:
    # include/uapi/linux/cramfs_fs.h (struct cramfs_super); 512 bytes of boot loader may precede
    for start in (0, 512):
        label = volume.text(start + 48, 16)
        if volume.has(start, b"\x45\x3d\xcd\x28"):
            return Recognised("cramfs", "cramfs", ("cramfs",), "", label)
        if volume.has(start, b"\x28\xcd\x3d\x45"):
            return Recognised("cramfs", "big-endian cramfs", (), BYTE_ORDER, label)
    return None


def _romfs(volume: Window) -> Recognised | None:
    # Documentation/filesystems/romfs.rst
    if not volume.has(0, b"-rom1fs-"):
        return None
    return Recognised("romfs", "romfs", ("romfs",), "", volume.text(16, 256))


# ---- File systems of others --------------------------------------------------------------------

_NO_LABEL = "NO NAME"


FAT16_CLUSTERS = 4085
"""With fewer clusters a FAT has entries of 12 bits."""


def fat_geometry(volume: Window) -> tuple[int, int, int] | None:
    """Sector size, sectors of a table, and number of clusters, if these can be a FAT's."""
    # Microsoft's "FAT: General Overview of On-Disk Format", the BIOS parameter block.
    sector, cluster = volume.le(11, 2), volume.le(13, 1)
    reserved, tables = volume.le(14, 2), volume.le(16, 1)
    if volume.at(0, 1) not in (b"\xeb", b"\xe9") and not volume.has(510, b"\x55\xaa"):
        return None
    if sector not in (512, 1024, 2048, 4096) or cluster.bit_count() != 1:
        return None
    if not reserved or not 1 <= tables <= 4 or volume.le(21, 1) not in (0xF0, *range(0xF8, 0x100)):
        return None
    table = volume.le(22, 2) or volume.le(36, 4)
    total = volume.le(19, 2) or volume.le(32, 4)
    roots = -(-volume.le(17, 2) * 32 // sector)
    data = total - reserved - tables * table - roots
    if not table or data <= 0:
        return None
    return sector, table, data // cluster


def _fat_root_label(entries: bytes) -> str | None:
    """The label in a root directory: "" for one that was deleted, None if there is none."""
    for at in range(0, len(entries) - 31, 32):
        first, attributes = entries[at], entries[at + 11]
        if first == 0:
            return None
        # A label's attribute, but not the four that mark a part of a long name; no cluster.
        if attributes & 0x3F != 0x0F and attributes & 0x18 == 0x08 and first != 0xE5:
            name = entries[at : at + 11]
            # 0x05 stands for 0xE5, which would mean "deleted".
            name = b"\xe5" + name[1:] if first == 0x05 else name
            return show_text(name, "utf-8" if name.isascii() else "cp850")
    return None


def _fat(volume: Window) -> Recognised | None:
    geometry = fat_geometry(volume)
    if geometry is None:
        return None
    sector, table, clusters = geometry
    tables_end = (volume.le(14, 2) + volume.le(16, 1) * table) * sector
    # FAT32 has no root directory of fixed size, and no 16-bit table length.
    if volume.le(22, 2) == 0 and volume.le(17, 2) == 0:
        bits, extended, cluster = 32, 66, volume.le(44, 4)
        root = tables_end + (cluster - 2) * volume.le(13, 1) * sector
        entries = volume.at(root, volume.le(13, 1) * sector) if cluster >= 2 else b""
    else:
        bits, extended = (12 if clusters < FAT16_CLUSTERS else 16), 38
        entries = volume.at(tables_end, volume.le(17, 2) * 32)
    # The extended boot signature: 0x28 has the serial number only, 0x29 the label too.
    uuid = ""
    if volume.le(extended, 1) in (0x28, 0x29):
        number = volume.le(extended + 1, 4)
        uuid = f"{number >> 16:04X}-{number & 0xFFFF:04X}"
    label = _fat_root_label(entries)
    return Recognised("vfat", f"FAT{bits}", ("vfat",), "", label or "", uuid)


def _exfat(volume: Window) -> Recognised | None:
    # Microsoft's "exFAT file system specification", sections 3.1 and 7.3
    if not volume.has(3, b"EXFAT   ") or any(volume.at(11, 53)):
        return None
    sector, cluster = volume.le(108, 1), volume.le(108, 1) + volume.le(109, 1)
    label, number = "", volume.le(100, 4)
    if 9 <= sector <= 12 and cluster <= 25:
        table, heap, root = (volume.le(at, 4) for at in (80, 88, 96))
        # A label is in the first clusters, if it is not the very first entry.
        for _ in range(16):
            start = (heap << sector) + ((root - 2) << cluster)
            entries = volume.at(start, min(1 << cluster, 65536))
            for at in range(0, len(entries), 32):
                if entries[at] == 0x83:
                    length = min(entries[at + 1], 11)
                    label = show_text(entries[at + 2 : at + 2 + 2 * length], "utf-16-le")
            root = volume.le((table << sector) + 4 * root, 4)
            if label or not 2 <= root < 0xFFFFFFF7:
                break
    uuid = f"{number >> 16:04X}-{number & 0xFFFF:04X}"
    return Recognised("exfat", "exFAT", ("exfat",), "", label, uuid)


def _ntfs(volume: Window) -> Recognised | None:
    # fs/ntfs3/ntfs.h (struct NTFS_BOOT, struct MFT_REC, struct ATTRIB)
    if not volume.has(3, b"NTFS    "):
        return None
    sector = volume.le(11, 2)
    per_cluster = volume.le(13, 1)
    cluster = sector * (per_cluster if per_cluster <= 128 else 1 << (256 - per_cluster))
    size = volume.le(64, 1)
    record = 1 << (256 - size) if size > 127 else size * cluster
    label = ""
    # Record 3 is $Volume; 0x60 is $VOLUME_NAME, which is resident.
    start = volume.le(48, 8) * cluster + 3 * record
    if volume.has(start, b"FILE") and record <= 65536:
        at = start + volume.le(start + 20, 2)
        while at < start + record and (kind := volume.le(at, 4)) != 0xFFFFFFFF:
            length = volume.le(at + 4, 4)
            if kind == 0x60:
                name = volume.at(at + volume.le(at + 20, 2), min(volume.le(at + 16, 4), 256))
                label = show_text(name, "utf-16-le")
            if kind >= 0x60 or length < 24:
                break
            at += length
    return Recognised("ntfs", "NTFS", ("ntfs3",), "", label, f"{volume.le(72, 8):016X}")


def _hfs(volume: Window) -> Recognised | None:
    # Apple's Technical Note TN1150; fs/hfs/hfs.h (struct hfs_mdb)
    magic = volume.at(0x400, 2)
    if magic == b"BD" and volume.at(0x47C, 2) not in (b"H+", b"HX"):
        length = min(volume.le(0x424, 1), 27)
        label = show_text(volume.at(0x425, length), "mac-roman")
        return Recognised("hfs", "HFS", ("hfs",), "", label)
    if magic == b"BD" or (magic in (b"H+", b"HX") and volume.be(0x402, 2) in (4, 5)):
        return Recognised("hfsplus", "HFS+", ("hfsplus",))
    return None


def _iso9660(volume: Window) -> Recognised | None:
    # ECMA-119, sections 8.4 and 8.5; High Sierra's descriptor starts eight bytes later
    if volume.has(0x8009, b"CDROM"):
        return Recognised("iso9660", "High Sierra CD", ("iso9660",), "", volume.text(0x8030, 32))
    if not volume.has(0x8001, b"CD001"):
        return None
    label = volume.text(0x8028, 32)
    for sector in range(17, 32):
        start = sector * 2048
        # Joliet: a supplementary descriptor with one of three escape sequences.
        if volume.at(start, 6) == b"\x02CD001" and volume.at(start + 88, 3) in (
            b"%/@",
            b"%/C",
            b"%/E",
        ):
            joliet = show_text(volume.at(start + 40, 32), "utf-16-be")
            # Joliet's is cut at 16 characters; what it continues, the first has longer.
            label = label if label.startswith(joliet) else joliet
        if volume.has(start, b"\xffCD001"):
            break
    stamp = volume.at(0x8000 + 830, 16)
    if not stamp.isdigit() or stamp == b"0" * 16:
        stamp = volume.at(0x8000 + 813, 16)
    uuid = ""
    if stamp.isdigit() and stamp != b"0" * 16:
        text = stamp.decode("ascii")
        cuts = (0, 4, 6, 8, 10, 12, 14, 16)
        uuid = "-".join(text[a:b] for a, b in itertools.pairwise(cuts))
    return Recognised("iso9660", "ISO 9660", ("iso9660",), "", label, uuid)


def _dstring(raw: bytes) -> str:
    """OSTA's compressed Unicode, in a field whose last byte is its length."""
    used = raw[: min(raw[-1], len(raw) - 1)]
    encodings = {8: "latin-1", 254: "latin-1", 16: "utf-16-be", 255: "utf-16-be"}
    encoding = encodings.get(used[0]) if used else None
    return show_text(used[1:], encoding) if encoding else ""


def _udf_label(volume: Window) -> str:
    # ECMA-167 part 3, sections 10.2 (anchor, tag 2) and 10.6 (logical volume descriptor, tag 6)
    for block in (512, 1024, 2048, 4096):
        anchor = 256 * block
        if volume.le(anchor, 2) != 2 or volume.le(anchor + 12, 4) != 256:
            continue
        length, first = volume.le(anchor + 16, 4), volume.le(anchor + 20, 4)
        for number in range(min(length // block, 64)):
            start = (first + number) * block
            if volume.le(start, 2) == 6:
                return _dstring(volume.at(start + 84, 128))
    return ""


def _udf(volume: Window) -> Recognised | None:
    # ECMA-167 part 2, section 8.3: volume structure descriptors from 32 KiB on, in steps of 2 KiB
    # or of a larger block
    for step in (2048, 4096):
        for number in range(64):
            identifier = volume.at(0x8000 + number * step + 1, 5)
            if identifier in (b"NSR02", b"NSR03"):
                types = ("udf", "iso9660") if volume.has(0x8001, b"CD001") else ("udf",)
                return Recognised("udf", "UDF", types, "", _udf_label(volume))
            if identifier not in (b"BEA01", b"BOOT2", b"CD001", b"CDW02", b"TEA01"):
                break
    return None


_MINIX = {
    0x137F: "version 1",
    0x138F: "version 1, long names",
    0x2468: "version 2",
    0x2478: "version 2, long names",
}


def _minix(volume: Window) -> Recognised | None:
    # include/uapi/linux/minix_fs.h; version 3 has its magic eight bytes later. Two bytes are a
    # weak magic, so the numbers beside it must make sense.
    for order in ("le", "be"):
        number = volume.le if order == "le" else volume.be
        magic, third = number(0x410, 2), number(0x418, 2) == 0x4D5A
        if magic not in _MINIX and not third:
            continue
        if third:
            inodes, imap, zmap, shift = (
                number(0x400, 4), number(0x406, 2), number(0x408, 2), number(0x40C, 2),
            )  # fmt: skip
        else:
            inodes, imap, zmap, shift = (
                number(0x400, 2), number(0x404, 2), number(0x406, 2), number(0x40A, 2),
            )  # fmt: skip
        if not inodes or not imap or not zmap or shift > 8 or imap * 8 * 4096 < inodes:
            continue
        title = f"Minix, {_MINIX.get(magic, 'version 3')}"
        if order == "be":
            return Recognised("minix", f"{title}, big-endian", (), BYTE_ORDER)
        return Recognised("minix", title, ("minix",))
    return None


def _ufs(volume: Window) -> Recognised | None:
    # fs/ufs/ufs_fs.h (struct ufs_super_block_*): the magic at byte 1372 of a superblock that may
    # start in four places
    for start in (8192, 65536, 0, 262144):
        magic = volume.at(start + 1372, 4)
        if magic == b"\x19\x01\x54\x19":
            name = volume.text(start + 680, 32)
            uuid = f"{volume.le(start + 144, 4):08x}{volume.le(start + 148, 4):08x}"
            return Recognised("ufs", "UFS2", ("ufs",), "", name, uuid, "ufs2")
        if magic == b"\x19\x54\x01\x19":
            name = volume.text(start + 680, 32)
            return Recognised("ufs", "UFS2, big-endian", ("ufs",), "", name, variant="ufs2")
        # fs_inodefmt: BSD's since 4.4; those before it, and Sun's, have zeros there
        bsd = "-44bsd" if sum(volume.at(start + 1324, 4)) == 2 else ""
        if magic == b"\x54\x19\x01\x00":
            return Recognised("ufs", "UFS", ("ufs",), variant=f"little{bsd}")
        if magic == b"\x00\x01\x19\x54":
            return Recognised("ufs", "UFS, big-endian", ("ufs",), variant=f"big{bsd}")
    return None


def _affs(volume: Window) -> Recognised | None:
    # Documentation/filesystems/affs.rst; fs/affs/amigaffs.h: the root block stands in the middle,
    # and all its words add up to zero
    if volume.at(0, 3) != b"DOS" or volume.le(3, 1) > 7:
        return None
    for block in (512, 1024, 2048, 4096):
        start = (volume.size // block + 1) // 2 * block
        for root in (start, start - block):
            words = [volume.be(root + at, 4) for at in range(0, block, 4)]
            if words[0] == 2 and words[-1] == 1 and sum(words) % 2**32 == 0:
                length = min(volume.le(root + block - 80, 1), 30)
                label = show_text(volume.at(root + block - 79, length), "latin-1")
                return Recognised("affs", "Amiga FFS", ("affs",), "", label)
    return None


def _befs(volume: Window) -> Recognised | None:
    # fs/befs/befs_fs_types.h (befs_super_block): at 512 on PCs, at the start on PowerPC
    for start in (512, 0):
        for magic in (b"1SFB", b"BFS1"):
            second = b"\x31\x10\x12\xdd" if magic == b"1SFB" else b"\xdd\x12\x10\x31"
            if volume.has(start + 32, magic) and volume.has(start + 68, second):
                return Recognised("befs", "BeFS", ("befs",), "", volume.text(start, 32))
    return None


def _hpfs(volume: Window) -> Recognised | None:
    # fs/hpfs/hpfs.h: superblock in sector 16, spare block in sector 17
    if not volume.has(0x2000, b"\x49\xe8\x95\xf9\xc5\xe9\x53\xfa"):
        return None
    label, uuid = "", ""
    if volume.le(38, 1) in (0x28, 0x29):
        label, number = volume.text(43, 11), volume.le(39, 4)
        uuid = f"{number >> 16:04X}-{number & 0xFFFF:04X}"
    return Recognised("hpfs", "HPFS", ("hpfs",), "", label, uuid)


def _qnx(volume: Window) -> Recognised | None:
    # include/uapi/linux/qnx6_fs.h: after 8 KiB of boot block, or (Audi's MMI) at the start;
    # include/uapi/linux/qnx4_fs.h: the root's own directory entries in the second block
    for start, variant in ((0x2000, ""), (0, "mmi")):
        if volume.at(start, 4) in (b"\x22\x11\x19\x68", b"\x68\x19\x11\x22"):
            return Recognised("qnx6", "QNX6", ("qnx6",), variant=variant)
    if volume.has(512, b"/".ljust(16, b"\0")) and b".inodes" in volume.at(576, 16):
        return Recognised("qnx4", "QNX4", ("qnx4",))
    return None


def _omfs(volume: Window) -> Recognised | None:
    # fs/omfs/omfs_fs.h (struct omfs_super_block)
    if not volume.has(272, b"\xc2\x99\x3d\x87"):
        return None
    return Recognised("omfs", "OMFS", ("omfs",), "", volume.text(288, 64))


def _adfs(volume: Window) -> Recognised | None:
    # include/uapi/linux/adfs_fs.h: a boot block at 0xC00 that ends with its own checksum and has
    # the disc record at 0x1C0; there is no magic, so the record must make sense
    block = volume.at(0xC00, 512)
    total = 0
    for byte in reversed(block[:511]):
        total = (total & 0xFF) + (total >> 8) + byte
    sector, name_bits, zones = block[0x1C0], block[0x1C4], block[0x1C9]
    root = int.from_bytes(block[0x1CC:0x1D0], "little")
    if total & 0xFF != block[511] or sector not in (8, 9, 10) or not root or not zones:
        return None
    if not sector + 3 <= name_bits <= 19:
        return None
    return Recognised("adfs", "Acorn ADFS", ("adfs",), "", volume.text(0xC00 + 0x1D6, 10))


def _vxfs(volume: Window) -> Recognised | None:
    # fs/freevxfs/vxfs.h: at 1 KiB on UnixWare and Linux, at 8 KiB and big-endian on HP-UX
    if volume.has(0x400, b"\xf5\xfc\x01\xa5"):
        block = volume.le(0x400 + 32, 4)
    elif volume.has(0x2000, b"\xa5\x01\xfc\xf5"):
        block = volume.be(0x2000 + 32, 4)
    else:
        return None
    # Linux counts in blocks of 1 KiB there, and a smaller one, which no VxFS has, ends the kernel.
    if block < 1024 or block % 1024:
        return Recognised("vxfs", "VxFS with a damaged superblock", why=DAMAGED)
    return Recognised("vxfs", "VxFS", ("vxfs",))


def _sysv(volume: Window) -> Recognised | None:
    # include/linux/sysv_fs.h: the magic near the end of a 512- or 1024-byte superblock
    if volume.has(1024 + 1016, b"\x44\x55\x2b\x00"):
        return Recognised("xenix", "Xenix", ("xenix",))
    for start in (512, 1024):
        if volume.at(start + 504, 4) in (b"\x20\x7e\x18\xfd", b"\xfd\x18\x7e\x20"):
            return Recognised("sysv", "System V", ("sysv",))
    return None


def _efs(volume: Window) -> Recognised | None:
    # fs/efs/efs.h (struct efs_super), in the second block
    if volume.be(512 + 28, 4) in (0x00072959, 0x0007295A):
        return Recognised("efs", "SGI EFS", ("efs",), "", volume.text(512 + 32, 6))
    return None


_bfs = _by_magic(_Magic("bfs", "SCO BFS", (0,), b"\xce\xfa\xad\x1b", ("bfs",)))


# ---- What Linux has no file system for ---------------------------------------------------------


def _apfs(volume: Window) -> Recognised | None:
    # Apple File System Reference, nx_superblock_t
    if not volume.has(32, b"NXSB"):
        return None
    return Recognised("apfs", "APFS", why=NO_DRIVER, uuid=volume.uuid(72))


def _zfs(volume: Window) -> Recognised | None:
    # OpenZFS, "ZFS On-Disk Specification", section 1.3: uberblocks fill the second half of each of
    # four labels, two at either end
    ends = volume.size // 262144 * 262144
    for label in (0, 262144, ends - 524288, ends - 262144):
        for offset in range(131072, 262144, 1024):
            magic = volume.at(label + offset, 8) if label >= 0 else b""
            if magic in (
                b"\x0c\xb1\xba\x00\x00\x00\x00\x00",
                b"\x00\x00\x00\x00\x00\xba\xb1\x0c",
            ):
                return Recognised("zfs_member", "member of a ZFS pool", why=NO_DRIVER)
    return None


def _drbd(volume: Window) -> Recognised | None:
    # DRBD's meta_data_on_disk: in the last 4 KiB
    start = volume.size - 4096
    if start < 0:
        return None
    if volume.at(start + 60, 4) in (b"\x83\x74\x02\x67", b"\x83\x74\x02\x6b", b"\x83\x74\x02\x6d"):
        return Recognised("drbd", "DRBD device", why=ARRAY)
    return None


_foreign = _by_magic(
    _Magic("ReFS", "ReFS", (3,), b"ReFS\0\0\0\0", (), NO_DRIVER),
    _Magic("VMFS", "VMFS", (0x200000,), b"\x5e\xf1\xab\x2f", (), NO_DRIVER),
    _Magic("VMFS_volume_member", "volume of a VMFS", (0x100000,), b"\x0d\xd0\x01\xc0", (),
           NO_DRIVER),
    _Magic("gfs2", "GFS2 (a cluster file system)", (0x10000,), b"\x01\x16\x19\x70", (), NO_DRIVER),
    _Magic("ocfs2", "OCFS2 (a cluster file system)", (1024, 2048, 4096, 8192), b"OCFSV2", (),
           NO_DRIVER),
    _Magic("zonefs", "zonefs", (0,), b"SFOZ", (), NO_DRIVER),
    _Magic("nss", "NetWare NSS", (0x1000,), b"SPB5", (), NO_DRIVER),
    _Magic("mpool", "mpool device", (0,), b"mpoolDev", (), NO_DRIVER),
    _Magic("scoutfs_meta", "ScoutFS", (0x10008,), b"\x31\xb6\x8b\x03", (), NO_DRIVER),
    _Magic("exfs", "Extended XFS (SGI)", (0,), b"EXFS", (), NO_DRIVER),
    _Magic("cs_fvault2", "FileVault encrypted volume", (88,), b"CS\x01\0", (), ENCRYPTED),
    _Magic("ceph_bluestore", "Ceph BlueStore device", (0,), b"bluestore block device", (),
           NOT_FILES),
    _Magic("vdo", "VDO volume", (0,), b"dmvdo001", (), GROUP),
    _Magic("stratis", "Stratis volume", (528, 4624), b"!Stra0tis\x86\xff\x02^\x41rh", (), GROUP),
    _Magic("ubi", "UBI volume of a flash chip", (0,), b"UBI#", (), FLASH),
    _Magic("ubifs", "UBIFS of a flash chip", (0,), b"\x31\x18\x10\x06", (), FLASH),
    _Magic("jffs2", "JFFS2 of a flash chip", (0,), b"\x85\x19\x01\x20", (), FLASH),
    _Magic("jffs2", "JFFS2 of a flash chip", (0,), b"\x85\x19\x03\x20", (), FLASH),
    _Magic("yaffs", "YAFFS of a flash chip", (0,), b"\x03\0\0\0\x01\0\0\0\xff\xff", (), FLASH),
    _Magic("drbdmanage_control_volume", "control volume of DRBD", (0,),
           b"$DRBDmgr=q", (), NOT_FILES),
)  # fmt: skip


PROBES: tuple[Callable[[Window], Recognised | None], ...] = (
    # Wrappers and members first: what they wrap may show through.
    _luks,
    _bitlocker,
    _lvm,
    _md_raid,
    _firmware_raid,
    _summed_raid,
    _drbd,
    _bcachefs,
    # Magics of four bytes and more.
    _xfs,
    _btrfs,
    _f2fs,
    _erofs,
    _squashfs,
    _jfs,
    _reiserfs,
    _apfs,
    _udf,
    _iso9660,
    _ntfs,
    _exfat,
    _befs,
    _hpfs,
    _omfs,
    _vxfs,
    _ufs,
    _qnx,
    _cramfs,
    _romfs,
    _affs,
    _foreign,
    _bfs,
    _efs,
    _sysv,
    _swap,
    # Two bytes, or only plausible numbers.
    _ext,
    _nilfs2,
    _hfs,
    _minix,
    _fat,
    _adfs,
    _zfs,
)


def iter_recognised(volume: Window) -> Iterator[Recognised]:
    """All that a volume looks like, the most certain first.

    What stands where nothing can be read does not hide what stands elsewhere: the error is raised
    when nothing was found at all.
    """
    failure: ExplorerError | None = None
    nothing = True
    for probe in PROBES:
        try:
            found = probe(volume)
        except ExplorerError as error:
            failure = failure or error
            continue
        if found is not None:
            nothing = False
            yield found._replace(label=found.label.strip())
    if nothing and failure is not None:
        raise failure


def recognise(volume: Window) -> Recognised | None:
    """What a volume holds, or None; raises what reading it raises."""
    return next(iter_recognised(volume), None)
