# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Decrypts sectors of images, where the format itself encrypts them.

Ciphers are named as dm-crypt names them: ``aes-xts-plain64``, ``aes-cbc-essiv:sha256``. Volumes are
none of this module's business: the kernel decrypts them.

The block ciphers are pycryptodome's, in its ECB mode only. The modes are made around it for all
sectors of a read at once: a call for each sector would take longer than its decryption.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple, Protocol

from Crypto.Util.strxor import strxor

SECTOR = 512
"""Bytes that share an initialisation vector."""

_WORDS = SECTOR // 8

Decrypt = Callable[[int, bytes], bytes]
"""Given the number of the first sector and whole sectors: the same decrypted. From any thread."""


class _Blocks(Protocol):
    """A block cipher with its key, each block by itself."""

    def encrypt(self, plaintext: bytes) -> bytes: ...

    def decrypt(self, ciphertext: bytes) -> bytes: ...


class _Cipher(NamedTuple):
    module: str
    """Below ``Crypto.Cipher``."""
    block: int
    """Bytes."""
    keys: tuple[int, ...]
    """Bytes that a key may have."""

    def start(self, key: bytes) -> _Blocks:
        found = import_module(f"Crypto.Cipher.{self.module}")
        blocks: _Blocks = found.new(key, found.MODE_ECB)
        return blocks


_CIPHERS = {
    "aes": _Cipher("AES", 16, (16, 24, 32)),
    "cast5": _Cipher("CAST", 8, (16,)),
}

_SPEC = re.compile(r"(?P<cipher>[a-z0-9]+)-(?P<mode>[a-z]+)(-(?P<iv>[a-z0-9]+)(:(?P<hash>\w+))?)?")

# ---- Initialisation vectors ----------------------------------------------------------------------

_Vectors = Callable[[int, int], bytes]
"""Given the first sector and their number: a block for each, in one row."""


def _plain(block: int, limit: int) -> _Vectors:
    # The sector's number, little-endian, then zeros; "plain" keeps 32 bits of it, "plain64" all.
    words = block // 8

    def make(sector: int, count: int) -> bytes:
        vectors = array("Q", bytes(block * count))
        numbers = range(sector, sector + count)
        vectors[::words] = array("Q", (number % limit for number in numbers))
        if sys.byteorder == "big":
            vectors.byteswap()
        return vectors.tobytes()

    return make


def _essiv(cipher: _Cipher, key: bytes, hash_name: str) -> _Vectors | None:
    # plain64, encrypted with the hash of the key as key.
    if hash_name not in ("md5", "sha256"):
        return None
    salt: bytes = import_module(f"Crypto.Hash.{hash_name.upper()}").new(key).digest()
    if len(salt) not in cipher.keys:
        return None
    blocks = cipher.start(salt)
    plain = _plain(cipher.block, 1 << 64)
    return lambda sector, count: blocks.encrypt(plain(sector, count))


# ---- Modes ---------------------------------------------------------------------------------------


def _cbc(blocks: _Blocks, vectors: _Vectors, block: int) -> Decrypt:
    words = block // 8

    def decrypt(sector: int, data: bytes) -> bytes:
        # What each block is combined with: the encrypted one before, and at a sector's start the
        # vector.
        before = bytearray(block)
        before += data[:-block]
        first = memoryview(vectors(sector, len(data) // SECTOR)).cast("Q")
        target = memoryview(before).cast("Q")
        for word in range(words):
            target[word::_WORDS] = first[word::words]
        return strxor(blocks.decrypt(data), before)

    return decrypt


def _xts(blocks: _Blocks, tweak_blocks: _Blocks, vectors: _Vectors) -> Decrypt:
    def decrypt(sector: int, data: bytes) -> bytes:
        tweaks = _spread_tweaks(tweak_blocks.encrypt(vectors(sector, len(data) // SECTOR)))
        return strxor(blocks.decrypt(strxor(data, tweaks)), tweaks)

    return decrypt


def _spread_tweaks(first: bytes) -> bytes:
    """The tweaks of all blocks, given those of each sector's first.

    IEEE 1619, section 5.2: each is the one before, doubled in GF(2^128), little-endian. One number
    holds those of all sectors, in lanes of 128 bits.
    """
    count = len(first) // 16
    tops = int.from_bytes((bytes(15) + b"\x80") * count, "little")
    lanes = int.from_bytes(first, "little")
    tweaks = bytearray(count * SECTOR)
    target = memoryview(tweaks).cast("Q")
    for word in range(0, _WORDS, 2):
        part = memoryview(lanes.to_bytes(len(first), "little")).cast("Q")
        target[word::_WORDS] = part[::2]
        target[word + 1 :: _WORDS] = part[1::2]
        carries = lanes & tops
        lanes = ((lanes ^ carries) << 1) ^ ((carries >> 127) * 0x87)
    return bytes(tweaks)


# ---- By name -------------------------------------------------------------------------------------


def find_cipher(spec: str, key: bytes) -> Decrypt | None:
    """What decrypts sectors that were encrypted so, or None.

    None when the cipher, its mode or its vectors are not known, or the key has not their length.
    """
    parts = _SPEC.fullmatch(spec)
    cipher = _CIPHERS.get(parts["cipher"]) if parts else None
    if parts is None or cipher is None:
        return None
    mode = parts["mode"]
    # XTS has two keys, one of which encrypts the tweaks.
    length = len(key) // 2 if mode == "xts" else len(key)
    if length not in cipher.keys or (mode == "xts" and (cipher.block != 16 or len(key) % 2)):
        return None
    blocks = cipher.start(key[:length])
    if mode == "ecb":
        # Linux' LUKS names no vectors here, QEMU's names some that it does not use.
        return lambda _sector, data: blocks.decrypt(data)
    vectors: _Vectors | None = None
    if parts["iv"] == "essiv":
        vectors = _essiv(cipher, key, parts["hash"] or "")
    elif parts["iv"] in ("plain", "plain64"):
        vectors = _plain(cipher.block, 1 << (32 if parts["iv"] == "plain" else 64))
    if vectors is None:
        return None
    if mode == "cbc":
        return _cbc(blocks, vectors, cipher.block)
    if mode == "xts":
        return _xts(blocks, cipher.start(key[length:]), vectors)
    return None


def decrypt_aes_cbc(key: bytes) -> Decrypt:
    """What decrypts ``aes-cbc-plain64`` with a key of 16, 24 or 32 bytes."""
    aes = _CIPHERS["aes"]
    return _cbc(aes.start(key), _plain(aes.block, 1 << 64), aes.block)
