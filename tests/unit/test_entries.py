# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Packed records of directory entries: what is well formed comes out, nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.entries import (
    ENTRY_HEAD,
    MASK_ACCESS,
    MASK_BIRTH,
    MASK_CHANGE,
    MASK_MODE,
    MASK_MODIFY,
    TYPE_NAMES,
    Entry,
    FileType,
    iter_entries,
    mode_string,
)
from explorer.core.errors import RecordError
from explorer.core.names import is_entry_name

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
SECONDS = st.integers(-(2**63), 2**63 - 1)
NAMES = st.binary(min_size=1, max_size=255).filter(is_entry_name)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Any entry that C could write."""

    def time(bit: int) -> int | None:
        if not mask & bit:
            return None
        return draw(SECONDS) * 10**9 + draw(st.integers(0, 10**9 - 1))

    mask = draw(st.integers(0, 0xFFF))
    return Entry(
        name=draw(NAMES),
        type=draw(st.sampled_from(sorted(TYPE_NAMES))),
        error=draw(st.integers(-4095, 0)),
        depth=draw(U32),
        directory=draw(U64),
        number=draw(U64),
        mask=mask,
        mode=draw(st.integers(0, 0xFFFF)),
        uid=draw(U32),
        gid=draw(U32),
        links=draw(U32),
        block_size=draw(U32),
        inode=draw(U64),
        size=draw(U64),
        blocks=draw(U64),
        attributes=draw(U64),
        device_major=draw(U32),
        device_minor=draw(U32),
        special_major=draw(U32),
        special_minor=draw(U32),
        access_ns=time(MASK_ACCESS),
        modify_ns=time(MASK_MODIFY),
        change_ns=time(MASK_CHANGE),
        birth_ns=time(MASK_BIRTH),
    )


def pack(entry: Entry) -> bytes:
    """The record of an entry, as lkl.h lays it out."""
    times = [
        divmod(moment or 0, 10**9)
        for moment in (entry.access_ns, entry.modify_ns, entry.change_ns, entry.birth_ns)
    ]
    size = ENTRY_HEAD.size + len(entry.name) + 1
    size += -size % 8
    head = ENTRY_HEAD.pack(
        size, len(entry.name), entry.type, 0, entry.error, entry.depth, entry.directory,
        entry.number, entry.mask, entry.mode, 0, entry.uid, entry.gid, entry.links,
        entry.block_size, entry.inode, entry.size, entry.blocks, entry.attributes,
        entry.device_major, entry.device_minor, entry.special_major, entry.special_minor,
        *(seconds for seconds, _ in times), *(nanoseconds for _, nanoseconds in times),
    )  # fmt: skip
    return (head + entry.name).ljust(size, b"\0")


SAMPLE = Entry(
    b"name", FileType.FILE, 0, 1, 0, 0, 0xFFF, 0o100644, 1, 2, 1, 4096, 12, 5, 8, 0, 8, 1, 0, 0,
    1_000_000_001, 2, -3, 4,
)  # fmt: skip


def test_size_is_that_of_the_c_struct() -> None:
    assert ENTRY_HEAD.size == 152


@given(st.lists(entries(), max_size=5))
def test_records_come_back(some: list[Entry]) -> None:
    assert list(iter_entries(b"".join(map(pack, some)))) == some


@given(st.binary(max_size=2000))
def test_garbage_is_a_typed_error_or_well_formed(garbage: bytes) -> None:
    try:
        for entry in iter_entries(garbage):
            assert is_entry_name(entry.name) or entry.error < 0
    except RecordError:
        pass


@given(entries(), st.data())
def test_a_cut_record_is_refused(entry: Entry, data: st.DataObject) -> None:
    record = pack(entry)
    cut = data.draw(st.integers(1, len(record) - 1))
    with pytest.raises(RecordError):
        list(iter_entries(record[:cut]))


@given(st.integers(0, len(pack(SAMPLE)) - 1), st.integers(1, 255))
def test_a_changed_byte_never_gives_a_forbidden_name(position: int, change: int) -> None:
    record = bytearray(pack(SAMPLE))
    record[position] ^= change
    try:
        names = [entry.name for entry in iter_entries(record)]
    except RecordError:
        return
    assert all(map(is_entry_name, names))


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0b"])
def test_a_forbidden_name_is_refused(name: bytes) -> None:
    with pytest.raises(RecordError):
        list(iter_entries(pack(SAMPLE._replace(name=name))))


def test_a_nameless_record_tells_of_an_unreadable_folder() -> None:
    broken = SAMPLE._replace(name=b"", type=FileType.DIRECTORY, error=-5, number=7)
    assert list(iter_entries(pack(broken))) == [broken]


def test_nanoseconds_stay_below_a_second() -> None:
    record = bytearray(pack(SAMPLE))
    record[136:140] = (10**9).to_bytes(4, "little")
    with pytest.raises(RecordError):
        list(iter_entries(record))


@pytest.mark.parametrize("size", [0, 8, 152, 2**32 - 8])
def test_a_record_size_that_cannot_be_is_refused(size: int) -> None:
    record = bytearray(pack(SAMPLE))
    record[0:4] = size.to_bytes(4, "little")
    with pytest.raises(RecordError):
        list(iter_entries(record))


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        (0o100644, "-rw-r--r--"),
        (0o104755, "-rwsr-xr-x"),
        (0o041777, "drwxrwxrwt"),
        (0o120777, "lrwxrwxrwx"),
        (0o020600, "crw-------"),
    ],
)
def test_mode_is_shown_as_by_ls(mode: int, shown: str) -> None:
    assert mode_string(SAMPLE._replace(mode=mode)) == shown


def test_an_unknown_mode_is_shown_as_unknown() -> None:
    assert mode_string(SAMPLE._replace(mask=0xFFF & ~MASK_MODE)) == "??????????"
