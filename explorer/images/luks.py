# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""LUKS: from a passphrase to the key that data is encrypted with.

What is the same in both versions (:func:`derive_pbkdf2`, :func:`merge_stripes`), and the header of
version 1. Where the header stands, and what decrypts its key slots, is the caller's: a part of a
qcow2 image and :mod:`explorer.images.ciphers`, or a volume and the kernel.

Source: "LUKS1 On-Disk Format Specification", version 1.2.3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol

from explorer.core.names import show_name

if TYPE_CHECKING:
    from types import ModuleType

    from explorer.core.errors import ImageError

MAGIC = b"LUKS\xba\xbe"
SECTOR = 512

_HASHES = ("sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160",
           "sha3-224", "sha3-256", "sha3-384", "sha3-512")  # fmt: skip

ITERATIONS_LIMIT = 1 << 30
"""Rounds of PBKDF2 that are done for a key.

Whoever made the header had to wait for them, too: two minutes at ten millions a second, which few
machines reach. The field allows four times as many, which would only hold the program up.
"""
LARGEST_KEY = 512
"""Bytes. The longest that a cipher of Linux takes are 64; with 4000 stripes of this, 2 MB."""


class Device(Protocol):
    """What a header stands on; :class:`explorer.images.opening.Opening` is one."""

    def read_exactly(self, offset: int, length: int, structure: str) -> bytes:
        """Bytes that must be there; raises :exc:`ImageError` when they are not."""

    def corrupt(self, structure: str, offset: int, reason: str) -> ImageError:
        """The error for a structure that breaks the rules."""

    def unsupported(self, feature: str) -> ImageError:
        """The error for what cannot be read."""


Decrypt = Callable[[str, bytes, int, bytes], bytes]
"""Given dm-crypt's name of a cipher, a key, the number of the first sector, and whole sectors of
512 bytes: these decrypted."""

# ---- Both versions -------------------------------------------------------------------------------


def find_hash(name: str) -> ModuleType | None:
    """The module of a hash by its name in headers, with ``new`` and ``digest_size``, or None."""
    if name not in _HASHES:
        return None
    return import_module(f"Crypto.Hash.{name.upper().replace('-', '_')}")


def derive_pbkdf2(
    hashed: ModuleType, passphrase: bytes, salt: bytes, iterations: int, size: int
) -> bytes:
    """A key of ``size`` bytes by PBKDF2 (RFC 8018, section 5.2) with HMAC.

    ``hashed`` is what :func:`find_hash` gives. The caller bounds ``iterations``: for each digest's
    length of the key, a second is enough for a million or more, for 30,000 with RIPEMD-160.
    """
    # It loads OpenSSL, by way of the standard library's hmac; the hashes it uses are its own.
    from Crypto.Protocol.KDF import PBKDF2

    return PBKDF2(passphrase, salt, size, iterations, hmac_hash_module=hashed)


def merge_stripes(hashed: ModuleType, material: bytes, stripes: int) -> bytes:
    """The key that was split into ``stripes`` (specification, section 2.4, "AFmerge").

    ``material`` is as long as the key times their number.
    """
    new_hash = hashed.new
    step: int = hashed.digest_size
    size = len(material) // stripes
    key = 0
    for start in range(0, size * stripes, size):
        if start:
            # "H1": each piece of a digest's length is replaced by the digest of its number and
            # itself, the last one cut to what there is.
            mixed = key.to_bytes(size, "big")
            key = int.from_bytes(
                b"".join(
                    new_hash(struct.pack(">I", at // step) + mixed[at : at + step]).digest()
                    for at in range(0, size, step)
                )[:size],
                "big",
            )
        key ^= int.from_bytes(material[start : start + size], "big")
    return key.to_bytes(size, "big")


def read_stripes(device: Device, position: int, size: int, stripes: int, structure: str) -> bytes:
    """The encrypted stripes of a key of ``size`` bytes, up to the end of their last sector."""
    length = -(-size * stripes // SECTOR) * SECTOR
    return device.read_exactly(position, length, structure)


# ---- Version 1 -----------------------------------------------------------------------------------

# Section 2.1: "PHDR and key slots". Magic, version, cipher's name and mode, hash, start of the
# payload, size of the key; its digest, the digest's salt and iterations; UUID.
_HEADER = struct.Struct(">6sH32s32s32sII20s32sI40s")
# State, iterations, salt, start of the key material, stripes.
_SLOT = struct.Struct(">II32sII")
_SLOTS = 8
HEADER_SIZE = _HEADER.size + _SLOTS * _SLOT.size

_ENABLED = 0x00AC71F3
STRIPES = 4000
"""Of every key; the specification lets a header say otherwise, cryptsetup and QEMU do not."""


class Slot(NamedTuple):
    """A key slot that is in use."""

    number: int
    iterations: int
    salt: bytes
    position: int
    """Bytes from the start of the header to the key material."""


class Luks1(NamedTuple):
    """What a header of version 1 tells."""

    cipher: str
    """As dm-crypt names it."""
    hash: str
    payload: int
    """Bytes from the start of the header to the data, which a container may place elsewhere."""
    key_size: int
    """Bytes."""
    digest: bytes
    digest_salt: bytes
    digest_iterations: int
    uuid: str
    slots: tuple[Slot, ...]


def _text(field: bytes) -> str:
    return show_name(field.partition(b"\0")[0])


def read_luks1(device: Device) -> Luks1:
    """Read the header at a device's start; raises :exc:`ImageError`.

    Neither cipher nor hash need be known: who only lists shows their names.
    """
    raw = device.read_exactly(0, HEADER_SIZE, "LUKS header")
    magic, version, name, mode, hash_name, payload, key_size, *digest, uuid = _HEADER.unpack_from(
        raw
    )
    if magic != MAGIC:
        raise device.corrupt("LUKS header", 0, "its magic number is wrong")
    if version != 1:
        raise device.unsupported(f"LUKS version {version}")
    if not 0 < key_size <= LARGEST_KEY:
        raise device.corrupt("LUKS header", 108, f"a key of {key_size} bytes")
    return Luks1(
        cipher=f"{_text(name)}-{_text(mode)}",
        hash=_text(hash_name),
        payload=payload * SECTOR,
        key_size=key_size,
        digest=digest[0],
        digest_salt=digest[1],
        digest_iterations=_iterations(device, 164, digest[2]),
        uuid=_text(uuid),
        slots=tuple(_read_slots(device, raw)),
    )


def _iterations(device: Device, offset: int, count: int) -> int:
    if not 0 < count <= ITERATIONS_LIMIT:
        raise device.corrupt("LUKS header", offset, f"{count} iterations")
    return count


def _read_slots(device: Device, raw: bytes) -> list[Slot]:
    slots = []
    for number in range(_SLOTS):
        offset = _HEADER.size + number * _SLOT.size
        state, iterations, salt, start, stripes = _SLOT.unpack_from(raw, offset)
        if state != _ENABLED:
            continue
        if stripes != STRIPES:
            raise device.corrupt("LUKS key slot", offset + 44, f"{stripes} stripes")
        position = start * SECTOR
        if position < HEADER_SIZE:
            raise device.corrupt("LUKS key slot", offset + 40, f"its key material is at {position}")
        slots.append(Slot(number, _iterations(device, offset + 4, iterations), salt, position))
    return slots


def check_hash(device: Device, name: str) -> ModuleType:
    """The module of a hash; raises :exc:`ImageError` when it is not known."""
    hashed = find_hash(name)
    if hashed is None:
        raise device.unsupported(f"the hash {name}")
    return hashed


def open_luks1(device: Device, header: Luks1, passphrase: bytes, decrypt: Decrypt) -> bytes | None:
    """The key of the data, or None when the passphrase opens no slot; raises :exc:`ImageError`.

    The content of a key file is a passphrase, as it is.
    """
    hashed = check_hash(device, header.hash)
    size = header.key_size
    for slot in header.slots:
        material = read_stripes(device, slot.position, size, STRIPES, "LUKS key material")
        slot_key = derive_pbkdf2(hashed, passphrase, slot.salt, slot.iterations, size)
        split = decrypt(header.cipher, slot_key, 0, material)[: size * STRIPES]
        key = merge_stripes(hashed, split, STRIPES)
        digest = derive_pbkdf2(
            hashed, key, header.digest_salt, header.digest_iterations, len(header.digest)
        )
        if digest == header.digest:
            return key
    return None
