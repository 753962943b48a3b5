# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""LUKS2 volumes that no tool makes here: with every cipher of the kernel, and hostile ones.

Headers are put together here; key slots and payload are encrypted by the kernel's dm-crypt, whose
table has the key in digits. cryptsetup looks at what it can.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import struct
from base64 import b64encode
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from explorer.kernel import Kernel
from explorer.kernel.mapper import MappedDevice, Target, map_device
from tests.makers import ScratchDisk
from tests.trees import make_empty

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from explorer.kernel import BlockDevice

SECTOR = 512
MIB = 1 << 20
HEADER = 0x4000
"""Bytes of each of the two headers."""
AREAS = 2 * HEADER
AREA = 512 * 1024
PAYLOAD = 2 * MIB
UUID = "6b2f1e0a-5d43-4c11-9a54-1f7d50b1a0ff"
STRIPES = 4000
ITERATIONS = 1000

Metadata = dict[str, Any]

_numbers = itertools.count()


def binary_header(metadata: bytes, place: int, length: int = HEADER, **changed: object) -> bytes:
    """A header with its metadata, under a right checksum."""
    fields: dict[str, object] = {
        "magic": b"SKUL\xba\xbe" if place else b"LUKS\xba\xbe", "version": 2, "size": length,
        "sequence": 3, "label": b"a label", "algorithm": b"sha256", "salt": bytes(64),
        "uuid": UUID.encode(), "subsystem": b"a subsystem", "offset": place,
    }  # fmt: skip
    fields |= changed
    packed = struct.pack(">6sHQQ48s32s64s40s48sQ184x64s", *fields.values(), bytes(64))
    raw = bytearray(packed.ljust(4096, b"\0") + metadata.ljust(length - 4096, b"\0"))
    raw[448:480] = hashlib.sha256(raw).digest()
    return bytes(raw)


def write_header(path: Path, metadata: Metadata | bytes) -> None:
    """Write both headers; the secondary one is like the primary."""
    raw = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    with path.open("r+b") as file:
        for offset in (0, HEADER):
            file.seek(offset)
            file.write(binary_header(raw, offset))


def split_key(key: bytes, stripes: int = STRIPES) -> bytes:
    """The anti-forensic stripes of a key, with SHA-256 (LUKS1 specification, section 2.4)."""
    pieces = [random.Random(number).randbytes(len(key)) for number in range(stripes - 1)]
    mixed = bytes(len(key))
    for piece in pieces:
        mixed = bytes(a ^ b for a, b in zip(mixed, piece, strict=True))
        mixed = b"".join(
            hashlib.sha256(struct.pack(">I", at // 32) + mixed[at : at + 32]).digest()
            for at in range(0, len(key), 32)
        )[: len(key)]
    pieces.append(bytes(a ^ b for a, b in zip(mixed, key, strict=True)))
    return b"".join(pieces)


def base64(raw: bytes) -> str:
    return b64encode(raw).decode()


@dataclass(kw_only=True)
class Recipe:
    """What a volume is to be like."""

    cipher: str = "aes-xts-plain64"
    key_size: int = 64
    slot_cipher: str = "aes-xts-plain64"
    slot_key_size: int = 64
    sector_size: int = SECTOR
    first_sector: int = 0
    passphrase: bytes = b"geheim"
    integrity: str = ""
    tag_size: int = 0
    table_cipher: str = ""
    """Where dm-crypt spells the cipher otherwise than the header."""
    size: int = 8 * MIB
    integrity_fields: Metadata = field(default_factory=dict)

    @property
    def key(self) -> bytes:
        """The volume key."""
        return random.Random(0).randbytes(self.key_size)

    def metadata(self) -> Metadata:
        """What its header says."""
        salt = bytes(range(32))
        digest = hashlib.pbkdf2_hmac("sha256", self.key, salt, ITERATIONS, 32)
        segment: Metadata = {
            "type": "crypt", "offset": str(PAYLOAD), "size": "dynamic",
            "iv_tweak": str(self.first_sector), "encryption": self.cipher,
            "sector_size": self.sector_size,
        }  # fmt: skip
        if self.integrity:
            segment["integrity"] = {
                "type": self.integrity, "journal_encryption": "none", "journal_integrity": "none",
                **self.integrity_fields,
            }  # fmt: skip
        return {
            "keyslots": {"0": {
                "type": "luks2", "key_size": self.key_size,
                "area": {
                    "type": "raw", "offset": str(AREAS), "size": str(AREA),
                    "encryption": self.slot_cipher, "key_size": self.slot_key_size,
                },
                "kdf": {
                    "type": "pbkdf2", "hash": "sha256", "iterations": ITERATIONS,
                    "salt": base64(salt),
                },
                "af": {"type": "luks1", "stripes": STRIPES, "hash": "sha256"},
            }},
            "tokens": {},
            "segments": {"0": segment},
            "digests": {"0": {
                "type": "pbkdf2", "keyslots": ["0"], "segments": ["0"], "hash": "sha256",
                "iterations": ITERATIONS, "salt": base64(salt), "digest": base64(digest),
            }},
            "config": {"json_size": str(HEADER - 4096), "keyslots_size": str(PAYLOAD - AREAS)},
        }  # fmt: skip


def write_device(device: BlockDevice, content: bytes, offset: int = 0) -> None:
    """Write to a device of the kernel, through its cache."""
    kernel = device.kernel
    library: Any = kernel.binding.library
    descriptor = device.open(read_only=False)
    done = library.lkl_sys_pwrite64(kernel.pointer, descriptor, content, len(content), offset)
    assert done == len(content), done
    kernel.check(library.lkl_sys_fsync(kernel.pointer, descriptor), "fsync")
    kernel.close_descriptor(descriptor)


def map_crypt(
    device: BlockDevice, cipher: str, key: bytes, start: int, sectors: int, *options: str,
    first: int = 0,
) -> MappedDevice:  # fmt: skip
    """Encrypt a range of a device; ``start`` is a sector."""
    shown = "-" if cipher.startswith("cipher_null") else key.hex()
    parameters = (
        f"{cipher} {shown} {first} {device.path.decode()} {start} {len(options)} "
        + " ".join(options)
    )  # fmt: skip
    return map_device(
        device.kernel,
        b"maker-%d" % next(_numbers),
        [Target(0, sectors, "crypt", parameters.rstrip().encode())],
        read_only=False,
    )


def map_tags(
    device: BlockDevice,
    start: int,
    tag_size: int,
    sector_size: int,
    *,
    journal: bool = False,
    exists: bool = False,
) -> MappedDevice:
    """A dm-integrity device that keeps tags; a journal is emptied as late as possible."""

    def open_it(sectors: int) -> MappedDevice:
        mode = "J 2 journal_watermark:99" if journal else "D 1"
        parameters = f"{device.path.decode()} {start} {tag_size} {mode} block_size:{sector_size}"
        return map_device(
            device.kernel,
            b"maker-%d" % next(_numbers),
            [Target(0, sectors, "integrity", parameters.encode())],
            read_only=False,
        )

    if not exists:
        # As integritysetup does: the first time it finds out how much room there is.
        open_it(8).close()
    return open_it(int.from_bytes(device.read(start * SECTOR + 16, 8), "little"))


def make_luks2(path: Path, recipe: Recipe, payload: bytes) -> Path:
    """A volume with one key slot; ``payload`` stands at its start."""
    make_empty(path, recipe.size)
    metadata = recipe.metadata()
    write_header(path, metadata)
    kdf = metadata["keyslots"]["0"]["kdf"]
    assert kdf["iterations"] == ITERATIONS
    slot_key = hashlib.pbkdf2_hmac(
        "sha256", recipe.passphrase, bytes(range(32)), ITERATIONS, recipe.slot_key_size
    )
    stripes = split_key(recipe.key)
    stripes = stripes.ljust(-(-len(stripes) // SECTOR) * SECTOR, b"\0")
    with ExitStack() as stack:
        scratch = ScratchDisk(path)
        stack.callback(scratch.close)
        kernel = stack.enter_context(Kernel())
        device = stack.enter_context(kernel.add_scratch_disk(scratch)).device()
        area = (AREAS // SECTOR, len(stripes) // SECTOR)
        with map_crypt(device, recipe.slot_cipher, slot_key, *area) as mapped:
            write_device(mapped, stripes)
        write_payload(stack, device, recipe, payload)
    return path


def write_payload(stack: ExitStack, device: BlockDevice, recipe: Recipe, payload: bytes) -> None:
    """Encrypt what stands at the start of a volume."""
    start = PAYLOAD // SECTOR
    options = [f"sector_size:{recipe.sector_size}"]
    sectors = (recipe.size - PAYLOAD) // SECTOR
    if recipe.integrity:
        device = stack.enter_context(map_tags(device, start, recipe.tag_size, recipe.sector_size))
        kind = "none" if recipe.integrity == "none" else "aead"
        options.append(f"integrity:{recipe.tag_size}:{kind}")
        options += [
            f"integrity_key_size:{size}"
            for size in (recipe.integrity_fields.get("key_size"),)
            if size
        ]
        start, sectors = 0, device.size() // SECTOR
    crypt = map_crypt(
        device, recipe.table_cipher or recipe.cipher, recipe.key, start, sectors, *options,
        first=recipe.first_sector,
    )  # fmt: skip
    with crypt as mapped:
        write_device(mapped, payload)


def write_slices(path: Path, pieces: Sequence[tuple[int, bytes]]) -> None:
    """Write bytes at offsets."""
    with path.open("r+b") as file:
        for offset, content in pieces:
            file.seek(offset)
            file.write(content)
