# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources that are named by a URL."""

from __future__ import annotations

SCHEMES = (b"http", b"https")


def is_url(name: bytes) -> bool:
    """Whether what the user named is a file of a server, rather than of the host."""
    scheme, separator, _rest = name.partition(b"://")
    return bool(separator) and scheme.lower() in SCHEMES


def url_name(url: str) -> bytes:
    """The last part of a URL's path."""
    from urllib.parse import unquote_to_bytes, urlsplit

    return unquote_to_bytes(urlsplit(url).path.rpartition("/")[2])
