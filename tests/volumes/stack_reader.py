# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Opens stacks in a process of its own: ``python -m tests.volumes.stack_reader PASSPHRASE``.

On its input, each line has the images of one stack, between tabs; for each line it prints how
that went: how many volumes there were, how many of them were mounted, and what was refused. It
ends at the first error that is not of the program's own tree, and at the first kernel that ended.
"""

from __future__ import annotations

import sys
from collections import Counter

from explorer.core.errors import ExplorerError
from explorer.core.messages import TEXTS, describe
from explorer.core.views import View
from explorer.volumes import Source, Wanted


def check(error: ExplorerError) -> str:
    """An error is one of those foreseen, and its text one line; returns its code."""
    assert error.code in {*TEXTS, "kernel.call"}, error
    assert "\n" not in describe(error)
    assert error.code != "kernel.ended", error
    return error.code


def read_stack(paths: tuple[bytes, ...], passphrase: bytes, view: View) -> Counter[str]:
    """Open a stack, ask it for all it tells, and mount whatever can be."""
    told: Counter[str] = Counter()

    def ask(_volume: str, wrong: int) -> bytes | None:
        return None if wrong else passphrase

    with Source(Wanted(paths=paths, view=view), ask) as source:
        try:
            source.unlock_all()
        except ExplorerError as error:
            told[check(error)] += 1
        source.stack.tables()
        for volume in source.stack.volumes():
            told["volumes"] += 1
            told[volume.kind] += 1
            assert volume.size >= 0
            for text in (volume.name, volume.label, volume.title, volume.note, volume.uuid):
                assert "\n" not in text
                assert "\x1b" not in text
            source.stack.facts(volume)
            if not volume.mountable:
                continue
            try:
                with source.mount(volume) as mounted, mounted.mount.open_directory() as root:
                    told["mounted"] += bool(list(root))
            except ExplorerError as error:
                told[check(error)] += 1
        # The kernel still answers.
        with source.kernel.add_disk(source.image):
            pass
    return told


def main() -> int:
    """Read the lines; returns the exit status."""
    passphrase = sys.argv[1].encode()
    for line in sys.stdin.buffer:
        paths = tuple(line.rstrip(b"\n").split(b"\t"))
        for view in (View.STORED, View.AUTO):
            try:
                told = read_stack(paths, passphrase, view)
            except ExplorerError as error:
                print(f"refused {check(error)}", flush=True)
            else:
                print(" ".join(f"{name}={count}" for name, count in told.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
