# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows the volumes of an image and what stands in their roots: ``look.py IMAGE``."""

from __future__ import annotations

import sys

import explorer
from explorer.core.names import show_name


def main(image: str) -> None:
    """Print volumes, and the entries of each that can be mounted."""
    with explorer.Source(image) as source:
        print(f"{image}: {source.format}, {source.size} bytes")
        for volume in source.volumes:
            print(f"  {volume.facts.name}: {volume.facts.title} {volume.facts.label}")
            if volume.facts.mountable:
                for entry in volume.list("/"):
                    print(f"    {entry.size:>12}  {show_name(entry.name)}")


if __name__ == "__main__":
    main(sys.argv[1])
