# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""How openings of images end, and the table of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LARGE = 400 << 20
"""Bytes of memory from which on an engine is named."""


class End(Enum):
    """How an opening ended."""

    OK = "ok"
    ERROR = "error"
    RESTARTED = "restarted"
    HANG = "hang"
    WRONG = "wrong"


@dataclass(slots=True)
class Outcome:
    """One opening of one image."""

    corpus: str
    name: str
    view: str
    number: int = 0
    """In which order it was opened."""
    end: End = End.OK
    why: str = ""
    """Code of the first error, with the request it came to; what an engine ended by."""
    said: str = ""
    """The text of that, or the last line of the kernel."""
    errors: Counter[str] = field(default_factory=Counter)
    """All codes, with the requests they came to."""
    requests: int = 0
    entries: int = 0
    cut: bool = False
    """Whether the visit was ended before all was seen, for it took too long."""
    changed: bool = False
    """Whether the source is not what it was."""
    seconds: float = 0.0
    cpu: float = 0.0
    """Seconds of the engine's."""
    memory: int = 0
    """Bytes that the engine had at most, at the last time it answered."""

    @property
    def failed(self) -> bool:
        """Whether it lets the gate down."""
        return self.changed or self.end in (End.HANG, End.WRONG)

    def line(self) -> str:
        """All in one line."""
        changed = " SOURCE CHANGED" if self.changed else ""
        return (
            f"{self.corpus}/{self.name} ({self.view}): {self.end.value}{changed} {self.why}: "
            f"{self.said}"
        )

    def to_json(self) -> dict[str, object]:
        """What is written down."""
        return {
            "corpus": self.corpus,
            "name": self.name,
            "view": self.view,
            "end": self.end.value,
            "why": self.why,
            "said": self.said,
            "errors": dict(self.errors),
            "requests": self.requests,
            "entries": self.entries,
            "cut": self.cut,
            "changed": self.changed,
            "seconds": round(self.seconds, 3),
            "cpu": round(self.cpu, 3),
            "memory": self.memory,
        }


def counts(outcomes: Sequence[Outcome]) -> str:
    """How many ended in which way, by corpus."""
    heads = ("openings", *(end.value for end in End), "changed", "CPU s", "most MiB")
    lines = [f"{'corpus':<12}" + "".join(f"{head:>10}" for head in heads)]
    corpora = list(dict.fromkeys(one.corpus for one in outcomes))
    for corpus in (*corpora, "all"):
        found = [one for one in outcomes if corpus in (one.corpus, "all")]
        ends = Counter(one.end for one in found)
        numbers = (
            len(found),
            *(ends[end] for end in End),
            sum(one.changed for one in found),
            round(sum(one.cpu for one in found)),
            max((one.memory for one in found), default=0) >> 20,
        )
        lines.append(f"{corpus:<12}" + "".join(f"{number:>10}" for number in numbers))
    return "\n".join(lines)


def table(outcomes: Sequence[Outcome]) -> str:
    """The counts, what errors and restarts were by, and what is worth a look."""
    return "\n".join(_lines(outcomes))


def _lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield counts(outcomes)
    for end in (End.ERROR, End.RESTARTED, End.HANG, End.WRONG):
        reasons = Counter((one.corpus, one.why) for one in outcomes if one.end is end)
        if reasons:
            yield f"\n{end.value} by what came first"
        for (corpus, why), count in reasons.most_common():
            yield f"{count:>8}  {corpus:<12}{why}"
    for title, found in (
        ("not seen to the end, for it took too long", [one for one in outcomes if one.cut]),
        (f"more than {LARGE >> 20} MiB", [one for one in outcomes if one.memory > LARGE]),
        ("fell", [one for one in outcomes if one.end is End.RESTARTED or one.failed]),
    ):
        if found:
            yield f"\n{title}"
        for one in found:
            yield f"  {one.memory >> 20:>4} MiB {one.seconds:>6.1f} s  {one.line()}"
