# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``timeline``, ``inventory``, ``find`` and ``grep``: what is printed while a volume is walked."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from explorer.cli.codes import SOME_FAILED
from explorer.cli.output import print_error, print_json_line, print_raw
from explorer.cli.progress import Progress
from explorer.cli.session import each_volume
from explorer.core.errors import SearchError
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.core.objects import json_entry, json_name
from explorer.evidence.finding import Criteria, find_entries
from explorer.evidence.inventory import inventory
from explorer.evidence.owners import read_owners
from explorer.evidence.searching import (
    bytes_needle,
    pattern_needle,
    search_contents,
    text_needles,
)
from explorer.evidence.timeline import timeline

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from explorer.evidence.searching import Match, Needle
    from explorer.evidence.timeline import Form
    from explorer.evidence.walking import Failure
    from explorer.kernel import Mount
    from explorer.volumes import MountedVolume


class _Tally:
    """Counts, tells of failures, and shows on a terminal how far it is."""

    def __init__(self, *, json: bool, counted: str) -> None:
        """``counted`` is what is counted, as ``entries``."""
        self._json = json
        self._counted = counted
        self._seen = self._found = self._errors = 0
        # Not between the lines of what is found.
        shown = sys.stderr.isatty() and not sys.stdout.isatty()
        self._progress = Progress(sys.stderr) if shown else None

    def add(self, prefix: bytes, seen: int, found: int, failures: Sequence[Failure]) -> None:
        """Something was done."""
        self._seen += seen
        self._found += found
        self._errors += len(failures)
        if failures and self._progress:
            self._progress.clear()
        for path, error in failures:
            if self._json:
                told = {"message": describe(error), **error.to_wire()}
                print_json_line({**json_name(prefix + path, "path"), "error": told})
            print_error(f"{show_name(prefix)}{describe(error)}")
        if self._progress:
            self._progress.show_count(self._seen, self._found)

    def end(self, code: int) -> int:
        """The last line, and the exit code, which is ``code`` unless that is no failure."""
        if self._progress:
            self._progress.clear()
        if self._json:
            counts = {self._counted: self._seen, "found": self._found, "errors": self._errors}
            print_json_line({"summary": counts})
        return SOME_FAILED if self._errors else code


def _write(text: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text)


def print_timeline(arguments: Namespace) -> int:
    """The times of all entries: a body file, CSV or JSON."""
    form: Form = "json" if arguments.json else "csv" if arguments.csv else "body"
    tally = _Tally(json=arguments.json, counted="entries")
    head = [True]

    def work(mounted: MountedVolume, prefix: bytes) -> None:
        start = os.fsencode(arguments.path)
        for text, entries, failures in timeline(
            mounted.mount, start, form, prefix=prefix, head=head[0]
        ):
            head[0] = False
            _write(text)
            tally.add(prefix, entries, entries, failures)

    return tally.end(each_volume(arguments, work))


def print_inventory(arguments: Namespace) -> int:
    """All that is known of all entries: CSV or JSON."""
    tally = _Tally(json=arguments.json, counted="entries")
    head = [True]

    def work(mounted: MountedVolume, prefix: bytes) -> None:
        for text, entries, failures in inventory(
            mounted.mount,
            os.fsencode(arguments.path),
            "json" if arguments.json else "csv",
            algorithms=tuple(dict.fromkeys(arguments.algorithms)),
            prefix=prefix,
            head=head[0],
        ):
            head[0] = False
            _write(text)
            tally.add(prefix, entries, entries, failures)

    return tally.end(each_volume(arguments, work))


def _criteria(arguments: Namespace, mount: Mount) -> Criteria:
    owners = read_owners(mount) if arguments.user or arguments.group else None
    return Criteria(
        names=tuple(os.fsencode(name) for name in (*arguments.names, *arguments.inames)),
        ignore_case=bool(arguments.inames),
        pattern=os.fsencode(arguments.regex or ""),
        size_least=arguments.size[0],
        size_most=arguments.size[1],
        after_ns=arguments.newer,
        before_ns=arguments.older,
        time_kind=arguments.time_kind,
        types="".join(arguments.types),
        uid=_number("user", arguments.user, owners.users if owners else {}),
        gid=_number("group", arguments.group, owners.groups if owners else {}),
        mode_bits=arguments.mode_bits,
    )


def _number(kind: str, wanted: str | None, names: dict[int, str]) -> int | None:
    """The number of an owner that is given by number or name."""
    if wanted is None:
        return None
    if wanted.isdecimal():
        return int(wanted)
    for number, name in names.items():
        if name == wanted:
            return number
    raise SearchError("search.owner", kind=kind, name=wanted)


def find(arguments: Namespace) -> int:
    """Print the paths of entries that meet the criteria."""
    tally = _Tally(json=arguments.json, counted="entries")

    def work(mounted: MountedVolume, prefix: bytes) -> None:
        criteria = _criteria(arguments, mounted.mount)
        start = os.fsencode(arguments.path)
        for placed, failures, seen in find_entries(mounted.mount, start, criteria):
            if arguments.json:
                for path, entry in placed:
                    print_json_line({**json_name(prefix + path, "path"), **json_entry(entry)})
            elif arguments.raw:
                print_raw(prefix + path for path, _entry in placed)
            elif placed:
                print("\n".join(show_name(prefix + path) for path, _entry in placed))
            if placed:
                sys.stdout.flush()
            tally.add(prefix, seen, len(placed), failures)

    return tally.end(each_volume(arguments, work))


def _needles(arguments: Namespace) -> list[Needle]:
    pattern = arguments.pattern
    if arguments.hex:
        try:
            return [bytes_needle(bytes.fromhex(pattern))]
        except ValueError as wrong:
            raise SearchError("search.pattern", pattern=pattern, reason=str(wrong)) from None
    if arguments.regex:
        return [pattern_needle(os.fsencode(pattern), ignore_case=arguments.ignore_case)]
    encodings = [one for some in arguments.encodings for one in some.split(",")]
    return text_needles(
        pattern, encodings or ["utf-8", "utf-16-le"], ignore_case=arguments.ignore_case
    )


def grep(arguments: Namespace) -> int:
    """Print where the contents of files hold something."""
    tally = _Tally(json=arguments.json, counted="files")
    needles = _needles(arguments)
    criteria = Criteria(
        names=tuple(os.fsencode(name) for name in arguments.names), size_most=arguments.max_size
    )

    def work(mounted: MountedVolume, prefix: bytes) -> None:
        start = os.fsencode(arguments.path)
        for matches, failures, seen in search_contents(mounted.mount, start, needles, criteria):
            if arguments.json:
                for match in matches:
                    print_json_line(_json_match(prefix, match))
            elif matches:
                print("\n".join(_match_line(prefix, match) for match in matches))
            if matches:
                sys.stdout.flush()
            tally.add(prefix, seen, len(matches), failures)

    return tally.end(each_volume(arguments, work))


def _context(match: Match) -> tuple[str, str, str]:
    """What is around a match and the match itself, as text that is safe to show."""
    codec = match.encoding or "utf-8"
    shown = []
    for piece in (match.before, match.match, match.after):
        text = piece.decode(codec, "replace") if match.encoding else None
        shown.append(show_name(piece if text is None else text.encode("utf-8", "replace")))
    return shown[0], shown[1], shown[2]


def _match_line(prefix: bytes, match: Match) -> str:
    encoding = f" {match.encoding}" if match.encoding else ""
    text = "".join(_context(match))
    return f"{show_name(prefix + match.path)}:{match.offset}{encoding}: {text}"


def _json_match(prefix: bytes, match: Match) -> dict[str, object]:
    before, text, after = _context(match)
    return {
        **json_name(prefix + match.path, "path"),
        "offset": match.offset,
        "length": len(match.match),
        "encoding": match.encoding,
        "before": before,
        "match": text,
        "match_hex": match.match.hex(),
        "after": after,
    }
