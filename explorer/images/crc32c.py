# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""CRC-32C, the checksum of RFC 3720 (section 12.1); zlib knows only the other polynomial.

A checksum is the remainder of the data, taken as a polynomial over two elements, by a fixed one.
A long integer holds such a polynomial, and its shifts and sums are as fast as memory: ten times
what a loop over the bytes and a table of remainders reaches.
"""

from __future__ import annotations

_POLYNOMIAL = 0x11EDC6F41

_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
"""Each byte with its bits in the other order: the lowest bit of a byte comes first."""

_LARGEST = 40
_SMALLEST = 7


def _multiply(long: int, short: int) -> int:
    product = 0
    while short:
        product ^= long << short.bit_length() - 1
        short ^= 1 << short.bit_length() - 1
    return product


def _divide(value: int) -> int:
    """The remainder, bit by bit."""
    while value.bit_length() > 32:
        value ^= _POLYNOMIAL << value.bit_length() - 33
    return value


def _make_powers() -> list[int]:
    powers = [2]
    while len(powers) < _LARGEST:
        powers.append(_divide(_multiply(powers[-1], powers[-1])))
    return powers


_POWERS = _make_powers()
"""The remainder of x to the power of 2**n."""


def crc32c(data: bytes | bytearray) -> int:
    """The checksum of some bytes: in about 1 ms for 64 KiB."""
    bits = 8 * len(data)
    value = int.from_bytes(data.translate(_REVERSED), "big") << 32
    # Begins with all bits set, instead of with nothing.
    value ^= 0xFFFFFFFF << bits
    # What is above 2**n bits is as much as its product with the remainder of x**(2**n): each step
    # leaves half as many bits, and up to 31 more.
    for exponent in range((bits + 31).bit_length() - 1, _SMALLEST, -1):
        above = value >> (1 << exponent)
        value ^= above << (1 << exponent)
        value ^= _multiply(above, _POWERS[exponent])
    return int(f"{_divide(value):032b}"[::-1], 2) ^ 0xFFFFFFFF
