# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the fetching process and whoever asks it say to each other.

First a line of JSON each way: ``{"url": ..., "cache": folder or null}``, answered by ``{"size":
bytes}`` or by ``{"error": code, "reason": text}``, after which it ends. Then requests, each a
:data:`REQUEST`, answered by a :data:`ANSWER` and as many bytes as it says: what was asked for, or
why it cannot be had.
"""

from __future__ import annotations

from struct import Struct

REQUEST = Struct("<QI")
"""Offset and length, both in bytes; at most :data:`LENGTH_LIMIT`."""
ANSWER = Struct("<BI")
"""0 for success, 1 for failure; then the bytes that follow: the data, or a text in UTF-8."""

LENGTH_LIMIT = 1 << 22
LINE_LIMIT = 1 << 16
TEXT_LIMIT = 1 << 12
