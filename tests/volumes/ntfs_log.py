# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""NTFS left dirty: a change that only $LogFile has, as Windows leaves it when the plug is pulled.

No tool here leaves such a log, so it is written: one restart area with one client, and one page of
records, of a transaction that was committed and never reached its place. The structures are those
of ``fs/ntfs3/fslog.c``, by whose names they are called here.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096
FIRST_PAGE = 4 * PAGE
"""After two pages of restart areas, and two for copies of the last page."""
DATA = 0x40
"""Where records begin in a page."""
HEADER = 0x30
"""Bytes of a record's own header."""
NO_CLIENT = 0xFFFF

CLIENT_RECORD, CLIENT_RESTART = 1, 2
NOOP, UPDATE_RESIDENT_VALUE, COMMIT, FORGET, OPEN_ATTRIBUTE = 0, 0x07, 0x1A, 0x1B, 0x1C
TRANSACTION = 0x18
"""The first place in the table of transactions."""
TARGET = 0x18
"""The first place in the table of open attributes."""


def protect(page: bytearray, start: int) -> None:
    """Set the last bytes of each 512 aside."""
    mark = b"\x07\x00"
    struct.pack_into("<HH", page, 4, start, len(page) // 512 + 1)
    page[start : start + 2] = mark
    for number in range(1, len(page) // 512 + 1):
        end = number * 512
        page[start + 2 * number : start + 2 * number + 2] = page[end - 2 : end]
        page[end - 2 : end] = mark


class Log:
    """One page of records on their way."""

    def __init__(self, size: int) -> None:
        # So many bits of a record's number tell which round through the log it is of.
        self.sequence_bits = 67 - size.bit_length()
        self.size = size
        self.page = bytearray(PAGE)
        self.end = DATA
        self.numbers: list[int] = []
        self.length = 0

    def add(self, data: bytes, kind: int = CLIENT_RECORD, transaction: int = TRANSACTION) -> int:
        """Add a record; returns its number (LSN)."""
        number = (FIRST_PAGE + self.end >> 3) + (3 << 64 - self.sequence_bits)
        before = self.numbers[-1] if self.numbers else 0
        header = struct.pack(
            "<QQQIHHIIH6x", number, before, before, len(data), 0, 0, kind, transaction, 0
        )
        self.page[self.end : self.end + len(header) + len(data)] = header + data
        self.end += -(-(len(header) + len(data)) // 8) * 8
        self.numbers.append(number)
        self.length = len(data)
        return number

    def operation(self, redo: int, data: bytes = b"", undo: bytes = b"", **place: int) -> int:
        """Add an operation, with what it writes and what it replaces."""
        clusters = 1 if place else 0
        redo_at = 0x28
        undo_at = redo_at + -(-len(data) // 8) * 8
        head = struct.pack(
            "<HHHHHHHHHHHHQQ",
            redo, redo if undo else NOOP, redo_at, len(data), undo_at, len(undo), TARGET, clusters,
            place.get("record", 0), place.get("attribute", 0), place.get("sector", 0), 0,
            place.get("vcn", 0), place.get("lcn", 0),
        )  # fmt: skip
        return self.add(head + data.ljust(undo_at - redo_at, b"\0") + undo)

    def pages(self) -> tuple[bytes, bytes]:
        """The restart page, and the page of records."""
        last = self.numbers[-1]
        struct.pack_into("<4s4xQIHHH6xQ", self.page, 0, b"RCRD", last, 1, 1, 1, self.end, last)
        protect(self.page, 0x28)
        restart = bytearray(PAGE)
        struct.pack_into("<4s4xQIIHHH", restart, 0, b"RSTR", 0, PAGE, PAGE, 0x30, 1, 1)
        struct.pack_into(
            "<QHHHHIHHQIHHI20x", restart, 0x30,
            last, 1, NO_CLIENT, 0, 1, self.sequence_bits, 0xE0, 0x40, self.size, self.length,
            HEADER, DATA, 1,
        )  # fmt: skip
        first = self.numbers[0]
        struct.pack_into(
            "<QQHHH6xI8s", restart, 0x70,
            first, first, NO_CLIENT, NO_CLIENT, 0, 8, "NTFS".encode("utf-16-le"),
        )  # fmt: skip
        protect(restart, 0x1E)
        return bytes(restart), bytes(self.page)


def leave_dirty(image: Path, old: bytes, new: bytes) -> None:
    """Put a change of a small file's content into the log: ``old``, of the same length, stays."""
    assert len(old) == len(new)
    content = bytearray(image.read_bytes())
    cluster = int.from_bytes(content[11:13], "little") * content[13]
    table = int.from_bytes(content[48:56], "little") * cluster
    value = content.index(old, table)
    record = table + (value - table) // 1024 * 1024
    attribute = _find(content, record, 0x80)
    log_start, log_size = log_place(content)
    log = Log(log_size)
    # struct NTFS_RESTART: a checkpoint without tables, at the number of this record itself
    number = (FIRST_PAGE + DATA >> 3) + (3 << 64 - log.sequence_bits)
    log.add(struct.pack("<IIQ48x", 1, 0, number), CLIENT_RESTART, 0)
    # struct OPEN_ATTR_ENRTY: the $DATA of $MFT, which is record 0
    log.operation(OPEN_ATTRIBUTE, struct.pack("<IIIIQQQ", 0xFFFF_FFFF, 0, 0x80, 0, 1 << 48, 0, 0))
    log.operation(
        UPDATE_RESIDENT_VALUE, new, old,
        record=attribute - record, attribute=value - attribute,
        sector=(record - table) % cluster // 512,
        vcn=(record - table) // cluster, lcn=record // cluster,
    )  # fmt: skip
    log.operation(COMMIT)
    log.operation(FORGET)
    restart, page = log.pages()
    for at, written in ((0, restart), (PAGE, restart), (FIRST_PAGE, page)):
        content[log_start + at : log_start + at + PAGE] = written
    image.write_bytes(content)


def _find(content: bytearray, record: int, kind: int) -> int:
    at = record + int.from_bytes(content[record + 20 : record + 22], "little")
    while (found := struct.unpack_from("<II", content, at))[0] != kind:
        assert found[0] != 0xFFFF_FFFF
        at += found[1]
    return at


def log_place(content: bytearray) -> tuple[int, int]:
    """Where $LogFile is, and its size; mkntfs makes it of one run."""
    cluster = int.from_bytes(content[11:13], "little") * content[13]
    record = int.from_bytes(content[48:56], "little") * cluster + 2 * 1024
    at = _find(content, record, 0x80)
    runs = at + int.from_bytes(content[at + 0x20 : at + 0x22], "little")
    for_count, for_first = content[runs] & 0xF, content[runs] >> 4
    first = int.from_bytes(
        content[runs + 1 + for_count : runs + 1 + for_count + for_first], "little"
    )
    assert content[runs + 1 + for_count + for_first] == 0
    return first * cluster, int.from_bytes(content[at + 0x30 : at + 0x38], "little")
