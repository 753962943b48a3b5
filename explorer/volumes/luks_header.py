# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the header of a LUKS volume tells, the same for both versions of the format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from explorer.images.base import Fact

SECTOR = 512

IGNORED = 0
"""The priority of a key slot that is only tried when no other holds the key."""
NORMAL = 1
PREFERRED = 2


class Pbkdf2(NamedTuple):
    """PBKDF2 (RFC 8018) with HMAC."""

    hash: str
    iterations: int
    salt: bytes

    def __str__(self) -> str:
        return f"pbkdf2-{self.hash}, {self.iterations} iterations"


class Argon2(NamedTuple):
    """Argon2 (RFC 9106)."""

    kind: str
    """``argon2i`` or ``argon2id``."""
    passes: int
    memory: int
    """KiB."""
    lanes: int
    salt: bytes

    def __str__(self) -> str:
        return f"{self.kind}, {self.passes} passes, {self.memory} KiB, {self.lanes} lanes"


class KeySlot(NamedTuple):
    """A volume key, encrypted with what is derived from a passphrase."""

    number: int
    key_size: int
    """Bytes of the volume key."""
    kdf: Pbkdf2 | Argon2
    cipher: str
    """What its area is encrypted with, as dm-crypt spells it."""
    cipher_key_size: int
    """Bytes to derive from the passphrase."""
    offset: int
    """Bytes from the start of the volume to the area."""
    stripes: int
    """The area has the key in so many pieces, each of its size, of which none may be missing."""
    stripe_hash: str
    priority: int = NORMAL


class Digest(NamedTuple):
    """How a volume key is known to be the right one."""

    kdf: Pbkdf2
    digest: bytes
    slots: frozenset[int]
    """The key slots that hold this key."""
    segments: frozenset[int]
    """The segments that are encrypted with it."""


class Segment(NamedTuple):
    """A range of the volume's data; one after the other they make the opened volume."""

    number: int
    offset: int
    """Bytes from the start of the volume."""
    size: int | None
    """Bytes; None: all that follows."""
    cipher: str = ""
    """As dm-crypt spells it; empty when it is not encrypted."""
    sector_size: int = SECTOR
    """Bytes that are encrypted as one."""
    first_sector: int = 0
    """Number that the initialization vectors count from, in sectors of 512 bytes."""
    integrity: str = ""
    """How each sector is authenticated, as LUKS2 spells it; empty when it is not."""
    integrity_key_size: int = 0
    """Bytes at the end of the volume key for that; 0: what the algorithm needs by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LuksHeader:
    """The header of a LUKS volume."""

    version: int
    size: int
    """Bytes that it takes itself, where no data can be."""
    uuid: str
    label: str = ""
    subsystem: str = ""
    slots: tuple[KeySlot, ...]
    """Those in use."""
    digests: tuple[Digest, ...]
    segments: tuple[Segment, ...]
    """In their order."""
    foreign_slots: tuple[str, ...] = ()
    """Key slots of types that are not known, by number and type."""
    tokens: tuple[str, ...] = ()
    """What else may open the key slots, by number and type."""
    flags: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    """What a reader must know to open it."""
    secondary: bool = False
    """Whether the first header is damaged or older, and this is the second."""

    def facts(self) -> dict[str, Fact]:
        """What ``info`` shows, in this order."""
        first = self.segments[0]
        bits = 8 * self.key_size(first)
        facts: dict[str, Fact] = {
            "version": self.version,
            "uuid": self.uuid,
            "label": self.label,
            "subsystem": self.subsystem,
            "cipher": first.cipher or "none",
            "key size": f"{bits} bits" if bits else "",
            "integrity": first.integrity,
            "sector size": first.sector_size,
            "payload offset": first.offset,
            "segments": [_segment_line(segment) for segment in self.segments[1:]],
            "key slots": [
                *(f"{slot.number}: {slot.cipher}, {slot.kdf}" for slot in self.slots),
                *self.foreign_slots,
            ],
            "tokens": list(self.tokens),
            "flags": list(self.flags),
            "requirements": list(self.requirements),
            "header": "the second, for the first is damaged or older" if self.secondary else "",
        }
        return {name: fact for name, fact in facts.items() if fact not in ("", [])}

    def digest_of(self, segment: Segment) -> Digest | None:
        """The digest of the key that a segment is encrypted with."""
        for digest in self.digests:
            if segment.number in digest.segments:
                return digest
        return None

    def key_size(self, segment: Segment) -> int:
        """Bytes of a segment's volume key; 0 when no key slot holds it."""
        digest = self.digest_of(segment)
        sizes = [slot.key_size for slot in self.slots if digest and slot.number in digest.slots]
        return sizes[0] if sizes else 0


def _segment_line(segment: Segment) -> str:
    size = "all that follows" if segment.size is None else f"{segment.size} bytes"
    return f"{segment.number}: {segment.cipher or 'not encrypted'}, {size} from {segment.offset}"
