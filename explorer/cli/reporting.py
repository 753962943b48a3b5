# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The report of a command that copied: what was read, what came of it, and that nothing changed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from explorer import __version__
from explorer.core.errors import ExportError, host_path
from explorer.core.names import show_name
from explorer.evidence.report import Hashes, Problem, Report, VolumeRecord, to_html, to_json
from explorer.native.confine import PARTS
from explorer.writer.checking import record_copy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from explorer.api.copying import Copied
    from explorer.api.source import Volume
    from explorer.core.errors import ExplorerError
    from explorer.wire.evidence import SourceDigest

ALGORITHMS = ("sha256",)
"""Of the source, before and after."""

_KINDS = {
    "file": "the file {name}, as it is stored",
    "parts": "all parts of {name} together, as they are stored",
    "disk": "the disk in {name}",
}


class Reporter:
    """Watches a source from before a copy until after it."""

    def __init__(self, path: str, volume: Volume, *, hash_source: bool) -> None:
        """Hash the source, if that is wished."""
        self._path = path
        self._volume = volume
        self._opened = volume.mount()
        self._before = volume.source.hash(*ALGORITHMS) if hash_source else None

    def write(
        self,
        manifest: str,
        destination: bytes,
        copied: Sequence[Copied],
        refused: Sequence[tuple[bytes, ExplorerError]],
    ) -> bool:
        """Write the report; whether the source is still what it was, as far as that was asked.

        Raises :exc:`ExportError`.
        """
        source = self._volume.source
        counters = source.counters()
        hashes = self._hashes()
        missing = source.engine.missing
        view = "recovered" if self._opened.recovered else "stored"
        report = Report(
            program=f"lkl-explorer {__version__}",
            kernel=source.opened.kernel,
            written_ns=time.time_ns(),
            source=show_name(source.paths[0]),
            format=source.format,
            size=source.size,
            facts=source.opened.facts,
            confined=tuple(part for part in PARTS if part not in missing),
            unconfined=missing,
            overlay_bytes=counters.overlay_bytes,
            refused_writes=counters.refused_writes,
            written_bytes=counters.written_bytes,
            hashes=hashes,
            volumes=tuple(
                VolumeRecord(
                    *(facts.name, facts.kind, facts.content, facts.label, facts.uuid),
                    *(facts.start, facts.size),
                    view if facts.number == self._volume.facts.number else "",
                    facts.note,
                )
                for facts in (volume.facts for volume in source.volumes)
            ),
            copies=(record_copy(Path(manifest), destination),),
            problems=tuple(
                Problem(where, error) for where, error in (*refused, *_failures(copied))
            ),
        )
        text = to_html(report) if self._path.endswith((".html", ".htm")) else to_json(report)
        try:
            Path(self._path).write_text(text, encoding="utf-8")
        except OSError as failure:
            raise ExportError(
                "export.target", path=host_path(self._path), reason=failure.strerror or ""
            ) from failure
        return not any(one.verdict.startswith("DIFFERENT") for one in hashes)

    def _hashes(self) -> tuple[Hashes, ...]:
        if self._before is None:
            return ()
        after = self._volume.source.hash(*ALGORITHMS)
        return tuple(
            Hashes(
                of=_KINDS[first.kind].format(name=first.name),
                size=first.size,
                before=_digests(first),
                after=_digests(second),
                expected={},
                error=first.error or second.error,
            )
            for first, second in zip(self._before, after, strict=True)
        )


def _failures(copied: Sequence[Copied]) -> Iterator[tuple[bytes, ExplorerError]]:
    for part in copied:
        yield from ((one.origin or one.path, one.error) for one in part.failures)
        if part.lost is not None:
            yield b"", part.lost


def _digests(found: SourceDigest) -> dict[str, bytes]:
    return dict(zip(ALGORITHMS, found.digests, strict=False))
