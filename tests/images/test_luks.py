# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""LUKS headers and keys, beside cryptsetup; sectors that QEMU encrypted."""

from __future__ import annotations

import re
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.core.errors import CorruptImage, ExplorerError, ImageError, UnsupportedFeature
from explorer.images.ciphers import find_cipher
from explorer.images.files import HostFile, HostFolder
from explorer.images.luks import (
    HEADER_SIZE,
    ITERATIONS_LIMIT,
    LARGEST_KEY,
    open_luks1,
    read_luks1,
)
from explorer.images.opening import Choices, Opening
from explorer.images.registry import open_format
from tests.images.checks import check_described
from tests.images.encrypted import make_luks1
from tests.trees import noise, run_tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A key file may have anything.
PASSPHRASE = b"ge\0heim\n\xff"


@contextmanager
def opened(path: Path) -> Iterator[Opening]:
    """A file as what a LUKS header stands on."""
    file = HostFile(path)
    folder = HostFolder(bytes(path.parent))
    try:
        yield Opening(file=file, folder=folder, choices=Choices(), open_image=open_format)
    finally:
        file.close()


def dump_key(path: Path) -> bytes:
    """The key of a volume that :func:`make_luks1` made, by cryptsetup."""
    key_file = path.with_suffix(".key")
    told = run_tool(
        "cryptsetup",
        "luksDump",
        "--batch-mode",
        "--dump-master-key",
        f"--key-file={key_file}",
        str(path),
    )
    return bytes.fromhex(told.partition("MK dump:")[2])


def decrypt(spec: str, key: bytes, sector: int, data: bytes) -> bytes:
    """With our own ciphers; those of the test are known."""
    found = find_cipher(spec, key)
    assert found is not None
    return found(sector, data)


@pytest.mark.parametrize(
    ("cipher", "bits", "hashed"),
    [
        ("aes-xts-plain64", 512, "sha256"),
        ("aes-xts-plain64", 256, "sha1"),
        ("aes-xts-plain", 512, "sha512"),
        ("aes-cbc-essiv:sha256", 256, "sha1"),
        ("aes-cbc-essiv:sha256", 128, "sha384"),
        ("aes-cbc-plain64", 192, "sha224"),
        ("aes-cbc-plain", 256, "ripemd160"),
        ("aes-ecb", 256, "sha256"),
    ],
)
def test_a_passphrase_gives_the_key(cipher: str, bits: int, hashed: str, tmp_path: Path) -> None:
    path = make_luks1(
        tmp_path / "volume", PASSPHRASE, f"--cipher={cipher}", f"--key-size={bits}", f"-h{hashed}"
    )
    with opened(path) as device:
        header = read_luks1(device)
        assert (header.cipher.removesuffix("-"), header.hash) == (cipher, hashed)
        assert header.key_size == bits // 8
        told = run_tool("cryptsetup", "luksDump", str(path))
        assert header.uuid in told
        assert re.search(rf"Payload offset:\s+{header.payload // 512}\n", told)
        key = open_luks1(device, header, PASSPHRASE, decrypt)
        assert key == dump_key(path)
        assert open_luks1(device, header, PASSPHRASE + b"\n", decrypt) is None
        assert open_luks1(device, header, b"", decrypt) is None


def test_each_slot_opens(tmp_path: Path) -> None:
    path = make_luks1(tmp_path / "volume", b"first")
    first = path.with_suffix(".key")
    for number, passphrase in ((7, b"last"), (3, b"middle")):
        more = tmp_path / "more"
        more.write_bytes(passphrase)
        run_tool(
            "cryptsetup",
            "luksAddKey",
            "--batch-mode",
            "--pbkdf-force-iterations=1000",
            f"--key-file={first}",
            f"--key-slot={number}",
            str(path),
            str(more),
        )
    with opened(path) as device:
        header = read_luks1(device)
        assert [slot.number for slot in header.slots] == [0, 3, 7]
        key = dump_key(path)
        for passphrase in (b"first", b"middle", b"last"):
            assert open_luks1(device, header, passphrase, decrypt) == key
        run_tool("cryptsetup", "luksKillSlot", "--batch-mode", str(path), "0")
        assert open_luks1(device, read_luks1(device), b"first", decrypt) is None
        # A state that is neither of the two, as a boot sector's signature in slot 6 leaves it.
        with path.open("r+b") as file:
            file.seek(208 + 48 * 3)
            file.write(b"\x55\xaa\0\0")
        assert [slot.number for slot in read_luks1(device).slots] == [7]


def test_what_is_not_known_is_listed_all_the_same(tmp_path: Path) -> None:
    path = make_luks1(tmp_path / "volume", PASSPHRASE)
    with path.open("r+b") as file:
        file.seek(8)
        file.write(b"serpent")
        file.seek(72)
        file.write(b"whirlpool")
    with opened(path) as device:
        header = read_luks1(device)
        assert (header.cipher, header.hash) == ("serpent-xts-plain64", "whirlpool")
        with pytest.raises(UnsupportedFeature, match="whirlpool") as caught:
            open_luks1(device, header, PASSPHRASE, decrypt)
        check_described(caught.value)
        assert find_cipher(header.cipher, bytes(header.key_size)) is None


@pytest.mark.parametrize(
    ("offset", "changed", "kind"),
    [
        (0, b"LUKS\xba\xbf", CorruptImage),
        (6, b"\0\2", UnsupportedFeature),
        (6, b"\0\0", UnsupportedFeature),
        (108, struct.pack(">I", 0), CorruptImage),
        (108, struct.pack(">I", LARGEST_KEY + 1), CorruptImage),
        (108, b"\xff\xff\xff\xff", CorruptImage),
        (164, struct.pack(">I", 0), CorruptImage),
        (164, struct.pack(">I", ITERATIONS_LIMIT + 1), CorruptImage),
        (208 + 4, struct.pack(">I", 0), CorruptImage),
        (208 + 4, b"\xff\xff\xff\xff", CorruptImage),
        (208 + 40, struct.pack(">I", 1), CorruptImage),
        (208 + 40, b"\xff\xff\xff\xff", CorruptImage),
        (208 + 44, struct.pack(">I", 3999), CorruptImage),
        (208 + 44, b"\xff\xff\xff\xff", CorruptImage),
    ],
)
def test_a_damaged_header_is_refused(
    offset: int,
    changed: bytes,
    kind: type[ImageError],
    tmp_path: Path,
) -> None:
    path = make_luks1(tmp_path / "volume", PASSPHRASE)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(changed)
    with opened(path) as device:
        with pytest.raises(kind) as caught:
            open_luks1(device, read_luks1(device), PASSPHRASE, decrypt)
        check_described(caught.value)


@pytest.mark.parametrize("size", [1, 207, HEADER_SIZE - 1, HEADER_SIZE, 4096, 4096 + 255_999])
def test_a_cut_header_is_refused(size: int, tmp_path: Path) -> None:
    path = make_luks1(tmp_path / "volume", PASSPHRASE)
    with path.open("r+b") as file:
        file.truncate(size)
    with opened(path) as device:
        with pytest.raises(CorruptImage) as caught:
            open_luks1(device, read_luks1(device), PASSPHRASE, decrypt)
        check_described(caught.value)


def test_changed_key_material_is_a_wrong_passphrase(tmp_path: Path) -> None:
    path = make_luks1(tmp_path / "volume", PASSPHRASE)
    with opened(path) as device:
        header = read_luks1(device)
        assert open_luks1(device, header, PASSPHRASE, decrypt) is not None
        with path.open("r+b") as file:
            # The last byte of the last stripe.
            file.seek(header.slots[0].position + header.key_size * 4000 - 1)
            (last,) = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([last ^ 1]))
        assert open_luks1(device, header, PASSPHRASE, decrypt) is None


@settings(deadline=None, max_examples=50)
@given(content=st.binary(max_size=1000), seed=st.integers(0, 2**32))
def test_no_bytes_make_it_fail_without_a_type(
    content: bytes, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("luks") / "volume"
    path.write_bytes(b"LUKS\xba\xbe\0\1" + content + noise(1000, seed))
    with opened(path) as device:
        try:
            read_luks1(device)
        except ExplorerError as error:
            check_described(error)
