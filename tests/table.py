# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""FORMATS.md: what can be read, and the test that proves each.

A test says what it proves by ``@pytest.mark.proves(kind, name, feature)``; this collects the marks
and writes the tables. ``python -m tests.table`` writes the file anew.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "FORMATS.md"
FOLDERS = ("tests/images", "tests/volumes", "tests/cli", "tests/kernel")

HEAD = """\
# What can be read, and what shows it

Written by `python -m tests.table` from the tests themselves: each row names the tests
that prove it. A test stands for what its name says; what has no row here is not proven.
"""

KINDS = {
    "format": "Image formats",
    "volume": "Partition tables, arrays, volume groups, encryption",
    "file system": "File systems",
}
"""The kinds of what is proven, with their headings."""

Proof = tuple[str, str, str, str]
"""Kind, name, feature, and the test."""


class _Collector:
    """A plugin that keeps the marks of what is collected."""

    def __init__(self) -> None:
        self.proofs: set[Proof] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            path, _, rest = item.nodeid.partition("::")
            test = f"{path}::{rest.partition('[')[0]}"
            for mark in item.iter_markers("proves"):
                kind, name, feature = mark.args
                self.proofs.add((kind, name, feature, test))


def collect() -> set[Proof]:
    """What the tests prove; raises :exc:`RuntimeError` when they cannot be collected."""
    collector = _Collector()
    arguments = ["--collect-only", "-q", *FOLDERS]
    code = pytest.main(["--rootdir", str(ROOT), *arguments], [collector])
    if code != pytest.ExitCode.OK:
        raise RuntimeError(f"pytest: {code!r}")
    return collector.proofs


def make_document(proofs: Iterable[Proof]) -> str:
    """The whole of FORMATS.md."""
    lines = [HEAD]
    rows = sorted(proofs, key=lambda proof: tuple(part.casefold() for part in proof))
    for kind, heading in KINDS.items():
        lines += [f"## {heading}\n", "| | feature | shown by |", "|---|---|---|"]
        tests: dict[tuple[str, str], list[str]] = {}
        for of_kind, name, feature, test in rows:
            if of_kind == kind:
                tests.setdefault((name, feature), []).append(test)
        before = ""
        for (name, feature), shown in tests.items():
            links = ", ".join(_link(test) for test in shown)
            lines.append(f"| {'' if name == before else name} | {feature} | {links} |")
            before = name
        lines.append("")
    return "\n".join(lines)


def _link(test: str) -> str:
    path, _, name = test.partition("::")
    return f"[{name}]({path})"


def main() -> int:
    """Write the document; returns the exit status."""
    DOCUMENT.write_text(make_document(collect()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
