# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds large files and a text in an image: ``search.py IMAGE TEXT``."""

from __future__ import annotations

import sys

import explorer
from explorer.core.messages import describe_at
from explorer.core.names import show_name


def main(image: str, text: str) -> None:
    """Print files of 1 MiB and more, then where the text stands."""

    def failed(path: bytes, error: explorer.ExplorerError) -> None:
        print(describe_at(path, error), file=sys.stderr)

    with explorer.Source(image) as source:
        for volume in source.volumes:
            if not volume.facts.mountable:
                continue
            for path, entry in volume.find(types="f", size_least=1 << 20, failed=failed):
                print(f"{entry.size:>12}  {volume.facts.name}:{show_name(path)}")
            for match in volume.grep(text=text, encodings=("utf-8", "utf-16-le"), failed=failed):
                print(f"{volume.facts.name}:{show_name(match.path)} at {match.offset}")


if __name__ == "__main__":
    main(*sys.argv[1:])
