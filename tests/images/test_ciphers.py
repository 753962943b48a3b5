# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sectors that QEMU encrypted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from Crypto.Cipher import AES, CAST

from explorer.images.ciphers import SECTOR, decrypt_aes_cbc, find_cipher
from explorer.images.files import HostFile, HostFolder
from explorer.images.luks import open_luks1, read_luks1
from explorer.images.opening import Choices, Opening
from explorer.images.registry import open_format
from tests.images.content import make_disk
from tests.images.encrypted import PASSPHRASE, create_encrypted, fill_encrypted, make_luks1
from tests.trees import noise

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def decrypt(spec: str, key: bytes, sector: int, data: bytes) -> bytes:
    """With a cipher that is known."""
    found = find_cipher(spec, key)
    assert found is not None
    return found(sector, data)


def check_payload(path: Path, raw: Path) -> None:
    """What QEMU wrote into a LUKS volume is decrypted, from any sector on."""
    file = HostFile(path)
    try:
        device = Opening(
            file=file, folder=HostFolder(b""), choices=Choices(), open_image=open_format
        )
        header = read_luks1(device)
        key = open_luks1(device, header, PASSPHRASE.encode(), decrypt)
        assert key is not None
        content = raw.read_bytes()
        stored = file.read(header.payload, len(content))
    finally:
        file.close()
    assert stored != content
    assert decrypt(header.cipher, key, 0, stored) == content
    for sector, count in ((0, 1), (1, 1), (7, 64), (len(content) // SECTOR - 3, 3)):
        place = slice(sector * SECTOR, (sector + count) * SECTOR)
        assert decrypt(header.cipher, key, sector, stored[place]) == content[place]


@pytest.mark.parametrize(
    ("cipher", "bits"),
    [
        ("aes-xts-plain64", 512),
        ("aes-xts-plain64", 256),
        ("aes-xts-plain", 512),
        ("aes-xts-essiv:sha256", 512),
        ("aes-cbc-plain64", 256),
        ("aes-cbc-plain64", 128),
        ("aes-cbc-plain", 256),
        ("aes-cbc-essiv:sha256", 256),
        ("aes-cbc-essiv:sha256", 128),
        ("aes-cbc-essiv:md5", 256),
    ],
)
def test_sectors_of_aes(cipher: str, bits: int, tmp_path: Path) -> None:
    path = make_luks1(
        tmp_path / "volume", PASSPHRASE.encode(), f"--cipher={cipher}", f"--key-size={bits}"
    )
    raw = make_disk(tmp_path / "raw", MIB, 65536)
    check_payload(fill_encrypted(raw, path, "luks"), raw)


@pytest.mark.parametrize(
    ("cipher", "mode", "vectors"),
    [("cast5-128", "cbc", "plain64"), ("aes-256", "ecb", "plain"), ("aes-192", "xts", "plain64")],
)
def test_sectors_of_what_cryptsetup_has_not(
    cipher: str, mode: str, vectors: str, tmp_path: Path
) -> None:
    path = create_encrypted(
        tmp_path / "volume",
        "luks",
        MIB,
        "key-secret=secret",
        f"cipher-alg={cipher}",
        f"cipher-mode={mode}",
        f"ivgen-alg={vectors}",
        # The slowest, so that QEMU can measure it.
        "hash-alg=ripemd160",
        "iter-time=10",
    )
    raw = make_disk(tmp_path / "raw", MIB, 65536)
    check_payload(fill_encrypted(raw, path, "luks"), raw)


def test_numbers_of_sectors_beyond_32_bits() -> None:
    data = noise(SECTOR * 3, 1)
    far = (1 << 32) - 1
    key = noise(32, 2)
    # "plain" counts on from 0, "plain64" does not.
    folded = decrypt("aes-cbc-plain", key, far, data)
    assert folded[SECTOR:] == decrypt("aes-cbc-plain", key, 0, data[SECTOR:])
    whole = decrypt("aes-cbc-plain64", key, far, data)
    assert whole[:SECTOR] == folded[:SECTOR]
    for number in range(3):
        part = data[number * SECTOR : (number + 1) * SECTOR]
        vector = (far + number).to_bytes(16, "little")
        expected = AES.new(key, AES.MODE_CBC, vector).decrypt(part)
        assert whole[number * SECTOR : (number + 1) * SECTOR] == expected
    assert decrypt_aes_cbc(key)(far, data) == whole
    short = CAST.new(key[:16], CAST.MODE_CBC, far.to_bytes(8, "little")).decrypt(data[:SECTOR])
    assert decrypt("cast5-cbc-plain64", key[:16], far, data[:SECTOR]) == short


def test_xts_by_the_standard() -> None:
    # IEEE 1619-2007, annex B, vector 10: a data unit of 512 bytes, number 255.
    key = bytes.fromhex("2718281828459045235360287471352662497757247093699959574966967627")
    key += bytes.fromhex("3141592653589793238462643383279502884197169399375105820974944592")
    plain = bytes(range(256)) * 2
    stored = AES.new(key[:32], AES.MODE_ECB)
    tweak = int.from_bytes(
        AES.new(key[32:], AES.MODE_ECB).encrypt((255).to_bytes(16, "little")), "little"
    )
    cipher = b""
    for at in range(0, 512, 16):
        mask = tweak.to_bytes(16, "little")
        block = bytes(a ^ b for a, b in zip(plain[at : at + 16], mask, strict=True))
        cipher += bytes(a ^ b for a, b in zip(stored.encrypt(block), mask, strict=True))
        tweak = tweak << 1 if tweak < 1 << 127 else ((tweak << 1) & ((1 << 128) - 1)) ^ 0x87
    assert cipher.startswith(bytes.fromhex("1c3b3a102f770386e4836c99e370cf9b"))
    assert decrypt("aes-xts-plain64", key, 255, cipher) == plain


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        ("", 32),
        ("aes", 32),
        ("aes-", 32),
        ("aes-xts", 64),
        ("aes-xts-", 64),
        ("aes-xts-plain64", 32 + 1),
        ("aes-xts-plain64", 0),
        ("aes-xts-plain64", 16),
        ("aes-cbc-plain64", 64),
        ("aes-cbc-plain64be", 32),
        ("aes-cbc-essiv", 32),
        ("aes-cbc-essiv:sha1", 32),
        ("aes-cbc-essiv:sha512", 32),
        ("aes-ctr-plain64", 32),
        ("aes-lrw-benbi", 48),
        ("aes:64-cbc-lmk", 32),
        ("cast5-xts-plain64", 32),
        ("cast5-cbc-essiv:sha256", 16),
        ("serpent-xts-plain64", 64),
        ("twofish-xts-plain64", 64),
        ("capi:xts(aes)-plain64", 64),
        ("aes-xts-plain64\n", 64),
        ("äs-xts-plain64", 64),
    ],
)
def test_what_is_not_known(spec: str, size: int) -> None:
    assert find_cipher(spec, bytes(size)) is None
