# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``cp``, ``tar`` and ``zip``: from the image to the host, by an engine and a writer."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.api.copying import Copied, copy
from explorer.cli import codes
from explorer.cli.engine import open_volume
from explorer.cli.output import print_error, print_json
from explorer.cli.progress import Progress
from explorer.core.errors import (
    ExplorerError,
    ExportError,
    KernelError,
    SourceError,
    host_path,
)
from explorer.core.messages import describe, describe_at
from explorer.core.names import is_entry_name, show_name
from explorer.core.objects import json_name
from explorer.core.times import iso_time
from explorer.host.processes import may_keep_owners
from explorer.wire.messages import Pack
from explorer.wire.writing import Write

if TYPE_CHECKING:
    from argparse import Namespace

    from explorer.api.copying import Failure
    from explorer.api.source import Volume
    from explorer.cli.reporting import Reporter
    from explorer.core.entries import Entry
    from explorer.wire.writing import Conflict, WriteProgress

JOURNAL_NAME = ".lkl-explorer-{}.journal"
"""In the destination, while a copy is not done."""


@dataclass(frozen=True, slots=True)
class _Step:
    """Things to copy that go to the same place in the same way."""

    paths: tuple[bytes, ...]
    """In the image."""
    contents: bool
    """Whether only what is in them is wanted: of the root, and of what ends in "." or ".."."""
    folder: Path
    """Of the host; exists."""
    name: bytes | None
    """What the only one is called there; None: as it is."""


@dataclass(slots=True)
class _Report:
    """What came of all steps."""

    done: list[Copied] = field(default_factory=list)
    refused: list[tuple[bytes, ExplorerError]] = field(default_factory=list)
    """What could not even be begun."""

    @property
    def entries(self) -> int:
        return len(self.refused) + sum(one.written.seen for one in self.done)

    @property
    def errors(self) -> int:
        return len(self.refused) + sum(
            one.written.failed + one.written.damaged for one in self.done
        )

    @property
    def lost(self) -> ExplorerError | None:
        return next((one.lost for one in self.done if one.lost is not None), None)

    def to_json(self) -> dict[str, Any]:
        rules: dict[str, int] = {}
        for one in self.done:
            for rule, number in zip(one.written.rules, one.written.skipped, strict=True):
                rules[rule] = rules.get(rule, 0) + number
        failures = [
            {
                **json_name(path, "path"),
                "message": message,
                "damaged": damaged,
                **error.to_wire(),
            }
            for path, message, error, damaged in (
                *((path, _describe(path, error), error, False) for path, error in self.refused),
                *(
                    (path, describe_at(path, failure.error), failure.error, failure.damaged)
                    for one in self.done
                    for failure in one.failures
                    for path in (failure.origin or failure.path,)
                ),
            )
        ]
        return {
            "entries": self.entries,
            "copied": sum(one.written.copied for one in self.done),
            "damaged": sum(one.written.damaged for one in self.done),
            "skipped": rules,
            "failed": len(self.refused) + sum(one.written.failed for one in self.done),
            "done_before": sum(one.written.done_before for one in self.done),
            "bytes": sum(one.written.written for one in self.done),
            "owners_lost": sum(one.written.owners_lost for one in self.done),
            "attributes_lost": sum(one.written.attributes_lost for one in self.done),
            "complete": all(one.written.complete for one in self.done),
            "mapped": [
                {**json_name(path, "path"), **json_name(name)}
                for one in self.done
                for path, name in one.mapped.items()
            ],
            "failures": failures,
        }


def cp(arguments: Namespace) -> int:
    """Copy files and folders out of the image."""
    dest = Path(arguments.dest)
    paths = [b"/" + os.fsencode(path).lstrip(b"/") for path in arguments.paths]
    if len(paths) > 1 and not dest.is_dir():
        raise _target_error("export.not-a-folder", dest)
    report = _Report()
    with open_volume(arguments) as volume:
        steps = _plan_all(volume, paths, arguments, report)
        if arguments.report and not arguments.manifest:
            arguments.manifest = f"{arguments.report}.manifest.csv"
        if arguments.manifest and len(steps) > 1:
            raise ExportError("export.one-manifest")
        for step in steps:
            _refuse_image(volume, step, Path(arguments.image))
        reporter = _reporter(volume, arguments) if steps else None
        for step in steps:
            report.done.append(_copy(volume, step, arguments))
        if reporter is not None:
            place = os.fsencode(steps[0].folder)
            same = reporter.write(arguments.manifest, place, report.done, report.refused)
            if not same:
                raise SourceError("source.differs", path=host_path(arguments.image))
    return _tell(report, arguments)


def _reporter(volume: Volume, arguments: Namespace) -> Reporter | None:
    if not arguments.report or arguments.dry_run:
        return None
    from explorer.cli.reporting import Reporter

    return Reporter(arguments.report, volume, hash_source=arguments.hash_source)


def archive(arguments: Namespace) -> int:
    """Write an archive of entries of the image: ``tar`` and ``zip``."""
    output = arguments.output
    if output is None and sys.stdout.isatty():
        raise ExportError("export.terminal")
    report = _Report()
    with open_volume(arguments) as volume:
        paths = [volume.resolve_parent(path) for path in arguments.paths]
        contents = paths == [b"/"]
        pack = _pack(volume, paths, arguments, contents=contents, every_link=_is_zip(arguments))
        write = replace(
            _write(volume, arguments),
            sink=arguments.command,
            destination=None if output is None else os.fsencode(output),
            conflicts="overwrite",
            special=True,
            owner=True,
        )
        descriptor = sys.stdout.fileno() if output is None else None
        try:
            report.done.append(_run(volume, pack, write, arguments, descriptor))
        except ExportError as error:
            if error.code == "export.pipe-closed":
                return codes.PIPE_CLOSED
            raise
    # What is on standard output is the archive.
    return _tell(report, arguments, quiet=output is None)


def _is_zip(arguments: Namespace) -> bool:
    return str(arguments.command) == "zip"


# ---- What goes where


def _target_error(code: str, target: Path, reason: str = "") -> ExportError:
    return ExportError(code, path=host_path(target), reason=reason)


def _plan_all(
    volume: Volume, paths: list[bytes], arguments: Namespace, report: _Report
) -> list[_Step]:
    """Where everything goes; what goes to one place in one way, together."""
    steps: list[_Step] = []
    for path in paths:
        try:
            step = _plan(volume, path, arguments.dest, recursive=arguments.recursive)
        except (KernelError, ExportError) as error:
            if error.code == "kernel.ended":
                raise
            report.refused.append((path, error))
            continue
        last = steps[-1] if steps else None
        if last is not None and replace(step, paths=last.paths) == last and step.name is None:
            steps[-1] = replace(last, paths=(*last.paths, *step.paths))
        else:
            steps.append(step)
    return steps


def _plan(volume: Volume, path: bytes, dest: str, *, recursive: bool) -> _Step:
    """Where a path goes, by the rules of ``cp``."""
    named = path.rstrip(b"/").rpartition(b"/")[2]
    contents = not is_entry_name(named)
    # A link asked for by name stands for its file; only -r copies links.
    through = not recursive or contents or path.endswith(b"/")
    real = volume.resolve(path) if through else volume.resolve_parent(path)
    entry = volume.stat(real)
    if entry.is_directory and not recursive:
        raise ExportError("export.directory", path=show_name(path))
    # What a link leads to is called as the link was.
    name = None if contents or real.endswith(b"/" + named) else named
    target = Path(dest)
    if target.is_dir():
        return _Step((real,), contents, target, name)
    wants_folder = entry.is_directory or dest.endswith("/")
    if os.path.lexists(target) and wants_folder:
        raise _target_error("export.not-a-folder", target)
    if not target.parent.is_dir() or not target.name:
        raise _target_error("export.missing-folder", target.parent)
    if wants_folder and not entry.is_directory:
        raise _target_error("export.missing-folder", target)
    return _Step((real,), False, target.parent, os.fsencode(target.name))


def _refuse_image(volume: Volume, step: _Step, image: Path) -> None:
    """Raise when the copy would put something in the place of the image itself."""
    image = image.resolve()
    for path in step.paths:
        name = b"." if step.contents else step.name or path.rpartition(b"/")[2]
        target = (step.folder / os.fsdecode(name)).resolve()
        if not image.is_relative_to(target):
            continue
        inside = os.fsencode(image.relative_to(target))
        if inside != b".":
            try:
                volume.stat(path.rstrip(b"/") + b"/" + inside)
            except KernelError:
                # Nothing in the image goes there.
                continue
        raise _target_error("export.onto-image", image)


# ---- The copy


def _pack(
    volume: Volume,
    paths: list[bytes] | tuple[bytes, ...],
    arguments: Namespace,
    *,
    name: bytes | None = None,
    contents: bool = False,
    every_link: bool = False,
) -> Pack:
    return Pack(
        volume=volume.facts.number,
        paths=tuple(paths),
        name=name,
        contents=contents,
        follow=arguments.symlinks == "follow",
        every_link=every_link,
        holes=arguments.holes,
    )


def _write(volume: Volume, arguments: Namespace) -> Write:
    manifest = arguments.manifest
    return Write(
        sink="folder",
        destination=None,
        names=arguments.names,
        symlinks="recreate" if arguments.symlinks == "follow" else arguments.symlinks,
        digests=tuple(dict.fromkeys(arguments.digests or (("sha256",) if manifest else ()))),
        manifest=None if manifest is None else os.fsencode(manifest),
        manifest_form="json" if manifest and manifest.endswith(".json") else "csv",
        source=show_name(os.fsencode(arguments.image)),
        volume=f"{volume.facts.name} {volume.facts.title}",
    )


def _copy(volume: Volume, step: _Step, arguments: Namespace) -> Copied:
    pack = _pack(volume, step.paths, arguments, name=step.name, contents=step.contents)
    journal = step.folder / JOURNAL_NAME.format(_identity(arguments, step))
    if arguments.resume and not journal.exists():
        raise _target_error("export.nothing-to-resume", step.folder)
    write = replace(
        _write(volume, arguments),
        destination=os.fsencode(step.folder),
        conflicts=arguments.conflicts,
        special=arguments.special,
        owner=may_keep_owners(),
        journal=os.fsencode(journal),
        resume=arguments.resume,
    )
    if arguments.dry_run:
        return _run(volume, replace(pack, plan=True), replace(write, plan=True), arguments)
    expected = _expected(volume, pack, write, arguments)
    return _run(volume, pack, replace(write, expected=expected), arguments)


def _identity(arguments: Namespace, step: _Step) -> str:
    """What tells this copy from others into the same folder, so that it alone is gone on with."""
    what = (
        os.path.realpath(arguments.image),
        arguments.volume,
        arguments.inside,
        arguments.snapshot,
        step.paths,
        step.name,
    )
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def _expected(volume: Volume, pack: Pack, write: Write, arguments: Namespace) -> int:
    """Bytes that the copy will take, as far as it is worth finding out beforehand.

    On a terminal somebody wants to see how far it is; and where all of the volume might not find
    room, what is wanted of it has to be added up.
    """
    assert write.destination is not None
    opened = volume.mount()
    there = os.statvfs(write.destination)
    short = opened.size - opened.free >= there.f_bavail * there.f_frsize
    if not short and not (sys.stderr.isatty() and not arguments.json):
        return 0
    planned = copy(
        volume.source, replace(pack, plan=True), replace(write, plan=True, conflicts="overwrite")
    )
    return planned.written.written


def _run(
    volume: Volume,
    pack: Pack,
    write: Write,
    arguments: Namespace,
    descriptor: int | None = None,
) -> Copied:
    shown = sys.stderr.isatty() and not arguments.json and not write.plan
    progress = Progress(sys.stderr) if shown else None

    def advanced(now: WriteProgress) -> None:
        if progress is not None:
            progress.show(now.seen, now.written, write.expected)

    def failed(failure: Failure) -> None:
        if progress is not None:
            progress.clear()
        print_error(describe_at(failure.origin or failure.path, failure.error))

    def ask(conflict: Conflict) -> tuple[str, bool]:
        if progress is not None:
            progress.clear()
        return _ask(conflict)

    try:
        return copy(
            volume.source, pack, write, descriptor, ask=ask, progress=advanced, failed=failed
        )
    finally:
        if progress is not None:
            progress.clear()


def _ask(conflict: Conflict) -> tuple[str, bool]:
    """What the person at the terminal decides; the writer waits."""
    if not sys.stdin.isatty():
        return "skip", True
    path = show_name(conflict.path)
    sys.stderr.write(
        f"{path} exists: {_sketch(conflict.existing)}; in the image: {_sketch(conflict.new)}\n"
    )
    answers = {"s": "skip", "o": "overwrite", "r": "rename", "n": "newer"}
    while True:
        sys.stderr.write("[s]kip, [o]verwrite, [r]ename, [n]ewer; a capital letter for all: ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            return "skip", True
        given = line.strip()
        if given.lower() in answers:
            return answers[given.lower()], given.isupper()


def _sketch(entry: Entry) -> str:
    time = "" if entry.modify_ns is None else f", {iso_time(entry.modify_ns)}"
    return f"{entry.size} bytes{time}"


# ---- What came of it


def _tell(report: _Report, arguments: Namespace, *, quiet: bool = False) -> int:
    for path, error in report.refused:
        print_error(_describe(path, error))
    lost = report.lost
    if lost is not None:
        print_error(describe(lost))
        if arguments.command == "cp":
            print_error("the same command with --resume goes on with it")
    if arguments.json and not quiet:
        print_json(report.to_json())
    else:
        _print_summary(report, arguments)
    if lost is not None:
        return codes.exit_code(lost)
    if not report.errors:
        return codes.DONE
    # One thing asked for and not copied at all has a code that tells why.
    if report.entries == 1 and report.refused:
        return codes.exit_code(report.refused[0][1])
    return codes.SOME_FAILED


def _describe(path: bytes, error: ExplorerError) -> str:
    """A line about what could not be begun: its own path may be one of the host."""
    return describe(error) if error.params.get("path") else describe_at(path, error)


def _print_summary(report: _Report, arguments: Namespace) -> None:
    """What somebody must know who sees nothing else; nothing when all went as asked."""
    facts = report.to_json()
    if arguments.command == "cp" and arguments.dry_run:
        print(f"{facts['entries']} entries, {facts['bytes']} bytes")
    for mapped in facts["mapped"]:
        print_error(f"{mapped['path']}: called {mapped['name']} here")
    for rule, number in facts["skipped"].items():
        print_error(f"{number} skipped: {rule}")
    if facts["owners_lost"]:
        print_error(f"owners of {facts['owners_lost']} entries not kept")
    if report.errors and report.entries > 1:
        error = ExportError("export.incomplete", errors=report.errors, entries=report.entries)
        print_error(describe(error))
