# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``cp``: from the image to the host. The loop over entries and bytes is in C."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.cli import codes
from explorer.cli.commands import split
from explorer.cli.output import print_error, print_json
from explorer.cli.progress import Progress
from explorer.cli.session import open_volume
from explorer.core.errors import ExportError, KernelError, host_path
from explorer.core.messages import describe
from explorer.core.names import is_entry_name, show_name
from explorer.core.objects import json_name

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from explorer.kernel import ExportFailure, ExportResult, Mount


@dataclass(frozen=True, slots=True)
class _Step:
    """One thing to copy, and where it goes."""

    path: bytes
    """In the image."""
    contents: bool
    """Whether only what is in it is wanted: of the root, and of what ends in "." or ".."."""
    folder: Path
    """Of the host; exists."""
    target: bytes
    """The name in it."""


@dataclass(slots=True)
class _Report:
    """What came of all steps."""

    entries: int = 0
    copied: int = 0
    errors: int = 0
    failures: list[dict[str, object]] = field(default_factory=list)

    def add(self, result: ExportResult) -> None:
        self.entries += result.entries
        self.copied += result.bytes
        self.errors += result.errors

    def fail(self, path: bytes, message: str, **more: object) -> None:
        self.failures.append({**json_name(path, "path"), "message": message, **more})


def cp(arguments: Namespace) -> int:
    """Copy files and folders out of the image."""
    dest = Path(arguments.dest)
    paths = [os.fsencode(path) for path in arguments.paths]
    if len(paths) > 1 and not dest.is_dir():
        raise _target_error("export.not-a-folder", dest)
    report = _Report()
    code = codes.DONE
    with open_volume(arguments) as mounted:
        for path in paths:
            try:
                step = _plan(mounted.mount, path, arguments.dest, recursive=arguments.recursive)
                _refuse_image(mounted.mount, step, Path(arguments.image))
                _copy(mounted.mount, step, report, show=not arguments.json)
            except (KernelError, ExportError) as error:
                if error.code in ("kernel.ended", "export.cancelled"):
                    raise
                report.errors += 1
                report.entries += 1
                report.fail(path, describe(error), **error.to_wire())
                print_error(describe(error))
                code = codes.exit_code(error)
    if arguments.json:
        print_json(
            {
                "entries": report.entries,
                "bytes": report.copied,
                "errors": report.errors,
                "failures": report.failures,
            }
        )
    elif report.errors and report.entries > 1:
        summary = ExportError("export.incomplete", errors=report.errors, entries=report.entries)
        print_error(describe(summary))
    # One thing asked for and not copied at all has a code that tells why.
    if report.errors:
        return code if report.entries == 1 and code else codes.SOME_FAILED
    return codes.DONE


def _target_error(code: str, target: Path, reason: str = "") -> ExportError:
    return ExportError(code, path=host_path(target), reason=reason)


def _plan(mount: Mount, path: bytes, dest: str, *, recursive: bool) -> _Step:
    """Where a path goes, by the rules of ``cp``."""
    if not recursive:
        # A link asked for by name stands for its file; only -r copies links.
        path = mount.resolve(path)
    entry = mount.stat(path, follow=path.endswith(b"/"))
    if entry.is_directory and not recursive:
        raise ExportError("export.directory", path=show_name(path))
    name = path.rstrip(b"/").rpartition(b"/")[2]
    contents = not is_entry_name(name)
    target = Path(dest)
    if target.is_dir():
        return _Step(path, contents, target, b"." if contents else name)
    wants_folder = entry.is_directory or dest.endswith("/")
    if os.path.lexists(target) and wants_folder:
        raise _target_error("export.not-a-folder", target)
    if not target.parent.is_dir() or not target.name:
        raise _target_error("export.missing-folder", target.parent)
    if wants_folder and not entry.is_directory:
        raise _target_error("export.missing-folder", target)
    return _Step(path, contents, target.parent, os.fsencode(target.name))


def _refuse_image(mount: Mount, step: _Step, image: Path) -> None:
    """Raise when the copy would put something in the place of the image itself."""
    image = image.resolve()
    target = (step.folder / os.fsdecode(step.target)).resolve()
    if not image.is_relative_to(target):
        return
    inside = os.fsencode(image.relative_to(target))
    if inside != b".":
        try:
            mount.stat(step.path.rstrip(b"/") + b"/" + inside)
        except KernelError:
            # Nothing in the image goes there.
            return
    raise _target_error("export.onto-image", image)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as failure:
        raise _target_error("export.target", folder, failure.strerror or "") from failure
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy(mount: Mount, step: _Step, report: _Report, *, show: bool) -> None:
    # Contents are asked for by the folder itself.
    parent, name = (step.path, b".") if step.contents else split(step.path)
    progress = Progress(sys.stderr) if show and sys.stderr.isatty() else None
    if progress:
        progress.expect(mount, step.path)

    def failed(failure: ExportFailure) -> None:
        path = step.path.rstrip(b"/") + (b"/" + failure.path if failure.path else b"") or b"/"
        message = f"{show_name(path)}: {failure.operation}: {failure.reason}"
        if failure.host:
            message += " (on the host)"
        report.fail(
            path,
            message,
            operation=failure.operation,
            errno=failure.name,
            host=failure.host,
        )
        if progress:
            progress.clear()
        print_error(message)

    def advanced(now: ExportResult) -> bool:
        if progress:
            progress.show(now.entries, now.bytes)
        return False

    with mount.open_directory(parent) as directory, _opened(step.folder) as folder:
        try:
            result = directory.export(
                name,
                folder,
                step.target,
                contents=step.contents,
                # Another's files, and what only their owner may set, need root's rights.
                owner=os.geteuid() == 0,
                special=True,
                overwrite=True,
                progress=advanced,
                failed=failed,
            )
        finally:
            if progress:
                progress.clear()
    report.add(result)
