# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Small images of file systems that no tool here makes, written from their descriptions.

Each holds the same few things, so far as the file system knows such. The layouts are those of the
headers in the Linux source that are named at each.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from tests.trees import noise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOMENT = 1_000_000_000
"""Seconds since 1970 of everything's last change."""
LARGE = noise(60_001, 1)
FILES = {"hello.txt": b"hello\n", "large.bin": LARGE, "empty": b"", "folder/leaf": b"leaf\n"}
LINK, TARGET = "link", b"folder/leaf"
LONG_NAME = "a name that is longer than twenty-seven bytes"

DIRECTORY_MODE, FILE_MODE, LINK_MODE = 0o40751, 0o100640, 0o120777


def folders() -> dict[str, list[str]]:
    """The names in each folder, by its path."""
    return {"": [*(name for name in FILES if "/" not in name), "folder", LINK], "folder": ["leaf"]}


class _Disk:
    """Blocks that are written in any order."""

    def __init__(self, blocks: int, size: int) -> None:
        self.size = size
        self.content = bytearray(blocks * size)

    def put(self, block: int, data: bytes | bytearray, offset: int = 0) -> None:
        at = block * self.size + offset
        assert at + len(data) <= len(self.content)
        self.content[at : at + len(data)] = data

    def blocks_of(self, data: bytes, size: int | None = None) -> Iterator[bytes]:
        """Data in the pieces that fit into blocks."""
        step = size or self.size
        for at in range(0, len(data), step):
            yield data[at : at + step]


# ---- Amiga FFS and OFS: fs/affs/amigaffs.h -------------------------------------------------------

_AMIGA_EPOCH = 252_460_800
_AMIGA_TABLE = 72
_AMIGA_ROOT = 880
_AMIGA_FILE, _AMIGA_FOLDER, _AMIGA_SOFT, _AMIGA_TOP = -3, 2, 3, 1


class _Amiga(_Disk):
    """A floppy disk of 880 KiB. Words are of 4 bytes, big-endian."""

    def __init__(self, *, fast: bool) -> None:
        super().__init__(1760, 512)
        self.fast = fast
        self.next = _AMIGA_ROOT + 2
        self.headers: dict[int, list[int]] = {}

    def new(self) -> int:
        self.next += 1
        return self.next - 1

    def write(self, block: int, words: list[int], place: int = 5, text: bytes = b"") -> None:
        """Write a block, the sum of whose words is zero."""
        raw = bytearray(struct.pack(">128I", *(word % 2**32 for word in words)))
        raw[432 : 432 + len(text)] = text
        total = sum(struct.unpack(">128I", raw)) % 2**32
        struct.pack_into(">I", raw, place * 4, -total % 2**32)
        self.put(block, raw)

    def header(self, key: int, kind: int, parent: int) -> list[int]:
        words = [0] * 128
        words[0], words[1], words[125], words[127] = 2, key, parent, kind
        days, rest = divmod(MOMENT - _AMIGA_EPOCH, 86_400)
        words[105:108] = [days, rest // 60, rest % 60 * 50]
        return words

    def file(self, name: str, content: bytes, parent: int) -> tuple[int, list[int], bytes]:
        key = self.new()
        words = self.header(key, _AMIGA_FILE, parent)
        words[81] = len(content)
        pieces = list(self.blocks_of(content, 512 if self.fast else 488))
        places = [self.new() for _ in pieces]
        for number, (place, piece) in enumerate(zip(places, pieces, strict=True), 1):
            if self.fast:
                self.put(place, piece)
            else:
                following = places[number] if number < len(places) else 0
                head = [8, key, number, len(piece), following, 0]
                data = struct.unpack(">122I", piece.ljust(488, b"\0"))
                self.write(place, [*head, *data])
        words[4] = places[0] if places else 0
        # What does not fit into the header's table is in extensions of it.
        tables = [places[at : at + _AMIGA_TABLE] for at in range(0, len(places), _AMIGA_TABLE)]
        extensions = [self.new() for _ in tables[1:]]
        for number, table in enumerate(tables):
            target = words if not number else [16, extensions[number - 1], *[0] * 126]
            target[2] = len(table)
            for at, place in enumerate(table):
                target[77 - at] = place
            target[126] = extensions[number] if number < len(extensions) else 0
            if number:
                target[125], target[127] = key, _AMIGA_FILE
                self.write(extensions[number - 1], target)
        return key, words, name.encode("latin-1")

    def folder(self, path: str, key: int, words: list[int], kind: int = 0) -> None:
        """Write what is in a folder, and its table."""
        chains: dict[int, list[tuple[int, list[int], bytes]]] = {}
        for name in folders()[path]:
            full = f"{path}/{name}".lstrip("/")
            if full in FILES:
                entry = self.file(name, FILES[full], key)
            elif full == LINK:
                number = self.new()
                link = self.header(number, _AMIGA_SOFT, key)
                target = TARGET.ljust(-(-(len(TARGET) + 1) // 4) * 4, b"\0")
                link[6 : 6 + len(target) // 4] = struct.unpack(f">{len(target) // 4}I", target)
                entry = (number, link, name.encode())
            else:
                number = self.new()
                entry = (number, self.header(number, _AMIGA_FOLDER, key), name.encode())
                self.folder(full, *entry[:2], kind=_AMIGA_FOLDER)
            chains.setdefault(self.hash(entry[2]), []).append(entry)
        for place, chain in chains.items():
            following = 0
            for number, entry_words, name_bytes in reversed(chain):
                entry_words[124] = following
                text = bytes([len(name_bytes)]) + name_bytes
                if entry_words[127] != _AMIGA_FOLDER:
                    self.write(number, entry_words, text=text)
                else:
                    self.headers[number][124] = following
                    self.write(number, self.headers[number], text=text)
                following = number
            words[6 + place] = following
        if kind:
            self.headers[key] = words

    @staticmethod
    def hash(name: bytes) -> int:
        value = len(name)
        for byte in name.upper():
            value = (value * 13 + byte) & 0x7FF
        return value % _AMIGA_TABLE


def affs(*, fast: bool) -> bytes:
    """An Amiga floppy disk, of the fast file system or of the old one."""
    disk = _Amiga(fast=fast)
    disk.put(0, struct.pack(">3sBII", b"DOS", fast, 0, _AMIGA_ROOT))
    words = disk.header(0, _AMIGA_TOP, 0)
    words[1], words[3], words[78], words[79] = 0, _AMIGA_TABLE, 0xFFFF_FFFF, _AMIGA_ROOT + 1
    words[121:124] = words[105:108]
    disk.folder("", _AMIGA_ROOT, words)
    disk.write(_AMIGA_ROOT, words, text=b"\x06volume")
    # Bits of free blocks, from block 2 on.
    bits = 0
    for block in range(2, 1760):
        if block not in range(_AMIGA_ROOT, disk.next):
            bits |= 1 << block - 2
    rows = [bits >> 32 * number & 0xFFFF_FFFF for number in range(127)]
    disk.write(_AMIGA_ROOT + 1, [0, *rows], 0)
    return bytes(disk.content)


# ---- QNX4: include/uapi/linux/qnx4_fs.h ----------------------------------------------------------


def qnx4() -> bytes:
    """Blocks of 512 bytes, counted from 1. Names of up to 16 bytes."""
    disk = _Disk(400, 512)
    disk.put(0, b"\xeb\x7e\x90\x90QNX4FS")
    following = 10

    def extent(data: bytes) -> tuple[int, int]:
        """Where data was written, and the number of its blocks."""
        nonlocal following
        pieces = list(disk.blocks_of(data))
        first = following
        for number, piece in enumerate(pieces):
            disk.put(first + number, piece)
        following += len(pieces)
        return first + 1, len(pieces)

    def entry(name: str, mode: int, data: bytes) -> bytes:
        first, count = extent(data)
        return struct.pack(
            "<16sIIIIIIIIHHHHH4xBB", name.encode(), len(data), first, count, 0,
            MOMENT, MOMENT, MOMENT, MOMENT, 1, mode, 12, 34, 1, 0, 1,
        )  # fmt: skip

    def folder(path: str) -> bytes:
        entries = []
        for name in folders()[path]:
            full = f"{path}/{name}".lstrip("/")
            if full in FILES:
                entries.append(entry(name, FILE_MODE, FILES[full]))
            elif full == LINK:
                entries.append(entry(name, LINK_MODE, TARGET))
            else:
                entries.append(entry(name, DIRECTORY_MODE, folder(full)))
        return b"".join(entries).ljust(1024, b"\0")

    bitmap = entry(".bitmap", FILE_MODE, b"\xff" * 50)
    top = (bitmap + folder("")).ljust(1024, b"\0")[:1024]
    disk.put(1, entry("/", DIRECTORY_MODE, top) + entry(".inodes", FILE_MODE, b""))
    return bytes(disk.content)


# ---- QNX6: include/linux/qnx6_fs.h ---------------------------------------------------------------


def _crc32_be(data: bytes) -> int:
    """The kernel's crc32_be, from zero: its polynomial is 0x04C11DB7."""
    value = 0
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = value << 1 ^ (0x04C1_1DB7 if value & 1 << 31 else 0)
        value &= 0xFFFF_FFFF
    return value


def qnx6() -> bytes:
    """Blocks of 1 KiB, after the boot block and the first superblock."""
    size, blocks, before = 1024, 300, 12
    disk = _Disk(before + blocks + 4, size)
    following = 0
    inodes: list[bytes] = []
    long_names: list[int] = []

    def store(data: bytes) -> tuple[list[int], int]:
        """Where data was written: sixteen blocks, or blocks of their numbers."""
        nonlocal following
        pieces = list(disk.blocks_of(data))
        places = list(range(following, following + len(pieces)))
        for place, piece in zip(places, pieces, strict=True):
            disk.put(before + place, piece)
        following += len(pieces)
        if len(places) <= 16:
            return places + [0xFFFF_FFFF] * (16 - len(places)), 0
        numbers, _ = store(struct.pack(f"<{len(places)}I", *places))
        return numbers, 1

    def inode(mode: int, data: bytes, number: int = 0) -> int:
        places, levels = store(data)
        raw = struct.pack(
            "<QIIIIIIHH16IBB2x24x", len(data), 12, 34, MOMENT, MOMENT, MOMENT, MOMENT, mode, 0,
            *places, levels, 1,
        )  # fmt: skip
        if number:
            inodes[number - 1] = raw
            return number
        inodes.append(raw)
        return len(inodes)

    def named(number: int, name: str) -> bytes:
        text = name.encode()
        if len(text) <= 27:
            return struct.pack("<IB27s", number, len(text), text)
        places, _ = store(struct.pack("<H", len(text)) + text)
        long_names.append(places[0])
        total = 0
        for byte in text:
            total = ((total >> 1) + byte + (0x8000_0000 if total & 1 else 0)) & 0xFFFF_FFFF
        return struct.pack("<IB3xII16x", number, 0xFF, len(long_names) - 1, total)

    def folder(path: str, own: int, parent: int) -> int:
        entries = [named(own, "."), named(parent, "..")]
        names = [*folders()[path], *([] if path else [LONG_NAME])]
        for name in names:
            full = f"{path}/{name}".lstrip("/")
            if full in FILES or full == LONG_NAME:
                number = inode(FILE_MODE, FILES.get(full, b"long\n"))
            elif full == LINK:
                number = inode(LINK_MODE, TARGET)
            else:
                inodes.append(b"")
                number = folder(full, len(inodes), own)
            entries.append(named(number, name))
        return inode(DIRECTORY_MODE, b"".join(entries).ljust(size, b"\0"), own)

    def root_node(data: bytes) -> bytes:
        places, levels = store(data)
        return struct.pack("<Q16IBB6x", len(data), *places, levels, 0)

    inodes.append(b"")
    folder("", 1, 1)
    # Blocks of long names are told by their place in this file, which is made of just these.
    node_of_long = struct.pack(
        "<Q16IBB6x", len(long_names) * size,
        *long_names, *[0xFFFF_FFFF] * (16 - len(long_names)), 0, 0,
    )  # fmt: skip
    nodes = root_node(b"".join(inodes)) + bytes(80) + node_of_long + bytes(80)
    behind = struct.pack(
        "<QIIIHH16sIIIIII", 1, MOMENT, MOMENT, 0, 3, 4, b"volume", size, 128, 128 - len(inodes),
        blocks, blocks - following, 0,
    )  # fmt: skip
    checked = (behind + nodes).ljust(504, b"\0")
    superblock = struct.pack("<II", 0x6819_1122, _crc32_be(checked)) + checked
    disk.put(8, superblock)
    disk.put(before + blocks, superblock)
    return bytes(disk.content)


# ---- BeFS: fs/befs/befs_fs_types.h ---------------------------------------------------------------


def befs() -> bytes:
    """Blocks of 1 KiB in one group; an inode is a block, a folder a B+ tree of one node."""
    size, blocks = 1024, 400
    disk = _Disk(blocks, size)
    following = 20

    def new(count: int = 1) -> int:
        nonlocal following
        following += count
        return following - count

    def run(block: int, count: int = 1) -> bytes:
        return struct.pack("<IHH", 0, block, count)

    def inode(block: int, parent: int, mode: int, data: bytes) -> None:
        stream = data.ljust(144, b"\0")
        if mode != LINK_MODE:
            pieces = -(-len(data) // size)
            # Two runs, to be more than one.
            halves = [pieces // 2, pieces - pieces // 2]
            places = [new(count) if count else 0 for count in halves]
            runs = b"".join(run(a, b) for a, b in zip(places, halves, strict=True) if b)
            for number, piece in enumerate(disk.blocks_of(data)):
                half = number >= halves[0]
                disk.put(places[half] + number - (halves[0] if half else 0), piece)
            stream = struct.pack("<96sQ8xQ8xQQ", runs, pieces * size, 0, 0, len(data))
        moment = MOMENT << 16
        disk.put(block, struct.pack("<I", 0x3BBE_0AD9) + run(block) + struct.pack(
            "<IIIIQQ8s8sIII", 12, 34, mode, 1, moment, moment, run(parent), bytes(8), 0, size, 0,
        ) + stream)  # fmt: skip

    def tree(entries: Mapping[str, int]) -> bytes:
        keys = sorted(name.encode() for name in entries)
        ends, total = [], 0
        for key in keys:
            total += len(key)
            ends.append(total)
        node = struct.pack("<qqqHH", -1, -1, -1, len(keys), total) + b"".join(keys)
        node = node.ljust(-(-len(node) // 8) * 8, b"\0")
        node += struct.pack(f"<{len(ends)}H", *ends)
        node += struct.pack(f"<{len(keys)}Q", *(entries[key.decode()] for key in keys))
        head = struct.pack("<IIIIqqq", 0x69F6_C2E8, size, 1, 0, size, -1, 2 * size)
        return head.ljust(size, b"\0") + node.ljust(size, b"\0")

    def folder(path: str, own: int, parent: int) -> None:
        entries = {".": own, "..": parent}
        for name in folders()[path]:
            full = f"{path}/{name}".lstrip("/")
            entries[name] = new()
            if full in FILES:
                inode(entries[name], own, FILE_MODE, FILES[full])
            elif full == LINK:
                inode(entries[name], own, LINK_MODE, TARGET)
            else:
                folder(full, entries[name], own)
        inode(own, parent, DIRECTORY_MODE, tree(entries))

    top, indexes = new(), new()
    folder("", top, top)
    inode(indexes, indexes, DIRECTORY_MODE, tree({".": indexes, "..": indexes}))
    superblock = struct.pack(
        "<32sIIIIQQIIIIII8sQQI8s8s", b"volume", 0x4246_5331, 0x4249_4745, size, 10, blocks,
        following, size, 0xDD12_1031, 8192, 13, 1, 0x434C_454E, run(1, 8), 0, 0, 0x15B6_830E,
        run(top), run(indexes),
    )  # fmt: skip
    disk.put(0, superblock, 512)
    return bytes(disk.content)


# ---- HPFS: fs/hpfs/hpfs.h ------------------------------------------------------------------------


def hpfs() -> bytes:
    """Sectors of 512 bytes; a folder is one node of four, its entries in order of their names."""
    disk = _Disk(600, 512)
    following = 60

    def new(count: int = 1) -> int:
        nonlocal following
        following = -(-following // 4) * 4 if count == 4 else following
        following += count
        return following - count

    def attribute(name: bytes, value: bytes) -> bytes:
        return struct.pack("<BBH", 0, len(name), len(value)) + name + b"\0" + value

    def node(
        sector: int, name: str, parent: int, extents: list[tuple[int, int, int]], size: int,
        attributes: bytes, *, is_folder: bool = False,
    ) -> None:  # fmt: skip
        text = name.encode()
        used = len(extents)
        table = b"".join(struct.pack("<III", *one) for one in extents)
        raw = struct.pack(
            "<I8xB15sIIIHBBIIHH", 0xF7E4_0AAE, len(text), text[:15], parent, 0, 0, 0, 0, 0, 0, 0,
            len(attributes), 256 if is_folder else 0,
        )  # fmt: skip
        raw += struct.pack("<B3xBBH96s", 0, 8 - used, used, 8 + 12 * used, table)
        raw += struct.pack("<II16xHBBII", size, 0, 0xC4, 0, 0, 0, 0)
        assert len(raw) == 0xC4
        disk.put(sector, raw + attributes)

    def entry(
        name: bytes, flags: int, kind: int, sector: int, size: int, attributes: int = 0
    ) -> bytes:
        length = -(-(31 + len(name)) // 4) * 4
        head = struct.pack(
            "<HBBIIIIIIBBB", length, flags, kind, sector, MOMENT, size, MOMENT, MOMENT, attributes,
            0, 0, len(name),
        )  # fmt: skip
        return (head + name).ljust(length, b"\0")

    def folder(path: str, own: int, parent: int) -> None:
        place = new(4)
        owner = attribute(b"UID", struct.pack("<H", 12)) + attribute(b"GID", struct.pack("<H", 34))
        entries = [entry(b"\1\1", 1, 0x10, own, 0)]
        for name in sorted(folders()[path], key=str.upper):
            full = f"{path}/{name}".lstrip("/")
            sector = new()
            content = FILES.get(full, b"")
            long_name = 0x40
            if full in FILES:
                half = -(-len(content) // 1024)
                runs = [new(half) if half else 0, new(half) if len(content) > 512 else 0]
                sectors = -(-len(content) // 512)
                extents = [(0, half, runs[0]), (half, sectors - half, runs[1])]
                for number, piece in enumerate(disk.blocks_of(content)):
                    second = number >= half
                    disk.put(runs[second] + number - (half if second else 0), piece)
                attributes = owner + attribute(b"MODE", struct.pack("<H", FILE_MODE))
                used = [one for one in extents if one[1]]
                node(sector, name, own, used, len(content), attributes)
                kind = 0x20
            elif full == LINK:
                attributes = owner + attribute(b"SYMLINK", TARGET)
                node(sector, name, own, [], 0, attributes)
                kind = 0x20
            else:
                folder(full, sector, own)
                attributes = b""
                kind = 0x10
            entries.append(
                entry(name.encode(), 0x10, kind | long_name, sector, len(content), len(attributes))
            )
        entries.append(entry(b"\xff", 8, 0, 0, 0))
        raw = b"".join(entries)
        head = struct.pack("<IIIII", 0x77E4_0AAE, 20 + len(raw), 1, own, place)
        disk.put(place, head + raw)
        mode = attribute(b"MODE", struct.pack("<H", DIRECTORY_MODE))
        node(own, path, parent, [(0, 4, place)], 0, owner + mode, is_folder=True)

    boot = bytearray(512)
    boot[0:11] = b"\xeb\x3c\x90OS2 20.0"
    boot[0x26], boot[0x36:0x3E], boot[510:512] = 0x28, b"HPFS    ", b"\x55\xaa"
    disk.put(0, boot)
    top, bitmaps, bitmap, bad, band, band_map = 20, 24, 28, 32, 40, 36
    folder("", top, top)
    disk.put(bitmaps, struct.pack("<I", bitmap))
    disk.put(16, struct.pack(
        "<IIBBHIIIIIIIIIIIII", 0xF995_E849, 0xFA53_E9C5, 2, 2, 0, top, 600, 0, bitmaps, 0, bad, 0,
        0, 0, 16, band, band + 15, band_map,
    ))  # fmt: skip
    disk.put(17, struct.pack("<II", 0xF991_1849, 0xFA52_29C5))
    return bytes(disk.content)


class Handmade(NamedTuple):
    """An image that was written here."""

    name: str
    feature: str
    kind: str
    """The kernel's name."""
    content: bytes
    owners: bool = True
    """Whether it has modes and owners."""


def handmade() -> list[Handmade]:
    """All of them."""
    return [
        Handmade("affs", "fast file system", "affs", affs(fast=True), owners=False),
        Handmade("affs", "old file system", "affs", affs(fast=False), owners=False),
        Handmade("qnx4", "files, folders, links", "qnx4", qnx4()),
        Handmade("qnx6", "files, folders, links, long names", "qnx6", qnx6()),
        Handmade("befs", "files, folders, links", "befs", befs()),
        Handmade("hpfs", "files, folders, links", "hpfs", hpfs()),
    ]
