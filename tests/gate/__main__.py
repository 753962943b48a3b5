# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.gate``: as many hostile images as one likes; see the package."""

from __future__ import annotations

import argparse
import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from tests.gate import __doc__ as about
from tests.gate.corpora import ALL_VIEWS, Bases, containers, fuzzed, mutated, real, stacks
from tests.gate.outcomes import table
from tests.gate.running import run

CORPORA = ("real", "mutated", "fuzzed", "containers", "stacks")


def main() -> int:
    """Run the command line; returns 1 when the gate was let down."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.gate",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", action="append", choices=CORPORA, help="all by default")
    parser.add_argument("--mutations", type=int, default=1000, help="images of each made corpus")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="begin no more after so long")
    parser.add_argument("--only", metavar="PATTERN", help="as mutated/xfs5/1-27")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all outcomes are written")
    given = parser.parse_args()
    wanted = given.corpus or CORPORA
    bases = Bases()
    corpora = {
        "real": lambda: real(ALL_VIEWS),
        "mutated": lambda: mutated(bases, given.mutations, given.seed),
        "fuzzed": lambda: fuzzed(bases, given.mutations, given.seed),
        "containers": lambda: containers(given.mutations, given.seed),
        "stacks": lambda: stacks(given.mutations, given.seed),
    }
    cases = (
        case
        for corpus in CORPORA
        if corpus in wanted
        for case in corpora[corpus]()
        if given.only is None or fnmatchcase(case.title, given.only)
    )
    outcomes = run(cases, jobs=given.jobs, seconds=given.seconds, tell=True)
    print(table(outcomes))
    if given.json is not None:
        given.json.write_text(json.dumps([one.to_json() for one in outcomes], indent=1) + "\n")
    return 1 if any(one.failed for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
