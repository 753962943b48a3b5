# SPDX-FileCopyrightText: LKL Explorer contributors
# SPDX-License-Identifier: GPL-2.0-or-later
"""``self-test``: whether this installation works, and with which kernel.

An engine opens the sample disk, a writer copies every volume of it, and the copy is compared with
what the engine lists and reads, entry by entry; one file is compared with bytes that are known
beforehand.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.api.copying import copy
from explorer.api.source import Source
from explorer.cli import codes
from explorer.cli.commands import join
from explorer.cli.output import print_error, print_json
from explorer.core.entries import FileType
from explorer.core.errors import ExplorerError
from explorer.core.messages import describe
from explorer.core.names import show_name
from explorer.native.digests import Digests
from explorer.native.locate import find_build, find_sample
from explorer.wire.messages import Pack
from explorer.wire.writing import Write

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator

    from explorer.api.copying import Copied
    from explorer.api.source import Volume
    from explorer.core.entries import Entry


# resources/sample/make.py writes it into the first volume.
_KNOWN_PATH = b"/Data/All bytes.bin"
_KNOWN_CONTENT = bytes(range(256)) * 16
_PIECE = 1 << 20


def self_test(arguments: Namespace) -> int:
    """Run it; the exit code is 0 when all is well."""
    report: dict[str, Any] = {}
    problems: list[str] = []
    try:
        _check(report, problems)
    except ExplorerError as error:
        problems.append(describe(error))
    report |= {"ok": not problems, "problems": problems}
    if arguments.json:
        print_json(report)
    else:
        _print_report(report)
    return codes.KERNEL if problems else codes.DONE


def _print_report(report: dict[str, Any]) -> None:
    if kernel := report.get("kernel"):
        print(f"kernel  Linux {kernel['release']}, booted in {kernel['boot_ms']} ms")
        print(f"        {kernel['image']}")
        print(f"        SHA-256 {kernel['sha256']}")
    if engine := report.get("engine"):
        missing = ", ".join(engine["missing"])
        print(f"engine  confined, without {missing}" if missing else "engine  confined")
    if sample := report.get("sample"):
        print(f"sample  {sample['path']}")
        for volume in sample["volumes"]:
            print(
                f"        volume {volume['number']}, {volume['content']}: "
                f"{volume['entries']} entries, {volume['bytes']} bytes"
            )
    for problem in report["problems"]:
        print_error(problem)
    print("self-test", "passed" if report["ok"] else "FAILED")


def _check(report: dict[str, Any], problems: list[str]) -> None:
    image = find_build().image
    sample = find_sample()
    with Source(sample) as source:
        report["kernel"] = {
            "image": str(image),
            "sha256": _digest(_iter_file(image)).hex(),
            "release": source.opened.kernel,
            "boot_ms": round(source.opened.boot_ns / 1e6, 3),
        }
        report["engine"] = {"missing": list(source.engine.missing)}
        checked: list[dict[str, Any]] = []
        report["sample"] = {"path": str(sample), "volumes": checked}
        for volume in source.volumes:
            if not volume.facts.mountable:
                continue
            if not checked and volume.read(_KNOWN_PATH) != _KNOWN_CONTENT:
                problems.append(f"{show_name(_KNOWN_PATH)}: wrong content")
            checked.append(
                {
                    "number": volume.facts.number,
                    "content": volume.facts.content,
                    **_check_volume(volume, problems),
                }
            )
        if not checked:
            problems.append(f"{sample}: no volumes")
        if source.counters().written_bytes:
            problems.append(f"{sample}: was written to")


def _check_volume(volume: Volume, problems: list[str]) -> dict[str, int]:
    """Copy a volume and compare the copy; returns what there was."""
    with tempfile.TemporaryDirectory(prefix="lkl-explorer-") as name:
        folder = Path(name)
        copied = _copy(volume, folder)
        problems += [
            f"{show_name(failure.path)}: {describe(failure.error)}" for failure in copied.failures
        ]
        listed = 0
        for path, entry in _walk(volume):
            listed += 1
            problems += _differences(volume, entry, path, folder / os.fsdecode(path[1:]))
    if copied.lost is not None:
        problems.append(f"volume {volume.facts.number}: {describe(copied.lost)}")
    # The copy counts the root as an entry, the listing does not.
    if copied.written.seen != listed + 1:
        problems.append(f"{listed} entries listed, {copied.written.seen - 1} copied")
    return {"entries": listed, "bytes": copied.written.written}


def _copy(volume: Volume, folder: Path) -> Copied:
    pack = Pack(
        volume=volume.facts.number,
        paths=(b"/",),
        name=None,
        contents=True,
        follow=False,
        every_link=False,
        holes=False,
        extents=True,
        plan=False,
    )
    write = Write(sink="folder", destination=bytes(folder), conflicts="skip")
    return copy(volume.source, pack, write)


def _walk(volume: Volume) -> Iterator[tuple[bytes, Entry]]:
    """All entries of a volume, with their paths."""
    waiting = [b"/"]
    while waiting:
        folder = waiting.pop()
        for entry in volume.list(folder):
            path = join(folder, entry.name)
            yield path, entry
            if entry.is_directory:
                waiting.append(path)


def _differences(volume: Volume, entry: Entry, path: bytes, copied: Path) -> list[str]:
    shown = show_name(path)
    if entry.error:
        return [f"{shown}: cannot be read"]
    if not os.path.lexists(copied):
        return [f"{shown}: was not copied"]
    found = copied.lstat()
    wrong = []
    if found.st_mode >> 12 != entry.type:
        return [f"{shown}: another type"]
    if found.st_mtime_ns != entry.modify_ns:
        wrong.append(f"{shown}: another time")
    if entry.type == FileType.LINK:
        if os.fsencode(copied.readlink()) != volume.read_link(path):
            wrong.append(f"{shown}: another target")
    elif (found.st_mode ^ entry.mode) & 0o777:
        wrong.append(f"{shown}: another mode")
    if entry.is_file:
        if found.st_size != entry.size:
            wrong.append(f"{shown}: another size")
        elif _digest(_iter_file(copied)) != _digest(volume.iter_read(path)):
            wrong.append(f"{shown}: another content")
    return wrong


def _iter_file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _digest(pieces: Iterable[bytes]) -> bytes:
    """The SHA-256 of all of them."""
    with Digests(("sha256",)) as digests:
        for piece in pieces:
            digests.update(piece)
        return digests.read()["sha256"]
