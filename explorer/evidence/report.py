# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The report of a session: what was read, how, what was copied, and all that went wrong.

Two forms of the same: JSON (the objects are the classes below, field by field; :data:`VERSION`
stands first) and a page of HTML that needs nothing beside itself and runs nothing. Both are the
same bytes for the same session, but for the one time at which the report was written. Names are
shown by :func:`explorer.core.names.show_name`; in JSON those that are no UTF-8 have their bytes in
a field of their own, ``..._hex``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from html import escape
from typing import TYPE_CHECKING, Any

from explorer.core.errors import ExplorerError
from explorer.core.messages import describe
from explorer.core.names import show_name, show_text
from explorer.core.objects import json_name
from explorer.core.times import iso_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

VERSION = 1


@dataclass(frozen=True, slots=True)
class Hashes:
    """Digests of some bytes, and of which."""

    of: str
    """What was hashed, for people: a file as it is stored, the disk in it, a volume."""
    size: int
    """Bytes."""
    before: Mapping[str, bytes]
    """By algorithm, when the session began; empty: not made."""
    after: Mapping[str, bytes]
    """When it ended."""
    expected: Mapping[str, bytes]
    """As the image itself, or a file beside it, tells."""
    error: ExplorerError | None = None
    """Why there are none."""

    @property
    def verdict(self) -> str:
        """What the digests say of one another."""
        if self.error is not None:
            return "not hashed"
        differs = [
            name
            for name, digest in self.before.items()
            if digest != self.after.get(name, digest) or digest != self.expected.get(name, digest)
        ]
        if differs:
            return "DIFFERENT: " + ", ".join(sorted(differs))
        compared = self.before.keys() & (self.after.keys() | self.expected.keys())
        return "the same" if compared else "not compared"


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """A volume, as it was used."""

    name: str
    kind: str
    content: str
    """File system, or what else was recognised."""
    label: str
    uuid: str
    start: int
    """Bytes from the start of its disk."""
    size: int
    view: str
    """``stored``, ``recovered``, or empty: it was not opened."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """One entry of a copy."""

    path: bytes
    """In the source, from the destination on."""
    target: bytes
    """At the destination; empty: nowhere."""
    type: str
    outcome: str
    """``copied``, ``damaged``, ``skipped``, ``failed``, ``before``."""
    size: int
    digests: Mapping[str, bytes]
    """Of the content as it was written."""
    error: str = ""
    """Why it is not whole."""


@dataclass(frozen=True, slots=True)
class CopyRecord:
    """One copy out of the source."""

    volume: str
    destination: bytes
    sink: str
    """``folder``, ``tar``, ``zip``, ``content``."""
    accounts: Mapping[str, int]
    """How many entries had which outcome, and what was not kept."""
    complete: bool
    files: tuple[CopiedFile, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that went wrong."""

    where: bytes
    """A path in the source, or empty."""
    error: ExplorerError


@dataclass(frozen=True, slots=True)
class Report:
    """All that is told of a session."""

    program: str
    """Name and version."""
    kernel: str
    """Release of the Linux that read the file systems."""
    written_ns: int
    """When this report was made, in nanoseconds since 1970: the one field that changes."""
    source: str
    """What was opened, as the user named it; safe to show."""
    format: str
    size: int
    """Bytes of the disk in it."""
    facts: tuple[str, ...]
    """What the image's format tells, a line each."""
    confined: tuple[str, ...]
    """What kept the process that read the image from everything else."""
    unconfined: tuple[str, ...]
    """What of that this host lacks."""
    overlay_bytes: int
    """What the kernel wanted to change, kept in memory and forgotten."""
    refused_writes: int
    written_bytes: int
    """To the source itself: 0, or the program is broken."""
    hashes: tuple[Hashes, ...]
    volumes: tuple[VolumeRecord, ...]
    copies: tuple[CopyRecord, ...]
    problems: tuple[Problem, ...]


# ---- JSON


def to_json(report: Report) -> str:
    """The report as JSON, ending with a line break."""
    values = {"report": VERSION, **_object(report)}
    values["written"] = iso_time(report.written_ns)
    # ASCII: what turns the direction of text does so in an editor, too.
    return json.dumps(values, indent=1) + "\n"


def _object(value: object) -> dict[str, Any]:
    """One of the classes above, field by field."""
    made: dict[str, Any] = {}
    for field in fields(value):  # type: ignore[arg-type]  # a dataclass of this module
        inner = getattr(value, field.name)
        if isinstance(inner, bytes):
            made |= json_name(inner, field.name)
        else:
            made[field.name] = _value(inner)
    if isinstance(value, Hashes):
        made["verdict"] = value.verdict
    return made


def _value(value: object) -> Any:  # noqa: ANN401 - whatever JSON takes
    if isinstance(value, ExplorerError):
        return {**value.to_wire(), "text": describe(value)}
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {name: _value(item) for name, item in sorted(value.items())}
    if isinstance(value, bytes):
        return value.hex()
    if value is None or isinstance(value, (str, int)):
        return value
    return _object(value)


# ---- HTML

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; margin: 2em; color: #222; background: #fff }}
h1 {{ font-size: 150% }}
h2 {{ font-size: 120%; margin-top: 1.5em; border-bottom: 1px solid #999 }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; vertical-align: top; padding: 2px 12px 2px 0 }}
th {{ color: #555; font-weight: normal }}
td.name {{ font-family: monospace; white-space: pre-wrap; word-break: break-all }}
.bad {{ color: #a00000; font-weight: bold }}
</style>
</head>
<body>
"""
_TAIL = "</body>\n</html>\n"
_BAD = frozenset({"failed", "damaged"})


def to_html(report: Report) -> str:
    """The report as one page, which loads nothing and runs nothing."""
    return "".join(_html(report))


def _html(report: Report) -> Iterator[str]:
    title = f"Report on {report.source}"
    yield _HEAD.format(title=_text(title))
    yield f"<h1>{_name(title)}</h1>\n"
    yield from _pairs(
        ("Program", report.program),
        ("Linux inside", report.kernel),
        ("Report written", iso_time(report.written_ns)),
        ("Format", report.format),
        ("Size of the disk", f"{report.size} bytes"),
        ("Confined by", ", ".join(report.confined) or "nothing"),
        ("Not confined by", ", ".join(report.unconfined) or "-"),
        ("Written to the source", f"{report.written_bytes} bytes"),
        ("Writes refused", str(report.refused_writes)),
        ("Kept in memory instead", f"{report.overlay_bytes} bytes"),
    )
    yield from _lines("Image", report.facts)
    yield from _hashes(report.hashes)
    yield from _table(
        "Volumes",
        ("name", "kind", "content", "label", "UUID", "start", "size", "view", "note"),
        (
            (one.name, one.kind, one.content, one.label, one.uuid, one.start, one.size,
             one.view or "not opened", one.note)
            for one in report.volumes
        ),
    )  # fmt: skip
    for copy in report.copies:
        yield from _copy(copy)
    yield from _table(
        "Problems",
        ("where", "what"),
        ((show_name(one.where), describe(one.error)) for one in report.problems),
    )
    if not report.problems:
        yield "<h2>Problems</h2>\n<p>None.</p>\n"
    yield _TAIL


def _hashes(hashes: tuple[Hashes, ...]) -> Iterator[str]:
    rows = []
    for one in hashes:
        whole = (one.of, f"{one.size} bytes")
        if one.error is not None:
            rows.append((*whole, describe(one.error), "", one.verdict))
        for when in ("before", "after", "expected"):
            for algorithm, digest in sorted(getattr(one, when).items()):
                rows.append((*whole, f"{algorithm}, {when}", digest.hex(), one.verdict))
    yield from _table("Digests", ("of", "size", "digest", "", "compared"), rows)


def _copy(copy: CopyRecord) -> Iterator[str]:
    head = f"Copy from {copy.volume} to {show_name(copy.destination)} ({copy.sink})"
    yield f"<h2>{_name(head)}</h2>\n"
    if not copy.complete:
        yield '<p class="bad">It did not come to its end.</p>\n'
    yield from _pairs(*((name, str(number)) for name, number in sorted(copy.accounts.items())))
    yield from _rows(
        ("path", "target", "type", "outcome", "size", "digests", "error"),
        (
            (show_name(one.path), show_name(one.target), one.type, one.outcome, one.size,
             "\n".join(f"{name} {digest.hex()}" for name, digest in sorted(one.digests.items())),
             one.error)
            for one in copy.files
        ),
    )  # fmt: skip


def _lines(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"<h2>{title}</h2>\n<table>\n"
    for line in lines:
        yield f'<tr><td class="name">{_name(line)}</td></tr>\n'
    yield "</table>\n"


def _pairs(*pairs: tuple[str, str]) -> Iterator[str]:
    yield "<table>\n"
    for name, value in pairs:
        yield f"<tr><th>{_text(name)}</th><td>{_name(value)}</td></tr>\n"
    yield "</table>\n"


def _table(title: str, heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    given = list(rows)
    if given:
        yield f"<h2>{title}</h2>\n"
        yield from _rows(heads, given)


def _rows(heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    yield "<table>\n<tr>" + "".join(f"<th>{_text(head)}</th>" for head in heads) + "</tr>\n"
    for row in rows:
        cells = []
        for value in row:
            text = str(value)
            bad = " bad" if text in _BAD or text.startswith("DIFFERENT") else ""
            cells.append(f'<td class="name{bad}">{_name(text)}</td>')
        yield "<tr>" + "".join(cells) + "</tr>\n"
    yield "</table>\n"


def _text(text: str) -> str:
    return escape(show_text(text))


def _name(text: str) -> str:
    """Text that cannot turn the direction of what stands beside it."""
    return f"<bdi>{_text(text)}</bdi>"
