# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fuzzing led by coverage: ``python -m tests.fuzz NAME --seconds N``.

Inputs that reach new code are kept in build/fuzz/NAME, for the next run to begin with, and what
was found beside them: the input, and the exception that it makes. The exit status tells whether
anything was. ``python -m tests.fuzz NAME INPUT`` reads one input again, and shows its exception.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(
    include=["explorer.images", "explorer.volumes", "explorer.wire", "explorer.core"]
):
    from explorer.images.registry import FORMATS

    for _known in FORMATS:
        import_module(f"explorer.images.{_known.opener.partition(':')[0]}")
    from tests.fuzz.targets import NAMES, TooSlow, make_target

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

FOLDER = Path(__file__).resolve().parents[2] / "build" / "fuzz"
MORE = 1024
"""Bytes by which an input may become longer than the longest seed."""


class Campaign:
    """One target for some time."""

    def __init__(self, target: Target, seconds: float) -> None:
        """Begin to count."""
        self._target = target
        self._end = time.monotonic() + seconds
        self._found: set[str] = set()
        self._runs = 0
        self.folder = FOLDER / target.name
        self.corpus = self.folder / "corpus"
        self.corpus.mkdir(parents=True, exist_ok=True)
        for data in target.inputs():
            (self.corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)

    def run(self, data: bytes) -> None:
        """Try one input; ends the process when the time is over."""
        self._runs += 1
        try:
            self._target.run(data)
        except (Exception, TooSlow) as error:  # noqa: BLE001 - whatever it is, it is a finding
            self._keep(data, error)
        if time.monotonic() > self._end:
            print(f"{self._target.name}: {self._runs} runs, {len(self._found)} findings")
            sys.stdout.flush()
            # libFuzzer has no way to stop in good order.
            os._exit(1 if self._found else 0)

    def _keep(self, data: bytes, error: BaseException) -> None:
        """Write a finding down, the first of each place."""
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} {Path(last.filename).name}:{last.lineno}"
        if place in self._found:
            return
        self._found.add(place)
        path = self.folder / f"finding-{hashlib.sha1(data).hexdigest()[:12]}"
        path.write_bytes(data)
        print(f"{self._target.name}: {place}: {path}")
        traceback.print_exception(error)
        sys.stdout.flush()


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("input", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = make_target(given.name, Path(folder))
    if given.input is not None:
        target.run(given.input.read_bytes())
        return 0
    campaign = Campaign(target, given.seconds)
    longest = max(map(len, target.inputs())) + MORE
    options = [f"-max_len={longest}", "-rss_limit_mb=0", "-timeout=600", "-print_final_stats=0"]
    atheris.Setup([sys.argv[0], *options, "-verbosity=0", str(campaign.corpus)], campaign.run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
