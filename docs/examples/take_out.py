# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies out of an image with a manifest: ``take_out.py IMAGE PATH FOLDER [VOLUME]``."""

from __future__ import annotations

import sys
from pathlib import Path

import explorer
from explorer.core.messages import describe_at


def main(image: str, path: str, folder: str, name: str | None = None) -> int:
    """Copy, and tell what could not be; returns 0 when all of it is there."""
    Path(folder).mkdir(exist_ok=True)
    manifest = folder.rstrip("/") + ".csv"
    with explorer.Source(image) as source:
        volume = source.volume(name)
        copied = volume.copy(
            [path], folder, digests=("sha256",), manifest=manifest.encode(), conflicts="rename"
        )
    for failure in copied.failures:
        print(describe_at(failure.origin, failure.error), file=sys.stderr)
    accounts = copied.written
    print(f"{accounts.seen} entries seen, {accounts.copied} copied, listed in {manifest}")
    return 0 if copied.whole else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
