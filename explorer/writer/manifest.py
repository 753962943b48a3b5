# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
r"""The manifest: one line for each entry that a copy saw, in the order in which they came.

As JSON, each line is an object: first the head (``{"manifest": 1, "program": ..., ...}``), then the
entries, last the accounts (``{"accounts": {...}}``). As CSV (RFC 4180) the head and the accounts
are lines ``# name: value``, and the line of columns follows the head. A manifest without accounts
is of a copy that did not come to its end. Fields:

- ``outcome``: ``copied``; ``damaged`` (it is there, something is missing); ``skipped``, by
  ``rule``; ``failed``; ``before`` (by the copy that this one went on with). ``error`` is its text,
  ``code`` the error's own word.
- ``path``: from the destination, in the source's names; ``origin``: the path in the volume, where
  that is known; ``target``: where it is, from there too,
  empty for nowhere. ``link``: where a symbolic link points; ``same_as``: the target that a hard
  link is another name of. Text is made of bytes that are no UTF-8, of control characters and of
  backslashes by writing them as ``\xNN``, ``\n``, ``\\``, and of a first character that a
  spreadsheet would take for a formula's; each field has ``_hex`` beside it then, with its bytes.
- ``type``; ``stream`` is a named stream of the entry before.
- ``size``: bytes in the source; ``written``: in the copy; ``holes``: of these, in holes.
- ``mode`` in octal, ``uid``, ``gid``, the four times in UTC and in nanoseconds since 1970.
- a digest by each algorithm asked for, in hexadecimal, of the content as it was written.
- ``unreadable``: ranges ``OFFSET+LENGTH`` of what could not be read, which are zeros in the copy.
- ``not_kept``: attributes that the copy has not, by name; ``owner`` for uid and gid.

:mod:`explorer.writer.checking` reads it back.
"""

from __future__ import annotations

import csv
import io
import json
import stat
from typing import TYPE_CHECKING, Any

from explorer import __version__
from explorer.core.entries import MASK_MODE, TYPE_NAMES
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.core.objects import TIMES, entry_times
from explorer.core.origins import Origins
from explorer.core.times import iso_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from explorer.wire.writing import Write, Written
    from explorer.writer.outcomes import Outcome
    from explorer.writer.output import Output

VERSION = 1
_NAMES = ("path", "origin", "target", "link", "same_as")
_FIELDS = ("type", "outcome", "rule", "code", "error")
_NUMBERS = ("size", "written", "holes", "mode", "uid", "gid")
_FORMULA = ("=", "+", "-", "@")


class ManifestWriter:
    """Writes a manifest while the copy goes on."""

    def __init__(self, output: Output, job: Write) -> None:
        """Write its head; raises :exc:`ExportError`, as all of this does."""
        self._output = output
        self._csv = job.manifest_form == "csv"
        self._columns = list(_columns(job.digests))
        self._origins = Origins(job.origins, job.tops)
        head = {
            "manifest": VERSION,
            "program": f"lkl-explorer {__version__}",
            "source": job.source,
            "volume": job.volume,
            "sink": job.sink,
            "names": job.names,
            "digests": " ".join(job.digests),
        }
        if self._csv:
            for name, value in head.items():
                self._comment(name, value)
            self._row(self._columns)
        else:
            self._object(head)

    def add(self, outcome: Outcome) -> None:
        """Write the line of one entry."""
        fields = _fields_of(outcome, self._origins.find(outcome.path))
        if self._csv:
            self._row([fields.get(column, "") for column in self._columns])
        else:
            self._object(fields)

    def finish(self, written: Written) -> None:
        """Write the accounts, and have the host keep it."""
        accounts: dict[str, Any] = {
            name: getattr(written, name)
            for name in ("seen", "copied", "damaged", "failed", "done_before", "written", "holes",
                         "mapped", "owners_lost", "attributes_lost", "complete")
        }  # fmt: skip
        if written.ended is not None:
            accounts["ended"] = " ".join(describe(written.ended).split())
        skipped = dict(zip(written.rules, written.skipped, strict=True))
        if self._csv:
            accounts |= {f"skipped by {rule}": number for rule, number in skipped.items()}
            for name, value in accounts.items():
                self._comment(name, value)
        else:
            self._object({"accounts": accounts | {"skipped": skipped}})
        self._output.finish()

    def _comment(self, name: str, value: object) -> None:
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        self._output.write(f"# {name}: {shown}\n".encode())

    def _row(self, values: Sequence[object]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        self._output.write(text.getvalue().encode())

    def _object(self, fields: Mapping[str, object]) -> None:
        self._output.write(json.dumps(fields, ensure_ascii=False).encode() + b"\n")


def _columns(digests: Iterable[str]) -> Iterator[str]:
    yield from _FIELDS
    for name in _NAMES:
        yield name
        yield f"{name}_hex"
    yield from _NUMBERS
    yield from TIMES
    yield from (f"{name}_ns" for name in TIMES)
    yield from digests
    yield from ("unreadable", "not_kept")


def _fields_of(outcome: Outcome, origin: bytes) -> dict[str, object]:
    """What is told of one entry; what there is not is left out."""
    entry = outcome.entry
    fields: dict[str, object] = {
        "type": "stream" if outcome.is_stream else TYPE_NAMES[entry.type],
        "outcome": outcome.result,
    }
    if outcome.rule:
        fields["rule"] = outcome.rule
    if outcome.error is not None:
        fields["code"] = outcome.error.code
        fields["error"] = " ".join(describe(outcome.error).split())
    names = (outcome.path, origin, outcome.target, outcome.link, outcome.same_as)
    for key, name in zip(_NAMES, names, strict=True):
        if name:
            fields |= _exact(key, name)
    if entry.is_file or outcome.is_stream:
        fields |= {"size": entry.size, "written": outcome.written, "holes": outcome.holes}
    if entry.mask & MASK_MODE:
        fields |= {"mode": f"{stat.S_IMODE(entry.mode):04o}", "uid": entry.uid, "gid": entry.gid}
    for word, time_ns in zip(TIMES, entry_times(entry), strict=True):
        if time_ns is not None:
            fields[word] = iso_time(time_ns)
            fields[f"{word}_ns"] = time_ns
    fields |= {name: digest.hex() for name, digest in outcome.digests.items()}
    if outcome.unreadable:
        ranges = (f"{offset}+{length}" for offset, length in outcome.unreadable)
        fields["unreadable"] = " ".join(ranges)
    lost = [show_name(name) for name in outcome.not_kept] + ["owner"] * outcome.owner_lost
    if lost:
        fields["not_kept"] = " ".join(lost)
    return fields


def _exact(key: str, name: bytes) -> dict[str, object]:
    """A name as text, with its bytes where that text is not just them."""
    shown = show_name(name)
    if shown.startswith(_FORMULA):
        shown = f"\\x{ord(shown[0]):02x}{shown[1:]}"
    return {key: shown} if shown.encode() == name else {key: shown, f"{key}_hex": name.hex()}
