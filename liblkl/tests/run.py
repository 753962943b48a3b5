# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the C tests of liblkl and sum up.

Each program reports in the Test Anything Protocol.  It has failed when a check
has, when its plan is missing or not kept, when it exits with another code than
0, or when it runs longer than `--timeout` seconds (it is then killed).
The path of the kernel image is its first argument, where it needs one.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

RESULT = re.compile(r"(not )?ok \d+\b")
PLAN = re.compile(r"1\.\.(\d+)$")


class Outcome(NamedTuple):
    """What came of one program: checks passed, and what went wrong."""

    passed: int
    problems: list[str]


def judge(output: str, code: int | None) -> Outcome:
    """Read a program's report; `code` is None when it was killed for its time."""
    passed = failed = 0
    planned: int | None = None
    problems: list[str] = []
    for line in output.splitlines():
        if result := RESULT.match(line):
            if result[1]:
                failed += 1
                problems.append(line)
            else:
                passed += 1
        elif plan := PLAN.match(line):
            planned = int(plan[1])
        elif line.startswith(("#", "Bail out!")):
            problems.append(line)
    if planned is None:
        problems.append("no plan: it did not reach its end")
    elif planned != passed + failed or not planned:
        problems.append(f"{passed + failed} checks, planned were {planned}")
    if code is None:
        problems.append("killed: out of time")
    elif code:
        problems.append(f"exit code {code}")
    return Outcome(passed, problems if failed or code != 0 or planned != passed else [])


def run(program: Path, arguments: list[str], timeout: float) -> Outcome:
    """Run one program to its end."""
    try:
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode(errors="replace")
        errors = (expired.stderr or b"").decode(errors="replace")
        outcome = judge(output, None)
    else:
        output = done.stdout.decode(errors="replace")
        errors = done.stderr.decode(errors="replace")
        outcome = judge(output, done.returncode)
    if outcome.problems and errors:
        outcome.problems.extend(errors.splitlines()[-40:])
    return outcome


def main() -> int:
    """Run all programs given; the exit code is 1 when any has failed."""
    parser = argparse.ArgumentParser(description="Run the C tests of liblkl.")
    parser.add_argument("programs", type=Path, nargs="+")
    parser.add_argument("--kernel", type=Path, help="kernel image for all programs")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for each")
    options = parser.parse_args()
    arguments = [str(options.kernel)] if options.kernel else []
    total = failures = 0
    for program in options.programs:
        start = time.monotonic()
        outcome = run(program, arguments, options.timeout)
        word = "FAILED" if outcome.problems else "ok"
        print(
            f"{program.name:24} {outcome.passed:5} checks"
            f" {time.monotonic() - start:7.2f} s  {word}",
            flush=True,
        )
        for problem in outcome.problems:
            print(f"    {problem}")
        total += outcome.passed
        failures += bool(outcome.problems)
    print(f"{len(options.programs)} programs, {total} checks passed, {failures} programs failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
