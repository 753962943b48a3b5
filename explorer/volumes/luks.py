# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Unlocks LUKS volumes, of version 1 and 2.

Keys are derived from passphrases here. All decryption is the kernel's, that of the key slots too,
so every cipher that it has will do. "LUKS1 On-Disk Format Specification", version 1.2.3, and "LUKS2
On-Disk Format Specification", version 1.1.

Passphrases and keys stay in memory: no error, no log and no table of the kernel has them. What
holds a key is overwritten where Python lets us; the bytes that libraries return it does not.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import count
from struct import Struct
from typing import TYPE_CHECKING

from explorer.core.errors import (
    CorruptImage,
    ExplorerError,
    ImageError,
    KernelError,
    UnsupportedFeature,
    VolumeError,
)
from explorer.core.messages import describe
from explorer.host.memory import available_memory
from explorer.images.luks import (
    HEADER_SIZE,
    ITERATIONS_LIMIT,
    MAGIC,
    STRIPES,
    derive_pbkdf2,
    find_hash,
    merge_stripes,
    read_luks1,
)
from explorer.kernel.keyring import lend_key
from explorer.kernel.mapper import MappedDevice, Target, map_device
from explorer.volumes.luks2 import read_luks2
from explorer.volumes.luks_header import (
    SECTOR,
    Argon2,
    Digest,
    KeySlot,
    LuksHeader,
    Pbkdf2,
    Segment,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from explorer.kernel import BlockDevice, Kernel
    from explorer.volumes.window import Window

MEMORY_LIMIT = 4 << 20
"""KiB that Argon2 may take, which is the most that LUKS2 has."""
WORK_LIMIT = 256 << 20
"""KiB times passes of Argon2: some minutes."""
LANES_LIMIT = 64
"""Threads of Argon2."""
SLOW_ROUNDS_LIMIT = 1 << 24
"""Of PBKDF2 with a hash that has no quick one: some minutes."""

_SLOW_HASHES = ("ripemd160",)

_CIPHER = re.compile(
    r"capi:[a-z0-9_(),-]{1,100}-[a-z0-9]{1,20}(:[a-z0-9-]{1,30})?"
    r"|[a-z0-9_,]{1,40}(-[a-z0-9]{1,20}){0,2}(:[a-z0-9-]{1,30})?"
)
"""How dm-crypt spells ciphers, without the count of keys, which LUKS does not have."""
_AUTHENTICATION = re.compile(r"[a-z0-9_()-]{1,40}")

# drivers/md/dm-integrity.c (struct superblock): magic, size of a tag, sectors.
_TAGS = Struct("<8s 2x H 4x Q")
_TAGS_MAGIC = b"integrt\0"

_numbers = count()


class _Place:
    """A volume, as what a LUKS1 header stands on."""

    def __init__(self, volume: Window, name: str) -> None:
        self._volume = volume
        self._name = name

    def read_exactly(self, offset: int, length: int, structure: str) -> bytes:
        """Bytes that must be there."""
        if offset + length > self._volume.size:
            raise self.corrupt(structure, offset, "it is beyond the end of the volume")
        return self._volume.at(offset, length)

    def corrupt(self, structure: str, offset: int, reason: str) -> CorruptImage:
        """The error for a structure that breaks the rules."""
        return _corrupt(self._name, structure, offset, reason)

    def unsupported(self, feature: str) -> UnsupportedFeature:
        """The error for what cannot be read."""
        return _unsupported(self._name, feature)


def _corrupt(name: str, structure: str, offset: int, reason: str) -> CorruptImage:
    return CorruptImage(
        "image.corrupt", path=name, structure=structure, offset=offset, reason=reason
    )


def _unsupported(name: str, feature: str) -> UnsupportedFeature:
    return UnsupportedFeature("image.feature", path=name, feature=feature)


# ---- The header --------------------------------------------------------------------------------


def read_header(volume: Window, name: str = "") -> LuksHeader | None:
    """The header of a volume; None when it has none.

    ``name`` is how messages name the volume. Raises :exc:`ImageError` for a header that is damaged
    or of a kind that is not known. That a header can be read does not say that :func:`unlock` knows
    all it needs.
    """
    if not volume.has(0, MAGIC + b"\0\1"):
        return read_luks2(volume, name)
    one = read_luks1(_Place(volume, name))
    slots = tuple(
        KeySlot(
            slot.number,
            one.key_size,
            Pbkdf2(one.hash, slot.iterations, slot.salt),
            one.cipher,
            one.key_size,
            slot.position,
            STRIPES,
            one.hash,
        )
        for slot in one.slots
    )
    kdf = Pbkdf2(one.hash, one.digest_iterations, one.digest_salt)
    numbers = frozenset(slot.number for slot in slots)
    return LuksHeader(
        version=1,
        uuid=one.uuid,
        size=HEADER_SIZE,
        slots=slots,
        digests=(Digest(kdf, one.digest, numbers, frozenset((0,))),),
        segments=(Segment(0, one.payload, None, one.cipher),),
    )


# ---- Mapped devices ----------------------------------------------------------------------------


def _map(kernel: Kernel, targets: list[Target], *, read_only: bool) -> MappedDevice:
    return map_device(kernel, b"luks-%d" % next(_numbers), targets, read_only=read_only)


@contextmanager
def _lend(kernel: Kernel, cipher: str, key: bytearray) -> Iterator[bytes]:
    """How a key is named in the parameters of dm-crypt, which knows it meanwhile."""
    # The cipher that does nothing takes no key, though the header has one.
    with nullcontext(b"-") if cipher.startswith("cipher_null") else lend_key(kernel, key) as named:
        yield named


def _crypt_target(
    start: int, sectors: int, cipher: str, key: bytes, first: int, place: bytes, *options: str
) -> Target:
    """Documentation/admin-guide/device-mapper/dm-crypt.rst; ``place`` is a device and a sector."""
    # Another thread than the reader's would only be waited for.
    features = " ".join(("no_read_workqueue", *options)).encode()
    parameters = b"%b %b %d %b %d %b" % (
        cipher.encode("ascii"), key, first, place, 1 + len(options), features,
    )  # fmt: skip
    return Target(start, sectors, "crypt", parameters)


@contextmanager
def _refusing(name: str, cipher: str, key_size: int) -> Iterator[None]:
    """Names the cipher when the kernel does not take it."""
    if not _CIPHER.fullmatch(cipher):
        raise _unsupported(name, f"the cipher {cipher}")
    try:
        yield
    except KernelError as error:
        if error.code != "kernel.call":
            raise
        raise _unsupported(name, f"the cipher {cipher} with {8 * key_size} bits of key") from error


# ---- From a passphrase to a key ----------------------------------------------------------------


def _check_kdf(kdf: Pbkdf2 | Argon2, size: int, name: str) -> None:
    """Raise :exc:`ImageError` for what cannot be done, or not within minutes."""
    if isinstance(kdf, Pbkdf2):
        hashed = find_hash(kdf.hash)
        if hashed is None:
            raise _unsupported(name, f"the hash {kdf.hash}")
        # Each digest's length of the key takes all of them.
        rounds = kdf.iterations * -(-size // hashed.digest_size)
        if rounds > (SLOW_ROUNDS_LIMIT if kdf.hash in _SLOW_HASHES else ITERATIONS_LIMIT):
            raise _unsupported(name, f"a key of {size} bytes by {kdf}")
    elif (
        kdf.memory > MEMORY_LIMIT
        or kdf.memory * kdf.passes > WORK_LIMIT
        or kdf.lanes > LANES_LIMIT
        # RFC 9106, section 3.1
        or kdf.memory < 8 * kdf.lanes
        or len(kdf.salt) < 8
        or size < 4
    ):
        raise _unsupported(name, f"a key of {size} bytes by {kdf}")


def _derive(kdf: Pbkdf2 | Argon2, secret: bytes | bytearray, size: int, name: str) -> bytes:
    """A key of ``size`` bytes, by what :func:`_check_kdf` found no fault with."""
    if isinstance(kdf, Pbkdf2):
        hashed = find_hash(kdf.hash)
        assert hashed is not None
        return derive_pbkdf2(hashed, bytes(secret), kdf.salt, kdf.iterations, size)
    available = available_memory()
    if available is not None and 1024 * kdf.memory > available:
        raise _memory(kdf, name)
    # Not before it is needed: it loads a library.
    from argon2.exceptions import HashingError
    from argon2.low_level import Type, hash_secret_raw

    try:
        return hash_secret_raw(
            bytes(secret),
            kdf.salt,
            time_cost=kdf.passes,
            memory_cost=kdf.memory,
            parallelism=kdf.lanes,
            hash_len=size,
            type=Type.ID if kdf.kind == "argon2id" else Type.I,
        )
    except HashingError as failure:
        # With numbers that it takes, only memory and threads can be short.
        raise _memory(kdf, name) from failure


def _memory(kdf: Argon2, name: str) -> VolumeError:
    return VolumeError("volume.memory", volume=name, needed=kdf.memory // 1024)


def _wipe(key: bytearray) -> None:
    key[:] = bytes(len(key))


def _open_slot(
    kernel: Kernel, device: BlockDevice, slot: KeySlot, passphrase: bytes, name: str
) -> bytearray:
    """The key that a slot holds, if the passphrase is the one for it; else one like any other."""
    _check_kdf(slot.kdf, slot.cipher_key_size, name)
    hashed = find_hash(slot.stripe_hash)
    if hashed is None:
        raise _unsupported(name, f"the hash {slot.stripe_hash}")
    length = slot.key_size * slot.stripes
    sectors = -(-length // SECTOR)
    if slot.offset + sectors * SECTOR > device.size():
        structure = f"LUKS key slot {slot.number}"
        raise _corrupt(name, structure, slot.offset, "it is beyond the end of the volume")
    derived = bytearray(_derive(slot.kdf, passphrase, slot.cipher_key_size, name))
    place = b"%b %d" % (device.path, slot.offset // SECTOR)
    try:
        with (
            _refusing(name, slot.cipher, len(derived)),
            _lend(kernel, slot.cipher, derived) as key,
        ):
            target = _crypt_target(0, sectors, slot.cipher, key, 0, place)
            area = _map(kernel, [target], read_only=True)
    finally:
        _wipe(derived)
    with area:
        return bytearray(merge_stripes(hashed, area.read(0, length), slot.stripes))


def _find_key(
    kernel: Kernel,
    device: BlockDevice,
    header: LuksHeader,
    digest: Digest,
    passphrase: bytes,
    name: str,
    cancelled: Callable[[], bool],
) -> bytearray:
    """The volume key that a digest is of.

    That one slot cannot be tried is no reason not to try the others.
    """
    _check_kdf(digest.kdf, len(digest.digest), name)
    slots = [slot for slot in header.slots if slot.number in digest.slots]
    untried: list[ExplorerError] = []
    for slot in sorted(slots, key=lambda slot: -slot.priority):
        if cancelled():
            raise ExplorerError("request.cancelled")
        try:
            key = _open_slot(kernel, device, slot, passphrase, name)
            if _derive(digest.kdf, key, len(digest.digest), name) == digest.digest:
                return key
            _wipe(key)
        except (ImageError, VolumeError) as failure:
            untried.append(failure)
    if not slots:
        raise VolumeError("volume.no-key", volume=name)
    if len(untried) == len(slots):
        raise untried[0]
    raise VolumeError(
        "volume.passphrase-wrong",
        volume=name,
        untried=f" (not all could be tried: {describe(untried[0])})" if untried else "",
    )


# ---- The opened volume -------------------------------------------------------------------------


def _sectors(segment: Segment, size: int, name: str) -> int:
    """How long a segment is, on a volume of ``size`` bytes."""
    length = size - segment.offset if segment.size is None else segment.size
    length -= length % segment.sector_size
    if length <= 0 or segment.offset + length > size:
        raise _corrupt(
            name,
            f"LUKS segment {segment.number}",
            segment.offset,
            "it is beyond the end of the volume",
        )
    return length // SECTOR


def _open_tags(
    kernel: Kernel, device: BlockDevice, segment: Segment, name: str, *, read_only: bool
) -> tuple[MappedDevice, int, int]:
    """A segment that has a tag for each sector; with the bytes of one, and the sectors."""
    magic, tag, sectors = _TAGS.unpack(device.read(segment.offset, _TAGS.size).ljust(_TAGS.size))
    if magic != _TAGS_MAGIC or not tag or not sectors:
        raise _corrupt(name, "dm-integrity superblock", segment.offset, "it makes no sense")
    # Documentation/admin-guide/device-mapper/dm-integrity.rst: R reads what is stored; J replays
    # its journal before.
    parameters = b"%b %d %d %b 1 block_size:%d" % (
        device.path, segment.offset // SECTOR, tag, b"R" if read_only else b"J",
        segment.sector_size,
    )  # fmt: skip
    try:
        mapped = _map(kernel, [Target(0, sectors, "integrity", parameters)], read_only=read_only)
    except KernelError as error:
        if error.code != "kernel.call":
            raise
        said = [line for line in error.log if "integrity: " in line]
        raise _corrupt(
            name, "dm-integrity superblock", segment.offset, said[-1] if said else error.reason
        ) from error
    return mapped, tag, sectors


def _authenticated_cipher(segment: Segment, name: str) -> str:
    """A cipher with authentication as dm-crypt spells it, from how LUKS2 does."""
    cipher, *mode, vectors = segment.cipher.split("-")
    if len(mode) > 1 or not _AUTHENTICATION.fullmatch(segment.integrity):
        spelled = f"{segment.cipher} with {segment.integrity}"
        raise _unsupported(name, f"the authenticated cipher {spelled}")
    inner = f"{mode[0]}({cipher})" if mode else cipher
    if segment.integrity == "poly1305":
        inner = f"rfc7539({inner},poly1305)"
    elif segment.integrity == "aead" and mode == ["ccm"]:
        inner = f"rfc4309({inner})"
    elif segment.integrity not in ("aead", "none"):
        inner = f"authenc({segment.integrity},{inner})"
    return f"capi:{inner}-{vectors}"


def _open_authenticated(
    kernel: Kernel,
    device: BlockDevice,
    segment: Segment,
    key: bytearray,
    name: str,
    *,
    read_only: bool,
) -> MappedDevice:
    cipher = _authenticated_cipher(segment, name)
    tags, tag, sectors = _open_tags(kernel, device, segment, name, read_only=read_only)
    try:
        kind = "none" if segment.integrity == "none" else "aead"
        options = [f"integrity:{tag}:{kind}", f"sector_size:{segment.sector_size}"]
        if segment.integrity_key_size:
            options.append(f"integrity_key_size:{segment.integrity_key_size}")
        first = segment.first_sector
        with _refusing(name, cipher, len(key)), _lend(kernel, cipher, key) as lent:
            target = _crypt_target(0, sectors, cipher, lent, first, tags.path + b" 0", *options)
            mapped = _map(kernel, [target], read_only=read_only)
    except BaseException:
        tags.close()
        raise
    mapped.own(tags)
    return mapped


def _open_segments(
    kernel: Kernel,
    device: BlockDevice,
    segments: Sequence[tuple[Segment, bytearray]],
    name: str,
    *,
    read_only: bool,
) -> MappedDevice:
    size = device.size()
    targets: list[Target] = []
    start = 0
    with ExitStack() as stack:
        for segment, key in segments:
            sectors = _sectors(segment, size, name)
            place = b"%b %d" % (device.path, segment.offset // SECTOR)
            if segment.cipher:
                stack.enter_context(_refusing(name, segment.cipher, len(key)))
                lent = stack.enter_context(_lend(kernel, segment.cipher, key))
                options = (f"sector_size:{segment.sector_size}",)
                targets.append(
                    _crypt_target(
                        start, sectors, segment.cipher, lent, segment.first_sector, place, *options
                    )
                )
            else:
                targets.append(Target(start, sectors, "linear", place))
            start += sectors
        return _map(kernel, targets, read_only=read_only)


def unlock(
    kernel: Kernel,
    device: BlockDevice,
    header: LuksHeader,
    passphrase: bytes,
    *,
    name: str = "",
    read_only: bool = True,
    cancelled: Callable[[], bool] = lambda: False,
) -> MappedDevice:
    """What a LUKS volume holds, as a device to be closed.

    ``device`` is the volume that ``header`` is of, ``name`` how messages name it. ``passphrase`` is
    what was typed, as UTF-8, or the content of a key file. Each key slot takes as long as its
    header asks for; before each, ``cancelled`` tells whether to go on.

    Raises :exc:`VolumeError` (``volume.passphrase-wrong``, ``volume.no-key``, ``volume.memory``),
    :exc:`UnsupportedFeature` for what is not known or would take too long, :exc:`CorruptImage` for
    what is beyond the volume, and :exc:`ExplorerError` (``request.cancelled``).
    """
    if header.requirements:
        raise _unsupported(name, f"a LUKS volume that requires {', '.join(header.requirements)}")
    if min(segment.offset for segment in header.segments) < header.size:
        raise _unsupported(name, "a LUKS volume whose data is on another device")
    keys: dict[Digest | None, bytearray] = {}
    try:
        for segment in header.segments:
            digest = header.digest_of(segment)
            if segment.cipher and digest is None:
                structure = f"LUKS segment {segment.number}"
                raise _corrupt(name, structure, segment.offset, "no digest tells of its key")
            if digest is not None and digest not in keys:
                keys[digest] = _find_key(
                    kernel, device, header, digest, passphrase, name, cancelled
                )
        segments = [
            (segment, keys.get(header.digest_of(segment), bytearray()))
            for segment in header.segments
        ]
        if not header.segments[0].integrity:
            return _open_segments(kernel, device, segments, name, read_only=read_only)
        return _open_authenticated(kernel, device, *segments[0], name, read_only=read_only)
    finally:
        for key in keys.values():
            _wipe(key)
