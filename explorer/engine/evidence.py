# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers what is asked of a source as evidence, in parts of a bounded size."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from explorer.evidence.finding import Criteria, find_entries
from explorer.evidence.hashing import source_hash, volume_hash
from explorer.evidence.inventory import inventory
from explorer.evidence.searching import (
    bytes_needle,
    pattern_needle,
    search_contents,
    text_needles,
)
from explorer.evidence.timeline import timeline
from explorer.wire.evidence import (
    CONTEXT_LIMIT,
    FOUND_BYTES,
    FOUND_LIMIT,
    ROWS_LIMIT,
    FindEntries,
    Found,
    HashProgress,
    HashSource,
    Matches,
    ReadInventory,
    ReadTimeline,
    Rows,
    SearchContents,
    Searched,
    SourceDigest,
    SourceHashed,
    WalkFailed,
)
from explorer.wire.limits import PATH_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from explorer.core.volume import Volume
    from explorer.engine.server import Answer
    from explorer.evidence import inventory as inventories
    from explorer.evidence import timeline as timelines
    from explorer.evidence.finding import TimeKind
    from explorer.evidence.searching import Match
    from explorer.evidence.walking import Failure, Placed
    from explorer.kernel import Mount
    from explorer.volumes import Source

PROGRESS_SECONDS = 0.1


def hash_source(
    source: Source, volume: Volume | None, message: HashSource, answer: Answer
) -> SourceHashed:
    """Hashes the images of a source, and a volume."""
    told = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        answer.check()
        moment = time.monotonic()
        if moment - told >= PROGRESS_SECONDS:
            told = moment
            answer.send(HashProgress(done, total))

    results = []
    if message.stored or message.disk:
        for image in source.stack.images:
            results += source_hash(
                image,
                message.algorithms,
                stored=message.stored,
                disk=message.disk,
                progress=progress,
            )
    if volume is not None:
        results.append(volume_hash(source.stack, volume, message.algorithms, progress))
    for one in results:
        digests = () if one.error else tuple(one.digests[name] for name in message.algorithms)
        answer.send(
            SourceDigest(one.kind, one.name, one.size, one.format, one.same, digests, one.error)
        )
    return SourceHashed()


def tell_rows(mount: Mount, message: ReadTimeline | ReadInventory, answer: Answer) -> Searched:
    """The timeline or inventory of a volume."""
    tally = _Tally(answer)
    if isinstance(message, ReadTimeline):
        form = cast("timelines.Form", message.form)
        rows = timeline(mount, message.path, form, check=answer.check)
    else:
        rows = inventory(
            mount,
            message.path,
            cast("inventories.Form", message.form),
            algorithms=message.algorithms,
            check=answer.check,
        )
    for text, entries, failures in rows:
        for at in range(0, len(text), ROWS_LIMIT):
            answer.send(Rows(text[at : at + ROWS_LIMIT]))
        tally.add(entries, entries, failures)
    return tally.end()


def find(mount: Mount, message: FindEntries, answer: Answer) -> Searched:
    """Entries that meet criteria."""
    criteria = Criteria(
        names=message.names,
        ignore_case=message.ignore_case,
        pattern=message.pattern,
        size_least=message.size_least,
        size_most=message.size_most,
        after_ns=message.after_ns,
        before_ns=message.before_ns,
        time_kind=cast("TimeKind", message.time_kind),
        types=message.types,
        uid=message.uid,
        gid=message.gid,
        mode_bits=message.mode_bits,
    )
    tally = _Tally(answer)
    for placed, failures, seen in find_entries(mount, message.path, criteria, answer.check):
        tellable = [one for one in placed if len(one[0]) <= PATH_LIMIT]
        for some in _pieces(tellable):
            answer.send(
                Found(
                    tuple(path for path, _entry in some),
                    # The start has the name it was asked by.
                    tuple(entry._replace(name=_name(path)) for path, entry in some),
                )
            )
        tally.add(seen, len(placed), failures)
    return tally.end()


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


def _pieces(placed: Sequence[Placed]) -> Iterable[list[Placed]]:
    """As many at once as a message may hold."""
    piece: list[Placed] = []
    size = 0
    for one in placed:
        if piece and (len(piece) == FOUND_LIMIT or size + len(one[0]) > FOUND_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(one)
        size += len(one[0])
    if piece:
        yield piece


def search(mount: Mount, message: SearchContents, answer: Answer) -> Searched:
    """Places in the contents of files."""
    if message.text:
        needles = text_needles(message.text, message.encodings, ignore_case=message.ignore_case)
    elif message.literal:
        needles = [bytes_needle(message.literal)]
    else:
        needles = [pattern_needle(message.pattern, ignore_case=message.ignore_case)]
    criteria = Criteria(names=message.names, size_most=message.size_most)
    tally = _Tally(answer)
    found = search_contents(mount, message.path, needles, criteria, answer.check)
    for matches, failures, seen in found:
        for at in range(0, len(matches), FOUND_LIMIT):
            _tell_matches(matches[at : at + FOUND_LIMIT], answer)
        tally.add(seen, len(matches), failures)
    return tally.end()


def _tell_matches(matches: Sequence[Match], answer: Answer) -> None:
    """All of one file."""
    path = matches[0].path
    if len(path) > PATH_LIMIT:
        return
    pieces = [
        piece for one in matches for piece in (one.before, one.match[:CONTEXT_LIMIT], one.after)
    ]
    answer.send(
        Matches(
            path,
            tuple(one.offset for one in matches),
            tuple(len(one.match) for one in matches),
            tuple(one.encoding for one in matches),
            tuple(map(len, pieces)),
            b"".join(pieces),
        )
    )


class _Tally:
    """Counts, and tells of failures. What has a path beyond the wire's limit is counted only."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._seen = self._matches = self._errors = 0

    def add(self, seen: int, matches: int, failures: Iterable[Failure]) -> None:
        self._seen += seen
        self._matches += matches
        for path, error in failures:
            self._errors += 1
            if len(path) <= PATH_LIMIT:
                self._answer.send(WalkFailed(path, error))

    def end(self) -> Searched:
        return Searched(self._seen, self._matches, self._errors)
