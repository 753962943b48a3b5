# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""GUIDs as they are written."""

from __future__ import annotations

import struct


def show_guid(raw: bytes) -> str:
    """The usual form of 16 bytes whose first three fields are little-endian, as Windows' are."""
    return show_uuid(struct.pack(">IHH8s", *struct.unpack("<IHH8s", raw)))


def show_uuid(raw: bytes) -> str:
    """The usual form of 16 bytes in the order of RFC 9562."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
